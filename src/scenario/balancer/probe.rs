//! What a balancer's health check asks, as Alibaba's annotations have it.
//!
//! - A check opens a connection to the port that requests go to, or to `health-check-connect-port`, whoever listens there. With `health-check-type: http`, and at a listener for
//!   HTTP, it asks for `health-check-uri`: at a CLB with HEAD, at an NLB with GET, unless `health-check-method` says otherwise. `http_2xx` passes unless
//!   `health-check-httpcode` names others, so a redirect does not.
//! - One that asks a node for the Service's `healthCheckNodePort` is answered by the node's kube-proxy, whether it has a pod or not if only a connection is asked
//!   for; the controller sets no such check by itself. So it is with kube-proxy's own port. On other ports of nodes than the Service's nobody listens.
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/clbv1/listeners.go, nlbv2/server_groups.go (`setServerGroupAttributeFromAnno`);
//! Alibaba Cloud "Configure and manage CLB health checks" (methods), "NLB health checks", API `CreateLoadBalancerTCPListener`, `CreateServerGroup` (codes).

use std::collections::{BTreeMap, BTreeSet};

use super::Annotations;
use crate::edge::product::PROXY_HEALTH_PORT;
use crate::edge::{BackendMode, HttpProbe, NO_PORT, Probe};
use crate::manifest::Sink;
use crate::scenario::settings::Settings;
use crate::scenario::shutdown;
use crate::scenario::state::Resolved;

/// The annotations that decide what passes, the one that is likeliest at fault first.
pub(super) const SUFFIXES: [&str; 7] = [
    "health-check-connect-port",
    "health-check-uri",
    "health-check-httpcode",
    "health-check-domain",
    "health-check-method",
    "health-check-type",
    "health-check-flag",
];
/// Classes of answers, as the API calls them.
const CODES: [(&str, (u16, u16)); 4] =
    [("http_2xx", (200, 299)), ("http_3xx", (300, 399)), ("http_4xx", (400, 499)), ("http_5xx", (500, 599))];

/// What is known of a check before its annotations are read.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// What is checked.
    pub(super) mode: BackendMode,
    /// By which product.
    pub(super) is_nlb: bool,
    /// Its listeners are for HTTP.
    pub(super) is_proxy: bool,
    /// There are checks at all.
    pub(super) is_checked: bool,
}

/// The ports that a gateway pod listens on.
pub(in crate::scenario) fn listened(resolved: &Resolved, settings: &Settings) -> BTreeSet<u16> {
    let status = shutdown::of(resolved, settings, &Sink::default()).map(|shutdown| shutdown.status.0);
    resolved.routing.listeners.iter().map(|(bound, _)| *bound).chain(status).collect()
}

/// The check that annotations describe; `listened` are the ports that pods listen on.
pub(super) fn read(
    annotations: &Annotations<'_>,
    asked: Asked,
    (ports, node_ports): (&BTreeMap<u16, u16>, &BTreeMap<u16, u16>),
    listened: &BTreeSet<u16>,
) -> Option<Probe> {
    let suffix = "health-check-connect-port";
    let reads_options = !asked.is_nlb || annotations.is_on("health-check-flag", false);
    let option = |suffix: &str| annotations.text(suffix).filter(|_| reads_options);
    let is_http = asked.is_proxy || option("health-check-type").is_some_and(|text| text.eq_ignore_ascii_case("http"));
    let usual = ports.values().copied().find(|port| *port != NO_PORT).unwrap_or(80);
    let told = |port: u16| match is_http {
        true => Some(Probe::Http(http(annotations, asked, port)?)),
        false if port == usual => Some(Probe::Tcp),
        false => Some(Probe::TcpAt { port }),
    };
    let Some(text) = option(suffix) else { return told(usual) };
    let Some(port) = text.parse::<u16>().ok().filter(|port| *port > 0) else {
        annotations.refuse(suffix, format!("`{text}` is no port"), "write one in quotes, such as \"15021\"");
        return None;
    };
    if asked.mode == BackendMode::Pods {
        if asked.is_checked && !listened.contains(&port) {
            let text = format!("no gateway listens on port {port}: every target fails its checks");
            annotations.warn(suffix, &text);
        }
        return told(port);
    }
    if annotations.service.health_check_node_port == Some(port) {
        if !is_http && asked.is_checked {
            let text = "kube-proxy listens there on every node, so a check that only connects passes without a pod too: write health-check-type: http";
            annotations.warn(suffix, text);
        }
        return Some(Probe::ServiceHealth { port, asks_status: is_http });
    }
    if port == PROXY_HEALTH_PORT {
        return Some(Probe::ProxyHealth { port, asks_status: is_http });
    }
    if let Some((front, _)) = node_ports.iter().find(|(_, node_port)| **node_port == port) {
        return told(ports[front]);
    }
    let help = match annotations.service.health_check_node_port {
        Some(known) => format!("write \"{known}\", the Service's healthCheckNodePort, with health-check-type: http"),
        None => "write the Service's healthCheckNodePort, under policy Local, with health-check-type: http".to_owned(),
    };
    if asked.is_checked {
        let text = format!(
            "nothing of this Service listens on port {port} of the nodes: every target fails its checks; {help}"
        );
        annotations.warn(suffix, &text);
    }
    Some(Probe::NobodyListens { port })
}

/// What a check for HTTP asks this port, and what passes.
fn http(annotations: &Annotations<'_>, asked: Asked, port: u16) -> Option<HttpProbe> {
    let asks_head = match annotations.text("health-check-method") {
        None => !asked.is_nlb,
        Some(word) => word.eq_ignore_ascii_case("head"),
    };
    let mut passes = Vec::new();
    for word in annotations.text("health-check-httpcode").unwrap_or("http_2xx").split(',') {
        let Some((_, range)) = CODES.iter().find(|(name, _)| *name == word) else {
            let help = "write some of http_2xx, http_3xx, http_4xx, http_5xx, with commas between";
            annotations.refuse("health-check-httpcode", format!("the API rejects `{word}`"), help);
            return None;
        };
        passes.push(*range);
    }
    let path = annotations.text("health-check-uri").unwrap_or("/").to_owned();
    // The API's word for the target's address.
    let host = annotations.text("health-check-domain").filter(|text| *text != "$_ip").map(str::to_owned);
    Some(HttpProbe { port, path, host, asks_head, passes })
}
