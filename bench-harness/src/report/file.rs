//! Reports as lines of JSON: written one by one, read all at once.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

use super::Report;

/// Appends a report to a file.
///
/// # Errors
/// If it cannot be written.
pub fn append(path: &Path, report: &Report) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    writeln!(file, "{}", report.json())
}

/// All reports of a file.
///
/// # Errors
/// If it cannot be read, or a line is no report.
pub fn read(path: &Path) -> io::Result<Vec<Report>> {
    let name = path.display();
    let text = std::fs::read_to_string(path)
        .map_err(|error| io::Error::other(format!("{name}: {error}")))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line)
                .map_err(|error| io::Error::other(format!("{name}:{}: {error}", number + 1)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample_report;

    #[test]
    fn what_is_written_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.jsonl");
        append(&path, &sample_report("a")).unwrap();
        append(&path, &sample_report("b")).unwrap();
        let reports = read(&path).unwrap();
        assert_eq!(reports.len(), 2);
        assert_eq!(reports[1].json(), sample_report("b").json());
    }

    #[test]
    fn a_line_that_is_no_report_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs.jsonl");
        std::fs::write(&path, "\n{\"a\":1}\n").unwrap();
        assert!(
            read(&path)
                .unwrap_err()
                .to_string()
                .contains("runs.jsonl:2:")
        );
    }
}
