//! What a run has shown, as data: the same for the terminal, JSON lines, Markdown and HTML.

pub mod file;
pub mod html;
pub mod markdown;
mod plot;
pub mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::measure::latency::Latency;
use crate::measure::machine::Machine;
use crate::measure::process::Used;
use crate::traffic::ledger::Faults;

/// A generator thread that works for more than this share of the time may have been the limit.
const BUSY_MAX: f64 = 0.95;
/// A broker that uses more than this share of its CPUs, or of a CPU in one thread, is the limit.
const BROKER_BUSY: f64 = 0.95;
/// An open loop of which one message in a hundred is sent later than this was not evenly spaced, nanoseconds.
const LAG_MAX_NS: u64 = 1_000_000;

/// The result of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The scenario's name.
    pub scenario: String,
    /// Who was measured.
    pub broker: Broker,
    /// Every setting of the scenario, given or not.
    pub configuration: BTreeMap<String, f64>,
    /// Where.
    pub machine: Machine,
    /// Version of the generator.
    pub version: String,
    /// When, seconds since 1970.
    pub at_unix_s: u64,
    /// What was found.
    #[serde(flatten)]
    pub findings: Findings,
}

/// The broker of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Broker {
    /// Its name in the report.
    pub name: String,
    /// Where it listened.
    pub address: String,
    /// How it was started, if the harness did or its process is known.
    pub command: Option<String>,
    /// What it says of its version.
    pub version: Option<String>,
    /// CPUs that it was pinned to.
    pub cpus: Vec<usize>,
}

/// What a scenario found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Measured phases.
    pub phases: Vec<PhaseReport>,
    /// Over all of the run.
    pub faults: Faults,
    /// Other figures.
    pub figures: Vec<Figure>,
    /// What was not as it must be, besides faults.
    pub failures: Vec<String>,
    /// Over time.
    pub samples: Vec<Sample>,
}

/// One measured phase.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// What is counted: `message`, `connection` or the like.
    pub unit: String,
    /// Its length.
    pub seconds: f64,
    /// Messages published, or whatever the generator asked for.
    pub sent: u64,
    /// Messages that came to subscribers, or whatever was answered.
    pub delivered: u64,
    /// From the time that a message was sent, or meant for, to its arrival; or from question to answer.
    pub latency: Latency,
    /// How late an open loop sent.
    pub lag: Option<Latency>,
    /// What the broker used, if its process is known.
    pub broker: Option<Used>,
    /// What the generator used.
    pub generator: Generator,
}

/// What the generator used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// CPU time of its threads, seconds.
    pub cpu_s: f64,
    /// Share of the time that its busiest thread did not wait for the broker.
    pub busy: f64,
}

/// A figure of a scenario of its own kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Its unit.
    pub unit: String,
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, value: f64, unit: &str) -> Self {
        Self {
            name: name.into(),
            value,
            unit: unit.into(),
        }
    }
}

/// Rates and use over a quarter of a second.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The phase.
    pub phase: String,
    /// Its end, seconds since the first phase.
    pub at_s: f64,
    /// Messages published.
    pub in_per_s: f64,
    /// Messages delivered.
    pub out_per_s: f64,
    /// CPUs that the broker used.
    pub broker_cpu: Option<f64>,
    /// Its resident memory.
    pub broker_rss_bytes: Option<u64>,
}

/// Who could not go faster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The broker used all of its CPUs.
    Broker,
    /// The generator had no time left.
    Generator,
    /// The generator did not send when it was meant to.
    Late,
    /// Neither: the rate, the window or the network.
    Neither,
}

impl Limit {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Broker => "the broker was the limit",
            Self::Generator => "THE GENERATOR WAS THE LIMIT",
            Self::Late => "THE GENERATOR SENT LATE, which is in the latencies",
            Self::Neither => "neither broker nor generator was the limit",
        }
    }

    /// For tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Generator => "GENERATOR",
            Self::Late => "GENERATOR LATE",
            Self::Neither => "neither",
        }
    }
}

impl PhaseReport {
    /// Messages published, per second.
    pub fn in_per_s(&self) -> f64 {
        self.sent as f64 / self.seconds
    }

    /// Messages delivered, per second.
    pub fn out_per_s(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }

    /// CPU of the broker for each delivered message or answer, microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        let used = self.broker.as_ref()?;
        (self.delivered > 0).then(|| used.cpu_s * 1e6 / self.delivered as f64)
    }

    /// Context switches of the broker, per second.
    pub fn switches_per_s(&self) -> Option<f64> {
        let used = self.broker.as_ref()?;
        Some((used.voluntary_switches + used.involuntary_switches) as f64 / self.seconds)
    }

    /// Who could not go faster, if the broker has `broker_cpus` CPUs; 0 if that is not known.
    pub fn limit(&self, broker_cpus: usize) -> Limit {
        let broker_busy = self.broker.as_ref().is_some_and(|used| {
            let all = broker_cpus > 0 && used.cpus >= BROKER_BUSY * broker_cpus as f64;
            all || used.busiest_thread >= BROKER_BUSY
        });
        let late = self.lag.as_ref().is_some_and(|lag| lag.p99 > LAG_MAX_NS);
        if late {
            Limit::Late
        } else if self.generator.busy > BUSY_MAX {
            Limit::Generator
        } else if broker_busy {
            Limit::Broker
        } else {
            Limit::Neither
        }
    }
}

impl Findings {
    /// Whether all was as it must be.
    pub fn passed(&self) -> bool {
        self.faults.total() == 0 && self.failures.is_empty()
    }
}

impl Report {
    /// One line of JSON.
    pub fn json(&self) -> String {
        // Maps with text as keys and finite numbers: always JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 1,000 messages in and 2,000 out in one second, for half a millisecond of CPU.
    pub fn sample_report(name: &str) -> Report {
        let mut recorded = crate::measure::latency::histogram();
        for value in 1..=2000 {
            recorded.record(value * 1000).unwrap();
        }
        let sample = Sample {
            phase: "measured".into(),
            at_s: 0.25,
            in_per_s: 1000.0,
            out_per_s: 2000.0,
            broker_cpu: Some(0.5),
            broker_rss_bytes: Some(1 << 20),
        };
        Report {
            scenario: "sample".into(),
            broker: Broker {
                name: name.into(),
                cpus: vec![0],
                ..Broker::default()
            },
            configuration: BTreeMap::from([("qos".into(), 1.0)]),
            machine: Machine::default(),
            version: "0".into(),
            at_unix_s: 0,
            findings: Findings {
                phases: vec![PhaseReport {
                    name: "measured".into(),
                    unit: "message".into(),
                    seconds: 1.0,
                    sent: 1000,
                    delivered: 2000,
                    latency: Latency::of(&recorded),
                    lag: None,
                    broker: Some(Used {
                        cpu_s: 0.0005,
                        cpus: 0.0005,
                        ..Used::default()
                    }),
                    generator: Generator::default(),
                }],
                figures: vec![Figure::new("memory", 576.0, "bytes")],
                samples: vec![sample],
                ..Findings::default()
            },
        }
    }

    #[test]
    fn the_limit_is_who_had_no_time_left() {
        let mut phase = sample_report("a").findings.phases.remove(0);
        assert_eq!(phase.limit(1), Limit::Neither);
        phase.broker.as_mut().unwrap().cpus = 0.99;
        assert_eq!(phase.limit(1), Limit::Broker);
        assert_eq!(phase.limit(2), Limit::Neither);
        assert_eq!(phase.limit(0), Limit::Neither);
        phase.broker.as_mut().unwrap().busiest_thread = 0.99;
        assert_eq!(phase.limit(2), Limit::Broker);
        phase.generator.busy = 0.99;
        assert_eq!(phase.limit(1), Limit::Generator);
        phase.generator.busy = 0.5;
        phase.lag = Some(Latency {
            p99: 5_000_000,
            ..Latency::default()
        });
        assert_eq!(phase.limit(1), Limit::Late);
    }

    #[test]
    fn faults_and_failures_fail_a_run() {
        let mut findings = sample_report("a").findings;
        assert!(findings.passed());
        findings.faults.lost = 1;
        assert!(!findings.passed());
        findings.faults.lost = 0;
        findings.failures.push("x".into());
        assert!(!findings.passed());
    }
}
