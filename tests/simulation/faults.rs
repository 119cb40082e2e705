//! The simulator finds faults: each is switched on, and must be found within so many seeds.
//!
//! `FAULTS.md` tells which and within how many; `RINGMQ_BLESS=1` writes it anew. Run by
//! `cargo test --features deliberate-faults --test simulation faults`.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::{fs, thread};

use ringmq::broker::fault::{Fault, switch};

use crate::run::play;
use crate::scenario::Scenario;

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/simulation/FAULTS.md");
const INTRODUCTION: &str = "# Faults that the simulator finds

Each is a fault at one point of the broker (`src/broker/fault.rs`), compiled in only with the feature
`deliberate-faults`. `cargo test --features deliberate-faults --test simulation faults` switches on one after the other and
fails if one is not found within so many seeds, from seed 0 on.

| Fault | What is wrong | Found within |
|---|---|---|
";

/// Within how many seeds a fault is found, if nothing else is said.
const SEEDS: u64 = 500;
/// Faults that need something rare.
const RARE: [(Fault, u64); 2] = [
    // A confirmation that overtakes a retained message, and a subscriber who asks for it in between.
    (Fault::ConfirmEarly, 40_000),
    // Two messages of one publisher, Topic Name and QoS in one batch, the second of them large.
    (Fault::BatchReordered, 4_000),
];

fn seeds_for(fault: Fault) -> u64 {
    let rare = RARE.iter().find(|(other, _)| *other == fault);
    rare.map_or(SEEDS, |(_, seeds)| *seeds)
}

/// The first seed that finds a fault, and what it says.
fn find(fault: Fault) -> Option<(u64, String)> {
    switch(Some(fault));
    let found = (0..seeds_for(fault)).find_map(|seed| {
        let failure = play(&Scenario::generate(seed)).err()?;
        Some((seed, failure))
    });
    switch(None);
    found
}

fn find_next(next: &AtomicUsize, missed: &Sender<Fault>) {
    while let Some((fault, _)) = Fault::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
        match find(*fault) {
            Some((seed, failure)) => {
                let first_line = failure.lines().next().unwrap_or_default();
                eprintln!("{fault:?} is found by seed {seed}: {first_line}");
            }
            None => missed.send(*fault).unwrap(),
        }
    }
}

#[test]
fn faults_are_found() {
    let next = AtomicUsize::new(0);
    let (sender, missed) = channel();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (next, sender) = (&next, sender.clone());
            let builder = thread::Builder::new().name("simulation".into());
            builder
                .spawn_scoped(scope, move || find_next(next, &sender))
                .unwrap();
        }
    });
    drop(sender);
    let missed: Vec<_> = missed.iter().collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}

#[test]
fn faults_are_told() {
    let rows = Fault::ALL.iter().map(|(fault, what)| {
        let seeds = seeds_for(*fault);
        format!("| `{fault:?}` | {} | {seeds} seeds |\n", what.trim())
    });
    let table = format!("{INTRODUCTION}{}", rows.collect::<String>());
    if std::env::var_os("RINGMQ_BLESS").is_some() {
        fs::write(TABLE, table).unwrap();
        return;
    }
    let told = fs::read_to_string(TABLE).unwrap_or_default();
    assert!(
        told == table,
        "FAULTS.md is old: run this test with RINGMQ_BLESS=1"
    );
}
