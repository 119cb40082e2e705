//! Users and groups of this machine, for the owners of Unix sockets.
//!
//! Used when a configuration is checked, and again when a listener is made.

/// The number of a user, which may be given as a name or as the number itself.
pub fn user(name: &str) -> Option<u32> {
    number(name, "/etc/passwd")
}

/// The number of a group, which may be given as a name or as the number itself.
pub fn group(name: &str) -> Option<u32> {
    number(name, "/etc/group")
}

/// The users of this machine: numbers and names.
pub fn users() -> impl Iterator<Item = (u32, Box<str>)> {
    let database = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        Some((fields.nth(1)?.parse().ok()?, name.into()))
    };
    let users: Vec<_> = database.lines().filter_map(user).collect();
    users.into_iter()
}

/// Looks into the local database, `name:x:NUMBER:...`.
fn number(name: &str, file: &str) -> Option<u32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let database = std::fs::read_to_string(file).ok()?;
    let line = database
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(user("root"), Some(0));
        assert_eq!(group("root"), Some(0));
        assert_eq!(user("4711"), Some(4711));
        assert_eq!(user("no such user"), None);
        assert_eq!(group(""), None);
    }
}
