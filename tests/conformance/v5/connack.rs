//! CONNACK (3.2).

use std::time::{Duration, Instant};

use super::*;
use crate::support::packet::PINGREQ;

#[test]
fn mqtt5_3_2_0_1_connack_comes_before_everything_else() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    let mut first = scene.join(scene.connect("client").lasting());
    first.subscribe(&topic, 2);
    writer.publish(&topic, "in flight", 2);
    first.expect(Kind::Publish);
    first.cut();
    writer.publish(&topic, "queued", 1);
    let mut again = scene.open();
    let mut bytes = scene.connect("client").lasting().bytes();
    bytes.extend(PINGREQ);
    again.send_raw(&bytes);
    again.expect_accepted();
    let kinds: Vec<Kind> = (0..3).map(|_| again.receive().kind).collect();
    assert!(
        kinds.contains(&Kind::PingResp) && kinds.contains(&Kind::Publish),
        "{kinds:?}"
    );
}

#[test]
fn mqtt5_3_2_0_2_there_is_one_connack() {
    let scene = Scene::new();
    let mut client = scene.client("client");
    client.subscribe(&scene.topic("t"), 2);
    client.publish(&scene.topic("t"), "x", 2);
    client.expect_message(&scene.topic("t"), "x");
    client.expect_nothing_before_pong();
    client.send_raw(&scene.connect("client").bytes());
    client.expect_end_with(PROTOCOL_ERROR);
}

#[test]
fn mqtt5_3_2_2_1_reserved_acknowledge_flags_are_0() {
    let scene = Scene::new();
    for present in [0, 1] {
        let mut client = scene.open();
        client.send_raw(&scene.connect("client").lasting().bytes());
        assert_eq!(client.receive_bytes()[2], present);
        client.disconnect();
    }
    let mut refused = scene.open();
    refused.send_raw(&raw_connect(3, &[], &[b"id"]));
    assert_eq!(refused.receive_bytes()[2], 0);
}

#[test]
fn mqtt5_3_2_2_2_clean_start_is_answered_without_session_present() {
    let scene = Scene::new();
    for _ in 0..3 {
        let client = scene.join(scene.connect("client").expiry_s(600));
        assert!(!client.session_present());
        client.disconnect();
    }
}

#[test]
fn mqtt5_3_2_2_3_session_present_tells_whether_there_was_a_session() {
    let scene = Scene::new();
    let lasting = || scene.connect("client").lasting();
    let first = scene.join(lasting());
    assert!(!first.session_present());
    first.disconnect();
    for _ in 0..2 {
        let again = scene.join(lasting());
        assert!(again.session_present());
        again.cut();
    }
    scene
        .join(scene.connect("client").resume().expiry_s(0))
        .disconnect();
    assert!(!scene.join(lasting()).session_present());
}

/// CONNECTs that are refused, each for another reason.
fn refusals(scene: &Scene) -> Vec<(Vec<u8>, u8)> {
    let method = scene.connect("session").lasting();
    let method = method.property(property::AUTHENTICATION_METHOD, Value::Text("x".into()));
    let will = scene
        .connect("session")
        .lasting()
        .will(Will::new("a/#", b""));
    let mut level = scene.connect("session").lasting().bytes();
    let offset = level.len() - scene.connect("session").lasting().bytes()[2..].len() + 6;
    level[offset] = 9;
    vec![
        (method.bytes(), 0x8c),
        (will.bytes(), 0x90),
        (level, 0x84),
        (raw_connect(3, &[], &[scene.id("session").as_bytes()]), 0x81),
        (
            raw_connect(0, &[0x21, 0, 0], &[scene.id("session").as_bytes()]),
            0x82,
        ),
    ]
}

#[test]
fn mqtt5_3_2_2_6_a_refusal_has_no_session_present() {
    let scene = Scene::new();
    scene.join(scene.connect("session").lasting()).disconnect();
    for (bytes, code) in refusals(&scene) {
        let connack = refuses(&scene, "a refusal", &bytes, &[code]).expect("a CONNACK");
        assert!(!connack.session_present, "{connack:?}");
    }
    assert!(
        scene
            .join(scene.connect("session").lasting())
            .session_present()
    );
}

#[test]
fn mqtt5_3_2_2_7_a_refusal_is_followed_by_the_close() {
    let scene = Scene::new();
    for (bytes, code) in refusals(&scene) {
        let mut client = scene.open();
        client.send_raw(&bytes);
        assert_eq!(client.expect(Kind::ConnAck).code, code);
        client.expect_closed();
    }
}

/// Table 3-1.
const CONNECT_REASON_CODES: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f,
];

#[test]
fn mqtt5_3_2_2_8_connack_has_one_of_its_reason_codes() {
    let scene = Scene::new();
    for (bytes, _) in refusals(&scene) {
        refuses(&scene, "a refusal", &bytes, &CONNECT_REASON_CODES).expect("a CONNACK");
    }
    let reduced = Scene::with("listener.maximum_qos = 0\nlistener.retain_available = false");
    let will = || Will::new("t", b"");
    for (connect, code) in [
        (reduced.connect("qos").will(will().qos(1)), 0x9b),
        (reduced.connect("retain").will(will().retain()), 0x9a),
    ] {
        assert_eq!(reduced.refused(&connect).code, code);
    }
    for (permanent, code) in [(false, 0x9c), (true, 0x9d)] {
        let settings =
            format!("redirect.server_reference = \"b\"\nredirect.permanent = {permanent}");
        let moved = Scene::with(&settings);
        assert_eq!(moved.refused(&moved.connect("moved")).code, code);
    }
    let closed = Scene::with("listener.allow_anonymous = false");
    assert_eq!(closed.refused(&closed.connect("nobody")).code, 0x87);
}

#[test]
fn mqtt5_3_2_2_9_a_lower_maximum_qos_is_told() {
    for (maximum, told) in [(0, Some(0)), (1, Some(1)), (2, None)] {
        let scene = Scene::with(&format!("listener.maximum_qos = {maximum}"));
        assert_eq!(scene.client("client").granted(property::MAXIMUM_QOS), told);
    }
}

#[test]
fn mqtt5_3_2_2_10_subscriptions_of_every_qos_are_taken_with_what_there_is() {
    for maximum in 0..3 {
        let scene = Scene::with(&format!("listener.maximum_qos = {maximum}"));
        let topic = scene.topic("t");
        let mut client = scene.client("client");
        for asked in 0..3 {
            let codes = client.subscribe_with(&Subscribe::to(&topic, asked));
            assert_eq!(codes, [asked.min(maximum)]);
            client.publish(&topic, "x", maximum);
            assert_eq!(client.expect_message(&topic, "x").qos, asked.min(maximum));
        }
    }
}

#[test]
fn mqtt5_3_2_2_11_a_publish_over_maximum_qos_ends_the_connection() {
    for maximum in 0..2 {
        let scene = Scene::with(&format!("listener.maximum_qos = {maximum}"));
        for qos in maximum + 1..3 {
            let publish = Publish::new("t", "x")
                .qos(qos)
                .identifier(1)
                .bytes(Version::V5);
            ends(
                &scene,
                &format!("QoS {qos} over {maximum}"),
                &publish,
                &[0x9b],
            );
        }
    }
}

#[test]
fn mqtt5_3_2_2_12_a_will_over_maximum_qos_is_refused() {
    for maximum in 0..3 {
        let scene = Scene::with(&format!("listener.maximum_qos = {maximum}"));
        for qos in 0..3 {
            let connect = scene
                .connect("will")
                .will(Will::new(&scene.topic("t"), b"").qos(qos));
            match qos > maximum {
                true => assert_eq!(scene.refused(&connect).code, 0x9b),
                false => scene.join(connect).disconnect(),
            }
        }
    }
}

const NO_RETAIN: &str = "listener.retain_available = false";

#[test]
fn mqtt5_3_2_2_13_a_retained_will_is_refused_where_nothing_is_retained() {
    let scene = Scene::with(NO_RETAIN);
    assert_eq!(
        scene.client("client").granted(property::RETAIN_AVAILABLE),
        Some(0)
    );
    let will = Will::new(&scene.topic("t"), b"x");
    assert_eq!(
        scene
            .refused(&scene.connect("will").will(will.clone().retain()))
            .code,
        0x9a
    );
    scene.join(scene.connect("will").will(will)).disconnect();
}

#[test]
fn mqtt5_3_2_2_14_a_retained_publish_ends_the_connection_where_nothing_is_retained() {
    let scene = Scene::with(NO_RETAIN);
    for qos in 0..3 {
        let publish = Publish::new("t", "x").qos(qos).identifier(1).retain();
        ends(
            &scene,
            &format!("QoS {qos}"),
            &publish.bytes(Version::V5),
            &[0x9a],
        );
    }
}

#[test]
fn mqtt5_3_2_2_15_a_packet_over_the_servers_maximum_packet_size_is_refused() {
    let scene = Scene::with("listener.packet_bytes_max = 300");
    let topic = scene.topic("t");
    let told = scene
        .client("client")
        .granted(property::MAXIMUM_PACKET_SIZE);
    assert_eq!(told, Some(300));
    // 3 bytes of fixed header, 2 of the topic's length, 2 of the identifier, 1 of the Property Length.
    let room = 300 - 8 - topic.len();
    let publish = |size| {
        Publish::new(&topic, vec![b'x'; size])
            .qos(1)
            .identifier(1)
            .bytes(Version::V5)
    };
    assert_eq!(publish(room).len(), 300);
    let mut client = scene.client("fits");
    client.send_raw(&publish(room));
    client.expect(Kind::PubAck);
    for size in [room + 1, room + 1_000] {
        ends(&scene, &format!("{size} bytes"), &publish(size), &[0x95]);
    }
}

#[test]
fn mqtt5_3_2_2_16_an_assigned_identifier_belongs_to_nobody_else() {
    let scene = Scene::new();
    let mut others: Vec<Client> = (0..10)
        .map(|_| scene.join(Connect::new("").expiry_s(5)))
        .collect();
    let ids: Vec<String> = others
        .iter()
        .map(|client| {
            client
                .connack
                .as_ref()
                .unwrap()
                .property(property::ASSIGNED_CLIENT_IDENTIFIER)
        })
        .map(|assigned| assigned.expect("an identifier").text().to_owned())
        .collect();
    for _ in 0..30 {
        let client = scene.join(Connect::new(""));
        let connack = client.connack.as_ref().unwrap();
        let assigned = connack
            .property(property::ASSIGNED_CLIENT_IDENTIFIER)
            .expect("an identifier");
        assert!(!ids.iter().any(|id| id == assigned.text()));
        assert!(!client.session_present());
    }
    // Nobody was taken over.
    for client in &mut others {
        client.expect_nothing_before_pong();
    }
    let given = scene.client("given");
    let connack = given.connack.as_ref().unwrap();
    assert_eq!(connack.property(property::ASSIGNED_CLIENT_IDENTIFIER), None);
}

fn aliased(topic: &str, alias: u16) -> Vec<u8> {
    let publish = Publish::new(topic, "x");
    publish
        .property(property::TOPIC_ALIAS, Value::Two(alias))
        .bytes(Version::V5)
}

#[test]
fn mqtt5_3_2_2_17_a_topic_alias_over_the_servers_maximum_ends_the_connection() {
    let scene = Scene::with("listener.topic_alias_maximum = 7");
    let told = scene
        .client("client")
        .granted(property::TOPIC_ALIAS_MAXIMUM);
    assert_eq!(told, Some(7));
    for alias in [8, 9, 65_535] {
        ends(
            &scene,
            &format!("alias {alias}"),
            &aliased("t", alias),
            &[0x94],
        );
    }
}

#[test]
fn mqtt5_3_2_2_18_without_topic_alias_maximum_there_are_no_aliases() {
    let scene = Scene::with("listener.topic_alias_maximum = 0");
    let told = scene
        .client("client")
        .granted(property::TOPIC_ALIAS_MAXIMUM);
    assert!(matches!(told, None | Some(0)));
    ends(&scene, "alias 1", &aliased("t", 1), &[0x94]);
}

#[test]
fn mqtt5_3_2_2_19_no_reason_string_makes_connack_too_large() {
    let scene = Scene::new();
    let refused = scene
        .connect("refused")
        .property(property::AUTHENTICATION_METHOD, Value::Text("x".into()));
    let whole = scene.refused(&refused);
    assert!(
        whole.property(property::REASON_STRING).is_some(),
        "without a limit it says why"
    );
    let whole_bytes = u32::try_from(whole.packet_bytes).unwrap();
    for limit in 5..whole_bytes + 2 {
        let connack = scene.refused(
            &refused
                .clone()
                .property(property::MAXIMUM_PACKET_SIZE, Value::Four(limit)),
        );
        assert_eq!(connack.code, 0x8c);
        assert!(
            connack.packet_bytes <= limit as usize,
            "limit {limit}: {connack:?}"
        );
        let explains = connack.property(property::REASON_STRING).is_some();
        assert_eq!(explains, limit >= whole_bytes, "limit {limit}: {connack:?}");
    }
}

#[test]
fn mqtt5_3_2_2_20_no_user_property_makes_connack_too_large() {
    let scene = Scene::new();
    // The broker has none to send; what a client sends does not come back.
    let (identifier, value) = user_property("name", &"value".repeat(20));
    let connect = scene.connect("client").property(identifier, value);
    let whole = scene.join(connect.clone()).connack.unwrap().packet_bytes;
    let limit = Value::Four(u32::try_from(whole).unwrap());
    let connack = scene
        .join(connect.property(property::MAXIMUM_PACKET_SIZE, limit))
        .connack
        .unwrap();
    assert_eq!(connack.property(property::USER_PROPERTY), None);
    assert_eq!(connack.packet_bytes, whole);
}

#[test]
fn mqtt5_3_2_2_22_without_server_keep_alive_the_clients_own_counts() {
    let scene = Scene::new();
    let mut pinging = scene.join(scene.connect("pinging").keep_alive_s(1));
    assert_eq!(pinging.granted(property::SERVER_KEEP_ALIVE), None);
    let mut none = scene.join(scene.connect("none").keep_alive_s(0));
    let mut silent = scene.join(scene.connect("silent").keep_alive_s(1));
    let started = Instant::now();
    for _ in 0..4 {
        pinging.expect_nothing(500);
        pinging.expect_nothing_before_pong();
    }
    silent.expect_end(0x8d);
    assert!(started.elapsed() < Duration::from_millis(3_500));
    pinging.expect_nothing_before_pong();
    none.expect_nothing_before_pong();
}
