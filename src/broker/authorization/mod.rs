//! What a client may do: rules, and what they say at CONNECT, PUBLISH and SUBSCRIBE.
//!
//! Rules that came with the credentials are asked first, then the ACL file, then, if one is configured, an
//! HTTP server. If there are rules and none speaks of it, it is denied. The first rule that speaks of it
//! decides; a subscription is granted as a whole or not at all.
//!
//! Invariant: a session without a permit may do everything, so one exists for every session as soon as there
//! is anything that restricts it.

mod check;
pub(super) mod filter;
pub mod parse;
pub(super) mod permit;
pub mod rules;
#[cfg(test)]
mod rules_tests;

pub(super) use check::{Asking, permission};
pub use check::{Denials, Rechecked};
