//! The requests: which there are, who may make them, and how their input is read.

mod bans;
mod clients;
mod messages;
mod process;
mod sight;
mod status;
mod subscriptions;

use std::sync::Arc;

use axum::extract::{FromRequest, FromRequestParts, Query, Request, State as Shared};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde::Serialize;
use serde::de::DeserializeOwned;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{IntoParams, Modify, OpenApi, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::observability::console;

use super::access::{Access, Door, Role};
use super::problem::Problem;
use super::{State, audit};

/// The parts of the OpenAPI document that no request has.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "RingMQ administration",
        description = "Sees into the broker and acts on it. Lists come in pages: send `next` of an answer \
                       as `cursor` of the next request until it is null; a page may have fewer rows than \
                       asked for, or none, and still a next one. What comes or goes meanwhile may be missed."
    ),
    modifiers(&Bearer),
    security(("bearer" = []))
)]
struct Document;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

/// The requests that come through one door.
pub(super) fn router(state: Arc<State>, door: Door) -> Router {
    let (guarded, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(status::status))
        .routes(routes!(status::latency))
        .routes(routes!(status::metrics))
        .routes(routes!(clients::list_clients))
        .routes(routes!(clients::list_sessions))
        .routes(routes!(clients::client))
        .routes(routes!(clients::top))
        .routes(routes!(clients::kick))
        .routes(routes!(clients::delete_session))
        .routes(routes!(
            subscriptions::of_client,
            subscriptions::subscribe,
            subscriptions::unsubscribe
        ))
        .routes(routes!(subscriptions::list))
        .routes(routes!(subscriptions::groups))
        .routes(routes!(messages::list_retained))
        .routes(routes!(
            messages::retained_message,
            messages::delete_retained
        ))
        .routes(routes!(messages::publish))
        .routes(routes!(sight::why))
        .routes(routes!(sight::trace))
        .routes(routes!(bans::list, bans::add, bans::lift))
        .routes(routes!(process::log, process::set_log))
        .routes(routes!(process::drain))
        .routes(routes!(process::reload))
        .split_for_parts();
    let guard = from_fn_with_state((Arc::clone(&state), door), check_access);
    let (open, open_document) = OpenApiRouter::new()
        .routes(routes!(process::health))
        .routes(routes!(process::ready))
        .split_for_parts();
    let mut document = document;
    document.merge(open_document);
    let text: Arc<str> = serde_json::to_string_pretty(&document)
        .unwrap_or_default()
        .into();
    let pages = Router::new()
        .route(
            "/",
            get(|| asset("text/html; charset=utf-8", console::PAGE)),
        )
        .route("/console.css", get(|| asset("text/css", console::STYLE)))
        .route(
            "/console.js",
            get(|| asset("text/javascript", console::SCRIPT)),
        )
        .route("/mqtt.js", get(|| asset("text/javascript", console::MQTT)))
        .route(
            "/v1/openapi.json",
            get(move || {
                let text = Arc::clone(&text);
                async move {
                    (
                        [(header::CONTENT_TYPE, "application/json")],
                        text.to_string(),
                    )
                }
            }),
        );
    guarded
        .layer(guard)
        .merge(open)
        .merge(pages)
        .fallback(|| async { Problem::not_found("there is no such request") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "the request has no such method",
            )
        })
        .with_state(state)
}

/// A part of the console. Nothing is loaded from elsewhere, and no other site may frame it.
async fn asset(kind: &'static str, text: &'static str) -> Response {
    const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
         connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, text).into_response()
}

/// Lets a request in if its caller has the role for it: to look, or to change something.
async fn check_access(
    Shared((state, door)): Shared<(Arc<State>, Door)>,
    mut request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let refuse = |actor: &str, problem: Problem| {
        audit::refused(actor, method.as_str(), &path, problem.status);
        problem.into_response()
    };
    let access = match state.tokens.check(door, request.headers()) {
        Ok(access) => access,
        Err(problem) => return refuse("unknown", problem),
    };
    let looks = method == Method::GET || method == Method::HEAD;
    if !looks && let Err(problem) = access.operator() {
        return refuse(&access.actor, problem);
    }
    request.extensions_mut().insert(access);
    let mut response = next.run(request).await;
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The query of a request.
struct Params<T>(T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(query)| Self(query))
            .map_err(|error| Problem::bad_request(error.body_text()))
    }
}

/// The JSON body of a request.
struct Body<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Json::<T>::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(error) => Err(Problem::new(error.status(), error.body_text())),
        }
    }
}

/// A part of the path that is a text.
struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match axum::extract::Path::<String>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(text)) => Ok(Self(text)),
            Err(error) => Err(Problem::bad_request(error.body_text())),
        }
    }
}

/// Which page of a list.
#[derive(Debug, serde::Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// Rows at most; 100 if it is not set.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next` of the page before.
    cursor: Option<String>,
}

/// Why a request that looks is not answered.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "only the document needs it")]
enum LookErrors {
    /// The query is not right.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(#[to_schema] Problem),
    /// There is no token, or it is not known.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// The token's role is not enough.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// What is asked for is not there.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
    /// A shard does not answer.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}

/// Why a request that changes something is not done.
#[derive(utoipa::IntoResponses)]
#[allow(dead_code, reason = "only the document needs it")]
enum ActErrors {
    /// The path, the query or the syntax of the body is not right.
    #[response(status = 400, content_type = "application/problem+json")]
    BadRequest(#[to_schema] Problem),
    /// There is no token, or it is not known.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] Problem),
    /// The token's role is not enough.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] Problem),
    /// What is to be changed is not there.
    #[response(status = 404, content_type = "application/problem+json")]
    NotFound(#[to_schema] Problem),
    /// The body is too large.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] Problem),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    NotJson(#[to_schema] Problem),
    /// A value of the body is not right.
    #[response(status = 422, content_type = "application/problem+json")]
    Unprocessable(#[to_schema] Problem),
    /// A shard does not answer.
    #[response(status = 503, content_type = "application/problem+json")]
    Unavailable(#[to_schema] Problem),
}

/// Whether there was something to do.
#[derive(Debug, Serialize, ToSchema)]
struct Done {
    /// Always true; what is not done is a problem.
    done: bool,
}

const DONE: Json<Done> = Json(Done { done: true });

/// What may need the role operator although it only looks.
fn needs_operator(access: &Access, what: &str) -> Result<(), Problem> {
    match access.role {
        Role::Operator => Ok(()),
        Role::Viewer => Err(Problem::forbidden(format!("{what} need the role operator"))),
    }
}

type Caller = Extension<Access>;
type Broker = Shared<Arc<State>>;
