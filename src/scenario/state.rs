//! The objects as they stand at a moment of the timeline, and what they come to.
//!
//! A timeline that applies or edits objects makes one state after another; each is read as a whole, so that a change in mid-run follows the same
//! rules as the same objects from the start.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::address::{Patch, Subject};
use super::budgets;
use super::edits::{Edits, is_refused};
use super::judging::Legible;
use super::settings::{BackendSettings, Settings, TimelineEntry, TimelineVerb};
use super::shutdown;
use super::target::{Gateway, Workload, bound_by, front, manifest};
use crate::cluster::OwnerKind;
use crate::cluster::disruption::DisruptionBudget;
use crate::cluster::endpoints::selects;
use crate::cluster::version::Version;
use crate::manifest::api_versions;
use crate::manifest::autoscaler::{self, AutoscalerManifest};
use crate::manifest::daemon_set::{self, DaemonSetManifest};
use crate::manifest::deployment::{self, DeploymentManifest};
use crate::manifest::disruption_budget;
use crate::manifest::istio_gateway::Generation;
use crate::manifest::pod::{self, PodManifest};
use crate::manifest::priority_class;
use crate::manifest::proxy_config::ProxyConfig;
use crate::manifest::routes::{self, Around, Options, Proxy, Routing};
use crate::manifest::service::{self, ServiceKind, ServiceManifest, wiping};
use crate::manifest::{Node, Note, Object, Place, Problem, Sink, gated, gateway_api, istio_gateway, version_rules};

/// The objects, and the edits of what is made from them.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    /// How ASM shuts gateways down.
    pub(super) generation: Generation,
    /// As they were written, the last of each name.
    pub(super) objects: Vec<Object>,
    /// The cluster in which they stand, if it has a name.
    pub(super) cluster: Option<Rc<str>>,
    /// The version of Kubernetes there.
    pub(super) version: Option<Version>,
    /// Edits of the target before the start: of a variant, of `--set`.
    target_patches: Vec<Patch>,
    /// Edits of Deployments and `DaemonSet`s, by the owner of their pods; those from before the start are among them as soon as the target is known.
    edits: Edits,
    /// Services and their ports that there are at some time, as far as is known.
    pub(super) sometimes: BTreeMap<String, BTreeSet<u16>>,
    /// Services that are there, of which nothing else is known.
    pub(super) described: Vec<String>,
    /// Deployments, pods and `DaemonSet`s that the timeline brings, by kind and `namespace/name`.
    later: BTreeSet<(String, String)>,
    /// The Service in front, which clients dial: the same from the start on, whatever it selects later.
    front: Option<String>,
    /// The gateway's Deployment, once the drill runs.
    pub(super) target_of_start: Option<Workload>,
    /// The `IstioGateway` of the target as it was when it was still deployed to this cluster, once it is not: here it stays as it was.
    pub(super) departed: Option<Object>,
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
    /// The pod templates as they are written, by the pods' owner.
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
    /// The workloads whose pods are gateways, the target first.
    pub(super) gateways: Vec<Gateway>,
    /// What the drill is about.
    pub(super) target: Workload,
    /// The object that the target was made from, or itself.
    pub(super) origin: Object,
    /// Listeners, routes, upstreams.
    pub(super) routing: Routing,
    front: String,
}

/// Pods of no Deployment, by `namespace/name`.
pub(super) struct Loose {
    pub(super) pods: BTreeMap<String, PodManifest>,
    pub(super) daemons: BTreeMap<String, DaemonSetManifest>,
    /// `DaemonSet`s as edits have made them, and what there is to say of their fields, unless they are gateways.
    written: BTreeMap<String, (Object, Vec<Note>)>,
}

impl Loose {
    fn manifests(&mut self) -> impl Iterator<Item = (Workload, &mut DeploymentManifest)> {
        let pods = self.pods.iter_mut().map(|(key, pod)| (Workload::new(OwnerKind::Pod, key), &mut pod.manifest));
        let daemons = self.daemons.iter_mut();
        pods.chain(daemons.map(|(key, daemon)| (Workload::new(OwnerKind::DaemonSet, key), &mut daemon.manifest)))
    }

    /// All of them.
    pub(super) fn workloads(&self) -> impl Iterator<Item = (Workload, &DeploymentManifest)> {
        let pods = self.pods.iter().map(|(key, pod)| (Workload::new(OwnerKind::Pod, key), &pod.manifest));
        let daemons = self.daemons.iter();
        pods.chain(daemons.map(|(key, daemon)| (Workload::new(OwnerKind::DaemonSet, key), &daemon.manifest)))
    }

    /// What is known of the pods of one of them.
    pub(super) fn manifest(&self, of: &Workload) -> Option<&DeploymentManifest> {
        self.workloads().find(|(workload, _)| workload == of).map(|(_, manifest)| manifest)
    }
}

impl Resolved {
    /// The Service in front of the target, as `namespace/name`.
    pub(super) fn front_key(&self) -> &str {
        &self.front
    }

    /// What is known of the target's pods.
    pub(super) fn target(&self) -> Option<&DeploymentManifest> {
        self.manifest(&self.target)
    }

    /// The Service in front of it.
    pub(super) fn front(&self) -> Option<&ServiceManifest> {
        self.services.get(&self.front)
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
            objects.iter().for_each(|object| self.foresee_object(object));
        }
    }

    /// One that the timeline brings.
    pub(super) fn foresee_object(&mut self, object: &Object) {
        if ["Deployment", "Pod", "DaemonSet"].contains(&object.id.kind.as_str()) {
            self.later.insert((object.id.kind.clone(), object.key()));
        }
        if object.id.kind == "Service"
            && let Some(service) = service::read(object, &Sink::default())
        {
            self.remember(&service);
        }
    }

    fn remember(&mut self, service: &ServiceManifest) {
        let ports = service.ports.iter().map(|port| port.port);
        self.sometimes.entry(service.service.key.to_string()).or_default().extend(ports);
    }

    /// What there has been may be gone later, and what was edited before the start is one edit like any other from now on.
    pub(super) fn note(&mut self, resolved: &Resolved) {
        for patch in std::mem::take(&mut self.target_patches) {
            self.edits.push(&resolved.target.owner(), patch);
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

    /// Applies objects in mid-run. As with `kubectl apply`, what they write wins over earlier edits of the same fields, so does what they wrote before and leave out now,
    /// and other edits stay: a Deployment that was scaled gets the replicas of its manifest, and keeps the mark of its last restart, as a
    /// `DaemonSet` does.
    pub(super) fn apply_later(&mut self, objects: &[Object]) {
        for object in objects {
            if self.has_departed(object) {
                continue;
            }
            let written = |object: &Object| match object.id.kind.as_str() {
                "IstioGateway" | "Gateway" => self.made(object, &Sink::default()).map(|(_, made)| made.deployment),
                "Deployment" | "DaemonSet" => Some(object.clone()),
                _ => None,
            };
            let former = self.objects.iter().find(|known| known.id == object.id).and_then(written);
            if let Some(made) = written(object)
                && let Some(workload) = Workload::of(&made)
            {
                self.edits.written(&workload.owner(), former.as_ref().map(|former| &former.node), &made.node);
            }
        }
        self.apply(objects.iter().cloned());
    }

    /// Whether this is the `IstioGateway` that is no longer deployed here.
    fn has_departed(&self, object: &Object) -> bool {
        self.departed.as_ref().is_some_and(|departed| departed.id == object.id)
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
        if kind == "DaemonSet" {
            self.edits.forget(&OwnerKind::DaemonSet.owner(key));
        }
        self.objects.retain(|object| object.id.kind != kind || object.key() != key);
        self.objects.len() < count
    }

    /// Edits a Deployment or a `DaemonSet` from now on.
    pub(super) fn edit(&mut self, workload: &Workload, patch: Patch) {
        self.edits.push(&workload.owner(), patch);
    }

    /// Edits an object in mid-run, over all that has been edited before; what cannot be edited is reported.
    pub(super) fn patch_later(&mut self, patch: &Patch, target: &Workload, sink: &Sink) {
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
            "Deployment" | "DaemonSet" => {
                let Some(workload) = Workload::of(object) else { return };
                let mut node = self.edited(object, (&workload, target), &Sink::default()).node;
                match patch.write(&mut node) {
                    Ok(()) => self.edit(&workload, patch.clone()),
                    Err(text) => sink.report(Problem::at(patch.at, patch.text.clone(), text)),
                }
            }
            "IstioGateway" if self.has_departed(object) => self.patch(patch, sink),
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

    /// An object as edits have made it.
    fn edited(&self, object: &Object, (workload, target): (&Workload, &Workload), sink: &Sink) -> Object {
        let mut object = object.clone();
        let lasting = self.target_patches.iter().filter(|_| workload == target);
        lasting.for_each(|patch| patch.apply(&mut object.node, sink));
        self.edits.write(&workload.owner(), &mut object.node, sink);
        self.serve(&mut object, sink);
        object
    }

    /// Takes out what this cluster's API server drops.
    fn serve(&self, object: &mut Object, sink: &Sink) {
        if let Some(version) = self.version {
            gated::drop_fields(object, version, sink);
        }
    }

    /// What a controller makes of an object, and the object as this cluster gets it.
    fn made(&self, object: &Object, sink: &Sink) -> Option<(Object, istio_gateway::Made)> {
        let object = self.departed.as_ref().filter(|departed| departed.id == object.id).unwrap_or(object);
        match object.id.kind.as_str() {
            "IstioGateway" => istio_gateway::read(object, self.cluster.as_deref(), self.generation, sink),
            _ => Some((object.clone(), gateway_api::made::make(object, &self.objects)?)),
        }
    }

    /// The Services that are made, and those that are written.
    fn services(&self, made: &[(Object, istio_gateway::Made)], sink: &Sink) -> BTreeMap<String, ServiceManifest> {
        let mut services = BTreeMap::new();
        for (_, made) in made {
            let object = self.wiped(&made.service, sink);
            let manifest = read_quietly(true, sink, |sink| service::read(&object, sink));
            services.extend(manifest.map(|manifest| (made.service.key(), manifest)));
        }
        for object in self.objects.iter().filter(|object| object.id.kind == "Service") {
            services.extend(service::read(&self.wiped(object, sink), sink).map(|manifest| (object.key(), manifest)));
        }
        services
    }

    /// A Service without the fields that went with its former type, and those that the API server drops.
    fn wiped(&self, object: &Object, sink: &Sink) -> Object {
        let mut object = object.clone();
        if let Some(former) = self.former.get(&object.key()) {
            wiping::wipe(&mut object.node, former);
        }
        self.serve(&mut object, sink);
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
            let mut served = object.clone();
            self.serve(&mut served, sink);
            autoscalers.extend(autoscaler::read(&served, sink).map(|manifest| (object.key(), manifest)));
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
    fn loose(
        &self,
        settings: &Settings,
        services: &BTreeMap<String, ServiceManifest>,
        target: &Workload,
        sink: &Sink,
    ) -> Loose {
        let written = |kind: OwnerKind, group: &'static str| {
            let of_kind = self.objects.iter().filter(move |object| object.is(kind.name(), group));
            of_kind.map(move |object| {
                let workload = Workload::new(kind, &object.key());
                let object = self.edited(object, (&workload, target), sink);
                (workload.key, object)
            })
        };
        let pods = written(OwnerKind::Pod, "");
        let mut pods: BTreeMap<String, PodManifest> =
            pods.filter_map(|(key, object)| Some((key, pod::read(&object, sink)?))).collect();
        let mut loose = Loose { pods: BTreeMap::new(), daemons: BTreeMap::new(), written: BTreeMap::new() };
        for (key, object) in written(OwnerKind::DaemonSet, "apps") {
            let quiet = Sink::default();
            let manifest = daemon_set::read(&object, &quiet);
            quiet.take_problems().into_iter().for_each(|problem| sink.report(problem));
            loose.written.insert(key.clone(), (object, quiet.take_notes()));
            loose.daemons.extend(manifest.map(|manifest| (key, manifest)));
        }
        pods.retain(|_, pod| !of_other_clusters(settings, services, &pod.manifest, |backend| &backend.pod));
        loose
            .daemons
            .retain(|_, it| !of_other_clusters(settings, services, &it.manifest, |backend| &backend.daemon_set));
        loose.pods = pods;
        loose
    }

    /// What there is to say of the fields of `DaemonSet`s: of a gateway's as of a Deployment's.
    fn note_daemons(loose: &Loose, gateways: &[Gateway], sink: &Sink) {
        for (key, (object, notes)) in &loose.written {
            let workload = Workload::new(OwnerKind::DaemonSet, key);
            let mut notes = notes.clone();
            if gateways.iter().any(|gateway| gateway.workload == workload) {
                let quiet = Sink::default();
                daemon_set::read_gateway(object, &quiet);
                notes = quiet.take_notes();
            }
            notes.into_iter().for_each(|note| sink.note(note.place, note.path, note.status, note.text.as_deref()));
        }
    }

    /// The Deployments as edits have made them, their pod templates, and those that say how many pods they want.
    fn deployments(
        &self,
        candidates: &BTreeMap<String, (Object, Object)>,
        target: &Workload,
        version: Version,
        sink: &Sink,
    ) -> (BTreeMap<String, DeploymentManifest>, BTreeMap<String, Node>, BTreeSet<String>) {
        let (mut deployments, mut templates, mut sized) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        for (key, (object, from)) in candidates {
            let is_made = object.id.kind != from.id.kind;
            if !is_made && object.node.find(&["spec", "replicas"]).is_some() {
                sized.insert(key.clone());
            }
            let workload = Workload::new(OwnerKind::Deployment, key);
            let object = self.edited(object, (&workload, target), sink);
            version_rules::check(&object, version, sink);
            let manifest = read_quietly(is_made, sink, |sink| deployment::read(&object, sink));
            templates.extend(object.node.find(&["spec", "template"]).map(|node| (key.clone(), node.clone())));
            deployments.extend(manifest.map(|manifest| (key.clone(), manifest)));
        }
        (deployments, templates, sized)
    }

    /// What the objects come to. Problems and notes go to the sink.
    #[expect(clippy::too_many_lines, reason = "a straight line, in which each step needs those before it")]
    pub(super) fn resolve(&self, settings: &Settings, sink: &Sink) -> Option<Resolved> {
        let before = sink.problem_count();
        api_versions::check(&self.objects, settings.cluster.version, sink);
        let made: Vec<_> = self.objects.iter().filter_map(|object| self.made(object, sink)).collect();
        // What an IstioGateway makes was checked with it; here only new problems count, such as those of an edit.
        let mut candidates: BTreeMap<String, (Object, Object)> = BTreeMap::new();
        for (origin, made) in &made {
            candidates.insert(made.deployment.key(), (made.deployment.clone(), origin.clone()));
        }
        let written = |kind: &'static str| self.objects.iter().filter(move |object| object.id.kind == kind);
        for object in written("Deployment") {
            candidates.insert(object.key(), (object.clone(), object.clone()));
        }
        let Some(target) = self.target(settings, &candidates, &made, sink) else {
            self.judge_routes_alone(settings, &self.services(&made, sink), sink);
            return None;
        };
        let (mut deployments, mut templates, mut sized) =
            self.deployments(&candidates, &target, settings.cluster.version, sink);
        let services = self.services(&made, sink);
        let mut loose = self.loose(settings, &services, &target, sink);
        for (key, (object, _)) in &loose.written {
            let owner = OwnerKind::DaemonSet.owner(key).to_string();
            templates.extend(object.node.find(&["spec", "template"]).map(|node| (owner, node.clone())));
        }
        let of_target = manifest(&target, &deployments, &loose);
        let labels = of_target.map(|manifest| manifest.deployment.template.labels.clone()).unwrap_or_default();
        let origin_of = |of: &Workload| {
            let is_it = |object: &&Object| Workload::of(object).as_ref() == Some(of);
            let maker = made.iter().find(|(_, made)| is_it(&&made.deployment)).map(|(object, _)| object);
            maker.or_else(|| self.objects.iter().find(is_it)).cloned()
        };
        let place = origin_of(&target).map_or(Place::NOWHERE, |object| object.place());
        let known_front = self.front.as_ref().filter(|key| services.contains_key(*key));
        let found_front = |sink: &Sink| match known_front {
            Some(known) => Some(known.clone()),
            None => front(&target.key, &labels, &services, place, sink),
        };
        let in_front = found_front(&Sink::default()).and_then(|key| services.get(&key));
        let mut gateways = self.gateways(&target, in_front, settings, (&deployments, &loose), origin_of, sink);
        settle_hooks(&mut deployments, &mut loose, &gateways, settings, sink);
        self.admit(deployments.values_mut().chain(loose.manifests().map(|(_, manifest)| manifest)), sink);
        let mut autoscalers = self.autoscalers(&made, sink);
        for (_, made) in made.iter().filter(|(_, made)| made.owned_replicas.is_some()) {
            sized.insert(made.deployment.key());
        }
        let of_target = made.iter().find(|(_, made)| Workload::of(&made.deployment).as_ref() == Some(&target));
        let owned_replicas = of_target.and_then(|(_, made)| made.owned_replicas);
        service::rules::check_allocation(&services, sink);
        // What runs in other clusters only is not here.
        let is_elsewhere = |key: &str| settings.is_elsewhere(key);
        let (elsewhere, deployments): (BTreeMap<_, _>, BTreeMap<_, _>) =
            deployments.into_iter().partition(|(key, _)| is_elsewhere(key));
        autoscalers.retain(|_, manifest| !is_elsewhere(&manifest.spec.target));
        let budget = |object: &Object| {
            let mut object = object.clone();
            self.serve(&mut object, sink);
            disruption_budget::read(&object, sink)
        };
        let budgets = written("PodDisruptionBudget").filter_map(budget).collect();
        let of_target = manifest(&target, &deployments, &loose);
        if sink.problem_count() > before {
            let legible = Legible {
                settings,
                target: &target,
                deployments: &deployments,
                loose: &loose,
                templates: &templates,
                services: &services,
                front: known_front,
                place,
            };
            self.judge_routes(&legible, sink);
            return None;
        }
        let ports = of_target?.ports.clone();
        let front = found_front(sink)?;
        let in_front = &services[&front];
        let pods = gateways.iter().filter_map(|it| Some((&it.workload, manifest(&it.workload, &deployments, &loose)?)));
        let pods: Vec<(&Workload, &DeploymentManifest)> = pods.collect();
        let bound_by = bound_by((&target.key, &labels), &pods, in_front, &services);
        // What has a manifest at some time is there when its manifest says so.
        let described = settings.backends.iter().map(|backend| backend.service.clone());
        let described = described.chain(self.described.iter().cloned());
        let declared: Vec<String> = described.filter(|key| !self.sometimes.contains_key(key)).collect();
        let around = Around {
            proxy: Proxy::Pods { labels: &labels, ports: &ports, front: &bound_by },
            services: &services,
            declared: &declared,
            hosts: &[],
            missing: self.missing(),
            sometimes: &self.sometimes,
            options: Options::of(&settings.gateway.istio),
        };
        let routing = routes::read(&self.objects, &around, sink);
        self.check_backends(settings, &services, (&deployments, &loose), None, sink);
        let strangers = self.strangers(&pods, in_front, (&routing, &around), sink);
        gateways.retain(|gateway| !strangers.contains(&gateway.workload));
        self.check_pods(settings, (&services, &front), (&loose, &gateways), sink);
        Self::note_daemons(&loose, &gateways, sink);
        let Loose { pods, daemons, .. } = loose;
        let origin = gateways.first()?.origin.clone();
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
            gateways,
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

    /// Checks what the backends name; if some objects could not be read, these are the Services among them.
    pub(super) fn check_backends(
        &self,
        settings: &Settings,
        services: &BTreeMap<String, ServiceManifest>,
        (deployments, loose): (&BTreeMap<String, DeploymentManifest>, &Loose),
        unread: Option<&BTreeSet<String>>,
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
                && !(unread.is_some() && self.keys_of(kind).contains(name))
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
                && !unread.is_some_and(|unread| unread.contains(&backend.service))
            {
                let text = format!("no Service is called `{}`", backend.service);
                let problem = Problem::at(*place, format!("{path}.{field}"), text);
                sink.report(problem.help("pods are found through a Service: add it to the manifests"));
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

/// Takes out the hooks that a gateway's image, or another's, does not have.
fn settle_hooks(
    deployments: &mut BTreeMap<String, DeploymentManifest>,
    loose: &mut Loose,
    gateways: &[Gateway],
    settings: &Settings,
    sink: &Sink,
) {
    let no_config = ProxyConfig::default();
    let deployments = deployments.iter_mut();
    let deployments = deployments.map(|(key, it)| (Workload::new(OwnerKind::Deployment, key), it));
    for (workload, manifest) in deployments.chain(loose.manifests()) {
        let gateway = gateways.iter().find(|gateway| gateway.workload == workload);
        let config = gateway.map_or(&no_config, |gateway| &gateway.proxy_config);
        shutdown::settle_hook(manifest, config, settings.cluster.version, sink);
    }
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
