//! JSON Web Tokens as passwords: keys of every kind, what a token must say, and the tricks with `alg`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::files::Files;
use crate::support::http_server::HttpServer;
use crate::support::{Broker, Client, Connect, Publish, Subscribe, Version};

const RSA: &[u8] = include_bytes!("../support/keys/rsa.pem");
const RSA_PUBLIC: &str = include_str!("../support/keys/rsa.pub.pem");
const EC: &[u8] = include_bytes!("../support/keys/ec.pem");
const EC_PUBLIC: &str = include_str!("../support/keys/ec.pub.pem");
const ED: &[u8] = include_bytes!("../support/keys/ed.pem");
const ED_PUBLIC: &str = include_str!("../support/keys/ed.pub.pem");
const OTHER: &[u8] = include_bytes!("../support/keys/other.pem");
const SECRET: &str = "a secret that is at least 32 bytes long";

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Claims that are good for an hour, with `more`.
fn claims(more: Value) -> Value {
    let mut claims = json!({ "sub": "alice", "exp": now_s() + 3600 });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

fn token(algorithm: Algorithm, key: &EncodingKey, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, key).unwrap()
}

fn ed(claims: &Value) -> String {
    token(
        Algorithm::EdDSA,
        &EncodingKey::from_ed_pem(ED).unwrap(),
        claims,
    )
}

fn with_key(files: &Files, key: &str, settings: &str) -> Broker {
    let path = files.write("key", key);
    Broker::with(&format!(
        "authentication.chain = [\"jwt\"]\njwt.key_file = \"{path}\"\n{settings}"
    ))
}

fn connect(token: &str) -> Connect {
    Connect::new("c")
        .user_name("ignored")
        .password(token.as_bytes())
}

fn accepted(broker: &Broker, token: &str) -> Client {
    Client::connect(broker, connect(token))
}

#[track_caller]
fn refused(broker: &Broker, token: &str) {
    assert_eq!(Client::refused(broker, &connect(token)).code, 0x86);
}

#[test]
fn every_kind_of_key_checks_its_own_tokens_only() {
    let files = Files::new();
    let secret = EncodingKey::from_secret(SECRET.as_bytes());
    let rsa = EncodingKey::from_rsa_pem(RSA).unwrap();
    let all = [
        (SECRET, Algorithm::HS256, secret.clone()),
        (RSA_PUBLIC, Algorithm::RS256, rsa.clone()),
        (RSA_PUBLIC, Algorithm::PS256, rsa),
        (
            EC_PUBLIC,
            Algorithm::ES256,
            EncodingKey::from_ec_pem(EC).unwrap(),
        ),
        (
            ED_PUBLIC,
            Algorithm::EdDSA,
            EncodingKey::from_ed_pem(ED).unwrap(),
        ),
    ];
    let algorithms = "jwt.algorithms = [\"HS256\", \"RS256\", \"PS256\", \"ES256\", \"EdDSA\"]";
    for (key, own, _) in &all {
        let broker = with_key(&files, key, algorithms);
        for (of, algorithm, signing) in &all {
            let token = token(*algorithm, signing, &claims(json!({})));
            match of == key {
                true => accepted(&broker, &token).disconnect(),
                false => refused(&broker, &token),
            }
        }
        let _ = own;
    }
}

#[test]
fn the_tricks_with_alg_are_refused() {
    let files = Files::new();
    let algorithms = "jwt.algorithms = [\"HS256\", \"RS256\"]";
    let broker = with_key(&files, RSA_PUBLIC, algorithms);
    let good = claims(json!({}));
    accepted(
        &broker,
        &token(
            Algorithm::RS256,
            &EncodingKey::from_rsa_pem(RSA).unwrap(),
            &good,
        ),
    );
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    // No signature at all.
    for name in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({ "alg": name, "typ": "JWT" });
        for signature in ["", "AAAA"] {
            refused(
                &broker,
                &format!("{}.{}.{signature}", part(&header), part(&good)),
            );
        }
    }
    // The public key as a secret.
    for secret in [RSA_PUBLIC, RSA_PUBLIC.trim_end()] {
        let signed = format!("{}.{}", part(&json!({ "alg": "HS256" })), part(&good));
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        refused(&broker, &format!("{signed}.{signature}"));
    }
    // A key of the token's own.
    let header = json!({ "alg": "RS256", "jwk": { "kty": "oct", "k": "AAAA" } });
    refused(&broker, &format!("{}.{}.AAAA", part(&header), part(&good)));
    // An algorithm that the key could check and the configuration does not allow.
    let rs512 = token(
        Algorithm::RS512,
        &EncodingKey::from_rsa_pem(RSA).unwrap(),
        &good,
    );
    refused(&broker, &rs512);
    // A good token with other claims.
    let rs256 = token(
        Algorithm::RS256,
        &EncodingKey::from_rsa_pem(RSA).unwrap(),
        &good,
    );
    let parts: Vec<&str> = rs256.split('.').collect();
    let other = part(&claims(json!({ "sub": "root" })));
    refused(&broker, &format!("{}.{other}.{}", parts[0], parts[2]));
    for garbage in [
        "",
        "a.b.c",
        "ey.ey.ey",
        "..",
        "eyJhbGciOiJSUzI1NiJ9..",
        &"ey.".repeat(9000),
    ] {
        refused(&broker, garbage);
    }
}

#[test]
fn expired_and_future_tokens_and_those_for_others_are_refused() {
    let files = Files::new();
    let settings = "jwt.leeway_s = 5\njwt.issuer = \"https://issuer\"\njwt.audience = \"mqtt\"";
    let broker = with_key(&files, ED_PUBLIC, settings);
    let good = json!({ "iss": "https://issuer", "aud": ["other", "mqtt"], "nbf": now_s() });
    accepted(&broker, &ed(&claims(good.clone())));
    let with = |name: &str, value: Value| {
        let mut bad = good.clone();
        bad[name] = value;
        ed(&claims(bad))
    };
    refused(&broker, &with("exp", json!(now_s() - 10)));
    refused(&broker, &with("exp", json!(0)));
    refused(&broker, &with("nbf", json!(now_s() + 60)));
    refused(&broker, &with("iat", json!(now_s() + 60)));
    refused(&broker, &with("iss", json!("https://other")));
    refused(&broker, &with("aud", json!("other")));
    refused(&broker, &with("sub", json!(7)));
    refused(&broker, &with("sub", json!("")));
    refused(
        &broker,
        &with("mqtt", json!([{ "permit": "everything", "filter": "#" }])),
    );
    for missing in ["exp", "iss", "aud", "sub"] {
        let mut bad = claims(good.clone());
        bad.as_object_mut().unwrap().remove(missing);
        refused(&broker, &ed(&bad));
    }
    let other = EncodingKey::from_ed_pem(OTHER).unwrap();
    refused(&broker, &token(Algorithm::EdDSA, &other, &claims(good)));
}

#[test]
fn claims_become_user_name_roles_and_rules() {
    let files = Files::new();
    let acl = files.write(
        "acl",
        "user alice publish of-alice\nrole plant subscribe plant/#\n",
    );
    let settings = format!("authorization.acl_file = \"{acl}\"\njwt.roles_claim = \"scope\"");
    let broker = with_key(&files, ED_PUBLIC, &settings);
    let rules = json!([
        { "deny": "publish", "filter": "own/c/secret" },
        { "permit": "both", "filter": "own/%c/#" },
        { "permit": "publish", "filter": "of/%u" },
    ]);
    let mut client = accepted(
        &broker,
        &ed(&claims(json!({ "mqtt": rules, "scope": "a plant" }))),
    );
    for (topic, code) in [
        ("of-alice", 0x10),
        ("own/c/x", 0x10),
        ("own/c/secret", 0x87),
        ("own/d/x", 0x87),
        ("of/alice", 0x10),
        ("of/bob", 0x87),
    ] {
        let found = client.publish_with(Publish::new(topic, "x").qos(1));
        assert_eq!(found, code, "{topic}");
    }
    let filters = Subscribe::to("plant/+", 1).and("own/c/#", 1).and("#", 1);
    assert_eq!(client.subscribe_with(&filters), [1, 1, 0x87]);
}

#[test]
fn the_connection_ends_when_the_token_does() {
    let files = Files::new();
    let broker = with_key(&files, ED_PUBLIC, "jwt.leeway_s = 0");
    let start = Instant::now();
    let short = ed(&claims(json!({ "exp": now_s() + 3 })));
    let mut new = accepted(&broker, &short);
    let mut old = Client::connect(&broker, connect(&short).version(Version::V311));
    drop(new);
    new = Client::connect(&broker, Connect::new("d").password(short.as_bytes()));
    new.expect_end(0xa0);
    old.expect_closed();
    let lasted = start.elapsed();
    assert!(
        lasted > Duration::from_secs(1) && lasted < Duration::from_secs(8),
        "{lasted:?}"
    );
    refused(&broker, &short);
}

#[test]
fn keys_are_fetched_and_fetched_again() {
    let public =
        |x: &str| json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "kid": x, "x": x });
    // The last 32 bytes of an Ed25519 key in PEM are the key.
    let raw = |pem: &str| {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::engine::general_purpose::STANDARD
            .decode(body)
            .unwrap();
        URL_SAFE_NO_PAD.encode(&der[der.len() - 32..])
    };
    let own = raw(ED_PUBLIC);
    let ready = Arc::new(AtomicBool::new(false));
    let (is_ready, key) = (Arc::clone(&ready), public(&own));
    let server = HttpServer::start(move |_, _| match is_ready.load(Ordering::SeqCst) {
        true => Some((200, json!({ "keys": [{ "kty": "new" }, key] }).to_string())),
        false => Some((500, String::new())),
    });
    let broker = Broker::with(&format!(
        "authentication.chain = [\"jwt\"]\njwt.jwks_url = \"{}\"\njwt.jwks_refresh_s = 1",
        server.url("/keys")
    ));
    broker.expect_log(&["WARN", "cannot fetch keys", "status 500"]);
    let mut header = Header::new(Algorithm::EdDSA);
    header.kid = Some(own);
    let key = EncodingKey::from_ed_pem(ED).unwrap();
    let good = encode(&header, &claims(json!({})), &key).unwrap();
    refused(&broker, &good);
    ready.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(1_200));
    accepted(&broker, &good);
    header.kid = Some("unknown".into());
    refused(&broker, &encode(&header, &claims(json!({})), &key).unwrap());
}

#[test]
fn a_set_of_keys_in_a_file_is_read_and_bad_keys_stop_a_start() {
    let files = Files::new();
    let secret = URL_SAFE_NO_PAD.encode(SECRET);
    let set = json!({ "keys": [{ "kty": "oct", "kid": "one", "alg": "HS256", "k": secret }] });
    let path = files.write("set.json", set.to_string());
    let broker = Broker::with(&format!(
        "authentication.chain = [\"jwt\"]\njwt.jwks_file = \"{path}\"\njwt.algorithms = [\"HS256\"]"
    ));
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    accepted(&broker, &token(Algorithm::HS256, &key, &claims(json!({}))));
    drop(broker);
    for (name, content) in [
        ("short", "too short"),
        ("private", std::str::from_utf8(RSA).unwrap()),
        (
            "broken",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        ),
    ] {
        let path = files.write(name, content);
        let config = format!("[authentication]\nchain = [\"jwt\"]\n[jwt]\nkey_file = \"{path}\"\n");
        let config = files.write("r.toml", config);
        let output = std::process::Command::new(crate::support::broker::binary())
            .args(["check", &config])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && text.contains(&path),
            "{name}: {text}"
        );
    }
}
