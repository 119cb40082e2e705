//! Tests of the kernel probe, with machines that are not there.

use super::*;

fn good() -> Facts {
    Facts {
        release: "6.8.0-45-generic".into(),
        io_uring_disabled: Some(0),
        ring: Ok(()),
        memlock: None,
        descriptors: Some(1 << 20),
    }
}

fn refused(errno: i32) -> Result<(), RingFailure> {
    Err(RingFailure {
        step: "setup".into(),
        errno: Some(errno),
        message: "no".into(),
    })
}

#[track_caller]
fn diagnosis(facts: &Facts, parts: &[&str]) {
    let line = diagnose(facts).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    for part in parts {
        assert!(line.contains(part), "{part:?} is not in {line:?}");
    }
}

#[test]
fn a_good_machine_has_no_warnings() {
    let report = diagnose(&good()).unwrap();
    assert_eq!(report.warnings, [""; 0]);
    assert!(
        report
            .line()
            .starts_with("kernel 6.8.0-45-generic, io_uring (multishot")
    );
    let vendor = Facts {
        release: "custom".into(),
        descriptors: None,
        ..good()
    };
    assert!(
        diagnose(&vendor)
            .unwrap()
            .line()
            .ends_with("unlimited descriptors")
    );
}

#[test]
fn an_old_kernel_is_named_before_what_follows_from_it() {
    for release in ["5.15.0-1-generic", "6.0.9", "4.19"] {
        let old = Facts {
            release: release.into(),
            ring: refused(libc::EINVAL),
            ..good()
        };
        diagnosis(&old, &[release, "6.1"]);
    }
    for release in ["6.1.0", "6.10-rc1", "7.0.0", "10.0.1"] {
        assert!(
            diagnose(&Facts {
                release: release.into(),
                ..good()
            })
            .is_ok()
        );
    }
}

#[test]
fn each_refusal_has_its_remedy() {
    let with = |errno| Facts {
        ring: refused(errno),
        ..good()
    };
    diagnosis(&with(libc::ENOSYS), &["no io_uring", "CONFIG_IO_URING"]);
    diagnosis(&with(libc::EPERM), &["seccomp", "io_uring_setup", "Docker"]);
    diagnosis(&with(libc::EACCES), &["seccomp"]);
    diagnosis(&with(libc::ENOMEM), &["no memory", "setup"]);
    diagnosis(&with(libc::EINVAL), &["6.8.0", "setup: no"]);
    let off = |value| Facts {
        io_uring_disabled: Some(value),
        ..with(libc::EPERM)
    };
    diagnosis(&off(2), &["is 2", "sysctl -w kernel.io_uring_disabled=0"]);
    diagnosis(&off(1), &["is 1", "kernel.io_uring_group"]);
    // Where an administrator may use io_uring, the setting does not matter.
    assert!(
        diagnose(&Facts {
            io_uring_disabled: Some(1),
            ..good()
        })
        .is_ok()
    );
    let before_the_setting = Facts {
        io_uring_disabled: None,
        ..with(libc::EPERM)
    };
    diagnosis(&before_the_setting, &["seccomp"]);
}

#[test]
fn limits_are_judged() {
    let locked = |bytes| Facts {
        memlock: Some(bytes),
        ..good()
    };
    diagnosis(&locked(65_536), &["65536", "524288", "LimitMEMLOCK"]);
    let locked_out = Facts {
        ring: refused(libc::ENOMEM),
        ..locked(65_536)
    };
    diagnosis(&locked_out, &["LimitMEMLOCK"]);
    assert!(diagnose(&locked(512 << 10)).is_ok());
    let open = |number| Facts {
        descriptors: Some(number),
        ..good()
    };
    diagnosis(&open(63), &["63", "LimitNOFILE"]);
    assert_eq!(diagnose(&open(64)).unwrap().warnings.len(), 1);
    assert_eq!(diagnose(&open(4095)).unwrap().warnings.len(), 1);
    assert_eq!(diagnose(&open(4096)).unwrap().warnings.len(), 0);
}

#[test]
fn this_machine_is_looked_at() {
    let facts = gather();
    assert!(version(&facts.release).is_some());
    let limit = getrlimit(Resource::Nofile);
    assert_eq!(limit.current, facts.descriptors);
    // Whatever it is, it can be told in one line.
    let line = match diagnose(&facts) {
        Ok(report) => report.line(),
        Err(diagnosis) => diagnosis.to_string(),
    };
    assert!(!line.contains('\n'));
}
