//! UNSUBSCRIBE (3.10).

use crate::mqtt::data_types::{PacketIdentifier, ProtocolVersion, Reader, put_bytes, put_u16};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{Carrier, Properties};

use super::{PacketType, encode_packet};

/// An unsubscribe request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Identifies the UNSUBACK.
    pub packet_identifier: PacketIdentifier,
    /// User Properties.
    pub properties: Properties<'a>,
    payload: &'a [u8],
}

impl<'a> Unsubscribe<'a> {
    /// A request with the payload that [`Self::encode_filters`] makes.
    pub fn new(
        packet_identifier: PacketIdentifier,
        properties: Properties<'a>,
        payload: &'a [u8],
    ) -> Self {
        Self {
            packet_identifier,
            properties,
            payload,
        }
    }

    /// Reads an UNSUBSCRIBE packet.
    ///
    /// # Errors
    /// Protocol Error if there is no filter [MQTT-3.10.3-2]; Malformed Packet for a bad string.
    pub fn decode(frame: &Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_identifier = reader.packet_identifier()?;
        let properties = match version.is_v5() {
            true => Properties::decode(&mut reader, Carrier::Unsubscribe)?,
            false => Properties::default(),
        };
        let payload = reader.rest();
        if payload.is_empty() {
            return Err(DecodeError::ProtocolError(
                "UNSUBSCRIBE has no Topic Filter",
            ));
        }
        while !reader.is_empty() {
            reader.utf8_string()?;
        }
        Ok(Self {
            packet_identifier,
            properties,
            payload,
        })
    }

    /// The Topic Filters, in order.
    pub fn filters(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        let mut reader = Reader::new(self.payload);
        std::iter::from_fn(move || reader.utf8_string().ok())
    }

    /// The payload for the given filters.
    pub fn encode_filters(filters: &[&str]) -> Vec<u8> {
        let mut payload = Vec::new();
        for filter in filters {
            put_bytes(&mut payload, filter.as_bytes());
        }
        payload
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        encode_packet(out, PacketType::Unsubscribe.first_byte(), |body| {
            put_u16(body, self.packet_identifier.get());
            if version.is_v5() {
                self.properties.encode(body);
            }
            body.extend_from_slice(self.payload);
        });
    }
}
