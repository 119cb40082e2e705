//! `p2p-1K-1K-1K-1K` of the Open MQTT Benchmark Suite.

use crate::scenario::Scenario;

pub const SCENARIO: Scenario = Scenario {
    name: "p2p-1K-1K-1K-1K",
    about: "suite: 1,000 pairs with a topic each, 1 msg/s each",
    prepare: |settings| super::p2p(settings, 1000),
};
