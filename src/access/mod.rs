//! What must work or read files to know who a client is: password hashes, tokens, exchanges, HTTP.
//!
//! Called by `runtime`, on threads that are no shards: everything here may take its time. The broker asks
//! ([`crate::broker::authentication::Question`]) only what it cannot decide by itself.
//!
//! Invariants: a policy is loaded as a whole or not at all; what cannot be verified is refused; passwords,
//! tokens and secrets are in no message and no log line.

mod chain;
mod files;
mod http;
mod jwt;
pub mod passwd;
pub mod password_file;
mod rules;
pub mod scram;

pub use chain::{Verifier, new_secret};

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::broker::authorization::parse::{parse, parse_mosquitto};
use crate::broker::authorization::rules::Rules;
use crate::broker::policy::Policy;
use crate::config::Config;
use crate::config::access::{AclFormat, Link, Method};
use crate::config::owner;

use http::HttpCallback;
use jwt::Tokens;
use password_file::PasswordFile;

/// Everything that the configuration names about clients, read and checked.
#[derive(Debug)]
pub struct Access {
    /// For the shards.
    pub policy: Arc<Policy>,
    /// For the threads that answer their questions.
    pub verifier: Arc<Verifier>,
    /// What is not wrong, and should not be so.
    pub warnings: Vec<String>,
    /// How much there is of what, to say what a reload has changed.
    counts: BTreeMap<&'static str, usize>,
    /// Keyed hashes of the files that were read, by their path.
    contents: BTreeMap<String, [u8; 32]>,
}

impl Access {
    /// Reads and checks all files that `config` names. `secret` is that of this start,
    /// `generation` tells what is loaded now from what was loaded before.
    ///
    /// # Errors
    /// All that is wrong; nothing is in force then.
    pub fn load(config: &Config, secret: [u8; 32], generation: u64) -> Result<Self, Vec<String>> {
        let mut loading = Loading {
            secret,
            ..Loading::default()
        };
        let access = &config.access;
        let passwords = loading.passwords(config);
        let tokens = loading.tokens(config);
        let http = loading.http(config);
        let rules = access.authorization.acl_file.as_deref().and_then(|path| {
            let parser = match access.authorization.acl_format {
                AclFormat::RingMq => parse,
                AclFormat::Mosquitto => parse_mosquitto,
            };
            loading.rules(path, parser)
        });
        loading.check_methods(config, passwords.as_ref(), tokens.as_ref());
        if !loading.errors.is_empty() {
            return Err(loading.errors);
        }
        let mut policy = Policy::of(config);
        policy.secret = secret;
        policy.generation = generation;
        policy.rules = rules.map(Arc::new);
        policy.unix_users = owner::users().collect();
        let policy = Arc::new(policy);
        let authentication = &access.authentication;
        let verifier = Verifier {
            policy: Arc::clone(&policy),
            passwords: passwords.unwrap_or_default(),
            tokens,
            http,
            remember_s: authentication.cache_s,
        };
        let counts = BTreeMap::from([
            ("users", verifier.passwords.len()),
            (
                "rules",
                policy.rules.as_ref().map_or(0, |rules| rules.len()),
            ),
            (
                "keys",
                verifier.tokens.as_ref().map_or(0, Tokens::key_count),
            ),
        ]);
        Ok(Self {
            policy,
            verifier: Arc::new(verifier),
            warnings: loading.warnings,
            counts,
            contents: loading.contents,
        })
    }

    /// What is different from `before`, for people.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        for (path, content) in &self.contents {
            if before.contents.get(path).is_some_and(|old| old != content) {
                changes.push(format!("{path}: its content has changed"));
            }
        }
        for (what, count) in &self.counts {
            let old = before.counts.get(what).copied().unwrap_or(0);
            if old != *count {
                changes.push(format!("{what}: {old} before, {count} now"));
            }
        }
        let rules = |access: &Self| -> Vec<String> {
            let rules = access.policy.rules.as_ref();
            rules.map_or_else(Vec::new, |rules| {
                rules.iter().map(|rule| format!("{rule:?}")).collect()
            })
        };
        let (old, new) = (rules(before), rules(self));
        let added = new.iter().filter(|rule| !old.contains(rule)).count();
        let removed = old.iter().filter(|rule| !new.contains(rule)).count();
        if added + removed > 0 {
            changes.push(format!("rules: {added} added, {removed} removed"));
        }
        if before.policy.listeners != self.policy.listeners {
            changes.push("authentication chains".into());
        }
        if before.policy.methods != self.policy.methods {
            changes.push("authentication methods".into());
        }
        changes
    }
}

#[derive(Debug, Default)]
struct Loading {
    secret: [u8; 32],
    contents: BTreeMap<String, [u8; 32]>,
    errors: Vec<String>,
    warnings: Vec<String>,
}

impl Loading {
    fn text(&mut self, path: &str, secret: bool) -> Option<String> {
        let read = files::read(path, secret, &mut self.warnings);
        let text = read.map_err(|error| self.errors.push(error)).ok()?;
        let hash = blake3::keyed_hash(&self.secret, text.as_bytes());
        self.contents.insert(path.to_owned(), *hash.as_bytes());
        Some(text)
    }

    fn passwords(&mut self, config: &Config) -> Option<PasswordFile> {
        let path = config.access.authentication.password_file.as_deref();
        if path.is_none() && uses(config, Link::PasswordFile) {
            self.errors.push(
                "authentication.password_file is missing; a chain has \"password_file\"".into(),
            );
        }
        let path = path?;
        match PasswordFile::parse(&self.text(path, true)?) {
            Ok(file) => Some(file),
            Err(errors) => {
                let errors = errors.into_iter().map(|error| format!("{path}: {error}"));
                self.errors.extend(errors);
                None
            }
        }
    }

    fn tokens(&mut self, config: &Config) -> Option<Tokens> {
        let jwt = &config.access.jwt;
        let named = [&jwt.key_file, &jwt.jwks_file, &jwt.jwks_url];
        if named.iter().all(|source| source.is_none()) {
            let bearer = config
                .access
                .authentication
                .methods
                .contains(&Method::OAuthBearer);
            if bearer || uses(config, Link::Jwt) {
                self.errors
                    .push("[jwt] needs key_file, jwks_file or jwks_url".into());
            }
            return None;
        }
        let key = match &jwt.key_file {
            Some(path) => Some((path.as_str(), self.text(path, true)?)),
            None => None,
        };
        let set = match &jwt.jwks_file {
            Some(path) => Some((path.as_str(), self.text(path, false)?)),
            None => None,
        };
        match Tokens::new(jwt, key, set) {
            Ok(tokens) => {
                self.warnings.extend(tokens.fetch_first());
                Some(tokens)
            }
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    fn http(&mut self, config: &Config) -> Option<HttpCallback> {
        let http = &config.access.http;
        if http.authenticate_url.is_none() && uses(config, Link::Http) {
            self.errors
                .push("http_callback.authenticate_url is missing; a chain has \"http\"".into());
        }
        match HttpCallback::new(http) {
            Ok(callback) => callback,
            Err(error) => {
                self.errors.push(error);
                None
            }
        }
    }

    fn rules(
        &mut self,
        path: &str,
        parser: fn(&str) -> Result<Rules, Vec<String>>,
    ) -> Option<Rules> {
        match parser(&self.text(path, false)?) {
            Ok(rules) => Some(rules),
            Err(errors) => {
                let errors = errors.into_iter().map(|error| format!("{path}: {error}"));
                self.errors.extend(errors);
                None
            }
        }
    }

    /// An Authentication Method that can never succeed is a mistake.
    fn check_methods(
        &mut self,
        config: &Config,
        passwords: Option<&PasswordFile>,
        tokens: Option<&Tokens>,
    ) {
        for method in &config.access.authentication.methods {
            let missing = match method {
                Method::OAuthBearer => tokens.is_none().then_some("[jwt]"),
                Method::Kerberos => Some("a build with Kerberos"),
                _ => passwords
                    .is_none()
                    .then_some("authentication.password_file"),
            };
            if let Some(missing) = missing {
                let name = method.name();
                self.errors
                    .push(format!("authentication.methods: {name} needs {missing}"));
            }
        }
    }
}

/// Whether a listener's chain has this link.
fn uses(config: &Config, link: Link) -> bool {
    let mut listeners = config.listeners.iter();
    listeners.any(|listener| config.chain(listener).contains(&link))
}
