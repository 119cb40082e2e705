//! What the log is told: the records of sessions, subscriptions and queued messages.
//!
//! Only sessions with a number are recorded: those that outlive their connection, where a listener promises
//! more than memory. A QoS 2 message leaves only when its record is safe, for its Packet Identifier must
//! never mean another message to a client that remembers it; QoS 1 leaves at once, unless something before
//! it waits.

use crate::config::limits::Durability;
use crate::journal::record::{Content, Progress, QueuedRecord, WillRecord};
use crate::journal::{Journal, Record};
use crate::mqtt::data_types::{PacketIdentifier, QoS};
use crate::mqtt::packet::publish::PublishOut;
use crate::routing::application_message::MessageView;
use crate::routing::ids::SessionIndex;
use crate::routing::shared_subscription::GroupName;
use crate::session::Recorded;
use crate::session::inflight::{InFlight, Stage};
use crate::session::outbox::{Queued, SubscriptionIdentifiers};
use crate::session::will::Will;

use super::Broker;
use super::clients::Clients;
use super::delivery::{Publication, Target};
use super::durable::Due;

/// A message as the log has it: its expiry is what is left of it.
pub(super) fn content_of<'a>(view: &MessageView<'a>, now_ms: u64) -> Content<'a> {
    Content {
        topic: view.topic,
        forwarded_properties: view.forwarded_properties,
        payload: view.payload,
        qos: view.qos,
        retain: view.retain,
        expires_in_ms: view
            .expires_at_ms
            .map(|expires_at_ms| expires_at_ms.saturating_sub(now_ms)),
    }
}

/// A message has left the queue of a session.
pub(super) fn record_done(
    journal: &mut Journal,
    session: u64,
    durability: Durability,
    queued: &Queued,
) {
    if queued.entry != 0 && journal.is_on() {
        let record = Record::Done {
            session,
            entry: queued.entry,
        };
        journal.append(&record, durability);
    }
}

/// A message of the outbox is sent.
pub(super) fn record_sent(
    journal: &mut Journal,
    session: u64,
    durability: Durability,
    queued: &Queued,
    identifier: PacketIdentifier,
) {
    if queued.entry != 0 && journal.is_on() {
        let record = Record::Sent {
            session,
            entry: queued.entry,
            packet_identifier: identifier.get(),
        };
        journal.append(&record, durability);
    }
}

/// How far a message in the window has come, as the log has it.
pub(super) fn progress_of(identifier: PacketIdentifier, entry: &InFlight) -> Progress {
    match entry.stage {
        Stage::Fresh | Stage::Published | Stage::Resend => Progress::Sent(identifier.get()),
        Stage::Released | Stage::ResendRelease => Progress::Received(identifier.get()),
    }
}

/// Records a message and its place in a queue, both anew. `entry` is its name, or 0 for a new one.
pub(super) fn record_entry(
    journal: &mut Journal,
    (session, durability): (u64, Durability),
    queued: &mut Queued,
    group: Option<&GroupName>,
    progress: Progress,
    now_ms: u64,
) {
    let content = content_of(&queued.message.view(), now_ms);
    let message = Record::Message {
        content,
        origin: None,
    };
    queued.location = journal.append(&message, durability);
    append_queued(journal, session, durability, queued, group, progress);
}

fn append_queued(
    journal: &mut Journal,
    session: u64,
    durability: Durability,
    queued: &mut Queued,
    group: Option<&GroupName>,
    progress: Progress,
) {
    if queued.entry == 0 {
        queued.entry = journal.position();
    }
    let record = Record::Queued(QueuedRecord {
        session,
        entry: queued.entry,
        message: queued.location,
        qos: queued.qos,
        retain: queued.retain,
        progress,
        group: group.map(|group| (&*group.share_name, &*group.filter)),
        subscription_identifiers: queued.subscription_identifiers.clone(),
    });
    journal.append(&record, durability);
}

impl Clients {
    /// Whether a recorded session may take a message; otherwise its publisher is refused.
    pub(super) fn may_record(&self, publication: &mut Publication<'_>) -> bool {
        publication.refused |= self.journal.is_full();
        !self.journal.is_full()
    }

    /// Records that a session has a message in its queue; the message itself once for all sessions.
    pub(super) fn record_queued(
        &mut self,
        target: &Target<'_>,
        queued: &mut Queued,
        publication: &mut Publication<'_>,
        progress: Progress,
        now_ms: u64,
    ) {
        let Some(session) = self.session(target.session) else {
            return;
        };
        let (number, durability) = session.log_key();
        queued.location = match publication.location {
            Some(location) => location,
            None => {
                let record = Record::Message {
                    content: content_of(&publication.view, now_ms),
                    origin: publication.origin,
                };
                let location = self.journal.append(&record, durability);
                publication.location = Some(location);
                location
            }
        };
        let group = target.group.map(|(_, name)| name);
        append_queued(
            &mut self.journal,
            number,
            durability,
            queued,
            group,
            progress,
        );
    }

    /// Delivers a message that fits to a recorded session whose window is open.
    pub(super) fn deliver_recorded(
        &mut self,
        target: &Target<'_>,
        publish: &mut PublishOut<'_>,
        packet_bytes: usize,
        publication: &mut Publication<'_>,
        now_ms: u64,
    ) {
        if !self.may_record(publication) {
            return;
        }
        let mut queued = Queued {
            message: publication.share(),
            qos: publish.qos,
            retain: target.retain,
            shared_group: target.group.map(|(group, _)| group),
            subscription_identifiers: SubscriptionIdentifiers::from_slice(
                target.subscription_identifiers,
            ),
            entry: 0,
            location: 0,
        };
        let Some(session) = self.session_mut(target.session) else {
            return;
        };
        let in_flight = &mut session.delivery_mut().in_flight;
        let holds = publish.qos == QoS::ExactlyOnce || in_flight.needs_resend();
        let identifier = in_flight.next_identifier();
        let progress = Progress::Sent(identifier.get());
        self.record_queued(target, &mut queued, publication, progress, now_ms);
        if holds {
            self.push_held(target.session, queued);
            return;
        }
        let Some((slot, session, _)) = self.connected(target.session) else {
            return;
        };
        publish.packet_identifier = Some(session.delivery_mut().in_flight.push(queued));
        self.append(
            slot,
            target.session,
            publish,
            packet_bytes,
            publication,
            now_ms,
        );
    }

    /// A message of the outbox gets its Packet Identifier and is sent when that is safe.
    pub(super) fn hold(&mut self, index: SessionIndex, queued: Queued) {
        let Some(session) = self.sessions.get_mut(index as usize) else {
            return;
        };
        let identifier = session.delivery_mut().in_flight.next_identifier();
        let (number, durability) = session.log_key();
        record_sent(&mut self.journal, number, durability, &queued, identifier);
        self.push_held(index, queued);
    }

    fn push_held(&mut self, index: SessionIndex, queued: Queued) {
        let safe_at = self.journal.end();
        let Some(session) = self.sessions.get_mut(index as usize) else {
            return;
        };
        session.delivery_mut().in_flight.push_fresh(queued, safe_at);
        let generation = session.generation;
        let gathers_from = self.journal.group_start();
        // One pump serves all that the session gets in one group.
        match self.due.back_mut() {
            Some((at, Due::Pump { session: same, .. })) if *same == index && *at > gathers_from => {
                *at = safe_at;
            }
            _ => self.due.push_back((
                safe_at,
                Due::Pump {
                    session: index,
                    generation,
                },
            )),
        }
    }
}

impl Broker {
    /// Begins to record a session, with all that it has.
    pub(super) fn begin_recording(
        &mut self,
        index: SessionIndex,
        durability: Durability,
        now_ms: u64,
    ) {
        self.session_count += 1;
        let number = self.session_count << 16 | u64::from(self.id.0);
        if let Some(session) = self.clients.session_mut(index) {
            session.recorded = Some(Box::new(Recorded {
                number,
                location: 0,
                detached_at_ms: 0,
                durability,
            }));
        }
        self.record_whole(index, now_ms);
    }

    /// Records a session, its subscriptions and its queue.
    pub(super) fn record_whole(&mut self, index: SessionIndex, now_ms: u64) {
        self.record_with_subscriptions(index, now_ms);
        self.record_queue(index, u64::MAX, usize::MAX, now_ms);
    }

    /// Records a session and its subscriptions.
    pub(super) fn record_with_subscriptions(&mut self, index: SessionIndex, now_ms: u64) {
        let location = self.clients.journal.position();
        self.record_session(index, now_ms);
        self.record_subscriptions(index);
        if let Some(session) = self.clients.session_mut(index)
            && let Some(recorded) = &mut session.recorded
        {
            recorded.location = location;
        }
    }

    /// Records a session as it is now, without subscriptions and queue.
    pub(super) fn record_session(&mut self, index: SessionIndex, now_ms: u64) {
        let Some(session) = self.clients.sessions.get_mut(index as usize) else {
            return;
        };
        let Some(recorded) = &session.recorded else {
            return;
        };
        let record = Record::Session {
            session: recorded.number,
            client_identifier: &session.client_identifier,
            expiry_interval_s: session.expiry_interval_s,
            detached_s: session
                .connection()
                .is_none()
                .then(|| now_ms.saturating_sub(recorded.detached_at_ms) / 1000),
            will: session.will.as_deref().map(|will| will_record(will)),
        };
        self.clients.journal.append(&record, recorded.durability);
    }

    /// Records all subscriptions of a session.
    fn record_subscriptions(&mut self, index: SessionIndex) {
        let Some(session) = self.clients.sessions.get(index as usize) else {
            return;
        };
        let journal = &mut self.clients.journal;
        let (number, durability) = session.log_key();
        let mut record = |filter: &str, options: u8, identifier: u32| {
            let record = Record::Subscribed {
                session: number,
                filter,
                options,
                identifier,
            };
            journal.append(&record, durability);
        };
        for filter in session.subscriptions.iter() {
            if let Some(found) = self.local.subscription(filter, index) {
                let text = self.local.filter(filter);
                record(text, found.options(), found.subscription_identifier);
            }
        }
        for group in session.shared.iter().flat_map(|groups| groups.iter()) {
            let Some(name) = self.group_members.name(*group) else {
                continue;
            };
            if let Some(member) = self.group_members.member(*group, index) {
                let text = format!("$share/{}/{}", name.share_name, name.filter);
                record(&text, member.options(), member.subscription_identifier);
            }
        }
    }

    /// Records the messages of a session's queue that the log has before `before`, up to `bytes_max` of
    /// them. Tells whether that was all.
    pub(super) fn record_queue(
        &mut self,
        index: SessionIndex,
        before: u64,
        bytes_max: usize,
        now_ms: u64,
    ) -> bool {
        let journal = &mut self.clients.journal;
        let Some(session) = self.clients.sessions.get_mut(index as usize) else {
            return true;
        };
        let of_session = session.log_key();
        let groups = session.shared.clone();
        let Some(delivery) = session.delivery.as_mut() else {
            return true;
        };
        let in_flight = delivery
            .in_flight
            .iter_mut()
            .map(|(identifier, entry)| (progress_of(identifier, entry), &mut entry.queued));
        let waiting = delivery
            .outbox
            .iter_mut()
            .map(|queued| (Progress::Waiting, queued));
        let left = delivery.left_groups.as_deref();
        let mut bytes = 0;
        for (progress, queued) in in_flight.chain(waiting) {
            let recorded = queued.entry != 0 && queued.location >= before;
            if recorded || (queued.qos == QoS::AtMostOnce && queued.entry == 0) {
                continue;
            }
            if bytes >= bytes_max {
                return false;
            }
            bytes += queued.message.bytes();
            let members = &self.group_members;
            let group = queued.shared_group.and_then(|serial| {
                let mut groups = groups.iter().flat_map(|groups| groups.iter());
                let group = groups.find(|group| members.serial(**group) == Some(serial));
                let mut left = left.into_iter().flatten();
                let left = left.find(|(other, _)| *other == serial);
                let name = group.and_then(|group| members.name(*group));
                name.or(left.map(|(_, name)| name))
            });
            let group = group.map(|name| &**name);
            record_entry(journal, of_session, queued, group, progress, now_ms);
        }
        true
    }
}

fn will_record(will: &Will) -> WillRecord<'_> {
    WillRecord {
        content: content_of(&will.message.view(), 0),
        delay_s: will.delay_s,
        message_expiry_interval_s: will.message_expiry_interval_s.map(u64::from),
    }
}
