//! The retained messages of a shard against a plain map: set, clear, expiry, and selection in slices.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use ringmq::config::limits::RetainedLimits;
use ringmq::mqtt::data_types::QoS;
use ringmq::routing::application_message::{ApplicationMessage, MessageView};
use ringmq::routing::retained::RetainedStore;
use ringmq::routing::topic_hash::TopicHasher;

use crate::indexes::naive_match;

fn name(levels: &'static [&'static str]) -> impl Strategy<Value = String> {
    vec(select(levels), 1..5)
        .prop_map(|levels| levels.join("/"))
        .prop_filter("a character at least", |name| !name.is_empty())
}

/// Levels around the characters that come before and after the separator.
const LEVELS: &[&str] = &["a", "b", "", "a.", "a0", "a!", "$a", "\u{e9}"];

fn filter() -> impl Strategy<Value = String> {
    const WITH_PLUS: &[&str] = &["a", "b", "", "a.", "a0", "$a", "+", "+", "+"];
    (name(WITH_PLUS), 0..3_u8).prop_map(|(filter, end)| match end {
        0 => filter,
        1 => format!("{filter}/#"),
        _ if filter.contains('/') => filter,
        _ => "#".into(),
    })
}

fn message(topic: &str, payload: u8, expires_at_ms: Option<u64>) -> ApplicationMessage {
    MessageView {
        topic,
        topic_hash: TopicHasher::new(1).hash(topic),
        forwarded_properties: &[],
        payload: &[payload],
        qos: QoS::AtLeastOnce,
        retain: true,
        expires_at_ms,
    }
    .to_message()
}

#[derive(Clone, Debug)]
enum Step {
    Set(String, u8, Option<u64>),
    Clear(String),
    Select(String, u16),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (name(LEVELS), any::<u8>(), proptest::option::of(1..50_u64))
            .prop_map(|(topic, payload, lives_ms)| Step::Set(topic, payload, lives_ms)),
        1 => name(LEVELS).prop_map(Step::Clear),
        4 => (filter(), 1..5_u16).prop_map(|(filter, slice)| Step::Select(filter, slice)),
        1 => (0..20_u64).prop_map(Step::Pass),
    ]
}

/// All that `filter` selects, slice by slice.
fn selected(
    store: &mut RetainedStore,
    filter: &str,
    slice_messages: u16,
    now_ms: u64,
) -> Vec<(String, u8)> {
    let limits = RetainedLimits {
        slice_messages,
        ..RetainedLimits::default()
    };
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let slice = store.select(filter, cursor, &limits, now_ms);
        assert!(slice.messages.len() <= usize::from(slice_messages));
        found.extend(slice.messages.iter().map(|message| {
            let payload = message.view().payload[0];
            (message.topic().to_owned(), payload)
        }));
        match slice.next {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_retained_is_found(steps in vec(step(), 1..60)) {
        let mut store = RetainedStore::default();
        let mut model: BTreeMap<String, (u8, Option<u64>)> = BTreeMap::new();
        let limits = RetainedLimits::default();
        let mut now_ms = 0;
        for step in steps {
            match step {
                Step::Set(topic, payload, lives_ms) => {
                    let expires_at_ms = lives_ms.map(|lives_ms| now_ms + lives_ms);
                    prop_assert!(store.set(message(&topic, payload, expires_at_ms), &limits, now_ms));
                    model.insert(topic, (payload, expires_at_ms));
                }
                Step::Clear(topic) => {
                    store.clear(&topic);
                    model.remove(&topic);
                }
                Step::Pass(ms) => now_ms += ms,
                Step::Select(filter, slice) => {
                    let mut found = selected(&mut store, &filter, slice, now_ms);
                    found.sort();
                    let expected: Vec<(String, u8)> = model
                        .iter()
                        .filter(|(topic, (_, expires))| {
                            naive_match(&filter, topic) && expires.is_none_or(|at| at > now_ms)
                        })
                        .map(|(topic, (payload, _))| (topic.clone(), *payload))
                        .collect();
                    prop_assert_eq!(found, expected, "filter {:?}", filter);
                }
            }
        }
        for topic in model.keys() {
            store.clear(topic);
        }
        prop_assert_eq!((store.len(), store.bytes()), (0, 0));
    }

    #[test]
    fn no_more_is_kept_than_allowed(
        steps in vec((name(LEVELS), any::<u8>()), 1..60),
        messages_max in 1..10_u32,
        bytes_max in 1..2_000_u64,
    ) {
        let limits = RetainedLimits { messages_max, bytes_max, ..RetainedLimits::default() };
        let mut store = RetainedStore::default();
        let mut model: BTreeMap<String, u8> = BTreeMap::new();
        for (topic, payload) in steps {
            match store.set(message(&topic, payload, None), &limits, 0) {
                true => drop(model.insert(topic, payload)),
                // What was there for the topic is as old as if the new one had been stored.
                false => drop(model.remove(&topic)),
            }
            prop_assert!(store.len() <= messages_max as usize && store.bytes() <= bytes_max);
        }
        let expected: Vec<(String, u8)> = model
            .into_iter()
            .filter(|(topic, _)| !topic.starts_with('$'))
            .collect();
        let mut found = selected(&mut store, "#", 3, 0);
        found.sort();
        prop_assert_eq!(found, expected);
    }
}
