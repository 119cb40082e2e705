//! Connecting and subscribing, a wave at a time: what comes before a measurement.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::mqtt::decode::{self, Connack, Frame};
use crate::mqtt::encode::{self, Connect};
use crate::mqtt::{Version, packet_type};

use super::{Engine, Sink, each};

/// How long the broker may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Clients that connect or subscribe at once.
const WAVE: usize = 250;

/// Filters in one SUBSCRIBE at most.
const FILTERS: usize = 100;

/// What a refusal means, in words.
pub fn refusal(code: u8) -> String {
    format!("the broker refused a connection with code {code:#04x}")
}

impl Engine {
    /// Connects one client for each of `identifiers` and waits for the CONNACKs; gives the number of the
    /// first and what the broker said to each.
    ///
    /// # Errors
    /// If a connection is refused or nothing comes.
    pub fn connect_all(
        &mut self,
        address: SocketAddr,
        identifiers: &[String],
        connect: Connect,
    ) -> io::Result<(usize, Vec<Connack>)> {
        let first = self.len();
        let mut connacks = vec![None; identifiers.len()];
        for (wave, chunk) in identifiers.chunks(WAVE).enumerate() {
            for identifier in chunk {
                let number = self.connect(address)?;
                self.out(number)
                    .extend_from_slice(&connect.packet(identifier));
            }
            let before = wave * WAVE;
            self.await_packets(packet_type::CONNACK, chunk.len(), |number, frame| {
                let connack = decode::connack(frame, connect.version);
                let connack = connack.ok_or_else(|| io::Error::other("a broken CONNACK"))?;
                if connack.code != 0 {
                    return Err(io::Error::other(refusal(connack.code)));
                }
                if (before..before + chunk.len()).contains(&(number - first)) {
                    connacks[number - first] = Some(connack);
                }
                Ok(())
            })?;
        }
        let connacks = connacks.into_iter().flatten().collect::<Vec<_>>();
        if connacks.len() != identifiers.len() {
            return Err(io::Error::other("a client got two CONNACKs, another none"));
        }
        Ok((first, connacks))
    }

    /// Subscribes connection `numbers.start + n` to `filters(n)` and waits for the SUBACKs.
    ///
    /// # Errors
    /// If a subscription is refused or granted with a lower QoS, or nothing comes.
    pub fn subscribe_all<S: AsRef<str>>(
        &mut self,
        numbers: std::ops::Range<usize>,
        qos: u8,
        version: Version,
        mut filters: impl FnMut(usize) -> Vec<S>,
    ) -> io::Result<()> {
        let mut packets = 0;
        for number in numbers.clone() {
            for filters in filters(number - numbers.start).chunks(FILTERS) {
                let packet = encode::subscribe(filters, qos, version);
                self.out(number).extend_from_slice(&packet);
                packets += 1;
            }
            if packets >= WAVE {
                self.await_subacks(packets, qos, version)?;
                packets = 0;
            }
        }
        self.await_subacks(packets, qos, version)
    }

    /// Looks at all connections, and counts those that the broker has closed.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn closed_by_now(&mut self) -> io::Result<u64> {
        let looks = self.len() / super::EVENTS + 1;
        for _ in 0..looks {
            self.poll(Duration::ZERO, &mut each(|_, _| {}))?;
        }
        let closed = (0..self.len()).filter(|number| !self.is_open(*number));
        Ok(closed.count() as u64)
    }

    /// Waits for `count` SUBACKs.
    ///
    /// # Errors
    /// If a subscription is refused or granted with a lower QoS, or nothing comes.
    pub fn await_subacks(&mut self, count: usize, qos: u8, version: Version) -> io::Result<()> {
        self.await_packets(packet_type::SUBACK, count, |_, frame| {
            let codes = decode::suback_codes(frame, version)
                .ok_or_else(|| io::Error::other("a broken SUBACK"))?;
            match codes.iter().find(|code| **code != qos) {
                None => Ok(()),
                Some(code) if *code < 3 => Err(io::Error::other(format!(
                    "the broker grants QoS {code} where {qos} was asked for"
                ))),
                Some(code) => Err(io::Error::other(format!(
                    "the broker refused a subscription with code {code:#04x}"
                ))),
            }
        })
    }

    /// Waits for `count` packets of a type and checks each.
    ///
    /// # Errors
    /// What `check` says, or that they do not come.
    pub fn await_packets(
        &mut self,
        packet_type: u8,
        count: usize,
        mut check: impl FnMut(usize, &Frame<'_>) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut last = (Instant::now(), 0);
        let mut awaiting = Awaiting {
            packet_type,
            check: &mut check,
            seen: 0,
            result: Ok(()),
        };
        while awaiting.seen < count && awaiting.result.is_ok() {
            self.poll(Duration::from_millis(50), &mut awaiting)?;
            if awaiting.seen > last.1 {
                last = (Instant::now(), awaiting.seen);
            } else if last.0.elapsed() > SILENCE_MAX {
                awaiting.fail(format!(
                    "only {} of {count} answers came, and none for {} s",
                    awaiting.seen,
                    SILENCE_MAX.as_secs()
                ));
            }
        }
        awaiting.result
    }
}

/// Counts packets of a type, and finds what prevents them.
struct Awaiting<'a, F> {
    packet_type: u8,
    check: &'a mut F,
    seen: usize,
    result: io::Result<()>,
}

impl<F> Awaiting<'_, F> {
    /// The first cause is the one that counts.
    fn fail(&mut self, cause: String) {
        if self.result.is_ok() {
            self.result = Err(io::Error::other(cause));
        }
    }
}

impl<F: FnMut(usize, &Frame<'_>) -> io::Result<()>> Sink for Awaiting<'_, F> {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, _: u64, _: &mut Vec<u8>) {
        if frame.packet_type() == self.packet_type {
            self.seen += 1;
            let checked = (self.check)(connection, frame);
            if self.result.is_ok() {
                self.result = checked;
            }
        } else if frame.packet_type() == packet_type::DISCONNECT {
            let code = frame.body.first().copied().unwrap_or(0);
            self.fail(format!("the broker sent DISCONNECT with code {code:#04x}"));
        }
    }

    fn closed(&mut self, _: usize) {
        self.fail("the broker closed a connection that was to be set up".into());
    }
}
