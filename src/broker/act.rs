//! What an administrator does to clients, subscriptions and messages.

use smallvec::SmallVec;

use crate::config::limits::{ENDED_MAX, PENDING_SUBACKS_MAX};
use crate::journal::record::Record;
use crate::mqtt::data_types::{PacketIdentifier, ProtocolVersion, QoS};
use crate::mqtt::packet::subscribe::SubscriptionOptions;
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::topic_filter::TopicFilter;
use crate::routing::application_message::MessageView;
use crate::routing::ids::SessionIndex;
use crate::routing::local_index::Subscriber;

use super::ask::{AdminMessage, Answer, Ask};
use super::connection::Ended;
use super::delivery::Publication;
use super::publish::Publisher;
use super::subscribe::Changes;
use super::visibility::PendingSuback;
use super::{Broker, Now};

/// Why a connection ended that an administrator has ended.
const KICKED: &str = "an administrator ended the connection";
/// No connection has it.
const NO_SLOT: u32 = u32::MAX;

impl Broker {
    /// Does what is asked for; questions that only read are answered elsewhere.
    pub(super) fn administer(&mut self, ask: Ask, now: Now) -> Answer {
        match ask {
            Ask::Kick { client, reason } => Answer::Done(self.kick(&client, &reason, now)),
            Ask::DeleteSession(client) => Answer::Done(self.delete_session(&client, now)),
            Ask::Subscribe {
                client,
                filter,
                options,
            } => self.subscribe_for(&client, &filter, options, now),
            Ask::Unsubscribe { client, filter } => self.unsubscribe_for(&client, &filter),
            Ask::Publish(message) => {
                self.publish_for(&message, now);
                Answer::Done(true)
            }
            Ask::DeleteRetained(topic) => Answer::Done(self.delete_retained(&topic, now)),
            Ask::SetBans(bans) => {
                self.bans = bans;
                Answer::Done(true)
            }
            _ => Answer::Refused("this is no act"),
        }
    }

    /// Whether nobody may connect from this address.
    pub fn is_banned_address(&self, address: impl FnOnce() -> String, now: Now) -> bool {
        !self.bans.addresses.is_empty() && self.bans.refuses_address(&address(), now.unix_s)
    }

    fn kick(&mut self, client: &str, reason: &str, now: Now) -> bool {
        let slot = self
            .clients
            .find(client)
            .and_then(|index| self.clients.session(index))
            .and_then(|session| session.connection());
        let Some(slot) = slot else {
            return false;
        };
        let told = match reason {
            "" => KICKED,
            told => told,
        };
        self.end_telling(slot, ReasonCode::AdministrativeAction, KICKED, told, now);
        true
    }

    fn delete_session(&mut self, client: &str, now: Now) -> bool {
        let Some(index) = self.clients.find(client) else {
            return false;
        };
        let Some(session) = self.clients.session_mut(index) else {
            return false;
        };
        let connection = session.connection();
        // It ends with its connection, and so the Will is due at once.
        session.expiry_interval_s = 0;
        match connection {
            Some(slot) => self.end(slot, ReasonCode::AdministrativeAction, KICKED, now),
            None => self.end_session(index, now),
        }
        true
    }

    fn session_for(&self, client: &str) -> Result<SessionIndex, Answer> {
        self.clients.find(client).ok_or(Answer::Done(false))
    }

    fn subscribe_for(
        &mut self,
        client: &str,
        text: &str,
        options: SubscriptionOptions,
        now: Now,
    ) -> Answer {
        let index = match self.session_for(client) {
            Ok(index) => index,
            Err(answer) => return answer,
        };
        if self.visibility.pending() >= PENDING_SUBACKS_MAX {
            return Answer::Refused("too many subscriptions wait for other shards; try again");
        }
        let slot = self
            .clients
            .session(index)
            .and_then(|session| session.connection());
        let listener = slot
            .and_then(|slot| self.clients.connection(slot))
            .map_or(0, |connection| connection.listener);
        let capabilities = self.listener(listener).capabilities.clone();
        let granted = QoS::from_bits(capabilities.maximum_qos.min(options.qos as u8));
        let options = SubscriptionOptions {
            qos: granted.unwrap_or(QoS::AtMostOnce),
            ..options
        };
        let filter =
            match self.check_filter(index, text, options, &capabilities, ProtocolVersion::V5) {
                Ok(filter) => filter,
                Err(refusal) => return Answer::Refused(refusal.cause()),
            };
        let mut all = Changes::default();
        let subscriber = Subscriber::new(index, options, 0);
        if self.records(index) {
            if self.clients.journal.is_full() {
                return Answer::Refused("the store is full");
            }
            self.record_of(index, |session| Record::Subscribed {
                session,
                filter: text,
                options: options.to_byte(),
                identifier: 0,
            });
        }
        self.add_subscription(&filter, subscriber, options, &mut all);
        let (changes, retained) = all.into_parts();
        let retained: SmallVec<[_; 1]> = retained;
        match retained.is_empty() {
            true => self.broadcast(changes),
            false => self.stage_changes(changes),
        }
        // No SUBACK goes out, but what is retained follows when every shard knows.
        self.visibility.wait(PendingSuback {
            sequence: self.visibility.issued(),
            slot: NO_SLOT,
            serial: 0,
            packet_identifier: PacketIdentifier::MIN,
            reason_codes: Vec::new(),
            cause: None,
            retained,
            safe_at: 0,
        });
        self.release_subacks(now);
        Answer::Done(true)
    }

    fn unsubscribe_for(&mut self, client: &str, text: &str) -> Answer {
        let index = match self.session_for(client) {
            Ok(index) => index,
            Err(answer) => return answer,
        };
        let Ok(filter) = TopicFilter::parse(text) else {
            return Answer::Refused("the Topic Filter is not valid");
        };
        let mut changes = Vec::new();
        let removed = self.remove_one(index, &filter, &mut changes);
        if removed && self.records(index) {
            self.record_of(index, |session| Record::Unsubscribed {
                session,
                filter: text,
            });
        }
        self.broadcast(changes);
        Answer::Done(removed)
    }

    fn publish_for(&mut self, message: &AdminMessage, now: Now) {
        let expires_at_ms = message
            .expiry_s
            .map(|seconds| now.mono_ms + u64::from(seconds) * 1000);
        let view = MessageView {
            topic: &message.topic,
            topic_hash: self.hasher.hash(&message.topic),
            forwarded_properties: &message.forwarded_properties,
            payload: &message.payload,
            qos: message.qos,
            retain: message.retain,
            expires_at_ms,
        };
        let publisher = Publisher {
            session: None,
            hash: 0,
            asked: None,
        };
        self.route(&mut Publication::new(view), publisher, now);
    }

    /// Clears a retained message as an empty one would, and tells nobody.
    fn delete_retained(&mut self, topic: &str, now: Now) -> bool {
        if !self.retained.contains(topic) {
            return false;
        }
        let empty = MessageView {
            topic,
            topic_hash: self.hasher.hash(topic),
            forwarded_properties: &[],
            payload: &[],
            qos: QoS::AtMostOnce,
            retain: true,
            expires_at_ms: None,
        };
        self.set_retained(empty.to_message(), now);
        true
    }

    /// Remembers how a connection ended, for whoever asks about the client.
    pub fn remember_end(&mut self, ended: &Ended, unix_s: u64) {
        if ended.client_identifier.is_empty() {
            return;
        }
        if self.latest_ends.len() >= ENDED_MAX {
            self.latest_ends.pop_front();
        }
        self.latest_ends.push_back((ended.clone(), unix_s));
    }
}
