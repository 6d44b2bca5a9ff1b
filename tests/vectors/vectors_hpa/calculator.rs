//! Groups of pods, utilization, and one metric's proposal.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::autoscaler::groups::Groups;
use gatedrill::cluster::autoscaler::replicas::{Calculator, Utilization, average_ratio};
use gatedrill::cluster::autoscaler::rules::Tolerances;
use gatedrill::cluster::autoscaler::usage::samples;
use gatedrill::cluster::autoscaler::{
    ContainerRequests, ContainerUsage, MetricError, PodUsage, PodView, ReadyCondition, ResourceName, Sample, Start,
};
use gatedrill::units::SimTime;
use serde_json::{Value, json};

use super::reading::{
    VERSIONS, at, cases, expected, flag, items, load, long, number, phase, rules, seconds, text, values,
};

/// The name of a pod's container, by its number.
fn container_name(index: usize) -> Rc<str> {
    Rc::from(format!("container{}", index + 1))
}

fn resource(case: &Value) -> ResourceName {
    match text(case, "resource") {
        "cpu" => ResourceName::Cpu,
        "memory" => ResourceName::Memory,
        other => panic!("no such resource: {other}"),
    }
}

fn pod(value: &Value) -> PodView {
    let request = |milli: Option<i64>, index| ContainerRequests {
        name: container_name(index),
        cpu_milli: milli,
        memory_milli: milli,
    };
    // No list: the containers ask for nothing.
    let containers = match value.get("requestMilliPerContainer").filter(|list| !list.is_null()) {
        None => vec![request(None, 0), request(None, 1)],
        Some(list) => {
            let list = list.as_array().expect("a list of requests").iter().enumerate();
            list.map(|(index, milli)| request(milli.as_i64(), index)).collect()
        }
    };
    PodView {
        name: Rc::from(text(value, "name")),
        phase: phase(value),
        is_deleting: flag(value, "deleting"),
        start: Some(Start::At(at(value, "startTime"))),
        ready: Some(ReadyCondition { is_ready: flag(value, "ready"), since: at(value, "readyTransitionTime") }),
        containers: Rc::from(containers),
    }
}

fn usage(value: &Value) -> PodUsage {
    let container = |(index, milli): (usize, &Value)| ContainerUsage {
        name: container_name(index),
        cpu_milli: milli.as_i64(),
        memory_milli: milli.as_i64(),
    };
    PodUsage {
        pod: Rc::from(text(value, "pod")),
        at: at(value, "timestamp"),
        window: seconds(value, "windowSeconds"),
        containers: items(value, "usageMilliPerContainer").iter().enumerate().map(container).collect(),
    }
}

/// The answers of one case, by the names of its expectations.
fn proposal(case: &Value, calculator: &Calculator<'_>) -> Result<BTreeMap<&'static str, Value>, MetricError> {
    let current = number(case, "currentReplicas");
    let levels = || items(case, "levelsMilli").iter().map(|level| level.as_i64().expect("a whole number"));
    let answers =
        |replicas: i32, usage: i64| BTreeMap::from([("replicas", json!(replicas)), ("usageMilli", json!(usage))]);
    match text(case, "metricKind") {
        "resource" => {
            let usage: Vec<PodUsage> = items(case, "podMetrics").iter().map(usage).collect();
            let container = case["container"].as_str();
            let samples = samples(&usage, resource(case), container, calculator.rules.skips_missing_containers())?;
            let target = number(case, "targetUtilizationPercent");
            let (replicas, seen) = calculator.by_utilization(current, samples, resource(case), container, target)?;
            Ok(BTreeMap::from([
                ("replicas", json!(replicas)),
                ("utilizationPercent", json!(seen.percent)),
                ("rawAverageMilli", json!(seen.average_milli)),
            ]))
        }
        "pods" => {
            let sample = |milli| Sample { milli, at: SimTime::ZERO, window: Duration::from_secs(60) };
            let named = calculator.pods.iter().zip(levels()).map(|(pod, milli)| (Rc::clone(&pod.name), sample(milli)));
            let target = long(case, "targetMilli");
            let (replicas, average) = calculator.by_average(current, named.collect(), None, target)?;
            Ok(answers(replicas, average))
        }
        "object" | "external" => {
            let usage = levels().sum();
            Ok(answers(calculator.by_value(current, usage, long(case, "targetMilli"))?, usage))
        }
        "objectPerPod" | "externalPerPod" => {
            let target = long(case, "perPodTargetMilli");
            let (replicas, share) = calculator.by_value_per_pod(current, levels().sum(), target);
            Ok(answers(replicas, share))
        }
        other => panic!("no such kind of metric: {other}"),
    }
}

#[test]
fn vectors_hpa_replica_calculator() {
    let file = load("hpa_replica_calculator.json");
    let now = at(&file["constants"], "now");
    for version in VERSIONS {
        let rules = rules(&file, version);
        let tolerances = Tolerances { up: rules.tolerance, down: rules.tolerance };
        for (label, case) in cases(&file) {
            let label = format!("{version}, {label}");
            let pods: Vec<PodView> = items(case, "pods").iter().map(pod).collect();
            let calculator = Calculator { rules: &rules, tolerances, pods: &pods, now };
            let outcome = proposal(case, &calculator);
            for (key, value) in expected(case, &label) {
                match (key, &outcome) {
                    ("error", outcome) => assert!(outcome.is_err(), "{label}: {outcome:?}, not an error: {value}"),
                    (key, Ok(answers)) => assert_eq!(answers.get(key), Some(value), "{label}: {key}"),
                    (key, Err(error)) => panic!("{label}: {key}: {error}"),
                }
            }
        }
    }
}

fn names(pods: &BTreeSet<Rc<str>>) -> Vec<&str> {
    pods.iter().map(|name| &**name).collect()
}

#[test]
fn vectors_hpa_group_pods() {
    let file = load("hpa_group_pods.json");
    let now = at(&file["constants"], "now");
    for version in VERSIONS {
        let rules = rules(&file, version);
        for (label, case) in cases(&file) {
            let view = |value: &Value| {
                let condition = Some(&value["readyCondition"]).filter(|condition| !condition.is_null());
                PodView {
                    name: Rc::from(text(value, "name")),
                    phase: phase(value),
                    is_deleting: flag(value, "deleting"),
                    start: (!value["startTime"].is_null()).then(|| Start::At(at(value, "startTime"))),
                    ready: condition.map(|condition| ReadyCondition {
                        is_ready: text(condition, "status") == "True",
                        since: at(condition, "lastTransitionTime"),
                    }),
                    containers: Rc::from([]),
                }
            };
            let pods: Vec<PodView> = items(case, "pods").iter().map(view).collect();
            let samples = case["metrics"].as_object().expect("a map of metrics").iter().map(|(pod, value)| {
                let (at, window) = (at(value, "timestamp"), seconds(value, "windowSeconds"));
                (Rc::from(pod.as_str()), Sample { milli: long(value, "value"), at, window })
            });
            let groups = Groups::of(&pods, &samples.collect(), Some(resource(case)), &rules, now);
            for (key, value) in expected(case, &label) {
                let seen = match key {
                    "readyPodCount" => json!(groups.ready_count),
                    "unready" => json!(names(&groups.unready)),
                    "missing" => json!(names(&groups.missing)),
                    "ignored" => json!(names(&groups.ignored)),
                    other => panic!("{label}: no such expectation: {other}"),
                };
                assert_eq!(seen, *value, "{label}: {key}");
            }
        }
    }
}

#[test]
fn vectors_hpa_utilization() {
    let file = load("hpa_utilization.json");
    for (label, case) in cases(&file) {
        let usage = values(&case["usage"]);
        let seen: BTreeMap<&str, Value> = if case.get("targetUsage").is_some() {
            let (average, ratio) = average_ratio(&usage, long(case, "targetUsage"));
            BTreeMap::from([("ratio", json!(ratio)), ("rawAverage", json!(average))])
        } else {
            let requests = values(&case["requests"]).into_iter().map(|(pod, sample)| (pod, sample.milli)).collect();
            let target = number(case, "targetUtilizationPercent");
            match Utilization::of(&usage, &requests, target) {
                Ok(seen) => BTreeMap::from([
                    ("ratio", json!(seen.ratio)),
                    ("utilizationPercent", json!(seen.percent)),
                    ("rawAverage", json!(seen.average_milli)),
                ]),
                Err(_) => BTreeMap::from([("error", json!(true))]),
            }
        };
        for (key, value) in expected(case, &label) {
            assert_eq!(seen.get(key), Some(value), "{label}: {key}");
        }
    }
}
