//! Edits that give the balancer other targets: the port of the pods, what targets are, and the gates of pods that wait for it.

use super::{Drill, check_lost, check_quiet, count, first_ms, ports};
use crate::shop::shop_of_istio_edge;
use gatedrill::drill::Outcome;

/// The first instant of an event about an object that is called so, in milliseconds.
fn first_of(outcome: &Outcome, kind: &str, object: &str) -> u64 {
    let event = outcome.log.events().iter().find(|event| event.kind == kind && event.object.ends_with(object));
    event.unwrap_or_else(|| panic!("no {kind} of {object}")).at.as_nanos() / 1_000_000
}

#[test]
fn a_target_port_that_changes_makes_targets_that_are_new() {
    let edit = ports("20s", &[(80, 8090), (8080, 8080)]);
    let drill = Drill::new(&[&edit]);
    let outcome = drill.run();
    // The gateway has moved after 200 ms, the balancer after 4 s; its new targets have passed three checks 4 s later.
    check_lost(&outcome, &[("GD4118", 190), ("GD4130", 200)], 2);
    check_quiet(&outcome);
    let nobody = outcome.run.results.causes.iter().find(|cause| cause.code == "GD4130").expect("it is there");
    assert_eq!(nobody.source.as_ref().and_then(|source| source.line), Some(drill.line("at: 20s")));
    assert_eq!(count(&outcome, "lb_listener_changed"), 1);
    assert_eq!(first_of(&outcome, "target_registered", ":8090"), 24_000);
    assert_eq!(first_of(&outcome, "target_deregistered", ":80"), 24_000);
    assert_eq!(first_of(&outcome, "target_healthy", ":8090"), first_ms(&outcome, "lb_listener_changed") + 4_000);
    // An NLB checks less often: twice, ten seconds apart. To targets that nobody has checked it sends nothing either.
    let mut nlb = Drill::annotated(&[&edit], &[("zone-maps", "a:vsw-a,b:vsw-b")]);
    nlb.service.push_str("\n  loadBalancerClass: alibabacloud.com/nlb");
    check_lost(&nlb.run(), &[("GD4118", 190), ("GD4130", 500)], 2);
    // Without a check the new ones are sent to at once.
    let unchecked = Drill::annotated(&[&edit], &[("health-check-switch", "off")]);
    check_lost(&unchecked.run(), &[("GD4118", 190)], 1);
}

#[test]
fn a_proxy_for_http_asks_the_new_targets_too() {
    let edit = ports("20s", &[(80, 8090), (8080, 8080)]);
    let ran = |checks: &str| {
        let listeners = ("protocol-port", "http:80,http:8080");
        let host = ("health-check-domain", "shop.example.com");
        Drill::annotated(&[&edit], &[listeners, ("health-check-flag", checks), host]).run()
    };
    // From the gateway's move on until the balancer's, 3.8 s, the former port is asked. Listeners for HTTP have no checks that nobody asked for.
    let unchecked = ran("off");
    check_lost(&unchecked, &[("GD4118", 190)], 1);
    check_quiet(&unchecked);
    // With them the new targets have to pass first.
    let checked = ran("on");
    check_lost(&checked, &[("GD4118", 190), ("GD4130", 200)], 2);
    check_quiet(&checked);
}

#[test]
fn only_the_port_that_changes_has_new_targets() {
    let outcome = Drill::new(&[&ports("20s", &[(80, 80), (8080, 8081)])]).run();
    check_lost(&outcome, &[("GD4118", 190), ("GD4130", 200)], 2);
    check_quiet(&outcome);
    // Pods that come later are targets of both.
    let rolled = Drill::new(&[&ports("20s", &[(80, 80), (8080, 8081)]), "{ at: 35s, restart: {} }"]).run();
    let plain = Drill::new(&["{ at: 35s, restart: {} }"]).run();
    let lost = |outcome: &Outcome| outcome.run.results.totals.dropped;
    assert!(lost(&rolled).abs_diff(lost(&plain) + 390) <= 20, "{} and {}", lost(&rolled), lost(&plain));
}

#[test]
fn connections_through_the_former_targets_meet_what_those_of_removed_ones_do() {
    let edit = ports("20s", &[(80, 8090), (8080, 8080)]);
    let cut = |annotations: &[(&str, &str)]| {
        let mut drill = Drill::annotated(&[&edit], annotations);
        // Whoever does not heed the gateway's wish that they leave.
        drill.clients = "connections: 4, honorConnectionClose: false,";
        let outcome = drill.run();
        (count(&outcome, "group_drained"), first_ms(&outcome, "group_drained"))
    };
    assert_eq!(cut(&[]), (1, 24_000));
    assert_eq!(cut(&[("connection-drain", "on"), ("connection-drain-timeout", "10")]), (1, 34_000));
}

#[test]
fn where_nodes_are_targets_the_pods_port_is_the_nodes_business() {
    let mut drill = Drill::new(&[&ports("20s", &[(80, 8090), (8080, 8080)])]);
    drill.service.push_str("\n  serviceAnnotations: { service.beta.kubernetes.io/backend-type: ecs }");
    let outcome = drill.run();
    // Nodes hear of it 300 ms after the gateway's pods.
    check_lost(&outcome, &[("GD4118", 15)], 1);
    assert_eq!(count(&outcome, "target_registered"), 2, "they are targets as before");
}

/// A gateway whose pods wait for their balancer.
const GATED: &str = concat!(
    r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 2
  strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge } }
    spec:
      readinessGates: [ { conditionType: service.readiness.alibabacloud.com/front } ]
      containers: [ { name: istio-proxy, image: proxy, ports: [ { containerPort: 80 } ] } ]
---
apiVersion: v1
kind: Service
metadata: { name: front, namespace: istio-system, annotations: { service.beta.kubernetes.io/backend-type: MODE } }
spec: { SERVICE, selector: { istio: edge }, ports: [ { name: http, port: 80 }, { name: alt, port: 8080 } ] }
"#,
    shop_of_istio_edge!(with "    - { port: { number: 8080, name: alt, protocol: HTTP }, hosts: [\"shop.example.com\"] }\n")
);

#[test]
fn gates_open_by_what_targets_are_by_then() {
    for (from, to) in [("eni", "ecs"), ("ecs", "eni"), ("eni", "eni"), ("ecs", "ecs")] {
        let edit = format!(
            "{{ at: 10s, set: {{ \"Service/istio-system/front.metadata.annotations[service.beta.kubernetes.io/backend-type]\": {to} }} }}"
        );
        let entries = if from == to { vec![] } else { vec![edit.as_str()] };
        let timeline: Vec<&str> = entries.into_iter().chain(["{ at: 20s, restart: {} }"]).collect();
        let mut drill = Drill::new(&timeline);
        let manifest = GATED.replace("MODE", from);
        (drill.manifest, drill.service) = (Box::leak(manifest.into_boxed_str()), "type: LoadBalancer".to_owned());
        let outcome = drill.run();
        let pods = &outcome.run.results.pods;
        assert_eq!(pods.len(), 4, "{from} to {to}: both were replaced");
        let rollouts = &outcome.run.results.rollouts;
        assert!(rollouts.iter().all(|rollout| rollout.complete), "{from} to {to}: {rollouts:?}");
    }
}

/// A gateway whose Service calls one port of its pods by name, and the other by number.
const NAMED: &str = concat!(
    r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 2
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge } }
    spec: { containers: [ { name: istio-proxy, image: proxy, ports: [ { name: web, containerPort: 80 } ] } ] }
---
apiVersion: v1
kind: Service
metadata: { name: front, namespace: istio-system, annotations: { service.beta.kubernetes.io/backend-type: MODE } }
spec: { SERVICE, selector: { istio: edge }, ports: [ { name: http, port: 80, targetPort: web }, { name: alt, port: 8080 } ] }
"#,
    shop_of_istio_edge!(with "    - { port: { number: 8080, name: alt, protocol: HTTP }, hosts: [\"shop.example.com\"] }\n")
);

fn named(mode: &str, kind: &str, timeline: &[&str]) -> Drill {
    let mut drill = Drill::new(timeline);
    (drill.manifest, drill.service) =
        (Box::leak(NAMED.replace("MODE", mode).into_boxed_str()), format!("type: {kind}"));
    drill
}

#[test]
fn a_name_that_no_container_of_the_gateway_has_leaves_its_port_without_targets() {
    let to = |at: &str, name: &str| {
        format!("{{ at: {at}, set: {{ \"Service/istio-system/front.spec.ports[0].targetPort\": {name} }} }}")
    };
    let (away, back) = (to("20s", "wbe"), to("40s", "web"));
    let drill = named("eni", "LoadBalancer", &[&away]);
    let outcome = drill.run();
    // The controller comes to it after 4 s: 50/s of one port, and none of the other. Who is under way just then is cut, as at a removed target.
    check_lost(&outcome, &[("GD4105", 50 * 36), ("GD4104", 1)], 1);
    check_quiet(&outcome);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!((source.line, source.path.as_str()), (Some(drill.line("at: 20s")), "spec.ports.targetPort"));
    assert!(
        super::warnings(&outcome).contains("port 80 leads to `wbe`, and no container of the gateway calls a port so")
    );
    assert_eq!((count(&outcome, "target_deregistered"), count(&outcome, "target_unhealthy")), (2, 0));
    // It comes back with targets that are new.
    let outcome = named("eni", "LoadBalancer", &[&away, &back]).run();
    check_lost(&outcome, &[("GD4105", 50 * 20), ("GD4130", 200), ("GD4104", 1)], 2);
    // Where nodes are the targets their kube-proxies refuse it, when they have heard of it: 500 ms.
    for (kind, clients) in [
        ("LoadBalancer", "reuse: none,"),
        ("NodePort", "reuse: none,"),
        ("ClusterIP", "location: cluster, reuse: none,"),
    ] {
        let mut drill = named("ecs", kind, &[&away]);
        drill.clients = clients;
        let outcome = drill.run();
        check_lost(&outcome, &[("GD4122", 1975)], 1);
        assert_eq!(outcome.run.results.totals.refused, outcome.run.results.totals.dropped, "{kind}");
        let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
        assert_eq!(source.line, Some(drill.line("at: 20s")), "{kind}");
        let mut mended = named("ecs", kind, &[&away, &back]);
        mended.clients = clients;
        check_lost(&mended.run(), &[("GD4122", 1000)], 1);
    }
    // From the start on it is a slip of the pen.
    let mut early = named("eni", "LoadBalancer", &[]);
    early.manifest = Box::leak(early.manifest.replace("targetPort: web", "targetPort: wbe").into_boxed_str());
    assert!(early.load().err().is_some_and(|told| told.contains("no container port is called as port 80 says")));
}
