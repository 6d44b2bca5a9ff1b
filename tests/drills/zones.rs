//! Drills over several zones: each gateway pod prefers what is in its own, and rules that change in mid-run hold from then on.

use std::collections::{BTreeMap, BTreeSet};

use crate::scenarios::loaded;
use crate::shop::{scenario_head, shop_of_istio_edge};
use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::engine::Datum;
use gatedrill::record::results::Phase;

const SCENARIO: &str = concat!(
    scenario_head!("zones", "  duration: 40s\n  seed: 5\n"),
    r#"  cluster:
    nodes: [ { name: pool, count: 2, zones: [r-a, r-b] } ]
  backends:
    - { service: default/web, replicas: 2, zones: [r-a, r-b], serviceTime: 5ms, errorRatio: 0 }
    - { service: default/api, replicas: 1, serviceTime: 5ms }
  load:
    - name: all
      rate: 100/s
      arrivals: constant
      clients: { connections: 20, reuse: none, rtt: 2ms }
      mix: [ { weight: 1, get: "http://shop.example.com/" } ]
TIMELINE
"#
);

const MANIFEST: &str = concat!(
    r#"apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata: { name: edge, namespace: istio-system }
spec:
  replicaCount: 2
  serviceType: LoadBalancer
  loadBalancerClass: alibabacloud.com/nlb
  serviceAnnotations:
    service.beta.kubernetes.io/backend-type: eni
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "r-a:vsw-a,r-b:vsw-b"
  ports: [ { name: http-0, port: 80, targetPort: 80, protocol: TCP } ]
"#,
    shop_of_istio_edge!(),
    r#"---
apiVersion: v1
kind: Service
metadata: { name: api }
spec: { selector: { app: api }, ports: [ { port: 80 } ] }
---
RULE
"#
);

/// The scenario with a rule for `web` and this timeline; `set` as on the command line.
fn drill(rule: &str, timeline: &str, set: &[&str]) -> Result<Outcome, String> {
    let rule = if rule.is_empty() { String::new() } else { destination_rule(rule) };
    let manifest = MANIFEST.replace("RULE", &rule);
    let text = SCENARIO.replace("TIMELINE", timeline);
    let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
    let scenario = loaded(&text, &manifest, &set, None).map_err(|problems| problems.to_string())?;
    Ok(run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance"))
}

fn destination_rule(policy: &str) -> String {
    format!(
        "{{ apiVersion: networking.istio.io/v1, kind: DestinationRule, metadata: {{ name: web }}, \
         spec: {{ host: web, trafficPolicy: {policy} }} }}"
    )
}

fn endpoint(data: &[(&'static str, Datum)]) -> String {
    let text = data.iter().find_map(|(name, value)| match value {
        Datum::Text(text) if *name == "endpoint" => Some(text.clone()),
        _ => None,
    });
    text.expect("the event names its endpoint")
}

#[test]
fn each_gateway_puts_aside_what_is_in_its_own_zone() {
    // Every answer is an error. Of two endpoints one may be ejected: the one that is asked first, five times in a row.
    let outlier = "{ outlierDetection: { maxEjectionPercent: 50, baseEjectionTime: 10m } }";
    let outcome = drill(outlier, "", &["backends[0].errorRatio=1"]).unwrap();
    let zones = BTreeMap::from([("pool-1", "10.200.0.1:8080"), ("pool-2", "10.200.0.2:8080")]);
    let pods = &outcome.run.results.pods;
    let own: BTreeSet<(String, String)> = pods
        .iter()
        .map(|pod| (format!("Pod/{}", pod.name), zones[pod.node.as_deref().expect("a node")].to_owned()))
        .collect();
    assert_eq!(own.len(), 2, "{pods:?}");
    let events = outcome.log.events().iter().filter(|event| event.kind == "host_ejected");
    let ejected: BTreeSet<(String, String)> =
        events.map(|event| (event.object.clone(), endpoint(&event.data))).collect();
    assert_eq!(ejected, own);
}

fn phase<'a>(outcome: &'a Outcome, name: &str) -> &'a Phase {
    outcome.run.results.phases.iter().find(|phase| phase.name == name).expect("the phase is there")
}

const SHARES: &str =
    "{ loadBalancer: { localityLbSetting: { distribute: [ { from: r/*, to: { r/ZONE/*: 100 } } ] } } }";

#[test]
fn a_rule_that_comes_in_mid_run_holds_from_then_on() {
    let to = |zone: &str| destination_rule(&SHARES.replace("ZONE", zone));
    let timeline = format!(
        "  timeline:\n    - {{ at: 10s, phase: nowhere, apply: {{ inline: {} }} }}\n    - {{ at: 20s, phase: zone-b, apply: {{ inline: {} }} }}\n",
        to("r-c"),
        to("r-b")
    );
    let outcome = drill("", &timeline, &[]).unwrap();
    let counts = |name| {
        let totals = &phase(&outcome, name).totals;
        (totals.sent, totals.ok, totals.gateway_error)
    };
    assert_eq!(counts("before"), (1000, 1000, 0));
    let (sent, ok, failed) = counts("nowhere");
    // The gateway hears of it 200 ms later: 20 requests.
    assert!(sent == failed + ok && (19..=21).contains(&ok), "no endpoint is in that zone: {ok} of {sent}");
    let (sent, ok, _) = counts("zone-b");
    assert!(sent > 100 && (19..=21).contains(&(sent - ok)), "{ok} of {sent}");
}

#[test]
fn limits_that_change_in_mid_run_are_those_of_the_new_rule() {
    let none = "{ connectionPool: { http: { http2MaxRequests: 1, http1MaxPendingRequests: 1 } } }";
    let timeline = "  timeline:\n    - { at: 20s, phase: wide, set: { DestinationRule/default/web.spec.trafficPolicy.connectionPool.http.http2MaxRequests: 1000, DestinationRule/default/web.spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests: 1000 } }\n";
    // Twenty requests at once, each of 300 ms.
    let outcome = drill(none, timeline, &["backends[0].serviceTime=300ms"]).unwrap();
    let lost = |name| phase(&outcome, name).totals.gateway_error;
    assert!(lost("before") > 500 && lost("wide") < 20, "{} and {}", lost("before"), lost("wide"));
}

#[test]
fn a_route_may_come_to_lead_to_another_service() {
    let route = "{ apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: { name: shop }, spec: { hosts: [shop.example.com], gateways: [istio-system/shop], http: [ { route: [ { destination: { host: HOST } } ] } ] } }";
    let timeline = |host| {
        format!(
            "  timeline:\n    - {{ at: 20s, phase: other, apply: {{ inline: {} }} }}\n",
            route.replace("HOST", host)
        )
    };
    let outcome = drill("", &timeline("api"), &["backends[0].errorRatio=1"]).unwrap();
    let errors = |name| phase(&outcome, name).totals.backend_error;
    let later = errors("other");
    assert!(errors("before") == 2000 && (19..=21).contains(&later), "{} and {later} in 200 ms", errors("before"));
    // To one that is not there it may lead, too: the gateway has no cluster for it.
    let nowhere = drill("", &timeline("nobody"), &[]).unwrap();
    let lost = nowhere.run.results.totals.dropped;
    assert!((1_975..=1_985).contains(&lost) && phase(&nowhere, "before").totals.dropped == 0, "{lost}");
    assert_eq!(nowhere.run.results.causes.iter().map(|cause| cause.code.as_str()).collect::<Vec<_>>(), ["GD4206"]);
}

#[test]
fn what_the_webhook_refuses_is_refused() {
    let setting =
        |setting: &str| format!("{{ loadBalancer: {{ localityLbSetting: {{ {setting} }} }}, outlierDetection: {{}} }}");
    for (text, expected) in [
        ("distribute: [ { from: r/*, to: { r/a: 100 } } ], failover: [ { from: r, to: s } ]", "exclude each other"),
        ("failover: [ { from: r, to: s } ], failoverPriority: [topology.kubernetes.io/zone]", "exclude each other"),
        ("distribute: [ { from: r/*, to: { r/a: 60, r/b: 30 } } ]", "not 100 together"),
        ("distribute: [ { from: r/*, to: { r/a: 60, r/a/s: 40 } } ]", "overlaps"),
        ("distribute: [ { from: r/a, to: { r/a: 100 } }, { from: r/a/*, to: { r/a: 100 } } ]", "overlaps"),
        ("distribute: [ { from: '*/a', to: { r/a: 100 } } ]", "wildcard before its end"),
        ("distribute: [ { from: r//a, to: { r/a: 100 } } ]", "empty part"),
        ("failover: [ { from: r, to: r } ]", "to itself"),
    ] {
        let refused = drill(&setting(text), "", &[]).map(|_| ()).unwrap_err();
        assert!(refused.contains(expected), "{text}: {refused}");
    }
    for text in [
        "failoverPriority: [version, 'topology.kubernetes.io/zone=r-a']",
        "distribute: [ { from: r/*, to: { r/r-a: 50, r/r-b: 50 } } ], failoverPriority: [version]",
        "failover: [ { from: r, to: s } ], failoverPriority: [version]",
    ] {
        assert_eq!(drill(&setting(text), "", &["duration=2s"]).map(|_| ()), Ok(()), "{text}");
    }
}
