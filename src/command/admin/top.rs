//! `ringmq top`: the broker and its greatest clients, again and again.

use std::io::IsTerminal;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::admin::{Door, Top};
use crate::runtime::launch::print_block;

use super::super::Failure;
use super::http::{Api, Method, query};
use super::{CLIENT, print, table};

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// Clears the screen and goes to its first place.
const CLEAR: &str = "\u{1b}[2J\u{1b}[H";

pub(super) fn run(door: &Door, what: &Top) -> Result<(), Failure> {
    let api = Api::new(door)?;
    let limit = what.limit.to_string();
    let path = query(
        "/v1/top",
        &[("by", Some(&what.by)), ("limit", Some(&limit))],
    );
    let live = !what.once && !door.json && std::io::stdout().is_terminal();
    let mut before: Option<Value> = None;
    loop {
        let status = api.ask(Method::GET, "/v1/status", None)?;
        let greatest = api.ask(Method::GET, &path, None)?;
        if !live {
            let both = json!({ "status": status, "clients": greatest["clients"] });
            print(door, &both, |both| {
                text(&both["status"], None, &both["clients"])
            });
            return Ok(());
        }
        let page = text(&status, before.as_ref(), &greatest["clients"]);
        print_block(&format!("{CLEAR}{page}"));
        before = Some(status);
        std::thread::sleep(EVERY);
    }
}

/// One look; rates are since the look before.
fn text(status: &Value, before: Option<&Value>, clients: &Value) -> String {
    let rate = |name: &str| {
        let value = |status: &Value| status[name].as_u64();
        match before.and_then(value).zip(value(status)) {
            Some((before, now)) => now.saturating_sub(before).to_string(),
            None => "-".into(),
        }
    };
    format!(
        "connections {}  sessions {}  in {}/s  out {}/s  dropped {}/s  queued {}  memory {} MiB\n\n{}",
        status["connections"],
        status["sessions"],
        rate("messages_received"),
        rate("messages_sent"),
        rate("messages_dropped"),
        status["queued_messages"],
        status["resident_bytes"].as_u64().unwrap_or(0) >> 20,
        table::rows(clients, CLIENT)
    )
}
