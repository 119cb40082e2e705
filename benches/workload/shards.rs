//! The core of one or two shards: PUBLISH bytes in, PUBLISH bytes out, as a turn does it, without a network.

use std::sync::Arc;

use ringmq::broker::authorization::parse::parse;
use ringmq::broker::envelope::Batch;
use ringmq::broker::output::Segment;
use ringmq::broker::policy::Policy;
use ringmq::broker::{Broker, Budget, Now};
use ringmq::config::Config;
use ringmq::routing::ids::ShardId;
use ringmq::routing::topic_hash::TopicHasher;

use super::decode::packet;

/// PUBLISH packets in a burst.
pub const MESSAGES: usize = 64;

const TOPIC: &[u8] = b"bench/7";
const NOW: Now = Now {
    mono_ms: 1000,
    unix_s: 1_700_000_000,
};

/// Shards with a publisher in slot 0 of the first one, subscribers, and a burst of PUBLISH packets.
pub struct Shards {
    brokers: Vec<Broker>,
    burst: Vec<u8>,
    answers: Vec<u8>,
    batches: Vec<(ShardId, Batch)>,
    sent_bytes: usize,
}

/// One publisher and one subscriber on one shard.
pub fn pair(qos: u8, payload_bytes: usize) -> Shards {
    let mut shards = Shards::new(1);
    shards.subscriber(0, 1, qos);
    shards.burst(qos, payload_bytes, MESSAGES);
    shards.warm()
}

/// The same under an ACL of `rules` rules, half of which name users and half of which hold for everybody.
pub fn pair_with_rules(qos: u8, rules: usize) -> Shards {
    let mut text = String::new();
    for number in 0..rules.saturating_sub(1) {
        text.push_str(&match number % 2 {
            0 => format!("user u{number} both of/u{number}/#\n"),
            _ => format!("all publish room{number}/#\n"),
        });
    }
    text.push_str("all both bench/#\n");
    let policy = Policy {
        rules: parse(&text).ok().map(Arc::new),
        ..Policy::of(&Config::default())
    };
    let mut shards = Shards::new(1);
    shards.brokers[0].set_policy(Arc::new(policy), NOW);
    shards.subscriber(0, 1, qos);
    shards.burst(qos, 64, MESSAGES);
    shards.warm()
}

/// One PUBLISH of 64 B to `subscribers` subscribers on one shard.
pub fn fan_out(subscribers: u32, qos: u8) -> Shards {
    let mut shards = Shards::new(1);
    for slot in 1..=subscribers {
        shards.subscriber(0, slot, qos);
    }
    shards.burst(qos, 64, 1);
    shards.warm()
}

/// One publisher on one shard, one subscriber on another, QoS 0.
pub fn mesh(payload_bytes: usize) -> Shards {
    let mut shards = Shards::new(2);
    shards.subscriber(1, 0, 0);
    shards.burst(0, payload_bytes, MESSAGES);
    shards.warm()
}

impl Shards {
    fn new(count: u16) -> Self {
        let config = Arc::new(Config::default());
        let hasher = TopicHasher::new(7);
        let brokers = (0..count)
            .map(|shard| {
                Broker::new(
                    ShardId(shard),
                    count,
                    Arc::clone(&config),
                    hasher.clone(),
                    NOW,
                )
            })
            .collect();
        let mut shards = Self {
            brokers,
            burst: Vec::new(),
            answers: Vec::new(),
            batches: Vec::new(),
            sent_bytes: 0,
        };
        shards.connect(0, 0);
        shards
    }

    fn connect(&mut self, shard: usize, slot: u32) {
        let name = format!("c{shard}-{slot:06}");
        let body = [
            &b"\0\x04MQTT\x04\x02\0\0\0"[..],
            &[name.len() as u8],
            name.as_bytes(),
        ]
        .concat();
        self.brokers[shard].open(slot, 0, NOW);
        self.receive(shard, slot, &packet(0x10, &body));
    }

    fn subscriber(&mut self, shard: usize, slot: u32, qos: u8) {
        if (shard, slot) != (0, 0) {
            self.connect(shard, slot);
        }
        let body = [&[0, 1, 0, TOPIC.len() as u8][..], TOPIC, &[qos]].concat();
        self.receive(shard, slot, &packet(0x82, &body));
        for _ in 0..4 {
            self.exchange();
        }
        self.flush();
    }

    fn burst(&mut self, qos: u8, payload_bytes: usize, messages: usize) {
        for number in 1..=messages as u8 {
            let identifier: &[u8] = match qos {
                0 => &[],
                _ => &[0, number],
            };
            let topic = [&[0, TOPIC.len() as u8][..], TOPIC].concat();
            let body = [&topic[..], identifier, &vec![b'x'; payload_bytes]].concat();
            self.burst.extend(packet(0x30 | qos << 1, &body));
        }
    }

    /// Some bursts, so that every buffer has its size; then checks that the messages arrive.
    fn warm(mut self) -> Self {
        for _ in 0..4 {
            self.run();
        }
        let before = self.sent_bytes;
        self.run();
        assert!(self.sent_bytes - before >= self.burst.len());
        self
    }

    /// One burst: received, routed, written out and acknowledged by the subscribers.
    pub fn run(&mut self) {
        let burst = std::mem::take(&mut self.burst);
        self.receive(0, 0, &burst);
        self.burst = burst;
        self.exchange();
        self.flush();
    }

    fn receive(&mut self, shard: usize, slot: u32, bytes: &[u8]) {
        let mut budget = Budget { bytes: 1 << 20 };
        let progress = self.brokers[shard].receive(slot, bytes, &mut budget, NOW);
        assert_eq!(progress.consumed, bytes.len());
    }

    fn exchange(&mut self) {
        for from in 0..self.brokers.len() {
            let batches = &mut self.batches;
            self.brokers[from].mesh().flush(|to, batch| {
                batches.push((to, batch));
                Ok(())
            });
            for (to, batch) in self.batches.drain(..) {
                let read = self.brokers[usize::from(to.0)].take_batch(batch, NOW);
                self.brokers[from].mesh().recycle(read);
            }
        }
    }

    /// Takes all output; the subscribers acknowledge what they get.
    fn flush(&mut self) {
        for shard in 0..self.brokers.len() {
            while let Some(slot) = self.brokers[shard].next_dirty() {
                self.flush_connection(shard, slot);
            }
        }
    }

    fn flush_connection(&mut self, shard: usize, slot: u32) {
        let mut buffers: [Option<Vec<u8>>; 4] = Default::default();
        let mut count = 0;
        let broker = &mut self.brokers[shard];
        broker.take_output(slot, |segment| match segment {
            Segment::Packets(packets) => {
                buffers[count % 4] = Some(packets);
                count += 1;
            }
            Segment::Payload(payload) => self.sent_bytes += payload.len(),
        });
        let mut answers = std::mem::take(&mut self.answers);
        for packets in buffers.into_iter().flatten() {
            self.sent_bytes += packets.len();
            answer(&packets, &mut answers);
            broker.recycle(packets);
        }
        broker.output_sent(slot, NOW);
        if !answers.is_empty() {
            self.receive(shard, slot, &answers);
            answers.clear();
        }
        self.answers = answers;
    }
}

/// What a client answers to packets, none of them longer than 16,384 bytes.
fn answer(mut packets: &[u8], answers: &mut Vec<u8>) {
    while let [first, low, rest @ ..] = packets {
        let (length, body) = match (low, rest) {
            (0x80.., [high, body @ ..]) => {
                (usize::from(low & 0x7f) + usize::from(*high) * 128, body)
            }
            _ => (usize::from(*low), rest),
        };
        let (body, others) = body.split_at(length);
        let after_topic = 2 + TOPIC.len();
        match first >> 1 {
            0x19 => answers.extend([0x40, 2, body[after_topic], body[after_topic + 1]]),
            0x1a => answers.extend([0x50, 2, body[after_topic], body[after_topic + 1]]),
            // PUBREC, PUBREL
            0x28 => answers.extend([0x62, 2, body[0], body[1]]),
            0x31 => answers.extend([0x70, 2, body[0], body[1]]),
            _ => {}
        }
        packets = others;
    }
}
