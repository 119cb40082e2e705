//! What must be true when nothing moves any more.

use ringmq::config::limits::{NetworkLimits, SessionLimits};
use ringmq::observability::counters::{Counters, DropCause};

use super::session::{Conn, Phase, Session};
use super::{CAUSES, Model, Publication, topics};

/// Which causes a loss may have had.
type Causes = [bool; CAUSES];

impl Model {
    /// Nothing moves but the clients in `stuck`, who do nothing: the others must have all that they are
    /// owed.
    pub fn settled(&mut self, stuck: &[usize], counters: &Counters) {
        self.event += 1;
        let lanes = self.lanes.iter().flatten();
        assert!(
            lanes.into_iter().all(Vec::is_empty),
            "a lane of the model is not empty"
        );
        self.check_connections(stuck);
        let clients: Vec<_> = self.sessions.keys().copied().collect();
        for client in clients.into_iter().filter(|client| !stuck.contains(client)) {
            self.check_session(client);
        }
        self.check_groups(stuck);
        if stuck.is_empty() {
            self.check_drops(counters);
        }
        let event = self.event;
        let own = self
            .sessions
            .values_mut()
            .flat_map(|one| one.subscriptions.values_mut());
        let shared = self
            .groups
            .values_mut()
            .flat_map(|one| one.members.values_mut());
        for subscription in own.chain(shared) {
            subscription.acknowledged.get_or_insert(event);
        }
    }

    /// All sessions have ended.
    pub fn finished(&self) {
        assert!(
            self.sessions.is_empty(),
            "sessions {:?} of the model have not ended",
            self.sessions.keys()
        );
    }

    fn check_connections(&self, stuck: &[usize]) {
        for (number, conn) in &self.conns {
            let alive = conn.phase == Phase::Connected && !stuck.contains(&conn.client);
            assert!(
                !alive || conn.due.is_empty(),
                "client {} waits on connection {number} for {:?}",
                conn.client,
                conn.due
            );
        }
    }

    fn check_session(&mut self, client: usize) {
        let session = &self.sessions[&client];
        assert!(session.conn.is_some(), "client {client} has not come back");
        for expected in session.expected.iter().filter(|expected| expected.must) {
            let causes = self.causes(session, expected.publication, expected.qos);
            assert!(
                causes.contains(&true),
                "client {client} has not got message {}, publication {}, QoS {}",
                self.message_of(expected.publication).number,
                expected.publication,
                expected.qos
            );
            self.missing.push(causes);
        }
        self.check_retained(client);
        let session = self.sessions.get_mut(&client).expect("a session");
        session.expected.clear();
        session.asking.clear();
        session.stored.clear();
        let conn = session.conn;
        // What a member lost to another is not sent to it again.
        session
            .in_flight
            .retain(|_, sent| sent.group.is_none() || Some(sent.conn) == conn);
        assert!(
            session.in_flight.is_empty(),
            "client {client} has acknowledged all, and in flight is still {:?}",
            session.in_flight
        );
    }

    /// Why a message may not have come.
    fn causes(&self, session: &Session, publication: usize, qos: u8) -> Causes {
        let message = self.message_of(publication);
        let largest = message.payload_bytes + message.topic.len() + 60;
        let expired = |at: u64| at <= self.now.mono_ms;
        let mut causes = self.possible();
        causes[DropCause::OutputFull as usize] &= qos == 0;
        causes[DropCause::Expired as usize] = self.publications[publication]
            .expires_at_ms
            .is_some_and(expired);
        causes[DropCause::PacketTooLarge as usize] = largest > session.packet_bytes_max as usize;
        causes
    }

    /// Causes that this configuration makes possible for every message.
    fn possible(&self) -> Causes {
        let mut causes = [false; CAUSES];
        let session = SessionLimits::default();
        causes[DropCause::OutputFull as usize] =
            self.config.network.output_bytes_max < NetworkLimits::default().output_bytes_max;
        causes[DropCause::OutboxFull as usize] =
            self.config.session.outbox_messages_max < session.outbox_messages_max;
        causes
    }

    /// Each SUBSCRIBE that asked for retained messages has got the last one of each Topic Name.
    fn check_retained(&self, client: usize) {
        let session = &self.sessions[&client];
        for asking in session.asking.iter().filter(|asking| asking.must) {
            for topic in self.retained.keys() {
                let Some(last) = self.last_retained(topic) else {
                    continue;
                };
                let message = self.message_of(last);
                let Some(subscription) = session.subscriptions.get(asking.filter) else {
                    continue;
                };
                // QoS 0 is lost with its connection.
                let asked = asking
                    .options
                    .iter()
                    .map(|(qos, _)| *qos)
                    .min()
                    .unwrap_or(0);
                let qos = asked.min(subscription.qos()).min(message.qos);
                let lost = qos == 0 && asking.connection < session.connections;
                let no_local = asking.no_local || subscription.no_local();
                let own = no_local && message.publisher == client;
                if !topics::matches(asking.filter, topic)
                    || message.payload_bytes == 0
                    || own
                    || lost
                {
                    continue;
                }
                // Choice of the broker: a live message takes the place of the retained one, even if that
                // is a newer one which was published where the subscription was not known yet.
                let live = session
                    .live
                    .get(topic)
                    .is_some_and(|at| *at >= asking.since);
                let sent = session.retained.get(topic).into_iter().flatten();
                let got = |(publication, at): (usize, u64)| {
                    self.publications[publication].message == message.number && at >= asking.since
                };
                if live || sent.copied().any(got) {
                    continue;
                }
                let causes = self.causes(session, last, qos);
                assert!(
                    causes.contains(&true),
                    "client {client} subscribed to {} and has not got the retained message {} of {topic}",
                    asking.filter,
                    message.number
                );
            }
        }
    }

    /// The last publication with RETAIN to a Topic Name, if there is one that all shards agree on.
    fn last_retained(&self, topic: &str) -> Option<usize> {
        let all = self.retained.get(topic)?;
        let latest = |one: &&usize| !all.iter().any(|other| self.is_older(**one, *other));
        let mut latest = all.iter().filter(latest);
        let one = latest.next()?;
        latest.next().is_none().then_some(*one)
    }

    fn check_groups(&mut self, stuck: &[usize]) {
        let is_limited = |conn: &Conn| {
            let asked = conn.asked.as_ref();
            asked.is_some_and(|asked| asked.packet_bytes_max < u32::MAX)
        };
        for (name, group) in &mut self.groups {
            let was_member = |client: &usize| {
                let session = self.sessions.get(client);
                session.is_some_and(|session| session.groups.contains(name))
            };
            if stuck.iter().any(was_member) {
                continue;
            }
            let messages = std::mem::take(&mut group.messages);
            for message in messages.iter().filter(|message| message.must) {
                let publication = &self.publications[message.publication];
                let limited = self.config.session.outbox_messages_max
                    < SessionLimits::default().outbox_messages_max
                    || publication.expires_at_ms.is_some()
                    || self.conns.values().any(is_limited);
                // Which time it was of a message that was published again, is a guess.
                let number = publication.message;
                let same = |other: &&Publication| other.message == number;
                let again = self.publications.iter().filter(same).count() > 1;
                assert!(
                    limited || again || message.done,
                    "message {number} was lost for the group {name}: {message:?}"
                );
            }
        }
    }

    /// What was dropped is counted with its cause, and nothing else is.
    fn check_drops(&mut self, counters: &Counters) {
        let missing = std::mem::take(&mut self.missing);
        let names = [
            DropCause::OutputFull,
            DropCause::OutboxFull,
            DropCause::Expired,
            DropCause::PacketTooLarge,
        ];
        let possible = self.possible();
        for cause in names {
            let place = cause as usize;
            let counted = counters.dropped[place] - self.dropped[place];
            let only = |causes: &&Causes| {
                causes[place] && causes.iter().filter(|possible| **possible).count() == 1
            };
            let surely = missing.iter().filter(only).count() as u64;
            assert!(
                surely <= counted,
                "{surely} messages were dropped because of {cause:?}, and {counted} are counted"
            );
            let by_message = matches!(cause, DropCause::Expired | DropCause::PacketTooLarge);
            assert!(
                by_message || possible[place] || counted == 0,
                "{counted} messages are counted as dropped because of {cause:?}, which cannot be"
            );
        }
        assert_eq!(
            counters.dropped[DropCause::RetainedLimit as usize],
            0,
            "retained messages were dropped without a limit"
        );
        self.dropped = counters.dropped;
    }
}
