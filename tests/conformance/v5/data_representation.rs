//! Chapter 1.5: strings, pairs and integers.

use super::*;

/// Packets with `text` as each of the strings that a connected client sends.
fn packets_with(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let properties = |identifier| raw_text(identifier, &[text]);
    vec![
        ("Topic Name", raw_publish(0x30, text, None, &[])),
        (
            "Content Type",
            raw_publish(0x30, b"t", None, &properties(0x03)),
        ),
        (
            "Response Topic",
            raw_publish(0x30, b"t", None, &properties(0x08)),
        ),
        ("SUBSCRIBE", raw_subscribe(0x82, 1, &[], text, 0)),
        ("UNSUBSCRIBE", raw_unsubscribe(0xa2, 1, &[], text)),
        (
            "Reason String",
            packet(
                0x40,
                &[&[0, 1, 0, 3 + text.len() as u8][..], &properties(0x1f)].concat(),
            ),
        ),
        (
            "name of a User Property",
            raw_publish(0x30, b"t", None, &raw_text(0x26, &[text, b"v"])),
        ),
        (
            "value of a User Property",
            raw_publish(0x30, b"t", None, &raw_text(0x26, &[b"k", text])),
        ),
    ]
}

#[test]
fn mqtt5_1_5_4_1_ill_formed_utf8_is_malformed_in_every_string() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        for (what, bytes) in packets_with(text) {
            ends(&scene, &format!("{what} {text:x?}"), &bytes, MALFORMED);
        }
        refuses(
            &scene,
            "Client Identifier",
            &raw_connect(2, &[], &[text]),
            &[0x81, 0x85],
        );
    }
    let mut reader = scene.reader("reader", "#", 0);
    let good = scene.topic("\u{e9}\u{20ac}\u{d7ff}\u{e000}\u{10ffff}");
    scene.client("writer").publish(&good, "x", 0);
    assert_eq!(reader.message().topic, good);
}

#[test]
fn mqtt5_1_5_4_2_a_null_character_is_refused_in_every_string() {
    let scene = Scene::new();
    for text in [&b"\0"[..], b"a\0b"] {
        for (what, bytes) in packets_with(text) {
            ends(&scene, what, &bytes, &[0x81, 0x82, 0x8f, 0x90]);
        }
        refuses(
            &scene,
            "Client Identifier",
            &raw_connect(2, &[], &[text]),
            &[0x81, 0x82, 0x85],
        );
    }
}

#[test]
fn mqtt5_1_5_4_3_a_byte_order_mark_is_a_character_and_stays() {
    let scene = Scene::new();
    let marked = format!("{}\u{feff}x\u{feff}", scene.topic(""));
    let mut reader = scene.reader("reader", "#", 0);
    let mut exact = scene.client("exact");
    exact.subscribe(&marked, 0);
    let mut plain = scene.reader("plain", "x", 0);
    let mut writer = scene.client("writer");
    let publish =
        Publish::new(&marked, "p").property(property::CONTENT_TYPE, Value::Text("\u{feff}".into()));
    writer.publish_with(publish);
    let message = exact.expect_message(&marked, "p");
    assert_eq!(
        message.property(property::CONTENT_TYPE),
        Some(&Value::Text("\u{feff}".into()))
    );
    assert_eq!(scene.until_end(&mut reader, &mut writer)[0].topic, marked);
    assert!(
        scene.until_end(&mut plain, &mut writer).is_empty(),
        "the mark was stripped"
    );
}

#[test]
fn mqtt5_1_5_5_1_a_variable_byte_integer_has_as_few_bytes_as_it_needs() {
    let scene = Scene::new();
    ends(
        &scene,
        "Remaining Length 0 in two bytes",
        &[0xc0, 0x80, 0x00],
        MALFORMED,
    );
    ends(
        &scene,
        "Remaining Length 4 in three bytes",
        &[0x30, 0x84, 0x80, 0x00, 0, 1, b't', 0],
        MALFORMED,
    );
    ends(
        &scene,
        "Property Length 0 in two bytes",
        &packet(0x30, &[0, 1, b't', 0x80, 0x00]),
        MALFORMED,
    );
    let identifier = raw_subscribe(0x82, 1, &[0x0b, 0x81, 0x00], b"t", 0);
    ends(
        &scene,
        "Subscription Identifier 1 in two bytes",
        &identifier,
        MALFORMED,
    );
    ends(
        &scene,
        "five bytes",
        &[0x30, 0x80, 0x80, 0x80, 0x80, 0x01],
        MALFORMED,
    );
    // What the broker sends: the client checks the length of each Variable Byte Integer that it reads.
    let mut reader = scene.reader("reader", "t", 0);
    let mut writer = scene.client("writer");
    let topic = scene.topic("t");
    let overhead = topic.len() + 3;
    for remaining in [overhead, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
        writer.publish(&topic, vec![b'x'; remaining - overhead], 0);
        let bytes = reader.receive_bytes();
        let header = match remaining {
            0..128 => 2,
            128..16_384 => 3,
            16_384..2_097_152 => 4,
            _ => 5,
        };
        assert_eq!(bytes.len(), remaining + header);
    }
}

#[test]
fn mqtt5_1_5_7_1_both_strings_of_a_pair_must_be_good() {
    let scene = Scene::new();
    for bad in [&b"\xff"[..], b"\xed\xa0\x80", b"\0"] {
        for pair in [[bad, b"v"], [b"k", bad]] {
            let pair = raw_text(0x26, &pair);
            ends(
                &scene,
                "PUBLISH",
                &raw_publish(0x30, b"t", None, &pair),
                EITHER,
            );
            ends(
                &scene,
                "SUBSCRIBE",
                &raw_subscribe(0x82, 1, &pair, b"t", 0),
                EITHER,
            );
            ends(
                &scene,
                "UNSUBSCRIBE",
                &raw_unsubscribe(0xa2, 1, &pair, b"t"),
                EITHER,
            );
            refuses(
                &scene,
                "CONNECT",
                &raw_connect(2, &pair, &[b"pair"]),
                EITHER,
            );
        }
    }
    let cut = raw_publish(0x30, b"t", None, &raw_text(0x26, &[b"k"]));
    ends(&scene, "a pair without its value", &cut, MALFORMED);
}
