//! Bytes in and out, no MQTT: the ring of a shard and its listening sockets.
//!
//! Called by `shard`. [`ring`] is the only place where RingMQ talks to the kernel with `unsafe`.

pub mod listener;
pub mod peer;
#[allow(unsafe_code)] // the one place, as the tidy test makes sure
pub mod ring;
