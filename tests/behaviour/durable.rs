//! What survives the process: sessions, subscriptions, queues, retained messages, Wills.

use crate::support::{Broker, Client, Connect, Kind, Publish, Version, Will};

/// Both promises that survive a killed process.
const PROMISES: [&str; 2] = ["durability = \"os\"", "durability = \"fsync\""];

#[test]
fn a_session_and_its_queue_survive_a_killed_broker() {
    for settings in PROMISES {
        let broker = Broker::durable(settings);
        broker.expect_log(&["storage", "0 sessions"]);
        let connect = || Connect::new("reader").lasting();
        let mut reader = Client::connect(&broker, connect());
        reader.subscribe("q/+", 1);
        reader.disconnect();
        let mut writer = broker.client("writer");
        for n in 0..10 {
            writer.publish(&format!("q/{}", n % 3), n.to_string(), 1);
        }
        let broker = broker.restart(settings);
        broker.expect_log(&["storage", "1 sessions"]);
        // The subscription is there before the client is.
        broker.client("writer").publish("q/x", "after", 1);
        let mut reader = Client::connect(&broker, connect());
        assert!(reader.session_present());
        for n in 0..10 {
            reader.expect_message(&format!("q/{}", n % 3), n.to_string());
        }
        reader.expect_message("q/x", "after");
        reader.expect_nothing_before_pong();
        // SUBACK waits for the log, and so for what was acknowledged before.
        reader.subscribe("other", 1);
        let broker = broker.restart(settings);
        let mut reader = Client::connect(&broker, connect());
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn what_was_sent_and_not_acknowledged_comes_again_with_its_identifier() {
    for qos in [1, 2] {
        let broker = Broker::durable("");
        let connect = || Connect::new("reader").lasting();
        let mut reader = Client::connect(&broker, connect());
        reader.subscribe("q", qos);
        let mut writer = broker.client("writer");
        for n in 0..5 {
            writer.publish("q", n.to_string(), 2);
        }
        let sent: Vec<u16> = (0..5)
            .map(|_| reader.expect(Kind::Publish).identifier)
            .collect();
        let broker = broker.restart("");
        let mut reader = Client::connect(&broker, connect());
        for (n, identifier) in sent.iter().enumerate() {
            let message = reader.expect_message("q", n.to_string());
            assert_eq!((message.identifier, message.dup), (*identifier, true));
        }
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn a_release_that_was_sent_is_sent_again_and_not_the_message() {
    let broker = Broker::durable("");
    let connect = || Connect::new("reader").lasting();
    let mut reader = Client::connect(&broker, connect());
    reader.subscribe("q", 2);
    broker.client("writer").publish("q", "once", 2);
    let message = reader.expect(Kind::Publish);
    reader.acknowledge(Kind::PubRec, message.identifier);
    reader.expect(Kind::PubRel);
    let broker = broker.restart("");
    let mut reader = Client::connect(&broker, connect());
    assert_eq!(reader.expect(Kind::PubRel).identifier, message.identifier);
    reader.acknowledge(Kind::PubComp, message.identifier);
    reader.expect_nothing_before_pong();
}

#[test]
fn a_message_that_is_sent_again_after_a_restart_is_delivered_once() {
    let broker = Broker::durable("");
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.subscribe("q", 2);
    reader.disconnect();
    let writer = || Connect::new("writer").lasting();
    let mut sender = Client::connect(&broker, writer());
    let publish = |dup| {
        let mut publish = Publish::new("q", "once").qos(2);
        publish.identifier = Some(7);
        if dup { publish.dup() } else { publish }
    };
    sender.send_raw(&publish(false).bytes(Version::V5));
    sender.wait_for_acknowledgement(Kind::PubRec, 7);
    // The client has not seen PUBREC, as far as the broker knows.
    let broker = broker.restart("");
    let mut sender = Client::connect(&broker, writer());
    assert!(sender.session_present());
    sender.send_raw(&publish(true).bytes(Version::V5));
    let answer = sender.wait_for_acknowledgement(Kind::PubRec, 7);
    assert_eq!(answer.code, 0);
    sender.acknowledge(Kind::PubRel, 7);
    assert_eq!(sender.wait_for_acknowledgement(Kind::PubComp, 7).code, 0);
    // The identifier is free: the next message with it is another one.
    sender.send_raw(
        &Publish::new("q", "twice")
            .qos(2)
            .identifier(7)
            .bytes(Version::V5),
    );
    sender.wait_for_acknowledgement(Kind::PubRec, 7);
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.expect_message("q", "once");
    reader.expect_message("q", "twice");
    reader.expect_nothing_before_pong();
}

#[test]
fn retained_messages_survive_and_cleared_ones_stay_cleared() {
    let broker = Broker::durable("");
    let mut writer = broker.client("writer");
    for n in 0..20_u8 {
        let message = Publish::new(&format!("r/{n}"), n.to_string());
        writer.publish_with(message.qos(n % 3).retain());
    }
    writer.publish_with(Publish::new("r/3", "").qos(1).retain());
    writer.publish_with(Publish::new("r/4", "newer").qos(1).retain());
    let broker = broker.restart("");
    let mut reader = broker.client("reader");
    reader.subscribe("r/+", 1);
    let mut found: Vec<_> = reader
        .drain(crate::support::SILENCE_MS)
        .iter()
        .map(|message| {
            assert!(message.retain);
            (message.topic.clone(), message.text().to_owned())
        })
        .collect();
    found.sort();
    let mut expected: Vec<_> = (0..20_u8)
        .filter(|n| *n != 3)
        .map(|n| {
            (
                format!("r/{n}"),
                if n == 4 {
                    "newer".into()
                } else {
                    n.to_string()
                },
            )
        })
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}

#[test]
fn the_number_of_shards_may_change() {
    let settings = |shards: u16| format!("shards = {shards}");
    let mut broker = Broker::durable(&settings(3));
    for n in 0..12 {
        let mut reader = Client::connect(&broker, Connect::new(&format!("r{n}")).lasting());
        reader.subscribe(&format!("q/{n}"), 1);
        reader.subscribe("all", 2);
        reader.disconnect();
    }
    let mut writer = broker.client("writer");
    writer.publish_with(Publish::new("kept", "value").qos(1).retain());
    for (round, shards) in [1, 4, 2, 2].into_iter().enumerate() {
        let mut writer = broker.client("writer");
        for n in 0..12 {
            writer.publish(&format!("q/{n}"), format!("{round}-{n}"), 1);
        }
        writer.publish("all", round.to_string(), 2);
        broker = broker.restart(&settings(shards));
        broker.expect_log(&["storage", "12 sessions, 1 retained"]);
    }
    for n in 0..12 {
        let mut reader = Client::connect(&broker, Connect::new(&format!("r{n}")).lasting());
        for round in 0..4_usize {
            reader.expect_message(&format!("q/{n}"), format!("{round}-{n}"));
            reader.expect_message("all", round.to_string());
        }
        reader.subscribe("kept", 0);
        reader.expect_message("kept", "value");
        reader.expect_nothing_before_pong();
    }
}

#[test]
fn a_shared_subscription_survives() {
    let broker = Broker::durable("");
    let connect = || Connect::new("member").lasting();
    let mut member = Client::connect(&broker, connect());
    member.subscribe("$share/group/s/+", 1);
    member.disconnect();
    broker.client("writer").publish("s/1", "before", 1);
    let broker = broker.restart("");
    broker.client("writer").publish("s/2", "after", 1);
    let mut member = Client::connect(&broker, connect());
    member.expect_message("s/1", "before");
    member.expect_message("s/2", "after");
    member.unsubscribe(&["$share/group/s/+"]);
    let broker = broker.restart("");
    broker.client("writer").publish("s/3", "gone", 1);
    let mut member = Client::connect(&broker, connect());
    member.expect_nothing_before_pong();
}

#[test]
fn sessions_that_ended_stay_ended_and_expiry_goes_on() {
    let broker = Broker::durable("");
    let mut ended = Client::connect(&broker, Connect::new("ended").lasting());
    ended.subscribe("q", 1);
    ended.disconnect();
    Client::connect(&broker, Connect::new("ended")).disconnect();
    Client::connect(&broker, Connect::new("short").resume().expiry_s(2)).disconnect();
    Client::connect(&broker, Connect::new("long").resume().expiry_s(60)).disconnect();
    crate::support::sleep_ms(1_500);
    let broker = broker.restart("");
    crate::support::sleep_ms(2_500);
    for (id, present) in [("ended", false), ("short", false), ("long", true)] {
        let client = Client::connect(&broker, Connect::new(id).resume());
        assert_eq!(client.session_present(), present, "{id}");
    }
}

#[test]
fn a_will_with_delay_is_published_after_a_restart() {
    let broker = Broker::durable("");
    let mut watcher = Client::connect(&broker, Connect::new("watcher").lasting());
    watcher.subscribe("will", 1);
    let will = |text: &str| Will::new("will", text.as_bytes()).qos(1).delay_s(2);
    let connect = |id: &str| Connect::new(id).resume().expiry_s(60).will(will(id));
    Client::connect(&broker, connect("cut")).cut();
    Client::connect(&broker, connect("normal")).disconnect();
    let connected = Client::connect(&broker, connect("connected"));
    // Nothing tells a client that its DISCONNECT is recorded.
    crate::support::sleep_ms(crate::support::SILENCE_MS);
    let broker = broker.restart("");
    drop(connected);
    let mut watcher = Client::connect(&broker, Connect::new("watcher").lasting());
    let mut wills = [watcher.message(), watcher.message()].map(|message| message.text().to_owned());
    wills.sort();
    assert_eq!(wills, ["connected", "cut"]);
    // That they are published is recorded behind them.
    crate::support::sleep_ms(crate::support::SILENCE_MS);
    let broker = broker.restart("");
    let mut watcher = Client::connect(&broker, Connect::new("watcher").lasting());
    watcher.expect_nothing(2_500);
}

#[test]
fn a_second_broker_is_kept_out() {
    let broker = Broker::durable("");
    let store = broker.directory().join("store");
    let second = std::process::Command::new(crate::support::broker::binary())
        .args(["run", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(&store)
        .output()
        .expect("the second broker starts");
    assert_eq!(second.status.code(), Some(6));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(error.contains("another broker is using"), "{error}");
}
