//! What the broker writes down about itself, for `ringmq reload` and for scripts.
//!
//! Three files in the runtime directory, each replaced as a whole: `pid`, `running.toml` (the configuration
//! that the broker runs with) and `reload` (how the last reload ended).

use std::io;
use std::path::{Path, PathBuf};

use crate::config::{self, Config};

/// The process number.
pub const PID: &str = "pid";
/// The configuration that runs.
pub const RUNNING: &str = "running.toml";
/// How the last reload ended: its number, `done` or `refused`, and what was said.
pub const RELOAD: &str = "reload";

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The first reload of a process is 1.
    pub number: u64,
    /// Whether the configuration is in use.
    pub done: bool,
    /// What changed, or why nothing did.
    pub text: String,
}

/// The files of this process. They go with it.
#[derive(Debug)]
pub struct Record {
    directory: PathBuf,
    reloads: u64,
}

impl Record {
    /// Writes that this process runs with `config`.
    ///
    /// # Errors
    /// The directory is not there or may not be written.
    pub fn begin(directory: &Path, config: &Config) -> io::Result<Self> {
        let record = Self {
            directory: directory.into(),
            reloads: 0,
        };
        // What an earlier process left says nothing about this one.
        match std::fs::remove_file(directory.join(RELOAD)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        record.write(RUNNING, &config::to_toml(config))?;
        record.write(PID, &format!("{}\n", std::process::id()))?;
        Ok(record)
    }

    /// Writes how a reload ended.
    ///
    /// # Errors
    /// The directory may not be written.
    pub fn reloaded(&mut self, config: &Config, done: bool, text: &str) -> io::Result<()> {
        self.reloads += 1;
        self.write(RUNNING, &config::to_toml(config))?;
        let word = if done { "done" } else { "refused" };
        self.write(RELOAD, &format!("{} {word}\n{text}", self.reloads))
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        let next = self.directory.join(format!("{name}.next"));
        std::fs::write(&next, text)?;
        std::fs::rename(next, self.directory.join(name))
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        for name in [PID, RUNNING, RELOAD] {
            // Whatever cannot be removed is replaced by the next process.
            let _ = std::fs::remove_file(self.directory.join(name));
        }
    }
}

/// How the last reload of the broker that writes to `directory` ended, if there was one.
pub fn last_reload(directory: &Path) -> Option<Ending> {
    let text = std::fs::read_to_string(directory.join(RELOAD)).ok()?;
    let (first, text) = text.split_once('\n')?;
    let (number, word) = first.split_once(' ')?;
    Some(Ending {
        number: number.parse().ok()?,
        done: word == "done",
        text: text.into(),
    })
}

/// The process number in `directory`.
///
/// # Errors
/// Nothing is written there.
pub fn pid(directory: &Path) -> io::Result<u32> {
    let text = std::fs::read_to_string(directory.join(PID))?;
    text.trim()
        .parse()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the file pid has no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_goes_with_the_process() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::fs::write(path.join(RELOAD), "9 done\nof before").unwrap();
        let mut record = Record::begin(path, &Config::default()).unwrap();
        assert_eq!(pid(path).unwrap(), std::process::id());
        assert_eq!(last_reload(path), None);
        record
            .reloaded(&Config::default(), false, "a\nb\n")
            .unwrap();
        let ending = Ending {
            number: 1,
            done: false,
            text: "a\nb\n".into(),
        };
        assert_eq!(last_reload(path), Some(ending));
        assert_eq!(config::load(&path.join(RUNNING)), Ok(Config::default()));
        drop(record);
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
        assert!(pid(path).is_err());
        assert!(Record::begin(&path.join("none"), &Config::default()).is_err());
    }
}
