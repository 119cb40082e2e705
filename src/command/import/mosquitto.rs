//! Reads a `mosquitto.conf`: lines of an option and its value, of which those behind `listener` are its own.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use crate::config::address::ListenAddress;
use crate::config::keys::{Section, literal};

use super::Note;
use super::mapping::{DEFAULTS, To, boolean, option};

/// What a file became.
#[derive(Debug)]
pub struct Imported {
    /// Our configuration.
    pub toml: String,
    /// Lines that need a look.
    pub notes: Vec<Note>,
    /// Defaults that differ.
    pub defaults: Vec<Note>,
}

/// Keys with their values as TOML.
type Keys = BTreeMap<&'static str, String>;

/// A listener of the file; several of ours, if its name has several addresses.
#[derive(Debug, Default)]
struct Place {
    addresses: Vec<ListenAddress>,
    keys: Keys,
    allow_anonymous: Option<bool>,
}

#[derive(Debug, Default)]
struct Reader {
    notes: Vec<Note>,
    sections: BTreeMap<&'static str, Keys>,
    /// Keys of every listener.
    common: Keys,
    allow_anonymous: Option<bool>,
    /// `port`, `bind_address` and what is set before the first `listener`.
    default: Option<(u16, Option<String>, usize)>,
    places: Vec<Place>,
    per_listener: bool,
    /// Inside a bridge, to which all lines belong up to the next listener.
    in_bridge: bool,
    levels: Vec<&'static str>,
    seen: Vec<String>,
}

/// Translates the text of a file.
pub fn import(text: &str) -> Imported {
    let mut reader = Reader {
        per_listener: text
            .lines()
            .filter_map(words)
            .any(|(name, value)| name == "per_listener_settings" && boolean(value) == Ok(true)),
        ..Reader::default()
    };
    for (number, line) in (1..).zip(text.lines()) {
        if let Some((name, value)) = words(line) {
            reader.seen.push(name.into());
            reader.line(number, name, value);
        }
    }
    reader.finish()
}

/// The option and its value; none for comments and empty lines.
fn words(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let (name, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    Some((name, value.trim()))
}

impl Reader {
    fn note(&mut self, line: usize, text: impl Into<String>) {
        self.notes.push(Note {
            line: Some(line),
            text: text.into(),
        });
    }

    fn line(&mut self, line: usize, name: &str, value: &str) {
        match name {
            "listener" => {
                self.in_bridge = false;
                self.listener(line, value);
            }
            "connection" => {
                self.in_bridge = true;
                self.mapped(line, name, value);
            }
            "port" => match value.parse() {
                Ok(port) => self.default.get_or_insert((port, None, line)).0 = port,
                Err(_) => self.note(line, format!("\"{value}\" is no port")),
            },
            "bind_address" => {
                self.default.get_or_insert((1883, None, line)).1 = Some(value.into());
            }
            "socket_domain" => self.socket_domain(line, value),
            "allow_anonymous" => match boolean(value) {
                Ok(allowed) => *self.anonymous() = Some(allowed),
                Err(problem) => self.note(line, problem),
            },
            "persistence" | "persistence_location" | "persistence_file" => {
                self.persistence(line, name, value);
            }
            "log_type" => self.log_type(line, value),
            "include_dir" => self.note(
                line,
                format!("include_dir {value}: other files are not read; import them one by one"),
            ),
            _ => self.mapped(line, name, value),
        }
    }

    /// Where `allow_anonymous` belongs.
    fn anonymous(&mut self) -> &mut Option<bool> {
        match self.places.last_mut() {
            Some(place) if self.per_listener => &mut place.allow_anonymous,
            _ => &mut self.allow_anonymous,
        }
    }

    fn mapped(&mut self, line: usize, name: &str, value: &str) {
        match option(name) {
            None => self.note(
                line,
                format!("{name}: no such option is known; it is left out"),
            ),
            Some(To::Always) => {}
            Some(To::Nothing(instead)) => {
                let shown = if value.is_empty() {
                    name.into()
                } else {
                    format!("{name} {value}")
                };
                self.note(line, format!("{shown}: no counterpart; {instead}"));
            }
            Some(To::Key { .. }) if self.in_bridge => {
                self.note(line, format!("{name} {value}: of a bridge; no counterpart"));
            }
            Some(To::Key {
                section,
                key,
                value: convert,
                note,
            }) => match convert(value) {
                Err(problem) => self.note(line, format!("{name}: {problem}; it is left out")),
                Ok(converted) => {
                    if let Some(converted) = converted {
                        self.keys(section).insert(key, converted);
                    }
                    if !note.is_empty() {
                        self.note(line, format!("{name} {value}: {note}"));
                    }
                }
            },
        }
    }

    fn keys(&mut self, section: &'static str) -> &mut Keys {
        match (section, self.places.last_mut()) {
            ("listener", Some(place)) => &mut place.keys,
            ("listener", None) => &mut self.common,
            _ => self.sections.entry(section).or_default(),
        }
    }

    /// `listener PORT [ADDRESS]`, or `listener 0 /path`.
    fn listener(&mut self, line: usize, value: &str) {
        let (port, address) = value.split_once(char::is_whitespace).unwrap_or((value, ""));
        let address = address.trim();
        let mut place = Place::default();
        match port.parse() {
            Err(_) => self.note(
                line,
                format!("listener: \"{port}\" is no port; it is left out"),
            ),
            Ok(0) if address.starts_with('/') => {
                place.addresses.push(ListenAddress::Unix(address.into()));
            }
            Ok(port) => match addresses(port, address) {
                Ok(addresses) => place.addresses = addresses,
                Err(problem) => self.note(line, problem),
            },
        }
        self.places.push(place);
    }

    fn socket_domain(&mut self, line: usize, value: &str) {
        let Some(place) = self.places.last_mut() else {
            return self.note(
                line,
                "socket_domain: it is left out; name the address in the listener",
            );
        };
        let keep_v4 = value == "ipv4";
        if !keep_v4 && value != "ipv6" {
            return self.note(
                line,
                format!("socket_domain {value}: neither ipv4 nor ipv6"),
            );
        }
        place.addresses.retain(|address| match address {
            ListenAddress::Tcp(tcp) => tcp.is_ipv4() == keep_v4,
            ListenAddress::Unix(_) => true,
        });
    }

    fn persistence(&mut self, line: usize, name: &str, value: &str) {
        let has_store = Section::Top.keys().any(|key| key.name == "data_dir");
        let text = match (name, has_store) {
            ("persistence", _) if boolean(value) == Ok(false) => return,
            (_, false) => "sessions and retained messages are in memory and end with the process",
            ("persistence_location", true) => {
                self.keys("").insert("data_dir", literal(value));
                "the stored file itself is not read: the broker begins with nothing"
            }
            ("persistence", true) => "set data_dir, unless persistence_location is there",
            _ => "the store is a directory; the name of a file is not needed",
        };
        self.note(line, format!("{name} {value}: {text}"));
    }

    fn log_type(&mut self, line: usize, value: &str) {
        match value {
            "error" => self.levels.push("error"),
            "warning" => self.levels.push("warn"),
            "notice" | "information" => self.levels.push("info"),
            "debug" | "all" | "internal" => self.levels.push("debug"),
            "none" => {
                self.levels.push("error");
                self.note(line, "log_type none: errors are always logged");
            }
            _ => self.note(
                line,
                format!("log_type {value}: no counterpart; see log.level and log.modules"),
            ),
        }
    }

    fn finish(mut self) -> Imported {
        self.default_places();
        if let Some(level) = ["debug", "info", "warn", "error"]
            .into_iter()
            .find(|level| self.levels.contains(level))
        {
            self.keys("log").insert("level", literal(level));
        }
        let expiry = "session_expiry_interval_s_max";
        if let Some(expiry) = self
            .sections
            .get("session")
            .and_then(|keys| keys.get(expiry))
            .cloned()
        {
            self.keys("session")
                .insert("persistent_v3_expiry_interval_s", expiry);
        }
        let toml = self.toml();
        let defaults = DEFAULTS
            .iter()
            .filter(|(option, _, _)| !self.seen.iter().any(|seen| seen == option))
            .map(|(option, there, here)| Note {
                line: None,
                text: format!("{option} is {there} there; {here}"),
            })
            .collect();
        Imported {
            toml,
            notes: self.notes,
            defaults,
        }
    }

    /// Mosquitto's listener for `port`, or the one of a file that has none: this machine only, for everybody.
    fn default_places(&mut self) {
        if let Some((port, address, line)) = self.default.take() {
            match addresses(port, address.as_deref().unwrap_or_default()) {
                Err(problem) => self.note(line, problem),
                Ok(addresses) => self.places.insert(
                    0,
                    Place {
                        addresses,
                        ..Place::default()
                    },
                ),
            }
        } else if self.places.is_empty() {
            let local: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
            let local = local.map(|address| ListenAddress::Tcp(SocketAddr::new(address, 1883)));
            self.places.push(Place {
                addresses: local.into(),
                allow_anonymous: Some(self.allow_anonymous.unwrap_or(true)),
                ..Place::default()
            });
        }
    }

    fn toml(&self) -> String {
        let mut out =
            String::from("# From a mosquitto.conf. What has no counterpart is not here.\n");
        let write = |out: &mut String, keys: &Keys| {
            for (key, value) in keys {
                // Writing to a String cannot fail, here and below.
                let _ = writeln!(out, "{key} = {value}");
            }
        };
        if let Some(keys) = self.sections.get("") {
            write(&mut out, keys);
        }
        for place in &self.places {
            for address in &place.addresses {
                let mut keys = self.common.clone();
                keys.extend(place.keys.clone());
                let anonymous = place
                    .allow_anonymous
                    .or(self.allow_anonymous)
                    .unwrap_or(false);
                keys.insert("allow_anonymous", anonymous.to_string());
                let address = literal(&address.to_string());
                let _ = writeln!(out, "\n[[listener]]\naddress = {address}");
                write(&mut out, &keys);
            }
        }
        for (section, keys) in self
            .sections
            .iter()
            .filter(|(section, _)| !section.is_empty())
        {
            let _ = writeln!(out, "\n[{section}]");
            write(&mut out, keys);
        }
        out
    }
}

/// The addresses of a listener: all of the machine, unless it names one.
fn addresses(port: u16, name: &str) -> Result<Vec<ListenAddress>, String> {
    let tcp = |address: IpAddr| ListenAddress::Tcp(SocketAddr::new(address, port));
    if name.is_empty() {
        let all: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        return Ok(all.map(tcp).into());
    }
    if let Ok(address) = name.parse() {
        return Ok(vec![tcp(address)]);
    }
    let found = (name, port).to_socket_addrs().map_err(|error| {
        format!("listener {port} {name}: the name has no address here: {error}")
    })?;
    let mut addresses: Vec<_> = found.map(ListenAddress::Tcp).collect();
    addresses.dedup();
    Ok(addresses)
}
