//! Retained messages for a new subscription: asked from their owners in slices, at the pace of the client.
//!
//! A delivery belongs to the session and waits with it while the client is away. Invariant: a retained
//! message is not sent after a newer live one of its topic. The live ones that come from SUBSCRIBE to the
//! end of the delivery are noted, and their topics are left out: also those before SUBACK, for the owner of
//! the topic may be asked before the publisher's shard has told it.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashSet;

use crate::mqtt::data_types::QoS;
use crate::mqtt::topic_filter::has_wildcards;
use crate::routing::application_message::ApplicationMessage;
use crate::routing::ids::{SessionIndex, ShardId};
use crate::routing::local_index::Subscriber;
use crate::routing::retained::{RetainedCursor, Slice};
use crate::routing::topic_hash::{TopicHash, shard_of};

use super::delivery::{Publication, Target};
use super::envelope::Envelope;
use super::visibility::WantsRetained;
use super::{Broker, Now};

/// What is still to come from one owner.
#[derive(Debug)]
enum Source {
    /// To be asked from here on.
    Ready(ShardId, Option<Box<RetainedCursor>>),
    /// Asked.
    Asked(ShardId),
}

/// A delivery of retained messages that is under way.
#[derive(Debug)]
pub(super) struct RetainedDelivery {
    session: SessionIndex,
    /// Tells it from a later one with the same number.
    serial: u32,
    /// SUBACK is sent; before, live messages are only noted.
    begun: bool,
    filter: Arc<str>,
    subscriber: Subscriber,
    /// At most one for each shard.
    sources: Vec<Source>,
    /// Messages of the slices that have come; at most one slice (`RetainedLimits::slice_messages` of `_max`
    /// `slice_bytes`) for each source.
    waiting: VecDeque<ApplicationMessage>,
    /// Topics with a newer live message; no more than there are retained messages (`messages_max`).
    superseded: HashSet<TopicHash, foldhash::fast::RandomState>,
    /// The subscription is gone; the answer that is still to come ends the delivery.
    cancelled: bool,
}

impl RetainedDelivery {
    /// A live message with RETAIN has come for `topic`.
    pub(super) fn supersede(&mut self, topic: TopicHash) {
        self.superseded.insert(topic);
    }

    fn is_done(&self) -> bool {
        self.begun && self.sources.is_empty() && self.waiting.is_empty()
    }
}

impl Broker {
    /// Makes a delivery for a subscription whose SUBACK is still to come.
    pub(super) fn prepare_retained(
        &mut self,
        filter: &str,
        subscriber: Subscriber,
    ) -> WantsRetained {
        let session = subscriber.session;
        self.cancel_retained(session, filter);
        let serial = self.next_serial();
        let key = self.retained_deliveries.insert(RetainedDelivery {
            session,
            serial,
            begun: false,
            filter: filter.into(),
            subscriber,
            sources: Vec::new(),
            waiting: VecDeque::new(),
            superseded: HashSet::default(),
            cancelled: false,
        });
        // Bounded by the subscriptions there are.
        let number = u32::try_from(key).unwrap_or(u32::MAX);
        if let Some(session) = self.clients.session_mut(session) {
            session.delivery_mut().retained_deliveries.push(number);
        }
        WantsRetained { number, serial }
    }

    /// Begins a delivery, unless its subscription is gone or was made anew.
    pub(super) fn begin_retained(&mut self, wanted: WantsRetained, now: Now) {
        let Some(delivery) = self.prepared(wanted) else {
            return;
        };
        delivery.begun = true;
        let filter = Arc::clone(&delivery.filter);
        let sources = match has_wildcards(&filter) {
            true => (0..self.shard_count)
                .map(|shard| Source::Ready(ShardId(shard), None))
                .collect(),
            false => {
                let owner = shard_of(self.hasher.hash(&filter), self.shard_count);
                vec![Source::Ready(owner, None)]
            }
        };
        if let Some(delivery) = self.prepared(wanted) {
            delivery.sources = sources;
        }
        self.pump_retained(wanted.number, now);
    }

    /// Gives up a delivery whose SUBACK has nowhere to go.
    pub(super) fn abandon_retained(&mut self, wanted: WantsRetained) {
        if self.prepared(wanted).is_some() {
            self.finish_retained(wanted.number);
        }
    }

    fn prepared(&mut self, wanted: WantsRetained) -> Option<&mut RetainedDelivery> {
        let delivery = self.retained_deliveries.get_mut(wanted.number as usize)?;
        (delivery.serial == wanted.serial && !delivery.cancelled).then_some(delivery)
    }

    /// Goes on with a delivery as far as the client has room.
    pub(super) fn pump_retained(&mut self, number: u32, now: Now) {
        let key = number as usize;
        loop {
            let Some(delivery) = self.retained_deliveries.get_mut(key) else {
                return;
            };
            if !delivery.begun {
                return;
            }
            if delivery.is_done() {
                self.finish_retained(number);
                return;
            }
            if !self.clients.has_room(delivery.session) {
                return;
            }
            if let Some(message) = delivery.waiting.pop_front() {
                let stale = delivery.superseded.contains(&message.topic_hash());
                if !stale && !message.is_expired(now.mono_ms) {
                    let (session, subscriber) = (delivery.session, delivery.subscriber);
                    self.send_retained(session, &subscriber, &message, now);
                }
                continue;
            }
            let ready = delivery
                .sources
                .iter()
                .position(|source| matches!(source, Source::Ready(..)));
            let Some(position) = ready else { return };
            let Source::Ready(owner, cursor) = delivery.sources.swap_remove(position) else {
                return;
            };
            let filter = Arc::clone(&delivery.filter);
            if owner == self.id {
                let slice = self.retained.select(
                    &filter,
                    cursor.map(|cursor| *cursor),
                    &self.config.retained,
                    now.mono_ms,
                );
                self.take_slice(number, owner, slice);
            } else {
                delivery.sources.push(Source::Asked(owner));
                self.mesh.stage(
                    owner,
                    Envelope::RetainedQuery {
                        delivery: number,
                        filter,
                        cursor,
                    },
                );
            }
        }
    }

    fn send_retained(
        &mut self,
        session: SessionIndex,
        subscriber: &Subscriber,
        message: &ApplicationMessage,
        now: Now,
    ) {
        let identifier = [subscriber.subscription_identifier];
        let target = Target {
            session,
            qos: QoS::from_bits(subscriber.qos_bits()).unwrap_or(QoS::AtMostOnce),
            retain: true, // [MQTT-3.3.1-8]
            subscription_identifiers: if identifier == [0] { &[] } else { &identifier },
            group: None,
        };
        self.clients
            .deliver(&target, &mut Publication::of(message), now.mono_ms);
        self.clients.live_retained.clear(); // a retained message does not supersede itself
    }

    fn take_slice(&mut self, number: u32, owner: ShardId, slice: Slice) {
        let Some(delivery) = self.retained_deliveries.get_mut(number as usize) else {
            return;
        };
        delivery
            .sources
            .retain(|source| !matches!(source, Source::Asked(asked) if *asked == owner));
        delivery.waiting.extend(slice.messages);
        if let Some(next) = slice.next {
            delivery
                .sources
                .push(Source::Ready(owner, Some(Box::new(next))));
        }
    }

    /// A slice has come from another shard.
    pub(super) fn retained_slice(&mut self, from: ShardId, number: u32, slice: Slice, now: Now) {
        self.take_slice(number, from, slice);
        let cancelled = self
            .retained_deliveries
            .get_mut(number as usize)
            .is_some_and(|delivery| {
                if delivery.cancelled {
                    delivery.waiting.clear();
                    delivery
                        .sources
                        .retain(|source| matches!(source, Source::Asked(_)));
                }
                delivery.cancelled
            });
        match cancelled {
            true => self.remove_cancelled(number),
            false => self.pump_retained(number, now),
        }
    }

    fn finish_retained(&mut self, number: u32) {
        let Some(delivery) = self.retained_deliveries.try_remove(number as usize) else {
            return;
        };
        if let Some(session) = self.clients.session_mut(delivery.session) {
            if let Some(state) = session.delivery.as_mut() {
                state.retained_deliveries.retain(|other| *other != number);
            }
            session.shrink();
        }
    }

    /// Ends the delivery of a subscription that is gone or made anew.
    pub(super) fn cancel_retained(&mut self, index: SessionIndex, filter: &str) {
        let Some(state) = self
            .clients
            .session_mut(index)
            .and_then(|session| session.delivery.as_mut())
        else {
            return;
        };
        let deliveries = &self.retained_deliveries;
        let of_filter = |number: &u32| {
            deliveries
                .get(*number as usize)
                .is_some_and(|delivery| *delivery.filter == *filter)
        };
        if let Some(position) = state.retained_deliveries.iter().position(of_filter) {
            let number = state.retained_deliveries.remove(position);
            self.drop_retained(number);
        }
    }

    /// Ends a delivery; one that still waits for an answer keeps its number until that has come.
    pub(super) fn drop_retained(&mut self, number: u32) {
        if let Some(delivery) = self.retained_deliveries.get_mut(number as usize) {
            delivery.cancelled = true;
            delivery.waiting.clear();
            delivery.superseded.clear();
            delivery
                .sources
                .retain(|source| matches!(source, Source::Asked(_)));
        }
        self.remove_cancelled(number);
    }

    fn remove_cancelled(&mut self, number: u32) {
        let delivery = self.retained_deliveries.get(number as usize);
        if delivery.is_some_and(|delivery| delivery.cancelled && delivery.sources.is_empty()) {
            self.retained_deliveries.try_remove(number as usize);
        }
    }
}
