//! A disk with the log of one shard: one write at a time, done in steps, and lost in any way that disks have.

use ringmq::journal::Group;

use crate::rng::Rng;

/// What a disk writes as a whole.
const SECTOR_BYTES: usize = 512;

/// How everything ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process ends, also because a write has failed: the kernel has what was written.
    Process,
    /// Power is lost: what was not synced is there or not, sector by sector.
    Power,
}

#[derive(Debug)]
struct Writing {
    group: Group,
    written: bool,
}

/// A disk.
#[derive(Debug)]
pub struct Disk {
    /// The position of the first byte.
    pub start: u64,
    pub bytes: Vec<u8>,
    /// So many of them survive everything.
    safe: usize,
    writing: Option<Writing>,
}

impl Disk {
    pub fn new(start: u64) -> Self {
        Self {
            start,
            bytes: Vec::new(),
            safe: 0,
            writing: None,
        }
    }

    pub fn is_ready(&self) -> bool {
        self.writing.is_none()
    }

    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub fn begin(&mut self, group: Group) {
        assert!(self.writing.is_none(), "one write at a time");
        assert_eq!(group.position, self.end(), "a hole in the log");
        self.writing = Some(Writing {
            group,
            written: false,
        });
    }

    /// A step of the write: gives the group when it is done.
    pub fn advance(&mut self) -> Option<Group> {
        let writing = self.writing.as_mut()?;
        if !writing.written {
            self.bytes.extend_from_slice(&writing.group.bytes);
            writing.written = true;
            if writing.group.sync {
                return None;
            }
        } else {
            self.safe = self.bytes.len();
        }
        self.writing.take().map(|writing| writing.group)
    }

    /// Loses what is not safe.
    pub fn crash(&mut self, crash: Crash, rng: &mut Rng) {
        let whole = self.bytes.len();
        if let Some(writing) = self.writing.take()
            && !writing.written
        {
            self.bytes.extend_from_slice(&writing.group.bytes);
        }
        let from = match crash {
            Crash::Process => whole,
            Crash::Power => self.safe,
        };
        let kept = rng.pick(&[0, 10, 50, 90, 100]);
        for sector in self.bytes[from..].chunks_mut(SECTOR_BYTES) {
            if !rng.chance(kept) {
                sector.fill(0);
            }
        }
        self.safe = self.bytes.len();
    }

    /// All behind `end` is cut off.
    pub fn truncate(&mut self, end: u64) {
        self.bytes.truncate((end - self.start) as usize);
        self.safe = self.bytes.len();
    }

    /// What is before `position` is not needed any more.
    pub fn cut(&mut self, position: u64) {
        let count = (position - self.start) as usize;
        self.bytes.drain(..count);
        self.safe = self.safe.saturating_sub(count);
        self.start = position;
    }
}
