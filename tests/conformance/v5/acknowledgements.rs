//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7).

use super::*;
use crate::support::packet::acknowledgement;

const PUBACK_AND_PUBREC: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL_AND_PUBCOMP: [u8; 2] = [0x00, 0x92];

/// All Reason Codes but those in `known` end the connection when a client sends them in `kind`.
fn only_known_codes(scene: &Scene, kind: Kind, known: &[u8]) {
    for code in 0..=255 {
        let mut bytes = acknowledgement(kind, 1);
        bytes[1] = 3;
        bytes.push(code);
        if known.contains(&code) {
            let mut client = scene.client("client");
            let answers = answers(&mut client, &bytes);
            assert!(
                answers.iter().all(|answer| answer.kind != Kind::Disconnect),
                "{answers:?}"
            );
        } else {
            ends(scene, &format!("{kind:?} {code:#04x}"), &bytes, EITHER);
        }
    }
}

/// Answers to PUBLISH packets of `qos` that are accepted, without subscribers, and refused.
fn answers_to_publish(scene: &Scene, client: &mut Client, qos: u8) -> Vec<Packet> {
    let mut bytes = Vec::new();
    for (identifier, topic) in [
        (1, scene.topic("t")),
        (2, scene.topic("nobody")),
        (3, "$SYS/x".into()),
    ] {
        bytes.extend(
            Publish::new(&topic, "x")
                .qos(qos)
                .identifier(identifier)
                .bytes(Version::V5),
        );
    }
    let invalid = Publish::new(&scene.topic("t"), b"\xff")
        .qos(qos)
        .identifier(4);
    let invalid = invalid.property(property::PAYLOAD_FORMAT_INDICATOR, Value::Byte(1));
    bytes.extend(invalid.bytes(Version::V5));
    answers(client, &bytes)
}

const VALIDATING: &str = "message.validate_payload_format = true";

#[track_caller]
fn expect_codes(scene: &Scene, kind: Kind, qos: u8) {
    let mut reader = scene.client("reader");
    reader.subscribe(&scene.topic("t"), 0);
    let answers = answers_to_publish(scene, &mut scene.client("writer"), qos);
    assert!(
        answers.iter().all(|answer| answer.kind == kind),
        "{answers:?}"
    );
    assert!(
        answers
            .iter()
            .all(|answer| PUBACK_AND_PUBREC.contains(&answer.code)),
        "{answers:?}"
    );
    let codes: Vec<u8> = answers.iter().map(|answer| answer.code).collect();
    assert_eq!(codes, [0x00, 0x10, 0x87, 0x99]);
}

/// With every Maximum Packet Size that leaves room for CONNACK the acknowledgements `made` come whole and
/// within it, even those of a fault, which a Reason String could explain.
#[track_caller]
fn fit(scene: &Scene, made: impl Fn(&Scene, &mut Client) -> Vec<Packet>) {
    let expected: Vec<_> = made(scene, &mut scene.client("client"))
        .iter()
        .map(|answer| (answer.kind, answer.identifier, answer.code))
        .collect();
    assert!(
        expected.iter().any(|(_, _, code)| *code >= 0x80),
        "none reports a fault: {expected:?}"
    );
    for limit in 22..40 {
        let connect = scene
            .connect("client")
            .property(property::MAXIMUM_PACKET_SIZE, Value::Four(limit));
        let answers = made(scene, &mut scene.join(connect));
        let found: Vec<_> = answers
            .iter()
            .map(|answer| (answer.kind, answer.identifier, answer.code))
            .collect();
        assert_eq!(found, expected, "limit {limit}");
        assert!(
            answers
                .iter()
                .all(|answer| answer.packet_bytes <= limit as usize),
            "{answers:?}"
        );
    }
}

/// User Properties of a client's packets do not come back in the answers.
#[track_caller]
fn carry_none(answers: &[Packet]) {
    for answer in answers {
        assert_eq!(answer.property(property::USER_PROPERTY), None, "{answer:?}");
    }
}

#[test]
fn mqtt5_3_4_2_1_puback_has_one_of_its_reason_codes() {
    let scene = Scene::with(VALIDATING);
    expect_codes(&scene, Kind::PubAck, 1);
    only_known_codes(&scene, Kind::PubAck, &PUBACK_AND_PUBREC);
}

#[test]
fn mqtt5_3_4_2_2_no_reason_string_makes_puback_too_large() {
    let scene = Scene::with(VALIDATING);
    fit(&scene, |scene, client| answers_to_publish(scene, client, 1));
}

/// A PUBLISH with User Properties to a topic that is refused.
fn refused_with_user_properties(qos: u8) -> Vec<u8> {
    let mut publish = Publish::new("$SYS/x", "x").qos(qos).identifier(1);
    for n in 0..20 {
        let (identifier, value) = user_property(&format!("name {n}"), "value");
        publish = publish.property(identifier, value);
    }
    publish.bytes(Version::V5)
}

#[test]
fn mqtt5_3_4_2_3_no_user_property_makes_puback_too_large() {
    let scene = Scene::new();
    fit(&scene, |_, client| {
        let answers = answers(client, &refused_with_user_properties(1));
        carry_none(&answers);
        answers
    });
}

#[test]
fn mqtt5_3_5_2_1_pubrec_has_one_of_its_reason_codes() {
    let scene = Scene::with(VALIDATING);
    expect_codes(&scene, Kind::PubRec, 2);
    only_known_codes(&scene, Kind::PubRec, &PUBACK_AND_PUBREC);
}

#[test]
fn mqtt5_3_5_2_2_no_reason_string_makes_pubrec_too_large() {
    let scene = Scene::with(VALIDATING);
    fit(&scene, |scene, client| answers_to_publish(scene, client, 2));
}

#[test]
fn mqtt5_3_5_2_3_no_user_property_makes_pubrec_too_large() {
    let scene = Scene::new();
    fit(&scene, |_, client| {
        let answers = answers(client, &refused_with_user_properties(2));
        carry_none(&answers);
        answers
    });
}

#[test]
fn mqtt5_3_6_1_1_the_flags_of_pubrel_must_be_2() {
    let scene = Scene::new();
    for flags in (0..16).filter(|flags| *flags != 2) {
        ends(
            &scene,
            &format!("flags {flags}"),
            &packet(0x60 | flags, &[0, 1]),
            MALFORMED,
        );
    }
    let mut client = scene.client("client");
    client.send_raw(&packet(0x62, &[0, 1]));
    assert_eq!(client.expect(Kind::PubComp).code, 0x92);
}

/// PUBREL packets that the broker sends for a delivery that it knows and for one that it does not.
fn releases(scene: &Scene, client: &mut Client) -> Vec<Packet> {
    client.subscribe(&scene.topic("released"), 2);
    scene
        .client("writer")
        .publish(&scene.topic("released"), "x", 2);
    let identifier = client.expect(Kind::Publish).identifier;
    let mut bytes = acknowledgement(Kind::PubRec, identifier);
    // It is sent again when PUBREC is.
    bytes.extend(acknowledgement(Kind::PubRec, identifier));
    bytes.extend(acknowledgement(Kind::PubRec, 777));
    let releases = answers(client, &bytes);
    client.acknowledge(Kind::PubComp, identifier);
    releases
}

#[test]
fn mqtt5_3_6_2_1_pubrel_has_one_of_its_reason_codes() {
    let scene = Scene::new();
    let releases = releases(&scene, &mut scene.client("client"));
    let codes: Vec<u8> = releases.iter().map(|release| release.code).collect();
    assert_eq!(codes, [0x00, 0x00, 0x92]);
    only_known_codes(&scene, Kind::PubRel, &PUBREL_AND_PUBCOMP);
}

fn limited(scene: &Scene) -> Client {
    // Room for CONNACK and for a PUBLISH to the topic of this test.
    scene.join(
        scene
            .connect("limited")
            .property(property::MAXIMUM_PACKET_SIZE, Value::Four(80)),
    )
}

#[test]
fn mqtt5_3_6_2_2_no_reason_string_makes_pubrel_too_large() {
    let scene = Scene::new();
    let releases = releases(&scene, &mut limited(&scene));
    let codes: Vec<u8> = releases.iter().map(|release| release.code).collect();
    assert_eq!(codes, [0x00, 0x00, 0x92]);
    assert!(releases.iter().all(|release| release.packet_bytes <= 80));
}

#[test]
fn mqtt5_3_6_2_3_no_user_property_makes_pubrel_too_large() {
    let scene = Scene::new();
    let mut client = limited(&scene);
    let mut body = vec![0, 9, 0];
    let pairs: Vec<_> = (0..20)
        .map(|n| user_property(&n.to_string(), "value"))
        .collect();
    property::write(&mut body, &pairs);
    let releases = answers(&mut client, &packet(0x50, &body));
    assert_eq!(releases.len(), 1);
    assert_eq!((releases[0].kind, releases[0].code), (Kind::PubRel, 0x92));
    carry_none(&releases);
}

/// PUBCOMP packets for a message that the broker knows and for one that it does not.
fn completions(scene: &Scene, client: &mut Client) -> Vec<Packet> {
    client.send_raw(
        &Publish::new(&scene.topic("t"), "x")
            .qos(2)
            .identifier(5)
            .bytes(Version::V5),
    );
    client.expect(Kind::PubRec);
    let mut bytes = acknowledgement(Kind::PubRel, 5);
    bytes.extend(acknowledgement(Kind::PubRel, 5));
    answers(client, &bytes)
}

#[test]
fn mqtt5_3_7_2_1_pubcomp_has_one_of_its_reason_codes() {
    let scene = Scene::new();
    let completions = completions(&scene, &mut scene.client("client"));
    let codes: Vec<u8> = completions.iter().map(|complete| complete.code).collect();
    assert_eq!(codes, [0x00, 0x92]);
    only_known_codes(&scene, Kind::PubComp, &PUBREL_AND_PUBCOMP);
}

#[test]
fn mqtt5_3_7_2_2_no_reason_string_makes_pubcomp_too_large() {
    let scene = Scene::new();
    fit(&scene, completions);
}

#[test]
fn mqtt5_3_7_2_3_no_user_property_makes_pubcomp_too_large() {
    let scene = Scene::new();
    fit(&scene, |_, client| {
        let mut body = vec![0, 9, 0];
        let pairs: Vec<_> = (0..20)
            .map(|n| user_property(&n.to_string(), "value"))
            .collect();
        property::write(&mut body, &pairs);
        let completions = answers(client, &packet(0x62, &body));
        carry_none(&completions);
        completions
    });
}
