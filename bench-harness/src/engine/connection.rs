//! One connection: what is half read and what is half written.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::mqtt::decode::{Frame, frame};

use super::layer::Layer;

/// Connections from one loopback address: safely below the number of ports that the kernel gives out.
const PER_SOURCE_ADDRESS: usize = 20_000;
/// A buffer of pending output that grew beyond this is freed when it is empty, bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// A connection to the broker.
#[derive(Debug, Default)]
pub struct Connection {
    socket: Option<OwnedFd>,
    carry: Vec<u8>,
    /// What is to be written.
    pub out: Vec<u8>,
    written: usize,
    /// What lies between socket and packets, if anything does.
    layer: Option<Box<Layer>>,
    /// The layer has something of its own to say, or is open from now on.
    dirty_layer: bool,
    wants_write: bool,
    muted: bool,
    /// Whether it stands in the engine's list of connections with output.
    pub dirty: bool,
}

impl Connection {
    /// Whether it is open, or about to be.
    pub fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Bytes that the socket has not taken.
    pub fn unsent(&self) -> usize {
        match &self.layer {
            Some(layer) => self.out.len() + layer.wire.len() - self.written,
            None => self.out.len() - self.written,
        }
    }

    /// Begins to connect. `serial` spreads connections to loopback over source addresses, since one has only
    /// some 28,000 ports.
    pub fn open(
        &mut self,
        epoll: impl AsFd,
        number: usize,
        address: SocketAddr,
        serial: usize,
    ) -> io::Result<()> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        let source = (serial / PER_SOURCE_ADDRESS) as u32;
        if source > 0
            && let SocketAddr::V4(v4) = address
            && v4.ip().is_loopback()
        {
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + source % 200);
            rustix::net::bind(&socket, &SocketAddr::from((source, 0)))?;
        }
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let data = epoll::EventData::new_u64(number as u64);
        let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
        epoll::add(epoll, &socket, data, both)?;
        *self = Self {
            socket: Some(socket),
            wants_write: true,
            layer: Layer::new()?,
            ..Self::default()
        };
        Ok(())
    }

    /// What the socket is to take.
    fn bytes(&self) -> &[u8] {
        self.layer.as_ref().map_or(&self.out, |layer| &layer.wire)
    }

    /// Whether there is something to flush.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || self.dirty_layer
    }

    fn listen(&self, epoll: impl AsFd, number: usize) -> io::Result<()> {
        let mut events = epoll::EventFlags::empty();
        events.set(epoll::EventFlags::IN, !self.muted);
        events.set(epoll::EventFlags::OUT, self.wants_write);
        if let Some(socket) = &self.socket {
            epoll::modify(
                epoll,
                socket,
                epoll::EventData::new_u64(number as u64),
                events,
            )?;
        }
        Ok(())
    }

    /// Reads no more.
    pub fn mute(&mut self, epoll: impl AsFd, number: usize) -> io::Result<()> {
        self.muted = true;
        self.listen(epoll, number)
    }

    /// The socket takes bytes again.
    pub fn writable(&mut self, epoll: impl AsFd, number: usize) -> io::Result<()> {
        self.wants_write = false;
        self.flush(epoll.as_fd(), number)?;
        if !self.wants_write {
            self.listen(epoll, number)?;
        }
        Ok(())
    }

    /// One read, cut into packets.
    #[inline]
    pub fn read(&mut self, buffer: &mut [u8], mut take: impl FnMut(&Frame<'_>, &mut Vec<u8>)) {
        if self.muted {
            // Nothing is read, so this is its end.
            self.socket = None;
        }
        let Some(socket) = &self.socket else {
            return;
        };
        let count = match rustix::io::read(socket, &mut *buffer) {
            Ok(count) if count > 0 => count,
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(_) | Err(_) => {
                self.socket = None;
                return;
            }
        };
        let out = &mut self.out;
        let mut cut = |mut bytes: &[u8]| {
            let all = bytes.len();
            while let Some(frame) = frame(bytes) {
                take(&frame, out);
                bytes = &bytes[frame.bytes..];
            }
            all - bytes.len()
        };
        if let Some(layer) = &mut self.layer {
            match layer.decode(&buffer[..count], &mut self.carry) {
                // The writer comes again.
                Ok(answers) => self.dirty_layer |= answers,
                Err(_) => {
                    self.socket = None;
                    return;
                }
            }
            let done = cut(&self.carry);
            self.carry.drain(..done);
        } else if self.carry.is_empty() {
            let done = cut(&buffer[..count]);
            self.carry.extend_from_slice(&buffer[done..count]);
        } else {
            self.carry.extend_from_slice(&buffer[..count]);
            let done = cut(&self.carry);
            self.carry.drain(..done);
        }
    }

    /// Writes what the socket takes.
    #[inline]
    pub fn flush(&mut self, epoll: impl AsFd, number: usize) -> io::Result<()> {
        if let Some(layer) = &mut self.layer
            && self.socket.is_some()
        {
            self.dirty_layer = false;
            layer.encode(&mut self.out)?;
            if self.written == layer.wire.len() {
                layer.wire.clear();
                self.written = 0;
            }
        }
        while self.written < self.bytes().len() && !self.wants_write {
            let Some(socket) = &self.socket else {
                break;
            };
            match rustix::net::send(
                socket,
                &self.bytes()[self.written..],
                rustix::net::SendFlags::NOSIGNAL,
            ) {
                Ok(count) => self.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    self.wants_write = true;
                    self.listen(epoll, number)?;
                    return Ok(());
                }
                // The read that follows says so.
                Err(_) => self.written = self.bytes().len(),
            }
        }
        if let Some(layer) = self.layer.as_mut().filter(|_| self.socket.is_some()) {
            if self.written == layer.wire.len() {
                layer.wire.clear();
                self.written = 0;
            }
            return Ok(());
        }
        if self.written == self.out.len() || self.socket.is_none() {
            self.written = 0;
            self.out.clear();
            if self.out.capacity() > KEPT_BYTES_MAX {
                self.out = Vec::new();
            }
        }
        Ok(())
    }
}
