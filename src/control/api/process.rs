//! The process: health, readiness, the level of the log, reload, drain.

use std::sync::atomic::Ordering;

use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::broker::ask::Ask;
use crate::config::keys::LOG_LEVELS;

use super::super::problem::Problem;
use super::super::{audit, lock};
use super::{ActErrors, Body, Broker, Caller, DONE, Done, LookErrors};

/// How the broker is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Health {
    /// ok, or what is wrong.
    status: String,
}

/// Whether the broker lives: every shard takes its turns. Needs no token.
#[utoipa::path(get, path = "/health", tag = "process", security(()), responses(
    (status = 200, body = Health), (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn health(axum::extract::State(state): Broker) -> Result<Json<Health>, Problem> {
    state.shards.ask_all(|| Ask::RecorderEnd).await?;
    Ok(Json(Health {
        status: "ok".into(),
    }))
}

/// Whether the broker takes new connections. Needs no token.
#[utoipa::path(get, path = "/ready", tag = "process", security(()), responses(
    (status = 200, body = Health), (status = 503, body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn ready(axum::extract::State(state): Broker) -> Result<Json<Health>, Problem> {
    if state.draining.load(Ordering::Relaxed) {
        return Err(Problem::unavailable("the broker is shutting down"));
    }
    state.shards.ask_all(|| Ask::RecorderEnd).await?;
    Ok(Json(Health {
        status: "ok".into(),
    }))
}

/// What is logged.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogLevel {
    /// error, warn, info, debug or trace.
    #[schema(pattern = "^(error|warn|info|debug|trace)$")]
    level: String,
}

/// Shows the level of the log.
#[utoipa::path(get, path = "/v1/log", tag = "process", responses((status = 200, body = LogLevel), LookErrors))]
pub(super) async fn log(axum::extract::State(state): Broker) -> Json<LogLevel> {
    let level = lock(&state.log_config).level.clone();
    Json(LogLevel { level })
}

/// Changes the level of the log, until the configuration is read again.
#[utoipa::path(put, path = "/v1/log", tag = "process", request_body = LogLevel, responses(
    (status = 200, body = Done), ActErrors,
))]
pub(super) async fn set_log(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
    Body(new): Body<LogLevel>,
) -> Result<Json<Done>, Problem> {
    if !LOG_LEVELS.contains(&new.level.as_str()) {
        return Err(Problem::unprocessable(
            "level is error, warn, info, debug or trace",
        ));
    }
    let mut config = lock(&state.log_config);
    config.level.clone_from(&new.level);
    state
        .log
        .set(&config)
        .map_err(|cause| Problem::new(StatusCode::UNPROCESSABLE_ENTITY, cause))?;
    audit::done(&access, "log level", &new.level, "", true);
    Ok(DONE)
}

/// Shuts the broker down: no new connections, clients are told, then the process ends.
#[utoipa::path(post, path = "/v1/drain", tag = "process", responses((status = 202, body = Done), ActErrors))]
pub(super) async fn drain(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
) -> (StatusCode, Json<Done>) {
    state.draining.store(true, Ordering::Relaxed);
    audit::done(&access, "drain", "", "", true);
    (state.drain)();
    (StatusCode::ACCEPTED, DONE)
}

/// Reads the configuration again, as SIGHUP does; the log says what came of it.
#[utoipa::path(post, path = "/v1/reload", tag = "process", responses((status = 202, body = Done), ActErrors))]
pub(super) async fn reload(
    axum::extract::State(state): Broker,
    Extension(access): Caller,
) -> (StatusCode, Json<Done>) {
    audit::done(&access, "reload", "", "", true);
    (state.reload)();
    (StatusCode::ACCEPTED, DONE)
}
