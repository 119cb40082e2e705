//! What integration tests share: a broker process and an MQTT client that is nobody's codec but its own.
//!
//! Used by the test binaries with `#[path = "../support/mod.rs"] mod support;`. Nothing here uses the
//! library `ringmq`: a fault of its codec cannot hide in a test that shares it.

#![allow(
    dead_code,
    unused_imports,
    reason = "each test binary uses a part of it"
)]

pub mod broker;
pub mod certificates;
pub mod client;
pub mod files;
pub mod http_server;
pub mod packet;
pub mod property;
pub mod scene;
pub mod wire;

use std::time::Duration;

pub use broker::Broker;
pub use client::{Client, Next};
pub use packet::{Connect, Kind, Packet, Publish, Subscribe, Version, Will};
pub use property::Value;
pub use scene::Scene;

/// How long a test waits for what must come. Only failing tests wait that long.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How long a test waits to be sure that nothing comes, where no later packet can prove it, milliseconds.
pub const SILENCE_MS: u64 = 300;

/// Sleeps for `ms` milliseconds.
pub fn sleep_ms(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}
