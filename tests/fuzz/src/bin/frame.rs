//! A stream in pieces: the packets in it are those that its bytes say, and no others.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq::mqtt::frame::{Framing, frame};
use ringmq_fuzz::Input;

const PACKET_BYTES_MAX: usize = 1000;

/// Fixed header and whole length of the packet at the front, as 2.1.4 defines it; none if it is not there
/// yet, an error if it cannot be.
fn defined(bytes: &[u8]) -> Result<Option<usize>, ()> {
    let mut value = 0;
    for (place, byte) in bytes.iter().skip(1).enumerate() {
        value += usize::from(byte & 127) * 128_usize.pow(place as u32);
        match byte {
            0 if place > 0 => return Err(()),
            0..128 => return Ok(Some(2 + place + value)),
            _ if place == 3 => return Err(()),
            _ => {}
        }
    }
    Ok(None)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let mut carry = Vec::new();
    while !input.is_empty() {
        carry.extend_from_slice(input.bytes());
        loop {
            let found = frame(&carry, PACKET_BYTES_MAX);
            match (found, defined(&carry)) {
                (Ok(Framing::Complete(frame)), Ok(Some(length))) => {
                    assert_eq!(frame.packet_bytes, length);
                    assert!(length <= PACKET_BYTES_MAX && length <= carry.len());
                    assert_eq!(frame.first_byte, carry[0]);
                    assert!(carry[..length].ends_with(frame.body));
                    carry.drain(..length);
                }
                (Ok(Framing::Incomplete { packet_bytes }), Ok(length)) => {
                    assert_eq!(packet_bytes, length);
                    assert!(length.is_none_or(|length| length > carry.len()));
                    break;
                }
                (Err(_), Ok(Some(length))) => {
                    assert!(length > PACKET_BYTES_MAX);
                    return;
                }
                (Err(_), Err(())) => return,
                (found, defined) => panic!("{found:?}, but it is {defined:?}: {carry:02x?}"),
            }
        }
    }
});
