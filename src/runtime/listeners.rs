//! The listeners that are open, as the whole process sees them.
//!
//! Used by `launch` and `reload`. The sockets are the shards'; here is what belongs to all of them together:
//! the address, the count of connections, the file of a Unix socket.

use std::sync::Arc;

use crate::config::address::ListenAddress;
use crate::config::{Config, Listener};
use crate::net::listener::{self, BoundListener, ListenError};
use crate::shard::{ListenerGate, ListenerSocket};

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
        shards: usize,
        backlog: u32,
        shares_port: bool,
    ) -> Result<Self, ListenError> {
        let (address, unix) = (&listener.address, &listener.unix);
        Ok(Self {
            place,
            bound: listener::bind(address, unix, shards, backlog, shares_port)?,
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
pub fn open_listeners(config: &Config, shards: usize) -> Result<Vec<OpenListener>, ListenError> {
    (0u16..)
        .zip(&config.listeners)
        .map(|(place, listener)| {
            let backlog = config.network.listen_backlog;
            OpenListener::open(place, listener, shards, backlog, false)
        })
        .collect()
}
