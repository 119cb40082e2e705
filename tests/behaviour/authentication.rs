//! Who a client is: password files, the order of a chain, what a refusal says, what is remembered.

use std::process::Command;

use rustix::process::Signal;

use crate::support::broker::binary;
use crate::support::files::Files;
use crate::support::packet::{PINGREQ, VERSIONS};
use crate::support::{Broker, Client, Connect, Kind, Version};

/// A broker with a password file for alice and bob.
fn with_passwords(files: &Files, settings: &str) -> Broker {
    let path = files.passwords(&[("alice", "secret"), ("bob", "hunter2")]);
    Broker::with(&format!(
        "authentication.chain = [\"password_file\"]\nauthentication.password_file = \"{path}\"\n{settings}"
    ))
}

fn connect(version: Version, user: &str, password: &[u8]) -> Connect {
    Connect::new(&format!("{user}-{version:?}"))
        .version(version)
        .user_name(user)
        .password(password)
}

#[test]
fn a_password_lets_its_user_in_and_nobody_else() {
    let files = Files::new();
    let broker = with_passwords(&files, "");
    for version in VERSIONS {
        let (bad, not_authorized) = match version {
            Version::V5 => (0x86, 0x87),
            _ => (4, 5),
        };
        let mut alice = Client::connect(&broker, connect(version, "alice", b"secret"));
        alice.subscribe("t", 1);
        alice.publish("t", "x", 1);
        assert_eq!(alice.message().topic, "t");
        for (user, password) in [
            ("alice", &b"Secret"[..]),
            ("alice", b"hunter2"),
            ("alice", b""),
            ("nobody", b"secret"),
            ("", b"secret"),
        ] {
            let connack = Client::refused(&broker, &connect(version, user, password));
            assert_eq!(connack.code, bad, "{version:?} {user}");
        }
        let anonymous = Connect::new("anonymous").version(version);
        assert_eq!(Client::refused(&broker, &anonymous).code, not_authorized);
        let no_password = Connect::new("c").version(version).user_name("alice");
        assert_eq!(Client::refused(&broker, &no_password).code, bad);
    }
    let no_user = Connect::new("c").password(b"secret");
    assert_eq!(Client::refused(&broker, &no_user).code, 0x86);
}

#[test]
fn what_follows_connect_at_once_waits_for_the_verdict() {
    let files = Files::new();
    let broker = with_passwords(&files, "");
    let mut client = Client::open(broker.address(), Version::V5);
    let mut bytes = connect(Version::V5, "alice", b"secret").bytes();
    bytes.extend(PINGREQ.repeat(3));
    client.send_raw(&bytes);
    client.expect_accepted();
    for _ in 0..3 {
        client.expect(Kind::PingResp);
    }
    let mut client = Client::open(broker.address(), Version::V5);
    let mut bytes = connect(Version::V5, "alice", b"wrong").bytes();
    bytes.extend(PINGREQ.repeat(3));
    client.send_raw(&bytes);
    assert_eq!(client.expect(Kind::ConnAck).code, 0x86);
    client.expect_closed();
}

#[test]
fn anonymous_clients_come_in_only_where_it_says_so() {
    let files = Files::new();
    let broker = with_passwords(&files, "listener.allow_anonymous = true");
    broker.client("anonymous");
    Client::connect(&broker, connect(Version::V5, "bob", b"hunter2"));
    let wrong = connect(Version::V5, "bob", b"wrong");
    assert_eq!(Client::refused(&broker, &wrong).code, 0x86);
}

#[test]
fn a_listener_that_authenticates_may_be_open_to_others() {
    let files = Files::new();
    let passwords = files.passwords(&[("alice", "secret")]);
    let check = |access: &str| {
        let text = format!("[[listener]]\naddress = \"0.0.0.0:0\"\n{access}");
        let path = files.write("r.toml", text);
        let output = Command::new(binary()).args(["check", &path]).output();
        let output = output.expect("ringmq check");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let refused = check("");
    assert!(refused.contains("listener.allow_anonymous"), "{refused}");
    let chain = "[authentication]\nchain = [\"password_file\"]\n";
    let missing = check(chain);
    assert!(
        missing.contains("authentication.password_file is missing"),
        "{missing}"
    );
    let path = format!("password_file = \"{passwords}\"\n");
    assert_eq!(check(&format!("{chain}{path}")), "");
    let own = format!("authentication = [\"password_file\"]\n[authentication]\n{path}");
    assert_eq!(check(&own), "");
    let none = check(&format!("authentication = []\n{chain}{path}"));
    assert!(none.contains("listener.allow_anonymous"), "{none}");
    let method = check("[authentication]\nmethods = [\"OAUTHBEARER\"]\n");
    assert!(method.contains("[jwt]"), "{method}");
}

#[test]
fn secrets_that_others_can_read_and_links_are_warned_of() {
    let files = Files::new();
    let path = files.passwords(&[("alice", "secret")]);
    let link = files.path("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&path, mode).unwrap();
    let broker = Broker::with(&format!(
        "authentication.chain = [\"password_file\"]\nauthentication.password_file = \"{}\"",
        link.display()
    ));
    broker.expect_log(&["WARN", "symbolic link"]);
    broker.expect_log(&["WARN", "0644"]);
    Client::connect(&broker, connect(Version::V5, "alice", b"secret"));
}

#[test]
fn passwd_adds_changes_verifies_and_removes() {
    let files = Files::new();
    files.passwords(&[("alice", "one"), ("bob", "two")]);
    let verify = |user: &str, password: &str| {
        let output = files.passwd(&["verify", user], password);
        output.status.success()
    };
    assert!(verify("alice", "one") && verify("bob", "two") && !verify("bob", "one"));
    assert!(files.passwd(&["add", "alice"], "new").status.success());
    assert!(verify("alice", "new") && !verify("alice", "one"));
    assert!(files.passwd(&["remove", "bob"], "").status.success());
    assert!(!verify("bob", "two"));
    assert!(!files.passwd(&["remove", "bob"], "").status.success());
    assert!(!files.passwd(&["add", "a:b"], "x").status.success());
    assert!(!files.passwd(&["add", "carol"], "").status.success());
    let text = std::fs::read_to_string(files.path("passwords")).unwrap();
    assert!(
        text.lines()
            .all(|line| line.starts_with("alice:$argon2id$")),
        "{text}"
    );
}

#[test]
fn a_reload_takes_the_new_passwords_or_keeps_the_old_ones() {
    let files = Files::new();
    let broker = with_passwords(&files, "");
    Client::connect(&broker, connect(Version::V5, "alice", b"secret"));
    files.passwd(&["add", "alice"], "changed");
    // What is remembered holds until the reload.
    Client::connect(&broker, connect(Version::V5, "alice", b"secret"));
    broker.signal(Signal::HUP);
    broker.expect_log(&["the configuration is read again"]);
    broker.expect_log(&["configuration:", "passwords: its content has changed"]);
    Client::connect(&broker, connect(Version::V5, "alice", b"changed"));
    let old = connect(Version::V5, "alice", b"secret");
    assert_eq!(Client::refused(&broker, &old).code, 0x86);
    files.write("passwords", "alice:secret\n");
    broker.signal(Signal::HUP);
    broker.expect_log(&["ERROR", "is not changed", "line 1"]);
    Client::connect(&broker, connect(Version::V5, "alice", b"changed"));
    assert!(!broker.log().contains("hunter2"));
}

#[test]
fn a_verified_password_is_remembered_and_costs_nothing_more() {
    let files = Files::new();
    let broker = with_passwords(&files, "");
    let again = || {
        let before = broker.cpu();
        for _ in 0..20 {
            Client::connect(&broker, connect(Version::V5, "alice", b"secret")).disconnect();
        }
        broker.cpu() - before
    };
    again();
    let remembered = again();
    let none = with_passwords(&files, "authentication.cache_s = 0");
    let before = none.cpu();
    for _ in 0..20 {
        Client::connect(&none, connect(Version::V5, "alice", b"secret")).disconnect();
    }
    let hashed = none.cpu() - before;
    assert!(
        remembered * 4 < hashed,
        "{remembered:?} with what is remembered, {hashed:?} without"
    );
}

#[test]
fn an_unknown_user_takes_as_long_as_a_wrong_password() {
    let files = Files::new();
    let broker = with_passwords(&files, "");
    // By the time of the CPU, which other programs do not take away.
    let cost = |user: &str| {
        let before = broker.cpu();
        for number in 0..25 {
            let password = format!("wrong {number}");
            Client::refused(&broker, &connect(Version::V5, user, password.as_bytes()));
        }
        broker.cpu() - before
    };
    cost("alice");
    let (unknown, wrong) = (cost("nobody"), cost("alice"));
    let (less, more) = (unknown.min(wrong), unknown.max(wrong));
    assert!(
        more.as_millis() < less.as_millis() * 3 / 2,
        "{unknown:?} for an unknown user, {wrong:?} for a wrong password"
    );
}

#[test]
fn too_many_who_wait_are_told_that_the_server_is_busy() {
    let files = Files::new();
    let settings = "authentication.waiting_max = 2\nauthentication.threads = 1";
    let broker = with_passwords(&files, settings);
    let mut established = Client::connect(&broker, connect(Version::V5, "bob", b"hunter2"));
    let mut clients: Vec<Client> = (0..40)
        .map(|number| {
            let connect = Connect::new(&format!("c{number}"))
                .user_name("alice")
                .password(format!("wrong {number}").as_bytes());
            let mut client = Client::open(broker.address(), Version::V5);
            client.send_raw(&connect.bytes());
            client
        })
        .collect();
    established.expect_nothing_before_pong();
    let codes: Vec<u8> = clients
        .iter_mut()
        .map(|client| client.expect(Kind::ConnAck).code)
        .collect();
    assert!(
        codes.iter().all(|code| matches!(code, 0x86 | 0x89)),
        "{codes:x?}"
    );
    assert!(codes.contains(&0x89) && codes.contains(&0x86), "{codes:x?}");
}

#[test]
fn a_session_is_not_given_to_another_user() {
    let files = Files::new();
    let broker = with_passwords(&files, "");
    let of = |user: &str, password: &[u8]| {
        Connect::new("shared-name")
            .lasting()
            .user_name(user)
            .password(password)
    };
    let mut alice = Client::connect(&broker, of("alice", b"secret"));
    alice.subscribe("private", 1);
    alice.disconnect();
    let mut writer = Client::connect(&broker, connect(Version::V5, "bob", b"hunter2"));
    writer.publish("private", "for alice", 1);
    let mut bob = Client::connect(&broker, of("bob", b"hunter2"));
    assert!(!bob.session_present());
    bob.expect_nothing_before_pong();
    bob.disconnect();
    let bob = Client::connect(&broker, of("bob", b"hunter2"));
    assert!(bob.session_present());
}

#[test]
fn the_user_of_a_unix_socket_is_known_by_the_kernel() {
    use std::io::{Read, Write};
    let files = Files::new();
    let socket = files.path("mqtt.sock");
    let acl = files.write("acl", "user root publish t\n");
    let broker = Broker::with(&format!(
        "authorization.acl_file = \"{acl}\"\n---\n[[listener]]\naddress = \"unix:{}\"\n\
         authentication = [\"unix_peer\"]\n",
        socket.display()
    ));
    let mut stream = std::os::unix::net::UnixStream::connect(&socket).unwrap();
    stream.write_all(&Connect::new("u").bytes()).unwrap();
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!((answer[0], answer[3]), (0x20, 0));
    drop(broker);
}
