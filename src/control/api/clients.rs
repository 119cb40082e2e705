//! Clients and sessions: lists, one in full, the greatest, and how to be rid of one.

use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::broker::ask::{Answer, Ask, ClientDetail, ClientFilter, ClientRow, Greatest};
use crate::broker::sort_greatest;

use super::super::listing::{Listed, list, row_count};
use super::super::problem::Problem;
use super::super::{State, audit};
use super::{ActErrors, Body, Broker, Caller, DONE, Done, Id, LookErrors, Params};

/// A page of clients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ClientPage {
    /// The clients, in no particular order.
    clients: Vec<ClientRow>,
    /// The cursor of the next page; null if this is the last.
    #[schema(required)]
    next: Option<String>,
}

/// Which clients.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ClientQuery {
    /// Text that the Client Identifier contains.
    search: Option<String>,
    /// An address, with or without port.
    address: Option<String>,
    /// Rows at most; 100 if it is not set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Which sessions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionQuery {
    /// Text that the Client Identifier contains.
    search: Option<String>,
    /// Only sessions with, or only those without a connection.
    connected: Option<bool>,
    /// Rows at most; 100 if it is not set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

async fn page(
    state: &State,
    filter: ClientFilter,
    limit: Option<u32>,
    cursor: Option<String>,
) -> Result<Json<ClientPage>, Problem> {
    let rows = row_count(limit)?;
    let Listed { rows, next } = list(
        state.shards.count(),
        cursor.as_deref(),
        rows,
        |shard, cursor, rows| {
            let filter = filter.clone();
            async move {
                let ask = Ask::Clients {
                    filter,
                    cursor,
                    rows,
                };
                match state.shards.ask(shard, ask).await? {
                    Answer::Clients(page) => Ok((page.rows, page.next)),
                    _ => Err(Problem::unavailable("another answer than was asked for")),
                }
            }
        },
    )
    .await?;
    Ok(Json(ClientPage {
        clients: rows,
        next,
    }))
}

/// Lists clients that are connected.
#[utoipa::path(get, path = "/v1/clients", tag = "clients", params(ClientQuery), responses(
    (status = 200, body = ClientPage), LookErrors,
))]
pub(super) async fn list_clients(
    axum::extract::State(state): Broker,
    Params(query): Params<ClientQuery>,
) -> Result<Json<ClientPage>, Problem> {
    let filter = ClientFilter {
        search: query.search.map(Into::into),
        connected: Some(true),
        address: query.address.map(Into::into),
    };
    page(&state, filter, query.limit, query.cursor).await
}

/// Lists sessions, with and without a connection.
#[utoipa::path(get, path = "/v1/sessions", tag = "clients", params(SessionQuery), responses(
    (status = 200, body = ClientPage), LookErrors,
))]
pub(super) async fn list_sessions(
    axum::extract::State(state): Broker,
    Params(query): Params<SessionQuery>,
) -> Result<Json<ClientPage>, Problem> {
    let filter = ClientFilter {
        search: query.search.map(Into::into),
        connected: query.connected,
        address: None,
    };
    page(&state, filter, query.limit, query.cursor).await
}

/// Shows one client in full.
#[utoipa::path(get, path = "/v1/clients/{client}", tag = "clients",
    params(("client" = String, Path, description = "Client Identifier")), responses(
    (status = 200, body = ClientDetail), LookErrors,
))]
pub(super) async fn client(
    axum::extract::State(state): Broker,
    Id(client): Id,
) -> Result<Json<ClientDetail>, Problem> {
    let home = state.shards.home_of(&client);
    match state.shards.ask(home, Ask::Client(client.into())).await? {
        Answer::Client(Some(client)) => Ok(Json(*client)),
        _ => Err(no_session()),
    }
}

pub(super) fn no_session() -> Problem {
    Problem::not_found("no session has this Client Identifier")
}

/// By what clients are compared.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    /// Bytes held for them.
    Bytes,
    /// Messages a second.
    Rate,
    /// Messages that wait.
    Queue,
}

/// Which clients are the greatest.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct TopQuery {
    /// By what; bytes if it is not set.
    #[param(inline)]
    by: Option<By>,
    /// How many; 100 if it is not set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// The greatest clients.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Top {
    /// The greatest first.
    clients: Vec<ClientRow>,
}

/// Finds the greatest clients by bytes held, message rate or queue. Looks at all sessions.
#[utoipa::path(get, path = "/v1/top", tag = "clients", params(TopQuery), responses(
    (status = 200, body = Top), LookErrors,
))]
pub(super) async fn top(
    axum::extract::State(state): Broker,
    Params(query): Params<TopQuery>,
) -> Result<Json<Top>, Problem> {
    let rows = row_count(query.limit)?;
    let by = match query.by.unwrap_or(By::Bytes) {
        By::Bytes => Greatest::Bytes,
        By::Rate => Greatest::Rate,
        By::Queue => Greatest::Queue,
    };
    let mut greatest: Vec<ClientRow> = Vec::new();
    for shard in 0..state.shards.count() {
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let ask = Ask::Top {
                by,
                rows,
                cursor: from,
            };
            let Answer::Clients(page) = state.shards.ask(shard, ask).await? else {
                break;
            };
            cursor = page.next;
            greatest.extend(page.rows);
            sort_greatest(&mut greatest, by);
            greatest.truncate(rows);
        }
    }
    Ok(Json(Top { clients: greatest }))
}

/// Why a client is cut off.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Kick {
    /// What a 5.0 client is told as Reason String.
    #[schema(max_length = 256)]
    reason: Option<String>,
}

/// Ends the connection of a client. Its session lives on as the client asked for.
#[utoipa::path(post, path = "/v1/clients/{client}/kick", tag = "clients",
    params(("client" = String, Path, description = "Client Identifier")), request_body = Kick, responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn kick(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Id(client): Id,
    Body(kick): Body<Kick>,
) -> Result<Json<Done>, Problem> {
    let reason = text(kick.reason.unwrap_or_default(), "reason", 256)?;
    let home = state.shards.home_of(&client);
    let ask = Ask::Kick {
        client: client.as_str().into(),
        reason: reason.as_str().into(),
    };
    let done = matches!(state.shards.ask(home, ask).await?, Answer::Done(true));
    audit::done(&access, "kick", &client, &reason, done);
    match done {
        true => Ok(DONE),
        false => Err(Problem::not_found(
            "no client with this identifier is connected",
        )),
    }
}

/// Deletes a session: ends its connection, its subscriptions and its queues. Its Will is published.
#[utoipa::path(delete, path = "/v1/sessions/{client}", tag = "clients",
    params(("client" = String, Path, description = "Client Identifier")), responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn delete_session(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Id(client): Id,
) -> Result<Json<Done>, Problem> {
    let home = state.shards.home_of(&client);
    let ask = Ask::DeleteSession(client.as_str().into());
    let done = matches!(state.shards.ask(home, ask).await?, Answer::Done(true));
    audit::done(&access, "delete session", &client, "", done);
    match done {
        true => Ok(DONE),
        false => Err(no_session()),
    }
}

/// A text that MQTT can carry: not too long, and without U+0000.
pub(super) fn text(text: String, name: &str, bytes_max: usize) -> Result<String, Problem> {
    match text.len() <= bytes_max && !text.contains(char::is_control) {
        true => Ok(text),
        false => Err(Problem::unprocessable(format!(
            "{name} is a text of up to {bytes_max} bytes without control characters"
        ))),
    }
}
