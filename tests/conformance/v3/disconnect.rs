//! PUBREL, PINGREQ and DISCONNECT (3.6, 3.12, 3.14).

use crate::support::packet::{DISCONNECT, PINGREQ};
use crate::support::{Kind, Publish, Scene, Version};

use super::{bytes, client, expect_cut_off, reader, rest};

#[test]
fn mqtt3_3_6_1_1_wrong_flags_of_pubrel_end_the_connection() {
    let scene = Scene::new();
    for flags in (0..16).filter(|flags| *flags != 2) {
        let bytes = [0x60 | flags, 2, 0, 1];
        expect_cut_off(&scene, &format!("flags {flags:#06b}"), &bytes);
    }
    // Also when there is something to release; which then is not.
    let mut writer = client(&scene, "writer");
    let publish = Publish::new(&scene.topic("t"), "x").qos(2).identifier(1);
    writer.send_raw(&publish.bytes(Version::V311));
    writer.expect(Kind::PubRec);
    writer.send_raw(&[0x60, 2, 0, 1]);
    writer.expect_closed();
}

#[test]
fn mqtt3_3_12_4_1_every_pingreq_has_its_pingresp() {
    let scene = Scene::new();
    let client = &mut client(&scene, "client");
    client.send_raw(&PINGREQ);
    assert_eq!(bytes(client, 2), [0xd0, 0]);
    client.send_raw(&PINGREQ.repeat(1_000));
    assert_eq!(bytes(client, 2_000), [0xd0, 0].repeat(1_000));
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_14_1_1_reserved_bits_of_disconnect_are_checked() {
    let scene = Scene::new();
    let mut watcher = reader(&scene, "watcher", "will", 0);
    for flags in 1..16 {
        // Not a DISCONNECT but a fault: so the Will is published.
        let payload = flags.to_string();
        let will = crate::support::Will::new(&scene.topic("will"), payload.as_bytes());
        let mut faulty = scene.join(super::connect(&scene, "faulty").will(will));
        faulty.send_raw(&[0xe0 | flags, 0]);
        faulty.expect_closed();
        watcher.expect_message(&scene.topic("will"), &payload);
    }
}

#[test]
fn mqtt3_3_14_4_1_the_broker_closes_after_disconnect() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    client.send_raw(&DISCONNECT);
    assert!(rest(&client).is_empty());
}

#[test]
fn mqtt3_3_14_4_2_what_follows_disconnect_is_not_processed() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut watcher = reader(&scene, "watcher", "t", 0);
    let mut client = client(&scene, "client");
    let mut bytes = Publish::new(&topic, "before").bytes(Version::V311);
    bytes.extend(DISCONNECT);
    bytes.extend(Publish::new(&topic, "after").bytes(Version::V311));
    bytes.extend(PINGREQ);
    client.send_raw(&bytes);
    assert!(rest(&client).is_empty());
    watcher.expect_message(&topic, "before");
    watcher.expect_nothing_before_pong();
}
