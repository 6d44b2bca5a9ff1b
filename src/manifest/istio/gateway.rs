//! `Gateway`: servers of a proxy, each a port with hosts.
//!
//! Source: istio api networking/v1alpha3/gateway.proto; istio pkg/config/validation/validation.go, pkg/config/protocol/instance.go.

use std::collections::BTreeMap;

use super::tls::{self, ServerTls};
use super::values::{self, Wildcard};
use crate::manifest::object::Object;
use crate::manifest::problem::{Place, Problem};
use crate::manifest::read::{Field, Sink, did_you_mean};
use crate::record::results::FidelityStatus;

/// A Gateway.
#[derive(Clone, Debug)]
pub struct Gateway {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Labels of the pods it is for; empty: all.
    pub selector: BTreeMap<String, String>,
    /// Where the selector is written, or the Gateway.
    pub selector_at: Place,
    /// Its servers.
    pub servers: Vec<Server>,
    /// Where it stands.
    pub at: Place,
}

impl Gateway {
    /// `namespace/name`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its port: one of the Service in front.
    pub port: u16,
    /// The port's name.
    pub port_name: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// Hosts, as they are written: `namespace/name` or `name`, `.` replaced by the Gateway's namespace.
    pub hosts: Vec<String>,
    /// TLS, if there is any.
    pub tls: Option<ServerTls>,
    /// Where it stands.
    pub at: Place,
    /// Where its port is written.
    pub port_at: Place,
    /// Its key path.
    pub path: String,
}

impl Server {
    /// Whether it is plain HTTP.
    #[must_use]
    pub fn is_plain_http(&self) -> bool {
        self.protocol == Protocol::Http
    }

    /// Whether requests over plain HTTP are sent to HTTPS.
    #[must_use]
    pub fn redirects_to_https(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.https_redirect)
    }

    /// Whether its requests are seen: HTTP, plain or after the end of TLS.
    #[must_use]
    pub fn is_http(&self) -> bool {
        match self.protocol {
            Protocol::Http => true,
            Protocol::Https => self.tls.as_ref().is_some_and(|tls| tls.is_terminated()),
            Protocol::Tls | Protocol::Other => false,
        }
    }
}

/// What is spoken on a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP in any version, and gRPC.
    Http,
    /// HTTP in TLS.
    Https,
    /// Anything in TLS.
    Tls,
    /// Anything else.
    Other,
}

const PROTOCOLS: [(&str, Protocol); 14] = [
    ("HTTP", Protocol::Http),
    ("HTTP2", Protocol::Http),
    ("HTTP_PROXY", Protocol::Http),
    ("GRPC", Protocol::Http),
    ("GRPC-WEB", Protocol::Http),
    ("GRPC-WEB-TEXT", Protocol::Http),
    ("HTTPS", Protocol::Https),
    ("TLS", Protocol::Tls),
    ("TCP", Protocol::Other),
    ("UDP", Protocol::Other),
    ("HBONE", Protocol::Other),
    ("MONGO", Protocol::Other),
    ("REDIS", Protocol::Other),
    ("MYSQL", Protocol::Other),
];

/// Reads a Gateway and reports what the webhook would.
pub fn read(object: &Object, sink: &Sink) -> Option<Gateway> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let spec_field = fields.look("spec");
    fields.finish();
    if !values::is_label(&object.id.name) {
        let place = object.node.find(&["metadata", "name"]).map_or(object.place(), |node| node.at);
        let problem = Problem::at(place, "metadata.name", format!("`{}` is no name of a Gateway", object.id.name));
        sink.report(problem.help("write letters, digits and dashes"));
    }
    let Some(spec) = spec_field.as_ref().and_then(Field::fields) else {
        if spec_field.is_none() {
            fields.missing("spec", "a Gateway has a spec with servers");
        }
        return None;
    };
    let selector_field = spec.get("selector");
    let selector = selector_field.as_ref().map(Field::text_map).unwrap_or_default();
    let items = spec.look("servers").map(|field| field.items()).unwrap_or_default();
    if items.is_empty() {
        spec.missing("servers", "a Gateway has at least one server");
    }
    spec.finish();
    let mut servers: Vec<Server> = Vec::new();
    for item in &items {
        let Some(server) = read_server(item, &object.id.namespace) else { continue };
        if let Some(known) = servers.iter().find(|known| known.port_name == server.port_name) {
            let text = format!("port names of servers are unique, and `{}` stands twice", known.port_name);
            item.refuse(text, "give each server's port a name of its own");
        }
        servers.push(server);
    }
    Some(Gateway {
        namespace: object.id.namespace.clone(),
        name: object.id.name.clone(),
        selector,
        selector_at: selector_field.map_or(object.place(), |field| field.place()),
        servers,
        at: object.place(),
    })
}

fn read_server(item: &Field<'_>, namespace: &str) -> Option<Server> {
    let fields = item.fields()?;
    let hosts_field = fields.get("hosts");
    let host_items = hosts_field.as_ref().map(Field::items).unwrap_or_default();
    if host_items.is_empty() {
        fields.missing("hosts", "a server has at least one host, such as \"*\"");
    }
    let hosts = host_items.iter().filter_map(|host| read_host(host, namespace)).collect();
    let tls_field = fields.look("tls");
    let tls = tls_field.as_ref().and_then(tls::read_server);
    let bind = read_bind(fields.look("bind").as_ref());
    fields.ignore(&["defaultEndpoint"], "not simulated");
    fields.allow(&["name"]);
    let port_field = fields.look("port");
    fields.finish();
    let Some(port_field) = port_field else {
        fields.missing("port", "a server has a port with number, name and protocol");
        return None;
    };
    let (number, name, protocol) = read_port(&port_field, bind == Some(Bind::Socket))?;
    if let Some(tls_field) = &tls_field {
        check_tls(tls_field, tls.as_ref(), protocol);
    } else if matches!(protocol, Protocol::Https | Protocol::Tls) {
        item.refuse("a server for HTTPS or TLS must have TLS settings", "write tls with a mode, such as SIMPLE");
    }
    if protocol != Protocol::Http {
        item.note(FidelityStatus::Ignored, Some("only plain HTTP is simulated; this server is left out"));
    }
    Some(Server {
        port: number?,
        port_name: name,
        protocol,
        hosts,
        tls,
        at: item.place(),
        port_at: port_field.place(),
        path: item.path().to_owned(),
    })
}

/// A host of a server; `.` before the slash is the Gateway's namespace.
fn read_host(item: &Field<'_>, namespace: &str) -> Option<String> {
    let text = item.text()?;
    let (within, name) = text.split_once('/').map_or((None, text), |(within, name)| (Some(within), name));
    let within = match within {
        Some(".") => Some(namespace),
        other => other,
    };
    if let Some(within) = within.filter(|within| *within != "*" && !values::is_label(within)) {
        item.refuse(format!("invalid namespace value `{within}`"), "write a namespace, `.` or `*` before the slash");
        return None;
    }
    let is_address = name.parse::<std::net::IpAddr>().is_ok();
    if !is_address && !values::check_domain(item, name, Wildcard::Yes) {
        return None;
    }
    if name != "*" && !is_address && !name.contains('.') {
        item.refuse("short names are not allowed here", "write a whole host name, with dots");
        return None;
    }
    if !super::virtual_service::is_whole_wildcard(name) {
        item.refuse(format!("`{name}` begins with part of a label"), "write * or *.name");
        return None;
    }
    item.note(FidelityStatus::Modelled, None);
    Some(within.map_or(name.to_owned(), |within| format!("{within}/{name}")))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bind {
    Address,
    Socket,
}

fn read_bind(field: Option<&Field<'_>>) -> Option<Bind> {
    let field = field?;
    let text = field.text().filter(|text| !text.is_empty())?;
    field.note(FidelityStatus::Ignored, Some("it listens on all addresses"));
    if let Some(path) = text.strip_prefix("unix://") {
        if !path.starts_with('@') && (!path.starts_with('/') || path.ends_with('/')) {
            field.refuse(format!("`{path}` is no path of a socket"), "write a path from /, or @name");
        }
        return Some(Bind::Socket);
    }
    if text.parse::<std::net::IpAddr>().is_err() {
        field.refuse(format!("`{text}` is no address"), "write an IP address, or unix:// and a path");
    }
    Some(Bind::Address)
}

/// Number, name and protocol of a port; the number is none if it is wrong, or that of a socket in the file system.
fn read_port(field: &Field<'_>, is_socket: bool) -> Option<(Option<u16>, String, Protocol)> {
    let fields = field.fields()?;
    let number = match fields.get("number") {
        Some(number) if is_socket => {
            if number.node().text() != Some("0") {
                number.refuse("a socket in the file system has no port number", "write 0");
            }
            None
        }
        Some(number) => values::port(&number),
        None => {
            if !is_socket {
                fields.missing("number", "a port has a port number, 1 to 65535");
            }
            None
        }
    };
    if values::quiet_text(&fields, "name").is_none() {
        fields.missing("name", "a port name must be set, such as http");
    }
    let name = values::quiet_text(&fields, "name").unwrap_or_default().to_owned();
    let protocol = match fields.get("protocol").filter(|field| !field.node().is_empty()) {
        Some(field) => field.text().and_then(|text| read_protocol(&field, text)),
        None => {
            fields.missing("protocol", "invalid protocol: write one such as HTTP");
            None
        }
    };
    if fields.look("targetPort").is_some_and(|field| field.node().text() != Some("0")) {
        let target = fields.look("targetPort");
        if let Some(target) = target {
            target.refuse("targetPort has no effect on a Gateway", "set it at the Service in front");
        }
    }
    fields.finish();
    Some((number, name, protocol?))
}

fn read_protocol(field: &Field<'_>, text: &str) -> Option<Protocol> {
    let upper = text.to_ascii_uppercase();
    let found = PROTOCOLS.iter().find(|(name, _)| *name == upper).map(|(_, protocol)| *protocol);
    if found.is_none() {
        let names = PROTOCOLS.iter().map(|(name, _)| *name);
        let near = did_you_mean(&upper, names.clone());
        let known = names.collect::<Vec<_>>().join(", ");
        let help = near.map_or(format!("known here: {known}"), |near| format!("did you mean `{near}`?"));
        field.refuse(format!("invalid protocol `{text}`"), help);
    }
    found
}

/// Which TLS settings fit which protocol.
fn check_tls(field: &Field<'_>, tls: Option<&ServerTls>, protocol: Protocol) {
    let Some(tls) = tls else { return };
    match protocol {
        Protocol::Http if tls.is_terminated() || tls.has_certificates => {
            field.refuse("a server for plain HTTP cannot have TLS settings", "only httpsRedirect is for plain HTTP");
        }
        Protocol::Other if !field.node().is_empty() => {
            field.refuse("a server cannot have TLS settings unless its protocol is HTTPS or TLS", "take tls out");
        }
        _ => {}
    }
    if protocol != Protocol::Http && tls.https_redirect {
        values::warn(field, "tls.httpsRedirect should only be used with http servers");
    }
}
