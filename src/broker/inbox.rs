//! What other shards say.

use crate::observability::counters::DropCause;
use crate::observability::recorder::{NOBODY, What};
use crate::routing::application_message::MessageView;
use crate::routing::ids::ShardId;

use super::delivery::Publication;
use super::envelope::{Answer, Asked, Batch, Envelope};
use super::fault::{self, Fault};
use super::{Broker, Now};

impl Broker {
    /// Takes a batch of another shard, in order. Gives the batch back empty, for its sender to fill again
    /// ([`super::envelope::Mesh::recycle`]).
    pub fn take_batch(&mut self, mut batch: Batch, now: Now) -> Batch {
        if fault::on(Fault::BatchReordered) {
            let inline = |envelope: &Envelope| matches!(envelope, Envelope::Inline(_));
            batch.envelopes.sort_by_key(inline);
        }
        let mut content = batch.content.as_slice();
        for envelope in batch.envelopes.drain(..) {
            let Envelope::Inline(inline) = envelope else {
                self.take_envelope(batch.from, envelope, now);
                continue;
            };
            let Some((view, asked, rest)) = inline.read(content) else {
                break;
            };
            content = rest;
            self.deliver_from_mesh(batch.from, Publication::new(view), asked, now);
        }
        self.flush_answers();
        batch.content.clear();
        batch
    }

    /// Delivers a message of another shard, unless it has expired on its way [MQTT-3.3.2-5]: then it is
    /// counted for each subscription that matches. Answers if the other shard asked.
    #[inline]
    fn deliver_from_mesh(
        &mut self,
        from: ShardId,
        mut publication: Publication<'_>,
        asked: Asked,
        now: Now,
    ) {
        let view = publication.view;
        if view.is_expired(now.mono_ms) {
            self.count_expired(&view, now);
        } else {
            publication.origin = asked.origin;
            let mark = self.clients.sight.recorder.mark();
            self.route_local(&mut publication, None, now);
            self.clients
                .note_message(NOBODY, What::Arrived, &view, mark, now.mono_ms);
        }
        if asked.number.is_some() {
            self.answer_or_wait(from, asked.number, publication.outcome(), now);
        }
    }

    fn count_expired(&mut self, view: &MessageView<'_>, now: Now) {
        self.found.clear();
        self.local
            .matching(view.topic, view.topic_hash, &mut self.found);
        for filter in &self.found {
            for subscriber in self.local.subscribers(*filter) {
                self.clients
                    .lose(subscriber.session, DropCause::Expired, view, now.mono_ms);
            }
        }
    }

    fn take_envelope(&mut self, from: ShardId, envelope: Envelope, now: Now) {
        match envelope {
            // `take_batch` has its content.
            Envelope::Inline(_) => {}
            Envelope::Publish { message, asked } => {
                let asked = asked.map_or_else(Asked::default, |asked| *asked);
                self.deliver_from_mesh(from, Publication::of(&message), asked, now);
            }
            Envelope::Shared(shared) if shared.message.is_expired(now.mono_ms) => {
                self.clients.counters.drop_messages(DropCause::Expired, 1);
                self.answer_shared(shared.asked, Answer::NOTHING, now);
            }
            Envelope::Shared(shared) => self.deliver_shared(*shared, now),
            Envelope::Changes { sequence, changes } => self.apply_changes(from, sequence, &changes),
            Envelope::Applied { sequence } => {
                self.visibility.confirm(from, sequence);
                self.release_subacks(now);
                self.pass_fences(now);
            }
            Envelope::Retain { message, asked } => {
                let (_, outcome) = self.set_retained(message, now);
                self.answer_or_wait(from, asked, outcome, now);
            }
            Envelope::Answers(answers) => {
                for answer in answers {
                    self.take_answer(from, answer, now);
                }
            }
            Envelope::CloseOrigin { origin, asked } => self.close_origin(from, origin, asked, now),
            Envelope::RetainedQuery {
                delivery,
                filter,
                cursor,
            } => {
                let cursor = cursor.map(|cursor| *cursor);
                let slice =
                    self.retained
                        .select(&filter, cursor, &self.config.retained, now.mono_ms);
                self.mesh.stage(
                    from,
                    Envelope::RetainedSlice {
                        delivery,
                        slice: Box::new(slice),
                    },
                );
            }
            Envelope::RetainedSlice { delivery, slice } => {
                self.retained_slice(from, delivery, *slice, now)
            }
            Envelope::SystemTopicsWanted => self.want_system_topics(now),
            Envelope::CountersQuery => {
                let counters = Box::new(self.counters());
                self.mesh.stage(from, Envelope::Counters(counters));
            }
            Envelope::Counters(counters) => self.take_counters(&counters, now),
        }
    }

    /// Answers at once, or when what was recorded is safe.
    pub(super) fn answer_or_wait(
        &mut self,
        shard: ShardId,
        asked: Option<u64>,
        outcome: u8,
        now: Now,
    ) {
        match asked {
            Some(number) if outcome == Answer::RECORDED => {
                self.answer_at_commit(shard, number, now)
            }
            Some(number) => self.answer_shard(shard, number, outcome, now),
            None => {}
        }
    }
}
