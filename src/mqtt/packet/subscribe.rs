//! SUBSCRIBE (3.8).

use crate::mqtt::data_types::{PacketIdentifier, ProtocolVersion, QoS, Reader, put_bytes, put_u16};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{Carrier, Properties};

use super::{PacketType, encode_packet};

/// When retained messages are sent (3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetainHandling {
    /// At every subscribe.
    SendAtSubscribe = 0,
    /// Only if the subscription is new.
    SendIfNew = 1,
    /// Not at all.
    DoNotSend = 2,
}

/// Subscription Options (3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// Maximum QoS.
    pub qos: QoS,
    /// Not to the connection that published [MQTT-3.8.3-3].
    pub no_local: bool,
    /// Forward with the RETAIN flag as published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    /// The options of a byte of the payload.
    pub fn from_byte(byte: u8) -> Option<Self> {
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::SendAtSubscribe,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        Some(Self {
            qos: QoS::from_bits(byte & 3)?,
            no_local: byte & 4 != 0,
            retain_as_published: byte & 8 != 0,
            retain_handling,
        })
    }

    /// The byte of the payload.
    pub fn to_byte(self) -> u8 {
        self.qos as u8
            | u8::from(self.no_local) << 2
            | u8::from(self.retain_as_published) << 3
            | (self.retain_handling as u8) << 4
    }
}

/// A subscribe request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Identifies the SUBACK.
    pub packet_identifier: PacketIdentifier,
    /// Subscription Identifier and User Properties.
    pub properties: Properties<'a>,
    payload: &'a [u8],
}

impl<'a> Subscribe<'a> {
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

    /// Reads a SUBSCRIBE packet. Whether each Topic Filter is valid is for SUBACK to say.
    ///
    /// # Errors
    /// Protocol Error if there is no filter [MQTT-3.8.3-2]; Malformed Packet for reserved options
    /// [MQTT-3.8.3-5] or a bad string.
    pub fn decode(frame: &Frame<'a>, version: ProtocolVersion) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let packet_identifier = reader.packet_identifier()?;
        let properties = match version.is_v5() {
            true => Properties::decode(&mut reader, Carrier::Subscribe)?,
            false => Properties::default(),
        };
        let payload = reader.rest();
        if payload.is_empty() {
            return Err(DecodeError::ProtocolError("SUBSCRIBE has no Topic Filter"));
        }
        while !reader.is_empty() {
            reader.utf8_string()?;
            let byte = reader.u8()?;
            if SubscriptionOptions::from_byte(byte).is_none() || (!version.is_v5() && byte > 2) {
                return Err(DecodeError::MalformedPacket(
                    "Subscription Options have reserved bits or QoS 3",
                ));
            }
        }
        Ok(Self {
            packet_identifier,
            properties,
            payload,
        })
    }

    /// The Topic Filters with their options, in order.
    pub fn filters(
        &self,
    ) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + Clone + use<'a> {
        let mut reader = Reader::new(self.payload);
        std::iter::from_fn(move || {
            let filter = reader.utf8_string().ok()?;
            Some((filter, SubscriptionOptions::from_byte(reader.u8().ok()?)?))
        })
    }

    /// The payload for the given filters.
    pub fn encode_filters(filters: &[(&str, SubscriptionOptions)]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (filter, options) in filters {
            put_bytes(&mut payload, filter.as_bytes());
            payload.push(options.to_byte());
        }
        payload
    }

    /// Appends the packet.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        encode_packet(out, PacketType::Subscribe.first_byte(), |body| {
            put_u16(body, self.packet_identifier.get());
            if version.is_v5() {
                self.properties.encode(body);
            }
            body.extend_from_slice(self.payload);
        });
    }
}
