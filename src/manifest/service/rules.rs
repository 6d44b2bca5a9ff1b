//! What the API server refuses of a Service, in its own words.
//!
//! Source: Kubernetes v1.28.7 pkg/apis/core/validation/validation.go (`ValidateService`, `validateServiceExternalTrafficPolicy`, `validateAffinityTimeout`),
//! pkg/registry/core/service/portallocator/allocator.go (node ports, 30000 to 32767 by default).

use std::collections::BTreeMap;

use super::{ServiceKind, ServiceManifest};
use crate::edge::TrafficPolicy;
use crate::manifest::problem::{Place, Problem};
use crate::manifest::read::{Field, Fields, Sink};
use crate::record::results::FidelityStatus;

/// The first and the last node port. Source: kube-apiserver `--service-node-port-range`.
pub const NODE_PORTS: (i64, i64) = (30_000, 32_767);

const ONLY_BALANCER: &str = "may only be used when `type` is 'LoadBalancer'";

/// A node port; 0 counts as absent.
pub(super) fn node_port(field: &Field<'_>) -> Option<u16> {
    let number = field.whole::<u16>(0, 65_535).filter(|number| *number > 0)?;
    if !(NODE_PORTS.0..=NODE_PORTS.1).contains(&i64::from(number)) {
        field.refuse(
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
            format!("{number} is out of it: write one of these, or leave it out and one is drawn"),
        );
        return None;
    }
    Some(number)
}

/// Fields that only some types of Service may have. Returns the `healthCheckNodePort`.
pub(super) fn check_type(spec: &Fields<'_>, kind: ServiceKind, policy: TrafficPolicy) -> Option<(u16, Place)> {
    let has_balancer = kind == ServiceKind::LoadBalancer;
    if let Some(field) = spec.look("externalTrafficPolicy")
        && !matches!(kind, ServiceKind::LoadBalancer | ServiceKind::NodePort)
    {
        let help = "take it out: within the cluster internalTrafficPolicy decides";
        field.refuse("may only be set for externally-accessible services", help);
    }
    for key in ["loadBalancerClass", "allocateLoadBalancerNodePorts", "loadBalancerSourceRanges"] {
        if let Some(field) = spec.look(key)
            && !has_balancer
        {
            field.refuse(ONLY_BALANCER, "take it out, or write type: LoadBalancer");
        }
    }
    let field = spec.look("healthCheckNodePort")?;
    let number = node_port(&field)?;
    if !has_balancer || policy != TrafficPolicy::Local {
        field.refuse(
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            "take it out, or write externalTrafficPolicy: Local for a LoadBalancer",
        );
        return None;
    }
    Some((number, field.place()))
}

/// Ports of nodes that a Service of its type has none of.
pub(super) fn check_node_ports(spec: &Fields<'_>, kind: ServiceKind) {
    let ports = spec.look("ports").map(|field| field.items()).unwrap_or_default();
    for port in ports.iter().filter_map(Field::fields) {
        if let Some(field) = port.look("nodePort")
            && !matches!(kind, ServiceKind::LoadBalancer | ServiceKind::NodePort)
            && field.node().text() != Some("0")
        {
            field.refuse("may not be used when `type` is 'ClusterIP'", "take it out, or write type: NodePort");
        }
    }
}

/// A seconds' count of `sessionAffinityConfig`.
pub(super) fn affinity_seconds(field: &Field<'_>) -> Option<u64> {
    let seconds = field.whole::<i64>(i64::MIN, i64::MAX)?;
    if !(1..=super::AFFINITY_SECONDS_MAX).contains(&seconds) {
        let help = format!("{seconds} is out of range: write 1 to {}", super::AFFINITY_SECONDS_MAX);
        field.refuse(format!("must be greater than 0 and less than {}", super::AFFINITY_SECONDS_MAX), help);
        return None;
    }
    u64::try_from(seconds).ok()
}

/// Annotations of a balancer on a Service that has none.
pub(super) fn note_unused(value: &Field<'_>) {
    value.note(FidelityStatus::Ignored, Some("no balancer's controller reads it: the Service has another type"));
}

/// No two Services have the same node port.
pub fn check_allocation(services: &BTreeMap<String, ServiceManifest>, sink: &Sink) {
    let mut taken: BTreeMap<u16, &str> = BTreeMap::new();
    for (key, service) in services {
        for (port, place) in &service.taken {
            let Some(other) = taken.insert(*port, key) else { continue };
            let text = if other == key {
                format!("Duplicate value: {port}")
            } else {
                "provided port is already allocated".to_owned()
            };
            let problem = Problem::at(*place, "spec.ports.nodePort", text);
            sink.report(problem.help(format!("Service {other} has node port {port}: write another, or leave it out")));
        }
    }
}
