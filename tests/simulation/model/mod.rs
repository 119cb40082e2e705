//! An independent model of the broker: what every session must get, may get and must not get.
//!
//! It is told which packets a shard has handled, when a batch reaches another shard, and all that is sent to
//! clients; it shares no code with the broker. It panics at the first promise that does not hold:
//!
//! 1. QoS 1 reaches every matching session at least once, QoS 2 exactly once, through reconnects and takeovers;
//! 2. in order by publisher, Topic Name and QoS;
//! 3. all of it after SUBACK, and nothing new after UNSUBACK;
//! 4. never more in flight than Receive Maximum, and never a stall while the window is open;
//! 5. what is dropped is counted with its cause;
//! 6. one client never stops another;
//! 7. nothing is left in the end.
//!
//! And: a retained message never comes after a newer one; a Will comes exactly when it is due, once.

mod output;
mod session;
mod settled;
mod shared;
mod subscriptions;
pub mod topics;

use std::collections::BTreeMap;
use std::sync::Arc;

use ringmq::broker::Now;
use ringmq::broker::connection::Ended;
use ringmq::config::Config;
use ringmq::config::limits::{Overlapping, TIMER_TICK_MS};
use ringmq::mqtt::reason_code::ReasonCode;
use ringmq::observability::counters::DropCause;

use crate::packet::Version;
use crate::property::{self, Property, Value};
use crate::trace;
use crate::wire::{Asked, Said};

use session::{Conn, Expected, Phase, Session};
use shared::Group;

/// How many causes of a loss there are.
const CAUSES: usize = DropCause::NAMES.len();

/// An Application Message of a client.
#[derive(Clone, Debug)]
pub struct Message {
    pub number: u64,
    pub topic: &'static str,
    pub publisher: usize,
    pub qos: u8,
    pub retain: bool,
    pub payload_bytes: usize,
    pub expiry_s: Option<u32>,
    /// That are forwarded unchanged.
    pub properties: Vec<Property>,
    pub is_will: bool,
}

impl Message {
    /// Its payload begins with its number, unless it is empty.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = self.number.to_be_bytes().to_vec();
        payload.resize(self.payload_bytes, self.number as u8);
        payload
    }

    pub fn all_properties(&self) -> Vec<Property> {
        let expiry = self.expiry_s.map(|seconds| {
            let identifier = property::MESSAGE_EXPIRY_INTERVAL;
            (identifier, Value::Four(seconds))
        });
        expiry.into_iter().chain(self.properties.clone()).collect()
    }
}

/// A message that a shard has accepted: one that is sent again with QoS 1 is another publication.
#[derive(Clone, Debug)]
struct Publication {
    message: u64,
    shard: usize,
    at: u64,
    /// The tick of its shard, if it is a Will that was due in one: which of several came first is not known.
    tick: Option<u64>,
    expires_at_ms: Option<u64>,
    /// Shards that it may still be on its way to.
    waiting: usize,
    /// When it had reached all.
    settled: Option<u64>,
    /// Somebody must get it.
    wanted: bool,
    /// The publisher was told that nobody does.
    nobody: bool,
}

/// The model.
#[derive(Debug)]
pub struct Model {
    pub now: Now,
    /// Counts what happens.
    event: u64,
    /// While a shard looks at its timers.
    tick: Option<u64>,
    config: Arc<Config>,
    shards: usize,
    messages: Vec<Message>,
    publications: Vec<Publication>,
    /// Publications with RETAIN, by Topic Name.
    retained: BTreeMap<&'static str, Vec<usize>>,
    sessions: BTreeMap<usize, Session>,
    homes: BTreeMap<usize, usize>,
    conns: BTreeMap<usize, Conn>,
    /// From shard to shard: publications since the last batch.
    lanes: Vec<Vec<Vec<usize>>>,
    groups: BTreeMap<&'static str, Group>,
    /// For each message that did not come: what may have been its cause.
    missing: Vec<[bool; CAUSES]>,
    dropped: [u64; CAUSES],
}

impl Model {
    pub fn new(config: Arc<Config>, shards: usize, now: Now) -> Self {
        Self {
            now,
            event: 0,
            tick: None,
            config,
            shards,
            messages: Vec::new(),
            publications: Vec::new(),
            retained: BTreeMap::new(),
            sessions: BTreeMap::new(),
            homes: BTreeMap::new(),
            conns: BTreeMap::new(),
            lanes: vec![vec![Vec::new(); shards]; shards],
            groups: BTreeMap::new(),
            missing: Vec::new(),
            dropped: [0; CAUSES],
        }
    }

    /// A message that is going to be published. Gives its number.
    pub fn add_message(&mut self, mut message: Message) -> u64 {
        message.number = self.messages.len() as u64;
        self.messages.push(message);
        self.messages.len() as u64 - 1
    }

    pub fn message(&self, number: u64) -> &Message {
        &self.messages[number as usize]
    }

    fn message_of(&self, publication: usize) -> &Message {
        self.message(self.publications[publication].message)
    }

    pub fn has_session(&self, client: usize) -> bool {
        self.sessions.contains_key(&client)
    }

    /// A connection has come home.
    pub fn opened(&mut self, conn: usize, client: usize, version: Version, home: usize) {
        let before = self.homes.insert(client, home);
        assert!(
            before.is_none_or(|before| before == home),
            "client {client} has two home shards"
        );
        let state = Conn::new(client, home, version, self.now.mono_ms);
        self.conns.insert(conn, state);
    }

    fn conn(&mut self, conn: usize) -> &mut Conn {
        self.conns
            .get_mut(&conn)
            .expect("a connection that was opened")
    }

    /// Bytes have come.
    pub fn received(&mut self, conn: usize) {
        let now_ms = self.now.mono_ms;
        let conn = self.conn(conn);
        if conn.phase != Phase::Ended {
            conn.last_bytes_ms = now_ms;
        }
    }

    /// A shard has handled a packet.
    pub fn handled(&mut self, conn: usize, said: Said) {
        self.event += 1;
        let state = self.conn(conn);
        if state.phase == Phase::Ended {
            return;
        }
        let client = state.client;
        trace::say(|| format!("  handled from client {client} on {conn}: {said:?}"));
        if let Said::Connect(asked) = said {
            assert_eq!(state.phase, Phase::Fresh);
            self.connect(conn, asked);
            return;
        }
        match said {
            Said::Connect(_) => {}
            Said::Publish {
                message,
                qos,
                identifier,
            } => self.publish_packet(conn, message, qos, identifier),
            Said::PubAck(identifier) => self.puback(client, identifier),
            Said::PubRec(identifier) => {
                self.conn(conn).due.pubrels.push_back(identifier);
                let session = self.sessions.get_mut(&client).expect("a session");
                if let Some(sent) = session.in_flight.get_mut(&identifier) {
                    sent.received = true;
                }
            }
            Said::PubRel(identifier) => {
                let session = self.sessions.get_mut(&client).expect("a session");
                let known = session.inbound.remove(&identifier);
                self.conn(conn).due.pubcomps.push_back((identifier, known));
            }
            Said::PubComp(identifier) => self.puback(client, identifier),
            Said::Subscribe {
                identifier,
                subscription_identifier,
                filters,
            } => self.subscribe(conn, identifier, subscription_identifier, &filters),
            Said::Unsubscribe {
                identifier,
                filters,
            } => self.unsubscribe(conn, identifier, filters),
            Said::Ping => self.conn(conn).due.pings += 1,
            Said::Disconnect {
                keep_will,
                expiry_s,
            } => {
                let longest = self.config.session.session_expiry_interval_s_max;
                let session = self.sessions.get_mut(&client).expect("a session");
                if let Some(expiry_s) = expiry_s {
                    session.expiry_s = expiry_s.min(longest);
                }
                if !keep_will {
                    session.will = None;
                }
                self.end_connection(conn);
            }
            Said::Fault => self.end_connection(conn),
        }
    }

    fn connect(&mut self, conn: usize, asked: Box<Asked>) {
        let client = asked.client;
        if let Some(old) = self.sessions.get(&client).and_then(|session| session.conn) {
            if asked.clean_start {
                self.sessions.get_mut(&client).expect("a session").expiry_s = 0;
            }
            self.end_connection(old);
        }
        if asked.clean_start {
            self.end_session(client);
        }
        let present = self.sessions.contains_key(&client);
        let expiry_s = self.agreed_expiry(conn, &asked);
        let keep_alive_s = self.agreed_keep_alive(conn, &asked);
        let session = self.sessions.entry(client).or_insert_with(Session::new);
        session.conn = Some(conn);
        session.connections += 1;
        session.expiry_s = expiry_s;
        session.ends_at_ms = None;
        session.will = asked.will;
        session.will_at_ms = None;
        session.packet_bytes_max = asked.packet_bytes_max;
        let state = self.conn(conn);
        state.phase = Phase::Connected;
        state.due.connack = Some(present);
        state.keep_alive_ms = u64::from(keep_alive_s) * 1500;
        state.asked = Some(asked);
    }

    fn agreed_expiry(&self, conn: usize, asked: &Asked) -> u32 {
        let limits = &self.config.session;
        let expiry_s = match (self.conns[&conn].version, asked.clean_start) {
            (Version::V5, _) => asked.expiry_s,
            (_, true) => 0,
            (_, false) => limits.persistent_v3_expiry_interval_s,
        };
        expiry_s.min(limits.session_expiry_interval_s_max)
    }

    fn agreed_keep_alive(&self, conn: usize, asked: &Asked) -> u16 {
        let longest = self.config.listeners[0].limits.keep_alive_s_max;
        match (self.conns[&conn].version, longest, asked.keep_alive_s) {
            (Version::V5, 1.., 0) => longest,
            (Version::V5, 1.., asked_s) => asked_s.min(longest),
            (_, _, asked_s) => asked_s,
        }
    }

    fn publish_packet(&mut self, conn: usize, message: u64, qos: u8, identifier: u16) {
        let client = self.conns[&conn].client;
        let home = self.conns[&conn].home;
        if qos == 2 {
            let session = self.sessions.get_mut(&client).expect("a session");
            let is_new = session.inbound.insert(identifier);
            let publication = is_new.then(|| self.publish(home, message));
            let due = &mut self.conn(conn).due;
            due.pubrecs.push_back((identifier, publication));
            return;
        }
        let publication = self.publish(home, message);
        if qos == 1 {
            let due = &mut self.conn(conn).due;
            due.pubacks.push_back((identifier, Some(publication)));
        }
    }

    /// A shard accepts a message: it is with its own clients at once, and on its way to the others.
    fn publish(&mut self, shard: usize, number: u64) -> usize {
        self.event += 1;
        let message = self.message(number).clone();
        let expiry_ms = message.expiry_s.map(|seconds| u64::from(seconds) * 1000);
        let publication = self.publications.len();
        trace::say(|| {
            format!(
                "  publication {publication} of message {number} to {}",
                message.topic
            )
        });
        self.publications.push(Publication {
            message: number,
            shard,
            at: self.event,
            tick: self.tick,
            expires_at_ms: expiry_ms.map(|ms| self.now.mono_ms + ms),
            waiting: self.shards - 1,
            settled: (self.shards == 1).then_some(self.event),
            wanted: false,
            nobody: false,
        });
        if message.retain {
            self.retained
                .entry(message.topic)
                .or_default()
                .push(publication);
        }
        self.reach(shard, publication);
        self.publish_shared(publication);
        for other in (0..self.shards).filter(|other| *other != shard) {
            self.lanes[shard][other].push(publication);
        }
        publication
    }

    /// A shard has put a batch into another's inbox: gives what may be in it.
    pub fn pushed(&mut self, from: usize, to: usize) -> Vec<usize> {
        std::mem::take(&mut self.lanes[from][to])
    }

    /// A batch is taken.
    pub fn arrived(&mut self, shard: usize, publications: &[usize]) {
        for publication in publications {
            self.event += 1;
            self.reach(shard, *publication);
            self.settle_one(*publication);
        }
    }

    /// A shard has nothing more to send: what is in no batch by now was not meant for its target.
    pub fn sent_all(&mut self, from: usize) {
        for to in 0..self.shards {
            for publication in std::mem::take(&mut self.lanes[from][to]) {
                for client in self.at_home(to) {
                    let missed = self.matching(client, publication, true);
                    assert!(
                        missed.is_empty(),
                        "message {} was not sent to shard {to}, though client {client} had SUBACK for \
                         {missed:?} before",
                        self.publications[publication].message
                    );
                }
                self.settle_one(publication);
            }
        }
    }

    fn settle_one(&mut self, publication: usize) {
        let entry = &mut self.publications[publication];
        entry.waiting -= 1;
        if entry.waiting == 0 {
            entry.settled = Some(self.event);
        }
    }

    fn at_home(&self, shard: usize) -> Vec<usize> {
        let at_home = |client: &&usize| self.homes.get(client) == Some(&shard);
        self.sessions.keys().filter(at_home).copied().collect()
    }

    /// The subscriptions of a client that match a publication; `before`: whose SUBACK was sent before it.
    fn matching(&self, client: usize, publication: usize, before: bool) -> Vec<&'static str> {
        let entry = &self.publications[publication];
        let message = self.message(entry.message);
        let subscriptions = &self.sessions[&client].subscriptions;
        let matching = subscriptions.iter().filter(|(filter, subscription)| {
            topics::matches(filter, message.topic)
                && !(subscription.no_local() && message.publisher == client)
                && (!before || subscription.acknowledged.is_some_and(|at| at < entry.at))
        });
        matching.map(|(filter, _)| *filter).collect()
    }

    /// A publication is with the clients of a shard.
    fn reach(&mut self, shard: usize, publication: usize) {
        let message = self.message_of(publication).clone();
        for client in self.at_home(shard) {
            let filters = self.matching(client, publication, false);
            let must = !self.matching(client, publication, true).is_empty();
            let session = self.sessions.get_mut(&client).expect("a session");
            let subscriptions: Vec<_> = filters
                .iter()
                .map(|filter| session.subscriptions[filter].clone())
                .collect();
            let copies: Vec<&[_]> = match self.config.message.overlapping {
                _ if subscriptions.is_empty() => Vec::new(),
                Overlapping::Merge => vec![&subscriptions],
                Overlapping::Separate => subscriptions.chunks(1).collect(),
            };
            if message.retain && !copies.is_empty() {
                session.live.insert(message.topic, self.event);
            }
            for copy in copies {
                let highest = copy.iter().map(|one| one.qos()).max().unwrap_or(0);
                let qos = highest.min(message.qos);
                if qos == 0 && session.conn.is_none() && !self.config.session.queue_qos0_offline {
                    continue;
                }
                let mut identifiers: Vec<u32> = copy.iter().map(|one| one.identifier).collect();
                identifiers.retain(|identifier| *identifier != 0);
                identifiers.sort_unstable();
                let as_published = copy.iter().any(|one| one.retain_as_published());
                session.expected.push(Expected {
                    publication,
                    qos,
                    retain: message.retain && as_published,
                    identifiers,
                    must,
                    connection: session.connections,
                });
                let entry = &mut self.publications[publication];
                entry.wanted |= must;
                assert!(
                    !(must && entry.nobody),
                    "the publisher of message {} was told that nobody gets it",
                    message.number
                );
            }
        }
    }

    fn puback(&mut self, client: usize, identifier: u16) {
        let session = self.sessions.get_mut(&client).expect("a session");
        if let Some(sent) = session.in_flight.remove(&identifier)
            && let Some((group, place)) = sent.group
        {
            self.group_acknowledged(group, place);
        }
    }

    /// The network has ended a connection.
    pub fn network_closed(&mut self, conn: usize) {
        self.conn(conn).lost = true;
        if self.conns[&conn].phase != Phase::Ended {
            self.end_connection(conn);
        }
    }

    /// The broker says that a connection has ended, and why.
    pub fn ended(&mut self, conn: usize, ended: &Ended, in_tick: bool) {
        trace::say(|| format!("  connection {conn} has ended: {}", ended.cause));
        let state = &self.conns[&conn];
        if state.phase == Phase::Ended {
            return;
        }
        let overdue = state.keep_alive_ms > 0
            && self.now.mono_ms >= state.last_bytes_ms + state.keep_alive_ms;
        assert!(
            in_tick && overdue && ended.reason_code == ReasonCode::KeepAliveTimeout,
            "the broker ended connection {conn} of client {}: {}",
            state.client,
            ended.cause
        );
        self.end_connection(conn);
    }

    /// No connection may be there longer than its Keep Alive allows.
    pub fn check_keep_alive(&self, shard: usize) {
        let at_home = |conn: &&Conn| conn.home == shard && conn.phase == Phase::Connected;
        for conn in self.conns.values().filter(at_home) {
            assert!(
                conn.keep_alive_ms == 0
                    || !due(conn.last_bytes_ms + conn.keep_alive_ms, self.now.mono_ms),
                "client {} is still connected after one and a half Keep Alive",
                conn.client
            );
        }
    }

    fn end_connection(&mut self, conn: usize) {
        self.event += 1;
        let state = self.conn(conn);
        let was = std::mem::replace(&mut state.phase, Phase::Ended);
        let (client, home) = (state.client, state.home);
        let Some(session) = self.sessions.get_mut(&client) else {
            return;
        };
        if was != Phase::Connected || session.conn != Some(conn) {
            return;
        }
        session.conn = None;
        // QoS 0 in the output is lost.
        for expected in session
            .expected
            .iter_mut()
            .filter(|expected| expected.qos == 0)
        {
            expected.must = false;
        }
        let expiry_s = session.expiry_s;
        let now_ms = self.now.mono_ms;
        session.ends_at_ms = (expiry_s != u32::MAX).then(|| now_ms + u64::from(expiry_s) * 1000);
        if let Some(will) = session.will {
            match will.delay_s.min(expiry_s) {
                0 => self.publish_will(client, home),
                delay_s => session.will_at_ms = Some(now_ms + u64::from(delay_s) * 1000),
            }
        }
        if expiry_s == 0 {
            self.end_session(client);
        }
    }

    fn publish_will(&mut self, client: usize, home: usize) {
        let session = self.sessions.get_mut(&client).expect("a session");
        session.will_at_ms = None;
        if let Some(will) = session.will.take() {
            trace::say(|| format!("  the Will of client {client} is due"));
            self.publish(home, will.message);
        }
    }

    fn end_session(&mut self, client: usize) {
        if !self.sessions.contains_key(&client) {
            return;
        }
        trace::say(|| format!("  the session of client {client} ends"));
        let home = self.homes[&client];
        self.publish_will(client, home);
        if let Some(session) = self.sessions.remove(&client) {
            self.leave_groups(client, &session.groups);
        }
    }

    /// It has done so.
    pub fn tick_is_over(&mut self) {
        self.tick = None;
    }

    /// A shard looks at its timers.
    pub fn tick(&mut self, shard: usize) {
        self.tick = Some(self.event);
        for client in self.at_home(shard) {
            let now_ms = self.now.mono_ms;
            let is_due = |at: Option<u64>| at.is_some_and(|at| due(at, now_ms));
            let session = &self.sessions[&client];
            if session.conn.is_some() {
                continue;
            }
            let (will_at, ends_at) = (session.will_at_ms, session.ends_at_ms);
            if is_due(will_at) {
                self.publish_will(client, shard);
            }
            if is_due(ends_at) {
                self.end_session(client);
            }
        }
    }
}

/// Whether a deadline is over, in the ticks of the broker's timers.
fn due(deadline_ms: u64, now_ms: u64) -> bool {
    now_ms / TIMER_TICK_MS >= deadline_ms.div_ceil(TIMER_TICK_MS)
}
