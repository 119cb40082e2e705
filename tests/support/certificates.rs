//! Certificates made for a test: an authority, what it signs, and what it revokes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub pem: String,
}

/// A certificate with its key.
pub struct Signed {
    /// In PEM.
    pub certificate: String,
    /// In PEM.
    pub key: String,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name = subject(&[(DnType::CommonName, name)]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate of a server for these names.
    pub fn server(&self, names: &[&str]) -> Signed {
        self.sign(&[(DnType::CommonName, "server")], names, 1)
    }

    /// A certificate of a client with this subject and serial number.
    pub fn client(&self, of: &[(DnType, &str)], names: &[&str], serial: u64) -> Signed {
        self.sign(of, names, serial)
    }

    fn sign(&self, of: &[(DnType, &str)], names: &[&str], serial: u64) -> Signed {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("parameters");
        params.distinguished_name = subject(of);
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Signed {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A list of revoked serial numbers.
    pub fn revocation_list(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        list.pem().expect("PEM")
    }

    /// The settings of a TLS client that trusts it, with a certificate or without.
    pub fn client_config(&self, own: Option<&Signed>) -> Arc<ClientConfig> {
        Arc::new(self.client_config_of(own, rustls::ALL_VERSIONS))
    }

    /// The same with certain versions of TLS, to be changed further.
    pub fn client_config_of(
        &self,
        own: Option<&Signed>,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let own_certificate = CertificateDer::from_pem_slice(self.pem.as_bytes());
        roots
            .add(own_certificate.expect("PEM"))
            .expect("an authority");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = CertificateDer::from_pem_slice(own.certificate.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes());
                builder
                    .with_client_auth_cert(vec![chain.expect("PEM")], key.expect("PEM"))
                    .expect("a certificate with its key")
            }
        }
    }
}

fn subject(of: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in of {
        name.push(kind.clone(), *value);
    }
    name
}

/// Writes a file below `directory` as a whole, as a renewing program does, and gives its path.
pub fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    std::fs::write(&new, text).expect("a file");
    std::fs::rename(&new, &path).expect("its name");
    path
}

impl Signed {
    /// Writes both below `directory`, and gives the two lines of a listener that name them.
    pub fn settings(&self, directory: &Path, name: &str) -> String {
        let certificate = write(directory, &format!("{name}.crt"), &self.certificate);
        let key = write(directory, &format!("{name}.key"), &self.key);
        format!(
            "listener.tls_certificates = \"{}\"\nlistener.tls_keys = \"{}\"\n",
            certificate.display(),
            key.display()
        )
    }
}
