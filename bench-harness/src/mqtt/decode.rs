//! Packets that come from a broker, as far as the generator looks at them. Borrowed, nothing is copied.

use super::Version;

/// A Control Packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first_byte: u8,
    /// All behind the fixed header.
    pub body: &'a [u8],
    /// The whole packet, bytes.
    pub bytes: usize,
}

impl Frame<'_> {
    /// The packet type, see [`super::packet_type`].
    pub fn packet_type(&self) -> u8 {
        self.first_byte >> 4
    }
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
pub fn delivery<'a>(frame: &Frame<'a>, version: Version) -> Option<Delivery<'a>> {
    let qos = frame.first_byte >> 1 & 3;
    let (length, rest) = frame.body.split_first_chunk::<2>()?;
    let mut rest = rest.get(usize::from(u16::from_be_bytes(*length))..)?;
    let mut identifier = 0;
    if qos > 0 {
        let (bytes, after) = rest.split_first_chunk::<2>()?;
        identifier = u16::from_be_bytes(*bytes);
        rest = after;
    }
    if version == Version::V5 {
        let (length, after) = variable_integer(rest)?;
        rest = after.get(length..)?;
    }
    Some(Delivery {
        qos,
        identifier,
        payload: rest,
    })
}

/// What a CONNACK says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connack {
    /// Return Code or Reason Code.
    pub code: u8,
    /// Session Present.
    pub session_present: bool,
    /// How many QoS 1 and 2 messages may be unacknowledged.
    pub receive_maximum: u16,
}

/// Takes a CONNACK apart.
pub fn connack(frame: &Frame<'_>, version: Version) -> Option<Connack> {
    let ([flags, code], rest) = frame.body.split_first_chunk::<2>()?;
    let mut connack = Connack {
        code: *code,
        session_present: flags & 1 == 1,
        receive_maximum: u16::MAX,
    };
    if version == Version::V5 {
        let (length, rest) = variable_integer(rest)?;
        let mut properties = rest.get(..length)?;
        while let Some((identifier, rest)) = properties.split_first() {
            if *identifier == RECEIVE_MAXIMUM {
                connack.receive_maximum = u16::from_be_bytes(*rest.first_chunk()?);
            }
            properties = rest.get(property_bytes(*identifier, rest)?..)?;
        }
    }
    Some(connack)
}

const RECEIVE_MAXIMUM: u8 = 0x21;

/// The length of a property that CONNACK may have (3.2.2.3).
fn property_bytes(identifier: u8, value: &[u8]) -> Option<usize> {
    let text = |at: usize| {
        let length = value.get(at..)?.first_chunk::<2>()?;
        Some(at + 2 + usize::from(u16::from_be_bytes(*length)))
    };
    match identifier {
        0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Some(1),
        0x13 | 0x21 | 0x22 => Some(2),
        0x11 | 0x27 => Some(4),
        0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => text(0),
        0x26 => text(text(0)?),
        _ => None,
    }
}

/// The codes of a SUBACK.
pub fn suback_codes<'a>(frame: &Frame<'a>, version: Version) -> Option<&'a [u8]> {
    let rest = frame.body.get(2..)?;
    match version {
        Version::V3 => Some(rest),
        Version::V5 => {
            let (length, rest) = variable_integer(rest)?;
            rest.get(length..)
        }
    }
}

/// The Packet Identifier that an acknowledgement begins with.
pub fn identifier(frame: &Frame<'_>) -> Option<u16> {
    frame
        .body
        .first_chunk()
        .map(|bytes| u16::from_be_bytes(*bytes))
}

/// The Reason Code of a PUBACK or PUBREC: 0 if it has none.
pub fn reason_code(frame: &Frame<'_>) -> u8 {
    frame.body.get(2).copied().unwrap_or(0)
}

fn variable_integer(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for position in 0..4 {
        let byte = *bytes.get(position)?;
        value |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[position + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connack_with_properties_is_read() {
        let packet = [0x20, 12, 1, 0, 9, 0x21, 0, 20, 0x12, 0, 1, b'a', 0x25, 1];
        let Some(frame) = frame(&packet) else {
            panic!("no frame")
        };
        let connack = connack(&frame, Version::V5).unwrap();
        assert_eq!((connack.code, connack.receive_maximum), (0, 20));
        assert!(connack.session_present);
    }

    #[test]
    fn what_is_cut_off_is_no_packet() {
        let packet = [0x30, 0x80 | 5, 1, 0];
        for length in 0..packet.len() {
            assert!(frame(&packet[..length]).is_none());
        }
        let short = Frame {
            first_byte: 0x32,
            body: &[0, 9, b'a'],
            bytes: 5,
        };
        assert!(delivery(&short, Version::V3).is_none());
    }

    #[test]
    fn suback_codes_stand_behind_the_properties() {
        let packet = [0x90, 5, 0, 1, 0, 1, 0x80];
        let codes = |version| suback_codes(&frame(&packet).unwrap(), version).unwrap();
        assert_eq!(codes(Version::V5), [1, 0x80]);
        assert_eq!(codes(Version::V3), [0, 1, 0x80]);
    }
}
