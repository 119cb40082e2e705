//! Answers to the control thread's questions: lists in pages, one client in full, queues and windows.

use crate::config::limits::{ASK_VISITS_MAX, RECORDER_VISITS_MAX};
use crate::mqtt::data_types::ProtocolVersion;
use crate::mqtt::topic_filter::{has_wildcards, matches};
use crate::observability::recorder::{Entry, Position, What, Whose};
use crate::observability::sight::PayloadTrace;
use crate::routing::application_message::MessageView;
use crate::routing::ids::SessionIndex;
use crate::routing::local_index::{FilterId, Subscriber};
use crate::routing::retained::RetainedCursor;
use crate::session::Session;

use super::ask::{
    Answer, Ask, Census, ClientDetail, ClientFilter, ClientRow, Cursor, DecisionRow, Greatest,
    GroupRow, LastEnd, Page, RecorderPage, RetainedRow, ShardStats, SubscriptionRow,
};
use super::{Broker, Now};

/// How long payloads are kept for a live trace that does not come again, milliseconds.
const TRACE_PATIENCE_MS: u64 = 5_000;

/// The places of one page in a list of `length`, and where the next page begins.
fn page(cursor: Cursor, length: usize) -> (std::ops::Range<usize>, Option<Cursor>) {
    let from = usize::try_from(cursor).unwrap_or(usize::MAX).min(length);
    let to = from.saturating_add(ASK_VISITS_MAX).min(length);
    (from..to, (to < length).then_some(to as Cursor))
}

impl Broker {
    /// Answers a question of the control thread: a bounded piece of work.
    pub fn answer_question(&mut self, ask: Ask, now: Now) -> Answer {
        match ask {
            Ask::Stats => Answer::Stats(Box::new(self.stats())),
            Ask::Census { cursor } => self.census(cursor, now),
            Ask::Clients {
                filter,
                cursor,
                rows,
            } => Answer::Clients(self.list_clients(&filter, cursor, rows, now)),
            Ask::Client(client) => Answer::Client(self.client_detail(&client, now).map(Box::new)),
            Ask::Subscriptions {
                client,
                search,
                cursor,
                rows,
            } => Answer::Subscriptions(match client {
                Some(client) => self.subscriptions_of(&client, search.as_deref(), cursor, rows),
                None => self.list_subscriptions(search.as_deref(), cursor, rows),
            }),
            Ask::Groups { cursor, rows } => Answer::Groups(self.list_groups(cursor, rows)),
            Ask::Retained { filter, cursor } => self.list_retained(&filter, cursor, now),
            Ask::RetainedMessage(topic) => self.retained_message(&topic, now),
            Ask::Top { by, rows, cursor } => Answer::Clients(self.top(by, rows, cursor, now)),
            Ask::Recorder {
                client,
                topic,
                since_ms,
                from,
            } => Answer::Recorder(self.recorded(
                client.as_deref(),
                topic.as_deref(),
                since_ms,
                from.unwrap_or_default(),
                from.is_some(),
                now,
            )),
            Ask::RecorderEnd => Answer::Recorder(RecorderPage {
                next: self.clients.sight.recorder.end(),
                done: true,
                ..RecorderPage::default()
            }),
            Ask::Payloads { filter } => {
                let trace = self.clients.sight.payloads.replace(Box::new(PayloadTrace {
                    filter,
                    ends_at_ms: now.mono_ms + TRACE_PATIENCE_MS,
                    payloads: Vec::new(),
                }));
                Answer::Payloads(trace.map_or_else(Vec::new, |trace| trace.payloads))
            }
            act => self.administer(act, now),
        }
    }

    fn stats(&mut self) -> ShardStats {
        let acknowledgement = self.clients.sight.acknowledgement.clone();
        ShardStats {
            filters: self.local.filter_count() as u64,
            shared_groups: self.group_members.len() as u64,
            mesh_staged_bytes: self.mesh.staged_bytes() as u64,
            recorder_bytes: self.clients.sight.recorder.bytes() as u64,
            ..ShardStats::of_broker(self.id.0, self.counters(), acknowledgement)
        }
    }

    fn row(&mut self, index: SessionIndex, now: Now) -> Option<ClientRow> {
        let connection = self.clients.connected(index).map(|(slot, _, connection)| {
            let output_bytes = connection.output.bytes() as u64;
            (slot, connection.terms, connection.listener, output_bytes)
        });
        let session = self.clients.session(index)?;
        let delivery = session.delivery.as_deref();
        let queued_bytes = delivery.map_or(0, |delivery| delivery.outbox.bytes()) as u64;
        let in_flight_bytes = delivery.map_or(0, |delivery| delivery.in_flight.bytes()) as u64;
        let mut row = ClientRow {
            client_identifier: session.client_identifier.to_string(),
            session_expiry_interval_s: session.expiry_interval_s,
            subscriptions: session.subscription_count() as u64,
            queued_messages: delivery.map_or(0, |delivery| delivery.outbox.len()) as u64,
            queued_bytes,
            in_flight_messages: delivery.map_or(0, |delivery| delivery.in_flight.len()) as u64,
            in_flight_bytes,
            bytes_held: queued_bytes + in_flight_bytes,
            ..ClientRow::default()
        };
        if let Some((slot, terms, listener, output_bytes)) = connection {
            let traffic = self.clients.traffic(slot);
            let connected_s = (now.mono_ms / 1000).saturating_sub(traffic.opened_s.into());
            row.connected = true;
            row.slot = Some(slot);
            row.listener = self
                .config
                .listeners
                .get(usize::from(listener))
                .map(|listener| listener.name.clone());
            row.protocol = Some(version_name(terms.version).into());
            row.connected_s = Some(connected_s);
            row.messages = traffic.messages;
            row.keep_alive_s = Some(terms.keep_alive_s);
            row.in_flight_max = Some(terms.in_flight_max);
            row.messages_per_s = traffic.messages as f32 / connected_s.max(1) as f32;
            row.output_bytes = output_bytes;
            row.bytes_held += output_bytes;
        }
        Some(row)
    }

    fn list_clients(
        &mut self,
        filter: &ClientFilter,
        cursor: Cursor,
        rows: usize,
        now: Now,
    ) -> Page<ClientRow> {
        let (places, mut next) = page(cursor, self.clients.sessions.capacity());
        let mut found = Vec::new();
        for place in places {
            let Some(session) = self.clients.sessions.get(place) else {
                continue;
            };
            let wanted = filter
                .connected
                .is_none_or(|connected| connected == session.connection().is_some())
                && filter
                    .search
                    .as_ref()
                    .is_none_or(|text| session.client_identifier.contains(&**text));
            if !wanted {
                continue;
            }
            if found.len() >= rows {
                next = Some(place as Cursor);
                break;
            }
            // `sessions_max` is far below.
            found.extend(self.row(place as SessionIndex, now));
        }
        Page { rows: found, next }
    }

    fn top(&mut self, by: Greatest, rows: usize, cursor: Cursor, now: Now) -> Page<ClientRow> {
        let mut page = self.list_clients(&ClientFilter::default(), cursor, usize::MAX, now);
        sort_greatest(&mut page.rows, by);
        page.rows.truncate(rows);
        page
    }

    fn client_detail(&mut self, client: &str, now: Now) -> Option<ClientDetail> {
        let index = self.clients.find(client);
        let last_end = self.last_end(client);
        let index = index?;
        let row = self.row(index, now)?;
        let bytes_max = self.config.session.in_flight_bytes_max;
        let (shut, terms) = match self.clients.connected(index) {
            Some((_, session, connection)) => {
                let in_flight_max = connection.terms.in_flight_max;
                let shut = session
                    .delivery
                    .as_ref()
                    .is_some_and(|delivery| !delivery.in_flight.is_open(in_flight_max, bytes_max));
                (shut, Some(connection.terms))
            }
            None => (false, None),
        };
        let session = self.clients.session(index)?;
        let delivery = session.delivery.as_deref();
        Some(ClientDetail {
            row,
            shard: self.id.0,
            unreleased_messages: delivery.map_or(0, |delivery| delivery.inbound_qos2.len()) as u64,
            window_shut: shut,
            packet_bytes_max: terms
                .map(|terms| terms.packet_bytes_max)
                .filter(|bytes| *bytes != u32::MAX),
            topic_alias_maximum: terms.map(|terms| terms.outbound_alias_max),
            will_topic: session
                .will
                .as_ref()
                .map(|will| will.message.topic().to_owned()),
            last_end,
        })
    }

    fn last_end(&self, client: &str) -> Option<LastEnd> {
        let (ended, unix_s) = self
            .latest_ends
            .iter()
            .rev()
            .find(|(ended, _)| *ended.client_identifier == *client)?;
        Some(LastEnd {
            cause: ended.cause.into(),
            reason_code: ended.reason_code as u8,
            by_broker: ended.by_broker,
            at_unix_s: *unix_s,
        })
    }

    fn census(&mut self, cursor: Cursor, now: Now) -> Answer {
        let (places, next) = page(cursor, self.clients.sessions.capacity());
        let mut census = Census::default();
        for place in places {
            self.count_session(place as SessionIndex, &mut census, now);
        }
        Answer::Census(census, next)
    }

    fn count_session(&mut self, index: SessionIndex, census: &mut Census, now: Now) {
        let bytes_max = self.config.session.in_flight_bytes_max;
        let shut_ms = u64::from(self.config.observability.window_shut_s) * 1000;
        let mut in_flight_max = None;
        if let Some((_, _, connection)) = self.clients.connected(index) {
            in_flight_max = Some(connection.terms.in_flight_max);
            census.output_bytes += connection.output.bytes() as u64;
        }
        let Some(session) = self.clients.session_mut(index) else {
            return;
        };
        census.sessions += 1;
        let Some(delivery) = session.delivery.as_deref_mut() else {
            return;
        };
        census.queued_messages += delivery.outbox.len() as u64;
        census.queued_bytes += delivery.outbox.bytes() as u64;
        census.in_flight_messages += delivery.in_flight.len() as u64;
        census.in_flight_bytes += delivery.in_flight.bytes() as u64;
        let shut =
            in_flight_max.is_some_and(|maximum| !delivery.in_flight.is_open(maximum, bytes_max));
        if !shut {
            delivery.shut = None;
            return;
        }
        let Some(first) = delivery.in_flight.first_identifier() else {
            return;
        };
        match delivery.shut.filter(|(before, _)| *before == first) {
            // The low bits, so that their difference is right.
            Some((_, since_ms)) => {
                let elapsed_ms = (now.mono_ms as u32).wrapping_sub(since_ms);
                census.windows_shut += u64::from(u64::from(elapsed_ms) >= shut_ms);
            }
            None => delivery.shut = Some((first, now.mono_ms as u32)),
        }
    }

    fn list_subscriptions(
        &self,
        search: Option<&str>,
        cursor: Cursor,
        rows: usize,
    ) -> Page<SubscriptionRow> {
        let mut found = Vec::new();
        // The upper half of a cursor is the filter's place, the lower half the subscriber's.
        let (first, mut skip) = ((cursor >> 32) as u32, cursor as u32 as usize);
        let end = self.local.places();
        let mut visits = 0;
        for place in first..end {
            let filter = FilterId(place);
            let text = self.local.filter(filter);
            let subscribers = self.local.subscribers(filter);
            let wanted = search.is_none_or(|search| text.contains(search));
            let subscribers = if wanted { subscribers } else { &[] };
            for (position, subscriber) in subscribers.iter().enumerate().skip(skip) {
                if found.len() >= rows || visits >= ASK_VISITS_MAX {
                    let next = u64::from(place) << 32 | position as u64;
                    return Page {
                        rows: found,
                        next: Some(next),
                    };
                }
                visits += 1;
                found.extend(self.subscription_row(text, None, subscriber));
            }
            skip = 0;
            visits += 1;
        }
        // Shared ones are listed with their groups.
        Page {
            rows: found,
            next: None,
        }
    }

    fn subscription_row(
        &self,
        filter: &str,
        share_name: Option<&str>,
        subscriber: &Subscriber,
    ) -> Option<SubscriptionRow> {
        let session: &Session = self.clients.session(subscriber.session)?;
        Some(SubscriptionRow {
            client_identifier: session.client_identifier.to_string(),
            filter: filter.into(),
            share_name: share_name.map(Into::into),
            qos: subscriber.qos_bits(),
            no_local: subscriber.no_local(),
            retain_as_published: subscriber.retain_as_published(),
            subscription_identifier: Some(subscriber.subscription_identifier).filter(|id| *id != 0),
        })
    }

    fn subscriptions_of(
        &self,
        client: &str,
        search: Option<&str>,
        cursor: Cursor,
        rows: usize,
    ) -> Page<SubscriptionRow> {
        let nothing = Page {
            rows: Vec::new(),
            next: None,
        };
        let Some(index) = self.clients.find(client) else {
            return nothing;
        };
        let Some(session) = self.clients.session(index) else {
            return nothing;
        };
        let skip = usize::try_from(cursor).unwrap_or(usize::MAX);
        let exact = session.subscriptions.iter().filter_map(|filter| {
            let subscriber = self.local.subscription(filter, index)?;
            Some((self.local.filter(filter), None, *subscriber))
        });
        let groups = session.shared.iter().flat_map(|groups| groups.iter());
        let shared = groups.filter_map(|group| {
            let name = self.group_members.name(*group)?;
            let member = self.group_members.member(*group, index)?;
            Some((&*name.filter, Some(&*name.share_name), *member))
        });
        let mut found = Vec::new();
        let all = exact.chain(shared).skip(skip);
        for (looked_at, (filter, share_name, subscriber)) in (skip..).zip(all) {
            if found.len() >= rows || looked_at - skip >= ASK_VISITS_MAX {
                return Page {
                    rows: found,
                    next: Some(looked_at as Cursor),
                };
            }
            if search.is_none_or(|search| filter.contains(search)) {
                found.extend(self.subscription_row(filter, share_name, &subscriber));
            }
        }
        Page {
            rows: found,
            next: None,
        }
    }

    fn list_groups(&self, cursor: Cursor, rows: usize) -> Page<GroupRow> {
        let (places, mut next) = page(cursor, self.group_members.places());
        let mut found = Vec::new();
        for place in places {
            // Memory ends long before.
            let Some((name, members, connected)) = self.group_members.at(place as u32) else {
                continue;
            };
            if found.len() >= rows {
                next = Some(place as Cursor);
                break;
            }
            found.push(GroupRow {
                share_name: name.share_name.to_string(),
                filter: name.filter.to_string(),
                shard: self.id.0,
                members: members as u64,
                connected: u64::from(connected),
            });
        }
        Page { rows: found, next }
    }

    fn list_retained(&mut self, filter: &str, cursor: Option<RetainedCursor>, now: Now) -> Answer {
        let slice = self
            .retained
            .select(filter, cursor, &self.config.retained, now.mono_ms);
        let rows = slice
            .messages
            .iter()
            .map(|message| retained_row(&message.view(), now))
            .collect();
        Answer::Retained(rows, slice.next)
    }

    fn retained_message(&mut self, topic: &str, now: Now) -> Answer {
        if has_wildcards(topic) {
            return Answer::RetainedMessage(None);
        }
        let slice = self
            .retained
            .select(topic, None, &self.config.retained, now.mono_ms);
        let message = slice.messages.first().map(|message| {
            let view = message.view();
            (retained_row(&view, now), view.payload.to_vec())
        });
        Answer::RetainedMessage(message)
    }

    fn recorded(
        &self,
        client: Option<&str>,
        topic: Option<&str>,
        since_ms: u64,
        from: Position,
        counts_missed: bool,
        now: Now,
    ) -> RecorderPage {
        let recorder = &self.clients.sight.recorder;
        let places = recorder.places();
        let exact = topic.filter(|topic| !has_wildcards(topic));
        let hash = exact.map(|topic| self.hasher.hash(topic).0);
        let missed = match counts_missed {
            true => recorder.missed(from),
            false => 0,
        };
        let mut rows = Vec::new();
        let next = recorder.read(from, RECORDER_VISITS_MAX, |entry| {
            let at_ms = entry.at_ms(now.mono_ms);
            if at_ms < since_ms || hash.is_some_and(|hash| !entry.is_on(hash)) {
                return;
            }
            let whose = match places.whose(entry.session(), at_ms) {
                Whose::Current => self
                    .clients
                    .session(entry.session())
                    .map(|session| &*session.client_identifier),
                Whose::Former(client) => Some(client),
                Whose::Unknown => None,
            };
            if client.is_some_and(|client| whose != Some(client)) {
                return;
            }
            let text = recorder.topic(entry);
            let of_topic = match (topic, hash, &text) {
                (None, ..) | (_, Some(_), _) => true,
                (Some(filter), None, Some(text)) => matches(filter, text),
                (Some(_), None, None) => false,
            };
            if of_topic {
                let text = text.map(Into::into).or_else(|| exact.map(Into::into));
                rows.push(self.decision_row(entry, text, whose, now));
            }
        });
        RecorderPage {
            rows,
            done: next == recorder.end(),
            next,
            missed,
        }
    }

    fn decision_row(
        &self,
        entry: &Entry,
        topic: Option<String>,
        client: Option<&str>,
        now: Now,
    ) -> DecisionRow {
        let (what, cause) = What::words(entry.what());
        let came = [What::Received as u8, What::Arrived as u8].contains(&entry.what());
        let started_unix_ms = now.unix_s.saturating_sub(now.mono_ms / 1000) * 1000;
        DecisionRow {
            at_unix_ms: started_unix_ms + entry.at_ms(now.mono_ms),
            shard: self.id.0,
            what: what.into(),
            cause: cause.map(Into::into),
            topic,
            client_identifier: client.map(Into::into),
            qos: entry.qos(),
            deliveries: came.then_some(entry.number()),
            other_shards: came.then_some(entry.is_forwarded()),
            packet_identifier: Some(entry.number()).filter(|number| !came && *number != 0),
        }
    }
}

fn retained_row(view: &MessageView<'_>, now: Now) -> RetainedRow {
    RetainedRow {
        topic: view.topic.into(),
        qos: view.qos as u8,
        payload_bytes: view.payload.len() as u64,
        expires_in_s: view
            .expires_at_ms
            .map(|at| at.saturating_sub(now.mono_ms).div_ceil(1000)),
    }
}

/// Puts the greatest first.
pub fn sort_greatest(rows: &mut [ClientRow], by: Greatest) {
    match by {
        Greatest::Bytes => rows.sort_by_key(|row| std::cmp::Reverse(row.bytes_held)),
        Greatest::Queue => rows.sort_by_key(|row| std::cmp::Reverse(row.queued_messages)),
        Greatest::Rate => rows.sort_by(|a, b| b.messages_per_s.total_cmp(&a.messages_per_s)),
    }
}

fn version_name(version: ProtocolVersion) -> &'static str {
    match version {
        ProtocolVersion::V3_1 => "3.1",
        ProtocolVersion::V3_1_1 => "3.1.1",
        ProtocolVersion::V5 => "5.0",
    }
}
