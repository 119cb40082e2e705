//! How fast a client may publish: messages and bytes in a second.
//!
//! What is over it is not read until its time has come, so that the client's own socket holds it back. One
//! that presses on without a quiet moment is disconnected (0x96).

use crate::config::limits::ListenerLimits;

/// Tokens are counted in thousandths, so that a millisecond brings a whole number of them.
const SCALE: u64 = 1000;

/// Tokens of one kind.
#[derive(Debug)]
struct Tokens {
    /// In a second; 0 is no limit.
    per_s: u64,
    /// Thousandths. Below zero after a packet that is larger than what was there.
    left: i64,
}

impl Tokens {
    fn new(per_s: u32) -> Self {
        let mut tokens = Self {
            per_s: u64::from(per_s),
            left: 0,
        };
        tokens.left = tokens.full();
        tokens
    }

    fn full(&self) -> i64 {
        i64::try_from(self.per_s * SCALE).unwrap_or(i64::MAX)
    }

    fn refill(&mut self, elapsed_ms: u64) {
        let more = i64::try_from(self.per_s.saturating_mul(elapsed_ms)).unwrap_or(i64::MAX);
        self.left = self.left.saturating_add(more).min(self.full());
    }

    fn is_there(&self) -> bool {
        self.per_s == 0 || self.left > 0
    }

    fn is_full(&self) -> bool {
        self.left == self.full()
    }

    fn spend(&mut self, count: u64) {
        if self.per_s > 0 {
            let spent = i64::try_from(count.saturating_mul(SCALE)).unwrap_or(i64::MAX);
            self.left = self.left.saturating_sub(spent);
        }
    }

    /// After how many milliseconds there are some.
    fn wait_ms(&self) -> u64 {
        match self.is_there() {
            true => 0,
            false => (1 - self.left).unsigned_abs().div_ceil(self.per_s.max(1)),
        }
    }
}

/// Whether a PUBLISH may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// Now.
    Go,
    /// At this time, monotonic milliseconds.
    WaitUntil(u64),
    /// The client has pressed on for too long.
    TooLong,
}

/// The publish rate of one connection.
#[derive(Debug)]
pub struct PublishRate {
    messages: Tokens,
    bytes: Tokens,
    refilled_ms: u64,
    /// Since when it was held back, without a quiet moment.
    pressing_since_ms: Option<u64>,
    patience_ms: u64,
}

impl PublishRate {
    /// As a listener limits it; `None` if it does not.
    pub(super) fn of(limits: &ListenerLimits, now_ms: u64) -> Option<Self> {
        let rates = (
            limits.publish_messages_per_s_max,
            limits.publish_bytes_per_s_max,
        );
        (rates != (0, 0)).then(|| Self {
            messages: Tokens::new(rates.0),
            bytes: Tokens::new(rates.1),
            refilled_ms: now_ms,
            pressing_since_ms: None,
            patience_ms: u64::from(limits.publish_rate_patience_s) * 1000,
        })
    }

    /// Takes the tokens of a PUBLISH of so many bytes, if it may be taken now.
    pub(super) fn take(&mut self, packet_bytes: usize, now_ms: u64) -> Pace {
        let elapsed_ms = now_ms.saturating_sub(self.refilled_ms);
        self.refilled_ms = now_ms;
        self.messages.refill(elapsed_ms);
        self.bytes.refill(elapsed_ms);
        if self.messages.is_full() && self.bytes.is_full() {
            self.pressing_since_ms = None;
        }
        if self.messages.is_there() && self.bytes.is_there() {
            self.messages.spend(1);
            self.bytes.spend(packet_bytes as u64);
            return Pace::Go;
        }
        let since_ms = *self.pressing_since_ms.get_or_insert(now_ms);
        if self.patience_ms > 0 && now_ms - since_ms > self.patience_ms {
            return Pace::TooLong;
        }
        Pace::WaitUntil(now_ms + self.messages.wait_ms().max(self.bytes.wait_ms()))
    }

    /// Whether a PUBLISH could be taken now.
    pub(super) fn may_take(&self, now_ms: u64) -> bool {
        let elapsed_ms = now_ms.saturating_sub(self.refilled_ms);
        let due = |tokens: &Tokens| elapsed_ms >= tokens.wait_ms();
        due(&self.messages) && due(&self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(messages: u32, bytes: u32, patience_s: u16) -> PublishRate {
        let limits = ListenerLimits {
            publish_messages_per_s_max: messages,
            publish_bytes_per_s_max: bytes,
            publish_rate_patience_s: patience_s,
            ..ListenerLimits::default()
        };
        PublishRate::of(&limits, 0).unwrap()
    }

    #[test]
    fn a_second_is_saved_up_and_then_the_rate_holds() {
        let mut rate = rate(10, 0, 0);
        let burst = |rate: &mut PublishRate, now| {
            (0..100)
                .take_while(|_| rate.take(1, now) == Pace::Go)
                .count()
        };
        assert_eq!(burst(&mut rate, 0), 10);
        assert_eq!(rate.take(1, 0), Pace::WaitUntil(1));
        assert_eq!(burst(&mut rate, 500), 5);
        assert_eq!(burst(&mut rate, 10_000), 10);
    }

    #[test]
    fn a_large_packet_is_paid_off_afterwards() {
        let mut rate = rate(0, 1000, 0);
        assert_eq!(rate.take(3000, 0), Pace::Go);
        let Pace::WaitUntil(at) = rate.take(1, 0) else {
            panic!("not held back");
        };
        assert_eq!(at, 2001);
        assert!(!rate.may_take(2000) && rate.may_take(2001));
        assert_eq!(rate.take(1, 2001), Pace::Go);
    }

    #[test]
    fn only_who_presses_on_without_a_quiet_moment_is_cut_off() {
        let mut pressing = rate(10, 0, 2);
        let mut now = 0;
        let cut_off = loop {
            match pressing.take(1, now) {
                Pace::Go => {}
                Pace::WaitUntil(at) => now = at,
                Pace::TooLong => break now,
            }
        };
        assert!((2_000..2_200).contains(&cut_off), "{cut_off}");
        let mut bursts = rate(10, 0, 2);
        for second in 0..20u64 {
            for _ in 0..12 {
                assert_ne!(bursts.take(1, second * 2_000), Pace::TooLong);
            }
        }
    }
}
