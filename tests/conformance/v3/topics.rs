//! Topic Names and Topic Filters (4.7).

use crate::support::{Scene, Subscribe};

use super::{
    client, expect_cut_off, expect_not_answered, raw_connect, raw_publish, raw_subscribe,
    raw_unsubscribe, reader,
};

#[test]
fn mqtt3_4_7_1_1_wildcards_are_for_filters_and_not_for_names() {
    let scene = Scene::new();
    for name in ["+", "#", "a/+", "a/#", "+/a", "a/+/b", "a+", "a#"] {
        let bytes = raw_publish(0x30, name.as_bytes(), &[], b"x");
        expect_cut_off(&scene, name, &bytes);
        let bytes = raw_connect(0x06, &[b"id", name.as_bytes(), b"m"]);
        expect_not_answered(&scene, name, &bytes);
    }
}

/// The connection ends for a filter that is not valid, in SUBSCRIBE and in UNSUBSCRIBE.
fn expect_invalid(scene: &Scene, filter: &str) {
    let text = filter.as_bytes();
    expect_cut_off(scene, filter, &raw_subscribe(0x82, 1, &[(text, 0)]));
    expect_cut_off(scene, filter, &raw_unsubscribe(0xa2, 1, &[text]));
}

/// Each filter with the names that it matches and those that it does not.
fn expect_matches(cases: &[(&str, &[&str], &[&str])]) {
    let scene = Scene::new();
    let mut writer = client(&scene, "writer");
    for (filter, matching, others) in cases {
        let mut reader = reader(&scene, "reader", filter, 1);
        for (n, name) in others.iter().chain(*matching).enumerate() {
            writer.publish(&scene.topic(name), n.to_string(), 1);
        }
        for (n, name) in matching.iter().enumerate() {
            reader.expect_message(&scene.topic(name), (others.len() + n).to_string());
        }
        reader.expect_nothing_before_pong();
        reader.disconnect();
    }
}

#[test]
fn mqtt3_4_7_1_2_the_multi_level_wildcard_stands_alone_and_last() {
    let scene = Scene::new();
    for filter in [
        "a#", "#a", "a/#b", "a/b#", "#/a", "a/#/b", "##", "a/##", "+#", "a/+#",
    ] {
        expect_invalid(&scene, filter);
    }
    let player = "sport/tennis/player1";
    let (ranking, score) = (
        "sport/tennis/player1/ranking",
        "sport/tennis/player1/score/wimbledon",
    );
    expect_matches(&[
        (
            "sport/tennis/player1/#",
            &[player, ranking, score],
            &[
                "sport/tennis",
                "sport/tennis/player2",
                "sport/tennis/player10",
            ],
        ),
        (
            "sport/#",
            &["sport", "sport/", player],
            &["sports", "/sport"],
        ),
        ("#", &["sport", "/", "//", player], &[]),
        ("/#", &["/", "/a", "/a/b"], &["a", "a/b"]),
        (
            "sport/tennis/#",
            &["sport/tennis", player],
            &["sport", "sport/tennis1"],
        ),
    ]);
}

#[test]
fn mqtt3_4_7_1_3_the_single_level_wildcard_occupies_a_level() {
    let scene = Scene::new();
    for filter in [
        "a+", "+a", "a/b+", "a/+b", "a+/b", "++", "a/++", "+a/b", "a/+b/c",
    ] {
        expect_invalid(&scene, filter);
    }
    expect_matches(&[
        (
            "sport/tennis/+",
            &[
                "sport/tennis/player1",
                "sport/tennis/player2",
                "sport/tennis/",
            ],
            &[
                "sport/tennis",
                "sport/tennis/player1/ranking",
                "sport/golf/player1",
            ],
        ),
        (
            "sport/+",
            &["sport/", "sport/a"],
            &["sport", "sport/a/b", "sports/a"],
        ),
        ("+", &["a", ""], &["a/b", "/finance"]),
        ("+/+", &["/finance", "a/b", "/"], &["finance", "/a/b"]),
        ("/+", &["/finance", "/"], &["finance", "/a/b", "a/b"]),
        (
            "sport/+/player1",
            &["sport/tennis/player1", "sport//player1"],
            &["sport/player1", "sport/tennis/golf/player1"],
        ),
        (
            "+/tennis/#",
            &["sport/tennis", "sport/tennis/player1", "/tennis/a/b"],
            &["tennis", "a/sport/tennis"],
        ),
        ("+/+/+", &["a/b/c", "//"], &["a/b", "a/b/c/d"]),
    ]);
}

#[test]
fn mqtt3_4_7_2_1_a_leading_wildcard_does_not_match_a_leading_dollar() {
    let scene = Scene::with("system_topics.interval_s = 1");
    // The broker itself publishes to $SYS: who asks for it by name gets it, who asks for all does not.
    let mut named = client(&scene, "named");
    named.subscribe("$SYS/broker/uptime", 0);
    let mut readers = Vec::new();
    for (n, filter) in ["#", "+/#", "+/broker/uptime", "+/+/+", "+/broker/#"]
        .iter()
        .enumerate()
    {
        let mut reader = client(&scene, &format!("reader-{n}"));
        reader.subscribe(filter, 0);
        readers.push(reader);
    }
    let mut deeper = client(&scene, "deeper");
    for filter in ["$SYS/broker/+", "$SYS/+/uptime", "$SYS/#"] {
        deeper.subscribe(filter, 0);
        let is_uptime = |packet: &crate::support::Packet| packet.topic == "$SYS/broker/uptime";
        deeper.wait_for(filter, is_uptime);
        deeper.unsubscribe(&[filter]);
    }
    assert_eq!(named.message().topic, "$SYS/broker/uptime");
    for reader in &mut readers {
        reader.send_raw(&crate::support::packet::PINGREQ);
        loop {
            let packet = reader.receive();
            if packet.kind == crate::support::Kind::PingResp {
                break;
            }
            assert!(!packet.topic.starts_with('$'), "{packet:?}");
        }
    }
}

#[test]
fn mqtt3_4_7_3_1_names_and_filters_have_a_character_at_least() {
    let scene = Scene::new();
    for (what, bytes) in [
        ("PUBLISH", raw_publish(0x30, b"", &[], b"x")),
        ("PUBLISH of QoS 1", raw_publish(0x32, b"", &[0, 1], b"x")),
        ("SUBSCRIBE", raw_subscribe(0x82, 1, &[(b"", 0)])),
        (
            "a second filter",
            raw_subscribe(0x82, 1, &[(b"good", 0), (b"", 0)]),
        ),
        ("UNSUBSCRIBE", raw_unsubscribe(0xa2, 1, &[b""])),
    ] {
        expect_cut_off(&scene, what, &bytes);
    }
    let bytes = raw_connect(0x06, &[b"id", b"", b"m"]);
    expect_not_answered(&scene, "Will Topic", &bytes);
}

#[test]
fn mqtt3_4_7_3_2_names_and_filters_are_without_the_null_character() {
    let scene = Scene::new();
    for text in [&b"\0"[..], b"a/\0", b"\0/a", b"a\0b/c"] {
        for (what, bytes) in [
            ("PUBLISH", raw_publish(0x30, text, &[], b"x")),
            ("SUBSCRIBE", raw_subscribe(0x82, 1, &[(text, 0)])),
            ("UNSUBSCRIBE", raw_unsubscribe(0xa2, 1, &[text])),
        ] {
            expect_cut_off(&scene, what, &bytes);
        }
        let bytes = raw_connect(0x06, &[b"id", text, b"m"]);
        expect_not_answered(&scene, "Will Topic", &bytes);
    }
}

#[test]
fn mqtt3_4_7_3_3_names_and_filters_of_65535_bytes_are_served() {
    let scene = Scene::new();
    let start = scene.topic("");
    for length in [127, 128, 16_383, 16_384, 65_534, 65_535] {
        let topic = format!("{start}{}", "x".repeat(length - start.len()));
        let mut reader = client(&scene, "reader");
        reader.subscribe(&topic, 1);
        client(&scene, "writer").publish(&topic, "x", 1);
        assert_eq!(reader.expect_message(&topic, "x").topic.len(), length);
        reader.unsubscribe(&[&topic]);
        reader.disconnect();
    }
    // One byte less of topic than its length says is the payload's first byte, or the end of the packet.
    let topic = "x".repeat(65_534);
    let mut bytes = raw_publish(0x30, topic.as_bytes(), &[], b"");
    let at = bytes.len() - topic.len() - 1;
    bytes[at] = 0xff;
    expect_cut_off(&scene, "a topic beyond its packet", &bytes);
}

#[test]
fn mqtt3_4_7_3_4_names_are_compared_as_they_are() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    // Pairs that some normalization would make equal.
    let different = [
        ("a", "A"),
        ("a", "a "),
        ("a", " a"),
        ("a", "a/"),
        ("a", "/a"),
        ("a/b", "a//b"),
        ("\u{e9}", "e\u{301}"),
        ("\u{c5}", "\u{212b}"),
        ("\u{fb01}", "fi"),
        ("a", "\u{feff}a"),
        ("a\u{200d}b", "ab"),
        ("..", "."),
        ("a/./b", "a/b"),
        ("a/../b", "b"),
        ("%41", "A"),
        ("\u{fffd}", "\u{ffff}"),
        ("a\tb", "a b"),
        ("*", "a"),
    ];
    for (filter, name) in different {
        for (filter, name) in [(filter, name), (name, filter)] {
            client.subscribe(&scene.topic(filter), 1);
            client.publish(&scene.topic(name), "other", 1);
            client.publish(&scene.topic(filter), "same", 1);
            let message = client.expect_message(&scene.topic(filter), "same");
            assert_eq!(message.topic.as_bytes(), scene.topic(filter).as_bytes());
            client.expect_nothing_before_pong();
            client.unsubscribe(&[&scene.topic(filter)]);
        }
    }
}

#[test]
fn mqtt3_4_7_1_2_filters_that_look_special_are_not() {
    let scene = Scene::new();
    let mut client = client(&scene, "client");
    for topic in [
        "$a/b", "a/$b", "a b/c d", "a/*/c", "{a}", "a\\b", "\"", "'", "a\n",
    ] {
        let topic = scene.topic(topic);
        assert_eq!(client.subscribe_with(&Subscribe::to(&topic, 1)), [1]);
        client.publish(&topic, "x", 1);
        client.expect_message(&topic, "x");
    }
}
