//! Non-blocking connections on one epoll: batched reads, coalesced writes, nothing else.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use crate::codec::{Frame, frame};

/// What one read takes at most, bytes.
const READ_BYTES: usize = 256 << 10;

/// A connection to the broker.
#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    carry: Vec<u8>,
    /// What is to be written; [`Engine::flush`] writes it.
    pub out: Vec<u8>,
    written: usize,
    wants_write: bool,
    /// Whether the broker has closed it.
    pub closed: bool,
    /// Whether nothing is read, for clients that misbehave.
    pub mute: bool,
}

/// All connections of a run.
pub struct Engine {
    epoll: rustix::fd::OwnedFd,
    /// By number.
    pub connections: Vec<Connection>,
    events: Vec<epoll::Event>,
    buffer: Vec<u8>,
    start: Instant,
}

impl Engine {
    /// Without connections.
    ///
    /// # Errors
    /// If there is no descriptor for the epoll.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            connections: Vec::new(),
            events: Vec::with_capacity(1024),
            buffer: vec![0; READ_BYTES],
            start: Instant::now(),
        })
    }

    /// Nanoseconds since the start.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Connects, and gives the connection's number.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn connect(&mut self, address: SocketAddr) -> io::Result<usize> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let number = self.connections.len();
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
        self.connections.push(Connection {
            socket,
            carry: Vec::new(),
            out: Vec::new(),
            written: 0,
            wants_write: false,
            closed: false,
            mute: false,
        });
        Ok(number)
    }

    /// Waits for at most `timeout` and gives every packet that has come to `take`, with the number of its
    /// connection.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn poll(
        &mut self,
        timeout: Duration,
        mut take: impl FnMut(usize, &Frame<'_>, &mut Vec<u8>),
    ) -> io::Result<()> {
        // The kernel wakes a sleeper up to a millisecond late, which is no way to space messages evenly.
        let timeout = if timeout < Duration::from_millis(2) {
            Duration::ZERO
        } else {
            timeout
        };
        let timeout = rustix::time::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        self.events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = std::mem::take(&mut self.events);
        for event in &events {
            let (data, flags) = (event.data, event.flags);
            let number = usize::try_from(data.u64()).unwrap_or(usize::MAX);
            let Some(connection) = self.connections.get_mut(number) else {
                continue;
            };
            if flags.contains(epoll::EventFlags::OUT) {
                connection.wants_write = false;
                let data = epoll::EventData::new_u64(number as u64);
                epoll::modify(&self.epoll, &connection.socket, data, epoll::EventFlags::IN)?;
                connection.flush(&self.epoll, number)?;
            }
            if !connection.mute && !connection.closed {
                connection.read(&mut self.buffer, |frame, out| take(number, frame, out));
                if connection.closed {
                    epoll::delete(&self.epoll, &connection.socket)?;
                }
            }
        }
        events.clear();
        self.events = events;
        Ok(())
    }

    /// Writes what a connection has to say, as far as its socket takes it.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn flush(&mut self, number: usize) -> io::Result<()> {
        self.connections[number].flush(&self.epoll, number)
    }

    /// Writes what all have to say.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn flush_all(&mut self) -> io::Result<()> {
        for number in 0..self.connections.len() {
            if !self.connections[number].out.is_empty() {
                self.flush(number)?;
            }
        }
        Ok(())
    }

    /// Stops reading from a connection: a client that hangs.
    ///
    /// # Errors
    /// As the kernel says.
    pub fn mute(&mut self, number: usize) -> io::Result<()> {
        self.connections[number].mute = true;
        epoll::delete(&self.epoll, &self.connections[number].socket)?;
        Ok(())
    }

    /// Closes the connections from `number` on, without a word.
    pub fn cut(&mut self, number: usize) {
        self.connections.truncate(number);
    }
}

impl Connection {
    fn read(&mut self, buffer: &mut [u8], mut take: impl FnMut(&Frame<'_>, &mut Vec<u8>)) {
        let count = match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) => {
                self.closed = true;
                return;
            }
            Ok(count) => count,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return,
            Err(_) => {
                self.closed = true;
                return;
            }
        };
        let out = &mut self.out;
        let mut parse = |mut bytes: &[u8]| {
            let all = bytes.len();
            while let Some(frame) = frame(bytes) {
                take(&frame, out);
                bytes = &bytes[frame.bytes..];
            }
            all - bytes.len()
        };
        if self.carry.is_empty() {
            let done = parse(&buffer[..count]);
            self.carry.extend_from_slice(&buffer[done..count]);
        } else {
            self.carry.extend_from_slice(&buffer[..count]);
            let done = parse(&self.carry);
            self.carry.drain(..done);
        }
    }

    fn flush(&mut self, epoll: impl AsFd, number: usize) -> io::Result<()> {
        while self.written < self.out.len() && !self.wants_write && !self.closed {
            match rustix::io::write(&self.socket, &self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => {
                    self.wants_write = true;
                    let data = epoll::EventData::new_u64(number as u64);
                    let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                    epoll::modify(epoll, &self.socket, data, both)?;
                    return Ok(());
                }
                Err(_) => self.closed = true,
            }
        }
        if self.written == self.out.len() || self.closed {
            self.out.clear();
            self.written = 0;
        }
        Ok(())
    }
}
