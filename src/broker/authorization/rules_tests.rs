//! Tests of ACL files and of what their rules say.

use std::sync::Arc;

use super::parse::{parse, parse_mosquitto};
use super::rules::{Grants, Rules, Who};

fn grants(rules: Rules, who: &Who<'_>) -> Grants {
    Arc::new(rules).grants(who)
}

fn user<'a>(user_name: &'a str, client_identifier: &'a str) -> Who<'a> {
    Who {
        user_name: Some(user_name),
        client_identifier,
        ..Who::default()
    }
}

const FILE: &str = r##"
# Who may do what.
group operators alice "bob the second"
user mallory deny #
role operators address 10.0.0.0/8 both #
user alice publish alice/#
client c1 subscribe commands/c1
certificate device-7 publish devices/7/#
all deny subscribe secret/#
all subscribe public/#
all publish own/%u/%c
anonymous publish guest
"##;

#[test]
fn the_first_rule_that_speaks_of_it_decides() {
    let rules = || parse(FILE).unwrap();
    let alice = grants(rules(), &user("alice", "c1"));
    assert_eq!(alice.publish("alice/x"), Some(true));
    assert_eq!(alice.publish("bob/x"), None);
    assert_eq!(alice.publish("own/alice/c1"), Some(true));
    assert_eq!(alice.publish("own/alice/c2"), None);
    assert_eq!(alice.subscribe("commands/c1"), Some(true));
    assert_eq!(alice.subscribe("commands/+"), None);
    assert_eq!(alice.subscribe("public/#"), Some(true));
    assert_eq!(alice.subscribe("#"), Some(false), "a part of it is denied");
    assert_eq!(alice.publish("secret/x"), None);
    let mallory = grants(rules(), &user("mallory", "c1"));
    assert_eq!(mallory.publish("own/mallory/c1"), Some(false));
    assert_eq!(mallory.subscribe("public/a"), Some(false));
}

#[test]
fn roles_addresses_and_certificates_are_conditions() {
    let rules = Arc::new(parse(FILE).unwrap());
    let mut bob = user("bob the second", "x");
    assert_eq!(rules.grants(&bob).publish("any/thing"), None);
    bob.address = Some("10.1.2.3".parse().unwrap());
    assert_eq!(rules.grants(&bob).publish("any/thing"), Some(true));
    assert_eq!(rules.grants(&bob).subscribe("#"), Some(true));
    let roles = ["operators".into()];
    let mut carol = user("carol", "x");
    carol.roles = &roles;
    carol.address = Some("::ffff:10.0.0.1".parse().unwrap());
    assert_eq!(rules.grants(&carol).publish("any/thing"), Some(true));
    let device = Who {
        certificate: Some("device-7"),
        ..Who::default()
    };
    assert_eq!(rules.grants(&device).publish("devices/7/t"), Some(true));
    assert_eq!(rules.grants(&device).publish("guest"), Some(true));
    assert_eq!(rules.grants(&user("u", "c")).publish("guest"), None);
}

#[test]
fn a_client_identifier_is_no_wildcard() {
    let rules =
        Arc::new(parse("all both devices/%c/#\nall deny logs/%c/x\nall publish logs/#\n").unwrap());
    for escape in ["#", "+", "a/+", "a/b", "a/#", ""] {
        let who = user("u", escape);
        let grants = rules.grants(&who);
        for topic in ["devices/a/x", "devices/b", "devices/a/b/c"] {
            assert_eq!(grants.publish(topic), None, "{escape} to {topic}");
        }
        for filter in [
            "#",
            "devices/#",
            "devices/+/x",
            "devices/#/#",
            "devices/+/#",
        ] {
            assert_ne!(grants.subscribe(filter), Some(true), "{escape} to {filter}");
        }
        assert_eq!(grants.publish("logs/a/x"), Some(false), "{escape}");
    }
}

#[test]
fn every_mistake_has_its_line() {
    let text = "user alice\nuser bob publish a/#/b\nfrob x\naddress 1.2.3 both #\nuser \"x\n\
                group g\nuser a write x\nall publish a b\n";
    let errors = parse(text).unwrap_err();
    assert_eq!(errors.len(), 8, "{errors:#?}");
    for (number, error) in (1..).zip(&errors) {
        assert!(error.starts_with(&format!("line {number}: ")), "{error}");
    }
    assert!(parse("").unwrap().is_empty());
}

#[test]
fn mosquittos_file_means_what_it_means_there() {
    let text = "topic read anonymous/#\n\nuser roger\ntopic foo/bar\ntopic read $SYS/#\n\
                topic write only/write\nuser with blank\ntopic readwrite a b/c\ntopic deny a b/c\n\
                # comment\npattern readwrite devices/%u/%c/#\npattern read all/#\n";
    let rules = Arc::new(parse_mosquitto(text).unwrap());
    let roger = rules.grants(&user("roger", "c"));
    assert_eq!(roger.publish("foo/bar"), Some(true));
    assert_eq!(roger.subscribe("$SYS/broker/#"), Some(true));
    assert_eq!(roger.publish("$SYS/x"), None);
    assert_eq!(roger.publish("only/write"), Some(true));
    assert_eq!(roger.subscribe("only/write"), None);
    assert_eq!(roger.publish("devices/roger/c/x"), Some(true));
    assert_eq!(roger.subscribe("all/#"), Some(true));
    assert_eq!(roger.subscribe("anonymous/x"), None);
    let blank = rules.grants(&user("with blank", "c"));
    assert_eq!(blank.publish("a b/c"), Some(false), "deny comes first");
    let nobody = rules.grants(&Who::default());
    assert_eq!(nobody.subscribe("anonymous/x"), Some(true));
    assert_eq!(nobody.publish("anonymous/x"), None);
    let errors = parse_mosquitto("user\ntopic a/#/b\nfrob\nuser x\ntopic read a/%c\n").unwrap_err();
    assert_eq!(errors.len(), 4, "{errors:#?}");
}

#[test]
fn rules_for_everyone_are_found_by_their_topic() {
    let mut text = String::from("all deny publish t/5/x\nall publish +/5/y\n");
    for number in 0..1000 {
        text.push_str(&format!(
            "all publish t/{number}/x\nall publish t{number}/#\n"
        ));
    }
    let everyone = grants(parse(&text).unwrap(), &user("u", "c"));
    assert_eq!(everyone.publish("t/5/x"), Some(false));
    assert_eq!(everyone.publish("t/6/x"), Some(true));
    assert_eq!(everyone.publish("t17/a/b"), Some(true));
    assert_eq!(everyone.publish("q/5/y"), Some(true));
    assert_eq!(everyone.publish("t/6/y"), None);
    assert_eq!(everyone.publish("$t/5/y"), None);
}
