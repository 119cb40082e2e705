//! One broker for many tests: each test has a corner of its own, with names that nobody else uses.
//!
//! A broker lives as long as a test uses it. The next test with the same settings joins it, or starts
//! another one, so brokers are few and each of them still ends in an orderly way.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::{Broker, Client, Connect, Packet, Version};

/// The brokers that run, by their settings. At most one for each.
static RUNNING: Mutex<Vec<(String, Weak<Broker>)>> = Mutex::new(Vec::new());

/// A test's own corner of a broker.
pub struct Scene {
    broker: Arc<Broker>,
    name: String,
}

impl Scene {
    /// On a broker with the defaults.
    pub fn new() -> Self {
        Self::with("")
    }

    /// On a broker with `settings`, as [`super::broker::config_text`] takes them.
    pub fn with(settings: &str) -> Self {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("main");
        Self {
            broker: running(settings),
            name: test.rsplit("::").next().unwrap_or(test).to_owned(),
        }
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// A Client Identifier of this test.
    pub fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// A Topic Name or Topic Filter below this test's own level.
    pub fn topic(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    /// A shared filter with a Share Name of this test.
    pub fn shared(&self, name: &str) -> String {
        format!("$share/{}/{}", self.name, self.topic(name))
    }

    /// CONNECT of 5.0 with Clean Start and a Client Identifier of this test.
    pub fn connect(&self, name: &str) -> Connect {
        Connect::new(&self.id(name))
    }

    /// A client that is connected so.
    pub fn client(&self, name: &str) -> Client {
        self.join(self.connect(name))
    }

    /// A client that is connected with `connect`.
    pub fn join(&self, connect: Connect) -> Client {
        Client::connect(&self.broker, connect)
    }

    /// A client that is subscribed to `filter` below this test's level, and to the topic `end` there.
    pub fn reader(&self, name: &str, filter: &str, options: u8) -> Client {
        let mut reader = self.client(name);
        reader.subscribe(&self.topic(filter), options);
        reader.subscribe(&self.topic("end"), 1);
        reader
    }

    /// What `reader`, who is subscribed to the topic `end`, gets of all that `writer` has published so far.
    #[track_caller]
    pub fn until_end(&self, reader: &mut Client, writer: &mut Client) -> Vec<Packet> {
        let end = self.topic("end");
        writer.publish(&end, "", 1);
        let mut messages = Vec::new();
        loop {
            let message = reader.message();
            if message.topic == end {
                return messages;
            }
            messages.push(message);
        }
    }

    /// A 5.0 connection on which nothing is sent yet.
    pub fn open(&self) -> Client {
        Client::open(self.broker.address(), Version::V5)
    }

    /// Sends CONNECT and expects that it is refused: gives the CONNACK before the close.
    #[track_caller]
    pub fn refused(&self, connect: &Connect) -> Packet {
        Client::refused(&self.broker, connect)
    }
}

fn running(settings: &str) -> Arc<Broker> {
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    let found = running.iter().find(|(other, _)| other == settings);
    if let Some(broker) = found.and_then(|(_, broker)| broker.upgrade()) {
        return broker;
    }
    let broker = Arc::new(Broker::with(settings));
    running.retain(|(_, other)| other.strong_count() > 0);
    running.push((settings.to_owned(), Arc::downgrade(&broker)));
    broker
}
