//! The local index and the interest index against a naive matcher, through subscribe, replace, unsubscribe and
//! match in any order, with hashes that collide and hashes that do not.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use ringmq::mqtt::packet::subscribe::SubscriptionOptions;
use ringmq::routing::ids::ShardId;
use ringmq::routing::interest_index::{Interest, InterestChange, InterestIndex, ShardBits};
use ringmq::routing::local_index::{LocalIndex, Subscriber};
use ringmq::routing::topic_hash::TopicHasher;

/// Few levels, so that filters and topics meet.
const LEVELS: [&str; 6] = ["a", "b", "", "ab", "$a", "\u{e9}"];

fn topic() -> impl Strategy<Value = String> {
    vec(select(&LEVELS[..]), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a character at least", |topic| !topic.is_empty())
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => select(&LEVELS[..]), 2 => Just("+")];
    (vec(level, 0..5), any::<bool>())
        .prop_map(|(mut levels, all)| {
            if all {
                levels.push("#");
            }
            levels.join("/")
        })
        .prop_filter("a character at least", |filter| !filter.is_empty())
}

/// 4.7, as it is written: by recursion over the levels.
pub fn naive_match(filter: &str, topic: &str) -> bool {
    fn levels(filter: &[&str], topic: &[&str]) -> bool {
        match (filter, topic) {
            (["#"], _) | ([], []) => true,
            (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
            ([wanted, filter @ ..], [level, topic @ ..]) => {
                wanted == level && levels(filter, topic)
            }
            _ => false,
        }
    }
    let hidden = topic.starts_with('$') && (filter.starts_with('#') || filter.starts_with('+'));
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    !hidden && levels(&filter, &topic)
}

#[derive(Clone, Debug)]
enum Step {
    Subscribe {
        shard: u16,
        session: u32,
        filter: String,
        options: u8,
        identifier: u32,
    },
    Unsubscribe {
        shard: u16,
        session: u32,
        filter: String,
    },
    /// The nth subscription that there is.
    UnsubscribeOne(prop::sample::Index),
    Match(String),
}

const SHARDS: u16 = 4;

fn step() -> impl Strategy<Value = Step> {
    let options = (0..3_u8, 0..16_u8).prop_map(|(qos, more)| qos | (more & 0x0b) << 2);
    prop_oneof![
        4 => (0..SHARDS, 0..6_u32, filter(), options, 0..4_u32).prop_map(
            |(shard, session, filter, options, identifier)| Step::Subscribe {
                shard, session, filter, options, identifier,
            }
        ),
        1 => (0..SHARDS, 0..6_u32, filter()).prop_map(
            |(shard, session, filter)| Step::Unsubscribe { shard, session, filter }
        ),
        3 => any::<prop::sample::Index>().prop_map(Step::UnsubscribeOne),
        3 => topic().prop_map(Step::Match),
    ]
}

/// Filter and session to what the subscription has, for one shard.
type Model = BTreeMap<(String, u32), Subscriber>;

/// The indexes of all shards, and one replica of their interests.
struct Indexes {
    hasher: TopicHasher,
    local: Vec<LocalIndex>,
    interest: InterestIndex,
    model: Vec<Model>,
}

impl Indexes {
    fn new(hasher: &TopicHasher) -> Self {
        Self {
            hasher: hasher.clone(),
            local: (0..SHARDS)
                .map(|_| LocalIndex::new(hasher.clone()))
                .collect(),
            interest: InterestIndex::new(hasher.clone()),
            model: vec![Model::new(); usize::from(SHARDS)],
        }
    }

    fn tell(&mut self, shard: u16, filter: &str, add: bool) {
        let interest = match filter.contains(['+', '#']) {
            true => Interest::Wildcard(filter.into()),
            false => Interest::Exact(self.hasher.hash(filter)),
        };
        self.interest
            .apply(&InterestChange { interest, add }, ShardId(shard));
    }

    fn subscribe(&mut self, shard: u16, filter: &str, subscriber: Subscriber) {
        let at = usize::from(shard);
        let outcome = self.local[at].subscribe(filter, subscriber);
        let key = (filter.to_owned(), subscriber.session);
        let replaced = self.model[at].insert(key, subscriber).is_some();
        assert_eq!(outcome.replaced, replaced, "{filter}");
        assert_eq!(self.local[at].filter(outcome.filter), filter);
        if outcome.first_on_shard {
            self.tell(shard, filter, true);
        }
    }

    fn unsubscribe(&mut self, shard: u16, filter: &str, session: u32) {
        let at = usize::from(shard);
        let outcome = self.local[at].unsubscribe(filter, session);
        let held = self.model[at]
            .remove(&(filter.to_owned(), session))
            .is_some();
        assert_eq!(outcome.is_some(), held, "{filter}");
        if outcome.is_some_and(|outcome| outcome.last_on_shard) {
            self.tell(shard, filter, false);
        }
    }

    /// Everything that the indexes say about `topic`.
    fn check(&mut self, topic: &str, collisions: bool) {
        let hash = self.hasher.hash(topic);
        let mut wanted = BTreeSet::new();
        for (shard, model) in (0..SHARDS).zip(&self.model) {
            let local = &self.local[usize::from(shard)];
            let mut ids = Vec::new();
            local.matching(topic, hash, &mut ids);
            let mut found: Vec<((String, u32), Subscriber)> = Vec::new();
            for id in ids {
                for subscriber in local.subscribers(id) {
                    let key = (local.filter(id).to_owned(), subscriber.session);
                    found.push((key, *subscriber));
                    assert_eq!(local.subscription(id, subscriber.session), Some(subscriber));
                }
            }
            found.sort_by(|a, b| a.0.cmp(&b.0));
            let expected: Vec<((String, u32), Subscriber)> = model
                .iter()
                .filter(|((filter, _), _)| naive_match(filter, topic))
                .map(|(key, subscriber)| (key.clone(), *subscriber))
                .collect();
            assert_eq!(found, expected, "shard {shard}, topic {topic:?}");
            if !expected.is_empty() {
                wanted.insert(shard);
            }
        }
        let mut shards = ShardBits::default();
        self.interest.matching(topic, hash, &mut shards);
        let told: BTreeSet<u16> = shards.iter().map(|shard| shard.0).collect();
        if collisions {
            // A shard may be told too much, and never too little.
            assert!(
                told.is_superset(&wanted),
                "{topic:?}: {told:?} of {wanted:?}"
            );
        } else {
            assert_eq!(told, wanted, "{topic:?}");
        }
    }

    /// Everything about the topics that are somebody's filters.
    fn check_exact(&mut self, collisions: bool) {
        let held = self.model.iter().flat_map(Model::keys);
        let exact: BTreeSet<String> = held
            .map(|(filter, _)| filter.clone())
            .filter(|filter| !filter.contains(['+', '#']))
            .collect();
        for topic in exact {
            self.check(&topic, collisions);
        }
    }

    /// The numbers of filters.
    fn check_counts(&self) {
        for (local, model) in self.local.iter().zip(&self.model) {
            let filters: BTreeSet<&String> = model.keys().map(|(filter, _)| filter).collect();
            assert_eq!(local.filter_count(), filters.len());
            for filter in filters {
                let id = local.find(filter).expect("a filter that somebody has");
                assert_eq!(local.filter(id), filter);
            }
        }
    }

    fn run(&mut self, step: Step, collisions: bool) {
        match step {
            Step::Subscribe {
                shard,
                session,
                filter,
                options,
                identifier,
            } => {
                let options = SubscriptionOptions::from_byte(options).expect("allowed options");
                self.subscribe(
                    shard,
                    &filter,
                    Subscriber::new(session, options, identifier),
                );
            }
            Step::Unsubscribe {
                shard,
                session,
                filter,
            } => self.unsubscribe(shard, &filter, session),
            Step::UnsubscribeOne(index) => {
                let all: Vec<(u16, String, u32)> = (0..SHARDS)
                    .zip(&self.model)
                    .flat_map(|(shard, model)| {
                        let keys = model.keys().cloned();
                        keys.map(move |(filter, session)| (shard, filter, session))
                    })
                    .collect();
                if !all.is_empty() {
                    let (shard, filter, session) = all[index.index(all.len())].clone();
                    self.unsubscribe(shard, &filter, session);
                    self.check_exact(collisions);
                }
            }
            Step::Match(topic) => self.check(&topic, collisions),
        }
        self.check_counts();
    }

    /// Removes all that is left: nothing must remain.
    fn clear(&mut self) {
        for shard in 0..SHARDS {
            let keys: Vec<(String, u32)> = self.model[usize::from(shard)].keys().cloned().collect();
            for (filter, session) in keys {
                self.unsubscribe(shard, &filter, session);
            }
            assert_eq!(self.local[usize::from(shard)].filter_count(), 0);
        }
        assert!(
            self.interest.is_empty(),
            "{} interests are left",
            self.interest.len()
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_indexes_find_what_a_naive_matcher_finds(steps in vec(step(), 1..80)) {
        let mut indexes = Indexes::new(&TopicHasher::new(7));
        for step in steps {
            indexes.run(step, false);
        }
        indexes.clear();
    }

    #[test]
    fn hashes_that_collide_change_nothing(bits in 0..5_u32, steps in vec(step(), 1..80)) {
        let mut indexes = Indexes::new(&TopicHasher::colliding(bits));
        for step in steps {
            indexes.run(step, true);
        }
        indexes.clear();
    }

    #[test]
    fn the_plain_definition_is_the_naive_one(filter in filter(), topic in topic()) {
        prop_assert_eq!(
            ringmq::mqtt::topic_filter::matches(&filter, &topic),
            naive_match(&filter, &topic)
        );
        prop_assert!(ringmq::mqtt::topic_filter::validate(&filter).is_ok());
    }
}
