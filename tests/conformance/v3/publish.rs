//! PUBLISH (3.3) without what is retained.

use crate::support::packet::DISCONNECT;
use crate::support::{Kind, Packet, Publish, Scene, Subscribe, Version};

use super::{bytes, client, expect_cut_off, lasting, raw_publish, reader};

#[test]
fn mqtt3_3_3_1_1_dup_marks_what_is_sent_again() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 2);
    let mut writer = client(&scene, "writer");
    for n in 0..6_u8 {
        writer.publish(&topic, n.to_string(), 1 + n % 2);
        assert!(!reader.expect(Kind::Publish).dup, "the first time");
    }
    for _ in 0..3 {
        reader.cut();
        reader = lasting(&scene, "reader");
        for n in 0..6 {
            let message = reader.expect(Kind::Publish);
            assert_eq!((message.text(), message.dup), (&*n.to_string(), true));
        }
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_3_3_1_2_dup_with_qos_0_ends_the_connection() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    for first_byte in [0x38, 0x39] {
        let bytes = raw_publish(first_byte, topic.as_bytes(), &[], b"x");
        expect_cut_off(&scene, "DUP with QoS 0", &bytes);
    }
}

#[test]
fn mqtt3_3_3_1_2_qos_0_is_sent_without_dup() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 0);
    let mut writer = client(&scene, "writer");
    for (qos, identifier) in [(1, 1), (2, 2)] {
        let publish = Publish::new(&topic, "again").qos(qos).dup();
        writer.publish_with(publish.identifier(identifier));
        let expected = raw_publish(0x30, topic.as_bytes(), &[], b"again");
        assert_eq!(bytes(&reader, expected.len()), expected);
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_3_1_3_dup_of_the_publisher_is_not_passed_on() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 2);
    let mut writer = client(&scene, "writer");
    for qos in [1, 2] {
        let publish = Publish::new(&topic, "x").qos(qos).dup();
        writer.publish_with(publish.identifier(qos.into()));
        assert!(!reader.expect_message(&topic, "x").dup, "QoS {qos}");
    }
}

#[test]
fn mqtt3_3_3_1_4_qos_3_ends_the_connection() {
    let scene = Scene::new();
    let mut watcher = reader(&scene, "watcher", "t", 2);
    let topic = scene.topic("t");
    for first_byte in [0x36, 0x37, 0x3e, 0x3f] {
        let bytes = raw_publish(first_byte, topic.as_bytes(), &[0, 1], b"x");
        expect_cut_off(&scene, "QoS 3", &bytes);
    }
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_3_2_1_the_topic_name_comes_first_and_is_utf8() {
    let scene = Scene::new();
    let mut reader = reader(&scene, "reader", "t", 0);
    let topic = scene.topic("t");
    for (what, bytes) in [
        ("no Topic Name", vec![0x30, 0]),
        ("half of its length", vec![0x30, 1, 0]),
        ("longer than the packet", vec![0x30, 3, 0, 2, b't']),
        ("bad UTF-8", raw_publish(0x30, b"\xc3\x28", &[], b"x")),
        ("a surrogate", raw_publish(0x30, b"\xed\xa0\x80", &[], b"x")),
        ("U+0000", raw_publish(0x30, b"a\0b", &[], b"x")),
        (
            "a Packet Identifier before it",
            [&[0x32, 5, 0, 1][..], &[0, 1, b't']].concat(),
        ),
    ] {
        if what == "a Packet Identifier before it" {
            // Read in order, that is the topic U+0000.
            expect_cut_off(&scene, what, &bytes);
            continue;
        }
        expect_cut_off(&scene, what, &bytes);
    }
    client(&scene, "writer").send_raw(&raw_publish(0x30, topic.as_bytes(), &[], b"x"));
    reader.expect_message(&topic, "x");
}

#[test]
fn mqtt3_3_3_2_2_a_wildcard_in_a_topic_name_ends_the_connection() {
    let scene = Scene::new();
    let mut watcher = reader(&scene, "watcher", "#", 2);
    for name in ["#", "+", "a/#", "a/+", "+/a", "a+", "a#b", "/#", "a/+/b"] {
        let topic = scene.topic(name);
        for (first_byte, identifier) in [(0x30, &[][..]), (0x32, &[0, 1]), (0x34, &[0, 1])] {
            let bytes = raw_publish(first_byte, topic.as_bytes(), identifier, b"x");
            expect_cut_off(&scene, &topic, &bytes);
        }
    }
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_3_2_3_a_message_comes_with_the_topic_that_it_was_published_to() {
    let scene = Scene::new();
    let mut writer = client(&scene, "writer");
    for filter in [
        "#", "+/b/c", "a/+/c", "a/b/+", "a/#", "a/b/c", "+/+/+", "a/b/c/#",
    ] {
        let mut reader = reader(&scene, "reader", filter, 1);
        writer.publish(&scene.topic("x/y/z/not-for-all"), "", 1);
        writer.publish(&scene.topic("a/b/c"), "x", 1);
        let message = reader.wait_for("the message", |packet| packet.text() == "x");
        assert_eq!(message.topic, scene.topic("a/b/c"), "through {filter}");
        reader.disconnect();
    }
}

#[test]
fn mqtt3_3_3_4_1_each_qos_has_its_answer() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    let topic = scene.topic("t");
    let publish = |qos, identifier| {
        let publish = Publish::new(&topic, "x").qos(qos).identifier(identifier);
        publish.bytes(Version::V311)
    };
    client.send_raw(&publish(0, 1));
    client.expect_nothing_before_pong();
    client.send_raw(&publish(1, 11));
    assert_eq!(bytes(&client, 4), [0x40, 2, 0, 11]);
    client.send_raw(&publish(2, 12));
    assert_eq!(bytes(&client, 4), [0x50, 2, 0, 12]);
    client.expect_nothing_before_pong();
    client.acknowledge(Kind::PubRel, 12);
    assert_eq!(bytes(&client, 4), [0x70, 2, 0, 12]);
    client.expect_nothing_before_pong();
}

/// Reads messages up to the one with the payload `end`.
fn until_end(reader: &mut crate::support::Client) -> Vec<Packet> {
    let mut messages = Vec::new();
    loop {
        let message = reader.message();
        if message.text() == "end" {
            return messages;
        }
        messages.push(message);
    }
}

#[test]
fn mqtt3_3_3_5_1_the_maximum_qos_of_all_matching_subscriptions_holds() {
    let scene = Scene::new();
    let topic = scene.topic("a/b");
    let mut writer = client(&scene, "writer");
    for granted in [[0, 0, 0], [0, 1, 0], [2, 0, 1], [1, 2, 0], [1, 1, 1]] {
        let mut reader = client(&scene, "reader");
        for (filter, qos) in ["a/b", "a/+", "#"].iter().zip(granted) {
            reader.subscribe(&scene.topic(filter), qos);
        }
        let maximum = granted.into_iter().max().unwrap();
        for published in 0..3 {
            writer.publish(&topic, published.to_string(), published);
        }
        writer.publish(&topic, "end", 1);
        let found: Vec<(String, u8)> = until_end(&mut reader)
            .iter()
            .map(|message| (message.text().to_owned(), message.qos))
            .collect();
        let expected: Vec<(String, u8)> = (0..3)
            .map(|published: u8| (published.to_string(), published.min(maximum)))
            .collect();
        assert_eq!(found, expected, "granted {granted:?}");
        reader.disconnect();
    }
}

#[test]
fn mqtt3_3_3_5_2_a_publish_that_is_not_allowed_is_acknowledged_and_dropped() {
    let scene = Scene::new();
    let mut watcher = client(&scene, "watcher");
    let topic = format!("$SYS/{}", scene.topic("t"));
    watcher.subscribe(&topic, 2);
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        for retain in [false, true] {
            let publish = Publish::new(&topic, "x").qos(qos);
            writer.publish_with(match retain {
                true => publish.retain(),
                false => publish,
            });
        }
    }
    writer.expect_nothing_before_pong();
    watcher.expect_nothing_before_pong();
    watcher.subscribe(&topic, 2);
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_3_5_2_a_publish_beyond_what_the_broker_offers_ends_the_connection() {
    let scene = Scene::with("listener.maximum_qos = 1\nlistener.retain_available = false");
    let mut watcher = reader(&scene, "watcher", "t", 1);
    let topic = scene.topic("t");
    for publish in [
        Publish::new(&topic, "x").qos(2).identifier(1),
        Publish::new(&topic, "x").retain(),
        Publish::new(&topic, "x").qos(1).identifier(1).retain(),
    ] {
        expect_cut_off(&scene, "too much", &publish.bytes(Version::V311));
    }
    watcher.expect_nothing_before_pong();
    client(&scene, "writer").publish(&topic, "x", 1);
    watcher.expect_message(&topic, "x");
}

#[test]
fn mqtt3_3_3_4_1_a_message_without_a_payload_is_a_message() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 2);
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        writer.publish(&topic, "", qos);
        assert_eq!(reader.expect_message(&topic, "").qos, qos);
    }
}

#[test]
fn mqtt3_3_3_5_1_a_client_gets_its_own_messages() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = client(&scene, "client");
    client.subscribe_with(&Subscribe::to(&topic, 2));
    let mut bytes = Publish::new(&topic, "own").bytes(Version::V311);
    client.send_raw(&bytes);
    client.expect_message(&topic, "own");
    // What was published before DISCONNECT counts, too.
    let mut reader = reader(&scene, "reader", "t", 0);
    bytes.extend(DISCONNECT);
    client.send_raw(&bytes);
    reader.expect_message(&topic, "own");
}
