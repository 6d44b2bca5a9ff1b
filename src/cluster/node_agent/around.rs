//! What comes before a pod's own container: its image, init containers, sidecars.
//!
//! An image is pulled once per node, unless it was removed, and one after the other ([`crate::cluster::image_pulls`]); one that cannot be pulled is tried again under a back-off of its own. Init containers run one
//! after another, and sidecars start among them; they end after the process ([`super::ending`]). What they do is not known, so an init container is a time, and a sidecar ends at SIGTERM.
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/images/image_manager.go, pkg/kubelet/kuberuntime/kuberuntime_container.go; the rules are in [`crate::cluster::kubelet`].

use std::rc::Rc;
use std::time::Duration;

use super::{Agent, Bound};
use crate::cluster::kubelet::backoff::{SYNC_RETRY, SYNC_SPREAD_PERCENT};
use crate::cluster::kubelet::image_backoff::{Attempt, ImageBackoff};
use crate::cluster::kubelet::sidecar::started_at;
use crate::cluster::objects::PodTemplate;
use crate::units::SimTime;

impl Agent {
    /// Ends when an image is on the pod's node: never, for one that cannot be pulled and is not there. What runs at the start has its image.
    pub(super) async fn pull_image(&self, node: &Rc<str>, image: &str) {
        let inner = &self.cluster.inner;
        let is_there = || inner.state.borrow().images.has(node, image, self.sim().now());
        if !inner.config.bad_images.contains(image) || self.cluster.stands() || is_there() {
            self.sim().sleep_until(self.image_pulled_at(node, image)).await;
            // The kubelet tells of it with the node's status; that it does so at once is an approximation.
            if let (Some(index), Some(bytes)) = (self.node_index.get(), inner.config.image_sizes.get(image)) {
                inner.state.borrow_mut().placing.put_image(index, image, *bytes);
            }
            return;
        }
        let mut backoff = ImageBackoff::default();
        let mut syncs = self.stream("pod-sync");
        loop {
            let reason = match backoff.at_sync(self.sim().now()) {
                Attempt::Pull => {
                    let takes = self.draw(&inner.config.image_pull, "image-pull-failure");
                    let over_at = inner.state.borrow_mut().images.fail(node, self.sim().now(), takes);
                    self.sim().sleep_until(over_at).await;
                    backoff.failed(self.sim().now());
                    self.tell(None, "image_pull_failed", vec![("image", image.into())]);
                    "ErrImagePull"
                }
                Attempt::Wait => "ImagePullBackOff",
            };
            if let Some(pod) = inner.state.borrow_mut().pods.get_mut(&self.id) {
                pod.waiting = Some(reason);
            }
            self.cluster.pod_changed(self.id);
            let spread = SYNC_RETRY * SYNC_SPREAD_PERCENT / 100;
            self.sim().sleep(SYNC_RETRY + syncs.uniform(Duration::ZERO, spread)).await;
        }
    }

    /// When an image is on a node, for a container that asks for it now.
    fn image_pulled_at(&self, node: &Rc<str>, image: &str) -> SimTime {
        let inner = &self.cluster.inner;
        let now = self.sim().now();
        inner.state.borrow_mut().images.ask(node, image, now, |removals| {
            let again = if removals == 0 { String::new() } else { format!("/{removals}") };
            let mut stream = inner.streams.stream("image-pull", &format!("{node}/{image}{again}"));
            let pull = inner.config.image_pull.draw(&mut stream);
            if self.cluster.stands() { Duration::ZERO } else { pull }
        })
    }

    /// Runs what comes before a pod's own containers, one after another.
    pub(super) async fn start_before(&self, template: &PodTemplate, bound: &Bound) {
        for (done, container) in template.init.iter().enumerate() {
            self.show_init(done);
            self.pull_image(&bound.node, &container.image).await;
            let purpose = format!("init-container-{}-{}", container.name, self.boots.get());
            self.sim().sleep(self.draw(&self.cluster.inner.config.init_container, &purpose)).await;
            let name = vec![("container", (&*container.name).into())];
            match &container.sidecar {
                None => self.tell(None, "init_container_completed", name),
                Some(sidecar) => {
                    let now = self.sim().now();
                    if !self.cluster.stands() {
                        self.sim().sleep_until(started_at(sidecar.startup.as_ref(), bound.at, now)).await;
                    }
                    self.tell(None, "sidecar_started", name)
                }
            };
        }
        self.show_init(template.init.len());
    }

    /// The pod's network is there before its containers.
    pub(super) fn show_sandbox(&self) {
        let ip = self.cluster.inner.config.identity.pod_ip(self.id);
        if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id).filter(|pod| pod.ip.is_none()) {
            pod.sandbox_ip = (self.boots.get() == 0).then_some(ip);
        }
    }

    /// So many of the containers that come first are behind the pod.
    fn show_init(&self, done: usize) {
        if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.init_done = done;
        }
    }
}
