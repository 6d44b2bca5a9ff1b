//! What scenarios and manifests say of a gateway's end: which of several sources decides, which line a cause points to, what is warned of, what
//! is refused.

use std::time::Duration;

use crate::scenarios::loaded;
use crate::shop::{scenario_head, shop_of_istio_edge};
use gatedrill::drill::{Continue, run};
use gatedrill::gateway::shutdown::{Contour, Haproxy, IngressNginx, StopSignal, Traefik};
use gatedrill::gateway::{DrainStrategy, Move, Order, ShutdownMode};
use gatedrill::record::CauseCode;
use gatedrill::record::results::FidelityStatus;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("shutdown", "  duration: 40s\n  seed: 5\n"),
    r#"  loadBalancer: { controllerLatency: 1s }
  cluster: { version: "1.33" }
  gateway: { istio: "1.26" }
  backends: [ { service: default/web, replicas: 2, serviceTime: 5ms, errorRatio: 0 } ]
  load:
    - name: all
      rate: 50/s
      arrivals: constant
      clients: { connections: 20, reuse: none, rtt: 2ms }
      mix: [ { weight: 1, get: "http://shop.example.com/" } ]
  timeline: []
"#
);

/// `ANNOTATIONS` is on line 6, those of the Service on line 12.
const MADE: &str = r#"apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata:
  name: edge
  namespace: istio-system
  annotations: { ANNOTATIONS }
spec:
  gatewayType: ingress
  replicaCount: 2
  loadBalancerClass: alibabacloud.com/nlb
  serviceAnnotations:
    SERVICE
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "a:vsw-a,b:vsw-b"
  ports: [ { name: http, port: 80, targetPort: 80, protocol: TCP } ]
"#;

/// The pod's annotations are on line 9, its grace on line 11, its image on line 14, its hook on line 15, its environment on line 16.
const WRITTEN: &str = r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system }
spec:
  selector: { matchLabels: { istio: edge } }
  template:
    metadata:
      labels: { istio: edge }
      annotations: { ANNOTATIONS }
    spec:
      terminationGracePeriodSeconds: GRACE
      containers:
        - name: istio-proxy
          image: IMAGE
          lifecycle: { HOOK }
          env: [ ENV ]
          ports: [ { containerPort: 80 } ]
---
apiVersion: v1
kind: Service
metadata: { name: edge, namespace: istio-system }
spec: { type: LoadBalancer, selector: { istio: edge }, ports: [ { port: 80 } ] }
"#;

/// A scenario of these manifests with words changed; what is left of the placeholders goes.
fn load(manifest: &str, changes: &[(&str, &str)]) -> Result<Scenario, String> {
    let (mut text, mut manifest) = (SCENARIO.to_owned(), manifest.to_owned() + shop_of_istio_edge!());
    for (from, to) in changes {
        assert!(text.contains(from) || manifest.contains(from), "`{from}` is not there");
        (text, manifest) = (text.replacen(from, to, 1), manifest.replacen(from, to, 1));
    }
    let rest =
        [("ANNOTATIONS", ""), ("SERVICE\n    ", ""), ("GRACE", "60"), ("IMAGE", "proxy"), ("HOOK", ""), ("ENV", "")];
    for (from, to) in rest {
        manifest = manifest.replacen(from, to, 1);
    }
    loaded(&text, &manifest, &[], None).map_err(|problems| problems.to_string())
}

#[track_caller]
fn right(manifest: &str, changes: &[(&str, &str)]) -> Scenario {
    load(manifest, changes).unwrap_or_else(|problems| panic!("{problems}"))
}

fn warnings(scenario: &Scenario) -> Vec<String> {
    let rows = scenario.world.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
    let told = rows.map(|row| {
        let place = row.line.map_or("-".to_owned(), |line| line.to_string());
        format!("{place} {}", row.note.as_deref().unwrap_or_default())
    });
    told.collect()
}

const DRAIN: &str = "service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain";

/// The Service's annotations for draining, on line 12.
fn draining(flag: &str, timeout: &str) -> String {
    match timeout {
        "" => format!("{DRAIN}: \"{flag}\"\n    "),
        timeout => format!("{DRAIN}-timeout: \"{timeout}\"\n    {DRAIN}: \"{flag}\"\n    "),
    }
}

/// Requests on their way to a connection that the gateway closes as idle, and ends right after: it had never heard of them.
#[test]
fn who_was_idle_when_a_gateway_quit_was_not_in_flight() {
    for (kind, path) in [
        ("kind: haproxy", "spec.gateway.haproxy.grace"),
        ("kind: traefik", "spec.gateway.traefik.requestAcceptGraceTimeout"),
    ] {
        let scenario = right(
            WRITTEN,
            &[
                ("istio: \"1.26\"", kind),
                ("rate: 50/s", "rate: 200/s"),
                ("connections: 20, reuse: none, rtt: 2ms", "connections: 300, reuse: lru, rtt: 200ms"),
                ("timeline: []", "timeline: [ { at: 10s, killPod: {} } ]"),
            ],
        );
        let outcome = run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
        let causes = &outcome.run.results.causes;
        assert!(causes.iter().all(|cause| cause.name != "exit-in-flight"), "{causes:?}");
        let race = causes.iter().find(|cause| cause.name == "keepalive-race").expect("some were on their way");
        assert_eq!(race.source.as_ref().map(|source| source.path.as_str()), Some(path));
    }
}

const OLD: (&str, &str) = ("istio: \"1.26\"", "istio: \"1.24\"");

#[test]
fn shutdown_settings_that_will_be_regretted_are_warned_of_with_their_line() {
    let annotation = |seconds: &str| format!("asm.alibabacloud.com/gateway-drain-timeout-seconds: \"{seconds}\"");
    let (thirty, on_10, on_30, on_31, on_true, off) = (
        annotation("30"),
        draining("on", "10"),
        draining("on", "30"),
        draining("on", "31"),
        draining("true", ""),
        draining("off", ""),
    );
    let pod = "proxy.istio.io/config: \"terminationDrainDuration: 20s\"";
    let sleep = "preStop: { sleep: { seconds: 10 } }";
    let program = "preStop: { exec: { command: [/bin/sleep, \"10\"] } }";
    for (manifest, changes, expected) in [
        // The 30 s rule of the first generation. The pod's end is the same in both.
        (MADE, &[OLD, ("SERVICE\n    ", &*on_30)][..], &[][..]),
        (
            MADE,
            &[OLD, ("SERVICE\n    ", &*on_31)],
            &["12 the balancer keeps connections for 31 s, and the pod is killed after 30 s"],
        ),
        (
            MADE,
            &[("SERVICE\n    ", &*on_31)],
            &["12 the balancer keeps connections for 31 s, and the pod is killed after 30 s"],
        ),
        // Written otherwise than "on" at an NLB.
        (MADE, &[("SERVICE\n    ", &*on_true)], &["12 `true` is parsed as off"]),
        (MADE, &[("SERVICE\n    ", &*off)], &[]),
        // The annotation of the second generation.
        (MADE, &[("ANNOTATIONS", &*thirty)], &[]),
        (MADE, &[OLD, ("ANNOTATIONS", &*thirty)], &["6 ASM 1.24 does not know it: it has no effect before 1.26"]),
        (
            MADE,
            &[("istio: \"1.26\"", "edition: standard"), ("ANNOTATIONS", &*thirty)],
            &["6 it is documented for the editions Enterprise and Ultimate only"],
        ),
        (
            MADE,
            &[("istio: \"1.26\"", "istio: \"1.24\", edition: standard"), ("SERVICE\n    ", &*on_10)],
            &["12 graceful shutdown is documented for the editions"],
        ),
        // preStop and drain inside the grace period.
        (WRITTEN, &[("ANNOTATIONS", pod), ("HOOK", sleep), ("GRACE", "31")], &[]),
        (
            WRITTEN,
            &[("ANNOTATIONS", pod), ("HOOK", sleep), ("GRACE", "30")],
            &[
                "11 preStop 10s and a shutdown of up to 20s do not fit into the grace period of 30s: SIGKILL comes after 20s",
            ],
        ),
        (
            WRITTEN,
            &[("ANNOTATIONS", pod), ("GRACE", "10")],
            &[
                "11 preStop 0s and a shutdown of up to 20s do not fit into the grace period of 10s: SIGKILL comes after 10s",
            ],
        ),
        // Listeners that close before the process ends.
        (WRITTEN, &[("ANNOTATIONS", "proxy.istio.io/config: \"drainDuration: 5s\"")], &[]),
        (
            WRITTEN,
            &[("ANNOTATIONS", "proxy.istio.io/config: \"drainDuration: 4s\"")],
            &["9 the listeners close 1s before the process ends"],
        ),
        // A drain that the mode does not heed.
        (
            WRITTEN,
            &[("ANNOTATIONS", pod), ("ENV", "{ name: EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: \"true\" }")],
            &["9 it has no effect: env.EXIT_ON_ZERO_ACTIVE_CONNECTIONS"],
        ),
        // Hooks that fail, or do nothing.
        (WRITTEN, &[("HOOK", program)], &[]),
        (
            WRITTEN,
            &[("HOOK", program), ("IMAGE", "proxyv2:1.26.1-distroless")],
            &["15 the image is distroless and has no `/bin/sleep`"],
        ),
        (WRITTEN, &[("HOOK", sleep), ("IMAGE", "proxyv2:1.26.1-distroless")], &[]),
        (
            WRITTEN,
            &[("HOOK", program), ("ANNOTATIONS", "proxy.istio.io/config: \"image: { imageType: distroless }\"")],
            &["15 the image is distroless"],
        ),
        (
            WRITTEN,
            &[("HOOK", "preStop: { httpGet: { port: 15000, path: /healthcheck/fail } }")],
            &["15 Envoy's administration listens on localhost alone"],
        ),
        (
            WRITTEN,
            &[("HOOK", "preStop: { exec: { command: [sh, -c, \"curl localhost:15000/healthcheck/fail; sleep 9\"] } }")],
            &["15 a GET changes nothing"],
        ),
        // Another kind's own end.
        (WRITTEN, &[("istio: \"1.26\"", "kind: traefik")], &[]),
        (
            WRITTEN,
            &[("istio: \"1.26\"", "kind: ingress-nginx"), ("GRACE", "250")],
            &["11 preStop 0s and a shutdown of up to 4m10s do not fit into the grace period of 4m10s"],
        ),
        (WRITTEN, &[("istio: \"1.26\"", "kind: ingress-nginx"), ("GRACE", "251")], &[]),
    ] {
        let told = warnings(&right(manifest, changes));
        assert_eq!(told.len(), expected.len(), "{changes:?}: {told:?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{changes:?}: `{expected}` is not in {told}");
        }
    }
}

#[test]
fn shutdown_settings_that_cannot_be_are_refused() {
    let clb = ("  loadBalancerClass: alibabacloud.com/nlb\n", "");
    let annotation = |seconds: &str| format!("asm.alibabacloud.com/gateway-drain-timeout-seconds: \"{seconds}\"");
    let (nine, on_only, on_true, too_long, short) =
        (annotation("9"), draining("on", ""), draining("true", ""), draining("on", "901"), draining("on", "9"));
    let sleep = |seconds: u32| format!("preStop: {{ sleep: {{ seconds: {seconds} }} }}");
    let (sleep_5, sleep_0) = (sleep(5), sleep(0));
    let version = |to: &'static str| ("version: \"1.33\"", to);
    for (manifest, changes, parts) in [
        (MADE, &[("ANNOTATIONS", &*nine)][..], &["all.yaml:6:", "9 s is out of range", "write 10 to 890"][..]),
        (
            MADE,
            &[clb, ("SERVICE\n    ", &*on_only)],
            &["its timeout is missing: the API rejects that", "such as \"30\""],
        ),
        (MADE, &[clb, ("SERVICE\n    ", &*on_true)], &["all.yaml:11:", "`true` is neither on nor off"]),
        (MADE, &[("SERVICE\n    ", &*too_long)], &["all.yaml:12:", "`901` is no number from 10 to 900"]),
        (MADE, &[("SERVICE\n    ", &*short)], &["all.yaml:12:", "`9` is no number from 10 to 900"]),
        (
            WRITTEN,
            &[version("version: \"1.29\""), ("HOOK", &*sleep_5)],
            &["all.yaml:15:", "Kubernetes 1.29 has no `sleep` for hooks"],
        ),
        (WRITTEN, &[version("version: \"1.32\""), ("HOOK", &*sleep_0)], &["all.yaml:15:", "wants more than 0 seconds"]),
        (
            MADE,
            &[("istio: \"1.26\"", "kind: traefik")],
            &["drill.yaml:11:", "made by an IstioGateway", "write kind: istio"],
        ),
        (WRITTEN, &[("istio: \"1.26\"", "kind: treafik")], &["`treafik` is not known here", "did you mean `traefik`?"]),
        (
            WRITTEN,
            &[("istio: \"1.26\"", "kind: traefik, haproxy: { grace: 1s }")],
            &["spec.gateway.haproxy", "these are settings of kind haproxy, and the gateway is of kind traefik"],
        ),
        (
            WRITTEN,
            &[("istio: \"1.26\"", "kind: haproxy, terminationDrainDuration: 9s")],
            &["spec.gateway.terminationDrainDuration", "a setting of kind istio", "under gateway.haproxy"],
        ),
        (
            WRITTEN,
            &[("istio: \"1.26\"", "kind: ingress-nginx, ingressNginx: { workerShutdownTimout: 5s }")],
            &["did you mean `workerShutdownTimeout`?"],
        ),
        (
            WRITTEN,
            &[("istio: \"1.26\"", "kind: contour, contour: { checkInterval: 0s }")],
            &["spec.gateway.contour.checkInterval", "longer than nothing"],
        ),
        (
            WRITTEN,
            &[(
                "ENV",
                "{ name: EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: \"true\" }, { name: MINIMUM_DRAIN_DURATION, value: \"7\" }",
            )],
            &["env.MINIMUM_DRAIN_DURATION", "has no unit"],
        ),
    ] {
        let told = load(manifest, changes).expect_err(&format!("{changes:?}"));
        for part in parts {
            assert!(told.contains(part), "`{part}` is not in\n{told}");
        }
    }
    // Both sides of the versions.
    right(WRITTEN, &[version("version: \"1.30\""), ("HOOK", &*sleep_5)]);
    right(WRITTEN, &[("HOOK", &*sleep_0)]);
}

fn moves(scenario: &Scenario) -> Vec<Move> {
    scenario.world.members[0].target_spec().agent.shutdown.clone()
}

/// The line, the path and the value behind a cause.
fn source(scenario: &Scenario, code: CauseCode) -> (Option<u32>, String, Option<String>) {
    let source = &scenario.world.members[0].sources[&code];
    (source.line, source.path.clone(), source.value.clone())
}

const OBJECTS: &str = r#"
---
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: { name: mesh, namespace: istio-system }
spec: { environmentVariables: { EXIT_ON_ZERO_ACTIVE_CONNECTIONS: "VALUE" } }
---
apiVersion: istio.alibabacloud.com/v1
kind: ASMProxyConfig
metadata: { name: mesh, namespace: istio-system }
spec: { terminationDrainDuration: 40s, concurrency: 3 }
"#;

#[test]
fn shutdown_is_decided_by_the_closest_source_and_causes_point_to_its_line() {
    let with_objects = |zero: &str| format!("{WRITTEN}{}", OBJECTS.replace("VALUE", zero));
    let wait = |seconds| ShutdownMode::Drain { duration: Duration::from_secs(seconds) }.moves();
    let zero = |seconds| ShutdownMode::ExitOnZero { minimum: Duration::from_secs(seconds) }.moves();
    let check = |manifest: &str, changes: &[(&str, &str)], expected: Vec<Move>, line: Option<u32>, path: &str| {
        let scenario = right(manifest, changes);
        assert_eq!(moves(&scenario), expected, "{changes:?}");
        let (found, name, _) = source(&scenario, CauseCode::LbStaleTarget);
        assert_eq!((found, &*name), (line, path), "{changes:?}");
        scenario
    };
    let annotation = ("ANNOTATIONS", "proxy.istio.io/config: \"terminationDrainDuration: 20s\"");
    let mesh = ("istio: \"1.26\"", "terminationDrainDuration: 8s");
    let env = "{ name: EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: \"true\" }";
    // Nobody says anything: the line where it would be said.
    check(WRITTEN, &[], wait(5), Some(8), "spec.template.metadata.annotations[proxy.istio.io/config]");
    check(MADE, &[], wait(5), Some(6), "metadata.annotations[asm.alibabacloud.com/gateway-drain-timeout-seconds]");
    check(WRITTEN, &[mesh], wait(8), Some(11), "spec.gateway.terminationDrainDuration");
    let off = with_objects("false");
    let scenario = check(&off, &[mesh], wait(40), Some(33), "spec.terminationDrainDuration");
    assert_eq!(scenario.world.members[0].target_spec().workers, 3);
    let path = "metadata.annotations[proxy.istio.io/config].terminationDrainDuration";
    check(&off, &[mesh, annotation], wait(20), Some(9), path);
    let path = "spec.environmentVariables.EXIT_ON_ZERO_ACTIVE_CONNECTIONS";
    check(&with_objects("true"), &[], zero(5), Some(28), path);
    let no = ("ENV", "{ name: EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: \"false\" }");
    check(&with_objects("true"), &[no], wait(40), Some(33), "spec.terminationDrainDuration");
    let both = format!("{env}, {{ name: MINIMUM_DRAIN_DURATION, value: 9s }}");
    check(WRITTEN, &[("ENV", &both)], zero(9), Some(16), "env.EXIT_ON_ZERO_ACTIVE_CONNECTIONS");
    // Of hook and drain the longer one decides.
    let hook = |seconds| format!("preStop: {{ sleep: {{ seconds: {seconds} }} }}");
    check(
        WRITTEN,
        &[("HOOK", &hook(6))],
        wait(5),
        Some(15),
        "spec.template.spec.containers[0].lifecycle.preStop.sleep",
    );
    check(WRITTEN, &[("HOOK", &hook(4)), mesh], wait(8), Some(11), "spec.gateway.terminationDrainDuration");
    // Envoy's drain time has a line of its own.
    let drain = ("ANNOTATIONS", "proxy.istio.io/config: \"drainDuration: 3s\"");
    let (line, path, value) = source(&right(WRITTEN, &[drain]), CauseCode::ListenerDrained);
    assert_eq!(
        (line, &*path, value.as_deref()),
        (Some(9), "metadata.annotations[proxy.istio.io/config].drainDuration", Some("3s"))
    );
    let timers = ("istio: \"1.26\"", "drainStrategy: gradual, drainTimeout: 2s, delayedCloseTimeout: 3s");
    let scenario = right(WRITTEN, &[timers]);
    let found = scenario.world.members[0].target_spec().config.drain;
    assert_eq!(found.strategy, DrainStrategy::Gradual);
    assert_eq!((found.drain_timeout.as_secs(), found.delayed_close.as_secs()), (2, 3));
}

#[test]
fn shutdown_of_each_kind_follows_its_settings() {
    let s = Duration::from_secs;
    for (gateway, expected, path) in [
        (
            "kind: ingress-nginx, ingressNginx: { shutdownGracePeriod: 7s, workerShutdownTimeout: 9s }",
            IngressNginx { shutdown_grace_period: s(7), worker_shutdown_timeout: s(9), ..IngressNginx::DEFAULT }
                .moves(),
            "spec.gateway.ingressNginx.shutdownGracePeriod",
        ),
        (
            "kind: contour, contour: { drainDelay: 1s, checkDelay: 7s, checkInterval: 2s, minOpenConnections: 4 }",
            Contour { drain_delay: s(1), check_delay: s(7), check_interval: s(2), min_open_connections: 4 }.moves(),
            "spec.gateway.contour.checkDelay",
        ),
        (
            "kind: traefik, traefik: { requestAcceptGraceTimeout: 7s }",
            Traefik { request_accept_grace_timeout: s(7), ..Traefik::DEFAULT }.moves(),
            "spec.gateway.traefik.requestAcceptGraceTimeout",
        ),
        (
            "kind: haproxy, haproxy: { grace: 7s, hardStopAfter: 9s, monitorFailIfStopping: true }",
            Haproxy { grace: s(7), hard_stop_after: Some(s(9)), monitor_fail_if_stopping: true, ..Haproxy::DEFAULT }
                .moves(),
            "spec.gateway.haproxy.grace",
        ),
        (
            "kind: haproxy, haproxy: { stopSignal: SIGTERM }",
            Haproxy { stop_signal: StopSignal::Term, ..Haproxy::DEFAULT }.moves(),
            "spec.gateway.haproxy.stopSignal",
        ),
    ] {
        let scenario = right(WRITTEN, &[("istio: \"1.26\"", gateway)]);
        assert_eq!(moves(&scenario), expected, "{gateway}");
        let (line, found, _) = source(&scenario, CauseCode::LbStaleTarget);
        assert_eq!((line, &*found), (Some(11), path));
        // What a run folder keeps is the same gateway.
        let again = loaded(&scenario.resolved, "", &[], None).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(moves(&again), expected, "{}", scenario.resolved);
    }
}

#[test]
fn shutdown_hooks_order_the_gateway_while_they_run() {
    let command =
        "preStop: { exec: { command: [sh, -c, \"sleep 2; pilot-agent request POST healthcheck/fail; sleep 10\"] } }";
    let restart = ("timeline: []", "timeline: [ { at: 5s, restart: {} } ]");
    let three = ("  selector: { matchLabels", "  replicas: 3\n  selector: { matchLabels");
    let scenario = right(WRITTEN, &[("HOOK", command), restart, three]);
    let gateway = scenario.world.members[0].target_spec();
    assert_eq!(gateway.pre_stop, [(Duration::from_secs(2), Order::TellToLeave)]);
    let outcome = run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
    let times = |kind: &str| -> Vec<u64> {
        let events = outcome.log.events().iter().filter(|event| event.kind == kind);
        events.map(|event| event.at.as_nanos() / 1_000_000).collect()
    };
    let (started, told, sigterm) = (times("prestop_started"), times("drain_started"), times("sigterm"));
    assert!(!started.is_empty() && sigterm.len() == started.len(), "{started:?} {sigterm:?}");
    // By the hook after 2 s, and by the agent's own drain at SIGTERM after 12 s.
    let mut expected: Vec<u64> = started.iter().flat_map(|at| [at + 2000, at + 12_000]).collect();
    expected.sort_unstable();
    assert_eq!(told, expected);
    assert!(started.iter().zip(&sigterm).all(|(started, sigterm)| sigterm - started == 12_000));
}

#[test]
fn shutdown_annotations_edited_in_mid_run_restart_the_gateway() {
    let path = "IstioGateway/edge.metadata.annotations[asm.alibabacloud.com/gateway-drain-timeout-seconds]";
    let edit = format!("timeline:\n    - at: 5s\n      set:\n        {path}: \"20\"");
    let told = |changes: &[(&str, &str)]| {
        let rows = load(MADE, changes).expect("it is right").world.fidelity;
        rows.iter()
            .any(|row| row.note.as_deref().is_some_and(|note| note.contains("no pod restarts, and nothing changes")))
    };
    let restarted = |changes: &[(&str, &str)]| {
        let scenario = load(MADE, changes)?;
        let outcome = run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
        Ok::<_, String>(outcome.run.results.pods.iter().filter(|pod| pod.terminating_ms.is_some()).count())
    };
    let edit = ("timeline: []", &*edit);
    assert_eq!(restarted(&[edit]), Ok(2));
    // Before 1.26 nobody heeds it.
    assert_eq!(restarted(&[OLD, edit]), Ok(0));
    assert!(told(&[OLD, edit]) && !told(&[edit]));
}

#[test]
fn what_only_istio_reads_is_ignored_for_other_kinds() {
    let config = ("ANNOTATIONS", "proxy.istio.io/config: \"terminationDrainDuration: 20s\"");
    let env = ("ENV", "{ name: EXIT_ON_ZERO_ACTIVE_CONNECTIONS, value: \"true\" }");
    let ignored = |kind: &str| -> Vec<u32> {
        let scenario = right(WRITTEN, &[config, env, ("istio: \"1.26\"", kind)]);
        let rows = scenario.world.fidelity.iter().filter(|row| row.status == FidelityStatus::Ignored);
        rows.filter(|row| row.note.as_deref().is_some_and(|it| it.contains("only Istio's")))
            .filter_map(|row| row.line)
            .collect()
    };
    assert_eq!(ignored("kind: traefik"), [9, 16]);
    assert_eq!(ignored("kind: istio"), [0_u32; 0]);
}
