//! Questions of a shard about clients, their answers, and what a new policy changes.
//!
//! The broker asks; other threads answer, through the inbox like everybody else. A question for which there
//! is no room is answered here: the server is busy.

use std::sync::Arc;
use std::time::Instant;

use crate::broker::Now;
use crate::broker::authentication::{Answer, Identity, Question, Refusal};
use crate::broker::policy::Policy;
use crate::net::peer::{PeerAddress, user_of_peer};
use crate::net::ring::Token;
use crate::routing::ids::ShardId;

use super::Shard;
use super::connection::State;
use super::turn::shortened;

/// A question of a shard about a client.
#[derive(Debug)]
pub struct Asked {
    /// Who asks.
    pub shard: ShardId,
    /// Since when.
    pub at: Instant,
    /// What.
    pub question: Question,
}

impl Asked {
    fn by(shard: ShardId, question: Question) -> Self {
        Self {
            shard,
            at: Instant::now(),
            question,
        }
    }
}

impl Shard {
    /// Hands questions about clients to those who answer them; who cannot be asked about is refused.
    pub(super) fn ask(&mut self, now: Now) {
        // An answer may bring the next question.
        for _ in 0..2 {
            let questions: Vec<Question> = self.broker.take_questions().collect();
            for question in questions {
                let (slot, serial) = (question.slot, question.serial);
                let verdict = question.asked.refused(Refusal::Busy);
                let sent = self.questions.as_ref().is_some_and(|questions| {
                    questions.try_send(Asked::by(self.id, question)).is_ok()
                });
                if !sent {
                    let answer = Answer {
                        slot,
                        serial,
                        generation: 0,
                        verdict,
                    };
                    self.take_answer(answer, now);
                }
            }
        }
    }

    pub(super) fn take_answer(&mut self, answer: Answer, now: Now) {
        let slot = answer.slot;
        self.broker.answer(answer, now);
        let connection = self.connections.get(slot as usize);
        let parked = connection
            .and_then(Option::as_deref)
            .is_some_and(|connection| connection.state == State::Paused);
        if parked && !self.paused.contains(&slot) {
            self.paused.push(slot);
        }
    }

    pub(super) fn take_policy(&mut self, policy: Arc<Policy>, now: Now) {
        let rechecked = self.broker.set_policy(policy, now);
        tracing::info!(
            shard = self.id.0,
            sessions = rechecked.sessions,
            subscriptions_ended = rechecked.subscriptions_ended,
            messages_dropped = rechecked.messages_dropped,
            "standing subscriptions are checked against the new policy"
        );
    }

    /// What the transport knows about the other end.
    pub(super) fn identity(&mut self, token: Token) -> Identity {
        let connection = self.connections.get(token.slot as usize);
        let Some(connection) = connection.and_then(Option::as_deref) else {
            return Identity::default();
        };
        let doors = &self.config.listeners[usize::from(connection.listener)].doors;
        let transport = self.transports.of(token);
        let names = transport.and_then(|transport| transport.certificate(doors.tls.identity));
        let unix_user = match &connection.peer {
            PeerAddress::Unix => user_of_peer(&connection.socket),
            _ => None,
        };
        Identity {
            address: connection.peer.ip(),
            certificate: names.and_then(|(name, _)| name).map(Into::into),
            unix_user,
        }
    }

    /// Logs what clients were not allowed to do: one line for all that came within a moment.
    pub(super) fn log_denied(&mut self) {
        let Some(denied) = self.broker.take_denials(self.now()) else {
            return;
        };
        let client = &*shortened(&denied.client_identifier);
        let user = denied.user_name.as_deref().map(shortened);
        let topic = &*shortened(&denied.topic);
        tracing::warn!(
            client,
            user = user.as_deref(),
            topic,
            action = denied.action,
            count = denied.count,
            "not authorized; the first of so many"
        );
    }
}
