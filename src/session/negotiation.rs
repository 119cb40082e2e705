//! What CONNECT asks for and the listener's limits allow: the terms of one Network Connection.
//!
//! Called by `broker::connect`. Pure: from the packet and the limits to [`Terms`]; the CONNACK properties
//! follow from the terms.

use crate::config::limits::{ListenerLimits, SessionLimits};
use crate::mqtt::data_types::ProtocolVersion;
use crate::mqtt::packet::connect::Connect;
use crate::mqtt::properties::Properties;

/// A Session Expiry Interval that never ends [3.1.2.11.2].
pub const SESSION_NEVER_EXPIRES: u32 = u32::MAX;

/// The terms of one Network Connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The protocol version.
    pub version: ProtocolVersion,
    /// How many QoS 1 and 2 messages the broker may have unacknowledged towards the client.
    pub in_flight_max: u16,
    /// The largest packet that the client takes, bytes.
    pub packet_bytes_max: u32,
    /// How many Topic Aliases the broker may use towards the client.
    pub outbound_alias_max: u16,
    /// Keep Alive in force, seconds; 0 is none.
    pub keep_alive_s: u16,
    /// Whether CONNECT asked for a session that outlives the connection, whatever became of it.
    pub session_expiry_asked: bool,
    /// Whether Reason String and User Properties may go into any packet [MQTT-3.1.2-29].
    pub problem_information: bool,
}

impl Terms {
    /// The terms that hold until CONNECT is read: nothing may be sent but a refusal.
    pub fn before_connect() -> Self {
        Self {
            version: ProtocolVersion::V3_1_1,
            in_flight_max: 0,
            packet_bytes_max: u32::MAX,
            outbound_alias_max: 0,
            keep_alive_s: 0,
            session_expiry_asked: false,
            problem_information: true,
        }
    }

    /// The terms that follow from `connect` under the limits of its listener.
    pub fn negotiate(
        connect: &Connect<'_>,
        listener: &ListenerLimits,
        session: &SessionLimits,
    ) -> Self {
        let version = connect.protocol_version;
        let properties = &connect.properties;
        let client_receive_maximum = properties.receive_maximum.unwrap_or(u16::MAX);
        Self {
            version,
            in_flight_max: client_receive_maximum.min(session.in_flight_max),
            packet_bytes_max: properties.maximum_packet_size.unwrap_or(u32::MAX),
            outbound_alias_max: properties
                .topic_alias_maximum
                .unwrap_or(0)
                .min(listener.topic_alias_maximum_outgoing),
            keep_alive_s: keep_alive(connect.keep_alive_s, listener, version),
            session_expiry_asked: properties.session_expiry_interval_s.unwrap_or(0) > 0,
            problem_information: properties.request_problem_information.unwrap_or(true),
        }
    }

    /// What CONNACK says about the terms: what differs from the specification's defaults, and what the
    /// broker is able to do (3.2.2.3).
    pub fn connack<'a>(
        &self,
        asked: &Connect<'_>,
        session_expiry_interval_s: u32,
        listener: &'a ListenerLimits,
    ) -> Properties<'a> {
        let capabilities = &listener.capabilities;
        let asked_expiry = asked.properties.session_expiry_interval_s.unwrap_or(0);
        let maximum_qos = capabilities.maximum_qos;
        let wants_response = asked.properties.request_response_information == Some(true);
        Properties {
            session_expiry_interval_s: (asked_expiry != session_expiry_interval_s)
                .then_some(session_expiry_interval_s),
            receive_maximum: Some(capabilities.receive_maximum),
            maximum_qos: (maximum_qos < 2).then_some(maximum_qos == 1),
            retain_available: (!capabilities.retain_available).then_some(false),
            maximum_packet_size: Some(listener.packet_bytes_max),
            topic_alias_maximum: Some(capabilities.topic_alias_maximum),
            wildcard_subscription_available: Some(capabilities.wildcard_subscription_available),
            subscription_identifiers_available: Some(
                capabilities.subscription_identifiers_available,
            ),
            shared_subscription_available: Some(capabilities.shared_subscription_available),
            server_keep_alive_s: (self.keep_alive_s != asked.keep_alive_s)
                .then_some(self.keep_alive_s),
            response_information: listener
                .response_information
                .as_deref()
                .filter(|_| wants_response), // [MQTT-3.1.2-28]
            ..Properties::default()
        }
    }
}

/// CONNACK for a client that takes only small packets: without what may be left out, and without what says
/// no more than its absence (3.2.2.3).
pub fn shortened(properties: Properties<'_>) -> Properties<'_> {
    let no = |available: &bool| !available;
    Properties {
        reason_string: None,
        response_information: None,
        wildcard_subscription_available: properties.wildcard_subscription_available.filter(no),
        subscription_identifiers_available: properties
            .subscription_identifiers_available
            .filter(no),
        shared_subscription_available: properties.shared_subscription_available.filter(no),
        ..properties
    }
}

/// A longer Keep Alive than the listener's maximum, or none where there is a maximum, becomes the maximum.
/// Only a 5.0 client can be told (Server Keep Alive), so only for it does the value change [MQTT-3.1.2-21].
fn keep_alive(asked_s: u16, listener: &ListenerLimits, version: ProtocolVersion) -> u16 {
    let maximum_s = listener.keep_alive_s_max;
    match (version.is_v5(), maximum_s) {
        (false, _) | (true, 0) => asked_s,
        (true, _) if asked_s == 0 => maximum_s,
        (true, _) => asked_s.min(maximum_s),
    }
}

/// How long the session lives after the connection, seconds. In 3.1 and 3.1.1 a session that is not clean has
/// no expiry of its own: the configured one is used.
pub fn session_expiry_interval_s(connect: &Connect<'_>, session: &SessionLimits) -> u32 {
    let asked = match (connect.protocol_version.is_v5(), connect.clean_start) {
        (true, _) => connect.properties.session_expiry_interval_s.unwrap_or(0),
        (false, true) => 0,
        (false, false) => session.persistent_v3_expiry_interval_s,
    };
    asked.min(session.session_expiry_interval_s_max)
}
