//! Pods without a controller: placed, run and counted as any other, and when they end nobody makes another.
//!
//! Inside such a pod is the only one of a set that no controller looks at, so that whoever looks for pods by their labels finds it among the others.

use std::rc::Rc;
use std::time::Duration;

use super::node_sync::{GC_PERIOD, GC_QUARANTINE};
use super::replica_set_sync::Birth;
use super::{Caller, Cluster, Keeper, ReplicaSet};
use crate::cluster::objects::BarePod;
use crate::cluster::scheduler::Change;
use crate::engine::EventId;

impl Cluster {
    /// Creates a pod; whether there was none of this name.
    pub fn apply_pod(&self, spec: BarePod, because: Option<EventId>) -> bool {
        let node_name = spec.node_name.clone();
        let (owner, name) = (spec.owner(), spec.key.rsplit('/').next().unwrap_or_default());
        let (name, identity): (Rc<str>, Rc<str>) = (Rc::from(name), Rc::from(format!("{owner}/0")));
        let id = {
            let mut state = self.inner.state.borrow_mut();
            if state.has_remains(&spec.key)
                || state.sets.values().any(|set| set.keeper == Keeper::Nobody && set.owner == owner)
            {
                return false;
            }
            let id = state.set_next;
            state.set_next += 1;
            let template = Rc::new(spec.template);
            let set = ReplicaSet::empty((Rc::clone(&name), owner), template, Keeper::Nobody, self.inner.sim.now());
            state.sets.insert(id, ReplicaSet { replicas: 1, because, ..set });
            id
        };
        let names = self.inner.streams.stream("pod-name", &identity);
        self.make_pod(id, Birth { identity, name, names, only_on: None, node_name: node_name.clone() }, because);
        if let Some(node) = node_name.filter(|node| self.node_named(node).is_none()) {
            self.collect_orphan(id, node);
        }
        true
    }

    /// A pod that names a node which is not there is deleted after a while, unless the node comes.
    fn collect_orphan(&self, set: u64, node: Rc<str>) {
        let this = self.clone();
        self.inner.sim.spawn("pod-gc", async move {
            let mut passes = this.inner.streams.stream("pod-gc", &node);
            let found = passes.uniform(Duration::ZERO, GC_PERIOD);
            this.inner.sim.sleep(found + GC_QUARANTINE).await;
            if this.node_named(&node).is_some() {
                return;
            }
            let calls = this.inner.state.borrow().clients.calls_to_delete();
            this.called(Caller::PodCollector, calls).await;
            let orphan = this.inner.state.borrow().sets.get(&set).and_then(|set| set.pods.first().copied());
            if let Some(id) = orphan {
                this.delete_pod(id, Some(0), None);
            }
        });
    }

    /// Has a pod come to the node that its manifest names, if that is there: past the scheduler, whose cache counts it all the same. Its kubelet takes it if it fits.
    /// Source: Kubernetes v1.28.7 pkg/kubelet/lifecycle/predicate.go (`generalFilter`), pkg/scheduler/framework/plugins/helper.
    pub(in crate::cluster) fn take_named(&self, id: u64, name: &str) -> Option<usize> {
        let index = self.node_named(name)?;
        {
            let mut state = self.inner.state.borrow_mut();
            let misfit = state.place_named(id, index);
            if let Some(pod) = state.pods.get_mut(&id) {
                pod.misfit = misfit.map(Rc::from);
            }
        }
        self.inner.changes.raise(Change::PodPlaced);
        Some(index)
    }
}
