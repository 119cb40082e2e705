//! Chapter 2: fixed header, Packet Identifiers, Property Length.

use std::collections::HashSet;

use super::*;

#[test]
fn mqtt5_2_1_3_1_reserved_flags_must_be_as_they_are_listed() {
    let scene = Scene::new();
    for kind in (0x40..=0xf0).step_by(0x10) {
        let right = if matches!(kind, 0x60 | 0x80 | 0xa0) {
            2
        } else {
            0
        };
        for flags in (0..16).filter(|flags| *flags != right) {
            let body: &[u8] = match kind {
                0x80 => &[0, 1, 0, 0, 1, b't', 0],
                0xa0 => &[0, 1, 0, 0, 1, b't'],
                0x90 | 0xb0 => &[0, 1, 0, 0],
                0xc0 | 0xd0 | 0xe0 | 0xf0 => &[],
                _ => &[0, 1],
            };
            ends(
                &scene,
                &format!("{:#04x}", kind | flags),
                &packet(kind | flags, body),
                MALFORMED,
            );
        }
    }
    for flags in 1..16 {
        let mut connect = scene.connect("flags").bytes();
        connect[0] |= flags;
        refuses(
            &scene,
            &format!("CONNECT with {flags}"),
            &connect,
            MALFORMED,
        );
    }
    // What the broker sends is checked by the client at every packet: PUBREL is the one with flags.
    let mut reader = scene.client("reader");
    reader.subscribe(&scene.topic("t"), 2);
    scene.client("writer").publish(&scene.topic("t"), "x", 2);
    let publish = reader.expect(Kind::Publish);
    reader.acknowledge(Kind::PubRec, publish.identifier);
    assert_eq!(reader.receive_bytes()[0], 0x62);
}

#[test]
fn mqtt5_2_2_1_2_a_publish_of_qos_0_has_no_packet_identifier() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.client("reader");
    reader.subscribe(&topic, 2);
    // The payload could be taken for an identifier.
    scene.client("writer").publish(&topic, [0, 7, 0], 0);
    let mut expected = Vec::new();
    write_binary(&mut expected, topic.as_bytes());
    expected.extend([0, 0, 7, 0]);
    assert_eq!(reader.receive_bytes(), packet(0x30, &expected));
}

#[test]
fn mqtt5_2_2_1_3_a_packet_identifier_of_0_is_not_taken() {
    let scene = Scene::new();
    ends(
        &scene,
        "SUBSCRIBE",
        &raw_subscribe(0x82, 0, &[], b"t", 0),
        EITHER,
    );
    ends(
        &scene,
        "UNSUBSCRIBE",
        &raw_unsubscribe(0xa2, 0, &[], b"t"),
        EITHER,
    );
    ends(
        &scene,
        "PUBLISH of QoS 1",
        &raw_publish(0x32, b"t", Some(0), &[]),
        EITHER,
    );
    ends(
        &scene,
        "PUBLISH of QoS 2",
        &raw_publish(0x34, b"t", Some(0), &[]),
        EITHER,
    );
}

#[test]
fn mqtt5_2_2_1_4_the_server_takes_identifiers_that_are_not_in_use() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.client("reader");
    reader.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    let mut in_use = HashSet::new();
    for n in 0..120_u16 {
        writer.publish(&topic, n.to_string(), 1 + (n % 2) as u8);
        let message = reader.expect(Kind::Publish);
        assert_ne!(message.identifier, 0);
        assert!(
            in_use.insert(message.identifier),
            "{} is in use",
            message.identifier
        );
        if n % 3 == 0 && message.qos == 1 {
            reader.acknowledge(Kind::PubAck, message.identifier);
            in_use.remove(&message.identifier);
        }
    }
}

#[test]
fn mqtt5_2_2_1_5_acknowledgements_have_the_identifier_of_their_publish() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    let publish = |qos, identifier| {
        Publish::new(&topic, "x")
            .qos(qos)
            .identifier(identifier)
            .bytes(Version::V5)
    };
    for identifier in [1, 2, 255, 256, 0x1234, 65_535] {
        writer.send_raw(&publish(1, identifier));
        assert_eq!(writer.expect(Kind::PubAck).identifier, identifier);
        writer.send_raw(&publish(2, identifier));
        assert_eq!(writer.expect(Kind::PubRec).identifier, identifier);
        writer.acknowledge(Kind::PubRel, identifier);
        assert_eq!(writer.expect(Kind::PubComp).identifier, identifier);
    }
    let mut reader = scene.client("reader");
    reader.subscribe(&topic, 2);
    writer.publish(&topic, "x", 2);
    let message = reader.expect(Kind::Publish);
    reader.acknowledge(Kind::PubRec, message.identifier);
    assert_eq!(reader.expect(Kind::PubRel).identifier, message.identifier);
}

#[test]
fn mqtt5_2_2_1_6_suback_and_unsuback_have_the_identifier_of_their_request() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.client("client");
    for identifier in [65_535, 1, 256, 0x4321] {
        client.send_raw(&Subscribe::to(&topic, 0).bytes(Version::V5, identifier));
        assert_eq!(client.expect(Kind::SubAck).identifier, identifier);
        client.send_raw(&raw_unsubscribe(0xa2, identifier, &[], topic.as_bytes()));
        assert_eq!(client.expect(Kind::UnsubAck).identifier, identifier);
    }
}

#[test]
fn mqtt5_2_2_2_1_no_properties_are_a_property_length_of_0() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.client("client");
    client.send_raw(&Subscribe::to(&topic, 1).bytes(Version::V5, 9));
    assert_eq!(client.receive_bytes(), [0x90, 4, 0, 9, 0, 1]);
    scene.client("writer").publish(&topic, "x", 1);
    let publish = client.receive_bytes();
    assert_eq!(
        publish[publish.len() - 2..],
        [0, b'x'],
        "Property Length and payload"
    );
    client.send_raw(&raw_unsubscribe(0xa2, 10, &[], topic.as_bytes()));
    assert_eq!(client.receive_bytes(), [0xb0, 4, 0, 10, 0, 0]);
    // A client that leaves the length out sends something malformed.
    ends(&scene, "PUBLISH", &[0x30, 3, 0, 1, b't'], MALFORMED);
    ends(&scene, "SUBSCRIBE", &[0x82, 2, 0, 1], MALFORMED);
    ends(&scene, "UNSUBSCRIBE", &[0xa2, 2, 0, 1], MALFORMED);
    refuses(
        &scene,
        "CONNECT",
        &packet(0x10, b"\x00\x04MQTT\x05\x02\x00\x00"),
        MALFORMED,
    );
}
