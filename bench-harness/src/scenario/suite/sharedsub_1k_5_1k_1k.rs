//! `sharedsub-1K-5-1K-1K` of the Open MQTT Benchmark Suite.

use crate::scenario::Scenario;

pub const SCENARIO: Scenario = Scenario {
    name: "sharedsub-1K-5-1K-1K",
    about: "suite: 1,000 publishers, 1 msg/s each, to a shared subscription of 5, in 5.0",
    prepare: |settings| super::shared(settings, 1000, 5),
};
