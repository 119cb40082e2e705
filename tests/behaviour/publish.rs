//! PUBLISH: the flows of QoS 0, 1 and 2, duplicates, Packet Identifiers, payloads.

use crate::support::packet::{NO_LOCAL, VERSIONS};
use crate::support::{
    Broker, Client, Connect, Kind, Next, PATIENCE, Publish, Value, Version, property,
};

#[test]
fn the_lower_qos_of_publication_and_subscription_counts() {
    let broker = Broker::start();
    for from in VERSIONS {
        for to in VERSIONS {
            for granted in 0..3 {
                let mut reader = broker.client_of(to, "reader");
                reader.subscribe("t", granted);
                let mut writer = broker.client_of(from, "writer");
                for published in 0..3 {
                    let payload = format!("{from:?} {to:?} {granted} {published}");
                    writer.publish("t", &payload, published);
                    let message = reader.expect_message("t", &payload);
                    assert_eq!(message.qos, granted.min(published), "{payload}");
                    assert!(!message.dup, "{payload}: DUP on a first delivery");
                    assert!(!message.retain, "{payload}");
                }
            }
        }
    }
}

#[test]
fn acknowledgements_tell_whether_anyone_listens() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("heard", 0);
    let mut writer = broker.client("writer");
    for qos in [1, 2] {
        assert_eq!(writer.publish_with(Publish::new("heard", "x").qos(qos)), 0);
        assert_eq!(
            writer.publish_with(Publish::new("unheard", "x").qos(qos)),
            0x10
        );
    }
}

#[test]
fn acknowledgements_before_5_are_four_bytes() {
    let broker = Broker::start();
    let mut writer = broker.client_of(Version::V311, "writer");
    writer.send_raw(
        &Publish::new("t", "x")
            .qos(1)
            .identifier(1)
            .bytes(Version::V311),
    );
    assert_eq!(writer.expect(Kind::PubAck).packet_bytes, 4);
    writer.send_raw(
        &Publish::new("t", "x")
            .qos(2)
            .identifier(2)
            .bytes(Version::V311),
    );
    assert_eq!(writer.expect(Kind::PubRec).packet_bytes, 4);
    writer.acknowledge(Kind::PubRel, 2);
    assert_eq!(writer.expect(Kind::PubComp).packet_bytes, 4);
}

#[test]
fn qos_2_is_delivered_once_however_often_it_is_sent() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut reader = broker.client("reader");
        reader.subscribe("t", 2);
        let mut writer = broker.client_of(version, "writer");
        let publish = Publish::new("t", "once").qos(2).identifier(5);
        writer.send_raw(&publish.bytes(version));
        writer.expect(Kind::PubRec);
        for _ in 0..3 {
            writer.send_raw(&publish.clone().dup().bytes(version));
            assert_eq!(writer.expect(Kind::PubRec).identifier, 5);
        }
        reader.expect_message("t", "once");
        writer.acknowledge(Kind::PubRel, 5);
        writer.expect(Kind::PubComp);
        // The identifier is free again, and what comes with it is a new message.
        writer.send_raw(
            &Publish::new("t", "twice")
                .qos(2)
                .identifier(5)
                .bytes(version),
        );
        writer.expect(Kind::PubRec);
        writer.acknowledge(Kind::PubRel, 5);
        writer.expect(Kind::PubComp);
        reader.expect_message("t", "twice");
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn qos_2_is_delivered_once_across_a_reconnection() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut reader = broker.client("reader");
        reader.subscribe("t", 2);
        let id = format!("writer-{version:?}");
        let connect = Connect::new(&id).version(version).lasting();
        let publish = Publish::new("t", "once").qos(2).identifier(7);
        let mut writer = Client::connect(&broker, connect.clone());
        writer.send_raw(&publish.bytes(version));
        writer.expect(Kind::PubRec);
        writer.cut();
        let mut writer = Client::connect(&broker, connect);
        writer.send_raw(&publish.dup().bytes(version));
        assert_eq!(writer.expect(Kind::PubRec).code, 0);
        writer.acknowledge(Kind::PubRel, 7);
        assert_eq!(writer.expect(Kind::PubComp).code, 0);
        reader.expect_message("t", "once");
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn qos_2_reaches_readers_before_pubrel() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("t", 0);
    let mut writer = broker.client("writer");
    writer.send_raw(
        &Publish::new("t", "now")
            .qos(2)
            .identifier(1)
            .bytes(Version::V5),
    );
    reader.expect_message("t", "now");
}

#[test]
fn a_pubrel_that_belongs_to_nothing_is_answered() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.client_of(version, "nothing");
        client.acknowledge(Kind::PubRel, 99);
        let complete = client.expect(Kind::PubComp);
        let expected = if version == Version::V5 { 0x92 } else { 0 };
        assert_eq!(
            (complete.identifier, complete.code),
            (99, expected),
            "{version:?}"
        );
        client.expect_nothing_before_pong();
    }
}

#[test]
fn a_pubrec_that_belongs_to_nothing_is_answered() {
    let broker = Broker::start();
    let mut client = broker.client("nothing");
    client.acknowledge(Kind::PubRec, 99);
    let release = client.expect(Kind::PubRel);
    assert_eq!((release.identifier, release.code), (99, 0x92));
    client.expect_nothing_before_pong();
}

#[test]
fn acknowledgements_that_belong_to_nothing_do_no_harm() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.client_of(version, "harmless");
        client.acknowledge(Kind::PubAck, 12);
        client.acknowledge(Kind::PubComp, 13);
        client.expect_nothing_before_pong();
    }
}

#[test]
fn both_sides_number_their_packets_for_themselves() {
    let broker = Broker::start();
    let mut client = broker.client("both");
    client.subscribe("t", 2);
    for identifier in 1..=20 {
        let publish = Publish::new("t", "x").qos(2).identifier(identifier);
        assert_eq!(client.publish_with(publish), 0);
    }
    for _ in 0..20 {
        client.expect_message("t", "x");
    }
}

#[test]
fn packet_identifiers_wrap_around() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("t", 1);
    let mut writer = broker.client("writer");
    // More than there are Packet Identifiers, in windows that fit every Receive Maximum.
    for window in 0..700_u32 {
        let mut bytes = Vec::new();
        for n in 0..100 {
            let identifier = (n + 1) as u16;
            let payload = (window * 100 + n).to_string();
            let publish = Publish::new("t", payload).qos(1).identifier(identifier);
            bytes.extend(publish.bytes(Version::V5));
        }
        writer.send_raw(&bytes);
        for n in 0..100 {
            let message = reader.message();
            assert_eq!(message.text(), (window * 100 + n).to_string());
            assert_eq!(writer.expect(Kind::PubAck).code, 0);
        }
    }
}

#[test]
fn an_acknowledged_message_is_not_sent_again_on_a_healthy_connection() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("t", 2);
    let mut writer = broker.client("writer");
    writer.publish("t", "one", 1);
    writer.publish("t", "two", 2);
    assert_eq!(reader.expect(Kind::Publish).text(), "one");
    assert_eq!(reader.expect(Kind::Publish).text(), "two");
    // Neither is acknowledged: it is for the client to do, in its own time [MQTT-4.4.0-1].
    reader.expect_nothing(3_000);
}

#[test]
fn payloads_of_every_size_arrive_whole() {
    let broker = Broker::start();
    for version in [Version::V311, Version::V5] {
        let mut reader = broker.client_of(version, "reader");
        reader.subscribe("size", 1);
        let mut writer = broker.client_of(version, "writer");
        // Around the steps of Remaining Length, of receive buffers, and of what is copied.
        let sizes = [
            0, 1, 117, 118, 119, 120, 121, 122, 2_030, 2_040, 2_048, 4_095, 4_096, 16_370,
        ];
        for size in sizes
            .into_iter()
            .chain([16_380, 16_384, 65_536, 300_000, 2_097_140, 2_097_152])
        {
            let payload: Vec<u8> = (0..size).map(|n: u32| (n * 31 % 251) as u8).collect();
            writer.publish("size", &payload, 1);
            let message = reader.message();
            assert!(
                message.payload == payload,
                "{version:?}: a payload of {size} bytes changed"
            );
        }
    }
}

#[test]
fn many_large_messages_to_many_readers_arrive_whole() {
    let broker = Broker::start();
    let mut readers: Vec<Client> = (0..5)
        .map(|n| broker.client(&format!("reader-{n}")))
        .collect();
    for reader in &mut readers {
        reader.subscribe("large", 1);
    }
    let mut writer = broker.client("writer");
    for round in 0..10_u8 {
        let payload = vec![round; 200_000];
        writer.publish("large", &payload, 1);
        for reader in &mut readers {
            assert!(reader.message().payload == payload, "round {round}");
        }
    }
}

#[test]
fn topics_are_compared_byte_by_byte() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    for filter in ["A/b", "/", "/a", "a/", "a//b", "ü", " "] {
        reader.subscribe(filter, 0);
    }
    let mut writer = broker.client("writer");
    for topic in ["a/b", "A/B", "a", "//", "/a/", "U", "u\u{308}", "", "  "] {
        if !topic.is_empty() {
            writer.publish(topic, "no", 1);
        }
    }
    for topic in ["A/b", "/", "/a", "a/", "a//b", "ü", " "] {
        writer.publish(topic, "yes", 1);
        reader.expect_message(topic, "yes");
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn clients_cannot_publish_to_the_brokers_topics() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut reader = broker.client("reader");
        reader.subscribe("$SYS/broker/version", 0);
        reader.subscribe("$other/x", 0);
        reader.subscribe("fence", 0);
        while reader
            .next(std::time::Duration::from_millis(200))
            .is_packet()
        {}
        for topic in ["$SYS/broker/version", "$other/x"] {
            let mut writer = broker.client_of(version, "writer");
            writer.send_raw(
                &Publish::new(topic, "forged")
                    .qos(1)
                    .identifier(1)
                    .bytes(version),
            );
            match writer.next(PATIENCE) {
                Next::Closed => {}
                Next::Packet(answer) if version == Version::V5 => {
                    assert!(answer.code >= 0x80, "{answer:?}");
                }
                Next::Packet(answer) => assert_eq!(answer.kind, Kind::PubAck),
                Next::Silence => panic!("no answer"),
            }
        }
        broker.client("fencer").publish("fence", "x", 1);
        loop {
            let message = reader.message();
            assert_ne!(message.text(), "forged");
            if message.topic == "fence" {
                break;
            }
        }
    }
}

#[test]
fn a_payload_that_is_not_what_it_says_is_refused_if_so_configured() {
    let utf8 = |payload: &[u8]| {
        let publish = Publish::new("t", payload).qos(1).identifier(1);
        publish.property(property::PAYLOAD_FORMAT_INDICATOR, Value::Byte(1))
    };
    let strict = Broker::with("message.validate_payload_format = true");
    let mut reader = strict.client("reader");
    reader.subscribe("t", 1);
    let mut writer = strict.client("writer");
    assert_eq!(writer.publish_with(utf8("grün".as_bytes())), 0);
    writer.send_raw(&utf8(b"\xff\xfe").bytes(Version::V5));
    let answer = writer.receive();
    assert!(
        matches!(answer.kind, Kind::PubAck | Kind::Disconnect),
        "{answer:?}"
    );
    assert_eq!(answer.code, 0x99);
    reader.expect_message("t", "grün");
    reader.expect_nothing_before_pong();

    let lenient = Broker::start();
    let mut reader = lenient.client("reader");
    reader.subscribe("t", 1);
    assert_eq!(lenient.client("writer").publish_with(utf8(b"\xff\xfe")), 0);
    assert_eq!(reader.message().payload, b"\xff\xfe");
}

#[test]
fn a_refused_qos_2_message_leaves_its_identifier_free() {
    let broker = Broker::with("message.validate_payload_format = true");
    let mut writer = broker.client("writer");
    let wrong = Publish::new("t", b"\xff").qos(2).identifier(3);
    let wrong = wrong.property(property::PAYLOAD_FORMAT_INDICATOR, Value::Byte(1));
    assert_eq!(writer.publish_with(wrong), 0x99);
    assert!(writer.publish_with(Publish::new("t", "x").qos(2).identifier(3)) < 0x80);
}

#[test]
fn a_publisher_that_only_no_local_excludes_is_told_that_nobody_gets_it() {
    let broker = Broker::start();
    let mut client = broker.client("alone");
    client.subscribe("t/#", 1 | NO_LOCAL);
    for qos in [1, 2] {
        assert_eq!(client.publish_with(Publish::new("t/x", "x").qos(qos)), 0x10);
    }
    client.subscribe("t/+", 1 | NO_LOCAL);
    assert_eq!(client.publish_with(Publish::new("t/x", "x").qos(1)), 0x10);
    client.subscribe("t/x", 1);
    assert_eq!(client.publish_with(Publish::new("t/x", "x").qos(1)), 0);
}
