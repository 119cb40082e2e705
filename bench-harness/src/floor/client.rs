//! A client of the relay.

use std::os::fd::OwnedFd;

use ringmq::net::ring::Token;

/// A connection with its output.
#[derive(Debug)]
pub struct Client {
    /// Its socket.
    pub socket: OwnedFd,
    /// Its slot in the ring.
    pub token: Token,
    /// The beginning of a packet that is not complete.
    pub carry: Vec<u8>,
    /// Output of this turn.
    pub out: Vec<u8>,
    /// Whether it stands in the list of clients with output.
    pub dirty: bool,
    /// Whether it is to be closed when nothing of it is in flight.
    pub closing: bool,
    /// The last Packet Identifier that was used towards it.
    pub identifier: u16,
}

/// Output of a client that waits: beyond it messages for it are dropped, bytes.
const OUT_BYTES_MAX: usize = 64 << 20;

impl Client {
    /// Without output.
    pub fn new(socket: OwnedFd, token: Token) -> Self {
        Self {
            socket,
            token,
            carry: Vec::new(),
            out: Vec::new(),
            dirty: false,
            closing: false,
            identifier: 0,
        }
    }

    /// Whether another message may wait for it.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.out.len() < OUT_BYTES_MAX
    }

    /// Appends a QoS 1 message, of which only the Packet Identifier at `identifier_at` is changed.
    #[inline]
    pub fn put_qos1(&mut self, packet: &[u8], identifier_at: usize) {
        self.identifier = match self.identifier {
            u16::MAX => 1,
            identifier => identifier + 1,
        };
        let start = self.out.len();
        self.out.extend_from_slice(packet);
        let at = start + identifier_at;
        self.out[at..at + 2].copy_from_slice(&self.identifier.to_be_bytes());
    }

    /// Appends a QoS 1 message as QoS 0: without its Packet Identifier.
    pub fn put_as_qos0(&mut self, packet: &[u8], header: usize, identifier_at: usize) {
        self.out.push(0x30);
        let mut length = packet.len() - header - 2;
        while length >= 0x80 {
            self.out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        self.out.push(length as u8);
        self.out.extend_from_slice(&packet[header..identifier_at]);
        self.out.extend_from_slice(&packet[identifier_at + 2..]);
    }
}
