//! The listeners of a `Gateway` or a `ListenerSet`.
//!
//! Source: gateway-api apis/v1/{gateway,listenerset}_types.go.

use super::namespaces::{From, read_from};
use super::reference::{Reference, read_reference};
use super::values;
use crate::manifest::object::GATEWAY_API;
use crate::manifest::problem::Place;
use crate::manifest::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// A listener.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    /// None: any.
    pub(super) hostname: Option<String>,
    pub(super) port: u16,
    /// As it is written.
    pub(super) protocol: String,
    pub(super) routes_from: From,
    /// Group and kind of the routes that it takes; empty: those that its protocol takes.
    pub(super) kinds: Vec<(String, String)>,
    /// The Secrets with its certificates, where it ends TLS.
    pub(super) certificates: Vec<Reference>,
    pub(super) is_passthrough: bool,
    pub(super) at: Place,
}

/// Reads `listeners`. `namespace` is that of the object they stand in.
pub(super) fn read_listeners(spec: &Fields<'_>, namespace: &str) -> Vec<Listener> {
    let items = values::items(spec, "listeners", 64);
    if items.is_empty() {
        spec.missing("listeners", "write at least one listener");
    }
    let listeners: Vec<Option<Listener>> = items.iter().map(|item| read_listener(item, namespace)).collect();
    let names: Vec<Option<&str>> =
        listeners.iter().map(|listener| listener.as_ref().map(|listener| listener.name.as_str())).collect();
    values::refuse_twice(&items, &names, |name| format!("`{name}` is the name of another listener too"));
    let places: Vec<Option<(u16, String, Option<&str>)>> = listeners
        .iter()
        .map(|listener| {
            let listener = listener.as_ref()?;
            Some((listener.port, listener.protocol.to_ascii_lowercase(), listener.hostname.as_deref()))
        })
        .collect();
    values::refuse_twice(&items, &places, |(port, ..)| {
        format!("another listener has port {port} with the same protocol and host name")
    });
    listeners.into_iter().flatten().collect()
}

fn read_listener(item: &Field<'_>, namespace: &str) -> Option<Listener> {
    let fields = item.fields()?;
    let name = fields.require("name", "write a name that routes can refer to");
    let name = name.and_then(|field| values::section_name(&field).map(str::to_owned));
    let hostname_field = fields.get("hostname").filter(|field| field.node().text() != Some(""));
    let hostname = hostname_field.as_ref().map(|field| values::hostname(field).map(str::to_owned));
    let port = fields.require("port", "write a port from 1 to 65535").and_then(|field| values::port(&field));
    let protocol_field = fields.require("protocol", "write HTTP or HTTPS");
    let protocol = protocol_field.as_ref().and_then(read_protocol);
    let tls_field = fields.look("tls");
    let allowed = fields.look("allowedRoutes");
    fields.finish();
    let (routes_from, kinds) = allowed.map_or((From::Same, Vec::new()), |field| read_allowed(&field));
    let tls = tls_field.as_ref().map(|field| read_tls(field, namespace));
    let (name, port, protocol) = (name?, port?, protocol?);
    let word = protocol.to_ascii_uppercase();
    if let Some(field) = tls_field.as_ref().filter(|_| matches!(word.as_str(), "HTTP" | "TCP" | "UDP")) {
        field.refuse(format!("there is no TLS with protocol {protocol}"), "take it out, or write protocol: HTTPS");
    }
    if let Some(field) = hostname_field.as_ref().filter(|_| matches!(word.as_str(), "TCP" | "UDP")) {
        field.refuse(format!("there is no host name with protocol {protocol}"), "take it out");
    }
    let mode = tls.as_ref().and_then(|tls| tls.mode);
    if let Some(field) = tls_field.as_ref().filter(|_| word == "HTTPS" && mode == Some("Passthrough")) {
        field.refuse("HTTPS ends at the gateway", "write mode: Terminate, or protocol: TLS");
    }
    if word == "TLS" && mode.is_none() {
        item.refuse("with protocol TLS the mode must be written", "write tls: { mode: Terminate, … }");
    }
    Some(Listener {
        name,
        hostname: hostname.map_or(Some(None), |hostname| hostname.map(Some))?,
        port,
        protocol,
        routes_from,
        kinds,
        is_passthrough: mode == Some("Passthrough"),
        certificates: tls.map(|tls| tls.certificates).unwrap_or_default(),
        at: item.place(),
    })
}

/// HTTP, HTTPS, TLS, TCP, UDP, or the name of somebody's own, such as `example.com/foo`.
fn read_protocol(field: &Field<'_>) -> Option<String> {
    let text = values::text(field, 255)?;
    let is_inner = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let is_word = text.chars().all(is_inner) && !text.starts_with('-') && !text.ends_with('-');
    let is_own = text
        .rsplit_once('/')
        .is_some_and(|(_, name)| !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric()));
    let help = "write HTTP, HTTPS, TLS, TCP or UDP";
    values::refuse_unless(field, is_word || is_own, &format!("`{text}` is not the name of a protocol"), help)?;
    Some(text.to_owned())
}

fn read_allowed(field: &Field<'_>) -> (From, Vec<(String, String)>) {
    let Some(fields) = field.fields() else { return (From::Same, Vec::new()) };
    let from = read_from(&fields, &["All", "Selector", "Same"], From::Same);
    let mut kinds = Vec::new();
    for item in values::items(&fields, "kinds", 8) {
        let Some(fields) = item.fields() else { continue };
        let group = fields.get("group").map(|field| values::group(&field).map(str::to_owned));
        let kind = fields.require("kind", "write one such as HTTPRoute");
        fields.finish();
        let group = group.unwrap_or_else(|| Some(GATEWAY_API.to_owned()));
        let kind = kind.and_then(|field| values::kind(&field).map(str::to_owned));
        if let (Some(group), Some(kind)) = (group, kind) {
            kinds.push((group, kind));
        }
    }
    fields.finish();
    (from, kinds)
}

struct Tls {
    mode: Option<&'static str>,
    certificates: Vec<Reference>,
}

fn read_tls(field: &Field<'_>, namespace: &str) -> Tls {
    let Some(fields) = field.fields() else { return Tls { mode: None, certificates: Vec::new() } };
    let words = [("Terminate", "Terminate"), ("Passthrough", "Passthrough")];
    let mode = fields.get("mode").map(|field| field.choice(&words));
    let mut certificates = Vec::new();
    for item in values::items(&fields, "certificateRefs", 64) {
        let Some(fields) = item.fields() else { continue };
        certificates.extend(read_reference(&fields, "", "Secret", namespace));
        fields.finish();
    }
    let options = fields.look("options");
    let has_options = options.as_ref().is_some_and(|field| !field.node().is_empty());
    if let Some(options) = options.filter(|_| has_options) {
        options.note(FidelityStatus::Ignored, Some("not simulated"));
    }
    fields.ignore(&["frontendValidation"], "certificates of clients are not simulated");
    fields.finish();
    let is_terminated = mode.is_none_or(|mode| mode == Some("Terminate"));
    if is_terminated && certificates.is_empty() && !has_options && fields.look("certificateRefs").is_none() {
        field.refuse("TLS that ends here needs a certificate", "write certificateRefs: [{ name: … }]");
    }
    Tls { mode: mode.flatten(), certificates }
}
