//! What annotations of a Service and of an `IstioGateway` come to when they are empty, in other letters, misplaced, contradictory, or not read at all.
//!
//! Goal: each is taken as the controller takes it, and what it is hardly meant to say is told with its line. Method: tables of annotations with what the reader
//! says of them, and small drills where it matters for traffic.

use std::collections::BTreeMap;

use crate::balancers::{Case, LINE, lost, ran, said};
use crate::scenarios::loaded;
use crate::shop::{scenario_head, shop_of_istio_edge};
use gatedrill::drill::{Continue, Outcome, run};
use gatedrill::manifest::service::annotations::ROWS;
use gatedrill::record::results::FidelityStatus;

const BACKEND_TYPE: &str = "service.beta.kubernetes.io/backend-type";
const CLASS: &str = "service.beta.kubernetes.io/class";
/// Annotations of a Service, what the reader says of them, and what one of its sentences holds; nothing: it says nothing.
type Row<'a> = (&'a [(&'a str, &'a str)], (Vec<String>, Vec<String>), &'a str);

fn clb<'a>(annotations: &'a [(&'a str, &'a str)], told: &'a str) -> Row<'a> {
    (annotations, said(&Case { annotations, ..Case::default() }), told)
}

fn nlb<'a>(annotations: &'a [(&'a str, &'a str)], told: &'a str) -> Row<'a> {
    (annotations, said(&Case { annotations, is_nlb: true, ..Case::default() }), told)
}

fn check_warnings(table: &[Row<'_>]) {
    for (annotations, (problems, warnings), told) in table {
        assert!(problems.is_empty(), "{annotations:?}: {problems:?}");
        let is_told = warnings.iter().any(|it| it.contains(told));
        assert!(if told.is_empty() { warnings.is_empty() } else { is_told }, "{annotations:?}: {warnings:?}");
    }
}

fn check_problems(table: &[Row<'_>]) {
    for (annotations, (problems, _), told) in table {
        assert!(problems.iter().any(|it| it.contains(told)), "{annotations:?}: {problems:?}");
    }
}

/// Registered targets: nodes and pods.
fn targets(outcome: &Outcome) -> (usize, usize) {
    let events = outcome.log.events().iter().filter(|event| event.kind == "target_registered");
    let count = |key: &str| events.clone().filter(|event| event.data.iter().any(|(it, _)| *it == key)).count();
    (count("node"), count("pod"))
}

#[test]
fn an_empty_annotation_is_as_if_it_were_not_written() {
    for row in ROWS {
        for is_nlb in [true, false].into_iter().filter(|is_nlb| row.is_of(*is_nlb)) {
            let annotations = [(row.suffix, "")];
            let (problems, warnings) = said(&Case { is_nlb, annotations: &annotations, ..Case::default() });
            assert_eq!(problems, [""; 0], "{}", row.suffix);
            // Only the zones have to be written.
            let expected = usize::from(row.suffix == "zone-maps");
            assert_eq!(warnings.len(), expected, "{}: {warnings:?}", row.suffix);
        }
    }
    check_warnings(&[nlb(&[("zone-maps", "")], "ParameterMissing, zone mappings are required")]);
    // The newer spelling hides the older, even so.
    let older = ("service.beta.kubernetes.io/alicloud-loadbalancer-persistence-timeout", "x");
    check_problems(&[clb(&[older], "`x` is no number")]);
    check_warnings(&[clb(&[("persistence-timeout", ""), older], "")]);
}

#[test]
fn backends_are_pods_if_it_says_so_or_says_nothing() {
    let of = |text: &str| targets(&ran(&Case { annotations: &[(BACKEND_TYPE, text)], ..Case::default() }));
    assert_eq!(["eni", ""].map(of), [(0, 4); 2]);
    assert_eq!(["ecs", "ENI", "enii"].map(of), [(5, 0); 3]);
    check_warnings(&[
        clb(&[(BACKEND_TYPE, "eni")], ""),
        clb(&[(BACKEND_TYPE, "")], ""),
        clb(&[(BACKEND_TYPE, "ecs")], ""),
        clb(&[(BACKEND_TYPE, "ENI")], "25: `ENI` is not `eni`, so the balancer's targets are nodes"),
        clb(&[(BACKEND_TYPE, "enii")], "25: `enii` is not `eni`, so the balancer's targets are nodes"),
    ]);
}

#[test]
fn an_nlbs_check_has_options_only_under_its_flag() {
    let (kind, flag) = (("health-check-type", "http"), ("health-check-flag", "on"));
    // The gateway has no route for the check's host, so such a check never passes.
    let unhealthy = |annotations: &[(&str, &str)]| {
        let outcome = ran(&Case { is_nlb: true, annotations, clients: "reuse: none", ..Case::default() });
        outcome.log.events().iter().filter(|event| event.kind == "target_unhealthy").count()
    };
    assert_eq!([unhealthy(&[]), unhealthy(&[kind]), unhealthy(&[kind, flag])], [0, 0, 4]);
    let elsewhere = ("health-check-connect-port", "99");
    check_warnings(&[
        nlb(&[elsewhere], "25: it is not read: health-check-flag is not on"),
        nlb(&[elsewhere, flag], "25: no gateway listens on port 99: every target fails its checks"),
        nlb(&[("health-check-type", "perhaps")], "25: it is not read"),
        nlb(&[("unhealthy-threshold", "99")], "25: it is not read"),
        nlb(&[("healthy-threshold", "99"), ("health-check-flag", "off")], "25: it is not read"),
    ]);
    check_problems(&[
        nlb(&[("health-check-type", "perhaps"), flag], "25: the API rejects `perhaps`"),
        nlb(&[("unhealthy-threshold", "99"), ("health-check-flag", "ON")], "25: `99` is no number"),
        clb(&[("health-check-type", "perhaps")], "25: the API rejects `perhaps`"),
    ]);
}

#[test]
fn letters_count_where_the_controller_or_the_api_counts_them() {
    let drained = ("connection-drain-timeout", "30");
    check_warnings(&[
        nlb(&[("connection-drain", "ON"), drained], ""),
        nlb(&[("connection-drain", "true"), drained], "25: `true` is parsed as off: only \"on\" counts"),
        nlb(&[("health-check-flag", "On"), ("health-check-type", "TCP")], ""),
        nlb(&[("scheduler", "Wrr")], ""),
        nlb(&[("scheduler", "Qch")], "25: it hashes ids of QUIC"),
        nlb(&[("server-group-type", "Ip")], ""),
        nlb(&[("preserve-client-ip", "On")], ""),
        nlb(&[("preserve-client-ip", "true")], "25: `true` is parsed as off"),
        nlb(&[("ip-version", "dualstack")], ""),
        nlb(&[("address-type", "Intranet")], ""),
        nlb(&[("protocol-port", "tcp:80")], ""),
        clb(&[("ignore-weight-update", "ON")], ""),
        clb(&[(BACKEND_TYPE, "ecs"), ("remove-unscheduled-backend", "ON")], "26: `ON` is parsed as off"),
        clb(&[("force-override-listeners", "True")], "25: `True` is parsed as off"),
    ]);
    check_problems(&[
        clb(&[("connection-drain", "ON"), drained], "25: `ON` is neither on nor off"),
        clb(&[("scheduler", "Wrr")], "25: the API rejects `Wrr`"),
        clb(&[("protocol-port", "TCP:80")], "25: the controller knows no protocol `TCP`"),
        clb(&[("address-type", "Intranet")], "25: the API rejects `Intranet`"),
        clb(&[("ip-version", "v6")], "25: the API rejects `v6`"),
        clb(&[("delete-protection", "true")], "25: the API rejects `true`"),
        clb(&[("modification-protection", "on")], "25: the API rejects `on`"),
        nlb(&[("scheduler", "wlc")], "25: the API rejects `wlc`"),
        nlb(&[("server-group-type", "eni")], "25: the API rejects `eni`"),
    ]);
}

#[test]
fn draining_without_a_time_is_none_at_an_nlb_and_refused_at_a_clb() {
    let on = ("connection-drain", "on");
    check_warnings(&[
        nlb(&[on], "25: draining is on without connection-drain-timeout"),
        nlb(&[on, ("connection-drain-timeout", "10")], ""),
    ]);
    check_problems(&[clb(&[on], "its timeout is missing: the API rejects that")]);
    let cut = |annotations: &[(&str, &str)]| {
        let (timeline, clients) = ("{ at: 2s, scale: { replicas: 1 } }", "connections: 20, detectIdleClose: false");
        lost(&ran(&Case { is_nlb: true, annotations, timeline, clients, ..Case::default() }))
    };
    assert_eq!(cut(&[on]), cut(&[]));
    assert_ne!(cut(&[on, ("connection-drain-timeout", "30")]), cut(&[]));
}

#[test]
fn what_the_controller_cannot_read_makes_no_nlb() {
    for (annotation, is_made) in [
        (("cross-zone-enabled", "on"), true),
        (("cross-zone-enabled", "Off"), true),
        (("cross-zone-enabled", "true"), false),
        (("zone-maps", "a:vsw-a,b:vsw-b:10.0.0.1"), true),
        (("zone-maps", "a,b"), false),
        (("zone-maps", ":vsw-a,b:vsw-b"), false),
        (("zone-maps", "a:vsw-a,b:"), false),
        (("zone-maps", "a:vsw-a, b:vsw-b"), false),
        (("zone-maps", "a:vsw-a,b:vsw-b,a:vsw-c"), false),
    ] {
        let case = Case { is_nlb: true, annotations: &[annotation], clients: "reuse: none", ..Case::default() };
        let outcome = ran(&case);
        let sent = outcome.run.results.totals.sent;
        let expected = if is_made { BTreeMap::new() } else { BTreeMap::from([("GD4115".to_owned(), sent)]) };
        assert_eq!(lost(&outcome), expected, "{annotation:?}");
        let (_, warnings) = said(&case);
        assert_eq!(warnings.iter().any(|it| it.starts_with("25: ") && it.contains("no NLB is created")), !is_made);
        if !is_made {
            let source = outcome.run.results.causes[0].source.as_ref().expect("its annotation");
            assert_eq!((source.line, source.value.as_deref()), (Some(LINE), Some(annotation.1)), "{annotation:?}");
        }
    }
}

#[test]
fn an_edit_that_the_controller_cannot_read_is_none() {
    let path = "Service/edge.metadata.annotations[\\\"service.beta.kubernetes.io/alibaba-cloud-loadbalancer-cross-zone-enabled\\\"]";
    let edited = |text: &str| {
        let timeline = format!("{{ at: 5s, set: {{ \"{path}\": \"{text}\" }} }}");
        ran(&Case { is_nlb: true, timeline: &timeline, clients: "reuse: none", ..Case::default() })
    };
    let failed = |outcome: &Outcome| outcome.log.events().iter().any(|event| event.kind == "lb_sync_failed");
    assert!(!failed(&edited("off")));
    let unread = edited("true");
    assert!(failed(&unread));
    assert_eq!(lost(&unread), BTreeMap::new());
}

#[test]
fn an_annotation_that_is_emptied_stays_as_it_was() {
    let path = "Service/edge.metadata.annotations[\\\"service.beta.kubernetes.io/alibaba-cloud-loadbalancer-established-timeout\\\"]";
    let edited = |text: &str| {
        let timeline = format!("{{ at: 5s, set: {{ \"{path}\": \"{text}\" }} }}");
        let (_, warnings) =
            said(&Case { annotations: &[("established-timeout", "60")], timeline: &timeline, ..Case::default() });
        warnings.iter().any(|it| it.contains("the balancer keeps it"))
    };
    assert_eq!(["", "30"].map(edited), [true, false]);
}

#[test]
fn a_service_may_be_another_controllers() {
    check_problems(&[clb(
        &[(CLASS, "x")],
        "25: no controller of this cluster handles `x`: the balancer stays pending",
    )]);
    check_warnings(&[clb(&[(CLASS, "")], ""), nlb(&[(CLASS, "x")], "")]);
}

#[test]
fn of_two_parts_for_a_port_the_first_counts() {
    let url = "https://shop.example.com:80/";
    let both = |text| [("protocol-port", text), ("cert-id", "c-1")];
    let problems = |text| said(&Case { annotations: &both(text), url, ..Case::default() }).0;
    assert_eq!(problems("https:80,tcp:80"), [""; 0]);
    assert!(problems("tcp:80,https:80").iter().any(|it| it.contains("nothing ends it on port 80")));
}

#[test]
fn settings_without_an_effect_are_told() {
    check_warnings(&[
        clb(&[("health-check-interval", "5")], ""),
        clb(&[("health-check-interval", "6")], "25: the check waits for 5 s, less than this, so this counts: 6 s"),
        clb(&[("health-check-connect-timeout", "2")], ""),
        clb(&[("health-check-connect-timeout", "1")], "25: it is below the interval, so the interval counts: 2 s"),
        nlb(&[("health-check-interval", "50"), ("health-check-flag", "on")], ""),
        clb(&[("backend-label", "pool=edge")], "25: it has no effect: the balancer's targets are pods"),
        clb(&[("remove-unscheduled-backend", "on")], "25: it has no effect: the balancer's targets are pods"),
        clb(&[(BACKEND_TYPE, "ecs"), ("backend-label", "pool=edge")], ""),
        clb(
            &[(BACKEND_TYPE, "ecs"), ("backend-label", "pool=edge, a=b")],
            "26: the controller takes spaces for a part",
        ),
    ]);
    check_problems(&[clb(&[(BACKEND_TYPE, "ecs"), ("backend-label", "pool=edge,")], "26: `` is no label")]);
    let weights = said(&Case { annotations: &[("weight", "50")], ..Case::default() }).1;
    assert_eq!(weights.len(), 1, "{weights:?}");
}

#[test]
fn what_looks_like_an_annotation_and_is_none_is_told() {
    let near = "did you mean `service.beta.kubernetes.io/alibaba-cloud-loadbalancer-scheduler`?";
    check_warnings(&[
        clb(&[("service.beta.kubernetes.io/alibaba-cloud-loadbalance-scheduler", "wrr")], near),
        clb(&[("service.beta.kubernetes.io/alibabacloud-loadbalancer-scheduler", "wrr")], near),
        clb(&[("service.beta.kubernetes.io/alibaba-cloud-loadbalancer_x", "y")], "25: no controller reads such"),
        clb(
            &[("service.beta.kubernetes.io/backendtype", "eni")],
            "did you mean `service.beta.kubernetes.io/backend-type`?",
        ),
        clb(&[("service.beta.kubernetes.io/alibaba-cloud-private-zone-id", "z")], ""),
        clb(&[("service.beta.kubernetes.io/azure-load-balancer-internal", "true")], ""),
        clb(&[("service.beta.kubernetes.io/exclude-node", "x")], ""),
        clb(&[("example.com/scheduler", "wrr")], ""),
    ]);
}

const SCENARIO: &str = concat!(
    scenario_head!("annotations", "  duration: 30s\n  seed: 3\n"),
    r#"  cluster: { version: "1.33", nodes: [ { name: pool, count: 8, zones: [a, b], allocatable: { cpu: "64", memory: 64Gi } } ] }
  gateway: { istio: "1.26" }
  balancers: [ { id: lb-hand } ]
  loadBalancer: { controllerLatency: 2s }
  backends: [ { service: default/web } ]
  load:
    - { name: new, rate: 20/s, arrivals: constant, clients: { reuse: none }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: []
"#
);

/// The resource's annotations are on line 3, its pods' on line 7, the Service's from line 8 on.
const GATEWAY: &str = concat!(
    r#"apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata: { name: edge, namespace: istio-system, annotations: { METADATA } }
spec:
  gatewayType: ingress
  replicaCount: 2
  podAnnotations: { PODS }
  serviceAnnotations: { SERVICE }
  ports: [ { name: http, port: 80, targetPort: 80, protocol: TCP } ]
"#,
    shop_of_istio_edge!()
);

/// Texts that take the place of others, in the scenario or the manifest.
type Changes<'a> = &'a [(&'a str, &'a str)];

fn load(changes: Changes<'_>) -> Result<gatedrill::scenario::Scenario, gatedrill::manifest::Problems> {
    let (mut text, mut manifest) = (SCENARIO.to_owned(), GATEWAY.to_owned());
    for (from, to) in changes {
        assert!(text.contains(from) || manifest.contains(from), "{from}");
        (text, manifest) = (text.replace(from, to), manifest.replace(from, to));
    }
    for rest in ["METADATA", "PODS", "SERVICE"] {
        manifest = manifest.replace(rest, "");
    }
    loaded(&text, &manifest, &[], None)
}

/// What the reader says of it: problems, or warnings, with their lines.
fn told(changes: Changes<'_>) -> (Vec<String>, Vec<String>) {
    match load(changes) {
        Err(problems) => {
            let line = |place| problems.files.position(place).map_or(0, |(_, line, _)| line);
            let row = |it: &gatedrill::manifest::Problem| {
                format!("{} {}: {} | {}", line(it.place), it.path, it.text, it.help.clone().unwrap_or_default())
            };
            (problems.list.iter().map(row).collect(), Vec::new())
        }
        Ok(scenario) => {
            let rows = scenario.world.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
            let row = rows
                .map(|row| format!("{} {}: {}", row.line.unwrap_or(0), row.path, row.note.clone().unwrap_or_default()));
            (Vec::new(), row.collect())
        }
    }
}

const DRAIN: &str = "asm.alibabacloud.com/gateway-drain-timeout-seconds";
const ON: &str = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain";
const OLD: (&str, &str) = ("istio: \"1.26\"", "istio: \"1.25\"");

#[test]
fn what_is_said_beside_the_drain_annotation_must_agree_with_it() {
    let thirty = format!("{DRAIN}: \"30\"");
    let with = |what: &str| told(&[("METADATA", &thirty), ("SERVICE", what)]);
    let agrees = format!("{ON}: \"on\", {ON}-timeout: \"30\"");
    assert_eq!(with(&agrees), (vec![], vec![]));
    let (problems, _) = with(&format!("{ON}: \"off\""));
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(
        problems[0].starts_with(&format!("8 spec.serviceAnnotations[{ON}]: connection-drain is `off`, and")),
        "{problems:?}"
    );
    let (problems, _) = with(&format!("{ON}: \"on\", {ON}-timeout: \"300\""));
    assert!(problems.len() == 1 && problems[0].contains("connection-drain-timeout is `300`"), "{problems:?}");
    let config = "proxy.istio.io/config: \"terminationDrainDuration: 60s\"";
    let (problems, _) = told(&[("METADATA", &thirty), ("PODS", config)]);
    assert!(problems.len() == 1 && problems[0].starts_with("7 ") && problems[0].contains("is `60s`"), "{problems:?}");
    // Before 1.26 nobody reads the annotation, and nothing contradicts it.
    let (problems, warnings) = told(&[OLD, ("METADATA", &thirty), ("PODS", config)]);
    assert_eq!(problems, [""; 0]);
    assert!(warnings.iter().any(|it| it.contains("has no effect before 1.26")), "{warnings:?}");
}

#[test]
fn the_drain_annotation_is_judged_where_it_is_read() {
    let five = format!("{DRAIN}: \"5\"");
    let (problems, warnings) = told(&[OLD, ("METADATA", &five)]);
    assert_eq!(problems, [""; 0]);
    assert!(warnings.iter().any(|it| it.starts_with("3 ") && it.contains("ASM 1.25 does not know it")), "{warnings:?}");
    let of_node_port = ("replicaCount: 2", "replicaCount: 2\n  serviceType: NodePort");
    let (behind, alone) = (told(&[("METADATA", &five)]).0, told(&[("METADATA", &five), of_node_port]).0);
    assert!(behind.iter().any(|it| it.ends_with("| write 10 to 890 behind a CLB or NLB")), "{behind:?}");
    assert!(alone.iter().any(|it| it.ends_with("| write at least 10")), "{alone:?}");
}

#[test]
fn annotations_in_the_wrong_place_are_told() {
    let (drain, scheduler) =
        (format!("{DRAIN}: \"30\""), "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-scheduler: wrr");
    let misspelt = |name: &str| format!("asm.alibabacloud.com/{name}: \"30\"");
    for (at, what, expected) in [
        ("METADATA", scheduler.to_owned(), "it is read at the Service only: write it under spec.serviceAnnotations"),
        ("SERVICE", drain.clone(), "nobody reads it here: write it under metadata.annotations"),
        ("PODS", drain, "nobody reads it here: write it under metadata.annotations"),
        (
            "METADATA",
            misspelt("gateway-drain-timeout"),
            "did you mean `asm.alibabacloud.com/gateway-drain-timeout-seconds`?",
        ),
        (
            "METADATA",
            misspelt("gateway-drain-timeout-second"),
            "did you mean `asm.alibabacloud.com/gateway-drain-timeout-seconds`?",
        ),
        (
            "METADATA",
            misspelt("replica-managed-by-asm"),
            "did you mean `asm.alibabacloud.com/replicas-managed-by-asm`?",
        ),
    ] {
        let (problems, warnings) = told(&[(at, &what)]);
        assert_eq!(problems, [""; 0]);
        assert!(warnings.iter().any(|it| it.contains(expected)), "{what}: {warnings:?}");
    }
    for what in [misspelt("managed-by-asm"), misspelt("anything-else")] {
        assert_eq!(told(&[("METADATA", &what)]), (vec![], vec![]), "{what}");
    }
}

#[test]
fn editions_and_versions_are_told() {
    let standard = ("istio: \"1.26\"", "istio: \"1.26\", edition: standard");
    let scaled = ("replicaCount: 2", "replicaCount: 2\n  autoscaleEnabled: true");
    let warnings = |changes: Changes<'_>| told(changes).1;
    let of_edition = warnings(&[standard, scaled]);
    assert!(
        of_edition.iter().any(|it| it.starts_with("7 spec.autoscaleEnabled: autoscaling is documented")),
        "{of_edition:?}"
    );
    assert!(!warnings(&[scaled]).iter().any(|it| it.contains("documented for the editions")));
    assert_eq!(warnings(&[standard]), [""; 0]);
    let class = ("replicaCount: 2", "replicaCount: 2\n  loadBalancerClass: alibabacloud.com/nlb");
    let zones = ("SERVICE", "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: \"a:vsw-a,b:vsw-b\"");
    let of_nlb = |more: (&str, &str)| warnings(&[class, zones, more]);
    let told = of_nlb(("version: \"1.33\"", "version: \"1.23\""));
    assert!(told.iter().any(|it| it.starts_with("7 spec.loadBalancerClass: an NLB needs Kubernetes 1.24")), "{told:?}");
    assert_eq!(of_nlb(("version: \"1.33\"", "version: \"1.24\"")), [""; 0]);
    let told = of_nlb(("istio: \"1.26\"", "istio: \"1.17\""));
    assert!(told.iter().any(|it| it.contains("an NLB needs ASM 1.18 or later, and this is 1.17")), "{told:?}");
    assert_eq!(of_nlb(("istio: \"1.26\"", "istio: \"1.18\"")), [""; 0]);
}

#[test]
fn a_drain_longer_than_the_grace_is_told_in_both_generations() {
    let lasting = |seconds: u32| format!("{ON}: \"on\", {ON}-timeout: \"{seconds}\"");
    let is_told =
        |changes: Changes<'_>| told(changes).1.iter().any(|it| it.starts_with("8 ") && it.contains("the rest is lost"));
    for (seconds, expected) in [(30, false), (31, true)] {
        let service = ("SERVICE", &*lasting(seconds));
        assert_eq!(is_told(&[service]), expected, "{seconds}");
        assert_eq!(is_told(&[service, OLD]), expected, "{seconds}");
    }
}

#[test]
fn too_many_pods_or_ports_are_told_where_they_are_written() {
    let of = |count: usize| told(&[("replicaCount: 2", &format!("replicaCount: {count}"))]).0;
    assert_eq!(of(200), [""; 0]);
    assert_eq!(
        of(201),
        ["6 spec.replicaCount: 201 targets are more than the 200 that one balancer takes | have fewer pods"]
    );
    let ports = |count: u16| {
        let more = (1..count)
            .map(|number| format!(", {{ name: p-{number}, port: {}, targetPort: 80, protocol: TCP }}", 8000 + number));
        let all = format!("targetPort: 80, protocol: TCP }}{} ]", more.collect::<String>());
        told(&[("targetPort: 80, protocol: TCP } ]", &all)]).0
    };
    assert_eq!(ports(50), [""; 0]);
    let problems = ports(51);
    assert!(problems.len() == 1 && problems[0].contains("51 listeners are more than the 50"), "{problems:?}");
}

#[test]
fn a_grace_that_cannot_be_written_is_told_at_what_is_too_long() {
    let hook = ("replicaCount: 2", "replicaCount: 2\n  lifecycle: { preStop: { exec: { command: [sleep, \"40\"] } } }");
    let (_, warnings) = told(&[hook]);
    let row = warnings.iter().find(|it| it.contains("do not fit into the grace period"));
    assert!(row.is_some_and(|it| it.starts_with("7 ") && it.contains("preStop")), "{warnings:?}");
    let (problems, _) =
        told(&[("replicaCount: 2", "replicaCount: 2\n  lifecycle: { preStop: { exec: { command: [] } } }")]);
    assert!(problems.len() == 1 && problems[0].contains("exec.command: this is missing"), "{problems:?}");
}

#[test]
fn istio_reads_booleans_as_go_does() {
    let env = |text: &str| {
        let env = format!("replicaCount: 2\n  env: [ {{ name: EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: \"{text}\" }} ]");
        told(&[("replicaCount: 2", &env)])
    };
    for text in ["true", "1", "T", "false", "0", "F"] {
        assert_eq!(env(text), (vec![], vec![]), "{text}");
    }
    for text in ["yes", "on", "tRUE"] {
        let (problems, warnings) = env(text);
        assert!(problems.is_empty() && warnings.iter().any(|it| it.contains("is no boolean")), "{text}: {warnings:?}");
    }
}

/// A further Service on the balancer `lb-hand`.
fn further(overrides: &str, port: u16) -> String {
    let prefix = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer";
    format!(
        "{{ apiVersion: v1, kind: Service, metadata: {{ name: admin, namespace: istio-system, annotations: {{ {prefix}-id: lb-hand, \
         {prefix}-force-override-listeners: \"{overrides}\" }} }}, spec: {{ type: LoadBalancer, selector: {{ istio: edge }}, \
         ports: [ {{ port: {port}, targetPort: 80 }} ] }} }}"
    )
}

#[test]
fn two_services_on_one_listener_are_told_of_by_who_writes_it() {
    let prefix = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer";
    let with = |front: &str, overrides: &str, port: u16| {
        let service = format!("{prefix}-id: lb-hand, {prefix}-force-override-listeners: \"{front}\"");
        let beside = format!("manifests: [ {{ path: manifests/ }}, {{ inline: {} }} ]", further(overrides, port));
        told(&[("manifests: [ { path: manifests/ } ]", &beside), ("SERVICE", &service)])
    };
    let (problems, _) = with("true", "true", 80);
    assert!(problems.iter().any(|it| it.contains("both write the listener of port 80")), "{problems:?}");
    let (problems, _) = with("false", "true", 80);
    assert!(problems.iter().any(|it| it.contains("so it never leads to istio-system/istio-edge")), "{problems:?}");
    assert!(!problems.iter().any(|it| it.contains("both write")), "{problems:?}");
    let (problems, warnings) = with("false", "false", 80);
    assert!(
        problems.is_empty() && warnings.iter().any(|it| it.contains("count on one listener, port 80")),
        "{warnings:?}"
    );
    let (problems, warnings) = with("true", "false", 80);
    assert!(
        problems.is_empty() && warnings.iter().any(|it| it.contains("so it never leads to istio-system/admin")),
        "{warnings:?}"
    );
    for (front, overrides) in [("true", "true"), ("false", "true"), ("false", "false"), ("true", "false")] {
        assert_eq!(with(front, overrides, 81), (vec![], vec![]), "ports of their own");
    }
}

#[test]
fn all_services_of_a_balancer_share_its_quota() {
    let prefix = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer";
    let service = format!("{prefix}-id: lb-hand, {prefix}-force-override-listeners: \"true\"");
    let timeline = format!("timeline: [ {{ at: 5s, apply: {{ inline: {} }} }} ]", further("true", 81));
    let with = |replicas: usize| -> [(String, String); 3] {
        [
            ("timeline: []".to_owned(), timeline.clone()),
            ("SERVICE".to_owned(), service.clone()),
            ("replicaCount: 2".to_owned(), format!("replicaCount: {replicas}")),
        ]
    };
    let is_over = |replicas: usize| {
        let changes = with(replicas);
        let changes = changes.each_ref().map(|(from, to)| (from.as_str(), to.as_str()));
        let (problems, warnings) = told(&changes);
        assert_eq!(problems, [""; 0]);
        warnings
            .iter()
            .any(|it| it.contains("and of the 200 of lb-hand the Service in front has 101: some are left out"))
    };
    assert_eq!([100, 101].map(is_over), [false, true]);
    let changes = with(101);
    let loaded = load(&changes.each_ref().map(|(from, to)| (from.as_str(), to.as_str())));
    let world = loaded.unwrap_or_else(|problems| panic!("{problems}")).world;
    let outcome = run(world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
    let of_quota = |event: &&gatedrill::engine::Event| event.data.contains(&("reason", "quota".into()));
    let failed = outcome.log.events().iter().filter(|event| event.kind == "lb_sync_failed").find(of_quota);
    assert!(failed.is_some(), "two are left over");
}
