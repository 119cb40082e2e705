//! Deadlines: Keep Alive, Will delay, session expiry, `$SYS`, expired retained messages.
//!
//! A timer names what it was set for by generation and epoch; what has changed since makes it void.

use crate::mqtt::reason_code::ReasonCode;
use crate::routing::ids::SessionIndex;

use super::clients::Clients;
use super::fault::{self, Fault};
use super::{Broker, Now};

/// How often expired retained messages are removed, milliseconds.
const SWEEP_EVERY_MS: u64 = 1_000;
/// How many at a time; if there were so many, the next follow in the next tick.
const SWEEP_MESSAGES_MAX: usize = 10_000;

/// What a deadline is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// One and a half times the Keep Alive may be over.
    KeepAlive { slot: u32, serial: u32 },
    /// A client may publish again; the shard only has to be awake.
    PublishRate { slot: u32, serial: u32 },
    /// The credentials of a connection may have ended.
    Credentials { slot: u32, serial: u32 },
    /// The Will Delay Interval is over.
    Will {
        session: SessionIndex,
        generation: u32,
        epoch: u32,
    },
    /// The Session Expiry Interval is over.
    SessionExpiry {
        session: SessionIndex,
        generation: u32,
        epoch: u32,
    },
    /// `$SYS` topics are due, unless the interval has been changed.
    SystemTopics { round: u32 },
    /// `$SYS` topics are due at once.
    SystemTopicsAtOnce,
    /// Deliveries of retained messages may go on.
    Retained {
        session: SessionIndex,
        generation: u32,
    },
    /// Retained messages may have expired.
    Sweep,
}

impl Timer {
    /// Whether what it was set for is still so; otherwise it is void.
    fn is_current(&self, clients: &Clients) -> bool {
        match *self {
            Self::KeepAlive { slot, serial }
            | Self::PublishRate { slot, serial }
            | Self::Credentials { slot, serial } => clients
                .connection(slot)
                .is_some_and(|connection| connection.serial == serial),
            Self::Will {
                session,
                generation,
                epoch,
            }
            | Self::SessionExpiry {
                session,
                generation,
                epoch,
            } => clients
                .session(session)
                .is_some_and(|session| session.generation == generation && session.epoch == epoch),
            Self::Retained {
                session,
                generation,
            } => clients
                .session(session)
                .is_some_and(|session| session.generation == generation),
            Self::SystemTopics { .. } | Self::SystemTopicsAtOnce | Self::Sweep => true,
        }
    }
}

impl Broker {
    pub(super) fn start_timers(&mut self, now: Now) {
        self.arm_system_topics(now);
    }

    /// When [`Self::tick`] is to be called, monotonic milliseconds.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.wheel.next_deadline_ms()
    }

    /// Does what is due; gives how much that was.
    pub fn tick(&mut self, now: Now) -> usize {
        let mut due = std::mem::take(&mut self.due);
        let clients = &self.clients;
        let is_current = |timer: &Timer| timer.is_current(clients);
        self.wheel
            .advance_current(now.mono_ms, &mut due, is_current);
        let fired = due.len();
        for timer in due.drain(..) {
            self.fire(timer, now);
        }
        self.due = due;
        fired
    }

    fn fire(&mut self, timer: Timer, now: Now) {
        match timer {
            Timer::KeepAlive { slot, serial } => self.check_keep_alive(slot, serial, now),
            Timer::PublishRate { .. } => {}
            Timer::Credentials { slot, serial } => self.check_credentials(slot, serial, now),
            Timer::Will { session, .. } => {
                if timer.is_current(&self.clients) {
                    self.publish_will(session, None, now);
                }
            }
            Timer::SessionExpiry { session, .. } => {
                if timer.is_current(&self.clients) && !fault::on(Fault::SessionKept) {
                    self.clients.counters.sessions_expired += 1;
                    self.end_session(session, now);
                }
            }
            Timer::SystemTopics { round } => self.system_topics_due(round, now),
            Timer::SystemTopicsAtOnce => self.system_topics_at_once_due(now),
            Timer::Retained {
                session,
                generation,
            } => self.resume_retained(session, generation, now),
            Timer::Sweep => self.sweep_retained(now),
        }
    }

    fn check_keep_alive(&mut self, slot: u32, serial: u32, now: Now) {
        let Some(connection) = self
            .clients
            .connection(slot)
            .filter(|connection| connection.serial == serial)
        else {
            return;
        };
        let Some(deadline) = connection.keep_alive_deadline_ms() else {
            return;
        };
        if self.clients.session_of(slot).is_none() {
            return;
        }
        if now.mono_ms >= deadline && !fault::on(Fault::KeepAliveIgnored) {
            self.end(
                slot,
                ReasonCode::KeepAliveTimeout,
                "no packet within one and a half Keep Alive",
                now,
            );
        } else {
            self.wheel.set(deadline, Timer::KeepAlive { slot, serial });
        }
    }

    /// Sets the timer for the end of a session's credentials, if they end.
    pub(super) fn arm_credentials_timer(&mut self, slot: u32, session: SessionIndex, now: Now) {
        let permit = self.clients.permits.of(session);
        let Some(expires_unix_s) = permit.and_then(|permit| permit.principal.expires_unix_s) else {
            return;
        };
        let Some(connection) = self.clients.connection(slot) else {
            return;
        };
        let serial = connection.serial;
        let left_ms = expires_unix_s
            .saturating_sub(now.unix_s)
            .saturating_mul(1000);
        let timer = Timer::Credentials { slot, serial };
        self.wheel.set(now.mono_ms.saturating_add(left_ms), timer);
    }

    /// Ends a connection whose credentials have ended, unless it has authenticated again.
    fn check_credentials(&mut self, slot: u32, serial: u32, now: Now) {
        let connection = self.clients.connection(slot);
        if connection.is_none_or(|connection| connection.serial != serial) {
            return;
        }
        let Some(session) = self.clients.session_of(slot) else {
            return;
        };
        let permit = self.clients.permits.of(session);
        let Some(expires_unix_s) = permit.and_then(|permit| permit.principal.expires_unix_s) else {
            return;
        };
        if now.unix_s < expires_unix_s {
            self.arm_credentials_timer(slot, session, now);
            return;
        }
        let cause = "the credentials of the client have expired";
        self.end(slot, ReasonCode::MaximumConnectTime, cause, now);
    }

    /// Starts to remove expired retained messages; called when one that can expire is set.
    pub(super) fn arm_sweep(&mut self, now: Now) {
        if !self.sweep_armed {
            self.sweep_armed = true;
            self.wheel.set(now.mono_ms + SWEEP_EVERY_MS, Timer::Sweep);
        }
    }

    fn sweep_retained(&mut self, now: Now) {
        let removed = self
            .retained
            .remove_expired(SWEEP_MESSAGES_MAX, now.mono_ms);
        self.sweep_armed = self.retained.can_expire();
        if self.sweep_armed {
            let pause_ms = match removed {
                SWEEP_MESSAGES_MAX => 0,
                _ => SWEEP_EVERY_MS,
            };
            self.wheel.set(now.mono_ms + pause_ms, Timer::Sweep);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::broker::{Budget, Flow};
    use crate::config::Config;
    use crate::routing::ids::ShardId;
    use crate::routing::topic_hash::TopicHasher;

    /// CONNECT with a Session Expiry Interval of 4,000,000 s, the longest Keep Alive and a Will after
    /// 4,000,000 s.
    const CONNECT: &[u8] = b"\x10\x1f\0\x04MQTT\x05\x06\xff\xff\x05\x11\0\x3d\x09\0\0\x01c\
        \x05\x18\0\x3d\x09\0\0\x01w\0\x01x";

    #[test]
    fn clients_that_come_and_go_with_long_intervals_leave_no_timers() {
        let mut now = Now {
            mono_ms: 0,
            unix_s: 0,
        };
        let config = Arc::new(Config::default());
        let mut broker = Broker::new(ShardId(0), 1, config, TopicHasher::new(1), now);
        let mut most = 0;
        for _ in 0..1_000 {
            broker.open(0, 0, now);
            let mut budget = Budget { bytes: 1_000 };
            let progress = broker.receive(0, CONNECT, &mut budget, now);
            assert_eq!(
                (progress.consumed, progress.flow),
                (CONNECT.len(), Flow::Continue)
            );
            broker.network_closed(0, "cut", now);
            broker.release(0);
            now.mono_ms += 1_000;
            broker.tick(now);
            most = most.max(broker.wheel.len());
        }
        // Three for each client of the last 20 s.
        assert!(most <= 3 * 22, "{most} timers");
        assert_eq!(broker.clients.sessions.len(), 1);
        now.mono_ms += 4_000_000_000;
        broker.tick(now);
        assert!(broker.clients.sessions.is_empty(), "the last one expires");
    }
}
