//! The subscriptions of this shard's sessions: Topic Filter to subscribers.
//!
//! Called for every message. Shared subscriptions are in `shared_subscription`.
//!
//! Invariant: `first_on_shard` and `last_on_shard` tell exactly when other shards must learn that this one
//! is interested or no longer is. For exact filters interest is kept by hash, so filters whose hashes
//! collide count as one.

use crate::mqtt::packet::subscribe::SubscriptionOptions;
use crate::mqtt::topic_filter::has_wildcards;

use super::filter_table::FilterTable;
use super::ids::SessionIndex;
use super::subscribers::Subscribers;
use super::topic_hash::{TopicHash, TopicHasher};

/// The number of a Topic Filter in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(pub u32);

/// One subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Whose it is.
    pub session: SessionIndex,
    /// Subscription Identifier; 0 is none.
    pub subscription_identifier: u32,
    /// Subscription Options as their byte.
    options: u8,
}

impl Subscriber {
    /// A subscription of `session`.
    pub fn new(
        session: SessionIndex,
        options: SubscriptionOptions,
        subscription_identifier: u32,
    ) -> Self {
        Self {
            session,
            subscription_identifier,
            options: options.to_byte(),
        }
    }

    /// Maximum QoS, as bits.
    #[inline]
    pub fn qos_bits(&self) -> u8 {
        self.options & 3
    }

    /// Subscription Options as their byte.
    pub fn options(&self) -> u8 {
        self.options
    }

    /// No Local.
    #[inline]
    pub fn no_local(&self) -> bool {
        self.options & 4 != 0
    }

    /// Retain As Published.
    #[inline]
    pub fn retain_as_published(&self) -> bool {
        self.options & 8 != 0
    }
}

/// What a subscribe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeOutcome {
    /// The filter's number.
    pub filter: FilterId,
    /// The session had this subscription, which is replaced [MQTT-3.8.4-3].
    pub replaced: bool,
    /// Other shards must learn of it.
    pub first_on_shard: bool,
}

/// What an unsubscribe changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubscribeOutcome {
    /// The filter's former number.
    pub filter: FilterId,
    /// Other shards must learn of it.
    pub last_on_shard: bool,
}

/// Topic Filter to subscribers.
#[derive(Debug)]
pub struct LocalIndex {
    table: FilterTable<Subscribers>,
}

impl LocalIndex {
    /// An empty index.
    pub fn new(hasher: TopicHasher) -> Self {
        Self {
            table: FilterTable::new(hasher),
        }
    }

    /// How many different filters there are.
    pub fn filter_count(&self) -> usize {
        self.table.len()
    }

    /// Numbers of filters are below this.
    pub fn places(&self) -> u32 {
        self.table.places()
    }

    /// The text of a filter.
    pub fn filter(&self, filter: FilterId) -> &str {
        self.table.filter(filter)
    }

    /// The number of a filter that somebody is subscribed to.
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        self.table.find(filter)
    }

    /// Adds or replaces a subscription.
    pub fn subscribe(&mut self, filter: &str, subscriber: Subscriber) -> SubscribeOutcome {
        let mut is_new = false;
        let id = self.table.get_or_insert(filter, || {
            is_new = true;
            Subscribers::One(subscriber)
        });
        let mut replaced = false;
        if !is_new && let Some(subscribers) = self.table.get_mut(id) {
            replaced = subscribers.add(subscriber);
        }
        let first_on_shard = is_new && !self.shares_interest(filter, id);
        SubscribeOutcome {
            filter: id,
            replaced,
            first_on_shard,
        }
    }

    /// Whether another filter stands for the same interest at other shards.
    fn shares_interest(&self, filter: &str, id: FilterId) -> bool {
        !has_wildcards(filter) && self.table.shares_hash(id, self.table.hash(filter))
    }

    /// Removes the subscription of `session` to `filter`.
    pub fn unsubscribe(
        &mut self,
        filter: &str,
        session: SessionIndex,
    ) -> Option<UnsubscribeOutcome> {
        self.remove(self.table.find(filter)?, session)
    }

    /// Removes a subscription by the number of its filter.
    pub fn remove(&mut self, id: FilterId, session: SessionIndex) -> Option<UnsubscribeOutcome> {
        let last = match self.table.get_mut(id)? {
            Subscribers::One(subscriber) => (subscriber.session == session).then_some(true)?,
            many @ Subscribers::Many(_) => many.remove(session).then_some(false)?,
        };
        if !last {
            return Some(UnsubscribeOutcome {
                filter: id,
                last_on_shard: false,
            });
        }
        let last_on_shard = !self.shares_interest(self.table.filter(id), id);
        self.table.remove(id);
        Some(UnsubscribeOutcome {
            filter: id,
            last_on_shard,
        })
    }

    /// Appends the filters that match `topic`.
    #[inline]
    pub fn matching(&self, topic: &str, hash: TopicHash, found: &mut Vec<FilterId>) {
        self.table.matching(topic, hash, found);
    }

    /// The subscribers of a filter, in no order.
    #[inline]
    pub fn subscribers(&self, filter: FilterId) -> &[Subscriber] {
        self.table.get(filter).map_or(&[], Subscribers::as_slice)
    }

    /// The subscription of `session` to a filter.
    pub fn subscription(&self, filter: FilterId, session: SessionIndex) -> Option<&Subscriber> {
        self.table.get(filter)?.find(session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::data_types::QoS;
    use crate::mqtt::packet::subscribe::RetainHandling;

    fn subscriber(session: SessionIndex) -> Subscriber {
        let options = SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        Subscriber::new(session, options, 0)
    }

    #[test]
    fn the_first_and_the_last_subscriber_are_told() {
        let mut index = LocalIndex::new(TopicHasher::new(1));
        assert!(index.subscribe("a/+", subscriber(2)).first_on_shard);
        assert!(!index.subscribe("a/+", subscriber(1)).first_on_shard);
        assert!(index.subscribe("a/+", subscriber(1)).replaced);
        assert_eq!(
            index
                .unsubscribe("a/+", 2)
                .map(|outcome| outcome.last_on_shard),
            Some(false)
        );
        assert_eq!(index.unsubscribe("a/+", 2), None);
        assert_eq!(
            index
                .unsubscribe("a/+", 1)
                .map(|outcome| outcome.last_on_shard),
            Some(true)
        );
        assert_eq!(index.filter_count(), 0);
    }

    #[test]
    fn exact_filters_whose_hashes_collide_are_one_interest() {
        let mut index = LocalIndex::new(TopicHasher::colliding(0));
        assert!(index.subscribe("a", subscriber(1)).first_on_shard);
        assert!(!index.subscribe("b", subscriber(1)).first_on_shard);
        assert_eq!(
            index
                .unsubscribe("a", 1)
                .map(|outcome| outcome.last_on_shard),
            Some(false)
        );
        assert_eq!(
            index
                .unsubscribe("b", 1)
                .map(|outcome| outcome.last_on_shard),
            Some(true)
        );
    }
}
