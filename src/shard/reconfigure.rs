//! Another configuration for a shard that runs.
//!
//! First every shard gets the configuration, with the places of all listeners old and new, then listeners are
//! changed: so a connection that comes from another shard never names a place that is not known here.

use std::sync::Arc;

use crate::broker::Now;
use crate::config::Config;
use crate::net::listener::set_backlog;
use crate::net::ring::Token;

use super::turn::{ListenerSocket, Shard};

/// What is done with a listener of a shard.
#[derive(Debug)]
pub enum ListenerChange {
    /// Accept here.
    Open(ListenerSocket),
    /// Who is accepted from now on belongs to another place in the configuration.
    Move {
        /// The place so far.
        from: u16,
        /// The place from now on.
        to: u16,
    },
    /// Accept nobody any more.
    Close(u16),
}

impl Shard {
    /// Takes over a configuration between two packets.
    pub(super) fn reconfigure(&mut self, config: Arc<Config>, now: Now) {
        let backlog = config.network.listen_backlog;
        if backlog != self.config.network.listen_backlog {
            for listener in &self.listeners {
                set_backlog(&listener.socket, backlog);
            }
        }
        self.broker.reconfigure(Arc::clone(&config), now);
        self.config = config;
    }

    pub(super) fn change_listeners(&mut self, changes: Vec<ListenerChange>) {
        for change in changes {
            match change {
                ListenerChange::Open(listener) => self.listen(listener),
                ListenerChange::Move { from, to } => {
                    for listener in &mut self.listeners {
                        if listener.place == from {
                            listener.place = to;
                        }
                    }
                }
                ListenerChange::Close(place) => self.close_listener(place),
            }
        }
    }

    fn close_listener(&mut self, place: u16) {
        let of_place = |listener: &&mut super::turn::Listener| listener.place == place;
        let Some(listener) = self.listeners.iter_mut().find(of_place) else {
            return;
        };
        listener.closing = true;
        let token = listener.token;
        match listener.armed {
            true => self.ring.cancel_accept(token),
            false => self.let_go(token),
        }
    }

    /// Closes a listener's socket once nothing of it is in flight.
    pub(super) fn let_go(&mut self, token: Token) {
        if self.ring.is_idle(token) {
            self.listeners.retain(|listener| listener.token != token);
            self.ring.release(token);
        }
    }
}
