//! What is left of pods that have failed: their objects, which nobody counts and `kubectl get pods` shows until somebody deletes them.
//!
//! A pod that a kubelet has ended or turned away fails, and its set makes another. It has no address, takes up nothing, and is no member of anything; to all but those who list
//! pods it is gone, and the event log says so. The object goes with its owner, its revision's set or its node, with a drain, or when it is deleted by its name. That of a
//! `DaemonSet`'s pod is deleted by its controller, and is not kept here at all.
//!
//! Left out: the garbage collector takes the oldest where there are more than 12,500 (`--terminated-pod-gc-threshold`).
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/kubelet.go (`rejectPod`), pkg/printers/internalversion/printers.go (`printPod`), pkg/controller/podgc/gc_controller.go.

use std::rc::Rc;

use super::view::PodView;
use super::{Cluster, Keeper, State};
use crate::cluster::kubelet::exit::ContainerExit;

/// The object of a pod that has failed.
pub(super) struct Remains {
    key: Rc<str>,
    view: PodView,
}

impl Remains {
    /// The number of its set.
    pub(super) fn set(&self) -> u64 {
        self.view.set
    }
}

/// The words under STATUS of pods that were turned away.
const REFUSALS: [&str; 6] = ["NodeShutdown", "OutOfcpu", "OutOfmemory", "OutOfpods", "NodeAffinity", "TaintToleration"];

/// The word under STATUS of a pod that was turned away for this; none for those that are not known here.
pub(in crate::cluster) fn refused(reason: &str) -> Option<&'static str> {
    REFUSALS.into_iter().find(|word| *word == reason)
}

/// The word under STATUS of a pod whose kubelet has ended it: its container's, which outweighs the pod's own.
fn ended(exit_reason: Option<&str>) -> &'static str {
    match exit_reason {
        // It had no container.
        None => "Terminated",
        Some(reason) if reason == ContainerExit::COMPLETED.reason => "Completed",
        Some(reason) if reason == ContainerExit::OUT_OF_MEMORY.reason => "OOMKilled",
        Some(_) => "Error",
    }
}

impl State {
    /// The objects of pods that have failed.
    pub(super) fn remains(&self) -> impl Iterator<Item = &PodView> {
        self.remains.iter().map(|remains| &remains.view)
    }

    /// Deletes the objects of pods that have failed, of those that are meant; whether there were any.
    pub(super) fn forget_remains(&mut self, is_meant: impl Fn(&PodView) -> bool) -> bool {
        let count = self.remains.len();
        self.remains.retain(|remains| !is_meant(&remains.view));
        self.remains.len() < count
    }

    /// Whether there is one of this `namespace/name`.
    pub(super) fn has_remains(&self, key: &str) -> bool {
        self.remains.iter().any(|remains| *remains.key == *key)
    }

    /// Deletes the one of this `namespace/name`; whether there was one.
    pub(super) fn delete_remains(&mut self, key: &str) -> bool {
        let count = self.remains.len();
        self.remains.retain(|remains| *remains.key != *key);
        self.remains.len() < count
    }
}

impl Cluster {
    /// A pod's kubelet has ended it.
    pub(in crate::cluster) fn pod_ended(&self, id: u64) {
        let status = self.inner.state.borrow().pods.get(&id).map(|pod| ended(pod.record.exit_reason));
        self.pod_failed(id, status);
    }

    /// A pod has failed, and is shown with this status from now on, if with any. One that was deleted before is gone for good.
    pub(in crate::cluster) fn pod_failed(&self, id: u64, status: Option<&'static str>) {
        let remains = {
            let state = self.inner.state.borrow();
            let pod = state.pods.get(&id).filter(|pod| !pod.is_deleting() && pod.keeper != Keeper::DaemonSet);
            pod.zip(status).map(|(pod, status)| {
                let view = state.pod_view(id);
                let containers = (0, view.containers.1);
                let view = PodView { status: status.into(), is_ready: false, ip: None, containers, ..view };
                Remains { key: Rc::clone(&pod.record.key), view }
            })
        };
        self.pod_gone(id);
        self.inner.state.borrow_mut().remains.extend(remains);
    }
}
