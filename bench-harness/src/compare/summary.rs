//! All runs in one table: medians, and the ratio to the first broker pair by pair.

use crate::report::Report;
use crate::report::text::{count, us};

/// A figure of a run that is compared.
struct Column {
    title: &'static str,
    of: fn(&Report) -> Option<f64>,
    show: fn(f64) -> String,
}

const COLUMNS: &[Column] = &[
    Column {
        title: "CPU us/msg",
        of: |report| report.findings.phases.last()?.cpu_us(),
        show: |value| format!("{value:.3}"),
    },
    Column {
        title: "out msg/s",
        of: |report| Some(report.findings.phases.last()?.out_per_s()),
        show: count,
    },
    Column {
        title: "p50 us",
        of: |report| Some(report.findings.phases.last()?.latency.p50 as f64),
        show: |value| us(value as u64),
    },
    Column {
        title: "p99 us",
        of: |report| Some(report.findings.phases.last()?.latency.p99 as f64),
        show: |value| us(value as u64),
    },
    Column {
        title: "p99.9 us",
        of: |report| Some(report.findings.phases.last()?.latency.p999 as f64),
        show: |value| us(value as u64),
    },
    Column {
        title: "switches/s",
        of: |report| report.findings.phases.last()?.switches_per_s(),
        show: count,
    },
];

/// Columns whose ratio to the first broker is shown.
const COMPARED: usize = 4;

/// The median; the mean of the middle two of an even number.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => sorted.get(middle).copied(),
        _ => Some((sorted.get(middle - 1)? + sorted.get(middle)?) / 2.0),
    }
}

/// Ratios of runs of the same round: their median, least and greatest.
fn ratios(ours: &[Report], base: &[Report], of: fn(&Report) -> Option<f64>) -> Option<Ratio> {
    let pairs = ours.iter().zip(base);
    let ratios: Vec<_> = pairs
        .filter_map(|(ours, base)| Some(of(ours)? / of(base).filter(|value| *value > 0.0)?))
        .collect();
    Some(Ratio {
        median: median(&ratios)?,
        least: ratios.iter().copied().reduce(f64::min)?,
        greatest: ratios.iter().copied().reduce(f64::max)?,
    })
}

struct Ratio {
    median: f64,
    least: f64,
    greatest: f64,
}

/// `runs` has the reports of each broker, in the order of the rounds.
pub fn markdown(runs: &[Vec<Report>]) -> String {
    let Some(first) = runs.first().and_then(|reports| reports.first()) else {
        return String::new();
    };
    let mut out = format!(
        "{}, medians of {} runs; ratios to {} pair by pair, with the least and the greatest\n\n| broker |",
        first.scenario,
        runs[0].len(),
        first.broker.name
    );
    for (place, column) in COLUMNS.iter().enumerate() {
        out += &format!(" {} |", column.title);
        if place < COMPARED {
            out += " ratio |";
        }
    }
    out += " faults |\n|---|";
    out += &"---|".repeat(COLUMNS.len() + COMPARED + 1);
    for reports in runs {
        let Some(report) = reports.first() else {
            continue;
        };
        out += &format!("\n| {} |", report.broker.name);
        for (place, column) in COLUMNS.iter().enumerate() {
            let values: Vec<_> = reports.iter().filter_map(column.of).collect();
            out += &format!(" {} |", median(&values).map_or("-".into(), column.show));
            if place < COMPARED {
                let ratio = ratios(reports, &runs[0], column.of).map_or("-".into(), |ratio| {
                    format!(
                        "{:.2} ({:.2}-{:.2})",
                        ratio.median, ratio.least, ratio.greatest
                    )
                });
                out += &format!(" {ratio} |");
            }
        }
        let faults: u64 = reports
            .iter()
            .map(|report| report.findings.faults.total() + report.findings.failures.len() as u64)
            .sum();
        out += &format!(" {faults} |");
    }
    out += &format!("\n\non {}", first.machine.line());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
