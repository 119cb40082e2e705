//! PUBLISH (3.3): from the packet to everyone who wants the message.

use crate::config::SharedStrategy;
use crate::config::limits::{ENVELOPE_COST_BYTES, Overlapping};
use crate::journal::{Origin, Record};
use crate::mqtt::data_types::{PacketIdentifier, ProtocolVersion, QoS};
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::acknowledgement::Acknowledgement;
use crate::mqtt::packet::publish::Publish;
use crate::mqtt::reason_code::ReasonCode;
use crate::observability::counters::DropCause;
use crate::observability::recorder::What;
use crate::routing::application_message::{ApplicationMessage, MessageView};
use crate::routing::ids::SessionIndex;
use crate::routing::interest_index::ShardBits;
use crate::routing::local_index::Subscriber;
use crate::routing::topic_hash::shard_of;
use crate::session::inbound_qos2::Reception;
use crate::session::outbox::SubscriptionIdentifiers;

use super::delivery::{Publication, Target};
use super::durable::{Acknowledge, Addressee};
use super::envelope::{Answer, Asked, Envelope, SharedEnvelope};
use super::fault::{self, Fault};
use super::receive::Violation;
use super::record::content_of;
use super::{Broker, Now};

/// A subscription that matches, when several do.
pub(super) type Matched = Subscriber;

/// Who published, as far as routing needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Publisher {
    /// For No Local; none for the broker's own messages and other shards'.
    pub(super) session: Option<SessionIndex>,
    /// For shared groups that keep to one member.
    pub(super) hash: u64,
    /// The acknowledgement that waits until the message is safe.
    pub(super) asked: Option<u64>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Routed {
    /// Somebody wants it.
    pub(super) anyone: bool,
    /// It was to be retained here, and the limits did not allow it.
    over_limit: bool,
}

impl Broker {
    /// A PUBLISH of a client.
    pub(super) fn publish(
        &mut self,
        slot: u32,
        session: SessionIndex,
        publish: &Publish<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        self.clients
            .counters
            .count_received(publish.qos, publish.payload.len());
        let mut alias_topic = String::new();
        let topic = self.resolve_alias(slot, publish, &mut alias_topic)?;
        self.clients.count_message(slot);
        let version = self
            .clients
            .connection(slot)
            .map_or(ProtocolVersion::V3_1_1, |c| c.version());
        let fault = match self.publish_fault(slot, topic, publish)? {
            None => self.check_publish(slot, session, topic, version, now)?,
            fault => fault,
        };
        if fault.is_some() {
            self.note_refused(session, topic, publish, now);
        }
        match (publish.qos, publish.packet_identifier) {
            (QoS::ExactlyOnce, Some(identifier)) => {
                self.publish_exactly_once(slot, session, publish, topic, fault, identifier, now)
            }
            (QoS::AtLeastOnce, Some(identifier)) => {
                if self.waits_for_log(slot) && (fault.is_none() || self.has_pending(slot)) {
                    let waiting = Acknowledge::PubAck {
                        to: self.addressee(slot),
                        identifier,
                        reason_code: ReasonCode::Success,
                    };
                    self.accept_and_wait(waiting, session, publish, topic, fault, now);
                    return Ok(());
                }
                if let Some(fault) = fault {
                    self.answer_error(slot, PacketType::PubAck, identifier, fault);
                    return Ok(());
                }
                let reason_code =
                    accepted(self.accept(session, publish, topic, Asked::default(), now));
                let ack = Acknowledgement::new(identifier, reason_code);
                self.clients
                    .send(slot, |out| ack.encode(version, PacketType::PubAck, out));
                Ok(())
            }
            _ => {
                if fault.is_none() {
                    self.accept(session, publish, topic, Asked::default(), now);
                }
                Ok(())
            }
        }
    }

    /// QoS 2: the message is routed when its PUBLISH is accepted, and never again until PUBREL (4.3.3,
    /// method B).
    #[allow(clippy::too_many_arguments)] // each is a part of one packet's handling
    fn publish_exactly_once(
        &mut self,
        slot: u32,
        index: SessionIndex,
        publish: &Publish<'_>,
        topic: &str,
        fault: Option<Violation>,
        identifier: PacketIdentifier,
        now: Now,
    ) -> Result<(), Violation> {
        let Some(connection) = self.clients.connection(slot) else {
            return Ok(());
        };
        let (version, unreleased) = (connection.version(), connection.unreleased);
        let receive_maximum = self
            .listener(connection.listener)
            .capabilities
            .receive_maximum;
        let to = Addressee {
            slot,
            serial: connection.serial,
        };
        let waits = self.waits_for_log(slot);
        let Some(session) = self.clients.session_mut(index) else {
            return Ok(());
        };
        let generation = session.generation;
        let inbound = &mut session.delivery_mut().inbound_qos2;
        let known = inbound.find(identifier);
        let known = known.filter(|_| !fault::on(Fault::ExactlyOnceTwice));
        if known == Some(Reception::Waiting) {
            self.readdress(index, identifier, slot);
            return Ok(());
        }
        let pubrec = Acknowledge::PubRec {
            to,
            session: index,
            generation,
            identifier,
            reason_code: ReasonCode::Success,
        };
        let reason_code = if known == Some(Reception::Done) {
            ReasonCode::Success
        } else if let Some(fault) = fault {
            if waits && self.has_pending(slot) {
                self.accept_and_wait(pubrec, index, publish, topic, Some(fault), now);
            } else {
                self.answer_error(slot, PacketType::PubRec, identifier, fault);
            }
            return Ok(());
        } else {
            if version.is_v5() && unreleased >= receive_maximum {
                // [MQTT-3.3.4-7]
                return Err(Violation::new(
                    ReasonCode::ReceiveMaximumExceeded,
                    "more QoS 2 than Receive Maximum",
                ));
            }
            let reception = match waits {
                true => Reception::Waiting,
                false => Reception::Done,
            };
            inbound.insert(identifier, reception);
            if let Some(connection) = self.clients.connection_mut(slot) {
                connection.unreleased = unreleased.saturating_add(1);
            }
            if waits {
                self.accept_and_wait(pubrec, index, publish, topic, None, now);
                return Ok(());
            }
            let routed = self.accept(index, publish, topic, Asked::default(), now);
            let reason_code = accepted(routed);
            if version.is_v5() && reason_code.is_error() {
                // PUBREC with an error ends the flow, and the identifier is free again [MQTT-4.3.3-9].
                if let Some(session) = self.clients.session_mut(index) {
                    session.delivery_mut().inbound_qos2.release(identifier);
                }
                if let Some(connection) = self.clients.connection_mut(slot) {
                    connection.unreleased = unreleased;
                }
            }
            reason_code
        };
        let ack = Acknowledgement::new(identifier, reason_code);
        self.clients
            .send(slot, |out| ack.encode(version, PacketType::PubRec, out));
        Ok(())
    }

    /// Routes a PUBLISH, or not because of its fault; the acknowledgement follows when all is safe that
    /// must be.
    fn accept_and_wait(
        &mut self,
        waiting: Acknowledge,
        session: SessionIndex,
        publish: &Publish<'_>,
        topic: &str,
        fault: Option<Violation>,
        now: Now,
    ) {
        let session_key = match publish.qos {
            QoS::ExactlyOnce => self.session_key(session),
            _ => None,
        };
        let origin = session_key.zip(publish.packet_identifier);
        let number = self.begin_acknowledgement(waiting);
        let asked = Asked {
            number: Some(number),
            origin: origin.map(|(session_key, identifier)| Origin {
                session_key,
                packet_identifier: identifier.get(),
            }),
        };
        let reason_code = match fault {
            Some(fault) => fault.reason_code,
            None => accepted(self.accept(session, publish, topic, asked, now)),
        };
        self.asked_all(number, Some(reason_code), now);
    }

    /// The Topic Name of a PUBLISH, by its Topic Alias if it has one (3.3.2.3.4).
    fn resolve_alias<'a>(
        &mut self,
        slot: u32,
        publish: &Publish<'a>,
        resolved: &'a mut String,
    ) -> Result<&'a str, Violation> {
        let Some(alias) = publish.properties.topic_alias else {
            return Ok(publish.topic_name);
        };
        let refuse = |reason_code| {
            Violation::new(
                reason_code,
                "a Topic Alias that is not set or over the maximum",
            )
        };
        let Some(connection) = self.clients.connection_mut(slot) else {
            return Ok(publish.topic_name);
        };
        let listener = usize::from(connection.listener).min(self.config.listeners.len() - 1);
        let maximum = self.config.listeners[listener]
            .limits
            .capabilities
            .topic_alias_maximum;
        let aliases = connection.inbound_aliases();
        if publish.topic_name.is_empty() {
            resolved.push_str(aliases.resolve(alias, maximum).map_err(refuse)?);
            return Ok(resolved);
        }
        aliases
            .set(alias, publish.topic_name, maximum)
            .map_err(refuse)?;
        Ok(publish.topic_name)
    }

    /// Why a PUBLISH is not accepted: with an acknowledgement where there is one, or else by ending the
    /// connection.
    fn publish_fault(
        &self,
        slot: u32,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Result<Option<Violation>, Violation> {
        let listener = self
            .clients
            .connection(slot)
            .map_or(0, |connection| connection.listener);
        let capabilities = &self.listener(listener).capabilities;
        if publish.qos as u8 > capabilities.maximum_qos {
            return Err(Violation::new(
                ReasonCode::QoSNotSupported,
                "QoS is over maximum_qos",
            )); // [MQTT-3.2.2-11]
        }
        if publish.retain && !capabilities.retain_available {
            // [MQTT-3.2.2-14]
            return Err(Violation::new(
                ReasonCode::RetainNotSupported,
                "RETAIN without retain_available",
            ));
        }
        if let Some(cause) = self.topic_fault(topic) {
            // Choice: before 5.0 no acknowledgement can refuse, so the message is dropped and acknowledged.
            return match topic.starts_with('$') {
                true => Ok(Some(Violation::new(ReasonCode::NotAuthorized, cause))),
                false => Err(Violation::new(ReasonCode::TopicNameInvalid, cause)),
            };
        }
        let declared_utf8 = publish.properties.payload_format_indicator == Some(true);
        if declared_utf8
            && self.config.message.validate_payload_format
            && std::str::from_utf8(publish.payload).is_err()
        {
            let fault =
                Violation::new(ReasonCode::PayloadFormatInvalid, "the payload is not UTF-8");
            return match publish.qos {
                QoS::AtMostOnce => Err(fault),
                _ => Ok(Some(fault)),
            };
        }
        Ok(None)
    }

    /// Routes an accepted PUBLISH.
    #[inline]
    fn accept(
        &mut self,
        session: SessionIndex,
        publish: &Publish<'_>,
        topic: &str,
        asked: Asked,
        now: Now,
    ) -> Routed {
        let mut scratch = std::mem::take(&mut self.properties);
        let expiry_ms = publish
            .properties
            .message_expiry_interval_s
            .map(|seconds| u64::from(seconds) * 1000);
        let view = MessageView {
            topic,
            topic_hash: self.hasher.hash(topic),
            forwarded_properties: publish.properties.forwarded(&mut scratch),
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            expires_at_ms: expiry_ms.map(|expiry_ms| now.mono_ms + expiry_ms),
        };
        let hash = match self.group_replica.is_empty() {
            true => 0,
            false => self.publisher_hash(session),
        };
        let publisher = Publisher {
            session: Some(session),
            hash,
            asked: asked.number,
        };
        let mut publication = Publication::new(view);
        publication.origin = asked.origin;
        let mark = self.clients.sight.recorder.mark();
        let routed = self.route(&mut publication, publisher, now);
        self.clients
            .note_message(session, What::Received, &view, mark, now.mono_ms);
        self.properties = scratch;
        routed
    }

    /// Notes a message that is not accepted.
    #[cold]
    fn note_refused(
        &mut self,
        session: SessionIndex,
        topic: &str,
        publish: &Publish<'_>,
        now: Now,
    ) {
        let view = MessageView {
            topic,
            topic_hash: self.hasher.hash(topic),
            forwarded_properties: &[],
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            expires_at_ms: None,
        };
        let mark = self.clients.sight.recorder.mark();
        self.clients
            .note_message(session, What::Refused, &view, mark, now.mono_ms);
    }

    fn publisher_hash(&self, session: SessionIndex) -> u64 {
        self.clients
            .session(session)
            .map_or(0, |session| self.hasher.hash(&session.client_identifier).0)
    }

    /// Brings a message to everyone who wants it, on every shard.
    pub(super) fn route(
        &mut self,
        publication: &mut Publication<'_>,
        publisher: Publisher,
        now: Now,
    ) -> Routed {
        let over_limit = publication.view.retain && !self.retain(publication, publisher.asked, now);
        let mut anyone = self.route_local(publication, publisher.session, now);
        if let Some(number) = publisher.asked
            && publication.outcome() != Answer::NOTHING
        {
            self.expect_answer(number);
            self.answer_or_wait(self.id, publisher.asked, publication.outcome(), now);
        }
        if !self.group_replica.is_empty() {
            anyone |= self.route_shared(publication, publisher, now);
        }
        if self.shard_count > 1 {
            let mut shards = ShardBits::default();
            self.interest.matching(
                publication.view.topic,
                publication.view.topic_hash,
                &mut shards,
            );
            let asked = Asked {
                number: publisher.asked,
                origin: publication.origin,
            };
            for shard in shards.iter() {
                let view = publication.view;
                self.clients.routing_cost += ENVELOPE_COST_BYTES;
                self.clients.sight.recorder.forwarded += 1;
                self.mesh
                    .stage_publish(shard, &view, &asked, || publication.share());
                if let Some(number) = publisher.asked {
                    self.expect_answer(number);
                }
                anyone = true;
            }
        }
        Routed { anyone, over_limit }
    }

    /// Delivers a message to the subscribers of this shard.
    #[inline]
    pub(super) fn route_local(
        &mut self,
        publication: &mut Publication<'_>,
        publisher: Option<SessionIndex>,
        now: Now,
    ) -> bool {
        if let Some(origin) = &publication.origin
            && self.origins.contains(origin)
        {
            // It has come again since it was recorded here, before the broker was started.
            publication.location = Some(0);
            return true;
        }
        let publisher = publisher.filter(|_| !fault::on(Fault::NoLocalIgnored));
        self.found.clear();
        self.local.matching(
            publication.view.topic,
            publication.view.topic_hash,
            &mut self.found,
        );
        let anyone = match self.found.as_slice() {
            [] => return false,
            [filter] => {
                let mut anyone = false;
                let subscribers = self.local.subscribers(*filter);
                publication.several = subscribers.len() > 1;
                if publication.several {
                    self.clients.prefab.reset();
                }
                for subscriber in subscribers {
                    if subscriber.no_local() && publisher == Some(subscriber.session) {
                        continue; // [MQTT-3.8.3-3]
                    }
                    anyone = true;
                    let identifier = [subscriber.subscription_identifier];
                    let target = target(
                        subscriber,
                        publication.view.retain,
                        identifiers(&identifier),
                    );
                    self.clients.deliver(&target, publication, now.mono_ms);
                }
                anyone
            }
            _ => self.route_overlapping(publication, publisher, now),
        };
        if publication.location.is_some() {
            self.origins.extend(publication.origin);
        }
        anyone
    }

    /// Delivers where several filters match: sessions that hold more than one of them get one copy with the
    /// highest QoS and all Subscription Identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-3], or, as configured, one
    /// for each.
    fn route_overlapping(
        &mut self,
        publication: &mut Publication<'_>,
        publisher: Option<SessionIndex>,
        now: Now,
    ) -> bool {
        let mut matched = std::mem::take(&mut self.matched);
        matched.clear();
        for filter in &self.found {
            matched.extend_from_slice(self.local.subscribers(*filter));
        }
        matched
            .retain(|subscriber| !(subscriber.no_local() && publisher == Some(subscriber.session)));
        publication.several = matched.len() > 1;
        self.clients.prefab.reset();
        if self.config.message.overlapping == Overlapping::Separate
            || fault::on(Fault::OverlappingTwice)
        {
            for subscriber in &matched {
                let identifier = [subscriber.subscription_identifier];
                let target = target(
                    subscriber,
                    publication.view.retain,
                    identifiers(&identifier),
                );
                self.clients.deliver(&target, publication, now.mono_ms);
            }
        } else {
            matched.sort_by_key(|subscriber| subscriber.session);
            for same in matched.chunk_by(|one, other| one.session == other.session) {
                let qos = same.iter().map(Subscriber::qos_bits).max().unwrap_or(0);
                let as_published = same.iter().any(Subscriber::retain_as_published);
                let ids: SubscriptionIdentifiers = same
                    .iter()
                    .map(|one| one.subscription_identifier)
                    .filter(|id| *id != 0)
                    .take(match fault::on(Fault::IdentifiersLost) {
                        true => 1,
                        false => usize::MAX,
                    })
                    .collect();
                let target = Target {
                    session: same[0].session,
                    qos: QoS::from_bits(qos).unwrap_or(QoS::AtMostOnce),
                    retain: as_published && publication.view.retain,
                    subscription_identifiers: &ids,
                    group: None,
                };
                self.clients.deliver(&target, publication, now.mono_ms);
            }
        }
        let anyone = !matched.is_empty();
        self.matched = matched;
        anyone
    }

    /// Sends a message to one member of each shared group that matches.
    fn route_shared(
        &mut self,
        publication: &mut Publication<'_>,
        publisher: Publisher,
        now: Now,
    ) -> bool {
        let mut found = std::mem::take(&mut self.found);
        found.clear();
        self.group_replica.matching(
            publication.view.topic,
            publication.view.topic_hash,
            &mut found,
        );
        let strategy = self.config.shared_strategy;
        let affinity = match strategy {
            SharedStrategy::HashOfTopic => publication.view.topic_hash.0,
            _ => publisher.hash,
        };
        let mut anyone = false;
        for filter in &found {
            for position in 0..self.group_replica.group_count(*filter) {
                let picked = self
                    .group_replica
                    .pick_shard(*filter, position, strategy, affinity);
                let Some((shard, name)) = picked else {
                    continue;
                };
                if let Some(number) = publisher.asked {
                    self.expect_answer(number);
                }
                let shared = SharedEnvelope {
                    message: publication.share(),
                    name,
                    affinity,
                    tried: ShardBits::default(),
                    asked: publisher.asked.map(|number| (self.id, number)),
                };
                anyone = true;
                if shard == self.id {
                    self.deliver_shared(shared, now);
                } else {
                    self.clients.sight.recorder.forwarded += 1;
                    self.mesh.stage(shard, Envelope::Shared(Box::new(shared)));
                }
            }
        }
        self.found = found;
        anyone
    }

    /// Hands a message with RETAIN to the shard that owns its topic's retained message; false if that is
    /// this one and has no room.
    fn retain(&mut self, publication: &mut Publication<'_>, asked: Option<u64>, now: Now) -> bool {
        let owner = shard_of(publication.view.topic_hash, self.shard_count);
        let message = publication.share();
        if let Some(number) = asked {
            self.expect_answer(number);
        }
        if owner == self.id {
            let (kept, outcome) = self.set_retained(message, now);
            self.answer_or_wait(owner, asked, outcome, now);
            return kept;
        }
        self.mesh.stage(owner, Envelope::Retain { message, asked });
        true
    }

    /// Sets or clears a retained message that this shard owns. An empty payload clears and is not kept
    /// [MQTT-3.3.1-6] [MQTT-3.3.1-7]. Tells whether the limits allowed it, and what to tell the shard that
    /// asked.
    pub(super) fn set_retained(&mut self, message: ApplicationMessage, now: Now) -> (bool, u8) {
        let records = self.clients.journal.is_on();
        if message.view().payload.is_empty() || message.is_expired(now.mono_ms) {
            if fault::on(Fault::RetainedNotCleared)
                || !self.retained.clear(message.topic())
                || !records
            {
                return (true, Answer::NOTHING);
            }
            let topic = message.topic();
            self.record(&Record::RetainedGone { topic });
            return (true, Answer::RECORDED);
        }
        if records && self.clients.journal.is_full() {
            return (true, Answer::REFUSED);
        }
        if message.can_expire() {
            self.arm_sweep(now);
        }
        let new = records.then(|| ApplicationMessage::clone(&message));
        let kept = self
            .retained
            .set(message, &self.config.retained, now.mono_ms);
        if !kept {
            self.clients
                .counters
                .drop_messages(DropCause::RetainedLimit, 1);
        }
        let Some(message) = new else {
            return (kept, Answer::NOTHING);
        };
        if !kept {
            // The former one is gone.
            let topic = message.topic();
            self.record(&Record::RetainedGone { topic });
            return (false, Answer::RECORDED);
        }
        let content = content_of(&message.view(), now.mono_ms);
        let record = Record::Retained { content };
        let location = self.clients.journal.append(&record, self.durability_max);
        self.retained.set_location(message.topic(), location);
        (true, Answer::RECORDED)
    }
}

/// PUBACK and PUBREC say when nobody was there or when it is not retained, which 3.1.1 leaves out by itself.
fn accepted(routed: Routed) -> ReasonCode {
    match routed {
        Routed {
            over_limit: true, ..
        } => ReasonCode::QuotaExceeded,
        Routed { anyone: true, .. } => ReasonCode::Success,
        Routed { anyone: false, .. } => ReasonCode::NoMatchingSubscribers,
    }
}

/// None, or the one.
#[inline]
fn identifiers(identifier: &[u32; 1]) -> &[u32] {
    match identifier {
        [0] => &[],
        one => one,
    }
}

#[inline]
fn target<'a>(
    subscriber: &Subscriber,
    retain: bool,
    subscription_identifiers: &'a [u32],
) -> Target<'a> {
    Target {
        session: subscriber.session,
        qos: QoS::from_bits(subscriber.qos_bits()).unwrap_or(QoS::AtMostOnce),
        retain: retain && subscriber.retain_as_published(), // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
        subscription_identifiers,
        group: None,
    }
}
