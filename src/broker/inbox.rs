//! What other shards say.

use crate::observability::counters::DropCause;
use crate::observability::recorder::{NOBODY, What};
use crate::routing::ids::ShardId;

use super::delivery::Publication;
use super::envelope::{Batch, Envelope};
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
            let Some((view, rest)) = inline.read(content) else {
                break;
            };
            content = rest;
            self.deliver_from_mesh(&mut Publication::new(view), now);
        }
        batch.content.clear();
        batch
    }

    /// Delivers a message of another shard, unless it has expired on its way [MQTT-3.3.2-5]: then it is
    /// counted for each subscription that matches.
    #[inline]
    fn deliver_from_mesh(&mut self, publication: &mut Publication<'_>, now: Now) {
        let view = publication.view;
        let mark = self.clients.sight.recorder.mark();
        if !view.is_expired(now.mono_ms) {
            self.route_local(publication, None, now);
            self.clients
                .note_message(NOBODY, What::Arrived, &view, mark, now.mono_ms);
            return;
        }
        self.found.clear();
        self.local
            .matching(view.topic, view.topic_hash, &mut self.found);
        for filter in &self.found {
            for subscriber in self.local.subscribers(*filter) {
                self.clients
                    .lose(subscriber.session, DropCause::Expired, &view, now.mono_ms);
            }
        }
    }

    fn take_envelope(&mut self, from: ShardId, envelope: Envelope, now: Now) {
        match envelope {
            // `take_batch` has its content.
            Envelope::Inline(_) => {}
            Envelope::Publish(message) => {
                self.deliver_from_mesh(&mut Publication::of(&message), now);
            }
            Envelope::Shared(shared) if shared.message.is_expired(now.mono_ms) => {
                self.clients.counters.drop_messages(DropCause::Expired, 1);
            }
            Envelope::Shared(shared) => self.deliver_shared(*shared, now),
            Envelope::Changes { sequence, changes } => self.apply_changes(from, sequence, &changes),
            Envelope::Applied { sequence } => {
                self.visibility.confirm(from, sequence);
                self.release_subacks(now);
            }
            Envelope::Retain(message) => {
                self.set_retained(message, now);
            }
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
}
