//! AUTH (3.15), only in 5.0.

use crate::mqtt::data_types::{ProtocolVersion, Reader};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{Carrier, Properties};
use crate::mqtt::reason_code::ReasonCode;

use super::{PacketType, encode_packet};

/// A step of an authentication exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, Continue authentication or Re-authenticate [MQTT-3.15.2-1].
    pub reason_code: ReasonCode,
    /// Authentication Method and Data, Reason String, User Properties.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// Reads an AUTH packet.
    ///
    /// # Errors
    /// Protocol Error before 5.0 or for another Reason Code; Malformed Packet.
    pub fn decode(frame: &Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        if !version.is_v5() {
            return Err(DecodeError::MalformedPacket(
                "Control Packet type 15 is reserved before MQTT 5.0",
            ));
        }
        let mut reader = Reader::new(frame.body);
        let mut auth = Self {
            reason_code: ReasonCode::Success,
            properties: Properties::default(),
        };
        if reader.is_empty() {
            return Ok(auth);
        }
        auth.reason_code = match reader.u8()? {
            0x00 => ReasonCode::Success,
            0x18 => ReasonCode::ContinueAuthentication,
            0x19 => ReasonCode::ReAuthenticate,
            _ => {
                return Err(DecodeError::ProtocolError(
                    "AUTH has a Reason Code that is not its own",
                ));
            }
        };
        auth.properties = Properties::decode(&mut reader, Carrier::Auth)?;
        reader.finish()?;
        Ok(auth)
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_packet(out, PacketType::Auth.first_byte(), |body| {
            if self.reason_code != ReasonCode::Success || !self.properties.is_empty() {
                body.push(self.reason_code as u8);
                self.properties.encode(body);
            }
        });
    }
}
