//! `VirtualService`: hosts, gateways, and rules in the order in which they are tried.
//!
//! Without hosts it is a delegate: other VirtualServices take its rules over (`delegate.rs`).
//! Source: istio api networking/v1alpha3/virtual_service.proto; istio pkg/config/validation/validation.go;
//! istio pilot/pkg/model/virtualservice.go (names of gateways).

use super::http_route::{self, HttpRoute, Within};
use super::values::{self, Wildcard};
use super::{layer4, matches, reach};
use crate::manifest::object::Object;
use crate::manifest::problem::{Place, Problem};
use crate::manifest::read::{Field, Sink};
use crate::record::results::FidelityStatus;

/// The name of all sidecars among gateways.
pub const MESH: &str = "mesh";
/// Set on what Istio makes of Gateway API routes: prefixes are of whole segments there.
const SEMANTICS: &str = "internal.istio.io/route-semantics";

/// A VirtualService.
#[derive(Clone, PartialEq, Debug)]
pub struct VirtualService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The hosts it is for.
    pub hosts: Vec<String>,
    /// The gateways it is for, as [`gateway_key`] names them, with their places; empty: the sidecars.
    pub gateways: Vec<(String, Place)>,
    /// Its rules.
    pub http: Vec<HttpRoute>,
    /// Namespaces that see it; empty: all.
    pub export_to: Vec<String>,
    /// Prefixes are of whole segments.
    pub has_gateway_semantics: bool,
    /// Where it stands.
    pub at: Place,
}

impl VirtualService {
    /// Whether others take its rules over.
    #[must_use]
    pub fn is_delegate(&self) -> bool {
        self.hosts.is_empty()
    }
}

/// The `namespace/name` of the gateway that an entry of `gateways` names; `mesh` stays.
#[must_use]
pub fn gateway_key(entry: &str, namespace: &str) -> String {
    match entry.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => entry.to_owned(),
        None if entry == MESH => entry.to_owned(),
        None => match entry.split_once('.') {
            // An older way to write it: a host name.
            Some((name, rest)) => format!("{}/{name}", rest.split('.').next().unwrap_or_default()),
            None => format!("{namespace}/{entry}"),
        },
    }
}

/// Reads an entry of `gateways`.
pub(super) fn read_gateway_name(item: &Field<'_>, namespace: &str) -> Option<String> {
    let text = item.text()?;
    match text.split_once('/') {
        Some((within, name)) => {
            if !(values::is_label(within) || within == ".") || !values::is_label(name) {
                item.refuse(format!("`{text}` is no gateway"), "write its name, or namespace/name");
                return None;
            }
        }
        None => {
            if !values::check_domain(item, text, Wildcard::No) {
                return None;
            }
            if text.contains('.') {
                let text = format!("it is written {} today", gateway_key(text, namespace));
                values::warn(item, &text);
            }
        }
    }
    item.note(FidelityStatus::Modelled, None);
    Some(gateway_key(text, namespace))
}

/// Reads a VirtualService and reports what the webhook would.
pub fn read(object: &Object, sink: &Sink) -> Option<VirtualService> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let spec_field = fields.look("spec");
    fields.finish();
    let Some(spec) = spec_field.as_ref().and_then(Field::fields) else {
        if spec_field.is_none() {
            fields.missing("spec", "a VirtualService has a spec");
        }
        return None;
    };
    let namespace = &object.id.namespace;
    let hosts_field = spec.get("hosts");
    let host_items = hosts_field.as_ref().map(Field::items).unwrap_or_default();
    let is_delegate = host_items.is_empty();
    let mut gateways = Vec::new();
    let gateways_field = spec.get("gateways");
    for item in gateways_field.as_ref().map(Field::items).unwrap_or_default() {
        gateways.extend(read_gateway_name(&item, namespace).map(|name| (name, item.place())));
    }
    let for_mesh = gateways_field.is_none() || gateways.iter().any(|(name, _)| name == MESH);
    let for_gateways = gateways.iter().any(|(name, _)| name != MESH);
    let hosts = read_hosts(&host_items, for_mesh && !is_delegate, for_gateways);
    let (http, tls, tcp) = (spec.look("http"), spec.look("tls"), spec.look("tcp"));
    let within = Within { namespace, is_delegate };
    let rules = http.as_ref().map(Field::items).unwrap_or_default();
    let found: Vec<HttpRoute> = rules.iter().filter_map(|rule| http_route::read(rule, within)).collect();
    if found.len() == rules.len() {
        reach::warn_unreachable(&rules, &found);
    }
    let names: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for item in tls.as_ref().map(Field::items).unwrap_or_default() {
        layer4::read_tls_route(&item, namespace, &names, for_gateways);
    }
    for item in tcp.as_ref().map(Field::items).unwrap_or_default() {
        layer4::read_tcp_route(&item, namespace);
    }
    if is_delegate {
        refuse_for_delegates(&[("gateways", &gateways_field), ("tls", &tls), ("tcp", &tcp)]);
    }
    let is_nothing = [&http, &tls, &tcp].into_iter().flatten().all(|field| field.node().is_empty());
    if is_nothing {
        spec.missing("http", "a VirtualService has rules: http, tls or tcp");
    }
    let export_to = values::export_to(&spec, namespace);
    spec.finish();
    if !for_gateways && !is_delegate {
        refuse_claims(&found, spec.place(), sink);
    }
    let semantics = object.node.find(&["metadata", "annotations", SEMANTICS]).and_then(|node| node.text());
    Some(VirtualService {
        namespace: namespace.clone(),
        name: object.id.name.clone(),
        hosts,
        gateways,
        http: found,
        export_to,
        has_gateway_semantics: semantics == Some("gateway"),
        at: object.place(),
    })
}

fn read_hosts(items: &[Field<'_>], for_mesh: bool, for_gateways: bool) -> Vec<String> {
    let mut hosts: Vec<String> = Vec::new();
    for item in items {
        let Some(text) = item.text() else { continue };
        if text == "*" && for_mesh {
            item.refuse("`*` is no host for the sidecars of the mesh", "name a gateway under gateways, or write names");
            continue;
        }
        let is_address = text.parse::<std::net::IpAddr>().is_ok();
        let wildcard = if for_gateways { Wildcard::YesAndSni } else { Wildcard::Yes };
        if !is_address && !values::check_domain(item, text, wildcard) {
            continue;
        }
        if !is_whole_wildcard(text) {
            item.refuse(format!("`{text}` begins with part of a label"), "write * or *.name");
            continue;
        }
        if hosts.iter().any(|known| known == text) {
            item.refuse(format!("`{text}` stands here twice"), "write each host once");
            continue;
        }
        item.note(FidelityStatus::Modelled, None);
        hosts.push(text.to_owned());
    }
    hosts
}

/// Whether a wildcard stands for whole labels.
pub(super) fn is_whole_wildcard(name: &str) -> bool {
    name == "*" || !name.contains('*') || name.starts_with("*.")
}

fn refuse_for_delegates(fields: &[(&str, &Option<Field<'_>>)]) {
    for (key, field) in fields {
        if let Some(field) = field.as_ref().filter(|field| !field.node().is_empty()) {
            field.refuse(
                format!("a VirtualService without hosts is a delegate and has no {key}"),
                "write hosts, or take it out",
            );
        }
    }
}

/// Claims of tokens are known to gateways only.
fn refuse_claims(rules: &[HttpRoute], place: Place, sink: &Sink) {
    let blocks = rules.iter().flat_map(|rule| &rule.matches);
    let mut names = blocks.flat_map(|block| block.headers.keys().chain(block.without_headers.keys()));
    if let Some(name) = names.find(|name| matches::jwt_claim(name).is_some()) {
        let text = format!("`{name}` is known to gateways only, and none is named");
        sink.report(Problem::at(place, "spec.gateways", text).help("name a gateway"));
    }
}

#[cfg(test)]
mod tests {
    use super::gateway_key;

    #[test]
    fn gateways_are_named_in_four_ways() {
        for (entry, key) in [
            ("edge", "shop/edge"),
            ("./edge", "shop/edge"),
            ("infra/edge", "infra/edge"),
            ("edge.infra.svc.cluster.local", "infra/edge"),
            ("mesh", "mesh"),
        ] {
            assert_eq!(gateway_key(entry, "shop"), key);
        }
    }
}
