//! `x-forwarded-client-cert`: what the upstream learns of a client's certificate.
//!
//! Source: envoy source/common/http/conn_manager_utility.cc (`mutateXfccRequestHeader`).

use http::{HeaderMap, HeaderName, HeaderValue};

const FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");

/// What is done with the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardClientCert {
    /// It goes.
    Sanitize,
    /// The client's goes on, if the client showed a certificate.
    ForwardOnly,
    /// The client's certificate is appended, if it showed one.
    AppendForward,
    /// The client's certificate replaces what it sent. Istio's default at gateways.
    SanitizeSet,
    /// The client's goes on.
    AlwaysForwardOnly,
}

/// A part of a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CertDetail {
    /// Its subject.
    Subject,
    /// The certificate.
    Cert,
    /// The certificate with those that vouch for it.
    Chain,
    /// Its URIs.
    Uri,
    /// Its DNS names.
    Dns,
}

/// The certificates of a connection whose client showed one; texts are escaped as they go into the header.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Certificates {
    /// The URIs of the gateway's own.
    pub local_uris: Vec<String>,
    /// The client's fingerprint.
    pub hash: String,
    /// The client's subject.
    pub subject: String,
    /// The client's certificate.
    pub pem: String,
    /// The client's chain.
    pub chain: String,
    /// The client's URIs.
    pub uris: Vec<String>,
    /// The client's DNS names.
    pub dns_names: Vec<String>,
}

/// Does with the header what is asked for. `certificates` are there if the client showed one.
pub fn forward_client_cert(
    headers: &mut HeaderMap,
    mode: ForwardClientCert,
    details: &[CertDetail],
    certificates: Option<&Certificates>,
) {
    let certificates = match (mode, certificates) {
        (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => return,
        (ForwardClientCert::Sanitize, _) | (_, None) => {
            headers.remove(FORWARDED_CLIENT_CERT);
            return;
        }
        (ForwardClientCert::AppendForward | ForwardClientCert::SanitizeSet, Some(certificates)) => certificates,
    };
    let mut text = certificates.text(details);
    if mode == ForwardClientCert::AppendForward {
        let earlier = super::address::joined(headers, &FORWARDED_CLIENT_CERT);
        if let Some(earlier) = earlier.as_ref().and_then(|value| value.to_str().ok()) {
            text = format!("{earlier},{text}");
        }
    }
    match HeaderValue::from_str(&text) {
        Ok(value) => headers.insert(FORWARDED_CLIENT_CERT, value),
        Err(_) => headers.remove(FORWARDED_CLIENT_CERT),
    };
}

impl Certificates {
    fn text(&self, details: &[CertDetail]) -> String {
        let mut parts: Vec<String> = self.local_uris.iter().map(|uri| format!("By={uri}")).collect();
        if !self.hash.is_empty() {
            parts.push(format!("Hash={}", self.hash));
        }
        for detail in details {
            match detail {
                CertDetail::Subject => parts.push(format!("Subject=\"{}\"", self.subject)),
                CertDetail::Cert if self.pem.is_empty() => {}
                CertDetail::Cert => parts.push(format!("Cert=\"{}\"", self.pem)),
                CertDetail::Chain if self.chain.is_empty() => {}
                CertDetail::Chain => parts.push(format!("Chain=\"{}\"", self.chain)),
                CertDetail::Uri if self.uris.is_empty() => parts.push("URI=".to_owned()),
                CertDetail::Uri => parts.extend(self.uris.iter().map(|uri| format!("URI={uri}"))),
                CertDetail::Dns => parts.extend(self.dns_names.iter().map(|name| format!("DNS={name}"))),
            }
        }
        parts.join(";")
    }
}
