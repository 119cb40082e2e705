//! Reading the configuration again: what the broker does on SIGHUP, and `ringmq reload`, which asks for it.
//!
//! `ringmq reload` reads the arguments of the running process and the file that they name, so it sees what the
//! broker would see; with `--dry-run` that is all. The broker answers in its runtime directory.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::cli::{self, Command, ReloadArguments, RunArguments};
use crate::config::change::{Change, plan};
use crate::config::{self, Config};
use crate::observability::log::LogControl;
use crate::runtime::exit_code;
use crate::runtime::record::{self, Record};
use crate::runtime::reload::{Control, ReloadError};
use crate::runtime::service::Service;
use crate::runtime::verification::Verification;

use super::Failure;

/// Where systemd has the runtime directory of the unit `ringmq.service`.
const RUNTIME_DIRECTORY: &str = "/run/ringmq";
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often the answer is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The broker's side: what SIGHUP does.
pub struct Reloader {
    arguments: RunArguments,
    control: Control,
    log: Arc<LogControl>,
    record: Option<Record>,
    service: Service,
}

impl Reloader {
    /// For a broker that was started with `arguments`.
    pub fn new(
        arguments: RunArguments,
        control: Control,
        log: Arc<LogControl>,
        service: Service,
    ) -> Self {
        let directory = runtime_directory(control.config());
        let record = directory.and_then(|directory| {
            Record::begin(&directory, control.config())
                .inspect_err(|error| {
                    tracing::warn!(%error, "cannot write to the runtime directory {}", directory.display());
                })
                .ok()
        });
        Self {
            arguments,
            control,
            log,
            record,
            service,
        }
    }

    /// Tells the service manager that listeners accept, and where.
    pub fn tell_ready(&self) {
        let addresses = self.control.addresses();
        self.service.ready(format!("accepting on {addresses}"));
    }

    /// What the broker runs with.
    pub fn config(&self) -> &Config {
        self.control.config()
    }

    /// Reads the configuration again and uses all of it, or nothing if anything is wrong.
    pub fn reload(&mut self) {
        self.service.reloading();
        self.reload_or_not();
        self.tell_ready();
    }

    fn reload_or_not(&mut self) {
        if self.arguments.config.is_none() {
            tracing::info!("no configuration file to read again");
            self.write_down(true, "there is no configuration file to read again\n");
            return;
        }
        match self.change() {
            Ok(changes) => {
                tracing::info!("{}", summary(&changes));
                self.write_down(true, &told(&changes));
            }
            Err(error) => {
                let error = error.to_string();
                for line in error.lines() {
                    tracing::error!("the configuration is not changed: {line}");
                }
                self.write_down(false, &format!("{error}\n"));
            }
        }
    }

    fn change(&mut self) -> Result<Vec<Change>, ReloadError> {
        let wanted = self
            .arguments
            .resolve()
            .map_err(|error| ReloadError::Configuration(error.to_string()))?;
        let prepared = self.control.prepare(&wanted)?;
        for change in prepared.changes() {
            match change.needs_restart {
                true => tracing::warn!("configuration: {change}"),
                false => tracing::info!("configuration: {change}"),
            }
        }
        // The last that can fail.
        self.log
            .set(&prepared.config().log)
            .map_err(ReloadError::Configuration)?;
        let changes = prepared.changes().to_vec();
        self.control.commit(prepared)?;
        Ok(changes)
    }

    fn write_down(&mut self, done: bool, text: &str) {
        let Some(record) = &mut self.record else {
            return;
        };
        if let Err(error) = record.reloaded(self.control.config(), done, text) {
            tracing::warn!(%error, "cannot write to the runtime directory");
        }
    }
}

fn runtime_directory(config: &Config) -> Option<PathBuf> {
    let of_environment = || std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    let configured = config.runtime_directory.as_ref().map(PathBuf::from);
    configured.or_else(of_environment)
}

fn summary(changes: &[Change]) -> String {
    let waiting = changes.iter().filter(|change| change.needs_restart).count();
    let done = changes.len() - waiting;
    match (done, waiting) {
        (0, 0) => "the configuration is read again: nothing has changed".into(),
        (_, 0) => format!("the configuration is read again: {done} changes"),
        _ => format!(
            "the configuration is read again: {done} changes; {waiting} more need a restart"
        ),
    }
}

fn told(changes: &[Change]) -> String {
    let mut text = String::new();
    for change in changes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{change}");
    }
    text + &summary(changes) + "\n"
}

/// The operator's side: checks, shows the difference, asks the broker, and gives its answer.
///
/// # Errors
/// The broker is not found, the file has mistakes, or the broker refuses.
pub fn ask(arguments: &ReloadArguments) -> Result<String, Failure> {
    let wrong = |cause: String| Failure::new(exit_code::CONFIGURATION, cause);
    let directory = match (&arguments.runtime_directory, arguments.pid) {
        (Some(directory), _) => Some(directory.clone()),
        (None, None) => Some(RUNTIME_DIRECTORY.into()),
        (None, Some(_)) => None,
    };
    let pid = match (arguments.pid, &directory) {
        (Some(pid), _) => pid,
        (None, Some(directory)) => record::pid(directory).map_err(|error| {
            wrong(format!(
                "no broker has written to {}: {error}; name its process with --pid, or its runtime_directory with \
                 --runtime-directory",
                directory.display()
            ))
        })?,
        (None, None) => return Err(wrong("say which process".into())),
    };
    let wanted = wanted_config(pid).map_err(wrong)?;
    if arguments.dry_run {
        let Some(directory) = directory else {
            return Err(wrong(
                "--dry-run needs --runtime-directory, where the broker has written what it runs with".into(),
            ));
        };
        let running = config::load(&directory.join(record::RUNNING))
            .map_err(|errors| wrong(errors.to_string()))?;
        let plan = plan(&running, &wanted).map_err(wrong)?;
        // What the files say in their lines is checked as well.
        Verification::load(&wanted).map_err(|errors| wrong(errors.join("\n")))?;
        let text = told(&plan.changes).replace("is read again", "would be read again");
        return Ok(text);
    }
    let before = directory.as_deref().and_then(record::last_reload);
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = process.ok_or_else(|| wrong(format!("{pid} is no process number")))?;
    kill_process(process, Signal::HUP)
        .map_err(|error| wrong(format!("cannot send SIGHUP to process {pid}: {error}")))?;
    match directory {
        None => Ok(format!(
            "the file is good; process {pid} has got SIGHUP, and its log says what it changed\n"
        )),
        Some(directory) => answer(&directory, before.map_or(0, |ending| ending.number)),
    }
}

fn answer(directory: &Path, before: u64) -> Result<String, Failure> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(ending) = record::last_reload(directory).filter(|ending| ending.number > before)
        {
            return match ending.done {
                true => Ok(ending.text),
                false => Err(Failure::new(
                    exit_code::CONFIGURATION,
                    format!("nothing is changed:\n{}", ending.text.trim_end()),
                )),
            };
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Err(Failure::new(
        exit_code::UNEXPECTED,
        format!(
            "the broker has not answered within {} s",
            PATIENCE.as_secs()
        ),
    ))
}

/// The configuration that a running process would read now.
fn wanted_config(pid: u32) -> Result<Config, String> {
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let name = std::fs::read_to_string(proc.join("comm"))
        .map_err(|error| format!("there is no process {pid}: {error}"))?;
    if name.trim_end() != "ringmq" {
        return Err(format!("process {pid} is {}, not ringmq", name.trim_end()));
    }
    let line = std::fs::read(proc.join("cmdline"))
        .map_err(|error| format!("cannot read the arguments of process {pid}: {error}"))?;
    let words = line
        .strip_suffix(b"\0")
        .unwrap_or(&line)
        .split(|byte| *byte == 0)
        .map(|word| std::ffi::OsString::from_vec(word.to_vec()));
    let Ok(Command::Run(mut arguments)) = cli::parse_words(words) else {
        return Err(format!("process {pid} is not a broker"));
    };
    let Some(file) = arguments.config.take() else {
        return Err(format!(
            "process {pid} was started without a configuration file"
        ));
    };
    let file = match file.is_relative() {
        false => file,
        true => std::fs::read_link(proc.join("cwd"))
            .map_err(|error| format!("cannot read the directory of process {pid}: {error}"))?
            .join(file),
    };
    arguments.config = Some(file);
    arguments.resolve().map_err(|error| error.to_string())
}
