//! Rules about who may do what, and the part of them that holds for one client.
//!
//! The rules of a broker are read once and shared by all shards. For a client those that can hold are picked
//! when it connects; the others are never looked at again. Most rules name one user or client, and are found
//! by that name.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::config::access::{AddressPrefix, ClientAddress};
use crate::mqtt::topic_filter::{has_wildcards, matches};

use super::filter::{covers, has_places, overlaps, put_in_place};

type Map<T> = HashMap<Box<str>, T, foldhash::fast::RandomState>;

/// What a client wants to do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish to a Topic Name.
    Publish,
    /// Subscribe to a Topic Filter.
    Subscribe,
}

/// What must be so for a rule to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// The user name.
    User(Box<str>),
    /// The Client Identifier.
    Client(Box<str>),
    /// One of the roles.
    Role(Box<str>),
    /// The name in the client certificate.
    Certificate(Box<str>),
    /// The address.
    Address(AddressPrefix),
    /// No user name.
    Anonymous,
}

/// A rule: who, what, where, and whether it is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// All of them must be so; without any the rule holds for everybody.
    pub conditions: Vec<Condition>,
    /// Whether it permits; otherwise it denies.
    pub permit: bool,
    /// It is about publishing.
    pub publish: bool,
    /// It is about subscribing.
    pub subscribe: bool,
    /// The Topic Filter, with `%u` and `%c`.
    pub filter: Box<str>,
}

impl Rule {
    fn is_about(&self, action: Action) -> bool {
        match action {
            Action::Publish => self.publish,
            Action::Subscribe => self.subscribe,
        }
    }
}

/// Who a client is, as far as rules ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct Who<'a> {
    /// The user name.
    pub user_name: Option<&'a str>,
    /// The Client Identifier.
    pub client_identifier: &'a str,
    /// The roles that came with the credentials.
    pub roles: &'a [Box<str>],
    /// The name in the client certificate.
    pub certificate: Option<&'a str>,
    /// The address.
    pub address: Option<ClientAddress>,
}

/// Rules in order, with what finds those of a client.
#[derive(Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
    /// Roles of users.
    groups: Map<Vec<Box<str>>>,
    of_user: Map<Vec<u32>>,
    of_client: Map<Vec<u32>>,
    of_role: Map<Vec<u32>>,
    /// Those whose first condition is another.
    of_others: Vec<u32>,
    everyone: Everyone,
}

/// The rules that hold for everybody and name nobody, found by their topic.
#[derive(Debug, Default)]
struct Everyone {
    all: Vec<u32>,
    /// Without wildcards.
    exact: Map<Vec<u32>>,
    /// With wildcards, by their first level.
    below: Map<Vec<u32>>,
    /// With a wildcard as their first level.
    wild: Vec<u32>,
}

impl Everyone {
    fn add(&mut self, index: u32, filter: &str) {
        self.all.push(index);
        if !has_wildcards(filter) {
            self.exact.entry(filter.into()).or_default().push(index);
            return;
        }
        match filter.split('/').next() {
            Some(first) if !matches!(first, "+" | "#") => {
                self.below.entry(first.into()).or_default().push(index);
            }
            _ => self.wild.push(index),
        }
    }

    /// The rules that may match a Topic Name.
    fn candidates(&self, topic: &str) -> impl Iterator<Item = u32> {
        let first = topic.split('/').next().unwrap_or(topic);
        let exact = self.exact.get(topic).into_iter().flatten();
        let below = self.below.get(first).into_iter().flatten();
        exact.chain(below).chain(&self.wild).copied()
    }
}

/// A rule as it holds for one client.
#[derive(Clone, Debug)]
struct Own {
    rule: u32,
    /// Its filter, if it had places.
    filter: Option<Box<str>>,
}

/// The rules that hold for one client.
#[derive(Clone, Debug)]
pub struct Grants {
    rules: Arc<Rules>,
    /// Besides those for everyone, in order.
    own: Box<[Own]>,
}

impl Rules {
    /// Rules in order, and the users of each group.
    pub fn new(rules: Vec<Rule>, groups: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut all = Self::default();
        for (group, user) in groups {
            let roles = all.groups.entry(user.into()).or_default();
            roles.push(group.into());
        }
        for (index, rule) in (0u32..).zip(&rules) {
            match rule.conditions.first() {
                Some(Condition::User(name)) => {
                    all.of_user.entry(name.clone()).or_default().push(index);
                }
                Some(Condition::Client(name)) => {
                    all.of_client.entry(name.clone()).or_default().push(index);
                }
                Some(Condition::Role(name)) => {
                    all.of_role.entry(name.clone()).or_default().push(index);
                }
                None if !has_places(&rule.filter) => all.everyone.add(index, &rule.filter),
                _ => all.of_others.push(index),
            }
        }
        all.rules = rules;
        all
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is none, so that everything is denied.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// The rules that hold for a client.
    pub fn grants(self: &Arc<Self>, who: &Who<'_>) -> Grants {
        let groups = who.user_name.and_then(|name| self.groups.get(name));
        let of_groups: &[Box<str>] = groups.map_or(&[], Vec::as_slice);
        let roles = || who.roles.iter().chain(of_groups);
        let of_user = who.user_name.and_then(|name| self.of_user.get(name));
        let mut indexes: Vec<u32> = of_user
            .into_iter()
            .chain(self.of_client.get(who.client_identifier))
            .chain(roles().filter_map(|role| self.of_role.get(role)))
            .flatten()
            .chain(&self.of_others)
            .copied()
            .collect();
        indexes.sort_unstable();
        indexes.dedup();
        let holds = |condition: &Condition| match condition {
            Condition::User(name) => who.user_name == Some(name),
            Condition::Client(name) => who.client_identifier == &**name,
            Condition::Role(name) => roles().any(|role| role == name),
            Condition::Certificate(name) => who.certificate == Some(name),
            Condition::Address(prefix) => who.address.is_some_and(|at| prefix.contains(at)),
            Condition::Anonymous => who.user_name.is_none(),
        };
        let own = indexes.into_iter().filter_map(|index| {
            let rule = &self.rules[index as usize];
            if !rule.conditions.iter().all(holds) {
                return None;
            }
            let filter = match has_places(&rule.filter) {
                false => None,
                true => Some(
                    put_in_place(
                        &rule.filter,
                        who.user_name,
                        who.client_identifier,
                        rule.permit,
                    )?
                    .into(),
                ),
            };
            Some(Own {
                rule: index,
                filter,
            })
        });
        Grants {
            own: own.collect(),
            rules: Arc::clone(self),
        }
    }
}

impl Grants {
    /// What the first rule that speaks of it says about a Topic Name.
    pub fn publish(&self, topic: &str) -> Option<bool> {
        let rules = &self.rules.rules;
        let mut own = self.own.iter().filter_map(|own| {
            let rule = &rules[own.rule as usize];
            let filter = own.filter.as_deref().unwrap_or(&rule.filter);
            (rule.publish && matches(filter, topic)).then_some(own.rule)
        });
        let everyone = self.rules.everyone.candidates(topic).filter(|index| {
            let rule = &rules[*index as usize];
            rule.publish && matches(&rule.filter, topic)
        });
        let first = match (own.next(), everyone.min()) {
            (Some(one), Some(other)) => one.min(other),
            (one, other) => one.or(other)?,
        };
        Some(rules[first as usize].permit)
    }

    /// Whether a Topic Filter is granted as a whole: a rule that permits covers it, and none before it
    /// denies a part of it. None if no rule speaks of it.
    pub fn subscribe(&self, filter: &str) -> Option<bool> {
        let rules = &self.rules.rules;
        let mut own = self.own.iter().peekable();
        let mut everyone = self.rules.everyone.all.iter().copied().peekable();
        loop {
            let next_is_own = match (own.peek(), everyone.peek()) {
                (Some(one), Some(other)) => one.rule < *other,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return None,
            };
            let (rule, granted) = if next_is_own {
                let own = own.next()?;
                let rule = &rules[own.rule as usize];
                (rule, own.filter.as_deref().unwrap_or(&rule.filter))
            } else {
                let rule = &rules[everyone.next()? as usize];
                (rule, &*rule.filter)
            };
            if !rule.is_about(Action::Subscribe) {
                continue;
            }
            if rule.permit && covers(granted, filter) {
                return Some(true);
            }
            if !rule.permit && overlaps(granted, filter) {
                return Some(false);
            }
        }
    }
}
