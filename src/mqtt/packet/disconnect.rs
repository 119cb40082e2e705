//! DISCONNECT (3.14).

use crate::mqtt::data_types::{ProtocolVersion, Reader, Role};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{Carrier, Properties};
use crate::mqtt::reason_code::ReasonCode;

use super::{PacketType, encode_packet};

/// The last packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// Success is Normal disconnection.
    pub reason_code: ReasonCode,
    /// Session Expiry Interval, Reason String, Server Reference, User Properties.
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    /// A DISCONNECT without properties.
    pub fn new(reason_code: ReasonCode) -> Self {
        Self {
            reason_code,
            properties: Properties::default(),
        }
    }

    /// Reads a DISCONNECT packet.
    ///
    /// # Errors
    /// Malformed Packet; Protocol Error for a Reason Code that its sender may not use (table 3-10), or a
    /// Server Reference from a Client.
    pub fn decode(
        frame: &Frame<'a>,
        version: ProtocolVersion,
        sender: Role,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let mut disconnect = Self::new(ReasonCode::Success);
        if !version.is_v5() || reader.is_empty() {
            reader.finish()?;
            return Ok(disconnect);
        }
        disconnect.reason_code = ReasonCode::try_from(reader.u8()?)
            .ok()
            .filter(|code| sender == Role::Server || is_client_code(*code))
            .ok_or(DecodeError::ProtocolError(
                "DISCONNECT has a Reason Code that is not its sender's",
            ))?;
        if !reader.is_empty() {
            disconnect.properties = Properties::decode(&mut reader, Carrier::Disconnect)?;
        }
        reader.finish()?;
        if sender == Role::Client && disconnect.properties.server_reference.is_some() {
            return Err(DecodeError::ProtocolError(
                "a Client sent a Server Reference",
            ));
        }
        Ok(disconnect)
    }

    /// Appends the packet, in its shortest form.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        encode_packet(out, PacketType::Disconnect.first_byte(), |body| {
            let has_properties = !self.properties.is_empty();
            if version.is_v5() && (self.reason_code != ReasonCode::Success || has_properties) {
                body.push(self.reason_code as u8);
                if has_properties {
                    self.properties.encode(body);
                }
            }
        });
    }
}

/// What a Client may say (table 3-10).
fn is_client_code(code: ReasonCode) -> bool {
    use ReasonCode as R;
    matches!(
        code,
        R::Success
            | R::DisconnectWithWillMessage
            | R::UnspecifiedError
            | R::MalformedPacket
            | R::ProtocolError
            | R::ImplementationSpecificError
            | R::TopicNameInvalid
            | R::ReceiveMaximumExceeded
            | R::TopicAliasInvalid
            | R::PacketTooLarge
            | R::MessageRateTooHigh
            | R::QuotaExceeded
            | R::AdministrativeAction
            | R::PayloadFormatInvalid
    )
}
