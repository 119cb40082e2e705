//! CONNECT (3.1).

use crate::mqtt::data_types::{ProtocolVersion, QoS, Reader, put_bytes, put_u16};
use crate::mqtt::error::DecodeError;
use crate::mqtt::frame::Frame;
use crate::mqtt::properties::{Carrier, Properties};
use crate::mqtt::topic_name;

use super::{PacketType, encode_packet};

/// A Will Message as CONNECT brings it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Will QoS.
    pub qos: QoS,
    /// Will Retain.
    pub retain: bool,
    /// Will Topic, a valid Topic Name.
    pub topic: &'a str,
    /// Will Payload.
    pub payload: &'a [u8],
    /// Will Properties.
    pub properties: Properties<'a>,
}

/// A connection request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// By protocol name and level.
    pub protocol_version: ProtocolVersion,
    /// Clean Start; Clean Session before 5.0.
    pub clean_start: bool,
    /// Keep Alive, seconds.
    pub keep_alive_s: u16,
    /// May be empty.
    pub client_identifier: &'a str,
    /// The Will.
    pub will: Option<Will<'a>>,
    /// User Name.
    pub user_name: Option<&'a str>,
    /// Password.
    pub password: Option<&'a [u8]>,
    /// Empty before 5.0.
    pub properties: Properties<'a>,
}

const WILL: u8 = 0x04;
const CLEAN: u8 = 0x02;
const RETAIN: u8 = 0x20;
const PASSWORD: u8 = 0x40;
const USER_NAME: u8 = 0x80;

impl<'a> Connect<'a> {
    /// Reads a CONNECT packet.
    ///
    /// # Errors
    /// Unsupported Protocol Version for another name or level [MQTT-3.1.2-1]; Malformed Packet; Protocol
    /// Error.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(frame.body);
        let version = protocol_version(&mut reader)?;
        let flags = reader.u8()?;
        check_flags(flags, version)?;
        let keep_alive_s = reader.u16()?;
        let properties = match version.is_v5() {
            true => Properties::decode(&mut reader, Carrier::Connect)?,
            false => Properties::default(),
        };
        let client_identifier = reader.utf8_string()?;
        let will = match flags & WILL != 0 {
            true => Some(read_will(&mut reader, flags, version)?),
            false => None,
        };
        let user_name = (flags & USER_NAME != 0)
            .then(|| reader.utf8_string())
            .transpose()?;
        let password = (flags & PASSWORD != 0)
            .then(|| reader.binary_data())
            .transpose()?;
        reader.finish()?;
        Ok(Self {
            protocol_version: version,
            clean_start: flags & CLEAN != 0,
            keep_alive_s,
            client_identifier,
            will,
            user_name,
            password,
            properties,
        })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let version = self.protocol_version;
        encode_packet(out, PacketType::Connect.first_byte(), |body| {
            put_bytes(
                body,
                if version == ProtocolVersion::V3_1 {
                    b"MQIsdp"
                } else {
                    b"MQTT"
                },
            );
            body.push(version as u8);
            body.push(self.flags());
            put_u16(body, self.keep_alive_s);
            if version.is_v5() {
                self.properties.encode(body);
            }
            put_bytes(body, self.client_identifier.as_bytes());
            if let Some(will) = &self.will {
                if version.is_v5() {
                    will.properties.encode(body);
                }
                put_bytes(body, will.topic.as_bytes());
                put_bytes(body, will.payload);
            }
            if let Some(user_name) = self.user_name {
                put_bytes(body, user_name.as_bytes());
            }
            if let Some(password) = self.password {
                put_bytes(body, password);
            }
        });
    }

    fn flags(&self) -> u8 {
        let will = self.will.map_or(0, |will| {
            WILL | (will.qos as u8) << 3 | if will.retain { RETAIN } else { 0 }
        });
        will | if self.clean_start { CLEAN } else { 0 }
            | if self.user_name.is_some() {
                USER_NAME
            } else {
                0
            }
            | if self.password.is_some() { PASSWORD } else { 0 }
    }
}

/// The protocol version that a CONNECT asks for, as far as its body tells, so that a refusal can be
/// written in the client's own format.
pub fn peek_version(body: &[u8]) -> Option<ProtocolVersion> {
    protocol_version(&mut Reader::new(body)).ok()
}

fn protocol_version(reader: &mut Reader<'_>) -> Result<ProtocolVersion, DecodeError> {
    let name = reader.utf8_string()?;
    let level = reader.u8()?;
    match (name, level) {
        ("MQTT", 5) => Ok(ProtocolVersion::V5),
        ("MQTT", 4) => Ok(ProtocolVersion::V3_1_1),
        ("MQIsdp", 3) => Ok(ProtocolVersion::V3_1),
        _ => Err(DecodeError::UnsupportedProtocolVersion(level)),
    }
}

fn check_flags(flags: u8, version: ProtocolVersion) -> Result<(), DecodeError> {
    let cause = if flags & 1 != 0 {
        "the reserved Connect Flag is set" // [MQTT-3.1.2-3]
    } else if flags & WILL == 0 && flags & (RETAIN | 0x18) != 0 {
        "Will QoS or Will Retain without a Will" // [MQTT-3.1.2-11] [MQTT-3.1.2-13]
    } else if flags & 0x18 == 0x18 {
        "Will QoS is 3" // [MQTT-3.1.2-12]
    } else if !version.is_v5() && flags & (PASSWORD | USER_NAME) == PASSWORD {
        "a Password without a User Name" // 3.1.1: [MQTT-3.1.2-22]
    } else {
        return Ok(());
    };
    Err(DecodeError::MalformedPacket(cause))
}

fn read_will<'a>(
    reader: &mut Reader<'a>,
    flags: u8,
    version: ProtocolVersion,
) -> Result<Will<'a>, DecodeError> {
    let properties = match version.is_v5() {
        true => Properties::decode(reader, Carrier::Will)?,
        false => Properties::default(),
    };
    if let Some(response_topic) = properties.response_topic {
        topic_name::validate(response_topic)?;
    }
    let topic = reader.utf8_string()?;
    topic_name::validate(topic)?;
    let payload = reader.binary_data()?;
    // `check_flags` has refused 3.
    let qos = QoS::from_bits(flags >> 3 & 3).unwrap_or(QoS::AtMostOnce);
    Ok(Will {
        qos,
        retain: flags & RETAIN != 0,
        topic,
        payload,
        properties,
    })
}
