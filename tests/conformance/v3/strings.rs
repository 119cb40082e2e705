//! UTF-8 encoded strings (1.5.3), in every field that is one.

use crate::support::{Publish, Scene, Version};

use super::{
    client, expect_cut_off, expect_not_answered, expect_taken, raw_connect, raw_publish,
    raw_subscribe, raw_unsubscribe, reader,
};

/// Byte sequences that are not well-formed UTF-8.
const ILL_FORMED: [(&str, &[u8]); 16] = [
    ("a lone continuation byte", b"a\x80"),
    ("a lead byte at the end", b"a\xc3"),
    ("a lead byte without its continuation", b"\xc3a"),
    ("three bytes cut to two", b"\xe2\x82"),
    ("four bytes cut to three", b"\xf0\x9f\xa6"),
    ("overlong two bytes for U+0000", b"\xc0\x80"),
    ("overlong two bytes for U+002F", b"\xc0\xaf"),
    ("overlong two bytes for U+007F", b"\xc1\xbf"),
    ("overlong three bytes", b"\xe0\x80\xaf"),
    ("overlong four bytes", b"\xf0\x80\x80\xaf"),
    ("the first surrogate, U+D800", b"\xed\xa0\x80"),
    ("the last surrogate, U+DFFF", b"\xed\xbf\xbf"),
    ("a pair of surrogates", b"\xed\xa0\xbd\xed\xb8\x80"),
    ("above U+10FFFF", b"\xf4\x90\x80\x80"),
    ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ("the byte FF", b"\xff"),
];

/// Packets of a connected client with `text` in each string field.
fn packets_with(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("Topic Name", raw_publish(0x30, text, &[], b"x")),
        (
            "Topic Name of QoS 1",
            raw_publish(0x32, text, &[0, 1], b"x"),
        ),
        ("Topic Filter", raw_subscribe(0x82, 1, &[(text, 0)])),
        (
            "a second Topic Filter",
            raw_subscribe(0x82, 1, &[(b"good", 0), (text, 0)]),
        ),
        (
            "Topic Filter of UNSUBSCRIBE",
            raw_unsubscribe(0xa2, 1, &[text]),
        ),
        (
            "a second Topic Filter of UNSUBSCRIBE",
            raw_unsubscribe(0xa2, 1, &[b"good", text]),
        ),
    ]
}

/// CONNECT packets with `text` in each string field. The Will Message and the Password are no strings.
fn connects_with(text: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("Client Identifier", raw_connect(0x02, &[text])),
        (
            "Will Topic",
            raw_connect(0x06, &[b"will-of-a-bad-text", text, b"m"]),
        ),
        (
            "User Name",
            raw_connect(0x82, &[b"name-of-a-bad-text", text]),
        ),
    ]
}

#[test]
fn mqtt3_1_5_3_1_ill_formed_utf8_ends_the_connection() {
    let scene = Scene::new();
    for (what, text) in ILL_FORMED {
        for (field, bytes) in packets_with(text) {
            expect_cut_off(&scene, &format!("{what} in {field}"), &bytes);
        }
        for (field, bytes) in connects_with(text) {
            expect_not_answered(&scene, &format!("{what} in {field}"), &bytes);
        }
    }
}

#[test]
fn mqtt3_1_5_3_1_well_formed_utf8_of_every_length_is_taken() {
    let scene = Scene::new();
    // The first and the last character of each length, and the neighbours of the surrogates.
    for c in [
        '\u{7f}',
        '\u{80}',
        '\u{7ff}',
        '\u{800}',
        '\u{d7ff}',
        '\u{e000}',
        '\u{fffd}',
        '\u{10000}',
        '\u{10ffff}',
    ] {
        let topic = scene.topic(&c.to_string());
        let mut reader = client(&scene, &format!("reader{c}"));
        reader.subscribe(&topic, 0);
        client(&scene, "writer").publish(&topic, "x", 1);
        reader.expect_message(&topic, "x");
    }
}

#[test]
fn mqtt3_1_5_3_2_the_null_character_ends_the_connection() {
    let scene = Scene::new();
    for text in [&b"\0"[..], b"a\0", b"\0a", b"a/\0/b", b"a\0b"] {
        for (field, bytes) in packets_with(text) {
            expect_cut_off(&scene, &format!("U+0000 in {field}"), &bytes);
        }
        for (field, bytes) in connects_with(text) {
            expect_not_answered(&scene, &format!("U+0000 in {field}"), &bytes);
        }
    }
    // What is no string may have it.
    let topic = scene.topic("binary");
    expect_taken(
        &scene,
        "a payload of zeros",
        &raw_publish(0x30, topic.as_bytes(), &[], &[0, 0xff]),
    );
}

#[test]
fn mqtt3_1_5_3_3_a_byte_order_mark_is_a_character() {
    let scene = Scene::new();
    let plain = scene.topic("a");
    let marked = format!("\u{feff}{plain}");
    let inside = scene.topic("\u{feff}a");
    let mut readers = Vec::new();
    for (name, filter) in [("plain", &plain), ("marked", &marked), ("inside", &inside)] {
        let mut reader = client(&scene, name);
        reader.subscribe(filter, 1);
        readers.push((reader, filter.clone()));
    }
    let mut writer = client(&scene, "writer");
    for topic in [&plain, &marked, &inside] {
        writer.publish(topic, topic, 1);
    }
    for (mut reader, filter) in readers {
        let message = reader.expect_message(&filter, &filter);
        assert_eq!(message.topic.as_bytes(), filter.as_bytes());
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_1_5_3_3_a_byte_order_mark_tells_client_identifiers_apart() {
    let scene = Scene::new();
    let id = scene.id("same");
    let mut plain = scene.join(crate::support::Connect::new(&id).v311());
    let mut marked = scene.join(crate::support::Connect::new(&format!("\u{feff}{id}")).v311());
    plain.expect_nothing_before_pong();
    marked.expect_nothing_before_pong();
}

#[test]
fn mqtt3_1_5_3_1_a_string_longer_than_its_packet_ends_the_connection() {
    let scene = Scene::new();
    for (what, bytes) in [
        ("Topic Name", &[0x30, 4, 0, 3, b'a', b'b'][..]),
        ("Topic Name of 65,535 bytes", &[0x30, 3, 0xff, 0xff, b'a']),
        ("half of a length", &[0x30, 1, 0]),
        ("Topic Filter", &[0x82, 6, 0, 1, 0, 9, b'a', 0]),
        ("half of a filter's length", &[0x82, 3, 0, 1, 0]),
        (
            "Topic Filter of UNSUBSCRIBE",
            &[0xa2, 6, 0, 1, 0, 9, b'a', b'b'],
        ),
        ("half of an UNSUBSCRIBE's length", &[0xa2, 3, 0, 1, 0]),
    ] {
        expect_cut_off(&scene, what, bytes);
    }
    // The bystander of all of this is not concerned.
    let mut reader = reader(&scene, "reader", "t", 0);
    let mut writer = client(&scene, "writer");
    writer.send_raw(&Publish::new(&scene.topic("t"), "x").bytes(Version::V311));
    reader.expect_message(&scene.topic("t"), "x");
}
