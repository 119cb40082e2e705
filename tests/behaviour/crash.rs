//! The broker is killed at random moments, again and again, under QoS 1 and 2 with sessions that last: nothing
//! that it acknowledged is lost, no QoS 2 message comes twice, and order holds.
//!
//! `RINGMQ_TEST_CRASHES` sets how often each test kills it, `RINGMQ_TEST_SEED` the moments.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::packet::acknowledgement;
use crate::support::{Broker, Client, Connect, Kind, Next, PATIENCE, Publish, Version, sleep_ms};

/// How often a test kills the broker: 200 times over all tests here.
fn crashes() -> usize {
    std::env::var("RINGMQ_TEST_CRASHES").map_or(50, |text| {
        text.parse().expect("RINGMQ_TEST_CRASHES is a number")
    })
}

/// Random numbers: which, does not matter much.
struct Random(u64);

impl Random {
    fn new(salt: u64) -> Self {
        let seed = std::env::var("RINGMQ_TEST_SEED").map_or_else(
            |_| {
                let now = std::time::SystemTime::UNIX_EPOCH.elapsed();
                now.expect("a clock").as_nanos() as u64
            },
            |text| text.parse().expect("RINGMQ_TEST_SEED is a number"),
        );
        eprintln!("RINGMQ_TEST_SEED={seed}");
        Self((seed ^ salt) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % limit
    }
}

/// How a message that was sent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Published,
    Received,
}

/// A client that publishes numbers in order and follows the flow of its QoS through every reconnection.
struct Writer {
    name: &'static str,
    qos: u8,
    next: u64,
    identifier: u16,
    /// Packet Identifier, number, state: at most `WINDOW_MAX`.
    open: VecDeque<(u16, u64, Sent)>,
    acknowledged: u64,
}

const WINDOW_MAX: usize = 32;

impl Writer {
    fn new(name: &'static str, qos: u8) -> Self {
        Self {
            name,
            qos,
            next: 0,
            identifier: 0,
            open: VecDeque::new(),
            acknowledged: 0,
        }
    }

    fn publish(
        &self,
        client: &mut Client,
        (identifier, number, state): (u16, u64, Sent),
        dup: bool,
    ) -> bool {
        if state == Sent::Received {
            return client.try_send_raw(&acknowledgement(Kind::PubRel, identifier));
        }
        let publish = Publish::new(&format!("c/{}", self.name), number.to_string())
            .qos(self.qos)
            .identifier(identifier);
        let publish = if dup { publish.dup() } else { publish };
        client.try_send_raw(&publish.bytes(Version::V5))
    }

    /// Publishes until the connection breaks or, when `ending`, all is acknowledged.
    fn work(&mut self, client: &mut Client, ending: &AtomicBool) {
        for entry in self.open.clone() {
            if !self.publish(client, entry, true) {
                return;
            }
        }
        loop {
            let ends = ending.load(Ordering::Relaxed);
            if ends && self.open.is_empty() {
                return;
            }
            while !ends && self.open.len() < WINDOW_MAX {
                self.identifier = self.identifier % 1_000 + 1;
                let entry = (self.identifier, self.next, Sent::Published);
                self.next += 1;
                self.open.push_back(entry);
                if !self.publish(client, entry, false) {
                    return;
                }
            }
            match client.next(Duration::from_millis(20)) {
                Next::Packet(packet) => {
                    self.answer(client, packet.kind, packet.identifier, packet.code)
                }
                Next::Silence => {}
                Next::Closed => return,
            }
        }
    }

    fn answer(&mut self, client: &mut Client, kind: Kind, identifier: u16, code: u8) {
        // PUBREL that comes again may find that the first one was taken: no error during recovery (3.7.2.1).
        let known = code < 0x80 || (kind == Kind::PubComp && code == 0x92);
        assert!(known, "{}: {kind:?} with {code:#04x}", self.name);
        let place = self.open.iter().position(|(open, ..)| *open == identifier);
        match kind {
            Kind::PubRec => {
                if let Some(place) = place {
                    self.acknowledged += u64::from(self.open[place].2 == Sent::Published);
                    self.open[place].2 = Sent::Received;
                    client.try_send_raw(&acknowledgement(Kind::PubRel, identifier));
                }
            }
            Kind::PubAck | Kind::PubComp => {
                let place = place.unwrap_or_else(|| panic!("{kind:?} {identifier} for nothing"));
                assert!(
                    kind == Kind::PubComp || place == 0,
                    "PUBACK out of order [MQTT-4.6.0-2]"
                );
                self.acknowledged += u64::from(kind == Kind::PubAck);
                self.open.remove(place);
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }
}

/// A client that takes everything, and remembers QoS 2 as it must.
#[derive(Default)]
struct Reader {
    name: &'static str,
    /// Received and not released: Packet Identifiers.
    unreleased: BTreeSet<u16>,
    /// What came from the QoS 1 writer and from the QoS 2 writer.
    from_one: Vec<u64>,
    from_two: Vec<u64>,
}

impl Reader {
    fn work(&mut self, client: &mut Client, done: &dyn Fn(&Self) -> bool) {
        loop {
            match client.next(Duration::from_millis(20)) {
                Next::Packet(packet) => match packet.kind {
                    Kind::Publish => {
                        let number = packet.text().parse().expect("a number");
                        let new = packet.qos < 2 || self.unreleased.insert(packet.identifier);
                        if new {
                            match packet.topic.as_str() {
                                "c/one" => self.from_one.push(number),
                                _ => self.from_two.push(number),
                            }
                        }
                        let kind = if packet.qos == 2 {
                            Kind::PubRec
                        } else {
                            Kind::PubAck
                        };
                        client.try_send_raw(&acknowledgement(kind, packet.identifier));
                    }
                    Kind::PubRel => {
                        self.unreleased.remove(&packet.identifier);
                        client.try_send_raw(&acknowledgement(Kind::PubComp, packet.identifier));
                    }
                    other => panic!("{}: {other:?}", self.name),
                },
                Next::Silence if done(self) => return,
                Next::Silence => {}
                Next::Closed => return,
            }
        }
    }
}

/// Sends CONNECT and waits for CONNACK; nothing if the broker is gone.
fn connect(broker: &Broker, name: &str, opened: &AtomicUsize) -> Option<Client> {
    let mut client = Client::open(broker.address(), Version::V5);
    opened.fetch_add(1, Ordering::SeqCst);
    let bytes = Connect::new(name).resume().expiry_s(3_600).bytes();
    if !client.try_send_raw(&bytes) {
        return None;
    }
    match client.next(PATIENCE) {
        Next::Packet(packet) => {
            assert_eq!((packet.kind, packet.code), (Kind::ConnAck, 0));
            assert!(packet.session_present, "{name} has lost its session");
            Some(client)
        }
        _ => None,
    }
}

fn crash(settings: &str, salt: u64) {
    let mut random = Random::new(salt);
    let mut broker = Broker::durable(settings);
    for (name, qos) in [("reader-one", 1), ("reader-two", 2)] {
        let mut reader = Client::connect(&broker, Connect::new(name).lasting());
        reader.subscribe("c/+", qos);
    }
    for name in ["one", "two"] {
        // A subscription of its own: with SUBACK the session is safe.
        Client::connect(&broker, Connect::new(name).lasting()).subscribe("none", 0);
    }
    let mut writers = [Writer::new("one", 1), Writer::new("two", 2)];
    let mut readers = ["reader-one", "reader-two"].map(|name| Reader {
        name,
        ..Reader::default()
    });
    let rounds = crashes();
    for round in 0..=rounds {
        let ending = AtomicBool::new(round == rounds);
        let opened = AtomicUsize::new(0);
        let expected = writers.iter().map(|writer| writer.next).collect::<Vec<_>>();
        let started = Instant::now();
        let killed = thread::scope(|scope| {
            let (broker, ending, opened) = (&broker, &ending, &opened);
            for writer in &mut writers {
                scope.spawn(move || {
                    if let Some(mut client) = connect(broker, writer.name, opened) {
                        writer.work(&mut client, ending);
                    }
                });
            }
            for reader in &mut readers {
                let expected = &expected;
                scope.spawn(move || {
                    let complete = move |reader: &Reader| {
                        let last = [reader.from_one.last(), reader.from_two.last()];
                        let all = last
                            .iter()
                            .zip(expected)
                            .all(|(last, next)| last.map_or(*next == 0, |last| last + 1 == *next));
                        ending.load(Ordering::Relaxed)
                            && (all && reader.unreleased.is_empty()
                                || started.elapsed() > PATIENCE * 3)
                    };
                    if let Some(mut client) = connect(broker, reader.name, opened) {
                        reader.work(&mut client, &complete);
                    }
                });
            }
            if round < rounds {
                while opened.load(Ordering::SeqCst) < 4 {
                    sleep_ms(1);
                }
                thread::sleep(Duration::from_micros(random.below(120_000)));
                broker.signal(rustix::process::Signal::KILL);
            }
            round < rounds
        });
        if killed {
            broker = Broker::revive(broker.kill(), settings);
        }
    }
    for (writer, name) in writers.iter().zip(["one", "two"]) {
        eprintln!(
            "{name}: {} published, {} acknowledged",
            writer.next, writer.acknowledged
        );
        assert!(writer.next > rounds as u64, "hardly anything was published");
    }
    for reader in &readers {
        check(
            reader,
            "from one",
            &first_of_each(&reader.from_one),
            writers[0].next,
        );
        match reader.name {
            "reader-two" => check(reader, "from two", &reader.from_two, writers[1].next),
            _ => check(
                reader,
                "from two",
                &first_of_each(&reader.from_two),
                writers[1].next,
            ),
        }
    }
}

/// The first time that each number came: QoS 1 may repeat.
fn first_of_each(numbers: &[u64]) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    numbers
        .iter()
        .copied()
        .filter(|number| seen.insert(*number))
        .collect()
}

fn check(reader: &Reader, what: &str, numbers: &[u64], next: u64) {
    let wrong = (0..next)
        .zip(numbers)
        .find(|(expected, found)| expected != *found);
    assert_eq!(wrong, None, "{} {what}: expected and found", reader.name);
    assert_eq!(
        numbers.len() as u64,
        next,
        "{} {what}: how many",
        reader.name
    );
}

#[test]
fn nothing_acknowledged_is_lost_with_os() {
    crash("durability = \"os\"", 1);
}

#[test]
fn nothing_acknowledged_is_lost_with_fsync() {
    crash("durability = \"fsync\"", 2);
}

#[test]
fn nothing_acknowledged_is_lost_with_one_shard() {
    crash("durability = \"os\"\nshards = 1", 3);
}

#[test]
fn nothing_acknowledged_is_lost_while_the_log_is_rewritten() {
    crash("durability = \"os\"\nstorage.segment_bytes = \"1MiB\"", 4);
}
