//! The Packet Identifiers of QoS 2 messages that a client has sent and not yet released.
//!
//! Part of the session, so that a PUBLISH that is sent again after a reconnect is not routed twice
//! [MQTT-4.3.3-10]. Bounded by the Packet Identifiers there are, 65,535; of one connection, by the Receive
//! Maximum that the broker gives.

use crate::mqtt::data_types::PacketIdentifier;

/// A sorted set of Packet Identifiers: clients count upwards, so both ends are where the work is.
#[derive(Debug, Default)]
pub struct InboundQos2 {
    identifiers: Vec<PacketIdentifier>,
}

impl InboundQos2 {
    /// How many messages are received and not released.
    pub fn len(&self) -> usize {
        self.identifiers.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.identifiers.is_empty()
    }

    /// Whether `identifier` is known: its message was routed already.
    #[inline]
    pub fn contains(&self, identifier: PacketIdentifier) -> bool {
        self.identifiers.binary_search(&identifier).is_ok()
    }

    /// Remembers `identifier`; its message is routed now and never again.
    #[inline]
    pub fn insert(&mut self, identifier: PacketIdentifier) {
        if self
            .identifiers
            .last()
            .is_none_or(|last| *last < identifier)
        {
            self.identifiers.push(identifier);
        } else if let Err(position) = self.identifiers.binary_search(&identifier) {
            self.identifiers.insert(position, identifier);
        }
    }

    /// Forgets `identifier` at PUBREL; tells whether it was known.
    #[inline]
    pub fn remove(&mut self, identifier: PacketIdentifier) -> bool {
        match self.identifiers.binary_search(&identifier) {
            Ok(position) => {
                self.identifiers.remove(position);
                true
            }
            Err(_) => false,
        }
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
            inbound.insert(id(value));
        }
        assert_eq!(inbound.len(), 4);
        assert!(inbound.contains(id(3)));
        assert!(inbound.remove(id(3)));
        assert!(!inbound.remove(id(3)));
        assert!(!inbound.contains(id(3)));
        for value in [1, 5, 65_535] {
            assert!(inbound.remove(id(value)));
        }
        assert!(inbound.is_empty());
    }
}
