//! The way in: the Service in front of the target, its type, and what each load's clients dial.
//!
//! - `LoadBalancer`: clients on the internet dial the balancer. So do clients in the cluster if the Service's status names it, as an NLB's does; a CLB's
//!   gives its address, and kube-proxy keeps such connections within the cluster.
//! - `NodePort`: clients on the internet dial nodes, in turn. `ClusterIP`: there are only clients in the cluster. Those dial the Service's own address.
//!
//! A URL names the Service's port or the nodes' port; what is dialled follows from the way.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::balancer::listeners::tls_ports;
use super::balancer::{self, products};
use super::settings::{Address, LoadSettings, Location, Settings, WaySettings};
use super::state::Resolved;
use crate::cluster::Version;
use crate::drill::{Creation, DoorSpec, FrontSpec};
use crate::edge::door::{DoorKind, DoorPort};
use crate::edge::kube_proxy::categories::{Policies, Reach};
use crate::edge::kube_proxy::shortcut::Shortcut;
use crate::edge::kube_proxy::uses_terminating;
use crate::edge::{BackendMode, NO_PORT, NodeChoice, NodesConfig, Product, ServiceRules};
use crate::manifest::service::rules::NODE_PORTS;
use crate::manifest::service::{ServiceKind, ServiceManifest, TargetPort};
use crate::manifest::{Problem, Sink};

/// The first node port that is given to a port without one. The API server draws them at random.
const NODE_PORT_FIRST: u16 = 31_080;

/// The way in.
pub(super) fn spec(resolved: &Resolved, settings: &Settings, sink: &Sink) -> Option<FrontSpec> {
    let service = resolved.front()?;
    if service.kind == ServiceKind::ExternalName {
        let problem = Problem::at(service.kind_at, "spec.type", "an ExternalName leads to no pod");
        sink.report(problem.help("write LoadBalancer, NodePort or ClusterIP"));
        return None;
    }
    check_ports(resolved, service, sink);
    spec_with(resolved, settings, (&node_ports(service, &BTreeMap::new()), service), sink)
}

/// At the start a port that leads to no container is a slip of the pen.
fn check_ports(resolved: &Resolved, service: &ServiceManifest, sink: &Sink) {
    let Some(manifest) = resolved.target() else { return };
    for (port, _) in unnamed(service, &manifest.ports) {
        let text = format!("no container port is called as port {port} says");
        let problem = Problem::at(service.policy_at, "spec.ports", text);
        sink.report(problem.did_you_mean("", manifest.ports.keys().map(String::as_str)));
    }
}

/// The ports that lead to names which no container has.
pub(super) fn unnamed<'a>(
    service: &'a ServiceManifest,
    named: &BTreeMap<String, u16>,
) -> impl Iterator<Item = (u16, &'a str)> {
    service.ports.iter().filter_map(|port| match &port.target {
        TargetPort::Name(name) if !named.contains_key(name) => Some((port.port, name.as_str())),
        _ => None,
    })
}

/// The way in, with the node ports that the API server has given, for clients that dial what they found when the Service was `found`.
pub(super) fn spec_with(
    resolved: &Resolved,
    settings: &Settings,
    (node_ports, found): (&BTreeMap<u16, u16>, &ServiceManifest),
    sink: &Sink,
) -> Option<FrontSpec> {
    let service = resolved.front()?;
    let ports = ports(resolved, service)?;
    let node_ports = node_ports.clone();
    let kind_of_it = products::kind(service, settings);
    let balancer = match kind_of_it {
        ServiceKind::LoadBalancer => {
            Some(balancer::config(resolved, settings, (ports.clone(), node_ports.clone()), sink)?)
        }
        ServiceKind::NodePort | ServiceKind::ClusterIp | ServiceKind::ExternalName => None,
    };
    check_ip_mode(settings, sink);
    let mut doors = Vec::new();
    for load in &settings.loads {
        let kind = kind(&load.way, &load.name, found, settings, sink);
        let choice = choice(load, kind, settings, sink);
        let ports = dialled(kind, service, &ports, &node_ports);
        let is_alibaba = settings.balancer.product.product == Product::Alibaba;
        let tls_ports = if kind.is_none() && is_alibaba { tls_ports(found) } else { Vec::new() };
        check_schemes(load, found, &tls_ports, sink);
        doors.push(kind.map(|kind| DoorSpec { kind, choice, ports }));
    }
    let to_nodes = balancer.as_ref().is_some_and(|config| config.targets.mode != BackendMode::Pods);
    let passes_nodes = to_nodes || doors.iter().any(Option::is_some);
    let has_node_ports = to_nodes || service.kind == ServiceKind::NodePort || doors.iter().flatten().any(is_node_port);
    Some(FrontSpec {
        service: service.service.key.to_string(),
        ports,
        node_ports: if has_node_ports { node_ports } else { BTreeMap::new() },
        balancer,
        creation: Creation::Stands,
        nodes: passes_nodes.then(|| nodes(service, settings)),
        doors,
        cloud_latency: settings.cluster.network_latency,
        names: settings.balancer.names,
        balancer_name: products::balancer_name(service, settings),
    })
}

fn is_node_port(door: &DoorSpec) -> bool {
    door.kind == DoorKind::NodePort
}

/// The Service's ports, and what its pods listen on: none of an `ExternalName`, which is a name in DNS and nothing else.
fn ports(resolved: &Resolved, service: &ServiceManifest) -> Option<BTreeMap<u16, u16>> {
    if service.kind == ServiceKind::ExternalName {
        // kube-proxies leave it out. Source: pkg/proxy/util/utils.go `ShouldSkipService`.
        return Some(BTreeMap::new());
    }
    let named = &resolved.target()?.ports;
    let of = |target: &TargetPort| match target {
        TargetPort::Number(number) => *number,
        TargetPort::Name(name) => named.get(name).copied().unwrap_or(NO_PORT),
    };
    Some(service.ports.iter().map(|port| (port.port, of(&port.target))).collect())
}

/// The Service's ports, and those of the nodes: as they are written, or as they were given before, or the next that is free.
pub(super) fn node_ports(service: &ServiceManifest, known: &BTreeMap<u16, u16>) -> BTreeMap<u16, u16> {
    let has_some = matches!(service.kind, ServiceKind::LoadBalancer | ServiceKind::NodePort);
    let written: Vec<u16> = service.ports.iter().filter_map(|port| port.node_port).collect();
    let last = u16::try_from(NODE_PORTS.1).unwrap_or(u16::MAX);
    let is_given = |port: &u16| known.values().any(|given| given == port);
    let is_free =
        |port: &u16| !written.contains(port) && !is_given(port) && service.health_check_node_port != Some(*port);
    let mut free = (NODE_PORT_FIRST..=last).filter(is_free);
    let mut found = BTreeMap::new();
    for port in service.ports.iter().filter(|_| has_some) {
        let given = known.get(&port.port).copied().filter(|given| !written.contains(given));
        let drawn = || free.next().filter(|_| service.draws_node_ports);
        found.extend(port.node_port.or(given).or_else(drawn).map(|node_port| (port.port, node_port)));
    }
    found
}

/// What kube-proxies know of the Service, and what nodes can hold.
pub(super) fn nodes(service: &ServiceManifest, settings: &Settings) -> NodesConfig {
    let proxy = settings.cluster.kube_proxy;
    let reach = if service.kind == ServiceKind::ClusterIp { Reach::Internal } else { Reach::External };
    let policies = Policies { internal: service.internal_policy, external: service.policy, reach };
    let version = settings.cluster.version;
    NodesConfig {
        identity: settings.cluster.identity.clone(),
        service: service.service.key.to_string(),
        rules: ServiceRules {
            mode: proxy.mode,
            policies,
            affinity: service.affinity,
            uses_terminating: uses_terminating(version),
            shortcut: Shortcut::of(proxy.mode, version, proxy.detects_pods),
        },
        min_sync_period: proxy.min_sync_period,
        hop_latency: settings.cluster.network_latency,
        table: proxy.table,
    }
}

/// Source: KEP-1860, `LoadBalancerIPMode`, on from 1.30.
fn check_ip_mode(settings: &Settings, sink: &Sink) {
    if settings.balancer.is_proxy_mode && settings.cluster.version < Version::new(1, 30) {
        let problem = Problem::nowhere(format!("Kubernetes {} knows no ipMode", settings.cluster.version));
        sink.report(problem.help("take loadBalancer.ipMode out, or write cluster.version: \"1.30\" or newer"));
    }
}

/// The door of a load's clients; none: the balancer.
fn kind(
    way: &WaySettings,
    load: &str,
    service: &ServiceManifest,
    settings: &Settings,
    sink: &Sink,
) -> Option<DoorKind> {
    use Address as Dialled;
    let of_service = products::kind(service, settings);
    let usual = match (way.location, of_service) {
        (_, ServiceKind::LoadBalancer) => Dialled::LoadBalancer,
        (Location::Internet, ServiceKind::NodePort) => Dialled::NodePort,
        _ => Dialled::ClusterIp,
    };
    let refuse = |text: &str, help: &str| {
        sink.report(Problem::at(way.at, format!("spec.load.{load}.clients"), text.to_owned()).help(help));
        None
    };
    match (way.location, way.address.unwrap_or(usual)) {
        (_, Dialled::LoadBalancer) if of_service != ServiceKind::LoadBalancer => {
            refuse("the Service in front has no balancer", "write address: nodePort or clusterIP, or leave it out")
        }
        (Location::Internet, Dialled::LoadBalancer) => None,
        (Location::Internet, Dialled::NodePort) if service.kind == ServiceKind::ClusterIp => {
            refuse("a Service of type ClusterIP has no node port", "write type: NodePort, or location: cluster")
        }
        (Location::Internet, Dialled::NodePort) => Some(DoorKind::NodePort),
        (Location::Internet, Dialled::ClusterIp) => refuse(
            "clients on the internet do not reach the Service's own address",
            "write clients: { location: cluster }, or give the Service type LoadBalancer or NodePort",
        ),
        (Location::Cluster, Dialled::NodePort) => {
            refuse("clients in the cluster dial no node ports here", "write address: clusterIP, or location: internet")
        }
        (Location::Cluster, Dialled::ClusterIp) => match service.headless_at {
            None => Some(DoorKind::ClusterIp),
            Some(at) => {
                let text = "a headless Service has no address: DNS tells its clients the addresses of pods, and no kube-proxy is on their way; \
                            such clients are not simulated";
                let problem = Problem::at(at, format!("Service {} spec.clusterIP", service.service.key), text);
                sink.report(
                    problem.help("take clusterIP: None out, or write location: internet for a Service with a balancer"),
                );
                None
            }
        },
        (Location::Cluster, Dialled::LoadBalancer) => {
            let leaves = products::has_name(service, settings) || settings.balancer.is_proxy_mode;
            (!leaves).then_some(DoorKind::BalancerFromWithin)
        }
    }
}

/// The nodes that a load's clients are on, or dial.
fn choice(load: &LoadSettings, kind: Option<DoorKind>, settings: &Settings, sink: &Sink) -> NodeChoice {
    let way = &load.way;
    let path = |key: &str| format!("spec.load.{}.clients.{key}", load.name);
    let check = |key: &str, wanted: &Option<String>, known: Vec<String>| {
        let Some(wanted) = wanted else { return };
        if kind.is_none() && way.location == Location::Internet {
            let problem = Problem::at(way.at, path(key), "clients of a balancer choose no node");
            sink.report(problem.help("take it out, or write location: cluster or address: nodePort"));
        } else if !known.contains(wanted) {
            let problem = Problem::at(way.at, path(key), format!("no {key} is called `{wanted}`"));
            sink.report(problem.did_you_mean(wanted, known.iter().map(String::as_str)));
        }
    };
    check("node", &way.node, balancer::nodes(settings).map(|(name, _)| name.to_string()).collect());
    check("zone", &way.zone, settings.cluster.nodes.iter().flat_map(|group| group.zones.clone()).collect());
    let shared = |name: &Option<String>| name.as_deref().map(Rc::from);
    NodeChoice { node: shared(&way.node), zone: shared(&way.zone) }
}

/// By the port that a URL may name: what is dialled on a node, and what pods listen on.
fn dialled(
    kind: Option<DoorKind>,
    service: &ServiceManifest,
    ports: &BTreeMap<u16, u16>,
    node_ports: &BTreeMap<u16, u16>,
) -> BTreeMap<u16, DoorPort> {
    let mut found = BTreeMap::new();
    for (port, pod) in ports {
        let node_port = node_ports.get(port).copied().filter(|_| kind == Some(DoorKind::NodePort));
        let door = DoorPort { node: node_port.unwrap_or(*port), pod: *pod };
        found.insert(*port, door);
        found.extend(node_port.filter(|_| service.kind != ServiceKind::ClusterIp).map(|node_port| (node_port, door)));
    }
    found
}

/// What the clients of each load may name, in the order of the loads.
pub(super) fn named(front: &FrontSpec, loads: usize) -> Vec<BTreeSet<u16>> {
    let door = |load: usize| front.doors.get(load).and_then(Option::as_ref);
    let of = |load: usize| match door(load) {
        Some(door) => door.ports.keys().copied().collect(),
        None => front.ports.keys().copied().collect(),
    };
    (0..loads).map(of).collect()
}

/// Only a listener that ends TLS is spoken to in TLS, and in nothing else.
fn check_schemes(load: &LoadSettings, service: &ServiceManifest, tls_ports: &[u16], sink: &Sink) {
    let protocol = if balancer::is_nlb(service) {
        "an NLB the annotation protocol-port: \"TCPSSL"
    } else {
        "a CLB the annotation protocol-port: \"https"
    };
    for kind in &load.mix {
        let port = kind.entry.port;
        let (text, help) = match (kind.entry.speaks_tls(), tls_ports.contains(&port)) {
            (true, false) => (
                format!("TLS is simulated only where the balancer ends it, and nothing ends it on port {port}"),
                format!("write http://, or for {protocol}:{port}\""),
            ),
            (false, true) => {
                (format!("the listener of port {port} ends TLS, and answers nobody else"), "write https://".to_owned())
            }
            _ => continue,
        };
        sink.report(Problem::at(kind.at, format!("spec.load.{}.mix", load.name), text).help(help));
    }
}

/// Clients ask for ports that there are, at some time.
pub(super) fn check_urls(load: &LoadSettings, known: &BTreeSet<u16>, sink: &Sink) {
    let known: Vec<u16> = known.iter().copied().collect();
    for kind in load.mix.iter().filter(|kind| !known.contains(&kind.entry.port)) {
        let known: Vec<String> = known.iter().map(u16::to_string).collect();
        let text = format!("the Service in front has no port {}", kind.entry.port);
        let problem = Problem::at(kind.at, format!("spec.load.{}.mix", load.name), text);
        sink.report(problem.help(format!("its ports are {}", known.join(", "))));
    }
}
