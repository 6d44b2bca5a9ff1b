//! Whole drills of balancers: limits, silence, stickiness, and what annotations say.
//!
//! Goal: each rule of CLB and NLB decides what becomes of connections, on both sides of its threshold, and what is odd in an annotation is told with its
//! line. Method: small scenarios from memory with constant arrivals, so that a count says exactly what happened.

use std::collections::{BTreeMap, BTreeSet};

use crate::scenarios::loaded;
use crate::shop::{self, annotated_edge, annotation_lines, scenario_head, shop_of_edge};
use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::manifest::Problems;
use gatedrill::manifest::service::annotations::{Effect, ROWS, Values};
use gatedrill::record::results::FidelityStatus;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("balancers", "  duration: 30s\n  seed: 5\n  target: default/edge\n"),
    r#"  cluster:
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
      mix: [ { weight: 1, get: "URL" } ]
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    r#"
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
"#,
    annotated_edge!("  CLASS\n", "[ { port: 80, targetPort: 80 } ]"),
    shop_of_edge!()
);

/// The line of the first annotation.
pub(super) const LINE: u32 = 25;
const ZONES: (&str, &str) = ("zone-maps", "a:vsw-a,b:vsw-b");

/// One balancer and who comes.
pub(super) struct Case<'a> {
    pub(super) is_nlb: bool,
    pub(super) annotations: &'a [(&'a str, &'a str)],
    pub(super) rate: &'a str,
    pub(super) clients: &'a str,
    pub(super) policy: &'a str,
    pub(super) balancer: &'a str,
    pub(super) timeline: &'a str,
    pub(super) url: &'a str,
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
            url: "http://shop.example.com/",
        }
    }
}

fn scenario(case: &Case<'_>) -> Result<Scenario, Problems> {
    loaded_with(case, |text| text)
}

fn scenario_with(case: &Case<'_>, change: impl Fn(String) -> String) -> Scenario {
    match loaded_with(case, change) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems}"),
    }
}

fn loaded_with(case: &Case<'_>, change: impl Fn(String) -> String) -> Result<Scenario, Problems> {
    let zones =
        if case.is_nlb && !case.annotations.iter().any(|(name, _)| *name == ZONES.0) { Some(ZONES) } else { None };
    let lines = case.annotations.iter().copied().chain(zones);
    let manifest = MANIFEST
        .replace("ANNOTATIONS", &annotation_lines(lines))
        .replace("CLASS", if case.is_nlb { "loadBalancerClass: alibabacloud.com/nlb" } else { "" })
        .replace("POLICY", case.policy);
    let text = SCENARIO.replace("RATE", case.rate).replace("CLIENTS", case.clients);
    let text = text.replace("BALANCER", case.balancer).replace("TIMELINE", case.timeline).replace("URL", case.url);
    loaded(&change(text), &manifest, &[], None)
}

pub(super) fn ran(case: &Case<'_>) -> Outcome {
    shop::ran(scenario(case))
}

/// Lost requests by code.
pub(super) fn lost(outcome: &Outcome) -> BTreeMap<String, u64> {
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
pub(super) fn said(case: &Case<'_>) -> (Vec<String>, Vec<String>) {
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
    // 60 come in each second to the one address, and 60 may: one fewer, and some are held up from second to second until they are lost.
    let one = [("zone-maps", "a:vsw-a"), ("id", "nlb-x"), ("force-override-listeners", "true")];
    let with = |cps: &'static str| {
        let annotations: Vec<_> = [("cps", cps)].into_iter().chain(one).collect();
        ran(&Case { annotations: &annotations, ..Case { ..surge } })
    };
    let (enough, tight) = (with("60"), with("50"));
    assert_eq!(lost(&enough), BTreeMap::new());
    // In two zones the limit holds in each.
    let both = ran(&Case { annotations: &[("cps", "50")], ..Case { ..surge } });
    assert_eq!(lost(&both), BTreeMap::new());
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
                Values::Word(words) | Values::WordAnyCase(words) => {
                    for word in words {
                        assert_eq!(with(word).0, [""; 0], "{name}");
                    }
                    let (problems, _) = with("perhaps");
                    assert!(
                        problems.len() == 1 && problems[0].starts_with("25: the API rejects `perhaps`"),
                        "{name}: {problems:?}"
                    );
                }
                Values::Only(word) | Values::OnlyAnyCase(word) => {
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
                Values::Word(words) | Values::WordAnyCase(words) => words[0].to_owned(),
                Values::Only(word) | Values::OnlyAnyCase(word) => word.to_owned(),
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
    let queries = [("instance-charge-type", "PayBySpec"), ("protocol-port", "http:80")];
    let late = [("protocol-port", "http:80"), ("request-timeout", "181")];
    let reused = [("id", "lb-x"), ("vgroup-port", "vsp-1:80"), ("weight", "101")];
    let proxied = [("protocol-port", "http:80"), ("established-timeout", "60")];
    let table: [Row<'_>; 30] = [
        ("not for HTTP", clb(&proxied), "26: it holds at listeners for TCP only"),
        ("weight that counts", clb(&reused), "27: `101` is no number from 0 to 100"),
        ("weight that does not", clb(&[("weight", "many")]), "25: it counts only for a balancer that exists already"),
        ("no draining", clb(&[("connection-drain-timeout", "30")]), "25: it has no effect: connection-drain is not on"),
        ("no draining, no number", nlb(&[("connection-drain-timeout", "9")]), "25: `9` is no number from 10 to 900"),
        ("hostname of an NLB", nlb(&[("hostname", "a.example.com")]), "25: an NLB's controller does not read it"),
        ("listed by the NLB only", clb(&[("cacert-id", "c")]), "25: a CLB's controller does not read it"),
        ("V11", clb(&[("spec", "slb.s0.share")]), "25: shared-performance instances are sold no more, and take no ENI"),
        ("late", clb(&late), "26: `181` is no number from 1 to 180"),
        ("for HTTP", clb(&[("idle-timeout", "10")]), "25: it holds at listeners for HTTP only"),
        ("certificate", clb(&[("protocol-port", "https:80")]), "25: the listener of port 80 ends TLS without a certi"),
        ("protocol", clb(&[("protocol-port", "TCPSSL:80")]), "25: the controller knows no protocol `TCPSSL`"),
        ("protocol, NLB", nlb(&[("protocol-port", "https:80")]), "25: the controller knows no protocol `https`"),
        ("no such port", clb(&[("protocol-port", "tcp:81")]), "25: the Service has no port 81"),
        ("TLS", nlb(&[("protocol-port", "TCPSSL:80")]), "25: the listener of port 80 ends TLS without a certificate"),
        ("V3", nlb(&[("zone-maps", "a:vsw-a")]), "25: create nlb error: an NLB needs two zones"),
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
    let counted = said(&Case { annotations: &queries, ..Case::default() });
    assert_eq!(counted, (Vec::new(), Vec::new()));
    for (name, (problems, warnings), told) in table {
        assert!(problems.iter().chain(&warnings).any(|it| it.contains(told)), "{name}: {problems:?} {warnings:?}");
    }
}

#[test]
fn a_listener_that_ends_tls_costs_each_connection_its_handshake() {
    const TLS: [(&str, &str); 2] = [("protocol-port", "TCPSSL:80"), ("cert-id", "c-1")];
    let secure = |clients: &'static str, balancer: &'static str| {
        let url = "https://shop.example.com:80/";
        ran(&Case { is_nlb: true, annotations: &TLS, clients, balancer, url, ..Case::default() })
    };
    let new = "reuse: none, rtt: 20ms";
    let plain = ran(&Case { is_nlb: true, clients: new, ..Case::default() });
    let latencies = |outcome: &Outcome| -> Vec<u64> {
        assert_eq!(lost(outcome), BTreeMap::new());
        outcome.run.requests.iter().map(|row| row.latency_us).collect()
    };
    // Which backend is asked differs, and how far it is.
    let adds = |outcome: &Outcome, expected_us: u64| {
        let pairs = latencies(outcome).into_iter().zip(latencies(&plain));
        let added: BTreeSet<u64> = pairs.map(|(secure, plain)| secure - plain).collect();
        assert!(added.iter().all(|added| added.abs_diff(expected_us) <= 500), "{added:?}");
    };
    adds(&secure(new, "{}"), 40_000);
    adds(&secure(new, "{ tlsRoundTrips: 1 }"), 20_000);
    // A connection that is kept has had its handshake.
    let kept = secure("connections: 20, rtt: 20ms", "{}");
    let slow = latencies(&kept).into_iter().filter(|latency| *latency > 60_000).count();
    assert!(slow < 20, "{slow}");
}

#[test]
fn only_tls_is_spoken_to_a_listener_that_ends_it() {
    let problem = |is_nlb: bool, annotations: &[(&str, &str)], url: &str| {
        let (problems, _) = said(&Case { is_nlb, annotations, url, ..Case::default() });
        assert_eq!(problems.len(), 1, "{url}: {problems:?}");
        problems[0].clone()
    };
    let (secure, plain) = ("https://shop.example.com:80/", "http://shop.example.com/");
    let tls = [("protocol-port", "TCPSSL:80"), ("cert-id", "c-1")];
    assert!(problem(true, &tls, plain).contains("the listener of port 80 ends TLS, and answers nobody else"));
    assert!(problem(true, &[], secure).contains("nothing ends it on port 80"));
    assert!(problem(false, &[("protocol-port", "http:80")], secure).contains("nothing ends it on port 80"));
    let https = [("protocol-port", "https:80"), ("cert-id", "c-1")];
    assert!(problem(false, &https, plain).contains("the listener of port 80 ends TLS, and answers nobody else"));
    assert_eq!(said(&Case { annotations: &https, url: secure, ..Case::default() }).0, [""; 0]);
    assert!(problem(true, &[], "ftp://shop.example.com/").contains("is not a URL"));
    // The usual port of https is 443, which the Service has not.
    let (problems, _) = said(&Case { is_nlb: true, url: "https://shop.example.com/", ..Case::default() });
    assert!(problems.iter().any(|it| it.contains("has no port 443")), "{problems:?}");
}

#[test]
fn a_balancer_is_on_the_internet_unless_it_is_told_otherwise() {
    let told = |annotations: &[(&str, &str)]| -> Vec<Option<u32>> {
        let Ok(loaded) = scenario(&Case { annotations, ..Case::default() }) else { panic!("V2: {annotations:?}") };
        let rows = loaded.world.fidelity.iter().filter(|row| row.path.ends_with("address-type]"));
        let rows =
            rows.filter(|row| row.note.as_deref() == Some("nobody writes it, so the balancer is on the internet"));
        rows.map(|row| row.line).collect()
    };
    assert_eq!(told(&[]), [Some(LINE - 1)]);
    assert_eq!(told(&[("address-type", "intranet")]), []);
    assert_eq!(told(&[("id", "lb-known")]), [], "whoever made it has decided that");
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
pub(super) fn moments(outcome: &Outcome, kinds: &[&str]) -> Vec<u64> {
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
    let each = restarted(false, "{ controllerLatency: 2s, controller: each }");
    assert!(gaps(&each).iter().any(|gap| *gap < 2000), "{:?}", gaps(&each));
    // A reconcile's first call takes 2 s, those after it 1 s each.
    let clb = restarted(false, "{ controllerLatency: 2s, callLatency: 1s }");
    assert!(gaps(&clb).iter().all(|gap| *gap == 1000 || *gap >= 2000), "{:?}", gaps(&clb));
    // Jobs are looked at every 1.2 s: one that takes 2 s holds up the next call for 2.4 s, and that, of 1 s, what follows for 1.2 s.
    let nlb = restarted(true, "{ controllerLatency: 2s, callLatency: 1s }");
    assert!(gaps(&nlb).iter().all(|gap| *gap == 1400 || *gap >= 2200), "{:?}", gaps(&nlb));
    for outcome in [&clb, &nlb] {
        assert!(gaps(outcome).iter().any(|gap| *gap < 2000), "an addition and a removal share a reconcile");
    }
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
        let balancer = format!("{{ controllerLatency: {latency} }}");
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
fn throttled_calls_hold_up_the_controller_and_fail_at_last() {
    let scaled = |is_nlb: bool, balancer: &'static str| {
        ran(&Case { is_nlb, balancer, timeline: "{ at: 2s, scale: { replicas: 3 } }", ..Case::default() })
    };
    let removed_at = |outcome: &Outcome| moments(outcome, &["target_deregistered"]);
    let failures = |outcome: &Outcome| -> Vec<u64> {
        let failed = outcome.log.events().iter().filter(|event| event.kind == "lb_sync_failed");
        let failed: Vec<_> = failed.collect();
        let told = |event: &gatedrill::engine::Event| event.data.contains(&("reason", "throttling".into()));
        assert!(failed.iter().all(|event| told(event)), "{failed:?}");
        moments(outcome, &["lb_sync_failed"])
    };
    let never = scaled(false, "{ controllerLatency: 2s }");
    let at = removed_at(&never)[0];
    assert_eq!((removed_at(&never).len(), failures(&never)), (1, vec![]));
    // A CLB's call is made eleven times within itself, then again after 5 s; an NLB's fails at once, and waits 5 s and 10 s.
    let clb = scaled(false, "{ controllerLatency: 2s, throttled: 100% }");
    // (What happens to endpoints meanwhile brings the next try nearer.)
    assert_eq!((removed_at(&clb), failures(&clb)[0]), (vec![], at + 10_000));
    let nlb = scaled(true, "{ controllerLatency: 2s, throttled: 100% }");
    assert_eq!((removed_at(&nlb), &failures(&nlb)[..2]), (vec![], &[at, at + 7_000][..]));
    // Now and then costs whole seconds.
    let some = scaled(false, "{ controllerLatency: 2s, throttled: 80% }");
    assert_eq!((removed_at(&some).len(), failures(&some)), (1, vec![]));
    assert_eq!((removed_at(&some)[0] - at) % 1000, 0);
    let (problems, _) = said(&Case { balancer: "{ throttled: 110% }", ..Case::default() });
    assert!(problems.len() == 1 && problems[0].contains("`110%` is out of range"), "{problems:?}");
}

#[test]
fn pods_of_virtual_nodes_are_targets_beside_the_nodes() {
    let ecs = [("service.beta.kubernetes.io/backend-type", "ecs"), ("scheduler", "wrr")];
    for policy in ["Cluster", "Local"] {
        let case = Case { annotations: &ecs, policy, clients: "reuse: none", ..Case::default() };
        let scenario = scenario_with(&case, |text| {
            text.replace("{ pool: edge }", "{ type: virtual-kubelet }").replace("count: 4", "count: 2")
        });
        let outcome = run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
        assert_eq!(lost(&outcome), BTreeMap::new(), "{policy}");
        let of = |key: &str| -> BTreeSet<String> {
            let registered = outcome.log.events().iter().filter(|event| event.kind == "target_registered");
            let told = registered.flat_map(|event| &event.data).filter(|(it, _)| *it == key);
            told.map(|(_, datum)| format!("{datum:?}")).collect()
        };
        let rows = &outcome.run.results.pods;
        let with_pods: BTreeSet<&str> = rows.iter().filter_map(|pod| pod.node.as_deref()).collect();
        let instances = rows.iter().filter(|pod| pod.node.as_deref() == Some("e-1")).count();
        assert!(instances > 0, "{rows:?}");
        assert_eq!(of("pod").len(), instances, "{policy}");
        let nodes = of("node");
        assert!(!nodes.iter().any(|node| node.contains("e-1")), "{nodes:?}");
        assert_eq!(nodes.len(), if policy == "Cluster" { 2 } else { with_pods.len() - 1 }, "{nodes:?}");
        assert_eq!(serving(&outcome), 4, "{policy}");
    }
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
