//! Whole drills in which manifests are edited while the drill runs: ports and listeners, the balancer's settings, what only a restart brings.
//!
//! Goal: each edit has the effect that its controllers give it, when they give it, and nothing restarts that would not; what is lost has a cause whose line is the
//! edit's. Method: small scenarios from memory, run to their end; each figure has its other side.

mod applied;
mod backends;
mod checks;
mod deployments;
mod every_field;
mod front;
mod parting;
mod routes;
mod settings;
mod targets;
mod types;
mod zones;

use crate::scenarios::loaded;
use crate::shop::{count, ran, scenario_head, shop_of_istio_edge};
use gatedrill::drill::Outcome;
use gatedrill::record::results::{FidelityStatus, Results};

const SCENARIO: &str = concat!(
    scenario_head!("edits", "  duration: 60s\n  seed: 3\n"),
    r#"  TARGET
  cluster:
    KNOBS
    nodes: [ { name: pool, count: 2, zones: [a, b] } ]
    timings: { podStart: 3s, endpointPropagation: 500ms, configPropagation: 200ms }
  loadBalancer: { controllerLatency: 4s BALANCER }
  backends: BACKENDS
  load:
    - { name: first, rate: 50/s, arrivals: constant, clients: { CLIENTS timeout: 2s }, mix: [ { get: "http://shop.example.com/" } ] }
    - { name: second, rate: SECOND, arrivals: constant, clients: { CLIENTS timeout: 2s }, mix: [ { get: "http://shop.example.com:8080/" } ] }
  timeline:
TIMELINE
"#
);

const MANIFEST: &str = concat!(
    r#"apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata: { name: edge, namespace: istio-system }
spec:
  gatewayType: ingress
  clusterIds: [c-1]
  replicaCount: 2
  SERVICE
  ports: [ { name: http, port: 80, targetPort: 80 }, { name: alt, port: 8080, targetPort: 8080 } ]
"#,
    shop_of_istio_edge!(with "    - { port: { number: 8080, name: alt, protocol: HTTP }, hosts: [\"shop.example.com\"] }\n")
);

const PREFIX: &str = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer";

/// A drill: the type and annotations of the Service in front, how clients behave, settings of the cluster, the timeline.
#[derive(Clone)]
struct Drill {
    /// `SERVICE` in it is replaced.
    manifest: &'static str,
    service: String,
    clients: &'static str,
    /// The rate of the second load.
    second: &'static str,
    knobs: &'static str,
    /// Of the balancer.
    balancer: &'static str,
    /// The gateway's Deployment, if it has to be named.
    target: &'static str,
    backends: &'static str,
    /// Further documents.
    more: String,
    timeline: Vec<String>,
}

impl Drill {
    fn new(timeline: &[&str]) -> Self {
        let timeline = timeline.iter().map(|entry| (*entry).to_owned()).collect();
        Self {
            manifest: MANIFEST,
            service: "serviceType: LoadBalancer".to_owned(),
            clients: "reuse: none,",
            second: "50/s",
            knobs: "",
            balancer: "",
            target: "",
            backends: "[ { service: default/web, serviceTime: 5ms } ]",
            more: String::new(),
            timeline,
        }
    }

    fn annotated(timeline: &[&str], annotations: &[(&str, &str)]) -> Self {
        let mut drill = Self::new(timeline);
        let rows: Vec<String> =
            annotations.iter().map(|(name, value)| format!("{PREFIX}-{name}: \"{value}\"")).collect();
        drill.service.push_str(&format!("\n  serviceAnnotations: {{ {} }}", rows.join(", ")));
        drill
    }

    fn text(&self) -> String {
        let timeline: Vec<String> = self.timeline.iter().map(|entry| format!("    - {entry}")).collect();
        let text =
            SCENARIO.replace("CLIENTS", self.clients).replace("KNOBS", self.knobs).replace("SECOND", self.second);
        let text =
            text.replace("BACKENDS", self.backends).replace("BALANCER", self.balancer).replace("TARGET", self.target);
        text.replace("TIMELINE", &timeline.join("\n"))
    }

    fn load(&self) -> Result<gatedrill::scenario::Scenario, String> {
        let manifest = self.manifest.replace("SERVICE", &self.service) + &self.more;
        loaded(&self.text(), &manifest, &[], None).map_err(|problems| problems.to_string())
    }

    fn run(&self) -> Outcome {
        let outcome = ran(self.load());
        let totals = &outcome.run.results.totals;
        assert_eq!(totals.sent, totals.ok + totals.backend_error + totals.dropped);
        outcome
    }

    /// The line of the scenario in which the text stands.
    fn line(&self, text: &str) -> u32 {
        let line = self.text().lines().position(|line| line.contains(text)).expect("it is written");
        u32::try_from(line).expect("a short file") + 1
    }
}

fn causes(results: &Results) -> Vec<(&str, u64)> {
    results.causes.iter().map(|cause| (cause.code.as_str(), cause.count)).collect()
}

/// What was lost, by cause, is this many for each, give or take.
#[track_caller]
fn check_lost(outcome: &Outcome, expected: &[(&str, u64)], slack: u64) {
    let found = causes(&outcome.run.results);
    let mut codes: Vec<&str> = found.iter().map(|(code, _)| *code).collect();
    codes.dedup();
    let lost_to = |code: &str| found.iter().filter(|(its, _)| *its == code).map(|(_, lost)| lost).sum::<u64>();
    let fits = codes.len() == expected.len()
        && expected.iter().all(|(code, count)| codes.contains(code) && lost_to(code).abs_diff(*count) <= slack);
    assert!(fits, "{found:?}, not {expected:?}");
}

/// Nothing was restarted, and nothing rolled.
#[track_caller]
fn check_quiet(outcome: &Outcome) {
    let results = &outcome.run.results;
    assert_eq!(results.pods.len(), 2, "no pod came or went");
    assert!(results.rollouts.is_empty() && results.pods.iter().all(|pod| pod.restarts == 0));
}

/// When an event of a kind was first told, in milliseconds from the start.
fn first_ms(outcome: &Outcome, kind: &str) -> u64 {
    let event = outcome.log.events().iter().find(|event| event.kind == kind);
    event.unwrap_or_else(|| panic!("no {kind}")).at.as_nanos() / 1_000_000
}

/// The Gateway with servers of these ports, as an entry of the timeline.
fn servers(at: &str, ports: &[u16]) -> String {
    let one = |port: &u16| {
        format!("{{ port: {{ number: {port}, name: p{port}, protocol: HTTP }}, hosts: [shop.example.com] }}")
    };
    let all: Vec<String> = ports.iter().map(one).collect();
    format!(
        "{{ at: {at}, apply: {{ inline: {{ apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {{ name: shop, namespace: istio-system }}, \
         spec: {{ selector: {{ istio: edge }}, servers: [ {} ] }} }} }} }}",
        all.join(", ")
    )
}

/// The gateway's ports, each with what its pods listen on.
fn ports(at: &str, ports: &[(u16, u16)]) -> String {
    let all: Vec<String> =
        ports.iter().map(|(port, target)| format!("{{ name: p{port}, port: {port}, targetPort: {target} }}")).collect();
    format!("{{ at: {at}, set: {{ \"IstioGateway/istio-system/edge.spec.ports\": [ {} ] }} }}", all.join(", "))
}

/// An annotation of the gateway's Service gets this value.
fn annotate(at: &str, name: &str, value: &str) -> String {
    let path = format!("IstioGateway/istio-system/edge.spec.serviceAnnotations[{PREFIX}-{name}]");
    format!("{{ at: {at}, set: {{ \"{path}\": \"{value}\" }} }}")
}

#[test]
fn a_listener_that_the_gateway_loses_is_refused_by_its_pods() {
    let drill = Drill::new(&[&servers("20s", &[80])]);
    let outcome = drill.run();
    // From 200 ms after the edit, 50/s, to the end.
    check_lost(&outcome, &[("GD4118", 1990)], 1);
    check_quiet(&outcome);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!(source.line, Some(drill.line("at: 20s")));
    assert_eq!(count(&outcome, "listener_removed"), 2, "one for each pod");
    assert_eq!(first_ms(&outcome, "listener_removed"), 20_200);
}

#[test]
fn a_listener_that_comes_back_serves_again() {
    let drill = Drill::new(&[&servers("20s", &[80]), &servers("40s", &[80, 8080])]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4118", 1000)], 1);
    check_quiet(&outcome);
    assert_eq!(count(&outcome, "listener_added"), 2);
}

#[test]
fn connections_of_a_listener_that_goes_are_drained() {
    let lost = |clients: &'static str| {
        let mut drill = Drill::new(&[&servers("20s", &[80]), &servers("21s", &[80, 8080])]);
        drill.clients = clients;
        drill.run().run.results.totals.dropped
    };
    // Who leaves when told meets a closed port for the second that it is closed; who does not is served where it is.
    let (leaves, stays) = (lost("connections: 4,"), lost("connections: 4, honorConnectionClose: false,"));
    assert!(leaves > 0 && leaves <= 51, "{leaves}");
    assert!(stays < leaves, "{stays} lost by those who stay, {leaves} by those who leave");
}

#[test]
fn a_port_that_the_service_loses_goes_at_the_balancer_when_its_controller_comes_to_it() {
    let drill = Drill::new(&[&ports("20s", &[(80, 80)])]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4117", 50 * 36)], 1);
    check_quiet(&outcome);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!((source.line, source.path.as_str()), (Some(drill.line("at: 20s")), "spec.ports"));
    assert_eq!(first_ms(&outcome, "lb_listener_deleted"), 24_000);
    // Kept connections through it are reset, and opening another is refused.
    let mut kept = drill.clone();
    kept.clients = "connections: 4,";
    check_lost(&kept.run(), &[("GD4117", 50 * 36)], 1);
}

#[test]
fn a_port_that_comes_serves_from_when_all_know_it() {
    // The listener of the gateway is there after 200 ms, that of the balancer after 4 s.
    let drill = Drill::new(&[&ports("10s", &[(80, 80)]), &ports("30s", &[(80, 80), (8080, 8080)])]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4117", 50 * 20)], 1);
    check_quiet(&outcome);
    assert_eq!(first_ms(&outcome, "lb_listener_created"), 34_000);
}

#[test]
fn within_the_cluster_a_port_that_is_gone_hangs_or_is_refused_by_the_proxys_mode() {
    for (knobs, is_refused) in
        [("", false), ("kubeProxy: { mode: ipvs },", true), ("kubeProxy: { mode: nftables },", true)]
    {
        let mut drill = Drill::new(&[&ports("20s", &[(80, 80)])]);
        (drill.service, drill.clients, drill.knobs) =
            ("serviceType: ClusterIP".to_owned(), "location: cluster, reuse: none,", knobs.trim_end_matches(','));
        let outcome = drill.run();
        // Each node has heard of it after 500 ms.
        check_lost(&outcome, &[("GD4117", 1975)], 1);
        check_quiet(&outcome);
        let totals = &outcome.run.results.totals;
        let (refused, hung) = if is_refused { (totals.dropped, 0) } else { (0, totals.dropped) };
        assert_eq!((totals.refused, totals.connect_timeout), (refused, hung), "{knobs}");
    }
}

#[test]
fn node_ports_follow_and_those_that_stay_keep_their_numbers() {
    let mut drill = Drill::new(&[&ports("20s", &[(8080, 8080)])]);
    (drill.service, drill.clients) = ("serviceType: NodePort".to_owned(), "reuse: none,");
    let outcome = drill.run();
    // The first port is gone at all nodes, the second is where it was.
    check_lost(&outcome, &[("GD4117", 1975)], 1);
    assert_eq!(outcome.run.results.totals.refused, outcome.run.results.totals.dropped);
    check_quiet(&outcome);
}

#[test]
fn clients_ask_for_ports_that_there_are_at_some_time() {
    let without = Drill::new(&["{ at: 20s, restart: {} }"]);
    let manifest =
        MANIFEST.replace("SERVICE", &without.service).replace("{ name: alt, port: 8080, targetPort: 8080 }", "");
    let told = loaded(&without.text(), &manifest, &[], None).expect_err("nobody has that port").to_string();
    assert!(told.contains("the Service in front has no port 8080"), "{told}");
    let later = Drill::new(&[&ports("20s", &[(80, 80), (8080, 8080)])]);
    let manifest =
        MANIFEST.replace("SERVICE", &later.service).replace(", { name: alt, port: 8080, targetPort: 8080 }", "");
    let outcome = ran(loaded(&later.text(), &manifest, &[], None));
    assert_eq!(outcome.run.results.totals.dropped, 24 * 50, "until the balancer has its listener");
}

#[test]
fn routes_reach_pods_when_the_control_plane_has_told_them() {
    let route = "{ at: 20s, set: { \"VirtualService/default/shop.spec.http[0].directResponse\": { status: 503 }, \
                 \"VirtualService/default/shop.spec.http[0].route\": null } }";
    let lost = |propagation: &str| {
        let drill = Drill::new(&[route]);
        let text = drill.text().replace("configPropagation: 200ms", &format!("configPropagation: {propagation}"));
        let manifest = MANIFEST.replace("SERVICE", &drill.service);
        let outcome = ran(loaded(&text, &manifest, &[], None));
        check_quiet(&outcome);
        let results = &outcome.run.results;
        results.totals.sent - results.totals.ok
    };
    let (soon, late) = (lost("200ms"), lost("5s"));
    assert_eq!(soon - late, 480, "100/s for 4.8 s more as before: {soon}, {late}");
}

#[test]
fn what_the_api_server_does_not_let_change_is_refused() {
    let told = |entry: &str| Drill::new(&[entry]).load().err().unwrap_or_else(|| panic!("nobody refuses {entry}"));
    let class = "{ at: 20s, set: { \"IstioGateway/istio-system/edge.spec.loadBalancerClass\": alibabacloud.com/nlb } }";
    let text = told(class);
    assert!(text.contains("may not change once set"), "{text}");
}

#[test]
fn an_annotation_that_changes_nothing_costs_nothing() {
    let outcome = Drill::annotated(&[&annotate("20s", "name", "edge")], &[("name", "old")]).run();
    assert_eq!(outcome.run.results.totals.dropped, 0);
    check_quiet(&outcome);
}

/// The warnings of a drill: what they are about, and what they say.
fn warnings(outcome: &Outcome) -> String {
    let rows = outcome.run.results.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
    rows.map(|row| format!("{}: {}\n", row.path, row.note.as_deref().unwrap_or_default())).collect()
}

/// Requests by pod, fewest first.
fn shares(outcome: &Outcome) -> Vec<u64> {
    let mut shares: Vec<u64> = outcome.run.results.pods.iter().map(|pod| pod.requests).collect();
    shares.sort_unstable();
    shares
}

#[test]
fn another_scheduler_holds_from_when_the_controller_has_written_it() {
    let even = Drill::annotated(&[&annotate("20s", "scheduler", "wrr")], &[("scheduler", "rr")]).run();
    let odd = Drill::annotated(&[&annotate("20s", "scheduler", "sch")], &[("scheduler", "rr")]).run();
    for outcome in [&even, &odd] {
        assert_eq!(outcome.run.results.totals.dropped, 0);
        check_quiet(outcome);
    }
    let (even, odd) = (shares(&even), shares(&odd));
    assert!(even[0].abs_diff(even[1]) <= 2, "{even:?}");
    // Each load is one address, which the hash keeps at one pod from 24 s on: a pod has all of a load or nothing of it.
    let (before, after) = (100 * 24 / 2, 50 * 36);
    let near = |found: u64, wanted: u64| found.abs_diff(wanted) <= 4;
    let is_whole = (near(odd[0], before) && near(odd[1], before + 2 * after))
        || (near(odd[0], before + after) && near(odd[1], before + after));
    assert!(is_whole, "{odd:?}");
}

#[test]
fn a_health_check_looks_as_often_as_it_was_last_told() {
    // The port of the checks goes at 30 s. A check each 2 s finds out within 6 s; one each 50 s does not in the time that is left.
    let loses = servers("30s", &[8080]);
    let unhealthy = |entries: &[&str]| {
        let outcome = Drill::annotated(entries, &[("health-check-interval", "2")]).run();
        check_quiet(&outcome);
        (count(&outcome, "target_unhealthy"), outcome)
    };
    let (quick, outcome) = unhealthy(&[&loses]);
    assert_eq!(quick, 2);
    // Nobody is left for the other port either: the balancer has one choice for all of them.
    assert_eq!(causes(&outcome.run.results)[0].0, "GD4118");
    assert_eq!(unhealthy(&[&annotate("10s", "health-check-interval", "50"), &loses]).0, 0);
    assert_eq!(unhealthy(&[&annotate("10s", "unhealthy-threshold", "10"), &loses]).0, 2, "ten of them, 2 s apart");
    assert_eq!(unhealthy(&[&annotate("10s", "health-check-switch", "off"), &loses]).0, 0);
    let back_on =
        [&*annotate("5s", "health-check-switch", "off"), &annotate("15s", "health-check-switch", "on"), &loses];
    assert_eq!(unhealthy(&back_on).0, 2);
}

#[test]
fn an_idle_timeout_holds_for_connections_that_are_opened_after_it() {
    let lost = |entries: &[&str]| {
        let mut drill = Drill::annotated(entries, &[("established-timeout", "900")]);
        drill.clients = "connections: 1, keepAlive: 900s, detectIdleClose: false,";
        let text = drill.text().replace("rate: 50/s", "rate: 1/s").replace("duration: 60s", "duration: 100s");
        let text = text.replace(
            "rate: 1/s, arrivals: constant",
            "rate: [ { for: 30s, at: 1/s }, { for: 20s, at: 0/s }, { for: 50s, at: 1/s } ]",
        );
        let manifest = MANIFEST.replace("SERVICE", &drill.service);
        let outcome = ran(loaded(&text, &manifest, &[], None));
        let found: Vec<(String, u64)> =
            outcome.run.results.causes.iter().map(|of| (of.code.clone(), of.count)).collect();
        let line = outcome.run.results.causes.first().and_then(|cause| cause.source.as_ref()?.line);
        (found, line, drill)
    };
    let shorter = annotate("5s", "established-timeout", "10");
    // Connections of before the edit may be silent for as long as they ever could.
    assert_eq!(lost(&[&shorter]).0, []);
    // With the restart at 15 s come new ones: each load finds its one reset when it speaks again.
    let (found, line, drill) = lost(&[&shorter, "{ at: 15s, restart: {} }"]);
    assert!(found.contains(&("GD4304".to_owned(), 2)), "{found:?}");
    let idle = line.filter(|_| found.len() == 1);
    assert!(
        idle.is_none_or(|line| line == drill.line("established-timeout\"") || line == drill.line("at: 5s")),
        "{line:?}"
    );
    assert!(lost(&["{ at: 15s, restart: {} }"]).0.iter().all(|(code, _)| code != "GD4304"));
}

#[test]
fn limits_follow_their_annotation_with_its_line() {
    let nlb = |timeline: &[&str]| {
        let mut drill = Drill::annotated(timeline, &[("zone-maps", "a:vsw-1,b:vsw-2")]);
        drill.service.push_str("\n  loadBalancerClass: alibabacloud.com/nlb");
        drill
    };
    assert_eq!(nlb(&["{ at: 20s, phase: more }"]).run().run.results.totals.dropped, 0);
    let drill = nlb(&[&annotate("20s", "cps", "10")]);
    let outcome = drill.run();
    // 30 of 50 new connections a second, at two listeners, from 24 s on: ten get in by each of two zones.
    check_lost(&outcome, &[("GD4125", 2 * 30 * 36)], 40);
    check_quiet(&outcome);
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    assert_eq!((source.line, source.value.as_deref()), (Some(drill.line("at: 20s")), Some("10")));
    // Taken back, it holds no more; who was dropped in its last second is let in with the second SYN.
    check_lost(
        &nlb(&[&annotate("20s", "cps", "10"), &annotate("40s", "cps", "0")]).run(),
        &[("GD4125", 2 * 30 * 19)],
        40,
    );
}

#[test]
fn what_a_clb_cannot_change_stops_its_controller_until_it_is_taken_back() {
    let restart = "{ at: 30s, restart: {} }";
    let stuck = annotate("10s", "address-type", "intranet");
    let drill = |entries: &[&str]| Drill::annotated(entries, &[("address-type", "internet")]);
    let lost = |outcome: &Outcome| outcome.run.results.totals.dropped;
    let alone = drill(&[restart]).run();
    let outcome = drill(&[&stuck, restart]).run();
    assert!(warnings(&outcome).contains("listeners and targets stay"), "{}", warnings(&outcome));
    let events = outcome.log.events();
    let failed: Vec<_> = events.iter().filter(|event| event.kind == "lb_sync_failed").collect();
    // At 14 s, and then 5, 10 and 20 s later.
    let told: Vec<u64> = failed.iter().map(|event| event.at.as_nanos() / 1_000_000_000).collect();
    assert_eq!(told, [14, 19, 29, 49]);
    assert!(format!("{:?}", failed[0].data).contains("can not change LoadBalancer AddressType once created"));
    assert_eq!(count(&outcome, "target_deregistered"), 0, "the balancer keeps its old targets");
    assert!(lost(&outcome) > 4 * lost(&alone), "{} and {}", lost(&outcome), lost(&alone));
    let mended = drill(&[&stuck, restart, &annotate("45s", "address-type", "internet")]).run();
    assert_eq!(count(&mended, "target_deregistered"), 2);
    assert!(lost(&mended) < lost(&outcome), "{} and {}", lost(&mended), lost(&outcome));
    // Only the restart rolls anything.
    assert_eq!(outcome.run.results.rollouts.len(), 1);
}

#[test]
fn an_annotation_that_is_rejected_in_mid_run_leaves_the_balancer_as_it_was_until_it_is_mended() {
    let restart = "{ at: 30s, restart: {} }";
    let drill = |entries: &[&str]| Drill::annotated(entries, &[("scheduler", "rr"), ("persistence-timeout", "0")]);
    let alone = drill(&[restart]).run();
    // A number that is none is not read at all, and nobody follows the pods that the restart brings.
    let unread = annotate("10s", "persistence-timeout", "soon");
    let outcome = drill(&[&unread, restart]).run();
    let failed = |outcome: &Outcome| count(outcome, "lb_sync_failed");
    let lost = |outcome: &Outcome| outcome.run.results.totals.dropped;
    assert_eq!((failed(&outcome), count(&outcome, "target_deregistered")), (4, 0));
    assert!(lost(&outcome) > 4 * lost(&alone), "{} and {}", lost(&outcome), lost(&alone));
    assert!(warnings(&outcome).contains("SyncLoadBalancerFailed"), "{}", warnings(&outcome));
    assert!(warnings(&outcome).contains("listeners and targets stay"), "{}", warnings(&outcome));
    // Mended before the restart it costs nothing.
    let mended = drill(&[&unread, &annotate("20s", "persistence-timeout", "0"), restart]).run();
    assert_eq!((count(&mended, "target_deregistered"), lost(&mended)), (2, lost(&alone)));
    // A word that the cloud does not know fails at the listeners, when the targets are there.
    let word = annotate("10s", "scheduler", "random");
    let rejected = drill(&[&word, restart]).run();
    assert_eq!((count(&rejected, "target_deregistered"), lost(&rejected)), (2, lost(&alone)));
    assert!(failed(&rejected) >= 4 && warnings(&rejected).contains("targets are followed"), "{}", warnings(&rejected));
    // While it is wrong no listener is made for another port.
    let port = ports("30s", &[(80, 80)]);
    let closed = drill(&[&word, &port]).run();
    assert_eq!(count(&closed, "lb_listener_deleted"), 0);
    // At the start it is an error, and so is what nobody knows the end of.
    let start = Drill::annotated(&[restart], &[("scheduler", "random")]).load().err().unwrap_or_default();
    assert!(start.contains("the API rejects `random`"), "{start}");
    let unknown = drill(&[&annotate("10s", "spec", "huge")]).load().err().unwrap_or_default();
    assert!(unknown.contains("huge"), "{unknown}");
}

#[test]
fn a_traffic_policy_changes_which_nodes_are_targets() {
    let policy = |value: &str| {
        format!("{{ at: 20s, set: {{ \"IstioGateway/istio-system/edge.spec.externalTrafficPolicy\": {value} }} }}")
    };
    let drill = |first: &str, then: &str| {
        let mut drill = Drill::new(&[&policy(then)]);
        drill.service.push_str(&format!("\n  externalTrafficPolicy: {first}\n  serviceAnnotations: {{ service.beta.kubernetes.io/backend-type: ecs }}"));
        let manifest = MANIFEST.replace("SERVICE", &drill.service).replace("replicaCount: 2", "replicaCount: 1");
        ran(loaded(&drill.text(), &manifest, &[], None))
    };
    // One pod on two nodes: the node without one goes, or comes.
    let local = drill("Cluster", "Local");
    assert_eq!((count(&local, "target_registered"), count(&local, "target_deregistered")), (2, 1));
    let cluster = drill("Local", "Cluster");
    assert_eq!((count(&cluster, "target_registered"), count(&cluster, "target_deregistered")), (2, 0));
    assert_eq!(cluster.run.results.totals.dropped, 0, "all nodes pass connections on before they are targets");
    // Its kube-proxy drops at once what it has no pod for, and the balancer sends to it until the controller has come: half of 100/s for 3.5 s.
    let found = causes(&local.run.results);
    assert!(found.iter().any(|(code, lost)| *code == "GD4106" && lost.abs_diff(175) <= 10), "{found:?}");
    assert!(local.run.results.rollouts.is_empty() && cluster.run.results.rollouts.is_empty());
}

#[test]
fn targets_become_nodes_and_pods_again() {
    let set = |at: &str, value: &str| {
        format!(
            "{{ at: {at}, set: {{ \"IstioGateway/istio-system/edge.spec.serviceAnnotations[service.beta.kubernetes.io/backend-type]\": {value} }} }}"
        )
    };
    let mut drill = Drill::new(&[&set("10s", "ecs"), &set("35s", "eni")]);
    drill.service.push_str("\n  serviceAnnotations: { service.beta.kubernetes.io/backend-type: eni }");
    let outcome = drill.run();
    check_quiet(&outcome);
    let registered = outcome.log.events().iter().filter(|event| event.kind == "target_registered");
    let of_node: Vec<bool> = registered.map(|event| event.data.iter().any(|(key, _)| *key == "node")).collect();
    assert_eq!(of_node, [false, false, true, true, false, false]);
    // Checks pass before either is sent to: 4 s after it has come. Nobody is there meanwhile.
    let results = &outcome.run.results;
    // What runs over a target that goes is cut: draining is off.
    assert!(causes(results).iter().all(|(code, _)| ["GD4130", "GD4104"].contains(code)), "{:?}", causes(results));
    assert!(results.totals.dropped <= 2 * 100 * 5, "{}", results.totals.dropped);
    assert!(results.totals.ok > 4900, "{:?}", results.totals);
}

#[test]
fn what_is_no_longer_written_stays_as_the_balancer_has_it() {
    let entry = "{ at: 10s, apply: { inline: { apiVersion: istio.alibabacloud.com/v1, kind: IstioGateway, metadata: { name: edge, namespace: istio-system }, \
                 spec: { gatewayType: ingress, clusterIds: [c-1], replicaCount: 2, serviceType: LoadBalancer, \
                 ports: [ { name: http, port: 80, targetPort: 80 }, { name: alt, port: 8080, targetPort: 8080 } ] } } } }";
    let outcome = Drill::annotated(&[entry], &[("scheduler", "sch")]).run();
    assert_eq!(outcome.run.results.totals.dropped, 0);
    assert!(warnings(&outcome).contains("scheduler: it is no longer written"), "{}", warnings(&outcome));
    // Each load stays where its address leads.
    let shares = shares(&outcome);
    assert!(shares[0] % 3000 <= 10 || shares[0] % 3000 >= 2990, "{shares:?}");
}

#[test]
fn a_listener_that_was_taken_over_is_lost_until_the_service_in_front_is_edited() {
    let service = format!(
        "{{ at: 10s, apply: {{ inline: {{ apiVersion: v1, kind: Service, metadata: {{ name: admin, namespace: istio-system, annotations: {{ {PREFIX}-id: lb-hand, \
         {PREFIX}-force-override-listeners: \"true\" }} }}, spec: {{ type: LoadBalancer, selector: {{ app: admin }}, ports: [ {{ name: http, port: 80, targetPort: 80 }} ] }} }} }} }}"
    );
    let annotations = [("id", "lb-hand"), ("force-override-listeners", "true")];
    let delete = "{ at: 20s, delete: { service: istio-system/admin } }";
    let taken = Drill::annotated(&[&service], &annotations).run();
    check_lost(&taken, &[("GD4116", 50 * 46)], 1);
    // Its deletion takes the listener away: its controller asks nobody who had it before.
    let gone = Drill::annotated(&[&service, delete], &annotations).run();
    check_lost(&gone, &[("GD4116", 50 * 10), ("GD4117", 50 * 36)], 110);
    let back = Drill::annotated(&[&service, delete, &annotate("30s", "name", "edge")], &annotations).run();
    check_lost(&back, &[("GD4116", 50 * 10), ("GD4117", 50 * 10)], 110);
    // Without a deletion the edit takes it back as well: the last writer has it.
    let again = Drill::annotated(&[&service, &annotate("20s", "name", "edge")], &annotations).run();
    check_lost(&again, &[("GD4116", 50 * 10)], 110);
    assert_eq!(count(&again, "lb_listener_taken_back"), 1);
    let told =
        Drill::annotated(&["{ at: 20s, delete: { service: istio-system/istio-edge } }"], &annotations).load().err();
    assert!(told.is_some_and(|text| text.contains("its controller would make it anew")));
}

#[test]
fn what_a_process_reads_at_its_start_needs_a_restart() {
    let config = "---\napiVersion: istio.alibabacloud.com/v1beta1\nkind: ASMProxyConfig\nmetadata: { name: proxies, namespace: istio-system }\n\
                  spec: { terminationDrainDuration: 2s }\n";
    let edit = "{ at: 10s, set: { \"ASMProxyConfig/istio-system/proxies.spec.terminationDrainDuration\": 8s } }";
    let drains = |entries: &[&str]| {
        let drill = Drill::new(entries);
        let manifest = format!("{}{config}", MANIFEST.replace("SERVICE", &drill.service));
        let outcome = ran(loaded(&drill.text(), &manifest, &[], None));
        let pods = outcome.run.results.pods.iter();
        let spans: Vec<u64> =
            pods.filter_map(|pod| Some(pod.exited_ms?.saturating_sub(pod.sigterm_ms?) / 1000)).collect();
        (spans, outcome)
    };
    let (restart, again) = ("{ at: 15s, restart: {} }", "{ at: 35s, restart: {} }");
    assert_eq!(drains(&[restart, again]).0, [2, 2, 2, 2]);
    let (spans, outcome) = drains(&[edit, restart, again]);
    assert_eq!(spans, [2, 2, 8, 8], "those of before the edit, and those that started after it");
    assert_eq!(outcome.run.results.rollouts.len(), 2, "the edit itself rolls nothing");
    assert!(warnings(&outcome).contains("nothing restarts"), "{}", warnings(&outcome));
    check_quiet(&drains(&[edit]).1);
}

#[test]
fn another_services_pods_are_those_that_its_selector_names_by_now() {
    let edit = "{ at: 10s, set: { \"Service/default/web.spec.selector\": { app: nobody } } }";
    let backends = "backends: [ { service: default/web, deployment: default/web, serviceTime: 5ms } ]";
    let deployment = "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web, namespace: default }\nspec:\n  replicas: 2\n  \
                      selector: { matchLabels: { app: web } }\n  template:\n    metadata: { labels: { app: web } }\n    \
                      spec: { containers: [ { name: web, image: web } ] }\n";
    let drill = Drill::new(&[edit]);
    let text = drill.text().replace("backends: [ { service: default/web, serviceTime: 5ms } ]", backends);
    let manifest = format!("{}{deployment}", MANIFEST.replace("SERVICE", &drill.service));
    let text = text.replace("duration: 60s", "duration: 30s\n  target: istio-system/istio-edge");
    let outcome = ran(loaded(&text, &manifest, &[], None));
    // The gateway hears of it 500 ms and 200 ms later, and has nobody to send to.
    let results = &outcome.run.results;
    assert!(results.totals.ok.abs_diff(1070) <= 3, "{:?}", results.totals);
    assert_eq!(causes(results)[0].0, "GD4203", "{:?}", causes(results));
}

#[test]
fn a_subset_has_the_endpoints_that_its_labels_name_by_now() {
    let rule = |version: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{ name: web, namespace: default }}\n\
             spec: {{ host: web, subsets: [ {{ name: now, labels: {{ version: {version} }} }} ] }}\n"
        )
    };
    let deployment = |version: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: web-{version}, namespace: default }}\nspec:\n  replicas: 1\n  \
             selector: {{ matchLabels: {{ app: web, version: {version} }} }}\n  template:\n    metadata: {{ labels: {{ app: web, version: {version} }} }}\n    \
             spec: {{ containers: [ {{ name: web, image: web }} ] }}\n"
        )
    };
    let edit = "{ at: 10s, set: { \"DestinationRule/default/web.spec.subsets[0].labels\": { version: two } } }";
    let ok = |entries: &[&str]| {
        let drill = Drill::new(entries);
        let backends = "backends: [ { service: default/web, deployment: default/web-one, serviceTime: 5ms } ]";
        let text = drill.text().replace("backends: [ { service: default/web, serviceTime: 5ms } ]", backends);
        let text = text.replace("duration: 60s", "duration: 30s\n  target: istio-system/istio-edge");
        let manifest = MANIFEST.replace("SERVICE", &drill.service).replace("host: web,", "host: web, subset: now,");
        let manifest = format!("{manifest}---\n{}{}", rule("one"), deployment("one"));
        ran(loaded(&text, &manifest, &[], None))
    };
    assert_eq!(ok(&["{ at: 10s, phase: more }"]).run.results.totals.dropped, 0);
    // Nobody has those labels: the gateway hears of it 200 ms later.
    let outcome = ok(&[edit]);
    assert!(outcome.run.results.totals.ok.abs_diff(1020) <= 3, "{:?}", outcome.run.results.totals);
    assert_eq!(causes(&outcome.run.results)[0].0, "GD4203");
    check_quiet(&outcome);
}
