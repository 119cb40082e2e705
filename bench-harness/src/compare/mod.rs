//! Several brokers side by side: each started fresh for each run, in turn (A B A B), pinned, with the same load.

pub mod summary;

use std::io::{self, Write};

use crate::broker::Launch;
use crate::cli::{Format, Output};
use crate::measure::placement;
use crate::run::{self, At, Target};
use crate::settings::Options;

/// How brokers are compared.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// The scenario's name, see `ringmq-bench list`
    pub scenario: String,
    /// A broker: a known name (floor, ringmq, ringmq-durable, mosquitto, mosquitto-durable, rumqttd, rmqttd) or
    /// NAME=COMMAND, where {port} and {dir} become a free port and an empty directory. The others are compared with
    /// the first
    #[arg(long = "broker", value_name = "NAME[=COMMAND]", required = true)]
    pub brokers: Vec<String>,
    /// Runs of each broker
    #[arg(long, default_value_t = 5)]
    pub runs: usize,
    /// The CPUs that brokers run on; the first that may be used, if not given
    #[arg(long, value_delimiter = ',', value_name = "LIST")]
    pub broker_cpu: Vec<usize>,
    /// The CPUs that the generator runs on; the last that may be used, if not given
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

/// The `compare` command; gives whether all was as it must be in every run.
///
/// # Errors
/// If a broker cannot be started, or a run cannot be carried out.
pub fn compare(arguments: &Arguments) -> io::Result<bool> {
    let launches = arguments.brokers.iter().map(|text| Launch::parse(text));
    let launches = launches
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let allowed = placement::allowed();
    let broker_cpus = or_default(&arguments.broker_cpu, allowed.first());
    let cpus = or_default(&arguments.cpu, allowed.last());
    let mut runs: Vec<Vec<_>> = launches.iter().map(|_| Vec::new()).collect();
    let mut all_passed = true;
    for round in 1..=arguments.runs {
        for (launch, reports) in launches.iter().zip(&mut runs) {
            let mut options = arguments.options.clone();
            let name = launch.fit(&mut options);
            let target = Target {
                name,
                at: At::Launch(launch.clone(), broker_cpus.clone()),
                cpus: cpus.clone(),
                disturb_cpus: arguments.disturb_cpu.clone(),
            };
            let title = format!("{} {round}/{}", launch.name, arguments.runs);
            let live = arguments.output.live(&title);
            let report = run::measure(&arguments.scenario, &options, target, live)?;
            all_passed &= report.findings.passed();
            run::write(&report, &arguments.output)?;
            reports.push(report);
        }
    }
    if arguments.output.format != Format::Json {
        writeln!(io::stdout().lock(), "\n{}", summary::markdown(&runs))?;
    }
    run::write_all(&runs.concat(), &arguments.output)?;
    Ok(all_passed)
}

fn or_default(given: &[usize], default: Option<&usize>) -> Vec<usize> {
    match given {
        [] => default.copied().into_iter().collect(),
        given => given.to_vec(),
    }
}
