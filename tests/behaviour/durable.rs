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

/// Runs `ringmq store`; gives the exit code and what it printed.
fn look_into(action: &str, store: &std::path::Path) -> (Option<i32>, String) {
    let output = std::process::Command::new(crate::support::broker::binary())
        .args(["store", action])
        .arg(store)
        .output()
        .expect("ringmq store");
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into())
}

/// The segments of all shards that have more than a header, the longest first.
fn segments(store: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for shard in 0..8 {
        let directory = store.join(format!("generation-1/shard-{shard}"));
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            let bytes = std::fs::read(entry.path()).expect("a segment");
            let used = bytes.iter().rposition(|byte| *byte != 0).unwrap_or(0);
            if used > 4096 {
                found.push((used, entry.path()));
            }
        }
    }
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[test]
fn a_store_is_read_without_a_broker() {
    let broker = Broker::durable("");
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.subscribe("q/+", 1);
    reader.disconnect();
    for n in 0..10 {
        broker
            .client("writer")
            .publish("q/a", format!("payload {n}"), 1);
    }
    let store = broker.directory().join("store");
    let (code, text) = look_into("check", &store);
    assert_eq!(code, Some(6), "the broker is running: {text}");
    let directory = broker.kill();
    let (code, text) = look_into("check", &store);
    assert!(code == Some(0) && text.contains("good"), "{text}");
    let (_, text) = look_into("stats", &store);
    assert!(
        text.contains("1 sessions, 1 subscriptions, 10 queued"),
        "{text}"
    );
    let (_, text) = look_into("dump", &store);
    assert_eq!(text.matches(" Queued(").count(), 10, "{text}");
    // Damage in the middle: what lies around it is used, and what is lost is said.
    let path = &segments(&store)[0];
    let mut bytes = std::fs::read(path).expect("a segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("records");
    let block = 4096 * (used / 4096 / 2);
    bytes[block + 50] ^= 0xff;
    std::fs::write(path, bytes).expect("a damaged segment");
    let (code, text) = look_into("check", &store);
    assert!(code == Some(6) && text.contains("bytes at"), "{text}");
    let broker = Broker::revive(directory, "");
    broker.expect_log(&["ERROR", "is damaged", "what it recorded is lost"]);
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    assert!(reader.session_present());
    assert_eq!(reader.drain(crate::support::SILENCE_MS).len(), 9);
}

#[test]
fn a_torn_end_is_cut_off() {
    let broker = Broker::durable("");
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.subscribe("q", 1);
    reader.disconnect();
    let mut writer = broker.client("writer");
    for n in 0..5 {
        writer.publish("q", n.to_string(), 1);
    }
    let store = broker.directory().join("store");
    let directory = broker.kill();
    let path = &segments(&store)[0];
    let mut bytes = std::fs::read(path).expect("a segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).expect("records");
    bytes[used - 3] ^= 0xff;
    std::fs::write(path, bytes).expect("a torn segment");
    let broker = Broker::revive(directory, "");
    broker.expect_log(&["was not complete and is cut off"]);
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    for n in 0..4 {
        reader.expect_message("q", n.to_string());
    }
    reader.expect_nothing_before_pong();
    reader.disconnect();
    let mut writer = broker.client("writer");
    writer.publish("q", "later", 1);
    let broker = broker.restart("");
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    assert_eq!(
        reader
            .drain(crate::support::SILENCE_MS)
            .last()
            .expect("a message")
            .text(),
        "later"
    );
}

#[test]
fn a_later_format_is_refused() {
    let broker = Broker::durable("");
    let store = broker.directory().join("store");
    let _directory = broker.kill();
    let manifest = std::fs::read_to_string(store.join("manifest")).expect("a manifest");
    let later = manifest.replace("format 1", "format 2");
    std::fs::write(store.join("manifest"), later).expect("a manifest");
    let (code, text) = look_into("stats", &store);
    assert!(
        code == Some(6) && text.contains("format 2") && text.contains("later version"),
        "{text}"
    );
}

#[test]
fn a_full_store_refuses_what_must_be_kept_and_nothing_else() {
    let settings = "storage.segment_bytes = \"1MiB\"\nstorage.bytes_max = \"4MiB\"\nshards = 1\n\
        session.outbox_bytes_max = \"64MiB\"";
    let broker = Broker::durable(settings);
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.subscribe("kept", 1);
    reader.disconnect();
    let mut passer = broker.client("passer");
    passer.subscribe("passing", 1);
    let mut writer = broker.client("writer");
    let mut kept = 0;
    let code = loop {
        let code = writer.publish_with(Publish::new("kept", vec![b'x'; 10_000]).qos(1));
        if code >= 0x80 || kept > 1_000 {
            break code;
        }
        kept += 1;
    };
    assert_eq!(code, 0x97, "Quota exceeded after {kept} messages");
    assert!(kept > 200, "{kept} of 10,000 bytes in 4 MiB");
    writer.publish("passing", "others go on", 1);
    passer.expect_message("passing", "others go on");
    let retained = Publish::new("r", "value").qos(1).retain();
    assert_eq!(writer.publish_with(retained), 0x97);
    // A client before 5.0 cannot be told, and is not lied to.
    let mut old = broker.client_of(Version::V311, "old");
    old.send_raw(
        &Publish::new("kept", "x")
            .qos(1)
            .identifier(1)
            .bytes(Version::V311),
    );
    old.expect_closed();
    // What is taken makes room.
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    for _ in 0..kept {
        reader.message();
    }
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while writer.publish_with(Publish::new("kept", "again").qos(1)) >= 0x80 {
        assert!(std::time::Instant::now() < deadline, "there is room again");
        crate::support::sleep_ms(20);
    }
    reader.expect_message("kept", "again");
}

#[test]
fn a_write_that_fails_ends_the_broker_and_loses_nothing() {
    let settings = "storage.segment_bytes = \"1MiB\"\nshards = 1\ndurability = \"os\"";
    let mut broker = Broker::durable(settings);
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    reader.subscribe("kept", 1);
    reader.disconnect();
    let mut writer = broker.client("writer");
    for n in 0..20 {
        writer.publish("kept", n.to_string(), 1);
    }
    // No file may be written from here on.
    broker.limit_file_bytes(4096);
    let message = Publish::new("kept", "not acknowledged")
        .qos(1)
        .identifier(99);
    writer.send_raw(&message.bytes(Version::V5));
    loop {
        match writer.next(crate::support::PATIENCE) {
            crate::support::Next::Packet(packet) => {
                assert_ne!(packet.kind, Kind::PubAck, "it is not safe: {packet:?}");
            }
            crate::support::Next::Closed => break,
            crate::support::Next::Silence => panic!("the broker goes on"),
        }
    }
    assert_eq!(broker.wait().code(), Some(6), "{}", broker.log());
    assert!(broker.log().contains("a write failed"), "{}", broker.log());
    let broker = broker.restart_ended(settings);
    let mut reader = Client::connect(&broker, Connect::new("reader").lasting());
    for n in 0..20 {
        reader.expect_message("kept", n.to_string());
    }
}
