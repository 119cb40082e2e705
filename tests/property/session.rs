//! A session's in-flight window, outbox and received identifiers against plain models.

use std::collections::{BTreeSet, VecDeque};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use ringmq::config::limits::{OutboxFull, SessionLimits};
use ringmq::mqtt::data_types::{PacketIdentifier, QoS};
use ringmq::mqtt::packet::subscribe::{RetainHandling, SubscriptionOptions};
use ringmq::routing::application_message::MessageView;
use ringmq::routing::local_index::Subscriber;
use ringmq::routing::shared_subscription::{GroupMembers, GroupName, GroupSerial};
use ringmq::routing::topic_hash::TopicHasher;
use ringmq::session::inbound_qos2::{InboundQos2, Reception};
use ringmq::session::inflight::{InFlightWindow, Stage};
use ringmq::session::outbox::{Outbox, Queued, SubscriptionIdentifiers};

/// The serial of the one group.
fn group_serial() -> GroupSerial {
    let name = GroupName {
        share_name: "g".into(),
        filter: "t".into(),
    };
    let options = SubscriptionOptions {
        qos: QoS::ExactlyOnce,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::SendAtSubscribe,
    };
    let mut members = GroupMembers::default();
    let (group, _) = members.join(name, Subscriber::new(0, options, 0));
    members.serial(group).expect("it was just made")
}

/// A message that says its number, for a shared group or none.
fn queued(number: u32, shared_group: Option<GroupSerial>, bytes: usize) -> Queued {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(4 + bytes, 0);
    let message = MessageView {
        topic: "t",
        topic_hash: TopicHasher::new(1).hash("t"),
        forwarded_properties: &[],
        payload: &payload,
        qos: QoS::ExactlyOnce,
        retain: false,
        expires_at_ms: None,
    };
    Queued {
        message: message.to_message(),
        qos: QoS::ExactlyOnce,
        retain: false,
        shared_group,
        subscription_identifiers: SubscriptionIdentifiers::new(),
        entry: 0,
        location: 0,
    }
}

fn number(queued: &Queued) -> u32 {
    let view = queued.message.view();
    u32::from_be_bytes(view.payload[..4].try_into().expect("four bytes"))
}

#[derive(Clone, Debug)]
enum WindowStep {
    /// A message, of shared group 1 or of none.
    Push(bool),
    /// The nth in flight is acknowledged.
    Remove(Index),
    /// The nth in flight is received.
    Release(Index),
    /// An identifier that may be anything is acknowledged.
    RemoveAny(u16),
    /// The connection is lost; so many are sent again on the next.
    Lose(usize),
    /// What waits is sent again.
    Resend(usize),
    /// The group takes its own back.
    TakeGroup,
}

fn window_step() -> impl Strategy<Value = WindowStep> {
    prop_oneof![
        6 => any::<bool>().prop_map(WindowStep::Push),
        4 => any::<Index>().prop_map(WindowStep::Remove),
        2 => any::<Index>().prop_map(WindowStep::Release),
        1 => any::<u16>().prop_map(WindowStep::RemoveAny),
        1 => (0..4_usize).prop_map(WindowStep::Lose),
        2 => (0..4_usize).prop_map(WindowStep::Resend),
        1 => Just(WindowStep::TakeGroup),
    ]
}

/// One in flight, as the model knows it.
#[derive(Clone, Debug, PartialEq)]
struct Known {
    identifier: PacketIdentifier,
    number: u32,
    group: bool,
    stage: Stage,
}

fn waits(known: &&mut Known) -> bool {
    matches!(known.stage, Stage::Resend | Stage::ResendRelease)
}

/// Sends up to `count` again and compares each.
fn resend(window: &mut InFlightWindow, model: &mut [Known], count: usize) {
    for _ in 0..count {
        let expected = model.iter_mut().find(waits);
        let found = window.resend_next();
        assert_eq!(found.is_some(), expected.is_some());
        let (Some((identifier, entry, again)), Some(known)) = (found, expected) else {
            return;
        };
        known.stage = match known.stage {
            Stage::Resend => Stage::Published,
            _ => Stage::Released,
        };
        assert!(again);
        assert_eq!((identifier, entry.stage), (known.identifier, known.stage));
        assert_eq!(number(&entry.queued), known.number);
    }
}

fn run_window(
    window: &mut InFlightWindow,
    model: &mut Vec<Known>,
    step: WindowStep,
    next: &mut u32,
) {
    match step {
        WindowStep::Push(group) => {
            // As the broker does it: what waits to be sent again goes first.
            resend(window, model, usize::MAX);
            if !window.is_open(RECEIVE_MAXIMUM, u32::MAX) {
                return;
            }
            let identifier = window.push(queued(*next, group.then(group_serial), 0));
            let in_use = model.iter().any(|known| known.identifier == identifier);
            assert!(!in_use, "{identifier} is in use");
            model.push(Known {
                identifier,
                number: *next,
                group,
                stage: Stage::Published,
            });
            *next += 1;
        }
        WindowStep::Remove(index) if !model.is_empty() => {
            let known = model.remove(index.index(model.len()));
            let entry = window.remove(known.identifier).expect("it is in flight");
            assert_eq!(number(&entry.queued), known.number);
        }
        WindowStep::Release(index) if !model.is_empty() => {
            let at = index.index(model.len());
            assert!(window.release(model[at].identifier), "it is in flight");
            model[at].stage = Stage::Released;
        }
        WindowStep::RemoveAny(value) => {
            let Some(identifier) = PacketIdentifier::new(value) else {
                return;
            };
            let at = model
                .iter()
                .position(|known| known.identifier == identifier);
            assert_eq!(window.remove(identifier).is_some(), at.is_some());
            at.map(|at| model.remove(at));
        }
        WindowStep::Lose(count) => {
            window.connection_lost();
            for known in model.iter_mut() {
                known.stage = match known.stage {
                    Stage::Fresh => unreachable!("nothing waits for a log"),
                    Stage::Resend | Stage::Published => Stage::Resend,
                    Stage::ResendRelease | Stage::Released => Stage::ResendRelease,
                };
            }
            resend(window, model, count);
        }
        WindowStep::Resend(count) => resend(window, model, count),
        WindowStep::TakeGroup => {
            let taken =
                window.take_where(|entry| entry.queued.shared_group == Some(group_serial()));
            let numbers: Vec<u32> = taken.iter().map(number).collect();
            let expected = model.iter().filter(|known| known.group);
            assert_eq!(
                numbers,
                expected.map(|known| known.number).collect::<Vec<_>>()
            );
            model.retain(|known| !known.group);
        }
        WindowStep::Remove(_) | WindowStep::Release(_) => {}
    }
}

const RECEIVE_MAXIMUM: u16 = 12;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_window_does_what_its_model_does(steps in vec(window_step(), 1..200)) {
        let mut window = InFlightWindow::default();
        let mut model: Vec<Known> = Vec::new();
        let mut next = 0;
        for step in steps {
            run_window(&mut window, &mut model, step, &mut next);
            prop_assert_eq!(window.len(), model.len());
            prop_assert_eq!(window.is_empty(), model.is_empty());
            prop_assert_eq!(window.is_open(RECEIVE_MAXIMUM, u32::MAX), model.len() < usize::from(RECEIVE_MAXIMUM));
            let waiting = model.iter_mut().filter(waits).count();
            prop_assert_eq!(window.needs_resend(), waiting > 0);
            for count in [1, RECEIVE_MAXIMUM] {
                let below = model.len() - waiting < usize::from(count);
                prop_assert_eq!(window.outstanding_below(count), below);
            }
        }
        while let Some(known) = model.pop() {
            prop_assert!(window.remove(known.identifier).is_some());
        }
        prop_assert!(window.is_empty() && window.resend_next().is_none());
    }

    #[test]
    fn the_outbox_keeps_its_limits_and_its_order(
        steps in vec(
            prop_oneof![
                4 => (0..300_usize, any::<bool>()).prop_map(Some),
                1 => Just(None),
            ],
            1..80,
        ),
        messages_max in 1..12_u32,
        bytes_max in 1..2_000_u32,
        drop_oldest: bool,
    ) {
        let limits = SessionLimits {
            outbox_messages_max: messages_max,
            outbox_bytes_max: bytes_max,
            outbox_full: if drop_oldest { OutboxFull::DropOldest } else { OutboxFull::DropNewest },
            ..SessionLimits::default()
        };
        let mut outbox = Outbox::default();
        let mut model: VecDeque<(u32, usize, bool)> = VecDeque::new();
        let (mut next, mut lost) = (0, 0);
        for step in steps {
            match step {
                Some((bytes, group)) => {
                    let message = queued(next, group.then(group_serial), bytes);
                    let size = message.message.bytes();
                    let full = |model: &VecDeque<(u32, usize, bool)>| {
                        let held: usize = model.iter().map(|(_, size, _)| size).sum();
                        model.len() >= messages_max as usize || held + size > bytes_max as usize
                    };
                    while drop_oldest && full(&model) && model.pop_front().is_some() {
                        lost += 1;
                    }
                    match full(&model) {
                        true => lost += 1,
                        false => model.push_back((next, size, group)),
                    }
                    next += 1;
                    lost -= outbox.push(message, &limits, 0, |_| {}).over_limit;
                    prop_assert_eq!(lost, 0, "what is dropped is counted");
                }
                None => {
                    let found = outbox.pop().map(|queued| number(&queued));
                    prop_assert_eq!(found, model.pop_front().map(|(number, ..)| number));
                }
            }
            prop_assert_eq!(outbox.len(), model.len());
            prop_assert_eq!(outbox.bytes(), model.iter().map(|(_, size, _)| size).sum::<usize>());
            prop_assert!(outbox.bytes() <= bytes_max as usize);
            prop_assert_eq!(outbox.front().map(number), model.front().map(|(number, ..)| *number));
        }
        // A group takes its own; the others stay in order.
        let taken = outbox.take_where(|queued| queued.shared_group == Some(group_serial()));
        let of_group = model.iter().filter(|(.., group)| *group).map(|(number, ..)| *number);
        prop_assert_eq!(taken.iter().map(number).collect::<Vec<_>>(), of_group.collect::<Vec<_>>());
        model.retain(|(.., group)| !*group);
        for (expected, ..) in model {
            prop_assert_eq!(outbox.pop().map(|queued| number(&queued)), Some(expected));
        }
        prop_assert!(outbox.is_empty() && outbox.bytes() == 0);
    }

    #[test]
    fn received_identifiers_are_a_set(
        steps in vec((any::<bool>(), prop_oneof![1..40_u16, 1..=u16::MAX]), 1..200),
    ) {
        let mut received = InboundQos2::default();
        let mut model = BTreeSet::new();
        for (insert, value) in steps {
            let identifier = PacketIdentifier::new(value).expect("not 0");
            prop_assert_eq!(received.find(identifier).is_some(), model.contains(&value));
            match insert {
                true => {
                    if model.insert(value) {
                        received.insert(identifier, Reception::Done);
                    }
                }
                false => prop_assert_eq!(received.release(identifier), model.remove(&value)),
            }
            prop_assert_eq!(received.len(), model.len());
            prop_assert_eq!(received.is_empty(), model.is_empty());
        }
    }
}

proptest! {
    // Each case is long enough for identifiers to come again.
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn what_is_never_acknowledged_stops_no_other(
        stuck in proptest::collection::btree_set(0..100_000_u32, 1..8),
        losses in proptest::collection::btree_set(0..150_000_u32, 0..5),
        lag in 1..20_usize,
    ) {
        let mut window = InFlightWindow::default();
        let mut model: Vec<Known> = Vec::new();
        for number in 0..150_000 {
            let room = u16::try_from(model.len() + 1).expect("few");
            prop_assert!(window.is_open(room, u32::MAX), "{} are in flight", model.len());
            let identifier = window.push(queued(number, None, 0));
            prop_assert!(model.iter().all(|known| known.identifier != identifier));
            model.push(Known { identifier, number, group: false, stage: Stage::Published });
            let others = model.iter().filter(|known| !stuck.contains(&known.number)).count();
            if others > lag {
                // Not always the oldest.
                let nth = number as usize * 7 % others;
                let mut places = (0..model.len()).filter(|at| !stuck.contains(&model[*at].number));
                let known = model.remove(places.nth(nth).expect("one of them"));
                let entry = window.remove(known.identifier).expect("it is in flight");
                prop_assert_eq!(self::number(&entry.queued), known.number);
            }
            if losses.contains(&number) {
                window.connection_lost();
                model.iter_mut().for_each(|known| known.stage = Stage::Resend);
                resend(&mut window, &mut model, usize::MAX);
            }
            prop_assert_eq!(window.len(), model.len());
        }
        for known in model {
            prop_assert!(window.remove(known.identifier).is_some());
        }
        prop_assert_eq!((window.len(), window.bytes()), (0, 0));
    }
}
