//! Edits of the type of the Service in front: its balancer goes or comes, node ports too, and clients go on dialling what they know.

use super::{Drill, check_lost, check_quiet, count, first_ms, warnings};
use gatedrill::drill::Outcome;

fn typed(from: &str, clients: &'static str, timeline: &[&str]) -> Drill {
    let mut drill = Drill::new(timeline);
    (drill.service, drill.clients) = (format!("serviceType: {from}"), clients);
    drill
}

fn to(at: &str, kind: &str) -> String {
    format!("{{ at: {at}, set: {{ \"IstioGateway/istio-system/edge.spec.serviceType\": {kind} }} }}")
}

/// The gateway's state and address at the end.
fn status(outcome: &Outcome) -> (String, Option<String>) {
    let status = &outcome.run.results.gateway.status[0];
    (status.state.clone(), status.address.clone())
}

#[test]
fn a_service_that_is_no_balancers_any_more_loses_it_with_its_address() {
    for kind in ["NodePort", "ClusterIP"] {
        let drill = typed("LoadBalancer", "reuse: none,", &[&to("20s", kind)]);
        let outcome = drill.run();
        check_lost(&outcome, &[("GD4111", 3600)], 2);
        check_quiet(&outcome);
        assert_eq!(first_ms(&outcome, "lb_deleted"), 24_000);
        let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
        assert_eq!((source.line, source.value.as_deref()), (Some(drill.line("at: 20s")), Some(kind)));
        assert_eq!(status(&outcome), ("Running".to_owned(), None), "it has what it wants");
        assert!(warnings(&outcome).contains("its balancer goes"), "{}", warnings(&outcome));
    }
}

#[test]
fn a_balancer_that_is_made_again_has_another_address() {
    let outcome = typed("LoadBalancer", "reuse: none,", &[&to("20s", "ClusterIP"), &to("40s", "LoadBalancer")]).run();
    check_lost(&outcome, &[("GD4111", 3600)], 2);
    check_quiet(&outcome);
    assert_eq!(first_ms(&outcome, "lb_created"), 44_000);
    let first = typed("LoadBalancer", "reuse: none,", &[&to("59s", "NodePort")]).run();
    let (state, address) = status(&outcome);
    assert_eq!(state, "Running");
    assert!(address.is_some() && address != status(&first).1);
    // Its targets are the pods, after its controller's latency.
    assert_eq!(count(&outcome, "target_registered"), 4);
}

#[test]
fn a_balancer_that_comes_is_dialled_by_nobody_and_costs_nothing() {
    for (from, clients) in [("ClusterIP", "location: cluster, reuse: none,"), ("NodePort", "reuse: none,")] {
        let outcome = typed(from, clients, &[&to("20s", "LoadBalancer")]).run();
        check_lost(&outcome, &[], 0);
        check_quiet(&outcome);
        assert_eq!((first_ms(&outcome, "lb_created"), count(&outcome, "target_healthy")), (24_000, 2), "{from}");
        assert!(status(&outcome).1.is_some());
    }
}

#[test]
fn node_ports_go_with_a_type_that_has_none_and_nobody_within_minds() {
    let outside = typed("NodePort", "reuse: none,", &[&to("20s", "ClusterIP")]);
    let outcome = outside.run();
    // Each node has heard of it after 500 ms.
    check_lost(&outcome, &[("GD4117", 3950)], 2);
    check_quiet(&outcome);
    assert_eq!(outcome.run.results.totals.refused, outcome.run.results.totals.dropped);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!(source.line, Some(outside.line("at: 20s")));
    for (from, kind) in [("NodePort", "ClusterIP"), ("ClusterIP", "NodePort")] {
        let clients = "location: cluster, address: clusterIP, reuse: none,";
        check_lost(&typed(from, clients, &[&to("20s", kind)]).run(), &[], 0);
    }
}

#[test]
fn within_the_cluster_the_address_of_a_balancer_that_is_gone_is_nobodys() {
    let outcome = typed("LoadBalancer", "location: cluster, reuse: none,", &[&to("20s", "ClusterIP")]).run();
    check_lost(&outcome, &[("GD4111", 3600)], 2);
}

#[test]
fn types_that_cannot_be_are_refused_in_the_api_servers_words() {
    let told = |drill: Drill| drill.load().expect_err("somebody refuses it");
    // What only the former type has is dropped where it stays as it was, and refused where it is written anew.
    let mut local = typed("LoadBalancer", "reuse: none,", &[&to("20s", "ClusterIP")]);
    local.service.push_str("\n  externalTrafficPolicy: Local");
    check_lost(&local.run(), &[("GD4111", 3600)], 2);
    let both = "{ at: 20s, set: { \"IstioGateway/istio-system/edge.spec.serviceType\": ClusterIP, \
                \"IstioGateway/istio-system/edge.spec.externalTrafficPolicy\": Local } }";
    let text = told(typed("LoadBalancer", "reuse: none,", &[both]));
    assert!(text.contains("may only be set for externally-accessible services"), "{text}");
    let text = told(typed("LoadBalancer", "reuse: none,", &[&to("20s", "ExternalName")]));
    assert!(text.contains("a gateway is no external name"), "{text}");
}

#[test]
fn pods_of_a_gateway_roll_for_fields_that_are_theirs_alone() {
    let path = |field: &str| format!("\"IstioGateway/istio-system/edge.spec.{field}\"");
    for (field, value) in [
        ("dnsPolicy", "Default"),
        ("runAsRoot", "true"),
        ("kernel", "{ enabled: true, parameters: { net.core.somaxconn: \"65535\" } }"),
        ("secretVolumes", "[ { name: certs, secretName: certs, mountPath: /etc/certs } ]"),
    ] {
        let edit = format!("{{ at: 20s, set: {{ {}: {value} }} }}", path(field));
        let outcome = typed("LoadBalancer", "reuse: none,", &[&edit]).run();
        assert_eq!((outcome.run.results.rollouts.len(), outcome.run.results.pods.len()), (1, 4), "{field}");
    }
}

#[test]
fn a_service_without_the_policy_local_has_no_health_port_any_more() {
    let mut drill =
        Drill::new(&["{ at: 20s, set: { \"Service/istio-system/front.spec.externalTrafficPolicy\": Cluster } }"]);
    (drill.manifest, drill.target) = (super::front::WRITTEN, "target: istio-system/edge");
    drill.service = "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 31999".to_owned();
    check_lost(&drill.run(), &[], 0);
}
