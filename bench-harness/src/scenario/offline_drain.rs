//! `offline-drain`: messages for clients that are away, and the rush when they come back. What a queued message
//! costs in CPU and memory, and whether the broker keeps what it has acknowledged.

use std::io;
use std::time::Duration;

use crate::engine::{Engine, Sink, each};
use crate::measure::process;
use crate::mqtt::decode::{self, Frame};
use crate::mqtt::encode::{Connect, DISCONNECT, acknowledgement};
use crate::mqtt::template::{Shape, Stamp, Template};
use crate::mqtt::{Version, packet_type};
use crate::report::{Figure, Findings};
use crate::traffic::ledger::{Arrival, Faults, Sequence};

use super::meter::Meter;
use super::{Context, Course, Scenario};

pub const SCENARIO: Scenario = Scenario {
    name: "offline-drain",
    about: "1,000 QoS 1 messages for each of 100 clients with persistent sessions that are away, and their return",
    prepare: |settings| {
        Box::new(OfflineDrain {
            clients: settings.scaled("subscribers", 100),
            messages: settings.count("messages", 1000),
            payload_bytes: settings.payload_bytes(64),
            version: settings.version(Version::V3),
        })
    },
};

/// Messages on their way to the broker at once; what Mosquitto and others allow by default is less in 5.0.
const WINDOW: usize = 500;
const SILENCE_MAX_NS: u64 = 15_000_000_000;
/// How long to listen for messages that come again.
const LISTEN: Duration = Duration::from_millis(300);

struct OfflineDrain {
    clients: usize,
    messages: usize,
    payload_bytes: usize,
    version: Version,
}

impl Course for OfflineDrain {
    fn run(&self, context: &Context) -> io::Result<Findings> {
        let tag = context.tag();
        let connect = Connect {
            persistent: true,
            ..Connect::clean(self.version)
        };
        let names: Vec<_> = (0..self.clients)
            .map(|n| format!("bench-{tag}-o{n}"))
            .collect();
        let mut engine = Engine::new(context.clock)?;
        context.live.say("subscribing");
        let (first, _) = engine.connect_all(context.address, &names, connect)?;
        engine.subscribe_all(first..first + self.clients, 1, self.version, |place| {
            vec![format!("bench/{tag}/o/{place}")]
        })?;
        for number in first..first + self.clients {
            engine.out(number).extend_from_slice(&DISCONNECT);
        }
        engine.poll(Duration::from_millis(200), &mut each(|_, _| {}))?;
        for number in first..first + self.clients {
            engine.close(number);
        }
        let mut findings = Findings::default();
        context.live.say("publishing to clients that are away");
        self.publish(context, &mut engine, &tag, &mut findings)?;
        context.live.say("clients come back");
        self.drain(context, &mut engine, &names, connect, &mut findings)?;
        // Nothing is left in the broker.
        let clean = Connect {
            persistent: false,
            ..connect
        };
        let mut engine = Engine::new(context.clock)?;
        engine.connect_all(context.address, &names, clean)?;
        Ok(findings)
    }
}

impl OfflineDrain {
    /// To each client in turn, so that their queues grow together.
    fn publish(
        &self,
        context: &Context,
        engine: &mut Engine,
        tag: &str,
        findings: &mut Findings,
    ) -> io::Result<()> {
        let identifier = [format!("bench-{tag}-publisher")];
        let connect = Connect::clean(self.version);
        let (number, connacks) = engine.connect_all(context.address, &identifier, connect)?;
        let allowed = connacks
            .first()
            .map_or(1, |one| usize::from(one.receive_maximum));
        let window = WINDOW.min(allowed);
        let shape = Shape {
            qos: 1,
            retain: false,
            version: self.version,
            payload_bytes: self.payload_bytes,
        };
        let mut templates: Vec<_> = (0..self.clients)
            .map(|place| Template::new(&format!("bench/{tag}/o/{place}"), shape))
            .collect();
        let resident = || context.broker_pid.and_then(process::resident_bytes);
        let before = resident();
        let all = self.clients * self.messages;
        let mut meter = Meter::start(context.broker_pid, engine);
        let (mut acknowledged, mut refused) = (0, 0);
        let mut last_ns = (engine.now_ns(), 0);
        while acknowledged < all {
            let mut sent = meter.sent as usize;
            while sent < all && sent - acknowledged < window {
                let stamp = Stamp {
                    publisher: (sent % self.clients) as u32,
                    sequence: (sent / self.clients) as u32,
                    sent_ns: engine.now_ns(),
                };
                let identifier = (sent % 65_535) as u16 + 1;
                templates[sent % self.clients].append(engine.out(number), stamp, identifier);
                sent += 1;
            }
            meter.sent = sent as u64;
            engine.poll(
                Duration::from_millis(10),
                &mut each(|_, frame| {
                    if frame.packet_type() == packet_type::PUBACK {
                        acknowledged += 1;
                        refused += u64::from(decode::reason_code(frame) >= 0x80);
                    }
                }),
            )?;
            let now_ns = engine.now_ns();
            if last_ns.1 != acknowledged {
                last_ns = (now_ns, acknowledged);
            } else if now_ns - last_ns.0 > SILENCE_MAX_NS {
                return Err(io::Error::other("the broker does not acknowledge messages"));
            }
        }
        meter.delivered = acknowledged as u64;
        findings
            .phases
            .push(meter.finish("queueing", "message", engine));
        findings.faults.refused = refused;
        if let (Some(before), Some(after)) = (before, resident()) {
            let each = after.saturating_sub(before) as f64 / all as f64;
            let figure = Figure::new("memory of a queued message", each, "bytes");
            findings.figures.push(figure);
        }
        Ok(())
    }

    fn drain(
        &self,
        context: &Context,
        engine: &mut Engine,
        names: &[String],
        connect: Connect,
        findings: &mut Findings,
    ) -> io::Result<()> {
        let mut back = Back {
            version: self.version,
            meter: Meter::start(context.broker_pid, engine),
            first: engine.len(),
            sequences: vec![Sequence::default(); self.clients],
            returned_ns: Vec::with_capacity(self.clients),
            absent: 0,
            faults: Faults::default(),
        };
        for name in names {
            let number = engine.connect(context.address)?;
            back.returned_ns.push(engine.now_ns());
            engine.out(number).extend_from_slice(&connect.packet(name));
        }
        let all = (self.clients * self.messages) as u64;
        back.meter.sent = all;
        let mut last_ns = (engine.now_ns(), 0);
        while back.meter.delivered < all {
            engine.poll(Duration::from_millis(10), &mut back)?;
            let now_ns = engine.now_ns();
            if last_ns.1 != back.meter.delivered {
                last_ns = (now_ns, back.meter.delivered);
            } else if now_ns - last_ns.0 > SILENCE_MAX_NS {
                break;
            }
        }
        let next = Meter::start(None, engine);
        let meter = std::mem::replace(&mut back.meter, next);
        findings
            .phases
            .push(meter.finish("draining", "message", engine));
        let begun_ns = engine.now_ns();
        while engine.now_ns() - begun_ns < LISTEN.as_nanos() as u64 {
            engine.poll(Duration::from_millis(20), &mut back)?;
        }
        for sequence in &back.sequences {
            back.faults.lost += sequence.lost(self.messages as u32);
        }
        findings.faults.add(&back.faults);
        if back.absent > 0 {
            findings.failures.push(format!(
                "{} of {} sessions were gone",
                back.absent, self.clients
            ));
        }
        Ok(())
    }
}

struct Back {
    version: Version,
    meter: Meter,
    first: usize,
    sequences: Vec<Sequence>,
    returned_ns: Vec<u64>,
    /// Sessions that the broker does not know.
    absent: usize,
    faults: Faults,
}

impl Sink for Back {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, now_ns: u64, out: &mut Vec<u8>) {
        let Some(place) = connection.checked_sub(self.first) else {
            return;
        };
        match frame.packet_type() {
            packet_type::CONNACK => {
                let connack = decode::connack(frame, self.version);
                let present = connack.is_some_and(|one| one.code == 0 && one.session_present);
                self.absent += usize::from(!present);
            }
            packet_type::PUBLISH => {
                let delivery = decode::delivery(frame, self.version);
                let stamp = delivery.and_then(|delivery| Stamp::of(delivery.payload));
                let (Some(delivery), Some(stamp)) = (delivery, stamp) else {
                    self.faults.foreign += 1;
                    return;
                };
                out.extend_from_slice(&acknowledgement(0x40, delivery.identifier));
                if stamp.publisher as usize != place {
                    self.faults.foreign += 1;
                    return;
                }
                match self.sequences[place].take(stamp.sequence) {
                    Arrival::InOrder => {}
                    Arrival::Late => self.faults.disorder += 1,
                    Arrival::Again => {
                        self.faults.duplicates += 1;
                        return;
                    }
                }
                self.meter.answered(self.returned_ns[place], now_ns);
            }
            _ => {}
        }
    }

    fn closed(&mut self, connection: usize) {
        self.faults.closed += u64::from(connection >= self.first);
    }
}
