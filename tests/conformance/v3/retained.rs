//! RETAIN (3.3.1.3).

use crate::support::{Client, Publish, Scene, Subscribe};

use super::{client, reader};

/// Publishes a retained message with the whole flow of its QoS, and waits until it is stored.
fn retain(writer: &mut Client, topic: &str, payload: &str, qos: u8) {
    writer.publish_with(Publish::new(topic, payload).qos(qos).retain());
    // QoS 0 has no answer.
    writer.expect_nothing_before_pong();
}

/// What is retained for a new subscriber of `filter`.
fn retained(scene: &Scene, filter: &str) -> Vec<(String, String, u8)> {
    let mut reader = client(scene, "late");
    reader.subscribe(&scene.topic(filter), 2);
    let marker = scene.topic("marker");
    reader.subscribe(&marker, 1);
    client(scene, "marker").publish(&marker, "", 1);
    let mut found = Vec::new();
    loop {
        let message = reader.message();
        if message.topic == marker {
            break;
        }
        assert!(message.retain, "{message:?}");
        found.push((
            message.topic.clone(),
            message.text().to_owned(),
            message.qos,
        ));
    }
    reader.disconnect();
    found.sort();
    found
}

#[test]
fn mqtt3_3_3_1_5_a_retained_message_and_its_qos_are_stored() {
    let scene = Scene::new();
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        let topic = scene.topic(&format!("q/{qos}"));
        retain(&mut writer, &topic, &format!("payload {qos}"), qos);
    }
    writer.disconnect();
    for _ in 0..2 {
        let expected: Vec<(String, String, u8)> = (0..3)
            .map(|qos| {
                (
                    scene.topic(&format!("q/{qos}")),
                    format!("payload {qos}"),
                    qos,
                )
            })
            .collect();
        assert_eq!(retained(&scene, "q/+"), expected);
    }
}

#[test]
fn mqtt3_3_3_1_6_a_new_subscription_gets_the_last_message_of_each_topic() {
    let scene = Scene::new();
    let mut writer = client(&scene, "writer");
    let names = ["a", "a/b", "a/b/c", "a/c", "b"];
    for round in ["first", "last"] {
        for name in names {
            retain(&mut writer, &scene.topic(name), round, 1);
        }
    }
    for (filter, matching) in [
        ("a", &["a"][..]),
        ("a/+", &["a/b", "a/c"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/c"]),
        ("+", &["a", "b"]),
        ("#", &names),
        ("c/#", &[]),
    ] {
        let expected: Vec<(String, String, u8)> = matching
            .iter()
            .map(|name| (scene.topic(name), "last".to_owned(), 1))
            .collect();
        assert_eq!(retained(&scene, filter), expected, "{filter}");
    }
}

#[test]
fn mqtt3_3_3_1_7_a_retained_message_of_qos_0_replaces_what_was_there() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        retain(&mut writer, &topic, "old", qos);
        retain(&mut writer, &topic, "new", 0);
        assert_eq!(
            retained(&scene, "t"),
            [(topic.clone(), "new".to_owned(), 0)]
        );
    }
}

#[test]
fn mqtt3_3_3_1_8_what_was_retained_comes_with_retain() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    retain(&mut client(&scene, "writer"), &topic, "kept", 2);
    for qos in 0..3 {
        let mut reader = reader(&scene, "reader", "t", qos);
        let message = reader.expect_message(&topic, "kept");
        assert_eq!(
            (message.retain, message.qos, message.dup),
            (true, qos, false)
        );
        reader.disconnect();
    }
}

#[test]
fn mqtt3_3_3_1_9_an_established_subscription_gets_it_without_retain() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut exact = reader(&scene, "exact", "t", 2);
    let mut wildcard = reader(&scene, "wildcard", "#", 2);
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        retain(&mut writer, &topic, "live", qos);
        for reader in [&mut exact, &mut wildcard] {
            let message = reader.expect_message(&topic, "live");
            assert_eq!((message.retain, message.qos), (false, qos));
        }
    }
}

#[test]
fn mqtt3_3_3_1_10_an_empty_retained_message_is_delivered_and_removes() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        retain(&mut writer, &topic, "kept", 1);
        let mut reader = reader(&scene, "reader", "t", 2);
        reader.expect_message(&topic, "kept");
        retain(&mut writer, &topic, "", qos);
        let message = reader.expect_message(&topic, "");
        assert_eq!((message.retain, message.qos), (false, qos));
        assert_eq!(retained(&scene, "#"), []);
        reader.disconnect();
    }
}

#[test]
fn mqtt3_3_3_1_11_an_empty_message_is_not_stored() {
    let scene = Scene::new();
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        retain(&mut writer, &scene.topic("t"), "", qos);
        assert_eq!(retained(&scene, "#"), []);
    }
}

#[test]
fn mqtt3_3_3_1_12_a_message_without_retain_changes_nothing() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        writer.publish(&scene.topic("other"), "not retained", qos);
    }
    assert_eq!(retained(&scene, "other"), []);
    retain(&mut writer, &topic, "kept", 1);
    for qos in 0..3 {
        writer.publish(&topic, "live", qos);
        writer.publish(&topic, "", qos);
        writer.expect_nothing_before_pong();
        assert_eq!(
            retained(&scene, "t"),
            [(topic.clone(), "kept".to_owned(), 1)]
        );
    }
}

#[test]
fn mqtt3_3_3_1_6_every_filter_of_a_subscribe_gets_its_retained_messages() {
    let scene = Scene::new();
    let mut writer = client(&scene, "writer");
    for name in ["a", "b"] {
        retain(&mut writer, &scene.topic(name), name, 1);
    }
    let mut reader = client(&scene, "reader");
    let both = Subscribe::to(&scene.topic("a"), 1).and(&scene.topic("b"), 0);
    assert_eq!(reader.subscribe_with(&both), [1, 0]);
    let mut found: Vec<(String, u8)> = (0..2)
        .map(|_| reader.message())
        .map(|message| (message.text().to_owned(), message.qos))
        .collect();
    found.sort();
    assert_eq!(found, [("a".to_owned(), 1), ("b".to_owned(), 0)]);
    reader.expect_nothing_before_pong();
}
