//! The commands that talk to a running broker's administration interface.

mod http;
mod table;
mod top;
mod watch;

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::cli::admin::{AdminCommand, Ban, Clients, Door, Kick, Retained, Subs};
use crate::runtime::exit_code;
use crate::runtime::launch::print_block;

use super::{Failure, client};
use http::{Api, Method, query};
use table::Column;

/// Does what `ringmq status`, `clients` and so on ask for.
///
/// # Errors
/// The broker cannot be reached, or refuses.
pub fn run(command: &AdminCommand) -> Result<(), Failure> {
    match command {
        AdminCommand::Status(through) => show(&through.door, "/v1/status", status),
        AdminCommand::Latency(through) => show(&through.door, "/v1/latency", |answer| {
            table::rows(&answer["stages"], STAGE)
        }),
        AdminCommand::Clients(through) => clients(&through.door, &through.what),
        AdminCommand::Client(through) => {
            let path = format!("/v1/clients/{}", http::part(&through.what.client));
            show(&through.door, &path, table::fields)
        }
        AdminCommand::Kick(through) => kick(&through.door, &through.what),
        AdminCommand::Subs(through) => subs(&through.door, &through.what),
        AdminCommand::Retained(through) => retained(&through.door, &through.what),
        AdminCommand::Top(through) => top::run(&through.door, &through.what),
        AdminCommand::Why(through) => watch::why(&through.door, &through.what),
        AdminCommand::Trace(through) => watch::trace(&through.door, &through.what),
        AdminCommand::Ban(through) => ban(&through.door, &through.what),
        AdminCommand::Log(through) => match &through.what.level {
            None => show(&through.door, "/v1/log", table::fields),
            Some(level) => {
                let body = json!({ "level": level });
                act(
                    &through.door,
                    Method::PUT,
                    "/v1/log",
                    Some(body),
                    "the level is changed",
                )
            }
        },
        AdminCommand::Drain(through) => act(
            &through.door,
            Method::POST,
            "/v1/drain",
            None,
            "the broker shuts down",
        ),
        AdminCommand::Pub(publish) => client::publish(publish),
        AdminCommand::Sub(subscribe) => client::subscribe(subscribe),
        AdminCommand::Ping(ping) => client::ping(ping),
    }
}

const CLIENT: &[Column] = &[
    Column::text("CLIENT", "client_identifier"),
    Column::text("ADDRESS", "address"),
    Column::text("MQTT", "protocol"),
    Column::number("FOR S", "connected_s"),
    Column::number("SUBS", "subscriptions"),
    Column::number("QUEUED", "queued_messages"),
    Column::number("IN FLIGHT", "in_flight_messages"),
    Column::number("BYTES", "bytes_held"),
    Column::number("MSG/S", "messages_per_s"),
];

const STAGE: &[Column] = &[
    Column::text("STAGE", "stage"),
    Column::number("COUNT", "count"),
    Column::number("P50 us", "p50_us"),
    Column::number("P99 us", "p99_us"),
    Column::number("P99.9 us", "p999_us"),
    Column::number("MAX us", "max_us"),
];

const SHARD: &[Column] = &[
    Column::number("SHARD", "shard"),
    Column::number("CONNECTIONS", "connections"),
    Column::number("SESSIONS", "sessions"),
    Column::number("IN", "messages_received"),
    Column::number("OUT", "messages_sent"),
    Column::number("CPU ms", "cpu_ms"),
    Column::number("INBOX", "inbox_depth"),
    Column::number("TURN p50 us", "turn_p50_us"),
    Column::number("p99 us", "turn_p99_us"),
    Column::number("STALLS", "stalls"),
];

const SUBSCRIPTION: &[Column] = &[
    Column::text("CLIENT", "client_identifier"),
    Column::text("FILTER", "filter"),
    Column::text("SHARE", "share_name"),
    Column::number("QOS", "qos"),
];

const GROUP: &[Column] = &[
    Column::text("SHARE", "share_name"),
    Column::text("FILTER", "filter"),
    Column::number("SHARD", "shard"),
    Column::number("MEMBERS", "members"),
    Column::number("CONNECTED", "connected"),
];

const MESSAGE: &[Column] = &[
    Column::text("TOPIC", "topic"),
    Column::number("QOS", "qos"),
    Column::number("BYTES", "payload_bytes"),
    Column::number("EXPIRES IN S", "expires_in_s"),
];

const BAN: &[Column] = &[
    Column::text("BY", "kind"),
    Column::text("WHOM", "value"),
    Column::number("UNTIL", "until_unix_s"),
    Column::text("MADE BY", "by"),
    Column::text("WHY", "reason"),
];

/// Prints an answer: as JSON, or as `text` makes it.
fn print(door: &Door, answer: &Value, text: impl FnOnce(&Value) -> String) {
    match door.json {
        true => print_block(&format!("{answer:#}\n")),
        false => print_block(&text(answer)),
    }
}

fn show(door: &Door, path: &str, text: impl FnOnce(&Value) -> String) -> Result<(), Failure> {
    let answer = Api::new(door)?.ask(Method::GET, path, None)?;
    print(door, &answer, text);
    Ok(())
}

fn act(
    door: &Door,
    method: Method,
    path: &str,
    body: Option<Value>,
    done: &str,
) -> Result<(), Failure> {
    let answer = Api::new(door)?.ask(method, path, body)?;
    print(door, &answer, |_| format!("{done}\n"));
    Ok(())
}

/// Pages of a list, up to `limit` rows of `field`.
fn pages(
    door: &Door,
    path: &str,
    pairs: &[(&str, Option<&str>)],
    field: &str,
    limit: usize,
) -> Result<Value, Failure> {
    let api = Api::new(door)?;
    let mut rows: Vec<Value> = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let left = limit.saturating_sub(rows.len()).clamp(1, 1000).to_string();
        let mut all = pairs.to_vec();
        all.push(("limit", Some(&left)));
        all.push(("cursor", cursor.as_deref()));
        let mut answer = api.ask(Method::GET, &query(path, &all), None)?;
        if let Value::Array(more) = answer[field].take() {
            rows.extend(more);
        }
        let next = answer["next"].as_str().map(Into::into);
        if next.is_none() || rows.len() >= limit {
            rows.truncate(limit);
            let more = next.is_some();
            return Ok(json!({ field: rows, "more": more }));
        }
        cursor = next;
    }
}

/// A list as a table, and whether there is more.
fn listed(answer: &Value, field: &str, columns: &[Column]) -> String {
    let mut text = table::rows(&answer[field], columns);
    if answer["more"] == Value::Bool(true) {
        text.push_str("there are more; raise --limit\n");
    }
    text
}

fn status(answer: &Value) -> String {
    let mut text = String::new();
    let number = |name: &str| answer[name].to_string();
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "RingMQ {}, up {} s{}",
        answer["version"].as_str().unwrap_or_default(),
        number("uptime_s"),
        if answer["draining"] == Value::Bool(true) {
            ", shutting down"
        } else {
            ""
        }
    );
    let _ = writeln!(
        text,
        "connections {}  sessions {}  subscriptions {}  retained {}",
        number("connections"),
        number("sessions"),
        number("subscriptions"),
        number("retained_messages")
    );
    let _ = writeln!(
        text,
        "messages in {}  out {}  dropped {}  queued {}  in flight {}  windows shut {}",
        number("messages_received"),
        number("messages_sent"),
        number("messages_dropped"),
        number("queued_messages"),
        number("in_flight_messages"),
        number("windows_shut")
    );
    let mib = answer["resident_bytes"].as_u64().unwrap_or(0) >> 20;
    let _ = writeln!(text, "memory {mib} MiB\n");
    text + &table::rows(&answer["shards"], SHARD)
}

fn clients(door: &Door, what: &Clients) -> Result<(), Failure> {
    let path = if what.sessions {
        "/v1/sessions"
    } else {
        "/v1/clients"
    };
    let pairs = [
        ("search", what.search.as_deref()),
        ("address", what.address.as_deref()),
    ];
    let answer = pages(door, path, &pairs, "clients", what.limit)?;
    print(door, &answer, |answer| listed(answer, "clients", CLIENT));
    Ok(())
}

fn kick(door: &Door, what: &Kick) -> Result<(), Failure> {
    let client = http::part(&what.client);
    if what.delete_session {
        let path = format!("/v1/sessions/{client}");
        return act(door, Method::DELETE, &path, None, "the session is deleted");
    }
    let body = json!({ "reason": what.reason });
    let path = format!("/v1/clients/{client}/kick");
    act(
        door,
        Method::POST,
        &path,
        Some(body),
        "the client is cut off",
    )
}

fn subs(door: &Door, what: &Subs) -> Result<(), Failure> {
    if what.groups {
        let answer = pages(door, "/v1/groups", &[], "groups", what.limit)?;
        print(door, &answer, |answer| listed(answer, "groups", GROUP));
        return Ok(());
    }
    let path = match &what.client {
        Some(client) => format!("/v1/clients/{}/subscriptions", http::part(client)),
        None => "/v1/subscriptions".into(),
    };
    if let Some(filter) = &what.add {
        let body = json!({ "filter": filter, "qos": what.qos });
        return act(
            door,
            Method::POST,
            &path,
            Some(body),
            "the client is subscribed",
        );
    }
    if let Some(filter) = &what.remove {
        let path = query(&path, &[("filter", Some(filter))]);
        return act(
            door,
            Method::DELETE,
            &path,
            None,
            "the client is unsubscribed",
        );
    }
    let pairs = [("search", what.search.as_deref())];
    let answer = pages(door, &path, &pairs, "subscriptions", what.limit)?;
    print(door, &answer, |answer| {
        listed(answer, "subscriptions", SUBSCRIPTION)
    });
    Ok(())
}

fn retained(door: &Door, what: &Retained) -> Result<(), Failure> {
    let of = |topic: &str| query("/v1/retained/message", &[("topic", Some(topic))]);
    if let Some(topic) = &what.show {
        return show(door, &of(topic), table::fields);
    }
    if let Some(topic) = &what.delete {
        return act(door, Method::DELETE, &of(topic), None, "it is deleted");
    }
    let pairs = [("filter", what.filter.as_deref())];
    let answer = pages(door, "/v1/retained", &pairs, "messages", what.limit)?;
    print(door, &answer, |answer| listed(answer, "messages", MESSAGE));
    Ok(())
}

fn ban(door: &Door, what: &Ban) -> Result<(), Failure> {
    let (Some(kind), Some(value)) = (&what.kind, &what.value) else {
        return show(door, "/v1/bans", |answer| table::rows(&answer["bans"], BAN));
    };
    if what.lift {
        let pairs = [("kind", Some(kind.as_str())), ("value", Some(value))];
        let path = query("/v1/bans", &pairs);
        return act(door, Method::DELETE, &path, None, "the ban is lifted");
    }
    let body = json!({
        "kind": kind,
        "value": value,
        "seconds": what.duration,
        "reason": what.reason,
    });
    act(door, Method::POST, "/v1/bans", Some(body), "it is banned")
}

/// A failure to reach the broker, or its refusal.
fn failed(cause: impl ToString) -> Failure {
    Failure::new(exit_code::UNEXPECTED, cause)
}
