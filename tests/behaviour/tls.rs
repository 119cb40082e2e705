//! TLS listeners: versions, names, client certificates, resumption, reload, and those that mean harm.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rcgen::DnType;
use rustix::process::Signal;
use rustls::{ClientConfig, HandshakeKind};
use tempfile::TempDir;

use crate::hostile::{Others, expect_counted_at};
use crate::support::certificates::{Authority, Signed, write};
use crate::support::wire::{self, Tls};
use crate::support::{
    Broker, Client, Connect, Kind, Next, PATIENCE, Publish, Version, packet, sleep_ms,
};

const HOST: &str = "localhost";

/// An authority, a server's certificate by it, and where they lie.
struct Site {
    authority: Authority,
    directory: TempDir,
}

impl Site {
    fn new() -> Self {
        Self {
            authority: Authority::new("test authority"),
            directory: TempDir::new().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// A broker with one TLS listener.
    fn broker(&self, settings: &str) -> Broker {
        let server = self.authority.server(&[HOST]);
        Broker::with(&format!(
            "{}{settings}",
            server.settings(self.path(), "server")
        ))
    }

    fn config(&self) -> Arc<ClientConfig> {
        self.authority.client_config(None)
    }
}

fn open(broker: &Broker, config: &Arc<ClientConfig>) -> Tls {
    wire::tls(wire::tcp(broker.address()), config, HOST)
}

fn connect(broker: &Broker, config: &Arc<ClientConfig>, connect: &Connect) -> Client {
    let tls = open(broker, config);
    let stream = tls.sock.try_clone().unwrap();
    wire::client(stream, tls, connect.version).connected(connect)
}

/// Whether a client gets so far that its CONNECT is answered.
fn is_admitted(broker: &Broker, config: &Arc<ClientConfig>) -> bool {
    let Ok(mut tls) = wire::try_tls(wire::tcp(broker.address()), config, HOST) else {
        return false;
    };
    // With TLS 1.3 a client learns only afterwards that its certificate is refused.
    let mut connack = [0; 2];
    tls.write_all(&Connect::new("").bytes()).is_ok() && tls.read_exact(&mut connack).is_ok()
}

#[test]
fn all_mqtt_versions_over_all_tls_versions() {
    let site = Site::new();
    let broker = site.broker("listener.packet_bytes_max = \"4MiB\"");
    let large: Vec<u8> = (0..2_000_000u32).map(|n| (n % 251) as u8).collect();
    for (name, versions) in [
        ("1.2", &[&rustls::version::TLS12][..]),
        ("1.3", &[&rustls::version::TLS13][..]),
    ] {
        let config = Arc::new(site.authority.client_config_of(None, versions));
        for version in [Version::V31, Version::V311, Version::V5] {
            let topic = format!("tls/{name}/{version:?}");
            let id = |who: &str| {
                Connect::new(&format!("{who}-{name}-{version:?}")[..20]).version(version)
            };
            let mut reader = connect(&broker, &config, &id("reader-reader-reader"));
            reader.subscribe(&topic, 2);
            let mut writer = connect(&broker, &config, &id("writer-writer-writer"));
            for qos in 0..3 {
                writer.publish(&topic, format!("message {qos}"), qos);
                reader.expect_message(&topic, format!("message {qos}"));
            }
            // Many in one record, and one in many records.
            let many: Vec<u8> = (0..500)
                .flat_map(|n: u32| Publish::new(&topic, n.to_string()).bytes(version))
                .collect();
            writer.send_raw(&many);
            for n in 0..500 {
                reader.expect_message(&topic, n.to_string());
            }
            writer.publish(&topic, &large, 1);
            assert!(reader.message().payload == large, "a large message");
            writer.disconnect();
            reader.disconnect();
        }
    }
}

#[test]
fn clients_of_every_home_shard_come_in() {
    let site = Site::new();
    let broker = site.broker("");
    let config = site.config();
    for n in 0..40 {
        let mut client = connect(&broker, &config, &Connect::new(&format!("client-{n}")));
        client.subscribe("t", 0);
        client.publish("t", "x", 0);
        client.expect_message("t", "x");
        client.disconnect();
    }
}

#[test]
fn a_connect_in_many_records_is_one_connect() {
    let site = Site::new();
    let broker = site.broker("");
    let mut tls = open(&broker, &site.config());
    for byte in Connect::new("byte by byte").bytes() {
        tls.write_all(&[byte]).unwrap();
        tls.flush().unwrap();
    }
    let stream = tls.sock.try_clone().unwrap();
    wire::client(stream, tls, Version::V5).expect_accepted();
}

#[test]
fn the_name_that_a_client_asks_for_chooses_the_certificate() {
    let site = Site::new();
    let files = |names: &[&str], file: &str| {
        let signed = site.authority.server(names);
        let certificate = format!("{}{}", signed.certificate, signed.key);
        (write(site.path(), file, &certificate), signed.certificate)
    };
    let (first_file, first) = files(&["first.example"], "first.pem");
    let (second_file, second) = files(&["second.example", "*.wild.example"], "second.pem");
    let broker = Broker::with(&format!(
        "listener.tls_certificates = [\"{}\", \"{}\"]",
        first_file.display(),
        second_file.display()
    ));
    for (host, wanted) in [
        ("first.example", &first),
        ("second.example", &second),
        ("SECOND.example", &second),
        ("a.wild.example", &second),
    ] {
        let tls = wire::tls(wire::tcp(broker.address()), &site.config(), host);
        let shown = &tls.conn.peer_certificates().unwrap()[0];
        let wanted = pem_der(wanted);
        assert!(**shown == *wanted, "{host}");
    }
    // Any other name gets the first, which is not for it.
    let other = wire::try_tls(wire::tcp(broker.address()), &site.config(), "other.example");
    let error = other.err().unwrap().to_string();
    assert!(error.contains("first.example"), "{error}");
}

fn pem_der(pem: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

#[test]
fn client_certificates_are_required_or_optional_and_can_be_revoked() {
    let site = Site::new();
    let clients = Authority::new("clients");
    let strangers = Authority::new("strangers");
    let name = |name| [(DnType::CommonName, name)];
    let good = clients.client(&name("good"), &[], 7);
    let revoked = clients.client(&name("revoked"), &[], 8);
    let stranger = strangers.client(&name("good"), &[], 7);
    let ca = write(site.path(), "clients.crt", &clients.pem);
    let crl = write(site.path(), "clients.crl", &clients.revocation_list(&[8]));
    let admits = |broker: &Broker, own: Option<&Signed>| {
        is_admitted(broker, &site.authority.client_config(own))
    };
    for (asked, without) in [("required", false), ("optional", true)] {
        let broker = site.broker(&format!(
            "listener.tls_client_certificate = \"{asked}\"\nlistener.tls_client_ca = \"{}\"\n\
             listener.tls_client_crls = \"{}\"",
            ca.display(),
            crl.display()
        ));
        assert_eq!(admits(&broker, None), without, "{asked}, none");
        assert!(admits(&broker, Some(&good)), "{asked}, good");
        assert!(!admits(&broker, Some(&revoked)), "{asked}, revoked");
        assert!(
            !admits(&broker, Some(&stranger)),
            "{asked}, of another authority"
        );
        broker.expect_log(&["connection ended by the broker", "TLS:", "Revoked"]);
    }
}

#[test]
fn sessions_are_resumed_and_counted() {
    let site = Site::new();
    let broker =
        site.broker("system_topics.interval_s = 1\n---\n[[listener]]\naddress = \"127.0.0.1:0\"\n");
    for versions in [
        &[&rustls::version::TLS13][..],
        &[&rustls::version::TLS12][..],
    ] {
        let config = Arc::new(site.authority.client_config_of(None, versions));
        let kinds: Vec<HandshakeKind> = (0..4)
            .map(|n| {
                let mut tls = open(&broker, &config);
                let id = format!("resuming-{n}");
                tls.write_all(&Connect::new(&id).version(Version::V311).bytes())
                    .unwrap();
                let mut connack = [0; 4];
                // The ticket comes before.
                tls.read_exact(&mut connack).unwrap();
                tls.conn.handshake_kind().unwrap()
            })
            .collect();
        assert!(
            kinds[0] != HandshakeKind::Resumed
                && kinds[1..]
                    .iter()
                    .all(|kind| *kind == HandshakeKind::Resumed),
            "{kinds:?}"
        );
    }
    let plain = plain_address(&broker);
    expect_counted_at(plain, "tls/handshakes/full", 2..=2);
    expect_counted_at(plain, "tls/handshakes/resumed", 6..=6);
    expect_counted_at(plain, "tls/certificate_ends_unix_s", 1..=u64::MAX);
}

/// The address of the second listener, which is plain.
fn plain_address(broker: &Broker) -> std::net::SocketAddr {
    let log = broker.log();
    let line = log
        .lines()
        .find(|line| line.contains("mqtt-2: listening on"))
        .unwrap();
    let words = line.split_whitespace();
    words.filter_map(|word| word.parse().ok()).next().unwrap()
}

#[test]
fn alpn_is_mqtt_or_nothing() {
    let site = Site::new();
    let broker = site.broker("");
    let with = |protocols: &[&[u8]]| {
        let mut config = site.authority.client_config_of(None, rustls::ALL_VERSIONS);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let stream = wire::tcp(broker.address());
        wire::try_tls(stream, &Arc::new(config), HOST)
    };
    let tls = with(&[b"x", b"mqtt"]).unwrap();
    assert_eq!(tls.conn.alpn_protocol(), Some(&b"mqtt"[..]));
    assert_eq!(with(&[]).unwrap().conn.alpn_protocol(), None);
    assert!(with(&[b"h2"]).is_err(), "no protocol in common");
}

#[test]
fn an_old_version_is_refused_where_it_is_not_wanted() {
    let site = Site::new();
    let broker = site.broker("listener.tls_version_min = \"1.3\"");
    let old = site
        .authority
        .client_config_of(None, &[&rustls::version::TLS12]);
    assert!(!is_admitted(&broker, &Arc::new(old)));
    assert!(is_admitted(&broker, &site.config()));
}

#[test]
fn files_are_reloaded_as_a_whole_or_not_at_all() {
    let site = Site::new();
    let broker = site.broker("");
    let mut before = connect(&broker, &site.config(), &Connect::new("before"));
    let shown = |authority: &Authority| {
        let stream = wire::tcp(broker.address());
        wire::try_tls(stream, &authority.client_config(None), HOST).is_ok()
    };
    let until = |what: &str, wanted: &dyn Fn() -> bool| {
        let deadline = Instant::now() + PATIENCE;
        while !wanted() {
            assert!(Instant::now() < deadline, "{what}:\n{}", broker.log());
            sleep_ms(50);
        }
    };
    assert!(shown(&site.authority));
    // A key that does not belong to the certificate: half of a renewal.
    let renewed = Authority::new("renewed");
    let server = renewed.server(&[HOST]);
    write(site.path(), "server.crt", &server.certificate);
    broker.expect_log(&["ERROR", "the TLS files are not changed", "server.crt"]);
    broker.signal(Signal::HUP);
    sleep_ms(300);
    assert!(
        shown(&site.authority) && !shown(&renewed),
        "the old ones are kept"
    );
    // The other half; the change is noticed.
    write(site.path(), "server.key", &server.key);
    until("the change is not noticed", &|| shown(&renewed));
    assert!(!shown(&site.authority));
    // And back, by a signal.
    let again = site.authority.server(&[HOST]);
    write(site.path(), "server.crt", &again.certificate);
    write(site.path(), "server.key", &again.key);
    broker.signal(Signal::HUP);
    until("the signal is not heard", &|| shown(&site.authority));
    before.send_raw(&packet::PINGREQ);
    before.expect(Kind::PingResp);
}

#[test]
fn a_client_is_told_the_end_in_order() {
    let site = Site::new();
    let broker = site.broker("");
    // That TLS is closed before TCP is, the client's own TLS checks.
    let client = connect(&broker, &site.config(), &Connect::new("leaving"));
    client.disconnect();
    let mut first = connect(&broker, &site.config(), &Connect::new("twice"));
    let second = connect(&broker, &site.config(), &Connect::new("twice"));
    first.expect_end(0x8e);
    // A client that ends TLS instead of MQTT has its Will sent.
    let mut watcher = connect(&broker, &site.config(), &Connect::new("watcher"));
    watcher.subscribe("will", 0);
    let mut tls = open(&broker, &site.config());
    let will = crate::support::Will::new("will", b"gone");
    tls.write_all(&Connect::new("dying").will(will).bytes())
        .unwrap();
    let mut connack = [0; 4];
    tls.read_exact(&mut connack).unwrap();
    tls.conn.send_close_notify();
    tls.flush().unwrap();
    watcher.expect_message("will", "gone");
    second.disconnect();
}

#[test]
fn what_cannot_serve_is_said_at_start() {
    let site = Site::new();
    let (server, other) = (
        site.authority.server(&[HOST]),
        site.authority.server(&[HOST]),
    );
    let certificate = write(site.path(), "a.crt", &server.certificate);
    let key = write(site.path(), "b.key", &other.key);
    let missing = site.path().join("missing.crt");
    let empty = write(site.path(), "empty.crt", "nothing\n");
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\n";
    for (lines, wanted) in [
        (
            format!("tls_certificates = \"{}\"", missing.display()),
            ["missing.crt", "listener.tls_certificates", "cannot be read"],
        ),
        (
            format!("tls_certificates = \"{}\"", empty.display()),
            ["empty.crt", "listener.tls_certificates", "no certificate"],
        ),
        (
            format!(
                "tls_certificates = \"{}\"\ntls_keys = \"{}\"",
                certificate.display(),
                key.display()
            ),
            [
                "a.crt",
                "listener.tls_certificates",
                "the key of this certificate",
            ],
        ),
        (
            format!("tls_certificates = \"{}\"", certificate.display()),
            ["a.crt", "listener.tls_keys", "private key"],
        ),
    ] {
        let file = write(site.path(), "ringmq.toml", &format!("{listener}{lines}\n"));
        let output = std::process::Command::new(crate::support::broker::binary())
            .arg("check")
            .arg(&file)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(0), "{lines}");
        let all = wanted.iter().all(|part| said.contains(part));
        assert!(all, "{said} does not have {wanted:?}");
    }
}

#[test]
fn half_handshakes_are_given_up_in_time_and_cost_little() {
    let site = Site::new();
    let broker = site.broker("listener.connect_timeout_s = 2\nsystem_topics.interval_s = 1\n---\n[[listener]]\naddress = \"127.0.0.1:0\"\n");
    let others = Others::at(plain_address(&broker));
    let before = broker.resident_bytes();
    // A ClientHello, but for its end; a record that says it is long; and one byte.
    let hello = client_hello(&site);
    let long = [&[0x16, 3, 1, 0x40, 0][..], &[0; 100]].concat();
    let starts = [&hello[..hello.len() - 1], &long, &hello[..1]];
    let start = Instant::now();
    let streams: Vec<_> = (0..300)
        .map(|n| {
            let mut stream = wire::tcp(broker.address());
            stream.write_all(starts[n % starts.len()]).unwrap();
            stream
        })
        .collect();
    for mut stream in streams {
        let mut answer = Vec::new();
        // Closed, or reset since its bytes were never read.
        let _ = stream.read_to_end(&mut answer);
    }
    assert!(start.elapsed() > Duration::from_millis(1_500), "too early");
    assert!(start.elapsed() < PATIENCE, "too late");
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
    others.expect_served();
    expect_counted_at(
        plain_address(&broker),
        "connections/ended/connect_timeout",
        300..=300,
    );
}

fn client_hello(site: &Site) -> Vec<u8> {
    let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
    let mut client = rustls::ClientConnection::new(site.config(), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

#[test]
fn what_is_no_tls_is_refused_with_an_alert() {
    let site = Site::new();
    let broker = site.broker("");
    for garbage in [
        &Connect::new("plain").bytes()[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[0x16, 3, 1, 0xff, 0xff, 0, 0],
        &[0x15, 3, 1, 0, 2, 2, 40],
        &[0x17, 3, 3, 0, 2, 1, 1],
    ] {
        let mut stream = wire::tcp(broker.address());
        stream.write_all(garbage).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            answer.is_empty() || answer[0] == 0x15,
            "{answer:x?} to {garbage:x?}"
        );
    }
    broker.expect_log(&["connection ended by the broker", "TLS: "]);
    assert!(is_admitted(&broker, &site.config()));
}

#[test]
fn a_flood_of_handshakes_leaves_the_connected_alone() {
    let site = Site::new();
    let broker = site.broker("network.tls_handshakes_per_s_max = 50\nnetwork.tls_handshakes_waiting_max = 100\nsystem_topics.interval_s = 1\n---\n[[listener]]\naddress = \"127.0.0.1:0\"\n");
    let others = Others::at(plain_address(&broker));
    let hello = client_hello(&site);
    let end = Instant::now() + Duration::from_secs(2);
    let mut streams = Vec::new();
    while Instant::now() < end && streams.len() < 5_000 {
        let mut stream = wire::tcp(broker.address());
        if stream.write_all(&hello).is_ok() {
            streams.push(stream);
        }
    }
    others.expect_served();
    let shards = u64::from(crate::support::broker::shards());
    assert!(
        streams.len() as u64 > 200 * shards,
        "only {} tried",
        streams.len()
    );
    expect_counted_at(
        plain_address(&broker),
        "connections/ended/tls_rate",
        1..=u64::MAX,
    );
    drop(streams);
    // And when it is over a client gets in.
    let deadline = Instant::now() + PATIENCE;
    while !is_admitted(&broker, &site.config()) {
        assert!(Instant::now() < deadline, "nobody gets in any more");
        sleep_ms(100);
    }
}

#[test]
fn one_network_has_its_own_share_of_handshakes() {
    let site = Site::new();
    let broker = site.broker("shards = 1\nnetwork.tls_handshakes_per_source_per_s_max = 5");
    let admitted = (0..30)
        .filter(|_| is_admitted(&broker, &site.config()))
        .count();
    assert!((5..20).contains(&admitted), "{admitted} of 30");
    broker.expect_log(&["connection refused", "tls_handshakes_per_source_per_s_max"]);
}

#[test]
fn a_client_that_does_not_read_costs_a_bounded_amount() {
    let site = Site::new();
    let broker = site.broker("network.output_bytes_max = \"64KiB\"");
    let config = site.config();
    let mut slow = connect(&broker, &config, &Connect::new("slow"));
    slow.subscribe("flood", 0);
    let mut writer = connect(&broker, &config, &Connect::new("writer"));
    let before = broker.resident_bytes();
    let payload = vec![7; 10_000];
    for _ in 0..4_000 {
        writer.publish("flood", &payload, 0);
    }
    writer.send_raw(&packet::PINGREQ);
    writer.expect(Kind::PingResp);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 24 << 20, "memory grew by {grown} bytes");
    assert!(matches!(slow.next(PATIENCE), Next::Packet(_)));
}
