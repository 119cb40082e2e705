//! The deliveries of retained messages to a session that are under way, and what they must not follow: a
//! retained message is not sent after a newer live one of its topic.
//!
//! Live messages are noted by topic for all deliveries together. If the notes become too many they are
//! forgotten; then what has come for a delivery is void, and its owners are asked again, but not before every
//! message that was noted must have reached the owner of its topic.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashMap;

use crate::config::limits::{RETAINED_LIVE_TOPICS_MAX, RETAINED_SETTLE_MS};
use crate::routing::local_index::FilterId;
use crate::routing::topic_hash::TopicHash;

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
    settled_at_ms: u64,
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
    pub fn note(&mut self, topic: TopicHash, now_ms: u64) {
        if self.live.len() >= RETAINED_LIVE_TOPICS_MAX && !self.live.contains_key(&topic) {
            self.live = HashMap::default();
            self.forgotten = self.forgotten.wrapping_add(1);
            self.settled_at_ms = now_ms + RETAINED_SETTLE_MS;
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

    /// From when on owners may be asked, monotonic milliseconds.
    pub fn settled_at_ms(&self) -> u64 {
        self.settled_at_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_count_for_the_deliveries_that_were_there() {
        let mut backlog = RetainedBacklog::default();
        backlog.note(TopicHash(1), 0);
        let since = backlog.notes();
        backlog.note(TopicHash(2), 0);
        assert!(backlog.is_superseded(TopicHash(1), 0));
        assert!(!backlog.is_superseded(TopicHash(1), since));
        assert!(backlog.is_superseded(TopicHash(2), since));
        backlog.note(TopicHash(1), 0);
        assert!(backlog.is_superseded(TopicHash(1), since));
    }

    #[test]
    fn notes_are_bounded() {
        let mut backlog = RetainedBacklog::default();
        for topic in 0..RETAINED_LIVE_TOPICS_MAX as u64 {
            backlog.note(TopicHash(topic), 5);
            backlog.note(TopicHash(topic), 5);
        }
        assert_eq!((backlog.forgotten(), backlog.settled_at_ms()), (0, 0));
        backlog.note(TopicHash(u64::MAX), 5);
        assert_eq!(
            (backlog.forgotten(), backlog.settled_at_ms()),
            (1, 5 + RETAINED_SETTLE_MS)
        );
        assert_eq!(backlog.live.len(), 1);
        assert!(backlog.is_superseded(TopicHash(u64::MAX), 0));
    }
}
