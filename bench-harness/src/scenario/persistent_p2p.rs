//! `persistent-p2p`: pairs whose sessions outlive their connections. The cost of a promise.

use super::{Scenario, Traffic};
use crate::traffic::plan::Plan;

pub const SCENARIO: Scenario = Scenario {
    name: "persistent-p2p",
    about: "100 pairs with persistent sessions, QoS 1, as fast as a window of 64 messages allows",
    prepare: |settings| {
        let pairs = settings.scaled("publishers", 100);
        let plan = Plan {
            publishers: pairs,
            subscribers: pairs,
            qos: 1,
            persistent: true,
            ..Plan::default()
        };
        Traffic::boxed(settings, plan)
    },
};
