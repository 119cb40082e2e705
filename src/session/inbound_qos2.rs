//! The Packet Identifiers of QoS 2 messages that a client has sent and not yet released.
//!
//! Part of the session, so that a PUBLISH that is sent again after a reconnect is not routed twice
//! [MQTT-4.3.3-10]. Bounded by the Packet Identifiers there are, 65,535; of one connection, by the Receive
//! Maximum that the broker gives. Which shards' logs have a message stands beside, for those that any has.

use crate::mqtt::data_types::PacketIdentifier;
use crate::routing::interest_index::ShardBits;

/// How far a message that was received has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// It is routed; PUBREC waits for the log.
    Waiting,
    /// PUBREC is sent.
    Done,
    /// It was recorded before the broker started, by some of the shards at least: if it comes again it is
    /// routed again, and they pass it over.
    Restored,
}

/// Two sorted tables: clients count upwards, so both ends are where the work is.
#[derive(Debug, Default)]
pub struct InboundQos2 {
    received: Vec<(PacketIdentifier, Reception)>,
    /// The shards that have recorded a message and remember its origin.
    #[allow(clippy::box_collection)] // keeps the many without small
    recorded: Option<Box<Vec<(PacketIdentifier, ShardBits)>>>,
}

/// Where `identifier` is, or belongs.
#[inline]
fn position<T>(
    table: &[(PacketIdentifier, T)],
    identifier: PacketIdentifier,
) -> Result<usize, usize> {
    match table.last() {
        Some((last, _)) if *last >= identifier => {
            table.binary_search_by_key(&identifier, |(other, _)| *other)
        }
        _ => Err(table.len()),
    }
}

impl InboundQos2 {
    /// How many messages are received and not released.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// How far the message with this identifier has come, if it is known.
    #[inline]
    pub fn find(&self, identifier: PacketIdentifier) -> Option<Reception> {
        let position = position(&self.received, identifier).ok()?;
        Some(self.received.get(position)?.1)
    }

    /// Remembers `identifier`, or how far its message has come since.
    #[inline]
    pub fn insert(&mut self, identifier: PacketIdentifier, reception: Reception) {
        match position(&self.received, identifier) {
            Ok(position) => self.received[position].1 = reception,
            Err(position) => self.received.insert(position, (identifier, reception)),
        }
    }

    /// PUBREC is sent for `identifier`, if it is still known.
    pub fn settle(&mut self, identifier: PacketIdentifier, recorded_by: &ShardBits) {
        if let Ok(position) = position(&self.received, identifier) {
            self.received[position].1 = Reception::Done;
            self.add_shards(identifier, recorded_by);
        }
    }

    /// `shards` have recorded the message of `identifier`.
    pub fn add_shards(&mut self, identifier: PacketIdentifier, shards: &ShardBits) {
        if shards.is_empty() {
            return;
        }
        let recorded = self.recorded.get_or_insert_default();
        match position(recorded, identifier) {
            Ok(position) => recorded[position].1.add_all(shards),
            Err(position) => recorded.insert(position, (identifier, *shards)),
        }
    }

    /// Forgets `identifier`; tells whether it was known, and PUBREC sent. Its shards are forgotten with
    /// [`Self::take_shards`].
    #[inline]
    pub fn release(&mut self, identifier: PacketIdentifier) -> bool {
        let Ok(position) = position(&self.received, identifier) else {
            return false;
        };
        let done = self.received[position].1 != Reception::Waiting;
        if done {
            self.received.remove(position);
        }
        done
    }

    /// The shards that have recorded the message of `identifier`, which must be told that it is released.
    #[inline]
    pub fn take_shards(&mut self, identifier: PacketIdentifier) -> Option<ShardBits> {
        let recorded = self.recorded.as_mut()?;
        let position = position(recorded, identifier).ok()?;
        let (_, shards) = recorded.remove(position);
        if recorded.is_empty() {
            self.recorded = None;
        }
        Some(shards)
    }

    /// All that are recorded, which are forgotten.
    pub fn take_recorded(&mut self) -> Vec<(PacketIdentifier, ShardBits)> {
        self.recorded.take().map_or_else(Vec::new, |all| *all)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::routing::ids::ShardId;

    #[test]
    fn an_identifier_is_known_from_publish_to_pubrel() {
        let id = |value| PacketIdentifier::new(value).unwrap();
        let mut inbound = InboundQos2::default();
        for value in [5, 1, 65_535, 3, 5] {
            inbound.insert(id(value), Reception::Done);
        }
        assert_eq!(inbound.len(), 4);
        assert!(inbound.find(id(3)).is_some());
        assert!(inbound.release(id(3)));
        assert!(!inbound.release(id(3)));
        assert!(inbound.find(id(3)).is_none());
        for value in [1, 5, 65_535] {
            assert!(inbound.release(id(value)));
        }
        assert!(inbound.is_empty());
        // Nobody has a PUBREC to answer.
        inbound.insert(id(8), Reception::Waiting);
        assert!(!inbound.release(id(8)) && inbound.find(id(8)).is_some());
    }

    #[test]
    fn shards_that_have_recorded_a_message_are_remembered_once() {
        let id = |value| PacketIdentifier::new(value).unwrap();
        let shard = |number| {
            let mut bits = ShardBits::default();
            bits.insert(ShardId(number));
            bits
        };
        let mut inbound = InboundQos2::default();
        for value in [7, 2, 9] {
            inbound.insert(id(value), Reception::Waiting);
        }
        inbound.settle(id(7), &shard(0));
        inbound.add_shards(id(7), &shard(3));
        inbound.settle(id(2), &shard(1));
        // Nobody has recorded it, and nobody must be told.
        inbound.settle(id(9), &ShardBits::default());
        // It is released already.
        inbound.settle(id(4), &shard(1));
        assert_eq!(inbound.find(id(7)), Some(Reception::Done));
        let shards = inbound.take_shards(id(7)).unwrap();
        assert_eq!(shards.iter().collect::<Vec<_>>(), [ShardId(0), ShardId(3)]);
        assert!(inbound.take_shards(id(7)).is_none() && inbound.take_shards(id(9)).is_none());
        assert_eq!(inbound.take_recorded(), [(id(2), shard(1))]);
        assert!(inbound.take_recorded().is_empty());
    }
}
