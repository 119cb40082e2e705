//! Every cap of the broker: its default, its unit and its reason.
//!
//! Plain data, so that the core may use it. A limit that an operator may set is a field with a default
//! named here; one that follows from the design is a constant.

/// Packet Identifiers there are: 1 to 65,535 (2.2.1).
pub const PACKET_IDENTIFIERS_MAX: u16 = 65_535;
/// Batches that have been read and wait for their sender to fill them again.
pub const READ_BATCHES_MAX: usize = 64;
/// A buffer that grew beyond this is freed, not kept for the next turn, bytes.
pub const POOLED_BUFFER_BYTES_MAX: usize = 1024 * 1024;
/// Buffers that a shard keeps for the next turn, bytes of all together.
pub const POOLED_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How often a line about refused connections may be logged for each listener, milliseconds.
pub const REFUSED_LINE_EVERY_MS: u64 = 1_000;
/// How fine timers are, milliseconds. Keep Alive is in seconds, so a tenth of one is fine enough.
pub const TIMER_TICK_MS: u64 = 100;
/// SUBACKs of one shard that wait for the others to apply an interest; beyond it SUBSCRIBEs are not read.
pub const PENDING_SUBACKS_MAX: usize = 4096;
/// From this size a payload with several receivers is referenced, not copied, bytes.
pub const LARGE_PAYLOAD_BYTES: usize = 4096;
/// A batch's buffer that is kept to be filled again, at most, bytes.
pub const SPARE_BATCH_BYTES_MAX: usize = 256 * 1024;
/// Shared groups that a session has left and that its unacknowledged messages can still go back to.
pub const LEFT_GROUPS_MAX: usize = 64;
/// How long a first `$SYS` publication waits, so that many new subscribers share it, milliseconds.
pub const SYSTEM_TOPICS_AT_ONCE_MS: u64 = 100;
/// Shards at most: what a compact shard set can name.
pub const SHARDS_MAX: u16 = 256;
/// Batches that a shard takes from its inbox in one turn.
pub const INBOX_BATCHES_PER_TURN_MAX: usize = 256;
/// Visits that one slice of a retained selection may make, so that no turn stalls.
pub const RETAINED_VISITS_PER_SLICE_MAX: usize = 4096;
/// What the smallest packet costs its connection's share of a turn, bytes: as much time as that many.
pub const PACKET_COST_BYTES_MIN: usize = 16;
/// What the delivery of a message to one session of the shard costs, bytes. Little enough that a fan-out to a
/// thousand still sends many messages at once to each.
pub const DELIVERY_COST_BYTES: u64 = 1;
/// What a message for another shard costs, bytes: it may have many receivers there.
pub const ENVELOPE_COST_BYTES: u64 = 64;
/// Once the batches of a turn have cost this, the others wait for the next turn, bytes.
pub const INBOX_COST_PER_TURN_MAX: u64 = 64 * 1024;
/// Visits that the deliveries of retained messages to one session may make at once; the rest follows in the
/// next tick.
pub const RETAINED_VISITS_PER_PUMP_MAX: usize = 16_384;
/// Deliveries of retained messages to one session that are at work together; the others wait.
pub const RETAINED_DELIVERIES_AT_ONCE: usize = 32;
/// Topics whose live messages are noted for the deliveries of retained messages to one session, at most;
/// beyond it they are forgotten, and the owners are asked again.
pub const RETAINED_LIVE_TOPICS_MAX: usize = 16_384;
/// A Client Identifier in a log line is cut to this, bytes.
pub const LOGGED_TEXT_BYTES_MAX: usize = 256;

/// Sessions, subscriptions or groups that one answer to the control thread looks at: a few hundred, so that
/// no turn stalls.
pub const ASK_VISITS_MAX: usize = 512;
/// Questions of the control thread that a shard answers in one turn.
pub const ASKS_PER_TURN_MAX: usize = 4;
/// Entries of each of the flight recorder's rings that one answer looks at.
pub const RECORDER_VISITS_MAX: u64 = 8192;
/// Connections that have ended and whose cause is remembered by a shard.
pub const ENDED_MAX: usize = 1024;
/// Bans that are in force at once.
pub const BANS_MAX: usize = 10_000;
/// The buffer of a group of log records that is kept to be filled again, at most, bytes.
pub const POOLED_GROUP_BYTES_MAX: usize = 4 << 20;
/// What a rewrite of the log records in one turn, about, bytes: well below a millisecond.
pub const REWRITE_BYTES_PER_TURN_MAX: usize = 128 << 10;
/// Acknowledgements of one shard that wait for commits, its own or others'; beyond it PUBLISH is not read.
pub const PENDING_ACKNOWLEDGEMENTS_MAX: usize = 65_536;

/// What an acknowledgement of the broker promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing survives the process.
    #[default]
    Memory,
    /// What is acknowledged survives a killed process.
    Os,
    /// What is acknowledged survives a loss of power.
    Fsync,
}

/// What happens to a message for an outbox that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboxFull {
    /// The oldest message makes room.
    DropOldest,
    /// The new message is dropped.
    DropNewest,
}

/// Limits of every session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Longest Session Expiry Interval, seconds; `u32::MAX` lets sessions live for ever.
    pub session_expiry_interval_s_max: u32,
    /// Session expiry of 3.1 and 3.1.1 clients without Clean Session, seconds.
    pub persistent_v3_expiry_interval_s: u32,
    /// Unacknowledged QoS 1 and 2 messages towards a client, whatever its Receive Maximum.
    pub in_flight_max: u16,
    /// Bytes of unacknowledged messages towards a client: no more are sent from there on.
    pub in_flight_bytes_max: u32,
    /// Messages that wait for one session.
    pub outbox_messages_max: u32,
    /// Bytes of messages that wait for one session.
    pub outbox_bytes_max: u32,
    /// What goes when an outbox is full.
    pub outbox_full: OutboxFull,
    /// Whether QoS 0 messages are queued for sessions that are offline.
    pub queue_qos0_offline: bool,
    /// Subscriptions of one session.
    pub subscriptions_max: u32,
    /// Sessions of one shard.
    pub sessions_max: u32,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            session_expiry_interval_s_max: u32::MAX,
            persistent_v3_expiry_interval_s: u32::MAX,
            in_flight_max: 1024,
            in_flight_bytes_max: 16 << 20,
            outbox_messages_max: 10_000,
            outbox_bytes_max: 16 << 20,
            outbox_full: OutboxFull::DropNewest,
            queue_qos0_offline: false,
            subscriptions_max: 1_000_000,
            sessions_max: 4_000_000,
        }
    }
}

/// What a listener offers, as CONNACK says it to a 5.0 client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Receive Maximum: QoS 2 messages that a client may have unreleased.
    pub receive_maximum: u16,
    /// Topic Alias Maximum for clients.
    pub topic_alias_maximum: u16,
    /// Highest QoS of PUBLISH packets and granted subscriptions: 0, 1 or 2.
    pub maximum_qos: u8,
    /// Whether retained messages are taken.
    pub retain_available: bool,
    /// Whether filters with wildcards are taken.
    pub wildcard_subscription_available: bool,
    /// Whether Subscription Identifiers are taken.
    pub subscription_identifiers_available: bool,
    /// Whether shared subscriptions are taken.
    pub shared_subscription_available: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            receive_maximum: 1024,
            topic_alias_maximum: 64,
            maximum_qos: 2,
            retain_available: true,
            wildcard_subscription_available: true,
            subscription_identifiers_available: true,
            shared_subscription_available: true,
        }
    }
}

/// Limits of the connections of one listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Connections through this listener at once.
    pub connections_max: u32,
    /// Connections through this listener in a second; 0 is no limit.
    pub connections_per_s_max: u32,
    /// From accept to the end of CONNECT, seconds.
    pub connect_timeout_s: u16,
    /// Largest CONNECT, bytes: it is taken from anybody, before it is known who sends it. Not more than
    /// `packet_bytes_max`.
    pub connect_bytes_max: u32,
    /// Messages that a client may publish in a second; 0 is no limit.
    pub publish_messages_per_s_max: u32,
    /// Bytes of PUBLISH packets that a client may send in a second; 0 is no limit.
    pub publish_bytes_per_s_max: u32,
    /// How long a client may be over its publish rate, seconds; 0 is for ever.
    pub publish_rate_patience_s: u16,
    /// Largest Control Packet from a client, bytes.
    pub packet_bytes_max: u32,
    /// Shortest Keep Alive, seconds.
    pub keep_alive_s_min: u16,
    /// Longest Keep Alive, seconds; 0 is no limit.
    pub keep_alive_s_max: u16,
    /// Topic Aliases that the broker uses towards a client that allows them.
    pub topic_alias_maximum_outgoing: u16,
    /// Response Information for clients that request it.
    pub response_information: Option<String>,
    /// What the listener offers.
    pub capabilities: Capabilities,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1_000_000,
            connections_per_s_max: 0,
            connect_timeout_s: 10,
            // Each of its five fields at its longest, 64 KiB, and as much for properties.
            connect_bytes_max: 384 << 10,
            publish_messages_per_s_max: 0,
            publish_bytes_per_s_max: 0,
            publish_rate_patience_s: 60,
            packet_bytes_max: 16 << 20,
            keep_alive_s_min: 0,
            keep_alive_s_max: 0,
            topic_alias_maximum_outgoing: 32,
            response_information: None,
            capabilities: Capabilities::default(),
        }
    }
}

impl ListenerLimits {
    /// The largest first packet, bytes.
    pub fn first_packet_bytes_max(&self) -> usize {
        self.connect_bytes_max.min(self.packet_bytes_max) as usize
    }
}

/// How a message reaches a session with several matching subscriptions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlapping {
    /// One copy with the highest QoS and all Subscription Identifiers.
    Merge,
    /// One copy for each subscription.
    Separate,
}

/// Limits and choices for every message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Overlapping subscriptions of one session.
    pub overlapping: Overlapping,
    /// Whether a payload that is declared as UTF-8 is checked (0x99).
    pub validate_payload_format: bool,
    /// Longest Topic Name or Topic Filter, bytes.
    pub topic_bytes_max: u16,
    /// Most Topic Levels in a Topic Name or Topic Filter.
    pub topic_levels_max: u16,
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            overlapping: Overlapping::Merge,
            validate_payload_format: false,
            topic_bytes_max: u16::MAX,
            topic_levels_max: 128,
        }
    }
}

/// Limits of retained messages, per shard that owns them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedLimits {
    /// Retained messages of one shard.
    pub messages_max: u32,
    /// Bytes of retained messages of one shard.
    pub bytes_max: u64,
    /// Retained messages in one slice of an answer to SUBSCRIBE.
    pub slice_messages: u16,
    /// Bytes in one slice of an answer to SUBSCRIBE.
    pub slice_bytes: u32,
}

impl Default for RetainedLimits {
    fn default() -> Self {
        Self {
            messages_max: 10_000_000,
            bytes_max: 4 << 30,
            slice_messages: 64,
            slice_bytes: 256 << 10,
        }
    }
}

/// Limits of network and mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkLimits {
    /// Output of one connection that waits or is on its way, bytes. Beyond it QoS 0 is dropped and QoS 1
    /// and 2 stay in the outbox.
    pub output_bytes_max: u32,
    /// Bytes that one connection may bring into one turn; messages to many receivers count for more.
    pub receive_budget_bytes: u32,
    /// How long a shard looks for work before it sleeps, microseconds.
    pub spin_us: u32,
    /// Submission queue entries of a shard's ring.
    pub ring_entries: u32,
    /// Receive buffers of a shard; a power of two.
    pub receive_buffers: u16,
    /// Size of a receive buffer, bytes.
    pub receive_buffer_bytes: u32,
    /// Envelopes that wait for one other shard, bytes. Beyond it PUBLISH packets are not read.
    pub mesh_staged_bytes_max: u32,
    /// Batches in a shard's inbox.
    pub inbox_batches_max: u32,
    /// Connections that the kernel queues before they are accepted.
    pub listen_backlog: u32,
    /// How long the last packets to a client may take, seconds.
    pub close_linger_s: u16,
    /// TLS handshakes that a shard begins in a second; 0 is no limit.
    pub tls_handshakes_per_s_max: u32,
    /// TLS handshakes from one source prefix that a shard begins in a second; 0 is no limit.
    pub tls_handshakes_per_source_per_s_max: u32,
    /// Connections of a shard that wait for their TLS handshake to begin.
    pub tls_handshakes_waiting_max: u32,
}

impl Default for NetworkLimits {
    fn default() -> Self {
        Self {
            output_bytes_max: 1 << 20,
            receive_budget_bytes: 64 << 10,
            spin_us: 0,
            ring_entries: 1024,
            receive_buffers: 512,
            receive_buffer_bytes: 2048,
            mesh_staged_bytes_max: 4 << 20,
            inbox_batches_max: 256,
            listen_backlog: 4096,
            close_linger_s: 5,
            tls_handshakes_per_s_max: 1000,
            tls_handshakes_per_source_per_s_max: 500,
            tls_handshakes_waiting_max: 10_000,
        }
    }
}

/// Limits of what is told about the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservabilityLimits {
    /// Decisions that the flight recorder of a shard holds; 0 is none.
    pub recorder_entries: u32,
    /// A turn that takes longer is reported, milliseconds.
    pub stall_report_ms: u32,
    /// A window that has not moved for longer counts as shut, seconds.
    pub window_shut_s: u32,
}

impl Default for ObservabilityLimits {
    fn default() -> Self {
        Self {
            recorder_entries: 1 << 16,
            stall_report_ms: 100,
            window_shut_s: 30,
        }
    }
}

/// Limits of the store, per shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageLimits {
    /// Size of a file of the log, bytes.
    pub segment_bytes: u64,
    /// Records that wait to be written, bytes; beyond it PUBLISH packets are not read.
    pub unwritten_bytes_max: u32,
    /// Length of the log, bytes; beyond it nothing new is taken.
    pub bytes_max: u64,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            unwritten_bytes_max: 16 << 20,
            bytes_max: 1 << 40,
        }
    }
}
