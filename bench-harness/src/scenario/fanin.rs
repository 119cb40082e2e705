//! `fanin`: one subscriber gets what many publish. The cost of collecting.

use super::{Scenario, Traffic};
use crate::traffic::plan::{Hears, Pace, Plan, Topics};

pub const SCENARIO: Scenario = Scenario {
    name: "fanin",
    about: "1000 publishers to one topic with 1 subscriber, as fast as a window of 8 messages allows",
    prepare: |settings| {
        let filters = settings.filters();
        let plan = Plan {
            publishers: settings.scaled("publishers", 1000),
            subscribers: settings.count("subscribers", 1),
            hears: Hears::All,
            filters,
            topics: Topics::for_filters(filters),
            // 8,000 messages wait for one connection at most: more than brokers keep of QoS 0 would be lost.
            pace: Pace::Window(8),
            ..Plan::default()
        };
        Traffic::boxed(settings, plan)
    },
};
