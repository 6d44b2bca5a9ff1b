//! Pods that several workloads share: a canary whose labels another's selector matches too, seen by autoscalers and budgets.
//!
//! Goal: whoever counts pods by a selector counts all that it matches, whoever owns them, and gives up where the real controller does. Method: a stable
//! and a canary gateway behind one Service, with one autoscaler or budget, run to the end.

use gatedrill::drill::Outcome;
use gatedrill::record::results::{Fidelity, FidelityStatus};

use crate::scenarios::loaded;
use crate::shop::{ran, service_behind_nlb, shop_of_istio_edge};

const SCENARIO: &str = r#"
apiVersion: gatedrill/v1
kind: Scenario
metadata: { name: selectors }
spec:
  duration: 60s
  seed: 5
  target: TARGET
  manifests: [ { path: manifests/ } ]
  cluster:
    version: "VERSION"
    nodes: [ { name: pool, count: 4, allocatable: { cpu: "4", memory: 8Gi } } ]
    timings: { podStart: 3s }
  gateway: { cpuPerRequest: 4ms }
  backends: [ { service: default/web } ]
  load:
    - { name: new, rate: 200/s, arrivals: constant, clients: { reuse: none, timeout: 3s }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ TIMELINE ]
"#;

/// A workload with these labels, and so many thousandths of a processor requested.
fn workload(kind: &str, name: &str, replicas: &str, labels: &str, request: &str) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: {kind}
metadata: {{ name: {name}, namespace: istio-system }}
spec:
  {replicas}
  selector: {{ matchLabels: {{ {labels} }} }}
  template:
    metadata: {{ labels: {{ {labels} }} }}
    spec:
      containers:
        - name: istio-proxy
          image: proxy:1
          ports: [ {{ containerPort: 80 }} ]
          readinessProbe: {{ httpGet: {{ path: /healthz/ready, port: 15021 }}, periodSeconds: 1 }}
          resources: {{ requests: {{ cpu: {request} }} }}
"
    )
}

fn autoscaler(name: &str) -> String {
    format!(
        "---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{ name: {name}, namespace: istio-system }}
spec:
  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: {name} }}
  minReplicas: 1
  maxReplicas: 6
  metrics: [ {{ type: Resource, resource: {{ name: cpu, target: {{ type: Utilization, averageUtilization: 50 }} }} }} ]
"
    )
}

const STABLE: &str = "app: edge, istio: edge";
const CANARY: &str = "app: edge, istio: edge, track: canary";

fn drill((target, version, timeline): (&str, &str, &str), objects: &[String]) -> Outcome {
    let scenario = SCENARIO.replace("TARGET", target).replace("VERSION", version).replace("TIMELINE", timeline);
    let manifest = format!("{}{}{}", service_behind_nlb!(), objects.concat(), shop_of_istio_edge!());
    ran(loaded(&scenario, &manifest, &[], None))
}

/// What an autoscaler saw and wanted at its first sync that had samples: sizes, use in percent, and the condition `ScalingActive`.
fn first_sight(outcome: &Outcome, name: &str) -> (u32, u32, Option<f64>, String) {
    let steps = &outcome.run.results.autoscaler;
    let mut of_it = steps.iter().filter(|step| step.object == format!("istio-system/{name}"));
    let step = of_it.find(|step| step.conditions["ScalingActive"] != "False/FailedGetResourceMetric").expect("a sync");
    let seen = step.metrics.first().and_then(|metric| metric.value);
    (step.current, step.desired, seen, step.conditions["ScalingActive"].clone())
}

/// 267 thousandths of a processor in each of three pods, that request 250, 250 and 1,000: 53 % of 50, which is within the tolerance. By its own two pods
/// it would be 107 %.
#[test]
fn an_autoscaler_counts_all_pods_that_its_selector_matches() {
    let objects = [
        workload("Deployment", "edge", "replicas: 2", STABLE, "250m"),
        workload("Deployment", "canary", "replicas: 1", CANARY, "1000m"),
        autoscaler("edge"),
    ];
    let outcome = drill(("istio-system/edge", "1.33", ""), &objects);
    assert_eq!(first_sight(&outcome, "edge"), (2, 2, Some(53.0), "True/ValidMetricFound".to_owned()));
    // With a label that the canary does not have it counts its own.
    let objects = [
        workload("Deployment", "edge", "replicas: 2", "app: edge, istio: edge, track: stable", "250m"),
        objects[1].clone(),
        objects[2].clone(),
    ];
    let outcome = drill(("istio-system/edge", "1.33", ""), &objects);
    assert_eq!(first_sight(&outcome, "edge"), (2, 4, Some(107.0), "True/ValidMetricFound".to_owned()));
}

/// Two autoscalers whose targets share pods, from 1.27 on, scale neither.
#[test]
fn autoscalers_that_see_the_same_pods_do_nothing() {
    let objects = [
        workload("Deployment", "edge", "replicas: 2", STABLE, "250m"),
        workload("Deployment", "canary", "replicas: 1", CANARY, "250m"),
        autoscaler("edge"),
        autoscaler("canary"),
    ];
    let outcome = drill(("istio-system/edge", "1.27", ""), &objects);
    assert_eq!(first_sight(&outcome, "edge").3, "False/AmbiguousSelector");
    assert_eq!(first_sight(&outcome, "canary").3, "False/AmbiguousSelector");
    let outcome = drill(("istio-system/edge", "1.26", ""), &objects);
    assert_eq!(first_sight(&outcome, "edge").3, "True/ValidMetricFound");
}

/// A share of pods cannot be counted where one of them is a `DaemonSet`'s; a number can.
#[test]
fn a_budget_over_pods_of_a_daemon_set_allows_nothing_unless_it_is_a_number() {
    let of_budget = |limit: &str| {
        let budget = format!(
            "---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {{ name: edge, namespace: istio-system }}
spec: {{ {limit}, selector: {{ matchLabels: {{ app: edge }} }} }}
"
        );
        let objects = [
            workload("DaemonSet", "edge", "minReadySeconds: 0", STABLE, "250m"),
            workload("Deployment", "canary", "replicas: 3", CANARY, "250m"),
            budget,
        ];
        let timeline = "{ at: 10s, of: istio-system/canary, evict: { pod: oldest } }";
        let outcome = drill(("DaemonSet/istio-system/edge", "1.33", timeline), &objects);
        let count = |kind: &str| outcome.log.events().iter().filter(|event| event.kind == kind).count();
        let is_told = |row: &&Fidelity| {
            row.status == FidelityStatus::Warning
                && row.note.as_deref().is_some_and(|note| note.contains("does not implement the scale subresource"))
        };
        let warnings = outcome.run.results.fidelity.iter().filter(is_told).count();
        (count("evicted"), count("eviction_denied"), warnings)
    };
    assert_eq!(of_budget("maxUnavailable: 25%"), (0, 1, 1));
    assert_eq!(of_budget("maxUnavailable: 2"), (0, 1, 1));
    assert_eq!(of_budget("minAvailable: 10%"), (0, 1, 1));
    assert_eq!(of_budget("minAvailable: 6"), (1, 0, 0));
    assert_eq!(of_budget("minAvailable: 7"), (0, 1, 0));
}

/// Where an operation leaves nobody, it is what is told, however late the balancer's controller comes to it; where an edit leads to nobody, its line.
#[test]
fn what_leaves_nobody_is_behind_the_losses() {
    let told = |timeline: &str| {
        let objects = [workload("DaemonSet", "edge", "minReadySeconds: 0", STABLE, "250m")];
        let outcome = drill(("DaemonSet/istio-system/edge", "1.33", timeline), &objects);
        let row = outcome.run.results.causes.iter().find(|row| row.code == "GD4105").expect("nobody is left");
        let source = row.source.clone().expect("a source");
        let value = source.value.unwrap_or_default();
        (source.path, value, row.advice.clone().unwrap_or_default())
    };
    let (path, value, advice) = told("{ at: 10s, delete: { daemonSet: istio-system/edge } }");
    assert_eq!(path, "spec.timeline");
    assert!(value.starts_with("delete ") && advice.starts_with("take away one pod at a time"), "{value}: {advice}");
    let selector = "{ at: 10s, set: { \"Service/istio-system/istio-edge.spec.selector.istio\": nosuch } }";
    let (path, value, advice) = told(selector);
    assert_eq!((path.as_str(), value.as_str()), ("spec.selector", "istio: nosuch"));
    assert!(advice.starts_with("take that line back"), "{advice}");
}
