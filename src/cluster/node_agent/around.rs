//! What comes before a pod's own container: its image, init containers, sidecars.
//!
//! An image is pulled once per node, unless it was removed, and one after the other ([`crate::cluster::image_pulls`]); one that cannot be pulled is tried again under a back-off of its own. A container that
//! always pulls asks the registry for an image that is there, too: that it answers, and at once, is assumed, unless nobody can pull the image. One that never pulls waits, and looks at each sync of its pod. Init containers run one
//! after another, and sidecars start among them; they end after the process ([`super::ending`]). What they do is not known, so an init container is a time, and a sidecar ends at SIGTERM.
//!
//! Source: Kubernetes v1.28.7 pkg/kubelet/images/image_manager.go, pkg/kubelet/kuberuntime/kuberuntime_container.go; the rules are in [`crate::cluster::kubelet`].

use std::rc::Rc;
use std::time::Duration;

use super::{Agent, Bound};
use crate::cluster::kubelet::backoff::{SYNC_RETRY, SYNC_SPREAD_PERCENT};
use crate::cluster::kubelet::image_backoff::{Attempt, ImageBackoff};
use crate::cluster::kubelet::sidecar::started_at;
use crate::cluster::objects::{PodTemplate, PullPolicy};
use crate::units::SimTime;

impl Agent {
    /// Ends when a container can start from an image: never, if it has to be pulled and cannot be. What runs at the start has its image.
    pub(super) async fn pull_image(&self, node: &Rc<str>, image: &str, policy: PullPolicy) {
        let inner = &self.cluster.inner;
        let is_there = || inner.state.borrow().images.has(node, image, self.sim().now());
        let can_pull = !inner.config.bad_images.contains(image);
        let goes_on = match policy {
            PullPolicy::Always => can_pull,
            PullPolicy::IfNotPresent => can_pull || is_there(),
            PullPolicy::Never => is_there(),
        };
        if !goes_on && !self.cluster.stands() {
            self.wait_for_image(node, image, policy).await;
        }
        self.sim().sleep_until(self.image_pulled_at(node, image)).await;
        // The kubelet tells of it with the node's status; that it does so at once is an approximation.
        if let (Some(index), Some(bytes)) = (self.node_index.get(), inner.config.image_sizes.get(image)) {
            inner.state.borrow_mut().placing.put_image(index, image, *bytes);
        }
    }

    /// Ends at once for a container that its kubelet can make a configuration for, and never for another. What runs at the start has one.
    pub(super) async fn configure(&self, is_refused: bool) {
        if !is_refused || self.cluster.stands() {
            return;
        }
        self.tell(None, "container_config_failed", Vec::new());
        if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.waiting = Some("CreateContainerConfigError");
        }
        self.cluster.pod_changed(self.id);
        std::future::pending().await
    }

    /// The syncs of a pod with an image that it cannot have. Ends when somebody else's pull has brought one that is never pulled.
    async fn wait_for_image(&self, node: &Rc<str>, image: &str, policy: PullPolicy) {
        let inner = &self.cluster.inner;
        let mut backoff = ImageBackoff::default();
        let mut syncs = self.stream("pod-sync");
        if policy == PullPolicy::Never {
            self.tell(None, "image_never_pulled", vec![("image", image.into())]);
        }
        loop {
            let reason = match backoff.at_sync(self.sim().now()) {
                _ if policy == PullPolicy::Never => "ErrImageNeverPull",
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
            if policy == PullPolicy::Never && inner.state.borrow().images.has(node, image, self.sim().now()) {
                break;
            }
        }
        if let Some(pod) = inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.waiting = None;
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
            self.pull_image(&bound.node, &container.image, container.asked.pull).await;
            self.configure(container.asked.is_refused).await;
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
