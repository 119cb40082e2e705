//! CONNECT (3.1.0 to 3.1.2): its place, its variable header, its flags and its properties.

use std::time::{Duration, Instant};

use super::*;
use crate::support::packet::{DISCONNECT, PINGREQ, disconnect};

#[test]
fn mqtt5_3_1_0_1_the_first_packet_must_be_connect() {
    let scene = Scene::new();
    let packets: [&[u8]; 8] = [
        &PINGREQ,
        &DISCONNECT,
        &[0x30, 5, 0, 1, b'a', 0, b'x'],
        &[0x40, 2, 0, 1],
        &[0x82, 7, 0, 1, 0, 0, 1, b't', 0],
        &[0xa2, 6, 0, 1, 0, 0, 1, b't'],
        &[0xf0, 0],
        &[0x20, 3, 0, 0, 0],
    ];
    for bytes in packets {
        let mut client = scene.open();
        client.send_raw(bytes);
        client.expect_closed();
    }
}

#[test]
fn mqtt5_3_1_0_2_a_second_connect_is_a_protocol_error() {
    let scene = Scene::new();
    let again = scene.connect("faulty").bytes();
    ends(&scene, "the same CONNECT", &again, PROTOCOL_ERROR);
    ends(
        &scene,
        "another client's",
        &scene.connect("other").bytes(),
        PROTOCOL_ERROR,
    );
    let mut both = scene.open();
    both.send_raw(&[again.clone(), again].concat());
    both.expect_accepted();
    both.expect_end_with(PROTOCOL_ERROR);
}

fn with_protocol(name: &[u8], level: u8) -> Vec<u8> {
    let mut body = Vec::new();
    write_binary(&mut body, name);
    body.extend([level, 2, 0, 0, 0]);
    write_binary(&mut body, b"id");
    packet(0x10, &body)
}

#[test]
fn mqtt5_3_1_2_1_another_protocol_name_is_not_served() {
    let scene = Scene::new();
    for name in [&b"mqtt"[..], b"MQTTX", b"MQT", b"", b"HTTP", b"MQTT\0"] {
        let mut client = Client::open(scene.broker().address(), Version::V311);
        client.send_raw(&with_protocol(name, 5));
        // The answer, if there is one, is a refusal; its format depends on what the client might be.
        match client.next(PATIENCE) {
            Next::Closed => {}
            Next::Packet(connack) => {
                assert!(
                    connack.kind == Kind::ConnAck && connack.code != 0,
                    "{connack:?}"
                );
                client.expect_closed();
            }
            Next::Silence => panic!("{name:?}: no answer"),
        }
    }
}

#[test]
fn mqtt5_3_1_2_2_an_unknown_protocol_version_is_refused() {
    let scene = Scene::new();
    for level in [6, 7, 0x15, 0x7f, 0x85, 0xff] {
        let connack = refuses(
            &scene,
            &format!("level {level}"),
            &with_protocol(b"MQTT", level),
            &[0x84],
        );
        assert_eq!(connack.expect("a CONNACK").code, 0x84);
    }
}

#[test]
fn mqtt5_3_1_2_3_the_reserved_flag_must_be_0() {
    let scene = Scene::new();
    let good = raw_connect(2, &[], &[b"reserved"]);
    let connack = refuses(
        &scene,
        "reserved",
        &raw_connect(3, &[], &[b"reserved"]),
        MALFORMED,
    );
    assert!(connack.is_some(), "a CONNACK says why");
    let mut client = scene.open();
    client.send_raw(&good);
    client.expect_accepted();
}

#[test]
fn mqtt5_3_1_2_4_clean_start_discards_the_session() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut first = scene.join(scene.connect("client").lasting());
    first.subscribe(&topic, 1);
    first.disconnect();
    let mut writer = scene.client("writer");
    writer.publish(&topic, "queued", 1);
    let mut clean = scene.join(scene.connect("client").expiry_s(600));
    assert!(!clean.session_present());
    clean.subscribe(&scene.topic("end"), 1);
    writer.publish(&topic, "later", 1);
    assert!(scene.until_end(&mut clean, &mut writer).is_empty());
}

#[test]
fn mqtt5_3_1_2_5_without_clean_start_the_session_goes_on() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut first = scene.join(scene.connect("client").lasting());
    first.subscribe(&topic, 1);
    first.disconnect();
    let mut writer = scene.client("writer");
    writer.publish(&topic, "queued", 1);
    let mut again = scene.join(scene.connect("client").lasting());
    assert!(again.session_present());
    again.expect_message(&topic, "queued");
    writer.publish(&topic, "live", 1);
    again.expect_message(&topic, "live");
}

#[test]
fn mqtt5_3_1_2_6_without_clean_start_and_session_there_is_a_new_one() {
    let scene = Scene::new();
    let mut client = scene.join(scene.connect("new").lasting());
    assert!(!client.session_present());
    client.subscribe(&scene.topic("t"), 1);
    client.disconnect();
    assert!(scene.join(scene.connect("new").lasting()).session_present());
}

fn will(scene: &Scene) -> Will {
    Will::new(&scene.topic("will"), b"gone").qos(1)
}

#[test]
fn mqtt5_3_1_2_7_the_will_of_an_accepted_connect_is_kept() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 1);
    scene.join(scene.connect("dying").will(will(&scene))).cut();
    watcher.expect_message(&scene.topic("will"), "gone");
    // That of a refused CONNECT is not.
    let refused = scene.connect("refused").will(will(&scene));
    let refused = refused.property(property::AUTHENTICATION_METHOD, Value::Text("none".into()));
    scene.refused(&refused);
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn mqtt5_3_1_2_8_the_will_is_sent_when_the_connection_ends_otherwise_than_well() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = scene.reader("watcher", "will", 1);
    // The network ends it.
    scene.join(scene.connect("dying").will(will(&scene))).cut();
    watcher.expect_message(&topic, "gone");
    // A Protocol Error ends it.
    let mut faulty = scene.join(scene.connect("dying").will(will(&scene)));
    faulty.send_raw(&[0x00, 0x00]);
    faulty.expect_end_with(EITHER);
    watcher.expect_message(&topic, "gone");
    // The client asks for it.
    let mut asking = scene.join(scene.connect("dying").will(will(&scene)));
    asking.send_raw(&disconnect(0x04, &[]));
    asking.expect_closed();
    watcher.expect_message(&topic, "gone");
    // After its delay; at the end of the session if that comes first.
    for (delay_s, expiry_s) in [(1, 60), (60, 1)] {
        let connect = scene
            .connect("late")
            .expiry_s(expiry_s)
            .will(will(&scene).delay_s(delay_s));
        let started = Instant::now();
        scene.join(connect).cut();
        watcher.expect_message(&topic, "gone");
        let waited = started.elapsed();
        assert!(
            waited > Duration::from_millis(800) && waited < Duration::from_millis(3_000),
            "delay {delay_s}, expiry {expiry_s}: {waited:?}"
        );
    }
    // Not when the client says goodbye.
    scene
        .join(scene.connect("leaving").will(will(&scene)))
        .disconnect();
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn mqtt5_3_1_2_9_a_will_needs_its_properties_topic_and_payload() {
    let scene = Scene::new();
    let cases: [(&str, &[&[u8]]); 4] = [
        ("nothing", &[b"id"]),
        ("only properties", &[b"id", NO_WILL_PROPERTIES]),
        ("no payload", &[b"id", NO_WILL_PROPERTIES, b"t"]),
        ("no properties", &[b"id", b"t", b"x"]),
    ];
    for (what, payload) in cases {
        refuses(&scene, what, &raw_connect(6, &[], payload), EITHER);
    }
    let mut client = scene.open();
    client.send_raw(&raw_connect(
        6,
        &[],
        &[b"will-whole", NO_WILL_PROPERTIES, b"t", b""],
    ));
    client.expect_accepted();
    client.disconnect();
}

#[test]
fn mqtt5_3_1_2_10_a_will_that_was_sent_or_withdrawn_is_gone() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 1);
    let lasting = || scene.connect("client").lasting();
    // Sent once, and not again with the next connection of the session.
    scene.join(lasting().will(will(&scene))).cut();
    watcher.expect_message(&scene.topic("will"), "gone");
    let again = scene.join(lasting());
    assert!(again.session_present());
    again.cut();
    // Withdrawn by DISCONNECT, and not sent with the next connection either.
    scene.join(lasting().will(will(&scene))).disconnect();
    scene.join(lasting()).cut();
    watcher.expect_nothing(SILENCE_MS);
}

#[test]
fn mqtt5_3_1_2_11_will_qos_without_a_will_is_malformed() {
    let scene = Scene::new();
    for flags in [0x0a, 0x12, 0x1a] {
        refuses(
            &scene,
            "Will QoS",
            &raw_connect(flags, &[], &[b"id"]),
            MALFORMED,
        );
    }
}

#[test]
fn mqtt5_3_1_2_12_will_qos_may_be_0_1_or_2() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 2);
    for qos in 0..3 {
        scene
            .join(scene.connect("dying").will(will(&scene).qos(qos)))
            .cut();
        assert_eq!(
            watcher.expect_message(&scene.topic("will"), "gone").qos,
            qos
        );
    }
    let three = scene.connect("three").will(will(&scene).qos(3)).bytes();
    refuses(&scene, "Will QoS 3", &three, MALFORMED);
}

#[test]
fn mqtt5_3_1_2_13_will_retain_without_a_will_is_malformed() {
    let scene = Scene::new();
    refuses(
        &scene,
        "Will Retain",
        &raw_connect(0x22, &[], &[b"id"]),
        MALFORMED,
    );
}

#[test]
fn mqtt5_3_1_2_14_a_will_without_retain_is_not_retained() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = scene.reader("watcher", "will", 1 | 0x08);
    scene.join(scene.connect("dying").will(will(&scene))).cut();
    assert!(!watcher.expect_message(&topic, "gone").retain);
    let mut writer = scene.client("writer");
    let mut late = scene.reader("late", "will", 1);
    assert!(scene.until_end(&mut late, &mut writer).is_empty());
}

#[test]
fn mqtt5_3_1_2_15_a_will_with_retain_is_retained() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = scene.reader("watcher", "will", 1 | 0x08);
    scene
        .join(scene.connect("dying").will(will(&scene).retain()))
        .cut();
    assert!(watcher.expect_message(&topic, "gone").retain);
    let mut late = scene.client("late");
    late.subscribe(&topic, 1);
    assert!(late.expect_message(&topic, "gone").retain);
}

#[test]
fn mqtt5_3_1_2_16_a_user_name_without_its_flag_is_not_read() {
    let scene = Scene::new();
    refuses(
        &scene,
        "a User Name",
        &raw_connect(2, &[], &[b"id", b"name"]),
        MALFORMED,
    );
    refuses(
        &scene,
        "and a Password",
        &raw_connect(0x42, &[], &[b"id", b"name", b"pw"]),
        MALFORMED,
    );
}

#[test]
fn mqtt5_3_1_2_17_the_user_name_flag_needs_a_user_name() {
    let scene = Scene::new();
    refuses(
        &scene,
        "no User Name",
        &raw_connect(0x82, &[], &[b"id"]),
        MALFORMED,
    );
    let mut client = scene.open();
    client.send_raw(&raw_connect(0x82, &[], &[b"with-name", b"name"]));
    client.expect_accepted();
}

#[test]
fn mqtt5_3_1_2_18_a_password_without_its_flag_is_not_read() {
    let scene = Scene::new();
    let bytes = raw_connect(0x82, &[], &[b"id", b"name", b"password"]);
    refuses(&scene, "a Password", &bytes, MALFORMED);
}

#[test]
fn mqtt5_3_1_2_19_the_password_flag_needs_a_password() {
    let scene = Scene::new();
    refuses(
        &scene,
        "no Password",
        &raw_connect(0x42, &[], &[b"id"]),
        MALFORMED,
    );
    refuses(
        &scene,
        "only a name",
        &raw_connect(0xc2, &[], &[b"id", b"name"]),
        MALFORMED,
    );
    for (flags, fields) in [
        (0x42, &[&b"pw-1"[..], b"\0\xff"][..]),
        (0xc2, &[b"pw-2", b"name", b""]),
    ] {
        let mut client = scene.open();
        client.send_raw(&raw_connect(flags, &[], fields));
        client.expect_accepted();
    }
}

#[test]
fn mqtt5_3_1_2_22_a_silent_client_is_closed_after_one_and_a_half_keep_alives() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 1);
    let connect = scene.connect("silent").keep_alive_s(1).will(will(&scene));
    let mut silent = scene.join(connect);
    let started = Instant::now();
    assert_eq!(silent.expect(Kind::Disconnect).code, 0x8d);
    silent.expect_closed();
    let waited = started.elapsed();
    assert!(
        waited >= Duration::from_millis(1_400) && waited < Duration::from_millis(2_500),
        "{waited:?} for a Keep Alive of 1 s"
    );
    // As if the network had failed: the Will follows.
    watcher.expect_message(&scene.topic("will"), "gone");
}

#[test]
fn mqtt5_3_1_2_23_a_session_with_an_expiry_outlives_its_connection() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    for cut in [false, true] {
        let connect = scene.connect("client").resume().expiry_s(60);
        let mut client = scene.join(connect.clone());
        client.subscribe(&topic, 2);
        writer.publish(&topic, "in flight", 1);
        assert_eq!(client.expect(Kind::Publish).text(), "in flight");
        match cut {
            true => client.cut(),
            false => client.disconnect(),
        }
        writer.publish(&topic, "queued", 2);
        let mut again = scene.join(connect);
        assert!(again.session_present());
        again.expect_message(&topic, "in flight");
        again.expect_message(&topic, "queued");
        again.disconnect();
    }
    // Without an expiry nothing stays.
    scene.join(scene.connect("short").resume()).disconnect();
    assert!(
        !scene
            .join(scene.connect("short").resume())
            .session_present()
    );
}
