//! Acknowledgements that wait until what they promise is true: for the log of this shard, or of others.
//!
//! A publisher's shard numbers what it must acknowledge, without a gap, and asks each shard that a message goes
//! to for an answer. A shard that recorded something answers after that commit, one that did not at once: one
//! envelope per batch and per commit. Acknowledgements leave in the order of their numbers [MQTT-4.6.0-2];
//! one that waits for nothing leaves at once if its connection has none that does.

use std::collections::VecDeque;

use crate::config::limits::{Durability, PENDING_ACKNOWLEDGEMENTS_MAX};
use crate::journal::{Group, Origin, Record};
use crate::mqtt::data_types::PacketIdentifier;
use crate::mqtt::packet::PacketType;
use crate::mqtt::packet::acknowledgement::Acknowledgement;
use crate::mqtt::packet::suback::UnsubAck;
use crate::mqtt::reason_code::ReasonCode;
use crate::routing::ids::{SessionIndex, ShardId};
use crate::routing::interest_index::ShardBits;

use super::envelope::{Answer, Envelope};
use super::{Broker, Now};

/// What happens when the log is safe up to a position.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// A shard's question is answered.
    Answer { shard: ShardId, number: u64 },
    /// What waits for a session may be sent.
    Pump {
        session: SessionIndex,
        generation: u32,
    },
    /// PUBREL is sent, if the connection is still the one that sent PUBREC.
    Release {
        session: SessionIndex,
        generation: u32,
        epoch: u32,
        identifier: PacketIdentifier,
    },
}

/// Where an acknowledgement goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addressee {
    pub(super) slot: u32,
    pub(super) serial: u32,
}

/// What is done when all answers are there.
#[derive(Debug)]
pub(super) enum Acknowledge {
    PubAck {
        to: Addressee,
        identifier: PacketIdentifier,
        reason_code: ReasonCode,
    },
    PubRec {
        to: Addressee,
        session: SessionIndex,
        generation: u32,
        identifier: PacketIdentifier,
        reason_code: ReasonCode,
    },
    PubComp {
        to: Addressee,
        identifier: PacketIdentifier,
    },
    UnsubAck {
        to: Addressee,
        packet: Box<UnsubAck<'static>>,
        cause: Option<&'static str>,
    },
    /// The Will is published everywhere.
    WillGone { session: u64 },
    /// The Will is published, and what others of a group must have is theirs.
    SessionEnd { session: u64 },
    /// A message of a group is another member's.
    Done { session: u64, entry: u64 },
}

#[derive(Debug)]
struct Pending {
    /// Answers that are to come, and one for who made it.
    outstanding: u32,
    refused: bool,
    recorded_by: ShardBits,
    what: Acknowledge,
}

/// The acknowledgements of one shard that wait.
#[derive(Debug, Default)]
pub(super) struct Acknowledgements {
    /// The number of the first.
    first: u64,
    /// About `PENDING_ACKNOWLEDGEMENTS_MAX`: beyond it no PUBLISH is read.
    queue: VecDeque<Pending>,
    /// Answers for each other shard that are collected; sent after each batch and each commit.
    answers: Vec<Vec<Answer>>,
}

impl Acknowledgements {
    pub(super) fn new(shard_count: u16) -> Self {
        Self {
            answers: vec![Vec::new(); usize::from(shard_count)],
            ..Self::default()
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= PENDING_ACKNOWLEDGEMENTS_MAX
    }

    fn begin(&mut self, what: Acknowledge) -> u64 {
        self.queue.push_back(Pending {
            outstanding: 1,
            refused: false,
            recorded_by: ShardBits::default(),
            what,
        });
        self.first + self.queue.len() as u64 - 1
    }

    fn find(&mut self, number: u64) -> Option<&mut Pending> {
        let position = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.queue.get_mut(position)
    }

    fn is_last(&self, number: u64) -> bool {
        number + 1 == self.first + self.queue.len() as u64
    }
}

impl Broker {
    /// What this turn recorded, to be written to the log.
    pub fn take_group(&mut self, now: Now) -> Option<Group> {
        self.clients.journal.take_group(now.unix_s)
    }

    /// The next group begins here: the log goes on in another segment.
    pub fn skip_to(&mut self, position: u64) {
        self.clients.journal.skip_to(position);
    }

    /// Up to where the log is safe.
    pub fn safe_position(&self) -> u64 {
        self.clients.journal.committed()
    }

    /// Whether something is recorded that is not handed out.
    pub fn has_group(&self) -> bool {
        self.clients.journal.gathered_bytes() > 0
    }

    /// Takes the bytes of a group that is written.
    pub fn recycle_group(&mut self, bytes: Vec<u8>) {
        self.clients.journal.recycle(bytes);
    }

    /// There is room on the disk, or no more.
    pub fn set_disk_full(&mut self, full: bool) {
        self.clients.journal.set_full(full);
    }

    /// The log is safe up to `position`: what waited for it is done.
    pub fn committed(&mut self, position: u64, now: Now) {
        self.clients.journal.commit(position);
        while let Some((at, due)) = self.clients.due.front().copied() {
            if at > position {
                break;
            }
            self.clients.due.pop_front();
            self.act(due, now);
        }
        self.release_subacks(now);
        self.flush_answers();
    }

    fn act(&mut self, due: Due, now: Now) {
        match due {
            Due::Answer { shard, number } => self.answer(shard, number, Answer::RECORDED, now),
            Due::Pump {
                session,
                generation,
            } => {
                let current = self.clients.session(session);
                if current.is_some_and(|current| current.generation == generation) {
                    self.pump(session, now);
                }
            }
            Due::Release {
                session,
                generation,
                epoch,
                identifier,
            } => {
                let current = self.clients.session(session);
                let Some(current) = current.filter(|current| current.generation == generation)
                else {
                    return;
                };
                match current.connection() {
                    Some(slot) if current.epoch == epoch => {
                        self.send_acknowledgement(
                            slot,
                            PacketType::PubRel,
                            identifier,
                            ReasonCode::Success,
                        );
                    }
                    // The pump of the new connection has stopped before it.
                    _ => self.pump(session, now),
                }
            }
        }
    }

    /// Whether no PUBLISH may be read, since the log does not keep up.
    #[inline]
    pub(super) fn log_is_behind(&self) -> bool {
        let gathered = self.clients.journal.gathered_bytes();
        gathered > self.config.storage.unwritten_bytes_max as usize
            || self.acknowledgements.is_full()
    }

    /// Whether acknowledgements to a connection wait for the log.
    #[inline]
    pub(super) fn waits_for_log(&self, slot: u32) -> bool {
        self.clients.journal.is_on()
            && self.clients.connection(slot).is_some_and(|connection| {
                self.config.durability_at(connection.listener) > Durability::Memory
            })
    }

    /// Whether acknowledgements to a connection wait, so that others must wait behind them.
    pub(super) fn has_pending(&self, slot: u32) -> bool {
        self.clients
            .connection(slot)
            .is_some_and(|connection| connection.pending_acknowledgements > 0)
    }

    pub(super) fn addressee(&self, slot: u32) -> Addressee {
        let serial = self
            .clients
            .connection(slot)
            .map_or(0, |connection| connection.serial);
        Addressee { slot, serial }
    }

    /// Begins an acknowledgement; the caller asks and then calls [`Self::asked_all`].
    pub(super) fn begin_acknowledgement(&mut self, what: Acknowledge) -> u64 {
        if let Some(to) = addressee_of(&what)
            && let Some(connection) = self.addressed(to)
        {
            connection.pending_acknowledgements += 1;
        }
        self.acknowledgements.begin(what)
    }

    /// One more answer is to come.
    #[inline]
    pub(super) fn expect_answer(&mut self, number: u64) {
        if let Some(pending) = self.acknowledgements.find(number) {
            pending.outstanding += 1;
        }
    }

    /// An answer of this shard's own log is to come, when what is recorded so far is safe.
    pub(super) fn expect_commit(&mut self, number: u64, now: Now) {
        self.expect_answer(number);
        self.answer_at_commit(self.id, number, now);
    }

    /// Answers when everything that is recorded so far is safe.
    pub(super) fn answer_at_commit(&mut self, shard: ShardId, number: u64, now: Now) {
        let position = self.clients.journal.end();
        if position <= self.clients.journal.committed() {
            self.answer(shard, number, Answer::RECORDED, now);
            return;
        }
        self.clients
            .due
            .push_back((position, Due::Answer { shard, number }));
    }

    /// Nothing more is asked; `reason_code` is what an acknowledgement will say.
    pub(super) fn asked_all(&mut self, number: u64, reason: Option<ReasonCode>, now: Now) {
        let Some(pending) = self.acknowledgements.find(number) else {
            return;
        };
        if let Some(reason) = reason
            && let Acknowledge::PubAck { reason_code, .. } | Acknowledge::PubRec { reason_code, .. } =
                &mut pending.what
        {
            *reason_code = reason;
        }
        pending.outstanding -= 1;
        if pending.outstanding == 0
            && self.acknowledgements.is_last(number)
            && self.is_only_one(number)
            && let Some(pending) = self.acknowledgements.queue.pop_back()
        {
            self.acknowledge(pending, now);
            return;
        }
        self.release_acknowledgements(now);
    }

    /// Whether the connection of an acknowledgement has no other that waits.
    fn is_only_one(&mut self, number: u64) -> bool {
        let Some(pending) = self.acknowledgements.find(number) else {
            return false;
        };
        let to = addressee_of(&pending.what);
        to.and_then(|to| self.addressed(to))
            .is_none_or(|connection| connection.pending_acknowledgements == 1)
    }

    fn addressed(&mut self, to: Addressee) -> Option<&mut super::connection::Connection> {
        let connection = self.clients.connection_mut(to.slot)?;
        (connection.serial == to.serial).then_some(connection)
    }

    /// Answers a shard, this one included.
    pub(super) fn answer(&mut self, shard: ShardId, number: u64, outcome: u8, now: Now) {
        if shard == self.id {
            self.take_answer(shard, Answer { number, outcome }, now);
        } else {
            self.acknowledgements.answers[shard.index()].push(Answer { number, outcome });
        }
    }

    /// Sends the answers that are collected.
    pub(super) fn flush_answers(&mut self) {
        if !self.clients.journal.is_on() {
            return;
        }
        for shard in self.mesh.others() {
            let answers = &mut self.acknowledgements.answers[shard.index()];
            if !answers.is_empty() {
                let answers = std::mem::take(answers);
                self.mesh.stage(shard, Envelope::Answers(answers));
            }
        }
    }

    /// An answer has come.
    pub(super) fn take_answer(&mut self, from: ShardId, answer: Answer, now: Now) {
        let Some(pending) = self.acknowledgements.find(answer.number) else {
            return;
        };
        pending.outstanding = pending.outstanding.saturating_sub(1);
        pending.refused |= answer.outcome == Answer::REFUSED;
        if answer.outcome == Answer::RECORDED {
            pending.recorded_by.insert(from);
        }
        if pending.outstanding == 0 {
            self.release_acknowledgements(now);
        }
    }

    /// Does what is complete at the front of the queue.
    fn release_acknowledgements(&mut self, now: Now) {
        let complete = |pending: &Pending| pending.outstanding == 0;
        while self.acknowledgements.queue.front().is_some_and(complete) {
            let Some(pending) = self.acknowledgements.queue.pop_front() else {
                return;
            };
            self.acknowledgements.first += 1;
            self.acknowledge(pending, now);
        }
    }

    fn acknowledge(&mut self, pending: Pending, now: Now) {
        let to = addressee_of(&pending.what);
        let reached = to.and_then(|to| self.addressed(to)).map(|connection| {
            connection.pending_acknowledgements -= 1;
            connection.version().is_v5()
        });
        let (reached, to_v5) = (reached.is_some(), reached == Some(true));
        match pending.what {
            Acknowledge::PubAck {
                to,
                identifier,
                reason_code,
            } => {
                let kind = PacketType::PubAck;
                self.acknowledge_publish(
                    to,
                    reached,
                    kind,
                    identifier,
                    reason_code,
                    pending.refused,
                    now,
                );
            }
            Acknowledge::PubRec {
                to,
                session,
                generation,
                identifier,
                reason_code,
            } => {
                // An error that the client can be told ends the flow [MQTT-4.3.3-9].
                let told = to_v5 && reason_code.is_error();
                let ends = pending.refused || told;
                let freed = self.settle_reception(
                    session,
                    generation,
                    identifier,
                    &pending.recorded_by,
                    ends,
                    now,
                );
                if freed && let Some(connection) = self.addressed(to) {
                    connection.unreleased = connection.unreleased.saturating_sub(1);
                }
                let kind = PacketType::PubRec;
                self.acknowledge_publish(
                    to,
                    reached,
                    kind,
                    identifier,
                    reason_code,
                    pending.refused,
                    now,
                );
            }
            Acknowledge::PubComp { to, identifier } => {
                if reached {
                    let kind = PacketType::PubComp;
                    self.send_acknowledgement(to.slot, kind, identifier, ReasonCode::Success);
                }
            }
            Acknowledge::UnsubAck {
                to,
                mut packet,
                cause,
            } => {
                if reached {
                    let encode = |version, properties, out: &mut Vec<u8>| {
                        packet.properties = properties;
                        packet.encode(version, out);
                    };
                    self.clients.send_explained(to.slot, cause, encode);
                }
            }
            Acknowledge::WillGone { session } => self.record(&Record::WillGone { session }),
            Acknowledge::SessionEnd { session } => self.record(&Record::SessionEnd { session }),
            Acknowledge::Done { session, entry } => self.record(&Record::Done { session, entry }),
        }
    }

    /// PUBACK or PUBREC; a refusal, which a client before 5.0 cannot be told, ends its connection.
    #[allow(clippy::too_many_arguments)] // each is a part of one acknowledgement
    fn acknowledge_publish(
        &mut self,
        to: Addressee,
        reached: bool,
        kind: PacketType,
        identifier: PacketIdentifier,
        reason_code: ReasonCode,
        refused: bool,
        now: Now,
    ) {
        if !reached {
            return;
        }
        let is_v5 = self
            .clients
            .connection(to.slot)
            .is_some_and(|c| c.version().is_v5());
        match (refused, is_v5) {
            (false, _) => self.send_acknowledgement(to.slot, kind, identifier, reason_code),
            (true, true) => {
                self.send_acknowledgement(to.slot, kind, identifier, ReasonCode::QuotaExceeded)
            }
            (true, false) => {
                let cause = "the disk is full and the message cannot be kept";
                self.end(to.slot, ReasonCode::QuotaExceeded, cause, now);
            }
        }
    }

    /// PUBREC leaves: what comes again is not routed again. If that `ends` the flow, the identifier is free
    /// again; tells whether it was in use.
    fn settle_reception(
        &mut self,
        index: SessionIndex,
        generation: u32,
        identifier: PacketIdentifier,
        recorded_by: &ShardBits,
        ends: bool,
        now: Now,
    ) -> bool {
        let session = self.clients.session_mut(index);
        let Some(session) = session.filter(|session| session.generation == generation) else {
            return false;
        };
        let inbound = &mut session.delivery_mut().inbound_qos2;
        inbound.settle(identifier, recorded_by);
        if !ends || !inbound.release(identifier) {
            session.shrink();
            return false;
        }
        let shards = inbound.take_shards(identifier);
        session.shrink();
        if let Some(shards) = shards {
            self.close_origins(index, identifier, &shards, None, now);
        }
        true
    }

    /// A message whose PUBREC waits has come again on another connection, which gets it.
    pub(super) fn readdress_pubrec(
        &mut self,
        index: SessionIndex,
        wanted: PacketIdentifier,
        slot: u32,
    ) {
        let new = self.addressee(slot);
        let found =
            self.acknowledgements
                .queue
                .iter_mut()
                .find_map(|pending| match &mut pending.what {
                    Acknowledge::PubRec {
                        to,
                        session,
                        identifier,
                        ..
                    } if *session == index && *identifier == wanted && to.serial != new.serial => {
                        Some(std::mem::replace(to, new))
                    }
                    _ => None,
                });
        if let Some(old) = found {
            if let Some(connection) = self.addressed(old) {
                connection.pending_acknowledgements -= 1;
            }
            if let Some(connection) = self.addressed(new) {
                connection.pending_acknowledgements += 1;
            }
        }
    }

    /// A publisher has released a message of `origin`: its identifier may be used again.
    pub(super) fn close_origin(
        &mut self,
        from: ShardId,
        origin: Origin,
        number: Option<u64>,
        now: Now,
    ) {
        let known = self.origins.remove(&origin);
        if known {
            self.record(&Record::OriginClosed(origin));
        }
        match number {
            Some(number) if known => self.answer_at_commit(from, number, now),
            Some(number) => self.answer(from, number, Answer::NOTHING, now),
            None => {}
        }
    }

    /// Records something that no acknowledgement of its own waits for.
    pub(super) fn record(&mut self, record: &Record<'_>) {
        let durability = self.durability_max;
        self.clients.journal.append(record, durability);
    }

    pub(super) fn send_acknowledgement(
        &mut self,
        slot: u32,
        kind: PacketType,
        identifier: PacketIdentifier,
        reason_code: ReasonCode,
    ) {
        let Some(version) = self.clients.connection(slot).map(|c| c.version()) else {
            return;
        };
        let packet = Acknowledgement::new(identifier, reason_code);
        self.clients
            .send(slot, |out| packet.encode(version, kind, out));
    }
}

fn addressee_of(what: &Acknowledge) -> Option<Addressee> {
    match what {
        Acknowledge::PubAck { to, .. }
        | Acknowledge::PubRec { to, .. }
        | Acknowledge::PubComp { to, .. }
        | Acknowledge::UnsubAck { to, .. } => Some(*to),
        _ => None,
    }
}
