//! Topic Filters and Topic Names: the local index and the interest index find what a naive matcher finds,
//! while subscriptions come and go.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use libfuzzer_sys::fuzz_target;
use ringmq::mqtt::packet::subscribe::SubscriptionOptions;
use ringmq::mqtt::{topic_filter, topic_name};
use ringmq::routing::ids::ShardId;
use ringmq::routing::interest_index::{Interest, InterestChange, InterestIndex, ShardBits};
use ringmq::routing::local_index::{LocalIndex, Subscriber};
use ringmq::routing::topic_hash::TopicHasher;
use ringmq_fuzz::{Input, topics};

const SHARDS: u16 = 2;
/// Beside the plain bytes of the input: they meet more often.
const WORDS: [&str; 8] = ["a", "b", "/", "+", "#", "//", "$", "a/b"];

/// A filter or a name: words, or bytes that happen to be text.
fn text(input: &mut Input<'_>) -> Option<String> {
    let length = input.byte();
    let content = input.take(usize::from(length & 31));
    if length & 32 != 0 {
        return String::from_utf8(content.to_vec()).ok();
    }
    let words = content.iter().map(|byte| WORDS[usize::from(byte % 8)]);
    Some(words.collect())
}

struct Indexes {
    hasher: TopicHasher,
    /// Hashes that collide: a shard may be told too much.
    collide: bool,
    local: Vec<LocalIndex>,
    interest: InterestIndex,
    /// Shard, filter and session.
    held: BTreeMap<(u16, String, u32), Subscriber>,
}

impl Indexes {
    fn new(kind: u8) -> Self {
        let collide = kind % 4 == 0;
        let hasher = match collide {
            true => TopicHasher::colliding(u32::from(kind / 4 % 5)),
            false => TopicHasher::new(u64::from(kind)),
        };
        Self {
            collide,
            local: (0..SHARDS)
                .map(|_| LocalIndex::new(hasher.clone()))
                .collect(),
            interest: InterestIndex::new(hasher.clone()),
            hasher,
            held: BTreeMap::new(),
        }
    }

    fn tell(&mut self, shard: u16, filter: &str, add: bool) {
        let interest = match topic_filter::has_wildcards(filter) {
            true => Interest::Wildcard(filter.into()),
            false => Interest::Exact(self.hasher.hash(filter)),
        };
        self.interest
            .apply(&InterestChange { interest, add }, ShardId(shard));
    }

    fn subscribe(
        &mut self,
        shard: u16,
        filter: String,
        session: u32,
        options: SubscriptionOptions,
    ) {
        let subscriber = Subscriber::new(session, options, session);
        let outcome = self.local[usize::from(shard)].subscribe(&filter, subscriber);
        let first = outcome.first_on_shard;
        if first {
            self.tell(shard, &filter, true);
        }
        let replaced = self
            .held
            .insert((shard, filter, session), subscriber)
            .is_some();
        assert_eq!(outcome.replaced, replaced);
    }

    fn unsubscribe(&mut self, shard: u16, filter: String, session: u32) {
        let outcome = self.local[usize::from(shard)].unsubscribe(&filter, session);
        if outcome
            .as_ref()
            .is_some_and(|outcome| outcome.last_on_shard)
        {
            self.tell(shard, &filter, false);
        }
        let held = self.held.remove(&(shard, filter, session)).is_some();
        assert_eq!(outcome.is_some(), held);
    }

    fn check(&mut self, topic: &str) {
        let hash = self.hasher.hash(topic);
        let mut wanted = BTreeSet::new();
        for (shard, local) in (0..SHARDS).zip(&self.local) {
            let mut ids = Vec::new();
            local.matching(topic, hash, &mut ids);
            let mut found = Vec::new();
            for id in ids {
                let all = local.subscribers(id).iter();
                found.extend(all.map(|one| (local.filter(id).to_owned(), *one)));
            }
            found.sort_by(|(one, a), (other, b)| (one, a.session).cmp(&(other, b.session)));
            let matching = |(on, filter, _): &&(u16, String, u32)| {
                *on == shard && topics::matches(filter, topic)
            };
            let expected = self.held.keys().filter(matching);
            let expected: Vec<_> = expected
                .map(|key| (key.1.clone(), self.held[key]))
                .collect();
            assert_eq!(found, expected, "shard {shard}, topic {topic:?}");
            if !expected.is_empty() {
                wanted.insert(shard);
            }
        }
        let mut shards = ShardBits::default();
        self.interest.matching(topic, hash, &mut shards);
        let told: BTreeSet<u16> = shards.iter().map(|shard| shard.0).collect();
        assert!(
            told.is_superset(&wanted),
            "{topic:?}: {told:?} of {wanted:?}"
        );
        assert!(
            self.collide || told == wanted,
            "{topic:?}: {told:?} for {wanted:?}"
        );
    }

    fn clear(mut self) {
        for (shard, filter, session) in self.held.keys().cloned().collect::<Vec<_>>() {
            self.unsubscribe(shard, filter, session);
        }
        assert!(self.interest.is_empty());
        assert!(self.local.iter().all(|local| local.filter_count() == 0));
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut indexes = Indexes::new(input.byte());
    while !input.is_empty() {
        let step = input.byte();
        let (shard, session) = (u16::from(step >> 2 & 1), u32::from(step >> 3 & 3));
        let Some(text) = text(&mut input) else {
            continue;
        };
        let is_filter = topic_filter::validate(&text).is_ok() && !text.contains('\0');
        match step % 4 {
            0 | 1 if is_filter => {
                let options = SubscriptionOptions::from_byte(step >> 5 & 1 | 4 * (step >> 6 & 1));
                let options = options.expect("QoS 0 or 1, with or without No Local");
                indexes.subscribe(shard, text, session, options);
            }
            2 if is_filter => indexes.unsubscribe(shard, text, session),
            3 if topic_name::validate(&text).is_ok() => indexes.check(&text),
            _ => {}
        }
    }
    indexes.clear();
});
