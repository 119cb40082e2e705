//! Shared subscriptions at work (4.8.2): delivery to one member, and what happens when members come and go.
//!
//! A message goes to a member who is ready; if this shard has none, to another shard that has connected
//! members; then to a member who is full, then to one who is away. What a member had not acknowledged goes
//! back to its group: QoS 1 when its connection ends and somebody else is there, or with its session; QoS 2
//! that was sent stays with the member [MQTT-4.8.2-4] and ends with its session [MQTT-4.8.2-5].

use std::sync::Arc;

use smallvec::SmallVec;

use crate::journal::Record;
use crate::mqtt::data_types::QoS;
use crate::observability::counters::DropCause;
use crate::routing::ids::{SessionIndex, ShardId};
use crate::routing::interest_index::ShardBits;
use crate::routing::local_index::Subscriber;
use crate::routing::shared_subscription::{GroupChange, GroupName, GroupSerial, Readiness};
use crate::session::outbox::Queued;
use crate::session::{Delivery, LeftGroup};

use super::delivery::{Publication, Target};
use super::durable::Acknowledge;
use super::envelope::{Answer, Change, Envelope, SharedEnvelope};
use super::fault::{self, Fault};
use super::{Broker, Now};

impl Broker {
    /// Delivers a message to one member of a group that this shard was picked for.
    pub(super) fn deliver_shared(&mut self, mut shared: SharedEnvelope, now: Now) {
        let strategy = self.config.shared_strategy;
        let clients = &self.clients;
        let group = self.group_members.find(&shared.name);
        let picked = group.and_then(|group| {
            let members = &mut self.group_members;
            members
                .pick(group, strategy, shared.affinity, |session| {
                    clients.readiness(session)
                })
                .map(|(member, readiness)| (group, member, readiness))
        });
        if let Some((group, member, Readiness::Ready(_))) = picked {
            self.deliver_to_member(group, &member, &shared, now);
            return;
        }
        shared.tried.insert(self.id);
        // Somebody who is there goes before somebody who is not; but a message that has been everywhere
        // stays where anybody is.
        let away = !matches!(picked, Some((_, _, Readiness::Full)));
        if let Some(other) = self
            .group_replica
            .pick_other(&shared.name, &shared.tried, false)
        {
            self.forward(other, shared, now);
            return;
        }
        if let Some((group, member, _)) = picked
            && (!away || self.no_other_is_online(&shared))
        {
            self.deliver_to_member(group, &member, &shared, now);
            return;
        }
        match self
            .group_replica
            .pick_other(&shared.name, &own(self.id), true)
        {
            // Shards that were tried had somebody who is full or away: the first of them keeps it.
            Some(other)
                if picked.is_none()
                    && shared.tried.iter().count() <= usize::from(self.shard_count) =>
            {
                shared.tried.insert(other);
                self.forward(other, shared, now);
            }
            _ => match picked {
                Some((group, member, _)) => self.deliver_to_member(group, &member, &shared, now),
                None => {
                    self.clients.counters.drop_messages(DropCause::NoMember, 1);
                    self.answer_shared(shared.asked, Answer::NOTHING, now);
                }
            },
        }
    }

    fn no_other_is_online(&mut self, shared: &SharedEnvelope) -> bool {
        self.group_replica
            .pick_other(&shared.name, &own(self.id), false)
            .is_none()
    }

    fn forward(&mut self, other: ShardId, shared: SharedEnvelope, now: Now) {
        if other == self.id {
            self.answer_shared(shared.asked, Answer::NOTHING, now);
        } else {
            self.mesh.stage(other, Envelope::Shared(Box::new(shared)));
        }
    }

    fn deliver_to_member(
        &mut self,
        group: u32,
        member: &Subscriber,
        shared: &SharedEnvelope,
        now: Now,
    ) {
        let identifier = [member.subscription_identifier];
        let retain = shared.message.view().retain && member.retain_as_published();
        let serial = self.group_members.serial(group);
        let target = Target {
            session: member.session,
            qos: QoS::from_bits(member.qos_bits()).unwrap_or(QoS::AtMostOnce),
            retain,
            subscription_identifiers: if identifier == [0] { &[] } else { &identifier },
            group: serial.map(|serial| (serial, &*shared.name)),
        };
        let publication = &mut Publication::of(&shared.message);
        self.clients.deliver(&target, publication, now.mono_ms);
        if fault::on(Fault::SharedTwice) {
            self.clients.deliver(&target, publication, now.mono_ms);
        }
        let outcome = publication.outcome();
        self.answer_shared(shared.asked, outcome, now);
    }

    pub(super) fn answer_shared(&mut self, asked: Option<(ShardId, u64)>, outcome: u8, now: Now) {
        if let Some((shard, number)) = asked {
            self.answer_or_wait(shard, Some(number), outcome, now);
        }
    }

    /// What this shard has to say about a group, which its own replica learns at once.
    pub(super) fn group_change(&mut self, name: &Arc<GroupName>) -> GroupChange {
        let change = self.group_members.change(name);
        self.group_replica.apply(&change, self.id);
        change
    }

    /// A session's connection has come or gone: its groups have a member more or less who is there.
    pub(super) fn count_member(&mut self, index: SessionIndex, online: bool) {
        if let Some(session) = self.clients.session(index)
            && let Some(groups) = &session.shared
        {
            for group in groups.iter() {
                self.group_members.set_online(*group, online);
            }
        }
    }

    /// Tells the other shards how many members of a session's groups are there now.
    pub(super) fn member_availability(&mut self, index: SessionIndex) {
        let Some(groups) = self
            .clients
            .session(index)
            .and_then(|session| session.shared.clone())
        else {
            return;
        };
        let names: Vec<_> = groups
            .iter()
            .filter_map(|group| self.group_members.name(*group).cloned())
            .collect();
        let changes = names
            .iter()
            .map(|name| Change::Group(self.group_change(name)))
            .collect();
        self.broadcast(changes);
    }

    /// Hands what a member had not acknowledged to others, if anybody is there.
    pub(super) fn hand_back(&mut self, index: SessionIndex, now: Now) {
        let Some(session) = self.clients.session(index) else {
            return;
        };
        let Some(delivery) = &session.delivery else {
            return;
        };
        let (number, _) = session.log_key();
        let members = &self.group_members;
        let groups = session.shared.iter().flat_map(|groups| groups.iter());
        let groups = groups.filter_map(|group| {
            let name = members.name(*group).cloned()?;
            Some((members.serial(*group)?, name))
        });
        let left = delivery.left_groups.iter().flat_map(|left| left.iter());
        let groups: SmallVec<[LeftGroup; 2]> = groups.chain(left.cloned()).collect();
        for (serial, name) in groups {
            if self
                .group_replica
                .pick_other(&name, &ShardBits::default(), false)
                .is_none()
            {
                continue;
            }
            let Some(delivery) = self
                .clients
                .session_mut(index)
                .and_then(|session| session.delivery.as_mut())
            else {
                return;
            };
            let returned = take_shared(delivery, serial);
            self.redistribute(&name, returned, number, None, now);
        }
        if let Some(session) = self.clients.session_mut(index) {
            session.shrink();
        }
    }

    /// The same for a session that has ended and left its groups.
    pub(super) fn hand_back_all(
        &mut self,
        delivery: &mut Delivery,
        groups: &[LeftGroup],
        ended: Option<u64>,
        now: Now,
    ) {
        let left = delivery.left_groups.take();
        for (group, name) in groups
            .iter()
            .chain(left.iter().flat_map(|left| left.iter()))
        {
            let returned = take_shared(delivery, *group);
            self.redistribute(name, returned, 0, ended, now);
        }
    }

    /// Gives messages to other members. The log forgets that `session` had them when they are safe with
    /// those; for a session that ends, its end waits: the acknowledgement `ended`.
    fn redistribute(
        &mut self,
        name: &Arc<GroupName>,
        messages: Vec<Queued>,
        session: u64,
        ended: Option<u64>,
        now: Now,
    ) {
        for queued in messages {
            if fault::on(Fault::SharedLost) {
                continue;
            }
            let entry = queued.entry;
            let recorded = session != 0 && entry != 0;
            if queued.message.is_expired(now.mono_ms) {
                let counters = &mut self.clients.counters;
                counters.drop_messages(DropCause::Expired, 1);
                if recorded {
                    self.record(&Record::Done { session, entry });
                }
                continue;
            }
            let own =
                recorded.then(|| self.begin_acknowledgement(Acknowledge::Done { session, entry }));
            let asked = own.or(ended);
            if let Some(number) = asked {
                self.expect_answer(number);
            }
            let shared = SharedEnvelope {
                affinity: queued.message.topic_hash().0,
                message: queued.message,
                name: Arc::clone(name),
                tried: ShardBits::default(),
                asked: asked.map(|number| (self.id, number)),
            };
            self.deliver_shared(shared, now);
            if let Some(number) = own {
                self.asked_all(number, None, now);
            }
        }
    }
}

/// What may go to another member: all that was not sent, and QoS 1 that was not acknowledged.
fn take_shared(delivery: &mut Delivery, group: GroupSerial) -> Vec<Queued> {
    let mut taken = delivery.in_flight.take_where(|entry| {
        entry.queued.shared_group == Some(group) && entry.queued.qos == QoS::AtLeastOnce
    });
    taken.extend(
        delivery
            .outbox
            .take_where(|queued| queued.shared_group == Some(group)),
    );
    taken
}

fn own(id: ShardId) -> ShardBits {
    let mut bits = ShardBits::default();
    bits.insert(id);
    bits
}
