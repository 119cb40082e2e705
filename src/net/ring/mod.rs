//! One io_uring for the network of one shard (design: multishot accept and receive, provided buffers, one
//! send in flight per socket, one enter per turn).
//!
//! Used by `shard` on the thread that made it. Memory that the kernel knows is owned by the ring until the
//! completion. A slot is given out by [`Ring::open`], and again only after [`Ring::release`], when nothing of
//! its former user is in flight; its generation makes sure of that.
//!
//! Not here: what bytes mean, which connection is served when.

mod buffers;
mod send;
mod token;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

pub use buffers::Buffer;
use buffers::{Buffers, GROUP};
pub use send::{Chunk, SendBatch};
use send::{InFlightSend, Submission};
pub use token::Token;
use token::{GENERATION_MASK, Kind, pack, unpack};

/// How much later than wanted a timeout may come: one that is armed serves all that want it about then.
const TIMEOUT_SLACK: Duration = Duration::from_millis(1);
/// How often a full submission queue is offered to a kernel that is busy.
const SUBMIT_TRIES_MAX: u32 = 10_000;

/// The sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingConfig {
    /// Entries of the submission queue; the completion queue has four times as many.
    pub submission_entries: u32,
    /// Receive buffers, a power of two.
    pub buffer_count: u16,
    /// Size of each, bytes.
    pub buffer_bytes: u32,
}

/// Why a ring cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("io_uring: {step} failed: {source}")]
pub struct RingError {
    /// What was tried.
    pub step: &'static str,
    /// What the kernel said.
    pub source: io::Error,
}

/// How long a turn may wait for completions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    Poll,
    /// Until one comes or the time is over.
    Until(Duration),
    /// Until one comes.
    Forever,
}

/// What has happened.
#[derive(Debug)]
pub enum Completion {
    /// A connection came in. Unless `more`, accept must be armed again.
    Accepted {
        /// The listener.
        token: Token,
        /// The connection.
        result: io::Result<OwnedFd>,
        /// Whether accept goes on.
        more: bool,
    },
    /// Bytes came in, `None` at the end of the stream. Unless `more`, receive must be armed again.
    Received {
        /// The connection.
        token: Token,
        /// `ENOBUFS` if the pool was empty.
        result: io::Result<Option<Buffer>>,
        /// Whether receive goes on.
        more: bool,
    },
    /// A batch is written, or the connection is broken.
    Sent {
        /// The connection.
        token: Token,
        /// How many bytes.
        result: io::Result<usize>,
        /// The batch, whose buffers can be used again.
        batch: SendBatch,
    },
    /// Another thread rang.
    Doorbell,
}

/// What a ring has asked of the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Calls of `io_uring_enter`.
    pub enters: u64,
    /// Batches that were sent.
    pub sends: u64,
}

#[derive(Default)]
struct Slot {
    send: Option<Box<InFlightSend>>,
    generation: u32,
    in_flight: u16,
    open: bool,
    /// The send is to end: what is left of its batch is not written.
    send_cancelled: bool,
}

struct Completed {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// The ring of one shard.
pub struct Ring {
    ring: IoUring,
    buffers: Buffers,
    slots: Vec<Slot>,
    free: Vec<u32>,
    completed: Vec<Completed>,
    next: usize,
    operations: usize,
    doorbell: Box<u64>,
    /// Read by the kernel when the timeout is submitted.
    timeout: Box<types::Timespec>,
    /// When the earliest timeout that is armed comes.
    wakes_at: Option<Instant>,
    /// Why entries could not be submitted; the next turn says so.
    failed: Option<io::Error>,
    counts: Counts,
}

impl Ring {
    /// Makes a ring for this thread.
    ///
    /// # Errors
    /// Which step the kernel refused.
    pub fn new(config: &RingConfig) -> Result<Self, RingError> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(config.submission_entries * 4)
            .build(config.submission_entries)
            .map_err(|source| RingError {
                step: "setup (SINGLE_ISSUER, DEFER_TASKRUN)",
                source,
            })?;
        if !ring.params().is_feature_nodrop() {
            return Err(RingError {
                step: "setup (NODROP)",
                source: io::ErrorKind::Unsupported.into(),
            });
        }
        let buffers = Buffers::register(&ring, config.buffer_count, config.buffer_bytes).map_err(
            |source| RingError {
                step: "registering receive buffers",
                source,
            },
        )?;
        Ok(Self {
            ring,
            buffers,
            slots: Vec::new(),
            free: Vec::new(),
            completed: Vec::new(),
            next: 0,
            operations: 0,
            doorbell: Box::new(0),
            timeout: Box::new(types::Timespec::new()),
            wakes_at: None,
            failed: None,
            counts: Counts::default(),
        })
    }

    /// Gives out a slot.
    pub fn open(&mut self) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            // Descriptors end long before.
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        });
        let entry = &mut self.slots[slot as usize];
        entry.open = true;
        Token {
            slot,
            generation: entry.generation,
        }
    }

    /// Whether nothing of a slot is in flight, so that it can be released and its socket closed.
    pub fn is_idle(&self, token: Token) -> bool {
        self.slot(token).is_none_or(|slot| slot.in_flight == 0)
    }

    /// Whether a send of a slot is in flight.
    pub fn is_sending(&self, token: Token) -> bool {
        self.slot(token).is_some_and(|slot| slot.send.is_some())
    }

    /// Takes a slot back that is idle.
    pub fn release(&mut self, token: Token) {
        // Its memory may still be the kernel's: such a slot stays its user's for ever.
        let idle = self.is_idle(token);
        debug_assert!(idle, "a slot is released with operations in flight");
        let Some(slot) = self.slot_mut(token).filter(|_| idle) else {
            return;
        };
        slot.open = false;
        slot.generation = (slot.generation + 1) & GENERATION_MASK;
        self.free.push(token.slot);
    }

    fn slot(&self, token: Token) -> Option<&Slot> {
        self.slots
            .get(token.slot as usize)
            .filter(|slot| slot.open && slot.generation == token.generation)
    }

    fn slot_mut(&mut self, token: Token) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        (slot.open && slot.generation == token.generation).then_some(slot)
    }

    /// Accepts connections until it is cancelled or fails.
    pub fn accept_multishot(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let entry = opcode::AcceptMulti::new(types::Fd(fd.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.start(entry, Kind::Accept, token);
    }

    /// Receives until it is cancelled, fails, or the pool is empty.
    pub fn receive_multishot(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let entry = opcode::RecvMulti::new(types::Fd(fd.as_raw_fd()), GROUP).build();
        self.start(entry, Kind::Receive, token);
    }

    /// Receives once.
    pub fn receive_once(&mut self, fd: BorrowedFd<'_>, token: Token) {
        let entry = opcode::Recv::new(types::Fd(fd.as_raw_fd()), std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.start(entry, Kind::Receive, token);
    }

    /// Sends a batch; the slot must not have one in flight. The descriptor must stay open until the
    /// completion.
    pub fn send(&mut self, fd: BorrowedFd<'_>, token: Token, batch: SendBatch) {
        let in_flight = InFlightSend::new(fd.as_raw_fd(), batch);
        let Some(slot) = self.slot_mut(token) else {
            return;
        };
        assert!(
            slot.send.is_none(),
            "two sends in flight on one socket may change their order"
        );
        debug_assert!(
            in_flight.batch.bytes() > 0,
            "an empty batch has no completion"
        );
        slot.send = Some(in_flight);
        slot.send_cancelled = false;
        self.counts.sends += 1;
        if !self.submit_send(token)
            && let Some(slot) = self.slot_mut(token)
        {
            slot.send = None;
        }
    }

    /// Submits what is left of a slot's batch; false if nothing is.
    fn submit_send(&mut self, token: Token) -> bool {
        let Some(send) = self.slot_mut(token).and_then(|slot| slot.send.as_mut()) else {
            return false;
        };
        let fd = types::Fd(send.fd);
        let flags = libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let entry = match send.next() {
            Submission::Send(address, length) => {
                opcode::Send::new(fd, address, length).flags(flags).build()
            }
            // The constant is a small positive number.
            Submission::SendMsg(header) => {
                opcode::SendMsg::new(fd, header).flags(flags as u32).build()
            }
            Submission::Done => return false,
        };
        self.start(entry, Kind::Send, token);
        true
    }

    /// Waits for a write to `eventfd`, once.
    pub fn arm_doorbell(&mut self, eventfd: BorrowedFd<'_>, token: Token) {
        let value: *mut u64 = &raw mut *self.doorbell;
        let entry = opcode::Read::new(types::Fd(eventfd.as_raw_fd()), value.cast(), 8).build();
        self.start(entry, Kind::Doorbell, token);
    }

    /// Rings `eventfd` for every completion, between [`Self::is_quiet`] and [`Self::stop_ringing`]: for a shard
    /// that sleeps elsewhere. The descriptor must stay open as long as the ring.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn ring_for_completions(&mut self, eventfd: BorrowedFd<'_>) -> Result<(), RingError> {
        let registered = self.ring.submitter().register_eventfd(eventfd.as_raw_fd());
        registered.map_err(|source| RingError {
            step: "registering an eventfd",
            source,
        })?;
        self.ring.completion().disable_eventfd();
        Ok(())
    }

    /// Begins to ring; whether nothing has come yet, so that the shard may sleep elsewhere.
    pub fn is_quiet(&mut self) -> bool {
        self.ring.completion().enable_eventfd();
        // The kernel sets its flags and then looks whether it is to ring; we the other way round.
        fence(Ordering::SeqCst);
        let nothing_read = self.next == self.completed.len();
        let nothing_due = {
            let submission = self.ring.submission();
            !submission.taskrun() && !submission.cq_overflow()
        };
        nothing_read && nothing_due && self.ring.completion().is_empty()
    }

    /// The shard is awake.
    pub fn stop_ringing(&mut self) {
        self.ring.completion().disable_eventfd();
    }

    /// Makes sure that something completes within `time`, about.
    pub fn arm_timeout(&mut self, time: Duration) {
        let wanted = Instant::now() + time;
        if self
            .wakes_at
            .is_some_and(|armed| armed <= wanted + TIMEOUT_SLACK)
        {
            return;
        }
        self.wakes_at = Some(wanted);
        *self.timeout = types::Timespec::new()
            .sec(time.as_secs())
            .nsec(time.subsec_nanos());
        let entry = opcode::Timeout::new(&raw const *self.timeout).build();
        self.operations += 1;
        let nobody = Token {
            slot: u32::MAX,
            generation: 0,
        };
        self.push(&entry.user_data(pack(Kind::Timeout, nobody)));
    }

    /// Asks the kernel to end the receive of a slot.
    pub fn cancel_receive(&mut self, token: Token) {
        self.cancel(Kind::Receive, token);
    }

    /// Asks the kernel to end the send of a slot.
    pub fn cancel_send(&mut self, token: Token) {
        if let Some(slot) = self.slot_mut(token) {
            slot.send_cancelled = true;
        }
        self.cancel(Kind::Send, token);
    }

    /// Asks the kernel to end accept.
    pub fn cancel_accept(&mut self, token: Token) {
        self.cancel(Kind::Accept, token);
    }

    fn cancel(&mut self, kind: Kind, token: Token) {
        let entry = opcode::AsyncCancel::new(pack(kind, token))
            .build()
            .user_data(pack(Kind::Cancel, token));
        self.operations += 1;
        self.push(&entry);
    }

    fn start(&mut self, entry: squeue::Entry, kind: Kind, token: Token) {
        let Some(slot) = self.slot_mut(token) else {
            return;
        };
        slot.in_flight += 1;
        self.operations += 1;
        self.push(&entry.user_data(pack(kind, token)));
    }

    fn push(&mut self, entry: &squeue::Entry) {
        for _ in 0..SUBMIT_TRIES_MAX {
            // SAFETY: everything the entry points to is owned by this ring until the completion: batches by
            // their slot, buffers by the pool, the doorbell's value by the ring; descriptors are kept open
            // by the callers until their slot is idle.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is full: the kernel takes its entries without being waited for. It refuses only for
            // a moment, when completions pile up.
            self.counts.enters += 1;
            if let Err(error) = self.ring.submit() {
                if !is_passing(&error) {
                    self.failed.get_or_insert(error);
                    return;
                }
                self.reap();
            }
        }
        self.failed
            .get_or_insert_with(|| io::Error::other("the kernel takes no submissions"));
    }

    /// The one enter of a turn: submits everything and waits. Completions are read with
    /// [`Self::next_completion`], all of them before the next turn.
    ///
    /// # Errors
    /// What the kernel said, if the ring cannot go on.
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        self.buffers.publish();
        let idle = {
            let submission = self.ring.submission();
            submission.is_empty() && !submission.taskrun() && !submission.cq_overflow()
        };
        self.counts.enters += u64::from(!(wait == Wait::Poll && idle));
        let entered = match wait {
            Wait::Poll if idle => Ok(0),
            Wait::Poll => self.ring.submit(),
            Wait::Forever => self.ring.submit_and_wait(1),
            Wait::Until(time) => {
                let timespec = types::Timespec::new()
                    .sec(time.as_secs())
                    .nsec(time.subsec_nanos());
                self.ring
                    .submitter()
                    .submit_with_args(1, &types::SubmitArgs::new().timespec(&timespec))
            }
        };
        self.reap();
        match entered {
            Err(error) if !is_passing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    fn reap(&mut self) {
        if self.next == self.completed.len() {
            self.completed.clear();
            self.next = 0;
        }
        let completed = self.ring.completion().map(|entry| Completed {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        });
        self.completed.extend(completed);
    }

    /// The next completion of this turn.
    pub fn next_completion(&mut self) -> Option<Completion> {
        loop {
            let entry = self.completed.get(self.next)?;
            let (user_data, result, flags) = (entry.user_data, entry.result, entry.flags);
            self.next += 1;
            if let Some(completion) = self.complete(user_data, result, flags) {
                return Some(completion);
            }
        }
    }

    fn complete(&mut self, user_data: u64, result: i32, flags: u32) -> Option<Completion> {
        let (kind, token) = unpack(user_data);
        let more = cqueue::more(flags);
        if !more {
            self.operations -= 1;
        }
        let kind = kind?;
        let current = match self.slot_mut(token) {
            Some(slot) if !matches!(kind, Kind::Cancel | Kind::Timeout) => {
                if !more {
                    slot.in_flight -= 1;
                }
                true
            }
            _ => false,
        };
        let outcome = if result < 0 {
            Err(io::Error::from_raw_os_error(-result))
        } else {
            Ok(result)
        };
        match kind {
            Kind::Accept => {
                // SAFETY: the kernel has just made this descriptor and told nobody else.
                let result = outcome.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
                current.then_some(Completion::Accepted {
                    token,
                    result,
                    more,
                })
            }
            Kind::Receive => {
                let buffer = cqueue::buffer_select(flags).map(|id| Buffer {
                    id,
                    length: result.max(0).cast_unsigned(),
                });
                let received = match (outcome, buffer) {
                    (Ok(0) | Err(_), Some(unused)) => {
                        self.recycle(unused);
                        if result == 0 {
                            Ok(None)
                        } else {
                            Err(io::Error::from_raw_os_error(-result))
                        }
                    }
                    (Ok(_), buffer) => Ok(buffer),
                    (Err(error), None) => Err(error),
                };
                if !current {
                    if let Ok(Some(buffer)) = received {
                        self.recycle(buffer);
                    }
                    return None;
                }
                Some(Completion::Received {
                    token,
                    result: received,
                    more,
                })
            }
            Kind::Send => self.complete_send(token, outcome),
            Kind::Doorbell => Some(Completion::Doorbell),
            Kind::Cancel => None,
            Kind::Timeout => {
                self.wakes_at = None;
                None
            }
        }
    }

    fn complete_send(&mut self, token: Token, outcome: io::Result<i32>) -> Option<Completion> {
        let send = self.slot_mut(token)?.send.as_mut()?;
        let result = match outcome {
            Ok(written) => {
                // Not negative.
                send.sent += usize::try_from(written).unwrap_or(0);
                // A short write: the rest follows, as one batch.
                let cancelled = self.slot(token).is_some_and(|slot| slot.send_cancelled);
                if !cancelled && self.submit_send(token) {
                    return None;
                }
                Ok(())
            }
            Err(error) => Err(error),
        };
        let send = self.slot_mut(token)?.send.take()?;
        let result = result.map(|()| send.sent);
        Some(Completion::Sent {
            token,
            result,
            batch: send.batch,
        })
    }

    /// What was asked of the kernel so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What was received.
    pub fn bytes(&self, buffer: &Buffer) -> &[u8] {
        self.buffers.bytes(buffer)
    }

    /// Gives a buffer back to the pool.
    pub fn recycle(&mut self, buffer: Buffer) {
        self.buffers.recycle(buffer);
    }
}

/// Whether an enter may simply be tried again.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)
    )
}

impl Drop for Ring {
    /// Ends what is in flight before the memory that the kernel knows is freed; what does not end is leaked.
    fn drop(&mut self) {
        let all = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
        self.operations += 1;
        self.push(&all.user_data(pack(
            Kind::Cancel,
            Token {
                slot: u32::MAX,
                generation: 0,
            },
        )));
        for _ in 0..100 {
            if self.operations == 0 {
                return;
            }
            if self.turn(Wait::Until(Duration::from_millis(10))).is_err() {
                break;
            }
            while let Some(completion) = self.next_completion() {
                if let Completion::Received {
                    result: Ok(Some(buffer)),
                    ..
                } = completion
                {
                    self.recycle(buffer);
                }
            }
        }
        if self.operations > 0 {
            std::mem::forget(std::mem::take(&mut self.slots));
            std::mem::forget(std::mem::take(&mut self.doorbell));
            std::mem::forget(std::mem::replace(
                &mut self.timeout,
                Box::new(types::Timespec::new()),
            ));
            self.buffers.leak();
        }
    }
}

#[cfg(test)]
mod tests;
