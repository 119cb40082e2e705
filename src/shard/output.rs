//! Output of the connections: one send each per turn, and the way to a clean close.

use std::io;
use std::os::fd::AsFd;

use crate::broker::Now;
use crate::broker::output::Segment;
use crate::net::ring::{Chunk, SendBatch, Token};
use crate::observability::counters::EndCause;

use super::Shard;
use super::connection::{Loss, State};
use super::turn::{Timer, log_abandoned};

/// How long a client may take to close at shutdown, milliseconds: it has been told, and everybody waits.
const DRAIN_LINGER_MS: u64 = 500;

impl Shard {
    pub(super) fn shard_count(&self) -> u16 {
        // There are at most `SHARDS_MAX`.
        u16::try_from(self.peer_count()).unwrap_or(u16::MAX)
    }

    /// Sends the output of all connections that have any.
    pub(super) fn flush_outputs(&mut self, now: Now) {
        while let Some(slot) = self.broker.next_dirty() {
            let connection = self
                .connections
                .get(slot as usize)
                .and_then(Option::as_deref);
            if let Some(token) = connection.map(|connection| connection.token) {
                self.flush(token, now);
            }
        }
    }

    fn flush(&mut self, token: Token, now: Now) {
        if self.ring.is_sending(token) {
            return; // its completion flushes
        }
        let Some(connection) = self
            .connections
            .get(token.slot as usize)
            .and_then(Option::as_deref)
        else {
            return;
        };
        // A slot that was given out again may still stand in the broker's list.
        if matches!(connection.state, State::Connecting | State::Finishing) {
            return;
        }
        let mut batch = SendBatch::default();
        let waits = self.broker.take_output(token.slot, |segment| {
            batch.chunks.push(match segment {
                Segment::Packets(packets) => Chunk::Owned(packets),
                Segment::Payload(payload) => Chunk::Shared(payload),
            });
        });
        if waits {
            self.ring.send(connection.socket.as_fd(), token, batch);
        } else if self.broker.is_closing(token.slot) {
            self.linger(token, now);
        }
        if self.broker.is_closing(token.slot) {
            self.start_linger_timer(token, now);
        }
    }

    /// A batch is written.
    pub(super) fn sent(
        &mut self,
        token: Token,
        result: io::Result<usize>,
        batch: SendBatch,
        now: Now,
    ) {
        for chunk in batch.chunks {
            if let Chunk::Owned(buffer) = chunk {
                self.broker.recycle(buffer);
            }
        }
        let Some(connection) = self.connection(token) else {
            return;
        };
        if connection.state == State::Finishing {
            self.close_if_idle(token);
            return;
        }
        match result {
            Ok(_) => {
                self.broker.output_sent(token.slot, now);
                self.flush(token, now);
            }
            Err(_) => {
                self.lost(token, Loss::Reset, now);
                let goes_on = self
                    .connection(token)
                    .is_some_and(|connection| connection.state == State::Paused);
                if goes_on {
                    // What it has sent is still taken; what it is sent is lost.
                    self.broker.output_sent(token.slot, now);
                    self.flush(token, now);
                }
            }
        }
    }

    fn start_linger_timer(&mut self, token: Token, now: Now) {
        let linger_ms = match self.is_draining() {
            true => DRAIN_LINGER_MS,
            false => u64::from(self.config.network.close_linger_s) * 1000,
        };
        let Some(connection) = self.connection(token) else {
            return;
        };
        if matches!(connection.state, State::Home | State::Paused) {
            connection.state = State::Lingering;
            self.wheel
                .set(now.mono_ms + linger_ms, Timer::Linger(token));
        }
    }

    /// All output is sent: the client is told that nothing more comes, and what it still sends is thrown
    /// away until it closes or the time is over.
    fn linger(&mut self, token: Token, now: Now) {
        self.start_linger_timer(token, now);
        let Some(connection) = self
            .connections
            .get_mut(token.slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        connection.carry = Vec::new();
        if !connection.half_closed {
            connection.half_closed = true;
            // Fails only if the client is gone, which the receive will say.
            let _ = rustix::net::shutdown(&connection.socket, rustix::net::Shutdown::Write);
        }
        if !connection.receiving {
            self.arm_receive(token);
        }
    }

    /// Ends a connection that has not come home.
    pub(super) fn abandon(&mut self, token: Token, counted: EndCause, cause: &'static str) {
        self.broker.count_ended(counted);
        if let Some(connection) = self.connection(token) {
            log_abandoned(&connection.peer, cause);
        }
        self.finish(token);
    }

    /// Closes a connection: cancels what is in flight, and lets go of the socket when all of it has ended.
    pub(super) fn finish(&mut self, token: Token) {
        let Some(connection) = self.connection(token) else {
            return;
        };
        connection.state = State::Finishing;
        connection.carry = Vec::new();
        if connection.receiving {
            self.ring.cancel_receive(token);
        }
        if self.ring.is_sending(token) {
            self.ring.cancel_send(token);
        }
        self.close_if_idle(token);
    }

    pub(super) fn close_if_idle(&mut self, token: Token) {
        if self.ring.is_idle(token) && self.connection(token).is_some() {
            self.log_ended();
            self.broker.release(token.slot);
            self.remove(token);
        }
    }
}
