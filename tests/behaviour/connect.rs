//! CONNECT and CONNACK: versions, Clean Start, Session Present, Client Identifiers, what is refused.

use std::collections::HashSet;
use std::io::Read;
use std::time::Duration;

use crate::support::packet::{DISCONNECT, VERSIONS, packet};
use crate::support::property::{self, write_binary};
use crate::support::{
    Broker, Client, Connect, Kind, Next, PATIENCE, Value, Version, Will, sleep_ms,
};

#[test]
fn every_version_is_accepted_without_a_session() {
    let broker = Broker::start();
    for version in VERSIONS {
        let client = broker.client_of(version, &format!("v-{version:?}"));
        assert!(!client.session_present(), "{version:?}");
        client.disconnect();
    }
}

#[test]
fn connack_before_5_has_two_bytes() {
    let broker = Broker::start();
    for version in [Version::V31, Version::V311] {
        let client = broker.client_of(version, "two");
        assert_eq!(client.connack.unwrap().packet_bytes, 4);
    }
}

#[test]
fn an_unknown_protocol_level_is_refused_by_name() {
    let broker = Broker::start();
    for level in [0, 2, 6, 0x7f] {
        let mut body = Vec::new();
        write_binary(&mut body, b"MQTT");
        body.extend([level, 2, 0, 0]);
        write_binary(&mut body, b"level");
        let answer = answer_until_closed(&broker, &packet(0x10, &body));
        assert_eq!(answer.first(), Some(&0x20), "level {level}: {answer:?}");
        assert!(
            matches!(answer[3], 0x01 | 0x84),
            "level {level}: {answer:?} [MQTT-3.1.2-2]"
        );
    }
}

#[test]
fn an_unknown_protocol_name_ends_the_connection() {
    let broker = Broker::start();
    for name in [&b"mqtt"[..], b"MQTX", b"", b"MQIsd"] {
        let mut body = Vec::new();
        write_binary(&mut body, name);
        body.extend([4, 2, 0, 0]);
        write_binary(&mut body, b"name");
        let answer = answer_until_closed(&broker, &packet(0x10, &body));
        let refused = answer.is_empty() || (answer[0] == 0x20 && answer[3] != 0);
        assert!(refused, "{name:?}: {answer:?} [MQTT-3.1.2-1]");
    }
}

/// Sends `bytes` and gives all that the broker sends until it closes.
fn answer_until_closed(broker: &Broker, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::open(broker.address(), Version::V311);
    client.send_raw(bytes);
    client.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    let mut answer = Vec::new();
    client
        .stream()
        .read_to_end(&mut answer)
        .expect("the broker closes the connection");
    answer
}

#[test]
fn the_first_packet_must_be_connect() {
    let broker = Broker::start();
    for bytes in [
        &[0xc0, 0][..],
        &DISCONNECT,
        &[0x30, 4, 0, 1, b'a', b'x'],
        &[0x40, 2, 0, 1],
    ] {
        let answer = answer_until_closed(&broker, bytes);
        let told = answer.is_empty() || answer[0] == 0xe0;
        assert!(
            told,
            "{bytes:?} was answered with {answer:?} [MQTT-3.1.0-1]"
        );
    }
}

#[test]
fn a_second_connect_is_a_protocol_error() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.client_of(version, "twice");
        client.send_raw(&Connect::new("twice").version(version).bytes());
        client.expect_end(0x82);
    }
}

#[test]
fn clean_start_decides_about_the_session() {
    let broker = Broker::start();
    for version in VERSIONS {
        let id = format!("clean-{version:?}");
        let lasting = || Connect::new(&id).version(version).lasting();
        Client::connect(&broker, lasting()).disconnect();
        let again = Client::connect(&broker, lasting());
        let expected = version != Version::V31; // Session Present came with 3.1.1
        assert_eq!(again.session_present(), expected, "{version:?}: resumed");
        again.disconnect();
        let clean = Client::connect(&broker, Connect::new(&id).version(version));
        assert!(!clean.session_present(), "{version:?}: [MQTT-3.1.2-4]");
        clean.disconnect();
        let after = Client::connect(&broker, lasting());
        assert!(
            !after.session_present(),
            "{version:?}: a clean session leaves nothing"
        );
    }
}

#[test]
fn a_clean_start_forgets_subscriptions_and_messages() {
    let broker = Broker::start();
    let mut first = Client::connect(&broker, Connect::new("forget").lasting());
    first.subscribe("f", 1);
    first.disconnect();
    broker.client("p").publish("f", "queued", 1);
    let mut clean = Client::connect(&broker, Connect::new("forget").expiry_s(600));
    broker.client("p").publish("f", "later", 1);
    clean.expect_nothing_before_pong();
    clean.disconnect();
    let mut resumed = Client::connect(&broker, Connect::new("forget").lasting());
    assert!(resumed.session_present());
    resumed.expect_nothing_before_pong();
}

#[test]
fn without_an_expiry_interval_a_session_ends_with_its_connection() {
    let broker = Broker::start();
    Client::connect(&broker, Connect::new("short").resume()).disconnect();
    assert!(!Client::connect(&broker, Connect::new("short").resume()).session_present());
}

#[test]
fn a_session_expires_after_its_interval_and_not_before() {
    let broker = Broker::start();
    Client::connect(&broker, Connect::new("one").resume().expiry_s(1)).disconnect();
    Client::connect(&broker, Connect::new("many").resume().expiry_s(30)).disconnect();
    sleep_ms(2_500);
    assert!(!Client::connect(&broker, Connect::new("one").resume()).session_present());
    assert!(Client::connect(&broker, Connect::new("many").resume()).session_present());
}

#[test]
fn a_session_does_not_expire_while_its_client_is_connected() {
    let broker = Broker::start();
    let client = Client::connect(&broker, Connect::new("stays").resume().expiry_s(1));
    sleep_ms(2_000);
    client.disconnect();
    assert!(Client::connect(&broker, Connect::new("stays").resume()).session_present());
}

#[test]
fn a_client_without_identifier_gets_a_unique_one() {
    let broker = Broker::start();
    let mut seen = HashSet::new();
    let clients: Vec<Client> = (0..50).map(|_| broker.client("")).collect();
    for client in &clients {
        let connack = client.connack.as_ref().unwrap();
        let assigned = connack.property(property::ASSIGNED_CLIENT_IDENTIFIER);
        let assigned = assigned.expect("[MQTT-3.1.3-7]").text();
        assert!(!assigned.is_empty());
        assert!(
            seen.insert(assigned.to_owned()),
            "{assigned} was assigned twice"
        );
    }
}

#[test]
fn an_assigned_identifier_is_good_for_resumption() {
    let broker = Broker::start();
    let first = Client::connect(&broker, Connect::new("").expiry_s(60));
    let connack = first.connack.clone().unwrap();
    let assigned = connack
        .property(property::ASSIGNED_CLIENT_IDENTIFIER)
        .unwrap()
        .text();
    first.disconnect();
    let again = Client::connect(&broker, Connect::new(assigned).resume().expiry_s(60));
    assert!(again.session_present());
    assert_eq!(
        again
            .connack
            .unwrap()
            .property(property::ASSIGNED_CLIENT_IDENTIFIER),
        None
    );
}

#[test]
fn version_3_1_1_without_identifier_needs_a_clean_session() {
    let broker = Broker::start();
    broker.client_of(Version::V311, "").disconnect();
    let refusal = Client::refused(&broker, &Connect::new("").v311().resume());
    assert_eq!(refusal.code, 2, "[MQTT-3.1.3-8]");
}

#[test]
fn any_utf8_client_identifier_is_taken() {
    let broker = Broker::start();
    for id in ["a b/#+$", "ü-漢-🦀", &"x".repeat(1_000)] {
        let client = Client::connect(&broker, Connect::new(id).lasting());
        assert!(!client.session_present());
        client.disconnect();
        assert!(Client::connect(&broker, Connect::new(id).lasting()).session_present());
    }
}

#[test]
fn anonymous_listeners_take_clients_with_a_name_too() {
    let broker = Broker::start();
    for version in VERSIONS {
        let connect = Connect::new("named")
            .version(version)
            .user_name("u")
            .password(b"p\0\xff");
        Client::connect(&broker, connect).disconnect();
    }
    // 5.0 allows a Password without a User Name; before, that is against [MQTT-3.1.2-22].
    Client::connect(&broker, Connect::new("password").password(b"p")).disconnect();
    let mut old = Client::open(broker.address(), Version::V311);
    old.send_raw(&Connect::new("password").v311().password(b"p").bytes());
    match old.next(PATIENCE) {
        Next::Closed => {}
        Next::Packet(packet) => assert!(
            packet.kind == Kind::ConnAck && packet.code != 0,
            "{packet:?}"
        ),
        Next::Silence => panic!("no answer"),
    }
}

#[test]
fn an_authentication_method_that_is_not_known_is_refused() {
    let broker = Broker::start();
    let connect = Connect::new("auth")
        .property(
            property::AUTHENTICATION_METHOD,
            Value::Text("SCRAM-NONE".into()),
        )
        .property(property::AUTHENTICATION_DATA, Value::Binary(vec![1, 2, 3]));
    assert_eq!(Client::refused(&broker, &connect).code, 0x8c);
}

#[test]
fn a_will_that_cannot_be_published_is_refused() {
    let broker = Broker::start();
    for topic in ["a/#", "+", ""] {
        let refusal = refusal_or_close(&broker, &Connect::new("will").will(Will::new(topic, b"x")));
        assert!(
            matches!(refusal, None | Some(0x81 | 0x82 | 0x90)),
            "{topic:?}: {refusal:?}"
        );
    }
    let refusal = refusal_or_close(
        &broker,
        &Connect::new("will").will(Will::new("t", b"x").qos(3)),
    );
    assert!(
        matches!(refusal, None | Some(0x81 | 0x82)),
        "[MQTT-3.1.2-12]: {refusal:?}"
    );
}

/// The Reason Code of a refusal, if there is one before the close.
fn refusal_or_close(broker: &Broker, connect: &Connect) -> Option<u8> {
    let mut client = Client::open(broker.address(), connect.version);
    client.send_raw(&connect.bytes());
    match client.next(PATIENCE) {
        Next::Closed => None,
        Next::Packet(packet) => {
            assert!(
                packet.kind == Kind::ConnAck && packet.code != 0,
                "{packet:?}"
            );
            client.expect_closed();
            Some(packet.code)
        }
        Next::Silence => panic!("no answer"),
    }
}

#[test]
fn a_connection_that_does_not_finish_connect_is_closed_in_time() {
    let broker = Broker::with("listener.connect_timeout_s = 1");
    let mut healthy = broker.client("healthy");
    let mut silent = Client::open(broker.address(), Version::V5);
    let mut half = Client::open(broker.address(), Version::V5);
    let connect = Connect::new("half").bytes();
    half.send_raw(&connect[..connect.len() - 1]);
    assert!(
        matches!(silent.next(Duration::from_millis(500)), Next::Silence),
        "closed long before the timeout"
    );
    silent.expect_closed();
    half.expect_closed();
    healthy.expect_nothing(1_000);
    healthy.expect_nothing_before_pong();
}

#[test]
fn what_does_not_begin_with_connect_is_closed_at_once() {
    let broker = Broker::start();
    let beginnings: [&[u8]; 4] = [
        &[0x30],
        &[0x30, 0xff, 0xff, 0xff],
        &[0x11],
        b"GET / HTTP/1.1\r\n",
    ];
    for bytes in beginnings {
        let mut stranger = Client::open(broker.address(), Version::V5);
        stranger.send_raw(bytes);
        match stranger.next(Duration::from_secs(3)) {
            Next::Closed => {}
            other => panic!("{other:?} after {bytes:x?} [MQTT-3.1.0-1]"),
        }
    }
}

#[test]
fn a_connection_that_the_broker_ends_has_a_log_line() {
    let broker = Broker::start();
    let mut client = broker.client("logged-client");
    let address = client.stream().local_addr().unwrap().to_string();
    client.send_raw(&[0x00, 0x00]);
    client.expect_end_with(&[0x81, 0x82]);
    broker.expect_log(&["logged-client", &address]);
}
