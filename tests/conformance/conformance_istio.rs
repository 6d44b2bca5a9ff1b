//! Istio's objects against the cases of Istio's own tests: names, delegation, retries, validation, and requests through a gateway.
//!
//! `tests/data/conformance/routing/README.md` says what the fields mean and where the cases come from. Every case of every family is run;
//! a field that no test knows fails it.

mod details;
mod family;
mod served;
mod validation;

use std::collections::BTreeMap;
use std::time::Duration;

use gatedrill::gateway::routes::{RequireTls, VirtualHost};
use gatedrill::manifest::istio::http_route::HttpRoute;
use gatedrill::manifest::istio::{delegate, host, retry, virtual_service};
use gatedrill::manifest::routes::Options;
use serde_json::{Value, json};

use family::{Translated, judge, list, load, manifest, only, text, texts, virtual_services};

#[test]
fn conformance_istio_host() {
    for (shared, cases) in load("istio-host") {
        let group = Value::Object(shared);
        only("a group", &group, &["operation", "description", "source_file"]);
        for case in &cases {
            let label = text(case, "id");
            let known: &[&str] = match text(&group, "operation") {
                "matches" => {
                    let (a, b) = (text(case, "a"), text(case, "b"));
                    assert_eq!(json!(host::overlap(a, b)), case["matches"], "{label}");
                    assert_eq!(json!(host::overlap(b, a)), case["matches"], "{label}, the other way round");
                    &["name", "a", "b", "matches"]
                }
                "subset_of" => {
                    assert_eq!(json!(host::is_subset(text(case, "a"), text(case, "b"))), case["subset_of"], "{label}");
                    &["name", "a", "b", "subset_of"]
                }
                "intersection" => {
                    let common = host::intersection(&texts(case, "a"), &texts(case, "b"));
                    assert_eq!(json!(common), case["intersection"], "{label}");
                    &["a", "b", "intersection"]
                }
                "names_for_namespace" => {
                    let names = host::names_for(&texts(case, "hosts"), text(case, "namespace"));
                    assert_eq!(json!(names), case["names"], "{label}");
                    &["hosts", "namespace", "names"]
                }
                "sort" => {
                    let mut names = texts(case, "in");
                    names.sort_by(|a, b| host::by_specificity(a, b));
                    assert_eq!(json!(names), case["sorted"], "{label}");
                    &["in", "sorted"]
                }
                "more_specific" => {
                    let is_more = host::by_specificity(text(case, "a"), text(case, "b")).is_le();
                    assert_eq!(json!(is_more), case["a_more_specific"], "{label}");
                    &["a", "b", "a_more_specific", "note"]
                }
                other => panic!("this test does not know the operation {other}"),
            };
            only(label, case, &[known, &["id"]].concat());
        }
    }
}

/// The rules of a root whose only rule delegates.
fn delegated(root: &Value, rules: &Value) -> Vec<HttpRoute> {
    let mut root = root.clone();
    root["delegate"] = json!({ "name": "delegate", "namespace": "default" });
    let root = manifest("VirtualService", "root", json!({ "hosts": ["b"], "gateways": ["gateway"], "http": [root] }));
    let delegate = manifest("VirtualService", "delegate", json!({ "http": rules }));
    let services = virtual_services(&[root, delegate]);
    let resolved = delegate::resolve(&services, |rule, lost| panic!("{lost:?}: {rule:?}"));
    assert_eq!(resolved.len(), 1, "the delegate itself is left out");
    resolved[0].http.clone()
}

/// The rules of a VirtualService that stands for itself.
fn rules(rules: &Value) -> Vec<HttpRoute> {
    let service =
        manifest("VirtualService", "whole", json!({ "hosts": ["b"], "gateways": ["gateway"], "http": rules }));
    virtual_services(&[service])[0].http.clone()
}

#[test]
fn conformance_istio_delegate() {
    let route = || json!([{ "destination": { "host": "b" } }]);
    for (shared, cases) in load("istio-delegate") {
        let group = Value::Object(shared);
        only("a group", &group, &["operation", "description", "test"]);
        for case in &cases {
            let label = text(case, "id");
            let known: &[&str] = match text(&group, "operation") {
                "has_conflict" => {
                    let delegate = json!([{ "match": [case["delegate"]], "route": route() }]);
                    let kept = delegated(&json!({ "match": [case["root"]] }), &delegate);
                    assert_eq!(json!(kept.is_empty()), case["conflict"], "{label}");
                    &["name", "root", "delegate", "conflict"]
                }
                "merge_matches" => {
                    let delegate = json!([{ "match": case["delegate"], "route": route() }]);
                    let kept = delegated(&json!({ "match": case["root"] }), &delegate);
                    let expected = match &case["merged"] {
                        Value::Null => Vec::new(),
                        merged => rules(&json!([{ "match": merged, "route": route() }])),
                    };
                    assert_eq!(kept, expected, "{label}");
                    &["name", "root", "delegate", "merged"]
                }
                "merge_routes" => {
                    assert_eq!(delegated(&case["root"], &case["delegate"]), rules(&case["merged"]), "{label}");
                    &["name", "root", "delegate", "merged"]
                }
                "resolve_gateway_name" => {
                    let key = virtual_service::gateway_key(text(case, "gateway"), text(case, "namespace"));
                    assert_eq!(key, text(case, "resolved"), "{label}");
                    &["gateway", "namespace", "resolved"]
                }
                other => panic!("this test does not know the operation {other}"),
            };
            only(label, case, &[known, &["id"]].concat());
        }
    }
}

#[test]
fn conformance_istio_retry_policy() {
    for (_, cases) in load("istio-retry-policy") {
        for case in &cases {
            let label = text(case, "id");
            only(label, case, &["id", "test", "retries", "consistent_hash", "policy"]);
            let rule = rules(&json!([{ "route": [{ "destination": { "host": "b" } }], "retries": case["retries"] }]));
            let is_hashed = case.get("consistent_hash").is_some_and(|flag| flag.as_bool().expect("a flag"));
            let settings = retry::settings(rule[0].retries.as_ref(), is_hashed, retry::Defaults::Now);
            let seconds = |span: Option<Duration>| span.map(|span| format!("{}s", span.as_secs_f64()));
            let told = settings.map(|settings| {
                json!({
                    "retry_on": settings.conditions.join(","),
                    "num_retries": settings.attempts,
                    "retriable_status_codes": settings.codes,
                    "per_try_timeout": seconds(settings.per_try_timeout),
                    "base_interval": seconds(settings.backoff),
                    "retry_previous_hosts": settings.avoids_previous_hosts,
                    "host_selection_retry_max_attempts": settings.repicks_max,
                    "retry_other_priorities": settings.tries_other_priorities,
                })
            });
            assert_eq!(json!(told), case["policy"], "{label}");
        }
    }
}

#[test]
fn conformance_istio_gateway_virtual_hosts() {
    let mut complaints = BTreeMap::new();
    for (_, cases) in load("istio-gateway-virtual-hosts") {
        for case in &cases {
            let label = text(case, "id");
            only(label, case, &["id", "name", "manifests", "route_config", "virtual_hosts"]);
            let translated = Translated::new(&list(&case["manifests"]), Options::default());
            let told = |host: &VirtualHost| {
                json!({
                    "name": host.name,
                    "domains": host.domains,
                    "routes": host.routes.len(),
                    "require_tls": host.require_tls == RequireTls::All,
                })
            };
            let hosts: Vec<Value> = translated.table(text(case, "route_config")).iter().map(told).collect();
            if json!(hosts) != case["virtual_hosts"] {
                complaints.insert(label.to_owned(), format!("{hosts:?}"));
            }
        }
    }
    judge("istio-gateway-virtual-hosts", &complaints);
}
