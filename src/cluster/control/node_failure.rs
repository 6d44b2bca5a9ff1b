//! Nodes that fail, and come back: their machine, their connection to the control plane, or their kubelet's own word.
//!
//! - A node that is cut off is silent to the control plane: no renewal of its lease, no status of a pod. Its pods are written as not ready when the silence is
//!   noticed, and deleted when they no longer bear it; but nobody tells its kubelet. They run on, and whoever knows their addresses reaches them.
//!   When the connection is back, the kubelet ends those that were deleted meanwhile, each with its grace, and writes the states of the others
//!   at its next sync of statuses.
//! - A kubelet that says that it is not ready goes on renewing its lease, so its pods stay ready and keep their endpoints: the controller writes pods
//!   as not ready for silence alone (kubernetes/kubernetes issue 125618). Its node is tainted, takes no new pods, and loses those it has when their
//!   toleration is over. A balancer that has nodes as targets takes it out at once.
//!
//! Source: Kubernetes v1.28.7 pkg/controller/nodelifecycle/node_lifecycle_controller.go, pkg/kubelet/status/status_manager.go (`syncPeriod`).

use std::time::Duration;

use super::Cluster;
use crate::cluster::node_lifecycle::Readiness;
use crate::cluster::operation::NodeFailure;
use crate::engine::EventId;

/// A kubelet compares what it knows of its pods with what the API server has, so often. Source: status_manager.go `syncPeriod`.
const STATUS_SYNC: Duration = Duration::from_secs(10);

impl Cluster {
    /// A node fails, for a time or for good.
    pub(super) fn fail_node(&self, index: usize, failure: NodeFailure, back_after: Option<Duration>, because: EventId) {
        match failure {
            NodeFailure::Machine => self.kill_machine(index, false, Some(because)),
            NodeFailure::Partition => self.cut_off(index, because),
            NodeFailure::NotReady => {
                self.report_readiness(index, Readiness::NotReady, Some(because));
                self.watch_nodes();
            }
        }
        let Some(back_after) = back_after else { return };
        let this = self.clone();
        self.inner.sim.spawn("node-recovery", async move {
            this.inner.sim.sleep(back_after).await;
            match failure {
                NodeFailure::Machine => this.boot_machine(index),
                NodeFailure::Partition => this.reconnect(index),
                NodeFailure::NotReady => this.report_readiness(index, Readiness::Ready, this.node_event(index)),
            }
        });
    }

    /// A kubelet says how it is, if it is heard.
    pub(super) fn report_readiness(&self, index: usize, readiness: Readiness, because: Option<EventId>) {
        if !self.inner.state.borrow().nodes[index].is_silent() {
            self.set_node_readiness(index, readiness, because);
        }
    }

    fn cut_off(&self, index: usize, because: EventId) {
        let now = self.inner.sim.now();
        if !self.inner.state.borrow_mut().nodes[index].cut_off(now) {
            return;
        }
        self.tell_of_node(index, Some(because), "node_cut_off", Vec::new());
        self.watch_nodes();
    }

    /// Kubelet and API server hear each other again.
    fn reconnect(&self, index: usize) {
        let now = self.inner.sim.now();
        let Some(links) = self.inner.state.borrow_mut().nodes[index].reconnect(now) else { return };
        let event = self.tell_of_node(index, self.node_event(index), "node_reconnected", Vec::new());
        self.report_readiness(index, Readiness::Ready, Some(event));
        links.raise();
        for id in self.pods_on(index) {
            let Some(identity) = self.inner.state.borrow().pods.get(&id).map(|pod| pod.identity.clone()) else {
                continue;
            };
            let mut syncs = self.inner.streams.stream("status-sync", &format!("{identity}/{}", now.as_nanos()));
            let wait = syncs.uniform(Duration::ZERO, STATUS_SYNC);
            let this = self.clone();
            self.inner.sim.spawn("status-sync", async move {
                this.inner.sim.sleep(wait).await;
                let found = {
                    let state = this.inner.state.borrow();
                    state.pods.get(&id).map(|pod| (pod.are_containers_ready, pod.is_ready))
                };
                if let Some((are_ready, is_ready)) = found {
                    if are_ready != is_ready {
                        this.note_event(id, Some(event));
                    }
                    this.write_readiness(id, are_ready);
                }
            });
        }
    }

    /// Ends when a node's kubelet and the API server hear each other: at once, unless it is cut off.
    pub(in crate::cluster) async fn node_reached(&self, index: usize) {
        loop {
            let Some(links) = self.inner.state.borrow().nodes[index].missing_link() else { return };
            links.changed_since(links.version()).await;
        }
    }

    /// The same of the node with this name.
    pub async fn reached(&self, node: &str) {
        if let Some(index) = self.node_named(node) {
            self.node_reached(index).await;
        }
    }

    /// Whether a node is cut off from the control plane.
    pub(in crate::cluster) fn is_cut_off(&self, index: usize) -> bool {
        self.inner.state.borrow().nodes[index].missing_link().is_some()
    }
}
