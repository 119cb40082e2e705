//! Topic Names (4.7): what a message is published to.

use super::error::DecodeError;

const SEPARATOR: u8 = b'/';

/// Checks a Topic Name: at least one character [MQTT-4.7.3-1] and no wildcards [MQTT-3.3.2-2]. U+0000 and
/// bad UTF-8 were refused when the string was read.
///
/// # Errors
/// Topic Name invalid.
#[inline]
pub fn validate(name: &str) -> Result<(), DecodeError> {
    if name.is_empty() {
        return Err(DecodeError::TopicNameInvalid("a Topic Name is empty"));
    }
    match name.bytes().any(|byte| byte == b'+' || byte == b'#') {
        true => Err(DecodeError::TopicNameInvalid(
            "a Topic Name contains a wildcard character",
        )),
        false => Ok(()),
    }
}

/// How many Topic Levels `text` has.
pub fn level_count(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == SEPARATOR).count() + 1
}
