//! When the messages of an open loop are meant to be sent: evenly spaced over all publishers of all threads,
//! whatever the broker does.
//!
//! A message's time depends on its number alone. If the generator or the broker is late, the message still
//! carries the time that it was meant for, so that waiting counts as latency (no coordinated omission).

/// The messages of one thread, which has the publishers `first`, `first + step`, ...
#[derive(Debug)]
pub struct Schedule {
    interval_ns: f64,
    publishers: usize,
    first: usize,
    step: usize,
    begun_ns: u64,
    round: u64,
    publisher: usize,
}

impl Schedule {
    /// `rate` messages a second of all `publishers` together, from `begun_ns` on.
    pub fn new(rate: f64, publishers: usize, first: usize, step: usize, begun_ns: u64) -> Self {
        Self {
            interval_ns: 1e9 / rate,
            publishers,
            first,
            step,
            begun_ns,
            round: 0,
            publisher: first,
        }
    }

    /// When the next message is to be sent, nanoseconds.
    #[inline]
    pub fn next_ns(&self) -> u64 {
        let number = self.round * self.publishers as u64 + self.publisher as u64;
        self.begun_ns + (number as f64 * self.interval_ns) as u64
    }

    /// Takes the next message if it is due: its publisher and its time.
    #[inline]
    pub fn take_due(&mut self, now_ns: u64) -> Option<(usize, u64)> {
        let due_ns = self.next_ns();
        if due_ns > now_ns || self.first >= self.publishers {
            return None;
        }
        let publisher = self.publisher;
        self.publisher += self.step;
        if self.publisher >= self.publishers {
            self.publisher = self.first;
            self.round += 1;
        }
        Some((publisher, due_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_due(schedule: &mut Schedule, now_ns: u64) -> Vec<(usize, u64)> {
        std::iter::from_fn(|| schedule.take_due(now_ns)).collect()
    }

    #[test]
    fn messages_are_evenly_spaced_over_the_publishers_of_all_threads() {
        let mut both: Vec<_> = (0..2)
            .flat_map(|thread| all_due(&mut Schedule::new(1e6, 3, thread, 2, 500), 5_500))
            .collect();
        both.sort_by_key(|(_, due_ns)| *due_ns);
        let expected = [
            (0, 500),
            (1, 1500),
            (2, 2500),
            (0, 3500),
            (1, 4500),
            (2, 5500),
        ];
        assert_eq!(both, expected);
    }

    #[test]
    fn a_late_generator_keeps_the_times() {
        let mut schedule = Schedule::new(1000.0, 1, 0, 1, 0);
        assert_eq!(schedule.take_due(0), Some((0, 0)));
        assert_eq!(schedule.take_due(999_999), None);
        let late = all_due(&mut schedule, 3_000_000);
        assert_eq!(late, [(0, 1_000_000), (0, 2_000_000), (0, 3_000_000)]);
    }

    #[test]
    fn a_thread_without_publishers_sends_nothing() {
        assert_eq!(Schedule::new(1000.0, 1, 1, 2, 0).take_due(u64::MAX), None);
    }
}
