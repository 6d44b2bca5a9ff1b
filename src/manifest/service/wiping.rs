//! What the API server takes out of a Service by itself when its type, or its traffic policy, is edited to one that has no such field.
//!
//! Whoever leaves these fields as they were means the type alone; whoever writes another value is told that the type does not have it.
//!
//! Source: Kubernetes v1.28.7 pkg/registry/core/service/strategy.go (`dropTypeDependentFields`).

use super::{ServiceKind, ServiceManifest};
use crate::edge::TrafficPolicy;
use crate::manifest::yaml::{Node, Value};

/// Takes out of a Service what its type has none of, and what was `before` as well.
pub fn wipe(object: &mut Node, before: &ServiceManifest) {
    let written = object.find(&["spec", "type"]).and_then(Node::text);
    let kind = ServiceKind::WORDS
        .iter()
        .find(|(name, _)| Some(*name) == written)
        .map_or(ServiceKind::ClusterIp, |(_, kind)| *kind);
    let has_balancer = kind == ServiceKind::LoadBalancer;
    let has_node_ports = has_balancer || kind == ServiceKind::NodePort;
    let is_local = object.find(&["spec", "externalTrafficPolicy"]).and_then(Node::text) == Some("Local");
    let policy = match before.policy {
        TrafficPolicy::Local => "Local",
        TrafficPolicy::Cluster => "Cluster",
    };
    let health_port = before.health_check_node_port.map(|port| port.to_string());
    let class = before.load_balancer_class.as_ref().map(|(class, _)| class.as_str());
    let draws = if before.draws_node_ports { "true" } else { "false" };
    let dropped = [
        ("loadBalancerClass", has_balancer, class),
        ("allocateLoadBalancerNodePorts", has_balancer, Some(draws)),
        ("healthCheckNodePort", has_balancer && is_local, health_port.as_deref()),
        ("externalTrafficPolicy", has_node_ports, Some(policy)),
        ("clusterIP", kind != ServiceKind::ExternalName, before.service.face.cluster_ip.as_deref()),
    ];
    // What the type decides is looked at once, before anything is taken out.
    let Some(spec) = inner(object, "spec") else { return };
    for (key, _, value) in dropped.into_iter().filter(|(_, has_it, _)| !has_it) {
        without(spec, key, |text| Some(text) == value);
    }
    if has_node_ports {
        return;
    }
    let Some(Value::List(ports)) = inner(spec, "ports").map(|node| &mut node.value) else { return };
    for port in ports {
        let number = port.find(&["port"]).and_then(Node::text).and_then(|text| text.parse::<u16>().ok());
        let known = before.ports.iter().find(|known| Some(known.port) == number).and_then(|known| known.node_port);
        without(port, "nodePort", |text| known.is_some_and(|known| text == known.to_string()));
    }
}

fn inner<'a>(node: &'a mut Node, key: &str) -> Option<&'a mut Node> {
    let Value::Map(entries) = &mut node.value else { return None };
    entries.iter_mut().find(|entry| &*entry.key == key).map(|entry| &mut entry.node)
}

fn without(node: &mut Node, key: &str, is_same: impl Fn(&str) -> bool) {
    if let Value::Map(entries) = &mut node.value {
        entries.retain(|entry| &*entry.key != key || !entry.node.text().is_some_and(&is_same));
    }
}
