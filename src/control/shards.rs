//! Questions to the shards, and their answers.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::broker::ask::{Answer, Ask};
use crate::routing::topic_hash::{TopicHasher, shard_of};
use crate::shard::mesh::{Message, Peer};
use crate::shard::{Question, Reply};

use super::problem::Problem;

/// How long an answer may take; a shard answers within a turn.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long to wait before a full inbox is tried again.
const RETRY: Duration = Duration::from_millis(1);

/// The ways to the shards.
pub(super) struct Shards {
    peers: Vec<Peer>,
    hasher: TopicHasher,
}

impl Shards {
    pub(super) fn new(peers: Vec<Peer>, hasher: TopicHasher) -> Self {
        Self { peers, hasher }
    }

    pub(super) fn count(&self) -> u16 {
        // There are at most `SHARDS_MAX`.
        u16::try_from(self.peers.len()).unwrap_or(u16::MAX)
    }

    /// The shard that a client is at home on.
    pub(super) fn home_of(&self, client: &str) -> u16 {
        self.hasher.home_of(client, self.count()).0
    }

    /// The shard that owns a topic's retained message.
    pub(super) fn owner_of(&self, topic: &str) -> u16 {
        shard_of(self.hasher.hash(topic), self.count()).0
    }

    /// Asks one shard.
    pub(super) async fn ask(&self, shard: u16, ask: Ask) -> Result<Answer, Problem> {
        let waiting = self.send(shard, ask).await?;
        wait(waiting).await
    }

    /// Asks all shards at once; gives their answers in order.
    pub(super) async fn ask_all(&self, ask: impl Fn() -> Ask) -> Result<Vec<Answer>, Problem> {
        let mut waiting = Vec::new();
        for shard in 0..self.count() {
            waiting.push(self.send(shard, ask()).await?);
        }
        let mut answers = Vec::new();
        for one in waiting {
            answers.push(wait(one).await?);
        }
        Ok(answers)
    }

    async fn send(&self, shard: u16, ask: Ask) -> Result<oneshot::Receiver<Answer>, Problem> {
        let Some(peer) = self.peers.get(usize::from(shard)) else {
            return Err(Problem::bad_request("there is no such shard"));
        };
        let (sender, receiver) = oneshot::channel();
        let reply = Reply::new(move |answer| {
            // Whoever asked may have gone.
            let _ = sender.send(answer);
        });
        let mut message = Message::Ask(Box::new(Question { ask, reply }));
        let deadline = tokio::time::Instant::now() + ANSWER_WITHIN;
        loop {
            match peer.send(message) {
                Ok(()) => return Ok(receiver),
                Err(back) => message = back,
            }
            if tokio::time::Instant::now() >= deadline {
                return Err(Problem::unavailable("a shard's inbox stays full"));
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn wait(receiver: oneshot::Receiver<Answer>) -> Result<Answer, Problem> {
    match tokio::time::timeout(ANSWER_WITHIN, receiver).await {
        Ok(Ok(Answer::Refused(cause))) => Err(Problem::unprocessable(cause)),
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(Problem::unavailable("a shard has ended")),
        Err(_) => Err(Problem::unavailable("a shard does not answer")),
    }
}
