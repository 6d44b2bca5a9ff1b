//! What keeps pods from ever being ready, from starting, or from being found: gates that nobody opens, sidecars that a version does not know, labels that a Service
//! does not ask for.

use super::balancer::products;
use super::settings::{BackendSettings, Settings};
use super::state::Resolved;
use super::target::Workload;
use crate::cluster::Version;
use crate::cluster::endpoints::selects;
use crate::cluster::placement::SCHEDULING_GATES;
use crate::edge::readiness_gate::CONDITION_PREFIX;
use crate::manifest::deployment::{DeploymentManifest, Written};
use crate::manifest::service::{ServiceKind, ServiceManifest};
use crate::manifest::{Problem, Sink};
use crate::record::results::FidelityStatus;

/// The first version in which sidecars are on by default, and end after the other containers. Source: KEP-753.
const SIDECARS: Version = Version::new(1, 29);

/// The first version in which a `DaemonSet`'s surge is on by default. Source: KEP-1591.
const SURGES: Version = Version::new(1, 22);

/// Reports what would keep the pods that the run finds from having become ready.
pub(super) fn check(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let version = settings.cluster.version;
    for (workload, manifest) in resolved.workloads() {
        let name = workload.key.as_str();
        for gate in gates_for_ever_closed(name, manifest, resolved, settings) {
            let text = "nobody sets this condition, so the pods would never be ready";
            sink.report(Problem::at(gate.at, gate.path.clone(), text).help(help(name, manifest, resolved, settings)));
        }
        for gate in &manifest.scheduling_gates {
            let (text, help) = match version >= SCHEDULING_GATES {
                true => (
                    format!("nobody takes the gate `{}` away, so the pods would never have got a node", gate.name),
                    "take it out; a rollout to it, by the timeline, sticks",
                ),
                false => (
                    format!("Kubernetes {version} knows no scheduling gates: they are dropped"),
                    "take it out, or simulate cluster.version \"1.27\" or newer",
                ),
            };
            sink.report(Problem::at(gate.at, gate.path.clone(), text).help(help));
        }
        for container in &manifest.unstartable {
            let text = format!(
                "`{}` must not run as root (runAsNonRoot) and is told to: no kubelet starts it (CreateContainerConfigError)",
                container.name
            );
            let help = "write another runAsUser, or runAsNonRoot: false; a rollout to it, by the timeline, sticks";
            sink.report(Problem::at(container.at, container.path.clone(), text).help(help));
        }
        for sidecar in manifest.sidecars.iter().filter(|_| version < SIDECARS) {
            let text = format!(
                "Kubernetes {version} knows no sidecars: `{}` would have to end before the others start",
                sidecar.name
            );
            let problem = Problem::at(sidecar.at, sidecar.path.clone(), text);
            sink.report(problem.help("write it under containers, or simulate cluster.version \"1.29\" or newer"));
        }
    }
    check_named(resolved, settings, sink);
    warn_unselected(resolved, settings, sink);
    check_surges(resolved, settings, sink);
    check_node_names(resolved, settings, sink);
}

/// Reports pods that name a node which is not there: they would have been deleted long before the run.
fn check_node_names(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let nodes = super::nodes::made(settings);
    for node in resolved.pods.values().filter_map(|pod| pod.node.as_ref()) {
        if nodes.iter().all(|known| *known.name != *node.name) {
            let problem = Problem::at(node.at, node.path.clone(), format!("no node is called `{}`", node.name));
            sink.report(problem.did_you_mean(&node.name, nodes.iter().map(|known| &*known.name)));
        }
    }
}

/// Reports surges of `DaemonSet`s that a version does not know.
pub(super) fn check_surges(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let version = settings.cluster.version;
    for daemon in resolved.daemons.values().filter(|daemon| version < SURGES && daemon.update.surges()) {
        if let Some((at, path)) = &daemon.surge_at {
            let text = format!("Kubernetes {version} knows no surge of a DaemonSet: it is dropped");
            let problem = Problem::at(*at, path.clone(), text);
            sink.report(problem.help("write maxUnavailable: 1, or simulate cluster.version \"1.22\" or newer"));
        }
    }
}

/// Reports pods of backends that their Services, which may be edited later, do not select.
fn check_named(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let here = settings.backends.iter().enumerate().filter(|(_, backend)| settings.runs_here(backend));
    for (index, backend) in here {
        let Some((name, place)) = &backend.pod else { continue };
        let Some((service, pod)) = resolved.services.get(&backend.service).zip(resolved.pods.get(name)) else {
            continue;
        };
        let namespace = |key: &str| key.split('/').next().map(str::to_owned);
        let labels = &pod.manifest.deployment.template.labels;
        if namespace(name) != namespace(&backend.service) || !selects(&service.service.selector, labels) {
            let text = format!("the Service {} does not select it", backend.service);
            let problem = Problem::at(*place, format!("spec.backends[{index}].pod"), text);
            sink.report(problem.help("pods are found through a Service: give the pod the labels that it asks for"));
        }
    }
}

/// Warns of Services that select none of the pods that the scenario says are behind them: nobody is asked there, unless an edit comes.
fn warn_unselected(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    let namespace = |key: &str| key.split('/').next().map(str::to_owned);
    let manifest = |backend: &BackendSettings| {
        let of_deployment = backend.deployment.as_ref().and_then(|(name, _)| resolved.deployments.get(name));
        let daemon = || backend.daemon_set.as_ref().and_then(|(name, _)| resolved.daemons.get(name));
        of_deployment.or_else(|| daemon().map(|daemon| &daemon.manifest))
    };
    let is_selected = |backend: &BackendSettings| {
        let service = resolved.services.get(&backend.service)?;
        let pods = &manifest(backend)?.deployment;
        let is_near = namespace(&pods.key) == namespace(&backend.service);
        Some(is_near && selects(&service.service.selector, &pods.template.labels))
    };
    let here = || settings.backends.iter().filter(|backend| settings.runs_here(backend));
    for backend in here().filter(|backend| is_selected(backend) == Some(false)) {
        let mut beside = here().filter(|other| other.service == backend.service);
        if beside.all(|other| is_selected(other) == Some(false)) {
            let text = format!("the Service {} does not select these pods, so they get no request", backend.service);
            let place = backend.deployment.as_ref().or(backend.daemon_set.as_ref()).map_or(backend.at, |(_, at)| *at);
            sink.note(place, "spec.backends".to_owned(), FidelityStatus::Warning, Some(&text));
        }
    }
}

/// Notes gates that nobody opens, of a state that the timeline makes: a rollout to it sticks, which may be what the drill is about.
pub(super) fn note_gates(resolved: &Resolved, settings: &Settings, sink: &Sink) {
    for (Workload { kind, key }, manifest) in resolved.workloads() {
        for gate in gates_for_ever_closed(&key, manifest, resolved, settings) {
            let note = "nobody sets this condition: pods with this gate never become ready";
            let path = format!("{} {key} {}", kind.name(), gate.path);
            sink.note(gate.at, path, FidelityStatus::Modelled, Some(note));
        }
    }
}

/// The gates that no balancer's controller opens.
fn gates_for_ever_closed<'a>(
    name: &str,
    manifest: &'a DeploymentManifest,
    resolved: &Resolved,
    settings: &Settings,
) -> impl Iterator<Item = &'a Written> + use<'a> {
    let opened = has_balancer(name, manifest, resolved, settings).then(|| products::condition(resolved, settings));
    manifest.gates.iter().filter(move |gate| opened.as_ref() != Some(&gate.name))
}

/// Whether the Service with the balancer leads to the pods.
fn has_balancer(name: &str, manifest: &DeploymentManifest, resolved: &Resolved, settings: &Settings) -> bool {
    let namespace = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
    let labels = &manifest.deployment.template.labels;
    let leads_there = |front: &ServiceManifest| {
        products::kind(front, settings) == ServiceKind::LoadBalancer && selects(&front.service.selector, labels)
    };
    let selected = resolved.front().is_some_and(leads_there);
    selected && namespace(name) == namespace(resolved.front_key())
}

fn help(name: &str, manifest: &DeploymentManifest, resolved: &Resolved, settings: &Settings) -> String {
    let opened = products::condition(resolved, settings);
    if opened.is_empty() {
        "take the gate out: this load balancer knows no pods".to_owned()
    } else if has_balancer(name, manifest, resolved, settings) {
        format!("the controller of the balancer opens `{opened}`: write that, or take the gate out")
    } else {
        format!("take the gate out: only {CONDITION_PREFIX}… of a Service with a balancer is opened here")
    }
}
