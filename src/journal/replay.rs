//! From the bytes of a log to the state that it describes.
//!
//! Used at start, by `ringmq store`, and by the simulator. A log is read from any point before which nothing
//! lives: records of a session may come before the record that names it, and what refers to nothing is of
//! something that has ended.

use std::collections::BTreeMap;
use std::ops::Range;

use hashbrown::{HashMap, HashSet};

use crate::mqtt::data_types::QoS;
use crate::routing::application_message::{ApplicationMessage, MessageView};
use crate::routing::topic_hash::TopicHasher;
use crate::session::outbox::SubscriptionIdentifiers;

use super::group::{BLOCK_BYTES, Found, GroupView};
use super::record::{Content, Origin, Progress, QueuedRecord, Record, WillRecord};

type Map<K, V> = HashMap<K, V, foldhash::fast::RandomState>;

/// The time of the replay, to which stored durations are related.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Monotonic milliseconds.
    pub mono_ms: u64,
    /// Seconds since 1970.
    pub unix_s: u64,
}

/// A Will that was recorded.
#[derive(Clone, Debug)]
pub struct StoredWill {
    /// The message.
    pub message: ApplicationMessage,
    /// Will Delay Interval, seconds.
    pub delay_s: u32,
    /// Message Expiry Interval, seconds.
    pub message_expiry_interval_s: Option<u32>,
}

/// A subscription that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredSubscription {
    /// Subscription Options.
    pub options: u8,
    /// Subscription Identifier.
    pub identifier: u32,
}

/// A message in a session's queue.
#[derive(Clone, Debug)]
pub struct StoredEntry {
    /// The message.
    pub message: ApplicationMessage,
    /// Where it is recorded.
    pub location: u64,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN of the delivery.
    pub retain: bool,
    /// How far it has come.
    pub progress: Progress,
    /// Share Name and Topic Filter.
    pub group: Option<(Box<str>, Box<str>)>,
    /// Subscription Identifiers.
    pub subscription_identifiers: SubscriptionIdentifiers,
}

/// A session that was recorded.
#[derive(Clone, Debug, Default)]
pub struct StoredSession {
    /// Client Identifier; none until its record is found.
    pub client_identifier: Option<Box<str>>,
    /// No record of the session or of its subscriptions is before.
    pub location: u64,
    /// Session Expiry Interval, seconds.
    pub expiry_interval_s: u32,
    /// For how many seconds it has had no connection; none if it had one at the end.
    pub detached_s: Option<u64>,
    /// Its Will Message.
    pub will: Option<StoredWill>,
    /// By Topic Filter, with `$share`.
    pub subscriptions: Map<Box<str>, StoredSubscription>,
    /// Its queue, in order.
    pub entries: BTreeMap<u64, StoredEntry>,
}

impl StoredSession {
    /// Gives the messages of the queue names that come before all positions of a new log, in the same order.
    pub fn renumber(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        self.entries = (1..).zip(entries.into_values()).collect();
    }
}

/// A retained message and where it is recorded.
#[derive(Clone, Debug)]
pub struct StoredRetained {
    /// The message.
    pub message: ApplicationMessage,
    /// Its position.
    pub location: u64,
}

/// What a log, or a part of it, describes.
#[derive(Debug)]
pub struct State {
    hasher: TopicHasher,
    clock: Clock,
    /// Of the record that is applied.
    position: u64,
    /// By number.
    pub sessions: Map<u64, StoredSession>,
    /// By Topic Name.
    pub retained: Map<Box<str>, StoredRetained>,
    /// QoS 2 messages that are recorded here and not released by their publishers.
    pub origins: HashSet<Origin, foldhash::fast::RandomState>,
    /// Messages by position, as long as a record may refer to them.
    messages: Map<u64, ApplicationMessage>,
    purge_at: usize,
    /// Records that could not be read, or refer to nothing.
    pub unread_records: u64,
    /// Records read.
    pub records: u64,
}

/// Messages that are kept for references before the unreferenced ones are looked for.
const PURGE_FLOOR: usize = 4096;

impl State {
    /// Nothing yet.
    pub fn new(hasher: TopicHasher, clock: Clock) -> Self {
        Self {
            hasher,
            clock,
            position: 0,
            sessions: Map::default(),
            retained: Map::default(),
            origins: HashSet::default(),
            messages: Map::default(),
            purge_at: PURGE_FLOOR,
            unread_records: 0,
            records: 0,
        }
    }

    /// Applies all records of a group.
    pub fn apply_group(&mut self, group: &GroupView<'_>) {
        let elapsed_s = self.clock.unix_s.saturating_sub(group.unix_s);
        for (position, record) in group.records() {
            self.records += 1;
            match record {
                Some(record) => self.apply(position, &record, elapsed_s),
                None => self.unread_records += 1,
            }
        }
        if self.messages.len() > self.purge_at {
            self.messages
                .retain(|_, message| std::sync::Arc::strong_count(message) > 1);
            self.purge_at = (self.messages.len() * 2).max(PURGE_FLOOR);
        }
    }

    /// Drops what was only needed while the log was read: sessions that no record names, unused messages.
    /// Gives the number of sessions that were lost with their record.
    pub fn finish(&mut self) -> usize {
        self.messages = Map::default();
        let before = self.sessions.len();
        self.sessions
            .retain(|_, session| session.client_identifier.is_some());
        before - self.sessions.len()
    }

    fn apply(&mut self, position: u64, record: &Record<'_>, elapsed_s: u64) {
        self.position = position;
        match record {
            Record::Session {
                session,
                client_identifier,
                expiry_interval_s,
                detached_s,
                will,
            } => {
                let will = will.as_ref().map(|will| self.will(will));
                let stored = self.session(*session);
                stored.client_identifier = Some((*client_identifier).into());
                stored.expiry_interval_s = *expiry_interval_s;
                stored.detached_s = detached_s.map(|detached_s| detached_s + elapsed_s);
                stored.will = will;
            }
            Record::Detached {
                session,
                expiry_interval_s,
                will,
            } => {
                let stored = self.session(*session);
                stored.expiry_interval_s = *expiry_interval_s;
                stored.detached_s = Some(elapsed_s);
                if !will {
                    stored.will = None;
                }
            }
            Record::WillGone { session } => self.session(*session).will = None,
            Record::SessionEnd { session } => {
                self.sessions.remove(session);
            }
            Record::Subscribed {
                session,
                filter,
                options,
                identifier,
            } => {
                let subscription = StoredSubscription {
                    options: *options,
                    identifier: *identifier,
                };
                self.session(*session)
                    .subscriptions
                    .insert((*filter).into(), subscription);
            }
            Record::Unsubscribed { session, filter } => {
                self.session(*session).subscriptions.remove(*filter);
            }
            Record::Message { content, origin } => {
                let message = self.message(content, elapsed_s);
                self.messages.insert(position, message);
                self.origins.extend(origin);
            }
            Record::Queued(queued) => self.queue(queued),
            Record::Sent {
                session,
                entry,
                packet_identifier,
            } => {
                if let Some(entry) = self.entry(*session, *entry) {
                    entry.progress = Progress::Sent(*packet_identifier);
                }
            }
            Record::Received { session, entry } => {
                if let Some(entry) = self.entry(*session, *entry)
                    && let Progress::Sent(identifier) = entry.progress
                {
                    entry.progress = Progress::Received(identifier);
                }
            }
            Record::Done { session, entry } => {
                if let Some(stored) = self.sessions.get_mut(session) {
                    stored.entries.remove(entry);
                }
            }
            Record::OriginOpen(origin) => {
                self.origins.insert(*origin);
            }
            Record::OriginClosed(origin) => {
                self.origins.remove(origin);
            }
            Record::Retained { content } => {
                let message = self.message(content, elapsed_s);
                let stored = StoredRetained {
                    message,
                    location: position,
                };
                self.retained.insert(content.topic.into(), stored);
            }
            Record::RetainedGone { topic } => {
                self.retained.remove(*topic);
            }
        }
    }

    fn session(&mut self, number: u64) -> &mut StoredSession {
        let location = self.position;
        self.sessions
            .entry(number)
            .or_insert_with(|| StoredSession {
                location,
                ..StoredSession::default()
            })
    }

    fn entry(&mut self, session: u64, entry: u64) -> Option<&mut StoredEntry> {
        self.sessions.get_mut(&session)?.entries.get_mut(&entry)
    }

    fn queue(&mut self, queued: &QueuedRecord<'_>) {
        let Some(message) = self.messages.get(&queued.message).cloned() else {
            self.unread_records += 1;
            return;
        };
        let entry = StoredEntry {
            message,
            location: queued.message,
            qos: queued.qos,
            retain: queued.retain,
            progress: queued.progress,
            group: queued
                .group
                .map(|(share_name, filter)| (share_name.into(), filter.into())),
            subscription_identifiers: queued.subscription_identifiers.clone(),
        };
        self.session(queued.session)
            .entries
            .insert(queued.entry, entry);
    }

    /// A message whose expiry counts on from where it was, whatever the wall clock does: it is never later
    /// than it would have been.
    fn message(&self, content: &Content<'_>, elapsed_s: u64) -> ApplicationMessage {
        let elapsed_ms = elapsed_s.saturating_mul(1000);
        let expires_at_ms = content
            .expires_in_ms
            .map(|left_ms| self.clock.mono_ms + left_ms.saturating_sub(elapsed_ms));
        MessageView {
            topic: content.topic,
            topic_hash: self.hasher.hash(content.topic),
            forwarded_properties: content.forwarded_properties,
            payload: content.payload,
            qos: content.qos,
            retain: content.retain,
            expires_at_ms,
        }
        .to_message()
    }

    fn will(&self, will: &WillRecord<'_>) -> StoredWill {
        StoredWill {
            message: self.message(&will.content, 0),
            delay_s: will.delay_s,
            message_expiry_interval_s: will
                .message_expiry_interval_s
                .and_then(|seconds| seconds.try_into().ok()),
        }
    }
}

/// How the reading of a stretch of log went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Behind the last whole group.
    pub end: u64,
    /// Whole groups.
    pub groups: u64,
    /// Stretches with whole groups behind them that could not be read.
    pub damaged: Vec<Range<u64>>,
    /// Bytes behind the end that are not zero: a write that was not complete.
    pub torn_bytes: u64,
}

/// Reads all groups of `bytes`, which begin at `start` in the log. Damage is passed over as far as the next
/// whole group.
pub fn scan(bytes: &[u8], start: u64, mut visit: impl FnMut(&GroupView<'_>)) -> Scan {
    let mut result = Scan {
        end: start,
        ..Scan::default()
    };
    let mut at = 0;
    while at < bytes.len() {
        let position = start + at as u64;
        if let Found::Group(group) = GroupView::read(&bytes[at..], position) {
            visit(&group);
            result.groups += 1;
            // A group is in memory as a whole.
            at = at.saturating_add(usize::try_from(group.bytes()).unwrap_or(usize::MAX));
            result.end = start + at as u64;
            continue;
        }
        match next_group(bytes, start, at) {
            Some(next) => {
                result.damaged.push(position..start + next as u64);
                at = next;
            }
            None => {
                let torn = bytes[at..].iter().rposition(|byte| *byte != 0);
                result.torn_bytes = torn.map_or(0, |last| last as u64 + 1);
                break;
            }
        }
    }
    result
}

/// Where the next whole group behind `at` begins.
fn next_group(bytes: &[u8], start: u64, at: usize) -> Option<usize> {
    let block = BLOCK_BYTES as usize;
    (at + block..bytes.len()).step_by(block).find(|place| {
        let found = GroupView::read(&bytes[*place..], start + *place as u64);
        matches!(found, Found::Group(_))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Journal;
    use super::*;
    use crate::config::limits::Durability;

    fn state() -> State {
        let clock = Clock {
            mono_ms: 1_000,
            unix_s: 100,
        };
        State::new(TopicHasher::new(1), clock)
    }

    fn content(payload: &[u8], expires_in_ms: Option<u64>) -> Content<'_> {
        Content {
            topic: "t",
            forwarded_properties: &[],
            payload,
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_in_ms,
        }
    }

    fn log(groups: usize) -> Vec<u8> {
        let mut journal = Journal::at(0);
        let mut bytes = Vec::new();
        for number in 0..groups {
            let payload = [u8::try_from(number).unwrap()];
            let message = journal.append(
                &Record::Message {
                    content: content(&payload, Some(10_000)),
                    origin: None,
                },
                Durability::Os,
            );
            let entry = journal.position();
            journal.append(
                &Record::Queued(QueuedRecord {
                    session: 5,
                    entry,
                    message,
                    qos: QoS::AtLeastOnce,
                    retain: false,
                    progress: Progress::Waiting,
                    group: None,
                    subscription_identifiers: SubscriptionIdentifiers::new(),
                }),
                Durability::Os,
            );
            bytes.extend(journal.take_group(97).unwrap().bytes);
        }
        bytes
    }

    fn payloads(state: &State) -> Vec<u8> {
        let entries = state.sessions[&5].entries.values();
        entries
            .map(|entry| entry.message.view().payload[0])
            .collect()
    }

    #[test]
    fn a_queue_comes_back_in_order_with_what_is_left_of_its_expiry() {
        let bytes = log(5);
        let mut state = state();
        let result = scan(&bytes, 0, |group| state.apply_group(group));
        assert_eq!((result.groups, result.end), (5, bytes.len() as u64));
        assert_eq!(payloads(&state), [0, 1, 2, 3, 4]);
        // Three seconds of ten are over.
        let entry = state.sessions[&5].entries.values().next().unwrap();
        assert_eq!(entry.message.view().expires_at_ms, Some(8_000));
        assert_eq!(state.finish(), 1, "no record names the session");
    }

    #[test]
    fn a_torn_end_is_told_from_damage_in_the_middle() {
        let whole = log(4);
        let mut torn = whole.clone();
        torn[3 * 4096 + 40] ^= 1;
        torn.resize(torn.len() + 8192, 0);
        let mut left = state();
        let result = scan(&torn, 0, |group| left.apply_group(group));
        assert_eq!((result.end, &result.damaged[..]), (3 * 4096, &[][..]));
        assert!(result.torn_bytes > 0 && result.torn_bytes < 4096);
        assert_eq!(payloads(&left), [0, 1, 2]);
        let mut damaged = whole;
        damaged[4096 + 40] ^= 1;
        let mut left = state();
        let result = scan(&damaged, 0, |group| left.apply_group(group));
        assert_eq!(
            result.damaged.as_slice(),
            std::slice::from_ref(&(4096..8192))
        );
        assert_eq!((result.end, result.torn_bytes), (4 * 4096, 0));
        assert_eq!(payloads(&left), [0, 2, 3]);
    }
}
