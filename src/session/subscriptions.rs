//! The subscriptions of a session that are not shared.
//!
//! Most sessions have a few; one with very many gives each of them up without a search.

use hashbrown::HashSet;
use smallvec::SmallVec;

use crate::routing::local_index::FilterId;

/// Up to so many are searched through.
const FEW: usize = 32;

/// Filters by their number in the local index; each stands once.
#[derive(Debug, Default)]
pub struct Subscriptions {
    few: SmallVec<[FilterId; 4]>,
    /// All of them, once there were more than `FEW`.
    many: Option<Box<HashSet<FilterId, foldhash::fast::RandomState>>>,
}

impl Subscriptions {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.many.as_ref().map_or(self.few.len(), |many| many.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a filter that is not there yet.
    pub fn insert(&mut self, filter: FilterId) {
        if self.many.is_none() && self.few.len() < FEW {
            self.few.push(filter);
            return;
        }
        let few = &mut self.few;
        self.many
            .get_or_insert_with(|| Box::new(std::mem::take(few).into_iter().collect()))
            .insert(filter);
    }

    /// Removes a filter.
    pub fn remove(&mut self, filter: FilterId) {
        match &mut self.many {
            Some(many) => {
                many.remove(&filter);
                if many.is_empty() {
                    self.many = None;
                }
            }
            None => {
                if let Some(position) = self.few.iter().position(|other| *other == filter) {
                    self.few.swap_remove(position);
                }
            }
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = FilterId> + '_ {
        let many = self.many.iter().flat_map(|many| many.iter());
        self.few.iter().chain(many).copied()
    }

    /// Takes all.
    pub fn take(&mut self) -> impl Iterator<Item = FilterId> + use<> {
        let Self { few, many } = std::mem::take(self);
        few.into_iter()
            .chain(many.into_iter().flat_map(|many| many.into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_many_are_kept_alike() {
        for count in [3_u32, 32, 33, 1000] {
            let mut subscriptions = Subscriptions::default();
            for filter in 0..count {
                subscriptions.insert(FilterId(filter));
            }
            assert_eq!(subscriptions.len(), count as usize);
            subscriptions.remove(FilterId(1));
            subscriptions.remove(FilterId(1));
            let mut taken: Vec<_> = subscriptions.take().map(|filter| filter.0).collect();
            taken.sort_unstable();
            let expected: Vec<_> = (0..count).filter(|filter| *filter != 1).collect();
            assert_eq!(taken, expected);
            assert!(subscriptions.is_empty());
        }
    }
}
