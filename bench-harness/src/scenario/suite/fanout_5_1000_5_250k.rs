//! `fanout-5-1000-5-250K` of the Open MQTT Benchmark Suite.

use crate::scenario::Scenario;

pub const SCENARIO: Scenario = Scenario {
    name: "fanout-5-1000-5-250K",
    about: "suite: 5 publishers with a topic each to 1,000 subscribers of all, 50 msg/s each",
    prepare: |settings| super::fan_out(settings, 5, 1000, 50.0),
};
