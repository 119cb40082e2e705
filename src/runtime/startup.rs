//! The start-up block: what runs, where, on what, with which limits.

use std::fmt::Write;

use super::listeners::OpenListener;
use crate::config::Config;
use crate::config::limits::Durability;

/// The block, as it is printed when all listeners accept.
pub fn block(
    config: &Config,
    listeners: &[OpenListener],
    cpus: &[usize],
    kernel: &str,
    store: Option<&str>,
    admin: &[String],
) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = writeln!(text, "RingMQ {}", env!("CARGO_PKG_VERSION"));
    for (listener, open) in config.listeners.iter().zip(listeners) {
        let speaks = match (listener.doors.tls.is_on(), listener.doors.websocket.is_on) {
            (false, false) => "",
            (true, false) => "TLS, ",
            (false, true) => "WebSocket, ",
            (true, true) => "secure WebSocket, ",
        };
        let anonymous = if listener.allow_anonymous {
            "anonymous allowed"
        } else {
            "no anonymous clients"
        };
        let _ = writeln!(
            text,
            "  listener {}: listening on {} ({speaks}{anonymous}, {} connections at most, packets up to {} bytes)",
            listener.name,
            open.address(),
            listener.limits.connections_max,
            listener.limits.packet_bytes_max
        );
    }
    for place in admin {
        let _ = writeln!(text, "  administration at {place}");
    }
    let cores: Vec<_> = cpus.iter().map(usize::to_string).collect();
    let _ = writeln!(text, "  shards {} on cores {}", cpus.len(), cores.join(" "));
    let _ = writeln!(text, "  {kernel}");
    let _ = writeln!(
        text,
        "  limits per session: {} messages or {} bytes queued, {} in flight; per connection: {} bytes of output",
        config.session.outbox_messages_max,
        config.session.outbox_bytes_max,
        config.session.in_flight_max,
        config.network.output_bytes_max
    );
    let _ = match store {
        None => writeln!(
            text,
            "  storage memory: sessions and retained messages end with the process"
        ),
        Some(summary) => writeln!(
            text,
            "  storage {summary}; acknowledged means {}",
            match config.durability_max() {
                Durability::Fsync => "safe from a loss of power (fsync)",
                _ => "safe from the end of the process (os)",
            }
        ),
    };
    text
}
