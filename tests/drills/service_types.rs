//! Whole drills of a gateway whose Service has no balancer, or whose clients are in the cluster; and what nodes do on the way.
//!
//! Goal: each way in follows the rules of kube-proxy, node by node, and every loss says whose rule it was. Method: small scenarios from memory with
//! constant arrivals, so that a count says exactly what happened; both sides of each rule.

use crate::scenarios::loaded;
use crate::shop::{count, scenario_head, shop_of_edge};
use gatedrill::drill::{Continue, Outcome, run};

const SCENARIO: &str = concat!(
    scenario_head!("service-types", "  duration: 30s\n  seed: 5\n  target: default/edge\n"),
    r#"  cluster:
    version: "VERSION"
    nodes: NODES
    kubeProxy: PROXY
    timings: { podStart: 2s, endpointPropagation: 100ms }
  loadBalancer: BALANCER
  backends: [ { service: default/web, replicas: 2, serviceTime: 5ms } ]
  load:
    - name: all
      rate: 100/s
      arrivals: constant
      clients: { connections: 20, reuse: none, timeout: 3s, CLIENTS }
      mix: [ { weight: 1, get: "http://shop.example.comPORT/" } ]
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge }
spec:
  replicas: REPLICAS
  selector: { matchLabels: { app: edge } }
  template:
    metadata: { labels: { app: edge } }
    spec:
      terminationGracePeriodSeconds: 60
      PLACEMENT
      containers:
        - name: istio-proxy
          image: proxy
          ports: [ { containerPort: 80 } ]
          resources: { requests: { cpu: "1" } }
          lifecycle: { preStop: { exec: { command: [sleep, "PRESTOP"] } } }
          readinessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1 }
---
apiVersion: v1
kind: Service
metadata: { name: edge, annotations: { ANNOTATIONS } }
spec:
  selector: { app: edge }
  ports: [ { port: 80 NODEPORT } ]
  SERVICE
"#,
    shop_of_edge!()
);

/// What a drill is about.
#[derive(Clone)]
struct Drill {
    /// Lines of the Service's spec.
    service: &'static str,
    annotations: &'static str,
    node_port: &'static str,
    clients: &'static str,
    url_port: &'static str,
    timeline: &'static str,
    version: &'static str,
    proxy: &'static str,
    balancer: &'static str,
    nodes: &'static str,
    placement: &'static str,
    replicas: &'static str,
    prestop: &'static str,
}

/// Two nodes with three pods each behind node ports.
const NODE_PORT: Drill = Drill {
    service: "type: NodePort",
    annotations: "",
    node_port: ", nodePort: 30080",
    clients: "rtt: 2ms",
    url_port: ":30080",
    timeline: "",
    version: "1.33",
    proxy: "{}",
    balancer: "{ controllerLatency: 2s }",
    nodes: r#"[ { name: pool, count: 2, zones: [a, b], allocatable: { cpu: "4", memory: 8Gi } } ]"#,
    placement: "affinity: {}",
    replicas: "6",
    prestop: "0",
};

/// The same, reached from within.
const CLUSTER_IP: Drill =
    Drill { service: "type: ClusterIP", node_port: "", clients: "location: cluster", url_port: "", ..NODE_PORT };

/// The same behind a balancer whose targets are nodes.
const BALANCER: Drill = Drill {
    service: "type: LoadBalancer\n  externalTrafficPolicy: Local",
    annotations: "service.beta.kubernetes.io/backend-type: ecs",
    node_port: "",
    clients: "rtt: 2ms",
    url_port: "",
    ..NODE_PORT
};

/// All pods on the first node.
const FIRST_NODE: &str = "nodeSelector: { kubernetes.io/hostname: pool-1 }";

impl Drill {
    fn world(&self) -> Result<gatedrill::drill::WorldConfig, String> {
        let fill = |text: &str| {
            let pairs = [
                ("TIMELINE", self.timeline),
                ("VERSION", self.version),
                ("PROXY", self.proxy),
                ("BALANCER", self.balancer),
                ("CLIENTS", self.clients),
                ("PLACEMENT", self.placement),
                ("REPLICAS", self.replicas),
                ("PRESTOP", self.prestop),
                ("ANNOTATIONS", self.annotations),
                ("NODEPORT", self.node_port),
                ("NODES", self.nodes),
                ("SERVICE", self.service),
                ("PORT", self.url_port),
            ];
            pairs.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
        };
        let scenario = loaded(&fill(SCENARIO), &fill(MANIFEST), &[], None).map_err(|problems| problems.to_string())?;
        Ok(scenario.world)
    }

    #[track_caller]
    fn run(&self) -> Outcome {
        let world = self.world().unwrap_or_else(|problems| panic!("{problems}"));
        run(world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance")
    }

    #[track_caller]
    fn refused(&self, told: &str) {
        let text = self.world().err().unwrap_or_else(|| panic!("nobody refuses it: {told}"));
        assert!(text.contains(told), "{text}");
    }
}

fn lost(outcome: &Outcome) -> u64 {
    let totals = &outcome.run.results.totals;
    totals.sent - totals.ok
}

/// Codes of causes with their counts.
fn causes(outcome: &Outcome) -> Vec<(&str, u64)> {
    let mut causes: Vec<(&str, u64)> =
        outcome.run.results.causes.iter().map(|cause| (cause.code.as_str(), cause.count)).collect();
    causes.sort_unstable();
    causes
}

fn codes(outcome: &Outcome) -> Vec<&str> {
    causes(outcome).into_iter().map(|(code, _)| code).collect()
}

/// Requests by pod, most first, of those that had any.
fn shares(outcome: &Outcome) -> Vec<u64> {
    let mut shares: Vec<u64> =
        outcome.run.results.pods.iter().map(|pod| pod.requests).filter(|count| *count > 0).collect();
    shares.sort_unstable_by(|a, b| b.cmp(a));
    shares
}

#[test]
fn node_ports_need_no_balancer_and_show_none() {
    let outcome = NODE_PORT.run();
    assert_eq!((outcome.run.results.totals.sent, lost(&outcome)), (3000, 0));
    assert_eq!(shares(&outcome).len(), 6, "{:?}", shares(&outcome));
    assert!(outcome.run.results.targets.is_empty());
    assert!(outcome.run.seconds.iter().all(|row| row.gauge.lb_targets_healthy.is_none()));
    assert_eq!(count(&outcome, "target_registered"), 0);
    // The port of the Service stands for the port of the nodes, too, drawn or written.
    for drill in [Drill { url_port: "", ..NODE_PORT }, Drill { url_port: "", node_port: "", ..NODE_PORT }] {
        assert_eq!(lost(&drill.run()), 0);
    }
    Drill { url_port: ":30081", ..NODE_PORT }.refused("its ports are 80, 30080");
}

#[test]
fn clients_of_node_ports_take_all_nodes_in_turn_dead_or_alive() {
    let drill = Drill {
        service: "type: NodePort\n  externalTrafficPolicy: Local",
        timeline: "{ at: 10s, killNode: { node: pool-1 } }",
        ..NODE_PORT
    };
    let outcome = drill.run();
    // Every second connection of the last 20 s goes to the dead node; those that were open when it died are lost, too.
    assert!((1000..=1002).contains(&lost(&outcome)), "{}", lost(&outcome));
    assert_eq!(codes(&outcome), ["GD4110"]);
    assert!(outcome.run.results.totals.connect_timeout >= 1000);
    let other = Drill { clients: "rtt: 2ms, node: pool-2", ..drill.clone() }.run();
    assert_eq!(lost(&other), 0, "whoever dials the living node alone loses nothing");
    let dead = Drill { clients: "rtt: 2ms, zone: a", ..drill }.run();
    assert!((2000..=2001).contains(&lost(&dead)), "{}", lost(&dead));
}

#[test]
fn a_node_port_under_policy_local_is_a_black_hole_on_a_node_without_pods() {
    let local = "type: NodePort\n  externalTrafficPolicy: Local";
    let drill = Drill { service: local, placement: FIRST_NODE, replicas: "3", ..NODE_PORT };
    let outcome = drill.run();
    assert_eq!(causes(&outcome), [("GD4106", 1500)]);
    let source = outcome.run.results.causes[0].source.as_ref().expect("a line");
    assert_eq!((source.path.as_str(), source.value.as_deref()), ("spec.externalTrafficPolicy", Some("Local")));
    assert!(source.line.is_some());
    let cluster = Drill { service: "type: NodePort", ..drill.clone() }.run();
    assert_eq!((lost(&cluster), shares(&cluster).len()), (0, 3));
    assert_eq!(lost(&Drill { clients: "node: pool-1", ..drill }.run()), 0);
}

#[test]
fn rules_that_lag_are_the_nodes_fault_and_not_a_balancers() {
    let restart = Drill { timeline: "{ at: 5s, restart: {} }", ..NODE_PORT };
    let slow = Drill { proxy: "{ minSyncPeriod: 20s }", ..restart.clone() }.run();
    let found = codes(&slow);
    assert!(found.contains(&"GD4121"), "{found:?}");
    assert!(found.iter().all(|code| ["GD4103", "GD4121"].contains(code)), "no balancer is to blame: {found:?}");
    let quick = Drill { proxy: "{ minSyncPeriod: 0s }", prestop: "5", ..restart }.run();
    assert_eq!(causes(&quick), [], "pods outlive the nodes' rules");
}

#[test]
fn a_cluster_ip_is_for_clients_in_the_cluster() {
    Drill { clients: "rtt: 2ms", ..CLUSTER_IP }
        .refused("clients on the internet do not reach the Service's own address");
    let outcome = CLUSTER_IP.run();
    assert_eq!((outcome.run.results.totals.sent, lost(&outcome), shares(&outcome).len()), (3000, 0, 6));
    assert!(outcome.run.results.targets.is_empty());
    // All pods on one node: the other node's clients reach them unless the internal policy forbids it.
    let first = Drill { placement: FIRST_NODE, replicas: "3", ..CLUSTER_IP };
    let local = Drill { service: "type: ClusterIP\n  internalTrafficPolicy: Local", ..first.clone() };
    assert_eq!(lost(&first.run()), 0);
    let outcome = local.run();
    assert_eq!(causes(&outcome), [("GD4106", 1500)]);
    let source = outcome.run.results.causes[0].source.as_ref().expect("a line");
    assert_eq!((source.path.as_str(), source.value.as_deref()), ("spec.internalTrafficPolicy", Some("Local")));
    assert_eq!(lost(&Drill { clients: "location: cluster, node: pool-1", ..local.clone() }.run()), 0);
    assert_eq!(lost(&Drill { clients: "location: cluster, zone: b", ..local }.run()), 3000);
}

#[test]
fn the_internal_policy_says_nothing_to_clients_outside() {
    let service = "type: NodePort\n  internalTrafficPolicy: Local";
    let drill = Drill { service, placement: FIRST_NODE, replicas: "3", ..NODE_PORT };
    assert_eq!(lost(&drill.run()), 0);
}

#[test]
fn no_endpoint_at_all_is_a_refusal() {
    let outcome = Drill { timeline: "{ at: 20s, scale: { replicas: 0 } }", ..NODE_PORT }.run();
    let found = causes(&outcome);
    // The last pods serve for five seconds more; a second passes until the nodes know that they are gone.
    let [("GD4121", stale), ("GD4122", refused)] = found[..] else { panic!("{found:?}") };
    assert!(stale < 150 && refused > 350, "{found:?}");
    assert_eq!(outcome.run.results.totals.refused + outcome.run.results.totals.connect_timeout, stale + refused);
}

#[test]
fn terminating_pods_serve_where_no_other_is_left_from_1_26_on() {
    // One pod; its successor is ready after some three seconds, and it serves for ten.
    let drill = Drill {
        replicas: "1",
        prestop: "10",
        timeline: "{ at: 10s, killPod: { pod: oldest } }",
        nodes: r#"[ { name: pool, count: 1, allocatable: { cpu: "4", memory: 8Gi } } ]"#,
        ..NODE_PORT
    };
    assert_eq!(lost(&Drill { version: "1.26", ..drill.clone() }.run()), 0);
    let before = Drill { version: "1.25", ..drill }.run();
    assert_eq!(codes(&before), ["GD4122"]);
    assert!((200..500).contains(&lost(&before)), "{}", lost(&before));
}

#[test]
fn a_balancers_address_is_kept_within_the_cluster() {
    // A CLB with policy Local, all pods on the first node, the clients on the second.
    let drill = Drill { placement: FIRST_NODE, replicas: "3", clients: "location: cluster, node: pool-2", ..BALANCER };
    let outcome = drill.run();
    assert_eq!(causes(&outcome), [("GD4106", 3000)]);
    let served = |drill: Drill| assert_eq!(lost(&drill.run()), 0, "{}", drill.proxy);
    served(Drill { clients: "location: cluster, node: pool-1", ..drill.clone() });
    served(Drill { clients: "rtt: 2ms", ..drill.clone() });
    served(Drill { service: "type: LoadBalancer", ..drill.clone() });
    served(Drill { clients: "location: cluster, node: pool-2, address: clusterIP", ..drill.clone() });
    served(Drill { proxy: "{ detectLocalMode: ClusterCIDR }", ..drill.clone() });
    served(Drill { proxy: "{ mode: ipvs }", version: "1.21", ..drill.clone() });
    let before = Drill { proxy: "{ mode: ipvs }", version: "1.20", ..drill.clone() };
    assert_eq!(lost(&before.run()), 3000);
}

#[test]
fn where_the_status_names_the_balancer_clients_in_the_cluster_reach_it() {
    let drill = Drill { placement: FIRST_NODE, replicas: "3", clients: "location: cluster, node: pool-2", ..BALANCER };
    let balanced = |drill: Drill| {
        let outcome = drill.run();
        assert_eq!(lost(&outcome), 0);
        // The gauge counts the balancer's targets: they are there in all of these.
        assert_eq!(outcome.run.results.targets.len(), 1);
    };
    balanced(Drill { balancer: "{ controllerLatency: 2s, ipMode: Proxy }", version: "1.30", ..drill.clone() });
    balanced(Drill {
        annotations: "service.beta.kubernetes.io/backend-type: ecs, service.beta.kubernetes.io/alibaba-cloud-loadbalancer-hostname: edge.example.com",
        ..drill.clone()
    });
    balanced(Drill {
        service: "type: LoadBalancer\n  externalTrafficPolicy: Local\n  loadBalancerClass: alibabacloud.com/nlb",
        annotations: r#"service.beta.kubernetes.io/backend-type: ecs, service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "a:vsw-a,b:vsw-b""#,
        ..drill.clone()
    });
    Drill { balancer: "{ ipMode: Proxy }", version: "1.29", ..drill }.refused("Kubernetes 1.29 knows no ipMode");
}

#[test]
fn a_table_holds_as_many_connections_as_it_says() {
    // 3,000 connections within half a minute, and none is forgotten before two minutes are over.
    let drill = Drill {
        nodes: r#"[ { name: pool, count: 1, allocatable: { cpu: "4", memory: 8Gi } } ]"#,
        replicas: "3",
        ..NODE_PORT
    };
    let held = Drill { proxy: "{ conntrack: { maxPerCore: 750, min: 100 } }", ..drill.clone() }.run();
    assert_eq!(lost(&held), 0);
    let full = Drill { proxy: "{ conntrack: { maxPerCore: 1, min: 2999 } }", ..drill.clone() }.run();
    assert_eq!(causes(&full), [("GD4123", 1)]);
    assert_eq!((count(&full, "conntrack_full"), full.run.results.totals.connect_timeout), (1, 1));
    let small = Drill { proxy: "{ conntrack: { maxPerCore: 1, min: 1000 } }", ..drill.clone() }.run();
    assert_eq!(causes(&small), [("GD4123", 2000)]);
    assert_eq!(lost(&Drill { proxy: "{ conntrack: { maxPerCore: 0 } }", ..drill.clone() }.run()), 0);
}

#[test]
fn weights_follow_the_pods_of_a_node_and_rr_does_not_follow_weights() {
    let nodes = r#"[ { name: big, count: 1, allocatable: { cpu: "3", memory: 8Gi } }, { name: small, count: 1, allocatable: { cpu: "1", memory: 8Gi } } ]"#;
    let drill = Drill { nodes, replicas: "4", ..BALANCER };
    let rr = shares(&drill.run());
    assert_eq!((rr.len(), rr[0]), (4, 1500), "the pod that is alone on its node gets half: {rr:?}");
    let wrr = Drill {
        annotations: "service.beta.kubernetes.io/backend-type: ecs, service.beta.kubernetes.io/alibaba-cloud-loadbalancer-scheduler: wrr",
        ..drill.clone()
    };
    let shared = shares(&wrr.run());
    assert!(shared.iter().all(|count| (650..=850).contains(count)), "a quarter each: {shared:?}");
    assert_eq!(shared.iter().filter(|count| **count == 750).count(), 1, "exactly, for the one alone: {shared:?}");
    // Under policy Cluster the nodes do not matter.
    let cluster = shares(&Drill { service: "type: LoadBalancer", ..drill }.run());
    assert!(cluster.iter().all(|count| (650..=850).contains(count)), "{cluster:?}");
}

#[test]
fn a_node_tells_the_balancer_that_its_last_pod_is_leaving() {
    // One pod on each node; one of them goes, and serves on for fifteen seconds. The controller is slow.
    let drill = Drill {
        service: "type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: 30999",
        annotations: CHECK_TCP,
        nodes: r#"[ { name: pool, count: 2, allocatable: { cpu: "1", memory: 8Gi } } ]"#,
        replicas: "2",
        prestop: "15",
        balancer: "{ controllerLatency: 100s, healthCheck: { interval: 1s, timeout: 1s, healthyThreshold: 2, unhealthyThreshold: 2 } }",
        timeline: "{ at: 5s, scale: { replicas: 1 } }",
        ..BALANCER
    };
    let blind = drill.run();
    assert!(codes(&blind).contains(&"GD4106"), "the node swallows what comes after its pod: {:?}", causes(&blind));
    let asking = Drill { annotations: CHECK_HEALTH, ..drill.clone() }.run();
    assert_eq!(causes(&asking), [], "the balancer left while the pod still served");
    assert_eq!(count(&asking, "target_unhealthy"), 1);
    let of = |outcome: &Outcome, kind: &str| {
        outcome.log.events().iter().find(|event| event.kind == kind).map(|event| event.at.as_nanos() / 1_000_000)
    };
    let (left, ended) = (of(&asking, "target_unhealthy"), of(&asking, "sigterm"));
    assert!(left < ended, "{left:?} {ended:?}");
    // A connection alone is accepted by kube-proxy whether a pod is there or not.
    let connecting = CHECK_HEALTH.replace("health-check-type: http", "health-check-type: tcp");
    let connecting = Drill { annotations: Box::leak(connecting.into_boxed_str()), ..drill.clone() }.run();
    assert_eq!((codes(&connecting), count(&connecting, "target_unhealthy")), (codes(&blind), 0));
    let lost = |outcome: &Outcome| outcome.run.results.totals.dropped;
    assert!(lost(&connecting) > lost(&blind), "{} and {}", lost(&connecting), lost(&blind));
    // Where the policy is another nobody listens there: all checks fail, and all is lost from then on.
    let nobody = Drill { service: "type: LoadBalancer", annotations: CHECK_HEALTH, ..drill }.run();
    assert_eq!((codes(&nobody), count(&nobody, "target_unhealthy")), (vec!["GD4129"], 2));
    let source = nobody.run.results.causes[0].source.clone().expect("the line of the port");
    assert!(source.path.ends_with("health-check-connect-port]"), "{source:?}");
    assert!(nobody.run.results.totals.ok > 0, "until the second check has failed");
}

const CHECK_TCP: &str = "service.beta.kubernetes.io/backend-type: ecs";
const CHECK_HEALTH: &str = r#"service.beta.kubernetes.io/backend-type: ecs, service.beta.kubernetes.io/alibaba-cloud-loadbalancer-health-check-type: http, service.beta.kubernetes.io/alibaba-cloud-loadbalancer-health-check-connect-port: "30999", service.beta.kubernetes.io/alibaba-cloud-loadbalancer-health-check-uri: /healthz"#;

#[test]
fn what_the_api_server_refuses_of_a_service_is_refused_in_its_words() {
    let node_port = |service: &'static str, node_port: &'static str, told: &str| {
        Drill { service, node_port, url_port: "", ..NODE_PORT }.refused(told);
    };
    let range = "provided port is not in the valid range. The range of valid ports is 30000-32767";
    node_port("type: NodePort", ", nodePort: 29999", range);
    node_port("type: NodePort", ", nodePort: 32768", range);
    node_port(
        "type: NodePort",
        ", nodePort: 30080 }, { port: 81, targetPort: 80, nodePort: 30080",
        "Duplicate value: 30080",
    );
    for edge in [", nodePort: 30000", ", nodePort: 32767", ", nodePort: 0"] {
        assert!(Drill { node_port: edge, url_port: "", ..NODE_PORT }.world().is_ok(), "{edge}");
    }
    let forbidden = "may not be used when `type` is 'ClusterIP'";
    Drill { node_port: ", nodePort: 30080", ..CLUSTER_IP }.refused(forbidden);
    let cluster_ip = |service: &'static str, told: &str| Drill { service, ..CLUSTER_IP }.refused(told);
    cluster_ip("externalTrafficPolicy: Local", "may only be set for externally-accessible services");
    cluster_ip("loadBalancerClass: a/b", "may only be used when `type` is 'LoadBalancer'");
    let health = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
    cluster_ip("healthCheckNodePort: 30999", health);
    let balancer = |service: &'static str, told: &str| Drill { service, ..BALANCER }.refused(told);
    balancer("type: LoadBalancer\n  healthCheckNodePort: 30999", health);
    balancer("type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: 1", range);
    balancer("type: LoadBalancer\n  loadBalancerClass: example.com/lb", "stays pending for ever");
    balancer(
        "type: LoadBalancer\n  allocateLoadBalancerNodePorts: false",
        "nodes are the balancer's targets, and have no port",
    );
    balancer("type: ExternalName\n  externalName: a.example.com", "an ExternalName leads to no pod");
    let taken = "type: LoadBalancer\n  externalTrafficPolicy: Local\n  healthCheckNodePort: 30080";
    Drill { service: taken, node_port: ", nodePort: 30080", ..BALANCER }.refused("Duplicate value: 30080");
}

#[test]
fn ways_that_there_are_not_are_refused() {
    let clients = |drill: &Drill, clients: &'static str, told: &str| Drill { clients, ..drill.clone() }.refused(told);
    clients(&NODE_PORT, "address: loadBalancer", "the Service in front has no balancer");
    clients(&NODE_PORT, "address: clusterIP", "clients on the internet do not reach the Service's own address");
    clients(&NODE_PORT, "location: cluster, address: nodePort", "clients in the cluster dial no node ports here");
    clients(&CLUSTER_IP, "location: internet, address: nodePort", "a Service of type ClusterIP has no node port");
    clients(&CLUSTER_IP, "location: clutser", "spec.load[0].clients.location: `clutser` is not known here");
    clients(&CLUSTER_IP, "location: cluster, node: pool-3", "no node is called `pool-3`");
    clients(&CLUSTER_IP, "location: cluster, zone: c", "no zone is called `c`");
    clients(&BALANCER, "node: pool-1", "clients of a balancer choose no node");
    // Node ports of a balancer's Service can be dialled past it.
    assert_eq!(lost(&Drill { clients: "address: nodePort, rtt: 2ms", ..BALANCER }.run()), 0);
}

#[test]
fn a_headless_service_in_front_has_no_address_for_clients_within() {
    let drill = |service: &'static str, timeline: &'static str| Drill { service, timeline, ..CLUSTER_IP };
    let headless = drill("type: ClusterIP\n  clusterIP: None", "");
    headless.refused("a headless Service has no address: DNS tells its clients the addresses of pods");
    let text = headless.world().expect_err("it is refused");
    assert!(text.contains("all.yaml:") && text.contains("take clusterIP: None out"), "{text}");
    assert_eq!(lost(&drill("type: ClusterIP\n  clusterIP: 10.0.0.7", "").run()), 0);
    // What it is it stays.
    let edit = r#"{ at: 10s, set: { "Service/default/edge.spec.clusterIP": "None" } }"#;
    drill("type: ClusterIP\n  clusterIP: 10.0.0.7", edit).refused("spec.clusterIPs[0]: may not change once set");
}

#[test]
fn what_a_services_spec_may_not_say() {
    for (service, told) in [
        ("type: NodePort\n  clusterIP: None", "may not be set to 'None' for NodePort services"),
        ("type: NodePort\n  externalIPs: [ 1.2.3.400 ]", "spec.externalIPs[0]: must be a valid IP address"),
        ("type: NodePort\n  ipFamilyPolicy: Dual", "spec.ipFamilyPolicy: `Dual` is not known here"),
    ] {
        Drill { service, ..NODE_PORT }.refused(told);
    }
}

/// The Service in front becomes a name at 10 s.
const NAMED: &str = r#"{ at: 10s, set: { "Service/default/edge.spec.type": ExternalName, "Service/default/edge.spec.externalName": shop.example.org } }"#;

#[test]
fn a_service_that_becomes_a_name_loses_its_address_its_ports_and_its_balancer() {
    // All nodes have heard of it 100 ms later.
    for drill in [Drill { timeline: NAMED, ..NODE_PORT }, Drill { timeline: NAMED, ..CLUSTER_IP }] {
        let outcome = drill.run();
        assert_eq!(causes(&outcome), [("GD4117", 1990)]);
        let source = outcome.run.results.causes[0].source.as_ref().expect("a line");
        assert_eq!((source.path.as_str(), source.value.as_deref()), ("spec.type", Some("ExternalName")));
        let told = outcome.run.results.fidelity.iter().any(|row| {
            row.path == "Service default/edge spec.type"
                && row.note.as_ref().is_some_and(|note| note.contains("a name in DNS"))
        });
        assert!(told);
    }
    // A balancer of pods serves until its controller has come, 2 s later, and is gone then.
    let pods = Drill {
        annotations: "service.beta.kubernetes.io/backend-type: eni",
        service: "type: LoadBalancer",
        timeline: NAMED,
        ..BALANCER
    };
    let outcome = pods.run();
    assert_eq!(codes(&outcome), ["GD4111"]);
    assert!(lost(&outcome).abs_diff(1800) <= 3, "{}", lost(&outcome));
    // One of nodes has nobody behind its ports before that.
    let outcome = Drill { timeline: NAMED, ..BALANCER }.run();
    assert_eq!(codes(&outcome), ["GD4111", "GD4117"]);
    assert!(lost(&outcome).abs_diff(1990) <= 3, "{}", lost(&outcome));
}

#[test]
fn a_service_that_was_a_name_has_other_node_ports_unless_they_are_written_and_another_address() {
    let back = |kind: &str, more: &str| -> &'static str {
        let edit = format!(
            "\"Service/default/edge.spec.type\": {kind}, \"Service/default/edge.spec.externalName\": null{more}"
        );
        format!("{NAMED}, {{ at: 20s, set: {{ {edit} }} }}").leak()
    };
    // The name has no ports of nodes, so they are given anew; each edit has its own line.
    let given = Drill { timeline: back("NodePort", ""), ..NODE_PORT }.run();
    assert_eq!(causes(&given), [("GD4117", 990), ("GD4117", 1000)]);
    let written = back("NodePort", ", \"Service/default/edge.spec.ports[0].nodePort\": 30080");
    assert_eq!(lost(&Drill { timeline: written, ..NODE_PORT }.run()), 1000, "as long as nodes do not hear of it");
    Drill { timeline: back("ClusterIP", ""), ..CLUSTER_IP }
        .refused("a Service that was an ExternalName gets another address");
    // Another balancer has an address that nobody dials.
    let outcome = Drill {
        annotations: "service.beta.kubernetes.io/backend-type: eni",
        service: "type: LoadBalancer",
        timeline: back("LoadBalancer", ""),
        ..BALANCER
    }
    .run();
    assert!(lost(&outcome).abs_diff(1800) <= 3, "{:?}", causes(&outcome));
    assert_eq!(count(&outcome, "lb_created"), 1);
}
