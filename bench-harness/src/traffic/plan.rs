//! What publishers and subscribers do: plain data, made by a scenario.

use crate::mqtt::Version;
use crate::mqtt::encode::{Connect, KEEP_ALIVE_S};
use crate::mqtt::template::Shape;

/// Who hears whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// Subscriber n hears publisher n. There are as many of both.
    Pair,
    /// Every subscriber hears every publisher.
    All,
    /// All subscribers share one subscription: each message goes to one of them.
    Group,
}

/// Which Topic Names there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topics {
    /// One, for all publishers.
    One,
    /// One for each publisher.
    Each,
    /// This many for each publisher, in turn; subscribers in pairs only.
    Many(usize),
}

impl Topics {
    /// One topic for all, unless a wildcard is to be matched.
    pub fn for_filters(filters: Filters) -> Self {
        match filters {
            Filters::Exact => Self::One,
            Filters::Wildcard => Self::Each,
        }
    }
}

/// Which Topic Filters subscribers of several topics use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filters {
    /// One for each topic.
    Exact,
    /// One wildcard.
    Wildcard,
}

/// When messages are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As fast as the broker delivers, with so many messages of a publisher on their way.
    Window(u64),
    /// So many a second, all publishers together, evenly spaced, whatever the broker does.
    Rate(f64),
}

/// The traffic of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many publish.
    pub publishers: usize,
    /// How many subscribe.
    pub subscribers: usize,
    /// Who hears whom.
    pub hears: Hears,
    /// To what they publish.
    pub topics: Topics,
    /// How they subscribe.
    pub filters: Filters,
    /// QoS of messages and subscriptions.
    pub qos: u8,
    /// Payload, bytes.
    pub payload_bytes: usize,
    /// When messages are sent.
    pub pace: Pace,
    /// Which MQTT.
    pub version: Version,
    /// Keep Alive, seconds.
    pub keep_alive_s: u16,
    /// Whether sessions outlive connections.
    pub persistent: bool,
    /// Generator threads.
    pub threads: usize,
}

impl Default for Plan {
    /// One pair with 64 B at QoS 0 in 3.1.1, as fast as a window of 64 allows.
    fn default() -> Self {
        Self {
            publishers: 1,
            subscribers: 1,
            hears: Hears::Pair,
            topics: Topics::Each,
            filters: Filters::Exact,
            qos: 0,
            payload_bytes: 64,
            pace: Pace::Window(64),
            version: Version::V3,
            keep_alive_s: KEEP_ALIVE_S,
            persistent: false,
            threads: 1,
        }
    }
}

impl Plan {
    /// How clients connect.
    pub fn connect(&self) -> Connect {
        Connect {
            version: self.version,
            keep_alive_s: self.keep_alive_s,
            persistent: self.persistent,
        }
    }

    /// What all messages have in common.
    pub fn shape(&self) -> Shape {
        Shape {
            qos: self.qos,
            retain: false,
            version: self.version,
            payload_bytes: self.payload_bytes,
        }
    }

    /// How many subscribers get a message.
    pub fn fan(&self) -> u64 {
        match self.hears {
            Hears::Pair | Hears::Group => 1,
            Hears::All => self.subscribers as u64,
        }
    }

    /// The Topic Name of a publisher, with number `number` of its topics.
    pub fn topic(&self, tag: &str, publisher: usize, number: usize) -> String {
        match self.topics {
            Topics::One => format!("bench/{tag}/all"),
            Topics::Each => format!("bench/{tag}/{publisher}"),
            Topics::Many(_) => {
                format!("bench/{tag}/{:08}", self.topic_number(publisher, number))
            }
        }
    }

    /// Which of all topics a publisher's topic is: neighbours in time are no neighbours in the index.
    pub fn topic_number(&self, publisher: usize, number: usize) -> usize {
        number * self.publishers + publisher
    }

    /// The Topic Filters of a subscriber.
    pub fn topic_filters(&self, tag: &str, subscriber: usize) -> Vec<String> {
        let one_each = |publisher| self.topic(tag, publisher, 0);
        match (self.hears, self.topics, self.filters) {
            (Hears::Group, Topics::One, _) => vec![format!("$share/bench/bench/{tag}/all")],
            (Hears::Group, ..) => vec![format!("$share/bench/bench/{tag}/#")],
            (_, Topics::Many(count), _) => (0..count)
                .map(|number| self.topic(tag, subscriber, number))
                .collect(),
            (Hears::Pair, ..) => vec![one_each(subscriber)],
            (Hears::All, Topics::One, _) => vec![one_each(0)],
            (Hears::All, Topics::Each, Filters::Wildcard) => vec![format!("bench/{tag}/+")],
            (Hears::All, Topics::Each, Filters::Exact) => {
                (0..self.publishers).map(one_each).collect()
            }
        }
    }

    /// What makes no sense, in words.
    ///
    /// # Errors
    /// If the plan cannot be carried out.
    pub fn check(&self) -> Result<(), String> {
        if self.publishers == 0 || self.subscribers == 0 || self.threads == 0 {
            return Err("publishers, subscribers and threads must be 1 or more".into());
        }
        if self.hears == Hears::Pair && self.publishers != self.subscribers {
            return Err("pairs need as many subscribers as publishers".into());
        }
        match self.pace {
            Pace::Window(0) => Err("window must be 1 or more".into()),
            Pace::Window(window) if window > 30_000 && self.qos > 0 => {
                Err("window must be 30000 or less: Packet Identifiers are 16 bits".into())
            }
            Pace::Rate(rate) if rate.is_nan() || rate <= 0.0 => Err("rate must be above 0".into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs() -> Plan {
        Plan {
            publishers: 3,
            subscribers: 3,
            ..Plan::default()
        }
    }

    #[test]
    fn filters_match_the_topics_that_are_heard() {
        let plan = pairs();
        assert_eq!(plan.topic_filters("t", 2), [plan.topic("t", 2, 0)]);
        let all = Plan {
            hears: Hears::All,
            ..pairs()
        };
        assert_eq!(all.topic_filters("t", 0).len(), 3);
        let wildcard = Plan {
            filters: Filters::Wildcard,
            ..all
        };
        assert_eq!(wildcard.topic_filters("t", 0), ["bench/t/+"]);
        let many = Plan {
            topics: Topics::Many(2),
            ..pairs()
        };
        assert_eq!(
            many.topic_filters("t", 1),
            ["bench/t/00000001", "bench/t/00000004"]
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(pairs().check(), Ok(()));
        let uneven = Plan {
            subscribers: 2,
            ..pairs()
        };
        assert!(uneven.check().unwrap_err().contains("pairs"));
        let stopped = Plan {
            pace: Pace::Rate(0.0),
            ..pairs()
        };
        assert!(stopped.check().unwrap_err().contains("rate"));
    }
}
