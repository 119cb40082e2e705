//! `churn`: clients that live for a moment: connect, subscribe, publish, receive, disconnect, and come again with
//! another name. What a life costs, and whether anything of it stays.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::engine::{Engine, Sink};
use crate::measure::process;
use crate::mqtt::decode::{self, Frame};
use crate::mqtt::encode::{self, Connect, acknowledgement};
use crate::mqtt::template::{Shape, Stamp, Template};
use crate::mqtt::{Version, packet_type};
use crate::report::{Figure, Findings};

use super::meter::Meter;
use super::{Context, Course, Scenario};

pub const SCENARIO: Scenario = Scenario {
    name: "churn",
    about: "100 clients at a time connect, subscribe, publish with QoS 1, receive, disconnect, and come with another name",
    prepare: |settings| {
        Box::new(Churn {
            clients: settings.scaled("connections", 100),
            version: settings.version(Version::V3),
            warmup_s: settings.seconds("warmup", 2.0),
            seconds: settings.seconds("seconds", 8.0),
        })
    },
};

/// How long lives may take that have begun when time is over.
const LAST_S: f64 = 5.0;

struct Churn {
    clients: usize,
    version: Version,
    warmup_s: f64,
    seconds: f64,
}

impl Course for Churn {
    fn run(&self, context: &Context) -> io::Result<Findings> {
        let mut engine = Engine::new(context.clock)?;
        let mut lives = Lives {
            version: self.version,
            tag: context.tag(),
            address: context.address,
            clients: Vec::new(),
            over: Vec::new(),
            meter: Meter::start(context.broker_pid, &engine),
            born: 0,
            faults: 0,
        };
        for number in 0..self.clients {
            engine.connect(context.address)?;
            lives.clients.push(Client::default());
            lives.begin(&mut engine, number);
        }
        let resident = || context.broker_pid.and_then(process::resident_bytes);
        lives.go_on(context, &mut engine, "warmup", self.warmup_s)?;
        let before = resident();
        lives.meter = Meter::start(context.broker_pid, &engine);
        lives.go_on(context, &mut engine, "measured", self.seconds)?;
        let next = Meter::start(context.broker_pid, &engine);
        let meter = std::mem::replace(&mut lives.meter, next);
        let phase = meter.finish("measured", "client", &engine);
        let unfinished = lives.end(&mut engine)?;
        let mut findings = Findings::default();
        if let (Some(before), Some(after)) = (before, resident()) {
            findings.figures.push(Figure::new(
                "memory that stays of 1,000 clients",
                (after as f64 - before as f64) * 1000.0 / phase.delivered.max(1) as f64,
                "bytes",
            ));
        }
        findings.phases.push(phase);
        findings.faults.foreign = lives.faults;
        findings.faults.lost = unfinished;
        Ok(findings)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    #[default]
    Connecting,
    Subscribing,
    /// Whether the own message has come, and whether it was acknowledged.
    Publishing {
        came: bool,
        acknowledged: bool,
    },
    Over,
}

#[derive(Clone, Copy, Debug, Default)]
struct Client {
    step: Step,
    born: u32,
    born_ns: u64,
}

struct Lives {
    version: Version,
    tag: String,
    address: SocketAddr,
    clients: Vec<Client>,
    over: Vec<usize>,
    meter: Meter,
    born: u32,
    faults: u64,
}

impl Lives {
    /// The next life of a client, whose connection is being made.
    fn begin(&mut self, engine: &mut Engine, number: usize) {
        self.clients[number] = Client {
            step: Step::Connecting,
            born: self.born,
            born_ns: engine.now_ns(),
        };
        let connect = Connect {
            keep_alive_s: 60,
            ..Connect::clean(self.version)
        };
        let packet = connect.packet(&format!("bench-{}-l{}", self.tag, self.born));
        engine.out(number).extend_from_slice(&packet);
        self.born = self.born.wrapping_add(1);
        self.meter.sent += 1;
    }

    fn go_on(
        &mut self,
        context: &Context,
        engine: &mut Engine,
        name: &str,
        seconds: f64,
    ) -> io::Result<()> {
        let begun_ns = engine.now_ns();
        loop {
            let share = (engine.now_ns() - begun_ns) as f64 / 1e9 / seconds.max(1e-9);
            if share >= 1.0 {
                return Ok(());
            }
            engine.poll(Duration::from_millis(10), self)?;
            for number in std::mem::take(&mut self.over) {
                engine.reconnect(number, self.address)?;
                self.begin(engine, number);
            }
            context.live.progress(name, share, None);
        }
    }

    /// Lets the last lives end; gives how many do not.
    fn end(&mut self, engine: &mut Engine) -> io::Result<u64> {
        let begun_ns = engine.now_ns();
        while ((engine.now_ns() - begun_ns) as f64) < LAST_S * 1e9 {
            if self.clients.iter().all(|client| client.step == Step::Over) {
                break;
            }
            engine.poll(Duration::from_millis(10), self)?;
        }
        let open = self.clients.iter();
        Ok(open.filter(|client| client.step != Step::Over).count() as u64)
    }

    fn topic(&self, born: u32) -> String {
        format!("bench/{}/life/{born}", self.tag)
    }

    fn publish(&self, born: u32, out: &mut Vec<u8>) {
        let shape = Shape {
            qos: 1,
            retain: false,
            version: self.version,
            payload_bytes: 64,
        };
        let stamp = Stamp {
            publisher: 0,
            sequence: born,
            sent_ns: 0,
        };
        Template::new(&self.topic(born), shape).append(out, stamp, 1);
    }

    fn came(&mut self, frame: &Frame<'_>, born: u32, out: &mut Vec<u8>) -> bool {
        let delivery = decode::delivery(frame, self.version);
        let stamp = delivery.and_then(|delivery| Stamp::of(delivery.payload));
        if let Some(delivery) = delivery {
            out.extend_from_slice(&acknowledgement(0x40, delivery.identifier));
        }
        stamp.is_some_and(|stamp| stamp.sequence == born)
    }
}

impl Sink for Lives {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, now_ns: u64, out: &mut Vec<u8>) {
        let Client {
            step,
            born,
            born_ns,
        } = self.clients[connection];
        let next = match (step, frame.packet_type()) {
            (Step::Connecting, packet_type::CONNACK) => {
                out.extend(encode::subscribe(&[self.topic(born)], 1, self.version));
                Some(Step::Subscribing)
            }
            (Step::Subscribing, packet_type::SUBACK) => {
                self.publish(born, out);
                Some(Step::Publishing {
                    came: false,
                    acknowledged: false,
                })
            }
            (
                Step::Publishing {
                    came: false,
                    acknowledged,
                },
                packet_type::PUBLISH,
            ) if self.came(frame, born, out) => Some(Step::Publishing {
                came: true,
                acknowledged,
            }),
            (
                Step::Publishing {
                    came,
                    acknowledged: false,
                },
                packet_type::PUBACK,
            ) => Some(Step::Publishing {
                came,
                acknowledged: true,
            }),
            _ => None,
        };
        let Some(next) = next else {
            self.faults += 1;
            return;
        };
        self.clients[connection].step = next;
        let done = Step::Publishing {
            came: true,
            acknowledged: true,
        };
        if next == done {
            out.extend_from_slice(&encode::DISCONNECT);
            self.clients[connection].step = Step::Over;
            self.meter.answered(born_ns, now_ns);
            self.over.push(connection);
        }
    }

    fn closed(&mut self, connection: usize) {
        if self.clients[connection].step != Step::Over {
            self.faults += 1;
        }
    }
}
