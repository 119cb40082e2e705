//! When a SUBACK may leave: as soon as every shard has applied the interest behind it.
//!
//! A shard numbers its changes; the others confirm the highest number they have applied. A SUBACK waits
//! until all have confirmed every change that was made before it, its own or another client's: a second
//! subscriber to a filter whose interest is still on its way must wait as well.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::mqtt::data_types::PacketIdentifier;
use crate::mqtt::reason_code::ReasonCode;
use crate::routing::ids::ShardId;

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
        self.pending.is_empty() && self.is_visible(self.issued)
    }

    /// Lets a SUBACK wait.
    pub fn wait(&mut self, suback: PendingSuback) {
        self.pending.push_back(suback);
    }

    /// `from` has applied all up to `sequence`.
    pub fn confirm(&mut self, from: ShardId, sequence: u64) {
        let confirmed = &mut self.confirmed[from.index()];
        debug_assert!(*confirmed <= sequence, "confirmations go backwards");
        *confirmed = sequence;
    }

    /// The next SUBACK that may leave.
    pub fn next_visible(&mut self) -> Option<PendingSuback> {
        let sequence = self.pending.front()?.sequence;
        match self.is_visible(sequence) || fault::on(Fault::SubackEarly) {
            true => self.pending.pop_front(),
            false => None,
        }
    }
}
