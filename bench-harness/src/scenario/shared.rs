//! `shared`: many publishers into one shared subscription. The cost of choosing a member.

use super::{Scenario, Traffic};
use crate::mqtt::Version;
use crate::traffic::plan::{Hears, Pace, Plan};

pub const SCENARIO: Scenario = Scenario {
    name: "shared",
    about: "100 publishers to a shared subscription of 10, in 5.0, as fast as a window of 32 messages allows",
    prepare: |settings| {
        let plan = Plan {
            publishers: settings.scaled("publishers", 100),
            subscribers: settings.scaled("subscribers", 10),
            hears: Hears::Group,
            version: Version::V5,
            pace: Pace::Window(32),
            ..Plan::default()
        };
        Traffic::boxed(settings, plan)
    },
};
