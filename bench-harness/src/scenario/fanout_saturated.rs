//! `fanout-saturated`: every subscriber gets every message. The cost of one more copy.

use super::{Scenario, Traffic};
use crate::traffic::plan::{Hears, Plan, Topics};

pub const SCENARIO: Scenario = Scenario {
    name: "fanout-saturated",
    about: "1 publisher to 100 subscribers, as fast as a window of 64 messages allows",
    prepare: |settings| {
        let filters = settings.filters();
        let plan = Plan {
            publishers: settings.count("publishers", 1),
            subscribers: settings.scaled("subscribers", 100),
            hears: Hears::All,
            filters,
            topics: Topics::for_filters(filters),
            ..Plan::default()
        };
        Traffic::boxed(settings, plan)
    },
};
