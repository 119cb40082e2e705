//! Retry, receipt and order (4.4 to 4.6).

use crate::support::packet::acknowledgement;
use crate::support::{Client, Kind, Publish, Scene, Version};

use super::{client, lasting, reader};

#[test]
fn mqtt3_4_4_0_1_unacknowledged_packets_are_sent_again_with_their_identifiers() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 2);
    let mut writer = client(&scene, "writer");
    let mut sent = Vec::new();
    for n in 0..9_u8 {
        writer.publish(&topic, n.to_string(), 1 + n % 2);
        sent.push(reader.expect(Kind::Publish));
    }
    // Of QoS 2, every other is released.
    let released = |publish: &crate::support::Packet| publish.identifier.is_multiple_of(4);
    for publish in sent.iter().filter(|publish| publish.qos == 2) {
        if released(publish) {
            reader.acknowledge(Kind::PubRec, publish.identifier);
            reader.wait_for_acknowledgement(Kind::PubRel, publish.identifier);
        }
    }
    for ending in 0..2 {
        match ending {
            0 => reader.cut(),
            _ => reader.disconnect(),
        }
        reader = lasting(&scene, "reader");
        let mut again = Vec::new();
        for _ in 0..sent.len() {
            again.push(reader.receive());
        }
        for publish in &sent {
            let of_it = |packet: &&crate::support::Packet| packet.identifier == publish.identifier;
            let packet = again
                .iter()
                .find(of_it)
                .expect("a packet with its identifier");
            if publish.qos == 2 && released(publish) {
                assert_eq!(packet.kind, Kind::PubRel);
            } else {
                assert_eq!((packet.kind, packet.dup), (Kind::Publish, true));
                assert_eq!(
                    (&packet.payload, packet.qos),
                    (&publish.payload, publish.qos)
                );
            }
        }
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_4_4_0_1_a_clean_session_is_sent_nothing_again() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 1);
    client(&scene, "writer").publish(&topic, "x", 1);
    reader.expect(Kind::Publish);
    reader.cut();
    client(&scene, "reader").expect_nothing_before_pong();
}

#[test]
fn mqtt3_4_5_0_1_a_message_goes_to_every_session_that_matches() {
    let scene = Scene::new();
    let topic = scene.topic("a/b");
    let filters = ["a/b", "a/+", "+/b", "#", "a/#", "+/+"];
    let mut present: Vec<Client> = Vec::new();
    for (n, filter) in filters.iter().enumerate() {
        present.push(reader(&scene, &format!("present-{n}"), filter, 1));
        let mut away = lasting(&scene, &format!("away-{n}"));
        away.subscribe(&scene.topic(filter), 1);
        away.disconnect();
        present.push(reader(&scene, &format!("other-{n}"), "a/c", 1));
    }
    let mut writer = client(&scene, "writer");
    for n in 0..20 {
        writer.publish(&topic, n.to_string(), 1);
    }
    for (n, client) in present.iter_mut().enumerate() {
        for m in 0..20 {
            if n % 2 == 0 {
                client.expect_message(&topic, m.to_string());
            }
        }
        client.expect_nothing_before_pong();
    }
    for n in 0..filters.len() {
        let mut away = lasting(&scene, &format!("away-{n}"));
        for m in 0..20 {
            away.expect_message(&topic, m.to_string());
        }
        away.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_4_6_0_1_what_is_sent_again_comes_in_the_original_order() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 2);
    let mut writer = client(&scene, "writer");
    for n in 0..60_u8 {
        writer.publish(&topic, n.to_string(), 1 + n % 2);
    }
    let mut expected: Vec<(u16, String)> = (0..60)
        .map(|_| reader.expect(Kind::Publish))
        .map(|publish| (publish.identifier, publish.text().to_owned()))
        .collect();
    for round in 0..4 {
        reader.cut();
        reader = lasting(&scene, "reader");
        let found: Vec<(u16, String)> = (0..expected.len())
            .map(|_| reader.expect(Kind::Publish))
            .map(|publish| (publish.identifier, publish.text().to_owned()))
            .collect();
        assert_eq!(found, expected);
        // Some go, from the middle: those of QoS 1, which have even numbers.
        for n in [14, 4, 8] {
            let number = (n + round).to_string();
            let Some(at) = expected.iter().position(|(_, text)| *text == number) else {
                continue;
            };
            if (n + round) % 2 == 0 {
                reader.acknowledge(Kind::PubAck, expected[at].0);
                expected.remove(at);
            }
        }
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_4_6_0_5_every_topic_is_ordered() {
    let scene = Scene::new();
    let mut reader = reader(&scene, "reader", "#", 1);
    let mut writer = client(&scene, "writer");
    let topics: Vec<String> = (0..5).map(|n| scene.topic(&n.to_string())).collect();
    let mut all = Vec::new();
    for n in 0..500_u16 {
        let publish = Publish::new(&topics[usize::from(n % 5)], n.to_string()).qos(1);
        all.extend(publish.identifier(n + 1).bytes(Version::V311));
    }
    writer.send_raw(&all);
    for n in 0..500 {
        reader.expect_message(&topics[n % 5], n.to_string());
    }
}

#[test]
fn mqtt3_4_6_0_6_messages_of_one_client_topic_and_qos_keep_their_order() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    const WRITERS: usize = 4;
    const MESSAGES: usize = 300;
    let mut readers: Vec<Client> = (0..3)
        .map(|n| reader(&scene, &format!("reader-{n}"), "t", 2))
        .collect();
    let mut writers: Vec<Client> = (0..WRITERS)
        .map(|n| client(&scene, &format!("writer-{n}")))
        .collect();
    // Each writer sends all QoS in turn, in segments of 30 messages, without waiting for answers.
    for segment in 0..MESSAGES / 30 {
        for (w, writer) in writers.iter_mut().enumerate() {
            let mut all = Vec::new();
            for m in segment * 30..(segment + 1) * 30 {
                let publish = Publish::new(&topic, format!("{w} {m}")).qos((m % 3) as u8);
                all.extend(publish.identifier(m as u16 + 1).bytes(Version::V311));
            }
            writer.send_raw(&all);
        }
    }
    for reader in &mut readers {
        let mut next = [[0, 1, 2]; WRITERS];
        for _ in 0..WRITERS * MESSAGES {
            let message = reader.wait_for("a message", |packet| packet.kind == Kind::Publish);
            if message.qos > 0 {
                let answer = [Kind::PubAck, Kind::PubRec][usize::from(message.qos) - 1];
                reader.acknowledge(answer, message.identifier);
            }
            let (writer, number) = message.text().split_once(' ').expect("two numbers");
            let writer: usize = writer.parse().unwrap();
            let expected = &mut next[writer][usize::from(message.qos)];
            assert_eq!(number, expected.to_string(), "of writer {writer}");
            *expected += 3;
        }
    }
}

#[test]
fn mqtt3_4_6_0_6_answers_come_in_the_order_of_what_they_answer() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    // PUBACK and PUBREC in the order of the PUBLISH packets, PUBCOMP in that of the PUBRELs.
    let mut writer = client(&scene, "writer");
    let identifiers = [5, 3, 9, 1, 7, 2];
    for (qos, answer) in [(1, Kind::PubAck), (2, Kind::PubRec)] {
        let mut all = Vec::new();
        for identifier in identifiers {
            let publish = Publish::new(&topic, "x").qos(qos);
            all.extend(publish.identifier(identifier).bytes(Version::V311));
        }
        writer.send_raw(&all);
        for identifier in identifiers {
            assert_eq!(writer.expect(answer).identifier, identifier);
        }
    }
    let mut all = Vec::new();
    for identifier in identifiers.into_iter().rev() {
        all.extend(acknowledgement(Kind::PubRel, identifier));
    }
    writer.send_raw(&all);
    for identifier in identifiers.into_iter().rev() {
        assert_eq!(writer.expect(Kind::PubComp).identifier, identifier);
    }
    // PUBREL in the order of the PUBRECs.
    let mut reader = reader(&scene, "reader", "t", 2);
    for n in 0..6 {
        writer.publish(&topic, n.to_string(), 2);
    }
    let sent: Vec<u16> = (0..6)
        .map(|_| reader.expect(Kind::Publish).identifier)
        .collect();
    let mut all = Vec::new();
    for n in [3, 0, 5, 1, 4, 2] {
        all.extend(acknowledgement(Kind::PubRec, sent[n]));
    }
    reader.send_raw(&all);
    for n in [3, 0, 5, 1, 4, 2] {
        assert_eq!(reader.expect(Kind::PubRel).identifier, sent[n]);
    }
}

#[test]
fn mqtt3_4_6_0_6_order_holds_through_a_queue_and_a_reconnection() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = lasting(&scene, "reader");
    reader.subscribe(&topic, 1);
    let mut writer = client(&scene, "writer");
    let mut next = 0;
    for round in 0..5 {
        for n in 0..100 {
            writer.publish(&topic, (round * 100 + n).to_string(), 1);
            if n == 50 {
                reader.cut();
                reader = lasting(&scene, "reader");
            }
        }
        // Half of them are taken; the others come again, before those of the next round.
        for _ in 0..50 {
            let message = reader.message();
            assert_eq!(message.text(), next.to_string());
            next += 1;
        }
        reader.disconnect();
        reader = lasting(&scene, "reader");
    }
    for n in next..500 {
        assert_eq!(reader.message().text(), n.to_string());
    }
    reader.expect_nothing_before_pong();
}
