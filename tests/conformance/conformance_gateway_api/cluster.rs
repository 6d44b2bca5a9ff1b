//! The cluster that manifests make: Services, pods of Deployments, endpoints.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use gatedrill::manifest::gateway_api::status;
use gatedrill::manifest::gateway_api::status::Status;
use gatedrill::manifest::object::{Object, objects};
use gatedrill::manifest::routes::{self, Around, Missing, Options, Proxy, Routing};
use gatedrill::manifest::service::{self, ServiceManifest, TargetPort};
use gatedrill::manifest::{Sink, yaml};
use serde_json::{Value, json};

use crate::gateway_world::{self, Pod, Setup, World};

/// The objects and the pods.
pub(crate) struct Cluster {
    file: String,
    /// All manifests, as one file.
    manifests: String,
    objects: Vec<Object>,
    services: BTreeMap<String, ServiceManifest>,
    pods: Vec<DeployedPod>,
    /// The Deployment whose pods stand behind Services without a selector.
    unselected: Option<String>,
}

struct DeployedPod {
    namespace: String,
    deployment: String,
    name: String,
    labels: BTreeMap<String, String>,
    ip: Ipv4Addr,
}

impl Cluster {
    pub(crate) fn new(file: &str, manifests: Vec<Value>, notes: Option<&str>) -> Self {
        let pods = deployed(&manifests);
        // The notes of a file with EndpointSlices name the Deployment whose pods fill them.
        let unselected = notes.and_then(|notes| {
            let words: Vec<&str> = notes.split_whitespace().collect();
            pods.iter().map(|pod| pod.deployment.clone()).find(|name| words.contains(&name.as_str()))
        });
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": manifests });
        let manifests = list.to_string();
        let (documents, problems) = yaml::parse(&manifests, 0);
        assert!(problems.is_empty(), "{file}: {problems:?}");
        let sink = Sink::default();
        let objects = objects(documents, &sink);
        let of_services = objects.iter().filter(|object| object.id.kind == "Service");
        let services = of_services.filter_map(|object| Some((object.key(), service::read(object, &sink)?))).collect();
        let problems = sink.take_problems();
        assert!(problems.is_empty(), "{file}: {problems:?}");
        Self { file: file.to_owned(), manifests, objects, services, pods, unselected }
    }

    /// The manifests as a user would have them.
    pub(crate) fn manifests(&self) -> &str {
        &self.manifests
    }

    /// The routes of one Gateway.
    pub(crate) fn routing(&self, gateway: &str) -> Routing {
        self.read(&[gateway.to_owned()], routes::read)
    }

    /// The status of all objects.
    pub(crate) fn status(&self) -> Status {
        self.read(&[], status)
    }

    fn read<T>(&self, gateways: &[String], read: impl FnOnce(&[Object], &Around<'_>, &Sink) -> T) -> T {
        let sink = Sink::default();
        let around = Around {
            proxy: Proxy::Named(gateways),
            services: &self.services,
            declared: &[],
            hosts: &[],
            missing: Missing::Refused,
            sometimes: &BTreeMap::new(),
            options: Options::default(),
        };
        let found = read(&self.objects, &around, &sink);
        let problems = sink.take_problems();
        assert!(problems.is_empty(), "{}: {problems:?}", self.file);
        found
    }

    /// A world in which the gateway has these routes.
    pub(crate) fn world(&self, routing: Routing) -> World {
        let clusters = routing.upstreams.iter().map(|upstream| gateway_world::Cluster {
            name: Arc::clone(&upstream.cluster),
            config: upstream.config,
            endpoints: self
                .endpoints(&upstream.service, upstream.port)
                .into_iter()
                .map(|(_, address)| address)
                .collect(),
        });
        let mut ports: Vec<u16> = self.services.values().flat_map(|service| &service.ports).map(target).collect();
        ports.sort_unstable();
        ports.dedup();
        let pods = self.pods.iter().map(|pod| Pod { name: pod.name.clone(), ip: pod.ip, ports: ports.clone() });
        World::new(Setup {
            seed: 1,
            clusters: clusters.collect(),
            pods: pods.collect(),
            listeners: routing.listeners,
            routes: routing.routes,
        })
    }

    /// The pods behind a port of a Service, by name, and where they listen.
    pub(crate) fn endpoints(&self, service: &str, port: u16) -> Vec<(String, SocketAddr)> {
        let found = &self.services[service];
        let selector = &found.service.selector;
        let port = found.ports.iter().find(|known| known.port == port).map(target).expect("a port of the Service");
        let namespace = service.split('/').next().unwrap_or_default();
        let is_behind = |pod: &&DeployedPod| {
            pod.namespace == namespace
                && if selector.is_empty() {
                    self.unselected.as_ref() == Some(&pod.deployment)
                } else {
                    selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
                }
        };
        let pods = self.pods.iter().filter(is_behind);
        pods.map(|pod| (pod.name.clone(), SocketAddr::V4(SocketAddrV4::new(pod.ip, port)))).collect()
    }
}

fn target(port: &service::ServicePort) -> u16 {
    match port.target {
        TargetPort::Number(number) => number,
        TargetPort::Name(_) => port.port,
    }
}

fn deployed(manifests: &[Value]) -> Vec<DeployedPod> {
    let mut pods = Vec::new();
    for manifest in manifests.iter().filter(|manifest| manifest["kind"] == "Deployment") {
        let text = |path: &str| manifest.pointer(path).and_then(Value::as_str).expect("a text").to_owned();
        let (namespace, deployment) = (text("/metadata/namespace"), text("/metadata/name"));
        let labels = manifest.pointer("/spec/template/metadata/labels").cloned().expect("labels");
        let labels: BTreeMap<String, String> = serde_json::from_value(labels).expect("texts");
        for replica in 0..manifest["spec"]["replicas"].as_u64().expect("a number") {
            let last = u8::try_from(pods.len() + 1).expect("few pods");
            pods.push(DeployedPod {
                name: format!("{namespace}/{deployment}-{replica}"),
                namespace: namespace.clone(),
                deployment: deployment.clone(),
                labels: labels.clone(),
                ip: Ipv4Addr::new(10, 0, 1, last),
            });
        }
    }
    pods
}
