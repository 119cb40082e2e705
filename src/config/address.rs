//! Where a listener listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// A TCP address and port, or the path of a Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// `127.0.0.1:1883` or `[::1]:1883`; port 0 lets the kernel choose.
    Tcp(SocketAddr),
    /// `unix:/run/ringmq.sock`.
    Unix(PathBuf),
}

impl ListenAddress {
    /// Whether only programs on this machine can reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(format!(
                    "\"{text}\": the path of a Unix socket must start with '/'"
                )),
            };
        }
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("\"{text}\" is no address; write it like 127.0.0.1:1883, [::1]:1883 or unix:/run/ringmq.sock")
        })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
