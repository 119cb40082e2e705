//! PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7), which have one form.

use crate::mqtt::data_types::{PacketIdentifier, ProtocolVersion, Reader, put_u16};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{Carrier, Properties};
use crate::mqtt::reason_code::ReasonCode;

use super::{PacketType, encode_packet};

/// An acknowledgement of a PUBLISH, or a step of QoS 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement<'a> {
    /// The Packet Identifier of the PUBLISH.
    pub packet_identifier: PacketIdentifier,
    /// Always Success before 5.0.
    pub reason_code: ReasonCode,
    /// Reason String and User Properties; mostly none.
    pub properties: Option<Properties<'a>>,
}

impl<'a> Acknowledgement<'a> {
    /// An acknowledgement without properties.
    #[inline]
    pub fn new(packet_identifier: PacketIdentifier, reason_code: ReasonCode) -> Self {
        Self {
            packet_identifier,
            reason_code,
            properties: None,
        }
    }

    /// Reads an acknowledgement of the given type.
    ///
    /// # Errors
    /// Malformed Packet or Protocol Error; a Reason Code that the packet does not have is a Protocol Error.
    #[inline]
    pub fn decode(
        frame: &Frame<'a>,
        version: ProtocolVersion,
        kind: PacketType,
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let mut ack = Self::new(reader.packet_identifier()?, ReasonCode::Success);
        if !version.is_v5() || reader.is_empty() {
            reader.finish()?;
            return Ok(ack);
        }
        ack.reason_code = reason_code(reader.u8()?, kind)?;
        if !reader.is_empty() {
            let properties = Properties::decode(&mut reader, Carrier::Acknowledgement)?;
            ack.properties = (!properties.is_empty()).then_some(properties);
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Appends the acknowledgement, in its shortest form.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, kind: PacketType, out: &mut Vec<u8>) {
        let [high, low] = self.packet_identifier.get().to_be_bytes();
        let properties = self.properties.filter(|properties| !properties.is_empty());
        if !version.is_v5() || (self.reason_code == ReasonCode::Success && properties.is_none()) {
            out.extend_from_slice(&[kind.first_byte(), 2, high, low]);
            return;
        }
        encode_packet(out, kind.first_byte(), |body| {
            put_u16(body, self.packet_identifier.get());
            body.push(self.reason_code as u8);
            if let Some(properties) = properties {
                properties.encode(body);
            }
        });
    }
}

/// The Reason Codes of tables 3-4 to 3-7.
fn reason_code(value: u8, kind: PacketType) -> Result<ReasonCode, DecodeError> {
    use ReasonCode as R;
    let code = ReasonCode::try_from(value).ok().filter(|code| match kind {
        PacketType::PubRel | PacketType::PubComp => {
            matches!(code, R::Success | R::PacketIdentifierNotFound)
        }
        _ => matches!(
            code,
            R::Success
                | R::NoMatchingSubscribers
                | R::UnspecifiedError
                | R::ImplementationSpecificError
                | R::NotAuthorized
                | R::TopicNameInvalid
                | R::PacketIdentifierInUse
                | R::QuotaExceeded
                | R::PayloadFormatInvalid
        ),
    });
    code.ok_or(DecodeError::ProtocolError(
        "an acknowledgement has a Reason Code that is not its own",
    ))
}
