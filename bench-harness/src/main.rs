//! `ringmq-bench`: drives an MQTT broker, and says what it costs.
//!
//! Every run checks that each message came once and in order, and fails otherwise.

mod codec;
mod engine;
mod process;
mod report;
mod scenario;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Drives an MQTT broker and says what it costs
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Where the broker listens
    #[arg(long, default_value = "127.0.0.1:1883", global = true)]
    address: SocketAddr,
    /// The broker's process, whose CPU and memory are read
    #[arg(long, default_value_t = 0, global = true)]
    broker_pid: u32,
    /// The CPU to run on
    #[arg(long, global = true)]
    cpu: Option<usize>,
    /// One line of JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Publishers and subscribers
    Messages(scenario::messages::Options),
    /// Connections that do nothing
    Idle(scenario::idle::Options),
    /// Many exact subscriptions
    Subscribe(scenario::subscribe::Options),
    /// Clients that behave, while another does not
    Abuse(scenario::abuse::Options),
}

fn run(arguments: &Arguments) -> io::Result<String> {
    if let Some(cpu) = arguments.cpu {
        let mut set = rustix::thread::CpuSet::new();
        set.set(cpu);
        rustix::thread::sched_setaffinity(None, &set)?;
    }
    let (address, pid) = (arguments.address, arguments.broker_pid);
    match &arguments.scenario {
        Scenario::Messages(options) => {
            let report = scenario::messages::run(address, options, pid)?;
            let text = if arguments.json {
                report.json()
            } else {
                report.text()
            };
            match report.faults {
                0 => Ok(text),
                _ => Err(io::Error::other(text)),
            }
        }
        Scenario::Idle(options) => scenario::idle::run(address, options, pid),
        Scenario::Subscribe(options) => scenario::subscribe::run(address, options, pid),
        Scenario::Abuse(options) => scenario::abuse::run(address, options, pid),
    }
}

#[allow(clippy::print_stdout)] // the result of the program
fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("ringmq-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
