//! What one shard counts: plain integers, raised by the core, summed off the hot path.
//!
//! A shard owns its counters; others get a copy in an envelope (`broker::system_topics`).

/// Why the broker dropped a message for one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropCause {
    /// QoS 0 to a client that does not read: its output is at `output_bytes_max`.
    OutputFull,
    /// The session's outbox is at its limit.
    OutboxFull,
    /// The message expired before it was sent.
    Expired,
    /// The packet would be larger than the client's Maximum Packet Size [MQTT-3.1.2-25].
    PacketTooLarge,
    /// A retained message over the configured count or bytes.
    RetainedLimit,
    /// A shared group without a member who can take it.
    NoMember,
}

/// How many [`DropCause`]s there are.
pub const DROP_CAUSES: usize = 6;

/// The counters of one shard. All but the gauges only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Gauge: connections that are at home here.
    pub connections: u64,
    /// Gauge: sessions, with and without a connection.
    pub sessions: u64,
    /// Gauge: subscriptions, shared ones included.
    pub subscriptions: u64,
    /// Gauge: retained messages that this shard owns.
    pub retained_messages: u64,
    /// Gauge: bytes of the retained messages.
    pub retained_bytes: u64,
    /// Connections that got a CONNACK with Success.
    pub connections_accepted: u64,
    /// Sessions that expired.
    pub sessions_expired: u64,
    /// Control Packets received.
    pub packets_received: u64,
    /// Control Packets sent.
    pub packets_sent: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent.
    pub bytes_sent: u64,
    /// PUBLISH packets received.
    pub publish_received: u64,
    /// PUBLISH packets sent.
    pub publish_sent: u64,
    /// Payload bytes in PUBLISH packets received.
    pub publish_bytes_received: u64,
    /// Payload bytes in PUBLISH packets sent.
    pub publish_bytes_sent: u64,
    /// Messages dropped for one receiver, by [`DropCause`].
    pub dropped: [u64; DROP_CAUSES],
    /// Connections that the broker ended.
    pub connections_ended_by_broker: u64,
}

impl Counters {
    /// Counts `count` messages dropped because of `cause`.
    #[inline]
    pub fn drop_messages(&mut self, cause: DropCause, count: u64) {
        self.dropped[cause as usize] += count;
    }

    /// All dropped messages.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.iter().sum()
    }

    /// Adds those of another shard.
    pub fn add(&mut self, other: &Self) {
        self.connections += other.connections;
        self.sessions += other.sessions;
        self.subscriptions += other.subscriptions;
        self.retained_messages += other.retained_messages;
        self.retained_bytes += other.retained_bytes;
        self.connections_accepted += other.connections_accepted;
        self.sessions_expired += other.sessions_expired;
        self.packets_received += other.packets_received;
        self.packets_sent += other.packets_sent;
        self.bytes_received += other.bytes_received;
        self.bytes_sent += other.bytes_sent;
        self.publish_received += other.publish_received;
        self.publish_sent += other.publish_sent;
        self.publish_bytes_received += other.publish_bytes_received;
        self.publish_bytes_sent += other.publish_bytes_sent;
        for (sum, more) in self.dropped.iter_mut().zip(other.dropped) {
            *sum += more;
        }
        self.connections_ended_by_broker += other.connections_ended_by_broker;
    }
}
