//! Log lines on standard error, as text or JSON.
//!
//! Set up by `main`; every module logs through `tracing`. A thread of its own writes, and lines that it
//! cannot take are dropped: standard error that blocks (a full pipe, a stopped terminal) never stalls a
//! shard.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat};

/// Lines that wait for the writer; further ones are dropped.
const LINES_MAX: usize = 16_384;

type Lines = Box<dyn Layer<Registry> + Send + Sync>;
type WithLines = Layered<reload::Layer<Lines, Registry>, Registry>;

/// Keeps the log going; waiting lines are written when it is dropped.
pub struct LogControl {
    lines: reload::Handle<Lines, Registry>,
    filter: reload::Handle<EnvFilter, WithLines>,
    writer: NonBlocking,
    colours: bool,
    _guard: WorkerGuard,
}

impl LogControl {
    /// Logs as `config` says from now on.
    ///
    /// # Errors
    /// A level or module that is none; then the log goes on as before.
    pub fn set(&self, config: &LogConfig) -> Result<(), String> {
        let filter = filter(config)?;
        let lines = lines(config.format, self.writer.clone(), self.colours);
        let gone = |error: reload::Error| format!("cannot change the log: {error}");
        self.filter.reload(filter).map_err(gone)?;
        self.lines.reload(lines).map_err(gone)
    }

    /// How many lines were dropped because standard error did not take them.
    pub fn dropped_lines(&self) -> usize {
        self.writer.error_counter().dropped_lines()
    }
}

/// Sets up the log of the process, once.
///
/// # Errors
/// A level or module that is none, or a log that is already set up.
pub fn init(config: &LogConfig) -> Result<LogControl, String> {
    let stderr = std::io::stderr();
    // https://no-color.org: set and not empty.
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let colours = stderr.is_terminal() && !no_colour;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(LINES_MAX)
        .thread_name("log")
        .finish(stderr);
    let (filter_layer, filter) = reload::Layer::new(filter(config)?);
    let (lines_layer, lines) = reload::Layer::new(lines(config.format, writer.clone(), colours));
    tracing_subscriber::registry()
        .with(lines_layer)
        .with(filter_layer)
        .try_init()
        .map_err(|error| format!("cannot set up the log: {error}"))?;
    Ok(LogControl {
        lines,
        filter,
        writer,
        colours,
        _guard: guard,
    })
}

fn lines<W>(format: LogFormat, writer: W, colours: bool) -> Lines
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(colours).boxed(),
        LogFormat::Json => layer.with_ansi(false).json().flatten_event(true).boxed(),
    }
}

/// `info,ringmq::shard=debug`: the most specific module decides.
fn filter(config: &LogConfig) -> Result<EnvFilter, String> {
    // Administrative acts are logged whatever the level, unless a module's own level says otherwise.
    let mut directives = format!("{},ringmq::audit=info", level(&config.level)?);
    for (module, name) in &config.modules {
        directives.push_str(&format!(",{module}={}", level(name)?));
    }
    EnvFilter::builder()
        .parse(directives)
        .map_err(|error| format!("cannot set log levels: {error}"))
}

/// The filter would take a misspelt level for the name of a module.
fn level(name: &str) -> Result<LevelFilter, String> {
    name.parse()
        .map_err(|_| format!("\"{name}\" is no log level"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Memory {
        fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    fn config(level: &str, modules: &[(&str, &str)], format: LogFormat) -> LogConfig {
        let modules = modules
            .iter()
            .map(|(module, level)| ((*module).into(), (*level).into()));
        LogConfig {
            level: level.into(),
            modules: modules.collect(),
            format,
        }
    }

    fn logged(config: &LogConfig) -> String {
        let memory = Memory::default();
        let writer = memory.clone();
        let lines = lines(config.format, move || writer.clone(), false);
        let subscriber = tracing_subscriber::registry()
            .with(lines)
            .with(filter(config).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            tracing::debug!(target: "ringmq::broker", "one");
            tracing::debug!(target: "ringmq::shard", "two");
            tracing::info!(target: "ringmq::shard", client = "c\n1", "three");
        });
        memory.take()
    }

    #[test]
    fn levels_are_by_module() {
        let lines = logged(&config(
            "info",
            &[("ringmq::broker", "debug")],
            LogFormat::Text,
        ));
        assert!(lines.contains("one") && lines.contains("three") && !lines.contains("two"));
        assert_eq!(logged(&config("warn", &[], LogFormat::Text)), "");
        assert!(filter(&config("loud", &[], LogFormat::Text)).is_err());
        assert!(filter(&config("info", &[("a", "loud")], LogFormat::Text)).is_err());
    }

    #[test]
    fn json_is_one_object_a_line_and_text_has_no_colours() {
        let json = logged(&config("info", &[], LogFormat::Json));
        assert_eq!(json.lines().count(), 1);
        assert!(
            json.starts_with('{') && json.contains(r#""message":"three""#),
            "{json}"
        );
        assert!(json.contains(r#""client":"c\n1""#), "{json}");
        let text = logged(&config("info", &[], LogFormat::Text));
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn the_log_of_the_process_can_be_changed_but_not_doubled() {
        let control = init(&LogConfig::default()).unwrap();
        assert!(init(&LogConfig::default()).is_err());
        control.set(&config("error", &[], LogFormat::Json)).unwrap();
        assert!(!tracing::enabled!(tracing::Level::WARN));
        assert!(control.set(&config("loud", &[], LogFormat::Text)).is_err());
        control
            .set(&config("error", &[("ringmq", "debug")], LogFormat::Text))
            .unwrap();
        assert!(tracing::enabled!(tracing::Level::DEBUG));
        assert_eq!(control.dropped_lines(), 0);
    }
}
