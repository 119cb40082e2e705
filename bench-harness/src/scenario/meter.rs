//! The frame of a phase that is no traffic: counts, time and use between two moments.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::engine::Engine;
use crate::measure::latency::{Latency, histogram};
use crate::measure::placement::thread_cpu_ns;
use crate::measure::process::{self, Process};
use crate::report::{Generator, PhaseReport};

/// A phase that has begun.
pub struct Meter {
    begun: Instant,
    broker_pid: Option<u32>,
    broker: Option<Process>,
    cpu_ns: u64,
    idle_ns: u64,
    /// What was asked for so far.
    pub sent: u64,
    /// What was answered so far.
    pub delivered: u64,
    /// From question to answer, nanoseconds.
    pub latency: Histogram<u64>,
}

impl Meter {
    /// Begins.
    pub fn start(broker_pid: Option<u32>, engine: &Engine) -> Self {
        Self {
            broker_pid,
            broker: broker_pid.and_then(Process::read),
            cpu_ns: thread_cpu_ns(),
            idle_ns: engine.idle_ns(),
            sent: 0,
            delivered: 0,
            latency: histogram(),
            begun: Instant::now(),
        }
    }

    /// An answer to what was asked at `asked_ns` came at `now_ns`.
    #[inline]
    pub fn answered(&mut self, asked_ns: u64, now_ns: u64) {
        self.delivered += 1;
        // The histogram takes any value.
        let _ = self.latency.record(now_ns.saturating_sub(asked_ns));
    }

    /// Ends.
    pub fn finish(self, name: &str, unit: &str, engine: &Engine) -> PhaseReport {
        let seconds = self.begun.elapsed().as_secs_f64();
        let broker = self.broker_pid.and_then(Process::read);
        let idle_s = (engine.idle_ns() - self.idle_ns) as f64 / 1e9;
        PhaseReport {
            name: name.into(),
            unit: unit.into(),
            seconds,
            sent: self.sent,
            delivered: self.delivered,
            latency: Latency::of(&self.latency),
            lag: None,
            broker: process::used(self.broker.as_ref(), broker.as_ref(), seconds),
            generator: Generator {
                cpu_s: (thread_cpu_ns() - self.cpu_ns) as f64 / 1e9,
                busy: 1.0 - idle_s / seconds,
            },
        }
    }
}
