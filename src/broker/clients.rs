//! The sessions of a shard and their connections.
//!
//! Apart from [`super::Broker`], so that messages can be delivered while an index is read.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use crate::config::Config;
use crate::journal::Journal;
use crate::mqtt::data_types::ProtocolVersion;
use crate::mqtt::properties::Properties;
use crate::observability::counters::Counters;
use crate::observability::sight::Sight;
use crate::routing::ids::SessionIndex;
use crate::routing::shared_subscription::Readiness;
use crate::routing::topic_hash::TopicHasher;
use crate::session::Session;
use crate::session::outbox::Queued;

use super::authorization::permit::Permits;
use super::connection::{Connection, Phase, Traffic};
use super::delivery::Prefab;
use super::durable::Due;
use super::output::Buffers;
use super::record::record_done;

/// Sessions and connections.
#[derive(Debug)]
pub(super) struct Clients {
    pub(super) config: Arc<Config>,
    hasher: TopicHasher,
    pub(super) connections: Vec<Option<Box<Connection>>>,
    /// By slot.
    traffic: Vec<Traffic>,
    pub(super) sessions: Slab<Session>,
    by_client: HashTable<SessionIndex>,
    /// Slots with new output or to be closed.
    pub(super) dirty: Vec<u32>,
    pub(super) buffers: Buffers,
    pub(super) prefab: Prefab,
    pub(super) counters: Counters,
    /// What each session may do.
    pub(super) permits: Permits,
    pub(super) sight: Sight,
    /// What routing has cost so far, in bytes of a connection's share of a turn.
    pub(super) routing_cost: u64,
    /// What is recorded and not yet handed to the log.
    pub(super) journal: Journal,
    /// What is done when the log is safe up to a position, in order: at most one or two for each record that
    /// is not safe yet, which `unwritten_bytes_max` bounds.
    pub(super) due: VecDeque<(u64, Due)>,
}

impl Clients {
    pub(super) fn new(config: Arc<Config>, hasher: TopicHasher) -> Self {
        let sight = Sight::new(config.observability.recorder_entries);
        Self {
            config,
            hasher,
            connections: Vec::new(),
            traffic: Vec::new(),
            sessions: Slab::new(),
            by_client: HashTable::new(),
            dirty: Vec::new(),
            buffers: Buffers::default(),
            prefab: Prefab::default(),
            counters: Counters::default(),
            permits: Permits::default(),
            sight,
            routing_cost: 0,
            journal: Journal::off(),
            due: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty() && self.connections.iter().all(Option::is_none)
    }

    pub(super) fn open(&mut self, slot: u32, connection: Connection) {
        let index = slot as usize;
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, || None);
            self.traffic.resize_with(index + 1, Traffic::default);
        }
        self.traffic[index] = Traffic {
            // Fits for longer than any machine runs.
            opened_s: (connection.last_packet_ms / 1000) as u32,
            messages: 0,
        };
        self.connections[index] = Some(Box::new(connection));
    }

    /// What passed through the connection in a slot.
    pub(super) fn traffic(&self, slot: u32) -> Traffic {
        self.traffic.get(slot as usize).copied().unwrap_or_default()
    }

    /// Counts a PUBLISH of the connection in a slot.
    #[inline]
    pub(super) fn count_message(&mut self, slot: u32) {
        if let Some(traffic) = self.traffic.get_mut(slot as usize) {
            traffic.messages = traffic.messages.wrapping_add(1);
        }
    }

    pub(super) fn release(&mut self, slot: u32) {
        if let Some(entry) = self.connections.get_mut(slot as usize) {
            *entry = None;
        }
    }

    #[inline]
    pub(super) fn connection(&self, slot: u32) -> Option<&Connection> {
        self.connections.get(slot as usize)?.as_deref()
    }

    #[inline]
    pub(super) fn connection_mut(&mut self, slot: u32) -> Option<&mut Connection> {
        self.connections.get_mut(slot as usize)?.as_deref_mut()
    }

    /// All slots with a connection.
    pub(super) fn slots(&self) -> Vec<u32> {
        let slots = (0u32..).zip(&self.connections);
        slots
            .filter_map(|(slot, connection)| connection.as_ref().map(|_| slot))
            .collect()
    }

    #[inline]
    pub(super) fn session(&self, session: SessionIndex) -> Option<&Session> {
        self.sessions.get(session as usize)
    }

    #[inline]
    pub(super) fn session_mut(&mut self, session: SessionIndex) -> Option<&mut Session> {
        self.sessions.get_mut(session as usize)
    }

    /// The session and its connection, if it has one.
    #[inline]
    pub(super) fn connected(
        &mut self,
        session: SessionIndex,
    ) -> Option<(u32, &mut Session, &mut Connection)> {
        let session = self.sessions.get_mut(session as usize)?;
        let slot = session.connection()?;
        let connection = self.connections.get_mut(slot as usize)?.as_deref_mut()?;
        Some((slot, session, connection))
    }

    /// The session of a connection that is at work.
    #[inline]
    pub(super) fn session_of(&self, slot: u32) -> Option<SessionIndex> {
        match self.connection(slot)?.phase {
            Phase::Connected(session) => Some(session),
            _ => None,
        }
    }

    /// All sessions.
    pub(super) fn session_indexes(&self) -> impl Iterator<Item = SessionIndex> {
        // `sessions_max` is far below.
        let index = |(key, _)| u32::try_from(key).unwrap_or(u32::MAX);
        self.sessions.iter().map(index)
    }

    /// Drops what waits for a session and may not be delivered any more; gives how many.
    pub(super) fn drop_not_granted(&mut self, index: SessionIndex) -> usize {
        let Some(permit) = self.permits.of(index) else {
            return 0;
        };
        let Some(session) = self.sessions.get_mut(index as usize) else {
            return 0;
        };
        let (number, durability) = session.log_key();
        let Some(delivery) = session.delivery.as_mut() else {
            return 0;
        };
        let not_granted = |queued: &Queued| !permit.may_receive(queued.message.topic());
        let dropped = delivery.outbox.take_where(not_granted);
        for queued in &dropped {
            record_done(&mut self.journal, number, durability, queued);
        }
        dropped.len()
    }

    pub(super) fn find(&self, client_identifier: &str) -> Option<SessionIndex> {
        let hash = self.hasher.hash(client_identifier);
        let same = |index: &SessionIndex| {
            self.session(*index)
                .is_some_and(|session| *session.client_identifier == *client_identifier)
        };
        self.by_client.find(hash.0, same).copied()
    }

    pub(super) fn add_session(&mut self, session: Session) -> SessionIndex {
        let hash = self.hasher.hash(&session.client_identifier);
        let key = self.sessions.insert(session);
        // `sessions_max` is far below.
        let index = u32::try_from(key).unwrap_or(u32::MAX);
        let (sessions, hasher) = (&self.sessions, &self.hasher);
        let rehash = |index: &SessionIndex| {
            sessions
                .get(*index as usize)
                .map_or(0, |session| hasher.hash(&session.client_identifier).0)
        };
        self.by_client.insert_unique(hash.0, index, rehash);
        index
    }

    /// One more than the highest index of a session.
    pub(super) fn session_places(&self) -> SessionIndex {
        // As in `add_session`.
        u32::try_from(self.sessions.capacity()).unwrap_or(u32::MAX)
    }

    pub(super) fn remove_session(&mut self, index: SessionIndex) -> Option<Session> {
        let session = self.sessions.try_remove(index as usize)?;
        self.permits.set(index, None);
        let hash = self.hasher.hash(&session.client_identifier);
        if let Ok(entry) = self.by_client.find_entry(hash.0, |other| *other == index) {
            entry.remove();
        }
        Some(session)
    }

    /// Puts a connection into the list of those with something to do.
    #[inline]
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        if let Some(connection) = self
            .connections
            .get_mut(slot as usize)
            .and_then(Option::as_deref_mut)
            && !connection.dirty
        {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Appends a packet to a connection's output.
    #[inline]
    pub(super) fn send(&mut self, slot: u32, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some(connection) = self
            .connections
            .get_mut(slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        let before = connection.output.bytes();
        connection.output.append(&mut self.buffers, encode);
        self.counters.packets_sent += 1;
        self.counters.bytes_sent += (connection.output.bytes() - before) as u64;
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Appends a packet if it is within `packet_bytes_max`; tells whether it was [MQTT-3.1.2-24].
    pub(super) fn send_within(
        &mut self,
        slot: u32,
        packet_bytes_max: u32,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if packet_bytes_max == u32::MAX {
            self.send(slot, encode);
            return true;
        }
        let mut packet = Vec::new();
        encode(&mut packet);
        let fits = packet.len() <= packet_bytes_max as usize;
        if fits {
            self.send(slot, |out| out.extend_from_slice(&packet));
        }
        fits
    }

    /// Appends an answer that fits without properties; `cause` is its Reason String if the client wants Reason
    /// Strings and the packet is within its Maximum Packet Size (3.4.2.2.2).
    pub(super) fn send_explained(
        &mut self,
        slot: u32,
        cause: Option<&'static str>,
        mut encode: impl FnMut(ProtocolVersion, Properties<'static>, &mut Vec<u8>),
    ) {
        let Some(connection) = self.connection(slot) else {
            return;
        };
        let terms = connection.terms;
        if cause.is_some() && terms.version.is_v5() && terms.problem_information {
            let explained = Properties {
                reason_string: cause,
                ..Properties::default()
            };
            if self.send_within(slot, terms.packet_bytes_max, |out| {
                encode(terms.version, explained, out);
            }) {
                return;
            }
        }
        self.send(slot, |out| {
            encode(terms.version, Properties::default(), out);
        });
    }

    /// Whether a member of a shared group can take a message now.
    pub(super) fn readiness(&self, session: SessionIndex) -> Option<Readiness> {
        let session = self.session(session)?;
        let Some(connection) = session.connection().and_then(|slot| self.connection(slot)) else {
            return session.is_persistent().then_some(Readiness::Offline);
        };
        let (in_flight, open, waiting) =
            session.delivery.as_ref().map_or((0, true, 0), |delivery| {
                let open = delivery.in_flight.is_open(
                    connection.terms.in_flight_max,
                    self.config.session.in_flight_bytes_max,
                );
                (delivery.in_flight.len(), open, delivery.outbox.len())
            });
        let full = !open
            || waiting > 0
            || connection.output.bytes() > self.config.network.output_bytes_max as usize;
        match full {
            true => Some(Readiness::Full),
            // There are at most 65,535 in flight.
            false => Some(Readiness::Ready(
                u32::try_from(in_flight).unwrap_or(u32::MAX),
            )),
        }
    }
}
