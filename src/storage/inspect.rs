//! `ringmq store`: what is in a data directory, without a broker.
//!
//! Nothing is changed: a torn end is told, not cut off.

use std::fmt::Write as _;
use std::path::Path;

use crate::journal::BLOCK_BYTES;
use crate::journal::replay::{Clock, Scan, State, scan};
use crate::routing::topic_hash::TopicHasher;

use super::StoreError;
use super::directory::{Directory, Manifest};
use super::segment::{self, FoundHeader, Header};

/// One segment as it was read.
struct Segment {
    name: String,
    start: u64,
    header: FoundHeader,
    bytes: Vec<u8>,
}

impl Segment {
    fn body(&self) -> &[u8] {
        self.bytes.get(BLOCK_BYTES as usize..).unwrap_or_default()
    }
}

fn open(data_dir: &Path) -> Result<(Directory, Manifest), StoreError> {
    let directory = Directory::lock(data_dir)?;
    let manifest = directory.manifest()?.ok_or_else(|| StoreError::Io {
        path: data_dir.join("manifest"),
        what: "read the manifest",
        source: std::io::ErrorKind::NotFound.into(),
    })?;
    Ok((directory, manifest))
}

/// Reads all segments of a shard, one after the other.
fn each_segment(
    directory: &Directory,
    manifest: &Manifest,
    shard: u16,
    mut visit: impl FnMut(&Segment),
) -> Result<(), StoreError> {
    let of_shard = directory.of_shard(manifest.generation, shard);
    for (start, path) in segment::list(&of_shard)? {
        let bytes = segment::read(&path)?;
        let header = Header::decode(&bytes);
        if let FoundHeader::Newer(found) = header {
            return Err(StoreError::Newer { path, found });
        }
        let name = path.strip_prefix(directory.path()).unwrap_or(&path);
        visit(&Segment {
            name: name.display().to_string(),
            start,
            header,
            bytes,
        });
    }
    Ok(())
}

/// What `check` found.
pub struct Check {
    /// For people.
    pub text: String,
    /// Whether something is lost; a write that was not complete is nothing of the kind.
    pub is_damaged: bool,
}

/// Reads the whole store and says what cannot be read.
///
/// # Errors
/// It is in use, or of a later format, or cannot be read at all.
pub fn check(data_dir: &Path) -> Result<Check, StoreError> {
    let (directory, manifest) = open(data_dir)?;
    let mut text = String::new();
    let mut is_damaged = false;
    let mut total = Scan::default();
    for shard in 0..manifest.shards {
        each_segment(&directory, &manifest, shard, |segment| {
            let mut unread = 0;
            let result = scan(segment.body(), segment.start, |group| {
                unread += group
                    .records()
                    .filter(|(_, record)| record.is_none())
                    .count();
            });
            total.groups += result.groups;
            let known = matches!(segment.header, FoundHeader::Known(header) if header.start == segment.start);
            is_damaged |= !known || unread > 0 || !result.damaged.is_empty();
            // Writing to a string does not fail, here and below.
            if !known {
                let _ = writeln!(text, "{}: the header is damaged", segment.name);
            }
            if unread > 0 {
                let _ = writeln!(text, "{}: {unread} records cannot be read", segment.name);
            }
            for damage in &result.damaged {
                let (from, bytes) = (damage.start - segment.start, damage.end - damage.start);
                let _ = writeln!(
                    text,
                    "{}: {bytes} bytes at {from} are damaged",
                    segment.name
                );
            }
            if result.torn_bytes > 0 {
                let _ = writeln!(
                    text,
                    "{}: the last write, {} bytes, is not complete: it was not acknowledged",
                    segment.name, result.torn_bytes
                );
            }
        })?;
    }
    let verdict = if is_damaged { "damaged" } else { "good" };
    let _ = writeln!(
        text,
        "{} groups of {} shards: {verdict}",
        total.groups, manifest.shards
    );
    Ok(Check { text, is_damaged })
}

/// Every record, a line each, to `write`.
///
/// # Errors
/// As [`check`].
pub fn dump(data_dir: &Path, mut write: impl FnMut(&str)) -> Result<(), StoreError> {
    let (directory, manifest) = open(data_dir)?;
    for shard in 0..manifest.shards {
        each_segment(&directory, &manifest, shard, |segment| {
            scan(segment.body(), segment.start, |group| {
                for (position, record) in group.records() {
                    match record {
                        Some(record) => {
                            write(&format!(
                                "{shard} {position:#x} {} {record:?}\n",
                                group.unix_s
                            ));
                        }
                        None => write(&format!("{shard} {position:#x} cannot be read\n")),
                    }
                }
            });
        })?;
    }
    Ok(())
}

/// How much of what there is.
///
/// # Errors
/// As [`check`].
pub fn stats(data_dir: &Path) -> Result<String, StoreError> {
    let (directory, manifest) = open(data_dir)?;
    let clock = Clock {
        mono_ms: 0,
        unix_s: 0,
    };
    let mut text = format!(
        "generation {}, {} shards\n",
        manifest.generation, manifest.shards
    );
    for shard in 0..manifest.shards {
        let mut state = State::new(TopicHasher::new(manifest.hash_key), clock);
        let (mut segments, mut bytes) = (0, 0);
        each_segment(&directory, &manifest, shard, |segment| {
            segments += 1;
            let result = scan(segment.body(), segment.start, |group| {
                state.apply_group(group)
            });
            bytes += result.end - segment.start;
        })?;
        state.finish();
        let entries = state
            .sessions
            .values()
            .flat_map(|session| session.entries.values());
        let (mut queued, mut queued_bytes) = (0u64, 0);
        for entry in entries {
            queued += 1;
            queued_bytes += entry.message.bytes();
        }
        let subscriptions: usize = state
            .sessions
            .values()
            .map(|session| session.subscriptions.len())
            .sum();
        let _ = writeln!(
            text,
            "shard {shard}: {segments} segments with {bytes} bytes and {} records; {} sessions, {subscriptions} subscriptions, \
             {queued} queued messages of {queued_bytes} bytes, {} retained messages, {} open QoS 2 messages",
            state.records,
            state.sessions.len(),
            state.retained.len(),
            state.origins.len()
        );
    }
    Ok(text)
}
