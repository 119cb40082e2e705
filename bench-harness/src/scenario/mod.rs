//! What can be measured, one file each.

pub mod abuse;
pub mod idle;
pub mod messages;
pub mod subscribe;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::codec;
use crate::engine::Engine;

/// How long set-up may take.
const SETUP: Duration = Duration::from_secs(60);

/// Connects `count` clients named `prefix-N` and waits for their CONNACKs; gives the first's number.
///
/// # Errors
/// If a connection is refused.
pub fn connect_all(
    engine: &mut Engine,
    address: SocketAddr,
    prefix: &str,
    count: usize,
    v5: bool,
    keep_alive_s: u16,
) -> io::Result<usize> {
    let first = engine.connections.len();
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        for index in chunk {
            let number = engine.connect(address)?;
            let packet = codec::connect(&format!("{prefix}-{index}"), v5, keep_alive_s);
            engine.connections[number].out.extend_from_slice(&packet);
            engine.flush(number)?;
        }
        await_packets(engine, 0x20, chunk.len())?;
    }
    Ok(first)
}

/// Waits for `count` packets of the given type.
///
/// # Errors
/// If they do not come.
pub fn await_packets(engine: &mut Engine, first_byte: u8, count: usize) -> io::Result<()> {
    let begun = Instant::now();
    let mut seen = 0;
    let mut refused = None;
    while seen < count {
        engine.poll(Duration::from_millis(100), |_, frame, _| {
            if frame.first_byte == first_byte {
                seen += 1;
            }
            if frame.first_byte == 0x20 && frame.body.get(1) != Some(&0) {
                refused = frame.body.get(1).copied();
            }
        })?;
        if let Some(code) = refused {
            return Err(io::Error::other(format!(
                "the broker refused a connection with code {code}"
            )));
        }
        if begun.elapsed() > SETUP {
            return Err(io::Error::other(format!(
                "only {seen} of {count} answers came"
            )));
        }
    }
    Ok(())
}
