//! Whether a shard sleeps, so that only then it is woken.
//!
//! A shard that is about to sleep sets the flag, looks at its inbox again, and only then sleeps; a sender puts
//! its message in and then looks at the flag. Between the two steps of each stands a fence, so one of them
//! always sees what the other has done. `tests/loom` plays every interleaving.

use super::atomic::{AtomicBool, Ordering, fence};

/// The flag.
#[derive(Debug)]
pub struct Sleeping(AtomicBool);

impl Sleeping {
    /// A shard that is awake.
    pub fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// The shard is about to sleep; it must look at its inbox once more.
    pub fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake.
    pub fn clear(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// Whether the caller, who has put something into the inbox, must wake the shard: true for one of all who
    /// find it asleep.
    pub fn must_be_woken(&self) -> bool {
        fence(Ordering::SeqCst);
        let asleep = self.0.load(Ordering::SeqCst);
        // Whoever comes second stores nothing, which might hide that the shard has gone to sleep again.
        let wakes = || {
            self.0
                .compare_exchange(true, false, Ordering::SeqCst, Ordering::SeqCst)
        };
        asleep && wakes().is_ok()
    }
}
