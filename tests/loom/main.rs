//! The interleavings of a shard that goes to sleep and of others that send to it: no wake-up is lost, and one
//! is enough. Without the fences the same test finds one that is lost.

#![allow(
    clippy::duplicate_mod,
    reason = "the same file on other atomics is what is compared"
)]

mod sound;
mod weakened;

use std::panic::catch_unwind;

use loom::model::Builder;

/// How often threads are interrupted where they need not be, of two senders: all is too much to wait for.
const INTERRUPTED_MAX: usize = 3;

/// Plays a shard's last looks before it sleeps against senders, as `ringmq::shard` has them. An inbox with a
/// place for each sender tells the shard less than the real one.
macro_rules! play {
    ($flag:ty, $senders:expr, $interrupted_max:expr) => {{
        let mut model = Builder::new();
        model.preemption_bound = $interrupted_max;
        model.check(|| {
            use loom::sync::Arc;
            use loom::sync::atomic::{AtomicBool, Ordering};
            let flag = Arc::new(<$flag>::new());
            let inbox: Arc<[AtomicBool; $senders]> =
                Arc::new(std::array::from_fn(|_| AtomicBool::new(false)));
            let send = |place: usize| {
                let (flag, inbox) = (Arc::clone(&flag), Arc::clone(&inbox));
                loom::thread::spawn(move || {
                    inbox[place].store(true, Ordering::Release);
                    flag.must_be_woken()
                })
            };
            let senders: Vec<_> = (0..$senders).map(send).collect();
            let arrived = || {
                let here = inbox.iter().filter(|one| one.load(Ordering::Acquire));
                here.count()
            };
            let (mut taken, mut sleeps) = (0, false);
            for _turn in 0..2 {
                flag.set();
                let there = arrived();
                sleeps = there == taken;
                if sleeps {
                    break;
                }
                flag.clear();
                taken = there;
            }
            let rings = senders.into_iter().map(|sender| sender.join());
            let rings = rings.filter(|rung| matches!(rung, Ok(true))).count();
            let left = arrived() - taken;
            assert!(
                !sleeps || left == 0 || rings > 0,
                "the shard sleeps, {left} messages wait, and nobody has rung"
            );
            assert!(rings <= 1 || taken > 0, "{rings} rang for one sleep");
        })
    }};
}

#[test]
fn no_wake_up_of_one_sender_is_lost() {
    play!(sound::sleeping::Sleeping, 1, None);
}

#[test]
fn no_wake_up_of_two_senders_is_lost() {
    play!(sound::sleeping::Sleeping, 2, Some(INTERRUPTED_MAX));
}

#[test]
fn without_the_fences_a_wake_up_is_lost() {
    let lost = catch_unwind(|| play!(weakened::sleeping::Sleeping, 1, None));
    assert!(lost.is_err(), "the weakened flag passes as well");
}
