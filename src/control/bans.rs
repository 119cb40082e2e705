//! The bans that are in force. They end with their time, or with the process.

use std::sync::Arc;

use crate::broker::ask::Bans;
use crate::config::limits::BANS_MAX;

/// What a ban is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BanKind {
    Client,
    User,
    Address,
}

impl BanKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::User => "user",
            Self::Address => "address",
        }
    }
}

/// One ban.
#[derive(Clone, Debug)]
pub(super) struct Ban {
    pub(super) kind: BanKind,
    pub(super) value: Box<str>,
    /// Seconds since 1970; `u64::MAX` never ends.
    pub(super) until: u64,
    pub(super) reason: String,
    pub(super) by: String,
}

/// All bans.
#[derive(Debug, Default)]
pub(super) struct BanStore {
    bans: Vec<Ban>,
}

impl BanStore {
    /// Adds or replaces a ban; false if there are too many.
    pub(super) fn set(&mut self, ban: Ban) -> bool {
        self.remove(ban.kind, &ban.value);
        if self.bans.len() >= BANS_MAX {
            return false;
        }
        self.bans.push(ban);
        true
    }

    /// Lifts a ban; tells whether there was one.
    pub(super) fn remove(&mut self, kind: BanKind, value: &str) -> bool {
        let before = self.bans.len();
        self.bans
            .retain(|ban| ban.kind != kind || *ban.value != *value);
        self.bans.len() < before
    }

    /// Removes what has ended; tells whether anything had.
    pub(super) fn remove_ended(&mut self, now_unix_s: u64) -> bool {
        let before = self.bans.len();
        self.bans.retain(|ban| now_unix_s < ban.until);
        self.bans.len() < before
    }

    pub(super) fn all(&self) -> &[Ban] {
        &self.bans
    }

    /// What the shards need.
    pub(super) fn in_force(&self) -> Arc<Bans> {
        let mut bans = Bans::default();
        for ban in &self.bans {
            let map = match ban.kind {
                BanKind::Client => &mut bans.clients,
                BanKind::User => &mut bans.users,
                BanKind::Address => &mut bans.addresses,
            };
            map.insert(ban.value.clone(), ban.until);
        }
        Arc::new(bans)
    }
}
