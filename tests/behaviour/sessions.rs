//! Sessions (4.1): what waits for a client that is away, and what happens when it is back.

use crate::support::packet::{self, VERSIONS};
use crate::support::property::{self, SESSION_EXPIRY_INTERVAL};
use crate::support::{Broker, Client, Connect, Kind, Publish, Value, Version, sleep_ms};

#[test]
fn messages_wait_for_a_client_that_is_away() {
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("away-{version:?}");
        let connect = || Connect::new(&id).version(version).lasting();
        let mut reader = Client::connect(&broker, connect());
        reader.subscribe("q/#", 2);
        reader.disconnect();
        let mut writer = broker.client("writer");
        for n in 0..100 {
            writer.publish(&format!("q/{}", n % 7), n.to_string(), 1 + n % 2);
        }
        let mut reader = Client::connect(&broker, connect());
        for n in 0..100 {
            let message = reader.expect_message(&format!("q/{}", n % 7), n.to_string());
            assert_eq!(message.qos, 1 + n % 2);
            assert!(!message.dup, "a first delivery");
        }
        reader.expect_nothing_before_pong();
        reader.disconnect();
        let mut reader = Client::connect(&broker, connect());
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn qos_0_does_not_wait_unless_so_configured() {
    for (settings, waits) in [("", false), ("session.queue_qos0_offline = true", true)] {
        let broker = Broker::with(settings);
        let connect = || Connect::new("away").lasting();
        let mut reader = Client::connect(&broker, connect());
        reader.subscribe("q", 1);
        reader.disconnect();
        let mut writer = broker.client("writer");
        writer.publish("q", "zero", 0);
        writer.publish("q", "one", 1);
        let mut reader = Client::connect(&broker, connect());
        if waits {
            reader.expect_message("q", "zero");
        }
        reader.expect_message("q", "one");
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn unacknowledged_messages_are_sent_again_in_order() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in [1, 2] {
            let id = format!("again-{version:?}-{qos}");
            let connect = || Connect::new(&id).version(version).lasting();
            let mut reader = Client::connect(&broker, connect());
            reader.subscribe("q", qos);
            let mut writer = broker.client("writer");
            for n in 0..5 {
                writer.publish("q", n.to_string(), 2);
            }
            let sent: Vec<u16> = (0..5)
                .map(|_| reader.expect(Kind::Publish).identifier)
                .collect();
            reader.cut();
            for n in 5..8 {
                writer.publish("q", n.to_string(), 2);
            }
            let mut reader = Client::connect(&broker, connect());
            for n in 0..8_usize {
                let message = reader.message();
                assert_eq!(
                    message.text(),
                    n.to_string(),
                    "{version:?} QoS {qos} [MQTT-4.6.0-1]"
                );
                assert_eq!(message.dup, n < 5, "{version:?} QoS {qos}, message {n}");
                if let Some(identifier) = sent.get(n) {
                    assert_eq!(message.identifier, *identifier, "[MQTT-4.4.0-1]");
                }
            }
            reader.expect_nothing_before_pong();
        }
    }
}

#[test]
fn what_was_received_is_released_and_not_sent_again() {
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("release-{version:?}");
        let connect = || Connect::new(&id).version(version).lasting();
        let mut reader = Client::connect(&broker, connect());
        reader.subscribe("q", 2);
        let mut writer = broker.client("writer");
        writer.publish("q", "received", 2);
        writer.publish("q", "sent", 2);
        let first = reader.expect(Kind::Publish);
        let second = reader.expect(Kind::Publish);
        reader.acknowledge(Kind::PubRec, first.identifier);
        reader.expect(Kind::PubRel);
        reader.cut();
        let mut reader = Client::connect(&broker, connect());
        let release = reader.expect(Kind::PubRel);
        assert_eq!(release.identifier, first.identifier);
        let again = reader.expect(Kind::Publish);
        assert_eq!((again.identifier, again.dup), (second.identifier, true));
        reader.acknowledge(Kind::PubComp, first.identifier);
        reader.acknowledge(Kind::PubRec, again.identifier);
        assert_eq!(reader.expect(Kind::PubRel).identifier, again.identifier);
        reader.acknowledge(Kind::PubComp, again.identifier);
        reader.expect_nothing_before_pong();
        reader.disconnect();
        Client::connect(&broker, connect()).expect_nothing_before_pong();
    }
}

#[test]
fn a_smaller_receive_maximum_holds_on_resumption() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("smaller").lasting());
    reader.subscribe("q", 1);
    let mut writer = broker.client("writer");
    for n in 0..10 {
        writer.publish("q", n.to_string(), 1);
    }
    for _ in 0..10 {
        reader.expect(Kind::Publish);
    }
    reader.cut();
    let mut reader = Client::connect(
        &broker,
        Connect::new("smaller").lasting().receive_maximum(2),
    );
    for n in 0..10 {
        let message = reader.expect(Kind::Publish);
        assert_eq!(message.text(), n.to_string());
        if n > 0 {
            reader.expect_nothing_before_pong();
            reader.acknowledge(Kind::PubAck, message.identifier - 1);
        }
    }
}

#[test]
fn subscriptions_live_as_long_as_their_session() {
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("lives-{version:?}");
        let connect = || Connect::new(&id).version(version).lasting();
        let mut reader = Client::connect(&broker, connect());
        reader.subscribe("s/+", 1);
        reader.cut();
        for _ in 0..3 {
            let mut reader = Client::connect(&broker, connect());
            broker.client("writer").publish("s/x", "x", 1);
            reader.expect_message("s/x", "x");
            reader.expect_nothing_before_pong();
            reader.disconnect();
        }
    }
}

#[test]
fn disconnect_may_change_the_expiry() {
    let broker = Broker::start();
    let leave = |id: &str, connected: u32, at_disconnect: u32| {
        let mut client = Client::connect(&broker, Connect::new(id).resume().expiry_s(connected));
        let expiry = (SESSION_EXPIRY_INTERVAL, Value::Four(at_disconnect));
        client.send_raw(&packet::disconnect(0, &[expiry]));
        client
    };
    leave("ended", 60, 0).expect_closed();
    assert!(!Client::connect(&broker, Connect::new("ended").resume()).session_present());
    leave("longer", 1, 60).expect_closed();
    leave("shorter", 60, 1).expect_closed();
    crate::support::sleep_ms(2_500);
    assert!(Client::connect(&broker, Connect::new("longer").resume()).session_present());
    assert!(!Client::connect(&broker, Connect::new("shorter").resume()).session_present());
    // From zero to more is a Protocol Error (3.14.2.2.2).
    leave("more", 0, 60).expect_end(0x82);
}

#[test]
fn the_longest_expiry_is_told() {
    let broker = Broker::with("session.session_expiry_interval_s_max = 1");
    let client = Client::connect(&broker, Connect::new("long").resume().expiry_s(600));
    assert_eq!(
        client.granted(SESSION_EXPIRY_INTERVAL),
        Some(1),
        "Session Expiry Interval (3.2.2.3.2)"
    );
    client.disconnect();
    crate::support::sleep_ms(2_500);
    assert!(!Client::connect(&broker, Connect::new("long").resume()).session_present());
}

#[test]
fn a_full_outbox_keeps_the_oldest_messages() {
    expect_outbox(
        "session.outbox_messages_max = 10",
        &(0..10).collect::<Vec<_>>(),
    );
}

#[test]
fn a_full_outbox_keeps_the_newest_messages_if_so_configured() {
    let settings = "session.outbox_messages_max = 10\nsession.outbox_full = \"drop_oldest\"";
    expect_outbox(settings, &(40..50).collect::<Vec<_>>());
}

fn expect_outbox(settings: &str, kept: &[usize]) {
    let broker = Broker::with(settings);
    let connect = || Connect::new("full").lasting();
    let mut reader = Client::connect(&broker, connect());
    reader.subscribe("q", 1);
    reader.disconnect();
    let mut writer = broker.client("writer");
    for n in 0..50 {
        writer.publish("q", n.to_string(), 1);
    }
    let mut reader = Client::connect(&broker, connect());
    for n in kept {
        reader.expect_message("q", n.to_string());
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn an_outbox_is_limited_in_bytes_too() {
    let broker = Broker::with("session.outbox_bytes_max = 50000");
    let connect = || Connect::new("full").lasting();
    let mut reader = Client::connect(&broker, connect());
    reader.subscribe("q", 1);
    reader.disconnect();
    let mut writer = broker.client("writer");
    for _ in 0..20 {
        writer.publish("q", vec![b'x'; 10_000], 1);
    }
    let mut reader = Client::connect(&broker, connect());
    let kept = reader.drain(crate::support::SILENCE_MS).len();
    assert!(
        (3..=5).contains(&kept),
        "{kept} messages of 10,000 bytes in 50,000"
    );
}

#[test]
fn a_session_may_change_its_protocol_version() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("changes").lasting());
    reader.subscribe("q", 1);
    reader.disconnect();
    broker.client("writer").publish("q", "x", 1);
    let mut reader = Client::connect(&broker, Connect::new("changes").v311().lasting());
    assert!(reader.session_present());
    reader.expect_message("q", "x");
    reader.disconnect();
    broker.client("writer").publish("q", "y", 1);
    let mut reader = Client::connect(&broker, Connect::new("changes").lasting());
    assert!(reader.session_present());
    reader.expect_message("q", "y");
}

#[test]
fn many_clients_that_come_back_together_lose_nothing() {
    let broker = Broker::start();
    let connect = |n: usize| Connect::new(&format!("crowd-{n}")).lasting();
    for n in 0..100 {
        let mut reader = Client::connect(&broker, connect(n));
        reader.subscribe("crowd", 1);
        reader.cut();
    }
    let mut writer = broker.client_of(Version::V311, "writer");
    for n in 0..10 {
        writer.publish("crowd", n.to_string(), 1);
    }
    let mut readers: Vec<Client> = (0..100)
        .map(|n| Client::connect(&broker, connect(n)))
        .collect();
    for reader in &mut readers {
        assert!(reader.session_present());
        for n in 0..10 {
            reader.expect_message("crowd", n.to_string());
        }
    }
}

#[test]
fn expired_messages_make_room_in_a_full_outbox() {
    let broker = Broker::with("session.outbox_messages_max = 10");
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.subscribe("t", 1);
    reader.disconnect();
    let mut writer = broker.client("writer");
    writer.publish("t", "lives", 1);
    for _ in 1..10 {
        let one_second = (property::MESSAGE_EXPIRY_INTERVAL, Value::Four(1));
        let publish = Publish::new("t", "expires").qos(1);
        writer.publish_with(publish.property(one_second.0, one_second.1));
    }
    sleep_ms(1_300);
    writer.publish("t", "new", 1);
    let mut again = Client::connect(&broker, Connect::new("reader").lasting());
    again.expect_message("t", "lives");
    again.expect_message("t", "new");
    again.expect_nothing_before_pong();
}

#[test]
fn large_messages_wait_within_the_limit_in_bytes() {
    let broker = Broker::with("session.outbox_bytes_max = \"1MiB\"");
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.subscribe("t", 1);
    reader.disconnect();
    let mut writer = broker.client("writer");
    for n in 0..20u8 {
        writer.publish("t", vec![n; 150_000], 1);
    }
    // Small ones still fit into what the large ones leave.
    writer.publish("t", "small", 1);
    let mut again = Client::connect(&broker, Connect::new("reader").lasting());
    for n in 0..6u8 {
        again.expect_message("t", vec![n; 150_000]);
    }
    again.expect_message("t", "small");
    again.expect_nothing_before_pong();
}

#[test]
fn disconnect_may_repeat_an_expiry_that_the_broker_cut_to_nothing() {
    let broker = Broker::with("session.session_expiry_interval_s_max = 0");
    let mut client = Client::connect(&broker, Connect::new("cut").expiry_s(600));
    let expiry = (SESSION_EXPIRY_INTERVAL, Value::Four(300));
    client.send_raw(&packet::disconnect(0, std::slice::from_ref(&expiry)));
    client.expect_closed();
    assert!(!Client::connect(&broker, Connect::new("cut").resume()).session_present());
    // What was 0 in CONNECT stays so.
    let mut client = broker.client("none");
    client.send_raw(&packet::disconnect(0, &[expiry]));
    client.expect_end(0x82);
}
