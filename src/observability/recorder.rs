//! The flight recorder of a shard: what became of its latest messages, always on and bounded.
//!
//! The core notes every decision about a message: received, matched, sent, queued, acknowledged, dropped and
//! why. Losses and messages that wait have a ring of their own, so that heavy traffic does not wash them
//! away. An entry has 16 bytes: it names a session by its place and a topic by its hash. The texts of the
//! latest topics, and who was in a place before, stand beside it.
//!
//! Read by the broker's answers to `ringmq why` and `ringmq trace`. Within one turn a message stands behind
//! its deliveries, since only then it is known how many there are.

use std::collections::{HashMap, VecDeque};

use super::counters::DropCause;

/// What became of a message, or of its delivery to one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// A client sent it; the number is how many deliveries it caused on this shard.
    Received,
    /// It is not accepted: its topic or payload is not allowed.
    Refused,
    /// It came from another shard; the number is how many deliveries it caused here.
    Arrived,
    /// It went into the session's output; the number is the Packet Identifier.
    Sent,
    /// It waits in the session's outbox.
    Queued,
    /// The client acknowledged it; the number is the Packet Identifier.
    Acknowledged,
    /// It is QoS 0, and the client is not there.
    Offline,
    /// It was dropped for this session; the causes stand in the order of [`DropCause`] from here on.
    Dropped,
}

/// The words for each [`What`] before the losses.
const WORDS: [&str; What::Dropped as usize] = [
    "received",
    "refused",
    "arrived",
    "sent",
    "queued",
    "acknowledged",
    "not_queued",
];

impl What {
    /// A loss for `cause`.
    #[inline]
    pub fn dropped(cause: DropCause) -> u8 {
        Self::Dropped as u8 + cause as u8
    }

    /// The word for it, and for losses their cause.
    pub fn words(code: u8) -> (&'static str, Option<&'static str>) {
        let code = usize::from(code);
        match WORDS.get(code) {
            Some(word) if code == Self::Offline as usize => (word, Some("qos_0_offline")),
            Some(word) => (word, None),
            None => ("dropped", DropCause::NAMES.get(code - WORDS.len()).copied()),
        }
    }
}

/// The session of what nobody of this shard sent.
pub const NOBODY: u32 = u32::MAX;

/// One decision. From the highest bit: 40 of the topic's hash, 16 of the number, 5 of what, 2 of QoS, and
/// whether it also went to other shards; then the session and the milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    topic_and_what: u64,
    session_and_time: u64,
}

/// The bits of a hash that an entry has.
const TOPIC_BITS: u64 = !0xff_ffff;

impl Entry {
    /// A decision of now.
    #[inline]
    pub fn new(topic: u64, session: u32, what: u8, qos: u8, number: u16, now_ms: u64) -> Self {
        let what = u64::from(what) << 3 | u64::from(qos) << 1 | u64::from(number) << 8;
        Self {
            topic_and_what: topic & TOPIC_BITS | what,
            // Of the time, the low bits are enough.
            session_and_time: u64::from(session) << 32 | u64::from(now_ms as u32),
        }
    }

    /// Whether it is about the topic with this hash.
    pub fn is_on(&self, topic: u64) -> bool {
        (self.topic_and_what ^ topic) & TOPIC_BITS == 0
    }

    /// A [`What`], losses with their cause.
    pub fn what(&self) -> u8 {
        (self.topic_and_what >> 3) as u8 & 31
    }

    /// QoS of the message or the delivery.
    pub fn qos(&self) -> u8 {
        (self.topic_and_what >> 1) as u8 & 3
    }

    /// Whether it also went to other shards.
    pub fn is_forwarded(&self) -> bool {
        self.topic_and_what & 1 != 0
    }

    /// As `what` says.
    pub fn number(&self) -> u16 {
        (self.topic_and_what >> 8) as u16
    }

    /// The session that it is about: the publisher's or the receiver's.
    pub fn session(&self) -> u32 {
        (self.session_and_time >> 32) as u32
    }

    /// When, monotonic milliseconds: the latest time before `now_ms` with the same low bits.
    pub fn at_ms(&self, now_ms: u64) -> u64 {
        let age_ms = (now_ms as u32).wrapping_sub(self.session_and_time as u32);
        now_ms.saturating_sub(u64::from(age_ms))
    }
}

#[derive(Debug)]
struct Ring {
    /// A power of two of them, or none.
    entries: Box<[Entry]>,
    mask: usize,
    /// How many were ever noted.
    noted: u64,
}

impl Ring {
    fn new(entries: usize) -> Self {
        Self {
            entries: vec![Entry::default(); entries].into(),
            mask: entries.saturating_sub(1),
            noted: 0,
        }
    }

    #[inline]
    fn push(&mut self, entry: Entry) {
        // Only the low bits count.
        if let Some(slot) = self.entries.get_mut(self.noted as usize & self.mask) {
            *slot = entry;
        }
        self.noted += 1;
    }

    /// The number of the first entry that is still there, `from` or later.
    fn first(&self, from: u64) -> u64 {
        from.max(self.noted.saturating_sub(self.entries.len() as u64))
    }
}

/// Where a reader goes on in both rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// In the ring of what flows.
    pub flow: u64,
    /// In the ring of losses and of what waits.
    pub loss: u64,
}

/// How much text of a topic is kept, bytes.
const TOPIC_BYTES_MAX: usize = 119;

/// The text of a topic, cut to what fits.
#[derive(Clone, Copy, Debug)]
struct TopicText {
    hash: u64,
    length: u8,
    text: [u8; TOPIC_BYTES_MAX],
}

/// A session that has ended.
#[derive(Debug)]
struct Former {
    client_identifier: Box<str>,
    session: u32,
    ended_ms: u64,
}

/// The recorder of one shard.
#[derive(Debug)]
pub struct FlightRecorder {
    flow: Ring,
    loss: Ring,
    /// The place of a topic is given by its hash; the latest one has it.
    topics: Box<[TopicText]>,
    topics_mask: usize,
    /// Sessions that have ended lately, at most `FORMER_MAX`.
    former: VecDeque<Former>,
    /// Who was in a place before this time may be forgotten, monotonic milliseconds.
    forgotten_ms: u64,
    /// Messages that were handed to other shards, each time counted.
    pub forwarded: u64,
}

/// The ring of losses, and the texts of topics, have this part of the entries.
const LOSS_PART: usize = 4;
/// Sessions that have ended and can still be asked about.
const FORMER_MAX: usize = 4096;
/// A longer Client Identifier is not kept for them, bytes.
const FORMER_BYTES_MAX: usize = 256;

/// What is noted before a message is routed.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    noted: u64,
    forwarded: u64,
}

impl FlightRecorder {
    /// A recorder of about `entries` decisions; 0 records nothing.
    pub fn new(entries: u32) -> Self {
        let entries = match entries {
            0 => 0,
            _ => (entries as usize).next_power_of_two().max(16),
        };
        let text = TopicText {
            hash: 0,
            length: 0,
            text: [0; TOPIC_BYTES_MAX],
        };
        let losses = entries / LOSS_PART;
        Self {
            flow: Ring::new(entries),
            loss: Ring::new(losses),
            topics: vec![text; losses].into(),
            topics_mask: losses.saturating_sub(1),
            former: VecDeque::new(),
            forgotten_ms: 0,
            forwarded: 0,
        }
    }

    /// Bytes that it takes, without the sessions that have ended.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.flow.entries)
            + size_of_val(&*self.loss.entries)
            + size_of_val(&*self.topics)
    }

    /// Notes what flows.
    #[inline]
    pub fn note(&mut self, entry: Entry) {
        self.flow.push(entry);
    }

    /// Notes a loss, or a message that waits.
    #[inline]
    pub fn note_loss(&mut self, entry: Entry) {
        self.loss.push(entry);
    }

    /// What there is before a message is routed.
    #[inline]
    pub fn mark(&self) -> Mark {
        Mark {
            noted: self.flow.noted + self.loss.noted,
            forwarded: self.forwarded,
        }
    }

    /// Notes a message that has been routed since `mark`, with the text of its topic. `entry` has no number.
    #[inline]
    pub fn note_message(&mut self, mut entry: Entry, topic_hash: u64, topic: &str, mark: Mark) {
        let place = self.topics.get(self.place_of(topic_hash));
        if place.is_some_and(|place| place.hash != topic_hash) {
            self.keep_text(topic_hash, topic);
        }
        let deliveries = self.flow.noted + self.loss.noted - mark.noted;
        entry.topic_and_what |= deliveries.min(0xffff) << 8;
        entry.topic_and_what |= u64::from(self.forwarded != mark.forwarded);
        self.flow.push(entry);
    }

    #[inline]
    fn place_of(&self, topic_hash: u64) -> usize {
        (topic_hash >> 24) as usize & self.topics_mask
    }

    fn keep_text(&mut self, topic_hash: u64, topic: &str) {
        let place = self.place_of(topic_hash);
        if let Some(place) = self.topics.get_mut(place) {
            place.hash = topic_hash;
            let length = topic.len().min(TOPIC_BYTES_MAX);
            // It is at most 119.
            place.length = length as u8;
            place.text[..length].copy_from_slice(&topic.as_bytes()[..length]);
        }
    }

    /// Remembers a session that ends, so that its entries can still be asked for.
    pub fn session_ended(&mut self, client_identifier: &str, session: u32, now_ms: u64) {
        if self.flow.entries.is_empty() {
            return;
        }
        if self.former.len() >= FORMER_MAX
            && let Some(oldest) = self.former.pop_front()
        {
            self.forgotten_ms = oldest.ended_ms;
        }
        let known = client_identifier.len() <= FORMER_BYTES_MAX;
        self.former.push_back(Former {
            client_identifier: if known { client_identifier } else { "" }.into(),
            session,
            ended_ms: now_ms,
        });
    }

    /// Who was in which place, for a reader.
    pub fn places(&self) -> Places<'_> {
        let mut by_session: HashMap<u32, Vec<&Former>> = HashMap::new();
        for former in &self.former {
            by_session.entry(former.session).or_default().push(former);
        }
        Places {
            by_session,
            forgotten_ms: self.forgotten_ms,
        }
    }

    /// The text of the topic of an entry, if it is among the latest.
    pub fn topic(&self, entry: &Entry) -> Option<std::borrow::Cow<'_, str>> {
        let place = self.topics.get(self.place_of(entry.topic_and_what))?;
        let known = entry.is_on(place.hash) && place.length > 0;
        known.then(|| String::from_utf8_lossy(&place.text[..usize::from(place.length)]))
    }

    /// Where the next entries will stand.
    pub fn end(&self) -> Position {
        Position {
            flow: self.flow.noted,
            loss: self.loss.noted,
        }
    }

    /// Reads up to `visits` entries of each ring from `from` on; gives where to go on.
    pub fn read(&self, from: Position, visits: u64, mut take: impl FnMut(&Entry)) -> Position {
        let mut walk = |ring: &Ring, from: u64| {
            let first = ring.first(from);
            let end = ring.noted.min(first.saturating_add(visits));
            for number in first..end {
                if let Some(entry) = ring.entries.get(number as usize & ring.mask) {
                    take(entry);
                }
            }
            end.max(from.min(ring.noted))
        };
        Position {
            flow: walk(&self.flow, from.flow),
            loss: walk(&self.loss, from.loss),
        }
    }

    /// How many entries from `from` on are gone before they were read.
    pub fn missed(&self, from: Position) -> u64 {
        (self.flow.first(from.flow) - from.flow) + (self.loss.first(from.loss) - from.loss)
    }
}

/// Who was in which place of the sessions before.
#[derive(Debug)]
pub struct Places<'a> {
    /// In the order of their ends.
    by_session: HashMap<u32, Vec<&'a Former>>,
    forgotten_ms: u64,
}

/// Whose an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose<'a> {
    /// The session that is there now.
    Current,
    /// One that has ended.
    Former(&'a str),
    /// It is not known any more, or nobody's.
    Unknown,
}

impl Places<'_> {
    /// Whose an entry of `session` at this time is.
    pub fn whose(&self, session: u32, at_ms: u64) -> Whose<'_> {
        if session == NOBODY {
            return Whose::Unknown;
        }
        let former = self.by_session.get(&session).map_or(&[][..], Vec::as_slice);
        match former.iter().find(|former| at_ms <= former.ended_ms) {
            _ if at_ms < self.forgotten_ms => Whose::Unknown,
            Some(former) if former.client_identifier.is_empty() => Whose::Unknown,
            Some(former) => Whose::Former(&former.client_identifier),
            None => Whose::Current,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The hash of the topic with this number, as different as real ones.
    fn hash(topic: u64) -> u64 {
        topic << 24 | 0x1234
    }

    fn entry(topic: u64, what: u8) -> Entry {
        Entry::new(hash(topic), 3, what, 1, 0, 10)
    }

    fn all(recorder: &FlightRecorder) -> Vec<Entry> {
        let mut entries = Vec::new();
        recorder.read(Position::default(), u64::MAX, |entry| entries.push(*entry));
        entries
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        let now_ms = (7 << 32) + 5;
        let entry = Entry::new(hash(9), 0x8000_0001, 20, 2, 65_535, now_ms);
        assert_eq!((entry.what(), entry.qos(), entry.number()), (20, 2, 65_535));
        assert_eq!(entry.session(), 0x8000_0001);
        assert_eq!(entry.at_ms(now_ms + 100_000), now_ms);
        assert!(entry.is_on(hash(9)) && !entry.is_on(hash(8)) && !entry.is_forwarded());
    }

    #[test]
    fn the_latest_entries_are_there_and_losses_outlive_traffic() {
        let mut recorder = FlightRecorder::new(64);
        recorder.note_loss(entry(7, What::dropped(DropCause::OutboxFull)));
        for topic in 0..1000 {
            recorder.note(entry(topic, What::Sent as u8));
        }
        let entries = all(&recorder);
        assert_eq!(entries.len(), 65);
        assert!(entries[0].is_on(hash(936)) && entries[63].is_on(hash(999)));
        assert_eq!(
            What::words(entries[64].what()),
            ("dropped", Some("outbox_full"))
        );
        assert_eq!(recorder.missed(Position::default()), 936);
        assert_eq!(recorder.missed(recorder.end()), 0);
    }

    #[test]
    fn a_message_tells_how_many_it_went_to() {
        let mut recorder = FlightRecorder::new(64);
        let mark = recorder.mark();
        recorder.note(entry(9, What::Sent as u8));
        recorder.note_loss(entry(9, What::Queued as u8));
        recorder.forwarded += 3;
        recorder.note_message(entry(9, What::Received as u8), hash(9), "a/b", mark);
        let message = all(&recorder)[1];
        assert_eq!((message.number(), message.is_forwarded()), (2, true));
        assert_eq!(recorder.topic(&message).as_deref(), Some("a/b"));
        assert_eq!(recorder.topic(&entry(10, 0)), None);
    }

    #[test]
    fn a_place_is_of_whoever_was_there_at_the_time() {
        let mut recorder = FlightRecorder::new(64);
        recorder.session_ended("first", 3, 10);
        recorder.session_ended("second", 3, 20);
        let places = recorder.places();
        assert_eq!(places.whose(3, 10), Whose::Former("first"));
        assert_eq!(places.whose(3, 11), Whose::Former("second"));
        assert_eq!(places.whose(3, 21), Whose::Current);
        assert_eq!(places.whose(4, 5), Whose::Current);
        assert_eq!(places.whose(NOBODY, 5), Whose::Unknown);
        for n in 0..FORMER_MAX as u64 {
            recorder.session_ended("other", 5, 30 + n);
        }
        assert_eq!(recorder.places().whose(3, 19), Whose::Unknown);
        assert_eq!(recorder.places().whose(3, 21), Whose::Current);
    }

    #[test]
    fn one_that_is_off_takes_nothing() {
        let mut recorder = FlightRecorder::new(0);
        let mark = recorder.mark();
        recorder.note_loss(entry(1, What::Queued as u8));
        recorder.note_message(entry(1, What::Received as u8), hash(1), "a", mark);
        recorder.session_ended("c", 1, 1);
        assert_eq!((recorder.bytes(), all(&recorder).len()), (0, 0));
        assert_eq!(recorder.topic(&entry(1, 0)), None);
    }

    #[test]
    fn every_code_has_its_words() {
        assert_eq!(What::words(What::Received as u8), ("received", None));
        assert_eq!(
            What::words(What::Offline as u8),
            ("not_queued", Some("qos_0_offline"))
        );
        for (code, name) in DropCause::NAMES.iter().enumerate() {
            let code = What::Dropped as u8 + u8::try_from(code).unwrap();
            assert_eq!(What::words(code), ("dropped", Some(*name)));
        }
        assert_eq!(What::words(31), ("dropped", None));
    }
}
