//! The bytes that wait to be written to one Network Connection.
//!
//! Filled by the broker, emptied by the shard once per turn. Small packets are copied one behind the other
//! into one buffer, so that a turn's output is one send; a large payload that several subscribers share is
//! referenced, not copied. An idle connection owns no buffer: [`Buffers`] lends them and takes them back.
//!
//! Not here: sockets. The shard owns what [`Output::take`] gave it until the send is complete and tells
//! [`Output::sent`].

use bytes::Bytes;

use crate::config::limits::{POOLED_BUFFER_BYTES_MAX, POOLED_BYTES_MAX};

/// A piece of output.
#[derive(Debug)]
pub enum Segment {
    /// Encoded packets, in a buffer that goes back to [`Buffers`].
    Packets(Vec<u8>),
    /// A payload, shared with other receivers.
    Payload(Bytes),
}

/// Buffers to be used again, so that steady traffic allocates nothing.
#[derive(Debug, Default)]
pub struct Buffers {
    free: Vec<Vec<u8>>,
    /// Capacity of all that are free.
    free_bytes: usize,
}

impl Buffers {
    /// An empty buffer, with capacity if there is one to be used again.
    #[inline]
    pub fn lend(&mut self) -> Vec<u8> {
        let buffer = self.free.pop().unwrap_or_default();
        self.free_bytes -= buffer.capacity();
        buffer
    }

    /// The capacity of all buffers that wait to be lent.
    pub fn free_bytes(&self) -> usize {
        self.free_bytes
    }

    /// Takes a buffer back. One that grew beyond `POOLED_BUFFER_BYTES_MAX` is freed, and so is any beyond
    /// `POOLED_BYTES_MAX` of all together.
    #[inline]
    pub fn take_back(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes > 0
            && bytes <= POOLED_BUFFER_BYTES_MAX
            && self.free_bytes + bytes <= POOLED_BYTES_MAX
        {
            buffer.clear();
            self.free.push(buffer);
            self.free_bytes += bytes;
        }
    }
}

/// Output of one connection.
#[derive(Debug, Default)]
pub struct Output {
    tail: Vec<u8>,
    /// What stands before `tail`, when a payload is referenced. Bounded by `output_bytes_max` like `tail`.
    #[allow(clippy::box_collection)] // 8 bytes instead of 24 in every idle connection
    segments: Option<Box<Vec<Segment>>>,
    /// Not more than 4 GiB are counted, which is over any `output_bytes_max`.
    queued_bytes: u32,
    in_flight_bytes: u32,
}

impl Output {
    /// The bytes that the client has not taken yet: queued, or on their way through the socket.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.queued_bytes as usize + self.in_flight_bytes as usize
    }

    /// Whether nothing is queued.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.queued_bytes == 0
    }

    /// Whether the network owns a part of the output.
    #[inline]
    pub fn is_in_flight(&self) -> bool {
        self.in_flight_bytes > 0
    }

    /// Appends what `encode` writes.
    #[inline]
    pub fn append(&mut self, buffers: &mut Buffers, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.tail.capacity() == 0 {
            self.tail = buffers.lend();
        }
        let before = self.tail.len();
        encode(&mut self.tail);
        self.count(self.tail.len() - before);
    }

    /// Appends a payload by reference, behind what was appended before.
    pub fn append_shared(&mut self, payload: Bytes) {
        self.count(payload.len());
        let segments = self.segments.get_or_insert_default();
        if !self.tail.is_empty() {
            segments.push(Segment::Packets(std::mem::take(&mut self.tail)));
        }
        segments.push(Segment::Payload(payload));
    }

    #[inline]
    fn count(&mut self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.queued_bytes = self.queued_bytes.saturating_add(bytes);
    }

    /// Hands all that is queued to the network.
    pub fn take(&mut self, mut push: impl FnMut(Segment)) {
        if let Some(segments) = self.segments.take() {
            segments.into_iter().for_each(&mut push);
        }
        if !self.tail.is_empty() {
            push(Segment::Packets(std::mem::take(&mut self.tail)));
        }
        self.in_flight_bytes = self.in_flight_bytes.saturating_add(self.queued_bytes);
        self.queued_bytes = 0;
    }

    /// The network has written all that it was given.
    #[inline]
    pub fn sent(&mut self) {
        self.in_flight_bytes = 0;
    }

    /// Drops what is queued; what is in flight stays with the network.
    pub fn clear(&mut self) {
        self.tail = Vec::new();
        self.segments = None;
        self.queued_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(output: &mut Output) -> Vec<u8> {
        let mut bytes = Vec::new();
        output.take(|segment| match segment {
            Segment::Packets(packets) => bytes.extend_from_slice(&packets),
            Segment::Payload(payload) => bytes.extend_from_slice(&payload),
        });
        bytes
    }

    #[test]
    fn packets_and_payloads_leave_in_order_and_are_counted() {
        let mut buffers = Buffers::default();
        let mut output = Output::default();
        output.append(&mut buffers, |out| out.extend_from_slice(b"one"));
        output.append_shared(Bytes::from_static(b"two"));
        output.append(&mut buffers, |out| out.extend_from_slice(b"three"));
        assert_eq!(output.bytes(), 11);
        assert_eq!(taken(&mut output), b"onetwothree");
        assert!(output.is_empty() && output.is_in_flight());
        assert_eq!(output.bytes(), 11);
        output.sent();
        assert_eq!(output.bytes(), 0);
    }

    #[test]
    fn an_oversized_buffer_is_not_kept() {
        let mut buffers = Buffers::default();
        buffers.take_back(Vec::with_capacity(POOLED_BUFFER_BYTES_MAX * 2));
        assert_eq!(buffers.lend().capacity(), 0);
        buffers.take_back(Vec::with_capacity(16));
        assert!(buffers.lend().capacity() >= 16);
    }

    #[test]
    fn the_pool_has_a_limit_in_bytes() {
        let mut buffers = Buffers::default();
        for _ in 0..2 * POOLED_BYTES_MAX / POOLED_BUFFER_BYTES_MAX {
            buffers.take_back(Vec::with_capacity(POOLED_BUFFER_BYTES_MAX));
        }
        let lent = std::iter::repeat_with(|| buffers.lend()).take_while(|one| one.capacity() > 0);
        assert_eq!(lent.count(), POOLED_BYTES_MAX / POOLED_BUFFER_BYTES_MAX);
    }
}
