//! Whole drills about who gets a load balancer, and what it costs when two Services share one.
//!
//! Goal: each rule of sharing and creation shows as it would in a cluster: a Service that stays pending loses everything and says why, a listener
//! that another Service overwrites is lost from that moment on, and one that is left alone loses nothing. Method: small scenarios from memory, run
//! to their end.

use crate::scenarios::loaded;
use crate::shop::{scenario_head, shop_of_istio_edge};
use gatedrill::drill::{Continue, Outcome, Watch, run};
use gatedrill::record::results::Results;

const SCENARIO: &str = concat!(
    scenario_head!("sharing", "  duration: 60s\n  seed: 3\n"),
    r#"  cluster: { CLUSTER nodes: [ { name: pool, count: 2, zones: [a, b] } ], timings: { podStart: 3s } }
  balancers:
    - { id: lb-hand, region: cn-hangzhou }
    - { id: lb-other }
    - { id: lb-made, madeBy: kubernetes }
    - { id: lb-old, sharedPerformance: true }
  loadBalancer: { controllerLatency: 4s }
  backends: [ { service: default/web } ]
  load:
    - { name: new, rate: 50/s, arrivals: constant, clients: { reuse: none, timeout: 2s }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    r#"
apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata: { name: edge, namespace: istio-system }
spec:
  gatewayType: ingress
  clusterIds: [c-1]
  replicaCount: 2
  serviceType: LoadBalancer
  serviceAnnotations:
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-id: ID
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-force-override-listeners: "true"
  ports: [ { name: http, port: 80, targetPort: 80, protocol: TCP } ]
"#,
    shop_of_istio_edge!()
);

/// A second Service, as an entry of the timeline.
fn second(id: &str, force: &str, port: &str, selector: &str) -> String {
    let prefix = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer";
    let service = format!(
        "{{ apiVersion: v1, kind: Service, metadata: {{ name: admin, namespace: istio-system, annotations: {{ {prefix}-id: {id}, \
         {prefix}-force-override-listeners: \"{force}\" }} }}, spec: {{ type: LoadBalancer, selector: {{ {selector} }}, \
         ports: [ {{ name: http, port: {port}, targetPort: 80 }} ] }} }}"
    );
    format!("{{ at: 20s, apply: {{ inline: {service} }} }}")
}

fn drill(cluster: &str, id: &str, timeline: &str) -> Outcome {
    drill_of(cluster, &MANIFEST.replace("ID", id), timeline)
}

fn drill_of(cluster: &str, manifest: &str, timeline: &str) -> Outcome {
    let text = SCENARIO.replace("CLUSTER", cluster).replace("TIMELINE", timeline);
    let scenario = loaded(&text, manifest, &[], None).unwrap_or_else(|problems| panic!("{problems}"));
    let mut world = scenario.world;
    world.watch = Some(Watch::At(vec![std::time::Duration::from_secs(50)]));
    run(world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance")
}

fn causes(results: &Results) -> Vec<(&str, u64)> {
    results.causes.iter().map(|cause| (cause.code.as_str(), cause.count)).collect()
}

/// Name, type and address of each Service in the tables.
fn services(outcome: &Outcome) -> Vec<[String; 3]> {
    let tables = outcome.objects[0].tables.iter().filter(|table| table.kind == "svc");
    let rows = tables.flat_map(|table| &table.rows);
    rows.map(|row| [row[0].clone(), row[1].clone(), row[3].clone()]).collect()
}

#[test]
fn a_listener_that_is_overwritten_is_lost_from_then_on() {
    let outcome = drill("", "lb-hand", &second("lb-hand", "true", "80", "app: admin"));
    let results = &outcome.run.results;
    // 50/s from 4 s after the entry at 20 s to the end at 60 s.
    let lost = 50 * 36;
    assert_eq!(causes(results), [("GD4116", results.totals.dropped)]);
    assert!(results.totals.dropped.abs_diff(lost) <= 1, "{}", results.totals.dropped);
    let taken = outcome.log.events().iter().find(|event| event.kind == "lb_listener_taken").expect("it is told");
    assert_eq!(taken.object, "Service/istio-system/istio-edge");
    assert_eq!(
        services(&outcome)[0][1..],
        ["LoadBalancer".to_owned(), "203.0.113.1".to_owned()],
        "it has the same address"
    );
    let line = MANIFEST.lines().position(|line| line.contains("-id: ID")).unwrap() + 1;
    let source = results.causes[0].source.as_ref().expect("the line that shares the balancer");
    assert_eq!(source.line.map(usize::try_from), Some(Ok(line)));
}

#[test]
fn a_takeover_that_leads_to_the_same_pods_costs_only_its_beginning() {
    // The new group's targets are registered and checked like any other's: until then the port answers nobody.
    let outcome = drill("", "lb-hand", &second("lb-hand", "true", "80", "istio: edge"));
    let results = &outcome.run.results;
    assert!(results.totals.dropped < 50 * 10, "{:?}", results.totals);
    assert!(results.totals.ok > 50 * 50);
}

#[test]
fn what_does_not_take_the_listener_loses_nothing() {
    for (second, address, told) in [
        (second("lb-hand", "false", "80", "app: admin"), "203.0.113.1", "lb_listeners_kept"),
        (second("lb-hand", "true", "8080", "app: admin"), "203.0.113.1", "timeline"),
        (second("lb-other", "true", "80", "app: admin"), "203.0.113.101", "timeline"),
        (second("lb-made", "true", "80", "app: admin"), "<pending>", "lb_sync_failed"),
    ] {
        let outcome = drill("", "lb-hand", &second);
        assert_eq!(outcome.run.results.totals.dropped, 0, "{second}");
        assert_eq!(services(&outcome)[0], ["admin", "LoadBalancer", address], "{second}");
        assert!(outcome.log.events().iter().any(|event| event.kind == told), "{second}");
    }
}

#[test]
fn a_service_without_a_balancer_stays_pending_and_loses_everything() {
    for (cluster, id, message) in [
        (
            "",
            "lb-made",
            "alicloud: the loadbalancer lb-made can not be reused, can not reuse loadbalancer created by kubernetes.",
        ),
        (
            "region: cn-beijing,",
            "lb-hand",
            "alicloud: can not find loadbalancer lb-hand in cn-beijing: it is in cn-hangzhou",
        ),
        ("", "lb-old", "the shared-performance instance lb-old takes no ENI as a backend"),
        ("loadBalancers: false,", "lb-hand", "the cluster has no support for Services of type LoadBalancer"),
    ] {
        let outcome = drill(cluster, id, "");
        let results = &outcome.run.results;
        assert_eq!((results.totals.ok, results.totals.dropped), (0, results.totals.sent), "{message}");
        assert_eq!(causes(results), [("GD4115", results.totals.sent)], "{message}");
        let [status] = &results.gateway.status[..] else { panic!("one gateway") };
        assert_eq!((&*status.state, &status.address, status.message.as_deref()), ("Pending", &None, Some(message)));
        assert_eq!(services(&outcome)[0], ["istio-edge", "LoadBalancer", "<pending>"]);
        assert!(outcome.run.results.pods.iter().all(|pod| pod.requests == 0));
    }
    let fine = drill("region: cn-hangzhou,", "lb-hand", "");
    let [status] = &fine.run.results.gateway.status[..] else { panic!("one gateway") };
    assert_eq!((&*status.state, status.address.as_deref()), ("Running", Some("203.0.113.1")));
    assert_eq!(fine.run.results.totals.dropped, 0);
}

/// The manifest with an NLB instead, and this annotation, if any, in place of the id.
fn with_nlb(annotation: &str) -> String {
    let line = MANIFEST.lines().find(|line| line.contains("-id: ID")).expect("a line with the id");
    let nlb = MANIFEST
        .replace("  gatewayType: ingress\n", "  gatewayType: ingress\n  loadBalancerClass: alibabacloud.com/nlb\n");
    nlb.replace(line, &format!("    {annotation}"))
}

#[test]
fn an_nlb_without_two_zones_is_never_created() {
    let (zones, id) = (
        "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps",
        "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-id",
    );
    for (annotation, message) in [
        (String::new(), "ParameterMissing, zone mappings are required"),
        (format!("{zones}: \"a:vsw-a\""), "create nlb error: an NLB needs two zones"),
        (format!("{zones}: \"a:vsw-a,a:vsw-b\""), "create nlb error: an NLB needs two zones"),
        (
            format!("{zones}: \"a:vsw-a,b\""),
            "ZoneMapping format error, expect [zone-a:vsw-id-1,zone-b:vsw-id-2], got a:vsw-a,b",
        ),
    ] {
        let outcome = drill_of("", &with_nlb(&annotation), "");
        let results = &outcome.run.results;
        assert_eq!((results.totals.ok, results.totals.dropped), (0, results.totals.sent), "{message}");
        assert_eq!(causes(results), [("GD4115", results.totals.sent)], "{message}");
        let [status] = &results.gateway.status[..] else { panic!("one gateway") };
        assert_eq!((&*status.state, &status.address, status.message.as_deref()), ("Pending", &None, Some(message)));
        assert_eq!(services(&outcome)[0], ["istio-edge", "LoadBalancer", "<pending>"]);
        let source = results.causes[0].source.as_ref().expect("the line of the zones");
        assert!(source.path.ends_with("zone-maps]"), "{}", source.path);
        assert_eq!(source.value.is_some(), !annotation.is_empty());
        assert!(source.line.is_some(), "{message}");
    }
    for fine in [format!("{zones}: \"a:vsw-a,b:vsw-b\""), format!("{id}: lb-hand")] {
        let outcome = drill_of("", &with_nlb(&fine), "");
        assert_eq!(outcome.run.results.totals.dropped, 0, "{fine}");
    }
}

#[test]
fn a_gateway_outside_of_its_namespace_never_starts() {
    let manifest = MANIFEST.replace("ID", "lb-hand").replacen("namespace: istio-system", "namespace: edge", 1);
    let outcome = drill_of("", &manifest, "{ at: 20s, restart: {} }");
    let results = &outcome.run.results;
    assert_eq!((results.totals.ok, results.totals.dropped), (0, results.totals.sent));
    assert_eq!(causes(results), [("GD4119", results.totals.sent)]);
    let source = results.causes[0].source.as_ref().expect("the line of the namespace");
    assert_eq!((source.line, source.value.as_deref()), (Some(4), Some("edge")));
    let [status] = &results.gateway.status[..] else { panic!("one gateway") };
    // The balancer is there, and has no target.
    assert_eq!((&*status.state, status.address.as_deref()), ("Pending", Some("203.0.113.1")));
    let told = "an IstioGateway in `edge` never gets its configuration";
    assert_eq!(status.message.as_deref(), Some(told));
    assert!(results.pods.iter().all(|pod| pod.ready_ms.is_none() && pod.requests == 0));
    assert!(!outcome.log.events().iter().any(|event| event.kind == "target_registered"));
}

#[test]
fn combinations_that_leave_open_who_has_the_listener_are_refused() {
    let problem = |text: &str, manifest: &str| loaded(text, manifest, &[], None).expect_err("refused").to_string();
    let text = SCENARIO.replace("CLUSTER", "").replace("TIMELINE", "");
    let unknown = problem(&text, &MANIFEST.replace("ID", "lb-hnad"));
    assert!(unknown.contains("no balancer is called `lb-hnad`") && unknown.contains("lb-hand"), "{unknown}");
    let entry = second("lb-hand", "true", "80", "app: admin");
    let inline = &entry[entry.find("inline: ").unwrap() + 8..entry.len() - 4];
    let both = text.replace("{ path: manifests/ }", &format!("{{ path: manifests/ }}, {{ inline: {inline} }}"));
    let told = problem(&both, &MANIFEST.replace("ID", "lb-hand"));
    assert!(told.contains("both write the listener of port 80 on lb-hand"), "{told}");
    let clusters = text
        .replace("cluster: { ", "clusters: [ { id: c-1, ")
        .replace("podStart: 3s } }", "podStart: 3s } }, { id: c-2 } ]");
    let told = problem(&clusters, &MANIFEST.replace("ID", "lb-hand").replace("[c-1]", "[c-1, c-2]"));
    assert!(told.contains("clusters c-1 and c-2 cannot share lb-hand"), "{told}");
}
