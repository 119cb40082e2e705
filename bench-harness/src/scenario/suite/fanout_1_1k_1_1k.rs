//! `fanout-1-1K-1-1K` of the Open MQTT Benchmark Suite.

use crate::scenario::Scenario;

pub const SCENARIO: Scenario = Scenario {
    name: "fanout-1-1K-1-1K",
    about: "suite: 1 publisher to 1,000 subscribers, 1 msg/s",
    prepare: |settings| super::fan_out(settings, 1, 1000, 1.0),
};
