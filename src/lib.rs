//! RingMQ: an MQTT 3.1, 3.1.1 and 5.0 broker for bare-metal Linux.
pub mod access;
pub mod broker;
pub mod cli;
pub mod command;
pub mod config;
pub mod control;
pub mod journal;
pub mod mqtt;
pub mod net;
pub mod observability;
pub mod routing;
pub mod runtime;
pub mod session;
pub mod shard;
pub mod storage;
