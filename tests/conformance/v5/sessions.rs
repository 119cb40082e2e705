//! Session state, transport, QoS flows, what is sent again, and who gets a message (4.1 to 4.5).

use super::*;

fn lasting(scene: &Scene) -> Connect {
    scene.connect("client").lasting()
}

#[test]
fn mqtt5_4_1_0_1_the_session_stays_while_its_connection_does() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(scene.connect("client").resume().expiry_s(1));
    client.subscribe(&topic, 1);
    let mut writer = scene.client("writer");
    writer.publish(&topic, "unacknowledged", 1);
    let first = client.expect(Kind::Publish);
    sleep_ms(1_500);
    writer.publish(&topic, "later", 1);
    assert_eq!(client.expect(Kind::Publish).text(), "later");
    client.cut();
    let mut again = scene.join(scene.connect("client").resume().expiry_s(1));
    assert!(again.session_present());
    assert_eq!(again.expect(Kind::Publish).identifier, first.identifier);
    // Another connection with an expiry of 0 keeps it as long as it lasts.
    let mut short = scene.join(scene.connect("client").resume());
    assert!(short.session_present());
    assert_eq!(short.expect(Kind::Publish).identifier, first.identifier);
}

#[test]
fn mqtt5_4_1_0_2_the_session_ends_when_its_expiry_has_passed() {
    let scene = Scene::new();
    scene.join(scene.connect("at once").resume()).disconnect();
    assert!(
        !scene
            .join(scene.connect("at once").resume())
            .session_present()
    );
    scene
        .join(scene.connect("client").resume().expiry_s(1))
        .cut();
    scene
        .join(scene.connect("longer").resume().expiry_s(30))
        .cut();
    // DISCONNECT can change it.
    let mut shortened = scene.join(scene.connect("shortened").resume().expiry_s(30));
    let expiry = (property::SESSION_EXPIRY_INTERVAL, Value::Four(0));
    shortened.send_raw(&crate::support::packet::disconnect(0, &[expiry]));
    shortened.expect_closed();
    assert!(
        !scene
            .join(scene.connect("shortened").resume())
            .session_present()
    );
    sleep_ms(1_600);
    assert!(
        !scene
            .join(scene.connect("client").resume())
            .session_present()
    );
    assert!(
        scene
            .join(scene.connect("longer").resume())
            .session_present()
    );
}

#[test]
fn mqtt5_4_2_0_1_tcp_brings_everything_in_order() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.client("reader");
    reader.subscribe(&topic, 1);
    let mut writer = scene.client("writer");
    for n in 0..6 {
        let payload: Vec<u8> = (0..200_000_u32)
            .flat_map(|word| (word * 7 + n).to_be_bytes())
            .collect();
        writer.publish(&topic, &payload, 1);
        assert!(
            reader.message().payload == payload,
            "message {n} has changed"
        );
    }
}

#[test]
fn mqtt5_4_3_1_1_qos_0_is_sent_without_dup_and_once() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.join(lasting(&scene));
    reader.subscribe(&topic, 0);
    let mut writer = scene.client("writer");
    for qos in 0..3 {
        writer.publish(&topic, "x", qos);
        let message = reader.expect(Kind::Publish);
        assert_eq!((message.qos, message.dup), (0, false));
    }
    // It is not sent again.
    reader.cut();
    scene.join(lasting(&scene)).expect_nothing_before_pong();
}

/// Deliveries of `qos` never have an identifier that is in use, also with holes in what is in use.
#[track_caller]
fn identifiers_are_free(qos: u8) {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.join(scene.connect("reader").receive_maximum(50));
    reader.subscribe(&topic, qos);
    let mut writer = scene.client("writer");
    let mut in_use: Vec<u16> = Vec::new();
    for n in 0..300_usize {
        writer.publish(&topic, "x", qos);
        let identifier = reader.expect(Kind::Publish).identifier;
        assert!(
            identifier != 0 && !in_use.contains(&identifier),
            "{identifier} is in use"
        );
        in_use.push(identifier);
        if in_use.len() == 50 {
            for _ in 0..25 {
                let done = in_use.swap_remove((n * 7) % in_use.len());
                match qos {
                    1 => reader.acknowledge(Kind::PubAck, done),
                    _ => {
                        reader.acknowledge(Kind::PubRec, done);
                        assert_eq!(reader.expect(Kind::PubRel).identifier, done);
                        reader.acknowledge(Kind::PubComp, done);
                    }
                }
            }
        }
    }
}

#[test]
fn mqtt5_4_3_2_1_qos_1_takes_an_identifier_that_is_free() {
    identifiers_are_free(1);
}

/// The first delivery of `qos` has DUP 0, whether it is live, queued or retained.
#[track_caller]
fn first_delivery_has_no_dup(qos: u8) {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(lasting(&scene));
    client.subscribe(&topic, qos);
    let mut writer = scene.client("writer");
    writer.publish_with(Publish::new(&topic, "live").qos(qos).dup());
    let live = client.expect_message(&topic, "live");
    assert_eq!((live.qos, live.dup), (qos, false));
    client.disconnect();
    writer.publish_with(Publish::new(&topic, "queued").qos(qos).retain().dup());
    let queued = scene.join(lasting(&scene)).expect_message(&topic, "queued");
    assert_eq!((queued.qos, queued.dup), (qos, false));
    let mut late = scene.client("late");
    late.subscribe(&topic, qos);
    let retained = late.expect_message(&topic, "queued");
    assert_eq!((retained.qos, retained.dup), (qos, false));
}

#[test]
fn mqtt5_4_3_2_2_qos_1_is_sent_without_dup_at_first() {
    first_delivery_has_no_dup(1);
}

/// A message of `qos` that is not acknowledged is sent again on each new connection, with its identifier.
#[track_caller]
fn stays_unacknowledged(qos: u8, wrong: &[Kind], right: Kind) {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(lasting(&scene));
    client.subscribe(&topic, qos);
    scene.client("writer").publish(&topic, "x", qos);
    let first = client.expect(Kind::Publish);
    // Acknowledgements of another identifier or another kind do not count.
    client.acknowledge(right, first.identifier + 1);
    let _ = answers(&mut client, &[]);
    for kind in wrong {
        client.acknowledge(*kind, first.identifier);
    }
    client.expect_nothing_before_pong();
    for _ in 0..3 {
        client.cut();
        client = scene.join(lasting(&scene));
        let again = client.expect(Kind::Publish);
        assert_eq!(
            (again.identifier, again.dup, again.text()),
            (first.identifier, true, "x")
        );
        client.expect_nothing_before_pong();
    }
    client.acknowledge(right, first.identifier);
    if qos == 2 {
        client.expect(Kind::PubRel);
        client.acknowledge(Kind::PubComp, first.identifier);
    }
    client.expect_nothing_before_pong();
    client.cut();
    scene.join(lasting(&scene)).expect_nothing_before_pong();
}

#[test]
fn mqtt5_4_3_2_3_qos_1_is_unacknowledged_until_its_puback() {
    stays_unacknowledged(1, &[Kind::PubComp], Kind::PubAck);
}

#[test]
fn mqtt5_4_3_2_4_qos_1_is_answered_with_puback_of_its_identifier() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.reader("reader", "t", 1);
    let mut writer = scene.client("writer");
    let mut bytes = Vec::new();
    let identifiers = [9, 65_535, 1, 300];
    for identifier in identifiers {
        bytes.extend(
            Publish::new(&topic, identifier.to_string())
                .qos(1)
                .identifier(identifier)
                .bytes(Version::V5),
        );
    }
    writer.send_raw(&bytes);
    for identifier in identifiers {
        let puback = writer.expect(Kind::PubAck);
        assert_eq!((puback.identifier, puback.code), (identifier, 0));
    }
    // The broker has taken them: the writer may go.
    writer.cut();
    for identifier in identifiers {
        reader.expect_message(&topic, identifier.to_string());
    }
}

#[test]
fn mqtt5_4_3_2_5_after_puback_an_identifier_stands_for_a_new_message() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.reader("reader", "t", 1);
    let mut writer = scene.client("writer");
    for n in 0..4 {
        let publish = Publish::new(&topic, n.to_string()).qos(1).identifier(5);
        writer.publish_with(if n % 2 == 0 { publish } else { publish.dup() });
        reader.expect_message(&topic, n.to_string());
    }
}

#[test]
fn mqtt5_4_3_3_1_qos_2_takes_an_identifier_that_is_free() {
    identifiers_are_free(2);
}

#[test]
fn mqtt5_4_3_3_2_qos_2_is_sent_without_dup_at_first() {
    first_delivery_has_no_dup(2);
}

#[test]
fn mqtt5_4_3_3_3_qos_2_is_unacknowledged_until_its_pubrec() {
    stays_unacknowledged(2, &[Kind::PubAck, Kind::PubComp], Kind::PubRec);
}

/// A client with a QoS 2 message that it has got and not acknowledged.
fn with_qos_2(scene: &Scene) -> (Client, u16) {
    let topic = scene.topic("t");
    let mut client = scene.join(lasting(scene));
    client.subscribe(&topic, 2);
    scene.client("writer").publish(&topic, "x", 2);
    let identifier = client.expect(Kind::Publish).identifier;
    (client, identifier)
}

#[test]
fn mqtt5_4_3_3_4_pubrec_is_answered_with_pubrel() {
    let scene = Scene::new();
    for code in [None, Some(0x00), Some(0x10)] {
        let (mut client, identifier) = with_qos_2(&scene);
        match code {
            None => client.acknowledge(Kind::PubRec, identifier),
            Some(code) => client.acknowledge_with(Kind::PubRec, identifier, code),
        }
        let release = client.expect(Kind::PubRel);
        assert_eq!((release.identifier, release.code), (identifier, 0));
        client.acknowledge(Kind::PubComp, identifier);
        client.disconnect();
    }
    let (mut client, identifier) = with_qos_2(&scene);
    client.acknowledge_with(Kind::PubRec, identifier, 0x83);
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt5_4_3_3_5_pubrel_is_unacknowledged_until_its_pubcomp() {
    let scene = Scene::new();
    let (mut client, identifier) = with_qos_2(&scene);
    client.acknowledge(Kind::PubRec, identifier);
    client.expect(Kind::PubRel);
    for _ in 0..3 {
        client.cut();
        client = scene.join(lasting(&scene));
        let release = client.expect(Kind::PubRel);
        assert_eq!((release.identifier, release.code), (identifier, 0));
        client.acknowledge(Kind::PubAck, identifier);
    }
    client.acknowledge(Kind::PubComp, identifier);
    client.expect_nothing_before_pong();
    client.cut();
    scene.join(lasting(&scene)).expect_nothing_before_pong();
}

#[test]
fn mqtt5_4_3_3_6_publish_is_not_sent_again_after_pubrel() {
    let scene = Scene::new();
    let (mut client, identifier) = with_qos_2(&scene);
    client.acknowledge(Kind::PubRec, identifier);
    client.expect(Kind::PubRel);
    client.cut();
    let mut client = scene.join(lasting(&scene));
    assert_eq!(client.expect(Kind::PubRel).identifier, identifier);
    client.acknowledge(Kind::PubRec, identifier);
    assert_eq!(client.expect(Kind::PubRel).identifier, identifier);
    client.acknowledge(Kind::PubComp, identifier);
    client.expect_nothing_before_pong();
}

#[test]
fn mqtt5_4_3_3_7_what_was_sent_does_not_expire() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(lasting(&scene));
    client.subscribe(&topic, 2);
    let publish = Publish::new(&topic, "x").qos(2);
    scene
        .client("writer")
        .publish_with(publish.property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(1)));
    let first = client.expect(Kind::Publish);
    sleep_ms(1_400);
    client.cut();
    let mut client = scene.join(lasting(&scene));
    let again = client.expect(Kind::Publish);
    assert_eq!(
        (again.identifier, again.dup, again.text()),
        (first.identifier, true, "x")
    );
    client.acknowledge(Kind::PubRec, first.identifier);
    assert_eq!(client.expect(Kind::PubRel).identifier, first.identifier);
}

fn exactly_once(scene: &Scene, text: &str, identifier: u16) -> Publish {
    Publish::new(&scene.topic("t"), text)
        .qos(2)
        .identifier(identifier)
}

#[test]
fn mqtt5_4_3_3_8_qos_2_is_answered_with_pubrec_of_its_identifier() {
    let scene = Scene::new();
    let mut reader = scene.reader("reader", "t", 2);
    let mut writer = scene.client("writer");
    for identifier in [9, 65_535, 1] {
        writer.send_raw(
            &exactly_once(&scene, &identifier.to_string(), identifier).bytes(Version::V5),
        );
        let pubrec = writer.expect(Kind::PubRec);
        assert_eq!((pubrec.identifier, pubrec.code), (identifier, 0));
    }
    // The broker has taken them: the writer may go.
    writer.cut();
    for identifier in [9, 65_535, 1] {
        reader.expect_message(&scene.topic("t"), identifier.to_string());
    }
}

#[test]
fn mqtt5_4_3_3_9_after_a_pubrec_of_an_error_an_identifier_stands_for_a_new_message() {
    let scene = Scene::new();
    let mut reader = scene.reader("reader", "t", 2);
    let mut writer = scene.client("writer");
    writer.send_raw(
        &Publish::new("$SYS/refused", "x")
            .qos(2)
            .identifier(5)
            .bytes(Version::V5),
    );
    assert!(writer.expect(Kind::PubRec).code >= 0x80);
    writer.publish_with(exactly_once(&scene, "new", 5));
    reader.expect_message(&scene.topic("t"), "new");
}

#[test]
fn mqtt5_4_3_3_10_until_pubrel_the_same_identifier_is_the_same_message() {
    let scene = Scene::new();
    let mut reader = scene.reader("reader", "t", 2);
    let connect = || scene.connect("writer").lasting();
    let mut writer = scene.join(connect());
    for n in 0..6 {
        let publish = exactly_once(&scene, "x", 5);
        writer.send_raw(&if n == 0 { publish } else { publish.dup() }.bytes(Version::V5));
        let pubrec = writer.expect(Kind::PubRec);
        assert_eq!((pubrec.identifier, pubrec.code), (5, 0));
        if n % 2 == 1 {
            // The identifier is a part of the session.
            writer.cut();
            writer = scene.join(connect());
            assert!(writer.session_present());
        }
    }
    assert_eq!(texts(&scene.until_end(&mut reader, &mut writer)), ["x"]);
}

#[test]
fn mqtt5_4_3_3_11_pubrel_is_answered_with_pubcomp() {
    let scene = Scene::new();
    let mut writer = scene.client("writer");
    for identifier in [1, 500, 65_535] {
        writer.send_raw(&exactly_once(&scene, "x", identifier).bytes(Version::V5));
        writer.expect(Kind::PubRec);
    }
    for identifier in [500, 1, 65_535] {
        writer.acknowledge(Kind::PubRel, identifier);
        let complete = writer.expect(Kind::PubComp);
        assert_eq!((complete.identifier, complete.code), (identifier, 0));
    }
}

#[test]
fn mqtt5_4_3_3_12_after_pubcomp_an_identifier_stands_for_a_new_message() {
    let scene = Scene::new();
    let mut reader = scene.reader("reader", "t", 2);
    let mut writer = scene.client("writer");
    for n in 0..4 {
        let publish = exactly_once(&scene, &n.to_string(), 5);
        writer.publish_with(if n % 2 == 0 { publish } else { publish.dup() });
        reader.expect_message(&scene.topic("t"), n.to_string());
    }
}

#[test]
fn mqtt5_4_3_3_13_the_exchange_is_completed_although_the_message_has_expired() {
    let scene = Scene::new();
    let mut writer = scene.client("writer");
    for expiry_s in [0, 1] {
        let publish = exactly_once(&scene, "x", 5);
        let publish = publish.property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(expiry_s));
        writer.send_raw(&publish.bytes(Version::V5));
        assert!(writer.expect(Kind::PubRec).code < 0x80);
        sleep_ms(u64::from(expiry_s) * 1_300);
        writer.send_raw(&publish.dup().bytes(Version::V5));
        assert!(writer.expect(Kind::PubRec).code < 0x80);
        writer.acknowledge(Kind::PubRel, 5);
        assert_eq!(writer.expect(Kind::PubComp).code, 0);
    }
}

#[test]
fn mqtt5_4_4_0_1_what_is_unacknowledged_is_sent_again_with_its_identifiers_and_only_then() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(lasting(&scene));
    client.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    for n in 0..12 {
        writer.publish(&topic, n.to_string(), 1 + n % 2);
    }
    let sent = arrive(&mut client, 12);
    // Some are done, some released.
    client.acknowledge(Kind::PubAck, sent[2].identifier);
    for n in [1, 5] {
        client.acknowledge(Kind::PubRec, sent[n].identifier);
        client.expect(Kind::PubRel);
    }
    client.acknowledge(Kind::PubComp, sent[5].identifier);
    // Nothing is sent again while the connection lasts.
    client.expect_nothing(1_200);
    client.cut();
    let mut client = scene.join(lasting(&scene));
    let again: Vec<(Kind, u16)> = arrive(&mut client, 10)
        .iter()
        .map(|packet| (packet.kind, packet.identifier))
        .collect();
    let expected: Vec<(Kind, u16)> = (0..12)
        .filter(|n| ![2, 5].contains(n))
        .map(|n| {
            (
                if n == 1 { Kind::PubRel } else { Kind::Publish },
                sent[n].identifier,
            )
        })
        .collect();
    assert_eq!(again, expected);
    // Without the session nothing is.
    client.cut();
    scene
        .join(scene.connect("client"))
        .expect_nothing_before_pong();
}

#[test]
fn mqtt5_4_4_0_2_an_error_acknowledges_too() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    for (qos, kind, codes) in [
        (1, Kind::PubAck, [0x80, 0x83, 0x87, 0x97]),
        (2, Kind::PubRec, [0x80, 0x90, 0x97, 0x99]),
    ] {
        let mut client = scene.join(lasting(&scene));
        client.subscribe(&topic, qos);
        let mut writer = scene.client("writer");
        for code in codes {
            writer.publish(&topic, "x", qos);
            let message = client.expect(Kind::Publish);
            client.acknowledge_with(kind, message.identifier, code);
        }
        client.expect_nothing_before_pong();
        client.cut();
        let mut again = scene.join(lasting(&scene));
        assert!(again.session_present());
        again.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt5_4_5_0_1_a_message_reaches_every_session_with_a_matching_subscription() {
    let scene = Scene::new();
    let filters = ["a/b", "a/+", "#", "a/#", "+/b"];
    let connect = |n: usize| scene.connect(&format!("reader-{n}")).lasting();
    let mut online = Vec::new();
    for n in 0..20 {
        let mut reader = scene.join(connect(n));
        reader.subscribe(&scene.topic(filters[n % filters.len()]), 2);
        match n % 2 {
            0 => online.push(reader),
            _ => reader.disconnect(),
        }
    }
    let mut writer = scene.client("writer");
    for qos in [1, 2] {
        writer.publish(&scene.topic("a/b"), qos.to_string(), qos);
    }
    writer.cut();
    for reader in &mut online {
        reader.expect_message(&scene.topic("a/b"), "1");
        reader.expect_message(&scene.topic("a/b"), "2");
    }
    for n in (1..20).step_by(2) {
        let mut reader = scene.join(connect(n));
        reader.expect_message(&scene.topic("a/b"), "1");
        reader.expect_message(&scene.topic("a/b"), "2");
        reader.expect_nothing_before_pong();
    }
}
