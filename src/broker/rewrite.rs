//! What lives is recorded again, so that the older part of the log can go.
//!
//! The shard begins a rewrite when the log has grown long, and calls [`Broker::rewrite`] once a turn until it
//! is done; what is recorded is a part of the turn's group like everything else. When that is safe, nothing
//! that lives is before the position at which the rewrite began, and the log is cut there.

use crate::config::limits::REWRITE_BYTES_PER_TURN_MAX;
use crate::journal::Record;
use crate::routing::ids::SessionIndex;

use super::record::content_of;
use super::{Broker, Now};

/// Sessions or retained messages that are looked at in one turn.
const VISITS_PER_TURN_MAX: usize = 512;

/// How far a rewrite has come.
#[derive(Debug, Default)]
pub(super) struct Rewrite {
    before: u64,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Sessions(SessionIndex),
    Retained(Box<str>),
}

impl Broker {
    /// Begins to record again what the log has before `before`.
    pub fn begin_rewrite(&mut self, before: u64) {
        self.rewrite = Rewrite {
            before,
            phase: Phase::Sessions(0),
        };
    }

    /// Whether a rewrite is under way.
    pub fn is_rewriting(&self) -> bool {
        !matches!(self.rewrite.phase, Phase::Idle)
    }

    /// Goes on with a rewrite. When it is done, gives the position that must be safe before the log is cut.
    pub fn rewrite(&mut self, now: Now) -> Option<u64> {
        let before = self.rewrite.before;
        match std::mem::take(&mut self.rewrite.phase) {
            Phase::Idle => None,
            Phase::Sessions(index) => {
                self.rewrite.phase = match self.rewrite_sessions(index, before, now.mono_ms) {
                    Some(next) => Phase::Sessions(next),
                    None => Phase::Retained("".into()),
                };
                None
            }
            Phase::Retained(cursor) => match self.rewrite_retained(&cursor, before, now.mono_ms) {
                Some(next) => {
                    self.rewrite.phase = Phase::Retained(next);
                    None
                }
                None => {
                    self.record_origins();
                    Some(self.clients.journal.end())
                }
            },
        }
    }

    /// Gives where to go on, or nothing if that was all.
    fn rewrite_sessions(
        &mut self,
        from: SessionIndex,
        before: u64,
        now_ms: u64,
    ) -> Option<SessionIndex> {
        let start = self.clients.journal.gathered_bytes();
        let end = self.clients.session_places();
        for index in (from..end).take(VISITS_PER_TURN_MAX) {
            let left = REWRITE_BYTES_PER_TURN_MAX
                .saturating_sub(self.clients.journal.gathered_bytes().saturating_sub(start));
            if left == 0 {
                return Some(index);
            }
            let Some(session) = self.clients.session(index) else {
                continue;
            };
            let Some(recorded) = &session.recorded else {
                continue;
            };
            if recorded.location < before {
                self.record_with_subscriptions(index, now_ms);
            }
            if !self.record_queue(index, before, left, now_ms) {
                return Some(index);
            }
        }
        let next = from.saturating_add(VISITS_PER_TURN_MAX as u32);
        (next < end).then_some(next)
    }

    fn rewrite_retained(&mut self, cursor: &str, before: u64, now_ms: u64) -> Option<Box<str>> {
        let journal = &mut self.clients.journal;
        let durability = self.durability_max;
        let mut bytes = 0;
        let mut visits = 0;
        for (message, location) in self.retained.after(cursor) {
            visits += 1;
            if *location < before {
                let content = content_of(&message.view(), now_ms);
                *location = journal.append(&Record::Retained { content }, durability);
                bytes += message.bytes();
            }
            if bytes >= REWRITE_BYTES_PER_TURN_MAX || visits >= VISITS_PER_TURN_MAX {
                return Some(message.topic().into());
            }
        }
        None
    }

    /// Records all retained messages.
    pub(super) fn record_retained_anew(&mut self, now_ms: u64) {
        let mut cursor: Option<Box<str>> = Some("".into());
        while let Some(at) = cursor {
            cursor = self.rewrite_retained(&at, u64::MAX, now_ms);
        }
    }

    /// Records the origins that are open.
    pub(super) fn record_origins(&mut self) {
        let origins: Vec<_> = self.origins.iter().copied().collect();
        for origin in origins {
            self.record(&Record::OriginOpen(origin));
        }
    }
}
