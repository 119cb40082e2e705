//! What can be measured: one small file for each scenario, and the list of all.

mod fan_in;
mod fan_out_saturated;
mod p2p_saturated;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::engine::Clock;
use crate::live::Live;
use crate::report::Findings;
use crate::settings::{Options, Settings};
use crate::traffic::plan::Plan;
use crate::traffic::{self, Phase};

/// All scenarios.
pub const ALL: &[Scenario] = &[
    p2p_saturated::SCENARIO,
    fan_out_saturated::SCENARIO,
    fan_in::SCENARIO,
];

/// A thing to measure.
pub struct Scenario {
    /// How it is called.
    pub name: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Asks for its settings, and says what is to be done with them.
    pub prepare: fn(&mut Settings) -> Box<dyn Course>,
}

/// A scenario with its settings.
pub trait Course {
    /// Carries it out.
    ///
    /// # Errors
    /// If the broker refuses or the network fails.
    fn run(&self, context: &Context) -> io::Result<Findings>;
}

/// Where a scenario runs.
pub struct Context {
    /// The broker.
    pub address: SocketAddr,
    /// Its process, if known.
    pub broker_pid: Option<u32>,
    /// CPUs of the generator's threads; anywhere if empty.
    pub cpus: Vec<usize>,
    /// The time of the run.
    pub clock: Clock,
    /// What is shown meanwhile.
    pub live: Live,
}

static TAGS: AtomicUsize = AtomicUsize::new(0);

impl Context {
    /// Something that is in no name of another run.
    pub fn tag(&self) -> String {
        let number = TAGS.fetch_add(1, Ordering::Relaxed);
        let seconds = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |age| age.as_secs());
        format!("{:x}{:02x}{number}", std::process::id(), seconds & 0xff)
    }
}

/// The scenario of that name, prepared, and its settings.
///
/// # Errors
/// If there is none, or it does not take these options.
pub fn prepare(
    name: &str,
    options: &Options,
) -> Result<(Box<dyn Course>, BTreeMap<String, f64>), String> {
    let scenario = ALL
        .iter()
        .find(|scenario| scenario.name == name)
        .ok_or_else(|| format!("there is no scenario {name}; `ringmq-bench list` names all"))?;
    let mut settings = Settings::new(options);
    let course = (scenario.prepare)(&mut settings);
    Ok((course, settings.finish(name)?))
}

/// Publishers and subscribers, and nothing else.
pub struct Traffic {
    /// What they do.
    pub plan: Plan,
    /// For how long.
    pub phases: Vec<Phase>,
}

impl Traffic {
    /// As `plan` says, if the settings do not say otherwise.
    pub fn boxed(settings: &mut Settings, plan: Plan) -> Box<dyn Course> {
        Box::new(Self {
            plan: settings.plan(plan),
            phases: settings.phases(),
        })
    }
}

impl Course for Traffic {
    fn run(&self, context: &Context) -> io::Result<Findings> {
        let result = traffic::run(context, &self.plan, &self.phases, &mut |_| Ok(()))?;
        Ok(Findings {
            phases: result.phases,
            faults: result.faults,
            samples: result.samples,
            ..Findings::default()
        })
    }
}
