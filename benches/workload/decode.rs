//! Control Packets as a client sends them, many of one kind in a row.

use ringmq::mqtt::data_types::{ProtocolVersion, Role};
use ringmq::mqtt::frame::{Framing, frame};
use ringmq::mqtt::packet::Packet;

/// Packets in a row.
pub const PACKETS: usize = 64;

/// A kind of packet; all are of MQTT 5.0 and have the properties that clients use.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// CONNECT with Will, User Name, Password and Session Expiry Interval.
    Connect,
    /// PUBLISH QoS 0, 64 B, no properties.
    PublishPlain,
    /// PUBLISH QoS 1, 64 B, with Message Expiry Interval, Response Topic, Correlation Data, User Property.
    PublishProperties,
    /// PUBACK without Reason Code.
    PubAck,
    /// PUBREC with Reason Code and Reason String.
    PubRec,
    /// PUBREL.
    PubRel,
    /// PUBCOMP.
    PubComp,
    /// SUBSCRIBE of three filters with a Subscription Identifier.
    Subscribe,
    /// UNSUBSCRIBE of two filters.
    Unsubscribe,
    /// PINGREQ.
    PingReq,
    /// DISCONNECT with a Session Expiry Interval.
    Disconnect,
    /// AUTH with method and data.
    Auth,
}

/// All kinds, with their names.
pub const KINDS: [(&str, Kind); 12] = [
    ("connect", Kind::Connect),
    ("publish_plain", Kind::PublishPlain),
    ("publish_properties", Kind::PublishProperties),
    ("puback", Kind::PubAck),
    ("pubrec", Kind::PubRec),
    ("pubrel", Kind::PubRel),
    ("pubcomp", Kind::PubComp),
    ("subscribe", Kind::Subscribe),
    ("unsubscribe", Kind::Unsubscribe),
    ("pingreq", Kind::PingReq),
    ("disconnect", Kind::Disconnect),
    ("auth", Kind::Auth),
];

/// The bytes of [`PACKETS`] packets of a kind.
pub fn packets(kind: Kind) -> Vec<u8> {
    let one = match kind {
        Kind::Connect => packet(0x10, &connect()),
        Kind::PublishPlain => packet(0x30, &[string("bench/7"), vec![0], vec![b'x'; 64]].concat()),
        Kind::PublishProperties => packet(0x32, &publish_properties()),
        Kind::PubAck => vec![0x40, 2, 0, 9],
        Kind::PubRec => packet(
            0x50,
            &[vec![0, 9, 0x97], properties(&reason_string())].concat(),
        ),
        Kind::PubRel => vec![0x62, 2, 0, 9],
        Kind::PubComp => vec![0x70, 2, 0, 9],
        Kind::Subscribe => {
            let filters = ["site/+/pump", "site/7/#", "alarm"]
                .map(|filter| [string(filter), vec![1]].concat())
                .concat();
            packet(
                0x82,
                &[vec![0, 9], properties(&[0x0b, 7]), filters].concat(),
            )
        }
        Kind::Unsubscribe => {
            let filters = ["site/+/pump", "alarm"].map(string).concat();
            packet(0xa2, &[vec![0, 9, 0], filters].concat())
        }
        Kind::PingReq => vec![0xc0, 0],
        Kind::Disconnect => packet(0xe0, &[vec![0], properties(&[0x11, 0, 0, 0, 60])].concat()),
        Kind::Auth => {
            let method = [vec![0x15], string("SCRAM-SHA-256")].concat();
            let data = [vec![0x16], string("n,,n=user")].concat();
            packet(
                0xf0,
                &[vec![0x18], properties(&[method, data].concat())].concat(),
            )
        }
    };
    one.repeat(PACKETS)
}

/// Frames and decodes all packets; gives how many there were.
///
/// # Panics
/// If one is not well formed: the benchmark would measure something else.
pub fn decode(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    let mut count = 0;
    while !rest.is_empty() {
        let Ok(Framing::Complete(frame)) = frame(rest, 1 << 20) else {
            panic!("a sample packet is not complete");
        };
        let packet = Packet::decode(&frame, ProtocolVersion::V5, Role::Client);
        // By reference: copies of a packet cost more than some take to decode, and not always the same.
        assert!(std::hint::black_box(&packet).is_ok());
        rest = &rest[frame.packet_bytes..];
        count += 1;
    }
    count
}

fn connect() -> Vec<u8> {
    [
        string("MQTT"),
        vec![5, 0xc6, 0, 60],
        properties(&[0x11, 0, 0, 0, 60]),
        string("client-0007"),
        properties(&[]),
        string("gone/0007"),
        string("farewell"),
        string("user"),
        string("password"),
    ]
    .concat()
}

fn publish_properties() -> Vec<u8> {
    let all = [
        vec![0x02, 0, 0, 0, 60],
        [vec![0x08], string("reply/7")].concat(),
        [vec![0x09], string("12345678")].concat(),
        [vec![0x26], string("unit"), string("kPa")].concat(),
    ]
    .concat();
    [
        string("bench/7"),
        vec![0, 9],
        properties(&all),
        vec![b'x'; 64],
    ]
    .concat()
}

fn reason_string() -> Vec<u8> {
    [vec![0x1f], string("over the quota")].concat()
}

fn string(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8][..], text.as_bytes()].concat()
}

fn properties(content: &[u8]) -> Vec<u8> {
    [&[content.len() as u8][..], content].concat()
}

/// A packet whose body is below 128 bytes, or below 16,384.
pub fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let length = match body.len() {
        short @ ..128 => vec![short as u8],
        long => vec![(long % 128) as u8 | 0x80, (long / 128) as u8],
    };
    [vec![first_byte], length, body.to_vec()].concat()
}
