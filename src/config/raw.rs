//! From the text of a configuration file to the configuration.
//!
//! Called by `cli`, and again when the file is read anew. What keys there are and what they may hold is in
//! [`super::table`]; here is how a value is checked against its key, and what must hold between keys. All
//! mistakes are found in one go.

use std::collections::BTreeMap;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::address::ListenAddress;
use super::cpu_list::{check_cpus, parse_cpu_list};
use super::error::{Collector, ConfigError, ConfigErrors};
use super::keys::{
    Draft, DraftListener, Key, Kind, LOG_LEVELS, Section, Unit, literal, parse_size,
};
use super::limits::Durability;
use super::owner;
use super::profile::Profile;
use super::resolved::{Config, Listener};
use super::unknown::meant;

/// Reads and checks a configuration file.
///
/// # Errors
/// It cannot be read, or all that is wrong with it.
pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
    let file = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text, &file),
        Err(error) => Err(ConfigErrors(vec![ConfigError {
            file,
            position: None,
            key: None,
            message: format!("cannot read the configuration file: {error}"),
        }])),
    }
}

/// Checks the text of a configuration file; `file_name` is for messages.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str, file_name: &str) -> Result<Config, ConfigErrors> {
    let mut reader = Reader {
        draft: Draft::default(),
        listeners: Vec::new(),
        errors: Collector::new(file_name, text),
    };
    let (table, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        let at = error.span().map_or(0, |span| span.start);
        reader.errors.push(at, None, error.message().trim_end());
    }
    // What was saved from broken syntax would only give errors that are none.
    if reader.errors.is_empty() {
        reader.profile(table.get_ref());
        reader.top(table.get_ref());
        reader.check_durability(table.get_ref());
    }
    if !reader.errors.is_empty() {
        return Err(reader.errors.into_errors());
    }
    let mut config = reader.draft.config;
    if reader.listeners.is_empty() {
        let authenticates = config.authenticates(&config.listeners[0]);
        config.listeners[0].allow_anonymous = !authenticates;
    } else {
        config.listeners = reader.listeners;
    }
    Ok(config)
}

type Entry<'a, 'i> = (
    &'a Spanned<std::borrow::Cow<'i, str>>,
    &'a Spanned<DeValue<'i>>,
);

struct Reader<'t> {
    draft: Draft,
    listeners: Vec<Listener>,
    errors: Collector<'t>,
}

impl Reader<'_> {
    /// Defaults come first, wherever in the file the profile stands. What is no profile has its error later.
    fn profile(&mut self, table: &DeTable<'_>) {
        let named = match table.get("profile").map(Spanned::get_ref) {
            Some(DeValue::String(name)) => Profile::named(name),
            _ => None,
        };
        if let Some(profile) = named {
            profile.apply(&mut self.draft.config);
        }
    }

    fn top(&mut self, table: &DeTable<'_>) {
        // What holds for a listener depends on the other sections.
        for (name, value) in table {
            match Section::named(name.get_ref()) {
                Some(Section::Listener) => {}
                Some(section) => self.section(section, value),
                None => self.entry(Section::Top, (name, value)),
            }
        }
        if let Some(listeners) = table.get(Section::Listener.name()) {
            self.listeners(listeners);
        }
        self.draft.config.redirect = self.draft.redirect();
    }

    /// A promise beyond the process needs a place for it.
    fn check_durability(&mut self, table: &DeTable<'_>) {
        let config = &self.draft.config;
        let promised =
            |durability: Option<Durability>| durability.is_some_and(|d| d > Durability::Memory);
        let of_listener = self
            .listeners
            .iter()
            .any(|listener| promised(listener.durability));
        if config.data_dir.is_some() || !(promised(config.durability) || of_listener) {
            return;
        }
        let message = "needs data_dir: say where sessions and retained messages are kept";
        let key = if promised(config.durability) {
            "durability"
        } else {
            "listener"
        };
        if let Some(place) = table.get(key) {
            let path = if key == "listener" {
                "listener.durability"
            } else {
                key
            };
            self.error(place, path, message);
        }
    }

    fn section(&mut self, section: Section, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = value.get_ref() else {
            let message = format!("expected a section {}", section.header());
            self.error(value, section.name(), message);
            return;
        };
        for entry in table {
            self.entry(section, entry);
        }
        let admin = &self.draft.config.admin;
        if section == Section::Admin
            && let Some(address) = admin.address.filter(|address| !address.ip().is_loopback())
            && admin.token_file.is_none()
        {
            let message = format!(
                "{address} is reached by other machines, so token_file must say who may use it"
            );
            let place = table.get("address").unwrap_or(value);
            self.error(place, "admin.address", message);
        }
        // A bad value has its own error.
        if section == Section::Redirect && !table.contains_key("server_reference") {
            let message = "is missing; [redirect] must say where clients are sent";
            self.error(value, "redirect.server_reference", message);
        }
    }

    fn listeners(&mut self, value: &Spanned<DeValue<'_>>) {
        let tables: Option<Vec<_>> = match value.get_ref() {
            DeValue::Array(array) => array
                .iter()
                .map(|value| Some((value, value.get_ref().as_table()?)))
                .collect(),
            _ => None,
        };
        match tables {
            Some(tables) if !tables.is_empty() => {
                for (place, table) in tables {
                    self.listener(place, table);
                }
            }
            Some(_) => self.error(value, "listener", "there must be at least one"),
            None => {
                let message = "expected [[listener]], with two brackets, once for each listener";
                self.error(value, "listener", message);
            }
        }
    }

    fn listener(&mut self, place: &Spanned<DeValue<'_>>, table: &DeTable<'_>) {
        self.draft.listener = DraftListener {
            limits: self.draft.config.profile.listener_limits(),
            ..DraftListener::default()
        };
        for entry in table {
            self.entry(Section::Listener, entry);
        }
        let draft = std::mem::take(&mut self.draft.listener);
        let Some(address) = draft.address else {
            if !table.contains_key("address") {
                let message = "is missing; say where to listen, like \"127.0.0.1:1883\"";
                self.error(place, "listener.address", message);
            }
            return;
        };
        let mut listener = Listener::at(address);
        let at_key = |key: &str| table.get(key).unwrap_or(place);
        let unix = matches!(listener.address, ListenAddress::Unix(_));
        for key in ["unix_owner", "unix_group", "unix_mode"] {
            if !unix && table.contains_key(key) {
                let message = format!("is for Unix sockets only, not for {}", listener.address);
                self.error(at_key(key), &format!("listener.{key}"), message);
            }
        }
        for (key, kind, name, number) in [
            (
                "unix_owner",
                "user",
                &draft.unix.owner,
                owner::user as fn(&str) -> Option<u32>,
            ),
            ("unix_group", "group", &draft.unix.group, owner::group),
        ] {
            if let Some(name) = name.as_deref().filter(|name| number(name).is_none()) {
                let message = format!("there is no {kind} \"{name}\" on this machine");
                self.error(at_key(key), &format!("listener.{key}"), message);
            }
        }
        if self
            .listeners
            .iter()
            .any(|other| same_place(&other.address, &listener.address))
        {
            let message = format!("{} is the address of another listener", listener.address);
            self.error(at_key("address"), "listener.address", message);
        }
        listener.authentication = draft.authentication;
        let authenticates = self.draft.config.authenticates(&listener);
        listener.allow_anonymous = draft
            .allow_anonymous
            .unwrap_or(listener.address.is_local() && !authenticates);
        if !listener.allow_anonymous && !authenticates && !listener.address.is_local() {
            let message = format!(
                "must be true: other machines reach {}, and clients are not asked for credentials; \
                 or configure [authentication], or listen on a local address",
                listener.address
            );
            let place = table.get("allow_anonymous").unwrap_or(at_key("address"));
            self.error(place, "listener.allow_anonymous", message);
        }
        listener.name = match draft.name {
            Some(name) => {
                if self.listeners.iter().any(|other| other.name == name) {
                    let message = format!("\"{name}\" is the name of another listener");
                    self.error(at_key("name"), "listener.name", message);
                }
                name
            }
            None => free_listener_name(&self.listeners, &listener.name),
        };
        for (key, message) in draft.doors.faults(&listener.address) {
            self.error(at_key(key), &format!("listener.{key}"), message);
        }
        let bounds = (draft.limits.keep_alive_s_min, draft.limits.keep_alive_s_max);
        if bounds.1 > 0 && bounds.0 > bounds.1 {
            let message = "is over keep_alive_s_max";
            self.error(
                at_key("keep_alive_s_min"),
                "listener.keep_alive_s_min",
                message,
            );
        }
        listener.unix = draft.unix;
        listener.durability = draft.durability;
        listener.doors = draft.doors;
        listener.limits = draft.limits;
        self.listeners.push(listener);
    }

    fn entry(&mut self, section: Section, (name, value): Entry<'_, '_>) {
        let Some(key) = section.keys().find(|key| key.name == name.get_ref()) else {
            let path = match section {
                Section::Top => name.get_ref().to_string(),
                _ => format!("{}.{}", section.name(), name.get_ref()),
            };
            let message = format!("unknown key; {}", meant(section, name.get_ref()));
            self.errors.push(name.span().start, Some(path), message);
            return;
        };
        if let Err(problem) = put(key, &mut self.draft, value.get_ref()) {
            let message = format!("{problem}; expected {}", key.expected());
            self.error(value, &key.path(), message);
        }
    }

    fn error(&mut self, place: &Spanned<DeValue<'_>>, key: &str, message: impl Into<String>) {
        self.errors
            .push(place.span().start, Some(key.into()), message);
    }
}

/// Whether two listeners cannot listen at once. Port 0 is another port each time.
pub fn same_place(a: &ListenAddress, b: &ListenAddress) -> bool {
    let chosen_by_kernel = matches!(a, ListenAddress::Tcp(tcp) if tcp.port() == 0);
    a == b && !chosen_by_kernel
}

/// The name of a listener without one: `name`, or if it is taken `name-2` and so on.
pub fn free_listener_name(listeners: &[Listener], name: &str) -> String {
    let taken = |name: &String| listeners.iter().any(|other| other.name == *name);
    std::iter::once(name.to_owned())
        .chain((2..).map(|number| format!("{name}-{number}")))
        .find(|name| !taken(name))
        .unwrap_or_default()
}

/// Checks a value and puts it into the draft; the error says what it is instead.
fn put(key: &Key, draft: &mut Draft, value: &DeValue<'_>) -> Result<(), String> {
    let wrong_type = || Err(format!("this is {}", described(value)));
    match (key.kind, value) {
        (
            Kind::Integer {
                unit,
                min,
                max,
                power_of_two,
                set,
                ..
            },
            value,
        ) => {
            let number = match (value, unit) {
                (DeValue::Integer(number), _) => integer(number),
                (DeValue::String(text), Unit::Bytes) => parse_size(text),
                _ => return wrong_type(),
            };
            match number {
                Some(number) if !(min..=max).contains(&number) => {
                    Err(format!("{} is out of range", described(value)))
                }
                Some(number) if power_of_two && !number.is_power_of_two() => {
                    Err(format!("{number} is no power of two"))
                }
                Some(number) => {
                    set(draft, number);
                    Ok(())
                }
                None if matches!(value, DeValue::String(_)) => Err(format!(
                    "{} is no size; write it like \"64KiB\" (B, KiB, MiB, GiB, TiB)",
                    described(value)
                )),
                None => Err(format!("{} is out of range", described(value))),
            }
        }
        (Kind::Boolean { set, .. }, DeValue::Boolean(value)) => {
            set(draft, *value);
            Ok(())
        }
        (Kind::Choice { values, set, .. }, DeValue::String(text)) => {
            let index = values.iter().position(|word| word == text);
            set(draft, index.ok_or_else(|| format!("this is \"{text}\""))?);
            Ok(())
        }
        (Kind::Words { values, set, .. }, DeValue::Array(array)) => {
            set(draft, words(values, array)?);
            Ok(())
        }
        (Kind::Text { set, .. }, DeValue::String(text)) => set(draft, text),
        (Kind::Texts { set, .. }, DeValue::String(text)) => set(draft, &[text.to_string()]),
        (Kind::Texts { set, .. }, DeValue::Array(array)) => {
            let texts: Option<Vec<String>> = array
                .iter()
                .map(|value| value.get_ref().as_str().map(str::to_owned))
                .collect();
            set(draft, &texts.ok_or("not all elements are texts")?)
        }
        (Kind::Cpus { set, .. }, DeValue::String(text)) => {
            set(draft, parse_cpu_list(text)?);
            Ok(())
        }
        (Kind::Cpus { set, .. }, DeValue::Array(array)) => {
            let cpu = |value: &Spanned<DeValue<'_>>| match value.get_ref() {
                DeValue::Integer(number) => integer(number).and_then(|cpu| cpu.try_into().ok()),
                _ => None,
            };
            let cpus: Option<Vec<usize>> = array.iter().map(cpu).collect();
            let cpus = cpus.ok_or("not all elements are CPU numbers")?;
            check_cpus(&cpus)?;
            set(draft, cpus);
            Ok(())
        }
        (Kind::Levels { set, .. }, DeValue::Table(table)) => {
            set(draft, levels(table)?);
            Ok(())
        }
        _ => wrong_type(),
    }
}

/// The indexes of the words of a list.
fn words(values: &[&str], array: &[Spanned<DeValue<'_>>]) -> Result<Vec<usize>, String> {
    let mut found = Vec::new();
    for value in array {
        let word = value.get_ref();
        let index = match word {
            DeValue::String(text) => values.iter().position(|known| known == text),
            _ => None,
        };
        match index {
            Some(index) if found.contains(&index) => {
                return Err(format!("{} stands there twice", described(word)));
            }
            Some(index) => found.push(index),
            None => return Err(format!("{} is in it", described(word))),
        }
    }
    Ok(found)
}

fn levels(table: &DeTable<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut levels = BTreeMap::new();
    for (module, level) in table {
        let module = module.get_ref();
        let path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if module.is_empty() || !module.chars().all(path) {
            return Err(format!("\"{module}\" is no module path"));
        }
        match level.get_ref() {
            DeValue::String(level) if LOG_LEVELS.contains(&level.as_ref()) => {
                levels.insert(module.to_string(), level.to_string());
            }
            other => {
                let found = described(other);
                return Err(format!("the level of \"{module}\" is {found}"));
            }
        }
    }
    Ok(levels)
}

fn integer(number: &toml::de::DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A value as a message names it.
fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => literal(text),
        DeValue::Integer(number) => number.to_string(),
        DeValue::Float(number) => number.to_string(),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date or time".into(),
        DeValue::Array(_) => "an array".into(),
        DeValue::Table(_) => "a table".into(),
    }
}

#[cfg(test)]
#[path = "raw_tests.rs"]
mod tests;
