//! What the micro-benchmarks do, once for both: [`../time.rs`] measures it for people, `../instructions.rs`
//! counts its instructions for CI. Everything is made in a set-up that is not measured.

pub mod decode;
pub mod matching;
pub mod shards;
