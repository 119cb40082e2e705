//! A table from Topic Filter to anything: exact filters by hash, wildcard filters in a trie.
//!
//! Used by the local index, the interest index and the shared groups. A filter has a number that stays while
//! it is in the table. An exact match is one probe and one comparison of the text; without any wildcard
//! filter the trie costs nothing.

use hashbrown::HashTable;
use slab::Slab;

use crate::mqtt::topic_filter::has_wildcards;

use super::local_index::FilterId;
use super::topic_hash::{TopicHash, TopicHasher};
use super::trie::Trie;

#[derive(Debug)]
struct Entry<T> {
    filter: Box<str>,
    value: T,
}

/// Topic Filters with a value each.
#[derive(Debug)]
pub struct FilterTable<T> {
    hasher: TopicHasher,
    entries: Slab<Entry<T>>,
    exact: HashTable<u32>,
    wildcard: Trie,
}

impl<T> FilterTable<T> {
    /// An empty table.
    pub fn new(hasher: TopicHasher) -> Self {
        Self {
            hasher,
            entries: Slab::new(),
            exact: HashTable::new(),
            wildcard: Trie::default(),
        }
    }

    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Numbers of filters are below this.
    pub fn places(&self) -> u32 {
        // Memory ends long before four thousand million filters.
        u32::try_from(self.entries.capacity()).unwrap_or(u32::MAX)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of `filter`.
    pub fn find(&self, filter: &str) -> Option<FilterId> {
        if has_wildcards(filter) {
            return self.wildcard.find(filter);
        }
        self.find_exact(filter, self.hasher.hash(filter))
    }

    #[inline]
    fn find_exact(&self, topic: &str, hash: TopicHash) -> Option<FilterId> {
        let found = self
            .exact
            .find(hash.0, |id| *self.entries[*id as usize].filter == *topic);
        found.map(|id| FilterId(*id))
    }

    /// The number of `filter`, which gets the value `new()` if it is not in the table.
    pub fn get_or_insert(&mut self, filter: &str, new: impl FnOnce() -> T) -> FilterId {
        if let Some(found) = self.find(filter) {
            return found;
        }
        let key = self.entries.insert(Entry {
            filter: filter.into(),
            value: new(),
        });
        // Memory ends long before four thousand million filters.
        let id = u32::try_from(key).unwrap_or(u32::MAX);
        if has_wildcards(filter) {
            *self.wildcard.entry(filter) = Some(FilterId(id));
        } else {
            let hash = self.hasher.hash(filter);
            let (entries, hasher) = (&self.entries, &self.hasher);
            let rehash = |id: &u32| hasher.hash(&entries[*id as usize].filter).0;
            self.exact.insert_unique(hash.0, id, rehash);
        }
        FilterId(id)
    }

    /// Removes a filter that is in the table.
    pub fn remove(&mut self, id: FilterId) -> Option<T> {
        let entry = self.entries.try_remove(id.0 as usize)?;
        if has_wildcards(&entry.filter) {
            self.wildcard.remove(&entry.filter);
        } else {
            let hash = self.hasher.hash(&entry.filter);
            if let Ok(found) = self.exact.find_entry(hash.0, |other| *other == id.0) {
                found.remove();
            }
        }
        if self.entries.is_empty() {
            self.entries = Slab::new();
            self.exact = HashTable::new();
        }
        Some(entry.value)
    }

    /// Whether an exact filter other than `id` has the hash `hash`.
    pub(super) fn shares_hash(&self, id: FilterId, hash: TopicHash) -> bool {
        let same = |other: &u32| {
            *other != id.0 && self.hasher.hash(&self.entries[*other as usize].filter) == hash
        };
        self.exact.find(hash.0, same).is_some()
    }

    /// The hash of a text with this table's key.
    pub fn hash(&self, text: &str) -> TopicHash {
        self.hasher.hash(text)
    }

    /// The value of a filter.
    #[inline]
    pub fn get(&self, id: FilterId) -> Option<&T> {
        self.entries.get(id.0 as usize).map(|entry| &entry.value)
    }

    /// The value of a filter.
    pub fn get_mut(&mut self, id: FilterId) -> Option<&mut T> {
        self.entries
            .get_mut(id.0 as usize)
            .map(|entry| &mut entry.value)
    }

    /// The text of a filter; empty if it is not in the table.
    pub fn filter(&self, id: FilterId) -> &str {
        self.entries
            .get(id.0 as usize)
            .map_or("", |entry| &entry.filter)
    }

    /// Appends the numbers of the filters that match `topic`, whose hash is `hash`.
    #[inline]
    pub fn matching(&self, topic: &str, hash: TopicHash, found: &mut Vec<FilterId>) {
        if !self.exact.is_empty() {
            found.extend(self.find_exact(topic, hash));
        }
        if !self.wildcard.is_empty() {
            self.wildcard.matching(topic, found);
        }
    }

    /// All filters with their values.
    pub fn iter(&self) -> impl Iterator<Item = (FilterId, &str, &T)> {
        self.entries.iter().map(|(key, entry)| {
            (
                FilterId(u32::try_from(key).unwrap_or(u32::MAX)),
                &*entry.filter,
                &entry.value,
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_removed_leaves_nothing() {
        let mut table = FilterTable::new(TopicHasher::new(1));
        let filters = ["a/b", "a/+", "#", "+/+/c", "a/b/#", "$SYS/#", "/", "+"];
        let ids: Vec<_> = filters
            .iter()
            .map(|filter| table.get_or_insert(filter, || ()))
            .collect();
        assert_eq!(table.get_or_insert("a/+", || ()), ids[1]);
        for id in ids {
            assert!(table.remove(id).is_some());
        }
        assert!(table.is_empty() && table.wildcard.is_empty() && table.exact.is_empty());
    }

    #[test]
    fn many_children_are_still_found() {
        let mut table = FilterTable::new(TopicHasher::new(1));
        for level in 0..100 {
            table.get_or_insert(&format!("a/{level}/+"), || level);
        }
        let mut found = Vec::new();
        table.matching("a/77/x", table.hash("a/77/x"), &mut found);
        assert_eq!(
            found
                .iter()
                .filter_map(|id| table.get(*id))
                .collect::<Vec<_>>(),
            [&77]
        );
        for level in 0..100 {
            let Some(id) = table.find(&format!("a/{level}/+")) else {
                panic!("{level}")
            };
            table.remove(id);
        }
        assert!(table.wildcard.is_empty());
    }
}
