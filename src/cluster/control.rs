//! The object store and the controllers of Deployments, `ReplicaSet`s and endpoints.
//!
//! A change asks for a sync of the objects it concerns; the sync comes a hop later (watch and work queue), and an object that is asked
//! for again before that is synced once. So a rollout moves as the real one does: the deployment sizes a set, the set makes
//! or deletes pods, their state changes the set's status, and that brings the next step.
//!
//! Invariant, checked at every step of a rolling update: the sizes asked for never exceed replicas + surge.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/{deployment,replicaset}, staging/src/k8s.io/endpointslice.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::deployment::{
    DeploymentStatus, PodPhase, Progress, ProgressReason, ReplicaSetView, Strategy, excess_history, next_new_size,
    next_progress, old_pods_run, recheck_after, reconcile_new, reconcile_old, scale_in_proportion,
};
use super::endpoints::{EndpointPod, TerminatingPods, selects};
use super::feed::{EndpointView, EndpointWatch, Queue, Snapshot};
use super::notice::Notice;
use super::objects::{Deployment, Node, PodTemplate, Service};
use super::replica_set::{AgeScale, Candidate, choose_to_delete};
use super::scheduler::{PlacedPod, choose_node};
use super::{Runtime, node_agent};
use crate::engine::{Datum, Delay, EventId, EventLog, Signal, Sim, Stream, Streams};
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
    /// A pod has left the cluster: there may be room for one that waits.
    pub(super) room: Rc<Notice>,
    pub(super) state: RefCell<State>,
}

pub(super) struct State {
    deployments: BTreeMap<Rc<str>, DeploymentState>,
    sets: BTreeMap<u64, ReplicaSet>,
    pub(super) pods: BTreeMap<u64, Pod>,
    records: Vec<PodRecord>,
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

/// A pod as the control plane has it.
pub(super) struct Pod {
    pub(super) record: PodRecord,
    pub(super) set: u64,
    pub(super) owner: Rc<str>,
    pub(super) template: Rc<PodTemplate>,
    pub(super) node_index: Option<usize>,
    pub(super) ip: Option<Ipv4Addr>,
    pub(super) phase: PodPhase,
    pub(super) is_ready: bool,
    pub(super) ready_since: Option<SimTime>,
    pub(super) restarts: u32,
    /// Which pod of its Deployment it is, as `namespace/name/ordinal`: the name of its random streams. Its draws are the same in a run
    /// whose other Deployments differ.
    pub(super) identity: Rc<str>,
    deletion_cost: i32,
    uid: String,
    /// Raised when the pod is deleted, with the grace in seconds.
    pub(super) deletion: Signal,
    pub(super) deleted_because: Option<EventId>,
    /// The last event of this pod.
    pub(super) last_event: EventId,
}

impl Pod {
    pub(super) fn is_deleting(&self) -> bool {
        self.deletion.is_raised()
    }

    fn is_active(&self) -> bool {
        !self.is_deleting() && !self.phase.is_over()
    }
}

/// The life of a pod: when it came to each of its states, if it did.
#[derive(Clone, Debug)]
pub struct PodRecord {
    /// Its name.
    pub name: Rc<str>,
    /// Its namespace.
    pub namespace: Rc<str>,
    /// The Deployment it belongs to, as `namespace/name`.
    pub owner: Rc<str>,
    /// The revision of its template.
    pub revision: i64,
    /// Its node.
    pub node: Option<Rc<str>>,
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// Created.
    pub created_at: SimTime,
    /// Bound to a node.
    pub scheduled_at: Option<SimTime>,
    /// Containers running.
    pub started_at: Option<SimTime>,
    /// Ready for the first time.
    pub ready_at: Option<SimTime>,
    /// Its deletion was asked for.
    pub terminating_at: Option<SimTime>,
    /// SIGTERM.
    pub sigterm_at: Option<SimTime>,
    /// The containers had ended.
    pub exited_at: Option<SimTime>,
    /// The object was gone.
    pub gone_at: Option<SimTime>,
    /// Why the containers ended.
    pub exit_reason: Option<&'static str>,
    /// The event of that end.
    pub exit_event: Option<EventId>,
    /// The event of its SIGTERM.
    pub sigterm_event: Option<EventId>,
}

/// How many pods of a Deployment are in which state.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PodCounts {
    /// Pods that are not being deleted.
    pub active: usize,
    /// Those of them that are ready.
    pub ready: usize,
    /// Those of them that have been ready for long enough.
    pub available: usize,
    /// Pods that are being deleted.
    pub terminating: usize,
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
            services: BTreeMap::new(),
            queued: BTreeSet::new(),
            images: BTreeMap::new(),
            rollouts: Vec::new(),
            set_next: 0,
            pod_next: 0,
        };
        let inner =
            Inner { sim: sim.clone(), streams, log, config, runtime, room: Rc::default(), state: RefCell::new(state) };
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

    /// One sync of a Deployment: at most one step.
    fn sync_deployment(&self, key: &Rc<str>) {
        let now = self.inner.sim.now();
        self.renew_revision(key);
        let Some(view) = self.view(key) else { return };
        let View { desired, strategy, old_ids, old, new_id, new, .. } = view;
        let has_resize = old
            .iter()
            .chain(&new)
            .any(|set| set.replicas > 0 && set.desired_annotation.is_some_and(|annotated| annotated != desired));
        if has_resize {
            let status_replicas = old.iter().chain(&new).map(|set| set.status_replicas).sum();
            let (new_size, old_sizes) = scale_in_proportion(strategy, desired, status_replicas, new.as_ref(), &old);
            for (id, size) in old_ids.iter().zip(old_sizes) {
                self.resize(*id, size, true);
            }
            if let (Some(id), Some(size)) = (new_id, new_size) {
                self.resize(id, size, true);
            }
        } else {
            match (new_id, &new, strategy) {
                (None, _, Strategy::Recreate) if self.must_wait_for_old(&old_ids, &old) => {}
                (None, _, _) => self.create_set(key, desired, strategy, &old),
                (Some(id), Some(_), Strategy::Recreate) => {
                    if !self.must_wait_for_old(&old_ids, &old) {
                        self.resize(id, desired, false);
                    }
                }
                (Some(id), Some(new_set), Strategy::RollingUpdate { .. }) => {
                    let next = reconcile_new(strategy, desired, new_set, &old);
                    if next == new_set.replicas {
                        let sizes = reconcile_old(strategy, desired, new_set, &old);
                        for (id, size) in old_ids.iter().zip(sizes) {
                            self.resize(*id, size, false);
                        }
                    } else {
                        self.resize(id, next, false);
                    }
                }
                (Some(_), None, _) => unreachable!("a set that has an id has a view"),
            }
        }
        self.update_status(key, now);
    }

    /// A Recreate scales all old sets down, and then waits until their pods have ended.
    fn must_wait_for_old(&self, old_ids: &[u64], old: &[ReplicaSetView]) -> bool {
        let mut has_scaled = false;
        for (id, set) in old_ids.iter().zip(old) {
            if set.replicas > 0 {
                self.resize(*id, 0, false);
                has_scaled = true;
            }
        }
        let state = self.inner.state.borrow();
        let phases = state.pods.values().filter(|pod| old_ids.contains(&pod.set)).map(|pod| pod.phase);
        has_scaled || old_pods_run(old, phases)
    }

    fn view(&self, key: &Rc<str>) -> Option<View> {
        let state = self.inner.state.borrow();
        let known = state.deployments.get(key)?;
        let now = self.inner.sim.now();
        let mut view = View {
            desired: known.spec.replicas,
            strategy: known.spec.strategy,
            old_ids: Vec::new(),
            old: Vec::new(),
            new_id: None,
            new: None,
        };
        for (id, set) in state.sets.iter().filter(|(_, set)| set.owner == *key) {
            let seen = state.view_of(*id, set, known.spec.min_ready_seconds, now);
            if view.new.is_none() && set.template == known.template {
                (view.new_id, view.new) = (Some(*id), Some(seen));
            } else {
                view.old_ids.push(*id);
                view.old.push(seen);
            }
        }
        Some(view)
    }

    /// An undo: the template is that of an older set, which is the newest revision from now on.
    fn renew_revision(&self, key: &Rc<str>) {
        let renewed = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(known) = state.deployments.get_mut(key) else { return };
            let same = |set: &&mut ReplicaSet| set.owner == *key && set.template == known.template;
            let Some(set) = state.sets.values_mut().find(same) else { return };
            if set.revision == known.revision {
                return;
            }
            known.revision += 1;
            set.revision = known.revision;
            (known.revision, known.because)
        };
        let event = self.begin_rollout(key, renewed.0, renewed.1);
        if let Some(known) = self.inner.state.borrow_mut().deployments.get_mut(key) {
            known.because = Some(event);
        }
    }

    /// A revision takes the place of another. A rollout that is under way ends incomplete.
    fn begin_rollout(&self, key: &Rc<str>, revision: i64, because: Option<EventId>) -> EventId {
        let data = vec![("revision", revision.into())];
        let event = self.tell(because, "rollout_started", format!("Deployment/{key}"), data);
        let mut state = self.inner.state.borrow_mut();
        let index = state.rollouts.len();
        state.rollouts.push(Rollout {
            object: Rc::clone(key),
            revision,
            started_at: self.inner.sim.now(),
            ended_at: None,
            pods_max: 0,
            ready_min: usize::MAX,
        });
        if let Some(known) = state.deployments.get_mut(key) {
            known.rollout = Some(index);
        }
        drop(state);
        self.note_counts(key);
        event
    }

    /// Makes the set of a new revision, with its first size.
    fn create_set(&self, key: &Rc<str>, desired: i32, strategy: Strategy, old: &[ReplicaSetView]) {
        let total = old.iter().map(|set| set.replicas).sum();
        let size = next_new_size(strategy, desired, 0, total);
        let (revision, because) = {
            let mut state = self.inner.state.borrow_mut();
            let known = state.deployments.get_mut(key).expect("the deployment has just been seen");
            known.revision += 1;
            known.progress = Some(Progress { reason: ProgressReason::Other, updated_at: self.inner.sim.now() });
            (known.revision, known.because)
        };
        let cause = if old.is_empty() { because } else { Some(self.begin_rollout(key, revision, because)) };
        let (namespace, plain) = key.split_once('/').unwrap_or(("", key));
        let mut names = self.inner.streams.stream("set-name", &format!("{key}/{revision}"));
        let name: Rc<str> = Rc::from(format!("{plain}-{}", suffix(&mut names, 10)));
        let object = format!("ReplicaSet/{namespace}/{name}");
        let event = self.tell(cause, "replicaset_created", object, vec![("revision", revision.into())]);
        let id = {
            let mut state = self.inner.state.borrow_mut();
            let id = state.set_next;
            state.set_next += 1;
            let known = state.deployments.get_mut(key).expect("the deployment has just been seen");
            known.because = Some(event);
            let set = ReplicaSet {
                name,
                owner: Rc::clone(key),
                template: Rc::clone(&known.template),
                replicas: 0,
                desired_annotation: None,
                max_annotation: None,
                revision,
                because: Some(event),
            };
            state.sets.insert(id, set);
            id
        };
        self.resize(id, size, false);
        // The new object is a change that the controller sees in turn.
        self.enqueue(Work::Deployment(Rc::clone(key)));
    }

    /// Asks for another size of a set. In a resize of the deployment every set gets the annotations, whatever its size.
    fn resize(&self, id: u64, size: i32, annotates: bool) {
        let change = {
            let mut state = self.inner.state.borrow_mut();
            let Some(set) = state.sets.get(&id) else { return };
            let known = &state.deployments[&set.owner];
            let desired = known.spec.replicas;
            let max = desired + known.spec.strategy.max_surge(desired);
            let because = known.because;
            let owner = Rc::clone(&set.owner);
            let Some(set) = state.sets.get_mut(&id) else { return };
            let from = set.replicas;
            if from == size && !annotates && set.desired_annotation.is_some() {
                return;
            }
            set.replicas = size;
            set.desired_annotation = Some(desired);
            set.max_annotation = Some(max);
            let is_rolling = matches!(state.deployments[&owner].spec.strategy, Strategy::RollingUpdate { .. });
            let total: i32 = state.sets.values().filter(|set| set.owner == owner).map(|set| set.replicas).sum();
            assert!(
                !is_rolling || size <= from || total <= max,
                "a step of {owner} exceeds its surge: {total} of {max}"
            );
            let set = &state.sets[&id];
            let namespace = owner.split('/').next().unwrap_or_default();
            (from != size).then(|| (format!("ReplicaSet/{namespace}/{}", set.name), set.revision, from, because))
        };
        if let Some((object, revision, from, because)) = change {
            let data =
                vec![("revision", revision.into()), ("from", i64::from(from).into()), ("to", i64::from(size).into())];
            let event = self.tell(because, "replicaset_scaled", object, data);
            if let Some(set) = self.inner.state.borrow_mut().sets.get_mut(&id) {
                set.because = Some(event);
            }
        }
        // New annotations alone are a change, too: the deployment looks again.
        self.enqueue(Work::Set(id));
    }

    fn update_status(&self, key: &Rc<str>, now: SimTime) {
        let Some(view) = self.view(key) else { return };
        let status = DeploymentStatus::of(view.new.as_ref(), &view.old);
        let mut guard = self.inner.state.borrow_mut();
        let state = &mut *guard;
        let Some(known) = state.deployments.get_mut(key) else { return };
        let deadline = known.spec.progress_deadline_seconds;
        let was_stuck = is_stuck(known.progress);
        known.progress = next_progress(known.progress, deadline, view.desired, &known.status, &status, now);
        known.status = status;
        let because = known.because;
        if !status.is_complete(view.desired) {
            let becomes_stuck = is_stuck(known.progress) && !was_stuck;
            let wait = recheck_after(known.progress, deadline, view.desired, &status, now);
            let recheck = wait.filter(|_| !known.has_recheck);
            known.has_recheck |= recheck.is_some();
            drop(guard);
            if becomes_stuck {
                let data = vec![("reason", "ProgressDeadlineExceeded".into())];
                self.tell(because, "rollout_stuck", format!("Deployment/{key}"), data);
            }
            if let Some(wait) = recheck {
                self.recheck_later(key, wait + Duration::from_secs(1));
            }
            return;
        }
        let excess: Vec<u64> = excess_history(&view.old, known.spec.revision_history_limit)
            .into_iter()
            .map(|index| view.old_ids[index])
            .collect();
        let ended = known.rollout.take();
        state.sets.retain(|id, _| !excess.contains(id));
        if let Some(index) = ended {
            let rollout = &mut state.rollouts[index];
            rollout.ended_at = Some(now);
            let data = vec![("revision", rollout.revision.into())];
            self.tell(because, "rollout_completed", format!("Deployment/{key}"), data);
        }
    }

    /// Looks at the progress deadline again, once for all who ask until then.
    fn recheck_later(&self, key: &Rc<str>, delay: Duration) {
        let (this, key) = (self.clone(), Rc::clone(key));
        self.inner.sim.spawn("progress-deadline", async move {
            this.inner.sim.sleep(delay).await;
            if let Some(known) = this.inner.state.borrow_mut().deployments.get_mut(&key) {
                known.has_recheck = false;
            }
            this.enqueue(Work::Deployment(key));
        });
    }

    /// One sync of a set: makes pods or deletes some.
    fn sync_set(&self, id: u64) {
        let now = self.inner.sim.now();
        let (owner, diff, because) = {
            let state = self.inner.state.borrow();
            let Some(set) = state.sets.get(&id) else { return };
            let active = state.pods.values().filter(|pod| pod.set == id && pod.is_active()).count();
            let active = i32::try_from(active).expect("fewer pods than 2^31");
            (Rc::clone(&set.owner), active - set.replicas, set.because)
        };
        if diff < 0 {
            for _ in 0..-diff {
                self.create_pod(id, because);
            }
        } else if diff > 0 {
            for pod in self.victims(id, &owner, usize::try_from(diff).unwrap_or(0), now) {
                self.delete_pod(pod, because);
            }
        }
        self.note_counts(&owner);
        self.enqueue(Work::Deployment(owner));
    }

    fn victims(&self, id: u64, owner: &Rc<str>, count: usize, now: SimTime) -> Vec<u64> {
        let state = self.inner.state.borrow();
        let own: Vec<(u64, &Pod)> =
            state.pods.iter().filter(|(_, pod)| pod.set == id && pod.is_active()).map(|(id, pod)| (*id, pod)).collect();
        let rank = |node: Option<usize>| {
            let peers = state.pods.values().filter(|pod| pod.owner == *owner && pod.is_active());
            peers.filter(|pod| pod.node_index == node).count()
        };
        let candidates: Vec<Candidate> = own
            .iter()
            .map(|(_, pod)| Candidate {
                is_assigned: pod.node_index.is_some(),
                phase: pod.phase,
                is_ready: pod.is_ready,
                deletion_cost: pod.deletion_cost,
                rank: rank(pod.node_index),
                ready_since: pod.ready_since,
                restarts: pod.restarts,
                created_at: Some(pod.record.created_at),
                uid: pod.uid.clone(),
            })
            .collect();
        choose_to_delete(&candidates, count, AgeScale::Logarithmic, now).into_iter().map(|index| own[index].0).collect()
    }

    fn create_pod(&self, set_id: u64, because: Option<EventId>) {
        let id = {
            let mut state = self.inner.state.borrow_mut();
            let id = state.pod_next;
            state.pod_next += 1;
            let owner = Rc::clone(&state.sets[&set_id].owner);
            let known = state.deployments.get_mut(&owner).expect("a set has its deployment");
            let identity: Rc<str> = Rc::from(format!("{owner}/{}", known.pods_made));
            known.pods_made += 1;
            let set = &state.sets[&set_id];
            let mut names = self.inner.streams.stream("pod-name", &identity);
            let name: Rc<str> = Rc::from(format!("{}-{}", set.name, suffix(&mut names, 5)));
            let namespace: Rc<str> = Rc::from(set.owner.split('/').next().unwrap_or_default());
            let object = format!("Pod/{namespace}/{name}");
            let record = PodRecord {
                name,
                namespace,
                owner: Rc::clone(&set.owner),
                revision: set.revision,
                node: None,
                ip: None,
                created_at: self.inner.sim.now(),
                scheduled_at: None,
                started_at: None,
                ready_at: None,
                terminating_at: None,
                sigterm_at: None,
                exited_at: None,
                gone_at: None,
                exit_reason: None,
                exit_event: None,
                sigterm_event: None,
            };
            let event = self.tell(because, "pod_created", object, vec![("revision", set.revision.into())]);
            let pod = Pod {
                record,
                set: set_id,
                owner: Rc::clone(&set.owner),
                template: Rc::clone(&set.template),
                node_index: None,
                ip: None,
                phase: PodPhase::Pending,
                is_ready: false,
                ready_since: None,
                restarts: 0,
                identity,
                deletion_cost: 0,
                uid: format!("{:016x}", names.bits()),
                deletion: Signal::default(),
                deleted_because: None,
                last_event: event,
            };
            state.pods.insert(id, pod);
            id
        };
        node_agent::live(self, id);
    }

    /// Asks for a pod's deletion: from now on nobody counts it.
    fn delete_pod(&self, id: u64, because: Option<EventId>) {
        let deletion = {
            let mut state = self.inner.state.borrow_mut();
            let Some(pod) = state.pods.get_mut(&id) else { return };
            if pod.is_deleting() {
                return;
            }
            pod.record.terminating_at = Some(self.inner.sim.now());
            let object = format!("Pod/{}/{}", pod.record.namespace, pod.record.name);
            let data = vec![("grace_s", i64::from(pod.template.grace_seconds).into())];
            let event = self.tell(because, "pod_terminating", object, data);
            pod.deleted_because = Some(event);
            pod.last_event = event;
            pod.deletion.clone()
        };
        deletion.raise();
        self.publish_endpoints(None);
    }

    /// A pod's state has changed: its set's status, and its endpoints, with it.
    pub(super) fn pod_changed(&self, id: u64) {
        let (owner, set) = {
            let mut state = self.inner.state.borrow_mut();
            let Some(pod) = state.pods.get(&id) else { return };
            let set = pod.set;
            let (owner, event, since) = (Rc::clone(&pod.owner), pod.last_event, pod.ready_since);
            let is_ready = pod.is_ready;
            let known = state.deployments.get_mut(&owner);
            let min_ready = known.map_or(0, |known| {
                known.because = Some(event);
                known.spec.min_ready_seconds
            });
            if is_ready && min_ready > 0 && since == Some(self.inner.sim.now()) {
                // Available strictly later than that; the set looks again by itself.
                let wait = Duration::from_secs(min_ready.into()) + Duration::from_nanos(1);
                self.enqueue_after(Work::Set(set), wait);
            }
            (owner, set)
        };
        self.note_counts(&owner);
        self.publish_endpoints(None);
        self.enqueue(Work::Set(set));
    }

    /// A pod is gone: its object, its resources, its endpoint.
    pub(super) fn pod_gone(&self, id: u64) {
        let Some(mut pod) = self.inner.state.borrow_mut().pods.remove(&id) else { return };
        pod.record.gone_at = Some(self.inner.sim.now());
        let object = format!("Pod/{}/{}", pod.record.namespace, pod.record.name);
        let event = self.tell(Some(pod.last_event), "pod_gone", object, Vec::new());
        {
            let mut state = self.inner.state.borrow_mut();
            let known = state.deployments.get_mut(&pod.owner);
            // No step of a rolling update waits for an end.
            if let Some(known) = known.filter(|known| known.spec.strategy == Strategy::Recreate) {
                known.because = Some(event);
            }
            state.records.push(pod.record);
        }
        self.inner.room.raise();
        self.publish_endpoints(Some(event));
        self.enqueue(Work::Set(pod.set));
    }

    /// A node for a pod, or none now.
    pub(super) fn place(&self, id: u64) -> Option<usize> {
        let mut state = self.inner.state.borrow_mut();
        let placed = state.pods.values().filter_map(|pod| {
            let node_index = pod.node_index?;
            let template = Rc::clone(&pod.template);
            Some(PlacedPod { node_index, template, set: pod.set, is_terminating: pod.is_deleting() })
        });
        let placed: Vec<PlacedPod> = placed.collect();
        let pod = state.pods.get(&id)?;
        let mut ties = self.inner.streams.stream("scheduler", &pod.identity);
        let index = choose_node(&self.inner.config.nodes, &placed, &pod.template, pod.set, &mut ties)?;
        let pod = state.pods.get_mut(&id)?;
        pod.node_index = Some(index);
        Some(index)
    }

    fn note_counts(&self, owner: &Rc<str>) {
        let counts = self.counts(owner);
        let mut state = self.inner.state.borrow_mut();
        let index = state.deployments.get(owner).and_then(|known| known.rollout);
        if let Some(index) = index {
            let rollout = &mut state.rollouts[index];
            rollout.pods_max = rollout.pods_max.max(counts.active);
            rollout.ready_min = rollout.ready_min.min(counts.ready);
        }
    }

    /// Works out all endpoints anew and tells the consumers of those that changed; `left` is the event that took endpoints away.
    pub(super) fn publish_endpoints(&self, left: Option<EventId>) {
        let now = self.inner.sim.now();
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        for service in state.services.values_mut() {
            let former: BTreeMap<Ipv4Addr, &EndpointView> =
                service.snapshot.iter().map(|endpoint| (endpoint.ip, endpoint)).collect();
            let mut changed = Vec::new();
            let mut endpoints: Vec<EndpointView> = Vec::new();
            for pod in state.pods.values() {
                if !selects(&service.spec.selector, &pod.template.labels) {
                    continue;
                }
                let Some(mut endpoint) = endpoint_of(pod, service.spec.publish_not_ready) else { continue };
                match former.get(&endpoint.ip) {
                    // Whatever else has happened to the pod, its endpoint is as it was.
                    Some(known) if known.is_alike(&endpoint) => endpoint.because = known.because,
                    _ => changed.push(endpoint.clone()),
                }
                endpoints.push(endpoint);
            }
            let stays: BTreeSet<Ipv4Addr> = endpoints.iter().map(|endpoint| endpoint.ip).collect();
            let gone: Vec<EndpointView> =
                service.snapshot.iter().filter(|endpoint| !stays.contains(&endpoint.ip)).cloned().collect();
            if changed.is_empty() && gone.is_empty() {
                continue;
            }
            let object = format!("Service/{}", service.spec.key);
            let mut log = self.inner.log.borrow_mut();
            for endpoint in &changed {
                let states = (endpoint.ready, endpoint.serving, endpoint.terminating);
                log.record(
                    now,
                    endpoint.because,
                    "endpoint",
                    object.as_str(),
                    endpoint_data(endpoint.ip, states, false),
                );
            }
            for endpoint in &gone {
                let because = left.or(endpoint.because);
                let states = (false, false, endpoint.terminating);
                log.record(now, because, "endpoint", object.as_str(), endpoint_data(endpoint.ip, states, true));
            }
            drop(log);
            service.snapshot = Rc::from(endpoints);
            service.change += 1;
            for (consumer, queue) in &service.consumers {
                let purpose = format!("{}/{consumer}/{}", service.spec.key, service.change);
                let drawn =
                    self.inner.config.endpoint_propagation.draw(&mut self.inner.streams.stream("endpoint", &purpose));
                let delay = if self.stands() { Duration::ZERO } else { drawn };
                queue.borrow_mut().push(now.after(delay), Rc::clone(&service.snapshot));
            }
        }
    }
}

impl State {
    fn view_of(&self, id: u64, set: &ReplicaSet, min_ready: u32, now: SimTime) -> ReplicaSetView {
        let mut view = ReplicaSetView {
            replicas: set.replicas,
            created: i64::try_from(id).unwrap_or(i64::MAX),
            desired_annotation: set.desired_annotation,
            max_annotation: set.max_annotation,
            revision: Some(set.revision),
            ..ReplicaSetView::default()
        };
        for pod in self.pods.values().filter(|pod| pod.set == id && pod.is_active()) {
            view.status_replicas += 1;
            view.ready += i32::from(pod.is_ready);
            view.available += i32::from(is_available(pod, min_ready, now));
        }
        view
    }
}

/// A Deployment's sets as its rules see them.
struct View {
    desired: i32,
    strategy: Strategy,
    old_ids: Vec<u64>,
    old: Vec<ReplicaSetView>,
    new_id: Option<u64>,
    new: Option<ReplicaSetView>,
}

fn is_available(pod: &Pod, min_ready_seconds: u32, now: SimTime) -> bool {
    let min_ready = Duration::from_secs(min_ready_seconds.into());
    pod.is_ready && (min_ready.is_zero() || pod.ready_since.is_some_and(|since| since.after(min_ready) < now))
}

fn endpoint_of(pod: &Pod, publish_not_ready: bool) -> Option<EndpointView> {
    let facts = EndpointPod {
        has_ip: pod.ip.is_some(),
        finished: pod.phase.is_over(),
        ready: pod.is_ready,
        deleting: pod.is_deleting(),
    };
    let ip = pod.ip.filter(|_| facts.is_member(TerminatingPods::Include))?;
    let conditions = facts.conditions(publish_not_ready);
    Some(EndpointView {
        ip,
        pod: Rc::clone(&pod.record.name),
        node: pod.record.node.clone()?,
        ready: conditions.ready,
        serving: conditions.serving,
        terminating: conditions.terminating,
        because: Some(pod.last_event),
    })
}

/// What is told of an endpoint that is now (ready, serving, terminating), or has left.
fn endpoint_data(ip: Ipv4Addr, states: (bool, bool, bool), is_gone: bool) -> Vec<(&'static str, Datum)> {
    let mut data = vec![
        ("address", ip.to_string().into()),
        ("ready", states.0.into()),
        ("serving", states.1.into()),
        ("terminating", states.2.into()),
    ];
    if is_gone {
        data.push(("gone", true.into()));
    }
    data
}

fn is_stuck(progress: Option<Progress>) -> bool {
    progress.is_some_and(|progress| progress.reason == ProgressReason::ProgressDeadlineExceeded)
}

/// Letters and digits as Kubernetes uses them in generated names. Source: apimachinery/pkg/util/rand.
fn suffix(stream: &mut Stream, length: usize) -> String {
    const LETTERS: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..length).map(|_| char::from(LETTERS[usize::try_from(stream.below(27)).unwrap_or(0)])).collect()
}

#[cfg(test)]
mod tests;
