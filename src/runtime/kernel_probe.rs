//! Whether this kernel and these limits can carry RingMQ, and if not, what to do.
//!
//! Used by `main` before anything else is started. [`gather`] looks at the machine; [`diagnose`] judges,
//! and can be tested with machines that are not there.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::net::ring::{Ring, RingConfig};

/// The oldest kernel: multishot receive with provided buffers and DEFER_TASKRUN.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// What glommio asks for on each executor, bytes.
const MEMLOCK_BYTES_MIN: u64 = 512 << 10;
/// Below this the broker cannot even start.
const DESCRIPTORS_MIN: u64 = 64;
/// Below this a warning: each connection takes one.
const DESCRIPTORS_FEW: u64 = 4096;

/// Why a tiny ring could not be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RingFailure {
    /// What the kernel refused.
    pub step: String,
    /// With which error number.
    pub errno: Option<i32>,
    /// The error as text.
    pub message: String,
}

/// What the machine is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// `/proc/sys/kernel/io_uring_disabled`, where the kernel has it.
    pub io_uring_disabled: Option<u8>,
    /// Whether a tiny ring can be made.
    pub ring: Result<(), RingFailure>,
    /// Memory that may be locked, bytes; `None` is without limit.
    pub memlock: Option<u64>,
    /// Descriptors that may be open; `None` is without limit.
    pub descriptors: Option<u64>,
}

/// A machine that can carry the broker, for the start-up block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `uname -r`.
    pub release: String,
    /// What the ring uses.
    pub features: &'static [&'static str],
    /// Descriptors that may be open; `None` is without limit.
    pub descriptors: Option<u64>,
    /// What works, but may not be meant so; one line each.
    pub warnings: Vec<String>,
}

impl Report {
    /// The line of the start-up block.
    pub fn line(&self) -> String {
        let descriptors = match self.descriptors {
            Some(number) => number.to_string(),
            None => "unlimited".into(),
        };
        format!(
            "kernel {}, io_uring ({}), {descriptors} descriptors",
            self.release,
            self.features.join(", ")
        )
    }
}

/// Why the broker cannot run here. Displayed as one line: what is wrong and how to mend it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Diagnosis {
    /// The kernel is older than 6.1.
    #[error("the kernel is {0}, and RingMQ needs Linux 6.1 or later; boot a later kernel")]
    KernelTooOld(String),
    /// `io_uring_setup` does not exist.
    #[error(
        "this kernel ({0}) has no io_uring; use one that is built with CONFIG_IO_URING=y, not a sandbox such as gVisor"
    )]
    NoIoUring(String),
    /// The administrator switched io_uring off.
    #[error(
        "io_uring is switched off: kernel.io_uring_disabled is {0}; run \"sysctl -w kernel.io_uring_disabled=0\"{alternative}",
        alternative = group_alternative(*.0)
    )]
    SwitchedOff(u8),
    /// A filter forbids io_uring.
    #[error(
        "io_uring is forbidden to this process ({step}), though the kernel allows it: most likely the seccomp profile of a \
         container or service; allow io_uring_setup, io_uring_enter and io_uring_register (Docker: --security-opt \
         seccomp=PROFILE; systemd: SystemCallFilter=@aio)"
    )]
    Forbidden {
        /// What the kernel refused.
        step: String,
    },
    /// Too little memory may be locked.
    #[error(
        "only {have} bytes of memory may be locked, and {MEMLOCK_BYTES_MIN} are needed; raise the limit (systemd: \
         LimitMEMLOCK=infinity; shell: ulimit -l unlimited; Docker: --ulimit memlock=-1)"
    )]
    Memlock {
        /// The limit.
        have: u64,
    },
    /// The kernel has no memory for a ring, whatever the limits.
    #[error(
        "the kernel has no memory for a ring ({step}); free memory, or raise the memory limit of the container or service"
    )]
    NoMemory {
        /// What the kernel refused.
        step: String,
    },
    /// Too few descriptors.
    #[error(
        "only {have} descriptors may be open, and {DESCRIPTORS_MIN} are needed to start; raise the limit (systemd: \
         LimitNOFILE=1048576; shell: ulimit -n 1048576; Docker: --ulimit nofile=1048576)"
    )]
    Descriptors {
        /// The limit.
        have: u64,
    },
    /// Something else.
    #[error(
        "a ring cannot be made on kernel {release}: {step}: {message}; RingMQ needs Linux 6.1 or later with all of io_uring"
    )]
    Ring {
        /// `uname -r`.
        release: String,
        /// What the kernel refused.
        step: String,
        /// What it said.
        message: String,
    },
}

/// Value 1 leaves io_uring to a group and to administrators.
fn group_alternative(value: u8) -> &'static str {
    match value {
        1 => ", or add the broker's group as kernel.io_uring_group",
        _ => "",
    }
}

/// Judges the facts.
///
/// # Errors
/// The first reason why the broker cannot run, the most fundamental first.
pub fn diagnose(facts: &Facts) -> Result<Report, Diagnosis> {
    // A release that is no number is some vendor's; the ring decides then.
    if version(&facts.release).is_some_and(|version| version < KERNEL_MIN) {
        return Err(Diagnosis::KernelTooOld(facts.release.clone()));
    }
    if let Some(have) = facts.descriptors.filter(|have| *have < DESCRIPTORS_MIN) {
        return Err(Diagnosis::Descriptors { have });
    }
    if let Err(failure) = &facts.ring {
        return Err(ring_diagnosis(facts, failure));
    }
    if let Some(have) = facts.memlock.filter(|have| *have < MEMLOCK_BYTES_MIN) {
        return Err(Diagnosis::Memlock { have });
    }
    let few = facts.descriptors.filter(|have| *have < DESCRIPTORS_FEW);
    let warnings = few.map(|have| {
        format!(
            "only {have} descriptors may be open, and each connection takes one; raise the limit (systemd: \
             LimitNOFILE=1048576; shell: ulimit -n 1048576)"
        )
    });
    Ok(Report {
        release: facts.release.clone(),
        features: &[
            "multishot accept and receive",
            "provided buffers",
            "DEFER_TASKRUN",
        ],
        descriptors: facts.descriptors,
        warnings: warnings.into_iter().collect(),
    })
}

fn ring_diagnosis(facts: &Facts, failure: &RingFailure) -> Diagnosis {
    let step = failure.step.clone();
    match (failure.errno, facts.io_uring_disabled) {
        (Some(libc::ENOSYS), _) => Diagnosis::NoIoUring(facts.release.clone()),
        (Some(libc::EPERM), Some(value @ 1..)) => Diagnosis::SwitchedOff(value),
        (Some(libc::EPERM | libc::EACCES), _) => Diagnosis::Forbidden { step },
        (Some(libc::ENOMEM), _) => match facts.memlock {
            Some(have) if have < MEMLOCK_BYTES_MIN => Diagnosis::Memlock { have },
            _ => Diagnosis::NoMemory { step },
        },
        _ => Diagnosis::Ring {
            release: facts.release.clone(),
            step,
            message: failure.message.clone(),
        },
    }
}

/// Major and minor number of a release like `6.8.0-45-generic`.
pub fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Looks at this machine. Raises the limits of this process as far as it may, and tries a tiny ring.
pub fn gather() -> Facts {
    let descriptors = raise(Resource::Nofile);
    let memlock = raise(Resource::Memlock);
    Facts {
        release: rustix::system::uname()
            .release()
            .to_string_lossy()
            .into_owned(),
        io_uring_disabled: std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled")
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        ring: try_ring(),
        memlock,
        descriptors,
    }
}

/// Raises a soft limit to the hard one and says what holds then. A limit that cannot be raised is judged
/// as it is.
fn raise(resource: Resource) -> Option<u64> {
    let limit = getrlimit(resource);
    if limit.current != limit.maximum {
        let raised = Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        };
        if let Err(error) = setrlimit(resource, raised) {
            tracing::debug!(?resource, %error, "a limit cannot be raised");
        }
    }
    getrlimit(resource).current
}

fn try_ring() -> Result<(), RingFailure> {
    let tiny = RingConfig {
        submission_entries: 8,
        buffer_count: 16,
        buffer_bytes: 1024,
    };
    match Ring::new(&tiny) {
        Ok(_) => Ok(()),
        Err(error) => Err(RingFailure {
            step: error.step.into(),
            errno: error.source.raw_os_error(),
            message: error.source.to_string(),
        }),
    }
}

#[cfg(test)]
#[path = "kernel_probe_tests.rs"]
mod tests;
