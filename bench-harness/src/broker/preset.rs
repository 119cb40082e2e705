//! Brokers that the harness knows how to start.

use std::path::PathBuf;

/// How a broker is started.
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Program and arguments, with `{port}` and `{dir}`.
    pub command: &'static str,
    /// Files in `{dir}`: name and text, with `{port}` and `{dir}`.
    pub files: &'static [(&'static str, &'static str)],
    /// What makes the program tell its version, and end.
    pub version: &'static [&'static str],
    /// How to get it.
    pub install: &'static str,
    /// Highest QoS that it grants.
    pub qos_max: u8,
}

const MOSQUITTO_CONF: &str = "\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
log_type error
connection_messages false
set_tcp_nodelay true
max_queued_messages 0
max_queued_bytes 0
";

const MOSQUITTO_DURABLE_CONF: &str = "\
listener {port} 127.0.0.1
allow_anonymous true
user root
persistence true
persistence_location {dir}/
autosave_interval 1
log_type error
connection_messages false
set_tcp_nodelay true
max_queued_messages 0
max_queued_bytes 0
";

const RUMQTTD_TOML: &str = "\
id = 0
[router]
id = 0
max_connections = 20000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = \"v4-1\"
listen = \"127.0.0.1:{port}\"
next_connection_delay_ms = 0
[v4.1.connections]
connection_timeout_ms = 60000
max_payload_size = 1048576
max_inflight_count = 100
dynamic_filters = true
";

const RMQTTD_TOML: &str = "\
[node]
id = 1
[node.busy]
check_enable = false
[rpc]
server_addr = \"127.0.0.1:0\"
[log]
to = \"console\"
level = \"error\"
[plugins]
dir = \"{dir}/\"
default_startups = [\"rmqtt-retainer\", \"rmqtt-shared-subscription\"]
[listener.tcp.external]
addr = \"127.0.0.1:{port}\"
allow_anonymous = true
nodelay = true
max_connections = 20000
max_handshaking_limit = 20000
max_mqueue_len = 100000
";

/// All of them.
pub const ALL: &[Preset] = &[
    Preset {
        name: "floor",
        command: "ringmq-bench floor --listen 127.0.0.1:{port}",
        files: &[],
        version: &["--version"],
        install: "it is this program",
        qos_max: 1,
    },
    Preset {
        name: "ringmq",
        command: "ringmq run --listen 127.0.0.1:{port}",
        files: &[],
        version: &["--version"],
        install: "build it beside this program with `cargo build --release`, or put it on PATH",
        qos_max: 2,
    },
    Preset {
        name: "ringmq-durable",
        command: "ringmq run --listen 127.0.0.1:{port} --data-dir {dir}/data",
        files: &[],
        version: &["--version"],
        install: "build it beside this program with `cargo build --release`, or put it on PATH",
        qos_max: 2,
    },
    Preset {
        name: "mosquitto",
        command: "mosquitto -c {dir}/mosquitto.conf",
        files: &[("mosquitto.conf", MOSQUITTO_CONF)],
        version: &["-h"],
        install: "on Debian: apt-get install mosquitto",
        qos_max: 2,
    },
    Preset {
        name: "mosquitto-durable",
        command: "mosquitto -c {dir}/mosquitto.conf",
        files: &[("mosquitto.conf", MOSQUITTO_DURABLE_CONF)],
        version: &["-h"],
        install: "on Debian: apt-get install mosquitto",
        qos_max: 2,
    },
    Preset {
        name: "rumqttd",
        command: "rumqttd -q -c {dir}/rumqttd.toml",
        files: &[("rumqttd.toml", RUMQTTD_TOML)],
        version: &["--version"],
        install: "cargo install rumqttd",
        qos_max: 1,
    },
    Preset {
        name: "rmqttd",
        command: "rmqttd -f {dir}/rmqtt.toml",
        files: &[("rmqtt.toml", RMQTTD_TOML)],
        version: &["--version"],
        install: "cargo install rmqttd (it needs protoc: apt-get install protobuf-compiler)",
        qos_max: 2,
    },
];

/// Where a program is: beside this one, or on `PATH` and where Debian puts servers.
pub fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        // It is started from another directory.
        return std::path::absolute(program).ok();
    }
    let own = std::env::current_exe().ok()?;
    if own.file_name().is_some_and(|name| name == program) {
        return Some(own);
    }
    let beside = own.parent().map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = beside
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}
