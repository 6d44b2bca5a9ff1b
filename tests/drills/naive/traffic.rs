//! Services and the connections through them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use gatedrill::cluster::{EndpointList, EndpointView};
use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::edge::kube_proxy::categories::{Policies, Reach, TrafficPolicy};
use gatedrill::edge::kube_proxy::shortcut::Shortcut;
use gatedrill::edge::kube_proxy::{KubeProxy, NodePath, Origin, ProxyMode, ServiceRules};
use gatedrill::engine::Streams;
use gatedrill::units::SimTime;

use crate::scenarios::loaded;
use crate::shop::shop_of_edge;

#[derive(Clone, Copy)]
enum State {
    Ready,
    /// It is being deleted, and serves.
    Draining,
    /// It is being deleted, and does not.
    Dying,
}

fn endpoint(last: u8, node: &str, state: State) -> EndpointView {
    EndpointView {
        ip: Ipv4Addr::new(10, 0, 0, last),
        pod: Rc::from(format!("pod-{last}")),
        node: Rc::from(node),
        ready: matches!(state, State::Ready),
        serving: !matches!(state, State::Dying),
        terminating: !matches!(state, State::Ready),
        because: None,
    }
}

/// Where node `a` sends a thousand connections from outside, by the last number of the address, and what it answers to the balancer.
fn sent(policy: TrafficPolicy, endpoints: &[EndpointView]) -> (BTreeMap<String, u32>, u16) {
    let policies = Policies { internal: TrafficPolicy::Cluster, external: policy, reach: Reach::External };
    let (uses_terminating, shortcut) = (true, Shortcut::Local);
    let rules = ServiceRules { mode: ProxyMode::Iptables, policies, affinity: None, uses_terminating, shortcut };
    let mut proxy = KubeProxy::new(Rc::from("a"), rules);
    proxy.sync(&EndpointList::from(endpoints.to_vec()));
    let mut stream = Streams::new(1).stream("node", "a");
    let mut counts = BTreeMap::new();
    for client in 0..1000 {
        let client = Ipv4Addr::from_bits(0xC633_6400 + client);
        let told = match proxy.choose(SimTime::ZERO, client, Origin::External, &mut stream) {
            NodePath::To { ip, .. } => ip.octets()[3].to_string(),
            NodePath::Refuse => "refused".to_owned(),
            NodePath::Drop => "dropped".to_owned(),
        };
        *counts.entry(told).or_default() += 1;
    }
    (counts, proxy.service_health(SimTime::ZERO).status())
}

fn names(counts: &BTreeMap<String, u32>) -> Vec<&str> {
    counts.keys().map(String::as_str).collect()
}

#[test]
fn the_terminating_serve_when_no_other_does_and_the_balancer_is_told_before() {
    use State::{Draining, Dying, Ready};
    let (cluster, local) = (TrafficPolicy::Cluster, TrafficPolicy::Local);
    // The only one here drains: with policy `Local` it goes on serving, and the health check already says that there is none.
    let here_drains = [endpoint(1, "a", Draining), endpoint(2, "b", Ready)];
    let (to, status) = sent(local, &here_drains);
    assert_eq!((names(&to), status), (vec!["1"], 503));
    // With `Cluster` one that is ready elsewhere is enough to leave it out.
    assert_eq!(names(&sent(cluster, &here_drains).0), ["2"]);
    // None is ready anywhere: those that still serve do, and those that do not are no choice.
    let all_end = [endpoint(1, "a", Draining), endpoint(2, "b", Draining), endpoint(3, "a", Dying)];
    assert_eq!(names(&sent(cluster, &all_end).0), ["1", "2"]);
    assert_eq!(names(&sent(local, &all_end).0), ["1"]);
    let (to, status) = sent(local, &[endpoint(1, "a", Ready), endpoint(2, "a", Draining)]);
    assert_eq!((names(&to), status), (vec!["1"], 200));
}

const SCENARIO: &str = r#"
apiVersion: gatedrill/v1
kind: Scenario
metadata: { name: kept }
spec:
  duration: 60s
  seed: 5
  target: default/edge
  manifests: [ { path: manifests/ } ]
  cluster:
    nodes: [ { name: pool, count: 2 } ]
  backends: [ { service: default/web, replicas: 2, serviceTime: 5ms } ]
  load:
    - name: all
      rate: 200/s
      arrivals: constant
      clients: { connections: 40, reuse: REUSE, rtt: 2ms, timeout: 2s }
      mix: [ { get: "http://shop.example.com/" } ]
  timeline: [ { at: 10s, scale: { replicas: 1 } } ]
"#;

const MANIFEST: &str = concat!(
    r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge }
spec:
  replicas: 2
  selector: { matchLabels: { app: edge } }
  template:
    metadata: { labels: { app: edge } }
    spec:
      terminationGracePeriodSeconds: 40
      containers:
        - name: istio-proxy
          image: proxy
          ports: [ { containerPort: 80 } ]
          lifecycle: { preStop: { sleep: { seconds: 20 } } }
---
apiVersion: v1
kind: Service
metadata:
  name: edge
  annotations: { service.beta.kubernetes.io/backend-type: ecs }
spec:
  type: LoadBalancer
  selector: { app: edge }
  ports: [ { port: 80 } ]
"#,
    shop_of_edge!()
);

fn drill(reuse: &str) -> Outcome {
    let scenario = loaded(&SCENARIO.replace("REUSE", reuse), MANIFEST, &[], None);
    let scenario = scenario.unwrap_or_else(|problems| panic!("{problems}"));
    run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance")
}

/// Requests of the pod that was taken away at 10 s, out of some hundred that come to it each second before.
fn requests_of_the_deleted(reuse: &str) -> u64 {
    let outcome = drill(reuse);
    let deleted: Vec<_> = outcome.run.results.pods.iter().filter(|pod| pod.terminating_ms.is_some()).collect();
    assert_eq!(deleted.len(), 1);
    deleted[0].requests
}

#[test]
fn a_removed_endpoint_keeps_its_connections_and_nobody_to_serve_is_not_always_a_refusal() {
    // New connections no longer come a little after the deletion. Those that are there go on through the hook of 20 s, as long as the pod does not drain.
    let (fresh, kept) = (requests_of_the_deleted("none"), requests_of_the_deleted("lru"));
    assert!((900..1400).contains(&fresh), "{fresh} requests on new connections");
    // About half of the forty connections are its own, each with five requests a second for thirty seconds instead of ten.
    assert!((2200..3800).contains(&kept), "{kept} requests on kept connections");
    // With `Local` each node divides what it gets among its own: a pod alone on its node has three times the connections of each of three. The
    // balancer divides between the nodes, whatever is on them.
    let three_and_one = [
        endpoint(1, "a", State::Ready),
        endpoint(2, "a", State::Ready),
        endpoint(3, "a", State::Ready),
        endpoint(4, "b", State::Ready),
    ];
    let shares = sent(TrafficPolicy::Local, &three_and_one).0;
    assert_eq!(names(&shares), ["1", "2", "3"]);
    assert!(shares.values().all(|count| (270..400).contains(count)), "{shares:?}");
    // Nobody here: the packet is dropped, and clients wait. Nobody anywhere: they are told at once.
    let elsewhere = [endpoint(4, "b", State::Ready)];
    assert_eq!(names(&sent(TrafficPolicy::Local, &elsewhere).0), ["dropped"]);
    assert_eq!(names(&sent(TrafficPolicy::Cluster, &elsewhere).0), ["4"]);
    assert_eq!(names(&sent(TrafficPolicy::Local, &[]).0), ["refused"]);
    assert_eq!(names(&sent(TrafficPolicy::Local, &[endpoint(4, "b", State::Dying)]).0), ["refused"]);
}
