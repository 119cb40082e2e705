//! Bytes of a connection: packet by packet, within a budget.

use crate::config::limits::{PACKET_COST_BYTES_MIN, PENDING_SUBACKS_MAX};
use crate::mqtt::data_types::{ProtocolVersion, Role};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::{Frame, Framing, frame};
use crate::mqtt::packet::acknowledgement::Acknowledgement;
use crate::mqtt::packet::connect::Connect;
use crate::mqtt::packet::publish::Publish;
use crate::mqtt::packet::{PINGRESP, Packet, PacketType};
use crate::mqtt::reason_code::ReasonCode;
use crate::routing::ids::SessionIndex;

use super::connection::{Connection, Phase};
use super::fault::{self, Fault};
use super::{Broker, Now};

/// What a connection may still do in this turn.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of packets, or what their routing costs if that is more.
    pub bytes: usize,
}

/// What the shard does next with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Read on.
    Continue,
    /// Keep the rest and come again in a later turn: the budget is used up, or the mesh is congested.
    Pause,
    /// Read nothing more.
    Closing,
}

/// How far the received bytes were taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that are done.
    pub consumed: usize,
    /// What next.
    pub flow: Flow,
}

/// A fault of a client that ends its connection (4.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason_code: ReasonCode,
    pub(super) cause: &'static str,
}

impl Violation {
    pub(super) fn new(reason_code: ReasonCode, cause: &'static str) -> Self {
        Self { reason_code, cause }
    }
}

impl From<DecodeError> for Violation {
    fn from(error: DecodeError) -> Self {
        Self::new(error.reason_code(), error.cause())
    }
}

impl Broker {
    /// Takes the packets at the front of `bytes`, which a connection has received.
    pub fn receive(&mut self, slot: u32, bytes: &[u8], budget: &mut Budget, now: Now) -> Progress {
        let Some(connection) = self.clients.connection(slot) else {
            return Progress {
                consumed: bytes.len(),
                flow: Flow::Closing,
            };
        };
        let first_byte = bytes.first().copied();
        if connection.phase == Phase::Fresh
            && first_byte.is_some_and(|first| first != PacketType::Connect.first_byte())
        {
            // Refused by its first byte: the rest of such a packet may never come.
            let cause = "the first packet is not CONNECT"; // [MQTT-3.1.0-1]
            self.refuse_connect(
                slot,
                bytes,
                Violation::new(ReasonCode::ProtocolError, cause),
            );
        }
        let progress = self.take_packets(slot, bytes, budget, now);
        if progress.consumed > 0
            && let Some(connection) = self.clients.connection_mut(slot)
        {
            // Only whole packets count [MQTT-3.1.2-22].
            connection.last_packet_ms = now.mono_ms;
        }
        progress
    }

    fn take_packets(&mut self, slot: u32, bytes: &[u8], budget: &mut Budget, now: Now) -> Progress {
        let listener = self
            .clients
            .connection(slot)
            .map_or(0, |connection| connection.listener);
        let limits = self.listener(listener);
        let packet_bytes_max = limits.packet_bytes_max as usize;
        let first_packet_bytes_max = limits.first_packet_bytes_max();
        let mut consumed = 0;
        loop {
            let connection = self.clients.connection(slot);
            let open = connection.filter(|connection| connection.phase != Phase::Closing);
            let Some(connection) = open else {
                return Progress {
                    consumed: bytes.len(),
                    flow: Flow::Closing,
                };
            };
            let bytes_max = match connection.phase {
                Phase::Fresh => first_packet_bytes_max,
                _ => packet_bytes_max,
            };
            let frame = match frame(&bytes[consumed..], bytes_max) {
                Ok(Framing::Complete(frame)) => frame,
                Ok(Framing::Incomplete { .. }) => {
                    return Progress {
                        consumed,
                        flow: Flow::Continue,
                    };
                }
                Err(error) => {
                    self.refuse(slot, &bytes[consumed..], error.into(), now);
                    continue;
                }
            };
            if self.must_wait(connection, frame.first_byte) || budget.bytes == 0 {
                return Progress {
                    consumed,
                    flow: Flow::Pause,
                };
            }
            let (phase, version) = (connection.phase, connection.version());
            self.clients.counters.packets_received += 1;
            self.clients.counters.bytes_received += frame.packet_bytes as u64;
            let before = self.clients.routing_cost;
            if let Err(violation) = self.packet(slot, phase, version, &frame, now) {
                self.refuse(slot, &bytes[consumed..], violation, now);
            }
            let routing = usize::try_from(self.clients.routing_cost - before).unwrap_or(usize::MAX);
            let cost = frame.packet_bytes.max(PACKET_COST_BYTES_MIN).max(routing);
            budget.bytes = budget.bytes.saturating_sub(cost);
            consumed += frame.packet_bytes;
        }
    }

    /// Whether a packet must wait: the other shards do not keep up, the client does not take its answers, or
    /// it leaves before its SUBACKs could be sent.
    #[inline]
    fn must_wait(&self, connection: &Connection, first_byte: u8) -> bool {
        if self.awaits_reading(connection) {
            return true;
        }
        match PacketType::from_bits(first_byte >> 4) {
            Some(PacketType::Publish) => self.mesh.is_congested() || self.log_is_behind(),
            Some(PacketType::Subscribe | PacketType::Unsubscribe) => {
                self.mesh.is_congested()
                    || self.log_is_behind()
                    || self.visibility.pending() >= PENDING_SUBACKS_MAX
            }
            Some(PacketType::Disconnect) => connection.pending_subacks > 0,
            _ => false,
        }
    }

    /// Whether a connection waits for its client to read.
    pub fn is_output_full(&self, slot: u32) -> bool {
        self.clients
            .connection(slot)
            .is_some_and(|connection| self.awaits_reading(connection))
    }

    #[inline]
    fn awaits_reading(&self, connection: &Connection) -> bool {
        connection.output.bytes() > self.config.network.output_bytes_max as usize
    }

    /// Whether a connection that was paused may go on.
    pub fn may_resume(&self, slot: u32) -> bool {
        let Some(connection) = self.clients.connection(slot) else {
            return true;
        };
        !self.awaits_reading(connection)
            && connection.pending_subacks == 0
            && !self.mesh.is_congested()
            && !self.log_is_behind()
            && self.visibility.pending() < PENDING_SUBACKS_MAX
            && !fault::on(Fault::PausedForEver)
    }

    /// Ends a connection because of a fault, in the way its state allows.
    fn refuse(&mut self, slot: u32, bytes: &[u8], violation: Violation, now: Now) {
        let Some(connection) = self.clients.connection(slot) else {
            return;
        };
        match connection.phase {
            Phase::Fresh => self.refuse_connect(slot, bytes, violation),
            _ => self.end(slot, violation.reason_code, violation.cause, now),
        }
    }

    #[inline]
    fn packet(
        &mut self,
        slot: u32,
        phase: Phase,
        version: ProtocolVersion,
        frame: &Frame<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let Phase::Connected(session) = phase else {
            // `receive` has seen that it is CONNECT.
            return self.connect(slot, &Connect::decode(frame)?, now);
        };
        let packet_type = frame.packet_type()?;
        let acknowledgement = || Acknowledgement::decode(frame, version, packet_type);
        // What comes most is not moved through a `Packet`.
        match packet_type {
            PacketType::Publish => {
                let publish = Publish::decode(frame, version, Role::Client)?;
                self.publish(slot, session, &publish, now)
            }
            PacketType::PubAck => self.puback(session, &acknowledgement()?, now),
            PacketType::PubRec => self.pubrec(slot, session, &acknowledgement()?, now),
            PacketType::PubRel => self.pubrel(slot, session, &acknowledgement()?, now),
            PacketType::PubComp => self.pubcomp(session, &acknowledgement()?, now),
            _ => self.rare_packet(slot, session, version, frame, now),
        }
    }

    /// A packet of a client that is neither PUBLISH nor a part of its acknowledgement.
    fn rare_packet(
        &mut self,
        slot: u32,
        session: SessionIndex,
        version: ProtocolVersion,
        frame: &Frame<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        match Packet::decode(frame, version, Role::Client)? {
            Packet::PingReq => {
                self.clients
                    .send(slot, |out| out.extend_from_slice(&PINGRESP));
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(slot, session, &subscribe, now),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(slot, session, &unsubscribe, now),
            Packet::Disconnect(disconnect) => self.disconnect(slot, session, &disconnect, now),
            Packet::Auth(_) => Err(Violation::new(
                ReasonCode::BadAuthenticationMethod,
                "AUTH without an authentication method that is known",
            )),
            // [MQTT-3.1.0-2]
            Packet::Connect(_) => Err(Violation::new(
                ReasonCode::ProtocolError,
                "a second CONNECT",
            )),
            // `packet` has taken those that both sides send.
            _ => Err(Violation::new(
                ReasonCode::ProtocolError,
                "a packet that only a Server sends",
            )),
        }
    }
}
