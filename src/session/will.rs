//! The Will Message of a session.
//!
//! Set at CONNECT, deleted by a normal DISCONNECT, published by the broker when the connection ends in any
//! other way: after the Will Delay Interval or at the end of the session, whichever comes first
//! [MQTT-3.1.3-9].

use crate::routing::application_message::ApplicationMessage;

/// A Will Message that may have to be published.
#[derive(Debug)]
pub struct Will {
    /// The message. Its expiry counts from its publication, so it has none yet.
    pub message: ApplicationMessage,
    /// The Will Delay Interval, seconds.
    pub delay_s: u32,
    /// The Message Expiry Interval, seconds, that starts when the Will is published (3.1.3.2.4).
    pub message_expiry_interval_s: Option<u32>,
}

/// When the Will of a closed connection is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WillDue {
    /// At once.
    Now,
    /// In so many seconds, unless the client returns before.
    After(u32),
}

impl Will {
    /// When the Will is due after the connection is gone, for a session that lives on for
    /// `session_expiry_interval_s`.
    ///
    /// A Will Delay Interval that is not shorter than the session's is cut to it: the Will is due at the
    /// session's end at the latest [MQTT-3.1.3-9].
    pub fn due(&self, session_expiry_interval_s: u32) -> WillDue {
        match self.delay_s.min(session_expiry_interval_s) {
            0 => WillDue::Now,
            delay_s => WillDue::After(delay_s),
        }
    }
}
