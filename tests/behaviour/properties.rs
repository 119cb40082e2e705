//! Properties of PUBLISH on their way through the broker: unchanged, in order, and Message Expiry rewritten.

use crate::support::packet::VERSIONS;
use crate::support::property::{Property, user_property};
use crate::support::{
    Broker, Client, Connect, Packet, Publish, Value, Version, Will, property, sleep_ms,
};

/// One of each that is forwarded; User Properties with a repeated name, in an order that sorting would change.
fn forwarded() -> Vec<Property> {
    vec![
        (property::PAYLOAD_FORMAT_INDICATOR, Value::Byte(1)),
        user_property("z", "1"),
        (property::CONTENT_TYPE, Value::Text("text/plain; ü".into())),
        (property::RESPONSE_TOPIC, Value::Text("answers/here".into())),
        user_property("a", "2"),
        (
            property::CORRELATION_DATA,
            Value::Binary(vec![0, 255, 1, 254]),
        ),
        user_property("z", "3"),
        user_property("z", "1"),
        user_property("", ""),
        user_property("ключ", "🦀"),
    ]
}

fn with_all(mut publish: Publish) -> Publish {
    for (identifier, value) in forwarded() {
        publish = publish.property(identifier, value);
    }
    publish
}

#[track_caller]
fn expect_forwarded(message: &Packet) {
    let only = |of_user: bool, properties: &[Property]| -> Vec<Property> {
        let chosen = properties
            .iter()
            .filter(|(id, _)| (*id == property::USER_PROPERTY) == of_user);
        chosen.cloned().collect()
    };
    let sent = forwarded();
    assert_eq!(
        only(true, &message.properties),
        only(true, &sent),
        "[MQTT-3.3.2-18]"
    );
    let mut others = only(false, &message.properties);
    others.retain(|(id, _)| {
        !matches!(
            *id,
            property::MESSAGE_EXPIRY_INTERVAL | property::TOPIC_ALIAS
        )
    });
    let mut expected = only(false, &sent);
    others.sort_by_key(|(id, _)| *id);
    expected.sort_by_key(|(id, _)| *id);
    assert_eq!(others, expected);
}

#[test]
fn properties_are_forwarded_unchanged() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("t", 2);
    let mut writer = broker.client("writer");
    for qos in 0..3 {
        writer.publish_with(with_all(Publish::new("t", "payload").qos(qos)));
        expect_forwarded(&reader.expect_message("t", "payload"));
        // With an alias and an expiry in between, which are not forwarded as they are.
        let mixed = Publish::new("t", "payload").qos(qos);
        let mixed = mixed.property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(60));
        let mixed = with_all(mixed).property(property::TOPIC_ALIAS, Value::Two(1));
        writer.publish_with(mixed);
        let message = reader.expect_message("t", "payload");
        expect_forwarded(&message);
        assert!(message.number(property::MESSAGE_EXPIRY_INTERVAL).unwrap() >= 58);
        assert_eq!(message.property(property::TOPIC_ALIAS), None);
    }
}

#[test]
fn stored_messages_keep_their_properties() {
    let broker = Broker::start();
    let mut offline = Client::connect(&broker, Connect::new("offline").lasting());
    offline.subscribe("t", 1);
    offline.disconnect();
    broker
        .client("writer")
        .publish_with(with_all(Publish::new("t", "p").qos(1).retain()));
    let mut offline = Client::connect(&broker, Connect::new("offline").lasting());
    expect_forwarded(&offline.message());
    let mut late = broker.client("late");
    late.subscribe("t", 1);
    let retained = late.message();
    assert!(retained.retain);
    expect_forwarded(&retained);
}

#[test]
fn will_messages_have_their_properties() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("will", 1);
    let mut will = Will::new("will", b"gone");
    for (identifier, value) in forwarded() {
        will = will.property(identifier, value);
    }
    Client::connect(&broker, Connect::new("dying").will(will)).cut();
    expect_forwarded(&reader.expect_message("will", "gone"));
}

#[test]
fn versions_before_5_get_the_payload_only() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut reader = broker.client_of(version, "reader");
        reader.subscribe("t", 1);
        broker
            .client("writer")
            .publish_with(with_all(Publish::new("t", "p").qos(1)));
        let message = reader.expect_message("t", "p");
        assert_eq!(message.properties.is_empty(), version != Version::V5);
    }
}

#[test]
fn very_many_user_properties_are_forwarded() {
    let broker = Broker::start();
    let mut reader = broker.client("reader");
    reader.subscribe("t", 1);
    let mut publish = Publish::new("t", "p").qos(1);
    let sent: Vec<Property> = (0..2_000)
        .map(|n| user_property(&format!("k{}", n % 7), &n.to_string()))
        .collect();
    for (identifier, value) in sent.clone() {
        publish = publish.property(identifier, value);
    }
    broker.client("writer").publish_with(publish);
    assert!(reader.message().properties == sent);
}

fn expiring(seconds: u32, payload: &str) -> Publish {
    Publish::new("t", payload)
        .qos(1)
        .property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(seconds))
}

#[test]
fn message_expiry_is_what_is_left_of_it() {
    let broker = Broker::start();
    let mut offline = Client::connect(&broker, Connect::new("offline").lasting());
    offline.subscribe("t", 1);
    offline.disconnect();
    let mut online = broker.client("online");
    online.subscribe("t", 1);
    let mut writer = broker.client("writer");
    writer.publish_with(expiring(1, "short"));
    writer.publish_with(expiring(20, "long"));
    writer.publish("t", "endless", 1);
    let at_once = online
        .expect_message("t", "short")
        .number(property::MESSAGE_EXPIRY_INTERVAL);
    assert!(matches!(at_once, Some(0 | 1)), "{at_once:?}");
    let at_once = online
        .expect_message("t", "long")
        .number(property::MESSAGE_EXPIRY_INTERVAL);
    assert!(matches!(at_once, Some(19 | 20)), "{at_once:?}");
    sleep_ms(2_500);
    let mut offline = Client::connect(&broker, Connect::new("offline").lasting());
    let left = offline
        .expect_message("t", "long")
        .number(property::MESSAGE_EXPIRY_INTERVAL);
    assert!(
        matches!(left, Some(16..=18)),
        "{left:?} is left of 20 after 2.5 [MQTT-3.3.2-6]"
    );
    let endless = offline.expect_message("t", "endless");
    assert_eq!(endless.number(property::MESSAGE_EXPIRY_INTERVAL), None);
    offline.expect_nothing_before_pong();
}

#[test]
fn a_message_that_expires_while_the_window_is_shut_is_not_sent() {
    let broker = Broker::start();
    let mut reader = Client::connect(&broker, Connect::new("reader").receive_maximum(1));
    reader.subscribe("t", 1);
    let mut writer = broker.client("writer");
    writer.publish("t", "first", 1);
    writer.publish_with(expiring(1, "expires"));
    writer.publish("t", "last", 1);
    let first = reader.expect(crate::support::Kind::Publish);
    sleep_ms(2_500);
    reader.acknowledge(crate::support::Kind::PubAck, first.identifier);
    reader.expect_message("t", "last");
}

#[test]
fn retained_messages_expire() {
    let broker = Broker::start();
    let mut writer = broker.client("writer");
    writer.publish_with(expiring(1, "short").retain());
    sleep_ms(2_500);
    let mut reader = broker.client("reader");
    reader.subscribe("t", 1);
    reader.expect_nothing(crate::support::SILENCE_MS);
    writer.publish_with(expiring(20, "long").retain());
    reader.expect_message("t", "long");
    sleep_ms(1_500);
    let mut late = broker.client("late");
    late.subscribe("t", 1);
    let left = late
        .expect_message("t", "long")
        .number(property::MESSAGE_EXPIRY_INTERVAL);
    assert!(
        matches!(left, Some(17..=19)),
        "{left:?} is left of 20 after 1.5"
    );
}
