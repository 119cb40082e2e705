//! What the broker's process costs, from `/proc`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;

use serde::{Deserialize, Serialize};

/// A process at one moment. Threads that ended before are not in it.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// CPU time of its threads, nanoseconds.
    pub cpu_ns: u64,
    /// The same by thread.
    threads: BTreeMap<OsString, u64>,
    /// Times that they slept.
    pub voluntary_switches: u64,
    /// Times that they were displaced.
    pub involuntary_switches: u64,
    /// Resident memory.
    pub resident_bytes: u64,
}

impl Process {
    /// Reads it; `None` if there is no such process.
    pub fn read(pid: u32) -> Option<Self> {
        let mut process = Self {
            resident_bytes: resident_bytes(pid)?,
            ..Self::default()
        };
        for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
            // A thread may end at any time.
            let read = |name| fs::read_to_string(task.path().join(name)).unwrap_or_default();
            let schedule = read("schedstat");
            let cpu_ns = schedule
                .split(' ')
                .next()
                .and_then(|text| text.parse().ok());
            process.cpu_ns += cpu_ns.unwrap_or(0);
            let thread = process.threads.entry(task.file_name()).or_default();
            *thread = cpu_ns.unwrap_or(0);
            let status = read("status");
            process.voluntary_switches += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
            process.involuntary_switches +=
                field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
        }
        Some(process)
    }
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Resident memory of a process.
pub fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(field(&status, "VmRSS:").unwrap_or(0) * 1024)
}

/// CPU time of a process so far, nanoseconds; 0 if there is none.
pub fn cpu_ns(pid: u32) -> u64 {
    Process::read(pid).map_or(0, |process| process.cpu_ns)
}

/// What a process used in a phase.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Used {
    /// CPU time, seconds.
    pub cpu_s: f64,
    /// CPUs in use on average.
    pub cpus: f64,
    /// Share of a CPU that its busiest thread used.
    pub busiest_thread: f64,
    /// Times that its threads slept.
    pub voluntary_switches: u64,
    /// Times that its threads were displaced.
    pub involuntary_switches: u64,
    /// Resident memory at the beginning.
    pub rss_before_bytes: u64,
    /// Resident memory at the end.
    pub rss_after_bytes: u64,
}

/// The difference between two moments.
pub fn used(before: Option<&Process>, after: Option<&Process>, seconds: f64) -> Option<Used> {
    let (before, after) = (before?, after?);
    let cpu_s = after.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e9;
    let threads = after.threads.iter().map(|(thread, cpu_ns)| {
        let before_ns = before.threads.get(thread).copied().unwrap_or(0);
        cpu_ns.saturating_sub(before_ns) as f64 / 1e9 / seconds
    });
    let switches = |of: fn(&Process) -> u64| of(after).saturating_sub(of(before));
    Some(Used {
        cpu_s,
        cpus: cpu_s / seconds,
        busiest_thread: threads.fold(0.0, f64::max),
        voluntary_switches: switches(|process| process.voluntary_switches),
        involuntary_switches: switches(|process| process.involuntary_switches),
        rss_before_bytes: before.resident_bytes,
        rss_after_bytes: after.resident_bytes,
    })
}

/// CPUs in use on average between two moments.
pub fn share(before: Option<&Process>, after: Option<&Process>, seconds: f64) -> Option<f64> {
    used(before, after, seconds).map(|used| used.cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_cpu() {
        let pid = std::process::id();
        let before = Process::read(pid).unwrap();
        let mut sum = 0u64;
        while Process::read(pid).unwrap().cpu_ns < before.cpu_ns + 5_000_000 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(before.resident_bytes > 100_000);
        let used = used(Some(&before), Process::read(pid).as_ref(), 1.0).unwrap();
        assert!(used.cpu_s >= 0.005 && used.busiest_thread > 0.0);
        assert!(used.busiest_thread <= used.cpus);
    }

    #[test]
    fn a_process_that_is_not_there_is_none() {
        assert!(Process::read(u32::MAX).is_none());
    }
}
