//! One cluster of a world: its control plane, the balancer before its gateway, its gateway pods, and the services behind.
//!
//! The members of a world share its network, clock, event log and clients, and nothing else: each has its own copy of all the rest.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::endpoints::localities;
use crate::cluster::kubelet::disk::DiskUse;
use crate::cluster::kubelet::oom::{EVICTION_THRESHOLD_BYTES, Qos};
use crate::cluster::metrics::Usage;
use crate::cluster::{
    Cluster, Identity, LocalFuture, PodCounts, ProbeAction, Process, Runtime, StartingPod, TargetPort,
};
use crate::drill::Sources;
use crate::drill::config::{BackendMemory, ClusterSpec, Creation, FrontPorts, MemberConfig, OwnedReplicas};
use crate::drill::memory::Memory;
use crate::drill::node_memory::NodeMemory;
use crate::drill::objects::Further;
use crate::drill::process::{
    BackendProcess, GatewayPod, GatewayProcess, GatewaySpec, IdleProcess, Surroundings, probe,
};
use crate::edge::door::Door;
use crate::edge::{LoadBalancer, Nodes};
use crate::engine::{Datum, EventId};
use crate::gateway::locality::{Locality, Site, View};
use crate::gateway::outlier::Detection;
use crate::gateway::{AccessRecord, EndpointConfig, Flags, LoadAssignment, Observer, Routes};
use crate::net::{Host, LinkConfig, Net};
use crate::units::SimTime;

/// The load balancer's address; of several, the first one's.
const VIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Where its probes come from; of several, the first one's. Source: Alibaba Cloud CLB documents, health check address range 100.64.0.0/10.
const PROBER: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);

/// Endpoints, and where each is.
pub(super) type Sited = Vec<(EndpointConfig, Site)>;

/// What the members of a world share.
pub(super) struct Shared {
    pub(super) around: Surroundings,
    pub(super) net: Net,
    /// The host of the kubelets' probes.
    pub(super) kubelet: Host,
    /// What gateways remarked on requests whose clients have not told their outcome yet.
    pub(super) flags: Rc<RefCell<BTreeMap<String, Flags>>>,
    /// Whether the timeline hands replicas to the control plane.
    pub(super) is_owned_later: bool,
}

/// One cluster and what belongs to it.
pub(super) struct Member {
    /// Its number among the members.
    pub(super) index: usize,
    pub(super) around: Surroundings,
    pub(super) net: Net,
    pub(super) config: MemberConfig,
    /// The address of its balancer.
    pub(super) vip: Ipv4Addr,
    pub(super) prober: Ipv4Addr,
    cluster: RefCell<Option<Cluster>>,
    /// The balancer that clients dial, even when it is gone.
    pub(super) balancer: RefCell<Option<LoadBalancer>>,
    /// The one that was made after that, at another address.
    pub(super) made: RefCell<Option<LoadBalancer>>,
    /// So many were made, or are being made.
    pub(super) made_count: Cell<u32>,
    /// The Service in front wants one.
    pub(super) wants_balancer: Cell<bool>,
    /// Its nodes, where connections pass over them.
    pub(super) nodes: RefCell<Option<Nodes>>,
    hosts: RefCell<BTreeMap<Ipv4Addr, Host>>,
    pub(super) gateways: RefCell<BTreeMap<Ipv4Addr, Rc<GatewayProcess>>>,
    /// Pods of backends that have a Deployment.
    pub(super) backends: RefCell<BTreeMap<Ipv4Addr, Rc<BackendProcess>>>,
    kubelet: Host,
    pub(super) routes: RefCell<Rc<Routes>>,
    /// Of each cluster of the gateway, as the control plane knows them, by the index of the Kubernetes cluster they are in.
    pub(super) endpoints: RefCell<BTreeMap<Arc<str>, BTreeMap<usize, Sited>>>,
    /// What gateways are told of them, by what they see; forgotten when it changes.
    pub(super) assignments: RefCell<BTreeMap<Arc<str>, BTreeMap<View, LoadAssignment>>>,
    /// Clusters of the gateway that are not as the gateways began with.
    pub(super) clusters: RefCell<BTreeMap<Arc<str>, ClusterSpec>>,
    /// Those that are not there now: their Services, or the Services' ports, are gone.
    pub(super) gone_clusters: RefCell<BTreeSet<Arc<str>>>,
    /// Where Services behind the gateway lead since they were edited, by the gateway's cluster and the Service's edition.
    pub(super) targets: RefCell<BTreeMap<Arc<str>, BTreeMap<u64, TargetPort>>>,
    /// The last edit of each Service behind the gateway: its edition, and the lines behind causes of loss from when it is heard of.
    pub(super) edited: RefCell<BTreeMap<Rc<str>, (u64, Sources)>>,
    /// The last edition of each whose lines count.
    pub(super) heeded: RefCell<BTreeMap<Rc<str>, u64>>,
    flags: Rc<RefCell<BTreeMap<String, Flags>>>,
    pub(super) connections: Cell<u64>,
    /// None without a balancer.
    pub(super) targets_healthy: Cell<Option<u64>>,
    /// The balancer has the targets its controller wants, and sends to all of them.
    pub(super) targets_settled: Cell<bool>,
    /// The event with which the wish for a balancer failed.
    pub(super) not_created: Cell<Option<EventId>>,
    /// The event that tells that the gateway is served no configuration.
    pub(super) unconfigured: Cell<Option<EventId>>,
    /// Further Services of type `LoadBalancer`.
    pub(super) further: RefCell<BTreeMap<Rc<str>, Further>>,
    /// Their parts of the balancer in front, of those that have overwritten its listeners.
    pub(super) sharing: RefCell<BTreeMap<Rc<str>, LoadBalancer>>,
    /// Services whose listeners the controller has not come to yet.
    pub(super) listeners_pending: Cell<usize>,
    /// Where its gateways listen, as the control plane has it.
    pub(super) listeners: RefCell<Vec<(u16, u16)>>,
    /// Ports where they listen no more, with the edits that took them away.
    pub(super) removed_listeners: RefCell<BTreeMap<u16, EventId>>,
    /// Pods that a push is on its way to.
    pub(super) pushes_pending: Cell<usize>,
    /// When configuration was last pushed for an edit.
    pub(super) pushed_at: Cell<Option<SimTime>>,
    /// Processes that are others than at the start, by their pods' owner and the `other` of their template.
    pub(super) specs: RefCell<BTreeMap<(Rc<str>, String), GatewaySpec>>,
    /// The ports of the Service in front, as they are now.
    pub(super) front_ports: RefCell<FrontPorts>,
    /// What clients dial in place of the balancer, in the order of the loads.
    pub(super) doors: RefCell<Vec<Option<Rc<Door>>>>,
    /// The lines behind causes of loss, as they are now.
    pub(super) sources: RefCell<Sources>,
    /// What the control plane writes.
    pub(super) owned: Cell<Option<OwnedReplicas>>,
    /// Of nodes with a gateway.
    node_memories: RefCell<BTreeMap<Rc<str>, Rc<NodeMemory>>>,
    /// What pods are called in results, by their numbers.
    pod_keys: RefCell<BTreeMap<u64, Rc<str>>>,
    /// Where the nodes are that the run begins with.
    pub(super) localities: BTreeMap<Rc<str>, Locality>,
    /// Pods whose processes only exist: they pass every probe.
    idle: RefCell<BTreeSet<Ipv4Addr>>,
}

impl Member {
    /// The `index`th cluster of a world, as the run finds it.
    pub(super) fn build(index: usize, config: MemberConfig, shared: &Shared) -> Rc<Self> {
        let Shared { around, net, kubelet, flags, is_owned_later } = shared;
        let mut around = around.clone();
        if let Some(name) = config.cluster.identity.name() {
            around.streams = around.streams.within(name);
        }
        let listeners = config.target_spec().config.listeners.clone();
        let (ports, node_ports) = (config.front.ports.clone(), config.front.node_ports.clone());
        let front_ports = FrontPorts { ports, node_ports };
        let nth = |first: Ipv4Addr| Ipv4Addr::from_bits(first.to_bits() + u32::try_from(index).unwrap_or(0));
        let member = Rc::new(Self {
            index,
            around: around.clone(),
            net: net.clone(),
            vip: nth(VIP),
            prober: nth(PROBER),
            cluster: RefCell::new(None),
            balancer: RefCell::new(None),
            made: RefCell::new(None),
            made_count: Cell::new(0),
            wants_balancer: Cell::new(config.front.balancer.is_some()),
            nodes: RefCell::new(None),
            hosts: RefCell::default(),
            gateways: RefCell::default(),
            backends: RefCell::default(),
            kubelet: kubelet.clone(),
            routes: RefCell::new(Rc::new(config.routes.clone())),
            endpoints: RefCell::default(),
            assignments: RefCell::default(),
            clusters: RefCell::default(),
            gone_clusters: RefCell::default(),
            targets: RefCell::default(),
            edited: RefCell::default(),
            heeded: RefCell::default(),
            flags: Rc::clone(flags),
            connections: Cell::new(0),
            targets_healthy: Cell::new(None),
            targets_settled: Cell::new(true),
            not_created: Cell::new(None),
            unconfigured: Cell::new(None),
            further: RefCell::default(),
            sharing: RefCell::default(),
            listeners_pending: Cell::new(0),
            listeners: RefCell::new(listeners),
            removed_listeners: RefCell::default(),
            pushes_pending: Cell::new(0),
            pushed_at: Cell::new(None),
            specs: RefCell::default(),
            front_ports: RefCell::new(front_ports),
            doors: RefCell::default(),
            sources: RefCell::new(config.sources.clone()),
            owned: Cell::new(config.scaling.owned),
            node_memories: RefCell::default(),
            pod_keys: RefCell::default(),
            localities: localities(&config.cluster.nodes),
            idle: RefCell::default(),
            config,
        });
        member.start_fixed_backends();
        let runtime = Rc::new(Containers(Rc::downgrade(&member)));
        let Surroundings { sim, streams, log } = &around;
        let cluster = Cluster::new(sim, *streams, Rc::clone(log), member.config.cluster.clone(), runtime);
        *member.cluster.borrow_mut() = Some(cluster.clone());
        for service in &member.config.services {
            cluster.apply_service(service.clone());
        }
        for budget in &member.config.budgets {
            cluster.apply_budget(budget.clone());
        }
        // They are on their nodes before others look for one.
        for daemon in &member.config.daemon_sets {
            cluster.apply_daemon_set(daemon.clone(), None);
        }
        for deployment in &member.config.deployments {
            cluster.apply_deployment(deployment.clone(), None);
        }
        for pod in &member.config.pods {
            cluster.apply_pod(pod.clone(), None);
        }
        member.start_scaling(&cluster, *is_owned_later);
        member.watch_backends();
        member.start_front(&cluster);
        member
    }

    pub(super) fn cluster(&self) -> Cluster {
        self.cluster.borrow().clone().expect("the cluster is built with its member")
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.config.cluster.identity
    }

    pub(super) fn cloud_link(&self) -> LinkConfig {
        LinkConfig { latency: self.config.front.cloud_latency / 2, ..LinkConfig::default() }
    }

    /// Whether nothing of the gateway is on its way: neither pods nor targets nor rules of nodes.
    pub(super) fn is_quiet(&self) -> bool {
        let is_pushed = self.pushes_pending.get() == 0;
        let are_settled = is_pushed && self.targets_settled.get() && self.listeners_pending.get() == 0;
        let cluster = self.cluster();
        are_settled && self.config.gateways.keys().all(|owner| cluster.is_calm(owner)) && self.nodes_are_settled()
    }

    /// The gateway's pods by state.
    pub(super) fn counts(&self) -> PodCounts {
        let cluster = self.cluster();
        let mut counts = PodCounts::default();
        self.config.gateways.keys().for_each(|owner| counts += cluster.counts(owner));
        counts
    }

    /// The memory of a node, which its gateways share.
    fn memory_of(self: &Rc<Self>, node: &Rc<str>) -> Rc<NodeMemory> {
        let known = self.node_memories.borrow().get(node).cloned();
        if let Some(known) = known {
            return known;
        }
        // The nodes of the start are in the settings; the cluster is still being built when its first pods start.
        let of_start = self.config.cluster.nodes.iter().find(|spec| spec.name == *node);
        let later = || self.cluster.borrow().as_ref()?.node_specs().into_iter().find(|spec| spec.name == *node);
        let allocatable = of_start.map(|spec| spec.allocatable).or_else(|| Some(later()?.allocatable));
        let bytes = allocatable.map_or(u64::MAX, |it| it.memory_bytes.saturating_add(EVICTION_THRESHOLD_BYTES));
        let (member, name) = (Rc::downgrade(self), Rc::clone(node));
        let tell = Box::new(move |object: &str| {
            let Some(member) = member.upgrade() else { return };
            let on = member.identity().object(format!("Node/{name}"));
            let (now, data) = (member.around.sim.now(), vec![("victim", object.into())]);
            member.around.log.borrow_mut().record(now, None, "node_out_of_memory", on, data);
        });
        let memory = NodeMemory::new(bytes, tell);
        self.node_memories.borrow_mut().insert(Rc::clone(node), Rc::clone(&memory));
        memory
    }

    /// What a pod is called in results.
    pub(super) fn pod_key(&self, id: u64, key: &Rc<str>) -> Rc<str> {
        if self.identity().name().is_none() {
            return Rc::clone(key);
        }
        Rc::clone(self.pod_keys.borrow_mut().entry(id).or_insert_with(|| self.identity().key(key)))
    }

    /// The target's process, as the run finds it.
    pub(super) fn target_spec(&self) -> &GatewaySpec {
        self.config.target_spec()
    }
}

/// What a gateway pod tells: its remarks on answers that it made itself or cut, kept until the client tells its outcome, and which endpoints
/// leave and enter rotation.
struct PodObserver {
    member: Weak<Member>,
    object: String,
    memory: Rc<Memory>,
}

impl Observer for PodObserver {
    fn finished(&self, record: &AccessRecord) {
        self.memory.request_done();
        let is_error = record.status.is_some_and(|status| status.as_u16() >= 400);
        let is_cut = record.flags.has(Flags::UC) || record.flags.has(Flags::UT);
        if record.flags == Flags::NONE || record.flags.has(Flags::DC) || !(is_error || is_cut) {
            return;
        }
        let id = record.request_id.as_ref().and_then(|id| id.to_str().ok());
        if let (Some(member), Some(id)) = (self.member.upgrade(), id) {
            member.flags.borrow_mut().insert(id.to_owned(), record.flags);
        }
    }

    fn host_ejected(&self, cluster: &str, endpoint: SocketAddr, by: Detection) {
        self.tell(
            "host_ejected",
            vec![
                ("cluster", cluster.into()),
                ("endpoint", endpoint.to_string().as_str().into()),
                ("by", by.name().into()),
            ],
        );
    }

    fn host_returned(&self, cluster: &str, endpoint: SocketAddr) {
        let data = vec![("cluster", cluster.into()), ("endpoint", endpoint.to_string().as_str().into())];
        self.tell("host_returned", data);
    }
}

impl PodObserver {
    fn tell(&self, kind: &'static str, data: Vec<(&'static str, Datum)>) {
        if let Some(member) = self.member.upgrade() {
            let now = member.around.sim.now();
            member.around.log.borrow_mut().record(now, None, kind, self.object.as_str(), data);
        }
    }
}

/// What the cluster's containers do in this member.
struct Containers(Weak<Member>);

impl Runtime for Containers {
    fn start(&self, pod: &StartingPod) -> Rc<dyn Process> {
        let member = self.0.upgrade().expect("the member outlives its cluster");
        let host = {
            let mut hosts = member.hosts.borrow_mut();
            let attach = || member.net.attach(pod.ip, member.cloud_link());
            hosts.entry(pod.ip).or_insert_with(attach).clone()
        };
        let namespace = pod.owner.split('/').next().unwrap_or_default();
        let object = member.identity().object(format!("Pod/{namespace}/{}", pod.name));
        if let Some(spec) = &member.spec_of_new(&pod.owner, &pod.template.other) {
            let costs = member.config.scaling.memory;
            let memory = Rc::new(Memory::new(costs, member.cluster_count(spec), spec.memory_limit_bytes));
            let observer: Rc<dyn Observer> = Rc::new(PodObserver {
                member: Weak::clone(&self.0),
                object: object.clone(),
                memory: Rc::clone(&memory),
            });
            let routes = Rc::clone(&member.routes.borrow());
            let site = member.site(&pod.node, &pod.template);
            let pod_of_it = GatewayPod { object: &object, site, memory };
            let process = Rc::new(GatewayProcess::start(&member.around, &host, pod_of_it, spec, routes, observer));
            let requests = pod.template.requests;
            let asked = [requests.cpu_millicores, requests.memory_bytes];
            let qos = Qos::of(asked, [spec.cpu_limit_millicores, spec.memory_limit_bytes]);
            process.share_memory(&member.memory_of(&pod.node), qos, requests.memory_bytes);
            member.tell_all(&process);
            member.gateways.borrow_mut().insert(pod.ip, Rc::clone(&process));
            return process;
        }
        match member.config.processes.get(&pod.owner) {
            Some(spec) => {
                let (ports, config) = (spec.ports_of(&pod.template), spec.config.clone());
                let mut process = BackendProcess::start(&member.around, &host, ports, config, spec.shutdown_delay);
                process.cpu_per_request = member.config.scaling.backend_cpu.get(&pod.owner).copied();
                process.disk.clone_from(&spec.disk);
                if let Some(BackendMemory { costs, limits }) = &spec.memory {
                    let limits = limits.get(&pod.template.other).copied().unwrap_or_default();
                    let (node, requests) = (member.memory_of(&pod.node), pod.template.requests);
                    let asked = [requests.cpu_millicores, requests.memory_bytes];
                    let qos = Qos::of(asked, [limits.cpu_millicores, limits.memory_bytes]);
                    let score_adj = qos.oom_score_adj(requests.memory_bytes, node.capacity_bytes());
                    let memory = Rc::new(Memory::new(*costs, 0, limits.memory_bytes));
                    process.hold(&member.around.sim, (&object, &node), &memory, score_adj);
                }
                let process = Rc::new(process);
                member.backends.borrow_mut().insert(pod.ip, Rc::clone(&process));
                process
            }
            None => {
                member.idle.borrow_mut().insert(pod.ip);
                Rc::new(IdleProcess::default())
            }
        }
    }

    fn probe(&self, ip: Ipv4Addr, action: &ProbeAction) -> LocalFuture<bool> {
        let member = self.0.upgrade().expect("the member outlives its cluster");
        if member.idle.borrow().contains(&ip) {
            return Box::pin(std::future::ready(true));
        }
        if matches!(action, ProbeAction::Https { .. }) && member.gateways.borrow().contains_key(&ip) {
            // The handshake meets a port that answers in plain text.
            return Box::pin(std::future::ready(false));
        }
        Box::pin(probe(member.kubelet.clone(), ip, action.clone()))
    }

    fn stands_ready(&self, ip: Ipv4Addr) -> bool {
        let member = self.0.upgrade().expect("the member outlives its cluster");
        let is_gateway = member.gateways.borrow().contains_key(&ip);
        !is_gateway || !matches!(member.config.front.creation, Creation::Unconfigured { .. })
    }

    fn usage(&self, ip: Ipv4Addr) -> Option<Usage> {
        self.0.upgrade()?.usage(ip)
    }

    fn disk_use(&self, ip: Ipv4Addr) -> Option<DiskUse> {
        self.0.upgrade()?.disk_use(ip)
    }

    fn node_changed(&self, node: &Rc<str>, is_alive: bool, because: Option<EventId>) {
        let Some(member) = self.0.upgrade() else { return };
        if let Some(nodes) = &*member.nodes.borrow() {
            if is_alive {
                nodes.handle_boot(node);
            } else {
                nodes.handle_death(node, because);
            }
        }
        for balancer in member.balancers() {
            balancer.handle_machine(node, is_alive);
        }
    }

    fn released(&self, ip: Ipv4Addr) {
        if let Some(member) = self.0.upgrade()
            && let Some(host) = member.hosts.borrow_mut().remove(&ip)
        {
            member.idle.borrow_mut().remove(&ip);
            host.vanish();
        }
    }
}
