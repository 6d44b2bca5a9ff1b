//! Disruption budgets, evictions and `NoExecute` taints against the tables of upstream's own tests: every case of every file.
//!
//! `tests/data/kubernetes/vectors/README.md` says what the fields mean.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use gatedrill::cluster::deployment::PodPhase;
use gatedrill::cluster::disruption::{
    Answer, Budget, BudgetPod, BudgetStatus, BudgetView, DisruptedPods, EvictedPod, UnhealthyPods, decide,
};
use gatedrill::cluster::int_or_percent::IntOrPercent;
use gatedrill::cluster::placement::{Taint, TaintEffect, Toleration, TolerationValue};
use gatedrill::cluster::selector::LabelSelector;
use gatedrill::cluster::taint_eviction::{Stay, stay};
use gatedrill::units::SimTime;
use serde_json::{Value, json};

/// Runs `check` over all cases of a file, which must be as many as it says.
fn each(name: &str, check: impl Fn(&Value)) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes/vectors").join(name);
    let file: Value = serde_json::from_str(&fs::read_to_string(path).expect("the file is there")).expect("it is JSON");
    let cases = file["cases"].as_array().expect("it has cases");
    assert!(!cases.is_empty(), "{name} has no case");
    assert_eq!(Some(cases.len() as u64), file["count"].as_u64(), "{name}");
    for case in cases {
        check(case);
    }
}

/// Compares the keys that are expected, and only those; each of them must be given.
#[track_caller]
fn compare(case: &Value, got: &[(&str, Value)]) {
    let expected = case["expected"].as_object().expect("an object is expected");
    assert!(!expected.is_empty(), "{case} expects nothing");
    for (key, expected) in expected {
        let (_, got) = got.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("nobody computes {key}"));
        assert_eq!(got, expected, "{key} of {case}");
    }
}

fn whole(value: &Value) -> i32 {
    i32::try_from(value.as_i64().unwrap_or_else(|| panic!("{value} is no number"))).expect("a small number")
}

fn flag(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or_else(|| panic!("{key} is no flag in {value}"))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} is no text in {value}"))
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().unwrap_or_else(|| panic!("{value} has no labels"));
    entries.iter().map(|(key, value)| (key.clone(), value.as_str().expect("a text").to_owned())).collect()
}

fn int_or_percent(value: &Value) -> IntOrPercent {
    match value {
        Value::String(text) => IntOrPercent::parse_percent(text).expect("a percentage"),
        number => IntOrPercent::Int(whole(number)),
    }
}

#[test]
fn vectors_pdb_status() {
    each("pdb_status.json", |case| {
        let budget = match (&case["pdb"]["minAvailable"], &case["pdb"]["maxUnavailable"]) {
            (minimum, Value::Null) => Budget::MinAvailable(int_or_percent(minimum)),
            (Value::Null, maximum) => Budget::MaxUnavailable(int_or_percent(maximum)),
            _ => panic!("two limits in {case}"),
        };
        let (ready, matching) = (whole(&case["readyPods"]), whole(&case["matchingPods"]));
        let pods: Vec<BudgetPod<'_>> =
            (0..matching).map(|index| BudgetPod { name: "pod", is_ready: index < ready, is_deleting: false }).collect();
        let wanted = if case["controllerScale"].is_null() { 0 } else { whole(&case["controllerScale"]) };
        let status = BudgetStatus::of(Some(budget), &pods, wanted, &DisruptedPods::new(), SimTime::ZERO);
        compare(
            case,
            &[
                ("disruptionsAllowed", json!(status.disruptions_allowed)),
                ("currentHealthy", json!(status.current_healthy)),
                ("desiredHealthy", json!(status.desired_healthy)),
                ("expectedPods", json!(status.expected_pods)),
            ],
        );
    });
}

#[test]
fn vectors_pdb_eviction() {
    each("pdb_eviction.json", |case| {
        let pod = &case["pod"];
        let of_pod = labels(&pod["labels"]);
        let phase = match text(pod, "phase") {
            "Pending" => PodPhase::Pending,
            "Running" => PodPhase::Running,
            "Succeeded" => PodPhase::Succeeded,
            "Failed" => PodPhase::Failed,
            other => panic!("no such phase: {other}"),
        };
        let evicted = EvictedPod { phase, is_ready: flag(pod, "ready"), is_deleting: flag(pod, "deleting") };
        let budgets = case["pdbs"].as_array().expect("budgets").iter();
        let budgets = budgets.filter(|pdb| LabelSelector::of_labels(labels(&pdb["selector"])).matches(&of_pod));
        let budgets: Vec<BudgetView> = budgets
            .map(|pdb| BudgetView {
                status: BudgetStatus {
                    disruptions_allowed: whole(&pdb["disruptionsAllowed"]),
                    current_healthy: whole(&pdb["currentHealthy"]),
                    desired_healthy: whole(&pdb["desiredHealthy"]),
                    expected_pods: 0,
                },
                unhealthy: match pdb["unhealthyPodEvictionPolicy"].as_str() {
                    None => UnhealthyPods::default(),
                    Some("IfHealthyBudget") => UnhealthyPods::IfHealthyBudget,
                    Some("AlwaysAllow") => UnhealthyPods::AlwaysAllow,
                    Some(other) => panic!("no such policy: {other}"),
                },
                disrupted_count: 0,
                is_observed: true,
            })
            .collect();
        let answer: Answer = decide(&evicted, &budgets);
        compare(case, &[("allowed", json!(answer.is_evicted())), ("httpCode", json!(answer.http_code()))]);
    });
}

fn effect(value: &Value) -> Option<TaintEffect> {
    match value.as_str().unwrap_or_default() {
        "" => None,
        "NoSchedule" => Some(TaintEffect::NoSchedule),
        "PreferNoSchedule" => Some(TaintEffect::PreferNoSchedule),
        "NoExecute" => Some(TaintEffect::NoExecute),
        other => panic!("no such effect: {other}"),
    }
}

#[test]
fn vectors_taint_eviction() {
    each("taint_eviction.json", |case| {
        let taints = case["noExecuteTaints"].as_array().expect("taints").iter().map(|taint| Taint {
            key: text(taint, "key").to_owned(),
            value: taint["value"].as_str().unwrap_or_default().to_owned(),
            effect: effect(&taint["effect"]).expect("an effect"),
        });
        let tolerations = case["tolerations"].as_array().expect("tolerations").iter().map(|toleration| Toleration {
            key: toleration["key"].as_str().unwrap_or_default().to_owned(),
            value: match toleration["operator"].as_str().unwrap_or("Equal") {
                "Exists" => TolerationValue::Exists,
                "Equal" => TolerationValue::Equal(toleration["value"].as_str().unwrap_or_default().to_owned()),
                other => panic!("no such operator: {other}"),
            },
            effect: effect(&toleration["effect"]),
            seconds: toleration["tolerationSeconds"].as_i64(),
        });
        let (taints, tolerations): (Vec<Taint>, Vec<Toleration>) = (taints.collect(), tolerations.collect());
        let after = match stay(&taints, &tolerations) {
            Stay::Leaves => json!(0),
            Stay::For(span) => json!(span.as_secs()),
            Stay::Forever => Value::Null,
        };
        compare(case, &[("evictAfterSeconds", after)]);
    });
}
