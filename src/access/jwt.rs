//! JSON Web Tokens: who signed them, for whom, until when, and what they say about the client.
//!
//! A key checks only the algorithms of its own kind, so a public key is never a secret; "none" is not among
//! the algorithms at all.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};

use crate::broker::authentication::Principal;
use crate::config::access::{JWT_ALGORITHMS, JwtConfig};

use super::http::{Client, check_url};
use super::rules;

/// How long a fetch of keys may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How soon keys are fetched again because of one that is not known, or after a failure.
const FETCH_AGAIN: Duration = Duration::from_secs(10);
/// The longest token that is read, bytes.
const TOKEN_BYTES_MAX: usize = 32 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Secret,
    Rsa,
    Elliptic,
    Edwards,
}

impl Family {
    fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512 => Self::Secret,
            Algorithm::ES256 | Algorithm::ES384 => Self::Elliptic,
            Algorithm::EdDSA => Self::Edwards,
            _ => Self::Rsa,
        }
    }
}

#[derive(Clone)]
struct Key {
    identifier: Option<String>,
    family: Family,
    key: DecodingKey,
}

#[derive(Default)]
struct Fetched {
    keys: Vec<Key>,
    /// When it was tried last.
    tried: Option<Instant>,
    /// When it succeeded last.
    done: Option<Instant>,
}

/// The keys and what tokens must say.
pub struct Tokens {
    config: JwtConfig,
    algorithms: Vec<Algorithm>,
    keys: Vec<Key>,
    client: Client,
    fetched: Mutex<Fetched>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It is no token at all, so that another link may know what it is.
    NoToken,
    /// It is one, and it is not good; in words without any of its content.
    Bad(String),
}

impl Tokens {
    /// With keys from files; those of a URL are fetched when they are needed.
    ///
    /// # Errors
    /// A key that cannot be read, or no algorithm that is known.
    pub fn new(
        config: &JwtConfig,
        key: Option<(&str, String)>,
        set: Option<(&str, String)>,
    ) -> Result<Self, String> {
        let names = config
            .algorithms
            .iter()
            .filter_map(|at| JWT_ALGORITHMS.get(*at));
        let algorithms: Vec<Algorithm> = names.filter_map(|name| name.parse().ok()).collect();
        if algorithms.is_empty() {
            return Err("jwt.algorithms: there must be at least one".into());
        }
        let mut keys = Vec::new();
        if let Some((path, text)) = key {
            keys.push(key_of(&text).map_err(|error| format!("{path}: {error}"))?);
        }
        if let Some((path, text)) = set {
            keys.extend(keys_of_set(&text).map_err(|error| format!("{path}: {error}"))?);
        }
        if let Some(url) = &config.jwks_url {
            check_url(url).map_err(|error| format!("jwt.jwks_url: {error}"))?;
        }
        Ok(Self {
            config: config.clone(),
            algorithms,
            keys,
            client: Client::new(FETCH_TIMEOUT),
            fetched: Mutex::default(),
        })
    }

    /// How many keys there are now.
    pub fn key_count(&self) -> usize {
        let fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        self.keys.len() + fetched.keys.len()
    }

    /// Fetches the keys of a URL for the first time. If that fails, tokens are refused until it succeeds.
    pub fn fetch_first(&self) -> Option<String> {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        self.fetch(&mut fetched).err()
    }

    fn fetch(&self, fetched: &mut Fetched) -> Result<(), String> {
        let Some(url) = &self.config.jwks_url else {
            return Ok(());
        };
        fetched.tried = Some(Instant::now());
        let keys = self.client.fetch(url).and_then(|text| keys_of_set(&text));
        fetched.keys = keys.map_err(|error| format!("cannot fetch keys from {url}: {error}"))?;
        fetched.done = fetched.tried;
        Ok(())
    }

    /// The keys that may have signed a token. Fetches those of a URL again if they are old, or if none has
    /// the token's key identifier.
    fn candidates(&self, algorithm: Algorithm, identifier: Option<&str>) -> Vec<Key> {
        let fits = |key: &&Key| {
            let same = match (&key.identifier, identifier) {
                (Some(own), Some(wanted)) => own == wanted,
                _ => true,
            };
            same && key.family == Family::of(algorithm)
        };
        let mut found: Vec<Key> = self.keys.iter().filter(fits).cloned().collect();
        if self.config.jwks_url.is_some() {
            let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
            let age = |at: Option<Instant>| at.map_or(Duration::MAX, |at| at.elapsed());
            let refresh = Duration::from_secs(self.config.jwks_refresh_s.into());
            let old = age(fetched.done) > refresh;
            let unknown = found.is_empty() && !fetched.keys.iter().any(|key| fits(&key));
            if (old || unknown)
                && age(fetched.tried) > FETCH_AGAIN.min(refresh)
                && let Err(error) = self.fetch(&mut fetched)
            {
                tracing::warn!("{error}");
            }
            found.extend(fetched.keys.iter().filter(fits).cloned());
        }
        found
    }

    /// Who shows this token.
    ///
    /// # Errors
    /// Why it is not taken.
    pub fn verify(&self, token: &[u8]) -> Result<Principal, Rejected> {
        let token = std::str::from_utf8(token).map_err(|_| Rejected::NoToken)?;
        // Three parts, the first of which is an object.
        if token.len() > TOKEN_BYTES_MAX
            || token.matches('.').count() != 2
            || !token.starts_with("ey")
        {
            return Err(Rejected::NoToken);
        }
        let bad = |cause: &dyn fmt::Display| Rejected::Bad(cause.to_string());
        // An algorithm that is not known, "none" among them, has no header.
        let header = decode_header(token).map_err(|error| bad(&error))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(bad(&"its algorithm is not in jwt.algorithms"));
        }
        let mut validation = Validation::new(header.alg);
        validation.leeway = self.config.leeway_s.into();
        validation.validate_nbf = true;
        let mut required = vec!["exp"];
        match &self.config.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        if let Some(issuer) = &self.config.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        let mut rejected = bad(&"no key fits it");
        for candidate in self.candidates(header.alg, header.kid.as_deref()) {
            match decode::<Map<String, Value>>(token, &candidate.key, &validation) {
                Ok(data) => return self.principal(&data.claims).map_err(Rejected::Bad),
                Err(error) => rejected = bad(&error),
            }
        }
        Err(rejected)
    }

    fn principal(&self, claims: &Map<String, Value>) -> Result<Principal, String> {
        let now_s = unix_s();
        let seconds = |name: &str| claims.get(name).and_then(Value::as_f64);
        let leeway_s = f64::from(self.config.leeway_s);
        #[allow(clippy::cast_precision_loss)] // seconds since 1970
        if seconds("iat").is_some_and(|issued| issued > now_s as f64 + leeway_s) {
            return Err("it is issued in the future".into());
        }
        let claim = |name: &Option<String>| name.as_ref().and_then(|name| claims.get(name));
        let user_name = match (
            &self.config.user_name_claim,
            claim(&self.config.user_name_claim),
        ) {
            (None, _) => None,
            (Some(_), Some(Value::String(name))) if !name.is_empty() => Some(name.as_str().into()),
            (Some(name), _) => return Err(format!("it has no claim {name}")),
        };
        let rules = claim(&self.config.rules_claim).map(rules::rules);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates
        let expires = seconds("exp").map(|expires| expires as u64);
        Ok(Principal {
            user_name,
            roles: claim(&self.config.roles_claim)
                .map(rules::roles)
                .unwrap_or_default(),
            rules: rules.transpose()?,
            // Not before the clocks' difference is over: until then the token itself is taken.
            expires_unix_s: expires.map(|at| at + u64::from(self.config.leeway_s)),
        })
    }
}

/// Seconds since 1970.
pub fn unix_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// A public key in PEM, or a secret.
fn key_of(text: &str) -> Result<Key, String> {
    let key = |family, key| Key {
        identifier: None,
        family,
        key,
    };
    if !text.contains("-----BEGIN") {
        let secret = text.trim_end_matches(['\r', '\n']).as_bytes();
        return match secret.len() < 32 {
            true => Err("a secret has at least 32 bytes".into()),
            false => Ok(key(Family::Secret, DecodingKey::from_secret(secret))),
        };
    }
    if text.contains("PRIVATE KEY") {
        return Err("this is a private key; the broker needs the public one".into());
    }
    let pem = text.as_bytes();
    // Each of them looks at what kind of key it is.
    DecodingKey::from_ed_pem(pem)
        .map(|found| key(Family::Edwards, found))
        .or_else(|_| DecodingKey::from_ec_pem(pem).map(|found| key(Family::Elliptic, found)))
        .or_else(|_| DecodingKey::from_rsa_pem(pem).map(|found| key(Family::Rsa, found)))
        .map_err(|_| "this is no public key (PEM) for RS, PS, ES or EdDSA".into())
}

fn keys_of_set(text: &str) -> Result<Vec<Key>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let list = value.get("keys").and_then(Value::as_array);
    let list = list.ok_or("this is no JSON Web Key Set")?;
    // Keys of a kind that is not known are not for us.
    let known = |value: &Value| serde_json::from_value::<Jwk>(value.clone()).ok();
    let set = JwkSet {
        keys: list.iter().filter_map(known).collect(),
    };
    let keys: Vec<Key> = set.keys.iter().filter_map(key_of_set).collect();
    match keys.is_empty() {
        true => Err("there is no key in it that can be used".into()),
        false => Ok(keys),
    }
}

fn key_of_set(jwk: &Jwk) -> Option<Key> {
    let family = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Family::Rsa,
        AlgorithmParameters::EllipticCurve(_) => Family::Elliptic,
        AlgorithmParameters::OctetKeyPair(_) => Family::Edwards,
        AlgorithmParameters::OctetKey(_) => Family::Secret,
    };
    Some(Key {
        identifier: jwk.common.key_id.clone(),
        family,
        key: DecodingKey::from_jwk(jwk).ok()?,
    })
}
