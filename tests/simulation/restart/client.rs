//! A client that keeps its part of the session, and expects the broker to keep the other.

use std::collections::{BTreeSet, VecDeque};

use super::ledger::Ledger;
use super::shards::Shards;
use crate::packet::{Connect, Kind, Packet, Publish, Subscribe, Version, acknowledgement};
use crate::rng::Rng;
use crate::trace;

/// Topic Names; below `r/` there is one for each client, for its retained messages.
pub const TOPICS: [&str; 3] = ["t/0", "t/1", "u/1"];
const FILTERS: [&str; 5] = ["t/0", "t/1", "t/+", "+/1", "#"];
/// Messages that a client has unacknowledged at most.
const OUTGOING_MAX: usize = 8;

#[derive(Clone, Debug)]
struct Outgoing {
    identifier: u16,
    message: usize,
    qos: u8,
    released: bool,
}

#[derive(Debug)]
pub struct Device {
    number: usize,
    name: String,
    version: Version,
    subscriptions: Vec<(&'static str, u8)>,
    subscribed: bool,
    online: bool,
    read: Vec<u8>,
    last_identifier: u16,
    outgoing: VecDeque<Outgoing>,
    inbound: BTreeSet<u16>,
    acknowledgements: VecDeque<Vec<u8>>,
}

impl Device {
    pub fn new(number: usize, rng: &mut Rng) -> Self {
        let count = rng.between(1, 2);
        let filters = (0..count).map(|_| (rng.pick(&FILTERS), rng.pick(&[1, 2])));
        Self {
            number,
            name: Self::name(number),
            subscriptions: filters.collect(),
            version: rng.pick(&[Version::V311, Version::V5]),
            subscribed: false,
            online: false,
            read: Vec::new(),
            last_identifier: 0,
            outgoing: VecDeque::new(),
            inbound: BTreeSet::new(),
            acknowledgements: VecDeque::new(),
        }
    }

    pub fn name(number: usize) -> String {
        format!("client-{number}")
    }

    /// Whether it waits for nothing.
    pub fn is_done(&self) -> bool {
        self.online && self.subscribed && self.outgoing.is_empty() && self.inbound.is_empty()
    }

    fn write(&self, shards: &mut Shards, bytes: &[u8]) {
        if let Some(link) = shards.links.get_mut(&self.number) {
            link.to_broker.extend_from_slice(bytes);
            shards.activity += 1;
        }
    }

    /// Finds out that its connection is gone, and opens another.
    pub fn connect(&mut self, shards: &mut Shards) {
        shards.close(self.number);
        shards.open(self.number);
        self.online = false;
        self.read.clear();
        self.acknowledgements.clear();
        let mut connect = Connect::new(&self.name).version(self.version).resume();
        if self.version == Version::V5 {
            connect = connect.expiry_s(u32::MAX);
        }
        self.write(shards, &connect.keep_alive_s(0).bytes());
    }

    /// Does one of the things that it can do now.
    pub fn act(&mut self, shards: &mut Shards, ledger: &mut Ledger, rng: &mut Rng) {
        if !shards.links.contains_key(&self.number) {
            if rng.chance(50) {
                self.connect(shards);
            }
            return;
        }
        match rng.below(10) {
            0..4 if self.subscribed && self.online => self.publish(shards, ledger, rng),
            4..7 => self.take(shards, ledger, rng.pick(&[3, 50, 10_000])),
            7..9 => self.acknowledge(shards, rng.pick(&[1, 2, 100])),
            9 if rng.chance(20) => self.connect(shards),
            _ => {}
        }
    }

    fn publish(&mut self, shards: &mut Shards, ledger: &mut Ledger, rng: &mut Rng) {
        if self.outgoing.len() >= OUTGOING_MAX {
            return;
        }
        let retain = rng.chance(20);
        // What is retained is acknowledged in order, so that only the last can be sent again.
        let qos = if retain { 1 } else { rng.pick(&[1, 2]) };
        let topic = match retain {
            true => format!("r/{}", self.number),
            false => rng.pick(&TOPICS).to_owned(),
        };
        let message = ledger.published(self.number, topic, qos, retain);
        let identifier = loop {
            self.last_identifier = self.last_identifier % 20 + 1;
            let identifier = self.last_identifier;
            let mut used = self.outgoing.iter().map(|sent| sent.identifier);
            if !used.any(|used| used == identifier) {
                break identifier;
            }
        };
        let sent = Outgoing {
            identifier,
            message,
            qos,
            released: false,
        };
        self.send(shards, ledger, &sent, false);
        self.outgoing.push_back(sent);
    }

    fn send(&self, shards: &mut Shards, ledger: &Ledger, sent: &Outgoing, again: bool) {
        if sent.released {
            self.write(shards, &acknowledgement(Kind::PubRel, sent.identifier));
            return;
        }
        let message = ledger.message(sent.message);
        let payload = (sent.message as u64).to_be_bytes();
        let mut publish = Publish::new(&message.topic, payload)
            .qos(sent.qos)
            .identifier(sent.identifier);
        if message.retain {
            publish = publish.retain();
        }
        if again {
            publish = publish.dup();
        }
        trace::say(|| format!("client {}: sends {sent:?} again: {again}", self.number));
        self.write(shards, &publish.bytes(self.version));
    }

    pub fn acknowledge(&mut self, shards: &mut Shards, count: usize) {
        for _ in 0..count {
            let Some(bytes) = self.acknowledgements.pop_front() else {
                return;
            };
            self.write(shards, &bytes);
        }
    }

    /// Reads up to `count` bytes and takes the packets in them.
    pub fn take(&mut self, shards: &mut Shards, ledger: &mut Ledger, count: usize) {
        let Some(link) = shards.links.get_mut(&self.number) else {
            return;
        };
        let count = count.min(link.to_client.len());
        self.read.extend(link.to_client.drain(..count));
        shards.activity += count as u64;
        while let Some(packet) = Packet::parse(self.version, &self.read) {
            self.read.drain(..packet.packet_bytes);
            trace::say(|| format!("client {}: gets {packet:?}", self.number));
            self.take_packet(shards, ledger, &packet);
        }
    }

    fn take_packet(&mut self, shards: &mut Shards, ledger: &mut Ledger, packet: &Packet) {
        let answer = |kind| acknowledgement(kind, packet.identifier);
        // PUBREL that is sent again may be of a message that was complete before the crash.
        let complete = packet.kind == Kind::PubComp && packet.code == 0x92;
        assert!(packet.code < 0x80 || complete, "{packet:?}");
        match packet.kind {
            Kind::ConnAck => self.connected(shards, ledger, packet.session_present),
            Kind::SubAck => {
                self.subscribed = true;
                ledger.subscribed(self.number, &self.subscriptions);
            }
            Kind::Publish => {
                let new = packet.qos < 2 || self.inbound.insert(packet.identifier);
                if new {
                    ledger.delivered(self.number, packet);
                }
                match packet.qos {
                    1 => self.acknowledgements.push_back(answer(Kind::PubAck)),
                    2 => self.acknowledgements.push_back(answer(Kind::PubRec)),
                    _ => {}
                }
            }
            Kind::PubRel => {
                self.inbound.remove(&packet.identifier);
                self.acknowledgements.push_back(answer(Kind::PubComp));
            }
            Kind::PubAck | Kind::PubRec | Kind::PubComp => {
                let is = |sent: &Outgoing| sent.identifier == packet.identifier;
                let place = self.outgoing.iter().position(is);
                let place = place.expect("an acknowledgement of something");
                if packet.kind == Kind::PubRec {
                    self.outgoing[place].released = true;
                    self.write(shards, &answer(Kind::PubRel));
                } else {
                    self.outgoing.remove(place);
                }
            }
            other => panic!("{other:?} to client {}", self.number),
        }
    }

    fn connected(&mut self, shards: &mut Shards, ledger: &Ledger, present: bool) {
        assert!(
            present || !self.subscribed,
            "the session of client {} is lost, though it had SUBACK",
            self.number
        );
        self.online = true;
        for sent in &self.outgoing {
            self.send(shards, ledger, sent, true);
        }
        if !self.subscribed {
            let all = Subscribe::default();
            let filters = self.subscriptions.iter();
            let subscribe = filters.fold(all, |all, (filter, qos)| all.and(filter, *qos));
            // Of no message: those use lower ones.
            self.write(shards, &subscribe.bytes(self.version, 1_000));
        }
    }
}
