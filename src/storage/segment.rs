//! Segments: the files of a log. Each begins with a header block and is named by the position of its first
//! group; positions that lie between two segments are in neither.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::journal::BLOCK_BYTES;
use crate::journal::group::GROUP_BYTES_MAX;

use super::directory::sync_directory;
use super::{FORMAT_VERSION, StoreError};

const MAGIC: &[u8; 8] = b"RINGMQLG";

/// What a segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The position of its first group.
    pub(super) start: u64,
    /// The shard that wrote it.
    pub(super) shard: u16,
}

/// What stands where a header should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundHeader {
    Known(Header),
    Newer(u32),
    Damaged,
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_BYTES as usize);
        block.extend_from_slice(MAGIC);
        block.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        block.extend_from_slice(&u32::from(self.shard).to_le_bytes());
        block.extend_from_slice(&self.start.to_le_bytes());
        let checksum = crc32c::crc32c(&block);
        block.extend_from_slice(&checksum.to_le_bytes());
        block.resize(BLOCK_BYTES as usize, 0);
        block
    }

    pub(super) fn decode(block: &[u8]) -> FoundHeader {
        let word = |at: usize| -> Option<u32> {
            let bytes = block.get(at..at + 4)?;
            Some(u32::from_le_bytes(bytes.try_into().ok()?))
        };
        let parsed = || {
            if block.get(..8)? != MAGIC {
                return None;
            }
            let format = word(8)?;
            if format > FORMAT_VERSION {
                return Some(FoundHeader::Newer(format));
            }
            if crc32c::crc32c(&block[..24]) != word(24)? {
                return None;
            }
            Some(FoundHeader::Known(Self {
                start: u64::from(word(16)?) | u64::from(word(20)?) << 32,
                shard: word(12)?.try_into().ok()?,
            }))
        };
        parsed().unwrap_or(FoundHeader::Damaged)
    }
}

/// The file of the segment that begins at `start`.
pub(super) fn path(directory: &Path, start: u64) -> PathBuf {
    directory.join(format!("{start:016x}.log"))
}

/// Where the segment behind one that begins at `start` begins: far enough for the group that fills it, however
/// long that is.
pub(super) fn next_start(start: u64, segment_bytes: u64) -> u64 {
    (start + segment_bytes + GROUP_BYTES_MAX as u64).next_multiple_of(BLOCK_BYTES)
}

/// Makes a segment with room for `bytes`, safe before it has its name.
pub(super) fn create(directory: &Path, header: Header, bytes: u64) -> std::io::Result<PathBuf> {
    let new = directory.join(format!("{:016x}.new", header.start));
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().create_new(true).write(true).open(&new)?;
    let made = fallocate(&file, FallocateFlags::empty(), 0, BLOCK_BYTES + bytes)
        .map_err(std::io::Error::from)
        .and_then(|()| file.write_all(&header.encode()))
        .and_then(|()| file.sync_all());
    if let Err(error) = made {
        let _ = fs::remove_file(&new);
        return Err(error);
    }
    let path = path(directory, header.start);
    fs::rename(&new, &path)?;
    sync_directory(directory)?;
    Ok(path)
}

/// The segments of a directory by the position in their name, in order.
pub(super) fn list(directory: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let error = StoreError::io(directory, "list the segments");
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(other) => return Err(error(other)),
    };
    let mut segments = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let Some(stem) = name.to_str().and_then(|name| name.strip_suffix(".log")) else {
            continue;
        };
        if let Ok(start) = u64::from_str_radix(stem, 16) {
            segments.push((start, path));
        }
    }
    segments.sort_unstable();
    Ok(segments)
}

/// Cuts a segment behind its last whole group.
pub(super) fn cut(path: &Path, start: u64, end: u64) -> std::io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(BLOCK_BYTES + (end - start))?;
    file.sync_all()
}

/// All of a segment's file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .map_err(StoreError::io(path, "read"))?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_later_formats_and_damage_are_seen() {
        let header = Header {
            start: 0x1234_5678_9000,
            shard: 7,
        };
        let block = header.encode();
        assert_eq!(Header::decode(&block), FoundHeader::Known(header));
        for at in 0..28 {
            let mut damaged = block.clone();
            damaged[at] ^= 4;
            assert_ne!(Header::decode(&damaged), FoundHeader::Known(header), "{at}");
        }
        let mut newer = block;
        newer[8] = 2;
        assert_eq!(Header::decode(&newer), FoundHeader::Newer(2));
        assert_eq!(Header::decode(&[]), FoundHeader::Damaged);
    }

    #[test]
    fn segments_are_listed_in_order_and_other_files_are_not() {
        let place = tempfile::tempdir().unwrap();
        for start in [1 << 40, 0, 4096] {
            create(place.path(), Header { start, shard: 0 }, 8192).unwrap();
        }
        fs::write(place.path().join("0000000000001000.damaged"), "").unwrap();
        let starts: Vec<_> = list(place.path())
            .unwrap()
            .into_iter()
            .map(|(start, _)| start)
            .collect();
        assert_eq!(starts, [0, 4096, 1 << 40]);
    }
}
