//! Clients that connect at a rate, and stay: how long CONNECT takes, and what a connection costs.

use std::io;
use std::time::Duration;

use crate::engine::{Engine, Sink};
use crate::measure::latency::{Latency, histogram};
use crate::measure::process;
use crate::mqtt::decode::{self, Frame};
use crate::mqtt::encode::Connect;
use crate::mqtt::packet_type;
use crate::report::{Figure, Findings};
use crate::settings::Settings;
use crate::traffic::schedule::Schedule;

use super::meter::Meter;
use super::{Context, Course};
use crate::mqtt::Version;

/// How long the last CONNACKs may take.
const SILENCE_MAX_NS: u64 = 10_000_000_000;

/// The scenario with its settings.
pub struct Connecting {
    connections: usize,
    per_s: f64,
    connect: Connect,
    hold_s: f64,
}

impl Connecting {
    /// So many clients, so many a second.
    pub fn boxed(settings: &mut Settings, connections: usize, per_s: f64) -> Box<dyn Course> {
        let keep_alive_s = settings.count("keep-alive", 300).min(65_535);
        Box::new(Self {
            connections: settings.scaled("connections", connections),
            per_s: settings.scaled_rate("connect-rate", per_s),
            connect: Connect {
                version: settings.version(Version::V3),
                keep_alive_s: keep_alive_s as u16,
                persistent: false,
            },
            hold_s: settings.seconds("seconds", 30.0),
        })
    }
}

impl Course for Connecting {
    fn run(&self, context: &Context) -> io::Result<Findings> {
        let mut engine = Engine::new(context.clock)?;
        engine.ping(self.connect.keep_alive_s);
        let mut clients = Clients {
            version: self.connect.version,
            meter: Meter::start(context.broker_pid, &engine),
            due_ns: Vec::with_capacity(self.connections),
            refused: 0,
            closed: 0,
        };
        let mut findings = Findings::default();
        let resident = || context.broker_pid.and_then(process::resident_bytes);
        let before = resident();
        let mut lag = histogram();
        self.connect_all(context, &mut engine, &mut clients, &mut lag)?;
        let connected = clients.meter.delivered;
        let meter = std::mem::replace(
            &mut clients.meter,
            Meter::start(context.broker_pid, &engine),
        );
        let mut phase = meter.finish("connecting", "connection", &engine);
        phase.lag = Some(Latency::of(&lag));
        findings.phases.push(phase);
        self.hold(context, &mut engine, &mut clients)?;
        let mut held = clients.meter.finish("holding", "connection", &engine);
        (held.sent, held.delivered) = (0, 0);
        if let Some(used) = &held.broker {
            let cpu = Figure::new("CPU while all stay", used.cpus * 100.0, "% of a CPU");
            findings.figures.push(cpu);
        }
        if let (Some(before), Some(after)) = (before, resident()) {
            let each = after.saturating_sub(before) as f64 / connected.max(1) as f64;
            findings
                .figures
                .push(Figure::new("memory of a connection", each, "bytes"));
        }
        let missing = self.connections as u64 - connected;
        if missing > 0 {
            findings.failures.push(format!(
                "{missing} of {} clients did not get a CONNACK, {} of them were refused",
                self.connections, clients.refused
            ));
        }
        findings.faults.closed = clients.closed;
        Ok(findings)
    }
}

impl Connecting {
    fn connect_all(
        &self,
        context: &Context,
        engine: &mut Engine,
        clients: &mut Clients,
        lag: &mut hdrhistogram::Histogram<u64>,
    ) -> io::Result<()> {
        let tag = context.tag();
        let mut schedule = Schedule::new(self.per_s, 1, 0, 1, engine.now_ns());
        let mut last = (engine.now_ns(), 0);
        while clients.meter.delivered + clients.refused < self.connections as u64 {
            let now_ns = engine.now_ns();
            while clients.due_ns.len() < self.connections
                && let Some((_, due_ns)) = schedule.take_due(now_ns)
            {
                let number = engine.connect(context.address)?;
                let packet = self.connect.packet(&format!("bench-{tag}-c{number}"));
                engine.out(number).extend_from_slice(&packet);
                clients.due_ns.push(due_ns);
                clients.meter.sent += 1;
                // The histogram takes any value.
                let _ = lag.record(engine.now_ns() - due_ns);
            }
            let wait_ns = match clients.due_ns.len() < self.connections {
                true => schedule.next_ns().saturating_sub(engine.now_ns()),
                false => 20_000_000,
            };
            engine.poll(Duration::from_nanos(wait_ns.min(20_000_000)), clients)?;
            let share = clients.meter.delivered as f64 / self.connections as f64;
            context.live.progress("connecting", share, None);
            if last.1 != clients.meter.delivered || clients.due_ns.len() < self.connections {
                last = (now_ns, clients.meter.delivered);
            } else if now_ns - last.0 > SILENCE_MAX_NS {
                break;
            }
        }
        Ok(())
    }

    fn hold(
        &self,
        context: &Context,
        engine: &mut Engine,
        clients: &mut Clients,
    ) -> io::Result<()> {
        let begun_ns = engine.now_ns();
        let hold_ns = (self.hold_s * 1e9) as u64;
        while engine.now_ns() - begun_ns < hold_ns {
            engine.poll(Duration::from_millis(50), clients)?;
            let share = (engine.now_ns() - begun_ns) as f64 / hold_ns as f64;
            context.live.progress("holding", share, None);
        }
        Ok(())
    }
}

struct Clients {
    version: Version,
    meter: Meter,
    /// By connection: when it was meant to connect.
    due_ns: Vec<u64>,
    refused: u64,
    closed: u64,
}

impl Sink for Clients {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, now_ns: u64, _: &mut Vec<u8>) {
        if frame.packet_type() != packet_type::CONNACK {
            return;
        }
        match decode::connack(frame, self.version) {
            Some(connack) if connack.code == 0 => {
                self.meter.answered(self.due_ns[connection], now_ns);
            }
            _ => self.refused += 1,
        }
    }

    fn closed(&mut self, _: usize) {
        self.closed += 1;
    }
}
