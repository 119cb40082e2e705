//! `ringmq passwd`: changes a password file as a whole, or checks a password against it.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::password_file::{Checked, PasswordFile, with_user, without_user};

/// What to do with a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Add the user, or set a new password; with SCRAM keys or without.
    Add {
        /// Also the keys for the SCRAM methods.
        scram: bool,
    },
    /// Remove the user.
    Remove,
    /// Check a password.
    Verify,
}

/// Does it; gives what to tell.
///
/// # Errors
/// The file cannot be read, is not right, or cannot be written; the password or the user is wrong.
pub fn passwd(path: &Path, change: Change, user_name: &str) -> Result<String, String> {
    let shown = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && matches!(change, Change::Add { .. }) =>
        {
            String::new()
        }
        Err(error) => return Err(format!("cannot read {shown}: {error}")),
    };
    let file = PasswordFile::parse(&text)
        .map_err(|errors| format!("{shown} is not right: {}", errors.join("; ")))?;
    match change {
        Change::Add { scram } => {
            super::password_file::check_user_name(user_name)?;
            let password = password(true)?;
            if password.is_empty() {
                return Err("an empty password is not taken".into());
            }
            write(path, &with_user(&text, user_name, &password, scram)?)?;
            Ok(format!("{shown}: the password of {user_name} is set"))
        }
        Change::Remove => {
            let changed = without_user(&text, user_name);
            if changed.lines().count() == text.lines().count() {
                return Err(format!("{shown}: there is no user {user_name}"));
            }
            write(path, &changed)?;
            Ok(format!("{shown}: {user_name} is removed"))
        }
        Change::Verify => match file.check(user_name, password(false)?.as_bytes()) {
            Checked::Right => Ok(format!("{shown}: the password of {user_name} is right")),
            Checked::Wrong | Checked::Unknown => {
                Err(format!("{shown}: the user or the password is wrong"))
            }
        },
    }
}

/// From a prompt, or the first line of standard input.
fn password(twice: bool) -> Result<String, String> {
    let wrong = |error: io::Error| format!("cannot read the password: {error}");
    if !io::stdin().is_terminal() {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(wrong)?;
        return Ok(line.trim_end_matches(['\r', '\n']).to_owned());
    }
    let password = rpassword::prompt_password("Password: ").map_err(wrong)?;
    if twice && rpassword::prompt_password("Once more: ").map_err(wrong)? != password {
        return Err("the two passwords differ".into());
    }
    Ok(password)
}

/// Writes the file anew beside the old one and puts it into its place, so that nobody ever reads a half.
fn write(path: &Path, text: &str) -> Result<(), String> {
    let wrong = |error: io::Error| format!("cannot write {}: {error}", path.display());
    // Through a symbolic link, which stays.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut beside = path.clone().into_os_string();
    beside.push(format!(".{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .map_err(wrong)?;
    let written = (|| {
        if let Ok(before) = fs::metadata(&path) {
            file.set_permissions(before.permissions())?;
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &path)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(wrong)
}
