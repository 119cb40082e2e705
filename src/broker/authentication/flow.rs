//! From a CONNECT that is sound to a client that is known: at once, or when the answer is there.

use std::sync::Arc;

use crate::broker::authorization::permit::{Decision, Permit};
use crate::broker::authorization::rules::Action;
use crate::broker::connection::Phase;
use crate::broker::receive::Violation;
use crate::broker::{Broker, Now};
use crate::config::access::{Link, Method};
use crate::mqtt::frame::Frame;
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::connect::Connect;
use crate::mqtt::reason_code::ReasonCode;

use super::{
    Admitted, Answer, Asked, Credentials, Identity, Principal, Question, Refusal, Step, Verdict,
    Waiting, cache, look,
};

impl From<Refusal> for Violation {
    fn from(refusal: Refusal) -> Self {
        let (reason_code, cause) = refusal.reason();
        Self::new(reason_code, cause)
    }
}

/// What is decided about a client without a question.
enum AtOnce {
    Known(Principal),
    Ask,
    Refused(Refusal),
}

impl Broker {
    /// Whether [`Self::identify`] is to be told who is at the other end of a connection.
    pub fn wants_identity(&self) -> bool {
        self.policy.wants_identity()
    }

    /// What the transport knows about the other end of a connection that was just opened.
    pub fn identify(&mut self, slot: u32, identity: Identity) {
        self.identities.insert(slot, identity);
    }

    /// The questions since the last call.
    pub fn take_questions(&mut self) -> impl Iterator<Item = Question> + '_ {
        self.questions.drain(..)
    }

    /// Whether a packet must wait for an answer.
    #[inline]
    pub(in crate::broker) fn awaits_answer(&self, slot: u32, first_byte: u8) -> bool {
        if self.waiting.is_empty() && self.asking.is_empty() {
            return false;
        }
        let is_auth = first_byte >> 4 == PacketType::Auth as u8;
        let waiting = self
            .waiting
            .get(&slot)
            .is_some_and(|waiting| waiting.asked && (is_auth || waiting.connect.is_some()));
        waiting || self.asking.get(&slot).is_some_and(|asking| asking.waits())
    }

    /// Forgets what is asked for a connection that ends.
    pub(in crate::broker) fn forget_questions(&mut self, slot: u32) {
        self.waiting.remove(&slot);
        self.asking.remove(&slot);
        self.identities.remove(&slot);
    }

    /// Who the client of a CONNECT is; none if that is asked now.
    pub(in crate::broker) fn authenticate(
        &mut self,
        slot: u32,
        connect: &Connect<'_>,
        body: &[u8],
        now: Now,
    ) -> Result<Option<Admitted>, Violation> {
        let Some(connection) = self.clients.connection(slot) else {
            return Ok(None);
        };
        let (listener, serial) = (connection.listener, connection.serial);
        let mut waiting = Waiting {
            serial,
            connect: Some(body.into()),
            asked: true,
            method: None,
            exchange: None,
            admitted: None,
            packet_bytes_max: connect.properties.maximum_packet_size.unwrap_or(u32::MAX),
            key: None,
        };
        if let Some(name) = connect.properties.authentication_method {
            let known = |method: &Method| self.policy.methods.contains(method);
            let Some(method) = Method::named(name).filter(known) else {
                return Err(Violation::new(
                    ReasonCode::BadAuthenticationMethod,
                    "the authentication method is not known",
                ));
            };
            let step = Step {
                listener,
                method,
                exchange: None,
                data: connect.properties.authentication_data.unwrap_or(&[]).into(),
            };
            waiting.method = Some(method);
            self.wait(slot, waiting, Asked::Step(step));
            return Ok(None);
        }
        let identity = self.identities.get(&slot).cloned().unwrap_or_default();
        match self.at_once(listener, connect, &identity) {
            AtOnce::Known(principal) => return Ok(Some(Admitted::of(principal.into()))),
            AtOnce::Refused(refusal) => return Err(refusal.into()),
            AtOnce::Ask => {}
        }
        let credentials = Credentials {
            listener,
            client_identifier: connect.client_identifier.into(),
            user_name: connect.user_name.map(Into::into),
            password: connect.password.map(Into::into),
            identity,
        };
        let whole = self.policy.listener(listener).chain.contains(&Link::Http);
        let key = cache::key(&self.policy.secret, &credentials, whole);
        let entries_max = self.policy.cache_entries_max;
        let remembered = self.verified.find(&key, now.mono_ms, entries_max);
        if let Some(principal) = remembered.filter(|principal| principal.holds(now)) {
            return Ok(Some(Admitted::of(principal)));
        }
        waiting.key = Some(key);
        self.wait(slot, waiting, Asked::Credentials(credentials));
        Ok(None)
    }

    /// What the links say that only look, up to one that must work.
    fn at_once(&self, listener: u16, connect: &Connect<'_>, identity: &Identity) -> AtOnce {
        let policy = self.policy.listener(listener);
        let has_password = connect.password.is_some();
        for link in &policy.chain {
            let works = match link {
                Link::PasswordFile => connect.user_name.is_some() && has_password,
                Link::Jwt => has_password,
                Link::Http => true,
                Link::Certificate | Link::UnixPeer => false,
            };
            if works {
                return AtOnce::Ask;
            }
            if let Some(principal) = look(*link, identity, &self.policy) {
                return AtOnce::Known(principal);
            }
        }
        let shows_nothing = connect.user_name.is_none() && !has_password;
        match policy.allow_anonymous && (shows_nothing || policy.chain.is_empty()) {
            true => AtOnce::Known(Principal::default()),
            false if shows_nothing || policy.chain.is_empty() => {
                AtOnce::Refused(Refusal::NotAuthorized)
            }
            false => AtOnce::Refused(Refusal::BadCredentials),
        }
    }

    pub(super) fn wait(&mut self, slot: u32, waiting: Waiting, asked: Asked) {
        let serial = waiting.serial;
        if waiting.connect.is_some()
            && let Some(connection) = self.clients.connection_mut(slot)
        {
            connection.phase = Phase::Authenticating;
        }
        self.waiting.insert(slot, Box::new(waiting));
        self.questions.push(Question {
            slot,
            serial,
            asked: Box::new(asked),
        });
    }

    /// An answer to a question. The connection may go on, unless more is asked.
    pub fn answer(&mut self, answer: Answer, now: Now) {
        let Answer {
            slot,
            serial,
            generation,
            verdict,
        } = answer;
        let is_current = generation == self.policy.generation;
        if let Verdict::Permission {
            granted,
            remember_s,
        } = verdict
            && !self.asks_about_will(slot)
        {
            let remember_s = if is_current { remember_s } else { 0 };
            self.permission((slot, serial), granted, remember_s, now);
            return;
        }
        // A slot that is used again has another serial.
        let current = |waiting: &Waiting| waiting.serial == serial && waiting.asked;
        if !self
            .waiting
            .get(&slot)
            .is_some_and(|waiting| current(waiting))
        {
            return;
        }
        let Some(mut waiting) = self.waiting.remove(&slot) else {
            return;
        };
        waiting.asked = false;
        match verdict {
            Verdict::Continue { exchange, data } => {
                waiting.exchange = Some(exchange);
                let code = ReasonCode::ContinueAuthentication;
                if !self.send_auth(slot, code, &waiting, &data) {
                    let cause = "AUTH is larger than the client's Maximum Packet Size";
                    let violation = Violation::new(ReasonCode::PacketTooLarge, cause);
                    self.turn_away(slot, &waiting, violation, now);
                    return;
                }
                self.waiting.insert(slot, waiting);
            }
            Verdict::Refused(refusal) => self.turn_away(slot, &waiting, refusal.into(), now),
            Verdict::Accepted {
                principal,
                remember_s,
                data,
            } => {
                if let Some(key) = waiting.key.filter(|_| remember_s > 0 && is_current) {
                    let until_ms = now.mono_ms + u64::from(remember_s) * 1000;
                    let entries_max = self.policy.cache_entries_max;
                    self.verified
                        .remember(key, Arc::clone(&principal), until_ms, entries_max);
                }
                let admitted = Admitted {
                    principal,
                    method: waiting.method,
                    data,
                    assigned: String::new(),
                };
                self.let_in(slot, &waiting, admitted, false, now);
            }
            Verdict::Permission { granted, .. } => match (granted, waiting.admitted.take()) {
                (true, Some(admitted)) => self.let_in(slot, &waiting, admitted, true, now),
                _ => self.turn_away(slot, &waiting, will_denied(), now),
            },
        }
    }

    /// Whether the connection waits to be told whether its Will may be.
    fn asks_about_will(&self, slot: u32) -> bool {
        let waiting = self.waiting.get(&slot);
        waiting.is_some_and(|waiting| waiting.admitted.is_some())
    }

    /// Goes on with the CONNECT, or with the live connection, of a client that is known.
    fn let_in(
        &mut self,
        slot: u32,
        waiting: &Waiting,
        admitted: Admitted,
        will_granted: bool,
        now: Now,
    ) {
        let Some(body) = &waiting.connect else {
            self.authenticated_again(slot, waiting, admitted, now);
            return;
        };
        let result = match Connect::decode(&connect_frame(body)) {
            Ok(connect) => self.admit(slot, &connect, body, admitted, will_granted, now),
            Err(error) => Err(error.into()),
        };
        if let Err(violation) = result {
            self.turn_away(slot, waiting, violation, now);
        }
    }

    /// Refuses a CONNECT, or ends a live connection that did not authenticate again [MQTT-4.12.1-2].
    pub(super) fn turn_away(
        &mut self,
        slot: u32,
        waiting: &Waiting,
        violation: Violation,
        now: Now,
    ) {
        match &waiting.connect {
            Some(body) => {
                let connect = Connect::decode(&connect_frame(body)).ok();
                self.refuse_client(slot, connect.as_ref(), violation);
            }
            None => self.end(slot, violation.reason_code, violation.cause, now),
        }
    }

    /// A client that is known: whether its Will may be, then its session.
    pub(in crate::broker) fn admit(
        &mut self,
        slot: u32,
        connect: &Connect<'_>,
        body: &[u8],
        mut admitted: Admitted,
        will_granted: bool,
        now: Now,
    ) -> Result<(), Violation> {
        if !admitted.principal.holds(now) {
            return Err(Refusal::BadCredentials.into());
        }
        if connect.client_identifier.is_empty() && admitted.assigned.is_empty() {
            let mut assigned = String::new();
            self.assign_client_identifier(&mut assigned);
            admitted.assigned = assigned;
        }
        let client_identifier = match connect.client_identifier {
            "" => admitted.assigned.clone(),
            given => given.to_owned(),
        };
        let identity = self.identities.get(&slot).cloned().unwrap_or_default();
        let mut permit = Permit::of(
            &admitted.principal,
            identity,
            admitted.method,
            &client_identifier,
            &self.policy,
        );
        if let (Some(will), Some(permit)) = (&connect.will, permit.as_mut())
            && !will_granted
        {
            let decision = permit.decide(
                Action::Publish,
                will.topic,
                &self.hasher,
                &self.policy,
                now.mono_ms,
            );
            match decision {
                Decision::Granted => {}
                Decision::Denied => return Err(will_denied()),
                Decision::Ask => {
                    let permission = crate::broker::authorization::permission(
                        &permit.principal,
                        &permit.identity,
                        &client_identifier,
                        Action::Publish,
                        will.topic,
                    );
                    let serial = self.clients.connection(slot).map_or(0, |c| c.serial);
                    let waiting = Waiting {
                        serial,
                        connect: Some(body.into()),
                        asked: true,
                        method: admitted.method,
                        exchange: None,
                        admitted: Some(admitted),
                        packet_bytes_max: u32::MAX,
                        key: None,
                    };
                    self.wait(slot, waiting, Asked::Permission(permission));
                    return Ok(());
                }
            }
        }
        self.welcome(slot, connect, &client_identifier, admitted, permit, now)
    }
}

impl Admitted {
    fn of(principal: Arc<Principal>) -> Self {
        Self {
            principal,
            method: None,
            data: None,
            assigned: String::new(),
        }
    }
}

fn will_denied() -> Violation {
    Violation::new(
        ReasonCode::NotAuthorized,
        "the client may not publish to its Will Topic",
    )
}

/// A CONNECT whose body was kept.
fn connect_frame(body: &[u8]) -> Frame<'_> {
    Frame {
        first_byte: PacketType::Connect.first_byte(),
        body,
        packet_bytes: body.len(),
    }
}
