//! What shards say to each other, and the lanes on which it waits to be sent.
//!
//! Filled by the broker during a turn; the shard takes one batch per target and turn. What does not fit into
//! a target's inbox stays here, and over a limit the shard reads no more PUBLISH packets: a full shard slows
//! the publishers' sockets, and always empties its own inbox, so two full shards never wait for each other.

use std::sync::Arc;

use crate::config::limits::{LARGE_PAYLOAD_BYTES, SPARE_BATCH_BYTES_MAX};
use crate::journal::Origin;
use crate::mqtt::data_types::QoS;
use crate::observability::counters::Counters;
use crate::routing::application_message::{ApplicationMessage, MessageView};
use crate::routing::ids::ShardId;
use crate::routing::interest_index::{InterestChange, ShardBits};
use crate::routing::retained::{RetainedCursor, Slice};
use crate::routing::shared_subscription::{GroupChange, GroupName};
use crate::routing::topic_hash::TopicHash;

use super::fault::{self, Fault};

/// What the publisher's shard wants of those that a message goes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The number of the acknowledgement that waits for an answer.
    pub number: Option<u64>,
    /// For a QoS 2 message of a recorded session: where it came from.
    pub origin: Option<Origin>,
}

/// The answer to a message that asked, or to an origin that is closed.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The number of the acknowledgement.
    pub number: u64,
    /// One of the constants.
    pub outcome: u8,
}

impl Answer {
    /// Nothing had to be recorded.
    pub const NOTHING: u8 = 0;
    /// It is in the log, safely.
    pub const RECORDED: u8 = 1;
    /// There is no room on the disk.
    pub const REFUSED: u8 = 2;
}
/// A message for the members of a shared group on another shard.
#[derive(Debug)]
pub struct SharedEnvelope {
    /// The message.
    pub message: ApplicationMessage,
    /// The group.
    pub name: Arc<GroupName>,
    /// For the strategies that keep to one member.
    pub affinity: u64,
    /// Shards that had nobody who was ready.
    pub tried: ShardBits,
    /// Who is to be told that it is safe.
    pub asked: Option<(ShardId, u64)>,
}

/// A change of what a shard wants.
#[derive(Clone, Debug)]
pub enum Change {
    /// Of its interest.
    Interest(InterestChange),
    /// Of its members of a shared group.
    Group(GroupChange),
}

/// A message whose topic, properties and payload stand in the batch's own buffer: it costs neither shard an
/// allocation, and no core frees what another one allocated.
#[derive(Clone, Copy, Debug)]
pub struct Inline {
    topic_hash: TopicHash,
    expires_at_ms: Option<u64>,
    topic_bytes: u32,
    properties_bytes: u32,
    payload_bytes: u32,
    qos: QoS,
    retain: bool,
    asks: bool,
    has_origin: bool,
}

impl Inline {
    /// The message at the front of `content`, what is asked, and what follows it.
    #[inline]
    pub fn read<'a>(&self, content: &'a [u8]) -> Option<(MessageView<'a>, Asked, &'a [u8])> {
        let (topic, rest) = content.split_at_checked(self.topic_bytes as usize)?;
        let (forwarded_properties, rest) = rest.split_at_checked(self.properties_bytes as usize)?;
        let (payload, mut rest) = rest.split_at_checked(self.payload_bytes as usize)?;
        let mut asked = Asked::default();
        if self.asks {
            let (number, after) = rest.split_first_chunk()?;
            asked.number = Some(u64::from_ne_bytes(*number));
            rest = after;
        }
        if self.has_origin {
            let (session_key, after) = rest.split_first_chunk()?;
            let (packet_identifier, after) = after.split_first_chunk()?;
            asked.origin = Some(Origin {
                session_key: u64::from_ne_bytes(*session_key),
                packet_identifier: u16::from_ne_bytes(*packet_identifier),
            });
            rest = after;
        }
        let view = MessageView {
            topic: std::str::from_utf8(topic).ok()?,
            topic_hash: self.topic_hash,
            forwarded_properties,
            payload,
            qos: self.qos,
            retain: self.retain,
            expires_at_ms: self.expires_at_ms,
        };
        Some((view, asked, rest))
    }
}

/// One thing that a shard says to another.
#[derive(Debug)]
pub enum Envelope {
    /// A message for the subscribers of the other shard, in the batch's buffer.
    Inline(Inline),
    /// The same with a large payload, which the shards share.
    Publish {
        /// The message.
        message: ApplicationMessage,
        /// What is asked, if anything is.
        asked: Option<Box<Asked>>,
    },
    /// A message for one member of a shared group.
    Shared(Box<SharedEnvelope>),
    /// Changes, numbered without a gap.
    Changes {
        /// The number of the last of the changes so far.
        sequence: u64,
        /// All of one event.
        changes: Arc<[Change]>,
    },
    /// All changes up to this number are applied.
    Applied {
        /// As in `Changes`.
        sequence: u64,
    },
    /// Sets a retained message that the other shard owns, or clears it if the payload is empty.
    Retain {
        /// The message.
        message: ApplicationMessage,
        /// The acknowledgement that waits for it.
        asked: Option<u64>,
    },
    /// Answers to what was asked.
    Answers(Vec<Answer>),
    /// A publisher has released a QoS 2 message.
    CloseOrigin {
        /// Which.
        origin: Origin,
        /// The acknowledgement that waits for it.
        asked: Option<u64>,
    },
    /// Asks for the next slice of retained messages.
    RetainedQuery {
        /// The number of the delivery at the asking shard.
        delivery: u32,
        /// The Topic Filter.
        filter: Arc<str>,
        /// Where to go on.
        cursor: Option<Box<RetainedCursor>>,
    },
    /// A slice.
    RetainedSlice {
        /// The number of the delivery.
        delivery: u32,
        /// The messages.
        slice: Box<Slice>,
    },
    /// Somebody has subscribed to `$SYS`.
    SystemTopicsWanted,
    /// Asks for the counters.
    CountersQuery,
    /// The counters.
    Counters(Box<Counters>),
}

impl Envelope {
    /// What it counts against the lane's limit, bytes.
    fn bytes(&self) -> usize {
        let content = match self {
            Self::Publish { message, .. } | Self::Retain { message, .. } => message.bytes(),
            Self::Answers(answers) => answers.len() * size_of::<Answer>(),
            Self::Shared(shared) => shared.message.bytes(),
            Self::Changes { changes, .. } => changes.len() * 64,
            Self::RetainedSlice { slice, .. } => slice.messages.len() * 64,
            _ => 0,
        };
        content + size_of::<Self>()
    }
}

/// Envelopes from one shard to another, in order.
#[derive(Debug)]
pub struct Batch {
    /// Who says it.
    pub from: ShardId,
    /// What.
    pub envelopes: Vec<Envelope>,
    /// The content of the [`Inline`] messages, one behind the other.
    pub content: Vec<u8>,
}

/// The buffers of a batch, to be filled again.
type Buffers = (Vec<Envelope>, Vec<u8>);

#[derive(Debug, Default)]
struct Lane {
    envelopes: Vec<Envelope>,
    content: Vec<u8>,
    bytes: usize,
    /// The highest number of the other's changes that is applied and not yet confirmed.
    applied: Option<u64>,
}

/// The lanes to all the other shards.
#[derive(Debug)]
pub struct Mesh {
    id: ShardId,
    lanes: Vec<Lane>,
    /// Of batches that their targets have read, one for each lane at most.
    spare: Vec<Buffers>,
    staged_bytes_max: usize,
    congested: bool,
}

impl Mesh {
    /// Empty lanes, of `staged_bytes_max` each.
    pub fn new(id: ShardId, shard_count: u16, staged_bytes_max: usize) -> Self {
        let lanes = std::iter::repeat_with(Lane::default)
            .take(usize::from(shard_count))
            .collect();
        Self {
            id,
            lanes,
            spare: Vec::new(),
            staged_bytes_max,
            congested: false,
        }
    }

    /// All the other shards.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let id = self.id;
        // There are at most `SHARDS_MAX`.
        (0..u16::try_from(self.lanes.len()).unwrap_or(u16::MAX))
            .map(ShardId)
            .filter(move |other| *other != id)
    }

    /// A lane, with buffers if there are any.
    #[inline]
    fn lane(&mut self, target: ShardId) -> &mut Lane {
        let lane = &mut self.lanes[target.index()];
        if lane.envelopes.capacity() == 0
            && let Some((envelopes, content)) = self.spare.pop()
        {
            lane.envelopes = envelopes;
            lane.content = content;
        }
        lane
    }

    /// Takes the buffers of a batch of this shard that its target has read: nothing is allocated in steady
    /// state, and no core frees what another one allocated. Tells whether there is room for more.
    pub fn recycle(&mut self, batch: Batch) -> bool {
        let small = batch.envelopes.capacity() * size_of::<Envelope>() <= SPARE_BATCH_BYTES_MAX
            && batch.content.capacity() <= SPARE_BATCH_BYTES_MAX;
        if small && self.spare.len() < self.lanes.len() {
            self.spare.push((batch.envelopes, batch.content));
        }
        self.spare.len() < self.lanes.len()
    }

    /// Stages an envelope.
    #[inline]
    pub fn stage(&mut self, target: ShardId, envelope: Envelope) {
        let lane = self.lane(target);
        lane.bytes += envelope.bytes();
        let bytes = lane.bytes;
        lane.envelopes.push(envelope);
        self.congested |= bytes > self.staged_bytes_max;
    }

    /// Stages a message for the subscribers of `target`: copied, or by reference if it is large.
    #[inline]
    pub fn stage_publish(
        &mut self,
        target: ShardId,
        view: &MessageView<'_>,
        asked: &Asked,
        share: impl FnOnce() -> ApplicationMessage,
    ) {
        if view.payload.len() >= LARGE_PAYLOAD_BYTES {
            let message = share();
            let asked = asked.number.map(|_| Box::new(*asked));
            self.stage(target, Envelope::Publish { message, asked });
            return;
        }
        let lane = self.lane(target);
        let before = lane.content.len();
        lane.content.extend_from_slice(view.topic.as_bytes());
        lane.content.extend_from_slice(view.forwarded_properties);
        lane.content.extend_from_slice(view.payload);
        if let Some(number) = asked.number {
            lane.content.extend_from_slice(&number.to_ne_bytes());
        }
        if let Some(origin) = asked.origin {
            lane.content
                .extend_from_slice(&origin.session_key.to_ne_bytes());
            lane.content
                .extend_from_slice(&origin.packet_identifier.to_ne_bytes());
        }
        lane.bytes += lane.content.len() - before;
        // All are parts of one packet, whose length has 28 bits.
        let bytes = |part: usize| u32::try_from(part).unwrap_or(0);
        let inline = Inline {
            topic_hash: view.topic_hash,
            expires_at_ms: view.expires_at_ms,
            topic_bytes: bytes(view.topic.len()),
            properties_bytes: bytes(view.forwarded_properties.len()),
            payload_bytes: bytes(view.payload.len()),
            qos: view.qos,
            retain: view.retain,
            asks: asked.number.is_some(),
            has_origin: asked.origin.is_some(),
        };
        self.stage(target, Envelope::Inline(inline));
    }

    /// Stages the confirmation that all of `target`'s changes up to `sequence` are applied. It leaves after
    /// everything else that is staged now, for whichever shard: whoever sees the confirmation sees also what
    /// this shard did before.
    pub fn confirm(&mut self, target: ShardId, sequence: u64) {
        self.lanes[target.index()].applied = Some(sequence);
    }

    /// Whether a lane is over its limit, so that no PUBLISH may be read.
    #[inline]
    pub fn is_congested(&self) -> bool {
        self.congested
    }

    /// Bytes that wait for other shards.
    pub fn staged_bytes(&self) -> usize {
        self.lanes.iter().map(|lane| lane.bytes).sum()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes
            .iter()
            .all(|lane| lane.envelopes.is_empty() && lane.applied.is_none())
    }

    /// Offers the batch of each lane to `push`, which gives it back if the target's inbox is full; then the
    /// confirmations, if all else is gone. Gives the number of batches that were pushed.
    pub fn flush(&mut self, mut push: impl FnMut(ShardId, Batch) -> Result<(), Batch>) {
        let mut all_gone = true;
        self.congested = false;
        for target in self.others() {
            let lane = &mut self.lanes[target.index()];
            if lane.envelopes.is_empty() {
                continue;
            }
            let batch = Batch {
                from: self.id,
                envelopes: std::mem::take(&mut lane.envelopes),
                content: std::mem::take(&mut lane.content),
            };
            match push(target, batch) {
                Ok(()) => lane.bytes = 0,
                Err(batch) => {
                    lane.envelopes = batch.envelopes;
                    lane.content = batch.content;
                    self.congested |= lane.bytes > self.staged_bytes_max;
                    all_gone = false;
                }
            }
        }
        if !all_gone && !fault::on(Fault::ConfirmEarly) {
            return;
        }
        for target in self.others() {
            let lane = &mut self.lanes[target.index()];
            let Some(sequence) = lane.applied else {
                continue;
            };
            let batch = Batch {
                from: self.id,
                envelopes: vec![Envelope::Applied { sequence }],
                content: Vec::new(),
            };
            if push(target, batch).is_ok() {
                lane.applied = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_keeps_the_lane_and_holds_the_confirmations_back() {
        let mut mesh = Mesh::new(ShardId(0), 3, 50);
        mesh.stage(ShardId(1), Envelope::CountersQuery);
        mesh.stage(ShardId(1), Envelope::SystemTopicsWanted);
        mesh.confirm(ShardId(2), 7);
        assert!(mesh.is_congested());
        let mut pushed = Vec::new();
        mesh.flush(|_, batch| Err(batch));
        mesh.flush(|target, batch| {
            pushed.push((target.0, batch.envelopes.len()));
            Ok(())
        });
        assert_eq!(pushed, [(1, 2), (2, 1)]);
        assert!(mesh.is_empty() && !mesh.is_congested());
    }
}
