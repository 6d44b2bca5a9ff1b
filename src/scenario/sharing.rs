//! Who gets which load balancer: what the Service in front comes to, and what a further Service of type `LoadBalancer` does to its balancer.
//!
//! - A Service that names no balancer gets one of its own. In a cluster without support for balancers (`loadBalancers: false`) it gets none, and no NLB is
//!   made without two zones.
//! - `…-loadbalancer-id` reuses one. Only one that was made by hand can be reused, and only in its own region; else creation fails. So it does where pods are
//!   to be the targets of a shared-performance instance.
//! - With `force-override-listeners: "true"` the controller writes a listener for each port of the Service, whoever's it was: the last writer has
//!   it. Without, it leaves all listeners alone: they are set up by hand.
//! - Two clusters cannot share a balancer, and two Services that write the same listener from the start leave open who has it: both are refused. Two that name the
//!   same port and of which one writes it, or none, are told of.
//! - All Services of a balancer share its quota of targets.
//!
//! Sources: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service/clbv1/model_applier.go (`isLoadBalancerReusable`, `applyListeners`) and
//! listeners.go (`buildActionsForListeners`); ASM documents "Create an ingress gateway", on sharing a load balancer.

use super::balancer;
use super::settings::{BalancerOrigin, Settings};
use super::state::Resolved;
use crate::cluster::endpoints::selects;
use crate::drill::{Creation, Share, SharedService};
use crate::edge::{BackendMode, LoadBalancerConfig, TargetRules};
use crate::manifest::service::{ServiceKind, ServiceManifest, TargetPort};
use crate::manifest::{Place, Problem, Sink};
use crate::record::results::FidelityStatus;

/// The balancer that a Service wants to reuse, and where it says so.
fn wanted(service: &ServiceManifest) -> Option<&(String, Place)> {
    service.balancer_annotation("id")
}

/// Whether it writes listeners on a balancer that it reuses.
fn overrides(service: &ServiceManifest) -> bool {
    service.balancer_annotation("force-override-listeners").is_some_and(|(text, _)| text == "true")
}

/// Whether the controller writes the listeners of its balancer: always those of its own.
pub(super) fn writes_listeners(service: &ServiceManifest) -> bool {
    wanted(service).is_none() || overrides(service)
}

/// Why a Service gets no balancer, in the controller's words where there are any.
fn failure(service: &ServiceManifest, settings: &Settings, sink: &Sink) -> Option<String> {
    if !settings.cluster.load_balancers {
        return Some("the cluster has no support for Services of type LoadBalancer".to_owned());
    }
    if let Some((_, reason)) = balancer::trouble(service) {
        return Some(reason);
    }
    let (id, place) = wanted(service)?;
    let Some(known) = settings.balancers.iter().find(|known| known.id == *id) else {
        if !settings.balancers.is_empty() {
            let problem = Problem::at(*place, "", format!("no balancer is called `{id}`"));
            sink.report(problem.did_you_mean(id, settings.balancers.iter().map(|known| known.id.as_str())));
        }
        return None;
    };
    if known.origin == BalancerOrigin::Kubernetes {
        let reason = "can not reuse loadbalancer created by kubernetes.";
        return Some(format!("alicloud: the loadbalancer {id} can not be reused, {reason}"));
    }
    if known.is_shared_performance && service.reaches_pods() {
        return Some(format!("the shared-performance instance {id} takes no ENI as a backend"));
    }
    match (&known.region, &settings.cluster.region) {
        (Some(its), Some(here)) if its != here => {
            Some(format!("alicloud: can not find loadbalancer {id} in {here}: it is in {its}"))
        }
        _ => None,
    }
}

/// What decides who has the balancer in front: the place, path and value of the zones that an NLB lacks or of the id, or what a cluster says of balancers.
pub(super) fn written(
    front: &ServiceManifest,
    settings: &Settings,
    path: impl Fn(&str) -> String,
) -> (Place, String, Option<String>) {
    if let Some((suffix, _)) = balancer::trouble(front).filter(|_| settings.cluster.load_balancers) {
        let written = front.balancer_annotation(suffix);
        let place = written.map_or(front.annotations_at, |(_, place)| *place);
        return (place, path(suffix), written.map(|(text, _)| text.clone()));
    }
    match wanted(front) {
        Some((id, place)) => (*place, path("id"), Some(id.clone())),
        None => (Place::NOWHERE, "spec.cluster.loadBalancers".to_owned(), Some("false".to_owned())),
    }
}

/// Why the gateway is served no configuration. Source: ASM documents, "CRD fields for an ASM gateway", `metadata.namespace`.
pub(super) fn unconfigured(resolved: &Resolved) -> Option<String> {
    let id = &resolved.origin.id;
    let is_elsewhere = id.kind == "IstioGateway" && id.namespace != "istio-system";
    is_elsewhere.then(|| format!("an IstioGateway in `{}` never gets its configuration", id.namespace))
}

/// What the Service in front comes to.
pub(super) fn creation(resolved: &Resolved, settings: &Settings, sink: &Sink) -> Creation {
    let Some(front) = resolved.front() else { return Creation::Stands };
    if let Some(reason) = failure(front, settings, sink) {
        return Creation::Fails { reason };
    }
    if let Some(reason) = unconfigured(resolved) {
        return Creation::Unconfigured { reason };
    }
    if let Some((_, place)) = wanted(front).filter(|_| !overrides(front)) {
        let note = "its listeners are left alone; they are taken to be set up by hand, and to lead to this Service";
        let path = format!("Service {} loadbalancer-id", front.service.key);
        sink.note(*place, path, FidelityStatus::Approximated, Some(note));
    }
    Creation::Stands
}

/// Further Services from the start that leave open who has a listener.
pub(super) fn check_start(resolved: &Resolved, sink: &Sink) {
    let Some((front, (id, _))) = resolved.front().and_then(|front| Some((front, wanted(front)?))) else { return };
    for (key, other) in resolved.services.iter().filter(|(key, _)| **key != resolved.front_key()) {
        let shares = other.kind == ServiceKind::LoadBalancer && wanted(other).is_some_and(|(its, _)| its == id);
        let port =
            other.ports.iter().map(|port| port.port).find(|port| front.ports.iter().any(|its| its.port == *port));
        let (true, Some(port), Some((_, place))) = (shares, port, wanted(other)) else { continue };
        let name = &front.service.key;
        match (overrides(front), overrides(other)) {
            (true, true) => {
                let text = format!("{key} and {name} both write the listener of port {port} on {id}");
                let problem = Problem::at(*place, "", text);
                sink.report(
                    problem.help("who comes last has it: apply one of them in the timeline to see what that costs"),
                );
            }
            (false, true) => {
                let text = format!("{key} writes the listener of port {port} on {id}, so it never leads to {name}");
                let problem = Problem::at(*place, "", text);
                sink.report(problem.help(format!("apply {key} in the timeline, or give it a port of its own")));
            }
            (is_writer, false) => {
                let text = match is_writer {
                    true => format!("{name} writes the listener of port {port} on {id}, so it never leads to {key}"),
                    false => {
                        format!("{key} and {name} count on one listener, port {port} on {id}: it leads to one of them")
                    }
                };
                sink.note(*place, format!("Service {key} loadbalancer-id"), FidelityStatus::Warning, Some(&text));
            }
        }
    }
}

/// What is left of the balancer's quota for a further Service: all of them share it. What it wants beyond that is told.
///
/// Sources: CLB documents, "Limits"; ASM documents, "Create an ingress gateway", on sharing a load balancer.
fn room(
    service: &ServiceManifest,
    resolved: &Resolved,
    balancer: &LoadBalancerConfig,
    settings: &Settings,
    sink: &Sink,
) -> Option<usize> {
    let quota = balancer.targets.quota?;
    let taken = balancer::target_count(resolved, settings, balancer.targets.mode).unwrap_or(0);
    let left = quota.saturating_sub(taken);
    let templates = resolved.deployments.values().map(|manifest| &manifest.deployment);
    let selected = templates.filter(|deployment| selects(&service.service.selector, &deployment.template.labels));
    let wanted_count: usize = selected.map(|deployment| usize::try_from(deployment.replicas).unwrap_or(0)).sum();
    if let Some((id, place)) = wanted(service).filter(|_| wanted_count > left) {
        let key = &service.service.key;
        let text = format!(
            "{key} wants {wanted_count} targets, and of the {quota} of {id} the Service in front has {taken}: some are left out"
        );
        sink.note(*place, format!("Service {key} loadbalancer-id"), FidelityStatus::Warning, Some(&text));
    }
    Some(left)
}

/// Fronts in several clusters that name one balancer.
pub(super) fn check_clusters<'a>(fronts: impl Iterator<Item = (&'a str, &'a ServiceManifest)>, sink: &Sink) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for (cluster, front) in fronts {
        let Some((id, place)) = wanted(front) else { continue };
        if let Some((earlier, _)) = seen.iter().find(|(_, known)| known == id) {
            let problem = Problem::at(*place, "", format!("clusters {earlier} and {cluster} cannot share {id}"));
            sink.report(problem.help("give each cluster a balancer of its own: write the id under overrides"));
        }
        seen.push((cluster, id));
    }
}

/// A Service of type `LoadBalancer` that comes in mid-run, and what it does to the balancer in front.
pub(super) fn shared(
    service: &ServiceManifest,
    resolved: &Resolved,
    balancer: &LoadBalancerConfig,
    settings: &Settings,
    sink: &Sink,
) -> SharedService {
    let its = resolved.front().and_then(wanted).map(|(id, _)| id);
    let share = match failure(service, settings, sink) {
        Some(reason) => Share::Fails { reason },
        None if its.is_none() || wanted(service).map(|(id, _)| id) != its => Share::Own,
        None if overrides(service) => Share::Overwrites,
        None => Share::LeavesAlone,
    };
    let number = |port: u16, target: &TargetPort| match target {
        TargetPort::Number(number) => *number,
        TargetPort::Name(_) => port,
    };
    let quota = match share {
        Share::Overwrites => room(service, resolved, balancer, settings, sink),
        Share::LeavesAlone | Share::Own | Share::Fails { .. } => balancer.targets.quota,
    };
    let config = LoadBalancerConfig {
        service: service.service.key.to_string(),
        targets: TargetRules { mode: BackendMode::Pods, quota, ..balancer.targets.clone() },
        ports: service.ports.iter().map(|port| (port.port, number(port.port, &port.target))).collect(),
        http: balancer::http_rules(service, settings, sink),
        stands_at_zero: false,
        ..balancer.clone()
    };
    SharedService { service: service.service.clone(), balancer: config, share }
}
