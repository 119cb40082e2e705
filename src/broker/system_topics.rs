//! `$SYS/broker/...`, with Mosquitto's names, and below `ringmq/` our own: published by shard 0 while
//! somebody is subscribed.
//!
//! A subscription to `$SYS` on any shard wakes shard 0, which asks every shard for its counters, publishes
//! their sum at once and then at each interval, until a round finds nobody.

use crate::config::limits::SYSTEM_TOPICS_AT_ONCE_MS;
use crate::mqtt::data_types::QoS;
use crate::observability::counters::{Counters, DropCause, EndCause};
use crate::routing::application_message::MessageView;
use crate::routing::ids::ShardId;

use super::delivery::Publication;
use super::envelope::Envelope;
use super::publish::Publisher;
use super::timers::Timer;
use super::{Broker, Now};

/// The shard that publishes `$SYS`.
const PUBLISHER: ShardId = ShardId(0);
/// Mosquitto's load averages: minutes and their topic's last level.
const LOADS: [(f64, &str); 3] = [(1.0, "1min"), (5.0, "5min"), (15.0, "15min")];

/// A count whose rate per minute is published.
type LoadOf = (&'static str, fn(&Counters) -> u64);

const LOAD_TOPICS: [LoadOf; 7] = [
    ("messages/received", |counters| counters.packets_received),
    ("messages/sent", |counters| counters.packets_sent),
    ("publish/received", Counters::publish_received_total),
    ("publish/sent", Counters::publish_sent_total),
    ("bytes/received", |counters| counters.bytes_received),
    ("bytes/sent", |counters| counters.bytes_sent),
    ("connections", |counters| counters.connections_accepted),
];

/// The state of shard 0's publications.
#[derive(Debug)]
pub(super) struct SystemTopics {
    started_ms: u64,
    active: bool,
    /// A first publication is on its way; whoever subscribes meanwhile shares it.
    at_once_armed: bool,
    /// Counts changes of the interval.
    round: u32,
    /// Answers that are still to come, and their sum so far.
    awaited: u16,
    sum: Counters,
    /// The largest sum of connections of any round. As in Mosquitto, a peak between two rounds is not seen:
    /// those of single shards come at different times and cannot be added.
    connections_max: u64,
    last: Option<(u64, Counters)>,
    loads: [[f64; 3]; LOAD_TOPICS.len()],
}

impl SystemTopics {
    pub(super) fn new(now: Now) -> Self {
        Self {
            started_ms: now.mono_ms,
            active: false,
            at_once_armed: false,
            round: 0,
            awaited: 0,
            sum: Counters::default(),
            connections_max: 0,
            last: None,
            loads: [[0.0; 3]; LOAD_TOPICS.len()],
        }
    }

    /// Brings the load averages up to date: exponentially weighted rates per minute.
    fn update_loads(&mut self, now_ms: u64) {
        let (last_ms, last) = self.last.unwrap_or((self.started_ms, Counters::default()));
        let minutes = now_ms.saturating_sub(last_ms).max(1) as f64 / 60_000.0;
        for (loads, (_, count)) in self.loads.iter_mut().zip(LOAD_TOPICS) {
            let rate = count(&self.sum).saturating_sub(count(&last)) as f64 / minutes;
            for (load, (span, _)) in loads.iter_mut().zip(LOADS) {
                let keep = (-minutes / span).exp();
                *load = *load * keep + rate * (1.0 - keep);
            }
        }
        self.last = Some((now_ms, self.sum));
    }

    /// Topics below `$SYS/broker/` and their values.
    fn topics(&self, now: Now) -> Vec<(String, String)> {
        let sum = &self.sum;
        let seconds = now.mono_ms.saturating_sub(self.started_ms) / 1000;
        let offline = sum.sessions.saturating_sub(sum.connections);
        let mut topics: Vec<(String, String)> = [
            (
                "version",
                format!("ringmq version {}", env!("CARGO_PKG_VERSION")),
            ),
            ("uptime", format!("{seconds} seconds")),
            ("clients/connected", sum.connections.to_string()),
            ("clients/disconnected", offline.to_string()),
            ("clients/total", sum.sessions.to_string()),
            ("clients/maximum", self.connections_max.to_string()),
            ("clients/expired", sum.sessions_expired.to_string()),
            ("messages/received", sum.packets_received.to_string()),
            ("messages/sent", sum.packets_sent.to_string()),
            ("messages/stored", sum.retained_messages.to_string()),
            (
                "publish/messages/received",
                sum.publish_received_total().to_string(),
            ),
            (
                "publish/messages/sent",
                sum.publish_sent_total().to_string(),
            ),
            ("publish/messages/dropped", sum.dropped_total().to_string()),
            (
                "publish/bytes/received",
                sum.publish_bytes_received.iter().sum::<u64>().to_string(),
            ),
            (
                "publish/bytes/sent",
                sum.publish_bytes_sent.iter().sum::<u64>().to_string(),
            ),
            ("bytes/received", sum.bytes_received.to_string()),
            ("bytes/sent", sum.bytes_sent.to_string()),
            ("subscriptions/count", sum.subscriptions.to_string()),
            ("retained messages/count", sum.retained_messages.to_string()),
            ("store/messages/count", sum.retained_messages.to_string()),
            ("store/messages/bytes", sum.retained_bytes.to_string()),
        ]
        .map(|(topic, value)| (topic.to_owned(), value))
        .into();
        // Ours: losses by their cause.
        for (name, count) in DropCause::NAMES.iter().zip(sum.dropped) {
            topics.push((format!("ringmq/publish/dropped/{name}"), count.to_string()));
        }
        for (name, count) in EndCause::NAMES.iter().zip(sum.ended) {
            topics.push((
                format!("ringmq/connections/ended/{name}"),
                count.to_string(),
            ));
        }
        for (name, count) in [
            ("handshakes/full", sum.tls_handshakes_full),
            ("handshakes/resumed", sum.tls_handshakes_resumed),
            ("certificate_ends_unix_s", sum.tls_certificate_ends_unix_s),
        ] {
            topics.push((format!("ringmq/tls/{name}"), count.to_string()));
        }
        for (loads, (name, _)) in self.loads.iter().zip(LOAD_TOPICS) {
            for (load, (_, span)) in loads.iter().zip(LOADS) {
                topics.push((format!("load/{name}/{span}"), format!("{load:.2}")));
            }
        }
        topics
    }
}

impl Broker {
    pub(super) fn arm_system_topics(&mut self, now: Now) {
        let interval_s = self.config.system_topics_interval_s;
        if self.id == PUBLISHER && interval_s > 0 {
            let round = self.system_topics.round;
            self.wheel.set(
                now.mono_ms + u64::from(interval_s) * 1000,
                Timer::SystemTopics { round },
            );
        }
    }

    /// The interval has been changed: the timer of the old one is void.
    pub(super) fn restart_system_topics(&mut self, now: Now) {
        self.system_topics.round = self.system_topics.round.wrapping_add(1);
        self.arm_system_topics(now);
    }

    /// Somebody has subscribed to `$SYS`.
    pub(super) fn want_system_topics(&mut self, now: Now) {
        if self.config.system_topics_interval_s == 0 {
            return;
        }
        if self.id != PUBLISHER {
            self.mesh.stage(PUBLISHER, Envelope::SystemTopicsWanted);
            return;
        }
        self.system_topics.active = true;
        if std::mem::replace(&mut self.system_topics.at_once_armed, true) {
            return;
        }
        // Soon, and once for many who come together; by then their interest is known here.
        self.wheel.set(
            now.mono_ms + SYSTEM_TOPICS_AT_ONCE_MS,
            Timer::SystemTopicsAtOnce,
        );
    }

    /// The first publication for new subscribers is due.
    pub(super) fn system_topics_at_once_due(&mut self, now: Now) {
        self.system_topics.at_once_armed = false;
        self.ask_counters(now);
    }

    /// The interval is over: the loads need a sample also while nobody listens.
    pub(super) fn system_topics_due(&mut self, round: u32, now: Now) {
        if round != self.system_topics.round {
            return;
        }
        self.arm_system_topics(now);
        self.ask_counters(now);
    }

    /// Asks all shards for their counters, unless they are asked already.
    fn ask_counters(&mut self, now: Now) {
        if self.system_topics.awaited > 0 {
            return;
        }
        self.system_topics.awaited = self.shard_count;
        self.system_topics.sum = Counters::default();
        for other in self.mesh.others() {
            self.mesh.stage(other, Envelope::CountersQuery);
        }
        let own = self.counters();
        self.take_counters(&own, now);
    }

    /// The counters of a shard; with the last, the round is complete.
    pub(super) fn take_counters(&mut self, counters: &Counters, now: Now) {
        let state = &mut self.system_topics;
        state.sum.add(counters);
        state.awaited = state.awaited.saturating_sub(1);
        if state.awaited > 0 {
            return;
        }
        state.connections_max = state.connections_max.max(state.sum.connections);
        state.update_loads(now.mono_ms);
        if !state.active {
            return;
        }
        let mut anyone = false;
        for (topic, value) in self.system_topics.topics(now) {
            let topic = format!("$SYS/broker/{topic}");
            let view = MessageView {
                topic: &topic,
                topic_hash: self.hasher.hash(&topic),
                forwarded_properties: &[],
                payload: value.as_bytes(),
                qos: QoS::ExactlyOnce,
                retain: false,
                expires_at_ms: None,
            };
            let publisher = Publisher {
                session: None,
                hash: 0,
                asked: None,
            };
            anyone |= self
                .route(&mut Publication::new(view), publisher, now)
                .anyone;
        }
        self.system_topics.active = anyone;
    }
}
