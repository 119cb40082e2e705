//! SIGTERM and SIGINT: clients are told, what is on its way is sent, exit code 0.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::packet::VERSIONS;
use crate::support::{Broker, Client, Kind, Next, PATIENCE, Version, Will, sleep_ms};

#[test]
fn clients_are_told_that_the_server_shuts_down() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut broker = Broker::start();
        let mut clients: Vec<Client> = (0..16)
            .map(|n| broker.client_of(VERSIONS[n % 3], &format!("told-{n}")))
            .collect();
        let mut fresh = Client::open(broker.address(), Version::V5);
        let start = Instant::now();
        broker.signal(signal);
        for client in &mut clients {
            client.expect_end(0x8b);
        }
        fresh.expect_closed();
        assert_eq!(broker.wait().code(), Some(0));
        assert!(
            start.elapsed() < Duration::from_secs(5),
            "{:?}",
            start.elapsed()
        );
    }
}

#[test]
fn what_was_accepted_before_is_delivered() {
    let mut broker = Broker::start();
    let mut readers: Vec<Client> = (0..4)
        .map(|n| broker.client(&format!("reader-{n}")))
        .collect();
    for reader in &mut readers {
        reader.subscribe("t", 0);
    }
    let mut writer = broker.client("writer");
    for n in 0..200 {
        writer.publish("t", vec![n; 5_000], 1);
    }
    broker.signal(Signal::TERM);
    for reader in &mut readers {
        for n in 0..200 {
            assert_eq!(reader.expect(Kind::Publish).payload[0], n);
        }
        reader.expect_end(0x8b);
    }
    assert_eq!(broker.wait().code(), Some(0));
}

#[test]
fn nobody_is_accepted_any_more() {
    let mut broker = Broker::start();
    let address = broker.address();
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait().code(), Some(0));
    assert!(std::net::TcpStream::connect(address).is_err());
}

#[test]
fn a_client_that_does_not_read_cannot_hold_it_up() {
    let mut broker = Broker::with("shutdown_grace_s = 2");
    let mut stuck = broker.client("stuck");
    stuck.subscribe("t", 0);
    let mut writer = broker.client("writer");
    for _ in 0..400 {
        writer.publish("t", vec![0; 50_000], 1);
    }
    let start = Instant::now();
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait().code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_second_signal_ends_at_once() {
    let mut broker = Broker::with("shutdown_grace_s = 60");
    let mut stuck = broker.client("stuck");
    stuck.subscribe("t", 0);
    let mut writer = broker.client("writer");
    for _ in 0..400 {
        writer.publish("t", vec![0; 50_000], 1);
    }
    broker.signal(Signal::TERM);
    sleep_ms(300);
    let start = Instant::now();
    broker.signal(Signal::TERM);
    broker.wait();
    assert!(
        start.elapsed() < Duration::from_secs(2),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn an_idle_broker_ends_at_once() {
    let mut broker = Broker::start();
    let start = Instant::now();
    broker.signal(Signal::TERM);
    assert_eq!(broker.wait().code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_secs(3),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn wills_do_not_hold_up_a_shutdown() {
    let mut broker = Broker::start();
    let mut clients = Vec::new();
    for n in 0..50 {
        let will = Will::new("will", b"x").qos(1).delay_s(30);
        let connect = crate::support::Connect::new(&format!("w-{n}"))
            .lasting()
            .will(will);
        clients.push(Client::connect(&broker, connect));
    }
    broker.signal(Signal::TERM);
    for client in &mut clients {
        while let Next::Packet(packet) = client.next(PATIENCE) {
            assert_eq!((packet.kind, packet.code), (Kind::Disconnect, 0x8b));
        }
    }
    assert_eq!(broker.wait().code(), Some(0));
}
