//! Drills whose balancer sends connections to nodes: what kube-proxy does with them.

use std::collections::BTreeMap;

use crate::scenarios::loaded;
use crate::shop::{scenario_head, shop_of_edge};
use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::record::results::FidelityStatus;

const SCENARIO: &str = concat!(
    scenario_head!("services", "  duration: 30s\n  seed: 5\n  target: default/edge\n"),
    r#"  cluster:
    nodes: [ { name: pool, count: 2 } ]
KNOBS
  backends: [ { service: default/web, replicas: 2, serviceTime: 5ms, errorRatio: 0 } ]
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
    r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge }
spec:
  replicas: 6
  selector: { matchLabels: { app: edge } }
  template:
    metadata: { labels: { app: edge } }
    spec: { containers: [ { name: istio-proxy, image: proxy, ports: [ { containerPort: 80 } ] } ] }
---
apiVersion: v1
kind: Service
metadata:
  name: edge
  annotations: { service.beta.kubernetes.io/backend-type: BACKENDS }
spec:
  type: LoadBalancer
  selector: { app: edge }
  ports: [ { port: 80 } ]
SERVICE
"#,
    shop_of_edge!()
);

/// A drill with these lines in the Service's spec, in the scenario's cluster and at its end.
fn drill(backends: &str, service: &str, knobs: &str, timeline: &str) -> Result<Outcome, String> {
    let manifest = MANIFEST.replace("BACKENDS", backends).replace("SERVICE", service);
    let text = SCENARIO.replace("KNOBS", knobs).replace("TIMELINE", timeline);
    let scenario = loaded(&text, &manifest, &[], None).map_err(|problems| problems.to_string())?;
    Ok(run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance"))
}

/// Requests by pod, most first, of those that had any.
fn shares(outcome: &Outcome) -> Vec<u64> {
    let mut shares: Vec<u64> =
        outcome.run.results.pods.iter().map(|pod| pod.requests).filter(|count| *count > 0).collect();
    shares.sort_unstable_by(|a, b| b.cmp(a));
    shares
}

fn affinity_told(outcome: &Outcome) -> BTreeMap<String, FidelityStatus> {
    let rows = outcome.run.results.fidelity.iter().filter(|row| row.path.contains("sessionAffinity"));
    rows.map(|row| (row.path.rsplit('.').next().unwrap_or_default().to_owned(), row.status)).collect()
}

#[test]
fn a_client_keeps_to_one_pod_per_node() {
    let without = drill("ecs", "", "", "").unwrap();
    assert_eq!(shares(&without).len(), 6, "{:?}", shares(&without));
    let with = drill("ecs", "  sessionAffinity: ClientIP", "", "").unwrap();
    // All connections of the load are one client. The balancer goes round the two nodes, and each has its own memory.
    let found = shares(&with);
    assert!(found.len() <= 2 && found.iter().sum::<u64>() == 3000, "{found:?}");
    assert_eq!(with.run.results.totals.sent, with.run.results.totals.ok);
    assert_eq!(affinity_told(&with)["sessionAffinity"], FidelityStatus::Modelled);
}

#[test]
fn pods_as_targets_know_no_affinity() {
    let outcome = drill("eni", "  sessionAffinity: ClientIP", "", "").unwrap();
    assert_eq!(shares(&outcome).len(), 6);
    assert_eq!(affinity_told(&outcome)["sessionAffinity"], FidelityStatus::Ignored);
}

#[test]
fn affinity_outlives_its_pod_with_another_one() {
    let timeline = "  timeline: [ { at: 10s, restart: {} } ]";
    let outcome = drill("ecs", "  sessionAffinity: ClientIP", "", timeline).unwrap();
    let old_and_new = shares(&outcome);
    assert!((3..=8).contains(&old_and_new.len()), "each pod that leaves has a successor: {old_and_new:?}");
}

#[test]
fn a_slow_pace_of_rules_loses_more() {
    let lost = |period: &str| {
        let knobs = format!("    kubeProxy: {{ minSyncPeriod: {period} }}");
        let outcome = drill("ecs", "", &knobs, "  timeline: [ { at: 5s, restart: {} } ]").unwrap();
        let totals = &outcome.run.results.totals;
        totals.sent - totals.ok
    };
    let (quick, slow) = (lost("0s"), lost("20s"));
    assert!(slow > quick, "{slow} lost with old rules, {quick} with fresh ones");
}

#[test]
fn ipvs_shares_evenly() {
    let outcome = drill("ecs", "", "    kubeProxy: { mode: ipvs }", "").unwrap();
    let found = shares(&outcome);
    assert!(found.len() == 6 && found[0] - found[5] <= 2 * 6, "{found:?}");
}

#[test]
fn what_the_api_server_refuses_is_refused() {
    #[track_caller]
    fn check(service: &str, knobs: &str, told: &str) {
        let text = drill("ecs", service, knobs, "").err().unwrap_or_else(|| panic!("nobody refuses {service}{knobs}"));
        assert!(text.contains(told), "{text}");
    }
    let timeout = |seconds: &str| {
        format!("  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{ clientIP: {{ timeoutSeconds: {seconds} }} }}")
    };
    check("  sessionAffinity: Client", "", "spec.sessionAffinity: `Client` is not known here");
    check(&timeout("0"), "", "must be greater than 0 and less than 86400");
    check(&timeout("-1"), "", "-1 is out of range");
    check(&timeout("86401"), "", "write 1 to 86400");
    check(
        "  sessionAffinity: ClientIP\n  sessionAffinityConfig: { clientIp: {} }",
        "",
        "`clientIp` is not a field here",
    );
    check("  internalTrafficPolicy: Locally", "", "spec.internalTrafficPolicy");
    check("", "    kubeProxy: { minSyncPeriod: 31s }", "longer than kube-proxy's syncPeriod");
    check("", "    kubeProxy: { mode: userspace }", "`userspace` is not known here");
    assert!(drill("ecs", &timeout("86400"), "", "").is_ok());
    // The API server drops what nobody uses.
    let unused = drill("ecs", "  sessionAffinityConfig: { clientIP: { timeoutSeconds: 5 } }", "", "").unwrap();
    assert_eq!(affinity_told(&unused)["sessionAffinityConfig"], FidelityStatus::Ignored);
}

/// A push of what the gateways have already changes nothing but the log.
#[test]
fn a_push_of_the_same_configuration_costs_nothing() {
    let quiet = drill("ecs", "", "", "").unwrap();
    let pushed = drill("ecs", "", "", "  timeline: [ { at: 10s, configPush: {} } ]").unwrap();
    let applied = |outcome: &Outcome| {
        let log = outcome.log.events().iter().filter(|event| event.kind == "config_applied");
        log.map(|event| event.at.as_nanos() / 1_000_000).collect::<Vec<_>>()
    };
    assert!(applied(&quiet).is_empty());
    // Once for each of the six pods, 200 ms after the push.
    assert_eq!(applied(&pushed), [10_200; 6]);
    let totals = |outcome: &Outcome| format!("{:?}", outcome.run.results.totals);
    assert_eq!(totals(&quiet), totals(&pushed));
    assert_eq!(shares(&quiet), shares(&pushed));
}
