//! `subscribe-1M`: very many subscriptions: what each costs in memory and CPU, and what they cost a message.
//!
//! Pairs with a topic each measure before and while others hold the subscriptions. Then the pairs hold them, and
//! publish to all of their topics in turn, each of which matches one subscription: nothing of the index stays in
//! a cache.

use std::io;

use crate::engine::Engine;
use crate::measure::process;
use crate::mqtt::encode::{self, Connect};
use crate::report::{Figure, Findings, PhaseReport};
use crate::traffic::plan::{Plan, Topics};
use crate::traffic::{self, Phase};

use super::meter::Meter;
use super::{Context, Course, Scenario};

pub const SCENARIO: Scenario = Scenario {
    name: "subscribe-1M",
    about: "1,000,000 exact and 100,000 wildcard subscriptions, and pairs that publish to them, before and after",
    prepare: |settings| {
        let pairs = settings.scaled("publishers", 100);
        Box::new(Subscribe {
            exact: settings.scaled("subscriptions", 1_000_000),
            wildcards: settings.count("wildcards", 100_000),
            phases: settings.phases(),
            plan: settings.plan(Plan {
                publishers: pairs,
                subscribers: pairs,
                topics: Topics::Many(1),
                ..Plan::default()
            }),
        })
    },
};

/// Filters in one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 100;
/// Clients that hold wildcard subscriptions.
const HOLDERS: usize = 100;

struct Subscribe {
    exact: usize,
    wildcards: usize,
    phases: Vec<Phase>,
    plan: Plan,
}

impl Course for Subscribe {
    fn run(&self, context: &Context) -> io::Result<Findings> {
        let mut findings = Findings::default();
        let few = self.traffic(
            context,
            "few subscriptions",
            self.plan.topics,
            &mut findings,
        )?;
        let wildcard = |number: usize| format!("bench/+/w{number:08}/#");
        let mut wildcards =
            self.hold(context, "wildcard", self.wildcards, wildcard, &mut findings)?;
        let exact = |number: usize| format!("fleet/vehicle/{number:08}/state");
        let mut others = self.hold(context, "exact", self.exact, exact, &mut findings)?;
        let many = self.traffic(
            context,
            "many subscriptions",
            self.plan.topics,
            &mut findings,
        )?;
        findings.faults.closed += others.closed_by_now()?;
        // They make room for those of the pairs, which are as many.
        drop(others);
        let each = Topics::Many((self.exact / self.plan.publishers).max(1));
        let spread = self.traffic(context, "all topics in turn", each, &mut findings)?;
        findings.faults.closed += wildcards.closed_by_now()?;
        for (name, cost) in [
            ("CPU of a message, many subscriptions / few", many),
            (
                "CPU of a message, all topics in turn / few subscriptions",
                spread,
            ),
        ] {
            if let (Some(few), Some(cost)) = (few, cost) {
                findings
                    .figures
                    .push(Figure::new(name, cost / few, "times"));
            }
        }
        Ok(findings)
    }
}

impl Subscribe {
    /// Pairs that publish; gives what a message costs.
    fn traffic(
        &self,
        context: &Context,
        name: &str,
        topics: Topics,
        findings: &mut Findings,
    ) -> io::Result<Option<f64>> {
        let plan = Plan {
            topics,
            ..self.plan.clone()
        };
        let result = traffic::run(context, &plan, &self.phases, &mut |_| Ok(()))?;
        findings.faults.add(&result.faults);
        findings.samples.extend(result.samples);
        let cost = result.phases.last().and_then(PhaseReport::cpu_us);
        for mut phase in result.phases {
            phase.name = name.into();
            findings.phases.push(phase);
        }
        Ok(cost)
    }

    /// Clients that hold `count` subscriptions, and what these cost.
    fn hold(
        &self,
        context: &Context,
        kind: &str,
        count: usize,
        filter: impl Fn(usize) -> String,
        findings: &mut Findings,
    ) -> io::Result<Engine> {
        let mut engine = Engine::new(context.clock)?;
        if count == 0 {
            return Ok(engine);
        }
        let tag = context.tag();
        let holders: Vec<_> = (0..HOLDERS).map(|n| format!("bench-{tag}-h{n}")).collect();
        let connect = Connect::clean(self.plan.version);
        let (first, _) = engine.connect_all(context.address, &holders, connect)?;
        context.live.sleep("settling", 1.0);
        let resident = || context.broker_pid.and_then(process::resident_bytes);
        let before = resident();
        let mut meter = Meter::start(context.broker_pid, &engine);
        let (mut made, mut text_bytes) = (0, 0);
        while made < count {
            let mut packets = 0;
            for number in first..first + HOLDERS {
                let filters: Vec<_> = (made..count.min(made + FILTERS_PER_PACKET))
                    .map(&filter)
                    .collect();
                if filters.is_empty() {
                    break;
                }
                made += filters.len();
                text_bytes += filters.iter().map(String::len).sum::<usize>();
                let packet = encode::subscribe(&filters, 1, self.plan.version);
                engine.out(number).extend_from_slice(&packet);
                packets += 1;
            }
            engine.await_subacks(packets, 1, self.plan.version)?;
            let share = made as f64 / count as f64;
            context
                .live
                .progress(&format!("{kind} subscriptions"), share, None);
        }
        (meter.sent, meter.delivered) = (count as u64, count as u64);
        findings.phases.push(meter.finish(
            &format!("{kind} subscriptions"),
            "subscription",
            &engine,
        ));
        context.live.sleep("settling", 1.0);
        if let (Some(before), Some(after)) = (before, resident()) {
            let each = after.saturating_sub(before) as f64 / count as f64;
            let text = text_bytes as f64 / count as f64;
            findings.figures.extend([
                Figure::new(format!("memory of a subscription, {kind}"), each, "bytes"),
                Figure::new(
                    format!("of which beyond its filter, {kind}"),
                    each - text,
                    "bytes",
                ),
            ]);
        }
        Ok(engine)
    }
}
