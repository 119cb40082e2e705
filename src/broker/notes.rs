//! What the broker notes in the flight recorder, beside what is noted where it happens.

use crate::config::limits::LOGGED_TEXT_BYTES_MAX;
use crate::mqtt::topic_filter::matches;
use crate::observability::counters::DropCause;
use crate::observability::recorder::{Entry, Mark, What};
use crate::observability::sight::{TRACED_PAYLOAD_BYTES_MAX, TRACED_PAYLOADS_MAX, TracedPayload};
use crate::routing::application_message::MessageView;
use crate::routing::ids::SessionIndex;

use super::clients::Clients;

impl Clients {
    /// Counts and notes a message that a session does not get.
    #[cold]
    pub(super) fn lose(
        &mut self,
        session: SessionIndex,
        cause: DropCause,
        view: &MessageView<'_>,
        now_ms: u64,
    ) {
        self.counters.drop_messages(cause, 1);
        self.note_loss(session, What::dropped(cause), view, now_ms);
    }

    /// Notes a loss, or a message that waits.
    pub(super) fn note_loss(
        &mut self,
        session: SessionIndex,
        what: u8,
        view: &MessageView<'_>,
        now_ms: u64,
    ) {
        let qos = view.qos as u8;
        let entry = Entry::new(view.topic_hash.0, session, what, qos, 0, now_ms);
        self.sight.recorder.note_loss(entry);
    }

    /// Notes a message of `session` that has been routed since `mark`.
    #[inline]
    pub(super) fn note_message(
        &mut self,
        session: SessionIndex,
        what: What,
        view: &MessageView<'_>,
        mark: Mark,
        now_ms: u64,
    ) {
        let hash = view.topic_hash.0;
        let entry = Entry::new(hash, session, what as u8, view.qos as u8, 0, now_ms);
        let recorder = &mut self.sight.recorder;
        recorder.note_message(entry, hash, view.topic, mark);
        if self.sight.payloads.is_some() && what == What::Received {
            self.trace_payload(view, now_ms);
        }
    }

    /// Keeps a copy of a payload for whoever traces it.
    #[cold]
    fn trace_payload(&mut self, view: &MessageView<'_>, now_ms: u64) {
        let Some(trace) = &mut self.sight.payloads else {
            return;
        };
        if now_ms >= trace.ends_at_ms {
            self.sight.payloads = None;
            return;
        }
        let fits = view.topic.len() <= LOGGED_TEXT_BYTES_MAX;
        if trace.payloads.len() < TRACED_PAYLOADS_MAX && fits && matches(&trace.filter, view.topic)
        {
            let shown = view.payload.len().min(TRACED_PAYLOAD_BYTES_MAX);
            trace.payloads.push(TracedPayload {
                at_ms: now_ms,
                topic: view.topic.into(),
                payload: view.payload[..shown].into(),
                payload_bytes: view.payload.len(),
            });
        }
    }
}
