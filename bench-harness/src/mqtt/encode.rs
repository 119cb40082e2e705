//! Packets that clients send, except PUBLISH, which is a [`super::template`].

use super::Version;

/// PINGREQ.
pub const PINGREQ: [u8; 2] = [0xc0, 0];
/// DISCONNECT, normal.
pub const DISCONNECT: [u8; 2] = [0xe0, 0];

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    // The generator's names are short.
    out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(0).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn put_packet(out: &mut Vec<u8>, first_byte: u8, body: &[u8]) {
    out.push(first_byte);
    let mut length = body.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(body);
}

/// Keep Alive, unless something else is measured, seconds. Some brokers do not take 0.
pub const KEEP_ALIVE_S: u16 = 600;

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect {
    /// Which MQTT.
    pub version: Version,
    /// Keep Alive, seconds.
    pub keep_alive_s: u16,
    /// Whether the session outlives the connection, for [`PERSISTENT_S`] in 5.0.
    pub persistent: bool,
}

/// Session Expiry Interval of persistent sessions in 5.0, seconds.
pub const PERSISTENT_S: u32 = 3600;

impl Connect {
    /// A clean session that is not pinged while a run lasts.
    pub fn clean(version: Version) -> Self {
        Self {
            version,
            keep_alive_s: KEEP_ALIVE_S,
            persistent: false,
        }
    }

    /// CONNECT.
    pub fn packet(&self, client_identifier: &str) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, "MQTT");
        body.push(match self.version {
            Version::V3 => 4,
            Version::V5 => 5,
        });
        body.push(if self.persistent { 0 } else { 2 });
        body.extend_from_slice(&self.keep_alive_s.to_be_bytes());
        match (self.version, self.persistent) {
            (Version::V3, _) => {}
            (Version::V5, false) => body.push(0),
            (Version::V5, true) => {
                body.extend_from_slice(&[5, 0x11]);
                body.extend_from_slice(&PERSISTENT_S.to_be_bytes());
            }
        }
        put_text(&mut body, client_identifier);
        let mut out = Vec::new();
        put_packet(&mut out, 0x10, &body);
        out
    }
}

/// SUBSCRIBE to all `filters`.
pub fn subscribe<S: AsRef<str>>(filters: &[S], qos: u8, version: Version) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        put_text(&mut body, filter.as_ref());
        body.push(qos);
    }
    let mut out = Vec::new();
    put_packet(&mut out, 0x82, &body);
    out
}

/// An acknowledgement of `identifier`: PUBACK 0x40, PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70.
#[inline]
pub fn acknowledgement(first_byte: u8, identifier: u16) -> [u8; 4] {
    let [high, low] = identifier.to_be_bytes();
    [first_byte, 2, high, low]
}

/// A retained PUBLISH without a payload in 3.1.1, which deletes what is retained.
pub fn publish_empty_retained(out: &mut Vec<u8>, topic: &str, identifier: u16) {
    let mut body = Vec::new();
    put_text(&mut body, topic);
    body.extend_from_slice(&identifier.to_be_bytes());
    put_packet(out, 0x33, &body);
}
