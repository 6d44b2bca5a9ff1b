//! Whole drills about nodes and budgets: what clients lose, and what is told of it.
//!
//! Goal: every loss that a dead machine causes says so, however the balancer reaches its pods; and what a budget allows decides how
//! many pods a drain takes. Method: small scenarios from memory, run to their end.

use crate::scenarios::loaded;
use crate::shop::{edge_behind_nlb, new_clients, ran, scenario_head, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::engine::Event;
use gatedrill::record::results::Results;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("nodes", "  duration: DURATION\n  seed: 5\n"),
    r#"  cluster:
    nodes: [ { name: pool, count: COUNT, zones: [a, b, c], allocatable: { cpu: "4", memory: 8Gi } } ]
    timings: { podStart: 3s }
  loadBalancer: { controllerLatency: 2s }
  backends: [ { service: default/web } ]
  load:
"#,
    new_clients!("40/s"),
    r#"    - { name: kept, rate: 40/s, clients: { connections: 20, reuse: lru, timeout: 3s }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    edge_behind_nlb!(
        "\n  name: edge\n  namespace: istio-system\n  annotations: { asm.alibabacloud.com/gateway-drain-timeout-seconds: \"30\" }",
        "4",
        "  externalTrafficPolicy: POLICY\n",
        "BACKEND"
    ),
    r#"---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: { name: edge, namespace: istio-system }
spec: { maxUnavailable: UNAVAILABLE, selector: { matchLabels: { istio: edge } } }
"#,
    shop_of_istio_edge!()
);

/// What a drill is about.
struct Drill {
    timeline: &'static str,
    duration: &'static str,
    nodes: &'static str,
    backend: &'static str,
    policy: &'static str,
    unavailable: &'static str,
    /// One more object.
    more: &'static str,
}

const PODS: Drill = Drill {
    timeline: "{ at: 10s, killNode: { node: busiest } }",
    duration: "100s",
    nodes: "3",
    backend: "eni",
    policy: "Local",
    unavailable: "1",
    more: "",
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
        let manifest = format!("{}{}", fill(MANIFEST), self.more);
        loaded(&fill(SCENARIO), &manifest, &[], None).map_err(|problems| problems.to_string())
    }

    fn run(&self) -> Outcome {
        ran(self.load())
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
        // Every node passes connections, and checks, on to the dead pods until they are known to be gone.
        ("ecs", "Cluster", &["GD4110"]),
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

/// A `DaemonSet` whose pods leave 300m of a node's processor.
const DAEMON_SET: &str = r#"
---
apiVersion: apps/v1
kind: DaemonSet
metadata: { name: log, namespace: kube-system }
spec:
  selector: { matchLabels: { app: log } }
  template:
    metadata: { labels: { app: log } }
    spec: { containers: [ { name: log, image: l, resources: { requests: { cpu: 3700m } } } ] }
"#;

#[test]
fn a_drain_is_refused_as_kubectl_does_it_unless_its_options_allow_what_is_there() {
    let daemons = "cannot delete DaemonSet-managed Pods (use --ignore-daemonsets to ignore): kube-system/log";
    let data =
        "cannot delete Pods with local storage (use --delete-emptydir-data to override): istio-system/istio-edge-";
    let volumes = "{ at: 5s, set: { target.spec.template.spec.volumes: [ { name: tmp, emptyDir: {} } ] } }, ";
    for (more, first, options, refused) in [
        ("", "", "", None),
        (DAEMON_SET, "", "", Some(daemons)),
        (DAEMON_SET, "", "ignoreDaemonSets: true", None),
        ("", volumes, "ignoreDaemonSets: true", Some(data)),
        ("", volumes, "deleteEmptyDirData: true", None),
    ] {
        let timeline = format!("{first}{{ at: 60s, drainNode: {{ node: busiest, {options} }} }}");
        let timeline = Box::leak(timeline.into_boxed_str());
        // With one pod too many for the nodes no budget would spare another.
        let outcome = Drill { timeline, more, duration: "150s", unavailable: "100%", ..PODS }.run();
        let told = outcome.log.events().iter().find(|event| event.kind == "node_drain_refused");
        let told = told.map(|event| format!("{:?}", event.data));
        assert_eq!(told.is_some(), refused.is_some(), "{options}: {told:?}");
        assert!(told.is_none_or(|told| told.contains(refused.unwrap_or_default())), "{options}");
        assert_eq!(seconds_of(&outcome, "node_cordoned"), [60], "{options}: cordoned it is in any case");
        assert_eq!(seconds_of(&outcome, "evicted").is_empty(), refused.is_some(), "{options}");
    }
}

#[test]
fn pods_of_a_daemon_set_take_up_what_they_ask_for() {
    for (more, is_short) in [("", false), (DAEMON_SET, true)] {
        let outcome = Drill { timeline: "{ at: 5s, phase: nothing }", more, duration: "20s", ..PODS }.run();
        // Each node has room for one gateway beside it: three nodes for four.
        assert_eq!(!seconds_of(&outcome, "pod_unschedulable").is_empty(), is_short);
        let ready = if is_short { 3 } else { 4 };
        assert_eq!(outcome.run.seconds.last().and_then(|second| second.gauge.pods_ready), Some(ready));
    }
}

/// The causes of what was lost, each with the line behind it.
fn sources(results: &Results) -> Vec<String> {
    let of = |cause: &gatedrill::record::results::Cause| {
        let source = cause.source.as_ref();
        let line = source.and_then(|source| source.line);
        format!("{} {}:{line:?}", cause.code, source.map_or("", |source| source.path.as_str()))
    };
    results.causes.iter().map(of).collect()
}

#[test]
fn what_a_dead_machine_loses_has_the_line_that_kills_it() {
    let outcome = PODS.run();
    let line = SCENARIO.lines().position(|line| line.contains("timeline:")).expect("a timeline") + 1;
    assert_eq!(sources(&outcome.run.results), [format!("GD4110 spec.timeline:Some({line})")]);
}

/// Times of an event of pods, in seconds, in order.
fn span_of(outcome: &Outcome, kind: &str) -> (Option<u64>, Option<u64>) {
    let seconds = seconds_of(outcome, kind);
    (seconds.first().copied(), seconds.last().copied())
}

#[test]
fn a_node_that_is_cut_off_serves_on_until_it_is_heard_again() {
    let timeline = "{ at: 10s, killNode: { node: busiest, mode: partition, for: 8m } }";
    let outcome = Drill { timeline, duration: "10m", ..PODS }.run();
    // Its silence is noticed after 50 s at the latest renewal, at one of the passes every 5 s.
    let (noticed, _) = span_of(&outcome, "node_not_ready");
    assert!(noticed.is_some_and(|at| (50..=66).contains(&at)), "{noticed:?}");
    assert_eq!(span_of(&outcome, "pod_unready").0, noticed, "in the same pass");
    // The pods are deleted 300 s after their node's taint, and replaced at once; they themselves run on.
    let (deleted, _) = span_of(&outcome, "pod_terminating");
    let noticed = noticed.expect("it is noticed");
    assert!(deleted.is_some_and(|at| (noticed + 300..=noticed + 316).contains(&at)), "{deleted:?}");
    let deleted = deleted.expect("they are deleted");
    let ready = |second: u64| outcome.run.seconds[usize::try_from(second).expect("a second")].gauge.pods_ready;
    assert!(ready(deleted - 1) < Some(4) && ready(deleted + 10) == Some(4));
    // When their kubelet hears of it, they end as any deleted pod.
    assert_eq!(span_of(&outcome, "sigterm").0, Some(490));
    let (first, last) = span_of(&outcome, "pod_gone");
    assert!(first >= Some(490) && last <= Some(531), "{first:?} {last:?}");
    let ended = seconds_of(&outcome, "pod_gone").len();
    assert_eq!(seconds_of(&outcome, "container_exited").len(), ended);
    // Whatever was sent to them was answered. Only connections that the balancer cut when it had waited long enough can be lost.
    let results = &outcome.run.results;
    assert!(results.totals.dropped <= 5, "{:?}", sources(results));
    assert!(codes(results).iter().all(|code| *code == "GD4104"), "{:?}", sources(results));
}

#[test]
fn a_node_that_is_heard_again_in_time_keeps_its_pods() {
    for (span, noticed) in [("20s", 0), ("2m", 1)] {
        let timeline = format!("{{ at: 10s, killNode: {{ node: busiest, mode: partition, for: {span} }} }}");
        let timeline = Box::leak(timeline.into_boxed_str());
        let outcome = Drill { timeline, duration: "4m", ..PODS }.run();
        assert_eq!(seconds_of(&outcome, "node_not_ready").len(), noticed, "{span}");
        assert_eq!(seconds_of(&outcome, "pod_unready").is_empty(), noticed == 0, "{span}");
        assert!(seconds_of(&outcome, "pod_terminating").is_empty() && outcome.run.results.pods.len() == 4, "{span}");
        assert!(seconds_of(&outcome, "container_exited").is_empty(), "{span}");
        if noticed > 0 {
            // Its kubelet writes their state within 10 s.
            let back: Vec<u64> = seconds_of(&outcome, "pod_ready").into_iter().filter(|at| *at > 10).collect();
            assert!(!back.is_empty() && back.iter().all(|at| (130..=140).contains(at)), "{span}: {back:?}");
        }
        assert_eq!(outcome.run.seconds.last().and_then(|second| second.gauge.lb_targets_healthy), Some(4), "{span}");
    }
}

#[test]
fn a_kubelet_that_says_it_is_not_ready_keeps_its_endpoints_and_loses_its_pods_after_their_toleration() {
    for (backend, policy) in [("eni", "Local"), ("ecs", "Local")] {
        let timeline = "{ at: 10s, killNode: { node: busiest, mode: notReady } }";
        let outcome = Drill { timeline, duration: "7m", backend, policy, ..PODS }.run();
        assert_eq!(seconds_of(&outcome, "node_not_ready"), [10], "{backend}: at once");
        let (deleted, _) = span_of(&outcome, "pod_terminating");
        assert!(deleted.is_some_and(|at| (310..=326).contains(&at)), "{backend}: {deleted:?}");
        assert!(span_of(&outcome, "pod_unready").0.is_none_or(|at| at > 310), "{backend}: pods stay ready");
        let healthy = |second: usize| outcome.run.seconds[second].gauge.lb_targets_healthy;
        // Pods as targets stay; a node as a target goes when the controller sees that it is not ready.
        let (before, during) = if backend == "eni" { (4, 4) } else { (3, 2) };
        assert_eq!((healthy(5), healthy(200)), (Some(before), Some(during)), "{backend}");
        assert!(!seconds_of(&outcome, "sigterm").is_empty(), "{backend}: the kubelet ends what is deleted");
        assert_eq!(outcome.run.seconds.last().and_then(|second| second.gauge.pods_ready), Some(4), "{backend}");
        if backend == "eni" {
            assert_eq!(outcome.run.results.totals.dropped, 0, "{:?}", sources(&outcome.run.results));
        }
    }
}

#[test]
fn names_that_nobody_has_and_limits_that_contradict_are_refused_with_their_lines() {
    for (drill, expected) in [
        (Drill { timeline: "{ at: 1s, killNode: { node: pool-4 } }", ..PODS }, "no node is called `pool-4`"),
        (
            Drill { timeline: "{ at: 1s, killNode: { node: pool-1, mode: kubelet } }", ..PODS },
            "`kubelet` is not known here",
        ),
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

/// What a code's losses are put down to.
fn decided_by<'a>(results: &'a Results, code: &str) -> Vec<&'a str> {
    let rows = results.causes.iter().filter(|row| row.code == code);
    let mut all: Vec<&str> = rows.filter_map(|row| row.source.as_ref()?.value.as_deref()).collect();
    all.sort_unstable();
    all
}

#[test]
fn losses_of_two_machines_have_two_entries_behind_them() {
    let timeline = "{ at: 10s, killNode: { node: pool-1 } }, { at: 60s, removeNode: { node: pool-2 } }";
    let outcome = Drill { timeline, ..PODS }.run();
    let results = &outcome.run.results;
    assert_eq!(decided_by(results, "GD4110"), ["kill node pool-1", "remove node pool-2"]);
    assert!(
        results
            .causes
            .iter()
            .all(|row| row.code != "GD4110" || row.source.as_ref().is_some_and(|it| it.line.is_some()))
    );
}

/// The gateway's drain of 30 s outlasts what the balancer needs; a grace of a second, that somebody asks for, does not.
#[test]
fn a_grace_that_the_timeline_gives_is_what_costs() {
    let lost = |timeline| {
        let outcome = Drill { timeline, ..PODS }.run();
        let results = &outcome.run.results;
        (results.totals.dropped, codes(results).join(" "), decided_by(results, "GD4109").join(" "))
    };
    assert_eq!(lost("{ at: 10s, killPod: { pod: oldest } }"), (0, String::new(), String::new()));
    let (count, codes, by) = lost("{ at: 10s, killPod: { pod: oldest, grace: 1s } }");
    assert!(count > 0, "{codes}");
    assert_eq!(codes, "GD4109");
    assert_eq!(by, "kill the oldest pod of istio-system/istio-edge with 1 s of grace");
}
