//! Conformance, statement by statement: each normative statement of the specification that binds a Server
//! has a test that carries its id and talks raw bytes to the real binary.
//!
//! `statements.toml` says of each statement what it asks for and which tests show it; `RESULTS.md` is made
//! from it (`RINGMQ_BLESS=1 cargo test --test conformance`). Tests share brokers: see [`support::Scene`].

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with a panic when something is not as expected"
)]

#[path = "../support/mod.rs"]
mod support;

mod table;
mod v3;
mod v5;
