//! Istio's objects against the cases of Istio's own tests: names, delegation, retries, validation, and requests through a gateway.
//!
//! `tests/data/conformance/routing/README.md` says what the fields mean and where the cases come from. Every case of every family is run;
//! a field that no test knows fails it.

#[path = "support/gateway_world.rs"]
mod gateway_world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gatedrill::gateway::routes::{Abort, Action, RequireTls, Route, VirtualHost};
use gatedrill::manifest::istio::{self, host, matches, retry};
use gatedrill::manifest::object::{self, Object};
use gatedrill::manifest::read::Note;
use gatedrill::manifest::routes::{Around, Missing, Options, Proxy, Routing};
use gatedrill::manifest::{Problem, Sink, routes, yaml};
use gatedrill::record::results::FidelityStatus;
use gateway_world::{Answer, Behavior, Cluster, Pod, Reply, Request, Seen, Setup, What, World, joined};
use serde_json::{Map, Value, json};

const FOLDER: &str = "tests/data/conformance/routing";

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

/// Complaints by case, against the list of cases that cannot hold: the two must agree.
fn judge(family: &str, complaints: &BTreeMap<String, String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER).join("EXCEPTIONS-istio.md");
    let text = fs::read_to_string(path).expect("the list of exceptions");
    let listed = text.lines().filter_map(|line| line.strip_prefix("- `")?.split_once('`'));
    let listed: BTreeSet<&str> = listed.map(|(id, _)| id).filter(|id| id.starts_with(family)).collect();
    let unknown = complaints.iter().filter(|(id, _)| !listed.contains(id.as_str()));
    let unknown: Vec<String> = unknown.map(|(id, text)| format!("{id}: {text}")).collect();
    assert!(unknown.is_empty(), "{} complaints:\n{}", unknown.len(), unknown.join("\n"));
    let stale: Vec<&&str> = listed.iter().filter(|id| !complaints.contains_key(**id)).collect();
    assert!(stale.is_empty(), "listed as exceptions, and nothing is wrong with them: {stale:?}");
}

/// What objects come to, whatever the webhook would say: the tests of the source's translation never asked it.
struct Translated {
    routing: Routing,
}

impl Translated {
    /// Short hosts of destinations are Services of `default`, others are hosts of their own.
    fn new(manifests: &[Value], options: Options) -> Self {
        let sink = Sink::default();
        let objects = objects(manifests, &sink);
        let config = istio::Config::read(&objects, &Sink::default());
        let (mut declared, mut hosts) = (Vec::new(), Vec::new());
        for rule in config.virtual_services.iter().flat_map(|service| &service.http) {
            let mirrors = rule.mirrors.iter().map(|mirror| &mirror.destination);
            for destination in rule.destinations.iter().map(|one| &one.destination).chain(mirrors) {
                if destination.host.contains('.') {
                    hosts.push(destination.host.clone());
                } else {
                    declared.push(format!("{}/{}", destination.namespace, destination.host));
                }
            }
        }
        let around = Around {
            proxy: Proxy::Named(&[]),
            services: &BTreeMap::new(),
            declared: &declared,
            hosts: &hosts,
            missing: Missing::Answered,
            options,
        };
        Self { routing: routes::read(&objects, &around, &sink) }
    }

    /// The virtual hosts of a table by Istio's name of it.
    fn table(&self, name: &str) -> &[VirtualHost] {
        match name.strip_prefix("http.").and_then(|port| port.parse().ok()) {
            Some(port) => self.routing.routes.port(port).expect("a table").hosts(),
            None => &self.routing.secure[name],
        }
    }

    /// The routes of the only virtual host on port 80.
    fn routes(&self) -> &[Arc<Route>] {
        let [host] = self.table("http.80") else { panic!("one virtual host: {:?}", self.table("http.80")) };
        &host.routes
    }
}

/// The Gateway that cases have where they name none.
fn gateway(namespace: &str, port: u64) -> Value {
    let server = json!({ "port": { "number": port, "name": "http", "protocol": "HTTP" }, "hosts": ["*"] });
    let mut gateway = manifest("Gateway", "gateway", json!({ "servers": [server] }));
    gateway["metadata"]["namespace"] = json!(namespace);
    gateway
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
    let delay = fault.delay.map(|(delay, share)| (json!(u64::try_from(delay.as_millis()).unwrap()), percent(share.0)));
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

/// A gateway with what its objects lead to.
struct Stage {
    world: World,
}

impl Stage {
    /// Each cluster has so many pods, called by its host or subset.
    fn new(manifests: &[Value], options: Options, replicas: usize) -> Self {
        let routing = Translated::new(manifests, options).routing;
        let (mut clusters, mut pods) = (Vec::new(), Vec::new());
        for (number, upstream) in routing.upstreams.iter().enumerate() {
            let host = upstream.service.strip_prefix("default/").unwrap_or(&upstream.service);
            let name = upstream.subset.get("version").map_or(host, String::as_str);
            let mut endpoints = Vec::new();
            for replica in 0..replicas {
                let ip = Ipv4Addr::new(10, 1, u8::try_from(number).unwrap(), u8::try_from(replica + 1).unwrap());
                endpoints.push(SocketAddr::V4(SocketAddrV4::new(ip, upstream.port)));
                pods.push(Pod { name: format!("{name}#{replica}"), ip, ports: vec![upstream.port] });
            }
            clusters.push(Cluster { name: Arc::clone(&upstream.cluster), config: upstream.config, endpoints });
        }
        let listeners = routing.listeners.clone();
        let world = World::new(Setup { seed: 7, listeners, routes: routing.routes, clusters, pods });
        for upstream in &routing.upstreams {
            world.gateway().set_cluster(&upstream.cluster, upstream.config);
        }
        Self { world }
    }

    /// An answer, and what pods saw.
    fn ask(&self, port: u16, request: &Request) -> (Option<Answer>, Vec<Seen>) {
        let answer = self.world.ask(port, request);
        (answer, self.world.seen())
    }
}

/// The host or subset that a pod is of.
fn destination(pod: &str) -> &str {
    pod.split('#').next().unwrap_or_default()
}

#[test]
fn conformance_istio_virtual_service() {
    let mut complaints = BTreeMap::new();
    for (shared, cases) in load("istio-virtual-service") {
        let group = Value::Object(shared);
        let known = ["test", "source_file", "note", "virtual_service", "gateway", "destination_rule", "annotations"];
        let settings = ["proxy_headers", "http3_alt_svc", "mesh_config", "endpoints"];
        only("a group", &group, &[&known[..], &settings[..]].concat());
        for case in &cases {
            only(text(case, "id"), case, &["id", "request", "repeat", "expect"]);
            if let Err(wrong) = served(&group, case) {
                complaints.insert(text(case, "id").to_owned(), wrong);
            }
        }
    }
    judge("istio-virtual-service", &complaints);
}

/// The objects of a case.
fn manifests_of(group: &Value, port: u64) -> Vec<Value> {
    let mut manifests = vec![match group.get("gateway") {
        Some(spec) => manifest("Gateway", "gateway", spec.clone()),
        None => gateway("default", port),
    }];
    if let Some(spec) = group.get("destination_rule") {
        manifests.push(manifest("DestinationRule", "rule", spec.clone()));
    }
    let Some(spec) = group.get("virtual_service") else { return manifests };
    let mut service = manifest("VirtualService", "tested", spec.clone());
    if let Some(annotations) = group.get("annotations") {
        service["metadata"]["annotations"] = annotations.clone();
    }
    // The source's subsets are there; here somebody has to define them.
    let mut subsets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for rule in virtual_services(&[service.clone()]).iter().flat_map(|service| &service.http) {
        for one in &rule.destinations {
            let of_host = subsets.entry(one.destination.host.clone()).or_default();
            of_host.extend(one.destination.subset.clone());
        }
    }
    for (index, (host, names)) in subsets.iter().filter(|(_, names)| !names.is_empty()).enumerate() {
        let subset = |name: &String| json!({ "name": name, "labels": { "version": name } });
        let spec = json!({ "host": host, "subsets": names.iter().map(subset).collect::<Vec<_>>() });
        manifests.push(manifest("DestinationRule", &format!("subsets-{index}"), spec));
    }
    manifests.push(service);
    manifests
}

/// What the settings around a case ask of the gateway.
fn options_of(group: &Value) -> Result<Options, String> {
    if group.get("http3_alt_svc").is_some() {
        return Err("HTTP/3 is not announced".to_owned());
    }
    if let Some(mesh) = group.get("mesh_config") {
        // Nothing is forwarded in these cases, so it makes no difference who is trusted.
        assert_eq!(*mesh, json!({ "gatewayTopology": { "numTrustedProxies": 1 } }));
    }
    let mut options = Options::default();
    if let Some(headers) = group.get("proxy_headers") {
        assert_eq!(*headers, json!({ "xForwardedHost": { "enabled": true } }));
        options.appends_forwarded_host = true;
    }
    Ok(options)
}

fn served(group: &Value, case: &Value) -> Result<(), String> {
    let (wire, expect) = (&case["request"], &case["expect"]);
    only("a request", wire, &["host", "target", "method", "headers", "port", "scheme", "protocol"]);
    if wire.get("protocol").is_some_and(|protocol| *protocol != json!("HTTP/1.1")) {
        return Err("the client speaks HTTP/1.1 only".to_owned());
    }
    assert!(wire.get("scheme").is_none_or(|scheme| *scheme == json!("http")), "the client speaks http only");
    let port = wire.get("port").map_or(80, |port| port.as_u64().expect("a port"));
    let replicas = match group.get("endpoints") {
        None => 1,
        Some(count) => {
            assert_eq!(*count, json!("several"));
            4
        }
    };
    let stage = Stage::new(&manifests_of(group, port), options_of(group)?, replicas);
    let port = u16::try_from(port).expect("a port");
    let method = wire.get("method").map_or("GET", |method| method.as_str().expect("a method"));
    let mut request = Request::new(method, text(wire, "host"), text(wire, "target"));
    for pair in wire.get("headers").map(list).unwrap_or_default() {
        request = request.header(pair[0].as_str().expect("a name"), pair[1].as_str().expect("a value"));
    }
    let upstream_headers = expect.get("upstream_response_headers").map(pairs).unwrap_or_default();
    let what = What::Answer { status: 200, headers: upstream_headers };
    stage.world.behave(Behavior { first: Vec::new(), then: Reply { after: Duration::ZERO, what } });
    if let Some(repeat) = case.get("repeat") {
        return repeated(&stage, port, &request, repeat, expect);
    }
    if let Some(timeout) = expect.get("timeout_ms") {
        timed(&stage, port, &request, timeout.as_u64().expect("a number"))?;
    }
    // Where a case is about one of several destinations, requests are sent until one goes there.
    let wanted = expect.get("destination").map(|name| name.as_str().expect("a name"));
    let mut last = Err("no answer".to_owned());
    for _ in 0..50 {
        let (answer, seen) = stage.ask(port, &request);
        let answer = answer.ok_or("no answer")?;
        let log = stage.world.log();
        let is_there = wanted.is_none_or(|wanted| seen.iter().any(|seen| destination(&seen.pod) == wanted));
        if is_there {
            return compared(expect, &answer, &seen, log.first().and_then(|record| record.route.as_deref()));
        }
        last = Err(format!("it never went to {wanted:?}: {answer:?}, {seen:?}"));
    }
    last
}

fn pairs(value: &Value) -> Vec<(String, String)> {
    let fields = value.as_object().expect("a map");
    fields.iter().map(|(name, value)| (name.clone(), value.as_str().expect("a text").to_owned())).collect()
}

fn compared(expect: &Value, answer: &Answer, seen: &[Seen], route: Option<&str>) -> Result<(), String> {
    let about_upstream = ["upstream", "destination", "upstream_response_headers"];
    let about_answer = ["status", "location", "body", "response_headers", "absent_response_headers"];
    only("what is expected", expect, &[&about_upstream[..], &about_answer[..], &["route_name", "timeout_ms"]].concat());
    let mut wrong = Vec::new();
    let mut differ = |what: &str, found: Value, wanted: &Value| {
        if found != *wanted {
            wrong.push(format!("{what} is {found} and not {wanted}"));
        }
    };
    differ("the status", json!(answer.status), &expect["status"]);
    if let Some(location) = expect.get("location") {
        differ("location", json!(joined(&answer.headers, "location")), location);
    }
    if let Some(body) = expect.get("body") {
        differ("the body", json!(String::from_utf8_lossy(&answer.body)), body);
    }
    if let Some(name) = expect.get("route_name") {
        differ("the route", json!(route), name);
    }
    for (name, value) in expect.get("response_headers").map(pairs).unwrap_or_default() {
        differ(&name, json!(joined(&answer.headers, &name)), &json!(value));
    }
    for name in
        expect.get("absent_response_headers").map(|_| texts(expect, "absent_response_headers")).unwrap_or_default()
    {
        differ(name, json!(joined(&answer.headers, name)), &Value::Null);
    }
    if let Some(upstream) = expect.get("upstream") {
        only("the upstream", upstream, &["headers", "absent_headers", "host", "target", "protocol"]);
        let [seen] = seen else { return Err(format!("one request reaches a pod: {seen:?}, {answer:?}")) };
        for (key, found) in [("host", joined(&seen.headers, "host")), ("target", Some(seen.target.clone()))] {
            if let Some(wanted) = upstream.get(key) {
                differ(key, json!(found), wanted);
            }
        }
        if let Some(protocol) = upstream.get("protocol") {
            // Pods understand nothing else.
            differ("the protocol", json!("HTTP/1.1"), protocol);
        }
        for (name, value) in upstream.get("headers").map(pairs).unwrap_or_default() {
            differ(&name, json!(joined(&seen.headers, &name)), &json!(value));
        }
        for name in upstream.get("absent_headers").map(|_| texts(upstream, "absent_headers")).unwrap_or_default() {
            differ(name, json!(joined(&seen.headers, name)), &Value::Null);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

/// A pod that takes longer than the time-out, or half a minute where there is none.
fn timed(stage: &Stage, port: u16, request: &Request, timeout_ms: u64) -> Result<(), String> {
    let after = Duration::from_millis(if timeout_ms == 0 { 30_000 } else { timeout_ms + 5_000 });
    stage.world.behave(Behavior { first: vec![Reply { after, ..Reply::default() }], then: Reply::default() });
    let (answer, _) = stage.ask(port, request);
    let _ = stage.world.log();
    let answer = answer.ok_or("no answer")?;
    let took_ms = u64::try_from(answer.took.as_millis()).expect("a short time");
    let is_right = match timeout_ms {
        0 => answer.status == 200 && took_ms >= 30_000,
        limit => answer.status == 504 && (limit..limit + 20).contains(&took_ms),
    };
    if is_right { Ok(()) } else { Err(format!("after {took_ms} ms it was {}", answer.status)) }
}

fn repeated(stage: &Stage, port: u16, request: &Request, repeat: &Value, expect: &Value) -> Result<(), String> {
    let known = ["count", "per_destination", "tolerance", "distinct_endpoints", "distinct_endpoints_at_least"];
    only("a repetition", repeat, &known);
    only("what is expected of all", expect, &["status"]);
    let mut pods: BTreeMap<String, i64> = BTreeMap::new();
    for _ in 0..repeat["count"].as_u64().expect("a count") {
        let (answer, seen) = stage.ask(port, request);
        let answer = answer.ok_or("no answer")?;
        if json!(answer.status) != expect["status"] {
            return Err(format!("the status is {}", answer.status));
        }
        for seen in seen {
            *pods.entry(seen.pod).or_default() += 1;
        }
    }
    if let Some(shares) = repeat.get("per_destination") {
        let tolerance = repeat["tolerance"].as_i64().expect("a number");
        for (name, wanted) in shares.as_object().expect("a map") {
            let count: i64 = pods.iter().filter(|(pod, _)| destination(pod) == name).map(|(_, count)| count).sum();
            if (count - wanted.as_i64().expect("a number")).abs() > tolerance {
                return Err(format!("{count} and not {wanted} went to {name}"));
            }
        }
    }
    let distinct = u64::try_from(pods.len()).expect("few");
    if repeat.get("distinct_endpoints").is_some_and(|wanted| wanted.as_u64() != Some(distinct)) {
        return Err(format!("{distinct} endpoints were used"));
    }
    if repeat.get("distinct_endpoints_at_least").is_some_and(|least| least.as_u64() > Some(distinct)) {
        return Err(format!("{distinct} endpoints were used"));
    }
    Ok(())
}
