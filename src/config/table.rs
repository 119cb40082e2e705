//! Every key of the configuration file: section, name, type, limits and what it does.
//!
//! Read through [`super::keys`]. Defaults are not here: they are those of [`super::resolved::Config`], taken
//! through each key's own `get`.

use std::path::PathBuf;

use super::access::{AclFormat, DeniedPublish, JWT_ALGORITHMS, Link, Method};
use super::doors::{CertificateIdentity, ClientCertificate, TlsVersion};
use super::keys::{Draft, Key, Kind, LOG_LEVELS, Section, Unit};
use super::limits::{Durability, OutboxFull, Overlapping, SHARDS_MAX};
use super::profile::Profile;
use super::resolved::{LogFormat, SharedStrategy};

const U16: u64 = u16::MAX as u64;
const U32: u64 = u32::MAX as u64;
/// Sizes of 4 GiB and more do not fit the counters of one connection or one session.
const BYTES_U32: u64 = (4 << 30) - 1024;

/// A number that goes into the field `$($at).+` of the draft.
macro_rules! integer {
    ($section:ident, $name:literal, $unit:ident, $min:expr, $max:expr, $($at:ident).+, $doc:expr) => {
        integer!(@ $section, $name, $unit, $min, $max, false, $($at).+, $doc)
    };
    (power_of_two $section:ident, $name:literal, $unit:ident, $min:expr, $max:expr, $($at:ident).+, $doc:expr) => {
        integer!(@ $section, $name, $unit, $min, $max, true, $($at).+, $doc)
    };
    (@ $section:ident, $name:literal, $unit:ident, $min:expr, $max:expr, $power:literal, $($at:ident).+, $doc:expr) => {
        Key {
            section: Section::$section,
            name: $name,
            kind: Kind::Integer {
                unit: Unit::$unit,
                min: $min,
                max: $max,
                power_of_two: $power,
                set: |draft, value| {
                    // The range fits the field, as a test makes sure.
                    draft.$($at).+ = value.try_into().unwrap_or(draft.$($at).+);
                },
                get: |draft| Some(draft.$($at).+.into()),
            },
            unset: "",
            doc: $doc,
        }
    };
}

/// A field that is true or false.
macro_rules! boolean {
    ($section:ident, $name:literal, $($at:ident).+, $doc:expr) => {
        Key {
            section: Section::$section,
            name: $name,
            kind: Kind::Boolean {
                set: |draft, value| draft.$($at).+ = value,
                get: |draft| Some(draft.$($at).+),
            },
            unset: "",
            doc: $doc,
        }
    };
}

/// A field that takes one of a few values, each with its word.
macro_rules! choice {
    ($section:ident, $name:literal, $($at:ident).+, [$($word:literal => $value:expr),+], $doc:expr) => {
        Key {
            section: Section::$section,
            name: $name,
            kind: Kind::Choice {
                values: &[$($word),+],
                set: |draft, index| {
                    if let Some(value) = [$($value),+].get(index) {
                        draft.$($at).+ = *value;
                    }
                },
                get: |draft| [$($value),+].iter().position(|value| *value == draft.$($at).+),
            },
            unset: "",
            doc: $doc,
        }
    };
}

/// Text without a form of its own that may be absent.
macro_rules! text {
    ($section:ident, $name:literal, $form:literal, $($at:ident).+, $unset:literal, $doc:expr) => {
        Key {
            section: Section::$section,
            name: $name,
            kind: Kind::Text {
                form: $form,
                set: |draft, text| put_text(&mut draft.$($at).+, text),
                get: |draft| draft.$($at).+.clone(),
            },
            unset: $unset,
            doc: $doc,
        }
    };
}

/// Several texts without a form of their own.
macro_rules! texts {
    ($name:literal, $form:literal, $($at:ident).+, $unset:literal, $doc:expr) => {
        texts!($name, $form, $($at).+, $unset, put_texts, $doc)
    };
    ($name:literal, $form:literal, $($at:ident).+, $unset:literal, $put:ident, $doc:expr) => {
        Key {
            section: Section::Listener,
            name: $name,
            kind: Kind::Texts {
                form: $form,
                set: |draft, texts| $put(&mut draft.$($at).+, texts),
                get: |draft| draft.$($at).+.iter().map(ToString::to_string).collect(),
            },
            unset: $unset,
            doc: $doc,
        }
    };
}

/// A list of words, each of which stands for a value.
macro_rules! words {
    ($section:ident, $name:literal, $values:expr, $all:expr, $($at:ident).+, $doc:expr) => {
        Key {
            section: Section::$section,
            name: $name,
            kind: Kind::Words {
                values: $values,
                set: |draft, indexes| {
                    let values = indexes.iter().filter_map(|index| $all.get(*index));
                    draft.$($at).+ = values.copied().collect();
                },
                get: |draft| {
                    let index = |value| $all.iter().position(|known| known == value);
                    Some(draft.$($at).+.iter().filter_map(index).collect())
                },
            },
            unset: "",
            doc: $doc,
        }
    };
}

fn put_texts(field: &mut Vec<String>, texts: &[String]) -> Result<(), String> {
    for text in texts {
        put_text(&mut None, text)?;
    }
    *field = texts.to_vec();
    Ok(())
}

/// Values with a form of their own.
fn put_parsed<T>(field: &mut Vec<T>, texts: &[String]) -> Result<(), String>
where
    T: std::str::FromStr<Err = String>,
{
    *field = texts
        .iter()
        .map(|text| text.parse())
        .collect::<Result<_, _>>()?;
    Ok(())
}

/// A text of MQTT or a name: not empty, at most 65,535 bytes, no control characters.
fn put_text(field: &mut Option<String>, text: &str) -> Result<(), String> {
    if text.is_empty() || text.len() > usize::from(u16::MAX) || text.contains(char::is_control) {
        return Err("the text is empty, too long, or has control characters".into());
    }
    *field = Some(text.into());
    Ok(())
}

fn put_mode(draft: &mut Draft, text: &str) -> Result<(), String> {
    let mode = match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => u32::from_str_radix(text, 8).ok(),
        false => None,
    };
    match mode.filter(|mode| *mode <= 0o777) {
        Some(mode) => draft.listener.unix.mode = Some(mode),
        None => return Err(format!("\"{text}\" is no mode")),
    }
    Ok(())
}

fn put_admin_address(draft: &mut Draft, text: &str) -> Result<(), String> {
    let address = text.parse();
    draft.config.admin.address = Some(address.map_err(|_| format!("\"{text}\" is no address"))?);
    Ok(())
}

/// The path of a file of this machine.
fn put_path(field: &mut Option<PathBuf>, text: &str) -> Result<(), String> {
    if !text.starts_with('/') || text.contains(char::is_control) {
        return Err(format!("\"{text}\" is no absolute path"));
    }
    *field = Some(text.into());
    Ok(())
}

fn shown(path: Option<&PathBuf>) -> Option<String> {
    path.map(|path| path.display().to_string())
}
/// A durability that may be absent.
macro_rules! durability {
    ($section:ident, $($at:ident).+, $unset:literal, $doc:expr) => {
        Key {
            section: Section::$section,
            name: "durability",
            kind: Kind::Choice {
                values: &["memory", "os", "fsync"],
                set: |draft, index| draft.$($at).+ = DURABILITIES.get(index).copied(),
                get: |draft| DURABILITIES.iter().position(|value| Some(*value) == draft.$($at).+),
            },
            unset: $unset,
            doc: $doc,
        }
    };
}

/// In the order of their words.
pub const DURABILITIES: [Durability; 3] = [Durability::Memory, Durability::Os, Durability::Fsync];

/// All keys, grouped by section.
#[rustfmt::skip] // one key, one entry: the table is read as a table
pub static KEYS: &[Key] = &[
    choice!(Top, "profile", config.profile,
        ["balanced" => Profile::Balanced, "latency" => Profile::Latency, "throughput" => Profile::Throughput, "density" => Profile::Density],
        "Other defaults for many keys: short times for a message, most messages for the CPU, or most clients for the memory. Keys that are set win."),
    Key {
        section: Section::Top,
        name: "shards",
        kind: Kind::Integer {
            unit: Unit::Count,
            min: 1,
            max: SHARDS_MAX as u64,
            power_of_two: false,
            set: |draft, value| draft.config.shards = value.try_into().ok(),
            get: |draft| draft.config.shards.map(u64::from),
        },
        unset: "one for each core",
        doc: "How many shards, each a thread with its own sessions and its own ring. More shards than cores share them.",
    },
    Key {
        section: Section::Top,
        name: "cores",
        kind: Kind::Cpus {
            set: |draft, cpus| draft.config.cores = Some(cpus),
            get: |draft| draft.config.cores.clone(),
        },
        unset: "all CPUs that the process may use",
        doc: "The CPUs that shards are pinned to, in this order.",
    },
    text!(Top, "runtime_directory", "the path of a directory", config.runtime_directory, "RUNTIME_DIRECTORY of the environment, which systemd sets; or none",
        "Where the broker writes its process number and the configuration it runs with, for \"ringmq reload\"."),
    text!(Top, "data_dir", "a path", config.data_dir, "none: everything is in memory",
        "The directory where sessions and retained messages are kept, so that they survive a restart. One broker at a time uses it."),
    durability!(Top, config.durability, "\"fsync\" with data_dir, \"memory\" without",
        "What PUBACK, PUBREC and SUBACK promise of persistent sessions and retained messages: nothing beyond the process, to survive a killed process, or to survive a loss of power."),
    integer!(Top, "shutdown_grace_s", Seconds, 0, 3600, config.shutdown_grace_s,
        "How long clients have to take their last packets at shutdown. Then the broker ends with exit code 5."),

    Key {
        section: Section::Log,
        name: "level",
        kind: Kind::Choice {
            values: &LOG_LEVELS,
            set: |draft, index| {
                if let Some(level) = LOG_LEVELS.get(index) {
                    draft.config.log.level = (*level).into();
                }
            },
            get: |draft| LOG_LEVELS.iter().position(|level| *level == draft.config.log.level),
        },
        unset: "",
        doc: "The least severe lines that are logged.",
    },
    choice!(Log, "format", config.log.format, ["text" => LogFormat::Text, "json" => LogFormat::Json],
        "Lines for people, or one JSON object a line."),
    Key {
        section: Section::Log,
        name: "modules",
        kind: Kind::Levels {
            set: |draft, levels| draft.config.log.modules = levels,
            get: |draft| draft.config.log.modules.clone(),
        },
        unset: "none",
        doc: "Levels of single modules, which override log.level.",
    },

    text!(Listener, "name", "text", listener.name, "\"mqtt\", or \"unix\" for a Unix socket; numbered if taken",
        "Its name in logs and metrics."),
    Key {
        section: Section::Listener,
        name: "address",
        kind: Kind::Text {
            form: "an address like \"127.0.0.1:1883\", \"[::1]:1883\" or \"unix:/run/ringmq.sock\"",
            set: |draft, text| {
                draft.listener.address = Some(text.parse()?);
                Ok(())
            },
            get: |draft| draft.listener.address.as_ref().map(ToString::to_string),
        },
        unset: "none: required",
        doc: "Where it listens. Port 0 lets the kernel choose. Without any [[listener]] it is 127.0.0.1:1883.",
    },
    Key {
        section: Section::Listener,
        name: "allow_anonymous",
        kind: Kind::Boolean {
            set: |draft, value| draft.listener.allow_anonymous = Some(value),
            get: |draft| draft.listener.allow_anonymous,
        },
        unset: "true if the address is local and nothing authenticates",
        doc: "Whether clients without credentials may connect. An address that other machines reach needs it unless an authentication chain or method is configured, so that nobody opens a broker to the world by accident.",
    },
    Key {
        section: Section::Listener,
        name: "authentication",
        kind: Kind::Words {
            values: &Link::NAMES,
            set: |draft, indexes| {
                let links = indexes.iter().filter_map(|index| Link::ALL.get(*index));
                draft.listener.authentication = Some(links.copied().collect());
            },
            get: |draft| {
                let index = |link| Link::ALL.iter().position(|known| known == link);
                let links = draft.listener.authentication.as_ref()?;
                Some(links.iter().filter_map(index).collect())
            },
        },
        unset: "authentication.chain",
        doc: "The authentication chain of this listener, instead of that of all.",
    },
    text!(Listener, "unix_owner", "a user name or number", listener.unix.owner, "the broker's own user",
        "Owner of the Unix socket."),
    text!(Listener, "unix_group", "a group name or number", listener.unix.group, "the broker's own group",
        "Group of the Unix socket."),
    Key {
        section: Section::Listener,
        name: "unix_mode",
        kind: Kind::Text {
            form: "permission bits in octal, as text from \"0000\" to \"0777\"",
            set: put_mode,
            get: |draft| draft.listener.unix.mode.map(|mode| format!("{mode:04o}")),
        },
        unset: "\"0660\"",
        doc: "Permissions of the Unix socket.",
    },
    durability!(Listener, listener.durability, "that of the top level",
        "The same for the clients of this listener: their sessions, and what they publish."),
    texts!("tls_certificates", "one file name or an array of them", listener.doors.tls.certificates, "none: no TLS",
        "PEM files with a certificate chain each, the server's own first. With them the listener speaks TLS. A client that names a host gets the certificate for it (SNI); any other gets the first."),
    texts!("tls_keys", "one file name or an array of them", listener.doors.tls.keys, "the files of tls_certificates",
        "PEM files with the private keys, in the order of tls_certificates. All files of TLS are read again on SIGHUP and when one has changed; if anything is wrong with one, all stay as they were."),
    choice!(Listener, "tls_version_min", listener.doors.tls.version_min,
        ["1.2" => TlsVersion::V1_2, "1.3" => TlsVersion::V1_3],
        "The oldest version of TLS that is spoken."),
    choice!(Listener, "tls_client_certificate", listener.doors.tls.client_certificate,
        ["none" => ClientCertificate::None, "optional" => ClientCertificate::Optional, "required" => ClientCertificate::Required],
        "Whether a client is asked for a certificate, and whether it must show one. One that is shown must be good."),
    text!(Listener, "tls_client_ca", "a file name", listener.doors.tls.client_ca, "none",
        "PEM file with the authorities whose client certificates are good."),
    texts!("tls_client_crls", "one file name or an array of them", listener.doors.tls.client_crls, "none",
        "PEM files with revoked client certificates. With any, a certificate of an authority without such a list is refused."),
    choice!(Listener, "tls_identity", listener.doors.tls.identity,
        ["common_name" => CertificateIdentity::CommonName, "alternative_name" => CertificateIdentity::AlternativeName,
         "distinguished_name" => CertificateIdentity::DistinguishedName],
        "Which part of a client certificate says who the client is."),
    boolean!(Listener, "websocket", listener.doors.websocket.is_on,
        "Whether MQTT comes over WebSocket; with tls_certificates over secure WebSocket."),
    texts!("websocket_paths", "one path or an array of them", listener.doors.websocket.paths, "all",
        "The paths at which WebSocket is served, like \"/mqtt\"."),
    texts!("websocket_origins", "one origin or an array of them", listener.doors.websocket.origins, "the host that the client has connected to",
        "Origins of web pages that may connect, like \"https://example.org\"; \"*\" is any. Clients that are no browsers send no origin and may connect."),
    integer!(Listener, "websocket_frame_bytes_max", Bytes, 128, 1 << 30, listener.doors.websocket.frame_bytes_max,
        "Largest WebSocket frame. It may hold many packets, or a part of one."),
    boolean!(Listener, "proxy_protocol", listener.doors.proxy_protocol,
        "Whether every connection begins with a PROXY header, version 1 or 2, which tells the client's address. Peers that are not among trusted_proxies are refused."),
    texts!("trusted_proxies", "networks like \"10.0.0.0/8\" or \"::1\", or \"unix\"", listener.doors.trusted_proxies, "none", put_parsed,
        "Who may tell a client's address, with a PROXY header or with X-Forwarded-For."),
    texts!("allow", "networks like \"10.0.0.0/8\" or \"::1\", or \"unix\"", listener.doors.allow, "everybody", put_parsed,
        "Clients that may connect, by address."),
    texts!("deny", "networks like \"10.0.0.0/8\" or \"::1\", or \"unix\"", listener.doors.deny, "nobody", put_parsed,
        "Clients that may not connect, whatever allow says."),
    integer!(Listener, "connections_max", Count, 1, 10_000_000, listener.limits.connections_max,
        "Connections through this listener at once; further ones are closed at accept."),
    integer!(Listener, "connections_per_s_max", Count, 0, 1_000_000, listener.limits.connections_per_s_max,
        "Connections through this listener in a second; further ones are closed at accept. As many may come at once after a quiet second. 0 is no limit."),
    integer!(Listener, "connect_timeout_s", Seconds, 1, 3600, listener.limits.connect_timeout_s,
        "From accept to the end of the CONNECT packet; then the connection is closed."),
    integer!(Listener, "connect_bytes_max", Bytes, 128, 268_435_460, listener.limits.connect_bytes_max,
        "Largest CONNECT, which is taken before it is known who sends it. With the default, Client Identifier, Will Topic, Will Payload, User Name and Password may all be as long as MQTT allows."),
    integer!(Listener, "packet_bytes_max", Bytes, 128, 268_435_460, listener.limits.packet_bytes_max,
        "Largest Control Packet from a client (Maximum Packet Size)."),
    integer!(Listener, "publish_messages_per_s_max", Count, 0, 10_000_000, listener.limits.publish_messages_per_s_max,
        "Messages that a client may publish in a second. What is over it is not read until its time has come, so that the client is held back by its own socket. As many may come at once after a quiet second. 0 is no limit."),
    integer!(Listener, "publish_bytes_per_s_max", Bytes, 0, 1 << 30, listener.limits.publish_bytes_per_s_max,
        "Bytes of PUBLISH packets that a client may send in a second, in the same way. 0 is no limit."),
    integer!(Listener, "publish_rate_patience_s", Seconds, 0, 3600, listener.limits.publish_rate_patience_s,
        "How long a client may press against its publish rate without a quiet moment; then it is disconnected with Message rate too high (0x96). 0 is for ever."),
    integer!(Listener, "keep_alive_s_min", Seconds, 0, U16, listener.limits.keep_alive_s_min,
        "Shortest Keep Alive; a 5.0 client is told with Server Keep Alive, any other is given that long. 0 asked for stays 0."),
    integer!(Listener, "keep_alive_s_max", Seconds, 0, U16, listener.limits.keep_alive_s_max,
        "Longest Keep Alive; a 5.0 client is told with Server Keep Alive. 0 is no limit."),
    integer!(Listener, "topic_alias_maximum_outgoing", Count, 0, U16, listener.limits.topic_alias_maximum_outgoing,
        "Topic Aliases that the broker uses towards a client that allows them. 0 is none."),
    text!(Listener, "response_information", "text", listener.limits.response_information, "none",
        "What a 5.0 client is told that asks for Response Information, as a rule the beginning of its Response Topics."),
    integer!(Listener, "receive_maximum", Count, 1, U16, listener.limits.capabilities.receive_maximum,
        "QoS 1 and 2 messages that a client may have unacknowledged (Receive Maximum)."),
    integer!(Listener, "topic_alias_maximum", Count, 0, U16, listener.limits.capabilities.topic_alias_maximum,
        "Topic Aliases that a client may use (Topic Alias Maximum). 0 is none."),
    integer!(Listener, "maximum_qos", Count, 0, 2, listener.limits.capabilities.maximum_qos,
        "Highest QoS of PUBLISH packets and of granted subscriptions."),
    boolean!(Listener, "retain_available", listener.limits.capabilities.retain_available,
        "Whether retained messages are taken."),
    boolean!(Listener, "wildcard_subscription_available", listener.limits.capabilities.wildcard_subscription_available,
        "Whether Topic Filters with wildcards are taken."),
    boolean!(Listener, "subscription_identifiers_available", listener.limits.capabilities.subscription_identifiers_available,
        "Whether Subscription Identifiers are taken."),
    boolean!(Listener, "shared_subscription_available", listener.limits.capabilities.shared_subscription_available,
        "Whether shared subscriptions are taken."),

    integer!(Session, "session_expiry_interval_s_max", Seconds, 0, U32, config.session.session_expiry_interval_s_max,
        "Longest Session Expiry Interval. 4294967295 lets sessions live for ever."),
    integer!(Session, "persistent_v3_expiry_interval_s", Seconds, 0, U32, config.session.persistent_v3_expiry_interval_s,
        "How long a session of a 3.1 or 3.1.1 client without Clean Session outlives its connection. 4294967295 is for ever."),
    integer!(Session, "in_flight_max", Count, 1, U16, config.session.in_flight_max,
        "Unacknowledged QoS 1 and 2 messages towards a client, whatever its Receive Maximum."),
    integer!(Session, "in_flight_bytes_max", Bytes, 1024, BYTES_U32, config.session.in_flight_bytes_max,
        "Bytes of unacknowledged QoS 1 and 2 messages towards a client. Once they are reached nothing more is sent until it acknowledges; one message may go beyond."),
    integer!(Session, "outbox_messages_max", Count, 1, U32, config.session.outbox_messages_max,
        "Messages that wait for one session."),
    integer!(Session, "outbox_bytes_max", Bytes, 1024, BYTES_U32, config.session.outbox_bytes_max,
        "Bytes of messages that wait for one session."),
    choice!(Session, "outbox_full", config.session.outbox_full,
        ["drop_newest" => OutboxFull::DropNewest, "drop_oldest" => OutboxFull::DropOldest],
        "What goes when an outbox is full."),
    boolean!(Session, "queue_qos0_offline", config.session.queue_qos0_offline,
        "Whether QoS 0 messages are queued for sessions that are offline."),
    integer!(Session, "subscriptions_max", Count, 1, U32, config.session.subscriptions_max,
        "Subscriptions of one session."),
    integer!(Session, "sessions_max", Count, 1, U32, config.session.sessions_max,
        "Sessions of one shard."),

    choice!(Message, "overlapping", config.message.overlapping,
        ["merge" => Overlapping::Merge, "separate" => Overlapping::Separate],
        "What a session with several matching subscriptions gets: one copy with the highest QoS, or one for each."),
    boolean!(Message, "validate_payload_format", config.message.validate_payload_format,
        "Whether a payload that is declared as UTF-8 is checked (Reason Code 0x99)."),
    integer!(Message, "topic_bytes_max", Bytes, 1, U16, config.message.topic_bytes_max,
        "Longest Topic Name or Topic Filter."),
    integer!(Message, "topic_levels_max", Count, 1, U16, config.message.topic_levels_max,
        "Most Topic Levels in a Topic Name or Topic Filter."),

    choice!(Shared, "strategy", config.shared_strategy,
        ["round_robin" => SharedStrategy::RoundRobin, "least_in_flight" => SharedStrategy::LeastInFlight,
         "sticky_by_publisher" => SharedStrategy::StickyByPublisher, "hash_of_topic" => SharedStrategy::HashOfTopic],
        "How a shared group chooses the member for a message."),

    integer!(Retained, "messages_max", Count, 0, U32, config.retained.messages_max,
        "Retained messages of one shard."),
    integer!(Retained, "bytes_max", Bytes, 0, 1 << 50, config.retained.bytes_max,
        "Bytes of retained messages of one shard."),
    integer!(Retained, "slice_messages", Count, 1, U16, config.retained.slice_messages,
        "Retained messages in one slice of an answer to SUBSCRIBE. Smaller slices disturb other clients less."),
    integer!(Retained, "slice_bytes", Bytes, 1024, 1 << 30, config.retained.slice_bytes,
        "Bytes in one slice of an answer to SUBSCRIBE."),

    integer!(Network, "output_bytes_max", Bytes, 4096, 1 << 30, config.network.output_bytes_max,
        "Output of one connection that waits or is on its way. Beyond it QoS 0 is dropped, and QoS 1 and 2 stay in the outbox."),
    integer!(Network, "receive_budget_bytes", Bytes, 1024, 1 << 30, config.network.receive_budget_bytes,
        "Bytes that one connection may bring into one turn, so that it does not starve the others. A message to many receivers counts for more than its bytes."),
    integer!(Network, "spin_us", Count, 0, 10_000, config.network.spin_us,
        "Microseconds that a shard without work looks for more before it sleeps. It uses its core meanwhile: give each shard one of its own."),
    integer!(Network, "ring_entries", Count, 8, 32_768, config.network.ring_entries,
        "Submission queue entries of a shard's ring."),
    integer!(power_of_two Network, "receive_buffers", Count, 16, 32_768, config.network.receive_buffers,
        "Receive buffers of a shard. They take receive_buffers x receive_buffer_bytes of memory on each shard."),
    integer!(Network, "receive_buffer_bytes", Bytes, 256, 1 << 20, config.network.receive_buffer_bytes,
        "Size of a receive buffer."),
    integer!(Network, "mesh_staged_bytes_max", Bytes, 4096, 1 << 30, config.network.mesh_staged_bytes_max,
        "Bytes that wait for one other shard. Beyond it PUBLISH packets are not read."),
    integer!(Network, "inbox_batches_max", Count, 1, 65_536, config.network.inbox_batches_max,
        "Batches in a shard's inbox."),
    integer!(Network, "listen_backlog", Count, 1, 65_535, config.network.listen_backlog,
        "Connections that the kernel queues before they are accepted; net.core.somaxconn caps it."),
    integer!(Network, "close_linger_s", Seconds, 0, 3600, config.network.close_linger_s,
        "How long the last packets to a client may take before its connection is closed."),

    integer!(Network, "tls_handshakes_per_s_max", Count, 0, 1_000_000, config.network.tls_handshakes_per_s_max,
        "TLS handshakes that a shard begins in a second; further clients wait. 0 is no limit."),
    integer!(Network, "tls_handshakes_per_source_per_s_max", Count, 0, 1_000_000, config.network.tls_handshakes_per_source_per_s_max,
        "TLS handshakes that a shard begins in a second for one /24 network of IPv4 or /56 of IPv6; further ones are closed. 0 is no limit."),
    integer!(Network, "tls_handshakes_waiting_max", Count, 1, 1_000_000, config.network.tls_handshakes_waiting_max,
        "Clients of a shard that wait for their TLS handshake to begin; further ones are closed."),
    integer!(Storage, "segment_bytes", Bytes, 1 << 20, 1 << 30, config.storage.segment_bytes,
        "Size of a file of the log. Each shard has at least two."),
    integer!(Storage, "unwritten_bytes_max", Bytes, 64 << 10, 1 << 30, config.storage.unwritten_bytes_max,
        "Records of one shard that wait for the disk. Beyond it PUBLISH packets are not read."),

    integer!(Storage, "bytes_max", Bytes, 4 << 20, 1 << 50, config.storage.bytes_max,
        "Length of the log of one shard. Beyond it, what would have to be recorded is refused with 0x97."),

    integer!(SystemTopics, "interval_s", Seconds, 0, U16, config.system_topics_interval_s,
        "How often $SYS topics are published. 0 is never."),

    text!(Redirect, "server_reference", "text", redirect.server_reference, "none: required in [redirect]",
        "Where all clients are sent instead of being served (Server Reference)."),
    boolean!(Redirect, "permanent", redirect.permanent,
        "Server moved (0x9D) rather than Use another server (0x9C)."),

    words!(Authentication, "chain", &Link::NAMES, Link::ALL, config.access.authentication.chain,
        "Who decides about a client, in this order, on listeners without a chain of their own. The first that knows the client decides; whom none knows is refused, unless it has no credentials and allow_anonymous is set."),
    words!(Authentication, "methods", &Method::NAMES, Method::ALL, config.access.authentication.methods,
        "Authentication Methods that 5.0 clients may use (AUTH packets). The SCRAM methods need entries in the password file that ringmq passwd --scram makes, OAUTHBEARER needs [jwt]."),
    text!(Authentication, "password_file", "a path", config.access.authentication.password_file, "none",
        "Users and hashes of their passwords, as ringmq passwd and mosquitto_passwd write it."),
    integer!(Authentication, "threads", Count, 1, 256, config.access.authentication.threads,
        "Threads for slow work, which are not those of the shards: hashing, HTTP, Kerberos."),
    integer!(Authentication, "waiting_max", Count, 1, 1_000_000, config.access.authentication.waiting_max,
        "Clients that wait for a verdict at once; further ones are told that the server is busy (0x89)."),
    integer!(Authentication, "wait_s_max", Seconds, 1, 3600, config.access.authentication.wait_s_max,
        "How long a client may wait for its turn; then it is told that the server is busy (0x89)."),
    integer!(Authentication, "cache_s", Seconds, 0, U32, config.access.authentication.cache_s,
        "How long a verified password is remembered, under a hash with a secret of this start. 0 is not at all."),
    integer!(Authentication, "cache_entries_max", Count, 1, U32, config.access.authentication.cache_entries_max,
        "Verified passwords that one shard remembers."),

    text!(Jwt, "key_file", "a path", config.access.jwt.key_file, "none",
        "A public key (PEM), or the secret of the HS algorithms, that signs tokens."),
    text!(Jwt, "jwks_file", "a path", config.access.jwt.jwks_file, "none",
        "A JSON Web Key Set with the keys that sign tokens."),
    text!(Jwt, "jwks_url", "a URL", config.access.jwt.jwks_url, "none",
        "Where a JSON Web Key Set is fetched."),
    integer!(Jwt, "jwks_refresh_s", Seconds, 1, U32, config.access.jwt.jwks_refresh_s,
        "How often jwks_url is fetched again."),
    Key {
        section: Section::Jwt,
        name: "algorithms",
        kind: Kind::Words {
            values: &JWT_ALGORITHMS,
            set: |draft, indexes| draft.config.access.jwt.algorithms = indexes,
            get: |draft| Some(draft.config.access.jwt.algorithms.clone()),
        },
        unset: "",
        doc: "Signature algorithms that are taken. A key only checks algorithms of its own kind, and \"none\" is never taken.",
    },
    text!(Jwt, "issuer", "text", config.access.jwt.issuer, "any",
        "What the claim iss must be."),
    text!(Jwt, "audience", "text", config.access.jwt.audience, "any",
        "What the claim aud must name."),
    text!(Jwt, "user_name_claim", "text", config.access.jwt.user_name_claim, "none",
        "The claim that becomes the user name."),
    text!(Jwt, "roles_claim", "text", config.access.jwt.roles_claim, "none",
        "The claim whose words become roles."),
    text!(Jwt, "rules_claim", "text", config.access.jwt.rules_claim, "none",
        "The claim with topic rules, like [{\"permit\": \"publish\", \"filter\": \"a/%c/#\"}]; a deny is written as deny."),
    integer!(Jwt, "leeway_s", Seconds, 0, 3600, config.access.jwt.leeway_s,
        "How far the clocks of issuer and broker may differ."),

    text!(HttpCallback, "authenticate_url", "a URL", config.access.http.authenticate_url, "none",
        "Who may connect is asked here by POST."),
    text!(HttpCallback, "authorize_url", "a URL", config.access.http.authorize_url, "none",
        "What a client may publish and subscribe to is asked here by POST, when no rule has decided."),
    integer!(HttpCallback, "timeout_ms", Count, 10, 60_000, config.access.http.timeout_ms,
        "How long an answer may take, milliseconds; then the client is refused."),
    integer!(HttpCallback, "cache_s", Seconds, 0, U32, config.access.http.cache_s,
        "How long an answer is remembered that does not say so itself."),

    text!(Authorization, "acl_file", "a path", config.access.authorization.acl_file, "none: every client may do everything",
        "Rules about who may publish and subscribe to what. What no rule permits is denied."),
    choice!(Authorization, "acl_format", config.access.authorization.acl_format,
        ["ringmq" => AclFormat::RingMq, "mosquitto" => AclFormat::Mosquitto],
        "The syntax of acl_file."),
    choice!(Authorization, "denied_publish_v3", config.access.authorization.denied_publish_v3,
        ["acknowledge" => DeniedPublish::Acknowledge, "disconnect" => DeniedPublish::Disconnect],
        "What becomes of a PUBLISH before 5.0 that is not allowed, which no acknowledgement can say. It is dropped in either case."),
    integer!(Authorization, "cache_topics_max", Count, 1, 65_536, config.access.authorization.cache_topics_max,
        "Topics whose decision one connection remembers."),
    Key {
        section: Section::Admin,
        name: "address",
        kind: Kind::Text {
            form: "an address like \"127.0.0.1:9883\"",
            set: put_admin_address,
            get: |draft| draft.config.admin.address.map(|address| address.to_string()),
        },
        unset: "none: not listening",
        doc: "Where the administration interface listens: console, API, metrics. An address that other machines reach needs token_file. Without token_file it only shows, to this machine.",
    },
    Key {
        section: Section::Admin,
        name: "socket",
        kind: Kind::Text {
            form: "the path of a Unix socket like \"/run/ringmq/admin.sock\"",
            set: |draft, text| put_path(&mut draft.config.admin.socket, text),
            get: |draft| shown(draft.config.admin.socket.as_ref()),
        },
        unset: "none: not listening",
        doc: "A Unix socket for the same interface. Who may open it (mode 0660) may do everything.",
    },
    Key {
        section: Section::Admin,
        name: "token_file",
        kind: Kind::Text {
            form: "the path of a file like \"/etc/ringmq/admin-tokens\"",
            set: |draft, text| put_path(&mut draft.config.admin.token_file, text),
            get: |draft| shown(draft.config.admin.token_file.as_ref()),
        },
        unset: "none",
        doc: "Who may use the address: lines of role (viewer or operator), name and bearer token of 16 characters or more. Other users must not be able to read the file.",
    },

    integer!(Observability, "recorder_entries", Count, 0, 1 << 24, config.observability.recorder_entries,
        "Decisions about messages that each shard's flight recorder holds, rounded up to a power of two; each takes about 60 bytes. 0 switches it off."),
    integer!(Observability, "stall_report_ms", Count, 1, 60_000, config.observability.stall_report_ms,
        "A turn of a shard that takes longer, in milliseconds, is logged with the work that held it."),
    integer!(Observability, "window_shut_s", Seconds, 1, 86_400, config.observability.window_shut_s,
        "A window that a client has not moved for longer counts as shut in the metrics."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_reaches_its_field_and_defaults_are_in_range() {
        for key in KEYS {
            let Kind::Integer {
                min,
                max,
                power_of_two,
                set,
                get,
                ..
            } = key.kind
            else {
                continue;
            };
            if let Some(default) = get(&Draft::default()) {
                assert!((min..=max).contains(&default), "{}: {default}", key.path());
                assert!(!power_of_two || default.is_power_of_two(), "{}", key.path());
            }
            for value in [min, max] {
                let mut draft = Draft::default();
                set(&mut draft, value);
                assert_eq!(get(&draft), Some(value), "{}", key.path());
            }
        }
    }

    #[test]
    fn keys_are_unique_and_say_what_holds_without_them() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(
                !key.doc.is_empty() && !key.default_text().is_empty(),
                "{}",
                key.path()
            );
            assert!(
                KEYS[..index].iter().all(|other| other.path() != key.path()),
                "{}",
                key.path()
            );
        }
    }
}
