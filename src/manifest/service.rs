//! Services: which pods, which ports, and what the load balancer's controller is told.

pub mod annotations;
pub mod aws;
pub mod rules;
pub mod wiping;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::object::Object;
use super::problem::Place;
use super::read::{Field, Fields, Sink};
use crate::cluster::{FacePort, Service, ServiceFace};
pub use crate::cluster::{ServiceKind, TargetPort};
use crate::edge::TrafficPolicy;
use crate::record::results::FidelityStatus;

/// How long a client keeps to an endpoint where nothing is written. Source: Kubernetes `DefaultClientIPServiceAffinitySeconds`.
const AFFINITY_TIMEOUT: Duration = Duration::from_secs(10_800);
/// The longest that may be written: a day.
const AFFINITY_SECONDS_MAX: i64 = 86_400;
/// The class that makes an NLB.
pub const NLB: &str = "alibabacloud.com/nlb";
/// Whether balancers reach pods or nodes.
pub const BACKEND_TYPE: &str = "service.beta.kubernetes.io/backend-type";
/// Names a balancer that is there already.
const LOAD_BALANCER_ID: &str = "alibaba-cloud-loadbalancer-id";
/// Names another controller than Alibaba's for CLBs. Source: cloud-provider-alibaba-cloud pkg/controller/helper/service_utils.go (`NeedCLB`).
pub const CLASS: &str = "service.beta.kubernetes.io/class";

/// A Service.
#[derive(Clone, Debug)]
pub struct ServiceManifest {
    /// What the cluster gets.
    pub service: Service,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `ClusterIP`, `NodePort` or `LoadBalancer`.
    pub kind: ServiceKind,
    /// Where that is written.
    pub kind_at: Place,
    /// Which endpoints a node may use.
    pub policy: TrafficPolicy,
    /// Where the policy is written.
    pub policy_at: Place,
    /// Somebody wrote it.
    pub policy_is_written: bool,
    /// Which endpoints a node may use for clients within the cluster.
    pub internal_policy: TrafficPolicy,
    /// Where that policy is written.
    pub internal_policy_at: Place,
    /// For how long a client keeps to an endpoint: `sessionAffinity: ClientIP`.
    pub affinity: Option<Duration>,
    /// Where that is written.
    pub affinity_at: Place,
    /// Node ports are drawn for ports without one; else only those that are written exist.
    pub draws_node_ports: bool,
    /// Where nodes tell balancers whether they have an endpoint.
    pub health_check_node_port: Option<u16>,
    /// Where it is written that it has no address of its own: `clusterIP: None`.
    pub headless_at: Option<Place>,
    /// All node ports that are written, with their places.
    taken: Vec<(u16, Place)>,
    /// The class of the balancer.
    pub load_balancer_class: Option<(String, Place)>,
    /// Annotations, with their places.
    pub annotations: BTreeMap<String, (String, Place)>,
    /// Where annotations are written, or would be.
    pub annotations_at: Place,
    /// Which endpoints its clients prefer.
    pub traffic_distribution: Option<TrafficDistribution>,
}

/// Which endpoints the clients of a Service prefer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficDistribution {
    /// Those in the client's zone: `PreferSameZone`, or `PreferClose`, its former name.
    SameZone,
    /// Those on the client's node, then those in its zone: `PreferSameNode`.
    SameNode,
}

/// Istio's own spelling of it, for Services of clusters that have no such field.
const DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";

/// One port.
#[derive(Clone, Debug)]
pub struct ServicePort {
    /// The Service's port.
    pub port: u16,
    /// The pod's port.
    pub target: TargetPort,
    /// The nodes' port, where it is written.
    pub node_port: Option<u16>,
}

impl ServiceManifest {
    /// An annotation of Alibaba's balancers by its last part, with its place. One that is empty is none.
    #[must_use]
    pub fn balancer_annotation(&self, suffix: &str) -> Option<&(String, Place)> {
        self.annotations.get(&self.written_name(suffix)).filter(|(text, _)| !text.is_empty())
    }

    /// Whether its balancer's controller takes such a switch for on; none: it is not written.
    #[must_use]
    pub fn is_on(&self, suffix: &str) -> Option<bool> {
        let (text, _) = self.balancer_annotation(suffix)?;
        let row = annotations::Row::find(suffix, self.is_nlb());
        Some(row.map_or(text == "on", |row| row.is_on(text)))
    }

    /// Whether its balancer is an NLB.
    #[must_use]
    pub fn is_nlb(&self) -> bool {
        self.load_balancer_class.as_ref().is_some_and(|(class, _)| class == NLB)
    }

    /// What keeps Alibaba's controller for CLBs from it, with its place: a word for another controller.
    #[must_use]
    pub fn other_controller(&self) -> Option<&(String, Place)> {
        self.annotations.get(CLASS).filter(|(text, _)| self.load_balancer_class.is_none() && !text.is_empty())
    }

    /// Whether an annotation is one of Alibaba's balancers, in either spelling.
    #[must_use]
    pub fn is_balancer_annotation(name: &str) -> bool {
        annotations::suffix(name).is_some()
    }

    /// The last part of an annotation of Alibaba's balancers, in either spelling.
    #[must_use]
    pub fn suffix(name: &str) -> Option<&str> {
        annotations::suffix(name)
    }

    /// Whether its balancer's targets are pods, or nodes.
    #[must_use]
    pub fn reaches_pods(&self) -> bool {
        reaches_pods(&self.annotations)
    }

    /// The full name of such an annotation.
    #[must_use]
    pub fn annotation_name(suffix: &str) -> String {
        format!("{}{suffix}", annotations::PREFIXES[0])
    }

    /// The full name of such an annotation as it is spelled here; as it should be, if it is not written.
    #[must_use]
    pub fn written_name(&self, suffix: &str) -> String {
        let names = annotations::PREFIXES.iter().map(|prefix| format!("{prefix}{suffix}"));
        let mut written = names.filter(|name| self.annotations.contains_key(name));
        written.next().unwrap_or_else(|| Self::annotation_name(suffix))
    }
}

/// Whether a balancer with these annotations has pods as its targets, or nodes. Pods are what ACK with Terway takes where nothing is written, or an empty
/// value. Source: cloud-provider-alibaba-cloud pkg/controller/helper/service_utils.go (`IsENIBackendType`).
fn reaches_pods(annotations: &BTreeMap<String, (String, Place)>) -> bool {
    annotations.get(BACKEND_TYPE).is_none_or(|(text, _)| matches!(text.as_str(), "eni" | ""))
}

/// Notes whether a balancer's targets are what is written.
fn note_backend_type(value: &Field<'_>) {
    match value.node().text() {
        Some("eni" | "ecs") => value.note(FidelityStatus::Modelled, None),
        Some("") => {
            value.note(FidelityStatus::Modelled, Some("it is empty, which is as if it were not written"));
        }
        other => {
            let text = format!("`{}` is not `eni`, so the balancer's targets are nodes", other.unwrap_or_default());
            value.note(FidelityStatus::Warning, Some(&text));
        }
    }
}

/// Notes which annotations of a Service of this type, with this class of balancer, are followed.
pub(super) fn note_annotations(field: &Field<'_>, kind: ServiceKind, class: Option<&str>) {
    for (key, value) in field.map() {
        let suffix = annotations::suffix(key);
        match suffix {
            Some(_) if kind != ServiceKind::LoadBalancer => rules::note_unused(&value),
            _ if key == BACKEND_TYPE && kind != ServiceKind::LoadBalancer => rules::note_unused(&value),
            _ if key == BACKEND_TYPE => note_backend_type(&value),
            _ if key == DISTRIBUTION => value.note(FidelityStatus::Modelled, None),
            Some(suffix) => annotations::note(&value, suffix, class == Some(NLB)),
            None => annotations::note_unread(&value, key),
        }
    }
}

/// Reads a Service.
pub fn read(object: &Object, sink: &Sink) -> Option<ServiceManifest> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let metadata = fields.look("metadata").and_then(|field| field.fields());
    let annotations_field = metadata.as_ref().and_then(|metadata| metadata.look("annotations"));
    let annotations_at = annotations_field
        .as_ref()
        .map_or_else(|| metadata.as_ref().map_or(object.place(), Fields::place), Field::place);
    let mut annotations = BTreeMap::new();
    let spec_field = fields.look("spec");
    let written_kind = spec_field.as_ref().and_then(|field| field.node().find(&["type"])?.text());
    let known_kind = ServiceKind::WORDS
        .iter()
        .find(|(name, _)| Some(*name) == written_kind)
        .map_or(ServiceKind::ClusterIp, |(_, kind)| *kind);
    if let Some(field) = &annotations_field {
        let class = spec_field.as_ref().and_then(|field| field.node().find(&["loadBalancerClass"])?.text());
        note_annotations(field, known_kind, class);
        for (key, value) in field.map() {
            if let Some(text) = value.text() {
                annotations.insert(key.to_owned(), (text.to_owned(), value.place()));
            }
        }
    }
    fields.finish();
    let Some(spec) = spec_field.and_then(|field| field.fields()) else {
        fields.missing("spec", "a Service has a spec");
        return None;
    };
    let selector = spec.get("selector").map(|field| field.text_map()).unwrap_or_default();
    let kind_field = spec.get("type");
    let kind = kind_field.as_ref().map_or(Some(ServiceKind::ClusterIp), read_kind);
    let kind_at = kind_field.map_or(spec.place(), |field| field.place());
    let policy_field = spec.get("externalTrafficPolicy");
    let policy = policy_field.as_ref().map_or(Some(TrafficPolicy::Cluster), read_policy);
    let policy_is_written = policy_field.is_some();
    let policy_at = policy_field.map_or(spec.place(), |field| field.place());
    let class_field = spec.get("loadBalancerClass");
    let load_balancer_class = class_field.and_then(|field| Some((field.text()?.to_owned(), field.place())));
    let publish_not_ready = spec.get("publishNotReadyAddresses").and_then(|field| field.boolean()).unwrap_or(false);
    let ports = spec.look("ports").map(|field| read_ports(&field, &PROTOCOLS)).unwrap_or_default();
    let headless_at = rules::headless_at(&spec);
    if spec.look("ports").is_none_or(|field| field.node().is_empty())
        && headless_at.is_none()
        && kind != Some(ServiceKind::ExternalName)
    {
        spec.missing("ports", "a Service has at least one port");
    }
    let affinity = read_affinity(&spec, kind, reaches_pods(&annotations));
    let internal_field = spec.look("internalTrafficPolicy");
    let internal_policy = internal_field.as_ref().map_or(Some(TrafficPolicy::Cluster), read_policy);
    let internal_policy_at = internal_field.as_ref().map_or(spec.place(), Field::place);
    if let Some(field) = internal_field.filter(|field| field.node().text() != Some("Cluster")) {
        field.note(FidelityStatus::Modelled, None);
    }
    let draws = spec.look("allocateLoadBalancerNodePorts").and_then(|field| field.boolean()).unwrap_or(true);
    let health_check = rules::check_type(&spec, known_kind, policy.unwrap_or(TrafficPolicy::Cluster));
    rules::check_node_ports(&spec, known_kind);
    rules::check_addresses(&spec, known_kind);
    let mut taken = taken_ports(&spec);
    taken.extend(health_check);
    let traffic_distribution = spec.get("trafficDistribution").and_then(|field| read_distribution(&field));
    let traffic_distribution = traffic_distribution.or_else(|| {
        let annotation = annotations.get(DISTRIBUTION).map(|(text, _)| text.to_ascii_lowercase());
        let known = |name: &str| DISTRIBUTIONS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        annotation.and_then(|name| known(&name).map(|(_, found)| *found))
    });
    spec.ignore(&["loadBalancerSourceRanges", "externalIPs"], "not simulated");
    spec.allow(&["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "loadBalancerIP", "externalName"]);
    spec.finish();
    let (kind, policy, internal_policy) = (kind?, policy?, internal_policy?);
    let balancer_id =
        annotations.iter().find(|(key, _)| key.ends_with(LOAD_BALANCER_ID)).map(|(_, (id, _))| id.clone());
    let face = ServiceFace { balancer_id, ..face(&spec, kind, draws) };
    let service = Service { key: Rc::from(object.key()), selector, publish_not_ready, face };
    Some(ServiceManifest {
        service,
        ports,
        kind,
        kind_at,
        policy,
        policy_at,
        policy_is_written,
        internal_policy,
        internal_policy_at,
        affinity,
        affinity_at: spec.look("sessionAffinity").map_or(spec.place(), |field| field.place()),
        draws_node_ports: draws,
        health_check_node_port: health_check.map(|(port, _)| port),
        headless_at,
        taken,
        load_balancer_class,
        annotations,
        annotations_at,
        traffic_distribution,
    })
}

const DISTRIBUTIONS: [(&str, TrafficDistribution); 3] = [
    ("PreferClose", TrafficDistribution::SameZone),
    ("PreferSameZone", TrafficDistribution::SameZone),
    ("PreferSameNode", TrafficDistribution::SameNode),
];

/// What lists show of a Service: all its ports, those of protocols that are not simulated too.
fn face(spec: &Fields<'_>, kind: ServiceKind, draws_node_ports: bool) -> ServiceFace {
    let text = |name: &str| spec.look(name)?.node().text().filter(|text| !text.is_empty()).map(str::to_owned);
    let items = spec.look("ports").map(|field| field.items()).unwrap_or_default();
    let number = |port: &Fields<'_>, name: &str| port.look(name)?.node().text()?.parse::<u16>().ok();
    let ports = items.iter().filter_map(Field::fields).filter_map(|port| {
        let written = port.look("protocol");
        let written = written.as_ref().and_then(|field| field.node().text());
        let protocol = ["UDP", "SCTP"].into_iter().find(|name| written == Some(name)).unwrap_or("TCP");
        let node_port = number(&port, "nodePort").filter(|number| *number > 0);
        Some(FacePort { port: number(&port, "port")?, node_port, protocol })
    });
    ServiceFace {
        kind,
        cluster_ip: text("clusterIP"),
        external_name: text("externalName").filter(|_| kind == ServiceKind::ExternalName),
        ports: ports.collect(),
        draws_no_node_ports: !draws_node_ports,
        balancer_id: None,
    }
}

fn read_distribution(field: &Field<'_>) -> Option<TrafficDistribution> {
    field.choice(&DISTRIBUTIONS)
}

pub(super) fn read_kind(field: &Field<'_>) -> Option<ServiceKind> {
    field.choice(&ServiceKind::WORDS)
}

/// The node ports that are written.
fn taken_ports(spec: &Fields<'_>) -> Vec<(u16, Place)> {
    let ports = spec.look("ports").map(|field| field.items()).unwrap_or_default();
    let fields = ports.iter().filter_map(Field::fields);
    let numbers = fields.filter_map(|port| {
        let field = port.look("nodePort")?;
        Some((field.node().text()?.parse().ok()?, field.place()))
    });
    numbers.filter(|(number, _)| *number > 0).collect()
}

pub(super) fn read_policy(field: &Field<'_>) -> Option<TrafficPolicy> {
    field.choice(&[("Cluster", TrafficPolicy::Cluster), ("Local", TrafficPolicy::Local)])
}

/// Whether clients stick to an endpoint. A timeout that is not written is three hours; without affinity the API server drops its settings.
///
/// Source: Kubernetes v1.28.7 pkg/apis/core/v1/defaults.go, pkg/apis/core/validation/validation.go `validateAffinityTimeout`.
fn read_affinity(spec: &Fields<'_>, kind: Option<ServiceKind>, reaches_pods: bool) -> Option<Duration> {
    let field = spec.look("sessionAffinity");
    let sticks = field.as_ref().and_then(|field| field.choice(&[("None", false), ("ClientIP", true)]));
    let (true, Some(field)) = (sticks.unwrap_or(false), field) else {
        spec.ignore(&["sessionAffinityConfig"], "the API server drops it: sessionAffinity is not ClientIP");
        return None;
    };
    match (kind, reaches_pods) {
        (Some(ServiceKind::LoadBalancer), false) | (Some(ServiceKind::NodePort), _) => {
            field.note(FidelityStatus::Modelled, None);
        }
        (Some(ServiceKind::LoadBalancer), true) => {
            field.note(
                FidelityStatus::Ignored,
                Some("the balancer reaches pods themselves: no kube-proxy is on the way"),
            );
        }
        _ => field
            .note(FidelityStatus::Approximated, Some("followed by kube-proxy; the gateway chooses endpoints itself")),
    }
    let mut timeout = AFFINITY_TIMEOUT;
    if let Some(config) = spec.look("sessionAffinityConfig").and_then(|field| field.fields()) {
        if let Some(client) = config.look("clientIP").and_then(|field| field.fields()) {
            if let Some(seconds) = client.get("timeoutSeconds") {
                timeout = Duration::from_secs(rules::affinity_seconds(&seconds)?);
            }
            client.finish();
        }
        config.finish();
    }
    Some(timeout)
}

/// What a Service's port may speak, and whether that is TCP.
const PROTOCOLS: [(&str, bool); 3] = [("TCP", true), ("UDP", false), ("SCTP", false)];
/// The same of an `IstioGateway`, which may also name what runs over TCP.
pub(super) const GATEWAY_PROTOCOLS: [(&str, bool); 6] =
    [("TCP", true), ("HTTP", true), ("HTTPS", true), ("HTTP2", true), ("UDP", false), ("SCTP", false)];

/// Ports of a Service. A target port of 0, which consoles write, stands for the port itself, as an absent one does.
pub(super) fn read_ports(field: &Field<'_>, protocols: &[(&str, bool)]) -> Vec<ServicePort> {
    rules::check_ports(field);
    let mut ports: Vec<ServicePort> = Vec::new();
    for item in field.items() {
        let Some(fields) = item.fields() else { continue };
        let port = fields.require("port", "a port has a number").and_then(|field| field.whole::<u16>(1, 65535));
        let target = fields.get("targetPort");
        let node_port = fields.get("nodePort").and_then(|field| rules::node_port(&field));
        fields.allow(&["name", "appProtocol"]);
        let mut is_tcp = true;
        if let Some(protocol) = fields.look("protocol").filter(|protocol| protocol.node().text() != Some("")) {
            is_tcp = protocol.choice(protocols).unwrap_or(true);
            if !is_tcp {
                protocol.note(FidelityStatus::Ignored, Some("only TCP is simulated"));
            }
        }
        fields.finish();
        let Some(port) = port.filter(|_| is_tcp) else { continue };
        let target = match target {
            None => Some(TargetPort::Number(port)),
            Some(target) => match target.scalar() {
                Some(text) if text.parse::<i64>().is_ok() => {
                    let number = target.whole::<u16>(0, 65535);
                    number.map(|number| TargetPort::Number(if number == 0 { port } else { number }))
                }
                Some(text) => Some(TargetPort::Name(text.to_owned())),
                None => None,
            },
        };
        ports.extend(target.map(|target| ServicePort { port, target, node_port }));
    }
    ports
}
