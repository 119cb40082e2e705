//! Groups: what one turn recorded, with a checksum over all of it.
//!
//! A group begins at a multiple of [`BLOCK_BYTES`] and is filled up with zeros, so that it can be written
//! without the page cache, and so that the next one is found behind one that is damaged.

use super::codec::{Fields, put_u32, put_u64};
use super::record::Record;

/// Groups begin at multiples of this; what direct I/O takes on every device.
pub const BLOCK_BYTES: u64 = 4096;
/// Magic, checksum, length of the records, their number, position, wall time.
pub const HEADER_BYTES: usize = 32;
const MAGIC: u32 = u32::from_le_bytes(*b"RQg1");
/// A group is never larger; a length beyond is damage.
pub const GROUP_BYTES_MAX: usize = 1 << 30;

/// Records that are written together.
#[derive(Debug)]
pub struct Group {
    /// Where it begins in the log.
    pub position: u64,
    /// What is written there: a multiple of [`BLOCK_BYTES`].
    pub bytes: Vec<u8>,
    /// Whether it must survive a loss of power.
    pub sync: bool,
}

impl Group {
    /// Fills in the header that `bytes` begins with, and fills up to whole blocks.
    pub(super) fn seal(
        position: u64,
        mut bytes: Vec<u8>,
        records: u32,
        unix_s: u64,
        sync: bool,
    ) -> Self {
        let mut header = Vec::with_capacity(HEADER_BYTES);
        put_u32(&mut header, MAGIC);
        put_u32(&mut header, 0);
        // Bounded by `unwritten_bytes_max` and one turn.
        put_u32(
            &mut header,
            u32::try_from(bytes.len() - HEADER_BYTES).unwrap_or(u32::MAX),
        );
        put_u32(&mut header, records);
        put_u64(&mut header, position);
        put_u64(&mut header, unix_s);
        bytes[..HEADER_BYTES].copy_from_slice(&header);
        let checksum = crc32c::crc32c(&bytes[8..]);
        bytes[4..8].copy_from_slice(&checksum.to_le_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        Self {
            position,
            bytes,
            sync,
        }
    }

    /// Where the next group begins.
    pub fn end(&self) -> u64 {
        self.position + self.bytes.len() as u64
    }
}

/// A group as it is read back.
#[derive(Clone, Copy, Debug)]
pub struct GroupView<'a> {
    /// Where it begins in the log.
    pub position: u64,
    /// When it was sealed, seconds since 1970.
    pub unix_s: u64,
    /// How many records it has.
    pub records: u32,
    content: &'a [u8],
}

/// What stands at a place where a group could begin.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// A whole group.
    Group(GroupView<'a>),
    /// Zeros: nothing was ever written here.
    Nothing,
    /// Anything else: torn, damaged, or of another place.
    Damage,
}

impl<'a> GroupView<'a> {
    /// Reads what stands at the front of `bytes`, which is at `position` in the log.
    pub fn read(bytes: &'a [u8], position: u64) -> Found<'a> {
        let Some(header) = bytes.get(..HEADER_BYTES) else {
            return Found::Damage;
        };
        if header.iter().all(|byte| *byte == 0) {
            return Found::Nothing;
        }
        match Self::parse(bytes, position) {
            Some(group) => Found::Group(group),
            None => Found::Damage,
        }
    }

    fn parse(bytes: &'a [u8], position: u64) -> Option<Self> {
        let mut fields = Fields(bytes);
        let magic = fields.u32()?;
        let checksum = fields.u32()?;
        let length = fields.u32()? as usize;
        let records = fields.u32()?;
        let own_position = fields.u64()?;
        let unix_s = fields.u64()?;
        if magic != MAGIC || own_position != position || length > GROUP_BYTES_MAX {
            return None;
        }
        let content = fields.take(length)?;
        let sealed = bytes.get(8..HEADER_BYTES + length)?;
        (crc32c::crc32c(sealed) == checksum).then_some(Self {
            position,
            unix_s,
            records,
            content,
        })
    }

    /// Its length in the log, bytes.
    pub fn bytes(&self) -> u64 {
        ((HEADER_BYTES + self.content.len()) as u64).next_multiple_of(BLOCK_BYTES)
    }

    /// Its records with their positions; `None` for one that cannot be read, after which there are no more.
    pub fn records(&self) -> impl Iterator<Item = (u64, Option<Record<'a>>)> + use<'a> {
        let content = self.content;
        let base = self.position + HEADER_BYTES as u64;
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = content.get(at..).filter(|rest| !rest.is_empty())?;
            let position = base + at as u64;
            match Record::decode(rest) {
                Some((record, length)) => {
                    at += length;
                    Some((position, Some(record)))
                }
                None => {
                    at = content.len();
                    Some((position, None))
                }
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Journal;
    use super::*;
    use crate::config::limits::Durability;

    fn group() -> Group {
        let mut journal = Journal::at(8192);
        for session in 1..=3 {
            journal.append(&Record::SessionEnd { session }, Durability::Os);
        }
        journal.take_group(77).unwrap()
    }

    #[test]
    fn a_group_is_read_as_it_was_written() {
        let group = group();
        let Found::Group(view) = GroupView::read(&group.bytes, 8192) else {
            panic!("no group");
        };
        assert_eq!((view.unix_s, view.records, view.bytes()), (77, 3, 4096));
        let sessions: Vec<_> = view.records().map(|(_, record)| record).collect();
        assert!(matches!(
            sessions[..],
            [
                Some(Record::SessionEnd { session: 1 }),
                Some(Record::SessionEnd { session: 2 }),
                Some(Record::SessionEnd { session: 3 })
            ]
        ));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let group = group();
        let used = HEADER_BYTES + 3 * 13;
        for at in 0..used {
            let mut bytes = group.bytes.clone();
            bytes[at] ^= 0x10;
            assert!(
                matches!(GroupView::read(&bytes, 8192), Found::Damage),
                "byte {at}"
            );
            assert!(matches!(
                GroupView::read(&group.bytes[..at], 8192),
                Found::Damage
            ));
        }
        assert!(matches!(GroupView::read(&group.bytes, 4096), Found::Damage));
        assert!(matches!(GroupView::read(&[0; 4096], 4096), Found::Nothing));
    }
}
