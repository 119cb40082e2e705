//! What a certificate says: names, and until when it is good.

use std::net::IpAddr;

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The names in a certificate. A name with control characters is none: it could pass for another in a log or
/// in a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// The first Common Name of the subject.
    pub common_name: Option<String>,
    /// The whole subject, as `CN=a,O=b`, the most specific part first.
    pub distinguished_name: Option<String>,
    /// DNS names, e-mail addresses, URIs and IP addresses.
    pub alternative_names: Vec<String>,
}

impl Names {
    /// Reads them; `None` if it is no certificate.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        Some(Self::read(&certificate))
    }

    fn read(certificate: &X509Certificate<'_>) -> Self {
        let subject = certificate.subject();
        let common_name = subject
            .iter_common_name()
            .next()
            .and_then(|name| name.as_str().ok())
            .and_then(clean);
        let mut parts: Vec<String> = Vec::new();
        let mut whole = true;
        for attribute in subject.iter_attributes() {
            let kind = x509_parser::objects::oid2abbrev(
                attribute.attr_type(),
                x509_parser::objects::oid_registry(),
            );
            let kind = kind.map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
            match attribute.as_str().ok().and_then(clean) {
                Some(value) => parts.push(format!("{kind}={}", escaped(&value))),
                None => whole = false,
            }
        }
        parts.reverse();
        let extension = certificate.subject_alternative_name().ok().flatten();
        let alternative_names = extension.map_or_else(Vec::new, |extension| {
            let names = extension.value.general_names.iter();
            names.filter_map(alternative_name).collect()
        });
        Self {
            common_name,
            distinguished_name: (whole && !parts.is_empty()).then(|| parts.join(",")),
            alternative_names,
        }
    }
}

fn alternative_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => {
            clean(text)
        }
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes)
                .ok()
                .map(|ip| IpAddr::from(ip).to_string()),
            16 => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|ip| IpAddr::from(ip).to_string()),
            _ => None,
        },
        _ => None,
    }
}

fn clean(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// A value of a distinguished name, so that it cannot pass for two (RFC 4514).
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, c) in value.char_indices() {
        let edge = at == 0 || at + c.len_utf8() == value.len();
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=') || (edge && c == ' ') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// A certificate of the server, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its file.
    pub file: String,
    /// Who it is for.
    pub names: Names,
    /// When it ends, seconds since 1970.
    pub not_after_unix_s: i64,
    /// When it ends, for people.
    pub not_after: String,
}

impl Summary {
    /// Reads it.
    ///
    /// # Errors
    /// It is no X.509 certificate.
    pub fn of(file: &str, certificate: &[u8]) -> Result<Self, String> {
        let (_, certificate) = X509Certificate::from_der(certificate)
            .map_err(|error| format!("the certificate cannot be read: {error}"))?;
        let not_after = certificate.validity().not_after;
        Ok(Self {
            file: file.to_owned(),
            names: Names::read(&certificate),
            not_after_unix_s: not_after.timestamp(),
            not_after: not_after.to_string(),
        })
    }

    /// Whether it is for `host`, as a client names it.
    pub fn is_for(&self, host: &str) -> bool {
        let names = &self.names.alternative_names;
        names.iter().any(|name| match name.strip_prefix("*.") {
            None => name.eq_ignore_ascii_case(host),
            Some(domain) => host.split_once('.').is_some_and(|(first, rest)| {
                !first.is_empty() && rest.eq_ignore_ascii_case(domain)
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_pass_for_two() {
        assert_eq!(escaped("plain name"), "plain name");
        assert_eq!(escaped("a,CN=root"), "a\\,CN\\=root");
        assert_eq!(escaped(" a "), "\\ a\\ ");
        assert_eq!(clean("a\nb"), None);
        assert_eq!(clean(""), None);
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        let summary = Summary {
            file: String::new(),
            names: Names {
                alternative_names: vec!["a.example".into(), "*.b.example".into()],
                ..Names::default()
            },
            not_after_unix_s: 0,
            not_after: String::new(),
        };
        assert!(summary.is_for("A.example") && summary.is_for("x.b.example"));
        for other in [
            "b.example",
            "x.y.b.example",
            ".b.example",
            "x.a.example",
            "",
        ] {
            assert!(!summary.is_for(other), "{other}");
        }
    }
}
