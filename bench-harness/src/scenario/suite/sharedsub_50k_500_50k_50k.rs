//! `sharedsub-50K-500-50K-50K` of the Open MQTT Benchmark Suite.

use crate::scenario::Scenario;

pub const SCENARIO: Scenario = Scenario {
    name: "sharedsub-50K-500-50K-50K",
    about: "suite: 50,000 publishers, 1 msg/s each, to a shared subscription of 500, in 5.0",
    prepare: |settings| super::shared(settings, 50_000, 500),
};
