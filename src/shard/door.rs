//! Connections with a transport: the way in through PROXY header, TLS and WebSocket, and bytes both ways.
//!
//! The way in is decoded at the end of a turn, after the output of those who are connected has left, and for
//! no longer than [`DOORS_PER_TURN`]: a handshake costs as much as thousands of messages. One that must wait
//! for a token waits without a receive, so that nothing of it is in flight.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use crate::broker::Now;
use crate::broker::output::Segment;
use crate::net::ring::{Buffer, Chunk, SendBatch, Token};
use crate::net::transport::Fault;
use crate::observability::counters::EndCause;

use super::Shard;
use super::connection::{Loss, NetConnection, State};
use super::rate::{Bucket, SourceBuckets};
use super::turn::{Timer, log_abandoned};

/// How long a turn works on connections that are coming in.
const DOORS_PER_TURN: Duration = Duration::from_millis(1);

/// The connections that are on their way in.
#[derive(Debug, Default)]
pub(super) struct DoorQueue {
    /// Have sent something that is not decoded; each once, so no more than `connections_max`.
    pub(super) queue: VecDeque<Token>,
    /// Wait for their handshake to begin, at most `tls_handshakes_waiting_max`.
    pub(super) waiting: VecDeque<Token>,
    handshakes: Bucket,
    sources: SourceBuckets,
}

impl Shard {
    /// Bytes of a connection that is coming in: they wait for the end of the turn.
    pub(super) fn received_at_door(&mut self, token: Token, buffer: Buffer) {
        if let Some(transport) = self.transports.of(token) {
            transport.unread.extend_from_slice(self.ring.bytes(&buffer));
            if !transport.queued {
                transport.queued = true;
                self.doors.queue.push_back(token);
            }
        }
        self.ring.recycle(buffer);
    }

    /// Works on the connections that are coming in. At least one gets on.
    pub(super) fn open_doors(&mut self, now: Now) {
        if self.doors.queue.is_empty() && self.doors.waiting.is_empty() {
            return;
        }
        let started = Instant::now();
        while let Some(token) = self.next_at_door(now) {
            self.open_door(token, now);
            if started.elapsed() >= DOORS_PER_TURN {
                return;
            }
        }
    }

    /// Those who go on with their handshake come before those who begin.
    fn next_at_door(&mut self, now: Now) -> Option<Token> {
        if let Some(token) = self.doors.queue.pop_front() {
            return Some(token);
        }
        while let Some(&token) = self.doors.waiting.front() {
            if self
                .connection(token)
                .is_some_and(|connection| is_at_door(connection))
            {
                let per_s = self.config.network.tls_handshakes_per_s_max;
                if !self.doors.handshakes.take(per_s, now.mono_ms) {
                    return None;
                }
                self.doors.waiting.pop_front();
                self.begin_tls(token, now);
                return Some(token);
            }
            self.doors.waiting.pop_front();
        }
        None
    }

    /// Decodes what a connection has sent so far.
    fn open_door(&mut self, token: Token, now: Now) {
        let Some(connection) = self
            .connections
            .get_mut(token.slot as usize)
            .and_then(Option::as_deref_mut)
            .filter(|connection| connection.token == token && is_at_door(connection))
        else {
            return;
        };
        let doors = &self.config.listeners[usize::from(connection.listener)].doors;
        let Some(transport) = self.transports.of(token) else {
            return;
        };
        transport.queued = false;
        match transport.take_header(doors, &mut connection.peer) {
            Ok(true) => {}
            Ok(false) => return self.receive_connecting(token),
            Err(fault) => return self.fault(token, fault, now),
        }
        if transport.awaits_tls() {
            return self.await_tls(token, now);
        }
        let was_handshaking = transport.is_handshaking();
        let peer = &mut connection.peer;
        let decoded =
            transport.receive_unread(doors, peer, &mut self.scratch, &mut connection.carry);
        if was_handshaking && let Some(resumed) = transport.is_resumed() {
            self.broker.count_handshake(resumed);
        }
        match decoded {
            Ok(()) => self.place(token, now),
            Err(fault) => self.fault(token, fault, now),
        }
    }

    /// A TLS handshake is to begin: as soon as there is a token for it.
    fn await_tls(&mut self, token: Token, now: Now) {
        let limits = &self.config.network;
        let waiting_max = limits.tls_handshakes_waiting_max as usize;
        let per_source = limits.tls_handshakes_per_source_per_s_max;
        let Some(source) = self
            .connection(token)
            .map(|connection| connection.peer.ip())
        else {
            return;
        };
        if !self.doors.sources.take(source, per_source, now.mono_ms) {
            let cause = "tls_handshakes_per_source_per_s_max is reached";
            return self.refuse_door(token, EndCause::TlsRate, cause, now);
        }
        if self.doors.waiting.len() >= waiting_max {
            let cause = "tls_handshakes_waiting_max is reached";
            return self.refuse_door(token, EndCause::TlsRate, cause, now);
        }
        self.doors.waiting.push_back(token);
    }

    fn begin_tls(&mut self, token: Token, now: Now) {
        let Some(connection) = self.connection(token) else {
            return;
        };
        let place = connection.listener;
        let Some(settings) = self.tls.current(place) else {
            return self.refuse_door(token, EndCause::Tls, "the listener has no TLS", now);
        };
        self.note_certificates();
        let Some(transport) = self.transports.of(token) else {
            return;
        };
        if let Err(fault) = transport.begin_tls(Arc::clone(&settings.config)) {
            self.fault(token, fault, now);
        }
    }

    /// When a connection that waits may begin, milliseconds; 0 if some can go on at once.
    pub(super) fn doors_due_ms(&self) -> Option<u64> {
        if !self.doors.queue.is_empty() {
            return Some(0);
        }
        let per_s = self.config.network.tls_handshakes_per_s_max;
        (!self.doors.waiting.is_empty()).then(|| self.doors.handshakes.next_ms(per_s))
    }

    /// Decodes bytes of a connection at home; false if it has no transport.
    pub(super) fn received_encoded(&mut self, token: Token, buffer: Buffer, now: Now) {
        let Some(connection) = self
            .connections
            .get_mut(token.slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return self.ring.recycle(buffer);
        };
        let Some(transport) = self.transports.of(token) else {
            return self.ring.recycle(buffer);
        };
        let doors = &self.config.listeners[usize::from(connection.listener)].doors;
        let mut stream = self.spare.lend();
        let decoded = transport.receive(
            doors,
            &mut connection.peer,
            self.ring.bytes(&buffer),
            &mut self.scratch,
            &mut stream,
        );
        self.ring.recycle(buffer);
        if !stream.is_empty() {
            match connection.state {
                State::Home => self.feed(token, &stream, now),
                _ => connection.carry.extend_from_slice(&stream),
            }
        }
        self.spare.take_back(stream);
        match decoded {
            Ok(()) if self.transports.has_pending(token) => self.flush(token, now),
            Ok(()) => {}
            Err(fault) => self.fault(token, fault, now),
        }
    }

    /// A transport ends its connection. What it has to say is sent, and the connection is closed gently.
    pub(super) fn fault(&mut self, token: Token, fault: Fault, now: Now) {
        let (counted, cause) = match fault {
            Fault::Closed => return self.closed_in_order(token, now),
            Fault::Proxy(cause) => (EndCause::ProxyHeader, cause.into()),
            Fault::Denied => (
                EndCause::AddressDenied,
                "the address may not connect".into(),
            ),
            Fault::Tls(cause) => (EndCause::Tls, format!("TLS: {cause}")),
            Fault::WebSocket(cause) => (EndCause::WebSocket, cause.to_owned()),
        };
        self.refuse_door(token, counted, &cause, now);
    }

    fn refuse_door(&mut self, token: Token, counted: EndCause, cause: &str, now: Now) {
        let Some(connection) = self.connection(token) else {
            return;
        };
        let (state, peer) = (connection.state, connection.peer.clone());
        let listener = connection.listener;
        self.broker.count_ended(counted);
        if matches!(state, State::Home | State::Paused) {
            self.broker
                .network_closed(token.slot, "the transport failed", now);
            self.log_ended();
        }
        match counted {
            // There may be many.
            EndCause::TlsRate | EndCause::AddressDenied => {
                self.note_refused(listener, &peer, cause, now);
            }
            _ => log_abandoned(&peer, cause),
        }
        let pending = self.transports.has_pending(token);
        // Without a word to say, without a turn more: a flood is refused at the least cost.
        match pending {
            true => self.see_off(token, now),
            false => self.finish(token),
        }
    }

    /// The client has closed its side in order: it gets the answer of the protocol that it speaks.
    fn closed_in_order(&mut self, token: Token, now: Now) {
        let Some(connection) = self.connection(token) else {
            return;
        };
        match connection.state {
            // What it has sent before is taken first.
            State::Paused if !connection.carry.is_empty() => self.lost(token, Loss::Closed, now),
            State::Home | State::Paused => {
                self.broker
                    .network_closed(token.slot, Loss::Closed.cause(), now);
                self.see_off(token, now);
            }
            _ => self.see_off(token, now),
        }
    }

    /// Sends what is left to be said, and closes.
    fn see_off(&mut self, token: Token, now: Now) {
        let linger_ms = u64::from(self.config.network.close_linger_s) * 1000;
        let Some(connection) = self.connection(token) else {
            return;
        };
        if matches!(connection.state, State::Finishing | State::Lingering) {
            return;
        }
        connection.state = State::Lingering;
        connection.carry = Vec::new();
        self.wheel
            .set(now.mono_ms + linger_ms, Timer::Linger(token));
        self.flush(token, now);
    }

    /// Sends what a transport has to say of its own while its connection is not at home.
    pub(super) fn send_pending(&mut self, token: Token) {
        if self.ring.is_sending(token) {
            return; // its completion comes here again
        }
        let Some(connection) = self
            .connections
            .get_mut(token.slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return;
        };
        let Some(transport) = self.transports.of(token) else {
            return;
        };
        if !transport.has_pending() {
            return;
        }
        let mut wire = self.spare.lend();
        transport.take_pending(&mut wire);
        let mut batch = SendBatch::default();
        batch.chunks.push(Chunk::Owned(wire));
        self.ring.send(connection.socket.as_fd(), token, batch);
    }

    /// A send of a connection that is coming in is complete.
    pub(super) fn sent_at_door(&mut self, token: Token, now: Now) {
        self.send_pending(token);
        let Some(transport) = self.transports.of(token) else {
            return;
        };
        let queued = transport.queued || !transport.unread.is_empty();
        let Some(connection) = self.connection(token) else {
            return;
        };
        // Only the move to another shard waits for it.
        if !queued && !connection.receiving {
            self.place(token, now);
        }
    }

    /// Encodes the output of a connection with a transport into a batch; false if there is none.
    pub(super) fn encode_output(&mut self, token: Token, batch: &mut SendBatch) -> bool {
        let Some(connection) = self
            .connections
            .get_mut(token.slot as usize)
            .and_then(Option::as_deref_mut)
        else {
            return false;
        };
        let Some(transport) = self.transports.of(token) else {
            return false;
        };
        let mut wire = self.spare.lend();
        transport.take_pending(&mut wire);
        let mut segments: SmallVec<[Segment; 2]> = SmallVec::new();
        if self
            .broker
            .take_output(token.slot, |segment| segments.push(segment))
        {
            let pieces = segments.iter().map(|segment| match segment {
                Segment::Packets(packets) => &packets[..],
                Segment::Payload(payload) => &payload[..],
            });
            if let Err(cause) = transport.send(pieces, &mut self.scratch, &mut wire) {
                tracing::debug!(address = %connection.peer, cause, "output is lost");
            }
            for segment in segments {
                if let Segment::Packets(packets) = segment {
                    self.broker.recycle(packets);
                }
            }
        }
        if wire.is_empty() {
            self.spare.take_back(wire);
            return false;
        }
        batch.chunks.push(Chunk::Owned(wire));
        true
    }
}

fn is_at_door(connection: &NetConnection) -> bool {
    connection.state == State::Connecting
}
