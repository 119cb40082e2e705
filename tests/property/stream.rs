//! The stream: packets are found however it is cut, and nothing that is sent makes the decoder fail.

use proptest::collection::vec;
use proptest::prelude::*;
use ringmq::mqtt::data_types::Role;
use ringmq::mqtt::frame::{Framing, frame};
use ringmq::mqtt::packet::Packet;
use ringmq::mqtt::packet::connect::Connect;

use crate::any;
use crate::from_clients::of;

/// The packets that a receiver finds when `bytes` come in `pieces`, whose lengths are taken in turn.
fn received(bytes: &[u8], pieces: &[usize]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut carry: Vec<u8> = Vec::new();
    let mut rest = bytes;
    for length in pieces.iter().cycle() {
        let (piece, tail) = rest.split_at((*length).min(rest.len()));
        rest = tail;
        carry.extend_from_slice(piece);
        while let Ok(Framing::Complete(frame)) = frame(&carry, usize::MAX) {
            let packet_bytes = frame.packet_bytes;
            found.push(carry.drain(..packet_bytes).collect());
        }
        if rest.is_empty() {
            break;
        }
    }
    assert!(carry.is_empty(), "{} bytes are left", carry.len());
    found
}

proptest! {
    #[test]
    fn packets_are_found_however_the_stream_is_cut(
        (version, packets) in any::version()
            .prop_flat_map(|version| (Just(version), vec(any::client_packet(version), 1..8))),
        pieces in vec(1..40_usize, 1..10),
    ) {
        let stream = packets.concat();
        prop_assert_eq!(&received(&stream, &pieces), &packets);
        for packet in &packets {
            let frame = crate::from_clients::whole(packet);
            prop_assert!(Packet::decode(&frame, of(version), Role::Client).is_ok());
        }
    }

    #[test]
    fn a_packet_is_not_whole_before_its_last_byte(
        packet in any::version().prop_flat_map(any::client_packet),
    ) {
        for end in 0..packet.len() {
            match frame(&packet[..end], usize::MAX) {
                Ok(Framing::Incomplete { packet_bytes }) => {
                    prop_assert!(packet_bytes.is_none_or(|bytes| bytes == packet.len()));
                }
                other => prop_assert!(false, "{other:?} of {end} bytes"),
            }
        }
        // Over the limit by one byte is over the limit; exactly at it is not.
        prop_assert!(frame(&packet, packet.len()).is_ok());
        prop_assert!(frame(&packet, packet.len() - 1).is_err());
    }

    #[test]
    fn a_cut_body_is_never_taken_for_the_whole(
        (version, packet) in any::version()
            .prop_flat_map(|version| (Just(version), any::request(version))),
        pieces in 1..3_usize,
    ) {
        // The same header with a shorter length and a shorter body.
        let frame = crate::from_clients::whole(&packet);
        let body = &frame.body[..frame.body.len() - pieces];
        let mut short = vec![frame.first_byte];
        crate::support::property::write_variable(&mut short, body.len() as u32);
        short.extend(body);
        let cut = crate::from_clients::whole(&short);
        if let Ok(packet) = Packet::decode(&cut, of(version), Role::Client) {
            // Then it ended between two filters, and says less.
            let fewer = matches!(packet, Packet::Subscribe(_) | Packet::Unsubscribe(_));
            prop_assert!(fewer, "{packet:?}");
        }
    }

    #[test]
    fn no_bytes_make_the_decoder_fail(bytes in vec(any::<u8>(), 0..80), version in any::version()) {
        decode_all(&bytes, version);
    }

    #[test]
    fn no_broken_packet_makes_the_decoder_fail(
        (version, bytes) in any::version()
            .prop_flat_map(|version| (Just(version), any::broken_packet(version))),
    ) {
        decode_all(&bytes, version);
    }
}

/// Decodes whatever `bytes` are as both sides would; what is taken can be written and says the same again.
fn decode_all(bytes: &[u8], version: crate::support::Version) {
    let Ok(Framing::Complete(found)) = frame(bytes, 1 << 20) else {
        return;
    };
    let _ = Connect::decode(&found);
    for role in [Role::Client, Role::Server] {
        let Ok(packet) = Packet::decode(&found, of(version), role) else {
            continue;
        };
        let mut once = Vec::new();
        packet.encode(of(version), &mut once);
        let again = crate::from_clients::whole(&once);
        // CONNECT brings its own version; everything else is read as before.
        let second = Packet::decode(&again, of(version), role).expect("what was taken is written");
        let mut twice = Vec::new();
        second.encode(of(version), &mut twice);
        assert_eq!(once, twice, "{packet:?}");
    }
}
