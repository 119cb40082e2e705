//! Keep Alive (3.1.2.10): one and a half times, and not less.

use std::time::{Duration, Instant};

use crate::support::packet::{PINGREQ, VERSIONS};
use crate::support::{Broker, Client, Connect, Kind, Next, Publish, Version, property, sleep_ms};

/// Reads until the end of the connection and tells how long that took.
fn time_to_end(client: &mut Client) -> Duration {
    let start = Instant::now();
    client.expect_end(0x8d);
    start.elapsed()
}

#[test]
fn a_silent_client_is_ended_after_one_and_a_half_keep_alives() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::new("silent").version(version).keep_alive_s(1);
        let mut client = Client::connect(&broker, connect);
        let time = time_to_end(&mut client);
        assert!(
            time >= Duration::from_millis(1_400),
            "{version:?}: ended after {time:?}"
        );
        assert!(
            time < Duration::from_millis(3_000),
            "{version:?}: ended after {time:?}"
        );
    }
}

#[test]
fn any_packet_keeps_a_connection_alive() {
    let broker = Broker::start();
    let mut pings = Client::connect(&broker, Connect::new("pings").keep_alive_s(1));
    let mut publishes = Client::connect(&broker, Connect::new("publishes").keep_alive_s(1));
    for _ in 0..6 {
        sleep_ms(700);
        pings.send_raw(&PINGREQ);
        pings.expect(Kind::PingResp);
        publishes.publish_with(Publish::new("t", "x"));
    }
    publishes.expect_nothing_before_pong();
}

#[test]
fn a_part_of_a_packet_does_not_keep_a_connection_alive() {
    let broker = Broker::start();
    let mut client = Client::connect(&broker, Connect::new("dribbles").keep_alive_s(1));
    let packet = Publish::new("t", [0; 100]).bytes(Version::V5);
    let start = Instant::now();
    for byte in &packet {
        client.send_raw(&[*byte]);
        if let Next::Packet(end) = client.next(Duration::from_millis(300)) {
            assert_eq!((end.kind, end.code), (Kind::Disconnect, 0x8d));
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "still alive without a whole packet [MQTT-3.1.2-22]"
        );
    }
    client.expect_closed();
}

#[test]
fn what_the_broker_sends_does_not_keep_a_connection_alive() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("reader").keep_alive_s(1));
    reader.subscribe("t", 0);
    let mut publisher = broker.client("publisher");
    let start = Instant::now();
    loop {
        publisher.publish("t", "x", 0);
        let packet = reader.receive();
        if packet.kind == Kind::Disconnect {
            assert_eq!(packet.code, 0x8d);
            break;
        }
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "still alive without a packet"
        );
        sleep_ms(100);
    }
}

#[test]
fn keep_alive_zero_is_no_limit() {
    let broker = Broker::start();
    let mut client = Client::connect(&broker, Connect::new("zero").keep_alive_s(0));
    client.expect_nothing(2_500);
    client.expect_nothing_before_pong();
}

#[test]
fn server_keep_alive_is_told_and_holds() {
    let broker = Broker::with("listener.keep_alive_s_max = 1");
    for asked in [0, 60] {
        let mut client = Client::connect(&broker, Connect::new("asks").keep_alive_s(asked));
        assert_eq!(
            client.granted(property::SERVER_KEEP_ALIVE),
            Some(1),
            "[MQTT-3.1.2-21]"
        );
        let time = time_to_end(&mut client);
        assert!(
            time >= Duration::from_millis(1_400),
            "asked {asked}: ended after {time:?}"
        );
        assert!(
            time < Duration::from_millis(3_000),
            "asked {asked}: ended after {time:?}"
        );
    }
    let within = Client::connect(&broker, Connect::new("within").keep_alive_s(1));
    assert_eq!(within.granted(property::SERVER_KEEP_ALIVE), None);
}
