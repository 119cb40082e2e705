//! Connections whose packets wait for a later turn, and that are ended meanwhile.

use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::packet::{DISCONNECT, PINGREQ};
use crate::support::{Broker, Client, Connect, Publish, Subscribe, Version, Will, sleep_ms};

#[test]
fn a_disconnect_behind_a_subscribe_counts_though_the_client_has_closed() {
    let broker = Broker::with("shards = 4");
    let mut watch = broker.client("watch");
    watch.subscribe("will/#", 0);
    for n in 0..100 {
        let connect = Connect::new(&format!("leaves-{n}")).will(Will::new("will/leaves", b"x"));
        let mut client = Client::connect(&broker, connect);
        let mut bytes = Subscribe::to(&format!("a/{n}/+"), 0).bytes(Version::V5, 1);
        bytes.extend(DISCONNECT);
        client.send_raw(&bytes);
        drop(client);
    }
    watch.expect_nothing(500); // [MQTT-3.14.4-3]
    watch.expect_nothing_before_pong();
}

#[test]
fn messages_before_the_end_of_a_paused_connection_arrive() {
    let broker = Broker::with("network.receive_budget_bytes = \"1KiB\"");
    let mut reader = broker.client("reader");
    reader.subscribe("t", 0);
    reader.subscribe("will", 0);
    for round in 0..10 {
        let connect = Connect::new("writer").will(Will::new("will", b"x"));
        let mut writer = Client::connect(&broker, connect);
        let mut bytes = Vec::new();
        for n in 0..500 {
            bytes.extend(Publish::new("t", format!("{round}/{n}")).bytes(Version::V5));
        }
        bytes.extend(DISCONNECT);
        writer.send_raw(&bytes);
        drop(writer);
        for n in 0..500 {
            reader.expect_message("t", format!("{round}/{n}"));
        }
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn a_reset_behind_a_paused_connection_ends_it_after_its_packets() {
    let broker = Broker::with("network.receive_budget_bytes = \"1KiB\"");
    let mut reader = broker.client("reader");
    reader.subscribe("t", 0);
    let mut writer = broker.client("writer");
    writer.subscribe("echo", 0);
    let mut bytes = Vec::new();
    for n in 0..300 {
        bytes.extend(Publish::new("echo", "x").bytes(Version::V5));
        bytes.extend(Publish::new("t", n.to_string()).bytes(Version::V5));
    }
    writer.send_raw(&bytes);
    // Closed with bytes that it has not read: a reset.
    sleep_ms(1);
    drop(writer);
    let first = reader.drain(500);
    let numbers: Vec<String> = first.iter().map(|message| message.text().into()).collect();
    let expected: Vec<String> = (0..numbers.len()).map(|n| n.to_string()).collect();
    assert_eq!(numbers, expected, "in order and without gaps");
    let again = broker.client("writer");
    again.disconnect();
}

/// A client that reads nothing of what it has been sent, and one that gets its Will.
fn deaf_and_watch(broker: &Broker) -> (Client, Client) {
    let mut watch = broker.client("watch");
    watch.subscribe("will", 0);
    let connect = Connect::new("deaf").will(Will::new("will", b"gone"));
    let mut deaf = Client::connect(broker, connect);
    deaf.subscribe("flow", 1);
    let mut writer = broker.client("writer");
    for _ in 0..900 {
        writer.publish("flow", vec![0; 20_000], 1);
    }
    (deaf, watch)
}

const DEAF: &str = "network.close_linger_s = 1\nnetwork.output_bytes_max = \"4KiB\"";

#[test]
fn a_client_that_has_ended_and_does_not_read_is_let_go() {
    let broker = Broker::with(DEAF);
    let (mut deaf, mut watch) = deaf_and_watch(&broker);
    // The broker finds a packet and the end together, unless the signal is slow.
    broker.signal(Signal::STOP);
    deaf.send_raw(&PINGREQ);
    let end = Shutdown::Write;
    deaf.stream().shutdown(end).expect("a half close");
    broker.signal(Signal::CONT);
    watch.expect_message("will", "gone");
}

#[test]
fn a_client_that_ends_while_it_is_paused_and_does_not_read_is_let_go() {
    let broker = Broker::with(DEAF);
    let (mut deaf, mut watch) = deaf_and_watch(&broker);
    deaf.send_raw(&PINGREQ);
    // Longer than the broker looks after a paused connection for the first time.
    watch.expect_nothing(1_500);
    let end = Shutdown::Write;
    deaf.stream().shutdown(end).expect("a half close");
    watch.expect_message("will", "gone");
}

#[test]
fn a_paused_connection_that_the_broker_ends_is_closed_when_its_client_closes() {
    let settings = "network.close_linger_s = 60\nnetwork.receive_budget_bytes = \"1KiB\"";
    let mut broker = Broker::with(&format!("shards = 1\n{settings}"));
    // Before 5.0 there is no DISCONNECT to be sent first.
    let mut first = Client::connect(&broker, Connect::new("same").v311());
    let one = Publish::new("t", [0; 100]).bytes(Version::V311);
    let mut second = Client::open(broker.address(), Version::V5);
    sleep_ms(100);
    // The broker finds both in one turn: it pauses the first connection and ends it.
    broker.signal(Signal::STOP);
    first.send_raw(&one.repeat(300));
    second.send_raw(&Connect::new("same").bytes());
    broker.signal(Signal::CONT);
    second.expect_accepted();
    first.expect_closed();
    let before = broker.descriptors();
    drop(first);
    let start = Instant::now();
    while broker.descriptors() >= before {
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "the socket is still there"
        );
        sleep_ms(20);
    }
    second.disconnect();
    broker.signal(Signal::TERM);
    assert!(broker.wait().success());
}
