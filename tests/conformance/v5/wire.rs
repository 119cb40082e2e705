//! Packets on the wire: byte by byte, many at once, and at every boundary of Remaining Length (2.1.4).

use super::*;
use crate::support::packet::{DISCONNECT, PINGREQ, unsubscribe};

/// A whole conversation of a client, as bytes; its own messages come back to it.
fn conversation(scene: &Scene) -> Vec<u8> {
    let topic = scene.topic("t");
    let publish = |qos| {
        Publish::new(&topic, "payload")
            .qos(qos)
            .identifier(10 + u16::from(qos))
            .bytes(Version::V5)
    };
    let mut bytes = scene.connect("talking").bytes();
    bytes.extend(
        Subscribe::to(&topic, 0)
            .identified(300)
            .bytes(Version::V5, 1),
    );
    for qos in 0..3 {
        bytes.extend(publish(qos));
    }
    bytes.extend(crate::support::packet::acknowledgement(Kind::PubRel, 12));
    bytes.extend(PINGREQ);
    bytes.extend(unsubscribe(Version::V5, 2, &[&topic]));
    bytes.extend(DISCONNECT);
    bytes
}

/// What the broker answers, in an order that does not depend on other shards.
fn answered(client: &mut Client) -> Vec<(Kind, u16)> {
    let mut kinds = Vec::new();
    loop {
        match client.next(PATIENCE) {
            Next::Packet(packet) => kinds.push((packet.kind, packet.identifier)),
            Next::Closed => break,
            Next::Silence => panic!("no end after {kinds:?}"),
        }
    }
    kinds.sort_by_key(|(kind, identifier)| (*kind as u8, *identifier));
    kinds
}

const EXPECTED: [(Kind, u16); 10] = [
    (Kind::ConnAck, 0),
    (Kind::Publish, 0),
    (Kind::Publish, 0),
    (Kind::Publish, 0),
    (Kind::PubAck, 11),
    (Kind::PubRec, 12),
    (Kind::PubComp, 12),
    (Kind::SubAck, 1),
    (Kind::UnsubAck, 2),
    (Kind::PingResp, 0),
];

#[test]
fn packets_may_come_one_byte_at_a_time() {
    let scene = Scene::new();
    let mut client = scene.open();
    for byte in conversation(&scene) {
        client.send_raw(&[byte]);
    }
    assert_eq!(answered(&mut client), EXPECTED);
}

#[test]
fn packets_may_be_cut_anywhere() {
    let scene = Scene::new();
    let bytes = conversation(&scene);
    for at in 1..bytes.len() {
        let mut client = scene.open();
        client.send_raw(&bytes[..at]);
        if at % 8 == 0 {
            // The broker reads the first part on its own.
            sleep_ms(2);
        }
        client.send_raw(&bytes[at..]);
        assert_eq!(answered(&mut client), EXPECTED, "cut at {at}");
    }
}

#[test]
fn many_packets_may_come_in_one_segment() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    // QoS 0, so that all come in one order.
    let mut reader = scene.reader("reader", "t", 0);
    let mut client = scene.client("client");
    let mut bytes = Vec::new();
    for n in 0..2_000_u16 {
        let qos = (n % 3) as u8;
        bytes.extend(
            Publish::new(&topic, n.to_string())
                .qos(qos)
                .identifier(1 + n)
                .bytes(Version::V5),
        );
        if qos == 2 {
            bytes.extend(crate::support::packet::acknowledgement(Kind::PubRel, 1 + n));
        }
    }
    bytes.extend(PINGREQ);
    client.send_raw(&bytes);
    for n in (0..2_000_u16).filter(|n| n % 3 > 0) {
        let kinds: &[Kind] = if n % 3 == 1 {
            &[Kind::PubAck]
        } else {
            &[Kind::PubRec, Kind::PubComp]
        };
        for kind in kinds {
            let answer = client.expect(*kind);
            assert_eq!((answer.identifier, answer.code), (1 + n, 0));
        }
    }
    client.expect(Kind::PingResp);
    for n in 0..2_000 {
        reader.expect_message(&topic, n.to_string());
    }
}

/// PUBLISH of QoS 1 whose Remaining Length is `remaining`.
fn of_length(topic: &str, remaining: usize) -> Vec<u8> {
    let payload = vec![b'x'; remaining - topic.len() - 5];
    Publish::new(topic, payload)
        .qos(1)
        .identifier(1)
        .bytes(Version::V5)
}

#[test]
fn remaining_length_is_good_on_both_sides_of_each_boundary() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.reader("reader", "t", 1);
    let mut writer = scene.client("writer");
    let boundaries = [128, 16_384, 2_097_152];
    for boundary in boundaries {
        for remaining in boundary - 2..boundary + 2 {
            let bytes = of_length(&topic, remaining);
            writer.send_raw(&bytes);
            assert_eq!(writer.expect(Kind::PubAck).code, 0);
            let message = reader.message();
            assert_eq!(
                message.packet_bytes,
                bytes.len(),
                "Remaining Length {remaining}"
            );
            assert!(message.payload.iter().all(|byte| *byte == b'x'));
        }
    }
}

#[test]
fn property_length_is_good_on_both_sides_of_its_boundaries() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.reader("reader", "t", 1);
    let mut writer = scene.client("writer");
    for boundary in [128_usize, 16_384] {
        for length in boundary - 2..boundary + 2 {
            // Identifier, two lengths, and a name of one byte are six.
            let (identifier, value) = user_property("k", &"v".repeat(length - 6));
            let publish = Publish::new(&topic, "x")
                .qos(1)
                .property(identifier, value.clone());
            writer.publish_with(publish);
            assert_eq!(reader.message().properties, [(identifier, value)]);
        }
    }
}

#[test]
fn the_largest_remaining_length_is_refused_by_itself() {
    let scene = Scene::new();
    let told = scene
        .client("client")
        .granted(property::MAXIMUM_PACKET_SIZE)
        .expect("a limit");
    assert!(told < 268_435_460);
    ends(
        &scene,
        "268,435,455",
        &[0x30, 0xff, 0xff, 0xff, 0x7f],
        &[0x95],
    );
    ends(
        &scene,
        "more than four bytes",
        &[0x30, 0x80, 0x80, 0x80, 0x80],
        MALFORMED,
    );
}

#[test]
fn answers_to_many_filters_cross_the_boundary_of_remaining_length() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    for count in [123_usize, 124, 125, 126, 16_380, 16_381, 16_382] {
        let names: Vec<String> = (0..count).map(|n| n.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        client.send_raw(&unsubscribe(Version::V5, 7, &names));
        let unsuback = client.expect(Kind::UnsubAck);
        assert_eq!(unsuback.codes, vec![0x11; count]);
    }
}
