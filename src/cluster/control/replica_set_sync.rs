//! The `ReplicaSet` controller: makes pods or deletes some until the set has its size, and reports what it has.
//!
//! - Pods are made in batches of 1, 2, 4 and so on, each when the one before has been made; deletions go out at once. At most 500 of either in a
//!   sync. Until a batch is through, the set does nothing more about its size.
//! - What a sync reports is what was there before it made or deleted anything: the changes come back to it as pods that have changed, and
//!   the next sync reports them.
//! - Nobody tells a set when a pod becomes available. It looks again `minReadySeconds` + 1 s after a pod has become ready, and
//!   `minReadySeconds` after a sync that found all ready and not all available. Of several such wishes the earliest counts and swallows the others, so
//!   pods that become ready one after the other are seen as available late.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/replicaset, pkg/controller/controller_utils.go.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use super::Kubelets;
use super::pod::{Pod, PodRecord};
use super::{Cluster, SetStatus, Work, suffix};
use crate::cluster::deployment::PodPhase;
use crate::cluster::replica_set::{BURST, Candidate, choose_to_delete};
use crate::cluster::{hollow, node_agent};
use crate::engine::{EventId, Signal};

/// One call of a controller to the API server. An assumption: batches of creations in recorded timelines are 3 to 9 ms apart.
const API_CALL: Duration = Duration::from_millis(5);

impl Cluster {
    /// One sync of a set.
    pub(super) fn sync_set(&self, id: u64) {
        let (diff, because) = {
            let state = self.inner.state.borrow();
            let Some(set) = state.sets.get(&id) else { return };
            if set.is_creating {
                // The sync that creates is still under way; when it is through, it asks for the next.
                return;
            }
            let active = set.pods.iter().filter(|id| state.pods[id].is_active()).count();
            let active = i32::try_from(active).expect("fewer pods than 2^31");
            (active - set.replicas, set.because)
        };
        let status = self.status_of(id);
        let count = usize::try_from(diff.unsigned_abs()).unwrap_or(usize::MAX).min(BURST);
        if diff < 0 {
            self.create_pods(id, count, because);
        } else if diff > 0 {
            for pod in self.victims(id, count) {
                self.delete_pod(pod, None, because);
            }
        }
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

    /// Makes pods, batch after batch.
    fn create_pods(&self, id: u64, count: usize, because: Option<EventId>) {
        if self.stands() {
            for _ in 0..count {
                self.create_pod(id, because);
            }
            return;
        }
        if let Some(set) = self.inner.state.borrow_mut().sets.get_mut(&id) {
            set.is_creating = true;
        }
        let this = self.clone();
        self.inner.sim.spawn("replicaset-creations", async move {
            let (mut left, mut batch) = (count, 1);
            while left > 0 {
                batch = left.min(batch);
                for _ in 0..batch {
                    this.create_pod(id, because);
                }
                left -= batch;
                batch *= 2;
                if left > 0 {
                    this.inner.sim.sleep(API_CALL).await;
                }
            }
            if let Some(set) = this.inner.state.borrow_mut().sets.get_mut(&id) {
                set.is_creating = false;
            }
            this.enqueue(Work::Set(id));
        });
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
        choose_to_delete(&candidates, count, version.age_scale(), now).into_iter().map(|index| own[index].0).collect()
    }

    fn create_pod(&self, set_id: u64, because: Option<EventId>) {
        let id = {
            let mut state = self.inner.state.borrow_mut();
            // The set may be gone while its batches are under way.
            if !state.sets.contains_key(&set_id) {
                return;
            }
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
                template: Rc::clone(&set.template),
                node_index: None,
                ip: None,
                phase: PodPhase::Pending,
                are_containers_ready: false,
                open_gates: BTreeSet::new(),
                is_ready: false,
                ready_since: None,
                started_at: None,
                restarts: 0,
                waiting: None,
                identity,
                deletion_cost: 0,
                uid: format!("{:016x}", names.bits()),
                deletion: Signal::default(),
                deletion_grace: None,
                evicted: Signal::default(),
                removed: Signal::default(),
                is_unschedulable: false,
                deleted_because: None,
                last_event: event,
            };
            if self.stands() {
                // Who sets the conditions has done so before the run.
                pod.open_gates.extend(pod.template.readiness_gates.iter().cloned());
            }
            state.pods.insert(id, pod);
            state.sets.get_mut(&set_id).expect("the set has just been seen").pods.insert(id);
            id
        };
        match &self.inner.kubelets {
            Kubelets::Agents(_) => node_agent::live(self, id),
            Kubelets::Hollow(_) => hollow::live(self, id),
        }
        self.enqueue(Work::Set(set_id));
        self.enqueue_budgets_of_pod(id);
    }

    /// Asks for the deletion of a pod, named `namespace/name`, as `kubectl delete pod` does; its set replaces it. Whether there is one.
    pub fn delete_pod_named(&self, key: &str, because: Option<EventId>) -> bool {
        let found = self.pod_named(key);
        if let Some(id) = found {
            self.delete_pod(id, None, because);
        }
        found.is_some()
    }

    /// The pod with this `namespace/name`, unless it is being deleted or has ended.
    pub(super) fn pod_named(&self, key: &str) -> Option<u64> {
        let state = self.inner.state.borrow();
        state.pods.iter().find(|(_, pod)| *pod.record.key == *key && pod.is_active()).map(|(id, _)| *id)
    }

    /// Asks for a pod's deletion, with a grace in seconds if it is not to have its own: from now on nobody counts it.
    pub(super) fn delete_pod(&self, id: u64, grace_seconds: Option<u32>, because: Option<EventId>) {
        let (deletion, owner, set) = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(pod) = state.pods.get_mut(&id) else { return };
            if pod.is_deleting() {
                return;
            }
            state.placing.terminate(pod.set, pod.node_index);
            pod.record.terminating_at = Some(self.inner.sim.now());
            let object = format!("Pod/{}/{}", pod.record.namespace, pod.record.name);
            pod.deletion_grace = grace_seconds;
            if grace_seconds == Some(0) {
                // By force: the object is as good as gone, and the kubelet stops what is left.
                pod.phase = PodPhase::Failed;
            }
            let data = vec![("grace_s", i64::from(grace_seconds.unwrap_or(pod.template.grace_seconds)).into())];
            let event = self.tell(because, "pod_terminating", object, data);
            pod.deleted_because = Some(event);
            pod.last_event = event;
            (pod.deletion.clone(), Rc::clone(&pod.owner), pod.set)
        };
        deletion.raise();
        self.note_counts(&owner);
        self.publish_endpoints_of(id, None);
        self.enqueue(Work::Set(set));
        self.enqueue_budgets_of_pod(id);
    }
}
