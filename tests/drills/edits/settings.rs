//! Edits of settings that decide who gets what: persistence, weights, draining, zones of targets, and the listeners of the Gateway API.

use super::{Drill, PREFIX, annotate, check_lost, count, shares};

#[test]
fn a_client_keeps_to_its_target_from_when_persistence_is_on() {
    let with = |timeline: &[&str], annotations: &[(&str, &str)]| {
        let mut drill = Drill::annotated(timeline, annotations);
        drill.second = "1/s";
        shares(&drill.run())
    };
    let even = with(&[&annotate("20s", "name", "another")], &[("persistence-timeout", "0")]);
    assert!(even[0].abs_diff(even[1]) <= 2, "{even:?}");
    // Even for 24 s, one pod for 36 s.
    let kept = with(&[&annotate("20s", "persistence-timeout", "3600")], &[]);
    assert!(kept[0].abs_diff(600) <= 60 && kept[1].abs_diff(2400) <= 80, "{kept:?}");
    // And the other way round.
    let freed = with(&[&annotate("20s", "persistence-timeout", "0")], &[("persistence-timeout", "3600")]);
    assert!(freed[0].abs_diff(900) <= 60 && freed[1].abs_diff(2100) <= 80, "{freed:?}");
}

#[test]
fn weights_that_are_not_to_be_written_stay_as_they_were_from_then_on() {
    let of = |edit: Option<&str>| {
        let scale = "{ at: 20s, set: { \"IstioGateway/istio-system/edge.spec.replicaCount\": 3 } }".to_owned();
        let entries: Vec<String> =
            edit.map(|value| annotate("10s", "ignore-weight-update", value)).into_iter().chain([scale]).collect();
        let timeline: Vec<&str> = entries.iter().map(String::as_str).collect();
        let mut drill = Drill::annotated(&timeline, &[("scheduler", "wrr")]);
        let nodes = "serviceAnnotations: { service.beta.kubernetes.io/backend-type: ecs,";
        drill.service = drill.service.replace("serviceAnnotations: {", nodes);
        drill.service.push_str("\n  externalTrafficPolicy: Local");
        let outcome = drill.run();
        let mut shares: Vec<u64> = outcome.run.results.pods.iter().map(|pod| pod.requests).collect();
        shares.sort_unstable();
        shares
    };
    // A CLB's controller reads the word in any case of letters.
    let (heeded, ignored) = (of(None), of(Some("On")));
    assert!(heeded.len() == 3 && ignored.len() == 3);
    // Two pods on a node of weight two get as much as the one elsewhere; on one of weight one each gets half of that.
    let last = |shares: &[u64]| shares[2];
    assert!(last(&ignored) > last(&heeded) + 300, "{heeded:?} and {ignored:?}");
}

#[test]
fn draining_that_is_switched_on_holds_for_targets_that_go_later() {
    let cut = |edit: bool, at_start: bool| {
        let on = format!(
            "{{ at: 10s, set: {{ \"IstioGateway/istio-system/edge.spec.serviceAnnotations[{PREFIX}-connection-drain]\": \"on\", \
             \"IstioGateway/istio-system/edge.spec.serviceAnnotations[{PREFIX}-connection-drain-timeout]\": \"10\" }} }}"
        );
        let mut timeline = vec!["{ at: 20s, restart: {} }"];
        if edit {
            timeline.insert(0, &on);
        }
        let annotations = [("connection-drain", "on"), ("connection-drain-timeout", "10")];
        let mut drill = Drill::annotated(&timeline, if at_start { &annotations } else { &[] });
        drill.clients = "connections: 20,";
        let outcome = drill.run();
        let first = outcome.log.events().iter().find(|event| event.kind == "target_deregistered").expect("one goes");
        let drained = outcome.log.events().iter().find(|event| event.kind == "target_drained");
        drained.map(|event| event.at.since(first.at).as_secs())
    };
    assert_eq!(cut(false, false), Some(0), "cut at once");
    assert_eq!(cut(false, true), Some(10));
    assert_eq!(cut(true, false), Some(10), "as if it had been on from the start");
}

#[test]
fn zones_that_are_closed_to_each_other_lose_what_has_no_target_of_its_own() {
    let lost = |name: &str, value: &str| {
        let scale = "{ at: 35s, set: { \"IstioGateway/istio-system/edge.spec.replicaCount\": 1 } }";
        let edit = annotate("20s", name, value);
        let mut drill =
            Drill::annotated(&[&edit, scale], &[("zone-maps", "a:vsw-a,b:vsw-b"), ("cross-zone-enabled", "on")]);
        drill.service.push_str("\n  loadBalancerClass: alibabacloud.com/nlb\n  affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [ { topologyKey: topology.kubernetes.io/zone, labelSelector: { matchLabels: { istio: edge } } } ] } }");
        drill.run()
    };
    let closed = lost("cross-zone-enabled", "off");
    let nobody: u64 =
        closed.run.results.causes.iter().filter(|cause| cause.code == "GD4105").map(|cause| cause.count).sum();
    // From some 40 s on half of 100/s.
    assert!((800..1100).contains(&nobody), "{nobody}: {:?}", super::causes(&closed.run.results));
    let open = lost("name", "another");
    assert!(open.run.results.causes.iter().all(|cause| cause.code != "GD4105"));
}

/// A Gateway of the Gateway API for which Istio makes a Deployment and a Service.
const MADE: &str = r#"apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge, namespace: default }
spec:
  gatewayClassName: istio
  listeners: [ { name: http, port: 80, protocol: HTTP }, { name: alt, port: 8080, protocol: HTTP } ]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: { name: shop, namespace: default }
spec:
  parentRefs: [ { name: edge } ]
  hostnames: [shop.example.com]
  rules: [ { backendRefs: [ { name: web, port: 80 } ] } ]
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { selector: { app: web }, ports: [ { name: http, port: 80, targetPort: 8080 } ] }
"#;

fn made(timeline: &[&str]) -> Drill {
    let mut drill = Drill::new(timeline);
    drill.manifest = MADE;
    drill
}

#[test]
fn a_listener_of_a_gateway_goes_at_its_pods_and_then_at_its_balancer() {
    let listeners = |at: &str, names: &str| {
        format!("{{ at: {at}, set: {{ \"Gateway/default/edge.spec.listeners\": [ {names} ] }} }}")
    };
    let (http, alt) = ("{ name: http, port: 80, protocol: HTTP }", "{ name: alt, port: 8080, protocol: HTTP }");
    let gone = made(&[&listeners("20s", http)]);
    let outcome = gone.run();
    check_lost(&outcome, &[("GD4118", 190), ("GD4117", 1800)], 2);
    let lines: Vec<_> =
        outcome.run.results.causes.iter().filter_map(|cause| cause.source.as_ref().and_then(|it| it.line)).collect();
    assert!(lines.iter().all(|line| *line == gone.line("at: 20s")), "{lines:?}");
    assert!(outcome.run.results.rollouts.is_empty(), "nothing restarts");
    // It comes back when the balancer has its listener again.
    let outcome = made(&[&listeners("20s", http), &listeners("40s", &format!("{http}, {alt}"))]).run();
    check_lost(&outcome, &[("GD4118", 190), ("GD4117", 1000)], 2);
    assert_eq!(count(&outcome, "listener_added"), 1);
}

#[test]
fn a_route_of_the_gateway_api_whose_service_goes_answers_500() {
    let drill = made(&["{ at: 20s, delete: { service: default/web } }"]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4208", 3980)], 4);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!((source.line, source.path.as_str()), (Some(drill.line("at: 20s")), "spec.timeline.delete.service"));
}

#[test]
fn a_route_of_the_gateway_api_to_a_service_that_nobody_has_answers_500() {
    let edit = "{ at: 20s, set: { \"HTTPRoute/default/shop.spec.rules[0].backendRefs\": [ { name: web, port: 80, weight: 3 }, { name: wbe, port: 80 } ] } }";
    let drill = made(&[edit]);
    let outcome = drill.run();
    let lost = outcome.run.results.totals.dropped;
    check_lost(&outcome, &[("GD4208", lost)], 0);
    // A quarter of 3,980, give or take four standard deviations of 27.
    assert!(lost.abs_diff(995) <= 109, "{lost}");
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!((source.line, source.path.as_str()), (Some(drill.line("at: 20s")), "spec.rules"));
    let told = super::warnings(&outcome);
    assert!(told.contains("no Service is called `default/wbe` (ResolvedRefs: False, BackendNotFound)"), "{told}");
    // Its routes are deleted: 404.
    let gone = made(&["{ at: 20s, delete: { httpRoute: default/shop } }"]).run();
    check_lost(&gone, &[("GD4205", 3980)], 4);
    // The Gateway that made the pods is not deleted alone.
    let told = made(&["{ at: 20s, delete: { gateway: default/edge } }"]).load().err().unwrap_or_default();
    assert!(told.contains("write delete: {} for the gateway as a whole"), "{told}");
}
