//! Configuration: what the file says, checked, and what the broker runs with.

pub mod access;
pub mod address;
pub mod change;
pub mod cpu_list;
pub mod doors;
pub mod error;
pub mod keys;
pub mod limits;
pub mod owner;
pub mod profile;
pub mod raw;
pub mod reference;
pub mod resolved;
pub mod table;
mod unknown;

pub use error::{ConfigError, ConfigErrors};
pub use profile::Profile;
pub use raw::{free_listener_name, load, parse, same_place};
pub use reference::{explain, reference_markdown, to_toml};
pub use resolved::{AdminConfig, Config, Listener, LogConfig, LogFormat, Redirect, SharedStrategy};
