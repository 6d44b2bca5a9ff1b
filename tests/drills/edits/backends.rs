//! Edits of the Services behind the gateway: their ports, their pods, and whether they are there at all.

use super::{Drill, check_lost, check_quiet, count};
use gatedrill::drill::Outcome;
use gatedrill::record::results::FidelityStatus;

/// A Deployment behind a Service, whose pods declare these ports, on one line.
fn deployment(name: &str, label: &str, ports: &str) -> String {
    format!(
        "{{ apiVersion: apps/v1, kind: Deployment, metadata: {{ name: {name}, namespace: default }}, spec: {{ replicas: 2, selector: {{ matchLabels: {{ deploy: \
         {name} }} }}, template: {{ metadata: {{ labels: {{ app: {label}, deploy: {name} }} }}, spec: {{ containers: [ {{ name: web, image: web, ports: [ {ports} \
         ], readinessProbe: {{ tcpSocket: {{ port: 8080 }}, periodSeconds: 1 }} }} ] }} }} }} }}"
    )
}

/// A drill whose backend is a Deployment that declares these ports.
fn backed(ports: &str, timeline: &[&str]) -> Drill {
    let mut drill = Drill::new(timeline);
    drill.backends = "[ { service: default/web, deployment: default/web, serviceTime: 5ms } ]";
    drill.more = format!("---\n{}\n", deployment("web", "web", ports));
    drill
}

/// The Service `web` is edited.
fn set(at: &str, path: &str, value: &str) -> String {
    format!("{{ at: {at}, set: {{ \"Service/default/web.{path}\": {value} }} }}")
}

/// The Service `web`, applied.
fn applied(at: &str, spec: &str) -> String {
    format!(
        "{{ at: {at}, apply: {{ inline: {{ apiVersion: v1, kind: Service, metadata: {{ name: web, namespace: default }}, spec: {{ {spec} }} }} }} }}"
    )
}

const WEB: &str = "selector: { app: web }, ports: [ { name: http, port: 80, targetPort: 8080 } ]";

/// The line and path of the first cause.
fn source(outcome: &Outcome) -> (Option<u32>, String) {
    let source = outcome.run.results.causes[0].source.clone().expect("the line of the edit");
    (source.line, source.path)
}

/// What is told to the user of a Service.
fn told(outcome: &Outcome, text: &str) -> bool {
    let mut rows = outcome.run.results.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
    rows.any(|row| row.note.as_deref().is_some_and(|note| note.contains(text)))
}

#[test]
fn a_target_port_on_which_no_pod_listens_is_refused_from_when_the_gateway_hears_of_it() {
    let edit = set("20s", "spec.ports[0].targetPort", "9090");
    let drill = backed("{ containerPort: 8080 }", &[&edit]);
    let outcome = drill.run();
    // 500 ms to the control plane, 200 ms to the pods: 100/s for 39.3 s.
    check_lost(&outcome, &[("GD4201", 3930)], 4);
    assert_eq!(source(&outcome), (Some(drill.line("at: 20s")), "spec.ports.targetPort".to_owned()));
    assert_eq!(count(&outcome, "listener_removed"), 0);
    // Replicas without a Deployment stay where they are too.
    let fixed = Drill::new(&[&edit]);
    check_lost(&fixed.run(), &[("GD4201", 3930)], 4);
    // Taken back, all is as before.
    let back = backed("{ containerPort: 8080 }", &[&edit, &set("30s", "spec.ports[0].targetPort", "8080")]);
    let outcome = back.run();
    check_lost(&outcome, &[("GD4201", 1000)], 4);
    // What is lost until the gateway has heard of the second edit is the first one's, but for what was being tried again just then.
    let of_second = |line: Option<u32>| line == Some(back.line("at: 30s"));
    let causes = outcome.run.results.causes.iter();
    let late: u64 = causes
        .filter(|cause| of_second(cause.source.as_ref().and_then(|source| source.line)))
        .map(|cause| cause.count)
        .sum();
    assert!(late <= 10, "{late} of 1,000");
}

#[test]
fn a_target_port_that_pods_declare_serves_at_once() {
    let edit = set("20s", "spec.ports[0].targetPort", "9090");
    let outcome = backed("{ containerPort: 8080 }, { containerPort: 9090 }", &[&edit]).run();
    check_lost(&outcome, &[], 0);
}

#[test]
fn a_name_finds_each_pods_own_port_and_a_number_does_not() {
    // The template moves to another port, and its pods follow one by one.
    let moved = "{ at: 20s, set: { \"Deployment/default/web.spec.template.spec.containers[0].ports\": \
                 [ { name: http, containerPort: 9090 }, { name: probe, containerPort: 8080 } ] } }";
    let ports = "{ name: http, containerPort: 8081 }, { name: probe, containerPort: 8080 }";
    let by = |target: &str| {
        let mut drill = backed(ports, &[moved]);
        drill.more.push_str("---\napiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: default }\nspec: { selector: { app: web }, ports: [ { port: 80, targetPort: ");
        drill.more.push_str(target);
        drill.more.push_str(" } ] }\n");
        drill.run()
    };
    let named = by("http");
    check_lost(&named, &[], 0);
    assert!(!named.run.results.rollouts.is_empty(), "the backend's pods rolled");
    let numbered = by("8081");
    let lost = numbered.run.results.totals.dropped;
    assert!(lost > 3000, "nobody listens on the old port once all have rolled: {lost}");
}

#[test]
fn a_name_that_no_container_has_leaves_no_endpoint() {
    let edit = set("20s", "spec.ports[0].targetPort", "grpc");
    let drill = backed("{ name: http, containerPort: 8080 }", &[&edit]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4203", 3930)], 4);
    assert_eq!(source(&outcome).0, Some(drill.line("at: 20s")));
    assert!(told(&outcome, "no container of default/web calls a port so"));
}

#[test]
fn a_selector_that_moves_to_other_pods_takes_the_traffic_with_it() {
    let drill = |ready: &str| {
        let edit = set("20s", "spec.selector", "{ app: green }");
        let mut drill = backed("{ containerPort: 8080 }", &[&edit]);
        drill.more.push_str(&format!("---\n{}\n", deployment("green", ready, "{ containerPort: 8080 }")));
        drill
    };
    // The other Deployment is up: nothing is lost, and it behaves as its Service's description says.
    let outcome = drill("green").run();
    check_lost(&outcome, &[], 0);
    // Nobody has these labels.
    let nobody = drill("blue");
    let outcome = nobody.run();
    check_lost(&outcome, &[("GD4203", 3930)], 4);
    assert_eq!(source(&outcome), (Some(nobody.line("at: 20s")), "spec.selector".to_owned()));
}

#[test]
fn pods_of_two_deployments_behind_one_service_behave_as_each_is_described() {
    let mut drill = backed("{ containerPort: 8080 }", &["{ at: 20s, restart: {} }"]);
    drill.more.push_str(&format!("---\n{}\n", deployment("canary", "web", "{ containerPort: 8080 }")));
    let errors = |drill: &Drill| drill.run().run.results.totals.backend_error;
    assert_eq!(errors(&drill), 0);
    drill.backends = "[ { service: default/web, deployment: default/web, serviceTime: 5ms }, { service: default/web, deployment: default/canary, errorRatio: 1 } ]";
    let share = errors(&drill);
    assert!((2700..=3300).contains(&share), "half of 6,000, and not {share}");
    drill.backends =
        "[ { service: default/web, deployment: default/web }, { service: default/web, deployment: default/web } ]";
    let told = drill.load().expect_err("it is the same Deployment");
    assert!(told.contains("`default/web` is described twice"), "{told}");
}

#[test]
fn a_service_that_is_deleted_takes_its_cluster_along_and_one_that_comes_back_serves_again() {
    let delete = "{ at: 20s, delete: { service: default/web } }";
    for fixed in [false, true] {
        let with = |timeline: &[&str]| if fixed { Drill::new(timeline) } else { backed("", timeline) };
        let gone = with(&[delete]);
        let outcome = gone.run();
        // The push comes after 200 ms, before the endpoints go.
        check_lost(&outcome, &[("GD4206", 3980)], 4);
        assert_eq!(source(&outcome), (Some(gone.line("at: 20s")), "spec.timeline.delete.service".to_owned()));
        assert!(told(&outcome, "no Service is called `web.default.svc.cluster.local` then"));
        let back = with(&[delete, &applied("40s", WEB)]);
        let outcome = back.run();
        let lost = outcome.run.results.totals.dropped;
        // The cluster is there after 200 ms, endpoints of pods after 500 ms more.
        let expected = if fixed { 2000 } else { 2050 };
        assert!(lost.abs_diff(expected) <= 6, "{lost}: {:?}", super::causes(&outcome.run.results));
        if fixed {
            check_quiet(&outcome);
        }
    }
}

#[test]
fn a_deployment_and_its_service_may_come_while_the_drill_runs() {
    let service = |at: &str| {
        format!(
            "{{ at: {at}, apply: {{ inline: {{ apiVersion: v1, kind: Service, metadata: {{ name: green, namespace: default }}, spec: {{ selector: {{ app: green }}, ports: [ {{ port: 80, targetPort: 8080 }} ] }} }} }} }}"
        )
    };
    let route = |at: &str| {
        format!(
            "{{ at: {at}, set: {{ \"VirtualService/default/shop.spec.http[0].route[0].destination.host\": green }} }}"
        )
    };
    let green = deployment("green", "green", "{ containerPort: 8080 }");
    let rollout = format!("{{ at: 10s, apply: {{ inline: {green} }} }}");
    let drill = |timeline: &[&str]| {
        let mut drill = backed("{ containerPort: 8080 }", timeline);
        drill.backends = "[ { service: default/web, deployment: default/web, serviceTime: 5ms }, { service: default/green, deployment: default/green, serviceTime: 5ms } ]";
        drill
    };
    // Pods, Service, route: each after the one before it is up.
    let outcome = drill(&[&rollout, &service("20s"), &route("30s")]).run();
    check_lost(&outcome, &[], 0);
    // The route comes first: until the Service is there, its cluster is not.
    let early = drill(&[&rollout, &route("20s"), &service("30s")]);
    let outcome = early.run();
    let lost = outcome.run.results.totals.dropped;
    assert!(lost.abs_diff(1050) <= 6, "{lost}: {:?}", super::causes(&outcome.run.results));
    // Nobody ever brings it.
    let mut never = drill(&[&rollout, &route("20s")]);
    never.backends = "[ { service: default/web, deployment: default/web, serviceTime: 5ms } ]";
    check_lost(&never.run(), &[("GD4206", 3980)], 4);
}

#[test]
fn a_port_that_a_service_loses_takes_its_cluster_along() {
    let drill = backed("{ containerPort: 8080 }", &[&set("20s", "spec.ports[0].port", "81")]);
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4206", 3980)], 4);
    assert_eq!(source(&outcome), (Some(drill.line("at: 20s")), "spec.ports".to_owned()));
    assert!(told(&outcome, "Service `default/web` has no port 80 then"));
}

#[test]
fn a_route_may_lead_to_a_service_that_comes_later() {
    // From the start on; the balancer's checks know nothing of it.
    let mut drill = Drill::new(&[&applied("20s", WEB)]);
    drill.manifest = Box::leak(
        super::MANIFEST
            .split("---\napiVersion: v1\nkind: Service")
            .next()
            .expect("the rest")
            .to_owned()
            .into_boxed_str(),
    );
    let outcome = drill.run();
    check_lost(&outcome, &[("GD4206", 2020)], 4);
    check_quiet(&outcome);
    // Without that entry it is a slip of the pen.
    drill.timeline = vec!["{ at: 20s, restart: {} }".to_owned()];
    drill.backends = "[]";
    let told = drill.load().expect_err("there is no such Service");
    assert!(told.contains("no Service is called `default/web`"), "{told}");
}

#[test]
fn replicas_that_another_cluster_asks_for_too_are_lost_to_both() {
    let edit = set("20s", "spec.ports[0].targetPort", "9090");
    let mut drill = Drill::new(&[&edit]);
    let text = drill.text();
    let clusters = "clusters:\n    - id: c-1\n      nodes: [ { name: pool, count: 2 } ]\n      timings: { podStart: 3s, endpointPropagation: 500ms, configPropagation: 200ms }\n    - id: c-2\n      nodes: [ { name: pool, count: 2 } ]\n      timings: { podStart: 3s, endpointPropagation: 500ms, configPropagation: 200ms }";
    let (from, to) =
        (text.find("  cluster:").expect("it is there"), text.find("  loadBalancer:").expect("it is there"));
    let text = format!("{}  {clusters}\n{}", &text[..from], &text[to..]);
    let text = text.replace("service: default/web, serviceTime", "service: default/web, clusters: [c-1], serviceTime");
    drill.service.push_str("\n  # in both\n");
    let manifest =
        super::MANIFEST.replace("SERVICE", &drill.service).replace("clusterIds: [c-1]", "clusterIds: [c-1, c-2]");
    let scenario =
        crate::scenarios::loaded(&text, &manifest, &[], None).unwrap_or_else(|problems| panic!("{problems}"));
    let outcome = gatedrill::drill::run(scenario.world, |_, _| Vec::new(), |_| gatedrill::drill::Continue::Yes)
        .expect("the books balance");
    check_lost(&outcome, &[("GD4201", 3930)], 4);
}
