//! The threads that answer what shards ask about clients.
//!
//! Few, nice to the shards, and behind a queue with a cap: what does not fit is refused at once by the shard
//! that asks, and what has waited too long is refused without work, so that a storm of clients costs those
//! who are connected nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::access::{Access, Verifier};
use crate::broker::authentication::{Answer, Refusal};
use crate::config::Config;
use crate::shard::Asked;
use crate::shard::mesh::{Message, Peer};

/// How nice these threads are to the shards.
const NICE: i32 = 10;
/// How long an answer waits for room in a shard's inbox before it is dropped.
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// The way to the threads, and what they answer with.
#[derive(Debug)]
pub struct Verification {
    current: Arc<Mutex<Arc<Verifier>>>,
    /// The policy and the warnings of the last load.
    access: Access,
    secret: [u8; 32],
}

impl Verification {
    /// Reads and checks everything that the configuration names.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn load(config: &Config) -> Result<Self, Vec<String>> {
        let secret = crate::access::new_secret().map_err(|error| vec![error])?;
        let access = Access::load(config, secret, 1)?;
        Ok(Self {
            current: Arc::new(Mutex::new(Arc::clone(&access.verifier))),
            access,
            secret,
        })
    }

    /// What is in force.
    pub fn access(&self) -> &Access {
        &self.access
    }

    /// What `config` would put into force, without doing so.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn prepare(&self, config: &Config) -> Result<Access, Vec<String>> {
        Access::load(config, self.secret, self.access.verifier.generation() + 1)
    }

    /// Puts into force what was prepared; the shards get its policy next.
    pub fn replace(&mut self, access: Access) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::clone(&access.verifier);
        drop(current);
        self.access = access;
    }

    /// The queue for questions, if any client may have to be asked about.
    pub fn queue(config: &Config) -> (Sender<Asked>, Receiver<Asked>) {
        let waiting_max = config.access.authentication.waiting_max as usize;
        crossbeam_channel::bounded(waiting_max)
    }

    /// Starts the threads. They end with the process.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        &self,
        config: &Config,
        questions: &Receiver<Asked>,
        peers: &[Peer],
    ) -> std::io::Result<()> {
        let authentication = &config.access.authentication;
        let wait_max = Duration::from_secs(authentication.wait_s_max.into());
        for number in 0..authentication.threads {
            let worker = Worker {
                current: Arc::clone(&self.current),
                questions: questions.clone(),
                peers: peers.to_vec(),
                wait_max,
            };
            thread::Builder::new()
                .name(format!("verify-{number}"))
                .spawn(move || worker.run())?;
        }
        Ok(())
    }
}

struct Worker {
    current: Arc<Mutex<Arc<Verifier>>>,
    questions: Receiver<Asked>,
    peers: Vec<Peer>,
    wait_max: Duration,
}

impl Worker {
    fn run(&self) {
        // On Linux this is for the calling thread. If it is not allowed, all works as well.
        let _ = rustix::process::nice(NICE);
        while let Ok(asked) = self.questions.recv() {
            let verifier = self.verifier();
            let verdict = match asked.at.elapsed() > self.wait_max {
                true => asked.question.asked.refused(Refusal::Busy),
                false => verifier.answer(*asked.question.asked),
            };
            let answer = Answer {
                slot: asked.question.slot,
                serial: asked.question.serial,
                generation: verifier.generation(),
                verdict,
            };
            if let Some(peer) = self.peers.get(asked.shard.index()) {
                send(peer, Message::Answer(Box::new(answer)));
            }
        }
    }

    fn verifier(&self) -> Arc<Verifier> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

/// Puts a message into a shard's inbox, which is emptied in every turn.
fn send(peer: &Peer, mut message: Message) {
    let deadline = Instant::now() + ANSWER_PATIENCE;
    while let Err(back) = peer.send(message) {
        if Instant::now() > deadline {
            tracing::warn!("a shard does not take an answer about a client");
            return;
        }
        message = back;
        thread::sleep(Duration::from_millis(1));
    }
}
