//! `slow-reader`: a client that subscribes to a flood and reads nothing.

use std::io;

use crate::measure::process;
use crate::mqtt::Version;
use crate::mqtt::encode::Connect;
use crate::report::Figure;
use crate::scenario::Scenario;

use super::flood::flood;
use super::{Caused, Disturbance, Disturbed, Scene, Trouble, growth};

pub const SCENARIO: Scenario = Scenario {
    name: "slow-reader",
    about: "disturbance: a client that subscribes to a flood of 1 KiB messages with QoS 1 and reads nothing",
    prepare: |settings| Disturbed::boxed(settings, SlowReader),
};

struct SlowReader;

impl Disturbance for SlowReader {
    fn set_up(&self, scene: &Scene) -> io::Result<Trouble> {
        let scene = scene.clone();
        Ok(Box::new(move || {
            let mut engine = scene.engine()?;
            let identifier = [format!("bench-{}-slow", scene.tag)];
            let connect = Connect::clean(Version::V3);
            let (slow, _) = engine.connect_all(scene.address, &identifier, connect)?;
            let filter = format!("bench/{}/slow/#", scene.tag);
            engine.subscribe_all(slow..slow + 1, 1, Version::V3, |_| vec![filter.clone()])?;
            engine.mute(slow)?;
            let before = scene.broker_pid.and_then(process::resident_bytes);
            let topic = format!("bench/{}/slow/topic", scene.tag);
            let sent = flood(&mut engine, &scene, &topic, 1)?;
            let rate = sent as f64 / scene.time.as_secs_f64();
            let mut figures = vec![Figure::new("messages of the flood", rate, "/s")];
            let grown = growth(&scene, before);
            figures.extend(
                grown.map(|grown| Figure::new("memory held for the slow reader", grown, "bytes")),
            );
            Ok(Caused {
                figures,
                ..Caused::default()
            })
        }))
    }
}
