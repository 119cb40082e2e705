//! What a completion is for: kind, generation and slot in the 64 bits that the kernel hands back.

/// A slot of the ring with its generation: one connection, listener or other user of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// The place in the ring's table.
    pub slot: u32,
    /// Tells users of the same slot apart, 28 bits.
    pub generation: u32,
}

/// Which operation of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Accept = 1,
    Receive = 2,
    Send = 3,
    Doorbell = 4,
    Cancel = 5,
    Timeout = 6,
}

/// Generations wrap here.
pub(super) const GENERATION_MASK: u32 = (1 << 28) - 1;

pub(super) fn pack(kind: Kind, token: Token) -> u64 {
    (kind as u64) << 60
        | u64::from(token.generation & GENERATION_MASK) << 32
        | u64::from(token.slot)
}

pub(super) fn unpack(user_data: u64) -> (Option<Kind>, Token) {
    let kind = match user_data >> 60 {
        1 => Some(Kind::Accept),
        2 => Some(Kind::Receive),
        3 => Some(Kind::Send),
        4 => Some(Kind::Doorbell),
        5 => Some(Kind::Cancel),
        6 => Some(Kind::Timeout),
        _ => None,
    };
    // The lower half, and the 28 bits above it.
    let token = Token {
        slot: user_data as u32,
        generation: (user_data >> 32) as u32 & GENERATION_MASK,
    };
    (kind, token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let token = Token {
            slot: u32::MAX,
            generation: GENERATION_MASK,
        };
        for kind in [
            Kind::Accept,
            Kind::Receive,
            Kind::Send,
            Kind::Doorbell,
            Kind::Cancel,
            Kind::Timeout,
        ] {
            assert_eq!(unpack(pack(kind, token)), (Some(kind), token));
        }
    }
}
