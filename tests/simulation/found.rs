//! What the simulator has found, each told by hand so that it stays found: a few brokers, a few packets, and
//! batches that arrive when the test says so.

use std::sync::Arc;

use ringmq::broker::envelope::Batch;
use ringmq::broker::output::Segment;
use ringmq::broker::{Broker, Budget, Now};
use ringmq::config::Config;
use ringmq::config::limits::RETAINED_LIVE_TOPICS_MAX;
use ringmq::observability::counters::DropCause;
use ringmq::routing::ids::ShardId;
use ringmq::routing::topic_hash::{TopicHasher, shard_of};

use crate::packet::{
    Connect, Kind, Packet, Publish, Subscribe, Version, acknowledgement, unsubscribe,
};
use crate::property::{self, Value};

/// A connection: shard and slot.
#[derive(Clone, Copy)]
struct At(usize, u32);

struct Story {
    brokers: Vec<Broker>,
    hasher: TopicHasher,
    now: Now,
    slots: u32,
}

impl Story {
    fn new(shards: u16, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        change(&mut config);
        let config = Arc::new(config);
        let hasher = TopicHasher::new(1);
        let now = Now {
            mono_ms: 1_000,
            unix_s: 1,
        };
        let brokers = (0..shards).map(|shard| {
            let config = Arc::clone(&config);
            Broker::new(ShardId(shard), shards, config, hasher.clone(), now)
        });
        Self {
            brokers: brokers.collect(),
            hasher: hasher.clone(),
            now,
            slots: 0,
        }
    }

    /// A Client Identifier that is at home on a shard.
    fn name(&self, name: &str, shard: usize) -> String {
        let count = self.brokers.len() as u16;
        let mut names = (0..).map(|number| format!("{name}{number}"));
        names
            .find(|name| self.hasher.home_of(name, count).index() == shard)
            .unwrap()
    }

    fn connect(&mut self, shard: usize, connect: &Connect) -> At {
        let at = At(shard, self.slots);
        self.slots += 1;
        self.brokers[shard].open(at.1, 0, self.now);
        self.send(at, &connect.bytes());
        assert_eq!(self.received(at)[0].code, 0);
        at
    }

    fn send(&mut self, at: At, bytes: &[u8]) {
        let mut budget = Budget { bytes: 1 << 20 };
        self.brokers[at.0].receive(at.1, bytes, &mut budget, self.now);
    }

    fn lose(&mut self, at: At) {
        self.brokers[at.0].network_closed(at.1, "cut", self.now);
        self.brokers[at.0].release(at.1);
    }

    /// What was sent to a connection of a 5.0 client.
    fn received(&mut self, at: At) -> Vec<Packet> {
        let mut bytes = Vec::new();
        self.brokers[at.0].take_output(at.1, |segment| match segment {
            Segment::Packets(packets) => bytes.extend(packets),
            Segment::Payload(payload) => bytes.extend(payload),
        });
        self.brokers[at.0].output_sent(at.1, self.now);
        let mut packets = Vec::new();
        while let Some(packet) = Packet::parse(Version::V5, &bytes) {
            bytes.drain(..packet.packet_bytes);
            packets.push(packet);
        }
        packets
    }

    fn texts(&mut self, at: At) -> Vec<String> {
        let packets = self.received(at).into_iter();
        let publishes = packets.filter(|packet| packet.kind == Kind::Publish);
        publishes.map(|packet| packet.text().to_owned()).collect()
    }

    /// The batches of a shard, but for those to a shard whose inbox is full.
    fn batches(&mut self, from: usize, full: Option<usize>) -> Vec<(usize, Batch)> {
        let mut batches = Vec::new();
        self.brokers[from].mesh().flush(|to, batch| {
            if Some(to.index()) == full {
                return Err(batch);
            }
            batches.push((to.index(), batch));
            Ok(())
        });
        batches
    }

    fn deliver(&mut self, batches: Vec<(usize, Batch)>) {
        for (to, batch) in batches {
            self.brokers[to].take_batch(batch, self.now);
        }
    }

    /// Lets all shards talk, but for what one of them has for another.
    fn talk(&mut self, but: Option<(usize, usize)>) {
        for _ in 0..8 {
            for from in 0..self.brokers.len() {
                let full = but
                    .filter(|(stuck, _)| *stuck == from)
                    .map(|(_, full)| full);
                let batches = self.batches(from, full);
                self.deliver(batches);
            }
        }
    }
}

fn with_expiry(topic: &str, payload: &str) -> Publish {
    Publish::new(topic, payload).property(property::MESSAGE_EXPIRY_INTERVAL, Value::Four(1))
}

#[test]
fn a_message_that_expires_between_shards_is_not_delivered() {
    for topic in ["t", "s/t"] {
        let mut story = Story::new(2, |_| {});
        let publisher = Connect::new(&story.name("p", 0));
        let subscriber = Connect::new(&story.name("s", 1));
        let publisher = story.connect(0, &publisher);
        let subscriber = story.connect(1, &subscriber);
        let subscribe = Subscribe::to("t", 1).and("$share/g/s/t", 1);
        story.send(subscriber, &subscribe.bytes(Version::V5, 1));
        story.talk(None);
        story.send(publisher, &with_expiry(topic, "late").bytes(Version::V5));
        let batches = story.batches(0, None);
        story.now.mono_ms += 2_000;
        story.deliver(batches);
        assert!(story.texts(subscriber).is_empty());
        let dropped = story.brokers[1].counters().dropped;
        assert_eq!(dropped[DropCause::Expired as usize], 1);
    }
}

/// Two members of a group on one shard, one of which has a message; gives it and then the other.
fn members_with_a_message(story: &mut Story, message: &Publish) -> (At, At) {
    let members = ["a", "b"].map(|name| {
        let at = story.connect(0, &Connect::new(name));
        story.send(at, &Subscribe::to("$share/g/t", 1).bytes(Version::V5, 1));
        at
    });
    let publisher = story.connect(0, &Connect::new("p"));
    let message = message.clone().qos(1).identifier(1);
    story.send(publisher, &message.bytes(Version::V5));
    let [first, second] = members;
    match story.texts(first).is_empty() {
        true => (second, first),
        false => (first, second),
    }
}

#[test]
fn a_message_that_has_expired_does_not_go_back_to_its_group() {
    let mut story = Story::new(1, |_| {});
    let (holder, other) = members_with_a_message(&mut story, &with_expiry("t", "late"));
    story.now.mono_ms += 2_000;
    story.lose(holder);
    assert!(story.texts(other).is_empty());
}

#[test]
fn a_message_goes_back_to_a_group_that_its_holder_has_left() {
    let mut story = Story::new(1, |_| {});
    let (holder, other) = members_with_a_message(&mut story, &Publish::new("t", "kept"));
    story.send(holder, &unsubscribe(Version::V5, 2, &["$share/g/t"]));
    story.lose(holder);
    assert_eq!(story.texts(other), ["kept"]);
}

#[test]
fn qos_0_that_waited_is_not_overtaken() {
    let mut story = Story::new(1, |config| config.session.queue_qos0_offline = true);
    let lasting = Connect::new("s").lasting().receive_maximum(1);
    let away = story.connect(0, &lasting);
    story.send(away, &Subscribe::to("t", 1).bytes(Version::V5, 1));
    story.lose(away);
    let publisher = story.connect(0, &Connect::new("p"));
    for (identifier, text, qos) in [(1, "1", 1), (2, "2", 1), (3, "first", 0)] {
        let publish = Publish::new("t", text).qos(qos).identifier(identifier);
        story.send(publisher, &publish.bytes(Version::V5));
    }
    let back = story.connect(0, &lasting);
    story.send(publisher, &Publish::new("t", "second").bytes(Version::V5));
    for identifier in [1, 2] {
        story.send(back, &acknowledgement(Kind::PubAck, identifier));
    }
    let texts = story.texts(back);
    assert_eq!(texts[texts.len() - 2..], ["first", "second"]);
}

#[test]
fn the_receive_maximum_starts_anew_with_a_connection() {
    let mut story = Story::new(1, |config| {
        config.listeners[0].limits.capabilities.receive_maximum = 1;
    });
    let connect = Connect::new("c").lasting();
    let publish = |identifier| Publish::new("t", "x").qos(2).identifier(identifier);
    let former = story.connect(0, &connect);
    story.send(former, &publish(1).bytes(Version::V5));
    story.lose(former);
    // The client has forgotten what it had sent.
    let at = story.connect(0, &connect);
    story.send(at, &publish(2).bytes(Version::V5));
    assert_eq!(story.received(at)[0].kind, Kind::PubRec);
    story.send(at, &publish(3).bytes(Version::V5));
    let last = story.received(at).pop().unwrap();
    assert_eq!((last.kind, last.code), (Kind::Disconnect, 0x93));
}

#[test]
fn a_subscription_that_is_made_again_gets_no_older_retained_message() {
    let mut story = Story::new(3, |_| {});
    let mut topics = (0..).map(|number| format!("t{number}"));
    let owned_by_2 = |topic: &String| shard_of(story.hasher.hash(topic), 3) == ShardId(2);
    let topic = topics.find(owned_by_2).unwrap();
    let subscriber = Connect::new(&story.name("s", 0));
    let publisher = Connect::new(&story.name("p", 1));
    let subscriber = story.connect(0, &subscriber);
    let publisher = story.connect(1, &publisher);
    let subscribe = Subscribe::to(&topic, 1);
    story.send(
        publisher,
        &Publish::new(&topic, "old").retain().bytes(Version::V5),
    );
    story.send(subscriber, &subscribe.bytes(Version::V5, 1));
    story.talk(None);
    assert_eq!(story.texts(subscriber), ["old"]);
    // The newer message is with the subscriber before it is with the owner of its topic.
    story.send(
        publisher,
        &Publish::new(&topic, "new").retain().bytes(Version::V5),
    );
    let batches = story.batches(1, Some(2));
    story.deliver(batches);
    assert_eq!(story.texts(subscriber), ["new"]);
    story.send(subscriber, &subscribe.bytes(Version::V5, 2));
    story.talk(Some((1, 2)));
    assert!(
        story.texts(subscriber).is_empty(),
        "the owner is asked too early"
    );
    story.talk(None);
    assert_eq!(story.texts(subscriber), ["new"]);
}

#[test]
fn with_too_many_notes_owners_are_asked_when_all_have_confirmed_and_not_by_the_clock() {
    let mut story = Story::new(3, |config| config.retained.slice_messages = 1);
    let topics = (0..).map(|number| format!("r/{number:03}"));
    let owned_by_2 = |topic: &String| shard_of(story.hasher.hash(topic), 3) == ShardId(2);
    let topics: Vec<String> = topics.filter(owned_by_2).take(4).collect();
    let publisher = Connect::new(&story.name("p", 1));
    let flooder = Connect::new(&story.name("f", 0));
    let subscriber = Connect::new(&story.name("s", 0));
    let publisher = story.connect(1, &publisher);
    let flooder = story.connect(0, &flooder);
    let one = Value::Two(1);
    let subscriber = story.connect(0, &subscriber.property(property::RECEIVE_MAXIMUM, one));
    let retained = |topic: &str, text: &str| Publish::new(topic, text).retain().qos(1);
    for topic in &topics {
        let publish = retained(topic, "old").identifier(1);
        story.send(publisher, &publish.bytes(Version::V5));
    }
    story.talk(None);
    story.send(subscriber, &Subscribe::to("r/#", 1).bytes(Version::V5, 1));
    story.talk(None);
    let mut packets = story.received(subscriber);
    assert_eq!(packets.pop().unwrap().topic, topics[0]);
    // The newer message of the last topic is noted, but not with the owner yet, when all notes are forgotten.
    let publish = retained(&topics[3], "new").identifier(2);
    story.send(publisher, &publish.bytes(Version::V5));
    let batches = story.batches(1, Some(2));
    story.deliver(batches);
    for number in 0..=RETAINED_LIVE_TOPICS_MAX {
        let publish = Publish::new(&format!("r/flood/{number}"), "").retain();
        story.send(flooder, &publish.bytes(Version::V5));
        if number % 1_000 == 0 {
            story.talk(Some((1, 2)));
            story.received(subscriber);
        }
    }
    story.talk(Some((1, 2)));
    story.received(subscriber);
    let mut last_texts = Vec::new();
    for round in 0..10 {
        for identifier in 1..=20 {
            story.send(subscriber, &acknowledgement(Kind::PubAck, identifier));
            story.talk((round == 0).then_some((1, 2)));
            let packets = story.received(subscriber).into_iter();
            let last = packets.filter(|packet| packet.topic == topics[3]);
            last_texts.extend(last.map(|packet| packet.text().to_owned()));
        }
        // From the outbox only, as long as a shard has not confirmed.
        assert!(round > 0 || last_texts == ["new"], "{last_texts:?}");
    }
    assert_eq!(last_texts, ["new", "new"]);
}
