//! `fanin`: one subscriber gets what many publish. The cost of collecting.

use super::{Scenario, Traffic};
use crate::traffic::plan::{Hears, Plan, Topics};

pub const SCENARIO: Scenario = Scenario {
    name: "fanin",
    about: "1000 publishers to one topic with 1 subscriber, as fast as a window of 64 messages allows",
    prepare: |settings| {
        let plan = Plan {
            publishers: settings.scaled("publishers", 1000),
            subscribers: settings.count("subscribers", 1),
            hears: Hears::All,
            filters: settings.filters(),
            ..Plan::default()
        };
        Traffic::boxed(
            settings,
            Plan {
                topics: Topics::for_filters(plan.filters),
                ..plan
            },
        )
    },
};
