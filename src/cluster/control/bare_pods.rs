//! Pods without a controller: scheduled, run and counted as any other, and when they end nobody makes another.
//!
//! Inside such a pod is the only one of a set that no controller looks at, so that whoever looks for pods by their labels finds it among the others.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::replica_set_sync::Birth;
use super::{Cluster, Keeper, ReplicaSet, SetStatus};
use crate::cluster::objects::BarePod;
use crate::engine::EventId;

impl Cluster {
    /// Creates a pod; whether there was none of this name.
    pub fn apply_pod(&self, spec: BarePod, because: Option<EventId>) -> bool {
        let (owner, name) = (spec.owner(), spec.key.rsplit('/').next().unwrap_or_default());
        let (name, identity): (Rc<str>, Rc<str>) = (Rc::from(name), Rc::from(format!("{owner}/0")));
        let id = {
            let mut state = self.inner.state.borrow_mut();
            if state.sets.values().any(|set| set.keeper == Keeper::Nobody && set.owner == owner) {
                return false;
            }
            let id = state.set_next;
            state.set_next += 1;
            let set = ReplicaSet {
                name: Rc::clone(&name),
                owner,
                template: Rc::new(spec.template),
                replicas: 1,
                min_ready_seconds: 0,
                desired_annotation: None,
                max_annotation: None,
                revision: 0,
                status: SetStatus::default(),
                pods: BTreeSet::new(),
                is_busy: false,
                is_asked_again: false,
                is_resized: false,
                keeper: Keeper::Nobody,
                because,
                created_at: self.inner.sim.now(),
            };
            state.sets.insert(id, set);
            id
        };
        let names = self.inner.streams.stream("pod-name", &identity);
        self.make_pod(id, Birth { identity, name, names, only_on: None }, because);
        true
    }
}
