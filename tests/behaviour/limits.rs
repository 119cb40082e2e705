//! Limits and capabilities of a listener: told in CONNACK, and kept.

use crate::support::packet::{RETAINED_NEVER, unsubscribe};
use crate::support::{
    Broker, Client, Connect, Kind, Next, PATIENCE, Packet, Publish, Subscribe, Value, Version,
    Will, property,
};

#[test]
fn connack_tells_the_defaults() {
    let broker = Broker::start();
    let client = broker.client("defaults");
    for capability in [
        property::MAXIMUM_QOS,
        property::RETAIN_AVAILABLE,
        property::WILDCARD_SUBSCRIPTION_AVAILABLE,
        property::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        property::SHARED_SUBSCRIPTION_AVAILABLE,
    ] {
        // For Maximum QoS only 0 and 1 may be said; of the others 1 is the default.
        let told = client.granted(capability);
        let fine = told.is_none() || (told == Some(1) && capability != property::MAXIMUM_QOS);
        assert!(fine, "{capability:#04x} is {told:?}");
    }
    assert!(
        client
            .granted(property::RECEIVE_MAXIMUM)
            .is_none_or(|count| count > 0)
    );
    assert!(
        client
            .granted(property::MAXIMUM_PACKET_SIZE)
            .is_none_or(|bytes| bytes >= 1 << 20)
    );
    assert!(client.granted(property::TOPIC_ALIAS_MAXIMUM).unwrap_or(0) > 0);
}

#[test]
fn maximum_qos_holds() {
    let broker = Broker::with("listener.maximum_qos = 1");
    let mut client = broker.client("client");
    assert_eq!(client.granted(property::MAXIMUM_QOS), Some(1));
    assert_eq!(
        client.subscribe_with(&Subscribe::to("t", 2)),
        [1],
        "[MQTT-3.2.2-10]"
    );
    client.publish("t", "x", 1);
    assert_eq!(client.expect_message("t", "x").qos, 1);
    client.send_raw(
        &Publish::new("t", "x")
            .qos(2)
            .identifier(1)
            .bytes(Version::V5),
    );
    client.expect_end(0x9b);
    let will = Connect::new("will").will(Will::new("t", b"x").qos(2));
    assert_eq!(Client::refused(&broker, &will).code, 0x9b);
}

#[test]
fn retain_can_be_switched_off() {
    let broker = Broker::with("listener.retain_available = false");
    let mut client = broker.client("client");
    assert_eq!(client.granted(property::RETAIN_AVAILABLE), Some(0));
    client.send_raw(
        &Publish::new("t", "x")
            .qos(1)
            .identifier(1)
            .retain()
            .bytes(Version::V5),
    );
    client.expect_end(0x9a);
    let will = Connect::new("will").will(Will::new("t", b"x").retain());
    assert_eq!(Client::refused(&broker, &will).code, 0x9a);
}

#[test]
fn kinds_of_subscriptions_can_be_switched_off() {
    let broker = Broker::with(
        "listener.wildcard_subscription_available = false
         listener.shared_subscription_available = false
         listener.subscription_identifiers_available = false",
    );
    let mut client = broker.client("client");
    assert_eq!(
        client.granted(property::WILDCARD_SUBSCRIPTION_AVAILABLE),
        Some(0)
    );
    assert_eq!(
        client.granted(property::SHARED_SUBSCRIPTION_AVAILABLE),
        Some(0)
    );
    assert_eq!(
        client.granted(property::SUBSCRIPTION_IDENTIFIER_AVAILABLE),
        Some(0)
    );
    let codes = client.subscribe_with(&Subscribe::to("a/+", 0).and("$share/g/a", 0).and("a", 1));
    assert_eq!(codes, [0xa2, 0x9e, 1]);
    client.send_raw(&Subscribe::to("a", 0).identified(1).bytes(Version::V5, 9));
    let answer = client.receive();
    assert!(
        matches!(answer.kind, Kind::SubAck | Kind::Disconnect),
        "{answer:?}"
    );
    assert_eq!(answer.code, 0xa1);
}

#[test]
fn the_number_of_connections_is_limited() {
    let broker = Broker::with("listener.connections_max = 4");
    let clients: Vec<Client> = (0..4).map(|n| broker.client(&format!("in-{n}"))).collect();
    for n in 0..4 {
        let mut over = Client::open(broker.address(), Version::V5);
        over.try_send_raw(&Connect::new(&format!("over-{n}")).bytes());
        match over.next(PATIENCE) {
            Next::Closed => {}
            Next::Packet(packet) => assert!(
                packet.kind == Kind::ConnAck && matches!(packet.code, 0x88 | 0x89 | 0x97 | 0x9f),
                "{packet:?}"
            ),
            Next::Silence => panic!("no answer"),
        }
    }
    for client in clients {
        client.disconnect();
    }
    // Places are free again once the broker has seen the ends.
    for n in 0..100 {
        let mut client = Client::open(broker.address(), Version::V5);
        client.try_send_raw(&Connect::new("after").bytes());
        if let Next::Packet(packet) = client.next(PATIENCE)
            && packet.code == 0
        {
            return;
        }
        assert!(n < 99, "places are not given free");
        crate::support::sleep_ms(20);
    }
}

#[test]
fn the_number_of_subscriptions_is_limited() {
    let broker = Broker::with("session.subscriptions_max = 3");
    let mut client = broker.client("client");
    let mut subscribe = Subscribe::to("t/0", 0);
    for n in 1..5 {
        subscribe = subscribe.and(&format!("t/{n}"), 0);
    }
    assert_eq!(client.subscribe_with(&subscribe), [0, 0, 0, 0x97, 0x97]);
    assert_eq!(
        client.subscribe_with(&Subscribe::to("t/1", 1 | RETAINED_NEVER)),
        [1],
        "one that exists"
    );
    client.unsubscribe(&["t/0"]);
    client.subscribe("t/9", 0);
    let mut old = broker.client_of(Version::V311, "old");
    let codes = old.subscribe_with(&Subscribe::to("a", 0).and("b", 0).and("c", 0).and("d", 0));
    assert_eq!(codes, [0, 0, 0, 0x80]);
}

#[test]
fn the_number_of_topic_levels_is_limited() {
    let broker = Broker::with("message.topic_levels_max = 4");
    let mut client = broker.client("client");
    assert_eq!(
        client.subscribe_with(&Subscribe::to("a/b/c/d", 0).and("a/b/c/d/e", 0)),
        [0, 0x8f]
    );
    client.send_raw(
        &Publish::new("a/b/c/d/e", "x")
            .qos(1)
            .identifier(1)
            .bytes(Version::V5),
    );
    let answer = client.receive();
    assert!(
        matches!(answer.kind, Kind::PubAck | Kind::Disconnect),
        "{answer:?}"
    );
    assert_eq!(answer.code, 0x90);
}

/// The Reason Strings of every answer with an error, of a client whose CONNECT is `connect`.
fn reason_strings(broker: &Broker, connect: Connect) -> Vec<Option<String>> {
    let mut client = Client::connect(broker, connect);
    let mut answers = Vec::new();
    for (qos, kind) in [(1, Kind::PubAck), (2, Kind::PubRec)] {
        let forbidden = Publish::new("$forbidden", "x").qos(qos).identifier(9);
        client.send_raw(&forbidden.bytes(Version::V5));
        answers.push((client.expect(kind), 0x87));
    }
    client.send_raw(
        &Subscribe::to("fine", 0)
            .and("a/#/b", 0)
            .bytes(Version::V5, 10),
    );
    let mut suback = client.expect(Kind::SubAck);
    suback.code = suback.codes[1];
    answers.push((suback, 0x8f));
    client.send_raw(&unsubscribe(Version::V5, 11, &["a/#/b"]));
    answers.push((client.expect(Kind::UnsubAck), 0x8f));
    client.acknowledge(Kind::PubRel, 77);
    answers.push((client.expect(Kind::PubComp), 0x92));
    client.acknowledge(Kind::PubRec, 78);
    answers.push((client.expect(Kind::PubRel), 0x92));
    let reason_string = |(answer, code): &(Packet, u8)| {
        assert_eq!(answer.code, *code, "{answer:?}");
        let reason = answer.property(property::REASON_STRING)?;
        assert!(!reason.text().is_empty());
        Some(reason.text().to_owned())
    };
    answers.iter().map(reason_string).collect()
}

#[test]
fn reason_strings_are_only_for_who_wants_them() {
    let broker = Broker::start();
    let told = reason_strings(&broker, Connect::new("asks"));
    assert!(told.iter().all(Option::is_some), "{told:?}");
    let asks_not = Connect::new("asks-not");
    let asks_not = asks_not.property(property::REQUEST_PROBLEM_INFORMATION, Value::Byte(0));
    let told = reason_strings(&broker, asks_not);
    assert!(
        told.iter().all(Option::is_none),
        "[MQTT-3.1.2-29]: {told:?}"
    );
    let small = Connect::new("small").property(property::MAXIMUM_PACKET_SIZE, Value::Four(22));
    let told = reason_strings(&broker, small);
    assert!(told.iter().all(Option::is_none), "[MQTT-3.4.2-2]: {told:?}");
}

#[test]
fn success_has_no_reason_string() {
    let broker = Broker::start();
    let mut client = broker.client("client");
    client.send_raw(&Subscribe::to("t", 1).bytes(Version::V5, 1));
    assert!(client.expect(Kind::SubAck).properties.is_empty());
    client.send_raw(&unsubscribe(Version::V5, 2, &["t", "never"]));
    assert!(client.expect(Kind::UnsubAck).properties.is_empty());
    client.send_raw(
        &Publish::new("t", "x")
            .qos(1)
            .identifier(3)
            .bytes(Version::V5),
    );
    let ack = client.expect(Kind::PubAck);
    assert_eq!((ack.code, ack.properties.len()), (0x10, 0));
}

#[test]
fn response_information_is_told_to_who_asks() {
    let broker = Broker::with("listener.response_information = \"answers/\"");
    let ask = |value| {
        Connect::new("asks").property(property::REQUEST_RESPONSE_INFORMATION, Value::Byte(value))
    };
    let told = |broker: &Broker, connect: Connect| {
        let connack = Client::connect(broker, connect).connack.unwrap();
        let information = connack.property(property::RESPONSE_INFORMATION);
        information.map(|value| value.text().to_owned())
    };
    assert_eq!(told(&broker, ask(1)).as_deref(), Some("answers/"));
    assert_eq!(told(&broker, ask(0)), None, "[MQTT-3.1.2-28]");
    assert_eq!(told(&broker, Connect::new("silent")), None);
    // It goes first if CONNACK is too large.
    let small = ask(1).property(property::MAXIMUM_PACKET_SIZE, Value::Four(25));
    assert_eq!(told(&broker, small), None);
    assert_eq!(told(&Broker::start(), ask(1)), None);
}

#[test]
fn a_connect_may_have_every_field_at_its_longest() {
    let broker = Broker::start();
    let long = "x".repeat(65_535);
    let will = Will::new(&long, long.as_bytes());
    let connect = Connect::new(&long)
        .will(will)
        .user_name(&long)
        .password(long.as_bytes());
    Client::connect(&broker, connect).disconnect();
}

#[test]
fn a_connect_over_its_limit_is_refused_by_its_length_alone() {
    let broker = Broker::with("listener.connect_bytes_max = 1000");
    let client = broker.client("small");
    assert_eq!(
        client.granted(property::MAXIMUM_PACKET_SIZE),
        Some(16 << 20)
    );
    let mut client = Client::open(broker.address(), Version::V5);
    let bytes = Connect::new(&"x".repeat(2_000)).bytes();
    client.send_raw(&bytes[..20]);
    assert_eq!(client.expect(Kind::ConnAck).code, 0x95);
    client.expect_closed();
}
