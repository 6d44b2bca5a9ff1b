//! The end of a pod: its hook, its signals, its sidecars, and the shorter grace that somebody may ask for on the way.
//!
//! A kill whose grace is shortened, or that was a probe's before the pod was deleted, begins anew: the hook once more, for the new grace at most, and then the rest of it up to SIGKILL. SIGTERM is sent once.
//! Source: Kubernetes v1.28.7 pkg/kubelet/pod_workers.go (`UpdatePod`), pkg/kubelet/kuberuntime/kuberuntime_container.go (`killContainer`).

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;

use super::Agent;
use crate::cluster::control::{Kill, KillCause};
use crate::cluster::deployment::PodPhase;
use crate::cluster::kubelet::exit::{ContainerExit, ProcessEnd};
use crate::cluster::kubelet::grace::{GraceSettings, KillReason, TerminationGrace, stop_times};
use crate::cluster::kubelet::pressure;
use crate::cluster::kubelet::sidecar::sigterm_times;
use crate::cluster::notice::until;
use crate::cluster::objects::{PodTemplate, Probe};
use crate::cluster::prober::Container;
use crate::engine::{EventId, TaskGroup};
use crate::units::SimTime;

/// Why a process is made to end.
#[derive(Clone, Copy)]
pub(super) enum Why {
    /// Its pod is deleted.
    Deleted,
    /// A probe has failed.
    Probe,
    /// Its pod is evicted by the kubelet, for this.
    Evicted(KillCause),
    /// Its image is edited.
    Edited,
    /// Its machine shuts down.
    Shutdown,
}

impl Why {
    fn text(self) -> Option<&'static str> {
        match self {
            Self::Deleted => None,
            Self::Probe => Some("probe failed"),
            Self::Evicted(_) => Some("evicted"),
            // Source: pkg/kubelet/kuberuntime/kuberuntime_manager.go `computePodActions`.
            Self::Edited => Some("its definition changed"),
            Self::Shutdown => Some("the node is shutting down"),
        }
    }

    fn kill_cause(self) -> Option<KillCause> {
        match self {
            Self::Deleted | Self::Edited | Self::Shutdown => None,
            Self::Probe => Some(KillCause::Probe),
            Self::Evicted(cause) => Some(cause),
        }
    }
}

/// How far a pod's end has come, however often it began anew.
#[derive(Default)]
pub(super) struct Progress {
    hook_ran: Cell<bool>,
    sigterm: Cell<Option<EventId>>,
    sidecars_ended: Cell<usize>,
    /// The last request that shortened its grace.
    hurried: Cell<Option<EventId>>,
}

impl Agent {
    pub(super) fn grace_of_probes(&self, template: &PodTemplate, reason: KillReason) -> u32 {
        let own = |probe: &Option<Probe>| probe.as_ref().and_then(|probe| probe.spec.termination_grace_seconds);
        let settings = GraceSettings {
            deletion_seconds: None,
            pod_seconds: Some(template.grace_seconds),
            startup_probe_seconds: own(&template.probes.startup),
            liveness_probe_seconds: own(&template.probes.liveness),
        };
        settings.for_kill(reason)
    }

    /// Ends the process of a deleted pod.
    pub(super) async fn stop(&self, container: &Container, template: &PodTemplate, progress: &Progress) {
        let hop = self.draw(&self.cluster.inner.config.hop, "kubelet-hop");
        self.sim().sleep(hop).await;
        self.end_containers(container, template, template.grace_seconds, Why::Deleted, progress).await;
        self.write_end(PodPhase::Succeeded);
    }

    /// Ends the process of a pod that the kubelet ends by itself: for want of memory or disk, or because the machine shuts down. Nobody probes it any more.
    pub(super) async fn evict(&self, container: &Container, template: &PodTemplate, probes: &TaskGroup) {
        probes.abort();
        let (grace, why) = match self.demands.kubelet_seconds() {
            Some(seconds) => (seconds, Why::Shutdown),
            None => {
                let version = self.cluster.inner.config.version;
                let cause = self.cluster.evicted_for(self.id).unwrap_or(KillCause::NodePressure);
                (pressure::grace_seconds(version, template.grace_seconds), Why::Evicted(cause))
            }
        };
        self.end_containers(container, template, grace, why, &Progress::default()).await;
        self.write_end(PodPhase::Failed);
    }

    fn write_end(&self, phase: PodPhase) {
        if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.phase = phase;
            pod.are_containers_ready = false;
            pod.is_ready = false;
        }
    }

    /// Ends all containers within a grace, anew for each request that shortens it.
    async fn end_containers(
        &self,
        container: &Container,
        template: &PodTemplate,
        grace_seconds: u32,
        why: Why,
        progress: &Progress,
    ) {
        let mut grace = TerminationGrace::default();
        self.demands.count(&mut grace, grace_seconds);
        loop {
            let seconds = grace.seconds().expect("a grace has been asked for");
            let kill = async {
                let began_at = self.sim().now();
                if container.is_running() {
                    self.end_process(container, template, seconds, why, progress).await;
                }
                self.beside_ended(template, began_at, seconds).await;
                self.stop_sidecars(template, began_at, seconds, progress).await;
            };
            if until(self.shortened(&mut grace, grace_seconds), pin!(kill)).await.is_some() {
                return;
            }
            progress.hurried.set(self.demands.because());
        }
    }

    /// Ends when a request that the kubelet hears shortens the grace.
    async fn shortened(&self, grace: &mut TerminationGrace, own_seconds: u32) {
        loop {
            let changes = self.demands.changes();
            changes.changed_since(changes.version()).await;
            self.reached().await;
            if self.demands.count(grace, own_seconds) {
                return;
            }
        }
    }

    /// Ends a process: hook, SIGTERM, and SIGKILL when the grace is over.
    pub(super) async fn end_process(
        &self,
        container: &Container,
        template: &PodTemplate,
        grace_seconds: u32,
        why: Why,
        progress: &Progress,
    ) {
        let begins_at = self.sim().now();
        let process = container.process();
        let hook = template.pre_stop.filter(|_| process.has_hook());
        let times = stop_times(grace_seconds, hook);
        let mut because = if let Why::Deleted = why { self.demands.because() } else { None };
        if template.pre_stop.is_some() && hook.is_none() {
            // The kubelet tells of it, and goes on. Source: pkg/kubelet/kuberuntime `executePreStopHook` (`FailedPreStopHook`).
            because = Some(self.tell(because, "prestop_failed", Vec::new()));
        }
        if hook.is_some() {
            let started = self.tell(because, "prestop_started", Vec::new());
            // What it orders it has ordered before.
            if !progress.hook_ran.replace(true) {
                process.pre_stop(started);
            }
            let hook = self.sim().sleep_until(begins_at.after(times.sigterm));
            if until(process.exited(), hook).await.is_none() {
                self.has_exited(container, ContainerExit::BY_ITSELF, why.kill_cause());
                return;
            }
            because = Some(self.tell(None, "prestop_finished", Vec::new()));
        }
        let sigterm = progress.sigterm.get().unwrap_or_else(|| {
            let told = why.text().map(|text| ("reason", text.into()));
            let sigterm = self.tell(because, "sigterm", told.into_iter().collect());
            self.note(|record, now| {
                record.sigterm_at = Some(now);
                record.sigterm_event = Some(sigterm);
            });
            process.terminate(sigterm);
            progress.sigterm.set(Some(sigterm));
            sigterm
        });
        let kill = self.sim().sleep_until(begins_at.after(times.sigkill));
        let mut exit = ContainerExit::COMPLETED;
        if until(kill, process.exited()).await.is_none() {
            exit = ContainerExit::GRACE_OVER;
            let because = progress.hurried.get().unwrap_or(sigterm);
            let sigkill = self.tell(Some(because), "sigkill", vec![("reason", exit.reason.into())]);
            process.kill(sigkill);
        }
        self.has_exited(container, exit, why.kill_cause());
    }

    /// Ends the sidecars of a deleted pod whose own container ended, or had ended, by now. `began_at` is the beginning of its end.
    async fn stop_sidecars(&self, template: &PodTemplate, began_at: SimTime, grace_seconds: u32, progress: &Progress) {
        let sidecars = template.init.iter().filter_map(|container| Some((container, container.sidecar.as_ref()?)));
        let (names, hooks): (Vec<_>, Vec<_>) =
            sidecars.map(|(container, sidecar)| (Rc::clone(&container.name), sidecar.pre_stop)).unzip();
        let times = sigterm_times(grace_seconds, self.sim().now().since(began_at), &hooks);
        for (name, time) in names.iter().zip(times).rev().skip(progress.sidecars_ended.get()) {
            // Time passed already, where a grace was shorter than the container's end.
            self.sim().sleep_until(began_at.after(time).max(self.sim().now())).await;
            progress.sidecars_ended.set(progress.sidecars_ended.get() + 1);
            self.tell(None, "sidecar_exited", vec![("container", (&**name).into())]);
        }
    }

    /// The process has ended: as it says itself, or else so. `why` is told of the end of a process that was made to end, and its pod not deleted.
    pub(super) fn has_exited(&self, container: &Container, otherwise: ContainerExit, why: Option<KillCause>) {
        container.has_ended();
        let own_end = container.process().own_end();
        let exit = ContainerExit::of(own_end, otherwise);
        let is_oom = exit == ContainerExit::OUT_OF_MEMORY;
        let mut data = vec![("code", exit.code.into())];
        if is_oom {
            self.tell(None, "sigkill", vec![("reason", exit.reason.into())]);
            data.push(("reason", exit.reason.into()));
        }
        let event = self.tell(None, "container_exited", data);
        self.note(|record, now| {
            record.exited_at = Some(now);
            record.exit_reason = Some(exit.reason);
            record.exit_event = Some(event);
            let why = match own_end {
                Some(ProcessEnd::OutOfMemory) => Some(KillCause::OutOfMemory),
                Some(ProcessEnd::NodeOutOfMemory) => Some(KillCause::NodePressure),
                _ => why,
            };
            if let Some(why) = why {
                record.killed = Some(Kill { why, at: now, event, restarted_at: None });
            }
        });
    }
}
