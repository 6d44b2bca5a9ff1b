//! Which workload a drill is about, which Service stands in front of it, and whose pods are gateways.
//!
//! - The *target* is a Deployment, a `DaemonSet`, or a pod without a controller: the one that is named, or else the only one that can be meant.
//! - *Gateways* are the target's pods and all others that the Service in front selects, at any time of the run: a second Deployment, say, whose pods are tried out
//!   beside the first one's. Whoever is named as a backend's is none.
//! - All of them have one configuration, the target's, so the same Gateways have to select them. Pods that no Gateway selects are no gateways.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::rc::Rc;

use super::settings::{BackendSettings, Settings};
use super::state::{Loose, Resolved, State};
use crate::cluster::OwnerKind;
use crate::cluster::endpoints::selects;
use crate::manifest::deployment::DeploymentManifest;
use crate::manifest::proxy_config::{self, ProxyConfig, objects};
use crate::manifest::routes::{self, Around, Proxy, Routing};
use crate::manifest::service::{self, ServiceKind, ServiceManifest, TargetPort};
use crate::manifest::{Object, Place, Problem, Sink, daemon_set, istio_gateway, pod};
use crate::record::results::FidelityStatus;

/// What makes pods, or is one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Workload {
    pub(super) kind: OwnerKind,
    /// `namespace/name`.
    pub(super) key: String,
}

impl Workload {
    /// Of this kind and `namespace/name`.
    pub(super) fn new(kind: OwnerKind, key: &str) -> Self {
        Self { kind, key: key.to_owned() }
    }

    /// The one that an object is, if it is one.
    pub(super) fn of(object: &Object) -> Option<Self> {
        let kind = OwnerKind::ALL.into_iter().find(|kind| kind.name() == object.id.kind)?;
        Some(Self::new(kind, &object.key()))
    }

    /// What its pods have for an owner.
    pub(super) fn owner(&self) -> Rc<str> {
        self.kind.owner(&self.key)
    }

    fn is(&self, object: &Object) -> bool {
        self.kind.name() == object.id.kind && self.key == object.key()
    }

    fn namespace(&self) -> &str {
        self.key.split('/').next().unwrap_or_default()
    }

    /// Whether a backend of the scenario names it.
    fn is_named_by(&self, backend: &BackendSettings) -> bool {
        let named = match self.kind {
            OwnerKind::Deployment => &backend.deployment,
            OwnerKind::DaemonSet => &backend.daemon_set,
            OwnerKind::Pod => &backend.pod,
        };
        named.as_ref().is_some_and(|(name, _)| *name == self.key)
    }
}

/// As the timeline tells it: a Deployment needs no kind.
impl Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            OwnerKind::Deployment => write!(f, "{}", self.key),
            kind => write!(f, "{} {}", kind.name(), self.key),
        }
    }
}

/// A name as a scenario writes it, `namespace/name` or `Kind/namespace/name`: the kinds that it may be, and the rest.
pub(super) fn written(text: &str) -> (Vec<OwnerKind>, &str) {
    let named = text.split_once('/').and_then(|(first, rest)| {
        let kind = OwnerKind::ALL.into_iter().find(|kind| kind.name() == first)?;
        Some((vec![kind], rest))
    });
    named.unwrap_or((OwnerKind::ALL.to_vec(), text))
}

/// A workload whose pods are gateways.
#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) workload: Workload,
    /// The object that it was made from, or itself.
    pub(super) origin: Object,
    /// What all sources of `ProxyConfig` come to for its pods.
    pub(super) proxy_config: ProxyConfig,
}

impl Resolved {
    /// All workloads that run here.
    pub(super) fn workloads(&self) -> impl Iterator<Item = (Workload, &DeploymentManifest)> {
        let deployments = self.deployments.iter().map(|(key, it)| (Workload::new(OwnerKind::Deployment, key), it));
        let daemons = self.daemons.iter().map(|(key, it)| (Workload::new(OwnerKind::DaemonSet, key), &it.manifest));
        let pods = self.pods.iter().map(|(key, it)| (Workload::new(OwnerKind::Pod, key), &it.manifest));
        deployments.chain(daemons).chain(pods)
    }

    /// What is known of a workload's pods.
    pub(super) fn manifest(&self, of: &Workload) -> Option<&DeploymentManifest> {
        match of.kind {
            OwnerKind::Deployment => self.deployments.get(&of.key),
            OwnerKind::DaemonSet => self.daemons.get(&of.key).map(|daemon| &daemon.manifest),
            OwnerKind::Pod => self.pods.get(&of.key).map(|pod| &pod.manifest),
        }
    }

    /// The workload that a scenario calls so.
    pub(super) fn workload(&self, text: &str) -> Option<Workload> {
        let (kinds, key) = written(text);
        kinds.into_iter().map(|kind| Workload::new(kind, key)).find(|found| self.manifest(found).is_some())
    }

    /// The workloads whose pods are gateways, with what is known of them; the target first.
    pub(super) fn gateways(&self) -> impl Iterator<Item = (&Gateway, &DeploymentManifest)> {
        self.gateways.iter().filter_map(|gateway| Some((gateway, self.manifest(&gateway.workload)?)))
    }

    /// What all sources of `ProxyConfig` come to for the target's pods.
    pub(super) fn proxy_config(&self) -> &ProxyConfig {
        &self.gateways[0].proxy_config
    }
}

/// What is known of a workload's pods.
pub(super) fn manifest<'a>(
    of: &Workload,
    deployments: &'a BTreeMap<String, DeploymentManifest>,
    loose: &'a Loose,
) -> Option<&'a DeploymentManifest> {
    match of.kind {
        OwnerKind::Deployment => deployments.get(&of.key),
        OwnerKind::DaemonSet => loose.daemons.get(&of.key).map(|daemon| &daemon.manifest),
        OwnerKind::Pod => loose.pods.get(&of.key).map(|pod| &pod.manifest),
    }
}

impl State {
    /// The target, and all others that the Service in front selects and no backend names.
    pub(super) fn gateways(
        &self,
        target: &Workload,
        in_front: Option<&ServiceManifest>,
        settings: &Settings,
        (deployments, loose): (&BTreeMap<String, DeploymentManifest>, &Loose),
        origin_of: impl Fn(&Workload) -> Option<Object>,
        sink: &Sink,
    ) -> Vec<Gateway> {
        let is_one = |object: &&Object| objects::KINDS.iter().any(|(kind, group)| object.is(kind, group));
        let configs: Vec<_> =
            self.objects.iter().filter(is_one).filter_map(|object| objects::read(object, sink)).collect();
        let mut all: Vec<(Workload, &DeploymentManifest)> = loose.workloads().collect();
        let here = deployments.iter().filter(|(key, _)| !settings.is_elsewhere(key));
        all.extend(here.map(|(key, it)| (Workload::new(OwnerKind::Deployment, key), it)));
        let is_gateway = |workload: &Workload, manifest: &DeploymentManifest| {
            let selector = in_front.map(|front| &front.service.selector);
            let is_selected = selector.is_some_and(|selector| selects(selector, &manifest.deployment.template.labels));
            let is_backend = || settings.backends.iter().any(|backend| workload.is_named_by(backend));
            workload == target || workload.namespace() == target.namespace() && is_selected && !is_backend()
        };
        all.retain(|(workload, manifest)| is_gateway(workload, manifest));
        all.sort_by_key(|(workload, _)| (workload != target, workload.clone()));
        let gateway = |(workload, manifest): (Workload, &DeploymentManifest)| {
            let read = |(text, at): &(String, Place)| proxy_config::read(text, *at, sink);
            let annotation = manifest.proxy_config.as_ref().and_then(read).unwrap_or_default();
            let labels = &manifest.deployment.template.labels;
            let proxy_config = objects::effective(workload.namespace(), labels, annotation, &configs);
            Some(Gateway { origin: origin_of(&workload)?, workload, proxy_config })
        };
        all.into_iter().filter_map(gateway).collect()
    }

    /// Workloads behind the Service in front that are no gateways, since no Gateway selects their pods: nobody knows what listens there. Pods that would be served another
    /// configuration than the target's are reported.
    pub(super) fn strangers(
        &self,
        gateways: &[(&Workload, &DeploymentManifest)],
        front: &ServiceManifest,
        (routing, around): (&Routing, &Around<'_>),
        sink: &Sink,
    ) -> Vec<Workload> {
        let mut strangers = Vec::new();
        let Some(((target, of_target), further)) = gateways.split_first() else { return strangers };
        let told = |routing: &Routing| format!("{:?}", (&routing.listeners, &routing.routes));
        for (workload, manifest) in further {
            let object = self.objects.iter().find(|object| workload.is(object));
            let (place, path) = (object.map_or(Place::NOWHERE, Object::place), workload.to_string());
            let names = front.ports.iter().filter_map(|port| match &port.target {
                TargetPort::Name(name) => Some(name),
                TargetPort::Number(_) => None,
            });
            for name in names.filter(|name| manifest.ports.get(*name) != of_target.ports.get(*name)) {
                let text = format!("port `{name}` is another number here than in the pods of {target}");
                let help = "give both the same: one port of the Service in front leads to one port of all its pods";
                sink.report(Problem::at(place, path.clone(), text).help(help));
            }
            let labels = &manifest.deployment.template.labels;
            let proxy = Proxy::Pods { labels, ports: &manifest.ports, front };
            let found = routes::read(&self.objects, &Around { proxy, ..*around }, &Sink::default());
            if told(&found) == told(routing) {
                continue;
            }
            if found.listeners.is_empty() && found.secure.is_empty() {
                let text = format!(
                    "the Service {} in front selects these pods, and no Gateway does: no gateway is simulated there, and nothing listens",
                    front.service.key
                );
                sink.note(place, path, FidelityStatus::Warning, Some(&text));
                strangers.push((*workload).clone());
                continue;
            }
            let text = format!(
                "the Service {} in front selects these pods, and their Gateways and routes are others than those of {target}",
                front.service.key
            );
            let labels = of_target.deployment.template.labels.iter();
            let labels: Vec<String> = labels.map(|(key, value)| format!("{key}: {value}")).collect();
            sink.report(Problem::at(place, path, text).help(format!(
                "all gateways of a drill have one configuration: let the same Gateways select both (the pods of {target} have {}), or take these out of the Service",
                labels.join(", ")
            )));
        }
        strangers
    }

    /// Pods of no Deployment that are behind a Service: as replicas of a backend they have a process where the backend says so.
    pub(super) fn check_pods(
        &self,
        settings: &Settings,
        (services, front): (&BTreeMap<String, ServiceManifest>, &str),
        (loose, gateways): (&Loose, &[Gateway]),
        sink: &Sink,
    ) {
        let namespace = |key: &str| key.split('/').next().unwrap_or_default().to_owned();
        for object in &self.objects {
            let Some(workload) = Workload::of(object) else { continue };
            let Some(manifest) = loose.manifest(&workload) else { continue };
            let (labels, field) = match workload.kind {
                OwnerKind::Pod => ("metadata.labels", "pod"),
                _ => ("spec.template.metadata.labels", "daemonSet"),
            };
            let is_selected = |service: &str| {
                let found = services.get(service).filter(|_| namespace(service) == namespace(&workload.key));
                found.is_some_and(|found| selects(&found.service.selector, &manifest.deployment.template.labels))
            };
            if gateways.iter().any(|gateway| gateway.workload == workload) {
                continue;
            }
            let is_named = settings.backends.iter().any(|backend| workload.is_named_by(backend));
            if is_selected(front) && is_named {
                let what = if field == "pod" { "this pod, which is" } else { "these pods, which are" };
                let text = format!("the Service {front} in front selects {what} a backend's");
                let problem =
                    Problem::at(object.place(), format!("{} {} {labels}", workload.kind.name(), workload.key), text);
                sink.report(
                    problem.help(format!(
                        "give it other labels, or take it out of backends[].{field}: then it is a gateway"
                    )),
                );
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

    /// The workloads of a kind that a Service selects with which a way in begins: a balancer, or ports of nodes.
    fn behind_balancers(&self, kind: OwnerKind, settings: &Settings) -> Vec<Workload> {
        let quiet = Sink::default();
        let services = self.objects.iter().filter(|object| object.id.kind == "Service");
        let services: Vec<ServiceManifest> = services.filter_map(|object| service::read(object, &quiet)).collect();
        let fronts =
            || services.iter().filter(|it| matches!(it.kind, ServiceKind::LoadBalancer | ServiceKind::NodePort));
        let labels = |object: &Object| match kind {
            OwnerKind::DaemonSet => Some(daemon_set::read(object, &quiet)?.manifest.deployment.template.labels),
            OwnerKind::Pod => Some(pod::read(object, &quiet)?.manifest.deployment.template.labels),
            OwnerKind::Deployment => None,
        };
        let is_behind = |object: &&Object| {
            let Some(labels) = labels(object) else { return false };
            fronts().any(|front| {
                let is_here = front.service.key.split('/').next() == Some(&*object.id.namespace);
                is_here && selects(&front.service.selector, &labels)
            })
        };
        let of_kind = self.objects.iter().filter(|object| object.id.kind == kind.name());
        let found = of_kind.filter(is_behind).filter_map(Workload::of);
        found.filter(|found| !settings.backends.iter().any(|backend| found.is_named_by(backend))).collect()
    }

    pub(super) fn target(
        &self,
        settings: &Settings,
        candidates: &BTreeMap<String, (Object, Object)>,
        made: &[(Object, istio_gateway::Made)],
        sink: &Sink,
    ) -> Option<Workload> {
        // Whatever comes later, the drill is about the same one.
        let is_there = |known: &&Workload| match known.kind {
            OwnerKind::Deployment => candidates.contains_key(&known.key),
            OwnerKind::DaemonSet | OwnerKind::Pod => self.objects.iter().any(|object| known.is(object)),
        };
        if let Some(known) = self.target_of_start.as_ref().filter(is_there) {
            return Some(known.clone());
        }
        if let Some((wanted, place)) = &settings.target {
            return self.named_target((wanted, *place), candidates, sink);
        }
        let deployment = |key: &String| Workload::new(OwnerKind::Deployment, key);
        let mut gateways: Vec<Workload> = if made.is_empty() {
            let all = candidates.keys().map(deployment);
            // A Deployment that stands behind a backend is no gateway.
            all.filter(|found| !settings.backends.iter().any(|backend| found.is_named_by(backend))).collect()
        } else {
            made.iter().map(|(_, made)| deployment(&made.deployment.key())).collect()
        };
        if gateways.is_empty() {
            gateways = self.behind_balancers(OwnerKind::DaemonSet, settings);
        }
        if gateways.is_empty() {
            // Pods have no owner that would tell which belong together: the drill is about the first.
            gateways = self.behind_balancers(OwnerKind::Pod, settings);
            gateways.sort();
            gateways.truncate(1);
        }
        match &gateways[..] {
            [only] => Some(only.clone()),
            [] => {
                // An IstioGateway with problems of its own has said enough.
                if !self.objects.iter().any(|object| object.id.kind == "IstioGateway") {
                    let problem = Problem::nowhere("the manifests hold no gateway");
                    sink.report(problem.help("add an IstioGateway, or the gateway's Deployment and its Service"));
                }
                None
            }
            many => {
                let place = candidates.get(&many[1].key).map_or(Place::NOWHERE, |(_, origin)| origin.place());
                let names: Vec<String> = many.iter().map(ToString::to_string).collect();
                let text = format!("there are {} gateways: {}", many.len(), names.join(", "));
                let problem = Problem::at(place, "spec.target", text);
                let first = match many[0].kind {
                    OwnerKind::Deployment => many[0].key.clone(),
                    kind => format!("{}/{}", kind.name(), many[0].key),
                };
                sink.report(problem.help(format!("say which one the drill is for: target: {first}")));
                None
            }
        }
    }

    /// The target that the scenario names.
    fn named_target(
        &self,
        (wanted, place): (&str, Place),
        candidates: &BTreeMap<String, (Object, Object)>,
        sink: &Sink,
    ) -> Option<Workload> {
        let (kinds, key) = written(wanted);
        let is_there = |found: &Workload| match found.kind {
            OwnerKind::Deployment => candidates.contains_key(&found.key),
            _ => self.objects.iter().any(|object| found.is(object)),
        };
        let all = || kinds.iter().map(|kind| Workload::new(*kind, key));
        if let Some(found) = all().find(is_there) {
            return Some(found);
        }
        let is_made = |object: &Object| format!("{}/istio-{}", object.id.namespace, object.id.name) == *wanted;
        if self.objects.iter().any(|object| object.id.kind == "IstioGateway" && is_made(object)) {
            // It has problems of its own, which were told, or it is not deployed here.
            if let Some(cluster) = self.cluster.as_ref().filter(|_| sink.problem_count() == 0) {
                let text = format!("`{wanted}` is not deployed to cluster `{cluster}`");
                let problem = Problem::at(place, "spec.target", text);
                sink.report(problem.help("name the cluster under its clusterIds, or take the cluster out"));
            }
            return None;
        }
        let problem = Problem::at(place, "spec.target", format!("no {} is called `{key}`", kinds[0].name()));
        let of_kind = |kind: &OwnerKind| match kind {
            OwnerKind::Deployment => candidates.keys().cloned().collect(),
            kind => self.keys_of(kind.name()),
        };
        let known: Vec<String> = kinds.iter().flat_map(of_kind).collect();
        sink.report(problem.did_you_mean(key, known.iter().map(String::as_str)));
        None
    }
}

/// The Service by whose ports the gateway's servers are bound: the one in front while it selects the pods, else another that does. Where none does, servers are
/// bound as they are written. Source: istio pilot/pkg/model/gateway.go `resolvePorts`.
pub(super) fn bound_by(
    (target, labels): (&str, &BTreeMap<String, String>),
    gateways: &[(&Workload, &DeploymentManifest)],
    in_front: &ServiceManifest,
    services: &BTreeMap<String, ServiceManifest>,
) -> ServiceManifest {
    let is_behind = |pods: &DeploymentManifest| selects(&in_front.service.selector, &pods.deployment.template.labels);
    if gateways.iter().any(|(_, pods)| is_behind(pods)) {
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
pub(super) fn front(
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
