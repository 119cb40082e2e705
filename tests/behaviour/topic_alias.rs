//! Topic Aliases both ways (3.3.2.3.4): they live on one connection.

use std::collections::HashMap;

use crate::support::{Broker, Client, Connect, Packet, Publish, Value, Version, property};

fn aliased(topic: &str, alias: u16, payload: &str) -> Publish {
    Publish::new(topic, payload).property(property::TOPIC_ALIAS, Value::Two(alias))
}

#[test]
fn a_client_may_set_use_and_move_its_aliases() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("#", 1);
    let mut writer = broker.client("writer");
    assert!(writer.granted(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) >= 2);
    for qos in 0..3 {
        for (topic, alias, resolved) in [
            ("a/b", 1, "a/b"),
            ("", 1, "a/b"),
            ("c", 2, "c"),
            ("", 1, "a/b"),
            ("d", 1, "d"),
            ("", 1, "d"),
            ("", 2, "c"),
        ] {
            writer.publish_with(aliased(topic, alias, "x").qos(qos));
            let message = reader.expect_message(resolved, "x");
            assert_eq!(
                message.property(property::TOPIC_ALIAS),
                None,
                "an alias was forwarded"
            );
        }
    }
}

#[test]
fn wrong_aliases_end_the_connection() {
    let broker = Broker::with("listener.topic_alias_maximum = 5");
    let client = || broker.client("writer");
    assert_eq!(client().granted(property::TOPIC_ALIAS_MAXIMUM), Some(5));
    for (what, topic, alias) in [
        ("zero", "t", 0),
        ("over the maximum", "t", 6),
        ("over and unset", "", 6),
    ] {
        let mut writer = client();
        writer.send_raw(&aliased(topic, alias, "x").bytes(Version::V5));
        writer.expect_end(0x94);
        drop(writer);
        eprintln!("{what}: ended");
    }
    let mut unset = client();
    unset.send_raw(&aliased("", 3, "x").bytes(Version::V5));
    unset.expect_end_with(&[0x82, 0x94]);
    let mut none = client();
    none.send_raw(&Publish::new("", "x").bytes(Version::V5));
    none.expect_end_with(&[0x82, 0x90]);
    let mut last = client();
    last.publish_with(aliased("t", 5, "x").qos(1));
    last.expect_nothing_before_pong();
}

#[test]
fn aliases_can_be_switched_off() {
    let broker = Broker::with("listener.topic_alias_maximum = 0");
    let mut writer = broker.client("writer");
    assert_eq!(
        writer.granted(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0),
        0
    );
    writer.send_raw(&aliased("t", 1, "x").bytes(Version::V5));
    writer.expect_end(0x94);
}

#[test]
fn aliases_end_with_their_connection() {
    let broker = Broker::start();
    let connect = || Connect::new("writer").lasting();
    let mut writer = Client::connect(&broker, connect());
    writer.publish_with(aliased("t", 1, "x").qos(1));
    writer.cut();
    let mut writer = Client::connect(&broker, connect());
    assert!(writer.session_present());
    writer.send_raw(&aliased("", 1, "x").bytes(Version::V5));
    writer.expect_end_with(&[0x82, 0x94]);
}

/// A reader's side of aliases.
#[derive(Default)]
struct Aliases {
    topics: HashMap<u32, String>,
    used: usize,
}

impl Aliases {
    fn resolve(&mut self, maximum: u32, message: &Packet) -> String {
        let Some(alias) = message.number(property::TOPIC_ALIAS) else {
            assert!(!message.topic.is_empty(), "neither topic nor alias");
            return message.topic.clone();
        };
        assert!(
            alias >= 1 && alias <= maximum,
            "alias {alias} over {maximum} [MQTT-3.1.2-26]"
        );
        if message.topic.is_empty() {
            self.used += 1;
            return self
                .topics
                .get(&alias)
                .expect("an alias that was set")
                .clone();
        }
        self.topics.insert(alias, message.topic.clone());
        message.topic.clone()
    }
}

fn with_aliases(id: &str, maximum: u16) -> Connect {
    Connect::new(id).property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(maximum))
}

#[test]
fn the_broker_uses_aliases_towards_clients_that_allow_them() {
    let broker = Broker::start();
    for qos in 0..3 {
        let mut reader = Client::connect(&broker, with_aliases("reader", 3));
        reader.subscribe("long/topic/name/#", qos);
        let mut writer = broker.client("writer");
        let mut aliases = Aliases::default();
        for n in 0..60 {
            let topic = format!("long/topic/name/{}", n % 6);
            writer.publish(&topic, n.to_string(), qos);
            let message = reader.message();
            assert_eq!(message.text(), n.to_string());
            assert_eq!(
                aliases.resolve(3, &message),
                topic,
                "QoS {qos}, message {n}"
            );
        }
        assert!(aliases.used > 0, "QoS {qos}: no alias was used");
    }
}

#[test]
fn aliases_hold_when_messages_wait_for_the_window() {
    let broker = Broker::start();
    let connect = with_aliases("reader", 2).receive_maximum(2).lasting();
    let mut reader = Client::connect(&broker, connect.clone());
    reader.subscribe("q/#", 1);
    let mut writer = broker.client("writer");
    for n in 0..40 {
        writer.publish(&format!("q/{}", n % 4), n.to_string(), 1);
    }
    let mut aliases = Aliases::default();
    for n in 0..20 {
        let message = reader.message();
        assert_eq!(message.text(), n.to_string());
        assert_eq!(aliases.resolve(2, &message), format!("q/{}", n % 4));
    }
    reader.cut();
    // On the new connection every alias must be set anew.
    let mut reader = Client::connect(&broker, connect);
    let mut aliases = Aliases::default();
    let mut last = 0;
    while last < 39 {
        let message = reader.message();
        last = message.text().parse().unwrap();
        assert_eq!(aliases.resolve(2, &message), format!("q/{}", last % 4));
    }
}

#[test]
fn a_message_too_large_for_a_client_does_not_set_an_alias() {
    let broker = Broker::start();
    let connect =
        with_aliases("reader", 4).property(property::MAXIMUM_PACKET_SIZE, Value::Four(120));
    let mut reader = Client::connect(&broker, connect);
    reader.subscribe("#", 0);
    let mut writer = broker.client("writer");
    let mut aliases = Aliases::default();
    for n in 0..8 {
        let topic = format!("dropped/first/{}", n % 4);
        writer.publish(&topic, vec![b'x'; 200], 1);
        writer.publish(&topic, "small", 1);
        let message = reader.message();
        assert_eq!(message.text(), "small");
        assert_eq!(aliases.resolve(4, &message), topic);
    }
}

#[test]
fn clients_that_allow_no_alias_get_none() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("t", 0);
    let mut writer = broker.client("writer");
    for _ in 0..5 {
        writer.publish_with(aliased("t", 1, "x"));
        assert_eq!(
            reader
                .expect_message("t", "x")
                .property(property::TOPIC_ALIAS),
            None
        );
    }
}
