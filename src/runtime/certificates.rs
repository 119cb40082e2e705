//! The TLS files of all listeners: read at start, on SIGHUP, and when one has changed.
//!
//! Used by `main`, on its own thread and on the one that looks for changes. All files are read before anything
//! is put in force, so that a half-written set changes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Config, ConfigErrors, Listener};
use crate::net::tls::certificate::Summary;
use crate::net::tls::settings::{TlsCell, TlsSettings};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A certificate that ends within this time is warned of, seconds.
const ENDS_SOON_S: i64 = 30 * 86_400;

/// What tells that a file is another than before.
type Stamp = Option<(SystemTime, u64, u64)>;

/// The TLS settings of all listeners.
#[derive(Debug)]
pub struct Certificates {
    cells: Vec<Option<Arc<TlsCell>>>,
    /// The listeners as they are configured, and their files as they were read.
    read: Mutex<(Vec<Listener>, Vec<Stamp>)>,
}

impl Certificates {
    /// Reads the files of all listeners.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(config: &Config) -> Result<Self, ConfigErrors> {
        let stamps = stamps(&config.listeners);
        let settings = read(&config.listeners)?;
        let cells = settings
            .into_iter()
            .map(|settings| settings.map(TlsCell::new))
            .collect();
        let certificates = Self {
            cells,
            read: Mutex::new((config.listeners.clone(), stamps)),
        };
        certificates.tell();
        Ok(certificates)
    }

    /// The settings that are in force, in the order of the listeners.
    pub fn cells(&self) -> &[Option<Arc<TlsCell>>] {
        &self.cells
    }

    /// Whether any listener speaks TLS.
    pub fn is_used(&self) -> bool {
        self.cells.iter().any(Option::is_some)
    }

    /// Reads all files again, as `config` names them; if anything is wrong with one, all stay as they were.
    /// A listener that begins to speak TLS, or ends, does so at the next start.
    pub fn reload(&self, config: &Config) -> bool {
        if !self.is_used() || config.listeners.len() != self.cells.len() {
            return false;
        }
        let stamps = stamps(&config.listeners);
        let settings = match read(&config.listeners) {
            Ok(settings) => settings,
            Err(errors) => {
                for error in &errors.0 {
                    tracing::error!("the TLS files are not changed: {error}");
                }
                return false;
            }
        };
        for (cell, settings) in self.cells.iter().zip(settings) {
            if let (Some(cell), Some(settings)) = (cell, settings) {
                cell.replace(settings);
            }
        }
        *self.lock() = (config.listeners.clone(), stamps);
        tracing::info!("the TLS files are read again");
        self.tell();
        true
    }

    /// Looks for changed files, for as long as the process runs.
    pub fn watch(&self, config: &Config) {
        let mut failed: Option<Vec<Stamp>> = None;
        loop {
            std::thread::sleep(LOOK_EVERY);
            let listeners = self.lock().0.clone();
            let found = stamps(&listeners);
            if found == self.lock().1 || failed.as_ref() == Some(&found) {
                continue;
            }
            let config = Config {
                listeners,
                ..config.clone()
            };
            // What failed is tried again when something changes.
            failed = (!self.reload(&config)).then_some(found);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Vec<Listener>, Vec<Stamp>)> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs what is in force and until when.
    fn tell(&self) {
        let listeners = self.lock().0.clone();
        for (listener, cell) in listeners.iter().zip(&self.cells) {
            let Some(cell) = cell else { continue };
            for certificate in &cell.current().certificates {
                tell_certificate(&listener.name, certificate);
            }
        }
    }
}

fn tell_certificate(listener: &str, certificate: &Summary) {
    let Summary {
        file,
        names,
        not_after_unix_s,
        not_after,
    } = certificate;
    let name = match names.alternative_names.is_empty() {
        true => names.common_name.clone().unwrap_or_default(),
        false => names.alternative_names.join(" "),
    };
    let now_s = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        });
    let left_s = not_after_unix_s - now_s;
    if left_s <= 0 {
        tracing::error!(listener, file, name, %not_after, "the certificate has ended; clients will refuse it");
    } else if left_s < ENDS_SOON_S {
        let days = left_s / 86_400;
        tracing::warn!(listener, file, name, %not_after, days, "the certificate ends soon");
    } else {
        tracing::info!(listener, file, name, %not_after, "certificate");
    }
}

fn read(listeners: &[Listener]) -> Result<Vec<Option<TlsSettings>>, ConfigErrors> {
    let mut settings = Vec::new();
    let mut errors = Vec::new();
    for listener in listeners {
        match TlsSettings::load(listener) {
            Ok(loaded) => settings.push(loaded),
            Err(error) => errors.push(error),
        }
    }
    match errors.is_empty() {
        true => Ok(settings),
        false => Err(ConfigErrors(errors)),
    }
}

fn stamps(listeners: &[Listener]) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let files = listeners
        .iter()
        .flat_map(|listener| listener.doors.tls.files());
    let stamp = |file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    files.map(stamp).collect()
}
