//! What the broker promises to its clients, tested on the real binary over TCP.
//!
//! One module per capability; every test has a broker of its own. `RINGMQ_TEST_SHARDS` sets how many
//! shards the brokers have (two if it is not set): the results are the same with any number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends with a panic when something is not as expected"
)]

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod authentication;
mod authorization;
mod cli;
mod connect;
mod crash;
mod delivery_window;
mod durable;
mod enhanced_authentication;
mod handover;
mod hostile;
mod http_callback;
mod jwt;
mod keep_alive;
mod limits;
mod logging;
mod malformed;
mod mesh;
mod overload;
mod password_storm;
mod paused;
mod profiles;
mod properties;
mod proxy_protocol;
mod publish;
mod rates;
mod redirect;
mod reload;
mod retained;
mod service;
mod sessions;
mod shared;
mod shutdown;
mod subscribe;
mod system_topics;
mod takeover;
mod tls;
mod tools;
mod topic_alias;
mod websocket;
mod wills;
