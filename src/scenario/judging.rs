//! What is wrong with objects where something keeps the world from being made: all problems of all files are told at once.
//!
//! Each object is judged by itself, those of the timeline too. Routes are judged beside the Services they name as long as it is known which Service is in front:
//! one that is written and could not be read is there, whatever its ports. What depends on a thing that could not be read waits: nobody is told that it
//! is not there.

use std::collections::{BTreeMap, BTreeSet};

use super::operations::{NodeNames, OperationSettings};
use super::settings::{Settings, TimelineEntry, TimelineVerb};
use super::state::{Loose, State};
use super::target::{Workload, front, manifest, written};
use crate::cluster::OwnerKind;
use crate::cluster::version::Version;
use crate::manifest::deployment::{self, DeploymentManifest};
use crate::manifest::istio_gateway::{self, Generation};
use crate::manifest::object::GATEWAY_API;
use crate::manifest::proxy_config::objects;
use crate::manifest::routes::{self, Around, Missing, Options, Proxy};
use crate::manifest::service::{self, ServiceManifest};
use crate::manifest::{
    Node, Object, Place, Problem, Sink, api_versions, autoscaler, daemon_set, disruption_budget, pod, priority_class,
    version_rules,
};

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
            _ => {}
        }
    }
    routes::check_each(objects, sink);
}

/// Reports what is wrong with each object that the timeline brings.
pub(super) fn check_coming(timeline: &[TimelineEntry], sink: &Sink) {
    for entry in timeline {
        if let TimelineVerb::Apply(objects) = &entry.verb {
            check_each(objects, sink);
        }
    }
}

/// Reports what is wrong with all objects, by themselves and in this version of Kubernetes.
pub(super) fn check_all(objects: &[Object], timeline: &[TimelineEntry], version: Option<Version>, sink: &Sink) {
    check_each(objects, sink);
    check_coming(timeline, sink);
    let coming = timeline.iter().filter_map(|entry| match &entry.verb {
        TimelineVerb::Apply(objects) => Some(objects.as_slice()),
        _ => None,
    });
    for (version, objects) in version.into_iter().flat_map(|it| coming.clone().chain([objects]).map(move |of| (it, of)))
    {
        api_versions::check(objects, version, sink);
        let deployments = objects.iter().filter(|object| object.id.kind == "Deployment");
        deployments.for_each(|object| version_rules::check(object, version, sink));
    }
}

/// Reports what is wrong with the objects of a scenario that could not be read as a whole; `settings` are what objects are judged by, if they could be.
pub(super) fn judge(settings: Option<&Settings>, state: &State, timeline: &[TimelineEntry], sink: &Sink) {
    if let Some(settings) = settings {
        settings.check_clusters(&state.objects, sink);
        for view in settings.of_each_cluster() {
            let mut state = state.clone();
            state.cluster.clone_from(&view.cluster.id);
            state.version = Some(view.cluster.version);
            state.foresee(timeline);
            drop(state.resolve(&view, sink));
        }
    }
    check_all(&state.objects, timeline, settings.map(|settings| settings.cluster.version), sink);
    check_names(settings, &state.objects, timeline, sink);
}

/// Reports workloads and nodes that the timeline names and that are not there.
pub(super) fn check_names(settings: Option<&Settings>, objects: &[Object], timeline: &[TimelineEntry], sink: &Sink) {
    let coming = timeline.iter().flat_map(|entry| match &entry.verb {
        TimelineVerb::Apply(objects) => objects.as_slice(),
        _ => &[],
    });
    let all: Vec<&Object> = objects.iter().chain(coming).collect();
    let known: Vec<Workload> = all.iter().filter_map(|object| Workload::of(object)).chain(made(&all)).collect();
    // What a Gateway of the Gateway API makes has a name by its class.
    let is_open = all.iter().any(|object| object.is("Gateway", GATEWAY_API));
    for entry in timeline.iter().filter(|_| !is_open) {
        let Some(text) = &entry.of else { continue };
        let (kinds, key) = written(text);
        let of_kinds = || known.iter().filter(|known| kinds.contains(&known.kind)).map(|known| known.key.as_str());
        if !of_kinds().any(|known| known == key) {
            let problem =
                Problem::at(entry.place, "spec.timeline", format!("no {} is called `{key}`", kinds[0].name()));
            sink.report(problem.did_you_mean(key, of_kinds()));
        }
    }
    let Some(settings) = settings.filter(|settings| settings.clusters.len() == 1) else { return };
    let mut names = NodeNames::new(settings);
    for entry in timeline {
        if let TimelineVerb::Operate(operation) = &entry.verb
            // Which zones a balancer has depends on its Service.
            && !matches!(operation, OperationSettings::FailZone(..))
        {
            drop(names.actions(entry, operation, ("", &[]), sink));
        }
    }
}

/// The Deployments that are made of `IstioGateway`s.
fn made(objects: &[&Object]) -> Vec<Workload> {
    let all = objects.iter().filter(|object| object.id.kind == "IstioGateway");
    let key = |object: &&Object| format!("{}/istio-{}", object.id.namespace, object.id.name);
    all.map(key).map(|key| Workload::new(OwnerKind::Deployment, &key)).collect()
}

/// What could be read of the objects of a state, some of which could not.
pub(super) struct Legible<'a> {
    pub(super) settings: &'a Settings,
    pub(super) target: &'a Workload,
    pub(super) deployments: &'a BTreeMap<String, DeploymentManifest>,
    pub(super) loose: &'a Loose,
    pub(super) templates: &'a BTreeMap<String, Node>,
    pub(super) services: &'a BTreeMap<String, ServiceManifest>,
    /// The Service in front, if it has been found before.
    pub(super) front: Option<&'a String>,
    /// The target's origin.
    pub(super) place: Place,
}

impl State {
    /// Services that are written, or would be made, and could not be read, or not as a whole.
    fn unread_services(&self, services: &BTreeMap<String, ServiceManifest>) -> BTreeSet<String> {
        let is_broken = |object: &Object| {
            let quiet = Sink::default();
            drop(service::read(object, &quiet));
            quiet.problem_count() > 0
        };
        let all = self.objects.iter().filter_map(|object| match object.id.kind.as_str() {
            "Service" => Some((object.key(), is_broken(object))),
            "IstioGateway" => Some((format!("{}/istio-{}", object.id.namespace, object.id.name), false)),
            _ => None,
        });
        all.filter(|(key, is_broken)| *is_broken || !services.contains_key(key)).map(|(key, _)| key).collect()
    }

    /// Whether all Gateways are for the same pods, as far as they say.
    fn has_one_gateway(&self) -> bool {
        let gateways = self.objects.iter().filter(|object| object.id.kind == "Gateway");
        let asked: BTreeSet<String> = gateways
            .map(|object| {
                let selector = object.node.find(&["spec", "selector"]).map(deployment::canonical);
                selector.unwrap_or_else(|| object.id.to_string())
            })
            .collect();
        asked.len() == 1
    }

    /// Reports what is wrong with routes and backends as far as that does not depend on what could not be read.
    pub(super) fn judge_routes(&self, legible: &Legible<'_>, sink: &Sink) {
        let Legible { settings, target, deployments, loose, templates, services, place, .. } = *legible;
        let unread = self.unread_services(services);
        self.check_backends(settings, services, (deployments, loose), Some(&unread), sink);
        let manifest = manifest(target, deployments, loose);
        let template = || templates.get(&target.key).or_else(|| templates.get(&*target.owner()));
        let labels = match manifest {
            Some(manifest) => manifest.deployment.template.labels.clone(),
            None => template().map(labels).unwrap_or_default(),
        };
        let namespace = |key: &str| key.split('/').next().map(str::to_owned);
        let is_known = !labels.is_empty() && unread.iter().all(|key| namespace(key) != namespace(&target.key));
        let in_front = match legible.front {
            Some(front) => Some(front.clone()),
            None if is_known => front(&target.key, &labels, services, place, sink),
            None => None,
        };
        let sound: BTreeMap<String, ServiceManifest> = services
            .iter()
            .filter(|(key, _)| !unread.contains(*key))
            .map(|(key, it)| (key.clone(), it.clone()))
            .collect();
        let no_ports = BTreeMap::new();
        let proxy = match in_front.and_then(|key| sound.get(&key)) {
            Some(front) => {
                Proxy::Pods { labels: &labels, ports: manifest.map_or(&no_ports, |manifest| &manifest.ports), front }
            }
            // Whoever it is for: there is one.
            None if self.has_one_gateway() => Proxy::Named(&[]),
            None => return,
        };
        self.judge_routes_of(proxy, settings, (&sound, unread), sink);
    }

    /// The same where nobody knows what the drill is about.
    pub(super) fn judge_routes_alone(
        &self,
        settings: &Settings,
        services: &BTreeMap<String, ServiceManifest>,
        sink: &Sink,
    ) {
        let unread = self.unread_services(services);
        let mut sound = services.clone();
        sound.retain(|key, _| !unread.contains(key));
        if self.has_one_gateway() {
            self.judge_routes_of(Proxy::Named(&[]), settings, (&sound, unread), sink);
        }
    }

    fn judge_routes_of(
        &self,
        proxy: Proxy<'_>,
        settings: &Settings,
        (services, unread): (&BTreeMap<String, ServiceManifest>, BTreeSet<String>),
        sink: &Sink,
    ) {
        let described = settings.backends.iter().map(|backend| backend.service.clone());
        let declared: Vec<String> = described.chain(self.described.iter().cloned()).chain(unread).collect();
        let around = Around {
            proxy,
            services,
            declared: &declared,
            hosts: &[],
            missing: self.missing(),
            sometimes: &self.sometimes,
            options: Options::of(&settings.gateway.istio),
        };
        drop(routes::read(&self.objects, &around, sink));
    }

    /// What becomes of a route to nothing: at the start it is a slip of the pen.
    pub(super) fn missing(&self) -> Missing {
        if self.target_of_start.is_some() { Missing::Answered } else { Missing::Refused }
    }
}

/// The labels that a template is written with.
fn labels(template: &Node) -> BTreeMap<String, String> {
    let entries = template.find(&["metadata", "labels"]).map(Node::entries).unwrap_or_default();
    let text = |entry: &crate::manifest::yaml::Entry| Some((entry.key.to_string(), entry.node.text()?.to_owned()));
    entries.iter().filter_map(text).collect()
}
