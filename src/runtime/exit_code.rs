//! How the process ends, for service managers and scripts.
//!
//! Used by `main`. These numbers are part of the interface: they do not change.

/// Ended as asked, or what was asked for is done.
pub const OK: u8 = 0;
/// Something failed that should not: a shard, a panic.
pub const UNEXPECTED: u8 = 1;
/// The command line or the configuration is wrong; also what clap uses.
pub const CONFIGURATION: u8 = 2;
/// The kernel does not offer what RingMQ needs, or a limit is too low.
pub const KERNEL: u8 = 3;
/// A listener cannot listen.
pub const LISTEN: u8 = 4;
/// Ended before all clients had their last packets: a second signal came, or the grace time was over.
pub const CUT_SHORT: u8 = 5;

/// The store cannot be used, or has failed: nothing that was acknowledged is lost.
pub const STORAGE: u8 = 6;
/// `ringmq doctor` found something to change.
pub const TUNING: u8 = 7;

/// Every exit code with its meaning, for the manual.
pub const ALL: [(u8, &str); 8] = [
    (OK, "ended as asked"),
    (
        UNEXPECTED,
        "something failed unexpectedly; the log says what",
    ),
    (
        CONFIGURATION,
        "the command line or the configuration is wrong",
    ),
    (
        KERNEL,
        "the kernel does not offer what RingMQ needs, or a limit is too low",
    ),
    (LISTEN, "a listener cannot listen"),
    (
        CUT_SHORT,
        "ended by a second signal, or because the grace time was over",
    ),
    (
        STORAGE,
        "the store cannot be used, or has failed; nothing that was acknowledged is lost",
    ),
    (TUNING, "doctor found something to change"),
];

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_consecutive() {
        assert!(
            super::ALL
                .iter()
                .zip(0..)
                .all(|((code, _), index)| *code == index)
        );
    }
}
