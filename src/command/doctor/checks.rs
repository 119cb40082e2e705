//! What is wanted of a machine, and what to do where it is otherwise.

use std::path::Path;
use std::time::Duration;

use crate::config::{Config, Profile};
use crate::runtime::kernel_probe::{self, Facts};
use crate::runtime::placement;

use super::machine::{Machine, sync_latency};
use super::{Check, Verdict};

/// From here on a kernel has all that makes the ring cheap.
const KERNEL_RECOMMENDED: (u32, u32) = (6, 12);
/// A group commit that takes longer is felt by whoever waits for an acknowledgement.
const SYNC_WANTED: Duration = Duration::from_millis(5);
/// Descriptors that a profile for many clients wants.
const DESCRIPTORS_WANTED: u64 = 1 << 20;
/// Ports for connections from this machine, of bridges and of load generators.
const PORTS_WANTED: u64 = 28_000;

/// The settings of the kernel, with their reasons as comments above them.
fn sysctl_file(profile: Profile) -> &'static str {
    match profile {
        Profile::Balanced => include_str!("../../../tuning/sysctl.d/60-ringmq.conf"),
        Profile::Latency => include_str!("../../../tuning/profiles/latency/sysctl.conf"),
        Profile::Throughput => include_str!("../../../tuning/profiles/throughput/sysctl.conf"),
        Profile::Density => include_str!("../../../tuning/profiles/density/sysctl.conf"),
    }
}

/// Settings of which more is as good: limits. Of all others exactly the value is wanted.
const LIMITS: &[&str] = &[
    "net.core.somaxconn",
    "net.core.netdev_max_backlog",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_max_tw_buckets",
    "net.ipv4.tcp_max_orphans",
    "fs.file-max",
    "fs.nr_open",
];

/// Whether the kernel and the limits of this process carry the broker at all.
pub fn broker(facts: &Facts) -> Check {
    let check = |verdict, found: String, remedy| Check {
        name: "kernel, io_uring and limits".into(),
        verdict,
        found,
        wanted: "Linux 6.12 or later with io_uring, and a descriptor for each connection".into(),
        reason: "6.1 is needed; later kernels make the same work cheaper".into(),
        remedy,
    };
    match kernel_probe::diagnose(facts) {
        Err(diagnosis) => check(
            Verdict::Broken,
            facts.release.clone(),
            Some(diagnosis.to_string()),
        ),
        Ok(report) if !report.warnings.is_empty() => check(
            Verdict::Change,
            report.line(),
            Some(report.warnings.join("; ")),
        ),
        Ok(report) => match kernel_probe::version(&facts.release) {
            Some(version) if version < KERNEL_RECOMMENDED => check(
                Verdict::Change,
                report.line(),
                Some("boot a later kernel".into()),
            ),
            _ => check(Verdict::Good, report.line(), None),
        },
    }
}

/// Everything that can be read from the machine's files.
pub fn machine(machine: &Machine, profile: Profile, config: &Config) -> Vec<Check> {
    let mut checks = sysctls(machine, profile);
    checks.push(backlog(machine, config));
    checks.push(descriptors(machine, profile));
    checks.push(tcp_memory(machine));
    checks.push(ports(machine));
    checks.push(governor(machine, profile));
    checks.extend(interfaces(machine));
    checks.push(isolated(machine, profile));
    checks.push(huge_pages(machine));
    checks.push(clock(machine));
    checks
}

fn sysctls(machine: &Machine, profile: Profile) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut reason = Vec::new();
    let mut is_told = false;
    for line in sysctl_file(profile).lines() {
        if let Some(comment) = line.strip_prefix('#') {
            // A comment is for all settings below it, up to the next one.
            if std::mem::take(&mut is_told) {
                reason.clear();
            }
            reason.push(comment.trim());
            continue;
        }
        is_told = true;
        if let Some((name, wanted)) = line.split_once(" = ") {
            let found = machine.sysctl(name);
            let verdict = match &found {
                None => Verdict::Unknown,
                Some(found) if is_enough(name, found, wanted) => Verdict::Good,
                Some(_) => Verdict::Change,
            };
            checks.push(Check {
                name: name.into(),
                verdict,
                found: found.unwrap_or_else(|| "this kernel does not have it".into()),
                wanted: wanted.into(),
                reason: reason.join(" "),
                remedy: (verdict == Verdict::Change)
                    .then(|| format!("sysctl -w {name}=\"{wanted}\"")),
            });
        }
    }
    checks
}

fn is_enough(name: &str, found: &str, wanted: &str) -> bool {
    match (found.parse::<u64>(), wanted.parse::<u64>()) {
        (Ok(found), Ok(wanted)) if LIMITS.contains(&name) => found >= wanted,
        _ => found == wanted,
    }
}

/// A number that must not be too low.
fn at_least(name: &str, found: Option<u64>, wanted: u64, reason: &str, remedy: String) -> Check {
    let verdict = match found {
        None => Verdict::Unknown,
        Some(found) if found >= wanted => Verdict::Good,
        Some(_) => Verdict::Change,
    };
    Check {
        name: name.into(),
        verdict,
        found: found.map_or_else(|| "unknown".into(), |found| found.to_string()),
        wanted: format!("at least {wanted}"),
        reason: reason.into(),
        remedy: (verdict == Verdict::Change).then_some(remedy),
    }
}

fn backlog(machine: &Machine, config: &Config) -> Check {
    let wanted = u64::from(config.network.listen_backlog);
    at_least(
        "backlog for network.listen_backlog",
        machine
            .sysctl("net.core.somaxconn")
            .and_then(|text| text.parse().ok()),
        wanted,
        "the kernel cuts listen_backlog down to net.core.somaxconn",
        format!("sysctl -w net.core.somaxconn={wanted}"),
    )
}

fn descriptors(machine: &Machine, profile: Profile) -> Check {
    let limits = machine.text("proc/self/limits").unwrap_or_default();
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .and_then(|line| line.split_whitespace().nth(1));
    let found = match hard {
        Some("unlimited") => Some(u64::MAX),
        text => text.and_then(|text| text.parse().ok()),
    };
    let wanted = match profile {
        Profile::Latency => 65_536,
        _ => DESCRIPTORS_WANTED,
    };
    at_least(
        "descriptors of a process",
        found,
        wanted,
        "one for each connection; as found for this process, a service has its own limit",
        format!("LimitNOFILE={wanted} in the unit, or ulimit -n {wanted}"),
    )
}

fn tcp_memory(machine: &Machine) -> Check {
    let pages: Option<Vec<u64>> = machine.sysctl("net.ipv4.tcp_mem").map(|text| {
        text.split(' ')
            .filter_map(|word| word.parse().ok())
            .collect()
    });
    let most = pages
        .and_then(|pages| pages.get(2).copied())
        .map(|pages| pages * 4096);
    // A twelfth of the memory is about what kernels choose by themselves.
    let wanted = machine.memory_bytes().map_or(0, |bytes| bytes / 12);
    at_least(
        "net.ipv4.tcp_mem, in bytes",
        most,
        wanted,
        "beyond it the kernel drops what sockets send and receive",
        format!(
            "sysctl -w net.ipv4.tcp_mem with a third number of {}",
            wanted / 4096
        ),
    )
}

fn ports(machine: &Machine) -> Check {
    let range = machine
        .sysctl("net.ipv4.ip_local_port_range")
        .unwrap_or_default();
    let mut bounds = range.split(' ').filter_map(|word| word.parse::<u64>().ok());
    let found = match (bounds.next(), bounds.next()) {
        (Some(first), Some(last)) => Some(last.saturating_sub(first)),
        _ => None,
    };
    at_least(
        "net.ipv4.ip_local_port_range, in ports",
        found,
        PORTS_WANTED,
        "each connection that this machine makes to one address takes one; those that it accepts take none",
        "sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"".into(),
    )
}

/// What a check found, as good or to be changed.
fn judged(name: &str, good: bool, found: String, texts: (&str, &str, &str)) -> Check {
    let (wanted, reason, remedy) = texts;
    Check {
        name: name.into(),
        verdict: if good { Verdict::Good } else { Verdict::Change },
        found,
        wanted: wanted.into(),
        reason: reason.into(),
        remedy: (!good).then(|| remedy.into()),
    }
}

fn unknown(name: &str, found: &str) -> Check {
    Check {
        name: name.into(),
        verdict: Verdict::Unknown,
        found: found.into(),
        wanted: String::new(),
        reason: String::new(),
        remedy: None,
    }
}

fn governor(machine: &Machine, profile: Profile) -> Check {
    let governors = machine.governors();
    if governors.is_empty() {
        return unknown(
            "frequency governor",
            "none: the machine or its host decides",
        );
    }
    let performance = governors == ["performance"];
    let matters = matches!(profile, Profile::Latency | Profile::Throughput);
    let texts = (
        "performance",
        "a CPU that has slowed down takes milliseconds to speed up",
        "cpupower frequency-set -g performance",
    );
    judged(
        "frequency governor",
        performance || !matters,
        governors.join(", "),
        texts,
    )
}

fn interfaces(machine: &Machine) -> Vec<Check> {
    let cpus = machine.cpus("sys/devices/system/cpu/online").len();
    let interfaces = machine.interfaces();
    if interfaces.is_empty() {
        return vec![unknown("network queues", "no interface with hardware")];
    }
    let check = |interface: &super::machine::Interface| {
        let good = interface.queues >= cpus || interface.steers;
        let steering = if interface.steers { "with" } else { "without" };
        let found = format!("{} for {cpus} CPUs, {steering} RPS", interface.queues);
        let texts = (
            "a receive queue for each CPU, or RPS",
            "packets of one queue are handled by one CPU",
            "run the affinity script of the profile, or ethtool -L to have more queues",
        );
        judged(
            &format!("network queues of {}", interface.name),
            good,
            found,
            texts,
        )
    };
    interfaces.iter().map(check).collect()
}

fn isolated(machine: &Machine, profile: Profile) -> Check {
    let isolated = machine.cpus("sys/devices/system/cpu/isolated");
    let found = match isolated.is_empty() {
        true => "none".into(),
        false => placement::list(&isolated),
    };
    let good = profile != Profile::Latency || !isolated.is_empty();
    let texts = (
        "the CPUs of the shards",
        "a shard that shares its CPU waits for whoever has it",
        "boot with isolcpus=, nohz_full= and rcu_nocbs= for the CPUs of the shards (see the affinity script)",
    );
    judged("isolated CPUs", good, found, texts)
}

fn huge_pages(machine: &Machine) -> Check {
    let reserved = machine
        .sysctl("vm.nr_hugepages")
        .and_then(|text| text.parse::<u64>().ok());
    let Some(reserved) = reserved else {
        return unknown("reserved huge pages", "this kernel has none");
    };
    let texts = (
        "0",
        "the broker uses none and switches transparent ones off for itself; what is reserved is lost to it",
        "sysctl -w vm.nr_hugepages=0, unless another program needs them",
    );
    judged(
        "reserved huge pages",
        reserved == 0,
        reserved.to_string(),
        texts,
    )
}

fn clock(machine: &Machine) -> Check {
    let path = "sys/devices/system/clocksource/clocksource0/current_clocksource";
    let Some(source) = machine.text(path) else {
        return unknown("clock", "the kernel does not say which it uses");
    };
    // These are read without a system call.
    let good = [
        "tsc",
        "kvm-clock",
        "hyperv_clocksource_tsc_page",
        "arch_sys_counter",
    ]
    .contains(&source.as_str());
    let texts = (
        "tsc, or the clock of the hypervisor",
        "the clock is read in every turn; others take a microsecond or a system call",
        "boot with clocksource=tsc tsc=reliable, if the machine's TSC is good",
    );
    judged("clock", good, source, texts)
}

/// How long a commit takes where the store is.
pub fn data_directory(directory: &Path) -> Check {
    let name = format!("fsync in {}", directory.display());
    match sync_latency(directory) {
        Err(error) => judged(
            &name,
            false,
            error.to_string(),
            (
                "a directory that can be written and synced",
                "acknowledged messages are kept there",
                "make it, on a local file system, for the broker's user",
            ),
        ),
        Ok((middle, longest)) => judged(
            &name,
            middle <= SYNC_WANTED,
            format!("{middle:.1?} as a rule, {longest:.1?} at most"),
            (
                "at most 5 ms as a rule",
                "with durability \"fsync\" every acknowledgement waits for one",
                "use a device with power loss protection, or durability = \"os\"",
            ),
        ),
    }
}

#[cfg(test)]
#[path = "checks_tests.rs"]
mod tests;
