//! The probes of a running pod: they look when [`super::ticks`] says so, ask, and carry the answers to the rules in [`super::kubelet::probe`].
//!
//! Readiness is also asked as soon as a container has started or restarted, without waiting for a tick; the next ones come at the
//! ticks. What a probe learns of a container that has been replaced meanwhile is thrown away.
//! Source: Kubernetes v1.28.7 pkg/kubelet/prober/{worker,prober_manager}.go.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::kubelet::grace::KillReason;
use super::kubelet::probe::{
    ContainerId, ContainerState, ContainerView, Outcome, PodView, ProbeKind, ProbeWorker, Tick, Verdict,
    container_ready, container_started, next_tick,
};
use super::node_agent::Agent;
use super::notice::{Notice, until};
use super::objects::{PodTemplate, Probe};
use super::{LocalFuture, Process};
use crate::engine::Signal;
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

/// One probe of one pod.
pub(super) struct Prober {
    agent: Rc<Agent>,
    container: Rc<Container>,
    ip: Ipv4Addr,
    kind: ProbeKind,
    /// The pod's template, which has the probe.
    template: Rc<PodTemplate>,
    /// The ticks are whole periods after this, and no earlier.
    ticks_from: SimTime,
    worker: RefCell<ProbeWorker>,
    /// The container's changes, as of the last look.
    seen: Cell<u64>,
    /// The tick that it waits for; none while it asks.
    next_at: Cell<Option<SimTime>>,
    is_over: Cell<bool>,
    /// A question that was not answered at once, and the run of the container that it was put to.
    asked: RefCell<Option<(u64, LocalFuture<bool>)>>,
    /// Its own task, when that waits.
    waiting: RefCell<Option<Waker>>,
}

/// What a probe's own task has to do.
enum Task {
    /// Nothing any more.
    End,
    /// To wait for an answer of this run of the container.
    Await(u64, LocalFuture<bool>),
    /// To look at a container that has changed.
    Look,
}

impl Prober {
    pub(super) fn new(
        agent: &Rc<Agent>,
        container: &Rc<Container>,
        (ip, template): (Ipv4Addr, &Rc<PodTemplate>),
        kind: ProbeKind,
        ticks_from: SimTime,
    ) -> Rc<Self> {
        let worker = RefCell::new(ProbeWorker::new(kind, probe(template, kind).spec));
        Rc::new(Self {
            agent: Rc::clone(agent),
            container: Rc::clone(container),
            ip,
            kind,
            template: Rc::clone(template),
            ticks_from,
            worker,
            seen: Cell::new(0),
            next_at: Cell::new(None),
            is_over: Cell::new(false),
            asked: RefCell::new(None),
            waiting: RefCell::new(None),
        })
    }

    /// Probes until the pod has no use for it any more. The ticks come from [`super::ticks`]; here is what takes time, and what comes between them.
    pub(super) async fn run(self: Rc<Self>) {
        self.seen.set(self.container.changes.version());
        let was_found = self.agent.cluster().stands() && self.agent.runtime().stands_ready(self.ip);
        if was_found {
            let worker = self.worker.borrow().clone().having_passed(ContainerId(self.container.id.get()));
            self.container.set_verdict(self.kind, worker.verdict());
            self.worker.replace(worker);
            self.agent.set_ready(self.container.is_ready());
        }
        // What is found running was probed before: its next probe comes with its next tick.
        if self.kind == ProbeKind::Readiness && !was_found {
            self.look();
        }
        self.queue();
        loop {
            match poll_fn(|cx| self.poll_task(cx)).await {
                Task::End => return,
                Task::Await(run, answer) => {
                    let passed = self.in_time(answer).await;
                    self.answered(run, passed);
                }
                Task::Look => self.look(),
            }
            self.queue();
        }
    }

    /// Its tick has come. One that it does not wait for any more is none.
    pub(super) fn tick(self: &Rc<Self>, at: SimTime) {
        if self.next_at.get() == Some(at) {
            self.look();
            self.queue();
        }
    }

    fn poll_task(&self, cx: &mut Context<'_>) -> Poll<Task> {
        if self.is_over.get() {
            return Poll::Ready(Task::End);
        }
        if let Some((run, answer)) = self.asked.take() {
            return Poll::Ready(Task::Await(run, answer));
        }
        let heeds_changes = self.kind == ProbeKind::Readiness;
        if heeds_changes && self.container.changes.poll_changed(self.seen.get(), cx).is_ready() {
            return Poll::Ready(Task::Look);
        }
        self.waiting.replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    /// Queues the next tick, unless it is queued or comes to be when an answer is there.
    fn queue(self: &Rc<Self>) {
        if self.is_over.get() || self.asked.borrow().is_some() {
            return;
        }
        let sim = self.agent.sim();
        let period = Duration::from_secs(probe(&self.template, self.kind).spec.period_seconds.max(1).into());
        let next = next_tick(self.ticks_from, period, sim.now());
        if self.next_at.replace(Some(next)) != Some(next) {
            self.agent.ticks().push(sim, period, next, self);
        }
    }

    /// Looks at the container, and asks it if that is due.
    fn look(&self) {
        self.seen.set(self.container.changes.version());
        // Readiness is asked to the end, whatever becomes of the pod.
        let is_deleting = self.kind != ProbeKind::Readiness && self.agent.is_deleting();
        let tick = self.worker.borrow_mut().begin_tick(&self.container.view(is_deleting), self.agent.sim().now());
        match tick {
            Tick::Stop => {
                self.is_over.set(true);
                self.wake();
            }
            Tick::Idle => self.conclude(false),
            Tick::Probe => {
                let run = self.container.id.get();
                let mut answer = self.agent.runtime().probe(self.ip, &probe(&self.template, self.kind).action);
                // Most answers come at once. Its own task waits for the others.
                match answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(passed) => self.answered(run, passed),
                    Poll::Pending => {
                        self.next_at.set(None);
                        self.asked.replace(Some((run, answer)));
                        self.wake();
                    }
                }
            }
        }
    }

    /// An answer, or that none came in time. One of a run that is over says nothing of the present one.
    fn answered(&self, run: u64, passed: bool) {
        if self.container.id.get() == run {
            self.worker.borrow_mut().record(if passed { Outcome::Success } else { Outcome::Failure });
            self.conclude(true);
        }
    }

    /// Carries the verdict on.
    fn conclude(&self, has_probed: bool) {
        let verdict = self.worker.borrow().verdict();
        self.container.set_verdict(self.kind, verdict);
        if self.kind != ProbeKind::Liveness {
            self.report();
        }
        let is_unwell = has_probed && self.kind != ProbeKind::Readiness && verdict == Verdict::Failure;
        if is_unwell && !self.agent.is_deleting() {
            self.container.fail(self.kind);
        }
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

    fn wake(&self) {
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// What the answer is. What has not come in time has not passed.
    async fn in_time(&self, answer: LocalFuture<bool>) -> bool {
        let span = Duration::from_secs(probe(&self.template, self.kind).spec.timeout_seconds.max(1).into());
        until(self.agent.sim().sleep(span), answer).await.unwrap_or(false)
    }
}

/// The template's probe of a kind.
fn probe(template: &PodTemplate, kind: ProbeKind) -> &Probe {
    let probes = &template.probes;
    let probe = match kind {
        ProbeKind::Startup => &probes.startup,
        ProbeKind::Readiness => &probes.readiness,
        ProbeKind::Liveness => &probes.liveness,
    };
    probe.as_ref().expect("who probes has a probe")
}
