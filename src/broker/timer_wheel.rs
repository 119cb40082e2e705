//! A hashed timer wheel: keep alive, Will delay, session expiry, connect timeout.
//!
//! Each shard has one for the broker and one for connections that are not yet at home. A timer is never
//! cancelled: its owner raises an epoch, and a timer that comes with an old epoch is ignored. A timer that
//! is far away goes there in steps of 20 s and ends at the next one when it is void, so that clients
//! who come and go with long intervals leave nothing behind.
//!
//! Time is monotonic milliseconds, passed in; the wheel turns in ticks of 100 ms and never fires early.

use crate::config::limits::TIMER_TICK_MS;

/// Slots of the wheel: 4096 ticks, nearly seven minutes a turn.
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;
/// A step of a timer that is further away, ticks: less than a turn, so that a slot is of one tick only. So
/// long void timers take memory, and so often a timer that is far away is touched.
const STEP_TICKS: u64 = 20_000 / TIMER_TICK_MS;

#[derive(Debug)]
struct Timer<K> {
    tick: u64,
    key: K,
}

/// Timers by deadline.
#[derive(Debug)]
pub struct TimerWheel<K> {
    slots: Vec<Vec<Timer<K>>>,
    /// A bit for each slot that is not empty.
    occupied: [u64; WORDS],
    /// Everything up to this tick has fired.
    now_tick: u64,
    len: usize,
}

impl<K: Copy> TimerWheel<K> {
    /// An empty wheel that starts at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        let slots = std::iter::repeat_with(Vec::new).take(SLOTS).collect();
        Self {
            slots,
            occupied: [0; WORDS],
            now_tick: now_ms / TIMER_TICK_MS,
            len: 0,
        }
    }

    /// How many timers are set, out-of-date ones included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether none is set.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Fires `key` at `deadline_ms` or up to a tick later.
    pub fn set(&mut self, deadline_ms: u64, key: K) {
        let tick = deadline_ms.div_ceil(TIMER_TICK_MS);
        self.place(Timer { tick, key });
        self.len += 1;
    }

    /// Puts a timer where it fires, or where its next step ends.
    fn place(&mut self, timer: Timer<K>) {
        let next = self.now_tick + 1;
        let slot = slot_of(timer.tick.clamp(next, self.now_tick + STEP_TICKS));
        self.slots[slot].push(timer);
        self.occupied[slot / 64] |= 1 << (slot % 64);
    }

    /// Puts the keys of all timers that are due into `due`, in the order of their steps' ends: the earliest
    /// first, unless more than a step has passed at once.
    pub fn advance(&mut self, now_ms: u64, due: &mut Vec<K>) {
        self.advance_current(now_ms, due, |_| true);
    }

    /// The same; timers at the end of a step for which `is_current` is false are void and end.
    pub fn advance_current(
        &mut self,
        now_ms: u64,
        due: &mut Vec<K>,
        is_current: impl Fn(&K) -> bool,
    ) {
        let target = now_ms / TIMER_TICK_MS;
        if target <= self.now_tick {
            return;
        }
        let first = self.now_tick + 1;
        // No timer stands further away than a step.
        let last = target.min(self.now_tick + STEP_TICKS);
        self.now_tick = target;
        if self.len == 0 {
            return;
        }
        for tick in first..=last {
            let slot = slot_of(tick);
            if self.occupied[slot / 64] & (1 << (slot % 64)) == 0 {
                continue;
            }
            self.occupied[slot / 64] &= !(1 << (slot % 64));
            for timer in std::mem::take(&mut self.slots[slot]) {
                if timer.tick > target && is_current(&timer.key) {
                    self.place(timer);
                    continue;
                }
                self.len -= 1;
                if timer.tick <= target {
                    due.push(timer.key);
                }
            }
        }
    }

    /// When to call [`Self::advance`] next: not later than the next timer. It may be the end of a step, so
    /// this can be early.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.len == 0 {
            return None;
        }
        let start = slot_of(self.now_tick + 1);
        let first_word = self.occupied[start / 64] & (u64::MAX << (start % 64));
        let mut distance = None;
        if first_word != 0 {
            distance = Some(first_word.trailing_zeros() as usize - start % 64);
        }
        for step in 1..=WORDS {
            if distance.is_some() {
                break;
            }
            let word = self.occupied[(start / 64 + step) % WORDS];
            if word != 0 {
                distance = Some(step * 64 + word.trailing_zeros() as usize - start % 64);
            }
        }
        distance.map(|slots| (self.now_tick + 1 + slots as u64) * TIMER_TICK_MS)
    }
}

fn slot_of(tick: u64) -> usize {
    // The remainder is below `SLOTS`.
    usize::try_from(tick % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fired(wheel: &mut TimerWheel<u32>, now_ms: u64) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.advance(now_ms, &mut due);
        due
    }

    #[test]
    fn timers_fire_in_order_and_never_early() {
        let mut wheel = TimerWheel::new(1_000);
        wheel.set(1_250, 2);
        wheel.set(1_100, 1);
        wheel.set(2_000_000, 3);
        assert_eq!(fired(&mut wheel, 1_099), Vec::<u32>::new());
        assert_eq!(fired(&mut wheel, 1_100), [1]);
        assert_eq!(fired(&mut wheel, 1_299), Vec::<u32>::new());
        assert_eq!(fired(&mut wheel, 1_300), [2]);
        assert_eq!(fired(&mut wheel, 1_999_999), Vec::<u32>::new());
        assert_eq!(fired(&mut wheel, 2_000_000), [3]);
        assert!(wheel.is_empty());
    }

    #[test]
    fn the_next_deadline_is_never_late() {
        let mut wheel = TimerWheel::new(0);
        assert_eq!(wheel.next_deadline_ms(), None);
        for deadline in [100, 6_500, 12_800, 409_500, 409_600, 409_700] {
            wheel.set(deadline, 0);
            let next = wheel.next_deadline_ms();
            assert!(
                next.is_some_and(|next| next <= deadline),
                "{next:?} for {deadline}"
            );
            let mut now = 0;
            while let Some(next) = wheel.next_deadline_ms() {
                assert!(next > now);
                now = next;
                fired(&mut wheel, now);
            }
            assert!(now >= deadline);
            wheel = TimerWheel::new(0);
        }
    }

    #[test]
    fn a_long_sleep_fires_everything_once() {
        let mut wheel = TimerWheel::new(0);
        for key in 0..10_000u32 {
            wheel.set(u64::from(key) * 130, key);
        }
        let mut all = fired(&mut wheel, 10_000 * 130);
        all.sort_unstable();
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_void_timer_ends_with_its_step() {
        let mut wheel = TimerWheel::new(0);
        let mut due = Vec::new();
        wheel.set(4_000_000_000, 1);
        wheel.set(4_000_000_000, 2);
        wheel.advance_current(20_000, &mut due, |key| *key == 2);
        assert_eq!((wheel.len(), due.len()), (1, 0));
        assert_eq!(fired(&mut wheel, 3_999_999_900), Vec::<u32>::new());
        assert_eq!(fired(&mut wheel, 4_000_000_000), [2]);
    }

    #[test]
    fn steps_that_end_late_lose_nothing() {
        let mut wheel = TimerWheel::new(0);
        for key in 0..1_000u32 {
            wheel.set(u64::from(key) * 977, key);
        }
        let mut all = Vec::new();
        // Pauses of every length, from less than a tick to more than a turn.
        let mut now = 0;
        for pause in (0..40).map(|n| n * n * 900 + 50).cycle().take(120) {
            now += pause;
            for key in fired(&mut wheel, now) {
                assert!(u64::from(key) * 977 <= now, "{key} fired early, at {now}");
                all.push(key);
            }
        }
        all.sort_unstable();
        assert_eq!(all, (0..1_000).collect::<Vec<_>>());
    }
}
