//! An HTTP server that decides about clients: what it is asked, what it may say, and what happens without it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::files::Files;
use crate::support::http_server::HttpServer;
use crate::support::packet::PINGREQ;
use crate::support::{Broker, Client, Connect, Kind, Publish, Subscribe, Version, Will};

fn answer(value: Value) -> Option<(u16, String)> {
    Some((200, value.to_string()))
}

fn json_of(body: &str) -> Value {
    serde_json::from_str(body).unwrap()
}

fn with_server(server: &HttpServer, settings: &str) -> Broker {
    Broker::with(&format!(
        "authentication.chain = [\"http\"]\nhttp_callback.authenticate_url = \"{}\"\n{settings}",
        server.url("/who")
    ))
}

fn connect(client_identifier: &str, user: &str) -> Connect {
    Connect::new(client_identifier)
        .user_name(user)
        .password(b"word")
}

/// By the user name: allow, deny, and answers that are none.
fn by_user(_: &str, body: &str) -> Option<(u16, String)> {
    let asked = json_of(body);
    match asked["user_name"].as_str().unwrap_or("") {
        "good" => answer(json!({ "result": "allow", "cache_s": 0 })),
        "renamed" => answer(json!({
            "result": "allow", "user_name": "new name", "cache_s": 60,
            "rules": [{ "permit": "publish", "filter": "of/%u" }],
        })),
        "denied" => answer(json!({ "result": "deny" })),
        "ignored" => answer(json!({ "result": "ignore" })),
        "forbidden" => Some((403, String::new())),
        "broken" => Some((500, json!({ "result": "allow" }).to_string())),
        "moved" => Some((302, json!({ "result": "allow" }).to_string())),
        "text" => Some((200, "allow".into())),
        "empty" => answer(json!({})),
        "bad rules" => answer(json!({ "result": "allow", "rules": [{ "permit": "x" }] })),
        "long" => Some((
            200,
            format!("{{\"result\": \"allow\"{}}}", " ".repeat(300_000)),
        )),
        _ => None,
    }
}

#[test]
fn the_server_decides_and_whatever_is_no_answer_refuses() {
    let server = HttpServer::start(by_user);
    let broker = with_server(&server, "");
    Client::connect(&broker, connect("c", "good"));
    let (path, body) = server.asked().remove(0);
    assert_eq!(path, "/who");
    let asked = json_of(&body);
    assert_eq!(asked["client_id"], "c");
    assert_eq!(asked["user_name"], "good");
    assert_eq!(asked["password"], "word");
    assert_eq!(asked["address"], "127.0.0.1");
    for user in ["denied", "ignored", "forbidden"] {
        assert_eq!(
            Client::refused(&broker, &connect("c", user)).code,
            0x86,
            "{user}"
        );
    }
    for user in [
        "broken",
        "moved",
        "text",
        "empty",
        "bad rules",
        "long",
        "cut",
    ] {
        assert_eq!(
            Client::refused(&broker, &connect("c", user)).code,
            0x88,
            "{user}"
        );
        let v3 = connect("c", user).version(Version::V311);
        assert_eq!(Client::refused(&broker, &v3).code, 3, "{user}");
    }
    broker.expect_log(&["WARN", "http_callback", "status 500"]);
    assert!(!broker.log().contains("word\""));
}

#[test]
fn an_answer_carries_a_user_name_and_rules_and_is_remembered() {
    let server = HttpServer::start(by_user);
    let broker = with_server(&server, "");
    for _ in 0..3 {
        let mut client = Client::connect(&broker, connect("c", "renamed"));
        let mut code = |topic: &str| client.publish_with(Publish::new(topic, "x").qos(1));
        assert_eq!(code("of/new name"), 0x10);
        assert_eq!(code("of/renamed"), 0x87);
    }
    assert_eq!(server.asked().len(), 1);
    // The server may have an opinion about another Client Identifier.
    Client::connect(&broker, connect("d", "renamed"));
    assert_eq!(server.asked().len(), 2);
    for _ in 0..2 {
        Client::connect(&broker, connect("c", "good"));
    }
    assert_eq!(server.asked().len(), 4, "cache_s = 0 is not remembered");
}

#[test]
fn a_server_that_does_not_answer_stops_only_those_who_ask() {
    let hangs = Arc::new(AtomicBool::new(true));
    let until = Arc::clone(&hangs);
    let server = HttpServer::start(move |_, _| {
        while until.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    });
    let settings = "http_callback.timeout_ms = 500\n---\n[[listener]]\naddress = \"127.0.0.1:0\"\n\
                    authentication = []\nallow_anonymous = true\n";
    let broker = with_server(&server, settings);
    let start = Instant::now();
    let mut waiting = Client::open(broker.address(), Version::V5);
    waiting.send_raw(&connect("c", "good").bytes());
    waiting.send_raw(&PINGREQ);
    assert_eq!(waiting.expect(Kind::ConnAck).code, 0x88);
    let waited = start.elapsed();
    assert!(
        waited > Duration::from_millis(400) && waited < Duration::from_secs(5),
        "{waited:?}"
    );
    hangs.store(false, Ordering::SeqCst);
}

#[test]
fn the_next_link_decides_about_whom_the_server_ignores() {
    let files = Files::new();
    let passwords = files.passwords(&[("ignored", "word")]);
    let server = HttpServer::start(by_user);
    let broker = Broker::with(&format!(
        "authentication.chain = [\"http\", \"password_file\"]\n\
         authentication.password_file = \"{passwords}\"\nhttp_callback.authenticate_url = \"{}\"",
        server.url("/who")
    ));
    Client::connect(&broker, connect("c", "ignored"));
    assert_eq!(Client::refused(&broker, &connect("c", "denied")).code, 0x86);
}

/// Permits what has `yes` in its topic.
fn permits_yes(_: &str, body: &str) -> Option<(u16, String)> {
    let asked = json_of(body);
    let topic = asked["topic"].as_str().unwrap();
    if topic.contains("cut") {
        return None;
    }
    let result = if topic.contains("yes") {
        "allow"
    } else {
        "deny"
    };
    let cache_s = if topic.contains("once") { 0 } else { 60 };
    answer(json!({ "result": result, "cache_s": cache_s }))
}

#[test]
fn what_no_rule_decides_is_asked_and_the_order_holds() {
    let files = Files::new();
    let acl = files.write("acl", "all both listed/#\nall deny publish yes/never\n");
    let server = HttpServer::start(permits_yes);
    let broker = Broker::with(&format!(
        "authorization.acl_file = \"{acl}\"\nhttp_callback.authorize_url = \"{}\"\n\
         authorization.cache_topics_max = 65536",
        server.url("/may")
    ));
    let mut reader = broker.client("reader");
    let filters = Subscribe::to("yes/#", 1)
        .and("no/#", 1)
        .and("listed/x", 1)
        .and("yes/never", 1);
    assert_eq!(reader.subscribe_with(&filters), [1, 0x87, 1, 1]);
    let mut client = broker.client("c");
    let mut bytes = Vec::new();
    let topics = [
        "yes/1",
        "no/1",
        "yes/once",
        "listed/x",
        "yes/once",
        "cut",
        "yes/never",
        "yes/1",
    ];
    for (identifier, topic) in (1..).zip(topics) {
        let publish = Publish::new(topic, "x").qos(1).identifier(identifier);
        bytes.extend(publish.bytes(Version::V5));
    }
    client.send_raw(&bytes);
    let codes: Vec<u8> = topics
        .iter()
        .map(|_| client.expect(Kind::PubAck).code)
        .collect();
    assert_eq!(codes, [0, 0x87, 0, 0, 0, 0x87, 0x87, 0]);
    let came: Vec<String> = (0..5).map(|_| reader.message().topic).collect();
    assert_eq!(came, ["yes/1", "yes/once", "listed/x", "yes/once", "yes/1"]);
    let asked = server.asked();
    let about = |topic: &str| {
        let of = |body: &str| json_of(body)["topic"] == topic;
        asked.iter().filter(|(_, body)| of(body)).count()
    };
    assert_eq!(
        (about("yes/1"), about("yes/once"), about("listed/x")),
        (1, 2, 0)
    );
    let will = |topic: &str| Connect::new("w").will(Will::new(topic, b"gone"));
    assert_eq!(Client::refused(&broker, &will("no/will")).code, 0x87);
    Client::connect(&broker, will("yes/will"));
}
