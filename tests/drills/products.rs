//! Whole drills of other clouds' balancers.
//!
//! Goal: what a removal costs follows from the profile's times alone, (λ/N)·max(0, L − P), on both sides of L = P; checks, gates, open connections and failover
//! do what the profile says; what a profile cannot take is told with its line. Method: small scenarios from memory, constant arrivals, a connection for each
//! request. L ends when the balancer sends the last new connection, P when the pod's process ends; both are read from the event log and, where the profile
//! fixes them, held against the profile too.

use std::collections::BTreeMap;

use crate::scenarios::loaded;
use crate::shop::{self, annotated_edge, annotation_lines, moments, only, scenario_head, shop_of_edge, spread_edge};
use gatedrill::drill::Outcome;
use gatedrill::engine::Datum;
use gatedrill::manifest::Problems;
use gatedrill::record::results::FidelityStatus;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("products", "  duration: DURATION\n  seed: 5\n  target: default/edge\n"),
    r#"  cluster:
    nodes:
      - { name: edge, count: 4, labels: { pool: edge }, allocatable: { cpu: "4", memory: 8Gi } }
      - { name: other, count: 4, allocatable: { cpu: "4", memory: 8Gi } }
    timings: { schedule: 10ms, podStart: 2s, endpointPropagation: 100ms, sandboxRemoval: 1s }
    kubeProxy: { minSyncPeriod: 0s }
  loadBalancer: BALANCER
  gateway: { terminationDrainDuration: 0s, exitDelay: 0s }
  backends: [ { service: default/web, replicas: 2, serviceTime: 5ms } ]
  load:
    - name: all
      rate: 40/s
      arrivals: constant
      clients: { timeout: 3s, CLIENTS }
      mix: [ { weight: 1, get: "http://shop.example.com/" } ]
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    spread_edge!("      GATES\n"),
    annotated_edge!("  CLASS\n", "[ { port: 80, targetPort: 80 } ]"),
    shop_of_edge!()
);

const NLB: &str = "service.beta.kubernetes.io/aws-load-balancer-";
const ALB: &str = "alb.ingress.kubernetes.io/";
/// The line of the first annotation.
const LINE: u32 = 30;
/// Requests a second, and pods.
const RATE: f64 = 40.0;
const PODS: f64 = 4.0;

#[derive(Clone, Copy)]
struct Case<'a> {
    balancer: &'a str,
    annotations: &'a [(&'a str, &'a str)],
    class: &'a str,
    policy: &'a str,
    gates: &'a str,
    pause_s: u32,
    clients: &'a str,
    duration: &'a str,
    timeline: &'a str,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            balancer: "{}",
            annotations: &[],
            class: "",
            policy: "Cluster",
            gates: "",
            pause_s: 1,
            clients: "reuse: none",
            duration: "40s",
            timeline: "{ at: 5s, scale: { replicas: 3 } }",
        }
    }
}

fn scenario(case: &Case<'_>) -> Result<Scenario, Problems> {
    let manifest = MANIFEST
        .replace("ANNOTATIONS", &annotation_lines(case.annotations.iter().copied()))
        .replace("CLASS", case.class)
        .replace("POLICY", case.policy)
        .replace("GATES", case.gates)
        .replace("PAUSE", &case.pause_s.to_string());
    let text = SCENARIO.replace("BALANCER", case.balancer).replace("CLIENTS", case.clients);
    let text = text.replace("DURATION", case.duration).replace("TIMELINE", case.timeline);
    loaded(&text, &manifest, &[], None)
}

fn ran(case: &Case<'_>) -> Outcome {
    shop::ran(scenario(case))
}

/// Lost requests by cause.
fn lost(outcome: &Outcome) -> BTreeMap<&str, u64> {
    outcome.run.results.causes.iter().map(|row| (row.name.as_str(), row.count)).collect()
}

/// Holds the losses of one removal against (λ/N)·max(0, L − P), with both from the removal on. Hashes spread at random: four deviations.
#[track_caller]
fn check_law(name: &str, outcome: &Outcome, last_at: f64, is_hashed: bool) -> f64 {
    let (deleted, gone) = (only(outcome, "pod_terminating"), only(outcome, "container_exited"));
    let (l, p) = (last_at - deleted, gone - deleted);
    let expected = RATE / PODS * (l - p).max(0.0);
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let dropped = outcome.run.results.totals.dropped as f64;
    let tolerance = if is_hashed { 4.0 * expected.sqrt() + 1.0 } else { 2.0 };
    assert!(
        (dropped - expected).abs() <= tolerance && (expected > 0.0 || dropped == 0.0),
        "{name}: L {l:.2} s, P {p:.2} s: {dropped} lost, {expected:.1} ± {tolerance:.1} expected: {:?}",
        lost(outcome)
    );
    l
}

#[test]
fn a_network_load_balancer_sends_on_for_its_deregistration_time() {
    for (pause_s, time_s) in [(1, 12), (8, 12), (12, 12), (15, 12), (1, 0), (4, 0)] {
        let balancer = format!("{{ profile: aws-nlb, controllerLatency: 2s, deregistrationTime: {time_s}s }}");
        let outcome = ran(&Case { balancer: &balancer, pause_s, ..Case::default() });
        let last_at = only(&outcome, "target_deregistered");
        let asked = moments(&outcome, "target_deregistering");
        assert_eq!(asked.len(), usize::from(time_s > 0));
        assert!(asked.iter().all(|asked| (last_at - asked - f64::from(time_s)).abs() < 0.01), "{asked:?}");
        let l = check_law(&format!("{balancer}, pause {pause_s} s"), &outcome, last_at, true);
        // The endpoint's way, the controller, the balancer.
        assert!((l - 0.1 - 2.0 - f64::from(time_s)).abs() < 0.05, "{l}");
        assert_eq!(outcome.run.results.gateway.balancer.as_deref(), Some("AWS Network Load Balancer, IP targets"));
    }
    // Where nothing is written it is 120 s.
    let usual = Case { balancer: "{ profile: aws-nlb, controllerLatency: 2s }", duration: "150s", ..Case::default() };
    let outcome = ran(&Case { pause_s: 110, ..usual });
    let l = check_law("the usual time", &outcome, only(&outcome, "target_deregistered"), true);
    assert!((l - 122.1).abs() < 0.05, "{l}");
    assert!(outcome.run.results.totals.dropped > 0);
}

#[test]
fn an_application_load_balancer_sends_on_until_its_controller_has_called() {
    for (pause_s, latency_s) in [(1, 2), (1, 6), (7, 6), (6, 6)] {
        let balancer = format!("{{ profile: aws-alb, controllerLatency: {latency_s}s }}");
        let outcome = ran(&Case { balancer: &balancer, pause_s, ..Case::default() });
        let l = check_law(
            &format!("{balancer}, pause {pause_s} s"),
            &outcome,
            only(&outcome, "target_deregistered"),
            false,
        );
        assert!((l - 0.1 - f64::from(latency_s)).abs() < 0.05, "{l}");
    }
}

#[test]
fn a_passthrough_balancer_sends_on_until_its_checks_have_failed_twice() {
    let mut losses = Vec::new();
    for pause_s in [1, 2, 8] {
        let balancer = "{ profile: gcp-passthrough }";
        let outcome = ran(&Case { balancer, policy: "Local", pause_s, ..Case::default() });
        let l = check_law(&format!("pause {pause_s} s"), &outcome, only(&outcome, "target_unhealthy"), true);
        // Two checks in a row, 3 s apart: 3 to 6 s after kube-proxy knows.
        assert!((3.1..6.2).contains(&l), "{l}");
        losses.push(outcome.run.results.totals.dropped);
    }
    assert!(losses[0] > losses[1] && losses[2] == 0, "{losses:?}");
    // All nodes are targets, and those without a pod are never sent to.
    let outcome =
        ran(&Case { balancer: "{ profile: gcp-passthrough }", policy: "Local", timeline: "", ..Case::default() });
    assert_eq!((outcome.run.results.totals.dropped, outcome.run.results.targets.len()), (0, 8));
}

#[test]
fn a_passthrough_balancer_leaves_a_dead_node_by_its_own_checks() {
    // Under Cluster each kube-proxy is asked for its health: 3 failures, 8 s apart, each after 1 s of silence.
    let timeline = "{ at: 5s, killNode: { node: other-1 } }";
    let outcome = ran(&Case { balancer: "{ profile: gcp-passthrough }", timeline, duration: "60s", ..Case::default() });
    let took = only(&outcome, "target_unhealthy") - 5.0;
    assert!((17.0..25.1).contains(&took), "{took}");
    // Nobody looks at the other nodes' losses: other-1 has no pod, so only what was sent through it is lost. A SYN is sent again to the same node.
    let expected = RATE / 8.0 * took;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let dropped = outcome.run.results.totals.dropped as f64;
    assert!((dropped - expected).abs() < 4.0 * expected.sqrt() + 1.0, "{dropped} {expected} {:?}", lost(&outcome));
    assert_eq!(lost(&outcome).keys().copied().collect::<Vec<_>>(), ["node-lost"]);
}

/// The node that answers for the address at the start.
fn leader(case: &Case<'_>) -> String {
    let outcome = ran(&Case { timeline: "", duration: "1s", ..*case });
    let first = outcome.log.events().iter().find(|event| event.kind == "target_registered").expect("one answers");
    match first.data.iter().find(|(key, _)| *key == "node") {
        Some((_, Datum::Text(name))) => name.to_string(),
        other => panic!("a node's name, not {other:?}"),
    }
}

#[test]
fn one_node_answers_and_after_its_death_another() {
    let mut seen = Vec::new();
    for failover_s in [0.5, 3.0, 6.0] {
        let balancer = format!("{{ profile: metallb-l2, failover: {}ms, controllerLatency: 0s }}", failover_s * 1e3);
        let case = Case { balancer: &balancer, ..Case::default() };
        let first = leader(&case);
        let timeline = format!("{{ at: 5s, killNode: {{ node: {first} }} }}");
        let outcome = ran(&Case { timeline: &timeline, duration: "30s", ..case });
        let moved = moments(&outcome, "target_registered");
        assert!(moved.len() == 1 && (moved[0] - 5.0 - failover_s).abs() < 0.01, "{moved:?}");
        assert_eq!(moments(&outcome, "target_deregistered"), moved, "the address moves at once");
        // Who dials within the last second dials again when the other answers: its SYN is sent again after 1 s, and after 3.
        let expected = RATE * (failover_s - 1.0_f64).max(0.0);
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let dropped = outcome.run.results.totals.dropped as f64;
        if first.starts_with("other") {
            assert!(
                (dropped - expected).abs() <= 2.0,
                "{first}, {failover_s} s: {dropped} lost, {expected} expected: {:?}",
                lost(&outcome)
            );
        } else {
            assert!(dropped >= expected - 2.0, "{first}: its pod is gone as well");
        }
        seen.push(dropped);
    }
    assert!(seen[0] < seen[1] && seen[1] < seen[2], "{seen:?}");
}

#[test]
fn an_address_that_moves_forgets_its_connections() {
    let balancer = "{ profile: metallb-l2, controllerLatency: 0s, failover: 2s }";
    let case = Case { balancer, clients: "connections: 8, reuse: lru", duration: "60s", ..Case::default() };
    // A dead node comes back after 12 s, and the address with it: what went through the other is forgotten, a request for each connection.
    let first = leader(&case);
    let timeline = format!("{{ at: 5s, killNode: {{ node: {first}, for: 12s }} }}");
    let outcome = ran(&Case { timeline: &timeline, ..case });
    assert_eq!(moments(&outcome, "target_registered").len(), 2, "there and back");
    let cut = lost(&outcome).get("lb-cut-connection").copied().unwrap_or(0);
    assert!((1..=8).contains(&cut), "{:?}", lost(&outcome));
    // In a rollout under Cluster the leader stays. Under Local it may not, but then its connections went to its own pod.
    for (policy, moves) in [("Cluster", false), ("Local", true)] {
        let outcome = ran(&Case { policy, timeline: "{ at: 5s, restart: {} }", ..case });
        assert_eq!(!moments(&outcome, "target_deregistered").is_empty(), moves, "{policy}");
        assert_eq!(lost(&outcome).get("lb-cut-connection"), None, "{policy}: {:?}", lost(&outcome));
    }
}

#[test]
fn open_connections_of_a_removed_target_meet_what_its_attributes_say() {
    let attributes = format!("{NLB}target-group-attributes");
    // Four connections that are used ten times a second, one to each pod or so; the pod stays for long.
    let with = |text: &str| {
        let annotations = [(attributes.as_str(), text)];
        let annotations: &[(&str, &str)] = if text.is_empty() { &[] } else { &annotations };
        let balancer = "{ profile: aws-nlb, controllerLatency: 1s, deregistrationTime: 2s }";
        ran(&Case {
            balancer,
            annotations,
            pause_s: 30,
            clients: "connections: 40, reuse: lru, keepAlive: 10m",
            ..Case::default()
        })
    };
    assert!(moments(&with(""), "target_drained").is_empty(), "they live on");
    let on = "deregistration_delay.connection_termination.enabled=true";
    for (delay, after) in [("5", 5.0), ("1", 2.0), ("0", 2.0)] {
        let outcome = with(&format!("{on},deregistration_delay.timeout_seconds={delay}"));
        let took = only(&outcome, "target_drained") - only(&outcome, "target_deregistering");
        assert!((took - after).abs() < 0.01, "{delay}: {took}");
    }
    assert!(moments(&with(&format!("{on},deregistration_delay.timeout_seconds=300")), "target_drained").is_empty());
}

#[test]
fn a_gate_opens_when_its_pod_is_healthy() {
    let gates = "readinessGates: [ { conditionType: target-health.elbv2.k8s.aws/k8s-default-edge-0123456789 } ]";
    let balancer = "{ profile: aws-nlb, controllerLatency: 1s, registrationTime: 20s, deregistrationTime: 0s }";
    let timeline = "{ at: 5s, restart: {} }";
    let case = Case { balancer, timeline, duration: "3m", pause_s: 3, ..Case::default() };
    let gated = ran(&Case { gates, ..case });
    let first =
        |outcome: &Outcome, kind: &str| moments(outcome, kind).into_iter().find(|at| *at > 5.0).expect("it happens");
    // Registered after 1 s, checked for the first time after 20 s more, healthy with the first check.
    let (registered, healthy) = (first(&gated, "target_registered"), first(&gated, "target_healthy"));
    assert!((healthy - registered - 20.0).abs() < 0.1, "{registered} {healthy}");
    assert!(first(&gated, "pod_ready") >= healthy && first(&gated, "pod_terminating") >= healthy);
    assert_eq!(lost(&gated), BTreeMap::new());
    let open = ran(&case);
    assert!(first(&open, "pod_terminating") < first(&open, "target_healthy"));
}

#[test]
fn annotations_of_aws_say_what_checks_and_silence_are() {
    let case = Case { balancer: "{ profile: aws-nlb }", timeline: "", duration: "1s", ..Case::default() };
    let config = |annotations: &[(&str, &str)], balancer: &str| {
        let loaded = match scenario(&Case { annotations, balancer, ..case }) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}"),
        };
        loaded.world.members[0].front.balancer.clone().expect("it has one")
    };
    let check = |annotations: &[(&str, &str)], balancer: &str| {
        let config = config(annotations, balancer);
        let check = config.balancer.health_check.expect("it is on");
        (
            check.interval.as_secs(),
            check.timeout.as_secs(),
            check.healthy_threshold,
            check.unhealthy_threshold,
            format!("{:?}", config.probe),
        )
    };
    let nlb = |suffix: &str| format!("{NLB}{suffix}");
    let [interval, port, protocol, path] =
        ["healthcheck-interval", "healthcheck-port", "healthcheck-protocol", "healthcheck-path"].map(nlb);
    let tcp = || "Tcp".to_owned();
    let http = |port: u16, path: &str, passes: &str| {
        format!("Http(HttpProbe {{ port: {port}, path: {path:?}, host: None, asks_head: false, passes: [{passes}] }})")
    };
    assert_eq!(check(&[], "{ profile: aws-nlb }"), (10, 10, 3, 3, tcp()));
    assert_eq!(check(&[(&interval, "5")], "{ profile: aws-nlb }"), (5, 5, 3, 3, tcp()));
    assert_eq!(
        check(&[(&protocol, "http"), (&port, "15021"), (&path, "/healthz/ready")], "{ profile: aws-nlb }"),
        (10, 6, 3, 3, http(15021, "/healthz/ready", "(200, 399)"))
    );
    // The scenario's own win: they are there to try what is not written yet.
    let written = "{ profile: aws-nlb, healthCheck: { interval: 7s, unhealthyThreshold: 5 } }";
    assert_eq!(check(&[(&interval, "5")], written), (7, 5, 3, 5, tcp()));
    let alb = |suffix: &str| format!("{ALB}{suffix}");
    let (count, seconds) = (alb("unhealthy-threshold-count"), alb("healthcheck-interval-seconds"));
    assert_eq!(
        check(&[(&count, "4"), (&seconds, "30")], "{ profile: aws-alb }"),
        (30, 5, 2, 4, http(80, "/", "(200, 200)"))
    );
    let codes = alb("success-codes");
    assert_eq!(check(&[(&codes, "200-299,302")], "{ profile: aws-alb }").4, http(80, "/", "(200, 299), (302, 302)"));
    // A connection is opened to whatever port is asked for.
    assert_eq!(check(&[(&port, "15021")], "{ profile: aws-nlb }").4, "TcpAt { port: 15021 }");
    let attributes = alb("target-group-attributes");
    let least = "load_balancing.algorithm.type=least_outstanding_requests";
    let scheduler =
        |annotations: &[(&str, &str)]| format!("{:?}", config(annotations, "{ profile: aws-alb }").balancer.scheduler);
    assert_eq!(scheduler(&[]), "RoundRobin");
    assert_eq!(scheduler(&[(&attributes, least)]), "WeightedLeastConnections");
    let http = |balancer: &str| {
        let rules = config(&[], balancer).http.remove(&80).expect("it is a proxy");
        [rules.client_idle, rules.answer_timeout, rules.target_idle.expect("they are kept")].map(|span| span.as_secs())
    };
    assert_eq!(http("{ profile: aws-alb }"), [60; 3]);
    assert_eq!(http("{ profile: aws-alb, idleTimeout: 4000s }"), [4000; 3]);
    let listener = nlb("listener-attributes.TCP-80");
    let idle = |annotations: &[(&str, &str)]| {
        config(annotations, "{ profile: aws-nlb }").idle.map(|rule| rule.timeout.as_secs())
    };
    assert_eq!((idle(&[]), idle(&[(&listener, "tcp.idle_timeout.seconds=60")])), (Some(350), Some(60)));
}

/// Problems as `line: text`.
fn told(case: &Case<'_>) -> Vec<String> {
    match scenario(case) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            let line = |place| problems.files.position(place).map_or(0, |(_, line, _)| line);
            problems
                .list
                .iter()
                .map(|it| format!("{}: {} | {}", line(it.place), it.text, it.help.clone().unwrap_or_default()))
                .collect()
        }
    }
}

#[test]
fn what_a_profile_cannot_take_is_told() {
    let key = |suffix: &str| format!("{NLB}{suffix}");
    let [attributes, interval, timeout, target, port] = [
        "target-group-attributes",
        "healthcheck-interval",
        "healthcheck-timeout",
        "nlb-target-type",
        "healthcheck-port",
    ]
    .map(key);
    let alb_attributes = format!("{ALB}target-group-attributes");
    let (nlb, alb) = ("{ profile: aws-nlb }", "{ profile: aws-alb }");
    let none = ("", "");
    let reuse = ("service.beta.kubernetes.io/alibaba-cloud-loadbalancer-id", "lb-1");
    let (of_alibaba, of_aws) = ("loadBalancerClass: alibabacloud.com/nlb", "loadBalancerClass: service.k8s.aws/nlb");
    let (too_long, unknown) = ("deregistration_delay.timeout_seconds=3601", "deregistration_delay.timeout=30");
    let table = [
        ("{ profile: aws-elb }", none, "", "16: "),
        ("{ profile: aws-nlb, controller: batches }", none, "", "16: this is how the controller of Alibaba's"),
        ("{ profile: aws-nlb, withoutDrain: keep }", none, "", "16: this is assumed of Alibaba's balancers"),
        ("{ profile: aws-nlb, failover: 1s }", none, "", "16: no node answers for the address"),
        ("{ deregistrationTime: 1s }", none, "", "16: this product removes targets at once"),
        ("{ profile: metallb-l2, registrationTime: 1s }", none, "", "16: this product registers targets at once"),
        ("{ profile: metallb-l2, healthCheck: { interval: 1s } }", none, "", "16: MetalLB checks nothing"),
        (nlb, none, of_alibaba, "33: no controller of this cluster handles"),
        ("{}", none, of_aws, "33: no controller of this cluster handles"),
        ("{ profile: aws-nlb, idleTimeout: 60s }", none, "", "16: only an Application Load Balancer has it"),
        ("{ profile: aws-alb, idleTimeout: 4001s }", none, "", "16: AWS takes 1 to 4000 seconds"),
        ("{ profile: aws-alb, targetKeepAlive: 1s }", none, "", "16: this is assumed of a CLB"),
        (alb, (&alb_attributes, "load_balancing.algorithm.type=fastest"), "", "30: load_balancing.algorithm.type"),
        (nlb, (attributes.as_str(), too_long), "", "30: deregistration_delay.timeout_seconds: `3601`"),
        (nlb, (&attributes, unknown), "", "30: AWS knows no attribute `deregistration_delay.timeout`"),
        (nlb, (&attributes, "on"), "", "30: `on` is no attribute"),
        (alb, (&alb_attributes, "preserve_client_ip.enabled=true"), "", "30: AWS knows no attribute"),
        (nlb, (&interval, "4"), "", "30: `4` is no number from 5 to 300"),
        (nlb, (&timeout, "11"), "", "30: AWS refuses a timeout above the interval"),
        (nlb, (&target, "instance"), "", "30: `instance`: only IP targets are simulated"),
        (nlb, (&port, "http"), "", "30: `http` is no port"),
        (nlb, reuse, "", "30: only Alibaba's controller"),
    ];
    // Clients of a proxy may keep their connections.
    assert_eq!(told(&Case { balancer: alb, clients: "connections: 10", ..Case::default() }), [""; 0]);
    for (balancer, annotation, class, expected) in table {
        let annotations = [annotation];
        let annotations = if annotation == none { &[] } else { &annotations[..] };
        let found = told(&Case { balancer, annotations, class, ..Case::default() });
        assert!(
            found.iter().any(|it| it.contains(expected)),
            "{balancer} {annotations:?} {class}: {found:?} instead of {expected}"
        );
        assert_eq!(found.len(), 1, "{balancer} {annotations:?}: {found:?}");
    }
    assert_eq!(
        told(&Case { balancer: nlb, class: "loadBalancerClass: service.k8s.aws/nlb", ..Case::default() }),
        [""; 0]
    );
    let gates = "readinessGates: [ { conditionType: service.readiness.alibabacloud.com/edge } ]";
    let found = told(&Case { balancer: nlb, gates, ..Case::default() });
    assert!(found[0].contains("target-health.elbv2.k8s.aws/"), "{found:?}");
}

#[test]
fn what_nobody_reads_under_a_profile_is_listed() {
    let alibaba = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain";
    let aws = format!("{NLB}scheme");
    let typo = format!("{NLB}healtcheck-interval");
    let notes = |balancer: &str| {
        let annotations = [(alibaba, "on"), (aws.as_str(), "internal"), (typo.as_str(), "10")];
        let loaded = match scenario(&Case { balancer, annotations: &annotations, ..Case::default() }) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}"),
        };
        let rows =
            loaded.world.fidelity.iter().filter(|row| row.line.is_some_and(|line| (LINE..LINE + 3).contains(&line)));
        rows.map(|row| (row.line.expect("a line") - LINE, row.status)).collect::<Vec<_>>()
    };
    use FidelityStatus::{Ignored, Warning};
    assert_eq!(notes("{ profile: aws-nlb }"), [(0, Ignored), (2, Warning)]);
    assert_eq!(notes("{ profile: gcp-passthrough }"), [(0, Ignored), (1, Ignored), (2, Ignored)]);
}
