//! The end of a session, its Will, and what is pumped into its connection.

use crate::routing::ids::SessionIndex;

use super::delivery::Publication;
use super::durable::Acknowledge;
use super::envelope::Change;
use super::fault::{self, Fault};
use super::publish::Publisher;
use super::{Broker, Now};

impl Broker {
    /// Sends what waits for a session: its outbox, then retained messages.
    pub(super) fn pump(&mut self, index: SessionIndex, now: Now) {
        let Some(delivery) = self
            .clients
            .session(index)
            .and_then(|session| session.delivery.as_ref())
        else {
            return;
        };
        let retained = delivery.retained.is_some();
        self.clients.pump_outbox(index, now.mono_ms);
        if retained && !fault::on(Fault::RetainedForgotten) {
            self.pump_retained(index, now);
        }
    }

    /// Publishes the Will of a session, if it has one, and forgets it [MQTT-3.1.2-10]. The log forgets it
    /// when it is safe with its receivers; for a session that ends, its end waits: `asked`.
    pub(super) fn publish_will(&mut self, index: SessionIndex, asked: Option<u64>, now: Now) {
        let Some(session) = self.clients.session_mut(index) else {
            return;
        };
        let Some(will) = session.will.take() else {
            return;
        };
        let (number, _) = session.log_key();
        let hash = self.hasher.hash(&session.client_identifier).0;
        let expires_at_ms = will
            .message_expiry_interval_s
            .map(|seconds| now.mono_ms + u64::from(seconds) * 1000);
        let mut view = will.message.view();
        view.expires_at_ms = expires_at_ms;
        let gone = (number != 0 && asked.is_none())
            .then(|| self.begin_acknowledgement(Acknowledge::WillGone { session: number }));
        let publisher = Publisher {
            session: Some(index),
            hash,
            asked: asked.or(gone),
        };
        self.route(&mut Publication::new(view), publisher, now);
        if fault::on(Fault::WillTwice) {
            self.route(&mut Publication::new(view), publisher, now);
        }
        if let Some(number) = gone {
            self.asked_all(number, None, now);
        }
    }

    /// Ends a session: its subscriptions, its queues, and its Will if that is still to come
    /// [MQTT-3.1.3-9]. It has no connection.
    pub(super) fn end_session(&mut self, index: SessionIndex, now: Now) {
        let recorded = self
            .clients
            .session(index)
            .map(|session| session.log_key().0);
        let ended = recorded
            .filter(|number| *number != 0)
            .map(|session| self.begin_acknowledgement(Acknowledge::SessionEnd { session }));
        if !fault::on(Fault::WillForgotten) {
            self.publish_will(index, ended, now);
        }
        self.forget_origins(index, now);
        let Some(session) = self.clients.session_mut(index) else {
            return;
        };
        let subscriptions = session.subscriptions.take();
        let groups = session.shared.take();
        let retained = session
            .delivery
            .as_mut()
            .and_then(|delivery| delivery.retained.take());
        let mut changes = Vec::new();
        for filter in subscriptions {
            self.clients.counters.subscriptions -= 1;
            self.remove_subscription(filter, index, &mut changes);
        }
        let mut names = Vec::new();
        for group in groups.iter().flat_map(|groups| groups.iter()) {
            self.clients.counters.subscriptions -= 1;
            // The group may end with its last member.
            let Some(serial) = self.group_members.serial(*group) else {
                continue;
            };
            if let Some(name) = self.group_members.leave(*group, index, false) {
                changes.push(Change::Group(self.group_change(&name)));
                names.push((serial, name));
            }
        }
        self.broadcast(changes);
        for number in retained
            .into_iter()
            .flat_map(|backlog| backlog.into_numbers())
        {
            self.drop_retained(number);
        }
        let Some(mut session) = self.clients.remove_session(index) else {
            return;
        };
        let recorder = &mut self.clients.sight.recorder;
        recorder.session_ended(&session.client_identifier, index, now.mono_ms);
        if let Some(delivery) = session.delivery.as_mut() {
            self.hand_back_all(delivery, &names, ended, now);
        }
        if let Some(number) = ended {
            self.asked_all(number, None, now);
        }
    }

    /// The QoS 2 messages that the client has not released are nobody's from now on.
    fn forget_origins(&mut self, index: SessionIndex, now: Now) {
        let Some(delivery) = self
            .clients
            .session_mut(index)
            .and_then(|session| session.delivery.as_mut())
        else {
            return;
        };
        for (identifier, shards) in delivery.inbound_qos2.take_recorded() {
            self.close_origins(index, identifier, &shards, None, now);
        }
    }
}
