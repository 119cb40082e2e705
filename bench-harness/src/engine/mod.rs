//! Non-blocking connections on one epoll: one read for what has come, one write for what is to go, nothing else.
//!
//! One engine belongs to one thread. It knows packets only as far as it must cut the stream into them.

mod connection;
mod keep_alive;
pub mod layer;
pub mod setup;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::mqtt::decode::Frame;
use connection::Connection;
use keep_alive::Sweep;

/// What one read takes at most, bytes.
const READ_BYTES: usize = 256 << 10;
/// Events that one wait takes at most.
const EVENTS: usize = 1024;
/// The kernel wakes a sleeper late, which is no way to space messages evenly: so long before it is time, the
/// engine spins.
const SPIN: Duration = Duration::from_millis(1);

/// One time for all threads of a run.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    #[inline]
    pub fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Takes what comes from the broker.
pub trait Sink {
    /// A packet on a connection, and where its answer goes.
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, now_ns: u64, out: &mut Vec<u8>);

    /// The broker has closed a connection.
    fn closed(&mut self, _connection: usize) {}
}

/// A [`Sink`] made of a closure that only looks at packets.
pub struct Each<F>(F);

/// Calls `take` with connection and packet.
pub fn each<F: FnMut(usize, &Frame<'_>)>(take: F) -> Each<F> {
    Each(take)
}

impl<F: FnMut(usize, &Frame<'_>)> Sink for Each<F> {
    fn packet(&mut self, connection: usize, frame: &Frame<'_>, _: u64, _: &mut Vec<u8>) {
        (self.0)(connection, frame);
    }
}

/// All connections of a thread.
pub struct Engine {
    epoll: rustix::fd::OwnedFd,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    dirty: Vec<usize>,
    clock: Clock,
    idle_ns: u64,
    opened: usize,
    sweep: Option<Sweep>,
}

impl Engine {
    /// Without connections.
    ///
    /// # Errors
    /// If there is no descriptor for the epoll.
    pub fn new(clock: Clock) -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            buffer: vec![0; READ_BYTES],
            dirty: Vec::new(),
            clock,
            idle_ns: 0,
            opened: 0,
            sweep: None,
        })
    }

    /// Nanoseconds since the start of the run.
    #[inline]
    pub fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    /// How long this engine has waited for the broker so far, nanoseconds. The rest of the time it worked, or
    /// wanted to.
    pub fn idle_ns(&self) -> u64 {
        self.idle_ns
    }

    /// Connections so far, the closed ones included.
    pub fn len(&self) -> usize {
        self.connections.len()
    }

    /// Sends PINGREQ on every connection often enough for this Keep Alive; 0 is never.
    pub fn ping(&mut self, keep_alive_s: u16) {
        self.sweep = (keep_alive_s > 0).then(|| Sweep::new(keep_alive_s, self.now_ns()));
    }

    /// Begins to connect, and gives the connection's number. What is sent before it is connected waits.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<usize> {
        let number = self.connections.len();
        self.connections.push(Connection::default());
        self.reconnect(number, address)?;
        Ok(number)
    }

    /// Closes a connection if it is open, and begins to connect again under the same number.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn reconnect(&mut self, number: usize, address: SocketAddr) -> io::Result<()> {
        self.close(number);
        self.connections[number].open(&self.epoll, number, address, self.opened)?;
        self.opened += 1;
        Ok(())
    }

    /// Closes a connection without a word.
    pub fn close(&mut self, number: usize) {
        self.connections[number] = Connection::default();
    }

    /// Whether a connection is open as far as the generator knows.
    pub fn is_open(&self, number: usize) -> bool {
        self.connections[number].is_open()
    }

    /// Stops reading from a connection: a client that hangs.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn mute(&mut self, number: usize) -> io::Result<()> {
        self.connections[number].mute(&self.epoll, number)
    }

    /// Bytes of a connection that its socket has not taken.
    pub fn unsent(&self, number: usize) -> usize {
        self.connections[number].unsent()
    }

    /// Where the packets of a connection go; [`Self::flush`] sends them.
    #[inline]
    pub fn out(&mut self, number: usize) -> &mut Vec<u8> {
        let connection = &mut self.connections[number];
        if !connection.dirty {
            connection.dirty = true;
            self.dirty.push(number);
        }
        &mut connection.out
    }

    /// Writes what connections have to say, as far as their sockets take it.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        for number in dirty.drain(..) {
            let connection = &mut self.connections[number];
            connection.dirty = false;
            connection.flush(&self.epoll, number)?;
        }
        self.dirty = dirty;
        Ok(())
    }

    /// Flushes, waits for at most `timeout`, gives every packet that has come to `sink`, and flushes the
    /// answers.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn poll(&mut self, timeout: Duration, sink: &mut impl Sink) -> io::Result<()> {
        self.keep_alive();
        self.flush()?;
        let mut room = [const { MaybeUninit::uninit() }; EVENTS];
        for event in self.wait(timeout, &mut room)? {
            let (data, flags) = (event.data, event.flags);
            let number = usize::try_from(data.u64()).unwrap_or(usize::MAX);
            let Some(connection) = self.connections.get_mut(number) else {
                continue;
            };
            if flags.contains(epoll::EventFlags::OUT) {
                connection.writable(&self.epoll, number)?;
            }
            let readable = epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
            if !flags.intersects(readable) || !connection.is_open() {
                continue;
            }
            let now_ns = self.clock.now_ns();
            connection.read(&mut self.buffer, |frame, out| {
                sink.packet(number, frame, now_ns, out);
            });
            if !connection.is_open() {
                sink.closed(number);
            } else if connection.has_output() && !connection.dirty {
                connection.dirty = true;
                self.dirty.push(number);
            }
        }
        self.flush()
    }

    fn wait<'a>(
        &mut self,
        timeout: Duration,
        room: &'a mut [MaybeUninit<epoll::Event>; EVENTS],
    ) -> io::Result<&'a [epoll::Event]> {
        let sleep = match timeout.checked_sub(SPIN) {
            Some(sleep) if sleep >= SPIN => sleep,
            _ => Duration::ZERO,
        };
        let limit = rustix::time::Timespec {
            tv_sec: i64::try_from(sleep.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(sleep.subsec_nanos()),
        };
        let begun = self.clock.now_ns();
        let events = match epoll::wait(&self.epoll, &mut room[..], Some(&limit)) {
            Ok((events, _)) => &*events,
            Err(rustix::io::Errno::INTR) => &[],
            Err(error) => return Err(error.into()),
        };
        if events.is_empty() || sleep > Duration::ZERO {
            self.idle_ns += self.clock.now_ns() - begun;
        }
        Ok(events)
    }

    fn keep_alive(&mut self) {
        let Some(sweep) = &mut self.sweep else {
            return;
        };
        let due = sweep.due(self.clock.now_ns(), self.connections.len());
        for number in due {
            let number = number % self.connections.len();
            if self.connections[number].is_open() {
                self.out(number)
                    .extend_from_slice(&crate::mqtt::encode::PINGREQ);
            }
        }
    }
}
