//! `retained-storm`: several clients subscribe with a wildcard to very many retained messages at once.

use std::io;
use std::time::Duration;

use crate::engine::{Engine, Sink, each};
use crate::measure::process;
use crate::mqtt::decode::{self, Frame};
use crate::mqtt::encode::{self, Connect, acknowledgement};
use crate::mqtt::template::{Shape, Stamp, Template};
use crate::mqtt::{Version, packet_type};
use crate::report::Figure;
use crate::scenario::Scenario;
use crate::scenario::meter::Meter;

use super::{Caused, Disturbance, Disturbed, Scene, Trouble, growth};

pub const SCENARIO: Scenario = Scenario {
    name: "retained-storm",
    about: "disturbance: 10 clients subscribe with a wildcard to 100,000 retained messages of 64 B at once, QoS 1",
    prepare: |settings| {
        let storm = Storm {
            messages: settings.scaled("messages", 100_000),
            subscribers: settings.scaled("subscribers", 10),
        };
        Disturbed::boxed(settings, storm)
    },
};

/// Messages on their way to the broker at once.
const WINDOW: usize = 1000;
const PAYLOAD_BYTES: usize = 64;
const SILENCE_MAX_NS: u64 = 10_000_000_000;

struct Storm {
    messages: usize,
    subscribers: usize,
}

impl Disturbance for Storm {
    fn set_up(&self, scene: &Scene) -> io::Result<Trouble> {
        let before = scene.broker_pid.and_then(process::resident_bytes);
        let mut engine = scene.engine()?;
        publish_all(&mut engine, scene, self.messages, PAYLOAD_BYTES)?;
        let grown = growth(scene, before).map(|grown| grown / self.messages as f64);
        let identifiers: Vec<_> = (0..self.subscribers)
            .map(|number| format!("bench-{}-r{number}", scene.tag))
            .collect();
        let connect = Connect::clean(Version::V3);
        let (first, _) = engine.connect_all(scene.address, &identifiers, connect)?;
        let (scene, messages, subscribers) = (scene.clone(), self.messages, self.subscribers);
        Ok(Box::new(move || {
            let before = scene.broker_pid.and_then(process::resident_bytes);
            let mut taking = Taking {
                meter: Meter::start(scene.broker_pid, &engine),
                first,
                seen: vec![vec![false; messages]; subscribers],
                asked_ns: engine.now_ns(),
                odd: 0,
            };
            let filter = format!("bench/{}/r/#", scene.tag);
            let packet = encode::subscribe(&[filter], 1, Version::V3);
            for number in first..first + subscribers {
                engine.out(number).extend_from_slice(&packet);
            }
            taking.meter.sent = (messages * subscribers) as u64;
            let mut last_ns = (engine.now_ns(), 0);
            while taking.meter.delivered < taking.meter.sent {
                engine.poll(Duration::from_millis(10), &mut taking)?;
                let now_ns = engine.now_ns();
                if last_ns.1 != taking.meter.delivered {
                    last_ns = (now_ns, taking.meter.delivered);
                } else if now_ns - last_ns.0 > SILENCE_MAX_NS {
                    break;
                }
            }
            let held = growth(&scene, before);
            let caused = taking.caused(&engine, grown, held);
            publish_all(&mut engine, &scene, messages, 0)?;
            Ok(caused)
        }))
    }
}

/// Publishes a retained message to each topic; an empty one deletes it.
fn publish_all(
    engine: &mut Engine,
    scene: &Scene,
    messages: usize,
    payload_bytes: usize,
) -> io::Result<()> {
    let identifier = [format!("bench-{}-retain", scene.tag)];
    let connect = Connect::clean(Version::V3);
    let (number, _) = engine.connect_all(scene.address, &identifier, connect)?;
    let shape = Shape {
        qos: 1,
        retain: true,
        version: Version::V3,
        payload_bytes,
    };
    let mut template = match payload_bytes {
        0 => None,
        _ => Some(Template::new(&topic(scene, 0), shape)),
    };
    let (mut sent, mut acknowledged) = (0, 0);
    let mut last_ns = (engine.now_ns(), 0);
    while acknowledged < messages {
        while sent < messages && sent - acknowledged < WINDOW {
            let identifier = (sent % 65_535) as u16 + 1;
            let out = engine.out(number);
            match &mut template {
                Some(template) => {
                    template.set_topic_number(sent);
                    let stamp = Stamp {
                        publisher: 0,
                        sequence: sent as u32,
                        sent_ns: 0,
                    };
                    template.append(out, stamp, identifier);
                }
                None => encode::publish_empty_retained(out, &topic(scene, sent), identifier),
            }
            sent += 1;
        }
        engine.poll(
            Duration::from_millis(10),
            &mut each(|_, frame| {
                acknowledged += usize::from(frame.packet_type() == packet_type::PUBACK);
            }),
        )?;
        let now_ns = engine.now_ns();
        if last_ns.1 != acknowledged {
            last_ns = (now_ns, acknowledged);
        } else if now_ns - last_ns.0 > SILENCE_MAX_NS {
            return Err(io::Error::other(
                "the broker does not acknowledge retained messages",
            ));
        }
    }
    engine.close(number);
    Ok(())
}

fn topic(scene: &Scene, number: usize) -> String {
    format!("bench/{}/r/{number:08}", scene.tag)
}

struct Taking {
    meter: Meter,
    first: usize,
    seen: Vec<Vec<bool>>,
    asked_ns: u64,
    /// Messages that came again, or are none of ours.
    odd: u64,
}

impl Taking {
    fn caused(self, engine: &Engine, each: Option<f64>, held: Option<f64>) -> Caused {
        let missing = self.meter.sent - self.meter.delivered;
        let mut failures = Vec::new();
        if missing > 0 {
            failures.push(format!("{missing} retained messages did not come"));
        }
        if self.odd > 0 {
            failures.push(format!(
                "{} retained messages came again or were wrong",
                self.odd
            ));
        }
        let phase = self.meter.finish("storm", "retained message", engine);
        let mut figures = vec![Figure::new("time until all had all", phase.seconds, "s")];
        figures
            .extend(each.map(|bytes| Figure::new("memory of a retained message", bytes, "bytes")));
        figures
            .extend(held.map(|bytes| Figure::new("memory that the storm added", bytes, "bytes")));
        Caused {
            phase: Some(phase),
            figures,
            failures,
        }
    }
}

impl Sink for Taking {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, now_ns: u64, out: &mut Vec<u8>) {
        if frame.packet_type() != packet_type::PUBLISH {
            return;
        }
        let delivery = decode::delivery(frame, Version::V3);
        let stamp = delivery.and_then(|delivery| Stamp::of(delivery.payload));
        let (Some(delivery), Some(stamp)) = (delivery, stamp) else {
            self.odd += 1;
            return;
        };
        if delivery.qos == 1 {
            out.extend_from_slice(&acknowledgement(0x40, delivery.identifier));
        }
        let subscriber = connection.checked_sub(self.first);
        let seen = subscriber
            .and_then(|one| self.seen.get_mut(one))
            .and_then(|seen| seen.get_mut(stamp.sequence as usize));
        match seen {
            Some(seen) if !*seen && frame.first_byte & 1 == 1 => {
                *seen = true;
                self.meter.answered(self.asked_ns, now_ns);
            }
            _ => self.odd += 1,
        }
    }
}
