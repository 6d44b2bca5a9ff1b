//! TLS settings of servers and of clusters. They are checked; TLS itself is not simulated yet.
//!
//! Source: istio api networking/v1alpha3/{gateway,destination_rule}.proto; istio pkg/config/validation/validation.go,
//! pkg/config/validation/agent/validation.go, pkg/config/security/security.go (cipher suites).

use std::collections::BTreeSet;

use super::values;
use crate::manifest::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// What is said of a server's TLS.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerTls {
    /// Its mode.
    pub mode: Mode,
    /// Requests over plain HTTP are sent to HTTPS.
    pub https_redirect: bool,
    /// The Secret with the certificate.
    pub credential_name: Option<String>,
    /// Certificates are named, in files.
    pub has_certificates: bool,
}

impl ServerTls {
    /// Whether TLS ends here.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        !matches!(self.mode, Mode::Passthrough | Mode::AutoPassthrough)
    }
}

/// Who shows which certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the words of the API")]
pub enum Mode {
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}

const MODES: [(&str, Mode); 6] = [
    ("PASSTHROUGH", Mode::Passthrough),
    ("SIMPLE", Mode::Simple),
    ("MUTUAL", Mode::Mutual),
    ("AUTO_PASSTHROUGH", Mode::AutoPassthrough),
    ("ISTIO_MUTUAL", Mode::IstioMutual),
    ("OPTIONAL_MUTUAL", Mode::OptionalMutual),
];

const VERSIONS: [(&str, u8); 5] = [("TLS_AUTO", 0), ("TLSV1_0", 10), ("TLSV1_1", 11), ("TLSV1_2", 12), ("TLSV1_3", 13)];

/// Source: istio pkg/config/security/security.go.
const CIPHER_SUITES: [&str; 18] = [
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "PSK-AES128-CBC-SHA",
];

/// Reads `tls` of a server.
pub(super) fn read_server(field: &Field<'_>) -> Option<ServerTls> {
    let fields = field.fields()?;
    let mode_field = fields.look("mode");
    let mode = mode_field.as_ref().map_or(Some(Mode::Passthrough), |field| field.choice(&MODES));
    let word = mode_field.as_ref().and_then(|field| field.node().text()).unwrap_or("PASSTHROUGH");
    let https_redirect = values::flag(&fields, "httpsRedirect");
    let named = Named::read(&fields);
    check_versions(&fields);
    check_ciphers(&fields);
    fields.ignore(&["subjectAltNames", "verifyCertificateSpki", "verifyCertificateHash"], "not simulated");
    fields.finish();
    let mode = mode?;
    match mode {
        Mode::IstioMutual => named.refuse_for_istio(field),
        Mode::Passthrough | Mode::AutoPassthrough => {
            if named.any() {
                values::warn(field, &format!("{word} mode does not use certificates, they will be ignored"));
            }
        }
        Mode::Simple => named.check(field, "SIMPLE", false),
        Mode::Mutual | Mode::OptionalMutual => named.check(field, "MUTUAL", true),
    }
    Some(ServerTls {
        mode,
        https_redirect,
        credential_name: named.credential.map(str::to_owned),
        has_certificates: named.certificate.is_some() || named.key.is_some() || named.authorities.is_some(),
    })
}

/// The certificates that a server's settings name.
struct Named<'a> {
    certificate: Option<&'a str>,
    key: Option<&'a str>,
    authorities: Option<&'a str>,
    revoked: Option<&'a str>,
    credential: Option<&'a str>,
    credentials: usize,
    /// Of each certificate of a list, whether it names a certificate and a key.
    list: Vec<(bool, bool)>,
}

impl<'a> Named<'a> {
    fn read(fields: &Fields<'a>) -> Self {
        let text = |key: &str| values::quiet_text(fields, key);
        let credentials = fields.look("credentialNames").map(|field| field.texts().len()).unwrap_or_default();
        let mut list = Vec::new();
        for item in fields.look("tlsCertificates").map(|field| field.items()).unwrap_or_default() {
            let Some(inner) = item.fields() else { continue };
            let has = |key: &str| values::quiet_text(&inner, key).is_some();
            list.push((has("serverCertificate"), has("privateKey")));
            inner.allow(&["caCertificates"]);
            inner.finish();
        }
        let found = Self {
            certificate: text("serverCertificate"),
            key: text("privateKey"),
            authorities: text("caCertificates"),
            revoked: text("caCrl"),
            credential: text("credentialName"),
            credentials,
            list,
        };
        fields.allow(&["caCertCredentialName"]);
        found
    }

    fn any(&self) -> bool {
        let texts = [self.certificate, self.key, self.authorities, self.revoked, self.credential];
        texts.iter().any(Option::is_some) || self.credentials > 0 || !self.list.is_empty()
    }

    fn refuse_for_istio(&self, field: &Field<'_>) {
        let parts = [
            (self.certificate, "server certificate"),
            (self.key, "private key"),
            (self.authorities, "CA bundle"),
            (self.credential, "credentialName"),
        ];
        for (text, what) in parts {
            if text.is_some() {
                let text = format!("ISTIO_MUTUAL TLS cannot have associated {what}");
                field.refuse(text, "Istio's own certificates are used: take it out");
            }
        }
    }

    fn check(&self, field: &Field<'_>, mode: &str, needs_authorities: bool) {
        let files = self.certificate.is_some() && self.key.is_some();
        let ways = [self.credential.is_some(), self.credentials > 0, !self.list.is_empty(), files];
        if ways.iter().filter(|is_used| **is_used).count() > 1 {
            let text = "only one of credential_name, credential_names, tls_certificates and server certificate with private key counts";
            field.refuse(text, "keep one of them");
        }
        if self.list.len() > 2 || self.credentials > 2 {
            values::warn(field, &format!("{mode} TLS can support up to 2 server certificates"));
        }
        if self.credential.is_some() || self.credentials > 0 {
            return;
        }
        let refuse = |what: &str, help: &str| field.refuse(format!("{mode} TLS requires a {what}"), help);
        let all = if self.list.is_empty() {
            vec![(self.certificate.is_some(), self.key.is_some())]
        } else {
            self.list.clone()
        };
        if all.iter().any(|(has_certificate, _)| !has_certificate) {
            refuse("server certificate", "write serverCertificate, or credentialName");
        }
        if all.iter().any(|(_, has_key)| !has_key) {
            refuse("private key", "write privateKey, or credentialName");
        }
        if needs_authorities && self.authorities.is_none() {
            refuse("client CA bundle", "write caCertificates, or credentialName");
        }
        if let (Some(_), false) = (self.revoked, needs_authorities) {
            field.refuse(
                "a list of revoked certificates is no use to SIMPLE TLS",
                "take caCrl out, or write mode: MUTUAL",
            );
        }
    }
}

fn check_versions(fields: &Fields<'_>) {
    let version = |key: &str| fields.look(key).and_then(|field| field.choice(&VERSIONS));
    let (least, _) = (version("minProtocolVersion"), version("maxProtocolVersion"));
    if least.is_some_and(|least| (10..12).contains(&least))
        && fields.look("cipherSuites").is_none_or(|field| field.node().is_empty())
        && let Some(field) = fields.look("minProtocolVersion")
    {
        values::warn(&field, "versions below TLSV1_2 need cipherSuites that fit them: none is offered any more");
    }
}

fn check_ciphers(fields: &Fields<'_>) {
    let mut seen = BTreeSet::new();
    for item in fields.look("cipherSuites").map(|field| field.items()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        if !CIPHER_SUITES.contains(&text) {
            values::warn(&item, &format!("ignoring the invalid cipher suite {text}"));
        } else if !seen.insert(text) {
            values::warn(&item, &format!("ignoring the duplicate cipher suite {text}"));
        }
    }
}

/// Checks `tls` of a traffic policy.
pub(super) fn check_client(field: &Field<'_>) {
    field.note(FidelityStatus::Ignored, Some("TLS to upstreams is not simulated yet"));
    let Some(fields) = field.fields() else { return };
    let modes = [
        ("DISABLE", Mode::Passthrough),
        ("SIMPLE", Mode::Simple),
        ("MUTUAL", Mode::Mutual),
        ("ISTIO_MUTUAL", Mode::IstioMutual),
    ];
    let mode = fields.look("mode").map_or(Some(Mode::Passthrough), |field| field.choice(&modes));
    let has = |key: &str| values::quiet_text(&fields, key).is_some();
    let (certificate, key) = (has("clientCertificate"), has("privateKey"));
    let (authorities, credential, revoked) = (has("caCertificates"), has("credentialName"), has("caCrl"));
    let names = fields.look("subjectAltNames").map(|field| field.texts().len()).unwrap_or_default();
    let skips = fields.look("insecureSkipVerify").and_then(|field| field.boolean()).unwrap_or(false);
    fields.allow(&["sni"]);
    fields.finish();
    let is_checked = authorities || names > 0 || credential && mode == Some(Mode::Simple);
    if skips && is_checked && matches!(mode, Some(Mode::Simple | Mode::Mutual)) {
        let text = "what verifies a server stands beside insecureSkipVerify, which verifies none";
        field.refuse(text, "take insecureSkipVerify out, or the rest");
    }
    if !matches!(mode, Some(Mode::Simple | Mode::Mutual)) {
        return;
    }
    if credential {
        if certificate || key || authorities || revoked {
            field.refuse("certificates in files stand beside credentialName", "keep one of them");
        }
    } else if mode == Some(Mode::Mutual) && !(certificate && key) {
        field.refuse("MUTUAL TLS requires a client certificate and its private key", "write both, or credentialName");
    }
}
