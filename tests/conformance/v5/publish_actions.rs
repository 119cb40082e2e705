//! PUBLISH: what a receiver does (3.3.4), and flow control.

use super::*;
use crate::support::packet::unsubscribe;

#[test]
fn mqtt5_3_3_4_1_each_qos_has_its_answer() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.reader("reader", "t", 2);
    let mut writer = scene.client("writer");
    let publish = |qos| {
        Publish::new(&topic, "x")
            .qos(qos)
            .identifier(7)
            .bytes(Version::V5)
    };
    let cases: [&[Kind]; 3] = [&[], &[Kind::PubAck], &[Kind::PubRec]];
    for (qos, expected) in (0..).zip(cases) {
        let kinds: Vec<Kind> = answers(&mut writer, &publish(qos))
            .iter()
            .map(|answer| answer.kind)
            .collect();
        assert_eq!(kinds, expected, "QoS {qos}");
        assert_eq!(reader.message().qos, qos);
    }
}

/// A client with three subscriptions that overlap, of QoS 0, 2 and 1.
fn overlapping(scene: &Scene) -> Client {
    let mut client = scene.client("overlapping");
    for (filter, qos, identifier) in [("a/#", 0, 10), ("a/b", 2, 20), ("+/b", 1, 30)] {
        let subscribe = Subscribe::to(&scene.topic(filter), qos).identified(identifier);
        assert_eq!(client.subscribe_with(&subscribe), [qos]);
    }
    client.subscribe(&scene.topic("end"), 1);
    client
}

#[test]
fn mqtt5_3_3_4_2_overlapping_subscriptions_give_their_highest_qos() {
    let scene = Scene::new();
    let mut client = overlapping(&scene);
    let mut writer = scene.client("writer");
    for qos in 0..3 {
        writer.publish(&scene.topic("a/b"), "x", qos);
        let found = scene.until_end(&mut client, &mut writer);
        assert_eq!(found.iter().map(|message| message.qos).max(), Some(qos));
    }
}

#[test]
fn mqtt5_3_3_4_3_the_subscription_identifiers_come_with_the_message() {
    let scene = Scene::new();
    let mut reader = scene.client("reader");
    let mut plain = scene.client("plain");
    plain.subscribe(&scene.topic("#"), 1);
    let mut writer = scene.client("writer");
    for identifier in [1, 127, 128, 16_384, 2_097_152, 268_435_455] {
        let subscribe = Subscribe::to(&scene.topic("t"), 1).identified(identifier);
        assert_eq!(reader.subscribe_with(&subscribe), [1]);
        writer.publish(&scene.topic("t"), "x", 1);
        assert_eq!(reader.message().subscription_identifiers(), [identifier]);
        assert!(
            plain.message().properties.is_empty(),
            "nobody else's identifier"
        );
    }
    // A retained message too.
    writer.publish_with(Publish::new(&scene.topic("kept"), "x").qos(1).retain());
    assert_eq!(
        reader.subscribe_with(&Subscribe::to(&scene.topic("kept"), 1).identified(5)),
        [1]
    );
    assert_eq!(reader.message().subscription_identifiers(), [5]);
    // A subscription that is made again without one has none.
    reader.subscribe(&scene.topic("t"), 1);
    writer.publish(&scene.topic("t"), "x", 1);
    assert!(reader.message().subscription_identifiers().is_empty());
}

#[test]
fn mqtt5_3_3_4_4_one_copy_has_the_identifiers_of_all_subscriptions() {
    let scene = Scene::new();
    let mut client = overlapping(&scene);
    let mut writer = scene.client("writer");
    for qos in 0..3 {
        writer.publish(&scene.topic("a/b"), "x", qos);
        let found = scene.until_end(&mut client, &mut writer);
        assert_eq!(found.len(), 1, "one copy");
        assert_eq!(found[0].subscription_identifiers(), [10, 20, 30]);
    }
    writer.publish(&scene.topic("a/c"), "x", 1);
    let found = scene.until_end(&mut client, &mut writer);
    assert_eq!(found[0].subscription_identifiers(), [10]);
}

#[test]
fn mqtt5_3_3_4_5_separate_copies_have_each_its_own_identifier() {
    let scene = Scene::with("message.overlapping = \"separate\"");
    let mut client = overlapping(&scene);
    let mut writer = scene.client("writer");
    writer.publish(&scene.topic("a/b"), "x", 2);
    let found = scene.until_end(&mut client, &mut writer);
    let mut copies: Vec<(u8, Vec<u32>)> = found
        .iter()
        .map(|message| (message.qos, message.subscription_identifiers()))
        .collect();
    copies.sort_unstable();
    assert_eq!(copies, [(0, vec![10]), (1, vec![30]), (2, vec![20])]);
}

#[test]
fn mqtt5_3_3_4_6_a_client_may_not_send_a_subscription_identifier() {
    let scene = Scene::new();
    for identifier in [&[0x0b, 1][..], &[0x0b, 0xff, 0xff, 0xff, 0x7f]] {
        ends(
            &scene,
            "PUBLISH",
            &raw_publish(0x30, b"t", None, identifier),
            EITHER,
        );
    }
}

#[test]
fn mqtt5_3_3_4_7_more_than_the_servers_receive_maximum_ends_the_connection() {
    let scene = Scene::with("listener.receive_maximum = 4");
    let mut writer = scene.client("writer");
    assert_eq!(writer.granted(property::RECEIVE_MAXIMUM), Some(4));
    let publish = |identifier| {
        Publish::new(&scene.topic("t"), "x")
            .qos(2)
            .identifier(identifier)
            .bytes(Version::V5)
    };
    for identifier in 1..=4 {
        writer.send_raw(&publish(identifier));
        writer.expect(Kind::PubRec);
    }
    // One that is complete makes room for one.
    writer.acknowledge(Kind::PubRel, 2);
    writer.expect(Kind::PubComp);
    writer.send_raw(&publish(5));
    writer.expect(Kind::PubRec);
    writer.send_raw(&publish(6));
    writer.expect_end(0x93);
}

#[test]
fn mqtt5_3_3_4_9_the_server_keeps_to_the_clients_receive_maximum() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    for maximum in [1, 2, 7] {
        let mut reader = scene.join(scene.connect("reader").receive_maximum(maximum));
        reader.subscribe(&topic, 2);
        let total = 20;
        for n in 0..total {
            writer.publish(&topic, n.to_string(), 1 + (n % 2) as u8);
        }
        let mut seen = 0;
        let mut open: Vec<Packet> = Vec::new();
        while seen < total {
            // The window is open: something comes.
            let mut came = Vec::new();
            if open.is_empty() {
                came.push(reader.expect(Kind::Publish));
            }
            came.extend(answers(&mut reader, &[]));
            seen += came.len();
            open.extend(came);
            assert!(
                open.len() <= usize::from(maximum),
                "{} are open",
                open.len()
            );
            // The last one, so that acknowledgements do not come in order; PUBREC alone frees nothing.
            let last = open.pop().expect("one");
            if last.qos == 1 {
                reader.acknowledge(Kind::PubAck, last.identifier);
                continue;
            }
            reader.acknowledge(Kind::PubRec, last.identifier);
            let release = reader.wait_for_acknowledgement(Kind::PubRel, last.identifier);
            assert_eq!(release.code, 0);
            let more = answers(&mut reader, &[]);
            seen += more.len();
            open.extend(more);
            assert!(
                open.len() < usize::from(maximum),
                "with one that is released"
            );
            reader.acknowledge(Kind::PubComp, last.identifier);
        }
        reader.disconnect();
    }
    // A PUBREC of an error frees its place.
    let mut reader = scene.join(scene.connect("reader").receive_maximum(1));
    reader.subscribe(&topic, 2);
    writer.publish(&topic, "refused", 2);
    writer.publish(&topic, "next", 2);
    let refused = reader.expect(Kind::Publish);
    reader.acknowledge_with(Kind::PubRec, refused.identifier, 0x80);
    reader.expect_message(&topic, "next");
}

#[test]
fn mqtt5_3_3_4_10_other_packets_pass_while_the_window_is_closed() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.join(scene.connect("reader").receive_maximum(1));
    reader.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    writer.publish(&topic, "open", 1);
    writer.publish(&topic, "waits", 1);
    assert_eq!(reader.expect(Kind::Publish).text(), "open");
    let mut request = Subscribe::to(&scene.topic("other"), 0).bytes(Version::V5, 11);
    request.extend(unsubscribe(Version::V5, 12, &["none"]));
    request.extend(
        Publish::new(&scene.topic("x"), "x")
            .qos(1)
            .identifier(13)
            .bytes(Version::V5),
    );
    request.extend(
        Publish::new(&scene.topic("x"), "x")
            .qos(2)
            .identifier(14)
            .bytes(Version::V5),
    );
    request.extend(crate::support::packet::acknowledgement(Kind::PubRel, 14));
    let kinds: Vec<Kind> = answers(&mut reader, &request)
        .iter()
        .map(|answer| answer.kind)
        .collect();
    for kind in [Kind::UnsubAck, Kind::PubAck, Kind::PubRec, Kind::PubComp] {
        assert!(kinds.contains(&kind), "{kind:?} is not in {kinds:?}");
    }
    assert!(!kinds.contains(&Kind::Publish));
    // SUBACK comes when every shard knows the subscription.
    if !kinds.contains(&Kind::SubAck) {
        reader.expect(Kind::SubAck);
    }
    writer.publish(&topic, "QoS 0", 0);
    assert_eq!(reader.expect(Kind::Publish).text(), "QoS 0");
}
