//! Pods as the control plane has them, and what follows when one of them changes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::time::Duration;

use super::{Caller, Cluster, Keeper, Kubelets, State, Work};
use crate::cluster::api_clock::ApiClock;
use crate::cluster::demands::Demands;
use crate::cluster::deployment::{PodPhase, Strategy};
use crate::cluster::notice::Notice;
use crate::cluster::objects::PodTemplate;
use crate::cluster::scheduler::Change;
use crate::engine::{Datum, EventId, Signal};
use crate::units::SimTime;

/// What a kubelet calls to write a status: it reads the pod, and patches it. Source: pkg/kubelet/status/status_manager.go `syncPod`.
pub(in crate::cluster) const STATUS_CALLS: u32 = 2;

/// A pod as the control plane has it.
pub(in crate::cluster) struct Pod {
    pub(in crate::cluster) record: PodRecord,
    pub(in crate::cluster) set: u64,
    pub(in crate::cluster) owner: Rc<str>,
    pub(in crate::cluster) keeper: Keeper,
    /// The node it is made for, by its index: it has an affinity to that name, and comes to no other.
    pub(in crate::cluster) only_on: Option<usize>,
    /// The node that its manifest names, past the scheduler.
    pub(in crate::cluster) node_name: Option<Rc<str>>,
    /// Why that node's kubelet does not take it, if it does not.
    pub(in crate::cluster) misfit: Option<Rc<str>>,
    pub(in crate::cluster) template: Rc<PodTemplate>,
    /// Its template has another image; only of a pod without a controller.
    pub(in crate::cluster) image_edits: Option<Rc<Notice>>,
    pub(in crate::cluster) node_index: Option<usize>,
    pub(in crate::cluster) ip: Option<Ipv4Addr>,
    /// The address that its sandbox has before any of its containers runs. Lists show it, and nobody is there to answer.
    pub(in crate::cluster) sandbox_ip: Option<Ipv4Addr>,
    pub(in crate::cluster) phase: PodPhase,
    /// What its kubelet finds: all its containers are ready.
    pub(in crate::cluster) are_containers_ready: bool,
    /// Its readiness gates whose conditions hold.
    pub(in crate::cluster) open_gates: BTreeSet<String>,
    /// Its condition `Ready`: its containers are, and every gate is open.
    pub(in crate::cluster) is_ready: bool,
    pub(in crate::cluster) ready_since: Option<SimTime>,
    /// When its container last started.
    pub(in crate::cluster) started_at: Option<SimTime>,
    pub(in crate::cluster) restarts: u32,
    /// When the run of its container before the present one ended.
    pub(in crate::cluster) last_exit: Option<SimTime>,
    /// Init containers, sidecars among them, that are behind it.
    pub(in crate::cluster) init_done: usize,
    /// Its containers that are ready, as its kubelet finds.
    pub(in crate::cluster) found_ready: usize,
    /// Its containers that are ready, as its status says.
    pub(in crate::cluster) shown_ready: usize,
    /// Why its container does not run, if there is more to say than that it is being made.
    pub(in crate::cluster) waiting: Option<&'static str>,
    /// Which pod of its Deployment it is, as `namespace/name/ordinal`: the name of its random streams. Its draws are the same in a run
    /// whose other Deployments differ.
    pub(in crate::cluster) identity: Rc<str>,
    pub(super) deletion_cost: i32,
    pub(super) uid: String,
    /// Raised when the pod is deleted.
    pub(in crate::cluster) deletion: Signal,
    /// How its end is asked for.
    pub(in crate::cluster) demands: Rc<Demands>,
    /// Raised when its kubelet ends it by itself.
    pub(in crate::cluster) evicted: Signal,
    /// Why, if for want of something; none if because its machine shuts down.
    pub(in crate::cluster) evicted_for: Option<KillCause>,
    /// Raised when its object is gone.
    pub(in crate::cluster) removed: Signal,
    /// The scheduler has found no node for it.
    pub(in crate::cluster) is_unschedulable: bool,
    /// The last event of this pod.
    pub(in crate::cluster) last_event: EventId,
}

impl Pod {
    pub(in crate::cluster) fn is_deleting(&self) -> bool {
        self.deletion.is_raised()
    }

    /// How many containers it has while it runs: its own, and its sidecars.
    pub(super) fn containers(&self) -> usize {
        let sidecars = self.template.init.iter().filter(|init| init.sidecar.is_some()).count();
        self.template.containers.len().max(1) + sidecars
    }

    fn is_gated(&self) -> bool {
        self.template.readiness_gates.iter().any(|gate| !self.open_gates.contains(gate))
    }

    /// Its containers are ready and its gates open, whatever its status says yet.
    fn would_be_ready(&self) -> bool {
        self.are_containers_ready && !self.is_gated()
    }

    pub(super) fn is_active(&self) -> bool {
        !self.is_deleting() && !self.phase.is_over()
    }

    /// It has been ready for longer than that.
    pub(super) fn is_available(&self, clock: ApiClock, min_ready_seconds: u32, now: SimTime) -> bool {
        let since = self.ready_since.filter(|_| self.is_ready);
        since.is_some_and(|since| clock.is_available(since, min_ready_seconds, now))
    }
}

impl State {
    /// Whether a pod's kubelet and the API server do not hear each other.
    fn is_cut_off(&self, pod: &Pod) -> bool {
        pod.node_index.is_some_and(|index| self.nodes[index].missing_link().is_some())
    }
}

/// The life of a pod: when it came to each of its states, if it did.
#[derive(Clone, Debug)]
pub struct PodRecord {
    /// Its number: pods are counted from 0 in the order of their creation.
    pub id: u64,
    /// Its name.
    pub name: Rc<str>,
    /// Its namespace.
    pub namespace: Rc<str>,
    /// Both, as `namespace/name`: every request that reaches the pod is counted under it.
    pub key: Rc<str>,
    /// The Deployment it belongs to, as `namespace/name`; else its `DaemonSet`, as `namespace/daemonset/name`, or itself, as `namespace/pod/name`.
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
    /// Its end was asked for: its deletion, or its machine shuts down.
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
    /// The last time its process was killed though nobody had asked for the pod's end.
    pub killed: Option<Kill>,
}

impl PodRecord {
    /// Its container runs again.
    pub(in crate::cluster) fn note_restart(&mut self, now: SimTime) {
        self.exited_at = None;
        if let Some(killed) = &mut self.killed {
            killed.restarted_at.get_or_insert(now);
        }
    }
}

/// Why a process was killed though nobody had asked for its pod's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KillCause {
    /// It held more memory than its limit.
    OutOfMemory,
    /// Its liveness or startup probe failed.
    Probe,
    /// Its node was short of memory: the kubelet evicted the pod, or the kernel killed it.
    NodePressure,
    /// Its node was short of disk, and the kubelet evicted the pod.
    DiskPressure,
    /// It took more of its node's disk than its limits allow, and the kubelet evicted the pod.
    StorageLimit,
}

/// A process was killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kill {
    /// Why.
    pub why: KillCause,
    /// When it had ended.
    pub at: SimTime,
    /// The event of that end.
    pub event: EventId,
    /// When its container ran again, if it has.
    pub restarted_at: Option<SimTime>,
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

impl std::ops::AddAssign for PodCounts {
    fn add_assign(&mut self, other: Self) {
        self.active += other.active;
        self.ready += other.ready;
        self.available += other.available;
        self.terminating += other.terminating;
    }
}

impl Cluster {
    /// A pod's containers are ready, or not any more: its kubelet writes that when it may call, as things stand then.
    pub(in crate::cluster) fn write_readiness(&self, id: u64, are_ready: bool) {
        if let Some(pod) = self.inner.state.borrow_mut().pods.get_mut(&id) {
            pod.are_containers_ready = are_ready;
        }
        self.show_containers(id);
        let is_new = {
            let state = self.inner.state.borrow();
            let pod = state.pods.get(&id).filter(|pod| pod.is_ready != pod.would_be_ready() && !state.is_cut_off(pod));
            pod.map(|pod| pod.node_index)
        };
        match (is_new, &self.inner.kubelets) {
            (Some(Some(index)), Kubelets::Agents(_)) => {
                let caller = Caller::Kubelet(index);
                self.when_called(caller, STATUS_CALLS, move |this| this.write_readiness_now(id));
            }
            (Some(_), _) => self.write_readiness_now(id),
            // There is nothing to write, or its kubelet cannot tell anybody.
            (None, _) => {}
        }
    }

    /// What lists show of a pod's containers, as far as its kubelet can tell anybody.
    pub(in crate::cluster) fn show_containers(&self, id: u64) {
        let mut state = self.inner.state.borrow_mut();
        let Some(pod) = state.pods.get(&id).filter(|pod| !state.is_cut_off(pod)) else { return };
        let all = pod.containers();
        let ready = if pod.are_containers_ready { all } else { pod.found_ready.min(all - 1) };
        if let Some(pod) = state.pods.get_mut(&id) {
            pod.shown_ready = ready;
        }
    }

    /// Writes what its kubelet knows of a pod's readiness: with its containers the pod is ready, if its gates are open.
    fn write_readiness_now(&self, id: u64) {
        let is_ready = {
            let state = self.inner.state.borrow();
            state.pods.get(&id).filter(|pod| !state.is_cut_off(pod)).map(Pod::would_be_ready)
        };
        if let Some(is_ready) = is_ready {
            self.write_ready_condition(id, is_ready);
        }
    }

    /// Whether the containers of the living pod at an address are ready, if the pod has this readiness gate.
    #[must_use]
    pub fn gated_at(&self, ip: Ipv4Addr, gate: &str) -> Option<bool> {
        let state = self.inner.state.borrow();
        let pod = self.living_at(&state, ip)?;
        pod.template.readiness_gates.iter().any(|known| known == gate).then_some(pod.are_containers_ready)
    }

    /// Whoever a gate belongs to writes its condition as true for the pod at an address. Its kubelet hears of it a hop later.
    pub fn open_gate(&self, ip: Ipv4Addr, gate: &str, because: Option<EventId>) {
        let (id, identity) = {
            let mut state = self.inner.state.borrow_mut();
            let Some(id) = self.living_at(&state, ip).map(|pod| pod.record.id) else { return };
            let Some(pod) = state.pods.get_mut(&id) else { return };
            let has_it = pod.template.readiness_gates.iter().any(|known| known == gate);
            if !has_it || !pod.open_gates.insert(gate.to_owned()) {
                return;
            }
            (id, Rc::clone(&pod.identity))
        };
        self.note_event(id, because);
        self.tell_of_pod(id, "readiness_gate_opened", vec![("condition", gate.into())]);
        let hop = self.inner.config.hop.draw(&mut self.inner.streams.stream("gate-hop", &format!("{identity}/{gate}")));
        let this = self.clone();
        self.inner.sim.spawn("readiness-gate", async move {
            this.inner.sim.sleep(hop).await;
            let are_ready = this.inner.state.borrow().pods.get(&id).map(|pod| pod.are_containers_ready);
            if let Some(are_ready) = are_ready {
                this.write_readiness(id, are_ready);
            }
        });
    }

    /// Writes a pod's condition `Ready`, if it is another.
    pub(in crate::cluster) fn write_ready_condition(&self, id: u64, is_ready: bool) {
        let set = {
            let now = self.inner.sim.now();
            let mut state = self.inner.state.borrow_mut();
            let Some(pod) = state.pods.get_mut(&id) else { return };
            if pod.is_ready == is_ready {
                return;
            }
            pod.is_ready = is_ready;
            pod.ready_since = Some(now);
            if is_ready {
                pod.record.ready_at = pod.record.ready_at.or(Some(now));
            }
            pod.set
        };
        self.tell_of_pod(id, if is_ready { "pod_ready" } else { "pod_unready" }, Vec::new());
        self.pod_changed(id);
        let min_ready = self.inner.state.borrow().sets.get(&set).map_or(0, |set| set.min_ready_seconds);
        if is_ready && min_ready > 0 {
            // The set cannot know when a pod becomes available, so it looks again, a second late to be sure.
            let wait = Duration::from_secs(u64::from(min_ready) + 1);
            self.enqueue_after(Work::Set(set), wait);
        }
    }

    /// Writes to the life of a pod, even if its object is gone already.
    pub(in crate::cluster) fn note_life(&self, id: u64, write: impl FnOnce(&mut PodRecord, SimTime)) {
        let now = self.inner.sim.now();
        let mut state = self.inner.state.borrow_mut();
        let state = &mut *state;
        let living = state.pods.get_mut(&id).map(|pod| &mut pod.record);
        if let Some(record) = living.or_else(|| state.records.iter_mut().rev().find(|record| record.id == id)) {
            write(record, now);
        }
    }

    /// Tells an event of a pod, caused by its last one.
    pub(in crate::cluster) fn tell_of_pod(&self, id: u64, kind: &'static str, data: Vec<(&'static str, Datum)>) {
        let known = self.inner.state.borrow().pods.get(&id).map(|pod| (Rc::clone(&pod.record.key), pod.last_event));
        let Some((key, last)) = known else { return };
        let event = self.tell(Some(last), kind, format!("Pod/{key}"), data);
        if let Some(pod) = self.inner.state.borrow_mut().pods.get_mut(&id) {
            pod.last_event = event;
        }
    }

    /// A pod has got a node: to its set a change like any other.
    pub(in crate::cluster) fn pod_bound(&self, id: u64) {
        let set = self.inner.state.borrow().pods.get(&id).map(|pod| pod.set);
        if let Some(set) = set {
            self.enqueue(Work::Set(set));
        }
    }

    /// A pod's state has changed: its set's status, and its endpoints, with it.
    pub(in crate::cluster) fn pod_changed(&self, id: u64) {
        let (owner, set) = {
            let mut state = self.inner.state.borrow_mut();
            let Some(pod) = state.pods.get(&id) else { return };
            let (owner, set, event) = (Rc::clone(&pod.owner), pod.set, pod.last_event);
            if let Some(known) = state.deployments.get_mut(&owner) {
                known.because = Some(event);
            }
            (owner, set)
        };
        self.note_counts(&owner);
        self.publish_endpoints_of(id, None);
        self.enqueue(Work::Set(set));
        self.enqueue_budgets_of_pod(id);
    }

    /// A pod is gone: its object, its resources, its endpoint.
    pub(in crate::cluster) fn pod_gone(&self, id: u64) {
        let Some(mut pod) = self.inner.state.borrow_mut().pods.remove(&id) else { return };
        pod.record.gone_at = Some(self.inner.sim.now());
        let (namespace, template) = (Rc::clone(&pod.record.namespace), Rc::clone(&pod.template));
        pod.removed.raise();
        let object = format!("Pod/{}/{}", pod.record.namespace, pod.record.name);
        let event = self.tell(Some(pod.last_event), "pod_gone", object, Vec::new());
        let owner = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let is_last = state.sets.get_mut(&pod.set).is_some_and(|set| {
                set.pods.remove(&id);
                set.pods.is_empty() && set.replicas == 0
            });
            match pod.keeper {
                Keeper::Nobody => drop(state.sets.remove(&pod.set)),
                Keeper::DaemonSet => state.daemon_pod_gone(&pod, self.inner.sim.now()),
                Keeper::Deployment => {}
            }
            state.placing.release(pod.set, pod.node_index, pod.deletion.is_raised());
            if let Some(ip) = pod.record.ip {
                let index = state.records.len();
                state.record_of.insert(ip, index);
            }
            state.records.push(pod.record);
            state.deployments.get_mut(&pod.owner).and_then(|known| {
                let is_recreated = known.spec.strategy == Strategy::Recreate;
                if is_recreated {
                    known.because = Some(event);
                }
                // No step of a rolling update waits for an end, and a Recreate for the last one only. A set beyond the history limit
                // stays here until its last pod is gone.
                let has_pods =
                    || known.sets.iter().any(|id| state.sets.get(id).is_some_and(|set| !set.pods.is_empty()));
                let kept = usize::try_from(known.spec.revision_history_limit).unwrap_or(usize::MAX);
                let is_excess = is_last && known.sets.len() - 1 > kept;
                (is_excess || (is_recreated && !has_pods())).then(|| Rc::clone(&pod.owner))
            })
        };
        self.inner.changes.raise(Change::PodGone);
        self.publish_endpoints_of(id, Some(event));
        self.enqueue(if pod.keeper == Keeper::DaemonSet {
            Work::Daemon(Rc::clone(&pod.owner))
        } else {
            Work::Set(pod.set)
        });
        self.enqueue_budgets_of(&namespace, &template.labels);
        if let Some(owner) = owner {
            self.enqueue(Work::Deployment(owner));
        }
    }
}
