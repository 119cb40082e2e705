//! The configuration described: for `ringmq explain`, for the README, and for `--print-config`.

use std::fmt::Write as _;

use super::change::NEEDS_RESTART;
use super::keys::{Draft, Key, Section};
use super::profile::other_defaults;
use super::resolved::Config;
use super::table::KEYS;
use super::unknown::nearest;

/// The keys as Markdown tables, one for each section: the reference in the README.
pub fn reference_markdown() -> String {
    let mut out = String::new();
    for section in Section::ALL {
        let title = match section {
            Section::Top => "Top level".into(),
            _ => format!("`{}`", section.header()),
        };
        // Writing to a String cannot fail, here and below.
        let _ = write!(
            out,
            "### {title}\n\n| Key | Value | Default | Meaning |\n|---|---|---|---|\n"
        );
        for key in section.keys() {
            let mut default = match key.show(&Draft::default()) {
                Some(value) => format!("`{value}`"),
                None => key.unset.into(),
            };
            for (profile, value) in other_defaults(key) {
                let _ = write!(default, "; {profile} `{value}`");
            }
            let _ = writeln!(
                out,
                "| `{}` | {} | {default} | {} |",
                key.name,
                key.expected(),
                key.doc
            );
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// What a key, all keys of a section, or all keys mean. A key may be named with or without its section.
///
/// # Errors
/// There is no such key; the message names the nearest.
pub fn explain(name: Option<&str>) -> Result<String, String> {
    let Some(name) = name else {
        return Ok(KEYS.iter().map(explain_key).collect());
    };
    let keys: Vec<_> = KEYS
        .iter()
        .filter(|key| key.path() == name || key.name == name || key.section.name() == name)
        .collect();
    if !keys.is_empty() {
        return Ok(keys.into_iter().map(explain_key).collect());
    }
    let paths: Vec<_> = KEYS.iter().map(Key::path).collect();
    let candidates = paths
        .iter()
        .map(String::as_str)
        .chain(KEYS.iter().map(|key| key.name));
    Err(match nearest(name, candidates) {
        Some(near) => format!("there is no key \"{name}\"; did you mean \"{near}\"?"),
        None => format!("there is no key \"{name}\"; \"ringmq explain\" lists them all"),
    })
}

fn explain_key(key: &Key) -> String {
    let place = match key.section {
        Section::Top => "top level".into(),
        section => section.header(),
    };
    let changed = match NEEDS_RESTART.contains(&key.path().as_str()) {
        true => "by a restart",
        false => "by a reload",
    };
    let others: String = other_defaults(key)
        .iter()
        .map(|(profile, value)| format!(", {profile} {value}"))
        .collect();
    format!(
        "{}\n    {}\n    value:   {}\n    default: {}{others}\n    where:   {place}\n    changed: {changed}\n",
        key.path(),
        key.doc,
        key.expected(),
        key.default_text()
    )
}

/// `config` as a file that would give the same configuration.
pub fn to_toml(config: &Config) -> String {
    let mut draft = Draft::showing(config);
    let mut out = String::new();
    for section in Section::ALL {
        match section {
            Section::Listener => {
                for listener in config.listeners.iter().filter(|listener| !listener.closed) {
                    draft.show_listener(listener);
                    write_section(&mut out, section, &draft);
                }
            }
            // Its mere presence would redirect every client.
            Section::Redirect if config.redirect.is_none() => {}
            _ => write_section(&mut out, section, &draft),
        }
    }
    out
}

fn write_section(out: &mut String, section: Section, draft: &Draft) {
    if section != Section::Top {
        let _ = writeln!(out, "\n{}", section.header());
    }
    for key in section.keys() {
        // A key without a value is shown as a comment, so that the output tells the whole configuration.
        let _ = match key.show(draft) {
            Some(value) => writeln!(out, "{} = {value}", key.name),
            None => writeln!(out, "# {}: {}", key.name, key.unset),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_key() {
        let reference = reference_markdown();
        for key in KEYS {
            assert!(reference.contains(&format!("| `{}` |", key.name)));
        }
        // Pipes in a cell would break the table.
        assert!(
            reference
                .lines()
                .filter(|line| line.starts_with('|'))
                .all(|line| line.matches('|').count() == 5)
        );
        assert!(reference.contains(
            "| `output_bytes_max` | bytes from 4KiB to 1GiB | `\"1MiB\"`; throughput `\"4MiB\"`; density"
        ));
    }

    /// `RINGMQ_BLESS=1 cargo test --lib reference` writes it anew.
    #[test]
    fn the_readme_has_the_reference() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (before, rest) = readme
            .split_once("<!-- config-reference:begin -->\n")
            .unwrap();
        let (found, after) = rest.split_once("<!-- config-reference:end -->").unwrap();
        let reference = reference_markdown();
        if std::env::var_os("RINGMQ_BLESS").is_some() {
            let text = format!(
                "{before}<!-- config-reference:begin -->\n{reference}<!-- config-reference:end -->{after}"
            );
            std::fs::write(path, text).unwrap();
        } else {
            assert!(
                found == reference,
                "README.md does not show the configuration as it is"
            );
        }
    }

    #[test]
    fn a_key_is_explained_by_path_by_name_and_by_section() {
        let by_path = explain(Some("session.in_flight_max")).unwrap();
        assert!(by_path.contains("a whole number from 1 to 65535"));
        assert!(by_path.contains("default: 1024"));
        assert_eq!(explain(Some("in_flight_max")).unwrap(), by_path);
        assert!(explain(Some("session")).unwrap().contains(&by_path));
        assert!(explain(None).unwrap().contains(&by_path));
        let error = explain(Some("session.inflight_max")).unwrap_err();
        assert!(error.contains("session.in_flight_max"), "{error}");
    }

    #[test]
    fn what_is_printed_gives_the_same_configuration() {
        let text = "shards = 3\ncores = \"1,0\"\n[log]\nmodules = { \"ringmq::broker\" = \"debug\" }\n\
            [[listener]]\naddress = \"0.0.0.0:1883\"\nallow_anonymous = true\nname = \"a \\\"b\\\"\"\n\
            [[listener]]\naddress = \"unix:/tmp/x\"\nunix_mode = \"0600\"\n\
            [redirect]\nserver_reference = \"other:1883\"\n[retained]\nbytes_max = 1000001\n";
        for text in ["", text] {
            let config = crate::config::parse(text, "a").unwrap();
            assert_eq!(crate::config::parse(&to_toml(&config), "b"), Ok(config));
        }
    }
}
