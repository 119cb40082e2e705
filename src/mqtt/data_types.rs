//! The specification's data representation (1.5): integers, strings, binary data; QoS; versions.

use std::num::NonZeroU16;

use super::error::DecodeError;

/// A Packet Identifier: never zero [MQTT-2.2.1-3].
pub type PacketIdentifier = NonZeroU16;

/// The largest value of a Variable Byte Integer (1.5.5).
pub const VARIABLE_BYTE_INTEGER_MAX: u32 = 268_435_455;

/// A protocol version, with the number that CONNECT carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolVersion {
    /// MQTT 3.1, `MQIsdp`.
    V3_1 = 3,
    /// MQTT 3.1.1.
    V3_1_1 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl ProtocolVersion {
    /// Whether packets have properties and Reason Codes.
    #[inline]
    pub fn is_v5(self) -> bool {
        self == Self::V5
    }
}

/// Quality of Service (4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// At most once.
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The QoS of two bits; 3 is none [MQTT-3.3.1-4].
    #[inline]
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// Who sent the packet that is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A Client.
    Client,
    /// A Server.
    Server,
}

/// Reads the body of a packet from front to back.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: DecodeError = DecodeError::MalformedPacket("the packet ends in the middle of a field");

impl<'a> Reader<'a> {
    /// Reads `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether all is read.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// All that is not read yet.
    #[inline]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next `count` bytes.
    ///
    /// # Errors
    /// Malformed Packet if there are fewer.
    #[inline]
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next byte.
    ///
    /// # Errors
    /// Malformed Packet if there is none.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A Two Byte Integer (1.5.2).
    ///
    /// # Errors
    /// Malformed Packet if the packet ends before.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    /// A Four Byte Integer (1.5.3).
    ///
    /// # Errors
    /// Malformed Packet if the packet ends before.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A Variable Byte Integer (1.5.5).
    ///
    /// # Errors
    /// Malformed Packet if it is longer than four bytes or than it needs to be [MQTT-1.5.5-1].
    #[inline]
    pub fn variable_byte_integer(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u32;
        for position in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7f) << (7 * position);
            if byte & 0x80 == 0 {
                if byte == 0 && position > 0 {
                    return Err(DecodeError::MalformedPacket(
                        "a Variable Byte Integer is longer than needed",
                    ));
                }
                return Ok(value);
            }
        }
        Err(DecodeError::MalformedPacket(
            "a Variable Byte Integer has more than four bytes",
        ))
    }

    /// A UTF-8 Encoded String (1.5.4).
    ///
    /// # Errors
    /// Malformed Packet if it is not well-formed UTF-8 [MQTT-1.5.4-1] or holds U+0000 [MQTT-1.5.4-2].
    #[inline]
    pub fn utf8_string(&mut self) -> Result<&'a str, DecodeError> {
        let length = self.u16()?;
        let text = std::str::from_utf8(self.take(usize::from(length))?)
            .map_err(|_| DecodeError::MalformedPacket("a string is not well-formed UTF-8"))?;
        if text.as_bytes().contains(&0) {
            return Err(DecodeError::MalformedPacket("a string contains U+0000"));
        }
        Ok(text)
    }

    /// Binary Data (1.5.6).
    ///
    /// # Errors
    /// Malformed Packet if the packet ends before.
    #[inline]
    pub fn binary_data(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// A Packet Identifier.
    ///
    /// # Errors
    /// Protocol Error if it is zero [MQTT-2.2.1-3].
    #[inline]
    pub fn packet_identifier(&mut self) -> Result<PacketIdentifier, DecodeError> {
        PacketIdentifier::new(self.u16()?)
            .ok_or(DecodeError::ProtocolError("a Packet Identifier is 0"))
    }

    /// Makes sure that all is read.
    ///
    /// # Errors
    /// Malformed Packet if bytes are left.
    #[inline]
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(DecodeError::MalformedPacket(
                "the packet is longer than its content",
            )),
        }
    }
}

/// Appends a Two Byte Integer.
#[inline]
pub fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a Four Byte Integer.
#[inline]
pub fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends a string or binary data with its length. What is longer than 65,535 bytes is cut there; the
/// callers never have that, since all of it came from such a field.
#[inline]
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
    put_u16(out, length);
    out.extend_from_slice(&bytes[..usize::from(length)]);
}

/// Appends a Variable Byte Integer of at most [`VARIABLE_BYTE_INTEGER_MAX`].
#[inline]
pub fn put_variable_byte_integer(out: &mut Vec<u8>, value: u32) {
    debug_assert!(value <= VARIABLE_BYTE_INTEGER_MAX, "integer over its range");
    let mut rest = value;
    while rest >= 0x80 {
        // Seven bits fit.
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push((rest & 0x7f) as u8);
}

/// How many bytes a Variable Byte Integer takes.
#[inline]
pub fn variable_byte_integer_bytes(value: usize) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// A length as the integer of the wire; the broker never builds a packet that is longer.
#[inline]
pub fn wire_length(length: usize) -> u32 {
    u32::try_from(length).map_or(VARIABLE_BYTE_INTEGER_MAX, |length| {
        length.min(VARIABLE_BYTE_INTEGER_MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variable_byte_integers_of_every_length() {
        for value in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            VARIABLE_BYTE_INTEGER_MAX,
        ] {
            let mut out = Vec::new();
            put_variable_byte_integer(&mut out, value);
            assert_eq!(out.len(), variable_byte_integer_bytes(value as usize));
            assert_eq!(Reader::new(&out).variable_byte_integer(), Ok(value));
            assert!(
                Reader::new(&out[..out.len() - 1])
                    .variable_byte_integer()
                    .is_err()
            );
        }
        assert!(Reader::new(&[0x80, 0x00]).variable_byte_integer().is_err());
        assert!(
            Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x01])
                .variable_byte_integer()
                .is_err()
        );
    }

    #[test]
    fn strings_are_checked() {
        assert_eq!(Reader::new(b"\x00\x02ab").utf8_string(), Ok("ab"));
        for bad in [
            &b"\x00\x03ab"[..],
            b"\x00\x01\x00",
            b"\x00\x02\xc0\x80",
            b"\x00\x03\xed\xa0\x80",
            b"\x00",
        ] {
            assert!(Reader::new(bad).utf8_string().is_err(), "{bad:?}");
        }
    }
}
