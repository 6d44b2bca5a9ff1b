//! Pods with containers beside the gateway's: their images, their readiness and their hooks count for the pod.
//!
//! Method: a restart of one pod, and the same without the second container; what the pod's own life shows is compared.

use crate::scenarios::loaded;
use crate::shop::{ran, scenario_head, shop_of_istio_edge};
use gatedrill::record::results::{FidelityStatus, Pod, Results};
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("beside", "  duration: 90s\n"),
    r#"  cluster:
    badImages: [ BAD ]
    nodes: [ { name: pool, count: 1, zones: [a] } ]
    timings: { podStart: 2s, imagePull: 5s, initContainer: 1s, sandboxRemoval: 0s, schedule: 0s }
  backends: [ { service: default/web, serviceTime: 5ms } ]
  load: [ { name: new, rate: 5/s, clients: { reuse: none }, mix: [ { get: "http://shop.example.com/" } ] } ]
  timeline: [ { at: 5s, TIMELINE } ]
"#
);

const MANIFEST: &str = concat!(
    r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 1
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge } }
    spec:
      containers:
        - { name: istio-proxy, image: "proxy:1", ports: [ { containerPort: 80 } ] }
        # MORE
---
apiVersion: v1
kind: Service
metadata: { name: edge, namespace: istio-system }
spec: { type: LoadBalancer, selector: { istio: edge }, ports: [ { name: http, port: 80 } ] }
"#,
    shop_of_istio_edge!()
);

const RESTART: &str = "restart: {}";
const IMAGE: &str = "set: { \"target.spec.template.spec.containers[side].image\": \"side:2\" }";

fn load(more: &str, bad: &str, timeline: &str) -> Result<Scenario, String> {
    let scenario = SCENARIO.replace("BAD", bad).replace("TIMELINE", timeline);
    let manifest = MANIFEST.replace("# MORE", if more.is_empty() { "# nothing" } else { more });
    loaded(&scenario, &manifest, &[], None).map_err(|problems| problems.to_string())
}

#[track_caller]
fn results(more: &str, bad: &str, timeline: &str) -> Results {
    let outcome = ran(load(more, bad, timeline));
    let totals = &outcome.run.results.totals;
    assert_eq!(totals.sent, totals.ok + totals.backend_error + totals.dropped);
    outcome.run.results
}

/// The first pod and the second.
fn pods(results: &Results) -> (Pod, Pod) {
    let mut pods = results.pods.clone();
    pods.sort_by_key(|pod| pod.created_ms);
    assert_eq!(pods.len(), 2);
    (pods[0].clone(), pods[1].clone())
}

fn side(more: &str) -> String {
    format!("- {{ name: side, image: \"side:1\", {more} }}")
}

/// From the new pod's start to its readiness, in whole seconds, rounded.
fn until_ready(more: &str) -> Option<u64> {
    let (_, new) = pods(&results(more, "", RESTART));
    let (started, ready) = (new.started_ms.expect("it starts"), new.ready_ms?);
    Some((ready - started + 500) / 1000)
}

#[test]
fn a_pod_is_ready_when_its_last_container_is() {
    assert_eq!(until_ready(""), Some(0));
    assert_eq!(until_ready(&side("")), Some(0), "without a probe it is ready as soon as it runs");
    let probe = |delay: u32| {
        side(&format!("readinessProbe: {{ tcpSocket: {{ port: 9 }}, initialDelaySeconds: {delay}, periodSeconds: 1 }}"))
    };
    assert_eq!(until_ready(&probe(0)), Some(0));
    let late = until_ready(&probe(20)).expect("it gets ready");
    assert!((20..=21).contains(&late), "{late}");
    assert_eq!(until_ready(&probe(200)), None, "the old pod stays, for the new one never is");
    let startup = side("startupProbe: { tcpSocket: { port: 9 }, initialDelaySeconds: 10, periodSeconds: 1 }");
    let late = until_ready(&startup).expect("it gets ready");
    assert!((10..=11).contains(&late), "{late}");
}

#[test]
fn a_sidecar_that_is_not_ready_keeps_its_pod_from_it() {
    let sidecar = |delay: u32| {
        format!(
            "- {{ name: other, image: \"proxy:1\" }}\n      initContainers: [ {{ name: side, image: \"side:1\", restartPolicy: Always, \
             readinessProbe: {{ tcpSocket: {{ port: 9 }}, initialDelaySeconds: {delay}, periodSeconds: 1 }} }} ]"
        )
    };
    assert_eq!(until_ready(&sidecar(0)), Some(0));
    let late = until_ready(&sidecar(15)).expect("it gets ready");
    // Its delay counts from its own start, which was two seconds before.
    assert!((12..=16).contains(&late), "{late}");
}

#[test]
fn a_pod_ends_when_its_last_container_has() {
    let end = |more: &str| {
        let (old, _) = pods(&results(more, "", RESTART));
        let (from, to) = (old.terminating_ms.expect("it is deleted"), old.gone_ms.expect("it is gone"));
        (to - from) / 1000
    };
    let sleep =
        |seconds: u32| side(&format!("lifecycle: {{ preStop: {{ exec: {{ command: [sleep, \"{seconds}\"] }} }} }}"));
    let alone = end("");
    assert_eq!(end(&side("")), alone);
    assert_eq!(end(&sleep(1)), alone, "its hook is over before the gateway is");
    assert!(alone < 20, "{alone}");
    assert_eq!((end(&sleep(20)), end(&sleep(60))), (20, 30), "the grace is 30 s");
}

#[test]
fn images_of_all_containers_are_pulled() {
    let (_, new) = pods(&results(&side(""), "", IMAGE));
    let ready = new.ready_ms.expect("it gets ready");
    assert!(
        ready - new.started_ms.expect("it starts") >= 4_500,
        "the second image is pulled when the first container runs"
    );
    // One that cannot be pulled keeps the pod from being ready, and the old one stays.
    let bad = results(&side(""), "\"side:2\"", IMAGE);
    let (old, new) = pods(&bad);
    assert_eq!((old.terminating_ms, new.ready_ms, bad.totals.dropped), (None, None, 0));
    let unknown = load(&side(""), "\"side:3\"", IMAGE).map(|_| ()).expect_err("nobody asks for it");
    assert!(unknown.contains("no pod ever asks for `side:3`"), "{unknown}");
}

#[test]
fn what_is_not_simulated_of_a_further_container_is_noted() {
    let more = side(
        "livenessProbe: { tcpSocket: { port: 9 } }, readinessProbe: { tcpSocket: { port: 9 } }, env: [ { name: MINIMUM_DRAIN_DURATION, value: 1s } ], \
         resources: { limits: { cpu: 1, memory: 1Gi }, requests: { cpu: 100m } }, lifecycle: { preStop: { sleep: { seconds: 3 } } }",
    );
    let fidelity = results(&more, "", RESTART).fidelity;
    for (path, status) in [
        ("containers[1]", FidelityStatus::Approximated),
        ("containers[1].livenessProbe.tcpSocket.port", FidelityStatus::Ignored),
        ("containers[1].readinessProbe.tcpSocket.port", FidelityStatus::Approximated),
        ("containers[1].env[0].value", FidelityStatus::Ignored),
        ("containers[1].resources.limits.memory", FidelityStatus::Ignored),
        ("containers[1].resources.requests.cpu", FidelityStatus::Modelled),
        ("containers[1].lifecycle.preStop.sleep.seconds", FidelityStatus::Approximated),
    ] {
        let rows: Vec<_> = fidelity.iter().filter(|row| row.path.ends_with(path)).collect();
        assert!(!rows.is_empty() && rows.iter().all(|row| row.status == status), "{path}: {rows:?}");
        assert!(rows.iter().all(|row| row.line.is_some()), "{path}: {rows:?}");
    }
    assert!(!fidelity.iter().any(|row| row.path.ends_with("containers[0]")), "the gateway's own is simulated");
}
