//! The probes of a running pod: tasks that tick, ask, and carry the answers to the rules in [`super::kubelet::probe`].
//!
//! Readiness is also asked as soon as a container has started or restarted, without waiting for a tick; the next ones come at the
//! ticks. What a probe learns of a container that has been replaced meanwhile is thrown away.
//! Source: Kubernetes v1.28.7 pkg/kubelet/prober/{worker,prober_manager}.go.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::Process;
use super::kubelet::grace::KillReason;
use super::kubelet::probe::{
    ContainerId, ContainerState, ContainerView, Outcome, PodView, ProbeKind, ProbeWorker, Tick, Verdict,
    container_ready, container_started, next_tick,
};
use super::node_agent::Agent;
use super::notice::Notice;
use super::objects::{PodTemplate, Probe};
use crate::engine::{Signal, Sleep};
use crate::units::SimTime;

/// A pod's container, as its probes and its node agent share it.
pub(super) struct Container {
    id: Cell<u64>,
    state: Cell<ContainerState>,
    process: RefCell<Rc<dyn Process>>,
    startup: Cell<Option<Verdict>>,
    readiness: Cell<Option<Verdict>>,
    /// It has started, or restarted: its readiness is worth asking at once.
    changes: Notice,
    /// Raised when this run of it is to be ended for a probe's verdict.
    unwell: RefCell<Signal>,
    unwell_reason: Cell<KillReason>,
    /// The readiness of this run that the pod's status has, as of so many writes by others.
    reported: Cell<Option<(bool, u64)>>,
}

impl Container {
    pub(super) fn new(process: Rc<dyn Process>, since: SimTime) -> Self {
        Self {
            id: Cell::new(0),
            state: Cell::new(ContainerState::Running { since }),
            process: RefCell::new(process),
            startup: Cell::new(None),
            readiness: Cell::new(None),
            changes: Notice::default(),
            unwell: RefCell::default(),
            unwell_reason: Cell::new(KillReason::Other),
            reported: Cell::new(None),
        }
    }

    /// The process of this run.
    pub(super) fn process(&self) -> Rc<dyn Process> {
        Rc::clone(&self.process.borrow())
    }

    /// Another process takes the place of the one that has ended. Nothing is known of it yet.
    pub(super) fn restart(&self, process: Rc<dyn Process>, since: SimTime) {
        self.id.set(self.id.get() + 1);
        self.state.set(ContainerState::Running { since });
        self.process.replace(process);
        self.unwell.replace(Signal::default());
        self.reported.set(None);
        let initial = |verdict: Option<Verdict>, kind: ProbeKind| verdict.map(|_| kind.initial_verdict());
        self.startup.set(initial(self.startup.get(), ProbeKind::Startup));
        self.readiness.set(initial(self.readiness.get(), ProbeKind::Readiness));
        self.changes.raise();
    }

    /// Its process has ended.
    pub(super) fn has_ended(&self) {
        self.state.set(ContainerState::Terminated);
    }

    pub(super) fn is_running(&self) -> bool {
        matches!(self.state.get(), ContainerState::Running { .. })
    }

    fn has_started(&self) -> bool {
        container_started(self.state.get(), self.startup.get())
    }

    /// Whether it counts as ready: without a readiness probe as soon as it has started.
    pub(super) fn is_ready(&self) -> bool {
        container_ready(self.has_started(), self.readiness.get())
    }

    /// Raised when a probe's verdict asks for the end of this run.
    pub(super) fn unwell(&self) -> Signal {
        self.unwell.borrow().clone()
    }

    /// Which probe asked for it.
    pub(super) fn unwell_reason(&self) -> KillReason {
        self.unwell_reason.get()
    }

    /// Takes note of a verdict on this run.
    pub(super) fn set_verdict(&self, kind: ProbeKind, verdict: Verdict) {
        match kind {
            ProbeKind::Startup => {
                let former = self.startup.replace(Some(verdict));
                if former != Some(verdict) && verdict == Verdict::Success {
                    self.changes.raise();
                }
            }
            ProbeKind::Readiness => self.readiness.set(Some(verdict)),
            ProbeKind::Liveness => {}
        }
    }

    fn fail(&self, kind: ProbeKind) {
        let reason = if kind == ProbeKind::Startup { KillReason::StartupProbe } else { KillReason::LivenessProbe };
        self.unwell_reason.set(reason);
        self.unwell().raise();
    }

    fn view(&self, deleting: bool) -> PodView {
        let (id, state) = (ContainerId(self.id.get()), self.state.get());
        let container = Some(ContainerView { id, state, started: self.has_started() });
        PodView { finished: false, deleting, restarts: true, container }
    }
}

/// One probe of one pod. It is kept small, and so are its waits: a large cluster spends its quiet hours in nothing but probes, which are too many for the processor's caches.
pub(super) struct Prober {
    pub(super) agent: Rc<Agent>,
    pub(super) container: Rc<Container>,
    pub(super) ip: Ipv4Addr,
    /// The pod's template, which has the probe.
    pub(super) template: Rc<PodTemplate>,
    pub(super) kind: ProbeKind,
    /// The ticks are whole periods after this, and no earlier.
    pub(super) ticks_from: SimTime,
}

impl Prober {
    /// Probes until the pod has no use for it any more.
    pub(super) async fn run(self) {
        let kind = self.kind;
        let mut worker = ProbeWorker::new(kind, self.probe().spec);
        let was_found = self.agent.cluster().stands() && self.agent.runtime().stands_ready(self.ip);
        if was_found {
            worker = worker.having_passed(ContainerId(self.container.id.get()));
            self.container.set_verdict(kind, worker.verdict());
            self.agent.set_ready(self.container.is_ready());
        }
        // What is found running was probed before: its next probe comes with its next tick.
        let mut waits = kind != ProbeKind::Readiness || was_found;
        let mut seen = self.container.changes.version();
        loop {
            if std::mem::replace(&mut waits, true) {
                self.tick(seen).await;
            }
            seen = self.container.changes.version();
            let run = self.container.id.get();
            let mut has_probed = false;
            // Readiness is asked to the end, whatever becomes of the pod.
            let is_deleting = kind != ProbeKind::Readiness && self.agent.is_deleting();
            match worker.begin_tick(&self.container.view(is_deleting), self.agent.sim().now()) {
                Tick::Stop => return,
                Tick::Idle => {}
                Tick::Probe => {
                    let passed = self.ask().await;
                    if self.container.id.get() != run {
                        continue;
                    }
                    worker.record(if passed { Outcome::Success } else { Outcome::Failure });
                    has_probed = true;
                }
            }
            self.container.set_verdict(kind, worker.verdict());
            if kind != ProbeKind::Liveness {
                self.report();
            }
            let is_unwell = has_probed && kind != ProbeKind::Readiness && worker.verdict() == Verdict::Failure;
            if is_unwell && !self.agent.is_deleting() {
                self.container.fail(kind);
            }
        }
    }

    fn probe(&self) -> &Probe {
        let probes = &self.template.probes;
        let probe = match self.kind {
            ProbeKind::Startup => &probes.startup,
            ProbeKind::Readiness => &probes.readiness,
            ProbeKind::Liveness => &probes.liveness,
        };
        probe.as_ref().expect("who probes has a probe")
    }

    /// Waits for the next tick; for readiness, a change of the container later than the one seen will do.
    async fn tick(&self, seen: u64) {
        let period = Duration::from_secs(self.probe().spec.period_seconds.max(1).into());
        let sim = self.agent.sim();
        let mut tick = sim.sleep_until(next_tick(self.ticks_from, period, sim.now()));
        poll_fn(|cx| {
            let heeds_changes = self.kind == ProbeKind::Readiness;
            if heeds_changes && self.container.changes.poll_changed(seen, cx).is_ready() {
                return Poll::Ready(());
            }
            Pin::new(&mut tick).poll(cx)
        })
        .await;
    }

    /// Writes the pod's readiness. What its status has already, as at almost every tick, costs no look at it.
    fn report(&self) {
        let is_ready = self.container.is_ready();
        let reported = Some((is_ready, self.agent.foreign_writes()));
        if self.container.reported.get() != reported {
            self.agent.set_ready(is_ready);
            self.container.reported.set(reported.filter(|_| self.agent.is_ready() == is_ready));
        }
    }

    /// Asks once. What has not answered in time has not passed.
    async fn ask(&self) -> bool {
        let mut answer = self.agent.runtime().probe(self.ip, &self.probe().action);
        // Most answers come at once and need no timer.
        let mut limit: Option<Sleep> = None;
        poll_fn(|cx| {
            if limit.as_mut().is_some_and(|limit| Pin::new(limit).poll(cx).is_ready()) {
                return Poll::Ready(false);
            }
            let poll = answer.as_mut().poll(cx);
            if poll.is_pending() && limit.is_none() {
                let span = Duration::from_secs(self.probe().spec.timeout_seconds.max(1).into());
                let sleep = limit.insert(self.agent.sim().sleep(span));
                let _ = Pin::new(sleep).poll(cx);
            }
            poll
        })
        .await
    }
}
