//! Publishers and subscribers: starts the generator's threads, leads them through the phases of a run, and puts
//! together what they saw.
//!
//! Every payload carries publisher, number and time, so that loss, duplicates and disorder are found.

pub mod board;
mod clients;
pub mod ledger;
pub mod plan;
pub mod schedule;
mod worker;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::measure::latency::{Latency, histogram};
use crate::measure::process::{self, Process};
use crate::report::{Generator, PhaseReport, Sample};
use crate::scenario::Context;

use board::Board;
use ledger::Faults;
use plan::{Pace, Plan};
use worker::{Orders, Outcome, Worker};

/// A part of a run.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// How long it lasts at least.
    pub seconds: f64,
    /// Whether it stands in the report.
    pub measured: bool,
}

impl Phase {
    /// A warm-up and one measured phase.
    pub fn simple(warmup_s: f64, seconds: f64) -> Vec<Self> {
        vec![
            Self {
                name: "warmup",
                seconds: warmup_s,
                measured: false,
            },
            Self {
                name: "measured",
                seconds,
                measured: true,
            },
        ]
    }
}

/// A boundary of a phase, with its number from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It begins.
    Begin(usize),
    /// Its time is over; it lasts until the call returns.
    End(usize),
}

/// What a run has shown.
#[derive(Debug)]
pub struct Result {
    /// Measured phases.
    pub phases: Vec<PhaseReport>,
    /// Over all of the run.
    pub faults: Faults,
    /// Over time.
    pub samples: Vec<Sample>,
}

/// How long the last messages may take, without any that comes.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// How long the run listens on when all messages have come: for those that come again.
const LISTEN: Duration = Duration::from_millis(200);
/// How often a run is sampled.
const SAMPLE_EVERY: Duration = Duration::from_millis(250);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Runs `plan` through `phases`, and calls `at` at every boundary.
///
/// # Errors
/// If the broker refuses, the kernel does, or `at` does.
pub fn run(
    context: &Context,
    plan: &Plan,
    phases: &[Phase],
    at: &mut dyn FnMut(Moment) -> io::Result<()>,
) -> io::Result<Result> {
    plan.check().map_err(io::Error::other)?;
    let mut lead = Lead::start(context, plan, phases)?;
    for (number, phase) in phases.iter().enumerate() {
        lead.phase(number, phase, at)?;
    }
    lead.drain(phases.len())?;
    lead.finish(phases)
}

/// Counts at one moment.
#[derive(Clone, Debug)]
struct Mark {
    at: Instant,
    sent: u64,
    delivered: u64,
    idle_ns: Vec<u64>,
    cpu_ns: u64,
    broker: Option<Process>,
}

struct Lead<'a> {
    context: &'a Context,
    plan: Arc<Plan>,
    board: Arc<Board>,
    threads: Vec<JoinHandle<io::Result<Outcome>>>,
    marks: Vec<(Mark, Mark)>,
    samples: Vec<Sample>,
    last_sample: Mark,
    begun: Instant,
}

impl<'a> Lead<'a> {
    /// Starts the threads and waits until all their clients are connected.
    fn start(context: &'a Context, plan: &Plan, phases: &[Phase]) -> io::Result<Self> {
        let plan = Arc::new(plan.clone());
        let board = Arc::new(Board::new(plan.threads, plan.publishers, phases.len()));
        let orders = Orders {
            address: context.address,
            plan: Arc::clone(&plan),
            tag: context.tag(),
            board: Arc::clone(&board),
            clock: context.clock,
            cpus: context.cpus.clone(),
        };
        let threads = (0..plan.threads).map(|thread| {
            let orders = orders.clone();
            std::thread::Builder::new()
                .name(format!("load-{thread}"))
                .spawn(move || Worker::run(orders, thread))
        });
        let threads = threads.collect::<io::Result<Vec<_>>>()?;
        let mut lead = Self {
            context,
            plan,
            threads,
            marks: Vec::new(),
            samples: Vec::new(),
            last_sample: Mark::take(&board, context.broker_pid),
            begun: Instant::now(),
            board,
        };
        context.live.say("connecting");
        lead.await_all(1)?;
        lead.begun = Instant::now();
        lead.last_sample = lead.mark();
        Ok(lead)
    }

    fn mark(&self) -> Mark {
        Mark::take(&self.board, self.context.broker_pid)
    }

    /// Waits until every thread is in a phase; a thread that has ended has failed.
    fn await_all(&mut self, phase: u64) -> io::Result<()> {
        while self
            .board
            .lanes
            .iter()
            .any(|lane| lane.phase.read() < phase)
        {
            self.look_for_failure()?;
            std::thread::sleep(Duration::from_micros(500));
        }
        Ok(())
    }

    fn look_for_failure(&mut self) -> io::Result<()> {
        let Some(ended) = self.threads.iter().position(JoinHandle::is_finished) else {
            return Ok(());
        };
        let ended = self.threads.swap_remove(ended);
        match join(ended) {
            Err(error) => Err(error),
            Ok(_) => Err(io::Error::other("a generator thread ended early")),
        }
    }

    fn phase(
        &mut self,
        number: usize,
        phase: &Phase,
        at: &mut dyn FnMut(Moment) -> io::Result<()>,
    ) -> io::Result<()> {
        self.board.begin(number + 1);
        self.await_all(number as u64 + 2)?;
        let first = self.mark();
        at(Moment::Begin(number))?;
        let end = first.at + Duration::from_secs_f64(phase.seconds);
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            self.look_for_failure()?;
            self.sample(phase);
            let share = first.at.elapsed().as_secs_f64() / phase.seconds.max(1e-9);
            self.context
                .live
                .progress(phase.name, share, self.samples.last());
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        at(Moment::End(number))?;
        let last = self.mark();
        self.marks.push((first, last));
        Ok(())
    }

    fn sample(&mut self, phase: &Phase) {
        if self.last_sample.at.elapsed() < SAMPLE_EVERY {
            return;
        }
        let now = self.mark();
        let before = std::mem::replace(&mut self.last_sample, now.clone());
        let seconds = (now.at - before.at).as_secs_f64();
        let sample = Sample {
            phase: phase.name.into(),
            at_s: (now.at - self.begun).as_secs_f64(),
            in_per_s: (now.sent - before.sent) as f64 / seconds,
            out_per_s: (now.delivered - before.delivered) as f64 / seconds,
            broker_cpu: process::share(before.broker.as_ref(), now.broker.as_ref(), seconds),
            broker_rss_bytes: now.broker.as_ref().map(|broker| broker.resident_bytes),
        };
        self.samples.push(sample);
    }

    /// Waits until all that was sent has come and was acknowledged, or nothing comes any more.
    fn drain(&mut self, phases: usize) -> io::Result<()> {
        self.context.live.say("waiting for the last messages");
        self.board.begin(phases + 1);
        self.await_all(phases as u64 + 2)?;
        let fan = self.plan.fan();
        let mut last = (Instant::now(), 0);
        loop {
            self.look_for_failure()?;
            let board = &self.board;
            let (sent, waiting) = (
                board.sum(|lane| &lane.sent),
                board.sum(|lane| &lane.waiting),
            );
            let acknowledged = board.sum(|lane| &lane.acknowledged);
            let delivered = board.sum(|lane| &lane.delivered);
            if delivered >= sent * fan && acknowledged >= sent && waiting == 0 {
                break;
            }
            if last.1 != delivered + acknowledged {
                last = (Instant::now(), delivered + acknowledged);
            } else if last.0.elapsed() > SILENCE_MAX {
                break;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        std::thread::sleep(LISTEN);
        self.board.begin(phases + 2);
        Ok(())
    }

    fn finish(mut self, phases: &[Phase]) -> io::Result<Result> {
        let outcomes = std::mem::take(&mut self.threads).into_iter().map(join);
        let outcomes = outcomes.collect::<io::Result<Vec<_>>>()?;
        let faults = faults(&outcomes, self.plan.publishers);
        let open_loop = matches!(self.plan.pace, Pace::Rate(_));
        let mut reports = Vec::new();
        for (number, (phase, (first, last))) in phases.iter().zip(&self.marks).enumerate() {
            if !phase.measured {
                continue;
            }
            let (mut latency, mut lag) = (histogram(), histogram());
            for seen in outcomes
                .iter()
                .filter_map(|outcome| outcome.seen.get(number))
            {
                add(&mut latency, &seen.latency)?;
                add(&mut lag, &seen.lag)?;
            }
            reports.push(report(
                phase,
                first,
                last,
                &latency,
                open_loop.then_some(&lag),
            ));
        }
        Ok(Result {
            phases: reports,
            faults,
            samples: std::mem::take(&mut self.samples),
        })
    }
}

impl Drop for Lead<'_> {
    /// Threads of a run that has failed do not disturb the next.
    fn drop(&mut self) {
        self.board.begin(self.board.phases + 2);
    }
}

fn add(sum: &mut Histogram<u64>, one: &Histogram<u64>) -> io::Result<()> {
    sum.add(one)
        .map_err(|error| io::Error::other(error.to_string()))
}

fn join(thread: JoinHandle<io::Result<Outcome>>) -> io::Result<Outcome> {
    thread
        .join()
        .unwrap_or_else(|_| Err(io::Error::other("a generator thread panicked")))
}

/// Faults of all threads, with what was sent by one and never came to another.
fn faults(outcomes: &[Outcome], publishers: usize) -> Faults {
    let mut sent = vec![0; publishers];
    let mut faults = Faults::default();
    for outcome in outcomes {
        faults.add(&outcome.faults);
        for (publisher, count) in &outcome.sent {
            sent[*publisher] = *count;
        }
    }
    let all = outcomes.iter().flat_map(|outcome| &outcome.sequences);
    for (publisher, sequence) in all {
        faults.lost += sequence.lost(sent[*publisher]);
        // What was never sent came from nowhere.
        faults.foreign += u64::from(sequence.next().saturating_sub(sent[*publisher]));
    }
    faults
}

fn report(
    phase: &Phase,
    first: &Mark,
    last: &Mark,
    latency: &Histogram<u64>,
    lag: Option<&Histogram<u64>>,
) -> PhaseReport {
    let seconds = (last.at - first.at).as_secs_f64();
    let delivered = last.delivered - first.delivered;
    let threads = first.idle_ns.iter().zip(&last.idle_ns);
    let busy = threads.map(|(first, last)| 1.0 - (last - first) as f64 / 1e9 / seconds);
    PhaseReport {
        name: phase.name.into(),
        unit: "message".into(),
        seconds,
        sent: last.sent - first.sent,
        delivered,
        latency: Latency::of(latency),
        lag: lag.map(Latency::of),
        broker: process::used(first.broker.as_ref(), last.broker.as_ref(), seconds),
        generator: Generator {
            cpu_s: (last.cpu_ns - first.cpu_ns) as f64 / 1e9,
            busy: busy.fold(0.0, f64::max),
        },
    }
}

impl Mark {
    fn take(board: &Board, broker_pid: Option<u32>) -> Self {
        Self {
            at: Instant::now(),
            sent: board.sum(|lane| &lane.sent),
            delivered: board.sum(|lane| &lane.delivered),
            idle_ns: board.lanes.iter().map(|lane| lane.idle_ns.read()).collect(),
            cpu_ns: board.sum(|lane| &lane.cpu_ns),
            broker: broker_pid.and_then(Process::read),
        }
    }
}
