//! The replica, on every shard, of what the other shards are interested in.
//!
//! Called for every message and for every change that another shard sends. Exact filters are known by
//! their hash alone: a collision only sends a message to a shard that has nobody for it. Each shard's
//! changes come in order, and it never adds twice what it has not removed.

use hashbrown::HashTable;

use super::filter_table::FilterTable;
use super::ids::ShardId;
use super::local_index::FilterId;
use super::topic_hash::{TopicHash, TopicHasher};

/// A set of shards, as bits: 256 at most (`SHARDS_MAX`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardBits([u64; 4]);

impl ShardBits {
    /// Adds a shard.
    #[inline]
    pub fn insert(&mut self, shard: ShardId) {
        self.0[shard.index() / 64 % 4] |= 1 << (shard.index() % 64);
    }

    /// Removes a shard.
    pub fn remove(&mut self, shard: ShardId) {
        self.0[shard.index() / 64 % 4] &= !(1 << (shard.index() % 64));
    }

    /// Whether a shard is in it.
    pub fn contains(&self, shard: ShardId) -> bool {
        self.0[shard.index() / 64 % 4] & 1 << (shard.index() % 64) != 0
    }

    /// Whether it is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Adds all of another set.
    pub fn add_all(&mut self, other: &Self) {
        for (word, more) in self.0.iter_mut().zip(other.0) {
            *word |= more;
        }
    }

    /// The shards, in order.
    #[inline]
    pub fn iter(self) -> ShardIter {
        ShardIter {
            words: self.0,
            word: 0,
        }
    }
}

/// The shards of a set.
#[derive(Debug)]
pub struct ShardIter {
    words: [u64; 4],
    word: u16,
}

impl Iterator for ShardIter {
    type Item = ShardId;

    #[inline]
    fn next(&mut self) -> Option<ShardId> {
        loop {
            let bits = self.words.get_mut(usize::from(self.word))?;
            if *bits != 0 {
                // Below 64.
                let bit = bits.trailing_zeros() as u16;
                *bits &= *bits - 1;
                return Some(ShardId(self.word * 64 + bit));
            }
            self.word += 1;
        }
    }
}

/// What a shard is interested in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// A filter without wildcards.
    Exact(TopicHash),
    /// A filter with wildcards.
    Wildcard(Box<str>),
}

/// A change of a shard's interest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterestChange {
    /// In what.
    pub interest: Interest,
    /// Whether it begins or ends.
    pub add: bool,
}

/// An exact filter's shards in twelve bytes: its hash in halves, so that nothing is padded, and one shard, or
/// the place of a set.
#[derive(Clone, Copy, Debug)]
struct ExactEntry {
    hash_low: u32,
    hash_high: u32,
    shards: u32,
}

const IS_SET: u32 = 1 << 31;

impl ExactEntry {
    fn hash(&self) -> u64 {
        u64::from(self.hash_high) << 32 | u64::from(self.hash_low)
    }
}

/// Topic Filter to interested shards.
#[derive(Debug)]
pub struct InterestIndex {
    exact: HashTable<ExactEntry>,
    sets: slab::Slab<ShardBits>,
    wildcard: FilterTable<ShardBits>,
    found: Vec<FilterId>,
}

impl InterestIndex {
    /// An empty index.
    pub fn new(hasher: TopicHasher) -> Self {
        Self {
            exact: HashTable::new(),
            sets: slab::Slab::new(),
            wildcard: FilterTable::new(hasher),
            found: Vec::new(),
        }
    }

    /// How many filters (hashes, for exact ones) any other shard is interested in.
    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }

    /// Whether no other shard is interested in anything.
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcard.is_empty()
    }

    /// Applies a change that shard `from` has made.
    pub fn apply(&mut self, change: &InterestChange, from: ShardId) {
        match (&change.interest, change.add) {
            (Interest::Exact(hash), true) => self.add_exact(*hash, from),
            (Interest::Exact(hash), false) => self.remove_exact(*hash, from),
            (Interest::Wildcard(filter), true) => {
                let id = self.wildcard.get_or_insert(filter, ShardBits::default);
                if let Some(bits) = self.wildcard.get_mut(id) {
                    bits.insert(from);
                }
            }
            (Interest::Wildcard(filter), false) => {
                let Some(id) = self.wildcard.find(filter) else {
                    return;
                };
                let empty = self.wildcard.get_mut(id).is_some_and(|bits| {
                    bits.remove(from);
                    bits.is_empty()
                });
                if empty {
                    self.wildcard.remove(id);
                }
            }
        }
    }

    fn add_exact(&mut self, hash: TopicHash, from: ShardId) {
        let shard = u32::from(from.0);
        match self.exact.find_mut(hash.0, |entry| entry.hash() == hash.0) {
            None => {
                let entry = ExactEntry {
                    hash_low: hash.0 as u32, // the lower half
                    hash_high: (hash.0 >> 32) as u32,
                    shards: shard,
                };
                self.exact.insert_unique(hash.0, entry, ExactEntry::hash);
            }
            Some(entry) if entry.shards & IS_SET != 0 => {
                if let Some(bits) = self.sets.get_mut((entry.shards & !IS_SET) as usize) {
                    bits.insert(from);
                }
            }
            Some(entry) if entry.shards == shard => {}
            Some(entry) => {
                let mut bits = ShardBits::default();
                bits.insert(shard_id(entry.shards));
                bits.insert(from);
                // Memory ends before two thousand million sets.
                entry.shards = IS_SET | u32::try_from(self.sets.insert(bits)).unwrap_or(0);
            }
        }
    }

    fn remove_exact(&mut self, hash: TopicHash, from: ShardId) {
        let Ok(mut occupied) = self
            .exact
            .find_entry(hash.0, |entry| entry.hash() == hash.0)
        else {
            return;
        };
        let entry = occupied.get_mut();
        if entry.shards & IS_SET == 0 {
            if entry.shards == u32::from(from.0) {
                occupied.remove();
                self.shrink();
            }
            return;
        }
        let key = (entry.shards & !IS_SET) as usize;
        let Some(bits) = self.sets.get_mut(key) else {
            return;
        };
        bits.remove(from);
        let mut left = bits.iter();
        if let (Some(only), None) = (left.next(), left.next()) {
            entry.shards = u32::from(only.0);
            self.sets.remove(key);
        }
    }

    fn shrink(&mut self) {
        if self.exact.is_empty() {
            self.exact = HashTable::new();
            self.sets = slab::Slab::new();
        }
    }

    /// Adds the shards that want `topic` to `shards`.
    #[inline]
    pub fn matching(&mut self, topic: &str, hash: TopicHash, shards: &mut ShardBits) {
        if !self.exact.is_empty()
            && let Some(entry) = self.exact.find(hash.0, |entry| entry.hash() == hash.0)
        {
            match entry.shards & IS_SET {
                0 => shards.insert(shard_id(entry.shards)),
                _ => {
                    if let Some(bits) = self.sets.get((entry.shards & !IS_SET) as usize) {
                        shards.add_all(bits);
                    }
                }
            }
        }
        if self.wildcard.is_empty() {
            return;
        }
        self.found.clear();
        self.wildcard.matching(topic, hash, &mut self.found);
        for id in &self.found {
            if let Some(bits) = self.wildcard.get(*id) {
                shards.add_all(bits);
            }
        }
    }
}

fn shard_id(shards: u32) -> ShardId {
    // Written from a `ShardId`.
    ShardId(u16::try_from(shards).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(interest: Interest, add: bool) -> InterestChange {
        InterestChange { interest, add }
    }

    #[test]
    fn shards_come_and_go_and_leave_nothing() {
        let hasher = TopicHasher::new(1);
        let hash = hasher.hash("a/b");
        let mut index = InterestIndex::new(hasher);
        let shards = [ShardId(3), ShardId(1), ShardId(200)];
        for shard in shards {
            index.apply(&change(Interest::Exact(hash), true), shard);
            index.apply(&change(Interest::Wildcard("a/+".into()), true), shard);
        }
        let mut found = ShardBits::default();
        index.matching("a/b", hash, &mut found);
        assert_eq!(
            found.iter().collect::<Vec<_>>(),
            [ShardId(1), ShardId(3), ShardId(200)]
        );
        for shard in shards {
            index.apply(&change(Interest::Exact(hash), false), shard);
            index.apply(&change(Interest::Wildcard("a/+".into()), false), shard);
        }
        assert!(index.is_empty() && index.sets.is_empty());
    }
}
