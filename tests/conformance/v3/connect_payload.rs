//! CONNECT's flags and the fields of its payload (3.1.2.3 to 3.1.3).

use crate::support::{Client, Connect, Scene, Will};

use super::{
    answer, bytes, client, connect, expect_not_answered, lasting, open, raw_connect, reader,
};

#[test]
fn mqtt3_3_1_2_9_a_will_without_its_fields_is_not_accepted() {
    let scene = Scene::new();
    let (id, topic) = (scene.id("id"), scene.topic("t"));
    let (id, topic) = (id.as_bytes(), topic.as_bytes());
    expect_not_answered(&scene, "no Will Topic", &raw_connect(0x06, &[id]));
    expect_not_answered(&scene, "no Will Message", &raw_connect(0x06, &[id, topic]));
    let mut with_both = open(&scene);
    with_both.send_raw(&raw_connect(0x06, &[id, topic, b""]));
    with_both.expect_accepted();
}

#[test]
fn mqtt3_3_1_2_11_will_fields_without_a_will_flag_are_not_accepted() {
    let scene = Scene::new();
    let (id, topic) = (scene.id("id"), scene.topic("t"));
    for flags in [0x0a, 0x12, 0x22, 0x2a, 0x32] {
        let bytes = raw_connect(flags, &[id.as_bytes()]);
        expect_not_answered(&scene, &format!("flags {flags:#010b}"), &bytes);
    }
    let bytes = raw_connect(0x02, &[id.as_bytes(), topic.as_bytes(), b"m"]);
    expect_not_answered(&scene, "Will Topic and Will Message", &bytes);
}

#[test]
fn mqtt3_3_1_2_13_will_qos_without_a_will_is_not_accepted() {
    let scene = Scene::new();
    for qos in 1..4 {
        let bytes = raw_connect(0x02 | qos << 3, &[b"id"]);
        expect_not_answered(&scene, &format!("Will QoS {qos}"), &bytes);
    }
}

#[test]
fn mqtt3_3_1_2_14_will_qos_3_is_not_accepted() {
    let scene = Scene::new();
    let (id, topic) = (scene.id("id"), scene.topic("t"));
    let fields: &[&[u8]] = &[id.as_bytes(), topic.as_bytes(), b"m"];
    for flags in [0x1e, 0x3e, 0x1c] {
        expect_not_answered(&scene, "Will QoS 3", &raw_connect(flags, fields));
    }
    for qos in 0..3 {
        let mut right = open(&scene);
        right.send_raw(&raw_connect(0x06 | qos << 3, fields));
        right.expect_accepted();
    }
}

#[test]
fn mqtt3_3_1_2_15_will_retain_without_a_will_is_not_accepted() {
    let scene = Scene::new();
    for flags in [0x22, 0x20] {
        let bytes = raw_connect(flags, &[b"id"]);
        expect_not_answered(&scene, "Will Retain", &bytes);
    }
}

#[test]
fn mqtt3_3_1_2_18_a_user_name_without_its_flag_is_not_accepted() {
    let scene = Scene::new();
    let bytes = raw_connect(0x02, &[b"id", b"user"]);
    expect_not_answered(&scene, "a User Name", &bytes);
}

#[test]
fn mqtt3_3_1_2_19_a_missing_user_name_is_not_accepted() {
    let scene = Scene::new();
    for (flags, fields) in [(0x82, &[&b"id"[..]][..]), (0x86, &[b"id", b"t", b"m"])] {
        let bytes = raw_connect(flags, fields);
        expect_not_answered(&scene, "no User Name", &bytes);
    }
}

#[test]
fn mqtt3_3_1_2_20_a_password_without_its_flag_is_not_accepted() {
    let scene = Scene::new();
    let bytes = raw_connect(0x82, &[b"id", b"user", b"password"]);
    expect_not_answered(&scene, "a Password", &bytes);
}

#[test]
fn mqtt3_3_1_2_21_a_missing_password_is_not_accepted() {
    let scene = Scene::new();
    let bytes = raw_connect(0xc2, &[b"id", b"user"]);
    expect_not_answered(&scene, "no Password", &bytes);
    // Half of its length is not there.
    let mut bytes = raw_connect(0xc2, &[b"id", b"user"]);
    bytes[1] += 1;
    bytes.push(0);
    expect_not_answered(&scene, "half of a Password's length", &bytes);
}

#[test]
fn mqtt3_3_1_2_22_a_password_without_a_user_name_is_not_accepted() {
    let scene = Scene::new();
    for flags in [0x42, 0x40] {
        let bytes = raw_connect(flags, &[b"id", b"password"]);
        expect_not_answered(&scene, "a Password alone", &bytes);
    }
}

#[test]
fn mqtt3_3_1_3_1_the_fields_are_read_in_their_order() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = reader(&scene, "watcher", "#", 1);
    let connect = connect(&scene, "id")
        .will(Will::new(&topic, b"message").qos(1))
        .user_name(&scene.topic("user"))
        .password(scene.topic("password").as_bytes());
    let first = scene.join(connect.clone());
    // The Client Identifier was the first field: a second connection with it takes over.
    let mut first = first;
    let second = client(&scene, "id");
    first.expect_closed();
    second.disconnect();
    watcher.expect_message(&topic, "message");
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_1_3_2_the_client_identifier_tells_sessions_apart() {
    let scene = Scene::new();
    let names = ["a", "A", "a ", "ab", "\u{e4}", "a\u{308}"];
    for name in names {
        let mut client = lasting(&scene, name);
        assert!(
            !client.session_present(),
            "{name:?} is a session of another"
        );
        client.subscribe(&scene.topic(name), 1);
        client.disconnect();
    }
    let mut writer = client(&scene, "writer");
    for name in names {
        writer.publish(&scene.topic(name), name, 1);
    }
    for name in names {
        let mut client = lasting(&scene, name);
        assert!(client.session_present(), "{name:?} has lost its session");
        client.expect_message(&scene.topic(name), name);
        client.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_3_1_3_3_a_connect_without_a_client_identifier_is_not_accepted() {
    let scene = Scene::new();
    for flags in [0x02, 0x00] {
        expect_not_answered(&scene, "nothing", &raw_connect(flags, &[]));
        let mut half = raw_connect(flags, &[]);
        half[1] += 1;
        half.push(0);
        expect_not_answered(&scene, "half of its length", &half);
    }
}

#[test]
fn mqtt3_3_1_3_4_a_client_identifier_that_is_not_utf8_is_not_accepted() {
    let scene = Scene::new();
    for id in [
        &b"\xff"[..],
        b"a\xc3",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"a\0b",
    ] {
        expect_not_answered(&scene, "a bad identifier", &raw_connect(0x02, &[id]));
    }
}

#[test]
fn mqtt3_3_1_3_5_identifiers_of_1_to_23_letters_and_digits_are_allowed() {
    let scene = Scene::new();
    let characters: Vec<char> = ('0'..='9').chain('a'..='z').chain('A'..='Z').collect();
    for length in 1..=23 {
        // Nobody else has these: they begin with the length, and a letter that no other test begins with.
        let id: String = (0..length)
            .map(|n| characters[(length * 7 + n * 5) % characters.len()])
            .collect();
        scene
            .join(Connect::new(&id).v311())
            .expect_nothing_before_pong();
    }
    for chunk in characters.chunks(23) {
        let id: String = chunk.iter().collect();
        scene
            .join(Connect::new(&id).v311())
            .expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_3_1_3_6_clients_without_an_identifier_do_not_meet() {
    let scene = Scene::new();
    let mut nameless: Vec<Client> = (0..20)
        .map(|_| scene.join(Connect::new("").v311()))
        .collect();
    for (n, client) in nameless.iter_mut().enumerate() {
        client.subscribe(&scene.topic(&n.to_string()), 1);
    }
    let mut writer = client(&scene, "writer");
    for n in 0..20 {
        writer.publish(&scene.topic(&n.to_string()), n.to_string(), 1);
    }
    for (n, client) in nameless.iter_mut().enumerate() {
        client.expect_message(&scene.topic(&n.to_string()), n.to_string());
        client.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_3_1_3_7_an_empty_identifier_without_clean_session_is_not_accepted() {
    let scene = Scene::new();
    let (topic, fields): (_, &[&[u8]]) = (scene.topic("t"), &[b""]);
    assert_eq!(answer(&scene, &raw_connect(0x00, fields)), [0x20, 2, 0, 2]);
    let with_will = raw_connect(0x04, &[b"", topic.as_bytes(), b"m"]);
    assert_eq!(answer(&scene, &with_will), [0x20, 2, 0, 2]);
    let mut right = open(&scene);
    right.send_raw(&raw_connect(0x02, fields));
    assert_eq!(bytes(&right, 4), [0x20, 2, 0, 0]);
    right.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_1_3_8_an_empty_identifier_without_clean_session_is_answered_with_0x02() {
    let scene = Scene::new();
    let refusal = scene.refused(&Connect::new("").v311().resume());
    assert_eq!((refusal.code, refusal.session_present), (2, false));
}

#[test]
fn mqtt3_3_1_3_9_a_rejected_identifier_is_answered_and_then_the_connection_closed() {
    let scene = Scene::new();
    // All that comes before the close: no more and no less than the CONNACK.
    assert_eq!(answer(&scene, &raw_connect(0x00, &[b""])), [0x20, 2, 0, 2]);
}

#[test]
fn mqtt3_3_1_3_10_a_will_topic_that_is_not_utf8_is_not_accepted() {
    let scene = Scene::new();
    for topic in [
        &b"\xff"[..],
        b"a/\xc3",
        b"\xed\xbf\xbf",
        b"\xc0\x80",
        b"a\0b",
    ] {
        let bytes = raw_connect(0x06, &[b"id", topic, b"m"]);
        expect_not_answered(&scene, "a bad Will Topic", &bytes);
    }
}

#[test]
fn mqtt3_3_1_3_11_a_user_name_that_is_not_utf8_is_not_accepted() {
    let scene = Scene::new();
    for name in [
        &b"\xff"[..],
        b"a\xc3",
        b"\xed\xa0\x80",
        b"\xc0\x80",
        b"a\0b",
    ] {
        let bytes = raw_connect(0x82, &[b"id", name]);
        expect_not_answered(&scene, "a bad User Name", &bytes);
    }
    // A Password is binary data.
    let id = scene.id("binary");
    let mut right = open(&scene);
    right.send_raw(&raw_connect(
        0xc2,
        &[id.as_bytes(), b"user", b"\0\xff\xed\xa0\x80"],
    ));
    right.expect_accepted();
}
