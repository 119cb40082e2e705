//! `ringmq why` and `ringmq trace`: what the flight recorder has.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cli::admin::{Door, Trace, Why};
use crate::runtime::launch::print_block;

use super::super::Failure;
use super::http::{Api, Method, query};
use super::print;
use super::table::shown;

pub(super) fn why(door: &Door, what: &Why) -> Result<(), Failure> {
    let (last, limit) = (what.last.to_string(), what.limit.to_string());
    let pairs = [
        ("client", what.client.as_deref()),
        ("topic", what.topic.as_deref()),
        ("last_s", Some(&*last)),
        ("limit", Some(&*limit)),
    ];
    let answer = Api::new(door)?.ask(Method::GET, &query("/v1/why", &pairs), None)?;
    print(door, &answer, |answer| {
        let mut text = lines(&answer["decisions"]);
        match answer["left_out"].as_u64() {
            Some(0) | None if text.is_empty() => text.push_str("nothing is recorded about it\n"),
            Some(0) | None => {}
            Some(more) => text.push_str(&format!("{more} earlier ones are left out\n")),
        }
        text
    });
    Ok(())
}

pub(super) fn trace(door: &Door, what: &Trace) -> Result<(), Failure> {
    let api = Api::new(door)?;
    let duration = what
        .duration
        .map(|seconds| Duration::from_secs(seconds.into()));
    let began = Instant::now();
    let mut cursor: Option<String> = None;
    while duration.is_none_or(|duration| began.elapsed() < duration) {
        let pairs = [
            ("client", what.client.as_deref()),
            ("topic", what.topic.as_deref()),
            ("payloads", what.payloads.then_some("true")),
            ("cursor", cursor.as_deref()),
        ];
        let answer = api.ask(Method::GET, &query("/v1/trace", &pairs), None)?;
        cursor = answer["cursor"].as_str().map(Into::into);
        if door.json {
            for row in answer["decisions"].as_array().into_iter().flatten() {
                print_block(&format!("{row}\n"));
            }
            for row in answer["payloads"].as_array().into_iter().flatten() {
                print_block(&format!("{row}\n"));
            }
            continue;
        }
        print_block(&lines(&answer["decisions"]));
        for row in answer["payloads"].as_array().into_iter().flatten() {
            let payload = match &row["payload"] {
                Value::Null => &row["payload_hex"],
                text => text,
            };
            print_block(&format!(
                "  payload of {}: {}\n",
                shown(&row["topic"]),
                shown(payload)
            ));
        }
        if let Some(missed @ 1..) = answer["missed"].as_u64() {
            print_block(&format!("  {missed} decisions went by too fast\n"));
        }
    }
    Ok(())
}

/// Decisions, one a line.
fn lines(decisions: &Value) -> String {
    let rows = decisions.as_array().into_iter().flatten();
    rows.map(line).collect()
}

fn line(row: &Value) -> String {
    let at_ms = row["at_unix_ms"].as_u64().unwrap_or(0);
    let in_day = at_ms % 86_400_000;
    let time = format!(
        "{:02}:{:02}:{:02}.{:03}",
        in_day / 3_600_000,
        in_day / 60_000 % 60,
        in_day / 1000 % 60,
        in_day % 1000
    );
    let mut text = format!(
        "{time} UTC  shard {}  {:<12} {}",
        row["shard"],
        shown(&row["what"]),
        match &row["topic"] {
            Value::Null => "(a topic too long ago)".into(),
            topic => shown(topic),
        }
    );
    if let Some(client) = row["client_identifier"].as_str() {
        let way = match row["what"].as_str() {
            Some("received" | "refused") => "from",
            Some("acknowledged") => "by",
            _ => "to",
        };
        text.push_str(&format!("  {way} {}", shown(&Value::from(client))));
    }
    text.push_str(&format!("  QoS {}", row["qos"]));
    if let Some(count) = row["deliveries"].as_u64() {
        text.push_str(&format!("  matched {count} here"));
    }
    if row["other_shards"] == Value::Bool(true) {
        text.push_str(", and other shards");
    }
    if let Some(cause) = row["cause"].as_str() {
        text.push_str(&format!("  cause: {cause}"));
    }
    text.push('\n');
    text
}
