//! Instructions of the micro-benchmarks, counted by callgrind and held under recorded bounds:
//! `cargo bench --bench instructions` (needs valgrind and `gungraun-runner` of the same version).
//!
//! A bound is what was counted when it was recorded, and five per cent. Who makes something cheaper lowers
//! its bound; who must raise one says why.
#![allow(missing_docs)] // the macros make public items

#[allow(dead_code, reason = "the other benchmark lists the kinds by name")]
mod workload;

use gungraun::{
    Callgrind, EventKind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main,
};

use workload::decode::{self, Kind};
use workload::matching::{self, Crowd, Index};
use workload::shards::{self, Shards};

/// At most `instructions` may be executed.
fn at_most(instructions: u64) -> LibraryBenchmarkConfig {
    LibraryBenchmarkConfig::default()
        .tool(Callgrind::default().hard_limits([(EventKind::Ir, instructions)]))
        .clone()
}

// Of 64 packets each.
#[library_benchmark]
#[bench::connect(args = (Kind::Connect), setup = decode::packets, config = at_most(136_200))]
#[bench::publish_plain(args = (Kind::PublishPlain), setup = decode::packets, config = at_most(26_900))]
#[bench::publish_properties(args = (Kind::PublishProperties), setup = decode::packets, config = at_most(64_500))]
#[bench::puback(args = (Kind::PubAck), setup = decode::packets, config = at_most(12_600))]
#[bench::pubrec(args = (Kind::PubRec), setup = decode::packets, config = at_most(55_900))]
#[bench::pubrel(args = (Kind::PubRel), setup = decode::packets, config = at_most(12_700))]
#[bench::pubcomp(args = (Kind::PubComp), setup = decode::packets, config = at_most(12_700))]
#[bench::subscribe(args = (Kind::Subscribe), setup = decode::packets, config = at_most(78_800))]
#[bench::unsubscribe(args = (Kind::Unsubscribe), setup = decode::packets, config = at_most(51_200))]
#[bench::pingreq(args = (Kind::PingReq), setup = decode::packets, config = at_most(4_700))]
#[bench::disconnect(args = (Kind::Disconnect), setup = decode::packets, config = at_most(35_700))]
#[bench::auth(args = (Kind::Auth), setup = decode::packets, config = at_most(52_300))]
fn decode_packets(bytes: Vec<u8>) -> usize {
    decode::decode(&bytes)
}

// Of 64 topics each.
#[library_benchmark]
#[bench::exact_10(args = (10), setup = matching::exact, config = at_most(6_900))]
#[bench::exact_1k(args = (1_000), setup = matching::exact, config = at_most(6_900))]
#[bench::exact_100k(args = (100_000), setup = matching::exact, config = at_most(7_000))]
#[bench::exact_1m(args = (1_000_000), setup = matching::exact, config = at_most(6_900))]
#[bench::wildcard_10(args = (10), setup = matching::wildcard, config = at_most(78_400))]
#[bench::wildcard_1k(args = (1_000), setup = matching::wildcard, config = at_most(86_200))]
#[bench::wildcard_100k(args = (100_000), setup = matching::wildcard, config = at_most(82_000))]
#[bench::wildcard_1m(args = (1_000_000), setup = matching::wildcard, config = at_most(83_900))]
fn match_topics(mut index: Index) -> Index {
    index.run();
    index
}

// Each a hundredth of this: no subscriber of a filter that goes moves the others.
#[library_benchmark]
#[bench::leave_10k(args = (10_000), setup = matching::crowd, config = at_most(2_000_000))]
fn all_leave(mut crowd: Crowd) -> Crowd {
    crowd.run();
    crowd
}

// Of a burst: 64 messages for the pairs and the mesh, one message for the fan-outs.
#[library_benchmark]
#[bench::pair_qos_0(args = (0, 64), setup = shards::pair, config = at_most(89_300))]
#[bench::pair_qos_1(args = (1, 64), setup = shards::pair, config = at_most(192_900))]
#[bench::pair_qos_2(args = (2, 64), setup = shards::pair, config = at_most(292_400))]
#[bench::pair_1_kib(args = (0, 1024), setup = shards::pair, config = at_most(99_600))]
#[bench::fan_out_100(args = (100, 0), setup = shards::fan_out, config = at_most(67_400))]
#[bench::fan_out_1000_qos_1(args = (1_000, 1), setup = shards::fan_out, config = at_most(1_565_900))]
#[bench::mesh(args = (64), setup = shards::mesh, config = at_most(122_500))]
#[bench::mesh_1_kib(args = (1024), setup = shards::mesh, config = at_most(140_200))]
fn burst(mut shards: Shards) -> Shards {
    shards.run();
    shards
}

library_benchmark_group!(
    name = core,
    benchmarks = [decode_packets, match_topics, all_leave, burst]
);

main!(library_benchmark_groups = core);
