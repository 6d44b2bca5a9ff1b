//! The `ReplicaSet` controller: makes pods or deletes some until the set has its size.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/replicaset.

use std::rc::Rc;

use super::pod::{Pod, PodRecord};
use super::{Cluster, Work, suffix};
use crate::cluster::deployment::PodPhase;
use crate::cluster::node_agent;
use crate::cluster::replica_set::{AgeScale, Candidate, choose_to_delete};
use crate::engine::{EventId, Signal};
use crate::units::SimTime;

impl Cluster {
    /// One sync of a set: makes pods or deletes some.
    pub(super) fn sync_set(&self, id: u64) {
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
            let key: Rc<str> = Rc::from(format!("{namespace}/{name}"));
            let object = format!("Pod/{key}");
            let record = PodRecord {
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
                oom: None,
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
                started_at: None,
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
            let state = &mut *state;
            let Some(pod) = state.pods.get_mut(&id) else { return };
            if pod.is_deleting() {
                return;
            }
            state.placing.terminate(pod.set, pod.node_index);
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
}
