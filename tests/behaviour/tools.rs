//! What the program does besides serving: looks at the machine, translates, describes itself.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::broker::binary;

fn ringmq(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn doctor_says_the_same_to_people_to_programs_and_by_its_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    for profile in ["balanced", "latency", "throughput", "density"] {
        let arguments = ["doctor", "--profile", profile, "--data-dir", data];
        let text = ringmq(&arguments);
        let json = ringmq(&[&arguments[..], &["--json"]].concat());
        let report: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
        assert_eq!(report["profile"], profile);
        let checks = report["checks"].as_array().unwrap();
        assert!(checks.len() > 10, "{report}");
        let changes = checks
            .iter()
            .filter(|check| check["verdict"] == "change")
            .count();
        assert_eq!(
            stdout(&text).matches("\n  change  ").count(),
            changes,
            "{text:?}"
        );
        let code = if changes > 0 { 7 } else { 0 };
        for output in [&text, &json] {
            assert_eq!(output.status.code(), Some(code), "{output:?}");
        }
        let measured = checks.iter().any(|check| {
            let name = check["name"].as_str().unwrap();
            name.starts_with("fsync in") && check["found"].as_str().unwrap().contains("as a rule")
        });
        assert!(measured, "{report}");
    }
    assert_eq!(
        std::fs::read_dir(data).unwrap().count(),
        0,
        "it changes nothing"
    );
    assert_eq!(
        ringmq(&["doctor", "--profile", "speed"]).status.code(),
        Some(2)
    );
}

#[test]
fn doctor_takes_profile_and_limits_from_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("r.toml");
    std::fs::write(
        &file,
        "profile = \"density\"\nnetwork.listen_backlog = 65535\n",
    )
    .unwrap();
    let output = ringmq(&["doctor", "--json", "--config", file.to_str().unwrap()]);
    let report: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(report["profile"], "density");
    let checks = report["checks"].as_array().unwrap();
    let backlog = checks
        .iter()
        .find(|check| check["name"] == "backlog for network.listen_backlog");
    assert_eq!(backlog.unwrap()["wanted"], "at least 65535");
}

#[test]
fn import_writes_a_file_that_check_takes_and_lists_what_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (theirs, ours) = (path("mosquitto.conf"), path("ringmq.toml"));
    std::fs::write(
        &theirs,
        "listener 1883 127.0.0.1\nallow_anonymous true\nlog_dest syslog\n",
    )
    .unwrap();
    let output = ringmq(&["import", &theirs, "--output", &ours]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).contains(&format!("{theirs}:3: log_dest syslog")),
        "{output:?}"
    );
    let checked = ringmq(&["check", &ours]);
    assert!(checked.status.success(), "{checked:?}");
    // Without --output it is a filter: the configuration alone on standard output.
    let printed = ringmq(&["import", &theirs]);
    assert_eq!(stdout(&printed), std::fs::read_to_string(&ours).unwrap());
    let missing = ringmq(&["import", &path("none")]);
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn the_program_describes_itself() {
    assert!(stdout(&ringmq(&["man"])).contains(".SH \"EXIT STATUS\""));
    assert!(stdout(&ringmq(&["man", "reload"])).contains("dry\\-run"));
    assert_eq!(ringmq(&["man", "fly"]).status.code(), Some(2));
    assert!(stdout(&ringmq(&["completions", "bash"])).contains("complete -F _ringmq"));
}

/// A machine with an interface of two receive queues, as files.
fn fake_machine() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for file in [
        "proc/irq/30/smp_affinity_list",
        "proc/irq/31/smp_affinity_list",
        "sys/class/net/eth0/device/msi_irqs/30",
        "sys/class/net/eth0/device/msi_irqs/31",
        "sys/class/net/eth0/queues/rx-0/rps_cpus",
        "sys/class/net/eth0/queues/rx-0/rps_flow_cnt",
        "sys/class/net/eth0/queues/rx-1/rps_cpus",
        "sys/class/net/eth0/queues/rx-1/rps_flow_cnt",
        "sys/class/net/eth0/queues/tx-0/xps_cpus",
        "sys/class/net/eth0/queues/tx-1/xps_cpus",
    ] {
        let path = root.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "").unwrap();
    }
    root
}

fn affinity(profile: &str, root: &Path, arguments: &[&str]) -> Output {
    let script = format!(
        "{}/tuning/profiles/{profile}/affinity",
        env!("CARGO_MANIFEST_DIR")
    );
    Command::new(script)
        .arg("--root")
        .arg(root)
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn affinity_scripts_print_first_and_write_when_told() {
    let cases = [
        ("latency", ["0", "1", "0", "", "00000004", "00000008"]),
        // Four CPUs and two queues: packets are handed on. CPU 35 is in the second group of the mask.
        (
            "throughput",
            [
                "2",
                "3",
                "00000008,0000001c",
                "16384",
                "00000004",
                "00000008",
            ],
        ),
        ("density", ["2", "3", "00000008,0000001c", "16384", "", ""]),
    ];
    for (profile, expected) in cases {
        let root = fake_machine();
        let read = |file: &str| std::fs::read_to_string(root.path().join(file)).unwrap();
        let files = [
            "proc/irq/30/smp_affinity_list",
            "proc/irq/31/smp_affinity_list",
            "sys/class/net/eth0/queues/rx-1/rps_cpus",
            "sys/class/net/eth0/queues/rx-1/rps_flow_cnt",
            "sys/class/net/eth0/queues/tx-0/xps_cpus",
            "sys/class/net/eth0/queues/tx-1/xps_cpus",
        ];
        let arguments = ["--shards", "2-4,35", "--others", "0-1", "eth0"];
        let dry = affinity(profile, root.path(), &arguments);
        assert!(dry.status.success(), "{dry:?}");
        assert!(
            files.iter().all(|file| read(file).is_empty()),
            "{profile}: it only prints"
        );
        let wet = affinity(
            profile,
            root.path(),
            &[&arguments[..], &["--apply"]].concat(),
        );
        assert_eq!(stdout(&dry), stdout(&wet));
        for (file, expected) in files.iter().zip(expected) {
            assert_eq!(read(file).trim(), expected, "{profile}: {file}");
        }
        let isolates = stdout(&dry).contains("isolcpus=managed_irq,domain,2-4,35");
        assert_eq!(isolates, profile == "latency");
    }
    let root = fake_machine();
    assert_eq!(
        affinity("latency", root.path(), &["--shards", "2", "eth0"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        affinity("density", root.path(), &["--shards", "2", "eth9"])
            .status
            .code(),
        Some(2)
    );
}

#[test]
fn the_configurations_in_the_tree_are_good() {
    let tuning = format!("{}/tuning", env!("CARGO_MANIFEST_DIR"));
    for file in [
        "debian",
        "profiles/latency",
        "profiles/throughput",
        "profiles/density",
    ] {
        let output = ringmq(&["check", &format!("{tuning}/{file}/ringmq.toml")]);
        assert!(output.status.success(), "{output:?}");
    }
}
