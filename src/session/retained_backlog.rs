//! The deliveries of retained messages to a session that are under way, and what they must not follow: a
//! retained message is not sent after a newer live one of its topic.
//!
//! Live messages are noted by topic for all deliveries together. If the notes become too many they are
//! forgotten; then what has come for a delivery is void, and its owners are asked again, but not before every
//! message that was noted has reached the owner of its topic: a fence that all shards confirm tells.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashMap;

use crate::config::limits::RETAINED_LIVE_TOPICS_MAX;
use crate::routing::local_index::FilterId;
use crate::routing::topic_hash::TopicHash;

/// What owners may be asked behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fence {
    /// Nothing.
    #[default]
    None,
    /// A change of interests that is still to be made.
    Wanted,
    /// The change of this number, once all shards have confirmed it.
    Made(u64),
}

/// Deliveries by Topic Filter, and notes of live messages.
#[derive(Debug, Default)]
pub struct RetainedBacklog {
    /// Their numbers at the broker; at most one for each Topic Filter of the session.
    deliveries: BTreeMap<FilterId, u32>,
    /// Topics with a live message, and how many notes there were with the last one; at most
    /// `RETAINED_LIVE_TOPICS_MAX`.
    live: HashMap<TopicHash, u64, foldhash::fast::RandomState>,
    notes: u64,
    forgotten: u32,
    /// Before owners are asked.
    pub fence: Fence,
    /// The broker will go on by itself.
    pub resumes: bool,
}

impl RetainedBacklog {
    /// Whether no delivery is under way.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// The delivery for a filter.
    pub fn find(&self, filter: FilterId) -> Option<u32> {
        self.deliveries.get(&filter).copied()
    }

    /// The delivery after that for a filter, or the first.
    pub fn next(&self, after: Option<FilterId>) -> Option<(FilterId, u32)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let (filter, number) = self.deliveries.range((from, Bound::Unbounded)).next()?;
        Some((*filter, *number))
    }

    /// Adds a delivery.
    pub fn insert(&mut self, filter: FilterId, number: u32) {
        self.deliveries.insert(filter, number);
    }

    /// Removes the delivery for a filter.
    pub fn remove(&mut self, filter: FilterId) -> Option<u32> {
        self.deliveries.remove(&filter)
    }

    /// Takes the numbers of all deliveries.
    pub fn into_numbers(self) -> impl Iterator<Item = u32> {
        self.deliveries.into_values()
    }

    /// A live message with RETAIN has come.
    pub fn note(&mut self, topic: TopicHash) {
        if self.live.len() >= RETAINED_LIVE_TOPICS_MAX && !self.live.contains_key(&topic) {
            self.live = HashMap::default();
            self.forgotten = self.forgotten.wrapping_add(1);
            self.fence = Fence::Wanted;
        }
        self.notes += 1;
        self.live.insert(topic, self.notes);
    }

    /// How many live messages there were.
    pub fn notes(&self) -> u64 {
        self.notes
    }

    /// Whether a live message of a topic has come after the first `since` notes.
    pub fn is_superseded(&self, topic: TopicHash, since: u64) -> bool {
        self.live.get(&topic).is_some_and(|note| *note > since)
    }

    /// Raised whenever notes are forgotten.
    pub fn forgotten(&self) -> u32 {
        self.forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_count_for_the_deliveries_that_were_there() {
        let mut backlog = RetainedBacklog::default();
        backlog.note(TopicHash(1));
        let since = backlog.notes();
        backlog.note(TopicHash(2));
        assert!(backlog.is_superseded(TopicHash(1), 0));
        assert!(!backlog.is_superseded(TopicHash(1), since));
        assert!(backlog.is_superseded(TopicHash(2), since));
        backlog.note(TopicHash(1));
        assert!(backlog.is_superseded(TopicHash(1), since));
    }

    #[test]
    fn notes_are_bounded() {
        let mut backlog = RetainedBacklog::default();
        for topic in 0..RETAINED_LIVE_TOPICS_MAX as u64 {
            backlog.note(TopicHash(topic));
            backlog.note(TopicHash(topic));
        }
        assert_eq!((backlog.forgotten(), backlog.fence), (0, Fence::None));
        backlog.note(TopicHash(u64::MAX));
        assert_eq!((backlog.forgotten(), backlog.fence), (1, Fence::Wanted));
        assert_eq!(backlog.live.len(), 1);
        assert!(backlog.is_superseded(TopicHash(u64::MAX), 0));
    }
}
