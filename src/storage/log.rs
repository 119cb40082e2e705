//! The log of one shard as glommio writes it: one group at a time, without the page cache.
//!
//! Used by `shard`: [`Log::begin`] hands over a group, [`Log::rest`] lets glommio work, [`Log::completed`] tells
//! what is safe. The next group gathers while one is written, so a commit serves every client of the core.
//! Files are made and removed by threads of their own: neither may stall the core.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use glommio::io::{DmaFile, OpenOptions};

use crate::config::limits::StorageLimits;
use crate::journal::{BLOCK_BYTES, Group};

use super::bell::{Bell, Signal};
use super::recovery::ShardStart;
use super::segment::{self, Header};

/// How long a write waits for room on the disk before it is tried again.
const NO_ROOM_RETRY: Duration = Duration::from_millis(200);
/// How long the making of a segment is not tried again after it failed.
const ALLOCATE_RETRY: Duration = Duration::from_secs(1);
/// How long a store that is full waits before it looks again for what is not needed any more.
const FULL_REWRITE_EVERY: Duration = Duration::from_secs(1);
/// Answers of a thread that makes a segment.
const ANSWERS_MAX: usize = 1;

/// Why the log cannot go on: nothing more may be acknowledged.
#[derive(Debug, thiserror::Error)]
#[error("the log {path}: {what} failed: {cause}")]
pub struct LogError {
    /// The segment or directory.
    pub path: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// What the operating system said.
    pub cause: String,
}

/// A group that is written.
#[derive(Debug)]
pub struct Written {
    /// Everything before is safe.
    pub position: u64,
    /// The group's bytes, to be filled again.
    pub bytes: Vec<u8>,
}

/// What the task that writes has to say.
#[derive(Default)]
struct Outcome {
    done: RefCell<Option<Result<Written, LogError>>>,
    no_room: Cell<bool>,
}

/// A segment that groups go to.
struct Segment {
    start: u64,
    path: PathBuf,
    file: Rc<DmaFile>,
}

/// The segment that comes after the current one.
enum Next {
    None,
    /// A thread makes it.
    Making(u64, Receiver<io::Result<PathBuf>>),
    /// glommio opens it.
    Opening(Rc<RefCell<Option<Result<Segment, LogError>>>>),
    Ready(Segment),
    /// It could not be made; when it was tried.
    Failed(Instant),
}

/// The log of one shard.
pub struct Log {
    shard: u16,
    directory: PathBuf,
    limits: StorageLimits,
    current: Segment,
    used: u64,
    /// Older segments with what is used of them.
    older: Vec<(u64, u64)>,
    next: Next,
    signal: Rc<Signal>,
    bell: Bell,
    outcome: Rc<Outcome>,
    in_flight: bool,
    /// What lived after the last rewrite, bytes.
    live_bytes: u64,
    /// A rewrite that began here.
    rewrite_before: Option<u64>,
    /// The log may be cut before the first position as soon as it is safe up to the second.
    cut: Option<(u64, u64)>,
    last_cut: Instant,
}

async fn open(path: PathBuf, start: u64) -> Result<Segment, LogError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .dma_open(&path)
        .await;
    match opened {
        Ok(file) => Ok(Segment {
            start,
            path,
            file: Rc::new(file),
        }),
        Err(error) => Err(LogError {
            path,
            what: "opening a segment",
            cause: error.to_string(),
        }),
    }
}

impl Log {
    /// Opens the log on the shard's own thread.
    ///
    /// # Errors
    /// The operating system refuses.
    pub async fn open(
        shard: u16,
        start: &ShardStart,
        limits: StorageLimits,
    ) -> Result<Self, LogError> {
        let signal = Rc::new(Signal::default());
        let bell = Bell::new(Rc::clone(&signal)).map_err(|error| LogError {
            path: start.directory.clone(),
            what: "making an eventfd",
            cause: error.to_string(),
        })?;
        let path = segment::path(&start.directory, start.position);
        let current = open(path, start.position).await?;
        Ok(Self {
            shard,
            directory: start.directory.clone(),
            limits,
            current,
            used: 0,
            older: start.segments.clone(),
            next: Next::None,
            signal,
            bell,
            outcome: Rc::default(),
            in_flight: false,
            live_bytes: 0,
            rewrite_before: None,
            cut: None,
            last_cut: Instant::now(),
        })
    }

    /// What the network ring rings to wake the shard.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.bell.eventfd()
    }

    /// Whether glommio has work of the log, so that the shard must not sleep in its own ring.
    pub fn is_busy(&self) -> bool {
        self.in_flight || matches!(self.next, Next::Opening(_))
    }

    /// Whether a group can be handed over.
    pub fn is_ready(&self) -> bool {
        !self.in_flight
    }

    /// Lets glommio work until something is done or the bell rings.
    pub async fn rest(&self) {
        self.signal.wait().await;
    }

    /// The same, without sleeping.
    pub async fn pass(&self) {
        self.bell.ring();
        self.signal.wait().await;
    }

    /// Hands over a group. Gives the position at which the next one begins, if that is not where this ends.
    pub fn begin(&mut self, group: Group) -> Option<u64> {
        debug_assert!(!self.in_flight, "one group at a time");
        let offset = BLOCK_BYTES + (group.position - self.current.start);
        let (file, path) = (Rc::clone(&self.current.file), self.current.path.clone());
        let (outcome, signal) = (Rc::clone(&self.outcome), Rc::clone(&self.signal));
        self.in_flight = true;
        self.used = group.end() - self.current.start;
        let next = self.switch(group.end());
        glommio::spawn_local(async move {
            let written = write(&file, &path, offset, &group, &outcome).await;
            let written = written.map(|()| Written {
                position: group.end(),
                bytes: group.bytes,
            });
            *outcome.done.borrow_mut() = Some(written);
            signal.set();
        })
        .detach();
        next
    }

    /// Goes over to the next segment if the current one is full.
    fn switch(&mut self, end: u64) -> Option<u64> {
        if end - self.current.start < self.limits.segment_bytes {
            return None;
        }
        let Next::Ready(next) = std::mem::replace(&mut self.next, Next::None) else {
            // The current one grows until it is there.
            return None;
        };
        self.older.push((self.current.start, self.used));
        self.current = next;
        self.used = 0;
        Some(self.current.start)
    }

    /// What has been written since the last call.
    ///
    /// # Errors
    /// A write or a sync has failed: nothing more may be acknowledged.
    pub fn completed(&mut self) -> Result<Option<Written>, LogError> {
        let done = self.outcome.done.borrow_mut().take();
        if done.is_some() {
            self.in_flight = false;
        }
        done.transpose()
    }

    /// Looks after the segments: makes the next one in time, and removes what is cut off. Called once a turn.
    ///
    /// # Errors
    /// A segment that was made cannot be opened.
    pub fn look_after(&mut self, committed: u64) -> Result<(), LogError> {
        match &self.next {
            Next::Making(start, answer) => match answer.try_recv() {
                Ok(Ok(path)) => {
                    let place = Rc::new(RefCell::new(None));
                    let (opened, signal) = (Rc::clone(&place), Rc::clone(&self.signal));
                    let start = *start;
                    glommio::spawn_local(async move {
                        *opened.borrow_mut() = Some(open(path, start).await);
                        signal.set();
                    })
                    .detach();
                    self.next = Next::Opening(place);
                }
                Ok(Err(error)) => {
                    tracing::error!(log = %self.directory.display(), %error, "cannot make the next segment of the log");
                    self.next = Next::Failed(Instant::now());
                }
                Err(_) => {}
            },
            Next::Opening(place) => {
                let opened = place.borrow_mut().take();
                if let Some(opened) = opened {
                    self.next = Next::Ready(opened?);
                }
            }
            Next::None => self.make_next(),
            Next::Failed(when) if when.elapsed() >= ALLOCATE_RETRY => self.make_next(),
            Next::Ready(_) | Next::Failed(_) => {}
        }
        if let Some((before, safe_at)) = self.cut
            && committed >= safe_at
        {
            self.cut = None;
            self.remove(before);
        }
        Ok(())
    }

    fn make_next(&mut self) {
        if self.used < self.limits.segment_bytes / 2 {
            return;
        }
        let start = segment::next_start(self.current.start, self.limits.segment_bytes);
        let header = Header {
            start,
            shard: self.shard,
        };
        let (directory, bytes) = (self.directory.clone(), self.limits.segment_bytes);
        let (answer, answered) = bounded(ANSWERS_MAX);
        std::thread::spawn(move || {
            // The receiver is gone only when the shard is.
            let _ = answer.send(segment::create(&directory, header, bytes));
        });
        self.next = Next::Making(start, answered);
    }

    /// Whether there is no room for more than acknowledgements.
    pub fn is_full(&self) -> bool {
        let scarce = self.used > self.limits.segment_bytes / 4 * 3;
        self.outcome.no_room.get()
            || (scarce && matches!(self.next, Next::Failed(_)))
            || self.bytes() > self.limits.bytes_max
    }

    /// Bytes of all segments that are used.
    pub fn bytes(&self) -> u64 {
        let older: u64 = self.older.iter().map(|(_, used)| used).sum();
        older + self.used
    }

    /// Whether the log is so much longer than what lives that it should be rewritten; then gives the position
    /// before which it can be cut after.
    pub fn wants_rewrite(&mut self) -> Option<u64> {
        if self.rewrite_before.is_some() || self.cut.is_some() || self.older.is_empty() {
            return None;
        }
        let long = self.bytes() > 2 * self.live_bytes + 2 * self.limits.segment_bytes;
        if long {
            self.rewrite_before = Some(self.current.start);
        } else if self.is_full() && self.last_cut.elapsed() >= FULL_REWRITE_EVERY {
            // There is little room for a rewrite: a part at a time.
            let place = self.older.len() / 4 + 1;
            let next = self.older.get(place).map(|(start, _)| *start);
            self.rewrite_before = next.or(Some(self.current.start));
        }
        self.rewrite_before
    }

    /// Everything that lives is recorded again before `safe_at`.
    pub fn rewritten(&mut self, safe_at: u64) {
        if let Some(before) = self.rewrite_before.take() {
            self.cut = Some((before, safe_at));
        }
    }

    fn remove(&mut self, before: u64) {
        let cut: Vec<_> = self
            .older
            .iter()
            .filter(|(start, _)| *start < before)
            .map(|(start, _)| segment::path(&self.directory, *start))
            .collect();
        self.older.retain(|(start, _)| *start >= before);
        self.live_bytes = self.bytes();
        self.last_cut = Instant::now();
        std::thread::spawn(move || {
            for path in cut {
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(segment = %path.display(), %error, "cannot remove a segment of the log");
                }
            }
        });
    }
}

/// Writes a group, and syncs it if it must survive a loss of power. As long as there is no room it waits: the
/// group is not acknowledged.
async fn write(
    file: &DmaFile,
    path: &std::path::Path,
    offset: u64,
    group: &Group,
    outcome: &Outcome,
) -> Result<(), LogError> {
    let failed = |what, cause: String| LogError {
        path: path.into(),
        what,
        cause,
    };
    loop {
        let mut buffer = file.alloc_dma_buffer(group.bytes.len());
        buffer.as_bytes_mut()[..group.bytes.len()].copy_from_slice(&group.bytes);
        match file.write_at(buffer, offset).await {
            Ok(written) if written == group.bytes.len() => break,
            Ok(_) => {}
            Err(error) if is_no_room(&error) => {}
            Err(error) => return Err(failed("a write", error.to_string())),
        }
        outcome.no_room.set(true);
        glommio::timer::sleep(NO_ROOM_RETRY).await;
    }
    outcome.no_room.set(false);
    if group.sync {
        file.fdatasync()
            .await
            .map_err(|error| failed("a sync", error.to_string()))?;
    }
    Ok(())
}

fn is_no_room(error: &glommio::GlommioError<()>) -> bool {
    let code = error.raw_os_error();
    code == Some(rustix::io::Errno::NOSPC.raw_os_error())
        || code == Some(rustix::io::Errno::DQUOT.raw_os_error())
}
