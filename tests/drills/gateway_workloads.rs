//! Whole drills whose gateway is no Deployment, or more than one: a `DaemonSet`, pods without a controller, a second Deployment beside the first.
//!
//! Goal: whoever the Service in front selects serves, is drained and is lost as a Deployment's pods are, and the controller of a `DaemonSet` takes no more of them away than it
//! may. Method: small scenarios from memory, run to their end. Losses with a connection for each request are compared with λ/N · (L − X), where X is the end of a process and L the
//! balancer's lag, both as the event log has them.

use std::time::Duration;

use crate::scenarios::loaded;
use crate::shop::{count, lost, moments, ran, refusals, scenario_head, seconds, shop_of_istio_edge};
use gatedrill::drill::{Outcome, Watch};
use gatedrill::manifest::Problems;
use gatedrill::record::results::Pod;
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("workloads", "  duration: 150s\n  seed: 5\n  TARGET\n"),
    r#"  cluster:
    nodes: [ { name: pool, count: 4, zones: [a, b], allocatable: { cpu: "4", memory: 8Gi } } ]
    timings: { podStart: 3s, endpointPropagation: 500ms }
  loadBalancer: { controllerLatency: 8s }
  backends: [ { service: default/web, BACKEND } ]
  load:
    - { name: new, rate: 40/s, arrivals: constant, clients: { reuse: none, timeout: 3s, rtt: 2ms }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ TIMELINE ]
"#
);

/// The Service in front of pods with `app: edge`, and the shop behind.
const FRONT: &str = concat!(
    r#"apiVersion: v1
kind: Service
metadata:
  name: edge
  namespace: istio-system
  annotations:
    service.beta.kubernetes.io/backend-type: eni
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain: "on"
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain-timeout: "30"
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "a:vsw-a,b:vsw-b"
spec:
  type: LoadBalancer
  loadBalancerClass: alibabacloud.com/nlb
  selector: { app: edge }
  ports: [ { name: http, port: 80, targetPort: 80 } ]
"#,
    shop_of_istio_edge!()
);

/// The spec of gateway pods, with an indent of so many spaces.
fn pods(indent: usize) -> String {
    let text = r#"terminationGracePeriodSeconds: 60
containers:
  - name: istio-proxy
    image: proxy:1
    ports: [ { containerPort: 80 } ]
    readinessProbe: { httpGet: { path: /healthz/ready, port: 15021 }, periodSeconds: 1 }
    resources: { requests: { cpu: 500m, memory: 128Mi }, limits: { cpu: "1", memory: 1Gi } }
"#;
    text.lines().map(|line| format!("{:indent$}{line}\n", "")).collect()
}

/// How long its pods drain.
fn annotation(drain: &str) -> String {
    format!("{{ proxy.istio.io/config: \"terminationDrainDuration: {drain}\" }}")
}

const LABELS: &str = "app: edge, istio: edge";

/// The gateway as a `DaemonSet`, with `spec` of its own.
fn daemon(spec: &str) -> String {
    let (pods, annotation) = (pods(6), annotation("2s"));
    format!(
        "---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: {{ name: edge, namespace: istio-system }}\nspec:\n  {spec}\n  selector: {{ matchLabels: {{ app: edge }} }}\n  \
         template:\n    metadata: {{ labels: {{ {LABELS} }}, annotations: {annotation} }}\n    spec:\n{pods}"
    )
}

/// A Deployment with these labels, whose pods drain for so long.
fn deployment(name: &str, replicas: u32, labels: &str, drain: &str) -> String {
    let (pods, annotation) = (pods(6), annotation(drain));
    format!(
        "---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{ name: {name}, namespace: istio-system }}\nspec:\n  replicas: {replicas}\n  selector: {{ matchLabels: {{ {labels} }} }}\n  \
         template:\n    metadata: {{ labels: {{ {labels} }}, annotations: {annotation} }}\n    spec:\n{pods}"
    )
}

/// A pod without a controller, as an item of a flow or a document.
fn bare(name: &str, labels: &str) -> String {
    let (pods, annotation) = (pods(2), annotation("2s"));
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{ name: {name}, namespace: istio-system, labels: {{ {labels} }}, annotations: {annotation} }}\nspec:\n{pods}"
    )
}

/// A drill of these workloads.
#[derive(Clone, Copy)]
struct Drill<'a> {
    timeline: &'a str,
    target: &'a str,
    backend: &'a str,
    workloads: &'a str,
}

const PLAIN: Drill<'_> = Drill { timeline: "", target: "", backend: "serviceTime: 5ms", workloads: "" };

impl Drill<'_> {
    fn load(&self) -> Result<Scenario, Problems> {
        let texts = [("TIMELINE", self.timeline), ("TARGET", self.target), ("BACKEND", self.backend)];
        let scenario = texts.iter().fold(SCENARIO.to_owned(), |text, (name, value)| text.replace(name, value));
        loaded(&scenario, &format!("{FRONT}{}", self.workloads), &[], None)
    }

    fn run(&self) -> Outcome {
        ran(self.load())
    }

    #[track_caller]
    fn is_refused(&self, expected: &str) {
        let found = refusals(self.load());
        let is_told = |text: &String| text.contains(expected) && !text.starts_with("0: ");
        assert!(found.iter().any(is_told), "{}: {found:?}", self.timeline);
    }
}

fn phases(outcome: &Outcome) -> Vec<&str> {
    outcome.run.results.phases.iter().map(|phase| phase.name.as_str()).collect()
}

fn pod<'a>(outcome: &'a Outcome, name: &str) -> &'a Pod {
    let mut all = outcome.run.results.pods.iter();
    all.find(|pod| pod.name == name).unwrap_or_else(|| panic!("no pod {name}"))
}

/// What is lost to pods that end before the balancer has taken them out: λ/N for each second between.
fn expected(outcome: &Outcome, rate_per_s: f64, share: f64) -> f64 {
    let gone = |pod: &&Pod| pod.exited_ms.is_some() && pod.terminating_ms.is_some();
    let each = outcome.run.results.pods.iter().filter(gone).map(|pod| {
        let events = outcome.log.events().iter().filter(|event| event.kind.starts_with("target_deregister"));
        let removed = events.filter(|event| format!("{:?} {}", event.data, event.object).contains(&pod.name));
        let removed_s = removed.map(|event| seconds(event.at.as_nanos())).next().expect("the balancer hears of it");
        #[expect(clippy::cast_precision_loss, reason = "a run has fewer than 2^53 milliseconds")]
        let exited_s = pod.exited_ms.unwrap_or_default() as f64 / 1000.0;
        (removed_s - exited_s).max(0.0) * rate_per_s * share
    });
    each.sum()
}

fn dropped(outcome: &Outcome) -> f64 {
    f64::from(u32::try_from(outcome.run.results.totals.dropped).expect("a few"))
}

#[test]
fn a_killed_pod_of_a_daemon_set_costs_what_one_of_a_deployment_does() {
    let timeline = "{ at: 20s, killPod: { pod: oldest } }";
    let spread = deployment("edge", 4, LABELS, "2s").replace(
        "    spec:\n",
        "    spec:\n      affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [ { topologyKey: kubernetes.io/hostname, \
         labelSelector: { matchLabels: { app: edge } } } ] } }\n",
    );
    let of_daemon = Drill { timeline, workloads: &daemon(""), ..PLAIN }.run();
    let of_deployment = Drill { timeline, workloads: &spread, ..PLAIN }.run();
    for outcome in [&of_daemon, &of_deployment] {
        let (found, expected) = (dropped(outcome), expected(outcome, 40.0, 0.25));
        assert!(expected > 20.0 && (found - expected).abs() <= 2.0, "{found} lost, {expected} expected");
        assert_eq!(phases(outcome), ["before", "kill", "after"]);
    }
    assert!((dropped(&of_daemon) - dropped(&of_deployment)).abs() <= 2.0);
    assert_eq!(lost(&of_daemon).keys().collect::<Vec<_>>(), lost(&of_deployment).keys().collect::<Vec<_>>());
}

#[test]
fn a_restart_goes_from_node_to_node_within_its_limits() {
    for (strategy, down, surge, is_rolled) in [
        ("", 1, 0, true),
        ("updateStrategy: { rollingUpdate: { maxUnavailable: 50% } }", 2, 0, true),
        ("updateStrategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } }", 0, 1, true),
        ("updateStrategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 100% } }", 0, 4, true),
        ("updateStrategy: { type: OnDelete }", 0, 0, false),
    ] {
        let outcome = Drill { timeline: "{ at: 20s, restart: {} }", workloads: &daemon(strategy), ..PLAIN }.run();
        let results = &outcome.run.results;
        let gauges = || outcome.run.seconds.iter().map(|second| &second.gauge);
        let ready_min = gauges().filter_map(|gauge| gauge.pods_ready).min();
        let active = |gauge: &gatedrill::record::Gauge| Some(gauge.pods? - gauge.pods_terminating?);
        let pods_max = gauges().filter_map(active).max();
        assert!(ready_min.is_some_and(|ready| ready >= 4 - down), "{strategy}: {ready_min:?}");
        assert!(pods_max.is_some_and(|pods| pods <= 4 + surge), "{strategy}: {pods_max:?}");
        let made = results.pods.iter().filter(|pod| pod.created_ms > 0).count();
        assert_eq!((made, results.pods.len()), if is_rolled { (4, 8) } else { (0, 4) }, "{strategy}");
        // No node has two pods at work, unless it surges.
        for node in ["pool-1", "pool-2", "pool-3", "pool-4"] {
            let there = results.pods.iter().filter(|pod| pod.node.as_deref() == Some(node));
            assert_eq!(there.count(), if is_rolled { 2 } else { 1 }, "{strategy}: {node}");
        }
        let rollouts: Vec<_> =
            results.rollouts.iter().map(|it| (it.object.as_str(), it.revision, it.complete)).collect();
        let whole = [("istio-system/daemonset/edge", 2, true)];
        assert_eq!(rollouts, if is_rolled { &whole[..] } else { &[] }, "{strategy}");
        if let [rollout] = &results.rollouts[..] {
            assert!(rollout.ready_min >= 4 - down && rollout.pods_max <= 4 + surge, "{strategy}: {rollout:?}");
        }
        assert_eq!(phases(&outcome), ["before", "rollout", "after"], "{strategy}");
        // Each drains for two seconds, and the balancer takes eight and more: losses follow.
        assert_eq!(results.totals.dropped > 40, is_rolled, "{strategy}: {:?}", lost(&outcome));
    }
}

#[test]
fn a_hook_longer_than_the_lag_saves_them_all() {
    let safe = daemon("").replace(
        "    readinessProbe:",
        "    lifecycle: { preStop: { sleep: { seconds: 20 } } }\n          readinessProbe:",
    );
    let outcome = Drill { timeline: "{ at: 10s, restart: {} }", workloads: &safe, ..PLAIN }.run();
    assert_eq!((lost(&outcome).len(), outcome.run.results.pods.len()), (0, 8), "{:?}", lost(&outcome));
    let sigterm = |pod: &Pod| Some(pod.sigterm_ms? - pod.terminating_ms?);
    let hooks: Vec<u64> = outcome.run.results.pods.iter().filter_map(sigterm).collect();
    assert!(hooks.len() == 4 && hooks.iter().all(|ms| (20_000..20_500).contains(ms)), "{hooks:?}");
}

#[test]
fn nodes_that_come_and_go_bring_and_take_their_pod() {
    let workloads = &daemon("");
    let added = Drill { timeline: "{ at: 20s, addNode: { count: 2 } }", workloads, ..PLAIN }.run();
    let last = &added.run.seconds.last().expect("a second").gauge;
    assert_eq!((last.pods_ready, last.lb_targets_healthy), (Some(6), Some(6)), "each new node is one more target");
    assert_eq!((added.run.results.totals.dropped, phases(&added)), (0, vec!["before", "growth", "after"]));
    let drained = |more: &str| {
        let timeline = format!("{{ at: 20s, drainNode: {{ node: busiest{more} }} }}");
        Drill { timeline: &timeline, workloads, ..PLAIN }.run()
    };
    let refused = drained("");
    assert_eq!((moments(&refused, "node_drain_refused").len(), refused.run.results.totals.dropped), (1, 0));
    let passed_over = drained(", ignoreDaemonSets: true");
    assert_eq!((moments(&passed_over, "node_drained").len(), moments(&passed_over, "sigterm").len()), (1, 0));
    assert_eq!(passed_over.run.results.totals.dropped, 0, "its pods stay, and serve");
    let killed = Drill { timeline: "{ at: 20s, killNode: { node: pool-2 } }", workloads, ..PLAIN }.run();
    let codes = lost(&killed);
    assert!(codes.get("GD4110").is_some_and(|count| *count > 20), "{codes:?}");
    assert_eq!(killed.run.results.pods.len(), 4, "nobody makes another elsewhere");
}

#[test]
fn edits_last_as_a_deployments_do_and_an_undo_takes_them_back() {
    let image = "\"target.spec.template.spec.containers[istio-proxy].image\"";
    let whole = daemon("");
    let timeline = format!("{{ at: 10s, set: {{ {image}: proxy:2 }} }}, {{ at: 90s, rollback: {{}} }}");
    let outcome = Drill { timeline: &timeline, workloads: &whole, ..PLAIN }.run();
    let results = &outcome.run.results;
    let revisions: Vec<(u64, bool)> = results.rollouts.iter().map(|it| (it.revision, it.complete)).collect();
    assert_eq!(revisions, [(2, true), (3, true)]);
    let of = |revision: u64| results.pods.iter().filter(|pod| pod.revision == revision).count();
    // A revision that comes back is the newest one by its number.
    assert_eq!((of(1) + of(3), of(2)), (8, 4));
    // `delete` takes the Service along; the DaemonSet alone leaves it.
    let gone = Drill { timeline: "{ at: 10s, delete: {} }", workloads: &whole, ..PLAIN }.run();
    assert_eq!(moments(&gone, "pod_gone").len(), 4);
    let alone =
        Drill { timeline: "{ at: 10s, delete: { daemonSet: istio-system/edge } }", workloads: &whole, ..PLAIN }.run();
    assert_eq!(moments(&alone, "pod_gone").len(), 4);
    assert!(lost(&alone).contains_key("GD4102") || !lost(&alone).is_empty(), "{:?}", lost(&alone));
    assert!(gone.run.results.totals.dropped > 4_000 && alone.run.results.totals.dropped > 4_000);
}

#[test]
fn what_is_applied_again_wins_where_it_says_something_and_what_is_gone_stays_gone() {
    let workloads = &daemon("");
    let again = |before: &str| format!("{{ at: 10s, {before} }}, {{ at: 90s, apply: {{ path: manifests/ }} }}");
    let image = "set: { \"target.spec.template.spec.containers[istio-proxy].image\": proxy:2 }";
    // The mark of a restart is nobody's but kubectl's, so it stays; an image goes back, and the pods with it.
    let unchanged = Drill { timeline: &again("restart: {}"), workloads, ..PLAIN }.load().expect("kubectl takes it");
    assert!(
        unchanged
            .world
            .fidelity
            .iter()
            .any(|row| row.note.as_deref().is_some_and(|note| note.starts_with("unchanged")))
    );
    assert_eq!(refusals(Drill { timeline: &again(image), workloads, ..PLAIN }.load()), Vec::<String>::new());
    for gone in ["delete: { daemonSet: istio-system/edge }", "delete: {}"] {
        Drill { timeline: &again(gone), workloads, ..PLAIN }
            .is_refused("DaemonSet istio-system/edge has been deleted by then");
    }
}

#[test]
fn an_autoscaler_finds_no_size_to_set() {
    let autoscaler = "---\napiVersion: autoscaling/v2\nkind: HorizontalPodAutoscaler\nmetadata: { name: edge, namespace: istio-system }\nspec: { scaleTargetRef: \
                      { apiVersion: apps/v1, kind: DaemonSet, name: edge }, maxReplicas: 5 }\n";
    let scenario = Drill { workloads: &(daemon("") + autoscaler), ..PLAIN }.load().expect("the API server takes it");
    let told = scenario.world.fidelity.iter().filter_map(|row| row.note.as_deref());
    assert_eq!(told.filter(|note| note.contains("FailedGetScale")).count(), 1);
    assert!(scenario.world.members[0].scaling.autoscalers.is_empty());
}

#[test]
fn what_kubectl_does_not_do_is_refused_in_its_words() {
    let workloads = &(daemon("") + &bare("odd", LABELS));
    let not_found = "the server could not find the requested resource";
    for (timeline, expected) in [
        ("{ at: 10s, scale: { replicas: 3 } }", format!("daemonsets.apps \"edge\": {not_found}")),
        ("{ at: 10s, pause: {} }", "daemonsets.apps \"edge\" pausing is not supported".to_owned()),
        ("{ at: 10s, resume: {} }", "daemonsets.apps \"edge\" resuming is not supported".to_owned()),
        ("{ at: 10s, rollback: {} }", "istio-system/daemonset/edge has no revision to go back to then".to_owned()),
        ("{ at: 10s, of: Pod/istio-system/odd, restart: {} }", "pods \"odd\" restarting is not supported".to_owned()),
        (
            "{ at: 10s, of: Pod/istio-system/odd, rollback: {} }",
            "no rollbacker has been implemented for \"Pod\"".to_owned(),
        ),
        ("{ at: 10s, of: istio-system/odd, scale: { replicas: 2 } }", format!("pods \"odd\": {not_found}")),
        (
            "{ at: 10s, of: DaemonSet/istio-system/egde, restart: {} }",
            "no DaemonSet is called `istio-system/egde`".to_owned(),
        ),
        ("{ at: 10s, set: { target.spec.selector.matchLabels.app: other } }", "is not among the labels".to_owned()),
        (
            "{ at: 10s, delete: {} }, { at: 20s, restart: {} }",
            "DaemonSet istio-system/edge has been deleted by then".to_owned(),
        ),
    ] {
        Drill { timeline, workloads, ..PLAIN }.is_refused(&expected);
    }
    let nowhere = daemon("").replace("    spec:\n", "    spec:\n      nodeSelector: { pool: none }\n");
    Drill { workloads: &nowhere, ..PLAIN }.is_refused("no node has what is asked for here");
    Drill { target: "target: DaemonSet/istio-system/egde", workloads, ..PLAIN }
        .is_refused("no DaemonSet is called `istio-system/egde`");
    let beside = daemon("") + &deployment("edge", 2, LABELS, "2s");
    for target in
        ["target: DaemonSet/istio-system/edge", "target: istio-system/edge", "target: Deployment/istio-system/edge"]
    {
        assert!(Drill { target, workloads: &beside, ..PLAIN }.load().is_ok(), "{target}");
    }
}

#[test]
fn it_ends_as_its_kind_does() {
    let (target, workloads) = ("gateway: { kind: contour }", &daemon(""));
    let of_kind = Drill { target, workloads, ..PLAIN }.load().expect("a DaemonSet may be of any kind");
    let usual = Drill { workloads, ..PLAIN }.load().expect("it is whole");
    let moves = |scenario: &Scenario| format!("{:?}", scenario.world.members[0].target_spec().agent.shutdown);
    assert_ne!(moves(&of_kind), moves(&usual));
    let of_deployment = deployment("edge", 4, LABELS, "2s");
    let of_deployment = Drill { target, workloads: &of_deployment, ..PLAIN }.load().expect("so may a Deployment");
    assert_eq!(moves(&of_kind), moves(&of_deployment));
}

#[test]
fn views_show_the_set() {
    let workloads = daemon("");
    let mut scenario =
        Drill { timeline: "{ at: 10s, restart: {} }", workloads: &workloads, ..PLAIN }.load().expect("it is whole");
    scenario.world.watch = Some(Watch::At(vec![Duration::from_secs(5)]));
    let outcome = ran::<String>(Ok(scenario));
    let table = outcome.objects[0].tables.iter().find(|table| table.kind == "ds").expect("a table of them");
    assert_eq!(table.rows[0][..6], ["edge", "4", "4", "4", "4", "4"].map(str::to_owned));
    assert!(outcome.objects[0].tables.iter().any(|table| table.kind == "pods" && table.rows.len() == 4));
}

#[test]
fn a_pod_beside_a_deployment_serves_its_share_until_it_goes_for_good() {
    let workloads = deployment("edge", 3, LABELS, "2s") + &bare("canary", &format!("{LABELS}, track: canary"));
    let quiet = Drill { workloads: &workloads, ..PLAIN }.run();
    assert_eq!(quiet.run.results.totals.dropped, 0);
    let served: Vec<u64> = quiet.run.results.pods.iter().map(|pod| pod.requests).collect();
    assert!(served.len() == 4 && served.iter().all(|count| served[0].abs_diff(*count) <= 2), "{served:?}");
    let timeline = "{ at: 20s, of: Pod/istio-system/canary, killPod: {} }";
    let killed = Drill { timeline, workloads: &workloads, ..PLAIN }.run();
    let (found, expected) = (dropped(&killed), expected(&killed, 40.0, 0.25));
    assert!(expected > 20.0 && (found - expected).abs() <= 2.0, "{found} lost, {expected} expected");
    assert_eq!(pod(&killed, "istio-system/canary").dropped, killed.run.results.totals.dropped);
    assert_eq!((killed.run.results.pods.len(), phases(&killed)), (4, vec!["before", "kill", "after"]));
    assert_eq!(killed.run.seconds.last().and_then(|second| second.gauge.lb_targets_healthy), Some(3));
}

#[test]
fn pods_without_a_controller_are_gateways_by_themselves() {
    let workloads = bare("edge-1", LABELS) + &bare("edge-2", LABELS);
    let quiet = Drill { workloads: &workloads, ..PLAIN }.run();
    assert_eq!((quiet.run.results.totals.dropped, quiet.run.results.pods.len()), (0, 2));
    let both = "{ at: 20s, delete: {} }";
    let gone = Drill { timeline: both, workloads: &workloads, ..PLAIN }.run();
    assert!(gone.run.results.totals.dropped > 4_000, "with the target goes its Service");
    let one = Drill { timeline: "{ at: 20s, killPod: {} }", workloads: &workloads, ..PLAIN }.run();
    let (found, expected) = (dropped(&one), expected(&one, 40.0, 0.5));
    assert!(expected > 40.0 && (found - expected).abs() <= 2.0, "{found} lost, {expected} expected");
}

#[test]
fn a_gateway_pod_whose_image_is_edited_drains_and_comes_back_as_the_same_target() {
    let workloads = bare("edge-1", LABELS) + &bare("edge-2", LABELS);
    let timeline = r#"{ at: 20s, set: { "Pod/istio-system/edge-1.spec.containers[0].image": "proxy:2" } }"#;
    let edited = Drill { timeline, workloads: &workloads, ..PLAIN }.run();
    let counts =
        ["pod_created", "container_started", "sigterm", "target_deregistered"].map(|kind| count(&edited, kind));
    assert_eq!(counts, [2, 3, 1, 1], "it is the same pod");
    // Its drain is as long as the balancer takes, and its image is there: next to nothing is lost.
    let found = dropped(&edited);
    assert!(found <= 5.0, "{found} lost");
}

#[test]
fn a_second_deployment_has_its_own_end_and_its_own_lines() {
    let canary = deployment("canary", 1, "app: edge, istio: edge, track: canary", "0.5s");
    let workloads = deployment("edge", 3, "app: edge, istio: edge, track: stable", "30s") + &canary;
    Drill { workloads: &workloads, ..PLAIN }.is_refused("there are 2 gateways: istio-system/canary, istio-system/edge");
    let target = "target: istio-system/edge";
    let restarted = |of: &str| {
        let timeline = format!("{{ at: 20s, of: istio-system/{of}, restart: {{}} }}");
        Drill { timeline: &timeline, target, workloads: &workloads, ..PLAIN }.run()
    };
    assert_eq!(lost(&restarted("edge")).len(), 0, "it drains for longer than the balancer takes");
    let outcome = restarted("canary");
    let (found, expected) = (dropped(&outcome), expected(&outcome, 40.0, 0.2));
    assert!(found > 10.0 && (found - expected).abs() <= expected * 0.3, "{found} lost, {expected} expected");
    let all = format!("{FRONT}{workloads}");
    let line = all.lines().position(|line| line.contains("terminationDrainDuration: 0.5s")).expect("it is written") + 1;
    for cause in &outcome.run.results.causes {
        let source = cause.source.as_ref().expect("a setting decides it");
        assert_eq!(source.line, u32::try_from(line).ok(), "{}: {source:?}", cause.code);
    }
    assert_eq!(outcome.run.results.rollouts.len(), 1);
}

#[test]
fn a_selector_that_moves_to_the_other_deployment_costs_the_time_of_its_first_checks() {
    let workloads = deployment("blue", 2, "app: edge, istio: edge, colour: blue", "30s")
        + &deployment("green", 2, "app: edge, istio: edge, colour: green", "30s");
    // The pods listen on another port than the Service, so somebody has to say which.
    let moved = FRONT.replace("selector: { app: edge }", "selector: { app: edge, colour: blue }");
    let moved = moved.replace("targetPort: 80 }", "targetPort: 8080 }");
    let timeline = "{ at: 20s, set: { Service/istio-system/edge.spec.selector.colour: green } }";
    let scenario = SCENARIO
        .replace("TIMELINE", timeline)
        .replace("TARGET", "target: istio-system/blue")
        .replace("BACKEND", "serviceTime: 5ms");
    let outcome = ran(loaded(&scenario, &format!("{moved}{workloads}"), &[], None));
    let served = |colour: &str| -> Vec<u64> {
        let its = outcome.run.results.pods.iter().filter(|pod| pod.name.contains(colour));
        its.map(|pod| pod.requests).collect()
    };
    assert_eq!((served("blue").len(), served("green").len()), (2, 2));
    assert!(served("blue").iter().all(|count| *count > 400) && served("green").iter().all(|count| *count > 2000));
    // Nothing else is lost: whoever is asked from then on is a gateway.
    assert_eq!(lost(&outcome).keys().collect::<Vec<_>>(), [&"GD4130"]);
    let is_green =
        |event: &&gatedrill::engine::Event| event.kind == "target_healthy" && format!("{event:?}").contains("green");
    let healthy = outcome.log.events().iter().find(is_green).expect("a check passes");
    let last_ms = outcome.run.results.causes[0].last_ms;
    assert!(last_ms <= healthy.at.as_nanos() / 1_000_000, "{last_ms} {healthy:?}");
}

#[test]
fn pods_that_no_gateway_selects_are_none_and_others_are_refused() {
    let plain = deployment("edge", 2, LABELS, "2s");
    // Nothing listens there, so the balancer's checks fail, and it sends nobody.
    let stranger = plain.clone() + &bare("odd", "app: edge");
    let outcome = Drill { workloads: &stranger, ..PLAIN }.run();
    let note = |row: &&gatedrill::record::results::Fidelity| row.path == "Pod istio-system/odd" && row.line.is_some();
    let told = outcome.run.results.fidelity.iter().find(note).and_then(|row| row.note.clone());
    assert!(told.as_ref().is_some_and(|told| told.contains("no Gateway does")), "{told:?}");
    assert_eq!((outcome.run.results.pods.len(), moments(&outcome, "target_healthy").len()), (2, 0));
    // Another Gateway is another configuration.
    let gateway = "---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: { name: odd, namespace: istio-system }\nspec: { selector: { odd: \"yes\" }, servers: \
                   [ { port: { number: 80, name: http, protocol: HTTP }, hosts: [\"odd.example.com\"] } ] }\n";
    let other = plain.clone() + &bare("odd", "app: edge, odd: \"yes\"") + gateway;
    Drill { workloads: &other, ..PLAIN }
        .is_refused("their Gateways and routes are others than those of istio-system/edge");
    let claimed = plain + &bare("odd", LABELS);
    Drill { backend: "pod: istio-system/odd, serviceTime: 5ms", workloads: &claimed, ..PLAIN }
        .is_refused("in front selects this pod, which is a backend's");
}
