//! Whole drills of balancers: limits, silence, stickiness, and what annotations say.
//!
//! Goal: each rule of CLB and NLB decides what becomes of connections, on both sides of its threshold, and what is odd in an annotation is told with its
//! line. Method: small scenarios from memory with constant arrivals, so that a count says exactly what happened.

use std::collections::{BTreeMap, BTreeSet};

use crate::scenarios::loaded;
use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::manifest::Problems;
use gatedrill::manifest::service::annotations::{Effect, ROWS, Values};
use gatedrill::record::results::FidelityStatus;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = r#"
apiVersion: gatedrill/v1
kind: Scenario
metadata: { name: balancers }
spec:
  duration: 30s
  seed: 5
  target: default/edge
  manifests: [ { path: manifests/ } ]
  cluster:
    nodes:
      - { name: m, count: 4, zones: [a, b, c], allocatable: { cpu: "4", memory: 8Gi } }
      - { name: e, count: 1, labels: { pool: edge }, allocatable: { cpu: "4", memory: 8Gi } }
    timings: { podStart: 2s, endpointPropagation: 100ms }
  loadBalancer: BALANCER
  backends: [ { service: default/web, replicas: 2, serviceTime: 5ms } ]
  load:
    - name: all
      rate: RATE
      arrivals: constant
      clients: { timeout: 3s, CLIENTS }
      mix: [ { weight: 1, get: "http://shop.example.com/" } ]
  timeline: [ TIMELINE ]
"#;

const MANIFEST: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: edge }
spec:
  replicas: 4
  selector: { matchLabels: { app: edge } }
  template:
    metadata: { labels: { app: edge } }
    spec:
      terminationGracePeriodSeconds: 60
      containers:
        - name: istio-proxy
          image: proxy
          ports: [ { containerPort: 80 } ]
          lifecycle: { preStop: { sleep: { seconds: 10 } } }
          readinessProbe: { tcpSocket: { port: 80 }, periodSeconds: 1 }
          resources: { limits: { cpu: "2" } }
---
apiVersion: v1
kind: Service
metadata:
  name: edge
  annotations:
ANNOTATIONS
spec:
  type: LoadBalancer
  CLASS
  externalTrafficPolicy: POLICY
  selector: { app: edge }
  ports: [ { port: 80, targetPort: 80 } ]
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [ { port: 80 } ] }
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: edge }
spec: { selector: { app: edge }, servers: [ { port: { number: 80, name: http, protocol: HTTP }, hosts: ["*"] } ] }
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: web }
spec: { hosts: ["*"], gateways: [edge], http: [ { route: [ { destination: { host: web } } ] } ] }
"#;

const PREFIX: &str = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-";
/// The line of the first annotation.
const LINE: u32 = 25;
const ZONES: (&str, &str) = ("zone-maps", "a:vsw-a,b:vsw-b");

/// One balancer and who comes.
struct Case<'a> {
    is_nlb: bool,
    annotations: &'a [(&'a str, &'a str)],
    rate: &'a str,
    clients: &'a str,
    policy: &'a str,
    balancer: &'a str,
    timeline: &'a str,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            is_nlb: false,
            annotations: &[],
            rate: "20/s",
            clients: "connections: 20",
            policy: "Cluster",
            balancer: "{}",
            timeline: "",
        }
    }
}

fn scenario(case: &Case<'_>) -> Result<Scenario, Problems> {
    let zones =
        if case.is_nlb && !case.annotations.iter().any(|(name, _)| *name == ZONES.0) { Some(ZONES) } else { None };
    let lines = case.annotations.iter().copied().chain(zones);
    // A name with a slash is whole already.
    let name = |name: &str| if name.contains('/') { name.to_owned() } else { format!("{PREFIX}{name}") };
    let mut annotations: Vec<String> = lines.map(|(key, text)| format!("    {}: \"{text}\"", name(key))).collect();
    annotations.push("    example.com/other: x".to_owned());
    let manifest = MANIFEST
        .replace("ANNOTATIONS", &annotations.join("\n"))
        .replace("CLASS", if case.is_nlb { "loadBalancerClass: alibabacloud.com/nlb" } else { "" })
        .replace("POLICY", case.policy);
    let text = SCENARIO.replace("RATE", case.rate).replace("CLIENTS", case.clients);
    let text = text.replace("BALANCER", case.balancer).replace("TIMELINE", case.timeline);
    loaded(&text, &manifest, &[], None)
}

fn ran(case: &Case<'_>) -> Outcome {
    let loaded = match scenario(case) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}"),
    };
    run(loaded.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance")
}

/// Lost requests by code.
fn lost(outcome: &Outcome) -> BTreeMap<String, u64> {
    let totals = &outcome.run.results.totals;
    let causes = &outcome.run.results.causes;
    assert_eq!(totals.dropped, causes.iter().map(|row| row.count).sum::<u64>(), "each loss has one cause");
    causes.iter().map(|row| (row.code.clone(), row.count)).collect()
}

fn lost_of(outcome: &Outcome, code: &str) -> u64 {
    lost(outcome).get(code).copied().unwrap_or(0)
}

/// How many pods have served.
fn serving(outcome: &Outcome) -> usize {
    let pods: BTreeSet<_> = outcome.run.requests.iter().filter_map(|row| row.pod.clone()).collect();
    pods.len()
}

/// What the reader says of a scenario: its problems, or its warnings.
fn said(case: &Case<'_>) -> (Vec<String>, Vec<String>) {
    match scenario(case) {
        Err(problems) => {
            let line = |place| problems.files.position(place).map_or(0, |(_, line, _)| line);
            let told = problems.list.iter();
            (
                told.map(|it| format!("{}: {} | {}", line(it.place), it.text, it.help.clone().unwrap_or_default()))
                    .collect(),
                Vec::new(),
            )
        }
        Ok(loaded) => {
            let warnings = loaded.world.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
            let told =
                warnings.map(|row| format!("{}: {}", row.line.unwrap_or(0), row.note.clone().unwrap_or_default()));
            (Vec::new(), told.collect())
        }
    }
}

#[test]
fn a_listeners_limit_holds_for_each_second() {
    let surge = Case { is_nlb: true, rate: "60/s", clients: "reuse: none", ..Case::default() };
    // 60 come in each second, and 60 may: one fewer, and some are held up from second to second until they are lost.
    let with = |cps: &'static str| ran(&Case { annotations: &[("cps", cps)], ..Case { ..surge } });
    let (enough, tight) = (with("60"), with("50"));
    assert_eq!(lost(&enough), BTreeMap::new());
    let dropped = lost_of(&tight, "GD4125");
    assert_eq!(tight.run.results.totals.dropped, dropped);
    let most = 50 * 33;
    assert!(tight.run.results.totals.ok <= most && dropped > 0, "{:?}", tight.run.results.totals);
    let source = tight.run.results.causes[0].source.as_ref().expect("its annotation");
    assert_eq!((source.value.as_deref(), source.line), (Some("50"), Some(LINE)), "{source:?}");
}

#[test]
fn a_specification_counts_only_where_it_is_paid_for() {
    let flood = |annotations: &'static [(&'static str, &'static str)]| {
        // Two seconds of it.
        let rate = "[ { for: 2s, at: 3500/s }, { for: 28s, at: 0/s } ]";
        ran(&Case { annotations, rate, clients: "reuse: none", ..Case::default() })
    };
    let by_usage = flood(&[("spec", "slb.s1.small")]);
    assert_eq!(lost(&by_usage), BTreeMap::new());
    let by_spec = flood(&[("spec", "slb.s1.small"), ("instance-charge-type", "PayBySpec")]);
    // Their SYNs are sent again a second later, when others come; after three seconds they give up.
    let dropped = lost_of(&by_spec, "GD4125");
    assert!(dropped > 0 && dropped == by_spec.run.results.totals.dropped, "{:?}", lost(&by_spec));
    let late = |outcome: &Outcome| outcome.run.results.latency_us.p99.expect("requests were served");
    assert!(late(&by_usage) < 1_000_000 && late(&by_spec) > 1_000_000, "{} {}", late(&by_usage), late(&by_spec));
    let told = moments(&by_spec, &["lb_limit_reached"]).len();
    assert!((2..=4).contains(&told), "once a second, not {told} times");
}

#[test]
fn silent_connections_are_reset_by_a_clb_and_forgotten_by_an_nlb() {
    // Ten connections in turn at one request a second: each is silent for 10 s.
    let clients = "connections: 10, reuse: lru, detectIdleClose: false";
    let idle = |is_nlb: bool, timeout: &'static str| {
        let suffix = if is_nlb { "idle-timeout" } else { "established-timeout" };
        ran(&Case { is_nlb, annotations: &[(suffix, timeout)], rate: "1/s", clients, ..Case::default() })
    };
    for is_nlb in [false, true] {
        let timeout = if is_nlb { "9" } else { "10" };
        let (short, long) = (idle(is_nlb, timeout), idle(is_nlb, "11"));
        assert_eq!(lost(&long), BTreeMap::new());
        if is_nlb {
            // The first ten open connections; each second request on one finds it forgotten, and the next opens another.
            assert_eq!(lost(&short), BTreeMap::from([("GD4304".to_owned(), 10)]));
        }
        let ended = short.log.events().iter().filter(|event| event.kind == "connection_idle").count();
        assert!(ended > 0, "{} {timeout}", if is_nlb { "NLB" } else { "CLB" });
    }
}

#[test]
fn a_client_that_sticks_has_one_pod() {
    let pods = |annotations: &'static [(&'static str, &'static str)]| {
        let outcome = ran(&Case { annotations, clients: "reuse: none", ..Case::default() });
        assert_eq!(lost(&outcome), BTreeMap::new());
        serving(&outcome)
    };
    assert_eq!(pods(&[]), 4);
    assert_eq!(pods(&[("persistence-timeout", "60")]), 1);
    assert_eq!(pods(&[("scheduler", "sch")]), 1);
    assert_eq!(pods(&[("scheduler", "tch")]), 4);
    // Of equals the first: as long as no connection is open when the next comes, that is all.
    assert_eq!(pods(&[("scheduler", "wlc")]), 1);
    let kept = Case { clients: "connections: 20, reuse: lru", annotations: &[("scheduler", "wlc")], ..Case::default() };
    assert_eq!(serving(&ran(&kept)), 4);
}

#[test]
fn every_annotation_is_judged_by_its_row() {
    for row in ROWS {
        for is_nlb in [true, false].into_iter().filter(|is_nlb| row.is_of(*is_nlb)) {
            let with = |text: &str| {
                let pair = [(row.suffix, text), ("health-check-flag", "on")];
                let count = if row.suffix.starts_with("health") || row.suffix == "unhealthy-threshold" { 2 } else { 1 };
                let count = if row.suffix == "health-check-flag" { 1 } else { count };
                said(&Case { is_nlb, annotations: &pair[..count], ..Case::default() })
            };
            let name = format!("{} of {}", row.suffix, if is_nlb { "an NLB" } else { "a CLB" });
            match row.values {
                Values::Any => {}
                Values::Number(least, most) => {
                    for fine in [least, most] {
                        assert_eq!(with(&fine.to_string()).0, [""; 0], "{name}");
                    }
                    for wrong in [most.saturating_add(1).to_string(), "many".to_owned(), "-1".to_owned()] {
                        let (problems, _) = with(&wrong);
                        assert_eq!(problems.len(), 1, "{name}: {problems:?}");
                        assert!(
                            problems[0].starts_with("25: ") && problems[0].contains(&wrong),
                            "{name}: {problems:?}"
                        );
                    }
                }
                Values::Word(words) => {
                    for word in words {
                        assert_eq!(with(word).0, [""; 0], "{name}");
                    }
                    let (problems, _) = with("perhaps");
                    assert!(
                        problems.len() == 1 && problems[0].starts_with("25: the API rejects `perhaps`"),
                        "{name}: {problems:?}"
                    );
                }
                Values::Only(word) => {
                    let (problems, warnings) = with(word);
                    assert!(problems.is_empty() && !warnings.iter().any(|it| it.contains("parsed as off")), "{name}");
                    let (problems, warnings) = with("perhaps");
                    assert!(
                        problems.is_empty()
                            && warnings.iter().any(|it| it.starts_with("25: `perhaps` is parsed as off")),
                        "{name}: {warnings:?}"
                    );
                }
            }
            let fine = match row.values {
                Values::Any => continue,
                Values::Number(least, _) => least.to_string(),
                Values::Word(words) => words[0].to_owned(),
                Values::Only(word) => word.to_owned(),
            };
            let loaded = scenario(&Case { is_nlb, annotations: &[(row.suffix, &fine)], ..Case::default() });
            let Ok(loaded) = loaded else { panic!("{name}") };
            let of_it =
                |status| loaded.world.fidelity.iter().any(|fact| fact.line == Some(LINE) && fact.status == status);
            match row.effect {
                Effect::Modelled => assert!(of_it(FidelityStatus::Modelled), "{name}"),
                Effect::Approximated(_) => assert!(of_it(FidelityStatus::Approximated), "{name}"),
                Effect::Ignored(_) => assert!(of_it(FidelityStatus::Ignored), "{name}"),
                Effect::None => assert!(!loaded.world.fidelity.iter().any(|fact| fact.line == Some(LINE)), "{name}"),
            }
        }
    }
}

#[test]
fn odd_settings_are_told_with_their_line() {
    let eni = ("service.beta.kubernetes.io/backend-type", "eni");
    let ecs = ("service.beta.kubernetes.io/backend-type", "ecs");
    let clb = |annotations| said(&Case { annotations, ..Case::default() });
    let nlb = |annotations| said(&Case { annotations, is_nlb: true, ..Case::default() });
    let local = |annotations| said(&Case { annotations, policy: "Local", ..Case::default() });
    /// What it is about, the problems and warnings, and what one of them begins with.
    type Row<'a> = (&'a str, (Vec<String>, Vec<String>), &'a str);
    let table: [Row<'_>; 15] = [
        ("V3", nlb(&[("zone-maps", "a:vsw-a")]), "25: an NLB needs two zones"),
        ("V4, NLB", nlb(&[("spec", "slb.s1.small")]), "25: an NLB's controller does not read it"),
        ("V4, by usage", clb(&[("spec", "slb.s1.small")]), "25: the instance is paid by usage"),
        ("spec", clb(&[("spec", "slb.s9.huge")]), "25: `slb.s9.huge` is no specification"),
        ("V9", local(&[eni]), "the balancer's targets are pods"),
        ("V10", local(&[ecs]), "the scheduler rr does not heed"),
        (
            "V16",
            clb(&[("health-check-connect-timeout", "3"), ("health-check-interval", "5")]),
            "25: it is below the interval",
        ),
        ("V18", clb(&[("weight", "50")]), "25: it counts only for a balancer that exists already"),
        (
            "misspelt",
            clb(&[("persistance-timeout", "50")]),
            "25: no controller reads such an annotation; did you mean `persistence-timeout`?",
        ),
        ("another's", clb(&[("cps", "50")]), "25: a CLB's controller does not read it"),
        ("unread", nlb(&[("health-check-interval", "5")]), "25: it is not read: health-check-flag is not on"),
        ("gentle, rr", clb(&[("graceful-shutdown", "true")]), "25: the scheduler rr does not heed weight 0"),
        (
            "gentle, nodes",
            clb(&[("graceful-shutdown", "true"), ecs]),
            "25: it has no effect: the balancer's targets are not pods",
        ),
        (
            "gentle, kept weights",
            nlb(&[("graceful-shutdown", "true"), ("ignore-weight-update", "on")]),
            "25: ignore-weight-update switches it off",
        ),
        ("legacy", clb(&[("service.beta.kubernetes.io/alicloud-loadbalancer-weight", "50")]), "25: it counts only"),
    ];
    for (name, (problems, warnings), told) in table {
        assert!(problems.iter().chain(&warnings).any(|it| it.contains(told)), "{name}: {problems:?} {warnings:?}");
    }
}

#[test]
fn the_newer_spelling_is_looked_up_first() {
    let legacy = ("service.beta.kubernetes.io/alicloud-loadbalancer-persistence-timeout", "0");
    let pods = |annotations: &[(&str, &str)]| {
        let outcome = ran(&Case { annotations, clients: "reuse: none", ..Case::default() });
        serving(&outcome)
    };
    assert_eq!(pods(&[legacy]), 4);
    assert_eq!(pods(&[legacy, ("persistence-timeout", "60")]), 1);
    let (problems, _) = said(&Case { annotations: &[(legacy.0, "x")], ..Case::default() });
    assert!(problems.len() == 1 && problems[0].starts_with("25: `x` is no number"), "{problems:?}");
}

/// When something happened, in milliseconds, each moment once.
fn moments(outcome: &Outcome, kinds: &[&str]) -> Vec<u64> {
    let events = outcome.log.events().iter().filter(|event| kinds.contains(&event.kind) && event.at.as_nanos() > 0);
    let mut moments: Vec<u64> = events.map(|event| event.at.as_nanos() / 1_000_000).collect();
    moments.dedup();
    moments
}

#[test]
fn a_controller_in_batches_makes_one_call_after_the_other() {
    let restarted = |is_nlb: bool, balancer: &'static str| {
        ran(&Case { is_nlb, balancer, timeline: "{ at: 2s, restart: {} }", ..Case::default() })
    };
    let gaps = |outcome: &Outcome| -> Vec<u64> {
        let moments = moments(outcome, &["target_registered", "target_deregistered"]);
        assert!(moments.len() > 2, "{moments:?}");
        moments.windows(2).map(|pair| pair[1] - pair[0]).collect()
    };
    let each = restarted(false, "{ controllerLatency: 2s }");
    assert!(gaps(&each).iter().any(|gap| *gap < 2000), "{:?}", gaps(&each));
    let clb = restarted(false, "{ controllerLatency: 2s, controller: batches }");
    assert!(gaps(&clb).iter().all(|gap| *gap >= 2000), "{:?}", gaps(&clb));
    // Jobs are looked at every 1.2 s: one that takes 2 s holds up the next call for 2.4 s.
    let nlb = restarted(true, "{ controllerLatency: 2s, controller: batches }");
    assert!(gaps(&nlb).iter().all(|gap| *gap >= 2400), "{:?}", gaps(&nlb));
    for outcome in [&each, &clb, &nlb] {
        let count = |kind: &str| outcome.log.events().iter().filter(|event| event.kind == kind).count();
        assert_eq!(
            count("target_registered"),
            count("target_deregistered") + 4,
            "each old pod is replaced by a new one"
        );
    }
}

#[test]
fn a_job_that_takes_too_long_is_given_up_and_tried_again() {
    let slow = |latency: &str| {
        let balancer = format!("{{ controllerLatency: {latency}, controller: batches }}");
        let case = Case {
            is_nlb: true,
            balancer: &balancer,
            timeline: "{ at: 2s, scale: { replicas: 3 } }",
            ..Case::default()
        };
        let loaded = match scenario(&Case { rate: "10/s", ..case }) {
            Ok(loaded) => loaded,
            Err(problems) => panic!("{problems}"),
        };
        let mut world = loaded.world;
        world.duration = std::time::Duration::from_secs(90);
        run(world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance")
    };
    let (within, over) = (slow("29s"), slow("31s"));
    assert_eq!(moments(&within, &["lb_sync_failed"]), [0_u64; 0]);
    assert_eq!(moments(&within, &["target_deregistered"]).len(), 1);
    let failed = moments(&over, &["lb_sync_failed"]);
    assert!((32_000..33_000).contains(&failed[0]), "{failed:?}");
    // The job goes on without it.
    let removed = moments(&over, &["target_deregistered"]);
    assert!(removed.len() == 1 && (33_000..34_000).contains(&removed[0]), "{removed:?}");
}

#[test]
fn a_pod_that_still_serves_stays_with_weight_0_if_it_is_asked_to() {
    let scaled = |annotations: &'static [(&'static str, &'static str)]| {
        let (balancer, timeline) = ("{ controllerLatency: 1s }", "{ at: 2s, scale: { replicas: 3 } }");
        ran(&Case { is_nlb: true, annotations, balancer, timeline, clients: "reuse: none", ..Case::default() })
    };
    let gone_at = |outcome: &Outcome| {
        let pod = outcome.run.results.pods.iter().find_map(|pod| Some((pod.terminating_ms?, pod.exited_ms?)));
        let (terminating_ms, exited_ms) = pod.expect("a pod went");
        (moments(outcome, &["target_deregistered"])[0], terminating_ms, exited_ms)
    };
    let (removed_ms, terminating_ms, exited_ms) = gone_at(&scaled(&[]));
    assert!(removed_ms < terminating_ms + 2000 && removed_ms < exited_ms, "{removed_ms} {terminating_ms} {exited_ms}");
    let gentle = scaled(&[("graceful-shutdown", "true")]);
    let (removed_ms, _, exited_ms) = gone_at(&gentle);
    assert!(removed_ms > exited_ms, "{removed_ms} {exited_ms}");
    assert_eq!(lost(&gentle), BTreeMap::new());
}

#[test]
fn nodes_are_targets_by_their_labels() {
    let targets = |annotations: &[(&str, &str)]| {
        let ecs = [("service.beta.kubernetes.io/backend-type", "ecs")];
        let annotations: Vec<_> = annotations.iter().copied().chain(ecs).collect();
        let outcome = ran(&Case { annotations: &annotations, ..Case::default() });
        assert_eq!(lost(&outcome), BTreeMap::new());
        outcome.log.events().iter().filter(|event| event.kind == "target_registered").count()
    };
    assert_eq!(targets(&[]), 5);
    assert_eq!(targets(&[("backend-label", "pool=edge")]), 1);
    let (problems, _) = said(&Case { annotations: &[("backend-label", "edge")], ..Case::default() });
    assert!(problems.len() == 1 && problems[0].starts_with("25: `edge` is no label"), "{problems:?}");
}

/// A zone fails from the 10th second to the 20th, under connections of one request each.
fn failed_zone(annotations: &[(&str, &str)], dns: &str, nodes: bool) -> Outcome {
    let timeline = format!("{{ at: 10s, failZone: {{ zone: a, for: 10s, nodes: {nodes} }} }}");
    let balancer = format!("{{ dns: {dns} }}");
    let case = Case { is_nlb: true, annotations, clients: "reuse: none", ..Case::default() };
    ran(&Case { balancer: &balancer, timeline: &timeline, ..case })
}

/// Lost requests that were due within these seconds.
fn lost_within(outcome: &Outcome, from: f64, to: f64) -> usize {
    let rows = outcome.run.requests.iter().filter(|row| row.cause.is_some());
    rows.filter(|row| (from..to).contains(&row.t_intended_s)).count()
}

#[test]
fn clients_leave_the_address_of_a_dead_zone_as_they_hear_of_it() {
    // At once, 5 s after the failure; and back 5 s after its end.
    let outcome = failed_zone(&[], "{ probing: 5s, ttl: 0s }", false);
    let dropped = lost_of(&outcome, "GD4126");
    assert_eq!(outcome.run.results.totals.dropped, dropped, "{:?}", lost(&outcome));
    assert!((35..66).contains(&dropped), "half of 100, not {dropped}");
    assert_eq!(lost_within(&outcome, 15.0, 30.0), 0);
    // With answers of up to 10 s of age there are more.
    let cached = failed_zone(&[], "{ probing: 5s, ttl: 10s }", false);
    assert!(lost_of(&cached, "GD4126") > dropped);
    let source = cached.run.results.causes[0].source.as_ref().expect("its annotation");
    assert_eq!(source.value.as_deref(), Some(ZONES.1));
}

#[test]
fn an_address_sends_to_its_own_zone_if_it_may_not_cross() {
    // The zones of the scenario's nodes are a, b, c: four of them in turn, so that pods are on a, b, c, a.
    let pods = |annotations: &[(&str, &str)]| {
        let outcome = ran(&Case { is_nlb: true, annotations, clients: "reuse: none", ..Case::default() });
        assert_eq!(lost(&outcome), BTreeMap::new());
        serving(&outcome)
    };
    assert_eq!(pods(&[]), 4);
    assert!(pods(&[("cross-zone-enabled", "off")]) < 4, "those in zone c get nothing");
    let elsewhere = [("cross-zone-enabled", "off"), ("zone-maps", "x:vsw-x,y:vsw-y")];
    let (problems, _) = said(&Case { is_nlb: true, annotations: &elsewhere, ..Case::default() });
    assert!(problems.iter().any(|it| it.contains("no node is in one of these zones")), "{problems:?}");
    let (problems, _) = said(&Case { timeline: "{ at: 5s, failZone: { zone: z } }", ..Case::default() });
    assert!(problems.len() == 1 && problems[0].contains("no zone is called `z`"), "{problems:?}");
}
