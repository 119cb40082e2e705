//! Configurations: any that is allowed is read, printed, and read again as the same; any other text gives errors.

use std::collections::BTreeMap;
use std::process::Command;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use ringmq::config::keys::{Key, Kind, LOG_LEVELS, Section, Unit, literal};
use ringmq::config::table::KEYS;
use ringmq::config::{parse, to_toml};

use crate::support::broker::binary;

/// A text as TOML writes it: any characters but controls.
fn text() -> impl Strategy<Value = String> {
    vec(
        any::<char>().prop_filter("no controls", |c| !c.is_control()),
        1..12,
    )
    .prop_map(|chars| literal(&chars.into_iter().collect::<String>()))
}

/// A path, in which any character may stand.
fn path() -> impl Strategy<Value = String> {
    let any_of = prop_oneof![3 => any::<char>(), 1 => (0..0x100_u32).prop_map(|c| c as u8 as char)];
    vec(any_of, 1..12).prop_map(|chars| literal(&chars.into_iter().collect::<String>()))
}

/// A number from `min` to `max`, its limits more often than others.
fn number(min: u64, max: u64, power_of_two: bool) -> BoxedStrategy<u64> {
    match power_of_two {
        true => {
            let powers: Vec<u64> = (0..63)
                .map(|bit| 1 << bit)
                .filter(|power| (min..=max).contains(power))
                .collect();
            select(powers).boxed()
        }
        false => prop_oneof![1 => Just(min), 1 => Just(max), 4 => min..=max].boxed(),
    }
}

/// A value for `key`, as TOML.
fn value(key: &'static Key) -> BoxedStrategy<String> {
    match key.kind {
        Kind::Integer {
            unit,
            min,
            max,
            power_of_two,
            ..
        } => (number(min, max, power_of_two), any::<bool>())
            .prop_map(move |(number, with_unit)| match unit {
                Unit::Bytes if with_unit && number % 1024 == 0 => {
                    format!("\"{} KiB\"", number / 1024)
                }
                Unit::Bytes if with_unit => format!("\"{number}B\""),
                _ => number.to_string(),
            })
            .boxed(),
        Kind::Boolean { .. } => any::<bool>().prop_map(|value| value.to_string()).boxed(),
        Kind::Choice { values, .. } => select(values).prop_map(literal).boxed(),
        Kind::Words { values, .. } => subsequence(values, 0..=values.len())
            .prop_map(|words| {
                let words: Vec<String> = words.into_iter().map(literal).collect();
                format!("[{}]", words.join(", "))
            })
            .boxed(),
        Kind::Text { .. } if key.name == "unix_mode" => (0..0o1000_u32)
            .prop_map(|mode| format!("\"{mode:04o}\""))
            .boxed(),
        // Only who is known on every machine can own a socket.
        Kind::Text { .. } if matches!(key.name, "unix_owner" | "unix_group") => {
            select(&["\"root\"", "\"0\"", "\"65534\""][..])
                .prop_map(str::to_owned)
                .boxed()
        }
        // Local, so that it needs no token file beside it.
        Kind::Text { .. } if key.section == Section::Admin && key.name == "address" => any::<u16>()
            .prop_map(|port| format!("\"127.0.0.1:{port}\""))
            .boxed(),
        Kind::Text { .. } if key.section == Section::Admin => {
            text().prop_map(|text| format!("\"/{}", &text[1..])).boxed()
        }
        Kind::Text { .. } => text().boxed(),
        Kind::Texts { .. } if key.name == "trusted_proxies" => {
            let networks = ["10.0.0.0/8", "2001:db8::1", "unix", "0.0.0.0/0"].map(literal);
            subsequence(networks.to_vec(), 1..=4)
                .prop_map(|networks| format!("[{}]", networks.join(", ")))
                .boxed()
        }
        Kind::Texts { .. } => vec(text(), 1..4)
            .prop_map(|texts| format!("[{}]", texts.join(", ")))
            .boxed(),
        Kind::Cpus { .. } => btree_set(0..4_096_usize, 1..6)
            .prop_map(|cpus| format!("{:?}", cpus.into_iter().rev().collect::<Vec<_>>()))
            .boxed(),
        Kind::Levels { .. } => vec(
            (
                select(&["ringmq", "ringmq::broker", "other_1"][..]),
                select(&LOG_LEVELS[..]),
            ),
            0..3,
        )
        .prop_map(|pairs| {
            let levels: BTreeMap<&str, &str> = pairs.into_iter().collect();
            let pairs: Vec<String> = levels
                .iter()
                .map(|(module, level)| format!("{} = {}", literal(module), literal(level)))
                .collect();
            format!("{{ {} }}", pairs.join(", "))
        })
        .boxed(),
    }
}

/// Any of `keys` with a value each, a line for each.
fn lines(keys: Vec<&'static Key>) -> BoxedStrategy<String> {
    let count = keys.len();
    subsequence(keys, 0..=count)
        .prop_flat_map(|keys| {
            let values: Vec<BoxedStrategy<String>> = keys
                .into_iter()
                .map(|key| {
                    value(key)
                        .prop_map(move |value| format!("{} = {value}\n", key.name))
                        .boxed()
                })
                .collect();
            values
        })
        .prop_map(|lines| lines.concat())
        .boxed()
}

/// A listener: number `place` of several, so that names and addresses differ.
fn listener(place: u16) -> BoxedStrategy<String> {
    let unix_only = |key: &&'static Key| key.name.starts_with("unix_");
    // These are written below, or go with others only.
    let apart = |key: &&'static Key| {
        matches!(
            key.name,
            "address"
                | "name"
                | "allow_anonymous"
                | "tls_keys"
                | "tls_client_certificate"
                | "tls_client_ca"
                | "tls_client_crls"
                | "proxy_protocol"
                | "allow"
                | "deny"
                | "keep_alive_s_min"
        )
    };
    let keys: Vec<&'static Key> = Section::Listener.keys().filter(|key| !apart(key)).collect();
    let for_tcp = keys.iter().copied().filter(|key| !unix_only(key)).collect();
    let tcp = (any::<[u8; 4]>(), any::<bool>(), lines(for_tcp)).prop_map(move |(ip, v6, lines)| {
        let port = 1_000 + place;
        let address = match v6 {
            true => format!("[2001:db8::{:x}]:{port}", ip[0]),
            false => format!("{}.{}.{}.{}:{port}", ip[0], ip[1], ip[2], ip[3]),
        };
        format!("address = \"{address}\"\nallow_anonymous = true\n{lines}")
    });
    let unix = (path(), any::<bool>(), lines(keys)).prop_map(move |(name, anonymous, lines)| {
        let name = &name[1..name.len() - 1];
        format!("address = \"unix:/{place}/{name}\"\nallow_anonymous = {anonymous}\n{lines}")
    });
    (prop_oneof![tcp, unix], proptest::option::of(text()))
        .prop_map(move |(listener, name)| {
            let name = name.map_or(String::new(), |name| {
                format!("name = \"{place}{}\n", &name[1..])
            });
            format!("[[listener]]\n{name}{listener}")
        })
        .boxed()
}

/// A configuration file.
fn file() -> impl Strategy<Value = String> {
    let sections: Vec<BoxedStrategy<String>> = Section::ALL
        .into_iter()
        .filter(|section| {
            !matches!(
                section,
                Section::Top | Section::Listener | Section::Redirect
            )
        })
        .map(|section| {
            let header = section.header();
            lines(section.keys().collect())
                .prop_map(move |lines| format!("{header}\n{lines}"))
                .boxed()
        })
        .collect();
    let redirect = proptest::option::of((text(), any::<bool>()).prop_map(|(server, permanent)| {
        format!("[redirect]\nserver_reference = {server}\npermanent = {permanent}\n")
    }));
    let listeners = (0..4_usize)
        .prop_flat_map(|count| (0..4_u16).take(count).map(listener).collect::<Vec<_>>());
    (
        lines(Section::Top.keys().collect()),
        sections,
        listeners,
        redirect,
    )
        .prop_map(|(mut top, sections, listeners, redirect)| {
            if !top.contains("data_dir = ") {
                // A promise needs a place to keep it.
                top.push_str("data_dir = \"d\"\n");
            }
            format!(
                "{top}{}{}{}",
                sections.concat(),
                listeners.concat(),
                redirect.unwrap_or_default()
            )
        })
}

/// All keys that are numbers.
fn numbers() -> Vec<&'static Key> {
    let is_number = |key: &&Key| matches!(key.kind, Kind::Integer { .. });
    KEYS.iter().filter(is_number).collect()
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(file in file()) {
        let config = parse(&file, "first").map_err(|errors| {
            TestCaseError::fail(format!("{errors}\n{file}"))
        })?;
        let printed = to_toml(&config);
        prop_assert_eq!(&parse(&printed, "second"), &Ok(config));
        // Printed again it is the same text.
        let again = parse(&printed, "third").expect("it was read before");
        prop_assert_eq!(to_toml(&again), printed);
    }

    #[test]
    fn a_value_out_of_range_is_refused_by_name(
        key in select(numbers()),
        over: bool,
        by in 1..1_000_u64,
    ) {
        let Kind::Integer { min, max, .. } = key.kind else { unreachable!("only numbers") };
        let number = match min {
            1.. if !over => min - 1 - by % min,
            _ => max + by,
        };
        let header = key.section.header();
        let address = if header.starts_with("[[") { "address = \"127.0.0.1:1\"\n" } else { "" };
        let file = format!("{header}\n{address}{} = {number}\n", key.name);
        let errors = parse(&file, "bad").expect_err("it is out of range");
        prop_assert!(errors.0.iter().any(|error| error.key.as_deref() == Some(&*key.path())), "{errors}");
    }

    #[test]
    fn no_text_makes_the_parser_fail(text in "\\PC{0,80}", file in file(), cut in any::<prop::sample::Index>()) {
        let _ = parse(&text, "any");
        let mut end = cut.index(file.len() + 1);
        while !file.is_char_boundary(end) {
            end -= 1;
        }
        let (head, tail) = file.split_at(end);
        let _ = parse(head, "cut");
        let _ = parse(&format!("{head}{text}{tail}"), "mixed");
    }
}

proptest! {
    // Each case starts the program.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_program_prints_what_it_read(file in file()) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ringmq.toml");
        std::fs::write(&path, &file).expect("a file");
        let output = Command::new(binary())
            .arg("run")
            .arg("--config")
            .arg(&path)
            .arg("--print-config")
            .output()
            .expect("the program runs");
        prop_assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8(output.stdout).expect("UTF-8");
        prop_assert_eq!(parse(&printed, "printed"), parse(&file, "file"));
    }
}
