//! PUBLISH: its fixed header (3.3.1) and what is retained.

use super::*;
use crate::support::packet::{RETAIN_AS_PUBLISHED, RETAINED_IF_NEW, RETAINED_NEVER};

#[test]
fn mqtt5_3_3_1_1_a_message_that_is_sent_again_has_dup() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.join(scene.connect("reader").lasting());
    reader.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    for qos in [1, 2] {
        writer.publish(&topic, qos.to_string(), qos);
    }
    let first = arrive(&mut reader, 2);
    assert!(first.iter().all(|message| !message.dup), "{first:?}");
    // Each time it is sent again.
    for _ in 0..2 {
        reader.cut();
        reader = scene.join(scene.connect("reader").lasting());
        let again = arrive(&mut reader, 2);
        assert_eq!(texts(&again), ["1", "2"]);
        assert!(again.iter().all(|message| message.dup), "{again:?}");
    }
    // What was never sent has no DUP, even if it waited for the client.
    reader.cut();
    writer.publish(&topic, "queued", 1);
    let mut reader = scene.join(scene.connect("reader").lasting());
    let dups: Vec<bool> = arrive(&mut reader, 3)
        .iter()
        .map(|message| message.dup)
        .collect();
    assert_eq!(dups, [true, true, false]);
}

#[test]
fn mqtt5_3_3_1_2_qos_0_has_no_dup() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    ends(
        &scene,
        "DUP with QoS 0",
        &raw_publish(0x38, b"t", None, &[]),
        EITHER,
    );
    let mut reader = scene.client("reader");
    reader.subscribe(&topic, 0);
    let dup = Publish::new(&topic, "x").qos(1).dup();
    scene.client("writer").publish_with(dup);
    let message = reader.expect_message(&topic, "x");
    assert_eq!((message.qos, message.dup), (0, false));
}

#[test]
fn mqtt5_3_3_1_3_dup_is_not_passed_on() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.join(scene.connect("reader").lasting());
    reader.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    for qos in [1, 2] {
        writer.publish_with(Publish::new(&topic, "dup").qos(qos).dup());
        assert!(!reader.expect_message(&topic, "dup").dup);
        // A message without DUP gets it only from being sent again to this client.
        writer.publish(&topic, "plain", qos);
        assert!(!reader.expect(Kind::Publish).dup);
        reader.cut();
        reader = scene.join(scene.connect("reader").lasting());
        assert!(reader.expect_message(&topic, "plain").dup);
    }
}

#[test]
fn mqtt5_3_3_1_4_qos_3_is_malformed() {
    let scene = Scene::new();
    for flags in [0x36, 0x37, 0x3e, 0x3f] {
        ends(
            &scene,
            "QoS 3",
            &raw_publish(flags, b"t", Some(1), &[]),
            MALFORMED,
        );
    }
}

/// What a new subscriber to `filter` gets that is retained: `count` messages and no more.
#[track_caller]
fn retained(scene: &Scene, writer: &mut Client, filter: &str, count: usize) -> Vec<Packet> {
    let mut late = scene.client("late");
    late.subscribe(&scene.topic("end"), 1);
    late.subscribe(&scene.topic(filter), 2);
    let messages: Vec<Packet> = (0..count).map(|_| late.message()).collect();
    assert!(
        messages.iter().all(|message| message.retain),
        "{messages:?}"
    );
    // The owner of a retained message may be another shard, whose answer takes its time.
    late.expect_nothing(SILENCE_MS / 3);
    assert!(scene.until_end(&mut late, writer).is_empty());
    messages
}

#[test]
fn mqtt5_3_3_1_5_a_retained_message_replaces_the_former_one() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    for qos in 0..3 {
        for text in ["former", "latter"] {
            writer.publish_with(Publish::new(&topic, text).qos(qos).retain());
        }
        writer.publish(&scene.topic("settle"), "", 1);
        let found = retained(&scene, &mut writer, "t", 1);
        assert_eq!(texts(&found), ["latter"]);
        assert_eq!(found[0].qos, qos);
    }
}

#[test]
fn mqtt5_3_3_1_6_an_empty_retained_message_clears_the_topic() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    let mut reader = scene.reader("reader", "t", 1);
    writer.publish_with(Publish::new(&topic, "kept").qos(1).retain());
    reader.expect_message(&topic, "kept");
    writer.publish_with(Publish::new(&topic, "").qos(1).retain());
    // It goes to those who are subscribed like any other.
    let message = reader.expect_message(&topic, "");
    assert!(!message.retain);
    assert!(retained(&scene, &mut writer, "t", 0).is_empty());
}

#[test]
fn mqtt5_3_3_1_7_an_empty_message_is_not_retained() {
    let scene = Scene::new();
    let mut writer = scene.client("writer");
    for qos in 0..3 {
        writer.publish_with(Publish::new(&scene.topic("t"), "").qos(qos).retain());
    }
    assert!(retained(&scene, &mut writer, "t", 0).is_empty());
}

#[test]
fn mqtt5_3_3_1_8_a_message_without_retain_changes_nothing_retained() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    writer.publish(&topic, "not kept", 1);
    assert!(retained(&scene, &mut writer, "t", 0).is_empty());
    writer.publish_with(Publish::new(&topic, "kept").qos(1).retain());
    writer.publish(&topic, "not kept", 1);
    writer.publish(&topic, "", 1);
    assert_eq!(texts(&retained(&scene, &mut writer, "t", 1)), ["kept"]);
}

#[test]
fn mqtt5_3_3_1_9_retain_handling_0_sends_what_is_retained_each_time() {
    let scene = Scene::new();
    let mut writer = scene.client("writer");
    for name in ["a/1", "a/2", "b"] {
        writer.publish_with(Publish::new(&scene.topic(name), name).qos(1).retain());
    }
    let mut reader = scene.client("reader");
    for _ in 0..2 {
        reader.subscribe(&scene.topic("a/+"), 1);
        let mut found = vec![reader.message(), reader.message()];
        found.sort_by(|one, other| one.topic.cmp(&other.topic));
        assert_eq!(texts(&found), ["a/1", "a/2"]);
        assert!(found.iter().all(|message| message.retain));
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt5_3_3_1_10_retain_handling_1_sends_only_to_a_new_subscription() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    writer.publish_with(Publish::new(&topic, "kept").qos(1).retain());
    let mut reader = scene.reader("reader", "other", 0);
    reader.subscribe(&topic, 1 | RETAINED_IF_NEW);
    reader.expect_message(&topic, "kept");
    reader.subscribe(&topic, 1 | RETAINED_IF_NEW);
    reader.expect_nothing(SILENCE_MS / 3);
    assert!(scene.until_end(&mut reader, &mut writer).is_empty());
    // It is new again after UNSUBSCRIBE.
    reader.unsubscribe(&[&topic]);
    reader.subscribe(&topic, 1 | RETAINED_IF_NEW);
    reader.expect_message(&topic, "kept");
}

#[test]
fn mqtt5_3_3_1_11_retain_handling_2_sends_nothing_retained() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    writer.publish_with(Publish::new(&topic, "kept").qos(1).retain());
    let mut reader = scene.reader("reader", "other", 0);
    for _ in 0..2 {
        reader.subscribe(&topic, 1 | RETAINED_NEVER);
        reader.expect_nothing(SILENCE_MS / 3);
        assert!(scene.until_end(&mut reader, &mut writer).is_empty());
    }
    writer.publish(&topic, "live", 1);
    reader.expect_message(&topic, "live");
}

#[test]
fn mqtt5_3_3_1_12_without_retain_as_published_live_messages_have_no_retain() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.reader("reader", "t", 2);
    let mut writer = scene.client("writer");
    for qos in 0..3 {
        writer.publish_with(Publish::new(&topic, "x").qos(qos).retain());
        assert!(!reader.expect_message(&topic, "x").retain, "QoS {qos}");
    }
}

#[test]
fn mqtt5_3_3_1_13_with_retain_as_published_live_messages_have_retain_as_sent() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.reader("reader", "t", 2 | RETAIN_AS_PUBLISHED);
    let mut writer = scene.client("writer");
    for qos in 0..3 {
        writer.publish_with(Publish::new(&topic, "x").qos(qos).retain());
        assert!(reader.expect_message(&topic, "x").retain, "QoS {qos}");
        writer.publish(&topic, "y", qos);
        assert!(!reader.expect_message(&topic, "y").retain, "QoS {qos}");
    }
}
