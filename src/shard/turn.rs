//! The shard and its turn.

use std::borrow::Cow;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::broker::output::Buffers;
use crate::broker::policy::Policy;
use crate::broker::timer_wheel::TimerWheel;
use crate::broker::{Broker, Now};
use crate::config::Config;
use crate::config::limits::{
    ASKS_PER_TURN_MAX, INBOX_BATCHES_PER_TURN_MAX, INBOX_COST_PER_TURN_MAX, LOGGED_TEXT_BYTES_MAX,
};
use crate::net::peer::PeerAddress;
use crate::net::ring::{Completion, Ring, RingConfig, Token, Wait};
use crate::net::tls::settings::TlsTable;
use crate::net::transport::Scratch;
use crate::observability::counters::EndCause;
use crate::observability::latency::Work;
use crate::routing::ids::ShardId;
use crate::routing::topic_hash::TopicHasher;
use crate::storage::{Log, ShardStart};

use super::ShardError;
use super::connection::{Handover, ListenerGate, NetConnection, State, Transports};
use super::door::DoorQueue;
use super::durable::restored;
use super::mesh::{Inbox, Message, Peer};
use super::questions::Asked;
use super::spin::Spin;
use super::watch::Watch;

/// How long a shard waits before it offers a batch again to one whose inbox was full.
const MESH_RETRY: Duration = Duration::from_millis(1);

/// A listener's socket for one shard.
#[derive(Debug)]
pub struct ListenerSocket {
    /// Its place in the configuration.
    pub place: u16,
    /// Listens.
    pub socket: OwnedFd,
    /// Counts over all shards.
    pub gate: Arc<ListenerGate>,
}

/// What a shard is made of.
#[derive(Debug)]
pub struct Setup {
    /// Which shard.
    pub id: ShardId,
    /// Of the whole process.
    pub config: Arc<Config>,
    /// The same for all.
    pub hasher: TopicHasher,
    /// All that are open.
    pub listeners: Vec<ListenerSocket>,
    /// What TLS handshakes use.
    pub tls: Arc<TlsTable>,
    /// Its own end of the mesh.
    pub inbox: Inbox,
    /// All shards, itself included.
    pub peers: Vec<Peer>,
    /// Who decides about clients, and what they may do.
    pub policy: Arc<Policy>,
    /// Where questions about clients are answered; without it clients that must be asked about are refused.
    pub questions: Option<Sender<Asked>>,
    /// When the process started, and what time it was.
    pub started: (Instant, u64),
}

#[derive(Debug)]
pub(super) struct Listener {
    /// In the configuration.
    pub(super) place: u16,
    pub(super) socket: OwnedFd,
    pub(super) gate: Arc<ListenerGate>,
    pub(super) token: Token,
    pub(super) armed: bool,
    /// Nobody is accepted any more; it goes when accept has ended.
    pub(super) closing: bool,
    /// Connections that were refused since the last line about them.
    pub(super) refused: u64,
    /// When the next such line may be logged.
    pub(super) refused_line_ms: u64,
}

/// What a deadline of the shard is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// CONNECT must be complete.
    Connect(Token),
    /// A connection that was to be closed is closed now.
    Linger(Token),
    /// A client that has ended its stream may not read what it waits for.
    Unread(Token),
    /// Descriptors may be there again.
    Accept(Token),
    /// The grace time of a shutdown is over.
    Grace,
}

/// One core.
pub struct Shard {
    pub(super) id: ShardId,
    pub(super) config: Arc<Config>,
    pub(super) hasher: TopicHasher,
    pub(super) broker: Broker,
    pub(super) ring: Ring,
    pub(super) log: Option<Log>,
    pub(super) listeners: Vec<Listener>,
    /// By slot.
    pub(super) connections: Vec<Option<Box<NetConnection>>>,
    /// Slots whose carry waits for a later turn.
    pub(super) paused: Vec<u32>,
    /// Connections for other shards whose inbox was full; no more than there are connections.
    handovers: Vec<(ShardId, Box<Handover>)>,
    /// What lies below the MQTT of connections that have such.
    pub(super) transports: Transports,
    /// What TLS handshakes use.
    pub(super) tls: Arc<TlsTable>,
    /// Connections on their way in.
    pub(super) doors: DoorQueue,
    pub(super) scratch: Scratch,
    /// For what connections carry over.
    pub(super) spare: Buffers,
    inbox: Inbox,
    doorbell_token: Token,
    peers: Vec<Peer>,
    pub(super) questions: Option<Sender<Asked>>,
    pub(super) wheel: TimerWheel<Timer>,
    due: Vec<Timer>,
    started: (Instant, u64),
    /// Counts the turns, and wraps.
    pub(super) turns: u32,
    pub(super) watch: Watch,
    /// Of the turn that is under way.
    completions: u64,
    open: usize,
    pub(super) draining: bool,
    grace_over: bool,
    spin: Spin,
}

impl Shard {
    /// Makes the shard on its own thread, with its log and what that has, if there is to be one. Nobody is
    /// accepted before [`Message::Open`].
    ///
    /// # Errors
    /// If the kernel refuses the ring.
    pub(super) fn new(setup: Setup, store: Option<(Log, ShardStart)>) -> Result<Self, ShardError> {
        let limits = &setup.config.network;
        let mut ring = Ring::new(&RingConfig {
            submission_entries: limits.ring_entries,
            buffer_count: limits.receive_buffers,
            buffer_bytes: limits.receive_buffer_bytes,
        })?;
        let now = now(setup.started);
        // There are at most `SHARDS_MAX`.
        let shard_count = u16::try_from(setup.peers.len()).unwrap_or(u16::MAX);
        let mut broker = Broker::new(
            setup.id,
            shard_count,
            Arc::clone(&setup.config),
            setup.hasher.clone(),
            now,
        );
        broker.set_policy(setup.policy, now);
        let mut log = None;
        if let Some((opened, start)) = store {
            ring.ring_for_completions(opened.eventfd())?;
            broker.restore(restored(start, shard_count), now);
            log = Some(opened);
        }
        let doorbell_token = ring.open();
        ring.arm_doorbell(setup.inbox.doorbell().eventfd(), doorbell_token);
        let mut shard = Self {
            id: setup.id,
            config: setup.config,
            hasher: setup.hasher,
            broker,
            ring,
            log,
            listeners: Vec::new(),
            connections: Vec::new(),
            paused: Vec::new(),
            handovers: Vec::new(),
            transports: Transports::default(),
            tls: setup.tls,
            doors: DoorQueue::default(),
            scratch: Scratch::default(),
            spare: Buffers::default(),
            inbox: setup.inbox,
            doorbell_token,
            peers: setup.peers,
            questions: setup.questions,
            wheel: TimerWheel::new(now.mono_ms),
            due: Vec::new(),
            started: setup.started,
            turns: 0,
            watch: Watch::default(),
            completions: 0,
            open: 0,
            draining: false,
            grace_over: false,
            spin: Spin::new(),
        };
        for listener in setup.listeners {
            shard.add_listener(listener);
        }
        shard.note_certificates();
        Ok(shard)
    }

    /// Accepts at a listener from now on.
    pub(super) fn listen(&mut self, listener: ListenerSocket) {
        let token = self.add_listener(listener);
        self.arm_accept(token);
    }

    fn add_listener(
        &mut self,
        ListenerSocket {
            place,
            socket,
            gate,
        }: ListenerSocket,
    ) -> Token {
        let token = self.ring.open();
        self.listeners.push(Listener {
            place,
            socket,
            gate,
            token,
            armed: false,
            closing: false,
            refused: 0,
            refused_line_ms: 0,
        });
        token
    }

    pub(super) fn is_drained(&self) -> bool {
        let done = self.open == 0 && self.is_log_settled();
        self.draining && (done || self.grace_over)
    }

    /// Sleeps in the shard's own ring.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        let wait = self.prepare_to_wait();
        let entered = self.ring.turn(wait);
        self.awake();
        entered
    }

    /// Other shards need not ring.
    pub(super) fn awake(&self) {
        self.inbox.doorbell().set_awake();
    }

    /// One turn without a log: wait, take what has come, answer all of it.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        self.wait()?;
        let now = self.take_completions();
        self.work(now);
        Ok(())
    }

    /// The first half of a turn: what has come from the network.
    pub(super) fn take_completions(&mut self) -> Now {
        self.turns = self.turns.wrapping_add(1);
        let (now, now_us) = times(self.started);
        self.watch.begin(now_us, self.broker.traffic());
        self.broker.begin_turn(now_us);
        let mut completions = 0;
        while let Some(completion) = self.ring.next_completion() {
            completions += 1;
            self.complete(completion, now);
        }
        if completions > 0 {
            self.mark(Work::Completions);
        }
        self.completions = completions;
        now
    }

    /// The second half: what other shards say, what is due, and all output at once.
    pub(super) fn work(&mut self, now: Now) {
        if self.take_inbox(now) {
            self.mark(Work::Inbox);
        }
        if self.tick(now) {
            self.mark(Work::Timers);
        }
        if !self.paused.is_empty() {
            self.resume_paused(now);
            self.mark(Work::Paused);
        }
        self.ask(now);
        self.flush_outputs(now);
        self.open_doors(now);
        self.flush_outputs(now);
        self.log_ended();
        self.flush_mesh();
        self.end_turn(self.completions);
    }

    fn mark(&mut self, work: Work) {
        self.watch.mark(work, times(self.started).1);
    }

    /// Records the turn, and reports it if it took too long.
    fn end_turn(&mut self, completions: u64) {
        let bound_us = u64::from(self.config.observability.stall_report_ms) * 1000;
        let now_us = times(self.started).1;
        let traffic = self.broker.traffic();
        let Some(stall) = self.watch.end(now_us, completions, traffic, bound_us) else {
            return;
        };
        let heaviest = self
            .connections
            .get(stall.heaviest as usize)
            .and_then(Option::as_deref)
            .filter(|_| stall.heaviest_cost > 0)
            .map_or(PeerAddress::Unknown, |connection| connection.peer.clone());
        tracing::warn!(
            shard = self.id.0,
            turn_ms = stall.turn_us / 1000,
            work = stall.work,
            work_ms = stall.work_us / 1000,
            completions,
            heaviest = %heaviest,
            heaviest_bytes = stall.heaviest_cost,
            asked = stall.asked.unwrap_or("nothing"),
            "a turn took longer than stall_report_ms"
        );
    }

    /// When the process started.
    pub(super) fn running_since(&self) -> Instant {
        self.started.0
    }

    /// How many messages wait in the inbox.
    pub(super) fn inbox_depth(&self) -> usize {
        self.inbox.len()
    }

    /// How long to sleep. Sets the doorbell's flag before the last look at the inbox.
    pub(super) fn prepare_to_wait(&mut self) -> Wait {
        if !self.paused.is_empty() {
            let now = now(self.started);
            if self
                .paused
                .iter()
                .any(|slot| self.broker.may_resume(*slot, now))
            {
                return Wait::Poll;
            }
        }
        if self.may_begin_commit() || self.spin.goes_on(self.config.network.spin_us) {
            return Wait::Poll;
        }
        self.inbox.doorbell().set_sleeping();
        if !self.inbox.is_empty() {
            return Wait::Poll;
        }
        if !self.broker.mesh().is_empty() || !self.handovers.is_empty() {
            return Wait::Until(MESH_RETRY);
        }
        let deadlines = [
            self.broker.next_deadline_ms(),
            self.wheel.next_deadline_ms(),
            self.doors_due_ms(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        match deadline {
            None => Wait::Forever,
            Some(deadline_ms) => {
                let now_ms = now(self.started).mono_ms;
                Wait::Until(Duration::from_millis(
                    deadline_ms.saturating_sub(now_ms).max(1),
                ))
            }
        }
    }

    fn complete(&mut self, completion: Completion, now: Now) {
        self.spin.worked = true;
        match completion {
            Completion::Accepted {
                token,
                result,
                more,
            } => self.accepted(token, result, more, now),
            Completion::Received {
                token,
                result,
                more,
            } => self.received(token, result, more, now),
            Completion::Sent {
                token,
                result,
                batch,
            } => self.sent(token, result, batch, now),
            Completion::Doorbell => self
                .ring
                .arm_doorbell(self.inbox.doorbell().eventfd(), self.doorbell_token),
        }
    }

    /// The time.
    pub(super) fn now(&self) -> Now {
        now(self.started)
    }

    /// Whether the server is shutting down.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// Notes when the first of the server's certificates ends.
    pub(super) fn note_certificates(&mut self) {
        self.broker.note_certificate_end(self.tls.ends_unix_s());
    }

    /// How many shards there are.
    pub(super) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    pub(super) fn add(&mut self, connection: NetConnection) {
        let index = connection.token.slot as usize;
        if index >= self.connections.len() {
            self.connections.resize_with(index + 1, || None);
        }
        self.connections[index] = Some(Box::new(connection));
        self.open += 1;
    }

    /// The connection of a token that is still the slot's.
    pub(super) fn connection(&mut self, token: Token) -> Option<&mut NetConnection> {
        let connection = self
            .connections
            .get_mut(token.slot as usize)?
            .as_deref_mut()?;
        (connection.token == token).then_some(connection)
    }

    /// Takes a connection out of this shard; nothing of it is in flight.
    pub(super) fn remove(&mut self, token: Token) -> Option<Box<NetConnection>> {
        let connection = self.connections.get_mut(token.slot as usize)?.take()?;
        self.transports.take(token);
        self.ring.release(token);
        self.open -= 1;
        Some(connection)
    }

    /// Hands a connection to its home.
    pub(super) fn hand_over(&mut self, token: Token, home: ShardId) {
        let transport = self.transports.take(token);
        let Some(connection) = self.remove(token) else {
            return;
        };
        let handover = Handover {
            socket: connection.socket,
            listener: connection.listener,
            peer: connection.peer,
            permit: connection.permit,
            transport,
            unread: connection.carry.as_slice().into(),
        };
        self.spare.take_back(connection.carry);
        self.handovers.push((home, Box::new(handover)));
    }

    /// Takes what has come; tells whether there was anything.
    fn take_inbox(&mut self, now: Now) -> bool {
        let cost_max = self.broker.routing_cost() + INBOX_COST_PER_TURN_MAX;
        let mut questions = 0;
        for taken in 0..INBOX_BATCHES_PER_TURN_MAX {
            if self.broker.routing_cost() >= cost_max || questions >= ASKS_PER_TURN_MAX {
                return true;
            }
            let message = self.inbox.next();
            self.spin.worked |= message.is_some();
            match message {
                None => return taken > 0,
                Some(Message::Batch(batch)) => {
                    let read = self.broker.take_batch(batch, now);
                    if let Some(peer) = self.peers.get(read.from.index()) {
                        peer.give_back(read);
                    }
                }
                Some(Message::Adopt(handover)) => self.adopt(*handover, now),
                Some(Message::Ask(question)) => {
                    questions += 1;
                    self.answer(*question, now);
                }
                Some(Message::Open) => {
                    let tokens = self.listeners.iter().map(|listener| listener.token);
                    for token in tokens.collect::<Vec<_>>() {
                        self.arm_accept(token);
                    }
                }
                Some(Message::Answer(answer)) => self.take_answer(*answer, now),
                Some(Message::Policy(policy)) => self.take_policy(policy, now),
                Some(Message::Reconfigure(config)) => self.reconfigure(config, now),
                Some(Message::Listeners(changes)) => self.change_listeners(changes),
                Some(Message::Beat(answer)) => {
                    // Whoever asks has room for an answer of each shard, or is gone.
                    let _ = answer.try_send((self.id.0, self.open));
                }
                Some(Message::Drain) => self.drain(now),
            }
        }
        true
    }

    /// A connection has come home.
    fn adopt(&mut self, handover: Handover, now: Now) {
        if self.draining {
            log_abandoned(&handover.peer, "the server is shutting down");
            return;
        }
        let token = self.ring.open();
        // Of this shard's own buffers, since it goes back to them.
        let mut carry = self.spare.lend();
        carry.extend_from_slice(&handover.unread);
        self.add(NetConnection {
            socket: handover.socket,
            token,
            state: State::Home,
            receiving: false,
            half_closed: false,
            listener: handover.listener,
            peer: handover.peer,
            carry,
            ended: None,
            watched: false,
            turn: 0,
            turn_cost: 0,
            permit: handover.permit,
            encoded: handover.transport.is_some(),
        });
        self.transports.put(token, handover.transport);
        self.begin(token, now);
        if self.broker.awaits_connect(token.slot) {
            // Who it is, is being asked; the timer of the shard that accepted it is gone.
            self.start_connect_timer(token, handover.listener, now);
        }
    }

    /// Does what is due; tells whether anything was.
    fn tick(&mut self, now: Now) -> bool {
        let mut fired = self.broker.tick(now) > 0;
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now.mono_ms, &mut due);
        fired |= !due.is_empty();
        for timer in due.drain(..) {
            match timer {
                Timer::Connect(token) => {
                    let at_home = self.broker.awaits_connect(token.slot);
                    let awaits = self
                        .connection(token)
                        .is_some_and(|connection| at_home || connection.state == State::Connecting);
                    if awaits {
                        self.abandon(
                            token,
                            EndCause::ConnectTimeout,
                            "no CONNECT within connect_timeout_s",
                        );
                    }
                }
                Timer::Linger(token) => self.finish(token),
                Timer::Unread(token) => self.check_unread(token, now),
                Timer::Accept(token) => self.arm_accept(token),
                Timer::Grace => self.grace_over = true,
            }
        }
        self.due = due;
        fired
    }

    /// Stops accepting, tells the clients, and gives them the grace time to take their last packets.
    fn drain(&mut self, now: Now) {
        self.draining = true;
        for listener in self.listeners.iter().filter(|listener| listener.armed) {
            self.ring.cancel_accept(listener.token);
        }
        let grace_ms = u64::from(self.config.shutdown_grace_s) * 1000;
        self.wheel.set(now.mono_ms + grace_ms, Timer::Grace);
        self.broker.shut_down(now);
        let tokens = self
            .connections
            .iter()
            .flatten()
            .filter(|connection| connection.state == State::Connecting);
        let tokens: Vec<_> = tokens.map(|connection| connection.token).collect();
        for token in tokens {
            self.abandon(
                token,
                EndCause::ServerShuttingDown,
                "the server is shutting down",
            );
        }
    }

    fn flush_mesh(&mut self) {
        while let Some(batch) = self.inbox.given_back() {
            if !self.broker.mesh().recycle(batch) {
                break;
            }
        }
        let peers = &self.peers;
        self.broker.mesh().flush(|target, batch| {
            let Some(peer) = peers.get(target.index()) else {
                return Ok(());
            };
            peer.send(Message::Batch(batch))
                .map_err(|message| match message {
                    Message::Batch(batch) => batch,
                    // `send` gives back what it was given.
                    _ => unreachable!("a batch was sent"),
                })
        });
        for (home, handover) in std::mem::take(&mut self.handovers) {
            let Some(peer) = self.peers.get(home.index()) else {
                continue;
            };
            if let Err(Message::Adopt(handover)) = peer.send(Message::Adopt(handover)) {
                self.handovers.push((home, handover));
            }
        }
    }

    /// Logs the connections that ended: those that the broker ended for everyone, the others for those who
    /// look closer. Before a slot is free, so that the address is that of the connection.
    pub(super) fn log_ended(&mut self) {
        self.log_denied();
        if !self.broker.has_ended() {
            return;
        }
        let unix_s = now(self.started).unix_s;
        let ends: Vec<_> = self.broker.take_ended().collect();
        for ended in ends {
            self.broker.remember_end(&ended, unix_s);
            let connection = self
                .connections
                .get(ended.slot as usize)
                .and_then(Option::as_deref);
            let address = connection.map_or(&PeerAddress::Unknown, |connection| &connection.peer);
            let code = ended.reason_code as u8;
            let client = &*shortened(&ended.client_identifier);
            if ended.by_broker {
                tracing::info!(client, %address, cause = ended.cause, reason_code = code, "connection ended by the broker");
            } else {
                tracing::debug!(client, %address, cause = ended.cause, reason_code = code, "connection ended");
            }
        }
    }
}

/// Logs the end of a connection that has not come home.
pub(super) fn log_abandoned(address: &PeerAddress, cause: &str) {
    tracing::info!(client = "", %address, cause, "connection ended by the broker");
}

/// A text of a client as it is logged.
pub(super) fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LOGGED_TEXT_BYTES_MAX {
        return text.into();
    }
    let end = text.floor_char_boundary(LOGGED_TEXT_BYTES_MAX);
    format!("{}... ({} bytes)", &text[..end], text.len()).into()
}

/// The time, since the process started.
fn now(started: (Instant, u64)) -> Now {
    times(started).0
}

/// The same, and microseconds.
fn times((started, unix_s): (Instant, u64)) -> (Now, u64) {
    let elapsed = started.elapsed();
    // Fits for longer than any machine runs.
    let elapsed_us = elapsed.as_secs() * 1_000_000 + u64::from(elapsed.subsec_micros());
    let now = Now {
        mono_ms: elapsed_us / 1000,
        unix_s: unix_s + elapsed.as_secs(),
    };
    (now, elapsed_us)
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
