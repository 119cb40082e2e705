//! Who a client is: what is asked, what is answered, and the connections that wait for it.
//!
//! The broker decides by itself what costs nothing: the links of a chain that only look, and passwords that
//! were verified before. Everything else becomes a [`Question`], which the shard hands to threads of its own
//! kind; meanwhile the connection's further packets wait. The answer comes back through the shard's inbox.
//!
//! Invariants: a connection has at most one question about its credentials; an answer for an earlier
//! connection in the same slot is thrown away; nothing of a session is touched before the client is known.
//!
//! Not here: passwords, tokens and exchanges (`access`), topics (`authorization`).

pub(super) mod cache;
mod flow;
mod step;

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::config::access::{ClientAddress, Link, Method};
use crate::mqtt::reason_code::ReasonCode;

use super::Now;
use super::authorization::rules::{Action, Rules, Who};
use super::policy::Policy;

/// What the transport knows about the other end of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The address, if it has one.
    pub address: Option<ClientAddress>,
    /// The name in the client certificate that was verified.
    pub certificate: Option<Box<str>>,
    /// The number of the user at the other end of a Unix socket.
    pub unix_user: Option<u32>,
}

/// A client that is known.
#[derive(Clone, Debug, Default)]
pub struct Principal {
    /// Its user name; none for anonymous clients.
    pub user_name: Option<Box<str>>,
    /// The roles that came with its credentials.
    pub roles: Vec<Box<str>>,
    /// The rules that came with its credentials: they are asked before the ACL file.
    pub rules: Option<Arc<Rules>>,
    /// When the credentials end, seconds since 1970.
    pub expires_unix_s: Option<u64>,
}

impl Principal {
    /// One of which only the name is known.
    pub fn named(user_name: &str) -> Self {
        Self {
            user_name: Some(user_name.into()),
            ..Self::default()
        }
    }

    /// Whether its credentials have not ended.
    pub(super) fn holds(&self, now: Now) -> bool {
        self.expires_unix_s.is_none_or(|ends| now.unix_s < ends)
    }

    /// As rules see it.
    pub fn who<'a>(&'a self, client_identifier: &'a str, identity: &'a Identity) -> Who<'a> {
        Who {
            user_name: self.user_name.as_deref(),
            client_identifier,
            roles: &self.roles,
            certificate: identity.certificate.as_deref(),
            address: identity.address,
        }
    }
}

/// What CONNECT says about the client.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The listener, by its place in the configuration.
    pub listener: u16,
    /// The Client Identifier; empty if the broker is to assign one.
    pub client_identifier: Box<str>,
    /// User Name.
    pub user_name: Option<Box<str>>,
    /// Password.
    pub password: Option<Box<[u8]>>,
    /// What the transport knows.
    pub identity: Identity,
}

// A password does not belong into any output.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("user_name", &self.user_name)
            .finish_non_exhaustive()
    }
}

/// The state of an exchange of AUTH packets, of which only its method knows more.
pub type Exchange = Box<dyn Any + Send>;

/// A step of an exchange of AUTH packets.
pub struct Step {
    /// The listener.
    pub listener: u16,
    /// The Authentication Method.
    pub method: Method,
    /// Where the exchange stands; none at its beginning.
    pub exchange: Option<Exchange>,
    /// Authentication Data.
    pub data: Box<[u8]>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("method", &self.method)
            .finish_non_exhaustive()
    }
}

/// Whether a client may do something, when no rule says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The Client Identifier.
    pub client_identifier: Box<str>,
    /// The user name.
    pub user_name: Option<Box<str>>,
    /// The address.
    pub address: Option<ClientAddress>,
    /// What it wants to do.
    pub action: Action,
    /// With which Topic Name or Topic Filter.
    pub topic: Box<str>,
}

/// What is asked.
#[derive(Debug)]
pub enum Asked {
    /// Who is this?
    Credentials(Credentials),
    /// How does the exchange go on?
    Step(Step),
    /// May it?
    Permission(Permission),
}

impl Asked {
    /// The answer when nobody can be asked: fails closed.
    pub fn refused(&self, refusal: Refusal) -> Verdict {
        match self {
            Self::Credentials(_) | Self::Step(_) => Verdict::Refused(refusal),
            Self::Permission(_) => Verdict::Permission {
                granted: false,
                remember_s: 0,
            },
        }
    }
}

/// What a broker cannot answer by itself at once.
#[derive(Debug)]
pub struct Question {
    /// The connection.
    pub slot: u32,
    /// Tells it from an earlier one in the same slot.
    pub serial: u32,
    /// What is asked.
    pub asked: Box<Asked>,
}

/// Why a client is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its credentials are wrong, or nobody knows them.
    BadCredentials,
    /// It is known, and not let in; or it shows no credentials.
    NotAuthorized,
    /// The exchange of AUTH packets is not as its method wants it.
    BadExchange,
    /// Too many wait.
    Busy,
    /// Who decides does not answer.
    Unavailable,
}

impl Refusal {
    /// The Reason Code and the cause in words.
    pub fn reason(self) -> (ReasonCode, &'static str) {
        match self {
            Self::BadCredentials => (
                ReasonCode::BadUserNameOrPassword,
                "the credentials are not accepted",
            ),
            Self::NotAuthorized => (ReasonCode::NotAuthorized, "the client is not authorized"),
            Self::BadExchange => (
                ReasonCode::NotAuthorized,
                "the authentication exchange failed",
            ),
            Self::Busy => (
                ReasonCode::ServerBusy,
                "too many clients wait to be authenticated",
            ),
            Self::Unavailable => (
                ReasonCode::ServerUnavailable,
                "who decides about clients does not answer",
            ),
        }
    }
}

/// What is answered.
pub enum Verdict {
    /// The client is known.
    Accepted {
        /// Who it is.
        principal: Arc<Principal>,
        /// How long that is remembered for the same credentials, seconds.
        remember_s: u32,
        /// The last Authentication Data.
        data: Option<Box<[u8]>>,
    },
    /// The client must say more.
    Continue {
        /// Where the exchange stands.
        exchange: Exchange,
        /// Authentication Data.
        data: Box<[u8]>,
    },
    /// The client is refused.
    Refused(Refusal),
    /// Whether it may.
    Permission {
        /// Yes or no.
        granted: bool,
        /// How long that is remembered, seconds.
        remember_s: u32,
    },
}

impl fmt::Debug for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Accepted { .. } => "Accepted",
            Self::Continue { .. } => "Continue",
            Self::Refused(_) => "Refused",
            Self::Permission { granted: true, .. } => "Permission granted",
            Self::Permission { granted: false, .. } => "Permission refused",
        })
    }
}

/// An answer to a [`Question`].
#[derive(Debug)]
pub struct Answer {
    /// As in the question.
    pub slot: u32,
    /// As in the question.
    pub serial: u32,
    /// Of the policy by which it was answered.
    pub generation: u64,
    /// What is answered.
    pub verdict: Verdict,
}

/// A connection whose client is not known yet, or is being asked again.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Tells the connection from an earlier one in the same slot.
    pub(super) serial: u32,
    /// The body of CONNECT; none when a live connection authenticates again.
    connect: Option<Box<[u8]>>,
    /// Whether an answer is awaited; otherwise the client's next AUTH is.
    asked: bool,
    method: Option<Method>,
    exchange: Option<Exchange>,
    /// The client is known, and it is asked whether its Will may be published.
    admitted: Option<Admitted>,
    /// What the client takes, bytes [MQTT-3.1.2-24].
    packet_bytes_max: u32,
    /// Under which its credentials are remembered.
    key: Option<cache::Key>,
}

/// A client that is let in, and how.
#[derive(Clone, Debug)]
pub(super) struct Admitted {
    pub(super) principal: Arc<Principal>,
    pub(super) method: Option<Method>,
    /// The last Authentication Data.
    pub(super) data: Option<Box<[u8]>>,
    /// The Client Identifier that the broker has assigned, if it has.
    pub(super) assigned: String,
}

/// What a link of a chain says that only looks: who it is, if it knows the client.
pub fn look(link: Link, identity: &Identity, policy: &Policy) -> Option<Principal> {
    match link {
        Link::Certificate => identity.certificate.as_deref().map(Principal::named),
        Link::UnixPeer => {
            let number = identity.unix_user?;
            Some(match policy.unix_users.get(&number) {
                Some(name) => Principal::named(name),
                None => Principal::named(&number.to_string()),
            })
        }
        Link::PasswordFile | Link::Jwt | Link::Http => None,
    }
}
