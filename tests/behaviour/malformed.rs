//! Malformed Packets and Protocol Errors (4.13): each ends its connection with its Reason Code, and only that.

use crate::support::packet::{packet, unsubscribe};
use crate::support::property::write_binary;
use crate::support::{Broker, Client, Connect, Kind, Next, PATIENCE, Version};

/// What is wrong, the bytes, and the Reason Codes that the specification allows for it.
type Case = (&'static str, Vec<u8>, &'static [u8]);

const MALFORMED: &[u8] = &[0x81];
const PROTOCOL_ERROR: &[u8] = &[0x82];
const EITHER: &[u8] = &[0x81, 0x82];
const TOPIC: &[u8] = &[0x81, 0x82, 0x90];

/// PUBLISH of QoS 0 to `topic` with raw `properties`.
fn publish(topic: &[u8], properties: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    write_binary(&mut body, topic);
    body.push(properties.len() as u8);
    body.extend(properties);
    packet(0x30, &body)
}

/// SUBSCRIBE with the first byte, Packet Identifier, filter and options given.
fn subscribe(first_byte: u8, identifier: u16, filter: &[u8], options: u8) -> Vec<u8> {
    let mut body = identifier.to_be_bytes().to_vec();
    body.push(0);
    write_binary(&mut body, filter);
    body.push(options);
    packet(first_byte, &body)
}

fn publish_cases() -> Vec<Case> {
    vec![
        (
            "QoS 3 [MQTT-3.3.1-4]",
            vec![0x36, 6, 0, 1, b't', 0, 1, 0],
            MALFORMED,
        ),
        (
            "DUP with QoS 0 [MQTT-3.3.1-2]",
            vec![0x38, 4, 0, 1, b't', 0],
            EITHER,
        ),
        (
            "Packet Identifier 0",
            vec![0x32, 6, 0, 1, b't', 0, 0, 0],
            EITHER,
        ),
        ("no Packet Identifier", vec![0x32, 3, 0, 1, b't'], MALFORMED),
        ("no Property Length", vec![0x30, 3, 0, 1, b't'], MALFORMED),
        (
            "a topic beyond the packet",
            vec![0x30, 4, 0, 9, b't', 0],
            MALFORMED,
        ),
        (
            "properties beyond the packet",
            vec![0x30, 5, 0, 1, b't', 9, 1],
            MALFORMED,
        ),
        ("an empty packet", vec![0x30, 0], MALFORMED),
        ("neither topic nor alias", publish(b"", &[]), TOPIC),
        ("a topic with +", publish(b"a/+", &[]), TOPIC),
        ("a topic with #", publish(b"#", &[]), TOPIC),
        (
            "a topic with U+0000 [MQTT-1.5.4-2]",
            publish(b"a\0b", &[]),
            TOPIC,
        ),
        (
            "a topic that is not UTF-8",
            publish(b"\xff", &[]),
            MALFORMED,
        ),
        (
            "a topic with a surrogate [MQTT-1.5.4-1]",
            publish(b"\xed\xa0\x80", &[]),
            MALFORMED,
        ),
        (
            "a topic that is overlong UTF-8",
            publish(b"\xc0\x80", &[]),
            MALFORMED,
        ),
        (
            "a property twice",
            publish(b"t", &[0x01, 0, 0x01, 0]),
            EITHER,
        ),
        ("an unknown property", publish(b"t", &[0x7f, 0]), EITHER),
        (
            "a property of other packets",
            publish(b"t", &[0x21, 0, 1]),
            EITHER,
        ),
        (
            "a property that ends too early",
            publish(b"t", &[0x02, 0, 0]),
            MALFORMED,
        ),
        (
            "a User Property that is not UTF-8",
            publish(b"t", &[0x26, 0, 1, 0xff, 0, 0]),
            MALFORMED,
        ),
        (
            "a Payload Format Indicator of 2",
            publish(b"t", &[0x01, 2]),
            EITHER,
        ),
        (
            "a Subscription Identifier [MQTT-3.3.4-6]",
            publish(b"t", &[0x0b, 1]),
            EITHER,
        ),
        (
            "a Response Topic with +",
            publish(b"t", &[0x08, 0, 1, b'+']),
            TOPIC,
        ),
        ("a Topic Alias of 0", publish(b"t", &[0x23, 0, 0]), &[0x94]),
        (
            "a Topic Alias over the maximum",
            publish(b"t", &[0x23, 0xff, 0xff]),
            &[0x94],
        ),
    ]
}

fn subscribe_cases() -> Vec<Case> {
    let empty = packet(0x82, &[0, 1, 0]);
    vec![
        (
            "SUBSCRIBE with wrong flags [MQTT-3.8.1-1]",
            subscribe(0x80, 1, b"t", 0),
            MALFORMED,
        ),
        (
            "SUBSCRIBE with the identifier 0",
            subscribe(0x82, 0, b"t", 0),
            EITHER,
        ),
        ("SUBSCRIBE without a filter [MQTT-3.8.3-2]", empty, EITHER),
        (
            "SUBSCRIBE without options",
            packet(0x82, &[0, 1, 0, 0, 1, b't']),
            MALFORMED,
        ),
        (
            "a filter that is not UTF-8",
            subscribe(0x82, 1, b"\xfe", 0),
            MALFORMED,
        ),
        (
            "a filter with U+0000",
            subscribe(0x82, 1, b"a\0", 0),
            &[0x81, 0x82, 0x8f],
        ),
        (
            "a subscription of QoS 3",
            subscribe(0x82, 1, b"t", 3),
            EITHER,
        ),
        ("Retain Handling 3", subscribe(0x82, 1, b"t", 0x30), EITHER),
        (
            "reserved options [MQTT-3.8.3-5]",
            subscribe(0x82, 1, b"t", 0x40),
            EITHER,
        ),
        (
            "reserved options [MQTT-3.8.3-5]",
            subscribe(0x82, 1, b"t", 0x80),
            EITHER,
        ),
        (
            "UNSUBSCRIBE without a filter",
            unsubscribe(Version::V5, 1, &[]),
            EITHER,
        ),
        (
            "UNSUBSCRIBE with the identifier 0",
            unsubscribe(Version::V5, 0, &["t"]),
            EITHER,
        ),
        (
            "UNSUBSCRIBE with wrong flags",
            packet(0xa0, &[0, 1, 0, 0, 1, b't']),
            MALFORMED,
        ),
    ]
}

fn other_cases() -> Vec<Case> {
    vec![
        ("packet type 0", vec![0x00, 0], EITHER),
        (
            "a Remaining Length of five bytes",
            vec![0xc0, 0xff, 0xff, 0xff, 0xff, 1],
            MALFORMED,
        ),
        ("PUBACK with flags", vec![0x42, 2, 0, 1], MALFORMED),
        ("PUBACK with the identifier 0", vec![0x40, 2, 0, 0], EITHER),
        ("PUBACK that is too short", vec![0x40, 1, 0], MALFORMED),
        (
            "PUBACK with an unknown code",
            vec![0x40, 3, 0, 1, 0x55],
            EITHER,
        ),
        ("PUBREC with flags", vec![0x51, 2, 0, 1], MALFORMED),
        (
            "PUBREL with wrong flags [MQTT-3.6.1-1]",
            vec![0x60, 2, 0, 1],
            MALFORMED,
        ),
        ("PUBCOMP with flags", vec![0x7f, 2, 0, 1], MALFORMED),
        ("PINGREQ with flags", vec![0xc1, 0], MALFORMED),
        ("PINGREQ with a body", vec![0xc0, 1, 0], MALFORMED),
        (
            "DISCONNECT with flags [MQTT-3.14.1-1]",
            vec![0xe1, 0],
            MALFORMED,
        ),
        (
            "DISCONNECT with an unknown code",
            vec![0xe0, 1, 0x55],
            EITHER,
        ),
        ("CONNACK from a client", vec![0x20, 3, 0, 0, 0], EITHER),
        ("SUBACK from a client", vec![0x90, 4, 0, 1, 0, 0], EITHER),
        ("UNSUBACK from a client", vec![0xb0, 4, 0, 1, 0, 0], EITHER),
        ("PINGRESP from a client", vec![0xd0, 0], EITHER),
        ("AUTH without a method", vec![0xf0, 0], &[0x81, 0x82, 0x8c]),
        ("AUTH with flags", vec![0xf1, 0], MALFORMED),
        (
            "a second CONNECT [MQTT-3.1.0-2]",
            Connect::new("again").bytes(),
            PROTOCOL_ERROR,
        ),
    ]
}

#[test]
fn every_fault_has_its_reason_code() {
    let broker = Broker::start();
    let mut bystander = broker.client("bystander");
    let cases = publish_cases()
        .into_iter()
        .chain(subscribe_cases())
        .chain(other_cases());
    for (what, bytes, codes) in cases {
        let mut client = broker.client("faulty");
        client.send_raw(&bytes);
        let disconnect = match client.next(PATIENCE) {
            Next::Packet(packet) if packet.kind == Kind::Disconnect => packet,
            other => panic!("{what}: {other:?} instead of DISCONNECT"),
        };
        assert!(
            codes.contains(&disconnect.code),
            "{what}: {:#04x} is not in {codes:x?}",
            disconnect.code
        );
        client.expect_closed();
        bystander.expect_nothing_before_pong();
    }
}

#[test]
fn versions_before_5_are_just_closed() {
    let broker = Broker::start();
    let cases: [(&str, &[u8]); 18] = [
        ("QoS 3", &[0x36, 5, 0, 1, b't', 0, 1]),
        ("Packet Identifier 0", &[0x32, 5, 0, 1, b't', 0, 0]),
        ("an empty topic", &[0x30, 2, 0, 0]),
        ("a topic with +", &[0x30, 3, 0, 1, b'+']),
        ("a topic that is not UTF-8", &[0x30, 3, 0, 1, 0xff]),
        ("a topic with U+0000", &[0x30, 3, 0, 1, 0]),
        ("a topic beyond the packet", &[0x30, 3, 0, 9, b't']),
        (
            "SUBSCRIBE with wrong flags",
            &[0x80, 6, 0, 1, 0, 1, b't', 0],
        ),
        ("SUBSCRIBE without a filter", &[0x82, 2, 0, 1]),
        ("a subscription of QoS 3", &[0x82, 6, 0, 1, 0, 1, b't', 3]),
        ("options of 5.0", &[0x82, 6, 0, 1, 0, 1, b't', 4]),
        ("UNSUBSCRIBE without a filter", &[0xa2, 2, 0, 1]),
        ("PUBREL with wrong flags", &[0x60, 2, 0, 1]),
        ("packet type 0", &[0x00, 0]),
        ("packet type 15", &[0xf0, 0]),
        ("a packet of servers", &[0xd0, 0]),
        (
            "a Remaining Length of five bytes",
            &[0x30, 0xff, 0xff, 0xff, 0xff, 1],
        ),
        (
            "a second CONNECT",
            &[
                0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 2, b'i', b'd',
            ],
        ),
    ];
    for (what, bytes) in cases {
        let mut client = broker.client_of(Version::V311, "faulty");
        client.send_raw(bytes);
        match client.next(PATIENCE) {
            Next::Closed => {}
            other => panic!("{what}: {other:?} instead of a closed connection"),
        }
    }
}

/// CONNECT of 5.0 from its parts after the protocol level.
fn connect(flags: u8, properties: &[u8], payload: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![
        0,
        4,
        b'M',
        b'Q',
        b'T',
        b'T',
        5,
        flags,
        0,
        0,
        properties.len() as u8,
    ];
    body.extend(properties);
    for field in payload {
        write_binary(&mut body, field);
    }
    packet(0x10, &body)
}

#[test]
fn a_connect_that_is_not_right_is_not_accepted() {
    let broker = Broker::start();
    let good = connect(2, &[], &[b"id"]);
    let mut long = good.clone();
    long[1] += 1;
    long.push(0);
    let mut flags = good.clone();
    flags[0] = 0x11;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("fixed header flags", flags),
        ("something after its end", long),
        (
            "the reserved flag [MQTT-3.1.2-3]",
            connect(3, &[], &[b"id"]),
        ),
        (
            "Will QoS without a Will [MQTT-3.1.2-11]",
            connect(0x0a, &[], &[b"id"]),
        ),
        (
            "Will Retain without a Will [MQTT-3.1.2-13]",
            connect(0x22, &[], &[b"id"]),
        ),
        ("a Will that is missing", connect(6, &[], &[b"id"])),
        ("a User Name that is missing", connect(0x82, &[], &[b"id"])),
        ("a Password that is missing", connect(0x42, &[], &[b"id"])),
        ("no Client Identifier", connect(2, &[], &[])),
        (
            "a Client Identifier that is not UTF-8",
            connect(2, &[], &[b"\xff"]),
        ),
        (
            "a Client Identifier with U+0000",
            connect(2, &[], &[b"a\0"]),
        ),
        (
            "a property twice",
            connect(2, &[0x21, 0, 1, 0x21, 0, 1], &[b"id"]),
        ),
        (
            "a property of other packets",
            connect(2, &[0x23, 0, 1], &[b"id"]),
        ),
        ("an unknown property", connect(2, &[0x50, 0, 1], &[b"id"])),
        ("Receive Maximum 0", connect(2, &[0x21, 0, 0], &[b"id"])),
        (
            "Maximum Packet Size 0",
            connect(2, &[0x27, 0, 0, 0, 0], &[b"id"]),
        ),
        (
            "Request Problem Information 2",
            connect(2, &[0x17, 2], &[b"id"]),
        ),
        (
            "Request Response Information 2",
            connect(2, &[0x19, 2], &[b"id"]),
        ),
        (
            "Authentication Data alone",
            connect(2, &[0x16, 0, 1, 0], &[b"id"]),
        ),
    ];
    for (what, bytes) in cases {
        let mut client = Client::open(broker.address(), Version::V5);
        client.send_raw(&bytes);
        match client.next(PATIENCE) {
            Next::Closed => {}
            Next::Packet(answer) => {
                let refused =
                    answer.kind == Kind::ConnAck && matches!(answer.code, 0x81 | 0x82 | 0x85);
                assert!(refused, "{what}: {answer:?}");
                client.expect_closed();
            }
            Next::Silence => panic!("{what}: no answer"),
        }
    }
    let mut client = Client::open(broker.address(), Version::V5);
    client.send_raw(&good);
    client.expect_accepted();
}

#[test]
fn what_came_before_a_fault_counts() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("t", 1);
    let mut client = broker.client("faulty");
    let mut bytes = crate::support::Publish::new("t", "before")
        .qos(1)
        .identifier(1)
        .bytes(Version::V5);
    bytes.extend([0x00, 0x00]);
    bytes.extend(
        crate::support::Publish::new("t", "after")
            .qos(1)
            .identifier(2)
            .bytes(Version::V5),
    );
    client.send_raw(&bytes);
    assert_eq!(client.expect(Kind::PubAck).identifier, 1);
    client.expect_end_with(EITHER);
    reader.expect_message("t", "before");
    reader.expect_nothing_before_pong();
}

/// A small generator of pseudo-random numbers (xorshift), so that a failure can be had again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

#[test]
fn garbage_harms_nobody_else() {
    let broker = Broker::start();
    let mut bystander = broker.client("bystander");
    let mut random = Random(0x5eed);
    for round in 0..400 {
        let mut bytes: Vec<u8> = (0..1 + random.below(300))
            .map(|_| random.next() as u8)
            .collect();
        if round % 2 == 0 {
            // After a good CONNECT, so that it is read as packets.
            let mut with_connect = Connect::new(&format!("garbage-{round}")).bytes();
            with_connect.append(&mut bytes);
            bytes = with_connect;
        }
        Client::open(broker.address(), Version::V5).try_send_raw(&bytes);
    }
    bystander.expect_nothing_before_pong();
}

#[test]
fn damaged_packets_harm_nobody_else() {
    let broker = Broker::start();
    let mut bystander = broker.client("bystander");
    let mut random = Random(0xdead);
    let cases: Vec<Case> = publish_cases()
        .into_iter()
        .chain(subscribe_cases())
        .collect();
    for round in 0..600 {
        let mut bytes = Connect::new(&format!("damaged-{}", round % 50))
            .lasting()
            .bytes();
        let good = crate::support::Publish::new("a/b", "payload")
            .qos(2)
            .identifier(9);
        bytes.extend(good.bytes(Version::V5));
        bytes.extend(subscribe(0x82, 4, b"$share/g/a/+", 1));
        bytes.extend(&cases[random.below(cases.len())].1);
        for _ in 0..1 + random.below(3) {
            let position = random.below(bytes.len());
            bytes[position] = random.next() as u8;
        }
        Client::open(broker.address(), Version::V5).try_send_raw(&bytes);
    }
    bystander.expect_nothing_before_pong();
}
