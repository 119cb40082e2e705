//! What other shards say.

use crate::routing::ids::ShardId;

use super::delivery::Publication;
use super::envelope::{Batch, Envelope};
use super::{Broker, Now};

impl Broker {
    /// Takes a batch of another shard, in order. Gives the batch back empty, for its sender to fill again
    /// ([`super::envelope::Mesh::recycle`]).
    pub fn take_batch(&mut self, mut batch: Batch, now: Now) -> Batch {
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
            self.route_local(&mut Publication::new(view), None, now);
        }
        batch.content.clear();
        batch
    }

    fn take_envelope(&mut self, from: ShardId, envelope: Envelope, now: Now) {
        match envelope {
            // `take_batch` has its content.
            Envelope::Inline(_) => {}
            Envelope::Publish(message) => {
                self.route_local(&mut Publication::of(&message), None, now);
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
