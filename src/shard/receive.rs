//! Received bytes: to the broker in place, with what is incomplete carried over to the next receive.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::broker::output::Buffers;
use crate::broker::{Broker, Budget, Flow, Now, Placement, placement};
use crate::mqtt::frame::{Framing, frame};
use crate::net::ring::{Buffer, Token};

use super::Shard;
use super::connection::{Loss, State};
use super::turn::Timer;

impl Shard {
    pub(super) fn received(
        &mut self,
        token: Token,
        result: io::Result<Option<Buffer>>,
        more: bool,
        now: Now,
    ) {
        let Some(connection) = self.connection(token) else {
            if let Ok(Some(buffer)) = result {
                self.ring.recycle(buffer);
            }
            return;
        };
        connection.receiving = more;
        let state = connection.state;
        let encoded = connection.encoded;
        match result {
            Ok(Some(buffer)) => match state {
                State::Connecting if encoded => self.received_at_door(token, buffer),
                State::Home | State::Paused if encoded => {
                    self.received_encoded(token, buffer, now);
                }
                State::Connecting => self.received_connecting(token, buffer, now),
                State::Home => self.received_home(token, buffer, now),
                State::Paused => {
                    connection_bytes(self, token, &buffer);
                    self.ring.recycle(buffer);
                }
                State::Lingering => {
                    self.ring.recycle(buffer);
                    if !more {
                        self.arm_receive(token);
                    }
                }
                State::Finishing => {
                    self.ring.recycle(buffer);
                    self.close_if_idle(token);
                }
            },
            Err(error)
                if error.raw_os_error() == Some(libc::ENOBUFS) && state != State::Finishing =>
            {
                // The pool was empty for a moment; the kernel keeps the bytes.
                self.watch.buffers_exhausted += 1;
                match state {
                    State::Connecting => self.receive_connecting(token),
                    State::Paused => {}
                    _ => self.arm_receive(token),
                }
            }
            Err(error) if error.raw_os_error() == Some(libc::ECANCELED) => match state {
                // It was paused, and has gone on or ended since.
                State::Home | State::Lingering => self.arm_receive(token),
                State::Finishing => self.close_if_idle(token),
                _ => {}
            },
            Ok(None) => self.lost(token, Loss::Closed, now),
            Err(_) => self.lost(token, Loss::Reset, now),
        }
    }

    /// The network has ended a connection. What a paused one has received before is taken first: it may be
    /// a DISCONNECT, or messages that other clients wait for.
    pub(super) fn lost(&mut self, token: Token, loss: Loss, now: Now) {
        let Some(connection) = self.connection(token) else {
            return;
        };
        if connection.state == State::Paused && !connection.carry.is_empty() {
            connection.ended.get_or_insert(loss);
            self.watch_paused(token, now);
            return;
        }
        if matches!(connection.state, State::Home | State::Paused) {
            self.broker.network_closed(token.slot, loss.cause(), now);
        }
        self.finish(token);
    }

    /// Looks after a paused connection in a while, again and again for as long as it is paused.
    fn watch_paused(&mut self, token: Token, now: Now) {
        let linger_ms = u64::from(self.config.network.close_linger_s) * 1000;
        if let Some(connection) = self.connection(token)
            && !connection.watched
        {
            connection.watched = true;
            self.wheel
                .set(now.mono_ms + linger_ms, Timer::Unread(token));
        }
    }

    /// Gives up on a connection that the client has ended and that waits for it to read. Nothing is received
    /// while a connection is paused, so its end does not come by itself.
    pub(super) fn check_unread(&mut self, token: Token, now: Now) {
        let unread = self.broker.is_output_full(token.slot);
        let Some(connection) = self.connection(token) else {
            return;
        };
        connection.watched = false;
        if connection.state != State::Paused {
            return;
        }
        match connection.ended {
            Some(loss) if unread => {
                connection.state = State::Home;
                self.lost(token, loss, now);
            }
            ended => {
                if ended.is_none() && unread && has_hung_up(&connection.socket) {
                    // From now on it has time to read.
                    connection.ended = Some(Loss::Closed);
                }
                self.watch_paused(token, now);
            }
        }
    }

    fn received_connecting(&mut self, token: Token, buffer: Buffer, now: Now) {
        connection_bytes(self, token, &buffer);
        self.ring.recycle(buffer);
        self.place(token, now);
    }

    /// Moves a connection to its home, if its CONNECT is complete.
    pub(super) fn place(&mut self, token: Token, now: Now) {
        let shard_count = self.shard_count();
        let Some(connection) = self
            .connections
            .get(token.slot as usize)
            .and_then(Option::as_deref)
        else {
            return;
        };
        let limits = &self.config.listeners[usize::from(connection.listener)].limits;
        match placement(
            &connection.carry,
            limits.first_packet_bytes_max(),
            self.id,
            shard_count,
            &self.hasher,
        ) {
            Placement::NeedMore => {
                self.send_pending(token);
                self.receive_connecting(token);
            }
            Placement::Home(home) if home == self.id => self.begin(token, now),
            // It moves with nothing in flight; when the send is complete it comes here again.
            Placement::Home(_) if self.ring.is_sending(token) => {}
            Placement::Home(home) => self.hand_over(token, home),
        }
    }

    pub(super) fn receive_connecting(&mut self, token: Token) {
        let Some(connection) = self
            .connections
            .get_mut(token.slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        if std::mem::replace(&mut connection.receiving, true) {
            return;
        }
        self.ring.receive_once(connection.socket.as_fd(), token);
    }

    /// A connection is at home: the broker takes what has come so far.
    pub(super) fn begin(&mut self, token: Token, now: Now) {
        let identity = match self.broker.wants_identity() {
            true => Some(self.identity(token)),
            false => None,
        };
        let Some(connection) = self.connection(token) else {
            return;
        };
        connection.state = State::Home;
        let listener = connection.listener;
        self.broker.open(token.slot, listener, now);
        if let Some(identity) = identity {
            self.broker.identify(token.slot, identity);
        }
        self.take_carry(token, now);
        if self.transports.has_pending(token) {
            // It does not wait for an answer of the broker.
            self.flush(token, now);
        }
    }

    /// Gives the broker what is carried; then receives on, or waits for another turn.
    fn take_carry(&mut self, token: Token, now: Now) {
        let mut budget = self.budget(token);
        let Some(connection) = self.connection(token) else {
            return;
        };
        let mut carry = std::mem::take(&mut connection.carry);
        let progress = self.broker.receive(token.slot, &carry, &mut budget, now);
        carry.drain(..progress.consumed);
        self.spend(token, budget);
        self.keep(token, carry);
        self.follow(token, progress.flow, now);
    }

    fn received_home(&mut self, token: Token, buffer: Buffer, now: Now) {
        let mut budget = self.budget(token);
        let Some(connection) = self
            .connections
            .get_mut(token.slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        let carry = std::mem::take(&mut connection.carry);
        let bytes = self.ring.bytes(&buffer);
        let (broker, spare) = (&mut self.broker, &mut self.spare);
        let (carry, flow) = take_bytes(broker, spare, token.slot, carry, bytes, &mut budget, now);
        self.ring.recycle(buffer);
        self.spend(token, budget);
        self.keep(token, carry);
        self.follow(token, flow, now);
    }

    /// Gives the broker decoded bytes of a connection at home.
    pub(super) fn feed(&mut self, token: Token, bytes: &[u8], now: Now) {
        let mut budget = self.budget(token);
        let Some(connection) = self.connection(token) else {
            return;
        };
        let carry = std::mem::take(&mut connection.carry);
        let (broker, spare) = (&mut self.broker, &mut self.spare);
        let (carry, flow) = take_bytes(broker, spare, token.slot, carry, bytes, &mut budget, now);
        self.spend(token, budget);
        self.keep(token, carry);
        self.follow(token, flow, now);
    }

    /// Puts the carry back, or its buffer aside if it is empty: an idle connection owns none.
    fn keep(&mut self, token: Token, carry: Vec<u8>) {
        if carry.is_empty() {
            self.spare.take_back(carry);
            return;
        }
        if let Some(connection) = self.connection(token) {
            connection.carry = carry;
        }
    }

    /// What the broker wants next with a connection.
    fn follow(&mut self, token: Token, flow: Flow, now: Now) {
        let Some(connection) = self.connection(token) else {
            return;
        };
        match flow {
            Flow::Continue => {
                connection.state = State::Home;
                if let Some(loss) = connection.ended {
                    self.lost(token, loss, now);
                } else if !connection.receiving {
                    self.arm_receive(token);
                }
            }
            Flow::Pause => {
                connection.state = State::Paused;
                if connection.receiving {
                    self.ring.cancel_receive(token);
                }
                self.paused.push(token.slot);
                self.watch_paused(token, now);
            }
            Flow::Park => {
                // It is put into the list of those that go on when the answer has come.
                connection.state = State::Paused;
                if connection.receiving {
                    self.ring.cancel_receive(token);
                }
            }
            // The broker has put it into its list of connections with something to do.
            Flow::Closing => {}
        }
    }

    /// Goes on with the connections that were paused, each within its budget.
    pub(super) fn resume_paused(&mut self, now: Now) {
        for slot in std::mem::take(&mut self.paused) {
            let connection = self
                .connections
                .get(slot as usize)
                .and_then(Option::as_deref);
            let Some(connection) =
                connection.filter(|connection| connection.state == State::Paused)
            else {
                continue;
            };
            if connection.turn == self.turns || !self.broker.may_resume(slot, now) {
                // It has had its share of this turn, or what it waits for is not there.
                self.paused.push(slot);
                continue;
            }
            self.take_carry(connection.token, now);
        }
    }

    pub(super) fn arm_receive(&mut self, token: Token) {
        let Some(connection) = self
            .connections
            .get_mut(token.slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        connection.receiving = true;
        self.ring
            .receive_multishot(connection.socket.as_fd(), token);
    }

    /// What is left of a connection's share of this turn.
    fn budget(&mut self, token: Token) -> Budget {
        let turn = self.turns;
        let share = self.config.network.receive_budget_bytes;
        let Some(connection) = self.connection(token) else {
            return Budget { bytes: 0 };
        };
        if connection.turn != turn {
            connection.turn = turn;
            connection.turn_cost = 0;
        }
        Budget {
            bytes: share.saturating_sub(connection.turn_cost) as usize,
        }
    }

    /// Notes what is left of a budget.
    fn spend(&mut self, token: Token, left: Budget) {
        let share = self.config.network.receive_budget_bytes;
        // Not more is left than there was.
        let left = u32::try_from(left.bytes).unwrap_or(share);
        let cost = share.saturating_sub(left);
        self.watch.weigh(token.slot, cost);
        if let Some(connection) = self.connection(token) {
            connection.turn_cost = cost;
        }
    }
}

/// Whether a client has closed its sending side or all of it, without taking what it has sent before.
fn has_hung_up(socket: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(socket, PollFlags::RDHUP)];
    let found = poll(&mut fds, Some(&Timespec::default()));
    found.is_ok_and(|found| found > 0)
}

/// Appends a received buffer to its connection's carry.
fn connection_bytes(shard: &mut Shard, token: Token, buffer: &Buffer) {
    if let Some(connection) = shard
        .connections
        .get_mut(token.slot as usize)
        .and_then(Option::as_deref_mut)
    {
        if connection.carry.capacity() == 0 {
            connection.carry = shard.spare.lend();
        }
        connection.carry.extend_from_slice(shard.ring.bytes(buffer));
    }
}

/// Gives the broker received bytes, with what is carried before them: what is carried from then on, and
/// what is next.
#[inline]
fn take_bytes(
    broker: &mut Broker,
    spare: &mut Buffers,
    slot: u32,
    mut carry: Vec<u8>,
    bytes: &[u8],
    budget: &mut Budget,
    now: Now,
) -> (Vec<u8>, Flow) {
    let mut flow = Flow::Continue;
    let mut rest = bytes;
    while !carry.is_empty() && !rest.is_empty() && flow == Flow::Continue {
        // Only as much as completes the packet is copied; the rest is taken in place.
        let wanted = match frame(&carry, usize::MAX) {
            Ok(Framing::Incomplete {
                packet_bytes: Some(packet_bytes),
            }) => packet_bytes - carry.len(),
            _ => 1,
        };
        let (head, tail) = rest.split_at(wanted.min(rest.len()));
        carry.extend_from_slice(head);
        rest = tail;
        let progress = broker.receive(slot, &carry, budget, now);
        carry.drain(..progress.consumed);
        flow = progress.flow;
    }
    if carry.is_empty() && flow == Flow::Continue {
        let progress = broker.receive(slot, rest, budget, now);
        rest = &rest[progress.consumed..];
        flow = progress.flow;
    }
    if !rest.is_empty() && flow != Flow::Closing {
        if carry.capacity() == 0 {
            carry = spare.lend();
        }
        carry.extend_from_slice(rest);
    }
    (carry, flow)
}
