//! Every Control Packet in all versions, from either side: what is taken is written, read and written as the
//! same; and a packet of a server is what the tests' own reader takes for one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq::mqtt::data_types::{ProtocolVersion, Role};
use ringmq::mqtt::frame::Frame;
use ringmq::mqtt::packet::Packet;
use ringmq_fuzz::packet::{Packet as OwnPacket, packet};
use ringmq_fuzz::{Input, VERSIONS, limit_for, own, whole, within};

/// Whether a server may send it.
fn is_of_servers(packet: &Packet<'_>, version: ProtocolVersion) -> bool {
    match packet {
        Packet::Connect(_) | Packet::Subscribe(_) | Packet::Unsubscribe(_) | Packet::PingReq => {
            false
        }
        Packet::Disconnect(_) => version.is_v5(),
        _ => true,
    }
}

fn check(frame: &Frame<'_>, version: ProtocolVersion, sender: Role) {
    let Ok(packet) = Packet::decode(frame, version, sender) else {
        return;
    };
    let mut once = Vec::new();
    packet.encode(version, &mut once);
    let again = whole(&once);
    let second = Packet::decode(&again, version, sender).expect("what was taken is written");
    let mut twice = Vec::new();
    second.encode(version, &mut twice);
    assert_eq!(once, twice, "{packet:?}");
    if sender == Role::Server && is_of_servers(&packet, version) {
        assert!(OwnPacket::parse(own(version), &once).is_some());
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let first_byte = input.byte();
    // Its length is right, so that the content is reached.
    let bytes = packet(first_byte, input.0);
    let frame = whole(&bytes);
    for version in VERSIONS {
        for sender in [Role::Client, Role::Server] {
            within(limit_for(&bytes), || check(&frame, version, sender));
        }
    }
});
