//! `garbage`: connections that send bytes that are no MQTT.

use std::io::{self, Write};
use std::net::TcpStream;

use crate::report::Figure;
use crate::scenario::Scenario;

use super::{Caused, Disturbance, Disturbed, Scene, Trouble, repeat};

pub const SCENARIO: Scenario = Scenario {
    name: "garbage",
    about: "disturbance: connections, one after another, that send 4 KiB that are no MQTT",
    prepare: |settings| Disturbed::boxed(settings, Garbage),
};

struct Garbage;

impl Disturbance for Garbage {
    fn set_up(&self, scene: &Scene) -> io::Result<Trouble> {
        let scene = scene.clone();
        Ok(Box::new(move || {
            let mut sent = 0;
            repeat(&scene, || {
                let mut socket = TcpStream::connect(scene.address)?;
                // The broker may close before all is written.
                let _ = socket.write_all(&[0x5a; 4096]);
                sent += 1;
                Ok(())
            })?;
            let rate = f64::from(sent) / scene.time.as_secs_f64();
            Ok(Caused {
                figures: vec![Figure::new("connections with garbage", rate, "/s")],
                ..Caused::default()
            })
        }))
    }
}
