//! What can be wrong with received bytes, and the Reason Code that says so.
//!
//! The one place that maps a fault to the wire. [`DecodeError`] is always the sender's fault.

use super::reason_code::ReasonCode;

/// Why a packet cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes do not follow the format (1.2, Malformed Packet).
    #[error("Malformed Packet: {0}")]
    MalformedPacket(&'static str),
    /// The format is right and the content is not allowed (1.2, Protocol Error).
    #[error("Protocol Error: {0}")]
    ProtocolError(&'static str),
    /// CONNECT names a protocol or level that is not served.
    #[error("Unsupported Protocol Version: protocol level {0}")]
    UnsupportedProtocolVersion(u8),
    /// A Topic Name with a wildcard, or empty [MQTT-3.3.2-2].
    #[error("Topic Name invalid: {0}")]
    TopicNameInvalid(&'static str),
    /// A Topic Alias of 0 [MQTT-3.3.2-8].
    #[error("Topic Alias invalid: it is 0")]
    TopicAliasInvalid,
    /// A packet over the limit [MQTT-3.2.2-15].
    #[error("Packet too large: {packet_bytes} bytes, the limit is {packet_bytes_max}")]
    PacketTooLarge {
        /// The whole packet, bytes.
        packet_bytes: usize,
        /// The listener's limit, bytes.
        packet_bytes_max: usize,
    },
}

impl DecodeError {
    /// The Reason Code for CONNACK or DISCONNECT (4.13).
    pub fn reason_code(&self) -> ReasonCode {
        match self {
            Self::MalformedPacket(_) => ReasonCode::MalformedPacket,
            Self::ProtocolError(_) => ReasonCode::ProtocolError,
            Self::UnsupportedProtocolVersion(_) => ReasonCode::UnsupportedProtocolVersion,
            Self::TopicNameInvalid(_) => ReasonCode::TopicNameInvalid,
            Self::TopicAliasInvalid => ReasonCode::TopicAliasInvalid,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
        }
    }

    /// What is wrong, without the numbers.
    pub fn cause(&self) -> &'static str {
        match self {
            Self::MalformedPacket(cause)
            | Self::ProtocolError(cause)
            | Self::TopicNameInvalid(cause) => cause,
            Self::UnsupportedProtocolVersion(_) => "the protocol name or level is not supported",
            Self::TopicAliasInvalid => "a Topic Alias is 0",
            Self::PacketTooLarge { .. } => {
                "the packet is larger than packet_bytes_max of its listener"
            }
        }
    }
}
