//! The objects as they stand at a moment of the timeline, and what they come to.
//!
//! A timeline that applies or edits objects makes one state after another; each is read as a whole, so that a change in mid-run follows the same
//! rules as the same objects from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::address::{Patch, Subject};
use super::budgets;
use super::edits::{Edits, is_refused};
use super::settings::{BackendSettings, Settings, TimelineEntry, TimelineVerb};
use super::shutdown;
use crate::cluster::disruption::DisruptionBudget;
use crate::cluster::endpoints::selects;
use crate::manifest::api_versions;
use crate::manifest::autoscaler::{self, AutoscalerManifest};
use crate::manifest::daemon_set::{self, DaemonSetManifest};
use crate::manifest::deployment::{self, DeploymentManifest};
use crate::manifest::disruption_budget;
use crate::manifest::istio_gateway::Generation;
use crate::manifest::pod::{self, PodManifest};
use crate::manifest::priority_class;
use crate::manifest::proxy_config::{self, ProxyConfig, objects};
use crate::manifest::routes::{self, Around, Missing, Options, Proxy, Routing};
use crate::manifest::service::{self, ServiceKind, ServiceManifest, TargetPort, wiping};
use crate::manifest::{Node, Object, Place, Problem, Sink, gateway_api, istio_gateway};
use crate::record::results::FidelityStatus;

/// The objects, and the edits of what is made from them.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// How ASM shuts gateways down.
    pub(super) generation: Generation,
    /// As they were written, the last of each name.
    pub(super) objects: Vec<Object>,
    /// The cluster in which they stand, if it has a name.
    pub(super) cluster: Option<Rc<str>>,
    /// Edits of the gateway's Deployment before the start: of a variant, of `--set`.
    target_patches: Vec<Patch>,
    /// Edits of Deployments, those from before the start among them as soon as the target is known.
    edits: Edits,
    /// Services and their ports that there are at some time, as far as is known.
    sometimes: BTreeMap<String, BTreeSet<u16>>,
    /// Deployments, pods and `DaemonSet`s that the timeline brings, by kind and `namespace/name`.
    later: BTreeSet<(String, String)>,
    /// The Service in front, which clients dial: the same from the start on, whatever it selects later.
    front: Option<String>,
    /// The gateway's Deployment, once the drill runs.
    target_of_start: Option<String>,
    /// Services as they were when their type last had node ports.
    former: BTreeMap<String, ServiceManifest>,
}

/// What the objects come to.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    /// By `namespace/name`.
    pub(super) deployments: BTreeMap<String, DeploymentManifest>,
    /// Those that only run in other clusters.
    pub(super) elsewhere: BTreeMap<String, DeploymentManifest>,
    /// Pods without a controller, by `namespace/name`.
    pub(super) pods: BTreeMap<String, PodManifest>,
    /// The pod templates as they are written, by the Deployment's `namespace/name`.
    pub(super) templates: BTreeMap<String, Node>,
    /// By `namespace/name`.
    pub(super) services: BTreeMap<String, ServiceManifest>,
    /// By `namespace/name`.
    pub(super) autoscalers: BTreeMap<String, AutoscalerManifest>,
    /// Deployments whose manifest writes their replicas, as `namespace/name`.
    pub(super) sized: BTreeSet<String>,
    /// The replicas of the target that the mesh's control plane writes.
    pub(super) owned_replicas: Option<i32>,
    /// Disruption budgets.
    pub(super) budgets: Vec<DisruptionBudget>,
    /// By `namespace/name`.
    pub(super) daemons: BTreeMap<String, DaemonSetManifest>,
    /// What all sources of `ProxyConfig` come to for the target's pods.
    pub(super) proxy_config: ProxyConfig,
    /// The gateway's Deployment.
    pub(super) target: String,
    /// The object that the target was made from, or itself.
    pub(super) origin: Object,
    /// Listeners, routes, upstreams.
    pub(super) routing: Routing,
    front: String,
}

/// Pods of no Deployment, by `namespace/name`.
struct Loose {
    pods: BTreeMap<String, PodManifest>,
    daemons: BTreeMap<String, DaemonSetManifest>,
}

impl Loose {
    fn manifests(&mut self) -> impl Iterator<Item = &mut DeploymentManifest> {
        let pods = self.pods.values_mut().map(|pod| &mut pod.manifest);
        pods.chain(self.daemons.values_mut().map(|daemon| &mut daemon.manifest))
    }
}

impl Resolved {
    /// The Service in front of the target, as `namespace/name`.
    pub(super) fn front_key(&self) -> &str {
        &self.front
    }

    /// The gateway's Deployment.
    pub(super) fn target(&self) -> Option<&DeploymentManifest> {
        self.deployments.get(&self.target)
    }

    /// The Service in front of it.
    pub(super) fn front(&self) -> Option<&ServiceManifest> {
        self.services.get(&self.front)
    }
}

/// Reports what is wrong with each object by itself.
pub(super) fn check_each(objects: &[Object], sink: &Sink) {
    for object in objects {
        match object.id.kind.as_str() {
            "IstioGateway" => drop(istio_gateway::read(object, None, Generation::default(), sink)),
            "Deployment" => drop(deployment::read(object, sink)),
            "Service" => drop(service::read(object, sink)),
            "HorizontalPodAutoscaler" => drop(autoscaler::read(object, sink)),
            "DaemonSet" => drop(daemon_set::read(object, sink)),
            "Pod" => drop(pod::read(object, sink)),
            "PriorityClass" => drop(priority_class::read(object, sink)),
            "PodDisruptionBudget" => drop(disruption_budget::read(object, sink)),
            "ProxyConfig" | "ASMProxyConfig" => drop(objects::read(object, sink)),
            // Routes can only be judged beside the Services they name.
            _ => {}
        }
    }
}

impl State {
    /// No objects yet.
    pub(super) fn new(generation: Generation) -> Self {
        Self { generation, ..Self::default() }
    }

    /// What the timeline will bring is known from the start: who refers to it refers to something.
    pub(super) fn foresee(&mut self, timeline: &[TimelineEntry]) {
        for entry in timeline {
            let TimelineVerb::Apply(objects) = &entry.verb else { continue };
            for object in objects {
                if ["Deployment", "Pod", "DaemonSet"].contains(&object.id.kind.as_str()) {
                    self.later.insert((object.id.kind.clone(), object.key()));
                }
                if object.id.kind == "Service"
                    && let Some(service) = service::read(object, &Sink::default())
                {
                    self.remember(&service);
                }
            }
        }
    }

    fn remember(&mut self, service: &ServiceManifest) {
        let ports = service.ports.iter().map(|port| port.port);
        self.sometimes.entry(service.service.key.to_string()).or_default().extend(ports);
    }

    /// What there has been may be gone later, and what was edited before the start is one edit like any other from now on.
    pub(super) fn note(&mut self, resolved: &Resolved) {
        for patch in std::mem::take(&mut self.target_patches) {
            self.edits.push(&resolved.target, patch);
        }
        resolved.services.values().for_each(|service| self.remember(service));
        for object in self.objects.iter_mut().filter(|object| object.id.kind == "Service") {
            if let Some(former) = self.former.get(&object.key()) {
                wiping::wipe(&mut object.node, former);
            }
        }
        for (key, service) in &resolved.services {
            let class = self.former.get(key).and_then(|former| former.load_balancer_class.clone());
            if matches!(service.kind, ServiceKind::LoadBalancer | ServiceKind::NodePort) {
                let mut service = service.clone();
                service.load_balancer_class = service.load_balancer_class.or(class);
                self.former.insert(key.clone(), service);
            }
        }
        self.front.get_or_insert_with(|| resolved.front.clone());
        self.target_of_start.get_or_insert_with(|| resolved.target.clone());
    }

    /// Adds objects as `kubectl apply` would: the last of a name stays.
    pub(super) fn apply(&mut self, objects: impl IntoIterator<Item = Object>) {
        for object in objects {
            match self.objects.iter_mut().find(|known| known.id == object.id) {
                Some(known) => *known = object,
                None => self.objects.push(object),
            }
        }
    }

    /// Applies objects in mid-run. As with `kubectl apply`, what they write wins over earlier edits of the same fields, and other edits stay: a
    /// Deployment that was scaled gets the replicas of its manifest, and keeps the mark of its last restart.
    pub(super) fn apply_later(&mut self, objects: &[Object]) {
        for object in objects {
            let made = match object.id.kind.as_str() {
                "IstioGateway" | "Gateway" => self.made(object, &Sink::default()).map(|(_, made)| made.deployment),
                "Deployment" => Some(object.clone()),
                _ => None,
            };
            if let Some(made) = made {
                self.edits.written(&made.key(), &made.node);
            }
        }
        self.apply(objects.iter().cloned());
    }

    /// Whether somebody wrote this Service.
    pub(super) fn has_service(&self, key: &str) -> bool {
        self.objects.iter().any(|object| object.id.kind == "Service" && object.key() == key)
    }

    /// The objects of a kind that somebody wrote, as `namespace/name`.
    pub(super) fn keys_of(&self, kind: &str) -> Vec<String> {
        self.objects.iter().filter(|object| object.id.kind == kind).map(Object::key).collect()
    }

    /// Deletes an object that somebody wrote; whether there was one.
    pub(super) fn delete(&mut self, kind: &str, key: &str) -> bool {
        let count = self.objects.len();
        self.objects.retain(|object| object.id.kind != kind || object.key() != key);
        self.objects.len() < count
    }

    /// Edits a Deployment from now on.
    pub(super) fn edit(&mut self, key: &str, patch: Patch) {
        self.edits.push(key, patch);
    }

    /// Edits an object in mid-run, over all that has been edited before; what cannot be edited is reported.
    pub(super) fn patch_later(&mut self, patch: &Patch, target: &str, sink: &Sink) {
        if is_refused(patch, sink) {
            return;
        }
        if patch.subject == Subject::Target {
            return self.edit(target, patch.clone());
        }
        let Some(object) = self.objects.iter().find(|object| patch.is_for(object)) else {
            return self.patch(patch, sink);
        };
        match object.id.kind.as_str() {
            "Deployment" => {
                let (key, mut node) = (object.key(), object.node.clone());
                self.edits.write(&key, &mut node, &Sink::default());
                match patch.write(&mut node) {
                    Ok(()) => self.edit(&key, patch.clone()),
                    Err(text) => sink.report(Problem::at(patch.at, patch.text.clone(), text)),
                }
            }
            "IstioGateway" | "Gateway" => {
                let id = object.id.clone();
                let before = self.made(object, &Sink::default());
                self.patch(patch, sink);
                let object = self.objects.iter().find(|object| object.id == id);
                let after = object.and_then(|object| self.made(object, &Sink::default()));
                if let Some(((_, before), (_, after))) = before.zip(after) {
                    let (before, after) = (before.deployment, after.deployment);
                    self.edits.made(&after.key(), &before.node, &after.node);
                }
            }
            _ => self.patch(patch, sink),
        }
    }

    /// Edits objects; what cannot be edited is reported.
    pub(super) fn patch(&mut self, patch: &Patch, sink: &Sink) {
        if is_refused(patch, sink) {
            return;
        }
        if patch.subject == Subject::Target {
            self.target_patches.push(patch.clone());
            return;
        }
        let known: Vec<String> = self
            .objects
            .iter()
            .map(|object| format!("{}/{}/{}", object.id.kind, object.id.namespace, object.id.name))
            .collect();
        let Some(object) = self.objects.iter_mut().find(|object| patch.is_for(object)) else {
            let problem = Problem::at(patch.at, patch.text.clone(), "no object of the manifests is called so");
            let head = patch.text.split(['.', '[']).next().unwrap_or_default().to_owned();
            sink.report(problem.did_you_mean(&head, known.iter().map(String::as_str)));
            return;
        };
        patch.apply(&mut object.node, sink);
    }

    /// What a controller makes of an object, and the object as this cluster gets it.
    fn made(&self, object: &Object, sink: &Sink) -> Option<(Object, istio_gateway::Made)> {
        match object.id.kind.as_str() {
            "IstioGateway" => istio_gateway::read(object, self.cluster.as_deref(), self.generation, sink),
            _ => Some((object.clone(), gateway_api::made::make(object, &self.objects)?)),
        }
    }

    /// The Services that are made, and those that are written.
    fn services(&self, made: &[(Object, istio_gateway::Made)], sink: &Sink) -> BTreeMap<String, ServiceManifest> {
        let mut services = BTreeMap::new();
        for (_, made) in made {
            let object = self.wiped(&made.service);
            let manifest = read_quietly(true, sink, |sink| service::read(&object, sink));
            services.extend(manifest.map(|manifest| (made.service.key(), manifest)));
        }
        for object in self.objects.iter().filter(|object| object.id.kind == "Service") {
            services.extend(service::read(&self.wiped(object), sink).map(|manifest| (object.key(), manifest)));
        }
        services
    }

    /// A Service without the fields that went with its former type.
    fn wiped(&self, object: &Object) -> Object {
        let mut object = object.clone();
        if let Some(former) = self.former.get(&object.key()) {
            wiping::wipe(&mut object.node, former);
        }
        object
    }

    /// The autoscalers that are made, and those that are written.
    fn autoscalers(&self, made: &[(Object, istio_gateway::Made)], sink: &Sink) -> BTreeMap<String, AutoscalerManifest> {
        let mut autoscalers = BTreeMap::new();
        for object in made.iter().filter_map(|(_, made)| made.autoscaler.as_ref()) {
            let manifest = read_quietly(true, sink, |sink| autoscaler::read(object, sink));
            autoscalers.extend(manifest.map(|manifest| (object.key(), manifest)));
        }
        for object in self.objects.iter().filter(|object| object.id.kind == "HorizontalPodAutoscaler") {
            autoscalers.extend(autoscaler::read(object, sink).map(|manifest| (object.key(), manifest)));
        }
        autoscalers
    }

    /// Writes the priorities of all pods.
    fn admit<'a>(&self, manifests: impl Iterator<Item = &'a mut DeploymentManifest>, sink: &Sink) {
        let classes = self.objects.iter().filter(|object| object.id.kind == "PriorityClass");
        let classes: Vec<_> = classes.filter_map(|object| priority_class::read(object, sink)).collect();
        for manifest in manifests {
            priority_class::admit(manifest, &classes, sink);
        }
    }

    /// Pods of no Deployment that run here.
    fn loose(&self, settings: &Settings, services: &BTreeMap<String, ServiceManifest>, sink: &Sink) -> Loose {
        let written =
            |kind: &'static str, group: &'static str| self.objects.iter().filter(move |object| object.is(kind, group));
        let mut pods: BTreeMap<String, PodManifest> =
            written("Pod", "").filter_map(|object| Some((object.key(), pod::read(object, sink)?))).collect();
        let daemons = written("DaemonSet", "apps");
        let mut daemons: BTreeMap<String, DaemonSetManifest> =
            daemons.filter_map(|object| Some((object.key(), daemon_set::read(object, sink)?))).collect();
        pods.retain(|_, pod| !of_other_clusters(settings, services, &pod.manifest, |backend| &backend.pod));
        daemons.retain(|_, it| !of_other_clusters(settings, services, &it.manifest, |backend| &backend.daemon_set));
        let mut loose = Loose { pods, daemons };
        for manifest in loose.manifests() {
            shutdown::settle_hook(manifest, &ProxyConfig::default(), settings.cluster.version, sink);
        }
        loose
    }

    /// What the objects come to. Problems and notes go to the sink.
    pub(super) fn resolve(&self, settings: &Settings, sink: &Sink) -> Option<Resolved> {
        let before = sink.problem_count();
        api_versions::check(&self.objects, settings.cluster.version, sink);
        let made: Vec<(Object, istio_gateway::Made)> =
            self.objects.iter().filter_map(|object| self.made(object, sink)).collect();
        // What an IstioGateway makes was checked with it; here only new problems count, such as those of an edit.
        let mut candidates: BTreeMap<String, (Object, Object)> = BTreeMap::new();
        for (origin, made) in &made {
            candidates.insert(made.deployment.key(), (made.deployment.clone(), origin.clone()));
        }
        let written = |kind: &'static str| self.objects.iter().filter(move |object| object.id.kind == kind);
        for object in written("Deployment") {
            candidates.insert(object.key(), (object.clone(), object.clone()));
        }
        let target = self.target(settings, &candidates, &made, sink)?;
        let (mut deployments, mut templates) = (BTreeMap::new(), BTreeMap::new());
        let mut sized = BTreeSet::new();
        let mut origin = None;
        for (key, (mut object, from)) in candidates {
            let is_made = object.id.kind != from.id.kind;
            if !is_made && object.node.find(&["spec", "replicas"]).is_some() {
                sized.insert(key.clone());
            }
            let lasting = self.target_patches.iter().filter(|_| key == target);
            lasting.for_each(|patch| patch.apply(&mut object.node, sink));
            self.edits.write(&key, &mut object.node, sink);
            let manifest = read_quietly(is_made, sink, |sink| deployment::read(&object, sink));
            if key == target {
                origin = Some(from);
            }
            templates.extend(object.node.find(&["spec", "template"]).map(|node| (key.clone(), node.clone())));
            deployments.extend(manifest.map(|manifest| (key, manifest)));
        }
        let proxy_config = self.proxy_config(deployments.get(&target), sink);
        let no_config = ProxyConfig::default();
        for (key, manifest) in &mut deployments {
            let config = if *key == target { &proxy_config } else { &no_config };
            shutdown::settle_hook(manifest, config, settings.cluster.version, sink);
        }
        let services = self.services(&made, sink);
        let mut loose = self.loose(settings, &services, sink);
        self.admit(deployments.values_mut().chain(loose.manifests()), sink);
        let mut autoscalers = self.autoscalers(&made, sink);
        for (_, made) in made.iter().filter(|(_, made)| made.owned_replicas.is_some()) {
            sized.insert(made.deployment.key());
        }
        let of_target = made.iter().find(|(_, made)| made.deployment.key() == target);
        let owned_replicas = of_target.and_then(|(_, made)| made.owned_replicas);
        service::rules::check_allocation(&services, sink);
        // What runs in other clusters only is not here.
        let is_elsewhere = |key: &str| settings.is_elsewhere(key);
        let (elsewhere, deployments): (BTreeMap<_, _>, BTreeMap<_, _>) =
            deployments.into_iter().partition(|(key, _)| is_elsewhere(key));
        autoscalers.retain(|_, manifest| !is_elsewhere(&manifest.spec.target));
        let budgets =
            written("PodDisruptionBudget").filter_map(|object| disruption_budget::read(object, sink)).collect();
        if sink.problem_count() > before || !deployments.contains_key(&target) {
            // Routes refer to all of these; without them they would only repeat what is wrong.
            return None;
        }
        let labels = deployments[&target].deployment.template.labels.clone();
        let place = origin.as_ref().map_or(Place::NOWHERE, Object::place);
        let front = match self.front.as_ref().filter(|key| services.contains_key(*key)) {
            Some(known) => known.clone(),
            None => front(&target, &labels, &services, place, sink)?,
        };
        let bound_by = bound_by((&target, &labels), &services[&front], &services);
        // What has a manifest at some time is there when its manifest says so.
        let described = settings.backends.iter().map(|backend| backend.service.clone());
        let declared: Vec<String> = described.filter(|key| !self.sometimes.contains_key(key)).collect();
        let around = Around {
            proxy: Proxy::Pods { labels: &labels, ports: &deployments[&target].ports, front: &bound_by },
            services: &services,
            declared: &declared,
            hosts: &[],
            missing: if self.target_of_start.is_some() { Missing::Answered } else { Missing::Refused },
            sometimes: &self.sometimes,
            options: Options::of(&settings.gateway.istio),
        };
        let routing = routes::read(&self.objects, &around, sink);
        self.check_backends(settings, &services, (&deployments, &loose), sink);
        self.check_pods(settings, (&services, &front), &loose, sink);
        let Loose { pods, daemons } = loose;
        let origin = origin?;
        let resolved = Resolved {
            deployments,
            elsewhere,
            pods,
            templates,
            services,
            autoscalers,
            sized,
            owned_replicas,
            budgets,
            daemons,
            proxy_config,
            target,
            origin,
            routing,
            front,
        };
        // What the timeline brings may be meant.
        if self.later.is_empty() {
            budgets::warn(&self.objects, &resolved, sink);
        }
        (sink.problem_count() == before).then_some(resolved)
    }

    /// Pods of no Deployment that are behind a Service: as replicas of a backend they have a process, as gateways they have none.
    fn check_pods(
        &self,
        settings: &Settings,
        (services, front): (&BTreeMap<String, ServiceManifest>, &str),
        loose: &Loose,
        sink: &Sink,
    ) {
        let namespace = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
        for object in &self.objects {
            let key = object.key();
            let (manifest, labels, field) = match object.id.kind.as_str() {
                "Pod" => (loose.pods.get(&key).map(|pod| &pod.manifest), "metadata.labels", "pod"),
                "DaemonSet" => {
                    let manifest = loose.daemons.get(&key).map(|daemon| &daemon.manifest);
                    (manifest, "spec.template.metadata.labels", "daemonSet")
                }
                _ => continue,
            };
            let Some(manifest) = manifest else { continue };
            let is_selected = |service: &str| {
                let found = services.get(service).filter(|_| namespace(service) == namespace(&key));
                found.is_some_and(|found| selects(&found.service.selector, &manifest.deployment.template.labels))
            };
            if is_selected(front) {
                let (kind, what) =
                    if field == "pod" { ("Pod", "this pod, which is") } else { ("DaemonSet", "these pods, which are") };
                let text = format!("the Service {front} in front selects {what} not its Deployment's");
                let problem = Problem::at(object.place(), format!("{kind} {key} {labels}"), text);
                sink.report(problem.help("give it other labels: only pods of a Deployment are simulated as gateways"));
            }
            let described = settings.backends.iter().find(|backend| is_selected(&backend.service));
            if described.is_some_and(|backend| backend.pods().is_none()) {
                let note = format!(
                    "the replicas of its Service are those that the scenario describes: name it under backends[].{field}"
                );
                sink.note(object.place(), object.id.to_string(), FidelityStatus::Ignored, Some(&note));
            }
        }
    }

    /// What all sources of `ProxyConfig` come to for the pods of a Deployment.
    fn proxy_config(&self, manifest: Option<&DeploymentManifest>, sink: &Sink) -> ProxyConfig {
        let is_one = |object: &&Object| objects::KINDS.iter().any(|(kind, group)| object.is(kind, group));
        let objects: Vec<_> =
            self.objects.iter().filter(is_one).filter_map(|object| objects::read(object, sink)).collect();
        let Some(manifest) = manifest else { return ProxyConfig::default() };
        let annotation = manifest.proxy_config.as_ref().and_then(|(text, at)| proxy_config::read(text, *at, sink));
        let namespace = manifest.deployment.key.split('/').next().unwrap_or_default();
        let labels = &manifest.deployment.template.labels;
        objects::effective(namespace, labels, annotation.unwrap_or_default(), &objects)
    }

    fn check_backends(
        &self,
        settings: &Settings,
        services: &BTreeMap<String, ServiceManifest>,
        (deployments, loose): (&BTreeMap<String, DeploymentManifest>, &Loose),
        sink: &Sink,
    ) {
        // That an object of theirs is deleted later is no slip of the pen.
        let backends = if self.target_of_start.is_some() { &[][..] } else { &settings.backends[..] };
        for (index, backend) in backends.iter().enumerate().filter(|(_, backend)| settings.runs_here(backend)) {
            let path = format!("spec.backends[{index}]");
            let (kind, field, known): (_, _, Vec<&str>) = match (&backend.deployment, &backend.daemon_set) {
                (Some(_), _) => ("Deployment", "deployment", deployments.keys().map(String::as_str).collect()),
                (None, Some(_)) => ("DaemonSet", "daemonSet", loose.daemons.keys().map(String::as_str).collect()),
                (None, None) => ("Pod", "pod", loose.pods.keys().map(String::as_str).collect()),
            };
            if let Some((name, place)) = backend.pods()
                && !known.contains(&name.as_str())
                && !self.later.contains(&(kind.to_owned(), name.clone()))
            {
                let text = format!("no {kind} is called `{name}`");
                let problem = Problem::at(*place, format!("{path}.{field}"), text);
                sink.report(problem.did_you_mean(name, known));
            }
            let is_same = |known: &&BackendSettings| known.service == backend.service;
            let deployment = |of: &BackendSettings| of.deployment.as_ref().map(|(name, _)| name.clone());
            let told_apart = |known: &BackendSettings| {
                deployment(known).zip(deployment(backend)).is_some_and(|(known, its)| known != its)
            };
            if backends[..index].iter().filter(is_same).any(|known| !told_apart(known)) {
                let text = format!("`{}` is described twice", backend.service);
                let problem = Problem::at(backend.at, path.clone(), text);
                sink.report(problem.help("describe each Service once, or once for each Deployment behind it"));
            }
            if let Some((_, place)) = backend.pods()
                && !services.contains_key(&backend.service)
                && !self.sometimes.contains_key(&backend.service)
            {
                let text = format!("no Service is called `{}`", backend.service);
                let problem = Problem::at(*place, format!("{path}.{field}"), text);
                sink.report(problem.help("pods are found through a Service: add it to the manifests"));
            }
        }
    }

    /// A `DaemonSet` that a balancer's Service selects.
    fn daemon_gateway(&self) -> Option<&Object> {
        let quiet = Sink::default();
        let services = self.objects.iter().filter(|object| object.id.kind == "Service");
        let services: Vec<ServiceManifest> = services.filter_map(|object| service::read(object, &quiet)).collect();
        let fronts = || services.iter().filter(|service| service.kind == ServiceKind::LoadBalancer);
        self.objects.iter().filter(|object| object.is("DaemonSet", "apps")).find(|object| {
            daemon_set::read(object, &quiet).is_some_and(|daemon| {
                let labels = &daemon.manifest.deployment.template.labels;
                fronts().any(|service| selects(&service.service.selector, labels))
            })
        })
    }

    fn target(
        &self,
        settings: &Settings,
        candidates: &BTreeMap<String, (Object, Object)>,
        made: &[(Object, istio_gateway::Made)],
        sink: &Sink,
    ) -> Option<String> {
        // Whatever comes later, the drill is about the same one.
        if let Some(known) = self.target_of_start.as_ref().filter(|key| candidates.contains_key(*key)) {
            return Some(known.clone());
        }
        if let Some((wanted, place)) = &settings.target {
            if candidates.contains_key(wanted) {
                return Some(wanted.clone());
            }
            let is_made = |object: &Object| format!("{}/istio-{}", object.id.namespace, object.id.name) == *wanted;
            if self.objects.iter().any(|object| object.id.kind == "IstioGateway" && is_made(object)) {
                // It has problems of its own, which were told, or it is not deployed here.
                if let Some(cluster) = self.cluster.as_ref().filter(|_| sink.problem_count() == 0) {
                    let text = format!("`{wanted}` is not deployed to cluster `{cluster}`");
                    let problem = Problem::at(*place, "spec.target", text);
                    sink.report(problem.help("name the cluster under its clusterIds, or take the cluster out"));
                }
                return None;
            }
            if let Some(object) = self.objects.iter().find(|it| it.is("DaemonSet", "apps") && it.key() == *wanted) {
                sink.report(no_daemon_gateway(object));
                return None;
            }
            let problem = Problem::at(*place, "spec.target", format!("no Deployment is called `{wanted}`"));
            sink.report(problem.did_you_mean(wanted, candidates.keys().map(String::as_str)));
            return None;
        }
        // A Deployment that stands behind a backend is no gateway.
        let is_backend = |key: &str| {
            settings.backends.iter().any(|backend| backend.deployment.as_ref().is_some_and(|(name, _)| name == key))
        };
        let gateways: Vec<String> = if made.is_empty() {
            candidates.keys().filter(|key| !is_backend(key)).cloned().collect()
        } else {
            made.iter().map(|(_, made)| made.deployment.key()).collect()
        };
        match &gateways[..] {
            [only] => Some(only.clone()),
            [] => {
                // An IstioGateway with problems of its own has said enough.
                if let Some(object) = self.daemon_gateway() {
                    sink.report(no_daemon_gateway(object));
                } else if !self.objects.iter().any(|object| object.id.kind == "IstioGateway") {
                    let problem = Problem::nowhere("the manifests hold no gateway");
                    sink.report(problem.help("add an IstioGateway, or the gateway's Deployment and its Service"));
                }
                None
            }
            many => {
                let place = candidates.get(&many[1]).map_or(Place::NOWHERE, |(_, origin)| origin.place());
                let problem = Problem::at(
                    place,
                    "spec.target",
                    format!("there are {} gateways: {}", many.len(), many.join(", ")),
                );
                sink.report(problem.help(format!("say which one the drill is for: target: {}", many[0])));
                None
            }
        }
    }
}

/// Whether the pods of a manifest run in other clusters only: the backend that names them does so, or else one whose Service selects them.
fn of_other_clusters(
    settings: &Settings,
    services: &BTreeMap<String, ServiceManifest>,
    manifest: &DeploymentManifest,
    name: impl Fn(&BackendSettings) -> &Option<(String, Place)>,
) -> bool {
    let (key, labels) = (&manifest.deployment.key, &manifest.deployment.template.labels);
    let names = |backend: &&BackendSettings| name(backend).as_ref().is_some_and(|(named, _)| **named == **key);
    let leads_there = |backend: &&BackendSettings| {
        let namespace = |key: &str| key.split('/').next().map(str::to_owned);
        let service = services.get(&backend.service).filter(|_| namespace(&backend.service) == namespace(key));
        service.is_some_and(|service| selects(&service.service.selector, labels))
    };
    let with_pods = || settings.backends.iter().filter(|backend| backend.pods().is_some());
    let described = with_pods().find(names).or_else(|| with_pods().find(leads_there));
    described.is_some_and(|backend| !settings.runs_here(backend))
}

/// A gateway whose pods are a `DaemonSet`'s is refused.
fn no_daemon_gateway(object: &Object) -> Problem {
    let problem = Problem::at(object.place(), object.id.to_string(), "a DaemonSet as the gateway is not simulated");
    problem.help(
        "write it as a Deployment: as many replicas as nodes, a required anti-affinity to its own labels on kubernetes.io/hostname, and its limits (maxSurge 0 as a \
         DaemonSet has it)",
    )
}

/// Reads what was made from another object: its notes would repeat the other's, and its problems too, unless they are new.
fn read_quietly<T>(is_made: bool, sink: &Sink, read: impl FnOnce(&Sink) -> Option<T>) -> Option<T> {
    if !is_made {
        return read(sink);
    }
    let quiet = Sink::default();
    let found = read(&quiet);
    for problem in quiet.take_problems() {
        sink.report(problem);
    }
    found
}

/// The Service by whose ports the gateway's servers are bound: the one in front while it selects the pods, else another that does. Where none does, servers are
/// bound as they are written. Source: istio pilot/pkg/model/gateway.go `resolvePorts`.
fn bound_by(
    (target, labels): (&str, &BTreeMap<String, String>),
    in_front: &ServiceManifest,
    services: &BTreeMap<String, ServiceManifest>,
) -> ServiceManifest {
    if selects(&in_front.service.selector, labels) {
        return in_front.clone();
    }
    if let Some(other) = front(target, labels, services, Place::NOWHERE, &Sink::default()) {
        return services[&other].clone();
    }
    let mut alone = in_front.clone();
    alone.ports.iter_mut().for_each(|port| port.target = TargetPort::Number(port.port));
    alone
}

/// The Service whose selector holds for the target's pods; a LoadBalancer first.
fn front(
    target: &str,
    labels: &BTreeMap<String, String>,
    services: &BTreeMap<String, ServiceManifest>,
    place: Place,
    sink: &Sink,
) -> Option<String> {
    let namespace = target.split('/').next().unwrap_or_default();
    let mut fitting: Vec<(&String, &ServiceManifest)> = services
        .iter()
        .filter(|(key, service)| {
            let selector = &service.service.selector;
            key.split('/').next() == Some(namespace)
                && !selector.is_empty()
                && selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        })
        .collect();
    // Of several balancers' Services the gateway's own one, which is called as its Deployment is.
    fitting.sort_by_key(|(key, service)| (service.kind != ServiceKind::LoadBalancer, key.as_str() != target));
    if fitting.is_empty() {
        let labels: Vec<String> = labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let problem = Problem::at(place, "", format!("no Service selects the pods of {target}"));
        sink.report(problem.help(format!(
            "add a Service of type LoadBalancer in {namespace} with selector {{ {} }}",
            labels.join(", ")
        )));
    }
    fitting.first().map(|(key, _)| (*key).clone())
}
