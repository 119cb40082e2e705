//! MQTT 3.1.1, one module per chapter or packet. What is wrong ends the connection without a word here:
//! no packet of 3.1.1 could carry a reason.

mod connack;
mod connect;
mod connect_payload;
mod delivery;
mod disconnect;
mod errors;
mod format;
mod order;
mod publish;
mod retained;
mod session;
mod strings;
mod subscribe;
mod targets;
mod topics;
mod unsubscribe;
mod wills;

use std::io::{ErrorKind, Read};
use std::net::Shutdown;

use crate::support::packet::packet;
use crate::support::property::write_binary;
use crate::support::{Client, Connect, Next, PATIENCE, Scene, Version};

/// Topic Filters that are not strings (1.5.3).
const BAD_FILTERS: [&[u8]; 5] = [b"\xff", b"a/\xc3", b"\xed\xa0\x80", b"\xc0\x80", b"a\0b"];

/// CONNECT of 3.1.1 with Clean Session and a Client Identifier of this test.
fn connect(scene: &Scene, name: &str) -> Connect {
    scene.connect(name).v311()
}

/// A client that is connected so.
fn client(scene: &Scene, name: &str) -> Client {
    scene.join(connect(scene, name))
}

/// A client whose session outlives its connection.
fn lasting(scene: &Scene, name: &str) -> Client {
    scene.join(connect(scene, name).resume())
}

/// A client that is subscribed to `filter` below this test's level.
fn reader(scene: &Scene, name: &str, filter: &str, qos: u8) -> Client {
    let mut reader = client(scene, name);
    reader.subscribe(&scene.topic(filter), qos);
    reader
}

/// A connection on which nothing is sent yet.
fn open(scene: &Scene) -> Client {
    Client::open(scene.broker().address(), Version::V311)
}

/// Sends `bytes` on a new connection and gives all that comes until the broker closes it.
#[track_caller]
fn answer(scene: &Scene, bytes: &[u8]) -> Vec<u8> {
    let mut client = open(scene);
    client.send_raw(bytes);
    rest(&client)
}

/// All that still comes until the broker closes the connection.
#[track_caller]
fn rest(client: &Client) -> Vec<u8> {
    let mut stream = client.stream();
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    let mut all = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return all,
            Ok(count) => all.extend(&chunk[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("{error} instead of a closed connection, after {all:02x?}"),
        }
    }
}

/// The next `count` bytes that the broker sends.
#[track_caller]
fn bytes(client: &Client, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut stream = client.stream();
    stream
        .set_read_timeout(Some(PATIENCE))
        .expect("a read timeout");
    stream
        .read_exact(&mut bytes)
        .unwrap_or_else(|error| panic!("{error} instead of {count} bytes"));
    bytes
}

/// CONNECT from its flags and the fields of its payload, without Keep Alive.
fn raw_connect(flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    raw_connect_of(b"MQTT", 4, flags, fields)
}

/// CONNECT from all of its parts.
fn raw_connect_of(name: &[u8], level: u8, flags: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    write_binary(&mut body, name);
    body.extend([level, flags, 0, 0]);
    for field in fields {
        write_binary(&mut body, field);
    }
    packet(0x10, &body)
}

/// PUBLISH with a first byte and a topic of any bytes; `identifier` as it stands in the packet.
fn raw_publish(first_byte: u8, topic: &[u8], identifier: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    write_binary(&mut body, topic);
    body.extend(identifier);
    body.extend(payload);
    packet(first_byte, &body)
}

/// SUBSCRIBE with a first byte, a Packet Identifier and filters of any bytes with their QoS byte.
fn raw_subscribe(first_byte: u8, identifier: u16, filters: &[(&[u8], u8)]) -> Vec<u8> {
    let mut body = identifier.to_be_bytes().to_vec();
    for (filter, qos) in filters {
        write_binary(&mut body, filter);
        body.push(*qos);
    }
    packet(first_byte, &body)
}

/// UNSUBSCRIBE with a first byte, a Packet Identifier and filters of any bytes.
fn raw_unsubscribe(first_byte: u8, identifier: u16, filters: &[&[u8]]) -> Vec<u8> {
    let mut body = identifier.to_be_bytes().to_vec();
    for filter in filters {
        write_binary(&mut body, filter);
    }
    packet(first_byte, &body)
}

/// A connected client sends `bytes`: the broker closes the connection and sends nothing more on it.
#[track_caller]
fn expect_cut_off(scene: &Scene, what: &str, bytes: &[u8]) {
    let mut faulty = client(scene, "faulty");
    faulty.send_raw(bytes);
    // A broker that waits for more of the packet would wait for ever.
    match faulty.next(PATIENCE) {
        Next::Closed => {}
        other => panic!("{what}: {other:?} instead of a closed connection"),
    }
}

/// A connected client sends `bytes`: the connection stays.
#[track_caller]
fn expect_taken(scene: &Scene, what: &str, bytes: &[u8]) -> Client {
    let mut client = client(scene, "right");
    client.send_raw(bytes);
    client.send_raw(&crate::support::packet::PINGREQ);
    client.wait_for(what, |packet| packet.kind == crate::support::Kind::PingResp);
    client
}

/// `bytes` are the first of a connection: the broker closes it without a CONNACK.
#[track_caller]
fn expect_not_answered(scene: &Scene, what: &str, bytes: &[u8]) {
    let answer = answer(scene, bytes);
    assert!(answer.is_empty(), "{what}: answered with {answer:02x?}");
}

/// The client closes its half of the connection; what comes before the broker closes the other is given.
#[track_caller]
fn leave(client: &Client) -> Vec<u8> {
    client
        .stream()
        .shutdown(Shutdown::Write)
        .expect("a half close");
    rest(client)
}
