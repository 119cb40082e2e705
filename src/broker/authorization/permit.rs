//! What one session may do, and the decisions that it remembers.

use std::sync::Arc;

use crate::broker::authentication::{Identity, Principal};
use crate::broker::policy::Policy;
use crate::config::access::Method;
use crate::mqtt::topic_filter::has_wildcards;
use crate::routing::ids::SessionIndex;
use crate::routing::topic_hash::{TopicHash, TopicHasher};

use super::rules::{Action, Grants};

/// What is known about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Granted,
    /// It may not.
    Denied,
    /// Somebody else must be asked.
    Ask,
}

#[derive(Debug)]
struct Remembered {
    hash: TopicHash,
    topic: Box<str>,
    action: Action,
    granted: bool,
    until_ms: u64,
}

/// Decisions about topics, each in a place that its hash chooses: a later one takes the place of an earlier.
#[derive(Debug, Default)]
struct Decisions {
    places: Vec<Option<Remembered>>,
    /// The place that was looked at last: most clients say the same topic again.
    last: usize,
}

impl Decisions {
    #[inline]
    fn find(
        &mut self,
        action: Action,
        topic: &str,
        hash: impl FnOnce() -> TopicHash,
        now_ms: u64,
    ) -> Option<bool> {
        let found = |place: Option<&Option<Remembered>>| {
            let one = place?.as_ref()?;
            let same = *one.topic == *topic && one.action == action && now_ms < one.until_ms;
            same.then_some(one.granted)
        };
        if let Some(granted) = found(self.places.get(self.last)) {
            return Some(granted);
        }
        let place = Self::place(self.places.len(), hash())?;
        let granted = found(self.places.get(place))?;
        self.last = place;
        Some(granted)
    }

    fn place(count: usize, hash: TopicHash) -> Option<usize> {
        usize::try_from(hash.0 % u64::try_from(count).ok()?.max(1)).ok()
    }

    fn remember(&mut self, one: Remembered, places_max: u32) {
        if self.places.is_empty() {
            self.places.push(None);
        }
        // It grows where two topics want one place, so that a client with one topic has one place.
        while self.places.len() < places_max as usize {
            let taken = Self::place(self.places.len(), one.hash)
                .and_then(|place| self.places[place].as_ref())
                .is_some_and(|other| other.topic != one.topic || other.action != one.action);
            if !taken {
                break;
            }
            let doubled = (self.places.len() * 2).min(places_max as usize);
            let before = std::mem::take(&mut self.places);
            self.places.resize_with(doubled, || None);
            for other in before.into_iter().flatten() {
                self.put(other);
            }
        }
        self.put(one);
    }

    fn put(&mut self, one: Remembered) {
        if let Some(place) = Self::place(self.places.len(), one.hash) {
            self.places[place] = Some(one);
            self.last = place;
        }
    }
}

/// What one session may do.
#[derive(Debug)]
pub struct Permit {
    /// Who its client is.
    pub principal: Arc<Principal>,
    /// What the transport knew about it.
    pub identity: Identity,
    /// How it authenticated, if with AUTH packets.
    pub method: Option<Method>,
    /// Those that came with the credentials.
    own: Option<Grants>,
    /// Those of the ACL file.
    listed: Option<Grants>,
    asks: bool,
    decisions: Decisions,
}

impl Permit {
    /// The permit of a client under `policy`; none if it may do everything and nothing must be known of it.
    pub fn of(
        principal: &Arc<Principal>,
        identity: Identity,
        method: Option<Method>,
        client_identifier: &str,
        policy: &Policy,
    ) -> Option<Box<Self>> {
        let plain = principal.user_name.is_none()
            && principal.rules.is_none()
            && principal.expires_unix_s.is_none()
            && method.is_none();
        if plain && !policy.restricts() {
            return None;
        }
        let mut permit = Box::new(Self {
            principal: Arc::clone(principal),
            identity,
            method,
            own: None,
            listed: None,
            asks: false,
            decisions: Decisions::default(),
        });
        permit.renew(client_identifier, policy);
        Some(permit)
    }

    /// Looks at the rules again.
    pub fn renew(&mut self, client_identifier: &str, policy: &Policy) {
        let who = self.principal.who(client_identifier, &self.identity);
        let own = self.principal.rules.as_ref();
        self.own = own.map(|rules| rules.grants(&who));
        self.listed = policy.rules.as_ref().map(|rules| rules.grants(&who));
        self.asks = policy.asks_permission;
        self.decisions = Decisions::default();
    }

    /// Whether it may do `action` with `topic`.
    #[inline]
    pub fn decide(
        &mut self,
        action: Action,
        topic: &str,
        hasher: &TopicHasher,
        policy: &Policy,
        now_ms: u64,
    ) -> Decision {
        if !self.restricts() {
            return Decision::Granted;
        }
        let found = self
            .decisions
            .find(action, topic, || hasher.hash(topic), now_ms);
        match found {
            Some(true) => Decision::Granted,
            Some(false) => Decision::Denied,
            None => self.look_up(action, topic, hasher, policy),
        }
    }

    fn look_up(
        &mut self,
        action: Action,
        topic: &str,
        hasher: &TopicHasher,
        policy: &Policy,
    ) -> Decision {
        let mut grants = self.own.iter().chain(&self.listed);
        let said = grants.find_map(|grants| match action {
            Action::Publish => grants.publish(topic),
            Action::Subscribe => grants.subscribe(topic),
        });
        let granted = match said {
            Some(granted) => granted,
            None if self.asks => return Decision::Ask,
            None => false,
        };
        self.remember(action, topic, granted, u64::MAX, hasher, policy);
        match granted {
            true => Decision::Granted,
            false => Decision::Denied,
        }
    }

    /// Remembers what was decided, here or elsewhere.
    pub fn remember(
        &mut self,
        action: Action,
        topic: &str,
        granted: bool,
        until_ms: u64,
        hasher: &TopicHasher,
        policy: &Policy,
    ) {
        let one = Remembered {
            hash: hasher.hash(topic),
            topic: topic.into(),
            action,
            granted,
            until_ms,
        };
        self.decisions.remember(one, policy.cache_topics_max);
    }

    /// Whether it may not do everything.
    #[inline]
    pub fn restricts(&self) -> bool {
        self.own.is_some() || self.listed.is_some() || self.asks
    }

    /// Whether a question may be needed.
    #[inline]
    pub fn asks(&self) -> bool {
        self.asks
    }

    /// Whether a message with this Topic Name may still be delivered, as far as rules say it.
    pub fn may_receive(&self, topic: &str) -> bool {
        debug_assert!(!has_wildcards(topic));
        let mut grants = self.own.iter().chain(&self.listed);
        match grants.find_map(|grants| grants.subscribe(topic)) {
            Some(granted) => granted,
            None => self.asks || !self.restricts(),
        }
    }
}

/// The permits of a shard's sessions. Empty as long as every client may do everything.
#[derive(Debug, Default)]
pub struct Permits {
    permits: Vec<Option<Box<Permit>>>,
}

impl Permits {
    /// That of a session.
    #[inline]
    pub fn of(&self, session: SessionIndex) -> Option<&Permit> {
        self.permits.get(session as usize)?.as_deref()
    }

    /// The same, to change it.
    #[inline]
    pub fn of_mut(&mut self, session: SessionIndex) -> Option<&mut Permit> {
        self.permits.get_mut(session as usize)?.as_deref_mut()
    }

    /// Gives a session a permit, or takes it away.
    pub fn set(&mut self, session: SessionIndex, permit: Option<Box<Permit>>) {
        let index = session as usize;
        if index >= self.permits.len() {
            if permit.is_none() {
                return;
            }
            self.permits.resize_with(index + 1, || None);
        }
        self.permits[index] = permit;
    }
}
