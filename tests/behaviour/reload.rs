//! The configuration read again: SIGHUP and `ringmq reload`.

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::broker::binary;
use crate::support::{Broker, Client, Connect, Kind, PATIENCE, Publish, Value, Version, sleep_ms};

/// Property identifiers of CONNACK.
const MAXIMUM_QOS: u8 = 0x24;
const TOPIC_ALIAS: u8 = 0x23;
const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;

/// Its file with `more` at the end.
fn append(broker: &Broker, more: &str) {
    let file = broker.configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("{text}\n{more}\n")).unwrap();
}

fn replace(broker: &Broker, from: &str, to: &str) {
    let file = broker.configuration();
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).unwrap();
}

/// Waits until SIGHUP has been dealt with `times` times.
fn hang_up(broker: &Broker, times: usize) {
    broker.signal(Signal::HUP);
    let deadline = Instant::now() + PATIENCE;
    while broker.log().matches("configuration is read again").count() < times {
        assert!(Instant::now() < deadline, "{}", broker.log());
        sleep_ms(5);
    }
}

fn open(address: SocketAddr, id: &str) -> Client {
    let mut client = Client::open(address, Version::V5);
    client.send_raw(&Connect::new(id).bytes());
    client.expect_accepted();
    client
}

/// Where the last listener that was opened later listens.
fn opened(broker: &Broker) -> SocketAddr {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let log = broker.log();
        let line = log
            .lines()
            .rev()
            .find(|line| line.contains("INFO") && line.contains("listening on"));
        let words = line.into_iter().flat_map(str::split_whitespace);
        if let Some(address) = words.filter_map(|word| word.parse().ok()).next() {
            return address;
        }
        assert!(Instant::now() < deadline, "{log}");
        sleep_ms(5);
    }
}

#[test]
fn limits_change_for_new_connections_and_what_was_promised_stays() {
    let broker = Broker::with("listener.topic_alias_maximum = 10\nlistener.name = \"main\"");
    let mut early = broker.client("early");
    let aliased = |alias: u16, topic: &str| {
        Publish::new(topic, "x")
            .qos(1)
            .property(TOPIC_ALIAS, Value::Two(alias))
    };
    early.subscribe("a", 0);
    assert_eq!(early.publish_with(aliased(9, "a")), 0);
    early.expect_message("a", "x");

    replace(
        &broker,
        "topic_alias_maximum = 10",
        "topic_alias_maximum = 3\nmaximum_qos = 0",
    );
    hang_up(&broker, 1);
    broker.expect_log(&["INFO", "listener \"main\"", "listener.maximum_qos: 2 -> 0"]);
    let late = broker.client("late");
    assert_eq!(late.granted(MAXIMUM_QOS), Some(0));
    assert_eq!(late.granted(TOPIC_ALIAS_MAXIMUM), Some(3));
    // CONNACK told the early one otherwise.
    assert_eq!(early.publish_with(aliased(9, "")), 0);
    early.expect_message("a", "x");
    early.publish("b", "x", 2);
}

#[test]
fn a_limit_of_all_sessions_holds_at_once() {
    let broker = Broker::with("message.topic_levels_max = 4");
    let mut clients = [broker.client("1"), broker.client("2"), broker.client("3")];
    for client in &mut clients {
        client.publish("a/b/c/d", "x", 1);
    }
    replace(&broker, "topic_levels_max = 4", "topic_levels_max = 3");
    hang_up(&broker, 1);
    broker.expect_log(&["message.topic_levels_max: 4 -> 3"]);
    for client in &mut clients {
        client.send_raw(&Publish::new("a/b/c/d", "x").bytes(Version::V5));
        client.expect_end(0x90);
    }
}

#[test]
fn listeners_come_and_go_and_their_connections_stay() {
    let broker = Broker::with("");
    let mut reader = broker.client("reader");
    reader.subscribe("t", 0);
    append(
        &broker,
        "[[listener]]\nname = \"more\"\naddress = \"127.0.0.1:0\"",
    );
    hang_up(&broker, 1);
    broker.expect_log(&["listener \"more\" (127.0.0.1:0): opened"]);
    let more = opened(&broker);
    // Some are at home on each shard.
    let mut clients: Vec<Client> = (0..32).map(|n| open(more, &format!("more-{n}"))).collect();
    for client in &mut clients {
        client.publish("t", "hello", 1);
        reader.expect_message("t", "hello");
    }

    replace(
        &broker,
        "[[listener]]\nname = \"more\"\naddress = \"127.0.0.1:0\"",
        "",
    );
    hang_up(&broker, 2);
    broker.expect_log(&["listener \"more\" (127.0.0.1:0): closed"]);
    let deadline = Instant::now() + PATIENCE;
    while std::net::TcpStream::connect(more).is_ok() {
        assert!(Instant::now() < deadline, "still accepted");
        sleep_ms(5);
    }
    for client in &mut clients {
        client.publish("t", "still here", 1);
        reader.expect_message("t", "still here");
    }
    // The other listener never noticed.
    broker.client("other").disconnect();
}

#[test]
fn a_unix_socket_comes_and_goes_with_its_file() {
    let broker = Broker::with("");
    let socket = broker.directory().join("mqtt.sock");
    let section = format!("[[listener]]\naddress = \"unix:{}\"", socket.display());
    for round in 0..3 {
        append(&broker, &section);
        hang_up(&broker, 2 * round + 1);
        drop(std::os::unix::net::UnixStream::connect(&socket).unwrap());
        replace(&broker, &section, "");
        hang_up(&broker, 2 * round + 2);
        assert!(!socket.exists());
    }
}

#[test]
fn all_or_nothing() {
    let broker = Broker::with("log.level = \"warn\"");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    replace(
        &broker,
        "\"warn\"",
        "\"info\"\nmessage.topic_levels_max = 3",
    );
    append(
        &broker,
        &format!(
            "[[listener]]\nname = \"good\"\naddress = \"127.0.0.1:0\"\n[[listener]]\nname = \"bad\"\naddress = \"{address}\""
        ),
    );
    broker.signal(Signal::HUP);
    broker.expect_log(&["ERROR", "is not changed", &address.to_string(), "in use"]);
    let mut client = broker.client("client");
    client.publish("a/b/c/d", "x", 1);
    client.send_raw(&[0, 0]);
    client.expect_end_with(&[0x81, 0x82]);
    assert!(!broker.log().contains("INFO"), "{}", broker.log());

    drop(taken);
    hang_up(&broker, 1);
    let mut client = open(address, "client");
    client.send_raw(&Publish::new("a/b/c/d", "x").bytes(Version::V5));
    client.expect_end(0x90);
}

#[test]
fn connections_max_goes_up_and_down_and_nobody_is_cut_off() {
    let broker = Broker::with("listener.connections_max = 2");
    let mut clients = vec![broker.client("1"), broker.client("2")];
    let refused = || Client::open(broker.address(), Version::V5).expect_closed();
    refused();
    replace(&broker, "connections_max = 2", "connections_max = 3");
    hang_up(&broker, 1);
    clients.push(broker.client("3"));
    refused();
    replace(&broker, "connections_max = 3", "connections_max = 1");
    hang_up(&broker, 2);
    refused();
    for client in &mut clients {
        client.publish("t", "x", 1);
    }
}

#[test]
fn reloads_under_load_lose_no_client_and_leak_nothing() {
    let broker =
        Broker::with("listener.keep_alive_s_max = 100\nsession.outbox_messages_max = 1000000");
    let mut reader = broker.client("reader");
    reader.subscribe("t", 1);
    let before = broker.descriptors();
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let end = Instant::now() + Duration::from_secs(2);
            let mut count = 0;
            while Instant::now() < end {
                let mut client = broker.client(&format!("c-{}", count % 17));
                client.publish("t", "x", 1);
                client.disconnect();
                count += 1;
            }
            count
        });
        for round in 0..20 {
            let (now, next) = (100 + round, 101 + round);
            replace(
                &broker,
                &format!("keep_alive_s_max = {now}"),
                &format!("keep_alive_s_max = {next}"),
            );
            hang_up(&broker, round + 1);
        }
        let count = load.join().unwrap();
        for _ in 0..count {
            reader.expect_message("t", "x");
        }
        assert!(count > 20, "{count}");
    });
    let deadline = Instant::now() + PATIENCE;
    while broker.descriptors() > before {
        assert!(
            Instant::now() < deadline,
            "{} of {before}",
            broker.descriptors()
        );
        sleep_ms(10);
    }
}

/// `ringmq reload` for a broker with a runtime directory.
fn reload(broker: &Broker, arguments: &[&str]) -> Output {
    Command::new(binary())
        .arg("reload")
        .arg("--runtime-directory")
        .arg(broker.directory())
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn the_command_shows_the_difference_and_asks_the_broker() {
    let broker = Broker::recorded("");
    let output = reload(&broker, &["--dry-run"]);
    assert!(output.status.success(), "{output:?}");
    assert!(
        stdout(&output).contains("nothing has changed"),
        "{output:?}"
    );

    append(
        &broker,
        "[session]\nin_flight_max = 7\n[network]\nring_entries = 256",
    );
    let expected = [
        "session.in_flight_max: 1024 -> 7\n",
        "network.ring_entries: 1024 -> 256 (needs a restart)\n",
        "1 changes; 1 more need a restart",
    ];
    let dry = reload(&broker, &["--dry-run"]);
    let done = reload(&broker, &[]);
    for (output, tense) in [(&dry, "would be read again"), (&done, "is read again")] {
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        for part in expected.into_iter().chain([tense]) {
            assert!(stdout(output).contains(part), "{part}: {output:?}");
        }
    }
    broker.expect_log(&["INFO", "configuration: session.in_flight_max: 1024 -> 7"]);
    broker.expect_log(&["WARN", "network.ring_entries", "needs a restart"]);
    // What waits for a restart waits on.
    let again = stdout(&reload(&broker, &[]));
    assert!(again.contains("0 changes; 1 more"), "{again}");
}

#[test]
fn the_command_sends_no_bad_file_and_tells_what_the_broker_refuses() {
    let broker = Broker::recorded("");
    append(&broker, "[session]\nin_flight_max = 0");
    for arguments in [&["--dry-run"][..], &[]] {
        let output = reload(&broker, arguments);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(
            stderr(&output).contains("session.in_flight_max"),
            "{output:?}"
        );
    }
    assert!(!broker.log().contains("ERROR"), "it was not asked");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    replace(
        &broker,
        "[session]\nin_flight_max = 0",
        &format!("[[listener]]\naddress = \"{address}\""),
    );
    let output = reload(&broker, &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    for part in ["nothing is changed", "in use", &address.to_string()] {
        assert!(stderr(&output).contains(part), "{part}: {output:?}");
    }
}

#[test]
fn the_command_finds_no_broker_where_none_is() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        Command::new(binary())
            .arg("reload")
            .args(arguments)
            .output()
            .unwrap()
    };
    let output = run(&["--runtime-directory", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        stderr(&output).contains("no broker has written"),
        "{output:?}"
    );
    let own = std::process::id().to_string();
    let output = run(&["--pid", &own]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(stderr(&output).contains("not ringmq"), "{output:?}");
}

#[test]
fn a_process_number_is_enough() {
    let broker = Broker::with("");
    append(&broker, "[session]\nin_flight_max = 7");
    let output = Command::new(binary())
        .args(["reload", "--pid", &broker.process().to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    broker.expect_log(&["configuration: session.in_flight_max: 1024 -> 7"]);
    let mut client = broker.client("alive");
    client.send_raw(&[0xc0, 0]);
    client.expect(Kind::PingResp);
}
