//! CONNECT (3.1): the fixed part, and what the broker does with the whole.

use std::time::{Duration, Instant};

use crate::support::packet::{DISCONNECT, PINGREQ};
use crate::support::{Connect, Kind, Next, Publish, Scene, Subscribe, Version, sleep_ms};

use super::{
    answer, bytes, client, connect, expect_cut_off, expect_not_answered, lasting, leave, open,
    raw_connect, raw_connect_of, reader, rest,
};

#[test]
fn mqtt3_3_1_0_1_a_connection_that_does_not_begin_with_connect_is_closed() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut watcher = reader(&scene, "watcher", "t", 0);
    for first in [
        Publish::new(&topic, "x").bytes(Version::V311),
        Publish::new(&topic, "x")
            .qos(1)
            .identifier(1)
            .bytes(Version::V311),
        Subscribe::to(&topic, 0).bytes(Version::V311, 1),
        PINGREQ.to_vec(),
        DISCONNECT.to_vec(),
        vec![0x20, 2, 0, 0],
        vec![0x40, 2, 0, 1],
        vec![0x50, 2, 0, 1],
        vec![0x62, 2, 0, 1],
        vec![0x70, 2, 0, 1],
        vec![0x90, 3, 0, 1, 0],
        vec![0xa2, 5, 0, 1, 0, 1, b't'],
        vec![0xb0, 2, 0, 1],
        vec![0xd0, 0],
    ] {
        expect_not_answered(&scene, &format!("{:#04x}", first[0]), &first);
        // A CONNECT behind it does not help.
        let mut both = first.clone();
        both.extend(connect(&scene, "behind").bytes());
        expect_not_answered(&scene, &format!("{:#04x}, then CONNECT", first[0]), &both);
    }
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_1_0_2_a_second_connect_ends_the_connection() {
    let scene = Scene::new();
    for again in ["faulty", "another"] {
        let second = connect(&scene, again).bytes();
        expect_cut_off(&scene, "a second CONNECT", &second);
    }
    // Also in the same segment; the first is answered, the second is not.
    let mut both = connect(&scene, "both").bytes();
    both.extend(connect(&scene, "both").bytes());
    assert_eq!(answer(&scene, &both), [0x20, 2, 0, 0]);
}

#[test]
fn mqtt3_3_1_2_1_a_wrong_protocol_name_is_not_served() {
    let scene = Scene::new();
    let id = scene.id("name");
    for name in [
        &b"mqtt"[..],
        b"MQT",
        b"MQTTT",
        b"MQTt",
        b"",
        b"HTTP",
        b"MQIsdP",
        b"\xef\xbb\xbfMQTT",
    ] {
        let bytes = raw_connect_of(name, 4, 0x00, &[id.as_bytes()]);
        let answer = answer(&scene, &bytes);
        let refused = answer.is_empty() || matches!(answer[..], [0x20, 2, 0, 1]);
        assert!(refused, "{name:?} was answered with {answer:02x?}");
    }
    // None of them made the session that they asked for.
    let client = lasting(&scene, "name");
    assert!(!client.session_present());
}

#[test]
fn mqtt3_3_1_2_2_a_level_that_is_not_supported_is_answered_with_0x01() {
    let scene = Scene::new();
    for level in [0, 1, 2, 0x7f] {
        let bytes = raw_connect_of(b"MQTT", level, 0x02, &[b"level"]);
        let found = answer(&scene, &bytes);
        if level < 5 {
            assert_eq!(found, [0x20, 2, 0, 1], "level {level}");
        } else {
            // In the words of the nearest version that the client may know.
            assert!(
                found.len() >= 4 && found[0] == 0x20 && matches!(found[3], 0x01 | 0x84),
                "level {level}: {found:02x?}"
            );
        }
    }
    // Level 4 belongs to the name MQTT, 3 to MQIsdp.
    for (name, level) in [(&b"MQTT"[..], 3), (b"MQIsdp", 4)] {
        let bytes = raw_connect_of(name, level, 0x02, &[b"level"]);
        assert_eq!(answer(&scene, &bytes), [0x20, 2, 0, 1], "{name:?} {level}");
    }
}

#[test]
fn mqtt3_3_1_2_3_the_reserved_connect_flag_ends_the_connection() {
    let scene = Scene::new();
    for flags in [0x01, 0x03, 0x07, 0xc3] {
        let bytes = raw_connect(flags, &[b"reserved", b"t", b"m", b"u", b"p"]);
        expect_not_answered(&scene, "the reserved flag", &bytes);
    }
    let bytes = raw_connect(0x03, &[b"reserved"]);
    expect_not_answered(&scene, "the reserved flag alone", &bytes);
}

#[test]
fn mqtt3_3_1_2_24_a_silent_client_is_cut_off_after_one_and_a_half_keep_alives() {
    let scene = Scene::new();
    let mut watcher = reader(&scene, "watcher", "will", 0);
    let will = crate::support::Will::new(&scene.topic("will"), b"as if the network had failed");
    let mut silent = scene.join(connect(&scene, "silent").keep_alive_s(1).will(will));
    let start = Instant::now();
    silent.expect_closed();
    let after = start.elapsed();
    assert!(after >= Duration::from_millis(1_400), "after {after:?}");
    assert!(after < Duration::from_secs(6), "after {after:?}");
    watcher.expect_message(&scene.topic("will"), "as if the network had failed");
}

#[test]
fn mqtt3_3_1_2_24_a_part_of_a_packet_is_no_packet() {
    let scene = Scene::new();
    let mut trickle = scene.join(connect(&scene, "trickle").keep_alive_s(1));
    let packet = Publish::new(&scene.topic("t"), vec![b'x'; 1000]).bytes(Version::V311);
    let start = Instant::now();
    let closed = packet.iter().any(|byte| {
        assert!(
            start.elapsed() < Duration::from_secs(6),
            "bytes kept the connection, without one packet"
        );
        !trickle.try_send_raw(&[*byte])
            || matches!(trickle.next(Duration::from_millis(200)), Next::Closed)
    });
    assert!(closed, "not closed before the packet was complete");
}

#[test]
fn mqtt3_3_1_2_24_every_packet_counts_and_zero_turns_it_off() {
    let scene = Scene::new();
    let mut timeless = scene.join(connect(&scene, "timeless").keep_alive_s(0));
    let mut alive = scene.join(connect(&scene, "alive").keep_alive_s(1));
    let topic = scene.topic("t");
    let packets = [
        PINGREQ.to_vec(),
        Publish::new(&topic, "x").bytes(Version::V311),
        Subscribe::to(&scene.topic("other"), 0).bytes(Version::V311, 1),
        vec![0x40, 2, 0, 1],
    ];
    for packet in packets {
        sleep_ms(700);
        alive.send_raw(&packet);
    }
    alive.send_raw(&PINGREQ);
    for _ in 0..2 {
        alive.wait_for("PINGRESP", |packet| packet.kind == Kind::PingResp);
    }
    timeless.expect_nothing_before_pong();
}

/// CONNECT packets that do not conform to 3.1, each for one reason.
fn not_conforming() -> Vec<(&'static str, Vec<u8>)> {
    let will: &[&[u8]] = &[b"id", b"t", b"m"];
    vec![
        ("Will QoS 1 without a Will", raw_connect(0x0a, &[b"id"])),
        ("Will QoS 2 without a Will", raw_connect(0x12, &[b"id"])),
        ("Will QoS 3 without a Will", raw_connect(0x1a, &[b"id"])),
        ("Will Retain without a Will", raw_connect(0x22, &[b"id"])),
        ("Will QoS 3", raw_connect(0x1e, will)),
        ("a Will without its fields", raw_connect(0x06, &[b"id"])),
        (
            "a Will without its message",
            raw_connect(0x06, &[b"id", b"t"]),
        ),
        (
            "an empty Will Topic",
            raw_connect(0x06, &[b"id", b"", b"m"]),
        ),
        (
            "a Will Topic with #",
            raw_connect(0x06, &[b"id", b"a/#", b"m"]),
        ),
        (
            "a Will Topic with +",
            raw_connect(0x06, &[b"id", b"+/a", b"m"]),
        ),
        ("a User Name that is missing", raw_connect(0x82, &[b"id"])),
        (
            "a Password that is missing",
            raw_connect(0xc2, &[b"id", b"u"]),
        ),
        (
            "a Password without a User Name",
            raw_connect(0x42, &[b"id", b"p"]),
        ),
        ("no Client Identifier", raw_connect(0x02, &[])),
        ("a field too many", raw_connect(0x02, &[b"id", b"more"])),
        ("a Will that no flag tells of", raw_connect(0x02, will)),
        (
            "something behind the Password",
            raw_connect(0xc2, &[b"id", b"u", b"p", b"q"]),
        ),
    ]
}

#[test]
fn mqtt3_3_1_4_1_a_connect_that_does_not_conform_gets_no_connack() {
    let scene = Scene::new();
    for (what, bytes) in not_conforming() {
        expect_not_answered(&scene, what, &bytes);
    }
    let right = raw_connect(0xc6, &[b"id-of-not-conforming", b"t", b"m", b"u", b"p"]);
    let mut client = open(&scene);
    client.send_raw(&right);
    client.expect_accepted();
}

#[test]
fn mqtt3_3_1_4_2_a_client_identifier_that_connects_again_ends_the_first_connection() {
    let scene = Scene::new();
    for resume in [false, true] {
        let connect = || match resume {
            true => connect(&scene, "taken").resume(),
            false => connect(&scene, "taken"),
        };
        let mut first = scene.join(connect());
        let mut second = scene.join(connect());
        first.expect_closed();
        second.expect_nothing_before_pong();
        let mut third = scene.join(connect());
        second.expect_closed();
        third.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt3_3_1_4_3_clean_session_is_processed_at_every_connect() {
    let scene = Scene::new();
    assert!(!lasting(&scene, "id").session_present(), "nothing yet");
    assert!(lasting(&scene, "id").session_present(), "kept");
    assert!(!client(&scene, "id").session_present(), "discarded");
    assert!(!lasting(&scene, "id").session_present(), "was clean");
    assert!(lasting(&scene, "id").session_present(), "kept again");
}

#[test]
fn mqtt3_3_1_4_4_a_good_connect_is_answered_with_zero() {
    let scene = Scene::new();
    // Every combination of flags that conforms.
    for flags in (0..=255_u8).filter(|flags| flags & 1 == 0) {
        let (user, password, will) = (flags & 0x80 != 0, flags & 0x40 != 0, flags & 0x04 != 0);
        let will_bits = flags & 0x38;
        if (password && !user) || (!will && will_bits != 0) || flags & 0x18 == 0x18 {
            continue;
        }
        let id = scene.id(&flags.to_string());
        let topic = scene.topic("will");
        let mut fields = vec![id.as_bytes()];
        if will {
            fields.extend([topic.as_bytes(), b"m"]);
        }
        if user {
            fields.push(b"user");
        }
        if password {
            fields.push(b"\0\xffpassword");
        }
        let mut client = open(&scene);
        client.send_raw(&raw_connect(flags, &fields));
        assert_eq!(bytes(&client, 4), [0x20, 2, 0, 0], "flags {flags:#010b}");
        client.send_raw(&DISCONNECT);
        assert!(rest(&client).is_empty());
    }
}

#[test]
fn mqtt3_3_1_4_5_what_follows_a_refused_connect_is_not_processed() {
    let scene = Scene::new();
    let mut watcher = reader(&scene, "watcher", "t", 0);
    let message = Publish::new(&scene.topic("t"), "x").bytes(Version::V311);
    let (id, topic) = (scene.id("refused"), scene.topic("t"));
    let refused: [(&str, Vec<u8>); 4] = [
        (
            "an empty Client Identifier without Clean Session",
            raw_connect(0x00, &[b""]),
        ),
        (
            "an unknown level",
            raw_connect_of(b"MQTT", 2, 0x02, &[id.as_bytes()]),
        ),
        ("the reserved flag", raw_connect(0x03, &[id.as_bytes()])),
        (
            "a bad Will",
            raw_connect(0x1e, &[id.as_bytes(), topic.as_bytes(), b"m"]),
        ),
    ];
    for (what, mut bytes) in refused {
        bytes.extend(&message);
        let found = answer(&scene, &bytes);
        assert!(
            found.is_empty() || (found.len() == 4 && found[3] != 0),
            "{what}: {found:02x?}"
        );
    }
    watcher.expect_nothing_before_pong();
}

#[test]
fn mqtt3_3_1_4_4_packets_behind_connect_need_not_wait_for_connack() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let client = open(&scene);
    let mut all = connect(&scene, "hasty").bytes();
    all.extend(Subscribe::to(&topic, 0).bytes(Version::V311, 1));
    all.extend(PINGREQ);
    let mut stream = client;
    stream.send_raw(&all);
    stream.expect_accepted();
    stream.wait_for_acknowledgement(Kind::SubAck, 1);
    stream.wait_for("PINGRESP", |packet| packet.kind == Kind::PingResp);
    stream.send_raw(&Publish::new(&topic, "x").bytes(Version::V311));
    stream.expect_message(&topic, "x");
    assert!(leave(&stream).is_empty());
}

#[test]
fn mqtt3_3_1_4_2_a_refused_connect_takes_nothing_over() {
    let scene = Scene::new();
    let mut first = client(&scene, "stays");
    let id = scene.id("stays");
    for bytes in [
        raw_connect(0x03, &[id.as_bytes()]),
        raw_connect(0x1e, &[id.as_bytes(), b"t", b"m"]),
        raw_connect(0x82, &[id.as_bytes()]),
    ] {
        expect_not_answered(&scene, "a bad CONNECT", &bytes);
    }
    first.expect_nothing_before_pong();
    scene.join(Connect::new(&id).v311());
    first.expect_closed();
}
