//! `ringmq import mosquitto.conf`: another broker's configuration as one of ours, and what is lost on the way.
//!
//! [`mosquitto`] reads the file, [`mapping`] knows the options. Every line that has no counterpart, that means
//! something else here, or whose default is another one, is listed: an operator decides, not this program.

mod mapping;
mod mosquitto;

use std::fmt::Write as _;
use std::path::Path;

use crate::config;
use crate::runtime::exit_code;

use super::Failure;
use mosquitto::Imported;

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line of the file; `None` if it is about what the file does not say.
    pub line: Option<usize>,
    /// What, and what to do.
    pub text: String,
}

/// A configuration file and what must be known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    /// Our configuration.
    pub toml: String,
    /// Lines without a counterpart or with another meaning.
    pub notes: Vec<Note>,
    /// Defaults of keys that the file does not set and that are otherwise here.
    pub defaults: Vec<Note>,
    /// What our own check says about the result.
    pub faults: Vec<String>,
}

/// Translates the text of a `mosquitto.conf`.
pub fn translate(text: &str) -> Import {
    let Imported {
        toml,
        notes,
        defaults,
    } = mosquitto::import(text);
    let faults = match config::parse(&toml, "the result") {
        Ok(_) => Vec::new(),
        Err(errors) => errors.0.iter().map(ToString::to_string).collect(),
    };
    Import {
        toml,
        notes,
        defaults,
        faults,
    }
}

/// Translates a file: gives the configuration and the report.
///
/// # Errors
/// The file cannot be read.
pub fn run(file: &Path) -> Result<(String, String), Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        let cause = format!("cannot read {}: {error}", file.display());
        Failure::new(exit_code::CONFIGURATION, cause)
    })?;
    let import = translate(&text);
    let report = report(&file.display().to_string(), &import);
    Ok((import.toml, report))
}

fn report(file: &str, import: &Import) -> String {
    let mut out = String::new();
    let list = |out: &mut String, title: &str, notes: &[Note]| {
        if notes.is_empty() {
            return;
        }
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{title}:");
        for note in notes {
            let _ = match note.line {
                Some(line) => writeln!(out, "  {file}:{line}: {}", note.text),
                None => writeln!(out, "  {}", note.text),
            };
        }
    };
    list(
        &mut out,
        "Lines without a counterpart or with another meaning",
        &import.notes,
    );
    list(
        &mut out,
        "Defaults that are otherwise, and that the file does not set",
        &import.defaults,
    );
    if !import.faults.is_empty() {
        let _ = writeln!(out, "The result needs work before it runs:");
        for fault in &import.faults {
            let _ = writeln!(out, "  {fault}");
        }
    }
    out
}

#[cfg(test)]
#[path = "import_tests.rs"]
mod tests;
