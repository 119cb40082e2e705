//! The broker in numbers: status, latencies, metrics.

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::broker::ask::{Answer, Ask, ShardStats};
use crate::observability::counters::Counters;
use crate::observability::latency::{Distribution, Stages, Turns};

use super::super::problem::Problem;
use super::super::{State, lock, metrics, unix_s};
use super::{Broker, LookErrors};

/// The stats of all shards.
pub(in super::super) async fn stats(state: &State) -> Result<Vec<ShardStats>, Problem> {
    let answers = state.shards.ask_all(|| Ask::Stats).await?;
    let stats = answers.into_iter().filter_map(|answer| match answer {
        Answer::Stats(stats) => Some(*stats),
        _ => None,
    });
    Ok(stats.collect())
}

/// The broker at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// Its version.
    version: String,
    /// For how long it runs, seconds.
    uptime_s: u64,
    /// The time of this answer, milliseconds since 1970.
    at_unix_ms: u64,
    /// Whether it is shutting down.
    draining: bool,
    /// Network Connections with a session.
    connections: u64,
    /// Sessions, with and without a connection.
    sessions: u64,
    /// Subscriptions.
    subscriptions: u64,
    /// Retained messages.
    retained_messages: u64,
    /// Bytes of them.
    retained_bytes: u64,
    /// PUBLISH packets received so far.
    messages_received: u64,
    /// PUBLISH packets sent so far.
    messages_sent: u64,
    /// Bytes received so far.
    bytes_received: u64,
    /// Bytes sent so far.
    bytes_sent: u64,
    /// Messages dropped for a receiver so far.
    messages_dropped: u64,
    /// Connections accepted so far.
    connections_accepted: u64,
    /// Messages that wait in outboxes, as last counted.
    queued_messages: u64,
    /// Bytes of them.
    queued_bytes: u64,
    /// Messages that are not acknowledged.
    in_flight_messages: u64,
    /// Windows that have been shut for long.
    windows_shut: u64,
    /// Memory of the process, bytes.
    resident_bytes: u64,
    /// Each shard.
    shards: Vec<ShardRow>,
}

/// One shard at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShardRow {
    /// Its number.
    shard: u16,
    /// Connections that are at home here.
    connections: u64,
    /// Sessions.
    sessions: u64,
    /// PUBLISH packets received so far.
    messages_received: u64,
    /// PUBLISH packets sent so far.
    messages_sent: u64,
    /// CPU time of its thread so far, milliseconds.
    cpu_ms: u64,
    /// Messages in its inbox.
    inbox_depth: u64,
    /// Median of its turns, microseconds.
    turn_p50_us: u64,
    /// 99 of 100 turns are at most so long, microseconds.
    turn_p99_us: u64,
    /// Turns that took longer than `stall_report_ms`.
    stalls: u64,
}

/// Shows the broker at a glance.
#[utoipa::path(get, path = "/v1/status", tag = "sight", responses((status = 200, body = Status), LookErrors))]
pub(super) async fn status(axum::extract::State(state): Broker) -> Result<Json<Status>, Problem> {
    let stats = stats(&state).await?;
    let mut sum = Counters::default();
    for shard in &stats {
        sum.add(&shard.counters);
    }
    let census = *lock(&state.census);
    Ok(Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        uptime_s: state.started.elapsed().as_secs(),
        at_unix_ms: unix_s() * 1000,
        draining: state.draining.load(std::sync::atomic::Ordering::Relaxed),
        connections: sum.connections,
        sessions: sum.sessions,
        subscriptions: sum.subscriptions,
        retained_messages: sum.retained_messages,
        retained_bytes: sum.retained_bytes,
        messages_received: sum.publish_received_total(),
        messages_sent: sum.publish_sent_total(),
        bytes_received: sum.bytes_received,
        bytes_sent: sum.bytes_sent,
        messages_dropped: sum.dropped_total(),
        connections_accepted: sum.connections_accepted,
        queued_messages: census.queued_messages,
        queued_bytes: census.queued_bytes,
        in_flight_messages: census.in_flight_messages,
        windows_shut: census.windows_shut,
        resident_bytes: metrics::resident_bytes(),
        shards: stats.iter().map(shard_row).collect(),
    }))
}

fn shard_row(stats: &ShardStats) -> ShardRow {
    ShardRow {
        shard: stats.shard,
        connections: stats.counters.connections,
        sessions: stats.counters.sessions,
        messages_received: stats.counters.publish_received_total(),
        messages_sent: stats.counters.publish_sent_total(),
        cpu_ms: stats.cpu_ns / 1_000_000,
        inbox_depth: stats.inbox_depth,
        turn_p50_us: stats.turns.time_us.quantile(0.5),
        turn_p99_us: stats.turns.time_us.quantile(0.99),
        stalls: stats.turns.stalls.iter().sum(),
    }
}

/// Percentiles of one stage, microseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StageRow {
    /// receive_to_route, route_to_send, publish_to_acknowledgement or turn.
    stage: String,
    /// How many values there are.
    count: u64,
    /// The median.
    p50_us: u64,
    /// 99 of 100 are at most so long.
    p99_us: u64,
    /// 999 of 1000.
    p999_us: u64,
    /// The longest.
    max_us: u64,
}

/// Latencies from inside, over all shards, since the start.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Latency {
    /// Each stage.
    stages: Vec<StageRow>,
}

/// Shows where time goes inside the broker: percentiles of each stage since the start.
#[utoipa::path(get, path = "/v1/latency", tag = "sight", responses((status = 200, body = Latency), LookErrors))]
pub(super) async fn latency(axum::extract::State(state): Broker) -> Result<Json<Latency>, Problem> {
    let mut stages = Stages::default();
    let mut turns = Turns::default();
    for shard in stats(&state).await? {
        stages.add(&shard.stages);
        turns.time_us.add(&shard.turns.time_us);
    }
    let mut rows: Vec<_> = stages
        .all()
        .map(|(stage, distribution)| stage_row(stage, distribution))
        .into();
    rows.push(stage_row("turn", &turns.time_us));
    Ok(Json(Latency { stages: rows }))
}

fn stage_row(stage: &str, distribution: &Distribution) -> StageRow {
    StageRow {
        stage: stage.into(),
        count: distribution.count(),
        p50_us: distribution.quantile(0.5),
        p99_us: distribution.quantile(0.99),
        p999_us: distribution.quantile(0.999),
        max_us: distribution.max(),
    }
}

/// All metrics in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "sight", responses(
    (status = 200, body = String, content_type = "application/openmetrics-text"), LookErrors,
))]
pub(super) async fn metrics(axum::extract::State(state): Broker) -> Result<Response, Problem> {
    let stats = stats(&state).await?;
    let census = *lock(&state.census);
    let dropped_lines = state.log.dropped_lines() as u64;
    let text = metrics::encode(stats, census, dropped_lines)
        .map_err(|_| Problem::unavailable("the metrics cannot be written"))?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
