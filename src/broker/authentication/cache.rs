//! Credentials that were verified, so that a client that comes back costs no second hash.
//!
//! Held under a keyed hash with a secret of this start: neither passwords nor anything that could be tried
//! against a list of them is kept. Bounded by two generations: when the young one is half of the limit, the
//! old one is forgotten.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Credentials, Principal};

/// What stands for credentials.
pub type Key = [u8; 32];

type Generation = HashMap<Key, Entry, foldhash::fast::RandomState>;

#[derive(Clone, Debug)]
struct Entry {
    principal: Arc<Principal>,
    until_ms: u64,
}

/// Verified credentials of one shard.
#[derive(Debug, Default)]
pub struct VerifiedCredentials {
    young: Generation,
    old: Generation,
}

/// The key of credentials. `whole` takes the Client Identifier and the address in, where the verdict may
/// depend on them.
pub fn key(secret: &[u8; 32], credentials: &Credentials, whole: bool) -> Key {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    let mut part = |bytes: Option<&[u8]>| {
        let length = bytes.map_or(u64::MAX, |bytes| bytes.len() as u64);
        hasher.update(&length.to_le_bytes());
        hasher.update(bytes.unwrap_or(&[]));
    };
    part(Some(&credentials.listener.to_le_bytes()));
    part(credentials.user_name.as_deref().map(str::as_bytes));
    part(credentials.password.as_deref());
    if whole {
        part(Some(credentials.client_identifier.as_bytes()));
        let address = credentials.identity.address.map(|at| at.to_string());
        part(address.as_deref().map(str::as_bytes));
        part(
            credentials
                .identity
                .certificate
                .as_deref()
                .map(str::as_bytes),
        );
    }
    *hasher.finalize().as_bytes()
}

impl VerifiedCredentials {
    /// Who has shown these credentials, if that is remembered and still holds.
    pub fn find(&mut self, key: &Key, now_ms: u64, entries_max: u32) -> Option<Arc<Principal>> {
        let found = match self.young.get(key) {
            Some(entry) => entry.clone(),
            None => {
                let entry = self.old.remove(key)?;
                self.put(*key, entry.clone(), entries_max);
                entry
            }
        };
        (now_ms < found.until_ms).then_some(found.principal)
    }

    /// Remembers who has shown them.
    pub fn remember(
        &mut self,
        key: Key,
        principal: Arc<Principal>,
        until_ms: u64,
        entries_max: u32,
    ) {
        let entry = Entry {
            principal,
            until_ms,
        };
        self.put(key, entry, entries_max);
    }

    fn put(&mut self, key: Key, entry: Entry, entries_max: u32) {
        if self.young.len() >= (entries_max as usize / 2).max(1) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(user_name: &str, password: &str) -> Credentials {
        Credentials {
            listener: 0,
            client_identifier: "c".into(),
            user_name: Some(user_name.into()),
            password: Some(password.as_bytes().into()),
            identity: super::super::Identity::default(),
        }
    }

    #[test]
    fn keys_differ_by_every_part_and_by_the_secret() {
        let secret = [1; 32];
        let one = key(&secret, &credentials("ab", "c"), false);
        assert_eq!(one, key(&secret, &credentials("ab", "c"), false));
        assert_ne!(one, key(&secret, &credentials("a", "bc"), false));
        assert_ne!(one, key(&[2; 32], &credentials("ab", "c"), false));
        assert_ne!(one, key(&secret, &credentials("ab", "c"), true));
        let mut none = credentials("ab", "c");
        none.password = None;
        assert_ne!(one, key(&secret, &none, false));
    }

    #[test]
    fn what_is_remembered_ends_and_is_bounded() {
        let mut cache = VerifiedCredentials::default();
        let principal = Arc::new(Principal::named("u"));
        for number in 0..1000_u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_le_bytes());
            cache.remember(key, Arc::clone(&principal), 100, 10);
            assert!(cache.len() <= 10);
            assert!(cache.find(&key, 99, 10).is_some());
            assert!(cache.find(&key, 100, 10).is_none());
        }
        cache.clear();
        assert_eq!(cache.len(), 0);
    }
}
