//! Packets of clients: written by the tests' own encoder, read by the broker's decoder, and back.

use proptest::prelude::*;
use ringmq::mqtt::data_types::{ProtocolVersion, Role};
use ringmq::mqtt::frame::{Frame, Framing, frame};
use ringmq::mqtt::packet::Packet;
use ringmq::mqtt::packet::connect::Connect;
use ringmq::mqtt::properties::Properties;

use crate::any;
use crate::support::packet::{acknowledgement_with, disconnect, unsubscribe};
use crate::support::property::{self, Property, Value, write};
use crate::support::{Kind, Subscribe, Version};

/// The library's name of a version.
pub fn of(version: Version) -> ProtocolVersion {
    match version {
        Version::V31 => ProtocolVersion::V3_1,
        Version::V311 => ProtocolVersion::V3_1_1,
        Version::V5 => ProtocolVersion::V5,
    }
}

/// The one whole packet that `bytes` are.
pub fn whole(bytes: &[u8]) -> Frame<'_> {
    match frame(bytes, usize::MAX) {
        Ok(Framing::Complete(frame)) if frame.packet_bytes == bytes.len() => frame,
        other => panic!("{other:?} of {bytes:02x?}"),
    }
}

/// Decodes, and shows that encoding gives a packet that says the same.
fn decoded(bytes: &[u8], version: Version, look: impl FnOnce(&Packet<'_>)) {
    let packet = Packet::decode(&whole(bytes), of(version), Role::Client).expect("it is allowed");
    let mut again = Vec::new();
    packet.encode(of(version), &mut again);
    // Properties may stand in another order.
    assert_eq!(again.len(), bytes.len(), "{packet:?}");
    let second = Packet::decode(&whole(&again), of(version), Role::Client).expect("it is encoded");
    let mut third = Vec::new();
    second.encode(of(version), &mut third);
    assert_eq!(again, third);
    look(&packet);
}

/// The properties of `found` as the tests write them, sorted.
pub fn listed(found: &Properties<'_>) -> Vec<Property> {
    let mut bytes = Vec::new();
    found.encode(&mut bytes);
    sorted(&property::Fields(&bytes).properties())
}

/// By identifier; User Properties keep their order.
pub fn sorted(properties: &[Property]) -> Vec<Property> {
    let mut sorted = properties.to_vec();
    sorted.sort_by_key(|(id, _)| *id);
    sorted
}

/// What is there in `version`.
fn in_version(version: Version, properties: &[Property]) -> Vec<Property> {
    match version {
        Version::V5 => sorted(properties),
        _ => Vec::new(),
    }
}

proptest! {
    #[test]
    fn connect_is_read_as_it_was_written(parts in any::connect()) {
        let bytes = parts.packet().bytes();
        let connect = Connect::decode(&whole(&bytes)).expect("it is allowed");
        prop_assert_eq!(connect.protocol_version, of(parts.version));
        prop_assert_eq!(connect.client_identifier, &parts.client_identifier);
        prop_assert_eq!(connect.clean_start, parts.clean_start);
        prop_assert_eq!(connect.keep_alive_s, parts.keep_alive_s);
        prop_assert_eq!(connect.user_name, parts.user_name.as_deref());
        prop_assert_eq!(connect.password, parts.password.as_deref());
        prop_assert_eq!(
            listed(&connect.properties),
            in_version(parts.version, &parts.properties)
        );
        prop_assert_eq!(connect.will.is_some(), parts.will.is_some());
        if let (Some(will), Some((topic, payload, qos, retain, properties))) =
            (&connect.will, &parts.will)
        {
            prop_assert_eq!((will.topic, will.payload), (topic.as_str(), payload.as_slice()));
            prop_assert_eq!((will.qos as u8, will.retain), (*qos, *retain));
            prop_assert_eq!(
                listed(&will.properties),
                in_version(parts.version, properties)
            );
        }
        let mut again = Vec::new();
        connect.encode(&mut again);
        prop_assert_eq!(again.len(), bytes.len());
        let second = Connect::decode(&whole(&again)).expect("it is encoded");
        let mut third = Vec::new();
        second.encode(&mut third);
        prop_assert_eq!(again, third);
    }

    #[test]
    fn publish_is_read_as_it_was_written(
        version in any::version(),
        parts in any::publish(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26]),
    ) {
        let bytes = parts.packet().bytes(version);
        decoded(&bytes, version, |packet| {
            let Packet::Publish(publish) = packet else { panic!("{packet:?}") };
            assert_eq!(publish.topic_name, parts.topic);
            assert_eq!(publish.payload, parts.payload);
            assert_eq!(publish.qos as u8, parts.qos);
            assert_eq!((publish.retain, publish.dup), (parts.retain, parts.dup));
            let identifier = publish.packet_identifier.map(|identifier| identifier.get());
            assert_eq!(identifier, (parts.qos > 0).then_some(parts.identifier));
            let properties = in_version(version, &parts.properties);
            let number = |id| {
                let found = properties.iter().find(|(other, _)| *other == id);
                found.map(|(_, value)| value.number())
            };
            let read = &publish.properties;
            assert_eq!(read.payload_format_indicator.map(u32::from), number(0x01));
            assert_eq!(read.message_expiry_interval_s, number(0x02));
            assert_eq!(read.topic_alias.map(|alias| alias.get().into()), number(0x23));
            // All but expiry and alias goes on, in the order of the packet.
            let forwarded: Vec<Property> = match version {
                Version::V5 => parts.properties.clone(),
                _ => Vec::new(),
            };
            let forwarded: Vec<Property> = forwarded
                .into_iter()
                .filter(|(id, _)| !matches!(id, 0x02 | 0x23))
                .collect();
            let mut expected = Vec::new();
            write(&mut expected, &forwarded);
            let mut scratch = Vec::new();
            let found = read.forwarded(&mut scratch);
            assert!(expected.ends_with(found), "{found:02x?} of {expected:02x?}");
            let mut length = Vec::new();
            property::write_variable(&mut length, found.len() as u32);
            assert_eq!(expected.len(), length.len() + found.len());
        });
    }

    #[test]
    fn subscribe_is_read_as_it_was_written(
        (version, filters) in any::version()
            .prop_flat_map(|version| (Just(version), any::subscriptions(version))),
        identifier in any::identifier(),
        properties in any::properties(&[0x0b, 0x26]),
    ) {
        let mut subscribe = Subscribe::default();
        for (filter, options) in &filters {
            subscribe = subscribe.and(filter, *options);
        }
        for (id, value) in &properties {
            subscribe = subscribe.property(*id, value.clone());
        }
        decoded(&subscribe.bytes(version, identifier), version, |packet| {
            let Packet::Subscribe(subscribe) = packet else { panic!("{packet:?}") };
            assert_eq!(subscribe.packet_identifier.get(), identifier);
            let found: Vec<(String, u8)> = subscribe
                .filters()
                .map(|(filter, options)| (filter.to_owned(), options.to_byte()))
                .collect();
            assert_eq!(found, filters);
            assert_eq!(listed(&subscribe.properties), in_version(version, &properties));
        });
    }

    #[test]
    fn unsubscribe_is_read_as_it_was_written(
        version in any::version(),
        filters in proptest::collection::vec(any::filter(), 1..6),
        identifier in any::identifier(),
    ) {
        let names: Vec<&str> = filters.iter().map(String::as_str).collect();
        decoded(&unsubscribe(version, identifier, &names), version, |packet| {
            let Packet::Unsubscribe(unsubscribe) = packet else { panic!("{packet:?}") };
            assert_eq!(unsubscribe.packet_identifier.get(), identifier);
            assert_eq!(unsubscribe.filters().collect::<Vec<_>>(), names);
        });
    }

    #[test]
    fn acknowledgements_are_read_as_they_were_written(
        kind in proptest::sample::select(&[Kind::PubAck, Kind::PubRec, Kind::PubRel, Kind::PubComp][..]),
        identifier in any::identifier(),
        code in proptest::sample::select(&[0x10_u8, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99][..]),
        properties in any::properties(&[0x1f, 0x26]),
    ) {
        let code = match kind {
            Kind::PubRel | Kind::PubComp => 0x92,
            _ => code,
        };
        let mut bytes = acknowledgement_with(kind, identifier, code);
        if !properties.is_empty() {
            write(&mut bytes, &properties);
            let body = bytes.split_off(2);
            bytes.truncate(1);
            property::write_variable(&mut bytes, body.len() as u32);
            bytes.extend(body);
        }
        decoded(&bytes, Version::V5, |packet| {
            let ack = match packet {
                Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => ack,
                other => panic!("{other:?}"),
            };
            assert_eq!(ack.packet_identifier.get(), identifier);
            assert_eq!(ack.reason_code as u8, code);
            assert_eq!(listed(&ack.properties.unwrap_or_default()), sorted(&properties));
        });
    }

    #[test]
    fn disconnect_is_read_as_it_was_written(
        code in proptest::sample::select(&[0x04_u8, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99][..]),
        properties in any::properties(&[0x11, 0x1f, 0x26]),
    ) {
        let mut bytes = disconnect(code, &properties);
        if properties.is_empty() {
            // The shortest form has no Property Length.
            bytes.truncate(3);
            bytes[1] = 1;
        }
        decoded(&bytes, Version::V5, |packet| {
            let Packet::Disconnect(disconnect) = packet else { panic!("{packet:?}") };
            assert_eq!(disconnect.reason_code as u8, code);
            assert_eq!(listed(&disconnect.properties), sorted(&properties));
        });
    }

    #[test]
    fn a_property_twice_is_never_taken(
        properties in any::properties(&[0x11, 0x17, 0x19, 0x21, 0x22, 0x27]),
    ) {
        let once = properties.iter().filter(|(id, _)| *id != property::USER_PROPERTY);
        prop_assume!(once.clone().next().is_some());
        let mut connect = crate::support::Connect::new("twice");
        for (id, value) in properties.iter().chain(once.take(1)) {
            connect = connect.property(*id, value.clone());
        }
        let bytes = connect.bytes();
        prop_assert!(Connect::decode(&whole(&bytes)).is_err());
        // User Property may come as often as it likes.
        let twice = (property::USER_PROPERTY, Value::Pair("a".into(), "b".into()));
        let connect = crate::support::Connect::new("twice")
            .property(twice.0, twice.1.clone())
            .property(twice.0, twice.1);
        let bytes = connect.bytes();
        prop_assert!(Connect::decode(&whole(&bytes)).is_ok());
    }
}
