//! Where time goes on a shard: histograms of its turns and of the stages of a message.
//!
//! The shard reads the clock a few times a turn, never for a message: all messages of a turn share its
//! times, so the stages inside a turn are upper bounds. Publish to acknowledgement is taken of one message
//! of a session at a time, from its own turn to that of its acknowledgement.

use hdrhistogram::Histogram;

/// Largest value that is told apart, a minute in microseconds; larger ones count as this.
const LARGEST: u64 = 60_000_000;

/// A histogram of microseconds, or of counts, with 1 % of error.
#[derive(Clone, Debug)]
pub struct Distribution {
    histogram: Histogram<u64>,
    sum: u64,
}

impl Default for Distribution {
    #[allow(
        clippy::expect_used,
        reason = "the bounds are constants that are in order"
    )]
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LARGEST, 2).expect("bounds in order");
        Self { histogram, sum: 0 }
    }
}

impl Distribution {
    /// Counts `value`, `times` over.
    #[inline]
    pub fn record(&mut self, value: u64, times: u64) {
        self.histogram.saturating_record_n(value, times);
        self.sum += value * times;
    }

    /// Adds that of another shard.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds.
        let _ = self.histogram.add(&other.histogram);
        self.sum += other.sum;
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// All values together.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The largest value.
    pub fn max(&self) -> u64 {
        self.histogram.max()
    }

    /// The value that this part of all stays at or below, like 0.99.
    pub fn quantile(&self, part: f64) -> u64 {
        self.histogram.value_at_quantile(part)
    }

    /// How many values are at most `value`.
    pub fn at_most(&self, value: u64) -> u64 {
        self.histogram.count_between(0, value)
    }
}

/// The stages of messages, microseconds.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// From the turn that received a message until it was routed.
    pub receive_to_route: Distribution,
    /// From there until the turn's output was given to the kernel.
    pub route_to_send: Distribution,
    /// From a QoS 1 or 2 message's turn until its PUBACK or PUBREC.
    pub publish_to_acknowledgement: Distribution,
}

impl Stages {
    /// All, with their names.
    pub fn all(&self) -> [(&'static str, &Distribution); 3] {
        [
            ("receive_to_route", &self.receive_to_route),
            ("route_to_send", &self.route_to_send),
            (
                "publish_to_acknowledgement",
                &self.publish_to_acknowledgement,
            ),
        ]
    }

    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.receive_to_route.add(&other.receive_to_route);
        self.route_to_send.add(&other.route_to_send);
        self.publish_to_acknowledgement
            .add(&other.publish_to_acknowledgement);
    }
}

/// What a turn did, as a stall report names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Work {
    /// Received packets, accepted and closed connections.
    Completions,
    /// Batches and questions of others.
    Inbox,
    /// Deadlines.
    Timers,
    /// Connections that were paused.
    Paused,
    /// Output for connections and other shards.
    Output,
}

impl Work {
    /// All, in order.
    pub const NAMES: [&'static str; 5] = ["completions", "inbox", "timers", "paused", "output"];
}

/// The turns of a shard.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// How long they took without the wait, microseconds.
    pub time_us: Distribution,
    /// Completions that they took.
    pub completions: Distribution,
    /// Turns over the bound, by the [`Work`] that took most of them.
    pub stalls: [u64; Work::NAMES.len()],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_and_sums_are_of_all_shards() {
        let mut one = Distribution::default();
        let mut other = Distribution::default();
        one.record(100, 99);
        other.record(10_000, 1);
        one.add(&other);
        assert_eq!((one.count(), one.sum()), (100, 19_900));
        assert!(one.quantile(0.5).abs_diff(100) <= 1);
        assert!(one.max().abs_diff(10_000) <= 100);
        assert_eq!((one.at_most(500), one.at_most(20_000)), (99, 100));
    }

    #[test]
    fn what_is_too_large_counts_as_the_largest() {
        let mut one = Distribution::default();
        one.record(u64::from(u32::MAX), 1);
        assert_eq!(one.count(), 1);
        assert!(one.max() >= LARGEST && one.max() < 2 * LARGEST);
    }
}
