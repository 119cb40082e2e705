//! Topic Filters (4.7) and shared subscriptions' filters (4.8.2): what a client subscribes to.

/// What is wrong with a Topic Filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// [MQTT-4.7.3-1]
    #[error("it is empty")]
    Empty,
    /// [MQTT-4.7.1-1]
    #[error("'#' is not its last level, alone")]
    MultiLevelWildcard,
    /// [MQTT-4.7.1-2]
    #[error("'+' does not stand alone in its level")]
    SingleLevelWildcard,
    /// [MQTT-4.8.2-1]
    #[error("the Share Name is empty or has a wildcard")]
    ShareName,
}

/// A Topic Filter as it stands in SUBSCRIBE, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicFilter<'a> {
    /// The Share Name of `$share/NAME/FILTER`.
    pub share_name: Option<&'a str>,
    /// The Topic Filter, without the share part.
    pub filter: &'a str,
}

impl<'a> TopicFilter<'a> {
    /// Checks `text` and takes it apart.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, FilterError> {
        let Some(shared) = text.strip_prefix("$share/") else {
            validate(text)?;
            return Ok(Self {
                share_name: None,
                filter: text,
            });
        };
        let (share_name, filter) = shared.split_once('/').ok_or(FilterError::ShareName)?;
        if share_name.is_empty() || share_name.contains(['+', '#']) {
            return Err(FilterError::ShareName);
        }
        validate(filter)?;
        Ok(Self {
            share_name: Some(share_name),
            filter,
        })
    }
}

/// Checks a filter without a share part.
///
/// # Errors
/// What is wrong with it.
pub fn validate(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.peek().is_some()) {
            return Err(FilterError::MultiLevelWildcard);
        }
        if level.contains('+') && level != "+" {
            return Err(FilterError::SingleLevelWildcard);
        }
    }
    Ok(())
}

/// Whether a valid filter has a wildcard.
#[inline]
pub fn has_wildcards(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// Whether a valid `filter` matches the Topic Name `topic` (4.7): the plain definition, level by level,
/// which indexes are tested against.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1]
    }
    let mut filter_levels = filter.split('/');
    let mut topic_levels = topic.split('/');
    loop {
        match (filter_levels.next(), topic_levels.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_checked_level_by_level() {
        for good in [
            "a",
            "/",
            "#",
            "+",
            "a/+/b",
            "a/#",
            "+/+",
            "/#",
            "$SYS/#",
            "a//b",
            "$share",
            "$sharex/a",
        ] {
            assert!(TopicFilter::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a#",
            "#/a",
            "a/#/b",
            "a+",
            "+a/b",
            "$share/",
            "$share/g",
            "$share//a",
            "$share/g+/a",
            "$share/g/",
            "$share/g/a#",
        ] {
            assert!(TopicFilter::parse(bad).is_err(), "{bad}");
        }
        let shared = TopicFilter::parse("$share/group/a/+");
        assert_eq!(
            shared,
            Ok(TopicFilter {
                share_name: Some("group"),
                filter: "a/+"
            })
        );
    }

    #[test]
    fn the_specifications_examples_match() {
        for topic in [
            "sport/tennis/player1",
            "sport/tennis/player1/ranking",
            "sport/tennis/player1/score/wimbledon",
        ] {
            assert!(matches("sport/tennis/player1/#", topic));
        }
        assert!(matches("sport/#", "sport"));
        assert!(matches("sport/tennis/+", "sport/tennis/player2"));
        assert!(!matches("sport/tennis/+", "sport/tennis/player1/ranking"));
        assert!(!matches("sport/+", "sport"));
        assert!(matches("sport/+", "sport/"));
        assert!(
            matches("+/+", "/finance") && matches("/+", "/finance") && !matches("+", "/finance")
        );
        assert!(!matches("#", "$SYS/a") && !matches("+/monitor/Clients", "$SYS/monitor/Clients"));
        assert!(matches("$SYS/#", "$SYS/a") && matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
    }
}
