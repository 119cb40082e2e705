//! The provided buffers: one pool for all the connections of a shard, lent by the kernel at receive time.
//!
//! An idle connection owns no buffer. A buffer is the ring's until a completion names it, then the shard's
//! until it is recycled, in the same turn.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

const PAGE: usize = 4096;
/// The one buffer group of a ring.
pub(super) const GROUP: u16 = 0;

/// A received buffer, to be given back.
#[derive(Debug)]
#[must_use = "a buffer that is not recycled is lost to the pool"]
pub struct Buffer {
    pub(super) id: u16,
    pub(super) length: u32,
}

impl Buffer {
    /// How many bytes were received.
    pub fn len(&self) -> usize {
        self.length as usize
    }

    /// Whether none were.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

struct Region {
    start: NonNull<u8>,
    layout: Layout,
    /// The kernel may still write to it.
    leaked: bool,
}

impl Region {
    fn new(bytes: usize) -> Self {
        // A power of two above zero is a valid alignment, and the sizes are bounded by configuration.
        let layout =
            Layout::from_size_align(bytes.max(PAGE), PAGE).unwrap_or(Layout::new::<[u8; PAGE]>());
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else {
            handle_alloc_error(layout)
        };
        Self {
            start,
            layout,
            leaked: false,
        }
    }
}

impl Region {
    fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: allocated with this layout in `new`, and the kernel no longer knows it: the ring waits for
        // all operations before it drops its buffers, or leaks them.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// The pool.
pub(super) struct Buffers {
    entries: Region,
    data: Region,
    count: u16,
    buffer_bytes: u32,
    tail: u16,
    published: u16,
}

impl Buffers {
    /// Registers `count` (a power of two) buffers with the ring.
    pub(super) fn register(ring: &IoUring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        let entries = Region::new(usize::from(count) * size_of::<BufRingEntry>());
        let data = Region::new(usize::from(count) * buffer_bytes as usize);
        let address = entries.start.as_ptr() as u64;
        // SAFETY: `entries` is page-aligned, has room for `count` entries and lives as long as the ring.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, count, GROUP, 0)?
        };
        let mut buffers = Self {
            entries,
            data,
            count,
            buffer_bytes,
            tail: 0,
            published: 0,
        };
        // Touched now, so that no page fault comes later and memory in use is seen from the start.
        // SAFETY: `data` has this many bytes, and the kernel does not know them yet.
        unsafe {
            std::ptr::write_bytes(
                buffers.data.start.as_ptr(),
                1,
                usize::from(count) * buffer_bytes as usize,
            )
        };
        for id in 0..count {
            buffers.push(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    fn push(&mut self, id: u16) {
        let position = usize::from(self.tail & (self.count - 1));
        let offset = usize::from(id) * self.buffer_bytes as usize;
        // SAFETY: `position` is below `count`, so the entry lies in `entries`; the kernel does not read it
        // before the tail is published.
        let entry = unsafe {
            &mut *self
                .entries
                .start
                .cast::<BufRingEntry>()
                .as_ptr()
                .add(position)
        };
        // SAFETY: `id` is below `count`, so the buffer lies in `data`.
        entry.set_addr(unsafe { self.data.start.as_ptr().add(offset) } as u64);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Gives a buffer back; the kernel sees it at the next [`Self::publish`].
    pub(super) fn recycle(&mut self, buffer: Buffer) {
        self.push(buffer.id);
    }

    /// Shows the kernel all that was given back.
    pub(super) fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        self.published = self.tail;
        // SAFETY: the tail lies in the first entry of `entries`, is aligned, and is written only here; the
        // kernel reads it with acquire, so the entries written before are seen.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.start.cast::<BufRingEntry>().as_ptr());
            (*tail.cast::<AtomicU16>()).store(self.tail, Ordering::Release);
        }
    }

    /// Keeps the memory for ever, since the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        self.entries.leak();
        self.data.leak();
    }

    /// What was received into a buffer.
    pub(super) fn bytes(&self, buffer: &Buffer) -> &[u8] {
        assert!(
            buffer.id < self.count && buffer.length <= self.buffer_bytes,
            "a buffer of another ring"
        );
        let offset = usize::from(buffer.id) * self.buffer_bytes as usize;
        // SAFETY: it lies in `data`, by the check above; the kernel has named this buffer in a completion and does not write it until it is
        // recycled, for which the `Buffer` is given up; `length` is what the kernel wrote.
        unsafe { std::slice::from_raw_parts(self.data.start.as_ptr().add(offset), buffer.len()) }
    }
}
