//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::compare;
use crate::floor;
use crate::live::Live;
use crate::settings::Options;

/// Drives MQTT brokers, says what they cost, and compares them
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs a scenario against a broker
    Run(RunArguments),
    /// Runs a scenario against several brokers in turn, each started fresh for each run
    Compare(compare::Arguments),
    /// Renders runs that were saved
    Report(ReportArguments),
    /// Names all scenarios, or the settings of one with their defaults
    List {
        /// The scenario
        name: Option<String>,
    },
    /// Serves as the least that can be called a broker: what it costs is the floor
    Floor(floor::Options),
}

/// How results are written to standard output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Text,
    /// A line of JSON for each run
    Json,
    /// A table of all runs
    Markdown,
}

/// Where results go.
#[derive(Clone, Debug, Default, Args)]
pub struct Output {
    /// How results are written to standard output
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Also appends each run to this file as a line of JSON
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Also writes all runs with plots to this file, which needs no other
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Shows no progress
    #[arg(long)]
    pub quiet: bool,
}

impl Output {
    /// The view of a run with this title.
    pub fn live(&self, title: &str) -> Live {
        Live::new(title, !self.quiet)
    }
}

/// How one broker is measured.
#[derive(Clone, Debug, Args)]
pub struct RunArguments {
    /// The scenario's name, see `ringmq-bench list`
    pub scenario: String,
    /// Where the broker listens
    #[arg(long, default_value = "127.0.0.1:1883")]
    pub address: SocketAddr,
    /// The broker's process, whose CPU, context switches and memory are read
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Starts the broker, and ends it: a known name or NAME=COMMAND, as `compare` takes them
    #[arg(long, value_name = "NAME[=COMMAND]", conflicts_with_all = ["address", "broker_pid"])]
    pub start: Option<String>,
    /// The CPUs that a started broker runs on, like 0 or 0,2; all if not given
    #[arg(long, value_delimiter = ',', value_name = "LIST", requires = "start")]
    pub broker_cpu: Vec<usize>,
    /// Speaks TLS with the broker, which shows a certificate for localhost by an authority in this PEM file
    #[arg(long, value_name = "FILE")]
    pub tls: Option<PathBuf>,
    /// Speaks WebSocket with the broker
    #[arg(long)]
    pub websocket: bool,
    /// The broker's name in the report
    #[arg(long)]
    pub name: Option<String>,
    /// The CPUs that the generator runs on, like 1 or 1,3
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub cpu: Vec<usize>,
    /// The CPUs that disturbing clients run on; those of the generator, if not given
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub disturb_cpu: Vec<usize>,
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub options: Options,
}

/// What is rendered.
#[derive(Clone, Debug, Args)]
pub struct ReportArguments {
    /// Files with a line of JSON for each run
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub output: Output,
}
