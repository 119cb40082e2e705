//! What the core of a shard notes beside its counters: the flight recorder and the time to acknowledgement.

use super::latency::Distribution;
use super::recorder::FlightRecorder;

/// Payloads that a live trace may hold until they are read, at most.
pub const TRACED_PAYLOADS_MAX: usize = 256;
/// Of a payload in a live trace, at most, bytes.
pub const TRACED_PAYLOAD_BYTES_MAX: usize = 1024;

/// A payload for a live trace.
#[derive(Clone, Debug)]
pub struct TracedPayload {
    /// Milliseconds since the process started.
    pub at_ms: u64,
    /// Topic Name.
    pub topic: Box<str>,
    /// Its first bytes.
    pub payload: Box<[u8]>,
    /// How long it is.
    pub payload_bytes: usize,
}

/// Payloads of messages on one Topic Filter, while somebody traces it.
#[derive(Debug)]
pub struct PayloadTrace {
    /// Which messages.
    pub filter: Box<str>,
    /// When nobody has asked for so long that it ends, monotonic milliseconds.
    pub ends_at_ms: u64,
    /// At most `TRACED_PAYLOADS_MAX`; further ones are left out.
    pub payloads: Vec<TracedPayload>,
}

/// The notes of one shard.
#[derive(Debug)]
pub struct Sight {
    /// What became of messages.
    pub recorder: FlightRecorder,
    /// From a QoS 1 or 2 message's turn until its PUBACK or PUBREC, microseconds.
    pub acknowledgement: Distribution,
    /// The turn's time, microseconds; the low 32 bits.
    pub now_us: u32,
    /// Payloads for a live trace.
    pub payloads: Option<Box<PayloadTrace>>,
}

impl Sight {
    /// Notes of about `recorder_entries` decisions.
    pub fn new(recorder_entries: u32) -> Self {
        Self {
            recorder: FlightRecorder::new(recorder_entries),
            acknowledgement: Distribution::default(),
            now_us: 0,
            payloads: None,
        }
    }
}
