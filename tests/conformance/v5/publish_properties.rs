//! PUBLISH: Topic Name and properties (3.3.2).

use std::collections::HashMap;

use super::*;
use crate::support::packet::RETAINED_NEVER;

#[test]
fn mqtt5_3_3_2_1_the_topic_name_stands_first_and_is_utf8() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        ends(
            &scene,
            &format!("{text:x?}"),
            &raw_publish(0x30, text, None, &[]),
            MALFORMED,
        );
    }
    ends(
        &scene,
        "a topic beyond the packet",
        &packet(0x30, &[0, 9, b't', 0]),
        MALFORMED,
    );
    ends(
        &scene,
        "an identifier first",
        &packet(0x32, &[0, 1, 0, 1, b't', 0]),
        &[0x81, 0x82, 0x90],
    );
}

#[test]
fn mqtt5_3_3_2_2_a_topic_name_has_no_wildcards() {
    let scene = Scene::new();
    let mut reader = scene.client("reader");
    reader.subscribe("#", 0);
    for topic in [&b"#"[..], b"+", b"a/+", b"a/#", b"a+b", b"a#", b"+/b"] {
        for (first_byte, identifier) in [(0x30, None), (0x32, Some(1)), (0x34, Some(1))] {
            ends(
                &scene,
                &format!("{topic:?}"),
                &raw_publish(first_byte, topic, identifier, &[]),
                TOPIC_NAME,
            );
        }
    }
    let received = answers(&mut reader, &[]);
    assert!(
        !received
            .iter()
            .any(|message| message.topic.contains(['+', '#'])),
        "{received:?}"
    );
}

#[test]
fn mqtt5_3_3_2_3_a_subscriber_gets_only_topics_that_match() {
    let scene = Scene::new();
    let topics = ["a", "a/b", "a/b/c", "a/c", "A/b", "a/", "/a", "ab", "b/a"];
    let filters: [(&str, &[&str]); 7] = [
        ("a", &["a"]),
        ("a/+", &["a/b", "a/c", "a/"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/c", "a/"]),
        ("+/b", &["a/b", "A/b"]),
        ("a/b", &["a/b"]),
        ("+/+/c", &["a/b/c"]),
        ("+/a", &["/a", "b/a"]),
    ];
    let mut writer = scene.client("writer");
    for (filter, expected) in filters {
        let mut reader = scene.reader("reader", filter, 1);
        for topic in topics {
            writer.publish(&scene.topic(topic), "x", 1);
        }
        let found = scene.until_end(&mut reader, &mut writer);
        let found: Vec<&str> = found.iter().map(|message| message.topic.as_str()).collect();
        let expected: Vec<String> = topics
            .iter()
            .filter(|topic| expected.contains(topic))
            .map(|topic| scene.topic(topic))
            .collect();
        assert_eq!(found, expected, "{filter}");
    }
}

/// Sends `publish` at each QoS to a subscriber who is there, to one who comes back and to a later one for
/// the retained message; gives what they get.
fn by_all_ways(scene: &Scene, publish: &Publish) -> Vec<Packet> {
    let mut online = scene.reader("online", "t", 2 | RETAINED_NEVER);
    let mut offline = scene.join(scene.connect("offline").lasting());
    offline.subscribe(&scene.topic("t"), 2 | RETAINED_NEVER);
    offline.disconnect();
    let mut writer = scene.client("writer");
    let mut found = Vec::new();
    for qos in 0..3 {
        writer.publish_with(publish.clone().qos(qos).retain());
        found.push(online.message());
    }
    let mut offline = scene.join(scene.connect("offline").lasting());
    found.extend([offline.message(), offline.message()]);
    let mut late = scene.client("late");
    late.subscribe(&scene.topic("t"), 2);
    found.push(late.message());
    offline.send_raw(&crate::support::packet::disconnect(
        0,
        &[(property::SESSION_EXPIRY_INTERVAL, Value::Four(0))],
    ));
    found
}

#[track_caller]
fn is_forwarded(scene: &Scene, identifier: u8, value: Value) {
    let publish = Publish::new(&scene.topic("t"), "x").property(identifier, value.clone());
    for message in by_all_ways(scene, &publish) {
        assert_eq!(
            message.properties,
            [(identifier, value.clone())],
            "{message:?}"
        );
    }
}

#[test]
fn mqtt5_3_3_2_4_payload_format_indicator_is_forwarded() {
    let scene = Scene::new();
    for value in [0, 1] {
        is_forwarded(
            &scene,
            property::PAYLOAD_FORMAT_INDICATOR,
            Value::Byte(value),
        );
    }
}

fn expiring(scene: &Scene, name: &str, seconds: u32) -> Publish {
    let publish = Publish::new(&scene.topic("t"), name).qos(1);
    publish.property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(seconds))
}

#[test]
fn mqtt5_3_3_2_5_a_message_that_expired_before_its_delivery_is_dropped() {
    let scene = Scene::new();
    let connect = || scene.connect("reader").receive_maximum(1).lasting();
    let mut offline = scene.join(connect());
    offline.subscribe(&scene.topic("t"), 1);
    offline.disconnect();
    let mut shut = scene.join(scene.connect("shut").receive_maximum(1));
    shut.subscribe(&scene.topic("t"), 1);
    let mut writer = scene.client("writer");
    writer.publish(&scene.topic("t"), "first", 1);
    writer.publish_with(expiring(&scene, "expires", 1).retain());
    writer.publish_with(expiring(&scene, "stays", 60));
    let first = shut.expect(Kind::Publish);
    sleep_ms(1_300);
    shut.acknowledge(Kind::PubAck, first.identifier);
    shut.expect_message(&scene.topic("t"), "stays");
    let mut offline = scene.join(connect());
    offline.expect_message(&scene.topic("t"), "first");
    offline.expect_message(&scene.topic("t"), "stays");
    // The retained copy is gone as well.
    let mut late = scene.reader("late", "t", 1);
    late.expect_nothing(SILENCE_MS / 3);
    assert!(scene.until_end(&mut late, &mut writer).is_empty());
}

#[test]
fn mqtt5_3_3_2_6_the_forwarded_interval_is_what_is_left_of_it() {
    let scene = Scene::new();
    let mut online = scene.reader("online", "t", 1);
    let mut offline = scene.join(scene.connect("offline").lasting());
    offline.subscribe(&scene.topic("t"), 1);
    offline.disconnect();
    scene
        .client("writer")
        .publish_with(expiring(&scene, "x", 50).retain());
    let left = |message: Packet| {
        message
            .number(property::MESSAGE_EXPIRY_INTERVAL)
            .expect("an interval")
    };
    assert!((49..=50).contains(&left(online.message())));
    sleep_ms(1_500);
    let mut offline = scene.join(scene.connect("offline").lasting());
    assert!((47..=49).contains(&left(offline.message())));
    let mut late = scene.client("late");
    late.subscribe(&scene.topic("t"), 1);
    assert!((47..=49).contains(&left(late.message())));
}

fn aliased(topic: &str, alias: u16) -> Publish {
    Publish::new(topic, "x")
        .qos(1)
        .identifier(1)
        .property(property::TOPIC_ALIAS, Value::Two(alias))
}

#[test]
fn mqtt5_3_3_2_7_an_alias_holds_for_one_connection_only() {
    let scene = Scene::new();
    let connect = || {
        let connect = scene.connect("client").lasting();
        connect.property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(4))
    };
    let mut client = scene.join(connect());
    client.subscribe(&scene.topic("t"), 1);
    client.publish_with(aliased(&scene.topic("t"), 1));
    client.message();
    client.cut();
    // Towards the client an alias is set anew before it is used.
    let mut again = scene.join(connect());
    assert!(again.session_present());
    for n in 0..3 {
        scene.client("writer").publish(&scene.topic("t"), "x", 1);
        let message = again.message();
        assert!(n > 0 || !message.topic.is_empty(), "{message:?}");
    }
    // And that of the client is not known any more.
    again.send_raw(&aliased("", 1).bytes(Version::V5));
    again.expect_end_with(&[0x82, 0x94]);
}

#[test]
fn mqtt5_3_3_2_8_a_topic_alias_is_not_0() {
    let scene = Scene::new();
    ends(
        &scene,
        "alias 0",
        &aliased("t", 0).bytes(Version::V5),
        &[0x94],
    );
    ends(
        &scene,
        "alias 0 alone",
        &aliased("", 0).bytes(Version::V5),
        &[0x94],
    );
    let connect = scene
        .connect("reader")
        .property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(2));
    let mut reader = scene.join(connect);
    reader.subscribe(&scene.topic("#"), 1);
    let mut writer = scene.client("writer");
    let mut used = 0;
    for n in 0..8 {
        writer.publish(&scene.topic(&(n % 4).to_string()), "x", 1);
        if let Some(alias) = reader.message().number(property::TOPIC_ALIAS) {
            assert_ne!(alias, 0);
            used += 1;
        }
    }
    assert!(used > 0, "no alias was used");
}

#[test]
fn mqtt5_3_3_2_9_an_alias_over_the_servers_maximum_is_refused() {
    let scene = Scene::new();
    let maximum = scene
        .client("client")
        .granted(property::TOPIC_ALIAS_MAXIMUM)
        .expect("a maximum");
    let over = u16::try_from(maximum + 1).expect("a maximum below 65,535");
    for alias in [over, 65_535] {
        ends(
            &scene,
            "set",
            &aliased("t", alias).bytes(Version::V5),
            &[0x94],
        );
        ends(
            &scene,
            "used",
            &aliased("", alias).bytes(Version::V5),
            &[0x94],
        );
    }
}

#[test]
fn mqtt5_3_3_2_11_the_servers_aliases_keep_to_the_clients_maximum() {
    let scene = Scene::new();
    let maximum = 2;
    let connect = scene
        .connect("reader")
        .property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(maximum));
    let mut reader = scene.join(connect);
    reader.subscribe(&scene.topic("#"), 0);
    let mut writer = scene.client("writer");
    let mut set: HashMap<u32, String> = HashMap::new();
    for n in 0..40 {
        let topic = scene.topic(&(n % 5).to_string());
        writer.publish(&topic, "x", 0);
        let message = reader.message();
        let alias = message.number(property::TOPIC_ALIAS);
        assert!(
            alias.is_none_or(|alias| alias >= 1 && alias <= u32::from(maximum)),
            "{message:?}"
        );
        match (alias, message.topic.is_empty()) {
            (Some(alias), false) => drop(set.insert(alias, message.topic)),
            (Some(alias), true) => assert_eq!(set.get(&alias), Some(&topic)),
            (None, _) => assert_eq!(message.topic, topic),
        }
    }
    assert!(!set.is_empty(), "no alias was used");
}

#[test]
fn mqtt5_3_3_2_12_the_server_takes_every_alias_up_to_its_maximum() {
    let scene = Scene::new();
    let mut reader = scene.reader("reader", "#", 1);
    let mut writer = scene.client("writer");
    let maximum = u16::try_from(
        writer
            .granted(property::TOPIC_ALIAS_MAXIMUM)
            .expect("a maximum"),
    )
    .unwrap();
    assert!(maximum > 0);
    for alias in 1..=maximum {
        writer.publish_with(aliased(&scene.topic(&alias.to_string()), alias));
        reader.expect_message(&scene.topic(&alias.to_string()), "x");
    }
    for alias in (1..=maximum).rev() {
        writer.publish_with(aliased("", alias));
        let message = reader.expect_message(&scene.topic(&alias.to_string()), "x");
        assert_eq!(
            message.property(property::TOPIC_ALIAS),
            None,
            "an alias was passed on"
        );
    }
    // A new topic takes an alias over.
    writer.publish_with(aliased(&scene.topic("new"), 1));
    reader.expect_message(&scene.topic("new"), "x");
    writer.publish_with(aliased("", 1));
    reader.expect_message(&scene.topic("new"), "x");
}

#[test]
fn mqtt5_3_3_2_13_the_response_topic_must_be_utf8() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        let publish = raw_publish(0x30, b"t", None, &raw_text(0x08, &[text]));
        ends(&scene, &format!("{text:x?}"), &publish, MALFORMED);
    }
}

#[test]
fn mqtt5_3_3_2_14_the_response_topic_has_no_wildcards() {
    let scene = Scene::new();
    for text in [&b"#"[..], b"+", b"a/+/b", b"a/#"] {
        let publish = raw_publish(0x30, b"t", None, &raw_text(0x08, &[text]));
        ends(&scene, &format!("{text:x?}"), &publish, TOPIC_NAME);
    }
}

#[test]
fn mqtt5_3_3_2_15_the_response_topic_is_forwarded() {
    let scene = Scene::new();
    is_forwarded(
        &scene,
        property::RESPONSE_TOPIC,
        Value::Text("answers/to/\u{fc}".into()),
    );
}

#[test]
fn mqtt5_3_3_2_16_correlation_data_is_forwarded() {
    let scene = Scene::new();
    for data in [vec![], vec![0, 255, 0xc3, 0x28], vec![7; 1_000]] {
        is_forwarded(&scene, property::CORRELATION_DATA, Value::Binary(data));
    }
}

#[test]
fn mqtt5_3_3_2_17_user_properties_are_forwarded() {
    let scene = Scene::new();
    for (name, value) in [("name", "value"), ("", ""), ("\u{1f980}", "\u{feff}")] {
        let (identifier, value) = user_property(name, value);
        is_forwarded(&scene, identifier, value);
    }
}

#[test]
fn mqtt5_3_3_2_18_user_properties_keep_their_order() {
    let scene = Scene::new();
    let pairs = [
        ("b", "1"),
        ("a", "2"),
        ("b", "1"),
        ("b", "0"),
        ("a", "2"),
        ("", "last"),
    ];
    let mut publish = Publish::new(&scene.topic("t"), "x");
    // An expiry and a Content Type between them do not change it.
    for (n, (name, value)) in pairs.into_iter().enumerate() {
        let (identifier, value) = user_property(name, value);
        publish = publish.property(identifier, value);
        if n == 2 {
            publish = publish.property(property::CONTENT_TYPE, Value::Text("type".into()));
            publish = publish.property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(100));
        }
    }
    let expected = pairs.map(|(name, value)| user_property(name, value));
    for message in by_all_ways(&scene, &publish) {
        let mut found = message.properties;
        found.retain(|(identifier, _)| *identifier == property::USER_PROPERTY);
        assert_eq!(found, expected);
    }
}

#[test]
fn mqtt5_3_3_2_19_the_content_type_must_be_utf8() {
    let scene = Scene::new();
    for text in ILL_FORMED {
        let publish = raw_publish(0x30, b"t", None, &raw_text(0x03, &[text]));
        ends(&scene, &format!("{text:x?}"), &publish, MALFORMED);
    }
}

#[test]
fn mqtt5_3_3_2_20_the_content_type_is_forwarded() {
    let scene = Scene::new();
    for text in ["text/plain; charset=\u{fc}", ""] {
        is_forwarded(&scene, property::CONTENT_TYPE, Value::Text(text.into()));
    }
}
