//! Edits of the Service in front that lead its clients elsewhere: other pods, another Service beside it.

use super::{Drill, check_lost, count, warnings};
use crate::shop::shop_of_istio_edge;

/// A gateway whose Deployment and Service are written, with another Deployment beside it.
pub(super) const WRITTEN: &str = concat!(
    r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  replicas: 2
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge, colour: blue } }
    spec: { containers: [ { name: istio-proxy, image: proxy, ports: [ { containerPort: 80 }, { containerPort: 8080 } ] } ] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: other, namespace: istio-system }
spec:
  replicas: 2
  selector: { matchLabels: { app: other } }
  template:
    metadata: { labels: { app: other, colour: green } }
    spec: { containers: [ { name: other, image: other } ] }
---
apiVersion: v1
kind: Service
metadata: { name: front, namespace: istio-system }
spec: { SERVICE, selector: { colour: blue }, ports: [ { name: http, port: 80 }, { name: alt, port: 8080 } ] }
"#,
    shop_of_istio_edge!(with "    - { port: { number: 8080, name: alt, protocol: HTTP }, hosts: [\"shop.example.com\"] }\n")
);

fn written(service: &str, clients: &'static str, timeline: &[&str]) -> Drill {
    let mut drill = Drill::new(timeline);
    (drill.manifest, drill.service, drill.clients) = (WRITTEN, service.to_owned(), clients);
    drill.target = "target: istio-system/edge";
    drill
}

fn select(at: &str, colour: &str) -> String {
    format!("{{ at: {at}, set: {{ \"Service/istio-system/front.spec.selector.colour\": {colour} }} }}")
}

#[test]
fn a_selector_that_leaves_the_gateway_leaves_the_balancer_without_targets() {
    let edit = select("20s", "nobody");
    let drill = written("type: LoadBalancer", "reuse: none,", &[&edit]);
    let outcome = drill.run();
    // 500 ms to the controller, 4 s to the balancer.
    check_lost(&outcome, &[("GD4105", 3550), ("GD4104", 2)], 2);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!((source.line, source.path.as_str()), (Some(drill.line("at: 20s")), "spec.selector"));
    assert!(warnings(&outcome).contains("it does not select the gateway's pods"));
    assert_eq!(count(&outcome, "pod_created"), 4, "no pod came for it");
    // It comes back, and so do the targets.
    let back = written("type: LoadBalancer", "reuse: none,", &[&edit, &select("40s", "blue")]).run();
    let lost = back.run.results.totals.dropped;
    assert!((1900..2700).contains(&lost), "{lost}");
}

#[test]
fn other_pods_are_targets_that_fail_their_checks() {
    let outcome = written("type: LoadBalancer", "reuse: none,", &[&select("20s", "green")]).run();
    let lost = outcome.run.results.totals.dropped;
    assert!(lost > 3000, "nothing listens there: {lost}");
    // Two of the start, and two more.
    assert_eq!(count(&outcome, "target_registered"), 4);
}

#[test]
fn within_the_cluster_nodes_refuse_what_has_no_pod() {
    let clients = "location: cluster, reuse: none,";
    let drill = written("type: ClusterIP", clients, &[&select("20s", "nobody")]);
    let outcome = drill.run();
    // Each node hears of it after 500 ms.
    check_lost(&outcome, &[("GD4122", 3950)], 10);
    assert_eq!(outcome.run.results.totals.refused, outcome.run.results.totals.dropped);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!(source.line, Some(drill.line("at: 20s")));
}

#[test]
fn another_service_that_comes_takes_no_client_away() {
    // It is called as the Deployment is, and would be in front had it been there from the start.
    let service = "{ at: 20s, apply: { inline: { apiVersion: v1, kind: Service, metadata: { name: edge, namespace: istio-system }, spec: { type: LoadBalancer, \
                   selector: { istio: edge }, ports: [ { port: 80 } ] } } } }";
    let outcome = written("type: LoadBalancer", "reuse: none,", &[service]).run();
    check_lost(&outcome, &[], 0);
    assert!(outcome.run.results.rollouts.is_empty());
}

#[test]
fn a_service_in_front_that_is_deleted_takes_its_balancer_along() {
    let delete = "{ at: 20s, delete: { service: istio-system/front } }";
    let drill = written("type: LoadBalancer", "reuse: none,", &[delete]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4111", 3600)], 2);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the entry");
    assert_eq!((source.line, source.path.as_str()), (Some(drill.line("at: 20s")), "spec.timeline.delete.service"));
    assert!(outcome.run.results.pods.iter().all(|pod| pod.exited_ms.is_none()), "the gateway stays");
    // Within the cluster its address is nobody's once nodes have heard of it.
    let inside = written("type: ClusterIP", "location: cluster, reuse: none,", &[delete]).run();
    check_lost(&inside, &[("GD4117", 3950)], 2);
    assert_eq!(inside.run.results.totals.connect_timeout, inside.run.results.totals.dropped);
    // What is gone is not edited, and what is made would be made anew.
    let told = |drill: &Drill| drill.load().expect_err("it is refused");
    let later = written("type: LoadBalancer", "reuse: none,", &[delete, &select("30s", "nobody")]);
    assert!(told(&later).contains("istio-system/front has been deleted by then"), "{}", told(&later));
    let made = Drill::new(&["{ at: 20s, delete: { service: istio-system/istio-edge } }"]);
    assert!(told(&made).contains("its controller would make it anew"), "{}", told(&made));
}
