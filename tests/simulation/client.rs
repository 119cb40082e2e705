//! The clients: devices that follow the specification, with a bad network and a will of their own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::model::Message;
use crate::packet::{
    self, Connect, DISCONNECT, Kind, PINGREQ, Packet, Publish, Subscribe, Version, Will,
};
use crate::property::{self, Value};
use crate::rng::Rng;
use crate::scenario::{FILTERS, OF_MEMBERS, Profile, TOPICS};
use crate::trace;
use crate::wire::{Asked, AskedWill, Said, Wire};
use crate::world::World;

/// A message that a device has sent with QoS 1 or 2.
#[derive(Clone, Debug)]
struct Outgoing {
    identifier: u16,
    message: u64,
    qos: u8,
    released: bool,
    /// The connection on which it was last sent.
    wire: usize,
}

/// A client with its part of the session.
#[derive(Debug)]
pub struct Device {
    pub name: String,
    pub profile: Profile,
    pub wire: Option<usize>,
    /// CONNACK has come.
    online: bool,
    /// It has asked for Clean Start and has no CONNACK yet: it must ask again.
    forgotten: bool,
    read: Vec<u8>,
    /// Acknowledgements to send, in order.
    acknowledgements: VecDeque<(Vec<u8>, Said)>,
    last_identifier: u16,
    outgoing: VecDeque<Outgoing>,
    /// Packet Identifiers of SUBSCRIBE and UNSUBSCRIBE packets that are not answered.
    asked: BTreeSet<u16>,
    /// QoS 2 messages that are received and not released.
    inbound: BTreeSet<u16>,
    aliases: BTreeMap<&'static str, u16>,
}

impl Device {
    pub fn new(number: usize, profile: Profile) -> Self {
        Self {
            name: format!("client-{number}"),
            profile,
            wire: None,
            online: false,
            forgotten: false,
            read: Vec::new(),
            acknowledgements: VecDeque::new(),
            last_identifier: 0,
            outgoing: VecDeque::new(),
            asked: BTreeSet::new(),
            inbound: BTreeSet::new(),
            aliases: BTreeMap::new(),
        }
    }

    fn v5(&self) -> bool {
        self.profile.version == Version::V5
    }

    fn identifier(&mut self) -> u16 {
        loop {
            self.last_identifier = self.last_identifier % 40 + 1;
            let identifier = self.last_identifier;
            let used = self
                .outgoing
                .iter()
                .any(|sent| sent.identifier == identifier);
            if !used && !self.asked.contains(&identifier) {
                return identifier;
            }
        }
    }

    /// The connection is over for the client.
    fn offline(&mut self) {
        self.wire = None;
        self.online = false;
        self.read.clear();
        self.acknowledgements.clear();
        self.asked.clear();
        self.aliases.clear();
    }

    fn forget(&mut self, but_of: Option<usize>) {
        self.inbound.clear();
        self.outgoing.retain(|sent| Some(sent.wire) == but_of);
    }
}

impl World {
    fn write(&mut self, client: usize, bytes: &[u8], said: Said) {
        if let Some(wire) = self.devices[client].wire {
            trace::say(|| format!("client {client} on connection {wire}: {said:?}"));
            self.wires[wire].write(bytes, said);
            self.activity += 1;
        }
    }

    /// A client does one of the things that it can do now.
    pub fn client_acts(&mut self, client: usize, rng: &mut Rng) {
        if self.devices[client].wire.is_none() {
            if rng.chance(40) {
                let clean = rng.chance(self.devices[client].profile.clean_start);
                self.connect(client, clean, rng);
            }
            return;
        }
        if !self.devices[client].online && !rng.chance(20) {
            return;
        }
        match rng.below(100) {
            0..40 => self.publish(client, rng),
            40..61 if self.devices[client].asked.len() > 20 => {}
            40..54 => self.subscribe(client, rng),
            54..61 => self.unsubscribe(client, rng),
            61..86 => {
                let count = rng.pick(&[1, 1, 3, 100]);
                self.acknowledge(client, count);
            }
            86..91 => self.write(client, &PINGREQ, Said::Ping),
            91..94 => self.disconnect(client, rng),
            94..98 => {
                let clean = rng.chance(self.devices[client].profile.clean_start);
                self.connect(client, clean, rng);
            }
            98 => self.write(client, &[0x00, 0x00], Said::Fault),
            _ => {}
        }
    }

    /// Opens a connection; one that is there is left alone, half open.
    fn connect(&mut self, client: usize, clean_start: bool, rng: &mut Rng) {
        if let Some(wire) = self.devices[client].wire {
            self.wires[wire].vanish(rng);
        }
        let device = &mut self.devices[client];
        device.offline();
        let profile = device.profile.clone();
        let never_kept = profile.version != Version::V5 && profile.expiry_s == 0;
        let clean_start = clean_start || never_kept || device.forgotten;
        if clean_start {
            device.forgotten = true;
            device.forget(None);
        }
        let number = self.wires.len();
        device.wire = Some(number);
        let mut asked = Asked {
            client,
            clean_start,
            expiry_s: profile.expiry_s,
            receive_maximum: profile.receive_maximum.unwrap_or(u16::MAX),
            packet_bytes_max: profile.packet_bytes_max.unwrap_or(u32::MAX),
            alias_maximum: profile.alias_maximum,
            keep_alive_s: profile.keep_alive_s,
            will: None,
        };
        let mut connect = Connect::new(&device.name)
            .version(profile.version)
            .keep_alive_s(profile.keep_alive_s);
        if !clean_start {
            connect = connect.resume();
        }
        if device.v5() {
            connect = connect.expiry_s(profile.expiry_s).property(
                property::TOPIC_ALIAS_MAXIMUM,
                Value::Two(profile.alias_maximum),
            );
            if let Some(maximum) = profile.receive_maximum {
                connect = connect.receive_maximum(maximum);
            }
            if let Some(maximum) = profile.packet_bytes_max {
                connect = connect.property(property::MAXIMUM_PACKET_SIZE, Value::Four(maximum));
            }
        } else {
            asked.receive_maximum = u16::MAX;
            asked.packet_bytes_max = u32::MAX;
            asked.alias_maximum = 0;
        }
        if rng.chance(profile.with_will) {
            let (will, asked_will) = self.will(client, rng);
            asked.will = Some(asked_will);
            connect = connect.will(will);
        }
        self.wires.push(Wire::new(client, profile.socket_bytes));
        let shard = rng.below(self.shards.len());
        self.accept(shard, number);
        self.write(client, &connect.bytes(), Said::Connect(Box::new(asked)));
    }

    fn will(&mut self, client: usize, rng: &mut Rng) -> (Will, AskedWill) {
        let v5 = self.devices[client].v5();
        let mut message = self.message(client, rng);
        message.is_will = true;
        let number = self.model.add_message(message);
        let message = self.model.message(number).clone();
        let delay_s = if v5 { rng.pick(&[0, 0, 1, 5, 1000]) } else { 0 };
        let mut will = Will::new(message.topic, &message.payload()).qos(message.qos);
        if message.retain {
            will = will.retain();
        }
        if delay_s > 0 {
            will = will.delay_s(delay_s);
        }
        for (identifier, value) in message.all_properties() {
            will = will.property(identifier, value);
        }
        let asked = AskedWill {
            message: number,
            delay_s,
        };
        (will, asked)
    }

    fn message(&mut self, client: usize, rng: &mut Rng) -> Message {
        let v5 = self.devices[client].v5();
        let retain = rng.chance(30);
        let topic = rng.pick(&TOPICS);
        // What has no payload cannot be told apart, and groups need that.
        let clears = retain && rng.chance(20) && !topic.starts_with("s/");
        let payload_bytes = match (clears, rng.below(20)) {
            (true, _) => 0,
            (_, 0) => 5000,
            (_, 1..5) => 150,
            _ => 8,
        };
        let properties = match v5 && !clears && rng.chance(20) {
            true => vec![property::user_property("name", "value")],
            false => Vec::new(),
        };
        Message {
            number: 0,
            topic,
            publisher: client,
            qos: rng.below(3) as u8,
            retain,
            payload_bytes,
            expiry_s: (v5 && !clears && rng.chance(15)).then(|| rng.pick(&[1, 2, 60])),
            properties,
            is_will: false,
        }
    }

    fn publish(&mut self, client: usize, rng: &mut Rng) {
        let mut message = self.message(client, rng);
        let receive_maximum = self.config.listeners[0].limits.capabilities.receive_maximum;
        let device = &self.devices[client];
        if device.outgoing.len() >= usize::from(receive_maximum).min(10) {
            message.qos = 0;
        }
        let with_alias = device.v5() && rng.chance(30);
        let qos = message.qos;
        let number = self.model.add_message(message);
        let mut identifier = 0;
        if qos > 0 {
            let device = &mut self.devices[client];
            identifier = device.identifier();
            device.outgoing.push_back(Outgoing {
                identifier,
                message: number,
                qos,
                released: false,
                wire: device.wire.unwrap_or(0),
            });
        }
        self.send_publish(client, number, identifier, false, with_alias);
    }

    fn send_publish(
        &mut self,
        client: usize,
        number: u64,
        identifier: u16,
        dup: bool,
        alias: bool,
    ) {
        let message = self.model.message(number).clone();
        let device = &mut self.devices[client];
        let mut topic = message.topic;
        let mut number_of_alias = None;
        if alias {
            let count = device.aliases.len() as u16;
            if let Some(known) = device.aliases.get(topic) {
                number_of_alias = Some(*known);
                topic = "";
            } else {
                // One alias is set anew again and again.
                let new = count.min(3) + 1;
                device.aliases.retain(|_, other| *other != new);
                device.aliases.insert(topic, new);
                number_of_alias = Some(new);
            }
        }
        let mut publish = Publish::new(topic, message.payload()).qos(message.qos);
        if message.qos > 0 {
            publish = publish.identifier(identifier);
        }
        if message.retain {
            publish = publish.retain();
        }
        if dup {
            publish = publish.dup();
        }
        for (name, value) in message.all_properties() {
            publish = publish.property(name, value);
        }
        if let Some(alias) = number_of_alias {
            publish = publish.property(property::TOPIC_ALIAS, Value::Two(alias));
        }
        let bytes = publish.bytes(device.profile.version);
        trace::say(|| format!("message {number} is {message:?}"));
        let said = Said::Publish {
            message: number,
            qos: message.qos,
            identifier,
        };
        self.write(client, &bytes, said);
    }

    fn subscribe(&mut self, client: usize, rng: &mut Rng) {
        let device = &mut self.devices[client];
        let v5 = device.v5();
        let identifier = device.identifier();
        device.asked.insert(identifier);
        let mut subscribe = Subscribe::default();
        let mut filters = Vec::new();
        for _ in 0..rng.between(1, 3) {
            let shared = device.profile.member && rng.chance(50);
            let filter = match (device.profile.member, shared) {
                (_, true) => rng.pick(device.profile.shared),
                (true, false) => rng.pick(&OF_MEMBERS),
                (false, _) => rng.pick(&FILTERS),
            };
            let mut options = rng.pick(&[0, 1, 1, 2, 2]);
            if v5 {
                options |= if !shared && rng.chance(15) {
                    packet::NO_LOCAL
                } else {
                    0
                };
                options |= if rng.chance(30) {
                    packet::RETAIN_AS_PUBLISHED
                } else {
                    0
                };
                options |= rng.pick(&[0, 0, packet::RETAINED_IF_NEW, packet::RETAINED_NEVER]);
            }
            subscribe = subscribe.and(filter, options);
            filters.push((filter, options));
        }
        let subscription_identifier = match v5 && rng.chance(40) {
            true => rng.between(1, 300) as u32,
            false => 0,
        };
        if subscription_identifier > 0 {
            subscribe = subscribe.identified(subscription_identifier);
        }
        let bytes = subscribe.bytes(device.profile.version, identifier);
        let said = Said::Subscribe {
            identifier,
            subscription_identifier,
            filters,
        };
        self.write(client, &bytes, said);
    }

    fn unsubscribe(&mut self, client: usize, rng: &mut Rng) {
        let device = &mut self.devices[client];
        let identifier = device.identifier();
        device.asked.insert(identifier);
        let mut filters = Vec::new();
        for _ in 0..rng.between(1, 2) {
            filters.push(match device.profile.member && rng.chance(50) {
                true => rng.pick(device.profile.shared),
                false => rng.pick(&FILTERS),
            });
        }
        let bytes = packet::unsubscribe(device.profile.version, identifier, &filters);
        let said = Said::Unsubscribe {
            identifier,
            filters,
        };
        self.write(client, &bytes, said);
    }

    fn acknowledge(&mut self, client: usize, count: usize) {
        for _ in 0..count {
            let Some((bytes, said)) = self.devices[client].acknowledgements.pop_front() else {
                return;
            };
            self.write(client, &bytes, said);
        }
    }

    fn disconnect(&mut self, client: usize, rng: &mut Rng) {
        let device = &self.devices[client];
        let (mut keep_will, mut expiry_s) = (false, None);
        let bytes = match device.v5() {
            true => {
                keep_will = rng.chance(50);
                if device.profile.expiry_s > 0 && rng.chance(30) {
                    expiry_s = Some(rng.pick(&[0, 1, 50]));
                }
                let properties: Vec<_> = expiry_s
                    .map(|seconds| (property::SESSION_EXPIRY_INTERVAL, Value::Four(seconds)))
                    .into_iter()
                    .collect();
                packet::disconnect(if keep_will { 4 } else { 0 }, &properties)
            }
            false => DISCONNECT.to_vec(),
        };
        let said = Said::Disconnect {
            keep_will,
            expiry_s,
        };
        self.write(client, &bytes, said);
        self.leave(client);
    }

    /// A client closes its connection.
    pub fn leave(&mut self, client: usize) {
        if let Some(wire) = self.devices[client].wire {
            self.wires[wire].close();
            self.devices[client].offline();
            self.activity += 1;
        }
    }

    /// The network does something to a client's connections.
    pub fn cut(&mut self, client: usize, rng: &mut Rng) {
        let Some(wire) = self.devices[client].wire else {
            // It finds out that an old one is dead.
            let dead = |wire: &&mut Wire| wire.client == client && !wire.client_open;
            if let Some(wire) = self.wires.iter_mut().find(dead) {
                wire.reset();
            }
            return;
        };
        trace::say(|| format!("connection {wire} of client {client} is cut"));
        let wire = &mut self.wires[wire];
        match rng.below(3) {
            0 => wire.close(),
            1 => {
                wire.vanish(rng);
                wire.reset();
            }
            _ => wire.vanish(rng),
        }
        self.devices[client].offline();
    }

    /// A client reads.
    pub fn read(&mut self, client: usize, count: usize) {
        let Some(number) = self.devices[client].wire else {
            return;
        };
        let bytes = self.wires[number].read(count);
        self.activity += u64::from(!bytes.is_empty());
        self.devices[client].read.extend(bytes);
        loop {
            let device = &mut self.devices[client];
            let Some(packet) = Packet::parse(device.profile.version, &device.read) else {
                break;
            };
            device.read.drain(..packet.packet_bytes);
            self.react(client, &packet);
            if self.devices[client].wire != Some(number) {
                return;
            }
        }
        if self.wires[number].at_end() {
            self.leave(client);
        }
    }

    fn react(&mut self, client: usize, packet: &Packet) {
        let device = &mut self.devices[client];
        let identifier = packet.identifier;
        let mut answer = |kind, said| {
            let bytes = packet::acknowledgement(kind, identifier);
            device.acknowledgements.push_back((bytes, said));
        };
        match packet.kind {
            Kind::ConnAck => self.connected(client, packet),
            Kind::Publish if packet.qos == 1 => answer(Kind::PubAck, Said::PubAck(identifier)),
            Kind::Publish if packet.qos == 2 => {
                answer(Kind::PubRec, Said::PubRec(identifier));
                device.inbound.insert(identifier);
            }
            Kind::PubRel => {
                answer(Kind::PubComp, Said::PubComp(identifier));
                device.inbound.remove(&identifier);
            }
            Kind::PubAck | Kind::PubComp => {
                device.outgoing.retain(|sent| sent.identifier != identifier);
            }
            Kind::PubRec if packet.code >= 0x80 => {
                device.outgoing.retain(|sent| sent.identifier != identifier);
            }
            Kind::PubRec => {
                let mut sent = device.outgoing.iter_mut();
                if let Some(sent) = sent.find(|sent| sent.identifier == identifier) {
                    sent.released = true;
                }
                answer(Kind::PubRel, Said::PubRel(identifier));
            }
            Kind::SubAck | Kind::UnsubAck => {
                device.asked.remove(&identifier);
            }
            Kind::Disconnect => self.leave(client),
            _ => {}
        }
    }

    fn connected(&mut self, client: usize, packet: &Packet) {
        let device = &mut self.devices[client];
        if packet.code != 0 {
            self.leave(client);
            return;
        }
        device.online = true;
        device.forgotten = false;
        let wire = device.wire.unwrap_or(0);
        // 3.1 does not tell.
        if !packet.session_present && device.profile.version != Version::V31 {
            device.forget(Some(wire));
        }
        let again: Vec<_> = device
            .outgoing
            .iter_mut()
            .filter(|sent| sent.wire != wire)
            .map(|sent| {
                sent.wire = wire;
                sent.clone()
            })
            .collect();
        for sent in again {
            if sent.released {
                let bytes = packet::acknowledgement(Kind::PubRel, sent.identifier);
                self.write(client, &bytes, Said::PubRel(sent.identifier));
            } else {
                debug_assert!(sent.qos > 0);
                self.send_publish(client, sent.message, sent.identifier, true, false);
            }
        }
    }

    /// The network finds out which clients are gone.
    pub fn find_out_who_is_gone(&mut self, stuck: &[usize]) {
        for wire in &mut self.wires {
            if !wire.client_open && !stuck.contains(&wire.client) {
                wire.reset();
            }
        }
    }

    /// A client with a session comes back, reads all and answers all.
    pub fn recover(&mut self, client: usize, rng: &mut Rng) {
        if self.devices[client].wire.is_none() && self.model.has_session(client) {
            self.connect(client, false, rng);
        }
        self.read(client, usize::MAX);
        self.acknowledge(client, usize::MAX);
    }

    /// A client says that it is there.
    pub fn ping(&mut self, client: usize) {
        self.write(client, &PINGREQ, Said::Ping);
    }

    /// A client asks for a session that ends with its connection.
    pub fn end_session(&mut self, client: usize, rng: &mut Rng) {
        self.leave(client);
        let profile = &mut self.devices[client].profile;
        profile.expiry_s = 0;
        profile.with_will = 0;
        self.connect(client, true, rng);
    }
}
