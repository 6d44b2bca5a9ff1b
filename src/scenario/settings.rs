//! What a scenario says once it is checked: no options left, every default filled in.
//!
//! The defaults stand in [`defaults`], each with its source.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use super::autoscaling::AutoscalingSettings;
use super::disks::DiskSettings;
use super::gateway_kind::KindSettings;
use super::kubelet::KubeletSettings;
use super::product::ProductSettings;
use crate::backend::BackendConfig;
use crate::cluster::placement::Taint;
use crate::cluster::{Identity, NodeDisk, Resources, Version};
use crate::drill::{MemoryCosts, MixEntry, NameSpec};
use crate::edge::ProxyMode;
use crate::edge::conntrack::TableSize;
use crate::engine::Delay;
use crate::gateway::DrainStrategy;
use crate::load::{Pacing, RateSegment, Reuse};
use crate::manifest::istio_gateway::clusters::check_against;
use crate::manifest::{Node, Object, Place, Problem, Sink};
use crate::record::results::Level;

/// The `spec` of a scenario without its manifests, timeline and variants.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Virtual time measured.
    pub duration: Duration,
    /// Before it, not counted.
    pub warmup: Duration,
    /// The seed of all draws.
    pub seed: u64,
    /// The gateway's Deployment, as `namespace/name`, where it is written.
    pub target: Option<(String, Place)>,
    /// The cluster at hand; of several, the first.
    pub cluster: ClusterSettings,
    /// All clusters, in the order in which they are written.
    pub clusters: Vec<ClusterSettings>,
    /// What annotations do not say of the balancer.
    pub balancer: BalancerSettings,
    /// Balancers that are there before the run, for Services to name.
    pub balancers: Vec<KnownBalancer>,
    /// What manifests do not say of the gateway.
    pub gateway: GatewaySettings,
    /// The services behind.
    pub backends: Vec<BackendSettings>,
    /// Who asks.
    pub loads: Vec<LoadSettings>,
    /// What must hold.
    pub slos: Vec<SloSettings>,
}

impl Settings {
    /// The same for each cluster, with that cluster at hand.
    pub(super) fn of_each_cluster(&self) -> Vec<Self> {
        let of_one = |cluster: &ClusterSettings| Self { cluster: cluster.clone(), ..self.clone() };
        self.clusters.iter().map(of_one).collect()
    }

    /// The names of the clusters, with their places; none if the only one has no name.
    pub(super) fn cluster_ids(&self) -> Vec<(&str, Place)> {
        self.clusters.iter().filter_map(|cluster| Some((cluster.id.as_deref()?, cluster.at))).collect()
    }

    /// Whether a backend runs in the cluster at hand.
    pub(super) fn runs_here(&self, backend: &BackendSettings) -> bool {
        let id = self.cluster.id.as_deref();
        backend.clusters.is_empty() || backend.clusters.iter().any(|(named, _)| Some(named.as_str()) == id)
    }

    /// Whether a Deployment, as `namespace/name`, is that of a backend which does not run in the cluster at hand.
    pub(super) fn is_elsewhere(&self, deployment: &str) -> bool {
        let is_its =
            |backend: &&BackendSettings| backend.deployment.as_ref().is_some_and(|(name, _)| name == deployment);
        self.backends.iter().find(is_its).is_some_and(|backend| !self.runs_here(backend))
    }

    /// Checks what names clusters: gateways and backends.
    pub(super) fn check_clusters(&self, objects: &[Object], sink: &Sink) {
        let known = self.cluster_ids();
        check_against(objects, &known, sink);
        for (index, backend) in self.backends.iter().enumerate() {
            for (id, place) in backend.clusters.iter().filter(|(id, _)| known.iter().all(|(known, _)| known != id)) {
                let path = format!("spec.backends[{index}].clusters");
                let problem = Problem::at(*place, path, format!("no cluster is called `{id}`"));
                sink.report(match known.is_empty() {
                    true => problem.help("the scenario has one cluster, which has no name: take `clusters` out"),
                    false => problem.did_you_mean(id, known.iter().map(|(known, _)| *known)),
                });
            }
        }
    }
}

/// An image, and how much of a node's disk it takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageSize {
    /// As pods name it.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// Whether every node has it from the start.
    pub is_preloaded: bool,
    /// Where it is written.
    pub at: Place,
}

/// The cluster.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Its name, as gateways call it under `clusterIds`; none if it is written as the only one.
    pub id: Option<Rc<str>>,
    /// Where its name is written.
    pub at: Place,
    /// Which of several it is.
    pub identity: Identity,
    /// Its share of the clients' new connections, relative to the other clusters'.
    pub weight: u32,
    /// Its region, if it is named.
    pub region: Option<String>,
    /// Whether Services of type `LoadBalancer` get one: a registered cluster may have nobody who makes them.
    pub load_balancers: bool,
    /// Name of the set of timings that the others override.
    pub profile: &'static str,
    /// Version of Kubernetes.
    pub version: Version,
    /// Groups of equal nodes.
    pub nodes: Vec<NodeGroup>,
    /// Which of them grows and shrinks.
    pub autoscaler: Option<super::node_scaling::AutoscalerSettings>,
    /// How its nodes' kube-proxies work.
    pub kube_proxy: ProxySettings,
    /// How fast its controllers may call the API server.
    pub client_rates: crate::cluster::ClientRates,
    /// So many pods that have ended may stay; 0: all.
    pub terminated_pods_max: usize,
    /// What its kubelets are set to.
    pub kubelet: KubeletSettings,
    /// Pod created to bound.
    pub schedule: Delay,
    /// Bound to containers running, with the image there.
    pub pod_start: Delay,
    /// An init container's turn to its end, or a sidecar's to its start.
    pub init_container: Delay,
    /// Added once per node and image.
    pub image_pull: Delay,
    /// Images of known size.
    pub images: Vec<ImageSize>,
    /// Images that no node can pull, with where they are named.
    pub bad_images: Vec<(String, Place)>,
    /// Pod state to consumers of its EndpointSlice.
    pub endpoint_propagation: Delay,
    /// Route or endpoint change to the gateway.
    pub config_propagation: Delay,
    /// Process ended to address gone.
    pub sandbox_removal: Delay,
    /// One way between two hosts of the cloud.
    pub network_latency: Duration,
    /// The autoscalers' controller, and the metrics it asks for.
    pub autoscaling: AutoscalingSettings,
}

/// The kube-proxies of the nodes.
#[derive(Clone, Copy, Debug)]
pub struct ProxySettings {
    /// How they write their rules.
    pub mode: ProxyMode,
    /// From one write to the next, at least.
    pub min_sync_period: Duration,
    /// They can tell the addresses of their node's pods.
    pub detects_pods: bool,
    /// How long they make connection tables.
    pub table: TableSize,
}

impl ProxySettings {
    /// What a mode has by default. Source: Kubernetes pkg/proxy/apis/config/v1alpha1/defaults.go.
    #[must_use]
    pub const fn usual(mode: ProxyMode) -> Self {
        let seconds = match mode {
            ProxyMode::Iptables | ProxyMode::Nftables => 1,
            ProxyMode::Ipvs => 0,
        };
        Self {
            mode,
            min_sync_period: Duration::from_secs(seconds),
            detects_pods: defaults::DETECTS_PODS,
            table: TableSize::USUAL,
        }
    }
}

/// Equal nodes.
#[derive(Clone, Debug)]
pub struct NodeGroup {
    /// Their name, to which a number is added.
    pub name: String,
    /// How many.
    pub count: usize,
    /// Zones, used in turn.
    pub zones: Vec<String>,
    /// What pods can ask of each.
    pub allocatable: Resources,
    /// Further resources by name, such as `nvidia.com/gpu`.
    pub extended: BTreeMap<String, u64>,
    /// The disk of each; none: it never runs out of it.
    pub disk: Option<NodeDisk>,
    /// How many pods each can hold.
    pub pods_max: usize,
    /// Labels besides those that every node has.
    pub labels: BTreeMap<String, String>,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Where it is written.
    pub at: Place,
}

/// A balancer that is there before the run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownBalancer {
    /// Its id.
    pub id: String,
    /// Who made it.
    pub origin: BalancerOrigin,
    /// Its region, if it is named.
    pub region: Option<String>,
    /// An older instance without a specification: it takes no pods as its targets.
    pub is_shared_performance: bool,
}

/// Who made a balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BalancerOrigin {
    /// Somebody in the console, or by calling the API: Services may reuse it.
    Hand,
    /// Kubernetes, for a Service: nobody else may use it.
    Kubernetes,
}

/// The load balancer.
#[derive(Clone, Debug)]
pub struct BalancerSettings {
    /// Whose it is.
    pub product: ProductSettings,
    /// From an endpoint's change, as the controller sees it, to the change at the balancer.
    pub controller_latency: Delay,
    /// The health check where annotations say nothing; the product's, if the scenario says nothing either.
    pub health_check: CheckSettings,
    /// The controller works in batches: one reconcile of the Service after the other; else each endpoint by itself.
    pub in_batches: bool,
    /// In batches: what a call of the controller takes that is not the first of its reconcile.
    pub call_latency: Duration,
    /// What connections of a removed target meet when draining is off.
    pub without_drain: WithoutDrain,
    /// How clients learn of an NLB's addresses.
    pub names: NameSpec,
    /// In batches: of a million calls so many are throttled.
    pub throttled_ppm: u32,
    /// Round trips of a TLS handshake with a listener that ends TLS.
    pub tls_round_trips: u32,
    /// How long a CLB's listeners for HTTP keep connections to targets for other requests; none: each request has its own.
    pub target_keep_alive: Option<Duration>,
    /// The Service's status says `ipMode: Proxy`: clients in the cluster reach the balancer itself.
    pub is_proxy_mode: bool,
}

/// What a scenario says of the health check; the product and its annotations say the rest.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[expect(missing_docs, reason = "each field is the one of `HealthCheck` with that name")]
pub struct CheckSettings {
    pub interval: Option<Duration>,
    pub timeout: Option<Duration>,
    pub healthy_threshold: Option<u32>,
    pub unhealthy_threshold: Option<u32>,
}

/// What becomes of open connections when a target is removed and connection draining is off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WithoutDrain {
    /// They are cut at once.
    Cut,
    /// They live on until one of their ends closes them.
    Keep,
}

/// The gateway's process.
#[derive(Clone, Debug)]
pub struct GatewaySettings {
    /// Whose way of shutting down it has.
    pub kind: KindSettings,
    /// Behaviour of this version of Istio, and of the ASM of that number.
    pub istio: String,
    /// The edition of the service mesh.
    pub edition: Edition,
    /// `terminationDrainDuration`, where no manifest sets it, and where it is written.
    pub termination_drain: (Duration, Place),
    /// Envoy's `--drain-time-s`, and where it is written.
    pub drain_duration: (Duration, Place),
    /// Strategy and timers of a drain.
    pub drain: DrainTimers,
    /// CPU per request.
    pub cpu_per_request: Duration,
    /// CPU per new connection.
    pub cpu_per_connection: Duration,
    /// From the agent's decision to end to the end of the process.
    pub exit_delay: Delay,
    /// What its memory is made of.
    pub memory: MemoryCosts,
    /// What it takes of its node's disk; none: not known.
    pub disk: Option<DiskSettings>,
    /// How often ASM writes the replicas that it owns.
    pub replicas_sync: Duration,
}

/// An edition of Alibaba Cloud Service Mesh. Source: its documents on editions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the products' names")]
pub enum Edition {
    Standard,
    Enterprise,
    Ultimate,
}

/// What a drain of Envoy is made of beside its time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DrainTimers {
    /// Which answers tell clients to leave: `--drain-strategy`.
    pub strategy: DrainStrategy,
    /// How long a client that stays is served: `drain_timeout` of the connection manager.
    pub timeout: Duration,
    /// Then it is closed after this time: `delayed_close_timeout`.
    pub delayed_close: Duration,
}

/// The replicas behind one Service.
#[derive(Clone, Debug)]
pub struct BackendSettings {
    /// The Service, as `namespace/name`.
    pub service: String,
    /// Its Deployment.
    pub deployment: Option<(String, Place)>,
    /// The clusters it runs in, with where they are named; empty: in each.
    pub clusters: Vec<(String, Place)>,
    /// Replicas without a Deployment.
    pub replicas: usize,
    /// Its `DaemonSet`, as `namespace/name`.
    pub daemon_set: Option<(String, Place)>,
    /// One of its pods, where no controller made them, as `namespace/name`.
    pub pod: Option<(String, Place)>,
    /// Their zones, taken in turn.
    pub zones: Vec<String>,
    /// How they behave.
    pub config: BackendConfig,
    /// How long one serves on after SIGTERM.
    pub shutdown_delay: Duration,
    /// Processor time of one request; none: not known, and no autoscaler can go by it.
    pub cpu_per_request: Option<Duration>,
    /// What a pod of it holds of memory; none: not known.
    pub memory: Option<MemoryCosts>,
    /// What a pod of it takes of its node's disk; none: not known.
    pub disk: Option<DiskSettings>,
    /// Where it is written.
    pub at: Place,
}

impl BackendSettings {
    /// What names its pods, if it has any: their Deployment, their `DaemonSet`, or one of them.
    #[must_use]
    pub fn pods(&self) -> Option<&(String, Place)> {
        self.deployment.as_ref().or(self.daemon_set.as_ref()).or(self.pod.as_ref())
    }
}

/// One population of clients.
#[derive(Clone, Debug)]
pub struct LoadSettings {
    /// Its name.
    pub name: String,
    /// Its rate over the measured time.
    pub segments: Vec<RateSegment>,
    /// Its gaps.
    pub pacing: Pacing,
    /// Connections open at once at most.
    pub connections: usize,
    /// Which connection a request takes.
    pub reuse: Reuse,
    /// Idle time after which the client closes a connection.
    pub keep_alive: Option<Duration>,
    /// Patience.
    pub timeout: Duration,
    /// Tries after the first.
    pub retries: u32,
    /// Round trip to the balancer, the nodes, or between nodes; none: what the cluster's network takes.
    pub rtt: Option<Duration>,
    /// Where they are, and what they dial.
    pub way: WaySettings,
    /// Whether idle closes are noticed.
    pub detect_idle_close: bool,
    /// Whether `Connection: close` is honoured.
    pub honor_connection_close: bool,
    /// Whether each slot is a user with cookies.
    pub cookies: bool,
    /// What they ask for.
    pub mix: Vec<MixSettings>,
}

/// Where clients are, and what they dial.
#[derive(Clone, Debug)]
pub struct WaySettings {
    /// Where they are.
    pub location: Location,
    /// What they dial; none: what the Service's type suggests.
    pub address: Option<Address>,
    /// The node they are on, or dial; all if it is not named.
    pub node: Option<String>,
    /// The zone of those nodes.
    pub zone: Option<String>,
    /// Where it is written, or would be.
    pub at: Place,
}

/// Where clients are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Location {
    /// Outside of the cluster.
    Internet,
    /// On its nodes.
    Cluster,
}

/// What clients dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// The balancer's address.
    LoadBalancer,
    /// A port of a node.
    NodePort,
    /// The Service's own address.
    ClusterIp,
}

/// One kind of request.
#[derive(Clone, Debug)]
pub struct MixSettings {
    /// What the world's clients send.
    pub entry: MixEntry,
    /// Where it is written.
    pub at: Place,
}

/// Something that must hold.
#[derive(Clone, Debug)]
pub struct SloSettings {
    /// Its name; the expression if it has none.
    pub name: String,
    /// As it was written.
    pub expr: String,
    /// What it says.
    pub condition: super::slo::Condition,
    /// What missing it means.
    pub level: Level,
    /// Which of many seeds counts.
    pub over: Over,
}

/// Which value counts when a scenario is run with many seeds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// The worst seed's.
    Worst,
    /// The 95th percentile over seeds.
    P95,
    /// The mean over seeds.
    Mean,
}

/// One entry of the timeline, not yet applied to the objects.
#[derive(Clone, Debug)]
pub struct TimelineEntry {
    /// From the start of the measured time.
    pub at: Duration,
    /// The phase it begins.
    pub phase: String,
    /// What happens.
    pub verb: TimelineVerb,
    /// The object it is for, if not the target.
    pub of: Option<String>,
    /// The cluster it is for, if not all, and where it is named.
    pub cluster: Option<(String, Place)>,
    /// Where it is written.
    pub place: Place,
}

/// What can happen.
#[derive(Clone, Debug)]
pub enum TimelineVerb {
    /// All pods start anew.
    Restart,
    /// Objects are applied.
    Apply(Vec<Object>),
    /// Fields are changed.
    Set(Vec<super::address::Patch>),
    /// Another number of replicas.
    Scale(i32),
    /// Something happens to pods or nodes.
    Operate(super::operations::OperationSettings),
    /// Back to the template of this revision, or of the one before.
    Rollback(Option<i64>),
    /// A new template waits from now on, or no longer.
    Pause(bool),
    /// The Deployment is deleted.
    Delete,
    /// A Service is deleted: its `namespace/name`, and where it is named.
    DeleteService(String, Place),
    /// An object is deleted: the field that names it with its kind, its `namespace/name`, and where it is named.
    DeleteObject((&'static str, &'static str), String, Place),
    /// The rate of a load, or of all, times this.
    Load(Option<String>, f64),
    /// The whole configuration is pushed to the gateway's pods.
    ConfigPush,
    /// Nothing: only a phase begins.
    Phase,
}

/// A named change of a scenario.
#[derive(Clone, Debug)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// Path and value, with the place of the value.
    pub set: Vec<(String, Place, Node)>,
}

/// What holds where a scenario says nothing.
pub mod defaults {
    use std::time::Duration;

    use crate::cluster::Version;
    use crate::drill::MemoryCosts;
    use crate::engine::Delay;
    use crate::gateway::DrainConfig;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// The only profile so far: ACK with Terway (pod addresses are the VPC's) and an NLB.
    pub const PROFILE: &str = "ack-terway-nlb";
    /// Behaviour of Kubernetes.
    pub const KUBERNETES: Version = Version::new(1, 33);
    /// Behaviour of Istio: which rules changed between versions is in `manifest::routes::Options`.
    pub const ISTIO: &str = "1.26";
    /// An assumption: an idle scheduler binds at once.
    pub const SCHEDULE: Delay = Delay::Constant(ms(10));
    /// An assumption: what a small image that is already there takes, with the sidecar's own start.
    pub const POD_START: Delay = Delay::Lognormal { p50: ms(4000), p99: ms(11_000) };
    /// Source: ASM's document on pods that cannot reach the gateway's CLB: with policy `Local` only those on nodes with a gateway pod do.
    pub const DETECTS_PODS: bool = false;
    /// The image is there.
    pub const IMAGE_PULL: Delay = Delay::ZERO;
    /// An assumption.
    pub const ENDPOINT_PROPAGATION: Delay = Delay::Lognormal { p50: ms(300), p99: ms(2000) };
    /// An assumption: what istiod's debounce (100 ms) and a push take.
    pub const CONFIG_PROPAGATION: Delay = Delay::Constant(ms(200));
    /// An assumption: what the runtime needs to make and start a container, a short job, and the kubelet's look at its containers once a second.
    pub const INIT_CONTAINER: Delay = Delay::Lognormal { p50: ms(1500), p99: ms(5000) };
    /// An assumption: the container runtime takes the pod's network away about a second after its process ended.
    pub const SANDBOX_REMOVAL: Delay = Delay::Constant(ms(1000));
    /// An assumption: two hosts of one region.
    pub const NETWORK_LATENCY: Duration = Duration::from_micros(100);
    /// A reconcile. Source: kubernetes/cloud-provider-alibaba-cloud issue 89: 2 to 10 s between a pod's deletion and the change at a CLB. The least of it is a
    /// change that is reconciled at once, the most one that waits for a reconcile that has just begun.
    pub const CONTROLLER_LATENCY: Delay = Delay::Uniform { min: ms(2000), max: ms(5000) };
    /// An assumption: the documents say that dead addresses are taken out of the answers, and not how soon.
    pub const NAME_PROBING: Duration = Duration::from_secs(10);
    /// An assumption: a usual time to live.
    pub const NAME_TTL: Duration = Duration::from_secs(60);
    /// Source: kubernetes/cloud-provider-alibaba-cloud pkg/controller/service: a Service is reconciled by one worker at a time.
    pub const IN_BATCHES: bool = true;
    /// An assumption: a call to a cloud's API within its region.
    pub const CALL_LATENCY: Duration = ms(500);
    /// An assumption: TLS 1.2 without resumption, the newest version of an NLB's default policy.
    pub const TLS_ROUND_TRIPS: u32 = 2;
    /// Source: istio mesh configuration, `terminationDrainDuration`.
    pub const TERMINATION_DRAIN: Duration = Duration::from_secs(5);
    /// Source: istio mesh configuration, `drainDuration`.
    pub const DRAIN_DURATION: Duration = Duration::from_secs(45);
    /// Source: istio runs Envoy with `--drain-strategy immediate`; Envoy's defaults of the connection manager.
    pub const DRAIN: super::DrainTimers = super::DrainTimers {
        strategy: DrainConfig::ISTIO.strategy,
        timeout: DrainConfig::ISTIO.drain_timeout,
        delayed_close: DrainConfig::ISTIO.delayed_close,
    };
    /// Derived from Istio's published 0.20 vCPU at 1,000 requests/s (1.24), within 100 to 200 µs.
    pub const CPU_PER_REQUEST: Duration = Duration::from_micros(150);
    /// Derived from published rates of new connections per core, within 20 to 40 µs.
    pub const CPU_PER_CONNECTION: Duration = Duration::from_micros(30);
    /// Measured on Envoy 1.40: 11 to 61 ms from the signal to the end of the process.
    pub const EXIT_DELAY: Delay = Delay::Uniform { min: ms(11), max: ms(61) };
    /// Within the ranges that Istio's published 60 MB of a proxy under test leaves; no figure per connection is published.
    pub const MEMORY: MemoryCosts =
        MemoryCosts { base_bytes: 45_000_000, cluster_bytes: 30_000, connection_bytes: 40_000, request_bytes: 20_000 };
    /// An assumption: ASM's documents say "periodically".
    pub const REPLICAS_SYNC: Duration = Duration::from_secs(60);
    /// Of a backend.
    pub const SERVICE_TIME: Delay = Delay::Constant(ms(10));
    /// Of a backend.
    pub const CONCURRENCY: usize = 64;
    /// Of a backend.
    pub const BACKEND_KEEP_ALIVE: Duration = Duration::from_secs(60);
    /// Of a backend without a Deployment.
    pub const REPLICAS: usize = 2;
    /// Bytes of an answer.
    pub const ANSWER_BYTES: usize = 1024;
    /// Of a client.
    pub const CONNECTIONS: usize = 100;
    /// Of a client.
    pub const CLIENT_KEEP_ALIVE: Duration = Duration::from_secs(60);
    /// Of a client.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// Of a client.
    pub const RTT: Duration = Duration::from_millis(20);
}
