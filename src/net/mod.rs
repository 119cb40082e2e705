//! Bytes in and out, no MQTT: the ring of a shard, its listening sockets, and what lies between a socket and
//! its MQTT.
//!
//! Called by `shard`. [`ring`] is the only place where RingMQ talks to the kernel with `unsafe`.

pub mod listener;
pub mod peer;
pub mod proxy_protocol;
#[allow(unsafe_code)] // the one place, as the tidy test makes sure
pub mod ring;
pub mod tls;
pub mod transport;
pub mod websocket;
