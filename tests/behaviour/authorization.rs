//! What a client may do: ACL files at CONNECT, PUBLISH and SUBSCRIBE, and after a reload.

use rustix::process::Signal;

use crate::support::files::Files;
use crate::support::{Broker, Client, Connect, Kind, Publish, Subscribe, Version, Will};

const ACL: &str = "\
group staff alice\n\
role staff both staff/#\n\
user alice publish alice/%c/#\n\
client reader subscribe open/#\n\
address 127.0.0.0/8 subscribe local/+\n\
all deny publish open/secret\n\
all publish open/#\n\
user bob subscribe bob/+/x\n\
all subscribe own/%c/#\n\
all publish own/%c/#\n";

/// A broker with a password file for alice and bob, anonymous clients, and an ACL.
fn with_acl(files: &Files, acl: &str, settings: &str) -> Broker {
    let passwords = files.passwords(&[("alice", "secret"), ("bob", "hunter2")]);
    let acl = files.write("acl", acl);
    Broker::with(&format!(
        "authentication.chain = [\"password_file\"]\nauthentication.password_file = \"{passwords}\"\n\
         authorization.acl_file = \"{acl}\"\nlistener.allow_anonymous = true\n{settings}"
    ))
}

fn alice(client_identifier: &str) -> Connect {
    Connect::new(client_identifier)
        .user_name("alice")
        .password(b"secret")
}

fn publish_code(client: &mut Client, topic: &str, qos: u8) -> u8 {
    client.publish_with(Publish::new(topic, "x").qos(qos))
}

fn subscribe_code(client: &mut Client, filter: &str) -> u8 {
    client.subscribe_with(&Subscribe::to(filter, 1))[0]
}

#[test]
fn publish_is_checked_by_its_topic_name() {
    let files = Files::new();
    let broker = with_acl(&files, ACL, "");
    let mut reader = broker.client("reader");
    reader.subscribe("open/#", 1);
    let mut client = Client::connect(&broker, alice("c1"));
    for _ in 0..2 {
        for qos in [1, 2] {
            assert_eq!(publish_code(&mut client, "open/x", qos), 0);
            assert_eq!(publish_code(&mut client, "open/secret", qos), 0x87);
            assert_eq!(publish_code(&mut client, "elsewhere", qos), 0x87);
            assert_eq!(publish_code(&mut client, "alice/c2/x", qos), 0x87);
            assert!(publish_code(&mut client, "alice/c1/x", qos) < 0x80);
        }
    }
    client.publish("open/secret", "x", 0);
    client.publish("open/last", "x", 0);
    let topics: Vec<String> = (0..5).map(|_| reader.message().topic).collect();
    assert_eq!(
        topics,
        ["open/x", "open/x", "open/x", "open/x", "open/last"]
    );
    broker.expect_log(&["WARN", "not authorized", "open/secret", "alice"]);
}

#[test]
fn subscribe_is_granted_as_a_whole_or_not_at_all() {
    let files = Files::new();
    let broker = with_acl(&files, ACL, "");
    let mut client = Client::connect(&broker, alice("c1"));
    for (filter, code) in [
        ("staff/#", 1),
        ("staff/+/x", 1),
        ("#", 0x87),
        ("+/#", 0x87),
        ("local/+", 1),
        ("local/#", 0x87),
        ("own/c1/#", 1),
        ("own/+/#", 0x87),
        ("own/c2", 0x87),
        ("$share/g/staff/x", 1),
        ("$share/g/#", 0x87),
        ("$SYS/#", 0x87),
        ("bob/1/x", 0x87),
    ] {
        assert_eq!(subscribe_code(&mut client, filter), code, "{filter}");
    }
    let mixed = Subscribe::to("#", 1).and("staff/a", 2);
    assert_eq!(client.subscribe_with(&mixed), [0x87, 2]);
    let mut v3 = Client::connect(&broker, alice("c3").v311());
    assert_eq!(subscribe_code(&mut v3, "#"), 0x80);
}

#[test]
fn a_client_identifier_or_user_name_is_no_wildcard() {
    let files = Files::new();
    let broker = with_acl(&files, ACL, "");
    for escape in ["#", "+", "a/+", "c1/#", "a/b"] {
        let mut client = broker.client(escape);
        for filter in ["own/#", "own/+/x", "own/c1/#", "own/a/b"] {
            assert_eq!(
                subscribe_code(&mut client, filter),
                0x87,
                "{escape}: {filter}"
            );
        }
        assert_eq!(publish_code(&mut client, "own/c1/x", 1), 0x87, "{escape}");
        client.disconnect();
    }
    let mut client = broker.client("c1");
    assert_eq!(subscribe_code(&mut client, "own/c1/#"), 1);
}

#[test]
fn a_will_is_checked_at_connect() {
    let files = Files::new();
    let broker = with_acl(&files, ACL, "");
    let will = |topic: &str| Connect::new("w").will(Will::new(topic, b"gone"));
    assert_eq!(Client::refused(&broker, &will("elsewhere")).code, 0x87);
    assert_eq!(Client::refused(&broker, &will("open/secret")).code, 0x87);
    let v3 = will("elsewhere").version(Version::V311);
    assert_eq!(Client::refused(&broker, &v3).code, 5);
    Client::connect(&broker, will("open/x"));
}

#[test]
fn before_5_a_denied_publish_is_acknowledged_or_ends_the_connection() {
    let files = Files::new();
    let broker = with_acl(&files, ACL, "");
    let mut reader = broker.client("reader");
    reader.subscribe("open/#", 1);
    let mut client = broker.client_of(Version::V311, "old");
    client.publish("open/secret", "x", 1);
    client.publish("open/secret", "x", 2);
    client.publish("open/x", "x", 1);
    assert_eq!(reader.message().topic, "open/x");
    drop(broker);
    let files = Files::new();
    let settings = "authorization.denied_publish_v3 = \"disconnect\"";
    let broker = with_acl(&files, ACL, settings);
    for version in [Version::V31, Version::V311] {
        let mut client = broker.client_of(version, "old");
        client.send_raw(&Publish::new("open/secret", "x").bytes(version));
        client.expect_closed();
    }
    let mut new = broker.client("new");
    assert_eq!(publish_code(&mut new, "open/secret", 1), 0x87);
}

#[test]
fn a_reload_ends_subscriptions_that_are_not_granted_any_more() {
    let files = Files::new();
    let broker = with_acl(&files, "all both #\n", "");
    let mut client = broker.client("reader");
    for filter in ["open/#", "closed/#", "$share/g/closed/x"] {
        client.subscribe(filter, 1);
    }
    let lasting = Connect::new("away").lasting();
    let mut away = Client::connect(&broker, lasting.clone());
    away.subscribe("#", 1);
    away.subscribe("open/1", 1);
    away.disconnect();
    let mut writer = broker.client("writer");
    writer.publish("closed/1", "waits", 1);
    writer.publish("open/1", "waits", 1);
    assert_eq!(client.message().topic, "closed/1");
    assert_eq!(client.message().topic, "open/1");
    files.write("acl", "all subscribe open/#\nclient writer publish #\n");
    broker.signal(Signal::HUP);
    broker.expect_log(&["configuration:", "2 added, 1 removed"]);
    for shard in 0..crate::support::broker::shards() {
        broker.expect_log(&["standing subscriptions", &format!("shard={shard}")]);
    }
    for topic in ["closed/2", "closed/x", "open/2"] {
        writer.publish(topic, "x", 1);
    }
    assert_eq!(client.message().topic, "open/2");
    client.expect_nothing_before_pong();
    assert_eq!(publish_code(&mut client, "open/2", 1), 0x87);
    let mut away = Client::connect(&broker, lasting);
    assert!(away.session_present());
    assert_eq!(away.message().topic, "open/1");
    away.expect_nothing_before_pong();
}

#[test]
fn a_file_with_a_mistake_changes_nothing_and_stops_a_start() {
    let files = Files::new();
    let broker = with_acl(&files, ACL, "");
    let mut client = Client::connect(&broker, alice("c1"));
    files.write("acl", "all both #\nuser x frobnicate y\n");
    broker.signal(Signal::HUP);
    broker.expect_log(&["ERROR", "is not changed", "line 2", "frobnicate"]);
    assert_eq!(publish_code(&mut client, "elsewhere", 1), 0x87);
    std::fs::remove_file(files.path("acl")).unwrap();
    broker.signal(Signal::HUP);
    broker.expect_log(&["ERROR", "is not changed", "cannot read"]);
    assert_eq!(publish_code(&mut client, "elsewhere", 1), 0x87);
    assert_eq!(publish_code(&mut client, "open/x", 1), 0x10);
}

#[test]
fn mosquittos_acl_file_is_read() {
    let files = Files::new();
    let acl = "topic read news/#\nuser alice\ntopic readwrite a/#\ntopic deny a/b\npattern write log/%u/%c\n";
    let settings = "authorization.acl_format = \"mosquitto\"";
    let broker = with_acl(&files, acl, settings);
    let mut client = Client::connect(&broker, alice("c1"));
    assert_eq!(publish_code(&mut client, "a/x", 1), 0x10);
    assert_eq!(publish_code(&mut client, "a/b", 1), 0x87);
    assert_eq!(publish_code(&mut client, "log/alice/c1", 1), 0x10);
    assert_eq!(publish_code(&mut client, "log/alice/c2", 1), 0x87);
    assert_eq!(subscribe_code(&mut client, "news/#"), 0x87);
    let mut anonymous = broker.client("anonymous");
    assert_eq!(subscribe_code(&mut anonymous, "news/#"), 1);
    assert_eq!(publish_code(&mut anonymous, "news/x", 1), 0x87);
}

#[test]
fn many_topics_are_decided_right_whatever_is_remembered() {
    let files = Files::new();
    let settings = "authorization.cache_topics_max = 3";
    let broker = with_acl(&files, ACL, settings);
    let mut client = broker.client("c1");
    for round in 0..3 {
        for number in 0..20 {
            let granted = publish_code(&mut client, &format!("open/{number}"), 1);
            assert_eq!(granted, 0x10, "{round}/{number}");
            let denied = publish_code(&mut client, &format!("shut/{number}"), 1);
            assert_eq!(denied, 0x87, "{round}/{number}");
        }
    }
}

#[test]
fn what_is_denied_is_counted() {
    let files = Files::new();
    let acl = format!("{ACL}client admin subscribe $SYS/#\n");
    let broker = with_acl(&files, &acl, "system_topics.interval_s = 1");
    let mut client = broker.client("c1");
    for _ in 0..5 {
        publish_code(&mut client, "shut", 1);
    }
    let mut admin = broker.client("admin");
    admin.subscribe("$SYS/broker/ringmq/publish/dropped/not_authorized", 0);
    let counted = admin.wait_for("five", |packet| {
        packet.kind == Kind::Publish && packet.payload == b"5"
    });
    assert!(counted.topic.ends_with("not_authorized"));
}
