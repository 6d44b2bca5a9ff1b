//! Rules of VirtualServices for TLS and TCP. They are checked, and not simulated.
//!
//! Source: istio pkg/config/validation/validation.go.

use super::destination;
use super::host;
use super::values::{self, Wildcard};
use crate::manifest::read::{Field, Fields};
use crate::record::results::FidelityStatus;

/// Checks a rule of `tls`, given the hosts of its VirtualService.
pub(super) fn read_tls_route(item: &Field<'_>, namespace: &str, hosts: &[&str], for_gateways: bool) {
    item.note(FidelityStatus::Ignored, Some("only HTTP routes are simulated"));
    let Some(fields) = item.fields() else { return };
    let blocks = fields.look("match").map(|field| field.items()).unwrap_or_default();
    if blocks.is_empty() {
        fields.missing("match", "a TLS route has at least one match with sniHosts");
    }
    for block in &blocks {
        let Some(inner) = block.fields() else { continue };
        let names = inner.look("sniHosts").map(|field| field.items()).unwrap_or_default();
        if names.is_empty() {
            inner.missing("sniHosts", "a match of a TLS route has at least one SNI host");
        }
        for name in &names {
            check_sni(name, hosts, for_gateways);
        }
        check_layer4(&inner, namespace);
        inner.finish();
    }
    check_destinations(&fields, namespace);
    fields.finish();
}

/// Checks a rule of `tcp`.
pub(super) fn read_tcp_route(item: &Field<'_>, namespace: &str) {
    item.note(FidelityStatus::Ignored, Some("only HTTP routes are simulated"));
    let Some(fields) = item.fields() else { return };
    for block in fields.look("match").map(|field| field.items()).unwrap_or_default() {
        let Some(inner) = block.fields() else { continue };
        inner.allow(&["sourceSubnet"]);
        check_layer4(&inner, namespace);
        inner.finish();
    }
    check_destinations(&fields, namespace);
    fields.finish();
}

fn check_sni(item: &Field<'_>, hosts: &[&str], for_gateways: bool) {
    let Some(name) = item.text() else { return };
    if name.parse::<std::net::IpAddr>().is_ok() {
        return values::warn(item, "an address is no server name, and most clients send none");
    }
    let wildcard = if for_gateways { Wildcard::YesAndSni } else { Wildcard::Yes };
    if values::check_domain(item, name, wildcard) && !hosts.iter().any(|host| host::is_subset(name, host)) {
        item.refuse(
            format!("`{name}` is under no host of the VirtualService"),
            format!("its hosts are {}", hosts.join(", ")),
        );
    }
}

fn check_layer4(fields: &Fields<'_>, namespace: &str) {
    if let Some(port) = fields.look("port") {
        let _ = values::optional_port(&port);
    }
    if let Some(labels) = fields.look("sourceLabels") {
        let _ = values::labels(&labels);
    }
    for item in fields.look("gateways").map(|field| field.items()).unwrap_or_default() {
        let _ = super::virtual_service::read_gateway_name(&item, namespace);
    }
    fields.allow(&["destinationSubnets", "sourceNamespace"]);
}

fn check_destinations(fields: &Fields<'_>, namespace: &str) {
    let route = fields.look("route");
    if route.as_ref().is_none_or(|field| field.items().is_empty()) {
        fields.missing("route", "a route has destinations");
    }
    if let Some(route) = route {
        let _ = destination::read_weighted(&route, namespace);
    }
}
