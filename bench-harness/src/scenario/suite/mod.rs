//! The scenarios of the Open MQTT Benchmark Suite: QoS 1, 16 B, Keep Alive 300 s, clean sessions. It runs each
//! for 30 minutes (`--seconds 1800`); here it is half a minute unless told otherwise.

pub mod conn_tcp_10k_100;
pub mod conn_tcp_1m_5k;
pub mod fanout_1_1k_1_1k;
pub mod fanout_5_1000_5_250k;
pub mod p2p_1k_1k_1k_1k;
pub mod p2p_50k_50k_50k_50k;
pub mod sharedsub_1k_5_1k_1k;
pub mod sharedsub_50k_500_50k_50k;

use crate::mqtt::Version;
use crate::settings::Settings;
use crate::traffic::Phase;
use crate::traffic::plan::{Hears, Pace, Plan};

use super::{Course, Traffic};

/// Keep Alive of all clients, seconds.
const KEEP_ALIVE_S: u16 = 300;

fn boxed(settings: &mut Settings, plan: Plan, per_publisher_per_s: f64) -> Box<dyn Course> {
    let plan = Plan {
        qos: 1,
        payload_bytes: 16,
        keep_alive_s: KEEP_ALIVE_S,
        pace: Pace::Rate(per_publisher_per_s * plan.publishers as f64),
        ..plan
    };
    let plan = settings.plan(plan);
    let phases = Phase::simple(
        settings.seconds("warmup", 5.0),
        settings.seconds("seconds", 30.0),
    );
    Box::new(Traffic { plan, phases })
}

/// Pairs with a topic each.
fn p2p(settings: &mut Settings, pairs: usize) -> Box<dyn Course> {
    let pairs = settings.scaled("publishers", pairs);
    let plan = Plan {
        publishers: pairs,
        subscribers: pairs,
        ..Plan::default()
    };
    boxed(settings, plan, 1.0)
}

/// Publishers with a topic each, which all subscribers subscribe to.
fn fan_out(
    settings: &mut Settings,
    publishers: usize,
    subscribers: usize,
    per_publisher_per_s: f64,
) -> Box<dyn Course> {
    let plan = Plan {
        publishers: settings.count("publishers", publishers),
        subscribers: settings.scaled("subscribers", subscribers),
        hears: Hears::All,
        ..Plan::default()
    };
    boxed(settings, plan, per_publisher_per_s)
}

/// Publishers with a topic each, and one shared subscription to all of them.
fn shared(settings: &mut Settings, publishers: usize, subscribers: usize) -> Box<dyn Course> {
    let plan = Plan {
        publishers: settings.scaled("publishers", publishers),
        subscribers: settings.scaled("subscribers", subscribers),
        hears: Hears::Group,
        version: Version::V5,
        ..Plan::default()
    };
    boxed(settings, plan, 1.0)
}
