//! SUBACK and UNSUBACK (3.9, 3.11).

use crate::mqtt::data_types::{
    PacketIdentifier, ProtocolVersion, Reader, put_u16, variable_byte_integer_bytes,
};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{Carrier, Properties};
use crate::mqtt::reason_code::ReasonCode;

use super::{PacketType, encode_packet};

/// The answer to SUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// That of SUBSCRIBE [MQTT-3.8.4-2].
    pub packet_identifier: PacketIdentifier,
    /// One for each Topic Filter, in order [MQTT-3.9.3-1].
    pub reason_codes: Vec<ReasonCode>,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
}

/// The answer to UNSUBSCRIBE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// That of UNSUBSCRIBE [MQTT-3.10.4-4].
    pub packet_identifier: PacketIdentifier,
    /// One for each Topic Filter, in order; none before 5.0.
    pub reason_codes: Vec<ReasonCode>,
    /// Reason String and User Properties.
    pub properties: Properties<'a>,
}

/// The size of a 5.0 SUBACK or UNSUBACK for `filters` Topic Filters, bytes.
pub fn answer_bytes(filters: usize) -> usize {
    let remaining = 3 + filters;
    1 + variable_byte_integer_bytes(remaining) + remaining
}

fn reason_codes(bytes: &[u8]) -> Result<Vec<ReasonCode>, DecodeError> {
    let code = |value: &u8| ReasonCode::try_from(*value);
    let codes: Result<Vec<_>, u8> = bytes.iter().map(code).collect();
    codes.map_err(|_| DecodeError::ProtocolError("SUBACK or UNSUBACK has an unknown Reason Code"))
}

impl<'a> SubAck<'a> {
    /// Reads a SUBACK packet.
    ///
    /// # Errors
    /// Malformed Packet or Protocol Error.
    pub fn decode(frame: &Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_identifier = reader.packet_identifier()?;
        let properties = match version.is_v5() {
            true => Properties::decode(&mut reader, Carrier::Acknowledgement)?,
            false => Properties::default(),
        };
        Ok(Self {
            packet_identifier,
            reason_codes: reason_codes(reader.rest())?,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        encode_packet(out, PacketType::SubAck.first_byte(), |body| {
            put_u16(body, self.packet_identifier.get());
            if version.is_v5() {
                self.properties.encode(body);
                body.extend(self.reason_codes.iter().map(|code| *code as u8));
            } else {
                body.extend(
                    self.reason_codes
                        .iter()
                        .map(|code| code.subscribe_return_code()),
                );
            }
        });
    }
}

impl<'a> UnsubAck<'a> {
    /// Reads an UNSUBACK packet.
    ///
    /// # Errors
    /// Malformed Packet or Protocol Error.
    pub fn decode(frame: &Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_identifier = reader.packet_identifier()?;
        if !version.is_v5() {
            reader.finish()?;
            let properties = Properties::default();
            return Ok(Self {
                packet_identifier,
                reason_codes: Vec::new(),
                properties,
            });
        }
        let properties = Properties::decode(&mut reader, Carrier::Acknowledgement)?;
        Ok(Self {
            packet_identifier,
            reason_codes: reason_codes(reader.rest())?,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        encode_packet(out, PacketType::UnsubAck.first_byte(), |body| {
            put_u16(body, self.packet_identifier.get());
            if version.is_v5() {
                self.properties.encode(body);
                body.extend(self.reason_codes.iter().map(|code| *code as u8));
            }
        });
    }
}
