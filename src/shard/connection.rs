//! A socket and where it stands, from accept to close.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::net::peer::PeerAddress;
use crate::net::ring::Token;

/// Counts the connections of a listener over all shards.
#[derive(Debug)]
pub struct ListenerGate {
    open: AtomicU32,
    connections_max: AtomicU32,
}

impl ListenerGate {
    /// A gate for at most `connections_max` at once.
    pub fn new(connections_max: u32) -> Arc<Self> {
        Arc::new(Self {
            open: AtomicU32::new(0),
            connections_max: AtomicU32::new(connections_max),
        })
    }

    /// Lets at most `connections_max` in from now on; those that are in stay.
    pub fn limit(&self, connections_max: u32) {
        self.connections_max
            .store(connections_max, Ordering::Relaxed);
    }

    /// Lets one more in, unless the listener is full.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Permit> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        let permit = Permit(Arc::clone(self));
        (before < self.connections_max.load(Ordering::Relaxed)).then_some(permit)
    }
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
    /// All that was received: CONNECT and what followed it in the same segment.
    pub(super) unread: Box<[u8]>,
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

/// How the network ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// The client closed it.
    Closed,
    /// It was reset.
    Reset,
}

impl Loss {
    /// The cause in words.
    pub(super) fn cause(self) -> &'static str {
        match self {
            Self::Closed => "the client closed the connection",
            Self::Reset => "the connection was reset",
        }
    }
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
    /// How the network ended a paused connection: what was received before is taken first.
    pub(super) ended: Option<Loss>,
    /// Whether a timer looks after it because it was paused.
    pub(super) watched: bool,
    /// In which turn `turn_cost` was spent.
    pub(super) turn: u32,
    /// What its packets have cost in that turn, in the unit of its budget.
    pub(super) turn_cost: u32,
    pub(super) permit: Permit,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_that_does_nothing_is_small() {
        assert!(size_of::<NetConnection>() <= 80);
    }
}
