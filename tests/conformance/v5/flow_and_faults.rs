//! Flow control, enhanced authentication, errors (4.9, 4.12, 4.13).

use super::*;
use crate::support::packet::unsubscribe;

#[test]
fn mqtt5_4_9_0_1_the_quota_is_at_most_receive_maximum_and_not_0() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    for maximum in [1, 3, 200, 65_535] {
        let mut reader = scene.join(scene.connect("reader").receive_maximum(maximum));
        reader.subscribe(&topic, 1);
        for n in 0..250 {
            writer.publish(&topic, n.to_string(), 1);
        }
        // That many, and no more.
        arrive(&mut reader, usize::from(maximum).min(250));
        reader.disconnect();
    }
    // Each connection has a quota of its own, and what is sent again counts.
    let lasting = |maximum| scene.connect("lasting").lasting().receive_maximum(maximum);
    let mut reader = scene.join(lasting(10));
    reader.subscribe(&topic, 1);
    for n in 0..20 {
        writer.publish(&topic, n.to_string(), 1);
    }
    arrive(&mut reader, 10);
    for maximum in [3, 15, 1] {
        reader.cut();
        reader = scene.join(lasting(maximum));
        arrive(&mut reader, usize::from(maximum));
    }
}

#[test]
fn mqtt5_4_9_0_2_without_quota_no_qos_1_or_2_is_sent() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.join(scene.connect("reader").receive_maximum(2));
    reader.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    for n in 0..10 {
        writer.publish(&topic, n.to_string(), 1 + n % 2);
    }
    let sent = arrive(&mut reader, 2);
    assert_eq!(texts(&sent), ["0", "1"]);
    // PUBREC and PUBREL do not give any back; PUBCOMP does.
    reader.acknowledge(Kind::PubRec, sent[1].identifier);
    reader.expect(Kind::PubRel);
    reader.expect_nothing_before_pong();
    reader.acknowledge(Kind::PubComp, sent[1].identifier);
    assert_eq!(texts(&arrive(&mut reader, 1)), ["2"]);
    reader.acknowledge(Kind::PubAck, sent[0].identifier);
    assert_eq!(texts(&arrive(&mut reader, 1)), ["3"]);
    // An acknowledgement of nothing gives nothing.
    for kind in [Kind::PubAck, Kind::PubComp] {
        reader.acknowledge(kind, 9_999);
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn mqtt5_4_9_0_3_without_quota_everything_else_goes_on() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(scene.connect("client").receive_maximum(1));
    client.subscribe(&topic, 1);
    let mut other = scene.reader("other", "from client", 2);
    let mut writer = scene.client("writer");
    writer.publish(&topic, "taken", 1);
    writer.publish(&topic, "waits", 1);
    let taken = client.expect(Kind::Publish);
    for qos in 0..3 {
        client.publish(&scene.topic("from client"), qos.to_string(), qos);
        other.expect_message(&scene.topic("from client"), qos.to_string());
    }
    client.subscribe(&scene.topic("more"), 2);
    client.send_raw(&unsubscribe(Version::V5, 99, &[&scene.topic("more")]));
    assert_eq!(client.expect(Kind::UnsubAck).codes, [0]);
    writer.publish(&topic, "QoS 0", 0);
    assert_eq!(client.expect(Kind::Publish).text(), "QoS 0");
    client.expect_nothing_before_pong();
    client.acknowledge(Kind::PubAck, taken.identifier);
    client.expect_message(&topic, "waits");
}

fn with_method(scene: &Scene) -> Connect {
    let connect = scene.connect("client");
    let connect = connect.property(
        property::AUTHENTICATION_METHOD,
        Value::Text("SCRAM-SHA-1".into()),
    );
    connect.property(property::AUTHENTICATION_DATA, Value::Binary(vec![0, 255]))
}

#[test]
fn mqtt5_4_12_0_1_an_unknown_authentication_method_is_refused() {
    let scene = Scene::new();
    assert!(matches!(
        scene.refused(&with_method(&scene)).code,
        0x8c | 0x87
    ));
}

#[test]
fn mqtt5_4_12_0_4_authentication_is_refused_with_connack_and_the_end() {
    let scene = Scene::new();
    let mut client = scene.open();
    let mut bytes = with_method(&scene).bytes();
    // The client's next step comes too late.
    bytes.extend([0xf0, 2, 0x18, 0]);
    client.send_raw(&bytes);
    assert!(client.expect(Kind::ConnAck).code >= 0x80);
    client.expect_closed();
}

#[test]
fn mqtt5_4_12_0_6_without_a_method_there_is_no_auth() {
    let scene = Scene::new();
    let connect = scene.connect("client").user_name("name").password(b"word");
    let mut client = scene.open();
    client.send_raw(&connect.bytes());
    let connack = client.expect_accepted();
    assert_eq!(connack.property(property::AUTHENTICATION_METHOD), None);
    assert_eq!(connack.property(property::AUTHENTICATION_DATA), None);
    client.subscribe(&scene.topic("t"), 2);
    client.publish(&scene.topic("t"), "x", 2);
    client.expect_message(&scene.topic("t"), "x");
    client.expect_nothing_before_pong();
}

fn auth(code: u8, method: Option<&str>) -> Vec<u8> {
    let method = method.map(|method| (property::AUTHENTICATION_METHOD, Value::Text(method.into())));
    let mut body = vec![code];
    property::write(&mut body, &method.into_iter().collect::<Vec<_>>());
    packet(0xf0, &body)
}

#[test]
fn mqtt5_4_12_0_7_auth_of_a_client_without_a_method_ends_the_connection() {
    let scene = Scene::new();
    let codes = &[0x81, 0x82, 0x8c];
    ends(&scene, "the shortest", &[0xf0, 0], codes);
    for code in [0x00, 0x18, 0x19] {
        ends(&scene, "without a method", &auth(code, None), codes);
        ends(&scene, "with one", &auth(code, Some("x")), codes);
    }
}

#[test]
fn mqtt5_4_12_1_1_reauthentication_with_another_method_ends_the_connection() {
    let scene = Scene::new();
    ends(
        &scene,
        "another method",
        &auth(0x19, Some("SCRAM-SHA-1")),
        &[0x82, 0x8c],
    );
}

#[test]
fn mqtt5_4_12_1_2_reauthentication_that_fails_is_told_and_closed() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 1);
    let will = Will::new(&scene.topic("will"), b"gone").qos(1);
    let mut client = scene.join(scene.connect("client").will(will));
    client.send_raw(&auth(0x19, Some("x")));
    assert!(client.expect(Kind::Disconnect).code >= 0x80);
    client.expect_closed();
    watcher.expect_message(&scene.topic("will"), "gone");
}

#[test]
fn mqtt5_4_13_1_1_malformed_packets_and_protocol_errors_end_the_connection() {
    let scene = Scene::new();
    let mut bystander = scene.client("bystander");
    let cases: Vec<(&str, Vec<u8>, &[u8])> = vec![
        ("packet type 0", vec![0x00, 0], EITHER),
        ("PUBACK that is too short", vec![0x40, 1, 0], MALFORMED),
        ("PINGREQ with a body", vec![0xc0, 1, 0], MALFORMED),
        (
            "properties beyond the packet",
            packet(0x30, &[0, 1, b't', 9, 1]),
            MALFORMED,
        ),
        ("CONNACK from a client", vec![0x20, 3, 0, 0, 0], EITHER),
        ("SUBACK from a client", vec![0x90, 4, 0, 1, 0, 0], EITHER),
        ("UNSUBACK from a client", vec![0xb0, 4, 0, 1, 0, 0], EITHER),
        ("PINGRESP from a client", vec![0xd0, 0], EITHER),
        (
            "a property twice",
            raw_publish(0x30, b"t", None, &[1, 0, 1, 0]),
            PROTOCOL_ERROR,
        ),
        (
            "Payload Format Indicator 2",
            raw_publish(0x30, b"t", None, &[1, 2]),
            EITHER,
        ),
    ];
    for (what, bytes, codes) in cases {
        ends(&scene, what, &bytes, codes);
        bystander.expect_nothing_before_pong();
    }
    // In CONNECT a CONNACK may say why.
    refuses(
        &scene,
        "malformed",
        &raw_connect(3, &[], &[b"id"]),
        MALFORMED,
    );
    refuses(
        &scene,
        "protocol error",
        &raw_connect(2, &[0x21, 0, 0], &[b"id"]),
        PROTOCOL_ERROR,
    );
}

#[test]
fn mqtt5_4_13_2_1_an_error_closes_the_connection_whether_it_was_told_or_not() {
    let scene = Scene::new();
    // Told.
    let mut told = scene.client("told");
    told.send_raw(&[0x00, 0x00]);
    assert!(told.expect(Kind::Disconnect).code >= 0x80);
    told.expect_closed();
    // Not told: no CONNECT came, or there is no room for an answer.
    let mut early = scene.open();
    early.send_raw(&[0xc0, 0x00]);
    early.expect_closed();
    let mut tiny = scene.open();
    tiny.send_raw(
        &scene
            .connect("tiny")
            .property(property::MAXIMUM_PACKET_SIZE, Value::Four(1))
            .bytes(),
    );
    tiny.expect_closed();
    // A client that does not read any more is closed as well.
    let mut deaf = scene.client("deaf");
    deaf.send_raw(&[0x00, 0x00]);
    sleep_ms(50);
    deaf.try_send_raw(&[0xc0, 0x00]);
    while !matches!(deaf.next(PATIENCE), Next::Closed) {}
}
