//! The Control Packets (chapter 3), one file each.

pub mod acknowledgement;
pub mod auth;
pub mod connack;
pub mod connect;
pub mod disconnect;
pub mod publish;
pub mod suback;
pub mod subscribe;
pub mod unsubscribe;

use super::data_types::{ProtocolVersion, Role, put_variable_byte_integer, wire_length};
use super::error::DecodeError;
use super::frame::Frame;

use acknowledgement::Acknowledgement;
use auth::Auth;
use connack::ConnAck;
use connect::Connect;
use disconnect::Disconnect;
use publish::Publish;
use suback::{SubAck, UnsubAck};
use subscribe::Subscribe;
use unsubscribe::Unsubscribe;

/// Control Packet types (2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Connection request.
    Connect = 1,
    /// Connect acknowledgment.
    ConnAck = 2,
    /// Publish message.
    Publish = 3,
    /// Publish acknowledgment (QoS 1).
    PubAck = 4,
    /// Publish received (QoS 2, part 1).
    PubRec = 5,
    /// Publish release (QoS 2, part 2).
    PubRel = 6,
    /// Publish complete (QoS 2, part 3).
    PubComp = 7,
    /// Subscribe request.
    Subscribe = 8,
    /// Subscribe acknowledgment.
    SubAck = 9,
    /// Unsubscribe request.
    Unsubscribe = 10,
    /// Unsubscribe acknowledgment.
    UnsubAck = 11,
    /// PING request.
    PingReq = 12,
    /// PING response.
    PingResp = 13,
    /// Disconnect notification.
    Disconnect = 14,
    /// Authentication exchange.
    Auth = 15,
}

impl PacketType {
    /// The type of the upper four bits of the first byte; 0 is none.
    #[inline]
    pub fn from_bits(bits: u8) -> Option<Self> {
        const TYPES: [PacketType; 15] = [
            PacketType::Connect,
            PacketType::ConnAck,
            PacketType::Publish,
            PacketType::PubAck,
            PacketType::PubRec,
            PacketType::PubRel,
            PacketType::PubComp,
            PacketType::Subscribe,
            PacketType::SubAck,
            PacketType::Unsubscribe,
            PacketType::UnsubAck,
            PacketType::PingReq,
            PacketType::PingResp,
            PacketType::Disconnect,
            PacketType::Auth,
        ];
        TYPES.get(usize::from(bits).wrapping_sub(1)).copied()
    }

    /// The first byte of a packet of this type, without PUBLISH's flags.
    #[inline]
    pub fn first_byte(self) -> u8 {
        let flags = match self {
            Self::PubRel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }
}

/// Any Control Packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// CONNECT.
    Connect(Box<Connect<'a>>),
    /// CONNACK.
    ConnAck(Box<ConnAck<'a>>),
    /// PUBLISH.
    Publish(Publish<'a>),
    /// PUBACK.
    PubAck(Acknowledgement<'a>),
    /// PUBREC.
    PubRec(Acknowledgement<'a>),
    /// PUBREL.
    PubRel(Acknowledgement<'a>),
    /// PUBCOMP.
    PubComp(Acknowledgement<'a>),
    /// SUBSCRIBE.
    Subscribe(Subscribe<'a>),
    /// SUBACK.
    SubAck(SubAck<'a>),
    /// UNSUBSCRIBE.
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK.
    UnsubAck(UnsubAck<'a>),
    /// PINGREQ.
    PingReq,
    /// PINGRESP.
    PingResp,
    /// DISCONNECT.
    Disconnect(Disconnect<'a>),
    /// AUTH.
    Auth(Auth<'a>),
}

impl<'a> Packet<'a> {
    /// Decodes a packet that `sender` sent on a connection of `version`; CONNECT brings its own version.
    ///
    /// # Errors
    /// What is wrong with the packet.
    #[inline]
    pub fn decode(
        frame: &Frame<'a>,
        version: ProtocolVersion,
        sender: Role,
    ) -> Result<Self, DecodeError> {
        let packet_type = frame.packet_type()?;
        let acknowledgement = |wrap: fn(Acknowledgement<'a>) -> Self| {
            Acknowledgement::decode(frame, version, packet_type).map(wrap)
        };
        match packet_type {
            PacketType::Publish => Publish::decode(frame, version, sender).map(Self::Publish),
            PacketType::PubAck => acknowledgement(Self::PubAck),
            PacketType::PubRec => acknowledgement(Self::PubRec),
            PacketType::PubRel => acknowledgement(Self::PubRel),
            PacketType::PubComp => acknowledgement(Self::PubComp),
            PacketType::PingReq => empty(frame).map(|()| Self::PingReq),
            PacketType::PingResp => empty(frame).map(|()| Self::PingResp),
            PacketType::Connect => {
                Connect::decode(frame).map(|connect| Self::Connect(Box::new(connect)))
            }
            PacketType::ConnAck => {
                ConnAck::decode(frame, version).map(|connack| Self::ConnAck(Box::new(connack)))
            }
            PacketType::Subscribe => Subscribe::decode(frame, version).map(Self::Subscribe),
            PacketType::SubAck => SubAck::decode(frame, version).map(Self::SubAck),
            PacketType::Unsubscribe => Unsubscribe::decode(frame, version).map(Self::Unsubscribe),
            PacketType::UnsubAck => UnsubAck::decode(frame, version).map(Self::UnsubAck),
            PacketType::Disconnect => {
                Disconnect::decode(frame, version, sender).map(Self::Disconnect)
            }
            PacketType::Auth => Auth::decode(frame, version).map(Self::Auth),
        }
    }

    /// Appends the packet for a connection of `version`.
    pub fn encode(&self, version: ProtocolVersion, out: &mut Vec<u8>) {
        match self {
            Self::Connect(connect) => connect.encode(out),
            Self::ConnAck(connack) => connack.encode(version, out),
            Self::Publish(publish) => publish.encode(version, out),
            Self::PubAck(ack) => ack.encode(version, PacketType::PubAck, out),
            Self::PubRec(ack) => ack.encode(version, PacketType::PubRec, out),
            Self::PubRel(ack) => ack.encode(version, PacketType::PubRel, out),
            Self::PubComp(ack) => ack.encode(version, PacketType::PubComp, out),
            Self::Subscribe(subscribe) => subscribe.encode(version, out),
            Self::SubAck(suback) => suback.encode(version, out),
            Self::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Self::UnsubAck(unsuback) => unsuback.encode(version, out),
            Self::PingReq => out.extend_from_slice(&[PacketType::PingReq.first_byte(), 0]),
            Self::PingResp => out.extend_from_slice(&PINGRESP),
            Self::Disconnect(disconnect) => disconnect.encode(version, out),
            Self::Auth(auth) => auth.encode(out),
        }
    }
}

/// PINGREQ, whole (3.12).
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// PINGRESP, whole (3.13).
pub const PINGRESP: [u8; 2] = [0xd0, 0];

fn empty(frame: &Frame<'_>) -> Result<(), DecodeError> {
    match frame.body.is_empty() {
        true => Ok(()),
        false => Err(DecodeError::MalformedPacket(
            "PINGREQ and PINGRESP have no content",
        )),
    }
}

/// Appends a packet whose body `encode` writes, with its fixed header in front.
pub(crate) fn encode_packet(out: &mut Vec<u8>, first_byte: u8, encode: impl FnOnce(&mut Vec<u8>)) {
    let mut body = Vec::with_capacity(64);
    encode(&mut body);
    out.push(first_byte);
    put_variable_byte_integer(out, wire_length(body.len()));
    out.extend_from_slice(&body);
}
