//! The end of a connection, by whoever: DISCONNECT (3.14), faults, the network, takeover, shutdown.

use crate::mqtt::packet::disconnect::Disconnect;
use crate::mqtt::properties::Properties;
use crate::mqtt::reason_code::ReasonCode;
use crate::observability::counters::EndCause;
use crate::routing::ids::SessionIndex;
use crate::session::negotiation::SESSION_NEVER_EXPIRES;
use crate::session::will::WillDue;

use super::connection::{Ended, Phase};
use super::fault::{self, Fault};
use super::receive::Violation;
use super::timers::Timer;
use super::{Broker, Now};

impl Broker {
    /// DISCONNECT of a client: the Will is deleted unless it asks for it [MQTT-3.14.4-3].
    pub(super) fn disconnect(
        &mut self,
        slot: u32,
        index: SessionIndex,
        disconnect: &Disconnect<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        let asked_in_connect = self
            .clients
            .connection(slot)
            .is_some_and(|connection| connection.terms.session_expiry_asked);
        let Some(session) = self.clients.session_mut(index) else {
            return Ok(());
        };
        if let Some(expiry_s) = disconnect.properties.session_expiry_interval_s {
            if !asked_in_connect && expiry_s > 0 {
                // 3.14.2.2.2
                return Err(Violation::new(
                    ReasonCode::ProtocolError,
                    "DISCONNECT sets a Session Expiry Interval that was 0 in CONNECT",
                ));
            }
            session.expiry_interval_s =
                expiry_s.min(self.config.session.session_expiry_interval_s_max);
        }
        if disconnect.reason_code == ReasonCode::Success {
            session.will = None;
        }
        self.note_ended(
            slot,
            disconnect.reason_code,
            "the client sent DISCONNECT",
            false,
        );
        self.close(slot);
        self.detach(index, now);
        Ok(())
    }

    /// The network has ended a connection.
    pub fn network_closed(&mut self, slot: u32, cause: &'static str, now: Now) {
        let Some(connection) = self.clients.connection(slot) else {
            return;
        };
        let phase = connection.phase;
        if phase == Phase::Closing {
            return;
        }
        self.note_ended(slot, ReasonCode::UnspecifiedError, cause, false);
        self.close(slot);
        if let Phase::Connected(session) = phase {
            self.detach(session, now);
        }
    }

    /// Ends a connection for a reason, which a 5.0 client is told [MQTT-3.14.0-1]. The shard closes it when
    /// its output is sent.
    pub fn end(&mut self, slot: u32, reason_code: ReasonCode, cause: &'static str, now: Now) {
        self.end_telling(slot, reason_code, cause, cause, now);
    }

    /// The same with other words for the client.
    pub(super) fn end_telling(
        &mut self,
        slot: u32,
        reason_code: ReasonCode,
        cause: &'static str,
        told: &str,
        now: Now,
    ) {
        let Some(connection) = self.clients.connection(slot) else {
            return;
        };
        let phase = connection.phase;
        if phase == Phase::Closing {
            return;
        }
        self.count_ended(EndCause::of(reason_code));
        self.note_ended(slot, reason_code, cause, true);
        if let Phase::Connected(session) = phase {
            self.send_disconnect(slot, reason_code, told);
            self.close(slot);
            self.detach(session, now);
        } else {
            self.close(slot);
        }
    }

    /// Counts a connection that the broker, or its shard, has ended.
    pub fn count_ended(&mut self, cause: EndCause) {
        self.clients.counters.end_connection(cause);
    }

    /// Tells every client that the server is shutting down.
    pub fn shut_down(&mut self, now: Now) {
        for slot in self.clients.slots() {
            self.end(
                slot,
                ReasonCode::ServerShuttingDown,
                "the server is shutting down",
                now,
            );
        }
    }

    fn send_disconnect(&mut self, slot: u32, reason_code: ReasonCode, told: &str) {
        let Some(connection) = self.clients.connection(slot) else {
            return;
        };
        let terms = connection.terms;
        if !terms.version.is_v5() {
            return;
        }
        let mut packet = Vec::new();
        let mut disconnect = Disconnect::new(reason_code);
        if terms.problem_information || reason_code.is_error() {
            disconnect.properties = Properties {
                reason_string: Some(told),
                ..Properties::default()
            };
        }
        disconnect.encode(terms.version, &mut packet);
        if packet.len() > terms.packet_bytes_max as usize {
            // [MQTT-3.14.2-3]
            packet.clear();
            Disconnect::new(reason_code).encode(terms.version, &mut packet);
        }
        if packet.len() <= terms.packet_bytes_max as usize {
            self.clients
                .send(slot, |out| out.extend_from_slice(&packet));
        }
    }

    fn note_ended(
        &mut self,
        slot: u32,
        reason_code: ReasonCode,
        cause: &'static str,
        by_broker: bool,
    ) {
        let session = self
            .clients
            .session_of(slot)
            .and_then(|session| self.clients.session(session));
        let client_identifier = session.map_or_else(Default::default, |session| {
            session.client_identifier.clone()
        });
        self.ended.push(Ended {
            slot,
            client_identifier,
            reason_code,
            cause,
            by_broker,
        });
    }

    /// Reads nothing more; the shard sends what is queued and closes the socket.
    pub(super) fn close(&mut self, slot: u32) {
        if let Some(connection) = self.clients.connection_mut(slot) {
            connection.phase = Phase::Closing;
            connection.aliases = None;
        }
        self.forget_questions(slot);
        self.clients.mark_dirty(slot);
    }

    /// The session is without a connection from now on: its Will, its expiry, its place in shared groups.
    pub(super) fn detach(&mut self, index: SessionIndex, now: Now) {
        self.clients.counters.connections -= 1;
        self.count_member(index, false);
        let Some(session) = self.clients.session_mut(index) else {
            return;
        };
        session.set_connection(None);
        session.epoch = session.epoch.wrapping_add(1);
        if let Some(delivery) = session.delivery.as_mut() {
            if !fault::on(Fault::WindowNotRestored) {
                delivery.in_flight.connection_lost();
            }
            delivery.sample = None;
            if fault::on(Fault::InboundForgotten) {
                delivery.inbound_qos2 = Default::default();
            }
        }
        session.shrink();
        if let Some(recorded) = &mut session.recorded {
            recorded.detached_at_ms = now.mono_ms;
        }
        self.record_detached(index);
        let Some(session) = self.clients.session(index) else {
            return;
        };
        let (generation, epoch, expiry_s) =
            (session.generation, session.epoch, session.expiry_interval_s);
        let due = session.will.as_ref().map(|will| will.due(expiry_s));
        match due {
            Some(WillDue::Now) => self.publish_will(index, None, now),
            Some(_) if fault::on(Fault::WillEarly) => self.publish_will(index, None, now),
            Some(WillDue::After(delay_s)) => {
                let at = now.mono_ms + u64::from(delay_s) * 1000;
                self.wheel.set(
                    at,
                    Timer::Will {
                        session: index,
                        generation,
                        epoch,
                    },
                );
            }
            None => {}
        }
        if expiry_s == 0 {
            self.end_session(index, now);
            return;
        }
        if expiry_s != SESSION_NEVER_EXPIRES {
            let at = now.mono_ms + u64::from(expiry_s) * 1000;
            self.wheel.set(
                at,
                Timer::SessionExpiry {
                    session: index,
                    generation,
                    epoch,
                },
            );
        }
        self.member_availability(index);
        self.hand_back(index, now);
    }
}
