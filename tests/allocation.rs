//! What the core allocates: nothing for a message in steady state, little for a subscription.
#![allow(missing_docs, reason = "the shared workload has no reader here")]

#[allow(dead_code, reason = "the benchmarks use the rest")]
#[path = "../benches/workload/mod.rs"]
mod workload;

use std::sync::Arc;

use allocation_counter::measure;
use ringmq::broker::output::Segment;
use ringmq::broker::{Broker, Budget, Now};
use ringmq::config::Config;
use ringmq::mqtt::data_types::QoS;
use ringmq::mqtt::packet::subscribe::{RetainHandling, SubscriptionOptions};
use ringmq::routing::ids::ShardId;
use ringmq::routing::interest_index::{Interest, InterestChange, InterestIndex};
use ringmq::routing::local_index::{LocalIndex, Subscriber};
use ringmq::routing::topic_hash::TopicHasher;

use workload::decode::packet;
use workload::shards::{self, Shards};

/// Filters of the memory tests.
const FILTERS: usize = 1_000_000;

fn allocations(mut shards: Shards) -> u64 {
    measure(|| (0..10).for_each(|_| shards.run())).count_total
}

#[test]
fn a_delivered_qos_0_message_allocates_nothing() {
    assert_eq!(allocations(shards::pair(0, 64)), 0, "a pair");
    assert_eq!(allocations(shards::pair(0, 1024)), 0, "1 KiB");
    assert_eq!(allocations(shards::fan_out(100, 0)), 0, "a fan-out");
    assert_eq!(allocations(shards::mesh(64)), 0, "two shards");
    assert_eq!(allocations(shards::mesh(1024)), 0, "two shards, 1 KiB");
}

#[test]
fn an_exact_subscription_takes_120_bytes_beside_its_text() {
    let options = SubscriptionOptions {
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    let mut index = LocalIndex::new(TopicHasher::new(7));
    let mut text_bytes = 0i64;
    let used = measure(|| {
        for number in 0..FILTERS {
            let filter = format!("site/{}/pump/{number}/flow", number % 1000);
            text_bytes += i64::try_from(filter.len()).unwrap();
            index.subscribe(&filter, Subscriber::new(0, options, 0));
        }
    });
    let each = (used.bytes_current - text_bytes) as f64 / FILTERS as f64;
    assert!(each <= 120.0, "{each} bytes");
    let freed = measure(|| {
        for number in 0..FILTERS {
            let filter = format!("site/{}/pump/{number}/flow", number % 1000);
            assert!(index.unsubscribe(&filter, 0).is_some());
        }
    });
    assert_eq!(used.bytes_current + freed.bytes_current, 0, "left over");
}

#[test]
fn an_exact_filter_of_another_shard_takes_60_bytes() {
    let hasher = TopicHasher::new(7);
    let mut index = InterestIndex::new(hasher.clone());
    let used = measure(|| {
        for number in 0..FILTERS {
            let hash = hasher.hash(&format!("site/{}/pump/{number}/flow", number % 1000));
            // Spread over seven others, as with eight shards.
            let from = ShardId(u16::try_from(1 + number % 7).unwrap());
            let change = InterestChange {
                interest: Interest::Exact(hash),
                add: true,
            };
            index.apply(&change, from);
        }
    });
    let each = used.bytes_current as f64 / FILTERS as f64;
    assert!(each <= 60.0, "{each} bytes");
}

/// The core of one shard with clients who come, subscribe to a topic of their own, and may go.
struct Hotel {
    broker: Broker,
    now: Now,
}

impl Hotel {
    fn new() -> Self {
        let now = Now {
            mono_ms: 1000,
            unix_s: 1_700_000_000,
        };
        let config = Arc::new(Config::default());
        let broker = Broker::new(ShardId(0), 1, config, TopicHasher::new(7), now);
        Self { broker, now }
    }

    /// A client with a name of 16 bytes and a Keep Alive of a minute, whose topic has 24 bytes.
    fn arrive(&mut self, slot: u32, number: u32) {
        let name = format!("client-{number:09}");
        let filter = format!("idle/{number:011}/command");
        let connect = [&b"\0\x04MQTT\x04\x02\0\x3c\0\x10"[..], name.as_bytes()].concat();
        let subscribe = [&b"\0\x01\0\x18"[..], filter.as_bytes(), &[0]].concat();
        self.broker.open(slot, 0, self.now);
        let bytes = [packet(0x10, &connect), packet(0x82, &subscribe)].concat();
        let mut budget = Budget { bytes: 1 << 20 };
        let progress = self.broker.receive(slot, &bytes, &mut budget, self.now);
        assert_eq!(progress.consumed, bytes.len());
        self.flush();
    }

    fn leave(&mut self, slot: u32) {
        self.broker.network_closed(slot, "closed", self.now);
        self.flush();
        assert_eq!(self.broker.take_ended().count(), 1);
        self.broker.release(slot);
    }

    fn flush(&mut self) {
        while let Some(slot) = self.broker.next_dirty() {
            let mut taken = None;
            self.broker
                .take_output(slot, |segment| taken = Some(segment));
            if let Some(Segment::Packets(buffer)) = taken {
                self.broker.recycle(buffer);
            }
            self.broker.output_sent(slot, self.now);
        }
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.broker.tick(self.now);
    }
}

#[test]
fn an_idle_client_takes_little() {
    const CLIENTS: u32 = 15_000;
    let mut hotel = Hotel::new();
    let used = measure(|| {
        for number in 0..CLIENTS {
            hotel.arrive(number, number);
            hotel.pass(1);
        }
    });
    let each = used.bytes_current as f64 / f64::from(CLIENTS);
    // With the name and the topic, 40 bytes, and what it may do and has sent, 16; the socket is the shard's.
    assert!(each <= 350.0, "{each} bytes");
}

#[test]
fn clients_who_come_and_go_leave_nothing() {
    let mut hotel = Hotel::new();
    let mut cycles = |count: u32| {
        let used = measure(|| {
            for number in 0..count {
                hotel.arrive(number % 100, number);
                hotel.pass(1);
                hotel.leave(number % 100);
            }
            // The timers of those who left end.
            hotel.pass(30_000);
            hotel.pass(30_000);
        });
        used.bytes_current
    };
    // The flight recorder remembers some thousands of them.
    let first = cycles(5_000);
    let left = cycles(100_000);
    assert!(left == 0, "{first}, then {left} bytes");
}
