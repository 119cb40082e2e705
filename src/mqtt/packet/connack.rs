//! CONNACK (3.2).

use crate::mqtt::data_types::{ProtocolVersion, Reader};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{Carrier, Properties};
use crate::mqtt::reason_code::ReasonCode;

use super::{PacketType, encode_packet};

/// The answer to CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the session goes on [MQTT-3.2.2-2].
    pub session_present: bool,
    /// In 3.1 and 3.1.1 it becomes a return code.
    pub reason_code: ReasonCode,
    /// What the broker can do and what it has decided.
    pub properties: Properties<'a>,
}

impl<'a> ConnAck<'a> {
    /// Reads a CONNACK. The return codes of 3.1.1 become the Reason Codes of the same meaning.
    ///
    /// # Errors
    /// Malformed Packet or Protocol Error.
    pub fn decode(frame: &Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let flags = reader.u8()?;
        if flags > 1 {
            return Err(DecodeError::MalformedPacket(
                "reserved Connect Acknowledge Flags are set",
            ));
        }
        let code = reader.u8()?;
        let mut properties = Properties::default();
        let reason_code = if version.is_v5() {
            properties = Properties::decode(&mut reader, Carrier::ConnAck)?;
            ReasonCode::try_from(code).ok()
        } else {
            from_return_code(code)
        };
        reader.finish()?;
        let reason_code =
            reason_code.ok_or(DecodeError::ProtocolError("CONNACK has an unknown code"))?;
        Ok(Self {
            session_present: flags == 1,
            reason_code,
            properties,
        })
    }

    /// Whether `version` has a code that says this. If not, the connection is closed without an answer
    /// (3.1.1: [MQTT-3.1.4-1] [MQTT-3.2.2-6]).
    pub fn exists_in(&self, version: ProtocolVersion) -> bool {
        version.is_v5() || self.reason_code.connect_return_code().is_some()
    }

    /// Appends the packet, which must exist in `version`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        debug_assert!(self.exists_in(version), "no return code says it");
        // 3.1 has no Session Present; its byte is reserved.
        let session_present = u8::from(self.session_present && version != ProtocolVersion::V3_1);
        encode_packet(out, PacketType::ConnAck.first_byte(), |body| {
            body.push(session_present);
            if version.is_v5() {
                body.push(self.reason_code as u8);
                self.properties.encode(body);
            } else {
                let code = self.reason_code.connect_return_code();
                body.push(code.unwrap_or(SERVER_UNAVAILABLE));
            }
        });
    }
}

/// The return code of 3.1.1 that says least.
const SERVER_UNAVAILABLE: u8 = 3;

fn from_return_code(code: u8) -> Option<ReasonCode> {
    Some(match code {
        0 => ReasonCode::Success,
        1 => ReasonCode::UnsupportedProtocolVersion,
        2 => ReasonCode::ClientIdentifierNotValid,
        3 => ReasonCode::ServerUnavailable,
        4 => ReasonCode::BadUserNameOrPassword,
        5 => ReasonCode::NotAuthorized,
        _ => return None,
    })
}
