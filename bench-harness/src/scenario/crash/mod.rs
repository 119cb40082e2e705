//! `crash`: kills the broker with SIGKILL while pairs publish with QoS 1 to persistent sessions, starts it again,
//! and so on. Half of the subscribers are away until the end. Whatever the broker has acknowledged must come, in
//! order; more than once is allowed.

mod pairs;

use std::io;
use std::time::Instant;

use crate::broker::Running;
use crate::engine::Engine;
use crate::report::Findings;
use crate::settings::Settings;

use super::{Context, Course, Scenario};
use pairs::{Pairs, Stage};

pub const SCENARIO: Scenario = Scenario {
    name: "crash",
    about: "20 pairs with persistent sessions, QoS 1, half of the subscribers away, while the broker is killed 3 times; \
            needs --start",
    prepare: |settings: &mut Settings| {
        Box::new(Crash {
            pairs: settings.scaled("publishers", 20),
            window: settings.count("window", 16).clamp(1, 30_000),
            away_messages: settings.count("messages", 5000),
            payload_bytes: settings.payload_bytes(64),
            seconds: settings.seconds("seconds", 2.0),
            rounds: settings.count("rounds", 3).max(1),
        })
    },
};

/// The scenario with its settings.
pub struct Crash {
    pairs: usize,
    window: usize,
    /// Messages for each subscriber that is away, at most: fewer than brokers queue.
    away_messages: usize,
    payload_bytes: usize,
    /// Load before each crash.
    seconds: f64,
    rounds: usize,
}

impl Course for Crash {
    fn starts_broker(&self) -> bool {
        true
    }

    fn run(&self, context: &Context) -> io::Result<Findings> {
        let Some((launch, cpus)) = &context.launch else {
            return Err(io::Error::other("crash starts the broker itself"));
        };
        let mut broker = Running::start(launch, cpus)?;
        let mut pairs = Pairs::new(self, context.tag());
        let mut starts_s = Vec::new();
        for round in 0..self.rounds {
            let mut engine = Engine::new(context.clock)?;
            let stage = if round == 0 {
                Stage::First
            } else {
                Stage::Again
            };
            pairs.connect(&mut engine, &broker, stage)?;
            context
                .live
                .say(&format!("load before crash {}", round + 1));
            pairs.load(&mut engine, self.seconds)?;
            broker.kill()?;
            // What was on its way to clients still comes, and is acknowledged to nobody.
            pairs.take_rest(&mut engine)?;
            let begun = Instant::now();
            broker.start_again()?;
            starts_s.push(begun.elapsed().as_secs_f64());
        }
        let mut engine = Engine::new(context.clock)?;
        pairs.connect(&mut engine, &broker, Stage::Last)?;
        context.live.say("last messages");
        pairs.drain(&mut engine)?;
        broker.end()?;
        Ok(pairs.findings(&starts_s))
    }
}
