//! ACL files: from text to rules, with every mistake and its line.
//!
//! RingMQ's own syntax has one rule a line: conditions, what is permitted or denied, and a Topic Filter.
//! Mosquitto's `acl_file` is read too, with its order: what it denies comes before what it permits.

use crate::mqtt::topic_filter::validate;

use super::rules::{Condition, Rule, Rules};

/// Reads RingMQ's own syntax.
///
/// # Errors
/// All mistakes, each with its line.
pub fn parse(text: &str) -> Result<Rules, Vec<String>> {
    let mut rules = Vec::new();
    let mut groups = Vec::new();
    let mut errors = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let words = match words(line) {
            Ok(words) if words.is_empty() => continue,
            Ok(words) => words,
            Err(error) => {
                errors.push(format!("line {number}: {error}"));
                continue;
            }
        };
        if words[0] == "group" {
            match &words[1..] {
                [group, users @ ..] if !users.is_empty() => {
                    groups.extend(users.iter().map(|user| (group.clone(), user.clone())));
                }
                _ => errors.push(format!("line {number}: expected \"group NAME USER...\"")),
            }
            continue;
        }
        match rule(&words) {
            Ok(rule) => rules.push(rule),
            Err(error) => errors.push(format!("line {number}: {error}")),
        }
    }
    match errors.is_empty() {
        true => Ok(Rules::new(rules, groups)),
        false => Err(errors),
    }
}

/// The words of a line, without its comment. A word in quotes may have blanks and `#`.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut chars = line.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.peek() {
            None => return Ok(words),
            // A comment stands at the beginning of a line: `#` is also a filter.
            Some('#') if words.is_empty() => return Ok(words),
            Some('"') => {
                chars.next();
                let mut word = String::new();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        Some('\\') => word.extend(chars.next()),
                        Some(c) => word.push(c),
                        None => return Err("a quote is not closed".into()),
                    }
                }
                words.push(word);
            }
            Some(_) => {
                let mut word = String::new();
                while let Some(c) = chars.next_if(|c| !c.is_whitespace()) {
                    word.push(c);
                }
                words.push(word);
            }
        }
    }
}

fn rule(words: &[String]) -> Result<Rule, String> {
    let mut conditions = Vec::new();
    let mut rest = words;
    loop {
        let (kind, value) = match rest {
            [kind, ..] if kind == "all" => {
                rest = &rest[1..];
                continue;
            }
            [kind, ..] if kind == "anonymous" => {
                conditions.push(Condition::Anonymous);
                rest = &rest[1..];
                continue;
            }
            [kind, value, ..] => (kind.as_str(), value),
            _ => break,
        };
        conditions.push(match kind {
            "user" => Condition::User(value.as_str().into()),
            "client" => Condition::Client(value.as_str().into()),
            "role" => Condition::Role(value.as_str().into()),
            "certificate" => Condition::Certificate(value.as_str().into()),
            "address" => Condition::Address(value.parse()?),
            _ => break,
        });
        rest = &rest[2..];
    }
    // By the first one rules are found, and names find better than the rest.
    conditions.sort_by_key(|condition| match condition {
        Condition::Client(_) => 0,
        Condition::User(_) => 1,
        Condition::Role(_) => 2,
        _ => 3,
    });
    let permit = rest.first().is_none_or(|word| word != "deny");
    if !permit {
        rest = &rest[1..];
    }
    let (publish, subscribe, filter) = match rest {
        [verb, filter] => {
            let (publish, subscribe) = verb_of(verb)?;
            (publish, subscribe, filter)
        }
        [filter] if !permit => (true, true, filter),
        [] => return Err("expected publish, subscribe, both or deny".into()),
        [word, ..] => {
            return Err(format!(
                "\"{word}\": expected publish, subscribe, both or deny, and one Topic Filter"
            ));
        }
    };
    validate(filter)
        .map_err(|error| format!("the Topic Filter \"{filter}\" is not valid: {error}"))?;
    Ok(Rule {
        conditions,
        permit,
        publish,
        subscribe,
        filter: filter.as_str().into(),
    })
}

/// What a verb is about: publishing, subscribing.
pub fn verb_of(verb: &str) -> Result<(bool, bool), String> {
    match verb {
        "publish" => Ok((true, false)),
        "subscribe" => Ok((false, true)),
        "both" => Ok((true, true)),
        _ => Err(format!("\"{verb}\": expected publish, subscribe or both")),
    }
}

/// Reads Mosquitto's syntax.
///
/// # Errors
/// All mistakes, each with its line.
pub fn parse_mosquitto(text: &str) -> Result<Rules, Vec<String>> {
    let (mut denials, mut rules, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    let mut user: Option<&str> = None;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let condition = match (word, user) {
            ("user", _) if !rest.is_empty() => {
                user = Some(rest);
                continue;
            }
            ("topic", Some(user)) => Some(Condition::User(user.into())),
            ("topic", None) => Some(Condition::Anonymous),
            ("pattern", _) => None,
            _ => {
                errors.push(format!(
                    "line {number}: expected \"user NAME\", \"topic ...\" or \"pattern ...\""
                ));
                continue;
            }
        };
        match mosquitto_rule(condition, rest, word == "pattern") {
            Ok(rule) if rule.permit => rules.push(rule),
            Ok(rule) => denials.push(rule),
            Err(error) => errors.push(format!("line {number}: {error}")),
        }
    }
    denials.append(&mut rules);
    match errors.is_empty() {
        true => Ok(Rules::new(denials, [])),
        false => Err(errors),
    }
}

fn mosquitto_rule(
    condition: Option<Condition>,
    rest: &str,
    has_places: bool,
) -> Result<Rule, String> {
    let (access, filter) = match rest.split_once(char::is_whitespace) {
        Some((access @ ("read" | "write" | "readwrite" | "deny"), filter)) => {
            (access, filter.trim())
        }
        _ => ("readwrite", rest),
    };
    validate(filter)
        .map_err(|error| format!("the Topic Filter \"{filter}\" is not valid: {error}"))?;
    if !has_places && super::filter::has_places(filter) {
        return Err(format!("\"{filter}\": %u and %c stand in patterns only"));
    }
    Ok(Rule {
        conditions: condition.into_iter().collect(),
        permit: access != "deny",
        publish: access != "read",
        subscribe: access != "write",
        filter: filter.into(),
    })
}
