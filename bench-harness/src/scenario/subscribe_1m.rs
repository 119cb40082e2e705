//! `subscribe-1M`: very many subscriptions: what each costs in memory and CPU, and what they cost a message.
//!
//! Pairs with a few topics each measure before; then every subscriber gets its share of the million, and pairs
//! publish to all of the topics in turn, each of which matches one subscription.

use std::io;

use crate::engine::Engine;
use crate::measure::process;
use crate::mqtt::encode::{self, Connect};
use crate::report::{Figure, Findings};
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
        self.traffic(
            context,
            "few subscriptions",
            self.plan.topics,
            &mut findings,
        )?;
        let wildcard = |number: usize| format!("bench/+/w{number:08}/#");
        let mut holders =
            self.hold(context, "wildcard", self.wildcards, wildcard, &mut findings)?;
        let exact = |number: usize| format!("fleet/vehicle/{number:08}/state");
        // They make room for those of the pairs, which are as many.
        drop(self.hold(context, "exact", self.exact, exact, &mut findings)?);
        let each = (self.exact / self.plan.publishers).max(1);
        self.traffic(
            context,
            "many subscriptions",
            Topics::Many(each),
            &mut findings,
        )?;
        findings.faults.closed += holders.closed_by_now()?;
        let costs: Vec<_> = findings
            .phases
            .iter()
            .filter(|phase| phase.unit == "message")
            .filter_map(|phase| phase.cpu_us())
            .collect();
        if let [few, many] = costs.as_slice() {
            findings.figures.push(Figure::new(
                "CPU of a message with many subscriptions / with few",
                many / few,
                "times",
            ));
        }
        Ok(findings)
    }
}

impl Subscribe {
    fn traffic(
        &self,
        context: &Context,
        name: &str,
        topics: Topics,
        findings: &mut Findings,
    ) -> io::Result<()> {
        let plan = Plan {
            topics,
            ..self.plan.clone()
        };
        let result = traffic::run(context, &plan, &self.phases, &mut |_| Ok(()))?;
        findings.faults.add(&result.faults);
        findings.samples.extend(result.samples);
        for mut phase in result.phases {
            phase.name = name.into();
            findings.phases.push(phase);
        }
        Ok(())
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
