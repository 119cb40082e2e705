//! The cores of two shards with what is around them: connections, inboxes and a clock.

use std::collections::VecDeque;
use std::sync::Arc;

use ringmq::broker::envelope::Batch;
use ringmq::broker::output::Segment;
use ringmq::broker::{Broker, Budget, Flow, Now, Placement, placement};
use ringmq::config::Config;
use ringmq::mqtt::data_types::ProtocolVersion;
use ringmq::mqtt::packet::connect::peek_version;
use ringmq::routing::ids::ShardId;
use ringmq::routing::topic_hash::TopicHasher;

use crate::packet::{Connect, Packet, Publish, Subscribe, Version, Will, packet, unsubscribe};
use crate::property::{self, Value};
use crate::{Input, own};

const SHARDS: u16 = 2;
const CONNECTIONS: usize = 4;
/// Longer than any session lives here.
const END_S: u64 = 200;
/// Turns in which two shards come to rest.
const TURNS: usize = 40;
const TOPICS: [&str; 4] = ["a", "a/b", "b", "$SYS/x"];
const FILTERS: [&str; 8] = [
    "a",
    "a/b",
    "#",
    "+/b",
    "$share/g/a",
    "$share/g/#",
    "$SYS/#",
    "b/#",
];

#[derive(Default)]
struct Connection {
    /// Sent and not yet taken.
    bytes: Vec<u8>,
    /// Where it is at home, once that is known.
    home: Option<usize>,
    version: Option<ProtocolVersion>,
    /// That is what the client sends in.
    speaks: Option<Version>,
}

/// Two shards.
pub struct Shards {
    config: Arc<Config>,
    hasher: TopicHasher,
    now: Now,
    brokers: Vec<Broker>,
    inboxes: Vec<VecDeque<Batch>>,
    connections: [Connection; CONNECTIONS],
}

fn config() -> Config {
    let mut config = Config::default();
    config.observability.recorder_entries = 64;
    config.session.session_expiry_interval_s_max = 100;
    config.session.persistent_v3_expiry_interval_s = 50;
    config.session.in_flight_max = 3;
    config.session.outbox_messages_max = 8;
    config.session.subscriptions_max = 6;
    config.retained.messages_max = 4;
    config.retained.slice_messages = 1;
    config.network.output_bytes_max = 4096;
    config.network.receive_budget_bytes = 1024;
    config.message.validate_payload_format = true;
    let limits = &mut config.listeners[0].limits;
    limits.packet_bytes_max = 2048;
    limits.capabilities.receive_maximum = 3;
    limits.capabilities.topic_alias_maximum = 2;
    config
}

impl Shards {
    /// Empty ones.
    pub fn new() -> Self {
        let config = Arc::new(config());
        let hasher = TopicHasher::new(1);
        let now = Now {
            mono_ms: 1_000,
            unix_s: 1_700_000_000,
        };
        let broker = |shard| {
            let config = Arc::clone(&config);
            Broker::new(ShardId(shard), SHARDS, config, hasher.clone(), now)
        };
        Self {
            brokers: (0..SHARDS).map(broker).collect(),
            inboxes: (0..SHARDS).map(|_| VecDeque::new()).collect(),
            config,
            hasher,
            now,
            connections: Default::default(),
        }
    }

    /// Something that happens.
    pub fn step(&mut self, input: &mut Input<'_>) {
        let step = input.byte();
        let number = usize::from(step & 3);
        let speaks = self.connections[number].speaks;
        let bytes = match (step >> 2 & 7, speaks) {
            (0, _) => input.bytes().to_vec(),
            (1 | 2, _) => packet(input.byte(), input.bytes()),
            (3, _) => {
                self.advance(input.pick(&[1, 100, 1_000, 1_500, 10_000, 60_000]));
                Vec::new()
            }
            (4, _) => {
                self.lose(number);
                Vec::new()
            }
            (5..=7, Some(version)) => well_formed(version, input),
            (5..=7, None) => self.connect(number, input),
            _ => Vec::new(),
        };
        self.connections[number].bytes.extend(bytes);
        if step & 32 != 0 {
            self.turn(0);
            self.turn(1);
        }
    }

    fn connect(&mut self, number: usize, input: &mut Input<'_>) -> Vec<u8> {
        let version = input.pick(&[Version::V5, Version::V311, Version::V31]);
        self.connections[number].speaks = Some(version);
        let flags = input.byte();
        let mut connect = Connect::new(input.pick(&["x", "y", "z"])).version(version);
        if flags & 1 != 0 {
            connect = connect.resume();
        }
        if flags & 2 != 0 {
            let mut will = Will::new("a", b"will").qos(flags >> 6 & 1);
            if flags & 4 != 0 && version == Version::V5 {
                will = will.delay_s(5);
            }
            if flags & 8 != 0 {
                will = will.retain();
            }
            connect = connect.will(will);
        }
        if version == Version::V5 {
            if flags & 16 != 0 {
                connect = connect.expiry_s(30).receive_maximum(1);
            }
            if flags & 32 != 0 {
                connect = connect
                    .property(property::TOPIC_ALIAS_MAXIMUM, Value::Two(1))
                    .property(property::MAXIMUM_PACKET_SIZE, Value::Four(40));
            }
        }
        connect.keep_alive_s(u16::from(flags >> 7) * 3).bytes()
    }

    fn advance(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.unix_s = 1_700_000_000 + self.now.mono_ms / 1_000;
    }

    /// A client's connection is over; its next bytes are those of another.
    fn lose(&mut self, number: usize) {
        let connection = std::mem::take(&mut self.connections[number]);
        if let Some(home) = connection.home {
            let broker = &mut self.brokers[home];
            broker.network_closed(number as u32, "the client is gone", self.now);
            broker.take_ended().for_each(drop);
            broker.release(number as u32);
        }
    }

    fn turn(&mut self, shard: usize) {
        for number in 0..CONNECTIONS {
            self.receive(shard, number);
        }
        for batch in std::mem::take(&mut self.inboxes[shard]) {
            let read = self.brokers[shard].take_batch(batch, self.now);
            let from = read.from.index();
            self.brokers[from].mesh().recycle(read);
        }
        self.brokers[shard].tick(self.now);
        while let Some(slot) = self.brokers[shard].next_dirty() {
            self.send(shard, slot);
        }
        self.brokers[shard].take_ended().for_each(drop);
        let inboxes = &mut self.inboxes;
        self.brokers[shard].mesh().flush(|target, batch| {
            inboxes[target.index()].push_back(batch);
            Ok(())
        });
    }

    fn receive(&mut self, shard: usize, number: usize) {
        let connection = &mut self.connections[number];
        if connection.bytes.is_empty() {
            return;
        }
        if connection.home.is_none() {
            let most = self.config.listeners[0].limits.packet_bytes_max as usize;
            let here = ShardId(shard as u16);
            let placed = placement(&connection.bytes, most, here, SHARDS, &self.hasher);
            let Placement::Home(home) = placed else {
                return;
            };
            let header = 1 + connection.bytes[1..]
                .iter()
                .take_while(|byte| **byte >= 128)
                .count();
            connection.version = peek_version(connection.bytes.get(header + 1..).unwrap_or(&[]));
            connection.home = Some(home.index());
            self.brokers[home.index()].open(number as u32, 0, self.now);
        }
        if connection.home != Some(shard) {
            return;
        }
        let mut budget = Budget {
            bytes: self.config.network.receive_budget_bytes as usize,
        };
        let slot = number as u32;
        let broker = &mut self.brokers[shard];
        let progress = broker.receive(slot, &connection.bytes, &mut budget, self.now);
        assert!(progress.consumed <= connection.bytes.len());
        connection.bytes.drain(..progress.consumed);
        assert!(
            progress.flow != Flow::Closing || broker.is_closing(slot),
            "a connection is not closing"
        );
        // The core keeps nothing that is not a whole packet: what is left is the start of one, or waits.
        let most = self.config.listeners[0].limits.packet_bytes_max as usize;
        assert!(progress.flow != Flow::Continue || connection.bytes.len() < most);
    }

    fn send(&mut self, shard: usize, slot: u32) {
        let broker = &mut self.brokers[shard];
        let version = self.connections[slot as usize].version;
        loop {
            let mut bytes = Vec::new();
            let any = broker.take_output(slot, |segment| match segment {
                Segment::Packets(packets) => bytes.extend_from_slice(&packets),
                Segment::Payload(payload) => bytes.extend_from_slice(&payload),
            });
            if !any {
                return;
            }
            let mut rest = bytes.as_slice();
            while let Some(version) = version
                && !rest.is_empty()
            {
                let packet = Packet::parse(own(version), rest).expect("a whole packet");
                rest = &rest[packet.packet_bytes..];
            }
            broker.output_sent(slot, self.now);
        }
    }

    /// All clients go, and all sessions end: then nothing is left.
    pub fn finish(mut self) {
        for number in 0..CONNECTIONS {
            self.lose(number);
        }
        // Not at one stroke: what ends leaves Wills and changes to the other shard.
        for _ in 0..TURNS {
            self.advance(END_S * 1_000 / TURNS as u64);
            self.turn(0);
            self.turn(1);
        }
        for broker in &mut self.brokers {
            let counters = broker.counters();
            let left = (
                counters.connections,
                counters.sessions,
                counters.subscriptions,
            );
            assert!(
                broker.is_empty() && broker.mesh().is_empty() && left == (0, 0, 0),
                "something is left: {counters:?}"
            );
        }
    }
}

/// A packet that a client may send.
fn well_formed(version: Version, input: &mut Input<'_>) -> Vec<u8> {
    let what = input.byte();
    let identifier = 1 + u16::from(input.byte() % 8);
    let [high, low] = identifier.to_be_bytes();
    match what & 7 {
        0 => Subscribe::to(input.pick(&FILTERS), what >> 3 & 3).bytes(version, identifier),
        1 => unsubscribe(version, identifier, &[input.pick(&FILTERS)]),
        2 => packet(0x40, &[high, low]),
        3 => packet(0x50, &[high, low]),
        4 => packet(0x62, &[high, low]),
        5 => packet(0x70, &[high, low]),
        6 if what >> 3 == 31 => packet(0xe0, &[]),
        _ => {
            let size = input.pick(&[0, 1, 100, 1_900]);
            let mut publish = Publish::new(input.pick(&TOPICS), vec![b'p'; size]);
            publish = publish.qos(what >> 3 & 3).identifier(identifier);
            if what & 32 != 0 {
                publish = publish.retain();
            }
            if what & 64 != 0 && version == Version::V5 {
                publish = publish.property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(1));
            }
            publish.bytes(version)
        }
    }
}
