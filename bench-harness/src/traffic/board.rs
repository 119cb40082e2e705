//! What threads of a run show each other: the phase, and counts with one writer each.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// A count that one thread writes and others read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds; only the owner may.
    #[inline]
    pub fn add(&self, more: u64) {
        // One writer: no need for a locked instruction.
        self.0
            .store(self.0.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    /// Writes; only the owner may.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads.
    #[inline]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counts of one thread.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Lane {
    /// Messages published.
    pub sent: Count,
    /// Messages that the broker has acknowledged to publishers; equal to `sent` with QoS 0.
    pub acknowledged: Count,
    /// Messages that came to subscribers.
    pub delivered: Count,
    /// Messages of an open loop that are due and wait for an acknowledgement of others.
    pub waiting: Count,
    /// See [`crate::engine::Engine::idle_ns`].
    pub idle_ns: Count,
    /// CPU time of the thread, nanoseconds.
    pub cpu_ns: Count,
    /// The phase that the thread is in.
    pub phase: Count,
    /// For each publisher of the run, its messages that came to this thread's subscribers.
    pub heard: Vec<Count>,
}

/// Phase of the connecting threads; the phases of the run follow.
pub const CONNECTING: usize = 0;

/// What all threads of a run see.
#[derive(Debug)]
pub struct Board {
    phase: AtomicUsize,
    /// Phases in which messages are published.
    pub phases: usize,
    /// One for each thread.
    pub lanes: Vec<Lane>,
}

impl Board {
    /// For so many threads, publishers and phases.
    pub fn new(threads: usize, publishers: usize, phases: usize) -> Self {
        let lane = || Lane {
            heard: (0..publishers).map(|_| Count::default()).collect(),
            ..Lane::default()
        };
        Self {
            phase: AtomicUsize::new(CONNECTING),
            phases,
            lanes: (0..threads).map(|_| lane()).collect(),
        }
    }

    /// The phase of the run: 1 and so on are those that publish, the one after the last only receives, and
    /// after that all is over.
    #[inline]
    pub fn phase(&self) -> usize {
        self.phase.load(Ordering::Relaxed)
    }

    /// Begins a phase.
    pub fn begin(&self, phase: usize) {
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// The sum of a count over all threads.
    pub fn sum(&self, count: impl Fn(&Lane) -> &Count) -> u64 {
        self.lanes.iter().map(|lane| count(lane).read()).sum()
    }

    /// Messages of a publisher that came to anybody.
    #[inline]
    pub fn heard(&self, publisher: usize) -> u64 {
        let of_lane = |lane: &Lane| lane.heard[publisher].read();
        self.lanes.iter().map(of_lane).sum()
    }
}
