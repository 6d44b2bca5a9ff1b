//! Whole drills with `DaemonSet`s that the timeline edits.
//!
//! Goal: an edit reaches the nodes as the controller has it, what its pods take up is felt by the gateway's, and what the API server refuses is refused. Method: small scenarios
//! from memory, run to their end.

use crate::scenarios::loaded;
use crate::shop::{edge_behind_nlb, new_clients, ran, scenario_head, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("daemons", "  duration: 4m\n  seed: 5\n"),
    r#"  cluster:
    version: "VERSION"
    nodes: [ { name: pool, count: 4, zones: [a, b], allocatable: { cpu: "4", memory: 8Gi } } ]
    timings: { podStart: 3s }
  loadBalancer: { controllerLatency: 2s }
  backends: [ { service: default/web, BACKEND } ]
  load:
"#,
    new_clients!("20/s"),
    r#"  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    edge_behind_nlb!(
        " { name: edge, namespace: istio-system }",
        "4",
        "  resources: { requests: { cpu: \"1\", memory: 256Mi }, limits: { cpu: \"1\", memory: 1Gi } }\n",
        "eni"
    ),
    shop_of_istio_edge!()
);

/// A `DaemonSet` of the gateway's namespace, or another's.
fn daemon(namespace: &str, labels: &str, spec: &str) -> String {
    format!(
        r#"---
apiVersion: apps/v1
kind: DaemonSet
metadata: {{ name: log, namespace: {namespace} }}
spec:
  {spec}
  selector: {{ matchLabels: {{ {labels} }} }}
  template:
    metadata: {{ labels: {{ {labels} }} }}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
        - name: log
          image: log:1
          resources: {{ requests: {{ cpu: 500m, memory: 128Mi }} }}
          readinessProbe: {{ tcpSocket: {{ port: 9000 }}, periodSeconds: 2 }}
"#
    )
}

/// What differs from drill to drill.
struct Drill<'a> {
    timeline: &'a str,
    backend: &'a str,
    version: &'a str,
    more: &'a str,
}

const PLAIN: Drill<'_> = Drill { timeline: "", backend: "serviceTime: 5ms", version: "1.28", more: "" };

impl Drill<'_> {
    fn load(&self) -> Result<Scenario, String> {
        let texts = [("TIMELINE", self.timeline), ("BACKEND", self.backend), ("VERSION", self.version)];
        let scenario = texts.iter().fold(SCENARIO.to_owned(), |text, (name, value)| text.replace(name, value));
        loaded(&scenario, &format!("{MANIFEST}{}", self.more), &[], None).map_err(|problems| problems.to_string())
    }

    fn run(&self) -> Outcome {
        ran(self.load())
    }
}

/// Seconds of an event of objects whose names begin so.
fn seconds_of(outcome: &Outcome, kind: &str, object: &str) -> Vec<u64> {
    let events = outcome.log.events().iter().filter(|event| event.kind == kind && event.object.starts_with(object));
    events.map(|event| event.at.as_nanos() / 1_000_000_000).collect()
}

const LOG: &str = "Pod/kube-system/log-";

#[test]
fn a_template_that_is_edited_goes_from_node_to_node() {
    let image = "\"DaemonSet/kube-system/log.spec.template.spec.containers[log].image\": log:2";
    let limits = |limits: &str| format!("updateStrategy: {{ rollingUpdate: {{ {limits} }} }}");
    for (strategy, steps) in [
        (String::new(), 4),
        (limits("maxUnavailable: 50%"), 2),
        (limits("maxUnavailable: 51%"), 2),
        (limits("maxUnavailable: 100%"), 1),
        (limits("maxUnavailable: 0, maxSurge: 1"), 4),
        ("updateStrategy: { type: OnDelete }".to_owned(), 0),
    ] {
        let more = daemon("kube-system", "app: log", &strategy);
        let timeline = format!("{{ at: 10s, set: {{ {image} }} }}");
        let outcome = Drill { timeline: &timeline, more: &more, ..PLAIN }.run();
        let made: Vec<u64> = seconds_of(&outcome, "pod_created", LOG).into_iter().filter(|at| *at > 0).collect();
        let mut bursts = made.clone();
        bursts.dedup_by(|next, last| *next <= *last + 1);
        assert_eq!(made.len(), if steps == 0 { 0 } else { 4 }, "{strategy}: {made:?}");
        assert!(bursts.len() >= steps && bursts.len() <= steps.max(3), "{strategy}: {made:?}");
        let ended = seconds_of(&outcome, "rollout_completed", "DaemonSet/kube-system/log");
        assert_eq!(ended.len(), 1, "{strategy}: {ended:?}");
        assert_eq!(outcome.run.results.totals.dropped, 0, "{strategy}: the gateway hears nothing of it");
        let phases: Vec<&str> = outcome.run.results.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(phases, ["before", "rollout", "after"], "{strategy}");
    }
}

#[test]
fn what_its_pods_ask_for_is_felt_by_the_gateway() {
    // A gateway pod asks for one core of four; beside 3.5 there is no room for it.
    let request = "\"DaemonSet/kube-system/log.spec.template.spec.containers[log].resources.requests.cpu\"";
    for (cpu, stays_pending) in [("2900m", 0), ("3100m", 1)] {
        let timeline =
            format!("{{ at: 10s, set: {{ {request}: {cpu} }} }}, {{ at: 120s, killPod: {{ pod: oldest }} }}");
        let more = daemon("kube-system", "app: log", "updateStrategy: { rollingUpdate: { maxUnavailable: 100% } }");
        let outcome = Drill { timeline: &timeline, more: &more, ..PLAIN }.run();
        let told = seconds_of(&outcome, "pod_unschedulable", LOG).len();
        // Where a gateway stands already, the daemon's pod is the one that finds no room.
        assert_eq!(told > 0, stays_pending > 0, "{cpu}");
        let last = outcome.run.seconds.last().expect("a second").gauge.pods_ready;
        assert!(last.is_some_and(|ready| ready >= 3), "{cpu}: {last:?}");
    }
}

#[test]
fn one_that_comes_and_goes_in_mid_run_takes_up_room_and_gives_it_back() {
    let object = "{ apiVersion: apps/v1, kind: DaemonSet, metadata: { name: log, namespace: kube-system }, spec: { selector: { matchLabels: { a: b } }, \
                  template: { metadata: { labels: { a: b } }, spec: { containers: [ { name: log, image: log, resources: { requests: { cpu: 2500m } } } ] } } } }";
    let timeline = format!(
        "{{ at: 10s, apply: {{ inline: {object} }} }}, {{ at: 60s, set: {{ IstioGateway/istio-system/edge.spec.replicaCount: 8 }} }}, {{ at: 120s, delete: {{ daemonSet: kube-system/log }} }}"
    );
    let outcome = Drill { timeline: &timeline, ..PLAIN }.run();
    assert_eq!(seconds_of(&outcome, "pod_created", LOG).iter().filter(|at| (10..12).contains(*at)).count(), 4);
    assert_eq!(seconds_of(&outcome, "pod_gone", LOG).len(), 4);
    let ready = |second: usize| outcome.run.seconds[second].gauge.pods_ready;
    assert_eq!((ready(50), ready(110), ready(200)), (Some(4), Some(4), Some(8)));
}

#[test]
fn pods_of_a_daemon_set_serve_where_a_backend_names_it() {
    let more = daemon("default", "app: web", "")
        .replace("          readinessProbe: { tcpSocket: { port: 9000 }, periodSeconds: 2 }\n", "");
    let named = Drill { backend: "daemonSet: default/log, serviceTime: 5ms", more: &more, ..PLAIN };
    let image = "\"DaemonSet/default/log.spec.template.spec.containers[log].image\": log:2";
    let timeline = format!("{{ at: 10s, set: {{ {image} }} }}");
    let outcome = Drill { timeline: &timeline, ..named }.run();
    assert_eq!(seconds_of(&outcome, "sigterm", "Pod/default/log-").len(), 4, "node after node");
    let results = &outcome.run.results;
    assert!(results.totals.sent > 4500 && results.totals.dropped < results.totals.sent / 100, "{:?}", results.causes);
    // Without a grace of its own a process ends with what it is asked at that moment.
    let codes: Vec<&str> = results.causes.iter().map(|cause| cause.code.as_str()).collect();
    assert_eq!(codes, ["GD4301"]);
    // Deleted, its Service has no endpoint: what a backend of the scenario names may go.
    let deleted = Drill { timeline: "{ at: 10s, delete: { daemonSet: default/log } }", ..named }.run();
    let results = &deleted.run.results;
    let codes: Vec<&str> = results.causes.iter().map(|cause| cause.code.as_str()).collect();
    assert!(codes.contains(&"GD4203") && results.totals.dropped > results.totals.sent / 2, "{codes:?}");
    assert_eq!(seconds_of(&deleted, "pod_gone", "Pod/default/log-").len(), 4);
}

#[test]
fn what_the_api_server_refuses_is_refused_with_the_line() {
    let log = daemon("kube-system", "app: log", "");
    let edit =
        |path: &str, value: &str| format!("{{ at: 10s, set: {{ \"DaemonSet/kube-system/log.{path}\": {value} }} }}");
    let rolling = |path: &str, value: &str| edit(&format!("spec.updateStrategy.rollingUpdate.{path}"), value);
    let both = "{ at: 10s, set: { \"DaemonSet/kube-system/log.spec.selector.matchLabels.app\": new, \
                \"DaemonSet/kube-system/log.spec.template.metadata.labels.app\": new } }";
    for (timeline, expected) in [
        (rolling("maxSurge", "1"), "may not be set when maxUnavailable is non-zero"),
        (rolling("maxUnavailable", "0"), "cannot be 0 when maxSurge is 0"),
        (rolling("maxUnavailable", "101%"), "must not be greater than 100%"),
        (edit("spec.template.metadata.labels.app", "new"), "is not among the labels of its own template"),
        (both.to_owned(), "the selector of DaemonSet kube-system/log cannot change"),
        (edit("spec.replicas", "3"), "spec.replicas"),
        (
            "{ at: 10s, delete: { daemonSet: kube-system/lgo } }".to_owned(),
            "no manifest has a DaemonSet `kube-system/lgo` then",
        ),
    ] {
        let problems = Drill { timeline: &timeline, more: &log, ..PLAIN }.load().err().unwrap_or_default();
        assert!(problems.contains(expected) && problems.contains(".yaml:"), "{timeline}: {problems}");
    }
    assert!(Drill { more: &log, ..PLAIN }.load().is_ok());
}

#[test]
fn a_surge_needs_a_version_that_knows_it() {
    let more =
        daemon("kube-system", "app: log", "updateStrategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }");
    for (version, is_known) in [("1.20", false), ("1.22", true)] {
        let problems = Drill { version, more: &more, ..PLAIN }.load().err().unwrap_or_default();
        assert_eq!(!problems.contains("knows no surge of a DaemonSet"), is_known, "{version}: {problems}");
    }
}
