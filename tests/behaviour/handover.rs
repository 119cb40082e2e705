//! From the accepting shard to the home shard: nothing is lost, however the bytes are cut.

use std::collections::BTreeMap;

use crate::support::packet::{self, DISCONNECT, PINGREQ, VERSIONS};
use crate::support::{
    Broker, Client, Connect, Kind, Publish, Subscribe, Value, Version, property, sleep_ms,
};

/// A whole visit in one piece: SUBSCRIBE, three messages to itself, ping and DISCONNECT.
fn visit(version: Version, id: &str) -> Vec<u8> {
    let mut bytes = Connect::new(id).version(version).bytes();
    bytes.extend(Subscribe::to(id, 2).bytes(version, 1));
    bytes.extend(PINGREQ);
    bytes
}

fn expect_visit(client: &mut Client) {
    client.expect_accepted();
    client.wait_for("SUBACK", |packet| packet.kind == Kind::SubAck);
    client.wait_for("PINGRESP", |packet| packet.kind == Kind::PingResp);
}

#[test]
fn every_shard_accepts() {
    let broker = Broker::with("shards = 4");
    sleep_ms(300);
    // A shard has a second thread, which sleeps all the time.
    let shards = || -> BTreeMap<String, u64> {
        let mut sleeps = BTreeMap::new();
        for (name, count) in broker.thread_sleeps() {
            if let Some(of_shard) = name.strip_prefix("shard-") {
                let shard = of_shard.split('-').next().unwrap_or_default();
                *sleeps.entry(shard.to_owned()).or_default() += count;
            }
        }
        sleeps
    };
    let before = shards();
    // They say nothing, so that none is handed to another shard.
    let silent: Vec<Client> = (0..200)
        .map(|_| {
            sleep_ms(2);
            Client::open(broker.address(), Version::V5)
        })
        .collect();
    sleep_ms(200);
    let after = shards();
    assert_eq!(after.len(), 4, "{after:?}");
    for (shard, count) in after {
        let woken = count - before[&shard];
        assert!(woken >= 10, "shard {shard} was woken {woken} times");
    }
    drop(silent);
}

#[test]
fn packets_in_the_segment_of_connect_are_not_lost() {
    let broker = Broker::start();
    for version in VERSIONS {
        for n in 0..32 {
            let id = format!("segment/{n}");
            let mut client = Client::open(broker.address(), version);
            let mut bytes = visit(version, &id);
            for qos in 0..3 {
                let publish = Publish::new("elsewhere", "x").qos(qos).identifier(9);
                bytes.extend(publish.bytes(version));
            }
            bytes.extend(packet::acknowledgement(Kind::PubRel, 9));
            bytes.extend(DISCONNECT);
            client.send_raw(&bytes);
            expect_visit(&mut client);
            client.wait_for_acknowledgement(Kind::PubAck, 9);
            client.wait_for_acknowledgement(Kind::PubRec, 9);
            client.wait_for_acknowledgement(Kind::PubComp, 9);
            client.expect_closed();
        }
    }
}

#[test]
fn one_byte_at_a_time_is_as_good() {
    let broker = Broker::start();
    for version in VERSIONS {
        for n in 0..4 {
            let id = format!("byte/{n}");
            let mut client = Client::open(broker.address(), version);
            for byte in visit(version, &id) {
                client.send_raw(&[byte]);
            }
            expect_visit(&mut client);
            for byte in Publish::new(&id, "slow")
                .qos(1)
                .identifier(7)
                .bytes(version)
            {
                client.send_raw(&[byte]);
            }
            client.wait_for_acknowledgement(Kind::PubAck, 7);
            assert_eq!(client.message().text(), "slow");
            for byte in DISCONNECT {
                client.send_raw(&[byte]);
            }
            client.expect_closed();
        }
    }
}

#[test]
fn every_cut_of_the_first_bytes_is_as_good() {
    let broker = Broker::start();
    let bytes = visit(Version::V5, "cut");
    for cut in 1..bytes.len() {
        let mut client = Client::open(broker.address(), Version::V5);
        client.send_raw(&bytes[..cut]);
        std::thread::sleep(std::time::Duration::from_millis(2));
        client.send_raw(&bytes[cut..]);
        expect_visit(&mut client);
        client.disconnect();
    }
}

#[test]
fn a_connect_larger_than_any_buffer_is_taken() {
    let broker = Broker::with("listener.connect_bytes_max = \"1MiB\"");
    for (n, size) in [2_000, 2_048, 4_096, 40_000, 65_000]
        .into_iter()
        .enumerate()
    {
        let mut connect = Connect::new(&format!("large-{n}")).password(&vec![7; size]);
        for _ in 0..3 {
            let value = Value::Pair("k".repeat(size), "v".repeat(size));
            connect = connect.property(property::USER_PROPERTY, value);
        }
        let mut client = Client::connect(&broker, connect);
        client.expect_nothing_before_pong();
    }
}

#[test]
fn messages_follow_connect_from_every_client_to_every_shard() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("in/#", 1);
    for n in 0..64 {
        let id = format!("writer-{n}");
        let mut bytes = Connect::new(&id).bytes();
        for qos in 0..2 {
            let publish = Publish::new(&format!("in/{n}"), "x").qos(qos).identifier(1);
            bytes.extend(publish.bytes(Version::V5));
        }
        bytes.extend(DISCONNECT);
        let mut writer = Client::open(broker.address(), Version::V5);
        writer.send_raw(&bytes);
        reader.expect_message(&format!("in/{n}"), "x");
        reader.expect_message(&format!("in/{n}"), "x");
    }
}

#[test]
fn a_connection_cut_in_its_handover_leaves_nothing() {
    let broker = Broker::with("system_topics.interval_s = 1");
    for n in 0..100 {
        let mut client = Client::open(broker.address(), Version::V5);
        client.send_raw(&Connect::new(&format!("hasty-{n}")).bytes());
    }
    let mut reader = broker.client("reader");
    reader.subscribe("$SYS/broker/clients/connected", 0);
    for _ in 0..20 {
        if reader.message().text() == "1" {
            return;
        }
    }
    panic!("connections of clients that are gone are still counted");
}
