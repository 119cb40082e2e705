//! Whole connections: any bytes and any packets of several clients into the cores of two shards, with time
//! that goes on and clients that vanish. What is answered is well formed, memory stays within limits, and
//! nothing is left in the end.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringmq_fuzz::shards::Shards;
use ringmq_fuzz::{Input, within};

/// Whatever four clients do, with the limits that they have here.
const MEMORY_BYTES_MAX: usize = 1 << 20;

fuzz_target!(|bytes: &[u8]| {
    within(MEMORY_BYTES_MAX, || {
        let mut shards = Shards::new();
        let mut input = Input(bytes);
        while !input.is_empty() {
            shards.step(&mut input);
        }
        shards.finish();
    });
});
