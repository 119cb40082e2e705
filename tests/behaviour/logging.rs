//! What the log says, and how it is changed.

use rustix::process::Signal;

use crate::support::{Broker, Client, Connect, Next, PATIENCE, Version, sleep_ms};

/// The lines that have all of `parts`.
fn lines(broker: &Broker, parts: &[&str]) -> Vec<String> {
    let log = broker.log();
    let lines = log
        .lines()
        .filter(|line| parts.iter().all(|part| line.contains(part)));
    lines.map(str::to_owned).collect()
}

#[test]
fn a_full_listener_is_logged_with_an_address_and_once_for_many() {
    let broker = Broker::with("shards = 1\nlistener.connections_max = 1");
    let first = broker.client("first");
    let mut addresses = Vec::new();
    for _ in 0..50 {
        let mut refused = Client::open(broker.address(), Version::V5);
        addresses.push(refused.stream().local_addr().unwrap().to_string());
        assert!(matches!(refused.next(PATIENCE), Next::Closed));
    }
    broker.expect_log(&["connections_max", &addresses[0]]);
    sleep_ms(100);
    let count = lines(&broker, &["connections_max is reached"]).len();
    assert!(count <= 10, "{count} lines for 50 connections");
    sleep_ms(1_000);
    let mut late = Client::open(broker.address(), Version::V5);
    let address = late.stream().local_addr().unwrap().to_string();
    assert!(matches!(late.next(PATIENCE), Next::Closed));
    broker.expect_log(&["connections_max", &address, "refused="]);
    drop(first);
}

#[test]
fn the_end_by_the_client_is_logged_with_its_address() {
    let broker = Broker::with("log.modules = { \"ringmq::shard\" = \"debug\" }");
    for n in 0..20 {
        let id = format!("leaves-{n}");
        let client = broker.client(&id);
        let address = client.stream().local_addr().unwrap().to_string();
        if n % 2 == 0 {
            client.cut();
        } else {
            client.disconnect();
        }
        broker.expect_log(&["connection ended", &format!("\"{id}\""), &address]);
    }
    assert!(lines(&broker, &["unknown"]).is_empty());
}

#[test]
fn a_long_client_identifier_is_cut_in_the_log() {
    let broker = Broker::start();
    let id = "\u{fc}".repeat(30_000);
    let mut client = Client::connect(&broker, Connect::new(&id));
    client.send_raw(&[0, 0]);
    client.expect_end_with(&[0x81, 0x82]);
    broker.expect_log(&["connection ended by the broker", "60000 bytes"]);
    let longest = broker.log().lines().map(str::len).max();
    assert!(longest < Some(2_000), "{longest:?} bytes in a line");
}

#[test]
fn sighup_changes_the_log_without_a_restart() {
    let broker = Broker::with("log.level = \"warn\"");
    let configuration = broker.configuration();
    let text = std::fs::read_to_string(&configuration).unwrap();
    let rewrite = |level: &str| {
        std::fs::write(&configuration, text.replace("\"warn\"", level)).unwrap();
        broker.signal(Signal::HUP);
    };
    let mut client = broker.client("before");
    client.send_raw(&[0, 0]);
    client.expect_end_with(&[0x81, 0x82]);

    rewrite("\"debug\"");
    broker.expect_log(&["configuration is read again"]);
    broker.client("during").disconnect();
    broker.expect_log(&["DEBUG", "connection ended", "during"]);

    // All or nothing: the mistake is named with its line, and the log goes on as before.
    rewrite("\"loud\"");
    broker.expect_log(&["ERROR", "ringmq.toml:", "log.level", "loud"]);
    broker.client("as-before").disconnect();
    broker.expect_log(&["DEBUG", "connection ended", "as-before"]);

    rewrite("\"info\"\nsession.in_flight_max = 7");
    broker.expect_log(&["session.in_flight_max: 1024 -> 7"]);
    broker.client("quiet").disconnect();
    let mut loud = broker.client("loud");
    loud.send_raw(&[0, 0]);
    loud.expect_end_with(&[0x81, 0x82]);
    broker.expect_log(&["INFO", "ended by the broker", "\"loud\""]);
    assert!(lines(&broker, &["connection ended", "quiet"]).is_empty());
    assert!(lines(&broker, &["\"before\""]).is_empty());
}

#[test]
fn sighup_without_a_file_changes_nothing() {
    let broker = Broker::with_arguments(&["--listen", "127.0.0.1:0", "--shards", "1"]);
    broker.signal(Signal::HUP);
    broker.expect_log(&["no configuration file to read again"]);
    broker.client("client").disconnect();
}
