//! The `DaemonSet` controller: a pod on each node that will do, and a new revision node after node.
//!
//! The rules are [`crate::cluster::daemon_set`]'s. A pod is made for one node, with an affinity to its name, and bound by the scheduler like any other: it waits while it does not
//! fit. Each revision is a set that no other controller looks at. A sync whose calls are under way is not begun again; pods are made in batches of 1, 2, 4 and so on, deletions
//! go out at once.
//!
//! The real controller goes over nodes in the order of a hash map, so that who is replaced first is drawn here. Pods of a set that is deleted are deleted by the garbage
//! collector, each with two calls; a set of the same name that is made meanwhile has nothing to do with them.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/daemon, pkg/controller/garbagecollector/garbagecollector.go.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::replica_set_sync::{API_CALL, Birth};
use super::{Caller, Cluster, Keeper, Pod, ReplicaSet, Rollout, State, Work, suffix};
use crate::cluster::daemon_set::{
    BURST, DaemonNode, DaemonPod, DaemonStatus, FailureBackoff, Steps, Update, fit, manage, roll,
};
use crate::cluster::objects::{DaemonSet, Node, PodTemplate};
use crate::engine::{EventId, Stream};
use crate::units::SimTime;

/// What the garbage collector calls for one object: it reads it, and deletes it. Source: garbagecollector.go `attemptToDeleteItem`.
const COLLECTOR_CALLS: u32 = 2;

/// A `DaemonSet` as the control plane has it.
pub(super) struct DaemonState {
    pub(super) spec: DaemonSet,
    /// The set of the newest revision, and all that have pods.
    current: u64,
    sets: BTreeSet<u64>,
    revision: i64,
    generation: u64,
    observed_generation: u64,
    pub(super) status: DaemonStatus,
    /// Something was changed, and not all nodes have followed.
    is_rolling: bool,
    /// The index of the rollout under way.
    pub(super) rollout: Option<usize>,
    pub(super) is_deleted: bool,
    /// Calls of a sync are under way: nothing more is done until they are through.
    is_busy: bool,
    is_asked_again: bool,
    pods_made: u64,
    backoffs: BTreeMap<usize, FailureBackoff>,
    /// Nodes whose pod has failed, and when that is deleted.
    failed: BTreeMap<usize, SimTime>,
    because: Option<EventId>,
    pub(super) created_at: SimTime,
    hops: Stream,
    /// In which order nodes are gone over.
    order: Stream,
}

impl DaemonState {
    pub(super) fn hops(&mut self) -> &mut Stream {
        &mut self.hops
    }

    /// The sets of its revisions.
    pub(super) fn sets(&self) -> &BTreeSet<u64> {
        &self.sets
    }

    /// Whether every node that should have a pod has an available one, as far as its status knows.
    pub(super) fn is_complete(&self) -> bool {
        self.is_deleted || self.observed_generation == self.generation && self.status.is_complete(self.spec.update)
    }
}

impl State {
    /// What a node like this one gets of all `DaemonSet`s.
    pub(super) fn daemons_on(&self, node: &Node) -> Vec<Rc<PodTemplate>> {
        let meant = self.daemons.values().filter(|known| !known.is_deleted);
        let meant = meant.filter(|known| fit(&known.spec.template.placement, node).should_run);
        meant.map(|known| Rc::clone(&self.sets[&known.current].template)).collect()
    }

    /// Whether all nodes have followed every change of a `DaemonSet`. Pods that are deleted on a silent node are not waited for.
    pub(super) fn daemons_are_calm(&self) -> bool {
        self.daemons.values().all(|known| match known.is_deleted {
            true => !self.ends_pods(known),
            false => !known.is_rolling,
        })
    }

    fn pods_of_daemon<'a>(&'a self, known: &'a DaemonState) -> impl Iterator<Item = &'a Pod> {
        known.sets.iter().flat_map(|id| &self.sets[id].pods).map(|id| &self.pods[id])
    }

    fn ends_pods(&self, known: &DaemonState) -> bool {
        let is_heard = |pod: &Pod| pod.node_index.is_none_or(|index| !self.nodes[index].is_silent());
        self.pods_of_daemon(known).any(|pod| pod.is_deleting() && is_heard(pod))
    }

    /// A pod of a `DaemonSet` is gone; one that nobody had deleted has failed.
    pub(super) fn daemon_pod_gone(&mut self, pod: &Pod, now: SimTime) {
        let Some(known) = self.daemons.get_mut(&pod.owner) else { return };
        let is_its_own = known.sets.contains(&pod.set);
        if let Some(index) = pod.only_on.filter(|_| is_its_own && !pod.is_deleting()) {
            let deleted_at = known.backoffs.entry(index).or_default().handle_failure(now);
            known.failed.insert(index, deleted_at);
        }
        let is_former = !is_its_own || known.is_deleted || known.current != pod.set;
        if is_former && self.sets.get(&pod.set).is_some_and(|set| set.pods.is_empty()) {
            known.sets.remove(&pod.set);
            self.sets.remove(&pod.set);
        }
    }
}

impl Cluster {
    /// Creates a `DaemonSet`, or replaces it: another template is another revision. What changes nothing is no change.
    pub fn apply_daemon_set(&self, spec: DaemonSet, because: Option<EventId>) {
        let owner = spec.owner();
        {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let known = state.daemons.get(&owner).filter(|known| !known.is_deleted);
            if known.is_some_and(|known| known.spec == spec) {
                return;
            }
            if known.is_none() {
                let pods_made = state.daemons.get(&owner).map_or(0, |former| former.pods_made);
                let fresh = self.fresh_daemon(&owner, spec.clone(), pods_made);
                state.daemons.insert(Rc::clone(&owner), fresh);
            }
            let has_set = |id: &u64| *state.sets[id].template == spec.template;
            let revision_known = state.daemons[&owner].sets.iter().copied().find(has_set);
            let current = revision_known.unwrap_or_else(|| self.add_revision(state, &owner, &spec, because));
            let Some(known) = state.daemons.get_mut(&owner) else { return };
            let is_new_revision = known.current != current || known.revision == 0;
            known.sets.insert(current);
            known.revision += i64::from(is_new_revision);
            known.current = current;
            known.generation += 1;
            known.is_rolling = !self.stands();
            known.because = because;
            for set in &known.sets {
                if let Some(set) = state.sets.get_mut(set) {
                    set.min_ready_seconds = spec.min_ready_seconds;
                }
            }
            if let Some(set) = state.sets.get_mut(&current) {
                set.revision = known.revision;
            }
            known.spec = spec;
            if is_new_revision && !self.stands() {
                let data = vec![("revision", known.revision.into())];
                let object = format!("DaemonSet/{}", known.spec.key);
                known.because = Some(self.tell(because, "rollout_started", object, data));
                // The first revision takes the place of none, and pods that somebody has to delete are not rolled.
                let is_rolled = known.revision > 1 && known.spec.update != Update::OnDelete;
                known.rollout = is_rolled.then_some(state.rollouts.len());
                let rollout = Rollout::begun(&owner, known.revision, self.inner.sim.now());
                state.rollouts.extend(is_rolled.then_some(rollout));
            }
        }
        self.note_counts(&owner);
        if self.stands() {
            // Its pods are on their nodes before any other looks for one.
            return self.sync_daemon_set(&owner);
        }
        self.enqueue(Work::Daemon(owner));
    }

    /// One that has made no pod, after others of its name that have made so many: no random stream is used twice.
    fn fresh_daemon(&self, owner: &Rc<str>, spec: DaemonSet, pods_made: u64) -> DaemonState {
        let stream = |purpose: &str| self.inner.streams.stream(purpose, owner);
        DaemonState {
            spec,
            current: u64::MAX,
            sets: BTreeSet::new(),
            revision: 0,
            generation: 0,
            observed_generation: 0,
            status: DaemonStatus::default(),
            is_rolling: false,
            rollout: None,
            is_deleted: false,
            is_busy: false,
            is_asked_again: false,
            pods_made,
            backoffs: BTreeMap::new(),
            failed: BTreeMap::new(),
            because: None,
            created_at: self.inner.sim.now(),
            hops: stream("controller-hop"),
            order: stream("daemon-nodes"),
        }
    }

    /// A revision that there has not been, or whose pods are all gone.
    fn add_revision(&self, state: &mut State, owner: &Rc<str>, spec: &DaemonSet, because: Option<EventId>) -> u64 {
        let id = state.set_next;
        state.set_next += 1;
        let name = Rc::from(spec.key.rsplit('/').next().unwrap_or_default());
        let (template, now) = (Rc::new(spec.template.clone()), self.inner.sim.now());
        let set = ReplicaSet::empty((name, Rc::clone(owner)), template, Keeper::DaemonSet, now);
        let min_ready_seconds = spec.min_ready_seconds;
        state.sets.insert(id, ReplicaSet { min_ready_seconds, because, ..set });
        id
    }

    /// Deletes a `DaemonSet`, and its pods with it; whether there was one.
    pub fn delete_daemon_set(&self, key: &str, because: Option<EventId>) -> bool {
        let owner = DaemonSet::owner_of(key);
        let (pods, hop) = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(known) = state.daemons.get_mut(&owner).filter(|known| !known.is_deleted) else { return false };
            known.is_deleted = true;
            known.rollout = None;
            let hop = self.inner.config.hop.draw(&mut known.hops);
            let sets: Vec<u64> = known.sets.iter().copied().collect();
            let pods: Vec<u64> = sets.iter().flat_map(|id| state.sets[id].pods.iter().copied()).collect();
            known.sets.retain(|id| !state.sets[id].pods.is_empty());
            state.sets.retain(|id, set| !sets.contains(id) || !set.pods.is_empty());
            (pods, hop)
        };
        let this = self.clone();
        self.inner.sim.spawn("garbage-collector", async move {
            this.inner.sim.sleep(hop).await;
            for id in pods {
                this.called(Caller::Collector, COLLECTOR_CALLS).await;
                this.delete_pod(id, None, because);
            }
        });
        true
    }

    /// A node has come, changed or gone: all `DaemonSet`s look at it.
    pub(super) fn enqueue_daemon_sets(&self) {
        let owners: Vec<Rc<str>> = self.inner.state.borrow().daemons.keys().cloned().collect();
        for owner in owners {
            self.enqueue(Work::Daemon(owner));
        }
    }

    /// The nodes as the controller sees them.
    fn daemon_nodes(&self, state: &State, known: &DaemonState) -> Vec<DaemonNode> {
        let (now, clock) = (self.inner.sim.now(), self.inner.clock);
        let mut by_node: BTreeMap<usize, Vec<&Pod>> = BTreeMap::new();
        for pod in state.pods_of_daemon(known).filter(|pod| !(pod.is_deleting() && pod.phase.is_over())) {
            by_node.entry(pod.only_on.expect("a daemon's pod is made for a node")).or_default().push(pod);
        }
        let view = |pod: &Pod| DaemonPod {
            id: pod.record.id,
            is_current: pod.set == known.current,
            is_deleting: pod.is_deleting(),
            is_ready: pod.is_ready,
            is_available: pod.is_available(clock, known.spec.min_ready_seconds, now),
        };
        let there = state.nodes.iter().enumerate().filter(|(_, node)| node.is_there());
        let nodes = there.map(|(index, node)| {
            let mut pods = by_node.remove(&index).unwrap_or_default();
            let order = |pod: &&Pod| {
                let created_at = clock.stamp(pod.record.created_at);
                (pod.node_index.is_none(), created_at, Rc::clone(&pod.record.name))
            };
            pods.sort_by_cached_key(order);
            DaemonNode {
                index,
                fit: fit(&known.spec.template.placement, &node.spec),
                pods: pods.into_iter().map(view).collect(),
                has_failed: known.failed.get(&index).is_some_and(|deleted_at| *deleted_at > now),
            }
        });
        nodes.collect()
    }

    /// One sync of a `DaemonSet`.
    pub(super) fn sync_daemon_set(&self, owner: &Rc<str>) {
        let now = self.inner.sim.now();
        let (steps, status, because, retry_at) = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(known) = state.daemons.get_mut(owner).filter(|known| !known.is_deleted) else { return };
            if known.is_busy {
                known.is_asked_again = true;
                return;
            }
            known.failed.retain(|_, deleted_at| *deleted_at > now);
            let known = &state.daemons[owner];
            let mut nodes = self.daemon_nodes(state, known);
            let status = DaemonStatus::of(&nodes);
            let mut steps = manage(known.spec.update, &nodes);
            steps.deletes.extend(pods_for_no_node(state, known));
            let (because, retry_at) = (known.because, known.failed.values().min().copied());
            let has_old = nodes.iter().flat_map(|node| &node.pods).any(|pod| !pod.is_current);
            if let Some(limits) = known.spec.update.limits(status.desired).filter(|_| has_old && steps.is_empty()) {
                if let Some(known) = state.daemons.get_mut(owner) {
                    shuffle(&mut nodes, &mut known.order);
                }
                steps = roll(limits, &nodes);
            }
            steps.creates.truncate(BURST);
            steps.deletes.truncate(BURST);
            (steps, status, because, retry_at)
        };
        if let Some(at) = retry_at {
            self.enqueue_after(Work::Daemon(Rc::clone(owner)), at.since(now));
        }
        if self.stands() {
            steps.creates.iter().for_each(|index| self.create_daemon_pod(owner, *index, because));
            return self.write_daemon_status(owner, status);
        }
        let is_new = self.inner.state.borrow().daemons[owner].is_news(status);
        if steps.is_empty() && !is_new {
            return self.write_daemon_status(owner, status);
        }
        if let Some(known) = self.inner.state.borrow_mut().daemons.get_mut(owner) {
            known.is_busy = true;
        }
        let (this, owner) = (self.clone(), Rc::clone(owner));
        self.inner.sim.spawn("daemonset-sync", async move {
            this.carry_out(&owner, steps, because).await;
            if is_new {
                this.called(Caller::Daemons, 1).await;
            }
            this.write_daemon_status(&owner, status);
            let is_asked_again = this.inner.state.borrow_mut().daemons.get_mut(&owner).is_some_and(|known| {
                known.is_busy = false;
                std::mem::take(&mut known.is_asked_again)
            });
            if is_asked_again {
                this.enqueue(Work::Daemon(owner));
            }
        });
    }

    /// Makes pods batch after batch, and deletes others. Each is a call and an event.
    async fn carry_out(&self, owner: &Rc<str>, steps: Steps, because: Option<EventId>) {
        let (mut left, mut batch) = (&steps.creates[..], 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(left.len().min(batch));
            for index in now {
                self.called(Caller::Daemons, 1).await;
                self.create_daemon_pod(owner, *index, because);
                self.record_event(Caller::Daemons, Work::Daemon(Rc::clone(owner)));
            }
            (left, batch) = (later, batch * 2);
            if !left.is_empty() {
                self.inner.sim.sleep(API_CALL).await;
            }
        }
        for id in steps.deletes {
            self.called(Caller::Daemons, 1).await;
            self.delete_pod(id, None, because);
            self.record_event(Caller::Daemons, Work::Daemon(Rc::clone(owner)));
        }
    }

    fn create_daemon_pod(&self, owner: &Rc<str>, index: usize, because: Option<EventId>) {
        let (set, birth) = {
            let mut state = self.inner.state.borrow_mut();
            // It may have been deleted while its batches are under way.
            let Some(known) = state.daemons.get(owner).filter(|known| !known.is_deleted) else { return };
            let there = state.pods_of_daemon(known).filter(|pod| pod.only_on == Some(index) && pod.is_active());
            assert!(there.count() <= 1, "a node has one pod of {owner}, and at most one more that surges");
            let Some(known) = state.daemons.get_mut(owner) else { return };
            let identity: Rc<str> = Rc::from(format!("{owner}/{}", known.pods_made));
            known.pods_made += 1;
            let mut names = self.inner.streams.stream("pod-name", &identity);
            let plain = known.spec.key.rsplit('/').next().unwrap_or_default();
            let name: Rc<str> = Rc::from(format!("{plain}-{}", suffix(&mut names, 5)));
            (known.current, Birth { identity, name, names, only_on: Some(index), node_name: None })
        };
        self.make_pod(set, birth, because);
    }

    fn write_daemon_status(&self, owner: &Rc<str>, status: DaemonStatus) {
        let (is_over, look_again) = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(known) = state.daemons.get(owner).filter(|known| !known.is_deleted) else { return };
            let ends_pods = state.ends_pods(known);
            let Some(known) = state.daemons.get_mut(owner) else { return };
            known.status = status;
            known.observed_generation = known.generation;
            let is_over = known.is_rolling && status.is_complete(known.spec.update) && !ends_pods;
            known.is_rolling &= !is_over;
            if let Some(index) = known.rollout.take_if(|_| is_over) {
                state.rollouts[index].ended_at = Some(self.inner.sim.now());
            }
            let seconds = known.spec.min_ready_seconds;
            let look_again = (seconds > 0 && status.ready != status.available).then_some(seconds);
            let over = is_over.then(|| (format!("DaemonSet/{}", known.spec.key), known.revision, known.because));
            (over, look_again)
        };
        if let Some((object, revision, because)) = is_over {
            self.tell(because, "rollout_completed", object, vec![("revision", revision.into())]);
        }
        if let Some(seconds) = look_again {
            self.enqueue_after(Work::Daemon(Rc::clone(owner)), Duration::from_secs(seconds.into()));
        }
    }
}

impl DaemonState {
    /// Whether the status has to be written.
    fn is_news(&self, status: DaemonStatus) -> bool {
        self.status != status || self.observed_generation != self.generation
    }
}

/// Pods that wait for a node that is no longer there.
fn pods_for_no_node(state: &State, known: &DaemonState) -> Vec<u64> {
    let waiting = state.pods_of_daemon(known).filter(|pod| pod.node_index.is_none() && !pod.is_deleting());
    let lost = waiting.filter(|pod| pod.only_on.is_none_or(|index| !state.nodes[index].is_there()));
    lost.map(|pod| pod.record.id).collect()
}

fn shuffle(nodes: &mut [DaemonNode], order: &mut Stream) {
    for last in (1..nodes.len()).rev() {
        let drawn = usize::try_from(order.below(last as u64 + 1)).expect("an index");
        nodes.swap(last, drawn);
    }
}
