//! What Istio's webhook accepts, warns of and refuses.

use gatedrill::manifest::Problem;
use gatedrill::record::results::FidelityStatus;
use serde_json::{Value, json};

use super::family::{checked, load, manifest, only, text};

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
