//! How connections come in: what a listener speaks below MQTT, and from whom it takes connections.
//!
//! Plain data of a listener, read through [`super::table`]; [`Doors::faults`] is what must hold between keys.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::address::ListenAddress;

/// Some peers: those of a network, or those of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// `10.0.0.0/8`, `2001:db8::/32`, or a single address.
    Ip(IpNet),
    /// `unix`: whoever reaches a Unix socket.
    Unix,
}

impl Network {
    /// Whether an address belongs to it; `None` is the peer of a Unix socket.
    pub fn contains(&self, address: Option<IpAddr>) -> bool {
        match (self, address) {
            (Self::Ip(network), Some(address)) => network.contains(&address.to_canonical()),
            (Self::Unix, None) => true,
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let network = text.parse::<IpNet>();
        let network = network.or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        network
            .map(|network| Self::Ip(network.trunc()))
            .map_err(|_| format!("\"{text}\" is no network"))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(network) if network.prefix_len() == network.max_prefix_len() => {
                network.addr().fmt(f)
            }
            Self::Ip(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}

/// Whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificate {
    /// It is not asked for one.
    #[default]
    None,
    /// It may show one, which must be good.
    Optional,
    /// It must show a good one.
    Required,
}

/// Which part of a client's certificate says who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertificateIdentity {
    /// The Common Name of its subject.
    #[default]
    CommonName,
    /// Its first Subject Alternative Name: a DNS name, an e-mail address or a URI.
    AlternativeName,
    /// Its whole subject, as `CN=a,O=b`.
    DistinguishedName,
}

/// The oldest TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// TLS of a listener. It is on when there are certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Files with a certificate chain each.
    pub certificates: Vec<String>,
    /// Files with the private keys, in the same order.
    pub keys: Vec<String>,
    /// The oldest version.
    pub version_min: TlsVersion,
    /// Whether clients show certificates.
    pub client_certificate: ClientCertificate,
    /// File with the authorities of client certificates.
    pub client_ca: Option<String>,
    /// Files with revoked client certificates.
    pub client_crls: Vec<String>,
    /// Who a client certificate stands for.
    pub identity: CertificateIdentity,
}

impl TlsOptions {
    /// Whether the listener speaks TLS.
    pub fn is_on(&self) -> bool {
        !self.certificates.is_empty()
    }

    /// All files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let lists = self.certificates.iter().chain(&self.keys);
        let clients = self.client_crls.iter().chain(&self.client_ca);
        lists.chain(clients).map(String::as_str)
    }
}

/// WebSocket of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketOptions {
    /// Whether MQTT comes in WebSocket frames.
    pub is_on: bool,
    /// The paths that are served; all if there are none.
    pub paths: Vec<String>,
    /// The origins of web pages that may connect; those of the listener's own host if there are none.
    pub origins: Vec<String>,
    /// Largest frame, bytes.
    pub frame_bytes_max: u32,
}

impl Default for WebSocketOptions {
    fn default() -> Self {
        Self {
            is_on: false,
            paths: Vec::new(),
            origins: Vec::new(),
            frame_bytes_max: 64 << 20,
        }
    }
}

/// How connections come in through a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doors {
    /// TLS.
    pub tls: TlsOptions,
    /// WebSocket.
    pub websocket: WebSocketOptions,
    /// Whether every connection begins with a PROXY header.
    pub proxy_protocol: bool,
    /// Who may tell the address of a client.
    pub trusted_proxies: Vec<Network>,
    /// Clients that may connect; all if there are none.
    pub allow: Vec<Network>,
    /// Clients that may not connect.
    pub deny: Vec<Network>,
}

impl Doors {
    /// Whether connections are plain MQTT from the first byte.
    pub fn are_plain(&self) -> bool {
        !self.tls.is_on() && !self.websocket.is_on && !self.proxy_protocol
    }

    /// Whether a client at this address may connect; `None` is the peer of a Unix socket.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        let among = |networks: &[Network]| networks.iter().any(|one| one.contains(address));
        !among(&self.deny) && (self.allow.is_empty() || among(&self.allow))
    }

    /// Whether a connection from this address is let in at all, by itself or because it may speak for a
    /// client whose address comes later.
    pub fn lets_in(&self, address: Option<IpAddr>) -> bool {
        match self.proxy_protocol {
            true => self.trusts(address),
            false => self.admits(address) || (self.websocket.is_on && self.trusts(address)),
        }
    }

    /// Whether a peer may tell the address of a client.
    pub fn trusts(&self, address: Option<IpAddr>) -> bool {
        self.trusted_proxies.iter().any(|one| one.contains(address))
    }

    /// What does not fit together: the key, and what is wrong with it.
    pub fn faults(&self, address: &ListenAddress) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        let mut fault = |key, message: &str| faults.push((key, message.to_owned()));
        let tls = &self.tls;
        if !tls.keys.is_empty() && tls.keys.len() != tls.certificates.len() {
            fault(
                "tls_keys",
                "must have one key for each of tls_certificates, in the same order; or leave it out if each key is in the file of its certificate",
            );
        }
        let asks = tls.client_certificate != ClientCertificate::None;
        if asks && !tls.is_on() {
            fault(
                "tls_client_certificate",
                "needs TLS: set tls_certificates, too",
            );
        }
        if asks && tls.client_ca.is_none() {
            fault(
                "tls_client_certificate",
                "needs tls_client_ca, the authorities that are trusted",
            );
        }
        if !asks && tls.client_ca.is_some() {
            fault(
                "tls_client_ca",
                "has no effect: set tls_client_certificate to \"optional\" or \"required\"",
            );
        }
        if !tls.client_crls.is_empty() && tls.client_ca.is_none() {
            fault("tls_client_crls", "needs tls_client_ca");
        }
        if self.proxy_protocol && self.trusted_proxies.is_empty() {
            fault(
                "proxy_protocol",
                "needs trusted_proxies, the addresses of the proxies; nobody else may tell a client's address",
            );
        }
        let unix = matches!(address, ListenAddress::Unix(_));
        let behind_a_proxy = self.proxy_protocol || self.websocket.is_on;
        let is_ruled = !self.allow.is_empty() || !self.deny.is_empty();
        if unix && is_ruled && !behind_a_proxy {
            fault(
                "allow",
                "has no effect on a Unix socket; use unix_owner, unix_group and unix_mode",
            );
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn deny_wins_over_allow_and_an_empty_allow_is_everybody() {
        let mut doors = Doors::default();
        let at = |text: &str| Some(text.parse().unwrap());
        assert!(doors.admits(at("192.0.2.1")) && doors.admits(None));
        doors.allow = networks(&["10.0.0.0/8", "2001:db8::/32"]);
        doors.deny = networks(&["10.1.0.0/16", "10.2.3.4"]);
        assert!(doors.admits(at("10.0.0.1")) && doors.admits(at("2001:db8::1")));
        // As a socket for both families shows it.
        assert!(doors.admits(at("::ffff:10.0.0.1")));
        for denied in [
            "10.1.2.3",
            "10.2.3.4",
            "192.0.2.1",
            "2001:db9::1",
            "::ffff:10.1.0.1",
        ] {
            assert!(!doors.admits(at(denied)), "{denied}");
        }
        assert!(!doors.admits(None), "unix is not among them");
    }

    #[test]
    fn networks_are_written_as_they_are_read() {
        for text in ["unix", "10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "::1"] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), text);
        }
        assert_eq!(
            "10.1.2.3/8".parse::<Network>().unwrap().to_string(),
            "10.0.0.0/8"
        );
        for text in ["", "10.0.0.0/33", "host", "10.0.0"] {
            assert!(text.parse::<Network>().unwrap_err().contains(text));
        }
    }
}
