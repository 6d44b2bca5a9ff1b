//! Whole drills with several clusters: who comes where, and what a mishap in one cluster costs.
//!
//! Goal: each cluster has a gateway of its own, with its own settings, pods and balancer; what happens in one is lost by its share of the clients
//! alone; and everything that is told says which cluster it is of. Method: small scenarios from memory, run to their end.

use crate::scenarios::loaded;
use crate::shop::{scenario_head, shop_of_istio_edge};
use gatedrill::drill::{Continue, Outcome, Verb, run};
use gatedrill::edge::OnRemoval;
use gatedrill::scenario::Scenario;
use std::time::Duration;

const SCENARIO: &str = concat!(
    scenario_head!("clusters", "  duration: 60s\n  seed: 5\n"),
    r#"  clusters:
    - { id: c-1, weight: 3, nodes: [ { name: pool, count: 2, zones: [a, b] } ], timings: { podStart: 3s } }
    - { id: c-2, nodes: [ { name: pool, count: 3, zones: [a, b, c] } ], timings: { podStart: 3s } }
  loadBalancer: { controllerLatency: 2s }
  backends: [ { service: default/web } ]
  load:
    - { name: new, rate: 100/s, clients: { reuse: none, timeout: 2s }, mix: [ { get: "http://shop.example.com/" } ] }
  timeline: [ TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    r#"
apiVersion: istio.alibabacloud.com/v1
kind: IstioGateway
metadata: { name: edge, namespace: istio-system }
spec:
  gatewayType: ingress
  clusterIds: [c-1, c-2]
  replicaCount: 2
  serviceType: LoadBalancer
  loadBalancerClass: alibabacloud.com/nlb
  serviceAnnotations:
    service.beta.kubernetes.io/alibaba-cloud-loadbalancer-zone-maps: "a:vsw-a,b:vsw-b"
  ports: [ { name: http, port: 80, targetPort: 80, protocol: TCP } ]
  overrides:
    c-2:
      replicaCount: 3
      resources: { limits: { cpu: "1", memory: 1G }, requests: { cpu: 300m, memory: 256Mi } }
      serviceAnnotations:
        service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain: "on"
        service.beta.kubernetes.io/alibaba-cloud-loadbalancer-connection-drain-timeout: "20"
"#,
    shop_of_istio_edge!()
);

fn scenario(text: &str, manifest: &str) -> Scenario {
    loaded(text, manifest, &[], None).unwrap_or_else(|problems| panic!("{problems}"))
}

fn told_problems(text: &str, manifest: &str) -> String {
    loaded(text, manifest, &[], None).expect_err("something is wrong").to_string()
}

fn with_timeline(timeline: &str) -> String {
    SCENARIO.replace("TIMELINE", timeline)
}

/// Runs it; every pod and every event says which cluster it is of.
fn run_of(text: &str, manifest: &str) -> Outcome {
    let outcome = run(scenario(text, manifest).world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
    let is_told = |name: &str| name.starts_with("c-1/") || name.starts_with("c-2/");
    for event in outcome.log.events() {
        let (kind, name) = event.object.split_once('/').expect("an object has a kind");
        assert!(kind == "Load" || is_told(name), "{event:?}");
    }
    let results = &outcome.run.results;
    assert!(results.pods.iter().all(|pod| is_told(&pod.name)), "{:?}", results.pods);
    assert_eq!(results.totals.sent, results.totals.ok + results.totals.backend_error + results.totals.dropped);
    outcome
}

/// Requests that the pods of a cluster got, and how many of them were lost.
fn requests_in(outcome: &Outcome, cluster: &str) -> (u64, u64) {
    let pods = outcome.run.results.pods.iter().filter(|pod| pod.name.starts_with(&format!("{cluster}/")));
    pods.fold((0, 0), |(requests, dropped), pod| (requests + pod.requests, dropped + pod.dropped))
}

#[test]
fn clients_come_by_weight() {
    let outcome = run_of(&with_timeline(""), MANIFEST);
    let (first, second) = (requests_in(&outcome, "c-1").0, requests_in(&outcome, "c-2").0);
    let sent = outcome.run.results.totals.sent;
    assert_eq!((first + second, outcome.run.results.totals.dropped), (sent, 0));
    // Three quarters; four standard deviations of 6,000 draws are 134.
    assert!((sent * 3 / 4).abs_diff(first) < 134, "{first} of {sent}");
    // A cluster without a weight is there, and nobody comes.
    let idle = run_of(&with_timeline("").replace("{ id: c-2,", "{ id: c-2, weight: 0,"), MANIFEST);
    assert_eq!(requests_in(&idle, "c-2").0, 0);
    assert_eq!(requests_in(&idle, "c-1").0, idle.run.results.totals.sent);
}

#[test]
fn each_clusters_balancer_has_a_name_of_its_own() {
    let outcome = run_of(&with_timeline(""), MANIFEST);
    let status = &outcome.run.results.gateway.status;
    let names: Vec<&str> = status.iter().filter_map(|status| status.address.as_deref()).collect();
    assert!(names.len() == 2 && names.iter().all(|name| name.starts_with("nlb-")), "{status:?}");
    assert_ne!(names[0], names[1]);
}

#[test]
fn an_upgrade_of_one_cluster_costs_its_share_alone() {
    // The controller takes longer than the pods: new connections go to closed ports for some seconds.
    let lost_in = |timeline: &str| {
        let outcome =
            run_of(&with_timeline(timeline).replace("controllerLatency: 2s", "controllerLatency: 9s"), MANIFEST);
        let mut rollouts: Vec<&str> = outcome.run.results.rollouts.iter().map(|rollout| &*rollout.object).collect();
        rollouts.sort_unstable();
        // With a surge of 100 % and a quarter of 2 or 3 rounded down, no cluster has fewer ready pods than it asks for.
        for rollout in &outcome.run.results.rollouts {
            let wanted = if rollout.object.starts_with("c-1/") { 2 } else { 3 };
            assert!(rollout.complete && rollout.pods_max <= 2 * wanted && rollout.ready_min >= wanted, "{rollout:?}");
        }
        (rollouts.join(" "), requests_in(&outcome, "c-1").1, requests_in(&outcome, "c-2").1)
    };
    let (first, second) = ("c-1/istio-system/istio-edge", "c-2/istio-system/istio-edge");
    let (rollouts, lost_first, lost_second) = lost_in("{ at: 10s, restart: {}, cluster: c-1 }");
    assert_eq!((&*rollouts, lost_second), (first, 0));
    assert!(lost_first > 50, "{lost_first}");
    let (rollouts, lost_of_first, lost_of_second) =
        lost_in("{ at: 10s, restart: {}, of: c-2/istio-system/istio-edge }");
    assert_eq!((&*rollouts, lost_of_first), (second, 0));
    assert!((10..lost_first).contains(&lost_of_second), "a third of the clients: {lost_of_second} of {lost_first}");
    let (rollouts, both_first, both_second) = lost_in("{ at: 10s, restart: {} }");
    assert_eq!(rollouts, format!("{first} {second}"));
    // What one cluster goes through does not depend on the other.
    assert_eq!((both_first, both_second), (lost_first, lost_of_second));
}

#[test]
fn overrides_hold_in_their_cluster() {
    let world = scenario(&with_timeline(""), MANIFEST).world;
    let [first, second] = &world.members[..] else { panic!("two clusters") };
    let replicas = |index: usize| world.members[index].deployments.iter().map(|it| it.replicas).collect::<Vec<_>>();
    assert_eq!((replicas(0), replicas(1)), (vec![2], vec![3]));
    let cpu = |index: usize| world.members[index].target_spec().cpu_limit_millicores;
    assert_eq!((cpu(0), cpu(1)), (Some(2000), Some(1000)));
    let asked = |index: usize| world.members[index].deployments[0].template.requests.cpu_millicores;
    assert_eq!((asked(0), asked(1)), (200, 300));
    assert_eq!(first.front.balancer.as_ref().unwrap().balancer.on_deregister, OnRemoval::CutAfter(Duration::ZERO));
    assert_eq!(
        second.front.balancer.as_ref().unwrap().balancer.on_deregister,
        OnRemoval::CutAfter(Duration::from_secs(20))
    );
    // A cause's line is that of the override.
    let line_of = |text: &str| MANIFEST.lines().position(|line| line.contains(text)).unwrap() + 1;
    let cut = gatedrill::record::CauseCode::LbCutConnection;
    let lines = [first, second].map(|member| member.sources[&cut].line.map(usize::try_from));
    assert_eq!(lines[1], Some(Ok(line_of("connection-drain-timeout"))));
    assert_ne!(lines[0], lines[1]);
    let outcome = run_of(&with_timeline(""), MANIFEST);
    let pods = |cluster: &str| outcome.run.results.pods.iter().filter(|pod| pod.name.starts_with(cluster)).count();
    assert_eq!((pods("c-1/"), pods("c-2/")), (2, 3));
}

#[test]
fn a_cluster_whose_machines_all_die_loses_its_share_for_good() {
    let kill = "{ at: 10s, killNode: { node: pool-1 }, cluster: c-2 }, { at: 10s, killNode: { node: pool-2 }, cluster: c-2 }, \
                { at: 10s, killNode: { node: pool-3 }, cluster: c-2 }";
    let outcome = run_of(&with_timeline(kill), MANIFEST);
    let results = &outcome.run.results;
    let (_, lost_first) = requests_in(&outcome, "c-1");
    assert_eq!(lost_first, 0);
    // A quarter of 100/s over 50 s; the name server knows nothing of the cluster's health.
    let lost = results.totals.dropped;
    assert!(lost.abs_diff(1250) < 130, "{lost}");
    let dead = |code: &str| results.causes.iter().find(|cause| cause.code == code).map_or(0, |cause| cause.count);
    assert!(dead("GD4110") > 100, "{:?}", results.causes);
}

#[test]
fn one_cluster_with_a_name_is_as_one_without() {
    let alone = MANIFEST.replace("[c-1, c-2]", "[c-2]");
    let begin = SCENARIO.find("  clusters:").unwrap();
    let end = SCENARIO.find("  loadBalancer:").unwrap();
    let cluster = "nodes: [ { name: pool, count: 3, zones: [a, b, c] } ], timings: { podStart: 3s } }";
    let text = |written: &str| {
        let whole = format!("{}{written}\n{}", &SCENARIO[..begin], &SCENARIO[end..]);
        whole.replace("TIMELINE", "{ at: 10s, restart: {} }")
    };
    let unnamed = scenario(&text(&format!("  cluster: {{ {cluster}")), &alone).world;
    let named = scenario(&text(&format!("  clusters: [ {{ id: c-2, {cluster} ]")), &alone).world;
    assert_eq!(unnamed.members[0].deployments[0].replicas, 3, "the only cluster is the one that the gateway names");
    let print = |world| {
        let outcome = run(world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
        outcome.run.results.fingerprint
    };
    assert_eq!(print(unnamed), print(named));
}

#[test]
fn services_of_one_cluster_are_found_from_the_others() {
    let manifest = format!(
        "{MANIFEST}---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: web, namespace: default }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: web }} }}
  template:
    metadata: {{ labels: {{ app: web }} }}
    spec: {{ containers: [ {{ name: web, image: web, ports: [ {{ containerPort: 8080 }} ] }} ] }}
"
    );
    for backend in [
        "{ service: default/web, clusters: [c-1] }",
        "{ service: default/web, deployment: default/web, clusters: [c-1] }",
    ] {
        let text = with_timeline("").replace("{ service: default/web }", backend);
        let outcome = run_of(&text, &manifest);
        let totals = &outcome.run.results.totals;
        assert_eq!((totals.ok, totals.dropped), (totals.sent, 0), "{backend}");
        assert!(requests_in(&outcome, "c-2").0 > 1000);
        let is_web = |object: &str| object.starts_with("Pod/") && object.contains("/default/web-");
        let webs = outcome.log.events().iter().filter(|event| event.kind == "pod_ready" && is_web(&event.object));
        let there: Vec<bool> = webs.map(|event| event.object.starts_with("Pod/c-1/")).collect();
        let expected = if backend.contains("deployment") { vec![true, true] } else { vec![false; 4] };
        // Without a scenario's word for it, the Deployment is only another object of both clusters.
        assert_eq!(there.iter().filter(|it| **it).count(), 2, "{backend}");
        assert_eq!(there.len(), expected.len(), "{backend}");
    }
    // When its pods are gone, gateways everywhere have nobody to ask.
    let text = with_timeline("{ at: 10s, scale: { replicas: 0 }, of: default/web }");
    let text =
        text.replace("{ service: default/web }", "{ service: default/web, deployment: default/web, clusters: [c-1] }");
    let outcome = run_of(&text, &manifest);
    let unanswered = outcome.run.results.causes.iter().filter(|cause| cause.code.starts_with("GD42"));
    assert!(unanswered.map(|cause| cause.count).sum::<u64>() > 4500, "{:?}", outcome.run.results.causes);
}

#[test]
fn entries_of_the_timeline_name_their_cluster() {
    let world = scenario(
        &with_timeline(
            "{ at: 1s, set: { target.spec.minReadySeconds: 5 }, cluster: c-2 }, { at: 2s, scale: { replicas: 4 } }",
        ),
        MANIFEST,
    )
    .world;
    let told: Vec<(usize, &str, bool)> =
        world.actions.iter().map(|action| (action.member, &*action.text, action.phase.is_some())).collect();
    let expected = [
        (1, "set target.spec.minReadySeconds in c-2", true),
        (0, "scale istio-system/istio-edge to 4 in c-1", true),
        (1, "scale istio-system/istio-edge to 4 in c-2", false),
    ];
    assert_eq!(told, expected);
    let Some(Verb::Apply(deployment, _)) = &world.actions[2].verb else { panic!("{:?}", world.actions[2]) };
    assert_eq!((deployment.min_ready_seconds, deployment.replicas), (5, 4), "each cluster goes on from its own state");
    let Some(Verb::Apply(deployment, _)) = &world.actions[1].verb else { panic!("{:?}", world.actions[1]) };
    assert_eq!(deployment.min_ready_seconds, 0);
}

#[test]
fn what_names_no_cluster_is_refused_with_its_line() {
    for (scenario, manifest, expected) in [
        ("", ("[c-1, c-2]", "[c-1, c-3]"), &["no cluster is called `c-3`", "did you mean `c-"][..]),
        (
            "",
            ("  clusterIds: [c-1, c-2]\n", ""),
            &["the gateway is deployed to no cluster", "write clusterIds: [c-1, c-2]"],
        ),
        (
            "",
            ("    c-2:\n", "    c-22:\n"),
            &["spec.overrides.c-22", "no cluster is called `c-22`", "did you mean `c-2`"],
        ),
        ("", ("[c-1, c-2]", "[c-1]"), &["no gateway is deployed to `c-2`"]),
        ("", ("replicaCount: 3", "replicaCount: three"), &["spec.overrides.c-2.replicaCount"]),
        ("", ("replicaCount: 3", "replicasCount: 3"), &["spec.overrides.c-2.replicasCount", "replicaCount"]),
        ("", ("replicaCount: 3", "gatewayType: egress"), &["spec.overrides.c-2.gatewayType", "same in all clusters"]),
        ("", ("replicaCount: 3", "rollingMaxSurge: 0\n      rollingMaxUnavailable: 0"), &["spec.overrides.c-2"]),
        ("{ at: 1s, restart: {}, cluster: c-4 }", ("", ""), &["no cluster is called `c-4`", "did you mean `c-"]),
        ("{ at: 1s, restart: {}, of: c-1/istio-system/istio-edge, cluster: c-2 }", ("", ""), &["another cluster"]),
        ("{ at: 1s, phase: late, cluster: c-2 }", ("", ""), &["loads and phases are of no cluster"]),
        ("{ at: 1s, killNode: { node: pool-3 } }", ("", ""), &["no node is called `pool-3`"]),
        (
            "{ at: 1s, set: { IstioGateway/edge.spec.replicaCount: 4 }, cluster: c-2 }",
            ("", ""),
            &["whole mesh's", "overrides"],
        ),
    ] {
        let manifest =
            if manifest.0.is_empty() { MANIFEST.to_owned() } else { MANIFEST.replacen(manifest.0, manifest.1, 1) };
        let told = told_problems(&with_timeline(scenario), &manifest);
        for part in expected {
            assert!(told.contains(part), "{part}\n{told}");
        }
    }
    let two = with_timeline("").replace("  loadBalancer:", "  cluster: {}\n  loadBalancer:");
    assert!(told_problems(&two, MANIFEST).contains("`clusters` says which clusters there are"));
    let same = with_timeline("").replace("id: c-2", "id: c-1");
    assert!(told_problems(&same, MANIFEST).contains("two clusters are called `c-1`"));
    let nobody = with_timeline("").replace("weight: 3", "weight: 0").replace("{ id: c-2,", "{ id: c-2, weight: 0,");
    assert!(told_problems(&nobody, MANIFEST).contains("no client comes to any cluster"));
    let alien = with_timeline("").replace("{ service: default/web }", "{ service: default/web, clusters: [c-9] }");
    assert!(told_problems(&alien, MANIFEST).contains("no cluster is called `c-9`"));
}

#[test]
fn a_resolved_scenario_runs_the_same() {
    let text = with_timeline("{ at: 10s, restart: {}, cluster: c-2 }, { at: 20s, scale: { replicas: 4 } }");
    let text = text.replace("{ service: default/web }", "{ service: default/web, clusters: [c-1] }");
    let first = scenario(&text, MANIFEST);
    let again = scenario(&first.resolved, "");
    let print = |scenario: Scenario| {
        let outcome = run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
        outcome.run.results.fingerprint
    };
    assert_eq!(print(first), print(again));
}

#[test]
fn pods_of_no_deployment_run_where_their_backend_runs() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: { name: web-1, namespace: default, labels: { app: web } }\nspec: { containers: [ { name: web, image: web } ] }\n";
    let daemon = "---\napiVersion: apps/v1\nkind: DaemonSet\nmetadata: { name: web, namespace: default }\nspec: { selector: { matchLabels: { app: web } }, template: { metadata: \
                  { labels: { app: web } }, spec: { containers: [ { name: web, image: web } ] } } }\n";
    for (named, object, in_each) in [("pod: default/web-1", pod, [1, 1]), ("daemonSet: default/web", daemon, [2, 3])] {
        for (clusters, expected) in
            [("", in_each), ("clusters: [c-1]", [in_each[0], 0]), ("clusters: [c-2]", [0, in_each[1]])]
        {
            let backend = format!("{{ service: default/web, {named}, {clusters} }}");
            let text = with_timeline("{ at: 1s, phase: nothing }").replace("{ service: default/web }", &backend);
            let outcome = run_of(&text, &format!("{MANIFEST}{object}"));
            let made = |cluster: &str| {
                let prefix = format!("Pod/{cluster}/default/web-");
                let all = outcome.log.events().iter().filter(|event| event.kind == "pod_created");
                all.filter(|event| event.object.starts_with(&prefix)).count()
            };
            assert_eq!([made("c-1"), made("c-2")], expected, "{backend}");
            assert_eq!(outcome.run.results.totals.dropped, 0, "{backend}: it is found from both");
        }
    }
}

#[test]
fn a_cluster_that_a_gateway_no_longer_names_loses_it_and_the_others_keep_it() {
    let ids = |at: &str, named: &str| {
        format!("{{ at: {at}, set: {{ \"IstioGateway/istio-system/edge.spec.clusterIds\": [{named}] }} }}")
    };
    let left = ids("20s", "c-1");
    let outcome = run_of(&with_timeline(&left), MANIFEST);
    let deleted = run_of(&with_timeline("{ at: 20s, delete: {}, cluster: c-2 }"), MANIFEST);
    let (totals, same) = (&outcome.run.results.totals, &deleted.run.results.totals);
    assert_eq!((totals.sent, totals.dropped), (same.sent, same.dropped), "it goes as what is deleted goes");
    // A quarter of 100/s from when its balancer is gone, 2 s later.
    assert!(totals.dropped.abs_diff(25 * 38) < 130, "{totals:?}");
    assert_eq!(requests_in(&outcome, "c-1").1, 0);
    let [cause] = &outcome.run.results.causes[..] else { panic!("{:?}", outcome.run.results.causes) };
    let source = cause.source.as_ref().expect("the line of the edit");
    assert_eq!((cause.code.as_str(), source.path.as_str()), ("GD4111", "spec.clusterIds"));
    assert_eq!((source.value.as_deref(), source.line.is_some()), (Some("c-1"), true));
    let told = |row: &gatedrill::record::results::Fidelity| row.note.clone().unwrap_or_default();
    assert!(outcome.run.results.fidelity.iter().any(|row| told(row).contains("it names `c-2` no longer")));
    // What comes later is for the cluster that is left.
    let replicas = "{ at: 30s, set: { \"IstioGateway/istio-system/edge.spec.replicaCount\": 3 } }";
    let later = run_of(&with_timeline(&format!("{left}, {replicas}, {{ at: 40s, restart: {{}} }}")), MANIFEST);
    let rollouts: Vec<&str> = later.run.results.rollouts.iter().map(|rollout| &*rollout.object).collect();
    assert_eq!(rollouts, ["c-1/istio-system/istio-edge"]);
    let made = |outcome: &Outcome, cluster: &str| {
        let prefix = format!("{cluster}/");
        outcome.run.results.pods.iter().filter(|pod| pod.name.starts_with(&prefix)).count()
    };
    assert_eq!((made(&later, "c-1"), made(&later, "c-2")), (6, 3));
    assert_eq!((made(&deleted, "c-1"), made(&deleted, "c-2")), (2, 3), "ASM keeps no size of what is gone");
    // What is gone does not come back, and nobody else is there.
    for (entries, expected) in [
        (format!("{left}, {}", ids("40s", "c-1, c-2")), "the gateway is gone from `c-2` by then"),
        (format!("{left}, {{ at: 40s, restart: {{}}, cluster: c-2 }}"), "has been deleted by then"),
        (ids("20s", "c-1, c-3"), "no cluster is called `c-3`"),
        (ids("20s", ""), "the gateway is deployed to no cluster"),
    ] {
        let text = told_problems(&with_timeline(&entries), MANIFEST);
        assert!(text.contains(expected) && text.contains(".yaml:"), "{expected}: {text}");
    }
}
