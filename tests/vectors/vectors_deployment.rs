//! Upstream's own tables for Deployments, ReplicaSets and the order of deletion: every case of every file.

use std::cmp::Ordering;
use std::fs;
use std::path::PathBuf;

use gatedrill::cluster::deployment::{
    DeploymentStatus, Fenceposts, PodPhase, Progress, ProgressReason, ReplicaSetView, Strategy, clean_up_unhealthy,
    excess_history, is_timed_out, next_new_size, next_progress, old_pods_run, recheck_after, reconcile_new,
    reconcile_old, scale_down_available, scale_in_proportion,
};
use gatedrill::cluster::int_or_percent::{IntOrPercent, Rounding};
use gatedrill::cluster::replica_set::{AgeScale, Candidate, choose_to_delete, deletion_order, slow_start};
use gatedrill::units::SimTime;
use serde_json::Value;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubernetes/vectors")
}

/// Runs `check` over all cases of a file, which must be as many as it says.
fn each(file: &str, check: impl Fn(&Value, &Value)) {
    let text = fs::read_to_string(folder().join(file)).expect("the file is there");
    let table: Value = serde_json::from_str(&text).expect("the file is JSON");
    let cases = table["cases"].as_array().expect("it has cases");
    assert_eq!(Some(cases.len() as u64), table["count"].as_u64(), "{file}");
    for case in cases {
        check(case, &table["constants"]);
    }
}

/// The integer under a key; absent counts as 0.
fn int(value: &Value, key: &str) -> i32 {
    value[key].as_i64().map_or(0, |number| i32::try_from(number).expect("a small number"))
}

fn int_or_percent(value: &Value) -> Result<IntOrPercent, String> {
    match value {
        Value::Null => Ok(IntOrPercent::Int(0)),
        Value::String(text) => IntOrPercent::parse_percent(text).map_err(|error| error.to_string()),
        number => Ok(IntOrPercent::Int(i32::try_from(number.as_i64().expect("a number")).expect("a small number"))),
    }
}

fn strategy(case: &Value) -> Strategy {
    if case["strategy"] == "Recreate" {
        return Strategy::Recreate;
    }
    let limit = |key: &str| int_or_percent(&case[key]).expect("a limit");
    Strategy::RollingUpdate { max_surge: limit("maxSurge"), max_unavailable: limit("maxUnavailable") }
}

fn set(replicas: i32, available: i32) -> ReplicaSetView {
    ReplicaSetView { replicas, available, ..ReplicaSetView::default() }
}

/// Compares the keys that are expected, and only those; each of them must be given.
#[track_caller]
fn compare(case: &Value, got: &[(&str, Value)]) {
    for (key, expected) in case["expected"].as_object().expect("an object is expected") {
        let (_, got) = got.iter().find(|(name, _)| name == key).unwrap_or_else(|| panic!("nobody computes {key}"));
        assert_eq!(got, expected, "{key} of {case}");
    }
}

#[test]
fn vectors_every_file_is_read() {
    let mut sources = String::new();
    let mut open = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")];
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            sources += &fs::read_to_string(path).unwrap();
        }
    }
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "README.md" || sources.contains(&format!("\"{name}\"")), "no test reads {name}");
    }
}

#[test]
fn vectors_intstr_scaled_value() {
    each("intstr_scaled_value.json", |case, _| {
        let rounding = if case["roundUp"] == true { Rounding::Up } else { Rounding::Down };
        let scaled = int_or_percent(&case["input"]).map(|limit| limit.scaled(int(case, "total"), rounding));
        assert_eq!(case["expected"].get("error").is_some(), scaled.is_err(), "{case}");
        if let Ok(value) = scaled {
            compare(case, &[("value", value.into())]);
        }
    });
}

#[test]
fn vectors_deploy_resolve_fenceposts() {
    each("deploy_resolve_fenceposts.json", |case, _| {
        let limits =
            int_or_percent(&case["maxSurge"]).and_then(|surge| Ok((surge, int_or_percent(&case["maxUnavailable"])?)));
        let has_error = case["expected"].get("error").is_some_and(|error| !error.is_null() && error != false);
        assert_eq!(has_error, limits.is_err(), "{case}");
        if let Ok((surge, unavailable)) = limits {
            let posts = Fenceposts::resolve(surge, unavailable, int(case, "desired"));
            compare(
                case,
                &[("surge", posts.surge.into()), ("unavailable", posts.unavailable.into()), ("error", Value::Null)],
            );
        }
    });
}

#[test]
fn vectors_deploy_max_unavailable() {
    each("deploy_max_unavailable.json", |case, _| {
        compare(case, &[("maxUnavailable", strategy(case).max_unavailable(int(case, "replicas")).into())]);
    });
}

#[test]
fn vectors_deploy_min_available() {
    each("deploy_min_available.json", |case, _| {
        compare(case, &[("minAvailable", strategy(case).min_available(int(case, "replicas")).into())]);
    });
}

#[test]
fn vectors_deploy_new_rs_new_replicas() {
    each("deploy_new_rs_new_replicas.json", |case, _| {
        let (desired, size) = (int(case, "deploymentReplicas"), int(case, "newRSReplicas"));
        let next = next_new_size(strategy(case), desired, size, int(case, "totalPodsInAllRS"));
        compare(case, &[("newRSReplicas", next.into())]);
    });
}

#[test]
fn vectors_deploy_reconcile_new_rs() {
    each("deploy_reconcile_new_rs.json", |case, _| {
        let (new, old) = (set(int(case, "newReplicas"), 0), [set(int(case, "oldReplicas"), 0)]);
        let next = reconcile_new(strategy(case), int(case, "deploymentReplicas"), &new, &old);
        compare(case, &[("newReplicas", next.into()), ("scaled", (next != new.replicas).into())]);
    });
}

#[test]
fn vectors_deploy_reconcile_old_rs() {
    each("deploy_reconcile_old_rs.json", |case, _| {
        let new = set(int(case, "newReplicas"), int(case, "availableNew"));
        let old = [set(int(case, "oldReplicas"), int(case, "availableOld"))];
        let next = reconcile_old(strategy(case), int(case, "deploymentReplicas"), &new, &old)[0];
        compare(case, &[("oldReplicas", next.into()), ("scaled", (next != old[0].replicas).into())]);
    });
}

#[test]
fn vectors_deploy_cleanup_unhealthy() {
    each("deploy_cleanup_unhealthy.json", |case, _| {
        let old = [set(int(case, "oldReplicas"), int(case, "availableOld"))];
        let mut sizes = [old[0].replicas];
        let count = clean_up_unhealthy(&old, &mut sizes, int(case, "maxCleanupCount")).expect("a report that fits");
        compare(case, &[("cleanupCount", count.into()), ("oldReplicas", sizes[0].into())]);
    });
}

#[test]
fn vectors_deploy_scale_down_old() {
    each("deploy_scale_down_old.json", |case, _| {
        let (old, available) = ([set(int(case, "oldReplicas"), 0)], int(case, "availableOld"));
        let mut sizes = [old[0].replicas];
        let min_available = strategy(case).min_available(int(case, "deploymentReplicas"));
        let count = scale_down_available(&old, &mut sizes, available, min_available);
        compare(case, &[("scaled", (count > 0).into()), ("oldReplicas", sizes[0].into())]);
    });
}

#[test]
fn vectors_deploy_proportional_scale() {
    each("deploy_proportional_scale.json", |case, _| {
        let view = |value: &Value| ReplicaSetView {
            replicas: int(value, "replicas"),
            available: int(value, "availableReplicas"),
            created: value["createdAt"].as_i64().unwrap_or(0),
            desired_annotation: value["annotatedDesiredReplicas"].as_i64().map(|number| i32::try_from(number).unwrap()),
            max_annotation: value["annotatedMaxReplicas"].as_i64().map(|number| i32::try_from(number).unwrap()),
            ..ReplicaSetView::default()
        };
        let old_cases = case["oldRSs"].as_array().expect("a list");
        let old: Vec<_> = old_cases.iter().map(view).collect();
        let new = (!case["newRS"].is_null()).then(|| view(&case["newRS"]));
        let deployment = &case["deployment"];
        let status = old.iter().chain(&new).map(|set| set.replicas).sum();
        let (new_size, old_sizes) =
            scale_in_proportion(strategy(deployment), int(deployment, "replicas"), status, new.as_ref(), &old);
        // Upstream's test throws the writes to these away.
        let is_ignored =
            |set: &Value| case["ignoreUpdatesFor"].as_array().is_some_and(|names| names.contains(&set["name"]));
        let kept = |set: &Value, size: i32| if is_ignored(set) { int(set, "replicas") } else { size };
        let sizes = old_cases.iter().zip(&old_sizes);
        let sizes =
            sizes.map(|(set, size)| (set["name"].as_str().expect("a name").to_owned(), kept(set, *size).into()));
        let new_size = new_size.map_or(Value::Null, |size| kept(&case["newRS"], size).into());
        compare(case, &[("newRS", new_size), ("oldRSs", Value::Object(sizes.collect()))]);
    });
}

fn phase(text: &str) -> PodPhase {
    match text {
        "Pending" => PodPhase::Pending,
        "Unknown" => PodPhase::Unknown,
        "Running" | "Unset" => PodPhase::Running,
        "Succeeded" => PodPhase::Succeeded,
        "Failed" => PodPhase::Failed,
        other => panic!("{other} is no phase"),
    }
}

fn views(list: &Value) -> Vec<ReplicaSetView> {
    let view = |value: &Value| ReplicaSetView {
        replicas: int(value, "specReplicas"),
        status_replicas: int(value, "statusReplicas"),
        available: int(value, "available"),
        created: value["createdAt"].as_i64().unwrap_or(0),
        revision: value["revision"].as_str().map(|text| text.parse().expect("a number")),
        is_deleting: value["deleting"] == true,
        ..ReplicaSetView::default()
    };
    list.as_array().map(|list| list.iter().map(view).collect()).unwrap_or_default()
}

#[test]
fn vectors_deploy_recreate_old_pods() {
    each("deploy_recreate_old_pods.json", |case, _| {
        let pods = case["podPhasesByReplicaSet"].as_object().expect("pods by owner").iter();
        let others = pods.filter(|(owner, _)| case["newRS"]["uid"] != **owner);
        let phases = others.flat_map(|(_, list)| list.as_array().expect("a list"));
        let phases = phases.map(|text| phase(text.as_str().expect("a phase")));
        compare(case, &[("oldPodsRunning", old_pods_run(&views(&case["oldRSs"]), phases).into())]);
    });
}

#[test]
fn vectors_deploy_cleanup_history() {
    each("deploy_cleanup_history.json", |case, _| {
        let excess = excess_history(&views(&case["oldRSs"]), int(case, "revisionHistoryLimit"));
        let mut names: Vec<Value> = excess.iter().map(|index| case["oldRSs"][*index]["name"].clone()).collect();
        let count = names.len();
        names.sort_by_key(ToString::to_string);
        let mut case = case.clone();
        if let Some(expected) = case["expected"].get_mut("deleted").and_then(Value::as_array_mut) {
            expected.sort_by_key(ToString::to_string);
        }
        compare(&case, &[("deletions", count.into()), ("deleted", names.into())]);
    });
}

fn status(value: &Value) -> DeploymentStatus {
    DeploymentStatus {
        replicas: int(value, "replicas"),
        updated: int(value, "updated"),
        ready: int(value, "ready"),
        available: int(value, "available"),
    }
}

fn reason(text: &str) -> ProgressReason {
    match text {
        "NewReplicaSetAvailable" => ProgressReason::NewReplicaSetAvailable,
        "ReplicaSetUpdated" => ProgressReason::ReplicaSetUpdated,
        "ProgressDeadlineExceeded" => ProgressReason::ProgressDeadlineExceeded,
        _ => ProgressReason::Other,
    }
}

fn seconds(value: &Value) -> SimTime {
    let nanos = value.as_f64().unwrap_or(0.0) * 1e9;
    SimTime::from_nanos(format!("{nanos:.0}").parse().expect("whole nanoseconds"))
}

fn deadline(case: &Value) -> Option<u32> {
    case["progressDeadlineSeconds"].as_u64().map(|seconds| u32::try_from(seconds).expect("a deadline"))
}

fn progressing(conditions: &Value) -> Option<Progress> {
    let conditions = conditions.as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == "Progressing")?;
    Some(Progress { reason: reason(found["reason"].as_str()?), updated_at: seconds(&found["lastUpdateTime"]) })
}

#[test]
fn vectors_deploy_complete() {
    each("deploy_complete.json", |case, _| {
        let status = DeploymentStatus { replicas: int(case, "statusReplicas"), ..status(case) };
        compare(case, &[("complete", status.is_complete(int(case, "desired")).into())]);
    });
}

#[test]
fn vectors_deploy_progressing() {
    each("deploy_progressing.json", |case, _| {
        let is_progress = status(&case["newStatus"]).is_progress_from(&status(&case["oldStatus"]));
        compare(case, &[("progressing", is_progress.into())]);
    });
}

#[test]
fn vectors_deploy_timed_out() {
    each("deploy_timed_out.json", |case, _| {
        let text = case["conditionReason"].as_str().expect("a reason");
        let progress = Progress { reason: reason(text), updated_at: seconds(&case["lastUpdateTime"]) };
        compare(case, &[("timedOut", is_timed_out(Some(progress), deadline(case), seconds(&case["now"])).into())]);
    });
}

#[test]
fn vectors_deploy_rollout_status() {
    each("deploy_rollout_status.json", |case, _| {
        let new = views(&Value::Array(case["newRS"].is_object().then(|| case["newRS"].clone()).into_iter().collect()));
        let after = DeploymentStatus::of(new.first(), &views(&case["oldRSs"]));
        let before = status(&case["oldStatus"]);
        let (now, desired) = (seconds(&case["now"]), int(case, "specReplicas"));
        let progress = next_progress(progressing(&case["conditions"]), deadline(case), desired, &before, &after, now);
        let got = progress.map_or(Value::Null, |progress| {
            let holds = progress.reason != ProgressReason::ProgressDeadlineExceeded;
            serde_json::json!({ "status": if holds { "True" } else { "False" }, "reason": format!("{:?}", progress.reason) })
        });
        compare(case, &[("progressingCondition", got)]);
    });
}

#[test]
fn vectors_deploy_requeue_stuck() {
    each("deploy_requeue_stuck.json", |case, _| {
        let (after, desired) = (status(&case["newStatus"]), int(case, "specReplicas"));
        let progress = progressing(&case["conditions"]);
        let wait = recheck_after(progress, deadline(case), desired, &after, seconds(&case["now"]));
        assert_eq!(wait.map(|wait| wait.as_secs_f64()), case["expected"]["requeueAfterSeconds"].as_f64(), "{case}");
    });
}

#[test]
fn vectors_rs_slow_start_batch() {
    each("rs_slow_start_batch.json", |case, _| {
        let number = |key: &str| usize::try_from(int(case, key)).expect("a count");
        let mut calls = 0;
        let limit = number("callsThatSucceed");
        let (successes, failed) = slow_start(number("count"), number("initialBatchSize"), |_| {
            calls += 1;
            calls <= limit
        });
        compare(case, &[("successes", successes.into()), ("calls", calls.into()), ("failed", failed.into())]);
    });
}

fn candidate(pod: &Value, rank: usize, constants: &Value) -> Candidate {
    let time = |key: &str| (!pod[key].is_null()).then(|| seconds(&pod[key]));
    let cost_is_off = constants["podDeletionCostDisabled"] == true || pod["podDeletionCostDisabled"] == true;
    Candidate {
        is_assigned: pod["node"].as_str().is_some_and(|node| !node.is_empty()),
        phase: phase(pod["phase"].as_str().expect("a phase")),
        is_ready: pod["ready"] == true,
        deletion_cost: if cost_is_off { 0 } else { int(pod, "deletionCost") },
        rank,
        ready_since: time("readySince"),
        restarts: u32::try_from(int(pod, "maxRestarts")).expect("a count"),
        created_at: time("createdAt"),
        uid: pod["uid"].as_str().unwrap_or_default().to_owned(),
    }
}

#[test]
fn vectors_rs_pods_to_delete() {
    each("rs_pods_to_delete.json", |case, constants| {
        let list = |key: &str| case[key].as_array().expect("a list").clone();
        let related = list("relatedPods");
        let pods = list("pods");
        let candidates: Vec<Candidate> = pods
            .iter()
            .map(|pod| candidate(pod, related.iter().filter(|other| other["node"] == pod["node"]).count(), constants))
            .collect();
        let count = usize::try_from(int(case, "deleteCount")).expect("a count");
        let chosen = choose_to_delete(&candidates, count, AgeScale::Logarithmic, SimTime::MAX);
        let names: Vec<Value> = chosen.iter().map(|index| pods[*index]["name"].clone()).collect();
        compare(case, &[("deleted", names.into())]);
    });
}

fn scale(constants: &Value) -> AgeScale {
    if constants["logarithmicScaleDown"] == true { AgeScale::Logarithmic } else { AgeScale::Exact }
}

fn rank(value: &Value) -> usize {
    usize::try_from(value.as_u64().unwrap_or(0)).expect("a count")
}

#[test]
fn vectors_pod_deletion_order() {
    each("pod_deletion_order.json", |case, constants| {
        let pods = case["pods"].as_array().expect("pods");
        let candidates: Vec<_> = pods.iter().map(|pod| candidate(pod, rank(&pod["rank"]), constants)).collect();
        let mut order: Vec<usize> = (0..pods.len()).rev().collect();
        order.sort_by(|a, b| {
            deletion_order(&candidates[*a], &candidates[*b], scale(constants), seconds(&constants["now"]))
        });
        let names: Vec<Value> = order.iter().map(|index| pods[*index]["name"].clone()).collect();
        assert_eq!(Value::from(names), case["expectedOrder"]);
    });
}

#[test]
fn vectors_pod_deletion_rank_pairs() {
    each("pod_deletion_rank_pairs.json", |case, constants| {
        let (a_pod, b_pod) = (&case["a"], &case["b"]);
        let mut constants = constants.clone();
        if case["podDeletionCostDisabled"] == true {
            constants["podDeletionCostDisabled"] = true.into();
        }
        let a = candidate(a_pod, rank(&case["rankA"]), &constants);
        let b = candidate(b_pod, rank(&case["rankB"]), &constants);
        let expected = match case["expected"].as_str().expect("a relation") {
            "a_first" => Ordering::Less,
            "equal" => Ordering::Equal,
            other => panic!("{other} is no relation"),
        };
        let now = seconds(&constants["now"]);
        assert_eq!(deletion_order(&a, &b, scale(&constants), now), expected, "{case}");
        assert_eq!(deletion_order(&b, &a, scale(&constants), now), expected.reverse(), "{case}");
    });
}
