//! Single properties of routes: order, mirrors, claims, faults, preflights.

use std::collections::BTreeMap;
use std::sync::Arc;

use gatedrill::gateway::routes::{Abort, Action, Route};
use gatedrill::manifest::istio::matches;
use gatedrill::manifest::routes::Options;
use serde_json::{Value, json};

use super::family::{Translated, gateway, judge, list, load, manifest, only, text};
use super::served::{Stage, destination};
use crate::gateway_world::{Request, joined};

/// A condition in Envoy's words as one in Istio's. `*` is no regular expression; Istio writes it for any value.
fn istio_match(label: &str, envoy: &Value) -> Value {
    only(label, envoy, &["prefix", "path", "safe_regex", "headers", "query_parameters"]);
    let mut block = json!({});
    for (key, kind) in [("prefix", "prefix"), ("path", "exact"), ("safe_regex", "regex")] {
        if let Some(value) = envoy.get(key).filter(|value| **value != json!("*")) {
            block["uri"] = json!({ kind: value });
        }
    }
    for (from, to) in [("headers", "headers"), ("query_parameters", "queryParams")] {
        for condition in envoy.get(from).map(list).unwrap_or_default() {
            only(label, &condition, &["name", "safe_regex", "exact", "present"]);
            let name = text(&condition, "name");
            block[to][name] = match (condition.get("safe_regex"), condition.get("exact")) {
                (Some(regex), None) => json!({ "regex": regex }),
                (None, Some(exact)) => json!({ "exact": exact }),
                _ => json!({}),
            };
        }
    }
    block
}

/// A VirtualService of port 80 with one rule, bound to `gateway` of a namespace.
fn one_rule(name: &str, gateway_namespace: &str, rule: &Value) -> Value {
    let mut rule = rule.clone();
    if rule.get("route").is_none() {
        rule["route"] = json!([{ "destination": { "host": "b" } }]);
    }
    let gateways = [format!("{gateway_namespace}/gateway")];
    manifest("VirtualService", name, json!({ "hosts": ["b"], "gateways": gateways, "http": [rule] }))
}

/// The route of a rule that stands alone.
fn route_of(rule: &Value) -> Arc<Route> {
    let translated = Translated::new(&[gateway("default", 80), one_rule("one", "default", rule)], Options::default());
    Arc::clone(&translated.routes()[0])
}

fn percent(millionths: u32) -> f64 {
    f64::from(millionths) / 10_000.0
}

#[test]
fn conformance_istio_route_details() {
    let mut complaints = BTreeMap::new();
    for (shared, cases) in load("istio-route-details") {
        let group = Value::Object(shared);
        only("a group", &group, &["operation", "description", "source_file"]);
        for case in &cases {
            let (wrong, known) = detail(text(&group, "operation"), case);
            only(text(case, "id"), case, &[known, &["id", "name"]].concat());
            if let Some(wrong) = wrong {
                complaints.insert(text(case, "id").to_owned(), wrong);
            }
        }
    }
    judge("istio-route-details", &complaints);
}

/// What is wrong with a case, and which fields it was judged by.
fn detail(operation: &str, case: &Value) -> (Option<String>, &'static [&'static str]) {
    let label = text(case, "id");
    let differs = |found: Value, wanted: &Value| (found != *wanted).then(|| format!("{found} is not {wanted}"));
    match operation {
        "is_catch_all" => {
            let route = route_of(&json!({ "match": [istio_match(label, &case["match"])] }));
            (differs(json!(route.condition.is_catch_all()), &case["catch_all"]), &["match", "catch_all"])
        }
        "sort_routes" => {
            let mut manifests = vec![gateway("default", 80)];
            for (index, envoy) in list(&case["in"]).iter().enumerate() {
                let rule = json!({ "name": index.to_string(), "match": [istio_match(label, envoy)] });
                manifests.push(one_rule(&format!("vs-{index:02}"), "default", &rule));
            }
            let translated = Translated::new(&manifests, Options::default());
            let index = |route: &Arc<Route>| route.name.parse::<usize>().expect("its index");
            let sorted: Vec<Value> = translated.routes().iter().map(|route| case["in"][index(route)].clone()).collect();
            (differs(json!(sorted), &case["sorted"]), &["in", "sorted"])
        }
        "mirror_percent" => {
            let route = route_of(&case["route"]);
            let Action::Forward(forward) = &route.action else { panic!("{label}: it forwards") };
            let share = forward.mirrors.first().map_or(0.0, |mirror| percent(mirror.share.0));
            let wanted = case["percent"].as_f64().expect("a number");
            let wrong = ((share - wanted).abs() > 1e-9).then(|| format!("{share} % is not {wanted} %"));
            (wrong, &["route", "percent"])
        }
        "mirror_host" => {
            assert_eq!(case["disable_shadow_host_suffix"], json!(false), "{label}: the suffix cannot be switched off");
            let host = text(case, "host");
            let rule = json!({ "mirror": { "host": "m" } });
            let mut service = one_rule("one", "default", &rule);
            service["spec"]["hosts"] = json!([host]);
            let stage = Stage::new(&[gateway("default", 80), service], Options::default(), 1);
            let (_, seen) = stage.ask(80, &Request::new("GET", host, "/"));
            let copy = seen.iter().find(|seen| destination(&seen.pod) == "m");
            let found = copy.and_then(|copy| joined(&copy.headers, "host"));
            (differs(json!(found), &case["mirrored_host"]), &["disable_shadow_host_suffix", "host", "mirrored_host"])
        }
        "source_match" => {
            let namespace = text(case, "proxy_namespace");
            let rule = json!({ "match": [case["match"]] });
            let translated =
                Translated::new(&[gateway(namespace, 80), one_rule("one", namespace, &rule)], Options::default());
            let hosts = translated.table("http.80");
            let applies = hosts.iter().any(|host| !host.routes.is_empty());
            (differs(json!(applies), &case["applies"]), &["match", "proxy_namespace", "applies"])
        }
        "jwt_claim_path" => {
            let path = matches::jwt_claim(text(case, "header"));
            (differs(json!(path), &case["claim_path"]), &["header", "claim_path"])
        }
        "fault" => (wrong_fault(case), &["fault", "delay_ms", "delay_percent", "abort_grpc_status", "abort_percent"]),
        "cors_preflight" => (wrong_preflight(case), &["policy", "origin", "origin_allowed", "preflight_forwarded"]),
        other => panic!("this test does not know the operation {other}"),
    }
}

fn wrong_fault(case: &Value) -> Option<String> {
    let route = route_of(&json!({ "fault": case["fault"] }));
    let fault = route.fault.clone().expect("a fault");
    let delay =
        fault.delay.map(|(delay, share)| (json!(u64::try_from(delay.as_millis()).expect("short")), percent(share.0)));
    let abort = fault.abort.map(|(abort, share)| match abort {
        Abort::Grpc(status) => (json!(status), percent(share.0)),
        Abort::Http(status) => panic!("an abort with {status}"),
    });
    let number = |key: &str| case.get(key).map(|value| value.as_f64().expect("a number"));
    let wanted_delay = case.get("delay_ms").cloned().zip(number("delay_percent"));
    let wanted_abort = case.get("abort_grpc_status").cloned().zip(number("abort_percent"));
    (delay != wanted_delay || abort != wanted_abort).then(|| format!("{:?}", route.fault))
}

fn wrong_preflight(case: &Value) -> Option<String> {
    let rule = json!({ "corsPolicy": case["policy"] });
    let manifests = [gateway("default", 80), one_rule("one", "default", &rule)];
    let stage = Stage::new(&manifests, Options::default(), 1);
    let origin = text(case, "origin");
    let request =
        Request::new("OPTIONS", "b", "/").header("origin", origin).header("access-control-request-method", "GET");
    let (answer, seen) = stage.ask(80, &request);
    let answer = answer.expect("an answer");
    let allowed = joined(&answer.headers, "access-control-allow-origin").as_deref() == Some(origin);
    let wanted = (&case["origin_allowed"], &case["preflight_forwarded"]);
    let found = (&json!(allowed), &json!(!seen.is_empty()));
    (found != wanted).then(|| format!("(allowed, forwarded) is {found:?} and not {wanted:?}: {answer:?}"))
}
