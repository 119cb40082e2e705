//! Who may connect and what they may do, as the configuration says it.
//!
//! Plain data. The files that it names are read by `access`, at start and at every reload.

use std::net::IpAddr;

/// A link of an authentication chain. The first that knows the client decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Link {
    /// User Name and Password against a file.
    PasswordFile,
    /// The client certificate of the connection.
    Certificate,
    /// The user at the other end of a Unix socket.
    UnixPeer,
    /// A JSON Web Token as the Password.
    Jwt,
    /// An HTTP server decides.
    Http,
}

impl Link {
    /// All, with their names in the file.
    pub const NAMES: [&'static str; 5] =
        ["password_file", "certificate", "unix_peer", "jwt", "http"];
    /// In the order of their names.
    pub const ALL: [Self; 5] = [
        Self::PasswordFile,
        Self::Certificate,
        Self::UnixPeer,
        Self::Jwt,
        Self::Http,
    ];
}

/// An Authentication Method of 5.0 (4.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    /// RFC 5802.
    ScramSha1,
    /// RFC 7677.
    ScramSha256,
    /// The same with SHA-512.
    ScramSha512,
    /// RFC 7628.
    OAuthBearer,
    /// Kerberos: RFC 4752, or RFC 5801 as GS2-KRB5.
    Kerberos,
}

impl Method {
    /// All, with the names that clients use.
    pub const NAMES: [&'static str; 5] = [
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "SCRAM-SHA-512",
        "OAUTHBEARER",
        "GS2-KRB5",
    ];
    /// In the order of their names.
    pub const ALL: [Self; 5] = [
        Self::ScramSha1,
        Self::ScramSha256,
        Self::ScramSha512,
        Self::OAuthBearer,
        Self::Kerberos,
    ];

    /// The method of this name.
    pub fn named(name: &str) -> Option<Self> {
        let at = Self::NAMES.iter().position(|known| *known == name)?;
        Self::ALL.get(at).copied()
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        let at = Self::ALL.iter().position(|known| *known == self);
        at.map_or("", |at| Self::NAMES[at])
    }
}

/// `[authentication]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationConfig {
    /// The chain of listeners that have none of their own.
    pub chain: Vec<Link>,
    /// The Authentication Methods that 5.0 clients may use.
    pub methods: Vec<Method>,
    /// Users and hashes of their passwords.
    pub password_file: Option<String>,
    /// Threads for slow work.
    pub threads: u16,
    /// Clients that wait for a verdict; further ones are told that the server is busy.
    pub waiting_max: u32,
    /// How long one may wait before it is told so, seconds.
    pub wait_s_max: u16,
    /// How long a verified password is remembered, seconds; 0 is not at all.
    pub cache_s: u32,
    /// Verified passwords that a shard remembers.
    pub cache_entries_max: u32,
}

impl Default for AuthenticationConfig {
    fn default() -> Self {
        Self {
            chain: Vec::new(),
            methods: Vec::new(),
            password_file: None,
            threads: 2,
            waiting_max: 4096,
            wait_s_max: 5,
            cache_s: 600,
            cache_entries_max: 100_000,
        }
    }
}

/// `[jwt]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// A public key (PEM) or a secret, for the algorithms below.
    pub key_file: Option<String>,
    /// A JSON Web Key Set.
    pub jwks_file: Option<String>,
    /// Where a JSON Web Key Set is fetched.
    pub jwks_url: Option<String>,
    /// How often it is fetched, seconds.
    pub jwks_refresh_s: u32,
    /// Indexes into [`JWT_ALGORITHMS`].
    pub algorithms: Vec<usize>,
    /// The issuer that `iss` must name.
    pub issuer: Option<String>,
    /// The audience that `aud` must name.
    pub audience: Option<String>,
    /// The claim that is the user name.
    pub user_name_claim: Option<String>,
    /// The claim with roles.
    pub roles_claim: Option<String>,
    /// The claim with topic rules.
    pub rules_claim: Option<String>,
    /// How far clocks may differ, seconds.
    pub leeway_s: u16,
}

/// Signature algorithms, by their names in a token's header.
pub const JWT_ALGORITHMS: [&str; 12] = [
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256",
    "ES384", "EdDSA",
];

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            key_file: None,
            jwks_file: None,
            jwks_url: None,
            jwks_refresh_s: 3600,
            algorithms: vec![3, 9, 11],
            issuer: None,
            audience: None,
            user_name_claim: Some("sub".into()),
            roles_claim: Some("roles".into()),
            rules_claim: Some("mqtt".into()),
            leeway_s: 30,
        }
    }
}

/// `[http_callback]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where it is asked who may connect.
    pub authenticate_url: Option<String>,
    /// Where it is asked what a client may do; not at all if not set.
    pub authorize_url: Option<String>,
    /// How long an answer may take, milliseconds.
    pub timeout_ms: u32,
    /// How long an answer is remembered that does not say so itself, seconds.
    pub cache_s: u32,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            authenticate_url: None,
            authorize_url: None,
            timeout_ms: 2_000,
            cache_s: 30,
        }
    }
}

/// In whose syntax an ACL file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AclFormat {
    /// RingMQ's own.
    #[default]
    RingMq,
    /// Mosquitto's `acl_file`.
    Mosquitto,
}

/// What becomes of a PUBLISH before 5.0 that is not allowed, which no acknowledgement can say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeniedPublish {
    /// It is dropped, and acknowledged as usual.
    #[default]
    Acknowledge,
    /// The connection is closed.
    Disconnect,
}

/// `[authorization]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationConfig {
    /// The rules; without them every client may do everything.
    pub acl_file: Option<String>,
    /// Their syntax.
    pub acl_format: AclFormat,
    /// For clients before 5.0.
    pub denied_publish_v3: DeniedPublish,
    /// Decisions that one connection remembers.
    pub cache_topics_max: u32,
}

impl Default for AuthorizationConfig {
    fn default() -> Self {
        Self {
            acl_file: None,
            acl_format: AclFormat::default(),
            denied_publish_v3: DeniedPublish::default(),
            cache_topics_max: 64,
        }
    }
}

/// Everything about who and what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// `[authentication]`.
    pub authentication: AuthenticationConfig,
    /// `[jwt]`.
    pub jwt: JwtConfig,
    /// `[http_callback]`.
    pub http: HttpConfig,
    /// `[authorization]`.
    pub authorization: AuthorizationConfig,
}

/// The address of a client, without its port.
pub type ClientAddress = IpAddr;

/// Addresses with a common prefix, like `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressPrefix {
    address: IpAddr,
    bits: u8,
}

impl AddressPrefix {
    /// Whether `address` is among them. An IPv4 address that is mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: ClientAddress) -> bool {
        let shifted = |bits: u128, width: u8| match width - self.bits {
            128.. => 0,
            shift => bits >> shift,
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                shifted(own.to_bits().into(), 32) == shifted(other.to_bits().into(), 32)
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                shifted(own.to_bits(), 128) == shifted(other.to_bits(), 128)
            }
            _ => false,
        }
    }
}

impl std::str::FromStr for AddressPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is no address or prefix like 10.0.0.0/8");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        match bits <= width {
            true => Ok(Self { address, bits }),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_contain_what_they_say() {
        let contains = |prefix: &str, address: &str| {
            let prefix: AddressPrefix = prefix.parse().unwrap();
            prefix.contains(address.parse().unwrap())
        };
        assert!(contains("10.0.0.0/8", "10.200.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "1.2.3.4") && !contains("0.0.0.0/0", "::1"));
        assert!(contains("::/0", "2001:db8::1") && contains("2001:db8::/32", "2001:db8:1::"));
        assert!(contains("192.168.1.7", "::ffff:192.168.1.7"));
        for bad in ["10.0.0.0/33", "x", "::/129", "1.2.3.4/", "1.2.3.4/-1"] {
            assert!(bad.parse::<AddressPrefix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn methods_are_named_as_clients_name_them() {
        for method in Method::ALL {
            assert_eq!(Method::named(method.name()), Some(method));
        }
        assert_eq!(Method::named("PLAIN"), None);
    }
}
