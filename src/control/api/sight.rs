//! The flight recorder: why a message did not arrive, and what happens now.

use std::time::{Duration, Instant};

use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::broker::ask::{Answer, Ask, DecisionRow, RecorderPage};
use crate::mqtt::topic_filter::TopicFilter;
use crate::observability::recorder::Position;

use super::super::listing::row_count;
use super::super::problem::Problem;
use super::super::{State, unix_s};
use super::messages::hex;
use super::{Broker, Caller, LookErrors, Params, needs_operator};

/// Rows that are looked for at most, before the latest are taken.
const FOUND_MAX: usize = 100_000;
/// A trace that finds nothing answers after so long.
const TRACE_WAIT: Duration = Duration::from_millis(500);
/// How often a trace looks.
const TRACE_EVERY: Duration = Duration::from_millis(50);

/// What to look for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WhyQuery {
    /// Client Identifier of a publisher or a receiver.
    client: Option<String>,
    /// Topic Name or Topic Filter.
    topic: Option<String>,
    /// How far back, seconds; 300 if it is not set.
    #[param(minimum = 1, maximum = 4_294_967_295u64, value_type = Option<u64>)]
    last_s: Option<u32>,
    /// Rows at most, the latest; 100 if it is not set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// What became of messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Why {
    /// The decisions, in the order of time.
    decisions: Vec<DecisionRow>,
    /// How many earlier ones were left out, since there are more than `limit`.
    left_out: u64,
}

/// Tells what became of the messages of a client, or on a topic.
#[utoipa::path(get, path = "/v1/why", tag = "sight", params(WhyQuery), responses(
    (status = 200, body = Why), LookErrors,
))]
pub(super) async fn why(
    axum::extract::State(state): Broker,
    Params(query): Params<WhyQuery>,
) -> Result<Json<Why>, Problem> {
    let rows = row_count(query.limit)?;
    check_filter(query.topic.as_deref())?;
    if query.last_s == Some(0) {
        return Err(Problem::bad_request("last_s is a number from 1 on"));
    }
    let last_ms = u64::from(query.last_s.unwrap_or(300)) * 1000;
    let elapsed_ms = u64::try_from(state.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    // The control thread starts with the shards; a second of grace hides the difference.
    let since_ms = (elapsed_ms + 1000).saturating_sub(last_ms + 1000);
    let mut decisions: Vec<DecisionRow> = Vec::new();
    let mut left_out = 0;
    for shard in 0..state.shards.count() {
        let mut from = None;
        loop {
            let ask = Ask::Recorder {
                client: query.client.as_deref().map(Into::into),
                topic: query.topic.as_deref().map(Into::into),
                since_ms,
                from,
            };
            let page = recorder(&state, shard, ask).await?;
            decisions.extend(page.rows);
            if decisions.len() > FOUND_MAX {
                left_out += keep_latest(&mut decisions, rows);
            }
            if page.done {
                break;
            }
            from = Some(page.next);
        }
    }
    left_out += keep_latest(&mut decisions, rows);
    Ok(Json(Why {
        decisions,
        left_out,
    }))
}

/// Sorts by time, a message before its deliveries, and keeps the last; gives how many went.
fn keep_latest(decisions: &mut Vec<DecisionRow>, rows: usize) -> u64 {
    sort(decisions);
    let surplus = decisions.len().saturating_sub(rows);
    decisions.drain(..surplus);
    surplus as u64
}

fn sort(decisions: &mut [DecisionRow]) {
    decisions.sort_by_key(|row| {
        let rank = match &*row.what {
            "received" | "refused" => 0,
            "arrived" => 1,
            "acknowledged" => 3,
            _ => 2,
        };
        (row.at_unix_ms, rank)
    });
}

async fn recorder(state: &State, shard: u16, ask: Ask) -> Result<RecorderPage, Problem> {
    match state.shards.ask(shard, ask).await? {
        Answer::Recorder(page) => Ok(page),
        _ => Err(Problem::unavailable("another answer than was asked for")),
    }
}

fn check_filter(topic: Option<&str>) -> Result<(), Problem> {
    match topic.map(TopicFilter::parse) {
        Some(Err(_)) => Err(Problem::bad_request("topic is no Topic Filter")),
        _ => Ok(()),
    }
}

/// What to trace.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceQuery {
    /// Client Identifier of a publisher or a receiver.
    client: Option<String>,
    /// Topic Name or Topic Filter.
    topic: Option<String>,
    /// Also the payloads of messages on `topic`, which needs the role operator.
    payloads: Option<bool>,
    /// `cursor` of the answer before; without it the trace begins now.
    cursor: Option<String>,
}

/// A payload that passed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PayloadRow {
    /// When, milliseconds since 1970.
    at_unix_ms: u64,
    /// Topic Name.
    topic: String,
    /// Its first bytes, if they are UTF-8.
    #[schema(required)]
    payload: Option<String>,
    /// Its first bytes in hexadecimal digits.
    payload_hex: String,
    /// How long it is.
    payload_bytes: u64,
}

/// What happened since the answer before.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trace {
    /// Decisions, in the order of time.
    decisions: Vec<DecisionRow>,
    /// Payloads of messages from clients.
    payloads: Vec<PayloadRow>,
    /// How many entries went by unread, since there were too many.
    missed: u64,
    /// For the next request.
    cursor: String,
}

/// Waits up to half a second for messages of a client, or on a topic; ask again with the answer's cursor.
#[utoipa::path(get, path = "/v1/trace", tag = "sight", params(TraceQuery), responses(
    (status = 200, body = Trace), LookErrors,
))]
pub(super) async fn trace(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Params(query): Params<TraceQuery>,
) -> Result<Json<Trace>, Problem> {
    check_filter(query.topic.as_deref())?;
    let payloads = query.payloads.unwrap_or(false);
    if payloads {
        needs_operator(&access, "payloads")?;
        if query.topic.is_none() {
            return Err(Problem::bad_request("payloads are shown for a topic"));
        }
    }
    let mut positions = match &query.cursor {
        Some(text) => read_positions(text, state.shards.count())?,
        None => ends(&state).await?,
    };
    let mut trace = Trace {
        decisions: Vec::new(),
        payloads: Vec::new(),
        missed: 0,
        cursor: String::new(),
    };
    let deadline = Instant::now() + TRACE_WAIT;
    loop {
        for (shard, position) in (0..).zip(&mut positions) {
            loop {
                let ask = Ask::Recorder {
                    client: query.client.as_deref().map(Into::into),
                    topic: query.topic.as_deref().map(Into::into),
                    since_ms: 0,
                    from: Some(*position),
                };
                let page = recorder(&state, shard, ask).await?;
                *position = page.next;
                trace.missed += page.missed;
                trace.decisions.extend(page.rows);
                if page.done || trace.decisions.len() > FOUND_MAX {
                    break;
                }
            }
            if payloads && let Some(topic) = &query.topic {
                trace.payloads.extend(passed(&state, shard, topic).await?);
            }
        }
        let nothing = trace.decisions.is_empty() && trace.payloads.is_empty();
        if !nothing || Instant::now() >= deadline {
            break;
        }
        tokio::time::sleep(TRACE_EVERY).await;
    }
    sort(&mut trace.decisions);
    let texts: Vec<_> = positions
        .iter()
        .map(|position| format!("{}.{}", position.flow, position.loss))
        .collect();
    trace.cursor = texts.join("_");
    Ok(Json(trace))
}

async fn ends(state: &State) -> Result<Vec<Position>, Problem> {
    let answers = state.shards.ask_all(|| Ask::RecorderEnd).await?;
    let positions = answers.into_iter().map(|answer| match answer {
        Answer::Recorder(page) => page.next,
        _ => Position::default(),
    });
    Ok(positions.collect())
}

fn read_positions(text: &str, shards: u16) -> Result<Vec<Position>, Problem> {
    let position = |text: &str| {
        let (flow, loss) = text.split_once('.')?;
        Some(Position {
            flow: flow.parse().ok()?,
            loss: loss.parse().ok()?,
        })
    };
    let positions: Option<Vec<_>> = text.split('_').map(position).collect();
    positions
        .filter(|positions| positions.len() == usize::from(shards))
        .ok_or_else(|| Problem::bad_request("the cursor is none that an answer had"))
}

async fn passed(state: &State, shard: u16, topic: &str) -> Result<Vec<PayloadRow>, Problem> {
    let ask = Ask::Payloads {
        filter: topic.into(),
    };
    let Answer::Payloads(payloads) = state.shards.ask(shard, ask).await? else {
        return Ok(Vec::new());
    };
    let elapsed_ms = u64::try_from(state.started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let rows = payloads.into_iter().map(|traced| {
        let age_ms = elapsed_ms.saturating_sub(traced.at_ms);
        PayloadRow {
            at_unix_ms: (unix_s() * 1000).saturating_sub(age_ms),
            topic: traced.topic.into(),
            payload_hex: hex(&traced.payload),
            payload: String::from_utf8(traced.payload.into()).ok(),
            payload_bytes: traced.payload_bytes as u64,
        }
    });
    Ok(rows.collect())
}
