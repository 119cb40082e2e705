//! From files to what each shard begins with.
//!
//! Runs before the shards, one thread for each log. A torn end is cut off; what is damaged is set aside, and
//! said; the broker starts in any case. With another number of shards than before, everything goes to its new
//! home, and every shard records all of it in a new log before the old ones go.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;

use crate::config::Config;
use crate::journal::BLOCK_BYTES;
use crate::journal::Origin;
use crate::journal::record::session_key;
use crate::journal::replay::{Clock, Scan, State, StoredRetained, StoredSession, scan};
use crate::routing::topic_hash::{TopicHasher, shard_of};

use super::StoreError;
use super::directory::{Directory, Manifest};
use super::segment::{self, FoundHeader, Header};

/// Where a new log begins: queues that move to it keep their order by lower names.
const FIRST_POSITION: u64 = 1 << 40;

/// A session from the store.
#[derive(Debug)]
pub struct FoundSession {
    /// Its number.
    pub number: u64,
    /// What the log has.
    pub stored: StoredSession,
    /// Packet Identifiers of QoS 2 messages that its client had not released, and which shards have them.
    pub inbound: Vec<(u16, Vec<u16>)>,
}

/// What one shard begins with.
#[derive(Debug, Default)]
pub struct ShardStart {
    /// Where its segments lie.
    pub directory: PathBuf,
    /// The segment that it writes to first.
    pub position: u64,
    /// Older segments: where each begins, and how much of it is used, bytes.
    pub segments: Vec<(u64, u64)>,
    /// Its sessions.
    pub sessions: Vec<FoundSession>,
    /// The retained messages that it owns.
    pub retained: Vec<StoredRetained>,
    /// Open origins of its log.
    pub origins: Vec<Origin>,
    /// Whether its log is new, so that all of this must be recorded.
    pub records_all: bool,
    /// The highest number of a session, without the shard.
    pub session_count: u64,
}

/// A store that is open.
#[derive(Debug)]
pub struct Store {
    directory: Directory,
    manifest: Manifest,
    /// Whether the manifest is to be written when the shards have recorded everything.
    is_new: bool,
    /// What is kept where, for the start-up block.
    pub summary: String,
}

/// What was found in one log.
struct LogContent {
    state: State,
    segments: Vec<(u64, u64)>,
    /// Behind the last segment.
    end: u64,
}

impl Store {
    /// Opens the store of `data_dir` for `shard_count` shards. The key of the hashes is the store's, or
    /// `new_key` if it is new.
    ///
    /// # Errors
    /// It is in use, of a later format, or the operating system refuses. Damage is no error.
    pub fn open(
        data_dir: &Path,
        config: &Config,
        shard_count: u16,
        new_key: u64,
        clock: Clock,
    ) -> Result<(Self, TopicHasher, Vec<ShardStart>), StoreError> {
        let directory = Directory::open(data_dir)?;
        let found = directory.manifest()?;
        let former = found.unwrap_or(Manifest {
            generation: 0,
            shards: 0,
            hash_key: new_key,
        });
        let hasher = TopicHasher::new(former.hash_key);
        directory.remove_others(former.generation);
        let logs = read_logs(&directory, &former, &hasher, clock)?;
        let is_new = former.shards != shard_count || !are_at_home(&logs, &hasher, shard_count);
        let manifest = Manifest {
            generation: former.generation + u64::from(is_new),
            shards: shard_count,
            ..former
        };
        let mut shards = distribute(logs, &hasher, shard_count, is_new);
        let sessions: usize = shards.iter().map(|shard| shard.sessions.len()).sum();
        let retained: usize = shards.iter().map(|shard| shard.retained.len()).sum();
        for (id, shard) in (0u16..).zip(&mut shards) {
            prepare(&directory, &manifest, config, id, shard)?;
        }
        let summary = format!(
            "{}: {sessions} sessions, {retained} retained messages",
            data_dir.display()
        );
        let store = Self {
            directory,
            manifest,
            is_new,
            summary,
        };
        Ok((store, hasher, shards))
    }

    /// All shards have recorded what they began with: their logs are the store from now on.
    ///
    /// # Errors
    /// What the operating system said.
    pub fn complete(&mut self) -> Result<(), StoreError> {
        if self.is_new {
            self.directory.sync_generation(self.manifest.generation)?;
            self.directory.write_manifest(&self.manifest)?;
            self.directory.remove_others(self.manifest.generation);
            self.is_new = false;
        }
        Ok(())
    }
}

/// Makes the segment that a shard writes to first.
fn prepare(
    directory: &Directory,
    manifest: &Manifest,
    config: &Config,
    id: u16,
    shard: &mut ShardStart,
) -> Result<(), StoreError> {
    shard.directory = directory.of_shard(manifest.generation, id);
    fs::create_dir_all(&shard.directory)
        .map_err(StoreError::io(&shard.directory, "make a directory"))?;
    let header = Header {
        start: shard.position,
        shard: id,
    };
    segment::create(&shard.directory, header, config.storage.segment_bytes).map_err(
        StoreError::io(&shard.directory, "make a segment of the log"),
    )?;
    Ok(())
}

fn read_logs(
    directory: &Directory,
    manifest: &Manifest,
    hasher: &TopicHasher,
    clock: Clock,
) -> Result<Vec<LogContent>, StoreError> {
    let paths: Vec<_> = (0..manifest.shards)
        .map(|shard| directory.of_shard(manifest.generation, shard))
        .collect();
    let mut logs = Vec::new();
    std::thread::scope(|scope| {
        let readers: Vec<_> = paths
            .iter()
            .map(|path| {
                let hasher = hasher.clone();
                scope.spawn(move || read_log(path, hasher, clock))
            })
            .collect();
        for reader in readers {
            // A panic in a reader is one here.
            match reader.join() {
                Ok(log) => logs.push(log),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    logs.into_iter().collect()
}

fn read_log(directory: &Path, hasher: TopicHasher, clock: Clock) -> Result<LogContent, StoreError> {
    let mut log = LogContent {
        state: State::new(hasher, clock),
        segments: Vec::new(),
        end: 0,
    };
    let segments = segment::list(directory)?;
    let last = segments.len().saturating_sub(1);
    for (place, (start, path)) in segments.iter().enumerate() {
        log.end = log.end.max(*start);
        let bytes = segment::read(path)?;
        let (header, body) = bytes.split_at(bytes.len().min(BLOCK_BYTES as usize));
        match Header::decode(header) {
            FoundHeader::Known(header) if header.start == *start => {}
            FoundHeader::Newer(found) => {
                let path = path.clone();
                return Err(StoreError::Newer { path, found });
            }
            // Groups have checksums and positions of their own, so what can be read is still good.
            _ => {
                tracing::error!(segment = %path.display(), "the header of a segment is damaged; reading its records nevertheless")
            }
        }
        let result = scan(body, *start, |group| log.state.apply_group(group));
        report(path, &result, body, *start);
        if place == last && result.torn_bytes > 0 {
            tracing::warn!(
                segment = %path.display(),
                bytes = result.torn_bytes,
                "the last write to the log was not complete and is cut off; nothing in it was acknowledged"
            );
        }
        if place == last || result.torn_bytes > 0 {
            segment::cut(path, *start, result.end).map_err(StoreError::io(path, "cut"))?;
        }
        if result.end > *start {
            log.segments.push((*start, result.end - start));
        } else {
            // Nothing was written to it.
            fs::remove_file(path).map_err(StoreError::io(path, "remove"))?;
        }
        log.end = log.end.max(result.end);
    }
    let unread = log.state.unread_records;
    if unread > 0 {
        tracing::error!(log = %directory.display(), records = unread, "records could not be read and are lost");
    }
    let lost = log.state.finish();
    if lost > 0 {
        tracing::error!(log = %directory.display(), sessions = lost, "sessions are lost: the log no longer says whose they are");
    }
    Ok(log)
}

/// Says what is damaged, and sets the bytes aside for those who want to look.
fn report(path: &Path, result: &Scan, body: &[u8], start: u64) {
    for damage in &result.damaged {
        let aside = path.with_extension(format!("{:016x}.damaged", damage.start));
        let part = |position: u64| usize::try_from(position - start).unwrap_or(usize::MAX);
        let bytes = body.get(part(damage.start)..part(damage.end));
        if !aside.exists()
            && let Err(error) = fs::write(&aside, bytes.unwrap_or_default())
        {
            tracing::warn!(path = %aside.display(), %error, "cannot set damaged bytes aside");
        }
        tracing::error!(
            segment = %path.display(),
            from = damage.start - start,
            bytes = damage.end - damage.start,
            aside = %aside.display(),
            "a part of the log is damaged: what it recorded is lost, the rest is used"
        );
    }
}

/// By the key of their session: the messages that are recorded and not released, and by which shards. In a new
/// generation nobody remembers them: a message that comes again is delivered again.
fn open_origins(
    logs: &[LogContent],
    hasher: &TopicHasher,
    is_new: bool,
) -> HashMap<u64, Vec<(u16, Vec<u16>)>, foldhash::fast::RandomState> {
    let mut open: HashMap<u64, BTreeMap<u16, Vec<u16>>, foldhash::fast::RandomState> =
        HashMap::default();
    if is_new || logs.iter().all(|log| log.state.origins.is_empty()) {
        return HashMap::default();
    }
    for log in logs {
        for (number, session) in &log.state.sessions {
            if let Some(name) = &session.client_identifier {
                open.insert(session_key(hasher, name, *number), BTreeMap::new());
            }
        }
    }
    for (shard, log) in (0u16..).zip(logs) {
        for origin in &log.state.origins {
            if let Some(of_session) = open.get_mut(&origin.session_key) {
                of_session
                    .entry(origin.packet_identifier)
                    .or_default()
                    .push(shard);
            }
        }
    }
    let listed = open.into_iter();
    listed
        .map(|(key, of_session)| (key, of_session.into_iter().collect()))
        .collect()
}

/// Whether every log has what belongs to its shard: not if the hash has changed.
fn are_at_home(logs: &[LogContent], hasher: &TopicHasher, shard_count: u16) -> bool {
    (0u16..).zip(logs).all(|(shard, log)| {
        let mut names = log.state.sessions.values();
        let mut topics = log.state.retained.keys();
        let at_home = |text: &str| hasher.home_of(text, shard_count).0 == shard;
        names.all(|session| session.client_identifier.as_deref().is_none_or(at_home))
            && topics.all(|topic| at_home(topic))
    })
}

/// Brings everything to its home.
fn distribute(
    logs: Vec<LogContent>,
    hasher: &TopicHasher,
    shard_count: u16,
    is_new: bool,
) -> Vec<ShardStart> {
    let mut shards: Vec<ShardStart> = (0..shard_count).map(|_| ShardStart::default()).collect();
    // The last session of a Client Identifier is the one that lives: the end of a former one may not have
    // been recorded.
    let mut newest: HashMap<Box<str>, u64, foldhash::fast::RandomState> = HashMap::default();
    let mut session_count = 0;
    for log in &logs {
        for (number, session) in &log.state.sessions {
            session_count = session_count.max(number >> 16);
            if let Some(name) = &session.client_identifier {
                let entry = newest.entry(name.clone()).or_insert(0);
                *entry = (*entry).max(*number);
            }
        }
    }
    let open_origins = open_origins(&logs, hasher, is_new);
    for (place, log) in logs.into_iter().enumerate() {
        let state = log.state;
        if !is_new {
            shards[place].position = log.end;
            shards[place].segments = log.segments;
            let open = state.origins.into_iter();
            let open = open.filter(|origin| open_origins.contains_key(&origin.session_key));
            shards[place].origins.extend(open);
        }
        let sessions: BTreeMap<_, _> = state.sessions.into_iter().collect();
        for (number, stored) in sessions {
            let Some(name) = &stored.client_identifier else {
                continue;
            };
            if newest.get(&**name) != Some(&number) {
                continue;
            }
            let home = hasher.home_of(name, shard_count);
            let inbound = open_origins
                .get(&session_key(hasher, name, number))
                .cloned()
                .unwrap_or_default();
            let session = FoundSession {
                number,
                stored,
                inbound,
            };
            shards[home.index()].sessions.push(session);
        }
        for (topic, retained) in state.retained {
            let owner = shard_of(hasher.hash(&topic), shard_count);
            shards[owner.index()].retained.push(retained);
        }
    }
    for shard in &mut shards {
        if is_new {
            shard.position = FIRST_POSITION;
        }
        shard.records_all = is_new;
        shard.session_count = session_count;
    }
    shards
}
