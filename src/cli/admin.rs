//! The commands that see into a running broker, act on it, or speak MQTT with one.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Where the administration interface is, and how answers are printed.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Door {
    /// Where the broker's administration interface is [default: unix:/run/ringmq/admin.sock, or
    /// http://127.0.0.1:9883]
    #[arg(
        long,
        global = true,
        env = "RINGMQ_ADMIN",
        value_name = "http://ADDR:PORT|unix:/path"
    )]
    pub admin: Option<String>,
    /// File with the bearer token
    #[arg(long, global = true, env = "RINGMQ_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

/// One command with its door.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Through<T: Args> {
    /// Where and how.
    #[command(flatten)]
    pub door: Door,
    /// What.
    #[command(flatten)]
    pub what: T,
}

/// Nothing more to say.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Nothing {}

/// Which clients.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Clients {
    /// Text that the Client Identifier contains
    pub search: Option<String>,
    /// Only clients of this address
    #[arg(long, value_name = "IP")]
    pub address: Option<String>,
    /// Also sessions without a connection
    #[arg(long, conflicts_with = "address")]
    pub sessions: bool,
    /// How many
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
}

/// One client.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Client {
    /// Client Identifier
    pub client: String,
}

/// Whom to cut off.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Kick {
    /// Client Identifier
    pub client: String,
    /// What a 5.0 client is told
    #[arg(long)]
    pub reason: Option<String>,
    /// Also delete its session
    #[arg(long, conflicts_with = "reason")]
    pub delete_session: bool,
}

/// Which subscriptions, or one to add or remove.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Subs {
    /// Only of this client
    #[arg(long, value_name = "ID")]
    pub client: Option<String>,
    /// Text that the Topic Filter contains
    pub search: Option<String>,
    /// List shared groups instead
    #[arg(long, conflicts_with_all = ["client", "search"])]
    pub groups: bool,
    /// Subscribe on behalf of the client
    #[arg(long, requires = "client", value_name = "FILTER")]
    pub add: Option<String>,
    /// Maximum QoS of what is added
    #[arg(long, requires = "add", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// Unsubscribe on behalf of the client
    #[arg(
        long,
        requires = "client",
        value_name = "FILTER",
        conflicts_with = "add"
    )]
    pub remove: Option<String>,
    /// How many
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
}

/// Which retained messages.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Topic Filter; all topics if not given
    pub filter: Option<String>,
    /// Show the payload of this topic
    #[arg(long, value_name = "TOPIC", conflicts_with = "filter")]
    pub show: Option<String>,
    /// Delete the retained message of this topic
    #[arg(long, value_name = "TOPIC", conflicts_with_all = ["filter", "show"])]
    pub delete: Option<String>,
    /// How many
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
}

/// The greatest clients.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// By what
    #[arg(long, default_value = "bytes", value_parser = ["bytes", "rate", "queue"])]
    pub by: String,
    /// How many
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub limit: u32,
    /// Print once and end; also when standard output is no terminal
    #[arg(long)]
    pub once: bool,
}

/// What became of messages.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Why {
    /// Client Identifier of a publisher or a receiver
    #[arg(long, value_name = "ID", required_unless_present = "topic")]
    pub client: Option<String>,
    /// Topic Name or Topic Filter
    #[arg(long)]
    pub topic: Option<String>,
    /// How far back, like 90s, 5m or 1h
    #[arg(long, default_value = "5m", value_parser = seconds, value_name = "TIME")]
    pub last: u32,
    /// How many decisions, the latest
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000), value_name = "N")]
    pub limit: u32,
}

/// What to watch.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// Client Identifier of a publisher or a receiver
    #[arg(long, value_name = "ID", required_unless_present = "topic")]
    pub client: Option<String>,
    /// Topic Name or Topic Filter
    #[arg(long)]
    pub topic: Option<String>,
    /// Also show payloads
    #[arg(long, requires = "topic")]
    pub payloads: bool,
    /// End after so long, like 10s
    #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
    pub duration: Option<u32>,
}

/// Bans.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Ban {
    /// What to ban by
    #[arg(value_parser = ["client", "user", "address"], requires = "value")]
    pub kind: Option<String>,
    /// Whom; without anything the bans are listed
    pub value: Option<String>,
    /// For how long, like 10m; until the broker ends if it is not given
    #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
    pub duration: Option<u32>,
    /// Why
    #[arg(long)]
    pub reason: Option<String>,
    /// Lift the ban
    #[arg(long, requires = "value", conflicts_with_all = ["duration", "reason"])]
    pub lift: bool,
}

/// The level of the log.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct LogLevel {
    /// The new level; without it the level is printed
    #[arg(value_parser = crate::config::keys::LOG_LEVELS)]
    pub level: Option<String>,
}

/// How to reach a broker as a client.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// Where the broker is
    #[arg(
        long,
        default_value = "127.0.0.1:1883",
        value_name = "HOST:PORT|unix:/path"
    )]
    pub broker: String,
    /// Protocol version
    #[arg(long, default_value = "5.0", value_parser = ["3.1.1", "5.0"])]
    pub mqtt: String,
    /// Client Identifier; the broker chooses if it is not given
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// User Name
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// File with the Password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Keep Alive, seconds
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub keep_alive: u16,
    /// Go on with the session, and keep it for so many seconds
    #[arg(long, value_name = "SECONDS", requires = "id")]
    pub session: Option<u32>,
}

/// A message to publish.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Pub {
    /// How to reach the broker
    #[command(flatten)]
    pub reach: Reach,
    /// Topic Name
    pub topic: String,
    /// Payload; - reads standard input, as it is
    pub payload: Option<String>,
    /// QoS
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// The broker retains it
    #[arg(long)]
    pub retain: bool,
    /// Publish each line of standard input as a message
    #[arg(long, conflicts_with = "payload")]
    pub lines: bool,
    /// Message Expiry Interval, seconds
    #[arg(long, value_name = "SECONDS")]
    pub expiry: Option<u32>,
    /// Content Type
    #[arg(long)]
    pub content_type: Option<String>,
    /// Response Topic
    #[arg(long)]
    pub response_topic: Option<String>,
    /// A User Property; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub property: Vec<(String, String)>,
}

/// What to subscribe to.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Sub {
    /// How to reach the broker
    #[command(flatten)]
    pub reach: Reach,
    /// Topic Filters
    #[arg(required = true)]
    pub filters: Vec<String>,
    /// Maximum QoS
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    /// End after so many messages
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// End after so long, like 10s
    #[arg(long = "for", value_parser = seconds, value_name = "TIME")]
    pub duration: Option<u32>,
    /// Leave out what is retained
    #[arg(long)]
    pub no_retained: bool,
    /// Print each message as a JSON object
    #[arg(long)]
    pub json: bool,
}

/// How often to ask.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Ping {
    /// How to reach the broker
    #[command(flatten)]
    pub reach: Reach,
    /// How many PINGREQs
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..), value_name = "N")]
    pub count: u32,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum AdminCommand {
    /// Show a running broker at a glance
    Status(Through<Nothing>),
    /// List clients
    Clients(Through<Clients>),
    /// Show a client in full
    Client(Through<Client>),
    /// Cut a client off
    Kick(Through<Kick>),
    /// List subscriptions or shared groups; subscribe or unsubscribe a client
    Subs(Through<Subs>),
    /// List, show or delete retained messages
    Retained(Through<Retained>),
    /// Show the clients that hold or do most, again and again
    Top(Through<Top>),
    /// Tell what became of messages
    Why(Through<Why>),
    /// Watch what becomes of messages now
    Trace(Through<Trace>),
    /// Ban clients, or list bans
    Ban(Through<Ban>),
    /// Show where time goes inside the broker
    Latency(Through<Nothing>),
    /// Show or change the level of the log
    Log(Through<LogLevel>),
    /// Shut the broker down: no new connections, clients are told
    Drain(Through<Nothing>),
    /// Publish a message
    Pub(Pub),
    /// Subscribe, and print messages
    Sub(Sub),
    /// Connect, and measure how long the broker takes to answer
    Ping(Ping),
}

/// A time like `90s`, `5m`, `1h` or `90`.
fn seconds(text: &str) -> Result<u32, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err("write it like 90s, 5m, 1h or 2d".into()),
    };
    let number: Option<u32> = digits.parse().ok();
    let seconds = number.and_then(|number| number.checked_mul(factor));
    seconds
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "write it like 90s, 5m, 1h or 2d".into())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) => Ok((name.into(), value.into())),
        None => Err("write it like name=value".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        for (text, expected) in [("90", 90), ("90s", 90), ("5m", 300), ("1h", 3600)] {
            assert_eq!(seconds(text), Ok(expected));
        }
        for bad in ["", "m", "0s", "5x", "-1s", "9999999999h"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
