//! The setting behind each cause of loss: where it is written, or where it would be.
//!
//! What the pods of a gateway decide themselves (how they end, what kills them, how many are taken down at once) is looked for in their own manifest; all the rest in the
//! Service in front, its balancer, the routes and the scenario.

use super::balancer::{self, products};
use super::settings::{Settings, defaults};
use super::state::Resolved;
use super::target::Gateway;
use super::{sharing, shutdown};
use crate::cluster::OwnerKind;
use crate::cluster::deployment::Strategy;
use crate::drill::Sources;
use crate::edge::{Product, TrafficPolicy};
use crate::manifest::deployment::{DeploymentManifest, MemoryLimit};
use crate::manifest::istio_gateway::{DRAIN_ANNOTATION, Generation};
use crate::manifest::service::ServiceManifest;
use crate::manifest::{Files, Object, Place, Sink, quantity};
use crate::record::{CauseCode, Source};

/// The namespace that keeps a gateway from its configuration: where it is written, or would be.
fn namespace_source(origin: &Object) -> (CauseCode, Place, String, Option<String>) {
    let place = origin.node.find(&["metadata", "namespace"]).map_or(origin.place(), |node| node.at);
    (CauseCode::GatewayUnconfigured, place, "metadata.namespace".to_owned(), Some(origin.id.namespace.clone()))
}

/// The sources so far.
struct Found<'a> {
    sources: Sources,
    files: &'a Files,
}

impl Found<'_> {
    fn add(&mut self, codes: &[CauseCode], place: Place, path: &str, value: Option<String>) {
        let position = self.files.position(place);
        let source = Source {
            file: position.map(|(file, ..)| file.to_owned()),
            line: position.map(|(_, line, _)| line),
            path: path.to_owned(),
            value,
        };
        for code in codes {
            self.sources.insert(*code, source.clone());
        }
    }

    /// The first of these paths that an object has, or else what is usual.
    fn add_written(&mut self, codes: &[CauseCode], origin: &Object, paths: &[&str], usual: (&str, &str)) {
        let found = |path: &str| origin.node.find(&path.split('.').collect::<Vec<_>>());
        match paths.iter().find_map(|path| Some((*path, found(path)?))) {
            Some((path, node)) => self.add(codes, node.at, path, node.text().map(str::to_owned)),
            None => self.add(codes, Place::NOWHERE, usual.0, Some(usual.1.to_owned())),
        }
    }

    /// What the pods of a gateway decide themselves.
    fn add_pods(
        &mut self,
        (gateway, manifest): (&Gateway, &DeploymentManifest),
        resolved: &Resolved,
        settings: &Settings,
    ) {
        let (origin, config) = (&gateway.origin, &gateway.proxy_config);
        let shutdown = shutdown::of_pods((manifest, config), resolved, settings, &Sink::default());
        let (template, in_template) = match gateway.workload.kind {
            OwnerKind::Pod => (origin.node.find(&["metadata"]), ""),
            _ => (origin.node.find(&["spec", "template", "metadata"]), "spec.template."),
        };
        for decided in shutdown.map(|shutdown| shutdown.decided).into_iter().flatten() {
            let codes = &decided.codes;
            match decided.value {
                Some(value) => self.add(codes, decided.at, &decided.path, Some(value)),
                // Nobody wrote it: the line to which it would be added.
                None if origin.id.kind == "IstioGateway"
                    && shutdown::generation(settings) == Generation::DrainTimeout =>
                {
                    let path = format!("metadata.annotations[{DRAIN_ANNOTATION}]");
                    self.add(codes, annotations_place(origin), &path, None);
                }
                None if origin.id.kind == "IstioGateway" => {
                    let place = origin.node.entry("spec").map_or(origin.place(), |entry| entry.key_at);
                    self.add(codes, place, "spec.podAnnotations[proxy.istio.io/config]", None);
                }
                None => {
                    let place = template.map_or(origin.place(), |node| node.at);
                    let path = format!("{in_template}metadata.annotations[proxy.istio.io/config]");
                    self.add(codes, place, &path, None);
                }
            }
        }
        self.add_limits(gateway, manifest);
        let path = format!("{in_template}spec.terminationGracePeriodSeconds");
        let grace = manifest.deployment.template.grace_seconds.to_string();
        self.add_written(&[CauseCode::GraceExceeded], origin, &[&path], (&path, &grace));
        if let Some(liveness) = &manifest.liveness {
            // What it asks and how often is too many words for a line.
            self.add(&[CauseCode::ProbeKill], liveness.at, &liveness.path, Some("…".to_owned()));
        }
        if let Some(MemoryLimit { written, at, .. }) = &manifest.memory_limit {
            self.add(&[CauseCode::OutOfMemory], *at, "resources.limits.memory", Some(written.clone()));
        }
        if let Some((at, path)) = manifest.storage_limit_at {
            let storage = &manifest.deployment.template.storage;
            let limits = storage.containers.iter().map(|(_, limit)| limit);
            let first = limits.chain(storage.empty_dirs.iter().filter_map(|volume| volume.limit.as_ref())).next();
            self.add(&[CauseCode::StorageLimit], at, path, first.map(|limit| limit.written.clone()));
        }
    }

    /// What says how many pods are taken down at once.
    fn add_limits(&mut self, gateway: &Gateway, manifest: &DeploymentManifest) {
        let (nobody, origin) = ([CauseCode::LbNoTarget, CauseCode::NoEndpoint], &gateway.origin);
        let usual = match gateway.workload.kind {
            OwnerKind::Pod => return,
            OwnerKind::DaemonSet => {
                let path = "spec.updateStrategy.rollingUpdate.maxUnavailable";
                return self.add_written(&nobody, origin, &[path], (path, "1"));
            }
            OwnerKind::Deployment if manifest.deployment.strategy == Strategy::Recreate => {
                // All old pods end before the first new one is made.
                let path = "spec.strategy.type";
                return self.add_written(&nobody, origin, &[path], (path, "Recreate"));
            }
            OwnerKind::Deployment if origin.id.kind == "IstioGateway" => "spec.rollingMaxUnavailable",
            OwnerKind::Deployment => "spec.strategy.rollingUpdate.maxUnavailable",
        };
        let paths = ["spec.rollingMaxUnavailable", "spec.strategy.rollingUpdate.maxUnavailable"];
        self.add_written(&nobody, origin, &paths, (usual, "25%"));
    }
}

/// Where a gateway beside the target decides by itself: nothing for the target.
pub(super) fn own_sources(owner: &str, resolved: &Resolved, settings: &Settings, files: &Files) -> Sources {
    let mut found = Found { sources: Sources::new(), files };
    let mut beside = resolved.gateways().filter(|(gateway, _)| gateway.workload != resolved.target);
    if let Some(pods) = beside.find(|(gateway, _)| *gateway.workload.owner() == *owner) {
        found.add_pods(pods, resolved, settings);
    }
    // What the balancer decides is the same for all its targets.
    let of_balancer = resolved.front().map(|front| of_balancer(front, resolved, settings));
    for (code, ..) in of_balancer.into_iter().flatten() {
        found.sources.remove(&code);
    }
    found.sources
}

/// The annotations of a Service in front are written in it, or in what it is made from.
fn annotations_of(origin: &Object) -> &'static str {
    if origin.id.kind == "IstioGateway" { "spec.serviceAnnotations" } else { "metadata.annotations" }
}

type Setting = (CauseCode, Place, String, Option<String>);

fn of_balancer(front: &ServiceManifest, resolved: &Resolved, settings: &Settings) -> Vec<Setting> {
    let parent = annotations_of(&resolved.origin);
    match settings.balancer.product.product == Product::Alibaba {
        true => {
            balancer::sources(front, |suffix| format!("{parent}[{}]", front.written_name(suffix))).into_iter().collect()
        }
        false => products::sources(front, settings, |name| format!("{parent}[{name}]")).into_iter().collect(),
    }
}

/// The setting behind each cause of loss: where it is written, or where it would be.
pub(super) fn sources(resolved: &Resolved, settings: &Settings, files: &Files) -> Sources {
    let mut found = Found { sources: Sources::new(), files };
    let (Some(front), Some(pods)) = (resolved.front(), resolved.gateways().next()) else { return found.sources };
    let origin = &resolved.origin;
    found.add_pods(pods, resolved, settings);
    let parent = annotations_of(origin);
    let path = |suffix: &str| format!("{parent}[{}]", front.written_name(suffix));
    let of_balancer = of_balancer(front, resolved, settings);
    let mut add = |codes: &[CauseCode], place: Place, path: &str, value: Option<String>| {
        found.add(codes, place, path, value);
    };
    let (place, written, value) = sharing::written(front, settings, path);
    add(&[CauseCode::LbNotCreated, CauseCode::LbListenerTaken], place, &written, value);
    let (place, written, word) = policy_written(front);
    add(&[CauseCode::LocalPolicyBlackhole, CauseCode::SnatPortsExhausted], place, written, Some(word.to_owned()));
    let per_core = settings.cluster.kube_proxy.table.per_core.to_string();
    add(&[CauseCode::ConntrackFull], Place::NOWHERE, "spec.cluster.kubeProxy.conntrack.maxPerCore", Some(per_core));
    let others = of_balancer.into_iter().chain([namespace_source(origin)]);
    for (code, place, path, value) in pressure_sources(settings).into_iter().chain(others) {
        add(&[code], place, &path, value);
    }
    let behind = [CauseCode::UpstreamRefused, CauseCode::UpstreamClosed, CauseCode::NoHealthyUpstream];
    if let Some(backend) = settings.backends.first() {
        add(&behind, backend.at, "spec.backends[0].service", Some(backend.service.clone()));
    }
    if let Some(place) = resolved.routing.first_route_at {
        let codes = [
            CauseCode::NoRoute,
            CauseCode::ClusterNotFound,
            CauseCode::UpstreamTimeout,
            CauseCode::DirectResponse,
            CauseCode::FaultInjected,
        ];
        // Its rules are there, and too many words for a line.
        add(&codes, place, "spec.http", Some("…".to_owned()));
    }
    if let Some(place) = resolved.routing.first_policy_at {
        add(&[CauseCode::UpstreamOverflow], place, "spec.trafficPolicy.connectionPool", None);
    }
    let timeout = settings.loads.iter().map(|load| load.timeout).min().unwrap_or(defaults::TIMEOUT);
    let clients = [CauseCode::ClientTimeout];
    add(&clients, Place::NOWHERE, "spec.load.clients.timeout", Some(quantity::duration_text(timeout)));
    add(
        &[CauseCode::DrainCloseIgnored],
        Place::NOWHERE,
        "spec.load.clients.honorConnectionClose",
        Some("false".to_owned()),
    );
    found.sources
}

/// The traffic policy that decides where connections end on a node: `Local`, for whomever it holds, or `Cluster` for those from outside.
fn policy_written(front: &ServiceManifest) -> (Place, &'static str, &'static str) {
    let external = "spec.externalTrafficPolicy";
    match (front.policy, front.internal_policy) {
        (TrafficPolicy::Local, _) => (front.policy_at, external, "Local"),
        (_, TrafficPolicy::Local) => (front.internal_policy_at, "spec.internalTrafficPolicy", "Local"),
        _ if front.policy_is_written => (front.policy_at, external, "Cluster"),
        _ => (Place::NOWHERE, external, "Cluster"),
    }
}

/// What ends processes for want of their nodes' memory or disk: where it is written, the path, the value.
fn pressure_sources(settings: &Settings) -> Vec<Setting> {
    let mut sources = Vec::new();
    if let Some(group) = settings.cluster.nodes.iter().min_by_key(|group| group.allocatable.memory_bytes) {
        let (path, bytes) = ("spec.cluster.nodes.allocatable.memory".to_owned(), group.allocatable.memory_bytes);
        sources.push((CauseCode::NodePressure, group.at, path, Some(bytes.to_string())));
    }
    let with_disk = settings.cluster.nodes.iter().filter_map(|group| Some((group, group.disk?)));
    if let Some((group, disk)) = with_disk.min_by_key(|(_, disk)| disk.capacity_bytes) {
        let path = "spec.cluster.nodes.disk.size".to_owned();
        sources.push((CauseCode::DiskPressure, group.at, path, Some(format!("{}B", disk.capacity_bytes))));
    }
    sources
}

/// Where an object's annotations stand, or its metadata.
fn annotations_place(object: &Object) -> Place {
    let metadata = object.node.entry("metadata");
    let annotations = metadata.and_then(|entry| entry.node.entry("annotations"));
    annotations.or(metadata).map_or(object.place(), |entry| entry.key_at)
}
