//! Framing: where one Control Packet ends and the next begins (2.1).
//!
//! Called for every packet that arrives; nothing is copied.

use super::error::DecodeError;
use super::packet::PacketType;

/// One whole Control Packet.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Packet type and flags.
    pub first_byte: u8,
    /// Variable header and payload.
    pub body: &'a [u8],
    /// The whole packet, bytes, fixed header included.
    pub packet_bytes: usize,
}

/// What stands at the front of the received bytes.
#[derive(Clone, Copy, Debug)]
pub enum Framing<'a> {
    /// A whole packet.
    Complete(Frame<'a>),
    /// A part of one.
    Incomplete {
        /// The whole packet's size, once its Remaining Length is there.
        packet_bytes: Option<usize>,
    },
}

/// Looks for a packet at the front of `bytes`.
///
/// # Errors
/// Malformed Packet for a bad Remaining Length [MQTT-1.5.5-1], Packet too large as soon as the length is
/// known to be over `packet_bytes_max`.
#[inline]
pub fn frame(bytes: &[u8], packet_bytes_max: usize) -> Result<Framing<'_>, DecodeError> {
    let mut remaining = 0usize;
    for position in 1..=4 {
        let Some(byte) = bytes.get(position) else {
            return Ok(Framing::Incomplete { packet_bytes: None });
        };
        remaining |= usize::from(byte & 0x7f) << (7 * (position - 1));
        if byte & 0x80 != 0 {
            continue;
        }
        if *byte == 0 && position > 1 {
            return Err(DecodeError::MalformedPacket(
                "the Remaining Length is longer than needed",
            ));
        }
        let header_bytes = position + 1;
        let packet_bytes = header_bytes + remaining;
        if packet_bytes > packet_bytes_max {
            return Err(DecodeError::PacketTooLarge {
                packet_bytes,
                packet_bytes_max,
            });
        }
        return Ok(match bytes.get(header_bytes..packet_bytes) {
            Some(body) => Framing::Complete(Frame {
                first_byte: bytes[0],
                body,
                packet_bytes,
            }),
            None => Framing::Incomplete {
                packet_bytes: Some(packet_bytes),
            },
        });
    }
    Err(DecodeError::MalformedPacket(
        "the Remaining Length has more than four bytes",
    ))
}

impl Frame<'_> {
    /// The packet's type, with its flags checked [MQTT-2.1.3-1].
    ///
    /// # Errors
    /// Malformed Packet for type 0 or reserved flags that are not as they must be.
    #[inline]
    pub fn packet_type(&self) -> Result<PacketType, DecodeError> {
        let packet_type = PacketType::from_bits(self.first_byte >> 4)
            .ok_or(DecodeError::MalformedPacket("the Control Packet type is 0"))?;
        let flags = self.first_byte & 0x0f;
        let expected = match packet_type {
            PacketType::Publish => flags,
            PacketType::PubRel | PacketType::Subscribe | PacketType::Unsubscribe => 0b0010,
            _ => 0,
        };
        match flags == expected {
            true => Ok(packet_type),
            false => Err(DecodeError::MalformedPacket(
                "reserved flags of the fixed header are wrong",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_complete_at_its_last_byte() {
        let packet = [0x30, 0x03, 0x00, 0x01, b'a', 0xc0];
        for end in 0..5 {
            assert!(
                matches!(frame(&packet[..end], 100), Ok(Framing::Incomplete { .. })),
                "{end}"
            );
        }
        let Ok(Framing::Complete(found)) = frame(&packet, 100) else {
            panic!("no packet")
        };
        assert_eq!((found.packet_bytes, found.body), (5, &packet[2..5]));
    }

    #[test]
    fn the_limit_is_seen_before_the_body() {
        let error = frame(&[0x30, 0xff, 0xff, 0xff, 0x7f], 1000).err();
        assert_eq!(error.map(|error| error.reason_code() as u8), Some(0x95));
        assert!(frame(&[0x30, 0xff, 0xff, 0xff, 0xff], 1000).is_err());
        assert!(frame(&[0x30, 0x80, 0x00], 1000).is_err());
    }
}
