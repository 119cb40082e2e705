//! Clients that come and go while messages flow: takeover, shared groups, several publishers.

use std::collections::HashMap;

use super::*;

#[test]
fn of_many_connections_at_once_one_is_left() {
    let scene = Scene::new();
    for lasting in [false, true] {
        let mut clients: Vec<Client> = (0..12).map(|_| scene.open()).collect();
        let connect = scene.connect("raced");
        let bytes = if lasting { connect.lasting() } else { connect }.bytes();
        // All of them before any answer is read.
        for client in &mut clients {
            client.send_raw(&bytes);
        }
        for client in &mut clients {
            client.expect_accepted();
        }
        let mut left = Vec::new();
        for mut client in clients {
            client.try_send_raw(&crate::support::packet::PINGREQ);
            match client.receive() {
                packet if packet.kind == Kind::PingResp => left.push(client),
                packet => {
                    // It may have had its PINGRESP before it was taken over.
                    assert_eq!((packet.kind, packet.code), (Kind::Disconnect, 0x8e));
                    client.expect_closed();
                }
            }
        }
        let last = left.pop().expect("one is left");
        assert!(left.is_empty(), "{} more are left", left.len());
        last.disconnect();
    }
}

#[test]
fn nothing_is_lost_or_doubled_over_takeovers() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let connect = || scene.connect("reader").lasting().receive_maximum(20);
    let mut reader = scene.join(connect());
    reader.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    let topic_of_writer = topic.clone();
    let total = 600;
    let writer = std::thread::spawn(move || {
        for n in 0..total {
            writer.publish(&topic_of_writer, n.to_string(), 2);
        }
    });
    // Exactly once: a PUBLISH counts when its identifier is not one that waits for PUBREL.
    let mut pending: HashMap<u16, String> = HashMap::new();
    let mut received: Vec<String> = Vec::new();
    let mut steps = 0;
    while received.len() < total || !pending.is_empty() {
        let packet = match reader.next(PATIENCE) {
            Next::Packet(packet) => packet,
            other => panic!("{other:?} after {} messages", received.len()),
        };
        match packet.kind {
            Kind::Publish => {
                let text = packet.text().to_owned();
                match pending.insert(packet.identifier, text.clone()) {
                    Some(before) => {
                        assert_eq!(before, text, "another message under an identifier in use")
                    }
                    None => received.push(text),
                }
                reader.try_send_raw(&crate::support::packet::acknowledgement(
                    Kind::PubRec,
                    packet.identifier,
                ));
            }
            Kind::PubRel => {
                pending.remove(&packet.identifier);
                reader.try_send_raw(&crate::support::packet::acknowledgement(
                    Kind::PubComp,
                    packet.identifier,
                ));
            }
            other => panic!("{other:?}"),
        }
        steps += 1;
        if steps % 37 == 0 && received.len() < total {
            let mut next = scene.join(connect());
            assert!(next.session_present());
            std::mem::swap(&mut reader, &mut next);
        }
    }
    writer.join().expect("the writer");
    let expected: Vec<String> = (0..total).map(|n| n.to_string()).collect();
    assert_eq!(received, expected);
    reader.expect_nothing_before_pong();
}

/// A shared group whose members come and go while messages of `qos` flow: gives how often each arrived.
fn with_changing_members(scene: &Scene, qos: u8, total: usize) -> HashMap<String, usize> {
    let topic = scene.topic("t");
    let filter = scene.shared("t");
    let lasting = |n: usize| {
        scene
            .connect(&format!("member-{n}"))
            .lasting()
            .receive_maximum(8)
    };
    let join = |n: usize| {
        let mut member = scene.join(lasting(n));
        member.subscribe(&filter, qos);
        member
    };
    let mut members: Vec<Option<Client>> = (0..4).map(|n| Some(join(n))).collect();
    let mut writer = scene.client("writer");
    let writer = std::thread::spawn(move || {
        for n in 0..total {
            writer.publish(&topic, n.to_string(), qos);
        }
    });
    let mut pending: HashMap<(usize, u16), String> = HashMap::new();
    let mut arrived: HashMap<String, usize> = HashMap::new();
    let mut idle = 0;
    let mut round = 0;
    while idle < 8 {
        round += 1;
        let mut came = false;
        for (n, member) in members.iter_mut().enumerate() {
            let Some(client) = member else { continue };
            while let Next::Packet(packet) = client.next(std::time::Duration::from_millis(20)) {
                came = true;
                match packet.kind {
                    Kind::Publish if qos == 1 => {
                        // Some are gone before they acknowledge what they got.
                        *arrived.entry(packet.text().to_owned()).or_default() += 1;
                        client.acknowledge(Kind::PubAck, packet.identifier);
                    }
                    Kind::Publish => {
                        if pending
                            .insert((n, packet.identifier), packet.text().to_owned())
                            .is_none()
                        {
                            *arrived.entry(packet.text().to_owned()).or_default() += 1;
                        }
                        client.acknowledge(Kind::PubRec, packet.identifier);
                    }
                    Kind::PubRel => {
                        pending.remove(&(n, packet.identifier));
                        client.acknowledge(Kind::PubComp, packet.identifier);
                    }
                    Kind::SubAck => {}
                    other => panic!("{other:?}"),
                }
                if round % 3 == n % 3 {
                    break;
                }
            }
        }
        idle = if came || !writer.is_finished() {
            0
        } else {
            idle + 1
        };
        // One goes, the one that went before comes back.
        let (leaving, coming) = (round % 4, (round + 3) % 4);
        if members[coming].is_none() {
            members[coming] = Some(join(coming));
        }
        if idle == 0
            && round < 60
            && let Some(client) = members[leaving].take()
        {
            client.cut();
        }
    }
    writer.join().expect("the writer");
    arrived
}

#[test]
fn a_shared_group_whose_members_change_gets_each_qos_1_message() {
    let scene = Scene::new();
    let arrived = with_changing_members(&scene, 1, 400);
    let missing: Vec<usize> = (0..400)
        .filter(|n| !arrived.contains_key(&n.to_string()))
        .collect();
    assert!(missing.is_empty(), "{missing:?} are missing");
}

#[test]
fn a_shared_group_whose_members_change_gets_each_qos_2_message_once() {
    let scene = Scene::new();
    let arrived = with_changing_members(&scene, 2, 400);
    let wrong: Vec<(usize, usize)> = (0..400)
        .map(|n| (n, arrived.get(&n.to_string()).copied().unwrap_or(0)))
        .filter(|(_, count)| *count != 1)
        .collect();
    assert!(wrong.is_empty(), "message and how often it came: {wrong:?}");
}

#[test]
fn each_publisher_has_its_order_at_every_reader_whatever_the_others_do() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let connect = |n: usize| {
        let connect = scene.connect(&format!("reader-{n}")).lasting();
        if n.is_multiple_of(2) {
            connect.receive_maximum(3)
        } else {
            connect
        }
    };
    let mut readers: Vec<Client> = (0..6)
        .map(|n| {
            let mut reader = scene.join(connect(n));
            reader.subscribe(&topic, 1);
            reader
        })
        .collect();
    let (writers, total) = (5, 120);
    let threads: Vec<_> = (0..writers)
        .map(|writer| {
            let mut client = scene.client(&format!("writer-{writer}"));
            let topic = topic.clone();
            std::thread::spawn(move || {
                for n in 0..total {
                    client.publish(&topic, format!("{writer} {n}"), 1);
                }
            })
        })
        .collect();
    for (index, reader) in readers.iter_mut().enumerate() {
        let mut next = vec![0; writers];
        let mut count = 0;
        while count < writers * total {
            let message = reader.message();
            let (writer, n) = message.text().split_once(' ').expect("writer and number");
            let (writer, n): (usize, usize) = (writer.parse().unwrap(), n.parse().unwrap());
            if n < next[writer] {
                assert!(message.dup, "{writer} {n} comes again without DUP");
                continue;
            }
            assert_eq!(n, next[writer], "of writer {writer}");
            next[writer] += 1;
            count += 1;
            if count % 100 == 99 {
                *reader = scene.join(connect(index));
            }
        }
    }
    for thread in threads {
        thread.join().expect("a writer");
    }
}
