//! SCRAM (RFC 5802, RFC 7677): the server's half of the exchange, and the keys that it needs.
//!
//! The server holds no password and nothing that a password's owner could be impersonated with. Own code and
//! not `rsasl`'s: that one tells an unknown user by a salt that changes with every attempt, and offers no
//! SCRAM-SHA-512. Channel binding is not offered, so a client that asks for it is refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq;

use crate::config::access::Method;

/// Iterations of keys that are made here.
const ITERATIONS: u32 = 15_000;
/// Iterations that are taken at most.
const ITERATIONS_MAX: u32 = 10_000_000;
/// The longest message that is read, bytes.
const MESSAGE_BYTES_MAX: usize = 4096;

/// The hash function of a SCRAM method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Of SCRAM-SHA-1.
    Sha1,
    /// Of SCRAM-SHA-256.
    Sha256,
    /// Of SCRAM-SHA-512.
    Sha512,
}

impl Hash {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Sha1, Self::Sha256, Self::Sha512];

    /// That of an Authentication Method.
    pub fn of(method: Method) -> Option<Self> {
        match method {
            Method::ScramSha1 => Some(Self::Sha1),
            Method::ScramSha256 => Some(Self::Sha256),
            Method::ScramSha512 => Some(Self::Sha512),
            Method::OAuthBearer | Method::Kerberos => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "scram-sha-1",
            Self::Sha256 => "scram-sha-256",
            Self::Sha512 => "scram-sha-512",
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => keyed::<Hmac<Sha1>>(key, data),
            Self::Sha256 => keyed::<Hmac<Sha256>>(key, data),
            Self::Sha512 => keyed::<Hmac<Sha512>>(key, data),
        }
    }

    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        let mut salted = vec![0; self.bytes()];
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut salted),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut salted),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut salted),
        }
        salted
    }
}

/// HMAC takes keys of any length.
fn keyed<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
    match <M as KeyInit>::new_from_slice(key) {
        Ok(mac) => mac.chain_update(data).finalize().into_bytes().to_vec(),
        Err(_) => Vec::new(),
    }
}

/// What the server knows of a user's password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// For which method.
    pub hash: Hash,
    iterations: u32,
    salt: Vec<u8>,
    stored: Vec<u8>,
    server: Vec<u8>,
}

impl Keys {
    /// Reads `$scram-sha-256$ITERATIONS$SALT$STORED$SERVER`; none if it is no such entry at all.
    pub fn parse(text: &str) -> Option<Result<Self, &'static str>> {
        let (name, rest) = text.strip_prefix('$')?.split_once('$')?;
        let hash = Hash::ALL.into_iter().find(|hash| hash.name() == name)?;
        Some(Self::parse_keys(hash, rest))
    }

    fn parse_keys(hash: Hash, text: &str) -> Result<Self, &'static str> {
        let parts: Vec<&str> = text.split('$').collect();
        let [iterations, salt, stored, server] = parts[..] else {
            return Err("a SCRAM entry has iterations, salt, stored key and server key");
        };
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| "bad base64");
        let keys = Self {
            hash,
            iterations: iterations
                .parse()
                .ok()
                .filter(|iterations| (1..=ITERATIONS_MAX).contains(iterations))
                .ok_or("the number of iterations is no good")?,
            salt: decode(salt)?,
            stored: decode(stored)?,
            server: decode(server)?,
        };
        let right = keys.stored.len() == hash.bytes() && keys.server.len() == hash.bytes();
        match right && !keys.salt.is_empty() {
            true => Ok(keys),
            false => Err("the keys of a SCRAM entry have not the length of its hash"),
        }
    }

    /// As the password file has it.
    pub fn to_text(&self) -> String {
        format!(
            "${}${}${}${}${}",
            self.hash.name(),
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(&self.stored),
            STANDARD.encode(&self.server)
        )
    }

    /// The keys of a password, with a salt of their own.
    ///
    /// # Errors
    /// There is no randomness, or SASLprep forbids the password.
    pub fn derive(hash: Hash, password: &str) -> Result<Self, String> {
        let mut salt = vec![0; 16];
        getrandom::fill(&mut salt).map_err(|error| format!("no randomness: {error}"))?;
        let password = stringprep::saslprep(password)
            .map_err(|error| format!("the password is not possible with SCRAM: {error}"))?;
        Ok(Self::with(hash, password.as_bytes(), salt, ITERATIONS))
    }

    fn with(hash: Hash, password: &[u8], salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.salted(password, &salt, iterations);
        let client = hash.hmac(&salted, b"Client Key");
        Self {
            hash,
            iterations,
            stored: hash.digest(&client),
            server: hash.hmac(&salted, b"Server Key"),
            salt,
        }
    }

    /// Whether they are those of a password.
    pub fn are_of(&self, password: &[u8]) -> bool {
        let prepared = std::str::from_utf8(password).ok().map(stringprep::saslprep);
        let Some(Ok(prepared)) = prepared else {
            return false;
        };
        let other = Self::with(
            self.hash,
            prepared.as_bytes(),
            self.salt.clone(),
            self.iterations,
        );
        self.stored.ct_eq(&other.stored).into()
    }

    /// Keys of nobody, always the same for a name: a client that asks for an unknown user sees the same as
    /// for a known one, and can never know the password.
    fn of_nobody(hash: Hash, user_name: &str, secret: &[u8; 32]) -> Self {
        let part = |what: &str| {
            let name = format!("{what}\0{}\0{user_name}", hash.name());
            blake3::keyed_hash(secret, name.as_bytes())
                .as_bytes()
                .to_vec()
        };
        let mut nothing = vec![0; hash.bytes()];
        // Without randomness it is a hash that nobody can invert all the same.
        if getrandom::fill(&mut nothing).is_err() {
            nothing = hash.digest(&part("stored"));
        }
        let mut salt = part("salt");
        salt.truncate(16);
        Self {
            hash,
            iterations: ITERATIONS,
            salt,
            stored: nothing.clone(),
            server: nothing,
        }
    }
}

/// A server that has sent its first message and waits for the client's last.
#[derive(Debug)]
pub struct Scram {
    user_name: String,
    keys: Keys,
    known: bool,
    gs2_header: String,
    nonce: String,
    /// All of the AuthMessage but its last part.
    said: String,
}

/// The client's messages are not as they must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadMessage;

impl Scram {
    /// Takes the client's first message; gives the server's. `find` has the keys of users.
    ///
    /// # Errors
    /// The message is not as it must be, or asks for channel binding.
    pub fn begin(
        hash: Hash,
        message: &[u8],
        secret: &[u8; 32],
        find: impl FnOnce(&str) -> Option<Keys>,
    ) -> Result<(Self, Vec<u8>), BadMessage> {
        let mut nonce = [0; 18];
        getrandom::fill(&mut nonce).map_err(|_| BadMessage)?;
        Self::begin_with(hash, message, secret, find, &STANDARD.encode(nonce))
    }

    fn begin_with(
        hash: Hash,
        message: &[u8],
        secret: &[u8; 32],
        find: impl FnOnce(&str) -> Option<Keys>,
        own_nonce: &str,
    ) -> Result<(Self, Vec<u8>), BadMessage> {
        let message = text(message)?;
        let (binding, rest) = message.split_once(',').ok_or(BadMessage)?;
        let (authorization, bare) = rest.split_once(',').ok_or(BadMessage)?;
        // "p=..." binds to a channel; "y" says that the server does not offer it, which is true.
        if !matches!(binding, "n" | "y") {
            return Err(BadMessage);
        }
        let mut parts = bare.split(',');
        let name = parts.next().and_then(|part| part.strip_prefix("n="));
        let user_name = unescaped(name.ok_or(BadMessage)?)?;
        let client_nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let client_nonce = client_nonce.filter(|nonce| !nonce.is_empty());
        let client_nonce = client_nonce.ok_or(BadMessage)?;
        if !client_nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(BadMessage);
        }
        if let Some(identity) = authorization.strip_prefix("a=") {
            // Nobody acts for another user.
            if unescaped(identity)? != user_name {
                return Err(BadMessage);
            }
        } else if !authorization.is_empty() {
            return Err(BadMessage);
        }
        let found = find(&user_name);
        let known = found.is_some();
        let keys = found.unwrap_or_else(|| Keys::of_nobody(hash, &user_name, secret));
        let nonce = format!("{client_nonce}{own_nonce}");
        let salt = STANDARD.encode(&keys.salt);
        let first = format!("r={nonce},s={salt},i={}", keys.iterations);
        let scram = Self {
            user_name,
            known,
            gs2_header: format!("{binding},{authorization},"),
            nonce,
            said: format!("{bare},{first},"),
            keys,
        };
        Ok((scram, first.into_bytes()))
    }

    /// Takes the client's last message; gives the user name and the server's last message if the client has
    /// proven that it knows the password.
    ///
    /// # Errors
    /// It has not.
    pub fn finish(self, message: &[u8]) -> Result<(String, Vec<u8>), BadMessage> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(BadMessage)?;
        let mut parts = without_proof.split(',');
        let header = parts.next().and_then(|part| part.strip_prefix("c="));
        let header = STANDARD.decode(header.ok_or(BadMessage)?);
        let nonce = parts.next().and_then(|part| part.strip_prefix("r="));
        let proof = STANDARD.decode(proof).map_err(|_| BadMessage)?;
        let same_header = header.is_ok_and(|header| header == self.gs2_header.as_bytes());
        if !same_header || nonce != Some(&self.nonce) || proof.len() != self.keys.hash.bytes() {
            return Err(BadMessage);
        }
        let hash = self.keys.hash;
        let said = format!("{}{without_proof}", self.said);
        let signature = hash.hmac(&self.keys.stored, said.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let right: bool = hash.digest(&client_key).ct_eq(&self.keys.stored).into();
        if !right || !self.known {
            return Err(BadMessage);
        }
        let signature = hash.hmac(&self.keys.server, said.as_bytes());
        let last = format!("v={}", STANDARD.encode(signature));
        Ok((self.user_name, last.into_bytes()))
    }
}

fn text(message: &[u8]) -> Result<&str, BadMessage> {
    match message.len() <= MESSAGE_BYTES_MAX {
        true => std::str::from_utf8(message).map_err(|_| BadMessage),
        false => Err(BadMessage),
    }
}

/// A name with `=2C` and `=3D` read as what they stand for.
fn unescaped(name: &str) -> Result<String, BadMessage> {
    let mut plain = String::new();
    let mut parts = name.split('=');
    plain.push_str(parts.next().unwrap_or(""));
    for part in parts {
        let (escaped, rest) = part.split_at_checked(2).ok_or(BadMessage)?;
        plain.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return Err(BadMessage),
        });
        plain.push_str(rest);
    }
    match plain.is_empty() {
        true => Err(BadMessage),
        false => Ok(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of RFC 5802 and RFC 7677: user "user", password "pencil".
    fn example(
        hash: Hash,
        client_nonce: &str,
        own_nonce: &str,
        salt: &str,
        proof: &str,
    ) -> Result<(String, Vec<u8>), BadMessage> {
        let keys = Keys::with(hash, b"pencil", STANDARD.decode(salt).unwrap(), 4096);
        let first = format!("n,,n=user,r={client_nonce}");
        let find = |name: &str| (name == "user").then_some(keys);
        let (scram, challenge) =
            Scram::begin_with(hash, first.as_bytes(), &[0; 32], find, own_nonce).unwrap();
        let expected = format!("r={client_nonce}{own_nonce},s={salt},i=4096");
        assert_eq!(String::from_utf8(challenge).unwrap(), expected);
        let last = format!("c=biws,r={client_nonce}{own_nonce},p={proof}");
        scram.finish(last.as_bytes())
    }

    #[test]
    fn the_examples_of_the_rfcs() {
        let (user, last) = example(
            Hash::Sha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "3rfcNHYJY1ZVvWVs7j",
            "QSXCR+Q6sek8bf92",
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        )
        .unwrap();
        assert_eq!(user, "user");
        assert_eq!(last, b"v=rmF9pqV8S7suAoZWja4dJRkFsKQ=");
        let sha256 = |proof| {
            example(
                Hash::Sha256,
                "rOprNGfwEbeRWgbNEkqO",
                "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
                "W22ZaJ0SNY7soEsUEjb6gQ==",
                proof,
            )
        };
        let (_, last) = sha256("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").unwrap();
        assert_eq!(last, b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert!(sha256("eHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=").is_err());
        assert!(sha256("").is_err());
    }

    #[test]
    fn a_bad_first_message_is_refused() {
        for bad in [
            "",
            "n",
            "n,,",
            "n,,n=,r=x",
            "n,,n=user",
            "n,,n=user,r=",
            "n,,n=us=er,r=x",
            "n,,m=ext,n=user,r=x",
            "p=tls-unique,,n=user,r=x",
            "n,a=other,n=user,r=x",
            "n,b,n=user,r=x",
            "x,,n=user,r=x",
        ] {
            let begun = Scram::begin(Hash::Sha256, bad.as_bytes(), &[0; 32], |_| None);
            assert_eq!(begun.err(), Some(BadMessage), "{bad}");
        }
    }

    #[test]
    fn an_unknown_user_looks_like_a_known_one_and_never_gets_in() {
        let begin = |name: &str| {
            let message = format!("y,,n={name},r=abc");
            let find = |_: &str| None;
            Scram::begin_with(Hash::Sha256, message.as_bytes(), &[7; 32], find, "def").unwrap()
        };
        let (scram, one) = begin("nobody");
        assert_eq!(begin("nobody").1, one);
        assert_ne!(begin("somebody").1, one);
        let proof = STANDARD.encode([0; 32]);
        let last = format!("c=eSws,r=abcdef,p={proof}");
        assert!(scram.finish(last.as_bytes()).is_err());
        // A nonce that is not this exchange's: a replay.
        let (scram, _) = begin("nobody");
        assert!(scram.finish(b"c=eSws,r=abcxyz,p=").is_err());
    }
}
