//! One run of a scenario, and where its report goes.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::SocketAddr;

use crate::cli::{Format, Output, RunArguments};
use crate::engine::Clock;
use crate::live::Live;
use crate::measure::machine::Machine;
use crate::measure::placement;
use crate::report::{Broker, Report, text};
use crate::scenario::{self, Context};
use crate::settings::Options;

/// What is measured, and from where.
pub struct Target {
    /// What the report says of the broker.
    pub broker: Broker,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process, if known.
    pub pid: Option<u32>,
    /// CPUs of the generator.
    pub cpus: Vec<usize>,
}

/// Runs a scenario.
///
/// # Errors
/// If its settings are wrong, the broker refuses, or the network fails.
pub fn measure(
    scenario: &str,
    options: &Options,
    target: Target,
    live: Live,
) -> io::Result<Report> {
    let (course, configuration) = scenario::prepare(scenario, options).map_err(io::Error::other)?;
    if !target.cpus.is_empty() {
        placement::pin(&target.cpus)?;
    }
    let context = Context {
        address: target.address,
        broker_pid: target.pid,
        cpus: target.cpus,
        clock: Clock::start(),
        live,
    };
    let findings = course.run(&context);
    context.live.clear();
    Ok(Report {
        scenario: scenario.into(),
        broker: target.broker,
        configuration,
        machine: Machine::this(),
        version: env!("CARGO_PKG_VERSION").into(),
        at_unix_s: std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |age| age.as_secs()),
        findings: findings?,
    })
}

/// The `run` command; gives whether all was as it must be.
///
/// # Errors
/// As [`measure`], or if the report cannot be written.
pub fn run(arguments: &RunArguments) -> io::Result<bool> {
    let command = arguments.broker_pid.and_then(|pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let words = String::from_utf8_lossy(&words).replace('\0', " ");
        Some(words.trim_end().to_owned())
    });
    if let Some(pid) = arguments.broker_pid.filter(|_| command.is_none()) {
        return Err(io::Error::other(format!(
            "--broker-pid: there is no process {pid}"
        )));
    }
    let target = Target {
        broker: Broker {
            name: arguments.name.clone(),
            address: arguments.address.to_string(),
            command,
            ..Broker::default()
        },
        address: arguments.address,
        pid: arguments.broker_pid,
        cpus: arguments.cpu.clone(),
    };
    let live = Live::new(&arguments.scenario, !arguments.output.quiet);
    let report = measure(&arguments.scenario, &arguments.options, target, live)?;
    write(&report, &arguments.output)?;
    Ok(report.findings.passed())
}

/// Writes a report where it is wanted.
///
/// # Errors
/// If it cannot be written.
pub fn write(report: &Report, output: &Output) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match output.format {
        Format::Text => writeln!(out, "{}", text::text(report))?,
        Format::Json => writeln!(out, "{}", report.json())?,
    }
    if let Some(path) = &output.save {
        let mut file = OpenOptions::new().create(true).append(true).open(path)?;
        writeln!(file, "{}", report.json())?;
    }
    Ok(())
}
