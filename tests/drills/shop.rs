//! The shop that most drills ask for: its Gateway at the pods of `edge`, its VirtualService, and the Service `web` behind it. A drill's own documents stand
//! before these. How most scenarios and gateways begin. And what drills do with it: annotations of the Service in front, a run whose books balance, and what it tells.

use std::collections::BTreeMap;
use std::fmt::Display;

use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::engine::Event;
use gatedrill::manifest::Problems;
use gatedrill::scenario::Scenario;

/// The beginning of a scenario of this name; `lines` of its spec come before its manifests.
macro_rules! scenario_head {
    ($name:literal, $lines:literal) => {
        concat!(
            "\napiVersion: gatedrill/v1\nkind: Scenario\nmetadata: { name: ",
            $name,
            " }\nspec:\n",
            $lines,
            "  manifests: [ { path: manifests/ } ]\n"
        )
    };
}

/// A load whose clients open a connection for each request to the shop.
macro_rules! new_clients {
    ($rate:literal) => {
        concat!(
            "    - { name: new, rate: ",
            $rate,
            ", clients: { reuse: none, timeout: 3s }, mix: [ { get: \"http://shop.example.com/\" } ] }\n"
        )
    };
}

/// ASM's gateway `edge` behind an NLB in two zones, with so many replicas; `metadata` as it is written otherwise, `more` lines of its spec, and what the targets are.
macro_rules! edge_behind_nlb {
    ($replicas:literal) => {
        edge_behind_nlb!(" { name: edge, namespace: istio-system }", $replicas, "", "eni")
    };
    ($metadata:literal, $replicas:literal, $more:literal, $targets:literal) => {
        concat!(
            "\napiVersion: istio.alibabacloud.com/v1\nkind: IstioGateway\nmetadata:",
            $metadata,
            "\nspec:\n  gatewayType: ingress\n  clusterIds: [c-1]\n  replicaCount: ",
            $replicas,
            "\n  serviceType: LoadBalancer\n  loadBalancerClass: alibabacloud.com/nlb\n",
            $more,
            "  serviceAnnotations:\n    service.beta.kubernetes.io/backend-type: ",
            $targets,
            r#"
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "a:vsw-a,b:vsw-b"
  ports: [ { name: http, port: 80, targetPort: 80, protocol: TCP } ]
"#
        )
    };
}

/// The Service of such a gateway, where its Deployment is written by itself.
macro_rules! service_behind_nlb {
    () => {
        r#"apiVersion: v1
kind: Service
metadata:
  name: istio-edge
  namespace: istio-system
  annotations:
    service.beta.kubernetes.io/backend-type: eni
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "a:vsw-a,b:vsw-b"
spec:
  type: LoadBalancer
  loadBalancerClass: alibabacloud.com/nlb
  selector: { istio: edge }
  ports: [ { name: http, port: 80, targetPort: 80, protocol: TCP } ]
"#
    };
}

/// The Service of pods with `app: edge` and a balancer, with `ANNOTATIONS` and a `POLICY` to fill in; `class` is a line of its spec, or none.
macro_rules! annotated_edge {
    ($class:literal, $ports:literal) => {
        concat!(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: edge\n  annotations:\nANNOTATIONS\nspec:\n  type: LoadBalancer\n",
            $class,
            "  externalTrafficPolicy: POLICY\n  selector: { app: edge }\n  ports: ",
            $ports,
            "\n"
        )
    };
}

/// Behind pods with `istio: edge` in `istio-system`; `with` servers that follow the first.
macro_rules! shop_of_istio_edge {
    () => {
        shop_of_istio_edge!(with "")
    };
    (with $servers:literal) => {
        concat!(
            r#"---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop, namespace: istio-system }
spec:
  selector: { istio: edge }
  servers:
    - { port: { number: 80, name: http, protocol: HTTP }, hosts: ["shop.example.com"] }
"#,
            $servers,
            r#"---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: ["shop.example.com"]
  gateways: ["istio-system/shop"]
  http: [ { route: [ { destination: { host: web, port: { number: 80 } } } ] } ]
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { selector: { app: web }, ports: [ { name: http, port: 80, targetPort: 8080 } ] }
"#
        )
    };
}

/// Behind pods with `app: edge`; everything is in `default`. `at` another host than the shop's.
macro_rules! shop_of_edge {
    () => {
        shop_of_edge!(at "shop.example.com")
    };
    (at $host:literal) => {
        concat!(
            r#"---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop }
spec:
  selector: { app: edge }
  servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] } ]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop }
spec:
  hosts: [""#,
            $host,
            r#""]
  gateways: [shop]
  http: [ { route: [ { destination: { host: web } } ] } ]
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [ { port: 80 } ] }
"#
        )
    };
}

/// Four pods with `app: edge`, each on a node of its own with `pool: edge`, that pause for `PAUSE` seconds before they end; `more` of their spec. A rollout makes
/// one and then ends one.
macro_rules! spread_edge {
    ($more:literal) => {
        concat!(
            r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge }
spec:
  replicas: 4
  selector: { matchLabels: { app: edge } }
  strategy: { rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }
  template:
    metadata: { labels: { app: edge } }
    spec:
      terminationGracePeriodSeconds: 120
      nodeSelector: { pool: edge }
      topologySpreadConstraints:
        - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: edge } } }
"#,
            $more,
            r#"      containers:
        - name: istio-proxy
          image: proxy
          ports: [ { containerPort: 80 } ]
          lifecycle: { preStop: { sleep: { seconds: PAUSE } } }
          readinessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1 }
          resources: { limits: { cpu: "2" } }
"#
        )
    };
}

pub(crate) use {
    annotated_edge, edge_behind_nlb, new_clients, scenario_head, service_behind_nlb, shop_of_edge, shop_of_istio_edge,
    spread_edge,
};

/// A text with each of these words replaced, in their order.
pub(crate) fn filled(text: &str, values: &[(&str, &str)]) -> String {
    values.iter().fold(text.to_owned(), |text, (word, value)| text.replace(word, value))
}

/// Annotations as lines of the Service in front, and one more that nobody reads. A name with a slash is whole already, others begin with Alibaba's prefix.
pub(crate) fn annotation_lines<'a>(annotations: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let name = |name: &str| if name.contains('/') { name.to_owned() } else { format!("{PREFIX}{name}") };
    let lines = annotations.into_iter().map(|(key, text)| format!("    {}: \"{text}\"", name(key)));
    let all: Vec<String> = lines.chain(["    example.com/other: x".to_owned()]).collect();
    all.join("\n")
}

pub(crate) const PREFIX: &str = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-";

/// The run of a scenario without a problem. Each of its losses has one cause, and each request one end.
#[track_caller]
pub(crate) fn ran<E: Display>(loaded: Result<Scenario, E>) -> Outcome {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}"),
    };
    let outcome = run(loaded.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
    let results = &outcome.run.results;
    let by_cause = results.causes.iter().map(|row| row.count).sum::<u64>();
    assert_eq!(results.totals.dropped, by_cause, "each loss has one cause");
    let ended = results.totals.ok + results.totals.backend_error + results.totals.dropped;
    assert_eq!(results.totals.sent, ended, "each request ends once");
    outcome
}

/// What is wrong with a scenario, each with its line.
pub(crate) fn refusals(loaded: Result<Scenario, Problems>) -> Vec<String> {
    let Err(problems) = loaded else { return Vec::new() };
    let line = |place| problems.files.position(place).map_or(0, |(_, line, _)| line);
    problems.list.iter().map(|it| format!("{}: {}", line(it.place), it.text)).collect()
}

/// Lost requests by the codes of their causes.
pub(crate) fn lost(outcome: &Outcome) -> BTreeMap<&str, u64> {
    outcome.run.results.causes.iter().map(|row| (row.code.as_str(), row.count)).collect()
}

/// The events of a kind.
pub(crate) fn of_kind<'a>(outcome: &'a Outcome, kind: &str) -> Vec<&'a Event> {
    outcome.log.events().iter().filter(|event| event.kind == kind).collect()
}

/// How many there are.
pub(crate) fn count(outcome: &Outcome, kind: &str) -> usize {
    of_kind(outcome, kind).len()
}

/// When events of a kind happened after the start, in seconds.
pub(crate) fn moments(outcome: &Outcome, kind: &str) -> Vec<f64> {
    let events = outcome.log.events().iter().filter(|event| event.kind == kind && event.at.as_nanos() > 0);
    events.map(|event| seconds(event.at.as_nanos())).collect()
}

/// When the only one of them did.
#[track_caller]
pub(crate) fn only(outcome: &Outcome, kind: &str) -> f64 {
    match moments(outcome, kind)[..] {
        [one] => one,
        ref all => panic!("{kind} happens once, not at {all:?}"),
    }
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(at_ns: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 nanoseconds")]
    let seconds = at_ns as f64 / 1e9;
    seconds
}
