//! Publishers and subscribers: pairs, fan-out and fan-in, as fast as a window allows or evenly spaced.
//!
//! Every payload carries publisher, number and send time, so that loss, duplicates and disorder are found.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::codec::{self, Stamp, Template};
use crate::engine::Engine;
use crate::process;
use crate::report::Report;

use super::{await_packets, connect_all};

/// Who publishes to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// Each publisher has one subscriber with an exact filter.
    P2p,
    /// Every subscriber gets every message.
    Fanout,
    /// One subscriber with a wildcard filter gets every message.
    Fanin,
}

/// The options of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Who publishes to whom
    #[arg(long, value_enum, default_value = "p2p")]
    pub shape: Shape,
    /// How many publishers
    #[arg(long, default_value_t = 100)]
    pub publishers: usize,
    /// How many subscribers of a fan-out
    #[arg(long, default_value_t = 100)]
    pub subscribers: usize,
    /// QoS of messages and subscriptions
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Payload, bytes
    #[arg(long, default_value_t = 64)]
    pub payload: usize,
    /// Messages of one publisher on their way at once
    #[arg(long, default_value_t = 64)]
    pub window: u64,
    /// Messages per second of all publishers together, evenly spaced; as fast as the window allows if not given
    #[arg(long)]
    pub rate: Option<u64>,
    /// MQTT 5.0 instead of 3.1.1
    #[arg(long)]
    pub v5: bool,
    /// Not measured, seconds
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// Measured, seconds
    #[arg(long, default_value_t = 8.0)]
    pub seconds: f64,
}

#[derive(Debug)]
struct Publisher {
    connection: usize,
    template: Template,
    sent: u64,
    delivered: u64,
    acknowledged: u64,
    identifier: u16,
}

/// A running load.
pub struct Load {
    options: Options,
    publishers: Vec<Publisher>,
    first_subscriber: usize,
    /// For each subscriber, the next number of each publisher it hears.
    expected: Vec<Vec<u64>>,
    fan: u64,
    faults: u64,
    delivered: u64,
    latency: Histogram<u64>,
    dirty: Vec<usize>,
    paced: u64,
}

impl Load {
    /// Connects everybody and subscribes.
    ///
    /// # Errors
    /// If the broker refuses.
    pub fn connect(
        engine: &mut Engine,
        address: SocketAddr,
        options: &Options,
    ) -> io::Result<Self> {
        let subscribers = match options.shape {
            Shape::P2p => options.publishers,
            Shape::Fanout => options.subscribers,
            Shape::Fanin => 1,
        };
        let tag = std::process::id();
        let first_publisher = connect_all(
            engine,
            address,
            &format!("bench-p-{tag}"),
            options.publishers,
            options.v5,
            0,
        )?;
        let first_subscriber = connect_all(
            engine,
            address,
            &format!("bench-s-{tag}"),
            subscribers,
            options.v5,
            0,
        )?;
        for index in 0..subscribers {
            let filter = match options.shape {
                Shape::P2p => format!("bench/{tag}/{index}"),
                Shape::Fanout | Shape::Fanin => format!("bench/{tag}/+"),
            };
            let packet = codec::subscribe(&[filter], options.qos, options.v5);
            engine.connections[first_subscriber + index]
                .out
                .extend_from_slice(&packet);
        }
        engine.flush_all()?;
        await_packets(engine, 0x90, subscribers)?;
        let publishers = (0..options.publishers).map(|index| Publisher {
            connection: first_publisher + index,
            template: Template::new(
                &format!("bench/{tag}/{index}"),
                options.qos,
                options.v5,
                options.payload,
            ),
            sent: 0,
            delivered: 0,
            acknowledged: 0,
            identifier: 0,
        });
        Ok(Self {
            publishers: publishers.collect(),
            first_subscriber,
            expected: vec![vec![0; options.publishers]; subscribers],
            fan: if options.shape == Shape::Fanout {
                subscribers as u64
            } else {
                1
            },
            faults: 0,
            delivered: 0,
            latency: Histogram::new(3).map_err(io::Error::other)?,
            dirty: Vec::new(),
            paced: 0,
            options: options.clone(),
        })
    }

    /// Sends, receives and acknowledges for `seconds`; publishes nothing new if `draining`.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn run(&mut self, engine: &mut Engine, seconds: f64, draining: bool) -> io::Result<()> {
        let begun = engine.now_ns();
        let end = begun + (seconds * 1e9) as u64;
        if let Some(rate) = self.options.rate {
            // What was not due before now is not owed.
            self.paced = begun * rate / 1_000_000_000;
        }
        loop {
            let now_ns = engine.now_ns();
            if now_ns >= end || (draining && self.outstanding() == 0) {
                return Ok(());
            }
            let mut wait = Duration::from_millis(20);
            if !draining {
                match self.options.rate {
                    Some(rate) => wait = self.publish_paced(engine, rate, now_ns),
                    None => self.publish_window(engine, now_ns),
                }
            }
            for number in std::mem::take(&mut self.dirty) {
                engine.flush(number)?;
            }
            let now_ns = engine.now_ns();
            engine.poll(wait, |number, frame, out| {
                self.take(number, frame, out, now_ns)
            })?;
        }
    }

    fn outstanding(&self) -> u64 {
        self.publishers
            .iter()
            .map(|one| one.sent * self.fan - one.delivered)
            .sum()
    }

    fn publish_window(&mut self, engine: &mut Engine, now_ns: u64) {
        let (window, fan) = (self.options.window, self.fan);
        for index in 0..self.publishers.len() {
            let publisher = &mut self.publishers[index];
            let undelivered = publisher.sent - publisher.delivered / fan;
            let unacknowledged = match self.options.qos {
                0 => 0,
                _ => publisher.sent - publisher.acknowledged,
            };
            let free = window.saturating_sub(undelivered.max(unacknowledged));
            // In batches, so that neither side spends its time on single messages.
            if free * 4 < window {
                continue;
            }
            for _ in 0..free {
                publisher.publish(engine, index, now_ns);
            }
            self.dirty.push(publisher.connection);
        }
    }

    /// Sends what is due by now; gives the time until the next.
    fn publish_paced(&mut self, engine: &mut Engine, rate: u64, now_ns: u64) -> Duration {
        let interval_ns = 1_000_000_000 / rate;
        let count = self.publishers.len() as u64;
        while self.paced * interval_ns <= now_ns {
            let index = usize::try_from(self.paced % count).unwrap_or(0);
            let publisher = &mut self.publishers[index];
            publisher.publish(engine, index, self.paced * interval_ns);
            self.dirty.push(publisher.connection);
            self.paced += 1;
        }
        Duration::from_nanos((self.paced * interval_ns).saturating_sub(now_ns))
    }

    #[inline]
    fn take(&mut self, number: usize, frame: &codec::Frame<'_>, out: &mut Vec<u8>, now_ns: u64) {
        match frame.first_byte >> 4 {
            3 => self.delivery(number, frame, out, now_ns),
            4 | 7 => self.acknowledged(number),
            5 => {
                out.extend_from_slice(&[0x62, 2, frame.body[0], frame.body[1]]);
                self.dirty.push(number);
            }
            6 => {
                out.extend_from_slice(&[0x70, 2, frame.body[0], frame.body[1]]);
                self.dirty.push(number);
            }
            _ => {}
        }
    }

    fn acknowledged(&mut self, number: usize) {
        let first = self
            .publishers
            .first()
            .map_or(0, |publisher| publisher.connection);
        if let Some(publisher) = number
            .checked_sub(first)
            .and_then(|index| self.publishers.get_mut(index))
        {
            publisher.acknowledged += 1;
        }
    }

    #[inline]
    fn delivery(
        &mut self,
        number: usize,
        frame: &codec::Frame<'_>,
        out: &mut Vec<u8>,
        now_ns: u64,
    ) {
        let delivery = codec::delivery(frame, self.options.v5);
        let Some((delivery, stamp)) =
            delivery.and_then(|d| codec::stamp(d.payload).map(|stamp| (d, stamp)))
        else {
            self.faults += 1;
            return;
        };
        if delivery.qos > 0 {
            let [high, low] = delivery.identifier.to_be_bytes();
            out.extend_from_slice(&[if delivery.qos == 1 { 0x40 } else { 0x50 }, 2, high, low]);
            if out.len() == 4 {
                self.dirty.push(number);
            }
        }
        let index = stamp.publisher as usize;
        let expected = self
            .expected
            .get_mut(number - self.first_subscriber)
            .and_then(|all| all.get_mut(index));
        let (Some(expected), Some(publisher)) = (expected, self.publishers.get_mut(index)) else {
            self.faults += 1;
            return;
        };
        if *expected != stamp.sequence {
            self.faults += 1;
        }
        *expected = stamp.sequence + 1;
        publisher.delivered += 1;
        self.delivered += 1;
        if self.options.rate.is_some() || self.delivered.is_multiple_of(16) {
            // The histogram grows to any value.
            let _ = self.latency.record(now_ns.saturating_sub(stamp.sent_ns));
        }
    }

    /// Latency since the last call.
    pub fn take_latency(&mut self) -> Histogram<u64> {
        let taken = self.latency.clone();
        self.latency.reset();
        taken
    }

    /// Faults so far, and what was sent and never came.
    pub fn faults(&self) -> u64 {
        self.faults + self.outstanding()
    }
}

impl Publisher {
    #[inline]
    fn publish(&mut self, engine: &mut Engine, index: usize, sent_ns: u64) {
        self.identifier = if self.identifier == u16::MAX {
            1
        } else {
            self.identifier + 1
        };
        let stamp = Stamp {
            publisher: u32::try_from(index).unwrap_or(0),
            sequence: self.sent,
            sent_ns,
        };
        self.template.append(
            &mut engine.connections[self.connection].out,
            stamp,
            self.identifier,
        );
        self.sent += 1;
    }
}

/// Runs the scenario.
///
/// # Errors
/// If the broker refuses or the network fails.
pub fn run(address: SocketAddr, options: &Options, broker_pid: u32) -> io::Result<Report> {
    let mut engine = Engine::new()?;
    let mut load = Load::connect(&mut engine, address, options)?;
    load.run(&mut engine, options.warmup, false)?;
    let (sent, delivered) = (
        load.publishers.iter().map(|one| one.sent).sum::<u64>(),
        load.delivered,
    );
    load.latency.reset();
    let (broker, own) = (
        process::cpu_ns(broker_pid),
        process::cpu_ns(std::process::id()),
    );
    let begun = engine.now_ns();
    load.run(&mut engine, options.seconds, false)?;
    let seconds = (engine.now_ns() - begun) as f64 / 1e9;
    let broker_cpu_ns = process::cpu_ns(broker_pid) - broker;
    let own_cpu_ns = process::cpu_ns(std::process::id()) - own;
    let measured_sent = load.publishers.iter().map(|one| one.sent).sum::<u64>() - sent;
    let measured_delivered = load.delivered - delivered;
    let latency = load.take_latency();
    load.run(&mut engine, 10.0, true)?;
    Ok(Report {
        scenario: format!(
            "{:?} {} publishers QoS {} {} B",
            options.shape, options.publishers, options.qos, options.payload
        ),
        seconds,
        sent: measured_sent,
        delivered: measured_delivered,
        faults: load.faults(),
        broker_cpu_ns,
        own_cpu_ns,
        latency,
    })
}
