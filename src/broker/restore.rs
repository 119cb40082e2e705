//! The start from what the log has: sessions, subscriptions, queues, retained messages, before anybody connects.

use std::sync::Arc;

use crate::config::limits::Durability;
use crate::journal::record::Progress;
use crate::journal::replay::{StoredEntry, StoredRetained, StoredSession};
use crate::journal::{Journal, Origin, Record};
use crate::mqtt::data_types::PacketIdentifier;
use crate::mqtt::packet::subscribe::SubscriptionOptions;
use crate::mqtt::topic_filter::TopicFilter;
use crate::routing::ids::SessionIndex;
use crate::routing::interest_index::ShardBits;
use crate::routing::local_index::Subscriber;
use crate::routing::shared_subscription::{GroupName, GroupSerial};
use crate::session::inbound_qos2::Reception;
use crate::session::inflight::Stage;
use crate::session::negotiation::SESSION_NEVER_EXPIRES;
use crate::session::outbox::Queued;
use crate::session::will::Will;
use crate::session::{Recorded, Session};

use super::envelope::Change;
use super::subscribe::Changes;
use super::timers::Timer;
use super::{Broker, Now};

/// Wills and expired sessions wait so long, so that every shard has its subscriptions before, milliseconds.
const SETTLE_MS: u64 = 1_000;
/// Changes that are told to the other shards in one envelope.
const CHANGES_PER_ENVELOPE: usize = 1_024;

/// A session that comes back, with the QoS 2 messages that its client had not released.
#[derive(Debug)]
pub struct RestoredSession {
    /// Its number.
    pub number: u64,
    /// What the log has.
    pub stored: StoredSession,
    /// Packet Identifiers, with the shards that have recorded the messages.
    pub inbound: Vec<(u16, ShardBits)>,
}

/// What a shard begins with.
#[derive(Debug, Default)]
pub struct Restored {
    /// Where its log goes on.
    pub position: u64,
    /// The highest number of sessions so far, without the shard.
    pub session_count: u64,
    /// Its sessions.
    pub sessions: Vec<RestoredSession>,
    /// The retained messages that it owns.
    pub retained: Vec<StoredRetained>,
    /// QoS 2 messages that its log has and that are not released.
    pub origins: Vec<Origin>,
    /// Whether its log is new, so that all of this is recorded again.
    pub records_all: bool,
}

impl Broker {
    /// Takes what the log has; the broker is new. From now on it records.
    pub fn restore(&mut self, restored: Restored, now: Now) {
        self.clients.journal = Journal::at(restored.position);
        self.session_count = restored.session_count;
        let mut changes = Changes::default();
        let mut indexes = Vec::new();
        for mut session in restored.sessions {
            if restored.records_all {
                // Places in the queue are positions, and those of the new log begin anew.
                session.stored.renumber();
            }
            let index = self.restore_session(session, &mut changes, now);
            indexes.push(index);
        }
        for StoredRetained { message, location } in restored.retained {
            if message.is_expired(now.mono_ms) {
                continue;
            }
            if message.can_expire() {
                self.arm_sweep(now);
            }
            if self
                .retained
                .set(Arc::clone(&message), &self.config.retained, now.mono_ms)
            {
                self.retained.set_location(message.topic(), location);
            }
        }
        self.origins.extend(restored.origins);
        let mut all = changes.into_changes();
        while !all.is_empty() {
            let rest = all.split_off(all.len().min(CHANGES_PER_ENVELOPE));
            self.broadcast(all);
            all = rest;
        }
        if restored.records_all {
            for index in indexes {
                self.record_whole(index, now.mono_ms);
            }
            self.record_retained_anew(now.mono_ms);
            self.record_origins();
        }
    }

    /// Whether every shard knows all the subscriptions of this one.
    pub fn is_visible(&self) -> bool {
        self.visibility.is_settled()
    }

    fn restore_session(
        &mut self,
        restored: RestoredSession,
        changes: &mut Changes,
        now: Now,
    ) -> SessionIndex {
        let RestoredSession {
            number,
            stored,
            inbound,
        } = restored;
        let generation = self.next_serial();
        let name = stored.client_identifier.as_deref().unwrap_or_default();
        let mut session = Session::new(name, generation);
        session.expiry_interval_s = stored.expiry_interval_s;
        session.will = stored.will.map(|will| {
            Box::new(Will {
                message: will.message,
                delay_s: will.delay_s,
                message_expiry_interval_s: will.message_expiry_interval_s,
            })
        });
        let detached_s = stored.detached_s.unwrap_or(0);
        session.recorded = Some(Box::new(Recorded {
            number,
            location: stored.location,
            detached_at_ms: now.mono_ms.saturating_sub(detached_s.saturating_mul(1000)),
            durability: self.durability_max.max(Durability::Os),
        }));
        let index = self.clients.add_session(session);
        if stored.detached_s.is_none() {
            self.record_detached(index);
        }
        for (filter, subscription) in &stored.subscriptions {
            let (Ok(filter), Some(options)) = (
                TopicFilter::parse(filter),
                SubscriptionOptions::from_byte(subscription.options),
            ) else {
                continue;
            };
            let subscriber = Subscriber::new(index, options, subscription.identifier);
            self.add_index_entry(&filter, subscriber, changes);
        }
        for (entry, stored) in stored.entries {
            self.restore_entry(index, entry, stored);
        }
        for (value, shards) in inbound {
            let Some(identifier) = PacketIdentifier::new(value) else {
                continue;
            };
            if let Some(session) = self.clients.session_mut(index) {
                let inbound = &mut session.delivery_mut().inbound_qos2;
                inbound.insert(identifier, Reception::Restored);
                inbound.add_shards(identifier, &shards);
            }
        }
        self.restore_timers(index, detached_s, now);
        index
    }

    fn restore_entry(&mut self, index: SessionIndex, entry: u64, stored: StoredEntry) {
        let shared_group = stored.group.and_then(|(share_name, filter)| {
            self.restore_group(index, GroupName { share_name, filter })
        });
        let queued = Queued {
            message: stored.message,
            qos: stored.qos,
            retain: stored.retain,
            shared_group,
            subscription_identifiers: stored.subscription_identifiers,
            entry,
            location: stored.location,
        };
        let Some(session) = self.clients.session_mut(index) else {
            return;
        };
        let delivery = session.delivery_mut();
        let (value, stage) = match stored.progress {
            Progress::Waiting => (0, Stage::Fresh),
            Progress::Sent(value) => (value, Stage::Resend),
            Progress::Received(value) => (value, Stage::ResendRelease),
        };
        match PacketIdentifier::new(value) {
            Some(identifier) => delivery.in_flight.restore(identifier, queued, stage),
            None => delivery.outbox.restore(queued),
        }
    }

    /// The serial of the group that a message came from, which its member may have left.
    fn restore_group(&mut self, index: SessionIndex, name: GroupName) -> Option<GroupSerial> {
        let group = self.group_members.find(&name);
        if let Some(group) = group.filter(|group| self.group_members.has_member(*group, index)) {
            return self.group_members.serial(group);
        }
        let delivery = self.clients.session_mut(index)?.delivery_mut();
        let mut left = delivery.left_groups.iter().flat_map(|left| left.iter());
        if let Some((serial, _)) = left.find(|(_, other)| **other == name) {
            return Some(*serial);
        }
        let serial = self.group_members.next_serial();
        delivery.remember_group(serial, Arc::new(name));
        Some(serial)
    }

    /// The rest of Will Delay and Session Expiry: never more than the whole, whatever the wall clock did.
    fn restore_timers(&mut self, index: SessionIndex, detached_s: u64, now: Now) {
        let Some(session) = self.clients.session(index) else {
            return;
        };
        let (generation, epoch, expiry_s) =
            (session.generation, session.epoch, session.expiry_interval_s);
        let deadline = |seconds: u32| {
            let left_s = u64::from(seconds).saturating_sub(detached_s);
            now.mono_ms + (left_s * 1000).max(SETTLE_MS)
        };
        if let Some(will) = &session.will {
            let at = deadline(will.delay_s.min(expiry_s));
            let timer = Timer::Will {
                session: index,
                generation,
                epoch,
            };
            self.wheel.set(at, timer);
        }
        if expiry_s != SESSION_NEVER_EXPIRES {
            let timer = Timer::SessionExpiry {
                session: index,
                generation,
                epoch,
            };
            self.wheel.set(deadline(expiry_s), timer);
        }
    }

    /// Records that a session has no connection from now on.
    pub(super) fn record_detached(&mut self, index: SessionIndex) {
        let Some(session) = self.clients.sessions.get(index as usize) else {
            return;
        };
        if let Some(recorded) = &session.recorded {
            let record = Record::Detached {
                session: recorded.number,
                expiry_interval_s: session.expiry_interval_s,
                will: session.will.is_some(),
            };
            self.clients.journal.append(&record, recorded.durability);
        }
    }
}

impl Changes {
    fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}
