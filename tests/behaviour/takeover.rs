//! Session takeover (3.1.4): one connection per Client Identifier, the newest.

use crate::support::packet::VERSIONS;
use crate::support::{Broker, Client, Connect, Kind, Next, PATIENCE, Version};

#[test]
fn the_older_connection_is_told_and_closed() {
    let broker = Broker::start();
    for version in VERSIONS {
        for n in 0..8 {
            let id = format!("taken-{version:?}-{n}");
            let mut old = broker.client_of(version, &id);
            let mut new = broker.client_of(version, &id);
            old.expect_end(0x8e);
            new.expect_nothing_before_pong();
        }
    }
}

#[test]
fn a_lasting_session_goes_on_with_its_new_connection() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::new("goes-on").version(version).lasting();
        let mut old = Client::connect(&broker, connect.clone());
        old.subscribe("t", 1);
        let mut new = Client::connect(&broker, connect);
        assert_eq!(new.session_present(), version != Version::V31);
        old.expect_end(0x8e);
        broker.client("publisher").publish("t", "after", 1);
        new.expect_message("t", "after");
        new.unsubscribe(&["t"]);
    }
}

#[test]
fn a_session_without_expiry_does_not_survive_a_takeover() {
    let broker = Broker::start();
    let mut old = Client::connect(&broker, Connect::new("gone").resume());
    old.subscribe("t", 1);
    let mut new = Client::connect(&broker, Connect::new("gone").resume());
    assert!(!new.session_present());
    broker.client("publisher").publish("t", "x", 1);
    new.expect_nothing_before_pong();
    old.expect_end(0x8e);
}

#[test]
fn unacknowledged_messages_move_to_the_new_connection() {
    let broker = Broker::start();
    let mut old = Client::connect(&broker, Connect::new("moves").lasting());
    old.subscribe("t", 1);
    let mut publisher = broker.client("publisher");
    for n in 0..5 {
        publisher.publish("t", format!("{n}"), 1);
    }
    let sent: Vec<u16> = (0..5)
        .map(|_| old.expect(Kind::Publish).identifier)
        .collect();
    let mut new = Client::connect(&broker, Connect::new("moves").lasting());
    for (n, identifier) in sent.into_iter().enumerate() {
        let again = new.message();
        assert!(again.dup, "[MQTT-3.3.1-1]");
        assert_eq!(
            (again.identifier, again.text()),
            (identifier, n.to_string().as_str())
        );
    }
}

#[test]
fn a_storm_of_takeovers_leaves_one_connection() {
    let broker = Broker::start();
    let mut clients = Vec::new();
    for _ in 0..200 {
        let mut client = Client::connect(&broker, Connect::new("storm").lasting());
        client.subscribe("t", 1);
        clients.push(client);
    }
    let mut last = clients.pop().unwrap();
    for mut old in clients {
        old.expect_end(0x8e);
    }
    let mut publisher = broker.client("publisher");
    publisher.publish("t", "once", 1);
    publisher.publish("t", "fence", 1);
    last.expect_message("t", "once");
    last.expect_message("t", "fence");
}

#[test]
fn simultaneous_connections_of_one_client_end_with_one() {
    let broker = Broker::start();
    for round in 0..20 {
        let bytes = Connect::new(&format!("race-{round}")).bytes();
        let mut clients: Vec<Client> = (0..6)
            .map(|_| Client::open(broker.address(), Version::V5))
            .collect();
        for client in &mut clients {
            client.send_raw(&bytes);
        }
        let mut ended = 0;
        for client in &mut clients {
            client.expect_accepted();
        }
        let mut left: Vec<Client> = Vec::new();
        for mut client in clients {
            client.send_raw(&[0xc0, 0]);
            match client.next(PATIENCE) {
                Next::Packet(packet) if packet.kind == Kind::PingResp => left.push(client),
                Next::Packet(packet) => {
                    assert_eq!((packet.kind, packet.code), (Kind::Disconnect, 0x8e));
                    ended += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((left.len(), ended), (1, 5), "round {round}");
    }
}
