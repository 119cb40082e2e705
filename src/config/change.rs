//! What changes between the configuration that runs and the one that the file says now.
//!
//! Used by `runtime::reload`. A listener's place in the configuration is what its connections name, and what
//! CONNACK has told a client holds as long as its connection. So a place never changes: a listener with
//! other limits gets a new place, and a listener that is gone keeps its own, closed.

use std::fmt;

use super::keys::{Draft, Section};
use super::resolved::{Config, Listener};

/// Places of listeners at most, closed ones included; beyond it only a restart helps.
pub const LISTENER_PLACES_MAX: usize = 4096;

/// Keys whose values are built into what a running process is made of.
pub const NEEDS_RESTART: &[&str] = &[
    "shards",
    "cores",
    "runtime_directory",
    "data_dir",
    "durability",
    "listener.durability",
    "storage.segment_bytes",
    "storage.unwritten_bytes_max",
    "storage.bytes_max",
    "listener.unix_owner",
    "listener.unix_group",
    "listener.unix_mode",
    "network.ring_entries",
    "network.receive_buffers",
    "network.receive_buffer_bytes",
    "network.mesh_staged_bytes_max",
    "network.inbox_batches_max",
    "authentication.threads",
    "authentication.waiting_max",
    "authentication.wait_s_max",
    "admin.address",
    "admin.socket",
    "admin.token_file",
    "observability.recorder_entries",
];

/// Puts back what only a restart changes.
fn keep_what_needs_a_restart(config: &mut Config, running: &Config) {
    config.shards = running.shards;
    config.cores.clone_from(&running.cores);
    config
        .runtime_directory
        .clone_from(&running.runtime_directory);
    config.data_dir.clone_from(&running.data_dir);
    config.durability = running.durability;
    config.storage = running.storage.clone();
    let (network, now) = (&mut config.network, &running.network);
    network.ring_entries = now.ring_entries;
    network.receive_buffers = now.receive_buffers;
    network.receive_buffer_bytes = now.receive_buffer_bytes;
    network.mesh_staged_bytes_max = now.mesh_staged_bytes_max;
    network.inbox_batches_max = now.inbox_batches_max;
    config.admin.clone_from(&running.admin);
    config.observability.recorder_entries = running.observability.recorder_entries;
    let running = &running.access.authentication;
    let authentication = &mut config.access.authentication;
    authentication.threads = running.threads;
    authentication.waiting_max = running.waiting_max;
    authentication.wait_s_max = running.wait_s_max;
}

/// One difference, as it is printed: `session.in_flight_max: 1024 -> 7`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What and how.
    pub text: String,
    /// Whether it waits for a restart.
    pub needs_restart: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let note = match self.needs_restart {
            true => " (needs a restart)",
            false => "",
        };
        write!(f, "{}{note}", self.text)
    }
}

/// What is done with listeners, by their places in the new configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerStep {
    /// Listen.
    Open(u16),
    /// The same socket has other limits from now on.
    Move {
        /// The place that it had.
        from: u16,
        /// The place that it has.
        to: u16,
    },
    /// Accept no more.
    Close(u16),
}

/// The way from one configuration to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the broker runs with afterwards.
    pub config: Config,
    /// What is different, in the order of the reference.
    pub changes: Vec<Change>,
    /// What is done with listeners.
    pub steps: Vec<ListenerStep>,
}

impl Plan {
    /// Whether anything changes without a restart.
    pub fn changes_now(&self) -> bool {
        self.changes.iter().any(|change| !change.needs_restart)
    }
}

/// The way from `running` to `wanted`.
///
/// # Errors
/// There are no places left.
pub fn plan(running: &Config, wanted: &Config) -> Result<Plan, String> {
    let mut changes = Vec::new();
    let (before, after) = (Draft::showing(running), Draft::showing(wanted));
    for section in Section::ALL {
        if section != Section::Listener {
            compare(section, &before, &after, "", &mut changes);
        }
    }
    let mut config = wanted.clone();
    keep_what_needs_a_restart(&mut config, running);
    let (listeners, steps) = listeners(running, wanted, &mut changes);
    if listeners.len() > LISTENER_PLACES_MAX {
        return Err(format!(
            "listeners have been changed {LISTENER_PLACES_MAX} times since the start; restart to change them again"
        ));
    }
    config.listeners = listeners;
    if config.durability_max() > running.durability_max() {
        return Err(
            "a listener asks for a durability that this broker's log does not give; restart to change it"
                .into(),
        );
    }
    Ok(Plan {
        config,
        changes,
        steps,
    })
}

fn compare(
    section: Section,
    before: &Draft,
    after: &Draft,
    prefix: &str,
    changes: &mut Vec<Change>,
) {
    for key in section.keys() {
        let show = |draft| key.show(draft).unwrap_or_else(|| key.unset.into());
        let (from, to) = (show(before), show(after));
        if from != to {
            let path = key.path();
            changes.push(Change {
                text: format!("{prefix}{path}: {from} -> {to}"),
                needs_restart: NEEDS_RESTART.contains(&path.as_str()),
            });
        }
    }
}

/// The listeners by their places after the change, and what leads there.
fn listeners(
    running: &Config,
    wanted: &Config,
    changes: &mut Vec<Change>,
) -> (Vec<Listener>, Vec<ListenerStep>) {
    let mut places = running.listeners.clone();
    let mut steps = Vec::new();
    let mut kept = Vec::new();
    for listener in &wanted.listeners {
        let candidates = running.listeners.iter().enumerate().filter(|(place, now)| {
            !now.closed && now.address == listener.address && !kept.contains(place)
        });
        // Several with port 0 are told apart by their names.
        let same = candidates.min_by_key(|(_, now)| now.name != listener.name);
        let Some((place, now)) = same else {
            steps.push(ListenerStep::Open(index(places.len())));
            changes.push(of_listener(listener, "opened"));
            places.push(listener.clone());
            continue;
        };
        kept.push(place);
        let (mut before, mut after) = (Draft::default(), Draft::default());
        before.show_listener(now);
        after.show_listener(listener);
        let prefix = format!("listener \"{}\" ({}): ", now.name, now.address);
        compare(Section::Listener, &before, &after, &prefix, changes);
        let next = Listener {
            unix: now.unix.clone(),
            durability: now.durability,
            ..listener.clone()
        };
        if next != *now {
            let to = index(places.len());
            steps.push(ListenerStep::Move {
                from: index(place),
                to,
            });
            places[place].closed = true;
            places.push(next);
        }
    }
    for (place, now) in running.listeners.iter().enumerate() {
        if !now.closed && !kept.contains(&place) {
            steps.push(ListenerStep::Close(index(place)));
            changes.push(of_listener(now, "closed; its connections stay"));
            places[place].closed = true;
        }
    }
    (places, steps)
}

fn of_listener(listener: &Listener, what: &str) -> Change {
    Change {
        text: format!(
            "listener \"{}\" ({}): {what}",
            listener.name, listener.address
        ),
        needs_restart: false,
    }
}

fn index(place: usize) -> u16 {
    // At most `LISTENER_PLACES_MAX`, or the plan is refused.
    u16::try_from(place).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::keys::Kind;
    use super::super::parse;
    use super::super::table::KEYS;
    use super::*;

    fn config(text: &str) -> Config {
        parse(text, "test").unwrap()
    }

    fn lines(plan: &Plan) -> Vec<String> {
        plan.changes.iter().map(Change::to_string).collect()
    }

    const TWO: &str = "[[listener]]\naddress = \"127.0.0.1:1\"\nname = \"a\"\n[[listener]]\naddress = \"127.0.0.1:2\"\nname = \"b\"\n";

    #[test]
    fn the_same_file_changes_nothing() {
        let same = plan(&config(TWO), &config(TWO)).unwrap();
        assert_eq!((same.changes, same.steps), (vec![], vec![]));
        assert_eq!(same.config, config(TWO));
    }

    #[test]
    fn every_number_changes_or_is_said_to_need_a_restart() {
        let running = Config::default();
        for key in KEYS {
            let Kind::Integer {
                min, max, set, get, ..
            } = key.kind
            else {
                continue;
            };
            let mut draft = Draft::showing(&running);
            draft.show_listener(&running.listeners[0]);
            let now = get(&draft);
            let value = if now == Some(max) { min } else { max };
            set(&mut draft, value);
            let mut wanted = draft.config.clone();
            wanted.listeners[0].limits = draft.listener.limits.clone();
            wanted.listeners[0].doors = draft.listener.doors.clone();
            let plan = plan(&running, &wanted).unwrap();
            let needs_restart = NEEDS_RESTART.contains(&key.path().as_str());
            assert_eq!(plan.changes.len(), 1, "{}", key.path());
            assert_eq!(
                plan.changes[0].needs_restart,
                needs_restart,
                "{}",
                key.path()
            );
            let mut shown = Draft::showing(&plan.config);
            shown.show_listener(plan.config.listeners.last().unwrap());
            let expected = if needs_restart { now } else { Some(value) };
            assert_eq!(get(&shown), expected, "{}", key.path());
        }
    }

    #[test]
    fn what_needs_a_restart_is_a_key() {
        for path in NEEDS_RESTART {
            assert!(KEYS.iter().any(|key| key.path() == *path), "{path}");
        }
    }

    #[test]
    fn a_listener_with_other_limits_gets_a_place_of_its_own() {
        let running = config(TWO);
        let wanted = config(&format!("{TWO}keep_alive_s_max = 7\n"));
        let changed = plan(&running, &wanted).unwrap();
        assert_eq!(changed.steps, [ListenerStep::Move { from: 1, to: 2 }]);
        assert_eq!(
            lines(&changed),
            ["listener \"b\" (127.0.0.1:2): listener.keep_alive_s_max: 0 -> 7"]
        );
        let places = &changed.config.listeners;
        assert!(!places[0].closed && places[1].closed && !places[2].closed);
        assert_eq!(places[1].limits.keep_alive_s_max, 0);
        assert_eq!(places[2].limits.keep_alive_s_max, 7);
        // And again: the closed place is not looked at.
        let again = plan(&changed.config, &wanted).unwrap();
        assert_eq!((again.changes, again.steps), (vec![], vec![]));
        let back = plan(&changed.config, &running).unwrap();
        assert_eq!(back.steps, [ListenerStep::Move { from: 2, to: 3 }]);
    }

    #[test]
    fn a_log_does_not_begin_while_the_broker_runs() {
        let text = format!("data_dir = \"/d\"\ndurability = \"memory\"\n{TWO}");
        let running = config(&text);
        let wanted = config(&format!(
            "{text}[[listener]]\naddress = \"127.0.0.1:3\"\ndurability = \"os\"\n"
        ));
        assert!(plan(&running, &wanted).unwrap_err().contains("restart"));
        let wanted = config(&format!("{text}durability = \"os\"\n"));
        let changed = plan(&running, &wanted).unwrap();
        assert!(changed.changes[0].needs_restart && changed.steps.is_empty());
    }

    #[test]
    fn listeners_come_and_go() {
        let running = config(TWO);
        let wanted = config(&TWO.replace(":2", ":3"));
        let plan = plan(&running, &wanted).unwrap();
        assert_eq!(plan.steps, [ListenerStep::Open(2), ListenerStep::Close(1)]);
        assert_eq!(
            lines(&plan),
            [
                "listener \"b\" (127.0.0.1:3): opened",
                "listener \"b\" (127.0.0.1:2): closed; its connections stay"
            ]
        );
        assert!(plan.changes_now());
    }

    #[test]
    fn what_waits_for_a_restart_is_not_half_done() {
        let running = config("[[listener]]\naddress = \"unix:/tmp/x\"\n");
        let wanted = config(
            "shards = 3\n[session]\nin_flight_max = 7\n[[listener]]\naddress = \"unix:/tmp/x\"\nunix_mode = \"0600\"\n",
        );
        let plan = plan(&running, &wanted).unwrap();
        assert_eq!(plan.config.shards, None);
        assert_eq!(plan.config.session.in_flight_max, 7);
        assert_eq!(plan.config.listeners, running.listeners);
        let lines = lines(&plan);
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "shards: one for each core -> 3 (needs a restart)");
        assert_eq!(lines[1], "session.in_flight_max: 1024 -> 7");
        assert!(lines[2].ends_with("(needs a restart)"), "{lines:?}");
    }
}
