//! Profiles: other defaults for many keys at once. A key that the file sets wins over its profile.
//!
//! Each value's reason is here; what it does, as measured, is in `tuning/profiles/`.

use super::keys::{Draft, Key};
use super::limits::ListenerLimits;
use super::resolved::Config;

/// What the broker is to be best at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Nothing in particular.
    #[default]
    Balanced,
    /// Short times from publisher to subscriber, at the price of CPU.
    Latency,
    /// Most messages for the CPU, at the price of memory.
    Throughput,
    /// Most clients for the memory.
    Density,
}

impl Profile {
    /// Those that change defaults, with their names.
    pub const OTHERS: [(&'static str, Self); 3] = [
        ("latency", Self::Latency),
        ("throughput", Self::Throughput),
        ("density", Self::Density),
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        let found = Self::OTHERS.iter().find(|(_, profile)| *profile == self);
        found.map_or("balanced", |(name, _)| *name)
    }

    /// The profile with this name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::OTHERS.iter().find(|(other, _)| *other == name);
        match name {
            "balanced" => Some(Self::Balanced),
            _ => found.map(|(_, profile)| *profile),
        }
    }

    /// Sets its defaults.
    pub fn apply(self, config: &mut Config) {
        config.profile = self;
        let (network, session) = (&mut config.network, &mut config.session);
        match self {
            Self::Balanced => {}
            Self::Latency => {
                // Waking a thread takes three times as long as a message; this is longer than most pauses.
                network.spin_us = 2000;
                // Short turns: who comes next waits for one turn of all others.
                network.receive_budget_bytes = 16 << 10;
                config.retained.slice_messages = 16;
                config.retained.slice_bytes = 64 << 10;
            }
            Self::Throughput => {
                // One completion for what would be several, and room for all of a turn's sends.
                network.ring_entries = 4096;
                network.receive_buffers = 1024;
                network.receive_buffer_bytes = 8192;
                // Long turns: more messages in each send.
                network.receive_budget_bytes = 256 << 10;
                network.output_bytes_max = 4 << 20;
                network.mesh_staged_bytes_max = 16 << 20;
                network.inbox_batches_max = 1024;
            }
            Self::Density => {
                // What each shard has at the start.
                network.ring_entries = 256;
                network.receive_buffers = 128;
                network.receive_buffer_bytes = 1024;
                network.mesh_staged_bytes_max = 1 << 20;
                // What the slow and the absent may hold.
                network.output_bytes_max = 128 << 10;
                session.in_flight_max = 128;
                session.in_flight_bytes_max = 1 << 20;
                session.outbox_messages_max = 1000;
                session.outbox_bytes_max = 1 << 20;
            }
        }
        let limits = self.listener_limits();
        for listener in &mut config.listeners {
            listener.limits = limits.clone();
        }
    }

    /// The defaults of a listener.
    pub fn listener_limits(self) -> ListenerLimits {
        let mut limits = ListenerLimits::default();
        if self == Self::Density {
            // Names of topics are kept for each connection that uses aliases.
            limits.topic_alias_maximum_outgoing = 0;
            limits.capabilities.topic_alias_maximum = 8;
            limits.capabilities.receive_maximum = 128;
        }
        limits
    }

    /// A draft with its defaults.
    pub fn draft(self) -> Draft {
        let mut config = Config::default();
        self.apply(&mut config);
        let mut draft = Draft::showing(&config);
        draft.listener.limits = self.listener_limits();
        draft
    }
}

/// The defaults of a key in the profiles that have another one, as `(profile, value)`.
pub fn other_defaults(key: &Key) -> Vec<(&'static str, String)> {
    let balanced = key.show(&Draft::default());
    Profile::OTHERS
        .into_iter()
        .filter(|_| key.name != "profile")
        .filter_map(|(name, profile)| {
            let value = key
                .show(&profile.draft())
                .filter(|value| Some(value) != balanced.as_ref());
            value.map(|value| (name, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Kind, Section};
    use super::super::table::KEYS;
    use super::super::{parse, to_toml};
    use super::*;

    #[test]
    fn explicit_keys_win_wherever_the_profile_stands() {
        for text in [
            "profile = \"density\"\n[session]\nin_flight_max = 7\n",
            "session.in_flight_max = 7\nprofile = \"density\"\n",
        ] {
            let config = parse(text, "a").unwrap();
            assert_eq!(config.profile, Profile::Density);
            assert_eq!(config.session.in_flight_max, 7);
            assert_eq!(config.session.outbox_messages_max, 1000);
            assert_eq!(config.listeners[0].limits.topic_alias_maximum_outgoing, 0);
        }
        let listener = "[[listener]]\naddress = \"127.0.0.1:1\"\nreceive_maximum = 9\n";
        let config = parse(&format!("profile = \"density\"\n{listener}"), "a").unwrap();
        let limits = &config.listeners[0].limits;
        assert_eq!(limits.capabilities.receive_maximum, 9);
        assert_eq!(limits.capabilities.topic_alias_maximum, 8);
    }

    #[test]
    fn each_is_printed_as_it_is_and_in_range() {
        for (name, profile) in Profile::OTHERS {
            assert_eq!(Profile::named(name), Some(profile));
            assert_eq!(profile.name(), name);
            let config = parse(&format!("profile = \"{name}\""), "a").unwrap();
            assert_ne!(
                config,
                Config {
                    profile,
                    ..Config::default()
                }
            );
            assert_eq!(parse(&to_toml(&config), "b"), Ok(config));
            for key in KEYS.iter().filter(|key| key.section != Section::Redirect) {
                if let Kind::Integer { min, max, get, .. } = key.kind
                    && let Some(value) = get(&profile.draft())
                {
                    assert!((min..=max).contains(&value), "{name}: {}", key.path());
                }
            }
        }
        assert_eq!(Profile::named("balanced"), Some(Profile::Balanced));
        assert!(parse("profile = \"speed\"", "a").is_err());
        assert!(parse("profile = 1", "a").is_err());
    }

    #[test]
    fn what_a_profile_changes_is_told() {
        let key = KEYS.iter().find(|key| key.name == "spin_us").unwrap();
        assert_eq!(other_defaults(key), [("latency", "2000".to_owned())]);
    }
}
