//! The outbox: messages that wait for a session, while it is offline or its window is closed.
//!
//! Owned by [`super::Delivery`]. Bounded in messages and in bytes; what does not fit is dropped by the
//! configured policy and handed back to the caller, who counts it. A message in several outboxes is held
//! once and counted in each.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::config::limits::{OutboxFull, SessionLimits};
use crate::mqtt::data_types::QoS;
use crate::routing::application_message::ApplicationMessage;

/// The Subscription Identifiers of all the subscriptions that a message matched; mostly none or one.
pub type SubscriptionIdentifiers = SmallVec<[u32; 2]>;

/// A message with what its delivery to one session needs.
#[derive(Clone, Debug)]
pub struct Queued {
    /// The message, shared with all its other receivers.
    pub message: ApplicationMessage,
    /// The QoS of this delivery: the lower of the message's and the subscription's [MQTT-3.8.4-8].
    pub qos: QoS,
    /// The RETAIN flag of this delivery.
    pub retain: bool,
    /// The shared group it was chosen from, to which it returns when this session ends.
    pub shared_group: Option<u32>,
    /// [MQTT-3.3.4-3]
    pub subscription_identifiers: SubscriptionIdentifiers,
    /// Its name in the log, where it was first recorded; 0 if it is not.
    pub entry: u64,
    /// Where the log has the message.
    pub location: u64,
}

/// What waits for one session.
#[derive(Debug, Default)]
pub struct Outbox {
    /// At most `SessionLimits::outbox_messages_max` entries and `outbox_bytes_max` bytes.
    queue: VecDeque<Queued>,
    bytes: usize,
}

impl Outbox {
    /// How many messages wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The bytes of all waiting messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a message of `bytes` would be over a limit.
    pub fn is_full_for(&self, bytes: usize, limits: &SessionLimits) -> bool {
        self.queue.len() >= limits.outbox_messages_max as usize
            || self.bytes.saturating_add(bytes) > limits.outbox_bytes_max as usize
    }

    /// Queues a message behind the others. Gives how many messages were dropped to stay within the
    /// limits, the new one among them if it is the one to go; `on_drop` learns which.
    pub fn push(
        &mut self,
        queued: Queued,
        limits: &SessionLimits,
        mut on_drop: impl FnMut(&Queued),
    ) -> usize {
        let bytes = queued.message.bytes();
        let mut dropped = 0;
        while self.is_full_for(bytes, limits) {
            let oldest_goes =
                limits.outbox_full == OutboxFull::DropOldest && !self.queue.is_empty();
            let Some(oldest) = oldest_goes.then(|| self.pop()).flatten() else {
                on_drop(&queued);
                return dropped + 1;
            };
            on_drop(&oldest);
            dropped += 1;
        }
        self.bytes += bytes;
        self.queue.push_back(queued);
        dropped
    }

    /// The next message to send, which stays queued.
    pub fn front(&self) -> Option<&Queued> {
        self.queue.front()
    }

    /// Takes the next message to send.
    #[inline]
    pub fn pop(&mut self) -> Option<Queued> {
        let queued = self.queue.pop_front()?;
        self.bytes -= queued.message.bytes();
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            // An empty outbox owns no large table.
            self.queue = VecDeque::new();
        }
        Some(queued)
    }

    /// Puts a message behind the others whatever the limits: it was within them before the broker started.
    pub fn restore(&mut self, queued: Queued) {
        self.bytes += queued.message.bytes();
        self.queue.push_back(queued);
    }

    /// The waiting messages, in order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Queued> {
        self.queue.iter_mut()
    }

    /// Takes out the messages for which `wanted` is true, in order.
    pub fn take_where(&mut self, wanted: impl Fn(&Queued) -> bool) -> Vec<Queued> {
        let mut taken = Vec::new();
        for _ in 0..self.queue.len() {
            let Some(queued) = self.pop() else { break };
            if wanted(&queued) {
                taken.push(queued);
            } else {
                self.bytes += queued.message.bytes();
                self.queue.push_back(queued);
            }
        }
        taken
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::routing::application_message::MessageView;
    use crate::routing::topic_hash::TopicHasher;

    /// A message of QoS 1 for tests.
    pub(crate) fn queued(topic: &str) -> Queued {
        let message = MessageView {
            topic,
            topic_hash: TopicHasher::new(1).hash(topic),
            forwarded_properties: &[],
            payload: b"payload",
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at_ms: None,
        };
        Queued {
            message: message.to_message(),
            qos: QoS::AtLeastOnce,
            retain: false,
            shared_group: None,
            subscription_identifiers: SubscriptionIdentifiers::new(),
            entry: 0,
            location: 0,
        }
    }

    fn limits(messages: u32, policy: OutboxFull) -> SessionLimits {
        SessionLimits {
            outbox_messages_max: messages,
            outbox_full: policy,
            ..SessionLimits::default()
        }
    }

    fn topics(outbox: &mut Outbox) -> Vec<String> {
        outbox
            .take_where(|_| true)
            .iter()
            .map(|queued| queued.message.topic().to_owned())
            .collect()
    }

    #[test]
    fn the_oldest_or_the_newest_goes_as_configured() {
        for (policy, left) in [
            (OutboxFull::DropOldest, ["b", "c"]),
            (OutboxFull::DropNewest, ["a", "b"]),
        ] {
            let limits = limits(2, policy);
            let mut outbox = Outbox::default();
            assert_eq!(outbox.push(queued("a"), &limits, |_| {}), 0);
            assert_eq!(outbox.push(queued("b"), &limits, |_| {}), 0);
            assert_eq!(outbox.push(queued("c"), &limits, |_| {}), 1);
            assert_eq!(topics(&mut outbox), left);
        }
    }

    #[test]
    fn bytes_are_bounded_and_return_to_zero() {
        let limits = SessionLimits {
            outbox_bytes_max: 400,
            ..SessionLimits::default()
        };
        let mut outbox = Outbox::default();
        for _ in 0..100 {
            outbox.push(queued("a/topic"), &limits, |_| {});
            assert!(outbox.bytes() <= 400);
        }
        assert!(!outbox.is_empty());
        while outbox.pop().is_some() {}
        assert_eq!(outbox.bytes(), 0);
    }
}
