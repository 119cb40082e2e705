//! `$SYS/broker/...`: the names and values that tools made for Mosquitto expect.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::{Broker, Client, Connect, Kind, Publish, SILENCE_MS, Subscribe, Version};

const SETTINGS: &str = "system_topics.interval_s = 1";

/// Topics that monitoring tools read.
const EXPECTED: &[&str] = &[
    "version",
    "uptime",
    "clients/total",
    "clients/connected",
    "clients/disconnected",
    "clients/maximum",
    "messages/received",
    "messages/sent",
    "bytes/received",
    "bytes/sent",
    "publish/messages/received",
    "publish/messages/sent",
    "publish/messages/dropped",
    "publish/bytes/received",
    "publish/bytes/sent",
    "subscriptions/count",
    "retained messages/count",
    "load/messages/received/1min",
    "load/messages/sent/5min",
    "load/bytes/received/15min",
    "load/connections/1min",
];

/// Waits until `topic` has a value that `wanted` takes.
fn wait_for_value(reader: &mut Client, topic: &str, wanted: impl Fn(&str) -> bool) {
    let topic = format!("$SYS/broker/{topic}");
    let deadline = Instant::now() + Duration::from_secs(8);
    let mut last = String::new();
    while Instant::now() < deadline {
        let message = reader.message();
        if message.topic == topic {
            message.text().clone_into(&mut last);
            if wanted(&last) {
                return;
            }
        }
    }
    panic!("the last value of {topic} is {last:?}");
}

#[test]
fn everything_that_tools_read_is_there() {
    let broker = Broker::with(SETTINGS);
    let mut reader = broker.client("reader");
    reader.subscribe("$SYS/#", 0);
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(4);
    while Instant::now() < deadline {
        let message = reader.message();
        found.insert(message.topic.clone(), message.text().to_owned());
    }
    for name in EXPECTED {
        let topic = format!("$SYS/broker/{name}");
        let value = found
            .get(&topic)
            .unwrap_or_else(|| panic!("{topic} is missing in {found:#?}"));
        match *name {
            "version" => assert!(value.to_lowercase().contains("ringmq"), "{value}"),
            "uptime" => assert!(value.ends_with(" seconds"), "{value}"),
            _ => assert!(value.parse::<f64>().is_ok(), "{topic} is {value}"),
        }
    }
}

#[test]
fn the_counts_are_right_whatever_the_number_of_shards() {
    let broker = Broker::with(SETTINGS);
    let mut reader = broker.client("reader");
    reader.subscribe("$SYS/#", 0);
    let mut others: Vec<Client> = (0..9)
        .map(|n| broker.client(&format!("other-{n}")))
        .collect();
    for (n, other) in others.iter_mut().enumerate() {
        other.subscribe(&format!("o/{n}"), 1);
        other.publish_with(Publish::new(&format!("kept/{n}"), "x").qos(1).retain());
    }
    let stored = Client::connect(&broker, Connect::new("stored").lasting());
    stored.disconnect();
    wait_for_value(&mut reader, "clients/connected", |value| value == "10");
    wait_for_value(&mut reader, "clients/disconnected", |value| value == "1");
    wait_for_value(&mut reader, "clients/total", |value| value == "11");
    wait_for_value(&mut reader, "subscriptions/count", |value| value == "10");
    wait_for_value(&mut reader, "publish/messages/received", |value| {
        value == "9"
    });
    wait_for_value(&mut reader, "retained messages/count", |value| {
        value.parse::<u64>().is_ok_and(|count| count >= 9)
    });
    drop(others);
    wait_for_value(&mut reader, "clients/connected", |value| value == "1");
    wait_for_value(&mut reader, "subscriptions/count", |value| value == "1");
}

#[test]
fn they_come_again_and_again() {
    let broker = Broker::with(SETTINGS);
    let mut reader = broker.client("reader");
    reader.subscribe("$SYS/broker/uptime", 0);
    let first = reader.message();
    let mut last = first.clone();
    for _ in 0..3 {
        last = reader.message();
    }
    assert_ne!(first.payload, last.payload);
}

#[test]
fn many_who_subscribe_together_share_one_publication() {
    const SUBSCRIBES: u16 = 200;
    let broker = Broker::with("system_topics.interval_s = 3600\nshards = 1");
    let mut reader = broker.client("reader");
    let packets: Vec<u8> = (1..=SUBSCRIBES)
        .flat_map(|identifier| {
            Subscribe::to("$SYS/broker/uptime", 0).bytes(Version::V5, identifier)
        })
        .collect();
    reader.send_raw(&packets);
    for _ in 0..SUBSCRIBES {
        reader.wait_for("SUBACK", |packet| packet.kind == Kind::SubAck);
    }
    reader.message();
    // The packets may have been read in several turns.
    let more = reader.drain(SILENCE_MS).len();
    assert!(more < 10, "{more} more publications");
}

#[test]
fn a_zero_interval_switches_them_off() {
    let broker = Broker::with("system_topics.interval_s = 0");
    let mut reader = broker.client("reader");
    reader.subscribe("$SYS/#", 0);
    reader.expect_nothing(2_000);
}

#[test]
fn the_maximum_is_of_clients_that_were_there_at_once() {
    let broker = Broker::with(SETTINGS);
    // On every shard, one after the other: the shards' own peaks add up to more.
    for n in 0..20 {
        broker.client(&format!("passing-{n}")).disconnect();
    }
    let mut reader = broker.client("reader");
    reader.subscribe("$SYS/broker/clients/maximum", 0);
    assert_eq!(reader.message().text(), "1");
    let others: Vec<Client> = (0..4)
        .map(|n| broker.client(&format!("stays-{n}")))
        .collect();
    wait_for_value(&mut reader, "clients/maximum", |value| value == "5");
    drop(others);
    for _ in 0..2 {
        assert_eq!(reader.message().text(), "5");
    }
}
