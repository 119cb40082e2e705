//! Across shards: order holds, SUBACK means that nothing is missed, everyone gets everything once.

use std::collections::HashMap;
use std::thread;

use crate::support::packet::Version;
use crate::support::{Broker, Client, Connect, Kind, Packet, Publish};

/// Publishes `count` numbered messages of `qos` with a window of 20.
fn publish_numbers(writer: &mut Client, topic: &str, name: &str, count: usize, qos: u8) {
    for start in (0..count).step_by(20) {
        let end = (start + 20).min(count);
        let mut bytes = Vec::new();
        for n in start..end {
            let publish = Publish::new(topic, format!("{name} {n}")).qos(qos);
            bytes.extend(
                publish
                    .identifier((n % 60_000 + 1) as u16)
                    .bytes(Version::V5),
            );
        }
        writer.send_raw(&bytes);
        for n in start..end {
            let identifier = (n % 60_000 + 1) as u16;
            match qos {
                0 => {}
                1 => assert_eq!(writer.expect(Kind::PubAck).identifier, identifier),
                _ => {
                    writer.wait_for_acknowledgement(Kind::PubRec, identifier);
                    writer.acknowledge(Kind::PubRel, identifier);
                }
            }
        }
        if qos == 2 {
            for n in start..end {
                writer.wait_for_acknowledgement(Kind::PubComp, (n % 60_000 + 1) as u16);
            }
        }
    }
}

/// Checks per publisher that numbers follow each other without a gap.
#[derive(Default)]
struct Sequences(HashMap<String, usize>);

impl Sequences {
    fn check(&mut self, message: &Packet) {
        let (name, number) = message.text().split_once(' ').expect("name and number");
        let next = self.0.entry(name.to_owned()).or_default();
        assert_eq!(number, next.to_string(), "from {name} [MQTT-4.6.0-6]");
        *next += 1;
    }
}

#[test]
fn the_order_of_each_publisher_holds_for_every_subscriber() {
    const WRITERS: usize = 5;
    const COUNT: usize = 300;
    for qos in 0..3 {
        let broker = Broker::start();
        let mut readers: Vec<Client> = (0..5)
            .map(|n| broker.client(&format!("reader-{n}")))
            .collect();
        for (n, reader) in readers.iter_mut().enumerate() {
            reader.subscribe(if n % 2 == 0 { "o/t" } else { "o/#" }, qos);
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let mut writer = broker.client(&format!("writer-{n}"));
                thread::spawn(move || {
                    publish_numbers(&mut writer, "o/t", &n.to_string(), COUNT, qos)
                })
            })
            .collect();
        let readers: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                thread::spawn(move || {
                    let mut sequences = Sequences::default();
                    for _ in 0..WRITERS * COUNT {
                        sequences.check(&reader.message());
                    }
                    reader.expect_nothing_before_pong();
                })
            })
            .collect();
        for thread in writers.into_iter().chain(readers) {
            thread.join().expect("a thread of the test");
        }
    }
}

#[test]
fn order_holds_between_qos_levels_of_one_publisher() {
    let broker = Broker::start();
    for n in 0..8 {
        let mut reader = broker.client(&format!("reader-{n}"));
        reader.subscribe("mixed", 1);
        let mut writer = broker.client(&format!("writer-{n}"));
        for m in 0..60 {
            // QoS 1 only: different QoS may overtake each other, equal ones not.
            writer.publish("mixed", m.to_string(), 1);
        }
        for m in 0..60 {
            reader.expect_message("mixed", m.to_string());
        }
    }
}

#[test]
fn after_suback_nothing_is_missed() {
    let broker = Broker::start();
    let mut writers: Vec<Client> = (0..12)
        .map(|n| broker.client(&format!("writer-{n}")))
        .collect();
    for round in 0..240 {
        let mut reader = broker.client(&format!("reader-{round}"));
        let topic = format!("v/{round}");
        let filter = match round % 4 {
            0 | 1 => topic.clone(),
            2 => format!("+/{round}"),
            _ => format!("$share/g/v/{round}"),
        };
        reader.subscribe(&filter, 0);
        let writer = &mut writers[round % 12];
        writer.publish(&topic, "seen", 0);
        reader.expect_message(&topic, "seen");
    }
}

#[test]
fn another_shards_first_and_last_subscriber_of_a_topic_may_change() {
    let broker = Broker::start();
    let mut writer = broker.client("writer");
    let mut readers: Vec<Client> = (0..8)
        .map(|n| broker.client(&format!("reader-{n}")))
        .collect();
    for round in 0..40 {
        let one = round % 8;
        readers[one].subscribe("c/t", 1);
        readers[(one + 3) % 8].subscribe("c/+", 1);
        writer.publish("c/t", round.to_string(), 1);
        readers[one].expect_message("c/t", round.to_string());
        readers[(one + 3) % 8].expect_message("c/t", round.to_string());
        assert_eq!(readers[one].unsubscribe(&["c/t"]), [0]);
        assert_eq!(readers[(one + 3) % 8].unsubscribe(&["c/+"]), [0]);
    }
    // An UNSUBACK says that nothing new arrives; the publisher's shard may hear of it a moment later.
    crate::support::sleep_ms(200);
    assert_eq!(
        writer.publish_with(Publish::new("c/t", "x").qos(1)),
        0x10,
        "nobody is left"
    );
    for reader in &mut readers {
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn a_message_for_thousands_of_subscribers_reaches_each_once() {
    let broker = Broker::start();
    let mut readers: Vec<Client> = (0..1_000)
        .map(|n| broker.client(&format!("r-{n}")))
        .collect();
    for reader in &mut readers {
        reader.subscribe("all", 1);
    }
    let mut writer = broker.client("writer");
    for n in 0..5 {
        writer.publish("all", n.to_string(), 1);
    }
    for reader in &mut readers {
        for n in 0..5 {
            reader.expect_message("all", n.to_string());
        }
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn two_clients_that_flood_each_other_do_not_lock_up() {
    const COUNT: usize = 3_000;
    let broker = Broker::with("network.mesh_staged_bytes_max = 65536");
    let pairs: Vec<_> = (0..8)
        .map(|n| {
            let connect = Connect::new(&format!("flood-{n}"));
            let mut client = Client::connect(&broker, connect);
            client.subscribe(&format!("f/{n}"), 1);
            client
        })
        .collect();
    let threads: Vec<_> = pairs
        .into_iter()
        .enumerate()
        .map(|(n, mut client)| {
            thread::spawn(move || {
                let topic = format!("f/{}", (n + 1) % 8);
                let mut received = 0;
                let mut acknowledged = 0;
                let mut sent = 0;
                while received < COUNT || acknowledged < COUNT {
                    while sent < COUNT && sent < acknowledged + 200 {
                        let publish = Publish::new(&topic, vec![b'x'; 500]).qos(1);
                        let identifier = (sent % 1_000 + 1) as u16;
                        client.send_raw(&publish.identifier(identifier).bytes(Version::V5));
                        sent += 1;
                    }
                    let packet = client.receive();
                    match packet.kind {
                        Kind::PubAck => acknowledged += 1,
                        Kind::Publish => {
                            received += 1;
                            client.acknowledge(Kind::PubAck, packet.identifier);
                        }
                        _ => panic!("{packet:?}"),
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("a client");
    }
}
