//! What the broker sends: every packet well formed, allowed, and owed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::packet::{Kind, Packet, Version};
use crate::property;
use crate::trace;

use super::session::{Asking, Expected, InFlight, Phase};
use super::{Message, Model, Publication, topics};

/// Properties that a PUBLISH of the broker's own making has beside those that it forwards.
const OWN: [u8; 3] = [
    property::MESSAGE_EXPIRY_INTERVAL,
    property::TOPIC_ALIAS,
    property::SUBSCRIPTION_IDENTIFIER,
];

/// What a PUBLISH turned out to be.
struct Found {
    publication: usize,
    group: Option<(&'static str, usize)>,
    /// From the retained messages, not live.
    stored: bool,
}

impl Model {
    /// Output that a shard hands to the network: whole packets.
    pub fn output(&mut self, conn: usize, mut bytes: &[u8]) {
        let version = self.conns[&conn].version;
        while let Some(packet) = Packet::parse(version, bytes) {
            bytes = &bytes[packet.packet_bytes..];
            self.event += 1;
            trace::say(|| describe(conn, &packet));
            self.check_packet(conn, &packet);
        }
        assert!(bytes.is_empty(), "output ends in the middle of a packet");
    }

    /// A shard had nothing more to send to a connection.
    pub fn drained(&mut self, conn: usize) {
        let now_ms = self.now.mono_ms;
        self.conn(conn).drained_ms = now_ms;
    }

    fn check_packet(&mut self, conn: usize, packet: &Packet) {
        let state = &self.conns[&conn];
        let client = state.client;
        assert!(!state.disconnected, "{:?} after DISCONNECT", packet.kind);
        let is_first = state.due.connack.is_some() || state.asked.is_none();
        assert!(
            is_first == (packet.kind == Kind::ConnAck),
            "{:?} to client {client}: CONNACK must come first, and once",
            packet.kind
        );
        let longest = state
            .asked
            .as_ref()
            .map_or(u32::MAX, |asked| asked.packet_bytes_max);
        assert!(
            packet.packet_bytes <= longest as usize,
            "{:?} of {} bytes is over the Maximum Packet Size of client {client}",
            packet.kind,
            packet.packet_bytes
        );
        match packet.kind {
            Kind::Publish => self.check_publish(conn, packet),
            Kind::PubRel => self.check_pubrel(conn, packet),
            Kind::ConnAck => {
                // 3.1 does not tell.
                let tells = self.conns[&conn].version != Version::V31;
                let present = self
                    .conn(conn)
                    .due
                    .connack
                    .take()
                    .map(|present| present && tells);
                assert_eq!(
                    (packet.code, Some(packet.session_present)),
                    (0, present),
                    "CONNACK to client {client}: code and Session Present"
                );
            }
            Kind::Disconnect => self.conn(conn).disconnected = true,
            _ => self.check_answer(conn, packet),
        }
    }

    fn check_answer(&mut self, conn: usize, packet: &Packet) {
        let v5 = self.conns[&conn].version == Version::V5;
        let client = self.conns[&conn].client;
        let due = &mut self.conn(conn).due;
        let identifier = packet.identifier;
        match packet.kind {
            Kind::PubAck | Kind::PubRec => {
                let queue = match packet.kind {
                    Kind::PubAck => &mut due.pubacks,
                    _ => &mut due.pubrecs,
                };
                let (expected, publication) = queue.pop_front().expect("nothing to acknowledge");
                assert_eq!(identifier, expected, "{:?} to client {client}", packet.kind);
                assert!(
                    packet.code == 0 || (v5 && packet.code == 0x10),
                    "{:?} with the code {:#x}",
                    packet.kind,
                    packet.code
                );
                if let Some(publication) = publication.filter(|_| packet.code == 0x10) {
                    let entry = &mut self.publications[publication];
                    entry.nobody = true;
                    assert!(
                        !entry.wanted,
                        "client {client} is told that nobody gets message {}",
                        entry.message
                    );
                }
            }
            Kind::PubComp => {
                let (expected, known) = due.pubcomps.pop_front().expect("nothing to complete");
                let code = if known || !v5 { 0 } else { 0x92 };
                assert_eq!(
                    (identifier, packet.code),
                    (expected, code),
                    "PUBCOMP to client {client}"
                );
            }
            Kind::SubAck => {
                let suback = due.subacks.pop_front().expect("no SUBACK is due");
                assert_eq!(
                    (identifier, &packet.codes),
                    (suback.identifier, &suback.codes),
                    "SUBACK to client {client}"
                );
                self.suback_sent(conn, &suback);
            }
            Kind::UnsubAck => {
                let unsuback = due.unsubacks.pop_front().expect("no UNSUBACK is due");
                assert_eq!(
                    (identifier, &packet.codes),
                    (unsuback.identifier, &unsuback.codes),
                    "UNSUBACK to client {client}"
                );
                self.unsuback_sent(conn, &unsuback);
            }
            Kind::PingResp => {
                assert!(due.pings > 0, "PINGRESP that nobody asked for");
                due.pings -= 1;
            }
            other => panic!("{other:?} to client {client}"),
        }
    }

    fn check_pubrel(&mut self, conn: usize, packet: &Packet) {
        let client = self.conns[&conn].client;
        let due = &mut self.conn(conn).due;
        if due.pubrels.front() == Some(&packet.identifier) {
            due.pubrels.pop_front();
            return;
        }
        let Some(session) = self.current(conn) else {
            return;
        };
        let sent = session.in_flight.get_mut(&packet.identifier);
        assert!(
            sent.as_ref()
                .is_some_and(|sent| sent.received && sent.conn != conn),
            "PUBREL {} to client {client} without PUBREC, or twice on one connection",
            packet.identifier
        );
        if let Some(sent) = sent {
            sent.conn = conn;
        }
    }

    /// The session that a connection still serves.
    fn current(&mut self, conn: usize) -> Option<&mut super::Session> {
        let client = self.conns[&conn].client;
        let session = self.sessions.get_mut(&client)?;
        (session.conn == Some(conn)).then_some(session)
    }

    fn check_publish(&mut self, conn: usize, packet: &Packet) {
        let topic = self.resolve_alias(conn, packet);
        let number = match packet.payload.as_slice() {
            [] => None,
            payload => {
                let number = payload
                    .first_chunk()
                    .map(|bytes| u64::from_be_bytes(*bytes));
                let number = number.expect("a payload with a number");
                let message = self.message(number);
                assert_eq!(topic, message.topic, "the Topic Name of message {number}");
                assert_eq!(
                    payload,
                    message.payload(),
                    "the payload of message {number}"
                );
                Some(number)
            }
        };
        let client = self.conns[&conn].client;
        if self.current(conn).is_none() {
            return; // the rest for a connection whose session has gone on elsewhere
        }
        if packet.qos > 0 && self.is_sent_again(conn, number, packet) {
            return;
        }
        let Some(found) = self.find(conn, number, &topic, packet) else {
            panic!(
                "client {client} gets what it must not get, or gets it twice: {}",
                describe(conn, packet)
            );
        };
        let message = self.message_of(found.publication).clone();
        if self.conns[&conn].version == Version::V5 {
            self.check_properties(conn, &message, packet);
        }
        if !packet.dup {
            self.check_expired(conn, &message);
        }
        if message.retain {
            self.check_newer(client, &message, &found);
        }
        if packet.qos == 0 {
            return;
        }
        let session = self.sessions.get_mut(&client).expect("a session");
        let sent = InFlight {
            message: message.number,
            qos: packet.qos,
            conn,
            received: false,
            group: found.group,
        };
        session.in_flight.insert(packet.identifier, sent);
        self.check_window(conn);
    }

    /// Whether a PUBLISH is one that was not acknowledged on an earlier connection.
    fn is_sent_again(&mut self, conn: usize, number: Option<u64>, packet: &Packet) -> bool {
        let client = self.conns[&conn].client;
        let session = self.sessions.get_mut(&client).expect("a session");
        let Some(sent) = session.in_flight.get_mut(&packet.identifier) else {
            return false;
        };
        let empty = self.messages[sent.message as usize].payload_bytes == 0;
        let same = number.map_or(empty, |number| number == sent.message);
        if sent.group.is_some() && !(same && packet.dup) {
            return false; // it was handed to another member
        }
        assert!(
            sent.conn != conn && same,
            "Packet Identifier {} to client {client} is in use for message {}",
            packet.identifier,
            sent.message
        );
        assert!(
            !sent.received,
            "message {} is sent again to client {client} after PUBREC",
            sent.message
        );
        assert!(
            packet.dup && packet.qos == sent.qos,
            "message {} is sent again to client {client} without DUP or with another QoS",
            sent.message
        );
        sent.conn = conn;
        self.check_window(conn);
        true
    }

    fn check_window(&mut self, conn: usize) {
        let client = self.conns[&conn].client;
        let asked = self.conns[&conn].asked.as_ref().expect("a CONNECT");
        let maximum = asked.receive_maximum.min(self.config.session.in_flight_max);
        let session = &self.sessions[&client];
        let open = session
            .in_flight
            .values()
            .filter(|sent| sent.conn == conn && !sent.received);
        let open = open.count();
        assert!(
            open <= usize::from(maximum),
            "{open} messages are in flight to client {client}, whose window is {maximum}"
        );
    }

    fn resolve_alias(&mut self, conn: usize, packet: &Packet) -> String {
        let state = self.conn(conn);
        let maximum = state
            .asked
            .as_ref()
            .map_or(0, |asked| u32::from(asked.alias_maximum));
        let Some(alias) = packet.number(property::TOPIC_ALIAS) else {
            assert!(
                !packet.topic.is_empty(),
                "neither Topic Name nor Topic Alias"
            );
            return packet.topic.clone();
        };
        assert!(
            alias >= 1 && alias <= maximum,
            "Topic Alias {alias} is over {maximum}"
        );
        if packet.topic.is_empty() {
            return state
                .aliases
                .get(&alias)
                .expect("a Topic Alias that is set")
                .clone();
        }
        state.aliases.insert(alias, packet.topic.clone());
        packet.topic.clone()
    }

    /// Finds what a PUBLISH is: expected, for a group, or retained.
    fn find(
        &mut self,
        conn: usize,
        number: Option<u64>,
        topic: &str,
        packet: &Packet,
    ) -> Option<Found> {
        let client = self.conns[&conn].client;
        let v5 = self.conns[&conn].version == Version::V5;
        let identifiers = packet.subscription_identifiers();
        let identifiers = v5.then_some(&identifiers);
        let expected = self.find_expected(conn, number, topic, packet);
        let unlikely = expected.is_some_and(|place| {
            let session = &self.sessions[&client];
            let expected = &session.expected[place];
            let out_of_order = !self.is_in_order(client, expected);
            out_of_order || (packet.dup && expected.connection == session.connections)
        });
        // A message with RETAIN comes live or from the retained ones, and then in no order.
        if unlikely
            && let Some(number) = number
            && let Some(found) = self.find_retained(client, number, packet, identifiers)
        {
            return Some(found);
        }
        if let Some(place) = expected {
            let session = self.sessions.get_mut(&client).expect("a session");
            let expected = session.expected.remove(place);
            assert!(
                !packet.dup || expected.connection < session.connections,
                "the first PUBLISH of message {number:?} to client {client} has DUP"
            );
            self.check_order(client, &expected);
            return Some(Found {
                publication: expected.publication,
                group: None,
                stored: false,
            });
        }
        if topics::matches("s/+", topic)
            && let Some((group, place)) = self.take_for_group(conn, number, topic, packet.qos)
        {
            return Some(Found {
                publication: self.groups[group].messages[place].publication,
                group: Some((group, place)),
                stored: false,
            });
        }
        self.find_retained(client, number?, packet, identifiers)
    }

    /// The place of the expected PUBLISH that this one is. A message that was published again is expected
    /// several times: the first time it may have expired, or nobody had to get it.
    fn find_expected(
        &self,
        conn: usize,
        number: Option<u64>,
        topic: &str,
        packet: &Packet,
    ) -> Option<usize> {
        let state = &self.conns[&conn];
        let session = &self.sessions[&state.client];
        let identifiers = packet.subscription_identifiers();
        let is = |expected: &Expected| {
            let message = self.message_of(expected.publication);
            let same = match number {
                Some(number) => message.number == number,
                None => message.payload_bytes == 0 && message.topic == topic,
            };
            same && expected.qos == packet.qos
                && expected.retain == packet.retain
                && (state.version != Version::V5 || expected.identifiers == identifiers)
        };
        let likely = |expected: &Expected| {
            let publication = &self.publications[expected.publication];
            let alive = |at_ms| publication.expires_at_ms.is_none_or(|until| until > at_ms);
            let fresh = u8::from(alive(state.drained_ms)) + u8::from(alive(self.now.mono_ms));
            let in_order = self.is_in_order(state.client, expected);
            let before = expected.connection < session.connections;
            u8::from(before || !packet.dup) * 16
                + fresh * 4
                + u8::from(in_order) * 2
                + u8::from(expected.must)
        };
        let places = session
            .expected
            .iter()
            .enumerate()
            .filter(|(_, expected)| is(expected));
        let best = places.max_by_key(|(place, expected)| (likely(expected), Reverse(*place)));
        best.map(|(place, _)| place)
    }

    fn is_in_order(&self, client: usize, expected: &Expected) -> bool {
        let last = self.sessions[&client].last.get(&self.order_key(expected));
        last.is_none_or(|last| *last <= expected.publication)
    }

    fn order_key(&self, expected: &Expected) -> (usize, &'static str, u8) {
        let message = self.message_of(expected.publication);
        (message.publisher, message.topic, expected.qos)
    }

    fn find_retained(
        &mut self,
        client: usize,
        number: u64,
        packet: &Packet,
        identifiers: Option<&Vec<u32>>,
    ) -> Option<Found> {
        let message = self.message(number).clone();
        if !packet.retain || !message.retain {
            return None;
        }
        let of_topic = self.retained.get(message.topic)?;
        let publication = of_topic
            .iter()
            .rev()
            .find(|one| self.publications[**one].message == number)?;
        let session = self.sessions.get_mut(&client).expect("a session");
        let right = |(qos, identifier): &(u8, u32)| {
            let expected = Some(*identifier).filter(|identifier| *identifier != 0);
            packet.qos == message.qos.min(*qos)
                && identifiers.is_none_or(|found| found.iter().copied().eq(expected))
        };
        // An owner that had a newer one when it could be asked does not send an older one.
        let publications = &self.publications;
        let replaced = |asking: &Asking| {
            of_topic.iter().any(|other| {
                let settled = publications[*other].settled;
                is_older(publications, *publication, *other)
                    && settled.is_some_and(|settled| settled < asking.since)
            })
        };
        let (asked, connections) = (&session.asking, session.connections);
        let possible = asked.iter().enumerate().filter(|(_, asking)| {
            (asking.told || asking.connection < connections)
                && !asking.gone
                && !replaced(asking)
                && topics::matches(asking.filter, message.topic)
                && asking.options.iter().any(right)
        });
        let possible: Vec<_> = possible.map(|(place, _)| place).collect();
        let stored = session.stored.entry(message.topic).or_default();
        stored.push(possible);
        if !each_has_its_own(stored) {
            return None;
        }
        Some(Found {
            publication: *publication,
            group: None,
            stored: true,
        })
    }

    fn check_order(&mut self, client: usize, expected: &Expected) {
        let key = self.order_key(expected);
        let number = self.publications[expected.publication].message;
        let times = self.publications.iter().filter(|one| one.message == number);
        if times.count() > 1 || self.message(number).payload_bytes == 0 {
            return; // which one it is, is a guess
        }
        let session = self.sessions.get_mut(&client).expect("a session");
        let last = session.last.insert(key, expected.publication);
        assert!(
            last.is_none_or(|last| last <= expected.publication),
            "to client {client}, publication {} comes after {last:?} of the same publisher, topic and QoS",
            expected.publication
        );
    }

    /// A retained message must not come after a newer one.
    fn check_newer(&mut self, client: usize, message: &Message, found: &Found) {
        let event = self.event;
        // Which time it was of a message that was published again, is a guess: here the first.
        let first = self.retained[message.topic].iter();
        let first = first
            .copied()
            .find(|one| self.publications[*one].message == message.number);
        let session = self.sessions.get_mut(&client).expect("a session");
        let sent = session.retained.entry(message.topic).or_default();
        sent.push((first.unwrap_or(found.publication), event));
        if !found.stored {
            return;
        }
        let before: Vec<_> = sent.iter().map(|(publication, _)| *publication).collect();
        let mut subscriptions = session.subscriptions.values();
        let no_local = subscriptions.any(|subscription| subscription.no_local());
        for other in before {
            if no_local && self.message_of(other).publisher == client {
                continue; // its own message did not come live, and so did not supersede anything
            }
            assert!(
                !self.is_older(found.publication, other),
                "client {client} gets the retained publication {} after the newer {other}",
                found.publication
            );
        }
    }

    /// Whether `one` was there before `other` for every shard.
    pub(super) fn is_older(&self, one: usize, other: usize) -> bool {
        is_older(&self.publications, one, other)
    }

    fn check_properties(&self, conn: usize, message: &Message, packet: &Packet) {
        let mut forwarded = packet.properties.clone();
        forwarded.retain(|(identifier, _)| !OWN.contains(identifier));
        assert_eq!(
            forwarded, message.properties,
            "the properties of message {}",
            message.number
        );
        let left = packet.number(property::MESSAGE_EXPIRY_INTERVAL);
        assert_eq!(
            left.is_some(),
            message.expiry_s.is_some(),
            "Message Expiry Interval"
        );
        let Some(left) = left else {
            return;
        };
        // Of the first time that it was published, or of another.
        let times = self
            .publications
            .iter()
            .filter(|one| one.message == message.number);
        let ranges: Vec<_> = times
            .filter_map(|one| one.expires_at_ms)
            .map(|until| {
                let seconds = |from_ms: u64| until.saturating_sub(from_ms).div_ceil(1000);
                seconds(self.now.mono_ms)..=seconds(self.conns[&conn].drained_ms)
            })
            .collect();
        assert!(
            ranges.iter().any(|range| range.contains(&u64::from(left))),
            "a Message Expiry Interval of {left} s, which must be in {ranges:?}"
        );
    }

    fn check_expired(&self, conn: usize, message: &Message) {
        let state = &self.conns[&conn];
        let mut times = self
            .publications
            .iter()
            .filter(|one| one.message == message.number);
        let alive = times.any(|one| {
            one.expires_at_ms
                .is_none_or(|until| until > state.drained_ms)
        });
        assert!(
            alive || state.phase != Phase::Connected,
            "message {} was sent after it had expired",
            message.number
        );
    }
}

fn is_older(publications: &[Publication], one: usize, other: usize) -> bool {
    let (first, second) = (&publications[one], &publications[other]);
    let same_tick = first.tick.is_some() && first.tick == second.tick;
    let same_shard = first.shard == second.shard && first.at < second.at && !same_tick;
    let settled = first.settled.is_some_and(|settled| settled < second.at);
    same_shard || (settled && !same_tick)
}

/// Whether each of the `wishes` can have one of the places in it for itself.
fn each_has_its_own(wishes: &[Vec<usize>]) -> bool {
    let mut taken = BTreeMap::new();
    (0..wishes.len()).all(|wish| find_place(wish, wishes, &mut taken, &mut BTreeSet::new()))
}

fn find_place(
    wish: usize,
    wishes: &[Vec<usize>],
    taken: &mut BTreeMap<usize, usize>,
    seen: &mut BTreeSet<usize>,
) -> bool {
    wishes[wish].iter().any(|place| {
        if !seen.insert(*place) {
            return false;
        }
        let free = match taken.get(place).copied() {
            None => true,
            Some(other) => find_place(other, wishes, taken, seen),
        };
        if free {
            taken.insert(*place, wish);
        }
        free
    })
}

fn describe(conn: usize, packet: &Packet) -> String {
    let number = packet
        .payload
        .first_chunk()
        .map(|bytes| u64::from_be_bytes(*bytes));
    let of_publish = match packet.kind {
        Kind::Publish => format!(
            " of message {number:?} to {:?}, QoS {}, DUP {}, RETAIN {}, identifiers {:?}",
            packet.topic,
            packet.qos,
            packet.dup,
            packet.retain,
            packet.subscription_identifiers()
        ),
        _ => String::new(),
    };
    format!(
        "  sent on {conn}: {:?} {}{of_publish} {:x?}",
        packet.kind, packet.identifier, packet.codes
    )
}
