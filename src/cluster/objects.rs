//! The objects that the simulated control plane keeps, reduced to what is simulated.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::daemon_set::Update;
use super::deployment::Strategy;
use super::kubelet::probe::ProbeSpec;
use super::owner::OwnerKind;
use super::placement::{HOSTNAME, Placement, Taint, ZONE};
use super::selector::Labels;

/// A Deployment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deployment {
    /// `namespace/name`.
    pub key: Rc<str>,
    /// Pods wanted.
    pub replicas: i32,
    /// How a new revision replaces an old one.
    pub strategy: Strategy,
    /// A new template waits; only a resize is carried out.
    pub is_paused: bool,
    /// A pod is available when it has been ready for longer than this, in seconds.
    pub min_ready_seconds: u32,
    /// A rollout without progress for so long is reported, in seconds; none: never.
    pub progress_deadline_seconds: Option<u32>,
    /// Empty old sets that are kept.
    pub revision_history_limit: i32,
    /// What its pods are made from. Equal templates are one revision.
    pub template: PodTemplate,
}

/// A pod that somebody wrote: no controller has made it, and none replaces it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BarePod {
    /// `namespace/name`.
    pub key: Rc<str>,
    /// What it is made from.
    pub template: PodTemplate,
    /// The node that it names, past the scheduler.
    pub node_name: Option<Rc<str>>,
}

impl BarePod {
    /// What it has for an owner: a name that no Deployment has.
    #[must_use]
    pub fn owner(&self) -> Rc<str> {
        OwnerKind::Pod.owner(&self.key)
    }
}

/// A `DaemonSet`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DaemonSet {
    /// `namespace/name`.
    pub key: Rc<str>,
    /// How a new revision takes the place of an old one.
    pub update: Update,
    /// A pod is available when it has been ready for longer than this, in seconds.
    pub min_ready_seconds: u32,
    /// What its pods are made from, with what the controller has them bear. Equal templates are one revision.
    pub template: PodTemplate,
}

impl DaemonSet {
    /// What its pods have for an owner: a name that no Deployment has.
    #[must_use]
    pub fn owner(&self) -> Rc<str> {
        Self::owner_of(&self.key)
    }

    /// The same of the set of this `namespace/name`.
    #[must_use]
    pub fn owner_of(key: &str) -> Rc<str> {
        OwnerKind::DaemonSet.owner(key)
    }
}

/// What a pod is made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodTemplate {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations; a restart writes one.
    pub annotations: BTreeMap<String, String>,
    /// The image of the container whose process is simulated; it is pulled once per node.
    pub image: String,
    /// What its containers ask for, all together.
    pub requests: Resources,
    /// What each of its containers asks for, the one whose process is simulated first. Empty: one container asks for all.
    pub containers: Vec<ContainerRequest>,
    /// From the request to delete a pod to SIGKILL, in seconds.
    pub grace_seconds: u32,
    /// How long the preStop hook runs; none: no hook.
    pub pre_stop: Option<Duration>,
    /// It has volumes of type `emptyDir`, whose data goes with it: a drain asks before it takes such a pod.
    pub has_empty_dir: bool,
    /// It has volumes that stay behind on its node, of type `hostPath` or `emptyDir` on disk, and none of its annotations gives them up: the cluster autoscaler leaves that
    /// node alone.
    pub has_local_storage: bool,
    /// What it may take of its node's disk.
    pub storage: LocalStorage,
    /// Its probes.
    pub probes: Probes,
    /// Containers that start before its own, in this order.
    pub init: Vec<InitContainer>,
    /// Ports that its containers declare.
    pub ports: Vec<ContainerPort>,
    /// Conditions that have to hold before it counts as ready, beside the readiness of its containers.
    pub readiness_gates: Vec<String>,
    /// Where it may run, and where it would rather.
    pub placement: Placement,
    /// Anything else that makes it another revision, such as environment variables, as text.
    pub other: String,
}

/// What a pod may take of its node's disk.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct LocalStorage {
    /// The limits of `ephemeral-storage`, by the containers that have one.
    pub containers: Vec<(Rc<str>, StorageLimit)>,
    /// Its volumes of type `emptyDir` that are on disk.
    pub empty_dirs: Vec<EmptyDir>,
}

/// A limit on what lies on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StorageLimit {
    /// In bytes.
    pub bytes: u64,
    /// As it is written.
    pub written: String,
}

/// An `emptyDir` on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EmptyDir {
    /// Its name.
    pub name: Rc<str>,
    /// Its `sizeLimit`.
    pub limit: Option<StorageLimit>,
}

/// A port that a container declares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerPort {
    /// The name by which Services may call it.
    pub name: Option<String>,
    /// Its number.
    pub number: u16,
}

/// Where a Service's port leads on its pods.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TargetPort {
    /// The same number on all.
    Number(u16),
    /// The port that a pod's container calls so; a pod without one is no endpoint for it.
    Name(String),
}

impl TargetPort {
    /// The port of a pod of this template. Source: Kubernetes v1.28.7 pkg/api/v1/pod/util.go `FindPort`.
    #[must_use]
    pub fn on(&self, template: &PodTemplate) -> Option<u16> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Name(name) => template.port(name),
        }
    }
}

impl PodTemplate {
    /// What makes pods of one container, with 30 s of grace; all else is as where nobody writes anything.
    #[must_use]
    pub fn plain(labels: BTreeMap<String, String>, image: &str, requests: Resources) -> Self {
        Self {
            labels,
            annotations: BTreeMap::new(),
            image: image.to_owned(),
            requests,
            containers: Vec::new(),
            grace_seconds: 30,
            pre_stop: None,
            has_empty_dir: false,
            has_local_storage: false,
            storage: LocalStorage::default(),
            probes: Probes::default(),
            init: Vec::new(),
            ports: Vec::new(),
            readiness_gates: Vec::new(),
            placement: Placement::default(),
            other: String::new(),
        }
    }

    /// The containers beside the one whose process is simulated.
    pub fn beside(&self) -> impl Iterator<Item = &Beside> {
        self.containers.iter().filter_map(|container| container.beside.as_ref())
    }

    /// When the image of the container is pulled whose process is simulated.
    #[must_use]
    pub fn pull(&self) -> PullPolicy {
        self.containers.first().map(|container| container.pull).unwrap_or_default()
    }

    /// Whether no kubelet makes a configuration for that container.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.containers.first().is_some_and(|container| container.is_refused)
    }

    /// The images of its own containers, as they are written.
    #[must_use]
    pub fn images(&self) -> Vec<String> {
        let of = |before: bool| self.beside().filter(move |it| it.starts_before == before).map(|it| it.image.clone());
        of(true).chain([self.image.clone()]).chain(of(false)).collect()
    }

    /// The port that one of its containers calls so; the first, if several do.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<u16> {
        self.ports.iter().find(|port| port.name.as_deref() == Some(name)).map(|port| port.number)
    }
}

/// A container that starts before a pod's own ones.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitContainer {
    /// Its name.
    pub name: Rc<str>,
    /// Its image.
    pub image: String,
    /// What goes on running; none: it has to end before the next one starts.
    pub sidecar: Option<Sidecar>,
    /// What it asks for, as it is written.
    pub asked: ContainerRequest,
}

/// A container that starts before a pod's own ones and outlives them: an init container with `restartPolicy: Always`.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Sidecar {
    /// Whether it has started: the next container waits for that.
    pub startup: Option<ProbeSpec>,
    /// Whether it is ready: its pod is not before.
    pub readiness: Option<ProbeSpec>,
    /// How long its preStop hook runs; none: no hook.
    pub pre_stop: Option<Duration>,
}

/// What one container asks for, as it is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ContainerRequest {
    /// The container's name.
    pub name: Rc<str>,
    /// Thousandths of a core; none: nothing is written.
    pub cpu_millicores: Option<u64>,
    /// Bytes; none: nothing is written.
    pub memory_bytes: Option<u64>,
    /// When its image is pulled.
    pub pull: PullPolicy,
    /// No kubelet makes a configuration for it, so it never starts.
    pub is_refused: bool,
    /// What else is known of it; none: its process is simulated.
    pub beside: Option<Beside>,
}

/// When a container's image is pulled. Source: Kubernetes pkg/kubelet/images/image_manager.go.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PullPolicy {
    /// At every start: an image that is there already is asked for all the same.
    Always,
    /// Where it is not there.
    #[default]
    IfNotPresent,
    /// Never: where it is not there the container does not start.
    Never,
}

/// A container beside the one whose process is simulated. Its pod is ready when it is, and ends when it has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Beside {
    /// Its image.
    pub image: String,
    /// When its image is pulled.
    pub pull: PullPolicy,
    /// No kubelet makes a configuration for it, so it never starts.
    pub is_refused: bool,
    /// It is written, and so started, before the one whose process is simulated.
    pub starts_before: bool,
    /// Its probes and its hook: as those of a sidecar, but that nobody waits for its start.
    pub run: Sidecar,
}

/// Processor and memory.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millicores: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

/// The probes of a pod's main container.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Probes {
    /// Whether it may get traffic.
    pub readiness: Option<Probe>,
    /// Whether it must be restarted.
    pub liveness: Option<Probe>,
    /// Whether it has started.
    pub startup: Option<Probe>,
}

/// A probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// What it asks.
    pub action: ProbeAction,
    /// When, and how often.
    pub spec: ProbeSpec,
}

/// What a probe asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProbeAction {
    /// A path over HTTP; 200 to 399 passes.
    Http {
        /// The pod's port.
        port: u16,
        /// The path.
        path: String,
    },
    /// The same over TLS. A gateway speaks none at its ports; of other processes it is not known whether they do.
    Https {
        /// The pod's port.
        port: u16,
        /// The path.
        path: String,
    },
    /// A connection.
    Tcp {
        /// The pod's port.
        port: u16,
    },
}

/// A Service, as far as its endpoints go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// `namespace/name`.
    pub key: Rc<str>,
    /// The labels of its pods.
    pub selector: BTreeMap<String, String>,
    /// Pods that are not ready count as ready.
    pub publish_not_ready: bool,
    /// What else lists show of it.
    pub face: ServiceFace,
}

/// What lists show of a Service beside its name.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ServiceFace {
    /// Its type.
    pub kind: ServiceKind,
    /// The address that is written for it, or `None`; nothing: it is given one.
    pub cluster_ip: Option<String>,
    /// Where an `ExternalName` leads.
    pub external_name: Option<String>,
    /// Its ports, each with the nodes' port and the protocol that are written.
    pub ports: Vec<FacePort>,
    /// Ports without a node port are given none, whatever the type.
    pub draws_no_node_ports: bool,
    /// The balancer that it names.
    pub balancer_id: Option<String>,
}

/// A port of a Service as lists show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FacePort {
    /// Its number.
    pub port: u16,
    /// The nodes' port, where it is written.
    pub node_port: Option<u16>,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
}

/// How a Service is reached.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(missing_docs, reason = "the words of the API")]
pub enum ServiceKind {
    #[default]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

impl ServiceKind {
    /// The types, as they are written.
    pub const WORDS: [(&str, Self); 4] = [
        ("ClusterIP", Self::ClusterIp),
        ("NodePort", Self::NodePort),
        ("LoadBalancer", Self::LoadBalancer),
        ("ExternalName", Self::ExternalName),
    ];

    /// Whether its ports are open on nodes.
    #[must_use]
    pub fn is_on_nodes(self) -> bool {
        matches!(self, Self::NodePort | Self::LoadBalancer)
    }
}

impl std::fmt::Display for ServiceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Self::WORDS.iter().find(|(_, kind)| kind == self).map_or("", |(name, _)| *name);
        f.write_str(name)
    }
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: Rc<str>,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its zone.
    pub zone: Rc<str>,
    /// What pods can ask for.
    pub allocatable: Resources,
    /// Further resources by name, such as `nvidia.com/gpu`.
    pub extended: BTreeMap<String, u64>,
    /// Its disk; none: it never runs out of it.
    pub disk: Option<NodeDisk>,
    /// How many pods there can be.
    pub pods_max: usize,
    /// Labels, those of its name and zone included.
    pub labels: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// It is cordoned: no new pod comes.
    pub unschedulable: bool,
}

/// The file system of a node's images, logs, writable layers and `emptyDir` volumes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeDisk {
    /// Its size in bytes.
    pub capacity_bytes: u64,
    /// What the system has on it, in bytes.
    pub used_bytes: u64,
}

/// Pods per node. Source: kubelet `maxPods`.
pub const PODS_PER_NODE: usize = 110;

impl Node {
    /// A node without labels but those of its name and zone, without taints, and open to new pods.
    #[must_use]
    pub fn new(name: Rc<str>, ip: Ipv4Addr, zone: Rc<str>, allocatable: Resources) -> Self {
        let labels = [(HOSTNAME, &name), (ZONE, &zone)].map(|(key, value)| (key.to_owned(), value.as_ref().to_owned()));
        let labels = Labels::from(labels);
        Self {
            name,
            ip,
            zone,
            allocatable,
            extended: BTreeMap::new(),
            disk: None,
            pods_max: PODS_PER_NODE,
            labels,
            taints: Vec::new(),
            unschedulable: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_port_is_a_number_on_all_pods_and_a_name_on_each() {
        let port = |name: Option<&str>, number| ContainerPort { name: name.map(str::to_owned), number };
        let template = PodTemplate {
            ports: vec![port(None, 1), port(Some("http"), 2), port(Some("http"), 3), port(Some("grpc"), 4)],
            ..PodTemplate::plain(BTreeMap::new(), "", Resources::default())
        };
        let named = |name: &str| TargetPort::Name(name.to_owned()).on(&template);
        assert_eq!((named("http"), named("grpc"), named("admin")), (Some(2), Some(4), None));
        // Whether or not anybody declares it.
        assert_eq!(TargetPort::Number(9).on(&template), Some(9));
    }
}
