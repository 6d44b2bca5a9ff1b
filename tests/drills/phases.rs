//! Phases of a drill: which requests count in which.
//!
//! Goal: a request that is due at the very moment a phase begins counts in it, also as the first of its load. Method: constant arrivals, so that one is due then.

use crate::scenarios::loaded;
use crate::shop::{ran, scenario_head, shop_of_edge};

const SCENARIO: &str = concat!(
    scenario_head!("phases", "  duration: 30s\n  target: default/edge\n"),
    r#"  cluster: { nodes: [ { name: pool, count: 2, allocatable: { cpu: "4", memory: 8Gi } } ] }
  backends: [ { service: default/web, replicas: 1, serviceTime: 5ms } ]
  load:
    - { name: always, rate: 10/s, arrivals: constant, mix: [ { get: "http://shop.example.com/" } ] }
    - { name: late, rate: [ { for: 10s, at: 0/s }, { for: 20s, at: 20/s } ], arrivals: constant, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ { at: 10s, phase: more }, { at: 20s, phase: end } ]
"#
);

const MANIFEST: &str = concat!(
    r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge }
spec:
  replicas: 1
  selector: { matchLabels: { app: edge } }
  template:
    metadata: { labels: { app: edge } }
    spec: { containers: [ { name: istio-proxy, image: proxy, ports: [ { containerPort: 80 } ] } ] }
---
apiVersion: v1
kind: Service
metadata: { name: edge }
spec: { type: LoadBalancer, selector: { app: edge }, ports: [ { port: 80, targetPort: 80 } ] }
"#,
    shop_of_edge!()
);

#[test]
fn a_request_due_at_the_moment_a_phase_begins_counts_in_it() {
    let outcome = ran(loaded(SCENARIO, MANIFEST, &[], None));
    let phases = &outcome.run.results.phases;
    let counts: Vec<(&str, u64)> = phases.iter().map(|phase| (phase.name.as_str(), phase.totals.sent)).collect();
    assert_eq!(counts, [("before", 100), ("more", 300), ("end", 300)]);
}
