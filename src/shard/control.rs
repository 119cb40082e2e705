//! Questions of the control thread: a bounded piece of work each, answered within the turn.

use std::fmt;

use rustix::time::{ClockId, clock_gettime};

use crate::broker::Now;
use crate::broker::ask::{Answer, Ask, ClientRow, ShardStats};
use crate::net::peer::PeerAddress;

use super::Shard;

/// Takes the answer to wherever it is waited for, without blocking.
pub struct Reply(Box<dyn FnOnce(Answer) + Send>);

impl Reply {
    /// Calls `take` with the answer.
    pub fn new(take: impl FnOnce(Answer) + Send + 'static) -> Self {
        Self(Box::new(take))
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A question and where its answer goes.
#[derive(Debug)]
pub struct Question {
    /// What is asked.
    pub ask: Ask,
    /// Where the answer goes.
    pub reply: Reply,
}

impl Shard {
    /// Answers, with what only the shard knows.
    pub(super) fn answer(&mut self, question: Question, now: Now) {
        self.watch.note_asked(name(&question.ask));
        let wanted_address = match &question.ask {
            Ask::Clients { filter, .. } => filter.address.clone(),
            _ => None,
        };
        let mut answer = self.broker.answer_question(question.ask, now);
        match &mut answer {
            Answer::Stats(stats) => self.complete_stats(stats),
            Answer::Clients(page) => {
                for row in &mut page.rows {
                    row.address = self.address(row).map(|address| address.to_string());
                }
                if let Some(wanted) = wanted_address {
                    page.rows.retain(|row| {
                        let address = row.slot.and_then(|_| self.address(row));
                        address.is_some_and(|address| is_at(address, &wanted))
                    });
                }
            }
            Answer::Client(Some(client)) => {
                client.row.address = self.address(&client.row).map(|address| address.to_string());
            }
            _ => {}
        }
        (question.reply.0)(answer);
    }

    fn address(&self, row: &ClientRow) -> Option<&PeerAddress> {
        let connection = self.connections.get(row.slot? as usize)?.as_deref()?;
        Some(&connection.peer)
    }

    fn complete_stats(&self, stats: &mut ShardStats) {
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let seconds = u64::try_from(cpu.tv_sec).unwrap_or(0);
        stats.cpu_ns = seconds * 1_000_000_000 + u64::try_from(cpu.tv_nsec).unwrap_or(0);
        stats.elapsed_ns = u64::try_from(self.running_since().elapsed().as_nanos()).unwrap_or(0);
        stats.inbox_depth = self.inbox_depth() as u64;
        stats.turns = self.watch.turns.clone();
        stats.stages.receive_to_route = self.watch.receive_to_route.clone();
        stats.stages.route_to_send = self.watch.route_to_send.clone();
        stats.buffers_exhausted = self.watch.buffers_exhausted;
        let network = &self.config.network;
        stats.receive_buffer_bytes =
            u64::from(network.receive_buffers) * u64::from(network.receive_buffer_bytes);
    }
}

/// Whether a client has this address: with its port, or without.
fn is_at(address: &PeerAddress, wanted: &str) -> bool {
    address.to_string() == wanted || ip_text(address).is_some_and(|ip| ip == wanted)
}

/// An address without its port.
pub(super) fn ip_text(address: &PeerAddress) -> Option<String> {
    address.ip().map(|ip| ip.to_canonical().to_string())
}

/// What a stall report calls a question.
fn name(ask: &Ask) -> &'static str {
    match ask {
        Ask::Stats => "metrics",
        Ask::Census { .. } => "census",
        Ask::Clients { .. } | Ask::Client(_) => "clients",
        Ask::Subscriptions { .. } => "subscriptions",
        Ask::Groups { .. } => "groups",
        Ask::Retained { .. } | Ask::RetainedMessage(_) => "retained",
        Ask::Top { .. } => "top",
        Ask::Recorder { .. } | Ask::RecorderEnd | Ask::Payloads { .. } => "recorder",
        _ => "act",
    }
}
