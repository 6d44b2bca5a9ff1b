//! Phases of a drill: which requests count in which.
//!
//! Goal: a request that is due at the very moment a phase begins counts in it, also as the first of its load. Method: constant arrivals, so that one is due then.

use crate::scenarios::loaded;
use gatedrill::drill::{Continue, run};

const SCENARIO: &str = r#"
apiVersion: gatedrill/v1
kind: Scenario
metadata: { name: phases }
spec:
  duration: 30s
  target: default/edge
  manifests: [ { path: manifests/ } ]
  cluster: { nodes: [ { name: pool, count: 2, allocatable: { cpu: "4", memory: 8Gi } } ] }
  backends: [ { service: default/web, replicas: 1, serviceTime: 5ms } ]
  load:
    - { name: always, rate: 10/s, arrivals: constant, mix: [ { get: "http://shop.example.com/" } ] }
    - { name: late, rate: [ { for: 10s, at: 0/s }, { for: 20s, at: 20/s } ], arrivals: constant, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ { at: 10s, phase: more }, { at: 20s, phase: end } ]
"#;

const MANIFEST: &str = r#"
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
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [ { port: 80 } ] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec: { selector: { app: edge }, servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] } ] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web }
spec: { hosts: ["*"], gateways: [edge], http: [ { route: [ { destination: { host: web } } ] } ] }
"#;

#[test]
fn a_request_due_at_the_moment_a_phase_begins_counts_in_it() {
    let loaded = match loaded(SCENARIO, MANIFEST, &[], None) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}"),
    };
    let outcome = run(loaded.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
    let phases = &outcome.run.results.phases;
    let counts: Vec<(&str, u64)> = phases.iter().map(|phase| (phase.name.as_str(), phase.totals.sent)).collect();
    assert_eq!(counts, [("before", 100), ("more", 300), ("end", 300)]);
}
