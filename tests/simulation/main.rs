//! Whole brokers of several shards in one process, without sockets, threads or clocks: the core under a
//! seeded scheduler, with a virtual network and clients that do all that clients do.
//!
//! A seed names a run for ever: it is generated (`scenario`), played (`world`, `shard`, `client`, `wire`) and
//! checked against a model that shares no code with the broker (`model`). A seed that fails is made smaller
//! and told with its trace. In the environment:
//!
//! - `RINGMQ_SIM_SEED=n` plays one seed;
//! - `RINGMQ_SIM_SEEDS=n` plays so many, from 0 on or from `RINGMQ_SIM_FIRST`;
//! - `RINGMQ_SIM_MINUTES=n` goes on for so long: best with `cargo test --release --test simulation seeds`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with a panic when something is not as expected"
)]

mod client;
#[cfg(feature = "deliberate-faults")]
mod faults;
mod found;
mod model;
#[path = "../support/packet.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod packet;
#[path = "../support/property.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod property;
mod rng;
mod run;
mod scenario;
mod shard;
mod trace;
mod wire;
mod world;

use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use run::Total;

/// Seeds that are played when nothing else is said.
const SEEDS: u64 = 20_000;

fn setting<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    let value = text.parse().ok();
    assert!(value.is_some(), "{name} is {text:?}, which is no number");
    value
}

/// Plays seeds on all cores.
fn on_all_cores(seeds: u64, first: u64, minutes: Option<u64>) -> Total {
    let workers = thread::available_parallelism().map_or(1, usize::from) as u64;
    let until = minutes.map(|minutes| Instant::now() + Duration::from_secs(minutes * 60));
    let mut total = Total::default();
    thread::scope(|scope| {
        let work = |worker: u64| {
            let share = seeds / workers + u64::from(worker < seeds % workers);
            run::many(first + worker, workers, |played| match until {
                Some(until) => Instant::now() < until,
                None => played < share,
            })
        };
        let workers: Vec<_> = (0..workers)
            .map(|worker| {
                let builder = thread::Builder::new().name("simulation".into());
                builder.spawn_scoped(scope, move || work(worker)).unwrap()
            })
            .collect();
        for worker in workers {
            match worker.join().unwrap() {
                Ok(part) => {
                    total.seeds += part.seeds;
                    total.virtual_ms += part.virtual_ms;
                }
                Err(report) => panic!("{report}"),
            }
        }
    });
    total
}

#[test]
fn seeds_keep_every_promise() {
    let total = match setting("RINGMQ_SIM_SEED") {
        Some(seed) => on_all_cores(1, seed, None),
        None => on_all_cores(
            setting("RINGMQ_SIM_SEEDS").unwrap_or(SEEDS),
            setting("RINGMQ_SIM_FIRST").unwrap_or(0),
            setting("RINGMQ_SIM_MINUTES"),
        ),
    };
    eprintln!(
        "{} seeds, {:.1} virtual hours",
        total.seeds,
        total.virtual_ms as f64 / 3_600_000.0
    );
}
