//! Istio's `Gateway`, `VirtualService` and `DestinationRule` into the gateway's listeners, routes and clusters.
//!
//! - A Gateway applies if its selector holds for the pods. A server's port is a Service port: the listener binds that Service's target port.
//! - A VirtualService binds to the gateways it names; the hosts are those of both, the more specific of each pair. Several on one host append
//!   their routes in order of name and namespace, since manifests carry no creation time; catch-all routes move to the end.
//! - Each `match` block is one route; the first that holds wins. One destination ignores its weight.
//! - A cluster is `outbound|port||host.namespace.svc.cluster.local`.
//!
//! Not simulated yet, and refused or noted where it is met: redirects, direct answers, rewrites, header operations, faults, mirrors, delegation, TLS.
//! Sources: istio pilot/pkg/model/gateway.go (merging), pilot/pkg/networking/core/{gateway,route/route}.go.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;

use super::object::Object;
use super::problem::{Place, Problem};
use super::read::{Field, Fields, Sink};
use super::service::{ServiceManifest, TargetPort};
use crate::gateway::retry::RetryOn;
use crate::gateway::routes::{
    Action, Destination, Forward, HeaderMatch, PathMatch, Route, RouteMatch, Routes, ValueMatch, VirtualHost, anchored,
};
use crate::gateway::{Policy, RetryPolicy};
use crate::record::results::FidelityStatus;

/// What the gateway gets.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    /// Where it listens: the port it binds, and the Service port by which its routes know it.
    pub listeners: Vec<(u16, u16)>,
    /// Its routes.
    pub routes: Routes,
    /// The services behind: cluster name, Service key, port.
    pub upstreams: Vec<Upstream>,
    /// Where the first VirtualService that takes part stands.
    pub first_route_at: Option<Place>,
}

/// A service behind the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The cluster's name.
    pub cluster: Arc<str>,
    /// `namespace/name` of the Service.
    pub service: String,
    /// The Service's port.
    pub port: u16,
    /// How requests are spread.
    pub policy: Policy,
    /// Where the route names it.
    pub at: Place,
}

/// What the objects are looked up in.
pub struct Around<'a> {
    /// Labels of the gateway's pods.
    pub labels: &'a BTreeMap<String, String>,
    /// Their named ports.
    pub ports: &'a BTreeMap<String, u16>,
    /// The Service in front of them.
    pub front: &'a ServiceManifest,
    /// All Services, by key.
    pub services: &'a BTreeMap<String, ServiceManifest>,
    /// Services that the scenario declares, by key.
    pub declared: &'a [String],
}

/// Source: istio pkg/config/protocol/instance.go.
const PROTOCOLS: [&str; 9] = ["HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB", "TCP", "TLS", "MONGO", "MYSQL"];

struct Server {
    gateway: String,
    gateway_namespace: String,
    port: u16,
    /// Namespace (`*` for any) and name.
    hosts: Vec<(String, String)>,
}

/// Reads all routing objects.
pub fn read(objects: &[Object], around: &Around<'_>, sink: &Sink) -> Routing {
    let mut routing = Routing::default();
    let of_kind = |kind: &str| {
        let mut found: Vec<&Object> = objects.iter().filter(|object| object.id.kind == kind).collect();
        found.sort_by(|a, b| (&a.id.name, &a.id.namespace).cmp(&(&b.id.name, &b.id.namespace)));
        found
    };
    let gateways = of_kind("Gateway");
    let mut servers = Vec::new();
    let before = sink.problem_count();
    for object in &gateways {
        read_gateway(object, around, sink, &mut servers, &mut routing.listeners);
    }
    // Gateways for other pods are none of ours, unless there is no other.
    if servers.is_empty() && sink.problem_count() == before {
        gateways.iter().for_each(|object| refuse_selector(object, around, sink));
    }
    let policies: BTreeMap<String, Policy> =
        of_kind("DestinationRule").iter().filter_map(|object| read_destination_rule(object, sink)).collect();
    // Routes by (port, host), in the order of the VirtualServices.
    let mut tables: BTreeMap<(u16, String), Vec<Arc<Route>>> = BTreeMap::new();
    for object in of_kind("VirtualService") {
        if !names_a_gateway(object) {
            let note = "without a gateway it is for the sidecars of the mesh";
            sink.note(object.place(), object.id.to_string(), FidelityStatus::Ignored, Some(note));
            continue;
        }
        let Some(parsed) = read_virtual_service(object, around, &policies, sink) else { continue };
        for reference in &parsed.gateways {
            let is_known = gateways.iter().any(|gateway| gateway.key() == reference.0);
            if reference.0 != "mesh" && !is_known {
                let known: Vec<String> = gateways.iter().map(|gateway| gateway.key()).collect();
                let problem =
                    Problem::at(reference.1, "spec.gateways", format!("no Gateway is called `{}`", reference.0));
                sink.report(problem.did_you_mean(&reference.0, known.iter().map(String::as_str)));
            }
        }
        let mut takes_part = false;
        for server in &servers {
            if !parsed.gateways.iter().any(|(name, _)| *name == server.gateway) {
                continue;
            }
            for host in bound_hosts(server, &parsed.hosts, &object.id.namespace) {
                takes_part = true;
                let routes = parsed.routes.iter().filter(|route| route.port.is_none_or(|port| port == server.port));
                tables.entry((server.port, host)).or_default().extend(routes.map(|route| Arc::clone(&route.route)));
            }
        }
        if takes_part {
            routing.first_route_at.get_or_insert(object.place());
            for upstream in parsed.upstreams {
                if !routing.upstreams.contains(&upstream)
                    && !routing.upstreams.iter().any(|known| known.cluster == upstream.cluster)
                {
                    routing.upstreams.push(upstream);
                }
            }
        }
    }
    for ((port, name), mut routes) in tables {
        // Stable: `false` (a condition) sorts before `true` (a catch-all).
        routes.sort_by_key(|route| route.condition.is_catch_all());
        routing.routes.add(port, VirtualHost::new(name, routes));
    }
    if gateways.is_empty() {
        sink.report(
            Problem::at(
                around.front.annotations_at,
                "",
                "no Gateway configures the target, so it would listen nowhere",
            )
            .help("add an Istio Gateway whose selector matches its pods"),
        );
    }
    routing
}

fn read_gateway(
    object: &Object,
    around: &Around<'_>,
    sink: &Sink,
    servers: &mut Vec<Server>,
    listeners: &mut Vec<(u16, u16)>,
) {
    let prefix = object.prefix();
    let Some(fields) = object.open(sink, &prefix) else { return };
    let spec_field = fields.look("spec");
    fields.finish();
    let Some(spec) = spec_field.and_then(|field| field.fields()) else { return };
    let selector_field = spec.get("selector");
    let selector = selector_field.as_ref().map(|field| field.text_map()).unwrap_or_default();
    let applies = selector.iter().all(|(key, value)| around.labels.get(key) == Some(value));
    if !applies && let Some(field) = &selector_field {
        field.note(FidelityStatus::Ignored, Some("the selector matches no pod of the target"));
    }
    let list = spec.look("servers").map(|field| field.items()).unwrap_or_default();
    if list.is_empty() {
        spec.missing("servers", "a Gateway has at least one server");
    }
    for server in list {
        let Some(fields) = server.fields() else { continue };
        let port_field = fields.look("port");
        let hosts_field = fields.require("hosts", "a server has hosts, such as [\"*\"]");
        let hosts = hosts_field.map(|field| field.texts()).unwrap_or_default();
        let tls = fields.look("tls");
        fields.ignore(&["bind", "defaultEndpoint"], "not simulated");
        fields.allow(&["name"]);
        fields.finish();
        let Some(port_fields) = port_field.as_ref().and_then(|field| field.fields()) else {
            fields.missing("port", "a server has a port");
            continue;
        };
        let number =
            port_fields.require("number", "a port has a number").and_then(|field| field.whole::<u16>(1, 65535));
        let protocol =
            port_fields.look("protocol").and_then(|field| field.text()).unwrap_or("HTTP").to_ascii_uppercase();
        port_fields.allow(&["name", "targetPort"]);
        port_fields.finish();
        if !PROTOCOLS.contains(&protocol.as_str()) {
            let problem =
                Problem::at(server.place(), format!("{}.port.protocol", server.path()), "this is no protocol");
            sink.report(problem.did_you_mean(&protocol, PROTOCOLS));
            continue;
        }
        if !matches!(protocol.as_str(), "HTTP" | "HTTP2") {
            server.note(FidelityStatus::Ignored, Some("only plain HTTP is simulated; this server is left out"));
            continue;
        }
        if let Some(tls) = tls.filter(|tls| !tls.node().is_empty()) {
            tls.note(FidelityStatus::Ignored, Some("redirects to HTTPS are not simulated"));
        }
        let Some(number) = number.filter(|_| applies) else { continue };
        let of_service = around.front.ports.iter().find(|port| port.port == number);
        let bound = match of_service.map(|port| &port.target) {
            Some(TargetPort::Number(target)) => *target,
            Some(TargetPort::Name(name)) => around.ports.get(name).copied().unwrap_or(number),
            None => number,
        };
        if of_service.is_none() {
            port_field.as_ref().unwrap_or(&server).note(
                FidelityStatus::Approximated,
                Some("the Service in front has no such port, so no client reaches it"),
            );
        }
        if !listeners.contains(&(bound, number)) {
            listeners.push((bound, number));
        }
        let namespace = &object.id.namespace;
        let split = |host: &String| match host.split_once('/') {
            None => ("*".to_owned(), host.to_ascii_lowercase()),
            Some((".", name)) => (namespace.clone(), name.to_ascii_lowercase()),
            Some((within, name)) => (within.to_owned(), name.to_ascii_lowercase()),
        };
        servers.push(Server {
            gateway: object.key(),
            gateway_namespace: namespace.clone(),
            port: number,
            hosts: hosts.iter().map(split).collect(),
        });
    }
    spec.finish();
}

/// Says that a selector holds for nobody.
fn refuse_selector(object: &Object, around: &Around<'_>, sink: &Sink) {
    if let Some(entry) = object.node.find(&["spec"]).and_then(|spec| spec.entry("selector")) {
        let labels: Vec<String> = around.labels.iter().map(|(key, value)| format!("{key}: {value}")).collect();
        let problem = Problem::at(entry.key_at, "spec.selector", "the selector matches no pod of the target");
        sink.report(problem.help(format!("the target's pods carry {}", labels.join(", "))));
    }
}

/// The hosts of a VirtualService on a server: of each pair that meets, the more specific one.
fn bound_hosts(server: &Server, hosts: &[String], namespace: &str) -> Vec<String> {
    let mut bound: Vec<String> = Vec::new();
    for (within, server_host) in &server.hosts {
        if within != "*" && within != namespace && !(within == "." && server.gateway_namespace == namespace) {
            continue;
        }
        bound.extend(hosts.iter().filter_map(|host| meet(server_host, host)));
    }
    bound.sort();
    bound.dedup();
    bound
}

/// The more specific of two host names of which one covers the other.
fn meet(a: &str, b: &str) -> Option<String> {
    let covers = |wide: &str, narrow: &str| match wide.strip_prefix('*') {
        None => wide == narrow,
        Some(suffix) => narrow.strip_prefix('*').unwrap_or(narrow).ends_with(suffix) && narrow.len() >= wide.len(),
    };
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    if covers(&a, &b) {
        Some(b)
    } else if covers(&b, &a) {
        Some(a)
    } else {
        None
    }
}

/// Whether a VirtualService is meant for any gateway; without the field, or with `mesh` alone, it is not.
fn names_a_gateway(object: &Object) -> bool {
    let gateways = object.node.find(&["spec", "gateways"]).map(super::yaml::Node::items).unwrap_or_default();
    gateways.iter().any(|gateway| gateway.text() != Some("mesh"))
}

struct ParsedRoute {
    route: Arc<Route>,
    /// Only on this server port.
    port: Option<u16>,
}

struct ParsedService {
    gateways: Vec<(String, Place)>,
    hosts: Vec<String>,
    routes: Vec<ParsedRoute>,
    upstreams: Vec<Upstream>,
}

fn read_virtual_service(
    object: &Object,
    around: &Around<'_>,
    policies: &BTreeMap<String, Policy>,
    sink: &Sink,
) -> Option<ParsedService> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let spec_field = fields.look("spec");
    fields.finish();
    let spec = spec_field?.fields()?;
    let hosts =
        spec.require("hosts", "a VirtualService names its hosts").map(|field| field.texts()).unwrap_or_default();
    let mut gateways = Vec::new();
    for item in spec.get("gateways").map(|field| field.items()).unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        let name = match text.split_once('/') {
            None if text == "mesh" => text.to_owned(),
            None => format!("{}/{text}", object.id.namespace),
            Some((".", name)) => format!("{}/{name}", object.id.namespace),
            Some(_) => text.to_owned(),
        };
        gateways.push((name, item.place()));
    }
    spec.ignore(&["tls", "tcp", "exportTo"], "only HTTP routes are simulated");
    let mut context = Context { object, around, policies, upstreams: Vec::new() };
    let mut routes = Vec::new();
    for rule in spec.look("http").map(|field| field.items()).unwrap_or_default() {
        read_rule(&rule, &mut context, &mut routes);
    }
    spec.finish();
    let upstreams = context.upstreams;
    Some(ParsedService { gateways, hosts, routes, upstreams })
}

struct Context<'a> {
    object: &'a Object,
    around: &'a Around<'a>,
    policies: &'a BTreeMap<String, Policy>,
    upstreams: Vec<Upstream>,
}

fn read_rule(rule: &Field<'_>, context: &mut Context<'_>, routes: &mut Vec<ParsedRoute>) {
    let Some(fields) = rule.fields() else { return };
    let name = fields.look("name").and_then(|field| field.text()).unwrap_or_default().to_owned();
    for key in ["redirect", "directResponse", "delegate", "fault", "rewrite"] {
        if let Some(field) = fields.look(key).filter(|field| !field.node().is_empty()) {
            field.refuse(
                format!("`{key}` is not simulated yet, and it would change what clients see"),
                "take it out for the drill",
            );
        }
    }
    fields.ignore(&["headers", "mirror", "mirrors", "mirrorPercentage", "corsPolicy"], "not simulated");
    fields.ignore(&["mirror_percent", "mirrorPercent"], "not simulated");
    let timeout = fields.get("timeout").and_then(|field| field.duration()).filter(|timeout| !timeout.is_zero());
    let retry = fields.look("retries").map_or(Some(RetryPolicy::ISTIO), |field| read_retries(&field));
    let mut destinations = Vec::new();
    let targets = fields.look("route").map(|field| field.items()).unwrap_or_default();
    let is_single = targets.len() == 1;
    for target in &targets {
        destinations.extend(read_destination(target, is_single, context));
    }
    if destinations.len() > 1 && destinations.iter().all(|destination| destination.weight == 0) {
        let route = fields.look("route");
        route.as_ref().unwrap_or(rule).refuse("the weights of several destinations are all 0", "write their shares");
        destinations.clear();
    }
    let matches = fields.look("match").map(|field| field.items()).unwrap_or_default();
    fields.finish();
    if targets.is_empty() {
        fields.missing("route", "a rule sends its requests to destinations");
    }
    let Some(retry) = retry else { return };
    if destinations.is_empty() {
        return;
    }
    let mut push = |found: Match| {
        let Match { path, method, headers, port } = found;
        let condition = RouteMatch { method, headers, ..RouteMatch::path(path) };
        let action = Action::Forward(Forward { timeout, retry: retry.clone(), ..Forward::to(destinations.clone()) });
        routes.push(ParsedRoute { route: Arc::new(Route::new(name.as_str(), condition, action)), port });
    };
    if matches.is_empty() {
        push(Match::default());
    }
    for block in &matches {
        if let Some(found) = read_match(block) {
            push(found);
        }
    }
}

struct Match {
    path: PathMatch,
    method: Option<ValueMatch>,
    headers: Vec<HeaderMatch>,
    port: Option<u16>,
}

impl Default for Match {
    fn default() -> Self {
        Self { path: PathMatch::Prefix("/".to_owned()), method: None, headers: Vec::new(), port: None }
    }
}

fn read_match(block: &Field<'_>) -> Option<Match> {
    let fields = block.fields()?;
    let mut found = Match::default();
    let mut is_whole = true;
    if let Some(uri) = fields.look("uri") {
        match read_value(&uri) {
            Some(ValueMatch::Exact(text)) => found.path = PathMatch::Exact(text),
            Some(ValueMatch::Prefix(text)) => found.path = PathMatch::Prefix(text),
            Some(ValueMatch::Regex(regex)) => found.path = PathMatch::Regex(regex),
            Some(_) => {}
            None => is_whole = false,
        }
    }
    if let Some(method) = fields.look("method") {
        found.method = read_value(&method);
        is_whole &= found.method.is_some();
    }
    for (key, inverted) in [("headers", false), ("withoutHeaders", true)] {
        for (name, value) in fields.look(key).map(|field| field.map()).unwrap_or_default() {
            let Ok(name) = HeaderName::try_from(name) else {
                value.refuse(format!("`{name}` is no header name"), "write letters, digits and dashes");
                continue;
            };
            match read_value(&value) {
                Some(value) => found.headers.push(HeaderMatch {
                    inverted,
                    missing_is_empty: inverted && !matches!(value, ValueMatch::Present),
                    ..HeaderMatch::new(name, value)
                }),
                None => is_whole = false,
            }
        }
    }
    found.port = fields.get("port").and_then(|field| field.whole::<u16>(1, 65535));
    for key in ["scheme", "authority", "queryParams", "sourceLabels", "sourceNamespace", "gateways"] {
        if let Some(field) = fields.look(key).filter(|field| !field.node().is_empty()) {
            field.refuse(format!("matching by `{key}` is not simulated yet"), "take it out for the drill");
        }
    }
    if fields.look("ignoreUriCase").and_then(|field| field.boolean()) == Some(true) {
        fields.ignore(&["ignoreUriCase"], "paths are compared exactly");
    }
    fields.allow(&["name", "statPrefix"]);
    fields.finish();
    is_whole.then_some(found)
}

/// `exact`, `prefix` or `regex`; none of them: the value must only be there.
fn read_value(field: &Field<'_>) -> Option<ValueMatch> {
    let fields = field.fields()?;
    let text = |key: &str| fields.get(key).and_then(|field| field.text()).map(str::to_owned);
    let (exact, prefix, regex) = (text("exact"), text("prefix"), fields.get("regex"));
    fields.finish();
    match (exact, prefix, regex) {
        (None, None, None) => Some(ValueMatch::Present),
        (Some(exact), None, None) => Some(ValueMatch::Exact(exact)),
        (None, Some(prefix), None) => Some(ValueMatch::Prefix(prefix)),
        (None, None, Some(regex)) => match anchored(regex.text()?) {
            _ if regex.text() == Some("*") => Some(ValueMatch::Present),
            Ok(compiled) => Some(ValueMatch::Regex(compiled)),
            Err(error) => {
                let why = error.to_string();
                regex.refuse("this is no regular expression", why.lines().last().unwrap_or_default().to_owned());
                None
            }
        },
        _ => {
            field.refuse("more than one kind of match", "write one of exact, prefix and regex");
            None
        }
    }
}

fn read_retries(field: &Field<'_>) -> Option<RetryPolicy> {
    let fields = field.fields()?;
    // In the resource's type an absent number is 0, and 0 means none: the default of 2 holds where there is no policy at all.
    let attempts = fields.get("attempts").map_or(Some(0), |field| field.whole::<u32>(0, i64::from(i32::MAX)));
    let per_try = fields.get("perTryTimeout").and_then(|field| field.positive_duration());
    let backoff = fields.get("backoff").and_then(|field| field.positive_duration());
    let retry_on = fields.look("retryOn");
    fields.ignore(&["retryRemoteLocalities", "retryIgnorePreviousHosts"], "not simulated");
    fields.finish();
    if attempts == Some(0) && (per_try.is_some() || retry_on.is_some()) {
        field.refuse(
            "a policy without attempts retries nothing, and Istio refuses one",
            "write attempts: 2, for example",
        );
    }
    let mut policy = RetryPolicy::ISTIO;
    if let Some(field) = retry_on {
        let conditions: Vec<&str> = field.text()?.split(',').map(str::trim).collect();
        policy.retry_on = RetryOn::parse(field.text()?).0;
        let simulated = conditions.iter().all(|condition| {
            matches!(
                *condition,
                "connect-failure" | "refused-stream" | "unavailable" | "cancelled" | "retriable-status-codes"
            )
        });
        if simulated {
            field.note(FidelityStatus::Modelled, None);
        } else {
            field.note(FidelityStatus::Approximated, Some("only failures to connect are retried"));
        }
    }
    policy.attempts = attempts?;
    policy.per_try_timeout = per_try;
    if let Some(base) = backoff {
        policy.backoff_base = base;
        policy.backoff_max = base.saturating_mul(10);
    }
    Some(policy)
}

fn read_destination(target: &Field<'_>, is_single: bool, context: &mut Context<'_>) -> Option<Destination> {
    let fields = target.fields()?;
    let weight = fields.get("weight").map_or(Some(0), |field| field.whole::<u32>(0, i64::from(i32::MAX)));
    let destination_field = fields.look("destination");
    fields.ignore(&["headers"], "not simulated");
    fields.finish();
    let Some(destination_field) = destination_field else {
        fields.missing("destination", "write a destination with a host");
        return None;
    };
    let destination = destination_field.fields()?;
    let host_field = destination.require("host", "write the name of a Service");
    let port_field = destination.look("port");
    let port = port_field.as_ref().and_then(|field| {
        let inner = field.fields()?;
        let number = inner.get("number").and_then(|field| field.whole::<u16>(1, 65535));
        inner.finish();
        number
    });
    destination.ignore(&["subset"], "subsets are not simulated: all endpoints of the Service are used");
    destination.finish();
    let host_field = host_field?;
    let host = host_field.text()?;
    let key = service_key(host, &context.object.id.namespace);
    if refuse_half_a_name(&host_field, host, &key) {
        return None;
    }
    let service = context.around.services.get(&key);
    let is_declared = context.around.declared.contains(&key);
    if service.is_none() && !is_declared {
        let known: Vec<String> = context.around.services.keys().chain(context.around.declared).cloned().collect();
        let problem = host_field.problem(format!("no Service is called `{key}`"));
        let near = super::read::did_you_mean(&key, known.iter().map(String::as_str));
        let help = near.map_or_else(
            || format!("add it to the manifests, or declare it under spec.backends; there are: {}", known.join(", ")),
            |near| format!("did you mean `{near}`?"),
        );
        host_field.sink().report(problem.help(help));
        return None;
    }
    let ports = service.map(|service| service.ports.as_slice()).unwrap_or_default();
    let chosen = match (port, ports) {
        (Some(port), ports) => {
            if !ports.is_empty() && !ports.iter().any(|known| known.port == port) {
                let known: Vec<String> = ports.iter().map(|known| known.port.to_string()).collect();
                port_field.as_ref().unwrap_or(&host_field).refuse(
                    format!("Service `{key}` has no port {port}"),
                    format!("its ports are {}", known.join(", ")),
                );
                return None;
            }
            port
        }
        (None, [only]) => only.port,
        (None, []) => 80,
        (None, _) => {
            host_field.refuse(format!("Service `{key}` has several ports"), "name one: port: { number: … }");
            return None;
        }
    };
    let (namespace, name) = key.split_once('/')?;
    let cluster: Arc<str> = Arc::from(format!("outbound|{chosen}||{name}.{namespace}.svc.cluster.local"));
    let policy = context.policies.get(&key).copied().unwrap_or(Policy::LeastRequest);
    if !context.upstreams.iter().any(|known| known.cluster == cluster) {
        let at = host_field.place();
        context.upstreams.push(Upstream { cluster: Arc::clone(&cluster), service: key, port: chosen, policy, at });
    }
    let weight = if is_single { 1 } else { weight? };
    Some(Destination::cluster(cluster, weight))
}

/// A name with dots is a whole name to Istio: `web.shop` is no Service, though resolvers elsewhere find one.
/// Source: istio pkg/config/model.go `ResolveShortnameToFQDN`.
fn refuse_half_a_name(field: &Field<'_>, host: &str, key: &str) -> bool {
    let is_half = host.contains('.') && !host.ends_with(".svc.cluster.local") && !host.starts_with('*');
    if is_half {
        let (namespace, name) = key.split_once('/').unwrap_or(("default", key));
        let name = format!("{name}.{}.svc.cluster.local", namespace.split('.').next().unwrap_or_default());
        field.refuse(
            format!("Istio takes `{host}` for a whole name, and no Service is called so"),
            format!("write {name}, or the name alone within its namespace"),
        );
    }
    is_half
}

/// `namespace/name` of the Service that a host names: `web`, or the whole name.
fn service_key(host: &str, namespace: &str) -> String {
    let host = host.strip_suffix(".svc.cluster.local").unwrap_or(host);
    match host.split_once('.') {
        None => format!("{namespace}/{host}"),
        Some((name, within)) => format!("{within}/{name}"),
    }
}

/// The balancing of one Service's requests.
fn read_destination_rule(object: &Object, sink: &Sink) -> Option<(String, Policy)> {
    let prefix = object.prefix();
    let fields = object.open(sink, &prefix)?;
    let spec_field = fields.look("spec");
    fields.finish();
    let spec = spec_field?.fields()?;
    let host_field = spec.require("host", "a DestinationRule names a Service");
    let host = host_field.as_ref().and_then(|field| field.text());
    if let (Some(field), Some(host)) = (&host_field, host) {
        let _ = refuse_half_a_name(field, host, &service_key(host, &object.id.namespace));
        if host.starts_with('*') {
            field.note(FidelityStatus::Ignored, Some("rules for many Services are not simulated"));
        }
    }
    let mut policy = Policy::LeastRequest;
    if let Some(traffic) = spec.look("trafficPolicy").and_then(|field| field.fields()) {
        if let Some(balancer) = traffic.look("loadBalancer").and_then(|field| field.fields()) {
            policy = read_simple(&balancer).unwrap_or(policy);
            balancer.ignore(&["consistentHash", "localityLbSetting", "warmup", "warmupDurationSecs"], "not simulated");
            balancer.finish();
        }
        traffic.ignore(&["connectionPool", "outlierDetection", "tls", "portLevelSettings"], "not simulated");
        traffic.ignore(&["tunnel", "proxyProtocol", "retryBudget"], "not simulated");
        traffic.finish();
    }
    spec.ignore(&["subsets", "exportTo", "workloadSelector"], "not simulated");
    spec.finish();
    Some((service_key(host?, &object.id.namespace), policy))
}

fn read_simple(balancer: &Fields<'_>) -> Option<Policy> {
    let field = balancer.get("simple")?;
    match field.scalar()? {
        "ROUND_ROBIN" => Some(Policy::RoundRobin),
        "LEAST_REQUEST" | "LEAST_CONN" | "UNSPECIFIED" => Some(Policy::LeastRequest),
        other => {
            let text = format!("`{other}` is not simulated yet");
            field.refuse(text, "write LEAST_REQUEST or ROUND_ROBIN for the drill");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_specific_host_of_a_pair_is_bound() {
        for (server, service, bound) in [
            ("*.foo.com", "a.foo.com", Some("a.foo.com")),
            ("a.foo.com", "*.foo.com", Some("a.foo.com")),
            ("*", "b.org", Some("b.org")),
            ("*.foo.com", "*.com", Some("*.foo.com")),
            ("*.foo.com", "foo.com", None),
            ("a.com", "b.com", None),
            ("A.com", "a.COM", Some("a.com")),
        ] {
            assert_eq!(meet(server, service).as_deref(), bound, "{server} {service}");
        }
    }

    #[test]
    fn hosts_name_services() {
        for (host, key) in [("web", "shop/web"), ("web.other", "other/web"), ("web.x.svc.cluster.local", "x/web")] {
            assert_eq!(service_key(host, "shop"), key);
        }
    }
}
