//! Transports: what is sent comes out the same however the bytes are cut, and nothing that is received makes
//! one fail but in order.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use ringmq::config::Listener;
use ringmq::config::doors::Doors;
use ringmq::net::peer::PeerAddress;
use ringmq::net::proxy_protocol::{Header, header};
use ringmq::net::tls::settings::TlsSettings;
use ringmq::net::transport::{Fault, Scratch, Transport};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig};

use crate::support::certificates::{Authority, write};
use crate::support::wire::{frame, request};

/// The settings of a server and of a client that trusts it.
fn tls() -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    thread_local!(static MADE: RefCell<Option<(Arc<ServerConfig>, Arc<ClientConfig>)>> = const { RefCell::new(None) });
    let make = || {
        let directory = tempfile::TempDir::new().unwrap();
        let authority = Authority::new("a");
        let server = authority.server(&["localhost"]);
        let pem = format!("{}{}", server.certificate, server.key);
        let file = write(directory.path(), "server.pem", &pem);
        let mut listener = Listener::at("127.0.0.1:0".parse().unwrap());
        listener.doors.tls.certificates = vec![file.display().to_string()];
        let settings = TlsSettings::load(&listener).unwrap().unwrap();
        (settings.config, authority.client_config(None))
    };
    MADE.with_borrow_mut(|made| made.get_or_insert_with(make).clone())
}

/// A transport as a listener has it, and what it is given by tests.
struct Side {
    transport: Box<Transport>,
    doors: Doors,
    peer: PeerAddress,
    scratch: Scratch,
    stream: Vec<u8>,
}

impl Side {
    fn new(with_tls: bool, websocket: bool) -> Self {
        let mut doors = Doors::default();
        doors.websocket.is_on = websocket;
        if with_tls {
            doors.tls.certificates = vec!["made above".into()];
        }
        let mut transport = Transport::of(&doors).expect("not plain");
        if with_tls {
            transport.begin_tls(tls().0).unwrap();
        }
        Self {
            transport,
            doors,
            peer: PeerAddress::Unix,
            scratch: Scratch::default(),
            stream: Vec::new(),
        }
    }

    fn receive(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.transport.receive(
            &self.doors,
            &mut self.peer,
            bytes,
            &mut self.scratch,
            &mut self.stream,
        )
    }

    fn pending(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        self.transport.take_pending(&mut wire);
        wire
    }
}

/// Cuts `bytes` into pieces whose lengths are taken in turn.
fn cut<'a>(mut bytes: &'a [u8], pieces: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    pieces.iter().cycle().map_while(move |length| {
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        bytes = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

fn client() -> ClientConnection {
    ClientConnection::new(tls().1, ServerName::try_from("localhost").unwrap()).unwrap()
}

/// What a TLS client has to send.
fn to_send(client: &mut ClientConnection) -> Vec<u8> {
    let mut wire = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut wire).unwrap();
    }
    wire
}

/// What a TLS client makes of what it gets.
fn got(client: &mut ClientConnection, mut wire: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !wire.is_empty() {
        client.read_tls(&mut wire).unwrap();
        client.process_new_packets().unwrap();
        let mut chunk = [0; 4096];
        while let Ok(count) = client.reader().read(&mut chunk) {
            if count == 0 {
                break;
            }
            plain.extend_from_slice(&chunk[..count]);
        }
    }
    plain
}

/// A handshake with everything cut into pieces.
fn handshake(side: &mut Side, client: &mut ClientConnection, pieces: &[usize]) {
    while client.is_handshaking() || client.wants_write() {
        let wire = to_send(client);
        for piece in cut(&wire, pieces) {
            side.receive(piece).unwrap();
        }
        let answer = side.pending();
        assert!(got(client, &answer).is_empty());
    }
}

proptest! {
    #[test]
    fn tls_gives_what_was_sent_both_ways(
        messages in vec(vec(any::<u8>(), 0..40_000), 1..4),
        pieces in vec(1..3_000_usize, 1..8),
    ) {
        let mut side = Side::new(true, false);
        let mut client = client();
        handshake(&mut side, &mut client, &pieces);
        for message in &messages {
            client.writer().write_all(message).unwrap();
            let wire = to_send(&mut client);
            for piece in cut(&wire, &pieces) {
                side.receive(piece).unwrap();
            }
            prop_assert!(side.stream == *message);
            side.stream.clear();
            let mut wire = Vec::new();
            let halves = message.split_at(message.len() / 2);
            let parts = [halves.0, halves.1];
            side.transport.send(parts.into_iter(), &mut side.scratch, &mut wire).unwrap();
            prop_assert!(got(&mut client, &wire) == *message);
        }
    }

    #[test]
    fn websocket_over_tls_gives_what_was_sent(
        payloads in vec(vec(any::<u8>(), 0..5_000), 1..6),
        pieces in vec(1..500_usize, 1..8),
    ) {
        let mut side = Side::new(true, true);
        let mut client = client();
        handshake(&mut side, &mut client, &pieces);
        client.writer().write_all(request("/", "Sec-WebSocket-Protocol: mqtt\r\n").as_bytes()).unwrap();
        for payload in &payloads {
            client.writer().write_all(&frame(0x82, payload)).unwrap();
        }
        let wire = to_send(&mut client);
        for piece in cut(&wire, &pieces) {
            side.receive(piece).unwrap();
        }
        prop_assert!(side.stream == payloads.concat());
        let answer = side.pending();
        let response = got(&mut client, &answer);
        prop_assert!(response.starts_with(b"HTTP/1.1 101 "));
    }

    #[test]
    fn broken_tls_ends_in_order(
        message in vec(any::<u8>(), 1..3_000),
        pieces in vec(1..800_usize, 1..8),
        at in any::<prop::sample::Index>(),
        by in 1..=255_u8,
        in_handshake in any::<bool>(),
    ) {
        let mut side = Side::new(true, false);
        let mut client = client();
        if !in_handshake {
            handshake(&mut side, &mut client, &pieces);
            client.writer().write_all(&message).unwrap();
        }
        let mut wire = to_send(&mut client);
        let at = at.index(wire.len());
        wire[at] ^= by;
        let failed = cut(&wire, &pieces).any(|piece| side.receive(piece).is_err());
        // Whatever it was, the rest is thrown away and nothing more is sent than an alert.
        let _ = side.receive(&wire);
        let _ = side.pending();
        if failed {
            prop_assert!(!side.transport.close(false));
            let mut wire = Vec::new();
            prop_assert!(side.transport.send([&b"x"[..]].into_iter(), &mut side.scratch, &mut wire).is_err());
        }
        // A receiver ignores the version in a record's header (RFC 8446, 5.1); everything else is protected.
        let ignored = (1..=2).contains(&at);
        prop_assert!(in_handshake || ignored || side.stream != message, "a changed record was believed");
    }

    #[test]
    fn anything_after_the_request_ends_in_order(
        bytes in vec(any::<u8>(), 0..3_000),
        pieces in vec(1..300_usize, 1..8),
    ) {
        let mut side = Side::new(false, true);
        side.receive(request("/", "Sec-WebSocket-Protocol: mqtt\r\n").as_bytes()).unwrap();
        let _ = side.pending();
        for piece in cut(&bytes, &pieces) {
            if side.receive(piece).is_err() {
                break;
            }
        }
        prop_assert!(side.stream.len() <= bytes.len());
        prop_assert!(side.pending().len() <= 256);
    }

    #[test]
    fn anything_at_the_front_ends_in_order(bytes in vec(any::<u8>(), 0..2_000)) {
        for (with_tls, websocket) in [(true, false), (false, true), (true, true)] {
            let mut side = Side::new(with_tls, websocket);
            let _ = side.receive(&bytes);
            prop_assert!(side.stream.is_empty());
        }
    }

    #[test]
    fn a_proxy_header_is_found_or_refused(
        start in prop_oneof![Just(&b"PROXY "[..]), Just(&b"\r\n\r\n\0\r\nQUIT\n"[..]), Just(&b""[..])],
        bytes in vec(any::<u8>(), 0..5_000),
    ) {
        let all = [start, &bytes].concat();
        match header(&all) {
            Ok(Header::Complete { bytes, .. }) => prop_assert!(bytes <= all.len()),
            Ok(Header::Incomplete) => prop_assert!(all.len() < 4_096),
            Err(cause) => prop_assert!(!cause.is_empty()),
        }
    }
}
