//! A socket and where it stands, from accept to close.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::net::peer::PeerAddress;
use crate::net::ring::Token;
use crate::net::transport::Transport;

use super::rate::SharedBucket;

/// Counts the connections of a listener over all shards.
#[derive(Debug)]
pub struct ListenerGate {
    open: AtomicU32,
    connections_max: u32,
    connections_per_s_max: u32,
    bucket: SharedBucket,
}

impl ListenerGate {
    /// A gate for at most `connections_max` at once, and so many in a second; 0 is no limit.
    pub fn new(connections_max: u32, connections_per_s_max: u32) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicU32::new(0),
            connections_max,
            connections_per_s_max,
            bucket: SharedBucket::default(),
        })
    }

    /// Lets one more in, unless the listener is full or too many have come.
    pub(super) fn enter(self: &Arc<Self>, now_ms: u64) -> Result<Permit, Full> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        if before >= self.connections_max {
            return Err(Full::Connections);
        }
        match self.bucket.take(self.connections_per_s_max, now_ms) {
            true => Ok(permit),
            false => Err(Full::Rate),
        }
    }
}

/// Why a listener lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// `connections_max`.
    Connections,
    /// `connections_per_s_max`.
    Rate,
}

/// A connection's place at its listener, given back when it is dropped.
#[derive(Debug)]
pub struct Permit(Arc<ListenerGate>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on its way from the shard that accepted it to its home.
#[derive(Debug)]
pub struct Handover {
    pub(super) socket: OwnedFd,
    pub(super) listener: u16,
    pub(super) peer: PeerAddress,
    pub(super) permit: Permit,
    pub(super) transport: Option<Box<Transport>>,
    /// All that was received: CONNECT and what followed it in the same segment.
    pub(super) unread: Vec<u8>,
}

/// Where a socket stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// CONNECT is not complete; receives are one by one, so that nothing is in flight at the hand-over.
    Connecting,
    /// At home, at work.
    Home,
    /// At home; the rest of what was received waits for a later turn.
    Paused,
    /// The broker is done with it: the last output is sent, then what still comes is thrown away until the
    /// client has closed, so that the kernel does not cut off what the client has not read yet.
    Lingering,
    /// To be closed as soon as nothing is in flight.
    Finishing,
}

/// A socket of this shard.
#[derive(Debug)]
pub(super) struct NetConnection {
    pub(super) socket: OwnedFd,
    pub(super) token: Token,
    pub(super) state: State,
    /// Whether a receive is armed.
    pub(super) receiving: bool,
    /// Whether the sending side is shut down.
    pub(super) half_closed: bool,
    pub(super) listener: u16,
    pub(super) peer: PeerAddress,
    /// Received and not taken yet: a part of a packet, or what a paused connection left.
    pub(super) carry: Vec<u8>,
    /// Why the network ended a paused connection: what was received before is taken first.
    pub(super) ended: Option<&'static str>,
    /// In which turn `turn_cost` was spent.
    pub(super) turn: u64,
    /// What its packets have cost in that turn, in the unit of its budget.
    pub(super) turn_cost: usize,
    pub(super) permit: Permit,
    /// What lies below its MQTT; none if nothing does.
    pub(super) transport: Option<Box<Transport>>,
}
