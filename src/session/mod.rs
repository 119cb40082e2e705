//! One client's state: the Session of the specification (4.1), which outlives its Network Connections.
//!
//! Called by `broker`, which holds all the sessions of a shard. A session that only receives QoS 0 is
//! small: everything that QoS 1 and 2, a Will or retained messages need is created at first use and freed
//! when it is empty.
//!
//! Not here: who gets a message (`routing`), bytes on the wire (`broker::output`), time (`broker` owns the
//! timers).

pub mod inbound_qos2;
pub mod inflight;
pub mod negotiation;
pub mod outbox;
pub mod retained_backlog;
pub mod subscriptions;
pub mod topic_alias;
pub mod will;

use std::num::NonZeroU32;
use std::sync::Arc;

use crate::config::limits::{Durability, LEFT_GROUPS_MAX};
use crate::mqtt::data_types::PacketIdentifier;
use crate::routing::shared_subscription::{GroupName, GroupSerial};

use inbound_qos2::InboundQos2;
use inflight::InFlightWindow;
use outbox::Outbox;
use retained_backlog::RetainedBacklog;
use subscriptions::Subscriptions;
use will::Will;

/// What QoS 1 and 2 need, and what waits for the client.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Sent and not acknowledged.
    pub in_flight: InFlightWindow,
    /// Not sent yet.
    pub outbox: Outbox,
    /// Received with QoS 2 and not released.
    pub inbound_qos2: InboundQos2,
    /// Shared groups that the session has left while messages from them may still have been here; at most
    /// `LEFT_GROUPS_MAX`.
    #[allow(clippy::box_collection)] // keeps the many without small
    pub left_groups: Option<Box<Vec<LeftGroup>>>,
    /// Deliveries of retained messages that are under way; none if that is empty.
    pub retained: Option<Box<RetainedBacklog>>,
    /// One message in flight whose time to its acknowledgement is taken, and when its turn began.
    pub sample: Option<(PacketIdentifier, u32)>,
    /// The first identifier in flight when the window was found shut, and when that was, monotonic
    /// milliseconds.
    pub shut: Option<(PacketIdentifier, u32)>,
}

/// A shared group that a session was a member of.
pub type LeftGroup = (GroupSerial, Arc<GroupName>);

impl Delivery {
    /// Remembers a group that the session leaves, if a message from it may be here: it may still have to go
    /// back.
    pub fn leave_group(&mut self, group: GroupSerial, name: Arc<GroupName>) {
        if !self.in_flight.is_empty() || !self.outbox.is_empty() {
            self.remember_group(group, name);
        }
    }

    /// Remembers a group that the session has left and that a message here is from.
    pub fn remember_group(&mut self, group: GroupSerial, name: Arc<GroupName>) {
        let left = self.left_groups.get_or_insert_default();
        left.retain(|(other, _)| *other != group);
        if left.len() >= LEFT_GROUPS_MAX {
            left.remove(0);
        }
        left.push((group, name));
    }

    /// Whether a message can be sent at once: nothing waits before it, and the window is open.
    #[inline]
    pub fn takes_at_once(&self, receive_maximum: u16, in_flight_bytes_max: u32) -> bool {
        self.outbox.is_empty() && self.in_flight.is_open(receive_maximum, in_flight_bytes_max)
    }

    /// Whether nothing is kept, so that it can be freed.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
            && self.outbox.is_empty()
            && self.inbound_qos2.is_empty()
            && self.retained.is_none()
    }
}

/// A session's place in the log.
#[derive(Clone, Copy, Debug)]
pub struct Recorded {
    /// Its number, never 0.
    pub number: u64,
    /// The log has the session and its subscriptions behind this position, all of them.
    pub location: u64,
    /// When its last connection ended, monotonic milliseconds.
    pub detached_at_ms: u64,
    /// What acknowledgements that concern it promise.
    pub durability: Durability,
}

/// A Session.
#[derive(Debug)]
pub struct Session {
    /// The Client Identifier.
    pub client_identifier: Box<str>,
    /// One more than the slot of its Network Connection, if it has one: half as large as with the slot itself.
    connected: Option<NonZeroU32>,
    /// Tells this session from an earlier one in the same place.
    pub generation: u32,
    /// How long it lives without a connection, seconds.
    pub expiry_interval_s: u32,
    /// Raised whenever the connection comes or goes, so that an old timer finds itself out of date.
    pub epoch: u32,
    /// The subscriptions that are not shared; at most `SessionLimits::subscriptions_max` together with the
    /// shared ones.
    pub subscriptions: Subscriptions,
    /// The shared subscriptions, by the number of their group.
    pub shared: Option<Box<Vec<u32>>>,
    /// QoS 1 and 2, queues.
    pub delivery: Option<Box<Delivery>>,
    /// The Will Message.
    pub will: Option<Box<Will>>,
    /// If the log has it.
    pub recorded: Option<Box<Recorded>>,
}

impl Session {
    /// A new session without a connection.
    pub fn new(client_identifier: &str, generation: u32) -> Self {
        Self {
            client_identifier: client_identifier.into(),
            connected: None,
            generation,
            expiry_interval_s: 0,
            epoch: 0,
            subscriptions: Subscriptions::default(),
            shared: None,
            delivery: None,
            will: None,
            recorded: None,
        }
    }

    /// The slot of its Network Connection, if it has one.
    #[inline]
    pub fn connection(&self) -> Option<u32> {
        self.connected.map(|above| above.get() - 1)
    }

    /// It has a Network Connection in `slot` from now on, or none.
    pub fn set_connection(&mut self, slot: Option<u32>) {
        // Descriptors, and so slots, are far fewer.
        self.connected = slot.and_then(|slot| NonZeroU32::MIN.checked_add(slot));
    }

    /// Its delivery state, created if there is none.
    #[inline]
    pub fn delivery_mut(&mut self) -> &mut Delivery {
        self.delivery.get_or_insert_default()
    }

    /// How many subscriptions it has, shared ones included.
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len() + self.shared.as_ref().map_or(0, |shared| shared.len())
    }

    /// Whether it outlives its connection.
    pub fn is_persistent(&self) -> bool {
        self.expiry_interval_s > 0
    }

    /// Whether the log has it.
    #[inline]
    pub fn is_recorded(&self) -> bool {
        self.recorded.is_some()
    }

    /// Its number in the log, and what is promised of its records; 0 if it is not recorded.
    #[inline]
    pub fn log_key(&self) -> (u64, Durability) {
        let recorded = self.recorded.as_deref();
        recorded.map_or((0, Durability::Memory), |recorded| {
            (recorded.number, recorded.durability)
        })
    }

    /// Frees what is empty.
    pub fn shrink(&mut self) {
        if self
            .delivery
            .as_ref()
            .is_some_and(|delivery| delivery.is_idle())
        {
            self.delivery = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_does_nothing_is_small() {
        // Also as an entry of the table of sessions.
        assert!(size_of::<Option<Session>>() <= 96);
    }
}
