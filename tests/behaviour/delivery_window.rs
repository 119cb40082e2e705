//! Receive Maximum both ways (3.1.2.11.3, 4.9) and Maximum Packet Size both ways.

use crate::support::{
    Broker, Client, Connect, Kind, Publish, SILENCE_MS, Value, Version, property,
};

#[test]
fn the_broker_keeps_to_the_clients_receive_maximum() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("reader").receive_maximum(3));
    reader.subscribe("t", 1);
    let mut writer = broker.client("writer");
    for n in 0..20 {
        writer.publish("t", n.to_string(), 1);
    }
    let mut open: Vec<u16> = Vec::new();
    let mut seen = 0;
    while seen < 20 {
        while open.len() < 3 && seen < 20 {
            let message = reader.expect(Kind::Publish);
            assert_eq!(message.text(), seen.to_string());
            assert!(
                !open.contains(&message.identifier),
                "an identifier that is in use"
            );
            open.push(message.identifier);
            seen += 1;
        }
        reader.expect_nothing_before_pong();
        // Not in order: the window opens for each acknowledgement.
        let identifier = open.pop().unwrap();
        reader.acknowledge(Kind::PubAck, identifier);
    }
}

#[test]
fn a_qos_2_message_holds_its_place_until_pubcomp() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("reader").receive_maximum(1));
    reader.subscribe("t", 2);
    let mut writer = broker.client("writer");
    for n in 0..3 {
        writer.publish("t", n.to_string(), 2);
    }
    for n in 0..3 {
        let message = reader.expect(Kind::Publish);
        assert_eq!(message.text(), n.to_string());
        reader.expect_nothing_before_pong();
        reader.acknowledge(Kind::PubRec, message.identifier);
        reader.expect(Kind::PubRel);
        reader.expect_nothing_before_pong();
        reader.acknowledge(Kind::PubComp, message.identifier);
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn a_pubrec_with_an_error_ends_the_delivery() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("reader").receive_maximum(1));
    reader.subscribe("t", 2);
    let mut writer = broker.client("writer");
    writer.publish("t", "refused", 2);
    writer.publish("t", "taken", 2);
    let message = reader.expect(Kind::Publish);
    reader.acknowledge_with(Kind::PubRec, message.identifier, 0x97);
    reader.expect_message("t", "taken");
}

#[test]
fn a_puback_with_an_error_ends_the_delivery() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("reader").receive_maximum(1).lasting());
    reader.subscribe("t", 1);
    let mut writer = broker.client("writer");
    writer.publish("t", "refused", 1);
    writer.publish("t", "taken", 1);
    let message = reader.expect(Kind::Publish);
    reader.acknowledge_with(Kind::PubAck, message.identifier, 0x80);
    reader.expect_message("t", "taken");
    reader.expect_nothing_before_pong();
    reader.disconnect();
    let mut again = Client::connect(&broker, Connect::new("reader").lasting());
    again.expect_nothing_before_pong();
}

#[test]
fn qos_0_passes_a_closed_window() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("reader").receive_maximum(1));
    reader.subscribe("t", 2);
    let mut writer = broker.client("writer");
    writer.publish("t", "first", 1);
    writer.publish("t", "waits", 1);
    assert_eq!(reader.expect(Kind::Publish).text(), "first");
    writer.publish("t", "passes", 0);
    assert_eq!(reader.expect(Kind::Publish).text(), "passes");
}

#[test]
fn the_window_of_a_client_before_5_never_stalls() {
    let broker = Broker::start();
    let mut reader = broker.client_of(Version::V311, "reader");
    reader.subscribe("t", 1);
    let mut writer = broker.client("writer");
    for n in 0..3_000 {
        writer.publish("t", n.to_string(), 1);
    }
    for n in 0..3_000 {
        reader.expect_message("t", n.to_string());
    }
}

#[test]
fn the_brokers_receive_maximum_is_told_and_holds() {
    let broker = Broker::with("listener.receive_maximum = 3");
    let mut writer = broker.client("writer");
    assert_eq!(writer.granted(property::RECEIVE_MAXIMUM), Some(3));
    for identifier in 1..=3 {
        writer.send_raw(
            &Publish::new("t", "x")
                .qos(2)
                .identifier(identifier)
                .bytes(Version::V5),
        );
        writer.expect(Kind::PubRec);
    }
    // One done, one more: still three.
    writer.acknowledge(Kind::PubRel, 1);
    writer.expect(Kind::PubComp);
    writer.send_raw(
        &Publish::new("t", "x")
            .qos(2)
            .identifier(4)
            .bytes(Version::V5),
    );
    writer.expect(Kind::PubRec);
    // QoS 1 that was acknowledged does not count.
    for identifier in 10..20 {
        writer.publish_with(Publish::new("t", "x").qos(1).identifier(identifier));
        writer.acknowledge(Kind::PubRel, 2);
        writer.wait_for_acknowledgement(Kind::PubComp, 2);
        writer.send_raw(
            &Publish::new("t", "x")
                .qos(2)
                .identifier(2)
                .bytes(Version::V5),
        );
        writer.expect(Kind::PubRec);
    }
    writer.send_raw(
        &Publish::new("t", "x")
            .qos(2)
            .identifier(5)
            .bytes(Version::V5),
    );
    writer.expect_end(0x93);
}

#[test]
fn the_brokers_maximum_packet_size_is_told_and_holds() {
    let broker = Broker::with("listener.packet_bytes_max = 1000");
    for (size, fits) in [(900, true), (984, true), (1_100, false), (50_000, false)] {
        let mut writer = broker.client("writer");
        assert_eq!(writer.granted(property::MAXIMUM_PACKET_SIZE), Some(1_000));
        let publish = Publish::new("t", vec![0; size]).qos(1).identifier(1);
        if fits {
            writer.publish_with(publish);
        } else {
            writer.try_send_raw(&publish.bytes(Version::V5));
            writer.expect_end(0x95);
        }
    }
    let mut old = broker.client_of(Version::V311, "old");
    old.try_send_raw(&Publish::new("t", vec![0; 1_100]).bytes(Version::V311));
    old.expect_closed();
}

#[test]
fn a_packet_that_is_too_large_is_refused_by_its_length_alone() {
    let broker = Broker::with("listener.packet_bytes_max = 1000");
    let mut writer = broker.client("writer");
    writer.send_raw(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
    writer.expect_end(0x95);
}

#[test]
fn a_connect_that_is_too_large_is_refused() {
    let broker = Broker::with("listener.packet_bytes_max = 1000");
    let mut client = Client::open(broker.address(), Version::V5);
    client.try_send_raw(&Connect::new(&"x".repeat(2_000)).bytes());
    match client.next(crate::support::PATIENCE) {
        crate::support::Next::Closed => {}
        crate::support::Next::Packet(connack) => {
            assert_eq!((connack.kind, connack.code), (Kind::ConnAck, 0x95));
        }
        crate::support::Next::Silence => panic!("no answer"),
    }
}

#[test]
fn the_broker_keeps_to_the_clients_maximum_packet_size() {
    let broker = Broker::start();
    let connect = Connect::new("reader").receive_maximum(1);
    let connect = connect.property(property::MAXIMUM_PACKET_SIZE, Value::Four(100));
    let mut reader = Client::connect(&broker, connect);
    let mut other = broker.client("other");
    for client in [&mut reader, &mut other] {
        client.subscribe("t", 2);
    }
    let mut writer = broker.client("writer");
    for qos in 0..3 {
        for size in [10, 200, 20, 5_000, 30] {
            writer.publish("t", vec![b'x'; size], qos);
        }
    }
    for qos in 0..3 {
        for size in [10, 20, 30] {
            let message = reader.message();
            assert_eq!(
                (message.qos, message.payload.len()),
                (qos, size),
                "[MQTT-3.1.2-25]"
            );
            assert!(message.packet_bytes <= 100);
        }
        for size in [10, 200, 20, 5_000, 30] {
            assert_eq!(other.message().payload.len(), size);
        }
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn a_message_that_exactly_fits_is_delivered() {
    let broker = Broker::start();
    let connect = Connect::new("reader");
    let connect = connect.property(property::MAXIMUM_PACKET_SIZE, Value::Four(100));
    let mut reader = Client::connect(&broker, connect);
    reader.subscribe("t", 0);
    let mut writer = broker.client("writer");
    // Fixed header 2, topic 3, Property Length 1: 94 are left.
    writer.publish("t", vec![b'x'; 95], 0);
    writer.publish("t", vec![b'x'; 94], 0);
    let message = reader.message();
    assert_eq!((message.packet_bytes, message.payload.len()), (100, 94));
    reader.expect_nothing(SILENCE_MS);
}

#[test]
fn an_oversized_message_does_not_block_a_stored_session() {
    let broker = Broker::start();
    let small =
        |connect: Connect| connect.property(property::MAXIMUM_PACKET_SIZE, Value::Four(100));
    let mut reader = Client::connect(&broker, small(Connect::new("reader").lasting()));
    reader.subscribe("t", 1);
    reader.disconnect();
    let mut writer = broker.client("writer");
    writer.publish("t", vec![b'x'; 1_000], 1);
    writer.publish("t", "fits", 1);
    let mut reader = Client::connect(&broker, small(Connect::new("reader").lasting()));
    reader.expect_message("t", "fits");
    reader.expect_nothing_before_pong();
}

#[test]
fn the_window_has_a_limit_in_bytes() {
    const KIB: usize = 1024;
    let broker = Broker::with("session.in_flight_bytes_max = \"1MiB\"");
    for qos in [1, 2] {
        let mut reader = broker.client("reader");
        reader.subscribe("t", qos);
        let mut writer = broker.client("writer");
        for _ in 0..12 {
            writer.publish("t", vec![b'x'; 200 * KIB], qos);
        }
        // The sixth reaches the limit.
        let first = reader.expect(Kind::Publish);
        assert_eq!(reader.drain_without_acknowledging(SILENCE_MS), 5);
        let answer = [Kind::PubAck, Kind::PubRec][usize::from(qos - 1)];
        reader.acknowledge(answer, first.identifier);
        if qos == 2 {
            reader.wait_for_acknowledgement(Kind::PubRel, first.identifier);
            reader.acknowledge(Kind::PubComp, first.identifier);
        }
        reader.expect(Kind::Publish);
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn a_message_over_the_limit_of_the_window_is_delivered_all_the_same() {
    let broker = Broker::with("session.in_flight_bytes_max = \"1KiB\"");
    let mut reader = broker.client("reader");
    reader.subscribe("t", 1);
    let mut writer = broker.client("writer");
    for size in [5_000, 10, 200_000] {
        writer.publish("t", vec![b'x'; size], 1);
    }
    for size in [5_000, 10, 200_000] {
        assert_eq!(reader.message().payload.len(), size);
    }
}

fn takes(connect: Connect, bytes: u32) -> Connect {
    connect.property(property::MAXIMUM_PACKET_SIZE, Value::Four(bytes))
}

#[test]
fn connack_keeps_to_the_clients_maximum_packet_size() {
    let broker = Broker::start();
    let whole = broker.client("whole").connack.unwrap().packet_bytes as u32;
    let present = broker.client("present");
    let mut taken = 0;
    for bytes in 1..=whole {
        let mut client = Client::open(broker.address(), Version::V5);
        client.send_raw(&takes(Connect::new("small"), bytes).bytes());
        match client.next(crate::support::PATIENCE) {
            crate::support::Next::Closed => assert!(bytes < 5, "no CONNACK of {bytes} bytes"),
            crate::support::Next::Packet(connack) => {
                assert!(
                    connack.packet_bytes <= bytes as usize,
                    "{bytes}: {connack:?}"
                );
                assert!(matches!(connack.code, 0 | 0x95), "{connack:?}");
                taken += u32::from(connack.code == 0);
            }
            crate::support::Next::Silence => panic!("no answer"),
        }
    }
    assert!((2..20).contains(&taken), "{taken} sizes fit");
    // A refusal touches no session of the same name.
    let mut client = Client::open(broker.address(), Version::V5);
    client.send_raw(&takes(Connect::new("present"), 6).bytes());
    assert_eq!(client.expect(Kind::ConnAck).code, 0x95);
    let mut present = present;
    present.expect_nothing_before_pong();
}

#[test]
fn refusals_keep_to_the_clients_maximum_packet_size() {
    let broker = Broker::start();
    let refused = |bytes| {
        let method = Value::Text("unknown".into());
        let connect = Connect::new("").property(property::AUTHENTICATION_METHOD, method);
        let mut client = Client::open(broker.address(), Version::V5);
        client.send_raw(&takes(connect, bytes).bytes());
        let connack = client.expect(Kind::ConnAck);
        client.expect_closed();
        assert!(connack.packet_bytes <= bytes as usize);
        assert_eq!(connack.code, 0x8c);
        connack.property(property::REASON_STRING).is_some()
    };
    assert!(refused(200));
    assert!(!refused(10));
    assert!(!refused(5));
}

#[test]
fn a_suback_that_does_not_fit_ends_the_connection() {
    let broker = Broker::start();
    let connect = takes(Connect::new("small").lasting(), 40);
    let mut client = Client::connect(&broker, connect.clone());
    let mut subscribe = crate::support::Subscribe::to("t/0", 0);
    for n in 1..50 {
        subscribe = subscribe.and(&format!("t/{n}"), 0);
    }
    client.send_raw(&subscribe.bytes(Version::V5, 1));
    client.expect_end(0x95);
    let mut client = Client::connect(&broker, connect);
    let filters: Vec<String> = (0..50).map(|n| format!("t/{n}")).collect();
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    client.send_raw(&crate::support::packet::unsubscribe(
        Version::V5,
        2,
        &filters,
    ));
    client.expect_end(0x95);
}
