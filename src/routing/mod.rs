//! Who gets a message: the indexes of a shard.
//!
//! Called by `broker`. [`local_index`] holds the subscriptions of this shard's own sessions,
//! [`interest_index`] which other shards have any, [`shared_subscription`] the groups, [`retained`] the part
//! of the retained messages that this shard owns. Not here: sessions, delivery, time.

pub mod application_message;
pub mod filter_table;
pub mod ids;
pub mod interest_index;
pub mod local_index;
pub mod retained;
pub mod shared_subscription;
pub mod topic_hash;

mod subscribers;
mod trie;
