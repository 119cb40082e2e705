//! Clients that behave, while others do not: the latency of the former and the broker's memory must stay.
//!
//! Before, during and after a disturbance, an open loop of 100 pairs measures. The disturbance has a thread,
//! and a CPU if `--disturb-cpu` names one. With `--alone` it is all there is, beside another process that measures.

pub mod cut;
pub mod flood;
pub mod garbage;
pub mod reconnect_storm;
pub mod retained_storm;
pub mod slow_reader;
pub mod takeover;

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::engine::{Clock, Engine};
use crate::measure::placement;
use crate::measure::process;
use crate::report::{Figure, Findings, PhaseReport};
use crate::settings::Settings;
use crate::traffic::plan::{Pace, Plan};
use crate::traffic::{self, Moment, Phase};

use super::meter::Meter;
use super::{Context, Course};

/// Messages a second of the clients that behave.
const METER_RATE: f64 = 1000.0;

/// Where a disturbance takes place.
#[derive(Clone, Debug)]
pub struct Scene {
    /// The broker.
    pub address: SocketAddr,
    /// Its process, if known.
    pub broker_pid: Option<u32>,
    /// The time of the run.
    pub clock: Clock,
    /// In no name of another run.
    pub tag: String,
    /// How long it lasts, if it has no end of its own.
    pub time: Duration,
}

impl Scene {
    /// An engine for the disturbance.
    ///
    /// # Errors
    /// If there is no descriptor.
    pub fn engine(&self) -> io::Result<Engine> {
        Engine::new(self.clock)
    }
}

/// What a disturbance has to say: a phase of its own, if it is one, and other figures.
#[derive(Default)]
pub struct Caused {
    /// Work of its own.
    pub phase: Option<PhaseReport>,
    /// Other figures.
    pub figures: Vec<Figure>,
    /// What was not as it must be.
    pub failures: Vec<String>,
}

/// The disturbance itself, when all is prepared.
pub type Trouble = Box<dyn FnOnce() -> io::Result<Caused> + Send>;

/// Prepares a disturbance.
pub trait Disturbance {
    /// Does what is to be done before the first measurement, and gives what comes during the second.
    ///
    /// # Errors
    /// If the broker refuses or the network fails.
    fn set_up(&self, scene: &Scene) -> io::Result<Trouble>;
}

/// A disturbance with those whom it disturbs.
pub struct Disturbed<D> {
    disturbance: D,
    meter: Plan,
    seconds: f64,
    alone: bool,
}

impl<D: Disturbance + 'static> Disturbed<D> {
    /// With the usual settings of the meter.
    pub fn boxed(settings: &mut Settings, disturbance: D) -> Box<dyn Course> {
        let alone = settings.flag("alone", false);
        Box::new(Self {
            disturbance,
            meter: settings.plan(Plan {
                publishers: 100,
                subscribers: 100,
                qos: 1,
                pace: Pace::Rate(METER_RATE),
                ..Plan::default()
            }),
            seconds: settings.seconds("seconds", 5.0),
            alone,
        })
    }

    fn run_alone(&self, scene: &Scene) -> io::Result<Findings> {
        let trouble = self.disturbance.set_up(scene)?;
        let engine = scene.engine()?;
        let meter = Meter::start(scene.broker_pid, &engine);
        let caused = trouble()?;
        let whole = meter.finish("disturbance", "message", &engine);
        let mut findings = Findings {
            figures: caused.figures,
            failures: caused.failures,
            phases: caused.phase.into_iter().collect(),
            ..Findings::default()
        };
        if let Some(used) = whole.broker {
            findings.figures.extend([
                Figure::new("CPU during the disturbance", used.cpus, "CPUs"),
                Figure::new("memory before", used.rss_before_bytes as f64, "bytes"),
                Figure::new("memory at its end", used.rss_after_bytes as f64, "bytes"),
            ]);
        }
        Ok(findings)
    }
}

const PHASES: [(&str, bool); 4] = [
    ("warmup", false),
    ("before", true),
    ("during", true),
    ("after", true),
];
const DURING: usize = 2;

impl<D: Disturbance + 'static> Course for Disturbed<D> {
    fn run(&self, context: &Context) -> io::Result<Findings> {
        let scene = Scene {
            address: context.address,
            broker_pid: context.broker_pid,
            clock: context.clock,
            tag: context.tag(),
            time: Duration::from_secs_f64(self.seconds),
        };
        if self.alone {
            return self.run_alone(&scene);
        }
        let mut trouble = Some(self.disturbance.set_up(&scene)?);
        let mut thread: Option<JoinHandle<io::Result<Caused>>> = None;
        let mut caused = Caused::default();
        let phases = PHASES.map(|(name, measured)| Phase {
            name,
            seconds: if measured { self.seconds } else { 1.0 },
            measured,
        });
        let result = traffic::run(context, &self.meter, &phases, &mut |moment| {
            match moment {
                Moment::Begin(DURING) => {
                    let cpus = context.disturb_cpus.clone();
                    thread = trouble.take().map(|trouble| {
                        std::thread::spawn(move || {
                            if !cpus.is_empty() {
                                placement::pin(&cpus)?;
                            }
                            trouble()
                        })
                    });
                }
                Moment::End(DURING) => {
                    if let Some(thread) = thread.take() {
                        caused = thread.join().unwrap_or_else(|_| {
                            Err(io::Error::other("the disturbing thread panicked"))
                        })?;
                    }
                }
                _ => {}
            }
            Ok(())
        })?;
        let mut findings = Findings {
            phases: result.phases,
            faults: result.faults,
            samples: result.samples,
            figures: caused.figures,
            failures: caused.failures,
        };
        compare_phases(&mut findings);
        findings.phases.extend(caused.phase);
        Ok(findings)
    }
}

/// Figures that tell what the disturbance has done to the others.
fn compare_phases(findings: &mut Findings) {
    let p99 = |phase: &PhaseReport| phase.latency.p99 as f64;
    let [before, during, after] = findings.phases.as_slice() else {
        return;
    };
    let mut figures = vec![Figure::new(
        "p99 latency of the others, during / before",
        p99(during) / p99(before).max(1.0),
        "times",
    )];
    if let (Some(before), Some(after)) = (&before.broker, &after.broker) {
        let during = findings
            .samples
            .iter()
            .filter(|sample| sample.phase == "during");
        let highest = during.filter_map(|sample| sample.broker_rss_bytes).max();
        let size = |name: &str, bytes: u64| Figure::new(name, bytes as f64, "bytes");
        figures.push(size("memory before", before.rss_after_bytes));
        figures.extend(highest.map(|bytes| size("memory during, at most", bytes)));
        figures.push(size("memory after", after.rss_after_bytes));
    }
    findings.figures.splice(0..0, figures);
}

/// Calls `step` until the scene's time is over.
fn repeat(scene: &Scene, mut step: impl FnMut() -> io::Result<()>) -> io::Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < scene.time {
        step()?;
    }
    Ok(())
}

/// Growth of the broker's memory since `before`.
fn growth(scene: &Scene, before: Option<u64>) -> Option<f64> {
    let after = scene.broker_pid.and_then(process::resident_bytes)?;
    Some(after as f64 - before? as f64)
}
