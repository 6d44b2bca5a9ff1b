//! The probe worker: one state machine per container and probe.
//!
//! Upstream: `pkg/kubelet/prober/worker.go` (the worker), `prober_manager.go` (started and ready),
//! `pkg/probe/http/http.go` (which answers pass). The rules:
//!
//! - A worker starts with its pod's first sync, before the container does, and ticks each period from then on.
//! - Until a first verdict, liveness holds `Success`, readiness `Failure` and startup `Unknown`. A new container resets
//!   the verdict to that and ends a hold, but leaves the count of equal outcomes alone.
//! - A container that is not running is a `Failure`, without a probe.
//! - On a pod being deleted, liveness and startup say `Success` and end; readiness goes on.
//! - No probe while the container's age, in whole seconds cut off, is below the initial delay.
//! - Liveness and readiness wait until the container has started; the startup probe rests from then on.
//! - A verdict changes after as many *consecutive* equal outcomes as its threshold says.
//! - A liveness failure and any startup verdict put the worker on hold until there is a new container.
//! - A probe that could not be carried out is tried [`ATTEMPTS_PER_TICK`] times and then does not count.

use std::time::Duration;

use crate::units::SimTime;

/// How often one tick tries a probe that cannot be carried out, before it throws the tick away.
pub const ATTEMPTS_PER_TICK: u32 = 3;

/// What a probe is asked for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ProbeKind {
    /// Failure restarts the container.
    Liveness,
    /// Failure takes the pod out of its services.
    Readiness,
    /// Success lets the other two begin; failure restarts the container.
    Startup,
}

impl ProbeKind {
    /// The verdict on a container of which nothing is known yet.
    #[must_use]
    pub const fn initial_verdict(self) -> Verdict {
        match self {
            Self::Liveness => Verdict::Success,
            Self::Readiness => Verdict::Failure,
            Self::Startup => Verdict::Unknown,
        }
    }
}

/// What a worker holds to be true of its container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Alive, ready, started.
    Success,
    /// Not so.
    Failure,
    /// Not decided.
    Unknown,
}

/// What came of one probe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The container answered as it should.
    Success,
    /// It answered otherwise, too late, or refused the connection.
    Failure,
    /// The probe could not be carried out, not even in [`ATTEMPTS_PER_TICK`] attempts.
    Error,
}

/// A probe as the pod's specification has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeSpec {
    /// Whole seconds of the container's age before the first probe.
    pub initial_delay_seconds: u32,
    /// Seconds from tick to tick.
    pub period_seconds: u32,
    /// Seconds after which a missing answer is a failure.
    pub timeout_seconds: u32,
    /// Consecutive successes to become a `Success`; 1 for liveness and startup. 0 counts as 1.
    pub success_threshold: u32,
    /// Consecutive failures to become a `Failure`. 0 counts as 1.
    pub failure_threshold: u32,
    /// Seconds of grace when this probe's failure kills the container, if other than the pod's.
    pub termination_grace_seconds: Option<u32>,
}

/// The defaults of the API.
impl Default for ProbeSpec {
    fn default() -> Self {
        Self {
            initial_delay_seconds: 0,
            period_seconds: 10,
            timeout_seconds: 1,
            success_threshold: 1,
            failure_threshold: 3,
            termination_grace_seconds: None,
        }
    }
}

/// One run of a container: a restart makes a new one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ContainerId(pub u64);

/// What the pod's status says of a container's process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ContainerState {
    /// Not running yet.
    Waiting,
    /// Running.
    Running {
        /// Since when, as in the pod's status (which upstream keeps in whole seconds).
        since: SimTime,
    },
    /// It has run.
    Terminated,
}

/// A container as the pod's status has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContainerView {
    /// Which run this is.
    pub id: ContainerId,
    /// Its process.
    pub state: ContainerState,
    /// Whether it counts as started, see [`container_started`].
    pub started: bool,
}

/// What a worker looks at when it ticks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PodView {
    /// The phase is `Succeeded` or `Failed`.
    pub finished: bool,
    /// Deletion has been asked for.
    pub deleting: bool,
    /// A container that ends can start again: the restart policy is not `Never`.
    pub restarts: bool,
    /// The container, once the pod's status has one.
    pub container: Option<ContainerView>,
}

/// What a worker wants of its tick.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tick {
    /// Nothing; tick again.
    Idle,
    /// Probe the container and [`record`](ProbeWorker::record) the outcome; tick again.
    Probe,
    /// This worker's work is over.
    Stop,
}

/// The state of one probe on one container.
#[derive(Clone, Debug)]
pub struct ProbeWorker {
    kind: ProbeKind,
    spec: ProbeSpec,
    container: Option<ContainerId>,
    verdict: Verdict,
    last_outcome: Option<Outcome>,
    run: u32,
    on_hold: bool,
}

impl ProbeWorker {
    /// A worker that has not ticked.
    #[must_use]
    pub const fn new(kind: ProbeKind, spec: ProbeSpec) -> Self {
        Self {
            kind,
            spec,
            container: None,
            verdict: kind.initial_verdict(),
            last_outcome: None,
            run: 0,
            on_hold: false,
        }
    }

    /// The same for a container that is found running: it has passed before.
    #[must_use]
    pub fn having_passed(mut self, container: ContainerId) -> Self {
        self.begin_tick_for(container);
        for _ in 0..self.spec.success_threshold.max(1) {
            self.record(Outcome::Success);
        }
        self
    }

    /// A new container starts with a clean slate.
    fn begin_tick_for(&mut self, container: ContainerId) {
        if self.container != Some(container) {
            self.container = Some(container);
            self.verdict = self.kind.initial_verdict();
            self.on_hold = false;
        }
    }

    /// What it probes for.
    #[must_use]
    pub const fn kind(&self) -> ProbeKind {
        self.kind
    }

    /// How it probes.
    #[must_use]
    pub const fn spec(&self) -> &ProbeSpec {
        &self.spec
    }

    /// The container the verdict is about: the last one seen by a tick.
    #[must_use]
    pub const fn container(&self) -> Option<ContainerId> {
        self.container
    }

    /// What it holds to be true.
    #[must_use]
    pub const fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// The verdict on this very container: the initial one if no tick has seen it yet.
    #[must_use]
    pub fn verdict_on(&self, container: ContainerId) -> Verdict {
        if self.container == Some(container) { self.verdict } else { self.kind.initial_verdict() }
    }

    /// The number of consecutive equal outcomes; 0 after a verdict that put the worker on hold.
    #[must_use]
    pub const fn run(&self) -> u32 {
        self.run
    }

    /// Whether it waits for a new container.
    #[must_use]
    pub const fn on_hold(&self) -> bool {
        self.on_hold
    }

    /// The first half of a tick: takes note of the pod and says whether to probe.
    ///
    /// The verdict may change here: with a new container, one that does not run, or the pod's deletion.
    ///
    /// # Panics
    ///
    /// If the container runs since a time after `now`.
    pub fn begin_tick(&mut self, pod: &PodView, now: SimTime) -> Tick {
        if pod.finished {
            return Tick::Stop;
        }
        let Some(container) = pod.container else {
            return Tick::Idle;
        };
        self.begin_tick_for(container.id);
        if self.on_hold {
            return Tick::Idle;
        }
        let since = match container.state {
            ContainerState::Running { since } => since,
            ContainerState::Waiting => {
                self.verdict = Verdict::Failure;
                return Tick::Idle;
            }
            ContainerState::Terminated => {
                self.verdict = Verdict::Failure;
                return if pod.restarts { Tick::Idle } else { Tick::Stop };
            }
        };
        if pod.deleting && self.kind != ProbeKind::Readiness {
            self.verdict = Verdict::Success;
            return Tick::Stop;
        }
        if now.since(since).as_secs() < u64::from(self.spec.initial_delay_seconds) {
            return Tick::Idle;
        }
        let wants_started = self.kind != ProbeKind::Startup;
        if container.started == wants_started { Tick::Probe } else { Tick::Idle }
    }

    /// The second half of a tick that asked for a probe.
    pub fn record(&mut self, outcome: Outcome) {
        let (verdict, threshold) = match outcome {
            Outcome::Success => (Verdict::Success, self.spec.success_threshold),
            Outcome::Failure => (Verdict::Failure, self.spec.failure_threshold),
            Outcome::Error => return,
        };
        if self.last_outcome == Some(outcome) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last_outcome = Some(outcome);
            self.run = 1;
        }
        if self.run < threshold {
            return;
        }
        self.verdict = verdict;
        self.on_hold = match self.kind {
            ProbeKind::Liveness => verdict == Verdict::Failure,
            ProbeKind::Readiness => false,
            ProbeKind::Startup => true,
        };
        if self.on_hold {
            self.run = 0;
        }
    }
}

/// Whether a container counts as started: it runs, and its startup probe, if it has one, has succeeded.
#[must_use]
pub fn container_started(state: ContainerState, startup: Option<Verdict>) -> bool {
    let runs = matches!(state, ContainerState::Running { .. });
    runs && startup.is_none_or(|verdict| verdict == Verdict::Success)
}

/// Whether a container is ready: it has started, and its readiness probe, if it has one, has succeeded.
#[must_use]
pub fn container_ready(started: bool, readiness: Option<Verdict>) -> bool {
    started && readiness.is_none_or(|verdict| verdict == Verdict::Success)
}

/// Whether the kubelet, as it works out the pod's status, asks for a readiness probe at once instead of at the tick.
///
/// So it does for a started container whose readiness probe has not succeeded.
#[must_use]
pub fn wants_early_probe(started: bool, readiness: Option<Verdict>) -> bool {
    started && readiness.is_some_and(|verdict| verdict != Verdict::Success)
}

/// The bound of the random pause before a worker's first tick.
///
/// It is one period on a kubelet that has run for less than that, and nothing otherwise.
#[must_use]
pub fn start_jitter_bound(kubelet_uptime: Duration, period: Duration) -> Duration {
    if kubelet_uptime < period { period } else { Duration::ZERO }
}

/// Whether an HTTP probe takes this status for a success.
#[must_use]
pub const fn http_status_passes(status: u16) -> bool {
    200 <= status && status < 400
}

/// The first tick later than `now`.
#[must_use]
pub fn next_tick(from: SimTime, period: Duration, now: SimTime) -> SimTime {
    if now < from {
        return from;
    }
    let period_ns = u64::try_from(period.as_nanos()).unwrap_or(u64::MAX);
    let ticks = (now.as_nanos() - from.as_nanos()) / period_ns + 1;
    SimTime::from_nanos(from.as_nanos().saturating_add(ticks.saturating_mul(period_ns)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_secs(seconds))
    }

    fn running(id: u64, started: bool) -> PodView {
        let state = ContainerState::Running { since: SimTime::ZERO };
        let container = Some(ContainerView { id: ContainerId(id), state, started });
        PodView { finished: false, deleting: false, restarts: true, container }
    }

    fn worker(kind: ProbeKind, failure_threshold: u32) -> ProbeWorker {
        ProbeWorker::new(kind, ProbeSpec { failure_threshold, ..ProbeSpec::default() })
    }

    #[test]
    fn a_failed_liveness_probe_waits_for_a_new_container() {
        let mut worker = worker(ProbeKind::Liveness, 2);
        for run in 1..=2 {
            assert_eq!(worker.begin_tick(&running(1, true), at(run)), Tick::Probe);
            worker.record(Outcome::Failure);
        }
        assert_eq!((worker.verdict(), worker.run(), worker.on_hold()), (Verdict::Failure, 0, true));
        assert_eq!(worker.begin_tick(&running(1, true), at(3)), Tick::Idle);
        assert_eq!(worker.verdict(), Verdict::Failure);

        assert_eq!(worker.verdict_on(ContainerId(2)), Verdict::Success);
        assert_eq!(worker.begin_tick(&running(2, true), at(4)), Tick::Probe);
        assert_eq!((worker.verdict(), worker.on_hold()), (Verdict::Success, false));
        worker.record(Outcome::Failure);
        assert_eq!((worker.verdict(), worker.run()), (Verdict::Success, 1));
    }

    #[test]
    fn the_startup_probe_goes_first_and_then_rests() {
        let mut startup = worker(ProbeKind::Startup, 3);
        let mut others = [worker(ProbeKind::Liveness, 3), worker(ProbeKind::Readiness, 3)];
        for other in &mut others {
            assert_eq!(other.begin_tick(&running(1, false), at(1)), Tick::Idle);
            assert_eq!(other.begin_tick(&running(1, true), at(2)), Tick::Probe);
        }
        assert_eq!(startup.begin_tick(&running(1, false), at(1)), Tick::Probe);
        startup.record(Outcome::Success);
        assert_eq!(startup.begin_tick(&running(1, false), at(2)), Tick::Idle);
        assert_eq!(startup.begin_tick(&running(1, true), at(3)), Tick::Idle);
        assert_eq!(startup.begin_tick(&running(2, false), at(4)), Tick::Probe);
        assert_eq!(startup.verdict(), Verdict::Unknown);
    }

    #[test]
    fn the_initial_delay_is_compared_with_whole_seconds() {
        let spec = ProbeSpec { initial_delay_seconds: 5, ..ProbeSpec::default() };
        let mut worker = ProbeWorker::new(ProbeKind::Readiness, spec);
        let almost = SimTime::from_nanos(4_999_999_999);
        assert_eq!(worker.begin_tick(&running(1, true), almost), Tick::Idle);
        assert_eq!(worker.begin_tick(&running(1, true), at(5)), Tick::Probe);
    }

    #[test]
    fn an_error_neither_counts_nor_breaks_a_run() {
        let mut worker = worker(ProbeKind::Readiness, 2);
        worker.record(Outcome::Success);
        for outcome in [Outcome::Failure, Outcome::Error] {
            worker.record(outcome);
            assert_eq!((worker.verdict(), worker.run()), (Verdict::Success, 1));
        }
        worker.record(Outcome::Failure);
        assert_eq!(worker.verdict(), Verdict::Failure);
    }

    #[test]
    fn a_worker_waits_for_its_container_and_ends_with_its_pod() {
        let mut worker = worker(ProbeKind::Liveness, 3);
        let mut pod = PodView { container: None, ..running(1, true) };
        assert_eq!((worker.begin_tick(&pod, at(1)), worker.container()), (Tick::Idle, None));
        assert_eq!(worker.verdict(), Verdict::Success);
        pod.finished = true;
        assert_eq!(worker.begin_tick(&pod, at(2)), Tick::Stop);
    }

    #[test]
    fn started_and_ready_follow_the_probes_there_are() {
        let up = ContainerState::Running { since: SimTime::ZERO };
        assert!(container_started(up, None) && container_started(up, Some(Verdict::Success)));
        assert!(!container_started(up, Some(Verdict::Unknown)) && !container_started(ContainerState::Waiting, None));
        assert!(container_ready(true, None) && !container_ready(true, Some(Verdict::Failure)));
        assert!(!container_ready(false, Some(Verdict::Success)));
        assert!(wants_early_probe(true, Some(Verdict::Failure)));
        assert!(!wants_early_probe(false, Some(Verdict::Failure)) && !wants_early_probe(true, None));
    }

    #[test]
    fn jitter_and_http_have_their_bounds() {
        let period = Duration::from_secs(10);
        assert_eq!(start_jitter_bound(Duration::from_secs(9), period), period);
        assert_eq!(start_jitter_bound(period, period), Duration::ZERO);
        assert_eq!([199, 200, 399, 400].map(http_status_passes), [false, true, true, false]);
    }

    #[test]
    fn ticks_are_whole_periods_after_the_first() {
        let at = |ms: u64| SimTime::ZERO.after(Duration::from_millis(ms));
        for (now_ms, next_ms) in [(0, 300), (299, 300), (300, 1300), (1299, 1300), (1300, 2300)] {
            assert_eq!(next_tick(at(300), Duration::from_secs(1), at(now_ms)), at(next_ms), "at {now_ms} ms");
        }
    }
}
