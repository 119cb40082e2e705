//! Many exact subscriptions: what each costs in memory and CPU.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::codec;
use crate::engine::Engine;
use crate::process;

use super::{await_packets, connect_all};

/// Filters in one SUBSCRIBE.
const FILTERS_PER_PACKET: usize = 100;

/// The options of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many subscriptions
    #[arg(long, default_value_t = 1_000_000)]
    pub subscriptions: usize,
    /// Over how many connections
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
}

/// Runs the scenario and describes what it saw.
///
/// # Errors
/// If the broker refuses or the network fails.
pub fn run(address: SocketAddr, options: &Options, broker_pid: u32) -> io::Result<String> {
    let mut engine = Engine::new()?;
    let first = connect_all(
        &mut engine,
        address,
        "bench-sub",
        options.connections,
        false,
        600,
    )?;
    std::thread::sleep(Duration::from_secs(1));
    let before = process::resident_bytes(broker_pid);
    let cpu = process::cpu_ns(broker_pid);
    let mut text_bytes = 0;
    let mut made = 0;
    while made < options.subscriptions {
        let mut packets = 0;
        for connection in first..first + options.connections {
            let count = FILTERS_PER_PACKET.min(options.subscriptions - made);
            if count == 0 {
                break;
            }
            let filters: Vec<_> = (made..made + count)
                .map(|number| format!("fleet/vehicle/{number:08}/state"))
                .collect();
            text_bytes += filters.iter().map(String::len).sum::<usize>();
            engine.connections[connection]
                .out
                .extend_from_slice(&codec::subscribe(&filters, 1, false));
            made += count;
            packets += 1;
        }
        engine.flush_all()?;
        await_packets(&mut engine, 0x90, packets)?;
    }
    std::thread::sleep(Duration::from_secs(2));
    let cpu_us = (process::cpu_ns(broker_pid) - cpu) as f64 / 1000.0 / made.max(1) as f64;
    let grown = process::resident_bytes(broker_pid).saturating_sub(before);
    let each = grown as f64 / made.max(1) as f64;
    let text = text_bytes as f64 / made.max(1) as f64;
    Ok(format!(
        "subscribe: {made} exact subscriptions, {each:.0} bytes each, {:.0} beyond the topic's {text:.0}, {cpu_us:.2} us CPU each",
        each - text
    ))
}
