//! A drill whose gateway is one of the Gateway API: the one that Istio makes, or the user's own behind a Service.

use gatedrill::drill::{Continue, run};
use gatedrill::scenario::{Input, Library, NamedText, load};

struct Nothing;

impl Library for Nothing {
    fn read(&self, path: &str) -> Result<Vec<NamedText>, (String, String)> {
        Err((format!("no file is called `{path}`"), String::new()))
    }
}

const SCENARIO: &str = r#"
apiVersion: gatedrill/v1
kind: Scenario
metadata: { name: gateway-api }
spec:
  duration: 10s
  manifests:
    - inline:
        apiVersion: gateway.networking.k8s.io/v1
        kind: Gateway
        metadata: { name: edge, namespace: infra }
        spec:
          gatewayClassName: istio
          listeners: [ { name: http, port: 80, protocol: HTTP, allowedRoutes: { namespaces: { from: All } } } ]
    - inline:
        apiVersion: gateway.networking.k8s.io/v1
        kind: HTTPRoute
        metadata: { name: shop, namespace: shop }
        spec:
          parentRefs: [ { name: edge, namespace: infra } ]
          hostnames: [shop.example.com]
          rules: [ { backendRefs: [ { name: web, port: 80 } ] } ]
  cluster:
    nodes: [ { name: a, count: 2, zones: [a], allocatable: { cpu: "4", memory: 8Gi } } ]
  backends:
    - { service: shop/web, replicas: 2, serviceTime: 5ms }
  load:
    - name: shoppers
      rate: 50/s
      clients: { connections: 10 }
      mix: [ { get: "http://shop.example.com/" } ]
"#;

const OWN: &str = r#"
    - inline:
        apiVersion: v1
        kind: Service
        metadata: { name: own, namespace: infra }
        spec: { type: LoadBalancer, selector: { app: own }, ports: [ { port: 80, targetPort: 8080 } ] }
    - inline:
        apiVersion: apps/v1
        kind: Deployment
        metadata: { name: own, namespace: infra }
        spec:
          selector: { matchLabels: { app: own } }
          template: { metadata: { labels: { app: own } }, spec: { containers: [ { name: istio-proxy, image: auto } ] } }
  cluster:
"#;

/// The requests that were answered well, and all of them.
fn counts(text: &str) -> (u64, u64) {
    let input = Input { name: "gateway-api", text, library: &Nothing, set: &[], variant: None, seed: None };
    let scenario = load(&input).unwrap_or_else(|problems| panic!("{:#?}", problems.list));
    let done = run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
    let totals = &done.run.results.totals;
    (totals.ok, totals.sent)
}

#[test]
fn the_gateway_that_istio_makes_serves() {
    let (well, all) = counts(SCENARIO);
    assert!(all > 400 && well == all, "{well} of {all}");
}

#[test]
fn a_gateway_of_ones_own_behind_a_service_serves() {
    let spec = "spec:\n          addresses: [ { type: Hostname, value: own } ]\n          gatewayClassName";
    let text = SCENARIO.replace("spec:\n          gatewayClassName", spec).replace("  cluster:\n", &OWN[1..]);
    let (well, all) = counts(&text);
    assert!(all > 400 && well == all, "{well} of {all}");
}
