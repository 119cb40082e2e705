//! Sessions (3.1.2.4 and 4.1): what is kept, how long, and what is not.

use crate::support::{Client, Connect, Kind, Publish, Scene, Version, sleep_ms};

use super::{client, connect, lasting};

#[test]
fn mqtt3_3_1_2_4_a_session_goes_on_where_it_was() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    assert!(!reader.session_present(), "a new session is made");
    reader.subscribe(&topic, 2);
    let mut writer = client(&scene, "writer");
    writer.publish(&topic, "unacknowledged", 1);
    let unacknowledged = reader.expect(Kind::Publish);
    reader.cut();
    writer.publish(&topic, "queued", 2);
    let mut reader = lasting(&scene, "reader");
    assert!(reader.session_present());
    let again = reader.message();
    assert_eq!((again.text(), again.dup), ("unacknowledged", true));
    assert_eq!(again.identifier, unacknowledged.identifier);
    reader.expect_message(&topic, "queued");
    writer.publish(&topic, "live", 1);
    reader.expect_message(&topic, "live");
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_1_2_5_messages_of_qos_1_and_2_are_stored_for_a_client_that_is_away() {
    let scene = Scene::new();
    for ending in ["disconnect", "cut"] {
        let name = format!("reader-{ending}");
        let mut reader = lasting(&scene, &name);
        reader.subscribe(&scene.topic("one/+"), 1);
        reader.subscribe(&scene.topic("two/#"), 2);
        match ending {
            "cut" => reader.cut(),
            _ => reader.disconnect(),
        }
        let mut writer = client(&scene, "writer");
        for n in 0..50_u8 {
            writer.publish(&scene.topic("one/t"), n.to_string(), 1 + n % 2);
            writer.publish(&scene.topic("two/t"), n.to_string(), 2 - n % 2);
            writer.publish(&scene.topic("three/t"), "not wanted", 2);
        }
        let mut reader = lasting(&scene, &name);
        for n in 0..50 {
            let one = reader.expect_message(&scene.topic("one/t"), n.to_string());
            let two = reader.expect_message(&scene.topic("two/t"), n.to_string());
            assert_eq!((one.qos, two.qos), (1, 2 - n % 2));
            assert!(!one.dup && !two.dup, "a first delivery");
        }
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_3_1_2_6_a_clean_session_starts_with_nothing_and_leaves_nothing() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    let mut first = lasting(&scene, "id");
    first.subscribe(&topic, 1);
    writer.publish(&topic, "in flight", 1);
    first.expect(Kind::Publish);
    let published = Publish::new(&scene.topic("unreleased"), "x").qos(2);
    first.send_raw(&published.identifier(9).bytes(Version::V311));
    first.expect(Kind::PubRec);
    first.cut();
    writer.publish(&topic, "queued", 1);
    let mut clean = client(&scene, "id");
    writer.publish(&topic, "live", 1);
    clean.expect_nothing_before_pong();
    // Identifier 9 is new to this session: its message is delivered, and not taken for a repetition.
    let mut watcher = super::reader(&scene, "watcher", "unreleased", 2);
    clean.publish_with(
        Publish::new(&scene.topic("unreleased"), "y")
            .qos(2)
            .identifier(9),
    );
    watcher.expect_message(&scene.topic("unreleased"), "y");
    clean.subscribe(&topic, 1);
    clean.cut();
    writer.publish(&topic, "for nobody", 1);
    let mut after = lasting(&scene, "id");
    assert!(!after.session_present());
    writer.publish(&topic, "for nobody either", 1);
    after.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_1_2_7_retained_messages_outlive_the_session_that_published_them() {
    let scene = Scene::new();
    for (name, clean) in [("clean", true), ("lasting", false)] {
        let topic = scene.topic(name);
        let mut writer = match clean {
            true => client(&scene, "writer"),
            false => lasting(&scene, "writer"),
        };
        writer.publish_with(Publish::new(&topic, "kept").qos(1).retain());
        writer.disconnect();
        client(&scene, "writer").disconnect();
        let mut reader = super::reader(&scene, "reader", name, 1);
        assert!(reader.expect_message(&topic, "kept").retain);
    }
}

#[test]
fn mqtt3_4_1_0_1_all_of_a_session_is_stored() {
    let scene = Scene::new();
    let topic = |name| scene.topic(name);
    let mut own = lasting(&scene, "own");
    own.subscribe(&topic("one"), 1);
    own.subscribe(&topic("two"), 2);
    own.subscribe(&topic("gone"), 2);
    own.unsubscribe(&[&topic("gone")]);
    let mut other = client(&scene, "other");
    // Sent and not acknowledged; received and not released; received from the client and not released.
    other.publish(&topic("one"), "sent", 1);
    let sent = own.expect(Kind::Publish);
    other.publish(&topic("two"), "half", 2);
    let half = own.expect(Kind::Publish);
    own.acknowledge(Kind::PubRec, half.identifier);
    own.wait_for_acknowledgement(Kind::PubRel, half.identifier);
    let inbound = Publish::new(&topic("from"), "own").qos(2).identifier(77);
    let mut watcher = super::reader(&scene, "watcher", "from", 2);
    own.send_raw(&inbound.clone().bytes(Version::V311));
    own.wait_for_acknowledgement(Kind::PubRec, 77);
    watcher.expect_message(&topic("from"), "own");
    own.cut();
    // Waiting to be sent.
    other.publish(&topic("two"), "waiting", 2);
    other.publish(&topic("gone"), "not wanted", 2);
    let mut own = lasting(&scene, "own");
    let mut seen = Vec::new();
    for _ in 0..3 {
        let packet = own.receive();
        seen.push((packet.kind, packet.identifier, packet.payload.clone()));
        match packet.kind {
            Kind::PubRel => own.acknowledge(Kind::PubComp, packet.identifier),
            _ if packet.qos == 1 => own.acknowledge(Kind::PubAck, packet.identifier),
            _ => {
                own.acknowledge(Kind::PubRec, packet.identifier);
                own.wait_for_acknowledgement(Kind::PubRel, packet.identifier);
                own.acknowledge(Kind::PubComp, packet.identifier);
            }
        }
    }
    assert!(seen.contains(&(Kind::Publish, sent.identifier, b"sent".to_vec())));
    assert!(seen.contains(&(Kind::PubRel, half.identifier, Vec::new())));
    assert!(seen.iter().any(|(_, _, payload)| payload == b"waiting"));
    own.expect_nothing_before_pong();
    // Its own unreleased message is known: a repetition is acknowledged and not delivered.
    own.send_raw(&inbound.dup().bytes(Version::V311));
    own.wait_for_acknowledgement(Kind::PubRec, 77);
    own.acknowledge(Kind::PubRel, 77);
    own.wait_for_acknowledgement(Kind::PubComp, 77);
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_4_1_0_2_a_session_lasts_as_long_as_its_connection() {
    let scene = Scene::with("session.persistent_v3_expiry_interval_s = 1");
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 1);
    let mut clean = client(&scene, "clean");
    clean.subscribe(&topic, 1);
    sleep_ms(2_500);
    let mut writer = client(&scene, "writer");
    writer.publish(&topic, "still there", 1);
    for client in [&mut reader, &mut clean] {
        client.expect_message(&topic, "still there");
    }
    reader.disconnect();
    let again = lasting(&scene, "reader");
    assert!(
        again.session_present(),
        "its time begins at the end of its connection"
    );
    again.disconnect();
    sleep_ms(2_500);
    assert!(!lasting(&scene, "reader").session_present(), "it has ended");
}

#[test]
fn mqtt3_3_1_2_4_taken_over_sessions_go_on_in_the_new_connection() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = client(&scene, "writer");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 1);
    for n in 0..10 {
        writer.publish(&topic, n.to_string(), 1);
        reader.expect_message(&topic, n.to_string());
        reader.expect_nothing_before_pong(); // its PUBACK has arrived
        let mut next: Client = scene.join(connect(&scene, "reader").resume());
        assert!(next.session_present());
        reader.expect_closed();
        next.expect_nothing_before_pong();
        reader = next;
    }
}

#[test]
fn mqtt3_3_1_2_6_a_clean_session_of_another_version_is_clean_too() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 1);
    reader.disconnect();
    // 5.0 takes the session of 3.1.1 up, and 3.1.1 that of 5.0.
    let v5 = || Connect::new(&scene.id("reader")).lasting();
    let again = scene.join(v5());
    assert!(again.session_present());
    again.disconnect();
    client(&scene, "writer").publish(&topic, "x", 1);
    let mut again = lasting(&scene, "reader");
    assert!(again.session_present());
    again.expect_message(&topic, "x");
    again.disconnect();
    client(&scene, "reader").disconnect();
    assert!(!scene.join(v5()).session_present());
}
