//! The administration interface over real sockets: who may do what, lists, acts, metrics, the recorder.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::broker::binary;
use crate::support::{
    Broker, Client, Connect, Kind, PATIENCE, Publish, Subscribe, Version, sleep_ms,
};

const VIEWER: &str = "0123456789abcdef";
const OPERATOR: &str = "fedcba9876543210";

/// A broker with both doors open.
struct Admin {
    broker: Broker,
    directory: TempDir,
    address: String,
}

/// A request's status and body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }
}

impl Admin {
    fn start() -> Self {
        Self::with("", true)
    }

    fn with(settings: &str, tokens: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens");
        std::fs::write(
            &file,
            format!("viewer look {VIEWER}\noperator ops {OPERATOR}\n"),
        )
        .unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let token_file = match tokens {
            true => format!("token_file = \"{}\"\n", file.display()),
            false => String::new(),
        };
        let socket = directory.path().join("admin.sock");
        let broker = Broker::with(&format!(
            "{settings}\n---\n[admin]\naddress = \"127.0.0.1:0\"\nsocket = \"{}\"\n{token_file}",
            socket.display()
        ));
        broker.expect_log(&["administration at unix:"]);
        let log = broker.log();
        let address = log.split("administration at http://").nth(1).unwrap();
        let address = address.split_whitespace().next().unwrap().to_owned();
        Self {
            broker,
            directory,
            address,
        }
    }

    fn exchange(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        read(stream)
    }

    /// A request with a token and, if it has one, a JSON body.
    fn request(&self, method: &str, path: &str, token: &str, body: Option<&Value>) -> Answer {
        self.exchange(&request(method, path, Some(token), body))
    }

    #[track_caller]
    fn look(&self, path: &str) -> Value {
        let answer = self.request("GET", path, VIEWER, None);
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.json()
    }

    #[track_caller]
    fn act(&self, method: &str, path: &str, body: Option<Value>, status: u16) -> Answer {
        let answer = self.request(method, path, OPERATOR, body.as_ref());
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
        answer
    }

    fn socket(&self) -> String {
        format!("{}/admin.sock", self.directory.path().display())
    }

    /// `ringmq` with these arguments, through the Unix socket.
    fn tool(&self, arguments: &[&str]) -> Output {
        Command::new(binary())
            .args(arguments)
            .env("RINGMQ_ADMIN", format!("unix:{}", self.socket()))
            .output()
            .unwrap()
    }

    #[track_caller]
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.tool(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn request(method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> String {
    let token = token.map_or(String::new(), |token| {
        format!("Authorization: Bearer {token}\r\n")
    });
    let body = body.map(Value::to_string).unwrap_or_default();
    let kind = match body.is_empty() {
        true => "",
        false => "Content-Type: application/json\r\n",
    };
    format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{token}{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn read(mut stream: impl Read) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("an HTTP answer");
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_lowercase(),
        body: body.into(),
    }
}

/// Waits until `holds`.
#[track_caller]
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        sleep_ms(10);
    }
}

/// What the document says there is: path, method.
fn documented(admin: &Admin) -> Vec<(String, String)> {
    let document = admin
        .exchange(&request("GET", "/v1/openapi.json", None, None))
        .json();
    let paths = document["paths"].as_object().unwrap();
    let mut all = Vec::new();
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            all.push((path.clone(), method.to_uppercase()));
        }
    }
    assert!(all.len() > 20, "{all:?}");
    all
}

#[test]
fn no_request_reaches_anything_without_its_role() {
    let admin = Admin::start();
    for (path, method) in documented(&admin) {
        if path == "/health" || path == "/ready" {
            let answer = admin.exchange(&request(&method, &path, None, None));
            assert_eq!(answer.status, 200, "{path}: {}", answer.body);
            continue;
        }
        let path = path.replace("{client}", "nobody");
        for wrong in [None, Some("fedcba9876543211"), Some("")] {
            let answer = admin.exchange(&request(&method, &path, wrong, None));
            assert_eq!(
                answer.status, 401,
                "{method} {path} with {wrong:?}: {}",
                answer.body
            );
            assert!(
                answer.head.contains("www-authenticate: bearer"),
                "{}",
                answer.head
            );
        }
        if method != "GET" {
            let answer = admin.request(&method, &path, VIEWER, None);
            assert_eq!(answer.status, 403, "{method} {path}: {}", answer.body);
        }
    }
    // What shows payloads is for operators, too.
    for path in [
        "/v1/retained/message?topic=t",
        "/v1/trace?topic=t&payloads=true",
    ] {
        assert_eq!(
            admin.request("GET", path, VIEWER, None).status,
            403,
            "{path}"
        );
    }
    assert!(!admin.broker.log().contains("outcome=\"done\""));
    admin
        .broker
        .expect_log(&["ringmq::audit", "actor=\"look\"", "refused"]);
}

#[test]
fn without_tokens_this_machine_may_only_look() {
    let admin = Admin::with("", false);
    let get = |host: &str| {
        admin.exchange(&format!(
            "GET /v1/status HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        ))
    };
    assert_eq!(get("localhost").status, 200);
    assert_eq!(get("evil.example").status, 403);
    let drain = admin.exchange(&request("POST", "/v1/drain", None, None));
    assert_eq!(drain.status, 403, "{}", drain.body);
    // The socket's permissions are what decides there.
    let mode = std::fs::metadata(admin.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
    let mut stream = UnixStream::connect(admin.socket()).unwrap();
    let text = request("PUT", "/v1/log", None, Some(&json!({ "level": "warn" })));
    stream.write_all(text.as_bytes()).unwrap();
    let answer = read(stream);
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn an_open_address_needs_tokens_and_the_file_must_be_closed() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("r.toml");
    let run = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let output = Command::new(binary())
            .args(["run", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said) = run("[admin]\naddress = \"0.0.0.0:0\"\n");
    assert!(code == Some(2), "{code:?}");
    assert!(said.contains("token_file"), "{said}");
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, format!("operator ops {OPERATOR}\n")).unwrap();
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o644)).unwrap();
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\ntoken_file = \"{}\"\n",
        tokens.display()
    );
    let (code, said) = run(&text);
    assert!(code.is_some_and(|code| code != 0), "{code:?}");
    assert!(said.contains("open to other users"), "{said}");
}

#[test]
fn lists_have_every_client_once_page_by_page() {
    let admin = Admin::start();
    let clients: Vec<Client> = (0..25)
        .map(|n| admin.broker.client(&format!("list-{n:02}")))
        .collect();
    Client::connect(&admin.broker, Connect::new("list-away").lasting()).disconnect();
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = admin.look(&format!("/v1/clients?search=list-&limit=10{cursor}"));
        let rows = page["clients"].as_array().unwrap();
        assert!(rows.len() <= 10, "{} rows", rows.len());
        names.extend(
            rows.iter()
                .map(|row| row["client_identifier"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    names.sort();
    let expected: Vec<_> = (0..25).map(|n| format!("list-{n:02}")).collect();
    assert_eq!(names, expected);
    wait_until("the session is offline", || {
        let away = admin.look("/v1/sessions?search=list-&connected=false");
        away["clients"].as_array().unwrap().len() == 1
    });
    let one = admin.look("/v1/clients/list-07");
    assert_eq!(
        (&one["connected"], &one["protocol"]),
        (&json!(true), &json!("5.0"))
    );
    let address = clients[7].stream().local_addr().unwrap().to_string();
    assert_eq!(one["address"], json!(address));
    assert_eq!(
        admin
            .request("GET", "/v1/clients/nobody", VIEWER, None)
            .status,
        404
    );
    for bad in ["limit=0", "limit=x", "cursor=7", "cursor=99.0", "unknown=1"] {
        let answer = admin.request("GET", &format!("/v1/clients?{bad}"), VIEWER, None);
        assert_eq!(answer.status, 400, "{bad}: {}", answer.body);
        assert!(answer.json()["detail"].is_string());
    }
}

#[test]
fn a_client_is_told_why_it_is_kicked_and_a_banned_one_stays_out() {
    let admin = Admin::start();
    let mut victim = admin.broker.client("victim/1");
    let path = "/v1/clients/victim%2F1/kick";
    admin.act("POST", path, Some(json!({ "reason": "too loud" })), 200);
    let told = victim.expect(Kind::Disconnect);
    assert_eq!(told.code, 0x98);
    assert_eq!(
        told.property(0x1f),
        Some(&crate::support::Value::Text("too loud".into()))
    );
    victim.expect_closed();
    admin.act("POST", path, Some(json!({})), 404);
    admin.broker.expect_log(&[
        "ringmq::audit",
        "actor=\"ops\"",
        "act=\"kick\"",
        "victim/1",
        "too loud",
    ]);

    let mut banned = admin.broker.client("banned");
    let ban = json!({ "kind": "client", "value": "banned", "seconds": 2 });
    admin.act("POST", "/v1/bans", Some(ban), 200);
    banned.expect(Kind::Disconnect);
    assert_eq!(
        Client::refused(&admin.broker, &Connect::new("banned")).code,
        0x8a
    );
    let by_user = json!({ "kind": "user", "value": "mallory" });
    admin.act("POST", "/v1/bans", Some(by_user), 200);
    let connect = Connect::new("other").user_name("mallory").password(b"x");
    assert_eq!(Client::refused(&admin.broker, &connect).code, 0x8a);
    assert_eq!(admin.look("/v1/bans")["bans"].as_array().unwrap().len(), 2);
    admin.act("DELETE", "/v1/bans?kind=user&value=mallory", None, 200);
    admin.act("DELETE", "/v1/bans?kind=user&value=mallory", None, 404);
    // The other one ends by itself.
    sleep_ms(2_200);
    admin.broker.client("banned").disconnect();

    let address = json!({ "kind": "address", "value": "127.0.0.1" });
    let mut there = admin.broker.client("there");
    admin.act("POST", "/v1/bans", Some(address), 200);
    there.expect(Kind::Disconnect);
    Client::open(admin.broker.address(), Version::V5).expect_closed();
    admin.act("DELETE", "/v1/bans?kind=address&value=127.0.0.1", None, 200);
    admin.broker.client("there").disconnect();
    let bad = json!({ "kind": "address", "value": "nowhere" });
    admin.act("POST", "/v1/bans", Some(bad), 422);
}

#[test]
fn subscriptions_and_messages_on_behalf() {
    let admin = Admin::start();
    let mut client = admin.broker.client("c");
    client.publish_with(Publish::new("kept/1", "old").qos(1).retain());
    admin.act(
        "POST",
        "/v1/clients/c/subscriptions",
        Some(json!({ "filter": "kept/+", "qos": 1 })),
        200,
    );
    client.expect_message("kept/1", "old");
    let listed = admin.look("/v1/clients/c/subscriptions");
    assert_eq!(listed["subscriptions"][0]["filter"], json!("kept/+"));
    let message = json!({ "topic": "kept/2", "payload": "new", "qos": 1, "retain": true, "content_type": "text/plain",
        "user_properties": [{ "name": "a", "value": "b" }] });
    admin.act("POST", "/v1/publish", Some(message), 200);
    let got = client.expect_message("kept/2", "new");
    assert_eq!(
        got.property(0x03),
        Some(&crate::support::Value::Text("text/plain".into()))
    );
    for bad in [
        json!({ "topic": "a/+" }),
        json!({ "topic": "" }),
        json!({ "topic": "a", "qos": 3 }),
        json!({ "topic": "a", "payload_hex": "0g" }),
        json!({ "topic": "a", "more": 1 }),
    ] {
        let answer = admin.request("POST", "/v1/publish", OPERATOR, Some(&bad));
        assert!(
            matches!(answer.status, 400 | 422),
            "{bad}: {} {}",
            answer.status,
            answer.body
        );
    }
    let retained = admin.look("/v1/retained?filter=kept/%23");
    assert_eq!(
        retained["messages"].as_array().unwrap().len(),
        2,
        "{retained}"
    );
    let path = "/v1/retained/message?topic=kept/2";
    assert_eq!(
        admin.act("GET", path, None, 200).json()["payload"],
        json!("new")
    );
    admin.act("DELETE", path, None, 200);
    admin.act("DELETE", path, None, 404);
    // Nobody is told of it.
    client.expect_nothing_before_pong();
    admin.act(
        "DELETE",
        "/v1/clients/c/subscriptions?filter=kept/%2B",
        None,
        200,
    );
    admin.act(
        "DELETE",
        "/v1/clients/c/subscriptions?filter=kept/%2B",
        None,
        404,
    );
    client.publish("kept/3", "x", 1);
    client.expect_nothing_before_pong();
    admin.act(
        "POST",
        "/v1/clients/c/subscriptions",
        Some(json!({ "filter": "a/#/b" })),
        422,
    );
    admin.act(
        "POST",
        "/v1/clients/nobody/subscriptions",
        Some(json!({ "filter": "a" })),
        404,
    );
    let mut member = admin.broker.client("member");
    member.subscribe_with(&Subscribe::to("$share/g/jobs", 1));
    let groups = admin.look("/v1/groups");
    assert_eq!(groups["groups"][0]["share_name"], json!("g"));
    admin.act("DELETE", "/v1/sessions/member", None, 200);
    member.expect(Kind::Disconnect);
    wait_until("the group ends with its member", || {
        admin.look("/v1/groups")["groups"]
            .as_array()
            .unwrap()
            .is_empty()
    });
}

#[test]
fn metrics_count_what_happened() {
    let admin = Admin::start();
    let mut client = admin.broker.client("m");
    client.subscribe("m/#", 1);
    for n in 0..5 {
        client.publish("m/1", format!("{n}"), 1);
        client.message();
    }
    let scrape = || {
        let answer = admin.request("GET", "/metrics", VIEWER, None);
        assert!(
            answer.head.contains("application/openmetrics-text"),
            "{}",
            answer.head
        );
        assert!(answer.body.ends_with("# EOF\n"));
        answer.body
    };
    let text = scrape();
    let value = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not there:\n{text}"));
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(value("ringmq_connections "), 1.0);
    assert_eq!(value("ringmq_subscriptions "), 1.0);
    assert_eq!(
        value("ringmq_messages_total{direction=\"in\",qos=\"1\"}"),
        5.0
    );
    assert_eq!(
        value("ringmq_messages_total{direction=\"out\",qos=\"1\"}"),
        5.0
    );
    assert_eq!(
        value("ringmq_message_payload_bytes_total{direction=\"out\",qos=\"1\"}"),
        5.0
    );
    assert_eq!(
        value("ringmq_messages_dropped_total{cause=\"outbox_full\"}"),
        0.0
    );
    assert!(value("ringmq_memory_bytes{kind=\"resident\"}") > 1e6);
    let turns = text
        .lines()
        .filter(|line| line.starts_with("ringmq_shard_turn_seconds_count"));
    assert_eq!(turns.count(), usize::from(crate::support::broker::shards()));
    let stages: f64 = text
        .lines()
        .filter(|line| {
            line.starts_with("ringmq_message_stage_seconds_count")
                && line.contains("publish_to_ack")
        })
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert!(stages >= 1.0, "an acknowledgement was timed");
    let latency = admin.look("/v1/latency");
    assert_eq!(latency["stages"].as_array().unwrap().len(), 4);
    drop(client);
    wait_until("the gauge falls", || {
        scrape().contains("ringmq_connections 0")
    });
}

#[test]
fn the_recorder_tells_why_a_message_did_not_arrive() {
    let admin = Admin::with("session.outbox_messages_max = 1", true);
    let mut away = Client::connect(&admin.broker, Connect::new("away").lasting());
    away.subscribe("w/#", 1);
    let mut publisher = admin.broker.client("pub");
    publisher.publish("w/there", "1", 1);
    away.message();
    away.disconnect();
    wait_until("it is away", || {
        !admin.look("/v1/clients/away")["connected"]
            .as_bool()
            .unwrap()
    });
    for (topic, qos) in [("w/q0", 0), ("w/fits", 1), ("w/lost", 1)] {
        publisher.publish(topic, "x", qos);
    }
    let decisions = |query: &str| -> Vec<(String, String, String)> {
        let answer = admin.look(&format!("/v1/why?{query}"));
        let rows = answer["decisions"].as_array().unwrap().clone();
        rows.iter()
            .map(|row| {
                let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
                (text("topic"), text("what"), text("cause"))
            })
            .collect()
    };
    let row = |topic: &str, what: &str, cause: &str| (topic.into(), what.into(), cause.into());
    wait_until("the last is recorded", || {
        decisions("client=away").len() >= 5
    });
    assert_eq!(
        decisions("client=away"),
        [
            row("w/there", "sent", "-"),
            row("w/there", "acknowledged", "-"),
            row("w/q0", "not_queued", "qos_0_offline"),
            row("w/fits", "queued", "-"),
            row("w/lost", "dropped", "outbox_full"),
        ]
    );
    let lost = decisions("topic=w/lost");
    assert_eq!(lost[0], row("w/lost", "received", "-"));
    assert_eq!(
        lost.last().unwrap(),
        &row("w/lost", "dropped", "outbox_full")
    );
    assert_eq!(decisions("topic=w/%2B&client=pub").len(), 4);
    assert_eq!(decisions("client=nobody"), []);
    let said = admin.said(&[
        "why", "--client", "away", "--topic", "w/lost", "--last", "5m",
    ]);
    assert!(
        said.contains("dropped") && said.contains("cause: outbox_full"),
        "{said}"
    );
    // A session that has ended can still be asked about, and is not taken for the next one in its place.
    publisher.disconnect();
    wait_until("it has ended", || {
        admin.request("GET", "/v1/clients/pub", VIEWER, None).status == 404
    });
    assert_eq!(decisions("client=pub").len(), 4);
}

#[test]
fn a_trace_shows_what_passes_and_payloads_only_if_asked() {
    let admin = Admin::start();
    let start = admin.look("/v1/trace?topic=t/%23");
    let cursor = start["cursor"].as_str().unwrap().to_owned();
    let mut client = admin.broker.client("t");
    admin.act("GET", "/v1/trace?topic=t/%23&payloads=true", None, 200);
    client.publish("t/1", "secret", 1);
    client.publish("elsewhere", "x", 1);
    let seen = admin.look(&format!("/v1/trace?topic=t/%23&cursor={cursor}"));
    assert_eq!(seen["decisions"][0]["topic"], json!("t/1"));
    assert!(!seen.to_string().contains("secret") && !seen.to_string().contains("elsewhere"));
    let with = admin.act(
        "GET",
        &format!("/v1/trace?topic=t/%23&payloads=true&cursor={cursor}"),
        None,
        200,
    );
    assert_eq!(with.json()["payloads"][0]["payload"], json!("secret"));
}

#[test]
fn the_log_level_changes_and_acts_are_logged_all_the_same() {
    let admin = Admin::start();
    admin.act("PUT", "/v1/log", Some(json!({ "level": "error" })), 200);
    assert_eq!(admin.look("/v1/log")["level"], json!("error"));
    admin.act("PUT", "/v1/log", Some(json!({ "level": "loud" })), 422);
    let mut client = admin.broker.client("quiet");
    admin.act("POST", "/v1/clients/quiet/kick", Some(json!({})), 200);
    client.expect(Kind::Disconnect);
    admin.broker.expect_log(&["act=\"kick\"", "quiet"]);
    assert!(
        !admin
            .broker
            .log()
            .contains("connection ended by the broker client=\"quiet\"")
    );
}

#[test]
fn drain_ends_the_broker_in_order() {
    let mut admin = Admin::start();
    let mut client = admin.broker.client("c");
    admin.act("POST", "/v1/drain", None, 202);
    assert_eq!(client.expect(Kind::Disconnect).code, 0x8b);
    assert_eq!(admin.broker.wait().code(), Some(0));
}

#[test]
fn the_command_line_shows_and_acts() {
    let admin = Admin::start();
    let mut client = admin.broker.client("cli-client");
    client.subscribe("c/#", 1);
    assert!(admin.said(&["status"]).contains("connections 1"));
    assert!(admin.said(&["clients", "cli-"]).contains("cli-client"));
    assert!(
        admin
            .said(&["subs", "--client", "cli-client"])
            .contains("c/#")
    );
    let status: Value = serde_json::from_str(&admin.said(&["status", "--json"])).unwrap();
    assert_eq!(status["connections"], json!(1));
    let top = admin.said(&["top", "--once", "--by", "rate"]);
    assert!(top.contains("cli-client"), "{top}");
    admin.said(&["kick", "cli-client", "--reason", "enough"]);
    client.expect(Kind::Disconnect);
    let again = admin.tool(&["kick", "cli-client"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("404"));
    let nobody = Command::new(binary())
        .args(["status", "--admin", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn publish_subscribe_and_ping_need_no_other_program() {
    let broker = Broker::start();
    let address = broker.address().to_string();
    for version in ["3.1.1", "5.0"] {
        for qos in ["0", "1", "2"] {
            let mut subscriber = Command::new(binary())
                .args(["sub", "--broker", &address, "--mqtt", version, "--qos", qos])
                .args(["--count", "1", "--for", "20s", "--id", "s", "p/#"])
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            // It says nothing before the first message, so messages are sent until it has one.
            let deadline = Instant::now() + PATIENCE;
            while subscriber.try_wait().unwrap().is_none() {
                assert!(Instant::now() < deadline, "no message came");
                let published = Command::new(binary())
                    .args([
                        "pub", "--broker", &address, "--mqtt", version, "--qos", qos, "p/1",
                        "hello",
                    ])
                    .status()
                    .unwrap();
                assert!(published.success());
                std::thread::sleep(Duration::from_millis(20));
            }
            let output = subscriber.wait_with_output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "p/1 hello\n");
        }
        let ping = Command::new(binary())
            .args([
                "ping", "--broker", &address, "--mqtt", version, "--count", "2",
            ])
            .output()
            .unwrap();
        assert!(ping.status.success());
        assert_eq!(
            String::from_utf8(ping.stdout)
                .unwrap()
                .matches("PINGRESP")
                .count(),
            2
        );
    }
    let refused = Command::new(binary())
        .args(["pub", "--broker", &address, "$SYS/x", "y", "--qos", "1"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("NotAuthorized"));
}
