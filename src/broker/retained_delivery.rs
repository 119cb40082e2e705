//! Retained messages for a new subscription: asked from their owners in slices, at the pace of the client.
//!
//! A delivery belongs to the session and waits with it while the client is away. Invariant: a retained
//! message is not sent after a newer live one of its topic. The live ones that come from SUBSCRIBE to the
//! end of the delivery are noted, and their topics are left out: also those before SUBACK, for the owner of
//! the topic may be asked before the publisher's shard has told it.
//!
//! A session has a few deliveries at work, and the others wait for their turn. One call goes so far and no
//! further; then a timer goes on.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::limits::{RETAINED_DELIVERIES_AT_ONCE, RETAINED_VISITS_PER_PUMP_MAX};
use crate::mqtt::data_types::QoS;
use crate::mqtt::topic_filter::has_wildcards;
use crate::routing::application_message::ApplicationMessage;
use crate::routing::ids::{SessionIndex, ShardId};
use crate::routing::local_index::{FilterId, Subscriber};
use crate::routing::retained::{RetainedCursor, Slice};
use crate::routing::topic_hash::{TopicHasher, shard_of};
use crate::session::retained_backlog::{Fence, RetainedBacklog};

use super::delivery::{Publication, Target};
use super::envelope::Envelope;
use super::fault::{self, Fault};
use super::timers::Timer;
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

impl Source {
    fn owner(&self) -> ShardId {
        match self {
            Self::Ready(owner, _) | Self::Asked(owner) => *owner,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// SUBACK is still to come; live messages are only noted.
    Prepared,
    /// Nobody is asked yet.
    Begun,
    /// `sources` are set.
    Started,
    /// The subscription is gone; the answers that are still to come end the delivery.
    Cancelled,
}

/// A delivery of retained messages that is under way.
#[derive(Debug)]
pub(super) struct RetainedDelivery {
    session: SessionIndex,
    /// Tells it from a later one with the same number.
    serial: u32,
    stage: Stage,
    filter_id: FilterId,
    filter: Arc<str>,
    subscriber: Subscriber,
    /// At most one for each shard.
    sources: Vec<Source>,
    /// Messages of the slices that have come; at most one slice (`RetainedLimits::slice_messages` of `_max`
    /// `slice_bytes`) for each source.
    waiting: VecDeque<ApplicationMessage>,
    /// The session's notes before it.
    since: u64,
    /// [`RetainedBacklog::forgotten`] when `waiting` was asked for.
    forgotten: u32,
}

impl RetainedDelivery {
    fn start(&mut self, hasher: &TopicHasher, shard_count: u16) {
        self.stage = Stage::Started;
        let owners = match has_wildcards(&self.filter) {
            true => 0..shard_count,
            false => {
                let owner = shard_of(hasher.hash(&self.filter), shard_count).0;
                owner..owner + 1
            }
        };
        self.sources = owners
            .map(|owner| Source::Ready(ShardId(owner), None))
            .collect();
    }

    fn is_asked(&self) -> bool {
        self.sources
            .iter()
            .any(|source| matches!(source, Source::Asked(_)))
    }

    /// Gives up what has come, to ask for it again.
    fn rewind(&mut self, shard_count: u16) {
        // A slice is in the order of the cursor: the last that is set here is its first message.
        for message in std::mem::take(&mut self.waiting).into_iter().rev() {
            let owner = shard_of(message.topic_hash(), shard_count);
            self.sources.retain(|source| source.owner() != owner);
            let cursor = RetainedCursor::at(message.topic());
            self.sources
                .push(Source::Ready(owner, Some(Box::new(cursor))));
        }
    }

    /// The next owner to be asked, and from where on.
    fn take_ready(&mut self) -> Option<(ShardId, Option<Box<RetainedCursor>>)> {
        let position = self
            .sources
            .iter()
            .position(|source| matches!(source, Source::Ready(..)))?;
        match self.sources.swap_remove(position) {
            Source::Ready(owner, cursor) => Some((owner, cursor)),
            Source::Asked(_) => None,
        }
    }

    fn is_done(&self) -> bool {
        self.stage == Stage::Started && self.sources.is_empty() && self.waiting.is_empty()
    }
}

/// How far a delivery has come.
enum Progress {
    Finished,
    /// For SUBACK or another shard.
    Waits,
    /// The client has no room.
    NoRoom,
    /// It may go on then.
    Later(u64),
}

impl Broker {
    /// Makes a delivery for a subscription whose SUBACK is still to come.
    pub(super) fn prepare_retained(
        &mut self,
        filter_id: FilterId,
        filter: &str,
        subscriber: Subscriber,
    ) -> Option<WantsRetained> {
        let serial = self.next_serial();
        let session = self.clients.session_mut(subscriber.session)?;
        let backlog = session.delivery_mut().retained.get_or_insert_default();
        let key = self.retained_deliveries.insert(RetainedDelivery {
            session: subscriber.session,
            serial,
            stage: Stage::Prepared,
            filter_id,
            filter: filter.into(),
            subscriber,
            sources: Vec::new(),
            waiting: VecDeque::new(),
            since: backlog.notes(),
            forgotten: backlog.forgotten(),
        });
        // Bounded by the subscriptions there are.
        let number = u32::try_from(key).unwrap_or(u32::MAX);
        backlog.insert(filter_id, number);
        Some(WantsRetained { number, serial })
    }

    /// Lets a delivery begin, unless its subscription is gone or was made anew; gives its session.
    pub(super) fn begin_retained(&mut self, wanted: WantsRetained) -> Option<SessionIndex> {
        let delivery = self.prepared(wanted)?;
        delivery.stage = Stage::Begun;
        Some(delivery.session)
    }

    /// Gives up a delivery whose SUBSCRIBE was at fault.
    pub(super) fn abandon_retained(&mut self, wanted: WantsRetained) {
        if self.prepared(wanted).is_some() {
            self.finish_retained(wanted.number);
        }
    }

    fn prepared(&mut self, wanted: WantsRetained) -> Option<&mut RetainedDelivery> {
        let delivery = self.retained_deliveries.get_mut(wanted.number as usize)?;
        (delivery.serial == wanted.serial && delivery.stage == Stage::Prepared).then_some(delivery)
    }

    fn backlog(&mut self, session: SessionIndex) -> Option<&mut RetainedBacklog> {
        let session = self.clients.session_mut(session)?;
        session.delivery.as_mut()?.retained.as_deref_mut()
    }

    /// Goes on with the deliveries of a session as far as the client has room.
    pub(super) fn pump_retained(&mut self, session: SessionIndex, now: Now) {
        let mut visits = RETAINED_VISITS_PER_PUMP_MAX;
        let mut after = None;
        let mut waiting = 0;
        while waiting < RETAINED_DELIVERIES_AT_ONCE {
            let next = self
                .backlog(session)
                .and_then(|backlog| backlog.next(after));
            let Some((filter, number)) = next else {
                return;
            };
            after = Some(filter);
            match self.advance_retained(number, &mut visits, now) {
                Progress::Finished => self.finish_retained(number),
                Progress::Waits => waiting += 1,
                Progress::NoRoom => return,
                Progress::Later(at_ms) => {
                    self.resume_retained_at(session, at_ms);
                    return;
                }
            }
        }
    }

    fn resume_retained_at(&mut self, index: SessionIndex, at_ms: u64) {
        let Some(session) = self.clients.session(index) else {
            return;
        };
        let generation = session.generation;
        if let Some(backlog) = self.backlog(index)
            && !std::mem::replace(&mut backlog.resumes, true)
        {
            let timer = Timer::Retained {
                session: index,
                generation,
            };
            self.wheel.set(at_ms, timer);
        }
    }

    /// The time has come to go on with the deliveries of a session.
    pub(super) fn resume_retained(&mut self, index: SessionIndex, generation: u32, now: Now) {
        let session = self.clients.session(index);
        if session.is_some_and(|session| session.generation == generation)
            && let Some(backlog) = self.backlog(index)
        {
            backlog.resumes = false;
            self.pump_retained(index, now);
        }
    }

    fn advance_retained(&mut self, number: u32, visits: &mut usize, now: Now) -> Progress {
        loop {
            let Some(delivery) = self.retained_deliveries.get_mut(number as usize) else {
                return Progress::Finished;
            };
            match delivery.stage {
                Stage::Prepared => return Progress::Waits,
                Stage::Begun => delivery.start(&self.hasher, self.shard_count),
                Stage::Started => {}
                Stage::Cancelled => return Progress::Finished,
            }
            if delivery.is_done() {
                return Progress::Finished;
            }
            let index = delivery.session;
            if !self.clients.has_room(index) {
                return Progress::NoRoom;
            }
            let backlog = self
                .clients
                .session(index)
                .and_then(|session| session.delivery.as_ref()?.retained.as_deref());
            let Some(backlog) = backlog else {
                return Progress::Finished;
            };
            if delivery.forgotten != backlog.forgotten() {
                if delivery.is_asked() {
                    return Progress::Waits;
                }
                delivery.rewind(self.shard_count);
                delivery.forgotten = backlog.forgotten();
            }
            if let Some(message) = delivery.waiting.pop_front() {
                let stale = backlog.is_superseded(message.topic_hash(), delivery.since)
                    && !fault::on(Fault::RetainedOlder);
                if !stale && !message.is_expired(now.mono_ms) {
                    let subscriber = delivery.subscriber;
                    self.send_retained(&subscriber, &message, now);
                }
                continue;
            }
            if backlog.fence != Fence::None && !self.is_past_fence(index) {
                return Progress::Waits;
            }
            if *visits == 0 {
                return Progress::Later(now.mono_ms);
            }
            if !self.ask_owner(number, visits, now) {
                return Progress::Waits;
            }
        }
    }

    /// Whether a session may ask owners, since all shards have confirmed its fence. One that is only wanted
    /// is made; with the confirmation what was noted before is with the owners of its topics.
    fn is_past_fence(&mut self, index: SessionIndex) -> bool {
        let Some(session) = self.clients.session(index) else {
            return false;
        };
        let generation = session.generation;
        let fence = self
            .backlog(index)
            .map_or(Fence::None, |backlog| backlog.fence);
        let sequence = match fence {
            Fence::None => return true,
            Fence::Made(sequence) => sequence,
            Fence::Wanted => {
                self.stage_changes(Vec::new());
                self.visibility.fence(index, generation)
            }
        };
        let is_past = self.visibility.is_visible(sequence);
        if let Some(backlog) = self.backlog(index) {
            backlog.fence = match is_past {
                true => Fence::None,
                false => Fence::Made(sequence),
            };
        }
        is_past
    }

    /// Goes on with the sessions whose fences all shards have confirmed.
    pub(super) fn pass_fences(&mut self, now: Now) {
        while let Some((index, generation)) = self.visibility.next_fence() {
            let session = self.clients.session(index);
            if session.is_some_and(|session| session.generation == generation) {
                self.pump_retained(index, now);
            }
        }
    }

    /// Asks the next owner of a delivery; false if all are asked.
    fn ask_owner(&mut self, number: u32, visits: &mut usize, now: Now) -> bool {
        let Some(delivery) = self.retained_deliveries.get_mut(number as usize) else {
            return false;
        };
        let Some((owner, cursor)) = delivery.take_ready() else {
            return false;
        };
        let filter = Arc::clone(&delivery.filter);
        if owner == self.id {
            let cursor = cursor.map(|cursor| *cursor);
            let slice = self
                .retained
                .select(&filter, cursor, &self.config.retained, now.mono_ms);
            *visits = visits.saturating_sub(slice.visits);
            self.take_slice(number, owner, slice);
        } else {
            *visits -= 1;
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
        true
    }

    fn send_retained(&mut self, subscriber: &Subscriber, message: &ApplicationMessage, now: Now) {
        let identifier = [subscriber.subscription_identifier];
        let target = Target {
            session: subscriber.session,
            qos: QoS::from_bits(subscriber.qos_bits()).unwrap_or(QoS::AtMostOnce),
            retain: true, // [MQTT-3.3.1-8]
            subscription_identifiers: if identifier == [0] { &[] } else { &identifier },
            group: None,
        };
        self.clients
            .send_or_queue(&target, &mut Publication::of(message), now.mono_ms);
    }

    fn take_slice(&mut self, number: u32, owner: ShardId, slice: Slice) {
        let Some(delivery) = self.retained_deliveries.get_mut(number as usize) else {
            return;
        };
        delivery.sources.retain(|source| source.owner() != owner);
        if delivery.stage == Stage::Cancelled {
            return;
        }
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
        let Some(delivery) = self.retained_deliveries.get(number as usize) else {
            return;
        };
        match delivery.stage {
            Stage::Cancelled => self.remove_cancelled(number),
            _ => self.pump_retained(delivery.session, now),
        }
    }

    fn finish_retained(&mut self, number: u32) {
        let Some(delivery) = self.retained_deliveries.try_remove(number as usize) else {
            return;
        };
        self.forget_retained(delivery.session, delivery.filter_id);
    }

    /// Takes a delivery out of its session.
    fn forget_retained(&mut self, index: SessionIndex, filter: FilterId) -> Option<u32> {
        let session = self.clients.session_mut(index)?;
        let state = session.delivery.as_mut()?;
        let backlog = state.retained.as_mut()?;
        let number = backlog.remove(filter);
        if backlog.is_empty() {
            state.retained = None;
            session.shrink();
        }
        number
    }

    /// Ends the delivery of a subscription that is gone or made anew.
    pub(super) fn cancel_retained(&mut self, index: SessionIndex, filter: FilterId) {
        if let Some(number) = self.forget_retained(index, filter) {
            self.drop_retained(number);
        }
    }

    /// A subscription was replaced, and what is still to come for it comes as it says.
    pub(super) fn update_retained(&mut self, filter: FilterId, subscriber: Subscriber) {
        let backlog = self.backlog(subscriber.session);
        if let Some(number) = backlog.and_then(|backlog| backlog.find(filter))
            && let Some(delivery) = self.retained_deliveries.get_mut(number as usize)
        {
            delivery.subscriber = subscriber;
        }
    }

    /// Ends a delivery; one that still waits for an answer keeps its number until that has come.
    pub(super) fn drop_retained(&mut self, number: u32) {
        if let Some(delivery) = self.retained_deliveries.get_mut(number as usize) {
            delivery.stage = Stage::Cancelled;
            delivery.waiting = VecDeque::new();
            delivery
                .sources
                .retain(|source| matches!(source, Source::Asked(_)));
        }
        self.remove_cancelled(number);
    }

    fn remove_cancelled(&mut self, number: u32) {
        let delivery = self.retained_deliveries.get(number as usize);
        let gone = delivery.is_some_and(|delivery| {
            delivery.stage == Stage::Cancelled && delivery.sources.is_empty()
        });
        if gone {
            self.retained_deliveries.try_remove(number as usize);
        }
    }
}
