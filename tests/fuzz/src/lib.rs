//! What fuzz targets share: how they read their input, and what they hold the broker to.
//!
//! A target is one file in `bin`; `run` finds it there. Its corpus is in `corpus/NAME`.

#[path = "../../support/packet.rs"]
pub mod packet;
#[path = "../../support/property.rs"]
pub mod property;
pub mod shards;
#[path = "../../simulation/model/topics.rs"]
pub mod topics;

use ringmq::mqtt::data_types::ProtocolVersion;
use ringmq::mqtt::frame::{Frame, Framing, frame};

/// Does `work` and holds it to `limit` bytes of memory at once.
pub fn within(limit: usize, work: impl FnOnce()) {
    let used = allocation_counter::measure(work).bytes_max;
    assert!(
        used <= limit as u64,
        "{used} bytes of memory, {limit} are allowed"
    );
}

/// What decoding `bytes` and writing them again may take, bytes.
pub fn limit_for(bytes: &[u8]) -> usize {
    1024 + 16 * bytes.len()
}

/// An input that is taken piece by piece; at its end there are zeros.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or(0)
    }

    /// Up to `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Bytes behind their length.
    pub fn bytes(&mut self) -> &'a [u8] {
        let count = self.byte();
        self.take(usize::from(count))
    }

    /// One of `of`.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[usize::from(self.byte()) % of.len()]
    }
}

/// All versions.
pub const VERSIONS: [ProtocolVersion; 3] = [
    ProtocolVersion::V3_1,
    ProtocolVersion::V3_1_1,
    ProtocolVersion::V5,
];

/// The one whole packet that `bytes` are, as something that was encoded must be.
pub fn whole(bytes: &[u8]) -> Frame<'_> {
    match frame(bytes, usize::MAX) {
        Ok(Framing::Complete(frame)) if frame.packet_bytes == bytes.len() => frame,
        other => panic!("{other:?} of {bytes:02x?}"),
    }
}

/// The tests' own name of a version.
pub fn own(version: ProtocolVersion) -> packet::Version {
    match version {
        ProtocolVersion::V3_1 => packet::Version::V31,
        ProtocolVersion::V3_1_1 => packet::Version::V311,
        ProtocolVersion::V5 => packet::Version::V5,
    }
}
