//! Frames whole, in pieces, joined, and broken.

use super::*;

const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        // There are few.
        short @ 0..126 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&u16::try_from(long).unwrap().to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

fn opened() -> WebSocket {
    WebSocket {
        is_open: true,
        ..WebSocket::default()
    }
}

fn receive(socket: &mut WebSocket, bytes: &[u8]) -> (Result<Received, Fault>, Vec<u8>, Vec<u8>) {
    let (mut stream, mut wire) = (Vec::new(), Vec::new());
    let options = WebSocketOptions {
        frame_bytes_max: 1000,
        ..WebSocketOptions::default()
    };
    let result = socket.receive(&options, bytes, &mut stream, &mut wire, &mut None);
    (result, stream, wire)
}

#[test]
fn payloads_come_out_the_same_however_the_bytes_are_cut() {
    let long: Vec<u8> = (0..300u16).map(|n| (n % 251) as u8).collect();
    let bytes = [
        masked(0x02, b"one"),
        masked(0x00, b""),
        masked(0x89, b"are you there"),
        masked(0x80, &long),
        masked(0x82, b"two"),
        masked(0x8a, b"a pong of its own"),
    ]
    .concat();
    let wanted = [b"one", &long[..], b"two"].concat();
    for size in [1, 2, 3, 5, 7, 100, bytes.len()] {
        let mut socket = opened();
        let mut stream = Vec::new();
        for piece in bytes.chunks(size) {
            let (result, more, wire) = receive(&mut socket, piece);
            assert_eq!(result, Ok(Received::Open));
            assert!(wire.is_empty());
            stream.extend(more);
        }
        assert_eq!(stream, wanted, "pieces of {size}");
        let mut wire = Vec::new();
        socket.answer_ping(&mut wire);
        assert_eq!(wire, [b"\x8a\x0d", &b"are you there"[..]].concat());
        assert!(
            socket.kept.capacity() == 0 && socket.payload.is_none(),
            "idle holds nothing"
        );
    }
}

#[test]
fn only_the_last_of_many_pings_is_answered() {
    let mut socket = opened();
    for n in 0..100u8 {
        let (result, ..) = receive(&mut socket, &masked(0x89, &[n]));
        assert_eq!(result, Ok(Received::Open));
    }
    let mut wire = Vec::new();
    socket.answer_ping(&mut wire);
    socket.answer_ping(&mut wire);
    assert_eq!(wire, [0x8a, 1, 99]);
}

#[test]
fn a_close_is_answered_with_its_code() {
    let (result, _, wire) = receive(&mut opened(), &masked(0x88, b"\x03\xe9bye"));
    assert_eq!(
        (result, &wire[..]),
        (Ok(Received::Closed), &b"\x88\x02\x03\xe9"[..])
    );
    let (result, _, wire) = receive(&mut opened(), &masked(0x88, b""));
    assert_eq!(
        (result, &wire[..]),
        (Ok(Received::Closed), &b"\x88\x02\x03\xe8"[..])
    );
}

#[test]
fn what_breaks_the_rules_is_closed_with_the_code_that_says_so() {
    let huge = [
        &[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        &MASK,
    ]
    .concat();
    let cases: [(&str, Vec<u8>, u16); 12] = [
        ("no mask", vec![0x82, 1, b'a'], 1002),
        ("an extension", masked(0xc2, b"a"), 1002),
        ("a reserved frame", masked(0x83, b"a"), 1002),
        ("a reserved control frame", masked(0x8b, b"a"), 1002),
        ("text", masked(0x81, b"a"), 1003),
        ("a fragmented ping", masked(0x09, b"a"), 1002),
        ("a long ping", masked(0x89, &[0; 126]), 1002),
        ("a continuation of nothing", masked(0x80, b"a"), 1002),
        (
            "a message in a message",
            [masked(0x02, b"a"), masked(0x82, b"b")].concat(),
            1002,
        ),
        ("too large", masked(0x82, &[0; 1001]), 1009),
        ("much too large", huge, 1009),
        ("a code that is none", masked(0x88, &[0, 1]), 1002),
    ];
    for (what, bytes, code) in cases {
        let (result, _, wire) = receive(&mut opened(), &bytes);
        assert!(result.is_err(), "{what}");
        let close = [&[0x88, 2][..], &code.to_be_bytes()].concat();
        assert_eq!(wire, close, "{what}");
    }
}
