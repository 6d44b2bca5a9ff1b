//! What the API server would refuse, told with its place; and what comes of the rest.

use std::collections::BTreeMap;

use super::*;
use crate::gateway::routes::{Action, PathMatch, RequestView, Target};
use crate::manifest::object::objects;
use crate::manifest::routes::{Missing, Options};
use crate::manifest::service;
use crate::manifest::yaml;

struct Read {
    routing: Routing,
    status: Status,
    problems: Vec<String>,
    notes: Vec<String>,
}

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: other }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: edge-istio }
spec: { type: LoadBalancer, selector: { app: edge }, ports: [{ name: http, port: 80, targetPort: 8080 }, { name: alt, port: 81, targetPort: alt }] }
---
";

const GATEWAY: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  gatewayClassName: istio
  listeners: [{ name: http, port: 80, protocol: HTTP }]
---
";

/// Labels and named ports.
type Pods<'a> = (&'a BTreeMap<String, String>, &'a BTreeMap<String, u16>);

/// Reads the objects, for pods with these labels and ports or for all.
fn read_for(text: &str, pods: Option<Pods<'_>>) -> Read {
    let sink = Sink::default();
    let (documents, problems) = yaml::parse(&format!("{SERVICES}{text}"), 0);
    assert!(problems.is_empty(), "{problems:?}");
    let objects = objects(documents, &sink);
    let services: BTreeMap<String, ServiceManifest> = objects
        .iter()
        .filter(|object| object.id.kind == "Service")
        .filter_map(|object| Some((object.key(), service::read(object, &sink)?)))
        .collect();
    let proxy = pods.map_or(Proxy::Named(&[]), |(labels, ports)| Proxy::Pods {
        labels,
        ports,
        front: &services["default/edge-istio"],
    });
    let around = Around {
        proxy,
        services: &services,
        declared: &["default/declared".to_owned()],
        hosts: &[],
        missing: Missing::Refused,
        sometimes: &BTreeMap::new(),
        options: Options::default(),
    };
    let clusters = Clusters::new(&around, &[], &sink);
    let Translated { mut routing, status, .. } = translate(&objects, &around, &clusters, &sink);
    (routing.upstreams, routing.nowhere) = clusters.into_upstreams();
    let problems = sink.take_problems().into_iter().map(|problem| format!("{}: {}", problem.path, problem.text));
    let notes = sink.take_notes().into_iter().filter_map(|note| Some(format!("{}: {}", note.path, note.text?)));
    Read { routing, status, problems: problems.collect(), notes: notes.collect() }
}

fn read(text: &str) -> Read {
    read_for(text, None)
}

fn http_route(spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: shop }}\nspec: {{ parentRefs: [{{ name: edge }}], {spec} }}\n"
    )
}

#[track_caller]
fn refuses(text: &str, expected: &[&str]) {
    assert_eq!(read(text).problems, expected, "{text}");
}

#[test]
fn a_route_is_checked_as_the_api_server_does() {
    for (spec, expected) in [
        (
            "rules: [{ matches: [{ path: { value: api } }] }]",
            "spec.rules[0].matches[0].path.value: a path begins with a slash",
        ),
        (
            "rules: [{ matches: [{ path: { value: /a//b } }] }]",
            "spec.rules[0].matches[0].path.value: a path here has no `//`",
        ),
        (
            "rules: [{ matches: [{ path: { value: \"/a b\" } }] }]",
            "spec.rules[0].matches[0].path.value: ` ` cannot stand in a path",
        ),
        (
            "rules: [{ matches: [{ path: { value: /a/.. } }] }]",
            "spec.rules[0].matches[0].path.value: a path here does not end with `/..`",
        ),
        (
            "rules: [{ matches: [{ path: { type: Prefix, value: / } }] }]",
            "spec.rules[0].matches[0].path.type: `Prefix` is not known here",
        ),
        (
            "rules: [{ matches: [{ path: { type: RegularExpression, value: \"/(a\" } }] }]",
            "spec.rules[0].matches[0].path.value: this is no regular expression",
        ),
        ("rules: [{ matches: [{ method: get }] }]", "spec.rules[0].matches[0].method: `get` is not known here"),
        (
            "rules: [{ matches: [{ headers: [{ name: a, value: b }, { name: a, value: c }] }] }]",
            "spec.rules[0].matches[0].headers[1]: `a` stands twice",
        ),
        (
            "rules: [{ matches: [{ headers: [{ name: \":path\", value: b }] }] }]",
            "spec.rules[0].matches[0].headers[0].name: `:path` is not a header name",
        ),
        ("hostnames: [\"a.com:80\"]", "spec.hostnames[0]: `a.com:80` is not a host name"),
        ("hostnames: [\"*\"]", "spec.hostnames[0]: `*` is not a host name"),
        ("hostnames: [A.com]", "spec.hostnames[0]: `A.com` is not a host name"),
        ("rules: []", "spec.rules: the list is empty"),
        ("rules: [{ backendRefs: [{ name: web }] }]", "spec.rules[0].backendRefs[0].port: this is missing"),
        (
            "rules: [{ backendRefs: [{ name: web, port: 80, weight: 1000001 }] }]",
            "spec.rules[0].backendRefs[0].weight: 1000001 is out of range",
        ),
        ("rules: [{ backendRef: [] }]", "spec.rules[0].backendRef: `backendRef` is not a field here"),
        (
            "rules: [{ timeouts: { request: 1s, backendRequest: 2s } }]",
            "spec.rules[0].timeouts: a try may take longer than the request",
        ),
        ("rules: [{ timeouts: { request: 1.5s } }]", "spec.rules[0].timeouts.request: `1.5s` is not a duration here"),
        ("rules: [{ retry: { codes: [399] } }]", "spec.rules[0].retry.codes[0]: 399 is out of range"),
        ("rules: [{ retry: { codes: [500, 500] } }]", "spec.rules[0].retry.codes[1]: 500 stands twice"),
        ("rules: [{ name: a }, { name: a }]", "spec.rules[1]: `a` is the name of another rule too"),
    ] {
        refuses(&format!("{GATEWAY}{}", http_route(spec)), &[expected]);
    }
}

#[test]
fn filters_are_checked() {
    let redirect =
        "{ type: RequestRedirect, requestRedirect: { path: { type: ReplacePrefixMatch, replacePrefixMatch: /b } } }";
    let backend = "backendRefs: [{ name: web, port: 80 }]";
    for (rule, expected) in [
        (
            format!("filters: [{redirect}], matches: [{{ path: {{ type: Exact, value: /a }} }}]"),
            "requestRedirect.path: only of a rule with exactly one match, by prefix, can the prefix be replaced",
        ),
        (
            format!("filters: [{redirect}], {backend}"),
            "backendRefs: a redirected request goes to no backend",
        ),
        (
            "filters: [{ type: URLRewrite, requestRedirect: {} }]".to_owned(),
            "filters[0].requestRedirect: this is no setting of URLRewrite|filters[0].urlRewrite: this is missing",
        ),
        (
            "filters: [{ type: URLRewrite, urlRewrite: { hostname: a } }, { type: URLRewrite, urlRewrite: { hostname: b } }]".to_owned(),
            "filters[1]: URLRewrite stands twice",
        ),
        (
            "filters: [{ type: URLRewrite, urlRewrite: { path: { type: ReplaceFullPath, replacePrefixMatch: /a } } }]".to_owned(),
            "path.replaceFullPath: this is missing|path.replacePrefixMatch: `replacePrefixMatch` belongs to type ReplacePrefixMatch",
        ),
        (
            "filters: [{ type: RequestRedirect, requestRedirect: { statusCode: 304 } }]".to_owned(),
            "requestRedirect.statusCode: this is no redirect",
        ),
        (
            "filters: [{ type: RequestRedirect, requestRedirect: { hostname: \"*.a\" } }]".to_owned(),
            "requestRedirect.hostname: `*.a` is not a host name",
        ),
        (
            "filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: web, port: 80 }, percent: 1, fraction: { numerator: 1 } } }]"
                .to_owned(),
            "requestMirror.fraction: percent and fraction exclude each other",
        ),
        (
            "filters: [{ type: RequestMirror, requestMirror: { backendRef: { name: web, port: 80 }, fraction: { numerator: 101 } } }]".to_owned(),
            "requestMirror.fraction: a share cannot be more than all",
        ),
        (
            "filters: [{ type: CORS, cors: { allowOrigins: [\"*\", \"https://a.b\"] } }]".to_owned(),
            "cors.allowOrigins: `*` stands beside others",
        ),
        (
            "filters: [{ type: CORS, cors: { allowOrigins: [a.b], allowMethods: [get] } }]".to_owned(),
            "cors.allowMethods[0]: `get` is not known here|cors.allowOrigins[0]: `a.b` is not an origin",
        ),
        (
            "filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: a, value: \"\" }], remove: [a, a] } }]".to_owned(),
            "remove[1]: `a` stands twice|set[0].value: it has 0 characters",
        ),
    ] {
        let mut problems = read(&format!("{GATEWAY}{}", http_route(&format!("rules: [{{ {rule} }}]")))).problems;
        problems.sort();
        let expected: Vec<&str> = expected.split('|').collect();
        assert_eq!(problems.len(), expected.len(), "{rule}: {problems:?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.ends_with(expected), "{rule}: {problem}");
        }
    }
}

#[test]
fn gateways_and_grants_are_checked() {
    let gateway = |listeners: &str| GATEWAY.replace("[{ name: http, port: 80, protocol: HTTP }]", listeners);
    for (listeners, expected) in [
        ("[]", "spec.listeners: this is missing"),
        ("[{ name: a, port: 80 }]", "spec.listeners[0].protocol: this is missing"),
        ("[{ name: a, port: 0, protocol: HTTP }]", "spec.listeners[0].port: 0 is out of range"),
        (
            "[{ name: a, port: 80, protocol: HTTP, tls: {} }]",
            "spec.listeners[0].tls: TLS that ends here needs a certificate",
        ),
        (
            "[{ name: a, port: 80, protocol: HTTP, tls: { certificateRefs: [{ name: a }] } }]",
            "spec.listeners[0].tls: there is no TLS with protocol HTTP",
        ),
        (
            "[{ name: a, port: 443, protocol: HTTPS, tls: { mode: Passthrough } }]",
            "spec.listeners[0].tls: HTTPS ends at the gateway",
        ),
        ("[{ name: a, port: 443, protocol: TLS }]", "spec.listeners[0]: with protocol TLS the mode must be written"),
        (
            "[{ name: a, port: 80, protocol: HTTP }, { name: a, port: 81, protocol: HTTP }]",
            "spec.listeners[1]: `a` is the name of another listener too",
        ),
        (
            "[{ name: a, port: 80, protocol: HTTP }, { name: b, port: 80, protocol: HTTP }]",
            "spec.listeners[1]: another listener has port 80 with the same protocol and host name",
        ),
        (
            "[{ name: a, port: 80, protocol: HTTP, allowedRoutes: { namespaces: { from: Any } } }]",
            "spec.listeners[0].allowedRoutes.namespaces.from: `Any` is not known here",
        ),
    ] {
        let mut problems = read(&gateway(listeners)).problems;
        problems.retain(|problem| problem == expected);
        assert_eq!(problems, [expected], "{listeners}");
    }
    refuses(
        &GATEWAY.replace("k8s.io/v1", "k8s.io/v1alpha2"),
        &["apiVersion: `gateway.networking.k8s.io/v1alpha2` has no Gateway"],
    );
    refuses(
        "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: { name: a }\nspec: { from: [{ kind: HTTPRoute }] }\n",
        &["spec.to: this is missing", "spec.from[0].group: this is missing", "spec.from[0].namespace: this is missing"],
    );
    refuses(&GATEWAY.replace("gateway.networking.k8s.io/v1", "v1"), &["apiVersion: `v1` has no Gateway"]);
}

#[test]
fn parents_are_told_apart() {
    let route = |parents: &str| http_route("rules: []").replace("[{ name: edge }], rules: []", parents);
    let text = format!("{GATEWAY}{}", route("[{ name: edge }, { name: edge }]"));
    refuses(&text, &["spec.parentRefs[1]: Gateway default/edge stands twice"]);
    let text = format!("{GATEWAY}{}", route("[{ name: edge }, { name: edge, sectionName: http }]"));
    refuses(
        &text,
        &["spec.parentRefs[1]: Gateway default/edge stands twice, once with and once without a section or port"],
    );
    let text = format!("{GATEWAY}{}", route("[{ name: edge, sectionName: a }, { name: edge, sectionName: http }]"));
    refuses(&text, &[]);
}

/// The routes of a host, in order, by their paths.
fn paths(read: &Read, host: &str) -> Vec<String> {
    let table = read.routing.routes.port(80).expect("port 80");
    let host = table.hosts().iter().find(|known| known.name == host).expect("the host");
    let path = |route: &Arc<Route>| match &route.condition.path {
        PathMatch::Exact(text) => format!("={text}"),
        PathMatch::Prefix(text) | PathMatch::Segments(text) => format!("{text}/"),
        PathMatch::Regex(regex) => regex.as_str().to_owned(),
    };
    host.routes.iter().map(path).collect()
}

#[test]
fn the_routes_of_a_host_are_ordered_over_all_objects() {
    let route = |name: &str, created: &str, path: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{ name: {name}{created} }}\nspec: {{ parentRefs: [{{ name: edge }}], rules: [{{ name: {name}, matches: [{{ path: {path} }}], backendRefs: [{{ name: web, port: 80 }}] }}] }}\n---\n"
        )
    };
    let text = [
        GATEWAY.to_owned(),
        route("a", "", "{ value: / }"),
        route("b", "", "{ type: RegularExpression, value: \"/v.*\" }"),
        route("c", "", "{ value: /v1 }"),
        route("d", "", "{ type: Exact, value: /v1 }"),
        route("e", "", "{ value: /same }"),
        route("f", ", creationTimestamp: \"2026-01-01T00:00:00Z\"", "{ value: /same }"),
    ]
    .concat();
    let read = read(&text);
    assert_eq!(read.problems, Vec::<String>::new());
    let table = read.routing.routes.port(80).expect("port 80");
    let names: Vec<&str> = table.hosts()[0].routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["d", "f", "e", "c", "b", "a"], "{:?}", paths(&read, "*"));
}

#[test]
fn backends_that_cannot_be_used_answer_500_for_their_share() {
    let rules = "rules: [{ backendRefs: [
        { name: web, port: 80, weight: 3 }, { name: declared, port: 9 }, { name: web, port: 81 }, { name: none, port: 80 },
        { name: web, namespace: other, port: 80 }, { name: web, kind: Pod, port: 80 }, { name: unused, port: 80, weight: 0 } ] }]";
    let read = read(&format!("{GATEWAY}{}", http_route(rules)));
    assert_eq!(read.problems, Vec::<String>::new());
    let table = read.routing.routes.port(80).expect("port 80");
    let Action::Forward(forward) = &table.hosts()[0].routes[0].action else { panic!("it forwards") };
    let shares = forward.destinations.iter().map(|destination| match &destination.target {
        Target::Cluster(name) => format!("{name} {}", destination.weight),
        Target::Unavailable(status) => format!("{} {}", status.as_u16(), destination.weight),
        other => format!("{other:?}"),
    });
    assert_eq!(
        shares.collect::<Vec<_>>(),
        [
            "outbound|80||web.default.svc.cluster.local 3",
            "outbound|9||declared.default.svc.cluster.local 1",
            "500 1",
            "500 1",
            "500 1",
            "500 1"
        ]
    );
    let resolved = &read.status.routes[0].parents[0].conditions[1];
    assert_eq!((resolved.holds, resolved.reason), (false, "BackendNotFound"));
    assert!(read.notes.iter().any(|note| note.contains("Service `default/web` has no port 81")), "{:?}", read.notes);
    let clusters: Vec<&str> = read.routing.upstreams.iter().map(|upstream| &*upstream.service).collect();
    assert_eq!(clusters, ["default/web", "default/declared"]);
}

#[test]
fn a_filter_that_istio_lacks_makes_the_route_void() {
    let rules = "rules: [{ backendRefs: [{ name: web, port: 80 }], filters: [{ type: ExtensionRef, extensionRef: { group: a.b, kind: C, name: d } }] }]";
    let read = read(&format!("{GATEWAY}{}", http_route(rules)));
    assert_eq!(read.problems, Vec::<String>::new());
    assert_eq!(paths(&read, "*"), Vec::<String>::new());
    assert_eq!(read.status.routes[0].parents[0].conditions[1].reason, "InvalidFilter");
}

#[test]
fn a_more_exact_listener_keeps_its_names_to_itself() {
    let gateway = GATEWAY.replace(
        "[{ name: http, port: 80, protocol: HTTP }]",
        "[{ name: any, port: 80, protocol: HTTP }, { name: wild, port: 80, protocol: HTTP, hostname: \"*.a.com\" }]",
    );
    let rules = "hostnames: [b.org, x.a.com, \"*.com\"], rules: [{ backendRefs: [{ name: web, port: 80 }] }]";
    let route = http_route(rules).replace("{ name: edge }]", "{ name: edge, sectionName: any }]");
    let read = read(&format!("{gateway}{route}"));
    let names: Vec<&str> =
        read.routing.routes.port(80).expect("port 80").hosts().iter().map(|host| host.name.as_str()).collect();
    assert_eq!(names, ["*.com", "b.org"]);
}

#[test]
fn the_target_of_a_gateway_is_behind_its_service() {
    let labels = BTreeMap::from([("app".to_owned(), "edge".to_owned())]);
    let ports = BTreeMap::from([("alt".to_owned(), 9090)]);
    let rules = http_route("rules: [{ backendRefs: [{ name: web, port: 80 }] }]");
    let of_pods = |text: &str| read_for(text, Some((&labels, &ports)));
    let listeners = "[{ name: http, port: 80, protocol: HTTP }, { name: alt, port: 81, protocol: HTTP }]";
    let made = GATEWAY.replace("[{ name: http, port: 80, protocol: HTTP }]", listeners);
    assert_eq!(of_pods(&format!("{made}{rules}")).routing.listeners, [(8080, 80), (9090, 81)]);
    for (address, is_ours) in [
        ("{ type: Hostname, value: edge-istio }", true),
        ("{ type: Hostname, value: edge-istio.default.svc.cluster.local }", true),
        ("{ type: Hostname, value: web }", false),
        ("{ value: 10.0.0.1 }", true),
    ] {
        let spec = format!("spec:\n  addresses: [{address}]\n");
        let read = of_pods(&format!("{}{rules}", GATEWAY.replace("spec:\n", &spec)));
        assert_eq!(!read.routing.listeners.is_empty(), is_ours, "{address}: {:?}", read.notes);
    }
    let other = of_pods(&format!("{}{rules}", GATEWAY.replace("istio\n", "other\n")));
    assert!(other.routing.listeners.is_empty());
    assert!(
        other.notes.iter().any(|note| note.contains("the Service default/edge-other, not the target's")),
        "{:?}",
        other.notes
    );
}

#[test]
fn what_takes_no_part_is_noted() {
    let alone = read(&http_route("rules: [{}]"));
    assert_eq!(alone.notes, ["HTTPRoute default/shop: none of its parents is there: Gateway default/edge"]);
    let class = "apiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass\nmetadata: { name: istio }\nspec: { controllerName: a.b/c }\n---\n";
    let foreign = read(&format!("{class}{GATEWAY}"));
    assert_eq!(foreign.notes, ["Gateway default/edge: Istio makes no gateway of class `istio`"]);
    assert!(foreign.routing.listeners.is_empty());
}

#[test]
fn a_request_finds_its_route() {
    let text = format!(
        "{GATEWAY}{}",
        http_route("rules: [{ matches: [{ path: { value: /api/ } }], backendRefs: [{ name: web, port: 80 }] }]")
    );
    let read = read(&text);
    let headers = http::HeaderMap::new();
    for (path, is_found) in [("/api", true), ("/api/", true), ("/api/x", true), ("/apis", false), ("/", false)] {
        let view = RequestView {
            method: &http::Method::GET,
            authority: "shop",
            scheme: "http",
            path,
            query: None,
            headers: &headers,
        };
        let found = read.routing.routes.find(80, &view).and_then(|found| found.route);
        assert_eq!(found.is_some(), is_found, "{path}");
    }
}

#[test]
fn istio_makes_a_deployment_and_a_service() {
    let sink = Sink::default();
    let text = "
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge, namespace: shop, annotations: { a.b/c: d }, labels: { team: t } }
spec:
  gatewayClassName: istio
  listeners: [{ name: http, port: 80, protocol: HTTP }, { name: other, port: 80, protocol: HTTP, hostname: a.b }]
---
apiVersion: gateway.networking.k8s.io/v1
kind: ListenerSet
metadata: { name: more, namespace: shop }
spec: { parentRef: { name: edge }, listeners: [{ name: alt, port: 8080, protocol: HTTP }] }
";
    let (documents, _) = yaml::parse(text, 0);
    let objects = objects(documents, &sink);
    let made = made::make(&objects[0], &objects).expect("it is Istio's");
    let deployment = crate::manifest::deployment::read(&made.deployment, &sink).expect("a Deployment");
    let service = service::read(&made.service, &sink).expect("a Service");
    assert_eq!(sink.take_problems(), Vec::new());
    assert_eq!(
        (made.deployment.key(), made.service.key()),
        ("shop/edge-istio".to_owned(), "shop/edge-istio".to_owned())
    );
    let labels = &deployment.deployment.template.labels;
    assert!(service.service.selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
    assert_eq!(labels["team"], "t");
    let ports: Vec<u16> = service.ports.iter().map(|port| port.port).collect();
    assert_eq!((ports, deployment.deployment.replicas), (vec![15021, 80, 8080], 1));
    assert_eq!(service.annotations["a.b/c"].0, "d");
    let own = Object { node: objects[1].node.clone(), ..objects[0].clone() };
    assert!(made::make(&own, &objects).is_none(), "without a class there is none");
}
