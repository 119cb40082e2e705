//! The shards with their logs: turns, commits, the crash and the start after it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ringmq::broker::envelope::Batch;
use ringmq::broker::output::Segment;
use ringmq::broker::{Broker, Budget, Now, Restored, RestoredSession};
use ringmq::config::Config;
use ringmq::journal::record::session_key;
use ringmq::journal::replay::{Clock, State, scan};
use ringmq::routing::ids::ShardId;
use ringmq::routing::interest_index::ShardBits;
use ringmq::routing::topic_hash::TopicHasher;

use super::disk::{Crash, Disk};
use crate::rng::Rng;
use crate::trace;

/// Turns in which shards that start must be ready.
const TURNS_MAX: usize = 2_000;

/// A connection between a client and its home shard; its slot is the client's number.
#[derive(Debug, Default)]
pub struct Link {
    pub to_broker: Vec<u8>,
    carry: Vec<u8>,
    pub to_client: Vec<u8>,
}

pub struct Shards {
    pub now: Now,
    config: Arc<Config>,
    pub hasher: TopicHasher,
    brokers: Vec<Broker>,
    disks: Vec<Disk>,
    /// The log may be cut before the first position when it is safe up to the second.
    cuts: Vec<Option<(u64, u64)>>,
    rewritten_before: Vec<u64>,
    inboxes: Vec<VecDeque<Batch>>,
    pub links: BTreeMap<usize, Link>,
    pub homes: Vec<usize>,
    /// Raised by whatever moves.
    pub activity: u64,
}

impl Shards {
    /// New ones with empty logs, for clients of these names.
    pub fn new(count: usize, config: Config, names: &[String], seed: u64) -> Self {
        let now = Now {
            mono_ms: 1_000,
            unix_s: 1_700_000_000,
        };
        let hasher = TopicHasher::new(seed);
        let home = |name: &String| hasher.home_of(name, count as u16).index();
        let mut shards = Self {
            now,
            config: Arc::new(config),
            homes: names.iter().map(home).collect(),
            hasher,
            brokers: Vec::new(),
            disks: (0..count).map(|_| Disk::new(1 << 20)).collect(),
            cuts: Vec::new(),
            rewritten_before: Vec::new(),
            inboxes: Vec::new(),
            links: BTreeMap::new(),
            activity: 0,
        };
        shards.start(&mut Rng::new(seed));
        shards
    }

    pub fn count(&self) -> usize {
        self.disks.len()
    }

    /// Everything ends, and begins again with what the disks have.
    pub fn crash(&mut self, crash: Crash, rng: &mut Rng) {
        trace::say(|| format!("-- crash: {crash:?}"));
        self.links.clear();
        for disk in &mut self.disks {
            disk.crash(crash, rng);
        }
        self.now.mono_ms += rng.between(1, 3_000);
        self.start(rng);
    }

    fn start(&mut self, rng: &mut Rng) {
        let count = self.count();
        self.inboxes = (0..count).map(|_| VecDeque::new()).collect();
        self.cuts = vec![None; count];
        self.rewritten_before = vec![0; count];
        let all = self.restored();
        let brokers = (0u16..).zip(all).map(|(shard, restored)| {
            let config = Arc::clone(&self.config);
            let hasher = self.hasher.clone();
            let mut broker = Broker::new(ShardId(shard), count as u16, config, hasher, self.now);
            broker.restore(restored, self.now);
            broker
        });
        self.brokers = brokers.collect();
        for _ in 0..TURNS_MAX {
            if self.brokers.iter().all(Broker::is_visible) && self.is_settled() {
                return;
            }
            for shard in 0..count {
                self.turn(shard, rng, true);
            }
        }
        panic!("the shards are not ready after their start");
    }

    /// What recovery makes of the logs, without its files.
    fn restored(&mut self) -> Vec<Restored> {
        let clock = Clock {
            mono_ms: self.now.mono_ms,
            unix_s: self.now.unix_s,
        };
        let mut states = Vec::new();
        for disk in &mut self.disks {
            let mut state = State::new(self.hasher.clone(), clock);
            let found = scan(&disk.bytes, disk.start, |group| state.apply_group(group));
            disk.truncate(found.end);
            state.finish();
            states.push(state);
        }
        let mut session_count = 0;
        let mut inbound: BTreeMap<u64, BTreeMap<u16, ShardBits>> = BTreeMap::new();
        for state in &states {
            for (number, session) in &state.sessions {
                session_count = session_count.max(number >> 16);
                let name = session.client_identifier.as_deref().unwrap_or_default();
                let key = session_key(&self.hasher, name, *number);
                inbound.insert(key, BTreeMap::new());
            }
        }
        for (shard, state) in (0u16..).zip(&states) {
            for origin in &state.origins {
                if let Some(open) = inbound.get_mut(&origin.session_key) {
                    let shards = open.entry(origin.packet_identifier).or_default();
                    shards.insert(ShardId(shard));
                }
            }
        }
        let one = |(place, state): (usize, State)| {
            let sessions: BTreeMap<_, _> = state.sessions.into_iter().collect();
            let sessions = sessions.into_iter().map(|(number, stored)| {
                let name = stored.client_identifier.as_deref().unwrap_or_default();
                let open = &inbound[&session_key(&self.hasher, name, number)];
                RestoredSession {
                    number,
                    inbound: open.iter().map(|(id, shards)| (*id, *shards)).collect(),
                    stored,
                }
            });
            let open = state.origins.into_iter();
            let origins = open.filter(|origin| inbound.contains_key(&origin.session_key));
            Restored {
                position: self.disks[place].end(),
                session_count,
                sessions: sessions.collect(),
                retained: state.retained.into_values().collect(),
                origins: origins.collect(),
                records_all: false,
            }
        };
        states.into_iter().enumerate().map(one).collect()
    }

    fn is_settled(&self) -> bool {
        let taken = self.inboxes.iter().all(VecDeque::is_empty);
        let written = self.disks.iter().all(Disk::is_ready);
        taken && written && !self.brokers.iter().any(Broker::has_group)
    }

    /// A client's connection begins.
    pub fn open(&mut self, client: usize) {
        trace::say(|| format!("client {client} connects"));
        self.links.insert(client, Link::default());
        self.brokers[self.homes[client]].open(client as u32, 0, self.now);
    }

    /// It is cut.
    pub fn close(&mut self, client: usize) {
        if self.links.remove(&client).is_some() {
            trace::say(|| format!("client {client} is cut off"));
            let broker = &mut self.brokers[self.homes[client]];
            broker.network_closed(client as u32, "the connection was reset", self.now);
            broker.take_ended().for_each(drop);
            broker.release(client as u32);
        }
    }

    /// A turn, as a shard with a log takes it; with `all` of what is there.
    pub fn turn(&mut self, s: usize, rng: &mut Rng, all: bool) {
        for client in 0..self.homes.len() {
            if self.homes[client] == s && (all || rng.chance(70)) {
                self.receive(s, client, rng, all);
            }
        }
        if (all || rng.chance(50))
            && let Some(group) = self.disks[s].advance()
        {
            self.activity += 1;
            trace::say(|| format!("shard {s}: safe up to {}", group.end()));
            self.brokers[s].committed(group.end(), self.now);
            self.brokers[s].recycle_group(group.bytes);
        }
        let batches = if all { usize::MAX } else { rng.below(4) };
        for _ in 0..batches.min(self.inboxes[s].len()) {
            let Some(batch) = self.inboxes[s].pop_front() else {
                break;
            };
            self.activity += 1;
            let read = self.brokers[s].take_batch(batch, self.now);
            self.brokers[read.from.index()].mesh().recycle(read);
        }
        self.brokers[s].tick(self.now);
        while let Some(slot) = self.brokers[s].next_dirty() {
            self.send(s, slot);
        }
        if let Some(ended) = self.brokers[s].take_ended().next() {
            panic!("a connection ended in slot {}: {}", ended.slot, ended.cause);
        }
        let inboxes = &mut self.inboxes;
        let activity = &mut self.activity;
        self.brokers[s].mesh().flush(|target, batch| {
            *activity += 1;
            inboxes[target.index()].push_back(batch);
            Ok(())
        });
        self.commit(s, rng);
    }

    fn receive(&mut self, s: usize, client: usize, rng: &mut Rng, all: bool) {
        let Some(link) = self.links.get_mut(&client) else {
            return;
        };
        let most = if all { usize::MAX } else { 1 + rng.below(300) };
        let count = most.min(link.to_broker.len());
        link.carry.extend(link.to_broker.drain(..count));
        if link.carry.is_empty() {
            return;
        }
        let mut budget = Budget { bytes: 64 * 1024 };
        let slot = client as u32;
        let progress = self.brokers[s].receive(slot, &link.carry, &mut budget, self.now);
        self.activity += progress.consumed as u64;
        link.carry.drain(..progress.consumed);
    }

    fn send(&mut self, s: usize, slot: u32) {
        let broker = &mut self.brokers[s];
        loop {
            let mut bytes = Vec::new();
            let any = broker.take_output(slot, |segment| match segment {
                Segment::Packets(packets) => bytes.extend_from_slice(&packets),
                Segment::Payload(payload) => bytes.extend_from_slice(&payload),
            });
            if !any {
                return;
            }
            self.activity += 1;
            if let Some(link) = self.links.get_mut(&(slot as usize)) {
                link.to_client.extend(bytes);
            }
            broker.output_sent(slot, self.now);
        }
    }

    /// Hands the turn's group to the disk, and now and then has the log rewritten and cut.
    fn commit(&mut self, s: usize, rng: &mut Rng) {
        let (broker, disk) = (&mut self.brokers[s], &mut self.disks[s]);
        if let Some((before, safe_at)) = self.cuts[s]
            && broker.safe_position() >= safe_at
            && disk.is_ready()
            && rng.chance(30)
        {
            trace::say(|| format!("shard {s}: the log is cut before {before}"));
            disk.cut(before);
            self.cuts[s] = None;
        }
        if !disk.is_ready() {
            return;
        }
        if broker.is_rewriting() {
            if let Some(safe_at) = broker.rewrite(self.now) {
                self.cuts[s] = Some((self.rewritten_before[s], safe_at));
            }
        } else if self.cuts[s].is_none() && rng.chance(3) {
            self.rewritten_before[s] = disk.end();
            broker.begin_rewrite(disk.end());
        }
        if let Some(group) = broker.take_group(self.now) {
            self.activity += 1;
            disk.begin(group);
        }
    }
}
