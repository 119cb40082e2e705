//! Wakes the shard's task while glommio works: an eventfd that the network ring rings and glommio reads.
//!
//! Used by [`super::Log`]. The only `unsafe` of the store: glommio has no safe way to read a descriptor that
//! it has not opened.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Poll, Waker};

use glommio::io::BufferedFile;
use rustix::event::{EventfdFlags, eventfd};

/// What one task waits for and others signal.
#[derive(Debug, Default)]
pub(super) struct Signal {
    set: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Signal {
    /// Lets the waiting task go on, or the next that waits.
    pub(super) fn set(&self) {
        self.set.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Waits for [`Self::set`].
    pub(super) async fn wait(&self) {
        poll_fn(|context| {
            if self.set.replace(false) {
                return Poll::Ready(());
            }
            *self.waker.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// The eventfd and the task that reads it.
#[derive(Debug)]
pub(super) struct Bell {
    eventfd: OwnedFd,
    ended: Rc<Cell<bool>>,
}

impl Bell {
    /// Starts to read; every ring sets `signal`.
    pub(super) fn new(signal: Rc<Signal>) -> std::io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        let reader = eventfd.try_clone()?;
        // SAFETY: the descriptor is open and given away; the file closes it.
        let file = unsafe { BufferedFile::from_raw_fd(reader.into_raw_fd()) };
        let ended = Rc::new(Cell::new(false));
        let stop = Rc::clone(&ended);
        glommio::spawn_local(async move {
            while file.read_at(0, 8).await.is_ok() && !stop.get() {
                signal.set();
            }
        })
        .detach();
        Ok(Self { eventfd, ended })
    }

    /// What the network ring rings.
    pub(super) fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// Rings.
    pub(super) fn ring(&self) {
        // Fails only when the counter is full, and then it is rung already.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        self.ended.set(true);
        self.ring();
    }
}
