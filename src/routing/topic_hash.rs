//! Keyed 64-bit hashes of topics and Client Identifiers, the same on every shard of a process.
//!
//! A hash is computed once for a PUBLISH and used for the local index, the interest index and the choice of
//! the retained message's owner.

use std::hash::{BuildHasher, Hasher};

use super::ids::ShardId;

/// The hash of a Topic Name or of a Topic Filter without wildcards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicHash(pub u64);

/// Makes the hashes of one process; cloned to every shard.
#[derive(Clone, Debug)]
pub struct TopicHasher {
    state: foldhash::quality::FixedState,
    mask: u64,
}

impl TopicHasher {
    /// With a key that no client knows, so that nobody can send topics that collide.
    pub fn new(key: u64) -> Self {
        Self {
            state: foldhash::quality::FixedState::with_seed(key),
            mask: u64::MAX,
        }
    }

    /// With hashes of few bits, so that collisions happen: for tests.
    pub fn colliding(bits: u32) -> Self {
        Self {
            mask: (1 << bits) - 1,
            ..Self::new(1)
        }
    }

    /// The hash of `text`.
    #[inline]
    pub fn hash(&self, text: &str) -> TopicHash {
        let mut hasher = self.state.build_hasher();
        hasher.write(text.as_bytes());
        TopicHash(hasher.finish() & self.mask)
    }

    /// The home shard of a Client Identifier.
    pub fn home_of(&self, client_identifier: &str, shard_count: u16) -> ShardId {
        shard_of(self.hash(client_identifier), shard_count)
    }
}

/// The shard that owns what has this hash.
#[inline]
pub fn shard_of(hash: TopicHash, shard_count: u16) -> ShardId {
    // The upper half, since tables use the lower bits. The remainder fits, as the divisor does.
    let remainder = (hash.0 >> 32) % u64::from(shard_count.max(1));
    ShardId(u16::try_from(remainder).unwrap_or(0))
}
