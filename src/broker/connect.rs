//! CONNECT (3.1, 4.1): where a connection belongs, whether it is taken, and for which session.

use std::fmt::Write;
use std::sync::Arc;

use crate::config::access::Method;
use crate::config::limits::Durability;
use crate::mqtt::data_types::ProtocolVersion;
use crate::mqtt::frame::{Framing, frame};
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::connack::ConnAck;
use crate::mqtt::packet::connect::{self, Connect};
use crate::mqtt::properties::Properties;
use crate::mqtt::reason_code::ReasonCode;
use crate::mqtt::topic_name::level_count;
use crate::observability::counters::EndCause;
use crate::routing::application_message::MessageView;
use crate::routing::ids::{SessionIndex, ShardId};
use crate::routing::topic_hash::TopicHasher;
use crate::session::Session;
use crate::session::negotiation::{Terms, session_expiry_interval_s, shortened};
use crate::session::will::Will;

use super::authentication::Admitted;
use super::authorization::Rechecked;
use super::authorization::permit::Permit;
use super::connection::{Ended, Phase};
use super::fault::{self, Fault};
use super::receive::Violation;
use super::timers::Timer;
use super::{Broker, Now, listener_limits};

/// Where a connection belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// CONNECT is not complete.
    NeedMore,
    /// The shard that has, or will have, its session.
    Home(ShardId),
}

/// Reads the home shard of a connection from its first bytes. What is no CONNECT, or has no Client
/// Identifier, stays on `here`, which answers.
pub fn placement(
    bytes: &[u8],
    packet_bytes_max: usize,
    here: ShardId,
    shard_count: u16,
    hasher: &TopicHasher,
) -> Placement {
    if bytes
        .first()
        .is_some_and(|first| *first != PacketType::Connect.first_byte())
    {
        return Placement::Home(here);
    }
    match frame(bytes, packet_bytes_max) {
        Ok(Framing::Incomplete { .. }) => Placement::NeedMore,
        Ok(Framing::Complete(frame)) => match Connect::decode(&frame) {
            Ok(connect) if !connect.client_identifier.is_empty() => {
                Placement::Home(hasher.home_of(connect.client_identifier, shard_count))
            }
            _ => Placement::Home(here),
        },
        Err(_) => Placement::Home(here),
    }
}

impl Broker {
    /// The first packet of a connection.
    pub(super) fn connect(
        &mut self,
        slot: u32,
        connect: &Connect<'_>,
        body: &[u8],
        now: Now,
    ) -> Result<(), Violation> {
        let listener = self
            .clients
            .connection(slot)
            .map_or(0, |connection| connection.listener);
        if self
            .bans
            .refuses(connect.client_identifier, connect.user_name, now.unix_s)
        {
            return Err(Violation::new(
                ReasonCode::Banned,
                "the client, or its User Name, is banned",
            ));
        }
        self.check_connect(connect, listener)?;
        match self.authenticate(slot, connect, body, now)? {
            Some(admitted) => self.admit(slot, connect, body, admitted, false, now),
            None => Ok(()),
        }
    }

    /// A client that is let in: its session, and CONNACK.
    pub(super) fn welcome(
        &mut self,
        slot: u32,
        connect: &Connect<'_>,
        client_identifier: &str,
        admitted: Admitted,
        permit: Option<Box<Permit>>,
        now: Now,
    ) -> Result<(), Violation> {
        let listener = self
            .clients
            .connection(slot)
            .map_or(0, |connection| connection.listener);
        let config = Arc::clone(&self.config);
        let limits = listener_limits(&config, listener);
        let terms = Terms::negotiate(connect, limits, &self.config.session);
        let expiry_interval_s = session_expiry_interval_s(connect, &self.config.session);
        let mut properties = terms.connack(connect, expiry_interval_s, limits);
        if !admitted.assigned.is_empty() {
            properties.assigned_client_identifier = Some(&admitted.assigned);
        }
        properties.authentication_method = admitted.method.map(Method::name); // [MQTT-4.12.0-5]
        properties.authentication_data = admitted.data.as_deref();
        let mut connack = ConnAck {
            session_present: false,
            reason_code: ReasonCode::Success,
            properties,
        };
        if !fits(&connack, terms.version, terms.packet_bytes_max) {
            connack.properties = shortened(properties);
        }
        if !fits(&connack, terms.version, terms.packet_bytes_max) {
            // [MQTT-3.1.2-24]
            return Err(Violation::new(
                ReasonCode::PacketTooLarge,
                "the Maximum Packet Size is too small for CONNACK",
            ));
        }
        let clean = connect.clean_start || self.is_of_another_user(client_identifier, &admitted);
        let present = self.take_over(client_identifier, clean, now);
        connack.session_present = present.is_some() || fault::on(Fault::SessionPresentWrong);
        let session_index = match present {
            Some(session) => session,
            None => self.new_session(client_identifier)?,
        };
        let will = connect.will.as_ref().map(|will| Box::new(self.will(will)));
        if let Some(session) = self.clients.session_mut(session_index) {
            session.set_connection(Some(slot));
            session.epoch = session.epoch.wrapping_add(1);
            session.expiry_interval_s = expiry_interval_s;
            session.will = will;
        }
        self.record_connected(session_index, listener, now);
        if let Some(connection) = self.clients.connection_mut(slot) {
            connection.phase = Phase::Connected(session_index);
            connection.terms = terms;
            if let Some(deadline) = connection.keep_alive_deadline_ms() {
                let timer = Timer::KeepAlive {
                    slot,
                    serial: connection.serial,
                };
                self.wheel.set(deadline, timer);
            }
        }
        self.identities.remove(&slot);
        self.clients.permits.set(session_index, permit);
        if connack.session_present {
            self.recheck(session_index, &mut Rechecked::default(), now);
        }
        self.arm_credentials_timer(slot, session_index, now);
        let counters = &mut self.clients.counters;
        counters.connections += 1;
        counters.connections_accepted += 1;
        self.clients
            .send(slot, |out| connack.encode(terms.version, out));
        self.count_member(session_index, true);
        self.member_availability(session_index);
        self.pump(session_index, now);
        Ok(())
    }

    /// The log learns of the connection, and of a session that is to outlive it.
    fn record_connected(&mut self, index: SessionIndex, listener: u16, now: Now) {
        if !self.clients.journal.is_on() {
            return;
        }
        let durability = self.config.durability_at(listener);
        let Some(session) = self.clients.session_mut(index) else {
            return;
        };
        if let Some(recorded) = &mut session.recorded {
            recorded.durability = durability.max(Durability::Os);
            self.record_session(index, now.mono_ms);
        } else if durability > Durability::Memory && session.is_persistent() {
            self.begin_recording(index, durability, now.mono_ms);
        }
    }

    /// What must be right before the session is touched.
    fn check_connect(&self, connect: &Connect<'_>, listener: u16) -> Result<(), Violation> {
        let refuse = |reason_code, cause| Err(Violation::new(reason_code, cause));
        if let Some(redirect) = &self.config.redirect {
            return match redirect.permanent {
                true => refuse(ReasonCode::ServerMoved, "redirected to server_reference"),
                false => refuse(
                    ReasonCode::UseAnotherServer,
                    "redirected to server_reference",
                ),
            };
        }
        if connect.client_identifier.is_empty()
            && !connect.clean_start
            && !connect.protocol_version.is_v5()
        {
            // 3.1.1: [MQTT-3.1.3-8]
            return refuse(
                ReasonCode::ClientIdentifierNotValid,
                "an empty Client Identifier without Clean Session",
            );
        }
        let Some(will) = &connect.will else {
            return Ok(());
        };
        let capabilities = &self.listener(listener).capabilities;
        if will.qos as u8 > capabilities.maximum_qos {
            return refuse(
                ReasonCode::QoSNotSupported,
                "the Will's QoS is over maximum_qos",
            ); // [MQTT-3.2.2-12]
        }
        if will.retain && !capabilities.retain_available {
            return refuse(ReasonCode::RetainNotSupported, "a retained Will"); // [MQTT-3.2.2-13]
        }
        if let Some(cause) = self.topic_fault(will.topic) {
            return refuse(ReasonCode::TopicNameInvalid, cause);
        }
        let utf8 = will.properties.payload_format_indicator == Some(true);
        if utf8
            && self.config.message.validate_payload_format
            && std::str::from_utf8(will.payload).is_err()
        {
            return refuse(
                ReasonCode::PayloadFormatInvalid,
                "the Will's payload is not UTF-8",
            );
        }
        Ok(())
    }

    /// Ends another connection of the same client [MQTT-3.1.4-3], and the session if it is to start clean
    /// [MQTT-3.1.2-4]. Gives the session that goes on.
    fn take_over(
        &mut self,
        client_identifier: &str,
        clean_start: bool,
        now: Now,
    ) -> Option<SessionIndex> {
        let session = self.clients.find(client_identifier)?;
        if let Some(old) = self.clients.session(session)?.connection() {
            if clean_start && let Some(session) = self.clients.session_mut(session) {
                // The session ends with the connection, and so the Will is due at once.
                session.expiry_interval_s = 0;
            }
            self.end(
                old,
                ReasonCode::SessionTakenOver,
                "the Client Identifier connected again",
                now,
            );
        }
        // A session that does not outlive its connection has just ended.
        let session = self.clients.find(client_identifier)?;
        if clean_start && !fault::on(Fault::CleanStartIgnored) {
            self.end_session(session, now);
            return None;
        }
        if fault::on(Fault::WillNotCancelled) {
            self.publish_will(session, None, now);
        }
        // The client is back before the Will was due: it is not sent [MQTT-3.1.3-9].
        self.clients.session_mut(session)?.will = None;
        Some(session)
    }

    /// Whether the session of a Client Identifier belongs to another user: who is let in does not get what
    /// was meant for somebody else.
    fn is_of_another_user(&self, client_identifier: &str, admitted: &Admitted) -> bool {
        let session = self.clients.find(client_identifier);
        let permit = session.and_then(|session| self.clients.permits.of(session));
        permit.is_some_and(|permit| permit.principal.user_name != admitted.principal.user_name)
    }

    fn new_session(&mut self, client_identifier: &str) -> Result<SessionIndex, Violation> {
        if self.clients.sessions.len() >= self.config.session.sessions_max as usize {
            return Err(Violation::new(
                ReasonCode::QuotaExceeded,
                "sessions_max is reached",
            ));
        }
        let generation = self.next_serial();
        Ok(self
            .clients
            .add_session(Session::new(client_identifier, generation)))
    }

    fn will(&self, will: &connect::Will<'_>) -> Will {
        let mut forwarded = Vec::new();
        will.properties.encode_forwarded(&mut forwarded);
        let view = MessageView {
            topic: will.topic,
            topic_hash: self.hasher.hash(will.topic),
            forwarded_properties: &forwarded,
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            expires_at_ms: None,
        };
        Will {
            message: view.to_message(),
            delay_s: will.properties.will_delay_interval_s.unwrap_or(0),
            message_expiry_interval_s: will.properties.message_expiry_interval_s,
        }
    }

    /// Makes a Client Identifier that is unique and at home here [MQTT-3.1.3-6].
    pub(super) fn assign_client_identifier(&mut self, identifier: &mut String) {
        loop {
            let serial = self.next_serial();
            identifier.clear();
            // Writing to a string does not fail.
            let _ = write!(identifier, "{}/{serial}", self.id.0);
            let unique = self.hasher.hash(identifier).0;
            identifier.clear();
            let _ = write!(identifier, "ringmq-{unique:016x}");
            let here = self.hasher.home_of(identifier, self.shard_count) == self.id;
            if here && self.clients.find(identifier).is_none() {
                return;
            }
        }
    }

    /// Answers a CONNECT that is not taken, in the client's own format, and closes. What does not even
    /// look like CONNECT gets no answer, and neither does what no return code of its version says.
    pub(super) fn refuse_connect(&mut self, slot: u32, bytes: &[u8], violation: Violation) {
        let whole = match frame(bytes, usize::MAX) {
            Ok(Framing::Complete(frame)) => Some(frame),
            _ => None,
        };
        // Of a part of a packet, what follows its Remaining Length.
        let length = bytes.iter().skip(1).take(3);
        let length_bytes = 1 + length.take_while(|byte| **byte & 0x80 != 0).count();
        let begun = bytes.get(1 + length_bytes..).unwrap_or(&[]);
        let body = whole.map_or(begun, |frame| frame.body);
        let connect = whole.and_then(|frame| Connect::decode(&frame).ok());
        let is_connect = bytes.first() == Some(&PacketType::Connect.first_byte());
        let version = connect::peek_version(body).or(match violation.reason_code {
            ReasonCode::UnsupportedProtocolVersion => Some(version_to_refuse_in(body)),
            _ => None,
        });
        self.refuse_as(
            slot,
            connect.as_ref(),
            version.filter(|_| is_connect),
            violation,
        );
    }

    /// The same for a CONNECT that was read before.
    pub(super) fn refuse_client(
        &mut self,
        slot: u32,
        connect: Option<&Connect<'_>>,
        violation: Violation,
    ) {
        let version = connect.map(|connect| connect.protocol_version);
        self.refuse_as(slot, connect, version, violation);
    }

    fn refuse_as(
        &mut self,
        slot: u32,
        connect: Option<&Connect<'_>>,
        version: Option<ProtocolVersion>,
        violation: Violation,
    ) {
        if let Some(version) = version {
            let packet_bytes_max =
                connect.and_then(|connect| connect.properties.maximum_packet_size);
            self.send_refusal(slot, violation, version, packet_bytes_max);
        }
        let client_identifier = connect.map_or("", |connect| connect.client_identifier);
        self.clients
            .counters
            .end_connection(EndCause::ConnectRefused);
        self.ended.push(Ended {
            slot,
            client_identifier: client_identifier.into(),
            reason_code: violation.reason_code,
            cause: violation.cause,
            by_broker: true,
        });
        self.close(slot);
    }

    /// CONNACK with why, as far as the client takes it [MQTT-3.2.2-19].
    fn send_refusal(
        &mut self,
        slot: u32,
        violation: Violation,
        version: ProtocolVersion,
        packet_bytes_max: Option<u32>,
    ) {
        let config = Arc::clone(&self.config);
        let server_reference = config
            .redirect
            .as_ref()
            .map(|redirect| redirect.server_reference.as_str());
        let refusal = |reason_string, server_reference| ConnAck {
            session_present: false,
            reason_code: violation.reason_code,
            properties: Properties {
                reason_string,
                server_reference,
                ..Properties::default()
            },
        };
        let candidates = [
            refusal(Some(violation.cause), server_reference),
            refusal(None, server_reference),
            refusal(None, None),
        ];
        let limit = packet_bytes_max.unwrap_or(u32::MAX);
        for refusal in candidates {
            if refusal.exists_in(version)
                && self
                    .clients
                    .send_within(slot, limit, |out| refusal.encode(version, out))
            {
                return;
            }
        }
    }

    /// What is wrong with a Topic Name beside its syntax.
    pub(super) fn topic_fault(&self, topic: &str) -> Option<&'static str> {
        let limits = &self.config.message;
        if topic.starts_with('$') {
            return Some("Clients cannot publish to topics that begin with $");
        }
        if topic.len() > usize::from(limits.topic_bytes_max) {
            return Some("the Topic Name is longer than topic_bytes_max");
        }
        // Most are shorter than they may have levels, and need not be counted.
        let levels_max = usize::from(limits.topic_levels_max);
        (topic.len() >= levels_max && level_count(topic) > levels_max)
            .then_some("the Topic Name has more than topic_levels_max levels")
    }
}

/// Whether a CONNACK is not larger than the client's Maximum Packet Size.
fn fits(connack: &ConnAck<'_>, version: ProtocolVersion, packet_bytes_max: u32) -> bool {
    if packet_bytes_max == u32::MAX {
        return true;
    }
    let mut packet = Vec::new();
    connack.encode(version, &mut packet);
    packet.len() <= packet_bytes_max as usize
}

/// A client of a later version than 5 can read a 5.0 CONNACK; any other reads that of 3.1.1.
fn version_to_refuse_in(body: &[u8]) -> ProtocolVersion {
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', level, ..] if *level > 5 => ProtocolVersion::V5,
        _ => ProtocolVersion::V3_1_1,
    }
}
