//! What holds for all clients of a process: who decides about them, and the rules.
//!
//! Made outside of the core from the configuration and the files that it names, shared by all shards, and
//! exchanged as a whole by a reload.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::config::Config;
use crate::config::access::{DeniedPublish, Link, Method};

use super::authorization::rules::Rules;

/// Who decides about the clients of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListenerPolicy {
    /// The links, in order.
    pub chain: Vec<Link>,
    /// Whether clients without credentials may connect.
    pub allow_anonymous: bool,
}

/// The policy of a process.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Which load it belongs to: an answer that another one gave is not remembered.
    pub generation: u64,
    /// Of this start: what is remembered about credentials is keyed with it.
    pub secret: [u8; 32],
    /// In the order of the configuration.
    pub listeners: Vec<ListenerPolicy>,
    /// Authentication Methods of 5.0.
    pub methods: Vec<Method>,
    /// Names of the users of this machine.
    pub unix_users: HashMap<u32, Box<str>, foldhash::fast::RandomState>,
    /// The rules of the ACL file.
    pub rules: Option<Arc<Rules>>,
    /// Whether an HTTP server is asked where no rule has decided.
    pub asks_permission: bool,
    /// For clients before 5.0.
    pub denied_publish_v3: DeniedPublish,
    /// Topics whose decision one connection remembers.
    pub cache_topics_max: u32,
    /// Verified credentials that a shard remembers.
    pub cache_entries_max: u32,
}

impl Policy {
    /// What `config` says without the files that it names. What they would permit is denied until they are
    /// read.
    pub fn of(config: &Config) -> Self {
        let access = &config.access;
        let listener = |listener| ListenerPolicy {
            chain: config.chain(listener).to_vec(),
            allow_anonymous: listener.allow_anonymous,
        };
        Self {
            generation: 0,
            secret: [0; 32],
            listeners: config.listeners.iter().map(listener).collect(),
            methods: access.authentication.methods.clone(),
            unix_users: HashMap::default(),
            rules: access
                .authorization
                .acl_file
                .as_ref()
                .map(|_| Arc::default()),
            asks_permission: access.http.authorize_url.is_some(),
            denied_publish_v3: access.authorization.denied_publish_v3,
            cache_topics_max: access.authorization.cache_topics_max,
            cache_entries_max: access.authentication.cache_entries_max,
        }
    }

    /// That of a listener; one that is not known lets nobody in.
    pub fn listener(&self, listener: u16) -> &ListenerPolicy {
        static NOBODY: ListenerPolicy = ListenerPolicy {
            chain: Vec::new(),
            allow_anonymous: false,
        };
        self.listeners.get(usize::from(listener)).unwrap_or(&NOBODY)
    }

    /// Whether it matters who is at the other end of a connection.
    pub fn wants_identity(&self) -> bool {
        self.restricts()
            || !self.methods.is_empty()
            || self
                .listeners
                .iter()
                .any(|listener| !listener.chain.is_empty())
    }

    /// Whether clients may not do everything.
    pub fn restricts(&self) -> bool {
        self.rules.is_some() || self.asks_permission
    }
}
