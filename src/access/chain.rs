//! Answers to what brokers ask: the links of a chain in their order, and exchanges.

use std::sync::Arc;

use crate::broker::authentication::{
    Asked, Credentials, Permission, Principal, Refusal, Step, Verdict, look,
};
use crate::broker::policy::Policy;
use crate::config::access::{Link, Method};

use super::http::{HttpCallback, Said};
use super::jwt::{Rejected, Tokens, unix_s};
use super::password_file::{Checked, PasswordFile};
use super::scram::{Hash, Scram};

/// Who answers: everything that was loaded together.
#[derive(Debug)]
pub struct Verifier {
    pub(super) policy: Arc<Policy>,
    pub(super) passwords: PasswordFile,
    pub(super) tokens: Option<Tokens>,
    pub(super) http: Option<HttpCallback>,
    /// How long a verified password is remembered, seconds.
    pub(super) remember_s: u32,
}

/// Where an exchange stands.
#[derive(Debug)]
enum Exchange {
    Scram(Box<Scram>),
    /// The client is to acknowledge that it was refused.
    BearerRefused,
}

impl Verifier {
    /// Which load it belongs to.
    pub fn generation(&self) -> u64 {
        self.policy.generation
    }

    /// The answer to a question. Takes its time.
    pub fn answer(&self, asked: Asked) -> Verdict {
        match asked {
            Asked::Credentials(credentials) => self.credentials(&credentials),
            Asked::Step(step) => self.step(step),
            Asked::Permission(permission) => self.permission(&permission),
        }
    }

    fn credentials(&self, credentials: &Credentials) -> Verdict {
        let policy = self.policy.listener(credentials.listener);
        for link in &policy.chain {
            let verdict = match link {
                Link::PasswordFile => self.password(credentials),
                Link::Jwt => self.token(credentials),
                Link::Http => self.http(credentials),
                Link::Certificate | Link::UnixPeer => {
                    look(*link, &credentials.identity, &self.policy)
                        .map(|principal| accepted(principal, 0))
                }
            };
            if let Some(verdict) = verdict {
                return verdict;
            }
        }
        let shows_nothing = credentials.user_name.is_none() && credentials.password.is_none();
        match (shows_nothing, policy.allow_anonymous) {
            (true, true) => accepted(Principal::default(), 0),
            (true, false) => Verdict::Refused(Refusal::NotAuthorized),
            (false, _) => Verdict::Refused(Refusal::BadCredentials),
        }
    }

    fn password(&self, credentials: &Credentials) -> Option<Verdict> {
        let user_name = credentials.user_name.as_deref()?;
        match self
            .passwords
            .check(user_name, credentials.password.as_deref()?)
        {
            Checked::Right => Some(accepted(Principal::named(user_name), self.remember_s)),
            Checked::Wrong => Some(Verdict::Refused(Refusal::BadCredentials)),
            Checked::Unknown => None,
        }
    }

    fn token(&self, credentials: &Credentials) -> Option<Verdict> {
        let tokens = self.tokens.as_ref()?;
        match tokens.verify(credentials.password.as_deref()?) {
            Ok(principal) => {
                let ends = principal.expires_unix_s.unwrap_or(u64::MAX);
                let left = u32::try_from(ends.saturating_sub(unix_s())).unwrap_or(u32::MAX);
                Some(accepted(principal, self.remember_s.min(left)))
            }
            Err(Rejected::NoToken) => None,
            Err(Rejected::Bad(cause)) => {
                tracing::debug!(
                    client = &*credentials.client_identifier,
                    cause,
                    "token refused"
                );
                Some(Verdict::Refused(Refusal::BadCredentials))
            }
        }
    }

    fn http(&self, credentials: &Credentials) -> Option<Verdict> {
        match self.http.as_ref()?.authenticate(credentials) {
            Ok(Said::Known(principal, remember_s)) => Some(accepted(principal, remember_s)),
            Ok(Said::Refused) => Some(Verdict::Refused(Refusal::BadCredentials)),
            Ok(Said::NotMine) => None,
            Err(error) => {
                tracing::warn!("http_callback.authenticate_url: {error}; the client is refused");
                Some(Verdict::Refused(Refusal::Unavailable))
            }
        }
    }

    fn permission(&self, permission: &Permission) -> Verdict {
        let answer = self.http.as_ref().map(|http| http.authorize(permission));
        let (granted, remember_s) = match answer {
            Some(Ok(answer)) => answer,
            Some(Err(error)) => {
                tracing::warn!("http_callback.authorize_url: {error}; it is denied");
                (false, 0)
            }
            None => (false, 0),
        };
        Verdict::Permission {
            granted,
            remember_s,
        }
    }

    fn step(&self, step: Step) -> Verdict {
        let refused = Verdict::Refused(Refusal::BadExchange);
        let exchange = match step
            .exchange
            .map(|exchange| exchange.downcast::<Exchange>())
        {
            None => None,
            Some(Ok(exchange)) => Some(*exchange),
            Some(Err(_)) => return refused,
        };
        match (exchange, Hash::of(step.method)) {
            (None, Some(hash)) => self.begin_scram(hash, &step.data),
            (Some(Exchange::Scram(scram)), Some(_)) => match scram.finish(&step.data) {
                Ok((user_name, last)) => Verdict::Accepted {
                    principal: Arc::new(Principal::named(&user_name)),
                    remember_s: 0,
                    data: Some(last.into()),
                },
                Err(_) => refused,
            },
            (None, None) if step.method == Method::OAuthBearer => self.bearer(&step.data),
            _ => refused,
        }
    }

    fn begin_scram(&self, hash: Hash, data: &[u8]) -> Verdict {
        let find = |name: &str| self.passwords.keys(name, hash).cloned();
        match Scram::begin(hash, data, &self.policy.secret, find) {
            Ok((scram, data)) => Verdict::Continue {
                exchange: Box::new(Exchange::Scram(Box::new(scram))),
                data: data.into(),
            },
            Err(_) => Verdict::Refused(Refusal::BadExchange),
        }
    }

    /// OAUTHBEARER (RFC 7628): one message of the client; a refusal is told, and ends with its next one.
    fn bearer(&self, data: &[u8]) -> Verdict {
        let token = bearer_token(data);
        let verified = match (&self.tokens, token) {
            (Some(tokens), Some((_, token))) => tokens.verify(token.as_bytes()).ok(),
            _ => None,
        };
        // Nobody acts for another user.
        let named = token.and_then(|(identity, _)| identity);
        let verified = verified
            .filter(|one| named.is_none_or(|named| one.user_name.as_deref() == Some(named)));
        match verified {
            Some(principal) => accepted(principal, 0),
            None => Verdict::Continue {
                exchange: Box::new(Exchange::BearerRefused),
                data: (*b"{\"status\":\"invalid_token\"}").into(),
            },
        }
    }
}

/// The authorization identity, if there is one, and the token in
/// `n,a=user,^Ahost=...^Aauth=Bearer TOKEN^A^A`.
fn bearer_token(data: &[u8]) -> Option<(Option<&str>, &str)> {
    let text = std::str::from_utf8(data).ok()?;
    let (header, rest) = text.split_once('\u{1}')?;
    let rest = rest.strip_suffix("\u{1}\u{1}")?;
    let identity = header.strip_prefix("n,").or(header.strip_prefix("y,"))?;
    let identity = identity.strip_suffix(',')?.strip_prefix("a=");
    let mut pairs = rest.split('\u{1}');
    let (scheme, token) = pairs
        .find_map(|pair| pair.strip_prefix("auth="))?
        .split_once(' ')?;
    let token = token.trim();
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some((identity, token))
}

fn accepted(principal: Principal, remember_s: u32) -> Verdict {
    Verdict::Accepted {
        principal: Arc::new(principal),
        remember_s,
        data: None,
    }
}

/// A secret for one start of the process.
///
/// # Errors
/// The kernel has no randomness.
pub fn new_secret() -> Result<[u8; 32], String> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(|error| format!("no randomness: {error}"))?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_found_where_it_must_be() {
        let good = b"n,a=user@example.com,\x01host=x\x01port=1\x01auth=Bearer abc.def.ghi\x01\x01";
        assert_eq!(
            bearer_token(good),
            Some((Some("user@example.com"), "abc.def.ghi"))
        );
        assert_eq!(
            bearer_token(b"n,,\x01auth=bearer t\x01\x01"),
            Some((None, "t"))
        );
        for bad in [
            &b""[..],
            b"n,,\x01auth=Bearer t",
            b"n,,\x01auth=Basic t\x01\x01",
            b"n,,\x01host=x\x01\x01",
            b"p=x,,\x01auth=Bearer t\x01\x01",
            b"\xff\x01auth=Bearer t\x01\x01",
        ] {
            assert_eq!(bearer_token(bad), None);
        }
    }
}
