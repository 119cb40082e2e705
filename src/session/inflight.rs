//! The in-flight window: what was sent to a client with QoS 1 or 2 and is not yet acknowledged.
//!
//! Owned by [`super::Delivery`]. Entries stand in the order in which they were sent, and their Packet
//! Identifiers are contiguous, so an acknowledgement finds its entry by subtraction. An entry that is
//! acknowledged out of order leaves a hole until everything before it is done.
//!
//! A client that never acknowledges one message must not stop the others, nor cost a hole for each of them:
//! before the identifiers run out, or when nearly all is holes, the window becomes `Scattered` until it
//! is empty. Then identifiers come from a list of those that are free, and are found in a map.
//!
//! Invariants: the first and the last slot are never holes; `live` counts the slots that are not, `waiting`
//! those to be sent again, all of which stand at `resend_from` or behind; no Packet Identifier is in use
//! twice [MQTT-2.2.1-4].

use std::collections::{BTreeMap, VecDeque};

use crate::config::limits::PACKET_IDENTIFIERS_MAX;
use crate::mqtt::data_types::{PacketIdentifier, QoS};

use super::outbox::Queued;

/// How many Packet Identifiers there are: 1 to 65,535.
const IDENTIFIERS: u16 = PACKET_IDENTIFIERS_MAX;
/// From so many slots on, a window of which nearly all are holes gives them up.
const SPARSE_SLOTS: usize = 8192;

/// How far the delivery of one message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// To be sent for the first time, when its record is safe.
    Fresh,
    /// To be sent again: the connection on which it was sent is gone.
    Resend,
    /// PUBLISH is sent; PUBACK or PUBREC is awaited.
    Published,
    /// PUBREC has come and PUBREL is to be sent again, since the connection is gone.
    ResendRelease,
    /// PUBREL is sent; PUBCOMP is awaited.
    Released,
}

impl Stage {
    fn waits(self) -> bool {
        matches!(self, Self::Fresh | Self::Resend | Self::ResendRelease)
    }
}

/// One message on its way.
#[derive(Debug)]
pub struct InFlight {
    /// The message with its delivery options.
    pub queued: Queued,
    /// How far it has come; changed by the window, which counts.
    pub stage: Stage,
    /// What is sent for it waits until the log is safe up to here.
    pub safe_at: u64,
    identifier: PacketIdentifier,
}

/// What a window needs whose Packet Identifiers are not contiguous any more.
#[derive(Debug, Default)]
struct Scattered {
    /// The number of the first slot, counted since the holes were given up.
    first: u64,
    /// The number of the slot of each identifier that is in use.
    slots: BTreeMap<PacketIdentifier, u64>,
    /// The identifiers that are free, the longest unused first: `PACKET_IDENTIFIERS_MAX` less those in use.
    free: VecDeque<PacketIdentifier>,
}

/// The window of one session.
#[derive(Debug, Default)]
pub struct InFlightWindow {
    /// At most [`IDENTIFIERS`] slots (`PACKET_IDENTIFIERS_MAX`), twice as many while scattered.
    slots: VecDeque<Option<InFlight>>,
    /// The Packet Identifier of the first slot, less one. Without meaning while scattered.
    first: u16,
    live: u16,
    /// Entries to be sent again, or for the first time.
    waiting: u16,
    /// No slot before this one waits.
    resend_from: usize,
    /// Of all messages in it.
    bytes: usize,
    scattered: Option<Box<Scattered>>,
}

impl InFlightWindow {
    /// How many messages are unacknowledged.
    #[inline]
    pub fn len(&self) -> usize {
        usize::from(self.live)
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// The bytes of all messages in flight.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether another message fits under `receive_maximum` and `bytes_max`. The last message before
    /// `bytes_max` may be of any size, so a large one is not stuck for ever.
    #[inline]
    pub fn is_open(&self, receive_maximum: u16, bytes_max: u32) -> bool {
        self.live < receive_maximum && self.bytes < bytes_max as usize
    }

    /// The identifier after `first` and `position` others, wrapping from 65,535 to 1.
    #[inline]
    fn identifier_after(first: u16, position: usize) -> PacketIdentifier {
        let zero_based = (usize::from(first) + position) % usize::from(IDENTIFIERS);
        // The remainder is below 65,535, so one more fits and is not zero.
        PacketIdentifier::MIN.saturating_add(u16::try_from(zero_based).unwrap_or(0))
    }

    /// The Packet Identifier of the first entry.
    pub fn first_identifier(&self) -> Option<PacketIdentifier> {
        self.slots.front()?.as_ref().map(|entry| entry.identifier)
    }

    #[inline]
    fn position(&self, identifier: PacketIdentifier) -> Option<usize> {
        if let Some(scattered) = &self.scattered {
            let number = scattered.slots.get(&identifier)?;
            return usize::try_from(number - scattered.first).ok();
        }
        let zero_based = u32::from(identifier.get()) - 1;
        let span = u32::from(IDENTIFIERS);
        let position = (zero_based + span - u32::from(self.first)) % span;
        let position = usize::try_from(position).ok()?;
        (position < self.slots.len()).then_some(position)
    }

    /// Takes a message into the window and gives its Packet Identifier. The caller has seen
    /// [`Self::is_open`].
    #[inline]
    pub fn push(&mut self, queued: Queued) -> PacketIdentifier {
        let identifier = self.next_identifier();
        self.append(InFlight {
            queued,
            stage: Stage::Published,
            safe_at: 0,
            identifier,
        });
        identifier
    }

    /// The Packet Identifier that the next message gets.
    #[inline]
    pub fn next_identifier(&mut self) -> PacketIdentifier {
        debug_assert!(self.live < IDENTIFIERS, "no identifier is free");
        if self.must_scatter() {
            self.scatter();
        }
        match &self.scattered {
            None => Self::identifier_after(self.first, self.slots.len()),
            // One is free, since fewer than all are in use.
            Some(scattered) => *scattered.free.front().unwrap_or(&PacketIdentifier::MIN),
        }
    }

    /// Takes an entry into the window, which has the next identifier.
    #[inline]
    fn append(&mut self, entry: InFlight) {
        if let Some(scattered) = &mut self.scattered {
            scattered.free.pop_front();
            let number = scattered.first + self.slots.len() as u64;
            scattered.slots.insert(entry.identifier, number);
        }
        if entry.stage.waits() {
            if self.waiting == 0 {
                self.resend_from = self.slots.len();
            }
            self.waiting += 1;
        }
        self.bytes += entry.queued.message.bytes();
        self.slots.push_back(Some(entry));
        self.live += 1;
    }

    /// Takes a message into the window that is sent later, when the log is safe up to `safe_at`.
    pub fn push_fresh(&mut self, queued: Queued, safe_at: u64) -> PacketIdentifier {
        let identifier = self.next_identifier();
        self.append(InFlight {
            queued,
            stage: Stage::Fresh,
            safe_at,
            identifier,
        });
        identifier
    }

    /// Takes back a message that had `identifier` before the broker started; they come in the order of their
    /// sending.
    pub fn restore(&mut self, identifier: PacketIdentifier, queued: Queued, stage: Stage) {
        if self.slots.is_empty() {
            self.first = identifier.get() - 1;
        }
        if self.scattered.is_none() {
            let span = usize::from(IDENTIFIERS);
            let next = (usize::from(self.first) + self.slots.len()) % span;
            let holes = (usize::from(identifier.get()) - 1 + span - next) % span;
            match self.slots.len() + holes < SPARSE_SLOTS {
                true => self.slots.extend((0..holes).map(|_| None)),
                false => self.scatter(),
            }
        }
        if let Some(scattered) = &mut self.scattered
            && let Some(place) = scattered.free.iter().position(|free| *free == identifier)
        {
            scattered.free.swap(0, place);
        }
        let identifier = self.next_identifier();
        self.append(InFlight {
            queued,
            stage,
            safe_at: 0,
            identifier,
        });
    }

    /// Whether the identifier behind the last slot may be in use, or nearly all slots are holes.
    #[inline]
    fn must_scatter(&self) -> bool {
        let slots = self.slots.len();
        if slots < SPARSE_SLOTS {
            return false;
        }
        let slots_max = usize::from(IDENTIFIERS) * if self.scattered.is_some() { 2 } else { 1 };
        slots >= slots_max || usize::from(self.live) < slots / 8
    }

    /// Takes the holes out, and makes every identifier usable that no entry has.
    #[cold]
    fn scatter(&mut self) {
        let next = self.slots.len();
        self.slots.retain(Option::is_some);
        self.resend_from = 0;
        let slots: BTreeMap<PacketIdentifier, u64> = (0..)
            .zip(self.slots.iter().flatten())
            .map(|(number, entry)| (entry.identifier, number))
            .collect();
        let free = match self.scattered.take() {
            Some(scattered) => scattered.free,
            None => (0..usize::from(IDENTIFIERS))
                .map(|offset| Self::identifier_after(self.first, next + offset))
                .filter(|identifier| !slots.contains_key(identifier))
                .collect(),
        };
        self.scattered = Some(Box::new(Scattered {
            first: 0,
            slots,
            free,
        }));
    }

    /// The entry of `identifier`, if it is in flight. Its stage is the window's to change.
    pub fn find(&mut self, identifier: PacketIdentifier) -> Option<&mut InFlight> {
        let position = self.position(identifier)?;
        self.slots.get_mut(position)?.as_mut()
    }

    /// PUBACK ends a delivery of QoS 1, and nothing else.
    #[inline]
    pub fn acknowledge(&mut self, identifier: PacketIdentifier) -> Option<InFlight> {
        let qos = self.find(identifier)?.queued.qos;
        (qos == QoS::AtLeastOnce).then(|| self.remove(identifier))?
    }

    /// PUBREC takes a delivery of QoS 2 to its second half; tells whether there is one [MQTT-4.3.3-3].
    #[inline]
    pub fn release(&mut self, identifier: PacketIdentifier) -> bool {
        let entry = self
            .find(identifier)
            .filter(|entry| entry.queued.qos == QoS::ExactlyOnce);
        let Some(entry) = entry else {
            return false;
        };
        let waited = entry.stage.waits();
        entry.stage = Stage::Released;
        self.waiting -= u16::from(waited);
        true
    }

    /// PUBCOMP ends a delivery whose PUBREC has come [MQTT-4.3.3-5].
    #[inline]
    pub fn complete(&mut self, identifier: PacketIdentifier) -> Option<InFlight> {
        let stage = self.find(identifier)?.stage;
        matches!(stage, Stage::Released | Stage::ResendRelease).then(|| self.remove(identifier))?
    }

    /// Ends the delivery of `identifier` and gives the entry back.
    #[inline]
    pub fn remove(&mut self, identifier: PacketIdentifier) -> Option<InFlight> {
        let position = self.position(identifier)?;
        let entry = self.slots.get_mut(position)?.take()?;
        self.live -= 1;
        self.bytes -= entry.queued.message.bytes();
        self.waiting -= u16::from(entry.stage.waits());
        if let Some(scattered) = &mut self.scattered {
            scattered.slots.remove(&identifier);
            scattered.free.push_back(identifier);
        }
        while let Some(None) = self.slots.front() {
            self.slots.pop_front();
            self.resend_from = self.resend_from.saturating_sub(1);
            match &mut self.scattered {
                Some(scattered) => scattered.first += 1,
                None => self.first = (self.first + 1) % IDENTIFIERS,
            }
        }
        while let Some(None) = self.slots.back() {
            self.slots.pop_back();
        }
        if self.slots.is_empty() && self.scattered.take().is_some() {
            // Contiguous again, from the identifier behind this one.
            self.first = identifier.get() % IDENTIFIERS;
        }
        if self.slots.is_empty() && self.slots.capacity() > 64 {
            // A session that is idle again owns no large table.
            self.slots = VecDeque::new();
        }
        Some(entry)
    }

    /// Marks everything as to be sent again, in order, on the next connection [MQTT-4.4.0-1].
    pub fn connection_lost(&mut self) {
        for entry in self.slots.iter_mut().flatten() {
            entry.stage = match entry.stage {
                Stage::Fresh => Stage::Fresh,
                Stage::Resend | Stage::Published => Stage::Resend,
                Stage::ResendRelease | Stage::Released => Stage::ResendRelease,
            };
        }
        self.waiting = self.live;
        self.resend_from = 0;
    }

    /// Where the next entry that waits is.
    fn next_waiting(&mut self) -> Option<usize> {
        if self.waiting == 0 {
            return None;
        }
        let waits =
            |slot: &Option<InFlight>| slot.as_ref().is_some_and(|entry| entry.stage.waits());
        let position = (self.resend_from..self.slots.len())
            .find(|position| self.slots.get(*position).is_some_and(waits))?;
        self.resend_from = position;
        Some(position)
    }

    /// Up to where the log must be safe before the next entry that waits may be sent; none if none waits.
    pub fn next_safe_at(&mut self) -> Option<u64> {
        let position = self.next_waiting()?;
        Some(self.slots.get(position)?.as_ref()?.safe_at)
    }

    /// The first entry that waits to be sent, which counts as sent from now on, and whether it was sent before:
    /// they go out in the order of their first sending [MQTT-4.6.0-1]. All calls together walk the window
    /// once.
    pub fn resend_next(&mut self) -> Option<(PacketIdentifier, &InFlight, bool)> {
        let position = self.next_waiting()?;
        self.resend_from = position + 1;
        self.waiting -= 1;
        let entry = self.slots.get_mut(position)?.as_mut()?;
        let again = entry.stage != Stage::Fresh;
        entry.stage = match entry.stage {
            Stage::Fresh | Stage::Resend | Stage::Published => Stage::Published,
            Stage::ResendRelease | Stage::Released => Stage::Released,
        };
        Some((entry.identifier, entry, again))
    }

    /// Whether something is to be sent again.
    pub fn needs_resend(&self) -> bool {
        self.waiting > 0
    }

    /// The entries with their Packet Identifiers, in the order of their sending.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (PacketIdentifier, &mut InFlight)> {
        let entries = self.slots.iter_mut().flatten();
        entries.map(|entry| (entry.identifier, entry))
    }

    /// Whether fewer than `receive_maximum` count against the client's Receive Maximum on this connection:
    /// those that wait to be sent again do not.
    pub fn outstanding_below(&self, receive_maximum: u16) -> bool {
        self.live - self.waiting < receive_maximum
    }

    /// Takes out the messages for which `wanted` is true, in order.
    pub fn take_where(&mut self, wanted: impl Fn(&InFlight) -> bool) -> Vec<Queued> {
        let entries = self.slots.iter().flatten();
        let identifiers: Vec<_> = entries
            .filter(|entry| wanted(entry))
            .map(|entry| entry.identifier)
            .collect();
        identifiers
            .into_iter()
            .filter_map(|id| self.remove(id))
            .map(|entry| entry.queued)
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::session::outbox::tests::queued;

    fn exactly_once() -> Queued {
        Queued {
            qos: QoS::ExactlyOnce,
            ..queued("t")
        }
    }

    #[test]
    fn identifiers_run_from_1_and_wrap_past_65535() {
        let mut window = InFlightWindow::default();
        for expected in 1..=65_535u16 {
            let identifier = window.push(queued("t"));
            assert_eq!(identifier.get(), expected);
            assert!(window.remove(identifier).is_some());
        }
        assert_eq!(window.push(queued("t")).get(), 1);
    }

    #[test]
    fn acknowledgements_out_of_order_leave_no_trace() {
        let mut window = InFlightWindow::default();
        let ids: Vec<_> = (0..5).map(|_| window.push(queued("t"))).collect();
        for position in [3, 0, 4, 1, 2] {
            assert!(window.remove(ids[position]).is_some());
            assert!(
                window.remove(ids[position]).is_none(),
                "a second acknowledgement finds nothing"
            );
        }
        assert!(window.is_empty());
        assert_eq!((window.slots.len(), window.bytes()), (0, 0));
    }

    #[test]
    fn what_is_in_flight_is_sent_again_in_order() {
        let mut window = InFlightWindow::default();
        let ids: Vec<_> = (0..4).map(|_| window.push(exactly_once())).collect();
        assert!(window.release(ids[1]));
        window.remove(ids[2]);
        window.connection_lost();
        assert!(window.outstanding_below(1));
        let mut again = Vec::new();
        while let Some((id, entry, _)) = window.resend_next() {
            again.push((id, entry.stage));
        }
        assert!(!window.needs_resend() && !window.outstanding_below(3));
        assert_eq!(
            again,
            [
                (ids[0], Stage::Published),
                (ids[1], Stage::Released),
                (ids[3], Stage::Published)
            ]
        );
    }

    #[test]
    fn what_is_fresh_waits_behind_what_is_sent_and_comes_back_with_its_identifier() {
        let mut window = InFlightWindow::default();
        let sent = window.push(queued("t"));
        let fresh = window.push_fresh(queued("t"), 7);
        assert!(window.needs_resend());
        window.remove(sent);
        assert_eq!(window.next_safe_at(), Some(7));
        let (id, entry, again) = window.resend_next().unwrap();
        assert_eq!((id, entry.stage, again), (fresh, Stage::Published, false));
        assert!(window.resend_next().is_none() && !window.outstanding_below(1));
        let mut restored = InFlightWindow::default();
        for (value, stage) in [(65_534, Stage::ResendRelease), (2, Stage::Resend)] {
            let identifier = PacketIdentifier::new(value).unwrap();
            restored.restore(identifier, queued("t"), stage);
        }
        assert_eq!((restored.len(), restored.slots.len()), (2, 4));
        let ids: Vec<_> = restored.iter_mut().map(|(id, _)| id.get()).collect();
        assert_eq!(ids, [65_534, 2]);
        assert_eq!(restored.next_identifier().get(), 3);
        assert_eq!(restored.resend_next().unwrap().0.get(), 65_534);
    }

    #[test]
    fn acknowledgements_between_resends_leave_the_order_and_the_counts_right() {
        let mut window = InFlightWindow::default();
        let ids: Vec<_> = (0..6).map(|_| window.push(exactly_once())).collect();
        window.connection_lost();
        let next = |window: &mut InFlightWindow| window.resend_next().map(|(id, ..)| id);
        assert_eq!(next(&mut window), Some(ids[0]));
        assert!(window.remove(ids[0]).is_some());
        // A client may answer what the broker has not sent again yet.
        assert!(window.remove(ids[1]).is_some());
        assert!(window.release(ids[3]));
        assert!(!window.outstanding_below(1) && window.outstanding_below(2));
        assert_eq!(next(&mut window), Some(ids[2]));
        assert_eq!(next(&mut window), Some(ids[4]));
        window.connection_lost();
        let all = std::iter::from_fn(|| next(&mut window));
        assert_eq!(all.collect::<Vec<_>>(), ids[2..]);
    }

    #[test]
    fn a_full_window_is_sent_again_in_one_walk() {
        let mut window = InFlightWindow::default();
        for _ in 0..65_535 {
            window.push(queued("t"));
        }
        window.connection_lost();
        for expected in 1..=65_535u16 {
            let sent = window.resend_next().map(|(id, ..)| id.get());
            assert_eq!(sent, Some(expected));
            // The next search begins here and not at the front.
            assert_eq!(window.resend_from, usize::from(expected));
        }
        assert!(window.resend_next().is_none());
    }

    #[test]
    fn the_window_closes_at_receive_maximum_and_at_the_last_identifier() {
        let mut window = InFlightWindow::default();
        window.push(queued("t"));
        assert!(!window.is_open(1, u32::MAX));
        assert!(window.is_open(2, u32::MAX));
        for _ in 1..65_535 {
            window.push(queued("t"));
        }
        assert!(!window.is_open(u16::MAX, u32::MAX));
        // One that is done gives its own identifier, wherever it stands.
        for value in [40_000, 1, 65_535, 2] {
            let identifier = PacketIdentifier::new(value).unwrap();
            window.remove(identifier).unwrap();
            assert!(window.is_open(u16::MAX, u32::MAX));
            assert_eq!(window.push(queued("t")), identifier);
            assert!(!window.is_open(u16::MAX, u32::MAX));
        }
    }

    #[test]
    fn what_was_sent_before_a_start_comes_back_under_its_identifiers() {
        let id = |value| PacketIdentifier::new(value).unwrap();
        for values in [
            &[65_534_u16, 65_535, 1, 4][..],
            &[7, 30_000, 8, 5, 65_535],
            &[3, 1],
        ] {
            let mut window = InFlightWindow::default();
            for value in values {
                window.restore(id(*value), queued("t"), Stage::Resend);
            }
            let mut sent = Vec::new();
            while let Some((identifier, entry, again)) = window.resend_next() {
                assert!(again && entry.stage == Stage::Published);
                sent.push(identifier.get());
            }
            assert_eq!(sent, values, "in the order of their first sending");
            let new = window.push(queued("t"));
            assert!(!values.contains(&new.get()));
            for value in values {
                assert!(window.acknowledge(id(*value)).is_some());
            }
            assert!(window.acknowledge(new).is_some() && window.is_empty());
        }
    }

    #[test]
    fn one_that_is_never_acknowledged_stops_nothing_and_costs_little() {
        let mut window = InFlightWindow::default();
        let stuck = window.push(queued("t"));
        let mut before = stuck;
        let mut most = 0;
        for _ in 0..200_000 {
            assert!(window.is_open(3, u32::MAX));
            let identifier = window.push(queued("t"));
            assert!(identifier != stuck && identifier != before, "it is in use");
            if before != stuck {
                assert!(window.remove(before).is_some());
            }
            before = identifier;
            most = most.max(window.slots.len());
        }
        assert!(most <= SPARSE_SLOTS + 1, "{most} slots");
        window.connection_lost();
        assert_eq!(window.resend_next().map(|(id, ..)| id), Some(stuck));
        assert!(window.remove(stuck).is_some());
        assert!(window.remove(before).is_some());
        assert!(window.is_empty() && window.scattered.is_none());
        let next = window.push(queued("t"));
        assert_eq!(next.get(), before.get() % 65_535 + 1);
    }

    #[test]
    fn the_window_closes_at_its_bytes_and_is_open_for_one_message_of_any_size() {
        let mut window = InFlightWindow::default();
        assert!(window.is_open(9, 1));
        let first = window.push(queued("t"));
        let bytes = u32::try_from(window.bytes()).unwrap();
        assert!(!window.is_open(9, bytes));
        assert!(window.is_open(9, bytes + 1));
        window.remove(first);
        assert!(window.is_open(9, 1));
    }
}
