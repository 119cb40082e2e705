//! The binary as its users see it: runs against the floor, and against brokers that lose, repeat and reorder.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with a panic when something is not as expected"
)]

mod faulty_broker;

use std::process::{Command, Output};

use faulty_broker::{Fault, start};
use serde_json::Value;

fn bench(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringmq-bench"))
        .args(arguments.split(' '))
        .arg("--quiet")
        .output()
        .expect("the binary starts")
}

/// Runs with JSON as output; gives exit code and reports.
fn reports(arguments: &str) -> (i32, Vec<Value>) {
    let output = bench(&format!("{arguments} --format json"));
    let text = String::from_utf8(output.stdout).unwrap();
    let reports = text.lines().map(|line| serde_json::from_str(line).unwrap());
    let reports: Vec<Value> = reports.collect();
    if reports.is_empty() {
        panic!("no report: {}", String::from_utf8_lossy(&output.stderr));
    }
    (output.status.code().unwrap(), reports)
}

fn number(report: &Value, pointer: &str) -> f64 {
    let found = report.pointer(pointer).and_then(Value::as_f64);
    found.unwrap_or_else(|| panic!("no {pointer} in {report}"))
}

fn fault_sum(report: &Value) -> f64 {
    let faults = report["faults"].as_object().unwrap();
    faults.values().map(|value| value.as_f64().unwrap()).sum()
}

#[test]
fn every_shape_passes_against_the_floor() {
    let short = "--start floor --warmup 0.1 --seconds 0.3";
    for scenario in [
        "p2p-saturated --publishers 10",
        "p2p-saturated --publishers 10 --qos 1",
        "p2p-saturated --publishers 10 --rate 2000 --payload 1024",
        "p2p-saturated --publishers 10 --threads 2",
        "fanout-saturated --publishers 3 --subscribers 20",
        "fanin --publishers 20 --qos 1",
        "p2p-1K-1K-1K-1K --scale 0.02",
        "fanout-5-1000-5-250K --scale 0.02",
    ] {
        let (code, reports) = reports(&format!("run {scenario} {short}"));
        let report = &reports[0];
        assert_eq!((code, fault_sum(report)), (0, 0.0), "{scenario}: {report}");
        let (sent, delivered) = (
            number(report, "/phases/0/sent"),
            number(report, "/phases/0/delivered"),
        );
        assert!(sent > 0.0 && delivered > 0.0, "{scenario}: {report}");
        assert!(number(report, "/phases/0/latency/p99") > 0.0);
        assert!(number(report, "/phases/0/broker/cpu_s") > 0.0);
    }
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let rate = "run p2p-saturated --start floor --publishers 5 --rate 1000 --warmup 0 --seconds 1";
    let (code, reports) = reports(rate);
    let report = &reports[0];
    assert_eq!(code, 0);
    // On a busy machine the last are sent late, but the next phase would send them.
    let sent = number(report, "/phases/0/sent");
    assert!((700.0..=1300.0).contains(&sent), "{sent}");
    assert!(number(report, "/phases/0/lag/count") > 0.0);
}

#[test]
fn connections_come_at_their_rate_and_are_counted() {
    let connect =
        "run conn-tcp-10K-100 --start floor --connections 200 --connect-rate 1000 --seconds 0.2";
    let (code, reports) = reports(connect);
    assert_eq!(code, 0, "{}", reports[0]);
    assert_eq!(number(&reports[0], "/phases/0/delivered"), 200.0);
}

#[test]
fn loss_duplicates_and_disorder_are_found() {
    for (fault, name) in [
        (Fault::Lose, "lost"),
        (Fault::Repeat, "duplicates"),
        (Fault::Swap, "disorder"),
    ] {
        let address = start(fault);
        let run = format!(
            "run p2p-saturated --publishers 2 --rate 1000 --warmup 0 --seconds 0.4 --address {address}"
        );
        let (code, reports) = reports(&run);
        let faults = &reports[0]["faults"];
        assert_eq!(code, 1, "{name}: {faults}");
        let found = faults[name].as_f64().unwrap();
        assert!(found > 0.0, "{name}: {faults}");
        assert_eq!(fault_sum(&reports[0]), found, "only {name}: {faults}");
    }
}

#[test]
fn a_broker_without_faults_passes_the_same_test() {
    let address = start(Fault::None);
    let run =
        format!("run p2p-saturated --publishers 2 --warmup 0 --seconds 0.3 --address {address}");
    let (code, reports) = reports(&run);
    assert_eq!((code, fault_sum(&reports[0])), (0, 0.0), "{}", reports[0]);
}

#[test]
fn brokers_are_compared_in_turn() {
    let own = env!("CARGO_BIN_EXE_ringmq-bench");
    let output = Command::new(own)
        .args(["compare", "p2p-saturated", "--broker", "floor", "--broker"])
        .arg(format!("other={own} floor --listen 127.0.0.1:{{port}}"))
        .args("--runs 2 --publishers 5 --warmup 0 --seconds 0.2 --quiet".split(' '))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let turns = text
        .lines()
        .filter_map(|line| line.strip_prefix("p2p-saturated on "));
    let turns: Vec<_> = turns.map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(turns, ["floor", "other", "floor", "other"]);
    let row = text
        .lines()
        .find(|line| line.starts_with("| other |"))
        .unwrap();
    assert!(row.matches(" (").count() >= 3, "ratios: {row}");
}

#[test]
fn saved_runs_are_rendered() {
    let dir = tempfile::tempdir().unwrap();
    let (saved, page) = (dir.path().join("runs.jsonl"), dir.path().join("page.html"));
    let (saved, page) = (saved.to_str().unwrap(), page.to_str().unwrap());
    let run = "run p2p-saturated --start floor --publishers 2 --warmup 0 --seconds 0.6";
    assert!(bench(&format!("{run} --save {saved}")).status.success());
    let output = bench(&format!("report {saved} --html {page} --format markdown"));
    assert!(output.status.success());
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(
        table.contains("| p2p-saturated | floor | measured (messages) |"),
        "{table}"
    );
    let html = std::fs::read_to_string(page).unwrap();
    assert_eq!(html.matches("<svg").count(), 3);
}

#[test]
fn what_cannot_be_is_refused_in_words() {
    for (arguments, words) in [
        ("run no-such", "there is no scenario no-such"),
        ("run fanin --messages 5", "fanin has no --messages"),
        ("run fanin --rate 5 --window 5", "either --rate"),
        ("run fanin --qos 3", "--qos must be 0, 1 or 2"),
        ("run crash", "starts the broker itself"),
        ("run fanin --start x", "broker x is not known"),
        ("run fanin --address 127.0.0.1:1", "127.0.0.1:1"),
    ] {
        let output = bench(arguments);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}");
        assert!(text.contains(words), "{arguments}: {text}");
    }
}
