//! Evictions: the API server's answers, and the status of budgets beside that of Deployments and sets.

use serde_json::{Value, json};

use super::case::Case;
use super::states::{Row, compare, millis, recorded, settled};
use super::steps::replay;

/// What is compared of a row.
const KEYS: [&str; 4] = ["rs", "deploy", "unscheduled", "pdb"];
/// How far the time of an answer may be off, in milliseconds: what the requests before it took.
const ANSWER_TOLERANCE_MS: i64 = 50;
/// A budget's status follows what changed it within this, in milliseconds.
const STATUS_TOLERANCE_MS: i64 = 100;

/// One request for an eviction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    /// Milliseconds since the trigger.
    pub(crate) at_ms: i64,
    /// The HTTP status of the answer.
    pub(crate) code: u16,
}

/// Replays a case and says where it differs.
pub(crate) fn differences(case: &Case) -> Vec<String> {
    let world = replay(case);
    let asked = world.asked.clone();
    let (rows, _) = world.finish();
    let wanted: Vec<Asked> = case.json["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter(|event| event["type"] == "eviction")
        .map(|event| Asked {
            at_ms: millis(&event["t"]),
            code: event["code"].as_u64().and_then(|code| u16::try_from(code).ok()).expect("a status"),
        })
        .collect();
    assert!(!wanted.is_empty(), "{}: nothing is evicted", case.name);
    let mut differences = Vec::new();
    let is_alike =
        |(one, two): (&Asked, &Asked)| one.code == two.code && (one.at_ms - two.at_ms).abs() <= ANSWER_TOLERANCE_MS;
    if wanted.len() != asked.len() || !wanted.iter().zip(&asked).all(is_alike) {
        differences.push(format!("the answers are {asked:?}, not {wanted:?}"));
    }
    differences.extend(late_statuses(&rows));
    let expected = settled(&recorded(&case.json["timeline"], &KEYS));
    differences.extend(compare(&expected, &settled(&rows), 0));
    differences
}

/// Changes of a budget's status with no change of anything else shortly before, or with them.
fn late_statuses(rows: &[Row]) -> Vec<String> {
    let without = |row: &Row| {
        let mut shown = row.shown.clone();
        shown["pdb"] = Value::Null;
        shown
    };
    let used = |row: &Row| {
        let budgets = row.shown["pdb"].as_object().cloned().unwrap_or_default();
        budgets.values().map(|budget| budget["disrupted"].as_i64().unwrap_or(0)).sum::<i64>()
    };
    let mut late = Vec::new();
    let mut changed_ms = None;
    for pair in rows.windows(2) {
        let [before, row] = pair else { continue };
        // An eviction changes the status by itself.
        if without(before) != without(row) || used(row) > used(before) {
            changed_ms = Some(row.at_ms);
        }
        let is_changed = before.shown["pdb"] != row.shown["pdb"];
        if is_changed && changed_ms.is_none_or(|at| row.at_ms - at > STATUS_TOLERANCE_MS) {
            late.push(format!("the budget's status changes at {} ms, when nothing else has", row.at_ms));
        }
    }
    late
}

#[test]
fn a_status_that_changes_by_itself_or_late_is_told() {
    let row = |at_ms: i64, ready: i64, allowed: i64| Row {
        at_ms,
        shown: json!({ "rs": ready, "pdb": { "web": { "allowed": allowed, "disrupted": 0 } } }),
    };
    assert!(late_statuses(&[row(0, 3, 1), row(1000, 2, 1), row(1100, 2, 0)]).is_empty());
    assert_eq!(late_statuses(&[row(0, 3, 1), row(1000, 2, 1), row(1101, 2, 0)]).len(), 1);
    assert_eq!(late_statuses(&[row(0, 3, 1), row(1000, 3, 0)]).len(), 1);
}
