//! How fast connections and messages may come: held back first, then told.

use std::time::{Duration, Instant};

use crate::hostile::{Others, expect_counted_at};
use crate::support::{Broker, Client, Connect, Kind, Next, Publish, Version, packet, property};

#[test]
fn connections_beyond_the_rate_are_closed_at_accept() {
    let broker =
        Broker::with("listener.connections_per_s_max = 5\nlistener.connect_timeout_s = 60");
    let start = Instant::now();
    let mut open = 0;
    for n in 0..40 {
        let mut client = Client::open(broker.address(), Version::V5);
        let sent = client.try_send_raw(&Connect::new(&format!("c{n}")).bytes());
        if sent && client.next(Duration::from_secs(5)).is_packet() {
            open += 1;
        }
    }
    let most = 5 + 5 * (start.elapsed().as_millis() / 1000 + 1);
    assert!(open >= 5 && open <= most, "{open} of 40, {most} at most");
    broker.expect_log(&["connection refused", "connections_per_s_max"]);
}

/// How long it takes until all of `count` messages that are sent at once are acknowledged.
fn time_of(client: &mut Client, count: u16, payload: usize) -> Duration {
    let bytes: Vec<u8> = (1..=count)
        .flat_map(|identifier| {
            let publish = Publish::new("rate", vec![b'x'; payload]).qos(1);
            publish.identifier(identifier).bytes(Version::V5)
        })
        .collect();
    let start = Instant::now();
    client.send_raw(&bytes);
    for identifier in 1..=count {
        client.wait_for_acknowledgement(Kind::PubAck, identifier);
    }
    start.elapsed()
}

#[test]
fn messages_beyond_the_rate_wait_and_none_is_lost() {
    let broker = Broker::with("listener.publish_messages_per_s_max = 100");
    let mut reader = broker.client("reader");
    reader.subscribe("rate", 0);
    let others = Others::of(&broker);
    let mut writer = broker.client("writer");
    // A second is saved up; the next 200 take two.
    let taken = time_of(&mut writer, 300, 1);
    assert!(
        taken > Duration::from_millis(1_800) && taken < Duration::from_millis(6_000),
        "{taken:?}"
    );
    for _ in 0..300 {
        reader.expect_message("rate", "x");
    }
    others.expect_served();
}

#[test]
fn bytes_beyond_the_rate_wait() {
    let broker = Broker::with("listener.publish_bytes_per_s_max = \"64KiB\"");
    let mut writer = broker.client("writer");
    let taken = time_of(&mut writer, 20, 10_000);
    // 200,000 bytes, of which a second's 65,536 were saved up.
    assert!(
        taken > Duration::from_millis(1_600) && taken < Duration::from_millis(6_000),
        "{taken:?}"
    );
}

#[test]
fn one_that_is_held_back_is_not_taken_for_dead() {
    let broker = Broker::with("listener.publish_bytes_per_s_max = 1024");
    let mut writer = Client::connect(&broker, Connect::new("writer").keep_alive_s(1));
    // Paid off in 6 s, in which nothing more is read; the ping behind it is answered then.
    writer.publish("rate", vec![b'x'; 7_000], 1);
    writer.send_raw(
        &Publish::new("rate", "y")
            .qos(1)
            .identifier(9)
            .bytes(Version::V5),
    );
    writer.send_raw(&packet::PINGREQ);
    writer.wait_for_acknowledgement(Kind::PubAck, 9);
    writer.expect(Kind::PingResp);
}

#[test]
fn one_that_presses_on_is_told_0x96() {
    let broker = Broker::with(
        "listener.publish_messages_per_s_max = 50\nlistener.publish_rate_patience_s = 1\n\
         system_topics.interval_s = 1",
    );
    let mut calm = broker.client("calm");
    let mut writer = broker.client("writer");
    let many = Publish::new("rate", "x").bytes(Version::V5).repeat(500);
    let start = Instant::now();
    writer.send_raw(&many);
    writer.expect_end(0x96);
    assert!(start.elapsed() > Duration::from_millis(900), "too early");
    assert!(start.elapsed() < Duration::from_secs(6), "too late");
    let mut old = broker.client_of(Version::V311, "old");
    old.send_raw(&Publish::new("rate", "x").bytes(Version::V311).repeat(500));
    old.expect_end(0x96);
    broker.expect_log(&["writer", "publish_rate_patience_s"]);
    expect_counted_at(
        broker.address(),
        "connections/ended/message_rate_too_high",
        2..=2,
    );
    calm.publish("rate", "x", 1);
}

#[test]
fn a_short_keep_alive_becomes_the_shortest_that_is_served() {
    let broker = Broker::with("listener.keep_alive_s_min = 5\nlistener.keep_alive_s_max = 30");
    for (asked, told) in [
        (1, Some(5)),
        (5, None),
        (20, None),
        (60, Some(30)),
        (0, Some(30)),
    ] {
        let client = Client::connect(&broker, Connect::new("client").keep_alive_s(asked));
        assert_eq!(client.granted(property::SERVER_KEEP_ALIVE), told, "{asked}");
    }
    let old = Connect::new("old").version(Version::V311).keep_alive_s(1);
    let mut old = Client::connect(&broker, old);
    assert!(matches!(
        old.next(Duration::from_millis(2_500)),
        Next::Silence
    ));
    old.send_raw(&packet::PINGREQ);
    old.expect(Kind::PingResp);
}
