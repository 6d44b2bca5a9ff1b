//! Rollouts and scale-downs: settled states of Deployments and their sets, and which pods went.

use std::collections::BTreeMap;

use serde_json::Value;

use super::case::Case;
use super::states::{compare, millis, recorded, settled};
use super::steps::replay;
use super::world::{Deletion, STEP_MS};

/// What is compared of a row.
const KEYS: [&str; 3] = ["rs", "deploy", "unscheduled"];

/// Replays a case and says where it differs.
pub(crate) fn differences(case: &Case) -> Vec<String> {
    let (rows, deletions) = replay(case).finish();
    let expected = settled(&recorded(&case.json["timeline"], &KEYS));
    let mut differences = compare(&expected, &settled(&rows), 0);
    // Where pods lie on nodes is drawn, so ranks by node can be told of cases alone that place their pods.
    if differences.is_empty() && case.kind == "scaledown" {
        differences = compare_deletions(case, &deletions);
    }
    differences
}

/// Which pods went in each step: the same, or others that were equal to them in all that counts.
fn compare_deletions(case: &Case, got: &[Deletion]) -> Vec<String> {
    let recorded: Vec<Deletion> = case.json["deletions"]
        .as_array()
        .expect("deletions")
        .iter()
        .map(|row| Deletion {
            at_ms: millis(&row["t"]),
            pod: row["pod"].as_u64().expect("an ordinal"),
            pods_on_node: row["pods_on_node"].as_u64().map(|count| usize::try_from(count).expect("few")),
        })
        .collect();
    let pods: BTreeMap<u64, &Value> = case.json["pods"]
        .as_array()
        .expect("pods")
        .iter()
        .map(|pod| (pod["pod"].as_u64().expect("an ordinal"), pod))
        .collect();
    // What the recording says of a pod decides whether it could have gone in another's place.
    let facts = |deletion: &Deletion| {
        let pod = pods[&deletion.pod];
        let facts = ["rs", "api_ready_transition", "api_created"].map(|key| pod[key].to_string()).join(" ");
        (facts, deletion.pods_on_node)
    };
    let steps = |deletions: &[Deletion]| {
        let mut steps: Vec<Vec<Deletion>> = Vec::new();
        for deletion in deletions {
            match steps.last_mut() {
                Some(step) if deletion.at_ms - step[0].at_ms < STEP_MS => step.push(deletion.clone()),
                _ => steps.push(vec![deletion.clone()]),
            }
        }
        for step in &mut steps {
            step.sort_by_key(|deletion| facts(deletion));
        }
        steps
    };
    let (wanted, found) = (steps(&recorded), steps(got));
    let told = |steps: &[Vec<Deletion>]| -> Vec<Vec<_>> {
        steps.iter().map(|step| step.iter().map(facts).collect()).collect()
    };
    if told(&wanted) == told(&found) {
        return Vec::new();
    }
    let ordinals = |steps: &[Vec<Deletion>]| -> Vec<Vec<u64>> {
        steps.iter().map(|step| step.iter().map(|deletion| deletion.pod).collect()).collect()
    };
    vec![format!("pods {:?} are deleted, not {:?}", ordinals(&found), ordinals(&wanted))]
}
