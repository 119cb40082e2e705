//! The retained messages that this shard owns: those whose Topic Name's hash falls to it.
//!
//! Ordered by Topic Name, so that an answer to SUBSCRIBE can be given in slices: a cursor is the place in
//! that order, and stays good whatever is set or cleared meanwhile. A selection skips what cannot match: it
//! seeks to the next Topic Name that could. Those that can expire are ordered by that time as well, so that
//! an expired one never takes the room of a new one.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use crate::config::limits::{RETAINED_VISITS_PER_SLICE_MAX, RetainedLimits};

use crate::mqtt::topic_filter::has_wildcards;

use super::application_message::ApplicationMessage;

/// Retained messages by Topic Name.
#[derive(Debug, Default)]
pub struct RetainedStore {
    messages: BTreeMap<Box<str>, Retained>,
    /// Those of `messages` with a Message Expiry Interval.
    by_expiry: BTreeSet<ByExpiry>,
    bytes: u64,
}

/// A retained message.
#[derive(Debug)]
struct Retained {
    message: ApplicationMessage,
    /// Where the log has it; 0 if it is not recorded.
    location: u64,
}

/// A message in the order of expiry.
#[derive(Debug)]
struct ByExpiry(ApplicationMessage);

impl ByExpiry {
    fn key(&self) -> (Option<u64>, &str) {
        let view = self.0.view();
        (view.expires_at_ms, view.topic)
    }
}

impl Ord for ByExpiry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for ByExpiry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByExpiry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for ByExpiry {}

/// Where the next slice of a selection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedCursor {
    /// All before it is done.
    from: Box<str>,
    /// Whether it itself is done.
    exclusive: bool,
}

impl RetainedCursor {
    /// From `topic` on, itself included.
    pub fn at(topic: &str) -> Self {
        Self {
            from: topic.into(),
            exclusive: false,
        }
    }

    /// As a text, for [`Self::from_text`].
    pub fn to_text(&self) -> String {
        let mark = if self.exclusive { '>' } else { '=' };
        format!("{mark}{}", self.from)
    }

    /// From the text of a cursor.
    pub fn from_text(text: &str) -> Option<Self> {
        let exclusive = match text.chars().next()? {
            '>' => true,
            '=' => false,
            _ => return None,
        };
        Some(Self {
            from: text[1..].into(),
            exclusive,
        })
    }
}

/// A part of the retained messages that match a filter.
#[derive(Debug)]
pub struct Slice {
    /// In the order of their Topic Names.
    pub messages: Vec<ApplicationMessage>,
    /// Where to go on; nothing if that was all.
    pub next: Option<RetainedCursor>,
    /// How many places were looked at.
    pub visits: usize,
}

/// What a comparison of a Topic Name with a filter says about the search.
enum Step {
    Match,
    Next,
    Seek(String),
}

impl RetainedStore {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is one for a topic.
    pub fn contains(&self, topic: &str) -> bool {
        self.messages.contains_key(topic)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Their bytes, as counted against the limit.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Sets the retained message of its topic; a former one is replaced [MQTT-3.3.1-5], and is gone as well
    /// if the limits do not allow the new one. Tells whether they did; what has expired makes room first.
    pub fn set(
        &mut self,
        message: ApplicationMessage,
        limits: &RetainedLimits,
        now_ms: u64,
    ) -> bool {
        self.clear(message.topic());
        let bytes = message.bytes() as u64;
        while self.messages.len() >= limits.messages_max as usize
            || self.bytes + bytes > limits.bytes_max
        {
            if !self.remove_first_expired(now_ms) {
                return false;
            }
        }
        self.bytes += bytes;
        if message.can_expire() {
            self.by_expiry
                .insert(ByExpiry(ApplicationMessage::clone(&message)));
        }
        let topic = message.topic().into();
        let retained = Retained {
            message,
            location: 0,
        };
        self.messages.insert(topic, retained);
        true
    }

    /// Notes where the log has the message of a topic.
    pub fn set_location(&mut self, topic: &str, location: u64) {
        if let Some(retained) = self.messages.get_mut(topic) {
            retained.location = location;
        }
    }

    /// The next messages behind the topic `cursor`, with where the log has them; where to go on is the topic
    /// of the last one.
    pub fn after(&mut self, cursor: &str) -> impl Iterator<Item = (&ApplicationMessage, &mut u64)> {
        let first = match cursor.is_empty() {
            true => Bound::Unbounded,
            false => Bound::Excluded(cursor),
        };
        let range = self.messages.range_mut::<str, _>((first, Bound::Unbounded));
        range.map(|(_, retained)| (&retained.message, &mut retained.location))
    }

    /// Clears the retained message of a topic [MQTT-3.3.1-6]; tells whether there was one.
    pub fn clear(&mut self, topic: &str) -> bool {
        let Some(Retained { message, .. }) = self.messages.remove(topic) else {
            return false;
        };
        self.bytes -= message.bytes() as u64;
        if message.can_expire() {
            self.by_expiry.remove(&ByExpiry(message));
        }
        true
    }

    /// Whether there is one that can expire.
    pub fn can_expire(&self) -> bool {
        !self.by_expiry.is_empty()
    }

    /// Removes up to `most` messages that have expired; gives how many it removed.
    pub fn remove_expired(&mut self, most: usize, now_ms: u64) -> usize {
        (0..most)
            .take_while(|_| self.remove_first_expired(now_ms))
            .count()
    }

    fn remove_first_expired(&mut self, now_ms: u64) -> bool {
        match self.by_expiry.first() {
            Some(ByExpiry(message)) if message.is_expired(now_ms) => {
                let message = ApplicationMessage::clone(message);
                self.clear(message.topic())
            }
            _ => false,
        }
    }

    /// The messages that match `filter`, from `cursor` on. What has expired is removed when it is met.
    pub fn select(
        &mut self,
        filter: &str,
        cursor: Option<RetainedCursor>,
        limits: &RetainedLimits,
        now_ms: u64,
    ) -> Slice {
        let mut slice = Slice {
            messages: Vec::new(),
            next: None,
            visits: 1,
        };
        if !has_wildcards(filter) {
            let found = self
                .messages
                .get(filter)
                .filter(|found| !found.message.is_expired(now_ms));
            slice
                .messages
                .extend(found.map(|found| ApplicationMessage::clone(&found.message)));
            return slice;
        }
        let mut bytes = 0;
        let mut expired = Vec::new();
        let mut cursor = cursor.or_else(|| Some(RetainedCursor::at(literal_prefix(filter))));
        for visit in 1..=RETAINED_VISITS_PER_SLICE_MAX {
            slice.visits = visit;
            let Some(at) = cursor.take() else { break };
            let from = match at.exclusive {
                true => Bound::Excluded(&*at.from),
                false => Bound::Included(&*at.from),
            };
            let Some((topic, Retained { message, .. })) = self
                .messages
                .range::<str, _>((from, Bound::Unbounded))
                .next()
            else {
                break;
            };
            if !topic.starts_with(literal_prefix(filter)) {
                break;
            }
            let go_on = match step(filter, topic) {
                Step::Seek(seek) if *seek > **topic => RetainedCursor {
                    from: seek.into(),
                    exclusive: false,
                },
                _ => RetainedCursor {
                    from: topic.clone(),
                    exclusive: true,
                },
            };
            if matches!(step(filter, topic), Step::Match) {
                if message.is_expired(now_ms) {
                    expired.push(topic.clone());
                } else {
                    let full = slice.messages.len() >= usize::from(limits.slice_messages.max(1))
                        || (bytes > 0 && bytes + message.bytes() > limits.slice_bytes as usize);
                    if full {
                        cursor = Some(RetainedCursor {
                            from: topic.clone(),
                            exclusive: false,
                        });
                        break;
                    }
                    bytes += message.bytes();
                    slice.messages.push(ApplicationMessage::clone(message));
                }
            }
            cursor = Some(go_on);
        }
        slice.next = cursor;
        for topic in expired {
            self.clear(&topic);
        }
        slice
    }
}

/// What every Topic Name that matches begins with. `a/#` matches `a` as well, so its last `/` is left out.
fn literal_prefix(filter: &str) -> &str {
    let Some(wildcard) = filter.find(['+', '#']) else {
        return filter;
    };
    match filter.as_bytes()[wildcard] {
        b'#' => &filter[..wildcard.saturating_sub(1)],
        _ => &filter[..wildcard],
    }
}

/// Compares level by level; on a mismatch tells where the next match could be. `/` is followed by `0` in the
/// order of bytes, so all that lies under `x/` comes before `x0`.
fn step(filter: &str, topic: &str) -> Step {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return Step::Seek("%".into()); // what follows `$` [MQTT-4.7.2-1]
    }
    let mut filter_levels = filter.split('/');
    let mut done = 0; // bytes of `topic` that are compared, with the separator
    let mut rest = Some(topic);
    loop {
        let (level, next) = match rest {
            Some(text) => text
                .split_once('/')
                .map_or((text, None), |(level, next)| (level, Some(next))),
            None => {
                return match filter_levels.next() {
                    None | Some("#") => Step::Match,
                    Some(_) => Step::Next,
                };
            }
        };
        match filter_levels.next() {
            Some("#") => return Step::Match,
            Some("+") => {}
            Some(wanted) if wanted == level => {}
            Some(wanted) => {
                // Only the topic itself, or what lies under it, can match.
                let target = format!("{}{wanted}", &topic[..done]);
                let below = format!("{target}/");
                return if *target > *topic {
                    Step::Seek(target)
                } else if *below > *topic && filter_levels.next().is_some() {
                    Step::Seek(below)
                } else {
                    Step::Seek(after(&topic[..done]))
                };
            }
            // The filter has ended and the topic goes on.
            None => return Step::Seek(after(&topic[..done])),
        }
        done += level.len() + 1;
        rest = next;
    }
}

/// The first string after all that begin with `prefix`, which ends with `/` or is empty.
fn after(prefix: &str) -> String {
    match prefix.strip_suffix('/') {
        Some(parent) => format!("{parent}0"),
        None => char::MAX.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::data_types::QoS;
    use crate::mqtt::topic_filter::matches;
    use crate::routing::application_message::MessageView;
    use crate::routing::topic_hash::TopicHasher;

    fn message(topic: &str, expires_at_ms: Option<u64>) -> ApplicationMessage {
        MessageView {
            topic,
            topic_hash: TopicHasher::new(1).hash(topic),
            forwarded_properties: &[],
            payload: b"x",
            qos: QoS::AtMostOnce,
            retain: true,
            expires_at_ms,
        }
        .to_message()
    }

    fn selected(store: &mut RetainedStore, filter: &str, limits: &RetainedLimits) -> Vec<String> {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let slice = store.select(filter, cursor, limits, 0);
            assert!(slice.messages.len() <= usize::from(limits.slice_messages));
            all.extend(
                slice
                    .messages
                    .iter()
                    .map(|message| message.topic().to_owned()),
            );
            match slice.next {
                Some(next) => cursor = Some(next),
                None => return all,
            }
        }
    }

    #[test]
    fn slices_together_are_what_the_definition_says() {
        let levels = ["a", "b", "", "a-", "a0", "$x", "é"];
        let mut topics = Vec::new();
        for first in levels {
            topics.push(first.to_owned());
            for second in levels {
                topics.push(format!("{first}/{second}"));
                topics.extend(levels.map(|third| format!("{first}/{second}/{third}")));
            }
        }
        topics.retain(|topic| !topic.is_empty());
        let limits = RetainedLimits {
            slice_messages: 3,
            ..RetainedLimits::default()
        };
        let mut store = RetainedStore::default();
        for topic in &topics {
            assert!(store.set(message(topic, None), &limits, 0));
        }
        topics.sort();
        for filter in [
            "#", "+", "a", "a/#", "a/+", "+/a", "+/a/#", "a/+/b", "+/+/+", "/+", "+/b/+", "$x/#",
            "a/b/a-", "x/+", "+/+/a0", "+/é",
        ] {
            let expected: Vec<_> = topics
                .iter()
                .filter(|topic| matches(filter, topic))
                .cloned()
                .collect();
            assert_eq!(selected(&mut store, filter, &limits), expected, "{filter}");
        }
    }

    #[test]
    fn a_selection_seeks_past_what_cannot_match() {
        let limits = RetainedLimits::default();
        let mut store = RetainedStore::default();
        for device in 0..50 {
            for sensor in 0..200 {
                store.set(
                    message(&format!("site/{device}/{sensor}"), None),
                    &limits,
                    0,
                );
            }
        }
        // Ten thousand messages: without seeking the first slice would end before the last device.
        let slice = store.select("site/+/199", None, &limits, 0);
        assert_eq!((slice.messages.len(), slice.next), (50, None));
        // Topics that only begin with the wanted level are passed over at once.
        let mut store = RetainedStore::default();
        for device in 0..100_000 {
            store.set(message(&format!("dev/{device}/t1"), None), &limits, 0);
        }
        for (filter, matching) in [
            ("dev/1/#", 1),
            ("dev/1", 0),
            ("dev/77/t1", 1),
            ("dev/1/+", 1),
        ] {
            let slice = store.select(filter, None, &limits, 0);
            assert_eq!(
                (slice.messages.len(), slice.next),
                (matching, None),
                "{filter}"
            );
        }
    }

    #[test]
    fn a_message_over_the_limit_leaves_no_older_one() {
        let mut store = RetainedStore::default();
        let limits = RetainedLimits {
            bytes_max: message("a", None).bytes() as u64,
            ..RetainedLimits::default()
        };
        assert!(store.set(message("a", None), &limits, 0));
        let larger = MessageView {
            payload: &[b'x'; 200],
            ..message("a", None).view()
        }
        .to_message();
        assert!(!store.set(larger, &limits, 0));
        assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn what_has_expired_makes_room() {
        let limits = RetainedLimits {
            messages_max: 3,
            ..RetainedLimits::default()
        };
        let mut store = RetainedStore::default();
        assert!(store.set(message("a", Some(20)), &limits, 0));
        assert!(store.set(message("b", Some(10)), &limits, 0));
        assert!(store.set(message("c", Some(10)), &limits, 0));
        assert!(!store.set(message("d", None), &limits, 9));
        assert!(store.set(message("d", None), &limits, 10));
        assert_eq!((store.len(), store.remove_expired(9, 10)), (3, 1));
        // A former expiry no longer counts.
        assert!(store.set(message("a", Some(40)), &limits, 10));
        assert_eq!(store.remove_expired(9, 39), 0);
        assert_eq!(
            (store.remove_expired(9, 40), store.can_expire()),
            (1, false)
        );
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn limits_hold_and_expired_messages_are_gone() {
        let limits = RetainedLimits {
            messages_max: 2,
            ..RetainedLimits::default()
        };
        let mut store = RetainedStore::default();
        assert!(store.set(message("a", None), &limits, 0));
        assert!(store.set(message("b", Some(10)), &limits, 0));
        assert!(!store.set(message("c", None), &limits, 0));
        assert!(
            store.set(message("a", None), &limits, 0),
            "replacing is not adding"
        );
        assert_eq!(store.select("#", None, &limits, 10).messages.len(), 1);
        assert_eq!(store.len(), 1);
        assert!(store.clear("a") && !store.clear("a"));
        assert_eq!((store.bytes(), store.is_empty()), (0, true));
    }
}
