//! Limits under load: Packet Identifiers, Receive Maximum in both directions, queues.

use std::collections::HashSet;

use super::*;

/// Sends `count` messages of QoS 1 with the numbers as payload, `window` at a time.
fn flood(
    mut writer: Client,
    topic: String,
    count: usize,
    window: usize,
) -> std::thread::JoinHandle<Client> {
    std::thread::spawn(move || {
        let (mut sent, mut acknowledged) = (0, 0);
        while acknowledged < count {
            let mut bytes = Vec::new();
            while sent < count && sent - acknowledged < window {
                let identifier = u16::try_from(sent % 60_000 + 1).unwrap();
                let publish = Publish::new(&topic, sent.to_string())
                    .qos(1)
                    .identifier(identifier);
                bytes.extend(publish.bytes(Version::V5));
                sent += 1;
            }
            writer.send_raw(&bytes);
            assert_eq!(writer.expect(Kind::PubAck).code, 0);
            acknowledged += 1;
        }
        writer
    })
}

#[test]
fn with_all_identifiers_in_use_the_next_message_waits_for_one() {
    let scene = Scene::with("session.in_flight_max = 65535");
    let topic = scene.topic("t");
    let mut reader = scene.client("reader");
    reader.subscribe(&topic, 1);
    let total = 65_545;
    let writer = flood(scene.client("writer"), topic.clone(), total, 1_000);
    let mut in_use = HashSet::new();
    while in_use.len() < 65_535 {
        let message = reader.expect(Kind::Publish);
        assert!(
            in_use.insert(message.identifier),
            "{} is in use",
            message.identifier
        );
    }
    let mut writer = writer.join().expect("the writer");
    reader.expect_nothing_before_pong();
    // QoS 0 needs none.
    writer.publish(&topic, "QoS 0", 0);
    assert_eq!(reader.expect(Kind::Publish).text(), "QoS 0");
    // Each that is given back is taken at once.
    for (n, identifier) in (65_535..total).zip([30_000, 1, 65_535, 2, 30_001, 3, 30_000, 1, 5, 4]) {
        reader.acknowledge(Kind::PubAck, identifier);
        let message = reader.expect(Kind::Publish);
        assert_eq!(
            (message.identifier, message.text()),
            (identifier, &*n.to_string())
        );
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn receive_maximum_holds_in_both_directions_under_load() {
    let scene = Scene::with("listener.receive_maximum = 8");
    let topic = scene.topic("t");
    let mut reader = scene.join(scene.connect("reader").receive_maximum(5));
    reader.subscribe(&topic, 2);
    let total: u16 = 3_000;
    let mut writer = scene.client("writer");
    let topic_of_writer = topic.clone();
    // QoS 2 with as many open as the broker takes.
    let writer = std::thread::spawn(move || {
        let mut open = std::collections::VecDeque::new();
        for n in 0..total {
            if open.len() == 8 {
                let identifier = open.pop_front().expect("one");
                writer.acknowledge(Kind::PubRel, identifier);
                assert_eq!(
                    writer
                        .wait_for_acknowledgement(Kind::PubComp, identifier)
                        .code,
                    0
                );
            }
            let publish = Publish::new(&topic_of_writer, n.to_string())
                .qos(2)
                .identifier(1 + n);
            writer.send_raw(&publish.bytes(Version::V5));
            assert_eq!(writer.wait_for_acknowledgement(Kind::PubRec, 1 + n).code, 0);
            open.push_back(1 + n);
        }
    });
    let (mut published, mut released) = (Vec::new(), Vec::new());
    let mut seen = 0;
    let mut done = 0;
    while done < total {
        let packet = reader.receive();
        match packet.kind {
            Kind::Publish => {
                assert_eq!(packet.text(), seen.to_string());
                seen += 1;
                published.push(packet.identifier);
            }
            Kind::PubRel => released.push(packet.identifier),
            other => panic!("{other:?}"),
        }
        assert!(
            published.len() + released.len() <= 5,
            "more than Receive Maximum"
        );
        // Answers come late and not in order.
        if published.len() > 2 || (seen == total && !published.is_empty()) {
            reader.acknowledge(Kind::PubRec, published[published.len() / 2]);
            let identifier = published.remove(published.len() / 2);
            assert_eq!(
                reader
                    .wait_for_acknowledgement(Kind::PubRel, identifier)
                    .code,
                0
            );
            released.push(identifier);
        }
        while released.len() > 1 || (seen == total && !released.is_empty()) {
            reader.acknowledge(Kind::PubComp, released.remove(0));
            done += 1;
        }
        while seen == total && !published.is_empty() {
            let identifier = published.remove(0);
            reader.acknowledge(Kind::PubRec, identifier);
            reader.wait_for_acknowledgement(Kind::PubRel, identifier);
            reader.acknowledge(Kind::PubComp, identifier);
            done += 1;
        }
    }
    writer.join().expect("the writer");
    reader.expect_nothing_before_pong();
}

/// Queues `count` messages for a session that is away and gives those that it gets. The broker has one
/// shard, so that what is acknowledged has reached the queue.
fn kept(scene: &Scene, count: usize, size: usize) -> Vec<usize> {
    let topic = scene.topic("t");
    let connect = || scene.connect("away").lasting();
    let mut away = scene.join(connect());
    away.subscribe(&topic, 1);
    away.subscribe(&scene.topic("end"), 1);
    away.disconnect();
    let mut writer = scene.client("writer");
    for n in 0..count {
        writer.publish(&topic, format!("{n:0size$}"), 1);
    }
    let mut away = scene.join(connect());
    // The queue is emptied, one by one, and then there is room for the end.
    let kept = scene
        .until_end(&mut away, &mut writer)
        .iter()
        .map(|message| message.text().parse().unwrap())
        .collect();
    away.unsubscribe(&[&topic]);
    kept
}

#[test]
fn a_queue_keeps_as_many_messages_as_it_may() {
    let newest = Scene::with("shards = 1\nsession.outbox_messages_max = 20");
    assert_eq!(
        kept(&newest, 20, 1),
        (0..20).collect::<Vec<_>>(),
        "all that fit"
    );
    assert_eq!(
        kept(&newest, 30, 1),
        (0..20).collect::<Vec<_>>(),
        "the newest go"
    );
    let oldest = Scene::with(
        "shards = 1\nsession.outbox_messages_max = 20\nsession.outbox_full = \"drop_oldest\"",
    );
    assert_eq!(
        kept(&oldest, 30, 1),
        (10..30).collect::<Vec<_>>(),
        "the oldest go"
    );
}

#[test]
fn a_queue_keeps_as_many_bytes_as_it_may() {
    let scene = Scene::with("shards = 1\nsession.outbox_bytes_max = 10240");
    let few = kept(&scene, 40, 1_000);
    assert!(
        (7..=10).contains(&few.len()),
        "{} messages of 1,000 bytes in 10 KiB",
        few.len()
    );
    assert_eq!(few, (0..few.len()).collect::<Vec<_>>());
    // The queue is empty again, and takes as many as before.
    assert_eq!(kept(&scene, 40, 1_000).len(), few.len());
}

#[test]
fn a_full_queue_of_one_client_is_no_matter_of_others() {
    let scene = Scene::with("shards = 1\nsession.outbox_messages_max = 20");
    let topic = scene.topic("t");
    let mut stuck = scene.join(scene.connect("stuck").receive_maximum(1));
    stuck.subscribe(&topic, 1);
    let mut quick = scene.client("quick");
    quick.subscribe(&topic, 1);
    let mut writer = scene.client("writer");
    for n in 0..200 {
        writer.publish(&topic, n.to_string(), 1);
        quick.expect_message(&topic, n.to_string());
    }
    // One in flight and 20 in the queue, in order.
    for n in 0..21 {
        stuck.expect_message(&topic, n.to_string());
    }
    stuck.expect_nothing_before_pong();
}
