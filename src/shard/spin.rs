//! How long a shard looks for work before it sleeps.
//!
//! Looking costs no system call: the ring's flags are in shared memory, and so is the inbox. Waking a thread
//! that sleeps costs tens of microseconds, most of it before the thread knows.

use std::time::{Duration, Instant};

/// When a shard last had work, and until when it looks for more.
#[derive(Debug)]
pub(super) struct Spin {
    /// Something came in this turn.
    pub(super) worked: bool,
    until: Instant,
}

impl Spin {
    pub(super) fn new() -> Self {
        Self {
            worked: false,
            until: Instant::now(),
        }
    }

    /// Whether the shard is to look again instead of sleeping.
    pub(super) fn goes_on(&mut self, spin_us: u32) -> bool {
        if spin_us == 0 {
            return false;
        }
        let now = Instant::now();
        if std::mem::take(&mut self.worked) {
            self.until = now + Duration::from_micros(spin_us.into());
        }
        std::hint::spin_loop();
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_for_a_while_after_work() {
        let mut spin = Spin::new();
        assert!(!spin.goes_on(1_000_000), "there was no work");
        spin.worked = true;
        assert!(spin.goes_on(1_000_000));
        assert!(spin.goes_on(1_000_000), "the time is not over");
        spin.worked = true;
        assert!(spin.goes_on(1));
        std::thread::sleep(Duration::from_millis(1));
        assert!(!spin.goes_on(1));
        spin.worked = true;
        assert!(!spin.goes_on(0), "switched off");
    }
}
