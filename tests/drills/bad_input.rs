//! Bad input as a new user would give it: every problem at once, each with file, line, column, path and advice; exit 65; nothing written.

use std::fs;
use std::path::Path;

use assert_cmd::Command;

const GATEWAY: &str = include_str!("../../scenarios/rolling-upgrade/manifests/gateway.yaml");
const ROUTES: &str = include_str!("../../scenarios/rolling-upgrade/manifests/routes.yaml");
const SCENARIO: &str = include_str!("../../scenarios/rolling-upgrade/rolling-upgrade.drill.yaml");

/// Runs the gallery's first scenario with some of its words changed; returns what is told, without the drawn lines.
#[track_caller]
fn told(changes: &[(&str, &str)]) -> String {
    let folder = tempfile::tempdir().expect("a folder");
    let mut texts = [SCENARIO, GATEWAY, ROUTES].map(str::to_owned);
    for (from, to) in changes {
        assert!(texts.iter().any(|text| text.contains(from)), "`{from}` is not there");
        for text in &mut texts {
            *text = text.replacen(from, to, 1);
        }
    }
    let [scenario, gateway, routes] = texts;
    fs::create_dir(folder.path().join("manifests")).expect("a folder");
    for (name, text) in
        [("s.drill.yaml", scenario), ("manifests/gateway.yaml", gateway), ("manifests/routes.yaml", routes)]
    {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    refused(folder.path(), &["run", "s.drill.yaml"])
}

#[track_caller]
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::cargo_bin("gatedrill").expect("the binary is built with the tests");
    let output = command.current_dir(folder).env("NO_COLOR", "1").args(arguments).output().expect("the command runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{text}");
    assert!(output.stdout.is_empty(), "results go to standard output, errors do not");
    assert!(!folder.join("reports").exists(), "nothing is written");
    text
}

#[track_caller]
fn check(changes: &[(&str, &str)], parts: &[&str]) {
    let text = told(changes);
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn a_typo_in_a_key() {
    check(&[("  duration:", "  durration:")], &["s.drill.yaml:7:3", "spec.durration", "did you mean `duration`?"]);
    check(
        &[("  replicaCount:", "  replicasCount:")],
        &["gateway.yaml:11:3", "spec.replicasCount", "did you mean `replicaCount`?"],
    );
}

#[test]
fn a_duration_without_a_unit() {
    check(&[("warmup: 5s", "warmup: 5")], &["s.drill.yaml:8:11", "spec.warmup: `5` has no unit", "try `5s`"]);
}

#[test]
fn surge_and_unavailable_both_zero() {
    check(
        &[("rollingMaxSurge: 25%", "rollingMaxSurge: 0")],
        &["gateway.yaml:", "both 0", "no pod could ever be replaced"],
    );
}

#[test]
fn a_route_to_a_service_nobody_declared() {
    check(
        &[("host: api", "host: apo")],
        &["routes.yaml:", "no Service is called `default/apo`", "did you mean `default/api`?"],
    );
}

#[test]
fn a_path_that_does_not_exist() {
    check(
        &[("path: manifests/", "path: manifest/")],
        &["s.drill.yaml:11:", "spec.manifests[0].path", "does not exist"],
    );
}

#[test]
fn broken_yaml_in_the_second_document_and_a_typo_in_the_first() {
    let text = told(&[
        ("rollingMaxSurge: 25%", "rollingMaxSurge: lots"),
        ("hosts: [\"shop.example.com\"]\n  gateways", "hosts: [\"shop.example.com\"\n  gateways"),
        ("rate: 600/s", "rate: 600"),
    ]);
    for part in [
        "routes.yaml:",
        "this is not YAML",
        "spec.load[0].rate: `600` has no unit",
        "spec.rollingMaxSurge: `lots`",
        "3 problems",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

/// Checks that these problems are told, each with its place, and no other.
#[track_caller]
fn check_all(changes: &[(&str, &str)], parts: &[&str]) {
    let text = told(changes);
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    let count = if parts.len() == 1 { "1 problem;".to_owned() } else { format!("{} problems;", parts.len()) };
    assert!(text.contains(&count), "{count} are told in\n{text}");
}

const SURGE: (&str, &str) = ("rollingMaxSurge: 25%", "rollingMaxSurge: lots");
const HOST: (&str, &str) = ("host: api", "host: apo");
const NO_API: &str = "no Service is called `default/apo`";
const BAD_SURGE: &str = "spec.rollingMaxSurge: `lots`";

#[test]
fn problems_of_workloads_routes_and_the_scenario_are_told_at_once() {
    check_all(
        &[SURGE, HOST, ("protocol: HTTP }", "protocol: HTPP }"), ("rate: 600/s", "rate: 600")],
        &[BAD_SURGE, NO_API, "invalid protocol `HTPP`", "spec.load[0].rate: `600` has no unit"],
    );
    check_all(&[SURGE, HOST], &[BAD_SURGE, NO_API]);
    check_all(&[("kind: Scenario", "kind: Scenarios"), HOST, SURGE], &["`Scenarios` is not", NO_API, BAD_SURGE]);
    let bad_seconds = ("selector:\n    istio: edge", "selector:\n    istio: edge\n  secs: 5");
    check_all(&[("concurrency: 64", "concurrency: all"), bad_seconds, HOST], &["`all` is not", "spec.secs", NO_API]);
}

#[test]
fn what_could_not_be_read_is_not_missing() {
    let port = ("port: 80, targetPort: 8080 }]", "port: 99999, targetPort: 8080 }]");
    check_all(&[port], &["99999 is out of range"]);
    check_all(&[port, HOST], &["99999 is out of range", NO_API]);
    check_all(&[("selector: { app: web }", "selector: [ web ]")], &["spec.selector: a map is expected"]);
    // A backend that cannot be read still says that its Service is there.
    let web = "apiVersion: v1\nkind: Service\nmetadata: { name: web, namespace: default }";
    check_all(
        &[(web, "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: web }"), ("concurrency: 64", "concurrency: all")],
        &["`all` is not"],
    );
}

#[test]
fn names_in_the_timeline_are_looked_up_beside_other_problems() {
    let at = "at: 20s, restart: {}, phase: rollout";
    let names = |entry: &str| format!("at: 20s, {entry}, phase: rollout");
    check_all(
        &[SURGE, (at, &names("restart: {}, of: default/wob"))],
        &[BAD_SURGE, "no Deployment is called `default/wob`"],
    );
    check_all(&[SURGE, (at, &names("restart: {}, of: istio-system/istio-edge"))], &[BAD_SURGE]);
    check_all(&[SURGE, (at, &names("drainNode: { node: pool-9 }"))], &[BAD_SURGE, "no node is called `pool-9`"]);
    let budget =
        "{ apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: { name: b }, spec: { minAvailable: y } }";
    check_all(
        &[SURGE, (at, &names(&format!("apply: {{ inline: {budget} }}")))],
        &[BAD_SURGE, "spec.minAvailable: `y`"],
    );
}

#[test]
fn slips_that_were_taken_for_what_they_are_not() {
    check_all(&[("memory: 8Gi", "memory: 8")], &["8 are 8 bytes, in which no pod finds room"]);
    check_all(&[("cpu: \"4\"", "cpu: 4097")], &["no machine has 4097 cores"]);
    check_all(&[("cpu: \"4\"", "cpu: \"4 \"")], &["`4 ` is not a quantity"]);
    check_all(
        &[("http://shop.example.com/api/cart", "http://shop.example.com:99999/api/cart")],
        &["has no port that can be dialled"],
    );
    check_all(&[("dnsPolicy: ClusterFirst", "dnsPolicy: clusterFirst")], &["did you mean `ClusterFirst`?"]);
}

#[test]
fn documents_behind_a_broken_one_are_read() {
    let open = ("hosts: [\"shop.example.com\"]\n---", "hosts: [\"shop.example.com\"\n---");
    check_all(
        &[open, ("selector: { app: web }", "selector: [ web ]"), SURGE],
        &["this is not YAML", "spec.selector: a map is expected", BAD_SURGE],
    );
}

#[test]
fn nothing_to_drill_and_nothing_asked_for() {
    check(
        &[("replicaCount: 4", "replicaCount: 0")],
        &["gateway.yaml:11:17", "spec.replicaCount: the gateway begins without pods"],
    );
    check(&[("rate: 600/s", "rate: 0/s")], &["spec.load[0].rate", "a rate of 0 asks for nothing"]);
    check(
        &[("      mix:\n        - { weight: 1, get: \"http://shop.example.com/api/cart\" }", "      mix: []")],
        &["spec.load[0].mix", "nothing is asked for"],
    );
}

#[test]
fn an_event_after_the_end() {
    check(&[("at: 20s", "at: 20m")], &["spec.timeline[0].at", "after the end of the run", "less than 2m30s"]);
}

#[test]
fn a_slip_in_the_timeline_is_told_once() {
    let text = told(&[("at: 20s", "at: soon")]);
    assert!(text.contains("spec.timeline[0].at: `soon` is not a duration") && text.contains("1 problem;"), "{text}");
    // The phase of a sound timeline is still looked up.
    check(&[("phase=\"rollout\"", "phase=\"rolout\"")], &["no phase is called `rolout`", "did you mean `rollout`?"]);
}

#[test]
fn two_targets() {
    let second = GATEWAY.replacen("name: edge", "name: other", 1);
    check(
        &[("# An ingress", &format!("{second}\n---\n# An ingress"))],
        &["there are 2 gateways", "target: istio-system/istio-other"],
    );
}

#[test]
fn a_bomb_and_a_file_of_100_mb_are_refused_quickly() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let names = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{names}]\n"));
    }
    check(&[("# An ingress", &format!("{bomb}\n---\n# An ingress"))], &["gateway.yaml:", "grows past"]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = fs::File::create(folder.path().join("large.drill.yaml")).expect("a file");
    file.set_len(100 << 20).expect("a sparse file");
    let text = refused(folder.path(), &["run", "large.drill.yaml"]);
    assert!(text.contains("too large: 100 MiB of at most 16"), "{text}");
}

#[test]
fn arguments_that_name_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    assert!(refused(folder.path(), &["run", "nowhere"]).contains("`nowhere` does not exist"));
    assert!(refused(folder.path(), &["run", "*.drill.yaml"]).contains("matches nothing"));
    assert!(refused(folder.path(), &["run", "."]).contains("holds no *.drill.yaml"));
}

#[test]
fn settings_on_the_command_line_are_checked_too() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("s.drill.yaml"), SCENARIO.replace("path: manifests/", "path: g.yaml"))
        .expect("a file");
    fs::write(folder.path().join("g.yaml"), format!("{GATEWAY}\n---\n{ROUTES}")).expect("a file");
    for (set, part) in [
        ("load.services.rate=600", "`600` has no unit"),
        ("load.nobody.rate=600/s", "there is no `nobody`"),
        ("IstioGateway/none.spec.replicaCount=2", "no object of the manifests is called so"),
        ("seed", "sets nothing"),
    ] {
        let text = refused(folder.path(), &["run", "s.drill.yaml", "--set", set]);
        assert!(text.contains(part) && text.contains("--set"), "{set}: `{part}` is not in\n{text}");
    }
    assert!(refused(folder.path(), &["run", "s.drill.yaml", "--variant", "x"]).contains("has no variant `x`"));
}

#[test]
fn places_that_pods_could_never_have() {
    let gateway = |inner: &str| format!("spec:\n  {inner}\n  gatewayType: ingress");
    check(
        &[("spec:\n  gatewayType: ingress", &gateway("nodeSelector: { disk: ssd }"))],
        &["gateway.yaml:8:17", "no node has what is asked for here", "give cluster.nodes these labels"],
    );
    let term =
        "affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [ { topologyKey: rack } ] } }";
    check(
        &[("spec:\n  gatewayType: ingress", &gateway(term))],
        &["gateway.yaml:8:", "no node has the label `rack`", "write kubernetes.io/hostname"],
    );
    check(
        &[("spec:\n  gatewayType: ingress", &gateway("tolerations: [ { key: a, effect: Nowhere } ]"))],
        &["gateway.yaml:8:36", "spec.tolerations[0].effect", "`Nowhere` is not known here"],
    );
    check(
        &[(
            "allocatable: {",
            "taints: [ { key: a, effect: PreferNever } ], labels: { topology.kubernetes.io/zone: b }, allocatable: {",
        )],
        &["s.drill.yaml:", "`PreferNever` is not known here", "is not the same for all nodes of a group"],
    );
}
