//! Topic rules and roles as JSON, from tokens and HTTP answers.
//!
//! Rules are a list of objects like `{"permit": "publish", "filter": "a/%c/#"}`; a denial has `deny` instead
//! of `permit`.

use std::sync::Arc;

use serde_json::Value;

use crate::broker::authorization::parse::verb_of;
use crate::broker::authorization::rules::{Rule, Rules};
use crate::mqtt::topic_filter::validate;

/// Rules that one token or one answer may have.
const RULES_MAX: usize = 1024;

/// Reads rules.
///
/// # Errors
/// What is wrong with them: who carries bad rules is refused.
pub fn rules(value: &Value) -> Result<Arc<Rules>, String> {
    let list = value.as_array().ok_or("the rules are no list")?;
    if list.len() > RULES_MAX {
        return Err(format!("there are more than {RULES_MAX} rules"));
    }
    let rules: Result<Vec<Rule>, String> = list.iter().map(rule).collect();
    Ok(Arc::new(Rules::new(rules?, [])))
}

fn rule(value: &Value) -> Result<Rule, String> {
    let object = value.as_object().ok_or("a rule is no object")?;
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let (permit, verb) = match (text("permit"), text("deny")) {
        (Some(verb), None) => (true, verb),
        (None, Some(verb)) => (false, verb),
        _ => return Err("a rule needs permit or deny".into()),
    };
    let (publish, subscribe) = verb_of(verb)?;
    let filter = text("filter").ok_or("a rule has no filter")?;
    validate(filter).map_err(|error| format!("the filter \"{filter}\" is not valid: {error}"))?;
    match object.len() == 2 {
        // Who does not understand all of a rule must not follow a part of it.
        false => Err("a rule has other keys than permit, deny and filter".into()),
        true => Ok(Rule {
            conditions: Vec::new(),
            permit,
            publish,
            subscribe,
            filter: filter.into(),
        }),
    }
}

/// Reads roles: a list of words, or words with blanks between them.
pub fn roles(value: &Value) -> Vec<Box<str>> {
    match value {
        Value::String(text) => text.split_whitespace().map(Into::into).collect(),
        Value::Array(list) => list
            .iter()
            .filter_map(Value::as_str)
            .map(Into::into)
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rules_are_read_whole_or_not_at_all() {
        let good =
            json!([{"permit": "both", "filter": "a/#"}, {"deny": "publish", "filter": "%u"}]);
        assert_eq!(rules(&good).unwrap().len(), 2);
        for bad in [
            json!({}),
            json!([{"permit": "both"}]),
            json!([{"permit": "write", "filter": "a"}]),
            json!([{"permit": "both", "deny": "both", "filter": "a"}]),
            json!([{"permit": "both", "filter": "a#"}]),
            json!([{"permit": "both", "filter": "a", "qos": 1}]),
            json!(["a"]),
        ] {
            assert!(rules(&bad).is_err(), "{bad}");
        }
        assert_eq!(roles(&json!("a b")), roles(&json!(["a", "b"])));
        assert!(roles(&json!(7)).is_empty());
    }
}
