//! From accept to a connection of this shard: who is let in, and who is told no.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use crate::broker::Now;
use crate::config::limits::REFUSED_LINE_EVERY_MS;
use crate::net::listener::set_nodelay;
use crate::net::peer::PeerAddress;
use crate::net::ring::Token;
use crate::net::transport::Transport;
use crate::observability::counters::EndCause;

use super::Shard;
use super::connection::{Full, NetConnection, Permit, State};
use super::control::ip_text;
use super::turn::{Listener, Timer, log_abandoned};

/// How long accept rests when descriptors have run out, milliseconds.
const ACCEPT_RETRY_MS: u64 = 100;

impl Shard {
    pub(super) fn accepted(
        &mut self,
        token: Token,
        result: io::Result<OwnedFd>,
        more: bool,
        now: Now,
    ) {
        let Some(index) = self
            .listeners
            .iter()
            .position(|listener| listener.token == token)
        else {
            return;
        };
        let banned = result
            .as_ref()
            .is_ok_and(|socket| self.is_banned(socket, now));
        let listener = &mut self.listeners[index];
        let place = listener.place;
        listener.armed = more;
        if listener.closing {
            self.let_go(token);
            return;
        }
        match result {
            Ok(socket) if banned => {
                self.broker.count_ended(EndCause::Banned);
                log_abandoned(&PeerAddress::of(&socket), "the address is banned");
            }
            Ok(socket) => match listener.gate.enter(now.mono_ms) {
                Ok(permit) if !self.draining => self.admit(socket, place, permit, now),
                Ok(_) => log_abandoned(&PeerAddress::of(&socket), "the server is shutting down"),
                Err(full) => {
                    let (counted, cause) = match full {
                        Full::Connections => (
                            EndCause::ConnectionsMax,
                            "connections_max is reached; raise it or close others",
                        ),
                        Full::Rate => {
                            (EndCause::ConnectionRate, "connections_per_s_max is reached")
                        }
                    };
                    self.broker.count_ended(counted);
                    self.note_refused(place, &PeerAddress::of(&socket), cause, now);
                }
            },
            Err(error) if matches!(error.raw_os_error(), Some(libc::ECANCELED)) => return,
            Err(error) if is_exhausted(&error) => {
                tracing::warn!(
                    listener = self.config.listeners[usize::from(place)].name,
                    %error,
                    "cannot accept; raise LimitNOFILE (ulimit -n); trying again in {ACCEPT_RETRY_MS} ms"
                );
                self.wheel
                    .set(now.mono_ms + ACCEPT_RETRY_MS, Timer::Accept(token));
                return;
            }
            Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
        }
        if !more {
            self.arm_accept(token);
        }
    }

    /// Whether nobody may connect from where this connection comes from.
    fn is_banned(&self, socket: &OwnedFd, now: Now) -> bool {
        let address = || ip_text(&PeerAddress::of(socket)).unwrap_or_default();
        self.broker.is_banned_address(address, now)
    }

    /// Logs that a listener refuses somebody: one line for all who knock within a moment.
    pub(super) fn note_refused(
        &mut self,
        place: u16,
        address: &PeerAddress,
        cause: &str,
        now: Now,
    ) {
        let of_place = |listener: &&mut Listener| listener.place == place;
        let Some(listener) = self.listeners.iter_mut().find(of_place) else {
            return log_abandoned(address, cause);
        };
        listener.refused += 1;
        if now.mono_ms < listener.refused_line_ms {
            return;
        }
        listener.refused_line_ms = now.mono_ms + REFUSED_LINE_EVERY_MS;
        let refused = std::mem::take(&mut listener.refused);
        tracing::warn!(
            listener = self.config.listeners[usize::from(listener.place)].name,
            %address,
            refused,
            "connection refused: {cause}"
        );
    }

    pub(super) fn arm_accept(&mut self, token: Token) {
        let listener = self
            .listeners
            .iter_mut()
            .find(|listener| listener.token == token);
        if let Some(listener) = listener
            && !self.draining
            && !listener.closing
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
        let configured = &self.config.listeners[usize::from(listener)];
        let doors = &configured.doors;
        // Whom a proxy speaks for is seen when the proxy has told it.
        let welcome = doors.lets_in(peer.ip());
        let cause = match doors.proxy_protocol {
            true => "it is not among trusted_proxies",
            false => "the address may not connect",
        };
        let transport = Transport::of(doors);
        if !welcome {
            self.broker.count_ended(EndCause::AddressDenied);
            self.note_refused(listener, &peer, cause, now);
            return;
        }
        let token = self.ring.open();
        self.ring.receive_once(socket.as_fd(), token);
        self.start_connect_timer(token, listener, now);
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
            watched: false,
            turn: 0,
            turn_cost: 0,
            permit,
            encoded: transport.is_some(),
        });
        self.transports.put(token, transport);
    }

    /// From now on the connection has `connect_timeout_s` of its listener for CONNECT.
    pub(super) fn start_connect_timer(&mut self, token: Token, listener: u16, now: Now) {
        let limits = &self.config.listeners[usize::from(listener)].limits;
        let at_ms = now.mono_ms + u64::from(limits.connect_timeout_s) * 1000;
        self.wheel.set(at_ms, Timer::Connect(token));
    }
}

/// Whether accept failed because something has run out.
fn is_exhausted(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::ENOBUFS)
    )
}
