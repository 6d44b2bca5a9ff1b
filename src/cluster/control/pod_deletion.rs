//! Deletions of pods, as the API server carries them out.
//!
//! From the first one on nobody counts the pod. A second one can only shorten its grace: the deadline moves, and the kubelet ends the pod anew with what is
//! left. One with a grace of 0 is by force: the object goes in that moment, even if no kubelet can end the containers, because their node is silent.
//! Source: Kubernetes v1.28.7 staging/src/k8s.io/apiserver/pkg/registry/rest/delete.go (`BeforeDelete`), pkg/registry/core/pod/strategy.go.

use std::rc::Rc;

use super::{Cluster, Work};
use crate::engine::EventId;

/// What a request to delete a pod leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Deletion {
    /// The pod ends from now on.
    Begun,
    /// It was being deleted, and has less time now.
    Shortened,
    /// It is being deleted already, with a grace in seconds that is no longer.
    Unchanged(u32),
    /// There is no such pod.
    NoPod,
}

impl Cluster {
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
    pub(super) fn delete_pod(&self, id: u64, grace_seconds: Option<u32>, because: Option<EventId>) -> Deletion {
        let (deletion, owner, set, seconds) = {
            let mut state = self.inner.state.borrow_mut();
            let state = &mut *state;
            let Some(pod) = state.pods.get_mut(&id) else { return Deletion::NoPod };
            let in_force = pod.demands.deletion_seconds();
            let seconds = grace_seconds.or(in_force).unwrap_or(pod.template.grace_seconds);
            if let Some(before) = in_force.filter(|_| !pod.demands.is_new(seconds)) {
                return Deletion::Unchanged(before);
            }
            let kind = if in_force.is_none() { "pod_terminating" } else { "pod_grace_shortened" };
            let data = vec![("grace_s", i64::from(seconds).into())];
            let event = self.tell(because, kind, format!("Pod/{}", pod.record.key), data);
            pod.last_event = event;
            pod.demands.delete(seconds, event);
            if in_force.is_none() {
                state.placing.terminate(pod.set, pod.node_index);
                pod.record.terminating_at = Some(self.inner.sim.now());
            }
            (in_force.is_none().then(|| pod.deletion.clone()), Rc::clone(&pod.owner), pod.set, seconds)
        };
        let found = if deletion.is_some() { Deletion::Begun } else { Deletion::Shortened };
        if let Some(deletion) = &deletion {
            deletion.raise();
        }
        if seconds == 0 {
            self.pod_gone(id);
        }
        self.note_counts(&owner);
        if deletion.is_some() && seconds > 0 {
            self.publish_endpoints_of(id, None);
            self.enqueue(Work::Set(set));
            self.enqueue_budgets_of_pod(id);
        }
        found
    }
}
