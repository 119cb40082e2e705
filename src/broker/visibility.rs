//! When a SUBACK may leave: as soon as every shard has applied the interest behind it.
//!
//! A shard numbers its changes; the others confirm the highest number they have applied. A SUBACK waits
//! until all have confirmed every change that was made before it, its own or another client's: a second
//! subscriber to a filter whose interest is still on its way must wait as well.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::mqtt::data_types::PacketIdentifier;
use crate::mqtt::reason_code::ReasonCode;
use crate::routing::ids::{SessionIndex, ShardId};

use super::fault::{self, Fault};

/// A delivery of retained messages that begins after the SUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantsRetained {
    /// The delivery.
    pub number: u32,
    /// Tells it from a later one with the same number.
    pub serial: u32,
}

/// A SUBACK that waits.
#[derive(Debug)]
pub struct PendingSuback {
    /// The changes that must be confirmed.
    pub sequence: u64,
    /// Up to where the log must be safe.
    pub safe_at: u64,
    /// The connection.
    pub slot: u32,
    /// Tells it from an earlier one in the same slot.
    pub serial: u32,
    /// That of SUBSCRIBE.
    pub packet_identifier: PacketIdentifier,
    /// For each Topic Filter.
    pub reason_codes: Vec<ReasonCode>,
    /// Why the first that was refused was.
    pub cause: Option<&'static str>,
    /// What follows.
    pub retained: SmallVec<[WantsRetained; 1]>,
}

/// The changes of this shard and who has confirmed them.
#[derive(Debug)]
pub struct Visibility {
    issued: u64,
    /// By shard; its own entry is never behind.
    confirmed: Vec<u64>,
    /// At most `PENDING_SUBACKS_MAX`.
    pending: VecDeque<PendingSuback>,
    /// Sessions that wait for a change to be confirmed, with their generations; at most one for each
    /// `RETAINED_LIVE_TOPICS_MAX` messages that a session was sent.
    fences: VecDeque<(u64, SessionIndex, u32)>,
}

impl Visibility {
    /// Nothing issued yet.
    pub fn new(id: ShardId, shard_count: u16) -> Self {
        let mut confirmed = vec![0; usize::from(shard_count)];
        confirmed[id.index()] = u64::MAX;
        Self {
            issued: 0,
            confirmed,
            pending: VecDeque::new(),
            fences: VecDeque::new(),
        }
    }

    /// Numbers the next changes.
    pub fn issue(&mut self) -> u64 {
        self.issued += 1;
        self.issued
    }

    /// The number of the last change.
    pub fn issued(&self) -> u64 {
        self.issued
    }

    /// Whether every shard has applied all changes up to `sequence`.
    pub fn is_visible(&self, sequence: u64) -> bool {
        self.confirmed
            .iter()
            .all(|confirmed| *confirmed >= sequence)
    }

    /// How many SUBACKs wait.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Whether nothing waits and all is confirmed.
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty() && self.fences.is_empty() && self.is_visible(self.issued)
    }

    /// Lets a SUBACK wait.
    pub fn wait(&mut self, suback: PendingSuback) {
        self.pending.push_back(suback);
    }

    /// Lets a session wait for the last change, whose number it gives; if it is not confirmed already.
    pub fn fence(&mut self, session: SessionIndex, generation: u32) -> u64 {
        if !self.is_visible(self.issued) {
            self.fences.push_back((self.issued, session, generation));
        }
        self.issued
    }

    /// The next session whose change is confirmed.
    pub fn next_fence(&mut self) -> Option<(SessionIndex, u32)> {
        let (sequence, session, generation) = *self.fences.front()?;
        if !self.is_visible(sequence) {
            return None;
        }
        self.fences.pop_front();
        Some((session, generation))
    }

    /// `from` has applied all up to `sequence`.
    pub fn confirm(&mut self, from: ShardId, sequence: u64) {
        let confirmed = &mut self.confirmed[from.index()];
        debug_assert!(*confirmed <= sequence, "confirmations go backwards");
        *confirmed = sequence;
    }

    /// The next SUBACK that may leave, if the log is safe up to `committed`.
    pub fn next_visible(&mut self, committed: u64) -> Option<PendingSuback> {
        let front = self.pending.front()?;
        let visible = self.is_visible(front.sequence) || fault::on(Fault::SubackEarly);
        match visible && front.safe_at <= committed {
            true => self.pending.pop_front(),
            false => None,
        }
    }
}
