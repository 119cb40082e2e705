//! Bans by Client Identifier, User Name or address, for a time or for as long as the broker runs.

use std::sync::Arc;

use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::broker::ask::{Answer, Ask, ClientFilter};

use super::super::bans::{Ban, BanKind};
use super::super::problem::Problem;
use super::super::{State, audit, lock, unix_s};
use super::clients::text;
use super::{ActErrors, Body, Broker, Caller, DONE, Done, LookErrors, Params};

/// What a ban is about.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A Client Identifier.
    Client,
    /// A User Name.
    User,
    /// An address without port.
    Address,
}

impl Kind {
    fn kind(self) -> BanKind {
        match self {
            Self::Client => BanKind::Client,
            Self::User => BanKind::User,
            Self::Address => BanKind::Address,
        }
    }
}

/// A ban that is in force.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BanRow {
    /// client, user or address.
    kind: String,
    /// Who.
    value: String,
    /// Until when, seconds since 1970; null if it has no end.
    #[schema(required)]
    until_unix_s: Option<u64>,
    /// Why.
    reason: String,
    /// Who said so.
    by: String,
}

/// All bans.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BanList {
    /// In the order in which they were made.
    bans: Vec<BanRow>,
}

/// Lists the bans that are in force.
#[utoipa::path(get, path = "/v1/bans", tag = "bans", responses((status = 200, body = BanList), LookErrors))]
pub(super) async fn list(axum::extract::State(state): Broker) -> Json<BanList> {
    let bans = lock(&state.bans);
    let rows = bans.all().iter().map(|ban| BanRow {
        kind: ban.kind.name().into(),
        value: ban.value.to_string(),
        until_unix_s: Some(ban.until).filter(|until| *until != u64::MAX),
        reason: ban.reason.clone(),
        by: ban.by.clone(),
    });
    Json(BanList {
        bans: rows.collect(),
    })
}

/// A ban to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewBan {
    #[schema(inline)]
    kind: Kind,
    /// The Client Identifier, the User Name, or the address without port.
    #[schema(min_length = 1)]
    value: String,
    /// For how long; until the broker ends if it is not set.
    #[schema(minimum = 1, maximum = 4_294_967_295u64, value_type = Option<u64>)]
    seconds: Option<u32>,
    /// Why, for those who read the list.
    #[schema(max_length = 256)]
    reason: Option<String>,
}

/// Bans: whoever it is about may not connect, and is cut off if it is a client or an address.
#[utoipa::path(post, path = "/v1/bans", tag = "bans", request_body = NewBan, responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn add(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Body(new): Body<NewBan>,
) -> Result<Json<Done>, Problem> {
    let kind = new.kind.kind();
    let mut value = text(new.value, "value", usize::from(u16::MAX))?;
    if value.is_empty() {
        return Err(Problem::unprocessable("value is empty"));
    }
    if kind == BanKind::Address {
        let address: std::net::IpAddr = value
            .parse()
            .map_err(|_| Problem::unprocessable("value is no address like 192.0.2.7"))?;
        value = address.to_canonical().to_string();
    }
    let reason = text(new.reason.unwrap_or_default(), "reason", 256)?;
    if new.seconds == Some(0) {
        return Err(Problem::unprocessable("seconds is a number from 1 on"));
    }
    let ban = Ban {
        kind,
        value: value.as_str().into(),
        until: new
            .seconds
            .map_or(u64::MAX, |seconds| unix_s() + u64::from(seconds)),
        reason: reason.clone(),
        by: access.actor.clone(),
    };
    if !lock(&state.bans).set(ban) {
        return Err(Problem::unprocessable("there are too many bans"));
    }
    tell(&state).await?;
    let detail = format!("{} {reason}", kind.name());
    audit::done(&access, "ban", &value, &detail, true);
    match kind {
        BanKind::Client => cut_off(&state, &value).await?,
        BanKind::Address => cut_off_address(&state, &value).await?,
        BanKind::User => {}
    }
    Ok(DONE)
}

async fn tell(state: &State) -> Result<(), Problem> {
    let bans = lock(&state.bans).in_force();
    state
        .shards
        .ask_all(|| Ask::SetBans(Arc::clone(&bans)))
        .await
        .map(drop)
}

async fn cut_off(state: &State, client: &str) -> Result<(), Problem> {
    let ask = Ask::Kick {
        client: client.into(),
        reason: "banned".into(),
    };
    let home = state.shards.home_of(client);
    state.shards.ask(home, ask).await.map(drop)
}

async fn cut_off_address(state: &State, address: &str) -> Result<(), Problem> {
    for shard in 0..state.shards.count() {
        let mut cursor = Some(0);
        while let Some(from) = cursor {
            let ask = Ask::Clients {
                filter: ClientFilter {
                    search: None,
                    connected: Some(true),
                    address: Some(address.into()),
                },
                cursor: from,
                rows: usize::MAX,
            };
            let Answer::Clients(page) = state.shards.ask(shard, ask).await? else {
                break;
            };
            cursor = page.next;
            for row in page.rows {
                cut_off(state, &row.client_identifier).await?;
            }
        }
    }
    Ok(())
}

/// Which ban.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct BanQuery {
    /// What it is about.
    #[param(inline)]
    kind: Kind,
    /// Who.
    value: String,
}

/// Lifts a ban.
#[utoipa::path(delete, path = "/v1/bans", tag = "bans", params(BanQuery), responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn lift(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Params(query): Params<BanQuery>,
) -> Result<Json<Done>, Problem> {
    let done = lock(&state.bans).remove(query.kind.kind(), &query.value);
    tell(&state).await?;
    audit::done(
        &access,
        "lift ban",
        &query.value,
        query.kind.kind().name(),
        done,
    );
    match done {
        true => Ok(DONE),
        false => Err(Problem::not_found("there is no such ban")),
    }
}
