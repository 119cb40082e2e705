//! `reconnect-storm`: many clients lose their connections at once, and all come back at once.

use std::io;
use std::time::Duration;

use crate::engine::Sink;
use crate::mqtt::decode::{self, Frame};
use crate::mqtt::encode::Connect;
use crate::mqtt::{Version, packet_type};
use crate::report::Figure;
use crate::scenario::Scenario;
use crate::scenario::meter::Meter;

use super::cut::settled;
use super::{Caused, Disturbance, Disturbed, Scene, Trouble};

pub const SCENARIO: Scenario = Scenario {
    name: "reconnect-storm",
    about: "disturbance: 5,000 connections are cut at once, and their clients connect again as fast as they can",
    prepare: |settings| {
        let storm = Storm {
            connections: settings.scaled("connections", 5000),
            rounds: settings.count("rounds", 1),
        };
        Disturbed::boxed(settings, storm)
    },
};

/// Clients that connect at once: what a backlog holds without SYNs that must be sent again.
const AT_ONCE: usize = 1000;
/// How long the broker may be silent.
const SILENCE_MAX_NS: u64 = 30_000_000_000;

struct Storm {
    connections: usize,
    rounds: usize,
}

impl Disturbance for Storm {
    fn set_up(&self, scene: &Scene) -> io::Result<Trouble> {
        let (mut engine, identifiers) = settled(scene, self.connections)?;
        let (scene, rounds) = (scene.clone(), self.rounds);
        Ok(Box::new(move || {
            let mut back = Back {
                meter: Meter::start(scene.broker_pid, &engine),
                asked_ns: vec![0; identifiers.len()],
                came: 0,
                closed: 0,
            };
            let connect = Connect::clean(Version::V3);
            for _ in 0..rounds {
                for number in 0..engine.len() {
                    engine.close(number);
                }
                back.came = 0;
                let mut next = 0;
                let mut last_ns = (engine.now_ns(), 0);
                while back.came < identifiers.len() {
                    while next < identifiers.len() && next - back.came < AT_ONCE {
                        engine.reconnect(next, scene.address)?;
                        back.asked_ns[next] = engine.now_ns();
                        let packet = connect.packet(&identifiers[next]);
                        engine.out(next).extend_from_slice(&packet);
                        back.meter.sent += 1;
                        next += 1;
                    }
                    engine.poll(Duration::from_millis(10), &mut back)?;
                    let now_ns = engine.now_ns();
                    if last_ns.1 != back.came {
                        last_ns = (now_ns, back.came);
                    } else if now_ns - last_ns.0 > SILENCE_MAX_NS {
                        return Err(io::Error::other("clients cannot come back"));
                    }
                }
            }
            Ok(back.caused(&engine, rounds))
        }))
    }
}

struct Back {
    meter: Meter,
    asked_ns: Vec<u64>,
    came: usize,
    closed: u64,
}

impl Back {
    fn caused(self, engine: &crate::engine::Engine, rounds: usize) -> Caused {
        let phase = self.meter.finish("storm", "connection", engine);
        let mut figures = vec![Figure::new(
            "time until all were back",
            phase.seconds / rounds.max(1) as f64,
            "s",
        )];
        if let Some(cpu_us) = phase.cpu_us() {
            // With the traffic of the others, if there is any.
            let rate = Figure::new("connections in a CPU second", 1e6 / cpu_us, "/s");
            figures.push(rate);
        }
        Caused {
            failures: match self.closed {
                0 => Vec::new(),
                closed => vec![format!("{closed} clients were cut off again")],
            },
            phase: Some(phase),
            figures,
        }
    }
}

impl Sink for Back {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, now_ns: u64, _: &mut Vec<u8>) {
        let connack = decode::connack(frame, Version::V3);
        if frame.packet_type() == packet_type::CONNACK && connack.is_some_and(|one| one.code == 0) {
            self.came += 1;
            self.meter.answered(self.asked_ns[connection], now_ns);
        }
    }

    fn closed(&mut self, _: usize) {
        self.closed += 1;
    }
}
