//! The TLS settings of a listener, read from their files as a whole.
//!
//! Made at start and whenever the files are read again; [`TlsTable`] holds those that are in force, so that a
//! handshake takes either all of the old or all of the new. Live connections keep theirs.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{
    ClientHello, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use crate::config::doors::{ClientCertificate, TlsOptions, TlsVersion};
use crate::config::{ConfigError, Listener};

use super::certificate::Summary;

/// Sessions of TLS 1.2 clients without tickets that can be resumed, for a listener.
const SESSIONS_MAX: usize = 4096;

/// What a listener's handshakes use.
#[derive(Debug)]
pub struct TlsSettings {
    /// For rustls.
    pub config: Arc<ServerConfig>,
    /// The server's own certificates.
    pub certificates: Vec<Summary>,
}

/// The settings that are in force, by the places of their listeners. All change at once.
#[derive(Debug, Default)]
pub struct TlsTable(RwLock<Vec<Option<Arc<TlsSettings>>>>);

impl TlsTable {
    /// What the next handshake of a listener uses.
    pub fn current(&self, place: u16) -> Option<Arc<TlsSettings>> {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        table.get(usize::from(place))?.clone()
    }

    /// Puts others in force.
    pub fn replace(&self, settings: Vec<Option<Arc<TlsSettings>>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// When the first of the server's certificates ends, seconds since 1970; 0 without any.
    pub fn ends_unix_s(&self) -> u64 {
        let table = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let settings = table.iter().flatten();
        let ends = settings.flat_map(|settings| &settings.certificates);
        let first = ends.map(|certificate| certificate.not_after_unix_s).min();
        first.and_then(|end| u64::try_from(end).ok()).unwrap_or(0)
    }
}

impl TlsSettings {
    /// Reads the files of a listener; `None` if it has no TLS.
    ///
    /// # Errors
    /// Which file or key is wrong, and what is to be done.
    pub fn load(listener: &Listener) -> Result<Option<Self>, ConfigError> {
        let options = &listener.doors.tls;
        if !options.is_on() {
            return Ok(None);
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let by_name = CertificatesByName::load(options, &provider)?;
        let certificates = by_name.0.iter().map(|(summary, _)| summary.clone());
        let certificates = certificates.collect();
        let versions: &[&SupportedProtocolVersion] = match options.version_min {
            TlsVersion::V1_2 => rustls::ALL_VERSIONS,
            TlsVersion::V1_3 => &[&rustls::version::TLS13],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| fault(&listener.name, "tls_version_min", error.to_string()))?;
        let builder = match options.client_certificate {
            ClientCertificate::None => builder.with_no_client_auth(),
            asked => builder.with_client_cert_verifier(verifier(options, asked, provider)?),
        };
        let mut config = builder.with_cert_resolver(Arc::new(by_name));
        config.session_storage = ServerSessionMemoryCache::new(SESSIONS_MAX);
        // New keys with every load: who could resume a session from before would not be checked against the
        // authorities and the revoked certificates of now.
        config.ticketer = aws_lc_rs::Ticketer::new()
            .map_err(|error| fault(&listener.name, "tls_certificates", error.to_string()))?;
        // A client resumes one session at a time.
        config.send_tls13_tickets = 1;
        config.alpn_protocols = match listener.doors.websocket.is_on {
            true => vec![b"http/1.1".to_vec()],
            false => vec![b"mqtt".to_vec()],
        };
        Ok(Some(Self {
            config: Arc::new(config),
            certificates,
        }))
    }
}

fn fault(file: &str, key: &str, message: String) -> ConfigError {
    ConfigError {
        file: file.to_owned(),
        position: None,
        key: Some(format!("listener.{key}")),
        message,
    }
}

/// The server's certificates, chosen by the name that the client asks for.
#[derive(Debug)]
struct CertificatesByName(Vec<(Summary, Arc<CertifiedKey>)>);

impl CertificatesByName {
    fn load(options: &TlsOptions, provider: &CryptoProvider) -> Result<Self, ConfigError> {
        let mut certificates = Vec::new();
        for (index, file) in options.certificates.iter().enumerate() {
            let chain: Vec<CertificateDer<'static>> = pem(file, "tls_certificates", "certificate")?;
            let key_file = options.keys.get(index).unwrap_or(file);
            let key = PrivateKeyDer::from_pem_file(Path::new(key_file)).map_err(|error| {
                let what = pem_fault(error, "private key");
                fault(
                    key_file,
                    "tls_keys",
                    format!("{what}; give the PEM file with the key of {file}"),
                )
            })?;
            let bad = |message| fault(file, "tls_certificates", message);
            // `pem` gives at least one.
            let own = chain.first().map_or(&[][..], |own| own);
            let summary = Summary::of(file, own).map_err(bad)?;
            let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| {
                let message = format!("{error}; is {key_file} the key of this certificate?");
                fault(file, "tls_certificates", message)
            })?;
            certificates.push((summary, Arc::new(certified)));
        }
        Ok(Self(certificates))
    }
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = client_hello
            .server_name()
            .and_then(|host| self.0.iter().find(|(summary, _)| summary.is_for(host)));
        let (_, certified) = named.or(self.0.first())?;
        Some(Arc::clone(certified))
    }
}

fn verifier(
    options: &TlsOptions,
    asked: ClientCertificate,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, ConfigError> {
    let file = options.client_ca.as_deref().unwrap_or_default();
    let mut roots = RootCertStore::empty();
    for authority in pem::<CertificateDer<'static>>(file, "tls_client_ca", "certificate")? {
        let bad = |error: rustls::Error| fault(file, "tls_client_ca", error.to_string());
        roots.add(authority).map_err(bad)?;
    }
    let mut crls = Vec::new();
    for file in &options.client_crls {
        crls.extend(pem::<CertificateRevocationListDer<'static>>(
            file,
            "tls_client_crls",
            "revocation list",
        )?);
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .with_crls(crls)
        .only_check_end_entity_revocation();
    if asked == ClientCertificate::Optional {
        builder = builder.allow_unauthenticated();
    }
    let place = options.client_crls.first().map_or(file, String::as_str);
    builder
        .build()
        .map_err(|error| fault(place, "tls_client_ca", error.to_string()))
}

/// All things of a kind in a PEM file; at least one.
fn pem<T: PemObject>(file: &str, key: &str, what: &str) -> Result<Vec<T>, ConfigError> {
    let bad = |error| fault(file, key, pem_fault(error, what));
    let things: Vec<T> = T::pem_file_iter(Path::new(file))
        .map_err(bad)?
        .collect::<Result<_, _>>()
        .map_err(bad)?;
    match things.is_empty() {
        true => Err(fault(file, key, format!("has no {what} in PEM format"))),
        false => Ok(things),
    }
}

fn pem_fault(error: rustls::pki_types::pem::Error, what: &str) -> String {
    use rustls::pki_types::pem::Error;
    match error {
        Error::Io(error) => format!("cannot be read: {error}"),
        Error::NoItemsFound => format!("has no {what} in PEM format"),
        other => format!("is no PEM file with a {what}: {other}"),
    }
}
