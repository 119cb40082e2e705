//! PUBLISH (3.3): the packet that matters. Decoding and encoding allocate nothing.

use std::num::NonZeroU16;

use smallvec::SmallVec;

use crate::mqtt::data_types::{
    PacketIdentifier, ProtocolVersion, QoS, Reader, Role, put_bytes, put_u16, put_u32,
    put_variable_byte_integer, variable_byte_integer_bytes, wire_length,
};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{self, Carrier, SUBSCRIPTION_IDENTIFIER, USER_PROPERTY};
use crate::mqtt::topic_name;

use super::PacketType;

const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
const CONTENT_TYPE: u8 = 0x03;
const RESPONSE_TOPIC: u8 = 0x08;
const CORRELATION_DATA: u8 = 0x09;
const TOPIC_ALIAS: u8 = 0x23;

/// The properties of a PUBLISH.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishProperties<'a> {
    /// All of them as they stand in the packet, without their length.
    pub raw: &'a [u8],
    /// Whether the payload is UTF-8.
    pub payload_format_indicator: Option<bool>,
    /// Message Expiry Interval, seconds.
    pub message_expiry_interval_s: Option<u32>,
    /// Topic Alias.
    pub topic_alias: Option<NonZeroU16>,
    /// Subscription Identifiers, only from a Server.
    pub subscription_identifiers: SmallVec<[u32; 2]>,
}

impl<'a> PublishProperties<'a> {
    /// What goes to subscribers unchanged and in order: all but Message Expiry Interval, Topic Alias and
    /// Subscription Identifiers. Mostly the packet's own bytes; otherwise a copy in `scratch`.
    #[inline]
    pub fn forwarded<'b>(&self, scratch: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        let changes = self.message_expiry_interval_s.is_some()
            || self.topic_alias.is_some()
            || !self.subscription_identifiers.is_empty();
        if !changes {
            return self.raw;
        }
        scratch.clear();
        let mut reader = Reader::new(self.raw);
        while let Some(before) = (!reader.is_empty()).then(|| reader.rest()) {
            let Ok(id) = reader.u8() else { break };
            if properties::skip_value(id, &mut reader).is_err() {
                break;
            }
            if !matches!(
                id,
                MESSAGE_EXPIRY_INTERVAL | TOPIC_ALIAS | SUBSCRIPTION_IDENTIFIER
            ) {
                scratch.extend_from_slice(&before[..before.len() - reader.rest().len()]);
            }
        }
        scratch
    }

    fn decode(reader: &mut Reader<'a>, sender: Role) -> Result<Self, DecodeError> {
        let length = reader.variable_byte_integer()?;
        let mut properties = Self {
            raw: reader.take(length as usize)?,
            ..Self::default()
        };
        let mut rest = Reader::new(properties.raw);
        let mut seen = 0u64;
        while !rest.is_empty() {
            let id = rest.u8()?;
            if !Carrier::Publish.allows(id) {
                return Err(DecodeError::MalformedPacket(
                    "a property does not belong to PUBLISH",
                ));
            }
            let repeats = id == USER_PROPERTY || id == SUBSCRIPTION_IDENTIFIER;
            if seen & 1 << id != 0 && !repeats {
                return Err(DecodeError::ProtocolError("a property is there twice"));
            }
            seen |= 1 << id;
            properties.read_one(id, &mut rest, sender)?;
        }
        Ok(properties)
    }

    fn read_one(
        &mut self,
        id: u8,
        reader: &mut Reader<'a>,
        sender: Role,
    ) -> Result<(), DecodeError> {
        match id {
            PAYLOAD_FORMAT_INDICATOR => match reader.u8()? {
                value @ 0..=1 => self.payload_format_indicator = Some(value == 1),
                _ => {
                    return Err(DecodeError::ProtocolError(
                        "Payload Format Indicator is neither 0 nor 1",
                    ));
                }
            },
            MESSAGE_EXPIRY_INTERVAL => self.message_expiry_interval_s = Some(reader.u32()?),
            TOPIC_ALIAS => {
                let alias = NonZeroU16::new(reader.u16()?).ok_or(DecodeError::TopicAliasInvalid)?;
                self.topic_alias = Some(alias);
            }
            RESPONSE_TOPIC => topic_name::validate(reader.utf8_string()?)?, // [MQTT-3.3.2-14]
            CONTENT_TYPE => drop(reader.utf8_string()?),
            CORRELATION_DATA => drop(reader.binary_data()?),
            SUBSCRIPTION_IDENTIFIER => {
                let value = properties::read_subscription_identifier(reader)?;
                if sender == Role::Client {
                    // [MQTT-3.3.4-6]
                    return Err(DecodeError::ProtocolError(
                        "a Client sent a Subscription Identifier in PUBLISH",
                    ));
                }
                self.subscription_identifiers.push(value);
            }
            _ => {
                reader.utf8_string()?;
                reader.utf8_string()?;
            }
        }
        Ok(())
    }
}

/// A PUBLISH as it was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// DUP [MQTT-3.3.1-3].
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// A valid Topic Name; empty if a Topic Alias stands for it.
    pub topic_name: &'a str,
    /// Present with QoS 1 and 2 only [MQTT-2.2.1-2].
    pub packet_identifier: Option<PacketIdentifier>,
    /// Empty before 5.0.
    pub properties: PublishProperties<'a>,
    /// The Application Message.
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// Reads a PUBLISH packet.
    ///
    /// # Errors
    /// Malformed Packet for QoS 3 [MQTT-3.3.1-4] or DUP with QoS 0 [MQTT-3.3.1-2]; Topic Name invalid
    /// [MQTT-3.3.2-2]; Protocol Error.
    #[inline]
    pub fn decode(
        frame: &Frame<'a>,
        version: ProtocolVersion,
        sender: Role,
    ) -> Result<Self, DecodeError> {
        let flags = frame.first_byte;
        let qos = QoS::from_bits(flags >> 1 & 3).ok_or(DecodeError::MalformedPacket("QoS is 3"))?;
        let dup = flags & 8 != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::MalformedPacket("DUP is set with QoS 0"));
        }
        let mut reader = Reader::new(frame.body);
        let topic_name = reader.utf8_string()?;
        let packet_identifier = match qos {
            QoS::AtMostOnce => None,
            _ => Some(reader.packet_identifier()?),
        };
        let properties = match version.is_v5() {
            true => PublishProperties::decode(&mut reader, sender)?,
            false => PublishProperties::default(),
        };
        if !topic_name.is_empty() || !version.is_v5() {
            topic_name::validate(topic_name)?;
        } else if properties.topic_alias.is_none() {
            return Err(DecodeError::ProtocolError(
                "an empty Topic Name without a Topic Alias",
            ));
        }
        Ok(Self {
            dup,
            qos,
            retain: flags & 1 != 0,
            topic_name,
            packet_identifier,
            properties,
            payload: reader.rest(),
        })
    }

    /// Appends the packet as it was received.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let mut scratch = Vec::new();
        PublishOut {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic_name: self.topic_name,
            packet_identifier: self.packet_identifier,
            message_expiry_interval_s: self.properties.message_expiry_interval_s,
            topic_alias: self.properties.topic_alias,
            subscription_identifiers: &self.properties.subscription_identifiers,
            forwarded_properties: self.properties.forwarded(&mut scratch),
            payload: self.payload,
        }
        .encode(version, out);
    }
}

/// A PUBLISH that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct PublishOut<'a> {
    /// DUP.
    pub dup: bool,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Topic Name; empty if the alias is known.
    pub topic_name: &'a str,
    /// Present with QoS 1 and 2.
    pub packet_identifier: Option<PacketIdentifier>,
    /// Message Expiry Interval that is left, seconds [MQTT-3.3.2-6].
    pub message_expiry_interval_s: Option<u32>,
    /// Topic Alias.
    pub topic_alias: Option<NonZeroU16>,
    /// Subscription Identifiers of all matching subscriptions [MQTT-3.3.4-3].
    pub subscription_identifiers: &'a [u32],
    /// The encoded properties that are passed on unchanged.
    pub forwarded_properties: &'a [u8],
    /// The Application Message.
    pub payload: &'a [u8],
}

impl PublishOut<'_> {
    #[inline]
    fn properties_bytes(&self) -> usize {
        let mut bytes = self.forwarded_properties.len();
        if self.message_expiry_interval_s.is_some() {
            bytes += 5;
        }
        if self.topic_alias.is_some() {
            bytes += 3;
        }
        for identifier in self.subscription_identifiers {
            bytes += 1 + variable_byte_integer_bytes(*identifier as usize);
        }
        bytes
    }

    #[inline]
    fn remaining_length(&self, version: ProtocolVersion) -> usize {
        let mut length = 2 + self.topic_name.len() + self.payload.len();
        if self.packet_identifier.is_some() {
            length += 2;
        }
        if version.is_v5() {
            let properties = self.properties_bytes();
            length += variable_byte_integer_bytes(properties) + properties;
        }
        length
    }

    /// The size of the whole packet.
    #[inline]
    pub fn packet_bytes(&self, version: ProtocolVersion) -> usize {
        let remaining = self.remaining_length(version);
        1 + variable_byte_integer_bytes(remaining) + remaining
    }

    /// Where the Packet Identifier stands in the packet.
    #[inline]
    pub fn packet_identifier_offset(&self, version: ProtocolVersion) -> usize {
        1 + variable_byte_integer_bytes(self.remaining_length(version)) + 2 + self.topic_name.len()
    }

    /// The first byte of the packet.
    #[inline]
    pub fn first_byte(&self) -> u8 {
        PacketType::Publish.first_byte()
            | u8::from(self.dup) << 3
            | (self.qos as u8) << 1
            | u8::from(self.retain)
    }

    /// Appends everything but the payload.
    #[inline]
    pub fn encode_head(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        let remaining = self.remaining_length(version);
        out.reserve(5 + remaining);
        out.push(self.first_byte());
        put_variable_byte_integer(out, wire_length(remaining));
        put_bytes(out, self.topic_name.as_bytes());
        if let Some(packet_identifier) = self.packet_identifier {
            put_u16(out, packet_identifier.get());
        }
        if !version.is_v5() {
            return;
        }
        put_variable_byte_integer(out, wire_length(self.properties_bytes()));
        if let Some(interval_s) = self.message_expiry_interval_s {
            out.push(MESSAGE_EXPIRY_INTERVAL);
            put_u32(out, interval_s);
        }
        if let Some(alias) = self.topic_alias {
            out.push(TOPIC_ALIAS);
            put_u16(out, alias.get());
        }
        for identifier in self.subscription_identifiers {
            out.push(SUBSCRIPTION_IDENTIFIER);
            put_variable_byte_integer(out, *identifier);
        }
        out.extend_from_slice(self.forwarded_properties);
    }

    /// Appends the whole packet.
    #[inline]
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        self.encode_head(version, out);
        out.extend_from_slice(self.payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::frame::{Framing, frame};

    fn decode(bytes: &[u8], version: ProtocolVersion) -> Result<Publish<'_>, DecodeError> {
        match frame(bytes, usize::MAX) {
            Ok(Framing::Complete(frame)) => Publish::decode(&frame, version, Role::Client),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_small_publish_is_decoded_in_both_formats() {
        let Ok(publish) = decode(b"\x30\x05\x00\x01tAB", ProtocolVersion::V3_1_1) else {
            panic!("3.1.1")
        };
        assert_eq!((publish.topic_name, publish.payload), ("t", &b"AB"[..]));
        let Ok(publish) = decode(
            b"\x33\x0a\x00\x01t\x00\x07\x02\x01\x01AB",
            ProtocolVersion::V5,
        ) else {
            panic!("5.0")
        };
        assert_eq!(publish.packet_identifier.map(NonZeroU16::get), Some(7));
        assert_eq!(publish.properties.payload_format_indicator, Some(true));
        assert!(publish.retain && publish.qos == QoS::AtLeastOnce);
    }

    #[test]
    fn faults_have_their_reason_code() {
        let cases: [(&[u8], u8); 8] = [
            (b"\x36\x05\x00\x01t\x00\x01", 0x81),
            (b"\x38\x03\x00\x01t", 0x81),
            (b"\x30\x04\x00\x01+\x00", 0x90),
            (b"\x32\x06\x00\x01t\x00\x00\x00", 0x82),
            (b"\x30\x03\x00\x00\x00", 0x82),
            (b"\x30\x07\x00\x01t\x03\x23\x00\x00", 0x94),
            (b"\x30\x06\x00\x01t\x02\x0b\x01", 0x82),
            (b"\x30\x09\x00\x01t\x05\x08\x00\x02a#", 0x90),
        ];
        for (bytes, code) in cases {
            let error = decode(bytes, ProtocolVersion::V5).err();
            assert_eq!(
                error.map(|error| error.reason_code() as u8),
                Some(code),
                "{bytes:x?}"
            );
        }
    }

    #[test]
    fn only_what_concerns_subscribers_is_forwarded() {
        let properties =
            b"\x26\x00\x01a\x00\x01b\x02\x00\x00\x00\x09\x01\x01\x23\x00\x05\x26\x00\x01a\x00\x01c";
        let mut bytes = vec![0x30, 4 + 24, 0, 1, b't', 24];
        bytes.extend_from_slice(properties);
        bytes[1] = u8::try_from(bytes.len() - 2).unwrap_or(0);
        bytes[5] = u8::try_from(properties.len()).unwrap_or(0);
        let Ok(publish) = decode(&bytes, ProtocolVersion::V5) else {
            panic!("not decoded")
        };
        let mut scratch = Vec::new();
        let forwarded = publish.properties.forwarded(&mut scratch);
        assert_eq!(
            forwarded,
            b"\x26\x00\x01a\x00\x01b\x01\x01\x26\x00\x01a\x00\x01c"
        );
    }
}
