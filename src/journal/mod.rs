//! The log of one shard as bytes: records, groups of records, and the state that they add up to.
//!
//! Used by `broker`, which appends a record for whatever must survive, and by `storage`, which writes groups
//! to files and reads them back. Pure: no files, no clock, so the simulator can lose any part of it.
//!
//! The log is one stream of bytes. The position of a record in it is its sequence number, and the way to find
//! it. What one turn appended is one group: all of it survives, or nothing of it. There are no snapshot files:
//! what lives is recorded again from time to time ([`crate::broker::Broker::rewrite`]), and all that lies
//! before is dropped. A message that is recorded again keeps its place in its session's queue.

mod codec;
pub mod group;
pub mod record;
pub mod replay;

pub use group::{BLOCK_BYTES, Group};
pub use record::{Origin, Record};

use crate::config::limits::{Durability, POOLED_GROUP_BYTES_MAX};

use group::HEADER_BYTES;

/// The records that are not handed to the log yet.
#[derive(Debug)]
pub struct Journal {
    on: bool,
    /// Where the group that gathers begins.
    base: u64,
    /// Its header, to be filled in, and its records.
    buffer: Vec<u8>,
    records: u32,
    /// Whether it must reach the disk itself.
    sync: bool,
    /// Behind the last group that was handed out.
    handed_out: u64,
    /// Everything before is as safe as was asked for.
    committed: u64,
    /// Of a group that is written, to be filled again.
    spare: Vec<u8>,
    /// There is no room on the disk for anything new.
    full: bool,
}

impl Journal {
    /// A journal that records nothing: everything is in memory.
    pub fn off() -> Self {
        Self {
            on: false,
            base: 0,
            buffer: Vec::new(),
            records: 0,
            sync: false,
            handed_out: 0,
            committed: u64::MAX,
            spare: Vec::new(),
            full: false,
        }
    }

    /// A journal that goes on at `position`, a multiple of [`BLOCK_BYTES`].
    pub fn at(position: u64) -> Self {
        Self {
            on: true,
            base: position,
            handed_out: position,
            committed: position,
            ..Self::off()
        }
    }

    /// Whether anything is recorded.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Appends a record and gives its position.
    pub fn append(&mut self, record: &Record<'_>, durability: Durability) -> u64 {
        if self.buffer.is_empty() {
            self.buffer = std::mem::take(&mut self.spare);
            self.buffer.resize(HEADER_BYTES, 0);
        }
        let position = self.position();
        record.encode(&mut self.buffer);
        self.records += 1;
        self.sync |= durability == Durability::Fsync;
        position
    }

    /// Where the next record will be.
    #[inline]
    pub fn position(&self) -> u64 {
        self.base + self.buffer.len().max(HEADER_BYTES) as u64
    }

    /// Behind everything that is appended so far: all of it is safe when this is committed.
    #[inline]
    pub fn end(&self) -> u64 {
        match self.buffer.is_empty() {
            true => self.handed_out,
            false => self.position(),
        }
    }

    /// Where the group that gathers begins.
    pub fn group_start(&self) -> u64 {
        self.base
    }

    /// Up to where everything is safe.
    #[inline]
    pub fn committed(&self) -> u64 {
        self.committed
    }

    /// Bytes that are appended and not handed out.
    pub fn gathered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Hands out what was appended since the last call.
    pub fn take_group(&mut self, unix_s: u64) -> Option<Group> {
        if self.buffer.is_empty() {
            return None;
        }
        let bytes = std::mem::take(&mut self.buffer);
        let group = Group::seal(self.base, bytes, self.records, unix_s, self.sync);
        self.base = group.end();
        self.handed_out = self.base;
        self.records = 0;
        self.sync = false;
        Some(group)
    }

    /// The next group begins at `position`, a multiple of [`BLOCK_BYTES`] behind all groups so far. Nothing
    /// may be gathered.
    pub fn skip_to(&mut self, position: u64) {
        debug_assert!(self.buffer.is_empty() && position >= self.base);
        self.base = position;
    }

    /// Everything before `position` is safe.
    pub fn commit(&mut self, position: u64) {
        debug_assert!(position >= self.committed, "commits go backwards");
        self.committed = position;
    }

    /// Takes the bytes of a group that is written.
    pub fn recycle(&mut self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= POOLED_GROUP_BYTES_MAX {
            bytes.clear();
            self.spare = bytes;
        }
    }

    /// Whether there is no room on the disk, so that nothing new may be recorded.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// There is room on the disk, or no more.
    pub fn set_full(&mut self, full: bool) {
        self.full = full;
    }
}
