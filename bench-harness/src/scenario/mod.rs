//! What can be measured: one small file for each scenario, and the list of all.

mod churn;
mod connecting;
mod crash;
mod disturbance;
mod fanin;
mod fanout_saturated;
mod hot_topic;
mod idle;
mod meter;
mod offline_drain;
mod p2p_saturated;
mod persistent_p2p;
mod shared;
mod subscribe_1m;
mod suite;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::broker::Launch;
use crate::engine::Clock;
use crate::live::Live;
use crate::report::Findings;
use crate::settings::{Options, Settings};
use crate::traffic::plan::Plan;
use crate::traffic::{self, Phase};

/// All scenarios.
pub const ALL: &[Scenario] = &[
    suite::conn_tcp_10k_100::SCENARIO,
    suite::conn_tcp_1m_5k::SCENARIO,
    suite::p2p_1k_1k_1k_1k::SCENARIO,
    suite::p2p_50k_50k_50k_50k::SCENARIO,
    suite::fanout_1_1k_1_1k::SCENARIO,
    suite::fanout_5_1000_5_250k::SCENARIO,
    suite::sharedsub_1k_5_1k_1k::SCENARIO,
    suite::sharedsub_50k_500_50k_50k::SCENARIO,
    p2p_saturated::SCENARIO,
    fanout_saturated::SCENARIO,
    fanin::SCENARIO,
    hot_topic::SCENARIO,
    shared::SCENARIO,
    persistent_p2p::SCENARIO,
    idle::SCENARIO,
    subscribe_1m::SCENARIO,
    churn::SCENARIO,
    offline_drain::SCENARIO,
    crash::SCENARIO,
    disturbance::retained_storm::SCENARIO,
    disturbance::reconnect_storm::SCENARIO,
    disturbance::slow_reader::SCENARIO,
    disturbance::takeover::SCENARIO,
    disturbance::flood::SCENARIO,
    disturbance::garbage::SCENARIO,
    disturbance::cut::SCENARIO,
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

    /// Whether it starts the broker itself.
    fn starts_broker(&self) -> bool {
        false
    }
}

/// Where a scenario runs.
pub struct Context {
    /// The broker.
    pub address: SocketAddr,
    /// Its process, if known.
    pub broker_pid: Option<u32>,
    /// How the broker is started and on which CPUs, for a scenario that does so itself.
    pub launch: Option<(Launch, Vec<usize>)>,
    /// CPUs of the generator's threads; anywhere if empty.
    pub cpus: Vec<usize>,
    /// CPUs of disturbing clients; those of the generator if empty.
    pub disturb_cpus: Vec<usize>,
    /// The time of the run.
    pub clock: Clock,
    /// What is shown meanwhile.
    pub live: Live,
}

static TAGS: AtomicUsize = AtomicUsize::new(0);

impl Context {
    /// The broker's process, for a scenario that is about what it uses.
    ///
    /// # Errors
    /// If it is not known.
    pub fn known_pid(&self) -> io::Result<u32> {
        self.broker_pid.ok_or_else(|| {
            io::Error::other("this scenario needs the broker's process: --broker-pid or --start")
        })
    }

    /// Something that is in no name of another run.
    pub fn tag(&self) -> String {
        let number = TAGS.fetch_add(1, Ordering::Relaxed);
        let seconds = std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |age| age.as_secs());
        format!("{:x}{:02x}{number}", std::process::id(), seconds & 0xff)
    }
}

/// A scenario that is ready to run.
pub struct Prepared {
    /// In words.
    pub about: &'static str,
    /// What it does.
    pub course: Box<dyn Course>,
    /// All its settings.
    pub configuration: BTreeMap<String, f64>,
}

/// Prepares the scenario of that name.
///
/// # Errors
/// If there is none, or it does not take these options.
pub fn prepare(name: &str, options: &Options) -> Result<Prepared, String> {
    let scenario = ALL
        .iter()
        .find(|scenario| scenario.name == name)
        .ok_or_else(|| format!("there is no scenario {name}; `ringmq-bench list` names all"))?;
    let mut settings = Settings::new(options);
    let course = (scenario.prepare)(&mut settings);
    Ok(Prepared {
        about: scenario.about,
        course,
        configuration: settings.finish(name)?,
    })
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
