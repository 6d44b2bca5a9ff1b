//! Whole drills about nodes and budgets: what clients lose, and what is told of it.
//!
//! Goal: every loss that a dead machine causes says so, however the balancer reaches its pods; and what a budget allows decides how
//! many pods a drain takes. Method: small scenarios from memory, run to their end.

#[path = "support/scenarios.rs"]
mod scenarios;

use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::engine::Event;
use gatedrill::record::results::Results;
use gatedrill::scenario::Scenario;
use scenarios::loaded;

const SCENARIO: &str = r#"
apiVersion: gatedrill/v1
kind: Scenario
metadata: { name: nodes }
spec:
  duration: DURATION
  seed: 5
  manifests: [ { path: manifests/ } ]
  cluster:
    nodes: [ { name: pool, count: COUNT, zones: [a, b, c], allocatable: { cpu: "4", memory: 8Gi } } ]
    timings: { podStart: 3s }
  loadBalancer: { controllerLatency: 2s }
  backends: [ { service: default/web } ]
  load:
    - { name: new, rate: 40/s, clients: { reuse: none, timeout: 3s }, mix: [ { get: "http://shop.example.com/" } ] }
    - { name: kept, rate: 40/s, clients: { connections: 20, reuse: lru, timeout: 3s }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ TIMELINE ]
"#;

const MANIFEST: &str = r#"
apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata:
  name: edge
  namespace: istio-system
  annotations: { asm.alibabacloud.com/gateway-drain-timeout-seconds: "30" }
spec:
  gatewayType: ingress
  clusterIds: [c-1]
  replicaCount: 4
  serviceType: LoadBalancer
  loadBalancerClass: alibabacloud.com/nlb
  externalTrafficPolicy: POLICY
  serviceAnnotations:
    service.beta.kubernetes.io/backend-type: BACKEND
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "a:vsw-a,b:vsw-b"
  ports: [ { name: http, port: 80, targetPort: 80, protocol: TCP } ]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: edge, namespace: istio-system }
spec: { maxUnavailable: UNAVAILABLE, selector: { matchLabels: { istio: edge } } }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop, namespace: istio-system }
spec:
  selector: { istio: edge }
  servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: ["shop.example.com"] } ]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: ["shop.example.com"]
  gateways: ["istio-system/shop"]
  http: [ { route: [ { destination: { host: web, port: { number: 80 } } } ] } ]
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { selector: { app: web }, ports: [ { name: http, port: 80, targetPort: 8080 } ] }
"#;

/// What a drill is about.
struct Drill {
    timeline: &'static str,
    duration: &'static str,
    nodes: &'static str,
    backend: &'static str,
    policy: &'static str,
    unavailable: &'static str,
}

const PODS: Drill = Drill {
    timeline: "{ at: 10s, killNode: { node: busiest } }",
    duration: "100s",
    nodes: "3",
    backend: "eni",
    policy: "Local",
    unavailable: "1",
};

impl Drill {
    fn load(&self) -> Result<Scenario, String> {
        let fill = |text: &str| {
            [
                ("TIMELINE", self.timeline),
                ("DURATION", self.duration),
                ("COUNT", self.nodes),
                ("BACKEND", self.backend),
                ("POLICY", self.policy),
                ("UNAVAILABLE", self.unavailable),
            ]
            .iter()
            .fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        loaded(&fill(SCENARIO), &fill(MANIFEST), &[], None).map_err(|problems| problems.to_string())
    }

    fn run(&self) -> Outcome {
        let scenario = self.load().unwrap_or_else(|problems| panic!("{problems}"));
        run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance")
    }
}

/// Codes of causes, without repetition.
fn codes(results: &Results) -> Vec<&str> {
    let mut codes: Vec<&str> = results.causes.iter().map(|cause| cause.code.as_str()).collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn seconds_of(outcome: &Outcome, kind: &str) -> Vec<u64> {
    let of_kind = |event: &&Event| event.kind == kind;
    outcome.log.events().iter().filter(of_kind).map(|event| event.at.as_nanos() / 1_000_000_000).collect()
}

#[test]
fn what_a_dead_machine_loses_says_so_whatever_the_balancer_reaches() {
    for (backend, policy, expected) in [
        ("eni", "Local", &["GD4110"][..]),
        ("ecs", "Local", &["GD4110"]),
        // Every node passes connections, and checks, on to the dead pods until they are known to be gone: checks of all nodes fail in turn.
        ("ecs", "Cluster", &["GD4105", "GD4110"]),
    ] {
        let outcome = Drill { backend, policy, ..PODS }.run();
        let results = &outcome.run.results;
        let dropped = results.totals.dropped;
        assert!(dropped > 20, "{backend} {policy}: {dropped} lost");
        assert_eq!(codes(results), expected, "{backend} {policy}: {:#?}", results.causes);
        if policy == "Cluster" {
            continue;
        }
        // The balancer's own checks end it, long before anybody notices the node.
        let last_ms = results.causes.iter().map(|cause| cause.last_ms).max().expect("a cause");
        assert!(last_ms < 45_000, "{backend} {policy}: the last loss comes at {last_ms} ms");
        // Each loss goes back to the death, and that to the timeline.
        let events = outcome.log.events();
        for lost in events.iter().filter(|event| event.kind == "request_lost") {
            let chain: Vec<&str> = outcome.log.causes(lost.id).map(|event| event.kind).collect();
            assert_eq!(chain, ["request_lost", "node_died", "timeline"], "{backend} {policy}");
        }
    }
}

#[test]
fn a_budget_decides_how_many_pods_a_drain_takes_at_once() {
    for (unavailable, ready_min, evictions_denied) in [("1", 3, true), ("2", 2, true), ("100%", 0, false)] {
        let timeline = "{ at: 10s, addNode: {} }, { at: 20s, drainNode: { node: pool-1 } }";
        let outcome = Drill { timeline, unavailable, nodes: "1", duration: "4m", ..PODS }.run();
        let ready = outcome.run.seconds.iter().filter_map(|second| second.gauge.pods_ready).min();
        assert_eq!(ready, Some(ready_min), "{unavailable}");
        assert_eq!(!seconds_of(&outcome, "eviction_denied").is_empty(), evictions_denied, "{unavailable}");
        assert_eq!(seconds_of(&outcome, "evicted").len(), 4);
        assert_eq!(seconds_of(&outcome, "node_drained").len(), 1, "{unavailable}");
        let phases: Vec<&str> = outcome.run.results.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(phases, ["before", "growth", "after", "drain", "after"], "{unavailable}");
    }
}

#[test]
fn a_node_that_boots_again_takes_connections_again() {
    for (backend, policy) in [("eni", "Local"), ("ecs", "Cluster")] {
        let timeline = "{ at: 10s, killNode: { node: busiest, for: 1m } }";
        let outcome = Drill { timeline, backend, policy, duration: "4m", ..PODS }.run();
        assert!(codes(&outcome.run.results).contains(&"GD4110"), "{backend}");
        assert!(outcome.run.results.pods.len() == 4, "{backend}: no pod is replaced");
        let last = outcome.run.seconds.last().expect("a second");
        assert_eq!(last.gauge.pods_ready, Some(4), "{backend}");
        let targets = if backend == "eni" { 4 } else { 3 };
        assert_eq!(last.gauge.lb_targets_healthy, Some(targets), "{backend}");
        let booted = seconds_of(&outcome, "node_booted");
        assert_eq!(booted, [70]);
    }
}

#[test]
fn a_node_that_is_added_is_reached_by_a_balancer_of_nodes() {
    let timeline = "{ at: 10s, addNode: { count: 2 } }, { at: 60s, removeNode: { node: pool-3 } }";
    let outcome = Drill { timeline, backend: "ecs", policy: "Cluster", duration: "3m", ..PODS }.run();
    let healthy = |second: usize| outcome.run.seconds[second].gauge.lb_targets_healthy;
    assert_eq!((healthy(5), healthy(50), healthy(150)), (Some(3), Some(5), Some(4)));
    assert_eq!(codes(&outcome.run.results), ["GD4110"]);
}

#[test]
fn names_that_nobody_has_and_limits_that_contradict_are_refused_with_their_lines() {
    for (drill, expected) in [
        (Drill { timeline: "{ at: 1s, killNode: { node: pool-4 } }", ..PODS }, "no node is called `pool-4`"),
        (Drill { timeline: "{ at: 1s, drainNode: {} }", ..PODS }, "spec.timeline[0].drainNode.node: this is missing"),
        (Drill { timeline: "{ at: 1s, addNode: { group: pol } }", ..PODS }, "no group of nodes is called `pol`"),
        (Drill { timeline: "{ at: 1s, evict: { pods: 1 } }", ..PODS }, "`pods` is not a field here"),
        (Drill { timeline: "{ at: 1s, killPod: { grace: 1500ms } }", ..PODS }, "a grace is a number of whole seconds"),
        (
            Drill { timeline: "{ at: 1s, evict: {}, of: default/none }", ..PODS },
            "no Deployment is called `default/none`",
        ),
        (Drill { unavailable: "1, minAvailable: 1", ..PODS }, "minAvailable and maxUnavailable are both set"),
        (Drill { unavailable: "101%", ..PODS }, "more than 100% of the pods are not there"),
    ] {
        let told = drill.load().err().unwrap_or_else(|| panic!("not refused: {expected}"));
        assert!(told.contains(expected), "{expected} is not in {told}");
    }
    // A node that an earlier entry adds is known.
    let timeline = "{ at: 1s, addNode: {} }, { at: 2s, killNode: { node: pool-4 } }";
    assert!(Drill { timeline, ..PODS }.load().is_ok());
}
