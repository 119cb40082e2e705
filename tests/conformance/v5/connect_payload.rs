//! CONNECT: limits that its properties set, its payload (3.1.3), and what the broker does with it (3.1.4).

use std::collections::HashSet;

use super::*;
use crate::support::packet::PINGREQ;

fn limited(scene: &Scene, name: &str, bytes: u32) -> Connect {
    scene
        .connect(name)
        .property(property::MAXIMUM_PACKET_SIZE, Value::Four(bytes))
}

#[test]
fn mqtt5_3_1_2_24_no_packet_is_larger_than_the_client_takes() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    for limit in [80, 81, 82, 100, 127, 128, 129, 130, 131, 200] {
        let mut reader = scene.join(limited(&scene, "reader", limit));
        reader.subscribe(&topic, 2);
        for qos in 0..3 {
            for size in 0..limit {
                writer.publish(&topic, vec![b'x'; size as usize], qos);
            }
            let overhead = topic.len() + 2 + if qos == 0 { 1 } else { 3 };
            let length = |size: usize| overhead + size + if overhead + size < 128 { 2 } else { 3 };
            // All that fit come, the last with the very size of the limit or one below it.
            for size in (0..limit as usize).filter(|size| length(*size) <= limit as usize) {
                let message = reader.message();
                assert_eq!(
                    (message.qos, message.payload.len()),
                    (qos, size),
                    "limit {limit}"
                );
                assert!(message.packet_bytes <= limit as usize, "{message:?}");
            }
            reader.expect_nothing_before_pong();
        }
        reader.disconnect();
    }
}

#[test]
fn mqtt5_3_1_2_24_answers_that_are_too_large_are_not_sent_either() {
    let scene = Scene::new();
    // CONNACK: not one with all that there is to say, nor a shorter one if that is too large as well.
    for limit in 1..40 {
        let mut client = scene.open();
        client.send_raw(&limited(&scene, "connack", limit).bytes());
        match client.next(PATIENCE) {
            Next::Closed => {}
            Next::Packet(packet) => {
                assert!(
                    packet.packet_bytes <= limit as usize,
                    "limit {limit}: {packet:?}"
                );
            }
            Next::Silence => panic!("limit {limit}: no answer"),
        }
    }
    // SUBACK and UNSUBACK for many filters.
    let filters: Vec<String> = (0..100).map(|n| scene.topic(&n.to_string())).collect();
    let mut subscribe = Subscribe::default();
    for filter in &filters {
        subscribe = subscribe.and(filter, 0);
    }
    let names: Vec<&str> = filters.iter().map(String::as_str).collect();
    let unsubscribe = crate::support::packet::unsubscribe(Version::V5, 1, &names);
    for bytes in [subscribe.bytes(Version::V5, 1), unsubscribe] {
        let mut client = scene.join(limited(&scene, "suback", 60));
        client.send_raw(&bytes);
        loop {
            match client.next(PATIENCE) {
                Next::Closed => break,
                Next::Packet(packet) => assert!(packet.packet_bytes <= 60, "{packet:?}"),
                Next::Silence => panic!("a client waits for an answer that cannot come"),
            }
        }
    }
}

#[test]
fn mqtt5_3_1_2_25_a_message_that_is_too_large_counts_as_delivered() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.join(limited(&scene, "reader", 100).receive_maximum(1).lasting());
    reader.subscribe(&topic, 2);
    let mut other = scene.client("other");
    other.subscribe(&topic, 2);
    let mut writer = scene.client("writer");
    for qos in 0..3 {
        // If it took the one place of the window, nothing more would come.
        for payload in [
            vec![b'x'; 5_000],
            b"small".to_vec(),
            vec![b'y'; 101],
            b"last".to_vec(),
        ] {
            writer.publish(&topic, payload, qos);
        }
        reader.expect_message(&topic, "small");
        reader.expect_message(&topic, "last");
        assert_eq!(
            other.message().payload.len(),
            5_000,
            "other subscribers get it"
        );
        for _ in 0..3 {
            other.message();
        }
    }
    // Nor does it come later, when the client takes more.
    reader.disconnect();
    let mut again = scene.join(scene.connect("reader").lasting());
    again.expect_nothing_before_pong();
    // One that waited in the queue is treated the same.
    again.disconnect();
    writer.publish(&topic, vec![b'x'; 5_000], 1);
    writer.publish(&topic, "queued", 1);
    let mut again = scene.join(limited(&scene, "reader", 100).receive_maximum(1).lasting());
    again.expect_message(&topic, "queued");
}

fn aliases_seen(scene: &Scene, maximum: Option<u16>) -> Vec<u32> {
    let mut connect = scene.connect("reader");
    if let Some(maximum) = maximum {
        connect = connect.property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(maximum));
    }
    let mut reader = scene.join(connect);
    reader.subscribe(&scene.topic("#"), 1);
    let mut writer = scene.client("writer");
    let mut aliases = Vec::new();
    for n in 0..40 {
        writer.publish(&scene.topic(&(n % 8).to_string()), "x", n % 2);
        aliases.extend(reader.message().number(property::TOPIC_ALIAS));
    }
    aliases
}

#[test]
fn mqtt5_3_1_2_26_no_topic_alias_is_over_the_clients_maximum() {
    let scene = Scene::new();
    for maximum in [1, 3, 5] {
        let aliases = aliases_seen(&scene, Some(maximum));
        assert!(!aliases.is_empty(), "no alias at all shows nothing");
        assert!(
            aliases
                .iter()
                .all(|alias| (1..=u32::from(maximum)).contains(alias)),
            "{aliases:?}"
        );
    }
}

#[test]
fn mqtt5_3_1_2_27_a_client_without_topic_alias_maximum_gets_no_alias() {
    let scene = Scene::new();
    assert!(aliases_seen(&scene, None).is_empty());
    assert!(aliases_seen(&scene, Some(0)).is_empty());
}

#[test]
fn mqtt5_3_1_2_28_who_does_not_ask_gets_no_response_information() {
    let scene = Scene::new();
    for asked in [None, Some(0)] {
        let mut connect = scene.connect("client");
        if let Some(asked) = asked {
            connect = connect.property(property::REQUEST_RESPONSE_INFORMATION, Value::Byte(asked));
        }
        let client = scene.join(connect);
        assert_eq!(
            client
                .connack
                .as_ref()
                .unwrap()
                .property(property::RESPONSE_INFORMATION),
            None
        );
    }
}

#[test]
fn mqtt5_3_1_2_29_without_problem_information_only_three_packets_may_explain() {
    let scene = Scene::new();
    let quiet = scene
        .connect("quiet")
        .property(property::REQUEST_PROBLEM_INFORMATION, Value::Byte(0));
    let mut client = scene.join(quiet);
    let mut request = Subscribe::to("bad/#/filter", 0).bytes(Version::V5, 1);
    request.extend(crate::support::packet::unsubscribe(
        Version::V5,
        2,
        &["not/subscribed", "+x"],
    ));
    request.extend(
        Publish::new("$SYS/x", "x")
            .qos(1)
            .identifier(3)
            .bytes(Version::V5),
    );
    request.extend(
        Publish::new("$SYS/x", "x")
            .qos(2)
            .identifier(4)
            .bytes(Version::V5),
    );
    request.extend(crate::support::packet::acknowledgement(Kind::PubRel, 5));
    request.extend(crate::support::packet::acknowledgement(Kind::PubRec, 6));
    let answers = answers(&mut client, &request);
    let kinds = [
        Kind::SubAck,
        Kind::UnsubAck,
        Kind::PubAck,
        Kind::PubRec,
        Kind::PubComp,
        Kind::PubRel,
    ];
    for kind in kinds {
        let answer = answers.iter().find(|answer| answer.kind == kind);
        let answer = answer.unwrap_or_else(|| panic!("no {kind:?} in {answers:?}"));
        assert!(
            answer.code >= 0x80 || kind == Kind::UnsubAck,
            "{answer:?} reports a problem"
        );
        assert!(answer.properties.is_empty(), "{answer:?}");
    }
}

#[test]
fn mqtt5_3_1_3_1_the_fields_of_the_payload_have_their_order() {
    let scene = Scene::new();
    let (id, topic) = (scene.id("all"), scene.topic("will"));
    let mut watcher = scene.reader("watcher", "will", 1);
    let fields: [&[u8]; 6] = [
        id.as_bytes(),
        NO_WILL_PROPERTIES,
        topic.as_bytes(),
        b"payload",
        b"name",
        b"\xff\x00",
    ];
    let mut client = scene.open();
    client.send_raw(&raw_connect(0xce, &[], &fields));
    client.expect_accepted();
    client.cut();
    watcher.expect_message(&topic, "payload");
    // With Password before User Name the latter is no UTF-8.
    let mut swapped = fields;
    swapped.swap(4, 5);
    refuses(
        &scene,
        "swapped",
        &raw_connect(0xce, &[], &swapped),
        MALFORMED,
    );
}

#[test]
fn mqtt5_3_1_3_2_the_client_identifier_names_the_session() {
    let scene = Scene::new();
    let ids = ["a", "A", "a ", "aa"];
    for id in ids {
        let mut client = scene.join(scene.connect(id).lasting());
        assert!(!client.session_present(), "{id:?} is another client");
        client.subscribe(&scene.topic(id), 1);
        client.disconnect();
    }
    let mut writer = scene.client("writer");
    for id in ids {
        writer.publish(&scene.topic(id), id, 1);
    }
    for id in ids {
        let mut client = scene.join(scene.connect(id).lasting());
        assert!(client.session_present());
        client.expect_message(&scene.topic(id), id);
        client.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt5_3_1_3_3_the_client_identifier_must_be_there_and_first() {
    let scene = Scene::new();
    refuses(&scene, "none", &raw_connect(2, &[], &[]), &[0x81, 0x85]);
    // Where the Client Identifier stands, a first Will field is read as one.
    refuses(
        &scene,
        "cut",
        &raw_connect(2, &[], &[b"<raw>\x00\x05abc"]),
        &[0x81, 0x85],
    );
}

#[test]
fn mqtt5_3_1_3_4_the_client_identifier_must_be_utf8() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        refuses(
            &scene,
            &format!("{text:x?}"),
            &raw_connect(2, &[], &[text]),
            &[0x81, 0x85],
        );
    }
}

#[test]
fn mqtt5_3_1_3_5_identifiers_of_1_to_23_letters_and_digits_are_taken() {
    let scene = Scene::new();
    let letters: String = ('0'..='9').chain('a'..='z').chain('A'..='Z').collect();
    for start in 0..letters.len() {
        let length = 1 + start % 23;
        let id: String = letters.chars().cycle().skip(start).take(length).collect();
        Client::connect(scene.broker(), Connect::new(&id)).disconnect();
    }
}

fn assigned(client: &Client) -> String {
    let connack = client.connack.as_ref().unwrap();
    let assigned = connack.property(property::ASSIGNED_CLIENT_IDENTIFIER);
    assigned
        .expect("an Assigned Client Identifier")
        .text()
        .to_owned()
}

#[test]
fn mqtt5_3_1_3_6_a_client_without_identifier_gets_a_unique_one() {
    let scene = Scene::new();
    let clients: Vec<Client> = (0..40)
        .map(|n| {
            let connect = Connect::new("").expiry_s(60);
            scene.join(if n % 2 == 0 {
                connect
            } else {
                connect.resume()
            })
        })
        .collect();
    let ids: HashSet<String> = clients.iter().map(assigned).collect();
    assert_eq!(ids.len(), clients.len());
    assert!(ids.iter().all(|id| !id.is_empty()));
    for mut client in clients {
        assert!(!client.session_present());
        client.expect_nothing_before_pong();
        client.send_raw(&crate::support::packet::disconnect(
            0,
            &[(property::SESSION_EXPIRY_INTERVAL, Value::Four(0))],
        ));
    }
}

#[test]
fn mqtt5_3_1_3_7_an_assigned_identifier_is_told_and_is_the_clients_own() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut client = scene.join(Connect::new("").expiry_s(60));
    client.subscribe(&topic, 1);
    let id = assigned(&client);
    client.disconnect();
    scene.client("writer").publish(&topic, "queued", 1);
    let mut again = scene.join(Connect::new(&id).resume());
    assert!(again.session_present());
    again.expect_message(&topic, "queued");
    let other = scene.join(Connect::new(&id));
    again.expect_end_with(&[0x8e]);
    drop(other);
}

#[test]
fn mqtt5_3_1_3_8_a_client_identifier_that_is_refused_ends_the_connection() {
    let scene = Scene::new();
    // Every identifier of good UTF-8 is taken; the others end the connection, after a CONNACK or without.
    for text in [&b"\xff\xfe"[..], b"a\0", b"\xed\xa0\x80"] {
        refuses(
            &scene,
            &format!("{text:x?}"),
            &raw_connect(2, &[], &[text]),
            &[0x81, 0x85],
        );
    }
    Client::connect(scene.broker(), Connect::new(&"long ".repeat(2_000))).disconnect();
}

#[test]
fn mqtt5_3_1_3_9_no_will_is_sent_when_the_client_is_back_within_the_delay() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 1);
    let will = Will::new(&scene.topic("will"), b"gone").qos(1).delay_s(1);
    let connect = || scene.connect("client").resume().expiry_s(60);
    scene.join(connect().will(will.clone())).cut();
    let back = scene.join(connect());
    assert!(back.session_present());
    // The same when the new connection takes over from the old one.
    let _older = scene.join(scene.connect("other").resume().expiry_s(60).will(will));
    let _newer = scene.join(scene.connect("other").resume().expiry_s(60));
    watcher.expect_nothing(1_700);
}

#[test]
fn mqtt5_3_1_3_10_the_wills_user_properties_keep_their_order() {
    let scene = Scene::new();
    let mut watcher = scene.reader("watcher", "will", 1);
    let pairs = [("b", "1"), ("a", "2"), ("b", "1"), ("", ""), ("a", "0")];
    let mut will = Will::new(&scene.topic("will"), b"gone");
    for (name, value) in pairs {
        let (identifier, value) = user_property(name, value);
        will = will.property(identifier, value);
    }
    scene.join(scene.connect("dying").will(will)).cut();
    let expected = pairs.map(|(name, value)| user_property(name, value));
    assert_eq!(watcher.message().properties, expected);
}

#[test]
fn mqtt5_3_1_3_11_the_will_topic_must_be_utf8() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        let bytes = raw_connect(6, &[], &[b"id", NO_WILL_PROPERTIES, text, b"x"]);
        refuses(&scene, &format!("{text:x?}"), &bytes, &[0x81, 0x90]);
    }
}

#[test]
fn mqtt5_3_1_3_12_the_user_name_must_be_utf8() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        let bytes = raw_connect(0x82, &[], &[b"id", text]);
        refuses(&scene, &format!("{text:x?}"), &bytes, &[0x81, 0x86]);
    }
}

#[test]
fn mqtt5_3_1_4_1_a_connect_that_is_not_right_closes_the_connection() {
    let scene = Scene::new();
    let good = raw_connect(2, &[], &[b"check"]);
    let mut long = good.clone();
    long[1] += 1;
    long.push(0);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("something behind its end", long),
        ("a cut variable header", packet(0x10, &good[2..9])),
        ("an empty packet", vec![0x10, 0]),
        ("Receive Maximum 0", raw_connect(2, &[0x21, 0, 0], &[b"id"])),
        (
            "Maximum Packet Size 0",
            raw_connect(2, &[0x27, 0, 0, 0, 0], &[b"id"]),
        ),
        (
            "a property of other packets",
            raw_connect(2, &[0x23, 0, 1], &[b"id"]),
        ),
        (
            "Authentication Data alone",
            raw_connect(2, &[0x16, 0, 0], &[b"id"]),
        ),
        (
            "a Will Topic with a wildcard",
            raw_connect(6, &[], &[b"id", NO_WILL_PROPERTIES, b"a/+", b""]),
        ),
        (
            "an empty Will Topic",
            raw_connect(6, &[], &[b"id", NO_WILL_PROPERTIES, b"", b""]),
        ),
    ];
    for (what, bytes) in cases {
        refuses(&scene, what, &bytes, &[0x81, 0x82, 0x90]);
    }
    let mut client = scene.open();
    client.send_raw(&good);
    client.expect_accepted();
}

#[test]
fn mqtt5_3_1_4_2_a_client_that_may_not_connect_is_refused() {
    let scene = Scene::with("listener.allow_anonymous = false");
    let refusal = scene.refused(&scene.connect("nobody"));
    assert_eq!(refusal.code, 0x87);
    let named = scene
        .connect("somebody")
        .user_name("name")
        .password(b"word");
    assert!(matches!(scene.refused(&named).code, 0x86 | 0x87));
}

#[test]
fn mqtt5_3_1_4_3_a_second_connection_of_a_client_ends_the_first() {
    let scene = Scene::new();
    for round in 0..4 {
        let clean = |connect: Connect| {
            if round % 2 == 0 {
                connect
            } else {
                connect.lasting()
            }
        };
        let mut older = scene.join(clean(scene.connect("client")));
        let mut newer = scene.join(clean(scene.connect("client")));
        older.expect_end(0x8e);
        newer.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt5_3_1_4_4_clean_start_counts_in_a_takeover_too() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut writer = scene.client("writer");
    let mut older = scene.join(scene.connect("client").lasting());
    older.subscribe(&topic, 1);
    let mut resumed = scene.join(scene.connect("client").lasting());
    assert!(resumed.session_present());
    writer.publish(&topic, "resumed", 1);
    resumed.expect_message(&topic, "resumed");
    let mut clean = scene.join(scene.connect("client").expiry_s(600));
    assert!(!clean.session_present());
    clean.subscribe(&scene.topic("end"), 1);
    writer.publish(&topic, "clean", 1);
    assert!(scene.until_end(&mut clean, &mut writer).is_empty());
}

#[test]
fn mqtt5_3_1_4_5_an_accepted_connect_is_answered_with_connack_0() {
    let scene = Scene::new();
    let client = scene.client("client");
    assert_eq!(client.connack.as_ref().unwrap().code, 0);
    let mut early = scene.open();
    // What follows in the same segment is not waited for.
    early.send_raw(&[scene.connect("early").bytes(), PINGREQ.to_vec()].concat());
    early.expect_accepted();
    early.expect(Kind::PingResp);
}

#[test]
fn mqtt5_3_1_4_6_nothing_is_done_for_a_client_that_was_refused() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut reader = scene.reader("reader", "t", 1);
    let mut writer = scene.client("writer");
    let refused = scene
        .connect("refused")
        .property(property::AUTHENTICATION_METHOD, Value::Text("x".into()));
    let mut bytes = refused.bytes();
    bytes.extend(
        Publish::new(&topic, "x")
            .qos(1)
            .identifier(1)
            .bytes(Version::V5),
    );
    bytes.extend(Publish::new(&topic, "kept").retain().bytes(Version::V5));
    bytes.extend(PINGREQ);
    let mut client = scene.open();
    client.send_raw(&bytes);
    assert!(client.expect(Kind::ConnAck).code >= 0x80);
    client.expect_closed();
    assert!(scene.until_end(&mut reader, &mut writer).is_empty());
    let mut late = scene.reader("late", "t", 1);
    assert!(scene.until_end(&mut late, &mut writer).is_empty());
}
