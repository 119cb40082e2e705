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
#[bench::connect(args = (Kind::Connect), setup = decode::packets, config = at_most(135_800))]
#[bench::publish_plain(args = (Kind::PublishPlain), setup = decode::packets, config = at_most(26_700))]
#[bench::publish_properties(args = (Kind::PublishProperties), setup = decode::packets, config = at_most(64_300))]
#[bench::puback(args = (Kind::PubAck), setup = decode::packets, config = at_most(8_800))]
#[bench::pubrec(args = (Kind::PubRec), setup = decode::packets, config = at_most(61_400))]
#[bench::pubrel(args = (Kind::PubRel), setup = decode::packets, config = at_most(8_800))]
#[bench::pubcomp(args = (Kind::PubComp), setup = decode::packets, config = at_most(8_800))]
#[bench::subscribe(args = (Kind::Subscribe), setup = decode::packets, config = at_most(78_700))]
#[bench::unsubscribe(args = (Kind::Unsubscribe), setup = decode::packets, config = at_most(51_000))]
#[bench::pingreq(args = (Kind::PingReq), setup = decode::packets, config = at_most(4_600))]
#[bench::disconnect(args = (Kind::Disconnect), setup = decode::packets, config = at_most(35_500))]
#[bench::auth(args = (Kind::Auth), setup = decode::packets, config = at_most(52_100))]
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
#[bench::wildcard_1k(args = (1_000), setup = matching::wildcard, config = at_most(86_300))]
#[bench::wildcard_100k(args = (100_000), setup = matching::wildcard, config = at_most(81_900))]
#[bench::wildcard_1m(args = (1_000_000), setup = matching::wildcard, config = at_most(83_900))]
fn match_topics(mut index: Index) -> Index {
    index.run();
    index
}

// Of 10,000 subscribers of one filter: none that goes moves the others.
#[library_benchmark]
#[bench::leave_10k(args = (10_000), setup = matching::crowd, config = at_most(3_885_800))]
fn all_leave(mut crowd: Crowd) -> Crowd {
    crowd.run();
    crowd
}

// Of a burst: 64 messages for the pairs and the mesh, one message for the fan-outs.
#[library_benchmark]
#[bench::pair_qos_0(args = (0, 64), setup = shards::pair, config = at_most(96_000))]
#[bench::pair_qos_1(args = (1, 64), setup = shards::pair, config = at_most(199_900))]
#[bench::pair_qos_2(args = (2, 64), setup = shards::pair, config = at_most(272_200))]
#[bench::pair_1_kib(args = (0, 1024), setup = shards::pair, config = at_most(106_300))]
#[bench::fan_out_100(args = (100, 0), setup = shards::fan_out, config = at_most(64_400))]
#[bench::fan_out_1000_qos_1(args = (1_000, 1), setup = shards::fan_out, config = at_most(1_581_700))]
#[bench::mesh(args = (64), setup = shards::mesh, config = at_most(139_400))]
#[bench::mesh_1_kib(args = (1024), setup = shards::mesh, config = at_most(157_200))]
fn burst(mut shards: Shards) -> Shards {
    shards.run();
    shards
}

library_benchmark_group!(
    name = core,
    benchmarks = [decode_packets, match_topics, all_leave, burst]
);

main!(library_benchmark_groups = core);
