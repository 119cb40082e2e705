//! Power is lost at every moment, with any part of the write that was under way: nothing acknowledged is lost,
//! nothing of QoS 2 is there twice, and order holds, also when the broker goes on from what is left.
//!
//! The broker of one shard on a disk that is a vector of sectors; no process, no file. `RINGMQ_TEST_SEEDS` sets
//! how many runs there are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with a panic when something is not as expected"
)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use ringmq::broker::output::Segment;
use ringmq::broker::{Broker, Budget, Now, Restored, RestoredSession};
use ringmq::config::Config;
use ringmq::journal::Group;
use ringmq::journal::record::session_key;
use ringmq::journal::replay::{Clock, State, StoredSession, scan};
use ringmq::routing::ids::ShardId;
use ringmq::routing::interest_index::ShardBits;
use ringmq::routing::topic_hash::TopicHasher;

use support::packet::acknowledgement;
use support::{Connect, Kind, Packet, Publish, Subscribe, Version};

const SECTOR: usize = 512;
const STEPS: usize = 60;

/// Connections, by slot.
const READER: u32 = 0;
const WRITER: u32 = 1;

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 8) % limit
    }
}

/// What a writer knows of its messages: Packet Identifier to (QoS, number, PUBREC has come).
type Open = BTreeMap<u16, (u8, u32, bool)>;

struct World {
    broker: Broker,
    /// All that is safe on the disk.
    disk: Vec<u8>,
    in_flight: Option<Group>,
    open: Open,
    next: u32,
    /// Numbers that were acknowledged, by QoS.
    acknowledged: [Vec<u32>; 2],
    random: Random,
}

fn now() -> Now {
    Now {
        mono_ms: 1_000,
        unix_s: 1_000,
    }
}

fn hasher() -> TopicHasher {
    TopicHasher::new(5)
}

fn read(image: &[u8]) -> (State, u64) {
    let clock = Clock {
        mono_ms: 1_000,
        unix_s: 1_000,
    };
    let mut state = State::new(hasher(), clock);
    let result = scan(image, 0, |group| state.apply_group(group));
    assert_eq!(result.damaged, [], "a loss of power damages only the end");
    assert_eq!(state.unread_records, 0);
    state.finish();
    (state, result.end)
}

fn named(state: &State, name: &str) -> Option<(u64, StoredSession)> {
    let mut sessions = state.sessions.iter();
    let found = sessions.find(|(_, session)| session.client_identifier.as_deref() == Some(name));
    found.map(|(number, session)| (*number, session.clone()))
}

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self {
            broker: Self::broker(Restored::default()),
            disk: Vec::new(),
            in_flight: None,
            open: Open::new(),
            next: 0,
            acknowledged: [Vec::new(), Vec::new()],
            random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1),
        };
        world.broker.open(READER, 0, now());
        world.send(
            READER,
            &Connect::new("reader").resume().expiry_s(600).bytes(),
        );
        world.send(READER, &Subscribe::to("t", 2).bytes(Version::V5, 1));
        world.commit_all();
        world.broker.network_closed(READER, "done", now());
        world.broker.release(READER);
        world.connect_writer();
        world.commit_all();
        world.answers();
        world
    }

    fn broker(restored: Restored) -> Broker {
        let config = Config {
            data_dir: Some("none".into()),
            ..Config::default()
        };
        let mut broker = Broker::new(ShardId(0), 1, Arc::new(config), hasher(), now());
        broker.restore(restored, now());
        broker
    }

    fn connect_writer(&mut self) {
        self.broker.open(WRITER, 0, now());
        self.send(
            WRITER,
            &Connect::new("writer").resume().expiry_s(600).bytes(),
        );
        let mut open: Vec<_> = self.open.clone().into_iter().collect();
        open.sort_by_key(|(_, (_, number, _))| *number); // [MQTT-4.6.0-1]
        for (identifier, (qos, number, received)) in open {
            let bytes = match received {
                true => acknowledgement(Kind::PubRel, identifier),
                false => publish(identifier, qos, number).dup().bytes(Version::V5),
            };
            self.send(WRITER, &bytes);
        }
    }

    fn send(&mut self, slot: u32, bytes: &[u8]) {
        let mut budget = Budget { bytes: 1 << 20 };
        let progress = self.broker.receive(slot, bytes, &mut budget, now());
        assert_eq!(progress.consumed, bytes.len());
    }

    /// The writer takes what the broker has sent.
    fn answers(&mut self) {
        let mut bytes = Vec::new();
        self.broker.take_output(WRITER, |segment| match segment {
            Segment::Packets(packets) => bytes.extend_from_slice(&packets),
            Segment::Payload(payload) => bytes.extend_from_slice(&payload),
        });
        self.broker.output_sent(WRITER, now());
        let mut rest = bytes.as_slice();
        while let Some(packet) = Packet::parse(Version::V5, rest) {
            rest = &rest[packet.packet_bytes..];
            self.answer(&packet);
        }
    }

    fn answer(&mut self, packet: &Packet) {
        let identifier = packet.identifier;
        match packet.kind {
            Kind::PubAck => {
                let (_, number, _) = self.open.remove(&identifier).expect("PUBACK for something");
                self.acknowledged[0].push(number);
            }
            Kind::PubRec => {
                let open = self
                    .open
                    .get_mut(&identifier)
                    .expect("PUBREC for something");
                if !open.2 {
                    self.acknowledged[1].push(open.1);
                }
                open.2 = true;
                self.send(WRITER, &acknowledgement(Kind::PubRel, identifier));
            }
            Kind::PubComp => {
                self.open
                    .remove(&identifier)
                    .expect("PUBCOMP for something");
            }
            _ => {}
        }
    }

    fn begin_commit(&mut self) {
        if self.in_flight.is_none() {
            self.in_flight = self.broker.take_group(now());
        }
    }

    fn end_commit(&mut self) {
        if let Some(group) = self.in_flight.take() {
            assert_eq!(group.position, self.disk.len() as u64, "no gap");
            assert!(group.sync, "fsync is what is promised");
            self.disk.extend_from_slice(&group.bytes);
            self.broker.committed(group.end(), now());
        }
    }

    fn commit_all(&mut self) {
        while self.in_flight.is_some() || self.broker.has_group() {
            self.begin_commit();
            self.end_commit();
        }
    }

    /// What a loss of power leaves: all that is safe, and any sectors of the write that is under way.
    fn image(&mut self) -> Vec<u8> {
        let mut image = self.disk.clone();
        if let Some(group) = &self.in_flight {
            for sector in group.bytes.chunks(SECTOR) {
                match self.random.below(2) {
                    0 => image.extend_from_slice(sector),
                    _ => image.extend_from_slice(&[0; SECTOR]),
                }
            }
        }
        image
    }

    fn check(&mut self) {
        for _ in 0..3 {
            let image = self.image();
            let (state, _) = read(&image);
            let (_, reader) = named(&state, "reader").expect("the reader's session");
            assert_eq!(reader.subscriptions.len(), 1);
            let mut found = [Vec::new(), Vec::new()];
            for entry in reader.entries.values() {
                let text = std::str::from_utf8(entry.message.view().payload).unwrap();
                let place = usize::from(entry.qos as u8 == 2);
                found[place].push(text.parse::<u32>().unwrap());
            }
            for (qos, (found, acknowledged)) in (1..).zip(found.iter().zip(&self.acknowledged)) {
                for number in acknowledged {
                    assert!(found.contains(number), "QoS {qos}: {number} is lost");
                }
            }
            let ascending = found[1].windows(2).all(|pair| pair[0] < pair[1]);
            assert!(ascending, "QoS 2 twice or out of order: {:?}", found[1]);
            let mut first: Vec<u32> = Vec::new();
            for number in &found[0] {
                if !first.contains(number) {
                    first.push(*number);
                }
            }
            assert!(first.is_sorted(), "QoS 1 out of order: {:?}", found[0]);
        }
    }

    /// Power is lost; a broker starts from what is left, and the writer connects again.
    fn lose_power(&mut self) {
        let image = self.image();
        let (state, end) = read(&image);
        self.disk = image;
        self.disk.truncate(usize::try_from(end).unwrap());
        self.in_flight = None;
        let sessions = state.sessions.iter().map(|(number, stored)| {
            let name = stored.client_identifier.as_deref().unwrap();
            let key = session_key(&hasher(), name, *number);
            let open = state
                .origins
                .iter()
                .filter(|origin| origin.session_key == key);
            let mut here = ShardBits::default();
            here.insert(ShardId(0));
            RestoredSession {
                number: *number,
                stored: stored.clone(),
                inbound: open
                    .map(|origin| (origin.packet_identifier, here))
                    .collect(),
            }
        });
        let restored = Restored {
            position: end,
            session_count: state.sessions.keys().max().unwrap() >> 16,
            sessions: sessions.collect(),
            retained: Vec::new(),
            origins: state.origins.iter().copied().collect(),
            records_all: false,
        };
        self.broker = Self::broker(restored);
        self.connect_writer();
    }

    fn step(&mut self) {
        match self.random.below(8) {
            0..=2 => {
                let qos = 1 + u8::try_from(self.random.below(2)).unwrap();
                if self.open.len() < 16 {
                    // As soon as an identifier is free it means another message.
                    let mut identifiers = 1..=16;
                    let free = identifiers.find(|identifier| !self.open.contains_key(identifier));
                    let (identifier, number) = (free.unwrap(), self.next);
                    self.next += 1;
                    self.open.insert(identifier, (qos, number, false));
                    let bytes = publish(identifier, qos, number).bytes(Version::V5);
                    self.send(WRITER, &bytes);
                }
            }
            3 | 4 => self.begin_commit(),
            5 => self.end_commit(),
            6 => self.answers(),
            _ if self.random.below(4) == 0 => self.lose_power(),
            _ => {}
        }
    }
}

fn publish(identifier: u16, qos: u8, number: u32) -> Publish {
    Publish::new("t", number.to_string())
        .qos(qos)
        .identifier(identifier)
}

#[test]
fn nothing_acknowledged_is_lost_with_the_power() {
    let seeds = std::env::var("RINGMQ_TEST_SEEDS").map_or(1_000, |text| text.parse().unwrap());
    let (mut acknowledged, mut published) = (0, 0);
    for seed in 1..=seeds {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
            world.check();
        }
        // At the end everything is acknowledged, so everything must be there.
        for _ in 0..8 {
            world.commit_all();
            world.answers();
        }
        assert!(
            world.open.is_empty(),
            "seed {seed}: {:?} is open",
            world.open
        );
        world.check();
        published += world.next as usize;
        acknowledged += world.acknowledged.iter().map(Vec::len).sum::<usize>();
    }
    assert_eq!(acknowledged, published);
    assert!(
        published > 5 * seeds as usize,
        "hardly anything was published"
    );
}
