//! UNSUBSCRIBE (3.10).

use crate::support::{Kind, Publish, Scene, Subscribe, Version};

use super::{BAD_FILTERS, bytes, client, expect_cut_off, lasting, raw_unsubscribe, reader};

#[test]
fn mqtt3_3_10_1_1_wrong_flags_end_the_connection() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = raw_unsubscribe(0xa0 | flags, 1, &[topic.as_bytes()]);
        expect_cut_off(&scene, &format!("flags {flags:#06b}"), &bytes);
    }
}

#[test]
fn mqtt3_3_10_3_1_a_filter_that_is_not_utf8_ends_the_connection() {
    let scene = Scene::new();
    for filter in BAD_FILTERS {
        for filters in [vec![filter], vec![&b"good"[..], filter]] {
            let bytes = raw_unsubscribe(0xa2, 1, &filters);
            expect_cut_off(&scene, "a bad filter", &bytes);
        }
    }
    // Packed without a gap: a byte between or behind them ends in the middle of a string.
    let bytes = [0xa2, 9, 0, 1, 0, 1, b'a', 0, 0, 1, b'b'];
    expect_cut_off(&scene, "a gap", &bytes);
}

#[test]
fn mqtt3_3_10_3_2_no_filter_ends_the_connection() {
    let scene = Scene::new();
    expect_cut_off(&scene, "no filter", &raw_unsubscribe(0xa2, 1, &[]));
}

#[test]
fn mqtt3_3_10_4_1_filters_are_compared_character_by_character() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    let topic = scene.topic("a/b");
    let held = ["a/b", "a/+", "a/#", "+/b", "#"].map(|filter| scene.topic(filter));
    for (n, filter) in held.iter().enumerate() {
        client.subscribe(filter, 1);
        // None of these is one of them, though each matches the same topics or looks alike.
        for other in ["a/B", "a/b/", "/a/b", "+/+", "a", "b", "a/b/#", "A/#"] {
            client.unsubscribe(&[&scene.topic(other)]);
        }
        for other in held.iter().skip(n + 1) {
            client.unsubscribe(&[other]);
        }
        client.publish(&topic, "x", 1);
        client.expect_message(&topic, "x");
        client.expect_nothing_before_pong();
    }
    // Each goes by its own name; the others stay until it is their turn.
    for filter in &held {
        client.publish(&topic, "still", 1);
        client.expect_message(&topic, "still");
        client.unsubscribe(&[filter]);
    }
    client.publish(&topic, "gone", 1);
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_10_4_2_after_unsuback_no_new_message_comes() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    for qos in 0..3 {
        for filter in ["t", "+", "#"] {
            let mut reader = reader(&scene, "reader", filter, qos);
            writer.publish(&topic, "before", qos);
            reader.expect_message(&topic, "before");
            reader.unsubscribe(&[&scene.topic(filter)]);
            writer.publish(&topic, "after", qos);
            // It has come to the broker before anybody subscribes again.
            writer.expect_nothing_before_pong();
            reader.expect_nothing_before_pong();
            reader.disconnect();
        }
    }
}

#[test]
fn mqtt3_3_10_4_3_what_was_begun_is_completed() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 2);
    for qos in [1, 2] {
        writer.publish(&topic, qos.to_string(), qos);
    }
    let one = reader.expect(Kind::Publish);
    let two = reader.expect(Kind::Publish);
    reader.unsubscribe(&[&topic]);
    writer.publish(&topic, "not any more", 1);
    // Also over a reconnection.
    reader.cut();
    let mut reader = lasting(&scene, "reader");
    for sent in [&one, &two] {
        let again = reader.expect(Kind::Publish);
        assert_eq!((again.identifier, again.dup), (sent.identifier, true));
        assert_eq!(again.payload, sent.payload);
    }
    reader.acknowledge(Kind::PubAck, one.identifier);
    reader.acknowledge(Kind::PubRec, two.identifier);
    assert_eq!(reader.expect(Kind::PubRel).identifier, two.identifier);
    reader.acknowledge(Kind::PubComp, two.identifier);
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_10_4_4_unsuback_has_the_identifier_of_its_unsubscribe() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    let topic = scene.topic("t");
    client.subscribe(&topic, 0);
    for identifier in [1_u16, 0xff, 0x100, 0xabcd, 0xffff] {
        client.send_raw(&raw_unsubscribe(0xa2, identifier, &[topic.as_bytes()]));
        let [high, low] = identifier.to_be_bytes();
        assert_eq!(bytes(&client, 4), [0xb0, 2, high, low]);
    }
}

#[test]
fn mqtt3_3_10_4_5_unsuback_comes_also_when_nothing_was_subscribed() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    for filter in ["never", "+", "#", "a/+/#"] {
        let filter = scene.topic(filter);
        client.send_raw(&raw_unsubscribe(0xa2, 5, &[filter.as_bytes()]));
        assert_eq!(bytes(&client, 4), [0xb0, 2, 0, 5]);
    }
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_10_4_6_many_filters_have_one_unsuback() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    let names: Vec<String> = (0..100).map(|n| scene.topic(&n.to_string())).collect();
    let mut subscribe = Subscribe::default();
    for name in &names {
        subscribe = subscribe.and(name, 0);
    }
    client.subscribe_with(&subscribe);
    // All but the last, one of them twice, and one that is not held.
    let mut filters: Vec<&[u8]> = names[..99].iter().map(|name| name.as_bytes()).collect();
    filters.extend([names[0].as_bytes(), b"never"]);
    client.send_raw(&raw_unsubscribe(0xa2, 3, &filters));
    assert_eq!(bytes(&client, 4), [0xb0, 2, 0, 3]);
    for name in &names {
        client.send_raw(&Publish::new(name, "x").bytes(Version::V311));
    }
    client.expect_message(&names[99], "x");
    client.expect_nothing_before_pong();
}
