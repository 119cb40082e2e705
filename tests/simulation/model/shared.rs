//! Shared subscriptions in the model: each message to one member of each group.

use std::collections::{BTreeMap, BTreeSet};

use super::session::{Phase, Subscription};
use super::{Model, topics};

/// A message for a group.
#[derive(Clone, Debug)]
pub struct ForGroup {
    pub publication: usize,
    /// A member had SUBACK before, and nothing has excused its loss since.
    pub must: bool,
    /// The member who has it, its connection and its QoS.
    pub holder: Option<(usize, usize, u8)>,
    pub done: bool,
}

/// A group: Share Name and Topic Filter.
#[derive(Debug, Default)]
pub struct Group {
    pub members: BTreeMap<usize, Subscription>,
    pub messages: Vec<ForGroup>,
}

impl Model {
    pub(super) fn join_group(
        &mut self,
        client: usize,
        filter: &'static str,
        mut subscription: Subscription,
    ) {
        let group = self.groups.entry(filter).or_default();
        if subscription.qos() == 0 {
            excuse(&mut group.messages);
        }
        if let Some(former) = group.members.get(&client) {
            subscription.since = former.since;
            subscription.acknowledged = former.acknowledged;
        }
        group.members.insert(client, subscription);
        let session = self.sessions.get_mut(&client).expect("a session");
        session.groups.insert(filter);
    }

    pub(super) fn leave_group(&mut self, client: usize, filter: &'static str) -> bool {
        let Some(group) = self.groups.get_mut(filter) else {
            return false;
        };
        let was = group.members.remove(&client).is_some();
        // A member whose SUBACK is not sent is not known everywhere.
        if group
            .members
            .values()
            .all(|member| member.acknowledged.is_none())
        {
            excuse(&mut group.messages);
        }
        was
    }

    /// A session has ended. QoS 2 that was on its way to it ends with it [MQTT-4.8.2-5]: also what was in
    /// its output, which nobody has seen.
    pub(super) fn leave_groups(&mut self, client: usize, groups: &BTreeSet<&'static str>) {
        for filter in groups {
            self.leave_group(client, filter);
            let group = self.groups.get_mut(filter).expect("a group");
            for message in &mut group.messages {
                let publication = &self.publications[message.publication];
                if self.messages[publication.message as usize].qos == 2 {
                    message.must = false;
                }
                match message.holder {
                    Some((holder, _, 1)) if holder == client => message.holder = None,
                    Some((holder, _, _)) if holder == client => message.done = true,
                    _ => {}
                }
            }
        }
    }

    pub(super) fn publish_shared(&mut self, publication: usize) {
        let message = self.message_of(publication).clone();
        for (filter, group) in &mut self.groups {
            if !topics::shared(filter).is_some_and(|filter| topics::matches(filter, message.topic))
            {
                continue;
            }
            let mut members = group.members.values();
            let at = self.publications[publication].at;
            let before = |member: &Subscription| member.acknowledged.is_some_and(|then| then < at);
            group.messages.push(ForGroup {
                publication,
                must: message.qos > 0
                    && group.members.values().any(before)
                    && members.all(|member| member.qos() > 0),
                holder: None,
                done: false,
            });
        }
    }

    pub(super) fn group_acknowledged(&mut self, filter: &'static str, place: usize) {
        if let Some(group) = self.groups.get_mut(filter)
            && let Some(message) = group.messages.get_mut(place)
        {
            message.done = true;
        }
    }

    /// Finds the message that a PUBLISH to a member may be: gives group and place.
    pub(super) fn take_for_group(
        &mut self,
        conn: usize,
        number: Option<u64>,
        topic: &str,
        qos: u8,
    ) -> Option<(&'static str, usize)> {
        let client = self.conns[&conn].client;
        let groups = self.sessions[&client].groups.iter();
        let messages = groups.flat_map(|filter| {
            let messages = self.groups[filter].messages.iter().enumerate();
            messages.map(|(place, message)| (*filter, place, message))
        });
        let possible = messages.filter(|(_, _, message)| {
            let publication = &self.publications[message.publication];
            let published = &self.messages[publication.message as usize];
            let same = match number {
                Some(number) => publication.message == number,
                None => published.payload_bytes == 0 && published.topic == topic,
            };
            // Only QoS 1 that was not acknowledged goes to another member, when its connection is over.
            let free = message.holder.is_none_or(|(_, on, held_qos)| {
                held_qos == 1 && self.conns[&on].phase == Phase::Ended
            });
            same && free && !message.done && qos <= published.qos
        });
        // Of a message that was published again, rather the one that nobody has and that must come.
        let best = possible.min_by_key(|(.., message)| (message.holder.is_some(), !message.must));
        let (filter, place, _) = best?;
        let message = &mut self.groups.get_mut(filter)?.messages[place];
        message.holder = Some((client, conn, qos));
        message.done = qos == 0;
        Some((filter, place))
    }
}

fn excuse(messages: &mut [ForGroup]) {
    for message in messages {
        message.must = false;
    }
}
