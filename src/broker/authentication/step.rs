//! AUTH packets (4.12): an exchange before CONNACK, or on a live connection.

use crate::broker::authorization::Rechecked;
use crate::broker::connection::Phase;
use crate::broker::receive::Violation;
use crate::broker::{Broker, Now};
use crate::config::access::Method;
use crate::mqtt::data_types::ProtocolVersion;
use crate::mqtt::frame::Frame;
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::auth::Auth;
use crate::mqtt::properties::Properties;
use crate::mqtt::reason_code::ReasonCode;
use crate::observability::counters::EndCause;
use crate::routing::ids::SessionIndex;

use super::{Admitted, Asked, Step, Waiting};

/// A fault of the exchange.
fn fault(cause: &'static str) -> Violation {
    Violation::new(ReasonCode::ProtocolError, cause)
}

/// An AUTH with a method that is not that of its connection.
fn other_method() -> Violation {
    Violation::new(
        ReasonCode::BadAuthenticationMethod,
        "AUTH without the authentication method of its CONNECT",
    )
}

impl Broker {
    /// A packet between CONNECT and CONNACK: only AUTH and DISCONNECT may come [MQTT-3.1.2-30].
    pub(in crate::broker) fn before_connack(
        &mut self,
        slot: u32,
        frame: &Frame<'_>,
        now: Now,
    ) -> Result<(), Violation> {
        match frame.packet_type()? {
            PacketType::Auth => {
                let auth = Auth::decode(frame, ProtocolVersion::V5)?;
                match auth.reason_code {
                    ReasonCode::ContinueAuthentication => self.go_on(slot, &auth),
                    _ => Err(fault("an AUTH that is no part of an exchange")),
                }
            }
            PacketType::Disconnect => {
                self.clients
                    .counters
                    .end_connection(EndCause::ConnectRefused);
                self.network_closed(slot, "the client gave up before CONNACK", now);
                Ok(())
            }
            _ => Err(fault("a packet before CONNACK that is not AUTH")),
        }
    }

    /// A fault before CONNACK.
    pub(in crate::broker) fn refuse_waiting(&mut self, slot: u32, violation: Violation, now: Now) {
        match self.waiting.remove(&slot) {
            Some(waiting) => self.turn_away(slot, &waiting, violation, now),
            None => self.refuse_client(slot, None, violation),
        }
    }

    /// AUTH on a live connection.
    pub(in crate::broker) fn auth(
        &mut self,
        slot: u32,
        session: SessionIndex,
        auth: &Auth<'_>,
    ) -> Result<(), Violation> {
        let permit = self.clients.permits.of(session);
        let Some(method) = permit.and_then(|permit| permit.method) else {
            return Err(Violation::new(
                ReasonCode::BadAuthenticationMethod,
                "AUTH without an authentication method that is known",
            ));
        };
        match auth.reason_code {
            ReasonCode::ContinueAuthentication => self.go_on(slot, auth),
            ReasonCode::ReAuthenticate if self.waiting.contains_key(&slot) => {
                Err(fault("Re-authenticate within an exchange"))
            }
            ReasonCode::ReAuthenticate => {
                if auth.properties.authentication_method != Some(method.name()) {
                    return Err(other_method()); // [MQTT-4.12.1-1]
                }
                let Some(connection) = self.clients.connection(slot) else {
                    return Ok(());
                };
                let waiting = Waiting {
                    serial: connection.serial,
                    connect: None,
                    asked: true,
                    method: Some(method),
                    exchange: None,
                    admitted: None,
                    packet_bytes_max: connection.terms.packet_bytes_max,
                    key: None,
                };
                let listener = connection.listener;
                self.step(slot, listener, waiting, auth)
            }
            _ => Err(fault("an AUTH that is no part of an exchange")),
        }
    }

    /// The client's next step of an exchange.
    fn go_on(&mut self, slot: u32, auth: &Auth<'_>) -> Result<(), Violation> {
        let listener = self.clients.connection(slot).map_or(0, |c| c.listener);
        let method = self.waiting.get(&slot).and_then(|waiting| waiting.method);
        let Some(method) = method else {
            return Err(fault("an AUTH that is no part of an exchange"));
        };
        if auth.properties.authentication_method != Some(method.name()) {
            return Err(other_method()); // [MQTT-4.12.0-5]
        }
        match self.waiting.remove(&slot) {
            Some(waiting) => self.step(slot, listener, *waiting, auth),
            None => Ok(()),
        }
    }

    fn step(
        &mut self,
        slot: u32,
        listener: u16,
        mut waiting: Waiting,
        auth: &Auth<'_>,
    ) -> Result<(), Violation> {
        let Some(method) = waiting.method else {
            return Ok(());
        };
        let step = Step {
            listener,
            method,
            exchange: waiting.exchange.take(),
            data: auth.properties.authentication_data.unwrap_or(&[]).into(),
        };
        waiting.asked = true;
        self.wait(slot, waiting, Asked::Step(step));
        Ok(())
    }

    /// Sends AUTH, if the client takes it [MQTT-3.1.2-24].
    pub(super) fn send_auth(
        &mut self,
        slot: u32,
        reason_code: ReasonCode,
        waiting: &Waiting,
        data: &[u8],
    ) -> bool {
        let auth = Auth {
            reason_code,
            properties: Properties {
                authentication_method: waiting.method.map(Method::name),
                authentication_data: (!data.is_empty()).then_some(data),
                ..Properties::default()
            },
        };
        self.clients
            .send_within(slot, waiting.packet_bytes_max, |out| auth.encode(out))
    }

    /// A live connection has authenticated again.
    pub(super) fn authenticated_again(
        &mut self,
        slot: u32,
        waiting: &Waiting,
        admitted: Admitted,
        now: Now,
    ) {
        let Some(connection) = self.clients.connection(slot) else {
            return;
        };
        let Phase::Connected(session) = connection.phase else {
            return;
        };
        let Some(client) = self.clients.session(session) else {
            return;
        };
        let client_identifier = client.client_identifier.clone();
        let Some(permit) = self.clients.permits.of_mut(session) else {
            return;
        };
        if permit.principal.user_name != admitted.principal.user_name {
            // The session is not that of another user.
            let cause = "Re-authentication as another user";
            self.end(slot, ReasonCode::NotAuthorized, cause, now);
            return;
        }
        permit.principal = admitted.principal;
        permit.renew(&client_identifier, &self.policy);
        self.recheck(session, &mut Rechecked::default(), now);
        self.arm_credentials_timer(slot, session, now);
        let data = admitted.data.unwrap_or_default();
        if !self.send_auth(slot, ReasonCode::Success, waiting, &data) {
            let cause = "AUTH is larger than the client's Maximum Packet Size";
            self.end(slot, ReasonCode::PacketTooLarge, cause, now);
        }
    }
}
