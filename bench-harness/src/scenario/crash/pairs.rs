//! The pairs of `crash`: what they have sent, what was acknowledged, and what has come.

use std::io;
use std::time::{Duration, Instant};

use crate::broker::Running;
use crate::engine::{Engine, Sink};
use crate::mqtt::decode::{self, Frame};
use crate::mqtt::encode::{self, Connect, acknowledgement};
use crate::mqtt::template::{Shape, Stamp, Template};
use crate::mqtt::{Version, packet_type};
use crate::report::{Figure, Findings};

use super::Crash;

/// How long the broker may be silent after a start.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// What is known of a message.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    acknowledged: bool,
    came: u32,
}

struct Pair {
    template: Template,
    messages: Vec<Known>,
    /// Messages that this connection has sent, the ones sent again included.
    next: usize,
    /// The first that is not acknowledged.
    first_open: usize,
    /// The highest that has come.
    highest: Option<usize>,
    /// Whether its subscriber is away until the end.
    is_away: bool,
}

/// All pairs. Publishers have the first connections, subscribers those that follow.
pub struct Pairs {
    tag: String,
    window: usize,
    away_messages: usize,
    pairs: Vec<Pair>,
    /// By connection of a subscriber: its pair.
    heard_by: Vec<usize>,
    stage: Stage,
    absent: u64,
    refused: u64,
    connected: usize,
    subscribed: usize,
    disorder: u64,
    foreign: u64,
    closed: u64,
    progress: u64,
}

/// Where the run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Sessions are made.
    First,
    /// After a crash: sessions must be there.
    Again,
    /// After the last crash: those who were away come back, too.
    Last,
}

impl Pairs {
    /// Before anybody is connected.
    pub fn new(crash: &Crash, tag: String) -> Self {
        let shape = Shape {
            qos: 1,
            retain: false,
            version: Version::V3,
            payload_bytes: crash.payload_bytes,
        };
        let pair = |number: usize| Pair {
            template: Template::new(&format!("bench/{tag}/{number}"), shape),
            messages: Vec::new(),
            next: 0,
            first_open: 0,
            highest: None,
            is_away: number % 2 == 1,
        };
        Self {
            window: crash.window,
            away_messages: crash.away_messages,
            pairs: (0..crash.pairs).map(pair).collect(),
            heard_by: Vec::new(),
            tag,
            stage: Stage::First,
            absent: 0,
            refused: 0,
            connected: 0,
            subscribed: 0,
            disorder: 0,
            foreign: 0,
            closed: 0,
            progress: 0,
        }
    }

    /// Connects all that belong to a stage.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub fn connect(
        &mut self,
        engine: &mut Engine,
        broker: &Running,
        stage: Stage,
    ) -> io::Result<()> {
        let connect = Connect {
            persistent: true,
            ..Connect::clean(Version::V3)
        };
        let all = 0..self.pairs.len();
        let is_there = |number: &usize| stage != Stage::Again || !self.pairs[*number].is_away;
        let subscribers: Vec<_> = all.clone().filter(is_there).collect();
        let publishers = all.map(|number| format!("bench-{}-p{number}", self.tag));
        let names = subscribers.iter();
        let names = names.map(|number| format!("bench-{}-s{number}", self.tag));
        for name in publishers.chain(names) {
            let connection = engine.connect(broker.address)?;
            engine
                .out(connection)
                .extend_from_slice(&connect.packet(&name));
        }
        self.heard_by = subscribers;
        (self.stage, self.connected, self.subscribed) = (stage, 0, 0);
        let all = self.pairs.len() + self.heard_by.len();
        self.until(engine, |pairs| pairs.connected >= all)?;
        if stage == Stage::First {
            self.subscribe(engine)?;
        }
        // What was not acknowledged is sent again.
        for pair in &mut self.pairs {
            pair.next = pair.first_open;
        }
        Ok(())
    }

    fn subscribe(&mut self, engine: &mut Engine) -> io::Result<()> {
        let first = self.pairs.len();
        for number in 0..self.pairs.len() {
            let filter = format!("bench/{}/{number}", self.tag);
            let packet = encode::subscribe(&[filter], 1, Version::V3);
            engine.out(first + number).extend_from_slice(&packet);
        }
        let all = self.pairs.len();
        self.until(engine, |pairs| pairs.subscribed >= all)?;
        for number in 0..self.pairs.len() {
            if self.pairs[number].is_away {
                engine
                    .out(first + number)
                    .extend_from_slice(&encode::DISCONNECT);
            }
        }
        engine.flush()?;
        for number in 0..self.pairs.len() {
            if self.pairs[number].is_away {
                engine.close(first + number);
            }
        }
        Ok(())
    }

    /// Polls until `done`.
    fn until(&mut self, engine: &mut Engine, done: impl Fn(&Self) -> bool) -> io::Result<()> {
        let mut last = (Instant::now(), self.progress);
        while !done(self) {
            engine.poll(Duration::from_millis(10), self)?;
            if last.1 != self.progress {
                last = (Instant::now(), self.progress);
            } else if last.0.elapsed() > SILENCE_MAX {
                return Err(io::Error::other("the broker does not answer"));
            }
        }
        Ok(())
    }

    /// Publishes as the windows allow.
    ///
    /// # Errors
    /// If a client is cut off.
    pub fn load(&mut self, engine: &mut Engine, seconds: f64) -> io::Result<()> {
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < seconds {
            self.publish(engine, true);
            engine.poll(Duration::from_millis(10), self)?;
        }
        match self.closed {
            0 => Ok(()),
            closed => Err(io::Error::other(format!("{closed} clients were cut off"))),
        }
    }

    /// Sends what the window has room for; messages that were not sent before only if `new`.
    fn publish(&mut self, engine: &mut Engine, new: bool) {
        for (number, pair) in self.pairs.iter_mut().enumerate() {
            let known = pair.messages.len();
            let end = match (new, pair.is_away) {
                (true, false) => usize::MAX,
                (true, true) => known.max(self.away_messages),
                (false, _) => known,
            };
            let end = end.min(pair.first_open + self.window);
            while pair.next < end {
                let sequence = pair.next;
                let is_again = sequence < pair.messages.len();
                if !is_again {
                    pair.messages.push(Known::default());
                }
                let stamp = Stamp {
                    publisher: number as u32,
                    sequence: sequence as u32,
                    sent_ns: 0,
                };
                let out = engine.out(number);
                let start = out.len();
                pair.template.append(out, stamp, identifier(sequence));
                if is_again {
                    out[start] |= 0x08; // DUP
                }
                pair.next += 1;
            }
        }
    }

    /// Reads what the sockets still hold until all are closed.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn take_rest(&mut self, engine: &mut Engine) -> io::Result<()> {
        let all = engine.len();
        let begun = Instant::now();
        while (0..all).any(|number| engine.is_open(number)) && begun.elapsed() < SILENCE_MAX {
            engine.poll(Duration::from_millis(10), self)?;
        }
        self.closed = 0;
        Ok(())
    }

    /// Sends again what is not acknowledged, and waits for all that has not come.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn drain(&mut self, engine: &mut Engine) -> io::Result<()> {
        let mut last = (Instant::now(), self.progress);
        loop {
            self.publish(engine, false);
            engine.poll(Duration::from_millis(10), self)?;
            let open = self.pairs.iter().flat_map(|pair| &pair.messages);
            if last.1 != self.progress {
                last = (Instant::now(), self.progress);
            } else if open
                .clone()
                .all(|known| known.acknowledged && known.came > 0)
                || last.0.elapsed() > SILENCE_MAX
            {
                return Ok(());
            }
        }
    }

    /// What has come of it, and how long starts took, seconds.
    pub fn findings(&self, down: &[f64]) -> Findings {
        let all = self.pairs.iter().flat_map(|pair| &pair.messages);
        let acknowledged = all.clone().filter(|known| known.acknowledged).count();
        let lost = all
            .clone()
            .filter(|known| known.acknowledged && known.came == 0)
            .count();
        let again: u64 = all
            .map(|known| u64::from(known.came.saturating_sub(1)))
            .sum();
        let mut findings = Findings {
            figures: vec![
                Figure::new("crashes", down.len() as f64, ""),
                Figure::new("acknowledged messages", acknowledged as f64, ""),
                Figure::new("messages that came again, as QoS 1 may", again as f64, ""),
                Figure::new(
                    "from start to listening, at most",
                    down.iter().copied().fold(0.0, f64::max),
                    "s",
                ),
            ],
            ..Findings::default()
        };
        findings.faults.lost = lost as u64;
        findings.faults.disorder = self.disorder;
        findings.faults.foreign = self.foreign;
        findings.faults.closed = self.closed;
        if self.absent > 0 {
            let absent = format!("{} sessions were gone after a crash", self.absent);
            findings.failures.push(absent);
        }
        if self.refused > 0 {
            let refused = format!("{} connections or subscriptions were refused", self.refused);
            findings.failures.push(refused);
        }
        if acknowledged == 0 {
            findings.failures.push("nothing was acknowledged".into());
        }
        findings
    }

    fn acknowledged(&mut self, number: usize, frame: &Frame<'_>) {
        let Some(pair) = self.pairs.get_mut(number) else {
            self.foreign += 1;
            return;
        };
        let open = pair.first_open..pair.next;
        let sequence = decode::identifier(frame)
            .and_then(|wanted| open.clone().find(|one| identifier(*one) == wanted));
        match sequence {
            Some(sequence) => pair.messages[sequence].acknowledged = true,
            None => self.foreign += 1,
        }
        while pair.first_open < pair.next && pair.messages[pair.first_open].acknowledged {
            pair.first_open += 1;
        }
    }

    fn came(&mut self, connection: usize, frame: &Frame<'_>, out: &mut Vec<u8>) {
        let delivery = decode::delivery(frame, Version::V3);
        let stamp = delivery.and_then(|delivery| Stamp::of(delivery.payload));
        if let Some(delivery) = delivery {
            out.extend_from_slice(&acknowledgement(0x40, delivery.identifier));
        }
        let subscriber = connection.checked_sub(self.pairs.len());
        let number = subscriber.and_then(|one| self.heard_by.get(one)).copied();
        let (Some(stamp), Some(number)) = (stamp, number) else {
            self.foreign += 1;
            return;
        };
        let sequence = stamp.sequence as usize;
        let is_ours = stamp.publisher as usize == number;
        let pair = self.pairs.get_mut(number).filter(|_| is_ours);
        let Some(pair) = pair.filter(|pair| sequence < pair.messages.len()) else {
            self.foreign += 1;
            return;
        };
        let known = &mut pair.messages[sequence];
        known.came += 1;
        if known.came == 1 {
            self.disorder += u64::from(pair.highest.is_some_and(|highest| highest > sequence));
            pair.highest = pair.highest.max(Some(sequence));
        }
    }
}

/// The Packet Identifier of a message: no two of a window have the same.
fn identifier(sequence: usize) -> u16 {
    (sequence % 65_535) as u16 + 1
}

impl Sink for Pairs {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, _: u64, out: &mut Vec<u8>) {
        self.progress += 1;
        match frame.packet_type() {
            packet_type::CONNACK => {
                self.connected += 1;
                match decode::connack(frame, Version::V3) {
                    Some(connack) if connack.code == 0 => {
                        self.absent +=
                            u64::from(self.stage != Stage::First && !connack.session_present);
                    }
                    _ => self.refused += 1,
                }
            }
            packet_type::SUBACK => {
                self.subscribed += 1;
                let granted = decode::suback_codes(frame, Version::V3) == Some(&[1]);
                self.refused += u64::from(!granted);
            }
            packet_type::PUBACK => self.acknowledged(connection, frame),
            packet_type::PUBLISH => self.came(connection, frame, out),
            _ => {}
        }
    }

    fn closed(&mut self, _: usize) {
        self.closed += 1;
    }
}
