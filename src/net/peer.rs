//! Who is at the other end of a connection.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsFd;

/// The address of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// IPv4 address and port.
    V4(SocketAddrV4),
    /// IPv6 address and port; boxed, since every connection has a `PeerAddress`.
    V6(Box<SocketAddrV6>),
    /// A program on this machine.
    Unix,
    /// The connection was gone before it could be asked.
    Unknown,
}

impl PeerAddress {
    /// The peer of a connected socket.
    pub fn of(socket: impl AsFd) -> Self {
        match socket2::SockRef::from(&socket).peer_addr() {
            Ok(address) => match address.as_socket() {
                Some(SocketAddr::V4(address)) => Self::V4(address),
                Some(SocketAddr::V6(address)) => Self::V6(Box::new(address)),
                None => Self::Unix,
            },
            Err(_) => Self::Unknown,
        }
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}
