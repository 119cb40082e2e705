//! From a message and a subscriber to bytes in the subscriber's output, its window, or its outbox.
//!
//! The hot path: a QoS 0 message on its publisher's shard is copied from the received packet into each
//! output; with several receivers the packet is encoded once for each protocol and copied.

use bytes::Bytes;

use crate::config::limits::{DELIVERY_COST_BYTES, LARGE_PAYLOAD_BYTES, OutboxFull};
use crate::journal::Origin;
use crate::journal::record::Progress;
use crate::mqtt::data_types::{PacketIdentifier, QoS};
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::acknowledgement::Acknowledgement;
use crate::mqtt::packet::publish::PublishOut;
use crate::mqtt::reason_code::ReasonCode;
use crate::observability::counters::DropCause;
use crate::observability::recorder::{Entry, What};
use crate::routing::application_message::{ApplicationMessage, MessageView, payload_bytes};
use crate::routing::ids::SessionIndex;
use crate::routing::shared_subscription::{GroupName, GroupSerial};
use crate::routing::topic_hash::TopicHash;
use crate::session::inflight::Stage;
use crate::session::outbox::{Queued, SubscriptionIdentifiers};

use super::clients::Clients;
use super::connection::Connection;
use super::envelope::Answer;
use super::fault::{self, Fault};
use super::output::Buffers;
use super::record::{record_done, record_sent};

/// Of so many QoS 1 and 2 messages to a session, the time to the acknowledgement of one is taken.
const SAMPLE_EVERY: u16 = 16;

/// A message that is being routed: borrowed, and shared from the moment that somebody must keep it.
#[derive(Debug)]
pub(super) struct Publication<'a> {
    pub(super) view: MessageView<'a>,
    shared: Option<ApplicationMessage>,
    /// Its payload, once a connection has referenced it.
    payload: Option<Bytes>,
    /// Whether it has more than one receiver here.
    pub(super) several: bool,
    /// Where the log has it, once a session that is recorded takes it.
    pub(super) location: Option<u64>,
    /// A session that is recorded could not take it, since the disk is full.
    pub(super) refused: bool,
    /// Where a QoS 2 message came from.
    pub(super) origin: Option<Origin>,
}

impl<'a> Publication<'a> {
    pub(super) fn new(view: MessageView<'a>) -> Self {
        Self {
            view,
            shared: None,
            payload: None,
            several: false,
            location: None,
            refused: false,
            origin: None,
        }
    }

    pub(super) fn of(message: &'a ApplicationMessage) -> Self {
        Self {
            shared: Some(ApplicationMessage::clone(message)),
            ..Self::new(message.view())
        }
    }

    /// What to tell the shard that asked.
    pub(super) fn outcome(&self) -> u8 {
        match (self.refused, self.location) {
            (true, _) => Answer::REFUSED,
            (false, Some(_)) => Answer::RECORDED,
            (false, None) => Answer::NOTHING,
        }
    }

    /// The message to keep.
    pub(super) fn share(&mut self) -> ApplicationMessage {
        let view = self.view;
        ApplicationMessage::clone(self.shared.get_or_insert_with(|| view.to_message()))
    }

    /// The payload, to be referenced by several connections.
    fn share_payload(&mut self) -> Bytes {
        let message = self.share();
        let payload = self.payload.get_or_insert_with(|| payload_bytes(&message));
        Bytes::clone(payload)
    }
}

/// One delivery: to whom, and how.
#[derive(Debug)]
pub(super) struct Target<'a> {
    pub(super) session: SessionIndex,
    /// Maximum QoS of the subscription.
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) subscription_identifiers: &'a [u32],
    /// The shared group that chose the session.
    pub(super) group: Option<(GroupSerial, &'a GroupName)>,
}

/// The packets of the message that is being routed, encoded once: by protocol and by whether there is a
/// Packet Identifier.
#[derive(Debug, Default)]
pub(super) struct Prefab {
    packets: [Vec<u8>; 4],
    offsets: [usize; 4],
}

impl Prefab {
    /// Forgets the packets of the former message.
    #[inline]
    pub(super) fn reset(&mut self) {
        for packet in &mut self.packets {
            packet.clear();
        }
    }

    /// Appends `publish` to a connection's output from the packet that is encoded once.
    #[inline]
    fn append(
        &mut self,
        publish: &PublishOut<'_>,
        connection: &mut Connection,
        buffers: &mut Buffers,
    ) {
        let version = connection.version();
        let class =
            usize::from(version.is_v5()) * 2 + usize::from(publish.packet_identifier.is_some());
        let packet = &mut self.packets[class];
        if packet.is_empty() {
            publish.encode(version, packet);
            self.offsets[class] = publish.packet_identifier_offset(version);
        }
        packet[0] = publish.first_byte();
        if let Some(identifier) = publish.packet_identifier {
            let offset = self.offsets[class];
            packet[offset..offset + 2].copy_from_slice(&identifier.get().to_be_bytes());
        }
        connection
            .output
            .append(buffers, |out| out.extend_from_slice(packet));
    }
}

/// The PUBLISH for a message.
#[inline]
fn publish_out<'a>(
    view: &MessageView<'a>,
    qos: QoS,
    retain: bool,
    ids: &'a [u32],
    now_ms: u64,
) -> PublishOut<'a> {
    PublishOut {
        dup: false,
        qos,
        retain: retain && !fault::on(Fault::RetainFlagLost),
        topic_name: view.topic,
        packet_identifier: None,
        message_expiry_interval_s: view.expires_at_ms.map(|at| remaining_s(at, now_ms)),
        topic_alias: None,
        subscription_identifiers: ids,
        forwarded_properties: view.forwarded_properties,
        payload: view.payload,
    }
}

/// What is left of a Message Expiry Interval, seconds [MQTT-3.3.2-6].
fn remaining_s(expires_at_ms: u64, now_ms: u64) -> u32 {
    let uncounted_ms = match fault::on(Fault::ExpiryNotCounted) {
        true => now_ms % 60_000,
        false => 0,
    };
    let now_ms = now_ms - uncounted_ms;
    u32::try_from(expires_at_ms.saturating_sub(now_ms).div_ceil(1000)).unwrap_or(u32::MAX)
}

impl Clients {
    /// Delivers a message to a session: at once if it can take it, otherwise into its outbox.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        target: &Target<'_>,
        publication: &mut Publication<'_>,
        now_ms: u64,
    ) {
        if publication.view.retain {
            self.note_live_retained(target.session, publication.view.topic_hash);
        }
        self.send_or_queue(target, publication, now_ms);
    }

    /// The same, also for a retained message, which is no live one.
    #[inline]
    pub(super) fn send_or_queue(
        &mut self,
        target: &Target<'_>,
        publication: &mut Publication<'_>,
        now_ms: u64,
    ) {
        self.routing_cost += DELIVERY_COST_BYTES;
        let qos = target.qos.min(publication.view.qos);
        match qos {
            QoS::AtMostOnce => self.deliver_at_most_once(target, publication, now_ms),
            _ => self.deliver_acknowledged(target, qos, publication, now_ms),
        }
    }

    fn note_live_retained(&mut self, session: SessionIndex, topic: TopicHash) {
        if let Some(session) = self.session_mut(session)
            && let Some(delivery) = session.delivery.as_mut()
            && let Some(backlog) = delivery.retained.as_mut()
        {
            backlog.note(topic);
        }
    }

    #[inline]
    fn deliver_at_most_once(
        &mut self,
        target: &Target<'_>,
        publication: &mut Publication<'_>,
        now_ms: u64,
    ) {
        let output_bytes_max = self.config.network.output_bytes_max as usize;
        let queue_offline = self.config.session.queue_qos0_offline || target.group.is_some();
        let Some(session) = self.sessions.get_mut(target.session as usize) else {
            return;
        };
        let Some(slot) = session.connection() else {
            if queue_offline && session.is_persistent() {
                self.queue(target, QoS::AtMostOnce, publication, now_ms);
            } else {
                self.note_loss(
                    target.session,
                    What::Offline as u8,
                    &publication.view,
                    now_ms,
                );
            }
            return;
        };
        let delivery = session.delivery.as_ref();
        if delivery.is_some_and(|delivery| delivery.outbox.holds_at_most_once()) {
            self.queue(target, QoS::AtMostOnce, publication, now_ms);
            return;
        }
        let Some((_, _, connection)) = self.connected(target.session) else {
            return;
        };
        let view = publication.view;
        let publish = publish_out(
            &view,
            QoS::AtMostOnce,
            target.retain,
            target.subscription_identifiers,
            now_ms,
        );
        let packet_bytes = publish.packet_bytes(connection.version());
        if packet_bytes > connection.terms.packet_bytes_max as usize {
            self.lose(target.session, DropCause::PacketTooLarge, &view, now_ms);
            return;
        }
        let waiting = connection.output.bytes();
        if waiting > 0 && waiting + packet_bytes > output_bytes_max {
            self.lose(target.session, DropCause::OutputFull, &view, now_ms);
            return;
        }
        self.append(
            slot,
            target.session,
            &publish,
            packet_bytes,
            publication,
            now_ms,
        );
    }

    /// Appends a PUBLISH that fits, by the cheapest way.
    #[inline]
    pub(super) fn append(
        &mut self,
        slot: u32,
        session: SessionIndex,
        publish: &PublishOut<'_>,
        packet_bytes: usize,
        publication: &mut Publication<'_>,
        now_ms: u64,
    ) {
        self.counters
            .count_sent(publish.qos, packet_bytes, publish.payload.len());
        let Some(connection) = self
            .connections
            .get_mut(slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        let plain = connection.terms.outbound_alias_max == 0;
        if publication.several && plain && publish.payload.len() >= LARGE_PAYLOAD_BYTES {
            let version = connection.version();
            connection
                .output
                .append(&mut self.buffers, |out| publish.encode_head(version, out));
            connection.output.append_shared(publication.share_payload());
        } else if publication.several && plain && publish.subscription_identifiers.is_empty() {
            self.prefab.append(publish, connection, &mut self.buffers);
        } else {
            connection.append_publish(&mut self.buffers, publish);
        }
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
        self.count_message(slot);
        self.sight.recorder.note(Entry::new(
            publication.view.topic_hash.0,
            session,
            What::Sent as u8,
            publish.qos as u8,
            publish.packet_identifier.map_or(0, PacketIdentifier::get),
            now_ms,
        ));
    }

    #[inline]
    fn deliver_acknowledged(
        &mut self,
        target: &Target<'_>,
        qos: QoS,
        publication: &mut Publication<'_>,
        now_ms: u64,
    ) {
        let output_bytes_max = self.config.network.output_bytes_max as usize;
        let in_flight_bytes_max = self.config.session.in_flight_bytes_max;
        let now_us = self.sight.now_us;
        let Some((slot, session, connection)) = self.connected(target.session) else {
            self.queue(target, qos, publication, now_ms);
            return;
        };
        let open = connection.output.bytes() <= output_bytes_max
            && session.delivery.as_ref().is_none_or(|delivery| {
                delivery.takes_at_once(connection.terms.in_flight_max, in_flight_bytes_max)
            });
        if !open {
            self.queue(target, qos, publication, now_ms);
            return;
        }
        let view = publication.view;
        let mut publish = publish_out(
            &view,
            qos,
            target.retain,
            target.subscription_identifiers,
            now_ms,
        );
        publish.packet_identifier = Some(PacketIdentifier::MAX);
        let packet_bytes = publish.packet_bytes(connection.version());
        if packet_bytes > connection.terms.packet_bytes_max as usize {
            self.lose(target.session, DropCause::PacketTooLarge, &view, now_ms);
            return;
        }
        if session.is_recorded() {
            self.deliver_recorded(target, &mut publish, packet_bytes, publication, now_ms);
            return;
        }
        let queued = Queued {
            message: publication.share(),
            qos,
            retain: target.retain,
            shared_group: target.group.map(|(group, _)| group),
            subscription_identifiers: SubscriptionIdentifiers::from_slice(
                target.subscription_identifiers,
            ),
            entry: 0,
            location: 0,
        };
        let delivery = session.delivery_mut();
        let identifier = delivery.in_flight.push(queued);
        if identifier.get() % SAMPLE_EVERY == 1 {
            delivery.sample.get_or_insert((identifier, now_us));
        }
        publish.packet_identifier = Some(identifier);
        self.append(
            slot,
            target.session,
            &publish,
            packet_bytes,
            publication,
            now_ms,
        );
    }

    fn queue(
        &mut self,
        target: &Target<'_>,
        qos: QoS,
        publication: &mut Publication<'_>,
        now_ms: u64,
    ) {
        let mut queued = Queued {
            message: publication.share(),
            qos,
            retain: target.retain,
            shared_group: target.group.map(|(group, _)| group),
            subscription_identifiers: SubscriptionIdentifiers::from_slice(
                target.subscription_identifiers,
            ),
            entry: 0,
            location: 0,
        };
        let config = std::sync::Arc::clone(&self.config);
        let limits = &config.session;
        let Some(session) = self.sessions.get_mut(target.session as usize) else {
            return;
        };
        if session.connection().is_none() && !session.is_persistent() {
            return;
        }
        if session.is_recorded() {
            if !self.may_record(publication) {
                return;
            }
            self.record_queued(target, &mut queued, publication, Progress::Waiting, now_ms);
        }
        let Some(session) = self.sessions.get_mut(target.session as usize) else {
            return;
        };
        let (number, durability) = session.log_key();
        let journal = &mut self.journal;
        let outbox = &mut session.delivery_mut().outbox;
        let dropped = outbox.push(queued, limits, now_ms, |dropped| {
            record_done(journal, number, durability, dropped);
        });
        self.counters
            .drop_messages(DropCause::Expired, dropped.expired as u64);
        if !fault::on(Fault::DropNotCounted) {
            self.counters
                .drop_messages(DropCause::OutboxFull, dropped.over_limit as u64);
        }
        let goes = limits.outbox_full == OutboxFull::DropNewest && dropped.over_limit > 0;
        let what = match goes {
            true => What::dropped(DropCause::OutboxFull),
            false => What::Queued as u8,
        };
        let view = publication.view;
        self.note_loss(target.session, what, &view, now_ms);
    }

    /// Whether a session's connection can be given more output.
    pub(super) fn has_room(&mut self, session: SessionIndex) -> bool {
        let output_bytes_max = self.config.network.output_bytes_max as usize;
        let in_flight_bytes_max = self.config.session.in_flight_bytes_max;
        let Some((_, session, connection)) = self.connected(session) else {
            return false;
        };
        let open = session.delivery.as_ref().is_none_or(|delivery| {
            delivery.takes_at_once(connection.terms.in_flight_max, in_flight_bytes_max)
        });
        open && connection.output.bytes() <= output_bytes_max / 2
    }

    /// Sends what waits for a session, as far as window and output allow: first what was in flight on the
    /// former connection, then the outbox, in order.
    pub(super) fn pump_outbox(&mut self, index: SessionIndex, now_ms: u64) {
        loop {
            let output_bytes_max = self.config.network.output_bytes_max as usize;
            let committed = self.journal.committed();
            let in_flight_bytes_max = self.config.session.in_flight_bytes_max;
            let Some((slot, session, connection)) = self.connected(index) else {
                return;
            };
            let Some(delivery) = session.delivery.as_mut() else {
                return;
            };
            if connection.output.bytes() > output_bytes_max {
                return;
            }
            let wider = u16::from(fault::on(Fault::WindowTooWide));
            let in_flight_max = connection.terms.in_flight_max.saturating_add(wider);
            let version = connection.version();
            let mut held = false;
            let overtaken = fault::on(Fault::ResendOvertaken) && !delivery.outbox.is_empty();
            let safe_at = delivery.in_flight.next_safe_at();
            if let Some(safe_at) = safe_at.filter(|_| !overtaken) {
                held = safe_at > committed;
                if !held {
                    if !delivery.in_flight.outstanding_below(in_flight_max) {
                        return;
                    }
                    let Some((identifier, entry, again)) = delivery.in_flight.resend_next() else {
                        return;
                    };
                    if entry.stage == Stage::Released && !fault::on(Fault::ReleaseForgotten) {
                        if fault::on(Fault::PubRelLost) {
                            continue;
                        }
                        let release = Acknowledgement::new(identifier, ReasonCode::Success);
                        self.send(slot, |out| release.encode(version, PacketType::PubRel, out));
                        continue;
                    }
                    let queued = entry.queued.clone();
                    self.send_queued(slot, index, &queued, Some(identifier), again, now_ms);
                    continue;
                }
            }
            let Some(front) = delivery.outbox.front() else {
                return;
            };
            let acknowledged = front.qos != QoS::AtMostOnce;
            if acknowledged
                && !delivery
                    .in_flight
                    .is_open(in_flight_max, in_flight_bytes_max)
            {
                return;
            }
            if held && front.entry == 0 {
                return;
            }
            let Some(queued) = delivery.outbox.pop() else {
                return;
            };
            if queued.message.is_expired(now_ms) && !fault::on(Fault::ExpiredSent) {
                let (number, durability) = session.log_key();
                record_done(&mut self.journal, number, durability, &queued);
                self.lose(index, DropCause::Expired, &queued.message.view(), now_ms);
                continue;
            }
            let holds = held || queued.qos == QoS::ExactlyOnce;
            if queued.entry != 0 && acknowledged && holds {
                self.hold(index, queued);
                continue;
            }
            self.send_queued(slot, index, &queued, None, false, now_ms);
        }
    }

    /// Sends a message from the outbox, or again with its former Packet Identifier.
    fn send_queued(
        &mut self,
        slot: u32,
        index: SessionIndex,
        queued: &Queued,
        identifier: Option<PacketIdentifier>,
        dup: bool,
        now_ms: u64,
    ) {
        let view = queued.message.view();
        let mut publish = publish_out(
            &view,
            queued.qos,
            queued.retain,
            &queued.subscription_identifiers,
            now_ms,
        );
        publish.dup = dup && queued.qos != QoS::AtMostOnce && !fault::on(Fault::DupLost);
        if queued.qos != QoS::AtMostOnce {
            publish.packet_identifier = Some(identifier.unwrap_or(PacketIdentifier::MAX));
        }
        let Some((_, session, connection)) = self.connected(index) else {
            return;
        };
        let packet_bytes = publish.packet_bytes(connection.version());
        let too_large = packet_bytes > connection.terms.packet_bytes_max as usize;
        if too_large && !fault::on(Fault::LargePacketSent) {
            if let Some(identifier) = identifier {
                session.delivery_mut().in_flight.remove(identifier);
            }
            let (number, durability) = session.log_key();
            record_done(&mut self.journal, number, durability, queued);
            self.lose(index, DropCause::PacketTooLarge, &view, now_ms);
            return;
        }
        if queued.qos != QoS::AtMostOnce && identifier.is_none() {
            let identifier = session.delivery_mut().in_flight.push(queued.clone());
            publish.packet_identifier = Some(identifier);
            let (number, durability) = session.log_key();
            record_sent(&mut self.journal, number, durability, queued, identifier);
        } else if queued.entry != 0 && queued.qos == QoS::AtMostOnce {
            let (number, durability) = session.log_key();
            record_done(&mut self.journal, number, durability, queued);
        }
        self.append(
            slot,
            index,
            &publish,
            packet_bytes,
            &mut Publication::of(&queued.message),
            now_ms,
        );
    }
}
