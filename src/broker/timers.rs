//! Deadlines: Keep Alive, Will delay, session expiry, `$SYS`, expired retained messages.
//!
//! A timer names what it was set for by generation and epoch; what has changed since makes it void.

use crate::mqtt::reason_code::ReasonCode;
use crate::routing::ids::SessionIndex;

use super::{Broker, Now};

/// How often a part of the retained messages is looked through for expired ones, milliseconds.
const SWEEP_EVERY_MS: u64 = 1_000;
/// How many at a time.
const SWEEP_VISITS: usize = 1_000;

/// What a deadline is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Timer {
    /// One and a half times the Keep Alive may be over.
    KeepAlive { slot: u32, serial: u32 },
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
    /// `$SYS` topics are due.
    SystemTopics,
    /// `$SYS` topics are due at once.
    SystemTopicsAtOnce,
    /// The next part of the retained messages is looked through.
    Sweep,
}

impl Broker {
    pub(super) fn start_timers(&mut self, now: Now) {
        self.arm_system_topics(now);
    }

    /// When [`Self::tick`] is to be called, monotonic milliseconds.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.wheel.next_deadline_ms()
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Now) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.advance(now.mono_ms, &mut due);
        for timer in due.drain(..) {
            self.fire(timer, now);
        }
        self.due = due;
    }

    fn fire(&mut self, timer: Timer, now: Now) {
        match timer {
            Timer::KeepAlive { slot, serial } => self.check_keep_alive(slot, serial, now),
            Timer::Will {
                session,
                generation,
                epoch,
            } => {
                if self.is_current(session, generation, epoch) {
                    self.publish_will(session, None, now);
                }
            }
            Timer::SessionExpiry {
                session,
                generation,
                epoch,
            } => {
                if self.is_current(session, generation, epoch) {
                    self.clients.counters.sessions_expired += 1;
                    self.end_session(session, now);
                }
            }
            Timer::SystemTopics => self.system_topics_due(now),
            Timer::SystemTopicsAtOnce => self.ask_counters(now),
            Timer::Sweep => self.sweep_retained(now),
        }
    }

    fn is_current(&self, session: SessionIndex, generation: u32, epoch: u32) -> bool {
        self.clients
            .session(session)
            .is_some_and(|session| session.generation == generation && session.epoch == epoch)
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
        if now.mono_ms >= deadline {
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

    /// Starts to look for expired retained messages; called when the first one that can expire is set.
    pub(super) fn arm_sweep(&mut self, now: Now) {
        if self.sweep.is_none() {
            self.sweep = Some("".into());
            self.wheel.set(now.mono_ms + SWEEP_EVERY_MS, Timer::Sweep);
        }
    }

    fn sweep_retained(&mut self, now: Now) {
        let Some(cursor) = self.sweep.take() else {
            return;
        };
        if self.retained.is_empty() {
            return;
        }
        self.sweep = Some(
            self.retained
                .sweep(&cursor, SWEEP_VISITS, now.mono_ms)
                .unwrap_or_default(),
        );
        self.wheel.set(now.mono_ms + SWEEP_EVERY_MS, Timer::Sweep);
    }
}
