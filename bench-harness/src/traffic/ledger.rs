//! Which messages have come: finds loss, duplicates and disorder.

use serde::{Deserialize, Serialize};

/// What went wrong with messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// Sent, and never came.
    pub lost: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came after a later one.
    pub disorder: u64,
    /// Came to one who had not subscribed, or not as it was sent.
    pub foreign: u64,
    /// Connections that the broker closed.
    pub closed: u64,
    /// Messages that the broker refused with a Reason Code.
    pub refused: u64,
}

impl Faults {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.lost + self.duplicates + self.disorder + self.foreign + self.closed + self.refused
    }

    /// Adds those of another thread.
    pub fn add(&mut self, other: &Self) {
        self.lost += other.lost;
        self.duplicates += other.duplicates;
        self.disorder += other.disorder;
        self.foreign += other.foreign;
        self.closed += other.closed;
        self.refused += other.refused;
    }
}

/// The messages of one publisher as one subscriber sees them.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    next: u32,
    /// Ranges below `next` that have not come, no more of them than messages were skipped. Boxed, because most
    /// sequences have none, and there may be a million of them.
    #[allow(clippy::box_collection)]
    missing: Option<Box<Vec<(u32, u32)>>>,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The next, or later than the next.
    InOrder,
    /// One that a later one has overtaken.
    Late,
    /// One that came before.
    Again,
}

impl Sequence {
    /// Notes a message.
    #[inline]
    pub fn take(&mut self, sequence: u32) -> Arrival {
        if sequence == self.next {
            self.next += 1;
            return Arrival::InOrder;
        }
        self.take_odd(sequence)
    }

    #[cold]
    fn take_odd(&mut self, sequence: u32) -> Arrival {
        if sequence > self.next {
            let gap = (self.next, sequence);
            self.missing.get_or_insert_default().push(gap);
            self.next = sequence + 1;
            return Arrival::InOrder;
        }
        let Some(missing) = &mut self.missing else {
            return Arrival::Again;
        };
        // Sorted: gaps are appended, and split in place.
        let place = missing.partition_point(|(_, end)| *end <= sequence);
        match missing.get(place).copied() {
            Some((start, end)) if start <= sequence => {
                let rest = [(start, sequence), (sequence + 1, end)];
                let rest = rest.into_iter().filter(|(start, end)| start < end);
                missing.splice(place..=place, rest);
                Arrival::Late
            }
            _ => Arrival::Again,
        }
    }

    /// How many of `sent` messages have not come.
    pub fn lost(&self, sent: u32) -> u64 {
        let missing = self.missing.iter().flat_map(|missing| missing.iter());
        let skipped: u64 = missing.map(|(start, end)| u64::from(end - start)).sum();
        skipped + u64::from(sent.saturating_sub(self.next))
    }

    /// How many messages are known, come or missing.
    pub fn next(&self) -> u32 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(sequences: &[u32]) -> (Vec<Arrival>, Sequence) {
        let mut sequence = Sequence::default();
        let seen = sequences.iter().map(|one| sequence.take(*one)).collect();
        (seen, sequence)
    }

    use Arrival::{Again, InOrder, Late};

    #[test]
    fn loss_is_what_has_not_come_at_the_end() {
        let (seen, sequence) = arrivals(&[0, 1, 5, 6]);
        assert_eq!(seen, [InOrder; 4]);
        assert_eq!((sequence.lost(7), sequence.lost(10)), (3, 6));
    }

    #[test]
    fn a_late_message_is_disorder_and_no_loss() {
        let (seen, sequence) = arrivals(&[0, 4, 2, 1, 3, 5]);
        assert_eq!(seen, [InOrder, InOrder, Late, Late, Late, InOrder]);
        assert_eq!(sequence.lost(6), 0);
    }

    #[test]
    fn a_message_that_came_before_is_a_duplicate() {
        let (seen, sequence) = arrivals(&[0, 0, 3, 1, 1, 3, 2, 2]);
        assert_eq!(
            seen,
            [InOrder, Again, InOrder, Late, Again, Again, Late, Again]
        );
        assert_eq!(sequence.lost(4), 0);
    }
}
