//! PUBACK, PUBREC, PUBREL and PUBCOMP of a client (3.4 to 3.7, 4.3).

use crate::journal::record::session_key;
use crate::journal::{Origin, Record};
use crate::mqtt::data_types::{PacketIdentifier, ProtocolVersion};
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::acknowledgement::Acknowledgement;
use crate::mqtt::reason_code::ReasonCode;
use crate::observability::recorder::{Entry, What};
use crate::routing::ids::SessionIndex;
use crate::routing::interest_index::ShardBits;
use crate::session::inflight::InFlight;
use crate::session::outbox::Queued;

use super::durable::{Acknowledge, Due};
use super::envelope::Envelope;
use super::fault::{self, Fault};
use super::receive::Violation;
use super::record::record_done;
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
        let Some(done) = delivery.in_flight.acknowledge(ack.packet_identifier) else {
            return Ok(());
        };
        self.note_acknowledged(index, &done, ack.packet_identifier, now);
        self.record_acknowledged(index, &done.queued);
        self.after_acknowledgement(index, now);
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
        let Some(session) = self.clients.sessions.get_mut(index as usize) else {
            return Ok(());
        };
        let (generation, epoch) = (session.generation, session.epoch);
        let (number, durability) = session.log_key();
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
                if let Some(done) = in_flight.remove(identifier) {
                    self.record_acknowledged(index, &done.queued);
                }
                self.after_acknowledgement(index, now);
            }
            return Ok(());
        }
        if !known {
            self.answer_error(slot, PacketType::PubRel, identifier, NOT_FOUND);
            return Ok(());
        }
        if let Some(entry) = in_flight.find(identifier)
            && entry.queued.entry != 0
        {
            // PUBREL ends what the client remembers, so it must not forget more than the log does.
            let record = Record::Received {
                session: number,
                entry: entry.queued.entry,
            };
            self.clients.journal.append(&record, durability);
            let safe_at = self.clients.journal.end();
            entry.safe_at = safe_at;
            let due = Due::Release {
                session: index,
                generation,
                epoch,
                identifier,
            };
            self.clients.due.push_back((safe_at, due));
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
        now: Now,
    ) -> Result<(), Violation> {
        let identifier = ack.packet_identifier;
        let version = self.version(slot);
        let Some(session) = self.clients.session_mut(index) else {
            return Ok(());
        };
        let delivery = session.delivery.as_mut();
        let inbound = delivery.map(|delivery| &mut delivery.inbound_qos2);
        let mut shards = None;
        let released = inbound.is_some_and(|inbound| {
            let released = inbound.release(identifier);
            shards = released.then(|| inbound.take_shards(identifier)).flatten();
            released
        });
        if !released {
            // Released on a former connection, the identifier may not be used again before the logs have it.
            if !self.readdress(index, identifier, slot) {
                self.answer_error(slot, PacketType::PubComp, identifier, NOT_FOUND);
            }
            return Ok(());
        }
        if let Some(connection) = self.clients.connection_mut(slot) {
            connection.unreleased = connection.unreleased.saturating_sub(1);
        }
        if let Some(shards) = shards {
            let to = self.addressee(slot);
            let number = self.begin_acknowledgement(Acknowledge::PubComp {
                to,
                session: index,
                identifier,
            });
            self.close_origins(index, identifier, &shards, Some(number), now);
            self.asked_all(number, None, now);
            return Ok(());
        }
        let complete = Acknowledgement::new(identifier, ReasonCode::Success);
        self.clients.send(slot, |out| {
            complete.encode(version, PacketType::PubComp, out)
        });
        Ok(())
    }

    /// The shards that have recorded a message forget where it came from.
    pub(super) fn close_origins(
        &mut self,
        index: SessionIndex,
        identifier: PacketIdentifier,
        shards: &ShardBits,
        asked: Option<u64>,
        now: Now,
    ) {
        let Some(session_key) = self.session_key(index) else {
            return;
        };
        let origin = Origin {
            session_key,
            packet_identifier: identifier.get(),
        };
        for shard in shards.iter() {
            if let Some(number) = asked {
                self.expect_answer(number);
            }
            if shard == self.id {
                self.close_origin(shard, origin, asked, now);
            } else {
                self.mesh
                    .stage(shard, Envelope::CloseOrigin { origin, asked });
            }
        }
    }

    /// A session's key in the origins of its messages.
    pub(super) fn session_key(&self, index: SessionIndex) -> Option<u64> {
        let session = self.clients.session(index)?;
        let number = session.recorded.as_ref()?.number;
        Some(session_key(
            &self.hasher,
            &session.client_identifier,
            number,
        ))
    }

    fn record_acknowledged(&mut self, index: SessionIndex, queued: &Queued) {
        if let Some(session) = self.clients.sessions.get(index as usize) {
            let (number, durability) = session.log_key();
            record_done(&mut self.clients.journal, number, durability, queued);
        }
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
        if let Some(done) = completed {
            self.note_acknowledged(index, &done, ack.packet_identifier, now);
            self.record_acknowledged(index, &done.queued);
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
