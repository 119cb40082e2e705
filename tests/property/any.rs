//! Strategies: any text, topic, property and packet that the specification allows.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::support::property::{self, Property, Value};
use crate::support::{Connect, Publish, Subscribe, Version, Will};

/// Any version.
pub fn version() -> impl Strategy<Value = Version> {
    select(&[Version::V31, Version::V311, Version::V5][..])
}

/// Any string without U+0000.
pub fn text() -> impl Strategy<Value = String> {
    vec(
        any::<char>().prop_filter("no U+0000", |c| *c != '\0'),
        0..12,
    )
    .prop_map(|chars| chars.into_iter().collect())
}

/// Any Topic Name.
pub fn topic() -> impl Strategy<Value = String> {
    text().prop_map(|text| format!("t{}", text.replace(['+', '#'], "/")))
}

/// Any Topic Filter that is well-formed, wildcards where they may stand.
pub fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![
        3 => text().prop_map(|text| text.replace(['+', '#', '/', '$'], "x")),
        1 => Just("+".to_owned()),
    ];
    (vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, all)| {
        if all {
            levels.push("#".into());
        }
        let filter = levels.join("/");
        if filter.is_empty() {
            "/".into()
        } else {
            filter
        }
    })
}

/// Any bytes.
pub fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..40)
}

/// Any Packet Identifier.
pub fn identifier() -> impl Strategy<Value = u16> {
    1..=u16::MAX
}

/// A value for the property `id`, as table 2-4 and the packets' chapters allow.
fn value(id: u8) -> BoxedStrategy<Value> {
    match id {
        0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2a => {
            (0..2_u8).prop_map(Value::Byte).boxed()
        }
        0x13 | 0x22 => any::<u16>().prop_map(Value::Two).boxed(),
        0x21 | 0x23 => (1..=u16::MAX).prop_map(Value::Two).boxed(),
        0x02 | 0x11 | 0x18 => any::<u32>().prop_map(Value::Four).boxed(),
        0x27 => (1..=u32::MAX).prop_map(Value::Four).boxed(),
        0x0b => (1..=268_435_455_u32).prop_map(Value::Variable).boxed(),
        0x08 => topic().prop_map(Value::Text).boxed(),
        0x03 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => text().prop_map(Value::Text).boxed(),
        0x09 | 0x16 => bytes().prop_map(Value::Binary).boxed(),
        _ => (text(), text())
            .prop_map(|(name, value)| Value::Pair(name, value))
            .boxed(),
    }
}

/// Any of the properties `ids`, each at most once but User Property, in any order.
pub fn properties(ids: &'static [u8]) -> BoxedStrategy<Vec<Property>> {
    let once: Vec<u8> = ids
        .iter()
        .copied()
        .filter(|id| *id != property::USER_PROPERTY)
        .collect();
    let each: Vec<BoxedStrategy<Option<Property>>> = once
        .into_iter()
        .map(|id| option::of(value(id).prop_map(move |value| (id, value))).boxed())
        .collect();
    let user = vec(
        value(property::USER_PROPERTY).prop_map(|value| (property::USER_PROPERTY, value)),
        0..4,
    );
    (each, user)
        .prop_map(|(each, user)| each.into_iter().flatten().chain(user).collect::<Vec<_>>())
        .prop_shuffle()
        .boxed()
}

/// Properties of CONNECT; Authentication Data only with a method.
pub fn connect_properties() -> impl Strategy<Value = Vec<Property>> {
    properties(&[0x11, 0x15, 0x16, 0x17, 0x19, 0x21, 0x22, 0x26, 0x27]).prop_map(|mut all| {
        if !all.iter().any(|(id, _)| *id == 0x15) {
            all.retain(|(id, _)| *id != 0x16);
        }
        all
    })
}

/// Topic, payload, QoS, RETAIN and properties of a Will Message.
type WillParts = (String, Vec<u8>, u8, bool, Vec<Property>);

/// What a CONNECT is made of.
#[derive(Clone, Debug)]
pub struct ConnectParts {
    pub version: Version,
    pub client_identifier: String,
    pub clean_start: bool,
    pub keep_alive_s: u16,
    pub will: Option<WillParts>,
    pub user_name: Option<String>,
    pub password: Option<Vec<u8>>,
    pub properties: Vec<Property>,
}

impl ConnectParts {
    /// The packet.
    pub fn packet(&self) -> Connect {
        let mut connect = Connect::new(&self.client_identifier)
            .version(self.version)
            .keep_alive_s(self.keep_alive_s);
        if !self.clean_start {
            connect = connect.resume();
        }
        if let Some((topic, payload, qos, retain, properties)) = &self.will {
            let mut will = Will::new(topic, payload).qos(*qos);
            if *retain {
                will = will.retain();
            }
            for (id, value) in properties {
                will = will.property(*id, value.clone());
            }
            connect = connect.will(will);
        }
        if let Some(user_name) = &self.user_name {
            connect = connect.user_name(user_name);
        }
        if let Some(password) = &self.password {
            connect = connect.password(password);
        }
        for (id, value) in &self.properties {
            connect = connect.property(*id, value.clone());
        }
        connect
    }
}

/// Any CONNECT.
pub fn connect() -> impl Strategy<Value = ConnectParts> {
    let will_properties = properties(&[0x01, 0x02, 0x03, 0x08, 0x09, 0x18, 0x26]);
    let will = (topic(), bytes(), 0..3_u8, any::<bool>(), will_properties);
    (
        (version(), text(), any::<bool>(), any::<u16>()),
        (option::of(will), option::of(text()), option::of(bytes())),
        connect_properties(),
    )
        .prop_map(|(fixed, (will, user_name, password), properties)| {
            let (version, client_identifier, clean_start, keep_alive_s) = fixed;
            let v5 = version == Version::V5;
            ConnectParts {
                version,
                client_identifier,
                clean_start,
                keep_alive_s,
                will,
                // Before 5.0 there is no Password without a User Name.
                password: password.filter(|_| v5 || user_name.is_some()),
                user_name,
                properties,
            }
        })
}

/// What a PUBLISH is made of.
#[derive(Clone, Debug)]
pub struct PublishParts {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub identifier: u16,
    pub properties: Vec<Property>,
}

impl PublishParts {
    /// The packet.
    pub fn packet(&self) -> Publish {
        let mut publish = Publish::new(&self.topic, &self.payload)
            .qos(self.qos)
            .identifier(self.identifier);
        if self.retain {
            publish = publish.retain();
        }
        if self.dup {
            publish = publish.dup();
        }
        for (id, value) in &self.properties {
            publish = publish.property(*id, value.clone());
        }
        publish
    }
}

/// Any PUBLISH with the properties `ids`.
pub fn publish(ids: &'static [u8]) -> impl Strategy<Value = PublishParts> {
    let flags = (0..3_u8, any::<bool>(), any::<bool>());
    (topic(), bytes(), flags, identifier(), properties(ids)).prop_map(
        |(topic, payload, (qos, retain, dup), identifier, properties)| PublishParts {
            topic,
            payload,
            qos,
            retain,
            dup: dup && qos > 0,
            identifier,
            properties,
        },
    )
}

/// Any SUBSCRIBE of `version`, as its filters with their options.
pub fn subscriptions(version: Version) -> impl Strategy<Value = Vec<(String, u8)>> {
    let options = match version {
        Version::V5 => (0..3_u8, 0..4_u8, 0..3_u8)
            .prop_map(|(qos, flags, retain)| qos | flags << 2 | retain << 4)
            .boxed(),
        _ => (0..3_u8).boxed(),
    };
    vec((filter(), options), 1..6)
}

/// Any whole SUBSCRIBE, UNSUBSCRIBE or acknowledgement.
pub fn request(version: Version) -> BoxedStrategy<Vec<u8>> {
    let subscribe =
        (subscriptions(version), identifier()).prop_map(move |(filters, identifier)| {
            filters
                .iter()
                .fold(Subscribe::default(), |all, (filter, options)| {
                    all.and(filter, *options)
                })
                .bytes(version, identifier)
        });
    let unsubscribe = (vec(filter(), 1..5), identifier()).prop_map(move |(filters, identifier)| {
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        crate::support::packet::unsubscribe(version, identifier, &filters)
    });
    let short = (select(&[0x40_u8, 0x50, 0x62, 0x70][..]), identifier()).prop_map(
        |(first_byte, identifier)| {
            let [high, low] = identifier.to_be_bytes();
            vec![first_byte, 2, high, low]
        },
    );
    prop_oneof![subscribe, unsubscribe, short].boxed()
}

/// Any whole packet that a client sends after CONNECT.
pub fn client_packet(version: Version) -> BoxedStrategy<Vec<u8>> {
    const OF_CLIENTS: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x23, 0x26];
    prop_oneof![
        3 => publish(OF_CLIENTS).prop_map(move |parts| parts.packet().bytes(version)),
        3 => request(version),
        1 => Just(vec![0xc0, 0]),
        1 => Just(vec![0xe0, 0]),
    ]
    .boxed()
}

/// A packet that may be broken: a good one with some bytes changed, cut, or doubled.
pub fn broken_packet(version: Version) -> impl Strategy<Value = Vec<u8>> {
    let good = prop_oneof![
        4 => client_packet(version),
        1 => connect().prop_map(|parts| parts.packet().bytes()),
    ];
    let changes = vec((any::<Index>(), any::<u8>(), 0..4_u8), 1..6);
    (good, changes).prop_map(|(mut bytes, changes)| {
        for (place, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes[place] ^= 1 << (byte % 8),
                2 => bytes.insert(place, byte),
                _ => drop(bytes.remove(place)),
            }
        }
        bytes
    })
}
