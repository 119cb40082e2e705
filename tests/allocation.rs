//! What the core allocates: nothing for a message in steady state, little for a subscription.
#![allow(missing_docs, reason = "the shared workload has no reader here")]

#[allow(dead_code, reason = "the benchmarks use the rest")]
#[path = "../benches/workload/mod.rs"]
mod workload;

use allocation_counter::measure;
use ringmq::mqtt::data_types::QoS;
use ringmq::mqtt::packet::subscribe::{RetainHandling, SubscriptionOptions};
use ringmq::routing::ids::ShardId;
use ringmq::routing::interest_index::{Interest, InterestChange, InterestIndex};
use ringmq::routing::local_index::{LocalIndex, Subscriber};
use ringmq::routing::topic_hash::TopicHasher;

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
