//! SUBSCRIBE and UNSUBSCRIBE (3.8, 3.10), and telling the other shards.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::config::limits::Capabilities;
use crate::journal::Record;
use crate::mqtt::data_types::{ProtocolVersion, QoS};
use crate::mqtt::packet::suback::{SubAck, UnsubAck, answer_bytes};
use crate::mqtt::packet::subscribe::{RetainHandling, Subscribe, SubscriptionOptions};
use crate::mqtt::packet::unsubscribe::Unsubscribe;
use crate::mqtt::properties::Properties;
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::topic_filter::{TopicFilter, has_wildcards};
use crate::mqtt::topic_name::level_count;
use crate::routing::ids::{SessionIndex, ShardId};
use crate::routing::interest_index::{Interest, InterestChange};
use crate::routing::local_index::{FilterId, Subscriber};
use crate::routing::shared_subscription::GroupName;

use super::durable::Acknowledge;
use super::envelope::{Change, Envelope};
use super::fault::{self, Fault};
use super::receive::Violation;
use super::visibility::{PendingSuback, WantsRetained};
use super::{Broker, Now};

const FILTER_NOT_VALID: &str = "a Topic Filter is not valid";

/// What one SUBSCRIBE changes.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) changes: Vec<Change>,
    retained: SmallVec<[WantsRetained; 1]>,
    system_topics: bool,
}

impl Changes {
    /// What other shards must learn, and what is retained for it.
    pub(super) fn into_parts(self) -> (Vec<Change>, SmallVec<[WantsRetained; 1]>) {
        (self.changes, self.retained)
    }
}

impl Broker {
    /// SUBSCRIBE: the subscriptions are made now; SUBACK follows when every shard knows them.
    pub(super) fn subscribe(
        &mut self,
        slot: u32,
        session: SessionIndex,
        subscribe: &Subscribe<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let Some(connection) = self.clients.connection(slot) else {
            return Ok(());
        };
        let (listener, serial, version) =
            (connection.listener, connection.serial, connection.version());
        let capabilities = self.listener(listener).capabilities.clone();
        let identifier = subscribe.properties.subscription_identifier;
        if identifier.is_some() && !capabilities.subscription_identifiers_available {
            return Err(Violation::new(
                ReasonCode::SubscriptionIdentifiersNotSupported,
                "a Subscription Identifier without subscription_identifiers_available",
            ));
        }
        self.check_answer(slot, || subscribe.filters().count())?;
        let mut all = Changes::default();
        let mut reason_codes = Vec::new();
        let mut cause = None;
        let mut violation = None;
        for (text, options) in subscribe.filters() {
            let granted = QoS::from_bits(capabilities.maximum_qos.min(options.qos as u8));
            let options = SubscriptionOptions {
                qos: granted.unwrap_or(QoS::AtMostOnce),
                ..options
            };
            let filter = match self.check_filter(session, text, options, &capabilities, version) {
                Ok(filter) => filter,
                Err(FilterRefusal::Code(refusal)) => {
                    reason_codes.push(refusal.reason_code);
                    cause.get_or_insert(refusal.cause);
                    continue;
                }
                Err(FilterRefusal::Violation(fault)) => {
                    // What was subscribed before it stands, and the others must know.
                    violation = Some(fault);
                    break;
                }
            };
            if !self.may_subscribe(slot, session, filter.filter, now) {
                reason_codes.push(ReasonCode::NotAuthorized);
                cause.get_or_insert("the client may not subscribe to this Topic Filter");
                continue;
            }
            let subscriber = Subscriber::new(session, options, identifier.unwrap_or(0));
            if self.records(session) {
                if self.clients.journal.is_full() {
                    reason_codes.push(ReasonCode::QuotaExceeded);
                    continue;
                }
                self.record_of(session, |session| Record::Subscribed {
                    session,
                    filter: text,
                    options: options.to_byte(),
                    identifier: identifier.unwrap_or(0),
                });
            }
            self.add_subscription(&filter, subscriber, options, &mut all);
            reason_codes.push(match options.qos {
                QoS::AtMostOnce => ReasonCode::Success,
                QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
                QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
            });
        }
        if all.retained.is_empty() {
            self.broadcast(all.changes);
        } else {
            // Also if nothing changes: when all have confirmed, what was published before, and may have come
            // here already, is with the owners of its topics, who are asked then.
            self.stage_changes(all.changes);
        }
        if let Some(violation) = violation {
            for wanted in all.retained {
                self.abandon_retained(wanted);
            }
            return Err(violation);
        }
        if all.system_topics {
            self.want_system_topics(now);
        }
        self.visibility.wait(PendingSuback {
            sequence: self.visibility.issued(),
            safe_at: match self.records(session) {
                true => self.clients.journal.end(),
                false => 0,
            },
            slot,
            serial,
            packet_identifier: subscribe.packet_identifier,
            reason_codes,
            cause,
            retained: all.retained,
        });
        if let Some(connection) = self.clients.connection_mut(slot) {
            connection.pending_subacks += 1;
        }
        self.release_subacks(now);
        Ok(())
    }

    /// Refuses a request whose answer the client would not take [MQTT-3.1.2-24], before anything is done.
    fn check_answer(&self, slot: u32, filters: impl FnOnce() -> usize) -> Result<(), Violation> {
        let packet_bytes_max = self
            .clients
            .connection(slot)
            .map_or(u32::MAX, |connection| connection.terms.packet_bytes_max);
        match packet_bytes_max != u32::MAX && answer_bytes(filters()) > packet_bytes_max as usize {
            true => Err(Violation::new(
                ReasonCode::PacketTooLarge,
                "the answer is larger than the client's Maximum Packet Size",
            )),
            false => Ok(()),
        }
    }

    pub(super) fn check_filter<'a>(
        &self,
        session: SessionIndex,
        text: &'a str,
        options: SubscriptionOptions,
        capabilities: &Capabilities,
        version: ProtocolVersion,
    ) -> Result<TopicFilter<'a>, FilterRefusal> {
        let refuse =
            |reason_code, cause| Err(FilterRefusal::Code(Violation::new(reason_code, cause)));
        let limits = &self.config.message;
        let filter = match TopicFilter::parse(text) {
            Ok(filter) => filter,
            // Before 5.0 there is nothing but failure to say, or to end the connection [MQTT-3.8.3-1].
            Err(_) if !version.is_v5() => {
                return Err(FilterRefusal::Violation(Violation::new(
                    ReasonCode::TopicFilterInvalid,
                    FILTER_NOT_VALID,
                )));
            }
            Err(_) => return refuse(ReasonCode::TopicFilterInvalid, FILTER_NOT_VALID),
        };
        if text.len() > usize::from(limits.topic_bytes_max)
            || level_count(filter.filter) > usize::from(limits.topic_levels_max)
        {
            return refuse(
                ReasonCode::TopicFilterInvalid,
                "a Topic Filter is over topic_bytes_max or topic_levels_max",
            );
        }
        if filter.share_name.is_some() && options.no_local {
            // [MQTT-3.8.3-4]
            let cause = "No Local on a Shared Subscription";
            return Err(FilterRefusal::Violation(Violation::new(
                ReasonCode::ProtocolError,
                cause,
            )));
        }
        if filter.share_name.is_some() && !capabilities.shared_subscription_available {
            return refuse(
                ReasonCode::SharedSubscriptionsNotSupported,
                "a Shared Subscription without shared_subscription_available",
            );
        }
        if has_wildcards(filter.filter) && !capabilities.wildcard_subscription_available {
            return refuse(
                ReasonCode::WildcardSubscriptionsNotSupported,
                "a wildcard without wildcard_subscription_available",
            );
        }
        let held = self
            .clients
            .session(session)
            .map_or(0, crate::session::Session::subscription_count);
        let full = held >= self.config.session.subscriptions_max as usize;
        match full && !self.holds(session, &filter) {
            true => refuse(ReasonCode::QuotaExceeded, "subscriptions_max is reached"),
            false => Ok(filter),
        }
    }

    /// Whether a session has this subscription, so that it is only replaced.
    fn holds(&self, session: SessionIndex, filter: &TopicFilter<'_>) -> bool {
        let Some(share_name) = filter.share_name else {
            let found = self.local.find(filter.filter);
            return found.is_some_and(|found| self.local.subscription(found, session).is_some());
        };
        let name = GroupName {
            share_name: share_name.into(),
            filter: filter.filter.into(),
        };
        let group = self.group_members.find(&name);
        group.is_some_and(|group| self.group_members.has_member(group, session))
    }

    pub(super) fn add_subscription(
        &mut self,
        filter: &TopicFilter<'_>,
        subscriber: Subscriber,
        options: SubscriptionOptions,
        all: &mut Changes,
    ) {
        let Some((id, replaced)) = self.add_index_entry(filter, subscriber, all) else {
            return;
        };
        let wanted = match options.retain_handling {
            RetainHandling::SendAtSubscribe => true,
            RetainHandling::SendIfNew => !replaced, // [MQTT-3.3.1-10]
            RetainHandling::DoNotSend => false,
        };
        if !wanted {
            self.update_retained(id, subscriber);
            return;
        }
        if replaced {
            self.cancel_retained(subscriber.session, id);
        }
        // Where every retained message is here, most filters without wildcards need no delivery.
        let nothing_here = !has_wildcards(filter.filter) && !self.retained.contains(filter.filter);
        if self.shard_count > 1 || !nothing_here {
            let wanted = self.prepare_retained(id, filter.filter, subscriber);
            all.retained.extend(wanted);
        }
    }

    /// Adds a subscription to the indexes of this shard; gives the filter of one that is not shared, and
    /// whether it replaced one.
    pub(super) fn add_index_entry(
        &mut self,
        filter: &TopicFilter<'_>,
        subscriber: Subscriber,
        all: &mut Changes,
    ) -> Option<(FilterId, bool)> {
        all.system_topics |= filter.filter.starts_with("$SYS");
        if let Some(share_name) = filter.share_name {
            let name = GroupName {
                share_name: share_name.into(),
                filter: filter.filter.into(),
            };
            let (group, is_new) = self.group_members.join(name, subscriber);
            if is_new {
                self.clients.counters.subscriptions += 1;
                if let Some(session) = self.clients.session_mut(subscriber.session) {
                    session.shared.get_or_insert_default().push(group);
                }
                if let Some(name) = self.group_members.name(group).cloned() {
                    all.changes.push(Change::Group(self.group_change(&name)));
                }
            }
            return None;
        }
        let outcome = self.local.subscribe(filter.filter, subscriber);
        if !outcome.replaced {
            self.clients.counters.subscriptions += 1;
            if let Some(session) = self.clients.session_mut(subscriber.session) {
                session.subscriptions.insert(outcome.filter);
            }
        }
        if outcome.first_on_shard {
            all.changes.push(Change::Interest(InterestChange {
                interest: self.interest_in(filter.filter),
                add: true,
            }));
        }
        Some((outcome.filter, outcome.replaced))
    }

    /// Whether the log has a session.
    pub(super) fn records(&self, session: SessionIndex) -> bool {
        self.clients
            .session(session)
            .is_some_and(crate::session::Session::is_recorded)
    }

    /// A filter is subscribed no more; `filter` is as the client wrote it.
    pub(super) fn record_unsubscribed(&mut self, session: SessionIndex, filter: &str) {
        if self.records(session) {
            self.record_of(session, |session| Record::Unsubscribed { session, filter });
        }
    }

    pub(super) fn record_of<'a>(
        &mut self,
        session: SessionIndex,
        record: impl FnOnce(u64) -> Record<'a>,
    ) {
        if let Some(session) = self.clients.sessions.get(session as usize) {
            let (number, durability) = session.log_key();
            self.clients.journal.append(&record(number), durability);
        }
    }

    fn interest_in(&self, filter: &str) -> Interest {
        match has_wildcards(filter) {
            true => Interest::Wildcard(filter.into()),
            false => Interest::Exact(self.hasher.hash(filter)),
        }
    }

    /// Tells all the other shards of changes.
    pub(super) fn broadcast(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.stage_changes(changes);
        }
    }

    /// The same; also if there are none, so that all confirm what they have been sent before.
    pub(super) fn stage_changes(&mut self, changes: Vec<Change>) {
        if self.shard_count == 1 {
            return;
        }
        let changes: Arc<[Change]> = changes.into();
        let sequence = self.visibility.issue();
        for other in self.mesh.others() {
            let changes = Arc::clone(&changes);
            self.mesh
                .stage(other, Envelope::Changes { sequence, changes });
        }
    }

    /// Another shard has changed what it wants.
    pub(super) fn apply_changes(&mut self, from: ShardId, sequence: u64, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Interest(change)
                    if fault::on(Fault::InterestNotApplied)
                        && matches!(change.interest, Interest::Exact(_)) => {}
                Change::Interest(change) => self.interest.apply(change, from),
                Change::Group(change) => self.group_replica.apply(change, from),
            }
        }
        self.mesh.confirm(from, sequence);
    }

    /// Sends the SUBACKs whose subscriptions every shard knows, and what is retained for them: it is asked
    /// for only now, so that nothing falls between retained and live.
    pub(super) fn release_subacks(&mut self, now: Now) {
        let committed = self.clients.journal.committed();
        while let Some(suback) = self.visibility.next_visible(committed) {
            let connected = self.clients.session_of(suback.slot).is_some();
            let connection = self.clients.connection_mut(suback.slot);
            let connection = connection.filter(|connection| connection.serial == suback.serial);
            let found = connection.is_some();
            if let Some(connection) = connection {
                connection.pending_subacks -= 1;
            }
            if found && connected {
                let mut packet = SubAck {
                    packet_identifier: suback.packet_identifier,
                    reason_codes: suback.reason_codes,
                    properties: Properties::default(),
                };
                let encode = |version, properties, out: &mut Vec<u8>| {
                    packet.properties = properties;
                    packet.encode(version, out);
                };
                self.clients
                    .send_explained(suback.slot, suback.cause, encode);
            }
            // Also without a connection: the subscription is there if the session lasts, and to subscribe
            // once more need not bring them.
            let mut session = None;
            for wanted in suback.retained {
                session = self.begin_retained(wanted).or(session);
            }
            if let Some(session) = session {
                self.pump_retained(session, now);
            }
        }
    }

    /// UNSUBSCRIBE: nothing new arrives after UNSUBACK, since the subscription is gone from this shard's
    /// index at once; what is in flight is completed [MQTT-3.10.4-3].
    pub(super) fn unsubscribe(
        &mut self,
        slot: u32,
        session: SessionIndex,
        unsubscribe: &Unsubscribe<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let Some(connection) = self.clients.connection(slot) else {
            return Ok(());
        };
        let version = connection.version();
        self.check_answer(slot, || unsubscribe.filters().count())?;
        let mut changes = Vec::new();
        let mut reason_codes = Vec::new();
        let mut cause = None;
        let mut violation = None;
        for text in unsubscribe.filters() {
            let reason_code = match TopicFilter::parse(text) {
                Err(_) if !version.is_v5() => {
                    // What was unsubscribed before it is gone, and the others must know.
                    violation = Some(Violation::new(
                        ReasonCode::TopicFilterInvalid,
                        FILTER_NOT_VALID,
                    ));
                    break;
                }
                Err(_) => {
                    cause = Some(FILTER_NOT_VALID);
                    ReasonCode::TopicFilterInvalid
                }
                Ok(filter) => match self.remove_one(session, &filter, &mut changes) {
                    true => {
                        self.record_unsubscribed(session, text);
                        ReasonCode::Success
                    }
                    false => ReasonCode::NoSubscriptionExisted,
                },
            };
            reason_codes.push(reason_code);
        }
        self.broadcast(changes);
        if let Some(violation) = violation {
            return Err(violation);
        }
        let mut packet = UnsubAck {
            packet_identifier: unsubscribe.packet_identifier,
            reason_codes,
            properties: Properties::default(),
        };
        if self.records(session) {
            let to = self.addressee(slot);
            let packet = Box::new(packet);
            let number = self.begin_acknowledgement(Acknowledge::UnsubAck { to, packet, cause });
            self.expect_commit(number, now);
            self.asked_all(number, None, now);
            return Ok(());
        }
        let encode = |version, properties, out: &mut Vec<u8>| {
            packet.properties = properties;
            packet.encode(version, out);
        };
        self.clients.send_explained(slot, cause, encode);
        Ok(())
    }

    pub(super) fn remove_one(
        &mut self,
        session: SessionIndex,
        filter: &TopicFilter<'_>,
        changes: &mut Vec<Change>,
    ) -> bool {
        if let Some(share_name) = filter.share_name {
            let name = GroupName {
                share_name: share_name.into(),
                filter: filter.filter.into(),
            };
            let Some(group) = self.group_members.find(&name) else {
                return false;
            };
            let serial = self.group_members.serial(group);
            let Some(name) = self.group_members.leave(group, session, true) else {
                return false;
            };
            if let Some(session) = self.clients.session_mut(session)
                && let Some(groups) = session.shared.as_mut()
            {
                if let Some(position) = groups.iter().position(|other| *other == group) {
                    groups.swap_remove(position);
                }
                if groups.is_empty() {
                    session.shared = None;
                }
                if let (Some(delivery), Some(serial)) = (&mut session.delivery, serial) {
                    delivery.leave_group(serial, Arc::clone(&name));
                }
            }
            changes.push(Change::Group(self.group_change(&name)));
            self.clients.counters.subscriptions -= 1;
            return true;
        }
        let Some(found) = self.local.find(filter.filter) else {
            return false;
        };
        if self.local.subscription(found, session).is_none() {
            return false;
        }
        if fault::on(Fault::UnsubscribeForgotten) {
            return true;
        }
        self.cancel_retained(session, found);
        self.remove_subscription(found, session, changes);
        if let Some(session) = self.clients.session_mut(session) {
            session.subscriptions.remove(found);
        }
        self.clients.counters.subscriptions -= 1;
        true
    }

    /// Removes a subscription from the index, and the interest if it was the last.
    pub(super) fn remove_subscription(
        &mut self,
        filter: FilterId,
        session: SessionIndex,
        changes: &mut Vec<Change>,
    ) {
        let interest = match self.shard_count {
            1 => None,
            _ => Some(self.interest_in(self.local.filter(filter))),
        };
        if let Some(outcome) = self.local.remove(filter, session)
            && outcome.last_on_shard
            && !fault::on(Fault::InterestKept)
            && let Some(interest) = interest
        {
            changes.push(Change::Interest(InterestChange {
                interest,
                add: false,
            }));
        }
    }
}

/// Why a Topic Filter is not taken: with a code in SUBACK, or by ending the connection.
pub(super) enum FilterRefusal {
    Code(Violation),
    Violation(Violation),
}

impl FilterRefusal {
    /// In words.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Code(refusal) | Self::Violation(refusal) => refusal.cause,
        }
    }
}
