//! The image of a pod that is there is edited: its container is restarted in place, and nothing else of the pod changes.
//!
//! The kubelet hears of it a hop later. It ends the container, hook and grace included, and only then pulls the other image if the node does not have it, so one that cannot be pulled has nobody serving
//! until the image is edited once more. Meanwhile the pod is as ready as its probes find it. The pod keeps its node and its address.
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/kuberuntime/kuberuntime_manager.go (`computePodActions`, `SyncPod`, `doBackOff`).

use std::pin::pin;
use std::rc::Rc;

use super::Agent;
use crate::cluster::control::Pod;
use crate::cluster::notice::{Notice, until};
use crate::cluster::objects::PullPolicy;

/// The image that a pod's process is made from.
pub(super) struct ImageInUse {
    name: String,
    pull: PullPolicy,
    /// How often it had been edited by then.
    seen: u64,
    edits: Option<Rc<Notice>>,
}

impl ImageInUse {
    pub(super) fn of(pod: &Pod) -> Self {
        let edits = pod.image_edits.clone();
        Self {
            name: pod.template.image.clone(),
            pull: pod.template.pull(),
            seen: edits.as_ref().map_or(0, |edits| edits.version()),
            edits,
        }
    }
}

impl Agent {
    /// Ends when the kubelet has heard that the container is to run another image; never, for a pod that a controller made.
    pub(super) async fn image_edited(&self) {
        loop {
            let (edits, seen) = {
                let image = self.image.borrow();
                (image.edits.clone(), image.seen)
            };
            let Some(edits) = edits else { return std::future::pending().await };
            edits.changed_since(seen).await;
            self.reached().await;
            self.sim().sleep(self.draw(&self.cluster.inner.config.hop, "kubelet-hop")).await;
            if self.has_other_image() {
                return;
            }
            // It was taken back before anybody looked.
            self.image.borrow_mut().seen = edits.version();
        }
    }

    /// Whether the pod is to run another image than its process was made from.
    pub(super) fn has_other_image(&self) -> bool {
        let state = self.cluster.inner.state.borrow();
        let pod = state.pods.get(&self.id).filter(|pod| pod.image_edits.is_some());
        pod.is_some_and(|pod| pod.template.image != self.image.borrow().name)
    }

    /// Ends when the image that the pod is to run is on its node; that is the one it runs from now on. One that is edited meanwhile is not waited for any more.
    pub(super) async fn pull_own_image(&self, node: &Rc<str>) {
        loop {
            let Some(wanted) = self.cluster.inner.state.borrow().pods.get(&self.id).map(ImageInUse::of) else { return };
            let (image, pull, edits, seen) = (wanted.name.clone(), wanted.pull, wanted.edits.clone(), wanted.seen);
            self.image.replace(wanted);
            let Some(edits) = edits else { return self.pull_image(node, &image, pull).await };
            if until(edits.changed_since(seen), pin!(self.pull_image(node, &image, pull))).await.is_some() {
                if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
                    pod.waiting = None;
                }
                return;
            }
        }
    }
}
