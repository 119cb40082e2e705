//! Publishers and subscribers of one thread: what they send, and what they make of what comes.

use std::collections::VecDeque;
use std::sync::Arc;

use hdrhistogram::Histogram;

use crate::engine::{Engine, Sink};
use crate::measure::latency::histogram;
use crate::mqtt::decode::{self, Frame};
use crate::mqtt::encode::acknowledgement;
use crate::mqtt::template::{Stamp, Template};
use crate::mqtt::{Version, packet_type};

use super::board::{Board, Lane};
use super::ledger::{Arrival, Faults, Sequence};
use super::plan::{Hears, Pace, Plan, Topics};

/// A closed loop looks at the latency of one message in so many; an open loop at all.
const SAMPLED: u64 = 16;

/// What a publisher has done.
#[derive(Clone, Copy, Debug)]
struct Publisher {
    sent: u32,
    acknowledged: u32,
    identifier: u16,
    /// Messages that may be on their way at once.
    window: u64,
}

/// Whom a subscriber hears, and where the sequences of those stand.
#[derive(Clone, Copy, Debug)]
struct Subscriber {
    ledger: usize,
    first_publisher: u32,
    publishers: u32,
}

/// All clients of a thread. Publishers have the first connections, subscribers those that follow.
pub struct Clients {
    plan: Arc<Plan>,
    board: Arc<Board>,
    thread: usize,
    version: Version,
    first_publisher: usize,
    publishers: Vec<Publisher>,
    templates: Vec<Template>,
    /// Times of messages that are due and wait for an acknowledgement, by publisher.
    waiting: Vec<VecDeque<u64>>,
    first_subscriber: usize,
    subscribers: Vec<Subscriber>,
    sequences: Vec<Sequence>,
    delivered: u64,
    sample: u64,
    /// From the time that a message was sent, or meant for, to its arrival, nanoseconds.
    pub latency: Histogram<u64>,
    /// How late messages of an open loop were sent, nanoseconds.
    pub lag: Histogram<u64>,
    /// What went wrong so far, loss not included.
    pub faults: Faults,
}

impl Clients {
    /// The clients of `thread`.
    pub fn new(plan: &Arc<Plan>, board: &Arc<Board>, thread: usize, tag: &str) -> Self {
        let own = |count: usize| (thread..count).step_by(plan.threads);
        let templates: Vec<_> = own(plan.publishers)
            .map(|publisher| Template::new(&plan.topic(tag, publisher, 0), plan.shape()))
            .collect();
        let window = match plan.pace {
            Pace::Window(window) => window,
            Pace::Rate(_) => u64::from(u16::MAX),
        };
        let publisher = Publisher {
            sent: 0,
            acknowledged: 0,
            identifier: 0,
            window,
        };
        // The plan has fewer than 2^32 publishers: there are not so many ports.
        let all = u32::try_from(plan.publishers).unwrap_or(u32::MAX);
        let subscribers: Vec<_> = Self::own_subscribers(plan, thread)
            .enumerate()
            .map(|(place, subscriber)| match plan.hears {
                Hears::Pair => Subscriber {
                    ledger: place,
                    first_publisher: u32::try_from(subscriber).unwrap_or(u32::MAX),
                    publishers: 1,
                },
                Hears::All => Subscriber {
                    ledger: place * plan.publishers,
                    first_publisher: 0,
                    publishers: all,
                },
                Hears::Group => Subscriber {
                    ledger: 0,
                    first_publisher: 0,
                    publishers: all,
                },
            })
            .collect();
        let sequences = subscribers
            .iter()
            .map(|subscriber| subscriber.ledger + subscriber.publishers as usize)
            .max()
            .unwrap_or(0);
        Self {
            plan: Arc::clone(plan),
            board: Arc::clone(board),
            thread,
            version: plan.version,
            first_publisher: 0,
            publishers: vec![publisher; templates.len()],
            waiting: vec![VecDeque::new(); templates.len()],
            templates,
            first_subscriber: 0,
            subscribers,
            sequences: vec![Sequence::default(); sequences],
            delivered: 0,
            sample: match plan.pace {
                Pace::Window(_) => SAMPLED,
                Pace::Rate(_) => 1,
            },
            latency: histogram(),
            lag: histogram(),
            faults: Faults::default(),
        }
    }

    /// The numbers of the subscribers of a thread. A group has one sequence for all its members, and so one
    /// thread.
    pub fn own_subscribers(plan: &Plan, thread: usize) -> Box<dyn Iterator<Item = usize>> {
        match (plan.hears, thread) {
            (Hears::Group, 0) => Box::new(0..plan.subscribers),
            (Hears::Group, _) => Box::new(0..0),
            _ => Box::new((thread..plan.subscribers).step_by(plan.threads)),
        }
    }

    /// They are connected: where their connections begin, and how many unacknowledged messages the broker
    /// allows each publisher.
    pub fn connected(
        &mut self,
        first_publisher: usize,
        first_subscriber: usize,
        receive_maximum: impl Iterator<Item = u16>,
    ) {
        self.first_publisher = first_publisher;
        self.first_subscriber = first_subscriber;
        if self.plan.qos > 0 {
            for (publisher, maximum) in self.publishers.iter_mut().zip(receive_maximum) {
                publisher.window = publisher.window.min(u64::from(maximum));
            }
        }
    }

    fn lane(&self) -> &Lane {
        &self.board.lanes[self.thread]
    }

    fn global(&self, publisher: usize) -> usize {
        self.thread + publisher * self.plan.threads
    }

    /// Messages that have not come to this thread's part of the board yet are the broker's: each publisher
    /// sends as many as its window has room for.
    pub fn publish_window(&mut self, engine: &mut Engine, now_ns: u64) {
        let fan = self.plan.fan();
        for index in 0..self.publishers.len() {
            let publisher = self.publishers[index];
            let global = self.global(index);
            let heard = match self.board.lanes.as_slice() {
                [only] => only.heard[global].read(),
                _ => self.board.heard(global),
            };
            let sent = u64::from(publisher.sent);
            let room = publisher.window * fan;
            let undelivered = (sent * fan).saturating_sub(heard);
            // In batches, so that neither side spends its time on single messages.
            if undelivered * 4 > room * 3 {
                continue;
            }
            let mut free = (room - undelivered) / fan;
            if self.plan.qos > 0 {
                let unacknowledged = sent - u64::from(publisher.acknowledged);
                free = free.min(publisher.window.saturating_sub(unacknowledged));
            }
            for _ in 0..free {
                self.publish(engine, index, now_ns);
            }
        }
    }

    /// A message of publisher `global` is due.
    pub fn publish_due(&mut self, engine: &mut Engine, global: usize, due_ns: u64, now_ns: u64) {
        let index = global / self.plan.threads;
        if self.has_room(index) && self.waiting[index].is_empty() {
            // The histogram grows to any value.
            let _ = self.lag.record(now_ns - due_ns);
            self.publish(engine, index, due_ns);
        } else {
            self.waiting[index].push_back(due_ns);
            self.lane().waiting.add(1);
        }
    }

    /// Sends what waited for an acknowledgement.
    pub fn publish_waiting(&mut self, engine: &mut Engine) {
        if self.lane().waiting.read() == 0 {
            return;
        }
        for index in 0..self.publishers.len() {
            while self.has_room(index)
                && let Some(due_ns) = self.waiting[index].pop_front()
            {
                let lane = self.lane();
                lane.waiting.set(lane.waiting.read() - 1);
                self.publish(engine, index, due_ns);
            }
        }
    }

    fn has_room(&self, index: usize) -> bool {
        let publisher = &self.publishers[index];
        self.plan.qos == 0 || u64::from(publisher.sent - publisher.acknowledged) < publisher.window
    }

    #[inline]
    fn publish(&mut self, engine: &mut Engine, index: usize, sent_ns: u64) {
        let global = self.global(index);
        let publisher = &mut self.publishers[index];
        publisher.identifier = match publisher.identifier {
            u16::MAX => 1,
            identifier => identifier + 1,
        };
        let stamp = Stamp {
            publisher: global as u32,
            sequence: publisher.sent,
            sent_ns,
        };
        let template = &mut self.templates[index];
        if let Topics::Many(count) = self.plan.topics {
            let number = publisher.sent as usize % count;
            template.set_topic_number(self.plan.topic_number(global, number));
        }
        let out = engine.out(self.first_publisher + index);
        template.append(out, stamp, publisher.identifier);
        publisher.sent += 1;
        let lane = &self.board.lanes[self.thread];
        lane.sent.add(1);
        if self.plan.qos == 0 {
            lane.acknowledged.add(1);
        }
    }

    #[inline]
    fn take_delivery(&mut self, number: usize, frame: &Frame<'_>, now_ns: u64, out: &mut Vec<u8>) {
        let Some(delivery) = decode::delivery(frame, self.version) else {
            self.faults.foreign += 1;
            return;
        };
        match delivery.qos {
            0 => {}
            1 => out.extend_from_slice(&acknowledgement(0x40, delivery.identifier)),
            _ => out.extend_from_slice(&acknowledgement(0x50, delivery.identifier)),
        }
        let stamp = Stamp::of(delivery.payload);
        let subscriber = number.checked_sub(self.first_subscriber);
        let subscriber = subscriber.and_then(|place| self.subscribers.get(place));
        let (Some(stamp), Some(subscriber)) = (stamp, subscriber) else {
            self.faults.foreign += 1;
            return;
        };
        let place = stamp.publisher.wrapping_sub(subscriber.first_publisher);
        if place >= subscriber.publishers
            || delivery.payload.len() != self.plan.payload_bytes
            || delivery.qos != self.plan.qos
        {
            self.faults.foreign += 1;
            return;
        }
        match self.sequences[subscriber.ledger + place as usize].take(stamp.sequence) {
            Arrival::InOrder => {}
            Arrival::Late if self.plan.hears == Hears::Group => {}
            Arrival::Late => self.faults.disorder += 1,
            Arrival::Again => {
                // It is no delivery: what has not come is still on its way.
                self.faults.duplicates += 1;
                return;
            }
        }
        self.delivered += 1;
        if self.sample == 1 || self.delivered.is_multiple_of(self.sample) {
            // The histogram grows to any value.
            let _ = self.latency.record(now_ns.saturating_sub(stamp.sent_ns));
        }
        let lane = &self.board.lanes[self.thread];
        lane.heard[stamp.publisher as usize].add(1);
        lane.delivered.add(1);
    }

    fn acknowledged(&mut self, number: usize, refused: bool) {
        if refused {
            self.faults.refused += 1;
        }
        let publisher = number.checked_sub(self.first_publisher);
        match publisher.and_then(|index| self.publishers.get_mut(index)) {
            Some(publisher) if publisher.acknowledged < publisher.sent => {
                publisher.acknowledged += 1;
                self.lane().acknowledged.add(1);
            }
            _ => self.faults.foreign += 1,
        }
    }

    /// What each publisher of this thread has sent.
    pub fn sent(&self) -> impl Iterator<Item = (usize, u32)> + '_ {
        let numbered = self.publishers.iter().enumerate();
        numbered.map(|(index, publisher)| (self.global(index), publisher.sent))
    }

    /// What subscribers of this thread have heard of which publisher.
    pub fn into_sequences(self) -> Vec<(usize, Sequence)> {
        let publisher_of = |place: usize| match self.plan.hears {
            Hears::Pair => self.thread + place * self.plan.threads,
            Hears::All | Hears::Group => place % self.plan.publishers,
        };
        let numbered = self.sequences.into_iter().enumerate();
        numbered
            .map(|(place, sequence)| (publisher_of(place), sequence))
            .collect()
    }
}

impl Sink for Clients {
    #[inline]
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, now_ns: u64, out: &mut Vec<u8>) {
        match frame.packet_type() {
            packet_type::PUBLISH => self.take_delivery(connection, frame, now_ns, out),
            packet_type::PUBACK => {
                self.acknowledged(connection, decode::reason_code(frame) >= 0x80);
            }
            packet_type::PUBREC => {
                let Some(identifier) = decode::identifier(frame) else {
                    self.faults.foreign += 1;
                    return;
                };
                if decode::reason_code(frame) >= 0x80 {
                    self.acknowledged(connection, true);
                } else {
                    out.extend_from_slice(&acknowledgement(0x62, identifier));
                }
            }
            packet_type::PUBREL => {
                let Some(identifier) = decode::identifier(frame) else {
                    self.faults.foreign += 1;
                    return;
                };
                out.extend_from_slice(&acknowledgement(0x70, identifier));
            }
            packet_type::PUBCOMP => self.acknowledged(connection, false),
            _ => {}
        }
    }

    fn closed(&mut self, _connection: usize) {
        self.faults.closed += 1;
    }
}
