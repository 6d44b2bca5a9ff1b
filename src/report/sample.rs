//! A drill made up for tests: four pods behind a balancer that is slow to notice, rolled one by one.
//!
//! No world is run. Arrivals are evenly spaced, and every lost request is one that the story below makes plausible, so
//! that pages and snapshots look like those of a real drill.

use super::units::float;
use crate::engine::{Datum, EventLog};
use crate::record::recorder::Facts;
use crate::record::results::{
    AutoscalerMetric, AutoscalerStep, Fidelity, FidelityStatus, GatewayFacts, Level, Rollout, ScenarioId, Slo,
};
use crate::record::{CauseCode, Done, Gauge, Lost, Outcome, Recorder, RecorderConfig, RequestId, Run, Source, lanes};
use crate::units::SimTime;

/// What is made up.
#[derive(Clone, Copy)]
pub(crate) struct Story {
    /// Pods before and after.
    pub pods: u64,
    /// How long a pod keeps listening after SIGTERM.
    pub drain_ms: u64,
    /// How long the balancer keeps sending new connections to a pod that is being deleted.
    pub lag_ms: u64,
    pub seed: u64,
    pub name: &'static str,
}

/// The drill that loses requests.
pub(crate) const LOSING: Story = Story { pods: 4, drain_ms: 5_000, lag_ms: 9_000, seed: 42, name: "rolling-upgrade" };
/// The same, put right.
pub(crate) const FIXED: Story =
    Story { pods: 4, drain_ms: 30_000, lag_ms: 9_000, seed: 42, name: "rolling-upgrade-fixed" };

const START_MS: u64 = 10_000;
const END_MS: u64 = 190_000;
const ROLLOUT_MS: u64 = 60_000;
const STEP_MS: u64 = 17_000;
const SPACING_US: u64 = 4_000;

struct Life {
    pod: String,
    created_ms: u64,
    terminating_ms: Option<u64>,
}

/// When, what, to whom, and the details of an event.
type Row = (u64, &'static str, String, Vec<(&'static str, Datum)>);

impl Story {
    fn lives(&self) -> Vec<Life> {
        let name = |hash: &str, index: u64| format!("istio-system/istio-edge-{hash}-{}", suffix(index));
        let old = (0..self.pods).map(|index| Life {
            pod: name("6d9c7b5f4", index),
            created_ms: 0,
            terminating_ms: Some(ROLLOUT_MS + index * STEP_MS + 7_500),
        });
        let new = (0..self.pods).map(|index| Life {
            pod: name("7f86c9d64", index + 40),
            created_ms: ROLLOUT_MS + index * STEP_MS,
            terminating_ms: None,
        });
        old.chain(new).collect()
    }

    /// The run and its event log.
    pub(crate) fn tell(self) -> (Run, EventLog) {
        let lives = self.lives();
        let log = self.log(&lives);
        let mut recorder = Recorder::new(RecorderConfig {
            start: at_ms(START_MS),
            end: at_ms(END_MS),
            loads: vec!["services".into(), "mobile".into()],
            first_phase: "before".into(),
            dropped_rows_max: 1_000,
            served_rows: 50,
        });
        let rollout_end_ms = ROLLOUT_MS + (self.pods - 1) * STEP_MS + 7_500;
        let dues = (START_MS * 1_000..END_MS * 1_000).step_by(usize::try_from(SPACING_US).unwrap());
        for (number, due_us) in (0..).zip(dues) {
            if due_us == ROLLOUT_MS * 1_000 {
                recorder.phase("rollout", at_ms(ROLLOUT_MS));
            }
            if due_us == rollout_end_ms * 1_000 {
                recorder.phase("after", at_ms(rollout_end_ms));
            }
            self.ask(&mut recorder, &log, &lives, number, due_us);
        }
        self.read_gauges(&mut recorder, &lives);
        let run = {
            let facts = self.facts(&log, rollout_end_ms, &recorder);
            recorder.finish(facts).unwrap()
        };
        (run, log)
    }

    /// One request, served or lost.
    fn ask(&self, recorder: &mut Recorder, log: &EventLog, lives: &[Life], number: u64, due_us: u64) {
        let noise = mix(number);
        let load = usize::from(noise.is_multiple_of(4));
        let due_ms = due_us / 1_000;
        let at = SimTime::from_nanos(due_us * 1_000);
        recorder.sent(load, at);
        if noise.is_multiple_of(4) {
            recorder.connection_opened(load, at);
        }
        let candidates: Vec<_> = lives.iter().filter(|life| self.is_target(life, due_ms)).collect();
        let life = candidates[usize::try_from(noise >> 8).unwrap_or(0) % candidates.len()];
        let gone_ms = life.terminating_ms.map_or(u64::MAX, |at| at + self.drain_ms);
        let busy = if (ROLLOUT_MS..ROLLOUT_MS + 60_000).contains(&due_ms) { 3 } else { 1 };
        let tail = noise % 1_000;
        let latency_us = 9_000 + (noise >> 20) % 6_000 + busy * (tail / 992 * 60_000 + (noise >> 33) % 4_000);
        let mut done = Done {
            request: RequestId { client: u32::try_from(noise % 200).unwrap(), number },
            load,
            intended_at: at,
            ended_at: SimTime::from_nanos((due_us + latency_us) * 1_000),
            outcome: if noise % 4_001 == 17 { Outcome::BackendError } else { Outcome::Ok },
            status: Some(if noise % 4_001 == 17 { 503 } else { 200 }),
            flag: None,
            cause: None,
            pod: Some(&life.pod),
            method: if tail.is_multiple_of(9) { "POST" } else { "GET" },
            url: if tail.is_multiple_of(9) {
                "http://web.example.com/api/order"
            } else {
                "http://web.example.com/api/cart"
            },
            connection: Some(noise % 900),
            retries: 0,
        };
        if due_ms >= gone_ms {
            let is_new = load == 1;
            (done.outcome, done.cause) = if is_new {
                (Outcome::Refused, Some(self.lost(CauseCode::LbStaleTarget, log, &life.pod)))
            } else if tail.is_multiple_of(10) && due_ms < gone_ms + 1_500 {
                recorder.connection_reset(load, at);
                (Outcome::Closed, Some(self.lost(CauseCode::ExitIdleConnection, log, &life.pod)))
            } else {
                (Outcome::Ok, None)
            };
            if done.outcome.is_dropped() {
                done.status = None;
                done.ended_at = SimTime::from_nanos((due_us + 20_000) * 1_000);
            }
        }
        recorder.done(&done);
    }

    fn is_target(&self, life: &Life, t_ms: u64) -> bool {
        let healthy_ms = if life.created_ms == 0 { 0 } else { life.created_ms + 12_000 };
        healthy_ms <= t_ms && life.terminating_ms.is_none_or(|at| t_ms < at + self.lag_ms)
    }

    fn lost(&self, code: CauseCode, log: &EventLog, pod: &str) -> Lost {
        let exited = log.events().iter().find(|event| event.kind == "container_exited" && event.object.ends_with(pod));
        let (line, path, value) = match code {
            CauseCode::LbStaleTarget => (None, "terminationDrainDuration", "5s"),
            _ => (Some(31), "spec.gracefulShutdown.enabled", "false"),
        };
        let source = Source {
            file: line.map(|_| "manifests/edge.yaml".into()),
            line,
            path: path.into(),
            value: Some(value.into()),
        };
        Lost { code, event: exited.map(|event| event.id), source: Some(source), remedy: None }
    }

    fn log(&self, lives: &[Life]) -> EventLog {
        let mut rows: Vec<Row> = Vec::new();
        let deployment = "Deployment/istio-system/istio-edge".to_owned();
        rows.push((ROLLOUT_MS, "timeline", deployment.clone(), vec![("verb", "restart".into())]));
        rows.push((ROLLOUT_MS, "rollout_started", deployment, vec![("revision", 2.into())]));
        for (index, life) in lives.iter().enumerate() {
            let object = format!("Pod/{}", life.pod);
            let address = format!("10.0.{}.{}:80", 1 + index % 3, 10 + index);
            let target = format!("Target/nlb/{address}");
            let born_ms = life.created_ms;
            let lag = |span_ms| if born_ms == 0 { 0 } else { span_ms };
            let revision = if born_ms == 0 { 1 } else { 2 };
            let node = format!("pool-a-{}", index % 3);
            rows.push((born_ms, "pod_created", object.clone(), vec![("revision", revision.into())]));
            rows.push((born_ms + lag(10), "pod_scheduled", object.clone(), vec![("node", node.into())]));
            rows.push((born_ms + lag(4_300), "container_started", object.clone(), vec![]));
            rows.push((born_ms + lag(7_500), "pod_ready", object.clone(), vec![]));
            let named = || vec![("pod", Datum::from(life.pod.clone())), ("address", address.clone().into())];
            rows.push((born_ms + lag(9_800), "target_registered", target.clone(), named()));
            rows.push((born_ms + lag(12_000), "target_healthy", target.clone(), named()));
            if let Some(end_ms) = life.terminating_ms {
                rows.push((end_ms, "pod_terminating", object.clone(), vec![("grace_s", 30.into())]));
                rows.push((end_ms, "sigterm", object.clone(), vec![]));
                rows.push((end_ms + self.drain_ms, "container_exited", object.clone(), vec![("code", 0.into())]));
                rows.push((end_ms + self.drain_ms + 400, "pod_gone", object, vec![]));
                rows.push((end_ms + self.lag_ms, "target_deregistered", target.clone(), named()));
                rows.push((end_ms + self.lag_ms + 10_000, "target_drained", target, named()));
            }
        }
        rows.sort_by_key(|row| row.0);
        let mut log = EventLog::default();
        for (t_ms, kind, object, data) in rows {
            let because = (kind == "rollout_started").then(|| log.events().last().unwrap().id);
            log.record(at_ms(t_ms), because, kind, object, data);
        }
        log
    }

    fn read_gauges(&self, recorder: &mut Recorder, lives: &[Life]) {
        for t_s in START_MS / 1_000..END_MS / 1_000 {
            let t_ms = t_s * 1_000 + 999;
            let count = |is: &dyn Fn(&Life) -> bool| u32::try_from(lives.iter().filter(|life| is(life)).count()).ok();
            let is_there =
                |life: &Life| life.created_ms <= t_ms && life.terminating_ms.is_none_or(|at| t_ms < at + self.drain_ms);
            let is_ending = |life: &Life| is_there(life) && life.terminating_ms.is_some_and(|at| at <= t_ms);
            let is_ready = |life: &Life| {
                is_there(life) && !is_ending(life) && (life.created_ms == 0 || life.created_ms + 7_500 <= t_ms)
            };
            let gauge = Gauge {
                pods: count(&is_there),
                pods_ready: count(&is_ready),
                pods_available: count(&is_ready),
                pods_terminating: count(&is_ending),
                lb_targets_healthy: count(&|life| self.is_target(life, t_ms)),
                hpa_desired: None,
                cpu_ratio: Some(0.31),
                connections: Some(180 + mix(t_s) % 20),
            };
            recorder.gauge(at_ms(t_ms), gauge);
        }
    }

    fn facts(&self, log: &EventLog, rollout_end_ms: u64, recorder: &Recorder) -> Facts {
        let rolling = recorder.figures(Some("rollout"), None);
        let p99_us = float(rolling.latencies.quantile_us(0.99).unwrap());
        let lost = rolling.dropped_ratio().unwrap();
        Facts {
            engine_version: "0.1.0".into(),
            scenario: ScenarioId { name: self.name.into(), variant: None, input_hash: "5f2c9a10d7e3b846".into() },
            seed: self.seed,
            fingerprint: log.fingerprint().to_string(),
            complete: true,
            rollouts: vec![Rollout {
                object: "istio-system/istio-edge".into(),
                revision: 2,
                start_ms: ROLLOUT_MS,
                end_ms: Some(rollout_end_ms),
                duration_ms: Some(rollout_end_ms - ROLLOUT_MS),
                complete: true,
                stuck_ms: None,
                pods_max: 5,
                ready_min: 4,
            }],
            pods: lanes::pods(log.events(), |_| true),
            targets: lanes::targets(log.events()),
            autoscaler: Vec::new(),
            gateway: GatewayFacts { cpu_ratio_mean: Some(0.31), cpu_ratio_max: Some(0.44), ..GatewayFacts::default() },
            slo: vec![
                Slo {
                    name: "nothing lost while rolling".into(),
                    expr: "dropped_ratio{phase=\"rollout\"} <= 0.01%".into(),
                    level: Level::Error,
                    limit: 0.0001,
                    value: Some(lost),
                    unit: "ratio".into(),
                    ok: lost <= 0.0001,
                    margin_ratio: Some(1.0 - lost / 0.0001),
                },
                Slo {
                    name: "latency_p99{phase=\"rollout\"} <= 250ms".into(),
                    expr: "latency_p99{phase=\"rollout\"} <= 250ms".into(),
                    level: Level::Error,
                    limit: 250_000.0,
                    value: Some(p99_us),
                    unit: "us".into(),
                    ok: true,
                    margin_ratio: Some(1.0 - p99_us / 250_000.0),
                },
                Slo {
                    name: "rollout_duration <= 45s".into(),
                    expr: "rollout_duration <= 45s".into(),
                    level: Level::Warn,
                    limit: 45_000.0,
                    value: Some(58_500.0),
                    unit: "ms".into(),
                    ok: false,
                    margin_ratio: Some(-0.3),
                },
            ],
            fidelity: vec![
                fidelity("spec.replicaCount", 9, FidelityStatus::Modelled, None),
                fidelity("spec.resources.limits.memory", 17, FidelityStatus::Ignored, Some("no memory limits yet")),
                fidelity("spec.rollingMaxSurge", 12, FidelityStatus::Modelled, None),
                fidelity(
                    "metadata.annotations.healthy-threshold",
                    22,
                    FidelityStatus::Approximated,
                    Some("checks are evenly spaced"),
                ),
            ],
        }
    }
}

fn fidelity(path: &str, line: u32, status: FidelityStatus, note: Option<&str>) -> Fidelity {
    let file = Some("manifests/edge.yaml".into());
    Fidelity { path: path.into(), file, line: Some(line), status, note: note.map(str::to_owned) }
}

fn at_ms(t_ms: u64) -> SimTime {
    SimTime::from_nanos(t_ms * 1_000_000)
}

/// Five letters as Kubernetes makes them.
fn suffix(index: u64) -> String {
    let letters = b"bcdfghjklmnpqrstvwxz2456789";
    let mut state = mix(index + 77);
    (0..5)
        .map(|_| {
            state /= 29;
            char::from(letters[usize::try_from(state % 27).unwrap()])
        })
        .collect()
}

/// Something that looks random.
fn mix(number: u64) -> u64 {
    let mixed = (number ^ 0x9e37_79b9).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Syncs of an autoscaler that sees a surge: without samples first, then in balance, then behind, and in balance again.
pub(crate) fn scaled() -> Vec<AutoscalerStep> {
    let step = |t_ms: u64, current: u32, desired: u32, percent: Option<f64>, conditions: [&str; 3]| AutoscalerStep {
        object: "istio-system/istio-edge".into(),
        target: "istio-system/istio-edge".into(),
        t_ms,
        current,
        desired,
        metrics: vec![AutoscalerMetric {
            kind: "Resource".into(),
            name: "cpu".into(),
            value: percent,
            target: 60.0,
            unit: "percent".into(),
        }],
        conditions: ["AbleToScale", "ScalingActive", "ScalingLimited"]
            .iter()
            .zip(conditions)
            .map(|(kind, reason)| ((*kind).to_owned(), reason.to_owned()))
            .collect(),
        error: percent.is_none().then(|| "no metrics returned from resource metrics API".to_owned()),
    };
    let fine = ["True/ReadyForNewScale", "True/ValidMetricFound", "False/DesiredWithinRange"];
    vec![
        step(12_000, 4, 4, None, ["True/SucceededGetScale", "False/FailedGetResourceMetric", "False/-"]),
        step(27_000, 4, 4, Some(55.0), fine),
        step(42_000, 4, 4, Some(57.0), fine),
        step(57_000, 4, 8, Some(200.0), ["True/SucceededRescale", "True/ValidMetricFound", "True/ScaleUpLimit"]),
        step(72_000, 8, 9, Some(70.0), ["True/SucceededRescale", "True/ValidMetricFound", "False/DesiredWithinRange"]),
    ]
}
