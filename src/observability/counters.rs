//! What one shard counts: plain integers, raised by the core, summed off the hot path.
//!
//! A shard owns its counters; others get a copy in an envelope (`broker::system_topics`).

use crate::mqtt::data_types::QoS;
use crate::mqtt::reason_code::ReasonCode;

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
    /// The publisher may not publish it, or its receiver may not have it any more.
    NotAuthorized,
}

impl DropCause {
    /// All, in order, with the last level of their `$SYS` topic.
    pub const NAMES: [&'static str; 7] = [
        "output_full",
        "outbox_full",
        "expired",
        "packet_too_large",
        "retained_limit",
        "no_member",
        "not_authorized",
    ];
}

/// Why the broker ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum EndCause {
    /// `connections_max` of its listener is reached.
    ConnectionsMax,
    /// CONNECT was not complete within `connect_timeout_s`.
    ConnectTimeout,
    /// CONNECT was refused, or something else came first.
    ConnectRefused,
    /// A packet that is malformed.
    MalformedPacket,
    /// A packet that is not allowed there, topics that are not valid included.
    ProtocolError,
    /// A packet over `packet_bytes_max`.
    PacketTooLarge,
    /// More QoS 2 messages at once than Receive Maximum.
    ReceiveMaximumExceeded,
    /// No packet within one and a half Keep Alive.
    KeepAliveTimeout,
    /// The Client Identifier connected again.
    SessionTakenOver,
    /// The server is shutting down.
    ServerShuttingDown,
    /// `connections_per_s_max` of its listener is reached.
    ConnectionRate,
    /// The address may not connect, or may not speak for a client.
    AddressDenied,
    /// There is no good PROXY header.
    ProxyHeader,
    /// TLS failed: the handshake, the client's certificate, or a record.
    Tls,
    /// Too many TLS handshakes at once.
    TlsRate,
    /// WebSocket failed: the request, or a frame.
    WebSocket,
    /// A client pressed against its publish rate for too long.
    MessageRateTooHigh,
    /// An administrator ended it.
    AdministrativeAction,
    /// Nobody may connect from its address.
    Banned,
    /// Any other Reason Code.
    Other,
}

impl EndCause {
    /// All, in order, with the last level of their `$SYS` topic.
    pub const NAMES: [&'static str; 20] = [
        "connections_max",
        "connect_timeout",
        "connect_refused",
        "malformed_packet",
        "protocol_error",
        "packet_too_large",
        "receive_maximum_exceeded",
        "keep_alive_timeout",
        "session_taken_over",
        "server_shutting_down",
        "connection_rate",
        "address_denied",
        "proxy_header",
        "tls",
        "tls_rate",
        "websocket",
        "message_rate_too_high",
        "administrative_action",
        "banned",
        "other",
    ];

    /// The cause that a Reason Code tells of, once a client is connected.
    pub fn of(reason_code: ReasonCode) -> Self {
        match reason_code {
            ReasonCode::MalformedPacket => Self::MalformedPacket,
            ReasonCode::ProtocolError
            | ReasonCode::TopicNameInvalid
            | ReasonCode::TopicFilterInvalid
            | ReasonCode::TopicAliasInvalid => Self::ProtocolError,
            ReasonCode::PacketTooLarge => Self::PacketTooLarge,
            ReasonCode::ReceiveMaximumExceeded => Self::ReceiveMaximumExceeded,
            ReasonCode::KeepAliveTimeout => Self::KeepAliveTimeout,
            ReasonCode::SessionTakenOver => Self::SessionTakenOver,
            ReasonCode::ServerShuttingDown => Self::ServerShuttingDown,
            ReasonCode::MessageRateTooHigh => Self::MessageRateTooHigh,
            ReasonCode::AdministrativeAction => Self::AdministrativeAction,
            _ => Self::Other,
        }
    }
}

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
    /// PUBLISH packets received, by QoS.
    pub publish_received: [u64; 3],
    /// PUBLISH packets sent, by QoS.
    pub publish_sent: [u64; 3],
    /// Payload bytes in PUBLISH packets received, by QoS.
    pub publish_bytes_received: [u64; 3],
    /// Payload bytes in PUBLISH packets sent, by QoS.
    pub publish_bytes_sent: [u64; 3],
    /// TLS handshakes that were completed, with a new session.
    pub tls_handshakes_full: u64,
    /// TLS handshakes that resumed a session.
    pub tls_handshakes_resumed: u64,
    /// Gauge: when the first of the server's certificates ends, seconds since 1970; 0 without any.
    pub tls_certificate_ends_unix_s: u64,
    /// Messages dropped for one receiver, by [`DropCause`].
    pub dropped: [u64; DropCause::NAMES.len()],
    /// Connections that the broker ended, by [`EndCause`].
    pub ended: [u64; EndCause::NAMES.len()],
}

impl Counters {
    /// Counts a PUBLISH that was received.
    #[inline]
    pub fn count_received(&mut self, qos: QoS, payload_bytes: usize) {
        self.publish_received[qos as usize] += 1;
        self.publish_bytes_received[qos as usize] += payload_bytes as u64;
    }

    /// Counts a PUBLISH that is sent.
    #[inline]
    pub fn count_sent(&mut self, qos: QoS, packet_bytes: usize, payload_bytes: usize) {
        self.packets_sent += 1;
        self.bytes_sent += packet_bytes as u64;
        self.publish_sent[qos as usize] += 1;
        self.publish_bytes_sent[qos as usize] += payload_bytes as u64;
    }

    /// All PUBLISH packets received.
    pub fn publish_received_total(&self) -> u64 {
        self.publish_received.iter().sum()
    }

    /// All PUBLISH packets sent.
    pub fn publish_sent_total(&self) -> u64 {
        self.publish_sent.iter().sum()
    }

    /// Counts `count` messages dropped because of `cause`.
    #[inline]
    pub fn drop_messages(&mut self, cause: DropCause, count: u64) {
        self.dropped[cause as usize] += count;
    }

    /// Counts a connection that the broker ended because of `cause`.
    pub fn end_connection(&mut self, cause: EndCause) {
        self.ended[cause as usize] += 1;
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
        self.tls_handshakes_full += other.tls_handshakes_full;
        self.tls_handshakes_resumed += other.tls_handshakes_resumed;
        self.tls_certificate_ends_unix_s = match (
            self.tls_certificate_ends_unix_s,
            other.tls_certificate_ends_unix_s,
        ) {
            (0, end) | (end, 0) => end,
            (one, another) => one.min(another),
        };
        add(&mut self.publish_received, &other.publish_received);
        add(&mut self.publish_sent, &other.publish_sent);
        add(
            &mut self.publish_bytes_received,
            &other.publish_bytes_received,
        );
        add(&mut self.publish_bytes_sent, &other.publish_bytes_sent);
        add(&mut self.dropped, &other.dropped);
        add(&mut self.ended, &other.ended);
    }
}

fn add(sums: &mut [u64], more: &[u64]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_its_name() {
        assert_eq!(
            DropCause::NAMES[DropCause::NotAuthorized as usize],
            "not_authorized"
        );
        assert_eq!(
            DropCause::NAMES.len(),
            DropCause::NotAuthorized as usize + 1
        );
        assert_eq!(EndCause::NAMES[EndCause::Other as usize], "other");
        assert_eq!(EndCause::NAMES.len(), EndCause::Other as usize + 1);
        let keep_alive = EndCause::of(ReasonCode::KeepAliveTimeout);
        assert_eq!(EndCause::NAMES[keep_alive as usize], "keep_alive_timeout");
    }
}
