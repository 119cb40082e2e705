//! Requests to the administration interface, over TCP or a Unix socket.

use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
pub(super) use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;

use crate::cli::admin::Door;

use super::super::Failure;
use super::failed;

/// Where the interface is if nothing else is said, and this exists.
const SOCKET: &str = "/run/ringmq/admin.sock";
/// Where it is otherwise.
const ADDRESS: &str = "127.0.0.1:9883";

enum Place {
    Address(String),
    Socket(PathBuf),
}

/// The interface of one broker.
pub(super) struct Api {
    place: Place,
    token: Option<String>,
    runtime: Runtime,
}

impl Api {
    pub(super) fn new(door: &Door) -> Result<Self, Failure> {
        let place = match door.admin.as_deref() {
            Some(text) => match (text.strip_prefix("unix:"), text.strip_prefix("http://")) {
                (Some(path), _) => Place::Socket(path.into()),
                (_, Some(address)) => Place::Address(address.trim_end_matches('/').into()),
                _ => {
                    let cause =
                        format!("\"{text}\": write it like http://{ADDRESS} or unix:{SOCKET}");
                    return Err(failed(cause));
                }
            },
            None if Path::new(SOCKET).exists() => Place::Socket(SOCKET.into()),
            None => Place::Address(ADDRESS.into()),
        };
        let token = match &door.token_file {
            Some(file) => {
                let text = std::fs::read_to_string(file).map_err(|error| {
                    failed(format!(
                        "cannot read the token file {}: {error}",
                        file.display()
                    ))
                })?;
                // A line of the broker's own file, or the token alone.
                let line = text
                    .lines()
                    .find(|line| !line.trim().is_empty() && !line.starts_with('#'));
                line.and_then(|line| line.split_whitespace().last())
                    .map(Into::into)
            }
            None => None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(failed)?;
        Ok(Self {
            place,
            token,
            runtime,
        })
    }

    /// Makes a request; gives the JSON of the answer.
    pub(super) fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        self.runtime.block_on(self.exchange(method, path, body))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure> {
        match &self.place {
            Place::Address(address) => {
                let unreachable = |error| {
                    failed(format!(
                        "no broker's administration interface at http://{address}: {error}"
                    ))
                };
                let stream = TcpStream::connect(address).await.map_err(unreachable)?;
                self.request(stream, address, method, path, body).await
            }
            Place::Socket(socket) => {
                let unreachable = |error| {
                    failed(format!(
                        "no broker's administration interface at unix:{}: {error}",
                        socket.display()
                    ))
                };
                let stream = UnixStream::connect(socket).await.map_err(unreachable)?;
                self.request(stream, "localhost", method, path, body).await
            }
        }
    }

    async fn request<S>(
        &self,
        stream: S,
        host: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Failure>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(failed)?;
        tokio::spawn(connection);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, host);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let bytes = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                body.to_string().into_bytes()
            }
            None => Vec::new(),
        };
        let request = request
            .body(Full::new(Bytes::from(bytes)))
            .map_err(failed)?;
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let bytes = response
            .into_body()
            .collect()
            .await
            .map_err(failed)?
            .to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        match status.is_success() {
            true => Ok(answer),
            false => {
                let detail = answer["detail"].as_str().unwrap_or("no reason is given");
                Err(failed(format!("the broker refuses ({status}): {detail}")))
            }
        }
    }
}

/// A part of a path, so that nothing in it is taken for something else.
pub(super) fn part(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => {
                encoded.push(byte.into())
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A path with the parameters that are set.
pub(super) fn query(path: &str, pairs: &[(&str, Option<&str>)]) -> String {
    let mut text = path.to_owned();
    let mut mark = '?';
    for (name, value) in pairs {
        if let Some(value) = value {
            text.push_str(&format!("{mark}{name}={}", part(value)));
            mark = '&';
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_special_is_encoded() {
        assert_eq!(part("a/b c+#?&.é"), "a%2Fb%20c%2B%23%3F%26%2E%C3%A9");
        assert_eq!(
            query("/p", &[("a", Some("1 2")), ("b", None), ("c", Some("x"))]),
            "/p?a=1%202&c=x"
        );
    }
}
