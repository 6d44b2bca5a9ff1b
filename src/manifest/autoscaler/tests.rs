//! Autoscalers as the API server takes and refuses them.

use super::*;
use crate::manifest::{object, yaml};

/// What is read, the problems, the notes.
type Loaded = (Option<AutoscalerManifest>, Vec<String>, Vec<Option<String>>);

fn load(version: &str, spec: &str) -> Loaded {
    annotated(version, "", spec)
}

fn annotated(version: &str, annotations: &str, spec: &str) -> Loaded {
    let metadata = format!("{{ name: edge, namespace: ns, annotations: {{ {annotations} }} }}");
    let text = format!("apiVersion: {version}\nkind: HorizontalPodAutoscaler\nmetadata: {metadata}\nspec: {spec}\n");
    let (documents, problems) = yaml::parse(&text, 0);
    assert!(problems.is_empty(), "{text}");
    let sink = Sink::default();
    let objects = object::objects(documents, &sink);
    let manifest = objects.first().and_then(|object| read(object, &sink));
    let problems = sink.take_problems().iter().map(|problem| format!("{}: {}", problem.path, problem.text)).collect();
    (manifest, problems, sink.take_notes().into_iter().map(|note| note.text).collect())
}

const TARGET: &str = "scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: edge }, maxReplicas: 5";

fn metric(text: &str) -> String {
    format!("{{ {TARGET}, metrics: [ {text} ] }}")
}

#[track_caller]
fn refused(version: &str, spec: &str, problem: &str) {
    let (manifest, problems, _) = load(version, spec);
    assert!(manifest.is_none(), "{spec}");
    assert!(problems.iter().any(|told| told.contains(problem)), "{spec}: {problems:?}, not {problem}");
}

#[test]
fn what_is_left_out_has_the_apis_defaults() {
    for version in ["autoscaling/v1", "autoscaling/v2"] {
        let (manifest, problems, _) = load(version, &format!("{{ {TARGET} }}"));
        assert_eq!(problems, Vec::<String>::new());
        let spec = manifest.expect("it is whole").spec;
        assert_eq!((spec.min_replicas, spec.max_replicas), (1, 5));
        assert_eq!((&*spec.key, &*spec.target), ("ns/edge", "ns/edge"));
        assert_eq!(spec.metrics, [cpu(80)]);
        assert_eq!(spec.behavior, None);
    }
    let (manifest, ..) = load("autoscaling/v1", &format!("{{ {TARGET}, targetCPUUtilizationPercentage: 55 }}"));
    assert_eq!(manifest.expect("it is whole").spec.metrics, [cpu(55)]);
}

#[test]
fn every_kind_of_metric_is_read() {
    let spec = metric(
        "{ type: Resource, resource: { name: memory, target: { type: AverageValue, averageValue: 200Mi } } },
         { type: ContainerResource, containerResource: { name: cpu, container: app, target: { type: Utilization, averageUtilization: 70 } } },
         { type: Pods, pods: { metric: { name: rps }, target: { type: AverageValue, averageValue: 1500m } } },
         { type: Object, object: { metric: { name: hits }, describedObject: { apiVersion: v1, kind: Service, name: web }, target: { type: Value, value: 2k } } },
         { type: External, external: { metric: { name: lag, selector: { matchLabels: { a: b } } }, target: { type: AverageValue, averageValue: \"30\" } } }",
    );
    let (manifest, problems, _) = load("autoscaling/v2", &spec);
    assert_eq!(problems, Vec::<String>::new());
    let labels = [("a".to_owned(), "b".to_owned())].into();
    let expected = [
        Metric::Resource {
            resource: ResourceName::Memory,
            container: None,
            target: ResourceTarget::AverageMilli((200 << 20) * 1000),
        },
        Metric::Resource {
            resource: ResourceName::Cpu,
            container: Some(Rc::from("app")),
            target: ResourceTarget::Utilization(70),
        },
        Metric::Pods { metric: "rps".into(), average_milli: 1500 },
        Metric::Object {
            metric: "hits".into(),
            object: Rc::from("Service/web"),
            target: ValueTarget::ValueMilli(2_000_000),
        },
        Metric::External {
            metric: MetricId { name: Rc::from("lag"), selector: LabelSelector::of_labels(labels) },
            target: ValueTarget::AverageMilli(30_000),
        },
    ];
    assert_eq!(manifest.expect("it is whole").spec.metrics, expected);
}

#[test]
fn the_first_version_has_metrics_and_behavior_in_annotations() {
    let metrics = r#"autoscaling.alpha.kubernetes.io/metrics: '[
        {"type":"Resource","resource":{"name":"memory","targetAverageUtilization":70}},
        {"type":"ContainerResource","containerResource":{"name":"cpu","container":"app","targetAverageValue":"500m"}},
        {"type":"Pods","pods":{"metricName":"rps","targetAverageValue":"1500m"}},
        {"type":"Object","object":{"target":{"kind":"Service","name":"web"},"metricName":"hits","targetValue":"2k"}},
        {"type":"Object","object":{"target":{"kind":"Service","name":"web"},"metricName":"hits","targetValue":"0","averageValue":"5"}},
        {"type":"External","external":{"metricName":"lag","metricSelector":{"matchLabels":{"a":"b"}},"targetAverageValue":"30"}}]'"#;
    let behavior = r#"autoscaling.alpha.kubernetes.io/behavior: '{"ScaleUp":{"StabilizationWindowSeconds":60,"Policies":[{"Type":"Pods","Value":2,"PeriodSeconds":15}]},"ScaleDown":null,"x":1}'"#;
    let (manifest, problems, _) = annotated(
        "autoscaling/v1",
        &format!("{metrics}, {behavior}"),
        &format!("{{ {TARGET}, targetCPUUtilizationPercentage: 55 }}"),
    );
    assert_eq!(problems, Vec::<String>::new());
    let spec = manifest.expect("it is whole").spec;
    let resource = |resource, container: Option<&str>, target| Metric::Resource {
        resource,
        container: container.map(Rc::from),
        target,
    };
    let object = |target| Metric::Object { metric: "hits".into(), object: Rc::from("Service/web"), target };
    let lag = MetricId {
        name: Rc::from("lag"),
        selector: LabelSelector::of_labels([("a".to_owned(), "b".to_owned())].into()),
    };
    let expected = [
        resource(ResourceName::Memory, None, ResourceTarget::Utilization(70)),
        resource(ResourceName::Cpu, Some("app"), ResourceTarget::AverageMilli(500)),
        Metric::Pods { metric: "rps".into(), average_milli: 1500 },
        object(ValueTarget::ValueMilli(2_000_000)),
        object(ValueTarget::AverageMilli(5000)),
        Metric::External { metric: lag, target: ValueTarget::AverageMilli(30_000) },
        cpu(55),
    ];
    assert_eq!(spec.metrics, expected);
    let behavior = spec.behavior.expect("a behavior");
    assert_eq!(behavior.up.stabilization_seconds, Some(60));
    assert_eq!(behavior.up.policies, [Policy { amount: Amount::Pods(2), period_seconds: 15 }]);
    assert_eq!(behavior.down, ScalingRules::default_down());
}

#[test]
fn annotations_that_are_no_json_are_dropped_and_others_are_judged() {
    let plain = format!("{{ {TARGET} }}");
    for text in ["autoscaling.alpha.kubernetes.io/metrics: '[{'", "autoscaling.alpha.kubernetes.io/behavior: '[]'"] {
        let (manifest, problems, notes) = annotated("autoscaling/v1", text, &plain);
        assert_eq!(problems, Vec::<String>::new(), "{text}");
        let spec = manifest.expect("it is whole").spec;
        assert_eq!((spec.metrics, spec.behavior), (vec![cpu(80)], None), "{text}");
        assert!(notes.iter().flatten().any(|note| note.contains("the API server drops it")), "{notes:?}");
    }
    let zero = r#"autoscaling.alpha.kubernetes.io/metrics: '[{"type":"Resource","resource":{"name":"cpu","targetAverageUtilization":0}}]'"#;
    let (manifest, problems, _) = annotated("autoscaling/v1", zero, &plain);
    assert!(manifest.is_none() && problems.len() == 1 && problems[0].contains("out of range"), "{problems:?}");
    // The new version reads them as any annotation.
    let (manifest, problems, _) = annotated("autoscaling/v2", zero, &plain);
    assert_eq!((manifest.expect("it is whole").spec.metrics, problems.len()), (vec![cpu(80)], 0));
}

#[test]
fn half_a_behavior_fills_the_other() {
    let behavior = |text: &str| {
        let (manifest, problems, _) = load("autoscaling/v2", &format!("{{ {TARGET}, behavior: {text} }}"));
        assert_eq!(problems, Vec::<String>::new(), "{text}");
        manifest.expect("it is whole").spec.behavior
    };
    assert_eq!(behavior("{}"), None);
    let fast = behavior("{ scaleDown: { stabilizationWindowSeconds: 15 } }").expect("a behavior");
    assert_eq!(fast.up, ScalingRules::default_up());
    let down = ScalingRules { stabilization_seconds: Some(15), ..ScalingRules::default_down() };
    assert_eq!(fast.down, down);
    let slow = behavior(
        "{ scaleUp: { selectPolicy: Min, tolerance: 50m, policies: [ { type: Pods, value: 2, periodSeconds: 60 } ] } }",
    );
    let up = slow.expect("a behavior").up;
    assert_eq!(up.policies, [Policy { amount: Amount::Pods(2), period_seconds: 60 }]);
    assert_eq!((up.select, up.stabilization_seconds, up.tolerance), (SelectPolicy::Min, Some(0), Some(0.05)));
}

#[test]
fn what_the_api_server_refuses_is_refused() {
    let v2 = "autoscaling/v2";
    refused("autoscaling/v3", "{}", "is no version");
    refused(v2, "{ maxReplicas: 3 }", "spec.scaleTargetRef: this is missing");
    refused(v2, "{ scaleTargetRef: { kind: Deployment, name: edge } }", "spec.maxReplicas: this is missing");
    refused(v2, &format!("{{ {TARGET}, minReplicas: 6 }}"), "minReplicas 6 is above maxReplicas 5");
    refused(v2, &format!("{{ {TARGET}, minReplicas: 0 }}"), "0 is out of range");
    refused(v2, &format!("{{ {TARGET}, targetCPUUtilizationPercentage: 5 }}"), "targetCPUUtilizationPercentage");
    let resource = |target: &str| metric(&format!("{{ type: Resource, resource: {{ name: cpu, target: {target} }} }}"));
    refused(v2, &resource("{ type: Utilization, averageUtilization: 0 }"), "0 is out of range");
    refused(v2, &resource("{ type: Utilization }"), "one of two figures");
    refused(v2, &resource("{ type: Value, value: 3 }"), "no value of its own");
    refused(v2, &resource("{ type: AverageValue, averageValue: 3 cores }"), "averageValue");
    refused(v2, &resource("{ type: AverageValue, averageValue: 100m, averageUtilization: 50 }"), "one of two");
    refused(v2, &metric("{ type: Resource }"), "resource: this is missing");
    refused(v2, &metric("{ type: Cheddar }"), "not known here");
    let external = |identifier: &str| {
        metric(&format!(
            "{{ type: External, external: {{ metric: {identifier}, target: {{ type: Value, value: 3 }} }} }}"
        ))
    };
    refused(v2, &external("{ name: a/b }"), "`a/b` is no name of a metric");
    refused(v2, &external("{ name: .. }"), "`..` is no name of a metric");
    let missing = "{ name: a, selector: { matchExpressions: [ { key: b, operator: In } ] } }";
    refused(v2, &external(missing), "selector.matchExpressions[0].values: this is missing");
    let pods = "{ type: Pods, pods: { metric: { name: rps }, target: { type: Value, value: 3 } } }";
    refused(v2, &metric(pods), "no target for such a metric");
    let behavior = |text: &str| format!("{{ {TARGET}, behavior: {{ scaleUp: {text} }} }}");
    refused(v2, &behavior("{ policies: [] }"), "there is no policy");
    refused(v2, &behavior("{ stabilizationWindowSeconds: 3601 }"), "out of range");
    refused(v2, &behavior("{ policies: [ { type: Pods, value: 0, periodSeconds: 15 } ] }"), "0 is out of range");
    refused(v2, &behavior("{ policies: [ { type: Pods, value: 1, periodSeconds: 1801 } ] }"), "out of range");
    refused(v2, &behavior("{ policys: [] }"), "policys");
}

#[test]
fn a_target_has_a_kind_and_a_name_and_a_group() {
    let target = |text: &str| format!("{{ scaleTargetRef: {{ {text} }}, maxReplicas: 5 }}");
    for (text, problem) in [
        ("kind: Deployment, name: \"\"", "scaleTargetRef.name: Required value"),
        ("kind: \"\", name: edge", "scaleTargetRef.kind: Required value"),
        ("kind: Deployment, name: a/b", "scaleTargetRef.name: may not contain '/'"),
        ("kind: 50%, name: edge", "scaleTargetRef.kind: may not contain '%'"),
        ("kind: Deployment, name: ..", "scaleTargetRef.name: may not be '..'"),
    ] {
        refused("autoscaling/v2", &target(text), problem);
    }
    for (api, is_found) in [
        ("apiVersion: apps/v1,", true),
        ("apiVersion: apps/v1beta1,", true),
        ("apiVersion: extensions/v1beta1,", false),
        ("apiVersion: v1,", false),
        ("apiVersion: \"\",", false),
        ("apiVersion: a/b/c,", false),
        ("", false),
    ] {
        let (manifest, problems, _) = load("autoscaling/v2", &target(&format!("{api} kind: Deployment, name: edge")));
        let manifest = manifest.expect("it is whole");
        assert_eq!(problems, Vec::<String>::new(), "{api}");
        assert_eq!((manifest.strange_target.is_none(), &*manifest.spec.target == "ns/edge"), (is_found, is_found));
    }
}

#[test]
fn a_target_that_is_no_deployment_is_noted() {
    let spec = "{ scaleTargetRef: { apiVersion: apps/v1, kind: StatefulSet, name: db }, maxReplicas: 5 }";
    let (manifest, problems, notes) = load("autoscaling/v2", spec);
    assert!(manifest.is_none() && problems.is_empty());
    assert!(notes.iter().flatten().any(|note| note.contains("only Deployments")), "{notes:?}");
}

#[test]
fn the_first_beta_has_its_figures_in_keys_of_their_own() {
    let beta = "autoscaling/v2beta1";
    let both = |old: &str, new: &str| {
        let (found, problems, _) = load(beta, &metric(old));
        assert_eq!(problems, Vec::<String>::new(), "{old}");
        let expected = load("autoscaling/v2", &metric(new)).0.expect("it is whole").spec.metrics;
        assert_eq!(found.expect("it is whole").spec.metrics, expected, "{old}");
    };
    both(
        "{ type: Resource, resource: { name: cpu, targetAverageUtilization: 60 } }",
        "{ type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 60 } } }",
    );
    both(
        "{ type: Resource, resource: { name: memory, targetAverageValue: 200Mi } }",
        "{ type: Resource, resource: { name: memory, target: { type: AverageValue, averageValue: 200Mi } } }",
    );
    both(
        "{ type: ContainerResource, containerResource: { name: cpu, container: web, targetAverageValue: 150m } }",
        "{ type: ContainerResource, containerResource: { name: cpu, container: web, target: { type: AverageValue, averageValue: 150m } } }",
    );
    both(
        "{ type: Pods, pods: { metricName: rps, selector: { matchLabels: { a: b } }, targetAverageValue: 50 } }",
        "{ type: Pods, pods: { metric: { name: rps, selector: { matchLabels: { a: b } } }, target: { type: AverageValue, averageValue: 50 } } }",
    );
    let object = |figures: &str| {
        format!("{{ type: Object, object: {{ target: {{ kind: Service, name: web }}, metricName: hits, {figures} }} }}")
    };
    let is_to_be = |target: &str| {
        format!(
            "{{ type: Object, object: {{ describedObject: {{ kind: Service, name: web }}, metric: {{ name: hits }}, target: {target} }} }}"
        )
    };
    both(&object("targetValue: 10"), &is_to_be("{ type: Value, value: 10 }"));
    both(&object("targetValue: 10, averageValue: 3"), &is_to_be("{ type: AverageValue, averageValue: 3 }"));
    both(
        "{ type: External, external: { metricName: lag, metricSelector: { matchLabels: { q: x } }, targetValue: 30 } }",
        "{ type: External, external: { metric: { name: lag, selector: { matchLabels: { q: x } } }, target: { type: Value, value: 30 } } }",
    );
    for (text, problem) in [
        ("{ type: Resource, resource: { name: cpu } }", "targetAverageUtilization"),
        (
            "{ type: Resource, resource: { name: cpu, targetAverageUtilization: 60, targetAverageValue: 1 } }",
            "may not set both",
        ),
        (
            "{ type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 60 } } }",
            "target",
        ),
        ("{ type: Pods, pods: { metricName: rps } }", "targetAverageValue"),
        ("{ type: Pods, pods: { targetAverageValue: 1 } }", "metricName"),
        ("{ type: Object, object: { metricName: a, targetValue: 1 } }", "target"),
        ("{ type: Object, object: { target: { kind: Service, name: web }, metricName: a } }", "targetValue"),
        ("{ type: External, external: { metricName: a, targetValue: 1, targetAverageValue: 1 } }", "may not set both"),
        ("{ type: External, external: { metricName: a, targetValue: 0 } }", "above 0"),
    ] {
        refused(beta, &metric(text), problem);
    }
    refused(
        beta,
        &format!("{{ {TARGET}, behavior: {{ scaleDown: {{ stabilizationWindowSeconds: 15 }} }} }}"),
        "behavior",
    );
    refused(
        "autoscaling/v2",
        &metric("{ type: Resource, resource: { name: cpu, targetAverageUtilization: 60 } }"),
        "target",
    );
}
