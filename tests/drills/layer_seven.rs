//! Whole drills of balancers that are proxies for HTTP: a CLB's listeners for HTTP, and an ALB.
//!
//! Goal: each time and limit of theirs decides what becomes of requests, on both sides of its threshold; a balancer's own answer has its one cause; a target is
//! chosen for each request, so that kept connections of clients cost nothing when a target goes. Method: small scenarios from memory with constant
//! arrivals, so that a count says exactly what happened. What single connections do to the millisecond stands beside the code (`edge::load_balancer`).

mod cookies;
mod redirects;
mod slow_start;
mod sticky;

use std::collections::BTreeMap;

use crate::scenarios::loaded;
use crate::shop::{
    self, PREFIX, annotated_edge, annotation_lines, lost, moments, only, scenario_head, shop_of_edge, spread_edge,
};
use gatedrill::drill::Outcome;
use gatedrill::manifest::Problems;
use gatedrill::record::results::FidelityStatus;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("layer-seven", "  duration: DURATION\n  seed: 5\n  target: default/edge\n"),
    r#"  cluster:
    nodes:
      - { name: edge, count: 4, labels: { pool: edge }, allocatable: { cpu: "4", memory: 8Gi } }
      - { name: other, count: 2, allocatable: { cpu: "4", memory: 8Gi } }
    timings: { schedule: 10ms, podStart: 2s, endpointPropagation: 100ms, sandboxRemoval: 1s, NETWORK }
  loadBalancer: BALANCER
  gateway: { terminationDrainDuration: 0s, exitDelay: 0s }
  backends: [ BACKENDS ]
  load:
    - name: all
      rate: RATE
      arrivals: constant
      clients: { timeout: PATIENCE, rtt: 20ms, CLIENTS }
      mix: [ { weight: 1, get: "URL" } ]
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    spread_edge!(""),
    annotated_edge!("", "[ { name: http, port: 80, targetPort: 80 }, { name: other, port: 81, targetPort: 80 } ]"),
    // An ALB's checks name no host.
    shop_of_edge!(at "*")
);

const ENI: (&str, &str) = ("service.beta.kubernetes.io/backend-type", "eni");
const HTTP: (&str, &str) = ("protocol-port", "http:80,http:81");
const PODS: f64 = 4.0;

#[derive(Clone, Copy)]
struct Case<'a> {
    balancer: &'a str,
    annotations: &'a [(&'a str, &'a str)],
    policy: &'a str,
    rate: &'a str,
    clients: &'a str,
    patience: &'a str,
    service: &'a str,
    backends: &'a str,
    /// More manifests.
    more: &'a str,
    url: &'a str,
    pause_s: u32,
    duration: &'a str,
    timeline: &'a str,
    network: &'a str,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            balancer: "{ controller: each, controllerLatency: 4s }",
            annotations: &[ENI, HTTP],
            policy: "Cluster",
            rate: "40/s",
            clients: "connections: 8, reuse: lru",
            patience: "20s",
            service: "5ms",
            backends: "{ service: default/web, replicas: 4, serviceTime: SERVICE, shutdownDelay: 0s }",
            more: "",
            url: "http://shop.example.com/",
            pause_s: 1,
            duration: "30s",
            timeline: "",
            network: "networkLatency: 100us",
        }
    }
}

fn scenario(case: &Case<'_>) -> Result<Scenario, Problems> {
    let manifest = MANIFEST
        .replace("ANNOTATIONS", &annotation_lines(case.annotations.iter().copied()))
        .replace("POLICY", case.policy)
        .replace("PAUSE", &case.pause_s.to_string())
        + case.more;
    let text = SCENARIO.replace("BALANCER", case.balancer).replace("CLIENTS", case.clients).replace("URL", case.url);
    let text = text.replace("BACKENDS", case.backends);
    let text = text.replace("SERVICE", case.service).replace("RATE", case.rate).replace("PATIENCE", case.patience);
    let text = text.replace("DURATION", case.duration).replace("TIMELINE", case.timeline);
    let text = text.replace("NETWORK", case.network);
    loaded(&text, &manifest, &[], None)
}

fn refusals(case: &Case<'_>) -> Vec<String> {
    shop::refusals(scenario(case))
}

fn ran(case: &Case<'_>) -> Outcome {
    shop::ran(scenario(case))
}

/// The statuses of lost requests.
fn statuses(outcome: &Outcome) -> BTreeMap<Option<u16>, usize> {
    let mut found = BTreeMap::new();
    for row in outcome.run.requests.iter().filter(|row| row.cause.is_some()) {
        *found.entry(row.status).or_default() += 1;
    }
    found
}

#[test]
fn requests_over_a_specification_are_answered_503() {
    let by_spec = |rate: &'static str, listeners: &'static str| {
        let annotations = [ENI, ("protocol-port", listeners), ("instance-charge-type", "PayBySpec")];
        ran(&Case { annotations: &annotations, rate, clients: "connections: 200", duration: "4s", ..Case::default() })
    };
    // slb.s1.small: 1,000 queries a second, all listeners together. A rate above it loses what is above it, in each second; from the first those are missing that
    // are still on their way, 10 ms.
    let over = by_spec("1200/s", "http:80,http:81");
    assert_eq!(lost(&over), BTreeMap::from([("GD4127", 4 * 200 - 12)]));
    assert_eq!(statuses(&over), BTreeMap::from([(Some(503), 788)]));
    let row = &over.run.results.causes[0];
    let source = row.source.as_ref().expect("a line decides it");
    assert!(source.path.contains("instance-charge-type") || source.path.contains("spec"), "{source:?}");
    assert_eq!(lost(&by_spec("1000/s", "http:80,http:81")), BTreeMap::new());
    // Who has no listener for HTTP has no such limit; who pays by usage has a larger one.
    assert_eq!(lost(&by_spec("1200/s", "tcp:80,tcp:81")), BTreeMap::new());
    let by_usage = Case { rate: "1200/s", clients: "connections: 200", duration: "4s", ..Case::default() };
    assert_eq!(lost(&ran(&by_usage)), BTreeMap::new());
}

#[test]
fn an_answer_later_than_the_request_timeout_is_lost() {
    let with = |service: &'static str, timeout: &'static str| {
        let annotations = [ENI, HTTP, ("request-timeout", timeout)];
        let case =
            Case { annotations: &annotations, service, rate: "10/s", clients: "connections: 100", ..Case::default() };
        ran(&Case { duration: "5s", ..case })
    };
    assert_eq!(lost(&with("1900ms", "2")), BTreeMap::new());
    let late = with("2100ms", "2");
    assert_eq!((lost(&late), statuses(&late)), (BTreeMap::from([("GD4128", 50)]), BTreeMap::from([(Some(504), 50)])));
    assert!(late.run.results.causes[0].source.as_ref().is_some_and(|it| it.path.contains("request-timeout")));
    assert_eq!(lost(&with("2100ms", "3")), BTreeMap::new());
}

#[test]
fn a_client_that_is_silent_for_too_long_loses_its_connection() {
    let with = |period: &'static str, clients: &'static str, idle: &'static str| {
        let annotations = [ENI, HTTP, ("idle-timeout", idle)];
        ran(&Case { annotations: &annotations, rate: period, clients, duration: "60s", ..Case::default() })
    };
    let blind = "connections: 1, detectIdleClose: false";
    // A request every 4 s; the first opens the connection, and every other one meets a close.
    assert_eq!(lost(&with("0.25/s", blind, "5")), BTreeMap::new());
    let cut = with("0.25/s", blind, "3");
    let count = cut.run.results.totals.sent;
    assert_eq!(lost(&cut), BTreeMap::from([("GD4304", count / 2)]));
    assert!(cut.run.results.causes[0].source.as_ref().is_some_and(|it| it.path.contains("idle-timeout")));
    // Who looks opens another.
    let seeing = with("0.25/s", "connections: 1", "3");
    assert_eq!((lost(&seeing), seeing.run.results.totals.connections_opened), (BTreeMap::new(), count));
    // And after a hundred requests a connection is over in any case.
    let busy = with("10/s", "connections: 1", "15");
    assert_eq!((lost(&busy), busy.run.results.totals.connections_opened), (BTreeMap::new(), 6));
    let deaf = with("10/s", "connections: 1, honorConnectionClose: false, detectIdleClose: false", "15");
    assert_eq!(lost(&deaf), BTreeMap::from([("GD4107", 5)]), "one behind each hundred, and a new connection after it");
}

/// With a target chosen for each request the losses of a removal are (λ/N)·max(0, L − P), however long clients keep their connections: L is when the last request is
/// sent to it, P when its process ends, both from its deletion on. A CLB has the next target when one takes no connection: then only those count that are
/// refused, until the pod's address is gone a second after its process.
#[test]
fn losses_of_a_removal_follow_from_its_times_alone() {
    let timeline = "{ at: 5s, scale: { replicas: 3 } }";
    let alb = "{ profile: aws-alb, controllerLatency: 4s }";
    let clb = Case::default();
    for (name, case) in [
        ("CLB, kept", Case { timeline, ..clb }),
        ("CLB, new", Case { timeline, clients: "reuse: none", ..clb }),
        ("CLB, a long pause", Case { timeline, pause_s: 6, ..clb }),
        // Many connections, since a request that waits for 10 s holds its own up.
        (
            "ALB, kept",
            Case { timeline, balancer: alb, annotations: &[], clients: "connections: 400, reuse: lru", ..clb },
        ),
        ("ALB, new", Case { timeline, balancer: alb, annotations: &[], clients: "reuse: none", ..clb }),
        ("ALB, a long pause", Case { timeline, balancer: alb, annotations: &[], pause_s: 6, ..clb }),
    ] {
        let outcome = ran(&case);
        let gone = only(&outcome, "container_exited") - only(&outcome, "pod_terminating");
        let last = only(&outcome, "target_deregistered") - only(&outcome, "pod_terminating");
        let is_clb = name.starts_with("CLB");
        let exposed = (last - gone).max(0.0);
        let expected = 40.0 / PODS * if is_clb { exposed.min(1.0) } else { exposed };
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let dropped = outcome.run.results.totals.dropped as f64;
        assert!(
            (dropped - expected).abs() <= 2.0,
            "{name}: {dropped} lost, {expected:.1} expected: {:?}",
            lost(&outcome)
        );
        assert_eq!(dropped > 0.0, expected > 0.0, "{name}");
        // They are the balancer's answers, and their cause is what became of the pod.
        let codes: Vec<&str> = lost(&outcome).into_keys().collect();
        let expected = if is_clb { &["GD4101"][..] } else { &["GD4101", "GD4302"] };
        assert!(dropped == 0.0 || codes == expected, "{name}: {codes:?}");
        let of_statuses: Vec<Option<u16>> = statuses(&outcome).into_keys().collect();
        let expected = if is_clb { &[Some(502)][..] } else { &[Some(502), Some(504)] };
        assert!(dropped == 0.0 || of_statuses == expected, "{name}: {of_statuses:?}");
    }
    // At a listener for TCP clients that keep their connections meet the end of the process on them as well; at one for HTTP they do not.
    let blind = "connections: 8, reuse: lru, detectIdleClose: false";
    let tcp = ran(&Case { annotations: &[ENI], timeline, clients: blind, pause_s: 6, ..clb });
    assert!(!lost(&tcp).is_empty(), "{:?}", lost(&tcp));
    assert_eq!(lost(&ran(&Case { timeline, clients: blind, pause_s: 6, ..clb })), BTreeMap::new());
}

#[test]
fn a_gateway_that_drains_tells_the_proxy_and_not_the_clients() {
    // A rollout of gateways that drain long enough: nobody loses anything, and clients open no connection but their first.
    let timeline = "{ at: 2s, restart: {} }";
    for (balancer, annotations) in [
        ("{ profile: aws-alb, controllerLatency: 1s }", &[][..]),
        ("{ controller: each, controllerLatency: 1s }", &[ENI, HTTP]),
    ] {
        let case =
            Case { balancer, annotations, timeline, pause_s: 4, rate: "16/s", duration: "50s", ..Case::default() };
        let outcome = ran(&case);
        assert_eq!(lost(&outcome), BTreeMap::new(), "{balancer}");
        // A CLB's connections are over with their hundredth request: 800 requests over 8 connections.
        assert_eq!(outcome.run.results.totals.connections_opened, 8, "{balancer}");
        assert!(outcome.run.results.rollouts[0].complete);
    }
}

#[test]
fn without_a_target_the_balancer_answers_itself() {
    let timeline = "{ at: 5s, scale: { replicas: 0 } }";
    let none = Case { timeline, duration: "20s", pause_s: 10, ..Case::default() };
    let outcome = ran(&none);
    let last = only_last(&outcome, "target_deregistered");
    let expected = (20.0 - last) * 40.0;
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    let dropped = outcome.run.results.totals.dropped as f64;
    assert!((dropped - expected).abs() <= 2.0 && dropped > 100.0, "{dropped} lost, {expected} expected");
    assert_eq!(lost(&outcome).keys().copied().collect::<Vec<_>>(), ["GD4105"]);
    assert_eq!(statuses(&outcome).into_keys().collect::<Vec<_>>(), [Some(503)]);
    // Targets that fail their checks: a CLB answers 502, an ALB asks them all the same.
    let checks =
        [ENI, HTTP, ("health-check-flag", "on"), ("health-check-uri", "/"), ("health-check-connect-port", "9")];
    let ill = ran(&Case { annotations: &checks, duration: "20s", ..Case::default() });
    assert_eq!(lost(&ill).keys().copied().collect::<Vec<_>>(), ["GD4129"]);
    assert_eq!(statuses(&ill).into_keys().collect::<Vec<_>>(), [Some(502)]);
    let checks = [("alb.ingress.kubernetes.io/healthcheck-port", "9")];
    let open =
        ran(&Case { balancer: "{ profile: aws-alb }", annotations: &checks, duration: "60s", ..Case::default() });
    assert_eq!(lost(&open), BTreeMap::new());
    assert!(open.log.events().iter().any(|event| event.kind == "target_unhealthy"));
}

fn only_last(outcome: &Outcome, kind: &str) -> f64 {
    moments(outcome, kind).into_iter().max_by(f64::total_cmp).expect("it happens")
}

#[test]
fn a_dead_node_is_passed_over_by_a_clb_and_waited_for_by_an_alb() {
    // Nobody answers on that node, and nothing is checked: a CLB asks the next after 5 s, an ALB answers 504 after 10.
    let timeline = "{ at: 5s, killNode: { node: edge-1 } }";
    let case = Case { timeline, rate: "8/s", clients: "connections: 400", duration: "25s", ..Case::default() };
    let clb = ran(&case);
    // What was under way when it died is lost; what came later was answered late, and not by it.
    let slow = clb.run.requests.iter().filter(|row| row.cause.is_none() && row.latency_us > 4_900_000).count();
    assert!(lost(&clb).values().sum::<u64>() <= 1 && slow >= 30, "{:?} {slow}", lost(&clb));
    let impatient = ran(&Case { patience: "4s", ..case });
    assert!(lost(&impatient).get("GD4110").is_some_and(|count| *count >= 30), "{:?}", lost(&impatient));
    let alb = ran(&Case { balancer: "{ profile: aws-alb, healthCheck: { interval: 60s } }", annotations: &[], ..case });
    assert!(lost(&alb).get("GD4110").is_some_and(|count| *count >= 30), "{:?}", lost(&alb));
    assert!(statuses(&alb).contains_key(&Some(504)), "{:?}", statuses(&alb));
}

#[test]
fn requests_of_a_removed_target_are_cut_at_the_end_of_an_albs_delay() {
    let with = |delay: &'static str| {
        let attributes = format!("deregistration_delay.timeout_seconds={delay}");
        let annotations = [("alb.ingress.kubernetes.io/target-group-attributes", attributes.as_str())];
        ran(&Case {
            balancer: "{ profile: aws-alb, controllerLatency: 1s }",
            annotations: &annotations,
            service: "4s",
            rate: "10/s",
            clients: "connections: 200",
            pause_s: 20,
            timeline: "{ at: 5s, scale: { replicas: 3 } }",
            duration: "20s",
            ..Case::default()
        })
    };
    assert_eq!(lost(&with("5")), BTreeMap::new());
    let cut = with("2");
    // A quarter of ten a second, and of those the ones that began within the last 4 − 2 s.
    let count = lost(&cut).get("GD4104").copied().unwrap_or(0);
    assert!((4..=6).contains(&count) && lost(&cut).len() == 1, "{:?}", lost(&cut));
    assert_eq!(statuses(&cut).into_keys().collect::<Vec<_>>(), [Some(502)]);
}

#[test]
fn nodes_as_targets_are_crossed_by_the_proxy_too() {
    // Under Local the node of a pod that is gone has no other: the proxy's connection gets no answer, and it asks the next.
    let ecs = [HTTP];
    for policy in ["Cluster", "Local"] {
        let case = Case { annotations: &ecs, policy, ..Case::default() };
        let outcome = ran(&case);
        assert_eq!(lost(&outcome), BTreeMap::new(), "{policy}");
        assert!(outcome.run.requests.iter().all(|row| row.pod.is_some()), "{policy}: the pod is known");
    }
    let timeline = "{ at: 5s, scale: { replicas: 3 } }";
    let case = Case { annotations: &ecs, policy: "Local", timeline, clients: "connections: 400", ..Case::default() };
    let outcome = ran(&case);
    let slow = outcome.run.requests.iter().filter(|row| row.cause.is_none() && row.latency_us > 4_900_000).count();
    assert!(slow > 0, "{slow} {:?}", lost(&outcome));
}

#[test]
fn a_listener_that_changes_its_protocol_is_another_one() {
    let change = |text: &str| {
        format!(
            "{{ at: 5s, set: {{ 'Service/default/edge.metadata.annotations[{PREFIX}protocol-port]': \"{text}\" }} }}"
        )
    };
    for (from, to) in [("tcp:80,tcp:81", "http:80,http:81"), ("http:80,http:81", "tcp:80,tcp:81")] {
        let timeline = change(to);
        let annotations = [ENI, ("protocol-port", from)];
        let case = Case { annotations: &annotations, timeline: &timeline, duration: "15s", ..Case::default() };
        let outcome = ran(&case);
        let kinds = |kind: &str| outcome.log.events().iter().filter(|event| event.kind == kind).count();
        assert_eq!((kinds("lb_listener_deleted"), kinds("lb_listener_created")), (2, 2), "{from} to {to}");
        // Open connections go with the old listener: a request that was under way is lost with it, the others are sent on new ones.
        assert!(lost(&outcome).keys().all(|code| *code == "GD4117"), "{:?}", lost(&outcome));
        assert_eq!(outcome.run.results.totals.connections_opened, 16, "{from} to {to}");
    }
}

#[test]
fn a_connection_to_a_target_is_kept_if_somebody_says_so() {
    // A new one takes a round trip between two hosts of the cloud.
    let fastest = |balancer: &'static str, rate: &'static str| {
        let outcome = ran(&Case { balancer, rate, network: "networkLatency: 5ms", ..Case::default() });
        assert_eq!(lost(&outcome), BTreeMap::new());
        outcome.run.requests.iter().map(|row| row.latency_us).min().expect("some are kept")
    };
    let usual = fastest("{ controller: each }", "40/s");
    let kept = fastest("{ controller: each, targetKeepAlive: 3s }", "40/s");
    assert!((usual - kept).abs_diff(10_000) <= 500, "{usual} {kept}");
    // Four targets are asked every second, each every fourth: too late for a connection that is kept for three.
    let too_late = fastest("{ controller: each, targetKeepAlive: 3s }", "1/s");
    assert!(too_late.abs_diff(usual) <= 500, "{too_late} {usual}");
}

#[test]
fn tls_ends_at_a_listener_for_https() {
    let annotations = [ENI, ("protocol-port", "https:80,http:81"), ("cert-id", "c-1"), ("xforwardedfor-proto", "on")];
    let slowest = |clients: &'static str, url: &'static str| {
        let outcome = ran(&Case { annotations: &annotations, clients, url, duration: "5s", ..Case::default() });
        assert_eq!(lost(&outcome), BTreeMap::new());
        outcome.run.requests.iter().map(|row| row.latency_us).max().expect("some are kept")
    };
    let (secure, plain) = ("https://shop.example.com:80/", "http://shop.example.com:81/");
    let added = slowest("reuse: none", secure) - slowest("reuse: none", plain);
    assert!(added.abs_diff(40_000) <= 1000, "two round trips of 20 ms: {added} us");
}

#[test]
fn a_client_that_leaves_first_has_the_cause_of_what_it_waited_for() {
    // The pod is gone, and the balancer has five seconds of patience with it; these clients have three.
    let timeline = "{ at: 5s, scale: { replicas: 3 } }";
    let case = Case { timeline, clients: "connections: 400, reuse: lru", patience: "3s", ..Case::default() };
    let outcome = ran(&case);
    let found = lost(&outcome);
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["GD4101", "GD4302"], "{found:?}");
    assert!(found["GD4302"] >= 15, "{found:?}");
    assert_eq!(statuses(&outcome).into_keys().collect::<Vec<_>>(), [None, Some(502)]);
}

#[test]
fn what_a_listener_for_http_is_not_is_told() {
    let notes = |annotations: &[(&str, &str)]| {
        let loaded = match scenario(&Case { annotations, ..Case::default() }) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}"),
        };
        let told = loaded.world.fidelity.into_iter().filter(|row| row.note.is_some());
        told.map(|row| (row.status, row.note.unwrap_or_default())).collect::<Vec<_>>()
    };
    for (annotations, status, text) in [
        (&[ENI, HTTP][..], FidelityStatus::Modelled, "checked with health-check-flag: on only"),
        (&[ENI, ("protocol-port", "http:80")], FidelityStatus::Approximated, "share the choice and the check"),
        (
            &[ENI, HTTP, ("sticky-session", "on"), ("sticky-session-type", "insert"), ("cookie-timeout", "60")],
            FidelityStatus::Warning,
            "no client keeps cookies",
        ),
        (&[ENI, ("sticky-session", "on")], FidelityStatus::Warning, "holds at listeners for HTTP only"),
        (&[ENI, ("forward-port", "80:81")], FidelityStatus::Warning, "holds at listeners for HTTP only"),
        (
            &[ENI, ("protocol-port", "http:80,https:81"), ("cert-id", "c-1"), ("forward-port", "80:81,81:80")],
            FidelityStatus::Warning,
            "`81:80` is not read: protocol-port names no http:81",
        ),
        (&[ENI, HTTP, ("established-timeout", "60")], FidelityStatus::Warning, "holds at listeners for TCP only"),
        (&[ENI, ("request-timeout", "60")], FidelityStatus::Warning, "holds at listeners for HTTP only"),
    ] {
        let found = notes(annotations);
        assert!(found.iter().any(|(kind, note)| *kind == status && note.contains(text)), "{annotations:?}: {found:?}");
    }
    let silent = notes(&[ENI, HTTP, ("address-type", "internet")]);
    assert!(silent.iter().all(|(status, _)| *status != FidelityStatus::Warning), "{silent:?}");
    // The gateway behind must speak plain HTTP where requests are sent to.
    let wrong = [ENI, ("protocol-port", "http:80,http:82")];
    assert!(notes(&wrong).iter().any(|(_, note)| note.contains("the Service has no port 82")));
}

#[test]
fn what_the_api_rejects_for_such_a_listener_is_refused_with_its_line() {
    let told = |annotations: &[(&str, &str)]| refusals(&Case { annotations, ..Case::default() });
    // The annotations begin at line 29, and the second of them is `protocol-port`.
    let sticky = ("sticky-session", "on");
    for (more, expected) in [
        (&[("scheduler", "sch")][..], "31: the API takes no `sch` for a listener for HTTP"),
        (&[("idle-timeout", "61")], "31: `61` is no number from 1 to 60"),
        (&[("request-timeout", "0")], "31: `0` is no number from 1 to 180"),
        (&[("health-check-timeout", "301")], "31: `301` is no number from 1 to 300"),
        (&[("xforwardedfor-proto", "yes")], "31: the API rejects `yes`"),
        (&[sticky], "sticky-session-type is missing"),
        (&[sticky, ("sticky-session-type", "insert")], "cookie-timeout is missing"),
        (&[sticky, ("sticky-session-type", "server")], "cookie is missing"),
        (&[sticky, ("sticky-session-type", "rewrite")], "32: the API rejects `rewrite`"),
        (&[("cookie-timeout", "0")], "31: `0` is no number from 1 to 86400"),
        (&[("cookie-timeout", "86401")], "31: `86401` is no number from 1 to 86400"),
        (&[("cookie", "$app")], "31: the API rejects `$app` as the name of a cookie"),
        (&[("cookie", "a;b")], "31: the API rejects `a;b` as the name of a cookie"),
        (&[("forward-port", "80")], "31: `80` is no pair of ports"),
        (&[("forward-port", "80:443:1")], "31: `80:443:1` is no pair of ports"),
        (&[("forward-port", "80:tls")], "31: `tls` is no port"),
        (&[("forward-port", "80:443")], "31: port 80 is led to port 443, which is no listener for HTTPS"),
        (&[("forward-port", "80:81")], "31: port 80 is led to port 81, which is no listener for HTTPS"),
    ] {
        let annotations: Vec<(&str, &str)> = [ENI, HTTP].into_iter().chain(more.iter().copied()).collect();
        let found = told(&annotations);
        assert!(found.iter().any(|it| it.contains(expected)), "{more:?}: {found:?}");
    }
    assert_eq!(told(&[ENI, HTTP, ("scheduler", "wlc")]), [""; 0]);
    // Requests are sent in plain HTTP, and the gateway's port has to be one for it; who ends TLS needs a certificate.
    let secure = told(&[ENI, ("protocol-port", "https:80,http:81")]);
    assert!(
        secure.iter().any(|it| it.contains("30: the listener of port 80 ends TLS without a certificate")),
        "{secure:?}"
    );
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let case = Case { timeline: "{ at: 2s, restart: {} }", ..Case::default() };
    let alb = Case { balancer: "{ profile: aws-alb }", annotations: &[], ..case };
    for case in [case, alb] {
        let [one, other] = [ran(&case), ran(&case)].map(|outcome| outcome.run.results.fingerprint);
        assert_eq!(one, other);
    }
}
