//! Rates: how many of something may begin in a second.
//!
//! A bucket is the time from which on its next token is there; a quiet second saves up a second's worth.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a quiet time saves up, at most, microseconds.
const BURST_US: u64 = 1_000_000;
/// Source prefixes that are told apart; more share their buckets.
const SOURCES_MAX: usize = 8192;
/// In how many places the bucket of a prefix may lie.
const PLACES: usize = 4;

/// Takes a token from a bucket of `per_s`: the bucket's new state, or `None` if it is empty.
fn taken(bucket_us: u64, per_s: u32, now_us: u64) -> Option<u64> {
    let interval_us = (1_000_000 / u64::from(per_s.max(1))).max(1);
    let next_us = bucket_us.max(now_us) + interval_us;
    (next_us <= now_us + BURST_US.max(interval_us)).then_some(next_us)
}

/// A bucket that several threads take from.
#[derive(Debug, Default)]
pub struct SharedBucket(AtomicU64);

impl SharedBucket {
    /// Takes a token; 0 a second is no limit.
    pub fn take(&self, per_s: u32, now_ms: u64) -> bool {
        if per_s == 0 {
            return true;
        }
        let next = |bucket_us| taken(bucket_us, per_s, now_ms * 1000);
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .is_ok()
    }
}

/// A bucket of one thread.
#[derive(Debug, Default)]
pub struct Bucket(u64);

impl Bucket {
    /// Takes a token; 0 a second is no limit.
    pub fn take(&mut self, per_s: u32, now_ms: u64) -> bool {
        if per_s == 0 {
            return true;
        }
        match taken(self.0, per_s, now_ms * 1000) {
            Some(next_us) => {
                self.0 = next_us;
                true
            }
            None => false,
        }
    }

    /// When the next token is there, milliseconds.
    pub fn next_ms(&self, per_s: u32) -> u64 {
        let interval_us = 1_000_000 / u64::from(per_s.max(1));
        (self.0 + interval_us)
            .saturating_sub(BURST_US)
            .div_ceil(1000)
    }
}

/// A bucket for each source prefix, in a table of fixed size: a flood from many addresses takes no memory.
#[derive(Debug, Default)]
pub struct SourceBuckets {
    /// Empty until it is needed. `SOURCES_MAX` of prefix and bucket.
    cells: Vec<(u64, Bucket)>,
    hasher: foldhash::fast::RandomState,
}

impl SourceBuckets {
    /// Takes a token from the bucket of a source; 0 a second is no limit. What has no address has no limit.
    pub fn take(&mut self, source: Option<IpAddr>, per_s: u32, now_ms: u64) -> bool {
        let Some(source) = source.filter(|_| per_s > 0) else {
            return true;
        };
        if self.cells.is_empty() {
            self.cells.resize_with(SOURCES_MAX, Default::default);
        }
        let prefix = prefix(source);
        let hash = std::hash::BuildHasher::hash_one(&self.hasher, prefix);
        // The remainder is below `SOURCES_MAX`.
        let first = (hash % SOURCES_MAX as u64) as usize;
        let places = (0..PLACES).map(|step| (first + step) % SOURCES_MAX);
        let own = places.clone().find(|place| self.cells[*place].0 == prefix);
        // Otherwise the place that is free for the longest.
        let place = own.or_else(|| places.min_by_key(|place| self.cells[*place].1.0));
        let cell = &mut self.cells[place.unwrap_or(first)];
        if cell.0 != prefix && cell.1.0 <= now_ms * 1000 {
            cell.1 = Bucket::default();
        }
        // One that is still in use is shared: its former owner cannot get a new one by pushing others out.
        cell.0 = prefix;
        cell.1.take(per_s, now_ms)
    }
}

/// The network that an address is counted for: a /24 of IPv4, a /56 of IPv6. Never 0.
fn prefix(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(ip) => 1 << 63 | u64::from(u32::from(ip) >> 8),
        // The first 56 bits.
        IpAddr::V6(ip) => 1 << 62 | (u128::from(ip) >> 72) as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_saved_up_and_then_the_rate_holds() {
        let mut bucket = Bucket::default();
        let count =
            |bucket: &mut Bucket, now_ms| (0..1000).filter(|_| bucket.take(10, now_ms)).count();
        assert_eq!(count(&mut bucket, 5_000), 10);
        assert_eq!(bucket.next_ms(10), 5_100);
        assert_eq!(count(&mut bucket, 5_099), 0);
        assert_eq!(count(&mut bucket, 5_100), 1);
        assert_eq!(count(&mut bucket, 5_600), 5);
        assert_eq!(count(&mut bucket, 60_000), 10, "no more is saved up");
        let shared = SharedBucket::default();
        assert_eq!((0..100).filter(|_| shared.take(7, 1_000)).count(), 7);
        assert!((0..100).all(|_| shared.take(0, 1_000)), "no limit");
        assert!(Bucket::default().take(1, 0), "one a second lets one in");
    }

    #[test]
    fn a_flood_from_one_network_leaves_the_others_alone() {
        let mut sources = SourceBuckets::default();
        let at = |text: &str| Some(text.parse().unwrap());
        let flood = (0..=255u8)
            .filter(|last| sources.take(Some(IpAddr::from([192, 0, 2, *last])), 5, 1_000));
        assert_eq!(flood.count(), 5);
        assert!(sources.take(at("192.0.3.1"), 5, 1_000));
        assert!(sources.take(at("2001:db8::1"), 5, 1_000));
        assert!(
            !sources.take(at("::ffff:192.0.2.9"), 5, 1_000),
            "the same network"
        );
        assert!((0..100).all(|_| sources.take(None, 5, 1_000)));
    }

    #[test]
    fn pushing_a_source_out_of_the_table_gives_it_no_new_bucket() {
        let mut sources = SourceBuckets::default();
        let mut taken = 0;
        for n in 0..200_000u32 {
            let other = IpAddr::from(std::net::Ipv4Addr::from((n << 8) | 0x0b00_0000));
            sources.take(Some(other), 5, 1_000);
            taken += u32::from(sources.take(Some(IpAddr::from([10, 0, 0, 1])), 5, 1_000));
        }
        assert!(taken <= 5 * PLACES as u32, "{taken}");
        assert_eq!(sources.cells.len(), SOURCES_MAX);
    }
}
