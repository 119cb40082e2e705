//! Handling errors (4.8).

use crate::support::packet::packet;
use crate::support::{Kind, Publish, Scene, Version};

use super::{client, expect_cut_off, raw_publish, raw_subscribe, raw_unsubscribe, reader};

/// What no client may send after CONNECT, beside what the modules of the packets show.
fn violations() -> Vec<(&'static str, Vec<u8>)> {
    let connack = packet(0x20, &[0, 0]);
    vec![
        ("CONNACK", connack),
        ("SUBACK", packet(0x90, &[0, 1, 0])),
        ("UNSUBACK", packet(0xb0, &[0, 1])),
        ("PINGRESP", packet(0xd0, &[])),
        ("AUTH of 5.0", packet(0xf0, &[])),
        ("AUTH of 5.0 with content", packet(0xf0, &[0x18, 0])),
        ("type 0", packet(0x00, &[])),
        ("PUBACK of 5.0", packet(0x40, &[0, 1, 0])),
        ("PUBREL of 5.0", packet(0x62, &[0, 1, 0, 0])),
        ("DISCONNECT of 5.0", packet(0xe0, &[0])),
        (
            "DISCONNECT of 5.0 with properties",
            packet(0xe0, &[0x04, 0]),
        ),
        ("SUBSCRIBE of 5.0", packet(0x82, &[0, 1, 0, 0, 1, b't', 0])),
        ("UNSUBSCRIBE of 5.0", packet(0xa2, &[0, 1, 0, 0, 1, b't'])),
        ("No Local of 5.0", raw_subscribe(0x82, 1, &[(b"t", 4)])),
        ("QoS 3", raw_publish(0x36, b"t", &[0, 1], b"")),
        (
            "a share without a name",
            raw_subscribe(0x82, 1, &[(b"$share//t", 0)]),
        ),
        (
            "a share without a filter",
            raw_subscribe(0x82, 1, &[(b"$share/g", 0)]),
        ),
        (
            "a share with a wildcard",
            raw_unsubscribe(0xa2, 1, &[b"$share/+/t"]),
        ),
    ]
}

#[test]
fn mqtt3_4_8_0_1_a_protocol_violation_ends_its_connection_and_no_other() {
    let scene = Scene::new();
    let mut bystander = client(&scene, "bystander");
    for (what, bytes) in violations() {
        expect_cut_off(&scene, what, &bytes);
        bystander.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_4_8_0_1_what_came_before_a_violation_counts_and_what_comes_behind_does_not() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = reader(&scene, "reader", "t", 1);
    let publish = |payload: &str, identifier| {
        let publish = Publish::new(&topic, payload).qos(1).identifier(identifier);
        publish.bytes(Version::V311)
    };
    for (what, violation) in violations() {
        let mut faulty = client(&scene, "faulty");
        let mut bytes = publish("before", 1);
        bytes.extend(violation);
        bytes.extend(publish("behind", 2));
        faulty.send_raw(&bytes);
        assert_eq!(faulty.expect(Kind::PubAck).identifier, 1, "{what}");
        faulty.expect_closed();
        reader.expect_message(&topic, "before");
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_4_8_0_1_a_fault_is_seen_however_it_is_cut() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    for (what, violation) in violations() {
        let mut bytes = Publish::new(&topic, "x").bytes(Version::V311);
        bytes.extend(violation);
        let mut faulty = client(&scene, "faulty");
        for byte in &bytes {
            if !faulty.try_send_raw(&[*byte]) {
                break;
            }
        }
        match faulty.next(crate::support::PATIENCE) {
            crate::support::Next::Closed => {}
            other => panic!("{what}: {other:?} instead of a closed connection"),
        }
    }
}

#[test]
fn mqtt3_4_8_0_1_a_packet_over_the_limit_ends_the_connection() {
    let scene = Scene::with("listener.packet_bytes_max = 1000");
    let topic = scene.topic("t");
    let head = Publish::new(&topic, "").bytes(Version::V311).len();
    // One byte more of Remaining Length for a packet of more than 127 bytes.
    let payload = 1000 - head - 1;
    let mut reader = reader(&scene, "reader", "t", 0);
    let exact = Publish::new(&topic, vec![b'x'; payload]).bytes(Version::V311);
    assert_eq!(exact.len(), 1000);
    let mut writer = client(&scene, "writer");
    writer.send_raw(&exact);
    reader.expect_message(&topic, vec![b'x'; payload]);
    let over = Publish::new(&topic, vec![b'x'; payload + 1]).bytes(Version::V311);
    expect_cut_off(&scene, "one byte more", &over);
    // It is known from the header alone.
    expect_cut_off(&scene, "the largest", &[0x30, 0xff, 0xff, 0xff, 0x7f]);
    reader.expect_nothing_before_pong();
}
