//! Pods without a controller: placed, run and counted as any other, and when they end nobody makes another.
//!
//! Of one that is there the API server lets labels, annotations and images change, and little else. Its endpoints follow its labels at once, and its kubelet restarts the container whose
//! image is another ([`crate::cluster::node_agent`]); whatever else was made with the pod stays.
//!
//! Inside such a pod is the only one of a set that no controller looks at, so that whoever looks for pods by their labels finds it among the others.
//!
//! Source: Kubernetes v1.28.7 pkg/apis/core/validation (`ValidatePodUpdate`).

use std::rc::Rc;
use std::time::Duration;

use super::node_sync::{GC_PERIOD, GC_QUARANTINE};
use super::replica_set_sync::Birth;
use super::{Caller, Cluster, Keeper, ReplicaSet};
use crate::cluster::objects::{BarePod, PodTemplate};
use crate::cluster::scheduler::Change;
use crate::engine::EventId;

/// What an edit of a pod has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PodEdit {
    /// It has other labels, annotations or images now.
    Edited,
    /// It was so already.
    Unchanged,
    /// There is no such pod.
    NotFound,
}

/// What may change of a pod, changed as it is `wanted`.
fn edited(template: &PodTemplate, wanted: &PodTemplate) -> PodTemplate {
    PodTemplate {
        labels: wanted.labels.clone(),
        annotations: wanted.annotations.clone(),
        image: wanted.image.clone(),
        ..template.clone()
    }
}

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

    /// Writes labels, annotations and the image of a pod that is there.
    pub fn edit_pod(&self, wanted: &BarePod, because: Option<EventId>) -> PodEdit {
        let owner = wanted.owner();
        let (id, before, after) = {
            let mut state = self.inner.state.borrow_mut();
            let found = state.sets.values_mut().find(|set| set.keeper == Keeper::Nobody && set.owner == owner);
            let Some((set, id)) = found.and_then(|set| set.pods.first().copied().map(|id| (set, id))) else {
                return PodEdit::NotFound;
            };
            let (before, after) = (Rc::clone(&set.template), edited(&set.template, &wanted.template));
            if after == *before {
                return PodEdit::Unchanged;
            }
            set.template = Rc::new(after);
            let after = Rc::clone(&set.template);
            if let Some(pod) = state.pods.get_mut(&id) {
                pod.template = Rc::clone(&after);
            }
            state.file_anew(id);
            (id, before, after)
        };
        self.note_event(id, because);
        let has_other_labels = before.labels != after.labels;
        let changed = [
            ("labels", has_other_labels),
            ("annotations", before.annotations != after.annotations),
            ("image", before.image != after.image),
        ];
        let changed: Vec<&str> = changed.into_iter().filter(|(_, is_other)| *is_other).map(|(name, _)| name).collect();
        self.tell_of_pod(id, "pod_edited", vec![("changed", changed.join(",").as_str().into())]);
        let (namespace, event, image_edits) = {
            let state = self.inner.state.borrow();
            let pod = &state.pods[&id];
            (Rc::clone(&pod.record.namespace), pod.last_event, pod.image_edits.clone())
        };
        if has_other_labels {
            self.publish_endpoints_of(id, Some(event));
            self.enqueue_budgets_of(&namespace, &before.labels);
            self.enqueue_budgets_of(&namespace, &after.labels);
        }
        if let Some(edits) = image_edits.filter(|_| before.image != after.image) {
            edits.raise();
        }
        PodEdit::Edited
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
