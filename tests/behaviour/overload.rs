//! Clients that do not read, that flood, that are cut off by the thousand: the others do not notice.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::packet::{PINGREQ, Version};
use crate::support::{Broker, Client, Connect, Kind, Publish, sleep_ms};

const MIB: u64 = 1 << 20;

/// The time of one QoS 1 message from writer to reader and its acknowledgement.
fn round_trip(writer: &mut Client, reader: &mut Client) -> Duration {
    let start = Instant::now();
    writer.publish("pair", "x", 1);
    reader.expect_message("pair", "x");
    start.elapsed()
}

/// A reader and a writer of the topic `pair`.
fn pair(broker: &Broker) -> (Client, Client) {
    let mut reader = broker.client("pair-reader");
    reader.subscribe("pair", 1);
    (broker.client("pair-writer"), reader)
}

#[test]
fn a_reader_that_stops_costs_a_bounded_amount_and_its_losses_are_counted() {
    let broker = Broker::with("system_topics.interval_s = 1");
    let mut stuck = broker.client("stuck");
    stuck.subscribe("flow", 0);
    let mut quick = broker.client("quick");
    quick.subscribe("flow", 1);
    let mut system = broker.client("system");
    system.subscribe("$SYS/broker/publish/messages/dropped", 0);
    let mut writer = broker.client("writer");
    for n in 0..20 {
        writer.publish("flow", vec![n; 20_000], 1);
        assert_eq!(quick.message().payload[0], n);
    }
    let before = broker.resident_bytes();
    // 100 MB for a reader that takes none of it.
    for n in 0..5_000_u32 {
        writer.publish("flow", vec![n as u8; 20_000], 1);
        assert_eq!(
            quick.message().payload[0],
            n as u8,
            "the quick reader gets everything"
        );
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 40 * MIB, "memory grew by {} MiB", grown / MIB);
    loop {
        if system.message().text().parse::<u64>().unwrap() > 1_000 {
            break;
        }
    }
    drop(stuck);
}

#[test]
fn a_reader_that_stops_has_its_qos_1_messages_queued_up_to_its_limit() {
    let broker = Broker::with(
        "session.outbox_messages_max = 500\nsession.in_flight_max = 50\nsystem_topics.interval_s = 1",
    );
    let mut stuck = broker.client("stuck");
    stuck.subscribe("flow", 1);
    let mut system = broker.client("system");
    system.subscribe("$SYS/broker/publish/messages/dropped", 0);
    let mut writer = broker.client("writer");
    let before = broker.resident_bytes();
    for n in 0..3_000_u32 {
        let mut payload = vec![0; 20_000];
        payload[..4].copy_from_slice(&n.to_be_bytes());
        writer.publish("flow", payload, 1);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 60 * MIB, "memory grew by {} MiB", grown / MIB);
    // All have come to the reader's shard.
    while system.message().text().parse::<u32>().unwrap() < 3_000 - 550 {}
    let messages = stuck.drain(1_000);
    let numbers: Vec<u32> = messages
        .iter()
        .map(|message| u32::from_be_bytes(message.payload[..4].try_into().unwrap()))
        .collect();
    assert_eq!(numbers.len(), 550, "what was kept");
    assert!(numbers.is_sorted(), "in order");
}

#[test]
fn a_flood_does_not_slow_the_others() {
    let broker = Broker::start();
    let (mut writer, mut reader) = pair(&broker);
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = (0..2)
        .map(|n| {
            let mut flood = broker.client(&format!("flood-{n}"));
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let one = Publish::new("nowhere", vec![0; 100]).bytes(Version::V5);
                let bytes = one.repeat(500);
                while !stop.load(Ordering::Relaxed) {
                    flood.send_raw(&bytes);
                }
            })
        })
        .collect();
    let mut times: Vec<Duration> = Vec::new();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        times.push(round_trip(&mut writer, &mut reader));
        sleep_ms(5);
    }
    stop.store(true, Ordering::Relaxed);
    for flood in floods {
        flood.join().expect("a flood");
    }
    times.sort_unstable();
    let slow = times[times.len() * 99 / 100];
    assert!(times.len() > 50, "{} round trips in 3 seconds", times.len());
    assert!(
        slow < Duration::from_millis(300),
        "p99 of {} round trips is {slow:?}",
        times.len()
    );
}

/// Subscribes `count` clients to `topic` and reads what comes to them until the flag is set.
fn readers(
    broker: &Broker,
    count: usize,
    topic: &str,
    stop: &Arc<AtomicBool>,
) -> thread::JoinHandle<()> {
    let clients: Vec<Client> = (0..count)
        .map(|n| {
            let mut client = broker.client(&format!("reader-{n}"));
            client.subscribe(topic, 0);
            client.stream().set_nonblocking(true).expect("non-blocking");
            client
        })
        .collect();
    let stop = Arc::clone(stop);
    thread::spawn(move || {
        let mut chunk = vec![0; 1 << 18];
        while !stop.load(Ordering::Relaxed) {
            for client in &clients {
                let _ = client.stream().read(&mut chunk);
            }
        }
    })
}

#[test]
fn a_flood_to_a_thousand_subscribers_does_not_stop_the_others() {
    for shards in [1, 2] {
        let broker = Broker::with(&format!("shards = {shards}"));
        let stop = Arc::new(AtomicBool::new(false));
        let reading = readers(&broker, 1_000, "f", &stop);
        let mut other = broker.client("other");
        let mut flood = broker.client("flood");
        let flooding = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let bytes = Publish::new("f", "").bytes(Version::V5).repeat(20_000);
                while !stop.load(Ordering::Relaxed) && flood.try_send_raw(&bytes) {}
            })
        };
        sleep_ms(500);
        let mut times: Vec<Duration> = (0..15)
            .map(|_| {
                let start = Instant::now();
                other.expect_nothing_before_pong();
                start.elapsed()
            })
            .collect();
        stop.store(true, Ordering::Relaxed);
        flooding.join().expect("the flood");
        reading.join().expect("the readers");
        times.sort_unstable();
        let median = times[times.len() / 2];
        assert!(
            median < Duration::from_millis(250),
            "{shards} shards: {times:?}"
        );
    }
}

/// Lets this process and the brokers that it starts have many connections.
fn many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).expect("as many descriptors as are allowed");
}

#[test]
fn thousands_of_connections_cut_at_once_do_not_disturb() {
    many_descriptors();
    let broker = Broker::start();
    let (mut writer, mut reader) = pair(&broker);
    round_trip(&mut writer, &mut reader);
    let mut crowd: Vec<Client> = (0..5_000)
        .map(|n| Client::connect(&broker, Connect::new(&format!("crowd-{n}")).lasting()))
        .collect();
    for member in crowd.iter_mut().step_by(10) {
        member.subscribe("crowd/#", 1);
    }
    let before = broker.descriptors();
    let cutting = thread::spawn(move || drop(crowd));
    let mut trips = 0;
    while broker.descriptors() > before - 5_000 {
        let time = round_trip(&mut writer, &mut reader);
        assert!(time < Duration::from_secs(1), "{time:?}");
        trips += 1;
        assert!(trips < 100_000, "connections are left");
    }
    cutting.join().expect("the cut");
    let time = round_trip(&mut writer, &mut reader);
    assert!(time < Duration::from_secs(1), "{time:?}");
}

#[test]
fn thousands_of_takeovers_do_not_disturb() {
    let broker = Broker::start();
    let (mut writer, mut reader) = pair(&broker);
    let stop = Arc::new(AtomicBool::new(false));
    let others = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || {
            let mut slowest = Duration::ZERO;
            while !stop.load(Ordering::Relaxed) {
                slowest = slowest.max(round_trip(&mut writer, &mut reader));
                sleep_ms(2);
            }
            slowest
        })
    };
    let mut current = broker.client("wanted");
    for _ in 0..5_000 {
        let next = broker.client("wanted");
        current.expect_end(0x8e);
        current = next;
    }
    stop.store(true, Ordering::Relaxed);
    let slowest = others.join().expect("the others");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    current.expect_nothing_before_pong();
}

#[test]
fn memory_returns_when_clients_are_gone() {
    let broker = Broker::start();
    let visit = |round: usize| {
        for n in 0..300 {
            let mut client = broker.client(&format!("visit-{round}-{n}"));
            client.subscribe(&format!("t/{round}/{n}"), 1);
            client.publish(&format!("t/{round}/{n}"), vec![0; 1_000], 1);
            client.message();
            client.disconnect();
        }
    };
    visit(0);
    let before = broker.resident_bytes();
    for round in 1..6 {
        visit(round);
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(
        grown < 8 * MIB,
        "memory grew by {} KiB in 1500 visits",
        grown / 1024
    );
}

#[test]
fn idle_connections_cost_next_to_nothing() {
    many_descriptors();
    let broker = Broker::start();
    let crowd: Vec<Client> = (0..10_000)
        .map(|n| Client::connect(&broker, Connect::new(&format!("idle-{n}")).keep_alive_s(60)))
        .collect();
    sleep_ms(1_000);
    let before = broker.cpu();
    sleep_ms(5_000);
    let used = broker.cpu() - before;
    assert!(
        used <= Duration::from_millis(50),
        "{used:?} of CPU in 5 s: more than 1 % of a core"
    );
    drop(crowd);
}

#[test]
fn without_descriptors_the_broker_waits_instead_of_spinning() {
    let broker = Broker::with_descriptors("", 300);
    let (mut writer, mut reader) = pair(&broker);
    round_trip(&mut writer, &mut reader);
    let mut crowd: Vec<Client> = (0..500)
        .map(|_| Client::open(broker.address(), Version::V5))
        .collect();
    for (n, member) in crowd.iter_mut().enumerate() {
        member.try_send_raw(&Connect::new(&format!("crowd-{n}")).bytes());
    }
    sleep_ms(500);
    let before = broker.cpu();
    for _ in 0..20 {
        let time = round_trip(&mut writer, &mut reader);
        assert!(time < Duration::from_secs(1), "{time:?}");
        sleep_ms(100);
    }
    let used = broker.cpu() - before;
    assert!(
        used < Duration::from_millis(600),
        "{used:?} of CPU in two seconds"
    );
    broker.expect_log(&["descriptor"]);
    drop(crowd);
    // When there are descriptors again, clients get in again.
    let mut late = Client::open(broker.address(), Version::V5);
    late.send_raw(&Connect::new("late").bytes());
    late.expect_accepted();
}

#[test]
fn a_client_that_sends_and_never_reads_is_held_back_alone() {
    let broker = Broker::start();
    let (mut writer, mut reader) = pair(&broker);
    let mut deaf = broker.client("deaf");
    let short = Some(Duration::from_millis(200));
    deaf.stream()
        .set_write_timeout(short)
        .expect("a write timeout");
    let before = broker.resident_bytes();
    let pings = PINGREQ.repeat(50_000);
    let start = Instant::now();
    // Answers that nobody reads: the broker must stop reading, or end the connection, but not collect.
    while start.elapsed() < Duration::from_secs(3) && deaf.try_send_raw(&pings) {}
    for _ in 0..20 {
        let time = round_trip(&mut writer, &mut reader);
        assert!(time < Duration::from_secs(1), "{time:?}");
    }
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 * MIB, "memory grew by {} MiB", grown / MIB);
}

#[test]
fn a_client_that_sends_slowly_holds_nobody_up() {
    let broker = Broker::start();
    let (mut writer, mut reader) = pair(&broker);
    let mut slow = broker.client("slow");
    let large = Publish::new("pair2", vec![0; 100_000])
        .qos(1)
        .identifier(1)
        .bytes(Version::V5);
    for piece in large.chunks(5_000) {
        slow.send_raw(piece);
        let time = round_trip(&mut writer, &mut reader);
        assert!(time < Duration::from_secs(1), "{time:?}");
    }
    slow.expect(Kind::PubAck);
}
