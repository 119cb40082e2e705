//! The little MQTT that a load generator needs, of its own, so that it judges a broker and not a library.

/// A packet that came from the broker, as far as the generator looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first_byte: u8,
    /// All behind the fixed header.
    pub body: &'a [u8],
    /// The whole packet, bytes.
    pub bytes: usize,
}

/// The packet at the front of `bytes`, if it is complete.
#[inline]
pub fn frame(bytes: &[u8]) -> Option<Frame<'_>> {
    let mut length = 0usize;
    for position in 1..=4 {
        let byte = *bytes.get(position)?;
        length |= usize::from(byte & 0x7f) << (7 * (position - 1));
        if byte & 0x80 == 0 {
            let start = position + 1;
            let body = bytes.get(start..start + length)?;
            return Some(Frame {
                first_byte: bytes[0],
                body,
                bytes: start + length,
            });
        }
    }
    None
}

/// The parts of a received PUBLISH.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// QoS.
    pub qos: u8,
    /// Packet Identifier, 0 with QoS 0.
    pub identifier: u16,
    /// Payload.
    pub payload: &'a [u8],
}

/// Takes a PUBLISH apart.
#[inline]
pub fn delivery<'a>(frame: &Frame<'a>, v5: bool) -> Option<Delivery<'a>> {
    let qos = frame.first_byte >> 1 & 3;
    let (length, rest) = frame.body.split_first_chunk::<2>()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
    let mut identifier = 0;
    if qos > 0 {
        let (bytes, after) = rest.split_first_chunk::<2>()?;
        identifier = u16::from_be_bytes(*bytes);
        rest = after;
    }
    if v5 {
        // The generator's own messages have less than 128 bytes of properties.
        let (length, after) = rest.split_first()?;
        rest = after.get(usize::from(*length)..)?;
    }
    Some(Delivery {
        qos,
        identifier,
        payload: rest,
    })
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    // The generator's names are short.
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

fn put_packet(out: &mut Vec<u8>, first_byte: u8, body: &[u8]) {
    out.push(first_byte);
    let mut length = body.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
}

/// CONNECT with a clean session.
pub fn connect(client_identifier: &str, v5: bool, keep_alive_s: u16) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, "MQTT");
    body.extend_from_slice(&[if v5 { 5 } else { 4 }, 2]);
    body.extend_from_slice(&keep_alive_s.to_be_bytes());
    if v5 {
        body.push(0);
    }
    put_string(&mut body, client_identifier);
    let mut out = Vec::new();
    put_packet(&mut out, 0x10, &body);
    out
}

/// SUBSCRIBE to all `filters`.
pub fn subscribe(filters: &[String], qos: u8, v5: bool) -> Vec<u8> {
    let mut body = vec![0, 1];
    if v5 {
        body.push(0);
    }
    for filter in filters {
        put_string(&mut body, filter);
        body.push(qos);
    }
    let mut out = Vec::new();
    put_packet(&mut out, 0x82, &body);
    out
}

/// A PUBLISH that is sent again and again with another number in it.
#[derive(Debug)]
pub struct Template {
    packet: Vec<u8>,
    identifier_at: usize,
    payload_at: usize,
    qos: u8,
}

/// Publisher, sequence number and send time at the front of every payload.
pub const STAMP_BYTES: usize = 20;

/// What every payload begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Which publisher.
    pub publisher: u32,
    /// Its message, from 0.
    pub sequence: u64,
    /// When it was sent, or was to be sent, nanoseconds since the start.
    pub sent_ns: u64,
}

impl Template {
    /// A message of `payload_bytes` (at least [`STAMP_BYTES`]) to `topic`.
    pub fn new(topic: &str, qos: u8, v5: bool, payload_bytes: usize) -> Self {
        let mut body = Vec::new();
        put_string(&mut body, topic);
        let identifier_in_body = body.len();
        if qos > 0 {
            body.extend_from_slice(&[0, 0]);
        }
        if v5 {
            body.push(0);
        }
        let payload_in_body = body.len();
        body.resize(payload_in_body + payload_bytes.max(STAMP_BYTES), b'x');
        let mut packet = Vec::new();
        put_packet(&mut packet, 0x30 | qos << 1, &body);
        let header = packet.len() - body.len();
        Self {
            packet,
            identifier_at: header + identifier_in_body,
            payload_at: header + payload_in_body,
            qos,
        }
    }

    /// Appends the message with this stamp.
    #[inline]
    pub fn append(&mut self, out: &mut Vec<u8>, stamp: Stamp, identifier: u16) {
        let at = self.payload_at;
        self.packet[at..at + 4].copy_from_slice(&stamp.publisher.to_le_bytes());
        self.packet[at + 4..at + 12].copy_from_slice(&stamp.sequence.to_le_bytes());
        self.packet[at + 12..at + 20].copy_from_slice(&stamp.sent_ns.to_le_bytes());
        if self.qos > 0 {
            let at = self.identifier_at;
            self.packet[at..at + 2].copy_from_slice(&identifier.to_be_bytes());
        }
        out.extend_from_slice(&self.packet);
    }
}

/// Reads the stamp of a payload.
#[inline]
pub fn stamp(payload: &[u8]) -> Option<Stamp> {
    let (publisher, rest) = payload.split_first_chunk()?;
    let (sequence, rest) = rest.split_first_chunk()?;
    let (sent_ns, _) = rest.split_first_chunk()?;
    Some(Stamp {
        publisher: u32::from_le_bytes(*publisher),
        sequence: u64::from_le_bytes(*sequence),
        sent_ns: u64::from_le_bytes(*sent_ns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_read_back_in_every_format() {
        for v5 in [false, true] {
            for qos in 0..=2 {
                let mut template = Template::new("a/b", qos, v5, 200);
                let sent = Stamp {
                    publisher: 7,
                    sequence: 1 << 40,
                    sent_ns: 5,
                };
                let mut out = Vec::new();
                template.append(&mut out, sent, 77);
                let Some(frame) = frame(&out) else {
                    panic!("no frame")
                };
                assert_eq!(frame.bytes, out.len());
                let Some(delivery) = delivery(&frame, v5) else {
                    panic!("no delivery")
                };
                assert_eq!(
                    (delivery.qos, delivery.identifier),
                    (qos, if qos > 0 { 77 } else { 0 })
                );
                assert_eq!(
                    (stamp(delivery.payload), delivery.payload.len()),
                    (Some(sent), 200)
                );
                assert!(super::frame(&out[..out.len() - 1]).is_none());
            }
        }
    }
}
