//! Kubelets without containers: somebody else writes what becomes of pods.
//!
//! The control plane is the same as with node agents: pods are made, bound by the scheduler, counted and deleted by its controllers. What happens
//! between the binding and the end is up to a [`HollowKubelet`], which reports it by [`Cluster::report_running`] and its like. Recorded timelines of
//! real control planes are replayed this way, and clusters so large that their containers would be in the way.

use std::rc::Rc;

use super::control::{Cluster, Kubelets};
use super::deployment::PodPhase;
use super::notice::until;

/// Takes pods through their lives, in place of node agents.
pub trait HollowKubelet {
    /// A pod has got a node.
    fn bound(&self, pod: &HollowPod);
    /// A pod that has a node is to end; it stays until [`Cluster::report_gone`].
    fn deleted(&self, pod: &HollowPod);
}

/// A pod as a hollow kubelet sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HollowPod {
    /// Its number: pods are counted from 0 in the order of their creation.
    pub id: u64,
    /// The Deployment it belongs to, as `namespace/name`.
    pub owner: Rc<str>,
    /// Its image.
    pub image: String,
    /// Its node.
    pub node: Rc<str>,
    /// It runs.
    pub is_running: bool,
    /// From the request to delete it to its end, at most.
    pub grace_seconds: u32,
}

/// Starts the life of a pod of a cluster without containers.
pub(super) fn live(cluster: &Cluster, id: u64) {
    let cluster = cluster.clone();
    cluster.inner.sim.clone().spawn("hollow-pod", async move {
        let deletion = cluster.inner.state.borrow().pods[&id].deletion.clone();
        if until(deletion.raised(), super::node_agent::bind(&cluster, id)).await.is_none() {
            // The API server removes a pod without a node at once.
            cluster.pod_gone(id);
            return;
        }
        let Kubelets::Hollow(kubelet) = &cluster.inner.kubelets else { return };
        if let Some(pod) = cluster.hollow_pod(id) {
            kubelet.bound(&pod);
        }
        deletion.raised().await;
        if let Some(pod) = cluster.hollow_pod(id) {
            kubelet.deleted(&pod);
        }
    });
}

impl Cluster {
    fn hollow_pod(&self, id: u64) -> Option<HollowPod> {
        let state = self.inner.state.borrow();
        let pod = state.pods.get(&id)?;
        Some(HollowPod {
            id,
            owner: Rc::clone(&pod.owner),
            image: pod.template.image.clone(),
            node: pod.record.node.clone()?,
            is_running: pod.phase == PodPhase::Running,
            grace_seconds: pod.template.grace_seconds,
        })
    }

    /// A pod's containers run; it may be ready at the same time. What is gone already is left alone, here and below.
    pub fn report_running(&self, id: u64, is_ready: bool) {
        {
            let now = self.inner.sim.now();
            let mut state = self.inner.state.borrow_mut();
            let Some(pod) = state.pods.get_mut(&id) else { return };
            pod.phase = PodPhase::Running;
            pod.ip = Some(self.inner.config.identity.pod_ip(id));
            pod.record.ip = pod.ip;
            pod.record.started_at = Some(now);
        }
        self.tell_of_pod(id, "container_started", Vec::new());
        if is_ready {
            self.report_ready(id, true);
        } else {
            self.pod_changed(id);
        }
    }

    /// A pod's readiness changes.
    pub fn report_ready(&self, id: u64, is_ready: bool) {
        self.write_readiness(id, is_ready);
    }

    /// The containers of a pod have been started anew so often.
    pub fn report_restarts(&self, id: u64, count: u32) {
        if let Some(pod) = self.inner.state.borrow_mut().pods.get_mut(&id) {
            pod.restarts = count;
        }
        self.pod_changed(id);
    }

    /// A pod has ended: its object goes.
    pub fn report_gone(&self, id: u64) {
        if let Some(pod) = self.inner.state.borrow_mut().pods.get_mut(&id) {
            pod.phase = PodPhase::Succeeded;
            pod.are_containers_ready = false;
            pod.is_ready = false;
        }
        self.pod_gone(id);
    }
}
