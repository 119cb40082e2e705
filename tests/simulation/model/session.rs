//! What the model knows of a session and of a connection.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::packet::Version;
use crate::wire::{Asked, AskedWill};

/// A subscription.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub options: u8,
    pub identifier: u32,
    /// When it was made; to replace it does not make it anew.
    pub since: u64,
    /// When SUBACK was sent.
    pub acknowledged: Option<u64>,
}

impl Subscription {
    pub fn qos(&self) -> u8 {
        self.options & 3
    }

    pub fn no_local(&self) -> bool {
        self.options & 4 != 0
    }

    pub fn retain_as_published(&self) -> bool {
        self.options & 8 != 0
    }
}

/// A PUBLISH that a session has to get, or may get.
#[derive(Clone, Debug)]
pub struct Expected {
    pub publication: usize,
    pub qos: u8,
    pub retain: bool,
    /// Subscription Identifiers, sorted.
    pub identifiers: Vec<u32>,
    pub must: bool,
    /// Which of the session's connections it was, when the message came.
    pub connection: u32,
}

/// A PUBLISH that was sent and is not acknowledged.
#[derive(Clone, Debug)]
pub struct InFlight {
    pub message: u64,
    pub qos: u8,
    /// The connection on which it was last sent.
    pub conn: usize,
    pub received: bool,
    pub group: Option<(&'static str, usize)>,
}

/// Retained messages that a SUBSCRIBE asked for.
#[derive(Clone, Debug)]
pub struct Asking {
    pub filter: &'static str,
    /// QoS and Subscription Identifier, also of the subscriptions that have replaced it.
    pub options: Vec<(u8, u32)>,
    pub no_local: bool,
    pub since: u64,
    /// Which of the session's connections asked.
    pub connection: u32,
    /// SUBACK was sent.
    pub told: bool,
    /// So it was, and the subscription is the same: all must come.
    pub must: bool,
    /// UNSUBSCRIBE has come.
    pub cancelled: bool,
    /// UNSUBACK was sent: nothing new comes.
    pub gone: bool,
}

/// A session.
#[derive(Debug)]
pub struct Session {
    pub conn: Option<usize>,
    /// Counts its connections.
    pub connections: u32,
    pub expiry_s: u32,
    pub ends_at_ms: Option<u64>,
    pub will: Option<AskedWill>,
    pub will_at_ms: Option<u64>,
    pub subscriptions: BTreeMap<&'static str, Subscription>,
    /// Groups that it was ever a member of.
    pub groups: BTreeSet<&'static str>,
    pub expected: Vec<Expected>,
    pub in_flight: BTreeMap<u16, InFlight>,
    pub inbound: BTreeSet<u16>,
    /// By publisher, Topic Name and QoS: the last publication that was sent.
    pub last: BTreeMap<(usize, &'static str, u8), usize>,
    pub asking: Vec<Asking>,
    /// For each retained message that was sent, by Topic Name: the places in `asking` that may be why.
    pub stored: BTreeMap<&'static str, Vec<Vec<usize>>>,
    /// When a live message with RETAIN last came for a Topic Name, whatever became of it.
    pub live: BTreeMap<&'static str, u64>,
    /// Publications with RETAIN that were sent to it, by Topic Name, and when.
    pub retained: BTreeMap<&'static str, Vec<(usize, u64)>>,
    pub packet_bytes_max: u32,
}

impl Session {
    pub fn new() -> Self {
        Self {
            conn: None,
            connections: 0,
            expiry_s: 0,
            ends_at_ms: None,
            will: None,
            will_at_ms: None,
            subscriptions: BTreeMap::new(),
            groups: BTreeSet::new(),
            expected: Vec::new(),
            in_flight: BTreeMap::new(),
            inbound: BTreeSet::new(),
            last: BTreeMap::new(),
            asking: Vec::new(),
            stored: BTreeMap::new(),
            live: BTreeMap::new(),
            retained: BTreeMap::new(),
            packet_bytes_max: u32::MAX,
        }
    }
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Fresh,
    Connected,
    Ended,
}

/// A SUBACK that is due.
#[derive(Clone, Debug)]
pub struct DueSuback {
    pub identifier: u16,
    pub codes: Vec<u8>,
    pub filters: Vec<&'static str>,
    pub at: u64,
}

/// An UNSUBACK that is due.
#[derive(Clone, Debug)]
pub struct DueUnsuback {
    pub identifier: u16,
    pub codes: Vec<u8>,
    pub filters: Vec<&'static str>,
    pub at: u64,
}

/// What the broker owes a connection, by kind and in order.
#[derive(Debug, Default)]
pub struct Due {
    /// CONNACK, with its Session Present.
    pub connack: Option<bool>,
    /// With the publication, if one was made.
    pub pubacks: VecDeque<(u16, Option<usize>)>,
    pub pubrecs: VecDeque<(u16, Option<usize>)>,
    pub pubrels: VecDeque<u16>,
    /// With whether the identifier was known.
    pub pubcomps: VecDeque<(u16, bool)>,
    pub subacks: VecDeque<DueSuback>,
    pub unsubacks: VecDeque<DueUnsuback>,
    pub pings: u32,
}

impl Due {
    pub fn is_empty(&self) -> bool {
        self.connack.is_none()
            && self.pubacks.is_empty()
            && self.pubrecs.is_empty()
            && self.pubrels.is_empty()
            && self.pubcomps.is_empty()
            && self.subacks.is_empty()
            && self.unsubacks.is_empty()
            && self.pings == 0
    }
}

/// A connection.
#[derive(Debug)]
pub struct Conn {
    pub client: usize,
    pub home: usize,
    pub version: Version,
    pub phase: Phase,
    pub asked: Option<Box<Asked>>,
    pub due: Due,
    pub aliases: BTreeMap<u32, String>,
    pub disconnected: bool,
    /// The network has it no more: what is due cannot come.
    pub lost: bool,
    /// When the last of its output was handed to the network.
    pub drained_ms: u64,
    pub last_bytes_ms: u64,
    pub keep_alive_ms: u64,
}

impl Conn {
    pub fn new(client: usize, home: usize, version: Version, now_ms: u64) -> Self {
        Self {
            client,
            home,
            version,
            phase: Phase::Fresh,
            asked: None,
            due: Due::default(),
            aliases: BTreeMap::new(),
            disconnected: false,
            lost: false,
            drained_ms: now_ms,
            last_bytes_ms: now_ms,
            keep_alive_ms: 0,
        }
    }
}
