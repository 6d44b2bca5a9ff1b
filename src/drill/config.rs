//! The settings of a world: all that a run needs, and nothing that is only written in a file.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::causes::Sources;
use super::process::GatewaySpec;
use crate::backend::BackendConfig;
use crate::cluster::autoscaler::AutoscalerSpec;
use crate::cluster::disruption::DisruptionBudget;
use crate::cluster::kubelet::disk::{DiskUse, LOG_BYTES_MAX};
use crate::cluster::operation::Operation;
use crate::cluster::version::Version;
use crate::cluster::{
    AutoscalingConfig, BarePod, ClusterConfig, DaemonSet, Deployment, PodTemplate, Service, TargetPort,
};
use crate::edge::door::{DoorKind, DoorPort};
use crate::edge::load_balancer::{Failure, Parting};
use crate::edge::{LoadBalancerConfig, NO_PORT, NodeChoice, NodesConfig, ServiceRules};
use crate::gateway::locality::EndpointPolicy;
use crate::gateway::{ClusterConfig as UpstreamConfig, Routes};
use crate::load::{ClientConfig, Pacing, RateSegment};
use crate::record::results::ScenarioId;

/// Everything a run needs.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// What it is called.
    pub scenario: ScenarioId,
    /// The seed of all draws.
    pub seed: u64,
    /// Time before the measured one, in which the loads already run.
    pub warmup: Duration,
    /// The measured time.
    pub duration: Duration,
    /// The clusters with a gateway, at least one.
    pub members: Vec<MemberConfig>,
    /// Who asks.
    pub loads: Vec<LoadSpec>,
    /// What happens, in the order of time.
    pub actions: Vec<Action>,
    /// How faithfully each manifest field is simulated.
    pub fidelity: Vec<crate::record::results::Fidelity>,
    /// When the clusters' objects are shown; none: never.
    pub watch: Option<super::objects::Watch>,
}

/// One cluster of a world: the gateway in it, the way in, and what is behind.
#[derive(Clone, Debug)]
pub struct MemberConfig {
    /// Its share of the clients' new connections, relative to the other clusters'.
    pub weight: u32,
    /// The cluster.
    pub cluster: ClusterConfig,
    /// All Deployments, the gateway's among them.
    pub deployments: Vec<Deployment>,
    /// All pods that no controller has made.
    pub pods: Vec<BarePod>,
    /// All `DaemonSet`s.
    pub daemon_sets: Vec<DaemonSet>,
    /// All Services.
    pub services: Vec<Service>,
    /// All disruption budgets.
    pub budgets: Vec<DisruptionBudget>,
    /// Whose pods the drill is about: their owner, such as a Deployment's `namespace/name`.
    pub target: Rc<str>,
    /// Deletion costs of the gateway pods that the run finds, in the order of their creation.
    pub deletion_costs: Vec<i32>,
    /// The gateways' processes, by the owner of their pods: the target's, and those of others that the Service in front selects beside it.
    pub gateways: BTreeMap<Rc<str>, GatewayPods>,
    /// The gateway's routes.
    pub routes: Routes,
    /// The way in.
    pub front: FrontSpec,
    /// The services behind.
    pub backends: Vec<BackendSpec>,
    /// What runs in their pods, by the pods' owner.
    pub processes: BTreeMap<Rc<str>, BackendPods>,
    /// Who sizes what.
    pub scaling: ScalingSpec,
    /// The setting behind each cause of loss.
    pub sources: Sources,
}

impl MemberConfig {
    /// The target's process, as the run finds it.
    ///
    /// # Panics
    ///
    /// If the target's pods are no gateways.
    #[must_use]
    pub fn target_spec(&self) -> &GatewaySpec {
        let deployment = self.deployments.iter().find(|it| it.key == self.target).map(|it| &it.template);
        let daemon = || self.daemon_sets.iter().find(|it| it.owner() == self.target).map(|it| &it.template);
        let pod = || self.pods.iter().find(|it| it.owner() == self.target).map(|it| &it.template);
        let template = deployment.or_else(daemon).or_else(pod);
        let pods = self.gateways.get(&self.target).expect("the target's pods are gateways");
        pods.spec(template.map(|template| template.other.as_str()).unwrap_or_default())
    }
}

/// Who sizes what, and by which figures.
#[derive(Clone, Debug)]
pub struct ScalingSpec {
    /// How autoscaling works.
    pub config: AutoscalingConfig,
    /// The autoscalers.
    pub autoscalers: Vec<AutoscalerSpec>,
    /// What a gateway's memory is made of.
    pub memory: MemoryCosts,
    /// What a gateway takes of its node's disk; none: that is not known.
    pub disk: Option<DiskCosts>,
    /// Processor time of one request, by the backend's Deployment; one that is not here has no known use.
    pub backend_cpu: BTreeMap<Rc<str>, Duration>,
    /// The mesh's control plane writes the gateway's replicas.
    pub owned: Option<OwnedReplicas>,
}

impl ScalingSpec {
    /// No autoscaler, and replicas that nobody else writes.
    #[must_use]
    pub fn none() -> Self {
        Self {
            config: AutoscalingConfig::of(Version::new(1, 33)),
            autoscalers: Vec::new(),
            memory: MemoryCosts::default(),
            disk: None,
            backend_cpu: BTreeMap::new(),
            owned: None,
        }
    }
}

/// What a process's memory is made of, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MemoryCosts {
    /// The process alone.
    pub base_bytes: u64,
    /// Each upstream cluster with its routes.
    pub cluster_bytes: u64,
    /// Each open downstream connection.
    pub connection_bytes: u64,
    /// Each request under way.
    pub request_bytes: u64,
}

/// What a process takes of its node's disk, in bytes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct DiskCosts {
    /// From its start.
    pub base_bytes: u64,
    /// Each request that has come, in a file that nobody rotates.
    pub request_bytes: u64,
    /// Each request that has come, in the container's log, which the kubelet rotates.
    pub log_bytes: u64,
    /// The `emptyDir` in which all but the log lies; none: no volume.
    pub volume: Option<Rc<str>>,
}

impl DiskCosts {
    /// What is taken after so many requests.
    #[must_use]
    pub fn used(&self, requests: u64) -> DiskUse {
        let written = self.base_bytes.saturating_add(self.request_bytes.saturating_mul(requests));
        let (layer_bytes, volume) = match &self.volume {
            Some(name) => (0, Some((Rc::clone(name), written))),
            None => (written, None),
        };
        DiskUse { log_bytes: self.log_bytes.saturating_mul(requests).min(LOG_BYTES_MAX), layer_bytes, volume }
    }
}

/// Replicas that a control plane writes again and again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnedReplicas {
    /// So many.
    pub replicas: i32,
    /// So often.
    pub period: Duration,
}

/// The way in: the Service in front, its load balancer, the nodes, and the links.
#[derive(Clone, Debug)]
pub struct FrontSpec {
    /// The Service, as `namespace/name`.
    pub service: String,
    /// Its ports, and what its pods listen on.
    pub ports: BTreeMap<u16, u16>,
    /// Its ports, and those of the nodes; empty: nodes have none that matter.
    pub node_ports: BTreeMap<u16, u16>,
    /// The balancer, if it has one.
    pub balancer: Option<LoadBalancerConfig>,
    /// Whether it gets that balancer.
    pub creation: Creation,
    /// The nodes; none: no connection passes over one.
    pub nodes: Option<NodesConfig>,
    /// What the clients of each load dial, in the order of the loads; none, or nothing more: the balancer.
    pub doors: Vec<Option<DoorSpec>>,
    /// One way between two hosts of the cloud.
    pub cloud_latency: Duration,
    /// What the name server knows of the balancer's addresses.
    pub names: NameSpec,
    /// The name that the Service's status shows in place of an address.
    pub balancer_name: Option<String>,
}

/// How clients find a balancer with several addresses.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct NameSpec {
    /// From a change of an address to the name server's knowing of it.
    pub probing: Duration,
    /// For so long clients keep an answer.
    pub ttl: Duration,
}

/// What became of the wish for a gateway with a balancer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Creation {
    /// It is there.
    Stands,
    /// It is there, but the gateway behind it is served no configuration: no pod is ever ready.
    Unconfigured {
        /// Why.
        reason: String,
    },
    /// There is none, and no address.
    Fails {
        /// What the controller says.
        reason: String,
    },
}

/// A further Service of type `LoadBalancer`.
#[derive(Clone, Debug)]
pub struct SharedService {
    /// The Service.
    pub service: Service,
    /// Its part of a balancer.
    pub balancer: LoadBalancerConfig,
    /// What it does to the balancer in front.
    pub share: Share,
}

/// What a further Service does to the balancer in front of the gateway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Share {
    /// Nothing: it has one of its own.
    Own,
    /// It is given its address; the listeners stay as they are.
    LeavesAlone,
    /// It takes the listeners of its ports.
    Overwrites,
    /// Nothing: it gets no balancer.
    Fails {
        /// What the controller says.
        reason: String,
    },
}

impl FrontSpec {
    /// A balancer that all clients dial, and whose targets are pods.
    #[must_use]
    pub fn balanced(balancer: LoadBalancerConfig, cloud_latency: Duration) -> Self {
        Self {
            service: balancer.service.clone(),
            ports: balancer.ports.clone(),
            node_ports: BTreeMap::new(),
            balancer: Some(balancer),
            creation: Creation::Stands,
            nodes: None,
            doors: Vec::new(),
            cloud_latency,
            names: NameSpec::default(),
            balancer_name: None,
        }
    }
}

/// Where a gateway listens, from an edit on.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The ports that are bound, and those by which routes know them.
    pub listeners: Vec<(u16, u16)>,
    /// The lines behind causes of loss that the edit changes.
    pub sources: Sources,
}

/// Ports of the Service in front.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct FrontPorts {
    /// Its ports, and what its pods listen on.
    pub ports: BTreeMap<u16, u16>,
    /// Its ports, and those of the nodes.
    pub node_ports: BTreeMap<u16, u16>,
}

impl FrontPorts {
    /// The nodes' ports, and what pods listen on.
    #[must_use]
    pub fn behind_nodes(&self) -> BTreeMap<u16, u16> {
        self.node_ports.iter().filter_map(|(port, node)| Some((*node, *self.ports.get(port)?))).collect()
    }

    /// The ports, of its own and of the nodes, that lead to a name which no container has.
    #[must_use]
    pub fn leading_nowhere(&self) -> Vec<u16> {
        let all = self.ports.clone().into_iter().chain(self.behind_nodes());
        all.filter(|(_, target)| *target == NO_PORT).map(|(port, _)| port).collect()
    }
}

/// An edit of the Service in front.
#[derive(Clone, Debug)]
pub struct FrontChange {
    /// The Service as it is to be.
    pub service: Service,
    /// It is deleted.
    pub is_gone: bool,
    /// Its ports as they were.
    pub before: FrontPorts,
    /// Its ports.
    pub after: FrontPorts,
    /// What kube-proxies know of it before and after; none: no connection passes over a node.
    pub rules_before: Option<ServiceRules>,
    /// After it.
    pub rules: Option<ServiceRules>,
    /// What clients may dial, in the order of the loads.
    pub doors: Vec<Option<DoorSpec>>,
    /// What its balancer comes to, if it has one and keeps it.
    pub balancer: Option<BalancerEdit>,
    /// Whether it keeps it.
    pub fate: BalancerFate,
    /// The lines behind causes of loss that the edit changes.
    pub sources: Sources,
}

/// What becomes of the balancer of a Service whose type is edited.
#[derive(Clone, Debug)]
pub enum BalancerFate {
    /// It has one as before, or none.
    Stays,
    /// It wants none any more: its controller deletes it.
    Deleted,
    /// It wants none any more, and this one stays.
    Left(Parting),
    /// It wants the one again that stayed.
    TakenBack,
    /// It wants one: its controller makes it, unless that fails.
    Made(Box<LoadBalancerConfig>, Creation),
}

/// What an edit does to a balancer.
#[derive(Clone, Debug)]
pub struct BalancerEdit {
    /// Its settings as they are to be.
    pub config: LoadBalancerConfig,
    /// The controller writes the listeners of the Service's ports.
    pub writes_listeners: bool,
    /// Why it cannot.
    pub failure: Option<Failure>,
}

/// What clients dial in place of the balancer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DoorSpec {
    /// What it is.
    pub kind: DoorKind,
    /// The nodes: those that are dialled, or that the clients are on.
    pub choice: NodeChoice,
    /// By the port that a URL names.
    pub ports: BTreeMap<u16, DoorPort>,
}

/// What a backend's pod holds of memory, and may have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackendMemory {
    /// What it is made of.
    pub costs: MemoryCosts,
    /// Its container's limits, by the `other` of its pod template: each revision has its own.
    pub limits: BTreeMap<String, ContainerLimits>,
}

/// What a container may have at most.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ContainerLimits {
    /// Memory in bytes; none: no limit.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core, which decide who goes first when a node is short of memory; none: no limit.
    pub cpu_millicores: Option<u64>,
}

/// The replicas of a service behind the gateway.
#[derive(Clone, Debug)]
pub struct BackendSpec {
    /// The gateway's cluster that leads there.
    pub cluster: Arc<str>,
    /// The Service, as `namespace/name`.
    pub service: Rc<str>,
    /// Labels that the cluster's endpoints have; empty: it has all of the Service.
    pub subset: BTreeMap<String, String>,
    /// Where its Service leads, at the start.
    pub target: TargetPort,
    /// The port that replicas without a Deployment listen on.
    pub port: u16,
    /// It has pods, of Deployments or of nobody; else a fixed number of replicas that never change.
    pub has_pods: bool,
    /// The indexes of the clusters it runs in, whose replicas the gateways of all other clusters share; empty: each cluster has its own.
    pub homes: Vec<usize>,
    /// Replicas without a Deployment.
    pub replicas: usize,
    /// Their zones, taken in turn; none: nobody knows where they are.
    pub zones: Vec<String>,
    /// Which of its endpoints come first.
    pub endpoints: EndpointPolicy,
    /// How replicas without a Deployment behave.
    pub config: BackendConfig,
}

/// The gateway that runs in the pods of one owner.
#[derive(Clone, Debug)]
pub struct GatewayPods {
    /// Its processes, by the `other` of their pod template; the empty text for all that are not named.
    pub specs: BTreeMap<String, GatewaySpec>,
    /// The setting behind causes of loss, where it is another than the target's.
    pub sources: Sources,
}

impl GatewayPods {
    /// The same process in all pods, and no settings of their own.
    #[must_use]
    pub fn alike(spec: GatewaySpec) -> Self {
        Self { specs: BTreeMap::from([(String::new(), spec)]), sources: Sources::new() }
    }

    /// The process of a pod of this `other`.
    ///
    /// # Panics
    ///
    /// If there is no process at all.
    #[must_use]
    pub fn spec(&self, other: &str) -> &GatewaySpec {
        let found = self.specs.get(other).or_else(|| self.specs.get(""));
        found.or_else(|| self.specs.values().next()).expect("a gateway has a process")
    }
}

/// What runs in the pods behind the gateway that one Deployment made, or in one that no controller has made.
#[derive(Clone, Debug)]
pub struct BackendPods {
    /// Ports that it listens on whatever its template declares.
    pub ports: BTreeSet<u16>,
    /// How it behaves.
    pub config: BackendConfig,
    /// What it holds of its node's memory; none: that is not known.
    pub memory: Option<BackendMemory>,
    /// What it takes of its node's disk; none: that is not known.
    pub disk: Option<DiskCosts>,
    /// How long it serves on after SIGTERM; none: it dies of it, as a program does that does not handle it.
    pub shutdown_delay: Option<Duration>,
}

impl BackendPods {
    /// The ports that a pod of this template listens on.
    #[must_use]
    pub fn ports_of(&self, template: &PodTemplate) -> BTreeSet<u16> {
        template.ports.iter().map(|port| port.number).chain(self.ports.iter().copied()).collect()
    }
}

impl BackendSpec {
    /// Whether it runs in a cluster, by the cluster's index.
    #[must_use]
    pub fn runs_in(&self, member: usize) -> bool {
        self.homes.is_empty() || self.homes.contains(&member)
    }
}

/// One population of clients.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// Its name.
    pub name: String,
    /// Its rate over the measured time; the first value holds in the warm-up.
    pub segments: Vec<RateSegment>,
    /// Its gaps.
    pub pacing: Pacing,
    /// Whether it already runs in the warm-up.
    pub runs_in_warmup: bool,
    /// How the clients behave.
    pub client: ClientConfig,
    /// Round trip between a client and the balancer.
    pub rtt: Duration,
    /// What they ask for.
    pub mix: Vec<MixEntry>,
}

/// One kind of request.
#[derive(Clone, Debug)]
pub struct MixEntry {
    /// Its share.
    pub weight: u32,
    /// Method.
    pub method: String,
    /// As the user wrote it.
    pub url: String,
    /// `Host`.
    pub host: String,
    /// The balancer's port.
    pub port: u16,
    /// Round trips of the TLS handshake with the balancer, after the connection is open.
    pub tls_round_trips: u32,
    /// Path and query.
    pub path: String,
    /// More headers.
    pub headers: Vec<(String, String)>,
    /// Bytes of body.
    pub body_bytes: usize,
}

impl MixEntry {
    /// Whether it is sent over TLS, which the balancer ends.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.url.starts_with("https://")
    }
}

/// Something that happens, and the phase it begins.
#[derive(Clone, Debug)]
pub struct Action {
    /// From the start of the measured time.
    pub at: Duration,
    /// The index of the cluster it happens in. Loads are of no cluster.
    pub member: usize,
    /// The name of the phase that begins.
    pub phase: Option<String>,
    /// What happens; nothing: only a phase begins.
    pub verb: Option<Verb>,
    /// How the timeline tells it.
    pub text: String,
    /// The file and line of its entry, if it has one.
    pub place: Option<(String, u32)>,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum Verb {
    /// All pods of a Deployment start anew.
    Restart(Rc<str>),
    /// A Deployment gets another size.
    Scale(Rc<str>, i32),
    /// A Deployment is applied; without replicas of its own, it keeps those it has.
    Apply(Box<Deployment>, Size),
    /// An autoscaler is applied.
    Autoscale(Box<AutoscalerSpec>),
    /// An autoscaler is deleted.
    StopAutoscaling(Rc<str>),
    /// From now on the control plane writes these replicas, or none.
    Own(Option<OwnedReplicas>),
    /// The routes change, and with them the lines behind causes of loss.
    Routes(Routes, Sources),
    /// The gateway listens elsewhere.
    Listeners(Listening),
    /// The Service in front is edited, and with it its balancer.
    Front(Box<FrontChange>),
    /// A Service behind the gateway comes, or is edited: it has other pods, or leads to another of their ports.
    Service(Box<ServiceChange>),
    /// It is deleted.
    DeleteService(Rc<str>, Sources),
    /// Gateway processes of this owner and `other` that start from now on are others.
    Process(Rc<str>, String, Box<GatewaySpec>),
    /// A further Service of type `LoadBalancer` is deleted.
    Unshare(Rc<str>),
    /// A pod without a controller is applied: made if it is not there, else edited.
    Pod(Box<BarePod>),
    /// A pod without a controller is edited, if it is there.
    EditPod(Box<BarePod>),
    /// A `DaemonSet` is applied.
    DaemonSet(Box<DaemonSet>),
    /// A `DaemonSet` is deleted, its pods with it.
    DeleteDaemonSet(Rc<str>),
    /// A disruption budget is applied.
    Budget(DisruptionBudget),
    /// A disruption budget is deleted.
    DeleteBudget(Rc<str>),
    /// Something happens to pods or nodes.
    Operate(Operation),
    /// A zone of the balancer fails, for a time or for good.
    FailZone(Rc<str>, Option<Duration>),
    /// A Deployment is deleted; with the gateway's goes its Service, and with that the balancer.
    Delete(Rc<str>),
    /// A further Service of type `LoadBalancer` comes.
    Share(Box<SharedService>),
    /// The rate of a load, or of all, changes by this factor. The loads know it beforehand.
    Load(Option<String>, f64),
    /// The whole configuration is pushed to all gateway pods.
    ConfigPush,
    /// Clusters of the gateway change, come to be, or go.
    Clusters(ClusterChange),
    /// Everything is by then as it is to be: only the phase begins.
    Unchanged,
}

/// An edit of a Service behind the gateway.
#[derive(Clone, Debug)]
pub struct ServiceChange {
    /// The Service as it is to be.
    pub service: Service,
    /// Where it leads, by the gateway's cluster.
    pub targets: BTreeMap<Arc<str>, TargetPort>,
    /// The lines behind causes of loss that the edit changes.
    pub sources: Sources,
}

/// What becomes of the gateway's clusters.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct ClusterChange {
    /// Those that are new, or differ.
    pub changed: Vec<ClusterSpec>,
    /// Those whose Service, or its port, or the rule for its subset, is gone.
    pub gone: Vec<Arc<str>>,
    /// The lines behind causes of loss that the edit changes.
    pub sources: Sources,
}

/// A cluster of the gateway. Its endpoints are those of the [`BackendSpec`] of that name.
#[derive(Clone, PartialEq, Debug)]
pub struct ClusterSpec {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub config: UpstreamConfig,
    /// Which of its endpoints come first.
    pub endpoints: EndpointPolicy,
    /// Labels that its endpoints have; empty: it has all of its Service.
    pub subset: BTreeMap<String, String>,
}

/// Whether a Deployment that is applied says how many pods it wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// It does.
    Written,
    /// It does not: whoever wrote the replicas last is heeded.
    Kept,
}
