//! Will Messages (3.1.2.5 to 3.1.2.7).

use std::time::Duration;

use crate::support::packet::DISCONNECT;
use crate::support::{Client, Connect, Publish, Scene, Version, Will};

use super::{client, connect, expect_not_answered, raw_connect, reader};

/// CONNECT with a Will of this test.
fn with_will(scene: &Scene, name: &str, payload: &str) -> Connect {
    let will = Will::new(&scene.topic("will"), payload.as_bytes());
    connect(scene, name).will(will.qos(1))
}

fn watcher(scene: &Scene) -> Client {
    reader(scene, "watcher", "will", 2)
}

/// Nothing comes: a message that is published now is the next.
#[track_caller]
fn expect_no_will(scene: &Scene, watcher: &mut Client, what: &str) {
    client(scene, "marker").publish(&scene.topic("will"), what, 1);
    watcher.expect_message(&scene.topic("will"), what);
}

#[test]
fn mqtt3_3_1_2_8_the_will_is_published_when_the_connection_ends_without_disconnect() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = watcher(&scene);
    // The network.
    scene.join(with_will(&scene, "cut", "cut")).cut();
    watcher.expect_message(&topic, "cut");
    drop(scene.join(with_will(&scene, "dropped", "dropped")));
    watcher.expect_message(&topic, "dropped");
    // Keep Alive.
    let mut silent = scene.join(with_will(&scene, "silent", "silent").keep_alive_s(1));
    silent.expect_closed();
    watcher.expect_message(&topic, "silent");
    // A protocol error.
    let mut faulty = scene.join(with_will(&scene, "faulty", "faulty"));
    faulty.send_raw(&[0x00, 0x00]);
    faulty.expect_closed();
    watcher.expect_message(&topic, "faulty");
    // Another connection with the same Client Identifier.
    let mut first = scene.join(with_will(&scene, "twice", "taken over"));
    let second = client(&scene, "twice");
    first.expect_closed();
    watcher.expect_message(&topic, "taken over");
    second.disconnect();
    expect_no_will(&scene, &mut watcher, "and nothing more");
}

#[test]
fn mqtt3_3_1_2_8_a_will_comes_once_for_every_qos() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = watcher(&scene);
    for qos in 0..3 {
        for payload in ["", "x", &"long".repeat(10_000)] {
            let will = Will::new(&topic, payload.as_bytes()).qos(qos);
            scene.join(connect(&scene, "dying").will(will)).cut();
            let message = watcher.expect_message(&topic, payload);
            assert_eq!(
                (message.qos, message.retain, message.dup),
                (qos, false, false)
            );
        }
    }
    expect_no_will(&scene, &mut watcher, "end");
}

#[test]
fn mqtt3_3_1_2_8_a_refused_connect_has_no_will() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = watcher(&scene);
    let will = Will::new(&topic, b"of a refused client");
    let refused = scene.refused(&Connect::new("").v311().resume().will(will));
    assert_eq!(refused.code, 2);
    let id = scene.id("faulty");
    let fields: [&[u8]; 3] = [id.as_bytes(), topic.as_bytes(), b"of a faulty client"];
    expect_not_answered(&scene, "the reserved flag", &raw_connect(0x07, &fields));
    expect_no_will(&scene, &mut watcher, "end");
}

#[test]
fn mqtt3_3_1_2_10_a_will_is_gone_once_it_is_published_or_withdrawn() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = watcher(&scene);
    // Published: the session goes on without it.
    scene
        .join(with_will(&scene, "id", "published").resume())
        .cut();
    watcher.expect_message(&topic, "published");
    scene.join(connect(&scene, "id").resume()).cut();
    expect_no_will(&scene, &mut watcher, "after publication");
    // Withdrawn by DISCONNECT: the same.
    scene
        .join(with_will(&scene, "id", "withdrawn").resume())
        .disconnect();
    scene.join(connect(&scene, "id").resume()).cut();
    expect_no_will(&scene, &mut watcher, "after DISCONNECT");
    // A new CONNECT brings another one.
    scene
        .join(with_will(&scene, "id", "first").resume())
        .disconnect();
    scene.join(with_will(&scene, "id", "second").resume()).cut();
    watcher.expect_message(&topic, "second");
    expect_no_will(&scene, &mut watcher, "end");
}

#[test]
fn mqtt3_3_1_2_12_without_a_will_flag_nothing_is_published() {
    let scene = Scene::new();
    let mut watcher = reader(&scene, "watcher", "#", 2);
    for n in 0..5 {
        client(&scene, &format!("dying-{n}")).cut();
    }
    client(&scene, "marker").publish(&scene.topic("marker"), "x", 1);
    watcher.expect_message(&scene.topic("marker"), "x");
}

#[test]
fn mqtt3_3_1_2_16_without_will_retain_it_is_not_retained() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = watcher(&scene);
    client(&scene, "writer").publish_with(Publish::new(&topic, "before").qos(1).retain());
    watcher.expect_message(&topic, "before");
    scene.join(with_will(&scene, "dying", "will")).cut();
    assert!(!watcher.expect_message(&topic, "will").retain);
    // What was retained is not replaced.
    let mut late = reader(&scene, "late", "will", 1);
    assert!(late.expect_message(&topic, "before").retain);
    late.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_1_2_17_with_will_retain_it_is_retained() {
    let scene = Scene::new();
    let topic = scene.topic("will");
    let mut watcher = watcher(&scene);
    for qos in 0..3 {
        let payload = format!("retained {qos}");
        let will = Will::new(&topic, payload.as_bytes()).qos(qos).retain();
        scene.join(connect(&scene, "dying").will(will)).cut();
        // To one who is subscribed already it is an ordinary message.
        assert!(!watcher.expect_message(&topic, &payload).retain);
        let mut late = reader(&scene, "late", "will", 2);
        let message = late.expect_message(&topic, &payload);
        assert_eq!((message.retain, message.qos), (true, qos));
        late.disconnect();
    }
    // An empty one clears.
    let will = Will::new(&topic, b"").retain();
    scene.join(connect(&scene, "dying").will(will)).cut();
    watcher.expect_message(&topic, "");
    reader(&scene, "late", "will", 2).expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_14_4_3_disconnect_discards_the_will() {
    let scene = Scene::new();
    let mut watcher = watcher(&scene);
    scene
        .join(with_will(&scene, "leaving", "will"))
        .disconnect();
    expect_no_will(&scene, &mut watcher, "after DISCONNECT");
    // Also when the connection breaks at once behind it, and in one segment with CONNECT.
    let mut hasty = super::open(&scene);
    let mut bytes = with_will(&scene, "hasty", "will").bytes();
    bytes.extend(DISCONNECT);
    hasty.send_raw(&bytes);
    hasty.expect_accepted();
    hasty.expect_closed();
    let mut breaking = scene.join(with_will(&scene, "breaking", "will"));
    breaking.send_raw(&DISCONNECT);
    breaking.cut();
    // Behind other packets of the same segment.
    let mut busy = scene.join(with_will(&scene, "busy", "will"));
    let mut bytes = Publish::new(&scene.topic("other"), "x").bytes(Version::V311);
    bytes.extend(DISCONNECT);
    busy.send_raw(&bytes);
    busy.expect_closed();
    expect_no_will(&scene, &mut watcher, "end");
    assert!(!watcher.next(Duration::from_millis(50)).is_packet());
}
