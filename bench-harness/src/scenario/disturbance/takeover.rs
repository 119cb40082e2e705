//! `takeover`: many connections with one Client Identifier, each of which ends the one before.

use std::io;
use std::time::Duration;

use crate::engine::Sink;
use crate::mqtt::decode::{self, Frame};
use crate::mqtt::encode::Connect;
use crate::mqtt::{Version, packet_type};
use crate::scenario::Scenario;
use crate::scenario::meter::Meter;

use super::{Caused, Disturbance, Disturbed, Scene, Trouble};

pub const SCENARIO: Scenario = Scenario {
    name: "takeover",
    about: "disturbance: 5,000 connections with one Client Identifier, 50 at once",
    prepare: |settings| {
        let connections = settings.scaled("connections", 5000);
        Disturbed::boxed(settings, Takeover { connections })
    },
};

/// Connections at once.
const AT_ONCE: usize = 50;
const SILENCE_MAX_NS: u64 = 30_000_000_000;

struct Takeover {
    connections: usize,
}

impl Disturbance for Takeover {
    fn set_up(&self, scene: &Scene) -> io::Result<Trouble> {
        let (scene, connections) = (scene.clone(), self.connections);
        Ok(Box::new(move || {
            let mut engine = scene.engine()?;
            let packet = Connect::clean(Version::V3).packet(&format!("bench-{}-same", scene.tag));
            let mut same = Same {
                meter: Meter::start(scene.broker_pid, &engine),
                asked_ns: Vec::new(),
                settled: vec![false; connections],
                done: 0,
            };
            let mut last_ns = (engine.now_ns(), 0);
            while same.done < connections {
                while engine.len() < connections && engine.len() - same.done < AT_ONCE {
                    let number = engine.connect(scene.address)?;
                    same.asked_ns.push(engine.now_ns());
                    engine.out(number).extend_from_slice(&packet);
                    same.meter.sent += 1;
                }
                engine.poll(Duration::from_millis(10), &mut same)?;
                let now_ns = engine.now_ns();
                if last_ns.1 != same.done {
                    last_ns = (now_ns, same.done);
                } else if now_ns - last_ns.0 > SILENCE_MAX_NS {
                    return Err(io::Error::other("takeovers do not end"));
                }
            }
            // Only the last is left.
            for _ in 0..20 {
                engine.poll(Duration::from_millis(10), &mut same)?;
            }
            let open = (0..engine.len()).filter(|one| engine.is_open(*one)).count();
            Ok(Caused {
                failures: match open {
                    1 => Vec::new(),
                    open => vec![format!(
                        "{open} connections with one Client Identifier are open"
                    )],
                },
                phase: Some(same.meter.finish("takeovers", "connection", &engine)),
                ..Caused::default()
            })
        }))
    }
}

struct Same {
    meter: Meter,
    asked_ns: Vec<u64>,
    settled: Vec<bool>,
    done: usize,
}

impl Same {
    /// A connection has got its CONNACK, or was taken over before.
    fn settle(&mut self, connection: usize) {
        if !std::mem::replace(&mut self.settled[connection], true) {
            self.done += 1;
        }
    }
}

impl Sink for Same {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, now_ns: u64, _: &mut Vec<u8>) {
        let connack = decode::connack(frame, Version::V3);
        if frame.packet_type() == packet_type::CONNACK && connack.is_some_and(|one| one.code == 0) {
            self.meter.answered(self.asked_ns[connection], now_ns);
            self.settle(connection);
        }
    }

    fn closed(&mut self, connection: usize) {
        self.settle(connection);
    }
}
