//! Pings, spread evenly: a sweep over all connections, so that each is pinged twice in its Keep Alive.

use std::ops::Range;

/// Who is to be pinged when.
#[derive(Debug)]
pub struct Sweep {
    round_ns: u64,
    last_ns: u64,
    next: usize,
}

impl Sweep {
    /// Begins at `now_ns`.
    pub fn new(keep_alive_s: u16, now_ns: u64) -> Self {
        Self {
            round_ns: u64::from(keep_alive_s) * 500_000_000,
            last_ns: now_ns,
            next: 0,
        }
    }

    /// Who is due, modulo `connections`.
    pub fn due(&mut self, now_ns: u64, connections: usize) -> Range<usize> {
        let elapsed = now_ns - self.last_ns;
        let Some(each_ns) = self.round_ns.checked_div(connections as u64) else {
            return 0..0;
        };
        let count = elapsed / each_ns.max(1);
        if count == 0 {
            return 0..0;
        }
        self.last_ns += count * each_ns.max(1);
        // More than one round at once pings nobody twice.
        let count = usize::try_from(count)
            .unwrap_or(connections)
            .min(connections);
        let due = self.next..self.next + count;
        self.next = due.end % connections;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_pinged_once_in_half_a_keep_alive() {
        let mut sweep = Sweep::new(10, 0);
        let mut pings = vec![0; 7];
        for step in 1..=100 {
            for number in sweep.due(step * 50_000_000, 7) {
                pings[number % 7] += 1;
            }
        }
        assert_eq!(pings, vec![1; 7]);
        assert!(sweep.due(5_000_000_001, 0).is_empty());
    }

    #[test]
    fn a_long_pause_is_made_up_for_once() {
        let mut sweep = Sweep::new(1, 0);
        assert_eq!(sweep.due(60_000_000_000, 3).len(), 3);
        assert!(sweep.due(60_000_000_001, 3).is_empty());
    }
}
