//! Whole drills about what a kubelet does with a pod: what its readiness waits for, what starts before its containers and ends after them.
//!
//! Goal: each rule decides what clients lose, on both sides of its threshold. Method: a gateway of four pods is replaced at once under load; only what the
//! rule is about differs from run to run.

use crate::scenarios::loaded;
use crate::shop::{filled, new_clients, of_kind, ran, scenario_head, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::engine::Event;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("kubelet", "  duration: 150s\n  seed: 11\n"),
    r#"  cluster:
    version: "VERSION"
    nodes: [ { name: pool, count: 4, zones: [a, b], allocatable: { cpu: "8", memory: MEMORY } } ]
    timings: { podStart: 3s, initContainer: 2s, endpointPropagation: 200ms }
  loadBalancer: { controllerLatency: 10s, controller: each, healthCheck: { interval: INTERVAL, timeout: 2s, healthyThreshold: 3, unhealthyThreshold: 3 } }
  gateway: { memory: { base: BASE } }
  backends: [ { service: default/web } ]
  load:
"#,
    new_clients!("40/s"),
    r#"  timeline: [ { at: 20s, TIMELINE } ]
"#
);

const MANIFEST: &str = concat!(
    r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 4
  strategy: { rollingUpdate: { maxSurge: 100%, maxUnavailable: 0 } }
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge } }
    spec:
      terminationGracePeriodSeconds: 60
      EXTRA
      containers:
        - name: istio-proxy
          image: proxyv2:1.26
          resources: { limits: { cpu: "1", memory: 1Gi }, requests: { cpu: "1", memory: 256Mi } }
          CONTAINER
          readinessProbe: { httpGet: { path: /healthz/ready, port: 15021 }, periodSeconds: 1 }
          lifecycle: { preStop: { exec: { command: [sleep, "30"] } } }
---
apiVersion: v1
kind: Service
metadata:
  name: edge
  namespace: istio-system
  annotations:
    service.beta.kubernetes.io/backend-type: BACKEND
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain: "on"
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain-timeout: "60"
spec:
  type: LoadBalancer
  externalTrafficPolicy: Cluster
  selector: { istio: edge }
  ports: [ { name: http, port: 80, targetPort: 80 } ]
"#,
    shop_of_istio_edge!()
);

const GATE: &str = "readinessGates: [ { conditionType: service.readiness.alibabacloud.com/edge } ]";

/// What differs from drill to drill.
struct Drill<'a> {
    extra: &'a str,
    timeline: &'a str,
    backend: &'a str,
    interval: &'a str,
    version: &'a str,
    container: &'a str,
    memory: &'a str,
    base: &'a str,
}

const USUAL: Drill<'_> = Drill {
    extra: "",
    timeline: "restart: {}",
    backend: "eni",
    interval: "2s",
    version: "1.33",
    container: "",
    memory: "16Gi",
    base: "45MB",
};

impl Drill<'_> {
    fn load(&self) -> Result<Scenario, String> {
        let values = [
            ("EXTRA", self.extra),
            ("TIMELINE", self.timeline),
            ("BACKEND", self.backend),
            ("INTERVAL", self.interval),
            ("VERSION", self.version),
            ("CONTAINER", self.container),
            ("MEMORY", self.memory),
            ("BASE", self.base),
        ];
        loaded(&filled(SCENARIO, &values), &filled(MANIFEST, &values), &[], None)
            .map_err(|problems| problems.to_string())
    }

    fn run(&self) -> Outcome {
        ran(self.load())
    }
}

/// The time of an object's first event of a kind, in milliseconds.
fn at_ms(outcome: &Outcome, kind: &str, object: &str) -> u64 {
    let found = of_kind(outcome, kind).into_iter().find(|event| event.object == object);
    found.unwrap_or_else(|| panic!("{object} has no {kind}")).at.as_nanos() / 1_000_000
}

fn lost(outcome: &Outcome) -> (u64, Vec<&str>) {
    let results = &outcome.run.results;
    (results.totals.dropped, results.causes.iter().map(|cause| cause.code.as_str()).collect())
}

#[test]
fn a_gate_keeps_the_old_pods_until_the_balancer_knows_the_new_ones() {
    // All old pods go when all new ones are ready. The balancer forgets the old ones and learns of the new ones at the same time, and its
    // checks of the new ones take 4 s more: for so long there is nobody.
    let open = USUAL.run();
    let (count, codes) = lost(&open);
    assert!((120..=200).contains(&count), "40 requests a second for 4 s: {count}");
    assert_eq!(codes, ["GD4130"]);
    // With the gate the old ones go a registration later, 10 s, which is longer than the checks.
    let gated = Drill { extra: GATE, ..USUAL }.run();
    assert_eq!(lost(&gated), (0, Vec::new()));
    // The gate says that the balancer knows a pod, not that its checks pass: checks of 20 s leave 10 s without anybody.
    let slow = Drill { extra: GATE, interval: "10s", ..USUAL }.run();
    let (count, codes) = lost(&slow);
    assert!((360..=440).contains(&count), "40 requests a second for 10 s: {count}");
    assert_eq!(codes, ["GD4130"]);
}

#[test]
fn a_pod_with_a_gate_is_ready_once_it_is_registered_and_the_controller_looks_every_ten_seconds() {
    for backend in ["eni", "ecs"] {
        let outcome = Drill { extra: GATE, backend, ..USUAL }.run();
        let opened = of_kind(&outcome, "readiness_gate_opened");
        assert_eq!(opened.len(), 4, "{backend}: those that the run finds have theirs open");
        for event in opened {
            let started_ms = at_ms(&outcome, "container_started", &event.object);
            let opened_ms = event.at.as_nanos() / 1_000_000;
            let ready_ms = at_ms(&outcome, "pod_ready", &event.object);
            // Up to 10 s until the controller looks, 10 s until it has registered.
            assert!((10_000..=21_000).contains(&(opened_ms - started_ms)), "{backend}: {started_ms}, {opened_ms}");
            assert!((1..=20).contains(&(ready_ms - opened_ms)), "{backend}: a hop later: {opened_ms}, {ready_ms}");
        }
        assert_eq!(outcome.run.seconds.last().and_then(|second| second.gauge.pods_ready), Some(4));
    }
}

#[test]
fn a_gate_that_nobody_opens_makes_a_rollout_stick_and_loses_nothing() {
    let gate =
        GATE.replace("/edge", "/edgy").replace("readinessGates: ", "set: { target.spec.template.spec.readinessGates: ")
            + " }";
    let drill = Drill { timeline: &gate, ..USUAL };
    let noted = drill.load().expect("a rollout that sticks is a drill").world.fidelity;
    assert!(noted.iter().any(|row| row.note.as_deref().is_some_and(|note| note.contains("never become ready"))));
    let outcome = drill.run();
    let rollout = &outcome.run.results.rollouts.last().expect("a rollout");
    assert!(!rollout.complete && rollout.ready_min == 4, "{rollout:?}");
    assert_eq!((lost(&outcome), of_kind(&outcome, "readiness_gate_opened").len()), ((0, Vec::new()), 0));
}

/// Whether the last rollout was completed, and the fewest pods that were ready in it.
fn ended(outcome: &Outcome) -> (bool, u32) {
    let rollout = outcome.run.results.rollouts.last().expect("a rollout");
    (rollout.complete, rollout.ready_min)
}

#[test]
fn a_port_of_the_node_leaves_no_room_for_a_second_pod() {
    // Four pods on four nodes, and four more at once.
    for (container, is_stuck) in
        [("ports: [ { containerPort: 8080, hostPort: 8080 } ]", true), ("ports: [ { containerPort: 8080 } ]", false)]
    {
        let outcome = Drill { container, ..USUAL }.run();
        assert_eq!(ended(&outcome), (!is_stuck, 4), "{container}");
        let words: Vec<String> =
            of_kind(&outcome, "pod_unschedulable").iter().map(|it| format!("{:?}", it.data)).collect();
        let is_told = |text: &String| text.contains("4 node(s) didn't have free ports for the requested pod ports");
        assert!(words.iter().all(is_told) && words.len() == if is_stuck { 4 } else { 0 }, "{words:?}");
    }
    let of_host = "hostNetwork: true";
    let outcome = Drill { extra: of_host, container: "ports: [ { containerPort: 8080 } ]", ..USUAL }.run();
    assert_eq!(ended(&outcome), (false, 4), "with the host's network every port is one of the node");
}

#[test]
fn a_probe_over_tls_never_passes_at_a_gateway() {
    for (scheme, completes) in [("HTTPS", false), ("HTTP", true)] {
        let probe = "target.spec.template.spec.containers[istio-proxy].readinessProbe.httpGet.scheme";
        // That alone would be no other template with HTTP, which is the default.
        let timeout = probe.replace("httpGet.scheme", "timeoutSeconds");
        let timeline = format!("set: {{ \"{probe}\": {scheme}, \"{timeout}\": 2 }}");
        let outcome = Drill { timeline: &timeline, extra: GATE, ..USUAL }.run();
        assert_eq!(ended(&outcome), (completes, 4), "{scheme}");
        assert_eq!(lost(&outcome), (0, Vec::new()));
    }
}

#[test]
fn a_scheduling_gate_has_the_new_pods_wait_for_ever() {
    let timeline = "set: { target.spec.template.spec.schedulingGates: [ { name: example.com/quota } ] }";
    let outcome = Drill { timeline, ..USUAL }.run();
    assert_eq!((ended(&outcome), lost(&outcome)), ((false, 4), (0, Vec::new())));
    // Nobody looks for a node for them.
    let created = of_kind(&outcome, "pod_created").len();
    assert_eq!((created, of_kind(&outcome, "pod_scheduled").len()), (8, 4));
    assert!(of_kind(&outcome, "pod_unschedulable").is_empty());
}

#[test]
fn what_nodes_have_may_be_written_as_a_node_has_it() {
    for memory in ["8Gi, pods: \"64\"", "8Gi, pods: 64, hugepages-1Gi: \"0\", hugepages-2Mi: 0"] {
        assert!(Drill { memory, ..USUAL }.load().is_ok(), "{memory}");
    }
    for (memory, expected) in [
        ("8Gi, pods: 0", "0 is not between 1 and 10000"),
        ("8Gi, pods: \"10001\"", "10001 is not between 1 and 10000"),
        ("8Gi, pods: 1500m", "whole numbers"),
        ("8Gi, hugepage: 1", "hugepage"),
    ] {
        let told = Drill { memory, ..USUAL }.load().err().unwrap_or_else(|| panic!("not refused: {memory}"));
        assert!(told.contains(expected), "{expected} is not in {told}");
    }
}

#[test]
fn what_would_keep_the_pods_of_the_start_from_running_is_refused_with_its_line() {
    let line = 13;
    for (extra, version, expected) in [
        (GATE.replace("/edge", "/edgy"), "1.33", "nobody sets this condition"),
        (
            GATE.replace("/edge", "/edgy"),
            "1.33",
            "the controller of the balancer opens `service.readiness.alibabacloud.com/edge`",
        ),
        (
            "readinessGates: [ { conditionType: target-health.elbv2.k8s.aws/x } ]".to_owned(),
            "1.33",
            "nobody sets this condition",
        ),
        (
            "schedulingGates: [ { name: example.com/quota } ]".to_owned(),
            "1.33",
            "nobody takes the gate `example.com/quota` away",
        ),
        (
            "schedulingGates: [ { name: example.com/quota } ]".to_owned(),
            "1.26",
            "Kubernetes 1.26 knows no scheduling gates",
        ),
        (
            "initContainers: [ { name: log, image: l, restartPolicy: Always } ]".to_owned(),
            "1.28",
            "Kubernetes 1.28 knows no sidecars: `log`",
        ),
    ] {
        let told =
            Drill { extra: &extra, version, ..USUAL }.load().err().unwrap_or_else(|| panic!("not refused: {extra}"));
        assert!(told.contains(expected), "{expected} is not in {told}");
        assert!(told.contains(&format!("all.yaml:{line}:")), "{told}");
    }
    assert!(
        Drill { extra: "initContainers: [ { name: log, image: l, restartPolicy: Always } ]", version: "1.29", ..USUAL }
            .load()
            .is_ok()
    );
}

#[test]
fn what_starts_before_a_pod_delays_it_by_one_time_after_the_other() {
    let start_ms = |extra: &str| {
        let outcome = Drill { extra, ..USUAL }.run();
        let pod = &of_kind(&outcome, "pod_scheduled").last().expect("a new pod").object;
        at_ms(&outcome, "container_started", pod) - at_ms(&outcome, "pod_scheduled", pod)
    };
    assert_eq!(start_ms(""), 3_000);
    assert_eq!(start_ms("initContainers: [ { name: a, image: i }, { name: b, image: i } ]"), 7_000);
    let sidecar = |probe: &str| format!("initContainers: [ {{ name: a, image: i, restartPolicy: Always, {probe} }} ]");
    assert_eq!(start_ms(&sidecar("")), 5_000);
    // Its probe is asked every 3 s from the binding on: 3 s is the first after its start, and 6 s the first after its delay.
    assert_eq!(start_ms(&sidecar("startupProbe: { tcpSocket: { port: 9 }, periodSeconds: 3 }")), 6_000);
    let late = "startupProbe: { tcpSocket: { port: 9 }, periodSeconds: 3, initialDelaySeconds: 2 }";
    assert_eq!(start_ms(&sidecar(late)), 9_000);
}

#[test]
fn a_sidecar_ends_after_the_gateway_and_its_hook_runs_inside_the_same_grace() {
    // The gateway's own end: 30 s of hook and 5 s of drain.
    for (hook, ends_after_ms) in [("", 0), ("sleep: { seconds: 20 }", 0), ("sleep: { seconds: 50 }", 15_000)] {
        let life = if hook.is_empty() { String::new() } else { format!("lifecycle: {{ preStop: {{ {hook} }} }}") };
        let extra = format!("initContainers: [ {{ name: log, image: i, restartPolicy: Always, {life} }} ]");
        let outcome = Drill { extra: &extra, ..USUAL }.run();
        let gone = of_kind(&outcome, "pod_gone");
        assert_eq!(gone.len(), 4, "{hook}");
        for event in gone {
            let [exited, sidecar, gone] =
                ["container_exited", "sidecar_exited", "pod_gone"].map(|kind| at_ms(&outcome, kind, &event.object));
            assert!(exited <= sidecar && sidecar == gone, "{hook}: {exited}, {sidecar}, {gone}");
            // The exit of the gateway comes up to 61 ms after its decision.
            assert!(
                (ends_after_ms - ends_after_ms.min(100)..=ends_after_ms).contains(&(sidecar - exited)),
                "{hook}: {exited}, {sidecar}"
            );
        }
    }
}

#[test]
fn a_kernel_does_not_wait_for_the_kubelet_when_a_node_has_no_memory_left() {
    // 800 MiB may be asked for, and 100 more are there: each node has one pod, which holds its base, and 20 KB for each request under way.
    for (base, is_out) in [("897MiB", false), ("901MiB", true)] {
        let container = "livenessProbe: { tcpSocket: { port: 15021 } }";
        let outcome = Drill { base, container, memory: "800Mi", timeline: "phase: nothing", ..USUAL }.run();
        let killed = of_kind(&outcome, "node_out_of_memory");
        assert_eq!(!killed.is_empty(), is_out, "{base}");
        // The kubelet evicts in both.
        assert!(!of_kind(&outcome, "evicted_by_kubelet").is_empty() || is_out, "{base}");
        let Some(first) = killed.first() else { continue };
        assert_eq!(first.at.as_nanos(), 0, "as soon as it holds too much");
        let exits = of_kind(&outcome, "sigkill");
        let reason = |event: &&Event| format!("{:?}", event.data).contains("OOMKilled");
        assert!(exits.iter().any(reason), "{exits:?}");
        assert!(lost(&outcome).1.contains(&"GD4114"), "{:?}", lost(&outcome));
    }
}

/// The line behind a cause of loss.
fn source(outcome: &Outcome, code: &str) -> String {
    let found = outcome.run.results.causes.iter().find(|cause| cause.code == code);
    let cause = found.unwrap_or_else(|| panic!("no {code} in {:?}", lost(outcome)));
    let source = cause.source.as_ref().expect("it has a source");
    format!("{}:{}", source.line.unwrap_or(0), source.path)
}

#[test]
fn what_a_liveness_probe_kills_is_not_taken_for_a_deletion() {
    let probe = |port: u16| {
        format!("livenessProbe: {{ tcpSocket: {{ port: {port} }}, periodSeconds: 2, failureThreshold: 2 }}")
    };
    let well = Drill { container: &probe(15021), timeline: "phase: nothing", ..USUAL }.run();
    assert_eq!(lost(&well), (0, Vec::new()));
    assert_eq!(of_kind(&well, "sigterm").len(), 0);
    // Nothing listens there: after two failures the hook runs for 30 s, and the process ends.
    let killed = Drill { container: &probe(9), timeline: "phase: nothing", ..USUAL }.run();
    let (count, codes) = lost(&killed);
    assert!(count > 0 && codes.contains(&"GD4113"), "{codes:?}");
    for of_deletions in ["GD4101", "GD4102", "GD4103", "GD4302"] {
        assert!(!codes.contains(&of_deletions), "{codes:?}");
    }
    let line = MANIFEST.lines().position(|line| line.contains("CONTAINER")).expect("a line") + 1;
    assert_eq!(source(&killed, "GD4113"), format!("{line}:spec.template.spec.containers[0].livenessProbe"));
}

#[test]
fn a_kubelet_evicts_when_its_pods_hold_more_than_the_node_has_for_them() {
    // Each node has one pod, which holds its base and less than 2 MiB beside it.
    for (base, version, is_short, ends_in_ms) in [
        ("790MiB", "1.33", false, 0..=0),
        ("802MiB", "1.33", true, 1_000..=3_000),
        // Before 1.30 an eviction had the pod's own grace: 30 s of hook, 5 s of drain.
        ("802MiB", "1.29", true, 35_000..=36_000),
    ] {
        let drill = Drill { base, version, memory: "800Mi", timeline: "phase: nothing", ..USUAL };
        let outcome = drill.run();
        let evicted = of_kind(&outcome, "evicted_by_kubelet");
        assert_eq!(evicted.is_empty(), !is_short, "{base}");
        assert_eq!(of_kind(&outcome, "node_memory_pressure").is_empty(), !is_short, "{base}");
        assert_eq!(lost(&outcome).1.contains(&"GD4114"), is_short, "{base}: {:?}", lost(&outcome));
        let Some(first) = evicted.first() else { continue };
        assert!(first.at.as_nanos() <= 10_000_000_000, "the kubelet looks every 10 s");
        let took_ms = at_ms(&outcome, "container_exited", &first.object) - first.at.as_nanos() / 1_000_000;
        assert!(ends_in_ms.contains(&took_ms), "{version}: {took_ms} ms");
        // The pod is gone for good, and its set makes another.
        let created = of_kind(&outcome, "pod_created");
        assert!(created.iter().any(|event| event.at > first.at), "{base}");
        assert!(source(&outcome, "GD4114").ends_with(":spec.cluster.nodes.allocatable.memory"));
    }
}
