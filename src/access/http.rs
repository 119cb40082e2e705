//! HTTP: an application's own server decides about clients.
//!
//! Fails closed: an answer that is late, too long, or not understood is none, and the client is refused.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use ureq::Agent;

use crate::broker::authentication::{Credentials, Permission, Principal};
use crate::broker::authorization::rules::Action;
use crate::config::access::HttpConfig;

use super::rules;

/// The longest answer that is read, bytes.
const ANSWER_BYTES_MAX: u64 = 256 * 1024;
/// Connections to one server that are kept open.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// An HTTP client with a limit on everything.
pub struct Client {
    agent: Agent,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client whose requests take at most `timeout`.
    pub fn new(timeout: Duration) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(IDLE_CONNECTIONS_MAX)
            .max_idle_connections_per_host(IDLE_CONNECTIONS_MAX)
            .proxy(None)
            .build();
        Self {
            agent: config.new_agent(),
        }
    }

    /// The text at a URL.
    pub fn fetch(&self, url: &str) -> Result<String, String> {
        let mut response = self
            .agent
            .get(url)
            .call()
            .map_err(|error| error.to_string())?;
        match response.status().as_u16() {
            200 => body(&mut response),
            status => Err(format!("status {status}")),
        }
    }

    /// Posts JSON; gives the status and the body.
    fn post(&self, url: &str, value: &Value) -> Result<(u16, String), String> {
        let mut response = self
            .agent
            .post(url)
            .header("content-type", "application/json")
            .send(value.to_string())
            .map_err(|error| error.to_string())?;
        Ok((response.status().as_u16(), body(&mut response)?))
    }
}

fn body(response: &mut ureq::http::Response<ureq::Body>) -> Result<String, String> {
    let body = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
    body.read_to_string().map_err(|error| error.to_string())
}

/// Whether a URL can be asked.
///
/// # Errors
/// What is wrong with it.
pub fn check_url(url: &str) -> Result<(), String> {
    let parsed: ureq::http::Uri = url.parse().map_err(|_| format!("\"{url}\" is no URL"))?;
    match (parsed.scheme_str(), parsed.host()) {
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => Err(format!(
            "\"{url}\": expected http:// or https:// and a host"
        )),
    }
}

/// What the application's server says about a client.
#[derive(Debug)]
pub enum Said {
    /// It is known; for how long that may be remembered, seconds.
    Known(Principal, u32),
    /// It is not let in.
    Refused,
    /// Somebody else may know it.
    NotMine,
}

/// The application's server.
#[derive(Debug)]
pub struct HttpCallback {
    config: HttpConfig,
    client: Client,
}

impl HttpCallback {
    /// The server that the configuration names, if it names one.
    ///
    /// # Errors
    /// A URL that is none.
    pub fn new(config: &HttpConfig) -> Result<Option<Self>, String> {
        let named = [
            ("authenticate_url", &config.authenticate_url),
            ("authorize_url", &config.authorize_url),
        ];
        for (key, url) in named {
            if let Some(url) = url {
                check_url(url).map_err(|error| format!("http_callback.{key}: {error}"))?;
            }
        }
        let asks = named.iter().any(|(_, url)| url.is_some());
        Ok(asks.then(|| Self {
            config: config.clone(),
            client: Client::new(Duration::from_millis(config.timeout_ms.into())),
        }))
    }

    /// Who is this?
    ///
    /// # Errors
    /// There is no answer.
    pub fn authenticate(&self, credentials: &Credentials) -> Result<Said, String> {
        let Some(url) = &self.config.authenticate_url else {
            return Ok(Said::NotMine);
        };
        let mut asked = json!({
            "client_id": &*credentials.client_identifier,
            "user_name": credentials.user_name.as_deref(),
            "address": credentials.identity.address.map(|at| at.to_string()),
            "certificate": credentials.identity.certificate.as_deref(),
            "listener": credentials.listener,
        });
        if let (Some(password), Some(object)) = (&credentials.password, asked.as_object_mut()) {
            match std::str::from_utf8(password) {
                Ok(text) => object.insert("password".into(), text.into()),
                Err(_) => object.insert("password_base64".into(), STANDARD.encode(password).into()),
            };
        }
        let Some(answer) = self.ask(url, &asked)? else {
            return Ok(Said::Refused);
        };
        match answer.get("result").and_then(Value::as_str) {
            Some("allow") => {}
            Some("deny") => return Ok(Said::Refused),
            Some("ignore") => return Ok(Said::NotMine),
            _ => return Err("the answer has no result of allow, deny or ignore".into()),
        }
        let given = answer.get("user_name").and_then(Value::as_str);
        let principal = Principal {
            user_name: given.map(Into::into).or(credentials.user_name.clone()),
            roles: answer.get("roles").map(rules::roles).unwrap_or_default(),
            rules: answer.get("rules").map(rules::rules).transpose()?,
            expires_unix_s: answer.get("expires_unix_s").and_then(Value::as_u64),
        };
        Ok(Said::Known(principal, self.remember_s(&answer)))
    }

    /// May it? And for how long that may be remembered, seconds.
    ///
    /// # Errors
    /// There is no answer.
    pub fn authorize(&self, permission: &Permission) -> Result<(bool, u32), String> {
        let Some(url) = &self.config.authorize_url else {
            return Ok((false, 0));
        };
        let asked = json!({
            "client_id": &*permission.client_identifier,
            "user_name": permission.user_name.as_deref(),
            "address": permission.address.map(|at| at.to_string()),
            "action": match permission.action {
                Action::Publish => "publish",
                Action::Subscribe => "subscribe",
            },
            "topic": &*permission.topic,
        });
        let Some(answer) = self.ask(url, &asked)? else {
            return Ok((false, self.config.cache_s));
        };
        match answer.get("result").and_then(Value::as_str) {
            Some("allow") => Ok((true, self.remember_s(&answer))),
            Some("deny") => Ok((false, self.remember_s(&answer))),
            _ => Err("the answer has no result of allow or deny".into()),
        }
    }

    /// The answer, or none for a plain refusal: 401 or 403.
    fn ask(&self, url: &str, asked: &Value) -> Result<Option<Map<String, Value>>, String> {
        let (status, text) = self.client.post(url, asked)?;
        match status {
            200 => match serde_json::from_str(&text) {
                Ok(Value::Object(answer)) => Ok(Some(answer)),
                _ => Err("the answer is no JSON object".into()),
            },
            401 | 403 => Ok(None),
            _ => Err(format!("status {status}")),
        }
    }

    fn remember_s(&self, answer: &Map<String, Value>) -> u32 {
        let said = answer.get("cache_s").and_then(Value::as_u64);
        said.and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(self.config.cache_s)
    }
}
