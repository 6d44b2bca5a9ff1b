//! A pod's life: a node, containers, probes, and the end. The kubelet's part of it follows the rules in [`super::kubelet`].
//!
//! ```text
//! created ─schedule─→ bound ─podStart (+ imagePull)─→ running ─probes─→ ready
//! deletion ─hop─→ preStop ─→ SIGTERM ─→ exit, or SIGKILL when the grace is over ─→ gone ─sandboxRemoval─→ no network
//! ```
//!
//! A pod that finds no node waits for one: it tries again with the scheduler's back-off of 1, 2, 4, 8, 10 seconds. A process that
//! ends by itself, or that fails its liveness probe, is started again under the crash back-off.
//! Source: Kubernetes v1.28.7 pkg/kubelet/{kubelet,pod_workers}.go, pkg/kubelet/{kuberuntime,prober},
//! pkg/scheduler/internal/queue/scheduling_queue.go.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::control::Cluster;
use super::deployment::PodPhase;
use super::kubelet::backoff::{CrashBackoff, Restart};
use super::kubelet::grace::stop_times;
use super::kubelet::probe::{
    ContainerId, ContainerState, ContainerView, Outcome, PodView, ProbeKind, ProbeWorker, Tick, Verdict,
    container_ready, container_started,
};
use super::objects::Probe;
use super::{Process, StartingPod};
use crate::engine::{Datum, Delay, EventId, Sim, TaskGroup};
use crate::units::SimTime;

/// The scheduler tries a pod again after these seconds, the last one from then on.
const BACKOFF_SECONDS: [u64; 5] = [1, 2, 4, 8, 10];

/// Starts a pod's life.
pub(super) fn live(cluster: &Cluster, id: u64) {
    let cluster = cluster.clone();
    cluster.inner.sim.clone().spawn("pod", async move {
        let deletion = cluster.inner.state.borrow().pods[&id].deletion.clone();
        let agent = Rc::new(Agent { cluster, id });
        let started = until(deletion.raised(), agent.start()).await;
        match started {
            // Deleted before it had a process: there is nothing to stop.
            None => agent.cluster.pod_gone(id),
            Some(running) => agent.run(running).await,
        }
    });
}

struct Agent {
    cluster: Cluster,
    id: u64,
}

/// A pod whose containers run.
struct Running {
    pod: StartingPod,
    process: Rc<dyn Process>,
    started_at: SimTime,
    bound_at: SimTime,
}

/// The output of `future`, unless `end` comes first.
async fn until<F: Future>(end: impl Future<Output = ()>, future: F) -> Option<F::Output> {
    let (mut end, mut future) = (pin!(end), pin!(future));
    poll_fn(|cx| {
        if end.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

impl Agent {
    fn sim(&self) -> &Sim {
        &self.cluster.inner.sim
    }

    fn name(&self) -> Rc<str> {
        Rc::clone(&self.cluster.inner.state.borrow().pods[&self.id].record.name)
    }

    fn object(&self) -> String {
        let state = self.cluster.inner.state.borrow();
        let record = &state.pods[&self.id].record;
        format!("Pod/{}/{}", record.namespace, record.name)
    }

    /// Tells an event of this pod, caused by its last one, or by `because`.
    fn tell(&self, because: Option<EventId>, kind: &'static str, data: Vec<(&'static str, Datum)>) -> EventId {
        let because = because.or_else(|| Some(self.cluster.inner.state.borrow().pods[&self.id].last_event));
        let event = self.cluster.tell(because, kind, self.object(), data);
        if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.last_event = event;
        }
        event
    }

    /// Brings the pod to a node and starts its process.
    async fn start(&self) -> Running {
        let inner = &self.cluster.inner;
        let name = self.name();
        let draw = |delay: &Delay, purpose: &str| {
            let drawn = delay.draw(&mut inner.streams.stream(purpose, &name));
            if self.cluster.stands() { Duration::ZERO } else { drawn }
        };
        self.sim().sleep(draw(&inner.config.schedule, "schedule")).await;
        let node_index = self.find_node().await;
        let bound_at = self.sim().now();
        let node = &inner.config.nodes[node_index];
        if let Some(pod) = inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.record.node = Some(Rc::clone(&node.name));
            pod.record.scheduled_at = Some(bound_at);
        }
        self.tell(None, "pod_scheduled", vec![("node", (&*node.name).into())]);
        let image = inner.state.borrow().pods[&self.id].template.image.clone();
        let is_new_image = inner.state.borrow_mut().images.insert((Rc::clone(&node.name), image));
        if is_new_image {
            self.sim().sleep(draw(&inner.config.image_pull, "image-pull")).await;
        }
        self.sim().sleep(draw(&inner.config.pod_start, "pod-start")).await;
        let ip = pod_ip(self.id);
        let event = self.tell(None, "container_started", Vec::new());
        let pod = {
            let mut state = inner.state.borrow_mut();
            let pod = state.pods.get_mut(&self.id).expect("a pod that starts is there");
            pod.ip = Some(ip);
            pod.phase = PodPhase::Running;
            pod.record.ip = Some(ip);
            pod.record.started_at = Some(self.sim().now());
            StartingPod {
                owner: Rc::clone(&pod.owner),
                name,
                ip,
                node: Rc::clone(&node.name),
                template: Rc::clone(&pod.template),
                because: event,
            }
        };
        let process = inner.runtime.start(&pod);
        Running { pod, process, started_at: self.sim().now(), bound_at }
    }

    async fn find_node(&self) -> usize {
        for attempt in 0.. {
            if let Some(index) = self.cluster.place(self.id) {
                return index;
            }
            if attempt == 0 {
                self.tell(None, "pod_unschedulable", vec![("reason", "no node has room for its requests".into())]);
            }
            let seconds = BACKOFF_SECONDS[attempt.min(BACKOFF_SECONDS.len() - 1)];
            self.sim().sleep(Duration::from_secs(seconds)).await;
        }
        unreachable!("the attempts do not end")
    }

    /// Keeps the pod running until it is deleted, and then ends it.
    async fn run(self: Rc<Self>, mut running: Running) {
        let deletion = self.cluster.inner.state.borrow().pods[&self.id].deletion.clone();
        let container = Rc::new(Container::new(running.started_at));
        let probes = TaskGroup::new(self.sim());
        self.start_probes(&running, &container, &probes);
        let mut backoff = CrashBackoff::default();
        loop {
            let ended = {
                let process = running.process.exited();
                until(deletion.raised(), process).await
            };
            if ended.is_none() {
                break;
            }
            // It has ended by itself, or was killed by its liveness probe.
            let exited_at = self.sim().now();
            container.state.set(ContainerState::Terminated);
            self.tell(None, "container_exited", vec![("code", 1.into())]);
            self.set_ready(false);
            while let Restart::At(at) = backoff.try_restart(exited_at, self.sim().now()) {
                if until(deletion.raised(), self.sim().sleep_until(at)).await.is_none() {
                    break;
                }
            }
            if deletion.is_raised() {
                break;
            }
            running.pod.because = self.tell(None, "container_started", Vec::new());
            running.process = self.cluster.inner.runtime.start(&running.pod);
            container.restart(self.sim().now());
            if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
                pod.restarts += 1;
            }
        }
        self.stop(&running).await;
        container.state.set(ContainerState::Terminated);
        probes.abort();
        self.release_later(&running.pod);
        self.cluster.pod_gone(self.id);
    }

    /// Ends the process of a deleted pod: hook, SIGTERM, and SIGKILL when the grace is over.
    async fn stop(&self, running: &Running) {
        let inner = &self.cluster.inner;
        let hop = inner.config.hop.draw(&mut inner.streams.stream("kubelet-hop", &running.pod.name));
        self.sim().sleep(hop).await;
        let begins_at = self.sim().now();
        let template = &running.pod.template;
        let times = stop_times(template.grace_seconds, template.pre_stop);
        let deleted = inner.state.borrow().pods[&self.id].deleted_because;
        if template.pre_stop.is_some() {
            self.tell(deleted, "prestop_started", Vec::new());
            self.sim().sleep_until(begins_at.after(times.sigterm)).await;
            self.tell(None, "prestop_finished", Vec::new());
        }
        let because = if template.pre_stop.is_some() { None } else { deleted };
        let sigterm = self.tell(because, "sigterm", Vec::new());
        self.note(|record, now| {
            record.sigterm_at = Some(now);
            record.sigterm_event = Some(sigterm);
        });
        running.process.terminate(sigterm);
        let kill_at = begins_at.after(times.sigkill);
        let in_time = until(self.sim().sleep_until(kill_at), running.process.exited()).await.is_some();
        let (code, reason) = if in_time { (0, "completed") } else { (137, "grace period over") };
        if !in_time {
            let sigkill = self.tell(Some(sigterm), "sigkill", vec![("reason", reason.into())]);
            running.process.kill(sigkill);
        }
        let exited = self.tell(None, "container_exited", vec![("code", code.into())]);
        self.note(|record, now| {
            record.exited_at = Some(now);
            record.exit_reason = Some(reason);
            record.exit_event = Some(exited);
        });
        if let Some(pod) = inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.phase = PodPhase::Succeeded;
            pod.is_ready = false;
        }
    }

    /// The pod's network outlives its containers a little.
    fn release_later(&self, pod: &StartingPod) {
        let inner = &self.cluster.inner;
        let delay = inner.config.sandbox_removal.draw(&mut inner.streams.stream("sandbox-removal", &pod.name));
        let (cluster, ip) = (self.cluster.clone(), pod.ip);
        inner.sim.spawn("sandbox-removal", async move {
            cluster.inner.sim.sleep(delay).await;
            cluster.inner.runtime.released(ip);
        });
    }

    fn note(&self, write: impl FnOnce(&mut super::PodRecord, SimTime)) {
        let now = self.sim().now();
        if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
            write(&mut pod.record, now);
        }
    }

    fn set_ready(&self, is_ready: bool) {
        {
            let now = self.sim().now();
            let mut state = self.cluster.inner.state.borrow_mut();
            let Some(pod) = state.pods.get_mut(&self.id) else { return };
            if pod.is_ready == is_ready {
                return;
            }
            pod.is_ready = is_ready;
            pod.ready_since = Some(now);
            if is_ready {
                pod.record.ready_at = pod.record.ready_at.or(Some(now));
            }
        }
        self.tell(None, if is_ready { "pod_ready" } else { "pod_unready" }, Vec::new());
        self.cluster.pod_changed(self.id);
    }

    /// Ticks are counted from the pod's admission. A pod that the run finds was admitted at some time before.
    fn ticks_from(&self, kind: ProbeKind, probe: &Probe, running: &Running) -> SimTime {
        if !self.cluster.stands() {
            return running.bound_at;
        }
        let purpose = format!("probe-phase-{kind:?}");
        let mut stream = self.cluster.inner.streams.stream(&purpose, &running.pod.name);
        let period = Duration::from_secs(probe.spec.period_seconds.max(1).into());
        SimTime::ZERO.after(stream.uniform(Duration::ZERO, period))
    }

    fn start_probes(self: &Rc<Self>, running: &Running, container: &Rc<Container>, tasks: &TaskGroup) {
        let probes = running.pod.template.probes.clone();
        let kinds = [
            (ProbeKind::Startup, probes.startup),
            (ProbeKind::Readiness, probes.readiness),
            (ProbeKind::Liveness, probes.liveness),
        ];
        for (kind, probe) in kinds {
            let Some(probe) = probe else { continue };
            container.set_verdict(kind, kind.initial_verdict());
            let prober = Prober {
                agent: Rc::clone(self),
                container: Rc::clone(container),
                process: Rc::clone(&running.process),
                ip: running.pod.ip,
                ticks_from: self.ticks_from(kind, &probe, running),
            };
            tasks.spawn("probe", prober.run(kind, probe));
        }
        // Without a readiness probe a pod is ready as soon as it has started.
        self.set_ready(container.is_ready());
    }
}

/// The state of a pod's container that its probes share.
struct Container {
    id: Cell<u64>,
    state: Cell<ContainerState>,
    startup: Cell<Option<Verdict>>,
    readiness: Cell<Option<Verdict>>,
    changes: RefCell<Vec<std::task::Waker>>,
}

impl Container {
    fn new(since: SimTime) -> Self {
        Self {
            id: Cell::new(0),
            state: Cell::new(ContainerState::Running { since }),
            startup: Cell::new(None),
            readiness: Cell::new(None),
            changes: RefCell::default(),
        }
    }

    fn restart(&self, since: SimTime) {
        self.id.set(self.id.get() + 1);
        self.state.set(ContainerState::Running { since });
        for waker in self.changes.take() {
            waker.wake();
        }
    }

    fn has_started(&self) -> bool {
        container_started(self.state.get(), self.startup.get())
    }

    fn is_ready(&self) -> bool {
        container_ready(self.has_started(), self.readiness.get())
    }

    fn set_verdict(&self, kind: ProbeKind, verdict: Verdict) {
        match kind {
            ProbeKind::Startup => {
                let former = self.startup.replace(Some(verdict));
                if former != Some(verdict) {
                    for waker in self.changes.take() {
                        waker.wake();
                    }
                }
            }
            ProbeKind::Readiness => self.readiness.set(Some(verdict)),
            ProbeKind::Liveness => {}
        }
    }

    fn view(&self, deleting: bool) -> PodView {
        let (id, state) = (ContainerId(self.id.get()), self.state.get());
        let container = Some(ContainerView { id, state, started: self.has_started() });
        PodView { finished: false, deleting, restarts: true, container }
    }

    /// Ends when the container has started or restarted.
    async fn changed(&self) {
        let mut is_second = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_second, true) {
                return Poll::Ready(());
            }
            self.changes.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

struct Prober {
    agent: Rc<Agent>,
    container: Rc<Container>,
    process: Rc<dyn Process>,
    ip: Ipv4Addr,
    /// The ticks are whole periods after this.
    ticks_from: SimTime,
}

impl Prober {
    async fn run(self, kind: ProbeKind, probe: Probe) {
        let sim = self.agent.sim().clone();
        let period = Duration::from_secs(probe.spec.period_seconds.max(1).into());
        let mut worker = ProbeWorker::new(kind, probe.spec);
        // The kubelet probes the readiness of a container that has just started at once, and then at the ticks.
        let mut waits = kind != ProbeKind::Readiness;
        loop {
            if std::mem::replace(&mut waits, true) {
                let tick = sim.sleep_until(next_tick(self.ticks_from, period, sim.now()));
                if kind == ProbeKind::Readiness && worker.verdict() != Verdict::Success {
                    let _ = until(self.container.changed(), tick).await;
                } else {
                    tick.await;
                }
            }
            let deleting = self.agent.is_deleting();
            match worker.begin_tick(&self.container.view(deleting), sim.now()) {
                Tick::Stop => return,
                Tick::Idle => {}
                Tick::Probe => {
                    let limit = sim.sleep(Duration::from_secs(probe.spec.timeout_seconds.max(1).into()));
                    let asked = self.agent.cluster.inner.runtime.probe(self.ip, &probe.action);
                    let passed = self.agent.cluster.stands() || until(limit, asked).await.unwrap_or(false);
                    worker.record(if passed { Outcome::Success } else { Outcome::Failure });
                }
            }
            self.container.set_verdict(kind, worker.verdict());
            if kind == ProbeKind::Readiness || kind == ProbeKind::Startup {
                self.agent.set_ready(self.container.is_ready());
            }
            if kind != ProbeKind::Readiness && worker.verdict() == Verdict::Failure && !self.agent.is_deleting() {
                let event = self.agent.tell(None, "sigkill", vec![("reason", "liveness probe failed".into())]);
                self.process.kill(event);
            }
        }
    }
}

impl Agent {
    fn is_deleting(&self) -> bool {
        let state = self.cluster.inner.state.borrow();
        state.pods.get(&self.id).is_none_or(super::control::Pod::is_deleting)
    }
}

/// The first tick later than `now`.
fn next_tick(from: SimTime, period: Duration, now: SimTime) -> SimTime {
    let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    let elapsed = now.as_nanos().saturating_sub(from.as_nanos());
    SimTime::from_nanos(from.as_nanos().saturating_add((elapsed / period_ns + 1).saturating_mul(period_ns)))
}

/// Every pod has an address of its own, never used again in a run: 10.64.0.1 and on.
fn pod_ip(id: u64) -> Ipv4Addr {
    let number = u32::try_from(id % (1 << 22)).expect("below 2^22") + 1;
    Ipv4Addr::from_bits(u32::from(Ipv4Addr::new(10, 64, 0, 0)) + number)
}
