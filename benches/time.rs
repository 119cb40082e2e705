//! Wall time of the micro-benchmarks, for people: `cargo bench --bench time`.
#![allow(missing_docs)] // the macros make public items

mod workload;

use divan::Bencher;
use divan::counter::ItemsCount;

use workload::{decode, matching, shards};

fn main() {
    divan::main();
}

#[divan::bench(args = decode::KINDS.map(|(name, _)| name))]
fn decode_packets(bencher: Bencher<'_, '_>, name: &str) {
    let kind = decode::KINDS.iter().find(|(other, _)| *other == name);
    let bytes = decode::packets(kind.map_or(decode::Kind::PingReq, |(_, kind)| *kind));
    bencher
        .counter(ItemsCount::new(decode::PACKETS))
        .bench_local(|| decode::decode(&bytes));
}

#[divan::bench(args = [10, 1_000, 100_000, 1_000_000])]
fn match_exact(bencher: Bencher<'_, '_>, filters: usize) {
    let mut index = matching::exact(filters);
    bencher.bench_local(|| index.run());
}

#[divan::bench(args = [10, 1_000, 100_000, 1_000_000])]
fn match_wildcard(bencher: Bencher<'_, '_>, filters: usize) {
    let mut index = matching::wildcard(filters);
    bencher.bench_local(|| index.run());
}

#[divan::bench(args = [0, 1, 2])]
fn pair(bencher: Bencher<'_, '_>, qos: u8) {
    let mut shards = shards::pair(qos, 64);
    bencher
        .counter(ItemsCount::new(shards::MESSAGES))
        .bench_local(|| shards.run());
}

#[divan::bench(args = [64, 1024, 16_000])]
fn pair_payload(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let mut shards = shards::pair(0, payload_bytes);
    bencher
        .counter(ItemsCount::new(shards::MESSAGES))
        .bench_local(|| shards.run());
}

#[divan::bench(args = [1, 100, 1_000])]
fn fan_out(bencher: Bencher<'_, '_>, subscribers: u32) {
    let mut shards = shards::fan_out(subscribers, 0);
    bencher
        .counter(ItemsCount::new(subscribers))
        .bench_local(|| shards.run());
}

#[divan::bench(args = [64, 1024])]
fn mesh(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let mut shards = shards::mesh(payload_bytes);
    bencher
        .counter(ItemsCount::new(shards::MESSAGES))
        .bench_local(|| shards.run());
}

#[divan::bench(args = [10_000, 100_000])]
fn all_leave(bencher: Bencher<'_, '_>, subscribers: u32) {
    bencher
        .counter(ItemsCount::new(subscribers))
        .with_inputs(|| matching::crowd(subscribers))
        .bench_local_values(|mut crowd| crowd.run());
}
