//! Istio's objects against the cases of Istio's own tests: names, delegation, retries, validation, and requests through a gateway.
//!
//! `tests/data/conformance/routing/README.md` says what the fields mean and where the cases come from. Every case of every family is run;
//! a field that no test knows fails it.

use std::fs;
use std::path::Path;

use gatedrill::manifest::istio::{self, host, retry};
use gatedrill::manifest::object::{self, Object};
use gatedrill::manifest::read::Note;
use gatedrill::manifest::{Problem, Sink, yaml};
use gatedrill::record::results::FidelityStatus;
use serde_json::{Map, Value, json};

/// A family's groups: what their cases share, and the cases.
fn load(family: &str) -> Vec<(Map<String, Value>, Vec<Value>)> {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/conformance/routing").join(format!("{family}.json"));
    let text = fs::read_to_string(&path).expect("the family's file");
    let mut file: Value = serde_json::from_str(&text).expect("a family is JSON");
    only("the file", &file, &["family", "source", "licence", "notes", "count", "groups", "cases"]);
    let count = file["count"].as_u64().expect("a count");
    let mut groups = Vec::new();
    if let Some(cases) = file.get_mut("cases") {
        groups.push((Map::new(), list(&cases.take())));
    }
    for group in file.get("groups").map(list).unwrap_or_default() {
        let Value::Object(mut shared) = group else { panic!("a group is a map") };
        let cases = shared.remove("cases").expect("a group has cases");
        groups.push((shared, list(&cases)));
    }
    let found: usize = groups.iter().map(|(_, cases)| cases.len()).sum();
    assert_eq!(u64::try_from(found).unwrap(), count, "{family}: every case is there");
    groups
}

/// Fails if a map has a key that the test does not know.
fn only(label: &str, value: &Value, known: &[&str]) {
    for key in value.as_object().expect("a map").keys() {
        assert!(known.contains(&key.as_str()), "{label}: this test does not know the field `{key}`");
    }
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().expect("a list").clone()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("`{key}` is a text in {value}"))
}

fn texts<'a>(value: &'a Value, key: &str) -> Vec<&'a str> {
    let items = value[key].as_array().unwrap_or_else(|| panic!("`{key}` is a list in {value}"));
    items.iter().map(|item| item.as_str().expect("a text")).collect()
}

/// An object of networking.istio.io in the namespace `default`.
fn manifest(kind: &str, name: &str, spec: Value) -> Value {
    json!({ "kind": kind, "metadata": { "name": name, "namespace": "default" }, "spec": spec })
}

/// Objects as a file would hold them.
fn objects(manifests: &[Value], sink: &Sink) -> Vec<Object> {
    let mut nodes = Vec::new();
    for manifest in manifests {
        let mut whole = manifest.clone();
        let fields = whole.as_object_mut().expect("an object is a map");
        fields.entry("apiVersion").or_insert(json!("networking.istio.io/v1"));
        let (documents, problems) = yaml::parse(&whole.to_string(), 0);
        assert!(problems.is_empty(), "JSON is YAML: {problems:?}");
        nodes.extend(documents);
    }
    object::objects(nodes, sink)
}

/// What Istio's webhook would say.
fn checked(manifests: &[Value]) -> (Vec<Problem>, Vec<Note>) {
    let sink = Sink::default();
    let objects = objects(manifests, &sink);
    istio::check(&objects, &sink);
    (sink.take_problems(), sink.take_notes())
}

/// VirtualServices as they are read, whatever the webhook would say.
fn virtual_services(manifests: &[Value]) -> Vec<istio::virtual_service::VirtualService> {
    let sink = Sink::default();
    istio::Config::read(&objects(manifests, &sink), &sink).virtual_services
}

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

/// The object that a part of one stands in, and the kind of the object.
fn wrapped(kind: &str, part: &Value) -> (&'static str, Value) {
    let rule =
        |rule: Value| ("VirtualService", json!({ "hosts": ["foo.bar"], "gateways": ["gateway"], "http": [rule] }));
    let to = || json!([{ "destination": { "host": "foo.baz" } }]);
    let beside = |key: &str| rule(json!({ "route": to(), key: part }));
    // Without an action of its own a rule needs destinations.
    let instead =
        |key: &str| rule(if part.is_null() { json!({ "route": to(), key: part }) } else { json!({ key: part }) });
    let server = |server: Value| ("Gateway", json!({ "selector": { "istio": "ingress" }, "servers": [server] }));
    let policy = |policy: Value| ("DestinationRule", json!({ "host": "reviews", "trafficPolicy": policy }));
    let port = || json!({ "number": 80, "name": "http", "protocol": "HTTP" });
    match kind {
        "Gateway" => ("Gateway", part.clone()),
        "Gateway server" => server(part.clone()),
        "Gateway port" => server(json!({ "hosts": ["foo.bar"], "port": part })),
        "Gateway TLS settings" => {
            let port = json!({ "number": 443, "name": "https", "protocol": "HTTPS" });
            server(json!({ "hosts": ["foo.bar"], "port": port, "tls": part }))
        }
        "port name" => {
            let mut port = port();
            port["name"] = part.clone();
            server(json!({ "hosts": ["foo.bar"], "port": port }))
        }
        "header name, strict" => rule(json!({ "route": to(), "corsPolicy": { "allowHeaders": [part] } })),
        "header name or JWT claim" => {
            let name = part.as_str().expect("a name");
            rule(json!({ "route": to(), "match": [{ "headers": { name: { "exact": "x" } } }] }))
        }
        "header value" => rule(json!({ "route": to(), "headers": { "request": { "set": { "name": part } } } })),
        "HTTP status" => rule(json!({ "directResponse": { "status": part } })),
        "corsPolicy" | "retries" | "rewrite" => beside(kind),
        "rewrite.uriRegexRewrite" => rule(json!({ "route": to(), "rewrite": { "uriRegexRewrite": part } })),
        "fault.abort" => rule(json!({ "route": to(), "fault": { "delay": { "fixedDelay": "1s" }, "abort": part } })),
        "fault.delay" => rule(json!({ "route": to(), "fault": { "abort": { "httpStatus": 500 }, "delay": part } })),
        "redirect" | "directResponse" => instead(kind),
        "destination" => rule(json!({ "route": [{ "destination": part }] })),
        "HTTP route destinations" => rule(json!({ "route": part })),
        "HTTP route" | "HTTP route of a root VirtualService" => rule(part.clone()),
        "HTTP route of a delegate VirtualService" => ("VirtualService", json!({ "http": [part] })),
        "VirtualService" | "VirtualService with delegates" => ("VirtualService", part.clone()),
        "DestinationRule" => ("DestinationRule", part.clone()),
        "trafficPolicy" => policy(part.clone()),
        "connectionPool" | "loadBalancer" | "outlierDetection" => policy(json!({ kind: part })),
        other => panic!("this test does not know the kind {other}"),
    }
}

/// Writes `{"repeat": "a", "count": 3}` out.
fn expanded(value: &Value) -> Value {
    match value {
        Value::Object(fields) if fields.contains_key("repeat") => {
            only("a repetition", value, &["repeat", "count"]);
            let count = usize::try_from(value["count"].as_u64().expect("a count")).expect("a small count");
            json!(text(value, "repeat").repeat(count))
        }
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), expanded(value))).collect(),
        Value::Array(items) => items.iter().map(expanded).collect(),
        other => other.clone(),
    }
}

#[test]
fn conformance_istio_validation() {
    let mut wrong = Vec::new();
    for (shared, cases) in load("istio-validation") {
        let group = Value::Object(shared);
        only("a group", &group, &["kind", "test", "source_file"]);
        for case in &cases {
            let label = text(case, "id");
            only(label, case, &["id", "name", "object", "valid", "message_contains", "warning"]);
            let (kind, spec) = wrapped(text(&group, "kind"), &expanded(&case["object"]));
            let (problems, notes) = checked(&[manifest(kind, "tested", spec)]);
            let is_valid = case["valid"].as_bool().expect("a flag");
            if is_valid != problems.is_empty() {
                wrong.push(format!("{label}: valid {is_valid}, and the problems are {problems:#?}"));
            }
            if problems.iter().any(|problem| !problem.place.is_written()) {
                wrong.push(format!("{label}: a problem without a place: {problems:#?}"));
            }
            if let Some(wanted) = case.get("message_contains") {
                let wanted = wanted.as_str().expect("a text");
                let told =
                    |problem: &Problem| format!("{} {}", problem.text, problem.help.as_deref().unwrap_or_default());
                if !problems.iter().any(|problem| told(problem).contains(wanted)) {
                    wrong.push(format!("{label}: nothing tells of `{wanted}`: {problems:#?}"));
                }
            }
            // What Istio accepts with a warning is simulated as Istio does it: a note on something modelled.
            let warnings = notes.iter().filter(|note| note.status == FidelityStatus::Modelled);
            let mut warnings = warnings.filter_map(|note| note.text.as_deref());
            let is_warned = match case.get("warning") {
                None | Some(Value::Bool(false)) => true,
                Some(Value::Bool(true)) => warnings.next().is_some(),
                Some(wanted) => warnings.any(|warning| warning.contains(wanted.as_str().expect("a text"))),
            };
            if !is_warned {
                wrong.push(format!("{label}: no warning as it should be: {notes:#?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} complaints:\n{}", wrong.len(), wrong.join("\n"));
}

/// The rules of a root whose only rule delegates.
fn delegated(root: &Value, rules: &Value) -> Vec<istio::http_route::HttpRoute> {
    let mut root = root.clone();
    root["delegate"] = json!({ "name": "delegate", "namespace": "default" });
    let root = manifest("VirtualService", "root", json!({ "hosts": ["b"], "gateways": ["gateway"], "http": [root] }));
    let delegate = manifest("VirtualService", "delegate", json!({ "http": rules }));
    let services = virtual_services(&[root, delegate]);
    let resolved = istio::delegate::resolve(&services, |rule, lost| panic!("{lost:?}: {rule:?}"));
    assert_eq!(resolved.len(), 1, "the delegate itself is left out");
    resolved[0].http.clone()
}

/// The rules of a VirtualService that stands for itself.
fn rules(rules: &Value) -> Vec<istio::http_route::HttpRoute> {
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
                    let key = istio::virtual_service::gateway_key(text(case, "gateway"), text(case, "namespace"));
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
            let seconds = |span: Option<std::time::Duration>| span.map(|span| format!("{}s", span.as_secs_f64()));
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
