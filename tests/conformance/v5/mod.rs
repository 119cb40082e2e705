//! MQTT 5.0, one file per chapter or Control Packet. Names carry the id of the statement that they show.

mod acknowledgements;
mod capabilities;
mod connack;
mod connect;
mod connect_payload;
mod data_representation;
mod disconnect;
mod flow_and_faults;
mod load;
mod packet_format;
mod property_table;
mod publish;
mod publish_actions;
mod publish_properties;
mod races;
mod sessions;
mod subscribe;
mod topics;
mod unsubscribe;
mod wire;

use crate::support::packet::packet;
use crate::support::property::{self, user_property, write_binary};
use crate::support::{
    Client, Connect, Kind, Next, PATIENCE, Packet, Publish, SILENCE_MS, Scene, Subscribe, Value,
    Version, Will, sleep_ms,
};

const MALFORMED: &[u8] = &[0x81];
const PROTOCOL_ERROR: &[u8] = &[0x82];
/// Where the specification does not say which of the two it is.
const EITHER: &[u8] = &[0x81, 0x82];
/// For a Topic Name that is not valid.
const TOPIC_NAME: &[u8] = &[0x81, 0x82, 0x90];
/// For a Topic Filter that is not valid.
const TOPIC_FILTER: &[u8] = &[0x81, 0x82, 0x8f];

/// Text that is not well-formed UTF-8: stray and cut bytes, overlong forms, surrogates, beyond U+10FFFF.
const ILL_FORMED: [&[u8]; 9] = [
    b"\xff",
    b"a\x80",
    b"\xc3",
    b"\xe2\x82",
    b"\xc0\xaf",
    b"\xe0\x80\x80",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf4\x90\x80\x80",
];

/// PUBLISH with the first byte, raw topic, identifier if there is one, and raw properties.
fn raw_publish(
    first_byte: u8,
    topic: &[u8],
    identifier: Option<u16>,
    properties: &[u8],
) -> Vec<u8> {
    let mut body = Vec::new();
    write_binary(&mut body, topic);
    body.extend(
        identifier
            .iter()
            .flat_map(|identifier| identifier.to_be_bytes()),
    );
    body.push(u8::try_from(properties.len()).expect("few properties"));
    body.extend(properties);
    packet(first_byte, &body)
}

/// SUBSCRIBE with raw properties, filter and options.
fn raw_subscribe(
    first_byte: u8,
    identifier: u16,
    properties: &[u8],
    filter: &[u8],
    options: u8,
) -> Vec<u8> {
    let mut body = identifier.to_be_bytes().to_vec();
    body.push(u8::try_from(properties.len()).expect("few properties"));
    body.extend(properties);
    write_binary(&mut body, filter);
    body.push(options);
    packet(first_byte, &body)
}

/// UNSUBSCRIBE with raw properties and filter.
fn raw_unsubscribe(first_byte: u8, identifier: u16, properties: &[u8], filter: &[u8]) -> Vec<u8> {
    let mut body = identifier.to_be_bytes().to_vec();
    body.push(u8::try_from(properties.len()).expect("few properties"));
    body.extend(properties);
    write_binary(&mut body, filter);
    packet(first_byte, &body)
}

/// CONNECT from its Connect Flags, raw properties and the fields of its payload. A field that begins with
/// the marker [`RAW`] is put in as it is, without a length.
fn raw_connect(flags: u8, properties: &[u8], payload: &[&[u8]]) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05".to_vec();
    body.extend([flags, 0, 0]);
    body.push(u8::try_from(properties.len()).expect("few properties"));
    body.extend(properties);
    for field in payload {
        match field.strip_prefix(RAW) {
            Some(raw) => body.extend(raw),
            None => write_binary(&mut body, field),
        }
    }
    packet(0x10, &body)
}

/// Before a field of [`raw_connect`] that has no length of its own.
const RAW: &[u8] = b"<raw>";
/// Will Properties without any property.
const NO_WILL_PROPERTIES: &[u8] = b"<raw>\0";

/// A property of text, Binary Data or, with two values, a pair.
fn raw_text(identifier: u8, values: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![identifier];
    for value in values {
        write_binary(&mut bytes, value);
    }
    bytes
}

/// A connected client sends `bytes`, and its connection is ended with one of `codes`.
#[track_caller]
fn ends(scene: &Scene, what: &str, bytes: &[u8], codes: &[u8]) {
    let mut client = scene.client("faulty");
    client.send_raw(bytes);
    match client.next(PATIENCE) {
        Next::Packet(packet) if packet.kind == Kind::Disconnect => assert!(
            codes.contains(&packet.code),
            "{what}: DISCONNECT {:#04x} is not in {codes:#04x?}",
            packet.code
        ),
        other => panic!("{what}: {other:?} instead of DISCONNECT"),
    }
    client.expect_closed();
}

/// A connection sends `bytes` instead of a good CONNECT and is closed, without an answer or after a CONNACK
/// with one of `codes`. Gives that CONNACK.
#[track_caller]
fn refuses(scene: &Scene, what: &str, bytes: &[u8], codes: &[u8]) -> Option<Packet> {
    let mut client = scene.open();
    client.send_raw(bytes);
    match client.next(PATIENCE) {
        Next::Closed => None,
        Next::Packet(connack) => {
            assert!(
                connack.kind == Kind::ConnAck && codes.contains(&connack.code),
                "{what}: {connack:?} instead of CONNACK with {codes:#04x?}"
            );
            assert!(!connack.session_present, "{what}: {connack:?}");
            client.expect_closed();
            Some(*connack)
        }
        Next::Silence => panic!("{what}: no answer"),
    }
}

/// What reaches a client in answer to `bytes` before the answer to a PINGREQ.
#[track_caller]
fn answers(client: &mut Client, bytes: &[u8]) -> Vec<Packet> {
    client.send_raw(bytes);
    client.send_raw(&crate::support::packet::PINGREQ);
    let mut answers = Vec::new();
    loop {
        let packet = client.receive();
        if packet.kind == Kind::PingResp {
            return answers;
        }
        answers.push(packet);
    }
}

/// The next `count` packets, none of which is answered, and no more before a PINGREQ is answered.
#[track_caller]
fn arrive(client: &mut Client, count: usize) -> Vec<Packet> {
    let packets = (0..count).map(|_| client.receive()).collect();
    let more = answers(client, &[]);
    assert!(more.is_empty(), "more than {count}: {more:?}");
    packets
}

fn texts(messages: &[Packet]) -> Vec<&str> {
    messages.iter().map(Packet::text).collect()
}
