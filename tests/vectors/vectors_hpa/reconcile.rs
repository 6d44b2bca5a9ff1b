//! Whole syncs.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use gatedrill::cluster::autoscaler::history::{Recommendation, Recommendations};
use gatedrill::cluster::autoscaler::reconcile::{Reading, Sight};
use gatedrill::cluster::autoscaler::{
    Action, Autoscaler, AutoscalerSpec, Behavior, ContainerRequests, ContainerUsage, Metric, MetricError, MetricId,
    MetricsSource, PodUsage, PodView, ReadyCondition, ResourceName, ResourceTarget, Sample, Scale, ScalingRules,
    Selector, Start, ValueTarget, Verdict,
};
use gatedrill::units::SimTime;
use serde_json::{Value, json};

use super::reading::{
    VERSIONS, at, before, cases, expected, flag, items, load, long, number, phase, rules, scaling_rules, seconds, text,
};

/// Each pod has two containers, which share its request and its use.
const CONTAINERS: [&str; 2] = ["container1", "container2"];

/// What is made to fail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    SelectorUnparsable,
    SelectorShared,
    ReadScale,
    WriteScale,
    ExternalMetrics,
    AllMetrics,
}

impl Fault {
    fn of(case: &Value) -> Self {
        match case.get("fault").map(|_| text(case, "fault")) {
            None => Self::None,
            Some("scale status selector is unparsable text") => Self::SelectorUnparsable,
            Some("another HPA selects a subset of the same pods") => Self::SelectorShared,
            Some("reading the scale subresource fails") => Self::ReadScale,
            Some("writing the scale subresource fails") => Self::WriteScale,
            Some("external metric query fails") => Self::ExternalMetrics,
            Some("every metric query fails") => Self::AllMetrics,
            Some(other) => panic!("no such fault: {other}"),
        }
    }
}

/// The levels of a case, as every one of the metrics APIs gives them.
struct Levels {
    levels: Vec<i64>,
    at: SimTime,
    window: Duration,
    fault: Fault,
}

impl Levels {
    fn fails(&self) -> Result<(), MetricError> {
        let is_down = self.fault == Fault::AllMetrics;
        if is_down { Err(MetricError::NoMetrics { api: Rc::from("a broken API") }) } else { Ok(()) }
    }
}

impl MetricsSource for Levels {
    fn pod_usage(&self) -> Result<Vec<PodUsage>, MetricError> {
        self.fails()?;
        let usage = |(index, level): (usize, &i64)| PodUsage {
            pod: Rc::from(format!("test-pod-{index}")),
            at: self.at,
            window: self.window,
            containers: CONTAINERS
                .map(|name| ContainerUsage {
                    name: name.into(),
                    cpu_milli: Some(level / 2),
                    memory_milli: Some(level / 2),
                })
                .to_vec(),
        };
        Ok(self.levels.iter().enumerate().map(usage).collect())
    }

    fn pods_metric(&self, _: &MetricId) -> Result<BTreeMap<Rc<str>, Sample>, MetricError> {
        self.fails()?;
        let sample = |(index, level): (usize, &i64)| {
            (Rc::from(format!("test-pod-{index}")), Sample { milli: *level, at: self.at, window: self.window })
        };
        Ok(self.levels.iter().enumerate().map(sample).collect())
    }

    fn object_metric(&self, _: &MetricId, _: &str) -> Result<i64, MetricError> {
        self.fails()?;
        Ok(self.levels[0])
    }

    fn external_metric(&self, _: &MetricId) -> Result<Vec<i64>, MetricError> {
        self.fails()?;
        match self.fault {
            Fault::ExternalMetrics => Err(MetricError::NoMetrics { api: Rc::from("a broken API") }),
            _ => Ok(self.levels.clone()),
        }
    }
}

fn metric(value: &Value) -> Metric {
    let name = || MetricId::from(text(value, "metricName"));
    let single = || match text(value, "targetType") {
        "Value" => ValueTarget::ValueMilli(long(value, "valueMilli")),
        "AverageValue" => ValueTarget::AverageMilli(long(value, "averageValueMilli")),
        other => panic!("no such target: {other}"),
    };
    match text(value, "type") {
        kind @ ("Resource" | "ContainerResource") => Metric::Resource {
            resource: match text(value, "resource") {
                "cpu" => ResourceName::Cpu,
                "memory" => ResourceName::Memory,
                other => panic!("no such resource: {other}"),
            },
            container: (kind == "ContainerResource").then(|| Rc::from(text(value, "container"))),
            target: match text(value, "targetType") {
                "Utilization" => ResourceTarget::Utilization(number(value, "averageUtilizationPercent")),
                "AverageValue" => ResourceTarget::AverageMilli(long(value, "averageValueMilli")),
                other => panic!("no such target: {other}"),
            },
        },
        "Pods" => Metric::Pods { metric: name(), average_milli: long(value, "averageValueMilli") },
        "Object" => Metric::Object { metric: name(), object: Rc::from(text(value, "object")), target: single() },
        "External" => Metric::External { metric: name(), target: single() },
        other => Metric::Unknown { kind: Rc::from(other) },
    }
}

fn pod(value: &Value) -> PodView {
    let half = Some(long(value, "cpuRequestMilli") / 2);
    PodView {
        name: Rc::from(text(value, "name")),
        phase: phase(value),
        is_deleting: flag(value, "deleting"),
        start: Some(Start::At(at(value, "startTime"))),
        ready: Some(ReadyCondition { is_ready: flag(value, "ready"), since: at(value, "readyTransitionTime") }),
        containers: CONTAINERS
            .map(|name| ContainerRequests { name: name.into(), cpu_milli: half, memory_milli: None })
            .into(),
    }
}

/// The autoscaler of a case as it stands before the sync.
fn autoscaler(case: &Value, now: SimTime) -> Autoscaler {
    let mut metrics: Vec<Metric> = items(case, "metrics").iter().map(metric).collect();
    if flag(case, "noMetricTarget") {
        metrics.push(Metric::Unknown { kind: Rc::from("Resource") });
    }
    let behavior = Some(&case["behavior"]).filter(|behavior| !behavior.is_null()).map(|behavior| {
        let (up, down) = (ScalingRules::default_up(), ScalingRules::default_down());
        Behavior {
            up: scaling_rules(&behavior["scaleUp"], up.clone()).unwrap_or(up),
            down: scaling_rules(&behavior["scaleDown"], down.clone()).unwrap_or(down),
        }
    });
    let mut autoscaler = Autoscaler::new(AutoscalerSpec {
        key: Rc::from("test-namespace/test-hpa"),
        target: Rc::from("test-namespace/test"),
        min_replicas: number(case, "minReplicas"),
        max_replicas: number(case, "maxReplicas"),
        metrics,
        behavior,
    });
    // Upstream's objects report the size they have.
    autoscaler.status.current = number(case, "specReplicas");
    autoscaler.status.desired = number(case, "specReplicas");
    if let Some(entries) = case["recommendationHistory"].as_array() {
        let entry = |value: &Value| Recommendation {
            replicas: number(value, "recommendation"),
            at: before(now, seconds(value, "ageSeconds")),
        };
        autoscaler.recommendations = Recommendations { entries: entries.iter().map(entry).collect() };
        autoscaler.is_known = true;
    }
    autoscaler
}

fn action_name(action: Action) -> &'static str {
    match action {
        Action::None => "None",
        Action::Up => "ScaleUp",
        Action::Down => "ScaleDown",
    }
}

/// What the metrics of a sync did, by their types: what each proposed, and how it failed. The first of each type counts.
fn of_metrics(autoscaler: &Autoscaler, verdict: &Verdict, current: i32) -> [BTreeMap<String, &'static str>; 2] {
    let (mut actions, mut errors) = (BTreeMap::new(), BTreeMap::new());
    for (metric, proposal) in autoscaler.spec.metrics.iter().zip(&verdict.proposals) {
        let (action, error) = match proposal {
            Ok(replicas) if *replicas > current => ("ScaleUp", "None"),
            Ok(replicas) if *replicas < current => ("ScaleDown", "None"),
            Ok(_) => ("None", "None"),
            Err(MetricError::UnknownKind { .. }) => ("None", "Spec"),
            Err(_) => ("None", "Internal"),
        };
        actions.entry(metric.kind().to_owned()).or_insert(action);
        errors.entry(metric.kind().to_owned()).or_insert(error);
    }
    [actions, errors]
}

#[test]
fn vectors_hpa_reconcile() {
    let file = load("hpa_reconcile.json");
    let now = at(&file["constants"], "now");
    for version in VERSIONS {
        let rules = rules(&file, version);
        for (label, case) in cases(&file) {
            let label = format!("{version}, {label}");
            let fault = Fault::of(case);
            let levels = Levels {
                levels: items(case, "reportedLevels").iter().map(|level| level.as_i64().expect("a level")).collect(),
                at: at(&file["constants"], "metricTimestamp"),
                window: seconds(&file["constants"], "metricWindowSeconds"),
                fault,
            };
            let pods: Vec<PodView> = items(case, "pods").iter().map(pod).collect();
            let current = number(case, "specReplicas");
            let selector = match fault {
                Fault::SelectorUnparsable => Selector::Unparsable,
                Fault::SelectorShared => Selector::Shared,
                _ => Selector::Clear,
            };
            let scale = Scale { spec_replicas: current, status_replicas: number(case, "statusReplicas"), selector };
            let scale = (fault != Fault::ReadScale).then_some(scale);
            let mut autoscaler = autoscaler(case, now);
            let sight = Sight { scale, pods: &pods, metrics: &levels };
            let mut written = None;
            let verdict = autoscaler.reconcile(&rules, &sight, now, |replicas| {
                written = Some(replicas);
                fault != Fault::WriteScale
            });
            if let Some(replicas) = written.filter(|_| fault != Fault::WriteScale) {
                assert_eq!(replicas, autoscaler.status.desired, "{label}: what is written is what is told");
            }
            let [actions, errors] = of_metrics(&autoscaler, &verdict, current);
            for (key, value) in expected(case, &label) {
                let seen = match key {
                    "desiredReplicas" => json!(autoscaler.status.desired),
                    "conditions" => {
                        let condition = |(kind, condition): (
                            &gatedrill::cluster::autoscaler::ConditionKind,
                            &gatedrill::cluster::autoscaler::Condition,
                        )| {
                            json!([kind.name(), if condition.holds { "True" } else { "False" }, condition.reason])
                        };
                        json!(autoscaler.status.conditions.iter().map(condition).collect::<Vec<_>>())
                    }
                    "cpuUtilizationPercent" => {
                        let percent = autoscaler.status.metrics.iter().find_map(|reading| match reading {
                            Some(Reading::Utilization { percent, .. }) => Some(*percent),
                            _ => None,
                        });
                        json!(percent)
                    }
                    "reconcileAction" => json!(action_name(verdict.action)),
                    "reconcileError" => json!(verdict.error.as_ref().map_or("None", |_| "Internal")),
                    "metricActions" => json!(actions),
                    "metricErrors" => json!(errors),
                    other => panic!("{label}: no such expectation: {other}"),
                };
                assert_eq!(seen, *value, "{label}: {key}");
            }
        }
    }
}
