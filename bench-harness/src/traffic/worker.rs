//! One generator thread: connects its clients, and sends and receives through all phases of a run.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::engine::{Clock, Engine};
use crate::measure::latency::histogram;
use crate::measure::placement;

use super::board::{Board, CONNECTING, Lane};
use super::clients::Clients;
use super::ledger::{Faults, Sequence};
use super::plan::{Pace, Plan};
use super::schedule::Schedule;

/// How long a thread sleeps at most.
const SLEEP_MAX: Duration = Duration::from_millis(20);
/// How often a thread says what CPU time it has used.
const CPU_EVERY_NS: u64 = 10_000_000;

/// What all threads of a run are told.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Where the broker is.
    pub address: SocketAddr,
    /// What to do.
    pub plan: Arc<Plan>,
    /// In the names of clients and topics, so that no other run has the same.
    pub tag: String,
    /// What all see.
    pub board: Arc<Board>,
    /// The time of the run.
    pub clock: Clock,
    /// The CPUs of the threads, in turn; anywhere if empty.
    pub cpus: Vec<usize>,
}

/// What a thread saw in a phase.
pub struct Seen {
    /// Of messages that came.
    pub latency: Histogram<u64>,
    /// Of messages that were sent.
    pub lag: Histogram<u64>,
}

/// What a thread has to say at the end.
pub struct Outcome {
    /// By phase.
    pub seen: Vec<Seen>,
    /// Loss not included.
    pub faults: Faults,
    /// By publisher of this thread.
    pub sent: Vec<(usize, u32)>,
    /// What was heard of which publisher.
    pub sequences: Vec<(usize, Sequence)>,
}

/// The thread.
pub struct Worker {
    orders: Orders,
    thread: usize,
    engine: Engine,
    clients: Clients,
    schedule: Option<Schedule>,
    phase: usize,
    seen: Vec<Seen>,
    cpu_noted_ns: u64,
}

impl Worker {
    /// Runs thread `thread` from beginning to end.
    ///
    /// # Errors
    /// If clients cannot connect and subscribe, or the kernel refuses.
    pub fn run(orders: Orders, thread: usize) -> io::Result<Outcome> {
        if !orders.cpus.is_empty() {
            placement::pin(&[orders.cpus[thread % orders.cpus.len()]])?;
        }
        let mut worker = Self {
            thread,
            engine: Engine::new(orders.clock)?,
            clients: Clients::new(&orders.plan, &orders.board, thread, &orders.tag),
            schedule: None,
            phase: CONNECTING,
            seen: Vec::new(),
            cpu_noted_ns: 0,
            orders,
        };
        worker.connect()?;
        worker.lane().phase.set(1);
        while worker.turn()? {}
        if worker.orders.plan.persistent {
            worker.forget_sessions()?;
        }
        Ok(Outcome {
            seen: worker.seen,
            faults: worker.clients.faults,
            sent: worker.clients.sent().collect(),
            sequences: worker.clients.into_sequences(),
        })
    }

    fn lane(&self) -> &Lane {
        &self.orders.board.lanes[self.thread]
    }

    /// The Client Identifiers of this thread, publishers and subscribers.
    fn identifiers(&self) -> (Vec<String>, Vec<String>) {
        let (plan, tag) = (&self.orders.plan, &self.orders.tag);
        let publishers = (self.thread..plan.publishers).step_by(plan.threads);
        let subscribers = Clients::own_subscribers(plan, self.thread);
        (
            publishers
                .map(|one| format!("bench-{tag}-p{one}"))
                .collect(),
            subscribers
                .map(|one| format!("bench-{tag}-s{one}"))
                .collect(),
        )
    }

    fn connect(&mut self) -> io::Result<()> {
        let (publishers, subscribers) = self.identifiers();
        let (plan, address) = (Arc::clone(&self.orders.plan), self.orders.address);
        self.engine.ping(plan.keep_alive_s);
        let (first_publisher, connacks) =
            self.engine
                .connect_all(address, &publishers, plan.connect())?;
        let (first_subscriber, _) =
            self.engine
                .connect_all(address, &subscribers, plan.connect())?;
        let numbers: Vec<_> = Clients::own_subscribers(&plan, self.thread).collect();
        let connections = first_subscriber..first_subscriber + subscribers.len();
        let tag = &self.orders.tag;
        self.engine
            .subscribe_all(connections, plan.qos, plan.version, |place| {
                plan.topic_filters(tag, numbers[place])
            })?;
        let maxima = connacks.iter().map(|connack| connack.receive_maximum);
        self.clients
            .connected(first_publisher, first_subscriber, maxima);
        Ok(())
    }

    /// One turn; false when all is over.
    fn turn(&mut self) -> io::Result<bool> {
        let board = Arc::clone(&self.orders.board);
        let phase = board.phase();
        let now_ns = self.engine.now_ns();
        if phase != self.phase {
            self.enter(phase, now_ns);
        }
        if phase > board.phases + 1 {
            self.note_use(now_ns);
            return Ok(false);
        }
        let mut wait = SLEEP_MAX;
        if (1..=board.phases).contains(&phase) {
            wait = self.publish(now_ns);
        }
        self.clients.publish_waiting(&mut self.engine);
        self.engine.poll(wait, &mut self.clients)?;
        if now_ns - self.cpu_noted_ns > CPU_EVERY_NS {
            self.note_use(now_ns);
        }
        Ok(true)
    }

    /// Sends what is to be sent by now; gives the time until there may be more.
    fn publish(&mut self, now_ns: u64) -> Duration {
        match (&mut self.schedule, self.orders.plan.pace) {
            (Some(schedule), _) => {
                while let Some((publisher, due_ns)) = schedule.take_due(now_ns) {
                    self.clients
                        .publish_due(&mut self.engine, publisher, due_ns, now_ns);
                }
                Duration::from_nanos(schedule.next_ns().saturating_sub(now_ns)).min(SLEEP_MAX)
            }
            (None, Pace::Window(_)) => {
                self.clients.publish_window(&mut self.engine, now_ns);
                // What another thread hears opens a window here, and no event says so.
                match self.orders.plan.threads {
                    1 => SLEEP_MAX,
                    _ => Duration::ZERO,
                }
            }
            (None, Pace::Rate(_)) => Duration::ZERO,
        }
    }

    fn enter(&mut self, phase: usize, now_ns: u64) {
        let plan = &self.orders.plan;
        if self.phase == CONNECTING {
            if let Pace::Rate(rate) = plan.pace {
                let schedule =
                    Schedule::new(rate, plan.publishers, self.thread, plan.threads, now_ns);
                self.schedule = Some(schedule);
            }
        } else {
            self.seen.push(Seen {
                latency: std::mem::replace(&mut self.clients.latency, histogram()),
                lag: std::mem::replace(&mut self.clients.lag, histogram()),
            });
        }
        self.phase = phase;
        self.note_use(now_ns);
        // Phase 1 is told as "connected" before it begins, so every phase counts one more.
        self.lane().phase.set(phase as u64 + 1);
    }

    fn note_use(&mut self, now_ns: u64) {
        self.cpu_noted_ns = now_ns;
        let lane = self.lane();
        lane.cpu_ns.set(placement::thread_cpu_ns());
        lane.idle_ns.set(self.engine.idle_ns());
    }

    /// Connects all clients once more with Clean Session, so that nothing is left in the broker.
    fn forget_sessions(&mut self) -> io::Result<()> {
        let (publishers, subscribers) = self.identifiers();
        for number in 0..self.engine.len() {
            self.engine.close(number);
        }
        let mut connect = self.orders.plan.connect();
        connect.persistent = false;
        for identifiers in [publishers, subscribers] {
            self.engine
                .connect_all(self.orders.address, &identifiers, connect)?;
        }
        Ok(())
    }
}
