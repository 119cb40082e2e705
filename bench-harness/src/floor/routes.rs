//! Topic Name -> subscribers.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// A subscriber of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Slot of its connection.
    pub slot: u32,
    /// Highest QoS that it takes.
    pub qos: u8,
}

/// Who gets what.
#[derive(Debug, Default)]
pub struct Routes {
    topics: HashMap<Vec<u8>, Vec<Subscriber>, FixedState>,
}

impl Routes {
    /// Subscribes; again changes the QoS.
    pub fn subscribe(&mut self, filter: &[u8], subscriber: Subscriber) {
        let subscribers = self.topics.entry(filter.to_vec()).or_default();
        let same = subscribers
            .iter_mut()
            .find(|one| one.slot == subscriber.slot);
        match same {
            Some(same) => *same = subscriber,
            None => subscribers.push(subscriber),
        }
    }

    /// Subscribers of a topic.
    #[inline]
    pub fn subscribers(&self, topic: &[u8]) -> &[Subscriber] {
        self.topics.get(topic).map_or(&[], Vec::as_slice)
    }

    /// Forgets a connection.
    pub fn remove(&mut self, slot: u32) {
        self.topics.retain(|_, subscribers| {
            subscribers.retain(|one| one.slot != slot);
            !subscribers.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_ends_with_its_connection() {
        let mut routes = Routes::default();
        let one = Subscriber { slot: 1, qos: 0 };
        routes.subscribe(b"a", one);
        routes.subscribe(b"a", Subscriber { slot: 2, qos: 1 });
        routes.subscribe(b"a", Subscriber { qos: 1, ..one });
        assert_eq!(routes.subscribers(b"a").len(), 2);
        assert_eq!(routes.subscribers(b"a")[0].qos, 1);
        routes.remove(1);
        assert_eq!(routes.subscribers(b"a").len(), 1);
        assert!(routes.subscribers(b"b").is_empty());
    }
}
