//! `conn-tcp-1M-5K` of the Open MQTT Benchmark Suite.

use crate::scenario::Scenario;
use crate::scenario::connecting::Connecting;

pub const SCENARIO: Scenario = Scenario {
    name: "conn-tcp-1M-5K",
    about: "suite: 1,000,000 clients connect, 5,000 a second, and stay",
    prepare: |settings| Connecting::boxed(settings, 1_000_000, 5000.0),
};
