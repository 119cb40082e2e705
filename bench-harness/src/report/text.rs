//! A report for people at a terminal.

use std::fmt::Write as _;

use super::{Figure, PhaseReport, Report};
use crate::traffic::ledger::Faults;

/// All of it.
pub fn text(report: &Report) -> String {
    let mut out = format!("{} on {}", report.scenario, report.broker.name);
    if let Some(version) = &report.broker.version {
        let _ = write!(out, " ({version})");
    }
    out.push('\n');
    let settings = report.configuration.iter();
    let settings: Vec<_> = settings
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    let _ = writeln!(out, "  with {}", settings.join(", "));
    for phase in &report.findings.phases {
        put_phase(&mut out, phase, report.broker.cpus.len());
    }
    for figure in &report.findings.figures {
        let _ = writeln!(out, "  {}", figure_line(figure));
    }
    let _ = writeln!(out, "  faults: {}", faults_line(&report.findings.faults));
    for failure in &report.findings.failures {
        let _ = writeln!(out, "  FAILED: {failure}");
    }
    let _ = write!(out, "  on {}", report.machine.line());
    out
}

fn put_phase(out: &mut String, phase: &PhaseReport, broker_cpus: usize) {
    let (sent, delivered) = (phase.in_per_s(), phase.out_per_s());
    let _ = writeln!(
        out,
        "  {}: {:.1} s, {}s/s: in {} + out {} = {}",
        phase.name,
        phase.seconds,
        phase.unit,
        count(sent),
        count(delivered),
        count(sent + delivered),
    );
    let latency = &phase.latency;
    if latency.count > 0 {
        let _ = writeln!(
            out,
            "    latency us: p50 {} p90 {} p99 {} p99.9 {} max {}",
            us(latency.p50),
            us(latency.p90),
            us(latency.p99),
            us(latency.p999),
            us(latency.max),
        );
    }
    if let (Some(used), Some(cpu_us)) = (&phase.broker, phase.cpu_us()) {
        let _ = writeln!(
            out,
            "    broker: {cpu_us:.3} us CPU per {}, {:.2} CPUs, {:.0} context switches/s, {} to {}",
            phase.unit,
            used.cpus,
            phase.switches_per_s().unwrap_or(0.0),
            bytes(used.rss_before_bytes as f64),
            bytes(used.rss_after_bytes as f64),
        );
    }
    let _ = write!(
        out,
        "    generator: busy {:.0} %, {:.2} CPUs",
        phase.generator.busy * 100.0,
        phase.generator.cpu_s / phase.seconds,
    );
    if let Some(lag) = &phase.lag {
        let _ = write!(out, ", late by p99 {} max {} us", us(lag.p99), us(lag.max));
    }
    let _ = writeln!(out, "; {}", phase.limit(broker_cpus).words());
}

/// Nanoseconds as microseconds.
pub fn us(ns: u64) -> String {
    let us = ns as f64 / 1000.0;
    match us < 10.0 {
        true => format!("{us:.1}"),
        false => count(us),
    }
}

/// A number with separators.
pub fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) && digit.is_ascii_digit() {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size.
pub fn bytes(value: f64) -> String {
    match value {
        _ if value >= 1e9 => format!("{:.2} GiB", value / f64::from(1 << 30)),
        _ if value >= 1e6 => format!("{:.1} MiB", value / f64::from(1 << 20)),
        _ => format!("{} B", count(value)),
    }
}

/// A figure with its unit.
pub fn figure_line(figure: &Figure) -> String {
    format!("{}: {}", figure.name, figure_value(figure))
}

/// The value of a figure with its unit.
pub fn figure_value(figure: &Figure) -> String {
    match figure.unit.as_str() {
        "bytes" => bytes(figure.value),
        unit if figure.value.abs() < 100.0 && figure.value.fract() != 0.0 => {
            format!("{:.3} {unit}", figure.value)
        }
        unit => format!("{} {unit}", count(figure.value)).trim_end().into(),
    }
}

/// What went wrong, by kind.
pub fn faults_line(faults: &Faults) -> String {
    if faults.total() == 0 {
        return "none".into();
    }
    let kinds = [
        (faults.lost, "lost"),
        (faults.duplicates, "duplicates"),
        (faults.disorder, "out of order"),
        (faults.foreign, "not as sent"),
        (faults.refused, "refused"),
        (faults.closed, "connections closed"),
    ];
    let kinds = kinds.iter().filter(|(count, _)| *count > 0);
    let kinds: Vec<_> = kinds
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    kinds.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(count(1_234_567.4), "1,234,567");
        assert_eq!(count(123.0), "123");
        assert_eq!(count(-1234.0), "-1,234");
        assert_eq!((us(1_500), us(1_500_000)), ("1.5".into(), "1,500".into()));
        assert_eq!(bytes(576.0), "576 B");
    }

    #[test]
    fn faults_name_their_kind() {
        assert_eq!(faults_line(&Faults::default()), "none");
        let faults = Faults {
            lost: 2,
            disorder: 1,
            ..Faults::default()
        };
        assert_eq!(faults_line(&faults), "2 lost, 1 out of order");
    }
}
