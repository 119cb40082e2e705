//! What was promised: every message to every client that had SUBACK when it was published, through all crashes.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::topics;
use crate::packet::Packet;

#[derive(Debug)]
pub struct Message {
    pub publisher: usize,
    pub topic: String,
    pub qos: u8,
    pub retain: bool,
    /// Who must get it.
    owed: BTreeSet<usize>,
}

#[derive(Debug, Default)]
pub struct Ledger {
    messages: Vec<Message>,
    subscriptions: BTreeMap<usize, Vec<(&'static str, u8)>>,
    /// The last new message to a client, of each publisher, Topic Name and QoS.
    last: BTreeMap<(usize, usize, String, u8), usize>,
    /// How often a client has got a message.
    got: BTreeMap<(usize, usize), u32>,
}

impl Ledger {
    pub fn message(&self, number: usize) -> &Message {
        &self.messages[number]
    }

    /// SUBACK has come.
    pub fn subscribed(&mut self, client: usize, filters: &[(&'static str, u8)]) {
        self.subscriptions.insert(client, filters.to_vec());
    }

    /// A message is sent for the first time.
    pub fn published(&mut self, publisher: usize, topic: String, qos: u8, retain: bool) -> usize {
        let clients = self.subscriptions.iter();
        let matching = clients.filter(|(_, filters)| highest(filters, &topic).is_some());
        self.messages.push(Message {
            publisher,
            owed: matching.map(|(client, _)| *client).collect(),
            topic,
            qos,
            retain,
        });
        self.messages.len() - 1
    }

    /// A client has got a message, not one that it knows by its Packet Identifier.
    pub fn delivered(&mut self, client: usize, packet: &Packet) {
        let number = packet
            .payload
            .first_chunk()
            .map(|bytes| u64::from_be_bytes(*bytes));
        let number = number.expect("a payload with a number") as usize;
        let message = &self.messages[number];
        assert_eq!(packet.topic, message.topic, "message {number}");
        let times = self.got.entry((client, number)).or_insert(0);
        *times += 1;
        assert!(
            packet.qos < 2 || *times == 1,
            "client {client} gets message {number} with QoS 2 again"
        );
        let key = (
            client,
            message.publisher,
            message.topic.clone(),
            message.qos,
        );
        // One that was published before SUBACK may come when it is published again, behind later ones.
        if *times == 1 && !packet.retain && message.owed.contains(&client) {
            let last = self.last.entry(key).or_insert(number);
            assert!(
                *last <= number,
                "client {client} gets message {number} after {last} of the same publisher and topic"
            );
            *last = number;
        }
    }

    /// Nothing moves any more: everybody has what is owed.
    pub fn check(&self) {
        for (number, message) in self.messages.iter().enumerate() {
            for client in &message.owed {
                assert!(
                    self.got.contains_key(&(*client, number)),
                    "client {client} has not got message {number}: {message:?}"
                );
            }
        }
    }

    /// The last retained message of each Topic Name.
    pub fn retained(&self) -> BTreeMap<String, usize> {
        let messages = self.messages.iter().enumerate();
        let retained = messages.filter(|(_, message)| message.retain);
        retained
            .map(|(number, message)| (message.topic.clone(), number))
            .collect()
    }
}

/// The highest QoS of the filters that match.
fn highest(filters: &[(&'static str, u8)], topic: &str) -> Option<u8> {
    let matching = filters
        .iter()
        .filter(|(filter, _)| topics::matches(filter, topic));
    matching.map(|(_, qos)| *qos).max()
}
