//! Runs of scenarios: one, many, and smaller ones of a seed that fails.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::time::{Duration, Instant};

use crate::restart;
use crate::scenario::{Action, Scenario};
use crate::trace;
use crate::world::World;

/// How long a failing run may be made smaller.
const SHRINK: Duration = Duration::from_secs(20);
/// The last lines of a trace that are shown.
const LINES: usize = 400;

thread_local! {
    /// The message and place of the last panic.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics of runs silent; their message is told with the seed.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let ours = std::thread::current().name() == Some("simulation");
            if !ours {
                default(info);
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            let text = info.payload_as_str().unwrap_or("a panic without words");
            PANIC.with(|last| *last.borrow_mut() = Some(format!("{text}\n  at {place}")));
        }));
    });
}

/// Plays a scenario: the virtual milliseconds that went by, or what went wrong.
pub fn play(scenario: &Scenario) -> Result<u64, String> {
    caught(|| World::play(scenario))
}

/// The same for a seed of crashes and restarts.
pub fn play_restarts(seed: u64) -> Result<u64, String> {
    caught(|| restart::play(seed))
}

fn caught(work: impl FnOnce() -> u64) -> Result<u64, String> {
    listen();
    panic::catch_unwind(AssertUnwindSafe(work)).map_err(|_| {
        PANIC
            .with(|last| last.borrow_mut().take())
            .unwrap_or_default()
    })
}

/// Where in the code a run failed.
fn place(failure: &str) -> &str {
    failure
        .rsplit_once("\n  at ")
        .map_or(failure, |(_, place)| place)
}

/// A scenario that fails at the same place with as few actions as can be found in a while.
fn shrink(scenario: &Scenario, failure: &str) -> Scenario {
    let fails =
        |candidate: &Scenario| play(candidate).is_err_and(|other| place(&other) == place(failure));
    let until = Instant::now() + SHRINK;
    let mut smallest = scenario.clone();
    let mut chunk = smallest.actions.len().div_ceil(2);
    while chunk > 0 {
        let mut start = 0;
        let mut smaller = false;
        while start < smallest.actions.len() && Instant::now() < until {
            let mut candidate = smallest.clone();
            let end = (start + chunk).min(candidate.actions.len());
            candidate.actions.drain(start..end);
            if fails(&candidate) {
                smallest = candidate;
                smaller = true;
            } else {
                start += chunk;
            }
        }
        if Instant::now() >= until {
            break;
        }
        chunk = if chunk == 1 && smaller { 1 } else { chunk / 2 };
    }
    smallest
}

/// What to say of a seed that fails.
pub fn report(seed: u64, failure: &str) -> String {
    let scenario = shrink(&Scenario::generate(seed), failure);
    trace::start();
    let failure_then = play(&scenario).err().unwrap_or_else(|| failure.to_owned());
    let lines = trace::finish();
    let skipped = lines.len().saturating_sub(LINES);
    let settles = |action: &&Action| matches!(action, Action::Settle { .. });
    let profiles = scenario.profiles.iter().enumerate();
    let profiles: Vec<_> = profiles
        .map(|(number, one)| format!("client {number}: {one:?}"))
        .collect();
    format!(
        "seed {seed} fails: {failure}\n\nto play it again: RINGMQ_SIM_SEED={seed} cargo test --test simulation\n\n\
         the smallest run that fails: {} actions, {} of them to settle, {} shards, {:?}\n{:?}\n{}\n\n\
         {}{}\n{failure_then}\n",
        scenario.actions.len(),
        scenario.actions.iter().filter(settles).count(),
        scenario.shards,
        scenario.config.session,
        scenario.config.network,
        profiles.join("\n"),
        if skipped > 0 {
            format!("({skipped} lines before)\n")
        } else {
            String::new()
        },
        lines[skipped..].join("\n"),
    )
}

/// What to say of a seed of restarts that fails.
pub fn report_restarts(seed: u64, failure: &str) -> String {
    trace::start();
    let failure_then = play_restarts(seed)
        .err()
        .unwrap_or_else(|| failure.to_owned());
    let lines = trace::finish();
    let skipped = lines.len().saturating_sub(LINES);
    format!(
        "seed {seed} fails: {failure}\n\nto play it again: RINGMQ_SIM_SEED={seed} cargo test --test simulation \
         restarts\n\n({skipped} lines before)\n{}\n{failure_then}\n",
        lines[skipped..].join("\n"),
    )
}

/// What many runs came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Total {
    pub seeds: u64,
    pub virtual_ms: u64,
}

/// Plays seeds from `first` on as long as `go_on` says so; the first that fails is told.
pub fn many(
    first: u64,
    step: u64,
    play: fn(u64) -> Result<u64, String>,
    mut go_on: impl FnMut(u64) -> bool,
) -> Result<Total, String> {
    let mut total = Total::default();
    let mut seed = first;
    while go_on(total.seeds) {
        total.virtual_ms += play(seed)?;
        total.seeds += 1;
        seed += step;
    }
    Ok(total)
}
