//! What is left of pods that have failed: their objects, which nobody counts and `kubectl get pods` shows until somebody deletes them.
//!
//! A pod that a kubelet has ended or turned away fails, and its set makes another. It has no address, takes up nothing, and is no member of anything; to all but those who list
//! pods it is gone, and the event log says so. The object goes with its owner, its revision's set or its node, with a drain, or when it is deleted by its name. That of a
//! `DaemonSet`'s pod is deleted by its controller, and is not kept here at all.
//!
//! Where there are too many, the garbage collector deletes the surplus: [`crate::cluster::pod_collection`].
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/kubelet.go (`rejectPod`), pkg/printers/internalversion/printers.go (`printPod`), pkg/controller/podgc/gc_controller.go.

use std::rc::Rc;
use std::time::Duration;

use super::view::PodView;
use super::{Caller, Cluster, Keeper, State};
use crate::cluster::kubelet::exit::ContainerExit;
use crate::cluster::pod_collection::{Ended, PERIOD, surplus};

/// The object of a pod that has failed.
pub(super) struct Remains {
    key: Rc<str>,
    view: PodView,
    is_evicted: bool,
}

impl Remains {
    /// The number of its set.
    pub(super) fn set(&self) -> u64 {
        self.view.set
    }
}

/// The reason of a pod that its kubelet has evicted, or turned away for want of something.
pub(in crate::cluster) const EVICTED: &str = "Evicted";

/// The words under STATUS of pods that were turned away.
const REFUSALS: [&str; 7] = [
    "NodeShutdown",
    "OutOfcpu",
    "OutOfmemory",
    "OutOfephemeral-storage",
    "OutOfpods",
    "NodeAffinity",
    "TaintToleration",
];

/// The word under STATUS of a pod that was turned away for this; none for those that are not known here.
pub(in crate::cluster) fn refused(reason: &str) -> Option<&'static str> {
    REFUSALS.into_iter().find(|word| *word == reason)
}

/// The word under STATUS of a pod whose kubelet has ended it: its container's, which outweighs the pod's own.
fn ended(exit_reason: Option<&str>, is_evicted: bool) -> &'static str {
    match exit_reason {
        // It had no container.
        None if is_evicted => EVICTED,
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
        let status =
            self.inner.state.borrow().pods.get(&id).map(|pod| ended(pod.record.exit_reason, pod.evicted_for.is_some()));
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
                let is_evicted = pod.evicted_for.is_some() || status == EVICTED;
                Remains { key: Rc::clone(&pod.record.key), view, is_evicted }
            })
        };
        self.pod_gone(id);
        self.inner.state.borrow_mut().remains.extend(remains);
        self.collect_remains();
    }

    /// Has the garbage collector look, at its next time, if there are more than may stay.
    fn collect_remains(&self) {
        let is_due = {
            let mut state = self.inner.state.borrow_mut();
            let threshold = self.inner.config.terminated_pods_max;
            let has_surplus = threshold > 0 && state.remains.len() > threshold;
            has_surplus && !std::mem::replace(&mut state.is_collecting, true)
        };
        if !is_due {
            return;
        }
        let this = self.clone();
        self.inner.sim.spawn("pod-gc", async move {
            let phase = this.inner.streams.stream("pod-gc", "").uniform(Duration::ZERO, PERIOD);
            let since = this.inner.sim.now().as_nanos();
            let (period, phase) = (PERIOD.as_nanos(), phase.as_nanos());
            let wait = period - (u128::from(since) + period - phase) % period;
            this.inner.sim.sleep(Duration::from_nanos(u64::try_from(wait).expect("20 s in 64 bits"))).await;
            this.inner.state.borrow_mut().is_collecting = false;
            for key in this.surplus() {
                this.called(Caller::PodCollector, 1).await;
                let was_there = this.inner.state.borrow_mut().delete_remains(&key);
                if was_there {
                    this.tell(None, "pod_collected", format!("Pod/{key}"), Vec::new());
                }
            }
            this.collect_remains();
        });
    }

    /// The objects that go, in that order.
    fn surplus(&self) -> Vec<Rc<str>> {
        let state = self.inner.state.borrow();
        let clock = self.inner.clock;
        let ended = |remains: &Remains| Ended {
            name: Rc::clone(&remains.view.name),
            created_at: clock.stamp(remains.view.created_at),
            is_evicted: remains.is_evicted,
        };
        let all: Vec<Ended> = state.remains.iter().map(ended).collect();
        let order = surplus(&all, self.inner.config.terminated_pods_max, self.inner.config.version);
        order.into_iter().map(|index| Rc::clone(&state.remains[index].key)).collect()
    }
}
