//! CONNACK (3.2): it comes first, and says what is so.

use crate::support::{Kind, Publish, Scene, Subscribe, Version};

use super::{
    answer, bytes, client, connect, expect_not_answered, lasting, open, raw_connect, raw_connect_of,
};

#[test]
fn mqtt3_3_2_0_1_connack_comes_before_all_that_waits() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    for round in 0..10 {
        let mut reader = lasting(&scene, "reader");
        reader.subscribe(&topic, 1);
        reader.disconnect();
        let mut writer = client(&scene, "writer");
        for n in 0..5 {
            writer.publish(&topic, n.to_string(), 1);
        }
        // Live messages come while it connects, and it asks for more in the same segment.
        let mut reader = open(&scene);
        let mut hasty = connect(&scene, "reader").resume().bytes();
        hasty.extend(Subscribe::to(&topic, 1).bytes(Version::V311, 1));
        hasty.extend(Publish::new(&topic, "own").bytes(Version::V311));
        reader.send_raw(&hasty);
        writer.send_raw(&Publish::new(&topic, "live").bytes(Version::V311));
        assert_eq!(bytes(&reader, 4), [0x20, 2, 1, 0], "round {round}");
        for n in 0..5 {
            let message = reader.wait_for("a message", |packet| packet.kind == Kind::Publish);
            assert_eq!(message.text(), n.to_string());
        }
    }
}

#[test]
fn mqtt3_3_2_2_1_clean_session_is_answered_without_session_present() {
    let scene = Scene::new();
    for _ in 0..2 {
        lasting(&scene, "id").disconnect();
        let mut clean = open(&scene);
        clean.send_raw(&connect(&scene, "id").bytes());
        assert_eq!(bytes(&clean, 4), [0x20, 2, 0, 0]);
        clean.expect_nothing_before_pong();
    }
    // Also when it takes over a connection whose session was kept.
    let mut first = lasting(&scene, "id");
    assert!(!client(&scene, "id").session_present());
    first.expect_closed();
}

#[test]
fn mqtt3_3_2_2_2_a_stored_session_is_answered_with_session_present() {
    let scene = Scene::new();
    lasting(&scene, "id").disconnect();
    for _ in 0..3 {
        let mut again = open(&scene);
        again.send_raw(&connect(&scene, "id").resume().bytes());
        assert_eq!(bytes(&again, 4), [0x20, 2, 1, 0]);
        again.disconnect();
    }
    // However the connection ended: cut off, and taken over.
    lasting(&scene, "id").cut();
    let mut first = lasting(&scene, "id");
    assert!(first.session_present());
    assert!(lasting(&scene, "id").session_present());
    first.expect_closed();
}

#[test]
fn mqtt3_3_2_2_3_no_stored_session_is_answered_without_session_present() {
    let scene = Scene::new();
    let mut first = open(&scene);
    first.send_raw(&connect(&scene, "new").resume().bytes());
    assert_eq!(bytes(&first, 4), [0x20, 2, 0, 0]);
    client(&scene, "clean").disconnect();
    assert!(!lasting(&scene, "clean").session_present());
}

/// Brokers and CONNECT packets that they refuse, by their return code.
fn refusals() -> Vec<(u8, Scene, Vec<u8>)> {
    let level = raw_connect_of(b"MQTT", 3, 0x02, &[b"id"]);
    let named = raw_connect(0x02, &[b"id"]);
    let redirect = "---\n[redirect]\nserver_reference = \"elsewhere:1883\"";
    vec![
        (1, Scene::new(), level),
        (2, Scene::new(), raw_connect(0x00, &[b""])),
        (3, Scene::with(redirect), named.clone()),
        (5, Scene::with("listener.allow_anonymous = false"), named),
    ]
}

#[test]
fn mqtt3_3_2_2_4_a_refusal_has_no_session_present() {
    for (code, scene, bytes) in refusals() {
        assert_eq!(answer(&scene, &bytes)[..4], [0x20, 2, 0, code]);
    }
}

#[test]
fn mqtt3_3_2_2_4_a_refusal_for_a_stored_session_has_no_session_present() {
    // One session is all that a shard may have: the second client is refused, whatever it asks for.
    let scene = Scene::with("shards = 1\nsession.sessions_max = 1");
    lasting(&scene, "stored").disconnect();
    let refusal = scene.refused(&connect(&scene, "other").resume());
    assert_eq!((refusal.code, refusal.session_present), (3, false));
    assert!(lasting(&scene, "stored").session_present());
}

#[test]
fn mqtt3_3_2_2_5_a_refusal_closes_the_connection() {
    for (code, scene, bytes) in refusals() {
        assert_eq!(answer(&scene, &bytes).len(), 4, "return code {code}");
    }
}

#[test]
fn mqtt3_3_2_2_6_what_no_return_code_says_is_not_answered() {
    let scene = Scene::with("listener.maximum_qos = 1\nlistener.retain_available = false");
    let (id, topic) = (scene.id("id"), scene.topic("will"));
    let will = [id.as_bytes(), topic.as_bytes(), b"m"];
    for (what, flags) in [("a Will of QoS 2", 0x16), ("a retained Will", 0x26)] {
        expect_not_answered(&scene, what, &raw_connect(flags, &will));
    }
    let system: [&[u8]; 3] = [id.as_bytes(), b"$SYS/will", b"m"];
    expect_not_answered(&scene, "a Will to $SYS", &raw_connect(0x06, &system));
    let mut right = open(&scene);
    right.send_raw(&raw_connect(0x0e, &will));
    right.expect_accepted();
}
