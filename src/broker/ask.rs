//! What the control thread may ask of a shard, and the answers: plain data.
//!
//! Every question is a bounded piece of work: lists come in pages of at most `ASK_VISITS_MAX` places looked
//! at, and a cursor says where the next page begins. What comes or goes between two pages may be missed.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use crate::mqtt::data_types::QoS;
use crate::mqtt::packet::subscribe::SubscriptionOptions;
use crate::observability::counters::Counters;
use crate::observability::latency::{Distribution, Stages, Turns};
use crate::observability::recorder::Position;
use crate::observability::sight::TracedPayload;
use crate::routing::retained::RetainedCursor;

/// Where a page begins: 0, or what the former page said.
pub type Cursor = u64;

/// Which clients a list has.
#[derive(Clone, Debug, Default)]
pub struct ClientFilter {
    /// Text that the Client Identifier contains.
    pub search: Option<Box<str>>,
    /// Only with, or only without a connection.
    pub connected: Option<bool>,
    /// Only clients of this address.
    pub address: Option<Box<str>>,
}

/// By what the greatest clients are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greatest {
    /// Bytes held for them.
    Bytes,
    /// Messages a second.
    Rate,
    /// Messages that wait.
    Queue,
}

/// A message that an administrator publishes.
#[derive(Clone, Debug)]
pub struct AdminMessage {
    /// Topic Name, valid.
    pub topic: Box<str>,
    /// Payload.
    pub payload: Vec<u8>,
    /// QoS.
    pub qos: QoS,
    /// RETAIN.
    pub retain: bool,
    /// Encoded properties for subscribers.
    pub forwarded_properties: Vec<u8>,
    /// Message Expiry Interval, seconds.
    pub expiry_s: Option<u32>,
}

/// One question.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Counters, histograms and what the shard knows of itself.
    Stats,
    /// Queues and windows of a page of sessions.
    Census {
        /// Where it begins.
        cursor: Cursor,
    },
    /// A page of clients.
    Clients {
        /// Which.
        filter: ClientFilter,
        /// Where it begins.
        cursor: Cursor,
        /// Rows at most.
        rows: usize,
    },
    /// One client in full.
    Client(Box<str>),
    /// A page of subscriptions: of one client, or of all.
    Subscriptions {
        /// Whose.
        client: Option<Box<str>>,
        /// Text that the Topic Filter contains.
        search: Option<Box<str>>,
        /// Where it begins.
        cursor: Cursor,
        /// Rows at most.
        rows: usize,
    },
    /// A page of shared groups.
    Groups {
        /// Where it begins.
        cursor: Cursor,
        /// Rows at most.
        rows: usize,
    },
    /// A slice of retained messages.
    Retained {
        /// Which Topic Names.
        filter: Box<str>,
        /// Where it begins.
        cursor: Option<RetainedCursor>,
    },
    /// One retained message.
    RetainedMessage(Box<str>),
    /// The greatest clients among a page of sessions.
    Top {
        /// By what.
        by: Greatest,
        /// How many.
        rows: usize,
        /// Where the page begins.
        cursor: Cursor,
    },
    /// What the flight recorder has.
    Recorder {
        /// Only about this client.
        client: Option<Box<str>>,
        /// Only of topics that match this Topic Filter.
        topic: Option<Box<str>>,
        /// Nothing from before, monotonic milliseconds.
        since_ms: u64,
        /// Where to go on; from the beginning if not set.
        from: Option<Position>,
    },
    /// Where the flight recorder ends now.
    RecorderEnd,
    /// Payloads of messages that match a Topic Filter, for a live trace.
    Payloads {
        /// Which.
        filter: Box<str>,
    },
    /// Ends a connection.
    Kick {
        /// Whose.
        client: Box<str>,
        /// What the client is told.
        reason: Box<str>,
    },
    /// Ends a session, and its connection.
    DeleteSession(Box<str>),
    /// Subscribes on behalf of a client.
    Subscribe {
        /// The client, which has a session.
        client: Box<str>,
        /// Topic Filter.
        filter: Box<str>,
        /// Subscription Options.
        options: SubscriptionOptions,
    },
    /// Unsubscribes on behalf of a client.
    Unsubscribe {
        /// The client.
        client: Box<str>,
        /// Topic Filter.
        filter: Box<str>,
    },
    /// Publishes a message.
    Publish(Box<AdminMessage>),
    /// Deletes a retained message without telling subscribers.
    DeleteRetained(Box<str>),
    /// The bans that are in force from now on.
    SetBans(Arc<Bans>),
}

/// An answer; the kinds follow those of [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// Of `Stats`.
    Stats(Box<ShardStats>),
    /// Of `Census`.
    Census(Census, Option<Cursor>),
    /// Of `Clients` and `Top`.
    Clients(Page<ClientRow>),
    /// Of `Client`.
    Client(Option<Box<ClientDetail>>),
    /// Of `Subscriptions`.
    Subscriptions(Page<SubscriptionRow>),
    /// Of `Groups`.
    Groups(Page<GroupRow>),
    /// Of `Retained`: rows, and where the next slice begins.
    Retained(Vec<RetainedRow>, Option<RetainedCursor>),
    /// Of `RetainedMessage`: the row and the payload.
    RetainedMessage(Option<(RetainedRow, Vec<u8>)>),
    /// Of `Recorder`.
    Recorder(RecorderPage),
    /// Of `Payloads`.
    Payloads(Vec<TracedPayload>),
    /// Of what changes something: whether there was something to change.
    Done(bool),
    /// Why it is not done.
    Refused(&'static str),
}

/// A page of rows.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
}

/// One client in a list.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct ClientRow {
    /// Client Identifier.
    pub client_identifier: String,
    /// Whether it has a Network Connection.
    pub connected: bool,
    /// Address and port of its connection, or "unix".
    #[schema(required)]
    pub address: Option<String>,
    /// The listener that it came through.
    #[schema(required)]
    pub listener: Option<String>,
    /// Protocol version: 3.1, 3.1.1 or 5.0.
    #[schema(required)]
    pub protocol: Option<String>,
    /// For how long it is connected, seconds.
    #[schema(required)]
    pub connected_s: Option<u64>,
    /// Keep Alive, seconds; 0 is none.
    #[schema(required)]
    pub keep_alive_s: Option<u16>,
    /// Session Expiry Interval, seconds; 4294967295 is never.
    pub session_expiry_interval_s: u32,
    /// How many subscriptions it has.
    pub subscriptions: u64,
    /// Messages that wait in its outbox.
    pub queued_messages: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// QoS 1 and 2 messages that it has not acknowledged.
    pub in_flight_messages: u64,
    /// Bytes of them.
    pub in_flight_bytes: u64,
    /// How many it may have unacknowledged.
    #[schema(required)]
    pub in_flight_max: Option<u16>,
    /// Output that waits for its socket, bytes.
    pub output_bytes: u64,
    /// All bytes that are held for it.
    pub bytes_held: u64,
    /// PUBLISH packets of its connection, both ways; starts again after 4294967295.
    pub messages: u32,
    /// The same a second, on average since it is connected.
    pub messages_per_s: f32,
    /// Its slot, for the shard to fill in the address.
    #[serde(skip)]
    #[schema(ignore)]
    pub slot: Option<u32>,
}

/// One client in full.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ClientDetail {
    /// What a list has of it.
    #[serde(flatten)]
    pub row: ClientRow,
    /// Its shard.
    pub shard: u16,
    /// QoS 2 messages from it that it has not released.
    pub unreleased_messages: u64,
    /// Whether its window takes no more messages now.
    pub window_shut: bool,
    /// Largest packet that it takes, bytes.
    #[schema(required)]
    pub packet_bytes_max: Option<u32>,
    /// Topic Aliases that the broker may use towards it.
    #[schema(required)]
    pub topic_alias_maximum: Option<u16>,
    /// The topic of its Will Message.
    #[schema(required)]
    pub will_topic: Option<String>,
    /// How its last connection ended, as far as the shard remembers.
    #[schema(required)]
    pub last_end: Option<LastEnd>,
}

/// How a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LastEnd {
    /// In words.
    pub cause: String,
    /// MQTT 5.0 Reason Code.
    pub reason_code: u8,
    /// Whether the broker ended it.
    pub by_broker: bool,
    /// When, seconds since 1970.
    pub at_unix_s: u64,
}

/// One subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct SubscriptionRow {
    /// Client Identifier.
    pub client_identifier: String,
    /// Topic Filter, without `$share/NAME/`.
    pub filter: String,
    /// Share Name, of a shared subscription.
    #[schema(required)]
    pub share_name: Option<String>,
    /// Maximum QoS.
    pub qos: u8,
    /// No Local.
    pub no_local: bool,
    /// Retain As Published.
    pub retain_as_published: bool,
    /// Subscription Identifier.
    #[schema(required)]
    pub subscription_identifier: Option<u32>,
}

/// A shared group, as one shard or all see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct GroupRow {
    /// Share Name.
    pub share_name: String,
    /// Topic Filter.
    pub filter: String,
    /// The shard that these members are on.
    pub shard: u16,
    /// How many there are.
    pub members: u64,
    /// How many of them are connected.
    pub connected: u64,
}

/// A retained message without its payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct RetainedRow {
    /// Topic Name.
    pub topic: String,
    /// QoS.
    pub qos: u8,
    /// Length of the payload.
    pub payload_bytes: u64,
    /// When it expires, in seconds from now.
    #[schema(required)]
    pub expires_in_s: Option<u64>,
}

/// One decision about a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct DecisionRow {
    /// When, milliseconds since 1970; of the turn.
    pub at_unix_ms: u64,
    /// The shard.
    pub shard: u16,
    /// received, refused, arrived (from another shard), sent, queued, acknowledged, not_queued, dropped.
    pub what: String,
    /// Why it was dropped or not queued.
    #[schema(required)]
    pub cause: Option<String>,
    /// Topic Name, cut if it is long; none if it is too long ago.
    #[schema(required)]
    pub topic: Option<String>,
    /// Client Identifier of the publisher or the receiver; none if its session has ended.
    #[schema(required)]
    pub client_identifier: Option<String>,
    /// QoS.
    pub qos: u8,
    /// Of a message that came: deliveries on this shard.
    #[schema(required)]
    pub deliveries: Option<u16>,
    /// Of a message that came: whether it went to other shards, too.
    #[schema(required)]
    pub other_shards: Option<bool>,
    /// Of what was sent or acknowledged with QoS 1 or 2.
    #[schema(required)]
    pub packet_identifier: Option<u16>,
}

/// A part of the flight recorder.
#[derive(Debug, Default)]
pub struct RecorderPage {
    /// The decisions that were asked for.
    pub rows: Vec<DecisionRow>,
    /// Where to go on.
    pub next: Position,
    /// Whether that was all for now.
    pub done: bool,
    /// How many entries are gone that were to be read.
    pub missed: u64,
}

/// Queues and windows of some sessions, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Sessions.
    pub sessions: u64,
    /// Messages in outboxes.
    pub queued_messages: u64,
    /// Bytes of them.
    pub queued_bytes: u64,
    /// Unacknowledged messages.
    pub in_flight_messages: u64,
    /// Bytes of them.
    pub in_flight_bytes: u64,
    /// Output that waits for sockets, bytes.
    pub output_bytes: u64,
    /// Windows that have been shut without a move for longer than `window_shut_s`.
    pub windows_shut: u64,
}

impl Census {
    /// Adds those of other sessions.
    pub fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.queued_messages += other.queued_messages;
        self.queued_bytes += other.queued_bytes;
        self.in_flight_messages += other.in_flight_messages;
        self.in_flight_bytes += other.in_flight_bytes;
        self.output_bytes += other.output_bytes;
        self.windows_shut += other.windows_shut;
    }
}

/// What a shard knows of itself. The broker fills in its part, the shard the rest.
#[derive(Clone, Debug, Default)]
pub struct ShardStats {
    /// Which.
    pub shard: u16,
    /// Its counters.
    pub counters: Counters,
    /// Stages of messages.
    pub stages: Stages,
    /// Its turns.
    pub turns: Turns,
    /// CPU time of its thread, nanoseconds.
    pub cpu_ns: u64,
    /// How long it has run, nanoseconds.
    pub elapsed_ns: u64,
    /// Messages in its inbox now.
    pub inbox_depth: u64,
    /// Bytes that wait for other shards.
    pub mesh_staged_bytes: u64,
    /// Times that the ring had no receive buffer.
    pub buffers_exhausted: u64,
    /// Bytes of the flight recorder.
    pub recorder_bytes: u64,
    /// Bytes of the receive buffers.
    pub receive_buffer_bytes: u64,
    /// Different Topic Filters of its clients.
    pub filters: u64,
    /// Shared groups with members here.
    pub shared_groups: u64,
}

impl ShardStats {
    /// The broker's part of it.
    pub fn of_broker(shard: u16, counters: Counters, acknowledgement: Distribution) -> Self {
        Self {
            shard,
            counters,
            stages: Stages {
                publish_to_acknowledgement: acknowledgement,
                ..Stages::default()
            },
            ..Self::default()
        }
    }
}

/// Who may not connect, and until when, seconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    /// By Client Identifier.
    pub clients: HashMap<Box<str>, u64>,
    /// By User Name.
    pub users: HashMap<Box<str>, u64>,
    /// By address without port.
    pub addresses: HashMap<Box<str>, u64>,
}

impl Bans {
    /// Whether a client with this identifier or User Name may not connect.
    pub fn refuses(&self, client: &str, user_name: Option<&str>, unix_s: u64) -> bool {
        let holds = |until: Option<&u64>| until.is_some_and(|until| unix_s < *until);
        (!self.clients.is_empty() && holds(self.clients.get(client)))
            || (!self.users.is_empty() && user_name.is_some_and(|name| holds(self.users.get(name))))
    }

    /// Whether nobody may connect from this address.
    pub fn refuses_address(&self, address: &str, unix_s: u64) -> bool {
        self.addresses
            .get(address)
            .is_some_and(|until| unix_s < *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ban_holds_until_it_ends() {
        let mut bans = Bans::default();
        bans.clients.insert("c".into(), 100);
        bans.users.insert("u".into(), 200);
        bans.addresses.insert("10.0.0.1".into(), 300);
        assert!(bans.refuses("c", None, 99) && !bans.refuses("c", None, 100));
        assert!(bans.refuses("d", Some("u"), 199) && !bans.refuses("d", Some("v"), 0));
        assert!(bans.refuses_address("10.0.0.1", 299) && !bans.refuses_address("10.0.0.2", 0));
    }
}
