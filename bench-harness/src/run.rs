//! One run of a scenario, and where its report goes.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::broker::{Launch, Running};
use crate::cli::{Format, Output, ReportArguments, RunArguments};
use crate::engine::{Clock, layer};
use crate::live::Live;
use crate::measure::machine::Machine;
use crate::measure::placement;
use crate::report::markdown::markdown;
use crate::report::{Broker, Findings, Report, file, html, text};
use crate::scenario::{self, Context, Prepared};
use crate::settings::Options;

/// How long a broker that runs may take to accept a first connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Which broker is measured, and from where.
pub struct Target {
    /// Its name in the report.
    pub name: String,
    /// Where it is.
    pub at: At,
    /// CPUs of the generator.
    pub cpus: Vec<usize>,
    /// CPUs of disturbing clients.
    pub disturb_cpus: Vec<usize>,
}

/// Where a broker is.
pub enum At {
    /// It runs, perhaps as this process.
    Address(SocketAddr, Option<u32>),
    /// It is started on these CPUs, and ended.
    Launch(Launch, Vec<usize>),
}

/// Runs a scenario.
///
/// # Errors
/// If its settings are wrong, the broker cannot be started or refuses, or the network fails.
pub fn measure(
    scenario: &str,
    options: &Options,
    target: Target,
    live: Live,
) -> io::Result<Report> {
    let Prepared {
        course,
        configuration,
        ..
    } = scenario::prepare(scenario, options).map_err(io::Error::other)?;
    let mut broker = Broker {
        name: target.name,
        ..Broker::default()
    };
    let mut context = Context {
        address: SocketAddr::from(([127, 0, 0, 1], 0)),
        broker_pid: None,
        launch: None,
        cpus: target.cpus,
        disturb_cpus: target.disturb_cpus,
        clock: Clock::start(),
        live,
    };
    let running = match (target.at, course.starts_broker()) {
        (At::Address(..), true) => {
            return Err(io::Error::other(format!(
                "{scenario} starts the broker itself: tell it how with --start"
            )));
        }
        (At::Address(address, pid), false) => {
            TcpStream::connect_timeout(&address, CONNECT_MAX).map_err(|error| {
                io::Error::other(format!("cannot connect to {address}: {error}"))
            })?;
            (context.address, context.broker_pid) = (address, pid);
            broker.command = pid.map(command_line).transpose()?;
            None
        }
        (At::Launch(launch, cpus), true) => {
            broker.command = Some(launch.command());
            broker.cpus.clone_from(&cpus);
            context.launch = Some((launch, cpus));
            None
        }
        (At::Launch(launch, cpus), false) => {
            let running = Running::start(&launch, &cpus)?;
            (context.address, context.broker_pid) = (running.address, Some(running.pid()));
            broker.command = Some(running.command());
            broker.version.clone_from(&running.version);
            broker.cpus = cpus;
            Some(running)
        }
    };
    broker.address = context.address.to_string();
    if !context.cpus.is_empty() {
        placement::pin(&context.cpus)?;
    }
    let findings = finish(course.run(&context), running);
    context.live.clear();
    Ok(Report {
        scenario: scenario.into(),
        broker,
        configuration,
        machine: Machine::this(),
        version: env!("CARGO_PKG_VERSION").into(),
        at_unix_s: std::time::UNIX_EPOCH
            .elapsed()
            .map_or(0, |age| age.as_secs()),
        findings: findings?,
    })
}

/// Ends the broker, and lets it explain what went wrong.
fn finish(found: io::Result<Findings>, running: Option<Running>) -> io::Result<Findings> {
    let Some(running) = running else {
        return found;
    };
    let findings = found.map_err(|error| running.explain(&error))?;
    running.end()?;
    Ok(findings)
}

/// How a process was started.
fn command_line(pid: u32) -> io::Result<String> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline"))
        .map_err(|_| io::Error::other(format!("--broker-pid: there is no process {pid}")))?;
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    Ok(words.trim_end().to_owned())
}

/// The `run` command; gives whether all was as it must be.
///
/// # Errors
/// As [`measure`], or if the report cannot be written.
pub fn run(arguments: &RunArguments) -> io::Result<bool> {
    layer::set(arguments.tls.as_deref(), arguments.websocket).map_err(io::Error::other)?;
    let mut options = arguments.options.clone();
    let (name, at) = match &arguments.start {
        None => {
            let at = At::Address(arguments.address, arguments.broker_pid);
            ("broker".into(), at)
        }
        Some(text) => {
            let launch = Launch::parse(text).map_err(io::Error::other)?;
            let name = launch.fit(&mut options);
            let cpus = match arguments.broker_cpu.as_slice() {
                [] => placement::allowed(),
                given => given.to_vec(),
            };
            (name, At::Launch(launch, cpus))
        }
    };
    let target = Target {
        name: arguments.name.clone().unwrap_or(name),
        at,
        cpus: arguments.cpu.clone(),
        disturb_cpus: arguments.disturb_cpu.clone(),
    };
    let live = arguments.output.live(&arguments.scenario);
    let report = measure(&arguments.scenario, &options, target, live)?;
    write(&report, &arguments.output)?;
    let passed = report.findings.passed();
    write_all(&[report], &arguments.output)?;
    Ok(passed)
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
        // All runs in one table, see `write_all`.
        Format::Markdown => {}
    }
    match &output.save {
        Some(path) => file::append(path, report),
        None => Ok(()),
    }
}

/// Writes what all reports of a command make together.
///
/// # Errors
/// If it cannot be written.
pub fn write_all(reports: &[Report], output: &Output) -> io::Result<()> {
    if output.format == Format::Markdown {
        writeln!(io::stdout().lock(), "{}", markdown(reports))?;
    }
    match &output.html {
        Some(path) => std::fs::write(path, html::page(reports)?),
        None => Ok(()),
    }
}

/// The `report` command.
///
/// # Errors
/// If a file cannot be read or written.
pub fn report(arguments: &ReportArguments) -> io::Result<()> {
    let mut reports = Vec::new();
    for path in &arguments.files {
        reports.extend(file::read(path)?);
    }
    for report in &reports {
        write(report, &arguments.output)?;
    }
    write_all(&reports, &arguments.output)
}
