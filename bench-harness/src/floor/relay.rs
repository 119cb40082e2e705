//! The relay's turn: one enter, all that has come decoded in place, all output sent, one send per client.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ringmq::net::listener::set_nodelay;
use ringmq::net::ring::{
    Buffer, Chunk, Completion, Ring, RingConfig, RingError, SendBatch, Token, Wait,
};

use crate::mqtt::decode::frame;

use super::client::Client;
use super::routes::{Routes, Subscriber};

/// Output buffers that are kept for the next turn.
const SPARE_MAX: usize = 4096;
/// A buffer that grew beyond this is not kept, bytes.
const SPARE_BYTES_MAX: usize = 1 << 20;
/// As a shard has them: see the broker's configuration.
const RING: RingConfig = RingConfig {
    submission_entries: 1024,
    buffer_count: 256,
    buffer_bytes: 8192,
};

/// The relay.
pub struct Relay {
    ring: Ring,
    listening: OwnedFd,
    listener: Token,
    clients: Vec<Option<Box<Client>>>,
    routes: Routes,
    dirty: Vec<u32>,
    spare: Vec<Vec<u8>>,
}

/// What a packet asks for.
enum Next {
    /// Nothing more.
    Continue,
    /// The end: a packet that the relay does not understand, or DISCONNECT.
    Close,
}

impl Relay {
    /// Accepts from `listening`.
    ///
    /// # Errors
    /// If the kernel refuses the ring.
    pub fn new(listening: OwnedFd) -> Result<Self, RingError> {
        let mut ring = Ring::new(&RING)?;
        let listener = ring.open();
        ring.accept_multishot(listening.as_fd(), listener);
        Ok(Self {
            ring,
            listening,
            listener,
            clients: Vec::new(),
            routes: Routes::default(),
            dirty: Vec::new(),
            spare: Vec::new(),
        })
    }

    /// Serves until the process is ended.
    ///
    /// # Errors
    /// If the ring fails.
    pub fn run(mut self) -> io::Result<()> {
        loop {
            self.ring.turn(Wait::Forever)?;
            while let Some(completion) = self.ring.next_completion() {
                self.complete(completion);
            }
            let mut dirty = std::mem::take(&mut self.dirty);
            for slot in dirty.drain(..) {
                self.flush(slot);
            }
            self.dirty = dirty;
        }
    }

    fn complete(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { result, more, .. } => {
                if let Ok(socket) = result {
                    self.admit(socket);
                }
                if !more {
                    self.ring
                        .accept_multishot(self.listening.as_fd(), self.listener);
                }
            }
            Completion::Received {
                token,
                result,
                more,
            } => self.received(token, result, more),
            Completion::Sent {
                token,
                result,
                batch,
            } => self.sent(token, result.is_err(), batch),
            Completion::Doorbell => {}
        }
    }

    fn admit(&mut self, socket: OwnedFd) {
        set_nodelay(&socket);
        let token = self.ring.open();
        self.ring.receive_multishot(socket.as_fd(), token);
        let slot = token.slot as usize;
        if slot >= self.clients.len() {
            self.clients.resize_with(slot + 1, || None);
        }
        self.clients[slot] = Some(Box::new(Client::new(socket, token)));
    }

    fn received(&mut self, token: Token, result: io::Result<Option<Buffer>>, more: bool) {
        let slot = token.slot as usize;
        let ended = match result {
            Ok(Some(buffer)) => {
                let next = self.take_buffer(token.slot, &buffer);
                self.ring.recycle(buffer);
                matches!(next, Next::Close)
            }
            // The pool was empty for a moment; the kernel keeps the bytes.
            Err(error) if error.raw_os_error() == Some(ENOBUFS) => false,
            Ok(None) | Err(_) => true,
        };
        let Some(client) = self.clients[slot].as_deref_mut() else {
            return;
        };
        if ended && !client.closing {
            client.closing = true;
            if more {
                self.ring.cancel_receive(token);
            }
        } else if !more && !client.closing {
            self.ring.receive_multishot(client.socket.as_fd(), token);
        }
        self.close_if_idle(token);
    }

    /// Takes all packets of a buffer, in place where they are complete.
    fn take_buffer(&mut self, slot: u32, buffer: &Buffer) -> Next {
        let Some(client) = self.clients[slot as usize].as_deref_mut() else {
            return Next::Continue;
        };
        if client.closing {
            return Next::Continue;
        }
        let mut carry = std::mem::take(&mut client.carry);
        let mut relaying = Relaying {
            slot,
            clients: &mut self.clients,
            routes: &mut self.routes,
            dirty: &mut self.dirty,
            spare: &mut self.spare,
        };
        let received = self.ring.bytes(buffer);
        let (next, done) = if carry.is_empty() {
            let (next, done) = relaying.take_all(received);
            carry.extend_from_slice(&received[done..]);
            (next, 0)
        } else {
            carry.extend_from_slice(received);
            relaying.take_all(&carry)
        };
        carry.drain(..done);
        if let Some(client) = self.clients[slot as usize].as_deref_mut() {
            client.carry = carry;
        }
        next
    }

    fn flush(&mut self, slot: u32) {
        let Some(client) = self.clients[slot as usize].as_deref_mut() else {
            return;
        };
        client.dirty = false;
        if client.out.is_empty() || client.closing || self.ring.is_sending(client.token) {
            return; // the completion of what is sent flushes
        }
        let mut batch = SendBatch::default();
        batch
            .chunks
            .push(Chunk::Owned(std::mem::take(&mut client.out)));
        self.ring.send(client.socket.as_fd(), client.token, batch);
    }

    fn sent(&mut self, token: Token, failed: bool, batch: SendBatch) {
        for chunk in batch.chunks {
            if let Chunk::Owned(mut buffer) = chunk
                && buffer.capacity() <= SPARE_BYTES_MAX
                && self.spare.len() < SPARE_MAX
            {
                buffer.clear();
                self.spare.push(buffer);
            }
        }
        if !failed {
            self.flush(token.slot);
        }
        self.close_if_idle(token);
    }

    fn close_if_idle(&mut self, token: Token) {
        let place = &mut self.clients[token.slot as usize];
        if place.as_ref().is_some_and(|client| client.closing) && self.ring.is_idle(token) {
            *place = None;
            self.ring.release(token);
            self.routes.remove(token.slot);
        }
    }
}

/// No buffer was free (`ENOBUFS`).
const ENOBUFS: i32 = 105;

/// The packets of one client, and whom they concern.
struct Relaying<'a> {
    slot: u32,
    clients: &'a mut [Option<Box<Client>>],
    routes: &'a mut Routes,
    dirty: &'a mut Vec<u32>,
    spare: &'a mut Vec<Vec<u8>>,
}

impl Relaying<'_> {
    /// Takes all complete packets; gives how many bytes they had.
    fn take_all(&mut self, bytes: &[u8]) -> (Next, usize) {
        let mut rest = bytes;
        while let Some(frame) = frame(rest) {
            let (packet, after) = rest.split_at(frame.bytes);
            let header = packet.len() - frame.body.len();
            let next = match frame.first_byte {
                0x30 => self.publish_qos0(packet, frame.body),
                0x32 => self.publish_qos1(packet, header, frame.body),
                0x40 => Next::Continue,
                0x10 => self.connect(frame.body),
                0x82 => self.subscribe(frame.body),
                0xc0 => self.answer(&[0xd0, 0]),
                _ => Next::Close,
            };
            rest = after;
            if matches!(next, Next::Close) {
                return (next, bytes.len());
            }
        }
        (Next::Continue, bytes.len() - rest.len())
    }

    #[inline]
    fn publish_qos0(&mut self, packet: &[u8], body: &[u8]) -> Next {
        let Some((topic, _)) = split_text(body) else {
            return Next::Close;
        };
        for subscriber in self.routes.subscribers(topic) {
            if let Some(client) = ready(self.clients, self.dirty, self.spare, subscriber.slot) {
                client.out.extend_from_slice(packet);
            }
        }
        Next::Continue
    }

    fn publish_qos1(&mut self, packet: &[u8], header: usize, body: &[u8]) -> Next {
        let Some((topic, rest)) = split_text(body) else {
            return Next::Close;
        };
        let Some(identifier) = rest.first_chunk::<2>() else {
            return Next::Close;
        };
        let identifier_at = header + 2 + topic.len();
        for subscriber in self.routes.subscribers(topic) {
            if let Some(client) = ready(self.clients, self.dirty, self.spare, subscriber.slot) {
                match subscriber.qos {
                    0 => client.put_as_qos0(packet, header, identifier_at),
                    _ => client.put_qos1(packet, identifier_at),
                }
            }
        }
        self.answer(&[0x40, 2, identifier[0], identifier[1]])
    }

    fn connect(&mut self, body: &[u8]) -> Next {
        match split_text(body) {
            Some((b"MQTT", [4, ..])) => self.answer(&[0x20, 2, 0, 0]),
            _ => Next::Close,
        }
    }

    fn subscribe(&mut self, body: &[u8]) -> Next {
        let Some((identifier, mut rest)) = body.split_first_chunk::<2>() else {
            return Next::Close;
        };
        let mut codes = Vec::new();
        while let Some((filter, [options, after @ ..])) = split_text(rest) {
            let is_exact = !filter.iter().any(|byte| matches!(byte, b'+' | b'#'))
                && !filter.starts_with(b"$share/");
            let code = if is_exact { (options & 3).min(1) } else { 0x80 };
            if is_exact {
                let subscriber = Subscriber {
                    slot: self.slot,
                    qos: code,
                };
                self.routes.subscribe(filter, subscriber);
            }
            codes.push(code);
            rest = after;
        }
        let mut suback = vec![0x90];
        let mut length = codes.len() + 2;
        while length >= 0x80 {
            suback.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        suback.push(length as u8);
        suback.extend_from_slice(identifier);
        suback.extend_from_slice(&codes);
        self.answer(&suback)
    }

    fn answer(&mut self, packet: &[u8]) -> Next {
        if let Some(client) = ready(self.clients, self.dirty, self.spare, self.slot) {
            client.out.extend_from_slice(packet);
        }
        Next::Continue
    }
}

/// A client that takes another message, with a buffer for it and a place in the list of those with output.
#[inline]
fn ready<'a>(
    clients: &'a mut [Option<Box<Client>>],
    dirty: &mut Vec<u32>,
    spare: &mut Vec<Vec<u8>>,
    slot: u32,
) -> Option<&'a mut Client> {
    let client = clients.get_mut(slot as usize)?.as_deref_mut()?;
    if !client.has_room() {
        return None;
    }
    if !client.dirty {
        client.dirty = true;
        dirty.push(slot);
        if client.out.capacity() == 0 {
            client.out = spare.pop().unwrap_or_default();
        }
    }
    Some(client)
}

/// Text with its length before it, and what follows.
#[inline]
fn split_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))
}
