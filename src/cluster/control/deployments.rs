//! What is done to Deployments from outside: they are applied, restarted, resized and deleted.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::{Cluster, DeploymentState, Work};
use crate::cluster::deployment::DeploymentStatus;
use crate::cluster::objects::Deployment;
use crate::engine::EventId;

impl Cluster {
    /// Creates a Deployment, or replaces it: another template is another revision. What changes nothing is no change.
    pub fn apply_deployment(&self, spec: Deployment, because: Option<EventId>) {
        let key = Rc::clone(&spec.key);
        {
            let mut state = self.inner.state.borrow_mut();
            match state.deployments.get_mut(&key) {
                Some(known) if known.spec == spec => return,
                Some(known) => {
                    known.template = Rc::new(spec.template.clone());
                    known.spec = spec;
                    known.generation += 1;
                    known.because = because;
                    if std::mem::take(&mut known.is_deleted) {
                        known.created_at = self.inner.sim.now();
                    }
                }
                None => {
                    let fresh = DeploymentState {
                        template: Rc::new(spec.template.clone()),
                        spec,
                        generation: 1,
                        observed_generation: 0,
                        status: DeploymentStatus::default(),
                        unavailable: 0,
                        is_available: false,
                        progress: None,
                        because,
                        rollout: None,
                        announced: None,
                        revision: 0,
                        sets: BTreeSet::new(),
                        pods_made: 0,
                        created_at: self.inner.sim.now(),
                        is_deleted: false,
                        hops: self.inner.streams.stream("controller-hop", &key),
                    };
                    state.deployments.insert(Rc::clone(&key), fresh);
                }
            }
        }
        self.enqueue(Work::Deployment(key));
    }

    /// A Deployment as it stands; none once it has been deleted.
    #[must_use]
    pub fn deployment(&self, key: &str) -> Option<Deployment> {
        let state = self.inner.state.borrow();
        state.deployments.get(key).filter(|known| !known.is_deleted).map(|known| known.spec.clone())
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

    /// Deletes a Deployment, and with it its sets and their pods, which end as any deleted pod does.
    pub fn delete_deployment(&self, key: &str, because: Option<EventId>) {
        let Some(mut spec) = self.deployment(key) else { return };
        // The garbage collector deletes what nobody owns any more; to pods it is a scale-in to nothing. The emptied objects stay here, unseen.
        spec.replicas = 0;
        spec.is_paused = false;
        self.apply_deployment(spec, because);
        if let Some(known) = self.inner.state.borrow_mut().deployments.get_mut(key) {
            known.is_deleted = true;
            known.rollout = None;
        }
        self.inner.state.borrow_mut().forget_remains(|pod| *pod.owner == *key);
    }

    /// Gives the living pods of a Deployment, in the order of their creation, the annotation
    /// `controller.kubernetes.io/pod-deletion-cost`: the cheaper goes first.
    pub fn set_deletion_costs(&self, owner: &str, costs: &[i32]) {
        let mut state = self.inner.state.borrow_mut();
        let pods = state.ordered_pods_of(owner).into_iter().filter(|pod| pod.is_active());
        let ids: Vec<u64> = pods.map(|pod| pod.record.id).collect();
        for (id, cost) in ids.iter().zip(costs) {
            if let Some(pod) = state.pods.get_mut(id) {
                pod.deletion_cost = *cost;
            }
        }
    }
}
