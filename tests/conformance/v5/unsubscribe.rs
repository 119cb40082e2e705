//! UNSUBSCRIBE and UNSUBACK (3.10, 3.11), PINGREQ (3.12).

use super::*;
use crate::support::packet::{PINGREQ, unsubscribe};

#[test]
fn mqtt5_3_10_1_1_the_flags_of_unsubscribe_must_be_2() {
    let scene = Scene::new();
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = raw_unsubscribe(0xa0 | flags, 1, &[], b"t");
        ends(&scene, &format!("flags {flags}"), &bytes, MALFORMED);
    }
}

#[test]
fn mqtt5_3_10_3_1_a_topic_filter_must_be_utf8() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        ends(
            &scene,
            &format!("{text:x?}"),
            &raw_unsubscribe(0xa2, 1, &[], text),
            MALFORMED,
        );
    }
}

#[test]
fn mqtt5_3_10_3_2_unsubscribe_needs_a_topic_filter() {
    let scene = Scene::new();
    ends(
        &scene,
        "no filter",
        &unsubscribe(Version::V5, 1, &[]),
        EITHER,
    );
    ends(
        &scene,
        "no filter, User Property",
        &packet(0xa2, b"\x00\x01\x07\x26\x00\x01k\x00\x01v"),
        EITHER,
    );
}

#[test]
fn mqtt5_3_10_4_1_only_the_filter_with_the_same_characters_ends() {
    let scene = Scene::new();
    let mut client = scene.reader("client", "a/+", 1);
    let mut writer = scene.client("writer");
    // All of these match the same topics or look alike, but they are other filters.
    for other in ["a/b", "a/#", "A/+", "a/+/", "a", "+/+", "a//+"] {
        assert_eq!(
            client.unsubscribe(&[&scene.topic(other)]),
            [0x11],
            "{other}"
        );
    }
    assert_eq!(client.unsubscribe(&[&scene.shared("a/+")]), [0x11]);
    writer.publish(&scene.topic("a/b"), "still", 1);
    assert_eq!(texts(&scene.until_end(&mut client, &mut writer)), ["still"]);
    assert_eq!(client.unsubscribe(&[&scene.topic("a/+")]), [0]);
    assert_eq!(client.unsubscribe(&[&scene.topic("a/+")]), [0x11]);
    writer.publish(&scene.topic("a/b"), "no more", 1);
    assert!(scene.until_end(&mut client, &mut writer).is_empty());
    // Shared subscriptions are compared as a whole.
    client.subscribe(&scene.shared("s"), 1);
    assert_eq!(client.unsubscribe(&[&scene.topic("s")]), [0x11]);
    let other_name = scene.shared("s").replacen("$share/", "$share/x", 1);
    assert_eq!(client.unsubscribe(&[&other_name]), [0x11]);
    assert_eq!(client.unsubscribe(&[&scene.shared("s")]), [0]);
}

#[test]
fn mqtt5_3_10_4_2_no_new_message_comes_after_unsubscribe() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.reader("client", "t", 1);
    let mut writers: Vec<Client> = (0..4)
        .map(|n| scene.client(&format!("writer-{n}")))
        .collect();
    for round in 0..20 {
        for writer in &mut writers {
            writer.publish(&topic, round.to_string(), 1);
        }
        for _ in 0..writers.len() {
            client.expect_message(&topic, round.to_string());
        }
        assert_eq!(client.unsubscribe(&[&topic]), [0]);
        for writer in &mut writers {
            writer.publish(&topic, "unwanted", 1);
        }
        for writer in &mut writers {
            assert!(scene.until_end(&mut client, writer).is_empty());
        }
        client.subscribe(&topic, 1);
    }
}

#[test]
fn mqtt5_3_10_4_3_deliveries_under_way_are_completed() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let connect = || scene.connect("client").lasting();
    let mut client = scene.join(connect());
    client.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    writer.publish(&topic, "one", 1);
    writer.publish(&topic, "two", 2);
    writer.publish(&topic, "three", 2);
    let sent = arrive(&mut client, 3);
    client.acknowledge(Kind::PubRec, sent[2].identifier);
    client.expect(Kind::PubRel);
    assert_eq!(client.unsubscribe(&[&topic]), [0]);
    // They stay in flight, also over a new connection.
    client.cut();
    let mut client = scene.join(connect());
    let again: Vec<Packet> = (0..3).map(|_| client.receive()).collect();
    let kinds: Vec<(Kind, u16)> = again
        .iter()
        .map(|packet| (packet.kind, packet.identifier))
        .collect();
    let expected = [
        (Kind::Publish, sent[0].identifier),
        (Kind::Publish, sent[1].identifier),
        (Kind::PubRel, sent[2].identifier),
    ];
    assert_eq!(kinds, expected);
    client.acknowledge(Kind::PubAck, sent[0].identifier);
    client.acknowledge(Kind::PubRec, sent[1].identifier);
    assert_eq!(client.expect(Kind::PubRel).identifier, sent[1].identifier);
    client.acknowledge(Kind::PubComp, sent[1].identifier);
    client.acknowledge(Kind::PubComp, sent[2].identifier);
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt5_3_10_4_4_unsubscribe_is_answered_with_unsuback() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    client.subscribe(&scene.topic("t"), 0);
    let mut bytes = Vec::new();
    for identifier in 1..20 {
        bytes.extend(unsubscribe(Version::V5, identifier, &[&scene.topic("t")]));
    }
    let answers = answers(&mut client, &bytes);
    let identifiers: Vec<u16> = answers.iter().map(|answer| answer.identifier).collect();
    assert!(answers.iter().all(|answer| answer.kind == Kind::UnsubAck));
    assert_eq!(identifiers, (1..20).collect::<Vec<u16>>());
}

#[test]
fn mqtt5_3_10_4_5_unsuback_has_the_identifier_even_if_nothing_ended() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    for identifier in [1, 65_535, 256] {
        client.send_raw(&unsubscribe(Version::V5, identifier, &["never/subscribed"]));
        let unsuback = client.expect(Kind::UnsubAck);
        assert_eq!(
            (unsuback.identifier, &unsuback.codes[..]),
            (identifier, &[0x11][..])
        );
    }
}

#[test]
fn mqtt5_3_10_4_6_several_filters_are_as_several_unsubscribes_with_one_answer() {
    let scene = Scene::new();
    let names = ["a", "b", "c"].map(|name| scene.topic(name));
    let mut client = scene.reader("client", "a", 1);
    client.subscribe(&names[1], 1);
    client.subscribe(&names[2], 1);
    let codes = client.unsubscribe(&[&names[0], &names[0], "x", &names[2]]);
    assert_eq!(codes, [0, 0x11, 0x11, 0]);
    let mut writer = scene.client("writer");
    for name in &names {
        writer.publish(name, "x", 1);
    }
    let found = scene.until_end(&mut client, &mut writer);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].topic, names[1]);
}

/// UNSUBACK for filters that are not there or not valid, with User Properties in the request.
fn unsuback(client: &mut Client) -> Packet {
    let mut body = vec![0, 1];
    let pairs: Vec<_> = (0..20)
        .map(|n| user_property(&n.to_string(), "value"))
        .collect();
    property::write(&mut body, &pairs);
    write_binary(&mut body, b"none");
    write_binary(&mut body, b"a#");
    client.send_raw(&packet(0xa2, &body));
    client.expect(Kind::UnsubAck)
}

#[test]
fn mqtt5_3_11_2_1_no_reason_string_makes_unsuback_too_large() {
    let scene = Scene::new();
    for limit in 22..60 {
        let connect = scene
            .connect("client")
            .property(property::MAXIMUM_PACKET_SIZE, Value::Four(limit));
        let unsuback = unsuback(&mut scene.join(connect));
        assert_eq!(unsuback.codes, [0x11, 0x8f]);
        assert!(unsuback.packet_bytes <= limit as usize, "{unsuback:?}");
    }
}

#[test]
fn mqtt5_3_11_2_2_no_user_property_makes_unsuback_too_large() {
    let scene = Scene::new();
    for limit in [22, 40, 1_000] {
        let connect = scene
            .connect("client")
            .property(property::MAXIMUM_PACKET_SIZE, Value::Four(limit));
        let unsuback = unsuback(&mut scene.join(connect));
        assert_eq!(unsuback.property(property::USER_PROPERTY), None);
        assert_eq!(unsuback.codes, [0x11, 0x8f]);
    }
}

#[test]
fn mqtt5_3_11_3_1_reason_codes_have_the_order_of_the_filters() {
    let scene = Scene::new();
    let mut client = scene.reader("client", "b", 0);
    let codes = client.unsubscribe(&["a", &scene.topic("b"), "#/", &scene.topic("end"), "c"]);
    assert_eq!(codes, [0x11, 0, 0x8f, 0, 0x11]);
}

/// Table 3-9.
const UNSUBSCRIBE_REASON_CODES: [u8; 7] = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];

#[test]
fn mqtt5_3_11_3_2_unsuback_has_reason_codes_of_its_own_for_every_filter() {
    let scene = Scene::new();
    let mut client = scene.reader("client", "t", 0);
    let filters = [
        &scene.topic("t")[..],
        "x",
        "",
        "a+",
        "$share/g",
        "$share//x",
        "$share/g/x",
        "#",
    ];
    let codes = client.unsubscribe(&filters);
    assert!(
        codes
            .iter()
            .all(|code| UNSUBSCRIBE_REASON_CODES.contains(code)),
        "{codes:x?}"
    );
    assert_eq!(codes, [0, 0x11, 0x8f, 0x8f, 0x8f, 0x8f, 0x11, 0x11]);
}

#[test]
fn mqtt5_3_12_4_1_each_pingreq_is_answered() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    client.send_raw(&PINGREQ.repeat(100));
    for _ in 0..100 {
        client.expect(Kind::PingResp);
    }
    client.send_raw(&PINGREQ);
    assert_eq!(client.receive_bytes(), [0xd0, 0]);
}
