//! What the API server refuses of names, labels and versions, and what it takes and a warning goes with.
//!
//! Method: one Deployment whose words are changed, loaded and not run; each refusal has its other side.

use crate::scenarios::loaded;
use crate::shop::{ran, scenario_head, shop_of_istio_edge};
use gatedrill::cluster::disruption::UnhealthyPods;
use gatedrill::drill::{Continue, run};
use gatedrill::record::results::{FidelityStatus, Results};
use gatedrill::scenario::Scenario;

const SCENARIO: &str = concat!(
    scenario_head!("rules", "  duration: 60s\n"),
    r#"  cluster: { version: "VERSION", nodes: [ { name: pool, count: 2, zones: [a] } ], timings: { podStart: 2s } }
  backends: [ { service: default/web, serviceTime: 5ms } ]
  load: [ { name: new, rate: 5/s, clients: { reuse: none }, mix: [ { get: "http://shop.example.com/" } ] } ]
  timeline: [ { at: 5s, phase: x } TIMELINE ]
"#
);

const MANIFEST: &str = concat!(
    r#"apiVersion: apps/v1
kind: Deployment
metadata: { name: edge, namespace: istio-system, labels: { tier: front }, annotations: { Example.com/Note: x } }
spec:
  replicas: 2
  strategy: { rollingUpdate: { maxSurge: 25% } }
  selector: { matchLabels: { istio: edge } }
  template:
    metadata: { labels: { istio: edge, tier: front } }
    spec:
      containers:
        - { name: istio-proxy, image: "proxy:1", ports: [ { containerPort: 80 } ] }
---
apiVersion: v1
kind: Service
metadata: { name: edge, namespace: istio-system }
spec: { type: LoadBalancer, selector: { istio: edge }, ports: [ { name: http, port: 80 } ] }
"#,
    shop_of_istio_edge!()
);

fn load(version: &str, changes: &[(&str, &str)], more: &str, timeline: &str) -> Result<Scenario, String> {
    let mut manifest = MANIFEST.to_owned();
    for (from, to) in changes {
        assert!(manifest.contains(from), "`{from}` is not there");
        manifest = manifest.replacen(from, to, 1);
    }
    let timeline = if timeline.is_empty() { String::new() } else { format!(", {timeline}") };
    let scenario = SCENARIO.replace("VERSION", version).replace("TIMELINE", &timeline);
    loaded(&scenario, &(manifest + more), &[], None).map_err(|problems| problems.to_string())
}

#[track_caller]
fn results(version: &str, more: &str, timeline: &str) -> Results {
    results_of(version, &[], more, timeline)
}

#[track_caller]
fn results_of(version: &str, changes: &[(&str, &str)], more: &str, timeline: &str) -> Results {
    let outcome = ran(load(version, changes, more, timeline));
    let totals = &outcome.run.results.totals;
    assert_eq!(totals.sent, totals.ok + totals.backend_error + totals.dropped);
    outcome.run.results
}

/// A Deployment with a term of anti-affinity, its Service, and a budget; what a version makes of them, and what it warns of.
#[test]
fn fields_that_a_version_drops_do_not_count() {
    let term = "{ topologyKey: kubernetes.io/hostname, labelSelector: { matchLabels: { istio: edge } }, matchLabelKeys: [ tier ] }";
    let affinity = format!(
        "affinity: {{ podAntiAffinity: {{ preferredDuringSchedulingIgnoredDuringExecution: [ {{ weight: 5, podAffinityTerm: {term} }} ] }} }}\n      containers:"
    );
    let budget = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: { name: b, namespace: istio-system }\n\
                  spec: { minAvailable: 1, unhealthyPodEvictionPolicy: AlwaysAllow, selector: { matchLabels: { istio: edge } } }\n";
    for (version, policy, keys) in [
        ("1.26", UnhealthyPods::IfHealthyBudget, 0),
        ("1.27", UnhealthyPods::AlwaysAllow, 0),
        ("1.30", UnhealthyPods::AlwaysAllow, 0),
        ("1.31", UnhealthyPods::AlwaysAllow, 1),
    ] {
        let scenario = load(version, &[("containers:", &affinity)], budget, "").unwrap_or_else(|text| panic!("{text}"));
        let member = &scenario.world.members[0];
        assert_eq!(member.budgets[0].unhealthy, policy, "{version}");
        let placement = &member.deployments[0].template.placement;
        assert_eq!(placement.pod_anti_affinity.preferred[0].1.match_label_keys.len(), keys, "{version}");
        let warned = scenario.world.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
        let mut warned: Vec<_> = warned.filter_map(|row| Some((row.path.rsplit('.').next()?, row.line?))).collect();
        warned.sort_unstable();
        let mut expected = Vec::new();
        if keys == 0 {
            expected.push(("matchLabelKeys", 11));
        }
        if policy == UnhealthyPods::IfHealthyBudget {
            let line = MANIFEST.lines().count() + 6;
            expected.push(("unhealthyPodEvictionPolicy", u32::try_from(line).unwrap()));
        }
        assert_eq!(warned, expected, "{version}");
    }
}

/// A rollout to an image that is never pulled.
#[test]
fn an_image_that_is_never_pulled_is_there_or_the_pod_waits() {
    const ROLLOUT: &str = "{ at: 10s, set: { \"target.spec.template.spec.containers[0].image\": \"proxy:2\" } }";
    let policy = |policy: &str| format!("image: \"proxy:1\", imagePullPolicy: {policy},");
    for (written, is_complete) in [("IfNotPresent", true), ("Always", true), ("Never", false)] {
        let found = results_of("1.33", &[("image: \"proxy:1\",", &policy(written))], "", ROLLOUT);
        assert_eq!(found.rollouts[0].end_ms.is_some(), is_complete, "{written}");
    }
    // With the image on every node from the start nothing is pulled.
    let manifest = MANIFEST.replacen("image: \"proxy:1\",", &policy("Never"), 1);
    let scenario = SCENARIO.replace("VERSION", "1.33").replace("TIMELINE", &format!(", {ROLLOUT}")).replace(
        "timings: {",
        "images: [ { name: \"proxy:2\", size: 1MiB, preloaded: true } ], timings: { imagePull: 50s,",
    );
    let scenario = loaded(&scenario, &manifest, &[], None).unwrap_or_else(|problems| panic!("{problems}"));
    let outcome = run(scenario.world, |_, _| Vec::new(), |_| Continue::Yes).expect("the books balance");
    assert!(outcome.run.results.rollouts[0].end_ms.is_some(), "{:?}", outcome.run.results.rollouts);
}

/// What to set where nobody was left follows from what took the pods away.
#[test]
fn advice_follows_what_took_the_pods_away() {
    for (timeline, word) in [
        ("{ at: 10s, scale: { replicas: 0 } }", "at the smallest size"),
        ("{ at: 10s, drainNode: { node: pool-1 } }, { at: 10s, drainNode: { node: pool-2 } }", "PodDisruptionBudget"),
    ] {
        let found = results("1.33", "", timeline);
        let nobody: Vec<_> =
            found.causes.iter().filter(|cause| ["lb-no-target", "no-endpoint"].contains(&&*cause.name)).collect();
        assert!(!nobody.is_empty(), "{timeline}: {:?}", found.causes);
        for cause in nobody {
            assert!(cause.advice.as_ref().is_some_and(|advice| advice.contains(word)), "{timeline}: {cause:?}");
            assert_eq!(cause.fix(), cause.advice.as_deref());
        }
    }
}

#[test]
fn who_must_not_run_as_root_and_is_told_to_never_starts() {
    let context =
        |user: &str| format!("securityContext: {{ runAsNonRoot: true, runAsUser: {user} }}\n      containers:");
    let refused = load("1.33", &[("containers:", &context("0"))], "", "").unwrap_err();
    for part in ["all.yaml:11:", "containers[0].securityContext.runAsUser", "CreateContainerConfigError", "sticks"] {
        assert!(refused.contains(part), "`{part}` is not in {refused}");
    }
    for (user, is_complete) in [("0", false), ("2", true)] {
        let rollout = format!("{{ at: 10s, set: {{ target.spec.template.spec.securityContext.runAsUser: {user} }} }}");
        let found = results_of("1.33", &[("containers:", &context("1"))], "", &rollout);
        assert_eq!(found.rollouts[0].end_ms.is_some(), is_complete, "{user}");
    }
}

#[test]
fn names_and_labels() {
    for (from, to, parts) in [
        ("tier: front }", "\"bad key!\": front }", &["all.yaml:3:", "`bad key!` is no label's name"][..]),
        ("tier: front }", "tier: \"a b\" }", &["all.yaml:3:", "`a b` is no label's value", "at most 63 letters"]),
        ("tier: front } }", "tier: \"a b\" } }", &["all.yaml:9:"]),
        ("Example.com/Note", "Example.com/Note/x", &["all.yaml:3:", "is no label's name"]),
        ("matchLabels: { istio: edge }", "matchLabels: { istio: \"a b\" }", &["all.yaml:7:"]),
        ("name: istio-proxy", "name: C_1", &["all.yaml:12:", "`C_1` is no container's name", "small letters"]),
        ("name: istio-proxy", "name: \"\"", &["is no container's name"]),
        ("\"proxy:1\"", "\"\"", &["all.yaml:12:", "`` is no image"]),
        ("\"proxy:1\"", "\" proxy:1\"", &["` proxy:1` is no image"]),
        ("maxSurge: 25%", "maxSurge: +25%", &["all.yaml:6:", "`+25%` is neither a number nor a percentage"]),
        (
            "---\napiVersion: v1",
            "        - { name: istio-proxy, image: x }\n---\napiVersion: v1",
            &["all.yaml:13:", "the pod has another container `istio-proxy`", "a name of its own"],
        ),
        (
            "name: edge, namespace: istio-system, labels",
            "name: Edge_Gw, namespace: istio-system, labels",
            &["`Edge_Gw` is not a name"],
        ),
    ] {
        let problems = load("1.33", &[(from, to)], "", "").map(|_| ()).expect_err(to);
        assert!(parts.iter().all(|part| problems.contains(part)), "{to}: {problems}");
    }
    for (from, to) in [
        ("tier: front }", "\"a.b/C_1\": \"\" }"),
        ("name: istio-proxy", "name: 1-c"),
        ("maxSurge: 25%", "maxSurge: 025%"),
        ("---\napiVersion: v1", "        - { name: istio-proxy-2, image: x }\n---\napiVersion: v1"),
    ] {
        load("1.33", &[(from, to)], "", "").map(|_| ()).unwrap_or_else(|problems| panic!("{to}: {problems}"));
    }
}

fn budget(version: &str, selector: &str) -> String {
    format!(
        "---\napiVersion: {version}\nkind: PodDisruptionBudget\nmetadata: {{ name: b, namespace: istio-system }}\nspec: {{ minAvailable: 2, {selector} }}\n"
    )
}

fn autoscaler(version: &str, target: &str) -> String {
    format!(
        "---\napiVersion: {version}\nkind: HorizontalPodAutoscaler\nmetadata: {{ name: h, namespace: istio-system }}\nspec:\n  maxReplicas: 4\n  \
         minReplicas: 2\n  scaleTargetRef: {{ apiVersion: apps/v1, kind: Deployment, name: {target} }}\n"
    )
}

fn warnings(results: &Results) -> Vec<(String, String)> {
    let rows = results.fidelity.iter().filter(|row| row.status == FidelityStatus::Warning);
    rows.map(|row| {
        assert!(row.line.is_some(), "{row:?}");
        (row.path.clone(), row.note.clone().unwrap_or_default())
    })
    .collect()
}

#[test]
fn what_protects_or_sizes_nothing_is_warned_of() {
    let told = |more: &str, timeline: &str| warnings(&results("1.33", more, timeline));
    let has = |told: &[(String, String)], path: &str, note: &str| {
        told.len() == 1 && told[0].0.contains(path) && told[0].1.contains(note)
    };
    assert_eq!(told(&budget("policy/v1", "selector: { matchLabels: { istio: edge } }"), ""), []);
    assert_eq!(told(&budget("policy/v1", "selector: {}"), ""), []);
    let typo = told(&budget("policy/v1", "selector: { matchLabels: { istio: edgy } }"), "");
    assert!(has(&typo, "PodDisruptionBudget istio-system/b spec.selector", "means no pod"), "{typo:?}");
    let none = told(&budget("policy/v1", ""), "");
    assert!(has(&none, "PodDisruptionBudget", "without a selector"), "{none:?}");
    let silent = told(&autoscaler("autoscaling/v2", "edge"), "");
    assert!(
        has(&silent, "HorizontalPodAutoscaler istio-system/h", "does not say how much cpu it requests"),
        "{silent:?}"
    );
    let lost = told(&autoscaler("autoscaling/v2", "edgy"), "");
    assert!(has(&lost, "spec.scaleTargetRef", "no Deployment is called istio-system/edgy"), "{lost:?}");
    let later = told(
        "",
        "{ at: 20s, apply: { inline: { apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: { name: h, namespace: istio-system }, \
                          spec: { maxReplicas: 4, scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: edge } } } } }",
    );
    assert!(has(&later, "HorizontalPodAutoscaler", "does not say how much cpu"), "{later:?}");
}

#[test]
fn versions_of_apis_come_and_go() {
    let labels = "selector: { matchLabels: { istio: edge } }";
    for (version, more, words) in [
        ("1.24", budget("policy/v1beta1", labels), ""),
        (
            "1.25",
            budget("policy/v1beta1", labels),
            "no matches for kind \"PodDisruptionBudget\" in version \"policy/v1beta1\"",
        ),
        ("1.20", budget("policy/v1", labels), "does not have it yet, 1.21 does"),
        ("1.21", budget("policy/v1", labels), ""),
        ("1.25", autoscaler("autoscaling/v2beta2", "edge"), ""),
        ("1.26", autoscaler("autoscaling/v2beta2", "edge"), "does not have it any more"),
        ("1.22", autoscaler("autoscaling/v2", "edge"), "does not have it yet, 1.23 does"),
        ("1.23", autoscaler("autoscaling/v2", "edge"), ""),
        ("1.33", autoscaler("autoscaling/v1", "edge"), ""),
    ] {
        match load(version, &[], &more, "") {
            Ok(_) => assert_eq!(words, "", "{version}: {more}"),
            Err(problems) => assert!(
                !words.is_empty() && problems.contains(words) && problems.contains("all.yaml:"),
                "{version}: {problems}"
            ),
        }
    }
    // The beta's empty selector means no pod.
    let told = warnings(&results("1.24", &budget("policy/v1beta1", "selector: {}"), ""));
    assert!(told.len() == 1 && told[0].1.contains("without a selector"), "{told:?}");
}

#[test]
fn deployments_select_by_expression() {
    let selector = |written: &str| {
        let to = format!("selector: {{ matchExpressions: [ {written} ] }}");
        load("1.33", &[("selector: { matchLabels: { istio: edge } }", &to)], "", "").map(|_| ())
    };
    for written in [
        "{ key: istio, operator: In, values: [edge, other] }",
        "{ key: istio, operator: Exists }",
        "{ key: istio, operator: NotIn, values: [other] }, { key: gone, operator: DoesNotExist }",
    ] {
        selector(written).unwrap_or_else(|problems| panic!("{written}: {problems}"));
    }
    for (written, words) in [
        (
            "{ key: istio, operator: In, values: [other] }",
            "`istio In [other]` does not hold for the labels of its own template",
        ),
        ("{ key: istio, operator: DoesNotExist }", "does not hold"),
        ("{ key: istio, operator: In }", "needs one value or more"),
        ("{ key: \"a b\", operator: Exists }", "`a b` is no label's name"),
        ("{ key: istio, operator: In, values: [\"a b\"] }", "`a b` is no label's value"),
        ("", "an empty selector selects no pods"),
    ] {
        let problems = selector(written).expect_err(written);
        assert!(problems.contains("all.yaml:7:") && problems.contains(words), "{written}: {problems}");
        assert_eq!(problems.matches("all.yaml:").count(), 1, "it is told once: {problems}");
    }
    let by_expression = [(
        "selector: { matchLabels: { istio: edge } }",
        "selector: { matchExpressions: [ { key: istio, operator: Exists } ] }",
    )];
    let edit = |path: &str, value: &str| {
        let timeline = format!("{{ at: 20s, set: {{ \"target.spec.{path}\": {value} }} }}");
        load("1.33", &by_expression, "", &timeline).map(|_| ())
    };
    let problems = edit("selector.matchExpressions[0].key", "tier").expect_err("it is immutable");
    assert!(problems.contains("the selector of istio-system/edge cannot change"), "{problems}");
    edit("template.spec.terminationGracePeriodSeconds", "50").expect("anything else may");
}

#[test]
fn a_budget_and_an_autoscaler_are_deleted() {
    let drain = "{ at: 8s, drainNode: { node: pool-1 } }";
    // Both pods are wanted, wherever they are, so nothing can be evicted.
    let more = budget("policy/v1", "selector: {}");
    let evicted = |timeline: &str| {
        let results = results("1.33", &more, timeline);
        results.pods.iter().filter(|pod| pod.terminating_ms.is_some()).count()
    };
    let blocked = evicted(drain);
    let freed = evicted(&format!("{drain}, {{ at: 20s, delete: {{ podDisruptionBudget: istio-system/b }} }}"));
    assert!(blocked == 0 && freed > 0, "{blocked} {freed}");
    let scaled = |timeline: &str| {
        let asks = [("ports: [", "resources: { requests: { cpu: 100m } }, ports: [")];
        let results = results_of("1.33", &asks, &autoscaler("autoscaling/v2", "edge"), timeline);
        results.autoscaler.iter().map(|row| row.t_ms).max()
    };
    let delete = "{ at: 45s, delete: { horizontalPodAutoscaler: istio-system/h } }";
    assert!(scaled("").is_some_and(|last| last > 45_000), "{:?}", scaled(""));
    assert!(scaled(delete).is_some_and(|last| last <= 45_000), "{:?}", scaled(delete));
    for (field, kind) in
        [("podDisruptionBudget", "PodDisruptionBudget"), ("horizontalPodAutoscaler", "HorizontalPodAutoscaler")]
    {
        let timeline = format!("{{ at: 20s, delete: {{ {field}: istio-system/c }} }}");
        let problems = load("1.33", &[], &(more.clone() + &autoscaler("autoscaling/v2", "edge")), &timeline);
        let problems = problems.map(|_| ()).expect_err(field);
        assert!(problems.contains(&format!("no manifest has a {kind} `istio-system/c` then")), "{problems}");
        assert!(problems.contains("did you mean"), "{problems}");
    }
}

#[test]
fn what_a_version_takes_and_another_refuses() {
    let env = ("\"proxy:1\"", "\"proxy:1\", env: [ { name: \"1 A\", value: x } ]");
    let cost = (
        "metadata: { labels: { istio: edge, tier: front } }",
        "metadata: { labels: { istio: edge, tier: front }, annotations: { controller.kubernetes.io/pod-deletion-cost: \"05\" } }",
    );
    let name = ("kind: Service\nmetadata: { name: edge,", "kind: Service\nmetadata: { name: 1edge,");
    for (change, refused_in, taken_in, told) in [
        (env, "1.31", "1.32", "spec.template.spec.containers[0].env[0].name: a valid environment variable name"),
        (cost, "1.22", "1.21", "pod-deletion-cost]: must be a 32bit integer"),
        (name, "1.35", "1.36", "metadata.name: a DNS-1035 label must"),
    ] {
        let text = load(refused_in, &[change], "", "").err().unwrap_or_else(|| panic!("{refused_in} takes {told}"));
        assert!(text.contains(told) && text.contains("all.yaml:") && text.lines().count() == 1, "{text}");
        if let Err(text) = load(taken_in, &[change], "", "") {
            panic!("{taken_in}: {text}");
        }
    }
    // An edit is judged as well.
    let edit = |value: &str| {
        let path = "Deployment/istio-system/edge.spec.template.metadata.annotations[controller.kubernetes.io/pod-deletion-cost]";
        load("1.33", &[], "", &format!("{{ at: 10s, set: {{ \"{path}\": \"{value}\" }} }}"))
    };
    assert!(edit("abc").expect_err("it is refused").contains("must be a 32bit integer"));
    assert!(edit("5").is_ok());
}

const AUTOSCALER: &str = "---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: edge, namespace: istio-system }
spec:
  scaleTargetRef: { API kind: Deployment, name: edge }
  minReplicas: 3
  maxReplicas: 5
";

#[test]
fn an_autoscaler_whose_target_has_another_group_sizes_nothing() {
    let with = |api: &str| AUTOSCALER.replace("API", api);
    let size = |results: &Results| {
        let steps = results.autoscaler.iter().filter(|step| step.error.is_none());
        steps.map(|step| step.desired).max()
    };
    let asks = ("\"proxy:1\"", "\"proxy:1\", resources: { requests: { cpu: 100m } }");
    let sized = results_of("1.33", &[asks], &with("apiVersion: apps/v1beta2,"), "");
    assert_eq!(size(&sized), Some(3));
    assert!(sized.fidelity.iter().all(|row| row.status != FidelityStatus::Warning), "{:?}", sized.fidelity);
    for api in ["apiVersion: extensions/v1beta1,", "apiVersion: v1,", ""] {
        let lame = results_of("1.33", &[asks], &with(api), "");
        assert_eq!(size(&lame), None, "{api}");
        assert!(!lame.autoscaler.is_empty(), "it tries");
        assert!(lame.autoscaler.iter().all(|step| step.target.starts_with("istio-system/edge of ")), "{api}");
        let warning = lame.fidelity.iter().find(|row| row.status == FidelityStatus::Warning).expect("a warning");
        assert!(warning.path.ends_with("spec.scaleTargetRef.apiVersion") || api.is_empty(), "{warning:?}");
        assert!(warning.line.is_some(), "{warning:?}");
        assert!(warning.note.as_deref().is_some_and(|note| note.contains("FailedGetScale")), "{warning:?}");
    }
    // Newer API servers refuse what has no group.
    let text = load("1.34", &[], &with(""), "").expect_err("it is refused");
    assert!(text.contains("apiVersion must specify API group"), "{text}");
}
