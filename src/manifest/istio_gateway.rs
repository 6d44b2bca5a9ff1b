//! Alibaba Cloud Service Mesh's `IstioGateway`: every field of the resource, and the Deployment and Service that its controller makes.
//!
//! Both are called `istio-<name>`. Defaults are the documented ones (1 replica; limits 2 CPU and 2 G, requests 200m and 256Mi; traffic policy
//! `Cluster`) and, where the documents are silent, those of Istio's ingress chart (surge 100 %, unavailable 25 %, readiness each 2 s with 30
//! failures). The pod's grace period is 30 s.
//!
//! `asm.alibabacloud.com/gateway-drain-timeout-seconds` (ASM 1.26 and later) is approximated, since what it sets in detail is not
//! documented: N seconds make the gateway drain for N seconds, the balancer keep connections for N seconds, and the pod's grace N + 10 s (the
//! documented range ends 10 s below the balancer's own). Other times written beside it are refused (`drain`).
//!
//! `autoscaleEnabled` makes a `HorizontalPodAutoscaler`, too, of `minReplicas` (1) to `maxReplicas` (5) for the use of `cpu` (80 %) and of `memory`, if
//! that is set, in hundredths of what is requested; the chart's defaults. The gateway then begins with `replicaCount` pods, or the fewest there
//! may be, within these bounds: an assumption, since the real size is the autoscaler's. Without it the controller owns the replicas and writes
//! `replicaCount` again and again, unless the annotation `asm.alibabacloud.com/replicas-managed-by-asm` is `"false"`.
//!
//! Sources: aliyun/alibabacloud-servicemesh-api v1 istiogateway_types.go; ASM documents "CRD fields for an ASM gateway", "Use graceful
//! shutdown"; istio manifests/charts/gateways/istio-ingress.

pub mod clusters;
mod drain;
mod rest;

use super::autoscaler;
use super::deployment::{PROXY_CONFIG, REPLICAS_MAX, read_env};
use super::hook::read_lifecycle;
use super::object::{Object, ObjectId};
use super::placement;
use super::problem::Place;
use super::proxy_config;
use super::read::{Field, Fields, Sink};
use super::resources::read_resources;
use super::rolling_update::{int_or_percent, rolling_update};
use super::service::{GATEWAY_PROTOCOLS, ServiceKind, note_annotations, read_kind, read_policy, read_ports};
use super::yaml::{Entry, Node, Value};
use crate::cluster::int_or_percent::IntOrPercent;
use crate::record::results::FidelityStatus;

/// Graceful shutdown since ASM 1.26.
pub const DRAIN_ANNOTATION: &str = "asm.alibabacloud.com/gateway-drain-timeout-seconds";
/// Whether the controller writes `replicas`. Source: ASM documents, "Scale an ASM gateway" (1.19 and later).
pub const MANAGED_ANNOTATION: &str = "asm.alibabacloud.com/replicas-managed-by-asm";
/// Source: istio manifests/charts/gateways/istio-ingress values.yaml.
const REPLICAS_LEAST: i64 = 1;
/// Source: the same.
const REPLICAS_MOST: i64 = 5;
/// Source: the same; ASM's examples write it, too.
const CPU_PERCENT: i64 = 80;
/// From the end of the drain to SIGKILL: the margin that the documented range leaves below the balancer's. An assumption.
const GRACE_MARGIN_SECONDS: i64 = 10;
/// Source: Kubernetes' default, which ASM's documents name too.
const GRACE_SECONDS: i64 = 30;

/// The two generations of graceful shutdown. Source: ASM documents, "Use graceful shutdown".
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Generation {
    /// Before ASM 1.26: the balancer's connection draining, set at the Service. [`DRAIN_ANNOTATION`] has no effect.
    ConnectionDrain,
    /// Since then: [`DRAIN_ANNOTATION`].
    #[default]
    DrainTimeout,
}

/// What one `IstioGateway` makes.
#[derive(Clone, Debug)]
pub struct Made {
    /// The Deployment.
    pub deployment: Object,
    /// The Service.
    pub service: Object,
    /// The autoscaler, if it is enabled.
    pub autoscaler: Option<Object>,
    /// The replicas that the controller writes again and again; none: it leaves them to others.
    pub owned_replicas: Option<i32>,
}

/// Checks an `IstioGateway` and makes the Deployment and Service that a cluster gets; none if it is not deployed there.
pub fn read(object: &Object, cluster: Option<&str>, generation: Generation, sink: &Sink) -> Option<(Object, Made)> {
    let prefix = object.prefix();
    let before = sink.problem_count();
    let fields = object.open(sink, &prefix)?;
    if object.id.namespace != "istio-system" {
        let id = &object.id;
        let text = format!("a gateway in `{}` gets no configuration: write namespace: istio-system", id.namespace);
        let place = object.node.find(&["metadata", "namespace"]).map_or(object.place(), |node| node.at);
        sink.note(place, "metadata.namespace".to_owned(), FidelityStatus::Warning, Some(&text));
    }
    let spec_field = fields.look("spec");
    let (drain, is_managed) = read_annotations(&fields, generation);
    fields.finish();
    let Some(spec_field) = spec_field else {
        fields.missing("spec", "an IstioGateway has a spec");
        return None;
    };
    let spec = spec_field.fields()?;
    if let Some(kind) = spec.get("gatewayType").and_then(|field| field.choice(&[("ingress", true), ("egress", false)]))
        && !kind
        && let Some(field) = spec.look("gatewayType")
    {
        field.refuse("egress gateways are not simulated", "drill an ingress gateway");
    }
    check_spec(&spec);
    clusters::check(&spec, check_spec);
    spec.finish();
    if sink.problem_count() > before {
        return None;
    }
    let object = clusters::in_cluster(object, cluster)?;
    let spec = object.node.find(&["spec"])?.clone();
    if let Some((seconds, _)) = drain
        && !drain::check(&spec, seconds, sink)
    {
        return None;
    }
    let made = make(&object, &spec, drain, is_managed);
    Some((object, made))
}

/// Annotations that change behaviour: the drain timeout, and whether the controller owns the replicas.
fn read_annotations(fields: &Fields<'_>, generation: Generation) -> (Option<(i64, Place)>, bool) {
    let metadata = fields.look("metadata").and_then(|field| field.fields());
    let field = metadata.and_then(|metadata| metadata.look("annotations"));
    let Some((field, annotations)) = field.and_then(|field| Some((field.clone(), field.fields()?))) else {
        return (None, true);
    };
    drain::note_strangers(&field);
    annotations.ignore(&["asm.alibabacloud.com/enable-canary-deployment"], "canary upgrades are not simulated");
    let managed = annotations.get(MANAGED_ANNOTATION);
    let managed = managed.and_then(|field| field.text().and(field.choice(&[("true", true), ("false", false)])));
    (drain::read(fields, &annotations, generation), managed.unwrap_or(true))
}

fn check_spec(spec: &Fields<'_>) {
    if let Some(field) = spec.get("replicaCount") {
        let _ = field.whole::<i32>(0, REPLICAS_MAX);
    }
    let surge_field = spec.get("rollingMaxSurge");
    let unavailable_field = spec.get("rollingMaxUnavailable");
    let surge = surge_field.as_ref().map_or(Some(IntOrPercent::Percent(100)), surge_of);
    let unavailable = unavailable_field.as_ref().map_or(Some(IntOrPercent::Percent(25)), surge_of);
    if let (Some(surge), Some(unavailable), Some(field)) = (surge, unavailable, unavailable_field.or(surge_field)) {
        let _ = rolling_update(&field, surge, unavailable);
    }
    check_autoscaling(spec);
    if let Some(field) = spec.get("serviceType") {
        let kind = read_kind(&field);
        if kind == Some(ServiceKind::ExternalName) {
            field.refuse("a gateway is no external name", "write LoadBalancer");
        }
    }
    if let Some(field) = spec.get("externalTrafficPolicy") {
        let _ = read_policy(&field);
    }
    if let Some(field) = spec.get("loadBalancerClass") {
        let _ = field.text();
    }
    if let Some(field) = spec.look("serviceAnnotations") {
        let written = spec.look("serviceType").and_then(|field| field.node().text());
        let kind = ServiceKind::WORDS.iter().find(|(name, _)| Some(*name) == written);
        let class = spec.look("loadBalancerClass").and_then(|field| field.node().text());
        note_annotations(&field, kind.map_or(ServiceKind::LoadBalancer, |(_, kind)| *kind), class);
        drain::note_misplaced(&field);
        let _ = field.text_map();
    }
    for key in ["serviceLabels", "podLabels", "podAnnotations"] {
        if let Some(field) = spec.look(key) {
            let _ = field.text_map();
            drain::note_misplaced(&field);
        }
    }
    if let Some(field) = spec.look("ports") {
        let _ = read_ports(&field, &GATEWAY_PROTOCOLS);
    }
    if let Some(field) = spec.look("resources") {
        let _ = read_resources(&field);
    }
    if let Some(field) = spec.look("env") {
        let _ = read_env(&field);
    }
    let _ = placement::read_custom(spec);
    if let Some(field) = spec.look("lifecycle") {
        let _ = read_lifecycle(&field);
    }
    if let Some(probe) = spec.look("readinessProbe").and_then(|field| field.fields()) {
        for key in ["failureThreshold", "periodSeconds", "successThreshold"] {
            if let Some(field) = probe.get(key) {
                let _ = field.whole::<i32>(0, i64::from(i32::MAX));
            }
        }
        probe.finish();
    }
    rest::note(spec);
}

/// The console writes surge and unavailable as texts: `"1"` is a number here, unlike in a Deployment.
fn surge_of(field: &Field<'_>) -> Option<IntOrPercent> {
    match (&field.node().value, field.node().text().map(str::parse::<i32>)) {
        (Value::Scalar { is_quoted: true, .. }, Some(Ok(number))) if number >= 0 => Some(IntOrPercent::Int(number)),
        _ => int_or_percent(field),
    }
}

fn check_autoscaling(spec: &Fields<'_>) {
    let number = |key: &str| spec.look(key).and_then(|field| field.whole::<i32>(0, i64::from(i32::MAX)));
    let (least, most, replicas) = (number("minReplicas"), number("maxReplicas"), number("replicaCount").unwrap_or(1));
    if let (Some(least), Some(most), Some(field)) = (least, most, spec.look("minReplicas"))
        && least > most
    {
        field
            .refuse(format!("minReplicas {least} is above maxReplicas {most}"), "make minReplicas at most maxReplicas");
    }
    let enabled = spec.get("autoscaleEnabled").and_then(|field| field.boolean());
    for key in ["cpu", "memory"] {
        rest::check_target(spec, key, enabled == Some(true));
    }
    for key in ["minReplicas", "maxReplicas"] {
        match spec.look(key) {
            Some(field) if enabled == Some(true) => field.note(FidelityStatus::Modelled, None),
            Some(field) if least != Some(replicas) || most != Some(replicas) => {
                field.note(FidelityStatus::Modelled, Some("without autoscaleEnabled it has no effect"));
            }
            _ => {}
        }
    }
}

/// A value somebody wrote, or one that nobody did.
fn or_default(spec: &Node, key: &str, usual: Node) -> Node {
    spec.find(&[key]).filter(|node| !node.is_empty()).cloned().unwrap_or(usual)
}

fn text(value: &str) -> Node {
    Node::string(Place::NOWHERE, value)
}

fn number(value: i64) -> Node {
    Node::number(Place::NOWHERE, value)
}

fn make(object: &Object, spec: &Node, drain: Option<(i64, Place)>, is_managed: bool) -> Made {
    let name = format!("istio-{}", object.id.name);
    let at = object.place();
    let labels = || {
        let labels = vec![("app", Node::string(at, &name)), ("istio", Node::string(at, &object.id.name))];
        Node::map(at, labels)
    };
    let metadata = |annotations: Option<Node>| {
        let mut entries = vec![
            ("name", Node::string(at, &name)),
            ("namespace", Node::string(at, &object.id.namespace)),
            ("labels", labels()),
        ];
        entries.extend(annotations.map(|node| ("annotations", node)));
        Node::map(at, entries)
    };
    let object_of = |kind: &str, version: &str, metadata: Node, spec: Node| Object {
        id: ObjectId {
            kind: kind.to_owned(),
            namespace: object.id.namespace.clone(),
            name: name.clone(),
            group: version.split_once('/').map_or("", |(group, _)| group).to_owned(),
        },
        node: Node::map(
            at,
            vec![("apiVersion", text(version)), ("kind", text(kind)), ("metadata", metadata), ("spec", spec)],
        ),
    };
    let pod_spec = pod_spec(spec, drain, at);
    let pod_labels = with_entries(labels(), spec.find(&["podLabels"]));
    let mut pod_metadata = vec![("labels", pod_labels)];
    let drains = drain.map(|(seconds, place)| {
        let written = spec.find(&["podAnnotations", PROXY_CONFIG]).and_then(Node::text).unwrap_or_default();
        let config = Node::string(place, &proxy_config::with_drain(written, seconds));
        Node::map(place, vec![(PROXY_CONFIG, config)])
    });
    let own_annotations = spec.find(&["podAnnotations"]).cloned().unwrap_or(Node::map(at, Vec::new()));
    pod_metadata.push(("annotations", with_entries(own_annotations, drains.as_ref())));
    let as_number = |node: Node| match node.text().map(str::parse::<i64>) {
        Some(Ok(value)) => Node::number(node.at, value),
        _ => node,
    };
    let rolling = vec![
        ("maxSurge", as_number(or_default(spec, "rollingMaxSurge", text("100%")))),
        ("maxUnavailable", as_number(or_default(spec, "rollingMaxUnavailable", text("25%")))),
    ];
    let is_autoscaled = spec.find(&["autoscaleEnabled"]).and_then(Node::text).is_some_and(|text| text == "true");
    let replicas = if is_autoscaled { size_between(spec) } else { or_default(spec, "replicaCount", number(1)) };
    let owned_replicas = replicas.text().and_then(|text| text.parse().ok()).filter(|_| is_managed && !is_autoscaled);
    let deployment_spec = vec![
        ("replicas", replicas),
        ("selector", Node::map(at, vec![("matchLabels", labels())])),
        ("strategy", Node::map(at, vec![("rollingUpdate", Node::map(at, rolling))])),
        ("template", Node::map(at, vec![("metadata", Node::map(at, pod_metadata)), ("spec", pod_spec)])),
    ];
    let deployment = object_of("Deployment", "apps/v1", metadata(None), Node::map(at, deployment_spec));

    let annotations = service_annotations(spec, drain);
    let mut service_spec = vec![
        ("selector", labels()),
        ("type", or_default(spec, "serviceType", text("LoadBalancer"))),
        ("ports", service_ports(spec)),
    ];
    let optional = ["loadBalancerClass", "externalTrafficPolicy"];
    service_spec.extend(optional.iter().filter_map(|key| Some((*key, spec.find(&[key])?.clone()))));
    // Where the spec begins is where an absent setting of the Service would be written.
    let spec_at = object.node.entry("spec").map_or(at, |entry| entry.key_at);
    let mut service_spec = Node::map(at, service_spec);
    service_spec.at = spec_at;
    let service = object_of("Service", "v1", metadata(Some(annotations)), service_spec);
    let autoscaler = is_autoscaled.then(|| autoscaler_of(&deployment.id, spec, metadata(None), at));
    Made { deployment, service, autoscaler, owned_replicas }
}

/// The size with which an autoscaled gateway begins.
fn size_between(spec: &Node) -> Node {
    let written = |key: &str| spec.find(&[key]).and_then(Node::text).and_then(|text| text.parse::<i64>().ok());
    let least = written("minReplicas").unwrap_or(REPLICAS_LEAST);
    let most = written("maxReplicas").unwrap_or(REPLICAS_MOST).max(least);
    let size = written("replicaCount").unwrap_or(least).clamp(least, most);
    let place = spec.find(&["replicaCount"]).or(spec.find(&["minReplicas"])).map_or(Place::NOWHERE, |node| node.at);
    Node::number(place, size)
}

fn autoscaler_of(target: &ObjectId, spec: &Node, metadata: Node, at: Place) -> Object {
    let bounds = (
        or_default(spec, "minReplicas", number(REPLICAS_LEAST)),
        or_default(spec, "maxReplicas", number(REPLICAS_MOST)),
    );
    let written = |key: &str| spec.find(&[key, "targetAverageUtilization"]).cloned();
    let mut utilization = vec![("cpu", written("cpu").unwrap_or(number(CPU_PERCENT)))];
    utilization.extend(written("memory").map(|percent| ("memory", percent)));
    autoscaler::make(target, bounds, utilization, metadata, at)
}

fn pod_spec(spec: &Node, drain: Option<(i64, Place)>, at: Place) -> Node {
    let probe = spec.find(&["readinessProbe"]);
    // In the resource's Go type a 0 is an absent number.
    let probe_number = |key: &str, usual: i64| {
        let written = probe.and_then(|node| node.find(&[key])).filter(|node| node.text() != Some("0"));
        written.cloned().unwrap_or(number(usual))
    };
    let readiness = vec![
        ("httpGet", Node::map(at, vec![("path", text("/healthz/ready")), ("port", number(15021))])),
        ("initialDelaySeconds", number(1)),
        ("timeoutSeconds", number(1)),
        ("periodSeconds", probe_number("periodSeconds", 2)),
        ("failureThreshold", probe_number("failureThreshold", 30)),
        ("successThreshold", probe_number("successThreshold", 1)),
    ];
    let usual_resources = || {
        let pair =
            |cpu: &str, memory: &str| Node::map(Place::NOWHERE, vec![("cpu", text(cpu)), ("memory", text(memory))]);
        Node::map(Place::NOWHERE, vec![("limits", pair("2", "2G")), ("requests", pair("200m", "256Mi"))])
    };
    let env = spec.find(&["env"]).map(|node| node.items().to_vec()).unwrap_or_default();
    let mut container = vec![
        ("name", text("istio-proxy")),
        ("image", text("auto")),
        ("resources", or_default(spec, "resources", usual_resources())),
        ("env", Node::list(at, env)),
        ("readinessProbe", Node::map(at, readiness)),
    ];
    container.extend(spec.find(&["lifecycle"]).map(|node| ("lifecycle", node.clone())));
    let grace =
        drain.map_or(number(GRACE_SECONDS), |(seconds, place)| Node::number(place, seconds + GRACE_MARGIN_SECONDS));
    let mut pod =
        vec![("terminationGracePeriodSeconds", grace), ("containers", Node::list(at, vec![Node::map(at, container)]))];
    pod.extend(
        ["affinity", "nodeSelector", "tolerations"].iter().filter_map(|key| Some((*key, spec.find(&[key])?.clone()))),
    );
    Node::map(at, pod)
}

/// The Service's ports: what runs over TCP is TCP to it.
fn service_ports(spec: &Node) -> Node {
    let mut ports = or_default(spec, "ports", Node::list(Place::NOWHERE, Vec::new()));
    if let Value::List(items) = &mut ports.value {
        let maps = items.iter_mut().filter_map(|item| match &mut item.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        });
        for entry in maps.flatten().filter(|entry| &*entry.key == "protocol") {
            let is_over_tcp = |text: &str| matches!(text, "HTTP" | "HTTPS" | "HTTP2");
            if entry.node.text().is_some_and(is_over_tcp) {
                entry.node = Node::string(entry.node.at, "TCP");
            }
        }
    }
    ports
}

fn service_annotations(spec: &Node, drain: Option<(i64, Place)>) -> Node {
    let spec_at = spec.find(&["serviceAnnotations"]).map_or(spec.at, |node| node.at);
    let key_at = spec.entry("serviceAnnotations").map_or(spec_at, |entry| entry.key_at);
    let mut annotations = with_entries(Node::map(key_at, Vec::new()), spec.find(&["serviceAnnotations"]));
    if let Some((seconds, place)) = drain {
        let name = super::service::ServiceManifest::annotation_name;
        let (on, timeout) = (name("connection-drain"), name("connection-drain-timeout"));
        let made = Node::map(
            place,
            vec![(&*on, Node::string(place, "on")), (&*timeout, Node::string(place, &seconds.to_string()))],
        );
        annotations = with_entries(annotations, Some(&made));
    }
    annotations
}

/// A map with the entries of another; its own values give way.
fn with_entries(map: Node, more: Option<&Node>) -> Node {
    let mut entries: Vec<Entry> = map.entries().to_vec();
    for entry in more.map(Node::entries).unwrap_or_default() {
        entries.retain(|known| known.key != entry.key);
        entries.push(entry.clone());
    }
    Node { at: map.at, value: Value::Map(entries) }
}
