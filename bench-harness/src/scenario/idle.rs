//! Connections that do nothing: what each costs in memory, and all of them in CPU.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::codec;
use crate::engine::Engine;
use crate::process;

use super::{await_packets, connect_all};

/// The options of a run.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// How many connections, with one subscription each
    #[arg(long, default_value_t = 15_000)]
    pub connections: usize,
    /// How long they are held, seconds
    #[arg(long, default_value_t = 5)]
    pub hold: u64,
}

/// Runs the scenario and describes what it saw.
///
/// # Errors
/// If the broker refuses or the network fails.
pub fn run(address: SocketAddr, options: &Options, broker_pid: u32) -> io::Result<String> {
    let mut engine = Engine::new()?;
    // What the first connections make the broker allocate once is not theirs.
    connect_all(&mut engine, address, "bench-first", 100, false, 600)?;
    std::thread::sleep(Duration::from_secs(1));
    let before = process::resident_bytes(broker_pid);
    let first = connect_all(
        &mut engine,
        address,
        "bench-idle",
        options.connections,
        false,
        600,
    )?;
    for index in 0..options.connections {
        let packet = codec::subscribe(&[format!("idle/device/{index:08}/command")], 1, false);
        engine.connections[first + index]
            .out
            .extend_from_slice(&packet);
        if index % 500 == 499 || index + 1 == options.connections {
            engine.flush_all()?;
            await_packets(&mut engine, 0x90, index % 500 + 1)?;
        }
    }
    std::thread::sleep(Duration::from_secs(2));
    let after = process::resident_bytes(broker_pid);
    let cpu = process::cpu_ns(broker_pid);
    std::thread::sleep(Duration::from_secs(options.hold));
    let busy = (process::cpu_ns(broker_pid) - cpu) as f64 / 1e7 / options.hold.max(1) as f64;
    let each = after.saturating_sub(before) as f64 / options.connections.max(1) as f64;
    Ok(format!(
        "idle: {} connections, {each:.0} bytes each ({before} to {after} bytes resident), {busy:.3} % of a core",
        options.connections
    ))
}
