//! The listeners that are open, as the whole process sees them.
//!
//! Used by `launch` and `reload`. The sockets are the shards'; here is what belongs to all of them together:
//! the address, the count of connections, the file of a Unix socket.

use std::os::fd::AsFd;
use std::sync::Arc;

use crate::config::address::ListenAddress;
use crate::config::{Config, Listener};
use crate::net::listener::{self, BoundListener, ListenError};
use crate::shard::{ListenerGate, ListenerSocket};

use super::activation::Passed;

/// What listeners are opened with.
#[derive(Clone, Copy, Debug)]
pub struct Opening<'a> {
    /// What the service manager passed.
    pub passed: &'a Passed,
    /// How many sockets each needs.
    pub shards: usize,
    /// `network.listen_backlog`.
    pub backlog: u32,
}

/// A listener that is open.
#[derive(Debug)]
pub struct OpenListener {
    /// Its place in the configuration.
    pub place: u16,
    bound: BoundListener,
    gate: Arc<ListenerGate>,
}

impl OpenListener {
    /// Listens with one socket for each shard.
    ///
    /// # Errors
    /// With address and remedy.
    pub fn open(
        place: u16,
        listener: &Listener,
        opening: &Opening<'_>,
        shares_port: bool,
    ) -> Result<Self, ListenError> {
        let (address, unix) = (&listener.address, &listener.unix);
        let Opening {
            passed,
            shards,
            backlog,
        } = *opening;
        let bound = match passed.of(listener) {
            Some(passed) => listener::take_over(&passed.address, passed.socket.as_fd(), shards)?,
            None => listener::bind(address, unix, shards, backlog, shares_port)?,
        };
        Ok(Self {
            place,
            bound,
            gate: ListenerGate::new(listener.limits.connections_max),
        })
    }

    /// Where it listens, with the port that the kernel chose.
    pub fn address(&self) -> &ListenAddress {
        &self.bound.address
    }

    /// The socket of the next shard, once each.
    pub fn next_socket(&mut self) -> Option<ListenerSocket> {
        let socket = self.bound.sockets.pop()?;
        Some(ListenerSocket {
            place: self.place,
            socket,
            gate: Arc::clone(&self.gate),
        })
    }

    /// Has another place and limit from now on.
    pub fn move_to(&mut self, place: u16, listener: &Listener) {
        self.place = place;
        self.gate.limit(listener.limits.connections_max);
    }
}

/// Opens all listeners of a configuration.
///
/// # Errors
/// The first that cannot be opened; the others are closed again.
pub fn open_listeners(
    config: &Config,
    opening: &Opening<'_>,
) -> Result<Vec<OpenListener>, ListenError> {
    (0u16..)
        .zip(&config.listeners)
        .map(|(place, listener)| OpenListener::open(place, listener, opening, false))
        .collect()
}
