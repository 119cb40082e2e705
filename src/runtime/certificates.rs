//! The TLS files of all listeners: read at start, on SIGHUP, and when one has changed.
//!
//! Used by `launch`, `reload` and the thread that looks for changes. All files are read before anything is put
//! in force, so that a half-written set changes nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::config::{Config, ConfigErrors};
use crate::net::tls::certificate::Summary;
use crate::net::tls::settings::{TlsSettings, TlsTable};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A certificate that ends within this time is warned of, seconds.
const ENDS_SOON_S: i64 = 30 * 86_400;

/// What tells that a file is another than before.
type Stamp = Option<(SystemTime, u64, u64)>;

/// Settings that are read and not in force yet.
#[derive(Debug)]
pub struct Loaded {
    /// By the places of listeners.
    settings: Vec<Option<Arc<TlsSettings>>>,
    stamps: Vec<Stamp>,
}

/// The TLS settings of all listeners.
#[derive(Debug)]
pub struct Certificates {
    table: Arc<TlsTable>,
    /// What names the files, and the files as they were read.
    read: Mutex<(Arc<Config>, Vec<Stamp>)>,
}

impl Certificates {
    /// Reads the files of all listeners.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(config: &Arc<Config>) -> Result<Self, ConfigErrors> {
        let certificates = Self {
            table: Arc::default(),
            read: Mutex::new((Arc::clone(config), Vec::new())),
        };
        certificates.install(config, certificates.read(config)?);
        Ok(certificates)
    }

    /// What is in force, for the shards.
    pub fn table(&self) -> &Arc<TlsTable> {
        &self.table
    }

    /// Reads the files that `config` names. A listener that is closed keeps what it had, for those who have
    /// come through it.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn read(&self, config: &Config) -> Result<Loaded, ConfigErrors> {
        let stamps = stamps(config);
        let mut settings = Vec::new();
        let mut errors = Vec::new();
        for (place, listener) in (0u16..).zip(&config.listeners) {
            if listener.closed {
                settings.push(self.table.current(place));
                continue;
            }
            match TlsSettings::load(listener) {
                Ok(loaded) => settings.push(loaded.map(Arc::new)),
                Err(error) => errors.push(error),
            }
        }
        match errors.is_empty() {
            true => Ok(Loaded { settings, stamps }),
            false => Err(ConfigErrors(errors)),
        }
    }

    /// Puts in force what was read, and tells what it is.
    pub fn install(&self, config: &Arc<Config>, loaded: Loaded) {
        for (listener, settings) in config.listeners.iter().zip(&loaded.settings) {
            let certificates = settings.iter().flat_map(|settings| &settings.certificates);
            for certificate in certificates.filter(|_| !listener.closed) {
                tell(&listener.name, certificate);
            }
        }
        self.table.replace(loaded.settings);
        *self.lock() = (Arc::clone(config), loaded.stamps);
    }

    /// Looks for changed files, for as long as the process runs.
    pub fn watch(&self) {
        let mut failed = Vec::new();
        loop {
            std::thread::sleep(LOOK_EVERY);
            let (config, before) = self.lock().clone();
            let found = stamps(&config);
            // What failed is tried again when something changes.
            if found == before || found == failed {
                continue;
            }
            match self.read(&config) {
                Ok(loaded) => {
                    self.install(&config, loaded);
                    tracing::info!("the TLS files have changed and are read again");
                }
                Err(errors) => {
                    for error in &errors.0 {
                        tracing::error!("the TLS files are not changed: {error}");
                    }
                    failed = found;
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, (Arc<Config>, Vec<Stamp>)> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs a certificate and until when it is good.
fn tell(listener: &str, certificate: &Summary) {
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

fn stamps(config: &Config) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let open = config.listeners.iter().filter(|listener| !listener.closed);
    let stamp = |file| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
    };
    open.flat_map(|listener| listener.doors.tls.files())
        .map(stamp)
        .collect()
}
