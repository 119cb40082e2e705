//! Retained messages (3.3.1.3): one per topic, for whoever subscribes later.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::packet::{RETAINED_IF_NEW, RETAINED_NEVER, VERSIONS};
use crate::support::{
    Broker, Client, Connect, Kind, PATIENCE, Publish, SILENCE_MS, Subscribe, Value, Version,
    property, sleep_ms,
};

fn retain(client: &mut Client, topic: &str, payload: &str, qos: u8) {
    let code = client.publish_with(Publish::new(topic, payload).qos(qos).retain());
    assert!(code < 0x80, "{code:#04x}");
    // QoS 0 has no answer: wait until it is taken.
    client.expect_nothing_before_pong();
}

/// All that is retained for `filter`, as topic and payload.
fn retained_for(broker: &Broker, filter: &str) -> BTreeMap<String, String> {
    let mut reader = broker.client("retained-for");
    reader.subscribe(filter, 1);
    let mut found = BTreeMap::new();
    for message in reader.drain(SILENCE_MS) {
        assert!(message.retain, "{message:?} [MQTT-3.3.1-8]");
        let before = found.insert(message.topic.clone(), message.text().to_owned());
        assert_eq!(before, None, "{} came twice", message.topic);
    }
    found
}

#[test]
fn the_last_retained_message_is_kept() {
    let broker = Broker::start();
    for version in VERSIONS {
        for qos in 0..3 {
            let mut writer = broker.client_of(version, "writer");
            retain(&mut writer, "r", "old", qos);
            retain(&mut writer, "r", "new", qos);
            writer.publish("r", "not retained", 1);
            writer.disconnect();
            let mut reader = broker.client_of(version, "reader");
            reader.subscribe("r", 2);
            let message = reader.expect_message("r", "new");
            assert!(message.retain);
            assert_eq!(message.qos, qos);
            reader.expect_nothing_before_pong();
        }
    }
}

#[test]
fn an_empty_payload_clears() {
    let broker = Broker::start();
    let mut live = broker.client("live");
    live.subscribe("r", 1);
    let mut writer = broker.client("writer");
    retain(&mut writer, "r", "x", 1);
    live.expect_message("r", "x");
    retain(&mut writer, "r", "", 1);
    let message = live.expect_message("r", "");
    assert!(
        !message.retain,
        "to a subscription that exists it is an ordinary message"
    );
    assert!(retained_for(&broker, "r").is_empty());
    retain(&mut writer, "r", "", 1);
    assert!(
        retained_for(&broker, "#").is_empty(),
        "an empty message is not stored [MQTT-3.3.1-11]"
    );
}

#[test]
fn the_qos_of_the_subscription_caps() {
    let broker = Broker::start();
    retain(&mut broker.client("writer"), "r", "x", 2);
    for qos in 0..3 {
        let mut reader = broker.client("reader");
        reader.subscribe("r", qos);
        assert_eq!(reader.expect_message("r", "x").qos, qos);
    }
}

#[test]
fn wildcards_find_retained_messages_on_every_shard() {
    let broker = Broker::start();
    let mut writer = broker.client("writer");
    for n in 0..300 {
        retain(
            &mut writer,
            &format!("house/{}/{n}", n % 3),
            &n.to_string(),
            1,
        );
    }
    retain(&mut writer, "house", "parent", 1);
    retain(&mut writer, "other/x", "other", 1);
    assert_eq!(retained_for(&broker, "house/#").len(), 301);
    assert_eq!(retained_for(&broker, "house/+/+").len(), 300);
    assert_eq!(retained_for(&broker, "+/1/+").len(), 100);
    assert_eq!(retained_for(&broker, "house/0/+").len(), 100);
    assert_eq!(retained_for(&broker, "#").len(), 302);
    assert_eq!(
        retained_for(&broker, "house/1/4"),
        BTreeMap::from([("house/1/4".into(), "4".into())])
    );
    assert_eq!(
        retained_for(&broker, "+"),
        BTreeMap::from([("house".into(), "parent".into())])
    );
    assert!(retained_for(&broker, "house/+/none").is_empty());
}

#[test]
fn many_retained_messages_come_through_a_small_window() {
    let broker = Broker::start();
    let mut writer = broker.client("writer");
    for n in 0..500 {
        retain(&mut writer, &format!("w/{n}"), &n.to_string(), 1);
    }
    let mut reader = Client::connect(&broker, Connect::new("reader").receive_maximum(2));
    reader.subscribe("w/#", 1);
    let mut found = BTreeMap::new();
    for _ in 0..500 {
        let message = reader.message();
        assert!(message.retain);
        assert!(found.insert(message.topic, message.payload).is_none());
    }
    reader.expect_nothing_before_pong();
}

#[test]
fn large_retained_messages_come_whole() {
    let broker = Broker::start();
    let mut writer = broker.client("writer");
    for n in 0..20_u8 {
        writer.publish_with(
            Publish::new(&format!("l/{n}"), vec![n; 300_000])
                .qos(1)
                .retain(),
        );
    }
    let mut reader = broker.client("reader");
    reader.subscribe("l/#", 1);
    for _ in 0..20 {
        let message = reader.message();
        let n: u8 = message.topic[2..].parse().unwrap();
        assert!(message.payload == vec![n; 300_000]);
    }
}

#[test]
fn retain_handling_decides() {
    let broker = Broker::start();
    retain(&mut broker.client("writer"), "r", "x", 1);
    let mut reader = broker.client("reader");
    reader.subscribe("r", 1 | RETAINED_NEVER);
    reader.expect_nothing(SILENCE_MS);
    reader.subscribe("r", 1 | RETAINED_IF_NEW);
    reader.expect_nothing(SILENCE_MS);
    reader.subscribe("r", 1);
    reader.expect_message("r", "x");
    reader.subscribe("r", 1);
    reader.expect_message("r", "x");
    reader.unsubscribe(&["r"]);
    reader.subscribe("r", 1 | RETAINED_IF_NEW);
    reader.expect_message("r", "x");
    reader.expect_nothing(SILENCE_MS);
}

#[test]
fn a_resumed_session_gets_no_retained_message_again() {
    let broker = Broker::start();
    retain(&mut broker.client("writer"), "r", "x", 1);
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.subscribe("r", 1);
    reader.expect_message("r", "x");
    reader.expect_nothing_before_pong();
    reader.disconnect();
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.expect_nothing(SILENCE_MS);
}

#[test]
fn retained_messages_have_the_identifier_of_the_new_subscription() {
    let broker = Broker::start();
    retain(&mut broker.client("writer"), "r/1", "x", 1);
    let mut reader = broker.client("reader");
    reader.subscribe_with(&Subscribe::to("r/1", 1).identified(5));
    assert_eq!(
        reader.expect_message("r/1", "x").subscription_identifiers(),
        [5]
    );
    reader.subscribe_with(&Subscribe::to("r/#", 1).identified(6));
    let again = reader.expect_message("r/1", "x").subscription_identifiers();
    assert!(again.contains(&6), "{again:?}");
}

#[test]
fn shared_subscriptions_get_no_retained_messages() {
    let broker = Broker::start();
    retain(&mut broker.client("writer"), "r", "x", 1);
    let mut reader = broker.client("reader");
    reader.subscribe("$share/g/r", 1);
    reader.expect_nothing(SILENCE_MS);
}

#[test]
fn an_older_retained_message_never_follows_a_newer_live_one() {
    let broker = Broker::start();
    let mut writer = broker.client("writer");
    retain(&mut writer, "count", "0", 1);
    let address = broker.address();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = std::sync::Arc::clone(&stop);
    let counting = std::thread::spawn(move || {
        let mut n = 0;
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            n += 1;
            writer.publish_with(Publish::new("count", n.to_string()).qos(1).retain());
        }
    });
    for round in 0..60 {
        let id = format!("reader-{round}");
        let mut reader = Client::open(address, crate::support::Version::V5);
        reader.send_raw(&Connect::new(&id).bytes());
        reader.expect_accepted();
        reader.subscribe(if round % 2 == 0 { "count" } else { "#" }, 1);
        let mut last = 0;
        for _ in 0..20 {
            let message = reader.message();
            let value: u64 = message.text().parse().unwrap();
            assert!(
                value >= last,
                "round {round}: {value} after {last}, retained: {}",
                message.retain
            );
            last = value;
        }
        reader.disconnect();
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    counting.join().expect("the writer");
}

#[test]
fn the_limit_of_retained_messages_holds_and_is_told() {
    let broker = Broker::with("retained.messages_max = 5");
    let mut writer = broker.client("writer");
    let mut codes = BTreeMap::<u8, usize>::new();
    for n in 0..100 {
        let publish = Publish::new(&format!("r/{n}"), "x").qos(1).retain();
        *codes.entry(writer.publish_with(publish)).or_default() += 1;
    }
    let kept = retained_for(&broker, "#").len();
    let most = 5 * usize::from(crate::support::broker::shards());
    assert!(
        kept >= 5 && kept <= most,
        "{kept} are kept, answers were {codes:?}"
    );
    // What is kept may be replaced, and what is cleared makes room.
    let one = retained_for(&broker, "#").into_keys().next().unwrap();
    retain(&mut writer, &one, "replaced", 1);
    assert_eq!(retained_for(&broker, &one)[&one], "replaced");
    retain(&mut writer, &one, "", 1);
    retain(&mut writer, &one, "again", 1);
    assert_eq!(retained_for(&broker, &one)[&one], "again");
}

#[test]
fn a_retained_message_over_the_limit_is_refused_and_leaves_no_older_one() {
    let broker = Broker::with("retained.bytes_max = 2000\nshards = 1");
    let mut writer = broker.client("writer");
    let mut live = broker.client("live");
    live.subscribe("r", 2);
    for qos in 0..3 {
        retain(&mut writer, "r", "old", 1);
        live.expect_message("r", "old");
        let large = "x".repeat(5000);
        let publish = || Publish::new("r", &large).qos(qos).retain();
        let code = writer.publish_with(publish());
        assert_eq!(code, if qos == 0 { 0 } else { 0x97 });
        live.expect_message("r", &large);
        assert!(retained_for(&broker, "r").is_empty(), "[MQTT-3.3.1-5]");
        if qos == 2 {
            // The refused Packet Identifier is free: the same one is a new message [MQTT-4.3.3-9].
            for _ in 0..2 {
                writer.send_raw(&publish().identifier(60_000).bytes(Version::V5));
                assert_eq!(writer.expect(Kind::PubRec).code, 0x97);
                live.expect_message("r", &large);
            }
        }
    }
}

#[test]
fn expired_retained_messages_take_no_room() {
    const COUNT: usize = 20_000;
    let broker = Broker::with(&format!(
        "retained.messages_max = {COUNT}\nsystem_topics.interval_s = 1\nshards = 1"
    ));
    let mut writer = broker.client("writer");
    let one = |n: usize, expiry_s: u32| {
        Publish::new(&format!("e/{n}"), "x")
            .retain()
            .property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(expiry_s))
    };
    let all: Vec<u8> = (0..COUNT)
        .flat_map(|n| one(n, 1).bytes(Version::V5))
        .collect();
    writer.send_raw(&all);
    writer.expect_nothing_before_pong();
    // The last of them expires a second from now; long before they are all looked through.
    sleep_ms(1_100);
    let fresh = writer.publish_with(one(COUNT, 100).qos(1));
    assert!(fresh < 0x80, "{fresh:#04x}");
    let mut reader = broker.client("reader");
    reader.subscribe("$SYS/broker/retained messages/count", 0);
    let deadline = Instant::now() + Duration::from_secs(4);
    while reader.message().text() != "1" {
        assert!(Instant::now() < deadline, "expired messages are counted");
    }
}

#[test]
fn very_many_live_messages_for_a_client_that_is_away_are_not_all_noted() {
    const RETAINED: usize = 200;
    const LIVE: usize = 17_000; // more than are noted
    let broker = Broker::start();
    let mut writer = broker.client("writer");
    for n in 0..RETAINED {
        retain(&mut writer, &format!("w/{n}"), "old", 1);
    }
    let lasting = || Connect::new("reader").lasting();
    let mut reader = Client::connect(&broker, lasting().receive_maximum(1));
    reader.subscribe("w/#", 1);
    reader.expect(Kind::Publish);
    reader.cut();
    writer.publish_with(Publish::new("w/5", "new").qos(1).retain());
    let live: Vec<u8> = (0..LIVE)
        .flat_map(|n| {
            let publish = Publish::new(&format!("w/live/{n}"), "live").retain();
            publish.bytes(Version::V5)
        })
        .collect();
    writer.send_raw(&live);
    writer.expect_nothing_before_pong();
    let mut reader = Client::connect(&broker, lasting());
    let mut last = BTreeMap::new();
    for message in reader.drain(2_000) {
        let text = message.text().to_owned();
        let before = last.insert(message.topic, text.clone());
        assert!(text != "old" || before.is_none(), "old after {before:?}");
    }
    let old = last.values().filter(|text| *text == "old").count();
    assert_eq!(old, RETAINED - 1);
    assert_eq!(last["w/5"], "new");
    // What is no longer noted was asked for again.
    let live = last.values().filter(|text| *text == "live").count();
    assert!(live > 10_000, "{live} of those that were live");
}

#[test]
fn retained_messages_come_though_the_connection_ended_before_suback() {
    let broker = Broker::start();
    retain(&mut broker.client("writer"), "r", "x", 1);
    for round in 0..40 {
        let id = format!("reader-{round}");
        let filter = if round % 2 == 0 { "r" } else { "+" };
        let mut reader = Client::connect(&broker, Connect::new(&id).lasting());
        // The protocol error ends the connection before another shard can confirm the subscription.
        let mut packets = Subscribe::to(filter, 1).bytes(Version::V5, 1);
        packets.extend([0, 0]);
        reader.send_raw(&packets);
        while reader.next(PATIENCE).is_packet() {}
        let mut reader = Client::connect(&broker, Connect::new(&id).lasting());
        reader.subscribe(filter, 1 | RETAINED_IF_NEW);
        reader.expect_message("r", "x");
        reader.expect_nothing_before_pong();
    }
}
