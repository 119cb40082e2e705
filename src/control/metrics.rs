//! The metrics in OpenMetrics text, made anew for each request from what the shards counted.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::broker::ask::{Census, ShardStats};
use crate::observability::counters::{Counters, DropCause, EndCause};
use crate::observability::latency::{Distribution, Work};

/// Bounds of the latency histograms, microseconds.
const BOUNDS_US: [u64; 13] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000,
];
/// Bounds of the completions of a turn.
const BOUNDS: [u64; 9] = [1, 2, 4, 8, 16, 64, 256, 1024, 4096];

/// Writes all metrics.
pub(super) fn encode(
    stats: Vec<ShardStats>,
    census: Census,
    dropped_log_lines: u64,
) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix("ringmq");
    registry.register_collector(Box::new(Snapshot {
        stats,
        census,
        dropped_log_lines,
    }));
    let mut out = String::new();
    text::encode(&mut out, &registry)?;
    Ok(out)
}

/// Memory of the process that is resident, bytes.
pub(super) fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1);
    let pages: u64 = pages.and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * rustix::param::page_size() as u64
}

#[derive(Debug)]
struct Snapshot {
    stats: Vec<ShardStats>,
    census: Census,
    dropped_log_lines: u64,
}

/// Samples with their labels.
type Samples<L> = Vec<(L, u64)>;

fn counters<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    samples: Samples<L>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Counter)?;
    for (labels, value) in samples {
        metric
            .encode_family(&labels)?
            .encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
    }
    Ok(())
}

fn gauges<L: EncodeLabelSet>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    samples: Samples<L>,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (labels, value) in samples {
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        metric.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// Counts below each bound, as the encoder adds them up.
fn buckets(distribution: &Distribution, bounds: &[u64], scale: f64) -> Vec<(f64, u64)> {
    let mut below = 0;
    let mut buckets = Vec::new();
    for bound in bounds {
        let at_most = distribution.at_most(*bound).max(below);
        buckets.push((*bound as f64 / scale, at_most - below));
        below = at_most;
    }
    buckets.push((f64::MAX, distribution.count().saturating_sub(below)));
    buckets
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sum = Counters::default();
        for shard in &self.stats {
            sum.add(&shard.counters);
        }
        self.gauges(&mut encoder, &sum)?;
        Self::traffic(&mut encoder, &sum)?;
        self.shards(&mut encoder)?;
        self.latency(&mut encoder)
    }
}

impl Snapshot {
    fn gauges(&self, encoder: &mut DescriptorEncoder<'_>, sum: &Counters) -> fmt::Result {
        let census = &self.census;
        let all: [(&str, &str, u64); 11] = [
            (
                "connections",
                "Network Connections with a session",
                sum.connections,
            ),
            (
                "sessions",
                "Sessions, with and without a connection",
                sum.sessions,
            ),
            (
                "subscriptions",
                "Subscriptions, shared ones included",
                sum.subscriptions,
            ),
            (
                "retained_messages",
                "Retained messages",
                sum.retained_messages,
            ),
            (
                "queued_messages",
                "Messages that wait in outboxes",
                census.queued_messages,
            ),
            (
                "in_flight_messages",
                "Messages that clients have not acknowledged",
                census.in_flight_messages,
            ),
            (
                "windows_shut",
                "Windows that clients have not moved for window_shut_s",
                census.windows_shut,
            ),
            (
                "filters",
                "Topic Filters, once for each shard",
                self.total(|shard| shard.filters),
            ),
            (
                "shared_groups",
                "Shared groups, once for each shard",
                self.total(|shard| shard.shared_groups),
            ),
            ("shards", "Shards", self.stats.len() as u64),
            (
                "log_lines_dropped",
                "Log lines that standard error did not take",
                self.dropped_log_lines,
            ),
        ];
        for (name, help, value) in all {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        let memory = [
            ("resident", resident_bytes()),
            ("retained", sum.retained_bytes),
            ("outboxes", census.queued_bytes),
            ("in_flight", census.in_flight_bytes),
            ("output", census.output_bytes),
            ("mesh", self.total(|shard| shard.mesh_staged_bytes)),
            (
                "receive_buffers",
                self.total(|shard| shard.receive_buffer_bytes),
            ),
            ("recorder", self.total(|shard| shard.recorder_bytes)),
        ];
        let memory = memory.map(|(kind, bytes)| ([("kind", kind)], bytes));
        let help = "Memory by kind; resident is the whole process";
        gauges(encoder, "memory", help, Some(&Unit::Bytes), memory.into())
    }

    fn total(&self, of: impl Fn(&ShardStats) -> u64) -> u64 {
        self.stats.iter().map(of).sum()
    }

    fn traffic(encoder: &mut DescriptorEncoder<'_>, sum: &Counters) -> fmt::Result {
        let by_qos = |received: &[u64; 3], sent: &[u64; 3]| {
            let one = |direction, counts: &[u64; 3]| {
                ["0", "1", "2"]
                    .into_iter()
                    .zip(*counts)
                    .map(move |(qos, count)| ([("direction", direction), ("qos", qos)], count))
                    .collect::<Vec<_>>()
            };
            [one("in", received), one("out", sent)].concat()
        };
        let messages = by_qos(&sum.publish_received, &sum.publish_sent);
        counters(
            encoder,
            "messages",
            "PUBLISH packets by direction and QoS",
            None,
            messages,
        )?;
        let bytes = by_qos(&sum.publish_bytes_received, &sum.publish_bytes_sent);
        let help = "Payload bytes of PUBLISH packets by direction and QoS";
        counters(encoder, "message_payload", help, Some(&Unit::Bytes), bytes)?;
        let both = |received, sent| {
            vec![
                ([("direction", "in")], received),
                ([("direction", "out")], sent),
            ]
        };
        let packets = both(sum.packets_received, sum.packets_sent);
        counters(
            encoder,
            "packets",
            "Control Packets by direction",
            None,
            packets,
        )?;
        let bytes = both(sum.bytes_received, sum.bytes_sent);
        let help = "Bytes of Control Packets by direction";
        counters(encoder, "packet", help, Some(&Unit::Bytes), bytes)?;
        let dropped = DropCause::NAMES.into_iter().zip(sum.dropped);
        let dropped = dropped.map(|(cause, count)| ([("cause", cause)], count));
        let help = "Messages dropped for one receiver, by cause";
        counters(encoder, "messages_dropped", help, None, dropped.collect())?;
        let ended = EndCause::NAMES.into_iter().zip(sum.ended);
        let ended = ended.map(|(cause, count)| ([("cause", cause)], count));
        let help = "Connections that the broker ended, by cause";
        counters(encoder, "connections_ended", help, None, ended.collect())?;
        for (name, help, value) in [
            (
                "connections_accepted",
                "Connections that got a CONNACK with Success",
                sum.connections_accepted,
            ),
            (
                "sessions_expired",
                "Sessions that expired",
                sum.sessions_expired,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Counter)?
                .encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }

    /// A sample for each shard.
    fn each(&self, of: impl Fn(&ShardStats) -> u64) -> Samples<[(&'static str, String); 1]> {
        let samples = self.stats.iter();
        samples
            .map(|shard| ([("shard", shard.shard.to_string())], of(shard)))
            .collect()
    }

    fn shards(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Messages in a shard's inbox";
        let depth = self.each(|shard| shard.inbox_depth);
        gauges(encoder, "shard_inbox_depth", help, None, depth)?;
        let help = "Connections that are at home on a shard";
        let connections = self.each(|shard| shard.counters.connections);
        gauges(encoder, "shard_connections", help, None, connections)?;
        let help = "Receives that found no free receive buffer";
        let exhausted = self.each(|shard| shard.buffers_exhausted);
        counters(encoder, "shard_buffers_exhausted", help, None, exhausted)?;
        let stalls = self.stats.iter().flat_map(|shard| {
            let works = Work::NAMES.into_iter().zip(shard.turns.stalls);
            let number = shard.shard.to_string();
            works.map(move |(work, count)| {
                (
                    [("shard", number.clone()), ("work", work.to_owned())],
                    count,
                )
            })
        });
        let help = "Turns over stall_report_ms, by the work that held them";
        counters(encoder, "shard_stalls", help, None, stalls.collect())?;
        for (name, help, of) in [
            (
                "shard_cpu",
                "CPU time of a shard's thread",
                (|shard| shard.cpu_ns) as fn(&ShardStats) -> u64,
            ),
            (
                "shard_sleep",
                "Time that a shard's thread was not on its CPU",
                |shard| shard.elapsed_ns.saturating_sub(shard.cpu_ns),
            ),
        ] {
            let mut metric =
                encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
            for (labels, nanoseconds) in self.each(of) {
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, f64, u64>(&(nanoseconds as f64 / 1e9), None)?;
            }
        }
        Ok(())
    }

    fn latency(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let seconds = Some(&Unit::Seconds);
        let help = "Time of a shard's turns without the wait";
        let mut metric =
            encoder.encode_descriptor("shard_turn", help, seconds, MetricType::Histogram)?;
        for shard in &self.stats {
            let labels = [("shard", shard.shard.to_string())];
            let turns = &shard.turns.time_us;
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(
                    turns.sum() as f64 / 1e6,
                    turns.count(),
                    &buckets(turns, &BOUNDS_US, 1e6),
                    None,
                )?;
        }
        let help = "Completions that a shard's turns took";
        let mut metric = encoder.encode_descriptor(
            "shard_turn_completions",
            help,
            None,
            MetricType::Histogram,
        )?;
        for shard in &self.stats {
            let labels = [("shard", shard.shard.to_string())];
            let completions = &shard.turns.completions;
            metric
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(
                    completions.sum() as f64,
                    completions.count(),
                    &buckets(completions, &BOUNDS, 1.0),
                    None,
                )?;
        }
        let help = "Stages of messages inside the broker";
        let mut metric =
            encoder.encode_descriptor("message_stage", help, seconds, MetricType::Histogram)?;
        for shard in &self.stats {
            for (stage, distribution) in shard.stages.all() {
                let labels = [
                    ("shard", shard.shard.to_string()),
                    ("stage", stage.to_owned()),
                ];
                metric
                    .encode_family(&labels)?
                    .encode_histogram::<NoLabelSet>(
                        distribution.sum() as f64 / 1e6,
                        distribution.count(),
                        &buckets(distribution, &BOUNDS_US, 1e6),
                        None,
                    )?;
            }
        }
        Ok(())
    }
}
