//! Clients that mean harm: memory and the latency of others stay within bounds, and each cause is counted.
//!
//! The bounds are wide: they tell "served" from "stalled" and "limited" from "endless", not fast from slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::support::packet::{self, packet};
use crate::support::property::{RECEIVE_MAXIMUM, user_property, write_variable};
use crate::support::{
    Broker, Client, Connect, Kind, Next, PATIENCE, Publish, Subscribe, Value, Version,
};

const MIB: u64 = 1 << 20;

/// A message of others may take so long while somebody does harm.
const STALLED: Duration = Duration::from_secs(3);

/// Others, who want nothing but to send each other messages all the time.
struct Others {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
}

impl Others {
    fn of(broker: &Broker) -> Self {
        let mut readers: Vec<Client> = (0..3)
            .map(|n| broker.client(&format!("other-{n}")))
            .collect();
        for reader in &mut readers {
            reader.subscribe("others", 1);
        }
        let mut writer = broker.client("other-writer");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                writer.publish("others", count.to_string(), 1);
                for reader in &mut readers {
                    reader.expect_message("others", count.to_string());
                }
                longest = longest.max(start.elapsed());
                count += 1;
                thread::sleep(Duration::from_millis(2));
            }
            (count, longest)
        });
        Self { stop, thread }
    }

    /// They were served all the time.
    fn expect_served(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, longest) = self.thread.join().expect("the others");
        assert!(count > 0, "no message went through");
        assert!(
            longest < STALLED,
            "one of {count} messages took {longest:?}"
        );
    }
}

/// Waits until the broker has counted `wanted` under a name below `$SYS/broker/ringmq/`.
#[track_caller]
fn expect_counted(broker: &Broker, name: &str, wanted: std::ops::RangeInclusive<u64>) {
    let topic = format!("$SYS/broker/ringmq/{name}");
    let mut system = broker.client("");
    system.subscribe(&topic, 0);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let message = system.message();
        let count: u64 = message.text().parse().expect("a number");
        if wanted.contains(&count) {
            return;
        }
        assert!(
            count < *wanted.start() && Instant::now() < deadline,
            "{topic} is {count}, not {wanted:?}"
        );
    }
}

#[track_caller]
fn expect_growth_below(broker: &Broker, before: u64, limit: u64) {
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < limit, "memory grew by {} KiB", grown / 1024);
}

const SYSTEM: &str = "system_topics.interval_s = 1\n";

#[test]
fn a_connect_byte_by_byte_is_given_up_in_time() {
    let broker = Broker::with(&format!("{SYSTEM}listener.connect_timeout_s = 2"));
    let others = Others::of(&broker);
    let before = broker.resident_bytes();
    let connect = Connect::new(&"slow".repeat(50)).bytes();
    let start = Instant::now();
    let mut slow: Vec<Client> = (0..300)
        .map(|_| Client::open(broker.address(), Version::V5))
        .collect();
    let mut sent = 0;
    while !slow.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{} are still open", slow.len());
        slow.retain_mut(|client| {
            client.try_send_raw(&connect[sent..=sent])
                && matches!(client.next(Duration::from_millis(1)), Next::Silence)
        });
        sent += 1;
        assert!(sent < connect.len(), "the timeout does not come");
        thread::sleep(Duration::from_millis(30));
    }
    assert!(start.elapsed() > Duration::from_millis(1_500), "too early");
    expect_growth_below(&broker, before, 16 * MIB);
    others.expect_served();
    expect_counted(&broker, "connections/ended/connect_timeout", 300..=300);
}

#[test]
fn segments_of_one_byte_are_understood_and_hold_nobody_up() {
    let broker = Broker::start();
    let others = Others::of(&broker);
    let senders: Vec<_> = (0..8)
        .map(|n| {
            let mut client = broker.client(&format!("bytes-{n}"));
            thread::spawn(move || {
                let publish = Publish::new("bytes", vec![b'x'; 1_000]).qos(1);
                let bytes = publish.identifier(1).bytes(Version::V5);
                for byte in bytes.repeat(5) {
                    client.send_raw(&[byte]);
                }
                for _ in 0..5 {
                    client.expect(Kind::PubAck);
                }
            })
        })
        .collect();
    for sender in senders {
        sender.join().expect("a sender");
    }
    others.expect_served();
}

#[test]
fn a_huge_remaining_length_costs_nothing() {
    let broker = Broker::with(SYSTEM);
    let others = Others::of(&broker);
    let before = broker.resident_bytes();
    // More than any client may send: known from the header.
    for _ in 0..100 {
        let mut client = broker.client("huge");
        client.send_raw(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
        client.expect_end(0x95);
    }
    for _ in 0..100 {
        let mut client = Client::open(broker.address(), Version::V5);
        client.send_raw(&[0x10, 0xff, 0xff, 0xff, 0x7f, 0, 4, b'M', b'Q']);
        client.expect_closed();
    }
    // As much as is allowed, announced and not sent.
    let mut announced = vec![0x30];
    write_variable(&mut announced, 15 << 20);
    announced.extend([0, 1, b't']);
    let waiting: Vec<Client> = (0..300)
        .map(|n| {
            let mut client = broker.client(&format!("announced-{n}"));
            client.send_raw(&announced);
            client
        })
        .collect();
    let mut announced = vec![0x10];
    write_variable(&mut announced, 300 << 10);
    announced.extend([0, 4, b'M']);
    let connecting: Vec<Client> = (0..300)
        .map(|_| {
            let mut client = Client::open(broker.address(), Version::V5);
            client.send_raw(&announced);
            client
        })
        .collect();
    others.expect_served();
    expect_growth_below(&broker, before, 32 * MIB);
    drop((waiting, connecting));
    expect_counted(&broker, "connections/ended/packet_too_large", 100..=100);
    expect_counted(&broker, "connections/ended/connect_refused", 100..=100);
}

#[test]
fn all_identifiers_may_be_unacknowledged_and_the_next_message_waits() {
    const ALL: usize = 65_535;
    let broker = Broker::with(&format!(
        "{SYSTEM}session.in_flight_max = 65535\nsession.outbox_messages_max = 100"
    ));
    let others = Others::of(&broker);
    let before = broker.resident_bytes();
    let mut hoarder = broker.client_of(Version::V311, "hoarder");
    hoarder.subscribe("hoard", 1);
    let mut writer = broker.client_of(Version::V311, "writer");
    let mut seen = vec![false; ALL + 1];
    let publish = |n: usize| {
        let publish = Publish::new("hoard", n.to_string()).qos(1);
        publish
            .identifier((n % 1_000) as u16 + 1)
            .bytes(Version::V311)
    };
    for first in (0..ALL).step_by(1_000) {
        let numbers = first..(first + 1_000).min(ALL);
        let bytes: Vec<u8> = numbers.clone().flat_map(publish).collect();
        writer.send_raw(&bytes);
        for n in numbers {
            let message = hoarder.expect(Kind::Publish);
            assert_eq!(message.text(), n.to_string());
            let seen = &mut seen[usize::from(message.identifier)];
            assert!(!std::mem::replace(seen, true), "an identifier twice");
            writer.expect(Kind::PubAck);
        }
    }
    // No identifier is left: 100 messages wait, and 50 are more than may wait.
    for n in ALL..ALL + 150 {
        writer.send_raw(&publish(n));
        writer.expect(Kind::PubAck);
    }
    hoarder.expect_nothing_before_pong();
    expect_counted(&broker, "publish/dropped/outbox_full", 50..=50);
    // The one that is free again is taken.
    hoarder.acknowledge(Kind::PubAck, 40_000);
    let message = hoarder.expect(Kind::Publish);
    assert_eq!((message.identifier, message.text()), (40_000, "65535"));
    hoarder.expect_nothing_before_pong();
    expect_growth_below(&broker, before, 64 * MIB);
    for identifier in 1..=u16::MAX {
        hoarder.acknowledge(Kind::PubAck, identifier);
    }
    for n in ALL + 1..ALL + 100 {
        assert_eq!(hoarder.message().text(), n.to_string());
    }
    hoarder.expect_nothing_before_pong();
    others.expect_served();
}

#[test]
fn a_return_with_all_identifiers_in_flight_holds_nobody_up() {
    const ALL: usize = 65_535;
    let broker = Broker::with("session.in_flight_max = 65535");
    let connect = || Connect::new("hoarder").v311().resume();
    let mut hoarder = Client::connect(&broker, connect());
    hoarder.subscribe("hoard", 1);
    let mut writer = broker.client_of(Version::V311, "writer");
    for first in (0..ALL).step_by(1_000) {
        let numbers = first..(first + 1_000).min(ALL);
        let bytes: Vec<u8> = numbers
            .clone()
            .flat_map(|n| {
                let publish = Publish::new("hoard", []).qos(1);
                publish
                    .identifier((n % 1_000) as u16 + 1)
                    .bytes(Version::V311)
            })
            .collect();
        writer.send_raw(&bytes);
        for _ in numbers {
            hoarder.expect(Kind::Publish);
            writer.expect(Kind::PubAck);
        }
    }
    let others = Others::of(&broker);
    for _ in 0..2 {
        hoarder.cut();
        hoarder = Client::connect(&broker, connect());
        for identifier in 1..=ALL {
            let message = hoarder.expect(Kind::Publish);
            assert_eq!(usize::from(message.identifier), identifier);
            assert!(message.dup);
        }
    }
    others.expect_served();
}

#[test]
fn a_storm_of_subscriptions_leaves_nothing() {
    let broker = Broker::with(SYSTEM);
    let others = Others::of(&broker);
    let storm = |round: usize| {
        let storms: Vec<_> = (0..4)
            .map(|n| {
                let mut client = broker.client(&format!("storm-{n}"));
                thread::spawn(move || {
                    for m in 0..60 {
                        let mut bytes = Vec::new();
                        for k in 1..=100_u16 {
                            let filter = format!("storm/{round}/{n}/{m}/{k}/+/#");
                            let subscribe = Subscribe::to(&filter, 1).and("storm/all/#", 0);
                            bytes.extend(subscribe.bytes(Version::V5, k));
                            if k % 10 != 0 {
                                bytes.extend(packet::unsubscribe(Version::V5, k, &[&filter]));
                            }
                        }
                        client.send_raw(&bytes);
                        for _ in 0..190 {
                            let kind = client.receive().kind;
                            assert!(matches!(kind, Kind::SubAck | Kind::UnsubAck), "{kind:?}");
                        }
                    }
                    client.disconnect();
                })
            })
            .collect();
        for storm in storms {
            storm.join().expect("a storm");
        }
    };
    storm(0);
    let before = broker.resident_bytes();
    for round in 1..4 {
        storm(round);
    }
    expect_growth_below(&broker, before, 16 * MIB);
    others.expect_served();
    // What is left are the others' subscriptions, and one to the number itself.
    let mut system = broker.client("system");
    system.subscribe("$SYS/broker/subscriptions/count", 0);
    let deadline = Instant::now() + PATIENCE;
    while system.message().text() != "1" {
        assert!(Instant::now() < deadline, "subscriptions are left");
    }
}

#[test]
fn a_flood_of_retained_messages_stops_at_its_limit() {
    let limits = "retained.messages_max = 1000\nretained.bytes_max = \"4MiB\"";
    let broker = Broker::with(&format!("{SYSTEM}{limits}"));
    let others = Others::of(&broker);
    let mut flood = broker.client("flood");
    let mut publish = |range: std::ops::Range<usize>, bytes: usize| {
        for first in range.step_by(100) {
            let all: Vec<u8> = (first..first + 100)
                .flat_map(|n| {
                    let publish = Publish::new(&format!("flood/{n}"), vec![b'x'; bytes]);
                    publish.retain().bytes(Version::V5)
                })
                .collect();
            flood.send_raw(&all);
            flood.expect_nothing_before_pong();
        }
    };
    publish(0..3_000, 100);
    let before = broker.resident_bytes();
    publish(3_000..20_000, 100);
    publish(20_000..22_000, 20_000);
    expect_growth_below(&broker, before, 32 * MIB);
    others.expect_served();
    // Each shard keeps a thousand.
    let shards = u64::from(crate::support::broker::shards());
    let least = 22_000 - shards * 1_000;
    expect_counted(&broker, "publish/dropped/retained_limit", least..=22_000);
    let mut reader = broker.client("reader");
    reader.subscribe("flood/#", 0);
    let count = reader.drain(500).len() as u64;
    assert!((1..=shards * 1_000).contains(&count), "{count} are kept");
}

#[test]
fn thousands_of_user_properties_pass_unharmed() {
    let broker = Broker::start();
    let others = Others::of(&broker);
    let before = broker.resident_bytes();
    let mut reader = broker.client("reader");
    reader.subscribe("properties", 1);
    let mut connect = Connect::new("writer");
    let mut publish = Publish::new("properties", "x").qos(1);
    let mut subscribe = Subscribe::to("none", 0);
    for n in 0..1_000 {
        let (identifier, value) = user_property("name", &n.to_string());
        connect = connect.property(identifier, value.clone());
        publish = publish.property(identifier, value.clone());
        subscribe = subscribe.property(identifier, value);
    }
    let mut writer = Client::connect(&broker, connect);
    assert_eq!(writer.subscribe_with(&subscribe), [0]);
    for _ in 0..50 {
        writer.publish_with(publish.clone());
        let message = reader.expect_message("properties", "x");
        assert_eq!(message.properties.len(), 1_000);
        assert_eq!(message.properties[999], user_property("name", "999"));
    }
    // The smallest there are, 200,000 of them in a packet of one megabyte.
    for _ in 0..200_000 {
        let (identifier, value) = user_property("", "");
        publish = publish.property(identifier, value);
    }
    writer.publish_with(publish);
    let message = reader.expect_message("properties", "x");
    assert_eq!(message.properties.len(), 201_000);
    others.expect_served();
    expect_growth_below(&broker, before, 48 * MIB);
}

#[test]
fn deep_topics_are_refused_and_wide_trees_are_walked() {
    let broker = Broker::with(SYSTEM);
    let others = Others::of(&broker);
    let before = broker.resident_bytes();
    let deep = "/".repeat(65_535);
    for _ in 0..50 {
        let mut client = broker.client("deep");
        assert_eq!(client.subscribe_with(&Subscribe::to(&deep, 0)), [0x8f]);
        client.send_raw(&Publish::new(&deep, "x").bytes(Version::V5));
        client.expect_end(0x90);
    }
    expect_counted(&broker, "connections/ended/protocol_error", 50..=50);
    // Every filter of twelve levels that are either a or +: a publication to a/a/... visits all of them.
    let mut wide = broker.client("wide");
    let filter = |bits: u16| {
        let levels = (0..12).map(|level| if bits >> level & 1 == 0 { "a" } else { "+" });
        levels.collect::<Vec<_>>().join("/")
    };
    for first in (0..4_096).step_by(256) {
        let mut subscribe = Subscribe::default();
        for bits in first..first + 256 {
            subscribe = subscribe.and(&filter(bits), 0);
        }
        assert_eq!(wide.subscribe_with(&subscribe), [0; 256]);
    }
    let mut writer = broker.client("writer");
    for n in 0..100 {
        writer.publish(&filter(0), n.to_string(), 1);
        wide.expect_message(&filter(0), n.to_string());
    }
    others.expect_served();
    expect_growth_below(&broker, before, 32 * MIB);
}

#[test]
fn a_flood_of_connections_leaves_room_for_those_who_are_there() {
    let settings = "listener.connections_max = 1000\nlistener.connect_timeout_s = 2";
    let broker = Broker::with(&format!("{SYSTEM}{settings}"));
    let others = Others::of(&broker);
    let before = broker.resident_bytes();
    let mut flood: Vec<Client> = (0..2_500)
        .map(|_| Client::open(broker.address(), Version::V5))
        .collect();
    // The silent ones go after their time; then there is room again.
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut late = Client::open(broker.address(), Version::V5);
        if late.try_send_raw(&Connect::new("late").bytes())
            && late.next(Duration::from_secs(1)).is_packet()
        {
            break;
        }
        assert!(Instant::now() < deadline, "nobody gets in any more");
        thread::sleep(Duration::from_millis(100));
    }
    others.expect_served();
    expect_growth_below(&broker, before, 32 * MIB);
    flood.iter_mut().for_each(Client::expect_closed);
    expect_counted(
        &broker,
        "connections/ended/connections_max",
        1_500..=u64::MAX,
    );
    expect_counted(&broker, "connections/ended/connect_timeout", 900..=1_000);
}

#[test]
fn a_storm_of_takeovers_ends_with_one_connection() {
    let broker = Broker::with(SYSTEM);
    let others = Others::of(&broker);
    let address = broker.address();
    let storms: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let connect = Connect::new("one for all").lasting().bytes();
                for _ in 0..250 {
                    let mut client = Client::open(address, Version::V5);
                    client.send_raw(&connect);
                    // Accepted, even if another has taken it over by now.
                    client.expect_accepted();
                }
            })
        })
        .collect();
    for storm in storms {
        storm.join().expect("a storm");
    }
    others.expect_served();
    let mut last = Client::connect(&broker, Connect::new("one for all").lasting());
    assert!(last.session_present());
    last.expect_nothing_before_pong();
}

#[test]
fn every_cause_of_an_end_is_counted() {
    let settings = "listener.receive_maximum = 10\nlistener.maximum_qos = 2";
    let broker = Broker::with(&format!("{SYSTEM}{settings}"));
    for _ in 0..3 {
        let mut client = broker.client("malformed");
        client.send_raw(&packet(0x36, b"\0\x01t\0\x01\0"));
        client.expect_end(0x81);
        let mut client = broker.client("violating");
        client.send_raw(&Connect::new("violating").bytes());
        client.expect_end(0x82);
        let mut client = broker.client("greedy");
        for identifier in 1..=11 {
            let publish = Publish::new("t", "x").qos(2).identifier(identifier);
            client.send_raw(&publish.bytes(Version::V5));
        }
        for _ in 0..10 {
            client.expect(Kind::PubRec);
        }
        client.expect_end(0x93);
        let mut client = broker.client("taken");
        let next = broker.client("taken");
        client.expect_end(0x8e);
        next.disconnect();
        let mut client = Client::open(broker.address(), Version::V5);
        client.send_raw(&packet::PINGREQ);
        client.expect_closed();
        let refused = Connect::new("refused").property(RECEIVE_MAXIMUM, Value::Two(0));
        Client::refused(&broker, &refused);
        let mut client = broker.client("authenticating");
        client.send_raw(&packet(0xf0, &[]));
        client.expect_end_with(&[0x81, 0x82, 0x8c]);
    }
    let mut silent = Client::connect(&broker, Connect::new("silent").keep_alive_s(1));
    silent.expect_end(0x8d);
    for (cause, count) in [
        ("malformed_packet", 3..=3),
        ("receive_maximum_exceeded", 3..=3),
        ("session_taken_over", 3..=3),
        ("connect_refused", 6..=6),
        ("keep_alive_timeout", 1..=1),
        ("packet_too_large", 0..=0),
        ("connect_timeout", 0..=0),
        ("connections_max", 0..=0),
        ("server_shutting_down", 0..=0),
    ] {
        expect_counted(&broker, &format!("connections/ended/{cause}"), count);
    }
    // AUTH without a method is one or the other.
    expect_counted(&broker, "connections/ended/protocol_error", 3..=6);
}
