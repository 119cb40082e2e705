//! `hot-topic`: one publisher, one topic, subscribers on all shards: whether one topic can use all cores.

use super::{Scenario, Traffic};
use crate::traffic::plan::{Hears, Plan, Topics};

pub const SCENARIO: Scenario = Scenario {
    name: "hot-topic",
    about: "1 publisher to 1000 subscribers of one topic, spread over all shards by their Client Identifiers",
    prepare: |settings| {
        let plan = Plan {
            publishers: settings.count("publishers", 1),
            subscribers: settings.scaled("subscribers", 1000),
            hears: Hears::All,
            topics: Topics::One,
            ..Plan::default()
        };
        Traffic::boxed(settings, plan)
    },
};
