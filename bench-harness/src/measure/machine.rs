//! Where a run took place.

use std::fs;

use serde::{Deserialize, Serialize};

/// The machine, as far as figures depend on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub processor: String,
    /// CPUs that there are.
    pub cpus: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// Kernel release.
    pub kernel: String,
    /// Whether a hypervisor is beneath.
    pub is_virtual: bool,
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str, separator| {
            let line = text.lines().find(|line| line.starts_with(key))?;
            line.split_once(separator)
                .map(|(_, value)| value.trim().to_owned())
        };
        let (cpuinfo, meminfo) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
        let kib = value(&meminfo, "MemTotal", ':')
            .and_then(|text| text.split(' ').next()?.parse::<u64>().ok());
        let flags = value(&cpuinfo, "flags", ':').unwrap_or_default();
        Self {
            processor: value(&cpuinfo, "model name", ':').unwrap_or_else(|| "unknown".into()),
            cpus: cpuinfo
                .lines()
                .filter(|line| line.starts_with("processor"))
                .count(),
            memory_bytes: kib.unwrap_or(0) * 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().into(),
            is_virtual: flags.split(' ').any(|flag| flag == "hypervisor"),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        format!(
            "{}, {} CPUs{}, {:.0} GiB, Linux {}",
            self.processor,
            self.cpus,
            if self.is_virtual { " (virtual)" } else { "" },
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.kernel
        )
    }
}
