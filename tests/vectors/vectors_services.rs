//! kube-proxy's rules against the tables of upstream's own tests.
//!
//! `tests/data/kubernetes/vectors/README.md` says what the fields mean.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use gatedrill::cluster::endpoints::EndpointConditions;
use gatedrill::edge::TrafficPolicy;
use gatedrill::edge::kube_proxy::categories::{Candidate, Policies, Reach, asks_for_hints, categorize};
use gatedrill::edge::kube_proxy::health::{ProxyHealth, service_status};
use gatedrill::units::SimTime;
use serde_json::Value;

/// All cases of a file, which are as many as it says.
fn cases(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes/vectors").join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let file: Value = serde_json::from_str(&text).expect("a vector file is JSON");
    let cases = file["cases"].as_array().expect("a vector file has cases").clone();
    assert_eq!(Some(cases.len() as u64), file["count"].as_u64(), "{name}: cases");
    cases
}

fn flag(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or_else(|| panic!("{key} is no flag in {value}"))
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("{key} is no number in {value}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} is no list in {value}"))
}

fn words(values: &[Value]) -> Vec<&str> {
    values.iter().map(|word| word.as_str().expect("a text")).collect()
}

#[test]
fn vectors_proxy_categorize_endpoints() {
    for (index, case) in cases("proxy_categorize_endpoints.json").iter().enumerate() {
        let service = &case["service"];
        let policy = |key: &str| if flag(service, key) { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let policies = Policies {
            internal: policy("internalPolicyLocal"),
            external: policy("externalPolicyLocal"),
            reach: if flag(service, "externallyAccessible") { Reach::External } else { Reach::Internal },
        };
        let endpoints = list(case, "endpoints");
        let hints: Vec<Vec<&str>> = endpoints.iter().map(|endpoint| words(list(endpoint, "zoneHints"))).collect();
        let candidates: Vec<Candidate<'_>> = endpoints
            .iter()
            .zip(&hints)
            .map(|(endpoint, zone_hints)| Candidate {
                conditions: EndpointConditions {
                    ready: flag(endpoint, "ready"),
                    serving: flag(endpoint, "serving"),
                    terminating: flag(endpoint, "terminating"),
                },
                is_local: flag(endpoint, "isLocal"),
                zone_hints,
            })
            .collect();
        let hints_count = flag(case, "hintsFeatureEnabled") && asks_for_hints(text(service, "hintsAnnotation"));
        let zone = case["nodeZone"].as_str().filter(|_| hints_count);
        let found = categorize(&candidates, policies, zone);
        let names = |indexes: &[usize]| -> BTreeSet<&str> {
            indexes.iter().map(|index| text(&endpoints[*index], "endpoint")).collect()
        };
        let expected = case["expected"].as_object().expect("an object is expected");
        assert!(!expected.is_empty(), "case {index} expects nothing");
        for (key, expected) in expected {
            let label = format!("case {index}, {}: {key}", case["name"]);
            let expected_set = || expected.as_array().map(|values| words(values).into_iter().collect::<BTreeSet<_>>());
            match key.as_str() {
                "clusterEndpoints" => assert_eq!(found.cluster.as_deref().map(names), expected_set(), "{label}"),
                "localEndpoints" => assert_eq!(found.local.as_deref().map(names), expected_set(), "{label}"),
                "allReachable" => assert_eq!(Some(names(&found.reachable())), expected_set(), "{label}"),
                "hasAnyEndpoints" => assert_eq!(Some(found.has_any), expected.as_bool(), "{label}"),
                other => panic!("nobody computes {other}"),
            }
        }
    }
}

#[test]
fn vectors_proxy_health() {
    for case in &cases("proxy_health.json") {
        match text(case, "kind") {
            "serviceHealth" => check_service(case),
            "proxyHealth" => check_proxy(case),
            "serviceHealthTable" => check_table(case),
            other => panic!("nobody reads cases of kind {other}"),
        }
    }
}

/// One Service's healthCheckNodePort; kube-proxy is healthy.
fn check_service(case: &Value) {
    for step in list(case, "sequence") {
        let local_ready = match text(step, "do") {
            "register service with healthCheckNodePort" | "endpoints map without this service" => 0,
            "set local ready endpoints" => number(step, "value"),
            other => panic!("nobody does `{other}`"),
        };
        assert_eq!(number(&step["expect"], "localEndpoints"), local_ready, "{step}");
        let status = service_status(usize::try_from(local_ready).expect("a small count"), true);
        assert_eq!(u64::from(status), number(&step["expect"], "status"), "{step}");
    }
}

fn check_table(case: &Value) {
    for row in list(case, "table") {
        let count = usize::try_from(number(row, "localReadyEndpoints")).expect("a small count");
        assert_eq!(u64::from(service_status(count, flag(row, "proxyHealthy"))), number(row, "status"), "{row}");
    }
}

/// `/healthz` and `/livez` after each step. A step's text may be several things in a row.
fn check_proxy(case: &Value) {
    let mut health = ProxyHealth::new(Duration::from_secs(number(case, "healthTimeoutSeconds")));
    let mut now = SimTime::ZERO;
    for step in list(case, "sequence") {
        for what in text(step, "do").split(" then ") {
            match what {
                "start" => {}
                "updated" => health.handle_synced(),
                "queuedUpdate" => health.handle_change(now),
                "advance" => now = now.after(Duration::from_secs(number(step, "seconds"))),
                "node synced with deletionTimestamp" => health.handle_node(std::iter::empty(), true),
                other => {
                    let taint = other.strip_prefix("node synced with ").and_then(|rest| rest.strip_suffix(" taint"));
                    let taint = taint.unwrap_or_else(|| panic!("nobody does `{other}`"));
                    health.handle_node(std::iter::once(taint), false);
                }
            }
        }
        assert_eq!(u64::from(health.healthz(now)), number(step, "healthz"), "{step}");
        assert_eq!(u64::from(health.livez(now)), number(step, "livez"), "{step}");
    }
}
