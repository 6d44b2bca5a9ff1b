//! A pod's life: a node, containers, probes, and the end. The kubelet's part of it follows the rules in [`super::kubelet`].
//!
//! ```text
//! created ─schedule─→ bound ─imagePull + podStart─→ running ─probes─→ ready
//! deletion ─hop─→ preStop ─→ SIGTERM ─→ exit, or SIGKILL when the grace is over ─→ gone ─sandboxRemoval─→ no network
//! ```
//!
//! - A pod that finds no node waits for a change that may help it, and for the scheduler's back-off ([`super::scheduler::queue`]).
//! - What comes before its container stands in `around`: images, init containers, sidecars.
//! - A process that ends by itself is started again under the crash back-off. The kubelet looks at its containers once a second, so it
//!   learns of the end up to a second later, and it looks at a back-off only when it syncs the pod.
//! - A process above its memory limit is killed at once, without hook and grace, and restarted in place like one that ended by itself.
//! - A container whose liveness or startup probe has failed is ended as by a deletion, hook and grace included, and restarted by the same sync: at once, unless the end of the run *before* holds it
//!   back ([`super::kubelet::backoff`]).
//! - A container whose image is edited is ended as by a deletion, hook and grace included, and runs the other image as soon as that is on the node, whatever its back-off was (`edits`).
//! - A kubelet that is cut off from the API server hears of no deletion and can write no state; its pods run on.
//! - A pod that the kubelet ends by itself, for want of memory or disk or because its machine shuts down, ends for good: its set makes another. Nobody probes it any more, so it stays as ready as it was
//!   until its process has ended (kubernetes/kubernetes issues 108594, 124310, 124648).
//! - A second deletion can only shorten the grace of the first (`ending`). One with a grace of 0 takes the object away at once: the kubelet, if there is
//!   one and it hears of it, ends what is left, and nobody waits for that.
//! - A kubelet that is short of disk turns pods away, but for critical ones.
//! - A pod whose manifest names its node is not the scheduler's: its kubelet takes it, or turns it away if it does not fit.
//! - When the machine of its node dies, all that is on it is gone in that instant, and nobody tells the API server. If it boots again, the kubelet
//!   starts the pod anew, with another address, or ends it if it was deleted meanwhile.
//!
//! A container beside the one whose process is simulated has its image pulled, is ready by its probes' delays, and ends with its hook
//! ([`super::kubelet::beside`]).
//!
//! Approximated: a pod that is deleted before its process runs ends at once, whatever hooks its sidecars have. What is restarted by the sync that has killed it is told of at once, not at the next look. To a kubelet a grace of 0 counts as 1 s. A pod is one process, whatever containers it has.
//! Source: Kubernetes v1.28.7 pkg/kubelet/{kubelet,pod_workers}.go, pkg/kubelet/{kuberuntime,pleg}.

mod around;
mod beside;
mod edits;
mod ending;

use std::cell::{Cell, RefCell};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use super::control::{Caller, Cluster, EVICTED, Kubelets, PodRecord, STATUS_CALLS, refused};
use super::demands::Demands;
use super::deployment::PodPhase;
use super::kubelet::backoff::{CrashBackoff, Restart, SYNC_RETRY, SYNC_SPREAD_PERCENT};
use super::kubelet::exit::ContainerExit;
use super::kubelet::probe::ProbeKind;
use super::notice::until;
use super::objects::Probe;
use super::placement::SCHEDULING_GATES;
use super::prober::{Container, Prober};
use super::scheduler::queue;
use super::ticks::Ticks;
use super::{Process, Runtime, StartingPod};
use crate::engine::{Datum, Delay, EventId, Signal, Sim, Stream, TaskGroup};
use crate::units::SimTime;
use edits::ImageInUse;
use ending::{Progress, Why};

/// The kubelet asks the container runtime so often what has ended. Source: pkg/kubelet/kubelet.go `genericPlegRelistPeriod`.
const RELIST_PERIOD: Duration = Duration::from_secs(1);

/// Why a kubelet takes no pod any more. Source: nodeshutdown_manager_linux.go `Admit`.
const SHUTTING_DOWN: &str = "Pod was rejected as the node is shutting down.";

/// What a kubelet calls when a pod comes: its first status, and the token of its service account. That both, and the status that its containers run, are
/// seen without delay is an approximation; who waits for them waits for readiness. Source: pkg/kubelet/token/token_manager.go.
const ADMISSION_CALLS: u32 = STATUS_CALLS + 1;
/// What it calls at the end: it reads the pod once more and deletes it. Source: pkg/kubelet/status/status_manager.go `syncPod`.
const DELETION_CALLS: u32 = 2;

/// Starts a pod's life.
pub(super) fn live(cluster: &Cluster, id: u64) {
    let cluster = cluster.clone();
    cluster.inner.sim.clone().spawn("pod", async move {
        let agent = Rc::new(Agent::new(&cluster, id));
        let bound = until(agent.deletion.raised(), pin!(agent.bind())).await;
        match bound {
            None => agent.cluster.pod_gone(id),
            Some(bound) => agent.dwell(bound).await,
        }
    });
}

/// Brings a pod to a node, and no further.
pub(super) async fn bind(cluster: &Cluster, id: u64) {
    let agent = Agent::new(cluster, id);
    agent.bind().await;
}

/// Where and when a pod was bound.
struct Bound {
    node_index: usize,
    node: Rc<str>,
    at: SimTime,
}

/// The node's agent for one pod.
pub(super) struct Agent {
    cluster: Cluster,
    id: u64,
    /// The pod, as events name it.
    object: String,
    /// The name of its random streams.
    identity: Rc<str>,
    /// Raised when the pod's deletion is asked for.
    deletion: Signal,
    /// How its end is asked for.
    demands: Rc<Demands>,
    /// Raised when its object is gone.
    removed: Signal,
    /// What of it is on the node, and dies with it.
    on_node: RefCell<Option<OnNode>>,
    /// Its node, once it has one.
    node_index: Cell<Option<usize>>,
    /// How often its node's machine has booted since it came there.
    boots: Cell<u32>,
    /// The last event that it told.
    last_event: Cell<Option<EventId>>,
    /// Sidecars, and containers beside its own process, that are not ready yet.
    unready: Cell<usize>,
    /// All of those, ready or not.
    beside: Cell<usize>,
    /// The image that its process is made from.
    image: RefCell<ImageInUse>,
}

struct OnNode {
    ip: Ipv4Addr,
    container: Rc<Container>,
    probes: TaskGroup,
}

/// A pod whose process runs.
struct Running {
    pod: StartingPod,
    process: Rc<dyn Process>,
    started_at: SimTime,
    bound_at: SimTime,
}

/// What ended a run of a container, or is about to.
enum Ending {
    Deletion,
    Eviction,
    Unwell,
    Edit,
    Exit,
}

impl Agent {
    fn new(cluster: &Cluster, id: u64) -> Self {
        let state = cluster.inner.state.borrow();
        let pod = &state.pods[&id];
        Self {
            cluster: cluster.clone(),
            id,
            object: format!("Pod/{}", pod.record.key),
            identity: Rc::clone(&pod.identity),
            deletion: pod.deletion.clone(),
            demands: Rc::clone(&pod.demands),
            removed: pod.removed.clone(),
            on_node: RefCell::default(),
            node_index: Cell::new(None),
            boots: Cell::new(0),
            last_event: Cell::new(None),
            unready: Cell::new(0),
            beside: Cell::new(0),
            image: RefCell::new(ImageInUse::of(pod)),
        }
    }

    pub(super) fn sim(&self) -> &Sim {
        &self.cluster.inner.sim
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// How often others than kubelets have written a pod's readiness.
    pub(super) fn foreign_writes(&self) -> u64 {
        self.cluster.inner.foreign_readiness.get()
    }

    /// The ticks of all probes.
    pub(super) fn ticks(&self) -> &Rc<Ticks> {
        &self.cluster.inner.ticks
    }

    /// What runs the containers.
    pub(super) fn runtime(&self) -> Rc<dyn Runtime> {
        match &self.cluster.inner.kubelets {
            Kubelets::Agents(runtime) => Rc::clone(runtime),
            Kubelets::Hollow(_) => unreachable!("a hollow kubelet has no agents"),
        }
    }

    /// Whether the pod's deletion has been asked for, and its kubelet knows it.
    pub(super) fn is_deleting(&self) -> bool {
        let is_asked = self.deletion.is_raised() || self.removed.is_raised();
        is_asked && !self.node_index.get().is_some_and(|index| self.cluster.is_cut_off(index))
    }

    /// Ends when the pod's kubelet has heard that it is to be deleted.
    async fn told_to_end(&self) {
        self.deletion.raised().await;
        self.reached().await;
    }

    /// Ends when the pod's kubelet and the API server hear each other.
    async fn reached(&self) {
        if let Some(index) = self.node_index.get() {
            self.cluster.node_reached(index).await;
        }
    }

    /// This pod's own random stream for a purpose.
    fn stream(&self, purpose: &str) -> Stream {
        self.cluster.inner.streams.stream(purpose, &self.identity)
    }

    fn draw(&self, delay: &Delay, purpose: &str) -> Duration {
        if self.cluster.stands() { Duration::ZERO } else { delay.draw(&mut self.stream(purpose)) }
    }

    /// Tells an event of this pod, caused by its last one, or by `because`. What is still on the node when the object is gone is told in its name.
    fn tell(&self, because: Option<EventId>, kind: &'static str, data: Vec<(&'static str, Datum)>) -> EventId {
        let of_object = || self.cluster.inner.state.borrow().pods.get(&self.id).map(|pod| pod.last_event);
        let because = because.or_else(of_object).or(self.last_event.get());
        let event = self.cluster.tell(because, kind, self.object.clone(), data);
        self.last_event.set(Some(event));
        if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
            pod.last_event = event;
        }
        event
    }

    fn note(&self, write: impl FnOnce(&mut PodRecord, SimTime)) {
        self.cluster.note_life(self.id, write);
    }

    /// Brings the pod to a node.
    async fn bind(&self) -> Bound {
        let inner = &self.cluster.inner;
        let named = inner.state.borrow().pods[&self.id].node_name.clone();
        let node_index = if let Some(name) = named {
            self.named_node(&name).await
        } else {
            self.sim().sleep(self.draw(&inner.config.schedule, "schedule")).await;
            let found = self.find_node().await;
            self.sim().sleep_until(self.cluster.call(Caller::Scheduler)).await;
            found
        };
        self.node_index.set(Some(node_index));
        let node = self.cluster.node_name(node_index);
        self.note(|record, now| {
            record.node = Some(Rc::clone(&node));
            record.scheduled_at = Some(now);
        });
        let event = self.tell(None, "pod_scheduled", vec![("node", (&*node).into())]);
        self.cluster.pod_bound(self.id);
        self.cluster.plan_departure(self.id, node_index, Some(event));
        Bound { node_index, node, at: self.sim().now() }
    }

    /// The pod's stay on its node, through the deaths and boots of its machine.
    async fn dwell(self: Rc<Self>, bound: Bound) {
        loop {
            let lost = self.cluster.node_lost(bound.node_index);
            let boots = self.cluster.node_boots(bound.node_index);
            let seen = boots.version();
            if until(lost.raised(), pin!(Rc::clone(&self).stay(&bound))).await.is_some() {
                return;
            }
            self.lose(&bound);
            if until(self.removed.raised(), boots.changed_since(seen)).await.is_none() {
                return;
            }
            self.boots.set(self.boots.get() + 1);
        }
    }

    /// The node that the pod's manifest names, when there is one; its kubelet hears of the pod a hop later.
    async fn named_node(&self, name: &str) -> usize {
        loop {
            let seen = self.cluster.node_changes();
            if let Some(index) = self.cluster.take_named(self.id, name) {
                let hop = self.draw(&self.cluster.inner.config.hop, "kubelet-hop");
                self.sim().sleep(hop).await;
                return index;
            }
            self.cluster.nodes_changed_since(seen).await;
        }
    }

    /// From the start of its process, or from a boot, to the end.
    async fn stay(self: Rc<Self>, bound: &Bound) {
        if self.cluster.is_shutting_down(bound.node_index) {
            return self.cluster.reject(self.id, SHUTTING_DOWN, refused("NodeShutdown"));
        }
        if let Some(reason) = self.cluster.pressure_refusal(bound.node_index, self.id) {
            return self.cluster.reject(self.id, &reason, Some(EVICTED));
        }
        let misfit = self.cluster.inner.state.borrow().pods[&self.id].misfit.clone();
        if let Some(reason) = misfit {
            return self.cluster.reject(self.id, &reason, refused(&reason));
        }
        let evicted = self.cluster.inner.state.borrow().pods[&self.id].evicted.clone();
        let is_deleted = async {
            let _ = until(self.removed.raised(), self.told_to_end()).await;
        };
        let started = until(is_deleted, until(evicted.raised(), pin!(self.start(bound)))).await;
        match started {
            // Ended before it had a process: there is nothing to stop.
            None => self.cluster.pod_gone(self.id),
            Some(None) => self.cluster.pod_ended(self.id),
            Some(Some(running)) => self.run(running).await,
        }
    }

    /// The machine has died: the process is no more, its connections hear nothing, and nobody tells the API server.
    fn lose(&self, bound: &Bound) {
        let Some(OnNode { ip, container, probes }) = self.on_node.take() else { return };
        let event = self.cluster.node_event(bound.node_index).expect("a machine that dies tells it");
        self.cluster.note_loss(ip, event);
        self.runtime().released(ip);
        container.process().kill(event);
        container.has_ended();
        probes.abort();
        self.note(|record, now| {
            record.exited_at = Some(now);
            record.exit_reason = Some("its node died");
            record.exit_event = Some(event);
        });
    }

    /// Starts the pod's process.
    async fn start(&self, bound: &Bound) -> Running {
        let inner = &self.cluster.inner;
        self.reached().await;
        self.cluster.calls(Caller::Kubelet(bound.node_index), ADMISSION_CALLS + STATUS_CALLS);
        let template = Rc::clone(&inner.state.borrow().pods[&self.id].template);
        self.show_sandbox();
        self.start_before(&template, bound).await;
        for container in template.beside().filter(|it| it.starts_before || self.cluster.stands()) {
            self.pull_image(&bound.node, &container.image, container.pull).await;
            self.configure(container.is_refused).await;
        }
        self.pull_own_image(&bound.node).await;
        self.configure(template.is_refused()).await;
        let boots = self.boots.get();
        let purpose = if boots == 0 { "pod-start".to_owned() } else { format!("pod-start-{boots}") };
        self.sim().sleep(self.draw(&inner.config.pod_start, &purpose)).await;
        let ip = if boots == 0 { inner.config.identity.pod_ip(self.id) } else { self.cluster.spare_ip() };
        let event = self.tell(None, "container_started", Vec::new());
        let pod = {
            let mut state = inner.state.borrow_mut();
            let pod = state.pods.get_mut(&self.id).expect("a pod that starts is there");
            pod.ip = Some(ip);
            pod.phase = PodPhase::Running;
            pod.record.ip = Some(ip);
            pod.record.started_at = Some(self.sim().now());
            pod.started_at = Some(self.sim().now());
            pod.record.note_restart(self.sim().now());
            pod.restarts += u32::from(boots > 0);
            StartingPod {
                owner: Rc::clone(&pod.owner),
                name: Rc::clone(&pod.record.name),
                ip,
                node: Rc::clone(&bound.node),
                template: Rc::clone(&pod.template),
                because: event,
            }
        };
        let process = self.runtime().start(&pod);
        self.cluster.watch_pod(self.id);
        self.cluster.watch_pressure(bound.node_index);
        // Its endpoint appears now, not ready yet.
        self.cluster.publish_endpoints_of(self.id, None);
        Running { pod, process, started_at: self.sim().now(), bound_at: bound.at }
    }

    /// Ends when the pod has a node; never, while it has scheduling gates, which nobody takes away.
    /// Source: Kubernetes v1.28.7 pkg/scheduler/framework/plugins/schedulinggates/scheduling_gates.go.
    async fn find_node(&self) -> usize {
        if self.is_gated() {
            return std::future::pending().await;
        }
        let of_pod = self.cluster.inner.state.borrow().pods.get(&self.id).map(|pod| pod.template.placement.priority);
        let priority = of_pod.unwrap_or(0);
        let changes = &self.cluster.inner.changes;
        let phase = self.cluster.inner.state.borrow().placing.phase();
        let mut told = String::new();
        for attempts in 1.. {
            let (seen, tried_at) = (changes.count(), self.sim().now());
            let found = self.cluster.place(self.id);
            if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
                pod.is_unschedulable = found.is_err();
            }
            let refused = match found {
                Ok(index) => return index,
                Err(refused) => refused,
            };
            if refused.message != told {
                self.tell(None, "pod_unschedulable", vec![("reason", refused.message.as_str().into())]);
                told = refused.message;
            }
            let leftover = self.sim().sleep_until(queue::leftover_at(tried_at, phase));
            let _ = until(leftover, changes.any_since(&refused.changes, seen, priority)).await;
            let retry_at = queue::retry_at(tried_at, attempts, self.sim().now(), phase);
            self.sim().sleep_until(retry_at).await;
        }
        unreachable!("the attempts do not end")
    }

    /// Whether nobody looks for a node for the pod, which is written then.
    fn is_gated(&self) -> bool {
        let mut state = self.cluster.inner.state.borrow_mut();
        let pod = state.pods.get_mut(&self.id).filter(|pod| !pod.template.placement.gates.is_empty());
        let Some(pod) = pod.filter(|_| self.cluster.inner.config.version >= SCHEDULING_GATES) else { return false };
        pod.waiting = Some("SchedulingGated");
        true
    }

    /// Keeps the pod running until it is deleted, and then ends it.
    async fn run(self: Rc<Self>, mut running: Running) {
        let evicted = self.cluster.inner.state.borrow().pods[&self.id].evicted.clone();
        let container = Rc::new(Container::new(Rc::clone(&running.process), running.started_at));
        let probes = TaskGroup::new(self.sim());
        let on_node = OnNode { ip: running.pod.ip, container: Rc::clone(&container), probes: probes.clone() };
        self.on_node.replace(Some(on_node));
        self.start_beside(&running, &container, &probes);
        self.start_probes(&running, &container, &probes);
        let template = Rc::clone(&running.pod.template);
        let (mut backoff, mut progress) = (CrashBackoff::default(), Progress::default());
        let mut last_exit: Option<SimTime> = None;
        let mut syncs = self.stream("pod-sync");
        loop {
            let unwell = container.unwell();
            let exited = container.process().exited();
            let by_itself = until(evicted.raised(), until(unwell.raised(), until(self.image_edited(), exited)));
            let ending = match until(self.told_to_end(), by_itself).await {
                None => Ending::Deletion,
                Some(None) => Ending::Eviction,
                Some(Some(None)) => Ending::Unwell,
                Some(Some(Some(None))) => Ending::Edit,
                Some(Some(Some(Some(())))) => Ending::Exit,
            };
            match ending {
                Ending::Deletion => break,
                Ending::Eviction => {
                    self.evict(&container, &template, &probes).await;
                    probes.abort();
                    self.release_later(&running.pod);
                    self.cluster.kubelet_called(self.node_index.get(), STATUS_CALLS).await;
                    self.cluster.pod_ended(self.id);
                    return;
                }
                Ending::Unwell => {
                    let grace = self.grace_of_probes(&template, container.unwell_reason());
                    let kill = self.end_process(&container, &template, grace, Why::Probe, &progress);
                    if until(self.told_to_end(), pin!(kill)).await.is_none() {
                        // The kill for the probe's sake is given up for that of the deletion.
                        break;
                    }
                }
                Ending::Edit => {
                    let kill = self.end_process(&container, &template, template.grace_seconds, Why::Edited, &progress);
                    if until(self.told_to_end(), pin!(kill)).await.is_none() {
                        break;
                    }
                }
                Ending::Exit => self.has_exited(&container, ContainerExit::BY_ITSELF, None),
            }
            let exited_at = self.sim().now();
            let exit_before = last_exit.replace(exited_at);
            backoff.forget_expired(exited_at);
            let is_killed = matches!(ending, Ending::Unwell);
            if self.has_other_image() {
                // The kubelet counts by the container's hash: of the other one it knows no run.
                backoff = CrashBackoff::default();
                let pull = pin!(self.pull_own_image(&running.pod.node));
                let pulled = until(evicted.raised(), pull);
                match until(self.told_to_end(), pin!(pulled)).await {
                    None => break,
                    Some(None) => continue,
                    Some(Some(())) => {}
                }
            } else if !is_killed || backoff.try_restart_after_kill(exit_before, exited_at) != Restart::Now {
                let relist = syncs.uniform(Duration::ZERO, RELIST_PERIOD);
                if until(self.told_to_end(), self.sim().sleep(relist)).await.is_none() {
                    break;
                }
                self.set_ready(false);
                let backed_off = pin!(self.backed_off(&mut backoff, exited_at, &mut syncs));
                if until(self.told_to_end(), backed_off).await.is_none() {
                    break;
                }
            }
            running.pod.because = self.tell(None, "container_started", Vec::new());
            self.note(PodRecord::note_restart);
            if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
                pod.restarts += 1;
                pod.last_exit = Some(exited_at);
                pod.started_at = Some(self.sim().now());
            }
            container.restart(self.runtime().start(&running.pod), self.sim().now());
            progress = Progress::default();
            self.set_ready(container.is_ready());
        }
        self.stop(&container, &template, &progress).await;
        probes.abort();
        self.release_later(&running.pod);
        if self.removed.is_raised() {
            return;
        }
        // Its last status, and when that is there the end of its object.
        if self.cluster.kubelet_called(self.node_index.get(), STATUS_CALLS).await {
            self.cluster.pod_changed(self.id);
        }
        self.cluster.kubelet_called(self.node_index.get(), DELETION_CALLS).await;
        self.cluster.pod_gone(self.id);
    }

    /// Ends when a container that ended at `exited_at` may start again.
    async fn backed_off(&self, backoff: &mut CrashBackoff, exited_at: SimTime, syncs: &mut Stream) {
        loop {
            backoff.forget_expired(self.sim().now());
            let restart = backoff.try_restart(exited_at, self.sim().now());
            let waiting = (restart != Restart::Now).then_some("CrashLoopBackOff");
            if let Some(pod) = self.cluster.inner.state.borrow_mut().pods.get_mut(&self.id) {
                pod.waiting = waiting;
            }
            if restart == Restart::Now {
                return;
            }
            let spread = SYNC_RETRY * SYNC_SPREAD_PERCENT / 100;
            self.sim().sleep(SYNC_RETRY + syncs.uniform(Duration::ZERO, spread)).await;
        }
    }

    /// The pod's network outlives its containers a little.
    fn release_later(&self, pod: &StartingPod) {
        let delay = self.draw(&self.cluster.inner.config.sandbox_removal, "sandbox-removal");
        let (sim, runtime, ip) = (self.sim().clone(), self.runtime(), pod.ip);
        self.sim().spawn("sandbox-removal", async move {
            sim.sleep(delay).await;
            runtime.released(ip);
        });
    }

    /// Writes the pod's readiness, if it is another.
    pub(super) fn set_ready(&self, is_ready: bool) {
        self.count_ready(is_ready);
        self.cluster.write_readiness(self.id, is_ready && self.unready.get() == 0);
    }

    /// Whether its status says that the pod is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.cluster.inner.state.borrow().pods.get(&self.id).is_some_and(|pod| pod.is_ready)
    }

    /// Ticks are counted from the pod's admission. A pod that the run finds was admitted at some time before.
    fn ticks_from(&self, kind: ProbeKind, probe: &Probe, running: &Running) -> SimTime {
        if !self.cluster.stands() {
            return running.bound_at;
        }
        let period = Duration::from_secs(probe.spec.period_seconds.max(1).into());
        SimTime::ZERO.after(self.stream(&format!("probe-phase-{kind:?}")).uniform(Duration::ZERO, period))
    }

    fn start_probes(self: &Rc<Self>, running: &Running, container: &Rc<Container>, tasks: &TaskGroup) {
        let probes = &running.pod.template.probes;
        let kinds = [
            (ProbeKind::Startup, &probes.startup),
            (ProbeKind::Readiness, &probes.readiness),
            (ProbeKind::Liveness, &probes.liveness),
        ];
        for (kind, probe) in kinds {
            let Some(probe) = probe else { continue };
            container.set_verdict(kind, kind.initial_verdict());
            let pod = (running.pod.ip, &running.pod.template);
            let prober = Prober::new(self, container, pod, kind, self.ticks_from(kind, probe, running));
            tasks.spawn("probe", prober.run());
        }
        // Without a readiness probe a pod is ready as soon as it has started.
        self.set_ready(container.is_ready());
    }
}
