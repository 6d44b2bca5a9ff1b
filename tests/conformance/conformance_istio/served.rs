//! Requests through a real gateway under a VirtualService.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use gatedrill::manifest::routes::Options;
use serde_json::{Value, json};

use super::family::{Translated, gateway, judge, list, load, manifest, only, text, texts, virtual_services};
use crate::gateway_world::{Answer, Behavior, Cluster, Pod, Reply, Request, Seen, Setup, What, World, joined};

/// A gateway with what its objects lead to.
pub(super) struct Stage {
    world: World,
}

impl Stage {
    /// Each cluster has so many pods, called by its host or subset.
    pub(super) fn new(manifests: &[Value], options: Options, replicas: usize) -> Self {
        let routing = Translated::new(manifests, options).routing;
        let (mut clusters, mut pods) = (Vec::new(), Vec::new());
        for (number, upstream) in routing.upstreams.iter().enumerate() {
            let host = upstream.service.strip_prefix("default/").unwrap_or(&upstream.service);
            let name = upstream.subset.get("version").map_or(host, String::as_str);
            let mut endpoints = Vec::new();
            for replica in 0..replicas {
                let octet = |number: usize| u8::try_from(number).expect("few");
                let ip = Ipv4Addr::new(10, 1, octet(number), octet(replica + 1));
                endpoints.push(SocketAddr::V4(SocketAddrV4::new(ip, upstream.port)));
                pods.push(Pod { name: format!("{name}#{replica}"), ip, ports: vec![upstream.port] });
            }
            clusters.push(Cluster { name: Arc::clone(&upstream.cluster), config: upstream.config, endpoints });
        }
        let listeners = routing.listeners.clone();
        Self { world: World::new(Setup { seed: 7, listeners, routes: routing.routes, clusters, pods }) }
    }

    /// An answer, and what pods saw.
    pub(super) fn ask(&self, port: u16, request: &Request) -> (Option<Answer>, Vec<Seen>) {
        let answer = self.world.ask(port, request);
        (answer, self.world.seen())
    }
}

/// The host or subset that a pod is of.
pub(super) fn destination(pod: &str) -> &str {
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
