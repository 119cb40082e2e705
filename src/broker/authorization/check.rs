//! PUBLISH, SUBSCRIBE and standing subscriptions against what the client may do.

use std::sync::Arc;

use crate::broker::authentication::{Asked, Identity, Permission, Principal, Question};
use crate::broker::connection::Phase;
use crate::broker::envelope::Change;
use crate::broker::policy::Policy;
use crate::broker::receive::Violation;
use crate::broker::{Broker, Now};
use crate::config::access::DeniedPublish;
use crate::mqtt::data_types::{ProtocolVersion, Role};
use crate::mqtt::frame::Frame;
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::publish::Publish;
use crate::mqtt::packet::subscribe::Subscribe;
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::topic_filter::TopicFilter;
use crate::observability::counters::DropCause;
use crate::routing::ids::SessionIndex;

use super::permit::{Decision, Permit};
use super::rules::Action;

/// How often a line about what was denied may be logged, milliseconds.
const DENIED_LINE_EVERY_MS: u64 = 1_000;

/// What was denied since the last line about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denials {
    /// How many packets or filters.
    pub count: u64,
    /// The first of them: the Client Identifier,
    pub client_identifier: Box<str>,
    /// its user name,
    pub user_name: Option<Box<str>>,
    /// the Topic Name or Topic Filter,
    pub topic: Box<str>,
    /// and what it wanted.
    pub action: &'static str,
    /// When the next line may be logged.
    next_line_ms: u64,
}

/// What became of standing subscriptions after a reload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rechecked {
    /// Sessions that were looked at.
    pub sessions: usize,
    /// Subscriptions that ended.
    pub subscriptions_ended: usize,
    /// Messages that no longer wait for a client that may not have them.
    pub messages_dropped: usize,
}

/// Questions about what one packet wants, and the answers so far.
#[derive(Debug)]
pub(in crate::broker) struct Asking {
    serial: u32,
    /// What is asked now.
    asked: Option<(Action, Box<str>)>,
    answers: Vec<(Action, Box<str>, bool)>,
}

impl Asking {
    pub(in crate::broker) fn waits(&self) -> bool {
        self.asked.is_some()
    }
}

impl Broker {
    /// What the client of a session may do; everything without a permit.
    #[inline]
    fn decide(&mut self, session: SessionIndex, action: Action, topic: &str, now: Now) -> Decision {
        let Some(permit) = self.clients.permits.of_mut(session) else {
            return Decision::Granted;
        };
        permit.decide(action, topic, &self.hasher, &self.policy, now.mono_ms)
    }

    /// The same once an answer has come for what had to be asked.
    #[inline]
    fn may(
        &mut self,
        slot: u32,
        session: SessionIndex,
        action: Action,
        topic: &str,
        now: Now,
    ) -> bool {
        match self.decide(session, action, topic, now) {
            Decision::Granted => true,
            Decision::Denied => false,
            Decision::Ask => self.asking.get(&slot).is_some_and(|asking| {
                let mut answers = asking.answers.iter();
                answers.any(|(about, known, granted)| {
                    *granted && *about == action && **known == *topic
                })
            }),
        }
    }

    /// Why a PUBLISH may not be: for its acknowledgement, or for the end of the connection.
    #[inline]
    pub(in crate::broker) fn check_publish(
        &mut self,
        slot: u32,
        session: SessionIndex,
        topic: &str,
        version: ProtocolVersion,
        now: Now,
    ) -> Result<Option<Violation>, Violation> {
        if self.may(slot, session, Action::Publish, topic, now) {
            return Ok(None);
        }
        self.clients
            .counters
            .drop_messages(DropCause::NotAuthorized, 1);
        self.note_denied(session, topic, "publish");
        let denied = Violation::new(
            ReasonCode::NotAuthorized,
            "the client may not publish to this topic",
        );
        match !version.is_v5() && self.policy.denied_publish_v3 == DeniedPublish::Disconnect {
            true => Err(denied),
            false => Ok(Some(denied)),
        }
    }

    /// Whether a subscription is granted, its filter taken as a whole.
    pub(in crate::broker) fn may_subscribe(
        &mut self,
        slot: u32,
        session: SessionIndex,
        filter: &str,
        now: Now,
    ) -> bool {
        let granted = self.may(slot, session, Action::Subscribe, filter, now);
        if !granted {
            self.note_denied(session, filter, "subscribe");
        }
        granted
    }

    fn note_denied(&mut self, session: SessionIndex, topic: &str, action: &'static str) {
        self.denials.count += 1;
        if self.denials.count > 1 {
            return;
        }
        let user_name = self.clients.permits.of(session);
        self.denials.user_name = user_name.and_then(|permit| permit.principal.user_name.clone());
        if let Some(session) = self.clients.session(session) {
            self.denials.client_identifier = session.client_identifier.clone();
        }
        self.denials.topic = topic.into();
        self.denials.action = action;
    }

    /// What was denied, for a log line, at most once in a while.
    pub fn take_denials(&mut self, now: Now) -> Option<Denials> {
        if self.denials.count == 0 || now.mono_ms < self.denials.next_line_ms {
            return None;
        }
        let next_line_ms = now.mono_ms + DENIED_LINE_EVERY_MS;
        let next = Denials {
            next_line_ms,
            ..Denials::default()
        };
        Some(std::mem::replace(&mut self.denials, next))
    }

    /// Asks about what a packet wants, if nothing else decides it; tells whether an answer is awaited.
    pub(in crate::broker) fn must_ask(&mut self, slot: u32, frame: &Frame<'_>, now: Now) -> bool {
        let Some(connection) = self.clients.connection(slot) else {
            return false;
        };
        let (version, serial) = (connection.version(), connection.serial);
        let Phase::Connected(session) = connection.phase else {
            return false;
        };
        let asks = self.clients.permits.of(session).is_some_and(Permit::asks);
        if !asks {
            return false;
        }
        match frame.packet_type() {
            Ok(PacketType::Publish) => {
                let Ok(publish) = Publish::decode(frame, version, Role::Client) else {
                    return false;
                };
                let topic = self.known_topic(slot, &publish);
                topic.is_some_and(|topic| {
                    self.ask_about(slot, serial, session, Action::Publish, &topic, now)
                })
            }
            Ok(PacketType::Subscribe) => {
                let Ok(subscribe) = Subscribe::decode(frame, version) else {
                    return false;
                };
                subscribe.filters().any(|(text, _)| {
                    TopicFilter::parse(text).is_ok_and(|filter| {
                        let action = Action::Subscribe;
                        self.ask_about(slot, serial, session, action, filter.filter, now)
                    })
                })
            }
            _ => false,
        }
    }

    /// The Topic Name of a PUBLISH, without a change of the aliases.
    fn known_topic(&mut self, slot: u32, publish: &Publish<'_>) -> Option<Box<str>> {
        if !publish.topic_name.is_empty() {
            return Some(publish.topic_name.into());
        }
        let alias = publish.properties.topic_alias?;
        let connection = self.clients.connection_mut(slot)?;
        let topic = connection.inbound_aliases().resolve(alias, u16::MAX);
        topic.ok().map(Into::into)
    }

    fn ask_about(
        &mut self,
        slot: u32,
        serial: u32,
        session: SessionIndex,
        action: Action,
        topic: &str,
        now: Now,
    ) -> bool {
        if self.decide(session, action, topic, now) != Decision::Ask {
            return false;
        }
        let asking = self.asking.entry(slot).or_insert_with(|| Asking {
            serial,
            asked: None,
            answers: Vec::new(),
        });
        let mut answers = asking.answers.iter();
        if answers.any(|(about, known, _)| *about == action && **known == *topic) {
            return false;
        }
        asking.asked = Some((action, topic.into()));
        let (permit, client) = (
            self.clients.permits.of(session),
            self.clients.session(session),
        );
        let (Some(permit), Some(client)) = (permit, client) else {
            return false;
        };
        let permission = permission(
            &permit.principal,
            &permit.identity,
            &client.client_identifier,
            action,
            topic,
        );
        self.questions.push(Question {
            slot,
            serial,
            asked: Box::new(Asked::Permission(permission)),
        });
        true
    }

    /// An answer to [`Self::must_ask`]. What is not remembered holds for the packet that waits.
    pub(in crate::broker) fn permission(
        &mut self,
        (slot, serial): (u32, u32),
        granted: bool,
        remember_s: u32,
        now: Now,
    ) {
        let Some(asking) = self.asking.get_mut(&slot) else {
            return;
        };
        if asking.serial != serial {
            return;
        }
        let Some((action, topic)) = asking.asked.take() else {
            return;
        };
        if remember_s > 0
            && let Some(session) = self.clients.session_of(slot)
            && let Some(permit) = self.clients.permits.of_mut(session)
        {
            let until_ms = now.mono_ms + u64::from(remember_s) * 1000;
            permit.remember(
                action,
                &topic,
                granted,
                until_ms,
                &self.hasher,
                &self.policy,
            );
        }
        asking.answers.push((action, topic, granted));
    }

    /// A new policy: what was granted before is looked at again, and subscriptions end that are not granted
    /// any more.
    pub fn set_policy(&mut self, policy: Arc<Policy>, now: Now) -> Rechecked {
        self.policy = policy;
        self.verified.clear();
        let sessions: Vec<SessionIndex> = self.clients.session_indexes().collect();
        let mut rechecked = Rechecked {
            sessions: sessions.len(),
            ..Rechecked::default()
        };
        for session in sessions {
            let Some(client) = self.clients.session(session) else {
                continue;
            };
            let is_away = client.connection().is_none();
            let client_identifier = client.client_identifier.clone();
            match self.clients.permits.of_mut(session) {
                Some(permit) => permit.renew(&client_identifier, &self.policy),
                // It is looked at when its client comes, who is not known before.
                None if is_away => continue,
                None => {
                    // Nothing was known of it because nothing was asked: it is nobody, from nowhere.
                    let permit = Permit::of(
                        &Arc::default(),
                        Identity::default(),
                        None,
                        &client_identifier,
                        &self.policy,
                    );
                    self.clients.permits.set(session, permit);
                }
            }
            self.recheck(session, &mut rechecked, now);
        }
        rechecked
    }

    /// Ends the subscriptions of a session that are not granted, and drops what waits because of them.
    pub(in crate::broker) fn recheck(
        &mut self,
        session: SessionIndex,
        rechecked: &mut Rechecked,
        now: Now,
    ) {
        let restricts = self.clients.permits.of(session);
        if !restricts.is_some_and(Permit::restricts) {
            return;
        }
        let Some(client) = self.clients.session(session) else {
            return;
        };
        let plain: Vec<String> = client
            .subscriptions
            .iter()
            .map(|filter| self.local.filter(filter).to_owned())
            .collect();
        let groups = client.shared.iter().flat_map(|groups| groups.iter());
        let shared: Vec<_> = groups
            .filter_map(|group| self.group_members.name(*group).cloned())
            .collect();
        let mut changes: Vec<Change> = Vec::new();
        let shared = shared.iter().map(|name| TopicFilter {
            share_name: Some(&name.share_name),
            filter: &name.filter,
        });
        let plain = plain.iter().map(|filter| TopicFilter {
            share_name: None,
            filter,
        });
        for filter in plain.chain(shared) {
            // Who would have to ask keeps what was granted: the next SUBSCRIBE asks.
            if self.decide(session, Action::Subscribe, filter.filter, now) == Decision::Denied
                && self.remove_one(session, &filter, &mut changes)
            {
                rechecked.subscriptions_ended += 1;
                match filter.share_name {
                    None => self.record_unsubscribed(session, filter.filter),
                    Some(name) => {
                        let text = format!("$share/{name}/{}", filter.filter);
                        self.record_unsubscribed(session, &text);
                    }
                }
            }
        }
        self.broadcast(changes);
        let dropped = self.clients.drop_not_granted(session);
        rechecked.messages_dropped += dropped;
        self.clients
            .counters
            .drop_messages(DropCause::NotAuthorized, dropped as u64);
    }
}

/// The question whether a client may do something.
pub(in crate::broker) fn permission(
    principal: &Principal,
    identity: &Identity,
    client_identifier: &str,
    action: Action,
    topic: &str,
) -> Permission {
    Permission {
        client_identifier: client_identifier.into(),
        user_name: principal.user_name.clone(),
        address: identity.address,
        action,
        topic: topic.into(),
    }
}
