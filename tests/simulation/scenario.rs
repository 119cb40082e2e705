//! A seed made concrete: the brokers' configuration, the clients, and what is done in which order.
//!
//! Everything is drawn before the run, and every action carries a number of its own for what is random in
//! it. So an action can be left out, and the others still mean the same: that is how a failing run shrinks.

use std::sync::Arc;

use ringmq::config::limits::{OutboxFull, Overlapping};
use ringmq::config::{Config, SharedStrategy};

use crate::packet::Version;
use crate::rng::Rng;

/// Topic Names that clients publish to. Those below `s/` are for shared subscriptions.
pub const TOPICS: [&str; 9] = [
    "a", "a/b", "a/b/c", "b", "b/b", "x/y/c", "s/1", "s/2", "a/b",
];
/// Topic Filters that are not shared.
pub const FILTERS: [&str; 13] = [
    "a", "a/b", "a/b/c", "b", "#", "+", "a/+", "+/b", "a/#", "b/#", "+/+/c", "x/y/c", "a/b/c/#",
];
/// Shared subscriptions: a client uses those of one line, so that a message comes to it for one group only.
pub const SHARED: [&[&str]; 4] = [
    &["$share/g/s/1", "$share/g/s/2"],
    &["$share/g/s/1", "$share/h/s/2"],
    &["$share/h/s/+"],
    &["$share/g/s/#"],
];
/// Of them, those that only the members of groups use.
pub const OF_MEMBERS: [&str; 9] = [
    "a", "a/b", "a/b/c", "b", "a/+", "+/b", "a/#", "b/#", "+/+/c",
];

/// What a client is like.
#[derive(Clone, Debug)]
pub struct Profile {
    pub version: Version,
    /// Uses shared subscriptions, and none that would match the same topics.
    pub member: bool,
    pub shared: &'static [&'static str],
    pub keep_alive_s: u16,
    /// Session Expiry Interval; before 5.0 all but 0 means a session that is not clean.
    pub expiry_s: u32,
    pub receive_maximum: Option<u16>,
    pub packet_bytes_max: Option<u32>,
    pub alias_maximum: u16,
    /// How many bytes its socket takes before somebody must read.
    pub socket_bytes: usize,
    /// In percent of its connects.
    pub clean_start: u64,
    /// In percent of its connects.
    pub with_will: u64,
}

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A shard's turn.
    Turn { shard: usize, seed: u64 },
    /// A client does something.
    Client { client: usize, seed: u64 },
    /// A client reads what has come.
    Read { client: usize, seed: u64 },
    /// Time goes on.
    Advance { ms: u64 },
    /// The wall clock is set.
    WallClock { seconds: i64 },
    /// A client's connection ends in one of the ways that networks have.
    Cut { client: usize, seed: u64 },
    /// All goes on without faults until nothing moves; then the promises are checked.
    Settle { seed: u64 },
}

/// All that a run depends on.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub seed: u64,
    pub shards: usize,
    pub config: Arc<Config>,
    pub profiles: Vec<Profile>,
    pub actions: Vec<Action>,
}

impl Scenario {
    pub fn generate(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut shards = rng.pick(&[1, 2, 2, 3, 3, 4]);
        let mut config = config(&mut rng);
        let profiles: Vec<_> = (0..rng.between(2, 8)).map(|_| profile(&mut rng)).collect();
        let mut actions = Vec::new();
        for _ in 0..rng.between(1, 4) {
            for _ in 0..rng.between(60, 400) {
                actions.push(action(&mut rng, shards, profiles.len()));
            }
            actions.push(Action::Settle { seed: rng.next() });
        }
        if seed % 4 == 3 {
            // A crowd: inboxes are full, and shards that were added have turns only where all settles.
            shards = 4;
            config.network.inbox_batches_max = 1;
        }
        Self {
            seed,
            shards,
            config: Arc::new(config),
            profiles,
            actions,
        }
    }
}

fn config(rng: &mut Rng) -> Config {
    let mut config = Config::default();
    // Thousands of brokers are made, and nobody asks theirs why.
    config.observability.recorder_entries = 64;
    config.session.in_flight_max = rng.pick(&[1, 2, 5, 20, 1024, 1024]);
    if rng.chance(20) {
        config.session.in_flight_bytes_max = rng.pick(&[1, 300, 10_000]);
    }
    if rng.chance(15) {
        config.session.outbox_messages_max = rng.pick(&[1, 3, 10]);
    }
    if rng.chance(50) {
        config.session.outbox_full = OutboxFull::DropOldest;
    }
    config.session.queue_qos0_offline = rng.chance(25);
    config.session.persistent_v3_expiry_interval_s = rng.pick(&[5, 600, u32::MAX]);
    if rng.chance(20) {
        config.session.session_expiry_interval_s_max = rng.pick(&[3, 100]);
    }
    if rng.chance(20) {
        config.message.overlapping = Overlapping::Separate;
    }
    config.shared_strategy = rng.pick(&[
        SharedStrategy::RoundRobin,
        SharedStrategy::LeastInFlight,
        SharedStrategy::StickyByPublisher,
        SharedStrategy::HashOfTopic,
    ]);
    config.retained.slice_messages = rng.pick(&[1, 2, 64]);
    config.network.inbox_batches_max = rng.pick(&[1, 2, 4, 256]);
    if rng.chance(30) {
        config.network.output_bytes_max = rng.pick(&[200, 1000, 8192]);
    }
    if rng.chance(30) {
        config.network.mesh_staged_bytes_max = rng.pick(&[1, 500, 4096]);
    }
    if rng.chance(30) {
        config.network.receive_budget_bytes = rng.pick(&[1, 64, 1024]);
    }
    let limits = &mut config.listeners[0].limits;
    limits.topic_alias_maximum_outgoing = rng.pick(&[0, 2, 32]);
    limits.capabilities.receive_maximum = rng.pick(&[1, 3, 1024]);
    limits.keep_alive_s_max = rng.pick(&[0, 0, 0, 5]);
    config
}

fn profile(rng: &mut Rng) -> Profile {
    let version = rng.pick(&[Version::V5, Version::V5, Version::V311, Version::V31]);
    let expiry_s = match version {
        Version::V5 => rng.pick(&[0, 1, 5, 100, 100_000, u32::MAX]),
        _ => rng.pick(&[0, 1, 1]),
    };
    Profile {
        version,
        member: rng.chance(50),
        shared: rng.pick(&SHARED),
        keep_alive_s: rng.pick(&[0, 0, 2, 10]),
        expiry_s,
        receive_maximum: rng.pick(&[None, Some(1), Some(2), Some(10)]),
        packet_bytes_max: rng.pick(&[None, None, None, None, Some(100), Some(6000)]),
        alias_maximum: rng.pick(&[0, 0, 1, 5]),
        socket_bytes: rng.pick(&[50, 500, 5000, 100_000]),
        clean_start: rng.pick(&[0, 10, 50]),
        with_will: rng.pick(&[0, 30, 80]),
    }
}

fn action(rng: &mut Rng, shards: usize, clients: usize) -> Action {
    let client = rng.below(clients);
    let seed = rng.next();
    match rng.below(100) {
        0..36 => Action::Turn {
            shard: rng.below(shards),
            seed,
        },
        36..72 => Action::Client { client, seed },
        72..86 => Action::Read { client, seed },
        86..96 => Action::Advance {
            ms: match rng.below(40) {
                0 => rng.between(5_000, 200_000),
                1..5 => rng.between(500, 4_000),
                _ => rng.between(0, 150),
            },
        },
        96 => Action::WallClock {
            seconds: rng.pick(&[-90_000, -1, 1, 3_600, 4_000_000]),
        },
        _ => Action::Cut { client, seed },
    }
}
