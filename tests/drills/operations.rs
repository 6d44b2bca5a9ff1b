//! Whole drills with operations that do little or nothing, and with rollouts whose old pods go first.
//!
//! Goal: what was asked for and did not happen is told with its object, a reason that one can read, and the entry of the timeline that asked for it; and a rollout is as
//! long as the gap that clients see. Method: small scenarios from memory, run to their end.

use crate::scenarios::loaded;
use crate::shop::{new_clients, of_kind, ran, scenario_head, service_behind_nlb, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::engine::{Datum, Event};
use gatedrill::record::results::FidelityStatus;

const SCENARIO: &str = concat!(
    scenario_head!("operations", "  duration: DURATION\n  seed: 5\n"),
    r#"  cluster:
    nodes: [ { name: pool, count: 3, zones: [a, b], allocatable: { cpu: "4", memory: 8Gi } } ]
    timings: { podStart: 3s }
    AUTOSCALER
  loadBalancer: { controllerLatency: 2s }
  backends: [ { service: default/web, serviceTime: 5ms } ]
  load:
"#,
    new_clients!("10/s"),
    r#"  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: istio-edge, namespace: istio-system, labels: { istio: edge, app: istio-edge } }
spec:
  replicas: 2
  strategy: { STRATEGY }
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge, app: istio-edge }, annotations: { ANNOTATIONS } }
    spec:
      terminationGracePeriodSeconds: 60
      volumes: [ VOLUMES ]
      containers:
        - name: istio-proxy
          image: proxy:1
          lifecycle: { preStop: { exec: { command: ["sleep", "20"] } } }
          readinessProbe: { httpGet: { path: /healthz/ready, port: 15021 }, periodSeconds: 2 }
          resources: { requests: { cpu: 200m, memory: 256Mi } }
---
"#,
    service_behind_nlb!(),
    shop_of_istio_edge!()
);

/// What differs from drill to drill.
#[derive(Clone, Copy)]
struct Drill<'a> {
    duration: &'a str,
    strategy: &'a str,
    annotations: &'a str,
    volumes: &'a str,
    autoscaler: &'a str,
    timeline: &'a str,
}

const USUAL: Drill<'_> =
    Drill { duration: "90s", strategy: "", annotations: "", volumes: "", autoscaler: "", timeline: "" };

impl Drill<'_> {
    fn run(self) -> Outcome {
        let scenario = SCENARIO
            .replace("DURATION", self.duration)
            .replace("AUTOSCALER", self.autoscaler)
            .replace("TIMELINE", self.timeline);
        let manifest = MANIFEST
            .replace("STRATEGY", self.strategy)
            .replace("ANNOTATIONS", self.annotations)
            .replace("VOLUMES", self.volumes);
        ran(loaded(&scenario, &manifest, &[], None))
    }
}

fn reason(event: &Event) -> &str {
    let found = event.data.iter().find(|(key, _)| *key == "reason");
    let Some((_, Datum::Text(text))) = found else { panic!("{event:?} has no reason") };
    text
}

/// What the report warns of the timeline's entries and of rollouts.
fn warnings(outcome: &Outcome) -> Vec<(&str, &str)> {
    let rows = outcome.run.results.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
    let rows = rows.filter_map(|row| Some((&*row.path, row.note.as_deref()?)));
    rows.filter(|(path, _)| path.starts_with("timeline") || path.starts_with("rollout")).collect()
}

/// The kind of the first event of the chain that led to this one.
fn origin<'a>(outcome: &'a Outcome, event: &'a Event) -> &'a str {
    let mut event = event;
    while let Some(because) = event.because {
        event = outcome.log.events().iter().find(|other| other.id == because).expect("a cause is an event");
    }
    event.kind
}

#[test]
fn what_was_not_found_is_told_in_the_words_of_the_timeline() {
    let timeline = "{ at: 5s, killPod: { pod: nosuchpod } }, { at: 10s, killPod: { pod: 99 } }, { at: 15s, killPod: { pod: unready } }, { at: 20s, evict: { \
                    pod: pending } }, { at: 25s, removeNode: { node: pool-3 } }, { at: 30s, cordonNode: { node: pool-3 } }";
    let outcome = Drill { timeline, ..USUAL }.run();
    let told: Vec<(&str, &str)> =
        of_kind(&outcome, "nothing_found").iter().map(|event| (&*event.object, reason(event))).collect();
    assert_eq!(
        told,
        [
            ("Pod/istio-system/nosuchpod", "there is no such pod"),
            ("Deployment/istio-system/istio-edge", "its pod 99 is gone, or was never made"),
            ("Deployment/istio-system/istio-edge", "none of its pods runs without being ready"),
            ("Deployment/istio-system/istio-edge", "none of its pods waits for its start"),
            ("Node/pool-3", "there is no such node"),
        ]
    );
    let warned = warnings(&outcome);
    assert_eq!(warned[0], ("timeline, kill pod nosuchpod", "nothing was done: there is no such pod"));
    assert_eq!(warned.len(), told.len());
    let row = outcome.run.results.fidelity.iter().find(|row| row.path == "timeline, kill pod nosuchpod");
    assert!(row.is_some_and(|row| row.line.is_some()), "it has its line");
    for event in of_kind(&outcome, "nothing_found") {
        assert_eq!(origin(&outcome, event), "timeline", "{event:?}");
    }
}

#[test]
fn a_drain_that_fails_says_what_it_left_and_a_refused_eviction_why() {
    let budget = "{ apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: { name: all, namespace: istio-system }, spec: { minAvailable: 2, selector: { matchLabels: { \
                  istio: edge } } } }";
    let timeline = format!(
        "{{ at: 5s, apply: {{ inline: {budget} }} }}, {{ at: 10s, drainNode: {{ node: busiest, timeout: 12s }} }}"
    );
    let outcome = Drill { timeline: &timeline, ..USUAL }.run();
    let failed = of_kind(&outcome, "node_drain_failed");
    let [failed] = failed[..] else { panic!("{failed:?}") };
    let told = reason(failed);
    assert!(
        told.starts_with("still there: istio-system/istio-edge-") && told.ends_with("; its timeout is 12 s"),
        "{told}"
    );
    assert_eq!(origin(&outcome, failed), "timeline");
    // A drain asks again and again: only its end is worth a warning.
    let warned = warnings(&outcome);
    assert!(warned.len() == 1 && warned[0].1.contains("before all pods had gone: still there"), "{warned:?}");
    let denied = of_kind(&outcome, "eviction_denied");
    assert!(!denied.is_empty());
    for event in denied {
        assert_eq!(reason(event), "Cannot evict pod as it would violate the pod's disruption budget.");
        assert_eq!(origin(&outcome, event), "timeline");
    }
}

#[test]
fn what_did_not_come_about_is_warned_of_and_nothing_else() {
    let budget = "{ apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: { name: all, namespace: istio-system }, spec: { minAvailable: 2, selector: { matchLabels: { \
                  istio: edge } } } }";
    let timeline = format!("{{ at: 5s, apply: {{ inline: {budget} }} }}, {{ at: 10s, evict: {{ pod: oldest }} }}");
    let denied = Drill { timeline: &timeline, ..USUAL }.run();
    let warned = warnings(&denied);
    assert!(warned.len() == 1 && warned[0].1.ends_with("was denied by the budget istio-system/all"), "{warned:?}");
    // A rollout that is too long for the run, and one that is not.
    let timeline = "{ at: 89s, restart: {} }";
    let open = Drill { timeline, ..USUAL }.run();
    let warned = warnings(&open);
    assert!(warned.len() == 1 && warned[0].0.starts_with("rollout of istio-system/istio-edge"), "{warned:?}");
    let complete = Drill { timeline: "{ at: 5s, restart: {} }, { at: 40s, evict: { pod: oldest } }", ..USUAL }.run();
    assert_eq!(warnings(&complete), []);
}

#[test]
fn a_rollout_that_recreates_is_as_long_as_its_gap() {
    let timeline = "{ at: 10s, restart: {} }";
    let recreated = Drill { strategy: "type: Recreate", timeline, ..USUAL }.run();
    let [rollout] = &recreated.run.results.rollouts[..] else { panic!("one rollout") };
    let took_ms = rollout.duration_ms.expect("it is complete");
    // The hook takes 20 s, the start 3 s, the first probe a moment.
    assert!((23_000..30_000).contains(&took_ms), "{took_ms} ms");
    let seconds = |event: &Event| event.at.as_nanos() / 1_000_000;
    let (first, last) =
        (of_kind(&recreated, "pod_terminating")[0], *of_kind(&recreated, "pod_ready").last().expect("new pods"));
    assert!(rollout.start_ms <= seconds(first) && took_ms >= seconds(last) - seconds(first));
    assert!(recreated.run.results.totals.dropped > 100, "nobody serves in the gap");
    // Beside it a rolling update, which never waits for an end.
    let rolled = Drill { timeline, ..USUAL }.run();
    assert!(rolled.run.results.rollouts[0].duration_ms.expect("it is complete") < took_ms);
}

#[test]
fn local_volumes_and_a_pods_own_word_keep_its_node_from_the_autoscaler() {
    let away = "{ at: 15m, phase: late }";
    let base = Drill { duration: "16m", autoscaler: "autoscaler: { max: 3, min: 1 }", timeline: away, ..USUAL };
    let word = |word: &'static str| match word {
        "true" => "cluster-autoscaler.kubernetes.io/safe-to-evict: \"true\"",
        _ => "cluster-autoscaler.kubernetes.io/safe-to-evict: \"false\"",
    };
    let disk = "{ name: d, emptyDir: {} }";
    for (annotations, volumes, flags, removed) in [
        ("", "", "", 2),
        (word("false"), "", "", 1),
        ("", disk, "", 1),
        (word("true"), disk, "", 2),
        ("", disk, ", skipNodesWithLocalStorage: false", 2),
        ("", "{ name: m, emptyDir: { medium: Memory } }", "", 2),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes: \"d,e\"", disk, "", 2),
    ] {
        let autoscaler = format!("autoscaler: {{ max: 3, min: 1{flags} }}");
        let outcome = Drill { annotations, volumes, autoscaler: &autoscaler, ..base }.run();
        // The third node is empty; of the two with a pod one could go.
        assert_eq!(of_kind(&outcome, "node_removed").len(), removed, "{annotations} {volumes} {flags}");
    }
}
