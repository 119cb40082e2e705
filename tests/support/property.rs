//! Properties of MQTT 5.0 (2.2.2): how they are written, read and named.

/// The value of a property.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Byte.
    Byte(u8),
    /// Two Byte Integer.
    Two(u16),
    /// Four Byte Integer.
    Four(u32),
    /// Variable Byte Integer.
    Variable(u32),
    /// UTF-8 Encoded String.
    Text(String),
    /// Binary Data.
    Binary(Vec<u8>),
    /// UTF-8 String Pair.
    Pair(String, String),
}

impl Value {
    /// The number in it.
    pub fn number(&self) -> u32 {
        match self {
            Self::Byte(value) => u32::from(*value),
            Self::Two(value) => u32::from(*value),
            Self::Four(value) | Self::Variable(value) => *value,
            other => panic!("{other:?} is no number"),
        }
    }

    /// The text in it.
    pub fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            other => panic!("{other:?} is no text"),
        }
    }
}

/// Identifier and value.
pub type Property = (u8, Value);

/// Payload Format Indicator.
pub const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
/// Message Expiry Interval.
pub const MESSAGE_EXPIRY_INTERVAL: u8 = 0x02;
/// Content Type.
pub const CONTENT_TYPE: u8 = 0x03;
/// Response Topic.
pub const RESPONSE_TOPIC: u8 = 0x08;
/// Correlation Data.
pub const CORRELATION_DATA: u8 = 0x09;
/// Subscription Identifier.
pub const SUBSCRIPTION_IDENTIFIER: u8 = 0x0b;
/// Session Expiry Interval.
pub const SESSION_EXPIRY_INTERVAL: u8 = 0x11;
/// Assigned Client Identifier.
pub const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
/// Server Keep Alive.
pub const SERVER_KEEP_ALIVE: u8 = 0x13;
/// Authentication Method.
pub const AUTHENTICATION_METHOD: u8 = 0x15;
/// Authentication Data.
pub const AUTHENTICATION_DATA: u8 = 0x16;
/// Request Problem Information.
pub const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
/// Will Delay Interval.
pub const WILL_DELAY_INTERVAL: u8 = 0x18;
/// Request Response Information.
pub const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
/// Response Information.
pub const RESPONSE_INFORMATION: u8 = 0x1a;
/// Server Reference.
pub const SERVER_REFERENCE: u8 = 0x1c;
/// Reason String.
pub const REASON_STRING: u8 = 0x1f;
/// Receive Maximum.
pub const RECEIVE_MAXIMUM: u8 = 0x21;
/// Topic Alias Maximum.
pub const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
/// Topic Alias.
pub const TOPIC_ALIAS: u8 = 0x23;
/// Maximum QoS.
pub const MAXIMUM_QOS: u8 = 0x24;
/// Retain Available.
pub const RETAIN_AVAILABLE: u8 = 0x25;
/// User Property.
pub const USER_PROPERTY: u8 = 0x26;
/// Maximum Packet Size.
pub const MAXIMUM_PACKET_SIZE: u8 = 0x27;
/// Wildcard Subscription Available.
pub const WILDCARD_SUBSCRIPTION_AVAILABLE: u8 = 0x28;
/// Subscription Identifier Available.
pub const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
/// Shared Subscription Available.
pub const SHARED_SUBSCRIPTION_AVAILABLE: u8 = 0x2a;

/// A User Property.
pub fn user_property(name: &str, value: &str) -> Property {
    (USER_PROPERTY, Value::Pair(name.into(), value.into()))
}

/// Appends the Property Length and `properties`.
pub fn write(out: &mut Vec<u8>, properties: &[Property]) {
    let mut body = Vec::new();
    for (identifier, value) in properties {
        body.push(*identifier);
        match value {
            Value::Byte(value) => body.push(*value),
            Value::Two(value) => body.extend(value.to_be_bytes()),
            Value::Four(value) => body.extend(value.to_be_bytes()),
            Value::Variable(value) => write_variable(&mut body, *value),
            Value::Text(text) => write_binary(&mut body, text.as_bytes()),
            Value::Binary(bytes) => write_binary(&mut body, bytes),
            Value::Pair(name, value) => {
                write_binary(&mut body, name.as_bytes());
                write_binary(&mut body, value.as_bytes());
            }
        }
    }
    write_variable(out, body.len() as u32);
    out.extend(body);
}

/// Appends a Variable Byte Integer (1.5.5).
pub fn write_variable(out: &mut Vec<u8>, mut value: u32) {
    loop {
        let byte = (value % 128) as u8;
        value /= 128;
        if value == 0 {
            return out.push(byte);
        }
        out.push(byte | 0x80);
    }
}

/// Appends a two byte length and `bytes`.
pub fn write_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u16).to_be_bytes());
    out.extend(bytes);
}

/// Reads fields one after the other and panics at what a server must not send.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        assert!(
            self.0.len() >= count,
            "the broker sent a packet that ends too early"
        );
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    /// A byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    /// A Two Byte Integer.
    pub fn two(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().unwrap())
    }

    /// A Four Byte Integer.
    pub fn four(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().unwrap())
    }

    /// A Variable Byte Integer.
    pub fn variable(&mut self) -> u32 {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.byte();
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                assert!(
                    byte != 0 || shift == 0,
                    "a Variable Byte Integer is longer than needed [MQTT-1.5.5-1]"
                );
                return value;
            }
        }
        panic!("the broker sent a Variable Byte Integer of more than four bytes");
    }

    /// Binary Data.
    pub fn binary(&mut self) -> Vec<u8> {
        let length = self.two();
        self.take(usize::from(length)).to_vec()
    }

    /// A UTF-8 Encoded String.
    pub fn text(&mut self) -> String {
        String::from_utf8(self.binary()).expect("the broker sent a string that is not UTF-8")
    }

    /// Property Length and properties.
    pub fn properties(&mut self) -> Vec<Property> {
        let length = self.variable() as usize;
        let mut fields = Fields(self.take(length));
        let mut properties = Vec::new();
        while !fields.0.is_empty() {
            let identifier = fields.byte();
            properties.push((identifier, fields.value(identifier)));
        }
        properties
    }

    fn value(&mut self, identifier: u8) -> Value {
        match identifier {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => Value::Byte(self.byte()),
            0x13 | 0x21 | 0x22 | 0x23 => Value::Two(self.two()),
            0x02 | 0x11 | 0x18 | 0x27 => Value::Four(self.four()),
            0x0b => Value::Variable(self.variable()),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Value::Text(self.text()),
            0x09 | 0x16 => Value::Binary(self.binary()),
            0x26 => Value::Pair(self.text(), self.text()),
            other => panic!("the broker sent a property {other:#04x} that does not exist"),
        }
    }
}
