//! Packets of the server: written by the broker's encoder, read by the tests' own parser, and by its decoder.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use ringmq::mqtt::data_types::Reader;
use ringmq::mqtt::data_types::{PacketIdentifier, QoS, Role};
use ringmq::mqtt::packet::acknowledgement::Acknowledgement;
use ringmq::mqtt::packet::auth::Auth;
use ringmq::mqtt::packet::connack::ConnAck;
use ringmq::mqtt::packet::disconnect::Disconnect;
use ringmq::mqtt::packet::publish::PublishOut;
use ringmq::mqtt::packet::suback::{SubAck, UnsubAck};
use ringmq::mqtt::packet::{Packet, PacketType};
use ringmq::mqtt::properties::{Carrier, Properties, encode_user_properties, user_properties_of};
use ringmq::mqtt::reason_code::{REASON_CODES, ReasonCode};

use crate::any;
use crate::from_clients::{of, sorted, whole};
use crate::support::packet::Packet as Read;
use crate::support::property::{Property, write};
use crate::support::{Kind, Version};

/// Encodes, parses with the tests' own parser, and shows that the broker's decoder reads the same.
fn sent(packet: &Packet<'_>, version: Version) -> Read {
    let mut bytes = Vec::new();
    packet.encode(of(version), &mut bytes);
    let read = Read::parse(version, &bytes).expect("a whole packet");
    assert_eq!(read.packet_bytes, bytes.len());
    let decoded = Packet::decode(&whole(&bytes), of(version), Role::Server).expect("it is allowed");
    let mut again = Vec::new();
    decoded.encode(of(version), &mut again);
    assert_eq!(again, bytes, "{decoded:?}");
    read
}

/// The broker's form of `properties`, from the bytes that the tests write.
fn with_properties(
    properties: &[Property],
    carrier: Carrier,
    use_them: impl FnOnce(Properties<'_>),
) {
    let mut bytes = Vec::new();
    write(&mut bytes, properties);
    use_them(Properties::decode(&mut Reader::new(&bytes), carrier).expect("they are allowed"));
}

fn number(identifier: u16) -> PacketIdentifier {
    PacketIdentifier::new(identifier).expect("not 0")
}

/// What a 3.1.1 or 3.1 packet has of it.
fn in_version(version: Version, properties: &[Property]) -> Vec<Property> {
    match version {
        Version::V5 => sorted(properties),
        _ => Vec::new(),
    }
}

const CONNACK: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1a, 0x1c, 0x1f, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
    0x2a,
];

proptest! {
    #[test]
    fn connack_says_what_it_was_told(
        version in any::version(),
        session_present: bool,
        code in select(REASON_CODES),
        mut properties in any::properties(CONNACK),
    ) {
        if !properties.iter().any(|(id, _)| *id == 0x15) {
            properties.retain(|(id, _)| *id != 0x16);
        }
        with_properties(&properties, Carrier::ConnAck, |decoded| {
            let connack = ConnAck { session_present, reason_code: code, properties: decoded };
            if !connack.exists_in(of(version)) {
                return;
            }
            let read = sent(&Packet::ConnAck(Box::new(connack)), version);
            assert_eq!(read.kind, Kind::ConnAck);
            // 3.1 has no Session Present.
            assert_eq!(read.session_present, session_present && version != Version::V31);
            assert_eq!(sorted(&read.properties), in_version(version, &properties));
            match version {
                Version::V5 => assert_eq!(read.code, code as u8),
                _ => assert_eq!(read.code == 0, !code.is_error(), "{code:?} became {}", read.code),
            }
        });
    }

    #[test]
    fn publish_says_what_it_was_told(
        version in any::version(),
        parts in any::publish(&[0x01, 0x03, 0x08, 0x09, 0x26]),
        expiry in proptest::option::of(any::<u32>()),
        alias in proptest::option::of(1..=u16::MAX),
        subscriptions in vec(1..=268_435_455_u32, 0..4),
    ) {
        let mut forwarded = Vec::new();
        write(&mut forwarded, &parts.properties);
        let content = {
            let mut reader = Reader::new(&forwarded);
            let length = reader.variable_byte_integer().expect("a length");
            reader.take(length as usize).expect("properties").to_vec()
        };
        let out = PublishOut {
            dup: parts.dup,
            qos: QoS::from_bits(parts.qos).expect("below 3"),
            retain: parts.retain,
            topic_name: &parts.topic,
            packet_identifier: (parts.qos > 0).then(|| number(parts.identifier)),
            message_expiry_interval_s: expiry,
            topic_alias: alias.and_then(std::num::NonZeroU16::new),
            subscription_identifiers: &subscriptions,
            forwarded_properties: &content,
            payload: &parts.payload,
        };
        let mut bytes = Vec::new();
        out.encode(of(version), &mut bytes);
        prop_assert_eq!(bytes.len(), out.packet_bytes(of(version)));
        if parts.qos > 0 {
            let at = out.packet_identifier_offset(of(version));
            prop_assert_eq!(&bytes[at..at + 2], &parts.identifier.to_be_bytes()[..]);
        }
        let read = Read::parse(version, &bytes).expect("a whole packet");
        prop_assert_eq!(&read.topic, &parts.topic);
        prop_assert_eq!(&read.payload, &parts.payload);
        prop_assert_eq!((read.qos, read.retain, read.dup), (parts.qos, parts.retain, parts.dup));
        prop_assert_eq!(read.identifier, if parts.qos > 0 { parts.identifier } else { 0 });
        if version == Version::V5 {
            prop_assert_eq!(read.number(0x02), expiry);
            prop_assert_eq!(read.number(0x23), alias.map(u32::from));
            let mut identifiers = subscriptions.clone();
            identifiers.sort_unstable();
            prop_assert_eq!(read.subscription_identifiers(), identifiers);
            let passed_on: Vec<Property> = read
                .properties
                .iter()
                .filter(|(id, _)| !matches!(id, 0x02 | 0x0b | 0x23))
                .cloned()
                .collect();
            prop_assert_eq!(passed_on, parts.properties);
        } else {
            prop_assert!(read.properties.is_empty());
        }
        let decoded = Packet::decode(&whole(&bytes), of(version), Role::Server);
        let mut again = Vec::new();
        decoded.expect("it is allowed").encode(of(version), &mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn acknowledgements_say_what_they_were_told(
        version in any::version(),
        kind in select(&[Kind::PubAck, Kind::PubRec, Kind::PubRel, Kind::PubComp][..]),
        identifier in any::identifier(),
        failed: bool,
        properties in any::properties(&[0x1f, 0x26]),
    ) {
        let code = match (failed, kind) {
            (false, _) => ReasonCode::Success,
            (true, Kind::PubRel | Kind::PubComp) => ReasonCode::PacketIdentifierNotFound,
            (true, _) => ReasonCode::NotAuthorized,
        };
        with_properties(&properties, Carrier::Acknowledgement, |decoded| {
            let ack = Acknowledgement {
                packet_identifier: number(identifier),
                reason_code: code,
                properties: Some(decoded),
            };
            let packet = match kind {
                Kind::PubAck => Packet::PubAck(ack),
                Kind::PubRec => Packet::PubRec(ack),
                Kind::PubRel => Packet::PubRel(ack),
                _ => Packet::PubComp(ack),
            };
            let read = sent(&packet, version);
            assert_eq!((read.kind, read.identifier), (kind, identifier));
            let expected = if version == Version::V5 { code as u8 } else { 0 };
            assert_eq!(read.code, expected);
            assert_eq!(sorted(&read.properties), in_version(version, &properties));
        });
    }

    #[test]
    fn suback_and_unsuback_say_what_they_were_told(
        version in any::version(),
        identifier in any::identifier(),
        codes in vec(select(&[0x00_u8, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x97, 0x9e, 0xa1, 0xa2][..]), 1..40),
        properties in any::properties(&[0x1f, 0x26]),
    ) {
        let reason_codes: Vec<ReasonCode> =
            codes.iter().map(|code| ReasonCode::try_from(*code).expect("a code")).collect();
        with_properties(&properties, Carrier::Acknowledgement, |decoded| {
            let suback = SubAck {
                packet_identifier: number(identifier),
                reason_codes: reason_codes.clone(),
                properties: decoded,
            };
            let read = sent(&Packet::SubAck(suback), version);
            let expected: Vec<u8> = match version {
                Version::V5 => codes.clone(),
                _ => codes.iter().map(|code| (*code).min(0x80)).collect(),
            };
            assert_eq!((read.kind, read.identifier), (Kind::SubAck, identifier));
            assert_eq!(read.codes, expected);
            assert_eq!(sorted(&read.properties), in_version(version, &properties));
            let unsuback = UnsubAck {
                packet_identifier: number(identifier),
                reason_codes,
                properties: decoded,
            };
            let read = sent(&Packet::UnsubAck(unsuback), version);
            assert_eq!((read.kind, read.identifier), (Kind::UnsubAck, identifier));
            assert_eq!(read.codes, if version == Version::V5 { codes } else { Vec::new() });
        });
    }

    #[test]
    fn disconnect_and_auth_say_what_they_were_told(
        code in select(REASON_CODES),
        properties in any::properties(&[0x11, 0x1c, 0x1f, 0x26]),
        mut of_auth in any::properties(&[0x15, 0x16, 0x1f, 0x26]),
    ) {
        with_properties(&properties, Carrier::Disconnect, |decoded| {
            let disconnect = Disconnect { reason_code: code, properties: decoded };
            let read = sent(&Packet::Disconnect(disconnect), Version::V5);
            assert_eq!((read.kind, read.code), (Kind::Disconnect, code as u8));
            assert_eq!(sorted(&read.properties), sorted(&properties));
        });
        if !of_auth.iter().any(|(id, _)| *id == 0x15) {
            of_auth.retain(|(id, _)| *id != 0x16);
        }
        with_properties(&of_auth, Carrier::Auth, |decoded| {
            let reason_code = ReasonCode::ContinueAuthentication;
            let read = sent(&Packet::Auth(Auth { reason_code, properties: decoded }), Version::V5);
            assert_eq!((read.kind, read.code), (Kind::Auth, 0x18));
            assert_eq!(sorted(&read.properties), sorted(&of_auth));
        });
    }

    #[test]
    fn user_properties_keep_their_order(pairs in vec((any::text(), any::text()), 0..20)) {
        let borrowed: Vec<(&str, &str)> =
            pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let content = encode_user_properties(&borrowed);
        let found = user_properties_of(&content);
        prop_assert_eq!(found.len(), pairs.len());
        prop_assert_eq!(found.iter().collect::<Vec<_>>(), borrowed);
    }
}

#[test]
fn packets_without_content_are_two_bytes() {
    for version in [Version::V31, Version::V311, Version::V5] {
        assert_eq!(sent(&Packet::PingResp, version).kind, Kind::PingResp);
    }
    for (packet, bytes) in [
        (Packet::PingReq, [0xc0, 0]),
        (Packet::PingResp, [0xd0, 0]),
        (
            Packet::Disconnect(Disconnect::new(ReasonCode::Success)),
            [0xe0, 0],
        ),
    ] {
        let mut out = Vec::new();
        packet.encode(of(Version::V5), &mut out);
        assert_eq!(out, bytes);
    }
    assert_eq!(PacketType::from_bits(0), None);
}
