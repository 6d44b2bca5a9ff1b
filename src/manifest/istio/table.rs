//! Gateways and VirtualServices into tables of virtual hosts.
//!
//! - A Gateway applies if its selector holds for the pods. A server's port is a Service port: the listener binds that Service's target port.
//! - Servers for plain HTTP on one port share a table, `http.<port>`; each server with TLS has its own.
//! - A VirtualService binds to the gateways it names; the hosts are those of both, the narrower of each pair. Several on one host append
//!   their routes: those private to the gateway's namespace first, then those exported to it by name, then public ones, each group in order of
//!   name and namespace. Catch-all routes move to the end.
//! - A server that redirects to HTTPS makes its hosts do so, whether or not anything is bound to them. A port to which nothing is bound answers
//!   404 to all.
//!
//! Sources: istio pilot/pkg/model/gateway.go (merging), pilot/pkg/networking/core/gateway.go, pilot/pkg/model/push_context.go (order).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::clusters::{self, Clusters, DOMAIN};
use super::delegate::{self, Lost};
use super::gateway::{Gateway, Server};
use super::translate::{self, Context};
use super::virtual_service::{MESH, VirtualService};
use super::{Config, host, values};
use crate::gateway::routes::{RequireTls, Route, VirtualHost};
use crate::manifest::problem::{Place, Problem};
use crate::manifest::read::Sink;
use crate::manifest::routes::{Around, Missing, Proxy, Routing};
use crate::record::results::FidelityStatus;

/// Translates all routing objects. `are_whole` says that nothing is wrong with any of them.
pub(in crate::manifest) fn build(
    config: &Config,
    are_whole: bool,
    around: &Around<'_>,
    clusters: &Clusters<'_>,
    sink: &Sink,
) -> Routing {
    let services = delegate::resolve(&config.virtual_services, |rule, lost| tell_lost(rule, lost, around, sink));
    let applying: Vec<&Gateway> = config.gateways.iter().filter(|gateway| applies(gateway, around, sink)).collect();
    if applying.is_empty() && are_whole {
        tell_selectors(&config.gateways, around, sink);
    }
    let builder = Builder { around, sink, services: &services, clusters };
    builder.check_services(&config.gateways);
    let mut routing = Routing::default();
    let is_other = |gateway: &&Gateway| !applying.iter().any(|applying| applying.key() == gateway.key());
    routing.unselected = config.gateways.iter().filter(is_other).map(Gateway::key).collect();
    let mut tables: BTreeMap<u16, Vec<(&Gateway, &Server)>> = BTreeMap::new();
    let mut taking_part = Vec::new();
    let mut speaks_tls: BTreeMap<u16, bool> = BTreeMap::new();
    for (gateway, server) in applying.iter().flat_map(|gateway| gateway.servers.iter().map(|server| (*gateway, server)))
    {
        // The first server of a port says whether it speaks TLS.
        if *speaks_tls.entry(server.port).or_insert(!server.is_plain_http()) == server.is_plain_http() {
            let path = format!("Gateway {} {}", gateway.key(), server.path);
            let note = "a server before it speaks another protocol on this port; Istio leaves this one out";
            sink.note(server.at, path, FidelityStatus::Modelled, Some(note));
        } else if server.is_plain_http() {
            builder.listen(gateway, server, &mut routing.listeners);
            tables.entry(server.port).or_default().push((gateway, server));
        } else if server.is_http() {
            let name = format!("https.{}.{}.{}.{}", server.port, server.port_name, gateway.name, gateway.namespace);
            routing.secure.insert(name, builder.hosts(&[(gateway, server)], server.port, &mut Vec::new()));
        }
    }
    for (port, servers) in tables {
        let table = routing.routes.port_mut(port);
        for host in builder.hosts(&servers, port, &mut taking_part) {
            table.add(host);
        }
    }
    let first = services.iter().find(|service| taking_part.iter().any(|known| std::ptr::eq(*known, *service)));
    routing.first_route_at = first.map(|service| service.at);
    if around.missing == Missing::Refused {
        refuse_half_names(config, around, sink);
    }
    routing
}

/// Whether a Gateway is for the pods; those for others are noted.
fn applies(gateway: &Gateway, around: &Around<'_>, sink: &Sink) -> bool {
    let Proxy::Pods { labels, .. } = around.proxy else {
        let Proxy::Named(names) = around.proxy else { return false };
        return names.is_empty() || names.contains(&gateway.key());
    };
    let holds = gateway.selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    if !holds {
        let path = format!("Gateway {} spec.selector", gateway.key());
        let note = "the selector matches no pod of the target";
        sink.note(gateway.selector_at, path, FidelityStatus::Ignored, Some(note));
    }
    holds
}

/// Says that selectors hold for nobody. Gateways for other pods are none of ours, unless there is no other.
fn tell_selectors(gateways: &[Gateway], around: &Around<'_>, sink: &Sink) {
    let Proxy::Pods { labels, .. } = around.proxy else { return };
    let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
    for gateway in gateways.iter().filter(|gateway| !gateway.selector.is_empty()) {
        if around.missing == Missing::Answered {
            let written: Vec<String> = gateway.selector.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let text = format!(
                "Referenced selector not found: \"{}\" (IST0101): it matches no pod of the target, which listens nowhere then",
                written.join(",")
            );
            let path = format!("Gateway {} spec.selector", gateway.key());
            sink.note(gateway.selector_at, path, FidelityStatus::Warning, Some(&text));
            continue;
        }
        let text = "the selector matches no pod of the target";
        let problem = Problem::at(gateway.selector_at, "spec.selector", text);
        sink.report(problem.help(format!("the target's pods carry {}", labels.join(", "))));
    }
}

fn tell_lost(rule: &super::http_route::HttpRoute, lost: Lost, around: &Around<'_>, sink: &Sink) {
    let Some(delegate) = &rule.delegate else { return };
    let text = match lost {
        Lost::Unknown => format!("no VirtualService is called `{}`", delegate.key),
        Lost::NoDelegate => format!("`{}` has hosts of its own, and a delegate has none", delegate.key),
        Lost::NotVisible => format!("`{}` is not exported to this namespace", delegate.key),
    };
    match around.missing {
        Missing::Refused => {
            let problem = Problem::at(delegate.at, delegate.path.clone(), text);
            sink.report(problem.help("Istio would leave the rule out: name a VirtualService without hosts"));
        }
        Missing::Answered => {
            let text = format!("{text}: the rule is left out");
            sink.note(delegate.at, delegate.path.clone(), FidelityStatus::Warning, Some(&text));
        }
    }
}

/// A DestinationRule for half a name is for nobody.
fn refuse_half_names(config: &Config, around: &Around<'_>, sink: &Sink) {
    for rule in &config.destination_rules {
        let host = &rule.host;
        let is_half = host.contains('.') && !host.ends_with(DOMAIN) && !host.starts_with('*');
        if is_half && !around.hosts.contains(host) {
            let problem = Problem::at(rule.at, "spec.host", "");
            sink.report(clusters::half_a_name(host, &rule.namespace, problem));
        }
    }
}

/// A VirtualService of a server, with the names it is bound to and its routes.
struct Bound<'b> {
    service: &'b VirtualService,
    names: Vec<String>,
    routes: Vec<Arc<Route>>,
}

struct Builder<'b, 'c> {
    around: &'b Around<'b>,
    sink: &'b Sink,
    services: &'b [VirtualService],
    clusters: &'b Clusters<'c>,
}

impl<'b> Builder<'b, '_> {
    /// Tells what is wrong with VirtualServices, whether or not they take part.
    fn check_services(&self, gateways: &[Gateway]) {
        for service in self.services {
            if !service.gateways.iter().any(|(name, _)| name != MESH) {
                let note = "without a gateway it is for the sidecars of the mesh";
                let path = format!("VirtualService {}/{}", service.namespace, service.name);
                self.sink.note(service.at, path, FidelityStatus::Ignored, Some(note));
                continue;
            }
            for (name, at) in service.gateways.iter().filter(|(name, _)| name != MESH) {
                if !gateways.iter().any(|gateway| gateway.key() == *name) {
                    self.tell_no_gateway(name, *at, gateways);
                }
            }
            let named = service.gateways.iter().find_map(|(name, _)| Some(name.split_once('/')?.0));
            let namespace = self.around.proxy.namespace().or(named).unwrap_or_default();
            for rule in &service.http {
                let destinations = rule.destinations.iter().map(|one| &one.destination);
                for destination in destinations.chain(rule.mirrors.iter().map(|mirror| &mirror.destination)) {
                    let _ = self.clusters.locate(destination, namespace, 80);
                }
            }
        }
    }

    fn tell_no_gateway(&self, name: &str, at: Place, gateways: &[Gateway]) {
        if self.around.missing == Missing::Answered {
            let text = format!("Referenced gateway not found: \"{name}\" (IST0101): no server gets these routes");
            self.sink.note(at, "spec.gateways".to_owned(), FidelityStatus::Warning, Some(&text));
            return;
        }
        let text = format!("no Gateway is called `{name}`");
        let known: Vec<String> = gateways.iter().map(Gateway::key).collect();
        let problem = Problem::at(at, "spec.gateways", text);
        self.sink.report(problem.did_you_mean(name, known.iter().map(String::as_str)));
    }

    fn listen(&self, gateway: &Gateway, server: &Server, listeners: &mut Vec<(u16, u16)>) {
        let (bound, is_reached) = self.around.proxy.bound(server.port);
        if !is_reached {
            let path = format!("Gateway {} {}.port", gateway.key(), server.path);
            let note = "the Service in front has no such port, so no client reaches it";
            self.sink.note(server.port_at, path, FidelityStatus::Approximated, Some(note));
        }
        if !listeners.contains(&(bound, server.port)) {
            listeners.push((bound, server.port));
        }
    }

    /// The virtual hosts of servers that share a port.
    fn hosts(
        &self,
        servers: &[(&Gateway, &Server)],
        port: u16,
        taking_part: &mut Vec<&'b VirtualService>,
    ) -> Vec<VirtualHost> {
        let mut hosts: Vec<VirtualHost> = Vec::new();
        for (gateway, server) in servers {
            let require_tls = if server.redirects_to_https() { RequireTls::All } else { RequireTls::No };
            let mut put = |name: &str, routes: &[Arc<Route>]| {
                let name = name.to_ascii_lowercase();
                let known = hosts.iter().position(|host| host.domains[0] == name);
                let index = known.unwrap_or_else(|| {
                    let host = VirtualHost {
                        domains: vec![name.clone()],
                        ..VirtualHost::new(format!("{name}:{port}"), Vec::new())
                    };
                    hosts.push(host);
                    hosts.len() - 1
                });
                hosts[index].routes.extend(routes.iter().map(Arc::clone));
                if require_tls == RequireTls::All {
                    hosts[index].require_tls = RequireTls::All;
                }
            };
            for bound in self.bound(gateway, server) {
                taking_part.push(bound.service);
                bound.names.iter().for_each(|name| put(name, &bound.routes));
            }
            if require_tls == RequireTls::All {
                let names =
                    server.hosts.iter().map(|host| host.split_once('/').map_or(host.as_str(), |(_, name)| name));
                names.for_each(|name| put(name, &[]));
            }
        }
        for host in &mut hosts {
            // Stable: `false` (a condition) sorts before `true` (a catch-all).
            host.routes.sort_by_key(|route| route.condition.is_catch_all());
        }
        if hosts.is_empty() {
            let nothing = VirtualHost::new(format!("blackhole:{port}"), Vec::new());
            hosts.push(VirtualHost { domains: vec!["*".to_owned()], ..nothing });
        }
        hosts
    }

    /// The VirtualServices of a server, in order.
    fn bound(&self, gateway: &Gateway, server: &Server) -> Vec<Bound<'b>> {
        let key = gateway.key();
        let namespace = self.around.proxy.namespace().unwrap_or(&gateway.namespace);
        let context = Context {
            proxy: self.around.proxy,
            namespace,
            gateway: &key,
            port: server.port,
            options: self.around.options,
            clusters: self.clusters,
        };
        let is_bound = |service: &&VirtualService| {
            service.gateways.iter().any(|(name, _)| *name == key)
                && (service.namespace == namespace && service.export_to.is_empty()
                    || values::is_visible(&service.export_to, namespace))
        };
        let mut services: Vec<&VirtualService> = self.services.iter().filter(is_bound).collect();
        services.sort_by_key(|service| rank(service, namespace));
        let server_hosts: Vec<&str> = server.hosts.iter().map(String::as_str).collect();
        let mut found = Vec::new();
        for service in services {
            let own: Vec<&str> = service.hosts.iter().map(String::as_str).collect();
            let names = host::intersection(&host::names_for(&server_hosts, &service.namespace), &own);
            let routes = if names.is_empty() { Vec::new() } else { translate::routes(service, &context) };
            if !routes.is_empty() {
                found.push(Bound { service, names: names.into_iter().map(str::to_owned).collect(), routes });
            }
        }
        found
    }
}

/// Private ones first, then those exported to the gateway's namespace, then public ones.
fn rank(service: &VirtualService, namespace: &str) -> u8 {
    let is_public = service.export_to.is_empty() || service.export_to.iter().any(|name| name == "*");
    match (is_public, service.namespace == namespace && service.export_to.len() == 1) {
        (true, _) => 2,
        (false, true) => 0,
        (false, false) => 1,
    }
}
