//! Facts about a machine, read from `/proc` and `/sys` below a root.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::config::cpu_list::parse_cpu_list;

/// Writes of the fsync measurement: enough that the middle one says something.
const SYNCS: usize = 50;
/// Bytes of each, as of a small group commit.
const SYNC_BYTES: usize = 4096;

/// A machine, or files that look like one.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
}

/// A network interface with hardware queues.
#[derive(Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Receive queues.
    pub queues: usize,
    /// Whether every receive queue gives its packets to other CPUs (RPS).
    pub steers: bool,
}

impl Machine {
    /// The machine whose file system begins at `root`.
    pub fn at(root: &Path) -> Self {
        Self { root: root.into() }
    }

    /// The text of a file without blanks around it.
    pub fn text(&self, path: &str) -> Option<String> {
        let text = std::fs::read_to_string(self.root.join(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// A kernel setting, as `net.core.somaxconn`; several numbers have one blank between them.
    pub fn sysctl(&self, name: &str) -> Option<String> {
        let text = self.text(&format!("proc/sys/{}", name.replace('.', "/")))?;
        Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// CPUs in a list like `0-3`; none if there is no such file.
    pub fn cpus(&self, path: &str) -> Vec<usize> {
        let list = self.text(path).unwrap_or_default();
        parse_cpu_list(&list).unwrap_or_default()
    }

    /// The governors of all CPUs, without doubles; none if the machine has none.
    pub fn governors(&self) -> Vec<String> {
        let governor =
            |cpu: &PathBuf| std::fs::read_to_string(cpu.join("cpufreq/scaling_governor")).ok();
        let mut governors: Vec<String> = self
            .entries("sys/devices/system/cpu")
            .iter()
            .filter_map(governor)
            .map(|text| text.trim().to_owned())
            .collect();
        governors.sort_unstable();
        governors.dedup();
        governors
    }

    /// Interfaces that have hardware behind them.
    pub fn interfaces(&self) -> Vec<Interface> {
        let interface = |path: &PathBuf| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            if !path.join("device").exists() {
                return None;
            }
            let queues = list(&path.join("queues"));
            let receive: Vec<_> = queues
                .iter()
                .filter(|queue| file_name(queue).starts_with("rx-"))
                .collect();
            let steers = |queue: &&&PathBuf| {
                let mask = std::fs::read_to_string(queue.join("rps_cpus")).unwrap_or_default();
                mask.chars()
                    .any(|digit| digit.is_ascii_hexdigit() && digit != '0')
            };
            Some(Interface {
                name,
                queues: receive.len(),
                steers: !receive.is_empty()
                    && receive.iter().filter(steers).count() == receive.len(),
            })
        };
        self.entries("sys/class/net")
            .iter()
            .filter_map(interface)
            .collect()
    }

    /// Memory of the machine, bytes.
    pub fn memory_bytes(&self) -> Option<u64> {
        let text = self.text("proc/meminfo")?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
        kib.checked_mul(1024)
    }

    fn entries(&self, path: &str) -> Vec<PathBuf> {
        list(&self.root.join(path))
    }
}

/// What is in a directory, in the order of the names.
fn list(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort_unstable();
    paths
}

fn file_name(path: &Path) -> std::borrow::Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// How long a small write to a directory takes until it is safe: the middle and the longest of several.
///
/// # Errors
/// The directory is not there or may not be written.
pub fn sync_latency(directory: &Path) -> io::Result<(Duration, Duration)> {
    // Without a name: nothing is left whatever happens.
    let file = rustix::fs::open(
        directory,
        rustix::fs::OFlags::TMPFILE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::from_raw_mode(0o600),
    )?;
    let mut file = File::from(file);
    let mut times = Vec::new();
    for _ in 0..SYNCS {
        let start = Instant::now();
        file.write_all(&[0x5a; SYNC_BYTES])?;
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok((times[SYNCS / 2], times[SYNCS - 1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Machine) {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let machine = Machine::at(root.path());
        (root, machine)
    }

    #[test]
    fn facts_are_read_from_files() {
        let (_root, machine) = machine(&[
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            ("proc/meminfo", "MemTotal:       16 kB\nMemFree: 1 kB\n"),
            ("sys/devices/system/cpu/isolated", "2-3\n"),
            (
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
                "powersave\n",
            ),
            (
                "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
                "powersave\n",
            ),
            ("sys/class/net/lo/queues/rx-0/rps_cpus", "0\n"),
            ("sys/class/net/eth0/device/vendor", ""),
            (
                "sys/class/net/eth0/queues/rx-0/rps_cpus",
                "00000000,00000003\n",
            ),
            ("sys/class/net/eth0/queues/rx-1/rps_cpus", "0\n"),
            ("sys/class/net/eth0/queues/tx-0/xps_cpus", "1\n"),
        ]);
        let sysctl = machine.sysctl("net.ipv4.tcp_rmem");
        assert_eq!(sysctl.as_deref(), Some("4096 131072 6291456"));
        assert_eq!(machine.sysctl("net.nothing"), None);
        assert_eq!(machine.memory_bytes(), Some(16384));
        assert_eq!(machine.cpus("sys/devices/system/cpu/isolated"), [2, 3]);
        assert_eq!(machine.governors(), ["powersave"]);
        let eth0 = Interface {
            name: "eth0".into(),
            queues: 2,
            steers: false,
        };
        assert_eq!(machine.interfaces(), [eth0]);
    }

    #[test]
    fn a_sync_takes_time_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (middle, longest) = sync_latency(directory.path()).unwrap();
        assert!(middle > Duration::ZERO && longest >= middle);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(sync_latency(Path::new("/nonexistent")).is_err());
    }
}
