//! What a run has shown: a line for people and a line of JSON.

use hdrhistogram::Histogram;
use serde_json::json;

/// The result of a run.
#[derive(Debug)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// Length of the measured part, seconds.
    pub seconds: f64,
    /// Messages that publishers sent.
    pub sent: u64,
    /// Messages that subscribers got.
    pub delivered: u64,
    /// Messages out of order, double or missing.
    pub faults: u64,
    /// CPU of the broker in the measured part, nanoseconds.
    pub broker_cpu_ns: u64,
    /// CPU of the generator in the measured part, nanoseconds.
    pub own_cpu_ns: u64,
    /// From sending, or the time that was meant for it, to delivery, nanoseconds.
    pub latency: Histogram<u64>,
}

impl Report {
    /// CPU of the broker for each delivered message, microseconds.
    pub fn cpu_us(&self) -> f64 {
        self.broker_cpu_ns as f64 / 1000.0 / self.delivered.max(1) as f64
    }

    /// For people.
    pub fn text(&self) -> String {
        let us = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1000.0;
        let own_us = self.own_cpu_ns as f64 / 1000.0 / self.delivered.max(1) as f64;
        let busy = self.own_cpu_ns as f64 / 1e9 / self.seconds;
        let limited = if busy > 0.95 {
            " (the generator is the limit)"
        } else {
            ""
        };
        format!(
            "{}: in {:.0}/s out {:.0}/s, broker CPU {:.3} us per delivered message, generator {own_us:.3} us{limited}, \
             latency us p50 {:.0} p90 {:.0} p99 {:.0} p99.9 {:.0} max {:.0}, faults {}",
            self.scenario,
            self.sent as f64 / self.seconds,
            self.delivered as f64 / self.seconds,
            self.cpu_us(),
            us(0.5),
            us(0.9),
            us(0.99),
            us(0.999),
            self.latency.max() as f64 / 1000.0,
            self.faults,
        )
    }

    /// For programs.
    pub fn json(&self) -> String {
        json!({
            "scenario": self.scenario,
            "seconds": self.seconds,
            "sent": self.sent,
            "delivered": self.delivered,
            "faults": self.faults,
            "broker_cpu_us_per_message": self.cpu_us(),
            "latency_p50_ns": self.latency.value_at_quantile(0.5),
            "latency_p99_ns": self.latency.value_at_quantile(0.99),
            "latency_p999_ns": self.latency.value_at_quantile(0.999),
            "latency_max_ns": self.latency.max(),
        })
        .to_string()
    }
}
