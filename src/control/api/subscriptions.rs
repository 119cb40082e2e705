//! Subscriptions and shared groups: lists, and changes on behalf of a client.

use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::broker::ask::{Answer, Ask, GroupRow, SubscriptionRow};
use crate::mqtt::data_types::QoS;
use crate::mqtt::packet::subscribe::{RetainHandling, SubscriptionOptions};

use super::super::listing::{self, Listed, row_count};
use super::super::problem::Problem;
use super::super::{State, audit};
use super::clients::{no_session, text};
use super::{ActErrors, Body, Broker, Caller, DONE, Done, Id, LookErrors, PageQuery, Params};

/// A page of subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SubscriptionPage {
    /// The subscriptions, in no particular order.
    subscriptions: Vec<SubscriptionRow>,
    /// The cursor of the next page; null if this is the last.
    #[schema(required)]
    next: Option<String>,
}

/// Which subscriptions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriptionQuery {
    /// Text that the Topic Filter contains.
    search: Option<String>,
    /// Rows at most; 100 if it is not set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

async fn ask(
    state: &State,
    shard: u16,
    ask: Ask,
) -> Result<(Vec<SubscriptionRow>, Option<u64>), Problem> {
    match state.shards.ask(shard, ask).await? {
        Answer::Subscriptions(page) => Ok((page.rows, page.next)),
        _ => Err(Problem::unavailable("another answer than was asked for")),
    }
}

/// Lists all subscriptions that are not shared; shared ones are in `/v1/groups` and with their clients.
#[utoipa::path(get, path = "/v1/subscriptions", tag = "subscriptions", params(SubscriptionQuery), responses(
    (status = 200, body = SubscriptionPage), LookErrors,
))]
pub(super) async fn list(
    axum::extract::State(state): Broker,
    Params(query): Params<SubscriptionQuery>,
) -> Result<Json<SubscriptionPage>, Problem> {
    let rows = row_count(query.limit)?;
    let search: Option<Box<str>> = query.search.map(Into::into);
    let (state, cursor) = (&state, query.cursor.as_deref());
    let Listed { rows, next } =
        listing::list(state.shards.count(), cursor, rows, |shard, cursor, rows| {
            let question = Ask::Subscriptions {
                client: None,
                search: search.clone(),
                cursor,
                rows,
            };
            ask(state, shard, question)
        })
        .await?;
    Ok(Json(SubscriptionPage {
        subscriptions: rows,
        next,
    }))
}

/// Lists the subscriptions of a client, shared ones included.
#[utoipa::path(get, path = "/v1/clients/{client}/subscriptions", tag = "subscriptions",
    params(("client" = String, Path, description = "Client Identifier"), SubscriptionQuery), responses(
    (status = 200, body = SubscriptionPage), LookErrors,
))]
pub(super) async fn of_client(
    axum::extract::State(state): Broker,
    Id(client): Id,
    Params(query): Params<SubscriptionQuery>,
) -> Result<Json<SubscriptionPage>, Problem> {
    let rows = row_count(query.limit)?;
    let home = state.shards.home_of(&client);
    let known = state.shards.ask(home, Ask::Client(client.as_str().into()));
    if matches!(known.await?, Answer::Client(None)) {
        return Err(no_session());
    }
    let cursor = listing::number(query.cursor.as_deref())?;
    let question = Ask::Subscriptions {
        client: Some(client.into()),
        search: query.search.map(Into::into),
        cursor,
        rows,
    };
    let (subscriptions, next) = ask(&state, home, question).await?;
    Ok(Json(SubscriptionPage {
        subscriptions,
        next: next.map(|next| next.to_string()),
    }))
}

/// A subscription to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSubscription {
    /// Topic Filter; `$share/NAME/FILTER` is shared.
    #[schema(min_length = 1)]
    filter: String,
    /// Maximum QoS; 0 if it is not set.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 2)]
    qos: u8,
    /// Nothing of its own.
    #[serde(default)]
    no_local: bool,
    /// The RETAIN flag as it was published.
    #[serde(default)]
    retain_as_published: bool,
    /// Whether the client gets what is retained; it does if this is not set.
    retained: Option<bool>,
}

/// Subscribes on behalf of a client that has a session.
#[utoipa::path(post, path = "/v1/clients/{client}/subscriptions", tag = "subscriptions",
    params(("client" = String, Path, description = "Client Identifier")), request_body = NewSubscription, responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn subscribe(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Id(client): Id,
    Body(new): Body<NewSubscription>,
) -> Result<Json<Done>, Problem> {
    let filter = text(new.filter, "filter", usize::from(u16::MAX))?;
    let qos = QoS::from_bits(new.qos)
        .ok_or_else(|| Problem::unprocessable("qos is a number from 0 to 2"))?;
    let options = SubscriptionOptions {
        qos,
        no_local: new.no_local,
        retain_as_published: new.retain_as_published,
        retain_handling: match new.retained {
            Some(false) => RetainHandling::DoNotSend,
            _ => RetainHandling::SendAtSubscribe,
        },
    };
    let home = state.shards.home_of(&client);
    let question = Ask::Subscribe {
        client: client.as_str().into(),
        filter: filter.as_str().into(),
        options,
    };
    let done = matches!(state.shards.ask(home, question).await?, Answer::Done(true));
    audit::done(&access, "subscribe", &client, &filter, done);
    match done {
        true => Ok(DONE),
        false => Err(no_session()),
    }
}

/// Which subscription.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FilterQuery {
    /// Topic Filter, as it was subscribed to.
    filter: String,
}

/// Unsubscribes on behalf of a client.
#[utoipa::path(delete, path = "/v1/clients/{client}/subscriptions", tag = "subscriptions",
    params(("client" = String, Path, description = "Client Identifier"), FilterQuery), responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn unsubscribe(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Id(client): Id,
    Params(query): Params<FilterQuery>,
) -> Result<Json<Done>, Problem> {
    let home = state.shards.home_of(&client);
    let question = Ask::Unsubscribe {
        client: client.as_str().into(),
        filter: query.filter.as_str().into(),
    };
    let done = matches!(state.shards.ask(home, question).await?, Answer::Done(true));
    audit::done(&access, "unsubscribe", &client, &query.filter, done);
    match done {
        true => Ok(DONE),
        false => Err(Problem::not_found("the client has no such subscription")),
    }
}

/// A page of shared groups.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupPage {
    /// The groups, one row for each shard that has members.
    groups: Vec<GroupRow>,
    /// The cursor of the next page; null if this is the last.
    #[schema(required)]
    next: Option<String>,
}

/// Lists shared groups.
#[utoipa::path(get, path = "/v1/groups", tag = "subscriptions", params(PageQuery), responses(
    (status = 200, body = GroupPage), LookErrors,
))]
pub(super) async fn groups(
    axum::extract::State(state): Broker,
    Params(query): Params<PageQuery>,
) -> Result<Json<GroupPage>, Problem> {
    let rows = row_count(query.limit)?;
    let (state, cursor) = (&state, query.cursor.as_deref());
    let Listed { rows, next } = listing::list(
        state.shards.count(),
        cursor,
        rows,
        |shard, cursor, rows| async move {
            match state
                .shards
                .ask(shard, Ask::Groups { cursor, rows })
                .await?
            {
                Answer::Groups(page) => Ok((page.rows, page.next)),
                _ => Err(Problem::unavailable("another answer than was asked for")),
            }
        },
    )
    .await?;
    Ok(Json(GroupPage { groups: rows, next }))
}
