//! The password file: users and hashes of their passwords.
//!
//! One entry a line, `USER:HASH`. A hash is argon2id as a PHC string, which `ringmq passwd` writes, or one of
//! Mosquitto's: `$7$` (PBKDF2-SHA512) and `$6$` (SHA-512). A user may also have entries for SCRAM, which
//! hold keys and no password.

use std::collections::HashMap;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha512};
use subtle::ConstantTimeEq;

use super::scram::{Hash, Keys};

/// The most memory that one argon2 hash may ask for, KiB.
const ARGON2_MEMORY_KIB_MAX: u32 = 1 << 20;
/// The most iterations of PBKDF2 that are taken.
const PBKDF2_ITERATIONS_MAX: u32 = 100_000_000;

#[derive(Clone, Debug)]
enum PasswordEntry {
    /// A PHC string.
    Argon2(String),
    Pbkdf2 {
        iterations: u32,
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
    Sha512 {
        salt: Vec<u8>,
        hash: Vec<u8>,
    },
}

#[derive(Clone, Debug, Default)]
struct User {
    password: Option<PasswordEntry>,
    keys: Vec<Keys>,
}

/// All users.
#[derive(Clone, Debug, Default)]
pub struct PasswordFile {
    users: HashMap<String, User>,
    /// What an unknown user's password is compared with, so that it takes as long as a known one's.
    decoy: Option<PasswordEntry>,
}

/// What a password file says about a user and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// It is right.
    Right,
    /// It is wrong.
    Wrong,
    /// There is no such user.
    Unknown,
}

impl PasswordFile {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// All mistakes, each with its line; no part of an entry is repeated.
    pub fn parse(text: &str) -> Result<Self, Vec<String>> {
        let mut file = Self::default();
        let mut errors = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            if let Err(error) = file.entry(line.trim_end()) {
                errors.push(format!("line {number}: {error}"));
            }
        }
        match errors.is_empty() {
            true => Ok(file),
            false => Err(errors),
        }
    }

    fn entry(&mut self, line: &str) -> Result<(), &'static str> {
        let (name, hash) = line.split_once(':').ok_or("expected USER:HASH")?;
        if name.is_empty() {
            return Err("the user name is empty");
        }
        let user = self.users.entry(name.to_owned()).or_default();
        if let Some(keys) = Keys::parse(hash) {
            let keys = keys?;
            if user.keys.iter().any(|other| other.hash == keys.hash) {
                return Err("the user has a SCRAM entry of this kind above");
            }
            user.keys.push(keys);
            return Ok(());
        }
        if user.password.is_some() {
            return Err("the user has a password above");
        }
        let entry = password_entry(hash)?;
        self.decoy.get_or_insert_with(|| entry.clone());
        user.password = Some(entry);
        Ok(())
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Compares a password with that of a user, in the same time whether there is such a user or not.
    pub fn check(&self, user_name: &str, password: &[u8]) -> Checked {
        let user = self.users.get(user_name);
        let known = user.and_then(|user| user.password.as_ref());
        let right = match known.or(self.decoy.as_ref()) {
            Some(entry) => entry.is_of(password),
            None => false,
        };
        match known {
            Some(_) if right => Checked::Right,
            Some(_) => Checked::Wrong,
            // SCRAM keys alone can check a password as well.
            None => match user.and_then(|user| user.keys.first()) {
                Some(keys) => match keys.are_of(password) {
                    true => Checked::Right,
                    false => Checked::Wrong,
                },
                None => Checked::Unknown,
            },
        }
    }

    /// The SCRAM keys of a user.
    pub fn keys(&self, user_name: &str, hash: Hash) -> Option<&Keys> {
        let user = self.users.get(user_name)?;
        user.keys.iter().find(|keys| keys.hash == hash)
    }
}

fn password_entry(hash: &str) -> Result<PasswordEntry, &'static str> {
    if hash.starts_with("$argon2") {
        let parsed = PasswordHash::new(hash).map_err(|_| "the argon2 hash cannot be read")?;
        if parsed.hash.is_none() || parsed.salt.is_none() {
            return Err("the argon2 hash has no salt or no hash");
        }
        let memory = parsed.params.get_decimal("m").unwrap_or(0);
        if !(8..=ARGON2_MEMORY_KIB_MAX).contains(&memory) {
            return Err("the argon2 hash asks for too little or too much memory");
        }
        return Ok(PasswordEntry::Argon2(hash.to_owned()));
    }
    let parts: Vec<&str> = hash.split('$').collect();
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| "bad base64");
    let entry = match parts[..] {
        ["", "7", iterations, salt, hash] => PasswordEntry::Pbkdf2 {
            iterations: iterations
                .parse()
                .ok()
                .filter(|iterations| (1..=PBKDF2_ITERATIONS_MAX).contains(iterations))
                .ok_or("the number of iterations is no good")?,
            salt: decode(salt)?,
            hash: decode(hash)?,
        },
        ["", "6", salt, hash] => PasswordEntry::Sha512 {
            salt: decode(salt)?,
            hash: decode(hash)?,
        },
        _ => return Err("the hash is none that is known; plain passwords are not taken"),
    };
    match &entry {
        PasswordEntry::Pbkdf2 { hash, .. } | PasswordEntry::Sha512 { hash, .. }
            if hash.len() != 64 =>
        {
            Err("the hash has not 64 bytes")
        }
        _ => Ok(entry),
    }
}

impl PasswordEntry {
    fn is_of(&self, password: &[u8]) -> bool {
        match self {
            Self::Argon2(text) => PasswordHash::new(text)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
            Self::Pbkdf2 {
                iterations,
                salt,
                hash,
            } => {
                let mut derived = [0; 64];
                pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, *iterations, &mut derived);
                derived[..].ct_eq(hash).into()
            }
            Self::Sha512 { salt, hash } => {
                let digest = Sha512::new().chain_update(password).chain_update(salt);
                digest.finalize()[..].ct_eq(hash).into()
            }
        }
    }
}

/// Whether a password file can hold this user name.
///
/// # Errors
/// Why not.
pub fn check_user_name(user_name: &str) -> Result<(), &'static str> {
    let wrong = |c: char| c == ':' || c.is_control();
    match user_name.is_empty() || user_name.starts_with('#') || user_name.contains(wrong) {
        true => Err(
            "a user name is not empty, has no ':' and no control characters, and does not begin with '#'",
        ),
        false => Ok(()),
    }
}

/// The text of a file with a user's password set: argon2id, and SCRAM keys if `scram`.
///
/// # Errors
/// There is no randomness, or the user name is not possible.
pub fn with_user(
    text: &str,
    user_name: &str,
    password: &str,
    scram: bool,
) -> Result<String, String> {
    check_user_name(user_name)?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|error| format!("cannot hash the password: {error}"))?;
    let mut changed = without_user(text, user_name);
    changed.push_str(&format!("{user_name}:{hash}\n"));
    if scram {
        for hash in Hash::ALL {
            let keys = Keys::derive(hash, password)?;
            changed.push_str(&format!("{user_name}:{}\n", keys.to_text()));
        }
    }
    Ok(changed)
}

/// The text of a file without a user.
pub fn without_user(text: &str, user_name: &str) -> String {
    let of_user = |line: &&str| {
        line.split_once(':')
            .is_some_and(|(name, _)| name == user_name)
    };
    let kept = text.lines().filter(|line| !of_user(line));
    kept.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_verified_and_what_is_removed_is_gone() {
        let text = with_user("# users\nother:$6$AA==$", "alice", "pässword", true).unwrap();
        let text = without_user(&text, "other");
        assert_eq!(text.lines().count(), 5, "{text}");
        let file = PasswordFile::parse(&text).unwrap();
        assert_eq!(file.check("alice", "pässword".as_bytes()), Checked::Right);
        assert_eq!(file.check("alice", b"password"), Checked::Wrong);
        assert_eq!(file.check("bob", "pässword".as_bytes()), Checked::Unknown);
        for hash in Hash::ALL {
            assert!(
                file.keys("alice", hash)
                    .unwrap()
                    .are_of("pässword".as_bytes())
            );
        }
        let again = with_user(&text, "alice", "new", false).unwrap();
        assert_eq!(again.lines().count(), 2, "{again}");
        assert!(
            PasswordFile::parse(&without_user(&again, "alice"))
                .unwrap()
                .is_empty()
        );
        assert!(with_user("", "a:b", "x", false).is_err());
    }

    #[test]
    fn mosquittos_entries_are_read() {
        let salt = b"saltsaltsalt";
        let digest = Sha512::new().chain_update(b"secret").chain_update(salt);
        let mut text = format!(
            "old:$6${}${}\n",
            STANDARD.encode(salt),
            STANDARD.encode(digest.finalize())
        );
        let mut derived = [0; 64];
        pbkdf2::pbkdf2_hmac::<Sha512>(b"secret", salt, 101, &mut derived);
        let (salt, hash) = (STANDARD.encode(salt), STANDARD.encode(derived));
        text.push_str(&format!("new:$7$101${salt}${hash}\n"));
        let file = PasswordFile::parse(&text).unwrap();
        for user in ["old", "new"] {
            assert_eq!(file.check(user, b"secret"), Checked::Right, "{user}");
            assert_eq!(file.check(user, b"Secret"), Checked::Wrong, "{user}");
            assert_eq!(file.check(user, b""), Checked::Wrong, "{user}");
        }
    }

    #[test]
    fn mistakes_have_their_line_and_nothing_secret() {
        let text = "plain:secret\nnothing\n:$6$AA==$AA==\na:$7$0$AA==$AA==\na:$6$AA==$AA==\n\
                    b:$argon2id$v=19$m=99999999,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g\nc:$argon2id$x\n\
                    d:$scram-sha-256$x\n";
        let errors = PasswordFile::parse(text).unwrap_err();
        assert_eq!(errors.len(), 8, "{errors:#?}");
        for (number, error) in (1..).zip(&errors) {
            assert!(error.starts_with(&format!("line {number}: ")), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
