//! Will Messages (3.1.2.5): delay x expiry x takeover x Clean Start, each cell of the table.

use std::time::{Duration, Instant};

use crate::support::packet::{self, VERSIONS};
use crate::support::property::{MESSAGE_EXPIRY_INTERVAL, SESSION_EXPIRY_INTERVAL};
use crate::support::{Broker, Client, Connect, SILENCE_MS, Value, Will, sleep_ms};

fn watcher(broker: &Broker) -> Client {
    let mut watcher = broker.client("watcher");
    watcher.subscribe("will/#", 2);
    watcher
}

fn with_will(id: &str) -> Connect {
    Connect::new(id).will(Will::new("will/w", b"gone").qos(1))
}

fn with_delay(id: &str, delay_s: u32, expiry_s: u32) -> Connect {
    let connect = Connect::new(id).will(Will::new("will/w", b"gone").qos(1).delay_s(delay_s));
    connect.resume().expiry_s(expiry_s)
}

/// How long until the will arrives.
fn time_to_will(watcher: &mut Client) -> Duration {
    let start = Instant::now();
    watcher.expect_message("will/w", "gone");
    start.elapsed()
}

#[test]
fn a_will_follows_a_connection_that_breaks() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in VERSIONS {
        for qos in 0..3 {
            for n in 0..4 {
                let will = Will::new("will/w", format!("{qos}").as_bytes()).qos(qos);
                let connect = Connect::new(&format!("dying-{n}"))
                    .version(version)
                    .will(will);
                Client::connect(&broker, connect).cut();
                let message = watcher.expect_message("will/w", format!("{qos}"));
                assert_eq!((message.qos, message.retain), (qos, false));
            }
        }
    }
}

#[test]
fn disconnect_withdraws_the_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in VERSIONS {
        Client::connect(&broker, with_will("leaving").version(version)).disconnect();
    }
    // DISCONNECT in the last segment before the connection breaks counts as well.
    let mut client = Client::connect(&broker, with_will("leaving"));
    client.send_raw(&packet::DISCONNECT);
    client.cut();
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn disconnect_with_will_message_sends_it() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for code in [0x04, 0x80] {
        let mut client = Client::connect(&broker, with_will("asking"));
        client.send_raw(&packet::disconnect(code, &[]));
        client.expect_closed();
        watcher.expect_message("will/w", "gone");
    }
}

#[test]
fn a_will_follows_keep_alive_timeout_and_protocol_errors() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let mut silent = Client::connect(&broker, with_will("silent").keep_alive_s(1));
    silent.expect_end(0x8d);
    watcher.expect_message("will/w", "gone");
    let mut wrong = Client::connect(&broker, with_will("wrong"));
    wrong.send_raw(&[0x10, 0]);
    wrong.expect_end_with(&[0x81, 0x82]);
    watcher.expect_message("will/w", "gone");
}

#[test]
fn a_will_may_be_retained_and_may_expire() {
    let broker = Broker::start();
    let will = Will::new("will/kept", b"kept").qos(1).retain();
    let will = will.property(MESSAGE_EXPIRY_INTERVAL, Value::Four(30));
    Client::connect(&broker, Connect::new("dying").will(will)).cut();
    let mut late = watcher(&broker);
    let message = late.expect_message("will/kept", "kept");
    assert!(message.retain);
    assert!(
        matches!(message.number(MESSAGE_EXPIRY_INTERVAL), Some(28..=30)),
        "{message:?}"
    );
}

#[test]
fn a_will_waits_for_its_delay() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    Client::connect(&broker, with_delay("delayed", 1, 60)).cut();
    let time = time_to_will(&mut watcher);
    assert!(
        time > Duration::from_millis(800) && time < Duration::from_millis(2_500),
        "{time:?}"
    );
}

#[test]
fn a_will_does_not_wait_longer_than_its_session() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    Client::connect(&broker, with_delay("outlived", 60, 1)).cut();
    let time = time_to_will(&mut watcher);
    assert!(
        time > Duration::from_millis(800) && time < Duration::from_millis(2_500),
        "{time:?}"
    );
    Client::connect(&broker, with_delay("at once", 60, 0)).cut();
    let time = time_to_will(&mut watcher);
    assert!(time < Duration::from_millis(800), "{time:?}");
    let mut client = Client::connect(&broker, with_delay("shortened", 60, 60));
    client.send_raw(&packet::disconnect(
        0x04,
        &[(SESSION_EXPIRY_INTERVAL, Value::Four(0))],
    ));
    client.expect_closed();
    let time = time_to_will(&mut watcher);
    assert!(time < Duration::from_millis(800), "{time:?}");
}

#[test]
fn a_client_that_returns_in_time_withdraws_its_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    Client::connect(&broker, with_delay("back", 1, 60)).cut();
    let back = Client::connect(&broker, Connect::new("back").resume().expiry_s(60));
    assert!(back.session_present());
    watcher.expect_nothing(2_000);
    // Its new connection has no will.
    back.cut();
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn a_client_that_starts_clean_sends_its_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    Client::connect(&broker, with_delay("clean", 60, 60)).cut();
    let _clean = Client::connect(&broker, Connect::new("clean"));
    watcher.expect_message("will/w", "gone"); // the session ended [MQTT-3.1.2-10]
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn a_takeover_sends_a_will_without_delay() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    for version in VERSIONS {
        let connect = with_will("taken").version(version).lasting();
        let _old = Client::connect(&broker, connect);
        let next = Connect::new("taken").version(version).lasting();
        let new = Client::connect(&broker, next);
        watcher.expect_message("will/w", "gone");
        new.disconnect();
    }
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn a_takeover_in_time_withdraws_a_delayed_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let _old = Client::connect(&broker, with_delay("taken", 1, 60));
    let _new = Client::connect(&broker, Connect::new("taken").resume().expiry_s(60));
    watcher.expect_nothing(2_000);
}

#[test]
fn a_clean_takeover_sends_a_delayed_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let _old = Client::connect(&broker, with_delay("taken", 60, 60));
    let _new = Client::connect(&broker, Connect::new("taken"));
    watcher.expect_message("will/w", "gone");
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn each_connection_has_its_own_will() {
    let broker = Broker::start();
    let mut watcher = watcher(&broker);
    let first = Connect::new("w")
        .lasting()
        .will(Will::new("will/first", b"1").qos(1));
    let second = Connect::new("w")
        .lasting()
        .will(Will::new("will/second", b"2").qos(1));
    Client::connect(&broker, first).disconnect();
    Client::connect(&broker, second).cut();
    watcher.expect_message("will/second", "2");
    Client::connect(&broker, Connect::new("w").lasting()).cut();
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn wills_reach_readers_on_every_shard_and_offline_ones() {
    let broker = Broker::start();
    let mut offline = Client::connect(&broker, Connect::new("offline").lasting());
    offline.subscribe("will/#", 1);
    offline.disconnect();
    let mut watchers: Vec<Client> = (0..8)
        .map(|n| {
            let mut watcher = broker.client(&format!("watcher-{n}"));
            watcher.subscribe("will/+", 1);
            watcher
        })
        .collect();
    Client::connect(&broker, with_will("dying")).cut();
    for watcher in &mut watchers {
        watcher.expect_message("will/w", "gone");
    }
    let mut offline = Client::connect(&broker, Connect::new("offline").lasting());
    offline.expect_message("will/w", "gone");
}

#[test]
fn a_will_with_an_empty_payload_clears_what_is_retained() {
    let broker = Broker::start();
    let publish = packet::Publish::new("will/kept", "x").qos(1).retain();
    broker.client("writer").publish_with(publish);
    Client::connect(
        &broker,
        Connect::new("dying").will(Will::new("will/kept", b"").retain()),
    )
    .cut();
    sleep_ms(100);
    let mut late = watcher(&broker);
    late.expect_nothing(SILENCE_MS);
}
