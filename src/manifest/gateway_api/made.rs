//! The Deployment and the Service that Istio's controller makes for a `Gateway`, both called `<gateway>-<class>`.
//!
//! - One replica, Kubernetes' own strategy and grace period. Readiness is looked at every 15 s and given up after four failures; until the first
//!   success a startup probe looks every second. Limits 2 CPU and 1 Gi, requests 100m and 128Mi.
//! - The Service is a LoadBalancer with the ports of all listeners and 15021.
//! - Labels and annotations of both are those of `spec.infrastructure`, or the Gateway's own where it has none.
//!
//! Not simulated: changes by the ConfigMaps of the class and of `infrastructure.parametersRef`.
//! Source: istio manifests/charts/istio-control/istio-discovery/files/kube-gateway.yaml, pilot/pkg/config/kube/gateway/deploymentcontroller.go.

use super::gateway::NAME_OVERRIDE;
use super::{FOREIGN_CLASSES, gateway};
use crate::manifest::istio_gateway::Made;
use crate::manifest::object::{GATEWAY_API, Object, ObjectId};
use crate::manifest::problem::Place;
use crate::manifest::yaml::{Entry, Node, Value};

/// The annotation that names the kind of the Service.
const SERVICE_TYPE: &str = "networking.istio.io/service-type";
/// The label by which pods are selected.
const NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
const CLASS_LABEL: &str = "gateway.networking.k8s.io/gateway-class-name";

/// What Istio makes for a Gateway among these objects; nothing if it is another controller's, or names the Service in front of its pods.
#[must_use]
pub fn make(object: &Object, objects: &[Object]) -> Option<Made> {
    if !object.is("Gateway", GATEWAY_API) {
        return None;
    }
    let spec = object.node.find(&["spec"])?;
    let class = spec.find(&["gatewayClassName"])?.text()?;
    let of_class = objects.iter().filter(|object| object.is("GatewayClass", GATEWAY_API) && object.id.name == class);
    let controllers = of_class.filter_map(|object| object.node.find(&["spec", "controllerName"])?.text());
    let is_foreign =
        FOREIGN_CLASSES.contains(&class) || controllers.into_iter().any(|name| name != gateway::CONTROLLER);
    let addresses = spec.find(&["addresses"]).map(Node::items).unwrap_or_default();
    let is_named = addresses.len() > 1
        || addresses.first().is_some_and(|address| {
            address.find(&["type"]).and_then(Node::text).is_some_and(|kind| kind != "IPAddress")
        });
    if is_foreign || is_named {
        return None;
    }
    Some(Maker { object, spec, class, at: object.place() }.make(objects))
}

struct Maker<'a> {
    object: &'a Object,
    spec: &'a Node,
    class: &'a str,
    at: Place,
}

impl Maker<'_> {
    fn make(&self, objects: &[Object]) -> Made {
        let annotations = self.own("annotations");
        let labels = |more: &Node| {
            let name = (NAME_LABEL, self.text(&self.object.id.name));
            joined(&self.map(vec![name, (CLASS_LABEL, self.text(self.class))]), more)
        };
        let selector = || self.map(vec![(NAME_LABEL, self.text(&self.object.id.name))]);
        let own_labels = self.own("labels");
        let template = self.map(vec![
            ("metadata", self.map(vec![("labels", labels(&own_labels)), ("annotations", annotations.clone())])),
            ("spec", self.pod_spec()),
        ]);
        let deployment =
            self.map(vec![("selector", self.map(vec![("matchLabels", selector())])), ("template", template)]);
        let kind = annotations.find(&[SERVICE_TYPE]).cloned().unwrap_or_else(|| self.text("LoadBalancer"));
        let mut service = self.map(vec![("selector", selector()), ("type", kind), ("ports", self.ports(objects))]);
        // Where the spec begins is where an absent setting of the Service would be written.
        service.at = self.object.node.entry("spec").map_or(self.at, |entry| entry.key_at);
        let metadata = |annotations: &Node| {
            let name = ("name", self.text(&self.name()));
            let namespace = ("namespace", self.text(&self.object.id.namespace));
            let (labels, annotations) = (labels(&own_labels), annotations.clone());
            self.map(vec![name, namespace, ("labels", labels), ("annotations", annotations)])
        };
        Made {
            deployment: self.object_of("Deployment", "apps", "apps/v1", metadata(&annotations), deployment),
            service: self.object_of("Service", "", "v1", metadata(&annotations), service),
            autoscaler: None,
            owned_replicas: None,
        }
    }

    fn name(&self) -> String {
        let named = self.object.node.find(&["metadata", "annotations", NAME_OVERRIDE]).and_then(Node::text);
        named.map_or_else(|| format!("{}-{}", self.object.id.name, self.class), str::to_owned)
    }

    /// Labels or annotations that both objects get.
    fn own(&self, key: &str) -> Node {
        let found = match self.spec.find(&["infrastructure"]) {
            Some(infrastructure) => infrastructure.find(&[key]),
            None => self.object.node.find(&["metadata", key]),
        };
        found.cloned().unwrap_or_else(|| self.map(Vec::new()))
    }

    fn pod_spec(&self) -> Node {
        let number = |value: i64| Node::number(Place::NOWHERE, value);
        let ask = || self.map(vec![("path", self.text("/healthz/ready")), ("port", number(15021))]);
        let probe = |failures: i64, delay: i64, period: i64| {
            self.map(vec![
                ("httpGet", ask()),
                ("failureThreshold", number(failures)),
                ("initialDelaySeconds", number(delay)),
                ("periodSeconds", number(period)),
                ("successThreshold", number(1)),
                ("timeoutSeconds", number(1)),
            ])
        };
        let amounts = |cpu: &str, memory: &str| self.map(vec![("cpu", self.text(cpu)), ("memory", self.text(memory))]);
        let status = vec![("name", self.text("status-port")), ("containerPort", number(15021))];
        let container = self.map(vec![
            ("name", self.text("istio-proxy")),
            ("image", self.text("auto")),
            ("ports", Node::list(self.at, vec![self.map(status)])),
            ("resources", self.map(vec![("limits", amounts("2", "1Gi")), ("requests", amounts("100m", "128Mi"))])),
            ("startupProbe", probe(30, 1, 1)),
            ("readinessProbe", probe(4, 0, 15)),
        ]);
        self.map(vec![("containers", Node::list(self.at, vec![container]))])
    }

    /// 15021, and the ports of all listeners, those of ListenerSets too.
    fn ports(&self, objects: &[Object]) -> Node {
        let id = &self.object.id;
        let sets = objects.iter().filter(|set| {
            let parent = set.node.find(&["spec", "parentRef"]);
            let part = |key: &str| parent.and_then(|parent| parent.find(&[key])).and_then(Node::text);
            set.id.kind.ends_with("ListenerSet")
                && part("name") == Some(&id.name)
                && part("namespace").unwrap_or(&set.id.namespace) == id.namespace
        });
        let specs = std::iter::once(self.spec).chain(sets.filter_map(|set| set.node.find(&["spec"])));
        let listeners = specs.filter_map(|spec| spec.find(&["listeners"])).flat_map(Node::items);
        let mut ports = vec![(Node::number(Place::NOWHERE, 15021), self.text("status-port"))];
        for listener in listeners {
            let (Some(port), Some(name)) = (listener.find(&["port"]), listener.find(&["name"])) else { continue };
            if !ports.iter().any(|(known, _)| known.text() == port.text()) {
                ports.push((port.clone(), name.clone()));
            }
        }
        let entry = |(port, name): (Node, Node)| self.map(vec![("port", port), ("name", name)]);
        Node::list(self.at, ports.into_iter().map(entry).collect())
    }

    fn object_of(&self, kind: &str, group: &str, version: &str, metadata: Node, spec: Node) -> Object {
        let id = ObjectId {
            kind: kind.to_owned(),
            namespace: self.object.id.namespace.clone(),
            name: self.name(),
            group: group.to_owned(),
        };
        let head = vec![("apiVersion", self.text(version)), ("kind", self.text(kind))];
        let body = vec![("metadata", metadata), ("spec", spec)];
        Object { id, node: self.map(head.into_iter().chain(body).collect()) }
    }

    fn text(&self, text: &str) -> Node {
        Node::string(self.at, text)
    }

    fn map(&self, entries: Vec<(&str, Node)>) -> Node {
        Node::map(self.at, entries)
    }
}

/// A map with the entries of another; its own values stay.
fn joined(map: &Node, more: &Node) -> Node {
    let mut entries: Vec<Entry> = map.entries().to_vec();
    for entry in more.entries() {
        if !entries.iter().any(|known| known.key == entry.key) {
            entries.push(entry.clone());
        }
    }
    Node { at: map.at, value: Value::Map(entries) }
}
