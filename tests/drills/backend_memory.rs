//! Whole drills about the memory of backends: who sees it, and who ends for it.
//!
//! Goal: the autoscaler, the container's limit and the node's memory go by the same figure, each on both sides of its threshold. Method: small scenarios from
//! memory, run to their end.

use crate::scenarios::loaded;
use crate::shop::{count, edge_behind_nlb, new_clients, ran, scenario_head, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("memory", "  duration: 100s\n  seed: 5\n"),
    r#"  cluster:
    nodes: [ { name: pool, count: 1, zones: [a, b], allocatable: { cpu: "8", memory: 4Gi } } ]
    timings: { podStart: 3s }
  backends: [ { service: default/web, BACKEND } ]
  load:
"#,
    new_clients!("2/s"),
    r#"  timeline: [ { at: 5s, phase: under-way } ]
"#
);

const MANIFEST: &str = concat!(
    edge_behind_nlb!("1"),
    r#"---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: default }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { containers: [ { name: web, image: web, resources: { requests: { cpu: 100m, memory: 128Mi }, limits: { memory: LIMIT } } } ] }
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: web, namespace: default }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: web }
  minReplicas: 2
  maxReplicas: MOST
  metrics: [ { type: Resource, resource: { name: memory, target: { type: Utilization, averageUtilization: 50 } } } ]
"#,
    shop_of_istio_edge!()
);

const MIB: u64 = 1 << 20;

fn load(memory: &str, limit: &str, most: u32) -> Result<Scenario, String> {
    let backend = format!("deployment: default/web, serviceTime: 1ms{memory}");
    let manifest = MANIFEST.replace("LIMIT", limit).replace("MOST", &most.to_string());
    loaded(&SCENARIO.replace("BACKEND", &backend), &manifest, &[], None).map_err(|problems| problems.to_string())
}

fn drill(memory: &str, limit: &str, most: u32) -> Outcome {
    ran(load(memory, limit, most))
}

/// Events of a kind whose data contain a text.
fn count_with(outcome: &Outcome, kind: &str, text: &str) -> usize {
    let of_kind = outcome.log.events().iter().filter(|event| event.kind == kind);
    of_kind.filter(|event| format!("{:?}", event.data).contains(text)).count()
}

#[test]
fn an_autoscaler_goes_by_the_memory_of_a_backend_and_misses_what_is_not_described() {
    // Half of 128 MiB is wanted: within a tenth of that nothing changes, and above it more pods hold as much each.
    for (base, sizes) in [(64 * MIB, 2), (70 * MIB, 2), (72 * MIB, 4)] {
        let outcome = drill(&format!(", memory: {{ base: {base}B }}"), "1Gi", 4);
        let steps = &outcome.run.results.autoscaler;
        assert!(steps.iter().all(|step| step.desired >= 2), "{base}");
        assert_eq!(steps.last().map(|step| step.desired), Some(sizes), "{base}: {:?}", steps.last());
    }
    let outcome = drill("", "1Gi", 4);
    assert!(count_with(&outcome, "hpa_evaluated", "memory <unknown>/50%") > 0);
    assert_eq!(count(&outcome, "hpa_scaled"), 0);
    let scenario = load("", "1Gi", 4).expect("it is whole");
    let mut notes = scenario.world.fidelity.iter().filter_map(|row| row.note.as_deref());
    assert!(notes.any(|note| note.contains("its memory with backends[].memory")));
    let scenario = load(", memory: { base: 64MiB }", "1Gi", 4).expect("it is whole");
    let mut notes = scenario.world.fidelity.iter().filter_map(|row| row.note.as_deref());
    assert!(!notes.any(|note| note.contains("its memory with backends[].memory")));
}

#[test]
fn a_backend_may_hold_its_limit_and_no_byte_more() {
    for (memory, is_killed) in [
        ("base: 200MiB", false),
        ("base: 209715201B", true),
        // One request at a time.
        ("base: 190MiB, perRequest: 10MiB", false),
        ("base: 190MiB, perRequest: 10485761B", true),
    ] {
        let outcome = drill(&format!(", memory: {{ {memory} }}"), "200Mi", 2);
        let killed = count_with(&outcome, "container_exited", "OOMKilled");
        assert_eq!(killed > 0, is_killed, "{memory}: {killed}");
        assert_eq!(outcome.run.results.totals.dropped > 0, is_killed, "{memory}");
    }
}

#[test]
fn backends_that_hold_more_than_their_node_has_are_ended_by_it() {
    // The gateway holds less than a hundred megabytes beside them.
    for (base, is_short) in [("1900MiB", false), ("2100MiB", true)] {
        let outcome = drill(&format!(", memory: {{ base: {base} }}"), "3Gi", 2);
        let ended = count(&outcome, "evicted_by_kubelet") + count(&outcome, "node_out_of_memory");
        assert_eq!(ended > 0, is_short, "{base}: {ended}");
    }
}

#[test]
fn memory_that_nobody_could_hold_is_refused_with_its_line() {
    for (memory, expected) in [
        (", memory: { perRequest: 1KiB }", "memory.base: this is missing"),
        (", memory: { base: 64 }", "has no unit"),
        (", memory: { base: 64MiB, perCluster: 1KiB }", "`perCluster` is not a field here"),
        (", memory: 64MiB", "a map is expected here"),
    ] {
        let told = load(memory, "1Gi", 4).err().unwrap_or_else(|| panic!("not refused: {expected}"));
        assert!(told.contains(expected) && told.contains(".yaml:"), "{expected} is not in {told}");
    }
    let scenario = SCENARIO.replace("BACKEND", "replicas: 2, memory: { base: 64MiB }");
    let told = loaded(&scenario, &MANIFEST.replace("LIMIT", "1Gi").replace("MOST", "4"), &[], None).err();
    assert!(told.is_some_and(|told| told.to_string().contains("its replicas are no pods")));
}

#[test]
fn a_limit_that_is_edited_holds_for_the_pods_of_its_revision() {
    let limit = "\"Deployment/default/web.spec.template.spec.containers[web].resources.limits.memory\"";
    for (edited, is_killed) in [("200Mi", false), ("199Mi", true)] {
        let timeline = format!("{{ at: 30s, set: {{ {limit}: {edited} }} }}");
        let scenario = SCENARIO.replace("{ at: 5s, phase: under-way }", &timeline);
        let scenario = scenario.replace("BACKEND", "deployment: default/web, memory: { base: 200MiB }");
        let manifest = MANIFEST.replace("LIMIT", "1Gi").replace("MOST", "2");
        let outcome = ran(loaded(&scenario, &manifest, &[], None));
        let killed = outcome
            .log
            .events()
            .iter()
            .filter(|event| event.kind == "container_exited" && format!("{:?}", event.data).contains("OOMKilled"));
        let first = killed.map(|event| event.at.as_nanos() / 1_000_000_000).next();
        assert_eq!(first.is_some(), is_killed, "{edited}: {first:?}");
        assert!(first.is_none_or(|at| at >= 30), "those of before have their own limit: {first:?}");
    }
}
