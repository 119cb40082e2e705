//! Files that a broker reads, in a directory of the test's own.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::broker::binary;

/// A directory that is gone when this is dropped.
pub struct Files {
    directory: TempDir,
}

impl Files {
    /// An empty one.
    pub fn new() -> Self {
        Self {
            directory: TempDir::new().expect("a temporary directory"),
        }
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file that only its owner can read; gives its path as it stands in a configuration.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.path(name);
        std::fs::write(&path, content).expect("a file");
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&path, mode).expect("permissions");
        path.display().to_string()
    }

    /// A password file with these users, made with `ringmq passwd`.
    pub fn passwords(&self, users: &[(&str, &str)]) -> String {
        let path = self.path("passwords");
        for (user, password) in users {
            let output = self.passwd(&["add", user, "--scram"], password);
            assert!(output.status.success(), "{output:?}");
        }
        path.display().to_string()
    }

    /// `ringmq passwd` on the file `passwords`, with a password on standard input.
    pub fn passwd(&self, arguments: &[&str], password: &str) -> Output {
        let mut child = Command::new(binary())
            .arg("passwd")
            .arg(self.path("passwords"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("ringmq passwd");
        let mut stdin = child.stdin.take().expect("standard input");
        // A command that needs none may have ended already.
        let _ = writeln!(stdin, "{password}");
        drop(stdin);
        child.wait_with_output().expect("its end")
    }
}
