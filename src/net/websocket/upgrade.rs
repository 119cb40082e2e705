//! The HTTP request that opens a WebSocket (RFC 6455, section 4.2), and its answer.

use httparse::Status;
use tungstenite::handshake::derive_accept_key;

use crate::config::doors::WebSocketOptions;

/// Longest request, bytes; a browser with cookies stays below.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// Most header fields of a request.
const FIELDS_MAX: usize = 64;
/// The subprotocols of MQTT [MQTT-6.0.0-3]; the second is that of 3.1.
const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];

/// A request, so far.
#[derive(Debug)]
pub enum Upgrade {
    /// It goes on.
    Incomplete,
    /// It is complete and good.
    Accepted(Request),
}

/// A good request.
#[derive(Debug)]
pub struct Request {
    /// How long it was.
    pub bytes: usize,
    /// What is answered.
    pub response: Vec<u8>,
    /// X-Forwarded-For, all of its fields.
    pub forwarded: Option<String>,
}

/// A request that is refused.
#[derive(Debug)]
pub struct Refusal {
    /// Why.
    pub cause: &'static str,
    /// What is answered.
    pub response: String,
}

fn refusal(status: &str, extra: &str, cause: &'static str) -> Refusal {
    let body = format!("{cause}\n");
    let response = format!(
        "HTTP/1.1 {status}\r\n{extra}Content-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    Refusal { cause, response }
}

fn bad(cause: &'static str) -> Refusal {
    refusal("400 Bad Request", "", cause)
}

impl Request {
    /// Reads the request at the front of `bytes`.
    ///
    /// # Errors
    /// It is refused.
    pub fn parse(bytes: &[u8], options: &WebSocketOptions) -> Result<Upgrade, Refusal> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        let length = match request.parse(bytes) {
            Ok(Status::Complete(length)) if length <= REQUEST_BYTES_MAX => length,
            Ok(Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => {
                return Ok(Upgrade::Incomplete);
            }
            Ok(_) => {
                let status = "431 Request Header Fields Too Large";
                return Err(refusal(status, "", "the HTTP request is too long"));
            }
            Err(_) => return Err(bad("the connection does not begin with an HTTP request")),
        };
        let path = request.path.unwrap_or("");
        let fields = Fields(request.headers);
        if request.method != Some("GET") || request.version != Some(1) {
            return Err(bad("the HTTP request is no GET of HTTP/1.1"));
        }
        if !fields.has_word("upgrade", "websocket") || !fields.has_word("connection", "upgrade") {
            let needed = "Upgrade: websocket\r\n";
            let cause = "the HTTP request asks for no WebSocket";
            return Err(refusal("426 Upgrade Required", needed, cause));
        }
        if fields.only("sec-websocket-version") != Some("13") {
            let needed = "Sec-WebSocket-Version: 13\r\n";
            let cause = "the WebSocket version is not 13";
            return Err(refusal("426 Upgrade Required", needed, cause));
        }
        let key = fields.only("sec-websocket-key").filter(|key| is_key(key));
        let Some(key) = key else {
            return Err(bad("the HTTP request has no good Sec-WebSocket-Key"));
        };
        let Some(host) = fields.only("host") else {
            return Err(bad("the HTTP request has no Host"));
        };
        let path = path.split('?').next().unwrap_or("");
        if !options.paths.is_empty() && !options.paths.iter().any(|served| served == path) {
            let cause = "the path is not among websocket_paths";
            return Err(refusal("404 Not Found", "", cause));
        }
        if fields.count("origin") > 1
            || fields
                .only("origin")
                .is_some_and(|origin| !is_welcome(origin, host, &options.origins))
        {
            let cause = "the origin of the web page is not among websocket_origins";
            return Err(refusal("403 Forbidden", "", cause));
        }
        // The client's first that is known.
        let subprotocol = fields
            .words("sec-websocket-protocol")
            .find_map(|word| SUBPROTOCOLS.into_iter().find(|known| *known == word));
        let Some(subprotocol) = subprotocol else {
            // [MQTT-6.0.0-3]
            return Err(bad("the client offers no WebSocket subprotocol of MQTT"));
        };
        let accept = derive_accept_key(key.as_bytes());
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
        );
        let forwarded: Vec<&str> = fields.all("x-forwarded-for").collect();
        Ok(Upgrade::Accepted(Self {
            bytes: length,
            response: response.into_bytes(),
            forwarded: (!forwarded.is_empty()).then(|| forwarded.join(",")),
        }))
    }
}

struct Fields<'a>(&'a [httparse::Header<'a>]);

impl<'a> Fields<'a> {
    /// The values of a field; one that is no text counts as empty.
    fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.0
            .iter()
            .filter(move |field| field.name.eq_ignore_ascii_case(name))
            .map(|field| std::str::from_utf8(field.value).unwrap_or("").trim())
    }

    fn count(&self, name: &str) -> usize {
        self.all(name).count()
    }

    /// The value of a field that must come once.
    fn only(&self, name: &str) -> Option<&'a str> {
        self.all(name).next().filter(|_| self.count(name) == 1)
    }

    /// The words of a field that is a list.
    fn words<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(str::trim)
    }

    fn has_word(&self, name: &str, wanted: &str) -> bool {
        self.words(name)
            .any(|word| word.eq_ignore_ascii_case(wanted))
    }
}

/// 16 bytes in base64.
fn is_key(key: &str) -> bool {
    let Some(digits) = key.strip_suffix("==") else {
        return false;
    };
    let digit = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    digits.len() == 22 && digits.bytes().all(digit)
}

/// Whether a web page of `origin` may connect. Without a list it must come from the host that the client
/// has connected to, on whatever port: no page of another site reaches a broker on the user's machine.
fn is_welcome(origin: &str, host: &str, origins: &[String]) -> bool {
    if !origins.is_empty() {
        return origins
            .iter()
            .any(|welcome| welcome == "*" || welcome.eq_ignore_ascii_case(origin));
    }
    let Some((_, authority)) = origin.split_once("://") else {
        return false;
    };
    without_port(authority).eq_ignore_ascii_case(without_port(host))
}

fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(paths: &[&str], origins: &[&str]) -> WebSocketOptions {
        let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        WebSocketOptions {
            is_on: true,
            paths: own(paths),
            origins: own(origins),
            ..WebSocketOptions::default()
        }
    }

    /// The example of RFC 6455, with the given line in place of the one that begins the same.
    fn request(line: &str) -> String {
        let lines = [
            "Host: server.example.com:9001",
            "Upgrade: websocket",
            "Connection: keep-alive, Upgrade",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
            "Origin: http://server.example.com",
            "Sec-WebSocket-Protocol: chat, mqtt",
            "Sec-WebSocket-Version: 13",
        ];
        let name = line.split(':').next().unwrap_or_default();
        let mut text = String::from("GET /mqtt?x=1 HTTP/1.1\r\n");
        for own in lines {
            if own.split(':').next() != Some(name) {
                text.push_str(own);
                text.push_str("\r\n");
            }
        }
        if line.contains(": ") {
            text.push_str(line);
            text.push_str("\r\n");
        }
        text + "\r\n"
    }

    fn status(text: &str, options: &WebSocketOptions) -> String {
        match Request::parse(text.as_bytes(), options) {
            Ok(Upgrade::Accepted(request)) => {
                assert_eq!(request.bytes, text.len());
                String::from_utf8(request.response).unwrap()
            }
            Ok(Upgrade::Incomplete) => "incomplete".into(),
            Err(refusal) => refusal.response,
        }
    }

    #[test]
    fn the_answer_is_that_of_the_rfc() {
        let text = request("X-Forwarded-For: 192.0.2.1, 10.0.0.1");
        for end in 0..text.len() {
            let so_far = Request::parse(&text.as_bytes()[..end], &options(&[], &[]));
            assert!(matches!(so_far, Ok(Upgrade::Incomplete)), "{end}");
        }
        let answer = status(&text, &options(&["/mqtt"], &[]));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        assert!(answer.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
        assert!(answer.contains("Sec-WebSocket-Protocol: mqtt\r\n"));
    }

    #[test]
    fn what_is_refused_is_told_why() {
        let any = options(&[], &[]);
        for (line, begins) in [
            ("Host", "HTTP/1.1 400"),
            ("Upgrade: h2c", "HTTP/1.1 426"),
            ("Connection: close", "HTTP/1.1 426"),
            ("Sec-WebSocket-Key: short", "HTTP/1.1 400"),
            ("Sec-WebSocket-Version: 8", "HTTP/1.1 426"),
            ("Sec-WebSocket-Protocol: chat", "HTTP/1.1 400"),
            ("Sec-WebSocket-Protocol", "HTTP/1.1 400"),
            ("Origin: http://evil.example.com", "HTTP/1.1 403"),
            ("Origin: null", "HTTP/1.1 403"),
            ("Origin", "HTTP/1.1 101"),
            ("Sec-WebSocket-Protocol: mqttv3.1", "HTTP/1.1 101"),
        ] {
            let answer = status(&request(line), &any);
            assert!(answer.starts_with(begins), "{line}: {answer}");
        }
        assert!(status("POST / HTTP/1.1\r\n\r\n", &any).starts_with("HTTP/1.1 400"));
        assert!(status("\x10\x0d\0\x04MQTT", &any).starts_with("HTTP/1.1 400"));
        let long = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(REQUEST_BYTES_MAX));
        assert!(status(&long, &any).starts_with("HTTP/1.1 431"));
        assert!(status(&request("X: y"), &options(&["/"], &[])).starts_with("HTTP/1.1 404"));
        let other = request("Origin: https://other.example");
        assert!(status(&other, &options(&[], &["https://other.example"])).contains("101"));
        assert!(status(&other, &options(&[], &["*"])).contains("101"));
    }
}
