//! Retained messages, and a message from an administrator.

use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::broker::ask::{AdminMessage, Answer, Ask, RetainedRow};
use crate::mqtt::data_types::QoS;
use crate::mqtt::properties::{Properties, encode_user_properties, user_properties_of};
use crate::mqtt::topic_filter::TopicFilter;
use crate::mqtt::topic_name;
use crate::routing::retained::RetainedCursor;

use super::super::audit;
use super::super::listing::{row_count, split_cursor};
use super::super::problem::Problem;
use super::clients::text;
use super::{ActErrors, Body, Broker, Caller, DONE, Done, LookErrors, Params, needs_operator};

/// Which retained messages.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RetainedQuery {
    /// Topic Filter; all but those that begin with `$` if it is not set.
    filter: Option<String>,
    /// Rows at most; 100 if it is not set. A page may have a few more.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// A page of retained messages.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetainedPage {
    /// In the order of topics within each shard.
    messages: Vec<RetainedRow>,
    /// The cursor of the next page; null if this is the last.
    #[schema(required)]
    next: Option<String>,
}

/// Lists retained messages without their payloads.
#[utoipa::path(get, path = "/v1/retained", tag = "messages", params(RetainedQuery), responses(
    (status = 200, body = RetainedPage), LookErrors,
))]
pub(super) async fn list_retained(
    axum::extract::State(state): Broker,
    Params(query): Params<RetainedQuery>,
) -> Result<Json<RetainedPage>, Problem> {
    let rows = row_count(query.limit)?;
    let filter = query.filter.unwrap_or_else(|| "#".into());
    match TopicFilter::parse(&filter) {
        Ok(parsed) if parsed.share_name.is_none() => {}
        _ => return Err(Problem::bad_request("filter is no Topic Filter")),
    }
    let shards = state.shards.count();
    let (mut shard, from) = split_cursor(query.cursor.as_deref(), shards)?;
    let bad = || Problem::bad_request("the cursor is none that an answer had");
    let mut cursor = match from {
        Some(text) => Some(RetainedCursor::from_text(text).ok_or_else(bad)?),
        None => None,
    };
    let mut messages = Vec::new();
    let began = std::time::Instant::now();
    loop {
        let ask = Ask::Retained {
            filter: filter.as_str().into(),
            cursor: cursor.take(),
        };
        let Answer::Retained(more, next) = state.shards.ask(shard, ask).await? else {
            return Err(Problem::unavailable("another answer than was asked for"));
        };
        messages.extend(more);
        let rest = match next {
            Some(next) => {
                let text = next.to_text();
                cursor = Some(next);
                text
            }
            None => {
                shard += 1;
                String::new()
            }
        };
        if shard >= shards {
            return Ok(Json(RetainedPage {
                messages,
                next: None,
            }));
        }
        if messages.len() >= rows || began.elapsed().as_millis() >= 30 {
            return Ok(Json(RetainedPage {
                messages,
                next: Some(format!("{shard}.{rest}")),
            }));
        }
    }
}

/// Which topic.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicQuery {
    /// Topic Name.
    topic: String,
}

/// A retained message.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RetainedMessage {
    /// What a list has of it.
    #[serde(flatten)]
    row: RetainedRow,
    /// The payload, if it is UTF-8.
    #[schema(required)]
    payload: Option<String>,
    /// The payload in hexadecimal digits.
    payload_hex: String,
}

/// Shows a retained message with its payload. Needs the role operator.
#[utoipa::path(get, path = "/v1/retained/message", tag = "messages", params(TopicQuery), responses(
    (status = 200, body = RetainedMessage), LookErrors,
))]
pub(super) async fn retained_message(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Params(query): Params<TopicQuery>,
) -> Result<Json<RetainedMessage>, Problem> {
    needs_operator(&access, "payloads")?;
    let owner = state.shards.owner_of(&query.topic);
    let ask = Ask::RetainedMessage(query.topic.into());
    match state.shards.ask(owner, ask).await? {
        Answer::RetainedMessage(Some((row, payload))) => Ok(Json(RetainedMessage {
            row,
            payload_hex: hex(&payload),
            payload: String::from_utf8(payload).ok(),
        })),
        _ => Err(Problem::not_found("nothing is retained for this topic")),
    }
}

/// Bytes in hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Deletes a retained message. Subscribers are not told.
#[utoipa::path(delete, path = "/v1/retained/message", tag = "messages", params(TopicQuery), responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn delete_retained(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Params(query): Params<TopicQuery>,
) -> Result<Json<Done>, Problem> {
    let owner = state.shards.owner_of(&query.topic);
    let ask = Ask::DeleteRetained(query.topic.as_str().into());
    let done = matches!(state.shards.ask(owner, ask).await?, Answer::Done(true));
    audit::done(&access, "delete retained", &query.topic, "", done);
    match done {
        true => Ok(DONE),
        false => Err(Problem::not_found("nothing is retained for this topic")),
    }
}

/// A User Property.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UserProperty {
    name: String,
    value: String,
}

/// A message to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewMessage {
    /// Topic Name.
    #[schema(min_length = 1)]
    topic: String,
    /// Payload as a text; empty if neither it nor `payload_hex` is set.
    payload: Option<String>,
    /// Payload in hexadecimal digits, instead.
    #[schema(pattern = "^([0-9a-fA-F]{2})*$")]
    payload_hex: Option<String>,
    /// QoS; 0 if it is not set.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2)]
    qos: u8,
    /// Whether it is retained; an empty payload clears.
    #[serde(default)]
    retain: bool,
    /// Message Expiry Interval, seconds.
    #[schema(minimum = 0, maximum = 4_294_967_295u64, value_type = Option<u64>)]
    message_expiry_interval_s: Option<u32>,
    /// Content Type.
    content_type: Option<String>,
    /// Response Topic.
    response_topic: Option<String>,
    /// Correlation Data as a text.
    correlation_data: Option<String>,
    /// User Properties.
    #[serde(default)]
    user_properties: Vec<UserProperty>,
}

/// Publishes a message. It comes from the broker itself: no client is its publisher.
#[utoipa::path(post, path = "/v1/publish", tag = "messages", request_body = NewMessage, responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn publish(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Body(new): Body<NewMessage>,
) -> Result<Json<Done>, Problem> {
    let message = message(new)?;
    let levels_max = usize::from(state.config.message.topic_levels_max);
    if topic_name::level_count(&message.topic) > levels_max
        || message.topic.len() > usize::from(state.config.message.topic_bytes_max)
    {
        return Err(Problem::unprocessable(
            "the topic is over topic_bytes_max or topic_levels_max",
        ));
    }
    let topic = message.topic.clone();
    let detail = format!(
        "qos {} retain {} {} bytes",
        message.qos as u8,
        message.retain,
        message.payload.len()
    );
    let shard = state.shards.owner_of(&topic);
    let ask = Ask::Publish(Box::new(message));
    let done = matches!(state.shards.ask(shard, ask).await?, Answer::Done(true));
    audit::done(&access, "publish", &topic, &detail, done);
    Ok(DONE)
}

fn message(new: NewMessage) -> Result<AdminMessage, Problem> {
    let most = usize::from(u16::MAX);
    let topic = text(new.topic, "topic", most)?;
    if topic_name::validate(&topic).is_err() {
        return Err(Problem::unprocessable("topic is no Topic Name"));
    }
    let qos = QoS::from_bits(new.qos)
        .ok_or_else(|| Problem::unprocessable("qos is a number from 0 to 2"))?;
    let payload = match (new.payload, new.payload_hex) {
        (Some(_), Some(_)) => {
            return Err(Problem::unprocessable(
                "payload and payload_hex exclude each other",
            ));
        }
        (Some(text), None) => text.into_bytes(),
        (None, Some(digits)) => unhex(&digits)
            .ok_or_else(|| Problem::unprocessable("payload_hex is not hexadecimal"))?,
        (None, None) => Vec::new(),
    };
    let optional =
        |value: Option<String>, name| value.map(|value| text(value, name, most)).transpose();
    let content_type = optional(new.content_type, "content_type")?;
    let response_topic = optional(new.response_topic, "response_topic")?;
    if response_topic
        .as_ref()
        .is_some_and(|topic| topic_name::validate(topic).is_err())
    {
        return Err(Problem::unprocessable("response_topic is no Topic Name"));
    }
    let correlation_data = optional(new.correlation_data, "correlation_data")?;
    let mut pairs = Vec::new();
    for property in new.user_properties {
        let name = text(property.name, "a User Property's name", most)?;
        pairs.push((name, text(property.value, "a User Property's value", most)?));
    }
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let user_properties = encode_user_properties(&pairs);
    let mut forwarded_properties = Vec::new();
    Properties {
        user_properties: user_properties_of(&user_properties),
        content_type: content_type.as_deref(),
        response_topic: response_topic.as_deref(),
        correlation_data: correlation_data.as_deref().map(str::as_bytes),
        ..Properties::default()
    }
    .encode_forwarded(&mut forwarded_properties);
    Ok(AdminMessage {
        topic: topic.into(),
        payload,
        qos,
        retain: new.retain,
        forwarded_properties,
        expiry_s: new.message_expiry_interval_s,
    })
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let pairs = (0..digits.len()).step_by(2);
    pairs
        .map(|at| {
            u8::from_str_radix(digits.get(at..at + 2)?, 16)
                .ok()
                .filter(|_| !digits[at..].starts_with('+'))
        })
        .collect()
}
