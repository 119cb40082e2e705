//! `idle`: connections with a subscription that do nothing: what each costs in memory, and all of them in CPU.

use std::io;

use crate::engine::Engine;
use crate::measure::process;
use crate::mqtt::Version;
use crate::mqtt::encode::Connect;
use crate::report::{Figure, Findings};

use super::meter::Meter;
use super::{Context, Course, Scenario};

pub const SCENARIO: Scenario = Scenario {
    name: "idle",
    about: "15,000 connections with a subscription each, which do nothing",
    prepare: |settings| {
        Box::new(Idle {
            connections: settings.scaled("connections", 15_000),
            version: settings.version(Version::V3),
            hold_s: settings.seconds("seconds", 5.0),
        })
    },
};

/// What the first connections make a broker allocate once is not theirs.
const FIRST: usize = 100;

struct Idle {
    connections: usize,
    version: Version,
    hold_s: f64,
}

impl Course for Idle {
    fn run(&self, context: &Context) -> io::Result<Findings> {
        let pid = context.known_pid()?;
        let mut engine = Engine::new(context.clock)?;
        let connect = Connect::clean(self.version);
        let tag = context.tag();
        let names = |kind: &str, count| -> Vec<String> {
            (0..count)
                .map(|n| format!("bench-{tag}-{kind}{n}"))
                .collect()
        };
        engine.connect_all(context.address, &names("first", FIRST), connect)?;
        context.live.sleep("settling", 1.0);
        let before = process::resident_bytes(pid).unwrap_or(0);
        context.live.say("connecting");
        let mut meter = Meter::start(context.broker_pid, &engine);
        let identifiers = names("idle", self.connections);
        let (first, _) = engine.connect_all(context.address, &identifiers, connect)?;
        let numbers = first..first + self.connections;
        engine.subscribe_all(numbers, 1, self.version, |place| {
            vec![format!("idle/device/{place:08}/command")]
        })?;
        meter.sent = self.connections as u64;
        meter.delivered = meter.sent;
        let connected = meter.finish("connecting", "connection", &engine);
        context.live.sleep("settling", 2.0);
        let after = process::resident_bytes(pid).unwrap_or(0);
        let cpu_ns = process::cpu_ns(pid);
        context.live.sleep("holding", self.hold_s);
        let used_s = (process::cpu_ns(pid) - cpu_ns) as f64 / 1e9;
        let mut findings = Findings {
            phases: vec![connected],
            figures: vec![
                Figure::new(
                    "memory of an idle connection",
                    after.saturating_sub(before) as f64 / self.connections as f64,
                    "bytes",
                ),
                Figure::new(
                    "CPU of all idle connections",
                    used_s / self.hold_s.max(1e-9) * 100.0,
                    "% of a CPU",
                ),
            ],
            ..Findings::default()
        };
        findings.faults.closed = engine.closed_by_now()?;
        Ok(findings)
    }
}
