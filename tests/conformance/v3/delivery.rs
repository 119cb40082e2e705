//! The delivery protocols of QoS 0, 1 and 2 (4.3), in both directions.

use crate::support::{Client, Kind, Publish, Scene, Version};

use super::{bytes, client, lasting, raw_publish, reader};

#[test]
fn mqtt3_4_3_1_1_qos_0_is_sent_once_and_plain() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 2);
    let mut writer = client(&scene, "writer");
    let expected = raw_publish(0x30, topic.as_bytes(), &[], b"x");
    for _ in 0..10 {
        writer.send_raw(&expected);
        assert_eq!(bytes(&reader, expected.len()), expected);
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt3_4_3_2_1_qos_1_is_unacknowledged_until_puback() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 1);
    let mut writer = client(&scene, "writer");
    let mut sent = Vec::new();
    for n in 0..10 {
        writer.publish(&topic, n.to_string(), 1);
        let publish = reader.expect(Kind::Publish);
        assert_eq!((publish.qos, publish.dup), (1, false));
        assert!(!sent.contains(&publish.identifier), "in use already");
        sent.push(publish.identifier);
    }
    // Acknowledged out of order: the others stay.
    for n in [7, 0, 3] {
        reader.acknowledge(Kind::PubAck, sent[n]);
    }
    reader.expect_nothing_before_pong();
    reader.cut();
    let mut reader = lasting(&scene, "reader");
    for n in [1, 2, 4, 5, 6, 8, 9] {
        let again = reader.message();
        assert_eq!((again.identifier, again.dup), (sent[n], true));
        assert_eq!(again.text(), n.to_string());
    }
    reader.expect_nothing_before_pong();
    reader.cut();
    lasting(&scene, "reader").expect_nothing_before_pong();
}

#[test]
fn mqtt3_4_3_2_2_each_publish_of_qos_1_is_new_after_its_puback() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 1);
    let mut writer = client(&scene, "writer");
    for (n, dup) in [false, true, true, false].into_iter().enumerate() {
        let publish = Publish::new(&topic, n.to_string()).qos(1).identifier(5);
        let publish = if dup { publish.dup() } else { publish };
        writer.send_raw(&publish.bytes(Version::V311));
        assert_eq!(writer.expect(Kind::PubAck).identifier, 5);
        reader.expect_message(&topic, n.to_string());
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt3_4_3_2_2_a_message_that_nobody_wants_is_acknowledged() {
    let scene = Scene::new();
    let mut writer = client(&scene, "writer");
    for qos in [1, 2] {
        writer.publish(&scene.topic("nobody"), "x", qos);
    }
}

#[test]
fn mqtt3_4_3_3_1_qos_2_goes_through_its_steps() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 2);
    let mut writer = client(&scene, "writer");
    let mut sent = Vec::new();
    for n in 0..4 {
        writer.publish(&topic, n.to_string(), 2);
        let publish = reader.expect(Kind::Publish);
        assert_eq!((publish.qos, publish.dup), (2, false));
        assert!(!sent.contains(&publish.identifier), "in use already");
        sent.push(publish.identifier);
    }
    // The first is complete, the second released, the third received, the fourth unacknowledged.
    for n in [0, 1] {
        reader.acknowledge(Kind::PubRec, sent[n]);
        assert_eq!(reader.expect(Kind::PubRel).identifier, sent[n]);
    }
    reader.acknowledge(Kind::PubComp, sent[0]);
    reader.acknowledge(Kind::PubRec, sent[2]);
    assert_eq!(reader.expect(Kind::PubRel).identifier, sent[2]);
    // A PUBREC that comes again is answered again.
    reader.acknowledge(Kind::PubRec, sent[2]);
    assert_eq!(reader.expect(Kind::PubRel).identifier, sent[2]);
    reader.cut();
    let mut reader = lasting(&scene, "reader");
    // What was released is not published again, but released.
    let again: Vec<(Kind, u16, bool)> = (0..3)
        .map(|_| reader.receive())
        .map(|packet| (packet.kind, packet.identifier, packet.dup))
        .collect();
    assert_eq!(
        again,
        [
            (Kind::PubRel, sent[1], false),
            (Kind::PubRel, sent[2], false),
            (Kind::Publish, sent[3], true)
        ]
    );
    reader.acknowledge(Kind::PubComp, sent[1]);
    reader.acknowledge(Kind::PubComp, sent[2]);
    reader.acknowledge(Kind::PubRec, sent[3]);
    assert_eq!(reader.expect(Kind::PubRel).identifier, sent[3]);
    reader.expect_nothing_before_pong();
    reader.cut();
    let mut reader = lasting(&scene, "reader");
    assert_eq!(reader.expect(Kind::PubRel).identifier, sent[3]);
    reader.acknowledge(Kind::PubComp, sent[3]);
    reader.expect_nothing_before_pong();
}

/// Sends a PUBLISH of QoS 2 with the identifier 9 and expects its PUBREC.
#[track_caller]
fn exactly_once(writer: &mut Client, publish: Publish) {
    let publish = publish.qos(2).identifier(9);
    writer.send_raw(&publish.bytes(Version::V311));
    assert_eq!(writer.expect(Kind::PubRec).identifier, 9);
}

#[test]
fn mqtt3_4_3_3_2_a_repeated_qos_2_publish_is_not_delivered_again() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 2);
    let mut writer = lasting(&scene, "writer");
    exactly_once(&mut writer, Publish::new(&topic, "one"));
    reader.expect_message(&topic, "one");
    for _ in 0..3 {
        exactly_once(&mut writer, Publish::new(&topic, "one").dup());
        exactly_once(&mut writer, Publish::new(&topic, "one"));
    }
    // Nor over a reconnection.
    writer.cut();
    let mut writer = lasting(&scene, "writer");
    exactly_once(&mut writer, Publish::new(&topic, "one").dup());
    writer.acknowledge(Kind::PubRel, 9);
    assert_eq!(writer.expect(Kind::PubComp).identifier, 9);
    reader.expect_nothing_before_pong();
    // Released: the same identifier is a new message, with DUP or without.
    for payload in ["two", "three"] {
        exactly_once(&mut writer, Publish::new(&topic, payload).dup());
        reader.expect_message(&topic, payload);
        writer.acknowledge(Kind::PubRel, 9);
        assert_eq!(writer.expect(Kind::PubComp).identifier, 9);
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt3_4_3_3_2_every_pubrel_is_answered() {
    let scene = Scene::new();
    let mut writer = client(&scene, "writer");
    exactly_once(&mut writer, Publish::new(&scene.topic("t"), "x"));
    // A client that lost the PUBCOMP asks again, and one that lost its memory asks for what never was.
    for identifier in [9, 9, 10, 65_535] {
        writer.acknowledge(Kind::PubRel, identifier);
        assert_eq!(writer.expect(Kind::PubComp).identifier, identifier);
    }
    writer.expect_nothing_before_pong();
}

#[test]
fn mqtt3_4_3_3_1_acknowledgements_of_nothing_harm_nothing() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 2);
    for identifier in [1, 2, 65_535] {
        reader.acknowledge(Kind::PubAck, identifier);
        reader.acknowledge(Kind::PubComp, identifier);
    }
    reader.expect_nothing_before_pong();
    let mut writer = client(&scene, "writer");
    for qos in [2, 1] {
        writer.publish(&topic, "x", qos);
        reader.expect_message(&topic, "x");
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt3_4_3_3_2_all_packet_identifiers_may_be_unreleased_at_once() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 0);
    let mut writer = client(&scene, "writer");
    // 3.1.1 has no Receive Maximum: each of the 65,535 identifiers may wait for its PUBREL.
    for first in (1..=65_535_u32).step_by(1_024) {
        let last = (first + 1_023).min(65_535);
        let mut all = Vec::new();
        for identifier in first..=last {
            let publish = Publish::new(&topic, []).qos(2);
            all.extend(publish.identifier(identifier as u16).bytes(Version::V311));
        }
        writer.send_raw(&all);
        for identifier in first..=last {
            assert_eq!(
                u32::from(writer.expect(Kind::PubRec).identifier),
                identifier
            );
            assert_eq!(reader.expect(Kind::Publish).topic, topic);
        }
    }
    exactly_once(&mut writer, Publish::new(&topic, "again").dup());
    reader.expect_nothing_before_pong();
    for identifier in [1, 65_535, 9] {
        writer.acknowledge(Kind::PubRel, identifier);
        assert_eq!(writer.expect(Kind::PubComp).identifier, identifier);
    }
    exactly_once(&mut writer, Publish::new(&topic, "new"));
    reader.expect_message(&topic, "new");
}
