//! The data directory: its lock, its manifest, and where segments lie.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{FORMAT_VERSION, StoreError};

/// What holds for the whole store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Which set of logs is the current one.
    pub generation: u64,
    /// How many logs it has.
    pub shards: u16,
    /// The key of all hashes: sessions and topics keep their home shard.
    pub hash_key: u64,
}

/// A data directory that this process has to itself.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// Locked as long as it is open.
    _lock: File,
}

impl Directory {
    /// Opens a data directory, which is made if it is not there.
    ///
    /// # Errors
    /// Another process has it, or the operating system refuses.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(path).map_err(StoreError::io(path, "make the data directory"))?;
        Self::lock(path)
    }

    /// Opens a data directory that is there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn lock(path: &Path) -> Result<Self, StoreError> {
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(StoreError::io(&lock_path, "open the lock"))?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                path: path.into(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Locked(path.into())),
            Err(error) => Err(StoreError::io(&lock_path, "lock")(error.into())),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the segments of a shard lie.
    pub fn of_shard(&self, generation: u64, shard: u16) -> PathBuf {
        self.path
            .join(format!("generation-{generation}"))
            .join(format!("shard-{shard}"))
    }

    /// The manifest; nothing if the directory is new.
    ///
    /// # Errors
    /// It is of a later format, or damaged, or cannot be read.
    pub fn manifest(&self) -> Result<Option<Manifest>, StoreError> {
        let path = self.path.join("manifest");
        match fs::read_to_string(&path) {
            Ok(text) => parse(&text, &path).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io(path, "read the manifest")(error)),
        }
    }

    /// Makes the directories of a new generation survive a loss of power.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn sync_generation(&self, generation: u64) -> Result<(), StoreError> {
        let path = self.path.join(format!("generation-{generation}"));
        let parent = self.path.canonicalize().ok();
        let above = parent.as_deref().and_then(Path::parent);
        sync_directory(&path)
            .and_then(|()| above.map_or(Ok(()), sync_directory))
            .map_err(StoreError::io(path, "sync"))
    }

    /// Replaces the manifest, all of it or not at all.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn write_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let path = self.path.join("manifest");
        let new = self.path.join("manifest.new");
        let text = format!(
            "ringmq store\nformat {FORMAT_VERSION}\ngeneration {}\nshards {}\nhash_key {:016x}\n",
            manifest.generation, manifest.shards, manifest.hash_key
        );
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            sync_directory(&self.path)
        };
        write().map_err(StoreError::io(&path, "write the manifest"))
    }

    /// Removes all generations but one: what a change of the number of shards left behind.
    pub fn remove_others(&self, generation: u64) {
        let keep = format!("generation-{generation}");
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with("generation-")
                && name != keep
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "cannot remove a former generation");
            }
        }
    }
}

/// Makes the names in a directory survive a loss of power.
pub(super) fn sync_directory(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

fn parse(text: &str, path: &Path) -> Result<Manifest, StoreError> {
    let mut lines = text.lines().zip(1..);
    let mut value = |key: &str| {
        let (line, number) = lines.next().unwrap_or(("", 0));
        line.strip_prefix(key).ok_or(StoreError::Manifest {
            path: path.into(),
            line: number,
        })
    };
    let bad = |line| StoreError::Manifest {
        path: path.into(),
        line,
    };
    value("ringmq store")?;
    let found = value("format ")?.parse().map_err(|_| bad(2))?;
    if found > FORMAT_VERSION {
        return Err(StoreError::Newer {
            path: path.into(),
            found,
        });
    }
    Ok(Manifest {
        generation: value("generation ")?.parse().map_err(|_| bad(3))?,
        shards: value("shards ")?.parse().map_err(|_| bad(4))?,
        hash_key: u64::from_str_radix(value("hash_key ")?, 16).map_err(|_| bad(5))?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_process_has_it_and_finds_its_manifest() {
        let place = tempfile::tempdir().unwrap();
        let directory = Directory::open(place.path()).unwrap();
        assert!(matches!(
            Directory::open(place.path()),
            Err(StoreError::Locked(_))
        ));
        assert_eq!(directory.manifest().unwrap(), None);
        let manifest = Manifest {
            generation: 3,
            shards: 2,
            hash_key: u64::MAX - 1,
        };
        directory.write_manifest(&manifest).unwrap();
        assert_eq!(directory.manifest().unwrap(), Some(manifest));
        drop(directory);
        assert!(Directory::open(place.path()).is_ok());
    }

    #[test]
    fn later_and_damaged_manifests_are_told_apart() {
        let path = Path::new("manifest");
        let text = "ringmq store\nformat 2\nwhatever\n";
        assert!(matches!(
            parse(text, path),
            Err(StoreError::Newer { found: 2, .. })
        ));
        for (text, line) in [
            ("", 0),
            ("ringmq store\nformat one\n", 2),
            ("ringmq store\nformat 1\ngeneration 1\nshards x\n", 4),
        ] {
            let Err(StoreError::Manifest { line: found, .. }) = parse(text, path) else {
                panic!("{text}");
            };
            assert_eq!(found, line);
        }
    }
}
