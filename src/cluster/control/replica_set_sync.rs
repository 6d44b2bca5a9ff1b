//! The `ReplicaSet` controller: makes pods or deletes some until the set has its size, and reports what it has.
//!
//! - Pods are made in batches of 1, 2, 4 and so on, each when the one before has been made; deletions go out at once. At most 500 of either in a
//!   sync. All of them are calls, and there are only so many a second ([`crate::cluster::api_client`]); until the last is through, and with it
//!   the status, the set does nothing more.
//! - What a sync reports is what was there before it made or deleted anything: the changes come back to it as pods that have changed, and
//!   the next sync reports them.
//! - Nobody tells a set when a pod becomes available. It looks again `minReadySeconds` + 1 s after a pod has become ready, and
//!   `minReadySeconds` after a sync that found all ready and not all available. Of several such wishes the earliest counts and swallows the others, so
//!   pods that become ready one after the other are seen as available late.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/replicaset, pkg/controller/controller_utils.go.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;

use super::Kubelets;
use super::pod::{Pod, PodRecord};
use super::{Caller, Cluster, Keeper, SetStatus, Work, suffix};
use crate::cluster::deployment::PodPhase;
use crate::cluster::replica_set::{BURST, Candidate, choose_to_delete};
use crate::cluster::{hollow, node_agent};
use crate::engine::{EventId, Signal, Stream};
use crate::units::SimTime;

/// One call of a controller to the API server. An assumption: batches of creations in recorded timelines are 3 to 9 ms apart.
pub(super) const API_CALL: Duration = Duration::from_millis(5);

/// A pod that is about to be made.
pub(super) struct Birth {
    /// The name of its random streams.
    pub(super) identity: Rc<str>,
    pub(super) name: Rc<str>,
    /// Where its name was drawn from.
    pub(super) names: Stream,
    /// The node it is made for, if it is made for one.
    pub(super) only_on: Option<usize>,
    /// The node that its manifest names.
    pub(super) node_name: Option<Rc<str>>,
}

impl Cluster {
    /// One sync of a set.
    pub(super) fn sync_set(&self, id: u64) {
        let (diff, because) = {
            let mut state = self.inner.state.borrow_mut();
            let Some(set) = state.sets.get_mut(&id) else { return };
            if set.is_busy {
                // A set is not synced twice at once; when the sync that is under way is through, the next one comes.
                set.is_asked_again = true;
                return;
            }
            let set = &state.sets[&id];
            let active = set.pods.iter().filter(|id| state.pods[id].is_active()).count();
            let active = i32::try_from(active).expect("fewer pods than 2^31");
            (active - set.replicas, set.because)
        };
        let status = self.status_of(id);
        let count = usize::try_from(diff.unsigned_abs()).unwrap_or(usize::MAX).min(BURST);
        if diff < 0 && self.stands() {
            (0..count).for_each(|_| self.create_pod(id, because));
        } else if diff < 0 {
            // Each is a call and an event, and then there is the status. If none of them has to wait, the status is written while the batches are under way: they
            // take some milliseconds.
            let is_free = self.has_calls(Caller::Sets, 2 * count + 1);
            let later = (!is_free).then_some(status);
            self.work_on(id, self.clone().create_pods(id, count, because, later));
            if !is_free {
                return;
            }
        } else if diff > 0 {
            let calls: Vec<(u64, SimTime)> =
                self.victims(id, count).into_iter().map(|pod| (pod, self.call(Caller::Sets))).collect();
            if calls.iter().any(|(_, at)| *at > self.inner.sim.now()) {
                return self.work_on(id, self.clone().delete_pods(id, calls, because, status));
            }
            for (pod, _) in calls {
                self.delete_pod(pod, None, because);
                self.record_event(Caller::Sets, Work::Set(id));
            }
        }
        let wait = self.status_call(id, status);
        if wait > self.inner.sim.now() {
            return self.work_on(id, self.clone().report(id, wait, status));
        }
        self.write_set_status(id, status);
    }

    /// Goes on with a sync that has to wait.
    fn work_on(&self, id: u64, rest: impl Future<Output = ()> + 'static) {
        if let Some(set) = self.inner.state.borrow_mut().sets.get_mut(&id) {
            set.is_busy = true;
        }
        let this = self.clone();
        self.inner.sim.spawn("replicaset-sync", async move {
            rest.await;
            let is_asked_again = this.inner.state.borrow_mut().sets.get_mut(&id).is_some_and(|set| {
                set.is_busy = false;
                std::mem::take(&mut set.is_asked_again)
            });
            if is_asked_again {
                this.enqueue(Work::Set(id));
            }
        });
    }

    /// Makes pods, batch after batch: a batch is over when its last call is. Then it writes `status`, if there is one.
    async fn create_pods(self, id: u64, count: usize, because: Option<EventId>, status: Option<SetStatus>) {
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            batch = left.min(batch);
            let calls: Vec<SimTime> = (0..batch).map(|_| self.call(Caller::Sets)).collect();
            for at in calls {
                self.inner.sim.sleep_until(at).await;
                self.create_pod(id, because);
                self.record_event(Caller::Sets, Work::Set(id));
            }
            left -= batch;
            batch *= 2;
            if left > 0 {
                self.inner.sim.sleep(API_CALL).await;
            }
        }
        if let Some(status) = status {
            let at = self.status_call(id, status);
            self.report(id, at, status).await;
        }
    }

    /// Deletes pods, each when its call goes out.
    async fn delete_pods(self, id: u64, calls: Vec<(u64, SimTime)>, because: Option<EventId>, status: SetStatus) {
        for (pod, at) in calls {
            self.inner.sim.sleep_until(at).await;
            self.delete_pod(pod, None, because);
            self.record_event(Caller::Sets, Work::Set(id));
        }
        let at = self.status_call(id, status);
        self.report(id, at, status).await;
    }

    /// When a set's status can be written: now, if there is nothing new in it.
    fn status_call(&self, id: u64, status: SetStatus) -> SimTime {
        let is_new = {
            let state = self.inner.state.borrow();
            state.sets.get(&id).is_some_and(|set| set.status != status || set.is_resized)
        };
        if is_new { self.call(Caller::Sets) } else { self.inner.sim.now() }
    }

    async fn report(self, id: u64, at: SimTime, status: SetStatus) {
        self.inner.sim.sleep_until(at).await;
        self.write_set_status(id, status);
    }

    /// What a set has to report now.
    fn status_of(&self, id: u64) -> SetStatus {
        let (state, now) = (self.inner.state.borrow(), self.inner.sim.now());
        let set = &state.sets[&id];
        let mut status = SetStatus::default();
        for pod in set.pods.iter().map(|id| &state.pods[id]).filter(|pod| pod.is_active()) {
            status.replicas += 1;
            status.ready += i32::from(pod.is_ready);
            status.available += i32::from(pod.is_available(self.inner.clock, set.min_ready_seconds, now));
        }
        status
    }

    fn write_set_status(&self, id: u64, status: SetStatus) {
        let (owner, has_changed, look_again) = {
            let mut state = self.inner.state.borrow_mut();
            let Some(set) = state.sets.get_mut(&id) else { return };
            let has_changed = set.status != status || std::mem::take(&mut set.is_resized);
            set.status = status;
            let is_waiting = status.ready == set.replicas && status.available != set.replicas;
            let look_again = (set.min_ready_seconds > 0 && is_waiting).then_some(set.min_ready_seconds);
            (Rc::clone(&set.owner), has_changed, look_again)
        };
        if let Some(seconds) = look_again {
            self.enqueue_after(Work::Set(id), Duration::from_secs(seconds.into()));
        }
        self.note_counts(&owner);
        if has_changed {
            self.enqueue(Work::Deployment(owner));
        }
    }

    /// The pods of a set that go first.
    fn victims(&self, id: u64, count: usize) -> Vec<u64> {
        let (state, clock) = (self.inner.state.borrow(), self.inner.clock);
        let set = &state.sets[&id];
        let mut peers: BTreeMap<Option<usize>, usize> = BTreeMap::new();
        let related = state.deployments.get(&set.owner).map(|known| &known.sets);
        for pod in related.into_iter().flatten().flat_map(|id| &state.sets[id].pods).map(|id| &state.pods[id]) {
            *peers.entry(pod.node_index).or_default() += usize::from(pod.is_active());
        }
        let mut own: Vec<(u64, &Pod)> = set.pods.iter().map(|id| (*id, &state.pods[id])).collect();
        own.retain(|(_, pod)| pod.is_active());
        // Pods that are equal in all that counts come in no order, as from the controller's cache.
        own.sort_by(|(_, a), (_, b)| a.uid.cmp(&b.uid));
        let version = self.inner.config.version;
        let candidates: Vec<Candidate> = own
            .iter()
            .map(|(_, pod)| Candidate {
                is_assigned: pod.node_index.is_some(),
                phase: pod.phase,
                is_ready: pod.is_ready,
                deletion_cost: if version.has_deletion_cost() { pod.deletion_cost } else { 0 },
                rank: peers[&pod.node_index],
                ready_since: pod.ready_since.map(|since| clock.stamp(since)),
                restarts: pod.restarts,
                created_at: Some(clock.stamp(pod.record.created_at)),
                uid: pod.uid.clone(),
            })
            .collect();
        let now = clock.wall(self.inner.sim.now());
        let chosen = choose_to_delete(&candidates, count, version.age_scale(), now);
        // Every run checks its own books: rolling updates count on it that what is not ready goes first.
        let ready = |of: &mut dyn Iterator<Item = usize>| of.filter(|index| candidates[*index].is_ready).count();
        let spared = candidates.len() - ready(&mut (0..candidates.len()));
        let taken = ready(&mut chosen.iter().copied());
        assert!(
            taken == chosen.len().saturating_sub(spared),
            "a set deletes a pod that is ready and keeps one that is not"
        );
        chosen.into_iter().map(|index| own[index].0).collect()
    }

    fn create_pod(&self, set_id: u64, because: Option<EventId>) {
        let birth = {
            let mut state = self.inner.state.borrow_mut();
            // The set may be gone while its batches are under way.
            if !state.sets.contains_key(&set_id) {
                return;
            }
            let owner = Rc::clone(&state.sets[&set_id].owner);
            let known = state.deployments.get_mut(&owner).expect("a set has its deployment");
            let identity: Rc<str> = Rc::from(format!("{owner}/{}", known.pods_made));
            known.pods_made += 1;
            let mut names = self.inner.streams.stream("pod-name", &identity);
            let name: Rc<str> = Rc::from(format!("{}-{}", state.sets[&set_id].name, suffix(&mut names, 5)));
            Birth { identity, name, names, only_on: None, node_name: None }
        };
        self.make_pod(set_id, birth, because);
    }

    /// Makes a pod of a set.
    pub(super) fn make_pod(&self, set_id: u64, birth: Birth, because: Option<EventId>) {
        let Birth { identity, name, mut names, only_on, node_name } = birth;
        let id = {
            let mut state = self.inner.state.borrow_mut();
            let id = state.pods.next_id();
            let set = &state.sets[&set_id];
            let namespace: Rc<str> = Rc::from(set.namespace());
            let key: Rc<str> = Rc::from(format!("{namespace}/{name}"));
            let object = format!("Pod/{key}");
            let record = PodRecord {
                id,
                name,
                namespace,
                key,
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
                killed: None,
                sigterm_event: None,
            };
            let event = self.tell(because, "pod_created", object, vec![("revision", set.revision.into())]);
            let mut pod = Pod {
                record,
                set: set_id,
                owner: Rc::clone(&set.owner),
                keeper: set.keeper,
                only_on,
                node_name,
                misfit: None,
                template: Rc::clone(&set.template),
                image_edits: (set.keeper == Keeper::Nobody).then(Rc::default),
                node_index: None,
                ip: None,
                phase: PodPhase::Pending,
                are_containers_ready: false,
                open_gates: BTreeSet::new(),
                is_ready: false,
                ready_since: None,
                started_at: None,
                restarts: 0,
                last_exit: None,
                init_done: 0,
                sandbox_ip: None,
                found_ready: 0,
                shown_ready: 0,
                waiting: None,
                identity,
                deletion_cost: 0,
                uid: format!("{:016x}", names.bits()),
                deletion: Signal::default(),
                demands: Rc::default(),
                evicted: Signal::default(),
                evicted_for: None,
                removed: Signal::default(),
                is_unschedulable: false,
                last_event: event,
            };
            if self.stands() {
                // Who sets the conditions has done so before the run.
                pod.open_gates.extend(pod.template.readiness_gates.iter().cloned());
            }
            state.pods.push(pod);
            state.sets.get_mut(&set_id).expect("the set has just been seen").pods.insert(id);
            id
        };
        match &self.inner.kubelets {
            Kubelets::Agents(_) => node_agent::live(self, id),
            Kubelets::Hollow(_) => hollow::live(self, id),
        }
        self.look_for_lost_endpoints(id);
        self.enqueue(Work::Set(set_id));
        self.enqueue_budgets_of_pod(id);
    }
}
