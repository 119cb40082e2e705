//! Machines made of files, good and bad ones.

use super::*;

/// A machine as the profile wants it.
fn good(profile: Profile) -> Vec<(String, String)> {
    let mut files: Vec<(String, String)> = sysctl_file(profile)
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, value)| (format!("proc/sys/{}", name.replace('.', "/")), value.into()))
        .collect();
    let others = [
        (
            "proc/self/limits",
            "Max open files            1024                 1048576              files     ",
        ),
        ("proc/meminfo", "MemTotal:       1200000 kB"),
        ("proc/sys/net/ipv4/tcp_mem", "20000\t30000\t50000"),
        ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999"),
        ("proc/sys/vm/nr_hugepages", "0"),
        ("sys/devices/system/cpu/online", "0-1"),
        ("sys/devices/system/cpu/isolated", "1"),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "performance",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc",
        ),
        ("sys/class/net/eth0/device/vendor", ""),
        ("sys/class/net/eth0/queues/rx-0/rps_cpus", "3"),
    ];
    // What the profile says holds.
    for (path, text) in others {
        if !files.iter().any(|(other, _)| other == path) {
            files.push((path.into(), text.into()));
        }
    }
    files
}

fn judge(files: &[(String, String)], profile: Profile) -> Vec<Check> {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    machine(&Machine::at(root.path()), profile, &Config::default())
}

const ALL: [Profile; 4] = [
    Profile::Balanced,
    Profile::Latency,
    Profile::Throughput,
    Profile::Density,
];

#[test]
fn a_machine_as_the_profile_wants_it_is_good() {
    for profile in ALL {
        for check in judge(&good(profile), profile) {
            assert_eq!(check.verdict, Verdict::Good, "{profile:?}: {check:?}");
            assert_eq!(check.remedy, None);
        }
    }
}

#[test]
fn each_setting_that_is_otherwise_is_found_with_its_remedy() {
    for profile in ALL {
        for (at, (path, _)) in good(profile).iter().enumerate() {
            let other = match path.as_str() {
                "proc/self/limits" => {
                    "Max open files            1024                 4096              files"
                }
                "sys/devices/system/cpu/isolated" if profile != Profile::Latency => continue,
                "sys/devices/system/cpu/isolated" => "",
                "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor" => match profile {
                    Profile::Latency | Profile::Throughput => "powersave",
                    _ => continue,
                },
                "sys/devices/system/clocksource/clocksource0/current_clocksource" => "hpet",
                "sys/class/net/eth0/queues/rx-0/rps_cpus" => "0",
                "proc/sys/vm/nr_hugepages" => "512",
                // The amount of memory and the number of CPUs are what others are compared with.
                "proc/meminfo" => "MemTotal: 999999999 kB",
                "sys/devices/system/cpu/online" | "sys/class/net/eth0/device/vendor" => continue,
                "proc/sys/net/ipv4/tcp_mem" => "1 1 1",
                "proc/sys/net/ipv4/ip_local_port_range" => "1 2",
                _ => "1",
            };
            let mut files = good(profile);
            if files[at].1 == other {
                continue;
            }
            files[at].1 = other.into();
            let checks = judge(&files, profile);
            let bad: Vec<_> = checks
                .iter()
                .filter(|check| check.verdict == Verdict::Change)
                .collect();
            assert!(!bad.is_empty(), "{profile:?}: {path} is {other}");
            for check in bad {
                assert!(
                    check.remedy.is_some() && !check.reason.is_empty(),
                    "{check:?}"
                );
            }
        }
    }
}

#[test]
fn more_than_a_limit_is_as_good_and_other_values_are_not() {
    assert!(is_enough("net.core.somaxconn", "70000", "65535"));
    assert!(!is_enough("net.core.somaxconn", "4096", "65535"));
    assert!(!is_enough("net.ipv4.tcp_slow_start_after_idle", "1", "0"));
    assert!(is_enough("net.ipv4.tcp_rmem", "1 2 3", "1 2 3"));
}

#[test]
fn a_machine_that_says_nothing_is_unknown_not_bad() {
    let checks = judge(&[], Profile::Density);
    let bad: Vec<_> = checks
        .iter()
        .filter(|check| check.verdict == Verdict::Change)
        .collect();
    assert!(bad.is_empty(), "{bad:?}");
    assert!(checks.iter().any(|check| check.verdict == Verdict::Unknown));
}

#[test]
fn every_setting_has_a_reason() {
    for profile in ALL {
        for check in judge(&good(profile), profile) {
            assert!(check.reason.len() > 20, "{profile:?}: {check:?}");
        }
    }
}

#[test]
fn an_old_kernel_is_broken_and_one_of_yesterday_works() {
    let facts = |release: &str| Facts {
        release: release.into(),
        io_uring_disabled: Some(0),
        ring: Ok(()),
        memlock: None,
        descriptors: Some(1 << 20),
    };
    for (release, verdict) in [
        ("5.15.0", Verdict::Broken),
        ("6.1.0-18-amd64", Verdict::Change),
        ("6.12.1", Verdict::Good),
    ] {
        assert_eq!(broker(&facts(release)).verdict, verdict, "{release}");
    }
}

#[test]
fn a_data_directory_is_measured_or_missed() {
    let directory = tempfile::tempdir().unwrap();
    let check = data_directory(directory.path());
    assert!(check.found.contains("as a rule"), "{check:?}");
    let check = data_directory(Path::new("/nonexistent"));
    assert_eq!(check.verdict, Verdict::Change);
}
