//! A shard without its ring: what `ringmq::shard` does around the broker, with a virtual network.
//!
//! A turn takes received bytes, completed sends and lost connections in any order, then the inbox, the
//! timers, paused connections, all output, and the mesh, as the real one does.

use std::collections::VecDeque;

use ringmq::broker::envelope::Batch;
use ringmq::broker::output::Segment;
use ringmq::broker::{Broker, Budget, Flow, Placement, placement};
use ringmq::routing::ids::ShardId;

use crate::rng::Rng;
use crate::trace;
use crate::wire::Gone;
use crate::world::World;

/// What comes into an inbox.
#[derive(Debug)]
pub enum Message {
    /// A batch, with the publications that the model knows to be in it.
    Batch(Batch, Vec<usize>),
    /// A connection that comes home, with its unread bytes.
    Adopt(usize, Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Connecting,
    Home,
    Paused,
    Lingering,
}

/// A connection in its slot.
#[derive(Debug)]
pub struct Socket {
    pub wire: usize,
    state: State,
    carry: Vec<u8>,
    turn: u64,
    /// What it has had of its share of that turn.
    turn_cost: usize,
    /// The client has ended it, and what it has sent before is still to be taken.
    ended: Option<&'static str>,
    unread_until_ms: u64,
    opened_ms: u64,
    linger_until_ms: u64,
    /// Of the send that is under way.
    buffers: Vec<Vec<u8>>,
}

impl Socket {
    fn new(wire: usize, state: State, carry: Vec<u8>, now_ms: u64) -> Self {
        Self {
            wire,
            state,
            carry,
            turn: 0,
            turn_cost: 0,
            ended: None,
            unread_until_ms: 0,
            opened_ms: now_ms,
            linger_until_ms: 0,
            buffers: Vec::new(),
        }
    }
}

/// A shard.
pub struct Shard {
    pub broker: Broker,
    pub sockets: Vec<Option<Socket>>,
    free: Vec<u32>,
    paused: Vec<u32>,
    handovers: VecDeque<(usize, usize, Vec<u8>)>,
    turns: u64,
    /// Batches of this shard that their targets have read.
    given_back: Vec<Batch>,
}

impl Shard {
    pub fn new(broker: Broker) -> Self {
        Self {
            broker,
            sockets: Vec::new(),
            free: Vec::new(),
            paused: Vec::new(),
            handovers: VecDeque::new(),
            turns: 0,
            given_back: Vec::new(),
        }
    }

    /// Whether nothing waits to be sent to other shards.
    pub fn has_sent_all(&mut self) -> bool {
        self.handovers.is_empty() && self.broker.mesh().is_empty()
    }

    fn insert(&mut self, socket: Socket) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            (self.sockets.len() - 1) as u32
        });
        self.sockets[slot as usize] = Some(socket);
        slot
    }

    fn socket(&mut self, slot: u32) -> Option<&mut Socket> {
        self.sockets.get_mut(slot as usize)?.as_mut()
    }
}

impl World {
    /// A connection is accepted.
    pub fn accept(&mut self, shard: usize, wire: usize) {
        let socket = Socket::new(wire, State::Connecting, Vec::new(), self.now.mono_ms);
        self.shards[shard].insert(socket);
    }

    /// One turn of a shard: of what is there it takes a part, or with `all` everything.
    pub fn turn(&mut self, s: usize, rng: &mut Rng, all: bool) {
        self.shards[s].turns += 1;
        let mut slots: Vec<u32> = (0..self.shards[s].sockets.len() as u32).collect();
        rng.shuffle(&mut slots);
        for slot in slots {
            if all || rng.chance(70) {
                self.complete_send(s, slot);
            }
            if all || rng.chance(60) {
                self.receive(s, slot, rng, all);
            }
        }
        self.take_inbox(s, if all { 256 } else { rng.below(4) });
        self.shards[s].broker.tick(self.now);
        self.model.tick(s);
        self.note_ended(s, true);
        self.model.tick_is_over();
        self.expire_sockets(s);
        self.resume_paused(s);
        while let Some(slot) = self.shards[s].broker.next_dirty() {
            self.flush(s, slot);
        }
        self.note_ended(s, false);
        self.model.check_keep_alive(s);
        self.flush_mesh(s);
    }

    fn take_inbox(&mut self, s: usize, count: usize) {
        for _ in 0..count {
            let Some(message) = self.inboxes[s].pop_front() else {
                return;
            };
            self.activity += 1;
            match message {
                Message::Batch(batch, publications) => {
                    trace::say(|| format!("shard {s} takes a batch of shard {}", batch.from.0));
                    let read = self.shards[s].broker.take_batch(batch, self.now);
                    self.shards[read.from.index()].given_back.push(read);
                    self.model.arrived(s, &publications);
                    self.note_ended(s, false);
                }
                Message::Adopt(wire, unread) => {
                    let socket = Socket::new(wire, State::Home, unread, self.now.mono_ms);
                    let slot = self.shards[s].insert(socket);
                    self.begin(s, slot);
                }
            }
        }
    }

    fn complete_send(&mut self, s: usize, slot: u32) {
        let Some(socket) = self.shards[s].socket(slot) else {
            return;
        };
        let wire = &mut self.wires[socket.wire];
        if wire.send_fails() {
            wire.cancel_send();
            self.lost(s, slot, "the connection was reset");
            if self.shards[s].socket(slot).is_some() {
                // What it has sent is still taken; what it is sent is lost.
                self.shards[s].broker.output_sent(slot, self.now);
                self.flush(s, slot);
            }
            return;
        }
        let before = wire.readable();
        if !wire.push() {
            self.activity += u64::from(wire.readable() > before);
            return;
        }
        self.activity += 1;
        let buffers = std::mem::take(&mut socket.buffers);
        let broker = &mut self.shards[s].broker;
        for buffer in buffers {
            broker.recycle(buffer);
        }
        broker.output_sent(slot, self.now);
        self.flush(s, slot);
    }

    fn receive(&mut self, s: usize, slot: u32, rng: &mut Rng, all: bool) {
        let Some(socket) = self.shards[s].socket(slot) else {
            return;
        };
        if socket.state == State::Paused {
            return;
        }
        let number = socket.wire;
        let wire = &mut self.wires[number];
        let count = if all { 1 << 20 } else { 1 + rng.below(200) };
        let bytes = wire.receive(count);
        if bytes.is_empty() {
            match wire.gone {
                None => {}
                Some(Gone::Closed) => self.lost(s, slot, "the client closed the connection"),
                Some(Gone::Reset) => self.lost(s, slot, "the connection was reset"),
            }
            return;
        }
        self.activity += 1;
        match socket.state {
            State::Lingering => {}
            State::Connecting => {
                socket.carry.extend(bytes);
                let carry = std::mem::take(&mut socket.carry);
                let placed = placement(
                    &carry,
                    self.config.listeners[0].limits.first_packet_bytes_max(),
                    ShardId(s as u16),
                    self.shards.len() as u16,
                    &self.hasher,
                );
                match placed {
                    Placement::NeedMore => self.shards[s].socket(slot).unwrap().carry = carry,
                    Placement::Home(home) if home.index() == s => {
                        self.shards[s].socket(slot).unwrap().carry = carry;
                        self.begin(s, slot);
                    }
                    Placement::Home(home) => {
                        self.shards[s].sockets[slot as usize] = None;
                        self.shards[s].free.push(slot);
                        self.shards[s]
                            .handovers
                            .push_back((home.index(), number, carry));
                    }
                }
            }
            State::Home | State::Paused => {
                socket.carry.extend(bytes);
                self.take_carry(s, slot);
            }
        }
    }

    fn begin(&mut self, s: usize, slot: u32) {
        let socket = self.shards[s].socket(slot).unwrap();
        socket.state = State::Home;
        let wire = socket.wire;
        let client = self.wires[wire].client;
        let version = self.devices[client].profile.version;
        self.shards[s].broker.open(slot, 0, self.now);
        self.model.opened(wire, client, version, s);
        self.take_carry(s, slot);
    }

    /// Gives the broker what is there, and the model the packets that it has handled.
    fn take_carry(&mut self, s: usize, slot: u32) {
        let share = self.config.network.receive_budget_bytes as usize;
        let turn = self.shards[s].turns;
        let now = self.now;
        let shard = &mut self.shards[s];
        let socket = shard.sockets[slot as usize].as_mut().unwrap();
        if socket.turn != turn {
            socket.turn = turn;
            socket.turn_cost = 0;
        }
        let mut budget = Budget {
            bytes: share.saturating_sub(socket.turn_cost),
        };
        let progress = shard.broker.receive(slot, &socket.carry, &mut budget, now);
        socket.turn_cost = share.saturating_sub(budget.bytes);
        socket.carry.drain(..progress.consumed);
        let number = socket.wire;
        match progress.flow {
            Flow::Continue => socket.state = State::Home,
            Flow::Pause => {
                socket.state = State::Paused;
                shard.paused.push(slot);
            }
            Flow::Closing => {}
        }
        if progress.consumed > 0 {
            self.activity += 1;
            self.model.received(number);
        }
        for said in self.wires[number].handled(progress.consumed) {
            self.model.handled(number, said);
        }
        self.note_ended(s, false);
        let socket = self.shards[s].socket(slot).unwrap();
        if let Some(cause) = socket.ended.filter(|_| socket.state == State::Home) {
            self.lost(s, slot, cause);
        }
    }

    fn resume_paused(&mut self, s: usize) {
        for slot in std::mem::take(&mut self.shards[s].paused) {
            let turn = self.shards[s].turns;
            let may = self.shards[s].broker.may_resume(slot);
            let Some(socket) = self.shards[s].socket(slot) else {
                continue;
            };
            if socket.state != State::Paused {
                continue;
            }
            if socket.turn == turn || !may {
                self.shards[s].paused.push(slot);
                continue;
            }
            self.take_carry(s, slot);
        }
    }

    fn flush(&mut self, s: usize, slot: u32) {
        let shard = &mut self.shards[s];
        let Some(socket) = shard
            .sockets
            .get_mut(slot as usize)
            .and_then(Option::as_mut)
        else {
            return;
        };
        if self.wires[socket.wire].is_sending() || socket.state == State::Connecting {
            return;
        }
        let mut bytes = Vec::new();
        let mut buffers = Vec::new();
        let waits = shard.broker.take_output(slot, |segment| match segment {
            Segment::Packets(packets) => {
                bytes.extend_from_slice(&packets);
                buffers.push(packets);
            }
            Segment::Payload(payload) => bytes.extend_from_slice(&payload),
        });
        let wire = socket.wire;
        let closing = shard.broker.is_closing(slot);
        if waits {
            self.activity += 1;
            socket.buffers = buffers;
            self.model.output(wire, &bytes);
            self.wires[wire].send(&bytes);
        } else {
            self.model.drained(wire);
        }
        if closing {
            let linger_ms = u64::from(self.config.network.close_linger_s) * 1000;
            if matches!(socket.state, State::Home | State::Paused) {
                socket.state = State::Lingering;
                socket.linger_until_ms = self.now.mono_ms + linger_ms;
            }
            if !waits {
                socket.carry = Vec::new();
                self.wires[wire].broker_done = true;
            }
        }
    }

    /// The network has ended a connection. What a paused one has received before is taken first.
    fn lost(&mut self, s: usize, slot: u32, cause: &'static str) {
        let linger_ms = u64::from(self.config.network.close_linger_s) * 1000;
        let now_ms = self.now.mono_ms;
        let socket = self.shards[s].socket(slot).unwrap();
        if socket.state == State::Paused && !socket.carry.is_empty() {
            if socket.ended.is_none() {
                socket.ended = Some(cause);
                socket.unread_until_ms = now_ms + linger_ms;
            }
            return;
        }
        if matches!(socket.state, State::Home | State::Paused) {
            let wire = socket.wire;
            trace::say(|| format!("shard {s}: connection {wire} is lost: {cause}"));
            self.shards[s].broker.network_closed(slot, cause, self.now);
            self.model.network_closed(wire);
            self.note_ended(s, false);
        }
        self.finish(s, slot);
    }

    fn finish(&mut self, s: usize, slot: u32) {
        let shard = &mut self.shards[s];
        let Some(socket) = shard.sockets[slot as usize].take() else {
            return;
        };
        self.activity += 1;
        let wire = &mut self.wires[socket.wire];
        wire.cancel_send();
        wire.broker_closed = true;
        for buffer in socket.buffers {
            shard.broker.recycle(buffer);
        }
        shard.broker.release(slot);
        shard.free.push(slot);
    }

    /// The shard's own timers: CONNECT must come in time, and a close may take so long.
    fn expire_sockets(&mut self, s: usize) {
        let connect_ms = u64::from(self.config.listeners[0].limits.connect_timeout_s) * 1000;
        let linger_ms = u64::from(self.config.network.close_linger_s) * 1000;
        let now_ms = self.now.mono_ms;
        for slot in 0..self.shards[s].sockets.len() as u32 {
            let unread = self.shards[s].broker.is_output_full(slot);
            let Some(socket) = self.shards[s].socket(slot) else {
                continue;
            };
            let over = match socket.state {
                State::Connecting => now_ms >= socket.opened_ms + connect_ms,
                State::Lingering => now_ms >= socket.linger_until_ms,
                _ => false,
            };
            if over {
                self.finish(s, slot);
                continue;
            }
            let Some(cause) = socket.ended.filter(|_| socket.state == State::Paused) else {
                continue;
            };
            if now_ms < socket.unread_until_ms {
                continue;
            }
            if unread {
                socket.state = State::Home;
                self.lost(s, slot, cause);
            } else {
                socket.unread_until_ms = now_ms + linger_ms;
            }
        }
    }

    /// Tells the model which connections the broker says have ended.
    fn note_ended(&mut self, s: usize, in_tick: bool) {
        let shard = &mut self.shards[s];
        for ended in shard.broker.take_ended() {
            let Some(socket) = &shard.sockets[ended.slot as usize] else {
                panic!("a connection ended in slot {}, which is free", ended.slot);
            };
            self.model.ended(socket.wire, &ended, in_tick);
        }
    }

    fn flush_mesh(&mut self, s: usize) {
        for batch in std::mem::take(&mut self.shards[s].given_back) {
            self.shards[s].broker.mesh().recycle(batch);
        }
        let capacity = self.config.network.inbox_batches_max as usize;
        let (inboxes, model) = (&mut self.inboxes, &mut self.model);
        let shard = &mut self.shards[s];
        shard.broker.mesh().flush(|target, batch| {
            let inbox = &mut inboxes[target.index()];
            if inbox.len() >= capacity {
                return Err(batch);
            }
            let publications = model.pushed(s, target.index());
            inbox.push_back(Message::Batch(batch, publications));
            Ok(())
        });
        if shard.broker.mesh().is_empty() {
            model.sent_all(s);
        }
        for _ in 0..shard.handovers.len() {
            let Some((home, wire, unread)) = shard.handovers.pop_front() else {
                return;
            };
            if inboxes[home].len() >= capacity {
                shard.handovers.push_back((home, wire, unread));
            } else {
                inboxes[home].push_back(Message::Adopt(wire, unread));
            }
        }
    }

    /// Connections of these clients from which not everything is read, though nothing moves any more.
    pub fn unread(&self, stuck: &[usize]) -> Vec<usize> {
        let sockets = self.shards.iter().flat_map(|shard| shard.sockets.iter());
        let waits = |socket: &&Socket| {
            let wire = &self.wires[socket.wire];
            !stuck.contains(&wire.client) && (wire.waiting() > 0 || (socket.state == State::Paused))
        };
        sockets
            .flatten()
            .filter(waits)
            .map(|socket| socket.wire)
            .collect()
    }
}
