//! The shard and its turn.

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use crate::broker::authentication::{Answer, Identity, Question, Refusal, Verdict};
use crate::broker::output::Buffers;
use crate::broker::policy::Policy;
use crate::broker::timer_wheel::TimerWheel;
use crate::broker::{Broker, Now};
use crate::config::Config;
use crate::config::limits::{
    INBOX_BATCHES_PER_TURN_MAX, INBOX_COST_PER_TURN_MAX, LOGGED_TEXT_BYTES_MAX,
    REFUSED_LINE_EVERY_MS,
};
use crate::net::listener::set_nodelay;
use crate::net::peer::{PeerAddress, user_of_peer};
use crate::net::ring::{Completion, Ring, RingConfig, Token, Wait};
use crate::observability::counters::EndCause;
use crate::routing::ids::ShardId;
use crate::routing::topic_hash::TopicHasher;

use super::connection::{Handover, ListenerGate, NetConnection, Permit, State};
use super::mesh::{Inbox, Message, Peer};

/// How long accept rests when descriptors have run out, milliseconds.
const ACCEPT_RETRY_MS: u64 = 100;
/// How long a shard waits before it offers a batch again to one whose inbox was full.
const MESH_RETRY: Duration = Duration::from_millis(1);

/// A listener's socket for one shard.
#[derive(Debug)]
pub struct ListenerSocket {
    /// Listens.
    pub socket: OwnedFd,
    /// Counts over all shards.
    pub gate: Arc<ListenerGate>,
}

/// A question of a shard about a client.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub shard: ShardId,
    /// Since when.
    pub at: Instant,
    /// What.
    pub question: Question,
}

impl Asked {
    fn by(shard: ShardId, question: Question) -> Self {
        Self {
            shard,
            at: Instant::now(),
            question,
        }
    }
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
    /// In the order of the configuration.
    pub listeners: Vec<ListenerSocket>,
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
struct Listener {
    socket: OwnedFd,
    gate: Arc<ListenerGate>,
    token: Token,
    armed: bool,
    /// Connections that were refused since the last line about them.
    refused: u64,
    /// When the next such line may be logged.
    refused_line_ms: u64,
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
    Accept(u16),
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
    listeners: Vec<Listener>,
    /// By slot.
    pub(super) connections: Vec<Option<Box<NetConnection>>>,
    /// Slots whose carry waits for a later turn.
    pub(super) paused: Vec<u32>,
    /// Connections for other shards whose inbox was full; no more than there are connections.
    handovers: Vec<(ShardId, Box<Handover>)>,
    /// For what connections carry over.
    pub(super) spare: Buffers,
    inbox: Inbox,
    doorbell_token: Token,
    peers: Vec<Peer>,
    questions: Option<Sender<Asked>>,
    pub(super) wheel: TimerWheel<Timer>,
    due: Vec<Timer>,
    started: (Instant, u64),
    pub(super) turns: u64,
    open: usize,
    draining: bool,
    grace_over: bool,
}

impl Shard {
    /// Makes the shard on its own thread.
    ///
    /// # Errors
    /// If the kernel refuses the ring.
    pub fn new(setup: Setup) -> Result<Self, crate::net::ring::RingError> {
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
        let doorbell_token = ring.open();
        ring.arm_doorbell(setup.inbox.doorbell().eventfd(), doorbell_token);
        let mut listeners = Vec::new();
        for ListenerSocket { socket, gate } in setup.listeners {
            let token = ring.open();
            ring.accept_multishot(socket.as_fd(), token);
            listeners.push(Listener {
                socket,
                gate,
                token,
                armed: true,
                refused: 0,
                refused_line_ms: 0,
            });
        }
        Ok(Self {
            id: setup.id,
            config: setup.config,
            hasher: setup.hasher,
            broker,
            ring,
            listeners,
            connections: Vec::new(),
            paused: Vec::new(),
            handovers: Vec::new(),
            spare: Buffers::default(),
            inbox: setup.inbox,
            doorbell_token,
            peers: setup.peers,
            questions: setup.questions,
            wheel: TimerWheel::new(now.mono_ms),
            due: Vec::new(),
            started: setup.started,
            turns: 0,
            open: 0,
            draining: false,
            grace_over: false,
        })
    }

    /// Runs until the shard has drained.
    ///
    /// # Errors
    /// If the ring fails, which ends the process.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_drained() {
            self.turn()?;
        }
        Ok(())
    }

    fn is_drained(&self) -> bool {
        self.draining && (self.open == 0 || self.grace_over)
    }

    /// One turn: wait, take what has come, answer all of it.
    fn turn(&mut self) -> io::Result<()> {
        let wait = self.prepare_to_wait();
        let entered = self.ring.turn(wait);
        self.inbox.doorbell().set_awake();
        entered?;
        self.turns += 1;
        let now = now(self.started);
        while let Some(completion) = self.ring.next_completion() {
            self.complete(completion, now);
        }
        self.take_inbox(now);
        self.tick(now);
        self.resume_paused(now);
        self.ask(now);
        self.flush_outputs(now);
        self.log_ended();
        self.flush_mesh();
        Ok(())
    }

    /// How long to sleep. Sets the doorbell's flag before the last look at the inbox.
    fn prepare_to_wait(&mut self) -> Wait {
        if self.paused.iter().any(|slot| self.broker.may_resume(*slot)) {
            return Wait::Poll;
        }
        self.inbox.doorbell().set_sleeping();
        if !self.inbox.is_empty() {
            return Wait::Poll;
        }
        if !self.broker.mesh().is_empty() || !self.handovers.is_empty() {
            return Wait::Until(MESH_RETRY);
        }
        let deadline = match (
            self.broker.next_deadline_ms(),
            self.wheel.next_deadline_ms(),
        ) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
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

    fn accepted(&mut self, token: Token, result: io::Result<OwnedFd>, more: bool, now: Now) {
        let Some(place) = self
            .listeners
            .iter()
            .position(|listener| listener.token == token)
        else {
            return;
        };
        // The configuration has far fewer listeners.
        let index = u16::try_from(place).unwrap_or(u16::MAX);
        let listener = &mut self.listeners[place];
        listener.armed = more;
        match result {
            Ok(socket) => match listener.gate.enter() {
                Some(permit) if !self.draining => self.admit(socket, index, permit, now),
                Some(_) => log_abandoned(PeerAddress::of(&socket), "the server is shutting down"),
                None => {
                    self.broker.count_ended(EndCause::ConnectionsMax);
                    self.note_refused(place, PeerAddress::of(&socket), now);
                }
            },
            Err(error) if matches!(error.raw_os_error(), Some(libc::ECANCELED)) => return,
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(
                    listener = self.config.listeners[place].name,
                    %error,
                    "cannot accept; raise LimitNOFILE (ulimit -n); trying again in {ACCEPT_RETRY_MS} ms"
                );
                self.wheel
                    .set(now.mono_ms + ACCEPT_RETRY_MS, Timer::Accept(index));
                return;
            }
            Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
        }
        if !more {
            self.arm_accept(index);
        }
    }

    /// Logs that a listener is full: one line for all who knock within a moment.
    fn note_refused(&mut self, place: usize, address: PeerAddress, now: Now) {
        let listener = &mut self.listeners[place];
        listener.refused += 1;
        if now.mono_ms < listener.refused_line_ms {
            return;
        }
        listener.refused_line_ms = now.mono_ms + REFUSED_LINE_EVERY_MS;
        let refused = std::mem::take(&mut listener.refused);
        tracing::warn!(
            listener = self.config.listeners[place].name,
            %address,
            refused,
            "connection refused: connections_max is reached; raise it or close others"
        );
    }

    fn arm_accept(&mut self, index: u16) {
        if let Some(listener) = self.listeners.get_mut(usize::from(index))
            && !self.draining
            && !listener.armed
        {
            listener.armed = true;
            self.ring
                .accept_multishot(listener.socket.as_fd(), listener.token);
        }
    }

    /// Begins with a connection that was accepted: CONNECT tells where it belongs.
    fn admit(&mut self, socket: OwnedFd, listener: u16, permit: Permit, now: Now) {
        set_nodelay(&socket);
        let peer = PeerAddress::of(&socket);
        let token = self.ring.open();
        self.ring.receive_once(socket.as_fd(), token);
        let timeout_s = self.config.listeners[usize::from(listener)]
            .limits
            .connect_timeout_s;
        self.wheel.set(
            now.mono_ms + u64::from(timeout_s) * 1000,
            Timer::Connect(token),
        );
        self.add(NetConnection {
            socket,
            token,
            state: State::Connecting,
            receiving: true,
            half_closed: false,
            listener,
            peer,
            carry: Vec::new(),
            ended: None,
            turn: 0,
            turn_cost: 0,
            permit,
        });
    }

    /// Whether the server is shutting down.
    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    /// How many shards there are.
    pub(super) fn peer_count(&self) -> usize {
        self.peers.len()
    }

    fn add(&mut self, connection: NetConnection) {
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
        self.ring.release(token);
        self.open -= 1;
        Some(connection)
    }

    /// Hands a connection to its home.
    pub(super) fn hand_over(&mut self, token: Token, home: ShardId) {
        let Some(connection) = self.remove(token) else {
            return;
        };
        let handover = Handover {
            socket: connection.socket,
            listener: connection.listener,
            peer: connection.peer,
            permit: connection.permit,
            unread: connection.carry,
        };
        self.handovers.push((home, Box::new(handover)));
    }

    fn take_inbox(&mut self, now: Now) {
        let cost_max = self.broker.routing_cost() + INBOX_COST_PER_TURN_MAX;
        for _ in 0..INBOX_BATCHES_PER_TURN_MAX {
            if self.broker.routing_cost() >= cost_max {
                return;
            }
            match self.inbox.next() {
                None => return,
                Some(Message::Batch(batch)) => {
                    let read = self.broker.take_batch(batch, now);
                    if let Some(peer) = self.peers.get(read.from.index()) {
                        peer.give_back(read);
                    }
                }
                Some(Message::Adopt(handover)) => self.adopt(*handover, now),
                Some(Message::Answer(answer)) => self.take_answer(*answer, now),
                Some(Message::Policy(policy)) => self.take_policy(policy, now),
                Some(Message::Drain) => self.drain(now),
            }
        }
    }

    /// Hands questions about clients to those who answer them; who cannot be asked about is refused.
    fn ask(&mut self, now: Now) {
        // An answer may bring the next question.
        for _ in 0..2 {
            let questions: Vec<Question> = self.broker.take_questions().collect();
            for question in questions {
                let (slot, serial) = (question.slot, question.serial);
                let sent = match &self.questions {
                    Some(questions) => questions.try_send(Asked::by(self.id, question)).is_ok(),
                    None => false,
                };
                if !sent {
                    let verdict = Verdict::Refused(Refusal::Busy);
                    self.take_answer(
                        Answer {
                            slot,
                            serial,
                            generation: 0,
                            verdict,
                        },
                        now,
                    );
                }
            }
        }
    }

    fn take_answer(&mut self, answer: Answer, now: Now) {
        let slot = answer.slot;
        self.broker.answer(answer, now);
        let connection = self.connections.get(slot as usize);
        let parked = connection
            .and_then(Option::as_deref)
            .is_some_and(|connection| connection.state == State::Paused);
        if parked && !self.paused.contains(&slot) {
            self.paused.push(slot);
        }
    }

    fn take_policy(&mut self, policy: Arc<Policy>, now: Now) {
        let rechecked = self.broker.set_policy(policy, now);
        tracing::info!(
            shard = self.id.0,
            sessions = rechecked.sessions,
            subscriptions_ended = rechecked.subscriptions_ended,
            messages_dropped = rechecked.messages_dropped,
            "standing subscriptions are checked against the new policy"
        );
    }

    /// What the transport knows about the other end.
    pub(super) fn identity(connection: &NetConnection) -> Identity {
        let address = match connection.peer {
            PeerAddress::Tcp(address) => Some(address.ip()),
            PeerAddress::Unix | PeerAddress::Unknown => None,
        };
        let unix_user = match connection.peer {
            PeerAddress::Unix => user_of_peer(&connection.socket),
            PeerAddress::Tcp(_) | PeerAddress::Unknown => None,
        };
        Identity {
            address,
            certificate: None,
            unix_user,
        }
    }

    /// A connection has come home.
    fn adopt(&mut self, handover: Handover, now: Now) {
        if self.draining {
            log_abandoned(handover.peer, "the server is shutting down");
            return;
        }
        let token = self.ring.open();
        self.add(NetConnection {
            socket: handover.socket,
            token,
            state: State::Home,
            receiving: false,
            half_closed: false,
            listener: handover.listener,
            peer: handover.peer,
            carry: handover.unread,
            ended: None,
            turn: 0,
            turn_cost: 0,
            permit: handover.permit,
        });
        self.begin(token, now);
    }

    fn tick(&mut self, now: Now) {
        self.broker.tick(now);
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now.mono_ms, &mut due);
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
                Timer::Accept(listener) => self.arm_accept(listener),
                Timer::Grace => self.grace_over = true,
            }
        }
        self.due = due;
    }

    /// Stops accepting, tells the clients, and gives them the grace time to take their last packets.
    fn drain(&mut self, now: Now) {
        self.draining = true;
        for listener in &self.listeners {
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

    /// Logs what clients were not allowed to do: one line for all that came within a moment.
    fn log_denied(&mut self) {
        let Some(denied) = self.broker.take_denials(now(self.started)) else {
            return;
        };
        let client = &*shortened(&denied.client_identifier);
        let user = denied.user_name.as_deref().map(shortened);
        let topic = &*shortened(&denied.topic);
        tracing::warn!(
            client,
            user = user.as_deref(),
            topic,
            action = denied.action,
            count = denied.count,
            "not authorized; the first of so many"
        );
    }

    /// Logs the connections that ended: those that the broker ended for everyone, the others for those who
    /// look closer. Before a slot is free, so that the address is that of the connection.
    pub(super) fn log_ended(&mut self) {
        self.log_denied();
        for ended in self.broker.take_ended() {
            let connection = self
                .connections
                .get(ended.slot as usize)
                .and_then(Option::as_deref);
            let address = connection.map_or(PeerAddress::Unknown, |connection| connection.peer);
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
pub(super) fn log_abandoned(address: PeerAddress, cause: &'static str) {
    tracing::info!(client = "", %address, cause, "connection ended by the broker");
}

/// A text of a client as it is logged.
fn shortened(text: &str) -> Cow<'_, str> {
    if text.len() <= LOGGED_TEXT_BYTES_MAX {
        return text.into();
    }
    let end = text.floor_char_boundary(LOGGED_TEXT_BYTES_MAX);
    format!("{}... ({} bytes)", &text[..end], text.len()).into()
}

/// The time, since the process started.
fn now((started, unix_s): (Instant, u64)) -> Now {
    let elapsed = started.elapsed();
    Now {
        // Fits for longer than any machine runs.
        mono_ms: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        unix_s: unix_s + elapsed.as_secs(),
    }
}

/// Whether accept failed because something has run out.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
    )
}

#[cfg(test)]
#[path = "turn_tests.rs"]
mod tests;
