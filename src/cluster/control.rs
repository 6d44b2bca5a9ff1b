//! The object store and the controllers of Deployments, `ReplicaSet`s and endpoints.
//!
//! A change asks for a sync of the objects it concerns; the sync comes a hop later (watch and work queue), and an object that is asked
//! for again before that is synced once. So a rollout moves as the real one does: the deployment sizes a set, the set makes
//! or deletes pods, their state changes the set's status, and that brings the next step.
//!
//! Invariant, checked at every step of a rolling update: the sizes asked for never exceed replicas + surge.
//!
//! What one sync does stands with its object: `deployment_sync`, `replica_set_sync`, `endpoints_sync`, `pod`.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/{deployment,replicaset}, staging/src/k8s.io/endpointslice.

mod autoscaler_sync;
mod deployment_sync;
mod endpoints_sync;
mod placing;
mod pod;
mod replica_set_sync;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

pub use self::autoscaler_sync::{AutoscalerStep, AutoscalingConfig, reading_text};
use self::placing::{Changes, Placing};
pub(super) use self::pod::Pod;
use self::pod::is_available;
pub use self::pod::{OomKill, PodCounts, PodRecord};
use super::Runtime;
use super::deployment::{DeploymentStatus, Progress};
use super::feed::{EndpointWatch, Queue, Snapshot};
use super::objects::{Deployment, Node, PodTemplate, Service};
use super::scheduler::Rules;
use crate::engine::{Datum, Delay, EventId, EventLog, Sim, Stream, Streams};
use crate::units::SimTime;

/// The timings of a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// From a change to the controller that acts on it.
    pub hop: Delay,
    /// From a pod's creation to its binding.
    pub schedule: Delay,
    /// From the binding to running containers, if the image is there.
    pub pod_start: Delay,
    /// Added once per node and image.
    pub image_pull: Delay,
    /// From a pod's state to the consumers of its Service's endpoints.
    pub endpoint_propagation: Delay,
    /// From the last container's end to the end of the pod's network: until then its closed ports answer with RST.
    pub sandbox_removal: Delay,
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
    pub(super) runtime: Rc<dyn Runtime>,
    /// What may help pods that wait for a node.
    pub(super) changes: Changes,
    pub(super) state: RefCell<State>,
    pub(super) autoscaling: RefCell<autoscaler_sync::Autoscaling>,
}

pub(super) struct State {
    deployments: BTreeMap<Rc<str>, DeploymentState>,
    sets: BTreeMap<u64, ReplicaSet>,
    pub(super) pods: BTreeMap<u64, Pod>,
    records: Vec<PodRecord>,
    pub(super) placing: Placing,
    services: BTreeMap<Rc<str>, ServiceState>,
    queued: BTreeSet<Work>,
    /// When each image was, or will be, on a node.
    pub(super) images: BTreeMap<(Rc<str>, String), SimTime>,
    rollouts: Vec<Rollout>,
    set_next: u64,
    pod_next: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Work {
    Deployment(Rc<str>),
    Set(u64),
}

struct DeploymentState {
    spec: Deployment,
    template: Rc<PodTemplate>,
    status: DeploymentStatus,
    progress: Option<Progress>,
    /// The last event that concerns it: the cause of the next step.
    because: Option<EventId>,
    /// The index of the rollout under way.
    rollout: Option<usize>,
    /// The newest revision.
    revision: i64,
    /// A look at the progress deadline is due at some time.
    has_recheck: bool,
    /// Pods made so far, of all revisions.
    pods_made: u64,
    /// How long its controllers take to react.
    hops: Stream,
}

struct ReplicaSet {
    name: Rc<str>,
    owner: Rc<str>,
    template: Rc<PodTemplate>,
    replicas: i32,
    desired_annotation: Option<i32>,
    max_annotation: Option<i32>,
    revision: i64,
    because: Option<EventId>,
}

/// One rollout of one Deployment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rollout {
    /// The Deployment, as `namespace/name`.
    pub object: Rc<str>,
    /// The revision rolled out.
    pub revision: i64,
    /// When its set was made.
    pub started_at: SimTime,
    /// When every wanted pod was of this revision and available.
    pub ended_at: Option<SimTime>,
    /// Most pods at one time, those being deleted left out.
    pub pods_max: usize,
    /// Fewest ready pods at one time, those being deleted left out.
    pub ready_min: usize,
}

struct ServiceState {
    spec: Service,
    consumers: Vec<(Rc<str>, Rc<RefCell<Queue>>)>,
    snapshot: Snapshot,
    change: u64,
}

impl Cluster {
    /// A cluster with nodes and nothing on them.
    #[must_use]
    pub fn new(
        sim: &Sim,
        streams: Streams,
        log: Rc<RefCell<EventLog>>,
        config: ClusterConfig,
        runtime: Rc<dyn Runtime>,
    ) -> Self {
        let state = State {
            deployments: BTreeMap::new(),
            sets: BTreeMap::new(),
            pods: BTreeMap::new(),
            records: Vec::new(),
            placing: Placing::new(&config.nodes, Rules::of_version(28), streams),
            services: BTreeMap::new(),
            queued: BTreeSet::new(),
            images: BTreeMap::new(),
            rollouts: Vec::new(),
            set_next: 0,
            pod_next: 0,
        };
        let (sim, changes, state) = (sim.clone(), Changes::default(), RefCell::new(state));
        let autoscaling = RefCell::default();
        let inner = Inner { sim, streams, log, config, runtime, changes, state, autoscaling };
        Self { inner: Rc::new(inner) }
    }

    /// Creates a Deployment, or replaces it: another template is another revision.
    pub fn apply_deployment(&self, spec: Deployment, because: Option<EventId>) {
        let key = Rc::clone(&spec.key);
        {
            let mut state = self.inner.state.borrow_mut();
            let template = Rc::new(spec.template.clone());
            match state.deployments.get_mut(&key) {
                Some(known) => {
                    known.spec = spec;
                    known.template = template;
                    known.because = because;
                }
                None => {
                    let fresh = DeploymentState {
                        spec,
                        template,
                        status: DeploymentStatus::default(),
                        progress: None,
                        because,
                        rollout: None,
                        revision: 0,
                        has_recheck: false,
                        pods_made: 0,
                        hops: self.inner.streams.stream("controller-hop", &key),
                    };
                    state.deployments.insert(Rc::clone(&key), fresh);
                }
            }
        }
        self.enqueue(Work::Deployment(key));
    }

    /// A Deployment as it stands.
    #[must_use]
    pub fn deployment(&self, key: &str) -> Option<Deployment> {
        self.inner.state.borrow().deployments.get(key).map(|known| known.spec.clone())
    }

    /// Starts all pods anew, as `kubectl rollout restart` does: an annotation of the template changes.
    pub fn restart(&self, key: &str, because: Option<EventId>) {
        if let Some(mut spec) = self.deployment(key) {
            let now = self.inner.sim.now().to_string();
            spec.template.annotations.insert("kubectl.kubernetes.io/restartedAt".to_owned(), now);
            self.apply_deployment(spec, because);
        }
    }

    /// Wants another number of pods.
    pub fn scale(&self, key: &str, replicas: i32, because: Option<EventId>) {
        if let Some(mut spec) = self.deployment(key) {
            spec.replicas = replicas;
            self.apply_deployment(spec, because);
        }
    }

    /// Creates a Service, or replaces it; who watches it goes on doing so.
    pub fn apply_service(&self, spec: Service) {
        {
            let mut state = self.inner.state.borrow_mut();
            match state.services.get_mut(&spec.key) {
                Some(known) => known.spec = spec,
                None => {
                    let key = Rc::clone(&spec.key);
                    let fresh = ServiceState { spec, consumers: Vec::new(), snapshot: Rc::from([]), change: 0 };
                    state.services.insert(key, fresh);
                }
            }
        }
        self.publish_endpoints(None);
    }

    /// Watches a Service's endpoints on behalf of `consumer`; none if there is no such Service.
    #[must_use]
    pub fn watch_endpoints(&self, service: &str, consumer: &str) -> Option<EndpointWatch> {
        let queue = Rc::new(RefCell::new(Queue::default()));
        let mut state = self.inner.state.borrow_mut();
        let service = state.services.get_mut(service)?;
        service.consumers.push((Rc::from(consumer), Rc::clone(&queue)));
        queue.borrow_mut().push(self.inner.sim.now(), Rc::clone(&service.snapshot));
        Some(EndpointWatch::new(&self.inner.sim, queue))
    }

    /// Gives the living pods of a Deployment, in the order of their creation, the annotation
    /// `controller.kubernetes.io/pod-deletion-cost`: the cheaper goes first.
    pub fn set_deletion_costs(&self, owner: &str, costs: &[i32]) {
        let mut state = self.inner.state.borrow_mut();
        let pods = state.pods.values_mut().filter(|pod| &*pod.owner == owner && pod.is_active());
        for (pod, cost) in pods.zip(costs) {
            pod.deletion_cost = *cost;
        }
    }

    /// The pods of a Deployment by state.
    #[must_use]
    pub fn counts(&self, owner: &str) -> PodCounts {
        let now = self.inner.sim.now();
        let state = self.inner.state.borrow();
        let min_ready = state.deployments.get(owner).map_or(0, |known| known.spec.min_ready_seconds);
        let mut counts = PodCounts::default();
        for pod in state.pods.values().filter(|pod| &*pod.owner == owner) {
            if pod.is_active() {
                counts.active += 1;
                counts.ready += usize::from(pod.is_ready);
                counts.available += usize::from(is_available(pod, min_ready, now));
            } else {
                counts.terminating += 1;
            }
        }
        counts
    }

    /// Whether a Deployment has all its pods, of the newest revision and available, and no other.
    #[must_use]
    pub fn is_settled(&self, owner: &str) -> bool {
        let state = self.inner.state.borrow();
        let complete =
            |known: &DeploymentState| known.status.is_complete(known.spec.replicas) && known.rollout.is_none();
        state.deployments.get(owner).is_some_and(complete)
            && !state.pods.values().any(|pod| &*pod.owner == owner && pod.is_deleting())
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

    /// All rollouts, in the order of their start.
    #[must_use]
    pub fn rollouts(&self) -> Vec<Rollout> {
        self.inner.state.borrow().rollouts.clone()
    }

    /// Whether what happens now is the making of the world that the run finds.
    pub(super) fn stands(&self) -> bool {
        self.inner.config.stands_at_zero && self.inner.sim.now() == SimTime::ZERO
    }

    /// The life of the pod that has, or had, this address.
    #[must_use]
    pub fn pod_at(&self, ip: Ipv4Addr) -> Option<PodRecord> {
        let state = self.inner.state.borrow();
        let living = state.pods.values().map(|pod| &pod.record);
        living.chain(&state.records).find(|record| record.ip == Some(ip)).cloned()
    }

    /// What the pod at an address is made from, while there is one.
    #[must_use]
    pub fn template_at(&self, ip: Ipv4Addr) -> Option<Rc<PodTemplate>> {
        let state = self.inner.state.borrow();
        let pod = state.pods.values().find(|pod| pod.ip == Some(ip));
        pod.map(|pod| Rc::clone(&pod.template))
    }

    /// Asks for a sync, a hop from now; one that is asked for already is not asked for twice.
    fn enqueue(&self, work: Work) {
        let hop = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let owner = match &work {
                Work::Deployment(key) => key,
                Work::Set(id) => match state.sets.get(id) {
                    Some(set) => &set.owner,
                    None => return,
                },
            };
            let Some(known) = state.deployments.get_mut(owner) else { return };
            if !state.queued.insert(work.clone()) {
                return;
            }
            let hop = self.inner.config.hop.draw(&mut known.hops);
            if self.stands() { Duration::ZERO } else { hop }
        };
        let this = self.clone();
        self.inner.sim.spawn("controller", async move {
            this.inner.sim.sleep(hop).await;
            this.inner.state.borrow_mut().queued.remove(&work);
            match work {
                Work::Deployment(key) => this.sync_deployment(&key),
                Work::Set(id) => this.sync_set(id),
            }
        });
    }

    /// Asks for a sync after a delay, as if something had changed then.
    fn enqueue_after(&self, work: Work, delay: Duration) {
        let this = self.clone();
        self.inner.sim.spawn("controller", async move {
            this.inner.sim.sleep(delay).await;
            this.enqueue(work);
        });
    }

    pub(super) fn tell(
        &self,
        because: Option<EventId>,
        kind: &'static str,
        object: String,
        data: Vec<(&'static str, Datum)>,
    ) -> EventId {
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
