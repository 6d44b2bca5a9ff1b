//! Documents sorted into objects: kinds, names, and what every object's metadata may hold.

use std::fmt;

use super::autoscaler::AUTOSCALING;
use super::placement;
use super::problem::{Place, Problem};
use super::read::{Dialect, Field, Fields, Sink, did_you_mean};
use super::yaml::{Node, Value};
use crate::record::results::FidelityStatus;

/// Names an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ObjectId {
    /// Its kind.
    pub kind: String,
    /// Its namespace; `default` where none is written, empty for what belongs to the whole cluster.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The API group of its kind: two groups have a `Gateway`.
    pub group: String,
}

/// As in `Service default/web`.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// An object as it was written, or made from one that was.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its name.
    pub id: ObjectId,
    /// All of it.
    pub node: Node,
}

impl Object {
    /// `namespace/name`.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}/{}", self.id.namespace, self.id.name)
    }

    /// Whether it is of this kind of this API group.
    #[must_use]
    pub fn is(&self, kind: &str, group: &str) -> bool {
        self.id.kind == kind && self.id.group == group
    }

    /// Where it begins.
    #[must_use]
    pub fn place(&self) -> Place {
        self.node.entry("kind").map_or(self.node.at, |entry| entry.key_at)
    }

    /// How it is named in notes, with the blank before the path.
    #[must_use]
    pub fn prefix(&self) -> String {
        format!("{} ", self.id)
    }

    /// Its fields, with the envelope read: `spec` and other top-level keys are left to the caller.
    pub fn open<'a>(&'a self, sink: &'a Sink, prefix: &'a str) -> Option<Fields<'a>> {
        let fields = Field::root(sink, Dialect::Kubernetes, prefix, &self.node).fields()?;
        fields.allow(&["apiVersion", "kind", "status"]);
        if let Some(metadata) = fields.look("metadata").and_then(|field| field.fields()) {
            read_metadata(&metadata);
            metadata.finish();
        }
        Some(fields)
    }
}

/// Reads what object metadata may hold. Labels and annotations are checked to be texts, and to have names and values that the API server takes.
pub fn read_metadata(metadata: &Fields<'_>) {
    metadata.allow(&[
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
        "selfLink",
        "finalizers",
        "generateName",
    ]);
    if let Some(field) = metadata.look("ownerReferences") {
        check_owners(&field);
    }
    if let Some(field) = metadata.look("labels") {
        let _ = placement::labels(&field);
    }
    if let Some(field) = metadata.look("annotations") {
        let _ = field.text_map();
        // Source: apimachinery pkg/api/validation `ValidateAnnotations`: their names may have capitals anywhere.
        field.map().iter().for_each(|(key, field)| placement::check_label_name(field, &key.to_lowercase()));
    }
}

/// Checks who owns an object. Source: apimachinery pkg/api/validation/objectmeta.go `ValidateOwnerReferences`.
fn check_owners(field: &Field<'_>) {
    let mut controller: Option<String> = None;
    for owner in field.items() {
        let Some(fields) = owner.fields() else { continue };
        for (key, help) in [
            ("apiVersion", "write the owner's, such as apps/v1"),
            ("kind", "write the owner's kind"),
            ("name", "write the owner's name"),
            ("uid", "write the owner's uid, as kubectl get -o yaml shows it"),
        ] {
            match fields.look(key) {
                Some(field) if field.text() == Some("") => field.refuse("must not be empty", help),
                Some(_) => {}
                None => fields.missing(key, help),
            }
        }
        let is_controller = fields.look("controller").and_then(|field| field.boolean()) == Some(true);
        if let Some(field) = fields.look("blockOwnerDeletion") {
            let _ = field.boolean();
        }
        fields.finish();
        let name = owner.node().find(&["name"]).and_then(Node::text).unwrap_or_default().to_owned();
        if let Some(first) = controller.as_ref().filter(|_| is_controller) {
            let text =
                format!("only one reference can have controller set to true, and here are `{first}` and `{name}`");
            owner.refuse(text, "write controller: true at one of them");
        }
        if is_controller && controller.is_none() {
            controller = Some(name);
        }
    }
}

/// The kinds that are simulated, with the API group they must come from.
const SIMULATED: [(&str, &str); 20] = [
    ("IstioGateway", "istio.alibabacloud.com"),
    ("Deployment", "apps"),
    ("DaemonSet", "apps"),
    ("Pod", ""),
    ("HorizontalPodAutoscaler", AUTOSCALING),
    ("Service", ""),
    ("PodDisruptionBudget", "policy"),
    ("Namespace", ""),
    ("PriorityClass", "scheduling.k8s.io"),
    ("Gateway", ISTIO),
    ("VirtualService", ISTIO),
    ("DestinationRule", ISTIO),
    ("ProxyConfig", ISTIO),
    ("ASMProxyConfig", "istio.alibabacloud.com"),
    ("GatewayClass", GATEWAY_API),
    ("Gateway", GATEWAY_API),
    ("HTTPRoute", GATEWAY_API),
    ("ReferenceGrant", GATEWAY_API),
    ("ListenerSet", GATEWAY_API),
    ("XListenerSet", GATEWAY_API_EXPERIMENTS),
];

/// The API group of Istio's objects.
pub const ISTIO: &str = "networking.istio.io";
/// The API group of the Gateway API.
pub const GATEWAY_API: &str = "gateway.networking.k8s.io";
/// The API group of the Gateway API's experiments.
pub const GATEWAY_API_EXPERIMENTS: &str = "gateway.networking.x-k8s.io";

/// Kinds whose objects belong to the whole cluster.
const WITHOUT_NAMESPACE: [&str; 3] = ["GatewayClass", "Namespace", "PriorityClass"];

/// Kinds that are common beside a gateway and not simulated. Any other kind is taken for a custom resource; this list tells a slip of the pen
/// from one.
const KNOWN: [&str; 16] = [
    "ClusterRole",
    "ClusterRoleBinding",
    "ConfigMap",
    "CustomResourceDefinition",
    "EnvoyFilter",
    "GRPCRoute",
    "Ingress",
    "NetworkPolicy",
    "PeerAuthentication",
    "Role",
    "RoleBinding",
    "Secret",
    "ServiceAccount",
    "ServiceEntry",
    "StatefulSet",
    "Telemetry",
];

/// Whether objects of this kind and API version are simulated.
#[must_use]
pub fn is_simulated(kind: &str, api_version: &str) -> bool {
    SIMULATED.contains(&(kind, group_of(api_version)))
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// The objects of these documents; lists are opened. What is no object is reported.
#[must_use]
pub fn objects(documents: Vec<Node>, sink: &Sink) -> Vec<Object> {
    let mut found = Vec::new();
    for document in documents {
        collect(document, sink, &mut found);
    }
    found
}

fn collect(node: Node, sink: &Sink, found: &mut Vec<Object>) {
    let before = sink.problem_count();
    let Some((kind, api_version, namespace, name)) = envelope(&node, sink) else {
        if sink.problem_count() == before {
            sink.report(Problem::at(node.at, "", "this is no Kubernetes object"));
        }
        return;
    };
    if kind.ends_with("List") && node.entry("items").is_some() {
        let Value::Map(entries) = node.value else { return };
        let items = entries.into_iter().find(|entry| &*entry.key == "items").map(|entry| entry.node.value);
        if let Some(Value::List(items)) = items {
            for item in items {
                collect(item, sink, found);
            }
        }
        return;
    }
    let Some(name) = name else {
        let problem = Problem::at(node.at, "metadata.name", "this is missing");
        sink.report(problem.help("give the object a name"));
        return;
    };
    let groups = || SIMULATED.iter().filter(|(known, _)| *known == kind).map(|(_, group)| *group);
    if groups().next().is_some()
        && !is_simulated(&kind, &api_version)
        && !api_version.split('/').next().unwrap_or_default().contains('.')
    {
        // The API's own groups have no dots, so this is no custom resource of the same name.
        let place = node.entry("apiVersion").map_or(node.at, |entry| entry.node.at);
        let right = groups().map(|group| if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") });
        let right = right.collect::<Vec<_>>().join(" or ");
        let problem = Problem::at(place, "apiVersion", format!("`{api_version}` has no {kind}"));
        sink.report(problem.help(format!("write {right}")));
        return;
    }
    let group = group_of(&api_version).to_owned();
    let namespace = if WITHOUT_NAMESPACE.contains(&kind.as_str()) { String::new() } else { namespace };
    let id = ObjectId { kind, namespace, name, group };
    let object = Object { id, node };
    if is_simulated(&object.id.kind, &api_version) {
        check_names(&object, sink);
        found.push(object);
        return;
    }
    let place = object.node.entry("kind").map_or(object.node.at, |entry| entry.node.at);
    let kinds = || SIMULATED.iter().map(|(kind, _)| *kind).chain(KNOWN);
    let near = did_you_mean(&object.id.kind, kinds()).filter(|_| !kinds().any(|kind| kind == object.id.kind));
    match near {
        Some(near) => {
            let problem = Problem::at(place, "kind", format!("`{}` is not a kind we know", object.id.kind));
            sink.report(problem.help(format!("did you mean `{near}`?")));
        }
        None => sink.note(place, object.id.to_string(), FidelityStatus::Ignored, Some("this kind is not simulated")),
    }
}

/// Whether a text is a part of a domain's name: at most 63 small letters, digits and dashes, no dash at an end. Source: RFC 1123.
pub(super) fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_name_part(text)
}

fn is_name_part(text: &str) -> bool {
    let is_inner = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
    !text.is_empty() && text.chars().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Names are part of other names, of addresses and of keys. Source: apimachinery pkg/util/validation.
fn check_names(object: &Object, sink: &Sink) {
    let ObjectId { namespace, name, .. } = &object.id;
    let is_name = name.len() <= 253 && name.split('.').all(is_name_part);
    let is_namespace = namespace.is_empty() || is_dns_label(namespace);
    for (key, text, is_right) in [("name", name, is_name), ("namespace", namespace, is_namespace)] {
        if !is_right {
            let place = object.node.find(&["metadata", key]).map_or(object.place(), |node| node.at);
            let problem = Problem::at(place, format!("metadata.{key}"), format!("`{text}` is not a name"));
            sink.report(problem.help("use small letters, digits and dashes"));
        }
    }
}

type Envelope = (String, String, String, Option<String>);

fn envelope(node: &Node, sink: &Sink) -> Option<Envelope> {
    let fields = Field::root(sink, Dialect::Kubernetes, "", node).fields()?;
    let text = |key: &str, help: &str| {
        let found = fields.look(key);
        if found.is_none() {
            fields.missing(key, help);
        }
        Some(found?.text()?.to_owned())
    };
    let api_version = text("apiVersion", "write one such as apps/v1");
    let kind = text("kind", "write one such as Deployment");
    let metadata = node.find(&["metadata"]);
    let inner = |key: &str| metadata.and_then(|node| node.find(&[key])).and_then(Node::text).map(str::to_owned);
    let namespace =
        inner("namespace").filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| "default".to_owned());
    Some((kind?, api_version?, namespace, inner("name")))
}
