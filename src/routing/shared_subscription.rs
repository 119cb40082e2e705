//! Shared subscriptions (4.8.2): the groups, and which member gets a message.
//!
//! [`GroupMembers`] holds the members of this shard; [`GroupReplica`], the same on every shard, how many
//! members each shard has. The publisher's shard picks a shard by its members who are there, that shard picks
//! the member. One message goes to one member of each group [MQTT-4.8.2-4]. The order of a publisher's
//! messages holds for the strategies that keep to one member, while it is there.

use std::num::NonZeroU64;
use std::sync::Arc;

use hashbrown::HashMap;
use slab::Slab;

use crate::config::SharedStrategy;

use super::filter_table::FilterTable;
use super::ids::{SessionIndex, ShardId};
use super::interest_index::ShardBits;
use super::local_index::{FilterId, Subscriber};
use super::topic_hash::{TopicHash, TopicHasher};

/// Share Name and Topic Filter: what makes a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupName {
    /// Share Name.
    pub share_name: Box<str>,
    /// Topic Filter.
    pub filter: Box<str>,
}

/// How many members a shard has now. Absolute, so that the last word of a shard is the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupChange {
    /// Of which group.
    pub name: Arc<GroupName>,
    /// Members who are connected.
    pub online: u32,
    /// All members.
    pub total: u32,
}

/// Whether a member can take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// At once; so many messages are on their way to it.
    Ready(u32),
    /// It is connected, and its window or output is full.
    Full,
    /// It is away, and its session lives.
    Offline,
}

/// Tells a group from all others that this shard has had, also when its number is given to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSerial(NonZeroU64);

#[derive(Debug)]
struct Group {
    name: Arc<GroupName>,
    serial: GroupSerial,
    /// In the order in which they joined.
    members: Vec<Subscriber>,
    /// How many of them are connected.
    online: u32,
    /// Where the next turn of round robin begins.
    next: usize,
}

/// The groups that have members on this shard.
#[derive(Debug, Default)]
pub struct GroupMembers {
    groups: Slab<Group>,
    by_name: HashMap<Arc<GroupName>, u32, foldhash::fast::RandomState>,
    /// How many groups there have been.
    made: u64,
}

impl GroupMembers {
    /// How many groups have a member here.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Numbers of groups are below this.
    pub fn places(&self) -> usize {
        self.groups.capacity()
    }

    /// A group by its number: its name, its members, and how many of them are connected.
    pub fn at(&self, group: u32) -> Option<(&GroupName, usize, u32)> {
        let group = self.groups.get(group as usize)?;
        Some((&group.name, group.members.len(), group.online))
    }

    /// The number of a group.
    pub fn find(&self, name: &GroupName) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    /// A group's name.
    pub fn name(&self, group: u32) -> Option<&Arc<GroupName>> {
        self.groups.get(group as usize).map(|group| &group.name)
    }

    /// A group's serial, which messages that were chosen for a member carry.
    pub fn serial(&self, group: u32) -> Option<GroupSerial> {
        self.groups.get(group as usize).map(|group| group.serial)
    }

    /// A serial for a group that has no members here any more, or for the next one.
    pub fn next_serial(&mut self) -> GroupSerial {
        let serial = GroupSerial(NonZeroU64::MIN.saturating_add(self.made));
        self.made += 1;
        serial
    }

    /// Adds a member, who is connected, or replaces its options; gives the group and whether the member is
    /// new.
    pub fn join(&mut self, name: GroupName, member: Subscriber) -> (u32, bool) {
        let group = self.find(&name).unwrap_or_else(|| {
            let name = Arc::new(name);
            let serial = self.next_serial();
            let key = self.groups.insert(Group {
                name: Arc::clone(&name),
                serial,
                members: Vec::new(),
                online: 0,
                next: 0,
            });
            // Memory ends long before.
            let group = u32::try_from(key).unwrap_or(u32::MAX);
            self.by_name.insert(name, group);
            group
        });
        let entry = &mut self.groups[group as usize];
        match entry
            .members
            .iter_mut()
            .find(|other| other.session == member.session)
        {
            Some(other) => {
                *other = member;
                (group, false)
            }
            None => {
                entry.members.push(member);
                entry.online += 1;
                (group, true)
            }
        }
    }

    /// Removes a member, who is connected or not; gives the group's name if it was one. The last member ends
    /// the group.
    pub fn leave(
        &mut self,
        group: u32,
        session: SessionIndex,
        connected: bool,
    ) -> Option<Arc<GroupName>> {
        let entry = self.groups.get_mut(group as usize)?;
        let position = entry
            .members
            .iter()
            .position(|member| member.session == session)?;
        entry.members.remove(position);
        entry.online = entry.online.saturating_sub(u32::from(connected));
        let name = Arc::clone(&entry.name);
        if entry.members.is_empty() {
            self.groups.remove(group as usize);
            self.by_name.remove(&*name);
        }
        Some(name)
    }

    /// The connection of a member has come or gone.
    pub fn set_online(&mut self, group: u32, online: bool) {
        if let Some(group) = self.groups.get_mut(group as usize) {
            group.online = match online {
                true => group.online + 1,
                false => group.online.saturating_sub(1),
            };
        }
    }

    /// The subscription of a session that is a member.
    pub fn member(&self, group: u32, session: SessionIndex) -> Option<&Subscriber> {
        let mut members = self.groups.get(group as usize)?.members.iter();
        members.find(|member| member.session == session)
    }

    /// Whether a session is a member.
    pub fn has_member(&self, group: u32, session: SessionIndex) -> bool {
        self.groups.get(group as usize).is_some_and(|group| {
            let members = &group.members;
            members.iter().any(|member| member.session == session)
        })
    }

    /// What this shard has to say about a group.
    pub fn change(&self, name: &Arc<GroupName>) -> GroupChange {
        let group = self
            .find(name)
            .and_then(|group| self.groups.get(group as usize));
        let (online, total) = group.map_or((0, 0), |group| (group.online, group.members.len()));
        GroupChange {
            name: Arc::clone(name),
            online,
            total: u32::try_from(total).unwrap_or(u32::MAX),
        }
    }

    /// Picks the member for a message: the readiest, and among those who are ready the strategy's choice.
    /// `affinity` is the hash of publisher or topic for the strategies that keep to one member.
    pub fn pick(
        &mut self,
        group: u32,
        strategy: SharedStrategy,
        affinity: u64,
        readiness: impl Fn(SessionIndex) -> Option<Readiness>,
    ) -> Option<(Subscriber, Readiness)> {
        let group = self.groups.get_mut(group as usize)?;
        let count = group.members.len();
        let start = match strategy {
            SharedStrategy::RoundRobin | SharedStrategy::LeastInFlight => group.next % count.max(1),
            SharedStrategy::StickyByPublisher | SharedStrategy::HashOfTopic => {
                // The remainder is below `count`.
                usize::try_from(affinity % count.max(1) as u64).unwrap_or(0)
            }
        };
        let mut best: Option<(usize, Readiness)> = None;
        for step in 0..count {
            let position = (start + step) % count;
            let Some(ready) = readiness(group.members[position].session) else {
                continue;
            };
            let settled =
                matches!(ready, Readiness::Ready(_)) && strategy != SharedStrategy::LeastInFlight;
            if best.is_none_or(|(_, other)| ready < other) {
                best = Some((position, ready));
            }
            if settled {
                break;
            }
        }
        let (position, ready) = best?;
        group.next = position + 1;
        Some((group.members[position], ready))
    }
}

#[derive(Debug)]
struct ReplicaGroup {
    name: Arc<GroupName>,
    /// By shard: who is connected, and all.
    counts: Vec<(ShardId, u32, u32)>,
    turn: u64,
}

/// How many members of each group every shard has, this one included.
#[derive(Debug)]
pub struct GroupReplica {
    table: FilterTable<Vec<ReplicaGroup>>,
}

impl GroupReplica {
    /// Without groups.
    pub fn new(hasher: TopicHasher) -> Self {
        Self {
            table: FilterTable::new(hasher),
        }
    }

    /// Whether there is no group at all.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Sets what `shard` says of a group.
    pub fn apply(&mut self, change: &GroupChange, shard: ShardId) {
        if change.total == 0 && self.table.find(&change.name.filter).is_none() {
            return;
        }
        let id = self.table.get_or_insert(&change.name.filter, Vec::new);
        let Some(groups) = self.table.get_mut(id) else {
            return;
        };
        let position = groups
            .iter()
            .position(|group| *group.name == *change.name)
            .unwrap_or_else(|| {
                groups.push(ReplicaGroup {
                    name: Arc::clone(&change.name),
                    counts: Vec::new(),
                    turn: 0,
                });
                groups.len() - 1
            });
        let group = &mut groups[position];
        group.counts.retain(|(other, ..)| *other != shard);
        if change.total > 0 {
            group.counts.push((shard, change.online, change.total));
            group.counts.sort_unstable_by_key(|(shard, ..)| *shard);
        } else if group.counts.is_empty() {
            groups.remove(position);
        }
        if groups.is_empty() {
            self.table.remove(id);
        }
    }

    /// Appends the filters with groups that match `topic`.
    pub fn matching(&self, topic: &str, hash: TopicHash, found: &mut Vec<FilterId>) {
        self.table.matching(topic, hash, found);
    }

    /// How many groups a filter has.
    pub fn group_count(&self, filter: FilterId) -> usize {
        self.table.get(filter).map_or(0, Vec::len)
    }

    /// Picks the shard for a message to the group `position` of a filter, and gives the group's name.
    pub fn pick_shard(
        &mut self,
        filter: FilterId,
        position: usize,
        strategy: SharedStrategy,
        affinity: u64,
    ) -> Option<(ShardId, Arc<GroupName>)> {
        let group = self.table.get_mut(filter)?.get_mut(position)?;
        let shard = group.pick(strategy, affinity, &ShardBits::default(), true)?;
        Some((shard, Arc::clone(&group.name)))
    }

    /// Picks another shard than `tried` for a message to `name`: one with connected members, or with any if
    /// `anyone`.
    pub fn pick_other(
        &mut self,
        name: &GroupName,
        tried: &ShardBits,
        anyone: bool,
    ) -> Option<ShardId> {
        let id = self.table.find(&name.filter)?;
        let group = self
            .table
            .get_mut(id)?
            .iter_mut()
            .find(|group| *group.name == *name)?;
        group.pick(SharedStrategy::RoundRobin, 0, tried, anyone)
    }
}

impl ReplicaGroup {
    fn pick(
        &mut self,
        strategy: SharedStrategy,
        affinity: u64,
        tried: &ShardBits,
        anyone: bool,
    ) -> Option<ShardId> {
        let open = |entry: &&(ShardId, u32, u32)| !tried.contains(entry.0);
        let online: u64 = self
            .counts
            .iter()
            .filter(open)
            .map(|(_, online, _)| u64::from(*online))
            .sum();
        if online == 0 && !anyone {
            return None;
        }
        // Strategies that keep to one member count all of them, so that who comes and goes moves nobody
        // else's messages; if the chosen shard has nobody who is there, it passes the message on.
        let sticky = matches!(
            strategy,
            SharedStrategy::StickyByPublisher | SharedStrategy::HashOfTopic
        );
        let by_online = online > 0 && !sticky;
        let weight =
            |entry: &(ShardId, u32, u32)| u64::from(if by_online { entry.1 } else { entry.2 });
        let all: u64 = self.counts.iter().filter(open).map(weight).sum();
        let mut place = match strategy {
            SharedStrategy::RoundRobin | SharedStrategy::LeastInFlight => self.turn,
            // Another part of the hash than the one that picks the member.
            SharedStrategy::StickyByPublisher | SharedStrategy::HashOfTopic => affinity >> 32,
        }
        .checked_rem(all)?;
        self.turn = self.turn.wrapping_add(1);
        for entry in self.counts.iter().filter(open) {
            let weight = weight(entry);
            if place < weight {
                return Some(entry.0);
            }
            place -= weight;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::packet::subscribe::SubscriptionOptions;

    fn name() -> GroupName {
        GroupName {
            share_name: "g".into(),
            filter: "a/+".into(),
        }
    }

    fn member(session: SessionIndex) -> Subscriber {
        let Some(options) = SubscriptionOptions::from_byte(1) else {
            panic!("options")
        };
        Subscriber::new(session, options, 0)
    }

    fn picks(
        strategy: SharedStrategy,
        affinity: u64,
        readiness: impl Fn(u32) -> Option<Readiness>,
    ) -> Vec<u32> {
        let mut groups = GroupMembers::default();
        let mut group = 0;
        for session in 1..=3 {
            group = groups.join(name(), member(session)).0;
        }
        let mut pick = || {
            groups
                .pick(group, strategy, affinity, &readiness)
                .map(|(member, _)| member.session)
        };
        (0..6).filter_map(|_| pick()).collect()
    }

    #[test]
    fn each_strategy_picks_as_it_says() {
        let ready = |_| Some(Readiness::Ready(0));
        assert_eq!(
            picks(SharedStrategy::RoundRobin, 9, ready),
            [1, 2, 3, 1, 2, 3]
        );
        assert_eq!(picks(SharedStrategy::StickyByPublisher, 1, ready), [2; 6]);
        assert_eq!(picks(SharedStrategy::HashOfTopic, 5, ready), [3; 6]);
        let load = |session| Some(Readiness::Ready(if session == 2 { 0 } else { 7 }));
        assert_eq!(picks(SharedStrategy::LeastInFlight, 0, load), [2; 6]);
    }

    #[test]
    fn the_full_and_the_absent_are_skipped_while_another_is_ready() {
        let readiness = |session| match session {
            1 => Some(Readiness::Offline),
            2 => Some(Readiness::Full),
            _ => Some(Readiness::Ready(50)),
        };
        for strategy in [
            SharedStrategy::RoundRobin,
            SharedStrategy::LeastInFlight,
            SharedStrategy::HashOfTopic,
        ] {
            assert_eq!(picks(strategy, 0, readiness), [3; 6]);
        }
        let nobody_ready = |session| {
            Some(if session == 2 {
                Readiness::Full
            } else {
                Readiness::Offline
            })
        };
        assert_eq!(picks(SharedStrategy::RoundRobin, 0, nobody_ready), [2; 6]);
    }

    #[test]
    fn members_are_counted_as_they_come_and_go() {
        let mut groups = GroupMembers::default();
        let name = Arc::new(name());
        let counted = |groups: &GroupMembers| {
            let change = groups.change(&name);
            (change.online, change.total)
        };
        assert_eq!(counted(&groups), (0, 0));
        let (group, _) = groups.join((*name).clone(), member(1));
        groups.join((*name).clone(), member(2));
        groups.join((*name).clone(), member(2));
        assert_eq!(counted(&groups), (2, 2));
        groups.set_online(group, false);
        assert_eq!(counted(&groups), (1, 2));
        assert!(groups.leave(group, 7, true).is_none());
        groups.leave(group, 1, false);
        assert_eq!(counted(&groups), (1, 1));
        assert!(groups.has_member(group, 2) && !groups.has_member(group, 1));
        groups.leave(group, 2, true);
        assert_eq!(counted(&groups), (0, 0));
    }

    #[test]
    fn shards_are_picked_by_their_members_and_forgotten_with_them() {
        let mut replica = GroupReplica::new(TopicHasher::new(1));
        let name = Arc::new(name());
        let change = |online, total| GroupChange {
            name: Arc::clone(&name),
            online,
            total,
        };
        replica.apply(&change(2, 2), ShardId(0));
        replica.apply(&change(1, 1), ShardId(3));
        let mut found = Vec::new();
        replica.matching("a/x", TopicHasher::new(1).hash("a/x"), &mut found);
        let pick = |replica: &mut GroupReplica| {
            replica
                .pick_shard(found[0], 0, SharedStrategy::RoundRobin, 0)
                .map(|(shard, _)| shard.0)
        };
        let picked: Vec<_> = (0..6).filter_map(|_| pick(&mut replica)).collect();
        assert_eq!(picked, [0, 0, 3, 0, 0, 3]);
        let mut tried = ShardBits::default();
        tried.insert(ShardId(0));
        assert_eq!(replica.pick_other(&name, &tried, false), Some(ShardId(3)));
        replica.apply(&change(0, 1), ShardId(3));
        assert_eq!(replica.pick_other(&name, &tried, false), None);
        assert_eq!(replica.pick_other(&name, &tried, true), Some(ShardId(3)));
        replica.apply(&change(0, 0), ShardId(0));
        replica.apply(&change(0, 0), ShardId(3));
        assert!(replica.is_empty());
    }
}
