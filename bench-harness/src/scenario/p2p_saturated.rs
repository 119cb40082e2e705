//! `p2p-saturated`: pairs, each as fast as a window allows. The cost of a message from one client to another.

use super::{Scenario, Traffic};
use crate::traffic::plan::{Hears, Plan};

pub const SCENARIO: Scenario = Scenario {
    name: "p2p-saturated",
    about: "100 pairs, each with a topic of its own, as fast as a window of 64 messages allows",
    prepare: |settings| {
        let pairs = settings.scaled("publishers", 100);
        let plan = Plan {
            publishers: pairs,
            subscribers: pairs,
            hears: Hears::Pair,
            ..Plan::default()
        };
        Traffic::boxed(settings, plan)
    },
};
