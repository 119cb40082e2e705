//! PROXY headers before everything else, on every kind of listener, and who may connect from where.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use tempfile::TempDir;

use crate::support::certificates::Authority;
use crate::support::wire::{self, WebSocket};
use crate::support::{Broker, Client, Connect, Version};

const TRUSTING: &str =
    "listener.proxy_protocol = true\nlistener.trusted_proxies = [\"127.0.0.1\", \"unix\"]\n";
const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 1883\r\n";
/// The same client, with a field that nobody knows.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc0\0\x02\x07\x0a\0\0\x01\x12\x67\x07\x5b\xee\0\x02ab";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A TCP connection that begins with `header`.
fn behind(broker: &Broker, header: &[u8]) -> TcpStream {
    let mut stream = wire::tcp(broker.address());
    stream.write_all(header).unwrap();
    stream
}

/// Whether a connection that begins with `header` is served.
fn is_served(broker: &Broker, header: &[u8]) -> bool {
    let mut stream = behind(broker, header);
    let mut connack = [0; 2];
    stream.write_all(&Connect::new("").bytes()).is_ok() && stream.read_exact(&mut connack).is_ok()
}

#[test]
fn the_header_tells_the_client() {
    let broker = Broker::with(&format!("log.level = \"debug\"\n{TRUSTING}"));
    for (n, (header, address)) in [
        (V1, "192.0.2.7:4711"),
        (V2, "192.0.2.7:4711"),
        (
            &b"PROXY TCP6 2001:db8::7 ::1 4711 1883\r\n"[..],
            "[2001:db8::7]:4711",
        ),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (LOCAL, "127.0.0.1"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("behind-{n}");
        let client = Client::over(behind(&broker, header), None, Version::V5);
        client.connected(&Connect::new(&id)).disconnect();
        broker.expect_log(&["connection ended", &id, address]);
    }
}

#[test]
fn a_header_and_connect_byte_by_byte() {
    let broker = Broker::with(TRUSTING);
    for header in [V1, V2] {
        let mut stream = wire::tcp(broker.address());
        for byte in [header, &Connect::new("slowly").bytes()].concat() {
            stream.write_all(&[byte]).unwrap();
        }
        Client::over(stream, None, Version::V5).expect_accepted();
    }
}

#[test]
fn what_does_not_begin_with_a_good_header_is_closed() {
    let broker = Broker::with(TRUSTING);
    let long = [b"PROXY TCP4 ", &[b' '; 200][..]].concat();
    for bad in [
        &b""[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
        b"PROXY TCP4 192.0.2.777 10.0.0.1 4711 1883\r\n",
        b"PROXY TCP4 2001:db8::7 ::1 4711 1883\r\n",
        b"PROXY UDP4 192.0.2.7 10.0.0.1 4711 1883\r\n",
        &long,
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01\xc0",
        b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x67\x07\x5b",
    ] {
        assert!(
            !is_served(&broker, bad),
            "{:?}",
            String::from_utf8_lossy(bad)
        );
    }
    broker.expect_log(&["connection ended by the broker", "PROXY header"]);
    assert!(is_served(&broker, V1));
    assert!(!is_served(&broker, &[V1, V1].concat()), "only one");
}

#[test]
fn only_trusted_proxies_may_speak_for_clients() {
    let broker =
        Broker::with("listener.proxy_protocol = true\nlistener.trusted_proxies = \"10.0.0.0/8\"");
    assert!(!is_served(&broker, V1) && !is_served(&broker, b""));
    broker.expect_log(&["connection refused", "trusted_proxies"]);
    // Where no header is asked for, it is no MQTT.
    let plain = Broker::with("listener.trusted_proxies = \"127.0.0.1\"");
    assert!(!is_served(&plain, V1) && is_served(&plain, b""));
}

#[test]
fn addresses_are_allowed_and_denied() {
    for (rules, served) in [
        ("listener.allow = \"127.0.0.0/8\"", true),
        ("listener.allow = \"10.0.0.0/8\"", false),
        ("listener.deny = \"127.0.0.1\"", false),
        ("listener.deny = \"10.0.0.0/8\"", true),
        (
            "listener.allow = \"127.0.0.0/8\"\nlistener.deny = \"127.0.0.1\"",
            false,
        ),
    ] {
        let broker = Broker::with(rules);
        assert_eq!(is_served(&broker, b""), served, "{rules}");
    }
    // Behind a proxy it is the client's address that counts.
    for (rules, served) in [
        ("listener.allow = \"192.0.2.0/24\"", true),
        ("listener.allow = \"127.0.0.0/8\"", false),
        ("listener.deny = \"192.0.2.7\"", false),
        ("listener.deny = \"127.0.0.1\"", true),
    ] {
        let broker = Broker::with(&format!("{TRUSTING}{rules}"));
        assert_eq!(is_served(&broker, V1), served, "{rules}, v1");
        assert_eq!(is_served(&broker, V2), served, "{rules}, v2");
    }
}

#[test]
fn before_tls_websocket_and_on_unix_sockets() {
    let directory = TempDir::new().unwrap();
    let authority = Authority::new("a");
    let tls = authority
        .server(&["localhost"])
        .settings(directory.path(), "server");
    let config = authority.client_config(None);

    let broker = Broker::with(&format!("log.level = \"debug\"\n{TRUSTING}{tls}"));
    let tls_stream = wire::tls(behind(&broker, V2), &config, "localhost");
    let socket = tls_stream.sock.try_clone().unwrap();
    let client = wire::client(socket, tls_stream, Version::V5);
    client.connected(&Connect::new("tls")).disconnect();
    broker.expect_log(&["connection ended", "tls", "192.0.2.7:4711"]);

    let broker = Broker::with(&format!(
        "log.level = \"debug\"\n{TRUSTING}{tls}listener.websocket = true"
    ));
    let tls_stream = wire::tls(behind(&broker, V1), &config, "localhost");
    let socket = tls_stream.sock.try_clone().unwrap();
    let websocket = WebSocket::open(tls_stream, "/", "");
    let client = wire::client(socket, websocket, Version::V311);
    client
        .connected(&Connect::new("wss").version(Version::V311))
        .disconnect();
    broker.expect_log(&["connection ended", "wss", "192.0.2.7:4711"]);

    let path = directory.path().join("socket");
    let unix = format!(
        "{TRUSTING}---\n[[listener]]\naddress = \"unix:{}\"\nproxy_protocol = true\ntrusted_proxies = \"unix\"\nallow = \"192.0.2.0/24\"\n",
        path.display()
    );
    let _broker = Broker::with(&unix);
    for (header, served) in [(V1, true), (V2, true), (LOCAL, false), (b"", false)] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream
            .set_read_timeout(Some(crate::support::PATIENCE))
            .unwrap();
        let mut connack = [0; 2];
        let answered = stream
            .write_all(&[header, &Connect::new("").bytes()].concat())
            .and_then(|()| stream.read_exact(&mut connack));
        assert_eq!(answered.is_ok(), served, "{header:?}");
    }
}
