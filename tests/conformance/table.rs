//! The table of statements and what holds it together: every id is in it, every test that it names is
//! there, every test is in it, and `RESULTS.md` says the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The versions with their lists of ids, how many ids those have, and how names of tests begin.
const VERSIONS: [(&str, &str, usize, &str); 2] = [
    ("5.0", "ids_v5.txt", 251, "mqtt5_"),
    ("3.1.1", "ids_v3.txt", 141, "mqtt3_"),
];

#[derive(Debug, Deserialize)]
struct Table {
    statement: Vec<Statement>,
}

/// Whom a statement binds.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Binds {
    Server,
    Client,
    Both,
}

/// A row of the table.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Statement {
    id: String,
    version: String,
    binds: Binds,
    says: String,
    #[serde(default)]
    tests: Vec<String>,
    untested: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

fn table() -> Vec<Statement> {
    let text = fs::read_to_string(folder().join("statements.toml")).expect("statements.toml");
    let table: Table = toml::from_str(&text).expect("a table of statements");
    table.statement
}

/// The ids of a version, without blank lines.
fn ids(file: &str) -> Vec<String> {
    let text = fs::read_to_string(folder().join(file)).unwrap_or_default();
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The names of all tests below `tests/`.
fn tests() -> Vec<String> {
    let mut names = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"),
        &mut names,
    );
    names
}

fn collect(folder: &Path, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of tests") {
        let path = entry.expect("an entry of a folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !matches!(&*name, "target" | "node_modules" | "corpus") {
            collect(&path, names);
        } else if name.ends_with(".rs") {
            names.extend(tests_of(&fs::read_to_string(&path).expect("a source file")));
        }
    }
}

/// The functions behind `#[test]` in a source.
fn tests_of(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut marked = false;
    for line in source.lines().map(str::trim) {
        match line.strip_prefix("fn ") {
            Some(rest) if marked => {
                names.extend(rest.split('(').next().map(str::to_owned));
                marked = false;
            }
            _ => marked = line == "#[test]" || (marked && line.starts_with("#[")),
        }
    }
    names
}

/// The id in the name of a test: `mqtt5_3_3_4_9_what` is about MQTT-3.3.4-9.
fn id_in(test: &str, prefix: &str) -> Option<String> {
    let mut parts = test.strip_prefix(prefix)?.splitn(5, '_');
    let numbers: Vec<&str> = parts.by_ref().take(4).collect();
    let are_numbers = numbers.len() == 4
        && numbers
            .iter()
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    let what = parts.next()?;
    (are_numbers && !what.is_empty()).then(|| {
        format!(
            "MQTT-{}.{}.{}-{}",
            numbers[0], numbers[1], numbers[2], numbers[3]
        )
    })
}

/// What is wrong between the table, the lists of ids and the tests.
fn faults(
    table: &[Statement],
    lists: &[(&str, Vec<String>, &str)],
    tests: &[String],
) -> Vec<String> {
    let mut faults = Vec::new();
    for (version, ids, prefix) in lists {
        let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
        for row in table.iter().filter(|row| row.version == *version) {
            *rows.entry(&row.id).or_default() += 1;
        }
        let known: BTreeSet<&str> = ids.iter().map(String::as_str).collect();
        for id in ids.iter().filter(|id| !rows.contains_key(id.as_str())) {
            faults.push(format!("{version} {id} is not in the table"));
        }
        for (id, count) in &rows {
            if !known.contains(id) {
                faults.push(format!("{version} has no statement {id}"));
            }
            if *count > 1 {
                faults.push(format!("{version} {id} is in the table {count} times"));
            }
        }
        let named: BTreeSet<&str> = table
            .iter()
            .filter(|row| row.version == *version)
            .flat_map(|row| row.tests.iter().map(String::as_str))
            .collect();
        for test in tests.iter().filter(|test| test.starts_with(prefix)) {
            if !named.contains(test.as_str()) {
                faults.push(format!("{test} is not in the table"));
            }
            match id_in(test, prefix) {
                Some(id) if known.contains(id.as_str()) => {}
                Some(id) => faults.push(format!("{test}: {version} has no statement {id}")),
                None => faults.push(format!("{test} does not carry an id")),
            }
        }
    }
    let versions: Vec<&str> = lists.iter().map(|(version, ..)| *version).collect();
    faults.extend(
        table
            .iter()
            .flat_map(|row| row_faults(row, &versions, tests)),
    );
    let mut sorted: Vec<&String> = tests.iter().collect();
    sorted.sort_unstable();
    for same in sorted.windows(2).filter(|pair| pair[0] == pair[1]) {
        if lists
            .iter()
            .any(|(_, _, prefix)| same[0].starts_with(prefix))
        {
            faults.push(format!("{} is there twice", same[0]));
        }
    }
    faults
}

fn row_faults(row: &Statement, versions: &[&str], tests: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("{} {}: {what}", row.version, row.id));
    if !versions.contains(&row.version.as_str()) {
        fault("there is no such version".into());
    }
    if row.says.trim().len() < 10 || row.says.contains('\n') {
        fault("it does not say in a line what it asks for".into());
    }
    for test in &row.tests {
        if !tests.contains(test) {
            fault(format!("the test {test} does not exist"));
        }
        if row.tests.iter().filter(|other| *other == test).count() > 1 {
            fault(format!("the test {test} is named twice"));
        }
    }
    match (&row.untested, row.tests.is_empty()) {
        (Some(_), false) => fault("it has tests and a reason for having none".into()),
        (None, true) => fault("it has neither tests nor a reason for having none".into()),
        (Some(reason), true) if reason.trim().len() < 10 => fault("the reason says nothing".into()),
        _ => {}
    }
    faults
}

/// The text of `RESULTS.md`.
fn results(table: &[Statement]) -> String {
    let mut text = String::from(
        "# Conformance, statement by statement\n\n\
         Made from `statements.toml` by `RINGMQ_BLESS=1 cargo test --test conformance`; a test fails when it is\n\
         not up to date. Every test talks to the real binary over a socket.\n\n\
         | Version | Statements | bind the Server | shown by tests | of those that bind the Server | not testable |\n\
         |---|---|---|---|---|---|\n",
    );
    let of = |version: &'static str| table.iter().filter(move |row| row.version == version);
    for (version, ..) in VERSIONS {
        let shown = of(version).filter(|row| !row.tests.is_empty());
        let server = |row: &&Statement| row.binds != Binds::Client;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {version} | {} | {} | {} | {} | {} |",
            of(version).count(),
            of(version).filter(server).count(),
            shown.clone().count(),
            shown.filter(server).count(),
            of(version).filter(|row| row.tests.is_empty()).count(),
        );
    }
    for (version, ..) in VERSIONS {
        let _ = write!(
            text,
            "\n## MQTT {version}\n\n| Statement | Binds | What it asks for | Shown by |\n|---|---|---|---|\n"
        );
        for row in of(version) {
            let binds = match row.binds {
                Binds::Server => "Server",
                Binds::Client => "Client",
                Binds::Both => "both",
            };
            let shown: Vec<String> = row.tests.iter().map(|test| format!("`{test}`")).collect();
            let shown = match &row.untested {
                Some(reason) => format!("not testable: {reason}"),
                None => shown.join(", "),
            };
            let _ = writeln!(text, "| {} | {binds} | {} | {shown} |", row.id, row.says);
        }
    }
    text
}

#[test]
fn the_table_has_every_statement_and_every_test() {
    let lists: Vec<(&str, Vec<String>, &str)> = VERSIONS
        .iter()
        .map(|(version, file, count, prefix)| {
            let ids = ids(file);
            assert!(
                ids.is_empty() || ids.len() == *count,
                "{file} has {} ids, MQTT {version} has {count}",
                ids.len()
            );
            (*version, ids, *prefix)
        })
        .collect();
    assert!(!lists[0].1.is_empty(), "there are no ids");
    let faults = faults(&table(), &lists, &tests());
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn results_are_up_to_date() {
    let path = folder().join("RESULTS.md");
    let expected = results(&table());
    if std::env::var_os("RINGMQ_BLESS").is_some() {
        fs::write(&path, &expected).expect("RESULTS.md is written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "RESULTS.md is not what statements.toml says: run with RINGMQ_BLESS=1"
    );
}

/// The checker itself: it finds each kind of fault, and nothing in a good table.
mod checker {
    use super::*;

    fn row(id: &str, tests: &[&str], untested: Option<&str>) -> Statement {
        Statement {
            id: id.into(),
            version: "5.0".into(),
            binds: Binds::Server,
            says: "What is asked for.".into(),
            tests: tests.iter().map(|test| (*test).to_owned()).collect(),
            untested: untested.map(str::to_owned),
        }
    }

    fn found(table: &[Statement], tests: &[&str]) -> usize {
        let ids = vec!["MQTT-1.1.1-1".to_owned(), "MQTT-1.1.1-2".to_owned()];
        let tests: Vec<String> = tests.iter().map(|test| (*test).to_owned()).collect();
        faults(table, &[("5.0", ids, "mqtt5_")], &tests).len()
    }

    const ONE: &str = "mqtt5_1_1_1_1_holds";

    fn second() -> Statement {
        row("MQTT-1.1.1-2", &[], Some("nobody can see it"))
    }

    #[test]
    fn a_good_table_has_no_fault() {
        assert_eq!(
            found(&[row("MQTT-1.1.1-1", &[ONE], None), second()], &[ONE]),
            0
        );
    }

    #[test]
    fn every_kind_of_fault_is_found() {
        let first = || row("MQTT-1.1.1-1", &[ONE], None);
        assert_eq!(found(&[first()], &[ONE]), 1, "a statement is missing");
        assert_eq!(
            found(&[first(), second(), second()], &[ONE]),
            1,
            "a row twice"
        );
        assert_eq!(
            found(&[first(), second()], &[]),
            1,
            "a test that is not there"
        );
        let unknown = row("MQTT-9.9.9-9", &[], Some("nobody can see it"));
        assert_eq!(found(&[first(), second(), unknown], &[ONE]), 1, "not an id");
        let more = [ONE, "mqtt5_1_1_1_2_holds"];
        assert_eq!(
            found(&[first(), second()], &more),
            1,
            "a test that is not in the table"
        );
        let wrong = "mqtt5_7_7_7_7_holds";
        let misnamed = row("MQTT-1.1.1-1", &[ONE, wrong], None);
        assert_eq!(
            found(&[misnamed, second()], &[ONE, wrong]),
            1,
            "an id that is none"
        );
        let nameless = "mqtt5_holds";
        let named = row("MQTT-1.1.1-1", &[ONE, nameless], None);
        assert_eq!(
            found(&[named, second()], &[ONE, nameless]),
            1,
            "a name without an id"
        );
        let neither = row("MQTT-1.1.1-2", &[], None);
        assert_eq!(
            found(&[first(), neither], &[ONE]),
            1,
            "neither test nor reason"
        );
        let both = row("MQTT-1.1.1-1", &[ONE], Some("nobody can see it"));
        assert_eq!(found(&[both, second()], &[ONE]), 1, "test and reason");
        assert_eq!(found(&[first(), second()], &[ONE, ONE]), 1, "a test twice");
    }

    #[test]
    fn tests_are_found_in_a_source() {
        let source = "#[test]\nfn a() {}\nfn b() {}\n    #[test]\n    #[allow(x)]\n    fn c() {}\n";
        assert_eq!(tests_of(source), ["a", "c"]);
    }
}
