//! Latencies: recorded in a histogram, reported as percentiles.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest latency that is told apart, nanoseconds: beyond it, it counts as this.
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// An empty histogram of nanoseconds with three significant digits.
///
/// # Panics
/// Never: the bounds are valid.
#[allow(clippy::expect_used)] // constants
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_MAX_NS, 3).expect("valid bounds")
}

/// Percentiles, nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Latencies that were recorded.
    pub count: u64,
    /// Mean.
    pub mean: f64,
    /// Median.
    pub p50: u64,
    /// 90 % are not above it.
    pub p90: u64,
    /// 99 % are not above it.
    pub p99: u64,
    /// 99.9 % are not above it.
    pub p999: u64,
    /// The longest.
    pub max: u64,
    /// For plots: quantile and latency.
    pub curve: Vec<(f64, u64)>,
}

impl Latency {
    /// Of all that was recorded.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: histogram.max(),
            curve: quantiles(histogram.len())
                .map(|quantile| (quantile, at(quantile)))
                .collect(),
        }
    }
}

/// Quantiles that get denser towards the end, as far as `count` values tell them apart.
fn quantiles(count: u64) -> impl Iterator<Item = f64> {
    let nines = (count.max(1) as f64).log10();
    (0..)
        .map(|step| f64::from(step) / 8.0)
        .take_while(move |exponent| *exponent <= nines)
        .map(|exponent| 1.0 - 10f64.powf(-exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut recorded = histogram();
        for value in 1..=1000 {
            recorded.record(value * 1000).unwrap();
        }
        let latency = Latency::of(&recorded);
        let near = |value: u64, wanted: u64| value.abs_diff(wanted) <= wanted / 500;
        assert!(near(latency.p50, 500_000) && near(latency.p99, 990_000));
        assert!(near(latency.max, 1_000_000) && latency.count == 1000);
        assert!(latency.curve.len() == 25 && latency.curve.is_sorted());
    }

    #[test]
    fn nothing_recorded_is_no_fault() {
        assert_eq!(Latency::of(&histogram()).count, 0);
    }
}
