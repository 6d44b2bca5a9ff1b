//! Nodes whose machines are told to shut down: their kubelets end their pods first, as [`crate::cluster::kubelet::shutdown`] says.
//!
//! What the kubelet cannot tell before the machine goes is never told, and such a pod is found by the node's silence.

use std::time::Duration;

use super::Cluster;
use crate::cluster::kubelet::shutdown::{ShutdownGraces, grace_seconds};
use crate::cluster::node_lifecycle::Readiness;
use crate::cluster::notice::until;
use crate::engine::{EventId, Signal};

/// What the kubelet writes to a pod, and to its node. Source: nodeshutdown_manager_linux.go.
const POD_MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
const NODE_MESSAGE: &str = "node is shutting down";

impl Cluster {
    /// A machine shuts down: its pods end first, as far as there is time for them. It boots again after a time, or not.
    pub(super) fn shut_down(
        &self,
        index: usize,
        graces: &ShutdownGraces,
        back_after: Option<Duration>,
        because: EventId,
    ) {
        let is_down = {
            let mut state = self.inner.state.borrow_mut();
            let node = &mut state.nodes[index];
            node.is_dead() || std::mem::replace(&mut node.is_shutting_down, true)
        };
        if is_down {
            return;
        }
        let data = vec![("reason", NODE_MESSAGE.into())];
        let event = self.tell_of_node(index, Some(because), "node_shutting_down", data);
        let (this, graces) = (self.clone(), graces.clone());
        if !graces.groups().is_empty() {
            self.report_readiness(index, Readiness::NotReady, Some(event));
            self.watch_nodes();
        }
        self.count_operation(1);
        self.inner.sim.spawn("node-shutdown", async move {
            this.end_pods(index, &graces, event).await;
            this.count_operation(-1);
            this.kill_machine(index, false, Some(event));
            if let Some(back_after) = back_after {
                this.inner.sim.sleep(back_after).await;
                this.boot_machine(index);
            }
        });
    }

    /// Ends the pods of a node, group after group.
    async fn end_pods(&self, index: usize, graces: &ShutdownGraces, event: EventId) {
        let order = {
            let state = self.inner.state.borrow();
            graces.order(state.pods.on(index).map(|(id, pod)| (*id, pod.template.placement.priority)))
        };
        for (group, pods) in order {
            let mut ends: Vec<Signal> = Vec::new();
            for id in pods {
                let signals = {
                    let mut state = self.inner.state.borrow_mut();
                    state.pods.get_mut(&id).map(|pod| {
                        pod.record.terminating_at = pod.record.terminating_at.or(Some(self.inner.sim.now()));
                        pod.demands.end_within(grace_seconds(pod.template.grace_seconds, group));
                        (pod.evicted.clone(), pod.removed.clone(), pod.is_deleting())
                    })
                };
                // One that has ended with a group before is gone.
                let Some((evicted, removed, is_deleting)) = signals else { continue };
                if !is_deleting {
                    self.note_event(id, Some(event));
                    self.tell_of_pod(id, "terminated_by_kubelet", vec![("reason", POD_MESSAGE.into())]);
                }
                evicted.raise();
                ends.push(removed);
            }
            let all = async {
                for end in &ends {
                    end.raised().await;
                }
            };
            let _ = until(self.inner.sim.sleep(Duration::from_secs(group.seconds.into())), all).await;
        }
    }

    /// Whether a node takes no pod any more, not even one that is bound to it.
    pub(in crate::cluster) fn is_shutting_down(&self, index: usize) -> bool {
        self.inner.state.borrow().nodes[index].is_shutting_down
    }

    /// A kubelet turns a pod away, which is shown with this status from then on.
    pub(in crate::cluster) fn reject(&self, id: u64, reason: &str, status: Option<&'static str>) {
        self.tell_of_pod(id, "pod_rejected", vec![("reason", reason.into())]);
        self.pod_failed(id, status);
    }
}
