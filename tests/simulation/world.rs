//! The world of a run: shards, clients and the network between them, under a virtual clock.

use std::collections::VecDeque;
use std::sync::Arc;

use ringmq::broker::{Broker, Now};
use ringmq::config::Config;
use ringmq::routing::ids::ShardId;
use ringmq::routing::topic_hash::TopicHasher;

use crate::client::Device;
use crate::model::Model;
use crate::rng::Rng;
use crate::scenario::{Action, Scenario};
use crate::shard::{Message, Shard};
use crate::trace;
use crate::wire::Wire;

/// Turns of all shards that a world may need until nothing moves.
const ROUNDS_MAX: usize = 20_000;
/// When nothing moves, so much time goes by and so many turns are taken to see whether it stays so.
const CALM_MS: u64 = 130;
const CALM: u32 = 6;
/// All clients say that they are there at once, so that it is quiet in between.
const PING_MS: u64 = 1_500;

/// Everything.
pub struct World {
    pub now: Now,
    pub config: Arc<Config>,
    pub hasher: TopicHasher,
    pub shards: Vec<Shard>,
    pub inboxes: Vec<VecDeque<Message>>,
    pub wires: Vec<Wire>,
    pub devices: Vec<Device>,
    pub model: Model,
    /// Raised by whatever moves.
    pub activity: u64,
}

impl World {
    pub fn new(scenario: &Scenario) -> Self {
        let now = Now {
            mono_ms: 1_000 + scenario.seed % 100,
            unix_s: 1_700_000_000,
        };
        let hasher = TopicHasher::new(scenario.seed);
        let count = scenario.shards as u16;
        let shards = (0..count).map(|shard| {
            let config = Arc::clone(&scenario.config);
            let broker = Broker::new(ShardId(shard), count, config, hasher.clone(), now);
            Shard::new(broker)
        });
        let devices = scenario.profiles.iter().enumerate();
        Self {
            now,
            config: Arc::clone(&scenario.config),
            shards: shards.collect(),
            hasher,
            inboxes: (0..count).map(|_| VecDeque::new()).collect(),
            wires: Vec::new(),
            devices: devices
                .map(|(number, profile)| Device::new(number, profile.clone()))
                .collect(),
            model: Model::new(Arc::clone(&scenario.config), scenario.shards, now),
            activity: 0,
        }
    }

    /// Plays a whole scenario and checks the promises; panics at the first that does not hold. Gives the
    /// virtual milliseconds that went by.
    pub fn play(scenario: &Scenario) -> u64 {
        let mut world = Self::new(scenario);
        let start_ms = world.now.mono_ms;
        for (number, action) in scenario.actions.iter().enumerate() {
            trace::say(|| format!("-- {number}: {action:?} at {} ms", world.now.mono_ms));
            world.act(*action);
        }
        world.finish_all(scenario.seed);
        world.now.mono_ms - start_ms
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Turn { shard, seed } => {
                let shard = shard % self.shards.len();
                self.turn(shard, &mut Rng::new(seed), false);
            }
            Action::Client { client, seed } => self.client_acts(client, &mut Rng::new(seed)),
            Action::Read { client, seed } => {
                let mut rng = Rng::new(seed);
                let count = rng.pick(&[1, 10, 100, 10_000]);
                self.read(client, count);
            }
            Action::Advance { ms } => self.advance(ms),
            Action::WallClock { seconds } => {
                self.now.unix_s = self.now.unix_s.saturating_add_signed(seconds);
                self.model.now = self.now;
            }
            Action::Cut { client, seed } => self.cut(client, &mut Rng::new(seed)),
            Action::Settle { seed } => self.settle(seed),
        }
    }

    fn advance(&mut self, ms: u64) {
        let seconds = |ms: u64| ms / 1000;
        let before = self.now.mono_ms;
        self.now.mono_ms += ms;
        self.now.unix_s += seconds(self.now.mono_ms) - seconds(before);
        self.model.now = self.now;
    }

    /// All goes on without faults; sometimes first without a client or two that do nothing, and must not
    /// be in anybody's way.
    fn settle(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        if self.devices.len() > 2 && rng.chance(40) {
            let mut stuck = vec![rng.below(self.devices.len())];
            if rng.chance(30) {
                stuck.push(rng.below(self.devices.len()));
            }
            trace::say(|| format!("clients {stuck:?} are stuck"));
            self.rest(&stuck, &mut rng);
            self.check(&stuck);
        }
        self.rest(&[], &mut rng);
        self.check(&[]);
    }

    /// Everybody comes back, reads and acknowledges, until nothing moves.
    fn rest(&mut self, stuck: &[usize], rng: &mut Rng) {
        self.find_out_who_is_gone(stuck);
        let mut calm = 0;
        let mut pinged_ms = 0;
        for _ in 0..ROUNDS_MAX {
            let before = self.activity;
            let pings = self.now.mono_ms >= pinged_ms + PING_MS;
            if pings {
                pinged_ms = self.now.mono_ms;
            }
            for client in (0..self.devices.len()).filter(|client| !stuck.contains(client)) {
                self.recover(client, rng);
                if pings {
                    self.ping(client);
                }
            }
            let mut shards: Vec<_> = (0..self.shards.len()).collect();
            rng.shuffle(&mut shards);
            for shard in shards {
                self.turn(shard, rng, true);
            }
            self.advance(1);
            let sent = self.shards.iter_mut().all(Shard::has_sent_all);
            let taken = self.inboxes.iter().all(VecDeque::is_empty);
            let is_calm = self.activity == before && sent && taken;
            calm = if is_calm { calm + 1 } else { 0 };
            if is_calm {
                // Something may wait for a timer.
                self.advance(CALM_MS);
            }
            if calm == CALM {
                return;
            }
        }
        panic!("the shards do not come to rest");
    }

    fn check(&mut self, stuck: &[usize]) {
        let unread = self.unread(stuck);
        assert!(
            unread.is_empty(),
            "connections {unread:?} are not read, though nothing else moves"
        );
        let mut counters = ringmq::observability::counters::Counters::default();
        for shard in &self.shards {
            counters.add(&shard.broker.counters());
        }
        self.model.settled(stuck, &counters);
    }

    /// Ends all sessions; then nothing is left.
    fn finish_all(&mut self, seed: u64) {
        let mut rng = Rng::new(seed);
        self.rest(&[], &mut rng);
        self.check(&[]);
        trace::say(|| "-- the end: all sessions are ended".to_owned());
        for client in 0..self.devices.len() {
            self.end_session(client, &mut rng);
        }
        self.rest(&[], &mut rng);
        self.check(&[]);
        for client in 0..self.devices.len() {
            self.leave(client);
        }
        let all: Vec<_> = (0..self.devices.len()).collect();
        self.rest(&all, &mut rng);
        self.model.finished();
        for (number, shard) in self.shards.iter().enumerate() {
            let counters = shard.broker.counters();
            assert!(
                shard.broker.is_empty()
                    && (
                        counters.connections,
                        counters.sessions,
                        counters.subscriptions
                    ) == (0, 0, 0),
                "shard {number} is not empty when all sessions have ended: {counters:?}"
            );
        }
    }
}
