//! Profiles: other defaults, and what they do.

use std::time::Duration;

use crate::support::{Broker, Kind, sleep_ms};

/// How often shard 0 sleeps while a client sends a packet every millisecond, 100 times.
fn sleeps(settings: &str) -> u64 {
    let broker = Broker::with(&format!("shards = 1\n{settings}"));
    let mut client = broker.client("client");
    let count = || {
        let threads = broker.thread_sleeps();
        let shards = threads
            .iter()
            .filter(|(name, _)| name.starts_with("shard-0"));
        shards.map(|(_, sleeps)| sleeps).sum::<u64>()
    };
    let before = count();
    for _ in 0..100 {
        client.send_raw(&[0xc0, 0]);
        client.expect(Kind::PingResp);
        sleep_ms(1);
    }
    count() - before
}

#[test]
fn a_shard_that_spins_does_not_sleep_between_packets() {
    let sleeping = sleeps("");
    let spinning = sleeps("network.spin_us = 10000");
    assert!(sleeping >= 80, "{sleeping} sleeps for 100 packets");
    assert!(
        spinning < sleeping / 2,
        "{spinning} sleeps with spinning, {sleeping} without"
    );
}

#[test]
fn a_shard_that_spins_sleeps_when_there_is_no_work() {
    let broker = Broker::with("network.spin_us = 10000");
    let _client = broker.client("client");
    sleep_ms(100);
    let before = broker.cpu();
    sleep_ms(1_000);
    let used = broker.cpu() - before;
    assert!(
        used < Duration::from_millis(100),
        "{used:?} in an idle second"
    );
}

#[test]
fn a_broker_of_every_profile_serves_and_density_takes_less_memory() {
    let resident = |profile: &str| {
        let broker = Broker::with(&format!("profile = \"{profile}\"\nshards = 8"));
        let mut reader = broker.client("reader");
        reader.subscribe("t/#", 1);
        for n in 0..20 {
            let mut writer = broker.client(&format!("writer-{n}"));
            writer.publish("t/x", vec![n; 3_000], 1);
            reader.expect_message("t/x", vec![n; 3_000]);
        }
        broker.resident_bytes()
    };
    let (balanced, density) = (resident("balanced"), resident("density"));
    resident("latency");
    resident("throughput");
    assert!(density < balanced, "{density} bytes instead of {balanced}");
}
