//! Configuration files: any text gives a configuration that is printed and read as the same, or errors that
//! say where.
#![no_main]

use std::fmt::Write;

use libfuzzer_sys::fuzz_target;
use ringmq::config::keys::{Key, Kind, Section, literal};
use ringmq::config::{parse, to_toml};
use ringmq_fuzz::Input;

/// A value that `key` may have, as a rule.
fn value(key: &Key, input: &mut Input<'_>) -> String {
    if input.byte() < 16 {
        return String::from_utf8_lossy(input.bytes()).into_owned();
    }
    match key.kind {
        Kind::Integer { min, max, .. } => {
            let odd = u64::from(input.byte());
            input
                .pick(&[min, max, min.saturating_add(odd), 1 << (odd % 63)])
                .to_string()
        }
        Kind::Boolean { .. } => input.pick(&["true", "false"]).to_owned(),
        Kind::Choice { values, .. } => literal(input.pick(values)),
        _ if key.name == "address" => {
            let port = input.byte();
            let ways = ["127.0.0.1", "[::1]", "0.0.0.0", "unix:/run/ringmq"];
            format!("\"{}:{port}\"", input.pick(&ways))
        }
        _ => literal(&String::from_utf8_lossy(input.bytes())),
    }
}

/// A file with the keys that there are, each at its place.
fn written(input: &mut Input<'_>) -> String {
    let mut text = String::new();
    for section in Section::ALL {
        let keys: Vec<_> = section.keys().collect();
        let times = match section {
            Section::Listener => input.byte() % 3,
            Section::Top => 1,
            _ => input.byte() % 2,
        };
        for _ in 0..times {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{}", section.header());
            let mut place = 0;
            while place < keys.len() {
                let key = keys[place];
                let _ = writeln!(text, "{} = {}", key.name, value(key, input));
                place += 1 + usize::from(input.byte() % 16);
            }
        }
    }
    text
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let text = match input.byte() % 4 {
        0 => String::from_utf8_lossy(input.0).into_owned(),
        _ => written(&mut input),
    };
    match parse(&text, "any.toml") {
        Ok(config) => {
            let printed = to_toml(&config);
            let again = parse(&printed, "again.toml").expect("what was printed");
            assert_eq!(again, config, "{printed}");
        }
        Err(errors) => {
            let told = errors.to_string();
            assert!(told.contains("any.toml"), "{told}");
        }
    }
});
