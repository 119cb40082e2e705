//! Files with secrets: read whole, and looked at with suspicion.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

/// The largest file that is read, bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Reads a file. A `secret` that others can read or write, or that is reached by a symbolic link, is warned
/// of.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &str, secret: bool, warnings: &mut Vec<String>) -> Result<String, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("cannot read {path}: {error}");
    if secret {
        let link = std::fs::symlink_metadata(path).map_err(|error| wrong(&error))?;
        if link.is_symlink() {
            warnings.push(format!(
                "{path} is a symbolic link; who may write to its directory chooses what is read"
            ));
        }
    }
    let file = File::open(path).map_err(|error| wrong(&error))?;
    // Of the open file, so that it is the one that is read.
    let metadata = file.metadata().map_err(|error| wrong(&error))?;
    if !metadata.is_file() {
        return Err(wrong(&"it is no regular file"));
    }
    let mode = metadata.mode() & 0o777;
    if secret && mode & 0o007 != 0 {
        warnings.push(format!(
            "{path} can be read or written by every user (mode {mode:04o}); chmod 0600 or 0640"
        ));
    }
    if mode & 0o002 != 0 && !secret {
        warnings.push(format!(
            "{path} can be written by every user (mode {mode:04o}); chmod o-w"
        ));
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(|error| wrong(&error))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn open_secrets_and_links_are_warned_of() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "x").unwrap();
        let warnings = |path: &std::path::Path, mode: u32, secret| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            let mut warnings = Vec::new();
            assert_eq!(
                read(path.to_str().unwrap(), secret, &mut warnings),
                Ok("x".into())
            );
            warnings.len()
        };
        assert_eq!(warnings(&path, 0o600, true), 0);
        assert_eq!(warnings(&path, 0o640, true), 0);
        assert_eq!(warnings(&path, 0o644, true), 1);
        assert_eq!(warnings(&path, 0o644, false), 0);
        assert_eq!(warnings(&path, 0o646, false), 1);
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(warnings(&link, 0o600, true), 1);
        let missing = directory.path().join("none");
        assert!(read(missing.to_str().unwrap(), true, &mut Vec::new()).is_err());
        assert!(read(directory.path().to_str().unwrap(), true, &mut Vec::new()).is_err());
    }
}
