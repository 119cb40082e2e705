//! Topic Aliases of one Network Connection, in both directions.
//!
//! An alias lives as long as its connection and never in the session [MQTT-3.3.2-7]; a message that is
//! queued or sent again carries its whole Topic Name.

use std::num::NonZeroU16;

use hashbrown::HashMap;

use crate::mqtt::reason_code::ReasonCode;

/// The aliases that the client has set for its own PUBLISH packets.
#[derive(Debug, Default)]
pub struct InboundAliases {
    /// Indexed by alias less one; never longer than the Topic Alias Maximum that the broker gave.
    topics: Vec<Option<Box<str>>>,
}

impl InboundAliases {
    /// Sets `alias` to `topic`.
    ///
    /// # Errors
    /// Topic Alias invalid if it is over `maximum` [MQTT-3.3.2-9].
    pub fn set(&mut self, alias: NonZeroU16, topic: &str, maximum: u16) -> Result<(), ReasonCode> {
        if alias.get() > maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let position = usize::from(alias.get()) - 1;
        if position >= self.topics.len() {
            self.topics.resize(position + 1, None);
        }
        let slot = &mut self.topics[position];
        if slot.as_deref() != Some(topic) {
            *slot = Some(topic.into());
        }
        Ok(())
    }

    /// The Topic Name behind `alias`.
    ///
    /// # Errors
    /// Topic Alias invalid if it is over `maximum`, Protocol Error if it was never set (3.3.2.3.4).
    pub fn resolve(&self, alias: NonZeroU16, maximum: u16) -> Result<&str, ReasonCode> {
        if alias.get() > maximum {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        let slot = self.topics.get(usize::from(alias.get()) - 1);
        slot.and_then(Option::as_deref)
            .ok_or(ReasonCode::ProtocolError)
    }
}

/// How the broker may name a topic towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundAlias {
    /// Send the Topic Name; there is no alias for it.
    None,
    /// Send the Topic Name and the alias: it is new.
    New(NonZeroU16),
    /// Send the alias alone.
    Known(NonZeroU16),
}

/// The aliases that the broker has set towards a client.
///
/// Choice: aliases go to the first topics that are sent, and stay theirs. A client with few topics gets
/// them all; one with many costs no search for the least used.
#[derive(Debug)]
pub struct OutboundAliases {
    maximum: u16,
    /// At most `maximum` entries.
    aliases: HashMap<Box<str>, NonZeroU16, foldhash::fast::RandomState>,
}

impl OutboundAliases {
    /// Aliases up to `maximum`, the lower of the client's Topic Alias Maximum and the configured one.
    pub fn new(maximum: u16) -> Self {
        Self {
            maximum,
            aliases: HashMap::default(),
        }
    }

    /// How to name `topic` in a packet that surely goes out.
    pub fn name(&mut self, topic: &str) -> OutboundAlias {
        if let Some(alias) = self.aliases.get(topic) {
            return OutboundAlias::Known(*alias);
        }
        let next = u16::try_from(self.aliases.len())
            .ok()
            .and_then(|count| count.checked_add(1));
        match next
            .and_then(NonZeroU16::new)
            .filter(|alias| alias.get() <= self.maximum)
        {
            Some(alias) => {
                self.aliases.insert(topic.into(), alias);
                OutboundAlias::New(alias)
            }
            None => OutboundAlias::None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn alias(value: u16) -> NonZeroU16 {
        NonZeroU16::new(value).unwrap()
    }

    #[test]
    fn inbound_aliases_are_set_replaced_and_bounded() {
        let mut aliases = InboundAliases::default();
        assert_eq!(
            aliases.resolve(alias(2), 10),
            Err(ReasonCode::ProtocolError)
        );
        aliases.set(alias(2), "a/b", 10).unwrap();
        assert_eq!(aliases.resolve(alias(2), 10), Ok("a/b"));
        aliases.set(alias(2), "c", 10).unwrap();
        assert_eq!(aliases.resolve(alias(2), 10), Ok("c"));
        assert_eq!(
            aliases.resolve(alias(1), 10),
            Err(ReasonCode::ProtocolError)
        );
        assert_eq!(
            aliases.set(alias(11), "d", 10),
            Err(ReasonCode::TopicAliasInvalid)
        );
        assert_eq!(
            aliases.resolve(alias(11), 10),
            Err(ReasonCode::TopicAliasInvalid)
        );
    }

    #[test]
    fn outbound_aliases_stop_at_the_maximum() {
        let mut aliases = OutboundAliases::new(2);
        assert_eq!(aliases.name("a"), OutboundAlias::New(alias(1)));
        assert_eq!(aliases.name("b"), OutboundAlias::New(alias(2)));
        assert_eq!(aliases.name("c"), OutboundAlias::None);
        assert_eq!(aliases.name("a"), OutboundAlias::Known(alias(1)));
    }
}
