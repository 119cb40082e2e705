//! The nearest name to one that does not exist.

use super::keys::Section;
use super::table::KEYS;

/// How alike two names must be (Jaro-Winkler) to be taken for each other.
const ALIKE: f64 = 0.8;

/// The candidate that looks most like `name`, if any does.
pub fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// What the author of an unknown key may have meant, for the end of a message.
pub fn meant(section: Section, name: &str) -> String {
    // The right name in the wrong place is likelier than a misspelling.
    if let Some(key) = KEYS.iter().find(|key| key.name == name) {
        return match key.section {
            Section::Top => "it belongs to the top, before the first [section]".into(),
            other => format!("it belongs to {}", other.header()),
        };
    }
    let keys = section.keys().map(|key| key.name);
    let sections = Section::ALL
        .into_iter()
        .map(Section::name)
        .filter(|name| section == Section::Top && !name.is_empty());
    if let Some(near) = nearest(name, keys.chain(sections)) {
        return format!("did you mean \"{near}\"?");
    }
    let elsewhere = nearest(name, KEYS.iter().map(|key| key.name));
    if let Some(key) = elsewhere.and_then(|near| KEYS.iter().find(|key| key.name == near)) {
        return format!("did you mean {}?", key.path());
    }
    let keys: Vec<_> = section.keys().map(|key| key.name).collect();
    match section {
        Section::Top => format!(
            "there are {} and the sections {}",
            keys.join(", "),
            Section::ALL[1..]
                .iter()
                .map(|section| section.header())
                .collect::<Vec<_>>()
                .join(", ")
        ),
        _ => format!("{} has {}", section.header(), keys.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_misplaced_and_unheard_of_keys() {
        let session = Section::Session;
        assert_eq!(
            meant(session, "inflight_max"),
            "did you mean \"in_flight_max\"?"
        );
        assert_eq!(
            meant(session, "output_bytes_max"),
            "it belongs to [network]"
        );
        assert!(meant(session, "shards").starts_with("it belongs to the top"));
        assert_eq!(
            meant(Section::Top, "listeners"),
            "did you mean \"listener\"?"
        );
        assert!(meant(Section::Shared, "zzz").contains("strategy"));
        assert!(meant(Section::Top, "zzz").contains("[[listener]]"));
    }
}
