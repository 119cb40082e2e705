//! Files and names from outside: no text breaks a reader, and no name widens a rule.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use ringmq::access::password_file::PasswordFile;
use ringmq::access::scram::{Hash, Scram};
use ringmq::broker::authorization::parse::{parse, parse_mosquitto};
use ringmq::broker::authorization::rules::Who;

/// Text that is nearly a file: words that mean something, between others.
fn text() -> impl Strategy<Value = String> {
    let words = select(
        &[
            "user",
            "client",
            "role",
            "address",
            "all",
            "deny",
            "publish",
            "both",
            "topic",
            "pattern",
            "group",
            "\"",
            "\\",
            "#",
            "%u",
            "+/x",
            "10.0.0.0/8",
            "\n",
            "a:",
            "$7$",
            "$6$",
            "$argon2id$",
            "$scram-sha-1$",
            "AAAA",
            "v=19$m=8,t=1,p=1$",
            ",",
            "n,,n=u,r=x",
            "=2C",
        ][..],
    );
    let piece = prop_oneof![4 => words.prop_map(str::to_owned), 1 => "\\PC{0,8}"];
    vec((piece, select(&["", " ", "\n", "$"][..])), 0..24)
        .prop_map(|pieces| pieces.into_iter().map(|(a, b)| a + b).collect())
}

/// A name made of what could be an escape.
fn name() -> impl Strategy<Value = String> {
    vec(
        select(&["a", "b", "/", "+", "#", "%c", "%u", "$"][..]),
        0..6,
    )
    .prop_map(|parts| parts.concat())
}

/// A Topic Name or Topic Filter of a few levels.
fn topic() -> impl Strategy<Value = String> {
    vec(select(&["d", "a", "b", "%c", "%u", "$", ""][..]), 1..6).prop_map(|levels| levels.join("/"))
}

proptest! {
    #[test]
    fn no_text_breaks_a_reader(text in text(), bytes in vec(any::<u8>(), 0..64)) {
        let _ = parse(&text);
        let _ = parse_mosquitto(&text);
        if let Ok(file) = PasswordFile::parse(&text) {
            prop_assert!(file.len() <= text.lines().count());
        }
        for message in [text.as_bytes(), &bytes] {
            let begun = Scram::begin(Hash::Sha256, message, &[0; 32], |_| None);
            if let Ok((scram, _)) = begun {
                prop_assert!(scram.finish(message).is_err());
            }
        }
    }

    #[test]
    fn no_name_widens_a_rule(client in name(), user in name(), topic in topic()) {
        let rules = Arc::new(parse("all both d/%c/#\nall both %u/x/+\n").unwrap());
        let grants = rules.grants(&Who {
            user_name: Some(&user),
            client_identifier: &client,
            ..Who::default()
        });
        let levels: Vec<&str> = topic.split('/').collect();
        let plain = |name: &str| !name.is_empty() && !name.contains(['/', '+', '#']);
        let of_client = plain(&client) && levels.len() > 1 && levels[0] == "d" && levels[1] == client;
        let of_user = plain(&user) && !user.starts_with('$') && levels.len() == 3
            && levels[0] == user && levels[1] == "x";
        prop_assert_eq!(grants.publish(&topic) == Some(true), of_client || of_user);
        for wide in ["#", "+/#", "d/#", "d/+/#", "+/x/+", "+/+/+"] {
            prop_assert_eq!(grants.subscribe(wide), None, "{}", wide);
        }
    }
}
