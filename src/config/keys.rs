//! What a key of the configuration file is: its type, its limits, and where its value goes.
//!
//! The keys themselves are in [`super::table`]. The parser, `ringmq check --explain`, `--print-config` and
//! the reference in the README all read that one table, so they cannot disagree.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::access::Link;
use super::address::ListenAddress;
use super::doors::Doors;
use super::limits::{Durability, ListenerLimits};
use super::resolved::{Config, Listener, Redirect, UnixOptions};

/// Levels of log lines, the quietest first.
pub const LOG_LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Before the first header.
    Top,
    /// `[log]`.
    Log,
    /// `[[listener]]`, any number of times.
    Listener,
    /// `[session]`.
    Session,
    /// `[message]`.
    Message,
    /// `[shared]`.
    Shared,
    /// `[retained]`.
    Retained,
    /// `[network]`.
    Network,
    /// `[storage]`.
    Storage,
    /// `[system_topics]`.
    SystemTopics,
    /// `[redirect]`.
    Redirect,
    /// `[authentication]`.
    Authentication,
    /// `[jwt]`.
    Jwt,
    /// `[http_callback]`.
    HttpCallback,
    /// `[authorization]`.
    Authorization,
    /// `[admin]`.
    Admin,
    /// `[observability]`.
    Observability,
}

impl Section {
    /// All, in the order of the reference.
    pub const ALL: [Self; 17] = [
        Self::Top,
        Self::Log,
        Self::Listener,
        Self::Session,
        Self::Message,
        Self::Shared,
        Self::Retained,
        Self::Network,
        Self::Storage,
        Self::SystemTopics,
        Self::Redirect,
        Self::Authentication,
        Self::Jwt,
        Self::HttpCallback,
        Self::Authorization,
        Self::Admin,
        Self::Observability,
    ];

    /// Its name in the file; empty at the top.
    pub fn name(self) -> &'static str {
        match self {
            Self::Top => "",
            Self::Log => "log",
            Self::Listener => "listener",
            Self::Session => "session",
            Self::Message => "message",
            Self::Shared => "shared",
            Self::Retained => "retained",
            Self::Network => "network",
            Self::Storage => "storage",
            Self::SystemTopics => "system_topics",
            Self::Redirect => "redirect",
            Self::Authentication => "authentication",
            Self::Jwt => "jwt",
            Self::HttpCallback => "http_callback",
            Self::Authorization => "authorization",
            Self::Admin => "admin",
            Self::Observability => "observability",
        }
    }

    /// Its header in the file.
    pub fn header(self) -> String {
        match self {
            Self::Top => String::new(),
            Self::Listener => "[[listener]]".into(),
            _ => format!("[{}]", self.name()),
        }
    }

    /// The section with this name; never the top.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|section| *section != Self::Top && section.name() == name)
    }

    /// Its keys, in the order of the table.
    pub fn keys(self) -> impl Iterator<Item = &'static Key> {
        super::table::KEYS
            .iter()
            .filter(move |key| key.section == self)
    }
}

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes; may also be written like `"64KiB"`.
    Bytes,
    /// Seconds.
    Seconds,
}

/// A listener while its table is read.
#[derive(Clone, Debug, Default)]
pub struct DraftListener {
    /// `name`.
    pub name: Option<String>,
    /// `address`, without which there is no listener.
    pub address: Option<ListenAddress>,
    /// `allow_anonymous`; by default whether the address is local.
    pub allow_anonymous: Option<bool>,
    /// `authentication`.
    pub authentication: Option<Vec<Link>>,
    /// Owner, group and mode.
    pub unix: UnixOptions,
    /// `durability`.
    pub durability: Option<Durability>,
    /// TLS, WebSocket, PROXY protocol, and who may connect.
    pub doors: Doors,
    /// Everything else.
    pub limits: ListenerLimits,
}

/// `[redirect]` while it is read.
#[derive(Clone, Debug, Default)]
pub struct DraftRedirect {
    /// `server_reference`, without which nothing is redirected.
    pub server_reference: Option<String>,
    /// `permanent`.
    pub permanent: bool,
}

/// The configuration while the file is read: keys put their values here.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    /// Everything but listeners and redirect.
    pub config: Config,
    /// The listener whose table is being read.
    pub listener: DraftListener,
    /// The redirect.
    pub redirect: DraftRedirect,
}

impl Draft {
    /// A draft that shows what `config` has, without its listeners.
    pub fn showing(config: &Config) -> Self {
        let redirect = config.redirect.clone().map(|redirect| DraftRedirect {
            server_reference: Some(redirect.server_reference),
            permanent: redirect.permanent,
        });
        Self {
            config: config.clone(),
            listener: DraftListener::default(),
            redirect: redirect.unwrap_or_default(),
        }
    }

    /// Shows `listener` from now on.
    pub fn show_listener(&mut self, listener: &Listener) {
        self.listener = DraftListener {
            name: Some(listener.name.clone()),
            address: Some(listener.address.clone()),
            allow_anonymous: Some(listener.allow_anonymous),
            authentication: listener.authentication.clone(),
            unix: listener.unix.clone(),
            durability: listener.durability,
            doors: listener.doors.clone(),
            limits: listener.limits.clone(),
        };
    }

    /// The redirect that was read, if any.
    pub fn redirect(&self) -> Option<Redirect> {
        Some(Redirect {
            server_reference: self.redirect.server_reference.clone()?,
            permanent: self.redirect.permanent,
        })
    }
}

/// The type of a key, with how a checked value is put into the draft and taken from it.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A whole number from `min` to `max`.
    Integer {
        /// What it counts.
        unit: Unit,
        /// Least value.
        min: u64,
        /// Greatest value.
        max: u64,
        /// Whether only powers of two are taken.
        power_of_two: bool,
        /// Puts a value that is in range.
        set: fn(&mut Draft, u64),
        /// Takes it, unless it is not set.
        get: fn(&Draft) -> Option<u64>,
    },
    /// `true` or `false`.
    Boolean {
        /// Puts it.
        set: fn(&mut Draft, bool),
        /// Takes it, unless it is not set.
        get: fn(&Draft) -> Option<bool>,
    },
    /// One of a few words.
    Choice {
        /// The words.
        values: &'static [&'static str],
        /// Puts the word with this index.
        set: fn(&mut Draft, usize),
        /// Takes the index of the word.
        get: fn(&Draft) -> Option<usize>,
    },
    /// A list of words, each of which stands at most once.
    Words {
        /// The words.
        values: &'static [&'static str],
        /// Puts the indexes of the words.
        set: fn(&mut Draft, Vec<usize>),
        /// Takes them, unless they are not set.
        get: fn(&Draft) -> Option<Vec<usize>>,
    },
    /// Text of some form.
    Text {
        /// What it must look like.
        form: &'static str,
        /// Puts it, unless it does not look like that.
        set: fn(&mut Draft, &str) -> Result<(), String>,
        /// Takes it, unless it is not set.
        get: fn(&Draft) -> Option<String>,
    },
    /// Several texts, as an array, or one.
    Texts {
        /// What each must look like.
        form: &'static str,
        /// Puts them, unless one does not look like that.
        set: fn(&mut Draft, &[String]) -> Result<(), String>,
        /// Takes them.
        get: fn(&Draft) -> Vec<String>,
    },
    /// CPU numbers, as text or as an array.
    Cpus {
        /// Puts them.
        set: fn(&mut Draft, Vec<usize>),
        /// Takes them, unless they are not set.
        get: fn(&Draft) -> Option<Vec<usize>>,
    },
    /// A table from module to log level.
    Levels {
        /// Puts it.
        set: fn(&mut Draft, BTreeMap<String, String>),
        /// Takes it.
        get: fn(&Draft) -> BTreeMap<String, String>,
    },
}

/// A key of the configuration file.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The table it belongs to.
    pub section: Section,
    /// Its name there.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What holds when it is absent, if that is no value that could be written.
    pub unset: &'static str,
    /// What it does.
    pub doc: &'static str,
}

impl Key {
    /// Its name with the section, as `session.in_flight_max`.
    pub fn path(&self) -> String {
        match self.section {
            Section::Top => self.name.into(),
            section => format!("{}.{}", section.name(), self.name),
        }
    }

    /// What a value must be, for messages and for the reference.
    pub fn expected(&self) -> String {
        match self.kind {
            Kind::Integer {
                unit,
                min,
                max,
                power_of_two,
                ..
            } => {
                let (min, max) = (amount(unit, min), amount(unit, max));
                match (unit, power_of_two) {
                    (Unit::Bytes, false) => format!("bytes from {min} to {max}"),
                    (Unit::Bytes, true) => format!("a power of two of bytes from {min} to {max}"),
                    (Unit::Seconds, _) => format!("seconds from {min} to {max}"),
                    (Unit::Count, false) => format!("a whole number from {min} to {max}"),
                    (Unit::Count, true) => format!("a power of two from {min} to {max}"),
                }
            }
            Kind::Boolean { .. } => "true or false".into(),
            Kind::Choice { values, .. } => {
                let quoted: Vec<_> = values.iter().map(|word| format!("\"{word}\"")).collect();
                format!("one of {}", quoted.join(", "))
            }
            Kind::Words { values, .. } => {
                let quoted: Vec<_> = values.iter().map(|word| format!("\"{word}\"")).collect();
                format!("a list of {}", quoted.join(", "))
            }
            Kind::Text { form, .. } | Kind::Texts { form, .. } => form.into(),
            Kind::Cpus { .. } => "CPU numbers like \"0,1,4-7\" or [0, 1, 4]".into(),
            Kind::Levels { .. } => {
                "a table like { \"ringmq::shard\" = \"debug\" }, levels as in log.level".into()
            }
        }
    }

    /// Its value in `draft` as TOML; `None` if it is not set.
    pub fn show(&self, draft: &Draft) -> Option<String> {
        match self.kind {
            Kind::Integer { unit, get, .. } => get(draft).map(|value| match unit {
                Unit::Bytes if value.is_multiple_of(1024) && value > 0 => {
                    literal(&amount(unit, value))
                }
                _ => value.to_string(),
            }),
            Kind::Boolean { get, .. } => get(draft).map(|value| value.to_string()),
            Kind::Choice { values, get, .. } => {
                get(draft).and_then(|index| values.get(index).map(|word| literal(word)))
            }
            Kind::Words { values, get, .. } => get(draft).map(|indexes| {
                let words = indexes.iter().filter_map(|index| values.get(*index));
                let words: Vec<_> = words.map(|word| literal(word)).collect();
                format!("[{}]", words.join(", "))
            }),
            Kind::Text { get, .. } => get(draft).map(|text| literal(&text)),
            Kind::Texts { get, .. } => {
                let texts: Vec<_> = get(draft).iter().map(|text| literal(text)).collect();
                (!texts.is_empty()).then(|| format!("[{}]", texts.join(", ")))
            }
            Kind::Cpus { get, .. } => get(draft).map(|cpus| format!("{cpus:?}")),
            Kind::Levels { get, .. } => {
                let pairs: Vec<_> = get(draft)
                    .iter()
                    .map(|(module, level)| format!("{} = {}", literal(module), literal(level)))
                    .collect();
                (!pairs.is_empty()).then(|| format!("{{ {} }}", pairs.join(", ")))
            }
        }
    }

    /// What holds when the key is absent.
    pub fn default_text(&self) -> String {
        self.show(&Draft::default())
            .unwrap_or_else(|| self.unset.into())
    }
}

/// A number as it is best read, in the file's own notation: 65536 bytes are `64KiB`.
pub fn amount(unit: Unit, value: u64) -> String {
    if unit != Unit::Bytes || value == 0 {
        return value.to_string();
    }
    SIZE_UNITS
        .iter()
        .find(|(_, size)| *size > 1 && value.is_multiple_of(*size))
        .map_or_else(
            || value.to_string(),
            |(name, size)| format!("{}{name}", value / size),
        )
}

/// Binary units only: "MB" means two different things.
const SIZE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// A size like `64KiB`, `64 KiB`, `100B` or `100`.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = &text[digits.len()..];
    let number: u64 = digits.trim_end().parse().ok()?;
    let size = match unit {
        "" => 1,
        _ => SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(size)
}

/// A basic string of TOML.
pub fn literal(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a String cannot fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
