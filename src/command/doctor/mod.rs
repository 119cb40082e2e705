//! `ringmq doctor`: compares the machine with a profile and says what to change. Changes nothing itself.
//!
//! `machine` reads facts below a root directory, so that tests can make machines of files; `checks` judges
//! them. What a profile wants of the kernel is read from the same `sysctl.conf` that an operator installs.

mod checks;
mod machine;

use std::fmt::Write as _;
use std::path::Path;

use serde::Serialize;

use crate::cli::DoctorArguments;
use crate::config::{self, Config, Profile};
use crate::runtime::exit_code;
use crate::runtime::kernel_probe;

use super::Failure;
pub use machine::Machine;

/// How a fact was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As the profile wants it.
    Good,
    /// This machine does not say, or does not have it.
    Unknown,
    /// It works; it would be better otherwise.
    Change,
    /// The broker cannot run like this.
    Broken,
}

/// One fact, what is wanted, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: String,
    /// How it is judged.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What the profile wants.
    pub wanted: String,
    /// Why.
    pub reason: String,
    /// What to change, if anything.
    pub remedy: Option<String>,
}

#[derive(Serialize)]
struct Report<'a> {
    profile: &'static str,
    verdict: Verdict,
    checks: &'a [Check],
}

/// Looks at this machine.
///
/// # Errors
/// Something is to be changed; the report is printed all the same by `print`.
pub fn run(arguments: &DoctorArguments, print: impl Fn(&str)) -> Result<(), Failure> {
    let config = match &arguments.config {
        None => Config::default(),
        Some(file) => {
            config::load(file).map_err(|errors| Failure::new(exit_code::CONFIGURATION, errors))?
        }
    };
    let profile = arguments.profile.unwrap_or(config.profile);
    let facts = kernel_probe::gather();
    let machine = Machine::at(Path::new("/"));
    let mut checks = vec![checks::broker(&facts)];
    checks.extend(checks::machine(&machine, profile, &config));
    if let Some(directory) = &arguments.data_dir {
        checks.push(checks::data_directory(directory));
    }
    let worst = checks.iter().map(|check| check.verdict).max();
    let verdict = worst.unwrap_or(Verdict::Good);
    match arguments.json {
        true => print(&json(profile, verdict, &checks)?),
        false => print(&text(profile, &checks)),
    }
    match verdict {
        Verdict::Good | Verdict::Unknown => Ok(()),
        Verdict::Change => Err(Failure::new(
            exit_code::TUNING,
            format!(
                "{} things to change for the profile {}",
                count(&checks),
                profile.name()
            ),
        )),
        Verdict::Broken => Err(Failure::new(
            exit_code::KERNEL,
            "the broker cannot run here",
        )),
    }
}

fn count(checks: &[Check]) -> usize {
    let of_change = |check: &&Check| check.verdict >= Verdict::Change;
    checks.iter().filter(of_change).count()
}

fn json(profile: Profile, verdict: Verdict, checks: &[Check]) -> Result<String, Failure> {
    let report = Report {
        profile: profile.name(),
        verdict,
        checks,
    };
    serde_json::to_string_pretty(&report)
        .map(|text| text + "\n")
        .map_err(|error| Failure::new(exit_code::UNEXPECTED, error))
}

fn text(profile: Profile, checks: &[Check]) -> String {
    let mut out = format!("The machine against the profile {}:\n", profile.name());
    for check in checks {
        let sign = match check.verdict {
            Verdict::Good => "good  ",
            Verdict::Unknown => "?     ",
            Verdict::Change => "change",
            Verdict::Broken => "BROKEN",
        };
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "  {sign}  {}: {}", check.name, check.found);
        if let Some(remedy) = &check.remedy {
            let _ = writeln!(out, "          wanted: {}", check.wanted);
            let _ = writeln!(out, "          why:    {}", check.reason);
            let _ = writeln!(out, "          do:     {remedy}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_for_people_and_for_programs() {
        let checks = [
            Check {
                name: "a".into(),
                verdict: Verdict::Good,
                found: "1".into(),
                wanted: "1".into(),
                reason: "r".into(),
                remedy: None,
            },
            Check {
                name: "b".into(),
                verdict: Verdict::Change,
                found: "2".into(),
                wanted: "3".into(),
                reason: "because".into(),
                remedy: Some("sysctl -w b=3".into()),
            },
        ];
        let text = text(Profile::Latency, &checks);
        assert!(text.contains("good    a: 1"), "{text}");
        assert!(text.contains("do:     sysctl -w b=3"), "{text}");
        let json = json(Profile::Latency, Verdict::Change, &checks).unwrap();
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["profile"], "latency");
        assert_eq!(value["verdict"], "change");
        assert_eq!(value["checks"][1]["remedy"], "sysctl -w b=3");
    }
}
