//! `p2p-50K-50K-50K-50K` of the Open MQTT Benchmark Suite.

use crate::scenario::Scenario;

pub const SCENARIO: Scenario = Scenario {
    name: "p2p-50K-50K-50K-50K",
    about: "suite: 50,000 pairs with a topic each, 1 msg/s each",
    prepare: |settings| super::p2p(settings, 50_000),
};
