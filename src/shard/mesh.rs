//! The inboxes of the shards and the doorbells that wake them.
//!
//! One bounded channel per shard carries whole batches; a busy shard is never rung (`sleeping`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, SendTimeoutError, Sender, TrySendError};
use rustix::event::{EventfdFlags, eventfd};

use crate::broker::authentication::Answer;
use crate::broker::envelope::Batch;
use crate::broker::policy::Policy;
use crate::config::Config;
use crate::config::limits::READ_BATCHES_MAX;

use super::connection::Handover;
use super::control::Question;
use super::reconfigure::ListenerChange;
use super::sleeping::Sleeping;

/// What comes into an inbox.
#[derive(Debug)]
pub enum Message {
    /// Envelopes of another shard.
    Batch(Batch),
    /// A connection whose home is here.
    Adopt(Box<Handover>),
    /// A question of the control thread.
    Ask(Box<Question>),
    /// Every shard is ready: accept.
    Open,
    /// What was asked about a client is answered.
    Answer(Box<Answer>),
    /// From now on this policy holds.
    Policy(Arc<Policy>),
    /// The configuration is this from now on.
    Reconfigure(Arc<Config>),
    /// Listeners are opened, moved or closed. Every shard has a configuration with their places by then.
    Listeners(Vec<ListenerChange>),
    /// Answer from within a turn: which shard, and how many connections it has.
    Beat(Sender<(u16, usize)>),
    /// Stop accepting, tell the clients, and end when they are gone.
    Drain,
}

/// Why a shard did not get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// It is no more.
    Ended,
    /// Its inbox stays full.
    Stuck,
}

/// Wakes a shard that sleeps in its ring.
#[derive(Debug)]
pub struct Doorbell {
    eventfd: OwnedFd,
    sleeping: Sleeping,
}

impl Doorbell {
    fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self {
            eventfd,
            sleeping: Sleeping::new(),
        })
    }

    /// What the shard's ring reads.
    pub fn eventfd(&self) -> BorrowedFd<'_> {
        self.eventfd.as_fd()
    }

    /// The shard is about to sleep; it must look at its inbox once more.
    pub fn set_sleeping(&self) {
        self.sleeping.set();
    }

    /// The shard is awake.
    pub fn set_awake(&self) {
        self.sleeping.clear();
    }

    /// Wakes the shard if it sleeps.
    fn ring(&self) {
        if self.sleeping.must_be_woken() {
            // Fails only when the counter is full, and then the shard is being woken already.
            let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
        }
    }
}

/// The way to a shard.
#[derive(Clone, Debug)]
pub struct Peer {
    sender: Sender<Message>,
    read: Sender<Batch>,
    doorbell: Arc<Doorbell>,
}

impl Peer {
    /// Puts a message into the inbox and wakes the shard if it sleeps.
    ///
    /// # Errors
    /// Gives the message back if the inbox is full or its shard has ended.
    pub fn send(&self, message: Message) -> Result<(), Message> {
        match self.sender.try_send(message) {
            Ok(()) => {
                self.doorbell.ring();
                Ok(())
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => Err(message),
        }
    }

    /// The same from a thread that may wait, for a message that must not be lost: a full inbox is emptied
    /// within a turn.
    ///
    /// # Errors
    /// The shard has ended or takes nothing for so long.
    pub fn send_within(&self, message: Message, patience: Duration) -> Result<(), Unsent> {
        self.sender
            .send_timeout(message, patience)
            .map_err(|error| match error {
                SendTimeoutError::Disconnected(_) => Unsent::Ended,
                SendTimeoutError::Timeout(_) => Unsent::Stuck,
            })?;
        self.doorbell.ring();
        Ok(())
    }

    /// Gives the shard a batch back that it sent, empty. It is not woken; if it has enough of them, the
    /// batch is freed.
    pub fn give_back(&self, read: Batch) {
        let _ = self.read.try_send(read);
    }
}

/// A shard's own end.
#[derive(Debug)]
pub struct Inbox {
    receiver: Receiver<Message>,
    /// The shard's own batches, read by their targets.
    read: Receiver<Batch>,
    doorbell: Arc<Doorbell>,
}

impl Inbox {
    /// The next message.
    pub fn next(&self) -> Option<Message> {
        self.receiver.try_recv().ok()
    }

    /// A batch of this shard that its target has read.
    pub fn given_back(&self) -> Option<Batch> {
        self.read.try_recv().ok()
    }

    /// Whether nothing is there.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// How many messages are there.
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// The shard's doorbell.
    pub fn doorbell(&self) -> &Arc<Doorbell> {
        &self.doorbell
    }
}

/// Makes the inboxes of `count` shards, of `inbox_batches_max` messages each, and the ways to them.
///
/// # Errors
/// If the kernel has no descriptors left for the doorbells.
pub fn connect(count: u16, inbox_batches_max: usize) -> io::Result<(Vec<Peer>, Vec<Inbox>)> {
    let mut peers = Vec::new();
    let mut inboxes = Vec::new();
    for _ in 0..count {
        let (sender, receiver) = crossbeam_channel::bounded(inbox_batches_max);
        let (give_back, read) = crossbeam_channel::bounded(READ_BATCHES_MAX);
        let doorbell = Arc::new(Doorbell::new()?);
        peers.push(Peer {
            sender,
            read: give_back,
            doorbell: Arc::clone(&doorbell),
        });
        inboxes.push(Inbox {
            receiver,
            read,
            doorbell,
        });
    }
    Ok((peers, inboxes))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_gives_the_message_back() {
        let (peers, inboxes) = connect(1, 1).unwrap();
        assert!(peers[0].send(Message::Drain).is_ok());
        assert!(peers[0].send(Message::Drain).is_err());
        assert!(inboxes[0].next().is_some());
        assert!(peers[0].send(Message::Drain).is_ok());
    }

    #[test]
    fn only_a_sleeping_shard_is_rung() {
        let (peers, inboxes) = connect(1, 8).unwrap();
        let rung = || {
            let eventfd = inboxes[0].doorbell().eventfd();
            let mut poll = [rustix::event::PollFd::new(
                &eventfd,
                rustix::event::PollFlags::IN,
            )];
            let now = rustix::time::Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            };
            rustix::event::poll(&mut poll, Some(&now)).unwrap() > 0
        };
        peers[0].send(Message::Drain).unwrap();
        assert!(!rung());
        inboxes[0].doorbell().set_sleeping();
        peers[0].send(Message::Drain).unwrap();
        assert!(rung());
    }
}
