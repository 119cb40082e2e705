//! Deliberate faults, which show that the simulator in `tests/simulation` finds such things.
//!
//! Only with the feature `deliberate-faults` can one be switched on, for the thread that does it; without it
//! [`on`] is a constant, and nothing of this is left in the broker.

/// Makes the enumeration of the faults, and from the doc of each a list of them all.
macro_rules! faults {
    ($($(#[doc = $what:literal])+ $fault:ident,)+) => {
        /// A fault at one point of the broker.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[doc = $what])+ $fault,)+
        }

        impl Fault {
            /// All of them, and what is wrong with each.
            pub const ALL: &[(Self, &str)] = &[$((Self::$fault, concat!($($what),+)),)+];
        }
    };
}

faults! {
    /// A SUBACK does not wait for the other shards.
    SubackEarly,
    /// A change is confirmed before what was published earlier has left.
    ConfirmEarly,
    /// A shard confirms that another wants an exact Topic Filter, and does not note it.
    InterestNotApplied,
    /// The other shards do not learn that nobody is interested any more.
    InterestKept,
    /// UNSUBSCRIBE is acknowledged and not done.
    UnsubscribeForgotten,
    /// No Local is ignored.
    NoLocalIgnored,
    /// RETAIN is never set.
    RetainFlagLost,
    /// A client with overlapping subscriptions gets a message for each of them.
    OverlappingTwice,
    /// The Subscription Identifiers of overlapping subscriptions are lost but for one.
    IdentifiersLost,
    /// A member of a shared group gets a message twice.
    SharedTwice,
    /// What a member of a shared group had not acknowledged is lost when the member goes.
    SharedLost,
    /// Large messages overtake small ones of the same batch between shards.
    BatchReordered,
    /// Messages of the outbox overtake those that are to be sent again.
    ResendOvertaken,
    /// What is sent again has no DUP.
    DupLost,
    /// What was in flight is not sent again on the next connection.
    WindowNotRestored,
    /// A PUBLISH is sent again although PUBREC has come.
    ReleaseForgotten,
    /// PUBREL is not sent again on the next connection.
    PubRelLost,
    /// A QoS 2 message that is sent again is routed again.
    ExactlyOnceTwice,
    /// The identifiers of received QoS 2 messages do not outlive the connection.
    InboundForgotten,
    /// Acknowledgements leave the outbox waiting.
    AcknowledgementIgnored,
    /// The client's Receive Maximum is exceeded by one.
    WindowTooWide,
    /// The Message Expiry Interval is counted down only once a minute.
    ExpiryNotCounted,
    /// Messages from an outbox are sent although they have expired.
    ExpiredSent,
    /// Messages from an outbox are sent although the client does not take packets so large.
    LargePacketSent,
    /// What a full outbox lets go is not counted.
    DropNotCounted,
    /// Session Present is set although the session is new.
    SessionPresentWrong,
    /// Clean Start goes on with the session that is there.
    CleanStartIgnored,
    /// Sessions do not expire.
    SessionKept,
    /// A Will is published twice, also when its client is taken over.
    WillTwice,
    /// A Will does not wait for its delay.
    WillEarly,
    /// A Will that waits is forgotten when its session ends.
    WillForgotten,
    /// A Will that waits is published although its client has come back.
    WillNotCancelled,
    /// A retained message comes after a newer live one.
    RetainedOlder,
    /// An empty payload does not clear a retained message.
    RetainedNotCleared,
    /// Retained messages that wait for the client are forgotten when it comes back.
    RetainedForgotten,
    /// A connection that is silent for longer than its Keep Alive lives on.
    KeepAliveIgnored,
    /// A connection that was paused stays so.
    PausedForEver,
}

#[cfg(feature = "deliberate-faults")]
mod switch {
    use std::cell::Cell;

    use super::Fault;

    thread_local! {
        static ON: Cell<Option<Fault>> = const { Cell::new(None) };
    }

    /// Switches a fault on for this thread, or all off.
    pub fn switch(fault: Option<Fault>) {
        ON.set(fault);
    }

    /// Whether a fault is on.
    pub fn on(fault: Fault) -> bool {
        ON.get() == Some(fault)
    }
}

#[cfg(feature = "deliberate-faults")]
pub use switch::{on, switch};

/// Whether a fault is on: none is.
#[cfg(not(feature = "deliberate-faults"))]
#[inline]
pub const fn on(_fault: Fault) -> bool {
    false
}
