//! The subscribers of one Topic Filter: mostly one, sometimes everybody.
//!
//! Owned by [`super::local_index`]. They stand side by side, in no order, since a message goes through all of
//! them. Each comes and goes without a move of the others, so that an end of all connections costs what they
//! are, not their square.

use hashbrown::HashTable;

use super::ids::SessionIndex;
use super::local_index::Subscriber;

/// Up to so many are searched through.
const FEW: usize = 32;

/// Subscribers, each session once; never none.
#[derive(Debug)]
pub(super) enum Subscribers {
    One(Subscriber),
    Many(Box<Many>),
}

/// Two or more.
#[derive(Debug, Default)]
pub(super) struct Many {
    list: Vec<Subscriber>,
    /// Where each session stands in `list`, once there were more than `FEW`.
    #[allow(clippy::box_collection)] // keeps the many with few small
    positions: Option<Box<HashTable<u32>>>,
}

/// Sessions are numbered by this shard, so that nobody chooses numbers whose hashes collide.
fn hash(session: SessionIndex) -> u64 {
    u64::from(session).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Subscribers {
    /// All of them.
    #[inline]
    pub(super) fn as_slice(&self) -> &[Subscriber] {
        match self {
            Self::One(subscriber) => std::slice::from_ref(subscriber),
            Self::Many(many) => &many.list,
        }
    }

    /// The subscription of `session`.
    pub(super) fn find(&self, session: SessionIndex) -> Option<&Subscriber> {
        match self {
            Self::One(one) => (one.session == session).then_some(one),
            Self::Many(many) => many.list.get(many.position(session)?),
        }
    }

    /// Adds or replaces; tells whether it replaced.
    pub(super) fn add(&mut self, subscriber: Subscriber) -> bool {
        match self {
            Self::One(one) if one.session == subscriber.session => {
                *one = subscriber;
                true
            }
            Self::One(one) => {
                let list = vec![*one, subscriber];
                *self = Self::Many(Box::new(Many {
                    list,
                    positions: None,
                }));
                false
            }
            Self::Many(many) => match many.position(subscriber.session) {
                Some(position) => {
                    many.list[position] = subscriber;
                    true
                }
                None => {
                    many.push(subscriber);
                    false
                }
            },
        }
    }

    /// Removes one of many; tells whether it was there. The last one is never removed here.
    pub(super) fn remove(&mut self, session: SessionIndex) -> bool {
        let Self::Many(many) = self else { return false };
        let Some(position) = many.position(session) else {
            return false;
        };
        many.remove(position);
        if let [only] = many.list.as_slice() {
            *self = Self::One(*only);
        }
        true
    }
}

impl Many {
    fn position(&self, session: SessionIndex) -> Option<usize> {
        let is_its = |subscriber: &Subscriber| subscriber.session == session;
        match &self.positions {
            None => self.list.iter().position(is_its),
            Some(positions) => positions
                .find(hash(session), |position| {
                    is_its(&self.list[*position as usize])
                })
                .map(|position| *position as usize),
        }
    }

    fn push(&mut self, subscriber: Subscriber) {
        self.list.push(subscriber);
        let list = &self.list;
        let rehash = |position: &u32| hash(list[*position as usize].session);
        // `sessions_max` is far below.
        let count = u32::try_from(list.len()).unwrap_or(u32::MAX);
        match &mut self.positions {
            None if list.len() <= FEW => {}
            None => {
                let mut positions = HashTable::with_capacity(2 * FEW);
                for position in 0..count {
                    positions.insert_unique(rehash(&position), position, rehash);
                }
                self.positions = Some(Box::new(positions));
            }
            Some(positions) => {
                positions.insert_unique(hash(subscriber.session), count - 1, rehash);
            }
        }
    }

    /// The last one takes the place of the one that goes.
    fn remove(&mut self, position: usize) {
        let list = &mut self.list;
        if let Some(positions) = &mut self.positions {
            let last = list.len() - 1;
            let is_at = |at: usize| move |position: &u32| *position as usize == at;
            if let Ok(entry) = positions.find_entry(hash(list[position].session), is_at(position)) {
                entry.remove();
            }
            if position != last
                && let Some(moved) = positions.find_mut(hash(list[last].session), is_at(last))
            {
                // It was the place of another one in the same list.
                *moved = u32::try_from(position).unwrap_or(u32::MAX);
            }
        }
        list.swap_remove(position);
        self.shrink();
    }

    fn shrink(&mut self) {
        let list = &mut self.list;
        if list.len() * 4 < list.capacity() {
            list.shrink_to(list.len() * 2);
        }
        if list.len() <= FEW / 2 {
            self.positions = None;
        } else if let Some(positions) = &mut self.positions
            && list.len() * 8 < positions.capacity()
        {
            let rehash = |position: &u32| hash(list[*position as usize].session);
            positions.shrink_to(list.len() * 2, rehash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::data_types::QoS;
    use crate::mqtt::packet::subscribe::{RetainHandling, SubscriptionOptions};

    fn subscriber(session: SessionIndex, identifier: u32) -> Subscriber {
        let options = SubscriptionOptions {
            qos: QoS::AtLeastOnce,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAtSubscribe,
        };
        Subscriber::new(session, options, identifier)
    }

    #[test]
    fn few_and_many_are_found_and_go() {
        for count in [2_u32, 3, 32, 33, 34, 1000] {
            let mut all = Subscribers::One(subscriber(0, 0));
            for session in (1..count).rev() {
                assert!(!all.add(subscriber(session, 0)));
            }
            for session in 0..count {
                assert!(all.add(subscriber(session, session + 1)), "it replaces");
            }
            // From both ends and the middle.
            let mut left: Vec<_> = (0..count).collect();
            while left.len() > 1 {
                let gone = left.swap_remove(left.len() * 2 / 3);
                assert!(all.remove(gone));
                assert!(all.find(gone).is_none() && (left.len() == 1 || !all.remove(gone)));
                assert_eq!(all.as_slice().len(), left.len());
            }
            assert_eq!(
                all.find(left[0]).map(|one| one.subscription_identifier),
                Some(left[0] + 1)
            );
            assert!(matches!(all, Subscribers::One(_)));
        }
    }

    #[test]
    fn many_that_have_gone_leave_little() {
        let mut all = Subscribers::One(subscriber(0, 0));
        for session in 1..10_000 {
            all.add(subscriber(session, 0));
        }
        for session in 100..10_000 {
            all.remove(session);
            assert!(session % 100 != 0 || all.find(session - 100).is_some() == (session < 200));
        }
        let Subscribers::Many(many) = &all else {
            panic!("{all:?}")
        };
        let positions = many
            .positions
            .as_ref()
            .map(|positions| positions.capacity());
        assert!(many.list.capacity() <= 400 && positions.is_some_and(|capacity| capacity <= 500));
    }
}
