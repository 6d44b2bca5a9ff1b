use std::collections::BTreeMap;

use super::*;
use crate::gateway::routes::{Action, Target};
use crate::manifest::problem::Problem;
use crate::manifest::read::Note;
use crate::manifest::routes::{self, Around, Missing, Options, Proxy, Routing};
use crate::manifest::{object, yaml};

const GATEWAY: &str = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge, namespace: infra }
spec: { servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: [\"*.shop.com\"] } ] }
";

fn read(text: &str, missing: Missing) -> (Routing, Vec<Problem>, Vec<Note>) {
    let sink = Sink::default();
    let (documents, problems) = yaml::parse(text, 0);
    assert!(problems.is_empty(), "{problems:?}");
    let objects = object::objects(documents, &sink);
    let around = Around {
        proxy: Proxy::Named(&[]),
        services: &BTreeMap::new(),
        declared: &["shop/web".to_owned()],
        hosts: &[],
        missing,
        sometimes: &BTreeMap::new(),
        options: Options::default(),
    };
    let routing = routes::read(&objects, &around, &sink);
    (routing, sink.take_problems(), sink.take_notes())
}

/// A VirtualService of `shop` for `www.shop.com` whose only rule has a name.
fn service(name: &str, spec: &str, rule: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{ name: {name}, namespace: shop }}
spec:
  hosts: [www.shop.com]
  gateways: [infra/edge]
  {spec}
  http: [ {{ name: {name}, {rule} }} ]
"
    )
}

const TO_WEB: &str = "route: [ { destination: { host: web } } ]";

fn names(routing: &Routing) -> Vec<String> {
    let hosts = routing.routes.port(80).unwrap().hosts();
    hosts.iter().flat_map(|host| &host.routes).map(|route| route.name.to_string()).collect()
}

#[test]
fn virtual_services_on_one_host_have_an_order_of_their_own() {
    let by_path = format!("match: [ {{ uri: {{ prefix: /a }} }} ], {TO_WEB}");
    let text = [
        GATEWAY.to_owned(),
        service("all", "", TO_WEB),
        service("later", "", &by_path),
        service("named", "exportTo: [infra]", &by_path),
        service("elsewhere", "exportTo: [other]", &by_path),
    ];
    let (routing, problems, _) = read(&text.concat(), Missing::Refused);
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!(names(&routing), ["named", "later", "all"]);
}

#[test]
fn conditions_on_the_gateway_are_settled_when_routes_are_made() {
    for (block, applies) in [
        ("port: 80", true),
        ("port: 81", false),
        ("gateways: [infra/edge]", true),
        ("gateways: [infra/other]", false),
        ("sourceNamespace: infra", true),
        ("sourceNamespace: shop", false),
        ("sourceLabels: { app: edge }", false),
        ("headers: { \"@request.auth.claims.sub\": { exact: a } }", false),
        ("withoutHeaders: { \"@request.auth.claims.sub\": { exact: a } }", true),
    ] {
        let rule = format!("match: [ {{ {block} }} ], {TO_WEB}");
        let (routing, problems, _) = read(&[GATEWAY.to_owned(), service("a", "", &rule)].concat(), Missing::Refused);
        assert!(problems.is_empty(), "{block}: {problems:?}");
        assert_eq!(names(&routing).len(), usize::from(applies), "{block}");
    }
}

#[test]
fn what_is_not_there_is_refused_or_answered() {
    for (destination, told) in [
        ("host: wbe", "no Service is called `shop/wbe`"),
        ("host: web.shop", "Istio takes `web.shop` for a whole name"),
        ("host: web, subset: v1", "no DestinationRule of `web.shop.svc.cluster.local` has the subset `v1`"),
    ] {
        let rule = format!("route: [ {{ destination: {{ {destination} }} }} ]");
        let text = [GATEWAY.to_owned(), service("a", "", &rule)].concat();
        let (_, problems, _) = read(&text, Missing::Refused);
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].text.starts_with(told), "{problems:?}");
        let (routing, problems, _) = read(&text, Missing::Answered);
        assert!(problems.is_empty() && routing.upstreams.is_empty(), "{destination}: {problems:?}");
        assert_eq!(names(&routing), ["a"], "the route is there, and its cluster is not");
    }
}

#[test]
fn a_subset_is_a_cluster_with_the_policies_of_its_rule() {
    let rule = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: { name: web, namespace: shop }
spec:
  host: web
  trafficPolicy: { connectionPool: { tcp: { maxConnections: 7 } } }
  subsets: [ { name: v1, labels: { version: v1 }, trafficPolicy: { loadBalancer: { simple: RANDOM } } } ]
";
    let to_subset = "route: [ { destination: { host: web, subset: v1 } } ]";
    let text = [GATEWAY.to_owned(), service("a", "", to_subset), rule.to_owned()].concat();
    let (routing, problems, _) = read(&text, Missing::Refused);
    assert!(problems.is_empty(), "{problems:?}");
    let [upstream] = &routing.upstreams[..] else { panic!("{:?}", routing.upstreams) };
    assert_eq!(&*upstream.cluster, "outbound|80|v1|web.shop.svc.cluster.local");
    assert_eq!(upstream.subset, BTreeMap::from([("version".to_owned(), "v1".to_owned())]));
    assert_eq!(upstream.config.balance.policy, crate::gateway::Policy::Random);
    assert_eq!(upstream.config.limits.connections, 7);
    let route = &routing.routes.port(80).unwrap().hosts()[0].routes[0];
    let Action::Forward(forward) = &route.action else { panic!("{route:?}") };
    let Target::Cluster(cluster) = &forward.destinations[0].target else { panic!("{route:?}") };
    assert_eq!(*cluster, upstream.cluster);
}

#[test]
fn a_port_speaks_one_protocol() {
    let text = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge, namespace: infra }
spec:
  servers:
    - { port: { number: 443, name: tls, protocol: HTTPS }, hosts: [a.shop.com], tls: { mode: SIMPLE, credentialName: c } }
    - { port: { number: 443, name: plain, protocol: HTTP }, hosts: [b.shop.com] }
";
    let (routing, problems, notes) = read(text, Missing::Refused);
    assert!(problems.is_empty() && routing.listeners.is_empty(), "{problems:?}");
    assert_eq!(routing.secure.keys().collect::<Vec<_>>(), ["https.443.tls.edge.infra"]);
    assert!(notes.iter().any(|note| note.text.as_deref().is_some_and(|text| text.contains("another protocol"))));
}
