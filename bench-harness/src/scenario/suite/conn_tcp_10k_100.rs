//! `conn-tcp-10K-100` of the Open MQTT Benchmark Suite.

use crate::scenario::Scenario;
use crate::scenario::connecting::Connecting;

pub const SCENARIO: Scenario = Scenario {
    name: "conn-tcp-10K-100",
    about: "suite: 10,000 clients connect, 100 a second, and stay",
    prepare: |settings| Connecting::boxed(settings, 10_000, 100.0),
};
