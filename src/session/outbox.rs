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
use crate::routing::shared_subscription::GroupSerial;

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
    pub shared_group: Option<GroupSerial>,
    /// [MQTT-3.3.4-3]
    pub subscription_identifiers: SubscriptionIdentifiers,
    /// Its name in the log, where it was first recorded; 0 if it is not.
    pub entry: u64,
    /// Where the log has the message.
    pub location: u64,
}

/// Messages that a full outbox has let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Because they had expired.
    pub expired: usize,
    /// Because of the limits.
    pub over_limit: usize,
}

/// Visits of a search for expired messages that one push or one message found pays for.
const VISITS_PER_STEP: usize = 16;

/// What waits for one session.
#[derive(Debug, Default)]
pub struct Outbox {
    /// At most `SessionLimits::outbox_messages_max` entries and `outbox_bytes_max` bytes.
    queue: VecDeque<Queued>,
    bytes: usize,
    /// How many have QoS 0.
    at_most_once: usize,
    /// No message expires before this, monotonic milliseconds; none if no message expires at all.
    expires_from_ms: Option<u64>,
    /// Visits of the last search that are not paid for; the next one waits until they are.
    unpaid_visits: usize,
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

    /// Whether QoS 0 waits, which later QoS 0 must not overtake [MQTT-4.6.0-6].
    #[inline]
    pub fn holds_at_most_once(&self) -> bool {
        self.at_most_once > 0
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
    /// limits: those that have expired first, then by the configured policy, where the new one may be the
    /// one to go. `on_drop` learns which.
    pub fn push(
        &mut self,
        queued: Queued,
        limits: &SessionLimits,
        now_ms: u64,
        mut on_drop: impl FnMut(&Queued),
    ) -> Dropped {
        let bytes = queued.message.bytes();
        let mut dropped = Dropped::default();
        if self.is_full_for(bytes, limits) {
            dropped.expired = self.drop_expired(now_ms, &mut on_drop);
        }
        while self.is_full_for(bytes, limits) {
            dropped.over_limit += 1;
            let oldest_goes =
                limits.outbox_full == OutboxFull::DropOldest && !self.queue.is_empty();
            let Some(oldest) = oldest_goes.then(|| self.pop()).flatten() else {
                on_drop(&queued);
                return dropped;
            };
            on_drop(&oldest);
        }
        if let Some(at) = queued.message.view().expires_at_ms {
            self.expires_from_ms = Some(self.expires_from_ms.map_or(at, |from| from.min(at)));
        }
        self.append(queued, bytes);
        dropped
    }

    fn append(&mut self, queued: Queued, bytes: usize) {
        self.bytes += bytes;
        self.at_most_once += usize::from(queued.qos == QoS::AtMostOnce);
        self.queue.push_back(queued);
    }

    /// Drops what has expired. Most messages expire in the order in which they came, so the front is always
    /// looked at; the rest only when the last search is paid for, so that pushes to an outbox that stays
    /// full are cheap. Until then, at most for a sixteenth of the outbox's length, expired messages may
    /// stay behind others.
    fn drop_expired(&mut self, now_ms: u64, on_drop: &mut impl FnMut(&Queued)) -> usize {
        self.unpaid_visits = self.unpaid_visits.saturating_sub(VISITS_PER_STEP);
        if self.expires_from_ms.is_none_or(|from| from > now_ms) {
            return 0;
        }
        let before = self.queue.len();
        while self
            .front()
            .is_some_and(|front| front.message.is_expired(now_ms))
            && let Some(expired) = self.pop()
        {
            on_drop(&expired);
        }
        if self.unpaid_visits == 0 {
            let visits = self.queue.len();
            let mut expires_from_ms: Option<u64> = None;
            let (bytes, at_most_once) = (&mut self.bytes, &mut self.at_most_once);
            self.queue.retain(|queued| {
                if queued.message.is_expired(now_ms) {
                    on_drop(queued);
                    *bytes -= queued.message.bytes();
                    *at_most_once -= usize::from(queued.qos == QoS::AtMostOnce);
                    return false;
                }
                let at = queued.message.view().expires_at_ms;
                expires_from_ms = expires_from_ms.into_iter().chain(at).min();
                true
            });
            self.expires_from_ms = expires_from_ms;
            let found = visits - self.queue.len();
            self.unpaid_visits = visits.saturating_sub(found * VISITS_PER_STEP);
        }
        before - self.queue.len()
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
        self.at_most_once -= usize::from(queued.qos == QoS::AtMostOnce);
        if self.queue.is_empty() && self.queue.capacity() > 64 {
            // An empty outbox owns no large table.
            self.queue = VecDeque::new();
        }
        Some(queued)
    }

    /// Puts a message behind the others whatever the limits: it was within them before the broker started.
    pub fn restore(&mut self, queued: Queued) {
        if let Some(at) = queued.message.view().expires_at_ms {
            self.expires_from_ms = Some(self.expires_from_ms.map_or(at, |from| from.min(at)));
        }
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
                let bytes = queued.message.bytes();
                self.append(queued, bytes);
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
        expiring(topic, None)
    }

    fn expiring(topic: &str, expires_at_ms: Option<u64>) -> Queued {
        let message = MessageView {
            topic,
            topic_hash: TopicHasher::new(1).hash(topic),
            forwarded_properties: &[],
            payload: b"payload",
            qos: QoS::AtLeastOnce,
            retain: false,
            expires_at_ms,
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
            for (topic, over_limit) in [("a", 0), ("b", 0), ("c", 1)] {
                let dropped = outbox.push(queued(topic), &limits, 0, |_| {});
                assert_eq!((dropped.expired, dropped.over_limit), (0, over_limit));
            }
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
            outbox.push(queued("a/topic"), &limits, 0, |_| {});
            assert!(outbox.bytes() <= 400);
        }
        assert!(!outbox.is_empty());
        while outbox.pop().is_some() {}
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn expired_messages_make_room_before_any_live_one_goes() {
        for policy in [OutboxFull::DropOldest, OutboxFull::DropNewest] {
            let limits = limits(4, policy);
            let mut outbox = Outbox::default();
            for (topic, at) in [
                ("a", None),
                ("b", Some(10)),
                ("c", Some(30)),
                ("d", Some(10)),
            ] {
                outbox.push(expiring(topic, at), &limits, 0, |_| {});
            }
            let dropped = outbox.push(queued("e"), &limits, 20, |_| {});
            assert_eq!((dropped.expired, dropped.over_limit), (2, 0));
            assert_eq!(topics(&mut outbox), ["a", "c", "e"]);
            assert_eq!(outbox.bytes(), 0);
        }
    }

    #[test]
    fn a_full_outbox_is_not_searched_at_every_push() {
        let limits = limits(10_000, OutboxFull::DropNewest);
        let mut outbox = Outbox::default();
        outbox.push(queued("stays"), &limits, 0, |_| {});
        // One more expires with each push: the worst case for a search.
        for n in 1..10_000 {
            outbox.push(expiring("t", Some(20_000 - n)), &limits, 0, |_| {});
        }
        let mut searched = 0;
        let mut live_dropped = 0;
        for now_ms in 10_001..20_000 {
            let dropped = outbox.push(expiring("t", Some(50_000)), &limits, now_ms, |_| {});
            searched += usize::from(dropped.expired > 0);
            live_dropped += dropped.over_limit;
        }
        assert!(searched <= 40, "{searched} searches");
        assert!(live_dropped <= 700, "{live_dropped} dropped");
    }
}
