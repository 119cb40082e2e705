//! Order of messages, Topic Names and Topic Filters, shared subscriptions (4.6 to 4.8).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::*;

#[test]
fn mqtt5_4_6_0_5_messages_come_in_the_order_of_their_publisher() {
    let scene = Scene::new();
    let topics = ["a", "b", "c"].map(|name| scene.topic(name));
    let mut readers: Vec<Client> = (0..4)
        .map(|n| scene.reader(&format!("reader-{n}"), "+", 2))
        .collect();
    let writers: Vec<_> = (0..6)
        .map(|writer| {
            let mut client = scene.client(&format!("writer-{writer}"));
            let topics = topics.clone();
            std::thread::spawn(move || {
                for n in 0..150 {
                    let qos = (n / 3 % 3) as u8;
                    client.publish(&topics[n % 3], format!("{writer} {qos} {n}"), qos);
                }
                client
            })
        })
        .collect();
    let mut writers: Vec<Client> = writers
        .into_iter()
        .map(|writer| writer.join().expect("a writer"))
        .collect();
    for reader in &mut readers {
        let mut last: HashMap<(String, String, String), usize> = HashMap::new();
        for _ in 0..6 * 150 {
            let message = reader.message();
            let text = message.text().to_owned();
            let [writer, qos, n] = text.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{message:?}");
            };
            let n: usize = n.parse().unwrap();
            let key = (message.topic.clone(), writer.to_owned(), qos.to_owned());
            let before = last.insert(key, n);
            assert!(
                before.is_none_or(|before| before < n),
                "{before:?} before {n}: {message:?}"
            );
        }
        assert!(scene.until_end(reader, &mut writers[0]).is_empty());
    }
}

#[test]
fn mqtt5_4_6_0_6_every_topic_is_ordered_across_reconnects_too() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let connect = || scene.connect("reader").receive_maximum(5).lasting();
    let mut reader = scene.join(connect());
    reader.subscribe(&topic, 1);
    let mut writer = scene.client("writer");
    let mut next = 0;
    for round in 0..5 {
        for n in round * 10..round * 10 + 10 {
            writer.publish(&topic, n.to_string(), 1);
        }
        for _ in 0..7 {
            let message = reader.message();
            assert_eq!(message.text(), next.to_string());
            next += 1;
        }
        reader.cut();
        reader = scene.join(connect());
    }
    // What was in flight may come twice, and then in order again.
    while next < 50 {
        let message = reader.message();
        let n: i32 = message.text().parse().unwrap();
        assert!(
            n == next || message.dup && n < next,
            "{n} instead of {next}"
        );
        next = next.max(n + 1);
    }
}

#[test]
fn mqtt5_4_7_0_1_wildcards_are_for_filters_and_not_for_names() {
    let scene = Scene::new();
    for name in [&b"a/+"[..], b"a/#", b"#", b"+"] {
        ends(
            &scene,
            "PUBLISH",
            &raw_publish(0x30, name, None, &[]),
            TOPIC_NAME,
        );
        let will = raw_connect(6, &[], &[b"id", NO_WILL_PROPERTIES, name, b"x"]);
        refuses(&scene, "Will Topic", &will, TOPIC_NAME);
    }
    let mut client = scene.client("client");
    for filter in ["a/+", "a/#"] {
        client.subscribe(&scene.topic(filter), 1);
        assert_eq!(client.unsubscribe(&[&scene.topic(filter)]), [0]);
    }
}

/// Topic Filters that are not valid: refused in SUBACK, or by the end of the connection.
#[track_caller]
fn filters_are_refused(scene: &Scene, filters: &[&str]) {
    for filter in filters {
        let mut client = scene.client("client");
        client.send_raw(&Subscribe::to(filter, 0).bytes(Version::V5, 1));
        match client.receive() {
            suback if suback.kind == Kind::SubAck => assert_eq!(suback.codes, [0x8f], "{filter:?}"),
            end => {
                assert_eq!(end.kind, Kind::Disconnect, "{filter:?}: {end:?}");
                assert!(TOPIC_FILTER.contains(&end.code), "{filter:?}: {end:?}");
            }
        }
    }
}

/// What a subscriber to `filter` gets of messages to `topics`, all below this test's level.
fn matching(scene: &Scene, filter: &str, topics: &[&str]) -> Vec<String> {
    let mut reader = scene.reader("reader", filter, 1);
    let mut writer = scene.client("writer");
    for topic in topics {
        writer.publish(&scene.topic(topic), "x", 1);
    }
    let prefix = scene.topic("");
    let found = scene.until_end(&mut reader, &mut writer);
    found
        .iter()
        .map(|message| message.topic[prefix.len()..].to_owned())
        .collect()
}

#[test]
fn mqtt5_4_7_1_1_the_multi_level_wildcard_is_the_whole_last_level() {
    let scene = Scene::new();
    filters_are_refused(
        &scene,
        &[
            "a#",
            "#a",
            "a/#/b",
            "#/",
            "#/a",
            "##",
            "a/b#",
            "+#",
            "$share/g/a#",
        ],
    );
    assert_eq!(
        matching(&scene, "a/#", &["a", "a/b", "a/b/c", "ab", "b"]),
        ["a", "a/b", "a/b/c"]
    );
}

#[test]
fn mqtt5_4_7_1_2_the_single_level_wildcard_is_a_whole_level() {
    let scene = Scene::new();
    filters_are_refused(&scene, &["a+", "+a", "a/b+/c", "++", "a/+b", "$share/g/a+"]);
    let topics = ["a/b/c", "a//c", "a/c", "a/b/d/c", "x/b/c"];
    assert_eq!(matching(&scene, "a/+/c", &topics), ["a/b/c", "a//c"]);
    assert_eq!(
        matching(&scene, "+", &["a", "", "a/b", "b"]),
        ["a", "", "b"]
    );
    assert_eq!(
        matching(&scene, "+/+", &["a", "/", "a/b", "/b", "a/"]),
        ["/", "a/b", "/b", "a/"]
    );
}

#[test]
fn mqtt5_4_7_2_1_filters_that_begin_with_a_wildcard_leave_dollar_topics_out() {
    // $SYS is the one such topic that has messages: they are published to whoever wants them.
    let scene = Scene::with("system_topics.interval_s = 1");
    let mut wild = scene.client("wild");
    for filter in ["#", "+/broker/uptime", "+/#", "+/+/+"] {
        wild.subscribe(filter, 0);
    }
    let mut named = scene.client("named");
    named.subscribe("$SYS/#", 0);
    for _ in 0..3 {
        assert!(named.message().topic.starts_with("$SYS/"));
    }
    let mut exact = scene.client("exact");
    exact.subscribe("$SYS/broker/uptime", 0);
    exact.expect(Kind::Publish);
    exact.expect(Kind::Publish);
    let found = answers(&mut wild, &[]);
    assert!(
        !found.iter().any(|message| message.topic.starts_with('$')),
        "{found:?}"
    );
}

#[test]
fn mqtt5_4_7_3_1_names_and_filters_have_at_least_one_character() {
    let scene = Scene::new();
    filters_are_refused(&scene, &["", "$share/g/"]);
    ends(
        &scene,
        "an empty Topic Name",
        &raw_publish(0x30, b"", None, &[]),
        TOPIC_NAME,
    );
    let will = raw_connect(6, &[], &[b"id", NO_WILL_PROPERTIES, b"", b"x"]);
    refuses(&scene, "an empty Will Topic", &will, TOPIC_NAME);
    // One is enough.
    let mut client = scene.client("client");
    client.subscribe("/", 1);
    client.publish("/", "x", 1);
    client.expect_message("/", "x");
}

#[test]
fn mqtt5_4_7_3_2_names_and_filters_have_no_null_character() {
    let scene = Scene::new();
    for text in [&b"\0"[..], b"a\0", b"\0a", b"a/\0/b"] {
        ends(
            &scene,
            "PUBLISH",
            &raw_publish(0x30, text, None, &[]),
            TOPIC_NAME,
        );
        ends(
            &scene,
            "SUBSCRIBE",
            &raw_subscribe(0x82, 1, &[], text, 0),
            TOPIC_FILTER,
        );
        ends(
            &scene,
            "UNSUBSCRIBE",
            &raw_unsubscribe(0xa2, 1, &[], text),
            TOPIC_FILTER,
        );
    }
}

#[test]
fn mqtt5_4_7_3_3_names_and_filters_of_65535_bytes_are_whole() {
    let scene = Scene::new();
    let prefix = scene.topic("");
    let longest = format!("{prefix}{}", "x".repeat(65_535 - prefix.len()));
    let mut client = scene.client("client");
    client.subscribe(&longest, 1);
    client.publish(&longest, "x", 1);
    client.expect_message(&longest, "x");
    // One byte less is another topic.
    client.subscribe(&scene.topic("end"), 1);
    let mut writer = scene.client("writer");
    writer.publish(&longest[..65_534], "x", 1);
    assert!(scene.until_end(&mut client, &mut writer).is_empty());
}

#[test]
fn mqtt5_4_7_3_4_topics_are_compared_without_any_normalization() {
    let scene = Scene::new();
    // Composed and decomposed, cases, widths, blanks, dots, escapes, separators.
    let names = [
        "\u{e9}",
        "e\u{301}",
        "A",
        "a",
        "\u{ff41}",
        "a ",
        " a",
        "a/",
        "a/.",
        "./a",
        "a/b/..",
        "%61",
        "a//",
        "\u{212b}",
        "\u{c5}",
        "a\u{200b}",
        "\u{1f980}",
        "ACCOUNTS",
        "Accounts",
    ];
    for name in names {
        assert_eq!(matching(&scene, name, &names), [name]);
    }
    let found = matching(&scene, "#", &names);
    assert_eq!(found, names);
}

/// What each of `members` gets until it is `total` messages, and that it is not more.
#[track_caller]
fn gather(members: &mut [&mut Client], total: usize) -> Vec<Vec<Packet>> {
    let mut found: Vec<Vec<Packet>> = members.iter().map(|_| Vec::new()).collect();
    let deadline = Instant::now() + PATIENCE;
    while found.iter().flatten().count() < total {
        assert!(Instant::now() < deadline, "some are missing: {found:?}");
        for (member, found) in members.iter_mut().zip(&mut found) {
            found.extend(member.drain(20));
        }
    }
    for member in members.iter_mut() {
        member.expect_nothing(20);
    }
    assert_eq!(found.iter().flatten().count(), total, "each message once");
    found
}

#[test]
fn mqtt5_4_8_2_1_a_shared_filter_has_a_share_name() {
    let scene = Scene::new();
    filters_are_refused(&scene, &["$share//a", "$share/", "$share//"]);
    let topic = scene.topic("t");
    for name in ["g", "a b", "\u{e9}", "$", "$share"] {
        let filter = format!("$share/{name}/{topic}");
        let mut one = scene.client("one");
        let mut two = scene.client("two");
        one.subscribe(&filter, 1);
        two.subscribe(&filter, 1);
        let mut writer = scene.client("writer");
        for _ in 0..10 {
            writer.publish(&topic, "x", 1);
        }
        let found = gather(&mut [&mut one, &mut two], 10);
        assert!(
            found.iter().all(|messages| !messages.is_empty()),
            "{filter} is not shared"
        );
    }
    // Other beginnings are ordinary filters.
    for filter in ["$SHARE/g/a", "$queue/a", "$shared/g/a", "share/g/a"] {
        let mut client = scene.client("one");
        client.subscribe(filter, 1);
        scene.client("writer").publish("a", "x", 1);
        client.expect_nothing_before_pong();
    }
}

#[test]
fn mqtt5_4_8_2_2_a_share_name_has_no_wildcards_and_a_filter_follows() {
    let scene = Scene::new();
    filters_are_refused(
        &scene,
        &[
            "$share/+/a",
            "$share/#/a",
            "$share/g+/a",
            "$share/g#/a",
            "$share/g",
            "$share/g/",
            "$share/#",
        ],
    );
    let mut client = scene.client("client");
    client.subscribe(&format!("$share/g/{}", scene.topic("+/#")), 1);
    scene.client("writer").publish(&scene.topic("a/b"), "x", 1);
    client.expect_message(&scene.topic("a/b"), "x");
}

#[test]
fn mqtt5_4_8_2_3_each_member_has_its_own_qos() {
    let scene = Scene::new();
    let topic = scene.topic("t");
    let mut members: Vec<(u8, Client)> = (0..3)
        .map(|qos| {
            let mut member = scene.client(&format!("member-{qos}"));
            member.subscribe(&scene.shared("t"), qos);
            (qos, member)
        })
        .collect();
    let mut writer = scene.client("writer");
    for published in 0..3 {
        for n in 0..30 {
            writer.publish(&topic, n.to_string(), published);
        }
        let mut clients: Vec<&mut Client> = members.iter_mut().map(|(_, member)| member).collect();
        for (qos, messages) in (0..).zip(gather(&mut clients, 30)) {
            assert!(!messages.is_empty(), "the member of QoS {qos} got nothing");
            assert!(
                messages
                    .iter()
                    .all(|message| message.qos == published.min(qos)),
                "{messages:?}"
            );
        }
    }
}

/// A shared group of two: the first has got a QoS 2 message and not acknowledged it, and `ends` its
/// connection.
fn member_with_qos_2(scene: &Scene, connect: Connect) -> (Client, u16) {
    let mut member = scene.join(connect);
    member.subscribe(&scene.shared("t"), 2);
    scene.client("writer").publish(&scene.topic("t"), "x", 2);
    let identifier = member.expect(Kind::Publish).identifier;
    (member, identifier)
}

#[test]
fn mqtt5_4_8_2_4_a_member_that_comes_back_completes_its_qos_2_delivery() {
    let scene = Scene::new();
    for released in [false, true] {
        let connect = || scene.connect("member").lasting();
        let (mut member, identifier) = member_with_qos_2(&scene, connect());
        let mut other = scene.client("other");
        other.subscribe(&scene.shared("t"), 2);
        if released {
            member.acknowledge(Kind::PubRec, identifier);
            member.expect(Kind::PubRel);
        }
        member.cut();
        other.expect_nothing(SILENCE_MS);
        let mut again = scene.join(connect());
        if !released {
            let publish = again.expect(Kind::Publish);
            assert_eq!((publish.identifier, publish.dup), (identifier, true));
            again.acknowledge(Kind::PubRec, identifier);
        }
        assert_eq!(again.expect(Kind::PubRel).identifier, identifier);
        again.acknowledge(Kind::PubComp, identifier);
        again.expect_nothing_before_pong();
        other.expect_nothing_before_pong();
        again.unsubscribe(&[&scene.shared("t")]);
    }
}

#[test]
fn mqtt5_4_8_2_5_a_qos_2_delivery_ends_with_its_session() {
    let scene = Scene::new();
    let (member, _) = member_with_qos_2(&scene, scene.connect("member").resume().expiry_s(0));
    let mut other = scene.client("other");
    other.subscribe(&scene.shared("t"), 2);
    member.cut();
    other.expect_nothing(SILENCE_MS);
    other.disconnect();
    // The same when the session is discarded by Clean Start.
    let (member, _) = member_with_qos_2(&scene, scene.connect("member").lasting());
    let mut other = scene.client("other");
    other.subscribe(&scene.shared("t"), 2);
    member.cut();
    scene.client("member").expect_nothing_before_pong();
    other.expect_nothing(SILENCE_MS);
}

#[test]
fn mqtt5_4_8_2_6_a_message_that_a_member_refuses_goes_to_nobody_else() {
    let scene = Scene::new();
    for (qos, kind) in [(1, Kind::PubAck), (2, Kind::PubRec)] {
        let mut members: Vec<Client> = (0..2)
            .map(|n| {
                let mut member = scene.client(&format!("member-{n}"));
                member.subscribe(&scene.shared("t"), qos);
                member
            })
            .collect();
        let mut writer = scene.client("writer");
        writer.publish(&scene.topic("t"), "x", qos);
        let got = |member: &mut Client| match member.next(Duration::from_millis(SILENCE_MS)) {
            Next::Packet(packet) => Some(packet.identifier),
            _ => None,
        };
        let found: Vec<Option<u16>> = members.iter_mut().map(got).collect();
        let taker = found
            .iter()
            .position(Option::is_some)
            .expect("a member gets it");
        assert!(found[1 - taker].is_none());
        members[taker].acknowledge_with(kind, found[taker].expect("an identifier"), 0x80);
        members[taker].expect_nothing_before_pong();
        members.swap_remove(taker).cut();
        members[0].expect_nothing(SILENCE_MS);
    }
}
