//! The records of the log: what each says, as bytes.
//!
//! A record is its type, the length of its body, and the body. Times are durations from the group's wall time.

use smallvec::SmallVec;

use crate::mqtt::data_types::QoS;
use crate::routing::topic_hash::TopicHasher;
use crate::session::outbox::SubscriptionIdentifiers;

use super::codec::{Fields, put_bytes, put_optional_u64, put_u16, put_u32, put_u64};

/// Where a QoS 2 message came from: tells whether one that is sent again is recorded already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The publisher's session.
    pub session_key: u64,
    /// The Packet Identifier that it used.
    pub packet_identifier: u16,
}

/// The key of a session in the origins of its messages: another session of the same client has another one.
pub fn session_key(hasher: &TopicHasher, client_identifier: &str, number: u64) -> u64 {
    hasher.hash(client_identifier).0 ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A message's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content<'a> {
    /// Topic Name.
    pub topic: &'a str,
    /// Properties that go to subscribers, encoded.
    pub forwarded_properties: &'a [u8],
    /// Payload.
    pub payload: &'a [u8],
    /// QoS of the publisher.
    pub qos: QoS,
    /// RETAIN of the publisher.
    pub retain: bool,
    /// In how many milliseconds it expires.
    pub expires_in_ms: Option<u64>,
}

/// A Will Message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WillRecord<'a> {
    /// The message.
    pub content: Content<'a>,
    /// Will Delay Interval, seconds.
    pub delay_s: u32,
    /// Message Expiry Interval, seconds, from its publication on.
    pub message_expiry_interval_s: Option<u64>,
}

/// How far the delivery of a queued message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It waits to be sent.
    Waiting,
    /// It is sent, with this Packet Identifier.
    Sent(u16),
    /// It is sent with this Packet Identifier, and PUBREC has come.
    Received(u16),
}

/// A message in a session's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueuedRecord<'a> {
    /// The session's number.
    pub session: u64,
    /// Its name and its place in the queue: the position where it was first recorded.
    pub entry: u64,
    /// Where the message is recorded.
    pub message: u64,
    /// QoS of the delivery.
    pub qos: QoS,
    /// RETAIN of the delivery.
    pub retain: bool,
    /// How far it has come.
    pub progress: Progress,
    /// Share Name and Topic Filter of the group that it was chosen from.
    pub group: Option<(&'a str, &'a str)>,
    /// Subscription Identifiers.
    pub subscription_identifiers: SubscriptionIdentifiers,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// A session, new or as it is now; its subscriptions and its queue have their own records.
    Session {
        /// Its number, never given twice.
        session: u64,
        /// Client Identifier.
        client_identifier: &'a str,
        /// Session Expiry Interval, seconds.
        expiry_interval_s: u32,
        /// For how many seconds it has had no connection; none if it has one.
        detached_s: Option<u64>,
        /// Its Will Message.
        will: Option<WillRecord<'a>>,
    },
    /// Its connection has ended.
    Detached {
        /// The session.
        session: u64,
        /// Session Expiry Interval, which DISCONNECT may have changed.
        expiry_interval_s: u32,
        /// Whether its Will is still to come.
        will: bool,
    },
    /// Its Will is published.
    WillGone {
        /// The session.
        session: u64,
    },
    /// It has ended, with all that it had.
    SessionEnd {
        /// The session.
        session: u64,
    },
    /// A subscription, new or replaced.
    Subscribed {
        /// The session.
        session: u64,
        /// Topic Filter, with `$share` and Share Name if it is shared.
        filter: &'a str,
        /// Subscription Options.
        options: u8,
        /// Subscription Identifier; 0 is none.
        identifier: u32,
    },
    /// A subscription is gone.
    Unsubscribed {
        /// The session.
        session: u64,
        /// As in `Subscribed`.
        filter: &'a str,
    },
    /// A message; `Queued` records say for whom.
    Message {
        /// The message.
        content: Content<'a>,
        /// For QoS 2 of a recorded session.
        origin: Option<Origin>,
    },
    /// A message in a session's queue.
    Queued(QueuedRecord<'a>),
    /// It is sent.
    Sent {
        /// The session.
        session: u64,
        /// Which.
        entry: u64,
        /// Its Packet Identifier.
        packet_identifier: u16,
    },
    /// PUBREC has come for it.
    Received {
        /// The session.
        session: u64,
        /// Which.
        entry: u64,
    },
    /// It is acknowledged, or dropped.
    Done {
        /// The session.
        session: u64,
        /// Which.
        entry: u64,
    },
    /// PUBREL has come for a message of this origin.
    OriginClosed(Origin),
    /// A retained message.
    Retained {
        /// The message.
        content: Content<'a>,
    },
    /// A retained message is cleared.
    RetainedGone {
        /// Its Topic Name.
        topic: &'a str,
    },
    /// An origin that is still open, recorded again.
    OriginOpen(Origin),
}

const SESSION: u8 = 1;
const DETACHED: u8 = 2;
const WILL_GONE: u8 = 3;
const SESSION_END: u8 = 4;
const SUBSCRIBED: u8 = 5;
const UNSUBSCRIBED: u8 = 6;
const MESSAGE: u8 = 7;
const QUEUED: u8 = 8;
const SENT: u8 = 9;
const RECEIVED: u8 = 10;
const DONE: u8 = 11;
const ORIGIN_CLOSED: u8 = 12;
const RETAINED: u8 = 13;
const RETAINED_GONE: u8 = 14;
const ORIGIN_OPEN: u8 = 15;

impl<'a> Record<'a> {
    /// Appends the record.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 5]);
        let kind = self.encode_body(out);
        out[start] = kind;
        let length = out.len() - start - 5;
        // One packet's content and some fields; a Control Packet's length has 28 bits.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        out[start + 1..start + 5].copy_from_slice(&length.to_le_bytes());
    }

    fn encode_body(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Session {
                session,
                client_identifier,
                expiry_interval_s,
                detached_s,
                will,
            } => {
                put_u64(out, *session);
                put_u32(out, *expiry_interval_s);
                put_optional_u64(out, *detached_s);
                put_bytes(out, client_identifier.as_bytes());
                out.push(u8::from(will.is_some()));
                if let Some(will) = will {
                    put_content(out, &will.content);
                    put_u32(out, will.delay_s);
                    put_optional_u64(out, will.message_expiry_interval_s);
                }
                SESSION
            }
            Self::Detached {
                session,
                expiry_interval_s,
                will,
            } => {
                put_u64(out, *session);
                put_u32(out, *expiry_interval_s);
                out.push(u8::from(*will));
                DETACHED
            }
            Self::WillGone { session } => {
                put_u64(out, *session);
                WILL_GONE
            }
            Self::SessionEnd { session } => {
                put_u64(out, *session);
                SESSION_END
            }
            Self::Subscribed {
                session,
                filter,
                options,
                identifier,
            } => {
                put_u64(out, *session);
                out.push(*options);
                put_u32(out, *identifier);
                put_bytes(out, filter.as_bytes());
                SUBSCRIBED
            }
            Self::Unsubscribed { session, filter } => {
                put_u64(out, *session);
                put_bytes(out, filter.as_bytes());
                UNSUBSCRIBED
            }
            _ => self.encode_message(out),
        }
    }

    fn encode_message(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            Self::Message { content, origin } => {
                out.push(u8::from(origin.is_some()));
                if let Some(origin) = origin {
                    put_origin(out, origin);
                }
                put_content(out, content);
                MESSAGE
            }
            Self::Queued(queued) => {
                put_queued(out, queued);
                QUEUED
            }
            Self::Sent {
                session,
                entry,
                packet_identifier,
            } => {
                put_u64(out, *session);
                put_u64(out, *entry);
                put_u16(out, *packet_identifier);
                SENT
            }
            Self::Received { session, entry } => {
                put_u64(out, *session);
                put_u64(out, *entry);
                RECEIVED
            }
            Self::Done { session, entry } => {
                put_u64(out, *session);
                put_u64(out, *entry);
                DONE
            }
            Self::OriginClosed(origin) => {
                put_origin(out, origin);
                ORIGIN_CLOSED
            }
            Self::OriginOpen(origin) => {
                put_origin(out, origin);
                ORIGIN_OPEN
            }
            Self::Retained { content } => {
                put_content(out, content);
                RETAINED
            }
            Self::RetainedGone { topic } => {
                put_bytes(out, topic.as_bytes());
                RETAINED_GONE
            }
            // `encode_body` has the others.
            _ => 0,
        }
    }

    /// The record at the front of `bytes` and its length.
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut fields = Fields(bytes);
        let kind = fields.u8()?;
        let body = fields.bytes()?;
        let length = bytes.len() - fields.0.len();
        let mut body = Fields(body);
        let record = Self::decode_body(kind, &mut body)?;
        body.0.is_empty().then_some((record, length))
    }

    fn decode_body(kind: u8, body: &mut Fields<'a>) -> Option<Self> {
        Some(match kind {
            SESSION => Self::Session {
                session: body.u64()?,
                expiry_interval_s: body.u32()?,
                detached_s: body.optional_u64()?,
                client_identifier: body.text()?,
                will: match body.u8()? {
                    0 => None,
                    _ => Some(WillRecord {
                        content: take_content(body)?,
                        delay_s: body.u32()?,
                        message_expiry_interval_s: body.optional_u64()?,
                    }),
                },
            },
            DETACHED => Self::Detached {
                session: body.u64()?,
                expiry_interval_s: body.u32()?,
                will: body.u8()? != 0,
            },
            WILL_GONE => Self::WillGone {
                session: body.u64()?,
            },
            SESSION_END => Self::SessionEnd {
                session: body.u64()?,
            },
            SUBSCRIBED => Self::Subscribed {
                session: body.u64()?,
                options: body.u8()?,
                identifier: body.u32()?,
                filter: body.text()?,
            },
            UNSUBSCRIBED => Self::Unsubscribed {
                session: body.u64()?,
                filter: body.text()?,
            },
            MESSAGE => Self::Message {
                origin: match body.u8()? {
                    0 => None,
                    _ => Some(take_origin(body)?),
                },
                content: take_content(body)?,
            },
            QUEUED => Self::Queued(take_queued(body)?),
            SENT => Self::Sent {
                session: body.u64()?,
                entry: body.u64()?,
                packet_identifier: body.u16()?,
            },
            RECEIVED => Self::Received {
                session: body.u64()?,
                entry: body.u64()?,
            },
            DONE => Self::Done {
                session: body.u64()?,
                entry: body.u64()?,
            },
            ORIGIN_CLOSED => Self::OriginClosed(take_origin(body)?),
            ORIGIN_OPEN => Self::OriginOpen(take_origin(body)?),
            RETAINED => Self::Retained {
                content: take_content(body)?,
            },
            RETAINED_GONE => Self::RetainedGone {
                topic: body.text()?,
            },
            _ => return None,
        })
    }
}

fn put_origin(out: &mut Vec<u8>, origin: &Origin) {
    put_u64(out, origin.session_key);
    put_u16(out, origin.packet_identifier);
}

fn take_origin(body: &mut Fields<'_>) -> Option<Origin> {
    Some(Origin {
        session_key: body.u64()?,
        packet_identifier: body.u16()?,
    })
}

fn put_content(out: &mut Vec<u8>, content: &Content<'_>) {
    out.push(content.qos as u8 | u8::from(content.retain) << 2);
    put_optional_u64(out, content.expires_in_ms);
    put_bytes(out, content.topic.as_bytes());
    put_bytes(out, content.forwarded_properties);
    put_bytes(out, content.payload);
}

fn take_content<'a>(body: &mut Fields<'a>) -> Option<Content<'a>> {
    let flags = body.u8()?;
    Some(Content {
        qos: QoS::from_bits(flags & 3)?,
        retain: flags & 4 != 0,
        expires_in_ms: body.optional_u64()?,
        topic: body.text()?,
        forwarded_properties: body.bytes()?,
        payload: body.bytes()?,
    })
}

fn put_queued(out: &mut Vec<u8>, queued: &QueuedRecord<'_>) {
    put_u64(out, queued.session);
    put_u64(out, queued.entry);
    put_u64(out, queued.message);
    let (stage, packet_identifier) = match queued.progress {
        Progress::Waiting => (0, 0),
        Progress::Sent(identifier) => (1, identifier),
        Progress::Received(identifier) => (2, identifier),
    };
    let group = u8::from(queued.group.is_some());
    out.push(queued.qos as u8 | u8::from(queued.retain) << 2 | group << 3 | stage << 4);
    put_u16(out, packet_identifier);
    if let Some((share_name, filter)) = queued.group {
        put_bytes(out, share_name.as_bytes());
        put_bytes(out, filter.as_bytes());
    }
    for identifier in &queued.subscription_identifiers {
        put_u32(out, *identifier);
    }
}

fn take_queued<'a>(body: &mut Fields<'a>) -> Option<QueuedRecord<'a>> {
    let (session, entry, message) = (body.u64()?, body.u64()?, body.u64()?);
    let flags = body.u8()?;
    let packet_identifier = body.u16()?;
    let progress = match flags >> 4 {
        0 => Progress::Waiting,
        1 => Progress::Sent(packet_identifier),
        2 => Progress::Received(packet_identifier),
        _ => return None,
    };
    let group = match flags & 8 {
        0 => None,
        _ => Some((body.text()?, body.text()?)),
    };
    let mut subscription_identifiers = SmallVec::new();
    while !body.0.is_empty() {
        subscription_identifiers.push(body.u32()?);
    }
    Some(QueuedRecord {
        session,
        entry,
        message,
        qos: QoS::from_bits(flags & 3)?,
        retain: flags & 4 != 0,
        progress,
        group,
        subscription_identifiers,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn content(payload: &[u8]) -> Content<'_> {
        Content {
            topic: "a/é",
            forwarded_properties: b"\x01\x01",
            payload,
            qos: QoS::ExactlyOnce,
            retain: true,
            expires_in_ms: Some(5_000),
        }
    }

    fn samples() -> Vec<Record<'static>> {
        let origin = Origin {
            session_key: 9,
            packet_identifier: 65_535,
        };
        let queued = |progress, group| {
            Record::Queued(QueuedRecord {
                session: 1,
                entry: 2,
                message: 3,
                qos: QoS::AtLeastOnce,
                retain: true,
                progress,
                group,
                subscription_identifiers: SmallVec::from_slice(&[7, 8]),
            })
        };
        vec![
            Record::Session {
                session: 1,
                client_identifier: "client",
                expiry_interval_s: 60,
                detached_s: Some(3),
                will: Some(WillRecord {
                    content: content(b"will"),
                    delay_s: 4,
                    message_expiry_interval_s: None,
                }),
            },
            Record::Detached {
                session: 1,
                expiry_interval_s: 0,
                will: true,
            },
            Record::WillGone { session: 1 },
            Record::SessionEnd { session: 1 },
            Record::Subscribed {
                session: 1,
                filter: "$share/g/a/+",
                options: 0x2e,
                identifier: 12,
            },
            Record::Unsubscribed {
                session: 1,
                filter: "a",
            },
            Record::Message {
                content: content(b""),
                origin: Some(origin),
            },
            Record::Message {
                content: content(b"payload"),
                origin: None,
            },
            queued(Progress::Waiting, None),
            queued(Progress::Sent(1), Some(("g", "a/+"))),
            queued(Progress::Received(65_535), None),
            Record::Sent {
                session: 1,
                entry: 2,
                packet_identifier: 3,
            },
            Record::Received {
                session: 1,
                entry: 2,
            },
            Record::Done {
                session: 1,
                entry: 2,
            },
            Record::OriginClosed(origin),
            Record::OriginOpen(origin),
            Record::Retained {
                content: content(b"x"),
            },
            Record::RetainedGone { topic: "a/b" },
        ]
    }

    #[test]
    fn every_record_is_read_as_it_was_written_and_never_from_less() {
        for record in samples() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for length in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..length]), None);
            }
            bytes.push(0);
            let (decoded, length) = Record::decode(&bytes).unwrap();
            assert_eq!((decoded, length), (record, bytes.len() - 1));
        }
    }
}
