//! The containers beside a pod's process, and its sidecars, as far as its readiness and its end wait for them.

use std::rc::Rc;

use super::{Agent, Running};
use crate::cluster::kubelet::beside::{ended_at, ready_at};
use crate::cluster::objects::{PodTemplate, PullPolicy, Sidecar};
use crate::cluster::prober::Container;
use crate::engine::TaskGroup;
use crate::units::SimTime;

impl Agent {
    /// Starts the containers beside the pod's process: its readiness waits for theirs, and for its sidecars'. What the run finds is ready.
    pub(super) fn start_beside(self: &Rc<Self>, running: &Running, container: &Rc<Container>, tasks: &TaskGroup) {
        let template = &running.pod.template;
        self.beside
            .set(template.containers.len().max(1) - 1 + template.init.iter().filter(|it| it.sidecar.is_some()).count());
        self.unready.set(0);
        if self.cluster.stands() {
            return;
        }
        // A sidecar has started before; here its readiness alone counts.
        let sidecars = template.init.iter().filter_map(|it| it.sidecar.clone());
        let sidecars = sidecars.map(|run| (None, Sidecar { startup: None, ..run }));
        let beside = template
            .beside()
            .map(|it| ((!it.starts_before).then(|| (it.image.clone(), it.pull, it.is_refused)), it.run.clone()));
        let is_awaited = |image: &Option<(String, PullPolicy, bool)>, run: &Sidecar| {
            image.is_some() || run.readiness.is_some() || run.startup.is_some()
        };
        let awaited: Vec<_> = sidecars.chain(beside).filter(|(image, run)| is_awaited(image, run)).collect();
        self.unready.set(awaited.len());
        for (image, run) in awaited {
            let (agent, container) = (Rc::clone(self), Rc::clone(container));
            let (node, ticks_from) = (Rc::clone(&running.pod.node), running.bound_at);
            tasks.spawn("beside", async move {
                if let Some((image, pull, is_refused)) = image {
                    agent.pull_image(&node, &image, pull).await;
                    agent.configure(is_refused).await;
                }
                let now = agent.sim().now();
                let ready_at = ready_at(run.startup.as_ref(), run.readiness.as_ref(), ticks_from, now);
                agent.sim().sleep_until(ready_at).await;
                agent.unready.set(agent.unready.get() - 1);
                if agent.unready.get() == 0 {
                    agent.set_ready(container.is_ready());
                } else {
                    agent.count_ready(container.is_ready());
                    agent.cluster.show_containers(agent.id);
                }
            });
        }
    }

    /// Notes how many containers are ready, the one whose process is simulated among them or not.
    pub(super) fn count_ready(&self, is_own_ready: bool) {
        if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.found_ready = self.beside.get().saturating_sub(self.unready.get()) + usize::from(is_own_ready);
        }
    }

    /// Ends when the containers beside the pod's process have ended, whose end began at `began_at`.
    pub(super) async fn beside_ended(&self, template: &PodTemplate, began_at: SimTime, grace_seconds: u32) {
        let ended = began_at.after(ended_at(grace_seconds, template.beside().map(|it| it.run.pre_stop)));
        if ended > self.sim().now() {
            self.sim().sleep_until(ended).await;
        }
    }
}
