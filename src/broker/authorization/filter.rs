//! Filters of rules: what they cover, and what stands in for `%u` and `%c`.

/// Whether every topic that `filter` matches is matched by `grant` as well, level by level. In doubt no: a
/// subscription is granted as a whole or not at all.
pub fn covers(grant: &str, filter: &str) -> bool {
    if filter.starts_with('$') && grant.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    let mut granted = grant.split('/');
    let mut wanted = filter.split('/');
    loop {
        match (granted.next(), wanted.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(literal), Some(level)) if literal == level && level != "#" => {}
            _ => return false,
        }
    }
}

/// Whether there is a topic that both filters match.
pub fn overlaps(one: &str, other: &str) -> bool {
    let apart = |dollar: &str, wild: &str| dollar.starts_with('$') && wild.starts_with(['+', '#']);
    if apart(one, other) || apart(other, one) {
        return false;
    }
    let (mut ones, mut others) = (one.split('/'), other.split('/'));
    loop {
        match (ones.next(), others.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some(a), Some(b)) if a == b || a == "+" || b == "+" => {}
            _ => return false,
        }
    }
}

/// Whether a filter has a place for the user name or the Client Identifier.
pub fn has_places(filter: &str) -> bool {
    filter.contains("%u") || filter.contains("%c")
}

/// The filter for one client. A value that would be more than a part of one Topic Level, or a wildcard,
/// stands for nothing: then a permission does not hold, and a denial holds for all that could be meant.
pub fn put_in_place(
    filter: &str,
    user_name: Option<&str>,
    client_identifier: &str,
    permit: bool,
) -> Option<String> {
    let safe = |value: &str| !value.is_empty() && !value.contains(['/', '+', '#', '\0']);
    let mut levels: Vec<String> = Vec::new();
    for level in filter.split('/') {
        let mut text = String::new();
        let mut rest = level;
        while let Some(at) = rest.find('%') {
            text.push_str(&rest[..at]);
            let value = match rest.as_bytes().get(at + 1) {
                Some(b'u') => user_name,
                Some(b'c') => Some(client_identifier),
                _ => {
                    text.push('%');
                    rest = &rest[at + 1..];
                    continue;
                }
            };
            match value.filter(|value| safe(value)) {
                Some(value) => text.push_str(value),
                None if permit => return None,
                None => {
                    levels.push("#".into());
                    return Some(levels.join("/"));
                }
            }
            rest = &rest[at + 2..];
        }
        text.push_str(rest);
        levels.push(text);
    }
    let put = levels.join("/");
    // A user name that begins with `$` must not reach what the rule's author did not write.
    match put.starts_with('$') && !filter.starts_with('$') && permit {
        true => None,
        false => Some(put),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topic_filter::matches;

    #[test]
    fn a_grant_covers_what_is_not_wider() {
        for (grant, filter) in [
            ("#", "a/b"),
            ("#", "#"),
            ("#", "+/+"),
            ("a/#", "a"),
            ("a/#", "a/+/b/#"),
            ("a/+", "a/b"),
            ("a/+", "a/+"),
            ("+/b", "a/b"),
            ("$SYS/#", "$SYS/broker/+"),
        ] {
            assert!(covers(grant, filter), "{grant} covers {filter}");
        }
        for (grant, filter) in [
            ("a/b", "a/+"),
            ("a/+", "a/#"),
            ("a/+", "#"),
            ("a/+", "a"),
            ("a/#", "+/#"),
            ("a/b/#", "a/#"),
            ("#", "$SYS/#"),
            ("+/#", "$SYS/a"),
            ("+", "#"),
        ] {
            assert!(!covers(grant, filter), "{grant} does not cover {filter}");
        }
    }

    #[test]
    fn cover_and_overlap_hold_for_every_small_topic() {
        let words = ["a", "b", "$s", "+", "#"];
        let mut filters = Vec::new();
        for one in words {
            filters.push(one.to_owned());
            if one == "#" {
                continue;
            }
            for two in words {
                filters.push(format!("{one}/{two}"));
                if two != "#" {
                    filters.extend(words.map(|three| format!("{one}/{two}/{three}")));
                }
            }
        }
        let topics: Vec<&String> = filters.iter().filter(|f| !f.contains(['+', '#'])).collect();
        for one in &filters {
            for other in &filters {
                let both = topics
                    .iter()
                    .any(|topic| matches(one, topic) && matches(other, topic));
                assert!(!both || overlaps(one, other), "{one} and {other}");
                if covers(one, other) {
                    for topic in &topics {
                        assert!(
                            !matches(other, topic) || matches(one, topic),
                            "{one} covers {other}, but not {topic}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn values_never_widen_a_grant() {
        let put = |value: &str, permit| put_in_place("d/%c/x", None, value, permit);
        assert_eq!(put("c1", true).as_deref(), Some("d/c1/x"));
        for escape in ["#", "+", "a/+", "a/b", "", "/", "a#"] {
            assert_eq!(put(escape, true), None, "{escape}");
            assert_eq!(put(escape, false).as_deref(), Some("d/#"), "{escape}");
        }
        assert_eq!(put_in_place("%u/#", None, "c", true), None);
        assert_eq!(
            put_in_place("50%/%u-%c", Some("u"), "c", true).as_deref(),
            Some("50%/u-c")
        );
        // What is put in is not looked at again.
        assert_eq!(
            put_in_place("%u/%c", Some("%c"), "x", true).as_deref(),
            Some("%c/x")
        );
        assert_eq!(put_in_place("%u/#", Some("$SYS"), "c", true), None);
        assert_eq!(
            put_in_place("$SYS/%u", Some("u"), "c", true).as_deref(),
            Some("$SYS/u")
        );
    }
}
