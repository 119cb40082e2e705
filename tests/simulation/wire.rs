//! A Network Connection between a client and a shard: bytes on their way, and how it ends.

use std::collections::VecDeque;

use crate::rng::Rng;

/// A Control Packet of a client, as far as the model must know it.
#[derive(Clone, Debug)]
pub enum Said {
    Connect(Box<Asked>),
    Publish {
        message: u64,
        qos: u8,
        identifier: u16,
    },
    PubAck(u16),
    PubRec(u16),
    PubRel(u16),
    PubComp(u16),
    Subscribe {
        identifier: u16,
        subscription_identifier: u32,
        /// Topic Filters with their Subscription Options.
        filters: Vec<(&'static str, u8)>,
    },
    Unsubscribe {
        identifier: u16,
        filters: Vec<&'static str>,
    },
    Ping,
    Disconnect {
        keep_will: bool,
        expiry_s: Option<u32>,
    },
    /// What no client may send: the broker ends the connection.
    Fault,
}

/// What a CONNECT asks for.
#[derive(Clone, Debug)]
pub struct Asked {
    pub client: usize,
    pub clean_start: bool,
    pub expiry_s: u32,
    pub receive_maximum: u16,
    pub packet_bytes_max: u32,
    pub alias_maximum: u16,
    pub keep_alive_s: u16,
    pub will: Option<AskedWill>,
}

/// A Will Message, by its message's number.
#[derive(Clone, Copy, Debug)]
pub struct AskedWill {
    pub message: u64,
    pub delay_s: u32,
}

/// How the broker's side learns that the client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// After the bytes that are on their way.
    Closed,
    /// The same, and whatever is sent fails.
    Reset,
}

/// One connection.
#[derive(Debug)]
pub struct Wire {
    pub client: usize,
    /// Written by the client and not yet received by the shard.
    to_broker: VecDeque<u8>,
    /// The packets in it, by the offset of their end in all that the client ever wrote.
    said: VecDeque<(u64, Said)>,
    written: u64,
    taken: u64,
    /// Of the send that is under way, not yet in the socket.
    sending: VecDeque<u8>,
    is_sending: bool,
    /// In the socket, for the client to read.
    to_client: VecDeque<u8>,
    socket_bytes: usize,
    /// What the broker's side will find when it has received all.
    pub gone: Option<Gone>,
    /// The client's side is there: it reads and writes.
    pub client_open: bool,
    /// The broker's side writes no more.
    pub broker_done: bool,
    /// The broker's side is closed.
    pub broker_closed: bool,
}

impl Wire {
    pub fn new(client: usize, socket_bytes: usize) -> Self {
        Self {
            client,
            to_broker: VecDeque::new(),
            said: VecDeque::new(),
            written: 0,
            taken: 0,
            sending: VecDeque::new(),
            is_sending: false,
            to_client: VecDeque::new(),
            socket_bytes,
            gone: None,
            client_open: true,
            broker_done: false,
            broker_closed: false,
        }
    }

    /// The client writes a packet.
    pub fn write(&mut self, bytes: &[u8], said: Said) {
        self.to_broker.extend(bytes);
        self.written += bytes.len() as u64;
        self.said.push_back((self.written, said));
    }

    /// Bytes that wait for the shard.
    pub fn waiting(&self) -> usize {
        self.to_broker.len()
    }

    /// The shard receives up to `count` bytes.
    pub fn receive(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.to_broker.len());
        self.to_broker.drain(..count).collect()
    }

    /// The broker has taken `count` bytes: gives the packets that it has thereby handled.
    pub fn handled(&mut self, count: usize) -> Vec<Said> {
        self.taken += count as u64;
        let mut handled = Vec::new();
        while let Some((end, _)) = self.said.front()
            && *end <= self.taken
        {
            handled.extend(self.said.pop_front().map(|(_, said)| said));
        }
        handled
    }

    /// Whether a send is under way.
    pub fn is_sending(&self) -> bool {
        self.is_sending
    }

    /// The shard sends `bytes`.
    pub fn send(&mut self, bytes: &[u8]) {
        assert!(!self.is_sending, "one send at a time");
        self.is_sending = true;
        self.sending.extend(bytes);
    }

    /// Moves bytes into the socket; true if that completes the send.
    pub fn push(&mut self) -> bool {
        if !self.is_sending {
            return false;
        }
        while let Some(byte) = self.sending.pop_front() {
            if self.gone.is_some() {
                continue; // the client's kernel throws it away
            }
            if self.to_client.len() >= self.socket_bytes {
                self.sending.push_front(byte);
                return false;
            }
            self.to_client.push_back(byte);
        }
        self.is_sending = false;
        true
    }

    /// Whether a send that is under way fails.
    pub fn send_fails(&self) -> bool {
        self.is_sending && self.gone == Some(Gone::Reset)
    }

    /// Gives the send up.
    pub fn cancel_send(&mut self) {
        self.sending.clear();
        self.is_sending = false;
    }

    /// The client reads up to `count` bytes.
    pub fn read(&mut self, count: usize) -> Vec<u8> {
        let count = count.min(self.to_client.len());
        self.to_client.drain(..count).collect()
    }

    /// Bytes that the client can read.
    pub fn readable(&self) -> usize {
        self.to_client.len()
    }

    /// Whether the client has read all and nothing more will come.
    pub fn at_end(&self) -> bool {
        self.to_client.is_empty() && (self.broker_closed || (self.broker_done && !self.is_sending))
    }

    /// The client's side closes in an orderly way: all that it has written arrives.
    pub fn close(&mut self) {
        self.client_open = false;
        self.to_client.clear();
        self.gone = Some(Gone::Closed);
    }

    /// The client's side vanishes in the middle of what it has written, and nobody is told.
    pub fn vanish(&mut self, rng: &mut Rng) {
        self.client_open = false;
        let lost = rng.below(self.to_broker.len() + 1);
        self.to_broker.truncate(self.to_broker.len() - lost);
    }

    /// The network has found out that the client is gone.
    pub fn reset(&mut self) {
        self.client_open = false;
        self.to_client.clear();
        self.gone.get_or_insert(Gone::Reset);
    }
}
