//! The web console: a few files that the broker carries with it and that load nothing from elsewhere.

/// The page.
pub const PAGE: &str = include_str!("index.html");
/// How it looks.
pub const STYLE: &str = include_str!("console.css");
/// What it does.
pub const SCRIPT: &str = include_str!("console.js");
/// Its MQTT client over WebSocket.
pub const MQTT: &str = include_str!("mqtt.js");
