//! Tests of the configuration file: what is taken, and that every mistake is named with its place.

use super::*;
use crate::config::limits::OutboxFull;
use crate::config::resolved::{LogFormat, SharedStrategy};

fn errors(text: &str) -> Vec<String> {
    let errors = parse(text, "r.toml").expect_err("an error");
    errors.0.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn one_error(text: &str, parts: &[&str]) {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    for part in parts {
        assert!(
            errors[0].contains(part),
            "{part:?} is not in {:?}",
            errors[0]
        );
    }
}

#[test]
fn nothing_gives_the_defaults() {
    assert_eq!(parse("", "r.toml"), Ok(Config::default()));
}

#[test]
fn every_section_reaches_its_fields() {
    let config = parse(
        r#"
shards = 4
cores = "0,2-3"
shutdown_grace_s = 0x0A
[log]
level = "debug"
format = "json"
[log.modules]
"ringmq::broker" = "trace"
[[listener]]
name = "outside"
address = "[::]:1883"
allow_anonymous = true
packet_bytes_max = "1MiB"
maximum_qos = 1
[[listener]]
address = "unix:/run/ringmq.sock"
unix_mode = "0600"
unix_owner = "root"
[session]
outbox_full = "drop_oldest"
outbox_bytes_max = 65_536
[message]
topic_levels_max = 8
[shared]
strategy = "hash_of_topic"
[retained]
bytes_max = "8 GiB"
[network]
receive_buffers = 32768
[system_topics]
interval_s = 0
[redirect]
server_reference = "other.example:1883"
permanent = true
"#,
        "r.toml",
    )
    .unwrap();
    assert_eq!(config.shards, Some(4));
    assert_eq!(config.cores, Some(vec![0, 2, 3]));
    assert_eq!(config.shutdown_grace_s, 10);
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.log.modules["ringmq::broker"], "trace");
    let [outside, unix] = &config.listeners[..] else {
        panic!("{:?}", config.listeners);
    };
    assert_eq!(outside.name, "outside");
    assert_eq!(outside.limits.packet_bytes_max, 1 << 20);
    assert_eq!(outside.limits.capabilities.maximum_qos, 1);
    assert_eq!(unix.name, "unix");
    assert_eq!(unix.address, ListenAddress::Unix("/run/ringmq.sock".into()));
    assert_eq!(unix.unix.mode, Some(0o600));
    assert_eq!(unix.unix.owner.as_deref(), Some("root"));
    assert!(unix.allow_anonymous);
    // The limits of one listener do not leak into the next.
    assert_eq!(unix.limits.capabilities.maximum_qos, 2);
    assert_eq!(config.session.outbox_full, OutboxFull::DropOldest);
    assert_eq!(config.session.outbox_bytes_max, 65_536);
    assert_eq!(config.message.topic_levels_max, 8);
    assert_eq!(config.shared_strategy, SharedStrategy::HashOfTopic);
    assert_eq!(config.retained.bytes_max, 8 << 30);
    assert_eq!(config.network.receive_buffers, 32_768);
    assert_eq!(config.system_topics_interval_s, 0);
    assert!(config.redirect.unwrap().permanent);
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest() {
    let parts = ["r.toml:2:1: session.inflight_max", "\"in_flight_max\""];
    one_error("[session]\ninflight_max = 3\n", &parts);
    let parts = ["r.toml:1:1: sesion", "\"session\""];
    one_error("sesion = 1", &parts);
    one_error("[retaned]\nx = 1", &["r.toml:1:2: retaned", "\"retained\""]);
}

#[test]
fn a_bad_value_is_named_with_its_place_and_what_was_expected() {
    one_error(
        "[retained]\nslice_messages = 0",
        &[
            "r.toml:2:18: retained.slice_messages: 0 is out of range",
            "from 1 to 65535",
        ],
    );
    one_error(
        "[network]\nreceive_buffers = 100",
        &["no power of two", "from 16 to 32768"],
    );
    one_error("[network]\nreceive_buffers = 65536", &["out of range"]);
    one_error("shards = -1", &["r.toml:1:10: shards: -1 is out of range"]);
    one_error("shards = 257", &["from 1 to 256"]);
    one_error("shards = \"4\"", &["this is \"4\"", "a whole number"]);
    one_error("shards = 99999999999999999999999", &["out of range"]);
    one_error(
        "[session]\noutbox_bytes_max = \"64KB\"",
        &["\"64KB\" is no size", "KiB"],
    );
    one_error(
        "[session]\noutbox_bytes_max = \"4GiB\"",
        &["\"4GiB\" is out of range"],
    );
    one_error(
        "[session]\noutbox_full = \"drop\"",
        &["\"drop\"", "\"drop_oldest\""],
    );
    one_error("[log]\nlevel = \"loud\"", &["\"loud\"", "\"trace\""]);
    one_error("[log.modules]\na = \"loud\"", &["log.modules", "\"loud\""]);
    one_error("[log.modules]\n\"a=b,c\" = \"info\"", &["no module path"]);
    one_error("cores = [0, 0]", &["named twice"]);
    one_error("cores = [0, \"x\"]", &["not all elements"]);
    one_error("cores = \"x\"", &["r.toml:1:9: cores", "\"x\""]);
    one_error("log = 3", &["expected a section [log]"]);
    one_error(
        "[redirect]\npermanent = true",
        &["redirect.server_reference: is missing"],
    );
    one_error(
        "[redirect]\nserver_reference = \"\"",
        &["redirect.server_reference", "empty"],
    );
}

#[test]
fn broken_syntax_is_named_with_its_place() {
    let errors = errors("shards = 1\nshards = 2\n");
    assert!(errors[0].starts_with("r.toml:2:1: "), "{errors:?}");
    let errors = self::errors("[session]\nin_flight_max = \n");
    assert!(errors[0].starts_with("r.toml:2:"), "{errors:?}");
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_file() {
    let errors = errors("shards = 0\n[session]\nzz = 1\nsessions_max = true\n[log]\nlevel = 1\n");
    let places: Vec<_> = errors.iter().map(|error| &error[..10]).collect();
    assert_eq!(
        places,
        ["r.toml:1:1", "r.toml:3:1", "r.toml:4:1", "r.toml:6:9"]
    );
}

#[test]
fn columns_count_characters() {
    let errors = errors("log = { level = \"\u{e4}\u{f6}\", formt = 1 }");
    assert!(
        errors[1].starts_with("r.toml:1:23: log.formt"),
        "{errors:?}"
    );
}

#[test]
fn listeners_are_checked_together() {
    one_error(
        "[[listener]]\nname = \"a\"",
        &["r.toml:1:1: listener.address: is missing"],
    );
    one_error("[listener]\naddress = \"127.0.0.1:1\"", &["[[listener]]"]);
    one_error("listener = []", &["at least one"]);
    one_error(
        "[[listener]]\naddress = \"localhost\"",
        &["listener.address", "no address"],
    );
    one_error(
        "[[listener]]\naddress = \"127.0.0.1:1\"\nunix_mode = \"0600\"",
        &["Unix sockets only"],
    );
    one_error(
        "[[listener]]\naddress = \"unix:/x\"\nunix_mode = \"0999\"",
        &["\"0777\""],
    );
    one_error(
        "[[listener]]\naddress = \"unix:/x\"\nunix_mode = 432",
        &["octal"],
    );
    let two = |a: &str, b: &str| format!("[[listener]]\n{a}\n[[listener]]\n{b}\n");
    let first = "address = \"127.0.0.1:1\"";
    one_error(
        &two(first, first),
        &["r.toml:4:11: listener.address", "another listener"],
    );
    let named = |port| format!("name = \"a\"\naddress = \"127.0.0.1:{port}\"");
    one_error(
        &two(&named(1), &named(2)),
        &["listener.name", "another listener"],
    );
    let config = parse(&two(first, "address = \"127.0.0.1:2\""), "r.toml").unwrap();
    let names: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| &listener.name[..])
        .collect();
    assert_eq!(names, ["mqtt", "mqtt-2"]);
}

#[test]
fn an_open_listener_must_say_so() {
    let open = "[[listener]]\naddress = \"0.0.0.0:1883\"\n";
    one_error(
        open,
        &["r.toml:2:11: listener.allow_anonymous: must be true"],
    );
    let denied = format!("{open}allow_anonymous = false");
    one_error(&denied, &["r.toml:3:19: listener.allow_anonymous"]);
    assert!(parse(&format!("{open}allow_anonymous = true"), "r.toml").is_ok());
}

#[test]
fn a_missing_file_is_an_error_with_its_name() {
    let error = load(Path::new("/nonexistent/r.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("/nonexistent/r.toml: cannot read"),
        "{error}"
    );
}
