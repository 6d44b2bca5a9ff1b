//! Clients that keep cookies, and what a gateway's own cookie does for them. Backends differ in how long they take, so an answer's time tells which one it came
//! from.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, ran, refusals};
use crate::shop::lost;

const CLIENTS: usize = 6;

/// Two Deployments behind one Service, and a rule that hashes a cookie.
const HASHED: &str = r#"
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: quick }
spec:
  replicas: 3
  selector: { matchLabels: { app: web, pace: quick } }
  template: { metadata: { labels: { app: web, pace: quick } }, spec: { containers: [ { name: web, image: web } ] } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: slow }
spec:
  replicas: 3
  selector: { matchLabels: { app: web, pace: slow } }
  template: { metadata: { labels: { app: web, pace: slow } }, spec: { containers: [ { name: web, image: web } ] } }
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web }
spec:
  host: web
  trafficPolicy: { loadBalancer: { consistentHash: { httpCookie: { name: user, ttl: 600s } } } }
"#;

/// Which Deployments answered each client, in six rounds: client `n` sends every sixth request, on a new connection each time.
fn answered(cookies: &str) -> Vec<BTreeSet<&'static str>> {
    let clients = format!("connections: {CLIENTS}, reuse: lru, keepAlive: 1s{cookies}");
    let outcome = ran(&Case {
        annotations: &[super::ENI],
        clients: &clients,
        rate: "3/s",
        duration: "12s",
        backends: "{ service: default/web, deployment: default/quick, serviceTime: 5ms }, \
                   { service: default/web, deployment: default/slow, serviceTime: 100ms }",
        more: HASHED,
        ..Case::default()
    });
    assert_eq!(lost(&outcome), BTreeMap::new());
    assert_eq!(outcome.run.results.totals.sent, 36);
    assert_eq!(outcome.run.results.totals.connections_opened, 36);
    let mut rows: Vec<_> = outcome.run.requests.iter().collect();
    rows.sort_by(|one, other| one.t_intended_s.total_cmp(&other.t_intended_s));
    let mut by_client = vec![BTreeSet::new(); CLIENTS];
    // A connection takes two round trips, so 100 ms of service stand out.
    for (number, row) in rows.iter().enumerate() {
        by_client[number % CLIENTS].insert(if row.latency_us > 100_000 { "slow" } else { "quick" });
    }
    by_client
}

#[test]
fn a_gateways_cookie_leads_a_client_to_its_backend_if_it_keeps_it() {
    let kept = answered(", cookies: true");
    assert!(kept.iter().all(|pods| pods.len() == 1), "{kept:?}");
    assert_eq!(kept.iter().flatten().collect::<BTreeSet<_>>().len(), 2, "clients differ: {kept:?}");
    // Who keeps none is given another one on each connection.
    for cookies in ["", ", cookies: false"] {
        let none = answered(cookies);
        assert!(none.iter().filter(|pods| pods.len() == 2).count() >= 4, "{none:?}");
    }
}

#[test]
fn cookies_have_somebody_who_keeps_them() {
    let with = |clients: &'static str, headers: &'static str| {
        let mix = format!("http://shop.example.com/\", headers: {{ {headers} }}, body: \"1KiB");
        refusals(&Case { clients, url: &mix, ..Case::default() })
    };
    for (clients, headers, expected) in [
        ("cookies: true, reuse: none", "", "with reuse: none each request is from a client of its own"),
        ("cookies: true", "Cookie: a=1", "`cookie` is written by the client itself"),
        ("cookies: yes please", "", "`yes please` is not a boolean"),
    ] {
        let found = with(clients, headers);
        assert!(found.iter().any(|it| it.contains(expected)), "{clients}: {found:?}");
    }
    for (clients, headers) in [("cookies: true", "x-a: b"), ("cookies: false", "cookie: a=1"), ("reuse: none", "")] {
        assert_eq!(with(clients, headers), [""; 0], "{clients}");
    }
}
