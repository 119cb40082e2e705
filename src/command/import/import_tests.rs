//! Files as people have them.

use super::*;
use crate::config::{Config, LogFormat};

#[track_caller]
fn config(import: &Import) -> Config {
    config::parse(&import.toml, "t").unwrap_or_else(|errors| panic!("{errors}\n{}", import.toml))
}

/// The notes about a line.
fn about(import: &Import, line: usize) -> String {
    let notes = import.notes.iter().filter(|note| note.line == Some(line));
    notes.map(|note| note.text.as_str()).collect()
}

#[test]
fn nothing_is_this_machine_only_and_open_to_everybody_on_it() {
    let import = translate("# a comment\n\n");
    let config = config(&import);
    let addresses: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    assert_eq!(addresses, ["127.0.0.1:1883", "[::1]:1883"]);
    assert!(
        config
            .listeners
            .iter()
            .all(|listener| listener.allow_anonymous)
    );
    assert_eq!(import.notes, []);
    assert!(
        import
            .defaults
            .iter()
            .any(|note| note.text.contains("max_inflight_messages is 20 there"))
    );
}

#[test]
fn a_home_broker() {
    let text = "\
# Home automation
listener 1883
allow_anonymous true
persistence true
persistence_location /var/lib/mosquitto/
log_dest syslog
log_type error
log_type warning
log_type notice
max_inflight_messages 40
max_queued_messages 0
message_size_limit 10240
queue_qos0_messages true
persistent_client_expiration 2w
max_keepalive 120
set_tcp_nodelay true
sys_interval 30
";
    let import = translate(text);
    let config = config(&import);
    let addresses: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| listener.address.to_string())
        .collect();
    assert_eq!(addresses, ["0.0.0.0:1883", "[::]:1883"]);
    let listener = &config.listeners[0];
    assert!(listener.allow_anonymous);
    assert_eq!(listener.limits.packet_bytes_max, 10_240);
    assert_eq!(listener.limits.keep_alive_s_max, 120);
    assert_eq!(config.session.in_flight_max, 40);
    assert_eq!(config.session.outbox_messages_max, u32::MAX);
    assert_eq!(config.session.session_expiry_interval_s_max, 1_209_600);
    assert_eq!(config.session.persistent_v3_expiry_interval_s, 1_209_600);
    assert!(config.session.queue_qos0_offline);
    assert_eq!(
        (config.log.level.as_str(), config.log.format),
        ("info", LogFormat::Text)
    );
    assert_eq!(config.system_topics_interval_s, 30);
    assert!(about(&import, 6).contains("journal"), "{:?}", import.notes);
    assert!(about(&import, 12).contains("whole packet"));
    // What is the same needs no look.
    for line in [2, 3, 10, 11, 13, 14, 15, 16, 17] {
        assert_eq!(about(&import, line), "", "line {line}");
    }
    assert!(
        !import
            .defaults
            .iter()
            .any(|note| note.text.contains("max_inflight_messages"))
    );
    assert!(
        import
            .defaults
            .iter()
            .any(|note| note.text.contains("max_topic_alias is 10"))
    );
    assert_eq!(import.faults, Vec::<String>::new());
}

#[test]
fn listeners_have_their_own_settings() {
    let text = "\
per_listener_settings true
listener 1884 127.0.0.1
max_connections 5
max_qos 1
allow_anonymous true
listener 0 /run/mosquitto/sock
retain_available false
listener 1885 ::1
socket_domain ipv6
max_connections -1
";
    let import = translate(text);
    let config = config(&import);
    let shown: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| {
            let limits = &listener.limits;
            (
                listener.address.to_string(),
                listener.allow_anonymous,
                limits.connections_max,
                limits.capabilities.maximum_qos,
                limits.capabilities.retain_available,
            )
        })
        .collect();
    let expected = [
        ("127.0.0.1:1884".to_owned(), true, 5, 1, true),
        (
            "unix:/run/mosquitto/sock".to_owned(),
            false,
            1_000_000,
            2,
            false,
        ),
        ("[::1]:1885".to_owned(), false, 1_000_000, 2, true),
    ];
    assert_eq!(shown, expected);
    assert_eq!(import.notes, []);
}

#[test]
fn the_old_way_to_listen() {
    let import =
        translate("port 1999\nbind_address 127.0.0.1\nallow_anonymous true\nmax_connections 7\n");
    let config = config(&import);
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].address.to_string(), "127.0.0.1:1999");
    assert_eq!(config.listeners[0].limits.connections_max, 7);
}

#[test]
fn a_guarded_broker_with_a_bridge_needs_work_and_says_so() {
    let text = "\
listener 8883
max_inflight_messages many
persistent_client_expiration soon
certfile /etc/mosquitto/certs/server.crt
keyfile /etc/mosquitto/certs/server.key
require_certificate true
password_file /etc/mosquitto/passwd
acl_file /etc/mosquitto/acl
plugin /usr/lib/mosquitto_dynamic_security.so
plugin_opt_config_file /var/lib/mosquitto/dynamic-security.json
connection cloud
address cloud.example.org:8883
topic # out 1
remote_username me
max_queued_messages 5
include_dir /etc/mosquitto/conf.d
frobnicate 3
";
    let import = translate(text);
    for line in 2..=17 {
        assert_ne!(
            about(&import, line),
            "",
            "line {line} is lost: {:?}",
            import.notes
        );
    }
    assert!(about(&import, 2).contains("\"many\" is no number"));
    assert!(about(&import, 7).contains("credentials"));
    assert!(about(&import, 13).contains("bridge"));
    assert!(about(&import, 15).contains("bridge"), "it is of the bridge");
    assert!(about(&import, 17).contains("no such option"));
    // Nobody is let in who had to show who he is: the result is refused as it stands.
    assert!(import.toml.contains("allow_anonymous = false"));
    let report = report("m.conf", &import);
    assert!(report.contains("  m.conf:7: password_file"), "{report}");
    assert!(report.contains("Defaults that are otherwise"), "{report}");
}

#[test]
fn every_option_of_the_table_gives_a_good_file() {
    for (name, to) in mapping::OPTIONS {
        let mapping::To::Key { .. } = to else {
            continue;
        };
        for value in ["0", "1", "999999999999", "-1", "true", "false", "3d", "x"] {
            let import = translate(&format!("{name} {value}\n"));
            assert_eq!(
                import.faults,
                Vec::<String>::new(),
                "{name} {value}:\n{}",
                import.toml
            );
        }
    }
}
