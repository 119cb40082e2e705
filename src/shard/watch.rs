//! What a shard knows of its turns: how long they take, what they do, and which work held one up.
//!
//! The clock is read at the start and the end of a turn, and after each kind of work that had something to
//! do. Everything is recorded once a turn, for all its messages together.

use crate::observability::latency::{Distribution, Turns, Work};

/// How often a line about stalls may be logged, microseconds.
const LINE_EVERY_US: u64 = 1_000_000;

/// The turn that is under way, and all before it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) turns: Turns,
    pub(super) receive_to_route: Distribution,
    pub(super) route_to_send: Distribution,
    /// Times that the ring had no receive buffer.
    pub(super) buffers_exhausted: u64,
    began_us: u64,
    marked_us: u64,
    routed_us: u64,
    received_before: u64,
    sent_before: u64,
    longest_us: u64,
    longest: Option<Work>,
    /// The connection whose packets cost most in this turn.
    heaviest: (u32, u32),
    /// The last question that was answered in this turn.
    asked: Option<&'static str>,
    line_us: u64,
}

/// A turn that took longer than it may.
#[derive(Debug)]
pub(super) struct Stall {
    pub(super) work: &'static str,
    pub(super) work_us: u64,
    pub(super) turn_us: u64,
    pub(super) heaviest: u32,
    pub(super) heaviest_cost: u32,
    pub(super) asked: Option<&'static str>,
}

impl Watch {
    /// A turn begins; `traffic` is how many messages were received and sent so far.
    pub(super) fn begin(&mut self, now_us: u64, traffic: (u64, u64)) {
        self.began_us = now_us;
        self.marked_us = now_us;
        self.routed_us = now_us;
        (self.received_before, self.sent_before) = traffic;
        self.longest_us = 0;
        self.longest = None;
        self.heaviest = (0, 0);
        self.asked = None;
    }

    /// A kind of work is done.
    pub(super) fn mark(&mut self, work: Work, now_us: u64) {
        let elapsed_us = now_us.saturating_sub(self.marked_us);
        self.marked_us = now_us;
        if work != Work::Output {
            self.routed_us = now_us;
        }
        if elapsed_us >= self.longest_us {
            self.longest_us = elapsed_us;
            self.longest = Some(work);
        }
    }

    /// A connection's packets have cost so much in this turn.
    #[inline]
    pub(super) fn weigh(&mut self, slot: u32, cost: u32) {
        if cost > self.heaviest.1 {
            self.heaviest = (slot, cost);
        }
    }

    /// A question was answered.
    pub(super) fn note_asked(&mut self, asked: &'static str) {
        self.asked = Some(asked);
    }

    /// The turn ends; gives what to say about it if it took more than `bound_us` and nothing was said just
    /// before.
    pub(super) fn end(
        &mut self,
        now_us: u64,
        completions: u64,
        traffic: (u64, u64),
        bound_us: u64,
    ) -> Option<Stall> {
        self.mark(Work::Output, now_us);
        let turn_us = now_us.saturating_sub(self.began_us);
        self.turns.time_us.record(turn_us, 1);
        self.turns.completions.record(completions, 1);
        let received = traffic.0 - self.received_before;
        if received > 0 {
            let elapsed_us = self.routed_us - self.began_us;
            self.receive_to_route.record(elapsed_us, received);
        }
        let sent = traffic.1 - self.sent_before;
        if sent > 0 {
            let elapsed_us = now_us.saturating_sub(self.routed_us);
            self.route_to_send.record(elapsed_us, sent);
        }
        if turn_us <= bound_us {
            return None;
        }
        let work = self.longest.unwrap_or(Work::Output);
        self.turns.stalls[work as usize] += 1;
        if now_us < self.line_us {
            return None;
        }
        self.line_us = now_us + LINE_EVERY_US;
        Some(Stall {
            work: Work::NAMES[work as usize],
            work_us: self.longest_us,
            turn_us,
            heaviest: self.heaviest.0,
            heaviest_cost: self.heaviest.1,
            asked: self.asked,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_long_turn_names_the_work_that_held_it() {
        let mut watch = Watch::default();
        watch.begin(1_000, (10, 20));
        watch.mark(Work::Completions, 1_100);
        watch.weigh(7, 500);
        watch.weigh(8, 400);
        watch.mark(Work::Timers, 91_100);
        let stall = watch.end(91_200, 3, (15, 40), 50_000).unwrap();
        assert_eq!(
            (stall.work, stall.work_us, stall.turn_us),
            ("timers", 90_000, 90_200)
        );
        assert_eq!((stall.heaviest, stall.heaviest_cost), (7, 500));
        assert_eq!(watch.turns.stalls[Work::Timers as usize], 1);
        assert_eq!(watch.receive_to_route.count(), 5);
        assert_eq!(watch.route_to_send.count(), 20);
        // The next one is counted, and its line left out.
        watch.begin(100_000, (15, 40));
        watch.mark(Work::Inbox, 190_000);
        assert!(watch.end(190_000, 0, (15, 40), 50_000).is_none());
        assert_eq!(watch.turns.stalls[Work::Inbox as usize], 1);
        watch.begin(200_000, (15, 40));
        assert!(watch.end(200_010, 0, (15, 40), 50_000).is_none());
        assert_eq!(watch.turns.time_us.count(), 3);
    }
}
