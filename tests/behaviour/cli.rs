//! The program as an operator meets it: arguments, configuration files, start-up, listeners.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::broker::binary;
use crate::support::{Broker, Client, Connect, PATIENCE, Version};

fn ringmq(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// Standard output and error together.
fn said(output: &Output) -> String {
    [&output.stdout[..], &output.stderr[..]]
        .map(String::from_utf8_lossy)
        .concat()
}

/// `ringmq check` of a file with `text`.
fn check(text: &str) -> (Output, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("checked.toml");
    std::fs::write(&file, text).expect("a file");
    (ringmq(&["check", path(&file)]), directory)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

#[test]
fn help_and_version_are_there() {
    for arguments in [
        &["--help"][..],
        &["run", "--help"],
        &["check", "--help"],
        &["--version"],
    ] {
        let output = ringmq(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert!(
            said(&output).to_lowercase().contains("ringmq"),
            "{arguments:?}: {output:?}"
        );
    }
    let help = said(&ringmq(&["run", "--help"]));
    for option in ["--config", "--listen", "--cores", "--shards"] {
        assert!(help.contains(option), "{option} is missing in:\n{help}");
    }
}

#[test]
fn check_takes_a_good_file() {
    for text in [
        "",
        "shards = 2\n",
        &crate::support::broker::config_text(2, "listener.connect_timeout_s = 7"),
    ] {
        let (output, _directory) = check(text);
        assert!(output.status.success(), "{text:?}: {output:?}");
    }
}

#[test]
fn check_names_file_line_and_the_nearest_key() {
    let (output, _directory) = check("# a comment\n\nshards = 2\nshutdown_grace = 3\n");
    assert!(!output.status.success());
    let said = said(&output);
    for part in ["checked.toml", "4", "shutdown_grace_s"] {
        assert!(said.contains(part), "{part:?} is missing in {said:?}");
    }
}

#[test]
fn check_refuses_wrong_values_and_syntax() {
    for text in [
        "shards = \"two\"\n",
        "shards = 0\n",
        "shards = 100000\n",
        "shards = -1\n",
        "shards\n",
        "[listener\n",
    ] {
        let (output, _directory) = check(text);
        assert!(!output.status.success(), "{text:?} was taken");
        assert!(
            said(&output).contains("checked.toml"),
            "{text:?}: {output:?}"
        );
    }
    assert!(
        !ringmq(&["check", "/nonexistent/file.toml"])
            .status
            .success()
    );
}

#[test]
fn run_refuses_a_bad_file_and_bad_arguments() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("bad.toml");
    std::fs::write(&file, "nonsense = 1\n").expect("a file");
    for arguments in [
        &["run", "--config", path(&file)][..],
        &["run", "--config", "/nonexistent.toml"],
        &["run", "--listen", "nonsense"],
        &["run", "--shards", "0", "--listen", "127.0.0.1:0"],
        &["run", "--cores", "x", "--listen", "127.0.0.1:0"],
        &["run", "--no-such-option"],
        &["no-such-command"],
    ] {
        let output = ringmq(arguments);
        assert!(!output.status.success(), "{arguments:?} was taken");
        assert!(
            !said(&output).contains("panicked"),
            "{arguments:?}: {output:?}"
        );
    }
}

#[test]
fn a_public_address_needs_allow_anonymous() {
    let output = ringmq(&["run", "--shards", "1", "--listen", "0.0.0.0:0"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("--allow-anonymous"), "{output:?}");
    let public = "[[listener]]\naddress = \"0.0.0.0:0\"\n";
    let (output, _directory) = check(public);
    assert!(!output.status.success());
    assert!(said(&output).contains("allow_anonymous"), "{output:?}");
    let (output, _directory) = check(&format!("{public}allow_anonymous = true\n"));
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn an_address_in_use_is_refused() {
    let broker = Broker::start();
    let address = broker.address().to_string();
    let output = ringmq(&["run", "--shards", "1", "--listen", &address]);
    assert!(!output.status.success(), "two brokers share {address}");
    assert!(said(&output).contains(&address), "{output:?}");
}

#[test]
fn arguments_are_enough_to_run() {
    let broker = Broker::with_arguments(&["--listen", "127.0.0.1:0", "--shards", "3"]);
    let mut client = broker.client("client");
    client.expect_nothing_before_pong();
    client.disconnect();
}

#[test]
fn the_start_up_block_tells_what_runs() {
    let broker = Broker::start();
    let log = broker.log().to_lowercase();
    for part in [
        "ringmq",
        env!("CARGO_PKG_VERSION"),
        "shards",
        "kernel",
        &broker.address().to_string(),
    ] {
        assert!(log.contains(part), "{part:?} is missing in:\n{log}");
    }
}

#[test]
fn logs_may_be_json() {
    let broker = Broker::with("log.format = \"json\"");
    let mut client = broker.client("json-client");
    client.send_raw(&[0, 0]);
    client.expect_end_with(&[0x81, 0x82]);
    broker.expect_log(&["{", "json-client", "}"]);
}

#[test]
fn clients_may_come_over_a_unix_socket() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("mqtt.sock");
    // A socket file that nobody listens on is left from an earlier run: it is replaced.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a stale socket"));
    let broker = Broker::with(&format!(
        "listener.name = \"tcp\"\n---\n[[listener]]\nname = \"local\"\naddress = \"unix:{}\"\nunix_mode = \"0600\"",
        path(&socket)
    ));
    let mode = std::fs::metadata(&socket)
        .expect("a socket file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut reader = broker.client("tcp");
    reader.subscribe("unix", 1);
    for n in 0..8 {
        let mut stream = UnixStream::connect(&socket).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut bytes = Connect::new(&format!("unix-{n}")).v311().bytes();
        let publish = crate::support::Publish::new("unix", "x")
            .qos(1)
            .identifier(1);
        bytes.extend(publish.bytes(Version::V311));
        stream.write_all(&bytes).expect("the broker reads");
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).expect("CONNACK and PUBACK");
        assert_eq!(answer, [0x20, 2, 0, 0, 0x40, 2, 0, 1]);
        reader.expect_message("unix", "x");
    }
}

#[test]
fn an_owner_that_does_not_exist_is_a_mistake_in_the_configuration() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("mqtt.sock");
    for (key, kind) in [("unix_owner", "user"), ("unix_group", "group")] {
        let text = format!(
            "[[listener]]\naddress = \"unix:{}\"\n{key} = \"nobody-has-this-name\"\n",
            path(&socket)
        );
        let (output, checked) = check(&text);
        let file = checked.path().join("checked.toml");
        let run = ringmq(&["run", "--shards", "1", "--config", path(&file)]);
        for output in [output, run] {
            assert_eq!(output.status.code(), Some(2), "{output:?}");
            let said = said(&output);
            for part in ["checked.toml:3", key, kind, "nobody-has-this-name"] {
                assert!(said.contains(part), "{part:?} is missing in {said:?}");
            }
        }
        assert!(!socket.exists(), "the socket's file is left behind");
    }
}

#[test]
fn a_unix_socket_in_use_is_refused_with_a_remedy_that_fits() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("mqtt.sock");
    let _other = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let address = format!("unix:{}", path(&socket));
    let output = ringmq(&["run", "--shards", "1", "--listen", &address]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = said(&output);
    assert!(
        said.contains("choose another path") && !said.contains("port"),
        "{said:?}"
    );
}

#[test]
fn clients_may_come_over_version_6() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    }
    let broker = Broker::with_arguments(&["--listen", "[::1]:0", "--shards", "2"]);
    assert!(broker.address().is_ipv6());
    let mut client = Client::open(broker.address(), Version::V5);
    client.send_raw(&Connect::new("six").bytes());
    client.expect_accepted();
    client.expect_nothing_before_pong();
}
