//! The Application Message: built once by its publisher's shard and shared by all that need it.
//!
//! A [`MessageView`] borrows from the received packet and costs nothing; [`Message`] owns one buffer with
//! topic, properties and payload. Delivery of QoS 0 on the publisher's own shard needs only the view.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::mqtt::data_types::QoS;

use super::topic_hash::TopicHash;

/// A message that several receivers share, on any shard.
pub type ApplicationMessage = Arc<Message>;

/// A message that owns its bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Message {
    /// Topic Name, forwarded properties, payload. What is small stands in the message itself, so that it is one
    /// allocation, and one piece of memory to fetch.
    content: SmallVec<[u8; INLINE_BYTES]>,
    topic_bytes: u32,
    properties_bytes: u32,
    topic_hash: TopicHash,
    expires_at_ms: Option<u64>,
    qos: QoS,
    retain: bool,
}

/// A message that borrows.
#[derive(Clone, Copy, Debug)]
pub struct MessageView<'a> {
    /// Topic Name.
    pub topic: &'a str,
    /// Its hash.
    pub topic_hash: TopicHash,
    /// Encoded properties for subscribers, without their length.
    pub forwarded_properties: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// QoS of the publisher.
    pub qos: QoS,
    /// RETAIN of the publisher.
    pub retain: bool,
    /// When it expires, monotonic milliseconds.
    pub expires_at_ms: Option<u64>,
}

/// How much content a message holds without an allocation of its own, bytes.
const INLINE_BYTES: usize = 96;

/// The bytes that a message takes beside content of its own, for accounting.
const OVERHEAD_BYTES: usize = std::mem::size_of::<Message>() + 16;

impl MessageView<'_> {
    /// A message of its own.
    pub fn to_message(&self) -> ApplicationMessage {
        let length = self.topic.len() + self.forwarded_properties.len() + self.payload.len();
        let mut content = SmallVec::with_capacity(length);
        content.extend_from_slice(self.topic.as_bytes());
        content.extend_from_slice(self.forwarded_properties);
        content.extend_from_slice(self.payload);
        Arc::new(Message {
            content,
            // Both come from one packet, whose length has 28 bits.
            topic_bytes: u32::try_from(self.topic.len()).unwrap_or(u32::MAX),
            properties_bytes: u32::try_from(self.forwarded_properties.len()).unwrap_or(u32::MAX),
            topic_hash: self.topic_hash,
            expires_at_ms: self.expires_at_ms,
            qos: self.qos,
            retain: self.retain,
        })
    }

    /// Whether it has expired.
    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }
}

impl Message {
    /// The message as a view.
    #[inline]
    pub fn view(&self) -> MessageView<'_> {
        let (topic, rest) = self.content.split_at(self.topic_bytes as usize);
        let (forwarded_properties, payload) = rest.split_at(self.properties_bytes as usize);
        MessageView {
            // It was a string when it came in.
            topic: std::str::from_utf8(topic).unwrap_or_default(),
            topic_hash: self.topic_hash,
            forwarded_properties,
            payload,
            qos: self.qos,
            retain: self.retain,
            expires_at_ms: self.expires_at_ms,
        }
    }

    /// Topic Name.
    #[inline]
    pub fn topic(&self) -> &str {
        self.view().topic
    }

    /// The hash of the Topic Name.
    #[inline]
    pub fn topic_hash(&self) -> TopicHash {
        self.topic_hash
    }

    /// QoS of the publisher.
    #[inline]
    pub fn qos(&self) -> QoS {
        self.qos
    }

    #[inline]
    fn payload(&self) -> &[u8] {
        &self.content[self.topic_bytes as usize + self.properties_bytes as usize..]
    }

    /// Whether it has expired.
    #[inline]
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// Whether it has a Message Expiry Interval.
    pub fn can_expire(&self) -> bool {
        self.expires_at_ms.is_some()
    }

    /// What it counts against limits, bytes.
    #[inline]
    pub fn bytes(&self) -> usize {
        match self.content.spilled() {
            true => self.content.len() + OVERHEAD_BYTES,
            false => OVERHEAD_BYTES,
        }
    }
}

/// The payload of a message, to be referenced while it is sent.
pub fn payload_bytes(message: &ApplicationMessage) -> Bytes {
    struct Payload(ApplicationMessage);
    impl AsRef<[u8]> for Payload {
        fn as_ref(&self) -> &[u8] {
            self.0.payload()
        }
    }
    Bytes::from_owner(Payload(ApplicationMessage::clone(message)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::topic_hash::TopicHasher;

    #[test]
    fn a_message_is_what_its_view_was() {
        let view = MessageView {
            topic: "a/b",
            topic_hash: TopicHasher::new(3).hash("a/b"),
            forwarded_properties: b"\x01\x01",
            payload: b"payload",
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_at_ms: Some(5),
        };
        let message = view.to_message();
        assert_eq!(
            (message.topic(), message.view().forwarded_properties),
            ("a/b", &b"\x01\x01"[..])
        );
        assert_eq!(
            (message.view().payload, &payload_bytes(&message)[..]),
            (&b"payload"[..], &b"payload"[..])
        );
        assert!(message.is_expired(5) && !message.is_expired(4));
    }
}
