//! Which workload a drill is about, which Service stands in front of it, and whose pods are behind that.

use std::collections::BTreeMap;

use super::settings::Settings;
use super::state::{Loose, State};
use crate::cluster::endpoints::selects;
use crate::manifest::service::{self, ServiceKind, ServiceManifest, TargetPort};
use crate::manifest::{Object, Place, Problem, Sink, daemon_set, istio_gateway};
use crate::record::results::FidelityStatus;

impl State {
    /// Pods of no Deployment that are behind a Service: as replicas of a backend they have a process, as gateways they have none.
    pub(super) fn check_pods(
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

    pub(super) fn target(
        &self,
        settings: &Settings,
        candidates: &BTreeMap<String, (Object, Object)>,
        made: &[(Object, istio_gateway::Made)],
        sink: &Sink,
    ) -> Option<String> {
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

/// A gateway whose pods are a `DaemonSet`'s is refused.
fn no_daemon_gateway(object: &Object) -> Problem {
    let problem = Problem::at(object.place(), object.id.to_string(), "a DaemonSet as the gateway is not simulated");
    problem.help(
        "write it as a Deployment: as many replicas as nodes, a required anti-affinity to its own labels on kubernetes.io/hostname, and its limits (maxSurge 0 as a \
         DaemonSet has it)",
    )
}

/// The Service by whose ports the gateway's servers are bound: the one in front while it selects the pods, else another that does. Where none does, servers are
/// bound as they are written. Source: istio pilot/pkg/model/gateway.go `resolvePorts`.
pub(super) fn bound_by(
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
