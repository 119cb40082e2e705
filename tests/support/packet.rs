//! MQTT Control Packets as bytes: those that a client sends are built, those that a server sends are read.

use super::property::{self, Fields, Property, Value, write_binary, write_variable};

/// A protocol version by its protocol level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1 (MQIsdp).
    V31 = 3,
    /// MQTT 3.1.1.
    V311 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

/// All versions.
pub const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

/// A whole packet: first byte, Remaining Length, body.
pub fn packet(first_byte: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    write_variable(&mut bytes, body.len() as u32);
    bytes.extend(body);
    bytes
}

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// DISCONNECT without a body: Normal disconnection.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

/// A Will Message to put into [`Connect`].
#[derive(Clone, Debug)]
pub struct Will {
    topic: String,
    payload: Vec<u8>,
    qos: u8,
    retain: bool,
    properties: Vec<Property>,
}

impl Will {
    /// QoS 0, not retained.
    pub fn new(topic: &str, payload: &[u8]) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            qos: 0,
            retain: false,
            properties: Vec::new(),
        }
    }

    /// Sets its QoS.
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Sets Will Retain.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Sets the Will Delay Interval.
    pub fn delay_s(self, seconds: u32) -> Self {
        self.property(property::WILL_DELAY_INTERVAL, Value::Four(seconds))
    }

    /// Adds a property.
    pub fn property(mut self, identifier: u8, value: Value) -> Self {
        self.properties.push((identifier, value));
        self
    }
}

/// CONNECT, of 5.0 and with Clean Start unless said otherwise.
#[derive(Clone, Debug)]
pub struct Connect {
    /// Its protocol version.
    pub version: Version,
    client_identifier: String,
    clean_start: bool,
    keep_alive_s: u16,
    will: Option<Will>,
    user_name: Option<String>,
    password: Option<Vec<u8>>,
    properties: Vec<Property>,
}

impl Connect {
    /// 5.0, Clean Start, no Keep Alive.
    pub fn new(client_identifier: &str) -> Self {
        Self {
            version: Version::V5,
            client_identifier: client_identifier.into(),
            clean_start: true,
            keep_alive_s: 0,
            will: None,
            user_name: None,
            password: None,
            properties: Vec::new(),
        }
    }

    /// Sets the protocol version.
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// 3.1.1.
    pub fn v311(self) -> Self {
        self.version(Version::V311)
    }

    /// Without Clean Start (Clean Session before 5.0).
    pub fn resume(mut self) -> Self {
        self.clean_start = false;
        self
    }

    /// Sets the Session Expiry Interval.
    pub fn expiry_s(self, seconds: u32) -> Self {
        self.property(property::SESSION_EXPIRY_INTERVAL, Value::Four(seconds))
    }

    /// A session that outlives its connection, in each version's way.
    pub fn lasting(self) -> Self {
        match self.version {
            Version::V5 => self.resume().expiry_s(600),
            _ => self.resume(),
        }
    }

    /// Sets Receive Maximum.
    pub fn receive_maximum(self, count: u16) -> Self {
        self.property(property::RECEIVE_MAXIMUM, Value::Two(count))
    }

    /// Sets Keep Alive.
    pub fn keep_alive_s(mut self, seconds: u16) -> Self {
        self.keep_alive_s = seconds;
        self
    }

    /// Sets the Will.
    pub fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    /// Sets the User Name.
    pub fn user_name(mut self, user_name: &str) -> Self {
        self.user_name = Some(user_name.into());
        self
    }

    /// Sets the Password.
    pub fn password(mut self, password: &[u8]) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds a property.
    pub fn property(mut self, identifier: u8, value: Value) -> Self {
        self.properties.push((identifier, value));
        self
    }

    /// The packet.
    pub fn bytes(&self) -> Vec<u8> {
        let v5 = self.version == Version::V5;
        let mut flags = u8::from(self.clean_start) << 1;
        flags |= u8::from(self.user_name.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
        if let Some(will) = &self.will {
            flags |= 1 << 2 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        let mut body = Vec::new();
        let name: &[u8] = if self.version == Version::V31 {
            b"MQIsdp"
        } else {
            b"MQTT"
        };
        write_binary(&mut body, name);
        body.extend([self.version as u8, flags]);
        body.extend(self.keep_alive_s.to_be_bytes());
        if v5 {
            property::write(&mut body, &self.properties);
        }
        write_binary(&mut body, self.client_identifier.as_bytes());
        if let Some(will) = &self.will {
            if v5 {
                property::write(&mut body, &will.properties);
            }
            write_binary(&mut body, will.topic.as_bytes());
            write_binary(&mut body, &will.payload);
        }
        if let Some(user_name) = &self.user_name {
            write_binary(&mut body, user_name.as_bytes());
        }
        if let Some(password) = &self.password {
            write_binary(&mut body, password);
        }
        packet(0x10, &body)
    }
}

/// PUBLISH, QoS 0 unless said otherwise.
#[derive(Clone, Debug)]
pub struct Publish {
    /// QoS, 0 to 3.
    pub qos: u8,
    /// Packet Identifier; a client fills in the next one if it is needed and missing.
    pub identifier: Option<u16>,
    topic: String,
    payload: Vec<u8>,
    retain: bool,
    dup: bool,
    properties: Vec<Property>,
}

impl Publish {
    /// QoS 0, not retained.
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Self {
        Self {
            qos: 0,
            identifier: None,
            topic: topic.into(),
            payload: payload.as_ref().into(),
            retain: false,
            dup: false,
            properties: Vec::new(),
        }
    }

    /// Sets QoS.
    pub fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    /// Sets the Packet Identifier.
    pub fn identifier(mut self, identifier: u16) -> Self {
        self.identifier = Some(identifier);
        self
    }

    /// Sets RETAIN.
    pub fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    /// Sets DUP.
    pub fn dup(mut self) -> Self {
        self.dup = true;
        self
    }

    /// Adds a property.
    pub fn property(mut self, identifier: u8, value: Value) -> Self {
        self.properties.push((identifier, value));
        self
    }

    /// The packet.
    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        write_binary(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.extend(self.identifier.expect("a Packet Identifier").to_be_bytes());
        }
        if version == Version::V5 {
            property::write(&mut body, &self.properties);
        }
        body.extend(&self.payload);
        packet(
            0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain),
            &body,
        )
    }
}

/// SUBSCRIBE.
#[derive(Clone, Debug, Default)]
pub struct Subscribe {
    filters: Vec<(String, u8)>,
    properties: Vec<Property>,
}

/// No Local in Subscription Options.
pub const NO_LOCAL: u8 = 0x04;
/// Retain As Published in Subscription Options.
pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
/// Retain Handling 1 in Subscription Options: only for a new subscription.
pub const RETAINED_IF_NEW: u8 = 0x10;
/// Retain Handling 2 in Subscription Options: never.
pub const RETAINED_NEVER: u8 = 0x20;

impl Subscribe {
    /// One filter; `options` is the QoS, with the bits above for 5.0.
    pub fn to(filter: &str, options: u8) -> Self {
        Self::default().and(filter, options)
    }

    /// One more filter.
    pub fn and(mut self, filter: &str, options: u8) -> Self {
        self.filters.push((filter.into(), options));
        self
    }

    /// Adds a Subscription Identifier.
    pub fn identified(self, identifier: u32) -> Self {
        self.property(
            property::SUBSCRIPTION_IDENTIFIER,
            Value::Variable(identifier),
        )
    }

    /// Adds a property.
    pub fn property(mut self, identifier: u8, value: Value) -> Self {
        self.properties.push((identifier, value));
        self
    }

    /// The packet.
    pub fn bytes(&self, version: Version, packet_identifier: u16) -> Vec<u8> {
        let mut body = packet_identifier.to_be_bytes().to_vec();
        if version == Version::V5 {
            property::write(&mut body, &self.properties);
        }
        for (filter, options) in &self.filters {
            write_binary(&mut body, filter.as_bytes());
            body.push(*options);
        }
        packet(0x82, &body)
    }
}

/// UNSUBSCRIBE.
pub fn unsubscribe(version: Version, packet_identifier: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = packet_identifier.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        write_binary(&mut body, filter.as_bytes());
    }
    packet(0xa2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP of Success in the short form that all versions have.
pub fn acknowledgement(kind: Kind, identifier: u16) -> Vec<u8> {
    let flags = if kind == Kind::PubRel { 0x02 } else { 0 };
    packet((kind as u8) << 4 | flags, &identifier.to_be_bytes())
}

/// The same with a Reason Code, for 5.0.
pub fn acknowledgement_with(kind: Kind, identifier: u16, reason_code: u8) -> Vec<u8> {
    let mut bytes = acknowledgement(kind, identifier);
    bytes.push(reason_code);
    bytes[1] += 1;
    bytes
}

/// DISCONNECT of 5.0 with a Reason Code and properties.
pub fn disconnect(reason_code: u8, properties: &[Property]) -> Vec<u8> {
    let mut body = vec![reason_code];
    property::write(&mut body, properties);
    packet(0xe0, &body)
}

/// Which Control Packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CONNACK.
    ConnAck = 2,
    /// PUBLISH.
    Publish = 3,
    /// PUBACK.
    PubAck = 4,
    /// PUBREC.
    PubRec = 5,
    /// PUBREL.
    PubRel = 6,
    /// PUBCOMP.
    PubComp = 7,
    /// SUBACK.
    SubAck = 9,
    /// UNSUBACK.
    UnsubAck = 11,
    /// PINGRESP.
    PingResp = 13,
    /// DISCONNECT.
    Disconnect = 14,
    /// AUTH.
    Auth = 15,
}

impl Kind {
    fn of(first_byte: u8) -> Self {
        match first_byte >> 4 {
            2 => Self::ConnAck,
            3 => Self::Publish,
            4 => Self::PubAck,
            5 => Self::PubRec,
            6 => Self::PubRel,
            7 => Self::PubComp,
            9 => Self::SubAck,
            11 => Self::UnsubAck,
            13 => Self::PingResp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => panic!("a server must not send a packet that begins with {first_byte:#04x}"),
        }
    }
}

/// What a server sent. Fields that a packet does not have are empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Which Control Packet.
    pub kind: Kind,
    /// Session Present of CONNACK.
    pub session_present: bool,
    /// DUP of PUBLISH.
    pub dup: bool,
    /// QoS of PUBLISH.
    pub qos: u8,
    /// RETAIN of PUBLISH.
    pub retain: bool,
    /// Topic Name of PUBLISH.
    pub topic: String,
    /// Packet Identifier, 0 if there is none.
    pub identifier: u16,
    /// Reason Code (or return code), the first one if there are several.
    pub code: u8,
    /// Reason Codes of SUBACK and UNSUBACK.
    pub codes: Vec<u8>,
    /// Properties in their order.
    pub properties: Vec<Property>,
    /// Payload of PUBLISH.
    pub payload: Vec<u8>,
    /// Bytes of the whole packet.
    pub packet_bytes: usize,
}

impl Packet {
    /// Reads the first packet of `bytes`, if it is whole.
    pub fn parse(version: Version, bytes: &[u8]) -> Option<Self> {
        let (header, length) = remaining_length(bytes)?;
        let body = bytes.get(header..header + length)?;
        let kind = Kind::of(bytes[0]);
        let flags = bytes[0] & 0x0f;
        let expected = if kind == Kind::PubRel { 2 } else { 0 };
        assert!(
            kind == Kind::Publish || flags == expected,
            "{kind:?} with the flags {flags:#x} [MQTT-2.1.3-1]"
        );
        let mut packet = Self {
            kind,
            session_present: false,
            dup: flags & 8 != 0,
            qos: flags >> 1 & 3,
            retain: flags & 1 != 0,
            topic: String::new(),
            identifier: 0,
            code: 0,
            codes: Vec::new(),
            properties: Vec::new(),
            payload: Vec::new(),
            packet_bytes: header + length,
        };
        packet.read_body(version == Version::V5, Fields(body));
        Some(packet)
    }

    fn read_body(&mut self, v5: bool, mut fields: Fields<'_>) {
        match self.kind {
            Kind::ConnAck => {
                let flags = fields.byte();
                assert!(
                    flags <= 1,
                    "CONNACK with the flags {flags:#04x} [MQTT-3.2.2-1]"
                );
                self.session_present = flags == 1;
                self.code = fields.byte();
                if v5 {
                    self.properties = fields.properties();
                }
            }
            Kind::Publish => {
                assert!(self.qos < 3, "PUBLISH with QoS 3 [MQTT-3.3.1-4]");
                assert!(
                    self.qos > 0 || !self.dup,
                    "PUBLISH with QoS 0 and DUP [MQTT-3.3.1-2]"
                );
                self.topic = fields.text();
                if self.qos > 0 {
                    self.identifier = fields.two();
                    assert!(
                        self.identifier != 0,
                        "PUBLISH with the Packet Identifier 0 [MQTT-2.2.1-3]"
                    );
                }
                if v5 {
                    self.properties = fields.properties();
                }
                self.payload = fields.take(fields.0.len()).to_vec();
            }
            Kind::PubAck | Kind::PubRec | Kind::PubRel | Kind::PubComp => {
                self.identifier = fields.two();
                self.read_code(v5, &mut fields);
            }
            Kind::SubAck | Kind::UnsubAck => {
                self.identifier = fields.two();
                if v5 {
                    self.properties = fields.properties();
                }
                self.codes = fields.take(fields.0.len()).to_vec();
                self.code = self.codes.first().copied().unwrap_or(0);
            }
            Kind::PingResp => {}
            Kind::Disconnect | Kind::Auth => {
                assert!(v5, "{:?} from a server before 5.0", self.kind);
                self.read_code(v5, &mut fields);
            }
        }
        assert!(
            fields.0.is_empty(),
            "{:?} is longer than its content: {:?} is left",
            self.kind,
            fields.0
        );
    }

    fn read_code(&mut self, v5: bool, fields: &mut Fields<'_>) {
        if v5 && !fields.0.is_empty() {
            self.code = fields.byte();
            if !fields.0.is_empty() {
                self.properties = fields.properties();
            }
        }
    }

    /// The value of the property `identifier`, if it is there.
    pub fn property(&self, identifier: u8) -> Option<&Value> {
        self.properties
            .iter()
            .find(|(found, _)| *found == identifier)
            .map(|(_, value)| value)
    }

    /// The number in the property `identifier`, if it is there.
    pub fn number(&self, identifier: u8) -> Option<u32> {
        self.property(identifier).map(Value::number)
    }

    /// All Subscription Identifiers, sorted.
    pub fn subscription_identifiers(&self) -> Vec<u32> {
        let of_them = self
            .properties
            .iter()
            .filter(|(found, _)| *found == property::SUBSCRIPTION_IDENTIFIER);
        let mut identifiers: Vec<u32> = of_them.map(|(_, value)| value.number()).collect();
        identifiers.sort_unstable();
        identifiers
    }

    /// The payload as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("a payload of text")
    }
}

/// Bytes of the fixed header, and Remaining Length, if they are there.
fn remaining_length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut length = 0;
    for (index, byte) in bytes.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            assert!(
                *byte != 0 || index == 0,
                "the broker sent a Remaining Length that is longer than needed"
            );
            return Some((index + 2, length));
        }
        assert!(
            index < 3,
            "the broker sent a Remaining Length of more than four bytes"
        );
    }
    None
}
