//! The protocol: MQTT 3.1, 3.1.1 and 5.0 Control Packets, between bytes and borrowed values.
//!
//! Called by `broker` and by everything that speaks MQTT for tests. Decoding borrows from the received
//! bytes and never allocates for a PUBLISH; encoding appends to a buffer. What a packet means is not here.

pub mod data_types;
pub mod error;
pub mod frame;
pub mod packet;
pub mod properties;
pub mod reason_code;
pub mod topic_filter;
pub mod topic_name;
