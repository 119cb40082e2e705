//! Properties that hold for anything: generated packets, subscriptions, windows and configurations against
//! plain models that are not the broker's code. A failure is reduced to its smallest case and printed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with a panic when something is not as expected"
)]

#[path = "../support/mod.rs"]
mod support;

mod access;
mod any;
mod config;
mod from_clients;
mod from_servers;
mod indexes;
mod retained;
mod session;
mod stream;
mod transport;
