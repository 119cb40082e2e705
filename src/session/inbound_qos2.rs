//! The Packet Identifiers of QoS 2 messages that a client has sent and not yet released.
//!
//! Part of the session, so that a PUBLISH that is sent again after a reconnect is not routed twice
//! [MQTT-4.3.3-10]. Bounded by the Packet Identifiers there are, 65,535; of one connection, by the Receive
//! Maximum that the broker gives.

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

/// A message that was received and not released.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its Packet Identifier.
    pub identifier: PacketIdentifier,
    /// How far it has come.
    pub reception: Reception,
    /// The shards that have recorded it and remember its origin.
    pub shards: ShardBits,
}

/// A sorted set of Packet Identifiers: clients count upwards, so both ends are where the work is.
#[derive(Debug, Default)]
pub struct InboundQos2 {
    received: Vec<Received>,
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

    fn position(&self, identifier: PacketIdentifier) -> Result<usize, usize> {
        self.received
            .binary_search_by_key(&identifier, |received| received.identifier)
    }

    /// The message with this identifier, if it is known: it was routed already.
    #[inline]
    pub fn find(&mut self, identifier: PacketIdentifier) -> Option<&mut Received> {
        let position = self.position(identifier).ok()?;
        self.received.get_mut(position)
    }

    /// Remembers `identifier`; its message is routed now and never again.
    #[inline]
    pub fn insert(&mut self, identifier: PacketIdentifier, reception: Reception) {
        let new = Received {
            identifier,
            reception,
            shards: ShardBits::default(),
        };
        match self.received.last() {
            Some(last) if last.identifier >= identifier => match self.position(identifier) {
                Ok(position) => self.received[position].reception = reception,
                Err(position) => self.received.insert(position, new),
            },
            _ => self.received.push(new),
        }
    }

    /// Forgets `identifier` at PUBREL.
    #[inline]
    pub fn remove(&mut self, identifier: PacketIdentifier) -> Option<Received> {
        let position = self.position(identifier).ok()?;
        Some(self.received.remove(position))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Received> {
        self.received.iter()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_known_from_publish_to_pubrel() {
        let id = |value| PacketIdentifier::new(value).unwrap();
        let mut inbound = InboundQos2::default();
        for value in [5, 1, 65_535, 3, 5] {
            inbound.insert(id(value), Reception::Done);
        }
        assert_eq!(inbound.len(), 4);
        assert!(inbound.find(id(3)).is_some());
        assert!(inbound.remove(id(3)).is_some());
        assert!(inbound.remove(id(3)).is_none());
        assert!(inbound.find(id(3)).is_none());
        for value in [1, 5, 65_535] {
            assert!(inbound.remove(id(value)).is_some());
        }
        assert!(inbound.is_empty());
    }
}
