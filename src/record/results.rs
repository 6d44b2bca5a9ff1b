//! The results of a run: what `results.json` holds.
//!
//! The format is versioned ([`SCHEMA_VERSION`]): a minor version adds keys, a major one may break. Booleans say what is
//! good, units stand in names, ratios are 0 to 1, and what is absent is `null`, never 0. Milliseconds are on the clock of
//! the run, rounded down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::request::Source;

/// Version of the format of `results.json`.
pub const SCHEMA_VERSION: &str = "1.0";

/// The results of one run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Results {
    /// Version of this format.
    pub schema_version: String,
    /// Version of gatedrill that ran it.
    pub engine_version: String,
    /// What was run.
    pub scenario: ScenarioId,
    /// The seed of all randomness.
    pub seed: u64,
    /// Hash of the event log.
    pub fingerprint: String,
    /// False if the run was interrupted: then only requests that had ended are counted.
    pub complete: bool,
    /// Whether all error-level SLOs were met.
    pub verdict: Verdict,
    /// The measured part of the run; requests due in it are counted.
    pub measured: Span,
    /// Requests still open when the run was interrupted; counted nowhere else.
    pub unfinished: u64,
    /// Counts over all phases and loads.
    pub totals: Totals,
    /// Latency of all answered requests.
    pub latency_us: LatencyUs,
    /// The same per phase, in order of time.
    pub phases: Vec<Phase>,
    /// The same per load, in scenario order.
    pub loads: Vec<Load>,
    /// Why requests were lost, most frequent first.
    pub causes: Vec<Cause>,
    /// Rolling updates.
    pub rollouts: Vec<Rollout>,
    /// Gateway pods, by time of creation.
    pub pods: Vec<Pod>,
    /// The load balancer's view: its targets, by time of registration.
    pub targets: Vec<Target>,
    /// What the autoscalers decided.
    pub autoscaler: Vec<AutoscalerStep>,
    /// The gateway itself.
    pub gateway: GatewayFacts,
    /// The SLOs, in scenario order.
    pub slo: Vec<Slo>,
    /// What of the manifests is simulated, and how.
    pub fidelity: Vec<Fidelity>,
    /// A few lost requests per cause, in the order of `causes`.
    pub samples: Vec<Sample>,
}

/// What was run.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ScenarioId {
    /// Name of the scenario.
    pub name: String,
    /// Variant, if one was chosen.
    pub variant: Option<String>,
    /// Hash of everything that was read.
    pub input_hash: String,
}

/// Whether a run met its SLOs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All error-level SLOs were met.
    Pass,
    /// One was missed.
    Fail,
}

/// A span on the clock of the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Span {
    /// Its first millisecond.
    pub start_ms: u64,
    /// The millisecond after its last.
    pub end_ms: u64,
}

/// Counts of requests and connections. sent = ok + `backend_error` + dropped.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each field is the outcome of that name, described in `Outcome`")]
pub struct Totals {
    pub sent: u64,
    pub ok: u64,
    pub backend_error: u64,
    pub gateway_error: u64,
    pub refused: u64,
    pub reset: u64,
    pub closed: u64,
    pub truncated: u64,
    pub connect_timeout: u64,
    pub request_timeout: u64,
    pub tls_failed: u64,
    /// All but `ok` and `backend_error`.
    pub dropped: u64,
    /// `dropped` per `sent`.
    pub dropped_ratio: Option<f64>,
    /// Answers with a 5xx (`backend_error` and `gateway_error`) per `sent`.
    pub error_ratio: Option<f64>,
    /// Attempts after the first, by clients.
    pub retries: u64,
    /// Connections clients opened.
    pub connections_opened: u64,
    /// Of those: ended with a reset.
    pub connections_reset: u64,
}

/// Latency of answered requests (`ok` and `backend_error`) from their intended send time, in microseconds.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct LatencyUs {
    /// Median.
    pub p50: Option<u64>,
    /// 90th percentile.
    pub p90: Option<u64>,
    /// 99th percentile.
    pub p99: Option<u64>,
    /// 99.9th percentile.
    pub p99_9: Option<u64>,
    /// Longest.
    pub max: Option<u64>,
    /// Arithmetic mean, to a tenth.
    pub mean: Option<f64>,
    /// Number of answered requests.
    pub count: u64,
    /// The whole histogram: HdrHistogram V2, base64.
    pub hdr_v2_base64: String,
}

/// Figures of one phase.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Phase {
    /// Its name; one that appears twice is told as two phases.
    pub name: String,
    /// When it began.
    pub start_ms: u64,
    /// When the next began, or the measured time ended.
    pub end_ms: u64,
    /// Counts of the requests due in it.
    pub totals: Totals,
    /// Latency of those.
    pub latency_us: LatencyUs,
}

/// Figures of one load.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// Counts of its requests.
    pub totals: Totals,
    /// Latency of those.
    pub latency_us: LatencyUs,
}

/// A cause with all losses it explains: one row per cause and setting.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Cause {
    /// Its code, as in `GD4101`.
    pub code: String,
    /// Its name, as in `lb-stale-target`.
    pub name: String,
    /// Lost requests.
    pub count: u64,
    /// When the first of them was due.
    pub first_ms: u64,
    /// When the last of them was due.
    pub last_ms: u64,
    /// Outcomes clients saw, most frequent first, separated by `, `.
    pub client_sees: String,
    /// Envoy's response flags, most frequent first, separated by `, `.
    pub envoy_flag: Option<String>,
    /// The setting behind it.
    pub source: Option<Source>,
    /// What to set, where the code's own advice does not fit what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Cause {
    /// What to set instead.
    #[must_use]
    pub fn fix(&self) -> Option<&str> {
        self.advice.as_deref().or_else(|| super::CauseCode::find(&self.code).map(super::CauseCode::fix))
    }
}

/// One rolling update.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Rollout {
    /// The Deployment, as `namespace/name`.
    pub object: String,
    /// The revision rolled out.
    pub revision: u64,
    /// When it began.
    pub start_ms: u64,
    /// When it was complete; none if it was not.
    pub end_ms: Option<u64>,
    /// From begin to completion.
    pub duration_ms: Option<u64>,
    /// Whether it was completed.
    pub complete: bool,
    /// When it had made no progress for as long as `progressDeadlineSeconds`; left out if that did not happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_ms: Option<u64>,
    /// Most pods at once, without those being deleted.
    pub pods_max: u32,
    /// Fewest ready pods.
    pub ready_min: u32,
}

/// The life of a gateway pod. Each time is null if it did not come to that.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Pod {
    /// As `namespace/name`.
    pub name: String,
    /// Revision of its template.
    pub revision: u64,
    /// Node it was bound to.
    pub node: Option<String>,
    /// Created.
    pub created_ms: u64,
    /// Bound to its node.
    pub scheduled_ms: Option<u64>,
    /// Container running.
    pub started_ms: Option<u64>,
    /// Ready for the first time.
    pub ready_ms: Option<u64>,
    /// Every later change of its readiness before its deletion.
    pub readiness: Vec<ReadinessChange>,
    /// Its end asked for: its deletion, or its machine shuts down.
    pub terminating_ms: Option<u64>,
    /// SIGTERM sent.
    pub sigterm_ms: Option<u64>,
    /// Process ended.
    pub exited_ms: Option<u64>,
    /// Address and name given back.
    pub gone_ms: Option<u64>,
    /// Why the process ended: `exit 0`, or the reason it was killed.
    pub exit_reason: Option<String>,
    /// How often its container was started again.
    pub restarts: u32,
    /// Why its run before the present one ended, in the words of `exit_reason`.
    pub restart_reason: Option<String>,
    /// Requests that reached it or were sent to it.
    pub requests: u64,
    /// Of those: lost.
    pub dropped: u64,
}

/// A pod became ready or unready.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ReadinessChange {
    /// When.
    pub t_ms: u64,
    /// Whether it is ready from then on.
    pub ready: bool,
}

/// A target of the load balancer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Target {
    /// Its address, or the node's name.
    pub name: String,
    /// The pod behind it, as `namespace/name`, if it is a pod.
    pub pod: Option<String>,
    /// Its states in order of time; the last lasts to the end of the run.
    pub states: Vec<TargetState>,
}

/// A target's state from a moment on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TargetState {
    /// When it began.
    pub t_ms: u64,
    /// `registered` (no traffic yet), `healthy`, `unhealthy`, `deregistered` (kept connections only) or `drained`.
    pub state: String,
}

/// One evaluation of an autoscaler.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AutoscalerStep {
    /// The HorizontalPodAutoscaler, as `namespace/name`.
    pub object: String,
    /// The Deployment it sizes, as `namespace/name`.
    pub target: String,
    /// When.
    pub t_ms: u64,
    /// Replicas there were.
    pub current: u32,
    /// Replicas it wants.
    pub desired: u32,
    /// What it looked at.
    pub metrics: Vec<AutoscalerMetric>,
    /// Its conditions by type, as `status/reason`.
    pub conditions: BTreeMap<String, String>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A metric as an autoscaler saw it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AutoscalerMetric {
    /// Its type, such as `Resource`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its name, such as `cpu`.
    pub name: String,
    /// Its value, in the unit of the target; none if it could not be had.
    pub value: Option<f64>,
    /// The target.
    pub target: f64,
    /// `percent` of what is requested, `per_pod` or `value`.
    pub unit: String,
}

/// What the gateway itself did.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct GatewayFacts {
    /// CPU used of the limit, mean over the measured time.
    pub cpu_ratio_mean: Option<f64>,
    /// The same, of the busiest second.
    pub cpu_ratio_max: Option<f64>,
    /// Most memory of one pod.
    pub memory_bytes_max: Option<u64>,
    /// Requests per pod, as `namespace/name`.
    pub requests_per_pod: BTreeMap<String, u64>,
    /// Counters of the upstream side, by name, such as `connect_fail`.
    pub upstream: BTreeMap<String, u64>,
    /// The load balancer in front, where the scenario names a product.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub balancer: Option<String>,
    /// Each cluster's gateway at the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<GatewayStatus>,
}

/// A gateway as its console shows it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GatewayStatus {
    /// Its Deployment, as `namespace/name`; of several clusters, the cluster before it.
    pub object: String,
    /// When.
    pub t_ms: u64,
    /// `Running` when it is ready and has an address, else `Pending`.
    pub state: String,
    /// The Service's address; none: `<pending>`.
    pub address: Option<String>,
    /// Why it has none.
    pub message: Option<String>,
}

/// An SLO and what became of it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Slo {
    /// Its name; the expression if it has none.
    pub name: String,
    /// The expression.
    pub expr: String,
    /// Whether missing it fails the run.
    pub level: Level,
    /// The limit, in `unit`.
    pub limit: f64,
    /// The value, in `unit`; none if there was nothing to measure.
    pub value: Option<f64>,
    /// `ratio`, `us`, `ms`, `count`, `per_s`.
    pub unit: String,
    /// Whether it was met.
    pub ok: bool,
    /// Room left, as a part of the limit; negative if it was missed.
    pub margin_ratio: Option<f64>,
}

/// What missing an SLO means.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// The run fails.
    Error,
    /// It is only told.
    Warn,
}

/// How faithfully a field of a manifest is simulated.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fidelity {
    /// Path of the field.
    pub path: String,
    /// File it stands in.
    pub file: Option<String>,
    /// Line in that file, from 1.
    pub line: Option<u32>,
    /// How faithfully.
    pub status: FidelityStatus,
    /// What is left out or different.
    pub note: Option<String>,
}

/// How faithfully a field is simulated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FidelityStatus {
    /// As the real system does.
    Modelled,
    /// With a difference the note tells.
    Approximated,
    /// Not at all.
    Ignored,
    /// As the real system does, which is probably not what is wanted; the note tells why.
    Warning,
}

/// A few lost requests of one row of `causes`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// Code of the cause.
    pub cause: String,
    /// Names of requests, the earliest first.
    pub requests: Vec<String>,
}
