//! Options of Mosquitto 2 and what they are here.

use crate::config::keys::literal;

/// Where an option goes.
#[derive(Clone, Copy)]
pub enum To {
    /// A key of ours. The conversion gives the value as TOML, nothing if ours needs none, or why it cannot.
    Key {
        /// The section; `listener` for one of every listener.
        section: &'static str,
        /// The key.
        key: &'static str,
        /// The value.
        value: fn(&str) -> Result<Option<String>, String>,
        /// What is said although it has a counterpart.
        note: &'static str,
    },
    /// It is always so here: nothing is lost.
    Always,
    /// No counterpart; what to do instead.
    Nothing(&'static str),
}

use To::{Always, Key, Nothing};

const fn key(
    section: &'static str,
    key: &'static str,
    value: fn(&str) -> Result<Option<String>, String>,
) -> To {
    Key {
        section,
        key,
        value,
        note: "",
    }
}

const fn noted(
    section: &'static str,
    key: &'static str,
    value: fn(&str) -> Result<Option<String>, String>,
    note: &'static str,
) -> To {
    Key {
        section,
        key,
        value,
        note,
    }
}

const NO_BRIDGE: &str = "there are no bridges; let a client such as mosquitto or a stream processor connect both brokers";
const NO_TLS_OPTION: &str = "TLS is not configured by this import";
const NO_PLUGIN: &str = "there are no plugins";
const NO_CREDENTIALS: &str =
    "credentials are not imported; without them clients are anonymous or refused: do this first";

/// All options, by name.
#[rustfmt::skip] // one option, one line: the table is read as a table
pub const OPTIONS: &[(&str, To)] = &[
    ("accept_protocol_versions", Nothing("all versions are accepted")),
    ("acl_file", Nothing(NO_CREDENTIALS)),
    ("allow_duplicate_messages", key("message", "overlapping", |text| boolean(text).map(|yes| Some(literal(if yes { "separate" } else { "merge" }))))),
    ("allow_zero_length_clientid", Nothing("clients without an identifier always get one")),
    ("auth_plugin", Nothing(NO_PLUGIN)),
    ("auto_id_prefix", Nothing("identifiers that the broker assigns have no prefix")),
    ("autosave_interval", Nothing("nothing is saved at intervals: changes are written as they happen")),
    ("autosave_on_changes", Nothing("nothing is saved at intervals: changes are written as they happen")),
    ("bind_interface", Nothing("name an address of the interface in the listener")),
    ("cafile", Nothing(NO_TLS_OPTION)),
    ("capath", Nothing(NO_TLS_OPTION)),
    ("certfile", Nothing(NO_TLS_OPTION)),
    ("check_retain_source", Nothing("retained messages are kept whatever becomes of their publisher")),
    ("ciphers", Nothing(NO_TLS_OPTION)),
    ("ciphers_tls1.3", Nothing(NO_TLS_OPTION)),
    ("clientid_prefixes", Nothing("Client Identifiers are not restricted")),
    ("connection_messages", Nothing("ends by the broker are logged at level info, all others at level debug: see log.level and log.modules")),
    ("crlfile", Nothing(NO_TLS_OPTION)),
    ("dhparamfile", Nothing(NO_TLS_OPTION)),
    ("enable_control_api", Nothing("administration is not done by topics")),
    ("global_plugin", Nothing(NO_PLUGIN)),
    ("http_dir", Nothing("no files are served")),
    ("keyfile", Nothing(NO_TLS_OPTION)),
    ("log_dest", Nothing("lines go to standard error, and from there to the journal")),
    ("log_facility", Nothing("lines go to standard error, and from there to the journal")),
    ("log_timestamp", Always),
    ("log_timestamp_format", Nothing("times are in RFC 3339")),
    ("max_connections", key("listener", "connections_max", |text| unless_negative(text, 10_000_000))),
    ("max_inflight_bytes", key("session", "in_flight_bytes_max", |text| bytes_or_all(text, 1024))),
    ("max_inflight_messages", key("session", "in_flight_max", |text| or_all(text, 65_535))),
    ("max_keepalive", key("listener", "keep_alive_s_max", |text| or_all_as(text, 65_535, 0))),
    ("max_packet_size", key("listener", "packet_bytes_max", packet_bytes)),
    ("max_qos", key("listener", "maximum_qos", |text| or_all_as(text, 2, 0))),
    ("max_queued_bytes", key("session", "outbox_bytes_max", |text| bytes_or_all(text, 1024))),
    ("max_queued_messages", key("session", "outbox_messages_max", |text| or_all(text, u64::from(u32::MAX)))),
    ("max_topic_alias", key("listener", "topic_alias_maximum", |text| or_all_as(text, 65_535, 0))),
    ("max_topic_alias_broker", key("listener", "topic_alias_maximum_outgoing", |text| or_all_as(text, 65_535, 0))),
    ("memory_limit", Nothing("memory is limited by session, retained and network limits, and by MemoryMax= of the unit")),
    ("message_size_limit", noted("listener", "packet_bytes_max", packet_bytes,
        "packet_bytes_max counts the whole packet, not the payload alone")),
    ("mount_point", Nothing("topics of a listener cannot be moved below another")),
    ("password_file", Nothing(NO_CREDENTIALS)),
    ("per_listener_settings", Always),
    ("persistent_client_expiration", key("session", "session_expiry_interval_s_max", period)),
    ("pid_file", Nothing("the process number is in the file pid of runtime_directory")),
    ("plugin", Nothing(NO_PLUGIN)),
    ("protocol", Nothing("this import makes plain MQTT listeners")),
    ("psk_file", Nothing("pre-shared keys are not supported")),
    ("psk_hint", Nothing("pre-shared keys are not supported")),
    ("queue_qos0_messages", key("session", "queue_qos0_offline", |text| boolean(text).map(|yes| Some(yes.to_string())))),
    ("require_certificate", Nothing(NO_TLS_OPTION)),
    ("retain_available", key("listener", "retain_available", |text| boolean(text).map(|yes| Some(yes.to_string())))),
    ("retain_expiry_interval", Nothing("retained messages expire by their own Message Expiry Interval")),
    ("set_tcp_nodelay", Always),
    ("sys_interval", key("system_topics", "interval_s", |text| or_all_as(text, 65_535, 0))),
    ("tls_version", Nothing(NO_TLS_OPTION)),
    ("upgrade_outgoing_qos", Nothing("a message keeps the lower of its QoS and that of the subscription, as the specification says")),
    ("use_identity_as_username", Nothing(NO_TLS_OPTION)),
    ("use_subject_as_username", Nothing(NO_TLS_OPTION)),
    ("use_username_as_clientid", Nothing("a session belongs to its Client Identifier")),
    ("user", Nothing("the service manager starts the broker as its user (User= of the unit)")),
    ("websockets_headers_size", Nothing("this import makes plain MQTT listeners")),
    ("websockets_log_level", Nothing("this import makes plain MQTT listeners")),
    ("websockets_origin", Nothing("this import makes plain MQTT listeners")),
];

/// Defaults that differ: the option, what it is there, what it is here.
#[rustfmt::skip]
pub const DEFAULTS: &[(&str, &str, &str)] = &[
    ("max_inflight_messages", "20", "session.in_flight_max is 1024"),
    ("max_inflight_bytes", "no limit", "session.in_flight_bytes_max is 16MiB"),
    ("max_queued_messages", "1000", "session.outbox_messages_max is 10000"),
    ("max_queued_bytes", "no limit", "session.outbox_bytes_max is 16MiB"),
    ("max_packet_size", "no limit but the protocol's", "listener.packet_bytes_max is 16MiB"),
    ("max_topic_alias", "10", "listener.topic_alias_maximum is 64"),
    ("max_topic_alias_broker", "10", "listener.topic_alias_maximum_outgoing is 32"),
    ("max_connections", "no limit", "listener.connections_max is 1000000"),
    ("autosave_interval", "1800 seconds", "nothing is saved at intervals"),
];

/// The option with this name.
pub fn option(name: &str) -> Option<To> {
    let bridge = [
        "bridge_",
        "remote_",
        "local_",
        "notification",
        "restart_timeout",
        "try_private",
    ];
    let of_bridge = bridge.iter().any(|prefix| name.starts_with(prefix));
    let of_bridge = of_bridge
        || [
            "connection",
            "address",
            "addresses",
            "topic",
            "cleansession",
            "start_type",
            "threshold",
            "idle_timeout",
            "keepalive_interval",
            "round_robin",
            "max_inflight",
            "clientid",
            "username",
            "password",
        ]
        .contains(&name);
    let of_plugin = name.starts_with("auth_opt_") || name.starts_with("plugin_opt_");
    match OPTIONS.iter().find(|(other, _)| *other == name) {
        Some((_, to)) => Some(*to),
        None if of_bridge => Some(Nothing(NO_BRIDGE)),
        None if of_plugin => Some(Nothing(NO_PLUGIN)),
        None => None,
    }
}

/// `true` or `false`, as Mosquitto reads it.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err(format!("\"{text}\" is neither true nor false")),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("\"{text}\" is no number"))
}

/// A number where 0 is no limit, up to the most there is here.
fn or_all(text: &str, most: u64) -> Result<Option<String>, String> {
    or_all_as(text, most, most)
}

/// The same where no limit is written as `none`.
fn or_all_as(text: &str, most: u64, none: u64) -> Result<Option<String>, String> {
    let value = match number(text)? {
        0 => none,
        value => value.min(most),
    };
    Ok(Some(value.to_string()))
}

/// Bytes where 0 is no limit; ours have a least value.
fn bytes_or_all(text: &str, least: u64) -> Result<Option<String>, String> {
    let most = (4 << 30) - 1024;
    let value = match number(text)? {
        0 => most,
        value => value.clamp(least, most),
    };
    Ok(Some(value.to_string()))
}

/// The size of a packet, where 0 is no limit.
fn packet_bytes(text: &str) -> Result<Option<String>, String> {
    let most = 268_435_460;
    let value = match number(text)? {
        0 => most,
        value => value.clamp(128, most),
    };
    Ok(Some(value.to_string()))
}

/// A number where -1 is no limit, which needs no key.
fn unless_negative(text: &str, most: u64) -> Result<Option<String>, String> {
    if text.starts_with('-') {
        return Ok(None);
    }
    Ok(Some(number(text)?.clamp(1, most).to_string()))
}

/// A time like `2w` in seconds: h, d, w, m and y, as Mosquitto counts them.
fn period(text: &str) -> Result<Option<String>, String> {
    let unit = text.chars().next_back().unwrap_or_default();
    let seconds = match unit {
        'h' => 3600,
        'd' => 86_400,
        'w' => 604_800,
        'm' => 30 * 86_400,
        'y' => 365 * 86_400,
        _ => {
            return Err(format!(
                "\"{text}\" is no time; it ends with h, d, w, m or y"
            ));
        }
    };
    let count = number(&text[..text.len() - 1])?;
    let seconds = count.saturating_mul(seconds).min(u64::from(u32::MAX));
    Ok(Some(seconds.to_string()))
}
