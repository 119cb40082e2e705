//! `ringmq import mosquitto.conf`: another broker's configuration as one of ours, and what is lost on the way.
//!
//! `mosquitto` reads the file, `mapping` knows the options. Every line that has no counterpart, that means
//! something else here, or whose default is another one, is listed: an operator decides, not this program.

mod mapping;
mod mosquitto;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::config;
use crate::runtime::exit_code;

use super::Failure;
use mosquitto::Imported;

/// Files that are read for one import; more must be a circle.
const FILES_MAX: usize = 1000;

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// File and line; `None` if it is about what the file does not say.
    pub place: Option<String>,
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

/// A line with its place, as `mosquitto.conf:3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// File and number.
    pub place: String,
    /// As it is.
    pub text: String,
}

/// The lines of a text.
fn lines(file: &str, text: &str) -> Vec<Line> {
    let numbered = (1..).zip(text.lines());
    numbered
        .map(|(number, text)| Line {
            place: format!("{file}:{number}"),
            text: text.into(),
        })
        .collect()
}

/// The lines of a file, with those of the directories that it includes where it includes them.
fn read(file: &Path, files: &mut usize) -> Result<Vec<Line>, String> {
    *files += 1;
    if *files > FILES_MAX {
        return Err(format!(
            "more than {FILES_MAX} files are included; do they include each other?"
        ));
    }
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let mut all = Vec::new();
    for line in lines(&file.display().to_string(), &text) {
        match line.text.trim().strip_prefix("include_dir") {
            Some(directory) if directory.starts_with(char::is_whitespace) => {
                for file in included(Path::new(directory.trim()))? {
                    all.extend(read(&file, files)?);
                }
            }
            _ => all.push(line),
        }
    }
    Ok(all)
}

/// The files of a directory that count: `*.conf`, capitals first.
fn included(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = std::fs::read_dir(directory)
        .map_err(|error| format!("cannot read {}: {error}", directory.display()))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "conf")
        })
        .collect();
    files.sort_unstable();
    Ok(files)
}

/// Translates the lines of a `mosquitto.conf`.
pub fn translate(lines: &[Line]) -> Import {
    let Imported {
        toml,
        notes,
        defaults,
    } = mosquitto::import(lines);
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
    let lines =
        read(file, &mut 0).map_err(|error| Failure::new(exit_code::CONFIGURATION, error))?;
    let import = translate(&lines);
    let report = report(&import);
    Ok((import.toml, report))
}

fn report(import: &Import) -> String {
    let mut out = String::new();
    let list = |out: &mut String, title: &str, notes: &[Note]| {
        if notes.is_empty() {
            return;
        }
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(out, "{title}:");
        for note in notes {
            let _ = match &note.place {
                Some(place) => writeln!(out, "  {place}: {}", note.text),
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
