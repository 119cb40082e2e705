//! AUTH packets: SCRAM and OAUTHBEARER, before CONNACK and on a live connection, and how they are attacked.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use crate::support::files::Files;
use crate::support::packet::{PINGREQ, packet};
use crate::support::property::{self, AUTHENTICATION_DATA, AUTHENTICATION_METHOD};
use crate::support::{Broker, Client, Connect, Kind, Packet, Publish, Value, Version};

const METHODS: [&str; 3] = ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"];

fn hmac(method: &str, key: &[u8], data: &[u8]) -> Vec<u8> {
    fn of<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
        let mac = <M as KeyInit>::new_from_slice(key).unwrap();
        mac.chain_update(data).finalize().into_bytes().to_vec()
    }
    match method {
        "SCRAM-SHA-1" => of::<Hmac<Sha1>>(key, data),
        "SCRAM-SHA-256" => of::<Hmac<Sha256>>(key, data),
        _ => of::<Hmac<Sha512>>(key, data),
    }
}

fn hash(method: &str, data: &[u8]) -> Vec<u8> {
    match method {
        "SCRAM-SHA-1" => Sha1::digest(data).to_vec(),
        "SCRAM-SHA-256" => Sha256::digest(data).to_vec(),
        _ => Sha512::digest(data).to_vec(),
    }
}

/// PBKDF2 with one block, as RFC 5802 has it.
fn salted(method: &str, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
    let mut block = hmac(method, password.as_bytes(), &[salt, &[0, 0, 0, 1]].concat());
    let mut sum = block.clone();
    for _ in 1..iterations {
        block = hmac(method, password.as_bytes(), &block);
        sum.iter_mut()
            .zip(&block)
            .for_each(|(sum, byte)| *sum ^= byte);
    }
    sum
}

/// A SCRAM client, after its own reading of RFC 5802.
struct Scram {
    method: &'static str,
    password: &'static str,
    bare: String,
    signature: Vec<u8>,
}

impl Scram {
    fn new(method: &'static str, user: &str, password: &'static str) -> Self {
        Self {
            method,
            password,
            bare: format!("n={user},r=clientnonce"),
            signature: Vec::new(),
        }
    }

    fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.bare).into_bytes()
    }

    fn last(&mut self, challenge: &[u8]) -> Vec<u8> {
        let challenge = std::str::from_utf8(challenge).unwrap();
        let field = |name: &str| {
            let found = challenge
                .split(',')
                .find_map(|part| part.strip_prefix(name));
            found.unwrap_or_else(|| panic!("{name} in {challenge}"))
        };
        let nonce = field("r=");
        assert!(
            nonce.starts_with("clientnonce") && nonce.len() > 25,
            "{nonce}"
        );
        let salt = STANDARD.decode(field("s=")).unwrap();
        let iterations = field("i=").parse().unwrap();
        let without_proof = format!("c=biws,r={nonce}");
        let said = format!("{},{challenge},{without_proof}", self.bare);
        let salted = salted(self.method, self.password, &salt, iterations);
        let key = hmac(self.method, &salted, b"Client Key");
        let stored = hash(self.method, &key);
        let signature = hmac(self.method, &stored, said.as_bytes());
        let proof: Vec<u8> = key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server = hmac(self.method, &salted, b"Server Key");
        self.signature = hmac(self.method, &server, said.as_bytes());
        format!("{without_proof},p={}", STANDARD.encode(proof)).into_bytes()
    }

    fn expect_proof(&self, data: &[u8]) {
        let expected = format!("v={}", STANDARD.encode(&self.signature));
        assert_eq!(String::from_utf8_lossy(data), expected);
    }
}

fn connect(client_identifier: &str, method: &str, data: &[u8]) -> Connect {
    Connect::new(client_identifier)
        .property(AUTHENTICATION_METHOD, Value::Text(method.into()))
        .property(AUTHENTICATION_DATA, Value::Binary(data.into()))
}

fn auth(code: u8, method: &str, data: &[u8]) -> Vec<u8> {
    let mut body = vec![code];
    let properties = [
        (AUTHENTICATION_METHOD, Value::Text(method.into())),
        (AUTHENTICATION_DATA, Value::Binary(data.into())),
    ];
    property::write(&mut body, &properties);
    packet(0xf0, &body)
}

fn data_of(packet: &Packet) -> Vec<u8> {
    match packet.property(AUTHENTICATION_DATA) {
        Some(Value::Binary(data)) => data.clone(),
        other => panic!("{other:?} instead of Authentication Data in {packet:?}"),
    }
}

#[track_caller]
fn expect_method(packet: &Packet, method: &str) {
    let found = packet.property(AUTHENTICATION_METHOD);
    assert_eq!(found, Some(&Value::Text(method.into())), "[MQTT-4.12.0-5]");
}

fn with_scram(files: &Files, settings: &str) -> Broker {
    let path = files.passwords(&[("alice", "secret"), ("bob", "hunter2")]);
    Broker::with(&format!(
        "authentication.methods = [\"SCRAM-SHA-1\", \"SCRAM-SHA-256\", \"SCRAM-SHA-512\"]\n\
         authentication.password_file = \"{path}\"\n{settings}"
    ))
}

/// Sends CONNECT and answers the challenge; gives the connection before its CONNACK.
fn challenge(broker: &Broker, scram: &mut Scram, client_identifier: &str) -> (Client, Vec<u8>) {
    let mut client = Client::open(broker.address(), Version::V5);
    client.send_raw(&connect(client_identifier, scram.method, &scram.first()).bytes());
    let challenge = client.expect(Kind::Auth);
    assert_eq!(challenge.code, 0x18, "[MQTT-4.12.0-2]");
    // Neither a Reason String nor User Properties that could be too much [MQTT-3.15.2-2].
    assert_eq!(challenge.properties.len(), 2, "{challenge:?}");
    expect_method(&challenge, scram.method);
    let last = scram.last(&data_of(&challenge));
    (client, last)
}

fn authenticated(broker: &Broker, mut scram: Scram, client_identifier: &str) -> Client {
    let (mut client, last) = challenge(broker, &mut scram, client_identifier);
    client.send_raw(&auth(0x18, scram.method, &last));
    let connack = client.expect_accepted().clone();
    expect_method(&connack, scram.method);
    scram.expect_proof(&data_of(&connack));
    client
}

#[test]
fn every_scram_method_lets_its_user_in_and_proves_the_server() {
    let files = Files::new();
    let broker = with_scram(&files, "");
    for method in METHODS {
        let mut client = authenticated(&broker, Scram::new(method, "alice", "secret"), method);
        client.subscribe("t", 1);
        client.publish("t", method, 1);
        assert_eq!(client.message().text(), method);
        for (user, password) in [("alice", "wrong"), ("nobody", "secret"), ("bob", "secret")] {
            let mut scram = Scram::new(method, user, password);
            let (mut client, last) = challenge(&broker, &mut scram, "refused");
            client.send_raw(&auth(0x18, method, &last));
            assert_eq!(client.expect(Kind::ConnAck).code, 0x87, "{method} {user}");
            client.expect_closed();
        }
    }
}

#[test]
fn a_replay_and_a_downgrade_are_refused() {
    let files = Files::new();
    let broker = with_scram(&files, "");
    let mut scram = Scram::new("SCRAM-SHA-256", "alice", "secret");
    let (mut client, last) = challenge(&broker, &mut scram, "first");
    client.send_raw(&auth(0x18, "SCRAM-SHA-256", &last));
    client.expect_accepted();
    // The same last message in another exchange, whose nonce is another.
    let mut again = Scram::new("SCRAM-SHA-256", "alice", "secret");
    let (mut client, _) = challenge(&broker, &mut again, "replay");
    client.send_raw(&auth(0x18, "SCRAM-SHA-256", &last));
    assert_eq!(client.expect(Kind::ConnAck).code, 0x87);
    client.expect_closed();
    // Another method within the exchange.
    let (mut client, last) = challenge(&broker, &mut again, "downgrade");
    client.send_raw(&auth(0x18, "SCRAM-SHA-1", &last));
    assert_eq!(client.expect(Kind::ConnAck).code, 0x8c);
    client.expect_closed();
    // Channel binding that is said to be there, and another header than at first.
    let binding = connect("binding", "SCRAM-SHA-256", b"p=tls-unique,,n=alice,r=x");
    assert_eq!(Client::refused(&broker, &binding).code, 0x87);
    let (mut client, last) = challenge(&broker, &mut again, "header");
    let text = String::from_utf8(last).unwrap().replace("c=biws", "c=eSws");
    client.send_raw(&auth(0x18, "SCRAM-SHA-256", text.as_bytes()));
    assert_eq!(client.expect(Kind::ConnAck).code, 0x87);
    // A method that is not offered.
    let other = connect("other", "SCRAM-SHA-256-PLUS", b"");
    assert_eq!(Client::refused(&broker, &other).code, 0x8c);
}

#[test]
fn an_unknown_user_sees_the_same_salt_each_time() {
    let files = Files::new();
    let broker = with_scram(&files, "");
    let salt = |user: &str| {
        let mut client = Client::open(broker.address(), Version::V5);
        let first = format!("n,,n={user},r=x");
        client.send_raw(&connect("salt", "SCRAM-SHA-256", first.as_bytes()).bytes());
        let text = String::from_utf8(data_of(&client.expect(Kind::Auth))).unwrap();
        text.split_once(",s=").unwrap().1.to_owned()
    };
    assert_eq!(salt("alice"), salt("alice"));
    assert_eq!(salt("nobody"), salt("nobody"));
    assert_ne!(salt("nobody"), salt("somebody"));
    assert_eq!(salt("nobody").len(), salt("alice").len());
}

#[test]
fn before_connack_only_auth_may_come() {
    let files = Files::new();
    let broker = with_scram(&files, "");
    let begin = || {
        let mut scram = Scram::new("SCRAM-SHA-1", "alice", "secret");
        challenge(&broker, &mut scram, "c")
    };
    let publish = Publish::new("t", "x").bytes(Version::V5);
    let second = connect("c", "SCRAM-SHA-1", b"").bytes();
    for (what, bytes, code) in [
        ("PINGREQ", PINGREQ.to_vec(), 0x82),
        ("PUBLISH", publish, 0x82),
        ("CONNECT", second, 0x82),
        ("Re-authenticate", auth(0x19, "SCRAM-SHA-1", b"x"), 0x82),
        ("Success", auth(0x00, "SCRAM-SHA-1", b"x"), 0x82),
        (
            "garbage",
            auth(0x18, "SCRAM-SHA-1", b"\xff\x00garbage"),
            0x87,
        ),
        ("malformed", vec![0xf1, 0], 0x81),
    ] {
        let (mut client, _) = begin();
        client.send_raw(&bytes);
        let connack = client.expect(Kind::ConnAck);
        assert_eq!(connack.code, code, "{what}: {connack:?}");
        client.expect_closed();
    }
    let (mut client, _) = begin();
    client.send_raw(&[0xe0, 0]);
    client.expect_closed();
    // What comes after the last step at once waits for the verdict.
    let (mut client, last) = begin();
    let mut bytes = auth(0x18, "SCRAM-SHA-1", &last);
    bytes.extend(PINGREQ);
    client.send_raw(&bytes);
    client.expect_accepted();
    client.expect(Kind::PingResp);
}

#[test]
fn an_auth_that_the_client_would_not_take_is_not_sent() {
    let files = Files::new();
    let broker = with_scram(&files, "");
    let scram = Scram::new("SCRAM-SHA-256", "alice", "secret");
    let small = connect("c", scram.method, &scram.first());
    let small = small.property(property::MAXIMUM_PACKET_SIZE, Value::Four(60));
    assert_eq!(Client::refused(&broker, &small).code, 0x95);
}

#[test]
fn a_client_that_does_not_answer_is_let_go() {
    let files = Files::new();
    let broker = with_scram(&files, "listener.connect_timeout_s = 1");
    let mut scram = Scram::new("SCRAM-SHA-1", "alice", "secret");
    let (mut client, _) = challenge(&broker, &mut scram, "c");
    client.expect_closed();
}

#[test]
fn a_live_connection_authenticates_again() {
    let files = Files::new();
    let broker = with_scram(&files, "");
    let method = "SCRAM-SHA-256";
    let mut client = authenticated(&broker, Scram::new(method, "alice", "secret"), "c");
    client.subscribe("t", 1);
    for _ in 0..2 {
        let mut scram = Scram::new(method, "alice", "secret");
        client.send_raw(&auth(0x19, method, &scram.first()));
        let challenge = client.expect(Kind::Auth);
        assert_eq!(challenge.code, 0x18);
        // Everything else goes on meanwhile.
        client.publish("t", "meanwhile", 1);
        assert_eq!(client.message().text(), "meanwhile");
        let last = scram.last(&data_of(&challenge));
        client.send_raw(&auth(0x18, method, &last));
        let success = client.expect(Kind::Auth);
        assert_eq!(success.code, 0);
        expect_method(&success, method);
        scram.expect_proof(&data_of(&success));
    }
    client.expect_nothing_before_pong();
}

#[test]
fn a_live_connection_that_fails_to_do_so_ends() {
    let files = Files::new();
    let broker = with_scram(&files, "");
    let method = "SCRAM-SHA-256";
    let live = |name: &str| authenticated(&broker, Scram::new(method, "alice", "secret"), name);
    let again = |client: &mut Client, user: &str, password: &'static str| {
        let mut scram = Scram::new(method, user, password);
        client.send_raw(&auth(0x19, method, &scram.first()));
        let last = scram.last(&data_of(&client.expect(Kind::Auth)));
        client.send_raw(&auth(0x18, method, &last));
    };
    let mut wrong = live("wrong");
    again(&mut wrong, "alice", "wrong");
    wrong.expect_end(0x87);
    let mut other = live("other");
    again(&mut other, "bob", "hunter2");
    other.expect_end(0x87);
    let mut method_changed = live("method");
    method_changed.send_raw(&auth(0x19, "SCRAM-SHA-1", b"n,,n=alice,r=x"));
    method_changed.expect_end(0x8c);
    let mut without_begin = live("begin");
    without_begin.send_raw(&auth(0x18, method, b"c=biws"));
    without_begin.expect_end(0x82);
    let mut twice = live("twice");
    twice.send_raw(&auth(0x19, method, b"n,,n=alice,r=x"));
    twice.expect(Kind::Auth);
    twice.send_raw(&auth(0x19, method, b"n,,n=alice,r=x"));
    twice.expect_end(0x82);
}

mod bearer {
    use super::*;
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    use serde_json::json;
    use std::time::{SystemTime, UNIX_EPOCH};

    const SECRET: &str = "a secret that is at least 32 bytes long";

    fn message(seconds: i64) -> Vec<u8> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs() as i64;
        let claims = json!({ "sub": "alice", "exp": now + seconds });
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap();
        format!("n,a=alice,\u{1}host=x\u{1}auth=Bearer {token}\u{1}\u{1}").into_bytes()
    }

    fn with_bearer(files: &Files) -> Broker {
        let path = files.write("key", SECRET);
        Broker::with(&format!(
            "authentication.methods = [\"OAUTHBEARER\"]\njwt.key_file = \"{path}\"\n\
             jwt.algorithms = [\"HS256\"]\njwt.leeway_s = 0"
        ))
    }

    #[test]
    fn a_token_lets_in_and_a_bad_one_is_told() {
        let files = Files::new();
        let broker = with_bearer(&files);
        let good = connect("c", "OAUTHBEARER", &message(60));
        expect_method(
            Client::connect(&broker, good).connack.as_ref().unwrap(),
            "OAUTHBEARER",
        );
        let other = String::from_utf8(message(60)).unwrap();
        let other = other.replace("a=alice", "a=root").into_bytes();
        for bad in [
            other,
            message(-60),
            b"n,,\x01auth=Bearer x\x01\x01".to_vec(),
            b"".to_vec(),
        ] {
            let mut client = Client::open(broker.address(), Version::V5);
            client.send_raw(&connect("c", "OAUTHBEARER", &bad).bytes());
            let told = client.expect(Kind::Auth);
            assert!(
                String::from_utf8(data_of(&told))
                    .unwrap()
                    .contains("invalid_token")
            );
            client.send_raw(&auth(0x18, "OAUTHBEARER", b"\x01"));
            assert_eq!(client.expect(Kind::ConnAck).code, 0x87);
            client.expect_closed();
        }
    }

    #[test]
    fn a_connection_outlives_its_token_by_authenticating_again() {
        let files = Files::new();
        let broker = with_bearer(&files);
        let connected =
            |name: &str| Client::connect(&broker, connect(name, "OAUTHBEARER", &message(2)));
        let (mut renewed, mut left) = (connected("renewed"), connected("left"));
        renewed.send_raw(&auth(0x19, "OAUTHBEARER", &message(600)));
        assert_eq!(renewed.expect(Kind::Auth).code, 0);
        left.expect_end(0xa0);
        renewed.expect_nothing(1_500);
        renewed.expect_nothing_before_pong();
    }
}
