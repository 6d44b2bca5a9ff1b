//! Whole drills with machines that shut down.
//!
//! Goal: with time for its pods a machine ends them in order, and what is lost is lost as at any end of a gateway, not with its node; but endpoints stay until
//! the end, so a hook that waits for balancers waits for nothing. Method: small scenarios from memory, run to their end.

use crate::scenarios::loaded;
use crate::shop::{edge_behind_nlb, new_clients, ran, scenario_head, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::engine::Event;
use gatedrill::record::results::FidelityStatus;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("shutdown", "  duration: 90s\n  seed: 5\n"),
    r#"  cluster:
    version: VERSION
    nodes: [ { name: pool, count: 3, zones: [a, b], allocatable: { cpu: "4", memory: 8Gi } } ]
    kubelet: { KUBELET }
    timings: { podStart: 3s }
  loadBalancer: { controllerLatency: 2s }
  backends: [ { service: default/web } ]
  load:
"#,
    new_clients!("100/s"),
    r#"  timeline: [ { at: 20s, shutdownNode: { node: busiest OPTIONS } } ]
"#
);

const MANIFEST: &str = concat!(
    edge_behind_nlb!(
        "\n  name: edge\n  namespace: istio-system\n  annotations: { asm.alibabacloud.com/gateway-drain-timeout-seconds: \"20\" }",
        "3",
        "",
        "eni"
    ),
    shop_of_istio_edge!()
);

fn load(version: &str, kubelet: &str, options: &str) -> Result<Scenario, String> {
    let scenario = SCENARIO.replace("VERSION", version).replace("KUBELET", kubelet).replace("OPTIONS", options);
    loaded(&scenario, MANIFEST, &[], None).map_err(|problems| problems.to_string())
}

fn drill(kubelet: &str) -> Outcome {
    ran(load("\"1.33\"", kubelet, ""))
}

fn seconds_of(outcome: &Outcome, kind: &str) -> Vec<u64> {
    let of_kind = |event: &&Event| event.kind == kind;
    outcome.log.events().iter().filter(of_kind).map(|event| event.at.as_nanos() / 1_000_000_000).collect()
}

#[test]
fn time_for_pods_turns_a_lost_node_into_an_end_and_the_balancer_still_hears_of_it_last() {
    let lost = drill("");
    let codes = |outcome: &Outcome| -> Vec<String> {
        outcome.run.results.causes.iter().map(|cause| cause.code.clone()).collect()
    };
    assert_eq!(codes(&lost), ["GD4110"]);
    let source = lost.run.results.causes[0].source.clone().expect("a line");
    assert_eq!(source.path, "spec.timeline");
    assert!(source.value.as_deref().is_some_and(|text| text.starts_with("shut node ")), "{source:?}");
    let outcome = drill("shutdownGracePeriod: 40s, shutdownGracePeriodCriticalPods: 10s");
    // The gateway drains for its 20 s, which the group's 30 s allow, and the machine goes then.
    assert_eq!((seconds_of(&outcome, "sigterm"), seconds_of(&outcome, "node_died")), (vec![20], vec![40]));
    assert!(!codes(&outcome).contains(&"GD4110".to_owned()), "{:?}", codes(&outcome));
    // Nobody deletes the pod, so its endpoint is told of at the end of its process for the first time.
    assert_eq!(seconds_of(&outcome, "pod_terminating"), [] as [u64; 0]);
    assert_eq!(seconds_of(&outcome, "endpoint").into_iter().find(|second| *second > 0), Some(40));
    // The balancer takes its target out two seconds later: what it sends there meanwhile is refused, and swallowed once the pod has no network any more.
    let lost = &outcome.run.results;
    assert_eq!(codes(&outcome), ["GD4101", "GD4302"], "{:?}", lost.causes);
    let dropped = lost.totals.dropped;
    assert!((50..=80).contains(&dropped), "a third of 100/s for two seconds: {dropped}");
    assert_eq!(outcome.run.seconds.last().and_then(|second| second.gauge.pods_ready), Some(3));
    // It is shown as on its way out from when it was told.
    assert_eq!(lost.pods.iter().filter_map(|pod| pod.terminating_ms).collect::<Vec<_>>(), [20_000]);
}

#[test]
fn too_little_time_cuts_the_drain_off_and_the_node_is_lost_after_all() {
    let outcome = drill("shutdownGracePeriodByPodPriority: [ { priority: 0, shutdownGracePeriodSeconds: 5 } ]");
    assert_eq!((seconds_of(&outcome, "sigterm"), seconds_of(&outcome, "node_died")), (vec![20], vec![25]));
    let codes: Vec<&str> = outcome.run.results.causes.iter().map(|cause| cause.code.as_str()).collect();
    assert!(codes.contains(&"GD4110"), "{codes:?}");
}

#[test]
fn settings_that_no_kubelet_starts_with_are_refused_and_none_is_warned_of() {
    let both = "shutdownGracePeriod: 30s, shutdownGracePeriodByPodPriority: [ { priority: 0, shutdownGracePeriodSeconds: 5 } ]";
    for (version, kubelet, expected) in [
        (
            "\"1.33\"",
            "shutdownGracePeriod: 10s, shutdownGracePeriodCriticalPods: 11s",
            "is longer than shutdownGracePeriod",
        ),
        ("\"1.33\"", "shutdownGracePeriodCriticalPods: 1s", "is longer than shutdownGracePeriod"),
        ("\"1.33\"", "shutdownGracePeriod: 999ms", "either zero or at least a second"),
        ("\"1.33\"", "shutdownGracePeriod: 30", "has no unit"),
        ("\"1.33\"", both, "cannot both be set"),
        (
            "\"1.23\"",
            "shutdownGracePeriodByPodPriority: [ { priority: 0, shutdownGracePeriodSeconds: 5 } ]",
            "does not go by priorities",
        ),
        (
            "\"1.33\"",
            "shutdownGracePeriodByPodPriority: [ { priority: 0, shutdownGracePeriodSeconds: 5 }, { priority: 0, shutdownGracePeriodSeconds: 6 } ]",
            "two groups begin at priority 0",
        ),
        (
            "\"1.33\"",
            "shutdownGracePeriodByPodPriority: [ { priority: 0 } ]",
            "shutdownGracePeriodSeconds: this is missing",
        ),
        ("\"1.33\"", "shutdownGracePeriods: 1s", "`shutdownGracePeriods` is not a field here"),
        ("\"1.33\"", "kubeAPIQPS: 0", "cluster.kubelet.kubeAPIQPS"),
    ] {
        let told = load(version, kubelet, "").err().unwrap_or_else(|| panic!("not refused: {expected}"));
        assert!(told.contains(expected) && told.contains(".yaml:"), "{expected} is not in {told}");
    }
    for (version, kubelet) in [
        ("\"1.33\"", "shutdownGracePeriod: 11s, shutdownGracePeriodCriticalPods: 11s"),
        ("\"1.33\"", "shutdownGracePeriod: 1s"),
        ("\"1.24\"", "shutdownGracePeriodByPodPriority: [ { priority: 0, shutdownGracePeriodSeconds: 5 } ]"),
    ] {
        let scenario = load(version, kubelet, ", for: 1m").unwrap_or_else(|problems| panic!("{problems}"));
        assert!(is_warned(&scenario, "drain the node before it shuts down"), "{kubelet}");
        assert!(!is_warned(&scenario, "no time for pods"), "{kubelet}");
    }
    assert!(is_warned(&load("\"1.33\"", "", "").expect("it is whole"), "no time for pods"));
    let told = load("\"1.33\"", "", ", grace: 1s").err();
    assert!(told.is_some_and(|told| told.contains("`grace` is not a field here")));
}

fn is_warned(scenario: &Scenario, text: &str) -> bool {
    let mut rows = scenario.world.fidelity.iter().filter(|row| row.path.starts_with("shutdownNode"));
    rows.any(|row| {
        let has_text = row.note.as_ref().is_some_and(|note| note.contains(text));
        has_text && row.status == FidelityStatus::Warning && row.line.is_some()
    })
}
