//! Conformance targets (chapter 7).

use std::time::Duration;

use crate::support::packet::{DISCONNECT, PINGREQ};
use crate::support::{Kind, Publish, Scene, Subscribe, Value, Version, property};

use super::{bytes, client, connect, open, reader, rest};

#[test]
fn mqtt3_7_0_0_2_a_plain_client_needs_nothing_more() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    // Every step of the protocol, and nothing comes that 3.1.1 does not have.
    let mut plain = open(&scene);
    plain.send_raw(&connect(&scene, "plain").bytes());
    assert_eq!(bytes(&plain, 4), [0x20, 2, 0, 0]);
    plain.subscribe(&topic, 2);
    for qos in 0..3 {
        plain.publish(&topic, "x", qos);
        plain.expect_message(&topic, "x");
    }
    assert!(
        plain.unsubscribe(&[&topic]).is_empty(),
        "UNSUBACK has no codes"
    );
    plain.expect_nothing_before_pong();
    plain.send_raw(&DISCONNECT);
    assert!(rest(&plain).is_empty());
}

#[test]
fn mqtt3_7_0_0_2_what_only_5_0_has_does_not_reach_a_client_of_3_1_1() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let plain = reader(&scene, "plain", "t", 0);
    let mut modern = scene.client("modern");
    modern.publish_with(
        Publish::new(&topic, "x")
            .property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(60))
            .property(property::CONTENT_TYPE, Value::Text("text".into()))
            .property(property::TOPIC_ALIAS, Value::Two(1)),
    );
    let expected = Publish::new(&topic, "x").bytes(Version::V311);
    assert_eq!(bytes(&plain, expected.len()), expected);
}

/// A whole conversation, as bytes: what a client sends, and the identifiers that it waits for.
fn conversation(scene: &Scene, name: &str, topic: &str) -> Vec<u8> {
    let mut all = connect(scene, name).bytes();
    all.extend(Subscribe::to(topic, 0).bytes(Version::V311, 1));
    let publish = Publish::new(topic, "one");
    all.extend(publish.clone().bytes(Version::V311));
    all.extend(publish.clone().qos(1).identifier(2).bytes(Version::V311));
    all.extend(publish.qos(2).identifier(3).bytes(Version::V311));
    all.extend([0x62, 2, 0, 3]);
    all.extend(PINGREQ);
    all
}

#[test]
fn mqtt3_7_1_1_1_packets_are_understood_however_the_stream_is_cut() {
    let scene = Scene::new();
    for cut in [1, 2, 3, 7, 10_000] {
        let topic = scene.topic(&cut.to_string());
        let mut client = open(&scene);
        for piece in conversation(&scene, &cut.to_string(), &topic).chunks(cut) {
            client.send_raw(piece);
        }
        client.expect_accepted();
        client.wait_for_acknowledgement(Kind::SubAck, 1);
        client.wait_for_acknowledgement(Kind::PubAck, 2);
        client.wait_for_acknowledgement(Kind::PubRec, 3);
        client.wait_for_acknowledgement(Kind::PubComp, 3);
        client.wait_for("PINGRESP", |packet| packet.kind == Kind::PingResp);
        for _ in 0..3 {
            client.expect_message(&topic, "one");
        }
        assert!(!client.next(Duration::from_millis(20)).is_packet());
    }
}

#[test]
fn mqtt3_7_1_1_1_packets_of_every_length_arrive_whole() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 1);
    let mut writer = client(&scene, "writer");
    let head = 2 + topic.len() + 2;
    // Around each length of the Remaining Length field, and the sizes of buffers.
    for remaining in [
        head, 126, 127, 128, 129, 2_047, 2_048, 2_049, 4_095, 4_096, 4_097, 16_382, 16_383, 16_384,
        16_385, 65_535, 65_536, 2_097_150, 2_097_151, 2_097_152, 2_097_153,
    ] {
        let payload: Vec<u8> = (0..remaining.saturating_sub(head))
            .map(|n| (n % 251) as u8)
            .collect();
        writer.publish(&topic, &payload, 1);
        let message = reader.message();
        assert!(message.payload == payload, "Remaining Length {remaining}");
    }
}
