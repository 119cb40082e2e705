//! Who may do what: roles, bearer tokens, and the door that a request came through.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use axum::http::{HeaderMap, header};

use super::problem::Problem;

/// The shortest token that is taken, characters.
const TOKEN_BYTES_MIN: usize = 16;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    /// Look, but not at payloads.
    Viewer,
    /// Everything.
    Operator,
}

/// How a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    /// Through the Unix socket, whose permissions decide.
    Socket,
    /// Through the address.
    Address,
}

/// Who a request is from.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) role: Role,
    /// The token's name, or the door.
    pub(super) actor: String,
}

impl Access {
    /// # Errors
    /// For a viewer.
    pub(super) fn operator(&self) -> Result<(), Problem> {
        match self.role {
            Role::Operator => Ok(()),
            Role::Viewer => Err(Problem::forbidden(
                "this needs the role operator: a token of that role, or the Unix socket",
            )),
        }
    }
}

#[derive(Debug)]
struct Token {
    role: Role,
    name: String,
    secret: String,
}

/// The tokens of the token file.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    tokens: Vec<Token>,
}

impl Tokens {
    /// Reads a token file.
    pub(super) fn load(file: &Path) -> Result<Self, String> {
        let shown = file.display();
        let problem =
            |error: std::io::Error| format!("cannot read the token file {shown}: {error}");
        let mode = fs::metadata(file).map_err(problem)?.mode();
        if mode & 0o007 != 0 {
            return Err(format!(
                "the token file {shown} is open to other users (mode {:04o}); chmod 0600 it",
                mode & 0o777
            ));
        }
        let text = fs::read_to_string(file).map_err(problem)?;
        Self::parse(&text).map_err(|(line, cause)| format!("{shown}:{line}: {cause}"))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut tokens: Vec<Token> = Vec::new();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let words: Vec<_> = content.split_whitespace().collect();
            let [role, name, secret] = words[..] else {
                return Err((line, "expected: role name token".into()));
            };
            let role = match role {
                "viewer" => Role::Viewer,
                "operator" => Role::Operator,
                other => {
                    return Err((line, format!("\"{other}\" is no role: viewer or operator")));
                }
            };
            if secret.len() < TOKEN_BYTES_MIN {
                let cause = format!("a token has {TOKEN_BYTES_MIN} characters or more");
                return Err((line, cause));
            }
            if tokens.iter().any(|token| token.secret == secret) {
                return Err((line, "this token stands there twice".into()));
            }
            tokens.push(Token {
                role,
                name: name.into(),
                secret: secret.into(),
            });
        }
        match tokens.is_empty() {
            true => Err((1, "there is no token".into())),
            false => Ok(Self { tokens }),
        }
    }

    /// Who a request is from.
    pub(super) fn check(&self, door: Door, headers: &HeaderMap) -> Result<Access, Problem> {
        if door == Door::Socket {
            return Ok(Access {
                role: Role::Operator,
                actor: "unix socket".into(),
            });
        }
        if self.tokens.is_empty() {
            // A page of another site must not get here by a name that it made point to this machine.
            return match names_this_machine(headers) {
                true => Ok(Access {
                    role: Role::Viewer,
                    actor: "anonymous".into(),
                }),
                false => Err(Problem::forbidden(
                    "without a token file only this machine's own names are answered",
                )),
            };
        }
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        let given = given.ok_or_else(Problem::unauthorized)?;
        // All are compared, and each in the same time whatever is given.
        let mut found = None;
        for token in &self.tokens {
            if same(token.secret.as_bytes(), given.as_bytes()) {
                found = Some(token);
            }
        }
        let token = found.ok_or_else(Problem::unauthorized)?;
        Ok(Access {
            role: token.role,
            actor: token.name.clone(),
        })
    }
}

/// Whether two texts are the same, in a time that tells no more than their lengths.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differing = a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differing) == 0
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn a_token_gives_its_role_and_name() {
        let tokens = Tokens::parse(
            "# comment\n\nviewer dash 0123456789abcdef\noperator ops fedcba9876543210\n",
        )
        .unwrap();
        let check = |token: &str| {
            let headers = headers(header::AUTHORIZATION, &format!("Bearer {token}"));
            tokens.check(Door::Address, &headers)
        };
        assert_eq!(check("0123456789abcdef").unwrap().role, Role::Viewer);
        let operator = check("fedcba9876543210").unwrap();
        assert_eq!((operator.role, &*operator.actor), (Role::Operator, "ops"));
        for wrong in [
            "",
            "0123456789abcdeF",
            "0123456789abcde",
            "0123456789abcdef0",
        ] {
            assert_eq!(check(wrong).unwrap_err().status, 401, "{wrong}");
        }
        let none = tokens.check(Door::Address, &HeaderMap::new());
        assert_eq!(none.unwrap_err().status, 401);
        assert_eq!(
            tokens.check(Door::Socket, &HeaderMap::new()).unwrap().role,
            Role::Operator
        );
    }

    #[test]
    fn without_tokens_this_machine_may_look() {
        let tokens = Tokens::default();
        for good in [
            "localhost",
            "localhost:9883",
            "127.0.0.1:9883",
            "[::1]:9883",
        ] {
            let access = tokens.check(Door::Address, &headers(header::HOST, good));
            assert_eq!(access.unwrap().role, Role::Viewer, "{good}");
        }
        for bad in ["evil.example", "evil.example:9883", "10.0.0.1", ""] {
            let access = tokens.check(Door::Address, &headers(header::HOST, bad));
            assert_eq!(access.unwrap_err().status, 403, "{bad}");
        }
    }

    #[test]
    fn a_bad_token_file_says_where() {
        for (text, line, part) in [
            ("", 1, "no token"),
            ("viewer a", 1, "role name token"),
            ("\nadmin a 0123456789abcdef", 2, "no role"),
            ("viewer a short", 1, "16 characters"),
            (
                "viewer a 0123456789abcdef\nviewer b 0123456789abcdef",
                2,
                "twice",
            ),
        ] {
            let (at, cause) = Tokens::parse(text).unwrap_err();
            assert!(at == line && cause.contains(part), "{text:?}: {at} {cause}");
        }
    }
}
