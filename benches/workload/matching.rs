//! A topic against an index of many filters.

use ringmq::mqtt::data_types::QoS;
use ringmq::mqtt::packet::subscribe::{RetainHandling, SubscriptionOptions};
use ringmq::routing::local_index::{FilterId, LocalIndex, Subscriber};
use ringmq::routing::topic_hash::{TopicHash, TopicHasher};

/// Topics that are looked up.
const TOPICS: usize = 64;

/// An index and topics, one filter for each.
pub struct Index {
    index: LocalIndex,
    topics: Vec<(String, TopicHash)>,
    found: Vec<FilterId>,
}

/// An index of `filters` filters without wildcards.
pub fn exact(filters: usize) -> Index {
    index(filters, |number| {
        format!("site/{}/pump/{number}/flow", number % 100)
    })
}

/// An index of `filters` filters with a wildcard, of which one matches each topic.
pub fn wildcard(filters: usize) -> Index {
    index(filters, |number| {
        format!("site/{}/+/{number}/#", number % 100)
    })
}

fn index(filters: usize, filter: impl Fn(usize) -> String) -> Index {
    let hasher = TopicHasher::new(7);
    let mut index = LocalIndex::new(hasher.clone());
    for number in 0..filters {
        index.subscribe(&filter(number), Subscriber::new(0, options(), 0));
    }
    let topics = (0..TOPICS)
        .map(|at| at * (filters / TOPICS).max(1) % filters)
        .map(|number| format!("site/{}/pump/{number}/flow", number % 100))
        .map(|topic| (topic.clone(), hasher.hash(&topic)))
        .collect();
    Index {
        index,
        topics,
        found: Vec::with_capacity(8),
    }
}

impl Index {
    /// Looks all topics up.
    ///
    /// # Panics
    /// If one has another number of filters than one.
    pub fn run(&mut self) {
        for (topic, hash) in &self.topics {
            self.found.clear();
            self.index.matching(topic, *hash, &mut self.found);
            assert_eq!(self.found.len(), 1);
        }
    }
}

fn options() -> SubscriptionOptions {
    SubscriptionOptions {
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    }
}

/// An index of one filter with many subscribers, who all leave.
pub struct Crowd {
    index: LocalIndex,
    subscribers: u32,
}

/// `subscribers` subscribers of one filter.
pub fn crowd(subscribers: u32) -> Crowd {
    let mut index = LocalIndex::new(TopicHasher::new(7));
    for session in 0..subscribers {
        index.subscribe("crowd", Subscriber::new(session, options(), 0));
    }
    Crowd { index, subscribers }
}

impl Crowd {
    /// All leave, the first ones first.
    ///
    /// # Panics
    /// If one was not there.
    pub fn run(&mut self) {
        for session in 0..self.subscribers {
            assert!(self.index.unsubscribe("crowd", session).is_some());
        }
    }
}
