//! Control Packet format (chapter 2): flags, lengths and Packet Identifiers.

use crate::support::packet::{DISCONNECT, PINGREQ, acknowledgement};
use crate::support::{Connect, Kind, Publish, Scene, Subscribe, Version};

use super::{
    answer, bytes, client, connect, expect_cut_off, expect_not_answered, expect_taken, lasting,
    open, raw_connect, raw_publish, raw_subscribe, raw_unsubscribe, reader,
};

#[test]
fn mqtt3_2_2_2_1_every_packet_of_the_broker_has_the_flags_of_the_table() {
    let scene = Scene::new();
    let (topic, filter) = (scene.topic("t"), scene.topic("+"));
    let name = topic.as_bytes();
    let mut client = open(&scene);
    client.send_raw(&connect(&scene, "one").bytes());
    assert_eq!(bytes(&client, 4), [0x20, 2, 0, 0], "CONNACK");
    client.send_raw(&raw_subscribe(0x82, 7, &[(filter.as_bytes(), 2)]));
    assert_eq!(bytes(&client, 5), [0x90, 3, 0, 7, 2], "SUBACK");
    client.send_raw(&PINGREQ);
    assert_eq!(bytes(&client, 2), [0xd0, 0], "PINGRESP");
    let publish = |first_byte, identifier: &[u8]| raw_publish(first_byte, name, identifier, b"p");
    client.send_raw(&publish(0x30, &[]));
    assert_eq!(bytes(&client, publish(0x30, &[]).len()), publish(0x30, &[]));
    // The broker's own identifiers begin at 1; its PUBLISH and its PUBACK come in either order.
    let mut expected = [publish(0x32, &[0, 1]), vec![0x40, 2, 0, 9]];
    client.send_raw(&publish(0x32, &[0, 9]));
    let found = bytes(&client, expected.concat().len());
    let either = [expected.concat(), {
        expected.reverse();
        expected.concat()
    }];
    assert!(either.contains(&found), "PUBLISH and PUBACK: {found:02x?}");
    client.send_raw(&[0x40, 2, 0, 1]);
    let mut other = reader(&scene, "other", "elsewhere", 0);
    other.send_raw(&publish(0x34, &[0, 3]));
    assert_eq!(bytes(&other, 4), [0x50, 2, 0, 3], "PUBREC");
    other.send_raw(&[0x62, 2, 0, 3]);
    assert_eq!(bytes(&other, 4), [0x70, 2, 0, 3], "PUBCOMP");
    let delivered = bytes(&client, publish(0x34, &[0, 0]).len());
    assert_eq!(delivered[0], 0x34, "PUBLISH of QoS 2");
    let identifier = [delivered[4 + name.len()], delivered[5 + name.len()]];
    client.send_raw(&[0x50, 2, identifier[0], identifier[1]]);
    assert_eq!(
        bytes(&client, 4),
        [0x62, 2, identifier[0], identifier[1]],
        "PUBREL"
    );
    client.send_raw(&raw_unsubscribe(0xa2, 8, &[filter.as_bytes()]));
    assert_eq!(bytes(&client, 4), [0xb0, 2, 0, 8], "UNSUBACK");
}

/// A good packet of each type that a client sends, without CONNECT, and PUBLISH, whose flags are not reserved.
fn good_packets() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("PUBACK", acknowledgement(Kind::PubAck, 1)),
        ("PUBREC", acknowledgement(Kind::PubRec, 1)),
        ("PUBREL", acknowledgement(Kind::PubRel, 1)),
        ("PUBCOMP", acknowledgement(Kind::PubComp, 1)),
        ("SUBSCRIBE", raw_subscribe(0x82, 1, &[(b"f/lags", 0)])),
        ("UNSUBSCRIBE", raw_unsubscribe(0xa2, 1, &[b"f/lags"])),
        ("PINGREQ", PINGREQ.to_vec()),
        ("DISCONNECT", DISCONNECT.to_vec()),
    ]
}

#[test]
fn mqtt3_2_2_2_2_every_wrong_flag_of_every_packet_ends_the_connection() {
    let scene = Scene::new();
    for (what, packet) in good_packets() {
        if what != "DISCONNECT" {
            expect_taken(&scene, what, &packet);
        }
        for flags in 0..16 {
            let mut bytes = packet.clone();
            bytes[0] = packet[0] & 0xf0 | flags;
            if bytes != packet {
                expect_cut_off(
                    &scene,
                    &format!("{what} with the flags {flags:#06b}"),
                    &bytes,
                );
            }
        }
    }
    for flags in 1..16 {
        let mut bytes = connect(&scene, "flags").bytes();
        bytes[0] |= flags;
        expect_not_answered(
            &scene,
            &format!("CONNECT with the flags {flags:#06b}"),
            &bytes,
        );
    }
}

#[test]
fn mqtt3_2_2_2_2_packet_types_that_do_not_exist_end_the_connection() {
    let scene = Scene::new();
    for first_byte in (0x00..0x10).chain(0xf0..=0xff) {
        expect_cut_off(&scene, "a reserved type", &[first_byte, 0]);
        expect_cut_off(&scene, "a reserved type", &[first_byte, 2, 0, 1]);
        expect_not_answered(&scene, "a reserved type", &[first_byte, 0]);
    }
}

#[test]
fn mqtt3_2_3_1_1_a_packet_identifier_of_zero_ends_the_connection() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let topic = topic.as_bytes();
    for (what, bytes) in [
        ("PUBLISH of QoS 1", raw_publish(0x32, topic, &[0, 0], b"x")),
        ("PUBLISH of QoS 2", raw_publish(0x34, topic, &[0, 0], b"x")),
        ("SUBSCRIBE", raw_subscribe(0x82, 0, &[(topic, 0)])),
        ("UNSUBSCRIBE", raw_unsubscribe(0xa2, 0, &[topic])),
        ("PUBACK", acknowledgement(Kind::PubAck, 0)),
        ("PUBREC", acknowledgement(Kind::PubRec, 0)),
        ("PUBREL", acknowledgement(Kind::PubRel, 0)),
        ("PUBCOMP", acknowledgement(Kind::PubComp, 0)),
    ] {
        expect_cut_off(&scene, what, &bytes);
    }
    for (what, bytes) in [
        ("PUBLISH without one", raw_publish(0x32, topic, &[], b"")),
        (
            "PUBLISH with half of one",
            raw_publish(0x34, topic, &[1], b""),
        ),
        ("SUBSCRIBE without one", vec![0x82, 0]),
        ("SUBSCRIBE with half of one", vec![0x82, 1, 0]),
        ("UNSUBSCRIBE without one", vec![0xa2, 0]),
        ("UNSUBSCRIBE with half of one", vec![0xa2, 1, 1]),
    ] {
        expect_cut_off(&scene, what, &bytes);
    }
}

#[test]
fn mqtt3_2_3_1_1_every_other_packet_identifier_is_taken() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    for identifier in [1, 2, 255, 256, 257, 32_767, 32_768, 65_534, 65_535] {
        for qos in [1, 2] {
            let publish = Publish::new(&scene.topic("t"), "x").qos(qos);
            client.publish_with(publish.identifier(identifier));
        }
        client.send_raw(&Subscribe::to(&scene.topic("s"), 0).bytes(Version::V311, identifier));
        client.wait_for_acknowledgement(Kind::SubAck, identifier);
        let filter = scene.topic("s");
        client.send_raw(&raw_unsubscribe(0xa2, identifier, &[filter.as_bytes()]));
        client.wait_for_acknowledgement(Kind::UnsubAck, identifier);
    }
}

#[test]
fn mqtt3_2_3_1_4_identifiers_of_the_broker_are_unused_kept_and_freed() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 2);
    let mut writer = client(&scene, "writer");
    let mut sent: Vec<(u16, String)> = Vec::new();
    for n in 0..20_u8 {
        writer.publish(&topic, n.to_string(), 1 + n % 2);
        let publish = reader.expect(Kind::Publish);
        let unused = sent.iter().all(|(other, _)| *other != publish.identifier);
        assert!(unused, "{} is in use", publish.identifier);
        sent.push((publish.identifier, publish.text().to_owned()));
    }
    // Again with the same identifiers.
    reader.cut();
    let mut reader = lasting(&scene, "reader");
    for expected in &sent {
        let publish = reader.expect(Kind::Publish);
        assert!(publish.dup);
        assert_eq!((publish.identifier, publish.text().to_owned()), *expected);
    }
    // All but the last are acknowledged: their identifiers may come again, the last must not.
    let (last, _) = sent[sent.len() - 1];
    for (n, (identifier, _)) in sent.iter().enumerate().take(sent.len() - 1) {
        match n % 2 {
            0 => reader.acknowledge(Kind::PubAck, *identifier),
            _ => {
                reader.acknowledge(Kind::PubRec, *identifier);
                reader.wait_for_acknowledgement(Kind::PubRel, *identifier);
                reader.acknowledge(Kind::PubComp, *identifier);
            }
        }
    }
    for n in 0..100 {
        writer.publish(&topic, n.to_string(), 1);
        let publish = reader.expect(Kind::Publish);
        assert_ne!(publish.identifier, last, "it is not acknowledged yet");
        reader.acknowledge(Kind::PubAck, publish.identifier);
    }
}

#[test]
fn mqtt3_2_3_1_5_qos_0_has_no_packet_identifier() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 0);
    // From a client: what follows the topic is payload. From the broker: byte for byte.
    let publish = raw_publish(0x30, topic.as_bytes(), &[], &[0, 5, b'x']);
    client(&scene, "writer").send_raw(&publish);
    assert_eq!(bytes(&reader, publish.len()), publish);
    // Also when a message of QoS 1 or 2 goes to a subscription of QoS 0.
    for (first_byte, identifier) in [(0x32, [0, 6]), (0x34, [0, 7])] {
        let lowered = raw_publish(0x30, topic.as_bytes(), &[], b"lowered");
        let mut writer = client(&scene, "writer");
        writer.send_raw(&raw_publish(
            first_byte,
            topic.as_bytes(),
            &identifier,
            b"lowered",
        ));
        assert_eq!(bytes(&reader, lowered.len()), lowered);
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt3_2_3_1_6_acknowledgements_have_the_identifier_of_their_publish() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    let topic = scene.topic("t");
    let identifiers = [7, 1, 65_535, 300, 2];
    for identifier in identifiers {
        let publish = Publish::new(&topic, "x").identifier(identifier);
        client.send_raw(&publish.clone().qos(1).bytes(Version::V311));
        assert_eq!(client.expect(Kind::PubAck).identifier, identifier);
        client.send_raw(&publish.qos(2).bytes(Version::V311));
        assert_eq!(client.expect(Kind::PubRec).identifier, identifier);
    }
    for identifier in identifiers.into_iter().rev() {
        client.acknowledge(Kind::PubRel, identifier);
        assert_eq!(client.expect(Kind::PubComp).identifier, identifier);
    }
    // The broker's PUBREL, the other way round.
    let mut reader = reader(&scene, "reader", "t", 2);
    let mut sent = Vec::new();
    for n in 0..5 {
        client.publish(&topic, n.to_string(), 2);
        sent.push(reader.expect(Kind::Publish).identifier);
    }
    for identifier in sent {
        reader.acknowledge(Kind::PubRec, identifier);
        assert_eq!(reader.expect(Kind::PubRel).identifier, identifier);
    }
}

#[test]
fn mqtt3_2_3_1_7_suback_and_unsuback_have_the_identifier_of_their_request() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    let filter = scene.topic("t");
    let identifiers = [9, 1, 65_535, 256];
    let mut requests = Vec::new();
    for identifier in identifiers {
        requests.extend(raw_subscribe(0x82, identifier, &[(filter.as_bytes(), 1)]));
    }
    client.send_raw(&requests);
    for identifier in identifiers {
        assert_eq!(client.expect(Kind::SubAck).identifier, identifier);
    }
    let mut requests = Vec::new();
    for identifier in identifiers {
        requests.extend(raw_unsubscribe(0xa2, identifier, &[filter.as_bytes()]));
    }
    client.send_raw(&requests);
    for identifier in identifiers {
        assert_eq!(client.expect(Kind::UnsubAck).identifier, identifier);
    }
}

#[test]
fn mqtt3_2_2_2_2_a_remaining_length_of_five_bytes_ends_the_connection() {
    let scene = Scene::new();
    for packet_type in 1..15_u8 {
        let flags = u8::from(matches!(packet_type, 6 | 8 | 10)) << 1;
        let first_byte = packet_type << 4 | flags;
        let bytes = [first_byte, 0xff, 0xff, 0xff, 0xff, 0x01];
        expect_cut_off(&scene, "a Remaining Length of five bytes", &bytes);
        let found = answer(&scene, &bytes);
        assert!(found.is_empty(), "type {packet_type}: {found:02x?}");
    }
}

#[test]
fn mqtt3_2_2_2_2_a_packet_of_the_wrong_length_ends_the_connection() {
    let scene = Scene::new();
    // Each has one byte too few or one too many for its type.
    for (what, bytes) in [
        ("PUBACK without content", &[0x40, 0][..]),
        ("PUBACK of one byte", &[0x40, 1, 1]),
        ("PUBACK of three bytes", &[0x40, 3, 0, 1, 0]),
        ("PUBREC without content", &[0x50, 0]),
        ("PUBREC of one byte", &[0x50, 1, 1]),
        ("PUBREC of three bytes", &[0x50, 3, 0, 1, 0]),
        ("PUBREL without content", &[0x62, 0]),
        ("PUBREL of one byte", &[0x62, 1, 1]),
        ("PUBREL of three bytes", &[0x62, 3, 0, 1, 0]),
        ("PUBCOMP without content", &[0x70, 0]),
        ("PUBCOMP of one byte", &[0x70, 1, 1]),
        ("PUBCOMP of three bytes", &[0x70, 3, 0, 1, 0]),
        ("PINGREQ of one byte", &[0xc0, 1, 0]),
        ("DISCONNECT of one byte", &[0xe0, 1, 0]),
        ("DISCONNECT of two bytes", &[0xe0, 2, 0, 0]),
        ("PUBLISH without content", &[0x30, 0]),
        ("SUBSCRIBE without QoS", &[0x82, 5, 0, 1, 0, 1, b't']),
        (
            "SUBSCRIBE with a byte behind",
            &[0x82, 7, 0, 1, 0, 1, b't', 0, 0],
        ),
        (
            "UNSUBSCRIBE with a byte behind",
            &[0xa2, 6, 0, 1, 0, 1, b't', 0],
        ),
    ] {
        expect_cut_off(&scene, what, bytes);
    }
    let mut long = raw_connect(0x02, &[b"long"]);
    long[1] += 1;
    long.push(0);
    expect_not_answered(&scene, "CONNECT with a byte behind", &long);
    expect_not_answered(&scene, "CONNECT without content", &[0x10, 0]);
    let whole = Connect::new("short").v311().bytes();
    for length in 1..whole.len() - 2 {
        let mut short = whole[..2 + length].to_vec();
        short[1] = length as u8;
        let found = answer(&scene, &short);
        // Before the level is there, nobody can know that it is 3.1.1.
        assert!(found.is_empty(), "CONNECT cut to {length}: {found:02x?}");
    }
}
