//! The protocol state of one Network Connection, from CONNECT to its end.
//!
//! Lives in a slot whose number the shard chose: the slot of the socket. Holds only what the connection
//! needs; what outlives it is in `session`.

use crate::mqtt::data_types::ProtocolVersion;
use crate::mqtt::packet::publish::PublishOut;
use crate::mqtt::reason_code::ReasonCode;
use crate::routing::ids::SessionIndex;
use crate::session::negotiation::Terms;
use crate::session::topic_alias::{InboundAliases, OutboundAlias, OutboundAliases};

use super::output::{Buffers, Output};

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// CONNECT has not been handled.
    Fresh,
    /// CONNECT is sound, and it is being asked who the client is.
    Authenticating,
    /// At work for a session.
    Connected(SessionIndex),
    /// Nothing more is read; what is queued goes out, then the socket is closed.
    Closing,
}

/// Topic Aliases, only for connections that use them.
#[derive(Debug)]
pub struct Aliases {
    /// Set by the client.
    pub inbound: InboundAliases,
    /// Set by the broker.
    pub outbound: OutboundAliases,
}

/// What passed through a connection, beside it, so that the connection stays small.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// When it came home, seconds since the process started.
    pub opened_s: u32,
    /// PUBLISH packets, both ways; wraps.
    pub messages: u32,
}

/// One Network Connection.
#[derive(Debug)]
pub struct Connection {
    /// Where it stands.
    pub phase: Phase,
    /// Which listener it came through, by its place in the configuration.
    pub listener: u16,
    /// Whether it is in the list of connections with new output.
    pub dirty: bool,
    /// What waits to be sent.
    pub output: Output,
    /// What was agreed on at CONNECT.
    pub terms: Terms,
    /// Tells it from an earlier connection in the same slot.
    pub serial: u32,
    /// When the last packet came, monotonic milliseconds.
    pub last_packet_ms: u64,
    /// SUBACKs that wait for other shards.
    pub pending_subacks: u16,
    /// Acknowledgements that wait for the log of this shard or another.
    pub pending_acknowledgements: u32,
    /// QoS 2 messages received on this connection and not released: what counts against the Receive Maximum,
    /// which starts anew with every connection (4.9).
    pub unreleased: u16,
    /// Topic Aliases in use.
    pub aliases: Option<Box<Aliases>>,
}

impl Connection {
    /// A connection that has just come home and has not been read.
    pub fn new(listener: u16, serial: u32, now_ms: u64) -> Self {
        Self {
            phase: Phase::Fresh,
            listener,
            dirty: false,
            output: Output::default(),
            terms: Terms::before_connect(),
            serial,
            last_packet_ms: now_ms,
            pending_subacks: 0,
            pending_acknowledgements: 0,
            unreleased: 0,
            aliases: None,
        }
    }

    /// The protocol version.
    #[inline]
    pub fn version(&self) -> ProtocolVersion {
        self.terms.version
    }

    /// The client's own aliases.
    ///
    /// # Errors
    /// As [`InboundAliases::set`] and [`InboundAliases::resolve`].
    pub fn inbound_aliases(&mut self) -> &mut InboundAliases {
        &mut self.aliases_mut().inbound
    }

    fn aliases_mut(&mut self) -> &mut Aliases {
        let maximum = self.terms.outbound_alias_max;
        self.aliases.get_or_insert_with(|| {
            Box::new(Aliases {
                inbound: InboundAliases::default(),
                outbound: OutboundAliases::new(maximum),
            })
        })
    }

    /// Appends a PUBLISH, with a Topic Alias if the client allows it. The caller has checked the packet's
    /// size without an alias, which only makes it smaller but for three bytes when it is new.
    pub fn append_publish(&mut self, buffers: &mut Buffers, publish: &PublishOut<'_>) {
        let version = self.terms.version;
        if self.terms.outbound_alias_max == 0 {
            self.output
                .append(buffers, |out| publish.encode(version, out));
            return;
        }
        let room_for_alias =
            publish.packet_bytes(version) + 8 <= self.terms.packet_bytes_max as usize;
        let alias = match room_for_alias {
            true => self.aliases_mut().outbound.name(publish.topic_name),
            false => OutboundAlias::None,
        };
        let named = match alias {
            OutboundAlias::None => *publish,
            OutboundAlias::New(alias) => PublishOut {
                topic_alias: Some(alias),
                ..*publish
            },
            OutboundAlias::Known(alias) => PublishOut {
                topic_name: "",
                topic_alias: Some(alias),
                ..*publish
            },
        };
        self.output
            .append(buffers, |out| named.encode(version, out));
    }

    /// When the client is overdue: one and a half times its Keep Alive after its last packet
    /// [MQTT-3.1.2-22]; none if it is 0.
    pub fn keep_alive_deadline_ms(&self) -> Option<u64> {
        let keep_alive_ms = u64::from(self.terms.keep_alive_s) * 1_500;
        (keep_alive_ms > 0).then(|| self.last_packet_ms + keep_alive_ms)
    }
}

/// Why and how a connection ended, for the log and the counters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The slot of the connection.
    pub slot: u32,
    /// The Client Identifier, empty before CONNECT.
    pub client_identifier: Box<str>,
    /// The Reason Code that was sent, or would be to a 5.0 client.
    pub reason_code: ReasonCode,
    /// The cause in words.
    pub cause: &'static str,
    /// Whether the broker ended it; otherwise the client or the network did.
    pub by_broker: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_does_nothing_is_small() {
        assert!(size_of::<Connection>() <= 96);
    }
}
