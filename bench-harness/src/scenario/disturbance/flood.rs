//! `flood`: a client that publishes as fast as it can, to nobody.

use std::io;
use std::time::Duration;

use crate::engine::{Engine, each};
use crate::mqtt::Version;
use crate::mqtt::encode::Connect;
use crate::mqtt::template::{Shape, Stamp, Template};
use crate::report::Figure;
use crate::scenario::Scenario;

use super::{Caused, Disturbance, Disturbed, Scene, Trouble, repeat};

pub const SCENARIO: Scenario = Scenario {
    name: "flood",
    about: "disturbance: a client that publishes 1 KiB messages with QoS 0 as fast as its socket takes them",
    prepare: |settings| Disturbed::boxed(settings, Flood),
};

struct Flood;

impl Disturbance for Flood {
    fn set_up(&self, scene: &Scene) -> io::Result<Trouble> {
        let scene = scene.clone();
        Ok(Box::new(move || {
            let mut engine = scene.engine()?;
            let topic = format!("bench/{}/flood", scene.tag);
            let sent = flood(&mut engine, &scene, &topic, 0)?;
            let rate = sent as f64 / scene.time.as_secs_f64();
            Ok(Caused {
                figures: vec![Figure::new("messages of the flood", rate, "/s")],
                ..Caused::default()
            })
        }))
    }
}

/// Messages in one write.
const BATCH: u64 = 64;
const PAYLOAD_BYTES: usize = 1024;

/// Publishes as fast as the socket takes it, whatever is acknowledged; gives how many.
pub fn flood(engine: &mut Engine, scene: &Scene, topic: &str, qos: u8) -> io::Result<u64> {
    let identifier = [format!("bench-{}-flood", scene.tag)];
    let connect = Connect::clean(Version::V3);
    let (number, _) = engine.connect_all(scene.address, &identifier, connect)?;
    let shape = Shape {
        qos,
        retain: false,
        version: Version::V3,
        payload_bytes: PAYLOAD_BYTES,
    };
    let mut template = Template::new(topic, shape);
    let mut sent = 0u64;
    repeat(scene, || {
        if engine.is_open(number) && engine.unsent(number) == 0 {
            for _ in 0..BATCH {
                let stamp = Stamp {
                    publisher: 0,
                    sequence: sent as u32,
                    sent_ns: 0,
                };
                let identifier = (sent % 65_535) as u16 + 1;
                template.append(engine.out(number), stamp, identifier);
                sent += 1;
            }
        }
        engine.poll(Duration::from_millis(1), &mut each(|_, _| {}))
    })?;
    Ok(sent)
}
