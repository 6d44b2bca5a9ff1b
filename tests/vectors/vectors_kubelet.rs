//! The kubelet's and the endpoints' rules against the tables of upstream's own tests.
//!
//! `tests/data/kubernetes/vectors/README.md` says what the fields mean.

use std::fs;
use std::path::Path;
use std::time::Duration;

use gatedrill::cluster::endpoints::{EndpointPod, TerminatingPods};
use gatedrill::cluster::kubelet::backoff::CrashBackoff;
use gatedrill::cluster::kubelet::grace::{GraceSettings, KillReason, MINIMUM_GRACE_SECONDS};
use gatedrill::cluster::kubelet::probe::{
    ContainerId, ContainerState, ContainerView, Outcome, PodView, ProbeKind, ProbeSpec, ProbeWorker, Tick, Verdict,
};
use gatedrill::units::SimTime;
use serde_json::Value;

/// The file of this name, and a check that it holds as many cases as it says.
fn load(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes/vectors").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: Value = serde_json::from_str(&text).expect("a vector file is JSON");
    let count = file["count"].as_u64().expect("a vector file has a count");
    assert_eq!(u64::try_from(cases(&file).len()), Ok(count), "{name}: cases");
    file
}

fn cases(file: &Value) -> &[Value] {
    file["cases"].as_array().expect("a vector file has cases")
}

/// How a failed check names its case: by number and upstream's name.
fn label(index: usize, case: &Value) -> String {
    format!("case {index}, {}", case["name"])
}

/// The entries of "expected": at least one, or nothing is checked.
fn expected<'a>(case: &'a Value, label: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let entries = case["expected"].as_object().expect("a case has expectations");
    assert!(!entries.is_empty(), "{label}: expects nothing");
    entries.iter().map(|(key, value)| (key.as_str(), value))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn flag(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or_else(|| panic!("{key} is no flag in {value}"))
}

/// A flag that may be absent, and is `default` then.
fn flag_or(value: &Value, key: &str, default: bool) -> bool {
    value.get(key).map_or(default, |_| flag(value, key))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is no number in {value}"))
}

/// A number that may be absent or null.
fn maybe_number(value: &Value, key: &str) -> Option<u32> {
    let present = value.get(key).filter(|field| !field.is_null());
    present.map(|_| u32::try_from(number(value, key)).expect("a number of 32 bits"))
}

fn at(seconds: u64) -> SimTime {
    SimTime::ZERO.after(Duration::from_secs(seconds))
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Success => "Success",
        Verdict::Failure => "Failure",
        Verdict::Unknown => "Unknown",
    }
}

fn probe_kind(case: &Value) -> ProbeKind {
    match text(case, "type") {
        "liveness" => ProbeKind::Liveness,
        "readiness" => ProbeKind::Readiness,
        "startup" => ProbeKind::Startup,
        other => panic!("no such probe: {other}"),
    }
}

fn container_state(case: &Value, since: SimTime) -> ContainerState {
    match case.get("containerState").map(|_| text(case, "containerState")) {
        None => ContainerState::Running { since },
        Some("waiting") => ContainerState::Waiting,
        Some("terminated") => ContainerState::Terminated,
        Some(other) => panic!("no such state: {other}"),
    }
}

/// One tick; returns whether the worker keeps probing.
fn tick(worker: &mut ProbeWorker, pod: &PodView, now: SimTime, step: &Value, label: &str) -> bool {
    let wants = worker.begin_tick(pod, now);
    if wants == Tick::Probe {
        worker.record(match text(step, "probe") {
            "success" => Outcome::Success,
            "failure" => Outcome::Failure,
            "error" => Outcome::Error,
            other => panic!("{label}: no such outcome: {other}"),
        });
    }
    wants != Tick::Stop
}

#[test]
fn vectors_kubelet_probe_sequences() {
    let file = load("kubelet_probe_sequences.json");
    for (index, case) in cases(&file).iter().enumerate() {
        let label = label(index, case);
        let kind = probe_kind(case);
        let defaults = ProbeSpec::default();
        let spec = ProbeSpec {
            initial_delay_seconds: maybe_number(case, "initialDelaySeconds").unwrap_or(0),
            success_threshold: maybe_number(case, "successThreshold").unwrap_or(0),
            failure_threshold: maybe_number(case, "failureThreshold").unwrap_or(0),
            ..defaults
        };
        let mut worker = ProbeWorker::new(kind, spec);
        if case.get("initialResult").is_some() {
            assert_eq!(verdict_name(worker.verdict()), text(case, "initialResult"), "{label}: initial");
        }
        let mut container = 1;
        let steps = case["sequence"].as_array().expect("a case has a sequence");
        assert!(!steps.is_empty(), "{label}: no steps");
        for (number_of_step, step) in steps.iter().enumerate() {
            let label = format!("{label}, step {number_of_step}");
            if flag_or(step, "newContainer", false) {
                container += 1;
            }
            // A container of the age given, or old enough for any delay.
            let now = at(1_000_000);
            let age = maybe_number(step, "containerAgeSeconds").map_or(1_000_000, u64::from);
            let view = ContainerView {
                id: ContainerId(container),
                state: container_state(case, at(1_000_000 - age)),
                // With no word on it, each kind of probe is at work: a startup probe's container is still starting.
                started: flag_or(step, "started", kind != ProbeKind::Startup),
            };
            let pod = PodView {
                finished: false,
                deleting: flag_or(case, "podDeleting", false),
                restarts: case.get("containerState").is_none(),
                container: Some(view),
            };
            let keeps = tick(&mut worker, &pod, now, step, &label);
            assert_eq!(verdict_name(worker.verdict()), text(step, "result"), "{label}: result");
            if let Some(run) = maybe_number(step, "resultRun") {
                assert_eq!(worker.run(), run, "{label}: run");
            }
            if step.get("onHold").is_some() {
                assert_eq!(worker.on_hold(), flag(step, "onHold"), "{label}: on hold");
            }
            if step.get("keepsProbing").is_some() {
                assert_eq!(keeps, flag(step, "keepsProbing"), "{label}: keeps probing");
            }
        }
    }
}

#[test]
fn vectors_kubelet_kill_grace() {
    let file = load("kubelet_kill_grace.json");
    assert_eq!(maybe_number(&file["constants"], "minimumGraceSeconds"), Some(MINIMUM_GRACE_SECONDS));
    for (index, case) in cases(&file).iter().enumerate() {
        let label = label(index, case);
        let settings = GraceSettings {
            deletion_seconds: maybe_number(case, "podDeletionGracePeriodSeconds"),
            pod_seconds: maybe_number(case, "podTerminationGracePeriodSeconds"),
            startup_probe_seconds: maybe_number(case, "startupProbeGraceSeconds"),
            liveness_probe_seconds: maybe_number(case, "livenessProbeGraceSeconds"),
        };
        let reason = match text(case, "reason") {
            "StartupProbe" => KillReason::StartupProbe,
            "LivenessProbe" => KillReason::LivenessProbe,
            "Other" => KillReason::Other,
            other => panic!("{label}: no such reason: {other}"),
        };
        for (key, value) in expected(case, &label) {
            match key {
                "graceSeconds" => assert_eq!(u64::from(settings.for_kill(reason)), value.as_u64().unwrap(), "{label}"),
                other => panic!("{label}: no check for {other}"),
            }
        }
    }
}

#[test]
fn vectors_kubelet_crash_backoff() {
    let file = load("kubelet_crash_backoff.json");
    for (index, case) in cases(&file).iter().enumerate() {
        let label = label(index, case);
        let seconds = |key| Duration::from_secs(number(case, key));
        let mut backoff = CrashBackoff::new(seconds("initialSeconds"), seconds("maxSeconds"));

        let mut now = SimTime::ZERO;
        for _ in 0..maybe_number(case, "warmupRestarts").unwrap_or(0) {
            now = now.after(seconds("warmupIntervalSeconds"));
            backoff.register(now, now);
        }
        if case.get("expected").is_some() {
            let last_update = now;
            let later = now.after(seconds("thenAdvanceSeconds"));
            for (key, value) in expected(case, &label) {
                let waits = value.as_bool().unwrap();
                match key {
                    "inBackoffSinceLastUpdate" => {
                        assert_eq!(backoff.waits_since(last_update, later), waits, "{label}: since that time");
                        assert_eq!(backoff.waits_since_update(later), waits, "{label}: since the update");
                    }
                    other => panic!("{label}: no check for {other}"),
                }
            }
        }

        let ticks = case.get("ticks").map_or(&[][..], |ticks| ticks.as_array().unwrap());
        assert!(case.get("expected").is_some() || !ticks.is_empty(), "{label}: checks nothing");
        for step in ticks {
            let now = at(number(step, "at"));
            assert_eq!(backoff.waits_since_update(now), flag(step, "inBackoff"), "{label}: {step}");
            if let Some(wait) = maybe_number(step, "backoff") {
                assert_eq!(backoff.wait(), Duration::from_secs(u64::from(wait)), "{label}: {step}");
            }
            if !backoff.waits_since_update(now) {
                backoff.register(now, now);
            }
        }
    }
}

#[test]
fn vectors_endpoint_membership() {
    let file = load("endpoint_membership.json");
    for (index, case) in cases(&file).iter().enumerate() {
        let label = label(index, case);
        let pod = EndpointPod {
            has_ip: !case["podIPs"].as_array().unwrap().is_empty(),
            finished: matches!(text(case, "phase"), "Succeeded" | "Failed"),
            ready: false,
            deleting: flag(case, "deleting"),
        };
        let terminating =
            if flag(case, "includeTerminating") { TerminatingPods::Include } else { TerminatingPods::Exclude };
        for (key, value) in expected(case, &label) {
            match key {
                "inEndpoints" => assert_eq!(pod.is_member(terminating), value.as_bool().unwrap(), "{label}"),
                other => panic!("{label}: no check for {other}"),
            }
        }
    }
}

#[test]
fn vectors_endpoint_conditions() {
    let file = load("endpoint_conditions.json");
    for (index, case) in cases(&file).iter().enumerate() {
        let label = label(index, case);
        let pod = EndpointPod {
            has_ip: true,
            finished: false,
            ready: flag(&case["pod"], "ready"),
            deleting: flag(&case["pod"], "deleting"),
        };
        let conditions = pod.conditions(flag(case, "publishNotReadyAddresses"));
        for (key, value) in expected(case, &label) {
            let actual = match key {
                "ready" => conditions.ready,
                "serving" => conditions.serving,
                "terminating" => conditions.terminating,
                other => panic!("{label}: no check for {other}"),
            };
            assert_eq!(actual, value.as_bool().unwrap(), "{label}: {key}");
        }
    }
}
