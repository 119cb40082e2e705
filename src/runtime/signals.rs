//! What the process is told from outside.
//!
//! Used by the main thread, which waits for signals while the shards work. Signals are counted as the
//! kernel does it: several of one kind that come at once are one.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::iterator;

/// A signal that means something to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end, as a service manager asks for it.
    Terminate,
    /// SIGINT: end, as a person at the terminal asks for it.
    Interrupt,
    /// SIGHUP: read the configuration again.
    Reload,
}

impl Signal {
    /// Whether the process is to end.
    pub fn ends(self) -> bool {
        self != Self::Reload
    }

    /// Its name in logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Reload => "SIGHUP",
        }
    }
}

/// The signals of the process. Their default effect is off as long as this exists, and after.
#[derive(Debug)]
pub struct Signals {
    iterator: iterator::Signals,
    /// At most one of each kind, since the kernel merges those that wait (`SIGNAL_KINDS_MAX` is 3).
    waiting: VecDeque<Signal>,
}

impl Signals {
    /// Takes over the signals. Made before the shards, so that no signal is missed while they start.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn new() -> io::Result<Self> {
        // A limit of the size of files must come as an error of the write, not as a sudden end.
        signal_hook::flag::register(SIGXFSZ, Arc::default())?;
        Ok(Self {
            iterator: iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?,
            waiting: VecDeque::new(),
        })
    }

    /// Waits for the next one.
    pub fn wait(&mut self) -> Signal {
        loop {
            if let Some(signal) = self.waiting.pop_front() {
                return signal;
            }
            let arrived = self.iterator.wait();
            self.waiting.extend(arrived.filter_map(meaning));
        }
    }
}

fn meaning(number: i32) -> Option<Signal> {
    match number {
        SIGTERM => Some(Signal::Terminate),
        SIGINT => Some(Signal::Interrupt),
        SIGHUP => Some(Signal::Reload),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn none_is_lost_when_two_come_at_once() {
        let mut signals = Signals::new().unwrap();
        signal_hook::low_level::raise(SIGHUP).unwrap();
        signal_hook::low_level::raise(SIGTERM).unwrap();
        let mut names = [signals.wait().name(), signals.wait().name()];
        names.sort_unstable();
        assert_eq!(names, ["SIGHUP", "SIGTERM"]);
        signal_hook::low_level::raise(SIGINT).unwrap();
        let signal = signals.wait();
        assert_eq!(signal, Signal::Interrupt);
        assert!(signal.ends() && !Signal::Reload.ends());
    }
}
