//! Properties (2.2.2): one definition of all of them, and which packet may carry which.
//!
//! [`Properties`] borrows from the packet. PUBLISH has a leaner reader of its own in `packet::publish`.

use super::data_types::{
    Reader, put_bytes, put_u16, put_u32, put_variable_byte_integer, variable_byte_integer_bytes,
    wire_length,
};
use super::error::DecodeError;

const TWICE: DecodeError = DecodeError::ProtocolError("a property is there twice");
const NOT_HERE: DecodeError =
    DecodeError::MalformedPacket("a property does not belong to this packet");

/// The identifier of User Property, the only property that may repeat in every packet (2.2.2.2).
pub const USER_PROPERTY: u8 = 0x26;
/// The identifier of Subscription Identifier.
pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;

/// User Properties as they stand in the packet: any number, in order [MQTT-3.3.2-18].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserProperties<'a> {
    /// The properties of the packet, of which the User Properties are read.
    properties: &'a [u8],
    count: usize,
}

impl<'a> UserProperties<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut reader = Reader::new(if self.count == 0 {
            &[]
        } else {
            self.properties
        });
        std::iter::from_fn(move || {
            while !reader.is_empty() {
                let id = reader.u8().ok()?;
                if id == USER_PROPERTY {
                    return Some((reader.utf8_string().ok()?, reader.utf8_string().ok()?));
                }
                skip_value(id, &mut reader).ok()?;
            }
            None
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            out.push(USER_PROPERTY);
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
}

/// How a property's value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// A byte that is 0 or 1.
    Boolean,
    /// A Two Byte Integer.
    TwoByte,
    /// A Four Byte Integer.
    FourByte,
    /// A Variable Byte Integer.
    Variable,
    /// A UTF-8 Encoded String.
    Text,
    /// Binary Data.
    Binary,
    /// A UTF-8 String Pair.
    Pair,
}

/// A type that a property can have.
trait Value<'a>: Sized + Copy {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
    fn write(self, out: &mut Vec<u8>);
}

impl<'a> Value<'a> for bool {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::ProtocolError(
                "a property that is 0 or 1 has another value",
            )),
        }
    }
    fn write(self, out: &mut Vec<u8>) {
        out.push(u8::from(self));
    }
}

impl<'a> Value<'a> for u16 {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.u16()
    }
    fn write(self, out: &mut Vec<u8>) {
        put_u16(out, self);
    }
}

impl<'a> Value<'a> for u32 {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.u32()
    }
    fn write(self, out: &mut Vec<u8>) {
        put_u32(out, self);
    }
}

impl<'a> Value<'a> for &'a str {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.utf8_string()
    }
    fn write(self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }
}

impl<'a> Value<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.binary_data()
    }
    fn write(self, out: &mut Vec<u8>) {
        put_bytes(out, self);
    }
}

macro_rules! properties {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $id:literal, $value_type:ident;)*) => {
        /// The properties of one packet; what is not there is `None`.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Properties<'a> {
            $($(#[$doc])* pub $field: Option<$type>,)*
            /// Subscription Identifier, 1 to 268,435,455 (SUBSCRIBE).
            pub subscription_identifier: Option<u32>,
            /// User Properties.
            pub user_properties: UserProperties<'a>,
        }

        /// The type of a property's value, if there is such a property.
        pub fn value_type(id: u8) -> Option<ValueType> {
            match id {
                $($id => Some(ValueType::$value_type),)*
                SUBSCRIPTION_IDENTIFIER => Some(ValueType::Variable),
                USER_PROPERTY => Some(ValueType::Pair),
                _ => None,
            }
        }

        impl<'a> Properties<'a> {
            fn read_one(&mut self, id: u8, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
                match id {
                    $($id => set(&mut self.$field, <$type as Value<'a>>::read(reader)?),)*
                    SUBSCRIPTION_IDENTIFIER => {
                        set(&mut self.subscription_identifier, read_subscription_identifier(reader)?)
                    }
                    USER_PROPERTY => {
                        reader.utf8_string()?;
                        reader.utf8_string()?;
                        self.user_properties.count += 1;
                        Ok(())
                    }
                    _ => Err(NOT_HERE),
                }
            }

            fn encode_content(&self, out: &mut Vec<u8>) {
                $(if let Some(value) = self.$field {
                    out.push($id);
                    value.write(out);
                })*
                if let Some(value) = self.subscription_identifier {
                    out.push(SUBSCRIPTION_IDENTIFIER);
                    put_variable_byte_integer(out, value);
                }
                self.user_properties.encode(out);
            }
        }
    };
}

properties! {
    /// Payload Format Indicator: whether the payload is UTF-8.
    payload_format_indicator: bool = 0x01, Boolean;
    /// Message Expiry Interval, seconds.
    message_expiry_interval_s: u32 = 0x02, FourByte;
    /// Content Type.
    content_type: &'a str = 0x03, Text;
    /// Response Topic.
    response_topic: &'a str = 0x08, Text;
    /// Correlation Data.
    correlation_data: &'a [u8] = 0x09, Binary;
    /// Session Expiry Interval, seconds.
    session_expiry_interval_s: u32 = 0x11, FourByte;
    /// Assigned Client Identifier.
    assigned_client_identifier: &'a str = 0x12, Text;
    /// Server Keep Alive, seconds.
    server_keep_alive_s: u16 = 0x13, TwoByte;
    /// Authentication Method.
    authentication_method: &'a str = 0x15, Text;
    /// Authentication Data.
    authentication_data: &'a [u8] = 0x16, Binary;
    /// Request Problem Information.
    request_problem_information: bool = 0x17, Boolean;
    /// Will Delay Interval, seconds.
    will_delay_interval_s: u32 = 0x18, FourByte;
    /// Request Response Information.
    request_response_information: bool = 0x19, Boolean;
    /// Response Information.
    response_information: &'a str = 0x1a, Text;
    /// Server Reference.
    server_reference: &'a str = 0x1c, Text;
    /// Reason String.
    reason_string: &'a str = 0x1f, Text;
    /// Receive Maximum, not 0.
    receive_maximum: u16 = 0x21, TwoByte;
    /// Topic Alias Maximum.
    topic_alias_maximum: u16 = 0x22, TwoByte;
    /// Topic Alias.
    topic_alias: u16 = 0x23, TwoByte;
    /// Maximum QoS is 1 (true) or 0 (false).
    maximum_qos: bool = 0x24, Boolean;
    /// Retain Available.
    retain_available: bool = 0x25, Boolean;
    /// Maximum Packet Size, not 0, bytes.
    maximum_packet_size: u32 = 0x27, FourByte;
    /// Wildcard Subscription Available.
    wildcard_subscription_available: bool = 0x28, Boolean;
    /// Subscription Identifiers Available.
    subscription_identifiers_available: bool = 0x29, Boolean;
    /// Shared Subscription Available.
    shared_subscription_available: bool = 0x2a, Boolean;
}

fn set<T>(field: &mut Option<T>, value: T) -> Result<(), DecodeError> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(TWICE),
    }
}

/// Reads a Subscription Identifier.
///
/// # Errors
/// Protocol Error if it is 0 (3.8.2.1.2).
pub fn read_subscription_identifier(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
    match reader.variable_byte_integer()? {
        0 => Err(DecodeError::ProtocolError("a Subscription Identifier is 0")),
        value => Ok(value),
    }
}

/// Passes over a value.
///
/// # Errors
/// Malformed Packet if there is no such property or the value is cut.
pub fn skip_value(id: u8, reader: &mut Reader<'_>) -> Result<(), DecodeError> {
    match value_type(id).ok_or(NOT_HERE)? {
        ValueType::Boolean => reader.u8().map(drop),
        ValueType::TwoByte => reader.u16().map(drop),
        ValueType::FourByte => reader.u32().map(drop),
        ValueType::Variable => reader.variable_byte_integer().map(drop),
        ValueType::Text | ValueType::Binary => reader.binary_data().map(drop),
        ValueType::Pair => reader
            .binary_data()
            .and_then(|_| reader.binary_data())
            .map(drop),
    }
}

/// The packets (and the Will) that have properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// CONNECT.
    Connect,
    /// The Will Properties of CONNECT.
    Will,
    /// CONNACK.
    ConnAck,
    /// PUBLISH.
    Publish,
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK and UNSUBACK.
    Acknowledgement,
    /// SUBSCRIBE.
    Subscribe,
    /// UNSUBSCRIBE.
    Unsubscribe,
    /// DISCONNECT.
    Disconnect,
    /// AUTH.
    Auth,
}

impl Carrier {
    /// Whether property `id` may be here (2.2.2.2, table 2-4).
    pub fn allows(self, id: u8) -> bool {
        let ids: &[u8] = match self {
            Self::Connect => &[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27],
            Self::Will => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26],
            Self::ConnAck => &[
                0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27,
                0x28, 0x29, 0x2a,
            ],
            Self::Publish => &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0b, 0x23, 0x26],
            Self::Acknowledgement => &[0x1f, 0x26],
            Self::Subscribe => &[0x0b, 0x26],
            Self::Unsubscribe => &[0x26],
            Self::Disconnect => &[0x11, 0x1c, 0x1f, 0x26],
            Self::Auth => &[0x15, 0x16, 0x1f, 0x26],
        };
        ids.contains(&id)
    }
}

impl<'a> Properties<'a> {
    /// Reads the properties with their length from the front of `reader`.
    ///
    /// # Errors
    /// Malformed Packet if the format is wrong or a property does not belong to `carrier`; Protocol Error
    /// if one is there twice or has a value that is not allowed.
    pub fn decode(reader: &mut Reader<'a>, carrier: Carrier) -> Result<Self, DecodeError> {
        let length = reader.variable_byte_integer()?;
        let content = reader.take(length as usize)?;
        let mut properties = Self::default();
        properties.user_properties.properties = content;
        let mut rest = Reader::new(content);
        while !rest.is_empty() {
            let id = rest.u8()?;
            if !carrier.allows(id) {
                return Err(NOT_HERE);
            }
            properties.read_one(id, &mut rest)?;
        }
        if properties.receive_maximum == Some(0) {
            return Err(DecodeError::ProtocolError("Receive Maximum is 0"));
        }
        if properties.maximum_packet_size == Some(0) {
            return Err(DecodeError::ProtocolError("Maximum Packet Size is 0"));
        }
        if properties.authentication_data.is_some() && properties.authentication_method.is_none() {
            return Err(DecodeError::ProtocolError(
                "Authentication Data without Authentication Method",
            ));
        }
        Ok(properties)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self
            == Self {
                user_properties: self.user_properties,
                ..Self::default()
            }
            && self.user_properties.is_empty()
    }

    /// Appends the properties with their length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.is_empty() {
            out.push(0);
            return;
        }
        let start = out.len();
        self.encode_content(out);
        let length = out.len() - start;
        let mut prefix = Vec::with_capacity(4);
        put_variable_byte_integer(&mut prefix, wire_length(length));
        debug_assert_eq!(prefix.len(), variable_byte_integer_bytes(length));
        out.splice(start..start, prefix);
    }

    /// Appends what goes to subscribers unchanged: Payload Format Indicator, Content Type, Response Topic,
    /// Correlation Data and User Properties, without a length.
    pub fn encode_forwarded(&self, out: &mut Vec<u8>) {
        Self {
            payload_format_indicator: self.payload_format_indicator,
            content_type: self.content_type,
            response_topic: self.response_topic,
            correlation_data: self.correlation_data,
            user_properties: self.user_properties,
            ..Self::default()
        }
        .encode_content(out);
    }
}

/// Encodes User Properties for [`user_properties_of`], for programs that build packets.
pub fn encode_user_properties(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (name, value) in pairs {
        content.push(USER_PROPERTY);
        put_bytes(&mut content, name.as_bytes());
        put_bytes(&mut content, value.as_bytes());
    }
    content
}

/// User Properties from what [`encode_user_properties`] made.
pub fn user_properties_of(content: &[u8]) -> UserProperties<'_> {
    let mut all = UserProperties {
        properties: content,
        count: 1,
    };
    all.count = all.iter().count();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARRIERS: [Carrier; 9] = [
        Carrier::Connect,
        Carrier::Will,
        Carrier::ConnAck,
        Carrier::Publish,
        Carrier::Acknowledgement,
        Carrier::Subscribe,
        Carrier::Unsubscribe,
        Carrier::Disconnect,
        Carrier::Auth,
    ];

    fn value(value_type: ValueType) -> &'static [u8] {
        match value_type {
            ValueType::Boolean | ValueType::Variable => &[1],
            ValueType::TwoByte => &[0, 1],
            ValueType::FourByte => &[0, 0, 0, 1],
            ValueType::Text | ValueType::Binary => b"\x00\x01v",
            ValueType::Pair => b"\x00\x01k\x00\x01v",
        }
    }

    fn decode(content: &[u8], carrier: Carrier) -> Result<(), u8> {
        let mut bytes = vec![u8::try_from(content.len()).unwrap_or(0)];
        bytes.extend_from_slice(content);
        let decoded = Properties::decode(&mut Reader::new(&bytes), carrier).map(drop);
        decoded.map_err(|error| error.reason_code() as u8)
    }

    #[test]
    fn each_property_is_taken_where_it_belongs_once_and_whole() {
        for carrier in CARRIERS {
            for id in 0..=255u8 {
                let Some(value_type) = value_type(id).filter(|_| carrier.allows(id)) else {
                    assert_eq!(
                        decode(&[id, 0, 1, 0, 1], carrier),
                        Err(0x81),
                        "{carrier:?} {id:#x}"
                    );
                    continue;
                };
                let mut content = if id == 0x16 {
                    b"\x15\x00\x01m".to_vec()
                } else {
                    Vec::new()
                };
                content.push(id);
                content.extend_from_slice(value(value_type));
                assert_eq!(decode(&content, carrier), Ok(()), "{carrier:?} {id:#x}");
                assert_eq!(
                    decode(&content[..content.len() - 1], carrier),
                    Err(0x81),
                    "{carrier:?} {id:#x}"
                );
                content.push(id);
                content.extend_from_slice(value(value_type));
                let twice = if id == USER_PROPERTY {
                    Ok(())
                } else {
                    Err(0x82)
                };
                assert_eq!(decode(&content, carrier), twice, "{carrier:?} {id:#x}");
            }
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let pairs = encode_user_properties(&[("b", "2"), ("a", ""), ("b", "1")]);
        let properties = Properties {
            reason_string: Some("why"),
            receive_maximum: Some(7),
            maximum_qos: Some(false),
            user_properties: user_properties_of(&pairs),
            ..Properties::default()
        };
        let mut out = Vec::new();
        properties.encode(&mut out);
        let decoded = Properties::decode(&mut Reader::new(&out), Carrier::ConnAck);
        let Ok(decoded) = decoded else {
            panic!("{decoded:?}")
        };
        assert_eq!(
            (decoded.reason_string, decoded.receive_maximum),
            (Some("why"), Some(7))
        );
        assert!(
            decoded
                .user_properties
                .iter()
                .eq([("b", "2"), ("a", ""), ("b", "1")])
        );
    }
}
