//! The backends of a cluster: which Services routes lead to, at the start or later, and what runs in their pods, be they a Deployment's or nobody's.
//!
//! - A pod listens on the ports that its template declares. On what its Service says too, if no template declared that when the Service first led there: many
//!   templates declare nothing. So who edits a Service's target port alone asks for a port on which nobody listens.
//! - Pods behave as the description says that names their Deployment, or the pod itself, or else as that of a Service that selects them.
//! - Replicas without a Deployment listen on the port that their Service named first, whatever it says later.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use super::settings::{BackendSettings, Settings, defaults};
use super::state::Resolved;
use super::target::Workload;
use crate::backend::{BackendConfig, BodyShape};
use crate::cluster::endpoints::selects;
use crate::cluster::{DaemonSet, OwnerKind, TargetPort};
use crate::drill::config::{BackendMemory, ContainerLimits};
use crate::drill::{BackendPods, BackendSpec};
use crate::manifest::Sink;
use crate::manifest::deployment::DeploymentManifest;
use crate::manifest::routes::Upstream;
use crate::manifest::service::ServiceManifest;
use crate::record::results::FidelityStatus;

/// All backends, of all states so far.
#[derive(Default)]
pub(super) struct Backends {
    pub(super) specs: Vec<BackendSpec>,
    /// What runs in pods, by their owner.
    pub(super) processes: BTreeMap<Rc<str>, BackendPods>,
    /// Those that the scenario does not describe.
    pub(super) undescribed: Vec<Upstream>,
    /// The Service's port that each leads to, by the gateway's cluster.
    ports: BTreeMap<Arc<str>, u16>,
    /// Owners of pods that a Service's port has led to.
    known: BTreeSet<(Rc<str>, String, u16)>,
}

impl Backends {
    /// Adds those of a state that are not known yet.
    pub(super) fn add(&mut self, resolved: &Resolved, settings: &Settings, sink: &Sink) {
        for upstream in &resolved.routing.upstreams {
            if !self.ports.contains_key(&upstream.cluster) {
                self.add_one(upstream, resolved, settings, sink);
            }
        }
        let elsewhere = resolved.elsewhere.iter();
        let elsewhere = elsewhere.map(|(key, manifest)| (Workload::new(OwnerKind::Deployment, key), manifest));
        let is_gateway = |of: &Workload| resolved.gateways.iter().any(|gateway| gateway.workload == *of);
        for (workload, manifest) in resolved.workloads().chain(elsewhere).filter(|(of, _)| !is_gateway(of)) {
            self.add_pods((workload.owner(), manifest), resolved, settings, sink);
        }
    }

    fn add_one(&mut self, upstream: &Upstream, resolved: &Resolved, settings: &Settings, sink: &Sink) {
        let described = settings.backends.iter().find(|backend| backend.service == upstream.service);
        if described.is_none() {
            self.undescribed.push(upstream.clone());
        }
        let spec = backend_spec(upstream, described, resolved, settings);
        if !spec.has_pods && !spec.subset.is_empty() {
            let (path, note) =
                (format!("Service {}", upstream.service), "each subset has the described replicas of its own");
            sink.note(upstream.at, path, FidelityStatus::Approximated, Some(note));
        }
        self.ports.insert(Arc::clone(&upstream.cluster), upstream.port);
        self.specs.push(spec);
    }

    /// What runs in the pods of an owner, if they are behind a backend, and where it listens.
    fn add_pods(
        &mut self,
        (owner, manifest): (Rc<str>, &DeploymentManifest),
        resolved: &Resolved,
        settings: &Settings,
        sink: &Sink,
    ) {
        let (key, template) = (&manifest.deployment.key, &manifest.deployment.template);
        let leads_there = |backend: &BackendSettings| {
            let service = resolved.services.get(&backend.service).map(|service| &service.service);
            let namespace = |key: &str| key.split('/').next().map(str::to_owned);
            namespace(key) == namespace(&backend.service)
                && service.is_some_and(|service| selects(&service.selector, &template.labels))
        };
        let names = |backend: &BackendSettings| {
            let named = match () {
                () if owner == *key => &backend.deployment,
                () if owner == DaemonSet::owner_of(key) => &backend.daemon_set,
                () => &backend.pod,
            };
            named.as_ref().is_some_and(|(name, _)| **name == **key)
        };
        let with_pods = || settings.backends.iter().filter(|backend| backend.pods().is_some());
        let described = with_pods().find(|it| names(it)).or_else(|| with_pods().find(|it| leads_there(it)));
        let Some(described) = described else { return };
        let pods = self.processes.entry(Rc::clone(&owner)).or_insert_with(|| BackendPods {
            ports: BTreeSet::new(),
            config: described.config.clone(),
            disk: described.disk.as_ref().map(|disk| disk.costs.clone()),
            memory: described.memory.map(|costs| BackendMemory { costs, limits: BTreeMap::new() }),
            shutdown_delay: Some(described.shutdown_delay),
        });
        if let Some(memory) = &mut pods.memory {
            let limits = ContainerLimits {
                memory_bytes: manifest.memory_limit.as_ref().map(|limit| limit.bytes),
                cpu_millicores: manifest.cpu_limit_millicores,
            };
            memory.limits.insert(template.other.clone(), limits);
        }
        let services = with_pods().filter(|it| names(it) || leads_there(it)).map(|it| &it.service);
        for service in services.collect::<BTreeSet<_>>() {
            let used = resolved.routing.upstreams.iter().filter(|upstream| upstream.service == *service);
            for port in used.map(|upstream| upstream.port).collect::<BTreeSet<_>>() {
                let target = target(resolved.services.get(service), port);
                let Some(number) = target.on(template) else {
                    let TargetPort::Name(name) = target else { continue };
                    let text = format!("port {port} leads to `{name}`, and no container of {key} calls a port so");
                    let at = resolved.services.get(service).map_or(described.at, |service| service.policy_at);
                    sink.note(at, format!("Service {service}"), FidelityStatus::Warning, Some(&text));
                    continue;
                };
                let is_new = self.known.insert((Rc::clone(&owner), service.clone(), port));
                if is_new && template.ports.iter().all(|declared| declared.number != number) {
                    pods.ports.insert(number);
                }
            }
        }
    }

    /// Where a Service leads, by the gateway's cluster.
    pub(super) fn targets(&self, key: &str, service: &ServiceManifest) -> BTreeMap<Arc<str>, TargetPort> {
        let its = self.specs.iter().filter(|spec| *spec.service == *key);
        its.map(|spec| (Arc::clone(&spec.cluster), target(Some(service), self.ports[&spec.cluster]))).collect()
    }
}

/// Where a Service's port leads: to the same one, if nobody says.
pub(super) fn target(service: Option<&ServiceManifest>, port: u16) -> TargetPort {
    let known = service.and_then(|service| service.ports.iter().find(|known| known.port == port));
    known.map_or(TargetPort::Number(port), |known| known.target.clone())
}

fn backend_spec(
    upstream: &Upstream,
    described: Option<&BackendSettings>,
    resolved: &Resolved,
    settings: &Settings,
) -> BackendSpec {
    let usual = BackendConfig {
        service_time: defaults::SERVICE_TIME,
        concurrency: defaults::CONCURRENCY,
        error_ppm: 0,
        keep_alive: Some(defaults::BACKEND_KEEP_ALIVE),
        body: BodyShape::Whole,
        body_bytes: defaults::ANSWER_BYTES,
    };
    let target = target(resolved.services.get(&upstream.service), upstream.port);
    let index_of = |id: &str| settings.clusters.iter().position(|cluster| cluster.id.as_deref() == Some(id));
    let homes = described.map(|backend| backend.clusters.iter().filter_map(|(id, _)| index_of(id)).collect());
    BackendSpec {
        cluster: Arc::clone(&upstream.cluster),
        service: Rc::from(upstream.service.as_str()),
        subset: upstream.subset.clone(),
        port: match &target {
            TargetPort::Number(number) => *number,
            TargetPort::Name(_) => upstream.port,
        },
        target,
        has_pods: described.is_some_and(|backend| backend.pods().is_some()),
        homes: homes.unwrap_or_default(),
        replicas: described.map_or(defaults::REPLICAS, |backend| backend.replicas),
        zones: described.map(|backend| backend.zones.clone()).unwrap_or_default(),
        endpoints: upstream.endpoints.clone(),
        config: described.map_or(usual, |backend| backend.config.clone()),
    }
}
