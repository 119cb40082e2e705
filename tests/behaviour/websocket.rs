//! WebSocket listeners: the request, packets across frames, control frames, and those that mean harm.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::hostile::{Others, expect_counted_at};
use crate::support::certificates::Authority;
use crate::support::wire::{self, WebSocket, frame, http, request};
use crate::support::{Broker, Client, Connect, Kind, PATIENCE, Publish, Version, Will, packet};

const ON: &str = "listener.websocket = true\n";

fn open(broker: &Broker) -> WebSocket<TcpStream> {
    WebSocket::open(wire::tcp(broker.address()), "/mqtt", "")
}

fn client(broker: &Broker, connect: &Connect) -> Client {
    let socket = open(broker);
    let stream = socket.wire.try_clone().unwrap();
    wire::client(stream, socket, connect.version).connected(connect)
}

/// Everything that comes until the end, frame by frame.
fn frames(socket: &mut WebSocket<TcpStream>) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    loop {
        match socket.next_frame() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return frames,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return frames,
            Err(error) => panic!("{error} after {frames:?}"),
        }
    }
}

#[test]
fn all_versions_of_mqtt_with_and_without_tls() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new("a");
    let tls = authority
        .server(&["localhost"])
        .settings(directory.path(), "server");
    let secure = Broker::with(&format!("{ON}{tls}"));
    let plain = Broker::with(ON);
    let config = authority.client_config(None);
    let large: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
    for version in [Version::V31, Version::V311, Version::V5] {
        let more = match version {
            Version::V31 => "Sec-WebSocket-Protocol: mqttv3.1\r\n",
            _ => "Sec-WebSocket-Protocol: mqtt\r\n",
        };
        let connect = |is_secure: bool, id: &str| {
            let connect = Connect::new(id).version(version);
            if !is_secure {
                let stream = wire::tcp(plain.address());
                let socket = WebSocket::open(stream.try_clone().unwrap(), "/", more);
                return wire::client(stream, socket, version).connected(&connect);
            }
            let tls = wire::tls(wire::tcp(secure.address()), &config, "localhost");
            let stream = tls.sock.try_clone().unwrap();
            wire::client(stream, WebSocket::open(tls, "/", more), version).connected(&connect)
        };
        for is_secure in [false, true] {
            let mut reader = connect(is_secure, "reader");
            reader.subscribe("t/#", 2);
            let mut writer = connect(is_secure, "writer");
            for qos in 0..3 {
                writer.publish("t/a", format!("message {qos}"), qos);
                reader.expect_message("t/a", format!("message {qos}"));
            }
            writer.publish("t/b", &large, 1);
            assert!(reader.message().payload == large);
            for n in 0..200 {
                writer.publish("t/c", n.to_string(), 0);
            }
            for n in 0..200 {
                reader.expect_message("t/c", n.to_string());
            }
            writer.disconnect();
            reader.disconnect();
        }
    }
}

#[test]
fn packets_lie_across_frames_and_frames_hold_many() {
    let broker = Broker::with(ON);
    let connect = Connect::new("pieces").bytes();
    let publish = Publish::new("t", "x")
        .qos(1)
        .identifier(1)
        .bytes(Version::V5);
    // Byte by byte: each in a frame of its own, and then in fragments of one message, with a ping between.
    let mut socket = open(&broker);
    for byte in &connect {
        socket.wire.write_all(&frame(0x82, &[*byte])).unwrap();
    }
    assert_eq!(socket.next_frame().unwrap().unwrap().1[0], 0x20);
    let last = publish.len() - 1;
    for (n, byte) in publish.iter().enumerate() {
        let first = match n {
            0 => 0x02,
            n if n == last => 0x80,
            _ => 0x00,
        };
        socket.wire.write_all(&frame(first, &[*byte])).unwrap();
        socket.wire.write_all(&frame(0x89, b"between")).unwrap();
    }
    loop {
        match socket.next_frame().unwrap().unwrap() {
            (0x8a, said) => assert_eq!(said, b"between"),
            (first, payload) => {
                assert_eq!((first, payload[0]), (0x82, 0x40), "PUBACK");
                break;
            }
        }
    }
    // Many packets in one frame, the first of them CONNECT.
    let mut socket = open(&broker);
    let mut all = Connect::new("joined").bytes();
    for identifier in 1..=100 {
        let publish = Publish::new("t", "x").qos(1).identifier(identifier);
        all.extend(publish.bytes(Version::V5));
    }
    socket.wire.write_all(&frame(0x82, &all)).unwrap();
    let stream = socket.wire.try_clone().unwrap();
    let mut client = wire::client(stream, socket, Version::V5);
    client.expect_accepted();
    for identifier in 1..=100 {
        client.wait_for_acknowledgement(Kind::PubAck, identifier);
    }
}

#[test]
fn a_request_and_what_follows_it_in_one_piece_or_in_many() {
    let broker = Broker::with(ON);
    let head = request("/", "Sec-WebSocket-Protocol: mqtt\r\n");
    let all = [
        head.as_bytes(),
        &frame(0x82, &Connect::new("eager").bytes()),
    ]
    .concat();
    for size in [1, 7, all.len()] {
        let mut stream = wire::tcp(broker.address());
        for piece in all.chunks(size) {
            stream.write_all(piece).unwrap();
        }
        let response = http(&mut stream, "");
        assert!(response.starts_with("HTTP/1.1 101"), "{response}");
        let mut socket = WebSocket::opened(stream);
        assert_eq!(
            socket.next_frame().unwrap().unwrap().1[0],
            0x20,
            "pieces of {size}"
        );
    }
}

#[test]
fn bad_requests_are_told_so() {
    let broker = Broker::with(&format!(
        "{ON}listener.websocket_paths = [\"/mqtt\"]\nlistener.websocket_origins = \"https://a.example\""
    ));
    let mqtt = "Sec-WebSocket-Protocol: mqtt\r\n";
    let from = |origin: &str| format!("{mqtt}Origin: {origin}\r\n");
    for (path, more, status) in [
        ("/mqtt", mqtt, "101"),
        ("/mqtt?token=1", mqtt, "101"),
        ("/", mqtt, "404"),
        ("/mqtt/x", mqtt, "404"),
        ("/mqtt", "", "400"),
        ("/mqtt", "Sec-WebSocket-Protocol: amqp\r\n", "400"),
        ("/mqtt", &from("https://a.example"), "101"),
        ("/mqtt", &from("https://b.example"), "403"),
        ("/mqtt", &from("null"), "403"),
    ] {
        let mut stream = wire::tcp(broker.address());
        let response = http(&mut stream, &request(path, more));
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{path} {more}: {response}"
        );
        if status != "101" {
            let mut body = String::new();
            stream.read_to_string(&mut body).unwrap();
            assert!(!body.is_empty(), "it is told why");
        }
    }
    for garbage in [
        &Connect::new("plain").bytes()[..],
        b"\0\0\0\0\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut stream = wire::tcp(broker.address());
        stream.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    }
    broker.expect_log(&["connection ended by the broker", "websocket_origins"]);
}

#[test]
fn without_a_list_only_pages_of_the_same_host_may_connect() {
    let broker = Broker::with(ON);
    let mqtt = "Sec-WebSocket-Protocol: mqtt\r\n";
    for (origin, status) in [
        ("http://localhost:8000", "101"),
        ("https://localhost", "101"),
        ("https://evil.example", "403"),
        ("https://localhost.evil.example", "403"),
        ("file://", "403"),
    ] {
        let mut stream = wire::tcp(broker.address());
        let response = http(
            &mut stream,
            &request("/", &format!("{mqtt}Origin: {origin}\r\n")),
        );
        assert!(
            response.starts_with(&format!("HTTP/1.1 {status} ")),
            "{origin}: {response}"
        );
    }
}

#[test]
fn pings_are_answered_and_a_close_is_echoed() {
    let broker = Broker::with(ON);
    let mut watcher = client(&broker, &Connect::new("watcher"));
    watcher.subscribe("will", 0);
    let mut socket = open(&broker);
    socket
        .wire
        .write_all(&frame(0x89, b"before CONNECT"))
        .unwrap();
    assert_eq!(
        socket.next_frame().unwrap().unwrap(),
        (0x8a, b"before CONNECT".to_vec())
    );
    let connect = Connect::new("dying").will(Will::new("will", b"gone"));
    socket
        .wire
        .write_all(&frame(0x82, &connect.bytes()))
        .unwrap();
    assert_eq!(socket.next_frame().unwrap().unwrap().1[0], 0x20);
    socket.wire.write_all(&frame(0x89, b"hello")).unwrap();
    assert_eq!(
        socket.next_frame().unwrap().unwrap(),
        (0x8a, b"hello".to_vec())
    );
    socket
        .wire
        .write_all(&frame(0x88, b"\x03\xe9leaving"))
        .unwrap();
    assert_eq!(frames(&mut socket), [(0x88, vec![0x03, 0xe9])]);
    watcher.expect_message("will", "gone");
    // The broker's own end is told with a code, too.
    let mut socket = open(&broker);
    let connect = [Connect::new("leaving").bytes(), packet::DISCONNECT.to_vec()].concat();
    socket.wire.write_all(&frame(0x82, &connect)).unwrap();
    let last = frames(&mut socket).pop().unwrap();
    assert_eq!(last, (0x88, vec![0x03, 0xe8]));
}

#[test]
fn broken_frames_are_closed_with_their_code() {
    let broker = Broker::with(&format!(
        "{ON}listener.websocket_frame_bytes_max = \"64KiB\"\nsystem_topics.interval_s = 1\n---\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n"
    ));
    let bomb = [
        0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4,
    ];
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("text", frame(0x81, b"text"), 1003),
        ("no mask", vec![0x82, 1, 0x10], 1002),
        ("an extension", frame(0xc2, b"x"), 1002),
        ("an unknown frame", frame(0x87, b"x"), 1002),
        ("a fragmented ping", frame(0x09, b"x"), 1002),
        ("a long ping", frame(0x89, &[0; 126]), 1002),
        ("a fragment of nothing", frame(0x80, b"x"), 1002),
        (
            "a message within another",
            [frame(0x02, b"x"), frame(0x82, b"x")].concat(),
            1002,
        ),
        ("a bomb", bomb.to_vec(), 1009),
    ];
    let count = 2 * cases.len() as u64;
    for (what, bytes, code) in cases {
        for connected in [false, true] {
            let mut socket = open(&broker);
            if connected {
                socket
                    .wire
                    .write_all(&frame(0x82, &Connect::new("broken").bytes()))
                    .unwrap();
                assert_eq!(socket.next_frame().unwrap().unwrap().1[0], 0x20);
            }
            socket.wire.write_all(&bytes).unwrap();
            let close = (0x88, code.to_be_bytes().to_vec());
            assert_eq!(
                frames(&mut socket),
                [close],
                "{what}, connected: {connected}"
            );
        }
    }
    let log = broker.log();
    let line = log
        .lines()
        .find(|line| line.contains("mqtt-2: listening on"))
        .unwrap();
    let plain = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .next()
        .unwrap();
    expect_counted_at(plain, "connections/ended/websocket", count..=count);
}

#[test]
fn a_flood_of_pings_and_empty_fragments_costs_little() {
    let broker = Broker::with(&format!(
        "{ON}---\n[[listener]]\naddress = \"127.0.0.1:0\"\n"
    ));
    let log = broker.log();
    let line = log
        .lines()
        .find(|line| line.contains("mqtt-2: listening on"))
        .unwrap();
    let plain = line
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .next()
        .unwrap();
    let others = Others::at(plain);
    let before = broker.resident_bytes();
    let pings = frame(0x89, &[b'p'; 125]).repeat(1000);
    let empty = [
        frame(0x02, b""),
        frame(0x00, b"").repeat(10_000),
        frame(0x80, b""),
    ]
    .concat();
    for flood in [pings, empty] {
        let mut socket = open(&broker);
        socket
            .wire
            .write_all(&frame(0x82, &Connect::new("flood").bytes()))
            .unwrap();
        assert_eq!(socket.next_frame().unwrap().unwrap().1[0], 0x20);
        socket
            .wire
            .set_write_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        // Nothing is read meanwhile.
        while Instant::now() < end && socket.wire.write_all(&flood).is_ok() {}
        let grown = broker.resident_bytes().saturating_sub(before);
        assert!(grown < 24 << 20, "memory grew by {grown} bytes");
    }
    others.expect_served();
}

#[test]
fn a_request_without_an_end_is_given_up() {
    let broker = Broker::with(&format!("{ON}listener.connect_timeout_s = 1"));
    let mut long = wire::tcp(broker.address());
    long.write_all(b"GET / HTTP/1.1\r\n").unwrap();
    // Refused by its length, long before its end.
    while long
        .write_all(&[b"X-A: ", &[b'a'; 500][..], b"\r\n"].concat())
        .is_ok()
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    let start = Instant::now();
    let mut slow = wire::tcp(broker.address());
    slow.write_all(b"GET / HT").unwrap();
    let mut answer = Vec::new();
    let _ = slow.read_to_end(&mut answer);
    assert!(start.elapsed() < PATIENCE && answer.is_empty());
    // And one that is open and sends no CONNECT.
    let mut socket = open(&broker);
    assert_eq!(frames(&mut socket), []);
}

#[test]
fn forwarded_addresses_are_believed_from_trusted_proxies_only() {
    let connect = |broker: &Broker, id: &str, forwarded: &str| {
        let stream = wire::tcp(broker.address());
        let more = format!("X-Forwarded-For: {forwarded}\r\n");
        let text = request("/", &format!("{more}Sec-WebSocket-Protocol: mqtt\r\n"));
        let mut socket = stream.try_clone().unwrap();
        socket.write_all(text.as_bytes()).unwrap();
        socket
            .write_all(&frame(0x82, &Connect::new(id).bytes()))
            .unwrap();
        let response = http(&mut socket, "");
        assert!(response.starts_with("HTTP/1.1 101"));
        wire::client(stream, WebSocket::opened(socket), Version::V5)
    };
    let debug = "log.level = \"debug\"\n";
    let trusting = Broker::with(&format!(
        "{debug}{ON}listener.trusted_proxies = [\"127.0.0.1\", \"10.0.0.0/8\"]\nlistener.deny = \"203.0.113.0/24\""
    ));
    let mut one = connect(&trusting, "one", "203.0.113.1, 192.0.2.9, 10.1.1.1");
    one.expect_accepted();
    one.disconnect();
    trusting.expect_log(&["connection ended", "one", "192.0.2.9"]);
    let mut denied = connect(&trusting, "denied", "203.0.113.1");
    denied.expect_closed();
    let other = Broker::with(&format!("{debug}{ON}"));
    let mut two = connect(&other, "two", "192.0.2.9");
    two.expect_accepted();
    two.disconnect();
    other.expect_log(&["connection ended", "two", "127.0.0.1"]);
}
