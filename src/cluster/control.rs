//! The object store and the controllers of Deployments, `ReplicaSet`s and endpoints.
//!
//! A change asks for a sync of the objects it concerns; the sync comes a hop later (watch and work queue), and an object that is asked
//! for again before that is synced once. So a rollout moves as the real one does: the deployment sizes a set, the set makes
//! or deletes pods, their state changes the set's status, and that brings the next step.
//!
//! What a set reports is written by its sync and read by its deployment's: the deployment decides on what was, not on what is.
//!
//! Invariant, checked at every step of a rolling update: the sizes asked for never exceed replicas + surge.
//!
//! What one sync does stands with its object: `deployment_sync`, `replica_set_sync`, `daemon_set_sync`, `endpoints_sync`, `disruption_sync`, `node_sync`, `node_failure`, `node_pressure`, `node_disk`,
//! `node_shutdown`, `services`, `pod`.
//! `queue` is when it comes. `deployments` is what is done to Deployments from outside, `operations` carries out what is done to pods and nodes, `node_scaling` is the cluster autoscaler.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/{deployment,replicaset}, staging/src/k8s.io/endpointslice.

mod autoscaler_sync;
mod bare_pods;
mod calls;
mod daemon_set_sync;
mod deployment_sync;
mod deployments;
mod disruption_sync;
mod endpoints_sync;
mod node_disk;
mod node_failure;
mod node_pressure;
mod node_scaling;
mod node_shutdown;
mod node_sync;
mod operations;
mod placing;
mod pod;
mod pod_deletion;
mod pods;
mod queue;
mod remains;
mod replica_set_sync;
mod rollouts;
mod services;
pub mod view;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Bound;
use std::rc::Rc;
use std::time::Duration;

pub use self::autoscaler_sync::{AutoscalerStep, AutoscalingConfig, reading_text};
pub use self::bare_pods::PodEdit;
pub(in crate::cluster) use self::calls::Caller;
use self::calls::Clients;
use self::daemon_set_sync::DaemonState;
pub use self::disruption_sync::BudgetReport;
use self::disruption_sync::BudgetState;
pub use self::node_scaling::AutoscalerConfig;
use self::node_scaling::ScalingState;
use self::node_sync::{Loss, NodeState};
use self::placing::{Changes, Placing};
pub use self::pod::{Kill, KillCause, PodCounts, PodRecord};
pub(super) use self::pod::{Pod, STATUS_CALLS};
use self::pods::Pods;
use self::remains::Remains;
pub(in crate::cluster) use self::remains::{EVICTED, refused};
pub use self::rollouts::Rollout;
use self::services::Services;
use super::Runtime;
use super::api_client::ClientRates;
use super::api_clock::ApiClock;
use super::deployment::{DeploymentStatus, Progress};
use super::hollow::HollowKubelet;
use super::identity::Identity;
use super::image_pulls::ImagePulls;
use super::node_lifecycle::{Graces, NodeLifecycle};
use super::notice::Notice;
use super::objects::{Deployment, Node, PodTemplate};
use super::scheduler::Rules;
use super::selector::Labels;
use super::ticks::Ticks;
use super::version::Version;
use crate::engine::{Datum, Delay, EventId, EventLog, Sim, Stream, Streams};
use crate::units::SimTime;

/// The timings of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// Which of several it is.
    pub identity: Identity,
    /// The version whose behaviour is simulated.
    pub version: Version,
    /// How old the wall clock's second is at time zero: time stamps of objects are whole seconds. None: drawn.
    pub wall_phase: Option<Duration>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// From a change to the controller that acts on it.
    pub hop: Delay,
    /// From a pod's creation to its binding.
    pub schedule: Delay,
    /// From the binding to running containers, if the image is there.
    pub pod_start: Delay,
    /// What an init container takes from its turn to its end, or a sidecar to its start, if the image is there.
    pub init_container: Delay,
    /// Added once per node and image.
    pub image_pull: Delay,
    /// Images that no node can pull: the name is wrong, or the registry does not have them.
    pub bad_images: BTreeSet<String>,
    /// How many bytes an image takes on a node, where that is known: the scheduler prefers nodes that have it.
    pub image_sizes: BTreeMap<String, u64>,
    /// Images that every node has from its first boot on.
    pub preloaded_images: BTreeSet<String>,
    /// From a pod's state to the consumers of its Service's endpoints.
    pub endpoint_propagation: Delay,
    /// From the last container's end to the end of the pod's network: until then its closed ports answer with RST.
    pub sandbox_removal: Delay,
    /// How fast the control plane may call the API server.
    pub client_rates: ClientRates,
    /// So many pods that have ended may stay; more are deleted. 0: all stay.
    pub terminated_pods_max: usize,
    /// Whether nodes come and go with the pods that need them.
    pub autoscaler: Option<AutoscalerConfig>,
    /// What is applied at time zero is there at once, its pods ready: the world as the run finds it.
    pub stands_at_zero: bool,
}

/// The simulated control plane. Clones share it.
#[derive(Clone)]
pub struct Cluster {
    pub(super) inner: Rc<Inner>,
}

pub(super) struct Inner {
    pub(super) sim: Sim,
    pub(super) streams: Streams,
    pub(super) log: Rc<RefCell<EventLog>>,
    pub(super) config: ClusterConfig,
    pub(super) clock: ApiClock,
    pub(super) kubelets: Kubelets,
    /// What may help pods that wait for a node.
    pub(super) changes: Changes,
    /// A node has come, changed or gone.
    node_changes: Notice,
    /// How often others than their kubelets have written the readiness of pods.
    pub(super) foreign_readiness: Cell<u64>,
    /// When probes are due.
    pub(super) ticks: Rc<Ticks>,
    pub(super) state: RefCell<State>,
    pub(super) autoscaling: RefCell<autoscaler_sync::Autoscaling>,
}

/// Who takes pods through their lives.
pub(super) enum Kubelets {
    /// Node agents, which run containers.
    Agents(Rc<dyn Runtime>),
    /// Somebody who writes their states as they like.
    Hollow(Rc<dyn HollowKubelet>),
}

pub(super) struct State {
    deployments: BTreeMap<Rc<str>, DeploymentState>,
    /// By what their pods have for an owner.
    daemons: BTreeMap<Rc<str>, DaemonState>,
    sets: BTreeMap<u64, ReplicaSet>,
    pub(super) pods: Pods,
    remains: Vec<Remains>,
    /// The garbage collector of pods has something to do at its next time.
    is_collecting: bool,
    records: Vec<PodRecord>,
    /// The index of the record of the pod that had an address.
    record_of: BTreeMap<Ipv4Addr, usize>,
    pub(super) placing: Placing,
    services: Services,
    budgets: BTreeMap<Rc<str>, BudgetState>,
    /// Nodes by index; one that is gone keeps its place.
    nodes: Vec<NodeState>,
    /// The last of each name; those before it are gone.
    nodes_by_name: BTreeMap<Rc<str>, usize>,
    lifecycle: NodeLifecycle,
    is_watching_nodes: bool,
    /// Addresses given to pods that started anew on a booted machine.
    spare_ips: u32,
    /// Addresses that died with their machines.
    losses: Vec<Loss>,
    scaling: Option<ScalingState>,
    clients: Clients,
    /// Drains and the like that are under way.
    operations_count: usize,
    queued: BTreeSet<Work>,
    /// What is asked for later, and when: of several such wishes for one object the earliest counts, and the others are forgotten.
    delayed: BTreeMap<Work, SimTime>,
    /// The images of nodes.
    pub(super) images: ImagePulls,
    rollouts: Vec<Rollout>,
    set_next: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Work {
    Deployment(Rc<str>),
    Set(u64),
    Daemon(Rc<str>),
    Budget(Rc<str>),
}

struct DeploymentState {
    spec: Deployment,
    template: Rc<PodTemplate>,
    /// How often the spec has changed, and the change that the status knows of.
    generation: u64,
    observed_generation: u64,
    status: DeploymentStatus,
    /// Pods asked for that are not available, as of the status.
    unavailable: i32,
    is_available: bool,
    progress: Option<Progress>,
    /// The last event that concerns it: the cause of the next step.
    because: Option<EventId>,
    /// The index of the rollout under way.
    rollout: Option<usize>,
    /// The template of a rollout by `Recreate` whose set is still to come.
    announced: Option<Rc<PodTemplate>>,
    /// The newest revision.
    revision: i64,
    /// Its sets, oldest first.
    sets: BTreeSet<u64>,
    /// Pods made so far, of all revisions.
    pods_made: u64,
    created_at: SimTime,
    /// It has been deleted: only its pods' ends are still on their way.
    is_deleted: bool,
    /// How long its controllers take to react.
    hops: Stream,
}

struct ReplicaSet {
    name: Rc<str>,
    owner: Rc<str>,
    template: Rc<PodTemplate>,
    replicas: i32,
    min_ready_seconds: u32,
    desired_annotation: Option<i32>,
    max_annotation: Option<i32>,
    revision: i64,
    /// What it reports: as of its last sync, so some milliseconds behind its pods.
    status: SetStatus,
    /// Its pods, those being deleted included.
    pods: BTreeSet<u64>,
    /// A sync is under way, its calls one after the other: it does nothing more until they are through.
    is_busy: bool,
    /// It was asked for meanwhile.
    is_asked_again: bool,
    /// Its size, or what it knows of its deployment's, has changed since its last sync.
    is_resized: bool,
    keeper: Keeper,
    because: Option<EventId>,
    created_at: SimTime,
}

/// Who makes the pods of a set, and makes others when they are gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::cluster) enum Keeper {
    /// A Deployment.
    Deployment,
    /// A `DaemonSet`: the set is one of its revisions, and never does anything by itself.
    DaemonSet,
    /// Nobody: the set stands for one pod, and never does anything.
    Nobody,
}

/// What a `ReplicaSet` reports of its pods, those being deleted left out.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SetStatus {
    /// Pods.
    pub replicas: i32,
    /// Ready pods.
    pub ready: i32,
    /// Pods that have been ready for long enough.
    pub available: i32,
}

impl ReplicaSet {
    /// One of a name and an owner that asks for no pod and has none.
    fn empty(
        (name, owner): (Rc<str>, Rc<str>),
        template: Rc<PodTemplate>,
        keeper: Keeper,
        created_at: SimTime,
    ) -> Self {
        Self {
            name,
            owner,
            template,
            replicas: 0,
            min_ready_seconds: 0,
            desired_annotation: None,
            max_annotation: None,
            revision: 0,
            status: SetStatus::default(),
            pods: BTreeSet::new(),
            is_busy: false,
            is_asked_again: false,
            is_resized: false,
            keeper,
            because: None,
            created_at,
        }
    }

    fn namespace(&self) -> &str {
        namespace_of(&self.owner)
    }
}

/// The part of `namespace/name` before the name.
fn namespace_of(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

/// What a namespace has of objects that are kept by `namespace/name`.
fn in_namespace<'a, T>(
    objects: &'a BTreeMap<Rc<str>, T>,
    namespace: &str,
) -> impl Iterator<Item = (&'a Rc<str>, &'a T)> + use<'a, T> {
    let first = format!("{namespace}/");
    let rest = objects.range::<str, _>((Bound::Included(first.as_str()), Bound::Unbounded));
    rest.take_while(move |(key, _)| key.starts_with(&first))
}

impl State {
    /// The sets of an owner of pods: of a Deployment, of a `DaemonSet`, or of a pod without a controller.
    fn sets_of<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a ReplicaSet> {
        let of_daemon = || self.daemons.get(owner).map(DaemonState::sets);
        let known = self.deployments.get(owner).map(|known| &known.sets).or_else(of_daemon);
        let is_bare = |set: &&ReplicaSet| set.keeper == Keeper::Nobody && *set.owner == *owner;
        let bare = owner.contains("/pod/").then(|| self.sets.values().filter(is_bare));
        known.into_iter().flatten().map(|id| &self.sets[id]).chain(bare.into_iter().flatten())
    }

    /// The pods of an owner, those being deleted included.
    fn pods_of<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.sets_of(owner).flat_map(|set| &set.pods).map(|id| &self.pods[id])
    }

    /// The same in the order of their creation.
    fn ordered_pods_of<'a>(&'a self, owner: &'a str) -> Vec<&'a Pod> {
        let mut pods: Vec<&Pod> = self.pods_of(owner).collect();
        pods.sort_unstable_by_key(|pod| pod.record.id);
        pods
    }

    /// The numbers of the pods that were made from templates with labels that will do, in the order of their creation.
    fn pods_with(&self, namespace: &str, will_do: impl Fn(&Labels) -> bool) -> BTreeSet<u64> {
        let is_meant = |set: &&ReplicaSet| set.namespace() == namespace && will_do(&set.template.labels);
        self.sets.values().filter(is_meant).flat_map(|set| set.pods.iter().copied()).collect()
    }
}

impl Cluster {
    /// A cluster with nodes and nothing on them, whose containers run in `runtime`.
    #[must_use]
    pub fn new(
        sim: &Sim,
        streams: Streams,
        log: Rc<RefCell<EventLog>>,
        config: ClusterConfig,
        runtime: Rc<dyn Runtime>,
    ) -> Self {
        Self::with_kubelets(sim, streams, log, config, Kubelets::Agents(runtime))
    }

    /// A cluster without containers: `kubelet` writes the states of its pods.
    #[must_use]
    pub fn hollow(
        sim: &Sim,
        streams: Streams,
        log: Rc<RefCell<EventLog>>,
        config: ClusterConfig,
        kubelet: Rc<dyn HollowKubelet>,
    ) -> Self {
        Self::with_kubelets(sim, streams, log, config, Kubelets::Hollow(kubelet))
    }

    fn with_kubelets(
        sim: &Sim,
        streams: Streams,
        log: Rc<RefCell<EventLog>>,
        config: ClusterConfig,
        kubelets: Kubelets,
    ) -> Self {
        let state = State {
            deployments: BTreeMap::new(),
            daemons: BTreeMap::new(),
            sets: BTreeMap::new(),
            pods: Pods::default(),
            remains: Vec::new(),
            is_collecting: false,
            records: Vec::new(),
            record_of: BTreeMap::new(),
            placing: Placing::new(&config.nodes, Rules::of_version(config.version.minor()), streams),
            services: Services::default(),
            budgets: BTreeMap::new(),
            nodes: Self::nodes_at_start(&config.nodes, streams),
            nodes_by_name: config.nodes.iter().map(|node| Rc::clone(&node.name)).zip(0..).collect(),
            lifecycle: NodeLifecycle::new(Graces::of_version(config.version)),
            is_watching_nodes: false,
            spare_ips: 0,
            losses: Vec::new(),
            scaling: config.autoscaler.as_ref().map(ScalingState::new),
            clients: Clients::new(config.client_rates, config.version),
            operations_count: 0,
            queued: BTreeSet::new(),
            delayed: BTreeMap::new(),
            images: ImagePulls::new(config.preloaded_images.clone()),
            rollouts: Vec::new(),
            set_next: 0,
        };
        let drawn = || streams.stream("wall-clock", "").uniform(Duration::ZERO, Duration::from_nanos(999_999_999));
        let clock = ApiClock::new(config.wall_phase.unwrap_or_else(drawn), config.stands_at_zero);
        let (sim, changes, node_changes) = (sim.clone(), Changes::default(), Notice::default());
        let (state, autoscaling) = (RefCell::new(state), RefCell::default());
        let foreign_readiness = Cell::default();
        let inner = Inner {
            sim,
            streams,
            log,
            config,
            clock,
            kubelets,
            changes,
            node_changes,
            foreign_readiness,
            ticks: Rc::default(),
            state,
            autoscaling,
        };
        let this = Self { inner: Rc::new(inner) };
        this.start_autoscaler();
        (0..this.inner.config.nodes.len()).for_each(|index| this.watch_disk(index));
        this
    }

    /// The pods of an owner by state.
    #[must_use]
    pub fn counts(&self, owner: &str) -> PodCounts {
        let now = self.inner.sim.now();
        let state = self.inner.state.borrow();
        let mut counts = PodCounts::default();
        for set in state.sets_of(owner) {
            for pod in set.pods.iter().map(|id| &state.pods[id]) {
                if pod.is_active() {
                    counts.active += 1;
                    counts.ready += usize::from(pod.is_ready);
                    counts.available += usize::from(pod.is_available(self.inner.clock, set.min_ready_seconds, now));
                } else {
                    counts.terminating += 1;
                }
            }
        }
        counts
    }

    /// Whether an owner has all its pods, of the newest revision and available, and no other.
    #[must_use]
    pub fn is_settled(&self, owner: &str) -> bool {
        let state = self.inner.state.borrow();
        let mut pods = state.pods_of(owner);
        Self::is_complete(&state, owner) && !pods.any(Pod::is_deleting)
    }

    /// Whether an owner has all its pods, of the newest revision and available. Nobody makes a pod without a controller anew.
    fn is_complete(state: &State, owner: &str) -> bool {
        if let Some(known) = state.daemons.get(owner) {
            return known.is_complete();
        }
        let Some(known) = state.deployments.get(owner) else {
            return state.pods_of(owner).all(|pod| pod.is_ready);
        };
        known.observed_generation == known.generation
            && known.status.is_complete(known.spec.replicas)
            && known.rollout.is_none()
    }

    /// How many nodes the scheduler has looked at so far: its measure of work.
    #[must_use]
    pub fn nodes_looked_at(&self) -> u64 {
        self.inner.state.borrow().placing.looked_at()
    }

    /// The lives of all pods there were, in the order of their creation.
    #[must_use]
    pub fn pod_records(&self) -> Vec<PodRecord> {
        let state = self.inner.state.borrow();
        let mut all: Vec<PodRecord> = state.records.to_vec();
        all.extend(state.pods.values().map(|pod| pod.record.clone()));
        all.sort_by(|a, b| a.created_at.cmp(&b.created_at).then_with(|| a.name.cmp(&b.name)));
        all
    }

    /// Whether what happens now is the making of the world that the run finds.
    pub(super) fn stands(&self) -> bool {
        self.inner.config.stands_at_zero && self.inner.sim.now() == SimTime::ZERO
    }

    /// The life of the pod that has, or had, this address.
    #[must_use]
    pub fn pod_at(&self, ip: Ipv4Addr) -> Option<PodRecord> {
        let state = self.inner.state.borrow();
        let living = self.living_at(&state, ip).map(|pod| &pod.record);
        living.or_else(|| state.records.get(*state.record_of.get(&ip)?)).cloned()
    }

    /// What the pod at an address is made from, while there is one.
    #[must_use]
    pub fn template_at(&self, ip: Ipv4Addr) -> Option<Rc<PodTemplate>> {
        let state = self.inner.state.borrow();
        self.living_at(&state, ip).map(|pod| Rc::clone(&pod.template))
    }

    /// The pod that has this address now.
    fn living_at<'a>(&self, state: &'a State, ip: Ipv4Addr) -> Option<&'a Pod> {
        let ids = self.inner.config.identity.ids_of_ip(ip, state.pods.next_id());
        let found = ids.filter_map(|id| state.pods.get(&id)).find(|pod| pod.ip == Some(ip));
        // A machine that has booted gives its pods other addresses than their numbers'.
        let is_moved = found.is_none() && state.spare_ips > 0;
        found.or_else(|| is_moved.then(|| state.pods.values().find(|pod| pod.ip == Some(ip))).flatten())
    }

    pub(super) fn tell(
        &self,
        because: Option<EventId>,
        kind: &'static str,
        object: String,
        data: Vec<(&'static str, Datum)>,
    ) -> EventId {
        let object = self.inner.config.identity.object(object);
        self.inner.log.borrow_mut().record(self.inner.sim.now(), because, kind, object, data)
    }
}

/// Letters and digits as Kubernetes uses them in generated names. Source: apimachinery/pkg/util/rand.
fn suffix(stream: &mut Stream, length: usize) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..length).map(|_| char::from(LETTERS[usize::try_from(stream.below(27)).unwrap_or(0)])).collect()
}

#[cfg(test)]
mod tests;
