//! A PUBLISH that is sent again and again with another stamp in it.
//!
//! The stamp makes loss, duplicates and disorder visible, and carries the time that the message was meant for.

use super::Version;
use super::encode::{put_packet, put_text};

/// Bytes of a [`Stamp`], and so of the shortest payload.
pub const STAMP_BYTES: usize = 16;

/// What every payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which publisher.
    pub publisher: u32,
    /// Its message, from 0.
    pub sequence: u32,
    /// When it was sent, or was to be sent, nanoseconds since the start.
    pub sent_ns: u64,
}

impl Stamp {
    /// The stamp of a payload.
    #[inline]
    pub fn of(payload: &[u8]) -> Option<Self> {
        let (publisher, rest) = payload.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let (sent_ns, _) = rest.split_first_chunk()?;
        Some(Self {
            publisher: u32::from_le_bytes(*publisher),
            sequence: u32::from_le_bytes(*sequence),
            sent_ns: u64::from_le_bytes(*sent_ns),
        })
    }
}

/// What all messages of a publisher have in common.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// QoS.
    pub qos: u8,
    /// RETAIN.
    pub retain: bool,
    /// Which MQTT.
    pub version: Version,
    /// Payload, bytes; at least [`STAMP_BYTES`].
    pub payload_bytes: usize,
}

/// The message.
#[derive(Debug)]
pub struct Template {
    packet: Vec<u8>,
    topic_end: usize,
    identifier_at: usize,
    payload_at: usize,
    qos: u8,
}

/// Digits that [`Template::set_topic_number`] replaces.
pub const TOPIC_DIGITS: usize = 8;

impl Template {
    /// A message to `topic`.
    pub fn new(topic: &str, shape: Shape) -> Self {
        let mut body = Vec::new();
        put_text(&mut body, topic);
        let topic_in_body = body.len();
        if shape.qos > 0 {
            body.extend_from_slice(&[0, 0]);
        }
        if shape.version == Version::V5 {
            body.push(0);
        }
        let payload_in_body = body.len();
        body.resize(payload_in_body + shape.payload_bytes.max(STAMP_BYTES), b'x');
        let mut packet = Vec::new();
        let first_byte = 0x30 | shape.qos << 1 | u8::from(shape.retain);
        put_packet(&mut packet, first_byte, &body);
        let header = packet.len() - body.len();
        Self {
            packet,
            topic_end: header + topic_in_body,
            identifier_at: header + topic_in_body,
            payload_at: header + payload_in_body,
            qos: shape.qos,
        }
    }

    /// Appends the message with this stamp.
    #[inline]
    pub fn append(&mut self, out: &mut Vec<u8>, stamp: Stamp, identifier: u16) {
        let at = self.payload_at;
        self.packet[at..at + 4].copy_from_slice(&stamp.publisher.to_le_bytes());
        self.packet[at + 4..at + 8].copy_from_slice(&stamp.sequence.to_le_bytes());
        self.packet[at + 8..at + 16].copy_from_slice(&stamp.sent_ns.to_le_bytes());
        if self.qos > 0 {
            let at = self.identifier_at;
            self.packet[at..at + 2].copy_from_slice(&identifier.to_be_bytes());
        }
        out.extend_from_slice(&self.packet);
    }

    /// Writes `number` over the last [`TOPIC_DIGITS`] bytes of the Topic Name, which must be that many digits.
    #[inline]
    pub fn set_topic_number(&mut self, mut number: usize) {
        let digits = &mut self.packet[self.topic_end - TOPIC_DIGITS..self.topic_end];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::decode::{delivery, frame};

    #[test]
    fn a_template_is_read_back_in_every_format() {
        for version in [Version::V3, Version::V5] {
            for qos in 0..=2 {
                let shape = Shape {
                    qos,
                    retain: false,
                    version,
                    payload_bytes: 200,
                };
                let mut template = Template::new("a/00000000", shape);
                let sent = Stamp {
                    publisher: 7,
                    sequence: 1 << 30,
                    sent_ns: 5,
                };
                let mut out = Vec::new();
                template.set_topic_number(1234);
                template.append(&mut out, sent, 77);
                let frame = frame(&out).unwrap();
                assert_eq!(frame.bytes, out.len());
                let delivery = delivery(&frame, version).unwrap();
                let identifier = if qos > 0 { 77 } else { 0 };
                assert_eq!((delivery.qos, delivery.identifier), (qos, identifier));
                assert!(out.windows(10).any(|bytes| bytes == b"a/00001234"));
                assert_eq!(delivery.payload.len(), 200);
                assert_eq!(Stamp::of(delivery.payload), Some(sent));
            }
        }
    }

    #[test]
    fn the_shortest_payload_holds_the_stamp() {
        let shape = Shape {
            qos: 0,
            retain: false,
            version: Version::V3,
            payload_bytes: 0,
        };
        let template = Template::new("a", shape);
        assert_eq!(template.packet.len(), 2 + 3 + STAMP_BYTES);
        assert_eq!(Stamp::of(&[0; STAMP_BYTES - 1]), None);
    }
}
