//! The broker of one shard: what each packet, envelope and deadline means.
//!
//! Called by `shard` and by tests: `(event, now) -> effects`. No I/O, no clock, no threads. The effects are
//! pulled: output of connections ([`Broker::next_dirty`], [`Broker::take_output`]), batches for other shards
//! ([`Broker::mesh`]), connections that ended ([`Broker::take_ended`]), the next deadline.
//!
//! Invariants: a Client Identifier has one session on one shard; a session has at most one connection; a
//! SUBACK leaves only when every shard has applied the interest.

mod acknowledge;
mod act;
mod answer;
pub mod ask;
pub mod authentication;
pub mod authorization;
mod clients;
mod connect;
pub mod connection;
mod delivery;
mod disconnect;
mod durable;
pub mod envelope;
pub mod fault;
mod inbox;
mod notes;
pub mod output;
pub mod policy;
mod publish;
pub mod publish_rate;
mod receive;
mod record;
mod restore;
mod retained_delivery;
mod rewrite;
mod sessions;
mod shared;
mod subscribe;
mod system_topics;
pub mod timer_wheel;
mod timers;
mod visibility;

use std::collections::VecDeque;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use slab::Slab;

use crate::config::Config;
use crate::config::limits::{Durability, ListenerLimits};
use crate::journal::Origin;
use crate::observability::counters::Counters;
use crate::routing::ids::ShardId;
use crate::routing::interest_index::InterestIndex;
use crate::routing::local_index::{FilterId, LocalIndex};
use crate::routing::retained::RetainedStore;
use crate::routing::shared_subscription::{GroupMembers, GroupReplica};
use crate::routing::topic_hash::TopicHasher;

pub use answer::sort_greatest;
use ask::Bans;
use authentication::cache::VerifiedCredentials;
use authentication::{Identity, Question, Waiting};
use authorization::{Asking, Denials};
use clients::Clients;
pub use connect::{Placement, placement};
use connection::{Connection, Ended, Phase};
use durable::Acknowledgements;
use envelope::Mesh;
use output::Segment;
use policy::Policy;
use publish::Matched;
use publish_rate::PublishRate;
pub use receive::{Budget, Flow, Progress};
pub use restore::{Restored, RestoredSession};
use retained_delivery::RetainedDelivery;
use rewrite::Rewrite;
use system_topics::SystemTopics;
use timer_wheel::TimerWheel;
use timers::Timer;
use visibility::Visibility;

/// The time of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Monotonic milliseconds: for every deadline.
    pub mono_ms: u64,
    /// Seconds since 1970: for people.
    pub unix_s: u64,
}

type BySlot<T> = HashMap<u32, T, foldhash::fast::RandomState>;

/// The broker of one shard.
#[derive(Debug)]
pub struct Broker {
    id: ShardId,
    shard_count: u16,
    config: Arc<Config>,
    hasher: TopicHasher,
    clients: Clients,
    local: LocalIndex,
    interest: InterestIndex,
    group_members: GroupMembers,
    group_replica: GroupReplica,
    retained: RetainedStore,
    retained_deliveries: Slab<RetainedDelivery>,
    visibility: Visibility,
    acknowledgements: Acknowledgements,
    /// QoS 2 messages that are recorded here and not released by their publishers.
    origins: HashSet<Origin, foldhash::fast::RandomState>,
    /// What the strictest listener promises.
    durability_max: Durability,
    /// Counts the sessions that are recorded; with the shard's number below it names them.
    session_count: u64,
    rewrite: Rewrite,
    mesh: Mesh,
    /// Of those connections whose listener limits it: most have none.
    publish_rates: HashMap<u32, PublishRate, RandomState>,
    wheel: TimerWheel<Timer>,
    ended: Vec<Ended>,
    policy: Arc<Policy>,
    verified: VerifiedCredentials,
    /// By slot: what the transport knows of connections that are not connected yet.
    identities: BySlot<Identity>,
    /// By slot: connections whose client is not known yet, or is being asked again.
    waiting: BySlot<Box<Waiting>>,
    /// By slot: connections that wait to be told whether they may.
    asking: BySlot<Asking>,
    questions: Vec<Question>,
    denials: Denials,
    /// With the time, seconds since 1970; at most `ENDED_MAX`.
    latest_ends: VecDeque<(Ended, u64)>,
    bans: Arc<Bans>,
    system_topics: SystemTopics,
    /// [`Timer::Sweep`] is set.
    sweep_armed: bool,
    /// Counts assigned Client Identifiers and generations of sessions.
    serial: u32,
    /// Reused by every PUBLISH.
    found: Vec<FilterId>,
    matched: Vec<Matched>,
    properties: Vec<u8>,
    due: Vec<Timer>,
}

impl Broker {
    /// The broker of shard `id` of `shard_count`. All shards of a process get the same `hasher`.
    pub fn new(
        id: ShardId,
        shard_count: u16,
        config: Arc<Config>,
        hasher: TopicHasher,
        now: Now,
    ) -> Self {
        let mut broker = Self {
            id,
            shard_count,
            clients: Clients::new(Arc::clone(&config), hasher.clone()),
            local: LocalIndex::new(hasher.clone()),
            interest: InterestIndex::new(hasher.clone()),
            group_members: GroupMembers::default(),
            group_replica: GroupReplica::new(hasher.clone()),
            retained: RetainedStore::default(),
            retained_deliveries: Slab::new(),
            visibility: Visibility::new(id, shard_count),
            acknowledgements: Acknowledgements::new(shard_count),
            origins: HashSet::default(),
            durability_max: config.durability_max(),
            session_count: 0,
            rewrite: Rewrite::default(),
            mesh: Mesh::new(
                id,
                shard_count,
                config.network.mesh_staged_bytes_max as usize,
            ),
            publish_rates: HashMap::default(),
            wheel: TimerWheel::new(now.mono_ms),
            ended: Vec::new(),
            policy: Arc::new(Policy::of(&config)),
            verified: VerifiedCredentials::default(),
            identities: BySlot::default(),
            waiting: BySlot::default(),
            asking: BySlot::default(),
            questions: Vec::new(),
            denials: Denials::default(),
            latest_ends: VecDeque::new(),
            bans: Arc::default(),
            system_topics: SystemTopics::new(now),
            sweep_armed: false,
            serial: 0,
            found: Vec::new(),
            matched: Vec::new(),
            properties: Vec::new(),
            due: Vec::new(),
            config,
            hasher,
        };
        broker.start_timers(now);
        broker
    }

    /// The configuration is this from now on. What a client was told when it connected holds until it leaves:
    /// listeners keep their places and limits.
    pub fn reconfigure(&mut self, config: Arc<Config>, now: Now) {
        let interval_s = self.config.system_topics_interval_s;
        self.clients.config = Arc::clone(&config);
        self.durability_max = config.durability_max();
        self.config = config;
        if self.config.system_topics_interval_s != interval_s {
            self.restart_system_topics(now);
        }
    }

    /// This shard.
    pub fn id(&self) -> ShardId {
        self.id
    }

    /// The limits of a listener by its place in the configuration.
    fn listener(&self, listener: u16) -> &ListenerLimits {
        listener_limits(&self.config, listener)
    }

    /// A connection has come home to `slot`.
    pub fn open(&mut self, slot: u32, listener: u16, now: Now) {
        let connection = Connection::new(listener, self.next_serial(), now.mono_ms);
        if let Some(rate) = PublishRate::of(self.listener(listener), now.mono_ms) {
            self.publish_rates.insert(slot, rate);
        }
        self.clients.open(slot, connection);
    }

    /// Counts a TLS handshake of a connection that is coming in.
    pub fn count_handshake(&mut self, resumed: bool) {
        match resumed {
            true => self.clients.counters.tls_handshakes_resumed += 1,
            false => self.clients.counters.tls_handshakes_full += 1,
        }
    }

    /// When the first of the server's certificates ends, seconds since 1970.
    pub fn note_certificate_end(&mut self, unix_s: u64) {
        self.clients.counters.tls_certificate_ends_unix_s = unix_s;
    }

    /// Whether nothing more is to be read from the connection: it is closed when its output is sent.
    pub fn is_closing(&self, slot: u32) -> bool {
        self.clients
            .connection(slot)
            .is_none_or(|connection| connection.phase == Phase::Closing)
    }

    /// Whether the connection has not sent a CONNECT that was handled.
    pub fn awaits_connect(&self, slot: u32) -> bool {
        self.clients.connection(slot).is_some_and(|connection| {
            matches!(connection.phase, Phase::Fresh | Phase::Authenticating)
        })
    }

    /// The next connection that has output to send or is to be closed.
    pub fn next_dirty(&mut self) -> Option<u32> {
        let slot = self.clients.dirty.pop()?;
        if let Some(connection) = self.clients.connection_mut(slot) {
            connection.dirty = false;
        }
        Some(slot)
    }

    /// Hands the output of a connection to the network; false if there is none.
    pub fn take_output(&mut self, slot: u32, push: impl FnMut(Segment)) -> bool {
        match self.clients.connection_mut(slot) {
            Some(connection) if !connection.output.is_empty() => {
                connection.output.take(push);
                true
            }
            _ => false,
        }
    }

    /// The network has written what it was given; `buffer`s come back by [`Self::recycle`]. Tells whether
    /// more output waits.
    pub fn output_sent(&mut self, slot: u32, now: Now) -> bool {
        let Some(connection) = self.clients.connection_mut(slot) else {
            return false;
        };
        connection.output.sent();
        if let Phase::Connected(session) = connection.phase {
            self.pump(session, now);
        }
        self.clients
            .connection(slot)
            .is_some_and(|connection| !connection.output.is_empty())
    }

    /// Takes a buffer back that [`Self::take_output`] gave.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.clients.buffers.take_back(buffer);
    }

    /// The slot is free: its connection is gone.
    pub fn release(&mut self, slot: u32) {
        self.publish_rates.remove(&slot);
        self.forget_questions(slot);
        self.clients.release(slot);
    }

    /// The connections that ended since the last call.
    pub fn take_ended(&mut self) -> impl Iterator<Item = Ended> + '_ {
        self.ended.drain(..)
    }

    /// Whether a connection has ended since.
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// PUBLISH packets received and sent so far.
    pub fn traffic(&self) -> (u64, u64) {
        let counters = &self.clients.counters;
        (
            counters.publish_received_total(),
            counters.publish_sent_total(),
        )
    }

    /// The envelopes for the other shards.
    pub fn mesh(&mut self) -> &mut Mesh {
        &mut self.mesh
    }

    /// What routing has cost so far, in the unit of [`Budget`].
    pub fn routing_cost(&self) -> u64 {
        self.clients.routing_cost
    }

    /// What this shard has counted.
    pub fn counters(&self) -> Counters {
        Counters {
            sessions: self.clients.sessions.len() as u64,
            retained_messages: self.retained.len() as u64,
            retained_bytes: self.retained.bytes(),
            ..self.clients.counters
        }
    }

    /// The time of the turn that begins, microseconds: for how long acknowledgements take.
    pub fn begin_turn(&mut self, now_us: u64) {
        // Differences of the low bits are enough.
        self.clients.sight.now_us = now_us as u32;
    }

    /// Whether nothing is held but configuration: no session, connection, subscription, interest, timer of a
    /// client or delivery.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
            && self.local.filter_count() == 0
            && self.interest.is_empty()
            && self.group_members.is_empty()
            && self.group_replica.is_empty()
            && self.retained_deliveries.is_empty()
            && self.publish_rates.is_empty()
            && self.visibility.is_settled()
            && self.identities.is_empty()
            && self.waiting.is_empty()
            && self.asking.is_empty()
    }

    fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }
}

fn listener_limits(config: &Config, listener: u16) -> &ListenerLimits {
    let listeners = &config.listeners;
    // There is at least one, and `listener` comes from the same list.
    &listeners[usize::from(listener).min(listeners.len() - 1)].limits
}
