//! The audit log: a line for every administrative act, done or refused.

use super::access::Access;

/// Logs an act. The target is at least `info` whatever the level of the log is.
pub(super) fn done(access: &Access, act: &'static str, subject: &str, detail: &str, done: bool) {
    let role = format!("{:?}", access.role).to_lowercase();
    tracing::info!(
        target: "ringmq::audit",
        actor = access.actor,
        role,
        act,
        subject,
        detail,
        outcome = if done { "done" } else { "nothing to do" },
        "administrative act"
    );
}

/// Logs a request that was refused for want of a role.
pub(super) fn refused(actor: &str, method: &str, path: &str, status: u16) {
    tracing::info!(
        target: "ringmq::audit",
        actor,
        act = "request",
        subject = path,
        detail = method,
        status,
        outcome = "refused",
        "administrative act"
    );
}
