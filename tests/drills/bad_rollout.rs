//! Mistakes about rollouts: what the API server, kubectl or common sense would refuse, told with line and remedy before anything runs.

use std::fs;

use assert_cmd::Command;

const GATEWAY: &str = include_str!("../../scenarios/bad-image/manifests/gateway.yaml");
const ROUTES: &str = include_str!("../../scenarios/bad-image/manifests/routes.yaml");
const SCENARIO: &str = include_str!("../../scenarios/bad-image/bad-image.drill.yaml");
/// The entry of the timeline that others take the place of.
const ENTRY: &str = "    - { at: 1m40s, phase: noticed }\n";

/// Runs the scenario `bad-image` with some of its words changed and returns what is told.
#[track_caller]
fn check(changes: &[(&str, &str)], parts: &[&str]) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut texts = [SCENARIO, GATEWAY, ROUTES].map(str::to_owned);
    for (from, to) in changes {
        assert!(texts.iter().any(|text| text.contains(from)), "`{from}` is not there");
        for text in &mut texts {
            *text = text.replacen(from, to, 1);
        }
    }
    fs::create_dir(folder.path().join("manifests")).expect("a folder");
    for (name, text) in ["s.drill.yaml", "manifests/gateway.yaml", "manifests/routes.yaml"].iter().zip(texts) {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let mut command = Command::cargo_bin("gatedrill").expect("the binary is built with the tests");
    let output = command
        .current_dir(folder.path())
        .env("NO_COLOR", "1")
        .args(["run", "s.drill.yaml"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(65), "{text}");
    for part in parts {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
}

#[test]
fn what_the_api_server_refuses() {
    for (from, to, parts) in [
        ("maxUnavailable: 25%", "maxUnavailable: 0\n      maxSurge: 0", &["gateway.yaml:"][..]),
        (
            "maxSurge: 25%\n      maxUnavailable: 25%",
            "maxSurge: 0\n      maxUnavailable: 0%",
            &["both 0", "let one of them be 1"],
        ),
        (
            "matchLabels: { istio: edge }",
            "matchLabels: { istio: edgy }",
            &["gateway.yaml:10:3", "`istio: edgy` is not among the labels"],
        ),
        (
            "progressDeadlineSeconds: 60",
            "progressDeadlineSeconds: 5\n  minReadySeconds: 5",
            &["gateway.yaml:9:", "is not above minReadySeconds"],
        ),
        ("rollingUpdate:\n", "type: Recreate\n    rollingUpdate:\n", &["no meaning with type Recreate", "remove it"]),
        ("maxSurge: 25%", "maxSurge: \"25\"", &["gateway.yaml:14:17", "maxSurge"]),
        ("maxUnavailable: 25%", "maxUnavailable: 101%", &["more than 100% cannot be unavailable"]),
    ] {
        check(&[(from, to)], parts);
    }
}

#[test]
fn what_the_timeline_cannot_do() {
    let entry = |verb: &str| format!("    - {{ at: 1m40s, {verb} }}\n");
    for (verb, parts) in [
        ("rollback: { toRevision: 7 }", &["s.drill.yaml:41:7", "has no revision 7 then", "there: 1, 2"][..]),
        ("resume: {}", &["is not paused then"]),
        ("load: { name: mobil, factor: 2 }", &["no load is called `mobil`", "did you mean `mobile`?"]),
        ("load: { factor: -1 }", &["no factor of a rate", "write 0 to 1000"]),
        ("load: {}", &["load: { factor: 2 }"]),
        ("rollback: {}, of: default/web", &["no Deployment is called `default/web`"]),
        ("configPush: {}, of: default/web", &["no Deployment is called `default/web`"]),
        (
            "set: { target.spec.selector.matchLabels.app: x, target.spec.template.metadata.labels.app: x }",
            &["the selector of istio-system/edge cannot change"],
        ),
    ] {
        check(&[(ENTRY, &entry(verb))], parts);
    }
    let twice = entry("pause: {}") + "    - { at: 1m50s, rollback: {} }\n";
    check(&[(ENTRY, &twice)], &["istio-system/edge is paused then", "resume it first"]);
    let after = entry("delete: {}") + "    - { at: 1m50s, restart: {} }\n";
    check(&[(ENTRY, &after)], &["has been deleted by then", "cannot be restored in the run"]);
    let first = SCENARIO[SCENARIO.find("    - at: 20s").unwrap()..SCENARIO.find(ENTRY).unwrap()].to_owned();
    check(
        &[
            (&first, ""),
            (ENTRY, &entry("rollback: {}")),
            ("    badImages:\n      - registry.example.com/mesh/proxyv2:1.26.3-typo\n", ""),
        ],
        &["has no revision to go back to then"],
    );
}

#[test]
fn an_image_that_nobody_asks_for() {
    check(
        &[(
            "      - registry.example.com/mesh/proxyv2:1.26.3-typo\n",
            "      - registry.example.com/mesh/proxyv2:1.26.4-typo\n",
        )],
        &["s.drill.yaml:18:9", "no pod ever asks for `registry.example.com/mesh/proxyv2:1.26.4-typo`", "did you mean"],
    );
    let images = |images: &str| format!("    images: [ {images} ]\n    badImages:\n");
    for (described, part) in [
        ("{ name: proxyv3, size: 300MiB }", "no pod ever asks for `proxyv3`"),
        ("{ name: proxyv3 }", "size: 300MiB"),
        ("{ name: proxyv3, size: 300 }", "spec.cluster.images[0].size"),
        ("{ size: 300MiB }", "name: gateway:1.2"),
    ] {
        check(&[("    badImages:\n", &images(described))], &[part]);
    }
    check(&[("version: \"1.33\"", "version: \"1.19\"")], &["`1.19` is not a version whose behaviour is known", "1.20"]);
}
