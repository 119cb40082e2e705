//! SUBSCRIBE and SUBACK (3.8, 3.9).

use super::*;
use crate::support::packet::{NO_LOCAL, RETAINED_NEVER};

#[test]
fn mqtt5_3_8_1_1_the_flags_of_subscribe_must_be_2() {
    let scene = Scene::new();
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = raw_subscribe(0x80 | flags, 1, &[], b"t", 0);
        ends(&scene, &format!("flags {flags}"), &bytes, MALFORMED);
    }
}

#[test]
fn mqtt5_3_8_3_1_a_topic_filter_must_be_utf8() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        ends(
            &scene,
            &format!("{text:x?}"),
            &raw_subscribe(0x82, 1, &[], text, 0),
            MALFORMED,
        );
    }
}

#[test]
fn mqtt5_3_8_3_2_subscribe_needs_a_topic_filter_and_its_options() {
    let scene = Scene::new();
    ends(&scene, "no filter", &packet(0x82, &[0, 1, 0]), EITHER);
    ends(
        &scene,
        "no filter, User Property",
        &packet(0x82, b"\x00\x01\x07\x26\x00\x01k\x00\x01v"),
        EITHER,
    );
    ends(
        &scene,
        "no options",
        &packet(0x82, &[0, 1, 0, 0, 1, b't']),
        MALFORMED,
    );
    let second = packet(0x82, &[0, 1, 0, 0, 1, b't', 0, 0, 1, b'u']);
    ends(&scene, "no options for the second", &second, MALFORMED);
}

#[test]
fn mqtt5_3_8_3_3_no_local_keeps_a_clients_own_messages_from_it() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.reader("client", "t", 2 | NO_LOCAL);
    let mut other = scene.client("other");
    other.subscribe(&topic, 2);
    for qos in 0..3 {
        client.publish(&topic, "own", qos);
        other.expect_message(&topic, "own");
        other.publish(&topic, "other's", qos);
        client.expect_message(&topic, "other's");
        other.expect_message(&topic, "other's");
    }
    // It is about the Client Identifier: what was sent on a former connection is its own as well.
    let connect = || scene.connect("lasting").lasting();
    let mut lasting = scene.join(connect());
    lasting.subscribe(&topic, 1 | NO_LOCAL);
    lasting.subscribe(&scene.topic("end"), 1);
    lasting.publish(&topic, "own", 1);
    lasting.cut();
    let mut lasting = scene.join(connect());
    assert!(scene.until_end(&mut lasting, &mut other).is_empty());
}

#[test]
fn mqtt5_3_8_3_4_no_local_on_a_shared_subscription_is_a_protocol_error() {
    let scene = Scene::new();
    for qos in 0..3 {
        let bytes = Subscribe::to(&scene.shared("t"), qos | NO_LOCAL).bytes(Version::V5, 1);
        ends(&scene, "No Local", &bytes, PROTOCOL_ERROR);
    }
    let second = Subscribe::to("t", 0).and(&scene.shared("t"), NO_LOCAL);
    ends(
        &scene,
        "the second filter",
        &second.bytes(Version::V5, 1),
        PROTOCOL_ERROR,
    );
    scene.client("client").subscribe(&scene.shared("t"), 1);
}

#[test]
fn mqtt5_3_8_3_5_reserved_subscription_options_must_be_0() {
    let scene = Scene::new();
    for options in [0x40, 0x80, 0xc0, 0x41, 0xff] {
        ends(
            &scene,
            &format!("{options:#x}"),
            &raw_subscribe(0x82, 1, &[], b"t", options),
            EITHER,
        );
    }
    // Values that do not exist are refused as well.
    for options in [0x03, 0x30, 0x33] {
        ends(
            &scene,
            &format!("{options:#x}"),
            &raw_subscribe(0x82, 1, &[], b"t", options),
            EITHER,
        );
    }
}

#[test]
fn mqtt5_3_8_4_1_subscribe_is_answered_with_suback() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    for n in 1..50 {
        client.send_raw(&Subscribe::to(&scene.topic(&n.to_string()), 0).bytes(Version::V5, n));
    }
    for n in 1..50 {
        assert_eq!(client.expect(Kind::SubAck).identifier, n);
    }
}

#[test]
fn mqtt5_3_8_4_2_suback_has_the_identifier_of_subscribe() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    for identifier in [1, 300, 65_535, 2] {
        // Also where nothing is granted.
        for filter in ["t", "not/#/valid"] {
            client.send_raw(&Subscribe::to(filter, 0).bytes(Version::V5, identifier));
            assert_eq!(client.expect(Kind::SubAck).identifier, identifier);
        }
    }
}

#[test]
fn mqtt5_3_8_4_3_the_same_filter_replaces_the_subscription() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.reader("client", "other", 0);
    let mut writer = scene.client("writer");
    for (qos, identifier) in [(0, 1), (2, 2), (1, 3), (0, 4)] {
        let subscribe = Subscribe::to(&topic, qos).identified(identifier);
        assert_eq!(client.subscribe_with(&subscribe), [qos]);
        writer.publish(&topic, "x", 2);
        let found = scene.until_end(&mut client, &mut writer);
        assert_eq!(found.len(), 1, "one subscription, one copy");
        assert_eq!(
            (found[0].qos, found[0].subscription_identifiers()),
            (qos, vec![identifier])
        );
    }
    // Filters that differ at all are different subscriptions.
    client.unsubscribe(&[&topic]);
    for (filter, identifier) in [("t", 1), ("+", 2), ("t/#", 3)] {
        client.subscribe_with(&Subscribe::to(&scene.topic(filter), 1).identified(identifier));
    }
    writer.publish(&topic, "x", 1);
    assert_eq!(
        scene.until_end(&mut client, &mut writer)[0].subscription_identifiers(),
        [1, 2, 3]
    );
    // One that ends leaves the others.
    assert_eq!(client.unsubscribe(&[&topic]), [0]);
    writer.publish(&topic, "x", 1);
    assert_eq!(
        scene.until_end(&mut client, &mut writer)[0].subscription_identifiers(),
        [2, 3]
    );
}

#[test]
fn mqtt5_3_8_4_4_a_replaced_subscription_gets_what_is_retained_and_misses_nothing() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    writer.publish_with(Publish::new(&scene.topic("kept"), "kept").qos(1).retain());
    let mut client = scene.client("client");
    for _ in 0..3 {
        client.subscribe(&scene.topic("kept"), 1);
        client.expect_message(&scene.topic("kept"), "kept");
    }
    // Messages flow while the subscription is made again and again.
    client.subscribe(&topic, 1);
    let topic_of_writer = topic.clone();
    let total = 400;
    let writer = std::thread::spawn(move || {
        for n in 0..total {
            writer.publish(&topic_of_writer, n.to_string(), 1);
        }
        writer
    });
    let mut next = 0;
    for n in 0..1_000_u16 {
        if next >= total {
            break;
        }
        let options = 1 | if n % 2 == 0 { RETAINED_NEVER } else { 0 };
        client.send_raw(&Subscribe::to(&topic, options).bytes(Version::V5, 1 + n));
        loop {
            let packet = client.receive();
            match packet.kind {
                Kind::SubAck => break,
                Kind::Publish => {
                    client.acknowledge(Kind::PubAck, packet.identifier);
                    assert_eq!(packet.text(), next.to_string());
                    next += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    while next < total {
        client.expect_message(&topic, next.to_string());
        next += 1;
    }
    writer.join().expect("the writer");
}

#[test]
fn mqtt5_3_8_4_5_several_filters_are_as_several_subscribes_with_one_answer() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    let mut writer = scene.client("writer");
    writer.publish_with(Publish::new(&scene.topic("b"), "kept").qos(1).retain());
    let subscribe = Subscribe::to(&scene.topic("a"), 1)
        .and("x/#/y", 1)
        .and(&scene.topic("b"), 2)
        .and(&scene.topic("a"), 0)
        .identified(9);
    client.send_raw(&subscribe.bytes(Version::V5, 5));
    let suback = client.expect(Kind::SubAck);
    assert_eq!(
        (suback.identifier, &suback.codes[..]),
        (5, &[1, 0x8f, 2, 0][..])
    );
    let kept = client.expect_message(&scene.topic("b"), "kept");
    assert_eq!(kept.subscription_identifiers(), [9]);
    // The last of two equal filters counts.
    writer.publish(&scene.topic("a"), "x", 2);
    assert_eq!(client.expect_message(&scene.topic("a"), "x").qos, 0);
    writer.publish(&scene.topic("b"), "y", 2);
    assert_eq!(client.expect_message(&scene.topic("b"), "y").qos, 2);
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt5_3_8_4_6_suback_has_one_reason_code_for_each_filter() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    for count in [1, 2, 10, 127, 128, 1_000] {
        let mut subscribe = Subscribe::default();
        for n in 0..count {
            subscribe = subscribe.and(&scene.topic(&n.to_string()), 0);
        }
        assert_eq!(client.subscribe_with(&subscribe).len(), count);
    }
}

#[test]
fn mqtt5_3_8_4_7_suback_tells_the_granted_qos_or_the_failure() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    for qos in 0..3 {
        assert_eq!(
            client.subscribe_with(&Subscribe::to(&scene.topic("t"), qos)),
            [qos]
        );
    }
    for filter in [
        "",
        "a#",
        "#/a",
        "a+",
        "$share//a",
        "$share/g",
        "$share/+/a",
        "$share/g/",
    ] {
        assert_eq!(
            client.subscribe_with(&Subscribe::to(filter, 1)),
            [0x8f],
            "{filter:?}"
        );
    }
    let reduced = Scene::with(
        "listener.maximum_qos = 1\nlistener.wildcard_subscription_available = false
         listener.shared_subscription_available = false",
    );
    let subscribe = Subscribe::to("a", 2).and("a/+", 2).and("$share/g/a", 1);
    assert_eq!(
        reduced.client("client").subscribe_with(&subscribe),
        [1, 0xa2, 0x9e]
    );
}

#[test]
fn mqtt5_3_8_4_8_messages_come_with_the_lower_of_both_qos() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    for granted in 0..3 {
        let mut reader = scene.client("reader");
        reader.subscribe(&topic, granted);
        let mut offline = scene.join(scene.connect("offline").lasting());
        offline.subscribe(&topic, granted);
        offline.disconnect();
        for published in 0..3 {
            writer.publish(&topic, "x", published);
            assert_eq!(
                reader.expect_message(&topic, "x").qos,
                granted.min(published)
            );
        }
        let mut offline = scene.join(scene.connect("offline").lasting());
        for published in 1..3.min(if granted == 0 { 1 } else { 3 }) {
            assert_eq!(
                offline.expect_message(&topic, "x").qos,
                granted.min(published)
            );
        }
        offline.expect_nothing_before_pong();
    }
}

/// SUBACK for filters that are refused, with User Properties in the request.
fn suback(client: &mut Client) -> Packet {
    let mut subscribe = Subscribe::to("a#", 1).and("$share/g", 0);
    for n in 0..20 {
        let (identifier, value) = user_property(&n.to_string(), "value");
        subscribe = subscribe.property(identifier, value);
    }
    client.send_raw(&subscribe.bytes(Version::V5, 1));
    client.expect(Kind::SubAck)
}

#[test]
fn mqtt5_3_9_2_1_no_reason_string_makes_suback_too_large() {
    let scene = Scene::new();
    for limit in 22..60 {
        let connect = scene
            .connect("client")
            .property(property::MAXIMUM_PACKET_SIZE, Value::Four(limit));
        let suback = suback(&mut scene.join(connect));
        assert_eq!(suback.codes, [0x8f, 0x8f]);
        assert!(suback.packet_bytes <= limit as usize, "{suback:?}");
    }
}

#[test]
fn mqtt5_3_9_2_2_no_user_property_makes_suback_too_large() {
    let scene = Scene::new();
    for limit in [None, Some(22), Some(40)] {
        let mut connect = scene.connect("client");
        if let Some(limit) = limit {
            connect = connect.property(property::MAXIMUM_PACKET_SIZE, Value::Four(limit));
        }
        let suback = suback(&mut scene.join(connect));
        assert_eq!(suback.property(property::USER_PROPERTY), None);
        assert_eq!(suback.codes, [0x8f, 0x8f]);
    }
}

#[test]
fn mqtt5_3_9_3_1_reason_codes_have_the_order_of_the_filters() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    let subscribe = Subscribe::to(&scene.topic("2"), 2)
        .and("bad#", 2)
        .and(&scene.topic("0"), 0)
        .and(&scene.shared("1"), 1)
        .and("$share/bad", 1)
        .and(&scene.topic("1"), 1);
    assert_eq!(client.subscribe_with(&subscribe), [2, 0x8f, 0, 1, 0x8f, 1]);
}

/// Table 3-8.
const SUBSCRIBE_REASON_CODES: [u8; 12] = [
    0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2,
];

#[test]
fn mqtt5_3_9_3_2_suback_has_reason_codes_of_its_own_for_every_filter() {
    let settings = "session.subscriptions_max = 3
         message.topic_levels_max = 4
         listener.shared_subscription_available = false
         listener.wildcard_subscription_available = false";
    let scene = Scene::with(settings);
    let subscribe = Subscribe::to("a", 0)
        .and("b", 1)
        .and("c", 2)
        .and("d", 2)
        .and("a/b/c/d/e", 0)
        .and("$share/g/a", 0)
        .and("a/+", 0)
        .and("", 0)
        .and("#a", 0);
    let codes = scene.client("client").subscribe_with(&subscribe);
    assert!(
        codes
            .iter()
            .all(|code| SUBSCRIBE_REASON_CODES.contains(code)),
        "{codes:x?}"
    );
    assert_eq!(codes, [0, 1, 2, 0x97, 0x8f, 0x9e, 0xa2, 0x8f, 0x8f]);
}
