//! Whole drills with pods that no controller has made.
//!
//! Goal: they serve behind their Service, a drain asks for `force`, and what takes them away takes them for good. Method: small scenarios from memory, run to
//! their end.

use crate::scenarios::loaded;
use crate::shop::{count, edge_behind_nlb, ran, scenario_head, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("bare", "  duration: 90s\n  seed: 5\n"),
    r#"  cluster:
    nodes: [ { name: pool, count: 2, zones: [a, b], allocatable: { cpu: "4", memory: 8Gi } } ]
    timings: { podStart: 3s }
  loadBalancer: { controllerLatency: 2s }
  backends: [ { service: default/web, BACKEND } ]
  load:
    - { name: new, rate: 40/s, arrivals: constant, clients: { reuse: none, timeout: 3s }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(edge_behind_nlb!("2"), shop_of_istio_edge!());

fn pod(name: &str, labels: &str, spec: &str) -> String {
    let container = "{ name: web, image: web, resources: { requests: { cpu: 500m, memory: 128Mi } } }";
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: default, labels: {{ {labels} }} }}\nspec: {{ {spec} \
         containers: [ {container} ] }}\n"
    )
}

fn load(backend: &str, timeline: &str, more: &str) -> Result<Scenario, String> {
    let scenario = SCENARIO.replace("BACKEND", backend).replace("TIMELINE", timeline);
    loaded(&scenario, &format!("{MANIFEST}{more}"), &[], None).map_err(|problems| problems.to_string())
}

fn drill(backend: &str, timeline: &str, more: &str) -> Outcome {
    ran(load(backend, timeline, more))
}

/// Two of them, on a node each.
fn two() -> String {
    let on = |node: u32| format!("nodeSelector: {{ kubernetes.io/hostname: pool-{node} }},");
    pod("web-1", "app: web", &on(1)) + &pod("web-2", "app: web", &on(2))
}

#[test]
fn bare_pods_serve_behind_their_service_until_a_drain_is_forced_and_then_for_good_no_more() {
    let backend = "pod: default/web-1, serviceTime: 5ms";
    let quiet = drill(backend, "{ at: 10s, phase: nothing }", &two());
    assert_eq!((quiet.run.results.totals.dropped, count(&quiet, "pod_created")), (0, 4));
    assert!(quiet.run.results.totals.sent > 3000);
    // Refused: nothing happens to them.
    let refused = drill(backend, "{ at: 10s, drainNode: { node: pool-1 } }", &two());
    let told = refused.log.events().iter().find(|event| event.kind == "node_drain_refused").expect("it is refused");
    let words = "cannot delete cannot delete Pods that declare no controller (use --force to override): default/web-1";
    assert!(format!("{:?}", told.data).contains(words), "{told:?}");
    assert_eq!((count(&refused, "evicted"), count(&refused, "pod_gone")), (0, 0));
    // Forced: of two one is left, and then none.
    let forced = drill(backend, "{ at: 10s, drainNode: { node: pool-1, force: true } }", &two());
    let gone = |name: &str| forced.log.events().iter().any(|event| event.kind == "pod_gone" && event.object == *name);
    assert!(gone("Pod/default/web-1") && !gone("Pod/default/web-2"));
    let both = "{ at: 10s, killPod: { pod: default/web-1 } }, { at: 40s, killPod: { pod: default/web-2 } }";
    let none = drill(backend, both, &two());
    let codes: Vec<&str> = none.run.results.causes.iter().map(|cause| cause.code.as_str()).collect();
    assert!(codes.contains(&"GD4201"), "no healthy upstream is left: {codes:?}");
    let last_ms = none.run.results.causes.iter().map(|cause| cause.last_ms).max().expect("losses");
    assert!(last_ms > 85_000, "nobody makes them anew: {last_ms}");
}

#[test]
fn a_pod_that_comes_in_mid_run_serves_too() {
    let object = "{ apiVersion: v1, kind: Pod, metadata: { name: web-9, namespace: default, labels: { app: web } }, spec: { containers: [ { name: web, \
                  image: web } ] } }";
    let timeline =
        format!("{{ at: 10s, apply: {{ inline: {object} }} }}, {{ at: 40s, killPod: {{ pod: default/web-1 }} }}");
    let outcome = drill("pod: default/web-1, serviceTime: 5ms", &timeline, &pod("web-1", "app: web", ""));
    assert_eq!(count(&outcome, "pod_created"), 4);
    let last_ms = outcome.run.results.causes.iter().map(|cause| cause.last_ms).max().unwrap_or(0);
    assert!(last_ms < 50_000, "the other one goes on: {:?}", outcome.run.results.causes);
    assert!(outcome.run.results.totals.dropped < 20);
}

#[test]
fn a_selector_that_is_edited_leads_to_other_bare_pods_or_to_none() {
    let pods = two() + &pod("green-1", "app: green", "");
    let moved = |to: &str| {
        let edit = format!("{{ at: 10s, set: {{ \"Service/default/web.spec.selector\": {{ app: {to} }} }} }}");
        drill("pod: default/web-1, serviceTime: 5ms", &edit, &pods)
    };
    let green = moved("green");
    assert_eq!(green.run.results.totals.dropped, 0, "{:?}", green.run.results.causes);
    let nobody = moved("blue");
    let codes: Vec<&str> = nobody.run.results.causes.iter().map(|cause| cause.code.as_str()).collect();
    assert_eq!(codes, ["GD4203"]);
    assert!(nobody.run.results.totals.dropped > 3000);
}

#[test]
fn a_pod_that_is_named_may_come_in_mid_run() {
    let object = "{ apiVersion: v1, kind: Pod, metadata: { name: web-1, namespace: default, labels: { app: web } }, spec: { containers: [ { name: web, \
                  image: web } ] } }";
    let timeline = format!("{{ at: 10s, apply: {{ inline: {object} }} }}");
    let outcome = drill("pod: default/web-1, serviceTime: 5ms", &timeline, "");
    let causes = &outcome.run.results.causes;
    let last_ms = causes.iter().map(|cause| cause.last_ms).max().expect("nobody serves before");
    assert!(last_ms < 30_000, "it serves: {causes:?}");
}

#[test]
fn what_bare_pods_cannot_be_is_refused_with_its_line() {
    let web = pod("web-1", "app: web", "");
    for (backend, timeline, more, expected) in [
        ("pod: default/web-2", "", web.clone(), "no Pod is called `default/web-2`"),
        ("pod: default/web-1", "", pod("web-1", "app: other", ""), "the Service default/web does not select it"),
        ("pod: default/web-1, replicas: 3", "", web.clone(), "each of its pods is one"),
        ("pod: default/web-1, zones: [a]", "", web.clone(), "its pods are in the zones of their nodes"),
        ("pod: default/web-1, deployment: default/web", "", web.clone(), "its replicas are a Deployment's"),
        (
            "pod: default/web-1",
            "",
            pod("web-1", "app: web", "nodeSelector: { disk: ssd },"),
            "no node has what is asked for here",
        ),
        (
            "pod: default/web-1",
            "",
            pod("web-1", "app: web", "priorityClassName: high,"),
            "no PriorityClass with name high",
        ),
        (
            "pod: default/web-1",
            "{ at: 1s, set: { \"Pod/default/web-1.spec.terminationGracePeriodSeconds\": 5 } }",
            web.clone(),
            "Pod default/web-1: spec: Forbidden: pod updates may not change fields other than an image",
        ),
        (
            "pod: default/web-1",
            "{ at: 1s, set: { \"Pod/default/web-1.spec.nodeName\": pool-2 } }",
            web.clone(),
            "pod updates may not change fields other than an image",
        ),
        (
            "pod: istio-system/lone",
            "",
            pod("lone", "app: istio-edge, istio: edge", "").replace("namespace: default", "namespace: istio-system"),
            "the Service istio-system/istio-edge in front selects this pod, which is a backend's",
        ),
    ] {
        let timeline = if timeline.is_empty() { "{ at: 1s, phase: nothing }" } else { timeline };
        let told = load(backend, timeline, &more).err().unwrap_or_else(|| panic!("not refused: {expected}"));
        assert!(told.contains(expected), "{expected} is not in {told}");
        assert!(told.contains(".yaml:"), "{told}");
    }
    // One whose Service has described replicas is no error, and is said to be left out.
    let scenario = load("replicas: 3", "{ at: 1s, phase: nothing }", &web).expect("it is whole");
    let left_out = scenario.world.fidelity.iter().find(|row| row.path == "Pod default/web-1");
    assert!(
        left_out.is_some_and(
            |row| row.note.as_ref().is_some_and(|note| note.contains("backends[].pod")) && row.line.is_some()
        )
    );
}

#[test]
fn a_pod_that_is_gone_is_made_anew_by_applying_it_again_and_one_that_is_there_stays() {
    let object = "{ apiVersion: v1, kind: Pod, metadata: { name: web-1, namespace: default, labels: { app: web } }, spec: { containers: [ { name: web, \
                  image: web, resources: { requests: { cpu: 500m, memory: 128Mi } } } ] } }";
    let again = |at: &str| format!("{{ at: {at}, apply: {{ inline: {object} }} }}");
    let kill = "{ at: 10s, killPod: { pod: default/web-1 } }";
    // Still on its way out, it stays what it is, as with `kubectl apply`: a grace of 30 s, of which its process needs nothing.
    for (timeline, made, unchanged) in [
        (format!("{kill}, {}", again("40s")), 2, 0),
        (again("40s"), 1, 1),
        (format!("{kill}, {}, {}", again("40s"), again("60s")), 2, 1),
    ] {
        let outcome = drill("pod: default/web-1, serviceTime: 5ms", &timeline, &pod("web-1", "app: web", ""));
        let of_it = |kind: &str| {
            let all = outcome.log.events().iter().filter(|event| event.kind == kind);
            all.filter(|event| event.object == "Pod/default/web-1").count()
        };
        assert_eq!((of_it("pod_created"), of_it("pod_unchanged")), (made, unchanged), "{timeline}");
        let last_ms = outcome.run.results.causes.iter().map(|cause| cause.last_ms).max().unwrap_or(0);
        assert!(last_ms < 60_000, "it serves again: {:?}", outcome.run.results.causes);
    }
}

#[test]
fn a_pod_may_name_its_node_and_no_other_than_there_is() {
    let named = |node: &str| pod("web-1", "app: web", &format!("nodeName: {node},"));
    let quiet = drill("pod: default/web-1, serviceTime: 5ms", "{ at: 10s, phase: nothing }", &named("pool-2"));
    let at = quiet.log.events().iter().find(|event| event.kind == "pod_scheduled" && event.object.ends_with("/web-1"));
    assert!(format!("{:?}", at.expect("it has a node").data).contains("pool-2"));
    assert_eq!(quiet.run.results.totals.dropped, 0);
    let told = load("pod: default/web-1", "{ at: 10s, phase: nothing }", &named("pool-3")).err().unwrap_or_default();
    assert!(told.contains("no node is called `pool-3`") && told.contains(".yaml:"), "{told}");
}

/// What is lost, and how often a container starts and ends by a signal.
fn edited(timeline: &str, pods: &str) -> (u64, usize, usize, Outcome) {
    let outcome = drill("pod: default/web-1, serviceTime: 5ms", timeline, pods);
    let started = outcome.log.events().iter().filter(|event| event.kind == "container_started");
    let started = started.filter(|event| event.object.starts_with("Pod/default/web-")).count();
    (outcome.run.results.totals.dropped, started, count(&outcome, "sigterm"), outcome)
}

fn set(at: &str, path: &str, value: &str) -> String {
    format!("{{ at: {at}, set: {{ \"Pod/default/web-1.{path}\": {value} }} }}")
}

#[test]
fn labels_that_are_edited_take_a_pod_out_of_its_service_and_back_and_nothing_restarts() {
    let leave = set("10s", "metadata.labels", "{ app: other }");
    let join = set("40s", "metadata.labels", "{ app: web, more: here }");
    // The other one serves all of it.
    let (lost, started, signals, outcome) = edited(&leave, &two());
    assert_eq!((lost, started, signals, count(&outcome, "pod_edited")), (0, 2, 0, 1));
    // Nobody is left for 30 s at 40/s, give or take what the gateway needs to hear of it: as long both times.
    let (lost, started, signals, outcome) = edited(&format!("{leave}, {join}"), &pod("web-1", "app: web", ""));
    assert_eq!((started, signals, count(&outcome, "pod_created")), (1, 0, 3));
    let codes: Vec<&str> = outcome.run.results.causes.iter().map(|cause| cause.code.as_str()).collect();
    assert_eq!(codes, ["GD4203"]);
    assert!(lost.abs_diff(1200) <= 20, "{lost}");
    let causes = &outcome.run.results.causes[0];
    assert!((10_000..11_500).contains(&causes.first_ms) && (40_000..41_500).contains(&causes.last_ms), "{causes:?}");
    // What keeps it in the Service changes nothing.
    assert_eq!(edited(&set("10s", "metadata.labels", "{ app: web, more: here }"), &two()).0, 0);
}

#[test]
fn an_image_that_is_edited_restarts_the_container_in_place_once_the_image_is_there() {
    let one = pod("web-1", "app: web", "nodeSelector: { kubernetes.io/hostname: pool-1 },");
    let other = set("10s", "spec.containers[0].image", "\"web:2\"");
    // Its process dies of the signal at once, and the image comes in no time.
    let (quick, started, signals, outcome) = edited(&other, &one);
    assert_eq!((started, signals, count(&outcome, "pod_created")), (2, 1, 3));
    assert!(quick <= 2, "{quick}");
    let told = outcome.log.events().iter().find(|event| event.kind == "sigterm").expect("a signal");
    assert!(format!("{:?}", told.data).contains("its definition changed"), "{told:?}");
    // The image is pulled when the container has ended: 4 s at 40/s.
    let slow = |bad: &str, timeline: &str| {
        let scenario = SCENARIO.replace("podStart: 3s", "podStart: 3s, imagePull: 4s");
        let scenario = scenario.replace("    timings", &format!("    badImages: [ {bad} ]\n    timings"));
        let text = scenario.replace("BACKEND", "pod: default/web-1, serviceTime: 5ms").replace("TIMELINE", timeline);
        ran(loaded(&text, &format!("{MANIFEST}{one}"), &[], None))
    };
    let pulled = slow("", &other);
    assert!(pulled.run.results.totals.dropped.abs_diff(160) <= 3, "{:?}", pulled.run.results.totals);
    // Who edits it back has the image there: 10 s lost in all if it cannot be pulled, and all that follows if nobody does.
    let typo = set("10s", "spec.containers[0].image", "\"web:typo\"");
    let back = slow("\"web:typo\"", &format!("{typo}, {}", set("20s", "spec.containers[0].image", "web")));
    assert!(back.run.results.totals.dropped.abs_diff(400) <= 3, "{:?}", back.run.results.totals);
    assert!(count(&back, "image_pull_failed") >= 1);
    let stuck = slow("\"web:typo\"", &typo);
    assert!(stuck.run.results.totals.dropped.abs_diff(80 * 40) <= 3, "{:?}", stuck.run.results.totals);
}

#[test]
fn an_edit_of_a_pod_that_is_gone_finds_nothing_and_an_apply_makes_it_anew() {
    let kill = "{ at: 10s, killPod: { pod: default/web-1 } }";
    let (_, started, _, outcome) =
        edited(&format!("{kill}, {}", set("40s", "metadata.labels", "{ app: web, a: b }")), &two());
    assert_eq!((started, count(&outcome, "nothing_found"), count(&outcome, "pod_edited")), (2, 1, 0));
}
