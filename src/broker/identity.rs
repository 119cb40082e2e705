//! What a connection says about its client before CONNECT does.
//!
//! Made by `shard` from the transport and the socket, kept with the connection for authentication.

/// Who a client is, by certificate or by the kernel's word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The certificate that it has shown, which is good.
    pub certificate: Option<Certificate>,
    /// The process at the other end of a Unix socket.
    pub unix_peer: Option<UnixPeer>,
}

/// A client's certificate, whose chain, times and revocation are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Who the client is: the part that `tls_identity` names. `None` if the certificate has no such part, or
    /// one with control characters.
    pub name: Option<String>,
    /// Its whole subject, as `CN=a,O=b`; empty if it has none that can be written.
    pub subject: String,
}

/// A process of this machine, as the kernel tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixPeer {
    /// User number.
    pub user: u32,
    /// Group number.
    pub group: u32,
    /// Process number.
    pub process: i32,
}
