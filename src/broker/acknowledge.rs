//! PUBACK, PUBREC, PUBREL and PUBCOMP of a client (3.4 to 3.7, 4.3).

use crate::mqtt::data_types::{PacketIdentifier, ProtocolVersion};
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::acknowledgement::Acknowledgement;
use crate::mqtt::reason_code::ReasonCode;
use crate::observability::recorder::{Entry, What};
use crate::routing::ids::SessionIndex;
use crate::session::inflight::InFlight;

use super::fault::{self, Fault};
use super::receive::Violation;
use super::{Broker, Now};

const NOT_FOUND: Violation = Violation {
    reason_code: ReasonCode::PacketIdentifierNotFound,
    cause: "no message with this Packet Identifier is on its way",
};

impl Broker {
    /// PUBACK ends a QoS 1 delivery. One that belongs to nothing is passed over: the client may have sent
    /// it before it lost the session.
    #[inline]
    pub(super) fn puback(
        &mut self,
        index: SessionIndex,
        ack: &Acknowledgement<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let Some(delivery) = self
            .clients
            .session_mut(index)
            .and_then(|session| session.delivery.as_mut())
        else {
            return Ok(());
        };
        if let Some(entry) = delivery.in_flight.acknowledge(ack.packet_identifier) {
            self.note_acknowledged(index, &entry, ack.packet_identifier, now);
            self.after_acknowledgement(index, now);
        }
        Ok(())
    }

    /// Notes that a client has a message, and how long that took if it is the one that is timed.
    #[inline]
    fn note_acknowledged(
        &mut self,
        index: SessionIndex,
        entry: &InFlight,
        identifier: PacketIdentifier,
        now: Now,
    ) {
        let clients = &mut self.clients;
        let Some(session) = clients.sessions.get_mut(index as usize) else {
            return;
        };
        if let Some(delivery) = session.delivery.as_mut()
            && let Some((sampled, sent_us)) = delivery.sample
            && sampled == identifier
        {
            delivery.sample = None;
            let elapsed_us = clients.sight.now_us.wrapping_sub(sent_us);
            clients
                .sight
                .acknowledgement
                .record(u64::from(elapsed_us), 1);
        }
        clients.sight.recorder.note(Entry::new(
            entry.queued.message.topic_hash().0,
            index,
            What::Acknowledged as u8,
            entry.queued.qos as u8,
            identifier.get(),
            now.mono_ms,
        ));
    }

    /// Sends what the window now has room for.
    #[inline]
    fn after_acknowledgement(&mut self, index: SessionIndex, now: Now) {
        let Some(delivery) = self
            .clients
            .session(index)
            .and_then(|session| session.delivery.as_ref())
        else {
            return;
        };
        let waits = !delivery.outbox.is_empty()
            || delivery.retained.is_some()
            || delivery.in_flight.needs_resend();
        if waits && !fault::on(Fault::AcknowledgementIgnored) {
            self.pump(index, now);
        }
    }

    /// PUBREC is answered with PUBREL, or ends the delivery if it reports an error [MQTT-4.3.3-4].
    pub(super) fn pubrec(
        &mut self,
        slot: u32,
        index: SessionIndex,
        ack: &Acknowledgement<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let identifier = ack.packet_identifier;
        let version = self.version(slot);
        let Some(session) = self.clients.session_mut(index) else {
            return Ok(());
        };
        let delivery = session.delivery_mut();
        if delivery
            .sample
            .is_some_and(|(sampled, _)| sampled == identifier && ack.reason_code.is_error())
        {
            delivery.sample = None;
        }
        let in_flight = &mut delivery.in_flight;
        let known = in_flight.release(identifier);
        if ack.reason_code.is_error() {
            if known {
                in_flight.remove(identifier);
                self.after_acknowledgement(index, now);
            }
            return Ok(());
        }
        if !known {
            self.answer_error(slot, PacketType::PubRel, identifier, NOT_FOUND);
            return Ok(());
        }
        let release = Acknowledgement::new(identifier, ReasonCode::Success);
        self.clients
            .send(slot, |out| release.encode(version, PacketType::PubRel, out));
        Ok(())
    }

    /// PUBREL is answered with PUBCOMP, also for an identifier that is not known: then with 0x92 and not by
    /// ending the connection.
    pub(super) fn pubrel(
        &mut self,
        slot: u32,
        index: SessionIndex,
        ack: &Acknowledgement<'_>,
    ) -> Result<(), Violation> {
        let identifier = ack.packet_identifier;
        let version = self.version(slot);
        let Some(session) = self.clients.session_mut(index) else {
            return Ok(());
        };
        let known = session
            .delivery
            .as_mut()
            .is_some_and(|delivery| delivery.inbound_qos2.remove(identifier));
        if !known {
            self.answer_error(slot, PacketType::PubComp, identifier, NOT_FOUND);
            return Ok(());
        }
        if let Some(connection) = self.clients.connection_mut(slot) {
            connection.unreleased = connection.unreleased.saturating_sub(1);
        }
        let complete = Acknowledgement::new(identifier, ReasonCode::Success);
        self.clients.send(slot, |out| {
            complete.encode(version, PacketType::PubComp, out)
        });
        Ok(())
    }

    /// PUBCOMP ends a QoS 2 delivery.
    pub(super) fn pubcomp(
        &mut self,
        index: SessionIndex,
        ack: &Acknowledgement<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let delivery = self
            .clients
            .session_mut(index)
            .and_then(|session| session.delivery.as_mut());
        let completed =
            delivery.and_then(|delivery| delivery.in_flight.complete(ack.packet_identifier));
        if let Some(entry) = completed {
            self.note_acknowledged(index, &entry, ack.packet_identifier, now);
            self.after_acknowledgement(index, now);
        }
        Ok(())
    }

    /// Acknowledges with an error, and says why to a client that wants to know [MQTT-3.1.2-29].
    pub(super) fn answer_error(
        &mut self,
        slot: u32,
        kind: PacketType,
        identifier: PacketIdentifier,
        error: Violation,
    ) {
        let ack = Acknowledgement::new(identifier, error.reason_code);
        // Where CONNACK did fit, an acknowledgement without properties does.
        self.clients
            .send_explained(slot, Some(error.cause), |version, properties, out| {
                let properties = Some(properties);
                Acknowledgement { properties, ..ack }.encode(version, kind, out);
            });
    }

    fn version(&self, slot: u32) -> ProtocolVersion {
        self.clients
            .connection(slot)
            .map_or(ProtocolVersion::V3_1_1, |connection| connection.version())
    }
}
