//! `ringmq-bench`: drives MQTT brokers, says what they cost, and compares them.
//!
//! Every run checks that each message came once and in order, and fails otherwise.

mod broker;
mod cli;
mod compare;
mod engine;
mod floor;
mod live;
mod measure;
mod mqtt;
mod report;
mod run;
mod scenario;
mod settings;
mod traffic;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use cli::{Arguments, Command};

/// A run was carried out, and not all was as it must be.
const FAILED: u8 = 1;
/// A run could not be carried out.
const NOT_RUN: u8 = 2;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(arguments) => run::run(&arguments),
        Command::Compare(arguments) => compare::compare(&arguments),
        Command::Report(arguments) => run::report(&arguments).map(|()| true),
        Command::List { name } => list(name.as_deref()).map(|()| true),
        Command::Floor(options) => floor::run(&options).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("ringmq-bench: {error}");
            ExitCode::from(NOT_RUN)
        }
    }
}

fn list(name: Option<&str>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let Some(name) = name else {
        for scenario in scenario::ALL {
            writeln!(out, "{:26} {}", scenario.name, scenario.about)?;
        }
        return Ok(());
    };
    let prepared =
        scenario::prepare(name, &settings::Options::default()).map_err(io::Error::other)?;
    writeln!(out, "{name}: {}", prepared.about)?;
    for (key, value) in prepared.configuration {
        writeln!(out, "  --{key:16} {value}")?;
    }
    Ok(())
}
