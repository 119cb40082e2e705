//! DISCONNECT and AUTH (3.14, 3.15).

use super::*;
use crate::support::packet::{DISCONNECT, PINGREQ, disconnect};

#[test]
fn mqtt5_3_14_0_1_no_disconnect_comes_before_connack() {
    let scene = Scene::new();
    // Each of these ends the connection; those that are answered are answered with CONNACK.
    let firsts: Vec<Vec<u8>> = vec![
        PINGREQ.to_vec(),
        vec![0x00, 0x00],
        raw_publish(0x30, b"t", None, &[]),
        vec![0xf0, 0],
        vec![0x10, 0xff, 0xff, 0xff, 0xff, 1],
        raw_connect(3, &[], &[b"id"]),
        raw_connect(2, &[0x21, 0, 0], &[b"id"]),
        raw_connect(2, &raw_text(0x15, &[b"method"]), &[b"id"]),
    ];
    for bytes in firsts {
        let mut client = scene.open();
        client.send_raw(&bytes);
        match client.next(PATIENCE) {
            Next::Closed => {}
            Next::Packet(packet) => {
                assert!(
                    packet.kind == Kind::ConnAck && packet.code >= 0x80,
                    "{packet:?}"
                );
                client.expect_closed();
            }
            Next::Silence => panic!("{bytes:x?}: no answer"),
        }
    }
}

#[test]
fn mqtt5_3_14_1_1_reserved_flags_of_disconnect_are_answered_with_0x81() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 0);
    for flags in 1..16 {
        ends(
            &scene,
            &format!("flags {flags}"),
            &[0xe0 | flags, 0],
            MALFORMED,
        );
    }
    // It does not count as a DISCONNECT: the Will is sent.
    let will = Will::new(&scene.topic("will"), b"gone");
    let mut client = scene.join(scene.connect("client").will(will));
    client.send_raw(&[0xe1, 0]);
    client.expect_end_with(MALFORMED);
    watcher.expect_message(&scene.topic("will"), "gone");
}

/// Table 3-10: what a Client may say.
const OF_CLIENT: [u8; 14] = [
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99,
];

#[test]
fn mqtt5_3_14_2_1_disconnect_has_one_of_its_reason_codes() {
    let scene = Scene::new();
    for code in 0..=255 {
        let bytes = disconnect(code, &[]);
        if OF_CLIENT.contains(&code) {
            let mut client = scene.client("client");
            client.send_raw(&bytes);
            client.expect_closed();
        } else {
            ends(&scene, &format!("{code:#04x}"), &bytes, EITHER);
        }
    }
    // The broker's own: a code for each cause.
    ends(&scene, "malformed", &[0xc1, 0], &[0x81]);
    ends(
        &scene,
        "protocol error",
        &scene.connect("faulty").bytes(),
        &[0x82],
    );
    ends(
        &scene,
        "topic alias",
        &raw_publish(0x30, b"t", None, &[0x23, 0, 0]),
        &[0x94],
    );
    ends(
        &scene,
        "too large",
        &[0x30, 0xff, 0xff, 0xff, 0x7f],
        &[0x95],
    );
    let mut taken = scene.client("taken");
    let _newer = scene.client("taken");
    taken.expect_end(0x8e);
}

#[test]
fn mqtt5_3_14_2_2_a_server_sends_no_session_expiry_interval() {
    let scene = Scene::new();
    for bytes in [
        vec![0xc1, 0],
        scene.connect("client").bytes(),
        vec![0xf0, 0],
    ] {
        let mut client = scene.join(scene.connect("client").lasting());
        client.send_raw(&bytes);
        let disconnect = client.expect(Kind::Disconnect);
        assert_eq!(disconnect.property(property::SESSION_EXPIRY_INTERVAL), None);
    }
    let mut taken = scene.join(scene.connect("client").lasting());
    let _newer = scene.join(scene.connect("client").lasting());
    let disconnect = taken.expect(Kind::Disconnect);
    assert_eq!(disconnect.property(property::SESSION_EXPIRY_INTERVAL), None);
}

#[test]
fn mqtt5_3_14_2_3_no_reason_string_makes_disconnect_too_large() {
    let scene = Scene::new();
    let faults: [&[u8]; 3] = [&[0xc1, 0], &[0x30, 3, 0, 1, b't'], &[0xf0, 0]];
    for fault in faults {
        let mut client = scene.client("client");
        client.send_raw(fault);
        let whole = client.expect(Kind::Disconnect);
        assert!(
            whole.property(property::REASON_STRING).is_some(),
            "without a limit it says why"
        );
        for limit in 22..whole.packet_bytes + 3 {
            let size = Value::Four(u32::try_from(limit).unwrap());
            let mut client = scene.join(
                scene
                    .connect("client")
                    .property(property::MAXIMUM_PACKET_SIZE, size),
            );
            client.send_raw(fault);
            let disconnect = client.expect(Kind::Disconnect);
            client.expect_closed();
            assert_eq!(disconnect.code, whole.code);
            assert!(
                disconnect.packet_bytes <= limit,
                "limit {limit}: {disconnect:?}"
            );
            let explains = disconnect.property(property::REASON_STRING).is_some();
            assert_eq!(
                explains,
                limit >= whole.packet_bytes,
                "limit {limit}: {disconnect:?}"
            );
        }
    }
}

#[test]
fn mqtt5_3_14_2_4_no_user_property_makes_disconnect_too_large() {
    let scene = Scene::new();
    let pair = user_property("name", &"value".repeat(30));
    for limit in [22, 60, 100_000] {
        let connect = scene
            .connect("client")
            .property(property::MAXIMUM_PACKET_SIZE, Value::Four(limit));
        let mut client = scene.join(connect.property(pair.0, pair.1.clone()));
        // A DISCONNECT that is a fault itself: it may not set an expiry that was 0.
        let expiry = (property::SESSION_EXPIRY_INTERVAL, Value::Four(5));
        client.send_raw(&disconnect(0, &[expiry, pair.clone()]));
        let answer = client.expect(Kind::Disconnect);
        assert_eq!(answer.code, 0x82);
        assert_eq!(answer.property(property::USER_PROPERTY), None);
        assert!(answer.packet_bytes <= limit as usize);
    }
}

#[test]
fn mqtt5_3_14_4_1_nothing_is_sent_after_disconnect() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.client("client");
    client.subscribe(&topic, 1);
    let mut bytes = vec![0xc1, 0];
    bytes.extend(PINGREQ.repeat(10));
    bytes.extend(
        Publish::new(&topic, "x")
            .qos(1)
            .identifier(1)
            .bytes(Version::V5),
    );
    client.send_raw(&bytes);
    client.expect(Kind::Disconnect);
    client.expect_closed();
    // The same where the client says goodbye: what comes behind it is not looked at.
    let mut leaving = scene.client("leaving");
    leaving.send_raw(&[&DISCONNECT[..], &PINGREQ, &[0x00, 0x00]].concat());
    leaving.expect_closed();
}

#[test]
fn mqtt5_3_14_4_2_the_connection_is_closed_after_disconnect() {
    let scene = Scene::new();
    for code in [0x00, 0x04, 0x81] {
        let mut client = scene.client("client");
        client.send_raw(&disconnect(code, &[]));
        client.expect_closed();
    }
    let mut faulty = scene.client("faulty");
    faulty.send_raw(&[0xc1, 0]);
    faulty.expect(Kind::Disconnect);
    faulty.expect_closed();
}

#[test]
fn mqtt5_3_14_4_3_a_normal_disconnect_discards_the_will() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 1);
    let will = Will::new(&scene.topic("will"), b"gone").qos(1).retain();
    for bytes in [DISCONNECT.to_vec(), disconnect(0, &[]), vec![0xe0, 1, 0]] {
        let mut client = scene.join(scene.connect("client").will(will.clone()));
        client.send_raw(&bytes);
        client.expect_closed();
        let mut delayed = scene.join(
            scene
                .connect("delayed")
                .expiry_s(1)
                .will(will.clone().delay_s(1)),
        );
        delayed.send_raw(&bytes);
        delayed.expect_closed();
    }
    watcher.expect_nothing(1_500);
    let mut client = scene.join(scene.connect("client").will(will));
    client.send_raw(&disconnect(0x04, &[]));
    watcher.expect_message(&scene.topic("will"), "gone");
}

#[test]
fn mqtt5_3_15_1_1_reserved_flags_of_auth_are_malformed() {
    let scene = Scene::new();
    for flags in 1..16 {
        ends(
            &scene,
            &format!("flags {flags}"),
            &[0xf0 | flags, 0],
            MALFORMED,
        );
        ends(
            &scene,
            &format!("flags {flags}"),
            &[0xf0 | flags, 2, 0x18, 0],
            MALFORMED,
        );
    }
}

#[test]
fn mqtt5_3_15_2_1_auth_with_another_reason_code_ends_the_connection() {
    let scene = Scene::new();
    for code in 0..=255 {
        let mut body = vec![code];
        property::write(
            &mut body,
            &[(property::AUTHENTICATION_METHOD, Value::Text("x".into()))],
        );
        let codes = if matches!(code, 0x00 | 0x18 | 0x19) {
            &[0x82, 0x8c][..]
        } else {
            EITHER
        };
        ends(&scene, &format!("{code:#04x}"), &packet(0xf0, &body), codes);
    }
}
