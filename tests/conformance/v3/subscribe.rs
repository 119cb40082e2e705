//! SUBSCRIBE and SUBACK (3.8, 3.9).

use crate::support::{Kind, Publish, Scene, Subscribe, Version};

use super::{BAD_FILTERS, bytes, client, expect_cut_off, raw_subscribe, reader};

#[test]
fn mqtt3_3_8_1_1_wrong_flags_end_the_connection() {
    let scene = Scene::new();
    let mut watcher = reader(&scene, "watcher", "t", 0);
    let topic = scene.topic("t");
    for flags in (0..16).filter(|flags| *flags != 2) {
        let mut bytes = raw_subscribe(0x80 | flags, 1, &[(topic.as_bytes(), 0)]);
        bytes.extend(Publish::new(&topic, "x").bytes(Version::V311));
        expect_cut_off(&scene, &format!("flags {flags:#06b}"), &bytes);
    }
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_8_3_1_a_filter_that_is_not_utf8_ends_the_connection() {
    let scene = Scene::new();
    for filter in BAD_FILTERS {
        for filters in [vec![(filter, 0)], vec![(&b"good"[..], 0), (filter, 1)]] {
            let bytes = raw_subscribe(0x82, 1, &filters);
            expect_cut_off(&scene, "a bad filter", &bytes);
        }
    }
}

#[test]
fn mqtt3_3_8_3_2_without_wildcards_such_filters_are_refused() {
    let scene = Scene::with("listener.wildcard_subscription_available = false");
    let mut client = client(&scene, "client");
    let topic = scene.topic("a/b");
    let all = Subscribe::to(&topic, 1)
        .and(&scene.topic("#"), 0)
        .and(&scene.topic("a/+"), 1)
        .and("+/+/b", 2)
        .and("#", 0)
        .and(&scene.topic("c"), 2);
    assert_eq!(client.subscribe_with(&all), [1, 0x80, 0x80, 0x80, 0x80, 2]);
    client.publish(&scene.topic("a/c"), "not subscribed", 1);
    client.publish(&topic, "x", 1);
    client.expect_message(&topic, "x");
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_8_3_3_no_filter_ends_the_connection() {
    let scene = Scene::new();
    expect_cut_off(&scene, "no filter", &raw_subscribe(0x82, 1, &[]));
    expect_cut_off(&scene, "a filter without QoS", &[0x82, 5, 0, 1, 0, 1, b't']);
}

#[test]
fn mqtt3_3_8_3_4_reserved_bits_and_qos_3_end_the_connection() {
    let scene = Scene::new();
    let mut watcher = reader(&scene, "watcher", "t", 0);
    let topic = scene.topic("t");
    for qos in 3..=255 {
        let mut bytes = raw_subscribe(0x82, 1, &[(topic.as_bytes(), qos)]);
        bytes.extend(Publish::new(&topic, "x").bytes(Version::V311));
        expect_cut_off(&scene, &format!("QoS byte {qos:#04x}"), &bytes);
    }
    for qos in [3, 4, 8, 0x10, 0x80] {
        let second = raw_subscribe(0x82, 1, &[(b"good", 0), (topic.as_bytes(), qos)]);
        expect_cut_off(&scene, "in the second pair", &second);
    }
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_8_4_1_every_subscribe_has_its_suback() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    let mut all = Vec::new();
    for n in 1..=200_u16 {
        let topic = scene.topic(&format!("{}", n % 10));
        all.extend(raw_subscribe(0x82, n, &[(topic.as_bytes(), (n % 3) as u8)]));
    }
    client.send_raw(&all);
    for n in 1..=200 {
        let suback = client.expect(Kind::SubAck);
        assert_eq!((suback.identifier, suback.code), (n, (n % 3) as u8));
    }
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_8_4_2_suback_has_the_identifier_of_its_subscribe() {
    let scene = Scene::new();
    let client = &mut client(&scene, "client");
    let topic = scene.topic("t");
    for identifier in [1_u16, 0xff, 0x100, 0xabcd, 0xffff, 1] {
        client.send_raw(&raw_subscribe(0x82, identifier, &[(topic.as_bytes(), 1)]));
        let [high, low] = identifier.to_be_bytes();
        assert_eq!(bytes(client, 5), [0x90, 3, high, low, 1]);
    }
}

#[test]
fn mqtt3_3_8_4_3_an_identical_filter_replaces_the_subscription() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    writer.publish_with(Publish::new(&topic, "kept").qos(2).retain());
    for filter in ["t", "+", "#"] {
        let filter = scene.topic(filter);
        let mut reader = client(&scene, "reader");
        for qos in [0, 2, 1, 1, 0] {
            reader.subscribe(&filter, qos);
            // What is retained comes again; a message comes once, with the new QoS.
            let kept = reader.expect_message(&topic, "kept");
            assert_eq!((kept.qos, kept.retain), (qos, true), "{filter}");
            writer.publish(&topic, "live", 2);
            let live = reader.expect_message(&topic, "live");
            assert_eq!((live.qos, live.retain), (qos, false), "{filter}");
            reader.expect_nothing_before_pong();
        }
        // One UNSUBSCRIBE ends it, however often it was subscribed to.
        reader.unsubscribe(&[&filter]);
        writer.publish(&topic, "live", 2);
        reader.expect_nothing_before_pong();
        reader.disconnect();
    }
}

#[test]
fn mqtt3_3_8_4_3_publications_flow_on_while_a_subscription_is_replaced() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 1);
    let mut writer = client(&scene, "writer");
    for n in 0..200_u16 {
        let publish = Publish::new(&topic, n.to_string()).qos(1);
        writer.send_raw(&publish.identifier(n + 1).bytes(Version::V311));
        if n % 10 == 0 {
            reader.send_raw(&raw_subscribe(0x82, n + 1, &[(topic.as_bytes(), 1)]));
        }
    }
    for n in 0..200 {
        let message = reader.wait_for("a message", |packet| packet.kind == Kind::Publish);
        assert_eq!(message.text(), n.to_string(), "none is missing, none twice");
        reader.acknowledge(Kind::PubAck, message.identifier);
    }
}

#[test]
fn mqtt3_3_8_4_4_many_filters_are_like_many_subscribes() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    // The same filter twice: the second replaces the first.
    let all = Subscribe::to(&scene.topic("a"), 2)
        .and(&scene.topic("b/+"), 1)
        .and(&scene.topic("c/#"), 0)
        .and(&scene.topic("a"), 0);
    assert_eq!(client.subscribe_with(&all), [2, 1, 0, 0]);
    for (topic, qos) in [("a", 0), ("b/x", 1), ("c", 0), ("c/y/z", 0)] {
        let topic = scene.topic(topic);
        client.publish(&topic, "x", 2);
        assert_eq!(client.expect_message(&topic, "x").qos, qos, "{topic}");
        client.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_3_8_4_4_a_thousand_filters_have_one_suback() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    let mut subscribe = Subscribe::default();
    let expected: Vec<u8> = (0..1_000_u16).map(|n| (n % 3) as u8).collect();
    for (n, qos) in expected.iter().enumerate() {
        subscribe = subscribe.and(&scene.topic(&n.to_string()), *qos);
    }
    assert_eq!(client.subscribe_with(&subscribe), expected);
    client.publish(&scene.topic("999"), "x", 1);
    client.expect_message(&scene.topic("999"), "x");
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_8_4_5_suback_has_a_code_for_each_filter() {
    let scene = Scene::with("message.topic_levels_max = 4\nlistener.maximum_qos = 1");
    let mut client = client(&scene, "client");
    let all = Subscribe::to(&scene.topic("a"), 0)
        .and(&scene.topic("too/many/levels/in/it"), 0)
        .and(&scene.topic("b"), 1)
        .and(&scene.topic("c"), 2);
    assert_eq!(client.subscribe_with(&all), [0, 0x80, 1, 1]);
}

#[test]
fn mqtt3_3_8_4_6_the_lower_of_both_qos_holds() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    for granted in 0..3 {
        let mut reader = reader(&scene, "reader", "t", granted);
        for published in 0..3 {
            writer.publish(&topic, "x", published);
            let message = reader.expect_message(&topic, "x");
            assert_eq!(message.qos, published.min(granted));
        }
        reader.expect_nothing_before_pong();
        reader.disconnect();
    }
}

#[test]
fn mqtt3_3_8_4_6_a_lower_qos_than_asked_for_holds() {
    for maximum in [0, 1] {
        let scene = Scene::with(&format!("listener.maximum_qos = {maximum}"));
        let topic = scene.topic("t");
        let mut reader = client(&scene, "reader");
        let codes = reader.subscribe_with(&Subscribe::to(&topic, 2));
        assert_eq!(codes, [maximum]);
        client(&scene, "writer").publish(&topic, "x", maximum);
        assert_eq!(reader.expect_message(&topic, "x").qos, maximum);
    }
}

#[test]
fn mqtt3_3_9_3_1_codes_are_in_the_order_of_the_filters() {
    let scene = Scene::with("message.topic_levels_max = 4");
    let mut client = client(&scene, "client");
    for turn in 0..4 {
        let mut kinds = [
            ("a", 0, 0),
            ("b", 1, 1),
            ("c", 2, 2),
            ("1/2/3/4/5", 0, 0x80),
        ];
        kinds.rotate_left(turn);
        let mut subscribe = Subscribe::default();
        for (filter, qos, _) in kinds {
            subscribe = subscribe.and(&scene.topic(filter), qos);
        }
        let expected: Vec<u8> = kinds.iter().map(|(.., code)| *code).collect();
        assert_eq!(client.subscribe_with(&subscribe), expected);
    }
}

#[test]
fn mqtt3_3_9_3_2_every_refusal_is_0x80() {
    let scene = Scene::with(
        "message.topic_levels_max = 4\nmessage.topic_bytes_max = 200\nsession.subscriptions_max = 1\n\
         listener.wildcard_subscription_available = false\nlistener.shared_subscription_available = false",
    );
    let mut client = client(&scene, "client");
    let all = Subscribe::to(&scene.topic("first"), 2)
        .and(&scene.topic("1/2/3/4/5"), 0)
        .and(&scene.topic(&"long".repeat(50)), 0)
        .and(&scene.topic("+"), 0)
        .and(&scene.shared("shared"), 0)
        .and(&scene.topic("over the limit"), 0);
    assert_eq!(
        client.subscribe_with(&all),
        [2, 0x80, 0x80, 0x80, 0x80, 0x80]
    );
}
