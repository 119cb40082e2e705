//! SUBSCRIBE and UNSUBSCRIBE: options, identifiers, overlapping subscriptions, wildcards.

use std::time::{Duration, Instant};

use crate::support::packet::{NO_LOCAL, RETAIN_AS_PUBLISHED, VERSIONS, unsubscribe};
use crate::support::{
    Broker, Client, Connect, Kind, PATIENCE, Publish, Subscribe, Version, sleep_ms,
};

#[test]
fn suback_answers_each_filter_in_order() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.client_of(version, "many");
        let subscribe = Subscribe::to("a", 2)
            .and("b", 0)
            .and("c/#", 1)
            .and("+/d", 2)
            .and("a", 1);
        assert_eq!(
            client.subscribe_with(&subscribe),
            [2, 0, 1, 2, 1],
            "{version:?}"
        );
        broker.client("writer").publish("a", "x", 2);
        assert_eq!(
            client.expect_message("a", "x").qos,
            1,
            "the last of two equal filters counts"
        );
        client.disconnect();
    }
}

#[test]
fn a_subscribe_with_thousands_of_filters_is_taken() {
    let broker = Broker::start();
    let mut client = broker.client("thousands");
    let mut subscribe = Subscribe::to("n/0", 0);
    for n in 1..5_000 {
        subscribe = subscribe.and(&format!("n/{n}"), (n % 3) as u8);
    }
    let codes = client.subscribe_with(&subscribe);
    assert_eq!(codes.len(), 5_000);
    assert!(
        codes
            .iter()
            .enumerate()
            .all(|(n, code)| usize::from(*code) == n % 3)
    );
    broker.client("writer").publish("n/4999", "x", 1);
    client.expect_message("n/4999", "x");
}

#[test]
fn very_many_filters_in_one_packet_cost_no_more_each() {
    const COUNT: usize = 60_000;
    for shards in [1, 2] {
        let broker = Broker::with(&format!("shards = {shards}"));
        let mut client = broker.client("many");
        let filters: Vec<String> = (0..COUNT)
            .map(|n| match n % 2 {
                0 => format!("f/{n}"),
                _ => format!("f/{n}/+"),
            })
            .collect();
        let mut all = Subscribe::to(&filters[0], 0);
        for filter in &filters[1..] {
            all = all.and(filter, 0);
        }
        let texts: Vec<&str> = filters.iter().map(String::as_str).collect();
        let before = broker.cpu();
        for _ in 0..2 {
            assert_eq!(client.subscribe_with(&all), vec![0; COUNT]);
        }
        assert_eq!(client.unsubscribe(&texts), vec![0; COUNT]);
        let used = broker.cpu() - before;
        // It is well below a second; with a search for each filter it would be more than ten.
        assert!(used < Duration::from_secs(4), "{used:?} of CPU time");
    }
}

#[test]
fn filters_that_are_not_valid_are_refused_one_by_one() {
    let broker = Broker::start();
    for filter in [
        "a/#/b",
        "a+",
        "+a/b",
        "a/b#",
        "#/a",
        "",
        "$share/g",
        "$share//a",
        "$share/g+/a",
        "$share/g/",
    ] {
        let mut client = broker.client("wrong");
        let subscribe = Subscribe::to("good", 1).and(filter, 1);
        client.send_raw(&subscribe.bytes(Version::V5, 1));
        let answer = client.receive();
        match answer.kind {
            Kind::SubAck => assert_eq!(answer.codes, [1, 0x8f], "{filter:?}"),
            Kind::Disconnect => assert!(
                matches!(answer.code, 0x81 | 0x82 | 0x8f),
                "{filter:?}: {answer:?}"
            ),
            _ => panic!("{answer:?}"),
        }
    }
}

#[test]
fn subscribing_again_replaces() {
    let broker = Broker::start();
    for filter in ["t", "+", "#"] {
        let mut client = broker.client("again");
        let mut writer = broker.client("writer");
        client.subscribe_with(&Subscribe::to(filter, 2).identified(1));
        client.subscribe_with(&Subscribe::to(filter, 1).identified(2));
        writer.publish("t", "x", 2);
        let message = client.expect_message("t", "x");
        assert_eq!(
            (message.qos, message.subscription_identifiers()),
            (1, vec![2]),
            "{filter}"
        );
        client.subscribe(filter, 0);
        writer.publish("t", "y", 2);
        let message = client.expect_message("t", "y");
        assert_eq!(
            (message.qos, message.subscription_identifiers()),
            (0, vec![]),
            "{filter}"
        );
        client.expect_nothing_before_pong();
        assert_eq!(client.unsubscribe(&[filter]), [0]);
        writer.publish("t", "z", 1);
        client.expect_nothing_before_pong();
    }
}

#[test]
fn unsuback_tells_what_existed() {
    let broker = Broker::start();
    let mut client = broker.client("un");
    client.subscribe("a", 0);
    client.subscribe("b/+", 0);
    client.subscribe("$share/g/c", 0);
    let codes = client.unsubscribe(&["a", "none", "b/+", "b/#", "$share/g/c", "$share/h/c", "a"]);
    assert_eq!(codes, [0, 0x11, 0, 0x11, 0, 0x11, 0x11]);
    let mut old = broker.client_of(Version::V311, "old");
    assert!(
        old.unsubscribe(&["none"]).is_empty(),
        "UNSUBACK before 5.0 has no codes"
    );
}

#[test]
fn what_an_invalid_unsubscribe_removed_is_gone_on_every_shard() {
    let broker = Broker::start();
    let mut writers: Vec<Client> = (0..8)
        .map(|n| broker.client(&format!("writer-{n}")))
        .collect();
    for filter in ["half/+", "half/x", "$share/g/half/x"] {
        let mut reader = Client::connect(
            &broker,
            Connect::new("reader").version(Version::V311).lasting(),
        );
        reader.subscribe(filter, 0);
        reader.send_raw(&unsubscribe(Version::V311, 9, &[filter, "bad#"]));
        reader.expect_end(0x8f);
        for writer in &mut writers {
            let deadline = Instant::now() + PATIENCE;
            let publish = Publish::new("half/x", "x").qos(1);
            while writer.publish_with(publish.clone()) != 0x10 {
                assert!(Instant::now() < deadline, "{filter} still has a subscriber");
                sleep_ms(10);
            }
        }
    }
}

#[test]
fn nothing_new_arrives_after_unsuback() {
    let broker = Broker::start();
    for n in 0..50 {
        let mut reader = broker.client(&format!("reader-{n}"));
        let mut writer = broker.client(&format!("writer-{n}"));
        reader.subscribe("u/#", 1);
        reader.subscribe("u/x", 1);
        reader.unsubscribe(&["u/#", "u/x"]);
        writer.publish("u/x", "late", 1);
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn messages_tell_which_subscriptions_they_match() {
    let broker = Broker::start();
    let mut client = broker.client("ids");
    for (filter, qos, identifier) in [
        ("a/b", 0, 1),
        ("a/+", 2, 200),
        ("a/#", 1, 268_435_455),
        ("#", 0, 7),
    ] {
        assert_eq!(
            client.subscribe_with(&Subscribe::to(filter, qos).identified(identifier)),
            [qos]
        );
    }
    client.subscribe("+/b", 1);
    let mut writer = broker.client("writer");
    writer.publish("a/b", "x", 2);
    let message = client.expect_message("a/b", "x");
    assert_eq!(
        message.subscription_identifiers(),
        [1, 7, 200, 268_435_455],
        "[MQTT-3.3.4-3]"
    );
    assert_eq!(
        message.qos, 2,
        "the highest of the matching subscriptions [MQTT-3.3.4-2]"
    );
    writer.publish("c", "y", 1);
    assert_eq!(
        client.expect_message("c", "y").subscription_identifiers(),
        [7]
    );
    writer.publish("c/b", "z", 1);
    let message = client.expect_message("c/b", "z");
    assert_eq!(
        (message.qos, message.subscription_identifiers()),
        (1, vec![7])
    );
    client.expect_nothing_before_pong();
}

#[test]
fn a_subscription_identifier_of_zero_is_a_protocol_error() {
    let broker = Broker::start();
    let mut client = broker.client("zero");
    client.send_raw(&Subscribe::to("t", 0).identified(0).bytes(Version::V5, 1));
    client.expect_end_with(&[0x81, 0x82]);
}

#[test]
fn overlapping_subscriptions_get_one_copy() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.client_of(version, "overlap");
        for (filter, qos) in [("o/a", 0), ("o/+", 2), ("o/#", 1), ("+/a", 0)] {
            client.subscribe(filter, qos);
        }
        let mut writer = broker.client("writer");
        for published in 0..3 {
            writer.publish("o/a", "x", published);
            assert_eq!(
                client.expect_message("o/a", "x").qos,
                published,
                "{version:?}"
            );
        }
        client.expect_nothing_before_pong();
    }
}

#[test]
fn overlapping_subscriptions_get_a_copy_each_if_so_configured() {
    let broker = Broker::with("message.overlapping = \"separate\"");
    let mut client = broker.client("overlap");
    for (filter, qos, identifier) in [("o/a", 0, 10), ("o/+", 2, 11), ("o/#", 1, 12)] {
        client.subscribe_with(&Subscribe::to(filter, qos).identified(identifier));
    }
    broker.client("writer").publish("o/a", "x", 2);
    let mut copies: Vec<(u8, Vec<u32>)> = (0..3)
        .map(|_| client.expect_message("o/a", "x"))
        .map(|message| (message.qos, message.subscription_identifiers()))
        .collect();
    copies.sort();
    assert_eq!(copies, [(0, vec![10]), (1, vec![12]), (2, vec![11])]);
    client.expect_nothing_before_pong();
}

#[test]
fn no_local_keeps_a_clients_own_messages_away() {
    let broker = Broker::start();
    let mut client = broker.client("own");
    let mut other = broker.client("other");
    client.subscribe("t", 1 | NO_LOCAL);
    client.publish("t", "own", 1);
    other.publish("t", "other", 1);
    client.expect_message("t", "other");
    client.expect_nothing_before_pong();
    // Another subscription of the same client still brings them.
    client.subscribe("+", 1);
    client.publish("t", "own", 1);
    client.expect_message("t", "own");
    client.expect_nothing_before_pong();
}

#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let broker = Broker::start();
    let mut client = broker.client("own");
    client.send_raw(&Subscribe::to("$share/g/t", NO_LOCAL).bytes(Version::V5, 1));
    client.expect_end(0x82);
}

#[test]
fn retain_as_published_keeps_the_flag() {
    let broker = Broker::start();
    let mut keeps = broker.client("keeps");
    let mut clears = broker.client("clears");
    let mut old = broker.client_of(Version::V311, "old");
    keeps.subscribe("t", 1 | RETAIN_AS_PUBLISHED);
    clears.subscribe("t", 1);
    old.subscribe("t", 1);
    let mut writer = broker.client("writer");
    writer.publish_with(Publish::new("t", "retained").qos(1).retain());
    writer.publish("t", "not", 1);
    for (client, flags) in [
        (&mut keeps, [true, false]),
        (&mut clears, [false; 2]),
        (&mut old, [false; 2]),
    ] {
        assert_eq!(client.expect_message("t", "retained").retain, flags[0]);
        assert_eq!(client.expect_message("t", "not").retain, flags[1]);
    }
}

/// Topics that are published for [`WILDCARDS`].
const TOPICS: &str = "sport sport/ /sport sport/tennis sport/tennis/player1 \
    sport/tennis/player1/ranking finance /finance / // sport//player1";

/// Filters, each with the topics it matches (4.7.1).
const WILDCARDS: &[(&str, &str)] = &[
    ("sport", "sport"),
    (
        "sport/#",
        "sport sport/ sport/tennis sport/tennis/player1 sport/tennis/player1/ranking sport//player1",
    ),
    (
        "sport/tennis/#",
        "sport/tennis sport/tennis/player1 sport/tennis/player1/ranking",
    ),
    (
        "sport/tennis/player1/#",
        "sport/tennis/player1 sport/tennis/player1/ranking",
    ),
    ("sport/+", "sport/ sport/tennis"),
    ("sport/+/player1", "sport/tennis/player1 sport//player1"),
    (
        "+/tennis/#",
        "sport/tennis sport/tennis/player1 sport/tennis/player1/ranking",
    ),
    ("+", "sport finance"),
    ("+/+", "sport/ /sport sport/tennis /finance /"),
    ("/+", "/sport /finance /"),
    ("+/+/+", "sport/tennis/player1 // sport//player1"),
    ("//", "//"),
    ("/#", "/sport /finance / //"),
    ("+/#", TOPICS),
    ("#", TOPICS),
    (
        "sport/tennis/player1/ranking/#",
        "sport/tennis/player1/ranking",
    ),
    ("none/#", ""),
];

#[test]
fn wildcards_match_as_the_specification_says() {
    let broker = Broker::start();
    let mut readers: Vec<Client> = Vec::new();
    for (n, (filter, _)) in WILDCARDS.iter().enumerate() {
        let mut reader = broker.client(&format!("reader-{n}"));
        reader.subscribe(filter, 0);
        readers.push(reader);
    }
    let mut writer = broker.client("writer");
    for topic in TOPICS.split_whitespace() {
        writer.publish(topic, topic, 1);
    }
    for (reader, (filter, matching)) in readers.iter_mut().zip(WILDCARDS) {
        for topic in matching.split_whitespace() {
            assert_eq!(reader.expect(Kind::Publish).topic, topic, "{filter}");
        }
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn a_leading_wildcard_does_not_match_the_brokers_topics() {
    let broker = Broker::with("system_topics.interval_s = 1");
    let mut wild = broker.client("wild");
    wild.subscribe("#", 0);
    wild.subscribe("+/broker/#", 0);
    wild.subscribe("+/#", 0);
    let mut system = broker.client("system");
    system.subscribe("$SYS/#", 0);
    let message = system.message();
    assert!(message.topic.starts_with("$SYS/"), "{message:?}");
    wild.expect_nothing(1_500);
}

#[test]
fn deep_and_long_topics_match() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    let deep = vec!["l"; 100].join("/");
    let long = "x".repeat(30_000);
    reader.subscribe(&deep, 0);
    reader.subscribe(&format!("{}/#", vec!["+"; 99].join("/")), 1);
    reader.subscribe(&long, 1);
    let mut writer = broker.client("writer");
    writer.publish(&deep, "deep", 1);
    writer.publish(&long, "long", 1);
    assert_eq!(reader.expect_message(&deep, "deep").qos, 1);
    reader.expect_message(&long, "long");
}

#[test]
fn a_client_gets_what_it_publishes_itself() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = broker.client_of(version, "self");
        client.subscribe("mirror", 2);
        for qos in 0..3 {
            client.publish("mirror", "x", qos);
            assert_eq!(client.expect_message("mirror", "x").qos, qos);
        }
    }
}
